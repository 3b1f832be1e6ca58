/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "tests/proxy/node_fixture.h"

static struct fixture f;

static int opened(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&f);
    return 0;
}

static void hint(int target, const char *key, struct bytes record)
{
    struct storage_key name = key_in(&f, TABLE_HINTS, target, "default", key);
    toy_put(&f.toy, &name, record);
}

static const char *hinted(int target, const char *key)
{
    struct storage_key name = key_in(&f, TABLE_HINTS, target, "default", key);
    return values_of(&f, toy_get(&f.toy, &name));
}

static void handed(int64_t now_ms, int from, Rkv__Status status)
{
    Rkv__HandoffReply reply = RKV__HANDOFF_REPLY__INIT;
    reply.status = status;
    answer(&f, now_ms, from, RKV__ENVELOPE__BODY_HANDOFF_REPLY, &reply);
}

static uint64_t hint_count(void)
{
    Rkv__Admin admin = RKV__ADMIN__INIT;
    static uint64_t token = 2000;
    size_t before = f.trace_size;
    uint64_t count = 0;
    admin.what = RKV__ADMIN__WHAT__HINTS;
    client(&f, f.now_ms, ++token, RKV__ENVELOPE__BODY_ADMIN, &admin);
    for (size_t i = 0; i < f.reply->admin_reply->n_hints; i++)
        count += f.reply->admin_reply->hints[i]->records;
    f.trace_size = before;
    return count;
}

/* --- hinted hand-off --- */

static void hints_go_to_their_node_when_it_is_back(void **state)
{
    (void)state;
    hint(2, "a", record_of(&f, 1, 1, "v"));
    hint(2, "b", record_of(&f, 1, 1, "w"));
    node_boot(&f);
    tick(&f, 1000);
    f.trace_size = 0;
    meet(&f, 1001, 2);
    tick(&f, 1002);
    disk(&f, 1003);
    assert_int_equal(hint_count(), 2);
    handed(1010, 2, RKV__STATUS__OK);
    disk(&f, 1011);
    tick(&f, 1012);
    expect_trace(&f, "[1001] ask 4095 -> set n2, reply 4095 ok\n"
                     "[1002] tick -> scan hints for n2\n"
                     "[1003] stored -> handoff 2 n2\n"
                     "[1010] n2 answers -> drop b for n2, drop a for n2\n");
    assert_int_equal(hint_count(), 0);
    assert_int_equal(counter_of(&f, "hints_delivered"), 2);
    assert_string_equal(hinted(2, "a"), "nothing");
}

static void a_hint_that_changed_on_its_way_stays(void **state)
{
    (void)state;
    hint(2, "a", record_of(&f, 1, 1, "old"));
    node_start(&f);
    tick(&f, 1);
    disk(&f, 2);
    hint(2, "a", record_of(&f, 1, 2, "new"));
    handed(3, 2, RKV__STATUS__OK);
    disk(&f, 4);
    assert_int_equal(hint_count(), 1);
    assert_int_equal(counter_of(&f, "hints_delivered"), 0);
    assert_string_equal(hinted(2, "a"), "new");
    f.trace_size = 0;
    tick(&f, 10);
    disk(&f, 11);
    handed(12, 2, RKV__STATUS__OK);
    disk(&f, 13);
    assert_string_equal(hinted(2, "a"), "nothing");
    assert_int_equal(hint_count(), 0);
}

static void later_writes_merge_into_the_hint(void **state)
{
    (void)state;
    node_start(&f);
    for (uint64_t i = 1; i <= 3; i++) {
        int64_t now_ms = (int64_t)i * 10;
        put(&f, now_ms, i, write_of(&f, "k", "v"));
        disk(&f, now_ms);
        ack(&f, now_ms, 2, STATUS_OK);
        gone(&f, now_ms, 3);
        disk(&f, now_ms);
    }
    assert_int_equal(hint_count(), 1);
    assert_string_equal(hinted(3, "k"), "v|v|v");
}

static void a_failed_delivery_is_tried_again(void **state)
{
    (void)state;
    hint(2, "a", record_of(&f, 1, 1, "v"));
    node_start(&f);
    tick(&f, 1);
    disk(&f, 2);
    gone(&f, 3, 2);
    tick(&f, 502);
    tick(&f, 503);
    disk(&f, 504);
    handed(505, 2, RKV__STATUS__OVERLOADED);
    tick(&f, 1504); /* twice as long */
    tick(&f, 1505);
    disk(&f, 1506);
    expect_trace(&f, "[  1] tick -> scan hints for n2\n"
                     "[  2] stored -> handoff 1 n2\n"
                     "[503] tick -> scan hints for n2\n"
                     "[504] stored -> handoff 1 n2\n"
                     "[1505] tick -> scan hints for n2\n"
                     "[1506] stored -> handoff 1 n2\n");
    assert_int_equal(hint_count(), 1);
}

/* The longer it fails the longer it waits, to eight seconds. */
static void waits_between_failed_deliveries_double(void **state)
{
    (void)state;
    static const int64_t waits_ms[] = {500, 1000, 2000, 4000, 8000, 8000};
    int64_t now_ms = 1;
    hint(2, "a", record_of(&f, 1, 1, "v"));
    node_start(&f);
    tick(&f, now_ms);
    for (size_t i = 0; i < sizeof waits_ms / sizeof *waits_ms; i++) {
        disk(&f, now_ms);
        handed(now_ms, 2, RKV__STATUS__OVERLOADED);
        f.trace_size = 0;
        tick(&f, now_ms + waits_ms[i] - 1);
        expect_trace(&f, "");
        tick(&f, now_ms += waits_ms[i]);
        assert_int_equal(f.op_count, 1);
    }
}

/* Who does not take its hints holds up nobody else's. */
static void a_failed_delivery_holds_up_no_other(void **state)
{
    (void)state;
    hint(2, "a", record_of(&f, 1, 1, "v"));
    hint(3, "b", record_of(&f, 1, 1, "v"));
    node_start(&f);
    tick(&f, 1);
    disk(&f, 2);
    handed(3, 2, RKV__STATUS__OVERLOADED);
    tick(&f, 4);
    disk(&f, 5);
    expect_trace(&f, "[  1] tick -> scan hints for n2\n"
                     "[  2] stored -> handoff 1 n2\n"
                     "[  4] tick -> scan hints for n3\n"
                     "[  5] stored -> handoff 1 n3\n");
}

/* The edge tells when a session ends; but a message may also be lost on the
 * way out. */
static void a_delivery_that_nobody_answers_is_given_up(void **state)
{
    (void)state;
    hint(2, "a", record_of(&f, 1, 1, "v"));
    node_start(&f);
    tick(&f, 1);
    disk(&f, 2);
    tick(&f, 30002);
    disk(&f, 30002);
    tick(&f, 30502);
    disk(&f, 30503);
    expect_trace(&f, "[  1] tick -> scan hints for n2\n"
                     "[  2] stored -> handoff 1 n2\n"
                     "[30502] tick -> scan hints for n2\n"
                     "[30503] stored -> handoff 1 n2\n");
    handed(30504, 2, RKV__STATUS__OK); /* to the first: it is late */
    expect_trace(&f, "");
    handed(30505, 2, RKV__STATUS__OK);
    expect_trace(&f, "[30505] n2 answers -> drop a for n2\n");
}

/* Whatever the disk never answers, the next round asks again. */
static void a_disk_that_is_never_heard_of_holds_up_no_hand_off(void **state)
{
    (void)state;
    hint(2, "a", record_of(&f, 1, 1, "v"));
    node_start(&f);
    tick(&f, 1);
    f.op_count = 0; /* the scan is lost */
    tick(&f, 30001);
    tick(&f, 30501);
    disk(&f, 30502);
    handed(30503, 2, RKV__STATUS__OK);
    tick(&f, 60502);
    expect_trace(&f, "[  1] tick -> scan hints for n2\n"
                     "[30501] tick -> scan hints for n2\n"
                     "[30502] stored -> handoff 1 n2\n"
                     "[30503] n2 answers -> drop a for n2\n");
    tick(&f, 60503);
    disk(&f, 60504); /* the drop, late, which is nobody's any more */
    tick(&f, 61003);
    expect_trace(&f, "");
    assert_int_equal(hint_count(), 0);
    Rkv__Row row = RKV__ROW__INIT;
    Rkv__Row *rows = &row;
    Rkv__Handoff handoff = RKV__HANDOFF__INIT;
    handoff.rows = &rows;
    handoff.n_rows = 1;
    row.bucket = bucket_id_of("default").value;
    row.key = binary_of_bytes(bytes_of_string("a"));
    row.record = binary_of_bytes(record_of(&f, 2, 1, "v"));
    peer(&f, 70000, 2, 1, RKV__ENVELOPE__BODY_HANDOFF, &handoff);
    tick(&f, 99999);
    tick(&f, 100000);
    disk(&f, 100001);
    expect_trace(&f, "[70000] ask 1 -> merge a\n"
                     "[100000] tick -> reply 1 timeout\n");
}

static void a_disk_that_fails_loses_no_hint(void **state)
{
    (void)state;
    hint(2, "a", record_of(&f, 1, 1, "v"));
    node_start(&f);
    tick(&f, 1);
    disk_fails(&f, 2, STATUS_BROKEN);
    tick(&f, 502);
    disk(&f, 503);
    handed(504, 2, RKV__STATUS__OK);
    disk_fails(&f, 505, STATUS_BROKEN);
    tick(&f, 2000);
    disk(&f, 2001);
    expect_trace(&f, "[  1] tick -> scan hints for n2\n"
                     "[502] tick -> scan hints for n2\n"
                     "[503] stored -> handoff 1 n2\n"
                     "[504] n2 answers -> drop a for n2\n"
                     "[2000] tick -> scan hints for n2\n"
                     "[2001] stored -> handoff 1 n2\n");
    assert_int_equal(hint_count(), 1);
    assert_int_equal(counter_of(&f, "hints_shed"), 0);
}

static void a_slow_target_gets_less(void **state)
{
    (void)state;
    f.config.limits.list_bytes_max = 1;
    hint(2, "a", record_of(&f, 1, 1, "v"));
    hint(3, "b", record_of(&f, 1, 1, "v"));
    node_start(&f);
    tick(&f, 1);
    disk(&f, 2);
    handed(301, 2, RKV__STATUS__OK);
    disk(&f, 301);
    tick(&f, 450);
    tick(&f, 451);
    expect_trace(&f, "[  1] tick -> scan hints for n2\n"
                     "[  2] stored -> handoff 1 n2\n"
                     "[301] n2 answers -> drop a for n2\n"
                     "[451] tick -> scan hints for n3\n");
}

/* One record that the target will not take must not keep the others. */
static void a_hint_that_is_refused_does_not_hold_up_the_rest(void **state)
{
    (void)state;
    for (char key[] = "a"; key[0] <= 'h'; key[0]++)
        hint(2, key, record_of(&f, 1, 1, "v"));
    node_start(&f);
    /* The target's answers: it refuses every message that has "c". */
    int64_t now_ms = 1;
    for (int round = 0; round < 20 && hint_count() > 1; round++) {
        tick(&f, now_ms += 1000);
        disk(&f, now_ms);
        const Rkv__Envelope *message = request_at(&f, 2);
        if (message == NULL)
            continue;
        bool refused = false;
        for (size_t i = 0; i < message->handoff->n_rows; i++)
            refused |= message->handoff->rows[i]->key.data[0] == 'c';
        handed(now_ms, 2, refused ? RKV__STATUS__REFUSED : RKV__STATUS__OK);
        disk(&f, now_ms);
    }
    assert_int_equal(hint_count(), 1);
    assert_string_equal(hinted(2, "c"), "v");
    assert_true(counter_of(&f, "hints_refused") > 0);
    f.trace_size = 0;
}

/* A queue or a frame that a message does not fit is heard of as no reply. */
static void play_small_queue(size_t rows_max, const char *unsendable)
{
    int64_t now_ms = 1;
    for (int round = 0; round < 60 && hint_count() > 1; round++) {
        tick(&f, now_ms += 1000);
        disk(&f, now_ms);
        for (int to = 2; to <= 3; to++) {
            const Rkv__Envelope *message = request_at(&f, to);
            if (message == NULL)
                continue;
            bool fits = message->handoff->n_rows <= rows_max;
            for (size_t i = 0; i < message->handoff->n_rows; i++)
                fits &= message->handoff->rows[i]->key.data[0] != *unsendable;
            if (fits)
                handed(now_ms, to, RKV__STATUS__OK);
            else
                gone(&f, now_ms, to);
        }
        disk(&f, now_ms);
    }
    f.trace_size = 0;
}

static void a_chunk_that_cannot_be_sent_is_halved(void **state)
{
    (void)state;
    for (char key[] = "a"; key[0] <= 'h'; key[0]++)
        hint(2, key, record_of(&f, 1, 1, "v"));
    node_start(&f);
    play_small_queue(2, "-");
    assert_int_equal(hint_count(), 0);
    assert_int_equal(counter_of(&f, "hints_refused"), 0);
}

static void a_row_that_cannot_be_sent_holds_up_no_one(void **state)
{
    (void)state;
    for (char key[] = "a"; key[0] <= 'd'; key[0]++)
        hint(2, key, record_of(&f, 1, 1, "v"));
    hint(3, "e", record_of(&f, 1, 1, "v"));
    node_start(&f);
    play_small_queue(8, "a");
    assert_int_equal(hint_count(), 1);
    assert_string_equal(hinted(2, "a"), "v");
    assert_true(counter_of(&f, "hints_refused") > 0);
    /* It was kept, and a later round finds the way free. */
    tick(&f, 100000);
    disk(&f, 100000);
    handed(100001, 2, RKV__STATUS__OK);
    disk(&f, 100002);
    assert_int_equal(hint_count(), 0);
    f.trace_size = 0;
}

static void a_damaged_hint_is_shed_and_the_rest_goes(void **state)
{
    (void)state;
    hint(2, "a", bytes_of_string("damaged"));
    hint(2, "b", record_of(&f, 1, 1, "v"));
    node_start(&f);
    tick(&f, 1);
    disk(&f, 2);
    handed(3, 2, RKV__STATUS__OK);
    disk(&f, 4);
    expect_trace(&f, "[  1] tick -> scan hints for n2\n"
                     "[  2] stored -> drop a for n2, handoff 1 n2\n"
                     "[  3] n2 answers -> drop b for n2\n");
    assert_int_equal(counter_of(&f, "storage_failures"), 1);
    assert_int_equal(counter_of(&f, "hints_shed"), 1);
    assert_int_equal(hint_count(), 0);
}

/* At the start it could not be read, and so was not counted. */
static void what_takes_a_damaged_hints_place_is_handed_over(void **state)
{
    (void)state;
    node_start(&f);
    hint(2, "a", bytes_of_string("damaged"));
    put(&f, 1, 1, write_of(&f, "a", "v"));
    disk(&f, 1);
    gone(&f, 1, 2);
    ack(&f, 1, 3, STATUS_OK);
    disk(&f, 1);
    f.trace_size = 0;
    tick(&f, 300);
    disk(&f, 301);
    expect_trace(&f, "[300] tick -> scan hints for n2\n"
                     "[301] stored -> handoff 1 n2\n");
    assert_int_equal(counter_of(&f, "hints_shed"), 1);
}

static void courtesy_hints_are_shed_over_their_bound_and_counted(void **state)
{
    (void)state;
    f.config.limits.hint_bytes_max = 400;
    node_start(&f);
    for (uint64_t i = 1; i <= 5; i++) {
        char key[] = {(char)('a' + i), '\0'};
        put(&f, 1, i, write_of(&f, key, "v"));
        disk(&f, 1);
        gone(&f, 1, 3);
        ack(&f, 1, 2, STATUS_OK);
        disk(&f, 1);
    }
    assert_in_range(hint_count(), 1, 3);
    assert_int_equal(counter_of(&f, "hints_shed"), 5 - hint_count());
    assert_int_equal(counter_of(&f, "hints_stored"), hint_count());
    assert_int_equal(counter_of(&f, "writes_applied"), 5);
    f.trace_size = 0;
}

/* Put so that n3 misses it. */
static void miss(int64_t now_ms, const char *name)
{
    static uint64_t token = 3000;
    put(&f, now_ms, token++, write_of(&f, name, "v"));
    disk(&f, now_ms);
    gone(&f, now_ms, 3);
    ack(&f, now_ms, 2, STATUS_OK);
    disk(&f, now_ms);
    f.trace_size = 0;
}

/* What was not run is not there; what failed may be. */
static void what_the_disk_refuses_does_not_count_as_kept(void **state)
{
    (void)state;
    static const enum status refused[] = {STATUS_OVERLOADED, STATUS_BROKEN,
                                          STATUS_TIMEOUT};
    f.config.limits.hint_bytes_max = 400;
    node_start(&f);
    for (uint64_t i = 0; i < 6; i++) {
        put(&f, 1, 1 + i, write_of(&f, "a", "v"));
        disk(&f, 1);
        gone(&f, 1, 3);
        ack(&f, 1, 2, STATUS_OK);
        disk_fails(&f, 1, refused[i % 3]);
    }
    assert_int_equal(hint_count(), 0);
    assert_int_equal(counter_of(&f, "hints_shed"), 6);
    miss(1, "b");
    assert_int_equal(hint_count(), 1);
    for (uint64_t i = 0; i < 6; i++) {
        put(&f, 1, 11 + i, write_of(&f, "a", "v"));
        disk(&f, 1);
        gone(&f, 1, 3);
        ack(&f, 1, 2, STATUS_OK);
        disk_fails(&f, 1, STATUS_IO);
    }
    assert_true(counter_of(&f, "hints_shed") > 6);
    f.trace_size = 0;
}

static void courtesy_hints_are_kept_for_a_while(void **state)
{
    (void)state;
    f.config.timeouts.hint_window_ms = 1000;
    node_start(&f);
    tick(&f, 5000);
    miss(5000, "a");
    miss(6000, "b");
    assert_int_equal(hint_count(), 2);
    miss(6001, "c");
    assert_int_equal(hint_count(), 2);
    assert_int_equal(counter_of(&f, "hints_shed"), 1);
    /* It is there again, and away once more. */
    tick(&f, 6002);
    disk(&f, 6002);
    handed(6003, 3, RKV__STATUS__OK);
    disk(&f, 6003);
    assert_int_equal(hint_count(), 0);
    miss(6500, "d");
    miss(7500, "e");
    assert_int_equal(hint_count(), 2);
    miss(7501, "e");
    assert_int_equal(counter_of(&f, "hints_shed"), 2);
    /* One that it refuses stays, and says that it is there. */
    tick(&f, 7600);
    disk(&f, 7600);
    handed(7601, 3, RKV__STATUS__OVERLOADED);
    miss(8500, "f");
    assert_int_equal(hint_count(), 3);
    assert_int_equal(counter_of(&f, "hints_shed"), 2);
    f.trace_size = 0;
}

#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(opened, hints_go_to_their_node_when_it_is_back),
        WITH(opened, a_hint_that_changed_on_its_way_stays),
        WITH(opened, later_writes_merge_into_the_hint),
        WITH(opened, a_failed_delivery_is_tried_again),
        WITH(opened, waits_between_failed_deliveries_double),
        WITH(opened, a_failed_delivery_holds_up_no_other),
        WITH(opened, a_delivery_that_nobody_answers_is_given_up),
        WITH(opened, a_disk_that_is_never_heard_of_holds_up_no_hand_off),
        WITH(opened, a_disk_that_fails_loses_no_hint),
        WITH(opened, a_slow_target_gets_less),
        WITH(opened, a_hint_that_is_refused_does_not_hold_up_the_rest),
        WITH(opened, a_chunk_that_cannot_be_sent_is_halved),
        WITH(opened, a_row_that_cannot_be_sent_holds_up_no_one),
        WITH(opened, a_damaged_hint_is_shed_and_the_rest_goes),
        WITH(opened, what_takes_a_damaged_hints_place_is_handed_over),
        WITH(opened, courtesy_hints_are_shed_over_their_bound_and_counted),
        WITH(opened, what_the_disk_refuses_does_not_count_as_kept),
        WITH(opened, courtesy_hints_are_kept_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
