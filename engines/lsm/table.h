/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_TABLE_H
#define REPLIKV_ENGINES_LSM_TABLE_H

#include <stdatomic.h>

#include "engines/engine.h"
#include "engines/lsm/block.h"
#include "engines/lsm/cache.h"
#include "engines/lsm/compress.h"
#include "engines/lsm/disk.h"

/* A sorted table file: written once, then only read. It holds one version of a
 * key at most, without a sequence, because a snapshot that wants an older one
 * holds the memtable or the older table it is in. See FORMAT.md.
 *
 * Every byte of the file is under a checksum. The index and the filter stay in
 * memory while the table is open, about 1.5 % of it, and are charged to the
 * cache; blocks come through the cache, or in long reads past it for walks. */

enum {
    /* A page of the disk: smaller makes the index larger, larger makes a get
     * read more. An entry larger than this is a block of its own. */
    TABLE_BLOCK_BYTES = 4096,
    /* Of one block, before compression: a value of 1 GiB and its key. */
    TABLE_BLOCK_BYTES_MAX = (1 << 30) + (1 << 16),
};

/* The size of a table, and what its properties say. */
struct table_facts {
    uint64_t bytes;   /* of the file */
    uint64_t entries; /* removals included */
    uint64_t removals;
    uint64_t user_bytes; /* of keys and values, before compression */
};

struct table_options {
    enum compression compression;
    /* If not NULL, called with how many bytes are about to be written: the
     * compaction's rate limit. */
    void (*pace)(void *context, size_t bytes);
    void *pace_context;
};

/* Writes a table from entries in key order. Single-threaded. */
struct table_writer;
enum status table_writer_new(struct disk *disk, uint64_t number,
                             const struct table_options *options,
                             struct table_writer **writer) MUST_CHECK;
/* CORRUPT if its key is not behind the one before, since entries come from
 * tables, whose order only this checks; TOO_LARGE: a value above 1 GiB. */
enum status table_writer_add(struct table_writer *writer,
                             const struct entry *entry) MUST_CHECK;
/* Of the file so far. */
uint64_t table_writer_bytes(const struct table_writer *writer);
/* Write filter, index and footer, and sync the file; its name becomes durable
 * with the directory's next sync, which is the caller's. */
enum status table_writer_finish(struct table_writer *writer,
                                struct table_facts *facts) MUST_CHECK;
/* The file stays. NULL is allowed. */
void table_writer_free(struct table_writer *writer);

void table_name(char name[32], uint64_t number);

/* Told where a table is damaged, and what of it, in words: by the open, and of
 * the first block that is. From any thread. */
struct table_report {
    void (*damaged)(void *context, uint64_t table, uint64_t offset,
                    const char *what);
    void *context;
};

struct table {
    atomic_uint references;
    uint64_t number;
    struct table_facts facts;
    struct bytes smallest, largest; /* keys; owned by the table */
    /* Up to which dropped range (see version.h) nothing dropped is in it. */
    uint64_t drops_applied;
    /* A block failed its checksum, or the disk to read it: reads of what is in
     * it answer CORRUPT or IO, and no compaction takes the table, so that
     * nothing older shows through. */
    atomic_bool damaged;
    struct table_inside *inside; /* file, index, filter, cache */
};

/* With one reference, and the cache charged; without the filter if that is
 * damaged, which is only told. CORRUPT, IO, NOT_FOUND, NO_MEMORY. cache may be
 * NULL: every block is read. report is copied; its function may be NULL. */
enum status table_open(struct disk *disk, struct cache *cache, uint64_t number,
                       const struct table_report *report,
                       struct table **table) MUST_CHECK;
void table_ref(struct table *table);
void table_unref(struct table *table); /* NULL is allowed */
/* In memory, beside its blocks. */
size_t table_memory_bytes(const struct table *table);

/* The key's entry. Its value lies in *block, which the caller releases, and
 * lives until then. NOT_FOUND if the table says nothing of the key. */
enum status table_get(struct table *table, struct bytes key, uint64_t hash,
                      struct cache_block **block,
                      struct entry *entry) MUST_CHECK;

/* A walk through a table, in either direction. It holds no reference to the
 * table. The block of a seek comes through the cache, if that has it or wants
 * it; of those behind it, what is not in the cache is read ahead past it, in
 * longer and longer pieces (or at once, with TABLE_STREAM, which leaves the
 * cache alone). */
enum table_access {
    TABLE_CACHED,
    TABLE_STREAM,
};
struct table_cursor {
    struct table *table;
    enum table_access access;
    size_t block_number;
    bool leads;                /* most of a walk goes through this table */
    bool walking;              /* on from the block of the seek */
    struct cache_block *block; /* what current lies in, or NULL: ahead */
    struct buffer ahead;       /* a piece of the file, read ahead */
    uint64_t ahead_offset;
    struct buffer content; /* a block of it, decompressed */
    struct block_cursor current;
};

void table_cursor_init(struct table_cursor *cursor, struct table *table,
                       enum table_access access);
void table_cursor_fini(struct table_cursor *cursor); /* also of zeroed memory */
/* Each places the cursor: OK, NOT_FOUND if nothing is there, or what went
 * wrong. seek: the first at or behind key. seek_before: the last before key,
 * or the last of all if key is empty. */
enum status table_cursor_seek(struct table_cursor *cursor,
                              struct bytes key) MUST_CHECK;
enum status table_cursor_seek_before(struct table_cursor *cursor,
                                     struct bytes key) MUST_CHECK;
enum status table_cursor_next(struct table_cursor *cursor) MUST_CHECK;
enum status table_cursor_previous(struct table_cursor *cursor) MUST_CHECK;
/* After one that answered CORRUPT or IO the cursor is in the block that could
 * not be read: the next step leaves it. Whether the key may be in the block. */
bool table_block_covers(const struct table *table, size_t block_number,
                        struct bytes key);
/* The current entry, valid until the cursor moves; its sequence is 0. */
static inline struct entry table_cursor_entry(const struct table_cursor *cursor)
{
    const struct block_cursor *at = &cursor->current;
    return (struct entry){
        .key = bytes_of(at->key, at->key_size),
        .value = at->value,
        .removed = at->removed,
    };
}

/* Read every block of the table and check that all is in order, telling each
 * (offset, what) of what is not. For people and tests. */
enum status table_check(struct table *table,
                        void (*each)(void *context, uint64_t offset,
                                     const char *what),
                        void *context) MUST_CHECK;

#endif
