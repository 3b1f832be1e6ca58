/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/envelope.h"
#include "proxy/core/event_codec.h"
#include "proxy/recorder.h"

enum { RECORDER_BYTES = 1 << 20 };

static struct recorder recorder;
static struct effects effects;
static struct buffer file;

static const struct placement_node founders[] = {{.name = "n1", .zone = "z"},
                                                 {.name = "n2"}};
static const char *const seeds[] = {"tcp://127.0.0.1:1", "ipc:///s"};
static const struct bucket_config buckets[] = {
    {.name = "default", .id = {7}, .r = -1, .w = -2, .ttl_s = 5},
    {.name = "b", .kind = RECORD_LWW, .sloppy = true}};

static struct node_config config_of(void)
{
    return (struct node_config){
        .self = {.id = {{1}}, .name = "n1", .boot = 3, .run = 4},
        .founding = {.cluster = "c",
                     .founders = founders,
                     .founder_count = 2,
                     .partitions = 8,
                     .replicas = 2},
        .seeds = seeds,
        .seed_count = 2,
        .buckets = buckets,
        .bucket_count = 2,
        .limits = node_limits_default(),
        .timeouts = node_timeouts_default(),
        .membership = membership_config_default(),
        .replace = true,
        .starts = {.list = {{.boot = 3, .run = 4}}, .count = 1},
        .trees_of_run = 11,
        .engine = "toy",
        .seed = UINT64_MAX,
    };
}

static int set_up(void **state)
{
    (void)state;
    effects_init(&effects, 1 << 16);
    return recorder_init(&recorder, RECORDER_BYTES) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    recorder_fini(&recorder);
    effects_fini(&effects);
    buffer_fini(&file);
    return 0;
}

static void configure(void)
{
    struct node_config config = config_of();
    recorder_config(&recorder, "1.2", &config);
}

/* A reply of so many bytes; its number is its time. */
static void record(uint64_t number, size_t bytes)
{
    static uint8_t content[RECORDER_BYTES];
    Rkv__Read read = RKV__READ__INIT;
    Rkv__Envelope message = RKV__ENVELOPE__INIT;
    read.context = binary_of_bytes(bytes_of(content, bytes));
    message.version = PROTOCOL_VERSION_MAX;
    message.body_case = RKV__ENVELOPE__BODY_READ;
    message.read = &read;
    const struct event event = {
        .kind = EVENT_REPLY, .now_us = (int64_t)number, .message = &message};
    recorder_begin(&recorder, &event, &effects);
    recorder_end(&recorder, &effects);
}

static struct bytes file_of(void)
{
    buffer_clear(&file);
    assert_int_equal(recorder_copy(&recorder, &file), STATUS_OK);
    return buffer_bytes(&file);
}

/* The recording opens, and has the events from 0 on, those behind the gap with
 * the last so many that there were; how many are missing. */
static uint64_t expect_events(uint64_t events)
{
    struct recording recording;
    struct error error;
    struct arena arena;
    arena_init(&arena, 64 << 20);
    assert_int_equal(recording_open(file_of(), &recording, &error), STATUS_OK);
    struct recording_header header = recording.header;
    assert_true(header.first_events + header.missing + header.last_events ==
                events);
    uint64_t number = 0;
    for (;;) {
        struct recorded recorded = recording_next(&recording);
        struct event event;
        if (recorded.kind == RECORDED_CUT) {
            assert_true(number++ >= header.first_events);
            assert_true(recorded.has_ended);
            assert_true(recorded.cut_bytes >= RECORDER_BYTES / 2);
            continue;
        }
        if (recorded.kind == RECORDED_END)
            break;
        if (recorded.kind == RECORDED_GAP) {
            assert_true(number == header.first_events);
            number += header.missing;
            continue;
        }
        assert_int_equal(recorded.kind, RECORDED_EVENT);
        assert_true(recorded.has_ended);
        assert_true(event_decode(recorded.bytes, &arena, &event));
        assert_true((uint64_t)event.now_us == number);
        number++;
        arena_reset(&arena);
    }
    assert_true(number == events);
    arena_fini(&arena);
    recording_fini(&recording);
    return header.missing;
}

static void the_configuration_comes_back(void **state)
{
    (void)state;
    struct recording recording;
    struct error error;
    configure();
    assert_int_equal(recording_open(file_of(), &recording, &error), STATUS_OK);
    const struct node_config *config = &recording.config;
    const struct node_config expected = config_of();
    assert_string_equal(recording.version, "1.2");
    assert_string_equal(config->self.name, "n1");
    assert_true(config->self.boot == 3 && config->self.run == 4);
    assert_string_equal(config->founding.cluster, "c");
    assert_int_equal(config->founding.founder_count, 2);
    assert_string_equal(config->founding.founders[0].zone, "z");
    assert_int_equal(config->founding.partitions, 8);
    assert_int_equal(config->seed_count, 2);
    assert_string_equal(config->seeds[1], "ipc:///s");
    assert_int_equal(config->bucket_count, 2);
    assert_int_equal(config->buckets[0].w, -2);
    assert_int_equal(config->buckets[0].ttl_s, 5);
    assert_int_equal(config->buckets[1].kind, RECORD_LWW);
    assert_true(config->buckets[1].sloppy);
    assert_true(config->replace && !config->amnesiac);
    assert_int_equal(config->starts.count, 1);
    assert_int_equal(config->starts.list[0].run, 4);
    assert_true(config->trees_of_run == 11 && config->seed == UINT64_MAX);
    assert_string_equal(config->engine, "toy");
    /* And all the rest, byte for byte. */
    static uint8_t once[RECORDING_CONFIG_BYTES_MAX], again[sizeof once];
    size_t size = (size_t)(recording_config(once, "", &expected) - once);
    assert_int_equal(recording_config(again, "", config) - again, size);
    assert_memory_equal(once, again, size);
    recording_fini(&recording);
}

static void few_events_are_kept_whole(void **state)
{
    (void)state;
    configure();
    assert_true(expect_events(0) == 0);
    for (uint64_t i = 0; i < 1000; i++)
        record(i, 100);
    assert_true(expect_events(1000) == 0);
}

static void the_first_and_the_last_stay(void **state)
{
    (void)state;
    uint64_t missing = 0, bytes = 0;
    configure();
    for (uint64_t i = 0; i < 20000; i++) {
        /* Sizes without a pattern, to three times round the ring. */
        size_t size = (size_t)(i * 2654435761u % 997);
        record(i, size);
        bytes += size;
        if (i % 97 == 0 || (i > 3000 && i % 11 == 0 && i < 5000))
            missing = expect_events(i + 1);
    }
    missing = expect_events(20000);
    assert_true(missing > 0);
    /* No more than a few blocks of the ring are lost to its order. */
    double kept = (double)(20000 - missing) / 20000 * (double)bytes;
    assert_true(kept > 0.85 * RECORDER_BYTES);
}

static void long_events_take_the_place_of_many(void **state)
{
    (void)state;
    configure();
    for (uint64_t i = 0; i < 3000; i++)
        record(i, i % 7 == 0 ? 300000 : 1000);
    assert_true(expect_events(3000) > 0);
    for (uint64_t i = 3000; i < 3010; i++)
        record(i, 500000);
    assert_true(expect_events(3010) >= 3000 - 1000);
}

static void of_one_that_has_no_room_the_size_is_kept(void **state)
{
    (void)state;
    struct recording recording;
    struct error error;
    static const enum recorded_kind kinds[] = {RECORDED_EVENT, RECORDED_GAP,
                                               RECORDED_EVENT, RECORDED_CUT,
                                               RECORDED_EVENT, RECORDED_END};
    configure();
    record(0, 10);
    record(1, RECORDER_BYTES / 2);
    assert_true(expect_events(2) == 1);
    record(2, 10);
    record(3, RECORDER_BYTES);
    record(4, 10);
    assert_true(expect_events(5) == 1);
    assert_int_equal(recording_open(file_of(), &recording, &error), STATUS_OK);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        assert_int_equal(recording_next(&recording).kind, kinds[i]);
    recording_fini(&recording);
}

/* One of the last ones would be told as stepped. */
static void without_a_gap_before_it_one_is_made(void **state)
{
    (void)state;
    uint64_t number = 0;
    configure();
    while (!recorder.is_first_full || recorder.block_count < 3)
        record(number++, 1000);
    assert_true(expect_events(number) == 0);
    record(number++, RECORDER_BYTES);
    uint64_t missing = expect_events(number);
    assert_true(missing > 0 && missing < 20);

    recorder_fini(&recorder);
    assert_int_equal(recorder_init(&recorder, RECORDER_BYTES), STATUS_OK);
    configure();
    for (number = 0; recorder.block_count == 0;)
        record(number++, 1000);
    record(number++, RECORDER_BYTES);
    record(number++, 10);
    missing = expect_events(number);
    assert_true(missing == 2);
}

static void trees_come_before_events_or_nothing_replays(void **state)
{
    (void)state;
    struct recording recording;
    struct error error;
    static const uint8_t trees[300000];
    configure();
    recorder_trees(&recorder, bytes_of(trees, 100));
    record(0, 10);
    assert_int_equal(recording_open(file_of(), &recording, &error), STATUS_OK);
    struct recorded recorded = recording_next(&recording);
    assert_int_equal(recorded.kind, RECORDED_TREES);
    assert_int_equal(recorded.bytes.size, 100);
    assert_int_equal(recording_next(&recording).kind, RECORDED_EVENT);
    assert_int_equal(recording_next(&recording).kind, RECORDED_END);
    assert_int_equal(recording_next(&recording).kind, RECORDED_END);
    recording_fini(&recording);

    recorder_fini(&recorder);
    assert_int_equal(recorder_init(&recorder, RECORDER_BYTES), STATUS_OK);
    configure();
    recorder_trees(&recorder, bytes_of(trees, sizeof trees));
    recorder_trees(&recorder, bytes_of(trees, sizeof trees));
    record(0, 10);
    assert_int_equal(recording_open(file_of(), &recording, &error), STATUS_OK);
    assert_true(recording.header.is_headless);
    assert_int_equal(recording_next(&recording).kind, RECORDED_EVENT);
    recording_fini(&recording);
    assert_true(expect_events(1) == 0);
}

static void an_event_under_way_has_not_ended(void **state)
{
    (void)state;
    struct recording recording;
    struct error error;
    const struct event event = {.kind = EVENT_TICK};
    configure();
    recorder_begin(&recorder, &event, &effects);
    assert_int_equal(recording_open(file_of(), &recording, &error), STATUS_OK);
    assert_false(recording_next(&recording).has_ended);
    recording_fini(&recording);
    recorder_end(&recorder, &effects);
    assert_true(expect_events(1) == 0);
}

static void without_memory_nothing_is_kept(void **state)
{
    (void)state;
    uint8_t header[RECORDING_HEADER_BYTES];
    struct bytes parts[RECORDER_PARTS];
    recorder_fini(&recorder);
    assert_int_equal(recorder_init(&recorder, 0), STATUS_OK);
    configure();
    recorder_trees(&recorder, bytes_of_string("trees"));
    record(0, 10);
    recorder_stop(&recorder);
    assert_int_equal(recorder_parts(&recorder, header, parts), 0);
    assert_int_equal(recorder_copy(&recorder, &file), STATUS_UNSUPPORTED);
}

static void a_stopped_one_stays_as_it_is(void **state)
{
    (void)state;
    configure();
    record(0, 10);
    recorder_stop(&recorder);
    record(1, 10);
    assert_true(expect_events(1) == 0);
}

/* Of any other bytes: refused with a sentence, whatever is wrong. */
static void only_a_whole_file_opens(void **state)
{
    (void)state;
    struct recording recording;
    struct error error;
    configure();
    for (uint64_t i = 0; i < 10; i++)
        record(i, 10);
    struct bytes whole = file_of();
    for (size_t size = 0; size < whole.size; size++) {
        error.text[0] = '\0';
        assert_int_equal(
            recording_open(bytes_of(whole.data, size), &recording, &error),
            STATUS_INVALID);
        assert_true(error.text[0] != '\0');
    }
    for (size_t at = 0; at < whole.size; at++) {
        file.data[at] ^= 0x10;
        assert_int_equal(recording_open(whole, &recording, &error),
                         STATUS_INVALID);
        file.data[at] ^= 0x10;
    }
    assert_int_equal(recording_open(whole, &recording, &error), STATUS_OK);
    recording_fini(&recording);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_configuration_comes_back),
        TEST(few_events_are_kept_whole),
        TEST(the_first_and_the_last_stay),
        TEST(long_events_take_the_place_of_many),
        TEST(of_one_that_has_no_room_the_size_is_kept),
        TEST(without_a_gap_before_it_one_is_made),
        TEST(trees_come_before_events_or_nothing_replays),
        TEST(an_event_under_way_has_not_ended),
        TEST(without_memory_nothing_is_kept),
        TEST(a_stopped_one_stays_as_it_is),
        TEST(only_a_whole_file_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
