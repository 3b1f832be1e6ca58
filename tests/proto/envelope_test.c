/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/envelope.h"

static void pack_write(struct buffer *out)
{
    struct arena arena;
    arena_init(&arena, 1 << 16);
    Rkv__Write *write = message_new(&arena, &rkv__write__descriptor);
    write->bucket = arena_string(&arena, "default");
    write->key = binary_of_bytes(bytes_of_string("key"));
    write->value = binary_of_bytes(bytes_of_string("value"));
    write->w = -1;
    Rkv__Envelope *envelope =
        envelope_new(&arena, RKV__ENVELOPE__BODY_WRITE, write);
    assert_int_equal(envelope_pack(envelope, out), STATUS_OK);
    arena_fini(&arena);
}

/* Unpack from a copy of just this size, so that ASan sees an overread. */
static enum status unpack_status(const uint8_t *data, size_t size,
                                 struct arena *arena)
{
    uint8_t *copy = malloc(size + (size == 0));
    if (size > 0)
        memcpy(copy, data, size);
    struct error error = {.status = STATUS_OK};
    arena_init(arena, envelope_budget(size));
    const Rkv__Envelope *envelope =
        envelope_unpack(bytes_of(copy, size), arena, &error);
    free(copy);
    assert_true((envelope != NULL) == (error.status == STATUS_OK));
    return error.status;
}

static void envelope_comes_back_as_it_went(void **state)
{
    (void)state;
    struct buffer frame = {0};
    pack_write(&frame);
    struct arena arena;
    arena_init(&arena, envelope_budget(frame.size));
    struct error error;
    const Rkv__Envelope *envelope =
        envelope_unpack(buffer_bytes(&frame), &arena, &error);
    buffer_fini(&frame);
    assert_non_null(envelope);
    assert_int_equal(envelope->body_case, RKV__ENVELOPE__BODY_WRITE);
    assert_string_equal(envelope->write->bucket, "default");
    assert_int_equal(envelope->write->w, -1);
    assert_true(bytes_equal(bytes_of_binary(envelope->write->value),
                            bytes_of_string("value")));
    arena_fini(&arena);
}

static void expect_as_protobuf_packs(const Rkv__Envelope *envelope)
{
    struct buffer ours = {0};
    size_t size = rkv__envelope__get_packed_size(envelope);
    uint8_t *theirs = malloc(size);
    assert_int_equal(rkv__envelope__pack(envelope, theirs), size);
    assert_int_equal(envelope_pack(envelope, &ours), STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&ours), bytes_of(theirs, size)));
    buffer_fini(&ours);
    free(theirs);
}

/* Of every body, and of lengths that take one byte, two, three and four. */
static void envelopes_are_packed_as_protobuf_packs_them(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 100, 123, 124, 20000, 3000000};
    static uint8_t value[3000000];
    const ProtobufCMessageDescriptor *all = &rkv__envelope__descriptor;
    struct arena arena;
    arena_init(&arena, 1 << 16);
    size_t bodies = 0;
    for (unsigned i = 0; i < all->n_fields; i++) {
        if (all->fields[i].type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        bodies++;
        expect_as_protobuf_packs(
            envelope_new(&arena, (Rkv__Envelope__BodyCase)all->fields[i].id,
                         message_new(&arena, all->fields[i].descriptor)));
    }
    assert_true(bodies > 20);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        Rkv__Store *store = message_new(&arena, &rkv__store__descriptor);
        store->record = binary_of_bytes(bytes_of(value, sizes[i]));
        expect_as_protobuf_packs(
            envelope_new(&arena, RKV__ENVELOPE__BODY_STORE, store));
    }
    arena_fini(&arena);
}

/* Frames that protobuf takes, though no node of ours writes them so. */
static void envelopes_that_others_pack_are_unpacked(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[16];
        size_t size;
    } frames[] = {
        {{0x08, 1, 0x62, 3, 0x0a, 1, 'b'}, 7},             /* as ours */
        {{0x62, 3, 0x0a, 1, 'b', 0x08, 1}, 7},             /* version last */
        {{0x08, 0x81, 0, 0x62, 3, 0x0a, 1, 'b'}, 8},       /* in two bytes */
        {{0x08, 2, 0x08, 1, 0x62, 3, 0x0a, 1, 'b'}, 9},    /* said twice */
        {{0x08, 1, 0x62, 0x83, 0, 0x0a, 1, 'b'}, 8},       /* a long length */
        {{0x08, 1, 0xe2, 0, 3, 0x0a, 1, 'b'}, 8},          /* a long tag */
        {{0x08, 1, 0x12, 0, 0x62, 3, 0x0a, 1, 'b'}, 9},    /* two bodies */
        {{0x08, 1, 0x62, 3, 0x0a, 1, 'b', 0xf8, 7, 1}, 10} /* one unknown */
    };
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        struct bytes frame = bytes_of(frames[i].bytes, frames[i].size);
        struct arena arena;
        struct error error;
        arena_init(&arena, envelope_budget(frame.size));
        const Rkv__Envelope *envelope = envelope_unpack(frame, &arena, &error);
        if (envelope == NULL)
            fail_msg("frame %zu: %s", i, error.text);
        assert_int_equal(envelope->body_case, RKV__ENVELOPE__BODY_READ);
        assert_string_equal(envelope->read->bucket, "b");
        arena_fini(&arena);
    }
}

static void result_carries_status_and_message(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 4096);
    Rkv__Envelope *envelope = envelope_result(&arena, STATUS_TIMEOUT, "late");
    assert_int_equal(envelope->result->status, RKV__STATUS__TIMEOUT);
    assert_string_equal(envelope->result->message, "late");
    assert_string_equal(
        envelope_result(&arena, STATUS_OK, NULL)->result->message, "");
    arena_fini(&arena);
    arena_init(&arena, 64);
    assert_null(envelope_result(&arena, STATUS_OK, NULL));
    arena_fini(&arena);
}

static void truncated_frames_never_read_past_their_end(void **state)
{
    (void)state;
    struct buffer frame = {0};
    pack_write(&frame);
    for (size_t size = 0; size < frame.size; size++) {
        struct arena arena;
        assert_int_not_equal(unpack_status(frame.data, size, &arena),
                             STATUS_OK);
        arena_fini(&arena);
    }
    buffer_fini(&frame);
}

static void random_frames_do_no_harm(void **state)
{
    (void)state;
    struct buffer frame = {0};
    pack_write(&frame);
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[128];
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        size_t size = (seed >> 33) % sizeof bytes;
        for (size_t i = 0; i < size; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            bool honest = i < frame.size && (seed >> 60) != 0;
            bytes[i] = honest ? frame.data[i] : (uint8_t)(seed >> 40);
        }
        struct arena arena;
        (void)unpack_status(bytes, size, &arena);
        assert_true(arena.used <= arena.budget);
        arena_fini(&arena);
    }
    buffer_fini(&frame);
}

/* A frame that is all empty rows of a Handoff, two bytes each. */
static void frame_of_empty_submessages_runs_out_of_budget(void **state)
{
    (void)state;
    enum { ROWS = 1 << 18, BODY = 2 * ROWS };
    uint8_t *frame = malloc(BODY + 8);
    size_t at = 0;
    frame[at++] = 1 << 3;
    frame[at++] = 1;
    frame[at++] = (uint8_t)((36 << 3 | 2) & 0x7f) | 0x80;
    frame[at++] = (36 << 3 | 2) >> 7;
    frame[at++] = (BODY & 0x7f) | 0x80;
    frame[at++] = (BODY >> 7 & 0x7f) | 0x80;
    frame[at++] = BODY >> 14;
    for (size_t i = 0; i < ROWS; i++) {
        frame[at++] = 1 << 3 | 2;
        frame[at++] = 0;
    }
    struct arena arena;
    assert_int_equal(unpack_status(frame, at, &arena), STATUS_NO_MEMORY);
    assert_true(arena.used <= envelope_budget(at));
    arena_fini(&arena);
    free(frame);
}

static void other_versions_and_bodies_are_unsupported(void **state)
{
    (void)state;
    const uint8_t version_two[] = {1 << 3, 2, 2 << 3 | 2, 0};
    const uint8_t no_body[] = {1 << 3, 1};
    const uint8_t other_body[] = {1 << 3, 1, 9 << 3 | 2, 0};
    const uint8_t fine[] = {1 << 3, 1, 2 << 3 | 2, 0};
    struct arena arena;
    assert_int_equal(unpack_status(version_two, sizeof version_two, &arena),
                     STATUS_UNSUPPORTED);
    arena_fini(&arena);
    assert_int_equal(unpack_status(no_body, sizeof no_body, &arena),
                     STATUS_UNSUPPORTED);
    arena_fini(&arena);
    assert_int_equal(unpack_status(other_body, sizeof other_body, &arena),
                     STATUS_UNSUPPORTED);
    arena_fini(&arena);
    assert_int_equal(unpack_status(fine, sizeof fine, &arena), STATUS_OK);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(envelope_comes_back_as_it_went),
        cmocka_unit_test(envelopes_are_packed_as_protobuf_packs_them),
        cmocka_unit_test(envelopes_that_others_pack_are_unpacked),
        cmocka_unit_test(result_carries_status_and_message),
        cmocka_unit_test(truncated_frames_never_read_past_their_end),
        cmocka_unit_test(random_frames_do_no_harm),
        cmocka_unit_test(frame_of_empty_submessages_runs_out_of_budget),
        cmocka_unit_test(other_versions_and_bodies_are_unsupported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
