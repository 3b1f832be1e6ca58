/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_BLOCK_H
#define REPLIKV_ENGINES_LSM_BLOCK_H

#include "engines/engine.h"
#include "engines/lsm/coding.h"

/* A run of entries in key order, as LevelDB lays it out: each key says how
 * much it shares with the one before, and every BLOCK_RESTART_INTERVAL-th one
 * shares nothing and is listed at the end, for a binary search. See FORMAT.md.
 *
 * A block that comes from a disk has passed its checksum, but nothing here
 * trusts it further: what does not add up is CORRUPT. */

enum {
    /* More saves bytes, fewer saves steps of a look-up; 16 is what LevelDB
     * and RocksDB came to. */
    BLOCK_RESTART_INTERVAL = 16,
};

struct block_writer {
    struct buffer content;
    struct buffer restarts; /* u32 each */
    unsigned since_restart;
    uint64_t entries;
    struct buffer last_key;
};

/* Keys ascend strictly; the key is at most ENGINE_KEY_BYTES_MAX long. */
enum status block_writer_add(struct block_writer *writer,
                             const struct entry *entry) MUST_CHECK;
/* Of the block if it were finished now. */
size_t block_writer_bytes(const struct block_writer *writer);
/* The content, valid until block_writer_clear. */
enum status block_writer_finish(struct block_writer *writer,
                                struct bytes *content) MUST_CHECK;
void block_writer_clear(struct block_writer *writer);
void block_writer_fini(struct block_writer *writer);

/* A block's bytes, taken apart; borrowed. */
struct block {
    const uint8_t *data;
    const uint8_t *end; /* of the entries */
    const uint8_t *restarts;
    uint32_t restart_count;
};

enum status block_parse(struct bytes content, struct block *block) MUST_CHECK;

/* The key's entry, its value borrowed from the block and its key the one that
 * was given. NOT_FOUND, CORRUPT. */
enum status block_get(const struct block *block, struct bytes key,
                      struct entry *entry) MUST_CHECK;

/* A walk. The current entry's key is in the cursor, its value in the block. */
struct block_cursor {
    struct block block;
    const uint8_t *at;   /* of the current entry */
    const uint8_t *next; /* of the one behind */
    struct bytes value;
    bool removed;
    uint32_t key_size;
    uint8_t key[ENGINE_KEY_BYTES_MAX];
};

/* Each answers OK with a current entry, NOT_FOUND if there is none there, or
 * CORRUPT. */
enum status block_cursor_first(struct block_cursor *cursor,
                               const struct block *block) MUST_CHECK;
enum status block_cursor_last(struct block_cursor *cursor,
                              const struct block *block) MUST_CHECK;
/* The first at or behind key. */
enum status block_cursor_seek(struct block_cursor *cursor,
                              const struct block *block,
                              struct bytes key) MUST_CHECK;
/* The last before key. */
enum status block_cursor_seek_before(struct block_cursor *cursor,
                                     const struct block *block,
                                     struct bytes key) MUST_CHECK;
enum status block_cursor_next(struct block_cursor *cursor) MUST_CHECK;
enum status block_cursor_previous(struct block_cursor *cursor) MUST_CHECK;

#endif
