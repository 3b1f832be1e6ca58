/* SPDX-License-Identifier: MIT */
#include "tests/engines/hand_version.h"

/* What a version says of its tables and drops, and how one becomes another. */

/* "0: 3 2 1, 2: 4": the levels that have tables. */
static const char *show(void)
{
    static char text[HAND_TEXT_MAX];
    size_t size = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < LEVELS; i++) {
        const struct level *level = &hand.version->levels[i];
        if (level->count > 0)
            size += (size_t)snprintf(text + size, sizeof text - size,
                                     "%s%u:", size > 0 ? ", " : "", i);
        for (size_t j = 0; j < level->count; j++)
            size += (size_t)snprintf(text + size, sizeof text - size, " %u",
                                     (unsigned)level->tables[j]->number);
    }
    return text;
}

static void level_0_has_its_newest_table_in_front(void **state)
{
    (void)state;
    hand_add(0, "m", "p");
    hand_add(0, "a", "z");
    hand_add(0, "c", "d");
    assert_string_equal(show(), "0: 3 2 1");
}

static void other_levels_are_in_key_order_whatever_comes_first(void **state)
{
    (void)state;
    hand_add(2, "m", "p");
    hand_add(2, "x", "z");
    hand_add(2, "a", "c");
    hand_add(2, "d", "f");
    assert_string_equal(show(), "2: 3 4 1 2");
    assert_int_equal(hand.version->levels[2].bytes, 400);
    assert_int_equal(hand.version->levels[1].count, 0);
}

static void a_compaction_replaces_its_tables(void **state)
{
    (void)state;
    struct table *a = hand_add(1, "a", "c");
    hand_add(1, "d", "f");
    struct table *under = hand_add(2, "a", "b");
    hand_add(2, "k", "m");
    struct table *made[] = {hand_table("a", "a"), hand_table("b", "c")};
    struct table *removed[] = {a, under};
    struct version_edit edit = {
        .removed = removed,
        .removed_count = 2,
        .added = made,
        .added_count = 2,
        .added_level = 2,
    };
    hand_apply(&edit, 0);
    assert_string_equal(show(), "1: 2, 2: 5 6 4");
    assert_int_equal(hand.version->levels[1].bytes, 100);
    assert_int_equal(hand.version->levels[2].bytes, 300);
    assert_int_equal(a->references, 1);
}

static void a_moved_table_is_in_its_new_level_only(void **state)
{
    (void)state;
    struct table *table = hand_add(1, "d", "f");
    hand_add(2, "a", "c");
    hand_add(2, "x", "z");
    struct version_edit edit = {
        .removed = &table,
        .removed_count = 1,
        .added = &table,
        .added_count = 1,
        .added_level = 2,
        .moved = true,
    };
    hand_apply(&edit, 0);
    assert_string_equal(show(), "2: 2 1 3");
}

static void tables_of_a_level_that_overlap_are_out_of_order(void **state)
{
    (void)state;
    hand_add(0, "a", "z");
    hand_add(0, "a", "z");
    hand_add(2, "a", "c");
    hand_add(2, "d", "f");
    assert_true(version_in_order(hand.version));
    hand_add(2, "f", "g");
    assert_false(version_in_order(hand.version));
}

static void a_version_stays_as_it_was(void **state)
{
    (void)state;
    struct table *table = hand_add(1, "a", "c");
    struct version *old = hand.version;
    version_ref(old);
    struct version_edit edit = {.removed = &table, .removed_count = 1};
    hand_apply(&edit, 0);
    assert_string_equal(show(), "");
    assert_int_equal(old->levels[1].count, 1);
    assert_int_equal(table->references, 2);
    version_unref(old);
    assert_int_equal(table->references, 1);
}

/* "2 3": the tables of level 1 that overlap the range. */
static const char *overlap(const char *smallest, const char *largest)
{
    static char text[HAND_TEXT_MAX];
    const struct level *level = &hand.version->levels[1];
    size_t first, count, size = 0;
    version_overlap(level, bytes_of_string(smallest), bytes_of_string(largest),
                    &first, &count);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "%s%u",
                                 i > 0 ? " " : "",
                                 (unsigned)level->tables[first + i]->number);
    return text;
}

static void overlap_counts_both_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *smallest, *largest, *wanted;
    } cases[] = {
        {"a", "b", ""},    {"a", "c", "1"},     {"f", "g", "1"},
        {"g", "g", ""},    {"f", "h", "1 2"},   {"f9", "gz", ""},
        {"i", "n", "2 3"}, {"a", "z", "1 2 3"}, {"n", "n", "3"},
        {"q", "z", ""},    {"hh", "hi", "2"},
    };
    assert_string_equal(overlap("a", "z"), "");
    hand_add(1, "c", "f");
    hand_add(1, "h", "k");
    hand_add(1, "n", "p");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(overlap(cases[i].smallest, cases[i].largest),
                            cases[i].wanted);
}

static void find_gives_the_one_table_that_may_hold_a_key(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        unsigned number; /* 0: none */
    } cases[] = {{"b", 0}, {"c", 1}, {"d", 1}, {"f", 1},  {"f0", 0},
                 {"g", 0}, {"h", 2}, {"k", 2}, {"k1", 0}, {"z", 0}};
    hand_add(1, "c", "f");
    hand_add(1, "h", "k");
    const struct level *levels = hand.version->levels;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct table *found =
            version_find(&levels[1], bytes_of_string(cases[i].key));
        assert_int_equal(found == NULL ? 0 : found->number, cases[i].number);
    }
    assert_null(version_find(&levels[2], bytes_of_string("c")));
}

static bool hides(const char *key, uint64_t sequence)
{
    return version_hides(hand.version, bytes_of_string(key), sequence);
}

static void a_drop_hides_what_is_older_in_its_range(void **state)
{
    (void)state;
    hand_drop("c", "f", 10);
    assert_false(hides("b", 1));
    assert_true(hides("c", 1));
    assert_true(hides("ezz", 9));
    assert_false(hides("e", 10));
    assert_false(hides("e", 11));
    assert_false(hides("f", 1));
    hand_drop("x", "", 20);
    assert_true(hides("x", 19));
    assert_true(hides("zzz", 1));
    assert_false(hides("zzz", 20));
    assert_int_equal(version_last_drop(hand.version), 20);
}

/* With everything up to a sequence in tables; how many drops are left. */
static size_t drops_left(uint64_t flushed_sequence)
{
    struct version_edit nothing = {.moved = false};
    hand_apply(&nothing, flushed_sequence);
    return hand.version->drop_count;
}

static void a_drop_is_kept_while_a_memtable_may_need_it(void **state)
{
    (void)state;
    assert_int_equal(version_last_drop(hand.version), 0);
    hand_drop("c", "f", 10);
    assert_int_equal(drops_left(9), 1);
    assert_true(hides("d", 9));
    assert_int_equal(drops_left(10), 0);
    assert_false(hides("d", 9));
}

static void a_drop_is_kept_while_a_table_in_its_range_is_older(void **state)
{
    (void)state;
    struct table *old = hand_add(3, "a", "c");
    hand_add(3, "f", "h");
    hand_drop("c", "f", 10);
    assert_int_equal(drops_left(100), 1);
    struct table *made = hand_table("a", "c");
    made->drops_applied = 10;
    struct version_edit edit = {
        .removed = &old,
        .removed_count = 1,
        .added = &made,
        .added_count = 1,
        .added_level = 3,
    };
    hand_apply(&edit, 100);
    assert_int_equal(hand.version->drop_count, 0);
}

static void drops_are_forgotten_each_for_itself(void **state)
{
    (void)state;
    hand_add(1, "m", "p");
    hand_drop("a", "c", 10);
    hand_drop("n", "", 20);
    hand_drop("x", "z", 30);
    assert_int_equal(drops_left(5), 3);
    assert_int_equal(drops_left(25), 2);
    assert_true(hides("o", 1));
    assert_false(hides("b", 1));
    assert_int_equal(drops_left(30), 1);
    assert_int_equal(version_last_drop(hand.version), 20);
}

/* Drop the range; how many drops are left then. */
static size_t drops_with(const char *from, const char *to)
{
    hand_drop(from, to, version_last_drop(hand.version) + 10);
    return hand.version->drop_count;
}

static void a_drop_takes_the_place_of_those_it_covers(void **state)
{
    (void)state;
    hand_add(1, "a", "z");
    assert_int_equal(drops_with("c", "f"), 1);
    assert_int_equal(drops_with("c", "e"), 2); /* smaller */
    assert_int_equal(drops_with("d", "h"), 3); /* overlapping */
    assert_int_equal(drops_with("c", "f"), 2); /* equal */
    assert_int_equal(drops_with("m", ""), 3);
    assert_int_equal(drops_with("m", "p"), 4);
    assert_int_equal(drops_with("k", "z"), 4); /* bounded: not the first of m */
    assert_int_equal(drops_with("c", "i"), 3);
    assert_true(hides("g", 79));
    assert_true(hides("zz", 49));
    assert_false(hides("zz", 50));
    assert_int_equal(drops_with("", ""), 1);
    assert_true(hides("a", 89));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HAND_CASE(level_0_has_its_newest_table_in_front),
        HAND_CASE(other_levels_are_in_key_order_whatever_comes_first),
        HAND_CASE(a_compaction_replaces_its_tables),
        HAND_CASE(a_moved_table_is_in_its_new_level_only),
        HAND_CASE(tables_of_a_level_that_overlap_are_out_of_order),
        HAND_CASE(a_version_stays_as_it_was),
        HAND_CASE(overlap_counts_both_bounds),
        HAND_CASE(find_gives_the_one_table_that_may_hold_a_key),
        HAND_CASE(a_drop_hides_what_is_older_in_its_range),
        HAND_CASE(a_drop_is_kept_while_a_memtable_may_need_it),
        HAND_CASE(a_drop_is_kept_while_a_table_in_its_range_is_older),
        HAND_CASE(drops_are_forgotten_each_for_itself),
        HAND_CASE(a_drop_takes_the_place_of_those_it_covers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
