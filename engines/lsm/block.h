/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_BLOCK_H
#define REPLIKV_ENGINES_LSM_BLOCK_H

#include "engines/engine.h"
#include "engines/lsm/coding.h"

/* A run of entries in key order, see FORMAT.md. What all keys of the block
 * begin with is stored once; behind it every key is as it is, and every entry
 * is a restart point with a slot that says where it lies.
 *
 * LevelDB shortens each key against the one before and has a restart point in
 * 16 entries, so that a look-up walks up to 15 of them and a step back walks
 * again. Here a look-up is a binary search over integers, most of it in the
 * few cache lines of slots and keys, and steps cost the same both ways, for
 * about a byte more an entry; keys of one partition share their long beginning
 * either way.
 *
 * A block that comes from a disk has passed its checksum, but is not trusted
 * further: block_parse checks all of it once, so that nothing behind it can
 * fail. Only the keys' order is taken for granted: where it is wrong, look-ups
 * miss, and nothing worse. */

enum {
    BLOCK_HEAD_BYTES = 6,
    BLOCK_SLOT_BYTES = 4,
    /* A key's place has 15 bits, a value's 16, but for a block of one entry,
     * whose are 0. */
    BLOCK_KEYS_MAX = INT16_MAX,
    BLOCK_VALUE_PLACE_MAX = UINT16_MAX,
    BLOCK_REMOVED = 1 << 15,
    /* Behind a block, so that reads of it may be wide. */
    BLOCK_SLACK = 8,
};

/* The first 8 bytes as a number that sorts as they do; shorter ones with zeros
 * behind them. 8 bytes may be read (wide), or not. */
static inline uint64_t key_head_wide(const uint8_t *key, size_t size)
{
    uint64_t head = __builtin_bswap64(load_u64(key));
    if (size >= sizeof head)
        return head;
    unsigned half = 4 * (unsigned)(sizeof head - size); /* 64 is no shift */
    return head >> half >> half << half << half;
}

static inline uint64_t key_head(struct bytes key)
{
    if (key.size >= sizeof(uint64_t))
        return key_head_wide(key.data, key.size);
    uint8_t start[sizeof(uint64_t)] = {0};
    if (key.size > 0)
        memcpy(start, key.data, key.size);
    return __builtin_bswap64(load_u64(start));
}

/* How many bytes they have in common at the start. */
static inline size_t key_shared(struct bytes a, struct bytes b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;
    size_t i = 0;
    for (; i + 8 <= shorter; i += 8) {
        uint64_t differ = load_u64(a.data + i) ^ load_u64(b.data + i);
        if (differ != 0)
            return i + (size_t)__builtin_ctzll(differ) / 8;
    }
    while (i < shorter && a.data[i] == b.data[i])
        i++;
    return i;
}

/* Zeroed memory is an empty writer. */
struct block_writer {
    struct buffer keys;   /* in full, one behind another */
    struct buffer places; /* struct place of block_writer.c each */
    /* The values, behind room for what comes before them. */
    struct buffer content;
    uint32_t count;
    uint32_t first_size; /* of the first key */
    uint32_t last_size;
    uint32_t prefix_size; /* of what all keys share */
};

/* Keys ascend strictly; the key is at most ENGINE_KEY_BYTES_MAX long; a removed
 * entry's value is ignored. TOO_LARGE if the block has entries and the place of
 * this one does not fit into a slot; a block below 32 KiB takes any. */
enum status block_writer_add(struct block_writer *writer,
                             const struct entry *entry) MUST_CHECK;
/* Of the block if it were finished now, or with entry in it, too. */
size_t block_writer_bytes(const struct block_writer *writer);
size_t block_writer_bytes_with(const struct block_writer *writer,
                               const struct entry *entry);
/* The last key added, until the next one is. */
struct bytes block_writer_last(const struct block_writer *writer);
/* The block's bytes, valid until block_writer_clear. It has an entry. */
enum status block_writer_finish(struct block_writer *writer,
                                struct bytes *content) MUST_CHECK;
/* Keeps the memory. */
void block_writer_clear(struct block_writer *writer);
void block_writer_fini(struct block_writer *writer);

/* A block's bytes, taken apart; borrowed. */
struct block {
    const uint8_t *slots;
    const uint8_t *prefix;
    const uint8_t *keys; /* what is behind the prefix */
    const uint8_t *values;
    size_t values_size;
    uint32_t count; /* at least 1 */
    uint32_t prefix_size;
    uint32_t keys_size;
};

/* Take apart bytes that block_parse found sound before. BLOCK_SLACK bytes
 * behind them may be read. */
static inline struct block block_of(const uint8_t *data, size_t size)
{
    struct block block;
    block.count = (uint32_t)(data[0] | data[1] << 8);
    block.prefix_size = (uint32_t)(data[2] | data[3] << 8);
    block.keys_size = (uint32_t)(data[4] | data[5] << 8);
    block.slots = data + BLOCK_HEAD_BYTES;
    block.prefix = block.slots + (size_t)block.count * BLOCK_SLOT_BYTES;
    block.keys = block.prefix + block.prefix_size;
    block.values = block.keys + block.keys_size;
    block.values_size = size - (size_t)(block.values - data);
    return block;
}

/* Check bytes from a disk, all but the keys' order, and take them apart; or
 * CORRUPT. */
enum status block_parse(struct bytes content, struct block *block) MUST_CHECK;

/* The key's entry, its value borrowed from the block and its key the one that
 * was given; or NOT_FOUND. */
enum status block_get(const struct block *block, struct bytes key,
                      struct entry *entry) MUST_CHECK;

/* The number of the first entry at or behind key; count if there is none. */
uint32_t block_search(const struct block *block, struct bytes key);

/* Where the number-th entry is. */
struct block_place {
    const uint8_t *key; /* behind the prefix */
    uint32_t key_size;
    bool removed;
    struct bytes value;
};

static inline struct block_place block_at(const struct block *block,
                                          uint32_t number)
{
    const uint8_t *slot = block->slots + (size_t)number * BLOCK_SLOT_BYTES;
    uint32_t from = load_u32(slot);
    uint32_t key = from & BLOCK_KEYS_MAX;
    uint32_t value = from >> 16;
    uint32_t key_end = block->keys_size;
    size_t value_end = block->values_size;
    if (number + 1 < block->count) {
        uint32_t to = load_u32(slot + BLOCK_SLOT_BYTES);
        key_end = to & BLOCK_KEYS_MAX;
        value_end = to >> 16;
    }
    return (struct block_place){
        .key = block->keys + key,
        .key_size = key_end - key,
        .removed = (from & BLOCK_REMOVED) != 0,
        .value = {block->values + value, value_end - value},
    };
}

/* A walk. The current entry's key is in the cursor, its value in the block. */
struct block_cursor {
    struct block block;
    uint32_t number; /* of the current entry */
    uint32_t key_size;
    bool removed;
    struct bytes value;
    uint8_t key[ENGINE_KEY_BYTES_MAX + BLOCK_SLACK];
};

/* Begin with a block, at no entry yet. */
static inline void block_cursor_init(struct block_cursor *cursor,
                                     const struct block *block)
{
    cursor->block = *block;
    memcpy(cursor->key, block->prefix, block->prefix_size);
}

/* Go to an entry. True if there is one of this number; otherwise nothing
 * changes. A step is block_cursor_move(cursor, cursor->number + 1), or - 1,
 * since there is none of the number that is behind 0. */
static inline bool block_cursor_move(struct block_cursor *cursor,
                                     uint32_t number)
{
    if (number >= cursor->block.count)
        return false;
    struct block_place place = block_at(&cursor->block, number);
    uint8_t *rest = cursor->key + cursor->block.prefix_size;
    for (uint32_t i = 0; i < place.key_size; i += 8)
        memcpy(rest + i, place.key + i, 8);
    cursor->number = number;
    cursor->key_size = cursor->block.prefix_size + place.key_size;
    cursor->removed = place.removed;
    cursor->value = place.value;
    return true;
}

#endif
