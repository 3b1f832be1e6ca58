/* SPDX-License-Identifier: MIT */
#include "engines/lsm/block.h"

#include "proto/assert.h"

enum {
    /* Before the values: head, slots and keys of some dozen entries, so that
     * a finished block is nearly always made where it lies. More than head,
     * slot and key of one entry, whose value may be huge. */
    ROOM_BYTES = 1024,
};

struct place {
    uint32_t key;   /* in keys */
    uint32_t value; /* among the values */
    bool removed;
};

static struct bytes first_key(const struct block_writer *writer)
{
    return bytes_of(writer->keys.data, writer->first_size);
}

struct bytes block_writer_last(const struct block_writer *writer)
{
    size_t size = writer->last_size;
    return bytes_of(writer->keys.data + writer->keys.size - size, size);
}

static size_t values_size(const struct block_writer *writer)
{
    return writer->count == 0 ? 0 : writer->content.size - ROOM_BYTES;
}

static struct bytes value_of(const struct entry *entry)
{
    return entry->removed ? bytes_of(NULL, 0) : entry->value;
}

/* What is before the values. */
static size_t front_size(size_t count, size_t keys, size_t prefix)
{
    return BLOCK_HEAD_BYTES + count * BLOCK_SLOT_BYTES + prefix +
           (keys - count * prefix);
}

/* Of what all keys share, with key among them. */
static size_t prefix_with(const struct block_writer *writer, struct bytes key)
{
    if (writer->count == 0)
        return key.size;
    size_t shared = key_shared(first_key(writer), key);
    return shared < writer->prefix_size ? shared : writer->prefix_size;
}

size_t block_writer_bytes(const struct block_writer *writer)
{
    return front_size(writer->count, writer->keys.size, writer->prefix_size) +
           values_size(writer);
}

size_t block_writer_bytes_with(const struct block_writer *writer,
                               const struct entry *entry)
{
    return front_size(writer->count + 1, writer->keys.size + entry->key.size,
                      prefix_with(writer, entry->key)) +
           values_size(writer) + value_of(entry).size;
}

enum status block_writer_add(struct block_writer *writer,
                             const struct entry *entry)
{
    ASSERT(entry->key.size <= ENGINE_KEY_BYTES_MAX);
    size_t prefix = prefix_with(writer, entry->key);
    size_t keys = writer->keys.size + entry->key.size;
    if (writer->count > 0 &&
        (keys - (writer->count + 1) * prefix > BLOCK_KEYS_MAX ||
         values_size(writer) > BLOCK_VALUE_PLACE_MAX ||
         writer->count == UINT16_MAX))
        return STATUS_TOO_LARGE;
    struct place place = {.key = (uint32_t)writer->keys.size,
                          .value = (uint32_t)values_size(writer),
                          .removed = entry->removed};
    struct bytes value = value_of(entry);
    size_t room = writer->count == 0 ? ROOM_BYTES : 0;
    enum status status = buffer_reserve(&writer->content, room + value.size);
    if (status == STATUS_OK)
        status = buffer_append(&writer->places, bytes_of(&place, sizeof place));
    if (status == STATUS_OK) /* and one more, so that there is memory */
        status = buffer_reserve(&writer->keys, entry->key.size + 1);
    if (status == STATUS_OK)
        status = buffer_append(&writer->keys, entry->key);
    if (status != STATUS_OK)
        return status;
    writer->content.size += room;
    if (value.size > 0)
        memcpy(writer->content.data + writer->content.size, value.data,
               value.size);
    writer->content.size += value.size;
    if (writer->count++ == 0)
        writer->first_size = (uint32_t)entry->key.size;
    writer->last_size = (uint32_t)entry->key.size;
    writer->prefix_size = (uint32_t)prefix;
    return STATUS_OK;
}

static uint8_t *put_u16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    return at + 2;
}

static void put_front(const struct block_writer *writer, uint8_t *at)
{
    const uint8_t *keys = writer->keys.data;
    size_t count = writer->count;
    size_t prefix = writer->prefix_size;
    at = put_u16(at, count);
    at = put_u16(at, prefix);
    at = put_u16(at, writer->keys.size - count * prefix);
    uint8_t *rest = at + count * BLOCK_SLOT_BYTES;
    memcpy(rest, keys, prefix);
    rest += prefix;
    const uint8_t *start = rest;
    struct place place, next;
    memcpy(&next, writer->places.data, sizeof next);
    for (size_t i = 0; i < count; i++) {
        place = next;
        next.key = (uint32_t)writer->keys.size;
        if (i + 1 < count)
            memcpy(&next, writer->places.data + (i + 1) * sizeof next,
                   sizeof next);
        at = put_u32(at, (uint32_t)(rest - start) |
                             (place.removed ? BLOCK_REMOVED : 0) |
                             place.value << 16);
        size_t size = next.key - place.key - prefix;
        memcpy(rest, keys + place.key + prefix, size);
        rest += size;
    }
}

enum status block_writer_finish(struct block_writer *writer,
                                struct bytes *content)
{
    ASSERT(writer->count > 0);
    size_t front =
        front_size(writer->count, writer->keys.size, writer->prefix_size);
    size_t values = values_size(writer);
    size_t room = ROOM_BYTES;
    if (front > room) {
        enum status status = buffer_reserve(&writer->content, front - room);
        if (status != STATUS_OK)
            return status;
        memmove(writer->content.data + front, writer->content.data + room,
                values);
        room = front;
    }
    uint8_t *start = writer->content.data + room - front;
    put_front(writer, start);
    *content = bytes_of(start, front + values);
    return STATUS_OK;
}

void block_writer_clear(struct block_writer *writer)
{
    buffer_clear(&writer->keys);
    buffer_clear(&writer->places);
    buffer_clear(&writer->content);
    writer->count = 0;
    writer->prefix_size = 0;
}

void block_writer_fini(struct block_writer *writer)
{
    buffer_fini(&writer->keys);
    buffer_fini(&writer->places);
    buffer_fini(&writer->content);
    *writer = (struct block_writer){0};
}
