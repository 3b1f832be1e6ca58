/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/envelope.h"
#include "proxy/core/event_codec.h"

enum { ROOM = 1 << 16 };

static uint8_t encoded[ROOM];

static struct bytes encode(const struct event *event)
{
    size_t most = event_bytes_max(event);
    assert_true(most <= ROOM);
    size_t size = (size_t)(event_encode(event, encoded) - encoded);
    assert_true(size <= most);
    return bytes_of(encoded, size);
}

/* A decoded event is the same if it encodes to the same, and has what the
 * other has; what is not encoded is not compared. */
static void expect_same(const struct event *a, const struct event *b)
{
    static uint8_t first[ROOM];
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->now_us, b->now_us);
    assert_int_equal(a->wall_ms, b->wall_ms);
    assert_true(node_id_equal(a->from, b->from));
    assert_true(a->token.value == b->token.value);
    assert_true(a->request == b->request);
    assert_int_equal(a->message == NULL, b->message == NULL);
    assert_int_equal(a->storage == NULL, b->storage == NULL);
    struct bytes bytes = encode(a);
    memcpy(first, bytes.data, bytes.size);
    size_t size = bytes.size;
    bytes = encode(b);
    assert_int_equal(bytes.size, size);
    assert_memory_equal(bytes.data, first, size);
}

static const struct node_id n2 = {{2, 3, 4}};
enum { PLAIN = EVENT_LEAVE + 1, RESULTS = STORAGE_SET + 1 };

/* Of an operation of the kind, with all that there may be. */
static const struct storage_result *result_of(enum storage_kind kind, bool even)
{
    static struct storage_row rows[2];
    static struct storage_op op;
    static struct storage_result result;
    op = (struct storage_op){
        .kind = kind,
        .token = request_number(OWNER_WRITE, 5),
        .reply_token = 9,
        .asked_us = -1,
        .key = {TABLE_HINTS, n2, {65535}, {0xffffffff}, bytes_of_string("k")},
        .request = {{1, 2}},
        .data = bytes_of_string("filter"),
        .after = bytes_of_string("after"),
        .bytes_max = 77,
    };
    rows[0] = (struct storage_row){.key = {.table = TABLE_META},
                                   .record = bytes_of_string("r")};
    rows[1].key = op.key;
    result = (struct storage_result){
        .op = &op,
        .status = STATUS_STALE,
        .message = even ? NULL : "why",
        .record = bytes_of_string("record"),
        .duplicate = true,
        .was_damaged = even,
        .prepared_us = 1,
        .records_delta = -1,
        .bytes_delta = INT64_MIN,
        .version_before = UINT64_MAX,
        .version_after = 3,
        .ripe_ms = INT64_MAX,
        .rows = rows,
        .row_count = kind == STORAGE_SCAN ? 2 : 0,
        .next = bytes_of_string("next"),
        .done = true,
        .passed_damage = true,
    };
    return &result;
}

/* One of every kind, as it came or to be packed. */
static const Rkv__Envelope *message_of(struct bytes *packed)
{
    static Rkv__Read read = RKV__READ__INIT;
    static Rkv__Envelope message = RKV__ENVELOPE__INIT;
    static uint8_t bytes[64];
    read.key = binary_of_bytes(bytes_of_string("key"));
    message.version = PROTOCOL_VERSION_MAX;
    message.body_case = RKV__ENVELOPE__BODY_READ;
    message.read = &read;
    if (packed != NULL)
        *packed = bytes_of(bytes, rkv__envelope__pack(&message, bytes));
    return &message;
}

/* Every event that the tests below are about: after the last, false. Borrows
 * static memory until the next call. */
static bool sample(size_t number, struct event *event)
{
    *event = (struct event){.kind = (enum event_kind)number,
                            .now_us = INT64_C(-7) * 1000000007,
                            .wall_ms = INT64_C(1750000000123)};
    if (number >= PLAIN + RESULTS)
        return false;
    if (number >= PLAIN) {
        event->kind = EVENT_STORED;
        event->storage =
            result_of((enum storage_kind)(number - PLAIN), number % 2 == 0);
        return true;
    }
    event->from = n2;
    event->token.value = UINT64_MAX - number;
    event->request = request_number(OWNER_READ, number);
    if (number == EVENT_PREPARED || number == EVENT_STORED)
        event->storage = result_of(STORAGE_COORDINATE, true);
    else if (number != EVENT_TICK)
        event->message =
            message_of(number == EVENT_REPLY ? &event->packed : NULL);
    return true;
}

static void every_kind_comes_back(void **state)
{
    (void)state;
    struct arena arena;
    struct event event, back;
    arena_init(&arena, 1 << 20);
    size_t count = 0;
    for (; sample(count, &event); count++) {
        static uint8_t copy[ROOM];
        struct bytes bytes = encode(&event);
        memcpy(copy, bytes.data, bytes.size);
        assert_true(event_decode(bytes_of(copy, bytes.size), &arena, &back));
        expect_same(&event, &back);
        arena_reset(&arena);
    }
    assert_int_equal(count, PLAIN + RESULTS);
    arena_fini(&arena);
}

static void a_result_comes_back_whole(void **state)
{
    (void)state;
    struct arena arena;
    struct event event, back;
    arena_init(&arena, 1 << 20);
    assert_true(sample(PLAIN + STORAGE_SCAN, &event));
    assert_true(event_decode(encode(&event), &arena, &back));
    const struct storage_result *result = back.storage;
    assert_int_equal(result->op->kind, STORAGE_SCAN);
    assert_true(result->op->token == request_number(OWNER_WRITE, 5));
    assert_true(bytes_equal(result->op->data, bytes_of_string("filter")));
    assert_true(bytes_equal(result->op->after, bytes_of_string("after")));
    assert_int_equal(result->op->bytes_max, 77);
    assert_int_equal(result->op->key.table, TABLE_HINTS);
    assert_int_equal(result->op->key.target.bytes[2], 4);
    assert_int_equal(result->status, STATUS_STALE);
    assert_int_equal(result->row_count, 2);
    assert_int_equal(result->rows[0].key.table, TABLE_META);
    assert_true(bytes_equal(result->rows[0].record, bytes_of_string("r")));
    assert_true(bytes_equal(result->rows[1].key.key, bytes_of_string("k")));
    assert_true(bytes_equal(result->next, bytes_of_string("next")));
    assert_true(result->done && result->passed_damage && result->duplicate);
    assert_true(result->bytes_delta == INT64_MIN);
    assert_true(result->version_before == UINT64_MAX);
    arena_fini(&arena);
}

static void what_is_cut_short_is_no_event(void **state)
{
    (void)state;
    struct arena arena;
    struct event event, back;
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; sample(i, &event); i++) {
        struct bytes bytes = encode(&event);
        /* Exactly as long, so that a sanitizer sees a read behind it. */
        for (size_t size = 0; size < bytes.size; size++) {
            uint8_t *cut = test_malloc(size + 1);
            memcpy(cut + 1, bytes.data, size);
            assert_false(event_decode(bytes_of(cut + 1, size), &arena, &back));
            arena_reset(&arena);
            test_free(cut);
        }
    }
    arena_fini(&arena);
}

/* What is decoded at all is one that could have been encoded. */
static void damaged_bytes_are_checked(void **state)
{
    (void)state;
    enum { FLIPS = 20000 };
    uint64_t random = 1;
    struct arena arena;
    struct event event, back;
    size_t decoded = 0;
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; sample(i, &event); i++) {
        static uint8_t damaged[ROOM];
        struct bytes bytes = encode(&event);
        memcpy(damaged, bytes.data, bytes.size);
        size_t size = bytes.size;
        for (size_t flip = 0; flip < FLIPS; flip++) {
            random = random * UINT64_C(6364136223846793005) + 1;
            uint8_t *at = &damaged[(random >> 33) % size];
            uint8_t before = *at;
            *at ^= (uint8_t)(1 + (random >> 24) % 255);
            if (event_decode(bytes_of(damaged, size), &arena, &back)) {
                decoded++;
                (void)encode(&back);
            }
            arena_reset(&arena);
            /* Now and then one more stays. */
            if (random >> 60 != 0)
                *at = before;
        }
    }
    assert_true(decoded > 0);
    arena_fini(&arena);
}

static void a_spent_arena_is_no_event(void **state)
{
    (void)state;
    struct arena arena;
    struct event event, back;
    arena_init(&arena, 16);
    assert_true(sample(PLAIN + STORAGE_SCAN, &event));
    assert_false(event_decode(encode(&event), &arena, &back));
    assert_true(sample(EVENT_CLIENT_REQUEST, &event));
    assert_false(event_decode(encode(&event), &arena, &back));
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_comes_back),
        cmocka_unit_test(a_result_comes_back_whole),
        cmocka_unit_test(what_is_cut_short_is_no_event),
        cmocka_unit_test(damaged_bytes_are_checked),
        cmocka_unit_test(a_spent_arena_is_no_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
