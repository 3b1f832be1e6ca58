/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_tree.h"

#include "tests/sim/random.h"

/* What the LSM engine promises beyond the suites that all engines pass: what
 * flushes, compactions and drops leave, and what they take away. */

static void compaction_reaches_several_levels_and_loses_nothing(void **state)
{
    (void)state;
    enum { KEYS = 2500, WRITES = 5000 };
    struct randomness random = {1};
    tree_open();
    for (int i = 0; i < WRITES; i++)
        tree_put((unsigned)random_below(&random, KEYS));
    tree_settle();
    assert_true(tree_levels() >= 3);
    assert_true(tree_tables(0) < 4);
    tree_check();
    tree_reopen();
    tree_check();
}

static void keys_survive_ten_restarts_between_compactions(void **state)
{
    (void)state;
    enum { KEYS = 400 };
    struct randomness random = {2};
    for (int round = 0; round < 10; round++) {
        tree_open();
        tree_check();
        for (int i = 0; i < KEYS; i++)
            tree_put((unsigned)random_below(&random, KEYS));
        for (int i = 0; i < KEYS / 8; i++)
            tree_remove((unsigned)random_below(&random, KEYS));
        tree_close();
    }
    tree_open();
    tree_check();
}

static void overwritten_entries_leave_the_disk(void **state)
{
    (void)state;
    enum { KEYS = 300, ROUNDS = 20 };
    tree_open();
    for (int i = 0; i < ROUNDS; i++)
        tree_put_all(0, KEYS);
    tree_settle();
    struct engine_stats stats = tree_stats();
    uint64_t once = KEYS * (7 + tree.value_bytes);
    assert_int_equal(stats.user_bytes, ROUNDS * once);
    assert_true(stats.keys <= 2 * KEYS);
    assert_true(stats.disk_bytes < 3 * once);
    assert_true(stats.live_bytes <= once);
    tree_check();
}

static void removed_entries_leave_the_disk_and_so_do_removals(void **state)
{
    (void)state;
    enum { KEYS = 300, ROUNDS = 20 };
    tree_open();
    for (int i = 0; i < ROUNDS; i++) {
        tree_put_all(0, KEYS);
        for (unsigned j = 0; j < KEYS; j++)
            tree_remove(j);
    }
    tree_settle();
    /* Of all rounds no more is left than of two. */
    struct engine_stats stats = tree_stats();
    assert_true(stats.keys <= 2 * KEYS);
    assert_true(stats.disk_bytes < 2 * stats.user_bytes / ROUNDS);
    tree_check();
}

static void keys_in_order_are_written_to_tables_once(void **state)
{
    (void)state;
    enum { KEYS = 2000 };
    tree_open();
    tree_put_all(0, KEYS);
    tree_settle();
    struct engine_stats stats = tree_stats();
    assert_true(tree_levels() >= 2);
    /* To a log and to a table, each with a tenth of its own on top. */
    assert_true(stats.stored_bytes < stats.user_bytes * 26 / 10);
    tree_check();
}

static void iterators_hold_their_snapshot(void **state)
{
    (void)state;
    enum { KEYS = 400 };
    static unsigned rounds[TREE_KEYS_MAX];
    tree_open();
    tree_put_all(0, KEYS);
    tree_settle();
    tree_put_all(100, 150); /* of which some are in no table */
    tree_drop(200, 220);
    tree_remove(7);
    memcpy(rounds, tree.rounds, sizeof rounds);
    struct engine_iterator *forward = tree_iterate(0, KEYS, ENGINE_FORWARD);
    struct engine_iterator *backward = tree_iterate(0, KEYS, ENGINE_BACKWARD);
    struct engine_iterator *middle = tree_iterate(90, 230, ENGINE_FORWARD);
    for (int i = 0; i < 3; i++) {
        tree_put_all(0, KEYS);
        tree_drop(50, 350);
        tree_settle();
    }
    tree_drop(0, KEYS);
    tree_settle();
    assert_int_equal(tree_levels(), 0);
    tree_expect_rest(forward, 0, KEYS, ENGINE_FORWARD, rounds);
    tree_expect_rest(backward, 0, KEYS, ENGINE_BACKWARD, rounds);
    tree_expect_rest(middle, 90, 230, ENGINE_FORWARD, rounds);
    engine_iterator_free(forward);
    engine_iterator_free(backward);
    engine_iterator_free(middle);
    tree_check();
}

/* Keys in deeper levels, in level 0 and in the memtable. */
static void fill_everywhere(unsigned keys)
{
    for (int i = 0; i < 4; i++)
        tree_put_all(0, keys);
    tree_settle();
    assert_true(tree_levels() >= 2);
    for (unsigned i = 0; tree_tables(0) == 0; i += 3)
        tree_put(i % keys);
    for (unsigned i = 1; i < keys; i += keys / 20)
        tree_put(i);
    assert_true(tree_tables(0) > 0);
    assert_true(memtable_count(lsm_of(tree.engine)->active) > 0);
}

static void a_drop_reaches_every_part_of_the_tree(void **state)
{
    (void)state;
    enum { KEYS = 600 };
    tree_open();
    fill_everywhere(KEYS);
    tree_drop(100, 500);
    tree_check();
    tree_put(300);
    tree_put(499);
    tree_check();
    tree_reopen();
    tree_check();
    tree_settle();
    tree_check();
    tree_drop(300, 301);
    tree_drop(0, 10);
    tree_check();
    tree_settle();
    tree_reopen();
    tree_check();
}

static void a_drop_without_bounds_empties_the_store(void **state)
{
    (void)state;
    enum { KEYS = 600 };
    tree_open();
    fill_everywhere(KEYS);
    assert_int_equal(
        engine_delete_range(tree.engine, (struct bytes){0}, (struct bytes){0}),
        STATUS_OK);
    memset(tree.rounds, 0, sizeof tree.rounds);
    tree_check();
    tree_settle();
    /* What was in the memtable became a table of removals. */
    assert_true(tree_files(".table", TREE_FIRST, NULL) <= 1);
    assert_int_equal(tree_stats().keys, 0);
    assert_int_equal(tree_drops(), 0);
    tree_reopen();
    tree_check();
}

/* Calls of the disk that a drop of everything takes. */
static uint64_t calls_of_drop(unsigned keys)
{
    fill_everywhere(keys);
    uint64_t before = memory_disk_counts(tree.memory).calls;
    tree_drop(0, keys);
    return memory_disk_counts(tree.memory).calls - before;
}

static void a_drop_costs_the_same_for_few_tables_and_for_many(void **state)
{
    (void)state;
    tree_open();
    uint64_t few = calls_of_drop(300);
    size_t tables = tree_files(".table", TREE_FIRST, NULL);
    uint64_t many = calls_of_drop(2400);
    assert_true(tree_files(".table", TREE_FIRST, NULL) > 4 * tables);
    assert_int_equal(many, few);
    tree_check();
}

static void dropped_tables_vanish_and_the_drop_is_forgotten(void **state)
{
    (void)state;
    enum { KEYS = 1200 };
    tree_open();
    fill_everywhere(KEYS);
    tree_settle();
    size_t tables = tree_files(".table", TREE_FIRST, NULL);
    tree_drop(KEYS / 4, KEYS);
    assert_int_equal(tree_drops(), 1);
    tree_settle();
    assert_int_equal(tree_drops(), 0);
    assert_true(tree_files(".table", TREE_FIRST, NULL) < tables / 2);
    tree_check();
    tree_reopen();
    assert_int_equal(tree_drops(), 0);
    tree_check();
}

static void a_drop_lasts_while_the_tables_that_need_it_do(void **state)
{
    (void)state;
    tree_open();
    tree_put_all(0, 30);
    tree_settle();
    tree_drop(10, 20);
    assert_int_equal(tree_drops(), 1);
    tree_crash(MEMORY_NOTHING);
    tree_open();
    assert_int_equal(tree_drops(), 1);
    tree_check();
    tree_settle();
    assert_int_equal(tree_drops(), 0);
    tree_check();
}

static void drops_do_not_pile_up_while_little_is_written(void **state)
{
    (void)state;
    tree_open();
    for (unsigned i = 0; i < 1000; i++) {
        if (i % 100 == 0)
            tree_put(4000);
        tree_drop(i, i + 1);
        assert_true(tree_drops() <= 65);
    }
    assert_true(tree_tables(0) <= 1000 / 64);
    tree_reopen();
    tree_check();
}

static void a_drop_syncs_what_was_written_before(void **state)
{
    (void)state;
    tree_open();
    tree_put_all(0, 10);
    tree_drop(2, 4);
    tree_crash(MEMORY_NOTHING);
    tree_open();
    tree_check();
}

static void an_empty_batch_syncs_what_came_before(void **state)
{
    (void)state;
    tree_open();
    tree_put_all(0, 100); /* over several logs */
    tree_sync();
    unsigned round = tree.rounds[50];
    tree_put(50);
    tree_crash(MEMORY_NOTHING);
    tree.rounds[50] = round;
    tree_open();
    tree_check();
}

struct log_calls {
    unsigned made, recycled;
};

static void count_logs(void *context, enum memory_call call, const char *name)
{
    struct log_calls *calls = context;
    if (strstr(name, ".log") == NULL)
        return;
    calls->made += call == MEMORY_CREATE;
    calls->recycled += call == MEMORY_RENAME;
}

static void rotations_use_the_files_of_old_logs_again(void **state)
{
    (void)state;
    enum { ROTATIONS = 100 };
    struct log_calls calls = {0};
    tree_open();
    memory_disk_watch(tree.memory, count_logs, &calls);
    uint64_t bytes = 0;
    for (int i = 0; i < ROTATIONS; i++) {
        tree_put_all(0, 50);
        tree_sync();
        size_t files = tree_files(".log", TREE_FIRST, NULL);
        assert_true(files <= 3);
        if (i == 10)
            bytes = memory_disk_counts(tree.memory).bytes_stored;
    }
    assert_true(calls.made <= 3);
    assert_true(calls.recycled >= ROTATIONS / 2);
    assert_true(memory_disk_counts(tree.memory).bytes_stored <= 2 * bytes);
    memory_disk_watch(tree.memory, NULL, NULL);
    tree_check();
    tree_reopen();
    tree_check();
}

static uint64_t longest_log(void)
{
    char name[MEMORY_NAME_MAX];
    uint64_t longest = 0;
    assert_true(tree_files(".log", TREE_FIRST, name) <= 2);
    for (int which = TREE_FIRST; which <= TREE_LAST; which++) {
        tree_files(".log", (enum tree_which)which, name);
        uint64_t bytes = memory_disk_file_bytes(tree.memory, name);
        longest = bytes > longest ? bytes : longest;
    }
    return longest;
}

static void a_log_that_became_huge_is_not_used_again(void **state)
{
    (void)state;
    enum { HUGE_BYTES = 1 << 20 };
    for (int restarted = 0; restarted < 2; restarted++) {
        tree_open();
        tree.value_bytes = HUGE_BYTES;
        tree_put(0);
        assert_true(longest_log() >= HUGE_BYTES);
        if (restarted)
            tree_reopen();
        tree.value_bytes = 100;
        for (int i = 0; i < 3; i++) {
            tree_put_all(0, 50);
            tree_settle();
        }
        assert_true(longest_log() < HUGE_BYTES);
        tree_check();
        tree_close();
    }
}

static void no_file_is_left_of_tables_that_were_compacted(void **state)
{
    (void)state;
    tree_open();
    for (int i = 0; i < 10; i++)
        tree_put_all(0, 300);
    tree_settle();
    size_t tables = 0;
    for (unsigned i = 0; i < LEVELS; i++)
        tables += tree_tables(i);
    assert_int_equal(tree_files(".table", TREE_FIRST, NULL), tables);
    assert_int_equal(tree_files(".next", TREE_FIRST, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_CASE(compaction_reaches_several_levels_and_loses_nothing),
        TREE_CASE(keys_survive_ten_restarts_between_compactions),
        TREE_CASE(overwritten_entries_leave_the_disk),
        TREE_CASE(removed_entries_leave_the_disk_and_so_do_removals),
        TREE_CASE(keys_in_order_are_written_to_tables_once),
        TREE_CASE(iterators_hold_their_snapshot),
        TREE_CASE(a_drop_reaches_every_part_of_the_tree),
        TREE_CASE(a_drop_without_bounds_empties_the_store),
        TREE_CASE(a_drop_costs_the_same_for_few_tables_and_for_many),
        TREE_CASE(dropped_tables_vanish_and_the_drop_is_forgotten),
        TREE_CASE(a_drop_lasts_while_the_tables_that_need_it_do),
        TREE_CASE(drops_do_not_pile_up_while_little_is_written),
        TREE_CASE(a_drop_syncs_what_was_written_before),
        TREE_CASE(an_empty_batch_syncs_what_came_before),
        TREE_CASE(rotations_use_the_files_of_old_logs_again),
        TREE_CASE(a_log_that_became_huge_is_not_used_again),
        TREE_CASE(no_file_is_left_of_tables_that_were_compacted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
