/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_MEMORY_FILE_H
#define REPLIKV_TESTS_ENGINES_MEMORY_FILE_H

#include <stdatomic.h>

#include "tests/engines/memory_disk.h"
#include "tests/sim/random.h"

/* The inside of memory_disk.h: files and directories, each as readers see it,
 * as it is durable, and the changes between. Not thread-safe. */

/* Bytes that any number of files, also of disks that were copied, may share
 * until one of them changes them. */
struct memory_content {
    atomic_uint references;
    struct buffer bytes;
};

/* A write, or with NULL data a truncation to offset. */
struct memory_change {
    uint64_t offset;
    size_t size;
    uint8_t *data;
};

struct memory_inode {
    unsigned references;
    char name[MEMORY_NAME_MAX]; /* its last, for people */
    struct memory_content *now, *durable;
    struct memory_change *changes; /* oldest first */
    size_t change_count, change_capacity;
    struct memory_inode *clone; /* while a disk is copied */
};

/* References count names, changes of names, and open files. */
struct memory_inode *memory_inode_new(const char *name);
struct memory_inode *memory_inode_ref(struct memory_inode *inode);
void memory_inode_unref(struct memory_inode *inode); /* NULL is allowed */

void memory_inode_write(struct memory_inode *inode, uint64_t offset,
                        struct bytes bytes);
void memory_inode_truncate(struct memory_inode *inode, uint64_t size);
/* Change the bits of mask in the byte at offset, for good. */
void memory_inode_flip(struct memory_inode *inode, uint64_t offset,
                       uint8_t mask);
void memory_inode_sync(struct memory_inode *inode);
/* Some changes become durable, none will any more, readers see them all. */
void memory_inode_fail_sync(struct memory_inode *inode,
                            struct randomness *random);
/* What is left after a crash, with one reference. */
struct memory_inode *memory_inode_after(const struct memory_inode *inode,
                                        enum memory_survival survival,
                                        struct randomness *random);

struct memory_name {
    char name[MEMORY_NAME_MAX];
    struct memory_inode *inode;
};

struct memory_names {
    struct memory_name *all;
    size_t count;
};

/* `to` becomes a name of inode, and `from` is one no more; either may be
 * empty. */
struct memory_name_change {
    char from[MEMORY_NAME_MAX];
    char to[MEMORY_NAME_MAX];
    struct memory_inode *inode;
};

struct memory_directory {
    char path[256];
    struct memory_names now, durable;
    struct memory_name_change *changes; /* oldest first */
    size_t change_count, change_capacity;
};

struct memory_directory *memory_directory_new(const char *path);
void memory_directory_free(struct memory_directory *directory);
/* Without a reference; NULL: it is not there. */
struct memory_inode *
memory_directory_find(const struct memory_directory *directory,
                      const char *name);
void memory_directory_change(struct memory_directory *directory,
                             const char *from, const char *to,
                             struct memory_inode *inode);
/* Make the first `count` changes durable. */
void memory_directory_sync(struct memory_directory *directory, size_t count);
/* What is left after a crash. The files that are made for it are their old
 * ones' clones, which other directories then share, until they are told to
 * forget them. */
struct memory_directory *
memory_directory_after(const struct memory_directory *directory,
                       const struct memory_crash *crash,
                       struct randomness *random);
void memory_directory_forget_clones(const struct memory_directory *directory);

#endif
