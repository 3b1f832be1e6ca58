/* SPDX-License-Identifier: MIT */
#include "tests/engines/hand_version.h"

#include "engines/lsm/compaction.h"

/* Which tables are merged next, from versions made by hand. Tables have 100
 * bytes if nothing else is said, and level 1 is due at 1000. */

enum { LEVEL1_BYTES = 1000 };

static size_t show_tables(char *text, size_t room, struct table *const *tables,
                          size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += (size_t)snprintf(text + size, room - size, " %u",
                                 (unsigned)tables[i]->number);
    return size;
}

/* "0>1: 4 3 2 1 + 7 8", "move 1>2: 5", "remove: 3 9", or "nothing". */
static const char *pick_when(bool quiet)
{
    static char text[HAND_TEXT_MAX];
    struct compaction picked;
    enum status status =
        compaction_pick(hand.version, LEVEL1_BYTES, quiet, &picked);
    if (status == STATUS_NOT_FOUND)
        return "nothing";
    assert_int_equal(status, STATUS_OK);
    size_t size = 0;
    if (picked.remove)
        size += (size_t)snprintf(text, sizeof text, "remove:");
    else
        size += (size_t)snprintf(text, sizeof text,
                                 "%s%u>%u:", picked.move ? "move " : "",
                                 picked.level, picked.output_level);
    size += show_tables(text + size, sizeof text - size, picked.inputs,
                        picked.upper_count);
    if (picked.lower_count > 0) {
        size += (size_t)snprintf(text + size, sizeof text - size, " +");
        show_tables(text + size, sizeof text - size,
                    picked.inputs + picked.upper_count, picked.lower_count);
    }
    compaction_fini(&picked);
    return text;
}

static const char *pick(void)
{
    return pick_when(false);
}

static void level_0_is_due_at_eight_tables_or_two_when_writes_rest(void **state)
{
    (void)state;
    assert_string_equal(pick(), "nothing");
    hand_add(0, "a", "m");
    assert_string_equal(pick_when(true), "nothing");
    for (int i = 2; i < COMPACTION_LEVEL0_TABLES; i++) {
        hand_add(0, "a", "m");
        assert_string_equal(pick(), "nothing");
    }
    hand_add(0, "a", "m");
    assert_string_equal(pick(), "0>1: 8 7 6 5 4 3 2 1");
    assert_string_equal(pick_when(true), "0>1: 8 7 6 5 4 3 2 1");
}

static void level_0_takes_what_any_of_its_tables_overlaps(void **state)
{
    (void)state;
    hand_add(1, "a", "b");
    hand_add(1, "c", "d");
    hand_add(1, "k", "l");
    hand_add(1, "x", "z");
    hand_add(0, "d", "e");
    hand_add(0, "f", "g");
    hand_add(0, "f", "m");
    hand_add(0, "d", "d");
    assert_string_equal(pick_when(true), "0>1: 8 7 6 5 + 2 3");
}

static void tables_of_level_0_that_do_not_overlap_are_moved(void **state)
{
    (void)state;
    hand_add(1, "a", "b");
    hand_add(1, "x", "z");
    hand_add(0, "c", "d");
    hand_add(0, "i", "j");
    hand_add(0, "e", "f");
    hand_add(0, "g", "h");
    assert_string_equal(pick_when(true), "move 0>1: 3 5 6 4");
    hand_add(0, "d", "d");
    assert_string_equal(pick_when(true), "0>1: 7 6 5 4 3");
}

static void another_level_is_due_when_it_reaches_its_bytes(void **state)
{
    (void)state;
    struct table *table = hand_add(1, "a", "c");
    hand_resize(table, 1, LEVEL1_BYTES - 1);
    assert_string_equal(pick(), "nothing");
    hand_resize(table, 1, LEVEL1_BYTES);
    assert_string_equal(pick(), "move 1>2: 1");
    struct table *deep = hand_add(4, "a", "c");
    hand_resize(table, 1, 1);
    hand_resize(deep, 4, 1000 * LEVEL1_BYTES - 1);
    assert_string_equal(pick(), "nothing");
    hand_resize(deep, 4, 1000 * LEVEL1_BYTES);
    assert_string_equal(pick(), "move 4>5: 2");
}

static void the_level_furthest_over_goes_first(void **state)
{
    (void)state;
    struct table *first = hand_add(1, "a", "c");
    struct table *second = hand_add(2, "m", "p");
    for (int i = 0; i < 12; i++)
        hand_add(0, "x", "z");
    hand_resize(first, 1, 2 * LEVEL1_BYTES);
    hand_resize(second, 2, 30 * LEVEL1_BYTES);
    assert_string_equal(pick(), "move 2>3: 2");
    hand_resize(second, 2, 15 * LEVEL1_BYTES);
    assert_string_equal(pick(), "move 1>2: 1");
    hand_resize(first, 1, LEVEL1_BYTES);
    hand_resize(second, 2, LEVEL1_BYTES);
    assert_string_equal(pick(), "0>1: 14 13 12 11 10 9 8 7 6 5 4 3");
}

static void the_last_level_is_never_due(void **state)
{
    (void)state;
    struct table *table = hand_add(LEVELS - 1, "a", "c");
    hand_resize(table, LEVELS - 1, UINT64_MAX / 2);
    assert_string_equal(pick(), "nothing");
}

static void the_table_goes_down_that_takes_least_with_it(void **state)
{
    (void)state;
    struct table *wide = hand_add(1, "a", "c");
    struct table *narrow = hand_add(1, "f", "h");
    struct table *large = hand_add(1, "m", "p");
    struct table *under = hand_add(2, "b", "b");
    hand_add(2, "c", "d");
    hand_add(2, "g", "g");
    hand_add(2, "n", "o");
    hand_resize(wide, 1, 400);
    hand_resize(narrow, 1, 300);
    hand_resize(large, 1, 300);
    /* 2 of 4, 1 of 3 and 1 of 3: the first of equals. */
    assert_string_equal(pick(), "1>2: 2 + 6");
    hand_resize(large, 1, 600);
    assert_string_equal(pick(), "1>2: 3 + 7");
    hand_resize(wide, 1, 4000);
    assert_string_equal(pick(), "1>2: 1 + 4 5");
    hand_resize(under, 2, 4000);
    assert_string_equal(pick(), "1>2: 3 + 7");
    hand_add(1, "x", "z");
    assert_string_equal(pick(), "move 1>2: 8");
}

static void damage_in_level_0_stops_it_and_no_other(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++)
        hand_add(0, "a", "c");
    struct table *table = hand_add(1, "m", "p");
    hand_resize(table, 1, LEVEL1_BYTES);
    assert_string_equal(pick(), "0>1: 16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1");
    /* Those that came since are merged with each other. */
    hand.tables[3].damaged = true;
    assert_string_equal(pick(), "0>0: 16 15 14 13 12 11 10 9 8 7 6 5 4");
    hand_resize(&hand.tables[9], 0, 1000);
    assert_string_equal(pick(), "move 1>2: 17");
    hand_resize(table, 1, 1);
    assert_string_equal(pick(), "nothing");
}

static void a_damaged_table_stays_and_those_beside_it_go(void **state)
{
    (void)state;
    hand_add(1, "a", "c")->damaged = true;
    struct table *other = hand_add(1, "f", "h");
    hand_add(2, "f", "g");
    hand_resize(other, 1, LEVEL1_BYTES);
    assert_string_equal(pick(), "1>2: 2 + 3");
    other->damaged = true;
    assert_string_equal(pick(), "nothing");
}

static void a_damaged_table_holds_up_what_lies_over_it(void **state)
{
    (void)state;
    struct table *over = hand_add(1, "a", "c");
    hand_add(1, "f", "h");
    hand_add(2, "b", "b")->damaged = true;
    hand_add(2, "f", "h");
    hand_resize(over, 1, LEVEL1_BYTES);
    assert_string_equal(pick(), "1>2: 2 + 4");
    for (int i = 0; i < 16; i++)
        hand_add(0, "f", "h");
    assert_string_equal(pick(),
                        "0>1: 20 19 18 17 16 15 14 13 12 11 10 9 8 7 6 5 + 2");
    hand.tables[2].damaged = true;
    assert_string_equal(pick(),
                        "0>0: 20 19 18 17 16 15 14 13 12 11 10 9 8 7 6 5");
    hand.tables[14].damaged = true;
    assert_string_equal(pick(), "nothing");
}

static void what_a_drop_covers_is_removed_at_once(void **state)
{
    (void)state;
    hand_add(3, "c", "d")->damaged = true;
    hand_add(3, "e", "f");
    hand_add(1, "c", "e");
    hand_add(0, "d", "d");
    hand_add(0, "a", "z")->drops_applied = 10;
    hand_drop("c", "f", 10);
    assert_string_equal(pick(), "remove: 4 3 1");
}

static void a_drop_without_an_end_covers_all_behind_it(void **state)
{
    (void)state;
    hand_add(1, "a", "b");
    hand_add(1, "c", "d");
    hand_add(1, "x", "z");
    hand_drop("c", "", 10);
    assert_string_equal(pick(), "remove: 2 3");
}

static void tables_that_knew_a_drop_are_left_alone(void **state)
{
    (void)state;
    hand_add(1, "c", "d")->drops_applied = 10;
    hand_add(2, "a", "z")->drops_applied = 11;
    hand_drop("a", "", 10);
    assert_string_equal(pick(), "nothing");
    hand_drop("d", "e", 11);
    assert_string_equal(pick(), "1>1: 1");
}

static void what_a_drop_touches_is_written_anew_in_its_level(void **state)
{
    (void)state;
    hand_add(2, "a", "c");
    hand_add(2, "f", "h");
    hand_add(3, "b", "g")->damaged = true;
    hand_add(4, "d", "e");
    hand_drop("c", "f", 10);
    assert_string_equal(pick(), "remove: 4");
    struct table *covered = &hand.tables[4];
    struct version_edit edit = {.removed = &covered, .removed_count = 1};
    hand_apply(&edit, 0);
    assert_string_equal(pick(), "2>2: 1");
    hand.tables[1].drops_applied = 10;
    assert_string_equal(pick(), "nothing");
    hand_drop("g", "k", 20);
    assert_string_equal(pick(), "2>2: 2");
}

static void touched_tables_of_level_0_go_down_together(void **state)
{
    (void)state;
    hand_add(1, "a", "b");
    hand_add(1, "x", "z");
    hand_add(0, "a", "f");
    hand_add(0, "g", "k");
    hand_drop("c", "d", 10);
    assert_string_equal(pick(), "0>1: 4 3 + 1");
    hand.tables[4].damaged = true;
    assert_string_equal(pick(), "nothing");
}

static void damage_below_level_0_holds_up_no_other_drop(void **state)
{
    (void)state;
    hand_add(1, "a", "b")->damaged = true;
    hand_add(2, "c", "f");
    hand_add(0, "a", "f");
    hand_drop("d", "e", 10);
    assert_string_equal(pick(), "2>2: 2");
}

static void a_level_that_is_due_comes_before_drops(void **state)
{
    (void)state;
    struct table *table = hand_add(1, "m", "p");
    hand_add(2, "a", "c");
    hand_drop("b", "d", 10);
    hand_resize(table, 1, LEVEL1_BYTES);
    assert_string_equal(pick(), "move 1>2: 1");
    hand_resize(table, 1, 1);
    assert_string_equal(pick(), "2>2: 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HAND_CASE(level_0_is_due_at_eight_tables_or_two_when_writes_rest),
        HAND_CASE(level_0_takes_what_any_of_its_tables_overlaps),
        HAND_CASE(tables_of_level_0_that_do_not_overlap_are_moved),
        HAND_CASE(another_level_is_due_when_it_reaches_its_bytes),
        HAND_CASE(the_level_furthest_over_goes_first),
        HAND_CASE(the_last_level_is_never_due),
        HAND_CASE(the_table_goes_down_that_takes_least_with_it),
        HAND_CASE(damage_in_level_0_stops_it_and_no_other),
        HAND_CASE(a_damaged_table_stays_and_those_beside_it_go),
        HAND_CASE(a_damaged_table_holds_up_what_lies_over_it),
        HAND_CASE(what_a_drop_covers_is_removed_at_once),
        HAND_CASE(a_drop_without_an_end_covers_all_behind_it),
        HAND_CASE(tables_that_knew_a_drop_are_left_alone),
        HAND_CASE(what_a_drop_touches_is_written_anew_in_its_level),
        HAND_CASE(touched_tables_of_level_0_go_down_together),
        HAND_CASE(damage_below_level_0_holds_up_no_other_drop),
        HAND_CASE(a_level_that_is_due_comes_before_drops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
