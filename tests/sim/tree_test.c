/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tree.h"

/* What the simulator sees of a tree has to be true, or it proves nothing. */

static struct tree *tree;
static struct disk_table table; /* what must be there */
static struct disk_changes changes;

static int setup(void **state)
{
    (void)state;
    tree = tree_new(1);
    return tree_open(tree, NULL) == STATUS_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    tree_free(tree);
    disk_table_fini(&table);
    disk_changes_fini(&changes);
    return 0;
}

static void change(const char *key, const char *value)
{
    disk_changes_add(&changes, bytes_of_string(key), bytes_of_string(value),
                     value[0] == '\0');
}

static void must_hold(void)
{
    for (size_t i = 0; i < changes.count; i++)
        disk_table_apply(&table, &changes.list[i], 0);
    disk_changes_clear(&changes);
}

static void hold(void)
{
    assert_int_equal(tree_write(tree, &changes, true), STATUS_OK);
    must_hold();
}

/* In both directions, which the seed draws. */
static void expect_all(bool expected)
{
    for (int i = 0; i < 10; i++) {
        bool same;
        assert_int_equal(tree_has_all(tree, &table, &same), STATUS_OK);
        assert_int_equal(same, expected);
    }
}

static bool has(const char *key, const char *value)
{
    bool same;
    assert_int_equal(
        tree_has(tree, bytes_of_string(key), bytes_of_string(value), &same),
        STATUS_OK);
    return same;
}

static void holding_the_same_is_seen(void **state)
{
    (void)state;
    expect_all(true);
    change("a", "1");
    change("b", "2");
    change("c", "3");
    change("b", "");
    hold();
    expect_all(true);
    assert_true(has("a", "1"));
    assert_true(has("b", ""));
}

static void a_key_that_is_missing_is_seen(void **state)
{
    (void)state;
    change("a", "1");
    hold();
    change("b", "2");
    must_hold();
    expect_all(false);
    assert_false(has("b", "2"));
}

static void another_value_is_seen(void **state)
{
    (void)state;
    change("a", "1");
    hold();
    change("a", "2");
    must_hold();
    expect_all(false);
    assert_false(has("a", "2"));
}

static void a_key_that_came_back_is_seen(void **state)
{
    (void)state;
    change("a", "1");
    change("b", "2");
    hold();
    change("b", "");
    must_hold();
    expect_all(false);
    assert_false(has("b", ""));
}

static void only_the_range_that_is_asked_for_counts(void **state)
{
    (void)state;
    bool same;
    change("a", "1");
    change("b", "2");
    change("c", "3");
    hold();
    struct bytes from = bytes_of_string("b"), to = bytes_of_string("c");
    assert_int_equal(tree_has_range(tree, from, to, &table, 1, 1, &same),
                     STATUS_OK);
    assert_true(same);
    assert_int_equal(tree_has_range(tree, from, to, &table, 1, 2, &same),
                     STATUS_OK);
    assert_false(same);
    assert_int_equal(tree_has_range(tree, from, to, &table, 0, 1, &same),
                     STATUS_OK);
    assert_false(same);
}

/* Also where its own calls are cut, at which the writer does not stop. */
static void a_cut_of_the_power_undoes_what_follows_it(void **state)
{
    (void)state;
    int undone = 0, kept = 0;
    change("a", "0");
    hold();
    for (int i = 0; i < 100; i++) {
        change("a", i % 2 == 0 ? "1" : "0");
        tree_cut_soon(tree);
        assert_int_equal(tree_write(tree, &changes, true), STATUS_OK);
        tree_cut(tree);
        assert_int_equal(tree_open(tree, NULL), STATUS_OK);
        bool same;
        assert_int_equal(tree_has_all(tree, &table, &same), STATUS_OK);
        undone += same;
        kept += !same;
        if (!same)
            must_hold();
        disk_changes_clear(&changes);
        expect_all(true);
    }
    assert_true(undone > 0 && kept > 0);
}

static void a_killed_process_leaves_what_it_had_synced(void **state)
{
    (void)state;
    int failed = 0;
    change("a", "0");
    hold();
    for (int i = 0; i < 100; i++) {
        change("b", i % 2 == 0 ? "1" : "2");
        tree_kill_soon(tree);
        enum status status = tree_write(tree, &changes, true);
        failed += status != STATUS_OK;
        tree_kill(tree);
        assert_int_equal(tree_open(tree, NULL), STATUS_OK);
        assert_true(has("a", "0"));
        if (status == STATUS_OK)
            assert_true(has("b", i % 2 == 0 ? "1" : "2"));
        disk_changes_clear(&changes);
    }
    assert_true(failed > 0);
}

static void ballast_makes_tables(void **state)
{
    (void)state;
    struct disk_changes removals = {0};
    size_t ranges = 0;
    for (int i = 0; i < 300; i++) {
        tree_draw_ballast(tree, 100, &changes, &removals);
        hold();
        if (removals.count == 0)
            continue;
        ranges++;
        assert_int_equal(tree_delete_range(tree, &removals), STATUS_OK);
        for (size_t k = 0; k < removals.count; k++)
            disk_table_apply(&table, &removals.list[k], 0);
        disk_changes_clear(&removals);
    }
    expect_all(true);
    assert_true(tree->tables > 20);
    assert_true(ranges > 0);
    disk_changes_fini(&removals);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(holding_the_same_is_seen),
        TEST(a_key_that_is_missing_is_seen),
        TEST(another_value_is_seen),
        TEST(a_key_that_came_back_is_seen),
        TEST(only_the_range_that_is_asked_for_counts),
        TEST(a_cut_of_the_power_undoes_what_follows_it),
        TEST(a_killed_process_leaves_what_it_had_synced),
        TEST(ballast_makes_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
