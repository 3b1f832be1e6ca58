/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "tests/proto/record_version.h"

enum { WINDOW_MS = 60000 };

static int set_up(void **state)
{
    struct arena *arena = malloc(sizeof *arena);
    arena_init(arena, 64 << 20);
    *state = arena;
    return 0;
}

static int tear_down(void **state)
{
    arena_fini(*state);
    free(*state);
    return 0;
}

static struct request_id request_of(uint64_t number)
{
    struct request_id request = {{1}};
    memcpy(request.bytes + 8, &number, sizeof number);
    return request;
}

static struct dot dot_of(uint64_t incarnation, uint32_t epoch, uint64_t counter)
{
    return (struct dot){{incarnation, epoch}, counter};
}

/* own after a write of one byte, the request's number. */
static struct record write_of(struct arena *arena, const struct record *own,
                              const struct context *seen,
                              struct actor_source *source, uint64_t request,
                              int64_t now_ms, uint64_t stamp)
{
    uint8_t byte = (uint8_t)request;
    struct record_write write = {
        .seen = *seen,
        .request = request_of(request),
        .dot = actor_source_next(source, &own->context),
        .now_ms = now_ms,
        .stamp = stamp,
        .tombstone = request % 5 == 0,
        .data = bytes_of(arena_copy(arena, &byte, 1), request % 5 != 0),
    };
    struct record written;
    bool duplicate;
    assert_int_equal(
        record_apply(own, &write, WINDOW_MS, arena, &written, &duplicate),
        STATUS_OK);
    return written;
}

static struct record merge_of(struct arena *arena, const struct record *a,
                              const struct record *b)
{
    struct record merged;
    assert_int_equal(record_merge(a, b, 1000, WINDOW_MS, arena, &merged),
                     STATUS_OK);
    return merged;
}

/* Two coordinators, one of which has seen the other's first write. */
static struct record sample(struct arena *arena)
{
    struct actor_source x, y;
    actor_source_init(&x, 100);
    actor_source_init(&y, 50);
    struct context none = {0};
    struct record empty = record_empty(RECORD_SIBLINGS);
    struct record a = write_of(arena, &empty, &none, &x, 1, 10, 1);
    struct record b = write_of(arena, &a, &a.context, &y, 2, 20, 2);
    a = write_of(arena, &a, &none, &x, 3, 30, 3);
    struct record c = write_of(arena, &empty, &none, &y, 5, 40, 4);
    a = merge_of(arena, &a, &b);
    return merge_of(arena, &a, &c);
}

static void record_comes_back_as_it_went(void **state)
{
    struct arena *arena = *state;
    struct record record = sample(arena);
    assert_int_equal(record.value_count, 3);
    assert_int_equal(record.superseded_count, 1);
    struct buffer first = {0}, second = {0};
    assert_int_equal(buffer_append(&second, bytes_of("ab", 2)), STATUS_OK);
    assert_int_equal(record_encode(&record, &first), STATUS_OK);
    struct record back;
    assert_int_equal(record_decode(buffer_bytes(&first), arena, &back),
                     STATUS_OK);
    assert_int_equal(version_of(&back), version_of(&record));
    assert_int_equal(record_encode(&back, &second), STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&first),
                            bytes_of(second.data + 2, second.size - 2)));
    assert_false(record_is_deleted(&back, 0));
    buffer_fini(&first);
    buffer_fini(&second);
}

static void a_value_is_gone_from_its_expiry_on(void **state)
{
    struct arena *arena = *state;
    struct actor_source source;
    actor_source_init(&source, 1);
    struct record own = record_empty(RECORD_LWW), back;
    struct record_write write = {
        .request = request_of(1),
        .dot = actor_source_next(&source, &own.context),
        .expires_ms = 100,
        .data = bytes_of("v", 1),
    };
    bool duplicate;
    struct buffer encoded = {0};
    assert_int_equal(
        record_apply(&own, &write, WINDOW_MS, arena, &own, &duplicate),
        STATUS_OK);
    assert_int_equal(record_encode(&own, &encoded), STATUS_OK);
    assert_int_equal(record_decode(buffer_bytes(&encoded), arena, &back),
                     STATUS_OK);
    assert_int_equal(back.values[0].expires_ms, 100);
    assert_false(record_is_deleted(&back, 99));
    assert_true(record_is_deleted(&back, 100));
    /* By the number alone: no clock counts for a merge. */
    struct record merged = merge_of(arena, &back, &own);
    assert_int_equal(merged.values[0].expires_ms, 100);
    assert_int_equal(version_of(&merged), version_of(&own));
    buffer_fini(&encoded);
}

/* Byte by byte: a change of any of them is another RECORD_FORMAT. */
static void record_is_laid_out_as_it_always_was(void **state)
{
    (void)state;
    /* clang-format off */
    static const uint8_t laid_out[] = {
        /* format, kind */
        0x03, 0x00,
        /* context */
        0x02, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x02, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00,
        0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        /* values */
        0x01, 0x00, 0x00, 0x00,
        /* dots */
        0x01, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x05, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        /* request */
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00,
        /* written_ms, stamp */
        0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x09, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00,
        /* life, data */
        0x00, 0x03, 0x00, 0x00, 0x00, 0x74, 0x65, 0x6e,
        /* superseded */
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0b, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x02, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        /* how many */
        0x01, 0x00, 0x00, 0x00,
        /* version */
        0xf2, 0xc7, 0xca, 0xb5, 0xf4, 0x02, 0x3d, 0xe0,
        /* checksum */
        0xc3, 0xd4, 0x64, 0x6f, 0x6e, 0x08, 0x33, 0xc0,
    };
    /* clang-format on */
    struct dot dots[] = {dot_of(1, 2, 3), dot_of(4, 5, 6)};
    struct value value = {.dots = &dots[1],
                          .dot_count = 1,
                          .request = request_of(7),
                          .written_ms = 8,
                          .stamp = 9,
                          .data = bytes_of("ten", 3)};
    struct superseded gone = {
        .request = request_of(11), .dot = dots[0], .written_ms = 12};
    const struct record record = {.context = {dots, 2},
                                  .values = &value,
                                  .value_count = 1,
                                  .superseded = &gone,
                                  .superseded_count = 1};
    struct buffer out = {0};
    assert_int_equal(record_encode(&record, &out), STATUS_OK);
    assert_int_equal(RECORD_FORMAT, 3);
    assert_int_equal(out.size, sizeof laid_out);
    assert_memory_equal(out.data, laid_out, sizeof laid_out);
    buffer_fini(&out);
}

static void every_truncation_and_bit_flip_is_detected(void **state)
{
    struct arena *arena = *state;
    struct record record = sample(arena), back;
    struct buffer out = {0};
    assert_int_equal(record_encode(&record, &out), STATUS_OK);
    for (size_t size = 0; size < out.size; size++) {
        uint8_t *copy = malloc(size + 1);
        memcpy(copy, out.data, size);
        assert_int_equal(record_decode(bytes_of(copy, size), arena, &back),
                         STATUS_CORRUPT);
        free(copy);
    }
    for (size_t bit = 0; bit < out.size * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(record_decode(buffer_bytes(&out), arena, &back),
                         STATUS_CORRUPT);
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buffer_fini(&out);
}

/* Encodings with a right checksum whose content breaks a rule. */
static void decoder_refuses_what_no_merge_makes(void **state)
{
    struct arena *arena = *state;
    struct dot dots[] = {dot_of(1, 1, 1), dot_of(2, 1, 1)};
    struct value values[] = {
        {.dots = &dots[0], .dot_count = 1, .request = request_of(1)},
        {.dots = &dots[1], .dot_count = 1, .request = request_of(2)},
    };
    struct superseded gone = {.request = request_of(3), .dot = dots[0]};
    const struct record good = {.context = {dots, 2},
                                .values = values,
                                .value_count = 2,
                                .superseded = &gone,
                                .superseded_count = 1};
    for (int what = 0; what <= 9; what++) {
        struct record bad = good;
        struct value changed[] = {values[0], values[1]};
        struct superseded listed = gone;
        struct dot entries[] = {dots[0], dots[1]};
        struct dot twice[] = {dots[0], dots[0]};
        bad.values = changed;
        bad.superseded = &listed;
        bad.context.entries = entries;
        switch (what) {
        case 1: /* a dot that its context does not cover */
            bad.context.count = 1;
            break;
        case 2: /* values out of order */
            changed[0] = values[1];
            changed[1] = values[0];
            break;
        case 3: /* a request live twice */
            changed[1].request = request_of(1);
            break;
        case 4: /* a request live and superseded */
            listed.request = request_of(1);
            break;
        case 5: /* no request */
            changed[0].request = (struct request_id){{0}};
            break;
        case 6: /* a counter of 0 */
            entries[1].counter = 0;
            bad.value_count = 1;
            break;
        case 7: /* an actor twice in a context */
            entries[1] = entries[0];
            bad.value_count = 1;
            break;
        case 8: /* a dot twice */
            changed[0].dots = twice;
            changed[0].dot_count = 2;
            break;
        case 9: /* a tombstone with data */
            changed[0].tombstone = true;
            changed[0].data = bytes_of("x", 1);
            break;
        }
        struct buffer out = {0};
        struct record back;
        assert_int_equal(record_encode(&bad, &out), STATUS_OK);
        assert_int_equal(record_decode(buffer_bytes(&out), arena, &back),
                         what == 0 ? STATUS_OK : STATUS_CORRUPT);
        buffer_fini(&out);
    }
}

static void decoder_stays_within_the_arena(void **state)
{
    struct arena *arena = *state;
    struct record record = sample(arena), back;
    struct buffer out = {0};
    assert_int_equal(record_encode(&record, &out), STATUS_OK);
    enum status status = STATUS_NO_MEMORY;
    for (size_t budget = 0; status != STATUS_OK; budget += 16) {
        struct arena small;
        arena_init(&small, budget);
        status = record_decode(buffer_bytes(&out), &small, &back);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        arena_fini(&small);
    }
    buffer_fini(&out);
}

static void alternating_writers_leave_two_siblings(void **state)
{
    struct arena *arena = *state;
    struct actor_source source;
    actor_source_init(&source, 7);
    struct record own = record_empty(RECORD_SIBLINGS);
    struct context seen[2] = {{0}, {0}};
    /* Each resolves what its own last write gave back, never having seen what
     * the other wrote since. */
    for (uint64_t i = 1; i <= 100; i++) {
        own = write_of(arena, &own, &seen[i % 2], &source, 5 * i + 1, 10, i);
        seen[i % 2] = own.context;
        assert_int_equal(own.value_count, i == 1 ? 1 : 2);
    }
}

/* Both read the same, both write, on and on: each resolves what it read. */
static void concurrent_writers_leave_one_sibling_each(void **state)
{
    struct arena *arena = *state;
    struct actor_source source;
    actor_source_init(&source, 7);
    struct record own = record_empty(RECORD_SIBLINGS);
    for (uint64_t i = 1; i <= 100; i++) {
        struct context read = own.context;
        own = write_of(arena, &own, &read, &source, 5 * i + 1, 10, i);
        own = write_of(arena, &own, &read, &source, 5 * i + 2, 10, i);
        assert_int_equal(own.value_count, 2);
    }
    assert_int_equal(own.context.count, 1);
    assert_int_equal(own.superseded_count, DEDUP_ENTRIES_MAX);
}

static void retry_at_the_same_coordinator_is_one_write(void **state)
{
    struct arena *arena = *state;
    struct actor_source source;
    actor_source_init(&source, 7);
    struct context none = {0};
    struct record empty = record_empty(RECORD_SIBLINGS);
    struct record first = write_of(arena, &empty, &none, &source, 1, 10, 1);
    struct record over =
        write_of(arena, &first, &first.context, &source, 2, 20, 2);
    const struct record *owns[] = {&first, &over};
    for (size_t i = 0; i < 2; i++) {
        struct record_write retry = {
            .request = request_of(1),
            .dot = actor_source_next(&source, &owns[i]->context),
            .now_ms = 30,
            .data = bytes_of("\1", 1)};
        struct record written;
        bool duplicate = false;
        assert_int_equal(record_apply(owns[i], &retry, WINDOW_MS, arena,
                                      &written, &duplicate),
                         STATUS_OK);
        assert_true(duplicate);
        assert_int_equal(version_of(&written), version_of(owns[i]));
    }
}

static void retry_at_another_coordinator_is_one_write(void **state)
{
    struct arena *arena = *state;
    struct actor_source x, y;
    actor_source_init(&x, 1);
    actor_source_init(&y, 2);
    struct context none = {0};
    struct record empty = record_empty(RECORD_SIBLINGS);
    struct record a = write_of(arena, &empty, &none, &x, 1, 10, 1);
    struct record b = write_of(arena, &empty, &none, &y, 1, 12, 2);
    struct record both = merge_of(arena, &b, &a);
    assert_int_equal(both.value_count, 1);
    assert_int_equal(both.values[0].dot_count, 2);
    assert_int_equal(both.values[0].written_ms, 10);
    /* Superseded under one dot, it is dead under the other too. */
    struct record over = write_of(arena, &a, &a.context, &x, 2, 20, 3);
    struct record merged = merge_of(arena, &b, &over);
    assert_int_equal(merged.value_count, 1);
    assert_true(request_id_equal(merged.values[0].request, request_of(2)));
    merged = merge_of(arena, &over, &both);
    assert_int_equal(merged.value_count, 1);
    assert_true(request_id_equal(merged.values[0].request, request_of(2)));
}

static void superseded_requests_go_with_the_window(void **state)
{
    struct arena *arena = *state;
    struct record record = sample(arena), merged;
    assert_int_equal(record_merge(&record, &record, 10 + WINDOW_MS, WINDOW_MS,
                                  arena, &merged),
                     STATUS_OK);
    assert_int_equal(merged.superseded_count, 1);
    assert_int_equal(record_merge(&record, &record, 11 + WINDOW_MS, WINDOW_MS,
                                  arena, &merged),
                     STATUS_OK);
    assert_int_equal(merged.superseded_count, 0);
    assert_int_equal(version_of(&merged), version_of(&record));
}

static void writes_stop_at_the_sibling_limit_and_merges_do_not(void **state)
{
    struct arena *arena = *state;
    struct actor_source x, y;
    actor_source_init(&x, 1);
    actor_source_init(&y, 2);
    struct context none = {0};
    struct record own = record_empty(RECORD_SIBLINGS);
    for (uint64_t i = 1; i <= SIBLINGS_MAX; i++)
        own = write_of(arena, &own, &none, &x, 5 * i + 1, 10, i);
    struct record_write more = {.request = request_of(1000),
                                .dot = actor_source_next(&x, &own.context)};
    struct record written;
    bool duplicate;
    assert_int_equal(
        record_apply(&own, &more, WINDOW_MS, arena, &written, &duplicate),
        STATUS_TOO_LARGE);
    struct record empty = record_empty(RECORD_SIBLINGS);
    struct record other = write_of(arena, &empty, &none, &y, 1001, 10, 1);
    own = merge_of(arena, &own, &other);
    assert_int_equal(own.value_count, SIBLINGS_MAX + 1);
    more.seen = own.context;
    assert_int_equal(
        record_apply(&own, &more, WINDOW_MS, arena, &written, &duplicate),
        STATUS_OK);
    assert_int_equal(written.value_count, 1);
}

/* A delete that nobody had seen is no sibling of what is written behind it. */
static void a_write_buries_what_is_gone(void **state)
{
    struct arena *arena = *state;
    struct actor_source x, y;
    actor_source_init(&x, 1);
    actor_source_init(&y, 2);
    struct context none = {0};
    struct record empty = record_empty(RECORD_SIBLINGS);
    struct record lives = write_of(arena, &empty, &none, &x, 1, 10, 1);
    struct record gone = write_of(arena, &empty, &none, &y, 5, 10, 2);
    struct record own = merge_of(arena, &lives, &gone);
    assert_int_equal(own.value_count, 2);
    own = write_of(arena, &own, &none, &x, 2, 11, 3);
    assert_int_equal(own.value_count, 2);
    assert_true(request_id_equal(own.values[0].request, request_of(1)));
    assert_true(request_id_equal(own.values[1].request, request_of(2)));
    /* For good: its copies elsewhere do not bring it back. */
    own = merge_of(arena, &own, &gone);
    assert_int_equal(own.value_count, 2);
}

static void writes_without_a_request_or_of_a_seen_dot_are_invalid(void **state)
{
    struct arena *arena = *state;
    struct record own = record_empty(RECORD_SIBLINGS), written;
    bool duplicate;
    struct dot dot = dot_of(1, 1, 1);
    struct record_write write = {.dot = dot};
    assert_int_equal(
        record_apply(&own, &write, WINDOW_MS, arena, &written, &duplicate),
        STATUS_INVALID);
    write.request = request_of(1);
    write.seen = (struct context){.entries = &dot, .count = 1};
    assert_int_equal(
        record_apply(&own, &write, WINDOW_MS, arena, &written, &duplicate),
        STATUS_INVALID);
    struct record other = record_empty(RECORD_LWW);
    assert_int_equal(record_merge(&own, &other, 0, 0, arena, &written),
                     STATUS_INVALID);
}

static void lww_keeps_the_highest_stamp_of_any_order(void **state)
{
    struct arena *arena = *state;
    struct actor_source x, y;
    actor_source_init(&x, 1);
    actor_source_init(&y, 2);
    struct context none = {0};
    struct record empty = record_empty(RECORD_LWW);
    struct record a = write_of(arena, &empty, &none, &x, 1, 10, 9);
    struct record b = write_of(arena, &empty, &none, &y, 2, 10, 4);
    struct record c = write_of(arena, &empty, &none, &y, 3, 10, 9);
    struct record ab = merge_of(arena, &a, &b);
    struct record bc = merge_of(arena, &b, &c);
    struct record left = merge_of(arena, &ab, &c);
    struct record right = merge_of(arena, &bc, &a);
    assert_int_equal(ab.value_count, 1);
    assert_int_equal(ab.values[0].stamp, 9);
    assert_int_equal(version_of(&left), version_of(&right));
    /* The tie goes to the higher actor. */
    assert_true(request_id_equal(left.values[0].request, request_of(3)));
}

static void contexts_come_back_and_name_their_key(void **state)
{
    struct arena *arena = *state;
    struct record record = sample(arena);
    struct context back;
    struct buffer out = {0};
    record.context.stamp = UINT64_C(1) << 63 | 7;
    assert_int_equal(context_encode(&record.context, 42, &out), STATUS_OK);
    assert_int_equal(context_decode(buffer_bytes(&out), 42, arena, &back),
                     STATUS_OK);
    assert_int_equal(back.count, record.context.count);
    assert_int_equal(back.stamp, record.context.stamp);
    for (size_t i = 0; i < back.count; i++)
        assert_true(context_covers(&record.context, back.entries[i]) &&
                    context_covers(&back, record.context.entries[i]));
    assert_int_equal(context_decode(buffer_bytes(&out), 43, arena, &back),
                     STATUS_REFUSED);
    for (size_t size = 1; size < out.size; size++)
        assert_int_equal(
            context_decode(bytes_of(out.data, size), 42, arena, &back),
            STATUS_INVALID);
    for (size_t bit = 0; bit < out.size * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(context_decode(buffer_bytes(&out), 42, arena, &back),
                         STATUS_INVALID);
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(context_decode((struct bytes){0}, 42, arena, &back),
                     STATUS_OK);
    assert_int_equal(back.count, 0);
    buffer_fini(&out);
}

static void actors_are_extended_only_by_their_own_copy(void **state)
{
    (void)state;
    struct actor_source source;
    actor_source_init(&source, 5);
    struct context none = {0};
    struct dot first = actor_source_next(&source, &none);
    struct dot other = actor_source_next(&source, &none);
    assert_int_equal(first.counter, 1);
    assert_int_equal(other.counter, 1);
    assert_int_not_equal(first.actor.epoch, other.actor.epoch);
    struct context own = {.entries = &first, .count = 1};
    struct dot next = actor_source_next(&source, &own);
    assert_int_equal(next.counter, 2);
    assert_int_equal(next.actor.epoch, first.actor.epoch);
    struct context further = {.entries = &next, .count = 1};
    assert_false(actor_source_is_behind(&source, &own, &own));
    assert_false(actor_source_is_behind(&source, &further, &own));
    assert_true(actor_source_is_behind(&source, &own, &further));
    assert_true(actor_source_is_behind(&source, &none, &own));
    /* A new incarnation has nothing to do with the old one's copies. */
    actor_source_init(&source, 6);
    assert_false(actor_source_is_behind(&source, &none, &own));
    assert_int_equal(actor_source_next(&source, &own).actor.incarnation, 6);
    struct dot last = dot_of(6, 9, UINT64_MAX);
    struct context full = {.entries = &last, .count = 1};
    assert_int_equal(actor_source_next(&source, &full).counter, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(record_comes_back_as_it_went),
        TEST(record_is_laid_out_as_it_always_was),
        TEST(a_value_is_gone_from_its_expiry_on),
        TEST(every_truncation_and_bit_flip_is_detected),
        TEST(decoder_refuses_what_no_merge_makes),
        TEST(decoder_stays_within_the_arena),
        TEST(alternating_writers_leave_two_siblings),
        TEST(concurrent_writers_leave_one_sibling_each),
        TEST(retry_at_the_same_coordinator_is_one_write),
        TEST(retry_at_another_coordinator_is_one_write),
        TEST(superseded_requests_go_with_the_window),
        TEST(writes_stop_at_the_sibling_limit_and_merges_do_not),
        TEST(a_write_buries_what_is_gone),
        TEST(writes_without_a_request_or_of_a_seen_dot_are_invalid),
        TEST(lww_keeps_the_highest_stamp_of_any_order),
        TEST(contexts_come_back_and_name_their_key),
        TEST(actors_are_extended_only_by_their_own_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
