/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/ids.h"

static void node_ids_do_not_run_together(void **state)
{
    (void)state;
    assert_false(node_id_equal(node_id_of("ab", "c"), node_id_of("a", "bc")));
    assert_true(node_id_equal(node_id_of("ab", "c"), node_id_of("ab", "c")));
    assert_false(node_id_is_zero(node_id_of("", "")));
}

/* Placement on disk and between releases stands on these numbers. */
static void ids_never_change(void **state)
{
    (void)state;
    struct bytes key = bytes_of_string("key");
    struct bucket_id bucket = bucket_id_of("default");
    assert_int_equal(bucket.value, 2490608666u);
    assert_int_equal(partition_of(bucket, key, 256).value, 78);
}

static void equal_keys_of_two_buckets_hash_apart(void **state)
{
    (void)state;
    struct bytes key = bytes_of_string("key");
    assert_int_not_equal(key_hash(bucket_id_of("a"), key),
                         key_hash(bucket_id_of("b"), key));
}

static void keys_spread_over_all_partitions(void **state)
{
    (void)state;
    enum { PARTITIONS = 64, KEYS = 64 * 64 };
    size_t counts[PARTITIONS] = {0};
    for (uint32_t i = 0; i < KEYS; i++) {
        struct bytes key = bytes_of(&i, sizeof i);
        counts[partition_of(bucket_id_of("b"), key, PARTITIONS).value]++;
    }
    for (size_t i = 0; i < PARTITIONS; i++)
        assert_in_range(counts[i], 64 / 2, 64 * 2);
}

static void bytes_order_puts_a_prefix_first(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        int order;
    } rows[] = {
        {"", "", 0},    {"", "a", -1},    {"a", "ab", -1},
        {"b", "ab", 1}, {"\xff", "a", 1}, {"ab", "ab", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int order = bytes_compare(bytes_of_string(rows[i].a),
                                  bytes_of_string(rows[i].b));
        assert_int_equal((order > 0) - (order < 0), rows[i].order);
    }
}

static void a_buffer_grows_and_refuses_the_impossible(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buffer_append(&buffer, bytes_of_string("abc")),
                         STATUS_OK);
    assert_int_equal(buffer.size, 3000);
    assert_memory_equal(buffer.data + 2997, "abc", 3);
    assert_int_equal(buffer_reserve(&buffer, SIZE_MAX), STATUS_NO_MEMORY);
    assert_int_equal(buffer.size, 3000);
    buffer_fini(&buffer);
    buffer_fini(&buffer);
}

static void errors_carry_a_sentence(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(error_set(&error, STATUS_TOO_LARGE, "key: %d bytes", 481),
                     STATUS_TOO_LARGE);
    assert_string_equal(error.text, "key: 481 bytes");
    assert_string_equal(status_name(error.status), "too_large");
    assert_string_equal(status_name((enum status)99), "unknown_status");
    assert_int_equal(error_set(NULL, STATUS_IO, "nobody asks"), STATUS_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_ids_do_not_run_together),
        cmocka_unit_test(ids_never_change),
        cmocka_unit_test(equal_keys_of_two_buckets_hash_apart),
        cmocka_unit_test(keys_spread_over_all_partitions),
        cmocka_unit_test(bytes_order_puts_a_prefix_first),
        cmocka_unit_test(a_buffer_grows_and_refuses_the_impossible),
        cmocka_unit_test(errors_carry_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
