/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "checks.h"
#include "proto/record.h"

/* Every checker against a history that is wrong, and the same one right. */

static struct history history;
static struct dot_ledger ledger;
static struct verdict verdict;
static struct arena arena;

static int fresh(void **state)
{
    (void)state;
    memset(&history, 0, sizeof history);
    memset(&ledger, 0, sizeof ledger);
    memset(&verdict, 0, sizeof verdict);
    arena_init(&arena, 1 << 20);
    return 0;
}

static int done(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

/* A put or delete of key 0 whose client had seen the other (0: nothing). */
static uint32_t write_of(bool remove, uint32_t seen)
{
    struct write_set set = {{0}};
    if (seen > 0)
        history_seen(&history, &seen, 1, &set);
    uint32_t number = history_write(&history, 0, remove, &set, 0);
    history.writes[number].fate = FATE_APPLIED;
    history.writes[number].observed = true;
    return number;
}

/* A record with these writes side by side, dot (actor, counter) each. */
struct made {
    uint32_t write;
    uint64_t actor, counter;
};

static struct buffer record_with(const struct made *list, size_t count)
{
    struct buffer encoded = {0};
    struct record record = record_empty(RECORD_SIBLINGS);
    for (size_t i = 0; i < count; i++) {
        struct dot dot = {.actor = {.incarnation = list[i].actor, .epoch = 1},
                          .counter = list[i].counter};
        struct value value = {.dots = &dot, .dot_count = 1, .stamp = 1};
        struct context only = {.entries = &dot, .count = 1};
        struct record single = {
            .context = only, .values = &value, .value_count = 1};
        struct record merged;
        memcpy(value.request.bytes, &list[i].write, sizeof list[i].write);
        struct buffer copy = {0};
        assert_int_equal(record_encode(&single, &copy), STATUS_OK);
        void *kept = arena_copy(&arena, copy.data, copy.size);
        assert_int_equal(
            record_decode(bytes_of(kept, copy.size), &arena, &single),
            STATUS_OK);
        assert_int_equal(
            record_merge(&record, &single, 0, 60000, &arena, &merged),
            STATUS_OK);
        record = merged;
        buffer_fini(&copy);
    }
    assert_int_equal(record_encode(&record, &encoded), STATUS_OK);
    return encoded;
}

static void observe(const struct made *list, size_t count)
{
    static struct record_view view;
    struct buffer record = record_with(list, count);
    assert_true(record_view_read(&view, record.data, record.size));
    assert_int_equal(view.value_count, count);
    check_dot_once(&ledger, &history, &view, &verdict);
    buffer_fini(&record);
}

static void expect(const char *invariant)
{
    if (invariant == NULL)
        assert_null(verdict.invariant);
    else
        assert_string_equal(verdict.invariant, invariant);
}

/* --- dot-once --- */

static void a_dot_of_two_writes_is_caught(void **state)
{
    (void)state;
    observe((struct made[]){{1, 7, 1}}, 1);
    observe((struct made[]){{1, 7, 1}, {2, 8, 1}}, 2);
    expect(NULL);
    observe((struct made[]){{3, 8, 1}}, 1);
    expect("dot-once");
}

static void a_write_under_two_dots_is_allowed_and_counted(void **state)
{
    (void)state;
    write_of(false, 0);
    observe((struct made[]){{1, 7, 1}}, 1);
    observe((struct made[]){{1, 8, 1}}, 1);
    expect(NULL);
    assert_int_equal(history.writes[1].dot_count, 2);
}

/* --- no-false-sibling --- */

static void a_sibling_that_was_seen_is_caught(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0), b = write_of(false, a);
    uint32_t c = write_of(false, b), d = write_of(false, 0);
    check_no_false_sibling(&history, (uint32_t[]){c, d}, 2, false, &verdict);
    expect(NULL);
    /* Not by c's client, but by the one of b, which that had seen. */
    check_no_false_sibling(&history, (uint32_t[]){a, c}, 2, false, &verdict);
    expect("no-false-sibling");
}

static void a_value_that_is_there_twice_is_caught(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0);
    check_no_false_sibling(&history, (uint32_t[]){a, a}, 2, false, &verdict);
    expect("no-false-sibling");
}

static void one_coordinated_twice_is_judged_at_the_end(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0), b = write_of(false, a);
    history.writes[a].dot_count = 2;
    check_no_false_sibling(&history, (uint32_t[]){a, b}, 2, false, &verdict);
    expect(NULL);
    check_no_false_sibling(&history, (uint32_t[]){a, b}, 2, true, &verdict);
    expect("no-false-sibling");
}

/* --- outcome-true --- */

static void applied_on_too_few_is_caught(void **state)
{
    (void)state;
    struct buffer has = record_with((struct made[]){{1, 7, 1}}, 1);
    struct buffer lacks = record_with((struct made[]){{2, 7, 1}}, 1);
    struct copy copies[] = {{0, has.data, has.size},
                            {0, has.data, has.size},
                            {1, lacks.data, lacks.size},
                            {2, has.data, has.size}};
    check_applied(1, 2, copies, 4, &verdict);
    expect(NULL);
    /* Two copies of one slot are one. */
    check_applied(1, 2, copies, 3, &verdict);
    expect("outcome-true");
    buffer_fini(&has);
    buffer_fini(&lacks);
}

static void not_applied_and_seen_is_caught_in_either_order(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0), b = write_of(false, 0);
    history.writes[a].observed = history.writes[b].observed = false;
    check_not_applied(&history, a, &verdict);
    check_observed(&history, b, &verdict);
    expect(NULL);
    check_observed(&history, a, &verdict);
    expect("outcome-true");
    memset(&verdict, 0, sizeof verdict);
    check_not_applied(&history, b, &verdict);
    expect("outcome-true");
}

static void a_value_that_nobody_wrote_is_caught(void **state)
{
    (void)state;
    write_of(false, 0);
    check_observed(&history, 2, &verdict);
    expect("outcome-true");
}

/* --- acked-durable --- */

static void a_lost_write_is_caught(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0), b = write_of(false, 0);
    check_acked_durable(&history, 0, (uint32_t[]){a, b}, 2, &verdict);
    expect(NULL);
    check_acked_durable(&history, 0, &a, 1, &verdict);
    expect("acked-durable");
}

static void what_lasts_excuses_what_it_had_seen(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0), b = write_of(false, a);
    uint32_t c = write_of(true, b);
    check_acked_durable(&history, 0, NULL, 0, &verdict);
    expect(NULL);
    /* A write that is gone without a trace excuses nothing, unanswered or
     * not. */
    history.writes[b].fate = history.writes[c].fate = FATE_OPEN;
    history.writes[c].observed = false;
    check_acked_durable(&history, 0, NULL, 0, &verdict);
    expect("acked-durable");
}

static void a_deleted_value_that_is_back_is_caught(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0);
    write_of(true, a);
    check_acked_durable(&history, 0, &a, 1, &verdict);
    expect("no-resurrection");
}

static void a_lower_stamp_in_lww_is_caught(void **state)
{
    (void)state;
    history.key_is_lww[0] = true;
    uint32_t a = write_of(false, 0), b = write_of(false, 0);
    history.writes[a].stamp_min = history.writes[a].stamp_max = 10;
    history.writes[b].stamp_min = history.writes[b].stamp_max = 20;
    check_acked_durable(&history, 0, &b, 1, &verdict);
    expect(NULL);
    check_acked_durable(&history, 0, &a, 1, &verdict);
    expect("acked-durable");
}

static void a_replaced_value_in_lww_that_is_back_is_caught(void **state)
{
    (void)state;
    history.key_is_lww[0] = true;
    uint32_t a = write_of(false, 0), b = write_of(false, a);
    history.writes[a].stamp_min = history.writes[a].stamp_max = 20;
    history.writes[b].stamp_min = history.writes[b].stamp_max = 10;
    history.writes[a].dot_count = 2;
    check_acked_durable(&history, 0, &a, 1, &verdict);
    expect(NULL);
    history.writes[a].dot_count = 1;
    check_acked_durable(&history, 0, &a, 1, &verdict);
    expect("acked-durable");
}

static void a_lost_delete_in_lww_is_caught(void **state)
{
    (void)state;
    history.key_is_lww[0] = true;
    uint32_t a = write_of(false, 0), b = write_of(true, 0);
    history.writes[a].stamp_min = history.writes[a].stamp_max = 10;
    history.writes[b].stamp_min = history.writes[b].stamp_max = 20;
    check_acked_durable(&history, 0, NULL, 0, &verdict);
    expect(NULL);
    check_acked_durable(&history, 0, &a, 1, &verdict);
    expect("acked-durable");
}

/* Coordinated twice, it may live as long as the longer of both. */
static void an_expired_value_that_is_shown_is_caught(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0), b = write_of(false, 0);
    history.writes[b].expires = true;
    history.writes[b].expires_max_ms = 100;
    check_not_expired(&history, a, 1000, &verdict);
    check_not_expired(&history, b, 99, &verdict);
    expect(NULL);
    check_not_expired(&history, b, 100, &verdict);
    expect("no-resurrection");
}

static void a_life_that_is_cut_short_is_caught(void **state)
{
    (void)state;
    static struct record_view view;
    uint32_t a = write_of(false, 0);
    struct buffer record = record_with((struct made[]){{a, 7, 1}}, 1);
    assert_true(record_view_read(&view, record.data, record.size));
    check_lifetime(&history, &view, &verdict);
    expect(NULL);
    history.writes[a].expires = true;
    history.writes[a].expires_min_ms = view.values[0].expires_ms = 100;
    check_lifetime(&history, &view, &verdict);
    expect(NULL);
    view.values[0].expires_ms = 99;
    check_lifetime(&history, &view, &verdict);
    expect("acked-durable");
    buffer_fini(&record);
}

static void an_expired_value_may_be_gone(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0);
    history.writes[a].expires = true;
    history.writes[a].expires_max_ms = 100;
    history.wall_ms_max = 100;
    check_acked_durable(&history, 0, NULL, 0, &verdict);
    expect(NULL);
    history.wall_ms_max = 99;
    check_acked_durable(&history, 0, NULL, 0, &verdict);
    expect("acked-durable");
}

/* A delete that was superseded within its batch is in no record. */
static void a_delete_that_was_prepared_excuses(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0), b = write_of(true, a);
    history.writes[b].observed = false;
    history.writes[b].fate = FATE_OPEN;
    history.writes[b].prepared = true;
    check_acked_durable(&history, 0, NULL, 0, &verdict);
    expect(NULL);
    history.writes[b].prepared = false;
    check_acked_durable(&history, 0, NULL, 0, &verdict);
    expect("acked-durable");
}

/* Behind a night its retry may be a write of its own. */
static void a_write_from_before_a_night_may_be_back(void **state)
{
    (void)state;
    uint32_t a = write_of(false, 0);
    uint32_t b = write_of(false, a), live[] = {a, b};
    history.writes[a].dot_count = 2;
    history.writes[a].issued_us = history.writes[b].issued_us = 5;
    history.night_us = 5;
    check_acked_durable(&history, 0, live, 2, &verdict);
    expect(NULL);
    history.night_us = 4;
    check_acked_durable(&history, 0, live, 2, &verdict);
    expect("no-resurrection");
}

/* --- what is forgotten --- */

static void what_is_forgotten_too_early_is_caught(void **state)
{
    (void)state;
    static struct record_view before;
    struct buffer a = record_with((struct made[]){{2, 7, 2}}, 1);
    struct buffer b = record_with((struct made[]){{1, 7, 1}}, 1);
    struct buffer c = record_with((struct made[]){{3, 8, 1}}, 1);
    struct copy copies[] = {
        {0, a.data, a.size}, {1, c.data, c.size}, {2, b.data, b.size}};
    assert_true(record_view_read(&before, a.data, a.size));
    check_forgotten(0, &before, copies, 2, &verdict);
    expect(NULL);
    check_forgotten(0, &before, copies, 3, &verdict);
    expect("no-resurrection");
    buffer_fini(&a);
    buffer_fini(&b);
    buffer_fini(&c);
}

static void of_what_is_forgotten_no_read_need_show(void **state)
{
    (void)state;
    static struct record_view gone, known, none;
    struct read_floor floor = {.count = 0}, forgotten = {.count = 0};
    struct buffer a = record_with((struct made[]){{1, 7, 2}}, 1);
    struct buffer b = record_with((struct made[]){{2, 7, 3}}, 1);
    assert_true(record_view_read(&gone, a.data, a.size));
    assert_true(record_view_read(&known, b.data, b.size));
    floor_raise(&forgotten, &gone);
    floor_raise(&floor, &gone);
    floor_forget(&floor, &forgotten);
    check_session(0, &floor, &none, &verdict);
    expect(NULL);
    /* But of what came behind it. */
    floor_raise(&floor, &known);
    floor_forget(&floor, &forgotten);
    check_session(0, &floor, &none, &verdict);
    expect("session");
    buffer_fini(&a);
    buffer_fini(&b);
}

/* --- converged, monotonic-quorum --- */

static void replicas_that_differ_are_caught(void **state)
{
    (void)state;
    struct buffer a = record_with((struct made[]){{1, 7, 1}}, 1);
    struct buffer b = record_with((struct made[]){{1, 8, 1}}, 1);
    struct copy copies[] = {
        {0, a.data, a.size}, {1, a.data, a.size}, {2, b.data, b.size}};
    check_converged(0, copies, 0, 3, &verdict);
    copies[2].data = a.data;
    check_converged(0, copies, 3, 3, &verdict);
    expect(NULL);
    check_converged(0, copies, 2, 3, &verdict);
    expect("converged");
    memset(&verdict, 0, sizeof verdict);
    copies[2].data = b.data;
    check_converged(0, copies, 3, 3, &verdict);
    expect("converged");
    assert_true(verdict.is_liveness);
    buffer_fini(&a);
    buffer_fini(&b);
}

static void a_read_that_goes_back_is_caught(void **state)
{
    (void)state;
    static struct record_view new, old;
    struct read_floor floor = {.count = 0};
    struct buffer a = record_with((struct made[]){{1, 7, 2}}, 1);
    struct buffer b = record_with((struct made[]){{1, 7, 1}, {2, 8, 9}}, 2);
    assert_true(record_view_read(&new, a.data, a.size));
    assert_true(record_view_read(&old, b.data, b.size));
    check_monotonic_quorum(0, &floor, &old, &verdict);
    floor_raise(&floor, &new);
    check_monotonic_quorum(0, &floor, &new, &verdict);
    expect(NULL);
    check_session(0, &floor, &new, &verdict);
    check_monotonic_quorum(0, &floor, &old, &verdict);
    expect("monotonic-quorum");
    verdict = (struct verdict){0};
    check_session(0, &floor, &old, &verdict);
    expect("session");
    buffer_fini(&a);
    buffer_fini(&b);
}

/* --- distinct, balanced --- */

static void bad_placements_are_caught(void **state)
{
    (void)state;
    const uint32_t zones[] = {0, 1, 2, 0};
    const uint32_t good[] = {0, 1, 2, 3, 1, 2};
    const uint32_t twice[] = {0, 1, 1, 3, 1, 2};
    const uint32_t heavy[] = {0, 1, 2, 0, 1, 2};
    check_placement(good, 2, 3, zones, 4, &verdict);
    expect(NULL);
    check_placement(twice, 2, 3, zones, 4, &verdict);
    expect("distinct");
    memset(&verdict, 0, sizeof verdict);
    check_placement(heavy, 2, 3, zones, 4, &verdict);
    expect("balanced");
}

/* --- bounded, no-false-death --- */

static void what_outgrows_its_limit_is_caught(void **state)
{
    (void)state;
    check_bounded("n1", "hints", 400, 400, &verdict);
    expect(NULL);
    check_bounded("n1", "hints", 401, 400, &verdict);
    expect("bounded");
}

static void false_deaths_are_caught_when_they_last(void **state)
{
    (void)state;
    const int64_t most_us = FALSE_DEATH_US_MAX;
    check_no_false_death("n1", "n2", most_us, most_us, &verdict);
    check_no_false_death("n1", "n2", most_us, INT64_MAX, &verdict);
    check_no_false_death("n1", "n2", INT64_MAX, most_us, &verdict);
    expect(NULL);
    check_no_false_death("n1", "n2", most_us + 1, most_us + 1, &verdict);
    expect("no-false-death");
    assert_true(verdict.is_liveness);
}

static void a_clock_that_is_wrong_is_caught(void **state)
{
    (void)state;
    check_clock("n1", 100, 100, 200, &verdict);
    check_clock("n1", 200, 100, 200, &verdict);
    expect(NULL);
    check_clock("n1", 99, 100, 200, &verdict);
    expect("clock");
    memset(&verdict, 0, sizeof verdict);
    check_clock("n1", 201, 100, 200, &verdict);
    expect("clock");
}

/* --- the decoder of the checkers --- */

static void the_decoder_refuses_every_truncation(void **state)
{
    (void)state;
    static struct record_view view;
    struct buffer record =
        record_with((struct made[]){{1, 7, 1}, {2, 8, 1}}, 2);
    assert_true(record_view_read(&view, record.data, record.size));
    for (size_t size = 0; size < record.size; size++) {
        /* Of its own, so that a read behind it is caught. */
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, record.data, size);
        assert_false(record_view_read(&view, cut, size));
        free(cut);
    }
    buffer_fini(&record);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, fresh, done)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_dot_of_two_writes_is_caught),
        WITH(a_write_under_two_dots_is_allowed_and_counted),
        WITH(a_sibling_that_was_seen_is_caught),
        WITH(a_value_that_is_there_twice_is_caught),
        WITH(one_coordinated_twice_is_judged_at_the_end),
        WITH(applied_on_too_few_is_caught),
        WITH(not_applied_and_seen_is_caught_in_either_order),
        WITH(a_value_that_nobody_wrote_is_caught),
        WITH(a_lost_write_is_caught),
        WITH(what_lasts_excuses_what_it_had_seen),
        WITH(a_deleted_value_that_is_back_is_caught),
        WITH(a_lower_stamp_in_lww_is_caught),
        WITH(a_replaced_value_in_lww_that_is_back_is_caught),
        WITH(a_lost_delete_in_lww_is_caught),
        WITH(an_expired_value_that_is_shown_is_caught),
        WITH(a_life_that_is_cut_short_is_caught),
        WITH(an_expired_value_may_be_gone),
        WITH(a_delete_that_was_prepared_excuses),
        WITH(a_write_from_before_a_night_may_be_back),
        WITH(what_is_forgotten_too_early_is_caught),
        WITH(of_what_is_forgotten_no_read_need_show),
        WITH(replicas_that_differ_are_caught),
        WITH(a_read_that_goes_back_is_caught),
        WITH(bad_placements_are_caught),
        WITH(what_outgrows_its_limit_is_caught),
        WITH(a_clock_that_is_wrong_is_caught),
        WITH(false_deaths_are_caught_when_they_last),
        WITH(the_decoder_refuses_every_truncation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
