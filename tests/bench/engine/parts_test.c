/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>

#include "tests/bench/engine/bench.h"

/* What the numbers rest on: that a fill stores each key once. */

void *bench_allocate(size_t size)
{
    return calloc(1, size);
}

static void every_key_has_one_place_in_the_random_order(void **state)
{
    static const uint64_t counts[] = {1, 2, 3, 64, 1000, 65537};
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct keys keys;
        keys_init(&keys, counts[i], 10);
        bool *seen = calloc(counts[i], sizeof *seen);
        assert_non_null(seen);
        for (uint64_t place = 0; place < counts[i]; place++) {
            uint64_t number = keys_shuffled(&keys, place);
            assert_true(number < counts[i]);
            assert_false(seen[number]);
            seen[number] = true;
        }
        free(seen);
        keys_fini(&keys);
    }
}

static void absent_keys_lie_between_those_that_are_there(void **state)
{
    struct key before, absent, after;
    (void)state;
    key_present(&before, 4999999);
    key_absent(&absent, 4999999);
    key_present(&after, 5000000);
    assert_memory_equal(before.digits, "0000000009999998", KEY_BYTES);
    assert_true(bytes_compare(key_bytes(&before), key_bytes(&absent)) < 0);
    assert_true(bytes_compare(key_bytes(&absent), key_bytes(&after)) < 0);
}

static void a_value_is_told_from_others(void **state)
{
    struct keys keys;
    (void)state;
    keys_init(&keys, 1000, 100);
    struct bytes value = keys_value(&keys, 1);
    assert_true(keys_value_is(&keys, 1, value));
    assert_false(keys_value_is(&keys, 2, value));
    assert_false(keys_value_is(&keys, 1, bytes_of(value.data, 99)));
    keys_fini(&keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_has_one_place_in_the_random_order),
        cmocka_unit_test(absent_keys_lie_between_those_that_are_there),
        cmocka_unit_test(a_value_is_told_from_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
