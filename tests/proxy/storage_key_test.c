/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engines/engine.h"
#include "proxy/core/replica.h"

static struct storage_key key_of(enum table table, uint16_t partition,
                                 const char *name)
{
    return (struct storage_key){
        .table = table,
        .target = {{0xff, 0xff, 1}},
        .partition = {partition},
        .bucket = {0xdeadbeef},
        .key = bytes_of_string(name),
    };
}

static void a_key_decodes_to_what_it_was(void **state)
{
    (void)state;
    static const enum table tables[] = {TABLE_DATA, TABLE_HINTS, TABLE_META};
    struct buffer encoded = {0};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        struct storage_key key = key_of(tables[i], 0x1234, "name");
        struct storage_key back;
        buffer_clear(&encoded);
        assert_int_equal(storage_key_encode(&key, &encoded), STATUS_OK);
        assert_int_equal(storage_key_decode(buffer_bytes(&encoded), &back),
                         STATUS_OK);
        assert_int_equal(back.table, key.table);
        assert_true(bytes_equal(back.key, key.key));
        if (key.table == TABLE_META)
            continue;
        assert_int_equal(back.partition.value, key.partition.value);
        assert_int_equal(back.bucket.value, key.bucket.value);
        assert_int_equal(node_id_equal(back.target, key.target),
                         key.table == TABLE_HINTS);
    }
    buffer_fini(&encoded);
}

static void the_longest_key_fits_every_engine(void **state)
{
    (void)state;
    char name[KEY_BYTES_MAX + 1];
    memset(name, 'k', KEY_BYTES_MAX);
    name[KEY_BYTES_MAX] = '\0';
    struct storage_key key = key_of(TABLE_HINTS, 1, name);
    struct buffer encoded = {0};
    assert_int_equal(storage_key_encode(&key, &encoded), STATUS_OK);
    assert_int_equal(encoded.size, ENGINE_KEY_BYTES_MAX);
    buffer_fini(&encoded);
}

static void foreign_bytes_are_corrupt(void **state)
{
    (void)state;
    static const struct bytes rows[] = {
        {(const uint8_t *)"", 0},
        {(const uint8_t *)"x", 1},
        {(const uint8_t *)"d123456", 7},
        {(const uint8_t *)"h1234567890123456123456", 23},
        {(const uint8_t *)"m", 1},
    };
    struct storage_key key;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(storage_key_decode(rows[i], &key), STATUS_CORRUPT);
}

static bool is_in_scan(const struct storage_op *scan,
                       const struct storage_key *key)
{
    struct buffer from = {0}, to = {0}, at = {0};
    assert_int_equal(storage_scan_range(scan, &from, &to), STATUS_OK);
    assert_int_equal(storage_key_encode(key, &at), STATUS_OK);
    bool in = bytes_compare(buffer_bytes(&at), buffer_bytes(&from)) >= 0 &&
              bytes_compare(buffer_bytes(&at), buffer_bytes(&to)) < 0;
    buffer_fini(&from);
    buffer_fini(&to);
    buffer_fini(&at);
    return in;
}

static void a_scan_covers_its_partition_and_no_other(void **state)
{
    (void)state;
    for (uint32_t partition = 0; partition <= 0xffff; partition += 0xff) {
        struct storage_op scan = {
            .kind = STORAGE_SCAN,
            .key = {.table = TABLE_DATA, .partition = {(uint16_t)partition}},
        };
        for (int step = -1; step <= 1; step++) {
            struct storage_key key =
                key_of(TABLE_DATA, (uint16_t)(partition + (uint32_t)step), "k");
            assert_int_equal(is_in_scan(&scan, &key), step == 0);
        }
        struct storage_key hint = key_of(TABLE_HINTS, (uint16_t)partition, "k");
        assert_false(is_in_scan(&scan, &hint));
    }
}

static void a_scan_of_hints_covers_one_target_or_all(void **state)
{
    (void)state;
    struct storage_key hint = key_of(TABLE_HINTS, 0xffff, "k");
    struct storage_op one = {
        .key = {.table = TABLE_HINTS, .target = hint.target}};
    struct storage_op all = {.key = {.table = TABLE_HINTS}};
    struct storage_op other = {
        .key = {.table = TABLE_HINTS, .target = {{0xff, 0xff, 2}}}};
    assert_true(is_in_scan(&one, &hint));
    assert_true(is_in_scan(&all, &hint));
    assert_false(is_in_scan(&other, &hint));
}

static void a_scan_resumes_behind_the_last_key(void **state)
{
    (void)state;
    struct storage_key last = key_of(TABLE_DATA, 7, "k");
    struct storage_key next = key_of(TABLE_DATA, 7, "k\x01");
    struct buffer after = {0};
    assert_int_equal(storage_key_encode(&last, &after), STATUS_OK);
    struct storage_op scan = {
        .key = {.table = TABLE_DATA, .partition = {7}},
        .after = buffer_bytes(&after),
    };
    assert_false(is_in_scan(&scan, &last));
    assert_true(is_in_scan(&scan, &next));
    buffer_fini(&after);
}

static void a_scan_resumes_behind_the_longest_key(void **state)
{
    (void)state;
    char name[KEY_BYTES_MAX + 1];
    memset(name, 0xff, KEY_BYTES_MAX);
    name[KEY_BYTES_MAX] = '\0';
    struct storage_key last = key_of(TABLE_HINTS, 7, name);
    struct storage_key next = key_of(TABLE_HINTS, 8, "a");
    struct buffer after = {0}, from = {0}, to = {0};
    assert_int_equal(storage_key_encode(&last, &after), STATUS_OK);
    struct storage_op scan = {
        .key = {.table = TABLE_HINTS, .target = last.target},
        .after = buffer_bytes(&after),
    };
    assert_false(is_in_scan(&scan, &last));
    assert_true(is_in_scan(&scan, &next));
    assert_int_equal(storage_scan_range(&scan, &from, &to), STATUS_OK);
    assert_true(from.size <= ENGINE_KEY_BYTES_MAX);
    buffer_fini(&after);
    buffer_fini(&from);
    buffer_fini(&to);
}

static void a_scan_from_beyond_its_range_is_empty(void **state)
{
    (void)state;
    uint8_t after[ENGINE_KEY_BYTES_MAX + 1];
    memset(after, 0xff, sizeof after);
    struct storage_op scan = {
        .key = {.table = TABLE_DATA, .partition = {7}},
        .after = bytes_of(after, sizeof after),
    };
    struct buffer from = {0}, to = {0};
    assert_int_equal(storage_scan_range(&scan, &from, &to), STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&from), buffer_bytes(&to)));
    buffer_fini(&from);
    buffer_fini(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_decodes_to_what_it_was),
        cmocka_unit_test(the_longest_key_fits_every_engine),
        cmocka_unit_test(foreign_bytes_are_corrupt),
        cmocka_unit_test(a_scan_covers_its_partition_and_no_other),
        cmocka_unit_test(a_scan_of_hints_covers_one_target_or_all),
        cmocka_unit_test(a_scan_resumes_behind_the_last_key),
        cmocka_unit_test(a_scan_resumes_behind_the_longest_key),
        cmocka_unit_test(a_scan_from_beyond_its_range_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
