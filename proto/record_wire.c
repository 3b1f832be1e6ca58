/* SPDX-License-Identifier: MIT */
#include "proto/record_wire.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/assert.h"
#include "proto/record_order.h"

enum { COUNT_SIZE = 4 };

void put_dot(struct writer *writer, struct dot dot)
{
    put_number(writer, dot.actor.incarnation, 8);
    put_number(writer, dot.actor.epoch, 4);
    put_number(writer, dot.counter, 8);
}

void put_context(struct writer *writer, const struct context *context)
{
    ASSERT(context->count <= UINT32_MAX);
    put_number(writer, context->count, 4);
    for (size_t i = 0; i < context->count; i++)
        put_dot(writer, context->entries[i]);
}

void put_checksum(struct writer *writer, size_t start)
{
    if (writer->status != STATUS_OK)
        return;
    const struct buffer *out = writer->out;
    put_number(writer, XXH3_64bits(out->data + start, out->size - start), 8);
}

/* Of a record as far as how many are superseded; false: of none. */
static bool split(struct bytes body, size_t *main_size)
{
    if (body.size < COUNT_SIZE)
        return false;
    size_t size = body.size - COUNT_SIZE;
    struct reader reader = {.rest = bytes_of(body.data + size, COUNT_SIZE)};
    uint64_t count = take_number(&reader, COUNT_SIZE);
    if (count > size / SUPERSEDED_SIZE)
        return false;
    *main_size = size - (size_t)count * SUPERSEDED_SIZE;
    return true;
}

void put_seals(struct writer *writer, size_t start)
{
    size_t main_size;
    if (writer->status != STATUS_OK)
        return;
    const struct buffer *out = writer->out;
    struct bytes body = bytes_of(out->data + start, out->size - start);
    if (!split(body, &main_size))
        main_size = 0;
    put_number(writer, XXH3_64bits(body.data, main_size), VERSION_SIZE);
    put_checksum(writer, start + main_size);
}

void reader_fail(struct reader *reader, enum status status)
{
    if (reader->status == STATUS_OK)
        reader->status = status;
}

size_t take_count(struct reader *reader, size_t size_min)
{
    uint64_t count = take_number(reader, 4);
    if (count > reader->rest.size / size_min)
        reader_fail(reader, STATUS_CORRUPT);
    return reader->status == STATUS_OK ? (size_t)count : 0;
}

struct dot take_dot(struct reader *reader)
{
    struct dot dot;
    dot.actor.incarnation = take_number(reader, 8);
    dot.actor.epoch = (uint32_t)take_number(reader, 4);
    dot.counter = take_number(reader, 8);
    if (dot.counter == 0)
        reader_fail(reader, STATUS_CORRUPT);
    return dot;
}

void take_context(struct reader *reader, struct context *context)
{
    *context = (struct context){0};
    size_t count = take_count(reader, DOT_SIZE);
    if (count == 0)
        return;
    struct dot *entries = arena_alloc(reader->arena, count * sizeof *entries);
    if (entries == NULL) {
        reader_fail(reader, STATUS_NO_MEMORY);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        entries[i] = take_dot(reader);
        if (i > 0 && actor_compare(entries[i - 1].actor, entries[i].actor) >= 0)
            reader_fail(reader, STATUS_CORRUPT);
    }
    *context = (struct context){.entries = entries, .count = count};
}

enum status check_checksum(struct bytes encoded, struct bytes *content)
{
    if (encoded.size < CHECKSUM_SIZE)
        return STATUS_CORRUPT;
    size_t size = encoded.size - CHECKSUM_SIZE;
    struct reader reader = {.rest =
                                bytes_of(encoded.data + size, CHECKSUM_SIZE)};
    if (take_number(&reader, 8) != XXH3_64bits(encoded.data, size))
        return STATUS_CORRUPT;
    *content = bytes_of(encoded.data, size);
    return STATUS_OK;
}

enum status check_seals(struct bytes encoded, struct bytes *main,
                        struct bytes *superseded)
{
    size_t main_size;
    if (encoded.size < VERSION_SIZE + CHECKSUM_SIZE)
        return STATUS_CORRUPT;
    struct bytes body =
        bytes_of(encoded.data, encoded.size - VERSION_SIZE - CHECKSUM_SIZE);
    if (!split(body, &main_size))
        return STATUS_CORRUPT;
    struct bytes behind =
        bytes_of(encoded.data + main_size, encoded.size - main_size);
    enum status status = check_checksum(behind, &behind);
    if (status != STATUS_OK)
        return status;
    if (record_version(encoded) != XXH3_64bits(body.data, main_size))
        return STATUS_CORRUPT;
    *main = bytes_of(body.data, main_size);
    *superseded =
        bytes_of(body.data + main_size, body.size - main_size - COUNT_SIZE);
    return STATUS_OK;
}
