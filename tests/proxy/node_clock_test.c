/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

/* n1's wall clock, and what the others' show, in ms from where it begins. */
static struct fixture f;
static int64_t began_ms;

enum { SKEW_MS = 5000 };
#define DAY_MS INT64_C(86400000)

static int opened(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    f.config.self.version_max = PEER_VERSION_CLOCK;
    f.wall_ahead_ms = 100 * DAY_MS; /* days to go back */
    for (size_t i = 0; i < 3; i++)
        f.members[i].version_max = PEER_VERSION_CLOCK;
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&f);
    return 0;
}

static void shows(int64_t now_ms, int from, int64_t ahead_ms)
{
    Rkv__ClockReply reply = RKV__CLOCK_REPLY__INIT;
    reply.wall_ms = began_ms + now_ms + ahead_ms;
    answer(&f, now_ms, from, RKV__ENVELOPE__BODY_CLOCK_REPLY, &reply);
}

/* What the node tells of its own clock. */
static int64_t told_ms(int64_t now_ms, uint64_t token)
{
    Rkv__Clock clock = RKV__CLOCK__INIT;
    peer(&f, now_ms, 2, token, RKV__ENVELOPE__BODY_CLOCK, &clock);
    return f.reply->clock_reply->wall_ms;
}

/* Both others are asked at the next tick. */
static void start(void)
{
    node_start(&f);
    began_ms = told_ms(0, 4000);
    f.trace_size = 0;
}

/* What n1 goes by, from where its clock began and with time taken off. */
static int64_t ahead_ms(int64_t now_ms)
{
    static uint64_t token = 3000;
    put(&f, now_ms, token++, write_of(&f, "k", "v"));
    int64_t wall_ms = f.ops[f.op_count - 1].op.wall_ms;
    disk_fails(&f, now_ms, STATUS_BROKEN);
    f.trace_size = 0;
    return wall_ms - began_ms - now_ms;
}

static void others_are_asked_for_their_clocks(void **state)
{
    (void)state;
    start();
    tick(&f, 1);
    shows(2, 2, 0);
    gone(&f, 2, 3);
    tick(&f, 1001);
    tick(&f, 1002);
    shows(1003, 3, 0);
    tick(&f, 10000);
    tick(&f, 10001);
    gone(&f, 10002, 2);
    tick(&f, 11002);
    expect_trace(&f, "[  1] tick -> clock n2, clock n3\n"
                     "[1002] tick -> clock n3\n"
                     "[10001] tick -> clock n2\n"
                     "[11002] tick -> clock n2, clock n3\n");
}

static void who_does_not_know_of_clocks_is_not_asked(void **state)
{
    (void)state;
    f.members[2].version_max = PEER_VERSION_CLOCK - 1;
    start();
    tick(&f, 1);
    expect_trace(&f, "[  1] tick -> clock n2\n");
}

static void a_clock_that_is_off_is_not_gone_by(void **state)
{
    (void)state;
    start();
    tick(&f, 1);
    shows(1, 2, -DAY_MS);
    assert_int_equal(ahead_ms(2), 0); /* of two who knows which is wrong */
    shows(3, 3, -DAY_MS - 100);
    tick(&f, 4);
    expect_trace(&f,
                 "[  4] tick -> event=clock_off ahead_of_median_ms=86400000"
                 " what=\"the others' clocks are gone by; set this one\"\n");
    assert_int_equal(ahead_ms(4), -DAY_MS);
    /* What it tells is what it shows, or wrong ones would agree. */
    assert_int_equal(told_ms(5, 1) - began_ms, 5);
    Rkv__Admin admin = RKV__ADMIN__INIT;
    client(&f, 5, 2, RKV__ENVELOPE__BODY_ADMIN, &admin);
    assert_true(f.reply->admin_reply->clock_is_known);
    assert_int_equal(f.reply->admin_reply->clock_off_ms, DAY_MS);
    f.trace_size = 0;
}

static void a_clock_that_is_behind_is_not_gone_by(void **state)
{
    (void)state;
    start();
    tick(&f, 1);
    shows(1, 2, SKEW_MS + 1);
    shows(1, 3, DAY_MS);
    tick(&f, 2);
    assert_int_equal(ahead_ms(2), SKEW_MS + 1);
}

static void a_clock_within_the_skew_is_gone_by(void **state)
{
    (void)state;
    start();
    tick(&f, 1);
    shows(1, 2, SKEW_MS);
    shows(1, 3, DAY_MS);
    tick(&f, 2);
    assert_int_equal(ahead_ms(2), 0);
    expect_trace(&f, "");
}

/* Against the monotonic clock that shows at once, and whom to believe soon. */
static void a_clock_that_is_set_shows_at_once(void **state)
{
    (void)state;
    start();
    tick(&f, 1);
    shows(1, 2, 0);
    shows(1, 3, 0);
    tick(&f, 2);
    f.trace_size = 0;
    f.wall_ahead_ms += DAY_MS;
    assert_int_equal(ahead_ms(3), 0);
    tick(&f, 4);
    expect_trace(&f, "[  4] tick -> clock n2, clock n3, event=clock_off "
                     "ahead_of_median_ms=86400000 what=\"the others' clocks "
                     "are gone by; set this one\"\n");
    /* It was asleep: a day has passed for all. */
    shows(5, 2, DAY_MS);
    shows(5, 3, DAY_MS);
    tick(&f, 6);
    expect_trace(&f, "[  6] tick -> event=clock_right ahead_of_median_ms=0 "
                     "what=\"this node's clock is gone by again\"\n");
    assert_int_equal(ahead_ms(7), DAY_MS);
}

/* Half of its way is the error. */
static void a_reply_that_took_long_says_nothing(void **state)
{
    (void)state;
    start();
    tick(&f, 1);
    shows(1, 2, DAY_MS + 50);
    shows(2 + SKEW_MS / 2, 3, DAY_MS);
    tick(&f, 2600);
    assert_int_equal(ahead_ms(2600), 0);
    tick(&f, 3600);
    f.trace_size = 0;
    shows(3800, 3, DAY_MS - 100);
    tick(&f, 3801);
    assert_int_equal(ahead_ms(3801), DAY_MS);
}

static void a_clock_that_cannot_be_says_nothing(void **state)
{
    (void)state;
    static const int64_t shown_ms[] = {-1, INT64_MIN, INT64_MAX};
    int64_t now_ms = 1;
    start();
    for (size_t i = 0; i < sizeof shown_ms / sizeof *shown_ms; i++) {
        Rkv__ClockReply reply = RKV__CLOCK_REPLY__INIT;
        reply.wall_ms = shown_ms[i];
        tick(&f, now_ms);
        for (int from = 2; from <= 3; from++)
            answer(&f, now_ms, from, RKV__ENVELOPE__BODY_CLOCK_REPLY, &reply);
        assert_int_equal(ahead_ms(now_ms), 0);
        now_ms += 1000; /* it is asked again then */
    }
    tick(&f, now_ms);
    shows(now_ms, 2, DAY_MS);
    shows(now_ms, 3, DAY_MS);
    assert_int_equal(ahead_ms(now_ms), DAY_MS);
}

/* Every ten seconds both are asked, and n3 no longer answers. */
static void that_a_clock_is_wrong_is_not_forgotten(void **state)
{
    (void)state;
    start();
    tick(&f, 1);
    shows(1, 2, -DAY_MS);
    shows(1, 3, -DAY_MS);
    for (int64_t now_ms = 10001; now_ms < 1500000; now_ms += 10000) {
        tick(&f, now_ms);
        shows(now_ms, 2, -DAY_MS);
        gone(&f, now_ms, 3);
    }
    assert_int_equal(ahead_ms(1500000), -DAY_MS);
    /* It is set right, and of two nobody knows more. */
    f.wall_ahead_ms -= DAY_MS;
    tick(&f, 1500001);
    assert_int_equal(ahead_ms(1500002), -DAY_MS);
    f.wall_ahead_ms += DAY_MS;
    tick(&f, 1500003);
    assert_int_equal(ahead_ms(1500004), 0);
}

/* Where it is off by about as much as it may be it does not go to and fro. */
static void a_clock_is_right_again_when_it_is_so_by_half(void **state)
{
    (void)state;
    start();
    tick(&f, 1);
    shows(1, 2, SKEW_MS + 1);
    shows(1, 3, SKEW_MS + 1);
    tick(&f, 10001);
    assert_int_equal(ahead_ms(10001), SKEW_MS + 1);
    shows(10001, 2, SKEW_MS / 2 + 1);
    shows(10001, 3, SKEW_MS / 2 + 1);
    tick(&f, 20001);
    assert_int_equal(ahead_ms(20001), SKEW_MS / 2 + 1);
    shows(20001, 2, SKEW_MS / 2);
    shows(20001, 3, SKEW_MS / 2);
    tick(&f, 20002);
    assert_int_equal(ahead_ms(20002), 0);
}

static uint64_t stamp(int64_t now_ms, uint64_t token)
{
    Rkv__Write *write = write_of(&f, "k", "v");
    union {
        const char *in;
        char *out;
    } bucket = {.in = "lww"};
    write->bucket = bucket.out;
    put(&f, now_ms, token, write);
    uint64_t drawn = f.ops[f.op_count - 1].op.stamp;
    disk_fails(&f, now_ms, STATUS_BROKEN);
    f.trace_size = 0;
    return drawn;
}

/* Else all later writes of the others would lose, for as long as it was off. */
static void stamps_of_a_wrong_clock_are_not_counted_on_from(void **state)
{
    (void)state;
    start();
    uint64_t wrong = stamp(1, 1);
    assert_true(stamp(1, 2) > wrong); /* in one millisecond, too */
    tick(&f, 2);
    shows(2, 2, -DAY_MS);
    shows(2, 3, -DAY_MS);
    tick(&f, 3);
    int64_t ms = (int64_t)(stamp(3, 3) >> 16);
    assert_int_equal(ms - began_ms, 3 - DAY_MS);
}

#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(opened, others_are_asked_for_their_clocks),
        WITH(opened, who_does_not_know_of_clocks_is_not_asked),
        WITH(opened, a_clock_that_is_off_is_not_gone_by),
        WITH(opened, a_clock_that_is_behind_is_not_gone_by),
        WITH(opened, a_clock_within_the_skew_is_gone_by),
        WITH(opened, a_clock_that_is_set_shows_at_once),
        WITH(opened, a_reply_that_took_long_says_nothing),
        WITH(opened, a_clock_that_cannot_be_says_nothing),
        WITH(opened, that_a_clock_is_wrong_is_not_forgotten),
        WITH(opened, a_clock_is_right_again_when_it_is_so_by_half),
        WITH(opened, stamps_of_a_wrong_clock_are_not_counted_on_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
