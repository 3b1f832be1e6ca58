/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/proxy/fault_fixture.h"

/* What storage.h promises when the engine fails: on one that does so on
 * command. */

static void failed_write_is_unknown_and_engine_reopens(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_fail_write();
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_IO);
    fixture_expect(fixture, 1, "prepared ok, stored io");
    fixture_wait_reopened(fixture, 1);
    assert_int_equal(fault_counts().opens, 2);
    fault_submit(fixture, 2, "k");
    assert_int_equal(fault_stored(fixture, 2), STATUS_OK);
    assert_int_equal(fault_read(fixture, 3, "k"), STATUS_OK);
    struct storage_stats stats;
    storage_stats(fixture->storage, &stats);
    assert_int_equal(stats.reopens, 1);
}

static void what_the_engine_reports_is_logged(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_fail_write();
    fault_submit(fixture, 1, "k");
    fixture_wait_reopened(fixture, 1);
    fault_report("000012.table at 4096");
    assert_string_equal(fixture->logged, "event=engine_report engine=fault "
                                         "what=\"000012.table at 4096\"");
}

static void the_overlay_of_a_failed_batch_is_thrown_away(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_fail_write();
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_IO);
    fixture_wait_reopened(fixture, 1);
    fault_submit(fixture, 2, "k");
    struct told second = fixture_wait(fixture, EVENT_PREPARED, 2);
    assert_int_equal(value_count_of(&second.record), 1);
}

static void all_is_broken_until_the_engine_is_open_again(void **state)
{
    struct fixture *fixture = *state;
    fault_open_and_block(fixture);
    fault_submit(fixture, 2, "waits");
    fault_fail_opens(true);
    fault_fail_write();
    fault_block_writes(false);
    assert_int_equal(fault_stored(fixture, 1), STATUS_IO);
    assert_int_equal(fault_stored(fixture, 2), STATUS_BROKEN);
    fixture_expect(fixture, 2, "prepared ok, stored broken");
    fault_submit(fixture, 3, "k");
    assert_int_equal(fault_stored(fixture, 3), STATUS_BROKEN);
    fixture_expect(fixture, 3, "stored broken");
    assert_int_equal(fault_read(fixture, 4, "first"), STATUS_BROKEN);
    fault_fail_opens(false);
    fixture_wait_reopened(fixture, 1);
    fault_submit(fixture, 5, "k");
    assert_int_equal(fault_stored(fixture, 5), STATUS_OK);
}

/* The second write was made on the first, which never came to be: it fails
 * with it, and what follows builds on neither. */
static void what_was_made_on_a_failed_batch_fails_with_it(void **state)
{
    struct fixture *fixture = *state;
    fault_open_and_block(fixture);
    fault_submit(fixture, 2, "first");
    fixture_expect(fixture, 2, "prepared ok");
    fault_fail_write();
    fault_block_writes(false);
    assert_int_equal(fault_stored(fixture, 2), STATUS_BROKEN);
    fixture_wait_reopened(fixture, 1);
    fault_submit(fixture, 3, "first");
    assert_int_equal(fault_stored(fixture, 3), STATUS_OK);
    struct told second = fixture_wait(fixture, EVENT_PREPARED, 2);
    struct told third = fixture_wait(fixture, EVENT_PREPARED, 3);
    assert_int_equal(value_count_of(&second.record), 2);
    assert_int_equal(value_count_of(&third.record), 1);
    assert_true(dot_of(&second.record, 2).actor.incarnation !=
                dot_of(&third.record, 3).actor.incarnation);
}

static void it_is_opened_as_often_as_it_takes(void **state)
{
    struct fixture *fixture = *state;
    fault_open_and_break(fixture);
    assert_true(fault_wait_open_attempts(3));
    assert_int_equal(fixture->reopened, 0);
    fault_fail_opens(false);
    fixture_wait_reopened(fixture, 1);
    assert_int_equal(fault_counts().opens, 2);
}

static void it_is_not_open_again_before_it_can_sync(void **state)
{
    struct fixture *fixture = *state;
    fault_open_and_break(fixture);
    fault_fail_write();
    fault_fail_opens(false);
    fixture_wait_reopened(fixture, 1);
    assert_int_equal(fault_counts().opens, 3);
    assert_int_equal(fault_read(fixture, 2, "k"), STATUS_NOT_FOUND);
}

static void close_while_broken_answers_what_is_queued(void **state)
{
    struct fixture *fixture = *state;
    fault_open_and_block(fixture);
    fault_submit(fixture, 2, "waits");
    fault_fail_opens(true);
    fault_fail_write();
    fault_block_writes(false);
    assert_int_equal(fault_stored(fixture, 1), STATUS_IO);
    storage_submit(fixture->storage, &(struct storage_op){
                                         .kind = STORAGE_SET,
                                         .token = 3,
                                         .key = {.table = TABLE_META,
                                                 .key = bytes_of_string("n")},
                                     });
    fixture_close(fixture);
    fixture_expect(fixture, 2, "prepared ok, stored broken");
    fixture_expect(fixture, 3, "stored broken");
}

static void no_dot_is_issued_twice_after_a_failed_write(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_OK);
    fault_fail_write();
    fault_submit(fixture, 2, "k");
    assert_int_equal(fault_stored(fixture, 2), STATUS_IO);
    fixture_wait_reopened(fixture, 1);
    fault_submit(fixture, 3, "k");
    assert_int_equal(fault_stored(fixture, 3), STATUS_OK);
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

static void renew_draws_a_new_incarnation(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_submit(fixture, 1, "k");
    fault_submit(fixture, 2, "k");
    uint64_t first = incarnation(fixture, 1);
    assert_true(first == incarnation(fixture, 2));
    assert_int_equal(fault_stored(fixture, 2), STATUS_OK);
    storage_renew(fixture->storage);
    fault_submit(fixture, 3, "k");
    assert_true(incarnation(fixture, 3) != first);
}

/* Store the key, and another one, whose batch takes the place of the first:
 * from then on the engine alone knows what the key holds. */
static void store_for_good(struct fixture *fixture, uint64_t token,
                           const char *key)
{
    fault_submit(fixture, token, key);
    assert_int_equal(fault_stored(fixture, token), STATUS_OK);
    fault_submit(fixture, 1000, "another");
    assert_int_equal(fault_stored(fixture, 1000), STATUS_OK);
}

static void a_corrupt_copy_is_not_written_over(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    store_for_good(fixture, 1, "k");
    fault_fail_reads(STATUS_CORRUPT);
    fault_submit(fixture, 2, "k");
    fixture_wait(fixture, EVENT_PREPARED, 2);
    fixture_expect(fixture, 2, "prepared corrupt");
    assert_int_equal(fault_read(fixture, 3, "k"), STATUS_CORRUPT);
    fault_fail_reads(STATUS_OK);
    /* It lost nothing, however often it is met. */
    fault_submit(fixture, 4, "k");
    assert_int_equal(fault_stored(fixture, 4), STATUS_OK);
    assert_true(incarnation(fixture, 1) == incarnation(fixture, 4));
}

static void what_a_majority_holds_mends_a_corrupt_copy(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0}, read = {0};
    record_of(1, "good", &record);
    fixture_open(fixture);
    store_for_good(fixture, 1, "k");
    fault_fail_reads(STATUS_CORRUPT);
    struct storage_op merge = op_of(STORAGE_MERGE, 2, "k");
    merge.data = buffer_bytes(&record);
    merge.mends = true;
    fixture_store(fixture, &merge);
    fault_fail_reads(STATUS_OK);
    struct storage_op op = op_of(STORAGE_READ, 3, "k");
    assert_int_equal(fixture_read(fixture, &op, &read), STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&read), buffer_bytes(&record)));
    fault_submit(fixture, 4, "k");
    assert_true(incarnation(fixture, 1) != incarnation(fixture, 4));
    buffer_fini(&record);
    buffer_fini(&read);
}

static void a_merge_spares_a_corrupt_copy(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0};
    record_of(1, "old", &record);
    fixture_open(fixture);
    store_for_good(fixture, 1, "k");
    fault_fail_reads(STATUS_CORRUPT);
    struct storage_op merge = op_of(STORAGE_MERGE, 2, "k");
    merge.data = buffer_bytes(&record);
    fixture_submit(fixture, &merge);
    assert_int_equal(fault_stored(fixture, 2), STATUS_CORRUPT);
    assert_int_equal(fault_read(fixture, 3, "k"), STATUS_CORRUPT);
    buffer_fini(&record);
}

static void a_corrupt_scan_has_no_rows(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_OK);
    fault_fail_reads(STATUS_CORRUPT);
    struct storage_op scan = op_of(STORAGE_SCAN, 2, "");
    struct told chunk = fixture_scan(fixture, &scan);
    assert_int_equal(chunk.status, STATUS_CORRUPT);
    assert_int_equal(chunk.row_count, 0);
    assert_false(chunk.done);
}

static void a_check_reads_all_that_is_stored(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    assert_int_equal(storage_check(fixture->storage), STATUS_OK);
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_OK);
    assert_int_equal(storage_check(fixture->storage), STATUS_OK);
    fault_fail_reads(STATUS_CORRUPT);
    assert_int_equal(storage_check(fixture->storage), STATUS_CORRUPT);
    fault_fail_reads(STATUS_IO);
    assert_int_equal(storage_check(fixture->storage), STATUS_CORRUPT);
    fault_fail_reads(STATUS_OK);
    assert_int_equal(storage_check(fixture->storage), STATUS_OK);
}

static void a_check_finds_a_record_that_the_engine_gives_damaged(void **state)
{
    struct fixture *fixture = *state;
    struct buffer key = {0}, record = {0};
    struct storage_op op = op_of(STORAGE_READ, 1, "k");
    record_of(1, "good", &record);
    assert_int_equal(storage_key_encode(&op.key, &key), STATUS_OK);
    fixture_open(fixture);
    assert_int_equal(fault_put(buffer_bytes(&key), buffer_bytes(&record)),
                     STATUS_OK);
    assert_int_equal(storage_check(fixture->storage), STATUS_OK);
    record.data[record.size / 2] ^= 1;
    assert_int_equal(fault_put(buffer_bytes(&key), buffer_bytes(&record)),
                     STATUS_OK);
    assert_int_equal(storage_check(fixture->storage), STATUS_CORRUPT);
    buffer_fini(&key);
    buffer_fini(&record);
}

static void keys_of_others_are_left_out_of_a_scan(void **state)
{
    struct fixture *fixture = *state;
    /* A data key of partition 7 that ends before its bucket does. */
    assert_int_equal(
        fault_put(bytes_of("d\0\7\0", 4), bytes_of_string("foreign")),
        STATUS_OK);
    fixture_open(fixture);
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_OK);
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
    assert_int_equal(fault_read(fixture, 1, "k"), STATUS_BROKEN);
    fixture_wait_reopened(fixture, 1);
    assert_int_equal(fault_read(fixture, 2, "k"), STATUS_NOT_FOUND);
}

static void a_writer_that_finds_it_broken_has_it_reopened(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fault_break();
    fault_submit(fixture, 1, "k");
    fixture_wait_reopened(fixture, 1);
    fixture_expect(fixture, 1, "prepared broken");
    fault_submit(fixture, 2, "k");
    assert_int_equal(fault_stored(fixture, 2), STATUS_OK);
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

static void expect_to_stay_broken(struct fixture *fixture,
                                  const struct engine_type *type)
{
    fixture->config.type = type;
    fixture_open(fixture);
    fault_fail_write();
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_IO);
    assert_non_null(strstr(fixture->logged, "reopen=never"));
    fault_submit(fixture, 2, "k");
    assert_int_equal(fault_stored(fixture, 2), STATUS_BROKEN);
    assert_int_equal(fault_read(fixture, 3, "k"), STATUS_BROKEN);
    fixture_close(fixture);
    assert_int_equal(fault_counts().open_attempts, 1);
}

static void an_engine_that_keeps_nothing_stays_broken(void **state)
{
    expect_to_stay_broken(*state, &fault_inline_engine_type);
}

static void so_does_one_that_may_block(void **state)
{
    struct engine_type forgetful = fault_engine_type;
    forgetful.capabilities = 0;
    expect_to_stay_broken(*state, &forgetful);
}

int main(void)
{
#define CLAIM(name)                                                            \
    cmocka_unit_test_setup_teardown(name, fault_set_up, fault_tear_down)
    const struct CMUnitTest tests[] = {
        CLAIM(failed_write_is_unknown_and_engine_reopens),
        CLAIM(what_the_engine_reports_is_logged),
        CLAIM(the_overlay_of_a_failed_batch_is_thrown_away),
        CLAIM(all_is_broken_until_the_engine_is_open_again),
        CLAIM(what_was_made_on_a_failed_batch_fails_with_it),
        CLAIM(it_is_opened_as_often_as_it_takes),
        CLAIM(it_is_not_open_again_before_it_can_sync),
        CLAIM(close_while_broken_answers_what_is_queued),
        CLAIM(no_dot_is_issued_twice_after_a_failed_write),
        CLAIM(renew_draws_a_new_incarnation),
        CLAIM(a_corrupt_copy_is_not_written_over),
        CLAIM(what_a_majority_holds_mends_a_corrupt_copy),
        CLAIM(a_merge_spares_a_corrupt_copy),
        CLAIM(a_corrupt_scan_has_no_rows),
        CLAIM(a_check_reads_all_that_is_stored),
        CLAIM(a_check_finds_a_record_that_the_engine_gives_damaged),
        CLAIM(keys_of_others_are_left_out_of_a_scan),
        CLAIM(a_reader_that_finds_it_broken_has_it_reopened),
        CLAIM(a_writer_that_finds_it_broken_has_it_reopened),
        CLAIM(an_engine_that_never_blocks_runs_in_storage_run),
        CLAIM(an_engine_that_keeps_nothing_stays_broken),
        CLAIM(so_does_one_that_may_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
