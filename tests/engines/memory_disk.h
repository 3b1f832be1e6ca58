/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_MEMORY_DISK_H
#define REPLIKV_TESTS_ENGINES_MEMORY_DISK_H

#include "engines/lsm/disk.h"

/* A disk in memory, behind the interface of engines/lsm/disk.h. It knows of
 * every file what a reader sees and what a power loss would leave, of every
 * directory likewise, and it fails when it is told to. All chance comes from
 * seeds, so equal calls give equal disks.
 *
 *     what readers see  <--- changes not yet synced --->  what is durable
 *
 * From any threads; it starts none. Memory that cannot be had ends the test. */
struct memory_disk;

enum {
    /* What a disk writes as a whole; the smallest that are in use. */
    MEMORY_SECTOR_BYTES = 512,
    MEMORY_NAME_MAX = 64,
};

/* The directory that every disk begins with. */
#define MEMORY_DISK_PATH "store"

struct memory_disk *memory_disk_new(void);
/* No file is open. NULL is allowed. */
void memory_disk_free(struct memory_disk *memory);

/* A directory of it to give to the tree, or NULL if there is none at path.
 * disk_free ends it and leaves the files; it locks nothing. */
struct disk *memory_disk_at(struct memory_disk *memory, const char *path);

/* What survives of changes that were not synced. */
enum memory_survival {
    MEMORY_NOTHING,
    MEMORY_EVERYTHING,
    /* Of bytes: each write, or not. Of names: those up to some change. */
    MEMORY_SOME,
    /* Of bytes: each sector of each write, or not, and the size, perhaps. Of
     * names: each change, or not. */
    MEMORY_TORN,
};

struct memory_crash {
    enum memory_survival bytes;
    enum memory_survival names;
    uint64_t seed;
};

/* The disk as it would come back if the power failed now: a new one, with all
 * counts at 0 and no faults; this one stays as it is. */
struct memory_disk *memory_disk_after(struct memory_disk *memory,
                                      const struct memory_crash *crash);

/* Of all that is durable, with its names: equal for disks that a crash would
 * leave equal. */
uint64_t memory_disk_hash(struct memory_disk *memory);

/* The calls that change something: they are counted and can fail. A sync is
 * one of a file or of a directory. An open counts if it may create. All others
 * that can fail are reads, with a count of their own: of bytes, sizes, names
 * and free room, and opens of what is there. */
enum memory_call {
    MEMORY_CREATE,
    MEMORY_WRITE,
    MEMORY_SYNC,
    MEMORY_TRUNCATE,
    MEMORY_RENAME,
    MEMORY_REMOVE,
    MEMORY_LINK,
    MEMORY_SYNC_DIRECTORY,
    MEMORY_MAKE_DIRECTORY,
};
const char *memory_call_name(enum memory_call call);

struct memory_counts {
    uint64_t calls; /* that change something, syncs included */
    uint64_t syncs;
    uint64_t reads;
    uint64_t bytes_written;
    uint64_t bytes_stored; /* in all files, as readers see them */
    uint64_t files_open;
};
struct memory_counts memory_disk_counts(struct memory_disk *memory);

/* Have the call with this number fail, the first being 1 (0: none, as at
 * first), and with lasting all behind it. A failed write may be done in part;
 * a failed sync leaves its bytes in doubt, as disk.h says; other calls that
 * failed with IO may have had their effect. */
struct memory_fault {
    uint64_t call;
    bool of_reads; /* the number counts reads instead */
    bool lasting;
    enum status status;
    uint64_t seed;
};
void memory_disk_fail(struct memory_disk *memory,
                      const struct memory_fault *fault);

/* Writes that would store more bytes fail with NO_SPACE, having filled it. What
 * is left up to there is free. */
void memory_disk_limit(struct memory_disk *memory, uint64_t bytes_max);

/* Call before(context, ...) before each call that changes something, with
 * nothing locked, so that it may take memory_disk_after. NULL ends it. The
 * name is the file's, or the directory's path. */
void memory_disk_watch(struct memory_disk *memory,
                       void (*before)(void *context, enum memory_call call,
                                      const char *name),
                       void *context);

/* Change the bits of mask in a byte of a file of MEMORY_DISK_PATH, for readers
 * and for good. The file is that long. */
void memory_disk_flip(struct memory_disk *memory, const char *name,
                      uint64_t offset, uint8_t mask);
/* Of a file there; UINT64_MAX if it is not. */
uint64_t memory_disk_file_bytes(struct memory_disk *memory, const char *name);

#endif
