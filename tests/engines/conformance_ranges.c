/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engines/conformance.h"

#include <stdio.h>

static void range_holds_its_first_key_and_not_its_last(void **state)
{
    struct store *store = *state;
    put(store, "b", "2");
    put(store, "a", "1");
    put(store, "bb", "3");
    put(store, "c", "4");
    expect_range(store, "", "", "a=1 b=2 bb=3 c=4 ");
    expect_range(store, "b", "c", "b=2 bb=3 ");
    expect_range(store, "aa", "bb", "b=2 ");
    expect_range(store, "", "b", "a=1 ");
    expect_range(store, "bc", "", "c=4 ");
    expect_range(store, "b", "b", "");
    expect_range(store, "c", "a", "");
    expect_range(store, "d", "", "");
}

static void keys_are_ordered_as_unsigned_bytes(void **state)
{
    struct store *store = *state;
    put(store, "\x80", "2");
    put(store, "\xff", "3");
    put(store, "\x7f", "1");
    expect_range(store, "", "", "\x7f=1 \x80=2 \xff=3 ");
}

static void expect_snapshot(struct store *store, enum engine_order order)
{
    struct bytes key, value;
    bool forward = order == ENGINE_FORWARD;
    put(store, "a", "1");
    put(store, "b", "1");
    put(store, "c", "1");
    put(store, "bb", NULL);
    struct engine_iterator *old = iterate(store, "", "", order);
    put(store, "b", "2");
    assert_int_equal(engine_next(old, &key, &value), STATUS_OK);
    put(store, "a", NULL);
    put(store, "bb", "2");
    put(store, "c", NULL);
    assert_true(bytes_equal(key, bytes_of_string(forward ? "a" : "c")));
    assert_true(bytes_equal(value, bytes_of_string("1")));
    expect_rest(old, order, forward ? "b=1 c=1 " : "a=1 b=1 ");
    expect_range(store, "", "", "b=2 bb=2 ");
    engine_iterator_free(old);
}

static void iterator_sees_its_snapshot_only(void **state)
{
    expect_snapshot(*state, ENGINE_FORWARD);
    expect_snapshot(*state, ENGINE_BACKWARD);
}

/* More than the engine's buffers hold, so that tables are made and merged
 * under the iterators. */
enum { MANY = 700, ROUNDS = 4 };

static void put_many(struct store *store, int round)
{
    char key[16], value[128];
    for (int i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "key%04d", i);
        snprintf(value, sizeof value, "%0100d", round * MANY + i);
        assert_int_equal(store_put(store, key, value, false), STATUS_OK);
    }
}

/* Keys [from, to) with the values of a round. */
static void expect_many(struct engine_iterator *iterator,
                        enum engine_order order, int from, int to, int round)
{
    char wanted_key[16], wanted_value[128];
    struct bytes key, value;
    for (int n = 0; n < to - from; n++) {
        int i = order == ENGINE_FORWARD ? from + n : to - 1 - n;
        snprintf(wanted_key, sizeof wanted_key, "key%04d", i);
        snprintf(wanted_value, sizeof wanted_value, "%0100d", round * MANY + i);
        assert_int_equal(engine_next(iterator, &key, &value), STATUS_OK);
        assert_true(bytes_equal(key, bytes_of_string(wanted_key)));
        assert_true(bytes_equal(value, bytes_of_string(wanted_value)));
    }
}

static void expect_end(struct engine_iterator *iterator)
{
    struct bytes key, value;
    assert_int_equal(engine_next(iterator, &key, &value), STATUS_NOT_FOUND);
    engine_iterator_free(iterator);
}

static void iterators_stand_still_while_all_is_rewritten(void **state)
{
    struct store *store = *state;
    enum { HALF = MANY / 2 };
    put_many(store, 0);
    struct engine_iterator *up = iterate(store, "", "", ENGINE_FORWARD);
    struct engine_iterator *down = iterate(store, "", "", ENGINE_BACKWARD);
    expect_many(up, ENGINE_FORWARD, 0, HALF, 0);
    expect_many(down, ENGINE_BACKWARD, HALF, MANY, 0);
    for (int round = 1; round <= ROUNDS; round++)
        put_many(store, round);
    expect_many(up, ENGINE_FORWARD, HALF, MANY, 0);
    expect_many(down, ENGINE_BACKWARD, 0, HALF, 0);
    expect_end(up);
    expect_end(down);
    down = iterate(store, "key0100", "key0600", ENGINE_BACKWARD);
    expect_many(down, ENGINE_BACKWARD, 100, 600, ROUNDS);
    expect_end(down);
}

/* The key of a number, and its value as of a step; a step of 0: not there. */
static void expect_one(struct store *store, size_t number, uint64_t step)
{
    char key[32], value[32];
    snprintf(key, sizeof key, "key%04zu", number);
    snprintf(value, sizeof value, "%llu", (unsigned long long)step);
    expect_text(store, key, step == 0 ? NULL : value);
}

static void gets_are_right_while_iterators_come_and_go(void **state)
{
    struct store *store = *state;
    struct engine_iterator *open[3] = {NULL};
    uint64_t steps[MANY] = {0}, random = 1;
    for (uint64_t step = 1; step < (uint64_t)10 * MANY; step++) {
        size_t number = store_random(&random) % MANY;
        size_t which = store_random(&random) % 64;
        bool removes = store_random(&random) % 3 == 0;
        char key[32], value[32];
        if (which < 3 && open[which] == NULL) {
            open[which] = iterate(store, "", "", ENGINE_FORWARD);
        } else if (which < 3) {
            engine_iterator_free(open[which]);
            open[which] = NULL;
        }
        snprintf(key, sizeof key, "key%04zu", number);
        snprintf(value, sizeof value, "%llu", (unsigned long long)step);
        assert_int_equal(store_put(store, key, removes ? NULL : value, false),
                         STATUS_OK);
        steps[number] = removes ? 0 : step;
        number = store_random(&random) % MANY;
        expect_one(store, number, steps[number]);
    }
    for (size_t i = 0; i < 3; i++)
        engine_iterator_free(open[i]);
    for (size_t i = 0; i < MANY; i++)
        expect_one(store, i, steps[i]);
}

static void delete_range_holds_its_first_key_and_not_its_last(void **state)
{
    struct store *store = *state;
    const char *const keys[] = {"a", "b", "bb", "c", "d"};
    for (size_t i = 0; i < 5; i++)
        put(store, keys[i], "1");
    delete_range(store, "b", "c");
    expect_range(store, "", "", "a=1 c=1 d=1 ");
    expect_text(store, "b", NULL);
    expect_text(store, "bb", NULL);
    expect_text(store, "c", "1");
    delete_range(store, "bc", "ca");
    expect_range(store, "", "", "a=1 d=1 ");
    delete_range(store, "aa", "");
    expect_range(store, "", "", "a=1 ");
    put(store, "\xff\xff", "1");
    delete_range(store, "", "");
    expect_range(store, "", "", "");
}

static void delete_range_of_nothing_deletes_nothing(void **state)
{
    struct store *store = *state;
    delete_range(store, "", "");
    put(store, "b", "1");
    delete_range(store, "b", "b");
    delete_range(store, "c", "a");
    delete_range(store, "b1", "");
    delete_range(store, "", "b");
    expect_range(store, "", "", "b=1 ");
}

static void what_is_written_after_delete_range_is_there(void **state)
{
    struct store *store = *state;
    put(store, "a", "1");
    put(store, "b", "1");
    put(store, "c", "1");
    delete_range(store, "a", "c");
    put(store, "b", "2");
    put(store, "aa", "2");
    expect_range(store, "", "", "aa=2 b=2 c=1 ");
    expect_text(store, "b", "2");
    delete_range(store, "b", "");
    expect_range(store, "", "", "aa=2 ");
    put(store, "c", "3");
    expect_range(store, "", "", "aa=2 c=3 ");
}

static void iterator_still_sees_what_a_range_deleted(void **state)
{
    struct store *store = *state;
    put_many(store, 0);
    struct engine_iterator *up = iterate(store, "", "", ENGINE_FORWARD);
    struct engine_iterator *down = iterate(store, "", "", ENGINE_BACKWARD);
    expect_many(up, ENGINE_FORWARD, 0, 2, 0);
    delete_range(store, "key0001", "key0699");
    struct engine_iterator *between = iterate(store, "", "", ENGINE_BACKWARD);
    put_many(store, 1);
    delete_range(store, "", "");
    expect_many(up, ENGINE_FORWARD, 2, MANY, 0);
    expect_many(down, ENGINE_BACKWARD, 0, MANY, 0);
    expect_many(between, ENGINE_BACKWARD, 699, MANY, 0);
    expect_many(between, ENGINE_BACKWARD, 0, 1, 0);
    expect_end(up);
    expect_end(down);
    expect_end(between);
    expect_range(store, "", "", "");
}

static void deleted_range_stays_deleted_when_reopened(void **state)
{
    struct store *store = *state;
    put_many(store, 0);
    delete_range(store, "key0001", "key0699");
    expect_text(store, "key0350", NULL);
    assert_int_equal(store_put(store, "key0350", "new", true), STATUS_OK);
    reopen(store);
    expect_range(store, "key0001", "key0699", "key0350=new ");
    expect_text(store, "key0002", NULL);
    struct engine_iterator *up = iterate(store, "", "key0350", ENGINE_FORWARD);
    expect_many(up, ENGINE_FORWARD, 0, 1, 0);
    expect_end(up);
    delete_range(store, "", "");
    reopen(store);
    expect_range(store, "", "", "");
}

int claims_of_ranges(void)
{
    const struct CMUnitTest ranges[] = {
        CLAIM(range_holds_its_first_key_and_not_its_last),
        CLAIM(keys_are_ordered_as_unsigned_bytes),
        CLAIM(iterator_sees_its_snapshot_only),
        CLAIM(iterators_stand_still_while_all_is_rewritten),
        CLAIM(gets_are_right_while_iterators_come_and_go),
        CLAIM(delete_range_holds_its_first_key_and_not_its_last),
        CLAIM(delete_range_of_nothing_deletes_nothing),
        CLAIM(what_is_written_after_delete_range_is_there),
        CLAIM(iterator_still_sees_what_a_range_deleted),
    };
    return cmocka_run_group_tests(ranges, NULL, NULL);
}

int claims_of_lasting_ranges(void)
{
    const struct CMUnitTest lasting[] = {
        CLAIM(deleted_range_stays_deleted_when_reopened),
    };
    return cmocka_run_group_tests(lasting, NULL, NULL);
}
