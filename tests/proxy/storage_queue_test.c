/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/storage_internal.h"
#include "tests/proxy/fault_fixture.h"

#include <stdio.h>

/* What storage.h promises of what waits, and of what is written together: on an
 * engine that takes its time on command. */

static void batch_is_told_prepared_before_it_is_written(void **state)
{
    struct fixture *fixture = *state;
    fault_open_and_block(fixture);
    fixture_expect(fixture, 1, "prepared ok");
    assert_int_equal(fault_read(fixture, 2, "first"), STATUS_NOT_FOUND);
    fault_block_writes(false);
    assert_int_equal(fault_stored(fixture, 1), STATUS_OK);
    assert_int_equal(fault_read(fixture, 3, "first"), STATUS_OK);
}

static void what_waits_shares_one_batch_and_one_sync(void **state)
{
    struct fixture *fixture = *state;
    char name[16];
    fault_open_and_block(fixture);
    for (uint64_t i = 2; i <= 11; i++) {
        snprintf(name, sizeof name, "k%u", (unsigned)i);
        fault_submit(fixture, i, name);
    }
    fault_block_writes(false);
    assert_int_equal(fault_stored(fixture, 11), STATUS_OK);
    struct fault_counts counts = fault_counts();
    assert_int_equal(counts.writes, 2);
    assert_int_equal(counts.syncs, 2);
    assert_int_equal(counts.last_batch, 10);
    struct storage_stats stats;
    storage_stats(fixture->storage, &stats);
    assert_int_equal(stats.batches, 2);
    assert_int_equal(stats.operations, 11);
    assert_int_equal(stats.syncs, 2);
}

static void a_later_write_of_the_batch_sees_the_earlier(void **state)
{
    struct fixture *fixture = *state;
    fault_open_and_block(fixture);
    fault_submit(fixture, 2, "k");
    fault_submit(fixture, 3, "k");
    struct storage_op again = coordinate_of(2, "k", "value");
    again.token = 4;
    fixture_submit(fixture, &again);
    fault_block_writes(false);
    assert_int_equal(fault_stored(fixture, 4), STATUS_OK);
    assert_int_equal(fault_counts().writes, 2);
    assert_int_equal(fault_counts().last_batch, 1);
    struct told second = fixture_wait(fixture, EVENT_PREPARED, 3);
    assert_int_equal(value_count_of(&second.record), 2);
    assert_true(fixture_wait(fixture, EVENT_PREPARED, 4).duplicate);
}

static void what_is_stored_says_since_when_it_waited_for_the_disk(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0};
    record_of(1, "value", &record);
    struct storage_op merge = op_of(STORAGE_MERGE, 2, "k");
    merge.data = buffer_bytes(&record);
    fault_open_and_block(fixture);
    int64_t submitted_us = clock_now_us();
    fixture_submit(fixture, &merge); /* and prepared, here */
    int64_t prepared_us = clock_now_us();
    fault_submit(fixture, 3, "later"); /* into the same batch */
    fault_block_writes(false);
    assert_int_equal(fault_stored(fixture, 3), STATUS_OK);
    struct told told = fixture_wait(fixture, EVENT_STORED, 2);
    assert_in_range(told.prepared_us, submitted_us, prepared_us);
    told = fixture_wait(fixture, EVENT_STORED, 1);
    assert_in_range(told.prepared_us, 1, submitted_us);
    buffer_fini(&record);
}

static void a_hint_dropped_in_the_batch_is_gone_for_the_next(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0};
    record_of(1, "value", &record);
    struct storage_op merge = hint_of(STORAGE_MERGE, 2, "k");
    struct storage_op drop = hint_of(STORAGE_DROP, 3, "k");
    merge.data = buffer_bytes(&record);
    drop.version = version_of(&record);
    fault_open_and_block(fixture);
    fixture_submit(fixture, &merge);
    fixture_submit(fixture, &drop);
    merge.token = 4;
    fixture_submit(fixture, &merge);
    fault_block_writes(false);
    assert_int_equal(fault_stored(fixture, 4), STATUS_OK);
    assert_int_equal(fixture_wait(fixture, EVENT_STORED, 3).records_delta, -1);
    assert_int_equal(fixture_wait(fixture, EVENT_STORED, 4).records_delta, 1);
    struct storage_op read = hint_of(STORAGE_READ, 5, "k");
    assert_int_equal(fixture_read(fixture, &read, NULL), STATUS_OK);
    buffer_fini(&record);
}

/* --- waiting --- */

/* Prepare as much as the forming batch takes: what comes then has to wait. */
static void fill_forming(struct fixture *fixture)
{
    for (uint64_t i = 0; i < BATCH_OPS_MAX; i++) {
        char key[16];
        snprintf(key, sizeof key, "fill%u", (unsigned)i);
        fault_submit(fixture, 1000 + i, key);
    }
    fixture_expect(fixture, 1000 + BATCH_OPS_MAX - 1, "prepared ok");
}

static void writes_beyond_the_queue_are_overloaded_at_once(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.queue_max = 4;
    fault_open_and_block(fixture);
    fill_forming(fixture);
    for (uint64_t i = 2; i <= 5; i++)
        fault_submit(fixture, i, "k");
    fault_submit(fixture, 6, "k");
    fixture_expect(fixture, 5, "");
    fixture_expect(fixture, 6, "stored overloaded");
    fault_block_writes(false);
    assert_int_equal(fault_stored(fixture, 5), STATUS_OK);
}

static void bytes_beyond_the_queue_are_overloaded_at_once(void **state)
{
    struct fixture *fixture = *state;
    static char large[600];
    memset(large, 'x', sizeof large - 1);
    fixture->config.queue_bytes_max = 1000;
    fault_open_and_block(fixture);
    fill_forming(fixture);
    struct storage_op fits = coordinate_of(2, "k", large);
    struct storage_op more = coordinate_of(3, "k", large);
    fixture_submit(fixture, &fits);
    fixture_submit(fixture, &more);
    fixture_expect(fixture, 2, "");
    fixture_expect(fixture, 3, "stored overloaded");
    fault_block_writes(false);
    assert_int_equal(fault_stored(fixture, 2), STATUS_OK);
}

static void a_write_past_its_deadline_is_not_run(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct storage_op late = coordinate_of(1, "k", "value");
    struct storage_op timely = coordinate_of(2, "other", "value");
    late.deadline_ms = 1;
    timely.deadline_ms = INT64_MAX;
    fixture_submit(fixture, &late);
    fixture_submit(fixture, &timely);
    assert_int_equal(fault_stored(fixture, 2), STATUS_OK);
    fixture_expect(fixture, 1, "stored timeout");
    assert_int_equal(fault_read(fixture, 3, "k"), STATUS_NOT_FOUND);
}

struct slow_reader {
    struct fixture *fixture;
    uint64_t token;
    pthread_t thread;
};

static void *slow_read(void *argument)
{
    struct slow_reader *reader = argument;
    assert_int_equal(fault_read(reader->fixture, reader->token, "k"),
                     STATUS_OK);
    return NULL;
}

enum { SLOW_MAX = 256 }; /* more than any machine has permits */

/* Block a thread a permit in reads; how many there are. */
static size_t take_permits(struct fixture *fixture, struct slow_reader *readers)
{
    struct storage_stats stats = {0};
    size_t count = 0;
    fault_block_reads(true);
    while (stats.reads_handed_over == 0 && count < SLOW_MAX) {
        readers[count] =
            (struct slow_reader){.fixture = fixture, .token = 100 + count};
        assert_int_equal(pthread_create(&readers[count].thread, NULL, slow_read,
                                        &readers[count]),
                         0);
        count++;
        /* In the engine, on its own thread or on a reader's. */
        assert_true(fault_wait_blocked_reads((unsigned)count));
        storage_stats(fixture->storage, &stats);
    }
    return count;
}

static void reads_beyond_permits_go_to_readers(void **state)
{
    struct fixture *fixture = *state;
    static struct slow_reader readers[SLOW_MAX];
    fixture_open(fixture);
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_OK);
    size_t count = take_permits(fixture, readers);
    struct storage_op read = op_of(STORAGE_READ, 2, "k");
    struct storage_result result;
    struct buffer value = {0};
    read.deadline_ms = INT64_MAX;
    assert_false(storage_read(fixture->storage, &read, &value, &result));
    fault_block_reads(false);
    assert_int_equal(fault_stored(fixture, 2), STATUS_OK);
    for (size_t i = 0; i < count; i++)
        pthread_join(readers[i].thread, NULL);
    struct storage_stats stats;
    storage_stats(fixture->storage, &stats);
    assert_int_equal(stats.reads_handed_over, 2);
    assert_int_equal(stats.reads_inline, count - 1);
    /* Permits come back. */
    assert_true(storage_read(fixture->storage, &read, &value, &result));
    buffer_fini(&value);
}

static void reads_beyond_the_queue_are_overloaded(void **state)
{
    struct fixture *fixture = *state;
    static struct slow_reader readers[SLOW_MAX];
    fixture->config.queue_max = 1;
    fixture_open(fixture);
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_OK);
    size_t count = take_permits(fixture, readers);
    struct storage_op read = op_of(STORAGE_READ, 2, "k");
    struct storage_result result;
    struct buffer value = {0};
    /* The second reader thread takes it. */
    assert_false(storage_read(fixture->storage, &read, &value, &result));
    assert_true(fault_wait_blocked_reads((unsigned)count + 1));
    read.token = 3;
    read.deadline_ms = 1;
    assert_false(storage_read(fixture->storage, &read, &value, &result));
    read.token = 4;
    assert_true(storage_read(fixture->storage, &read, &value, &result));
    assert_int_equal(result.status, STATUS_OVERLOADED);
    fault_block_reads(false);
    assert_int_equal(fault_stored(fixture, 2), STATUS_OK);
    assert_int_equal(fault_stored(fixture, 3), STATUS_TIMEOUT);
    for (size_t i = 0; i < count; i++)
        pthread_join(readers[i].thread, NULL);
    buffer_fini(&value);
}

/* --- syncs --- */

static void what_changes_nothing_is_not_written(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0};
    record_of(1, "value", &record);
    struct storage_op merge = op_of(STORAGE_MERGE, 1, "k");
    merge.data = buffer_bytes(&record);
    fixture_open(fixture);
    fixture_store(fixture, &merge);
    merge.token = 2;
    fixture_store(fixture, &merge);
    assert_int_equal(fault_counts().writes, 1);
    buffer_fini(&record);
}

/* It may have been read back from a log that never reached the disk. */
static void what_was_there_at_the_start_is_synced_before_it_counts(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0};
    record_of(1, "value", &record);
    struct storage_op merge = op_of(STORAGE_MERGE, 1, "k");
    merge.data = buffer_bytes(&record);
    fixture_open(fixture);
    fixture_store(fixture, &merge);
    fixture_close(fixture);
    unsigned syncs = fault_counts().syncs;
    fixture_open(fixture);
    merge.token = 2;
    fixture_store(fixture, &merge);
    assert_int_equal(fault_counts().syncs, syncs + 1);
    assert_int_equal(fault_counts().last_batch, 0);
    buffer_fini(&record);
}

/* A failed sync may have left it in the engine and not on the disk. */
static void
what_is_there_after_reopening_is_synced_before_it_is_read(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0};
    record_of(1, "value", &record);
    struct storage_op merge = op_of(STORAGE_MERGE, 1, "k");
    merge.data = buffer_bytes(&record);
    fixture_open(fixture);
    fixture_store(fixture, &merge);
    fault_fail_write();
    fault_submit(fixture, 2, "other");
    assert_int_equal(fault_stored(fixture, 2), STATUS_IO);
    fixture_wait_reopened(fixture, 1);
    /* The two batches, and then nothing but a sync, which nobody asked for. */
    assert_int_equal(fault_counts().syncs, 3);
    assert_int_equal(fault_counts().last_batch, 0);
    merge.token = 3;
    fixture_store(fixture, &merge);
    assert_int_equal(fault_counts().writes, 3);
    buffer_fini(&record);
}

static void a_dropped_hint_is_not_synced(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0};
    record_of(1, "value", &record);
    struct storage_op merge = hint_of(STORAGE_MERGE, 1, "k");
    struct storage_op drop = hint_of(STORAGE_DROP, 2, "k");
    merge.data = buffer_bytes(&record);
    drop.version = version_of(&record);
    fixture_open(fixture);
    fixture_store(fixture, &merge);
    fixture_store(fixture, &drop);
    assert_int_equal(fault_counts().writes, 2);
    assert_int_equal(fault_counts().syncs, 1);
    fixture_close(fixture);
    assert_int_equal(fault_counts().syncs, 2);
    buffer_fini(&record);
}

static struct storage_op set_of(uint64_t token)
{
    return (struct storage_op){
        .kind = STORAGE_SET,
        .token = token,
        .key = {.table = TABLE_META, .key = bytes_of_string("name")},
        .data = bytes_of_string("value"),
    };
}

static void without_sync_only_a_set_is_synced(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.sync = STORAGE_SYNC_NONE;
    fixture_open(fixture);
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_OK);
    assert_int_equal(fault_counts().syncs, 0);
    struct storage_op set = set_of(2);
    fixture_store(fixture, &set);
    assert_int_equal(fault_counts().syncs, 1);
}

static void what_is_unsynced_is_synced_after_the_interval(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.sync = STORAGE_SYNC_INTERVAL;
    fixture->config.interval_ms = 20;
    fixture_open(fixture);
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_OK);
    assert_true(fault_wait_syncs(1));
    assert_int_equal(fault_counts().writes, 2);
    assert_int_equal(fault_counts().last_batch, 0);
}

static size_t place_of(struct fixture *fixture, enum event_kind kind,
                       uint64_t token)
{
    size_t at = 0;
    fixture_wait(fixture, kind, token);
    pthread_mutex_lock(&fixture->lock);
    while (fixture->told[at].kind != kind || fixture->told[at].token != token)
        at++;
    pthread_mutex_unlock(&fixture->lock);
    return at;
}

static void a_settled_scan_is_told_behind_what_is_being_written(void **state)
{
    struct fixture *fixture = *state;
    struct storage_result result;
    struct buffer value = {0};
    struct storage_op scan = op_of(STORAGE_SCAN, 2, "");
    scan.bytes_max = 1 << 20;
    scan.settled = true;
    fault_open_and_block(fixture);
    assert_false(storage_read(fixture->storage, &scan, &value, &result));
    /* Others do not wait for it. */
    scan.settled = false;
    for (scan.token = 3; scan.token < 100; scan.token++)
        assert_int_equal(fixture_scan(fixture, &scan).status, STATUS_OK);
    fixture_expect(fixture, 2, "");
    fault_block_writes(false);
    assert_true(place_of(fixture, EVENT_STORED, 1) <
                place_of(fixture, EVENT_STORED, 2));
}

static void
what_is_noted_behind_the_drain_is_there_at_the_next_start(void **state)
{
    struct fixture *fixture = *state;
    struct buffer value = {0};
    fixture_open(fixture);
    fault_submit(fixture, 1, "k");
    storage_drain(fixture->storage);
    fixture_expect(fixture, 1, "prepared ok, stored ok");
    assert_int_equal(storage_meta_set(fixture->storage, TABLE_META, "note",
                                      bytes_of_string("text")),
                     STATUS_OK);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_int_equal(
        storage_meta_get(fixture->storage, TABLE_META, "note", &value),
        STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&value), bytes_of_string("text")));
    buffer_fini(&value);
}

static void nothing_is_noted_on_an_engine_that_failed(void **state)
{
    struct fixture *fixture = *state;
    fault_open_and_break(fixture);
    storage_drain(fixture->storage);
    assert_int_equal(storage_meta_set(fixture->storage, TABLE_META, "note",
                                      bytes_of_string("text")),
                     STATUS_BROKEN);
}

int main(void)
{
#define CLAIM(name)                                                            \
    cmocka_unit_test_setup_teardown(name, fault_set_up, fault_tear_down)
    const struct CMUnitTest tests[] = {
        CLAIM(batch_is_told_prepared_before_it_is_written),
        CLAIM(what_waits_shares_one_batch_and_one_sync),
        CLAIM(a_later_write_of_the_batch_sees_the_earlier),
        CLAIM(what_is_stored_says_since_when_it_waited_for_the_disk),
        CLAIM(a_hint_dropped_in_the_batch_is_gone_for_the_next),
        CLAIM(writes_beyond_the_queue_are_overloaded_at_once),
        CLAIM(bytes_beyond_the_queue_are_overloaded_at_once),
        CLAIM(a_write_past_its_deadline_is_not_run),
        CLAIM(reads_beyond_permits_go_to_readers),
        CLAIM(reads_beyond_the_queue_are_overloaded),
        CLAIM(what_changes_nothing_is_not_written),
        CLAIM(what_was_there_at_the_start_is_synced_before_it_counts),
        CLAIM(what_is_there_after_reopening_is_synced_before_it_is_read),
        CLAIM(a_dropped_hint_is_not_synced),
        CLAIM(without_sync_only_a_set_is_synced),
        CLAIM(what_is_unsynced_is_synced_after_the_interval),
        CLAIM(a_settled_scan_is_told_behind_what_is_being_written),
        CLAIM(what_is_noted_behind_the_drain_is_there_at_the_next_start),
        CLAIM(nothing_is_noted_on_an_engine_that_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
