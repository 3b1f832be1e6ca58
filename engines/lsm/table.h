/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_TABLE_H
#define REPLIKV_ENGINES_LSM_TABLE_H

#include <stdatomic.h>

#include "engines/lsm/file.h"

/* A sorted table file: written once, then only read. It holds at most one
 * version of a key, because a snapshot that wants an older one holds the
 * memtable or the older table it is in. See FORMAT.md.
 *
 * Every byte of the file is under a checksum. The index and the filter stay in
 * memory, about 2 % of a table of typical records; blocks are read when they
 * are needed and left to the page cache. */

struct table_writer {
    int fd; /* -1: closed */
    uint64_t number;
    uint64_t offset;
    uint64_t entries;
    uint64_t sequence; /* the largest seen */
    struct buffer block;
    struct buffer last_key;
    struct buffer index;
    struct buffer hashes; /* a u64 per key, for the filter */
};

enum status table_writer_open(struct table_writer *writer,
                              const char *directory,
                              uint64_t number) MUST_CHECK;
/* Keys ascend strictly. */
enum status table_writer_add(struct table_writer *writer,
                             const struct entry *entry) MUST_CHECK;
/* Write index, filter and footer, sync the file; its name becomes durable with
 * the next file_sync_directory, which is the caller's. */
enum status table_writer_finish(struct table_writer *writer) MUST_CHECK;
/* Safe on zeroed memory with fd -1. The file stays. */
void table_writer_fini(struct table_writer *writer);

struct table {
    atomic_uint references;
    int fd;
    uint64_t number;
    unsigned tier; /* see compaction.h */
    uint64_t entries;
    uint64_t sequence; /* the largest in it */
    uint64_t bytes;
    struct table_block *blocks; /* the index */
    size_t block_count;
    struct buffer index; /* what blocks' keys point into */
    struct buffer filter;
};

struct table_block {
    struct bytes last_key;
    uint64_t offset;
    uint32_t size; /* without the checksum behind it */
};

/* With one reference. NOT_FOUND, CORRUPT, IO, NO_MEMORY. */
enum status table_open(const char *directory, uint64_t number, unsigned tier,
                       struct table **table) MUST_CHECK;
void table_ref(struct table *table);
void table_unref(struct table *table);

/* The stored hash that filters and table_get take. */
uint64_t table_key_hash(struct bytes key);
bool table_filter_may_contain(struct bytes filter, uint64_t hash);

/* *entry points into block. NOT_FOUND if the table says nothing of the key. */
enum status table_get(struct table *table, struct bytes key, uint64_t hash,
                      struct buffer *block, struct entry *entry) MUST_CHECK;

/* A walk through a table, which it does not reference. */
struct table_cursor {
    struct table *table;
    size_t next_block;
    struct buffer block;
    struct bytes rest; /* of block */
};

/* Place the cursor before the first entry at or after key. */
enum status table_cursor_seek(struct table_cursor *cursor, struct table *table,
                              struct bytes key) MUST_CHECK;
/* NOT_FOUND at the end. The entry is valid until the next call. */
enum status table_cursor_next(struct table_cursor *cursor,
                              struct entry *entry) MUST_CHECK;
void table_cursor_fini(struct table_cursor *cursor);

enum {
    /* A page of the disk: smaller makes the index larger, larger makes a get
     * read more. A record larger than this is a block of its own. */
    TABLE_BLOCK_BYTES = 4096,
    /* 10 bits and 7 probes a key: 0.8 % of absent keys cost a read. */
    TABLE_FILTER_BITS = 10,
    TABLE_FILTER_PROBES = 7,
    /* index offset and size, filter size, entries, sequence, checksum, magic.*/
    TABLE_FOOTER_BYTES = 7 * 8,
};

#define TABLE_MAGIC UINT64_C(0x3130656c6261746b) /* "ktable01" */

/* Seeds the checksum of what lies at offset of table `number`. */
static inline uint64_t table_seed(uint64_t number, uint64_t offset)
{
    return number * UINT64_C(0x9e3779b97f4a7c15) ^ offset;
}

#endif
