/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/batch.h"
#include "proto/envelope.h"

/* Batches on the wire: put together by hand they are what protobuf packs, and
 * what they unpack to is bounded. */

static Rkv__BatchItem item_of_read(Rkv__Read *read)
{
    Rkv__BatchItem item = RKV__BATCH_ITEM__INIT;
    item.body_case = RKV__BATCH_ITEM__BODY_READ;
    item.read = read;
    return item;
}

static const Rkv__Envelope *unpack(struct bytes frame, struct arena *arena,
                                   struct error *error)
{
    arena_init(arena, envelope_budget(frame.size));
    return envelope_unpack(frame, arena, error);
}

/* Lengths of one byte and of two, of parts and of the whole. */
static void parts_under_a_head_are_what_protobuf_packs(void **state)
{
    (void)state;
    enum { PARTS = 5 };
    static const size_t key_bytes[PARTS] = {1, 100, 125, 300, 0};
    static uint8_t key[300];
    Rkv__Read reads[PARTS];
    Rkv__BatchItem items[PARTS];
    Rkv__BatchItem *list[PARTS];
    struct buffer parts = {0};
    assert_int_equal(batch_begin(&parts), STATUS_OK);
    for (size_t i = 0; i < PARTS; i++) {
        rkv__read__init(&reads[i]);
        reads[i].key = binary_of_bytes(bytes_of(key, key_bytes[i]));
        items[i] = item_of_read(&reads[i]);
        list[i] = &items[i];
        assert_int_equal(batch_append(&parts, &items[i].base), STATUS_OK);

        uint8_t packed[1000];
        Rkv__Batch batch = RKV__BATCH__INIT;
        batch.requests = list;
        batch.n_requests = i + 1;
        Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
        envelope.version = PROTOCOL_VERSION_MAX;
        envelope.body_case = RKV__ENVELOPE__BODY_BATCH;
        envelope.batch = &batch;
        assert_in_range(rkv__envelope__get_packed_size(&envelope), 1,
                        sizeof packed);
        size_t size = rkv__envelope__pack(&envelope, packed);
        assert_true(bytes_equal(batch_seal(&parts, RKV__ENVELOPE__BODY_BATCH),
                                bytes_of(packed, size)));
    }
    buffer_fini(&parts);
}

static void the_smallest_requests_fit_the_budget(void **state)
{
    (void)state;
    Rkv__Read read = RKV__READ__INIT;
    read.key = binary_of_bytes(bytes_of_string("k"));
    Rkv__BatchItem item = item_of_read(&read);
    struct buffer parts = {0};
    assert_int_equal(batch_begin(&parts), STATUS_OK);
    for (size_t i = 0; i < BATCH_REQUESTS_MAX; i++)
        assert_int_equal(batch_append(&parts, &item.base), STATUS_OK);
    struct arena arena;
    struct error error;
    const Rkv__Envelope *envelope =
        unpack(batch_seal(&parts, RKV__ENVELOPE__BODY_BATCH), &arena, &error);
    if (envelope == NULL)
        fail_msg("%s", error.text);
    assert_int_equal(envelope->body_case, RKV__ENVELOPE__BODY_BATCH);
    assert_int_equal(envelope->batch->n_requests, BATCH_REQUESTS_MAX);
    arena_fini(&arena);
    buffer_fini(&parts);
}

static void the_smallest_replies_fit_the_budget(void **state)
{
    (void)state;
    Rkv__ReadReply reply = RKV__READ_REPLY__INIT;
    Rkv__Result result = RKV__RESULT__INIT;
    Rkv__BatchItemReply item = RKV__BATCH_ITEM_REPLY__INIT;
    reply.result = &result;
    item.body_case = RKV__BATCH_ITEM_REPLY__BODY_READ_REPLY;
    item.read_reply = &reply;
    result.status = RKV__STATUS__NOT_FOUND;
    struct buffer parts = {0};
    assert_int_equal(batch_begin(&parts), STATUS_OK);
    for (size_t i = 0; i < BATCH_REQUESTS_MAX; i++)
        assert_int_equal(batch_append(&parts, &item.base), STATUS_OK);
    struct arena arena;
    struct error error;
    const Rkv__Envelope *envelope = unpack(
        batch_seal(&parts, RKV__ENVELOPE__BODY_BATCH_REPLY), &arena, &error);
    if (envelope == NULL)
        fail_msg("%s", error.text);
    assert_int_equal(envelope->batch_reply->n_replies, BATCH_REQUESTS_MAX);
    arena_fini(&arena);
    buffer_fini(&parts);
}

/* Of two bytes each, they would unpack to sixty times as much. */
static void empty_requests_run_out_of_budget(void **state)
{
    (void)state;
    enum { ITEMS = 1 << 18 };
    static const uint8_t empty[] = {0x0a, 0};
    struct buffer parts = {0};
    assert_int_equal(batch_begin(&parts), STATUS_OK);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(buffer_append(&parts, bytes_of(empty, sizeof empty)),
                         STATUS_OK);
    struct arena arena;
    struct error error;
    assert_null(
        unpack(batch_seal(&parts, RKV__ENVELOPE__BODY_BATCH), &arena, &error));
    assert_int_equal(error.status, STATUS_NO_MEMORY);
    assert_true(arena.used <= arena.budget);
    arena_fini(&arena);
    buffer_fini(&parts);
}

/* Before what is in frame from start on: a tag, and its length in four bytes,
 * which is longer than it has to be. */
static size_t wrap(uint8_t *frame, size_t start, size_t size,
                   const uint8_t *tag, size_t tag_bytes)
{
    size_t inner = size - start;
    for (int i = 3; i >= 0; i--)
        frame[--start] =
            (uint8_t)((inner >> 7 * i & 0x7f) | (i < 3 ? 0x80 : 0));
    start -= tag_bytes;
    memcpy(frame + start, tag, tag_bytes);
    return start;
}

/* A batch in a batch in a batch, so deep that whoever followed would run out
 * of stack: here the second is a field that an item does not have. */
static void batches_do_not_nest(void **state)
{
    (void)state;
    enum { DEPTH = 80000, SIZE = 2 + DEPTH * 11 };
    static const uint8_t version[] = {0x08, PROTOCOL_VERSION_MAX};
    static const uint8_t batch_tag[] = {0x92, 0x01}, item_tag[] = {0x0a};
    uint8_t *frame = malloc(SIZE);
    assert_non_null(frame);
    size_t start = SIZE;
    for (int i = 0; i < DEPTH; i++) {
        start = wrap(frame, start, SIZE, item_tag, sizeof item_tag);
        start = wrap(frame, start, SIZE, batch_tag, sizeof batch_tag);
    }
    start -= sizeof version;
    memcpy(frame + start, version, sizeof version);
    assert_int_equal(start, 0);
    struct arena arena;
    struct error error;
    const Rkv__Envelope *envelope =
        unpack(bytes_of(frame, SIZE), &arena, &error);
    if (envelope == NULL)
        fail_msg("%s", error.text);
    assert_int_equal(envelope->batch->n_requests, 1);
    assert_int_equal(envelope->batch->requests[0]->body_case,
                     RKV__BATCH_ITEM__BODY__NOT_SET);
    arena_fini(&arena);
    free(frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_under_a_head_are_what_protobuf_packs),
        cmocka_unit_test(the_smallest_requests_fit_the_budget),
        cmocka_unit_test(the_smallest_replies_fit_the_budget),
        cmocka_unit_test(empty_requests_run_out_of_budget),
        cmocka_unit_test(batches_do_not_nest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
