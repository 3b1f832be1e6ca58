/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

#include <stdio.h>

static ProtobufCBinaryData text(const char *string)
{
    return binary_of_bytes(bytes_of_string(string));
}

Rkv__Write *write_of(struct fixture *f, const char *key, const char *value)
{
    Rkv__Write *write = message_new(&f->arena, &rkv__write__descriptor);
    write->key = text(key);
    write->value = text(value);
    return write;
}

Rkv__Read *read_of(struct fixture *f, const char *key)
{
    Rkv__Read *read = message_new(&f->arena, &rkv__read__descriptor);
    read->key = text(key);
    return read;
}

Rkv__Store *store_of(struct fixture *f, const char *key, struct bytes record)
{
    Rkv__Store *store = message_new(&f->arena, &rkv__store__descriptor);
    store->bucket = bucket_id_of("default").value;
    store->key = text(key);
    store->record = binary_of_bytes(record);
    return store;
}

Rkv__Fetch *fetch_of(struct fixture *f, const char *key)
{
    Rkv__Fetch *fetch = message_new(&f->arena, &rkv__fetch__descriptor);
    fetch->bucket = bucket_id_of("default").value;
    fetch->key = text(key);
    return fetch;
}

void put(struct fixture *f, int64_t now_ms, uint64_t token, Rkv__Write *write)
{
    client(f, now_ms, token, RKV__ENVELOPE__BODY_WRITE, write);
}

void get(struct fixture *f, int64_t now_ms, uint64_t token, Rkv__Read *read)
{
    client(f, now_ms, token, RKV__ENVELOPE__BODY_READ, read);
}

uint64_t counter_of(const struct fixture *f, const char *name)
{
    for (size_t i = 0; i < node_counter_count(); i++)
        if (strcmp(node_counter_name(i), name) == 0)
            return node_counter(f->node, i);
    fail_msg("no counter is called %s", name);
    return 0;
}

/* --- records --- */

static struct bytes encoded(struct fixture *f, const struct record *record)
{
    struct buffer buffer = {0};
    assert_int_equal(record_encode(record, &buffer), STATUS_OK);
    struct bytes copy =
        bytes_of(arena_copy(&f->arena, buffer.data, buffer.size), buffer.size);
    buffer_fini(&buffer);
    return copy;
}

struct bytes record_of(struct fixture *f, int node, uint64_t counter,
                       const char *value)
{
    struct dot dot = {.actor = {.incarnation = (uint64_t)node, .epoch = 1},
                      .counter = counter};
    struct value only = {
        .dots = &dot,
        .dot_count = 1,
        .request = {.bytes = {(uint8_t)node, (uint8_t)counter, 0xff}},
        .written_ms = 1000000,
        .data = bytes_of_string(value)};
    struct record record = {.kind = RECORD_SIBLINGS,
                            .context = {.entries = &dot, .count = 1},
                            .values = &only,
                            .value_count = 1};
    return encoded(f, &record);
}

struct bytes merged(struct fixture *f, struct bytes a, struct bytes b)
{
    struct record left, right, both;
    assert_int_equal(record_decode(a, &f->arena, &left), STATUS_OK);
    assert_int_equal(record_decode(b, &f->arena, &right), STATUS_OK);
    assert_int_equal(
        record_merge(&left, &right, 1000000, 60000, &f->arena, &both),
        STATUS_OK);
    return encoded(f, &both);
}

const char *values_of(struct fixture *f, struct bytes encoded_record)
{
    struct record record;
    if (encoded_record.size == 0)
        return "nothing";
    assert_int_equal(record_decode(encoded_record, &f->arena, &record),
                     STATUS_OK);
    char *text = arena_string(&f->arena, "");
    for (size_t i = 0; i < record.value_count; i++) {
        const struct value *value = &record.values[i];
        char *longer =
            arena_alloc(&f->arena, strlen(text) + value->data.size + 16);
        sprintf(longer, "%s%s%.*s", text, i == 0 ? "" : "|",
                value->tombstone ? 1 : (int)value->data.size,
                value->tombstone ? "-" : (const char *)value->data.data);
        text = longer;
    }
    return text;
}
