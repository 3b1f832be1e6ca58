/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "engines/lsm/run.h"

static void add(struct run *run, struct bytes key, uint64_t sequence,
                const char *value)
{
    struct entry entry = {
        .key = key,
        .value = value == NULL ? (struct bytes){0} : bytes_of_string(value),
        .sequence = sequence,
        .removed = value == NULL,
    };
    assert_int_equal(run_add(run, &entry), STATUS_OK);
}

static void expect(const struct run *run, size_t at, struct bytes key,
                   uint64_t sequence, const char *value)
{
    struct entry entry = run_entry(run, at);
    assert_true(bytes_equal(entry.key, key));
    assert_int_equal(entry.sequence, sequence);
    assert_int_equal(entry.removed, value == NULL);
    assert_true(bytes_equal(entry.value, value == NULL
                                             ? (struct bytes){0}
                                             : bytes_of_string(value)));
}

static void versions_of_a_key_come_newest_first(void **state)
{
    (void)state;
    struct run run = {0};
    run_sort(&run);
    add(&run, bytes_of_string("b"), 1, "old");
    add(&run, bytes_of_string("a"), 2, "");
    add(&run, bytes_of_string("b"), 3, NULL);
    add(&run, bytes_of_string("b"), 4, "new");
    run_sort(&run);
    assert_int_equal(run.count, 4);
    expect(&run, 0, bytes_of_string("a"), 2, "");
    expect(&run, 1, bytes_of_string("b"), 4, "new");
    expect(&run, 2, bytes_of_string("b"), 3, NULL);
    expect(&run, 3, bytes_of_string("b"), 1, "old");
    run_fini(&run);
}

/* Zeros count as bytes, and a prefix is before what it begins, wherever the
 * keys part: before the eight bytes that are compared first, in them, at their
 * end or behind. */
static void keys_come_bytewise(void **state)
{
    (void)state;
    static const char *const tails[] = {"",     "\0",     "\0\0",    "\0\1",
                                        "\1",   "\1\0",   "\x7f",    "\x80",
                                        "\xff", "\xff\0", "\xff\xff"};
    static const size_t sizes[] = {0, 1, 2, 2, 1, 2, 1, 1, 1, 2, 2};
    enum { TAILS = sizeof sizes / sizeof sizes[0], SHARED_MAX = 20 };
    for (size_t shared = 0; shared <= SHARED_MAX; shared++) {
        struct run run = {0};
        uint8_t keys[TAILS][SHARED_MAX + 2];
        memset(keys, 'k', sizeof keys);
        for (size_t i = TAILS; i-- > 0;) {
            memcpy(keys[i] + shared, tails[i], sizes[i]);
            add(&run, bytes_of(keys[i], shared + sizes[i]), 100 - i, "value");
        }
        /* Parting early, so that the others have much in common behind. */
        add(&run, bytes_of("k", 1), 1000, NULL);
        run_sort(&run);
        size_t at = 0;
        for (size_t i = 0; i < TAILS; i++) {
            struct bytes key = bytes_of(keys[i], shared + sizes[i]);
            while (at < run.count && run_entry(&run, at).sequence == 1000)
                at++;
            expect(&run, at++, key, 100 - i, "value");
        }
        for (size_t i = 1; i < run.count; i++) {
            struct entry a = run_entry(&run, i - 1), b = run_entry(&run, i);
            int order = bytes_compare(a.key, b.key);
            assert_true(order < 0 || (order == 0 && a.sequence > b.sequence));
        }
        run_fini(&run);
    }
}

static void a_cleared_run_is_filled_anew(void **state)
{
    (void)state;
    struct run run = {0};
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 1000; i++) {
            uint64_t key = __builtin_bswap64(i * 7919 % 1000);
            add(&run, bytes_of(&key, sizeof key), round * 1000 + i + 1, "v");
        }
        assert_true(run_size(&run) > 1000 * sizeof(uint64_t));
        run_sort(&run);
        for (uint64_t i = 0; i < 1000; i++) {
            uint64_t key = __builtin_bswap64(i);
            assert_true(bytes_equal(run_entry(&run, i).key,
                                    bytes_of(&key, sizeof key)));
        }
        run_clear(&run);
        assert_int_equal(run_size(&run), 0);
    }
    run_fini(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_of_a_key_come_newest_first),
        cmocka_unit_test(keys_come_bytewise),
        cmocka_unit_test(a_cleared_run_is_filled_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
