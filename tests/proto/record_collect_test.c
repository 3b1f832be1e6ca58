/* SPDX-License-Identifier: MIT */
#include "tests/proto/record_version.h"

/* What may be forgotten of a record that all replicas hold. */

static struct arena arena;

static int opened(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static struct dot dot_of(uint64_t actor, uint64_t counter)
{
    return (struct dot){.actor = {.incarnation = actor, .epoch = 1},
                        .counter = counter};
}

static struct value value_of(struct dot *dot, uint8_t request,
                             int64_t written_ms)
{
    return (struct value){.dots = dot,
                          .dot_count = 1,
                          .request = {{1, request}},
                          .written_ms = written_ms,
                          .data = bytes_of("v", 1)};
}

static struct value tombstone_of(struct dot *dot, uint8_t request,
                                 int64_t written_ms)
{
    struct value value = value_of(dot, request, written_ms);
    value.tombstone = true;
    value.data = (struct bytes){0};
    return value;
}

static bool collected(const struct record *record, int64_t before_ms,
                      struct record *left)
{
    bool is_less = record_collect(record, before_ms, &arena, left);
    struct buffer encoded = {0};
    struct record decoded;
    /* What is left is a record. */
    assert_int_equal(record_encode(left, &encoded), STATUS_OK);
    assert_int_equal(record_decode(buffer_bytes(&encoded), &arena, &decoded),
                     STATUS_OK);
    buffer_fini(&encoded);
    /* And all that may go went. */
    struct record more;
    if (is_less)
        assert_false(left->value_count > 0 &&
                     record_collect(left, before_ms, &arena, &more));
    return is_less;
}

static void a_tombstone_goes_when_it_is_old(void **state)
{
    (void)state;
    struct dot dot = dot_of(1, 1);
    struct value value = tombstone_of(&dot, 1, 100);
    struct record record = {
        .context = {&dot, 1}, .values = &value, .value_count = 1};
    struct record left;
    assert_false(collected(&record, 100, &left));
    assert_true(collected(&record, 101, &left));
    assert_int_equal(left.value_count + left.context.count, 0);
    assert_int_equal(record_ripe_ms(&record), 100);
}

/* In lww a clock that was ahead makes it older. */
static void a_lww_tombstone_waits_for_its_stamp(void **state)
{
    (void)state;
    struct dot dot = dot_of(1, 1);
    struct value value = tombstone_of(&dot, 1, 100);
    struct record record = {.kind = RECORD_LWW,
                            .context = {&dot, 1},
                            .values = &value,
                            .value_count = 1};
    struct record left;
    value.stamp = UINT64_C(300) << 16;
    assert_int_equal(record_ripe_ms(&record), 300);
    assert_false(collected(&record, 300, &left));
    assert_true(collected(&record, 301, &left));
}

static void a_value_goes_when_it_is_expired_as_long(void **state)
{
    (void)state;
    struct dot dot = dot_of(1, 1);
    struct value value = value_of(&dot, 1, 100);
    struct record record = {
        .context = {&dot, 1}, .values = &value, .value_count = 1};
    struct record left;
    assert_int_equal(record_ripe_ms(&record), -1);
    assert_false(collected(&record, INT64_MAX, &left));
    value.expires_ms = 200;
    assert_int_equal(record_ripe_ms(&record), 200);
    assert_false(collected(&record, 200, &left));
    assert_true(collected(&record, 201, &left));
    assert_int_equal(left.value_count, 0);
}

/* Without it a retry would be a new write. */
static void a_request_that_may_come_again_is_kept(void **state)
{
    (void)state;
    struct dot dots[] = {dot_of(1, 1), dot_of(2, 1)};
    struct value value = tombstone_of(&dots[1], 2, 100);
    /* By a clock that was ahead. */
    struct superseded put = {
        .request = {{1, 1}}, .dot = dots[0], .written_ms = 300};
    struct record record = {.context = {dots, 2},
                            .values = &value,
                            .value_count = 1,
                            .superseded = &put,
                            .superseded_count = 1};
    struct record left;
    assert_true(collected(&record, 300, &left));
    assert_int_equal(left.superseded_count, 1);
    assert_int_equal(left.value_count, 0);
    assert_int_equal(record_ripe_ms(&left), 0);
    assert_true(context_covers(&left.context, dots[0]));
    assert_true(collected(&record, 301, &left));
    assert_int_equal(left.superseded_count + left.context.count, 0);
}

static void a_dead_sibling_goes_and_its_dot_too(void **state)
{
    (void)state;
    struct dot dots[] = {dot_of(1, 5), dot_of(2, 7)};
    struct value values[] = {tombstone_of(&dots[0], 1, 100),
                             value_of(&dots[1], 2, 100)};
    struct record record = {
        .context = {dots, 2}, .values = values, .value_count = 2};
    struct record left;
    assert_true(collected(&record, 200, &left));
    assert_int_equal(left.value_count, 1);
    assert_true(context_covers(&left.context, dots[1]));
    assert_false(context_covers(&left.context, dots[0]));
}

/* Each restart of a coordinator begins another entry. */
static void a_record_that_is_written_over_for_ever_stays_small(void **state)
{
    (void)state;
    struct record own = record_empty(RECORD_SIBLINGS), left;
    size_t largest = 0;
    for (uint8_t life = 1; life <= 200; life++) {
        struct actor_source source;
        actor_source_init(&source, life);
        struct record_write write = {
            .seen = own.context,
            .request = {{life}},
            .dot = actor_source_next(&source, &own.context),
            .now_ms = 1000 * life,
            .data = bytes_of("v", 1),
        };
        bool duplicate;
        assert_int_equal(
            record_apply(&own, &write, 1000, &arena, &own, &duplicate),
            STATUS_OK);
        if (record_ripe_ms(&own) >= 0 &&
            collected(&own, write.now_ms - 1500, &left))
            own = left;
        if (own.context.count > largest)
            largest = own.context.count;
    }
    assert_int_equal(own.value_count, 1);
    assert_in_range(largest, 2, 12);
}

/* Whoever meets an older copy has all of it back: still one record. */
static void a_fold_and_an_older_copy_merge(void **state)
{
    (void)state;
    struct dot dots[8];
    for (uint64_t i = 0; i < 8; i++)
        dots[i] = dot_of(i + 1, 3);
    struct value value = value_of(&dots[7], 1, 100);
    struct record record = {
        .context = {dots, 8}, .values = &value, .value_count = 1};
    struct record left, a, b;
    assert_true(collected(&record, 200, &left));
    assert_int_equal(left.context.count, 1);
    assert_int_equal(record_merge(&record, &left, 0, 1000, &arena, &a),
                     STATUS_OK);
    assert_int_equal(record_merge(&left, &record, 0, 1000, &arena, &b),
                     STATUS_OK);
    assert_int_equal(version_of(&a), version_of(&b));
    assert_int_equal(version_of(&a), version_of(&record));
}

static void without_memory_nothing_goes(void **state)
{
    (void)state;
    struct dot dot = dot_of(1, 1);
    struct value value = tombstone_of(&dot, 1, 100);
    struct record record = {
        .context = {&dot, 1}, .values = &value, .value_count = 1};
    struct record left;
    struct arena small;
    arena_init(&small, 16);
    assert_false(record_collect(&record, 200, &small, &left));
    arena_fini(&small);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, opened, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_tombstone_goes_when_it_is_old),
        WITH(a_lww_tombstone_waits_for_its_stamp),
        WITH(a_value_goes_when_it_is_expired_as_long),
        WITH(a_request_that_may_come_again_is_kept),
        WITH(a_dead_sibling_goes_and_its_dot_too),
        WITH(a_record_that_is_written_over_for_ever_stays_small),
        WITH(a_fold_and_an_older_copy_merge),
        WITH(without_memory_nothing_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
