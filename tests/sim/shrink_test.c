/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "shrink.h"

/* A failure that needs some faults: these, or those others instead. */
struct cause {
    const uint32_t *these, *others;
    size_t count, other_count;
    uint32_t tries;
};

static bool has_all(const struct fault_set *set, const uint32_t *numbers,
                    size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!fault_set_has(set, numbers[i]))
            return false;
    return true;
}

static bool still_fails(void *context, const struct fault_set *faults)
{
    struct cause *cause = context;
    cause->tries++;
    return has_all(faults, cause->these, cause->count) ||
           (cause->other_count > 0 &&
            has_all(faults, cause->others, cause->other_count));
}

static void expect(struct cause *cause, uint32_t count, const uint32_t *left,
                   size_t left_count)
{
    struct fault_set set = {{0}};
    fault_set_add(&set, 1, count);
    shrink(&set, count, still_fails, cause);
    for (uint32_t i = 1; i <= SHRINK_FAULTS_MAX; i++) {
        bool is_left = false;
        for (size_t k = 0; k < left_count; k++)
            is_left |= left[k] == i;
        assert_int_equal(fault_set_has(&set, i), is_left);
    }
}

static void what_a_failure_needs_is_left(void **state)
{
    (void)state;
    static const uint32_t some[] = {1, 64, 77, 100};
    struct cause cause = {.these = some, .count = 4};
    expect(&cause, 100, some, 4);
    assert_in_range(cause.tries, 5, 200);
}

static void nothing_is_left_where_no_fault_is_needed(void **state)
{
    (void)state;
    struct cause cause = {.count = 0};
    expect(&cause, 100, NULL, 0);
    assert_int_equal(cause.tries, 1);
    expect(&cause, 0, NULL, 0);
}

static void of_two_causes_one_is_left(void **state)
{
    (void)state;
    static const uint32_t these[] = {3, 500}, others[] = {40};
    struct cause cause = {
        .these = these, .count = 2, .others = others, .other_count = 1};
    expect(&cause, SHRINK_FAULTS_MAX, others, 1);
}

static void behind_the_last_there_is_none(void **state)
{
    (void)state;
    struct fault_set set = {{0}};
    fault_set_add(&set, 1, 2 * SHRINK_FAULTS_MAX);
    assert_true(fault_set_has(&set, SHRINK_FAULTS_MAX));
    assert_false(fault_set_has(&set, SHRINK_FAULTS_MAX + 1));
    assert_false(fault_set_has(&set, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_failure_needs_is_left),
        cmocka_unit_test(nothing_is_left_where_no_fault_is_needed),
        cmocka_unit_test(of_two_causes_one_is_left),
        cmocka_unit_test(behind_the_last_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
