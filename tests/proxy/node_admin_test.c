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

static void hold(const char *key, struct bytes record)
{
    struct storage_key name = key_in(&f, TABLE_DATA, 0, "default", key);
    toy_put(&f.toy, &name, record);
}

static Rkv__List *list_of(const char *key)
{
    Rkv__List *list = message_new(&f.arena, &rkv__list__descriptor);
    list->partition = key_in(&f, TABLE_DATA, 0, "default", key).partition.value;
    return list;
}

static void listed(int64_t now_ms, int from, Rkv__Status status)
{
    Rkv__ListReply reply = RKV__LIST_REPLY__INIT;
    Rkv__Result result = RKV__RESULT__INIT;
    result.status = status;
    reply.result = &result;
    reply.done = true;
    answer(&f, now_ms, from, RKV__ENVELOPE__BODY_LIST_REPLY, &reply);
}

static void admin(uint64_t token, Rkv__Admin__What what, const char *key)
{
    Rkv__Admin *admin = message_new(&f.arena, &rkv__admin__descriptor);
    admin->what = what;
    admin->key = binary_of_bytes(bytes_of_string(key));
    admin->partition =
        key_in(&f, TABLE_DATA, 0, "default", key).partition.value;
    client(&f, 1, token, RKV__ENVELOPE__BODY_ADMIN, admin);
}

/* --- lists --- */

static void a_list_shows_live_values_and_their_contexts(void **state)
{
    (void)state;
    hold("k", merged(&f, record_of(&f, 2, 1, "a"), record_of(&f, 3, 1, "b")));
    client(&f, 1, 1, RKV__ENVELOPE__BODY_LIST, list_of("k"));
    disk(&f, 1);
    expect_trace(&f, "[  1] ask 1 -> scan data\n"
                     "[  1] stored -> reply 1 ok items 1 done\n");
    const Rkv__ListItem *item = f.reply->list_reply->items[0];
    assert_string_equal(item->bucket, "default");
    assert_int_equal(item->n_values, 2);
    assert_true(item->context.len > 0);
    assert_int_equal(f.reply->list_reply->partitions, 64);
}

static void
a_list_goes_on_where_it_ended_and_leaves_out_the_deleted(void **state)
{
    (void)state;
    node_close(&f);
    node_open(&f, 3, 3);
    f.config.founding.partitions = 3;
    node_start(&f);
    Rkv__List *list = list_of("a");
    size_t wanted = 0, items = 0;
    for (char key[] = "a"; key[0] <= 'p'; key[0]++) {
        Rkv__Write *write = write_of(&f, key, "v");
        write->remove = key[0] > 'k';
        put(&f, 1, (uint64_t)key[0], write);
        wanted += key[0] <= 'k' &&
                  key_in(&f, TABLE_DATA, 0, "default", key).partition.value ==
                      list->partition;
    }
    disk(&f, 1);
    list->max_bytes = 1;
    bool done = false;
    for (uint64_t token = 1; !done; token++) {
        client(&f, 1, token, RKV__ENVELOPE__BODY_LIST, list);
        disk(&f, 1);
        const Rkv__ListReply *reply = f.reply->list_reply;
        done = reply->done;
        items += reply->n_items;
        list->after = binary_of_bytes(
            bytes_of(arena_copy(&f.arena, reply->next.data, reply->next.len),
                     reply->next.len));
    }
    assert_int_equal(items, wanted);
    f.trace_size = 0;
}

static void a_damaged_record_is_left_out_of_a_list_and_counted(void **state)
{
    (void)state;
    hold("k", bytes_of_string("damaged"));
    client(&f, 1, 1, RKV__ENVELOPE__BODY_LIST, list_of("k"));
    disk(&f, 1);
    expect_trace(&f, "[  1] ask 1 -> scan data\n"
                     "[  1] stored -> reply 1 ok items 0 done\n");
    assert_int_equal(counter_of(&f, "rows_skipped"), 1);
}

static void an_item_of_a_bucket_not_declared_is_counted(void **state)
{
    (void)state;
    struct storage_key name = key_in(&f, TABLE_DATA, 0, "nowhere", "k");
    toy_put(&f.toy, &name, record_of(&f, 2, 1, "v"));
    Rkv__List *list = list_of("k");
    list->partition = name.partition.value;
    client(&f, 1, 1, RKV__ENVELOPE__BODY_LIST, list);
    disk(&f, 1);
    expect_trace(&f, "[  1] ask 1 -> scan data\n"
                     "[  1] stored -> reply 1 ok items 0 done\n");
    assert_int_equal(counter_of(&f, "rows_skipped"), 1);
}

static void
a_list_that_our_own_disk_cannot_read_is_asked_of_others(void **state)
{
    (void)state;
    Rkv__List *list = list_of("k");
    list->after = binary_of_bytes(bytes_of_string("position"));
    list->max_bytes = 17;
    client(&f, 1, 1, RKV__ENVELOPE__BODY_LIST, list);
    disk_fails(&f, 2, STATUS_CORRUPT);
    const Rkv__List *passed = request_at(&f, 3)->list;
    assert_int_equal(passed->partition, list->partition);
    assert_int_equal(passed->max_bytes, 17);
    assert_int_equal(passed->after.len, list->after.len);
    listed(3, 3, RKV__STATUS__OK);
    peer(&f, 4, 2, 2, RKV__ENVELOPE__BODY_LIST, list);
    disk_fails(&f, 5, STATUS_BROKEN);
    client(&f, 6, 3, RKV__ENVELOPE__BODY_LIST, list);
    disk_fails(&f, 7, STATUS_TIMEOUT);
    client(&f, 8, 4, RKV__ENVELOPE__BODY_LIST, list);
    disk_fails(&f, 9, STATUS_IO);
    expect_trace(&f, "[  1] ask 1 -> scan data on\n"
                     "[  2] stored corrupt -> list n3\n"
                     "[  3] n3 answers -> reply 1 ok items 0 done\n"
                     "[  4] ask 2 -> scan data on\n"
                     "[  5] stored broken -> reply 2 broken items 0\n"
                     "[  6] ask 3 -> scan data on\n"
                     "[  7] stored timeout -> reply 3 timeout items 0\n"
                     "[  8] ask 4 -> scan data on\n"
                     "[  9] stored io -> list n3\n");
}

static void a_list_of_what_others_have_is_asked_of_them_in_turn(void **state)
{
    (void)state;
    client(&f, 1, 1, RKV__ENVELOPE__BODY_LIST,
           list_of(key_owned_by(&f, "default", "234")));
    gone(&f, 2, 2);
    listed(3, 3, RKV__STATUS__UNCERTAIN);
    listed(4, 4, RKV__STATUS__OK);
    client(&f, 5, 2, RKV__ENVELOPE__BODY_LIST,
           list_of(key_owned_by(&f, "default", "234")));
    for (int node = 2; node <= 4; node++)
        gone(&f, 5 + node, node);
    expect_trace(&f, "[  1] ask 1 -> list n2\n"
                     "[  2] n2 gone -> list n3\n"
                     "[  3] n3 answers -> list n4\n"
                     "[  4] n4 answers -> reply 1 ok items 0 done\n"
                     "[  5] ask 2 -> list n2\n"
                     "[  7] n2 gone -> list n3\n"
                     "[  8] n3 gone -> list n4\n"
                     "[  9] n4 gone -> reply 2 unavailable\n");
    client(&f, 10, 3, RKV__ENVELOPE__BODY_LIST,
           list_of(key_owned_by(&f, "default", "234")));
    tick(&f, 1010);
    listed(1011, 2, RKV__STATUS__OK);
    expect_trace(&f, "[ 10] ask 3 -> list n2\n"
                     "[1010] tick -> reply 3 timeout\n");
}

static void a_list_that_another_passed_on_is_not_passed_on_again(void **state)
{
    (void)state;
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_LIST,
         list_of(key_owned_by(&f, "default", "234")));
    expect_trace(&f, "[  1] ask 1 -> reply 1 uncertain\n");
}

static void a_list_of_what_we_still_fill_is_asked_of_the_others(void **state)
{
    (void)state;
    node_close(&f);
    node_open(&f, 3, 3);
    f.config.replace = f.config.amnesiac = true;
    node_start(&f);
    f.trace_size = 0;
    client(&f, 1, 1, RKV__ENVELOPE__BODY_LIST, list_of("k"));
    expect_trace(&f, "[  1] ask 1 -> list n3\n");
}

static void positions_out_of_range_are_refused(void **state)
{
    (void)state;
    static uint8_t zeros[KEY_BYTES_MAX + 24];
    Rkv__List list = RKV__LIST__INIT;
    Rkv__Scan scan = RKV__SCAN__INIT;
    list.partition = scan.partition = 64;
    client(&f, 1, 1, RKV__ENVELOPE__BODY_LIST, &list);
    peer(&f, 1, 2, 2, RKV__ENVELOPE__BODY_SCAN, &scan);
    list.partition = scan.partition = 65536;
    client(&f, 1, 3, RKV__ENVELOPE__BODY_LIST, &list);
    peer(&f, 1, 2, 4, RKV__ENVELOPE__BODY_SCAN, &scan);
    list.partition = scan.partition = 0;
    list.after = scan.after = binary_of_bytes(bytes_of(zeros, sizeof zeros));
    client(&f, 1, 5, RKV__ENVELOPE__BODY_LIST, &list);
    peer(&f, 1, 2, 6, RKV__ENVELOPE__BODY_SCAN, &scan);
    expect_trace(&f, "[  1] ask 1 -> reply 1 invalid\n"
                     "[  1] ask 2 -> reply 2 invalid rows 0\n"
                     "[  1] ask 3 -> reply 3 invalid\n"
                     "[  1] ask 4 -> reply 4 invalid rows 0\n"
                     "[  1] ask 5 -> reply 5 invalid\n"
                     "[  1] ask 6 -> reply 6 invalid rows 0\n");
}

/* --- digests --- */

static uint64_t digest(uint64_t token)
{
    uint64_t sum = 0;
    admin(token, RKV__ADMIN__WHAT__DIGEST, "k");
    disk(&f, 1);
    assert_int_equal(f.reply->admin_reply->result->status, RKV__STATUS__OK);
    assert_true(f.reply->admin_reply->done);
    sum ^= f.reply->admin_reply->digest;
    return sum;
}

static void
a_digest_tells_different_records_apart_and_equal_ones_not(void **state)
{
    (void)state;
    struct bytes a = record_of(&f, 2, 1, "a"), b = record_of(&f, 3, 1, "b");
    uint64_t none = digest(1);
    hold("k", a);
    uint64_t one = digest(2);
    hold("k", merged(&f, a, b));
    uint64_t both = digest(3);
    hold("k", merged(&f, b, a));
    assert_int_equal(digest(4), both);
    assert_int_equal(none, 0);
    assert_true(one != none && both != one);
    hold("k", bytes_of_string("damaged"));
    admin(5, RKV__ADMIN__WHAT__DIGEST, "k");
    disk(&f, 1);
    assert_int_equal(f.reply->admin_reply->result->status,
                     RKV__STATUS__CORRUPT);
    f.trace_size = 0;
}

/* --- explain --- */

static const Rkv__ReplicaState *state_at(const char *node)
{
    for (size_t i = 0; i < f.reply->admin_reply->n_replica_states; i++)
        if (strcmp(f.reply->admin_reply->replica_states[i]->node, node) == 0)
            return f.reply->admin_reply->replica_states[i];
    fail_msg("%s is not in the answer", node);
    return NULL;
}

static void explain_shows_what_each_owner_holds(void **state)
{
    (void)state;
    struct bytes a = record_of(&f, 2, 7, "a"), b = record_of(&f, 3, 1, "b");
    hold("k", merged(&f, a, b));
    admin(1, RKV__ADMIN__WHAT__EXPLAIN, "k");
    disk(&f, 2);
    fetched(&f, 3, 3, STATUS_NOT_FOUND, bytes_of(NULL, 0));
    fetched(&f, 4, 2, STATUS_OK, a);
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3, fetch n2\n"
                     "[  4] n2 fetched ok -> reply 1 ok\n");
    assert_int_equal(f.reply->admin_reply->n_replica_states, 3);
    assert_int_equal(state_at("n1")->values, 2);
    assert_int_equal(state_at("n1")->n_dots, 2);
    assert_int_equal(state_at("n3")->status, RKV__STATUS__NOT_FOUND);
    assert_int_equal(state_at("n2")->n_dots, 1);
    assert_int_equal(state_at("n2")->dots[0]->incarnation, 2);
    assert_int_equal(state_at("n2")->dots[0]->counter, 7);
    assert_int_equal(state_at("n2")->record_bytes, a.size);
}

/* What it says of itself cannot be trusted. */
static void explain_shows_no_version_of_a_damaged_copy(void **state)
{
    (void)state;
    struct bytes whole = record_of(&f, 2, 7, "a");
    uint8_t *damaged = arena_copy(&f.arena, whole.data, whole.size);
    damaged[0] ^= 1;
    admin(1, RKV__ADMIN__WHAT__EXPLAIN, "k");
    disk(&f, 2);
    fetched(&f, 3, 3, STATUS_OK, bytes_of(damaged, whole.size));
    fetched(&f, 4, 2, STATUS_OK, whole);
    f.trace_size = 0;
    assert_int_equal(state_at("n2")->version, record_version(whole));
    assert_int_equal(state_at("n3")->status, RKV__STATUS__CORRUPT);
    assert_int_equal(state_at("n3")->version, 0);
}

/* One request that two nodes coordinated: one value under both dots. */
static void explain_shows_every_dot_of_a_value(void **state)
{
    (void)state;
    hold("k",
         merged(&f, record_of(&f, 2, 1, "a"), record_of(&f, 0x102, 1, "a")));
    admin(1, RKV__ADMIN__WHAT__EXPLAIN, "k");
    disk(&f, 2);
    gone(&f, 3, 3);
    gone(&f, 4, 2);
    f.trace_size = 0;
    assert_int_equal(state_at("n1")->values, 1);
    assert_int_equal(state_at("n1")->n_dots, 2);
    assert_int_equal(state_at("n1")->dots[0]->incarnation, 2);
    assert_int_equal(state_at("n1")->dots[1]->incarnation, 0x102);
}

static void explain_answers_at_its_deadline_with_what_it_has(void **state)
{
    (void)state;
    admin(1, RKV__ADMIN__WHAT__EXPLAIN, "k");
    disk(&f, 2);
    gone(&f, 3, 3);
    tick(&f, 1001);
    fetched(&f, 1002, 2, STATUS_OK, record_of(&f, 2, 1, "late"));
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3, fetch n2\n"
                     "[1001] tick -> reply 1 ok\n");
    assert_int_equal(f.reply->admin_reply->n_replica_states, 2);
    assert_int_equal(state_at("n3")->status, RKV__STATUS__CLOSED);
}

/* --- the rest --- */

static void status_members_ring_and_hints_are_whole(void **state)
{
    (void)state;
    admin(1, RKV__ADMIN__WHAT__STATUS, "k");
    const Rkv__AdminReply *reply = f.reply->admin_reply;
    assert_string_equal(reply->node, "n1");
    assert_string_equal(reply->cluster, "test");
    assert_string_equal(reply->engine, "toy");
    assert_true(reply->ready);
    assert_int_equal(reply->n_counters, node_counter_count());
    admin(2, RKV__ADMIN__WHAT__MEMBERS, "k");
    assert_int_equal(f.reply->admin_reply->n_members, 5);
    admin(3, RKV__ADMIN__WHAT__RING, "k");
    reply = f.reply->admin_reply;
    assert_int_equal(reply->n_owners, 64);
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(reply->owners[i]->n_nodes, 3);
    admin(4, RKV__ADMIN__WHAT__HINTS, "k");
    assert_int_equal(f.reply->admin_reply->n_hints, 0);
    f.trace_size = 0;
}

static void each_counter_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < node_counter_count(); i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(node_counter_name(i), node_counter_name(k));
    assert_null(node_counter_name(node_counter_count()));
    assert_int_equal(node_counter(f.node, node_counter_count()), 0);
}

static void what_is_not_known_is_answered_unsupported(void **state)
{
    (void)state;
    admin(1, (Rkv__Admin__What)99, "k");
    Rkv__ReadReply reply = RKV__READ_REPLY__INIT;
    client(&f, 1, 2, RKV__ENVELOPE__BODY_READ_REPLY, &reply);
    client(&f, 1, 3, RKV__ENVELOPE__BODY_STORE,
           store_of(&f, "k", bytes_of(NULL, 0)));
    peer(&f, 1, 2, 4, RKV__ENVELOPE__BODY_READ_REPLY, &reply);
    peer(&f, 1, 2, 5, RKV__ENVELOPE__BODY_HELLO, hello_of(&f, 2));
    expect_trace(&f, "[  1] ask 1 -> reply 1 unsupported\n"
                     "[  1] ask 2 -> reply 2 unsupported not_applied\n"
                     "[  1] ask 3 -> reply 3 unsupported not_applied\n"
                     "[  1] ask 4 -> reply 4 unsupported not_applied\n"
                     "[  1] ask 5 -> reply 5 unsupported not_applied\n");
    assert_int_equal(counter_of(&f, "requests_unknown"), 4);
}

static void any_node_serves_the_storage_service_to_peers(void **state)
{
    (void)state;
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_READ, read_of(&f, "k"));
    peer(&f, 1, 2, 2, RKV__ENVELOPE__BODY_WRITE, write_of(&f, "k", "v"));
    expect_trace(&f, "[  1] ask 1 -> read k, fetch n3\n"
                     "[  1] ask 2 -> coordinate k\n");
}

static void a_reopened_engine_means_a_new_incarnation(void **state)
{
    (void)state;
    step(&f, 1, &(struct event){.kind = EVENT_REOPENED}, "reopened");
    expect_trace(&f, "[  1] reopened -> renew\n");
    assert_int_equal(counter_of(&f, "engine_reopens"), 1);
}

#define WITH(nodes, test) cmocka_unit_test_setup_teardown(test, nodes, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(three_nodes, a_list_shows_live_values_and_their_contexts),
        WITH(three_nodes,
             a_list_goes_on_where_it_ended_and_leaves_out_the_deleted),
        WITH(three_nodes, a_damaged_record_is_left_out_of_a_list_and_counted),
        WITH(five_nodes, a_list_of_what_others_have_is_asked_of_them_in_turn),
        WITH(five_nodes, a_list_that_another_passed_on_is_not_passed_on_again),
        WITH(three_nodes, a_list_of_what_we_still_fill_is_asked_of_the_others),
        WITH(three_nodes, positions_out_of_range_are_refused),
        WITH(three_nodes,
             a_digest_tells_different_records_apart_and_equal_ones_not),
        WITH(three_nodes, an_item_of_a_bucket_not_declared_is_counted),
        WITH(three_nodes,
             a_list_that_our_own_disk_cannot_read_is_asked_of_others),
        WITH(three_nodes, explain_shows_what_each_owner_holds),
        WITH(three_nodes, explain_shows_no_version_of_a_damaged_copy),
        WITH(three_nodes, explain_shows_every_dot_of_a_value),
        WITH(three_nodes, explain_answers_at_its_deadline_with_what_it_has),
        WITH(five_nodes, status_members_ring_and_hints_are_whole),
        WITH(three_nodes, each_counter_has_a_name_of_its_own),
        WITH(three_nodes, what_is_not_known_is_answered_unsupported),
        WITH(three_nodes, any_node_serves_the_storage_service_to_peers),
        WITH(three_nodes, a_reopened_engine_means_a_new_incarnation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
