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

/* --- what is handed over, and damaged copies --- */

static void
what_is_handed_over_is_merged_and_acknowledged_once_stored(void **state)
{
    (void)state;
    node_start(&f);
    Rkv__Row rows[2] = {RKV__ROW__INIT, RKV__ROW__INIT};
    Rkv__Row *list[] = {&rows[0], &rows[1]};
    Rkv__Handoff handoff = RKV__HANDOFF__INIT;
    handoff.rows = list;
    handoff.n_rows = 2;
    for (size_t i = 0; i < 2; i++) {
        rows[i].bucket = bucket_id_of("default").value;
        rows[i].key = binary_of_bytes(bytes_of_string(i == 0 ? "a" : "b"));
        rows[i].record = binary_of_bytes(record_of(&f, 2, 1, "v"));
    }
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_HANDOFF, &handoff);
    disk(&f, 2);
    peer(&f, 3, 2, 2, RKV__ENVELOPE__BODY_HANDOFF, &handoff);
    disk_fails(&f, 4, STATUS_NO_SPACE);
    rows[1].key.len = 0;
    peer(&f, 5, 2, 3, RKV__ENVELOPE__BODY_HANDOFF, &handoff);
    disk(&f, 6);
    handoff.n_rows = 0;
    peer(&f, 7, 2, 4, RKV__ENVELOPE__BODY_HANDOFF, &handoff);
    expect_trace(&f, "[  1] ask 1 -> merge a, merge b\n"
                     "[  2] stored -> reply 1 ok\n"
                     "[  3] ask 2 -> merge a, merge b\n"
                     "[  4] stored no_space -> reply 2 no_space\n"
                     "[  5] ask 3 -> merge a\n"
                     "[  6] stored -> reply 3 refused\n"
                     "[  7] ask 4 -> reply 4 ok\n");
}

#define MET                                                                    \
    "event=record_damaged partition=44 count=1 what=\"it is mended from the "  \
    "other replicas\""

/* What one node has may be older than what the damaged copy acknowledged. */
static void what_is_handed_over_a_damaged_copy_is_asked_of_all(void **state)
{
    (void)state;
    node_start(&f);
    Rkv__Row row = RKV__ROW__INIT, *rows = &row;
    Rkv__Handoff handoff = RKV__HANDOFF__INIT;
    handoff.rows = &rows;
    handoff.n_rows = 1;
    row.bucket = bucket_id_of("default").value;
    row.key = binary_of_bytes(bytes_of_string("a"));
    row.record = binary_of_bytes(record_of(&f, 2, 1, "old"));
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_HANDOFF, &handoff);
    disk_fails(&f, 2, STATUS_CORRUPT);
    disk_fails(&f, 3, STATUS_CORRUPT); /* the read of its own copy */
    fetched(&f, 4, 2, STATUS_OK, record_of(&f, 2, 1, "old"));
    fetched(&f, 5, 3, STATUS_OK, record_of(&f, 3, 1, "new"));
    disk(&f, 6);
    expect_trace(&f, "[  1] ask 1 -> merge a\n"
                     "[  2] stored corrupt -> read a, fetch n3, fetch n2, "
                     "reply 1 corrupt, " MET "\n"
                     "[  5] n3 fetched ok -> mend a, store n3, store n2\n");
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "a");
    assert_string_equal(values_of(&f, toy_get(&f.toy, &key)), "old|new");
}

/* It would be a copy that has the new and lacks the old. */
static void
nothing_is_written_over_a_damaged_copy_but_what_all_hold(void **state)
{
    (void)state;
    node_start(&f);
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "a");
    toy_put(&f.toy, &key, bytes_of_string("damaged"));
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_STORE,
         store_of(&f, "a", record_of(&f, 2, 1, "new")));
    disk(&f, 2);
    fetched(&f, 3, 2, STATUS_OK, record_of(&f, 2, 1, "new"));
    fetched(&f, 4, 3, STATUS_OK, record_of(&f, 3, 1, "old"));
    disk(&f, 5);
    expect_trace(&f, "[  1] ask 1 -> merge a\n"
                     "[  2] stored corrupt -> read a, fetch n3, fetch n2, "
                     "reply 1 corrupt, " MET "\n"
                     "[  4] n3 fetched ok -> mend a, store n3, store n2\n");
    assert_string_equal(values_of(&f, toy_get(&f.toy, &key)), "new|old");
}

static void store_over(int64_t now_ms, uint64_t token, const char *name)
{
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", name);
    toy_put(&f.toy, &key, bytes_of_string("damaged"));
    peer(&f, now_ms, 2, token, RKV__ENVELOPE__BODY_STORE,
         store_of(&f, name, record_of(&f, 2, 1, "new")));
    disk(&f, now_ms);
}

static void mends_leave_room_for_requests(void **state)
{
    (void)state;
    enum { MENDS = 64 };
    node_start(&f);
    /* Of a key there is one. */
    store_over(1, 1, "a");
    store_over(1, 2, "a");
    assert_int_equal(counter_of(&f, "records_damaged"), 1);
    for (uint64_t i = 0; i < 2 * MENDS; i++) {
        char name[8];
        snprintf(name, sizeof name, "k%d", (int)i);
        store_over(1, 3 + i, name);
    }
    assert_int_equal(counter_of(&f, "records_damaged"), MENDS);
    f.trace_size = 0;
}

static void a_damaged_copy_of_what_nobody_holds_goes(void **state)
{
    (void)state;
    node_start(&f);
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "a");
    toy_put(&f.toy, &key, bytes_of_string("damaged"));
    put(&f, 1, 1, write_of(&f, "a", "v"));
    disk(&f, 2);
    fetched(&f, 3, 2, STATUS_NOT_FOUND, (struct bytes){0});
    fetched(&f, 4, 3, STATUS_NOT_FOUND, (struct bytes){0});
    disk(&f, 5);
    expect_trace(&f, "[  1] ask 1 -> coordinate a\n"
                     "[  2] prepared corrupt -> read a, fetch n3, fetch n2, "
                     "reply 1 unavailable not_applied 0/2, " MET "\n"
                     "[  4] n3 fetched not_found -> mend a\n");
    assert_int_equal(toy_get(&f.toy, &key).size, 0);
}

#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(opened,
             what_is_handed_over_is_merged_and_acknowledged_once_stored),
        WITH(opened, what_is_handed_over_a_damaged_copy_is_asked_of_all),
        WITH(opened, a_damaged_copy_of_what_nobody_holds_goes),
        WITH(opened, mends_leave_room_for_requests),
        WITH(opened, nothing_is_written_over_a_damaged_copy_but_what_all_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
