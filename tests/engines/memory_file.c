/* SPDX-License-Identifier: MIT */
#include "tests/engines/memory_file.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"

static void *grown(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity == 0 ? 8 : 2 * *capacity;
    array = realloc(array, *capacity * size);
    ASSERT(array != NULL);
    return array;
}

static void set_name(char name[MEMORY_NAME_MAX], const char *text)
{
    int size = snprintf(name, MEMORY_NAME_MAX, "%s", text);
    ASSERT(size < MEMORY_NAME_MAX);
}

static struct memory_content *content_new(struct bytes bytes)
{
    struct memory_content *content = calloc(1, sizeof *content);
    ASSERT(content != NULL);
    atomic_init(&content->references, 1);
    enum status status = buffer_append(&content->bytes, bytes);
    ASSERT(status == STATUS_OK);
    return content;
}

static struct memory_content *content_ref(struct memory_content *content)
{
    atomic_fetch_add(&content->references, 1);
    return content;
}

static void content_unref(struct memory_content *content)
{
    if (atomic_fetch_sub(&content->references, 1) > 1)
        return;
    buffer_fini(&content->bytes);
    free(content);
}

/* The bytes, to be changed: no longer shared. */
static struct buffer *own(struct memory_content **content)
{
    if (atomic_load(&(*content)->references) > 1) {
        struct memory_content *shared = *content;
        *content = content_new(buffer_bytes(&shared->bytes));
        content_unref(shared);
    }
    return &(*content)->bytes;
}

struct memory_inode *memory_inode_new(const char *name)
{
    struct memory_inode *inode = calloc(1, sizeof *inode);
    ASSERT(inode != NULL);
    inode->references = 1;
    set_name(inode->name, name);
    inode->durable = content_new((struct bytes){0});
    inode->now = content_ref(inode->durable);
    return inode;
}

struct memory_inode *memory_inode_ref(struct memory_inode *inode)
{
    inode->references++;
    return inode;
}

static void forget_changes(struct memory_inode *inode)
{
    for (size_t i = 0; i < inode->change_count; i++)
        free(inode->changes[i].data);
    inode->change_count = 0;
}

void memory_inode_unref(struct memory_inode *inode)
{
    if (inode == NULL || --inode->references > 0)
        return;
    forget_changes(inode);
    free(inode->changes);
    content_unref(inode->now);
    content_unref(inode->durable);
    free(inode);
}

/* Cut, or filled up with zeros. */
static void resize(struct buffer *content, size_t size)
{
    size_t old = content->size;
    if (size > old) {
        enum status status = buffer_reserve(content, size - old);
        ASSERT(status == STATUS_OK);
        memset(content->data + old, 0, size - old);
    }
    content->size = size;
}

static void put(struct buffer *content, uint64_t offset, struct bytes bytes)
{
    if (bytes.size == 0)
        return;
    if (content->size < offset + bytes.size)
        resize(content, offset + bytes.size);
    memcpy(content->data + offset, bytes.data, bytes.size);
}

static void apply(struct memory_content **shared,
                  const struct memory_change *change)
{
    struct buffer *content = own(shared);
    if (change->data == NULL)
        resize(content, change->offset);
    else
        put(content, change->offset, bytes_of(change->data, change->size));
}

static void apply_torn(struct memory_content **shared,
                       const struct memory_change *change, uint32_t permille,
                       struct randomness *random)
{
    struct buffer *content = own(shared);
    if (change->data == NULL) {
        if (random_chance(random, permille))
            resize(content, change->offset);
        return;
    }
    for (size_t at = 0, size; at < change->size; at += size) {
        uint64_t offset = change->offset + at;
        size = MEMORY_SECTOR_BYTES - offset % MEMORY_SECTOR_BYTES;
        if (size > change->size - at)
            size = change->size - at;
        if (random_chance(random, permille))
            put(content, offset, bytes_of(change->data + at, size));
    }
}

static struct memory_change *new_change(struct memory_inode *inode,
                                        uint64_t offset)
{
    inode->changes = grown(inode->changes, inode->change_count,
                           &inode->change_capacity, sizeof *inode->changes);
    struct memory_change *change = &inode->changes[inode->change_count++];
    *change = (struct memory_change){.offset = offset};
    return change;
}

void memory_inode_write(struct memory_inode *inode, uint64_t offset,
                        struct bytes bytes)
{
    if (bytes.size == 0)
        return;
    struct memory_change *change = new_change(inode, offset);
    change->size = bytes.size;
    change->data = malloc(bytes.size);
    ASSERT(change->data != NULL);
    memcpy(change->data, bytes.data, bytes.size);
    apply(&inode->now, change);
}

void memory_inode_truncate(struct memory_inode *inode, uint64_t size)
{
    apply(&inode->now, new_change(inode, size));
}

void memory_inode_flip(struct memory_inode *inode, uint64_t offset,
                       uint8_t mask)
{
    own(&inode->now)->data[offset] ^= mask;
    if (offset < inode->durable->bytes.size)
        own(&inode->durable)->data[offset] ^= mask;
}

void memory_inode_sync(struct memory_inode *inode)
{
    for (size_t i = 0; i < inode->change_count; i++)
        apply(&inode->durable, &inode->changes[i]);
    forget_changes(inode);
}

/* How much survives is drawn as well, or all crashes would look alike. */
static uint32_t draw_permille(struct randomness *random)
{
    return (uint32_t)random_below(random, 1001);
}

void memory_inode_fail_sync(struct memory_inode *inode,
                            struct randomness *random)
{
    uint32_t permille = draw_permille(random);
    for (size_t i = 0; i < inode->change_count; i++)
        apply_torn(&inode->durable, &inode->changes[i], permille, random);
    forget_changes(inode);
}

struct memory_inode *memory_inode_after(const struct memory_inode *inode,
                                        enum memory_survival survival,
                                        struct randomness *random)
{
    struct memory_inode *left = memory_inode_new(inode->name);
    struct memory_content *content = content_ref(inode->durable);
    uint32_t permille = draw_permille(random);
    for (size_t i = 0; i < inode->change_count; i++) {
        const struct memory_change *change = &inode->changes[i];
        if (survival == MEMORY_EVERYTHING ||
            (survival == MEMORY_SOME && random_chance(random, permille)))
            apply(&content, change);
        else if (survival == MEMORY_TORN)
            apply_torn(&content, change, permille, random);
    }
    size_t size = inode->now->bytes.size;
    if (survival == MEMORY_TORN && content->bytes.size < size &&
        random_chance(random, 250))
        resize(own(&content), size);
    content_unref(left->now);
    content_unref(left->durable);
    left->durable = content;
    left->now = content_ref(content);
    return left;
}

static size_t find(const struct memory_names *names, const char *name)
{
    size_t i = 0;
    while (i < names->count && strcmp(names->all[i].name, name) != 0)
        i++;
    return i;
}

static void drop(struct memory_names *names, size_t i)
{
    memory_inode_unref(names->all[i].inode);
    names->count--;
    memmove(&names->all[i], &names->all[i + 1],
            (names->count - i) * sizeof *names->all);
}

static void set(struct memory_names *names, const char *name,
                struct memory_inode *inode)
{
    size_t i = find(names, name);
    memory_inode_ref(inode);
    if (i < names->count) {
        memory_inode_unref(names->all[i].inode);
    } else {
        names->all = realloc(names->all, ++names->count * sizeof *names->all);
        ASSERT(names->all != NULL);
        set_name(names->all[i].name, name);
    }
    names->all[i].inode = inode;
}

static void apply_name(struct memory_names *names,
                       const struct memory_name_change *change)
{
    if (change->to[0] != '\0')
        set(names, change->to, change->inode);
    size_t from = find(names, change->from);
    if (from < names->count && names->all[from].inode == change->inode)
        drop(names, from);
}

static void names_fini(struct memory_names *names)
{
    while (names->count > 0)
        drop(names, names->count - 1);
    free(names->all);
}

static void forget_name_changes(struct memory_directory *directory,
                                size_t count)
{
    for (size_t i = 0; i < count; i++)
        memory_inode_unref(directory->changes[i].inode);
    directory->change_count -= count;
    if (directory->change_count > 0)
        memmove(directory->changes, directory->changes + count,
                directory->change_count * sizeof *directory->changes);
}

struct memory_directory *memory_directory_new(const char *path)
{
    struct memory_directory *directory = calloc(1, sizeof *directory);
    ASSERT(directory != NULL);
    int size = snprintf(directory->path, sizeof directory->path, "%s", path);
    ASSERT(size < (int)sizeof directory->path);
    return directory;
}

void memory_directory_free(struct memory_directory *directory)
{
    forget_name_changes(directory, directory->change_count);
    free(directory->changes);
    names_fini(&directory->now);
    names_fini(&directory->durable);
    free(directory);
}

struct memory_inode *
memory_directory_find(const struct memory_directory *directory,
                      const char *name)
{
    size_t i = find(&directory->now, name);
    return i < directory->now.count ? directory->now.all[i].inode : NULL;
}

void memory_directory_change(struct memory_directory *directory,
                             const char *from, const char *to,
                             struct memory_inode *inode)
{
    directory->changes =
        grown(directory->changes, directory->change_count,
              &directory->change_capacity, sizeof *directory->changes);
    struct memory_name_change *change =
        &directory->changes[directory->change_count++];
    set_name(change->from, from);
    set_name(change->to, to);
    change->inode = memory_inode_ref(inode);
    apply_name(&directory->now, change);
    if (to[0] != '\0')
        set_name(inode->name, to);
}

void memory_directory_sync(struct memory_directory *directory, size_t count)
{
    for (size_t i = 0; i < count; i++)
        apply_name(&directory->durable, &directory->changes[i]);
    forget_name_changes(directory, count);
}

static bool name_survives(const struct memory_directory *directory,
                          const struct memory_crash *crash, size_t change,
                          size_t kept, struct randomness *random)
{
    switch (crash->names) {
    case MEMORY_NOTHING:
        return false;
    case MEMORY_EVERYTHING:
        return true;
    case MEMORY_SOME:
        return change < kept;
    case MEMORY_TORN:
        return random_below(random, directory->change_count) < kept;
    }
    ASSERT(!"reached");
    return false;
}

struct memory_directory *
memory_directory_after(const struct memory_directory *directory,
                       const struct memory_crash *crash,
                       struct randomness *random)
{
    struct memory_directory *left = memory_directory_new(directory->path);
    size_t kept = random_below(random, directory->change_count + 1);
    const struct memory_names *durable = &directory->durable;
    for (size_t i = 0; i < durable->count; i++)
        set(&left->durable, durable->all[i].name, durable->all[i].inode);
    for (size_t i = 0; i < directory->change_count; i++) {
        if (name_survives(directory, crash, i, kept, random))
            apply_name(&left->durable, &directory->changes[i]);
    }
    for (size_t i = 0; i < left->durable.count; i++) {
        struct memory_name *name = &left->durable.all[i];
        struct memory_inode *inode = name->inode;
        if (inode->clone == NULL)
            inode->clone = memory_inode_after(inode, crash->bytes, random);
        name->inode = memory_inode_ref(inode->clone);
        memory_inode_unref(inode);
        set(&left->now, name->name, name->inode);
    }
    return left;
}

static void forget_clone(struct memory_inode *inode)
{
    memory_inode_unref(inode->clone);
    inode->clone = NULL;
}

void memory_directory_forget_clones(const struct memory_directory *directory)
{
    for (size_t i = 0; i < directory->durable.count; i++)
        forget_clone(directory->durable.all[i].inode);
    for (size_t i = 0; i < directory->change_count; i++)
        forget_clone(directory->changes[i].inode);
}
