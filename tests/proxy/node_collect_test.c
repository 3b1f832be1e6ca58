/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

/* How deletes are forgotten. What is a second old is old enough. All keys here
 * are of one partition, whose first owner n1 is: a, d, h, k, l, x. */

enum {
    PARTITIONS = 3,
    PARTITION = 2,
    WINDOW_MS = 1000,
    INTERVAL_MS = 100,
    /* By then all partitions were looked through once, as after any start. */
    START_MS = 2000,
    OLD_MS = START_MS + WINDOW_MS,
};

static struct fixture f;
static uint64_t token;

static int started(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    f.config.founding.partitions = PARTITIONS;
    f.config.timeouts.dedup_window_ms = WINDOW_MS;
    f.config.timeouts.collect_interval_ms = INTERVAL_MS;
    node_start(&f);
    for (int64_t now_ms = WINDOW_MS; now_ms < START_MS; now_ms += INTERVAL_MS) {
        tick(&f, now_ms);
        disk(&f, now_ms);
    }
    f.trace_size = 0;
    token = 100;
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&f);
    return 0;
}

/* --- what the others say --- */

static void handed(int64_t now_ms, int from, Rkv__Status status)
{
    Rkv__HandoffReply reply = RKV__HANDOFF_REPLY__INIT;
    reply.status = status;
    answer(&f, now_ms, from, RKV__ENVELOPE__BODY_HANDOFF_REPLY, &reply);
}

static void said(int64_t now_ms, int from, Rkv__Status status)
{
    static char why[] = "not now";
    Rkv__Result reply = RKV__RESULT__INIT;
    reply.status = status;
    reply.message = why;
    answer(&f, now_ms, from, RKV__ENVELOPE__BODY_RESULT, &reply);
}

static struct storage_key key_of(const char *name)
{
    return key_in(&f, TABLE_DATA, 0, "default", name);
}

static bool is_stored(const char *name)
{
    struct storage_key key = key_of(name);
    return toy_get(&f.toy, &key).size > 0;
}

/* On all three; nothing is under way behind it. */
static void write_it(int64_t now_ms, Rkv__Write *write)
{
    put(&f, now_ms, token++, write);
    disk(&f, now_ms);
    ack(&f, now_ms, 2, STATUS_OK);
    ack(&f, now_ms, 3, STATUS_OK);
    f.trace_size = 0;
}

static void remove_it(int64_t now_ms, const char *name)
{
    Rkv__Write *write = write_of(&f, name, "");
    write->remove = true;
    write_it(now_ms, write);
}

/* On n1 alone, as n2 has it. */
static void store_it(int64_t now_ms, const char *name,
                     const struct record *record)
{
    struct buffer encoded = {0};
    assert_int_equal(record_encode(record, &encoded), STATUS_OK);
    peer(&f, now_ms, 2, token++, RKV__ENVELOPE__BODY_STORE,
         store_of(&f, name, buffer_bytes(&encoded)));
    buffer_fini(&encoded);
    disk(&f, now_ms);
    f.trace_size = 0;
}

/* As far as the rows are on the disks of both others. */
static void push(int64_t now_ms)
{
    tick(&f, now_ms);
    disk(&f, now_ms);
    handed(now_ms, 2, RKV__STATUS__OK);
    handed(now_ms, 3, RKV__STATUS__OK);
}

static void barriers_pass(int64_t now_ms)
{
    for (int lane = 0; lane < 2; lane++) {
        said(now_ms, 2, RKV__STATUS__OK);
        said(now_ms, 3, RKV__STATUS__OK);
    }
}

/* All have drained, then all keep no hints. */
static void drain(int64_t now_ms)
{
    said(now_ms, 2, RKV__STATUS__OK);
    said(now_ms, 3, RKV__STATUS__OK);
    barriers_pass(now_ms);
    said(now_ms, 2, RKV__STATUS__OK);
    said(now_ms, 3, RKV__STATUS__OK);
    disk(&f, now_ms);
}

static void finish(int64_t now_ms)
{
    disk(&f, now_ms);
    handed(now_ms, 2, RKV__STATUS__OK);
    handed(now_ms, 3, RKV__STATUS__OK);
}

/* --- rounds --- */

static void a_delete_is_forgotten_in_a_round(void **state)
{
    (void)state;
    remove_it(START_MS + 1, "k");
    push(OLD_MS + 2);
    drain(OLD_MS + 3);
    finish(OLD_MS + 4);
    expect_trace(&f,
                 "[3002] tick -> scan data\n"
                 "[3002] stored -> handoff 1 n3, handoff 1 n2\n"
                 "[3002] n3 answers -> drain n2, drain n3, barrier n2, "
                 "barrier n2, barrier n3, barrier n3\n"
                 "[3003] n3 answers -> set drain, drain n2, drain n3\n"
                 "[3003] stored -> collect k, collect 1 n3, collect 1 n2\n");
    assert_false(is_stored("k"));
    assert_int_equal(counter_of(&f, "records_collected"), 1);
    assert_int_equal(counter_of(&f, "collections"), 1);
    assert_int_equal(counter_of(&f, "collections_failed"), 0);
    /* And nothing more. */
    tick(&f, START_MS + 10 * OLD_MS);
    expect_trace(&f, "");
}

static void what_lives_or_is_young_is_left(void **state)
{
    (void)state;
    write_it(START_MS + 1, write_of(&f, "a", "v"));
    Rkv__Write *write = write_of(&f, "h", "v");
    write->ttl_ms = 10;
    write_it(START_MS + 1, write);
    write = write_of(&f, "x", "v");
    write->ttl_ms = 600;
    write_it(START_MS + 1, write);
    remove_it(START_MS + 500, "d");
    push(OLD_MS + 100);
    drain(OLD_MS + 100);
    finish(OLD_MS + 100);
    assert_true(is_stored("a") && is_stored("d"));
    assert_true(is_stored("x"));
    assert_false(is_stored("h"));
    /* They are looked at again when they may be old enough. */
    f.trace_size = 0;
    tick(&f, OLD_MS + 300);
    expect_trace(&f, "");
    push(OLD_MS + WINDOW_MS + 200);
    drain(OLD_MS + WINDOW_MS + 200);
    finish(OLD_MS + WINDOW_MS + 200);
    assert_false(is_stored("d") || is_stored("x"));
    assert_true(is_stored("a"));
}

static void what_is_written_meanwhile_stays(void **state)
{
    (void)state;
    remove_it(START_MS + 1, "k");
    push(OLD_MS + 2);
    said(OLD_MS + 3, 2, RKV__STATUS__OK);
    said(OLD_MS + 3, 3, RKV__STATUS__OK);
    put(&f, OLD_MS + 3, token++, write_of(&f, "k", "again"));
    disk(&f, OLD_MS + 3);
    barriers_pass(OLD_MS + 4);
    ack(&f, OLD_MS + 4, 2, STATUS_OK);
    ack(&f, OLD_MS + 4, 3, STATUS_OK);
    finish(OLD_MS + 4);
    struct storage_key key = key_of("k");
    assert_string_equal(values_of(&f, toy_get(&f.toy, &key)), "again");
    assert_int_equal(counter_of(&f, "records_collected"), 0);
}

/* A tombstone beside a sibling goes alone; the other stays what it was. Its
 * coordinators had not heard of each other. */
static void a_dead_sibling_goes_and_the_live_one_stays(void **state)
{
    (void)state;
    write_it(START_MS + 1, write_of(&f, "k", "lives"));
    struct dot dot = {.actor = {.incarnation = 77, .epoch = 1}, .counter = 1};
    struct value gone = {.dots = &dot,
                         .dot_count = 1,
                         .request = {{77}},
                         .written_ms = 1,
                         .tombstone = true};
    struct record record = {
        .context = {&dot, 1}, .values = &gone, .value_count = 1};
    store_it(START_MS + 2, "k", &record);
    push(OLD_MS + 10);
    drain(OLD_MS + 10);
    finish(OLD_MS + 10);
    struct storage_key key = key_of("k");
    assert_string_equal(values_of(&f, toy_get(&f.toy, &key)), "lives");
    assert_int_equal(counter_of(&f, "contexts_folded"), 1);
}

/* --- what holds a round up --- */

static void nothing_is_forgotten_while_a_member_is_away(void **state)
{
    (void)state;
    remove_it(START_MS + 1, "k");
    Rkv__PushPull table = RKV__PUSH_PULL__INIT;
    Rkv__Member *away = member_to_wire(&f.members[2], &f.arena);
    away->state = RKV__MEMBER_STATE__LEFT;
    table.members = &away;
    table.n_members = 1;
    peer(&f, START_MS + 2, 2, token++, RKV__ENVELOPE__BODY_PUSH_PULL, &table);
    f.trace_size = 0;
    tick(&f, OLD_MS + 2);
    disk(&f, OLD_MS + 2);
    expect_trace(&f, "");
    assert_true(is_stored("k"));
}

static void an_owner_that_cannot_store_it_ends_the_round(void **state)
{
    (void)state;
    remove_it(START_MS + 1, "k");
    tick(&f, OLD_MS + 2);
    disk(&f, OLD_MS + 2);
    handed(OLD_MS + 3, 2, RKV__STATUS__OK);
    gone(&f, OLD_MS + 4, 3);
    f.trace_size = 0;
    /* And it is tried again. */
    tick(&f, OLD_MS + 2 * INTERVAL_MS);
    expect_trace(&f, "[3200] tick -> scan data\n");
    assert_int_equal(counter_of(&f, "collections_failed"), 1);
}

static void a_member_that_does_not_drain_ends_the_round(void **state)
{
    (void)state;
    remove_it(START_MS + 1, "k");
    push(OLD_MS + 2);
    f.trace_size = 0;
    said(OLD_MS + 3, 2, RKV__STATUS__UNAVAILABLE);
    said(OLD_MS + 3, 3, RKV__STATUS__OK);
    barriers_pass(OLD_MS + 4);
    /* Why is told once, however often it is tried. */
    expect_trace(&f, "[3003] n2 answers -> event=collection_refused "
                     "partition=2 by=n2 why=\"not now\"\n");
    assert_true(is_stored("k"));
    assert_int_equal(counter_of(&f, "collections_failed"), 1);
    push(OLD_MS + 2 * INTERVAL_MS);
    f.trace_size = 0;
    said(OLD_MS + 2 * INTERVAL_MS, 2, RKV__STATUS__UNAVAILABLE);
    expect_trace(&f, "");
    assert_int_equal(counter_of(&f, "collections_failed"), 1);
    said(OLD_MS + 2 * INTERVAL_MS, 3, RKV__STATUS__OK);
    barriers_pass(OLD_MS + 2 * INTERVAL_MS);
    assert_int_equal(counter_of(&f, "collections_failed"), 2);
}

/* What was on its way to it when the others drained. */
static void a_member_that_keeps_a_hint_ends_the_round(void **state)
{
    (void)state;
    remove_it(START_MS + 1, "k");
    push(OLD_MS + 2);
    said(OLD_MS + 3, 2, RKV__STATUS__OK);
    said(OLD_MS + 3, 3, RKV__STATUS__OK);
    barriers_pass(OLD_MS + 3);
    said(OLD_MS + 4, 2, RKV__STATUS__UNAVAILABLE);
    said(OLD_MS + 4, 3, RKV__STATUS__OK);
    f.trace_size = 0;
    disk(&f, OLD_MS + 4);
    expect_trace(&f, "");
    assert_true(is_stored("k"));
    assert_int_equal(counter_of(&f, "collections_failed"), 1);
}

static void a_hint_of_our_own_ends_the_round(void **state)
{
    (void)state;
    /* n3 has not got it: n1 keeps it for n3, which cannot take it yet. */
    put(&f, START_MS + 1, token++, write_of(&f, "l", "v"));
    disk(&f, START_MS + 1);
    ack(&f, START_MS + 1, 2, STATUS_OK);
    gone(&f, START_MS + 1, 3);
    disk(&f, START_MS + 1);
    remove_it(START_MS + 1, "k");
    tick(&f, OLD_MS + 2);
    disk(&f, OLD_MS + 2);
    handed(OLD_MS + 2, 3, RKV__STATUS__OVERLOADED); /* the hint */
    handed(OLD_MS + 2, 3, RKV__STATUS__OK);
    handed(OLD_MS + 2, 2, RKV__STATUS__OK);
    f.trace_size = 0;
    drain(OLD_MS + 3);
    expect_trace(&f, "[3003] n3 answers -> set drain, drain n2, drain n3\n"
                     "[3003] stored -> scan hints for n3 on\n");
    assert_true(is_stored("k"));
    assert_int_equal(counter_of(&f, "collections_failed"), 1);
}

static void a_round_that_nobody_answers_is_given_up(void **state)
{
    (void)state;
    remove_it(START_MS + 1, "k");
    tick(&f, OLD_MS + 2);
    disk(&f, OLD_MS + 2);
    f.trace_size = 0;
    tick(&f, START_MS + 40 * OLD_MS);
    assert_int_equal(counter_of(&f, "collections_failed"), 1);
    /* What is answered now is of no round. */
    handed(40 * OLD_MS, 2, RKV__STATUS__OK);
    handed(40 * OLD_MS, 3, RKV__STATUS__OK);
    expect_trace(&f, "");
}

/* --- a member that is asked --- */

static void ask_to_drain(int64_t now_ms, uint64_t number)
{
    Rkv__Drain asked = RKV__DRAIN__INIT;
    asked.epoch = 1;
    asked.partition = PARTITION;
    peer(&f, now_ms, 2, number, RKV__ENVELOPE__BODY_DRAIN, &asked);
}

static void a_drain_waits_for_the_writes_before_it(void **state)
{
    (void)state;
    put(&f, START_MS + 1, 1, write_of(&f, "a", "v"));
    ask_to_drain(START_MS + 2, 2);
    put(&f, START_MS + 3, 3, write_of(&f, "h", "v")); /* behind it */
    disk(&f, START_MS + 3);
    tick(&f, START_MS + 4);
    ack(&f, START_MS + 5, 2, STATUS_OK);
    ack(&f, START_MS + 5, 3, STATUS_OK);
    f.trace_size = 0;
    tick(&f, START_MS + 6);
    ack(&f, START_MS + 8, 2, STATUS_OK);
    ack(&f, START_MS + 8, 3, STATUS_OK);
    barriers_pass(START_MS + 9);
    expect_trace(&f, "[2006] tick -> barrier n2, barrier n2, barrier n3, "
                     "barrier n3\n"
                     "[2008] n2 stored ok -> reply 3 ok applied 2/2\n"
                     "[2009] n3 answers -> reply 2 ok\n");
}

static void a_drain_waits_for_the_reads_before_it(void **state)
{
    (void)state;
    get(&f, START_MS + 1, 1, read_of(&f, "a"));
    ask_to_drain(START_MS + 2, 2);
    get(&f, START_MS + 3, 3, read_of(&f, "h")); /* behind it */
    disk(&f, START_MS + 3);
    tick(&f, START_MS + 4);
    fetched(&f, START_MS + 5, 3, STATUS_NOT_FOUND, (struct bytes){0});
    f.trace_size = 0;
    tick(&f, START_MS + 6);
    expect_trace(&f, "[2006] tick -> barrier n2, barrier n2, barrier n3, "
                     "barrier n3\n");
    fetched(&f, START_MS + 7, 2, STATUS_NOT_FOUND, (struct bytes){0});
    disk(&f, START_MS + 7);
    f.trace_size = 0;
    barriers_pass(START_MS + 9);
    expect_trace(&f, "[2009] n3 answers -> reply 2 ok\n");
}

static void who_keeps_a_hint_says_so(void **state)
{
    (void)state;
    Rkv__Drain asked = RKV__DRAIN__INIT;
    asked.epoch = 1;
    asked.partition = PARTITION;
    asked.of_hints = true;
    peer(&f, START_MS, 2, 1, RKV__ENVELOPE__BODY_DRAIN, &asked);
    disk(&f, START_MS);
    put(&f, START_MS + 1, 2, write_of(&f, "k", "v"));
    disk(&f, START_MS + 1);
    ack(&f, START_MS + 1, 2, STATUS_OK);
    gone(&f, START_MS + 1, 3);
    f.trace_size = 0;
    /* Which is on its way to the disk. */
    peer(&f, START_MS + 2, 2, 3, RKV__ENVELOPE__BODY_DRAIN, &asked);
    disk(&f, START_MS + 3);
    expect_trace(&f, "[2002] ask 3 -> set drain\n"
                     "[2003] stored -> scan hints for n3 on\n"
                     "[2003] stored -> reply 3 unavailable\n");
}

static void a_drain_that_loses_a_barrier_fails(void **state)
{
    (void)state;
    ask_to_drain(START_MS + 1, 1);
    disk(&f, START_MS + 1);
    said(START_MS + 2, 2, RKV__STATUS__OK);
    f.trace_size = 0;
    gone(&f, START_MS + 3, 3);
    said(START_MS + 4, 2, RKV__STATUS__OK);
    gone(&f, START_MS + 4, 3);
    expect_trace(&f, "[2003] n3 gone -> reply 1 unavailable\n");
}

static void a_drain_of_another_topology_is_refused(void **state)
{
    (void)state;
    Rkv__Drain asked = RKV__DRAIN__INIT;
    asked.epoch = 2;
    peer(&f, START_MS + 1, 2, 1, RKV__ENVELOPE__BODY_DRAIN, &asked);
    asked.epoch = 1;
    asked.partition = PARTITIONS;
    peer(&f, START_MS + 1, 2, 2, RKV__ENVELOPE__BODY_DRAIN, &asked);
    expect_trace(&f, "[2001] ask 1 -> reply 1 unavailable\n"
                     "[2001] ask 2 -> reply 2 unavailable\n");
}

static void drains_are_bounded(void **state)
{
    (void)state;
    put(&f, START_MS + 1, 1, write_of(&f, "k", "v"));
    for (uint64_t i = 0; i < 16; i++)
        ask_to_drain(START_MS + 1, 2 + i);
    f.trace_size = 0;
    ask_to_drain(START_MS + 1, 50);
    expect_trace(&f, "[2001] ask 50 -> reply 50 unavailable\n");
}

static void ask_to_collect(uint64_t number, uint64_t epoch, const char *name,
                           uint64_t version, int64_t before_ms)
{
    Rkv__Collect asked = RKV__COLLECT__INIT;
    Rkv__Row row = RKV__ROW__INIT, *rows = &row;
    row.bucket = bucket_id_of("default").value;
    row.key = binary_of_bytes(bytes_of_string(name));
    asked.epoch = epoch;
    asked.before_ms = before_ms;
    asked.rows = &rows;
    asked.versions = &version;
    asked.n_rows = asked.n_versions = 1;
    peer(&f, f.now_ms, 2, number, RKV__ENVELOPE__BODY_COLLECT, &asked);
    disk(&f, f.now_ms);
}

static void only_the_very_version_is_dropped(void **state)
{
    (void)state;
    remove_it(START_MS + 1, "k");
    struct storage_key key = key_of("k");
    uint64_t version = record_version(toy_get(&f.toy, &key));
    ask_to_collect(1, 1, "k", version + 1, INT64_MAX);
    ask_to_collect(2, 2, "k", version, INT64_MAX);
    ask_to_collect(3, 1, "k", version, 0); /* nothing is so old */
    assert_true(is_stored("k"));
    ask_to_collect(4, 1, "k", version, INT64_MAX);
    assert_false(is_stored("k"));
    ask_to_collect(5, 1, "k", version, INT64_MAX);
    expect_trace(&f, "[2001] ask 1 -> collect k\n"
                     "[2001] stored -> reply 1 ok\n"
                     "[2001] ask 2 -> reply 2 refused\n"
                     "[2001] ask 3 -> collect k\n"
                     "[2001] stored -> reply 3 ok\n"
                     "[2001] ask 4 -> collect k\n"
                     "[2001] stored -> reply 4 ok\n"
                     "[2001] ask 5 -> collect k\n"
                     "[2001] stored -> reply 5 ok\n");
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, started, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_delete_is_forgotten_in_a_round),
        WITH(what_lives_or_is_young_is_left),
        WITH(what_is_written_meanwhile_stays),
        WITH(a_dead_sibling_goes_and_the_live_one_stays),
        WITH(nothing_is_forgotten_while_a_member_is_away),
        WITH(an_owner_that_cannot_store_it_ends_the_round),
        WITH(a_member_that_does_not_drain_ends_the_round),
        WITH(a_member_that_keeps_a_hint_ends_the_round),
        WITH(a_hint_of_our_own_ends_the_round),
        WITH(a_round_that_nobody_answers_is_given_up),
        WITH(a_drain_waits_for_the_writes_before_it),
        WITH(a_drain_waits_for_the_reads_before_it),
        WITH(who_keeps_a_hint_says_so),
        WITH(a_drain_that_loses_a_barrier_fails),
        WITH(a_drain_of_another_topology_is_refused),
        WITH(drains_are_bounded),
        WITH(only_the_very_version_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
