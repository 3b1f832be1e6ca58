/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

#include <stdio.h>

#include "proxy/core/latency.h"

/* What a node measures of the requests that pass through it: times are those
 * of the events, so each is known exactly. */

static struct fixture f;

static int three_nodes(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    f.config.self.run = 77;
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
    f.trace_size = 0;
    node_close(&f);
    return 0;
}

/* --- asking --- */

static const Rkv__AdminReply *ask_latencies(void)
{
    static uint64_t asked;
    Rkv__Admin admin = RKV__ADMIN__INIT;
    admin.what = RKV__ADMIN__WHAT__LATENCY;
    client(&f, f.now_ms, 1000 + asked++ % 1000, RKV__ENVELOPE__BODY_ADMIN,
           &admin);
    assert_int_equal(f.reply->body_case, RKV__ENVELOPE__BODY_ADMIN_REPLY);
    assert_int_equal(f.reply->admin_reply->n_latencies, LATENCY_COUNT);
    return f.reply->admin_reply;
}

/* How many; the buckets rise, and the longest is in the last. */
static uint64_t count_of(const Rkv__LatencyStage *stage)
{
    uint64_t count = 0;
    assert_int_equal(stage->n_counts, stage->n_at_least_us);
    for (size_t i = 0; i < stage->n_counts; i++) {
        assert_true(stage->counts[i] > 0);
        if (i > 0)
            assert_true(stage->at_least_us[i] > stage->at_least_us[i - 1]);
        count += stage->counts[i];
    }
    if (count > 0) {
        uint64_t last = stage->at_least_us[stage->n_counts - 1];
        assert_in_range(stage->max_us, last, last + last / 16);
    }
    return count;
}

/* A line for each stage with anything: kind, stage, how many, the longest. */
static void expect(const char *wanted)
{
    char found[1024] = "";
    size_t size = 0;
    const Rkv__AdminReply *reply = ask_latencies();
    for (size_t i = 0; i < reply->n_latencies; i++) {
        const Rkv__LatencyStage *stage = reply->latencies[i];
        uint64_t count = count_of(stage);
        if (count > 0)
            size += (size_t)snprintf(
                found + size, sizeof found - size, "%s %s: %d, %d us\n",
                stage->kind, stage->stage, (int)count, (int)stage->max_us);
        assert_true(size < sizeof found);
    }
    assert_string_equal(found, wanted);
}

/* --- buckets --- */

static void buckets_follow_each_other_and_are_a_sixteenth_wide(void **state)
{
    (void)state;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        uint64_t lowest = latency_lowest_us(i), next = latency_lowest_us(i + 1);
        assert_true(next > lowest);
        assert_true(next - lowest == 1 || next - lowest <= lowest / 16);
        assert_int_equal(log_linear_bucket(lowest, LATENCY_SUB_BITS), i);
        assert_int_equal(log_linear_bucket(next - 1, LATENCY_SUB_BITS), i);
    }
    assert_int_equal(latency_lowest_us(LATENCY_BUCKETS), 1 << LATENCY_BITS);
}

static void what_takes_for_ever_is_in_the_last_bucket(void **state)
{
    (void)state;
    struct latency latency = {0};
    latency_record(&latency, INT64_MAX);
    latency_record(&latency, 1 << LATENCY_BITS);
    latency_record(&latency, -1);
    assert_int_equal(latency.buckets[LATENCY_BUCKETS - 1], 2);
    assert_int_equal(latency.buckets[0], 1);
    assert_true(latency.max_us == INT64_MAX);
}

static void each_stage_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LATENCY_COUNT; i++)
        for (unsigned k = 0; k < i; k++) {
            enum latency_stage a = (enum latency_stage)i;
            enum latency_stage b = (enum latency_stage)k;
            assert_true(
                strcmp(latency_kind_name(a), latency_kind_name(b)) != 0 ||
                strcmp(latency_stage_name(a), latency_stage_name(b)) != 0);
        }
}

/* --- puts --- */

static void a_put_takes_what_its_events_say(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    f.extra_us = 250;
    prepare(&f, 3);
    disk(&f, 7);
    f.extra_us = 500;
    ack(&f, 12, 2, STATUS_OK);
    ack(&f, 20, 3, STATUS_OK); /* the level did not need it */
    expect("put queue: 1, 2250 us\n"
           "put disk: 1, 4000 us\n"
           "put replicas: 1, 9250 us\n"
           "put answer: 1, 11500 us\n");
    assert_int_equal(ask_latencies()->run, 77);
}

static void a_disk_that_the_level_did_not_need_is_measured(void **state)
{
    (void)state;
    Rkv__Write *write = write_of(&f, "k", "v");
    write->w = 1;
    put(&f, 1, 1, write);
    prepare(&f, 2);
    ack(&f, 4, 3, STATUS_OK);
    disk(&f, 9);
    expect("put queue: 1, 1000 us\n"
           "put disk: 1, 7000 us\n"
           "put replicas: 1, 2000 us\n"
           "put answer: 1, 3000 us\n");
}

static void puts_add_up(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 20; i++) {
        int64_t start_ms = (int64_t)i * 100;
        put(&f, start_ms, i, write_of(&f, "k", "v"));
        disk(&f, start_ms + 1);
        ack(&f, start_ms + (i == 7 ? 50 : 3), 2, STATUS_OK);
        ack(&f, start_ms + 51, 3, STATUS_OK);
    }
    expect("put queue: 20, 1000 us\n"
           "put disk: 20, 0 us\n"
           "put replicas: 20, 49000 us\n"
           "put answer: 20, 50000 us\n");
    const Rkv__LatencyStage *answers =
        ask_latencies()->latencies[LATENCY_PUT_ANSWER];
    assert_int_equal(answers->n_counts, 2);
    assert_int_equal(answers->counts[0], 19);
    assert_in_range(answers->at_least_us[0], 3000 * 15 / 16, 3000);
}

static void a_put_that_fails_has_an_answer_only(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    disk_fails(&f, 2, STATUS_BROKEN);
    expect("put answer: 1, 1000 us\n");
    put(&f, 3, 2, write_of(&f, "k", "v"));
    prepare(&f, 4);
    disk_fails(&f, 5, STATUS_IO);
    tick(&f, 1003);
    expect("put queue: 1, 1000 us\n"
           "put answer: 2, 1000000 us\n");
}

static void what_is_refused_on_arrival_is_not_measured(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "", "v"));
    get(&f, 1, 2, read_of(&f, ""));
    peer(&f, 1, 2, 3, RKV__ENVELOPE__BODY_FETCH, fetch_of(&f, ""));
    peer(&f, 1, 2, 4, RKV__ENVELOPE__BODY_STORE,
         store_of(&f, "", record_of(&f, 2, 1, "v")));
    expect("");
}

/* --- puts of what others own --- */

static Rkv__Write *elsewhere(const char *bucket)
{
    Rkv__Write *write = write_of(&f, key_owned_by(&f, bucket, "234"), "v");
    write->bucket = arena_string(&f.arena, bucket);
    return write;
}

static void a_put_that_is_passed_on_is_a_forward(void **state)
{
    (void)state;
    put(&f, 1, 1, elsewhere("default"));
    gone(&f, 3, 2);
    written(&f, 9, 3, STATUS_OK, RKV__OUTCOME__APPLIED);
    expect("forward answer: 1, 8000 us\n");
}

static void a_fallback_waits_for_its_disk_from_when_it_coordinates(void **state)
{
    (void)state;
    put(&f, 1, 1, elsewhere("sloppy"));
    for (int i = 2; i <= 4; i++)
        gone(&f, i, i);
    prepare(&f, 6);
    disk(&f, 7);
    ack(&f, 9, 3, STATUS_OK);
    expect("put queue: 1, 2000 us\n"
           "put disk: 1, 1000 us\n"
           "put replicas: 1, 3000 us\n"
           "put answer: 1, 8000 us\n");
}

/* --- gets --- */

static void a_get_takes_what_its_events_say(void **state)
{
    (void)state;
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 3);
    f.extra_us = 125;
    fetched(&f, 6, 3, STATUS_NOT_FOUND, (struct bytes){0});
    expect("get read: 1, 2000 us\n"
           "get replicas: 1, 5125 us\n"
           "get answer: 1, 5125 us\n");
}

static void a_write_back_is_part_of_the_answer_alone(void **state)
{
    (void)state;
    get(&f, 1, 1, read_of(&f, "k"));
    disk(&f, 2);
    fetched(&f, 4, 3, STATUS_OK, record_of(&f, 2, 1, "v"));
    disk(&f, 9);
    expect("get read: 1, 1000 us\n"
           "get replicas: 1, 3000 us\n"
           "get answer: 1, 8000 us\n");
}

static void a_get_that_fails_has_no_replicas(void **state)
{
    (void)state;
    get(&f, 1, 1, read_of(&f, "k"));
    fetched(&f, 2, 3, STATUS_UNCERTAIN, (struct bytes){0});
    gone(&f, 3, 2);
    disk(&f, 4); /* behind the answer */
    expect("get read: 1, 3000 us\n"
           "get answer: 1, 2000 us\n");
    get(&f, 10, 2, read_of(&f, "k"));
    disk_fails(&f, 11, STATUS_BROKEN);
    tick(&f, 1010);
    expect("get read: 1, 3000 us\n"
           "get answer: 2, 1000000 us\n");
}

/* --- what other nodes ask --- */

static void stores_and_fetches_for_others_are_measured(void **state)
{
    (void)state;
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_STORE,
         store_of(&f, "k", record_of(&f, 2, 1, "v")));
    f.extra_us = 750;
    prepare(&f, 3);
    f.extra_us = 0;
    disk(&f, 8);
    peer(&f, 10, 2, 2, RKV__ENVELOPE__BODY_FETCH, fetch_of(&f, "k"));
    disk(&f, 16);
    expect("store queue: 1, 2750 us\n"
           "store disk: 1, 4250 us\n"
           "store answer: 1, 7000 us\n"
           "fetch answer: 1, 6000 us\n");
}

static void a_store_that_fails_has_an_answer_only(void **state)
{
    (void)state;
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_STORE,
         store_of(&f, "k", record_of(&f, 2, 1, "v")));
    disk_fails(&f, 5, STATUS_IO);
    expect("store answer: 1, 4000 us\n");
}

#define WITH(nodes, test) cmocka_unit_test_setup_teardown(test, nodes, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_follow_each_other_and_are_a_sixteenth_wide),
        cmocka_unit_test(what_takes_for_ever_is_in_the_last_bucket),
        cmocka_unit_test(each_stage_has_a_name_of_its_own),
        WITH(three_nodes, a_put_takes_what_its_events_say),
        WITH(three_nodes, a_disk_that_the_level_did_not_need_is_measured),
        WITH(three_nodes, puts_add_up),
        WITH(three_nodes, a_put_that_fails_has_an_answer_only),
        WITH(three_nodes, what_is_refused_on_arrival_is_not_measured),
        WITH(five_nodes, a_put_that_is_passed_on_is_a_forward),
        WITH(five_nodes,
             a_fallback_waits_for_its_disk_from_when_it_coordinates),
        WITH(three_nodes, a_get_takes_what_its_events_say),
        WITH(three_nodes, a_write_back_is_part_of_the_answer_alone),
        WITH(three_nodes, a_get_that_fails_has_no_replicas),
        WITH(three_nodes, stores_and_fetches_for_others_are_measured),
        WITH(three_nodes, a_store_that_fails_has_an_answer_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
