/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_DISK_H
#define REPLIKV_ENGINES_LSM_DISK_H

#include "proto/bytes.h"
#include "proto/status.h"

/* All that the tree asks of a file system: one directory of files. disk_open
 * gives the real one; tests give one in memory that loses what was not synced,
 * tears it, flips bits and fails at any call.
 *
 * What a crash may do, and the tree is built for: bytes written and not synced
 * are there, or not, or in part, in any order; a file made, renamed or removed
 * since the last sync_directory is as it was before, or not. A file's synced
 * bytes may be lost with its name, so whoever makes a file that matters calls
 * both.
 *
 * After a sync that failed the bytes are in doubt for good: reads may still
 * show them, also of a file opened anew, and a later sync may succeed without
 * having written them (as Linux does). They are safe only when written again.
 * Names are not: once sync_directory fails, it fails as long as the disk is
 * open, from whatever thread.
 *
 * Calls may come from any threads at once; on one file, reads at once with
 * anything, writes and syncs from one thread at a time. */

struct disk {
    const struct disk_operations *operations;
};

struct disk_file {
    const struct disk_operations *operations;
};

enum disk_mode {
    DISK_READ,   /* NOT_FOUND if it is not there */
    DISK_CREATE, /* read and write; whatever was there is emptied */
    DISK_UPDATE, /* read and write what is there; NOT_FOUND */
};

/* How a file will be read, so that the system reads ahead or does not. */
enum disk_access {
    DISK_RANDOM,
    DISK_SEQUENTIAL,
};

/* Failures are NO_SPACE, NO_MEMORY and IO, and where it is said, others: what
 * is missing elsewhere, as when the directory itself was removed, is IO. Names
 * have no slash. */
struct disk_operations {
    enum status (*open)(struct disk *disk, const char *name,
                        enum disk_mode mode,
                        struct disk_file **file) MUST_CHECK;
    void (*close)(struct disk_file *file);
    /* All of size, or CORRUPT if the file ends before. */
    enum status (*read)(struct disk_file *file, uint64_t offset, void *data,
                        size_t size) MUST_CHECK;
    /* All of bytes, the file growing as needed. */
    enum status (*write)(struct disk_file *file, uint64_t offset,
                         struct bytes bytes) MUST_CHECK;
    /* The file's bytes and size, not its name. */
    enum status (*sync)(struct disk_file *file) MUST_CHECK;
    /* Begin to write back what is dirty in the range, without waiting. */
    void (*start_sync)(struct disk_file *file, uint64_t offset, uint64_t size);
    enum status (*size)(struct disk_file *file, uint64_t *size) MUST_CHECK;
    /* For tests, which cut files short. */
    enum status (*truncate)(struct disk_file *file, uint64_t size) MUST_CHECK;
    void (*advise)(struct disk_file *file, enum disk_access access);

    enum status (*rename)(struct disk *disk, const char *from,
                          const char *to) MUST_CHECK;
    /* NOT_FOUND. */
    enum status (*remove)(struct disk *disk, const char *name) MUST_CHECK;
    /* A second name for a file, in another directory. REFUSED: that is on
     * another file system. */
    enum status (*link)(struct disk *disk, const char *name,
                        struct disk *other) MUST_CHECK;
    /* Call each(context, name) for every file; stops at what is not OK. A
     * listing that ended early is a failure. */
    enum status (*list)(struct disk *disk,
                        enum status (*each)(void *context, const char *name),
                        void *context) MUST_CHECK;
    /* Fails with IO only: what became of the names is not known. */
    enum status (*sync_directory)(struct disk *disk) MUST_CHECK;
    /* What may still be written; UINT64_MAX if that cannot be told. */
    uint64_t (*free_bytes)(struct disk *disk);
    /* Another directory, which must not exist: made, with its name synced. */
    enum status (*make_directory)(struct disk *disk, const char *path,
                                  struct disk **other,
                                  struct error *error) MUST_CHECK;
    void (*free)(struct disk *disk);
};

/* The directory at path, which exists, held against any other opener until
 * disk_free. REFUSED if another holds it. The path is copied. */
enum status disk_open(const char *path, struct disk **disk,
                      struct error *error) MUST_CHECK;
/* The same, but only to look: nothing is locked or changed. */
enum status disk_open_to_read(const char *path, struct disk **disk,
                              struct error *error) MUST_CHECK;
void disk_free(struct disk *disk); /* NULL is allowed */

/* A whole small file. NOT_FOUND; TOO_LARGE above max bytes. */
enum status disk_read_all(struct disk *disk, const char *name, size_t max,
                          struct buffer *content) MUST_CHECK;

/* The slots above, by name. */
static inline enum status disk_file_open(struct disk *disk, const char *name,
                                         enum disk_mode mode,
                                         struct disk_file **file)
{
    return disk->operations->open(disk, name, mode, file);
}

static inline void disk_file_close(struct disk_file *file)
{
    if (file != NULL)
        file->operations->close(file);
}

static inline enum status
disk_file_read(struct disk_file *file, uint64_t offset, void *data, size_t size)
{
    return file->operations->read(file, offset, data, size);
}

static inline enum status disk_file_write(struct disk_file *file,
                                          uint64_t offset, struct bytes bytes)
{
    return file->operations->write(file, offset, bytes);
}

static inline enum status disk_file_sync(struct disk_file *file)
{
    return file->operations->sync(file);
}

#endif
