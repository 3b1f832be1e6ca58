/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_tree.h"

/* The LSM engine's settings, the sizes of keys and values, and copies. */

static enum status check_setting(const char *name, uint64_t value)
{
    struct engine_setting setting = {name, value};
    struct engine_options options = {.settings = &setting, .setting_count = 1};
    struct error error;
    enum status status =
        engine_check_settings(&lsm_engine_type, &options, &error);
    if (status != STATUS_OK)
        assert_non_null(strstr(error.text, name));
    return status;
}

static void settings_out_of_range_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t value;
        bool allowed;
    } cases[] = {
        {"memtable_bytes", 4095, false},
        {"memtable_bytes", 4096, true},
        {"memtable_bytes", (UINT64_C(4) << 30) + 1, false},
        {"table_bytes", 4095, false},
        {"table_bytes", 4096, true},
        {"level1_bytes", 4095, false},
        {"level1_bytes", 4096, true},
        {"cache_bytes", 0, true},
        {"compression", 2, true},
        {"compression", 3, false},
        {"compression_last", 3, false},
        {"compaction_bytes_per_second", 0, true},
        {"write_buffer_bytes", 65536, false}, /* another engine's */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(check_setting(cases[i].name, cases[i].value),
                         cases[i].allowed ? STATUS_OK : STATUS_INVALID);
}

static void without_a_cache_all_is_read(void **state)
{
    (void)state;
    tree_set("cache_bytes", 0);
    tree_open();
    tree_put_all(0, 500);
    tree_settle();
    uint64_t before = memory_disk_counts(tree.memory).reads;
    tree_expect(3);
    tree_expect(3);
    assert_true(memory_disk_counts(tree.memory).reads >= before + 2);
    tree_check();
}

static void with_a_cache_a_block_is_read_once(void **state)
{
    (void)state;
    tree_open();
    tree_put_all(0, 500);
    tree_settle();
    tree_expect(3);
    uint64_t before = memory_disk_counts(tree.memory).reads;
    tree_expect(3);
    assert_int_equal(memory_disk_counts(tree.memory).reads, before);
}

static void values_of_any_size_read_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,    1,    15,    4095,    4096,
                                   4097, 9000, 65536, 1 << 20, 0};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    tree_open();
    for (unsigned i = 0; i < COUNT; i++) {
        tree.value_bytes = sizes[i];
        tree_put(i);
    }
    tree_check();
    tree_crash(MEMORY_EVERYTHING);
    tree_open();
    tree_check();
    tree_settle();
    tree_check();
    for (unsigned i = 0; i < COUNT; i++) {
        tree.value_bytes = sizes[COUNT - 1 - i];
        tree_put(i);
        tree_settle();
    }
    tree_reopen();
    tree_check();
}

/* Keys of the greatest length, alike but for their last two bytes, and those
 * of one byte. */
static struct bytes edge_key(unsigned number)
{
    static uint8_t key[ENGINE_KEY_BYTES_MAX];
    memset(key, 0xff, sizeof key);
    if (number < 256) {
        key[0] = (uint8_t)number;
        return bytes_of(key, 1);
    }
    key[sizeof key - 2] = (uint8_t)(number >> 8);
    key[sizeof key - 1] = (uint8_t)number;
    return bytes_of(key, sizeof key);
}

static void expect_edges(unsigned keys)
{
    struct engine_iterator *iterator;
    struct bytes key, value;
    struct buffer got = {0};
    assert_int_equal(engine_iterate(tree.engine, (struct bytes){0},
                                    (struct bytes){0}, ENGINE_FORWARD,
                                    &iterator),
                     STATUS_OK);
    for (unsigned i = 0; i < keys; i++) {
        assert_int_equal(engine_get(tree.engine, edge_key(i), &got), STATUS_OK);
        assert_true(bytes_equal(buffer_bytes(&got), edge_key(i)));
        assert_int_equal(engine_next(iterator, &key, &value), STATUS_OK);
        assert_true(bytes_equal(key, edge_key(i)));
    }
    assert_int_equal(engine_next(iterator, &key, &value), STATUS_NOT_FOUND);
    engine_iterator_free(iterator);
    buffer_fini(&got);
}

static void keys_of_one_byte_and_of_503_are_kept_apart(void **state)
{
    (void)state;
    enum { KEYS = 700 };
    tree_open();
    for (unsigned i = 0; i < KEYS; i++) {
        struct batch_operation operation = {.key = edge_key(i),
                                            .value = edge_key(i)};
        struct batch batch = {.operations = &operation, .count = 1};
        assert_int_equal(engine_write(tree.engine, &batch, false), STATUS_OK);
    }
    expect_edges(KEYS);
    tree_settle();
    tree_reopen();
    expect_edges(KEYS);
}

static void
a_store_is_read_whatever_compression_it_was_written_with(void **state)
{
    (void)state;
    enum { KEYS = 400 };
    for (uint64_t compression = 0; compression <= 2; compression++) {
        for (uint64_t last = 0; last <= 2; last++) {
            tree_set("compression", compression);
            tree_set("compression_last", last);
            tree_open();
            tree_check();
            tree_put_all(0, KEYS / 2);
            for (unsigned i = (unsigned)last; i < KEYS; i += 3)
                tree_put(i);
            tree_settle();
            tree_check();
            tree_close();
        }
    }
}

/* Of a store of values that compress well, written in order. */
static uint64_t bytes_with(enum compression compression, enum compression last)
{
    static const uint8_t zeros[1000];
    struct batch_operation operation = {.value = bytes_of(zeros, sizeof zeros)};
    struct batch batch = {.operations = &operation, .count = 1};
    tree_set("compression", compression);
    tree_set("compression_last", last);
    tree_open();
    for (unsigned i = 0; i < 200; i++) {
        operation.key = tree_key(i);
        assert_int_equal(engine_write(tree.engine, &batch, false), STATUS_OK);
    }
    tree_settle();
    uint64_t bytes = tree_stats().disk_bytes;
    tree_close();
    return bytes;
}

static void compression_saves_space(void **state)
{
    (void)state;
    static const enum compression compressions[] = {
        COMPRESSION_NONE, COMPRESSION_LZ4, COMPRESSION_ZSTD};
    uint64_t bytes[3];
    for (size_t i = 0; i < 3; i++) {
        bytes[i] = bytes_with(compressions[i], compressions[i]);
        memory_disk_free(tree.memory);
        tree.memory = memory_disk_new();
    }
    assert_true(bytes[0] > 200 * 1000);
    assert_true(bytes[1] < bytes[0] / 4);
    assert_true(bytes[2] < bytes[0] / 4);
}

static void tables_come_to_the_last_level_with_its_compression(void **state)
{
    (void)state;
    assert_true(bytes_with(COMPRESSION_NONE, COMPRESSION_ZSTD) <
                200 * 1000 / 4);
}

#define COPY "copy"

/* engine_checkpoint would mark a directory of the real disk. */
static enum status try_checkpoint(struct error *error)
{
    return lsm_engine_type.checkpoint(tree.engine, COPY, error);
}

static void take_checkpoint(void)
{
    struct error error;
    enum status status = try_checkpoint(&error);
    if (status != STATUS_OK)
        fail_msg("%s", error.text);
}

static void open_copy(void)
{
    if (tree_try_open_at(COPY) != STATUS_OK)
        fail_msg("%s", tree.error.text);
}

static void a_checkpoint_equals_its_store_and_lasts(void **state)
{
    (void)state;
    tree_open();
    tree_put_all(0, 600);
    tree_drop(100, 200);
    tree_put_all(150, 160); /* in the memtable */
    take_checkpoint();
    tree_check();
    tree_crash(MEMORY_NOTHING);
    open_copy();
    tree_check();
    tree_settle();
    tree_check();
}

static void a_store_and_its_checkpoint_are_independent(void **state)
{
    (void)state;
    enum { KEYS = 600 };
    static struct tree copy;
    tree_open();
    tree_put_all(0, KEYS);
    tree_drop(500, 510);
    tree_put_all(20, 30); /* newer than the drop, and in the copy's */
    take_checkpoint();
    copy = tree;
    for (int i = 0; i < 5; i++)
        tree_put_all(0, KEYS / 2);
    tree_drop(400, 500);
    tree_settle();
    struct engine *engine = tree.engine;
    struct tree original = tree;
    /* The copy, while its store is open and has removed most of what they
     * shared. */
    tree.engine = NULL;
    memcpy(tree.rounds, copy.rounds, sizeof tree.rounds);
    open_copy();
    tree_check();
    tree.round = original.round;
    tree_drop(0, 100);
    tree_check();
    for (int i = 0; i < 5; i++)
        tree_put_all(KEYS / 2, KEYS);
    tree_settle();
    tree_check();
    tree_close();
    tree.engine = engine;
    memcpy(tree.rounds, original.rounds, sizeof tree.rounds);
    tree_check();
    tree_reopen();
    tree_check();
}

static void a_checkpoint_is_refused_where_something_is(void **state)
{
    (void)state;
    struct error error;
    tree_open();
    tree_put_all(0, 100);
    take_checkpoint();
    assert_int_not_equal(try_checkpoint(&error), STATUS_OK);
    assert_non_null(strstr(error.text, COPY));
    tree_put_all(0, 100);
    tree_check();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_CASE(settings_out_of_range_are_refused_by_name),
        TREE_CASE(without_a_cache_all_is_read),
        TREE_CASE(with_a_cache_a_block_is_read_once),
        TREE_CASE(values_of_any_size_read_back),
        TREE_CASE(keys_of_one_byte_and_of_503_are_kept_apart),
        TREE_CASE(a_store_is_read_whatever_compression_it_was_written_with),
        TREE_CASE(compression_saves_space),
        TREE_CASE(tables_come_to_the_last_level_with_its_compression),
        TREE_CASE(a_checkpoint_equals_its_store_and_lasts),
        TREE_CASE(a_store_and_its_checkpoint_are_independent),
        TREE_CASE(a_checkpoint_is_refused_where_something_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
