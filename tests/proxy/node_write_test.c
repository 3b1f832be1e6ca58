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

static ProtobufCBinaryData request_id(uint8_t number)
{
    uint8_t *id = arena_zalloc(&f.arena, REQUEST_ID_SIZE);
    id[0] = number;
    return binary_of_bytes(bytes_of(id, REQUEST_ID_SIZE));
}

/* --- coordinated here --- */

static void write_is_sent_on_before_it_is_on_disk(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    prepare(&f, 2);
    ack(&f, 3, 2, STATUS_OK);
    disk(&f, 4);
    ack(&f, 5, 3, STATUS_OK);
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  2] prepared -> store n3, store n2\n"
                     "[  4] stored -> reply 1 ok applied 2/2\n");
    assert_true(f.reply->write_reply->context.len > 0);
}

static void level_one_answers_with_the_first(void **state)
{
    (void)state;
    Rkv__Write *write = write_of(&f, "k", "v");
    write->w = 1;
    put(&f, 1, 1, write);
    prepare(&f, 2);
    ack(&f, 3, 3, STATUS_OK);
    disk(&f, 4);
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  2] prepared -> store n3, store n2\n"
                     "[  3] n3 stored ok -> reply 1 ok applied 1/1\n");
}

static void level_all_waits_for_the_last(void **state)
{
    (void)state;
    Rkv__Write *write = write_of(&f, "k", "v");
    write->w = LEVEL_ALL;
    put(&f, 1, 1, write);
    disk(&f, 2);
    ack(&f, 3, 3, STATUS_OK);
    ack(&f, 4, 2, STATUS_OK);
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  2] prepared -> store n3, store n2\n"
                     "[  4] n2 stored ok -> reply 1 ok applied 3/3\n");
}

static void late_replica_is_hinted_soon_after_the_answer(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    disk(&f, 2);
    ack(&f, 3, 2, STATUS_OK);
    tick(&f, 202);
    tick(&f, 203);
    disk(&f, 204);
    ack(&f, 205, 3, STATUS_OK); /* too late, which harms nobody */
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  2] prepared -> store n3, store n2\n"
                     "[  3] n2 stored ok -> reply 1 ok applied 2/2\n"
                     "[203] tick -> merge k for n3\n");
    assert_int_equal(counter_of(&f, "hints_stored"), 1);
    struct storage_key hint = key_in(&f, TABLE_HINTS, 3, "default", "k");
    assert_string_equal(values_of(&f, toy_get(&f.toy, &hint)), "v");
}

static void deadline_gives_unknown_and_hints(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    disk(&f, 2);
    tick(&f, 1001);
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  2] prepared -> store n3, store n2\n"
                     "[1001] tick -> merge k for n3, merge k for n2, "
                     "reply 1 unavailable unknown 1/2\n");
}

static void lost_replicas_give_unknown_at_once(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    disk(&f, 2);
    gone(&f, 3, 3);
    ack(&f, 4, 2, STATUS_NO_SPACE);
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  2] prepared -> store n3, store n2\n"
                     "[  4] n2 stored no_space -> merge k for n3, "
                     "merge k for n2, reply 1 unavailable unknown 1/2\n");
}

static void a_failed_disk_of_our_own_is_one_replica_less(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    prepare(&f, 2);
    disk_fails(&f, 3, STATUS_IO);
    ack(&f, 4, 2, STATUS_OK);
    ack(&f, 5, 3, STATUS_OK);
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  2] prepared -> store n3, store n2\n"
                     "[  5] n3 stored ok -> reply 1 ok applied 2/2\n");
    assert_int_equal(counter_of(&f, "storage_failures"), 1);
}

static void what_was_never_run_is_not_applied(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    disk_fails(&f, 2, STATUS_BROKEN);
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  2] stored broken -> reply 1 broken not_applied 0/2\n");
}

/* A disk that hangs holds up the write, never its answer. What comes of it
 * later is still replicated. */
static void a_disk_that_hangs_gives_unknown_at_the_deadline(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    tick(&f, 1000);
    tick(&f, 1001);
    disk(&f, 1500);
    ack(&f, 1501, 2, STATUS_OK);
    gone(&f, 1502, 3);
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[1001] tick -> reply 1 timeout unknown 0/2\n"
                     "[1500] prepared -> store n3, store n2\n"
                     "[1502] n3 gone -> merge k for n3\n");
}

static void a_disk_that_hangs_may_also_never_run_it(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    tick(&f, 1001);
    disk_fails(&f, 1500, STATUS_BROKEN);
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[1001] tick -> reply 1 timeout unknown 0/2\n");
    put(&f, 1501, 2, write_of(&f, "k", "v"));
    tick(&f, 2501);
    Rkv__Write *refused = write_of(&f, "k", "w");
    refused->context = binary_of_bytes(bytes_of_string("nonsense"));
    put(&f, 2502, 3, refused);
    tick(&f, 3502);
    prepare(&f, 3503);
    expect_trace(&f, "[1501] ask 2 -> coordinate k\n"
                     "[2501] tick -> reply 2 timeout unknown 0/2\n"
                     "[2502] ask 3 -> coordinate k\n"
                     "[3502] tick -> reply 3 timeout unknown 0/2\n"
                     "[3503] prepared -> store n3, store n2\n");
}

static void a_request_sent_again_is_one_write(void **state)
{
    (void)state;
    Rkv__Write *write = write_of(&f, "k", "v");
    write->request_id = request_id(1);
    for (uint64_t token = 1; token <= 2; token++) {
        put(&f, 1, token, write);
        disk(&f, 1);
        ack(&f, 1, 2, STATUS_OK);
        ack(&f, 1, 3, STATUS_OK);
    }
    assert_int_equal(counter_of(&f, "writes_retried"), 1);
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "k");
    assert_string_equal(values_of(&f, toy_get(&f.toy, &key)), "v");
    f.trace_size = 0;
}

static void a_write_without_an_id_is_a_write_of_its_own(void **state)
{
    (void)state;
    for (uint64_t token = 1; token <= 2; token++) {
        put(&f, 1, token, write_of(&f, "k", "v"));
        disk(&f, 1);
    }
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "k");
    assert_string_equal(values_of(&f, toy_get(&f.toy, &key)), "v|v");
}

static void a_context_supersedes_what_it_has_seen(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "old"));
    disk(&f, 1);
    ack(&f, 1, 2, STATUS_OK);
    Rkv__Write *write = write_of(&f, "k", "new");
    struct bytes context = bytes_of_binary(f.reply->write_reply->context);
    write->context = binary_of_bytes(bytes_of(
        arena_copy(&f.arena, context.data, context.size), context.size));
    put(&f, 2, 2, write);
    disk(&f, 2);
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "k");
    assert_string_equal(values_of(&f, toy_get(&f.toy, &key)), "new");
    f.trace_size = 0;
    write->key = binary_of_bytes(bytes_of_string("other"));
    put(&f, 3, 3, write);
    disk(&f, 3);
    expect_trace(&f, "[  3] ask 3 -> coordinate other\n"
                     "[  3] prepared refused -> "
                     "reply 3 refused not_applied 0/2\n");
    assert_non_null(
        strstr(f.reply->write_reply->result->message, "another key"));
}

/* The context of the record covers the sibling, too: to write over it unseen
 * would lose it. */
static void a_reply_has_no_context_beside_unread_siblings(void **state)
{
    (void)state;
    for (uint64_t token = 1; token <= 2; token++) {
        put(&f, 1, token, write_of(&f, "k", "v"));
        disk(&f, 1);
        ack(&f, 1, 2, STATUS_OK);
        assert_int_equal(f.reply->write_reply->context.len > 0, token == 1);
    }
}

static void a_remove_leaves_a_tombstone(void **state)
{
    (void)state;
    Rkv__Write *write = write_of(&f, "k", "value is ignored");
    write->remove = true;
    put(&f, 1, 1, write);
    disk(&f, 1);
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "k");
    assert_string_equal(values_of(&f, toy_get(&f.toy, &key)), "-");
}

static void answers_of_strangers_and_again_change_nothing(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    disk(&f, 1);
    uint64_t request = f.requests[0].request;
    Rkv__StoreReply *reply =
        message_new(&f.arena, &rkv__store_reply__descriptor);
    struct event event = {
        .kind = EVENT_REPLY,
        .from = node_id_of("test", "nobody"),
        .request = request,
        .message =
            envelope_new(&f.arena, RKV__ENVELOPE__BODY_STORE_REPLY, reply)};
    f.trace_size = 0;
    step(&f, 2, &event, "stranger");
    event.request += UINT64_C(1) << 20;
    event.from = node_number(&f, 2);
    step(&f, 2, &event, "another use of the slot");
    event.request = request | UINT64_C(0xffff);
    step(&f, 2, &event, "no such slot");
    expect_trace(&f, "");
    ack(&f, 3, 2, STATUS_OK);
    event.request = request;
    step(&f, 4, &event, "again");
    expect_trace(&f, "[  3] n2 stored ok -> reply 1 ok applied 2/2\n");
}

/* --- refused --- */

static void refused(const char *what, Rkv__Write *write, uint64_t token,
                    const char *trace)
{
    put(&f, 1, token, write);
    expect_trace(&f, trace);
    if (strstr(f.reply->result->message, what) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", f.reply->result->message, what);
}

static void what_cannot_be_written_is_refused_and_says_why(void **state)
{
    (void)state;
    static uint8_t zeros[(1 << 20) + 1];
    Rkv__Write *write = write_of(&f, "", "v");
    refused("key: 0 bytes, allowed are 1 to 480", write, 1,
            "[  1] ask 1 -> reply 1 invalid not_applied\n");
    write->key = binary_of_bytes(bytes_of(zeros, KEY_BYTES_MAX + 1));
    refused("key: 481 bytes, allowed are 1 to 480", write, 2,
            "[  1] ask 2 -> reply 2 too_large not_applied\n");
    write = write_of(&f, "k", "v");
    write->value = binary_of_bytes(bytes_of(zeros, sizeof zeros));
    refused("value: 1048577 bytes, allowed are 1048576", write, 3,
            "[  1] ask 3 -> reply 3 too_large not_applied\n");
    write = write_of(&f, "k", "v");
    write->bucket = arena_string(&f.arena, "nowhere");
    refused("\"nowhere\" is not declared", write, 4,
            "[  1] ask 4 -> reply 4 invalid not_applied\n");
    write = write_of(&f, "k", "v");
    write->w = 4;
    refused("w: level 4", write, 5,
            "[  1] ask 5 -> reply 5 invalid not_applied\n");
    write->w = -3;
    refused("w: level -3", write, 6,
            "[  1] ask 6 -> reply 6 invalid not_applied\n");
    write = write_of(&f, "k", "v");
    write->request_id = binary_of_bytes(bytes_of(zeros, 15));
    refused("request_id: 15 bytes", write, 7,
            "[  1] ask 7 -> reply 7 invalid not_applied\n");
    write->request_id = binary_of_bytes(bytes_of(zeros, REQUEST_ID_SIZE));
    refused("request_id: all zeros", write, 8,
            "[  1] ask 8 -> reply 8 invalid not_applied\n");
    write = write_of(&f, "k", "v");
    write->ttl_ms = -2;
    refused("ttl_ms: -2, allowed are 1 to 31536000000000", write, 9,
            "[  1] ask 9 -> reply 9 invalid not_applied\n");
    write->ttl_ms = INT64_MAX; /* where the sum would overflow */
    refused("ttl_ms: 9223372036854775807", write, 10,
            "[  1] ask 10 -> reply 10 invalid not_applied\n");
    assert_int_equal(counter_of(&f, "refused_invalid"), 10);
}

static void the_largest_key_and_value_are_written(void **state)
{
    (void)state;
    static char key[KEY_BYTES_MAX + 1], value[(1 << 20) + 1];
    memset(key, 'k', KEY_BYTES_MAX);
    memset(value, 'v', 1 << 20);
    put(&f, 1, 1, write_of(&f, key, value));
    disk(&f, 1);
    ack(&f, 1, 2, STATUS_OK);
    assert_int_equal(f.reply->write_reply->result->outcome,
                     RKV__OUTCOME__APPLIED);
    f.trace_size = 0;
}

/* --- forwarded --- */

/* n1 is no replica of it. */
static Rkv__Write *elsewhere(const char *bucket)
{
    Rkv__Write *write = write_of(&f, key_owned_by(&f, bucket, "234"), "v");
    write->bucket = arena_string(&f.arena, bucket);
    return write;
}

static void a_write_goes_to_a_replica_that_coordinates_it(void **state)
{
    (void)state;
    put(&f, 1, 1, elsewhere("default"));
    const Rkv__Write *passed = request_at(&f, 2)->write;
    assert_true(passed->coordinate);
    assert_int_equal(passed->request_id.len, REQUEST_ID_SIZE);
    written(&f, 2, 2, STATUS_OK, RKV__OUTCOME__APPLIED);
    expect_trace(&f, "[  1] ask 1 -> forward n2\n"
                     "[  2] n2 wrote ok -> reply 1 ok applied 2/2\n");
}

static void a_slow_replica_gives_way_to_the_next_with_the_same_id(void **state)
{
    (void)state;
    put(&f, 1, 1, elsewhere("default"));
    struct request_id first, second;
    memcpy(first.bytes, request_at(&f, 2)->write->request_id.data, 16);
    tick(&f, 200);
    tick(&f, 201);
    memcpy(second.bytes, request_at(&f, 3)->write->request_id.data, 16);
    assert_true(request_id_equal(first, second));
    tick(&f, 401);
    written(&f, 402, 2, STATUS_OK, RKV__OUTCOME__APPLIED);
    written(&f, 403, 3, STATUS_OK, RKV__OUTCOME__APPLIED);
    expect_trace(&f, "[  1] ask 1 -> forward n2\n"
                     "[201] tick -> forward n3\n"
                     "[401] tick -> forward n4\n"
                     "[402] n2 wrote ok -> reply 1 ok applied 2/2\n");
}

static void a_replica_that_refuses_gives_way_at_once(void **state)
{
    (void)state;
    put(&f, 1, 1, elsewhere("default"));
    written(&f, 2, 2, STATUS_OVERLOADED, RKV__OUTCOME__NOT_APPLIED);
    written(&f, 3, 3, STATUS_UNAVAILABLE, RKV__OUTCOME__NOT_APPLIED);
    written(&f, 4, 4, STATUS_BROKEN, RKV__OUTCOME__NOT_APPLIED);
    expect_trace(&f, "[  1] ask 1 -> forward n2\n"
                     "[  2] n2 wrote overloaded -> forward n3\n"
                     "[  3] n3 wrote unavailable -> forward n4\n"
                     "[  4] n4 wrote broken -> "
                     "reply 1 unavailable not_applied 0/2\n");
}

static void what_all_would_refuse_is_refused_by_the_first(void **state)
{
    (void)state;
    put(&f, 1, 1, elsewhere("default"));
    written(&f, 2, 2, STATUS_REFUSED, RKV__OUTCOME__NOT_APPLIED);
    expect_trace(&f, "[  1] ask 1 -> forward n2\n"
                     "[  2] n2 wrote refused -> "
                     "reply 1 refused not_applied 0/2\n");
}

/* The first may have applied it before it went silent: what the second says of
 * itself is not the outcome. */
static void a_refusal_after_a_silent_replica_is_unknown(void **state)
{
    (void)state;
    put(&f, 1, 1, elsewhere("default"));
    gone(&f, 2, 2);
    written(&f, 3, 3, STATUS_TOO_LARGE, RKV__OUTCOME__NOT_APPLIED);
    put(&f, 4, 2, elsewhere("default"));
    tick(&f, 204);
    written(&f, 205, 2, STATUS_OVERLOADED, RKV__OUTCOME__NOT_APPLIED);
    gone(&f, 206, 3);
    written(&f, 207, 4, STATUS_OVERLOADED, RKV__OUTCOME__NOT_APPLIED);
    expect_trace(&f, "[  1] ask 1 -> forward n2\n"
                     "[  2] n2 gone -> forward n3\n"
                     "[  3] n3 wrote too_large -> "
                     "reply 1 too_large unknown 0/2\n"
                     "[  4] ask 2 -> forward n2\n"
                     "[204] tick -> forward n3\n"
                     "[206] n3 gone -> forward n4\n"
                     "[207] n4 wrote overloaded -> "
                     "reply 2 unavailable unknown 0/2\n");
}

static void the_deadline_of_a_forwarded_write_is_unknown(void **state)
{
    (void)state;
    Rkv__Write *write = elsewhere("default");
    write->timeout_ms = 100;
    put(&f, 1, 1, write);
    assert_int_equal(request_at(&f, 2)->write->timeout_ms, 100);
    tick(&f, 101);
    expect_trace(&f, "[  1] ask 1 -> forward n2\n"
                     "[101] tick -> reply 1 unavailable unknown 0/2\n");
}

static void a_forwarded_write_is_not_forwarded_on(void **state)
{
    (void)state;
    Rkv__Write *write = elsewhere("default");
    write->coordinate = true;
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_WRITE, write);
    client(&f, 1, 2, RKV__ENVELOPE__BODY_WRITE, write);
    expect_trace(&f, "[  1] ask 1 -> reply 1 refused not_applied 0/2\n"
                     "[  1] ask 2 -> forward n2\n");
}

/* --- sloppy --- */

static void a_stand_in_keeps_it_for_a_primary_that_is_slow(void **state)
{
    (void)state;
    Rkv__Write *write = write_of(&f, key_owned_by(&f, "sloppy", "123"), "v");
    write->bucket = arena_string(&f.arena, "sloppy");
    put(&f, 1, 1, write);
    disk(&f, 2);
    f.trace_size = 0;
    tick(&f, 60);
    ack(&f, 61, 4, STATUS_OVERLOADED);
    ack(&f, 62, 5, STATUS_OK);
    expect_trace(&f, "[ 60] tick -> store n4 for n3, store n5 for n2\n"
                     "[ 62] n5 stored ok -> reply 1 ok applied 2/2\n");
}

static void one_that_owns_nothing_coordinates_when_no_owner_can(void **state)
{
    (void)state;
    put(&f, 1, 1, elsewhere("sloppy"));
    for (int i = 2; i <= 4; i++)
        gone(&f, i, i);
    disk(&f, 5);
    gone(&f, 6, 3);
    ack(&f, 7, 5, STATUS_OK);
    expect_trace(&f, "[  1] ask 1 -> forward n2\n"
                     "[  2] n2 gone -> forward n3\n"
                     "[  3] n3 gone -> forward n4\n"
                     "[  4] n4 gone -> coordinate k18 for n2\n"
                     "[  5] prepared -> store n2, store n3, store n4\n"
                     "[  6] n3 gone -> store n5 for n3\n"
                     "[  7] n5 stored ok -> reply 1 ok applied 2/2\n");
}

static void all_gone(int64_t now_ms)
{
    for (int i = 2; i <= 4; i++)
        while (request_at(&f, i) != NULL)
            gone(&f, now_ms, i);
}

static void a_fallback_over_its_bound_does_not_vote(void **state)
{
    (void)state;
    node_close(&f);
    node_open(&f, 5, 3);
    f.config.limits.fallback_bytes_max = 200;
    node_start(&f);
    Rkv__Write *write = elsewhere("sloppy");
    put(&f, 1, 1, write);
    all_gone(1);
    /* What is being stored counts, and then what is. */
    put(&f, 2, 2, write);
    f.trace_size = 0;
    all_gone(2);
    expect_trace(&f, "[  2] n2 gone -> forward n3\n"
                     "[  2] n3 gone -> forward n4\n"
                     "[  2] n4 gone -> reply 2 overloaded unknown 0/2 retry\n");
    disk(&f, 2);
    put(&f, 3, 3, write);
    all_gone(3);
    f.trace_size = 0;
    Rkv__Store *store = store_of(&f, key_owned_by(&f, "default", "234"),
                                 record_of(&f, 2, 1, "v"));
    store->target =
        binary_of_bytes(bytes_of(f.members[1].id.bytes, NODE_ID_SIZE));
    peer(&f, 5, 2, 4, RKV__ENVELOPE__BODY_STORE, store);
    expect_trace(&f, "[  5] ask 4 -> reply 4 overloaded\n");
    assert_int_equal(counter_of(&f, "fallbacks_refused"), 3);
}

#define WITH(nodes, test) cmocka_unit_test_setup_teardown(test, nodes, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(three_nodes, write_is_sent_on_before_it_is_on_disk),
        WITH(three_nodes, level_one_answers_with_the_first),
        WITH(three_nodes, level_all_waits_for_the_last),
        WITH(three_nodes, late_replica_is_hinted_soon_after_the_answer),
        WITH(three_nodes, deadline_gives_unknown_and_hints),
        WITH(three_nodes, lost_replicas_give_unknown_at_once),
        WITH(three_nodes, a_failed_disk_of_our_own_is_one_replica_less),
        WITH(three_nodes, what_was_never_run_is_not_applied),
        WITH(three_nodes, a_disk_that_hangs_gives_unknown_at_the_deadline),
        WITH(three_nodes, a_disk_that_hangs_may_also_never_run_it),
        WITH(three_nodes, a_request_sent_again_is_one_write),
        WITH(three_nodes, a_write_without_an_id_is_a_write_of_its_own),
        WITH(three_nodes, a_context_supersedes_what_it_has_seen),
        WITH(three_nodes, a_reply_has_no_context_beside_unread_siblings),
        WITH(three_nodes, a_remove_leaves_a_tombstone),
        WITH(three_nodes, answers_of_strangers_and_again_change_nothing),
        WITH(three_nodes, what_cannot_be_written_is_refused_and_says_why),
        WITH(three_nodes, the_largest_key_and_value_are_written),
        WITH(five_nodes, a_write_goes_to_a_replica_that_coordinates_it),
        WITH(five_nodes, a_slow_replica_gives_way_to_the_next_with_the_same_id),
        WITH(five_nodes, a_replica_that_refuses_gives_way_at_once),
        WITH(five_nodes, what_all_would_refuse_is_refused_by_the_first),
        WITH(five_nodes, a_refusal_after_a_silent_replica_is_unknown),
        WITH(five_nodes, the_deadline_of_a_forwarded_write_is_unknown),
        WITH(five_nodes, a_forwarded_write_is_not_forwarded_on),
        WITH(five_nodes, a_stand_in_keeps_it_for_a_primary_that_is_slow),
        WITH(five_nodes, one_that_owns_nothing_coordinates_when_no_owner_can),
        WITH(five_nodes, a_fallback_over_its_bound_does_not_vote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
