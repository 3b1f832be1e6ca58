/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engines/lsm/table_inside.h"

/* A walk through the index as it is in the file. */
struct walk {
    const uint8_t *at, *end;
    uint64_t block_bytes; /* with the trailer */
    size_t key_size;
    uint8_t key[ENGINE_KEY_BYTES_MAX];
};

/* False if what follows is not sound. */
static bool walk_next(struct walk *walk)
{
    uint64_t shared, size;
    struct bytes rest;
    const uint8_t *at = take_varint(walk->at, walk->end, &shared);
    at = take_bytes(at, walk->end, &rest);
    at = take_varint(at, walk->end, &size);
    if (at == NULL || shared > walk->key_size ||
        rest.size > ENGINE_KEY_BYTES_MAX - shared ||
        size > TABLE_BLOCK_BYTES_MAX)
        return false;
    struct bytes before =
        bytes_of(walk->key + shared, walk->key_size - (size_t)shared);
    bool first = walk->block_bytes == 0;
    if (!first && bytes_compare(before, rest) >= 0)
        return false;
    memcpy(walk->key + shared, rest.data, rest.size);
    walk->key_size = (size_t)shared + rest.size;
    walk->block_bytes = size + TABLE_TRAILER_BYTES;
    walk->at = at;
    return true;
}

/* The first walk: how much memory the second needs. */
static enum status measure(struct table_index *index, struct bytes content,
                           uint64_t data_bytes, size_t *rest_bytes)
{
    struct walk walk = {.at = content.data, .end = content.data + content.size};
    uint64_t blocks_bytes = 0;
    size_t keys_bytes = 0, first_size = 0;
    uint8_t first[ENGINE_KEY_BYTES_MAX];
    index->count = 0;
    while (walk.at < walk.end) {
        if (!walk_next(&walk))
            return STATUS_CORRUPT;
        if (index->count++ == 0) {
            first_size = walk.key_size;
            memcpy(first, walk.key, first_size);
        }
        blocks_bytes += walk.block_bytes;
        keys_bytes += walk.key_size;
        if (keys_bytes > UINT32_MAX)
            return STATUS_CORRUPT;
    }
    if (blocks_bytes != data_bytes)
        return STATUS_CORRUPT;
    /* They ascend, so what the ends share, all share. */
    index->shared_size = key_shared(bytes_of(first, first_size),
                                    bytes_of(walk.key, walk.key_size));
    *rest_bytes = keys_bytes - index->count * index->shared_size;
    return STATUS_OK;
}

static void fill(struct table_index *index, struct bytes content)
{
    struct walk walk = {.at = content.data, .end = content.data + content.size};
    uint64_t offset = 0;
    uint32_t place = 0;
    for (size_t i = 0; i < index->count && walk_next(&walk); i++) {
        struct bytes rest = bytes_of(walk.key + index->shared_size,
                                     walk.key_size - index->shared_size);
        index->heads[i] = key_head(rest);
        index->offsets[i] = offset;
        index->places[i] = place;
        memcpy(index->rests + place, rest.data, rest.size);
        offset += walk.block_bytes;
        place += (uint32_t)rest.size;
    }
    index->offsets[index->count] = offset;
    index->places[index->count] = place;
    memcpy(index->shared, walk.key, index->shared_size);
}

enum status table_index_parse(struct table_index *index, struct bytes content,
                              uint64_t data_bytes)
{
    size_t rest_bytes = 0;
    enum status status = measure(index, content, data_bytes, &rest_bytes);
    if (status != STATUS_OK)
        return status;
    size_t count = index->count;
    index->bytes =
        count * sizeof *index->heads + (count + 1) * sizeof *index->offsets +
        (count + 1) * sizeof *index->places + rest_bytes + index->shared_size;
    index->heads = malloc(index->bytes);
    if (index->heads == NULL)
        return STATUS_NO_MEMORY;
    index->offsets = index->heads + count;
    index->places = (uint32_t *)(index->offsets + count + 1);
    index->rests = (uint8_t *)(index->places + count + 1);
    index->shared = index->rests + rest_bytes;
    fill(index, content);
    return STATUS_OK;
}

void table_index_fini(struct table_index *index)
{
    free(index->heads);
    *index = (struct table_index){0};
}

static struct bytes rest_of(const struct table_index *index, size_t number)
{
    uint32_t place = index->places[number];
    return bytes_of(index->rests + place, index->places[number + 1] - place);
}

int table_index_compare(const struct table_index *index, size_t number,
                        struct bytes key)
{
    struct bytes shared = bytes_of(index->shared, index->shared_size);
    if (key_shared(shared, key) < shared.size)
        return bytes_compare(shared, key);
    if (key.size == 0)
        return rest_of(index, number).size > 0;
    return bytes_compare(
        rest_of(index, number),
        bytes_of(key.data + shared.size, key.size - shared.size));
}

/* The first number at or above head; count if there is none. The comparison
 * becomes a conditional move, which no branch predictor can miss. */
static size_t find_head(const struct table_index *index, uint64_t head)
{
    const uint64_t *at = index->heads;
    for (size_t left = index->count; left > 1;) {
        size_t half = left / 2;
        at = at[half - 1] < head ? at + half : at;
        left -= half;
    }
    return (size_t)(at - index->heads) + (*at < head);
}

/* The same among separators that have this head, from the number-th on. */
static size_t find_among_equals(const struct table_index *index, size_t number,
                                uint64_t head, struct bytes rest)
{
    size_t low = number, high = index->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (index->heads[middle] == head &&
            bytes_compare(rest_of(index, middle), rest) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t table_index_find(const struct table_index *index, struct bytes key)
{
    if (key.size == 0 || index->count == 0)
        return 0;
    struct bytes shared = bytes_of(index->shared, index->shared_size);
    size_t same = key_shared(shared, key);
    if (same < shared.size)
        return same < key.size && key.data[same] > shared.data[same]
                   ? index->count
                   : 0;
    struct bytes rest = bytes_of(key.data + same, key.size - same);
    uint64_t head = key_head(rest);
    size_t number = find_head(index, head);
    if (number < index->count && index->heads[number] == head)
        number = find_among_equals(index, number, head, rest);
    return number;
}
