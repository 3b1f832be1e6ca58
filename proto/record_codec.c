/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proto/record.h"
#include "proto/record_order.h"
#include "proto/record_wire.h"

static void put_value(struct writer *writer, const struct value *value)
{
    ASSERT(value->dot_count > 0 && value->dot_count <= UINT32_MAX);
    ASSERT(value->data.size <= UINT32_MAX);
    put_number(writer, value->dot_count, 4);
    for (size_t i = 0; i < value->dot_count; i++)
        put_dot(writer, value->dots[i]);
    put_bytes(writer, bytes_of(value->request.bytes, REQUEST_ID_SIZE));
    put_number(writer, (uint64_t)value->written_ms, 8);
    put_number(writer, value->stamp, 8);
    ASSERT(value->expires_ms >= 0 &&
           (!value->tombstone || value->expires_ms == 0));
    put_number(writer,
               value->tombstone         ? VALUE_TOMBSTONE
               : value->expires_ms != 0 ? VALUE_EXPIRES
                                        : VALUE_STAYS,
               1);
    if (value->expires_ms != 0)
        put_number(writer, (uint64_t)value->expires_ms, 8);
    put_number(writer, value->data.size, 4);
    put_bytes(writer, value->data);
}

static void put_superseded(struct writer *writer, const struct superseded *gone)
{
    put_bytes(writer, bytes_of(gone->request.bytes, REQUEST_ID_SIZE));
    put_dot(writer, gone->dot);
    put_number(writer, (uint64_t)gone->written_ms, 8);
}

enum status record_encode(const struct record *record, struct buffer *out)
{
    ASSERT(record->value_count <= UINT32_MAX);
    ASSERT(record->superseded_count <= DEDUP_ENTRIES_MAX);
    size_t start = out->size;
    struct writer writer = {.out = out};
    put_number(&writer, RECORD_FORMAT, 1);
    put_number(&writer, record->kind, 1);
    put_context(&writer, &record->context);
    put_number(&writer, record->value_count, 4);
    for (size_t i = 0; i < record->value_count; i++)
        put_value(&writer, &record->values[i]);
    for (size_t i = 0; i < record->superseded_count; i++)
        put_superseded(&writer, &record->superseded[i]);
    put_number(&writer, record->superseded_count, 4);
    put_seals(&writer, start);
    if (writer.status != STATUS_OK)
        out->size = start;
    return writer.status;
}

static struct request_id take_request(struct reader *reader)
{
    struct request_id request = {{0}};
    struct bytes bytes = take_bytes(reader, REQUEST_ID_SIZE);
    if (bytes.size == REQUEST_ID_SIZE)
        memcpy(request.bytes, bytes.data, REQUEST_ID_SIZE);
    if (request_id_is_zero(request))
        reader_fail(reader, STATUS_CORRUPT);
    return request;
}

static void take_dots(struct reader *reader, const struct context *context,
                      struct value *value)
{
    size_t count = take_count(reader, DOT_SIZE);
    if (count == 0) {
        reader_fail(reader, STATUS_CORRUPT);
        return;
    }
    value->dots = arena_alloc(reader->arena, count * sizeof *value->dots);
    if (value->dots == NULL) {
        reader_fail(reader, STATUS_NO_MEMORY);
        return;
    }
    value->dot_count = count;
    for (size_t i = 0; i < count; i++) {
        value->dots[i] = take_dot(reader);
        if (i > 0 && dot_compare(value->dots[i - 1], value->dots[i]) >= 0)
            reader_fail(reader, STATUS_CORRUPT);
        if (!context_covers(context, value->dots[i]))
            reader_fail(reader, STATUS_CORRUPT);
    }
}

static void take_value(struct reader *reader, const struct context *context,
                       struct value *value)
{
    *value = (struct value){0};
    take_dots(reader, context, value);
    value->request = take_request(reader);
    value->written_ms = (int64_t)take_number(reader, 8);
    value->stamp = take_number(reader, 8);
    uint64_t life = take_number(reader, 1);
    value->tombstone = life == VALUE_TOMBSTONE;
    if (life == VALUE_EXPIRES)
        value->expires_ms = (int64_t)take_number(reader, 8);
    value->data = take_bytes(reader, (size_t)take_number(reader, 4));
    if (life > VALUE_EXPIRES ||
        (life == VALUE_EXPIRES && value->expires_ms <= 0) ||
        (value->tombstone && value->data.size > 0))
        reader_fail(reader, STATUS_CORRUPT);
}

static void take_values(struct reader *reader, struct record *record)
{
    size_t count = take_count(reader, VALUE_SIZE_MIN);
    if (record->kind == RECORD_LWW && count > 1)
        reader_fail(reader, STATUS_CORRUPT);
    if (count == 0 || reader->status != STATUS_OK)
        return;
    struct value *values = arena_alloc(reader->arena, count * sizeof *values);
    if (values == NULL) {
        reader_fail(reader, STATUS_NO_MEMORY);
        return;
    }
    for (size_t i = 0; i < count && reader->status == STATUS_OK; i++) {
        take_value(reader, &record->context, &values[i]);
        if (reader->status == STATUS_OK && i > 0 &&
            dot_compare(values[i - 1].dots[0], values[i].dots[0]) >= 0)
            reader_fail(reader, STATUS_CORRUPT);
    }
    record->values = values;
    record->value_count = count;
}

static void take_superseded(struct reader *reader, struct record *record)
{
    size_t count = reader->rest.size / SUPERSEDED_SIZE;
    if (count > DEDUP_ENTRIES_MAX)
        reader_fail(reader, STATUS_CORRUPT);
    if (count == 0 || reader->status != STATUS_OK)
        return;
    struct superseded *list = arena_alloc(reader->arena, count * sizeof *list);
    if (list == NULL) {
        reader_fail(reader, STATUS_NO_MEMORY);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        list[i].request = take_request(reader);
        list[i].dot = take_dot(reader);
        list[i].written_ms = (int64_t)take_number(reader, 8);
        if (i > 0 && superseded_compare(&list[i - 1], &list[i]) >= 0)
            reader_fail(reader, STATUS_CORRUPT);
        if (!context_covers(&record->context, list[i].dot))
            reader_fail(reader, STATUS_CORRUPT);
    }
    record->superseded = list;
    record->superseded_count = count;
}

static int compare_dots(const void *a, const void *b)
{
    const struct dot *left = a;
    const struct dot *right = b;
    return dot_compare(*left, *right);
}

/* A request is live once or superseded once. */
static enum status check_requests(const struct record *record,
                                  struct arena *arena)
{
    struct request_places met;
    enum status status = request_places_init(
        &met, record->value_count + record->superseded_count, arena);
    bool again = false;
    for (size_t i = 0; i < record->value_count && status == STATUS_OK; i++)
        again |= (*request_place(&met, &record->values[i].request))++ > 0;
    for (size_t i = 0; i < record->superseded_count && status == STATUS_OK; i++)
        again |= (*request_place(&met, &record->superseded[i].request))++ > 0;
    return again ? STATUS_CORRUPT : status;
}

/* A dot made one value. */
static enum status check_dots(const struct record *record, struct arena *arena)
{
    size_t count = 0;
    for (size_t i = 0; i < record->value_count; i++)
        count += record->values[i].dot_count;
    const void **dots = arena_alloc(arena, count * sizeof *dots);
    if (dots == NULL)
        return STATUS_NO_MEMORY;
    count = 0;
    for (size_t i = 0; i < record->value_count; i++)
        for (size_t k = 0; k < record->values[i].dot_count; k++)
            dots[count++] = &record->values[i].dots[k];
    sort_pointers(dots, count, compare_dots);
    for (size_t i = 1; i < count; i++)
        if (compare_dots(dots[i - 1], dots[i]) == 0)
            return STATUS_CORRUPT;
    return STATUS_OK;
}

static enum status check_distinct(const struct record *record,
                                  struct arena *arena)
{
    if (record->value_count + record->superseded_count < 2)
        return STATUS_OK; /* the dots of one value are in order */
    enum status status = check_requests(record, arena);
    return status == STATUS_OK ? check_dots(record, arena) : status;
}

enum status record_decode(struct bytes encoded, struct arena *arena,
                          struct record *record)
{
    *record = (struct record){0};
    struct reader reader = {.arena = arena};
    struct bytes superseded;
    enum status status = check_seals(encoded, &reader.rest, &superseded);
    if (status != STATUS_OK)
        return status;
    uint64_t format = take_number(&reader, 1);
    if (format > RECORD_FORMAT)
        return STATUS_UNSUPPORTED;
    uint64_t kind = take_number(&reader, 1);
    if (format != RECORD_FORMAT || kind > RECORD_LWW)
        return STATUS_CORRUPT;
    struct record decoded = record_empty((enum record_kind)kind);
    take_context(&reader, &decoded.context);
    take_values(&reader, &decoded);
    if (reader.rest.size != 0)
        reader_fail(&reader, STATUS_CORRUPT);
    reader.rest = superseded;
    take_superseded(&reader, &decoded);
    if (reader.status != STATUS_OK)
        return reader.status;
    status = check_distinct(&decoded, arena);
    if (status == STATUS_OK)
        *record = decoded;
    return status;
}

uint64_t record_version(struct bytes encoded)
{
    size_t tail = VERSION_SIZE + CHECKSUM_SIZE;
    if (encoded.size < tail)
        return 0;
    struct reader reader = {
        .rest = bytes_of(encoded.data + encoded.size - tail, VERSION_SIZE)};
    return take_number(&reader, VERSION_SIZE);
}
