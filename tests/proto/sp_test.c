/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/sp.h"

enum { LIMIT = 1000 };

static struct frame frame_of(uint32_t id, const char *hops, size_t hops_size,
                             const char *payload)
{
    return (struct frame){.id = id,
                          .hops = bytes_of(hops, hops_size),
                          .payload = bytes_of_string(payload)};
}

static void handshake_is_the_eight_bytes_of_the_mapping(void **state)
{
    (void)state;
    uint8_t out[SP_HANDSHAKE_BYTES];
    sp_handshake(SP_REQ, out);
    assert_memory_equal(out, "\0SP\0\0\x30\0\0", 8);
    assert_int_equal(sp_handshake_check(out, SP_REQ), STATUS_OK);
    assert_int_equal(sp_handshake_check(out, SP_REP), STATUS_INVALID);
    for (size_t i = 0; i < sizeof(out); i++) {
        out[i] ^= 1;
        assert_int_equal(sp_handshake_check(out, SP_REQ), STATUS_INVALID);
        out[i] ^= 1;
    }
}

static void frame_is_laid_out_as_wire_md_says(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct frame frame = frame_of(0x80000001, "", 0, "hi");
    assert_int_equal(sp_append(SP_TCP, &frame, &out), STATUS_OK);
    assert_int_equal(out.size, 14);
    assert_memory_equal(out.data, "\0\0\0\0\0\0\0\6\x80\0\0\1hi", 14);
    buffer_clear(&out);
    assert_int_equal(sp_append(SP_IPC, &frame, &out), STATUS_OK);
    assert_int_equal(out.size, 15);
    assert_memory_equal(out.data, "\1\0\0\0\0\0\0\0\6\x80\0\0\1hi", 15);
    buffer_fini(&out);
}

/* Bytes come in a block of exactly their size, so that the sanitizer sees a
 * look behind their end. */
static enum sp_result parse_copy(enum sp_framing framing, struct bytes bytes,
                                 struct frame *frame, size_t *size,
                                 uint8_t **copy)
{
    *copy = malloc(bytes.size == 0 ? 1 : bytes.size);
    assert_non_null(*copy);
    if (bytes.size > 0)
        memcpy(*copy, bytes.data, bytes.size);
    return sp_parse(framing, LIMIT, bytes_of(*copy, bytes.size), frame, size);
}

static size_t parse_piece(enum sp_framing framing, struct bytes piece,
                          const struct frame *expected, size_t *next)
{
    size_t at = 0;
    for (;;) {
        struct frame frame;
        size_t size;
        uint8_t *copy;
        enum sp_result result =
            parse_copy(framing, bytes_of(piece.data + at, piece.size - at),
                       &frame, &size, &copy);
        if (result == SP_MORE) {
            assert_true(size > piece.size - at);
            free(copy);
            return at;
        }
        assert_int_equal(result, SP_FRAME);
        const struct frame *want = &expected[(*next)++];
        assert_int_equal(frame.id, want->id);
        assert_true(bytes_equal(frame.hops, want->hops));
        assert_true(bytes_equal(frame.payload, want->payload));
        at += size;
        free(copy);
    }
}

static void every_split_gives_the_same_frames(void **state)
{
    (void)state;
    const struct frame frames[] = {
        frame_of(0x80000000, "", 0, ""),
        frame_of(0xffffffff, "\0\0\0\1\x7f\xff\xff\xff", 8, "through devices"),
        frame_of(0x80000007, "", 0, "last"),
    };
    for (int framing = SP_TCP; framing <= SP_IPC; framing++) {
        struct buffer out = {0};
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(
                sp_append((enum sp_framing)framing, &frames[i], &out),
                STATUS_OK);
        for (size_t split = 0; split <= out.size; split++) {
            size_t next = 0;
            size_t at = parse_piece((enum sp_framing)framing,
                                    bytes_of(out.data, split), frames, &next);
            at += parse_piece((enum sp_framing)framing,
                              bytes_of(out.data + at, out.size - at), frames,
                              &next);
            assert_int_equal(at, out.size);
            assert_int_equal(next, 3);
        }
        buffer_fini(&out);
    }
}

static void what_is_oversized_has_a_head(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        enum sp_result result;
        size_t hops, payload;
    } cases[] = {
        {"\0\0\1\0\0\0\0\0", 8, SP_MORE, 0, 0},
        {"\0\0\1\0\0\0\0\0\x80\0\0", 11, SP_MORE, 0, 0},
        {"\0\0\1\0\0\0\0\0\x80\0\0\7", 12, SP_FRAME, 0, 0},
        {"\0\0\1\0\0\0\0\0\0\0\0\1", 12, SP_MORE, 0, 0},
        {"\0\0\1\0\0\0\0\0\0\0\0\1\x80\0\0\7x", 17, SP_FRAME, 4, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct frame frame;
        struct bytes input = bytes_of(cases[i].bytes, cases[i].size);
        size_t size;
        assert_int_equal(sp_parse(SP_TCP, LIMIT, input, &frame, &size),
                         SP_OVERSIZED);
        assert_int_equal(size, 8 + (UINT64_C(1) << 40));
        assert_int_equal(sp_parse_head(SP_TCP, input, &frame), cases[i].result);
        if (cases[i].result != SP_FRAME)
            continue;
        assert_int_equal(frame.id, 0x80000007);
        assert_int_equal(frame.hops.size, cases[i].hops);
        assert_int_equal(frame.payload.size, cases[i].payload);
    }
    static uint8_t hops[8 + 4 * (SP_HOPS_MAX + 1)] = {[2] = 1};
    struct frame frame;
    assert_int_equal(sp_parse_head(SP_TCP, bytes_of(hops, sizeof hops), &frame),
                     SP_MALFORMED);
}

static void hostile_headers_are_refused_before_their_bytes_come(void **state)
{
    (void)state;
    static const struct {
        enum sp_framing framing;
        const char *bytes;
        size_t size;
        enum sp_result result;
    } cases[] = {
        {SP_TCP, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, SP_OVERSIZED},
        {SP_TCP, "\x80\0\0\0\0\0\0\0", 8, SP_OVERSIZED},
        {SP_TCP, "\0\0\0\1\0\0\0\4", 8, SP_OVERSIZED},
        {SP_TCP, "\0\0\0\0\0\0\3\xe9", 8, SP_OVERSIZED},
        {SP_TCP, "\0\0\0\0\0\0\3\xe8", 8, SP_MORE},
        {SP_TCP, "\0\0\0\0\0\0\0\0", 8, SP_MALFORMED},
        {SP_TCP, "\0\0\0\0\0\0\0\3", 8, SP_MALFORMED},
        {SP_TCP, "\0\0\0\0\0\0\0\4\0\0\0\1", 12, SP_MALFORMED},
        {SP_TCP, "\0\0\0\0\0\0\0\7\0\0\0\1\x80\0\0", 15, SP_MALFORMED},
        {SP_IPC, "\2", 1, SP_MALFORMED},
        {SP_IPC, "\0\0\0\0\0\0\0\0\4", 9, SP_MALFORMED},
        {SP_IPC, "\1\xff\xff\xff\xff\xff\xff\xff\xff", 9, SP_OVERSIZED},
        {SP_IPC, "\1\0\0\0\0\0\0\0\2", 9, SP_MALFORMED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct frame frame;
        size_t size;
        uint8_t *copy;
        assert_int_equal(parse_copy(cases[i].framing,
                                    bytes_of(cases[i].bytes, cases[i].size),
                                    &frame, &size, &copy),
                         cases[i].result);
        free(copy);
    }
}

static void more_hops_than_any_device_allows_are_malformed(void **state)
{
    (void)state;
    static const uint8_t hops[(SP_HOPS_MAX + 1) * 4];
    for (size_t count = SP_HOPS_MAX; count <= SP_HOPS_MAX + 1; count++) {
        struct buffer out = {0};
        struct frame frame = {.id = 0x80000000,
                              .hops = bytes_of(hops, count * 4)};
        size_t size;
        assert_int_equal(sp_append(SP_TCP, &frame, &out), STATUS_OK);
        assert_int_equal(
            sp_parse(SP_TCP, LIMIT, buffer_bytes(&out), &frame, &size),
            count <= SP_HOPS_MAX ? SP_FRAME : SP_MALFORMED);
        buffer_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshake_is_the_eight_bytes_of_the_mapping),
        cmocka_unit_test(frame_is_laid_out_as_wire_md_says),
        cmocka_unit_test(every_split_gives_the_same_frames),
        cmocka_unit_test(what_is_oversized_has_a_head),
        cmocka_unit_test(hostile_headers_are_refused_before_their_bytes_come),
        cmocka_unit_test(more_hops_than_any_device_allows_are_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
