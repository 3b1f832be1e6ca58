/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

#include <stdio.h>

#include "proxy/core/hash_tree.h"

/* Anti-entropy between two nodes, each with a disk of its own; what one asks
 * the other is carried over by the test. */

enum {
    PARTITIONS = 4,
    INTERVAL_MS = 1000,
    ANY_ROUNDS = 20,
    ALL_STEPS = 100000, /* a round that takes more does not end */
};

static struct fixture n1, n2;
static uint64_t token;

static void open_one(struct fixture *f, int number)
{
    node_open(f, 2, 2);
    f->config.self = f->members[number - 1];
    f->config.founding.partitions = PARTITIONS;
    f->config.limits.list_bytes_max = 4096;
    f->config.timeouts.exchange_interval_ms = INTERVAL_MS;
    f->with_trees = true;
}

static int opened(void **state)
{
    (void)state;
    open_one(&n1, 1);
    open_one(&n2, 2);
    token = 1;
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&n1);
    node_close(&n2);
    return 0;
}

/* n2 answers, and never asks itself: one direction has to do. */
static void start(void)
{
    n2.config.timeouts.exchange_interval_ms = UINT32_MAX;
    node_boot(&n1);
    node_boot(&n2);
    greeted(&n1, 0, 2);
    meet(&n1, 0, 2);
    meet(&n2, 0, 1);
    disk(&n1, 0);
    disk(&n2, 0);
    assert_true(node_is_ready(n1.node) && node_is_ready(n2.node));
}

static const void *body_of(const Rkv__Envelope *message)
{
    const void *body;
    memcpy(&body, &message->result, sizeof body); /* one of a union */
    return body;
}

static void carry_over(int64_t now_ms)
{
    const Rkv__Envelope *message = request_at(&n1, 2);
    peer(&n2, now_ms, 1, token++, message->body_case, body_of(message));
    disk(&n2, now_ms);
    answer(&n1, now_ms, 2, n2.reply->body_case, body_of(n2.reply));
    n1.trace_size = n2.trace_size = 0;
}

/* One round from its beginning to its end, or until so many messages went
 * over; how many did. */
static int round_of(int64_t now_ms, int steps)
{
    int messages = 0;
    for (int i = 0; i < 100; i++) { /* partitions are taken up by ticks */
        tick(&n1, now_ms + 4 * i);
        disk(&n1, n1.now_ms);
        while (n1.request_count > 0 && messages < steps) {
            carry_over(n1.now_ms);
            disk(&n1, n1.now_ms);
            messages++;
        }
    }
    n1.trace_size = 0;
    return messages;
}

static void store(struct fixture *f, const char *name, struct bytes record)
{
    struct storage_key key = key_in(f, TABLE_DATA, 0, "default", name);
    toy_put(&f->toy, &key, record);
}

static const char *stored(struct fixture *f, const char *name)
{
    struct storage_key key = key_in(f, TABLE_DATA, 0, "default", name);
    return values_of(f, toy_get(&f->toy, &key));
}

static void expect_equal(void)
{
    for (uint16_t p = 0; p < n1.config.founding.partitions; p++) {
        uint64_t a = 1, b = 2;
        assert_true(node_tree_root(n1.node, (struct partition){p}, &a));
        assert_true(node_tree_root(n2.node, (struct partition){p}, &b));
        assert_int_equal(a, b);
    }
    assert_int_equal(n1.toy.count, n2.toy.count);
}

static void equal_replicas_compare_their_roots_and_no_more(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        store(&n1, name, record_of(&n1, 1, 1, "v"));
        store(&n2, name, record_of(&n2, 1, 1, "v"));
    }
    start();
    tick(&n1, 10);
    disk(&n1, 10);
    n1.trace_size = 0;
    tick(&n1, 10 + INTERVAL_MS);
    expect_trace(&n1, "[1010] tick -> trees 0: 4 n2\n");
    carry_over(10 + INTERVAL_MS);
    assert_int_equal(n1.request_count + n1.op_count, 0);
    assert_int_equal(counter_of(&n1, "exchanges"), 1);
    assert_int_equal(counter_of(&n1, "keys_pulled"), 0);
    assert_int_equal(counter_of(&n1, "keys_pushed"), 0);
}

static void what_one_of_them_lacks_it_is_given(void **state)
{
    (void)state;
    store(&n1, "mine", record_of(&n1, 1, 1, "v"));
    store(&n2, "yours", record_of(&n2, 2, 1, "w"));
    start();
    round_of(INTERVAL_MS, ALL_STEPS);
    assert_string_equal(stored(&n2, "mine"), "v");
    assert_string_equal(stored(&n1, "yours"), "w");
    assert_int_equal(counter_of(&n1, "keys_pulled"), 1);
    assert_int_equal(counter_of(&n1, "keys_pushed"), 1);
    expect_equal();
}

static void what_both_wrote_is_merged_on_both(void **state)
{
    (void)state;
    store(&n1, "k", record_of(&n1, 1, 1, "v"));
    store(&n2, "k", record_of(&n2, 2, 1, "w"));
    start();
    round_of(INTERVAL_MS, ALL_STEPS);
    assert_string_equal(stored(&n1, "k"), stored(&n2, "k"));
    assert_int_equal(strlen(stored(&n1, "k")), 3);
    expect_equal();
}

/* Theirs has all of ours: merged, it is theirs, and need not go back. */
static void what_is_only_older_is_not_sent(void **state)
{
    (void)state;
    struct bytes older = record_of(&n1, 1, 1, "v");
    store(&n1, "k", older);
    store(&n2, "k", merged(&n2, older, record_of(&n2, 2, 1, "w")));
    start();
    round_of(INTERVAL_MS, ALL_STEPS);
    assert_int_equal(counter_of(&n1, "keys_pulled"), 1);
    assert_int_equal(counter_of(&n1, "keys_pushed"), 0);
    expect_equal();
}

static void many_differences_take_few_messages(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        if (i % 10 != 0)
            store(&n1, name, record_of(&n1, 1, 1, "v"));
        store(&n2, name, record_of(&n2, 1, 1, "v"));
    }
    start();
    int messages = round_of(INTERVAL_MS, ALL_STEPS);
    assert_int_equal(counter_of(&n1, "keys_pulled"), 100);
    /* Four levels, and for each partition its chunks twice, once of versions
     * and once of rows: some twelve of each. */
    assert_in_range(messages, 4, 4 + PARTITIONS * 2 * 15);
    expect_equal();
}

static void make_large(void)
{
    enum { MANY = 6000 };
    n1.config.founding.partitions = n2.config.founding.partitions = 2;
    n1.is_quiet = n2.is_quiet = true;
    for (int i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof name, "%05d", i);
        if (i < MANY / 3 || i % 7 == 0)
            store(&n1, name, record_of(&n1, 1, 1, "v"));
        if (i > MANY / 2 || i % 5 == 0)
            store(&n2, name, record_of(&n2, 2, 1, "w"));
    }
}

/* Chunk by chunk, on both sides; what one of them has in a chunk in which the
 * other has nothing, too. */
static void large_partitions_are_done_in_chunks(void **state)
{
    (void)state;
    make_large();
    start();
    int messages = round_of(INTERVAL_MS, ALL_STEPS);
    expect_equal();
    assert_in_range(messages, 100, 2000);
    assert_int_equal(counter_of(&n1, "keys_refused"), 0);
    assert_int_equal(counter_of(&n1, "exchanges_failed"), 0);
}

/* More than a request a millisecond: chunks are smaller and apart. */
static void a_busy_node_rests_between_chunks(void **state)
{
    (void)state;
    int64_t now_ms = INTERVAL_MS;
    int rests = 0;
    make_large();
    start();
    tick(&n1, 1);
    disk(&n1, 1);
    while (counter_of(&n1, "exchanges") == 0 || n1.toy.count != n2.toy.count) {
        for (int i = 0; i < 5; i++)
            peer(&n1, now_ms, 2, token++, RKV__ENVELOPE__BODY_FETCH,
                 fetch_of(&n1, "00001"));
        disk(&n1, now_ms);
        tick(&n1, now_ms);
        disk(&n1, now_ms);
        rests += n1.request_count == 0;
        while (n1.request_count > 0) {
            carry_over(now_ms);
            disk(&n1, now_ms);
        }
        now_ms += 4;
    }
    /* Some thirty chunks, eight ticks apart. */
    assert_in_range(rests, 100, 600);
}

/* One that the peer does not take does not hold up the others. */
static void a_key_that_is_refused_is_passed_over(void **state)
{
    (void)state;
    enum { MANY = 40 };
    char refused[16] = "";
    for (int i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        store(&n1, name, record_of(&n1, 1, 1, "v"));
    }
    start();
    for (int i = 0; i < 100; i++) {
        tick(&n1, INTERVAL_MS + 4 * i);
        disk(&n1, n1.now_ms);
        while (n1.request_count > 0) {
            const Rkv__Envelope *message = request_at(&n1, 2);
            Rkv__HandoffReply no = RKV__HANDOFF_REPLY__INIT;
            no.status = RKV__STATUS__REFUSED;
            bool is_push = message->body_case == RKV__ENVELOPE__BODY_HANDOFF;
            if (is_push && refused[0] == '\0')
                memcpy(refused, message->handoff->rows[0]->key.data,
                       message->handoff->rows[0]->key.len);
            bool has = false;
            for (size_t k = 0; is_push && k < message->handoff->n_rows; k++)
                has |=
                    bytes_equal(bytes_of_binary(message->handoff->rows[k]->key),
                                bytes_of_string(refused));
            if (has)
                answer(&n1, n1.now_ms, 2, RKV__ENVELOPE__BODY_HANDOFF_REPLY,
                       &no);
            else
                carry_over(n1.now_ms);
            disk(&n1, n1.now_ms);
            n1.trace_size = 0;
        }
    }
    assert_int_equal(counter_of(&n1, "keys_pushed"), MANY - 1);
    assert_int_equal(counter_of(&n1, "keys_refused"), 1);
    assert_string_equal(stored(&n2, refused), "nothing");
    round_of(3 * INTERVAL_MS, ALL_STEPS);
    expect_equal();
}

static unsigned partition_of_key(const char *name)
{
    return key_in(&n1, TABLE_DATA, 0, "default", name).partition.value;
}

/* What was to be kept for a node and was not goes before what only differs. */
static void what_is_known_to_be_missed_goes_first(void **state)
{
    (void)state;
    unsigned last = n1.config.founding.partitions - 1u;
    char missed[16] = "m";
    n1.config.limits.hint_bytes_max = 0;
    start();
    round_of(INTERVAL_MS, ALL_STEPS);
    for (int i = 0; partition_of_key(missed) != last; i++)
        snprintf(missed, sizeof missed, "m%d", i);
    for (int i = 0; i < 10; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        if (partition_of_key(name) != last)
            peer(&n1, n1.now_ms, 2, token++, RKV__ENVELOPE__BODY_STORE,
                 store_of(&n1, name, record_of(&n1, 1, 1, "v")));
    }
    put(&n1, n1.now_ms, token++, write_of(&n1, missed, "v"));
    disk(&n1, n1.now_ms);
    gone(&n1, n1.now_ms, 2);
    disk(&n1, n1.now_ms);
    assert_int_equal(counter_of(&n1, "hints_shed"), 1);
    for (int i = 0; i < 100 && stored(&n2, missed)[0] == 'n'; i++) {
        tick(&n1, 2 * INTERVAL_MS + 4 * i);
        disk(&n1, n1.now_ms);
        if (n1.request_count > 0)
            carry_over(n1.now_ms);
        disk(&n1, n1.now_ms);
        n1.trace_size = 0;
    }
    assert_string_equal(stored(&n2, missed), "v");
    for (int i = 0; i < 10; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        assert_string_equal(stored(&n2, name), "nothing");
    }
    round_of(n1.now_ms, ALL_STEPS);
    expect_equal();
}

static void make_differ(void)
{
    for (int i = 0; i < 30; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        if (i % 3 != 0)
            store(&n1, name, record_of(&n1, 1, 1, "v"));
        if (i % 3 != 1)
            store(&n2, name, record_of(&n2, 2, 1, "w"));
    }
}

static void a_peer_that_goes_away_is_asked_again(void **state)
{
    (void)state;
    make_differ();
    start();
    int64_t now_ms = INTERVAL_MS;
    for (int steps = 0; steps < ANY_ROUNDS; steps++) {
        round_of(now_ms, steps);
        if (n1.request_count > 0)
            gone(&n1, now_ms, 2);
        disk(&n1, now_ms);
        n1.trace_size = 0;
        now_ms += 2 * INTERVAL_MS;
    }
    assert_in_range(counter_of(&n1, "exchanges_failed"), 2, ANY_ROUNDS);
    round_of(now_ms, ALL_STEPS);
    expect_equal();
}

static void a_disk_that_fails_is_asked_again(void **state)
{
    (void)state;
    make_differ();
    start();
    tick(&n1, 1);
    disk(&n1, 1);
    int64_t now_ms = INTERVAL_MS;
    for (int steps = 0; steps < ANY_ROUNDS; steps++) {
        tick(&n1, now_ms);
        for (int i = 0; i < steps; i++) {
            if (n1.op_count > 0)
                disk_one(&n1, now_ms);
            else if (n1.request_count > 0)
                carry_over(now_ms);
        }
        if (n1.op_count > 0)
            disk_fails(&n1, now_ms, STATUS_IO);
        while (n1.request_count > 0)
            gone(&n1, now_ms, 2);
        disk(&n1, now_ms);
        n1.trace_size = 0;
        now_ms += 2 * INTERVAL_MS;
    }
    assert_in_range(counter_of(&n1, "exchanges_failed"), 2, 2 * ANY_ROUNDS);
    /* A partition that could not be read is read again an hour later. */
    for (int i = 0; i < 3; i++)
        round_of(now_ms + 3600000 * i, ALL_STEPS);
    expect_equal();
}

static void a_message_that_is_lost_is_given_up(void **state)
{
    (void)state;
    make_differ();
    start();
    round_of(INTERVAL_MS, 2);
    assert_int_equal(n1.request_count, 1);
    tick(&n1, INTERVAL_MS + 40000);
    assert_int_equal(counter_of(&n1, "exchanges_failed"), 1);
    /* The late answer belongs to nothing any more. */
    carry_over(INTERVAL_MS + 40000);
    assert_int_equal(counter_of(&n1, "exchanges_failed"), 1);
    round_of(INTERVAL_MS + 50000, ALL_STEPS);
    expect_equal();
}

/* --- what is asked of us --- */

static Rkv__TreesReply *asked(uint32_t level, uint32_t node, size_t bytes)
{
    static uint8_t hashes[64];
    Rkv__Trees trees = RKV__TREES__INIT;
    trees.level = level;
    trees.nodes = &node;
    trees.n_nodes = 1;
    trees.hashes = binary_of_bytes(bytes_of(hashes, bytes));
    peer(&n1, n1.now_ms, 2, token++, RKV__ENVELOPE__BODY_TREES, &trees);
    assert_int_equal(n1.reply->body_case, RKV__ENVELOPE__BODY_TREES_REPLY);
    return n1.reply->trees_reply;
}

static void what_is_no_question_is_refused(void **state)
{
    (void)state;
    start();
    disk(&n1, 0);
    assert_int_equal(asked(0, 0, 8)->status, RKV__STATUS__OK);
    assert_int_equal(asked(0, PARTITIONS, 8)->status, RKV__STATUS__INVALID);
    assert_int_equal(asked(0, 0, 7)->status, RKV__STATUS__INVALID);
    assert_int_equal(asked(1, 0, 32)->status, RKV__STATUS__OK);
    assert_int_equal(asked(1, 1, 32)->status, RKV__STATUS__INVALID);
    assert_int_equal(asked(3, 63, 32)->status, RKV__STATUS__OK);
    assert_int_equal(asked(3, 64, 32)->status, RKV__STATUS__INVALID);
    assert_int_equal(asked(3, PARTITIONS << 9, 32)->status,
                     RKV__STATUS__INVALID);
    assert_int_equal(asked(4, 0, 32)->status, RKV__STATUS__INVALID);
    Rkv__Scan scan = RKV__SCAN__INIT;
    uint8_t leaves[63] = {0};
    scan.leaves = binary_of_bytes(bytes_of(leaves, sizeof leaves));
    peer(&n1, 0, 2, token++, RKV__ENVELOPE__BODY_SCAN, &scan);
    assert_int_equal(n1.reply->scan_reply->status, RKV__STATUS__INVALID);
}

static void what_is_not_known_yet_is_not_said_to_be_equal(void **state)
{
    (void)state;
    n2.with_trees = false;
    start();
    round_of(INTERVAL_MS, ALL_STEPS);
    assert_int_equal(counter_of(&n1, "partitions_uncompared"), PARTITIONS);
    assert_int_equal(counter_of(&n1, "exchanges"), 1);
}

static void what_is_not_known_below_the_root_is_uncertain(void **state)
{
    (void)state;
    n1.with_trees = false;
    start();
    assert_int_equal(asked(0, 0, 8)->differ.data[0], 2);
    assert_int_equal(asked(1, 0, 32)->status, RKV__STATUS__UNCERTAIN);
}

/* --- repair --- */

static const Rkv__AdminReply *admin(const Rkv__Admin *request)
{
    client(&n1, n1.now_ms, token++, RKV__ENVELOPE__BODY_ADMIN, request);
    n1.trace_size = 0;
    return n1.reply->body_case == RKV__ENVELOPE__BODY_ADMIN_REPLY
               ? n1.reply->admin_reply
               : NULL;
}

static const Rkv__AdminReply *status(void)
{
    Rkv__Admin request = RKV__ADMIN__INIT;
    return admin(&request);
}

static void a_repair_begins_at_once_and_ends(void **state)
{
    (void)state;
    Rkv__Admin request = RKV__ADMIN__INIT;
    n1.config.timeouts.exchange_interval_ms = UINT32_MAX;
    make_differ();
    start();
    round_of(10, ALL_STEPS);
    assert_int_equal(counter_of(&n1, "exchanges"), 0);
    assert_int_equal(status()->equal_ago_ms[0], -1);
    request.what = RKV__ADMIN__WHAT__REPAIR;
    assert_non_null(admin(&request));
    assert_true(status()->repairing);
    assert_int_equal(status()->repair_left, PARTITIONS);
    assert_null(admin(&request));
    assert_int_equal(n1.reply->result->status, RKV__STATUS__REFUSED);
    round_of(1000, ALL_STEPS);
    expect_equal();
    assert_false(status()->repairing);
    assert_int_equal(status()->repair_left, 0);
    assert_in_range(status()->equal_ago_ms[0], 0, 1000);
    request.full = true;
    uint64_t built = counter_of(&n1, "trees_built");
    assert_non_null(admin(&request));
    assert_int_equal(status()->repair_left, 2 * PARTITIONS);
    round_of(2000, ALL_STEPS);
    assert_int_equal(counter_of(&n1, "trees_built"), built + PARTITIONS);
    assert_false(status()->repairing);
}

static void a_repair_of_what_is_not_there_is_refused(void **state)
{
    (void)state;
    Rkv__Admin request = RKV__ADMIN__INIT;
    char none[] = "none";
    start();
    request.what = RKV__ADMIN__WHAT__REPAIR;
    request.bucket = none;
    assert_null(admin(&request));
    assert_int_equal(n1.reply->result->status, RKV__STATUS__INVALID);
    request = (Rkv__Admin)RKV__ADMIN__INIT;
    request.what = RKV__ADMIN__WHAT__REPAIR;
    request.one_partition = true;
    request.partition = PARTITIONS;
    assert_null(admin(&request));
    assert_string_equal(n1.reply->result->message,
                        "partition: 4, allowed are 0 to 3");
    assert_false(status()->repairing);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, opened, closed)
    const struct CMUnitTest tests[] = {
        TEST(equal_replicas_compare_their_roots_and_no_more),
        TEST(what_one_of_them_lacks_it_is_given),
        TEST(what_both_wrote_is_merged_on_both),
        TEST(what_is_only_older_is_not_sent),
        TEST(many_differences_take_few_messages),
        TEST(large_partitions_are_done_in_chunks),
        TEST(a_busy_node_rests_between_chunks),
        TEST(a_key_that_is_refused_is_passed_over),
        TEST(what_is_known_to_be_missed_goes_first),
        TEST(a_peer_that_goes_away_is_asked_again),
        TEST(a_disk_that_fails_is_asked_again),
        TEST(a_message_that_is_lost_is_given_up),
        TEST(what_is_no_question_is_refused),
        TEST(what_is_not_known_yet_is_not_said_to_be_equal),
        TEST(what_is_not_known_below_the_root_is_uncertain),
        TEST(a_repair_begins_at_once_and_ends),
        TEST(a_repair_of_what_is_not_there_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
