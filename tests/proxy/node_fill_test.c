/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

static struct fixture f;

/* A disk that was lost: every partition has to be read from n2 and n3.
 * Three partitions, so that traces are short. */
static int replaced(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    f.config.founding.partitions = 3;
    f.config.replace = f.config.amnesiac = true;
    f.config.self.boot = 1;
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&f);
    return 0;
}

static void start(void)
{
    node_boot(&f);
    for (int i = 2; i <= 3; i++)
        greeted(&f, 0, i);
    disk(&f, 0);
    tick(&f, 0);
}

/* A chunk of a partition, with one row or none. */
static void chunk(int64_t now_ms, int from, const char *key, bool done)
{
    Rkv__ScanReply reply = RKV__SCAN_REPLY__INIT;
    Rkv__Row row = RKV__ROW__INIT;
    Rkv__Row *rows[] = {&row};
    if (key != NULL) {
        row.bucket = bucket_id_of("default").value;
        row.key = binary_of_bytes(bytes_of_string(key));
        row.record = binary_of_bytes(record_of(&f, from, 1, "v"));
        reply.rows = rows;
        reply.n_rows = 1;
        reply.next = row.key;
    }
    reply.done = done;
    answer(&f, now_ms, from, RKV__ENVELOPE__BODY_SCAN_REPLY, &reply);
}

static uint32_t filling(void)
{
    static uint64_t token = 3000;
    size_t before = f.trace_size;
    Rkv__Admin admin = RKV__ADMIN__INIT;
    client(&f, f.now_ms, ++token, RKV__ENVELOPE__BODY_ADMIN, &admin);
    f.trace_size = before;
    return f.reply->admin_reply->filling;
}

/* A key of the partition that is filled first. */
static const char *first_key(uint16_t partition)
{
    char key[] = "a";
    while (key_in(&f, TABLE_DATA, 0, "default", key).partition.value !=
           partition)
        key[0]++;
    return arena_string(&f.arena, key);
}

static void an_emptied_disk_reads_each_partition_from_every_owner(void **state)
{
    (void)state;
    start();
    f.trace_size = 0;
    assert_int_equal(filling(), 3);
    const char *a = first_key(0), *b = first_key(1);
    chunk(10, 3, a, false);
    disk(&f, 11);
    chunk(12, 3, NULL, true);
    chunk(13, 2, NULL, true);
    assert_int_equal(filling(), 2);
    tick(&f, 14);
    chunk(15, 2, NULL, true);
    chunk(16, 3, b, true);
    disk(&f, 17);
    tick(&f, 18);
    chunk(19, 3, NULL, true);
    chunk(20, 2, NULL, true);
    assert_int_equal(filling(), 0);
    disk(&f, 20);
    tick(&f, 21);
    expect_trace(&f, "[ 10] n3 answers -> mend b\n"
                     "[ 11] stored -> scan on n3\n"
                     "[ 12] n3 answers -> scan n2\n"
                     "[ 13] n2 answers -> set missing\n"
                     "[ 14] tick -> scan n2\n"
                     "[ 15] n2 answers -> scan n3\n"
                     "[ 16] n3 answers -> mend c\n"
                     "[ 17] stored -> set missing\n"
                     "[ 18] tick -> scan n3\n"
                     "[ 19] n3 answers -> scan n2\n"
                     "[ 20] n2 answers -> set missing, "
                     "event=filled partitions=all\n");
    assert_int_equal(counter_of(&f, "partitions_filled"), 3);
}

static void what_is_missing_does_not_vote(void **state)
{
    (void)state;
    start();
    f.trace_size = 0;
    const char *key = first_key(0);
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_FETCH, fetch_of(&f, key));
    Rkv__Read *read = read_of(&f, key);
    get(&f, 2, 2, read);
    disk(&f, 3);
    expect_trace(&f, "[  1] ask 1 -> reply 1 uncertain\n"
                     "[  2] ask 2 -> read b, fetch n3\n"
                     "[  3] stored not_found -> fetch n2\n");
    /* What it is given meanwhile it stores and acknowledges. */
    peer(&f, 4, 2, 3, RKV__ENVELOPE__BODY_STORE,
         store_of(&f, key, record_of(&f, 2, 1, "v")));
    disk(&f, 4);
    peer(&f, 5, 2, 4, RKV__ENVELOPE__BODY_FETCH, fetch_of(&f, key));
    expect_trace(&f, "[  4] ask 3 -> merge b\n"
                     "[  4] stored -> reply 3 ok\n"
                     "[  5] ask 4 -> reply 4 uncertain\n");
}

static void what_is_missing_is_on_disk_before_anyone_is_met(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(node_new(&f.config, &f.node, &error), STATUS_OK);
    tick(&f, 0);
    disk_one(&f, 1);
    disk_one(&f, 1);
    tick(&f, 2);
    disk_one(&f, 3);
    tick(&f, 3);
    disk_one(&f, 3);
    tick(&f, 3);
    disk_one(&f, 3);
    tick(&f, 4);
    expect_trace(&f, "[  0] tick -> scan meta, scan hints\n"
                     "[  1] stored -> set missing, set abstains, set replaced\n"
                     "[  4] tick -> scan n3\n");
}

static void a_disk_that_cannot_remember_what_is_missing_stops(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(node_new(&f.config, &f.node, &error), STATUS_OK);
    tick(&f, 0);
    disk_one(&f, 1);
    disk_one(&f, 1);
    f.trace_size = 0;
    disk_fails(&f, 2, STATUS_NO_SPACE);
    expect_trace(&f, "[  2] stored no_space -> halt\n"
                     "[  2] stored no_space -> halt\n"
                     "[  2] stored no_space -> halt\n");
}

static void a_restart_goes_on_filling_what_is_still_missing(void **state)
{
    (void)state;
    start();
    chunk(1, 3, NULL, true);
    chunk(2, 2, NULL, true);
    disk(&f, 3);
    node_free(f.node);
    f.config.replace = f.config.amnesiac = false;
    f.config.self.boot = 2;
    f.request_count = 0;
    f.trace_size = 0;
    node_boot(&f);
    assert_int_equal(filling(), 2);
    tick(&f, 5);
    expect_trace(&f, "[  0] tick -> scan meta, scan hints\n"
                     "[  0] tick -> scan n2, event=ready\n");
    chunk(6, 2, NULL, true);
    chunk(7, 3, NULL, true);
    disk(&f, 8);
    assert_int_equal(filling(), 1);
}

static void an_owner_that_fails_is_asked_again(void **state)
{
    (void)state;
    start();
    f.trace_size = 0;
    gone(&f, 1, 3);
    tick(&f, 500);
    tick(&f, 501);
    chunk(502, 3, first_key(0), true);
    disk_fails(&f, 503, STATUS_BROKEN);
    tick(&f, 1003);
    chunk(1004, 3, first_key(0), true);
    disk(&f, 1005);
    expect_trace(&f, "[  1] n3 gone -> event=fill_held_up partition=0 owner=n3 "
                     "reason=\"no answer\"\n"
                     "[501] tick -> scan n3\n"
                     "[502] n3 answers -> mend b\n"
                     "[503] stored broken -> event=fill_held_up partition=0 "
                     "owner=n3 reason=\"our own disk could not store it\"\n"
                     "[1003] tick -> scan n3\n"
                     "[1004] n3 answers -> mend b\n"
                     "[1005] stored -> scan n2\n");
    assert_int_equal(filling(), 3);
}

/* --replace throws a copy away: only of one that is damaged it is advised. */
static void an_owner_that_is_damaged_is_told_from_a_busy_one(void **state)
{
    (void)state;
    start();
    f.trace_size = 0;
    Rkv__ScanReply reply = RKV__SCAN_REPLY__INIT;
    reply.status = RKV__STATUS__OVERLOADED;
    answer(&f, 1, 3, RKV__ENVELOPE__BODY_SCAN_REPLY, &reply);
    tick(&f, 501);
    reply.status = RKV__STATUS__CORRUPT;
    answer(&f, 502, 3, RKV__ENVELOPE__BODY_SCAN_REPLY, &reply);
    expect_trace(&f, "[  1] n3 answers -> event=fill_held_up "
                     "partition=0 owner=n3 "
                     "reason=\"the owner cannot read it now\"\n"
                     "[501] tick -> scan n3\n"
                     "[502] n3 answers -> event=fill_held_up "
                     "partition=0 owner=n3 reason=\"it is damaged at this "
                     "owner: --replace it, too\"\n");
    assert_int_equal(filling(), 3);
}

/* With it went what an owner that was read before had said. */
static void what_is_damaged_meanwhile_is_read_of_all_again(void **state)
{
    (void)state;
    start();
    f.trace_size = 0;
    const char *name = first_key(0);
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", name);
    chunk(1, 3, name, true);
    disk(&f, 2);
    toy_put(&f.toy, &key, bytes_of_string("damaged"));
    chunk(3, 2, name, true);
    disk(&f, 4);
    tick(&f, 504);
    expect_trace(&f, "[  1] n3 answers -> mend b\n"
                     "[  2] stored -> scan n2\n"
                     "[  3] n2 answers -> mend b\n"
                     "[  4] stored -> event=fill_held_up partition=0 owner=n3 "
                     "reason=\"what was damaged here is read again\"\n"
                     "[504] tick -> scan n3\n");
    assert_int_equal(filling(), 3);
    chunk(505, 3, name, true);
    disk(&f, 506);
    chunk(507, 2, name, true);
    disk(&f, 508);
    assert_int_equal(filling(), 2);
}

static void a_scan_that_nobody_answers_is_given_up(void **state)
{
    (void)state;
    start();
    f.trace_size = 0;
    tick(&f, 30000);
    tick(&f, 30500);
    expect_trace(&f, "[30000] tick -> event=fill_held_up partition=0 owner=n3 "
                     "reason=\"no answer\"\n"
                     "[30500] tick -> scan n3\n");
    chunk(30501, 3, NULL, true);
    expect_trace(&f, "");
    chunk(30502, 3, NULL, true);
    expect_trace(&f, "[30502] n3 answers -> scan n2\n");
}

/* Passed on, it would keep the one that fills from ever voting. */
static void what_is_damaged_here_is_not_passed_on(void **state)
{
    (void)state;
    start();
    struct storage_key good = key_in(&f, TABLE_DATA, 0, "default", "a");
    struct storage_key bad = good;
    for (char key[] = "b"; bad.key.data == good.key.data; key[0]++)
        if (key_in(&f, TABLE_DATA, 0, "default", key).partition.value ==
            good.partition.value)
            bad.key = bytes_of_string(arena_string(&f.arena, key));
    toy_put(&f.toy, &good, record_of(&f, 2, 1, "v"));
    toy_put(&f.toy, &bad, bytes_of_string("damaged"));
    f.trace_size = 0;
    Rkv__Scan scan = RKV__SCAN__INIT;
    scan.partition = good.partition.value;
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_SCAN, &scan);
    disk(&f, 2);
    expect_trace(&f, "[  1] ask 1 -> scan data\n"
                     "[  2] stored -> reply 1 ok rows 1 done\n");
    assert_int_equal(counter_of(&f, "rows_skipped"), 1);
}

static void a_row_of_a_bucket_that_is_not_declared_is_kept(void **state)
{
    (void)state;
    start();
    Rkv__ScanReply reply = RKV__SCAN_REPLY__INIT;
    Rkv__Row row = RKV__ROW__INIT;
    Rkv__Row *rows = &row;
    char key[] = "a";
    while (key_in(&f, TABLE_DATA, 0, "later", key).partition.value != 0)
        key[0]++;
    row.bucket = bucket_id_of("later").value;
    row.key = binary_of_bytes(bytes_of_string(key));
    row.record = binary_of_bytes(record_of(&f, 3, 1, "v"));
    reply.rows = &rows;
    reply.n_rows = 1;
    reply.done = true;
    answer(&f, 1, 3, RKV__ENVELOPE__BODY_SCAN_REPLY, &reply);
    disk(&f, 2);
    struct storage_key kept = key_in(&f, TABLE_DATA, 0, "later", key);
    assert_string_equal(values_of(&f, toy_get(&f.toy, &kept)), "v");
    assert_non_null(request_at(&f, 2));
    f.trace_size = 0;
}

static uint32_t asked_for(int owner)
{
    return request_at(&f, owner)->scan->max_bytes;
}

/* What is too large for the owner's queue never comes. */
static void smaller_chunks_are_asked_for_when_none_came(void **state)
{
    (void)state;
    start();
    assert_int_equal(asked_for(3), 256 << 10);
    gone(&f, 1, 3);
    tick(&f, 501);
    assert_int_equal(asked_for(3), 128 << 10);
    for (int64_t now_ms = 1000; now_ms < 9000; now_ms += 1000) {
        gone(&f, now_ms, 3);
        tick(&f, now_ms + 500);
    }
    assert_int_equal(asked_for(3), 4 << 10);
    chunk(9000, 3, first_key(0), false);
    disk(&f, 9000);
    assert_int_equal(asked_for(3), 4 << 10);
    chunk(9001, 3, NULL, true);
    assert_int_equal(asked_for(2), 5 << 10);
    f.trace_size = 0;
}

static void a_disk_that_is_never_heard_of_holds_up_no_filling(void **state)
{
    (void)state;
    start();
    f.trace_size = 0;
    chunk(1, 3, first_key(0), true);
    tick(&f, 30001);
    tick(&f, 30501);
    disk(&f, 30502);
    expect_trace(&f, "[  1] n3 answers -> mend b\n"
                     "[30001] tick -> event=fill_held_up partition=0 owner=n3 "
                     "reason=\"our own disk did not answer\"\n"
                     "[30501] tick -> scan n3\n");
}

/* Two that lost their disks at once: what either has is all there is, and each
 * would wait for the other for ever. */
static void one_that_fills_itself_is_read_by_another_that_fills(void **state)
{
    (void)state;
    start();
    f.trace_size = 0;
    Rkv__Scan scan = RKV__SCAN__INIT;
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_SCAN, &scan);
    disk(&f, 2);
    expect_trace(&f, "[  1] ask 1 -> scan data\n"
                     "[  2] stored -> reply 1 ok rows 0 done\n");
}

static void nonsense_in_a_chunk_fills_nothing(void **state)
{
    (void)state;
    start();
    f.trace_size = 0;
    chunk(1, 3, "", true);
    tick(&f, 501);
    chunk(502, 3, first_key(1), true);
    disk(&f, 503);
    tick(&f, 1003);
    expect_trace(&f, "[  1] n3 answers -> event=fill_held_up partition=0 "
                     "owner=n3 reason=\"a row of another partition\"\n"
                     "[501] tick -> scan n3\n"
                     "[1003] tick -> scan n3\n");
    assert_int_equal(filling(), 3);
}

#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(replaced, an_emptied_disk_reads_each_partition_from_every_owner),
        WITH(replaced, what_is_missing_does_not_vote),
        WITH(replaced, what_is_missing_is_on_disk_before_anyone_is_met),
        WITH(replaced, a_disk_that_cannot_remember_what_is_missing_stops),
        WITH(replaced, a_restart_goes_on_filling_what_is_still_missing),
        WITH(replaced, an_owner_that_fails_is_asked_again),
        WITH(replaced, an_owner_that_is_damaged_is_told_from_a_busy_one),
        WITH(replaced, what_is_damaged_meanwhile_is_read_of_all_again),
        WITH(replaced, a_scan_that_nobody_answers_is_given_up),
        WITH(replaced, what_is_damaged_here_is_not_passed_on),
        WITH(replaced, a_row_of_a_bucket_that_is_not_declared_is_kept),
        WITH(replaced, smaller_chunks_are_asked_for_when_none_came),
        WITH(replaced, a_disk_that_is_never_heard_of_holds_up_no_filling),
        WITH(replaced, one_that_fills_itself_is_read_by_another_that_fills),
        WITH(replaced, nonsense_in_a_chunk_fills_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
