/* SPDX-License-Identifier: MIT */
#include "engines/lsm/version.h"

#include <stdlib.h>

#include "proto/assert.h"

struct version *version_new(void)
{
    struct version *version = calloc(1, sizeof *version);
    if (version != NULL)
        atomic_init(&version->references, 1);
    return version;
}

void version_ref(struct version *version)
{
    atomic_fetch_add_explicit(&version->references, 1, memory_order_relaxed);
}

static void drop_fini(struct dropped_range *drop)
{
    free((void *)(uintptr_t)drop->from.data);
    free((void *)(uintptr_t)drop->to.data);
}

void version_unref(struct version *version)
{
    if (version == NULL || atomic_fetch_sub(&version->references, 1) != 1)
        return;
    for (unsigned i = 0; i < LEVELS; i++) {
        for (size_t j = 0; j < version->levels[i].count; j++)
            table_unref(version->levels[i].tables[j]);
        free(version->levels[i].tables);
    }
    for (size_t i = 0; i < version->drop_count; i++)
        drop_fini(&version->drops[i]);
    free(version->drops);
    free(version);
}

static void level_push(struct level *level, struct table *table)
{
    table_ref(table);
    level->tables[level->count++] = table;
    level->bytes += table->facts.bytes;
}

static bool is_removed(const struct version_edit *edit,
                       const struct table *table)
{
    for (size_t i = 0; i < edit->removed_count; i++) {
        if (edit->removed[i] == table)
            return true;
    }
    return false;
}

/* Where level 0 takes what is added: at the first that is removed, or in
 * front. */
static size_t level0_place(const struct level *level,
                           const struct version_edit *edit)
{
    for (size_t i = 0; i < level->count; i++) {
        if (is_removed(edit, level->tables[i]))
            return i;
    }
    return 0;
}

/* Fill `to` with what is left of `from` and the added tables, in order. */
static enum status level_apply(struct level *to, const struct level *from,
                               const struct version_edit *edit, unsigned number)
{
    size_t added = number == edit->added_level ? edit->added_count : 0;
    to->tables = calloc(from->count + added + 1, sizeof(struct table *));
    if (to->tables == NULL)
        return STATUS_NO_MEMORY;
    size_t next = 0; /* of the added */
    size_t place = number == 0 ? level0_place(from, edit) : 0;
    for (size_t i = 0; i < from->count; i++) {
        struct table *table = from->tables[i];
        while (next < added &&
               (number == 0 ? i == place
                            : bytes_compare(edit->added[next]->largest,
                                            table->smallest) < 0))
            level_push(to, edit->added[next++]);
        if (!is_removed(edit, table))
            level_push(to, table);
    }
    while (next < added)
        level_push(to, edit->added[next++]);
    return STATUS_OK;
}

static enum status copy_bytes(struct bytes from, struct bytes *to)
{
    uint8_t *data = malloc(from.size + 1);
    if (data == NULL)
        return STATUS_NO_MEMORY;
    if (from.size > 0)
        memcpy(data, from.data, from.size);
    *to = bytes_of(data, from.size);
    return STATUS_OK;
}

enum status version_push_drop(struct version *version,
                              const struct dropped_range *drop)
{
    struct dropped_range copy = {.sequence = drop->sequence};
    enum status status = copy_bytes(drop->from, &copy.from);
    if (status == STATUS_OK)
        status = copy_bytes(drop->to, &copy.to);
    if (status != STATUS_OK) {
        drop_fini(&copy);
        return status;
    }
    version->drops[version->drop_count++] = copy;
    return STATUS_OK;
}

bool version_needs(const struct table *table, const struct dropped_range *drop)
{
    return table->drops_applied < drop->sequence &&
           bytes_compare(table->largest, drop->from) >= 0 &&
           (drop->to.size == 0 || bytes_compare(table->smallest, drop->to) < 0);
}

/* Whether a table may still hold what the range hides. */
static bool is_needed(const struct version *version,
                      const struct dropped_range *drop)
{
    for (unsigned i = 0; i < LEVELS; i++) {
        for (size_t j = 0; j < version->levels[i].count; j++) {
            if (version_needs(version->levels[i].tables[j], drop))
                return true;
        }
    }
    return false;
}

/* Whether a newer drop hides all that an older one does. */
static bool covers(const struct dropped_range *newer,
                   const struct dropped_range *older)
{
    return newer != NULL && bytes_compare(newer->from, older->from) <= 0 &&
           (newer->to.size == 0 ||
            (older->to.size > 0 && bytes_compare(older->to, newer->to) <= 0));
}

static enum status apply_drops(struct version *next,
                               const struct version *version,
                               const struct version_edit *edit,
                               uint64_t flushed_sequence)
{
    next->drops = calloc(version->drop_count + 1, sizeof *next->drops);
    enum status status = next->drops == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < version->drop_count; i++) {
        const struct dropped_range *drop = &version->drops[i];
        if (!covers(edit->drop, drop) &&
            (drop->sequence > flushed_sequence || is_needed(next, drop)))
            status = version_push_drop(next, drop);
    }
    if (status == STATUS_OK && edit->drop != NULL)
        status = version_push_drop(next, edit->drop);
    return status;
}

struct version *version_apply(const struct version *version,
                              const struct version_edit *edit,
                              uint64_t flushed_sequence)
{
    struct version *next = version_new();
    enum status status = next == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (unsigned i = 0; status == STATUS_OK && i < LEVELS; i++)
        status = level_apply(&next->levels[i], &version->levels[i], edit, i);
    if (status == STATUS_OK)
        status = apply_drops(next, version, edit, flushed_sequence);
    if (status != STATUS_OK) {
        version_unref(next);
        return NULL;
    }
    return next;
}

bool version_in_order(const struct version *version)
{
    for (unsigned i = 1; i < LEVELS; i++) {
        const struct level *level = &version->levels[i];
        for (size_t j = 1; j < level->count; j++) {
            if (bytes_compare(level->tables[j - 1]->largest,
                              level->tables[j]->smallest) >= 0)
                return false;
        }
    }
    return true;
}

size_t version_seek(struct table *const *tables, size_t count, struct bytes key,
                    enum engine_order order)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct bytes bound = order == ENGINE_FORWARD ? tables[middle]->largest
                                                     : tables[middle]->smallest;
        if (bytes_compare(bound, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void version_overlap(const struct level *level, struct bytes smallest,
                     struct bytes largest, size_t *first, size_t *count)
{
    size_t at =
        version_seek(level->tables, level->count, smallest, ENGINE_FORWARD);
    *first = at;
    while (at < level->count &&
           bytes_compare(level->tables[at]->smallest, largest) <= 0)
        at++;
    *count = at - *first;
}

struct table *version_find(const struct level *level, struct bytes key)
{
    size_t at = version_seek(level->tables, level->count, key, ENGINE_FORWARD);
    if (at == level->count ||
        bytes_compare(level->tables[at]->smallest, key) > 0)
        return NULL;
    return level->tables[at];
}

bool version_hides(const struct version *version, struct bytes key,
                   uint64_t sequence)
{
    for (size_t i = 0; i < version->drop_count; i++) {
        const struct dropped_range *drop = &version->drops[i];
        if (sequence < drop->sequence && drop_has(drop, key))
            return true;
    }
    return false;
}

uint64_t version_last_drop(const struct version *version)
{
    return version->drop_count == 0
               ? 0
               : version->drops[version->drop_count - 1].sequence;
}

struct view *view_new(struct memtable *const *memtables, size_t count,
                      struct version *version)
{
    ASSERT(count <= MEMTABLES_MAX);
    struct view *view = calloc(1, sizeof *view);
    if (view == NULL)
        return NULL;
    atomic_init(&view->references, 1);
    view->memtable_count = count;
    for (size_t i = 0; i < count; i++) {
        view->memtables[i] = memtables[i];
        memtable_ref(memtables[i]);
    }
    view->version = version;
    version_ref(version);
    return view;
}

void view_ref(struct view *view)
{
    atomic_fetch_add_explicit(&view->references, 1, memory_order_relaxed);
}

void view_unref(struct view *view)
{
    if (view == NULL || atomic_fetch_sub(&view->references, 1) != 1)
        return;
    for (size_t i = 0; i < view->memtable_count; i++)
        memtable_unref(view->memtables[i]);
    version_unref(view->version);
    free(view);
}
