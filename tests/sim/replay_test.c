/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/assert.h"
#include "proxy/recorder.h"
#include "replay.h"

/* A node that is recorded, and what a replay says of that. Its answer to a
 * first tick is to read its disk. */

enum { RECORDER_BYTES = 1 << 20 };

static struct node *node;
static struct effects effects;
static struct recorder recorder;
static struct buffer file;

enum { EXIT_ASSERTED = 77 };

/* In place of the one that aborts; to be expected in a process of its own. */
_Noreturn void assert_failed(const char *condition, const char *source,
                             int line)
{
    printf("%s:%d: %s\n", source, line, condition);
    fflush(stdout);
    _exit(EXIT_ASSERTED);
}

static int exit_code_of(void (*run)(void))
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        run();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int set_up(void **state)
{
    (void)state;
    static const struct placement_node founders[] = {{.name = "n1"}};
    static struct bucket_config bucket = {.name = "default", .r = 1, .w = 1};
    bucket.id = bucket_id_of(bucket.name);
    struct node_config config = {
        .self = {.id = node_id_of("c", "n1"), .name = "n1", .boot = 1},
        .founding = {.cluster = "c",
                     .founders = founders,
                     .founder_count = 1,
                     .partitions = 8,
                     .replicas = 1},
        .buckets = &bucket,
        .bucket_count = 1,
        .limits = node_limits_default(),
        .timeouts = node_timeouts_default(),
        .membership = membership_config_default(),
        .engine = "none",
    };
    struct error error;
    if (node_new(&config, &node, &error) != STATUS_OK ||
        recorder_init(&recorder, RECORDER_BYTES) != STATUS_OK)
        return -1;
    effects_init(&effects, 1 << 20);
    recorder_config(&recorder, "test", &config);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    node_free(node);
    recorder_fini(&recorder);
    effects_fini(&effects);
    buffer_fini(&file);
    return 0;
}

static void tick(int64_t now_ms)
{
    const struct event event = {.kind = EVENT_TICK, .now_us = now_ms * 1000};
    effects_reset(&effects);
    recorder_begin(&recorder, &event, &effects);
    node_step(node, &event, &effects);
    recorder_end(&recorder, &effects);
}

static enum replay_end replayed(void)
{
    buffer_clear(&file);
    assert_int_equal(recorder_copy(&recorder, &file), STATUS_OK);
    return replay("test", buffer_bytes(&file), true);
}

static struct recording_header header_of(void)
{
    struct recording recording;
    struct error error;
    assert_int_equal(recording_open(buffer_bytes(&file), &recording, &error),
                     STATUS_OK);
    struct recording_header header = recording.header;
    recording_fini(&recording);
    return header;
}

static void a_node_does_the_same_again(void **state)
{
    (void)state;
    for (int64_t now_ms = 1; now_ms < 100; now_ms++)
        tick(now_ms);
    assert_int_equal(replayed(), REPLAY_SAME);
}

static void another_outcome_is_found(void **state)
{
    (void)state;
    struct effects nothing;
    const struct event event = {.kind = EVENT_TICK, .now_us = 1000};
    effects_init(&nothing, 1024);
    recorder_begin(&recorder, &event, &nothing);
    node_step(node, &event, &effects);
    assert_true(effects.storage_count > 0);
    recorder_end(&recorder, &nothing);
    tick(2);
    assert_int_equal(replayed(), REPLAY_OTHER);
    effects_fini(&nothing);
}

static void what_is_behind_a_gap_is_told(void **state)
{
    (void)state;
    for (int64_t now_ms = 1; now_ms < 40000; now_ms++)
        tick(now_ms);
    assert_int_equal(replayed(), REPLAY_SAME);
    struct recording_header header = header_of();
    assert_true(header.missing > 0 && header.last_events > 0);
    assert_int_equal(header.first_events + header.missing + header.last_events,
                     39999);
}

/* No node asks another what its disk is asked. */
static const struct event impossible = {.kind = EVENT_NO_REPLY,
                                        .now_us = 5000,
                                        .request = (uint64_t)OWNER_START << 56};

static void step_impossible(void)
{
    node_step(node, &impossible, &effects);
}

static void replay_recorded(void)
{
    (void)replayed();
}

static void an_assertion_fails_again(void **state)
{
    (void)state;
    tick(1);
    effects_reset(&effects);
    recorder_begin(&recorder, &impossible, &effects);
    assert_int_equal(exit_code_of(step_impossible), EXIT_ASSERTED);
    assert_int_equal(exit_code_of(replay_recorded), EXIT_ASSERTED);
}

static void one_without_a_beginning_is_told(void **state)
{
    (void)state;
    static const uint8_t trees[RECORDER_BYTES / 2];
    recorder_trees(&recorder, bytes_of(trees, sizeof trees));
    tick(1);
    assert_int_equal(replayed(), REPLAY_SAME);
    assert_true(header_of().is_headless);
}

/* A file may be anybody's: the node would look it up in its tables. */
static void a_partition_that_is_none_is_refused(void **state)
{
    (void)state;
    tick(1);
    const struct storage_op op = {
        .kind = STORAGE_MERGE,
        .key = {.table = TABLE_DATA,
                .partition = {UINT16_MAX},
                .key = bytes_of_string("k")},
    };
    const struct storage_result result = {.op = &op, .version_after = 1};
    const struct event event = {
        .kind = EVENT_STORED, .now_us = 2000, .storage = &result};
    recorder_begin(&recorder, &event, &effects);
    recorder_end(&recorder, &effects);
    assert_int_equal(replayed(), REPLAY_NO_RECORDING);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_node_does_the_same_again),
        TEST(another_outcome_is_found),
        TEST(what_is_behind_a_gap_is_told),
        TEST(an_assertion_fails_again),
        TEST(one_without_a_beginning_is_told),
        TEST(a_partition_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
