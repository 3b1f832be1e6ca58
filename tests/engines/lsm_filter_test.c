/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "engines/lsm/coding.h"
#include "engines/lsm/filter.h"

static uint64_t hash_of(uint64_t number)
{
    return key_hash(bytes_of(&number, sizeof number));
}

static uint8_t *filter_of(uint64_t keys, size_t *size)
{
    *size = filter_bytes(keys);
    uint8_t *data = calloc(1, *size);
    assert_non_null(data);
    for (uint64_t i = 0; i < keys; i++)
        filter_add(data, *size, hash_of(i));
    return data;
}

static void size_is_whole_lines_of_ten_bits_a_key(void **state)
{
    (void)state;
    assert_int_equal(filter_bytes(0), 64);
    assert_int_equal(filter_bytes(1), 64);
    assert_int_equal(filter_bytes(51), 64);
    assert_int_equal(filter_bytes(52), 128);
    assert_int_equal(filter_bytes(1024), 1280);
    assert_int_equal(filter_bytes(UINT64_C(1) << 33), (UINT64_C(10) << 33) / 8);
}

static void no_key_that_was_added_is_denied(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 2, 51, 52, 1000, 200000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t size;
        uint8_t *data = filter_of(counts[i], &size);
        for (uint64_t j = 0; j < counts[i]; j++)
            assert_true(filter_may_contain(data, size, hash_of(j)));
        free(data);
    }
}

static void an_empty_filter_denies_every_key(void **state)
{
    (void)state;
    uint8_t line[FILTER_LINE_BYTES] = {0};
    for (uint64_t i = 0; i < 1000; i++)
        assert_false(filter_may_contain(line, sizeof line, hash_of(i)));
}

static void fewer_than_three_absent_keys_in_two_hundred_pass(void **state)
{
    (void)state;
    enum { KEYS = 100000, ABSENT = 400000 };
    size_t size;
    uint8_t *data = filter_of(KEYS, &size);
    unsigned passed = 0;
    for (uint64_t i = 0; i < ABSENT; i++)
        passed += filter_may_contain(data, size, hash_of(KEYS + i));
    free(data);
    print_message("%u of %u absent keys pass\n", passed, (unsigned)ABSENT);
    assert_true(passed < ABSENT * 3 / 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_is_whole_lines_of_ten_bits_a_key),
        cmocka_unit_test(no_key_that_was_added_is_denied),
        cmocka_unit_test(an_empty_filter_denies_every_key),
        cmocka_unit_test(fewer_than_three_absent_keys_in_two_hundred_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
