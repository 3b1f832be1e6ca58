/* SPDX-License-Identifier: MIT */
#include "tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engines/lsm/lsm.h"
#include "proto/assert.h"

/* Most writes are two calls, a flush some ten, and one with a compaction some
 * dozens. What is rare and decides, like a rename, is drawn by its kind. */
enum { CALLS_FEW = 3, CALLS_OF_A_KIND = 6, CALLS_MANY = 60 };

static const enum memory_call kinds[] = {
    MEMORY_CREATE, MEMORY_WRITE,  MEMORY_SYNC,           MEMORY_TRUNCATE,
    MEMORY_RENAME, MEMORY_REMOVE, MEMORY_SYNC_DIRECTORY,
};

static struct tree_moment draw_moment(struct tree *tree)
{
    struct tree_moment moment = {.kinds = ~0u};
    int64_t most = random_chance(&tree->random, 500) ? CALLS_FEW : CALLS_MANY;
    if (random_chance(&tree->random, 600)) {
        size_t drawn =
            random_below(&tree->random, sizeof kinds / sizeof kinds[0]);
        moment.kinds = 1u << kinds[drawn];
        most = CALLS_OF_A_KIND;
    }
    moment.calls = (uint64_t)random_range(&tree->random, 1, most);
    return moment;
}

static bool is_now(struct tree_moment *moment, enum memory_call call)
{
    return moment->calls > 0 && (moment->kinds >> call & 1) != 0 &&
           --moment->calls == 0;
}

/* Half of it torn, from which most can go wrong. */
static enum memory_survival draw_survival(struct tree *tree)
{
    if (random_chance(&tree->random, 500))
        return MEMORY_TORN;
    return (enum memory_survival)random_below(&tree->random, MEMORY_TORN);
}

static struct memory_disk *draw_what_is_left(struct tree *tree)
{
    struct memory_crash crash = {
        .bytes = draw_survival(tree),
        .names = draw_survival(tree),
        .seed = random_next(&tree->random),
    };
    return memory_disk_after(tree->memory, &crash);
}

static void fail_now(struct tree *tree)
{
    struct memory_fault fault = {
        .call = memory_disk_counts(tree->memory).calls + 1,
        .lasting = tree->is_killed || random_chance(&tree->random, 500),
        .status =
            random_chance(&tree->random, 500) ? STATUS_IO : STATUS_NO_SPACE,
        .seed = random_next(&tree->random),
    };
    memory_disk_fail(tree->memory, &fault);
}

static void before_call(void *context, enum memory_call call, const char *name)
{
    struct tree *tree = context;
    if (call == MEMORY_CREATE && strstr(name, ".table") != NULL)
        tree->tables++;
    if (is_now(&tree->cut, call))
        tree->left = draw_what_is_left(tree);
    if (is_now(&tree->fault, call))
        fail_now(tree);
}

static void use_disk(struct tree *tree, struct memory_disk *memory)
{
    memory_disk_free(tree->memory);
    tree->memory = memory;
    tree->may_fail = false;
    memory_disk_watch(memory, before_call, tree);
}

struct tree *tree_new(uint64_t seed)
{
    struct tree *tree = calloc(1, sizeof *tree);
    ASSERT(tree != NULL);
    tree->random = (struct randomness){seed};
    use_disk(tree, memory_disk_new());
    return tree;
}

void tree_free(struct tree *tree)
{
    if (tree == NULL)
        return;
    tree_close(tree);
    memory_disk_free(tree->left);
    memory_disk_free(tree->memory);
    free(tree);
}

enum status tree_open(struct tree *tree, struct error *error)
{
    ASSERT(tree->engine == NULL);
    /* The smallest there are. What was written under others stays readable. */
    struct engine_setting settings[] = {
        {"memtable_bytes", 4096},
        {"table_bytes", 4096},
        {"level1_bytes", 4096},
        {"cache_bytes", random_below(&tree->random, 3) * 8192},
        {"compression", random_below(&tree->random, 3)},
        {"compression_last", random_below(&tree->random, 3)},
    };
    struct engine_options options = {
        .directory = MEMORY_DISK_PATH,
        .settings = settings,
        .setting_count = sizeof settings / sizeof settings[0],
    };
    return lsm_open_on(&options, memory_disk_at(tree->memory, MEMORY_DISK_PATH),
                       false, &tree->engine, error);
}

void tree_close(struct tree *tree)
{
    engine_close(tree->engine);
    tree->engine = NULL;
}

void tree_wipe(struct tree *tree)
{
    ASSERT(tree->engine == NULL);
    tree->is_damaged = false;
    use_disk(tree, memory_disk_new());
}

static struct memory_disk *copy_of(struct memory_disk *memory)
{
    struct memory_crash none = {.bytes = MEMORY_EVERYTHING,
                                .names = MEMORY_EVERYTHING};
    return memory_disk_after(memory, &none);
}

struct memory_disk *tree_copy(struct tree *tree)
{
    return copy_of(tree->memory);
}

void tree_put_back(struct tree *tree, struct memory_disk *copy)
{
    ASSERT(tree->engine == NULL);
    tree->is_damaged = false; /* none is copied that is */
    use_disk(tree, copy_of(copy));
}

enum status tree_write(struct tree *tree, const struct disk_changes *changes,
                       bool sync)
{
    if (tree->engine == NULL)
        return STATUS_BROKEN;
    struct batch_operation *operations =
        calloc(changes->count + 1, sizeof *operations);
    ASSERT(operations != NULL);
    for (size_t i = 0; i < changes->count; i++) {
        const struct disk_change *change = &changes->list[i];
        operations[i] = (struct batch_operation){
            .key = buffer_bytes(&change->key),
            .value = buffer_bytes(&change->value),
            .remove = change->removed,
        };
    }
    struct batch batch = {operations, changes->count};
    enum status status = engine_write(tree->engine, &batch, sync);
    free(operations);
    return status;
}

enum status tree_delete_range(struct tree *tree,
                              const struct disk_changes *removals)
{
    ASSERT(removals->count > 0);
    struct buffer end = {0};
    struct bytes from = buffer_bytes(&removals->list[0].key);
    struct bytes last = buffer_bytes(&removals->list[removals->count - 1].key);
    enum status status = buffer_append(&end, last);
    if (status == STATUS_OK)
        status = buffer_append(&end, bytes_of("", 1));
    if (status == STATUS_OK)
        status = engine_delete_range(tree->engine, from, buffer_bytes(&end));
    buffer_fini(&end);
    return status;
}

/* Some 60 KiB live in the end, which is three levels. Many of them are more
 * than a memtable holds. */
enum {
    BALLAST_KEYS = 250,
    BALLAST_BYTES_MAX = 600,
    BALLAST_FEW = 4,
    BALLAST_MANY = 20,
};

static void draw_write(struct tree *tree, struct disk_changes *writes)
{
    uint8_t key[2] = {TREE_BALLAST,
                      (uint8_t)random_below(&tree->random, BALLAST_KEYS)};
    uint8_t value[BALLAST_BYTES_MAX];
    size_t size = 1 + random_below(&tree->random, sizeof value);
    for (size_t i = 0; i < size; i++)
        value[i] = (uint8_t)random_next(&tree->random);
    disk_changes_add(writes, bytes_of(key, sizeof key), bytes_of(value, size),
                     random_chance(&tree->random, 200));
}

static void draw_range(struct tree *tree, struct disk_changes *removals)
{
    size_t first = random_below(&tree->random, BALLAST_KEYS);
    size_t behind = first + 1 + random_below(&tree->random, BALLAST_KEYS / 10);
    for (size_t i = first; i < behind && i < BALLAST_KEYS; i++) {
        uint8_t key[2] = {TREE_BALLAST, (uint8_t)i};
        disk_changes_add(removals, bytes_of(key, sizeof key), (struct bytes){0},
                         true);
    }
}

void tree_draw_ballast(struct tree *tree, uint32_t much_permille,
                       struct disk_changes *writes,
                       struct disk_changes *removals)
{
    bool much = random_chance(&tree->random, much_permille);
    size_t most = much ? BALLAST_MANY : BALLAST_FEW;
    for (size_t left = random_below(&tree->random, most + 1); left > 0; left--)
        draw_write(tree, writes);
    if (random_chance(&tree->random, 40))
        draw_range(tree, removals);
}

void tree_fail_soon(struct tree *tree)
{
    tree->fault = draw_moment(tree);
    tree->may_fail = true;
}

void tree_heal(struct tree *tree)
{
    tree->fault.calls = 0;
    memory_disk_fail(tree->memory, &(struct memory_fault){.call = 0});
}

void tree_cut_soon(struct tree *tree)
{
    ASSERT(tree->left == NULL);
    tree->cut = draw_moment(tree);
}

void tree_cut(struct tree *tree)
{
    if (tree->left == NULL)
        tree->left = draw_what_is_left(tree);
    tree->cut.calls = tree->fault.calls = 0;
    tree_close(tree);
    use_disk(tree, tree->left);
    tree->left = NULL;
}

void tree_kill_soon(struct tree *tree)
{
    tree->is_killed = true;
    tree_fail_soon(tree);
}

void tree_kill(struct tree *tree)
{
    tree_close(tree);
    tree_heal(tree);
    tree->is_killed = tree->may_fail = false;
}

/* --- what it holds --- */

enum status tree_has(struct tree *tree, struct bytes key, struct bytes value,
                     bool *same)
{
    struct buffer found = {0};
    enum status status = engine_get(tree->engine, key, &found);
    *same = status == (value.size > 0 ? STATUS_OK : STATUS_NOT_FOUND) &&
            bytes_equal(buffer_bytes(&found), value);
    buffer_fini(&found);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* Of a table that is so long the first half is blocks of entries. */
enum { FLIPPED_BYTES = 1024 };

/* The drawn one of so many. */
struct drawn_table {
    struct tree *tree;
    size_t seen;
    char name[64];
};

static enum status draw_table(void *context, const char *name)
{
    struct drawn_table *drawn = context;
    if (strstr(name, ".table") != NULL &&
        memory_disk_file_bytes(drawn->tree->memory, name) >= FLIPPED_BYTES &&
        random_below(&drawn->tree->random, ++drawn->seen) == 0)
        snprintf(drawn->name, sizeof drawn->name, "%s", name);
    return STATUS_OK;
}

bool tree_flip(struct tree *tree)
{
    struct drawn_table drawn = {.tree = tree};
    struct disk *disk = memory_disk_at(tree->memory, MEMORY_DISK_PATH);
    ASSERT(tree->engine == NULL);
    enum status status = disk->operations->list(disk, draw_table, &drawn);
    disk_free(disk);
    ASSERT(status == STATUS_OK);
    if (drawn.seen == 0)
        return false;
    uint64_t bytes = memory_disk_file_bytes(tree->memory, drawn.name);
    memory_disk_flip(tree->memory, drawn.name,
                     random_below(&tree->random, bytes / 2),
                     (uint8_t)(1u << random_below(&tree->random, 8)));
    tree->is_damaged = true;
    return true;
}

static bool is_entry(const struct disk_entry *entry, struct bytes key,
                     struct bytes value)
{
    return bytes_equal(buffer_bytes(&entry->key), key) &&
           bytes_equal(buffer_bytes(&entry->value), value);
}

enum status tree_has_range(struct tree *tree, struct bytes from,
                           struct bytes to, const struct disk_table *table,
                           size_t first, size_t count, bool *same)
{
    struct engine_iterator *iterator;
    struct bytes key, value;
    enum engine_order order =
        random_chance(&tree->random, 500) ? ENGINE_FORWARD : ENGINE_BACKWARD;
    size_t at = 0;
    enum status status =
        engine_iterate(tree->engine, from, to, order, &iterator);
    *same = status == STATUS_OK;
    for (; status == STATUS_OK && *same; at++) {
        status = engine_next(iterator, &key, &value);
        if (status != STATUS_OK)
            break;
        size_t place = order == ENGINE_FORWARD ? at : count - 1 - at;
        *same =
            at < count && is_entry(&table->entries[first + place], key, value);
    }
    *same = *same && at == count;
    engine_iterator_free(iterator);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status tree_shows_no_other(struct tree *tree, struct bytes from,
                                struct bytes to, const struct disk_table *table,
                                bool *same)
{
    struct engine_iterator *iterator;
    struct bytes key, value;
    enum status status =
        engine_iterate(tree->engine, from, to, ENGINE_FORWARD, &iterator);
    *same = status == STATUS_OK;
    while (*same && (status == STATUS_OK || status == STATUS_CORRUPT)) {
        status = engine_next(iterator, &key, &value);
        if (status != STATUS_OK)
            continue;
        const struct disk_entry *entry = disk_table_find(table, key);
        *same = entry != NULL && is_entry(entry, key, value);
    }
    engine_iterator_free(iterator);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status tree_has_all(struct tree *tree, const struct disk_table *table,
                         bool *same)
{
    return tree_has_range(tree, (struct bytes){0}, (struct bytes){0}, table, 0,
                          table->count, same);
}
