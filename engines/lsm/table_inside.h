/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_TABLE_INSIDE_H
#define REPLIKV_ENGINES_LSM_TABLE_INSIDE_H

#include "engines/lsm/filter.h"
#include "engines/lsm/table.h"

/* What the files behind table.h share: how a table lies in its file, and what
 * an open one holds. See FORMAT.md. */

enum {
    /* Behind the bytes of every part of the file but the footer: how they are
     * compressed, and the checksum. */
    TABLE_TRAILER_BYTES = 1 + 8,
    TABLE_FOOTER_BYTES = 6 * 8,
    /* Three numbers and two keys. */
    TABLE_PROPERTIES_MAX = 3 * 8 + 2 * (VARINT32_MAX + ENGINE_KEY_BYTES_MAX),
};
#define TABLE_MAGIC UINT64_C(0x31306c6261746b72) /* "rktabl01" */

/* Where the blocks are and which keys they may hold. Block i has the keys
 * above separator i - 1 up to separator i, which is short: see FORMAT.md.
 *
 * What all separators begin with is held once. Of what follows, the first 8
 * bytes are a number each, in one array, so that a search is one of integers
 * that lie close together, however long the keys are; only among equal numbers
 * the rest is compared. */
struct table_index {
    size_t count;
    uint64_t *heads;   /* all else lies in this allocation, too */
    uint64_t *offsets; /* count + 1: the last is the end of the blocks */
    uint32_t *places;  /* count + 1: where a separator begins in rests */
    uint8_t *rests;    /* separators without what they share */
    uint8_t *shared;
    size_t shared_size;
    size_t bytes; /* of the allocation */
};

/* Build it from the file's index, whose blocks must fill data_bytes. */
enum status table_index_parse(struct table_index *index, struct bytes content,
                              uint64_t data_bytes) MUST_CHECK;
void table_index_fini(struct table_index *index); /* safe on zeroed memory */
/* The only block that may hold key: the first whose separator is not before
 * it; count if there is none. */
size_t table_index_find(const struct table_index *index, struct bytes key);
/* Compare a block's separator with key, as bytes_compare does. */
int table_index_compare(const struct table_index *index, size_t number,
                        struct bytes key);

/* The bytes of a block as they are stored, without the trailer. */
static inline size_t table_index_size(const struct table_index *index,
                                      size_t number)
{
    return (size_t)(index->offsets[number + 1] - index->offsets[number]) -
           TABLE_TRAILER_BYTES;
}

struct table_inside {
    struct disk_file *file;
    struct cache *cache; /* may be NULL */
    struct table_report report;
    uint8_t *filter; /* in whole cache lines; NULL: it is damaged */
    size_t filter_size;
    struct table_index index;
};

static inline bool table_may_contain(const struct table_inside *inside,
                                     uint64_t hash)
{
    return inside->filter == NULL ||
           filter_may_contain(inside->filter, inside->filter_size, hash);
}

/* Check size bytes at an offset of the table, and the trailer behind them. */
enum status table_check_part(const struct table *table, uint64_t offset,
                             const uint8_t *data, size_t size,
                             enum compression *compression) MUST_CHECK;

/* Read a block, checked, with a reference. What is damaged is reported. */
enum status table_read_block(struct table *table, size_t number,
                             struct cache_block **block) MUST_CHECK;

/* Mark and report it, if a read of blocks failed so that it would fail again:
 * what the disk cannot read is as lost as what fails its checksum. */
void table_read_failed(struct table *table, uint64_t offset,
                       enum status status);

#endif
