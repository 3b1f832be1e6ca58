/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proxy/core/replica.h"

/* table (1) + target (16, hints only) + partition (2) + bucket (4) + key */
enum {
    PREFIX_DATA = 7,
    PREFIX_HINTS = 23,
    PREFIX_META = 1,
};
_Static_assert(STORAGE_KEY_BYTES_MAX == PREFIX_HINTS + KEY_BYTES_MAX,
               "the longest has all of it");

static size_t put_prefix(const struct storage_key *key, uint8_t *out)
{
    size_t size = 0;
    out[size++] = (uint8_t)key->table;
    if (key->table == TABLE_META || key->table == TABLE_TREES)
        return size;
    if (key->table == TABLE_HINTS) {
        memcpy(out + size, key->target.bytes, NODE_ID_SIZE);
        size += NODE_ID_SIZE;
    }
    uint16_t partition = key->partition.value;
    uint32_t bucket = key->bucket.value;
    out[size++] = (uint8_t)(partition >> 8);
    out[size++] = (uint8_t)partition;
    out[size++] = (uint8_t)(bucket >> 24);
    out[size++] = (uint8_t)(bucket >> 16);
    out[size++] = (uint8_t)(bucket >> 8);
    out[size++] = (uint8_t)bucket;
    return size;
}

enum status storage_key_encode(const struct storage_key *key,
                               struct buffer *out)
{
    ASSERT(key->key.size > 0 && key->key.size <= KEY_BYTES_MAX);
    uint8_t prefix[PREFIX_HINTS];
    size_t size = put_prefix(key, prefix);
    enum status status = buffer_reserve(out, size + key->key.size);
    if (status != STATUS_OK)
        return status;
    status = buffer_append(out, bytes_of(prefix, size));
    return status == STATUS_OK ? buffer_append(out, key->key) : status;
}

static void get_prefix(const uint8_t *at, struct storage_key *key)
{
    key->partition.value = (uint16_t)(at[0] << 8 | at[1]);
    key->bucket.value = (uint32_t)at[2] << 24 | (uint32_t)at[3] << 16 |
                        (uint32_t)at[4] << 8 | at[5];
}

enum status storage_key_decode(struct bytes encoded, struct storage_key *key)
{
    *key = (struct storage_key){0};
    if (encoded.size == 0)
        return STATUS_CORRUPT;
    size_t prefix;
    switch (encoded.data[0]) {
    case TABLE_DATA:
        prefix = PREFIX_DATA;
        break;
    case TABLE_HINTS:
        prefix = PREFIX_HINTS;
        break;
    case TABLE_META:
    case TABLE_TREES:
        prefix = PREFIX_META;
        break;
    default:
        return STATUS_CORRUPT;
    }
    if (encoded.size <= prefix || encoded.size > prefix + KEY_BYTES_MAX)
        return STATUS_CORRUPT;
    key->table = (enum table)encoded.data[0];
    if (key->table == TABLE_HINTS)
        memcpy(key->target.bytes, encoded.data + 1, NODE_ID_SIZE);
    if (key->table == TABLE_DATA || key->table == TABLE_HINTS)
        get_prefix(encoded.data + prefix - 6, key);
    key->key = bytes_of(encoded.data + prefix, encoded.size - prefix);
    return STATUS_OK;
}

/* The fixed bytes that every key of the scanned range begins with. */
static size_t scan_prefix(const struct storage_key *key, uint8_t *out)
{
    size_t size = put_prefix(key, out);
    switch (key->table) {
    case TABLE_DATA:
        /* Of no bucket: all of the partition. */
        return key->bucket.value == 0 ? size - 4 : size;
    case TABLE_HINTS:
        /* All partitions of the target; of no target, all hints. */
        return node_id_is_zero(key->target) ? 1 : 1 + NODE_ID_SIZE;
    case TABLE_META:
    case TABLE_TREES:
        return size;
    }
    return size;
}

/* The first key beyond all that begin with prefix: add one, carrying over 0xff
 * bytes. The table's byte is a letter, so there is one to carry into. */
static size_t add_one(uint8_t *prefix, size_t size)
{
    while (prefix[size - 1] == 0xff)
        size--;
    prefix[size - 1]++;
    return size;
}

/* The first key behind after, which is in the scanned range: the same with a
 * zero byte more. No key is longer than the longest: behind that one comes what
 * is beyond all that would begin with it. */
static enum status range_behind(struct bytes after, struct buffer *from)
{
    bool is_longest = after.size >= STORAGE_KEY_BYTES_MAX;
    if (is_longest)
        after.size = STORAGE_KEY_BYTES_MAX;
    enum status status = buffer_append(from, after);
    if (status == STATUS_OK && !is_longest)
        status = buffer_append(from, bytes_of("", 1));
    if (status == STATUS_OK && is_longest)
        from->size = add_one(from->data, from->size);
    return status;
}

enum status storage_scan_range(const struct storage_op *scan,
                               struct buffer *from, struct buffer *to)
{
    uint8_t first[PREFIX_HINTS], end[PREFIX_HINTS];
    size_t size = scan_prefix(&scan->key, first);
    memcpy(end, first, size);
    size_t end_size = add_one(end, size);
    buffer_clear(from);
    buffer_clear(to);
    enum status status = buffer_append(to, bytes_of(end, end_size));
    if (status != STATUS_OK)
        return status;
    /* after may come from a client: outside of the range it is no place. */
    if (bytes_compare(scan->after, bytes_of(first, size)) <= 0)
        return buffer_append(from, bytes_of(first, size));
    if (bytes_compare(scan->after, buffer_bytes(to)) >= 0)
        return buffer_append(from, buffer_bytes(to));
    return range_behind(scan->after, from);
}
