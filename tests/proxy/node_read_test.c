/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

static struct fixture f;

static int three_nodes(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    node_start(&f);
    return 0;
}

static int five_nodes(void **state)
{
    (void)state;
    node_open(&f, 5, 3);
    node_start(&f);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&f);
    return 0;
}

/* Put the record under k of our own copy. */
static void hold(struct bytes record)
{
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "k");
    toy_put(&f.toy, &key, record);
}

static const struct bytes nothing = {0};

static void read_asks_r_replicas_us_first(void **state)
{
    (void)state;
    struct bytes v = record_of(&f, 2, 1, "v");
    hold(v);
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 2);
    fetched(&f, 3, 3, STATUS_OK, v);
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[  3] n3 fetched ok -> reply 1 ok 2/2 v\n");
    assert_true(f.reply->read_reply->context.len > 0);
}

static void level_one_is_answered_by_our_own_disk(void **state)
{
    (void)state;
    hold(record_of(&f, 2, 1, "v"));
    Rkv__Read *read = read_of(&f, "k");
    read->r = 1;
    get(&f, 1, 1, read);
    disk(&f, 2);
    expect_trace(&f, "[  1] ask 1 -> read k\n"
                     "[  2] stored -> reply 1 ok 1/1 v\n");
}

static void a_slow_replica_is_hedged(void **state)
{
    (void)state;
    struct bytes v = record_of(&f, 2, 1, "v");
    hold(v);
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 2);
    tick(&f, 50);
    tick(&f, 51);
    fetched(&f, 52, 2, STATUS_OK, v);
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[ 51] tick -> fetch n2\n"
                     "[ 52] n2 fetched ok -> reply 1 ok 2/2 v\n");
    assert_int_equal(counter_of(&f, "reads_hedged"), 1);
    fetched(&f, 60, 3, STATUS_OK, v);
    expect_trace(&f, "");
}

/* Those of one turn in one message to one replica. */
static void reads_of_a_turn_go_to_who_owed_least_before_it(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 3; i++)
        get(&f, 1, i, read_of(&f, "k"));
    get(&f, 2, 4, read_of(&f, "k"));
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[  1] ask 2 -> read k, fetch n3\n"
                     "[  1] ask 3 -> read k, fetch n3\n"
                     "[  2] ask 4 -> read k, fetch n2\n");
    for (int i = 0; i < 3; i++)
        fetched(&f, 3, 3, STATUS_OK, record_of(&f, 2, 1, "v"));
    get(&f, 4, 5, read_of(&f, "k"));
    expect_trace(&f, "[  4] ask 5 -> read k, fetch n3\n");
}

/* Before anybody suspects it; also while the reads that asked it are over. */
static void who_owes_an_answer_is_asked_last(void **state)
{
    (void)state;
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 2);
    tick(&f, 51);
    fetched(&f, 52, 2, STATUS_NOT_FOUND, nothing);
    get(&f, 53, 2, read_of(&f, "k"));
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[ 51] tick -> fetch n2\n"
                     "[ 52] n2 fetched not_found -> reply 1 not_found 2/2\n"
                     "[ 53] ask 2 -> read k, fetch n2\n");
    gone(&f, 54, 3);
    fetched(&f, 55, 2, STATUS_NOT_FOUND, nothing);
    get(&f, 56, 3, read_of(&f, "k"));
    expect_trace(&f, "[ 56] ask 3 -> read k, fetch n3\n");
}

static void a_failed_replica_gives_way_at_once(void **state)
{
    (void)state;
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 2);
    gone(&f, 3, 3);
    fetched(&f, 4, 2, STATUS_NOT_FOUND, nothing);
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[  3] n3 gone -> fetch n2\n"
                     "[  4] n2 fetched not_found -> "
                     "reply 1 not_found 2/2\n");
}

static void a_replica_that_may_lack_the_key_does_not_count(void **state)
{
    (void)state;
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 2);
    fetched(&f, 3, 3, STATUS_UNCERTAIN, nothing);
    fetched(&f, 4, 2, STATUS_UNCERTAIN, nothing);
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[  3] n3 fetched uncertain -> fetch n2\n"
                     "[  4] n2 fetched uncertain -> "
                     "reply 1 unavailable 1/2\n");
}

/* A record on one of two is written to a second before it is answered, so that
 * no later quorum misses it. */
static void a_quorum_read_writes_back_before_it_answers(void **state)
{
    (void)state;
    struct bytes v = record_of(&f, 2, 1, "v");
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 2);
    fetched(&f, 3, 3, STATUS_OK, v);
    disk(&f, 4);
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[  3] n3 fetched ok -> merge k\n"
                     "[  4] stored -> reply 1 ok 2/2 v\n");
    assert_int_equal(counter_of(&f, "read_repairs"), 1);
    get(&f, 5, 2, read_of(&f, "k"));
    disk(&f, 5);
    fetched(&f, 6, 3, STATUS_NOT_FOUND, nothing);
    ack(&f, 7, 3, STATUS_OK);
    expect_trace(&f, "[  5] ask 2 -> read k, fetch n3\n"
                     "[  6] n3 fetched not_found -> store n3\n"
                     "[  7] n3 stored ok -> reply 2 ok 2/2 v\n");
}

static void a_write_back_that_fails_is_tried_on_another(void **state)
{
    (void)state;
    struct bytes v = record_of(&f, 2, 1, "v");
    hold(v);
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 2);
    fetched(&f, 3, 3, STATUS_NOT_FOUND, nothing);
    gone(&f, 4, 3);
    fetched(&f, 5, 2, STATUS_OK, v);
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[  3] n3 fetched not_found -> store n3\n"
                     "[  4] n3 gone -> fetch n2\n"
                     "[  5] n2 fetched ok -> reply 1 ok 3/2 v\n");
}

static void a_read_of_one_repairs_behind_its_answer(void **state)
{
    (void)state;
    Rkv__Read *read = read_of(&f, "k");
    read->r = 1;
    get(&f, 1, 1, read);
    tick(&f, 51);
    fetched(&f, 52, 3, STATUS_OK, record_of(&f, 2, 1, "v"));
    disk(&f, 53);
    expect_trace(&f, "[  1] ask 1 -> read k\n"
                     "[ 51] tick -> fetch n3\n"
                     "[ 52] n3 fetched ok -> reply 1 ok 1/1 v\n"
                     "[ 53] stored not_found -> merge k\n");
}

static void siblings_are_all_answered(void **state)
{
    (void)state;
    struct bytes a = record_of(&f, 2, 1, "a"), b = record_of(&f, 3, 1, "b");
    hold(a);
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 2);
    fetched(&f, 3, 3, STATUS_OK, b);
    disk(&f, 4);
    ack(&f, 5, 3, STATUS_OK);
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[  3] n3 fetched ok -> merge k, store n3\n"
                     "[  5] n3 stored ok -> reply 1 ok 2/2 a|b\n");
    assert_int_equal(counter_of(&f, "reads_with_siblings"), 1);
}

static void a_tombstone_is_not_found_with_a_context(void **state)
{
    (void)state;
    Rkv__Write *write = write_of(&f, "k", "");
    write->remove = true;
    put(&f, 1, 1, write);
    disk(&f, 1);
    f.trace_size = 0;
    Rkv__Read *read = read_of(&f, "k");
    read->r = 1;
    get(&f, 2, 2, read);
    disk(&f, 2);
    expect_trace(&f, "[  2] ask 2 -> read k\n"
                     "[  2] stored -> reply 2 not_found 1/1\n");
    assert_true(f.reply->read_reply->context.len > 0);
}

static void put_for(int64_t now_ms, uint64_t token, const char *key,
                    int64_t ttl_ms)
{
    Rkv__Write *write = write_of(&f, key, "v");
    write->ttl_ms = ttl_ms;
    put(&f, now_ms, token, write);
    disk(&f, now_ms);
}

/* The rest of its life, 0: it stays, -1: it is gone. */
static int64_t rest_of(int64_t now_ms, uint64_t token, const char *key)
{
    Rkv__Read *read = read_of(&f, key);
    read->r = 1;
    get(&f, now_ms, token, read);
    disk(&f, now_ms);
    const Rkv__ReadReply *reply = f.reply->read_reply;
    assert_int_equal(reply->result->status, reply->n_values == 1
                                                ? RKV__STATUS__OK
                                                : RKV__STATUS__NOT_FOUND);
    assert_true(reply->context.len > 0);
    if (reply->n_values == 0)
        return -1;
    return reply->n_ttl_ms == 0 ? 0 : reply->ttl_ms[0];
}

/* Gone for who reads; on the disk it is what it was. */
static void a_value_is_gone_when_its_time_is_over(void **state)
{
    (void)state;
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "k");
    put_for(100, 1, "k", 50);
    assert_int_equal(rest_of(101, 2, "k"), 49);
    assert_int_equal(rest_of(149, 3, "k"), 1);
    uint64_t version = record_version(toy_get(&f.toy, &key));
    assert_int_equal(rest_of(150, 4, "k"), -1);
    assert_int_equal(rest_of(151, 5, "k"), -1);
    assert_int_equal(record_version(toy_get(&f.toy, &key)), version);
    /* Unless a clock goes back. */
    assert_int_equal(rest_of(149, 6, "k"), 1);
}

static void the_bucket_says_how_long_a_write_lives_that_does_not(void **state)
{
    (void)state;
    node_close(&f);
    node_open(&f, 3, 3);
    static struct bucket_config buckets[1];
    buckets[0] = f.config.buckets[0];
    buckets[0].ttl_s = 1;
    f.config.buckets = buckets;
    f.config.bucket_count = 1;
    node_start(&f);
    put_for(100, 1, "bucket", 0);
    put_for(100, 2, "own", 50);
    put_for(100, 3, "stays", -1);
    assert_int_equal(rest_of(101, 4, "bucket"), 999);
    assert_int_equal(rest_of(101, 5, "own"), 49);
    assert_int_equal(rest_of(101, 6, "stays"), 0);
    Rkv__Write *write = write_of(&f, "removed", "");
    write->remove = true;
    put(&f, 102, 7, write);
    disk(&f, 102);
    assert_int_equal(rest_of(102, 8, "removed"), -1);
}

/* An empty value is a value. */
static void an_empty_value_is_found(void **state)
{
    (void)state;
    hold(record_of(&f, 2, 1, ""));
    Rkv__Read *read = read_of(&f, "k");
    read->r = 1;
    get(&f, 2, 1, read);
    disk(&f, 2);
    expect_trace(&f, "[  2] ask 1 -> read k\n"
                     "[  2] stored -> reply 1 ok 1/1 \n");
    assert_int_equal(f.reply->read_reply->n_values, 1);
}

static void a_damaged_record_does_not_count_and_is_written_over(void **state)
{
    (void)state;
    struct bytes v = record_of(&f, 2, 1, "v");
    uint8_t *damaged = arena_copy(&f.arena, v.data, v.size);
    damaged[v.size / 2] ^= 1;
    hold(bytes_of(damaged, v.size));
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 2);
    fetched(&f, 3, 3, STATUS_OK, v); /* of the client's read */
    fetched(&f, 3, 2, STATUS_OK, v); /* of the mend */
    disk(&f, 4);
    fetched(&f, 5, 3, STATUS_OK, v);
    fetched(&f, 6, 2, STATUS_OK, v);
    disk(&f, 7);
    expect_trace(
        &f, "[  1] ask 1 -> read k, fetch n3\n"
            "[  2] stored -> read k, fetch n2, fetch n3, fetch n2, "
            "event=record_damaged partition=16 count=1 what=\"it is mended "
            "from the other replicas\"\n"
            "[  5] n3 fetched ok -> mend k\n"
            "[  6] n2 fetched ok -> merge k, reply 1 ok 2/2 v\n");
    assert_int_equal(counter_of(&f, "records_damaged"), 1);
    assert_int_equal(counter_of(&f, "storage_failures"), 0);
}

static void the_deadline_of_a_read_is_a_timeout(void **state)
{
    (void)state;
    Rkv__Read *read = read_of(&f, "k");
    read->timeout_ms = 40;
    get(&f, 1, 1, read);
    tick(&f, 41);
    fetched(&f, 42, 3, STATUS_OK, record_of(&f, 2, 1, "v"));
    disk(&f, 43);
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[ 41] tick -> reply 1 timeout 0/2\n");
}

static void a_node_that_owns_nothing_reads_from_those_that_do(void **state)
{
    (void)state;
    get(&f, 1, 1, read_of(&f, key_owned_by(&f, "default", "234")));
    fetched(&f, 2, 2, STATUS_NOT_FOUND, nothing);
    fetched(&f, 3, 3, STATUS_NOT_FOUND, nothing);
    expect_trace(&f, "[  1] ask 1 -> fetch n2, fetch n3\n"
                     "[  3] n3 fetched not_found -> "
                     "reply 1 not_found 2/2\n");
}

/* --- sessions --- */

/* A read of k by who has seen this record of `of`. */
static Rkv__Read *read_behind(struct bytes encoded, const char *of, int r)
{
    struct record record;
    struct buffer context = {0};
    assert_int_equal(record_decode(encoded, &f.arena, &record), STATUS_OK);
    assert_int_equal(
        context_encode(&record.context,
                       key_hash(bucket_id_of("default"), bytes_of_string(of)),
                       &context),
        STATUS_OK);
    Rkv__Read *read = read_of(&f, "k");
    read->r = r;
    read->context = binary_of_bytes(bytes_of(
        arena_copy(&f.arena, context.data, context.size), context.size));
    buffer_fini(&context);
    return read;
}

static void a_read_shows_what_its_context_has_seen(void **state)
{
    (void)state;
    struct bytes v = record_of(&f, 2, 1, "v");
    get(&f, 1, 1, read_behind(v, "k", 1));
    disk(&f, 2);
    fetched(&f, 3, 3, STATUS_NOT_FOUND, nothing);
    fetched(&f, 4, 2, STATUS_OK, v);
    expect_trace(&f, "[  1] ask 1 -> read k\n"
                     "[  2] stored not_found -> fetch n3, fetch n2\n"
                     "[  4] n2 fetched ok -> merge k, store n3, "
                     "reply 1 ok 3/1 v\n");
    disk(&f, 5);
    ack(&f, 6, 3, STATUS_OK);
    get(&f, 7, 2, read_behind(v, "k", 1));
    disk(&f, 8);
    expect_trace(&f, "[  7] ask 2 -> read k\n"
                     "[  8] stored -> reply 2 ok 1/1 v\n");
}

static void a_read_that_cannot_is_stale(void **state)
{
    (void)state;
    get(&f, 1, 1, read_behind(record_of(&f, 2, 1, "v"), "k", 2));
    disk(&f, 2);
    fetched(&f, 3, 3, STATUS_NOT_FOUND, nothing);
    gone(&f, 4, 2);
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[  3] n3 fetched not_found -> fetch n2\n"
                     "[  4] n2 gone -> reply 1 stale 2/2\n");
}

static void a_context_that_has_no_room_is_not_taken_in(void **state)
{
    (void)state;
    node_close(&f);
    node_open(&f, 3, 3);
    f.config.limits.inflight_bytes_max = sizeof(struct dot) - 1;
    node_start(&f);
    get(&f, 1, 1, read_behind(record_of(&f, 2, 1, "v"), "k", 1));
    get(&f, 1, 2, read_of(&f, "k"));
    expect_trace(&f, "[  1] ask 1 -> reply 1 overloaded retry\n"
                     "[  1] ask 2 -> read k, fetch n3\n");
    assert_int_equal(counter_of(&f, "refused_overloaded"), 1);
}

static void what_is_no_context_of_the_key_is_refused(void **state)
{
    (void)state;
    struct bytes v = record_of(&f, 2, 1, "v");
    get(&f, 1, 1, read_behind(v, "another", 1));
    Rkv__Read *read = read_behind(v, "k", 1);
    read->context.len--;
    get(&f, 1, 2, read);
    expect_trace(&f, "[  1] ask 1 -> reply 1 refused\n"
                     "[  1] ask 2 -> reply 2 invalid\n");
}

static void what_cannot_be_read_is_refused(void **state)
{
    (void)state;
    static uint8_t zeros[KEY_BYTES_MAX + 1];
    Rkv__Read *read = read_of(&f, "");
    get(&f, 1, 1, read);
    read->key = binary_of_bytes(bytes_of(zeros, sizeof zeros));
    get(&f, 1, 2, read);
    read = read_of(&f, "k");
    read->r = 9;
    get(&f, 1, 3, read);
    read->r = 1;
    read->bucket = arena_string(&f.arena, "nowhere");
    get(&f, 1, 4, read);
    expect_trace(&f, "[  1] ask 1 -> reply 1 invalid\n"
                     "[  1] ask 2 -> reply 2 too_large\n"
                     "[  1] ask 3 -> reply 3 invalid\n"
                     "[  1] ask 4 -> reply 4 invalid\n");
}

/* Two clients that read, resolve and write in turn, each without having seen
 * what the other writes meanwhile. */
static void two_interleaved_clients_leave_two_siblings(void **state)
{
    (void)state;
    node_close(&f);
    node_open(&f, 1, 1);
    node_start(&f);
    struct bytes seen[2] = {{0}};
    uint64_t token = 1;
    for (int round = 0; round < 50; round++) {
        for (int who = 0; who < 2; who++) {
            get(&f, 1, token++, read_of(&f, "k"));
            disk(&f, 1);
            struct bytes context =
                bytes_of_binary(f.reply->read_reply->context);
            seen[who] = bytes_of(
                arena_copy(&f.arena, context.data, context.size), context.size);
            assert_in_range(f.reply->read_reply->n_values, 0, 2);
        }
        for (int who = 0; who < 2; who++) {
            Rkv__Write *write = write_of(&f, "k", who == 0 ? "a" : "b");
            write->context = binary_of_bytes(seen[who]);
            put(&f, 1, token++, write);
            disk(&f, 1);
        }
        f.trace_size = 0;
    }
    get(&f, 2, token, read_of(&f, "k"));
    disk(&f, 2);
    expect_trace(&f, "[  2] ask 201 -> read k\n"
                     "[  2] stored -> reply 201 ok 1/1 a|b\n");
}

static void n_is_not_three(void **state)
{
    (void)state;
    node_close(&f);
    node_open(&f, 5, 5);
    node_start(&f);
    put(&f, 1, 1, write_of(&f, "k", "v"));
    disk(&f, 1);
    for (int node = 2; node <= 5; node++)
        assert_non_null(request_at(&f, node));
    ack(&f, 1, 5, STATUS_OK);
    assert_int_equal(f.answers[1], 0);
    ack(&f, 1, 4, STATUS_OK);
    assert_int_equal(f.answers[1], 1);
    ack(&f, 1, 2, STATUS_OK);
    ack(&f, 1, 3, STATUS_OK);
    get(&f, 2, 2, read_of(&f, "k"));
    disk(&f, 2);
    for (int node = 2; node <= 5; node++)
        if (request_at(&f, node) != NULL)
            fetched(&f, 2, node, STATUS_NOT_FOUND, nothing);
    for (int node = 2; node <= 5; node++)
        if (request_at(&f, node) != NULL)
            ack(&f, 3, node, STATUS_OK);
    assert_int_equal(f.answers[2], 1);
    assert_int_equal(f.reply->read_reply->result->need, 3);
    assert_int_equal(f.reply->read_reply->n_values, 1);
    f.trace_size = 0;
}

/* Effects of several steps may be applied together: what an operation points
 * to must not be of a slot that another request has taken meanwhile. */
static void effects_outlive_the_request_that_caused_them(void **state)
{
    (void)state;
    Rkv__Read *read = read_of(&f, "first");
    read->timeout_ms = 1;
    struct event event = {
        .kind = EVENT_CLIENT_REQUEST,
        .now_us = 1000,
        .message = envelope_new(&f.arena, RKV__ENVELOPE__BODY_READ, read)};
    effects_reset(&f.effects);
    node_step(f.node, &event, &f.effects);
    event = (struct event){.kind = EVENT_TICK, .now_us = 2000};
    node_step(f.node, &event, &f.effects);
    event.kind = EVENT_CLIENT_REQUEST;
    event.message =
        envelope_new(&f.arena, RKV__ENVELOPE__BODY_READ, read_of(&f, "other"));
    node_step(f.node, &event, &f.effects);
    assert_int_equal(f.effects.storage_count, 2);
    assert_true(
        bytes_equal(f.effects.storage[0].key.key, bytes_of_string("first")));
    assert_true(
        bytes_equal(f.effects.storage[1].key.key, bytes_of_string("other")));
}

#define WITH(nodes, test) cmocka_unit_test_setup_teardown(test, nodes, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(three_nodes, read_asks_r_replicas_us_first),
        WITH(three_nodes, level_one_is_answered_by_our_own_disk),
        WITH(three_nodes, a_slow_replica_is_hedged),
        WITH(three_nodes, reads_of_a_turn_go_to_who_owed_least_before_it),
        WITH(three_nodes, who_owes_an_answer_is_asked_last),
        WITH(three_nodes, a_failed_replica_gives_way_at_once),
        WITH(three_nodes, a_replica_that_may_lack_the_key_does_not_count),
        WITH(three_nodes, a_quorum_read_writes_back_before_it_answers),
        WITH(three_nodes, a_write_back_that_fails_is_tried_on_another),
        WITH(three_nodes, a_read_of_one_repairs_behind_its_answer),
        WITH(three_nodes, siblings_are_all_answered),
        WITH(three_nodes, a_tombstone_is_not_found_with_a_context),
        WITH(three_nodes, a_value_is_gone_when_its_time_is_over),
        WITH(three_nodes, the_bucket_says_how_long_a_write_lives_that_does_not),
        WITH(three_nodes, an_empty_value_is_found),
        WITH(three_nodes, a_damaged_record_does_not_count_and_is_written_over),
        WITH(three_nodes, the_deadline_of_a_read_is_a_timeout),
        WITH(five_nodes, a_node_that_owns_nothing_reads_from_those_that_do),
        WITH(three_nodes, a_read_shows_what_its_context_has_seen),
        WITH(three_nodes, a_read_that_cannot_is_stale),
        WITH(three_nodes, a_context_that_has_no_room_is_not_taken_in),
        WITH(three_nodes, what_is_no_context_of_the_key_is_refused),
        WITH(three_nodes, what_cannot_be_read_is_refused),
        WITH(three_nodes, two_interleaved_clients_leave_two_siblings),
        WITH(three_nodes, n_is_not_three),
        WITH(three_nodes, effects_outlive_the_request_that_caused_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
