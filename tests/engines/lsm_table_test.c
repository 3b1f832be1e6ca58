/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_table_fixture.h"

/* What table.h promises of sound tables. */

static void get_finds_what_was_written_and_nothing_else(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < SHAPES; i++) {
        const struct shape *shape = &shapes[i];
        struct table *table = make_table(fixture, shape);
        for (size_t number = 0; number <= 2 * shape->count; number++)
            assert_int_equal(try_get(table, shape, number),
                             number % 2 == 1 ? STATUS_OK : STATUS_NOT_FOUND);
        uint8_t key[ENGINE_KEY_BYTES_MAX];
        assert_true(bytes_equal(table->smallest, key_of(shape, 1, key)));
        assert_true(bytes_equal(table->largest,
                                key_of(shape, 2 * shape->count - 1, key)));
        table_unref(table);
        cache_free(fixture->cache); /* the next table has the same number */
        fixture->cache = cache_new(64 << 20);
    }
}

static void walk_sees_every_entry_in_both_directions(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < SHAPES; i++) {
        const struct shape *shape = &shapes[i];
        write_table(fixture, shape);
        for (int run = 0; run < 6; run++) {
            /* Without a cache, with one that is empty, or that has a part. */
            struct table *table;
            struct cache *cache = run < 2 ? NULL : fixture->cache;
            assert_int_equal(open_table(fixture, cache, &table), STATUS_OK);
            struct table_cursor cursor;
            table_cursor_init(&cursor, table,
                              run % 2 == 0 ? TABLE_CACHED : TABLE_STREAM);
            assert_int_equal(table_cursor_seek(&cursor, bytes_of(NULL, 0)),
                             STATUS_OK);
            expect_walk(&cursor, shape, 1, 2);
            assert_int_equal(
                table_cursor_seek_before(&cursor, bytes_of(NULL, 0)),
                STATUS_OK);
            expect_walk(&cursor, shape, 2 * (long)shape->count - 1, -2);
            table_cursor_fini(&cursor);
            table_unref(table);
        }
        cache_free(fixture->cache);
        fixture->cache = cache_new(64 << 20);
    }
}

static void expect_at(struct table_cursor *cursor, const struct shape *shape,
                      enum status status, long number)
{
    bool there = number > 0 && number < 2 * (long)shape->count;
    assert_int_equal(status, there ? STATUS_OK : STATUS_NOT_FOUND);
    if (there) {
        struct entry entry = table_cursor_entry(cursor);
        assert_true(is_entry(shape, (size_t)number, &entry));
    }
}

static void seek_lands_at_behind_or_before_any_key(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < SHAPES; i++) {
        const struct shape *shape = &shapes[i];
        struct table *table = make_table(fixture, shape);
        struct table_cursor cursor;
        table_cursor_init(&cursor, table, TABLE_CACHED);
        uint8_t key[ENGINE_KEY_BYTES_MAX];
        for (long number = 0; number <= 2 * (long)shape->count; number++) {
            struct bytes bytes = key_of(shape, (size_t)number, key);
            long behind = number % 2 == 1 ? number : number + 1;
            long before = number % 2 == 1 ? number - 2 : number - 1;
            expect_at(&cursor, shape, table_cursor_seek(&cursor, bytes),
                      behind);
            if (behind + 2 < 2 * (long)shape->count)
                expect_at(&cursor, shape, table_cursor_next(&cursor),
                          behind + 2);
            expect_at(&cursor, shape, table_cursor_seek_before(&cursor, bytes),
                      before);
            if (before - 2 > 0)
                expect_at(&cursor, shape, table_cursor_previous(&cursor),
                          before - 2);
        }
        /* Behind and before what all keys share. */
        expect_at(&cursor, shape,
                  table_cursor_seek(&cursor, bytes_of_string("q")), -1);
        expect_at(&cursor, shape,
                  table_cursor_seek_before(&cursor, bytes_of_string("q")),
                  2 * (long)shape->count - 1);
        expect_at(&cursor, shape,
                  table_cursor_seek(&cursor, bytes_of_string("!")), 1);
        expect_at(&cursor, shape,
                  table_cursor_seek_before(&cursor, bytes_of_string("!")), -1);
        table_cursor_fini(&cursor);
        table_unref(table);
        cache_free(fixture->cache);
        fixture->cache = cache_new(64 << 20);
    }
}

/* Keys that the 8 bytes which the index searches by do not tell apart. */
static void index_tells_keys_apart_that_begin_alike(void **state)
{
    struct fixture *fixture = *state;
    struct table_writer *writer;
    struct table_options options = {.compression = COMPRESSION_NONE};
    struct table_facts facts;
    struct table *table;
    char key[64];
    uint8_t value[1000] = {0};
    assert_int_equal(table_writer_new(fixture->disk, TABLE, &options, &writer),
                     STATUS_OK);
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "%dsame beginning %03d", i / 250, i % 250);
        struct entry entry = {.key = bytes_of_string(key),
                              .value = bytes_of(value, sizeof value)};
        assert_int_equal(table_writer_add(writer, &entry), STATUS_OK);
    }
    assert_int_equal(table_writer_finish(writer, &facts), STATUS_OK);
    table_writer_free(writer);
    assert_int_equal(open_table(fixture, NULL, &table), STATUS_OK);
    for (int i = 0; i < 1000; i++) {
        struct cache_block *block;
        struct entry entry;
        snprintf(key, sizeof key, "%dsame beginning %03d", i / 250, i % 250);
        uint64_t reads = memory_disk_counts(fixture->memory).reads;
        assert_int_equal(get(table, bytes_of_string(key), &block, &entry),
                         STATUS_OK);
        assert_int_equal(memory_disk_counts(fixture->memory).reads, reads + 1);
        cache_release(block);
    }
    table_unref(table);
}

static void empty_table_has_nothing(void **state)
{
    struct fixture *fixture = *state;
    static const struct shape empty = {0, 3, 10, COMPRESSION_NONE};
    struct table *table = make_table(fixture, &empty);
    struct table_cursor cursor;
    table_cursor_init(&cursor, table, TABLE_CACHED);
    assert_int_equal(try_get(table, &empty, 1), STATUS_NOT_FOUND);
    assert_int_equal(table_cursor_seek(&cursor, bytes_of(NULL, 0)),
                     STATUS_NOT_FOUND);
    assert_int_equal(table_cursor_seek_before(&cursor, bytes_of(NULL, 0)),
                     STATUS_NOT_FOUND);
    table_cursor_fini(&cursor);
    table_unref(table);
}

static void huge_entry_comes_back(void **state)
{
    struct fixture *fixture = *state;
    size_t size = 3 << 20;
    uint8_t *value = calloc(1, size);
    value[size / 2] = 1;
    for (int i = 0; i < 3; i++) {
        struct table_options options = {.compression = (enum compression)i};
        struct table_writer *writer;
        struct table_facts facts;
        struct table *table;
        struct cache_block *block;
        struct entry entry,
            entries[] = {
                {.key = bytes_of_string("a")},
                {.key = bytes_of_string("b"), .value = bytes_of(value, size)},
                {.key = bytes_of_string("c")},
            };
        assert_int_equal(
            table_writer_new(fixture->disk, TABLE, &options, &writer),
            STATUS_OK);
        for (int j = 0; j < 3; j++)
            assert_int_equal(table_writer_add(writer, &entries[j]), STATUS_OK);
        assert_int_equal(table_writer_finish(writer, &facts), STATUS_OK);
        table_writer_free(writer);
        assert_int_equal(open_table(fixture, NULL, &table), STATUS_OK);
        for (int j = 0; j < 3; j++) {
            assert_int_equal(get(table, entries[j].key, &block, &entry),
                             STATUS_OK);
            assert_true(bytes_equal(entry.value, entries[j].value));
            cache_release(block);
        }
        struct table_cursor cursor;
        table_cursor_init(&cursor, table, TABLE_STREAM);
        assert_int_equal(table_cursor_seek(&cursor, entries[1].key), STATUS_OK);
        assert_true(
            bytes_equal(table_cursor_entry(&cursor).value, entries[1].value));
        assert_int_equal(table_cursor_next(&cursor), STATUS_OK);
        assert_int_equal(table_cursor_next(&cursor), STATUS_NOT_FOUND);
        table_cursor_fini(&cursor);
        table_unref(table);
    }
    free(value);
}

static void key_out_of_order_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct table_options options = {.compression = COMPRESSION_NONE};
    struct table_writer *writer;
    uint8_t value[5000] = {0};
    struct entry b = {.key = bytes_of_string("b"),
                      .value = bytes_of(value, sizeof value)};
    struct entry c = {.key = bytes_of_string("c"), .value = b.value};
    assert_int_equal(table_writer_new(fixture->disk, TABLE, &options, &writer),
                     STATUS_OK);
    assert_int_equal(table_writer_add(writer, &b), STATUS_OK);
    assert_int_equal(table_writer_add(writer, &b), STATUS_CORRUPT);
    assert_int_equal(table_writer_add(writer, &c), STATUS_OK);
    assert_int_equal(table_writer_add(writer, &b), STATUS_CORRUPT);
    table_writer_free(writer);
}

static void get_reads_once_and_then_from_the_cache(void **state)
{
    struct fixture *fixture = *state;
    struct table *table = make_table(fixture, &shapes[1]);
    for (uint64_t reads = 1; reads < 3; reads++) {
        uint64_t before = memory_disk_counts(fixture->memory).reads;
        assert_int_equal(try_get(table, &shapes[1], 1001), STATUS_OK);
        assert_int_equal(memory_disk_counts(fixture->memory).reads - before,
                         reads == 1);
    }
    table_unref(table);
}

static void walk_reads_ahead_in_growing_pieces(void **state)
{
    struct fixture *fixture = *state;
    static const struct shape large = {20000, 23, 200, COMPRESSION_NONE};
    struct table *table = make_table(fixture, &large);
    for (int i = 0; i < 4; i++) {
        bool stream = i % 2 == 1, back = i / 2 == 1;
        struct table_cursor cursor;
        uint64_t before = memory_disk_counts(fixture->memory).reads;
        table_cursor_init(&cursor, table, stream ? TABLE_STREAM : TABLE_CACHED);
        struct bytes none = {0};
        enum status status = back ? table_cursor_seek_before(&cursor, none)
                                  : table_cursor_seek(&cursor, none);
        assert_int_equal(status, STATUS_OK);
        if (back)
            expect_walk(&cursor, &large, 2 * (long)large.count - 1, -2);
        else
            expect_walk(&cursor, &large, 1, 2);
        uint64_t reads = memory_disk_counts(fixture->memory).reads - before;
        uint64_t pieces = table->facts.bytes / (256 * 1024) + 2;
        assert_in_range(reads, 1, stream ? pieces : pieces + 12);
        table_cursor_fini(&cursor);
    }
    /* What was streamed is not in the cache: 8 blocks of each end are. */
    struct cache_stats stats;
    cache_stats(fixture->cache, &stats);
    assert_in_range(stats.bytes, 1, table_memory_bytes(table) + 20 * 5000);
    table_unref(table);
}

static void open_table_is_charged_to_the_cache(void **state)
{
    struct fixture *fixture = *state;
    struct cache_stats stats;
    struct table *table = make_table(fixture, &shapes[1]);
    size_t memory = table_memory_bytes(table);
    /* 10 bits a key and some 23 bytes a block. */
    assert_in_range(memory, 3000 * 10 / 8, table->facts.bytes / 25);
    cache_stats(fixture->cache, &stats);
    assert_int_equal(stats.bytes, memory);
    table_ref(table);
    table_unref(table);
    cache_stats(fixture->cache, &stats);
    assert_int_equal(stats.bytes, memory);
    table_unref(table);
    cache_stats(fixture->cache, &stats);
    assert_int_equal(stats.bytes, 0);
}

static void pace(void *context, size_t bytes)
{
    uint64_t *sum = context;
    *sum += bytes;
}

static void writer_tells_the_pace_of_every_byte(void **state)
{
    struct fixture *fixture = *state;
    uint64_t sum = 0;
    struct table_options options = {.pace = pace, .pace_context = &sum};
    struct table_writer *writer;
    struct table_facts facts;
    assert_int_equal(table_writer_new(fixture->disk, TABLE, &options, &writer),
                     STATUS_OK);
    uint8_t key[ENGINE_KEY_BYTES_MAX];
    for (size_t i = 0; i < 20000; i++) {
        struct entry entry = {.key = key_of(&shapes[1], i, key),
                              .value = value_of(&shapes[1], i)};
        assert_int_equal(table_writer_add(writer, &entry), STATUS_OK);
    }
    assert_true(sum > 0);
    assert_int_equal(table_writer_finish(writer, &facts), STATUS_OK);
    assert_int_equal(sum, facts.bytes);
    table_writer_free(writer);
}

/* So many reads of the disk take seeks to places all over the table, and three
 * steps from each. */
static uint64_t reads_of_seeks(struct fixture *fixture, struct table *table,
                               const struct shape *shape, bool leads, bool back)
{
    uint64_t before = memory_disk_counts(fixture->memory).reads;
    for (size_t number = 101; number < 2 * shape->count; number += 100) {
        uint8_t key[ENGINE_KEY_BYTES_MAX];
        struct table_cursor cursor;
        table_cursor_init(&cursor, table, TABLE_CACHED);
        cursor.leads = leads;
        struct bytes at = key_of(shape, number, key);
        assert_int_equal(back ? table_cursor_seek_before(&cursor, at)
                              : table_cursor_seek(&cursor, at),
                         STATUS_OK);
        size_t expected = back ? number - 2 : number;
        for (int i = 0; i < 3; i++) {
            struct entry entry = table_cursor_entry(&cursor);
            assert_true(is_entry(shape, expected, &entry));
            assert_int_equal(back ? table_cursor_previous(&cursor)
                                  : table_cursor_next(&cursor),
                             STATUS_OK);
            expected = back ? expected - 2 : expected + 2;
        }
        table_cursor_fini(&cursor);
    }
    return memory_disk_counts(fixture->memory).reads - before;
}

static struct cache *full_cache(size_t bytes)
{
    struct cache *cache = cache_new(bytes);
    for (uint64_t i = 0; i < 200; i++) {
        struct cache_block *block = cache_block_new(cache, 4096);
        cache_put(cache, TABLE + 1, i << 12, block);
        cache_release(block);
    }
    return cache;
}

static uint64_t bytes_in(struct cache *cache)
{
    struct cache_stats stats;
    cache_stats(cache, &stats);
    return stats.bytes;
}

static void
seeks_of_a_full_cache_read_once_and_are_kept_the_second_time(void **state)
{
    struct fixture *fixture = *state;
    const struct shape shape = {2000, 3, 1000, COMPRESSION_NONE};
    enum { SEEKS = 39 };
    for (int back = 0; back < 2; back++) {
        struct cache *cache = full_cache(512 << 10);
        struct table *table;
        write_table(fixture, &shape);
        assert_int_equal(open_table(fixture, cache, &table), STATUS_OK);
        uint64_t full = bytes_in(cache);
        assert_int_equal(
            reads_of_seeks(fixture, table, &shape, true, back == 1), SEEKS);
        assert_int_equal(bytes_in(cache), full);
        /* Now for the cache, each block alone; some steps go beyond it. */
        assert_in_range(reads_of_seeks(fixture, table, &shape, true, back == 1),
                        SEEKS + 1, 2 * SEEKS);
        assert_in_range(reads_of_seeks(fixture, table, &shape, true, back == 1),
                        1, SEEKS - 1);
        table_unref(table);
        cache_free(cache);
    }
}

/* So many reads of the disk take gets all over the table. */
static uint64_t reads_of_gets(struct fixture *fixture, struct table *table,
                              const struct shape *shape)
{
    uint64_t before = memory_disk_counts(fixture->memory).reads;
    for (size_t number = 101; number < 2 * shape->count; number += 100)
        assert_int_equal(try_get(table, shape, number), STATUS_OK);
    return memory_disk_counts(fixture->memory).reads - before;
}

/* Whatever room is left that is less than a block. */
static void gets_of_a_full_cache_are_kept_the_second_time(void **state)
{
    struct fixture *fixture = *state;
    enum { GETS = 39, BUDGETS = 16, BLOCKS = 100 };
    for (int i = 0; i < 2 * BUDGETS; i++) {
        const struct shape shape = {
            2000, 3, 1000, i % 2 == 0 ? COMPRESSION_NONE : COMPRESSION_LZ4};
        struct cache *cache = full_cache((BLOCKS * 4096) + (i / 2) * 300);
        struct table *table;
        write_table(fixture, &shape);
        assert_int_equal(open_table(fixture, cache, &table), STATUS_OK);
        for (unsigned round = 0; round < 2; round++)
            assert_int_equal(reads_of_gets(fixture, table, &shape), GETS);
        assert_in_range(reads_of_gets(fixture, table, &shape), 0, GETS / 2);
        table_unref(table);
        cache_free(cache);
    }
}

static void a_seek_goes_without_neighbours_that_cannot_be_read(void **state)
{
    struct fixture *fixture = *state;
    const struct shape shape = {2000, 3, 1000, COMPRESSION_NONE};
    struct cache *cache = cache_new(0);
    struct table *table;
    struct table_cursor cursor;
    uint8_t key[ENGINE_KEY_BYTES_MAX];
    write_table(fixture, &shape);
    assert_int_equal(open_table(fixture, cache, &table), STATUS_OK);
    struct memory_fault fault = {
        .call = memory_disk_counts(fixture->memory).reads + 1,
        .of_reads = true,
        .status = STATUS_IO,
    };
    memory_disk_fail(fixture->memory, &fault);
    table_cursor_init(&cursor, table, TABLE_CACHED);
    cursor.leads = true;
    assert_int_equal(table_cursor_seek(&cursor, key_of(&shape, 501, key)),
                     STATUS_OK);
    assert_false(atomic_load(&table->damaged));
    struct entry entry = table_cursor_entry(&cursor);
    assert_true(is_entry(&shape, 501, &entry));
    table_cursor_fini(&cursor);
    table_unref(table);
    cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TABLE_TEST(get_finds_what_was_written_and_nothing_else),
        TABLE_TEST(walk_sees_every_entry_in_both_directions),
        TABLE_TEST(seek_lands_at_behind_or_before_any_key),
        TABLE_TEST(index_tells_keys_apart_that_begin_alike),
        TABLE_TEST(empty_table_has_nothing),
        TABLE_TEST(huge_entry_comes_back),
        TABLE_TEST(key_out_of_order_is_refused),
        TABLE_TEST(get_reads_once_and_then_from_the_cache),
        TABLE_TEST(walk_reads_ahead_in_growing_pieces),
        TABLE_TEST(
            seeks_of_a_full_cache_read_once_and_are_kept_the_second_time),
        TABLE_TEST(gets_of_a_full_cache_are_kept_the_second_time),
        TABLE_TEST(a_seek_goes_without_neighbours_that_cannot_be_read),
        TABLE_TEST(open_table_is_charged_to_the_cache),
        TABLE_TEST(writer_tells_the_pace_of_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
