/* SPDX-License-Identifier: MIT */
#include "tests/engines/memory_disk.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "engines/lsm/coding.h"
#include "proto/assert.h"
#include "tests/engines/memory_file.h"

/* A store, and the checkpoints that a test takes of it. */
enum { DIRECTORIES_MAX = 16 };

struct memory_disk {
    pthread_mutex_t mutex; /* guards all below */
    struct memory_directory *directories[DIRECTORIES_MAX];
    size_t directory_count;
    struct memory_counts counts;
    struct memory_fault fault;
    struct randomness random; /* of the fault */
    uint64_t bytes_max;
    void (*before)(void *context, enum memory_call call, const char *name);
    void *before_context;
};

struct handle {
    struct disk disk;
    struct memory_disk *memory;
    struct memory_directory *directory;
    bool sync_failed;
};

struct open_file {
    struct disk_file file;
    struct memory_disk *memory;
    struct memory_inode *inode;
    bool sync_failed;
};

static const struct disk_operations memory_operations;

static struct handle *handle_of(struct disk *disk)
{
    ASSERT(disk->operations == &memory_operations);
    return (struct handle *)disk;
}

static struct open_file *open_file_of(struct disk_file *file)
{
    ASSERT(file->operations == &memory_operations);
    return (struct open_file *)file;
}

static void lock(struct memory_disk *memory)
{
    int result = pthread_mutex_lock(&memory->mutex);
    ASSERT(result == 0);
}

static void unlock(struct memory_disk *memory)
{
    int result = pthread_mutex_unlock(&memory->mutex);
    ASSERT(result == 0);
}

static bool fails(const struct memory_disk *memory, bool read, uint64_t number)
{
    const struct memory_fault *fault = &memory->fault;
    if (fault->call == 0 || fault->of_reads != read)
        return false;
    return fault->lasting ? number >= fault->call : number == fault->call;
}

/* Of every call that changes something: watched, locked, counted, and told
 * what it is to fail with. The caller unlocks. */
static enum status begin(struct memory_disk *memory, enum memory_call call,
                         const char *name)
{
    lock(memory);
    if (memory->before != NULL) {
        char copy[256];
        snprintf(copy, sizeof copy, "%s", name);
        unlock(memory);
        memory->before(memory->before_context, call, copy);
        lock(memory);
    }
    memory->counts.calls++;
    if (call == MEMORY_SYNC || call == MEMORY_SYNC_DIRECTORY)
        memory->counts.syncs++;
    return fails(memory, false, memory->counts.calls) ? memory->fault.status
                                                      : STATUS_OK;
}

/* The same of every call that changes nothing, which is not watched. */
static enum status begin_read(struct memory_disk *memory)
{
    lock(memory);
    return fails(memory, true, ++memory->counts.reads) ? memory->fault.status
                                                       : STATUS_OK;
}

static enum status end(struct memory_disk *memory, enum status status)
{
    unlock(memory);
    return status;
}

/* Whether a call that is to fail has its effect all the same. A disk without
 * room says so before it begins. */
static bool is_done(struct memory_disk *memory, enum status failure)
{
    return failure == STATUS_OK ||
           (failure == STATUS_IO && random_chance(&memory->random, 500));
}

/* Sizes are summed up anew, since names, open files and changes may all hold
 * a file: what is on no directory counts no more, as if closed. */
static uint64_t bytes_stored(const struct memory_disk *memory)
{
    uint64_t total = 0;
    for (size_t d = 0; d < memory->directory_count; d++) {
        const struct memory_names *names = &memory->directories[d]->now;
        for (size_t i = 0; i < names->count; i++)
            total += names->all[i].inode->now->bytes.size;
    }
    return total;
}

static uint64_t room_of(const struct memory_disk *memory)
{
    uint64_t stored = bytes_stored(memory);
    return memory->bytes_max > stored ? memory->bytes_max - stored : 0;
}

static enum status find_or_create(struct handle *handle, const char *name,
                                  struct memory_inode **inode)
{
    struct memory_directory *directory = handle->directory;
    enum status failure = begin(handle->memory, MEMORY_CREATE, name);
    *inode = memory_directory_find(directory, name);
    if (!is_done(handle->memory, failure))
        return failure;
    if (*inode == NULL) {
        struct memory_inode *made = memory_inode_new(name);
        memory_directory_change(directory, "", name, made);
        memory_inode_unref(made);
        *inode = made;
    } else {
        memory_inode_truncate(*inode, 0);
    }
    return failure;
}

static enum status memory_open(struct disk *disk, const char *name,
                               enum disk_mode mode, struct disk_file **file)
{
    struct handle *handle = handle_of(disk);
    struct memory_inode *inode;
    enum status status;
    *file = NULL;
    if (mode == DISK_CREATE) {
        status = find_or_create(handle, name, &inode);
    } else {
        status = begin_read(handle->memory);
        inode = memory_directory_find(handle->directory, name);
        if (status == STATUS_OK && inode == NULL)
            status = STATUS_NOT_FOUND;
    }
    if (status == STATUS_OK) {
        struct open_file *opened = calloc(1, sizeof *opened);
        ASSERT(opened != NULL);
        opened->file.operations = &memory_operations;
        opened->memory = handle->memory;
        opened->inode = memory_inode_ref(inode);
        handle->memory->counts.files_open++;
        *file = &opened->file;
    }
    return end(handle->memory, status);
}

static void memory_close(struct disk_file *file)
{
    struct open_file *opened = open_file_of(file);
    lock(opened->memory);
    opened->memory->counts.files_open--;
    memory_inode_unref(opened->inode);
    unlock(opened->memory);
    free(opened);
}

static enum status memory_read(struct disk_file *file, uint64_t offset,
                               void *data, size_t size)
{
    struct open_file *opened = open_file_of(file);
    struct memory_disk *memory = opened->memory;
    enum status status = begin_read(memory);
    const struct buffer *content = &opened->inode->now->bytes;
    if (status != STATUS_OK)
        return end(memory, status);
    if (offset > content->size || size > content->size - offset)
        return end(memory, STATUS_CORRUPT);
    if (size > 0)
        memcpy(data, content->data + offset, size);
    return end(memory, STATUS_OK);
}

static enum status memory_write(struct disk_file *file, uint64_t offset,
                                struct bytes bytes)
{
    struct open_file *opened = open_file_of(file);
    struct memory_disk *memory = opened->memory;
    struct memory_inode *inode = opened->inode;
    enum status status = begin(memory, MEMORY_WRITE, inode->name);
    if (status != STATUS_OK)
        bytes.size = random_below(&memory->random, bytes.size + 1);
    uint64_t room = room_of(memory);
    uint64_t size = inode->now->bytes.size;
    if (offset + bytes.size > size && offset + bytes.size - size > room) {
        status = STATUS_NO_SPACE;
        bytes.size = size + room > offset ? size + room - offset : 0;
    }
    memory_inode_write(inode, offset, bytes);
    memory->counts.bytes_written += bytes.size;
    return end(memory, status);
}

static enum status memory_sync(struct disk_file *file)
{
    struct open_file *opened = open_file_of(file);
    struct memory_disk *memory = opened->memory;
    enum status status = begin(memory, MEMORY_SYNC, opened->inode->name);
    if (opened->sync_failed)
        return end(memory, STATUS_IO);
    if (status == STATUS_OK) {
        memory_inode_sync(opened->inode);
    } else {
        opened->sync_failed = true;
        memory_inode_fail_sync(opened->inode, &memory->random);
    }
    return end(memory, status);
}

/* What it begins may end before a crash or not, as if it were not called. */
static void memory_start_sync(struct disk_file *file, uint64_t offset,
                              uint64_t size)
{
    (void)file;
    (void)offset;
    (void)size;
}

static enum status memory_size(struct disk_file *file, uint64_t *size)
{
    struct open_file *opened = open_file_of(file);
    enum status status = begin_read(opened->memory);
    if (status == STATUS_OK)
        *size = opened->inode->now->bytes.size;
    return end(opened->memory, status);
}

static enum status memory_truncate(struct disk_file *file, uint64_t size)
{
    struct open_file *opened = open_file_of(file);
    struct memory_disk *memory = opened->memory;
    enum status status = begin(memory, MEMORY_TRUNCATE, opened->inode->name);
    if (is_done(memory, status))
        memory_inode_truncate(opened->inode, size);
    return end(memory, status);
}

static void memory_advise(struct disk_file *file, enum disk_access access)
{
    (void)file;
    (void)access;
}

/* Both renames and removals: an empty `to` is no name. */
static enum status change_name(struct disk *disk, enum memory_call call,
                               const char *from, const char *to)
{
    struct handle *handle = handle_of(disk);
    enum status status = begin(handle->memory, call, from);
    struct memory_inode *inode = memory_directory_find(handle->directory, from);
    if (inode == NULL)
        return end(handle->memory,
                   call == MEMORY_REMOVE ? STATUS_NOT_FOUND : STATUS_IO);
    if (strcmp(from, to) != 0 && is_done(handle->memory, status))
        memory_directory_change(handle->directory, from, to, inode);
    return end(handle->memory, status);
}

static enum status memory_rename(struct disk *disk, const char *from,
                                 const char *to)
{
    return change_name(disk, MEMORY_RENAME, from, to);
}

static enum status memory_remove(struct disk *disk, const char *name)
{
    return change_name(disk, MEMORY_REMOVE, name, "");
}

static enum status memory_link(struct disk *disk, const char *name,
                               struct disk *other)
{
    struct handle *from = handle_of(disk), *to = handle_of(other);
    ASSERT(from->memory == to->memory);
    enum status status = begin(from->memory, MEMORY_LINK, name);
    struct memory_inode *inode = memory_directory_find(from->directory, name);
    if (inode == NULL)
        return end(from->memory, STATUS_IO);
    if (memory_directory_find(to->directory, name) != NULL)
        return end(from->memory, STATUS_IO);
    if (is_done(from->memory, status))
        memory_directory_change(to->directory, "", name, inode);
    return end(from->memory, status);
}

/* From a copy of the names, since each may change them. */
static enum status
memory_list(struct disk *disk,
            enum status (*each)(void *context, const char *name), void *context)
{
    struct handle *handle = handle_of(disk);
    enum status status = begin_read(handle->memory);
    const struct memory_names *now = &handle->directory->now;
    size_t count = now->count;
    struct memory_name *names = malloc((count + 1) * sizeof *names);
    ASSERT(names != NULL);
    if (count > 0)
        memcpy(names, now->all, count * sizeof *names);
    unlock(handle->memory);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = each(context, names[i].name);
    free(names);
    return status;
}

static uint64_t memory_free_bytes(struct disk *disk)
{
    struct memory_disk *memory = handle_of(disk)->memory;
    bool known = begin_read(memory) == STATUS_OK;
    uint64_t room = known ? room_of(memory) : UINT64_MAX;
    unlock(memory);
    return room;
}

static enum status memory_sync_directory(struct disk *disk)
{
    struct handle *handle = handle_of(disk);
    struct memory_directory *directory = handle->directory;
    enum status status =
        begin(handle->memory, MEMORY_SYNC_DIRECTORY, directory->path);
    size_t count = directory->change_count;
    if (handle->sync_failed)
        return end(handle->memory, STATUS_IO);
    if (status != STATUS_OK)
        count = random_below(&handle->memory->random, count + 1);
    memory_directory_sync(directory, count);
    handle->sync_failed = status != STATUS_OK;
    return end(handle->memory, handle->sync_failed ? STATUS_IO : STATUS_OK);
}

static struct memory_directory *at_path(const struct memory_disk *memory,
                                        const char *path)
{
    for (size_t i = 0; i < memory->directory_count; i++) {
        if (strcmp(memory->directories[i]->path, path) == 0)
            return memory->directories[i];
    }
    return NULL;
}

static enum status memory_make_directory(struct disk *disk, const char *path,
                                         struct disk **other,
                                         struct error *error)
{
    struct memory_disk *memory = handle_of(disk)->memory;
    *other = NULL;
    enum status status = begin(memory, MEMORY_MAKE_DIRECTORY, path);
    if (at_path(memory, path) != NULL)
        status = STATUS_IO;
    if (status == STATUS_OK) {
        ASSERT(memory->directory_count < DIRECTORIES_MAX);
        memory->directories[memory->directory_count++] =
            memory_directory_new(path);
    }
    unlock(memory);
    if (status != STATUS_OK)
        return error_set(error, status, "cannot make the directory %.200s",
                         path);
    *other = memory_disk_at(memory, path);
    return STATUS_OK;
}

static void memory_free(struct disk *disk)
{
    free(handle_of(disk));
}

static const struct disk_operations memory_operations = {
    .open = memory_open,
    .close = memory_close,
    .read = memory_read,
    .write = memory_write,
    .sync = memory_sync,
    .start_sync = memory_start_sync,
    .size = memory_size,
    .truncate = memory_truncate,
    .advise = memory_advise,
    .rename = memory_rename,
    .remove = memory_remove,
    .link = memory_link,
    .list = memory_list,
    .sync_directory = memory_sync_directory,
    .free_bytes = memory_free_bytes,
    .make_directory = memory_make_directory,
    .free = memory_free,
};

static struct memory_disk *empty_disk(void)
{
    struct memory_disk *memory = calloc(1, sizeof *memory);
    ASSERT(memory != NULL);
    int result = pthread_mutex_init(&memory->mutex, NULL);
    ASSERT(result == 0);
    memory->bytes_max = UINT64_MAX;
    return memory;
}

struct memory_disk *memory_disk_new(void)
{
    struct memory_disk *memory = empty_disk();
    memory->directories[memory->directory_count++] =
        memory_directory_new(MEMORY_DISK_PATH);
    return memory;
}

void memory_disk_free(struct memory_disk *memory)
{
    if (memory == NULL)
        return;
    ASSERT(memory->counts.files_open == 0);
    for (size_t i = 0; i < memory->directory_count; i++)
        memory_directory_free(memory->directories[i]);
    pthread_mutex_destroy(&memory->mutex);
    free(memory);
}

struct disk *memory_disk_at(struct memory_disk *memory, const char *path)
{
    struct handle *handle = NULL;
    lock(memory);
    struct memory_directory *directory = at_path(memory, path);
    if (directory != NULL) {
        handle = malloc(sizeof *handle);
        ASSERT(handle != NULL);
        *handle =
            (struct handle){{&memory_operations}, memory, directory, false};
    }
    unlock(memory);
    return handle == NULL ? NULL : &handle->disk;
}

struct memory_disk *memory_disk_after(struct memory_disk *memory,
                                      const struct memory_crash *crash)
{
    struct memory_disk *left = empty_disk();
    struct randomness random = {crash->seed};
    lock(memory);
    left->directory_count = memory->directory_count;
    for (size_t i = 0; i < memory->directory_count; i++)
        left->directories[i] =
            memory_directory_after(memory->directories[i], crash, &random);
    for (size_t i = 0; i < memory->directory_count; i++)
        memory_directory_forget_clones(memory->directories[i]);
    unlock(memory);
    return left;
}

uint64_t memory_disk_hash(struct memory_disk *memory)
{
    uint64_t sum = 0;
    lock(memory);
    for (size_t d = 0; d < memory->directory_count; d++) {
        const struct memory_names *names = &memory->directories[d]->durable;
        for (size_t i = 0; i < names->count; i++) {
            const struct memory_name *name = &names->all[i];
            const struct buffer *content = &name->inode->durable->bytes;
            /* Added up, as the order of names is of no account. */
            uint64_t seed =
                XXH3_64bits_withSeed(name->name, strlen(name->name), d);
            sum += XXH3_64bits_withSeed(content->data, content->size, seed);
        }
    }
    unlock(memory);
    return sum;
}

const char *memory_call_name(enum memory_call call)
{
    static const char *const names[] = {
        [MEMORY_CREATE] = "create",
        [MEMORY_WRITE] = "write",
        [MEMORY_SYNC] = "sync",
        [MEMORY_TRUNCATE] = "truncate",
        [MEMORY_RENAME] = "rename",
        [MEMORY_REMOVE] = "remove",
        [MEMORY_LINK] = "link",
        [MEMORY_SYNC_DIRECTORY] = "sync directory",
        [MEMORY_MAKE_DIRECTORY] = "make directory",
    };
    return names[call];
}

struct memory_counts memory_disk_counts(struct memory_disk *memory)
{
    lock(memory);
    struct memory_counts counts = memory->counts;
    counts.bytes_stored = bytes_stored(memory);
    unlock(memory);
    return counts;
}

void memory_disk_fail(struct memory_disk *memory,
                      const struct memory_fault *fault)
{
    lock(memory);
    memory->fault = *fault;
    memory->random = (struct randomness){fault->seed};
    unlock(memory);
}

void memory_disk_limit(struct memory_disk *memory, uint64_t bytes_max)
{
    lock(memory);
    memory->bytes_max = bytes_max;
    unlock(memory);
}

void memory_disk_watch(struct memory_disk *memory,
                       void (*before)(void *context, enum memory_call call,
                                      const char *name),
                       void *context)
{
    lock(memory);
    memory->before = before;
    memory->before_context = context;
    unlock(memory);
}

void memory_disk_flip(struct memory_disk *memory, const char *name,
                      uint64_t offset, uint8_t mask)
{
    lock(memory);
    struct memory_inode *inode =
        memory_directory_find(memory->directories[0], name);
    ASSERT(inode != NULL && offset < inode->now->bytes.size);
    memory_inode_flip(inode, offset, mask);
    unlock(memory);
}

uint64_t memory_disk_file_bytes(struct memory_disk *memory, const char *name)
{
    lock(memory);
    const struct memory_inode *inode =
        memory_directory_find(memory->directories[0], name);
    uint64_t size = inode == NULL ? UINT64_MAX : inode->now->bytes.size;
    unlock(memory);
    return size;
}
