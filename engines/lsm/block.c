/* SPDX-License-Identifier: MIT */
#include "engines/lsm/block.h"

enum {
    LINE_BYTES = 64, /* of a processor's caches */
    /* A block of 4 KiB with values of 100 bytes has 10 lines of slots and
     * keys; processors fetch about as many at once. */
    PREFETCH_LINES = 12,
};

/* Places begin at 0, never go back, and leave no key too long. */
static bool slots_are_sound(const struct block *block)
{
    uint32_t key = 0, value = 0;
    uint32_t rest_max = ENGINE_KEY_BYTES_MAX - block->prefix_size;
    for (uint32_t i = 0; i < block->count; i++) {
        uint32_t slot = load_u32(block->slots + (size_t)i * BLOCK_SLOT_BYTES);
        uint32_t next_key = slot & BLOCK_KEYS_MAX, next_value = slot >> 16;
        if (i == 0 ? (next_key | next_value) != 0
                   : next_key < key || next_key - key > rest_max ||
                         next_value < value)
            return false;
        key = next_key;
        value = next_value;
    }
    return key <= block->keys_size && block->keys_size - key <= rest_max &&
           value <= block->values_size;
}

enum status block_parse(struct bytes content, struct block *block)
{
    if (content.size < BLOCK_HEAD_BYTES + BLOCK_SLOT_BYTES)
        return STATUS_CORRUPT;
    *block = (struct block){0};
    size_t front = BLOCK_HEAD_BYTES;
    front +=
        (size_t)(content.data[0] | content.data[1] << 8) * BLOCK_SLOT_BYTES;
    front += (size_t)(content.data[2] | content.data[3] << 8);
    front += (size_t)(content.data[4] | content.data[5] << 8);
    if (front > content.size)
        return STATUS_CORRUPT;
    *block = block_of(content.data, content.size);
    return block->count > 0 && block->prefix_size <= ENGINE_KEY_BYTES_MAX &&
                   slots_are_sound(block)
               ? STATUS_OK
               : STATUS_CORRUPT;
}

/* Fetch what is searched from memory at once, since the steps of a search wait
 * for each other. Conditional moves in place of the branches measured slower:
 * a guess that is right half of the time reads ahead, too. */
static void prefetch(const struct block *block)
{
    const uint8_t *at = block->slots;
    for (int line = 0; line < PREFETCH_LINES && at < block->values; line++) {
        __builtin_prefetch(at);
        at += LINE_BYTES;
    }
}

uint32_t block_search(const struct block *block, struct bytes key)
{
    if (key.size == 0)
        return 0;
    struct bytes prefix = bytes_of(block->prefix, block->prefix_size);
    size_t shared = key_shared(prefix, key);
    if (shared < prefix.size)
        return shared < key.size && key.data[shared] > prefix.data[shared]
                   ? block->count
                   : 0;
    struct bytes rest = bytes_of(key.data + shared, key.size - shared);
    uint64_t head = key_head(rest);
    prefetch(block);
    uint32_t low = 0, left = block->count;
    while (left > 0) {
        uint32_t half = left / 2;
        struct block_place at = block_at(block, low + half);
        uint64_t other = key_head_wide(at.key, at.key_size);
        bool less = other < head;
        if (other == head)
            less = bytes_compare(bytes_of(at.key, at.key_size), rest) < 0;
        low = less ? low + half + 1 : low;
        left = less ? left - half - 1 : half;
    }
    return low;
}

enum status block_get(const struct block *block, struct bytes key,
                      struct entry *entry)
{
    uint32_t number = block_search(block, key);
    if (number == block->count)
        return STATUS_NOT_FOUND;
    struct block_place at = block_at(block, number);
    size_t prefix = block->prefix_size;
    if (key.size != prefix + at.key_size)
        return STATUS_NOT_FOUND;
    if (key.size > 0 && (memcmp(key.data, block->prefix, prefix) != 0 ||
                         memcmp(key.data + prefix, at.key, at.key_size) != 0))
        return STATUS_NOT_FOUND;
    *entry =
        (struct entry){.key = key, .value = at.value, .removed = at.removed};
    return STATUS_OK;
}
