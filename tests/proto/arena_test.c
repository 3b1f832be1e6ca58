/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/arena.h"
#include "proto/outbox.h"

static void arena_refuses_what_is_over_its_budget(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1024);
    assert_null(arena_alloc(&arena, 1025));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_non_null(arena_alloc(&arena, 1000));
    assert_null(arena_alloc(&arena, 100));
    arena_reset(&arena);
    assert_non_null(arena_alloc(&arena, 1024));
    assert_null(arena_alloc(&arena, 0));
    arena_fini(&arena);
    assert_null(arena_alloc(&arena, 1));
}

static void arena_memory_is_aligned_apart_and_stays(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    struct arena arena;
    arena_init(&arena, 1 << 20);
    for (int round = 0; round < 2; round++) {
        uint8_t *parts[COUNT];
        for (int i = 0; i < COUNT; i++) {
            parts[i] = arena_zalloc(&arena, (size_t)i);
            assert_non_null(parts[i]);
            assert_int_equal((uintptr_t)parts[i] % _Alignof(max_align_t), 0);
            for (int k = 0; k < i; k++) {
                assert_int_equal(parts[i][k], 0);
                parts[i][k] = (uint8_t)i;
            }
        }
        for (int i = 1; i < COUNT; i++) {
            assert_ptr_not_equal(parts[i], parts[i - 1]);
            assert_int_equal(parts[i][0], (uint8_t)i);
            assert_int_equal(parts[i][i - 1], (uint8_t)i);
        }
        arena_reset(&arena);
    }
    arena_fini(&arena);
}

static void
outbox_keeps_order_and_drops_requests_without_a_message(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 256);
    struct outbox outbox;
    outbox_init(&outbox, &arena);
    Rkv__Envelope *said = envelope_result(&arena, STATUS_OK, NULL);
    outbox_reply(&outbox, (struct reply_token){0}, said);
    assert_int_equal(outbox.count, 0);
    for (uint64_t i = 1; i <= 1000; i++)
        outbox_request(&outbox, node_id_of("c", "n"), LANE_BULK,
                       request_number(OWNER_WRITE, i), said);
    outbox_request(&outbox, node_id_of("c", "n"), LANE_BULK,
                   request_number(OWNER_WRITE, 1001), NULL);
    assert_int_equal(outbox.count, 1000);
    assert_int_equal(outbox.dropped, 1);
    for (size_t i = 0; i < outbox.count; i++) {
        uint64_t request = outbox.messages[i].request;
        assert_int_equal(request, request_number(OWNER_WRITE, i + 1));
        assert_int_equal(request_owner_of(request), OWNER_WRITE);
    }
    arena_fini(&arena);
}

static void what_is_adopted_lives_on(void **state)
{
    (void)state;
    struct arena mine, other;
    arena_init(&mine, 0);
    for (int round = 0; round < 3; round++) {
        arena_init(&other, 100000);
        char *kept = arena_string(&other, "kept");
        assert_non_null(arena_alloc(&other, 90000));
        arena_adopt(&mine, &other);
        assert_int_equal(other.budget, 0);
        assert_null(arena_alloc(&other, 1));
        arena_fini(&other);
        assert_string_equal(kept, "kept");
        assert_int_equal(mine.budget, 100000 * (round + 1));
        assert_true(mine.used > 90000 * (size_t)(round + 1));
        assert_non_null(arena_alloc(&mine, 100));
    }
    arena_fini(&mine);
}

static void outbox_replies_when_no_memory_is_left(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 0);
    struct outbox outbox;
    outbox_init(&outbox, &arena);
    for (uint64_t i = 1; i <= 100; i++)
        outbox_reply(&outbox, (struct reply_token){i}, NULL);
    assert_int_equal(outbox.count, 100);
    assert_int_equal(outbox.dropped, 100);
    for (size_t i = 0; i < outbox.count; i++) {
        assert_int_equal(outbox.messages[i].token.value, i + 1);
        const Rkv__Result *result = outbox.messages[i].envelope->result;
        assert_int_equal(result->status, STATUS_OVERLOADED);
        assert_int_equal(result->outcome, RKV__OUTCOME__UNKNOWN);
        assert_true(result->retry_after_ms > 0);
    }
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_refuses_what_is_over_its_budget),
        cmocka_unit_test(arena_memory_is_aligned_apart_and_stays),
        cmocka_unit_test(what_is_adopted_lives_on),
        cmocka_unit_test(
            outbox_keeps_order_and_drops_requests_without_a_message),
        cmocka_unit_test(outbox_replies_when_no_memory_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
