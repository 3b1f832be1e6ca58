/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/proxy/fault_engine.h"
#include "tests/proxy/storage_fixture.h"

#include <stdio.h>
#include <stdlib.h>

/* What storage.h promises when the engine fails, or takes its time: on an
 * engine that does so on command. */

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    if (fixture == NULL)
        return -1;
    fault_reset();
    fixture_init(fixture, &fault_engine_type);
    return 0;
}

static int tear_down(void **state)
{
    fixture_fini(*state);
    free(*state);
    fault_reset();
    return 0;
}

static void submit(struct fixture *fixture, uint64_t token, const char *key)
{
    struct storage_op op = coordinate_of(token, key, "value");
    fixture_submit(fixture, &op);
}

static enum status read_of(struct fixture *fixture, uint64_t token,
                           const char *key)
{
    struct storage_op op = op_of(STORAGE_READ, token, key);
    return fixture_read(fixture, &op, NULL);
}

static enum status stored(struct fixture *fixture, uint64_t token)
{
    return fixture_wait(fixture, EVENT_STORED, token).status;
}

/* Leave the writer in a write of token 1. */
static void open_and_block(struct fixture *fixture)
{
    fixture_open(fixture);
    fault_block_writes(true);
    submit(fixture, 1, "first");
    assert_true(fault_wait_blocked_writes(1));
}

static void batch_is_told_prepared_before_it_is_written(void **state)
{
    struct fixture *fixture = *state;
    open_and_block(fixture);
    fixture_expect(fixture, 1, "prepared ok");
    assert_int_equal(read_of(fixture, 2, "first"), STATUS_NOT_FOUND);
    fault_block_writes(false);
    assert_int_equal(stored(fixture, 1), STATUS_OK);
    assert_int_equal(read_of(fixture, 3, "first"), STATUS_OK);
}

static void what_waits_shares_one_batch_and_one_sync(void **state)
{
    struct fixture *fixture = *state;
    char name[16];
    open_and_block(fixture);
    for (uint64_t i = 2; i <= 11; i++) {
        snprintf(name, sizeof name, "k%u", (unsigned)i);
        submit(fixture, i, name);
    }
    fault_block_writes(false);
    assert_int_equal(stored(fixture, 11), STATUS_OK);
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
    open_and_block(fixture);
    submit(fixture, 2, "k");
    submit(fixture, 3, "k");
    struct storage_op again = coordinate_of(2, "k", "value");
    again.token = 4;
    fixture_submit(fixture, &again);
    fault_block_writes(false);
    assert_int_equal(stored(fixture, 4), STATUS_OK);
    assert_int_equal(fault_counts().writes, 2);
    assert_int_equal(fault_counts().last_batch, 1);
    struct told second = fixture_wait(fixture, EVENT_PREPARED, 3);
    assert_int_equal(value_count_of(&second.record), 2);
    assert_true(fixture_wait(fixture, EVENT_PREPARED, 4).duplicate);
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
    open_and_block(fixture);
    fixture_submit(fixture, &merge);
    fixture_submit(fixture, &drop);
    merge.token = 4;
    fixture_submit(fixture, &merge);
    fault_block_writes(false);
    assert_int_equal(stored(fixture, 4), STATUS_OK);
    assert_int_equal(fixture_wait(fixture, EVENT_STORED, 3).records_delta, -1);
    assert_int_equal(fixture_wait(fixture, EVENT_STORED, 4).records_delta, 1);
    struct storage_op read = hint_of(STORAGE_READ, 5, "k");
    assert_int_equal(fixture_read(fixture, &read, NULL), STATUS_OK);
    buffer_fini(&record);
}

static void failed_write_is_unknown_and_engine_reopens(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_fail_write();
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_IO);
    fixture_expect(fixture, 1, "prepared ok, stored io");
    fixture_wait_reopened(fixture, 1);
    assert_int_equal(fault_counts().opens, 2);
    submit(fixture, 2, "k");
    assert_int_equal(stored(fixture, 2), STATUS_OK);
    assert_int_equal(read_of(fixture, 3, "k"), STATUS_OK);
    struct storage_stats stats;
    storage_stats(fixture->storage, &stats);
    assert_int_equal(stats.reopens, 1);
}

static void the_overlay_of_a_failed_batch_is_thrown_away(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_fail_write();
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_IO);
    fixture_wait_reopened(fixture, 1);
    submit(fixture, 2, "k");
    struct told second = fixture_wait(fixture, EVENT_PREPARED, 2);
    assert_int_equal(value_count_of(&second.record), 1);
}

static void all_is_broken_until_the_engine_is_open_again(void **state)
{
    struct fixture *fixture = *state;
    open_and_block(fixture);
    submit(fixture, 2, "waits");
    fault_fail_opens(true);
    fault_fail_write();
    fault_block_writes(false);
    assert_int_equal(stored(fixture, 1), STATUS_IO);
    assert_int_equal(stored(fixture, 2), STATUS_BROKEN);
    fixture_expect(fixture, 2, "stored broken");
    submit(fixture, 3, "k");
    assert_int_equal(stored(fixture, 3), STATUS_BROKEN);
    fixture_expect(fixture, 3, "stored broken");
    assert_int_equal(read_of(fixture, 4, "first"), STATUS_BROKEN);
    fault_fail_opens(false);
    fixture_wait_reopened(fixture, 1);
    submit(fixture, 5, "k");
    assert_int_equal(stored(fixture, 5), STATUS_OK);
}

static void it_is_opened_as_often_as_it_takes(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_fail_opens(true);
    fault_fail_write();
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_IO);
    assert_true(fault_wait_open_attempts(3));
    assert_int_equal(fixture->reopened, 0);
    fault_fail_opens(false);
    fixture_wait_reopened(fixture, 1);
    assert_int_equal(fault_counts().opens, 2);
}

static void close_while_broken_answers_what_is_queued(void **state)
{
    struct fixture *fixture = *state;
    open_and_block(fixture);
    submit(fixture, 2, "waits");
    fault_fail_opens(true);
    fault_fail_write();
    fault_block_writes(false);
    assert_int_equal(stored(fixture, 1), STATUS_IO);
    storage_submit(fixture->storage, &(struct storage_op){
                                         .kind = STORAGE_SET,
                                         .token = 3,
                                         .key = {.table = TABLE_META,
                                                 .key = bytes_of_string("n")},
                                     });
    fixture_close(fixture);
    fixture_expect(fixture, 2, "stored broken");
    fixture_expect(fixture, 3, "stored broken");
}

static void no_dot_is_issued_twice_after_a_failed_write(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_OK);
    fault_fail_write();
    submit(fixture, 2, "k");
    assert_int_equal(stored(fixture, 2), STATUS_IO);
    fixture_wait_reopened(fixture, 1);
    submit(fixture, 3, "k");
    assert_int_equal(stored(fixture, 3), STATUS_OK);
    struct told lost = fixture_wait(fixture, EVENT_PREPARED, 2);
    struct told next = fixture_wait(fixture, EVENT_PREPARED, 3);
    struct dot a = dot_of(&lost.record, 2), b = dot_of(&next.record, 3);
    assert_true(a.actor.incarnation != b.actor.incarnation);
}

static uint64_t incarnation(struct fixture *fixture, uint64_t token)
{
    struct told told = fixture_wait(fixture, EVENT_PREPARED, token);
    return dot_of(&told.record, token).actor.incarnation;
}

static void a_corrupt_read_and_renew_draw_a_new_incarnation(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    submit(fixture, 1, "k");
    submit(fixture, 2, "k");
    uint64_t first = incarnation(fixture, 1);
    assert_true(first == incarnation(fixture, 2));
    assert_int_equal(stored(fixture, 2), STATUS_OK);
    fault_corrupt_reads(true);
    assert_int_equal(read_of(fixture, 3, "k"), STATUS_CORRUPT);
    fault_corrupt_reads(false);
    submit(fixture, 4, "k");
    uint64_t second = incarnation(fixture, 4);
    assert_true(second != first);
    storage_renew(fixture->storage);
    submit(fixture, 5, "k");
    assert_true(incarnation(fixture, 5) != second);
}

static void a_corrupt_copy_is_written_over_by_a_new_incarnation(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_OK);
    fault_corrupt_reads(true);
    submit(fixture, 2, "k");
    assert_int_equal(stored(fixture, 2), STATUS_OK);
    assert_true(incarnation(fixture, 1) != incarnation(fixture, 2));
}

static void merge_repairs_a_corrupt_copy(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0}, read = {0};
    record_of(1, "good", &record);
    fixture_open(fixture);
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_OK);
    fault_corrupt_reads(true);
    struct storage_op merge = op_of(STORAGE_MERGE, 2, "k");
    merge.data = buffer_bytes(&record);
    fixture_store(fixture, &merge);
    fault_corrupt_reads(false);
    struct storage_op op = op_of(STORAGE_READ, 3, "k");
    assert_int_equal(fixture_read(fixture, &op, &read), STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&read), buffer_bytes(&record)));
    buffer_fini(&record);
    buffer_fini(&read);
}

static void a_corrupt_scan_has_no_rows(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_OK);
    fault_corrupt_reads(true);
    struct storage_op scan = op_of(STORAGE_SCAN, 2, "");
    struct told chunk = fixture_scan(fixture, &scan);
    assert_int_equal(chunk.status, STATUS_CORRUPT);
    assert_int_equal(chunk.row_count, 0);
    assert_false(chunk.done);
}

static void keys_of_others_are_left_out_of_a_scan(void **state)
{
    struct fixture *fixture = *state;
    /* A data key of partition 7 that ends before its bucket does. */
    assert_int_equal(
        fault_put(bytes_of("d\0\7\0", 4), bytes_of_string("foreign")),
        STATUS_OK);
    fixture_open(fixture);
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_OK);
    struct storage_op scan = op_of(STORAGE_SCAN, 2, "");
    scan.bytes_max = 1 << 20;
    struct told chunk = fixture_scan(fixture, &scan);
    assert_int_equal(chunk.status, STATUS_OK);
    assert_int_equal(chunk.row_count, 1);
    assert_string_equal(chunk.first_name, "k");
    assert_true(chunk.done);
}

static void a_reader_that_finds_it_broken_has_it_reopened(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_break();
    assert_int_equal(read_of(fixture, 1, "k"), STATUS_BROKEN);
    fixture_wait_reopened(fixture, 1);
    assert_int_equal(read_of(fixture, 2, "k"), STATUS_NOT_FOUND);
}

static void a_writer_that_finds_it_broken_has_it_reopened(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_break();
    submit(fixture, 1, "k");
    fixture_wait_reopened(fixture, 1);
    fixture_expect(fixture, 1, "prepared broken");
    submit(fixture, 2, "k");
    assert_int_equal(stored(fixture, 2), STATUS_OK);
}

/* --- waiting --- */

static void writes_beyond_the_queue_are_overloaded_at_once(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.queue_max = 4;
    open_and_block(fixture);
    for (uint64_t i = 2; i <= 5; i++)
        submit(fixture, i, "k");
    submit(fixture, 6, "k");
    fixture_expect(fixture, 5, "");
    fixture_expect(fixture, 6, "stored overloaded");
    fault_block_writes(false);
    assert_int_equal(stored(fixture, 5), STATUS_OK);
}

static void bytes_beyond_the_queue_are_overloaded_at_once(void **state)
{
    struct fixture *fixture = *state;
    static char large[600];
    memset(large, 'x', sizeof large - 1);
    fixture->config.queue_bytes_max = 1000;
    open_and_block(fixture);
    struct storage_op fits = coordinate_of(2, "k", large);
    struct storage_op more = coordinate_of(3, "k", large);
    fixture_submit(fixture, &fits);
    fixture_submit(fixture, &more);
    fixture_expect(fixture, 2, "");
    fixture_expect(fixture, 3, "stored overloaded");
    fault_block_writes(false);
    assert_int_equal(stored(fixture, 2), STATUS_OK);
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
    assert_int_equal(stored(fixture, 2), STATUS_OK);
    fixture_expect(fixture, 1, "stored timeout");
    assert_int_equal(read_of(fixture, 3, "k"), STATUS_NOT_FOUND);
}

struct slow_reader {
    struct fixture *fixture;
    uint64_t token;
    pthread_t thread;
};

static void *slow_read(void *argument)
{
    struct slow_reader *reader = argument;
    assert_int_equal(read_of(reader->fixture, reader->token, "k"), STATUS_OK);
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
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_OK);
    size_t count = take_permits(fixture, readers);
    struct storage_op read = op_of(STORAGE_READ, 2, "k");
    struct storage_result result;
    struct buffer value = {0};
    read.deadline_ms = INT64_MAX;
    assert_false(storage_read(fixture->storage, &read, &value, &result));
    fault_block_reads(false);
    assert_int_equal(stored(fixture, 2), STATUS_OK);
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
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_OK);
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
    assert_int_equal(stored(fixture, 2), STATUS_OK);
    assert_int_equal(stored(fixture, 3), STATUS_TIMEOUT);
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
what_is_there_after_reopening_is_synced_before_it_counts(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0};
    record_of(1, "value", &record);
    struct storage_op merge = op_of(STORAGE_MERGE, 1, "k");
    merge.data = buffer_bytes(&record);
    fixture_open(fixture);
    fixture_store(fixture, &merge);
    fault_fail_write();
    submit(fixture, 2, "other");
    assert_int_equal(stored(fixture, 2), STATUS_IO);
    fixture_wait_reopened(fixture, 1);
    unsigned writes = fault_counts().writes;
    merge.token = 3;
    fixture_store(fixture, &merge);
    assert_int_equal(fault_counts().writes, writes + 1);
    assert_int_equal(fault_counts().last_batch, 0);
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
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_OK);
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
    submit(fixture, 1, "k");
    assert_int_equal(stored(fixture, 1), STATUS_OK);
    assert_true(fault_wait_syncs(1));
    assert_int_equal(fault_counts().writes, 2);
    assert_int_equal(fault_counts().last_batch, 0);
}

/* --- engines that never block --- */

static void an_engine_that_never_blocks_runs_in_storage_run(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.type = &fault_inline_engine_type;
    fixture_open(fixture);
    struct storage_op op = coordinate_of(1, "k", "value");
    storage_submit(fixture->storage, &op);
    fixture_expect(fixture, 1, "");
    storage_run(fixture->storage);
    fixture_expect(fixture, 1, "prepared ok, stored ok");
    assert_true(fixture_wait(fixture, EVENT_STORED, 1).here);
    assert_int_equal(fault_counts().syncs, 0);
}

static void an_engine_that_keeps_nothing_stays_broken(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.type = &fault_inline_engine_type;
    fixture_open(fixture);
    fault_fail_write();
    submit(fixture, 1, "k");
    fixture_expect(fixture, 1, "prepared ok, stored io");
    submit(fixture, 2, "k");
    fixture_expect(fixture, 2, "stored broken");
    assert_int_equal(read_of(fixture, 3, "k"), STATUS_BROKEN);
    fixture_close(fixture);
    assert_int_equal(fault_counts().open_attempts, 1);
}

int main(void)
{
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CLAIM(batch_is_told_prepared_before_it_is_written),
        CLAIM(what_waits_shares_one_batch_and_one_sync),
        CLAIM(a_later_write_of_the_batch_sees_the_earlier),
        CLAIM(a_hint_dropped_in_the_batch_is_gone_for_the_next),
        CLAIM(failed_write_is_unknown_and_engine_reopens),
        CLAIM(the_overlay_of_a_failed_batch_is_thrown_away),
        CLAIM(all_is_broken_until_the_engine_is_open_again),
        CLAIM(it_is_opened_as_often_as_it_takes),
        CLAIM(close_while_broken_answers_what_is_queued),
        CLAIM(no_dot_is_issued_twice_after_a_failed_write),
        CLAIM(a_corrupt_read_and_renew_draw_a_new_incarnation),
        CLAIM(a_corrupt_copy_is_written_over_by_a_new_incarnation),
        CLAIM(merge_repairs_a_corrupt_copy),
        CLAIM(a_corrupt_scan_has_no_rows),
        CLAIM(keys_of_others_are_left_out_of_a_scan),
        CLAIM(a_reader_that_finds_it_broken_has_it_reopened),
        CLAIM(a_writer_that_finds_it_broken_has_it_reopened),
        CLAIM(writes_beyond_the_queue_are_overloaded_at_once),
        CLAIM(bytes_beyond_the_queue_are_overloaded_at_once),
        CLAIM(a_write_past_its_deadline_is_not_run),
        CLAIM(reads_beyond_permits_go_to_readers),
        CLAIM(reads_beyond_the_queue_are_overloaded),
        CLAIM(what_changes_nothing_is_not_written),
        CLAIM(what_was_there_at_the_start_is_synced_before_it_counts),
        CLAIM(what_is_there_after_reopening_is_synced_before_it_counts),
        CLAIM(a_dropped_hint_is_not_synced),
        CLAIM(without_sync_only_a_set_is_synced),
        CLAIM(what_is_unsynced_is_synced_after_the_interval),
        CLAIM(an_engine_that_never_blocks_runs_in_storage_run),
        CLAIM(an_engine_that_keeps_nothing_stays_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
