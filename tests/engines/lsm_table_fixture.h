/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_LSM_TABLE_FIXTURE_H
#define REPLIKV_TESTS_ENGINES_LSM_TABLE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "engines/lsm/table.h"
#include "tests/engines/memory_disk.h"

/* A disk in memory with one table on it, whose entries are known. */

/* The entries that a table is made of, by their numbers: keys as many of which
 * are odd, so that the even ones lie between them and are not there. */
struct shape {
    size_t count;
    size_t prefix_size; /* of what all keys begin with */
    size_t value_size;  /* up to it, differing */
    enum compression compression;
};

static const struct shape shapes[] = {
    {1, 0, 10, COMPRESSION_NONE},      {3000, 23, 100, COMPRESSION_NONE},
    {3000, 23, 100, COMPRESSION_LZ4},  {3000, 23, 100, COMPRESSION_ZSTD},
    {500, 490, 100, COMPRESSION_NONE}, {500, 490, 100, COMPRESSION_ZSTD},
    {2000, 5, 0, COMPRESSION_LZ4},     {300, 3, 9000, COMPRESSION_NONE},
    {300, 3, 9000, COMPRESSION_LZ4},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, TABLE = 7 };

struct fixture {
    struct memory_disk *memory;
    struct disk *disk;
    struct cache *cache;
    unsigned reports;
    uint64_t reported_table, reported_offset;
};

static inline int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->memory = memory_disk_new();
    fixture->disk = memory_disk_at(fixture->memory, MEMORY_DISK_PATH);
    fixture->cache = cache_new(64 << 20);
    *state = fixture;
    return fixture->cache == NULL ? -1 : 0;
}

static inline int teardown(void **state)
{
    struct fixture *fixture = *state;
    cache_free(fixture->cache);
    disk_free(fixture->disk);
    memory_disk_free(fixture->memory);
    free(fixture);
    return 0;
}

static inline void damaged(void *context, uint64_t table, uint64_t offset,
                           const char *what)
{
    struct fixture *fixture = context;
    assert_non_null(what);
    fixture->reports++;
    fixture->reported_table = table;
    fixture->reported_offset = offset;
}

/* The number-th key; of twice as many as there are entries. */
static inline struct bytes key_of(const struct shape *shape, size_t number,
                                  uint8_t key[ENGINE_KEY_BYTES_MAX])
{
    memset(key, 'p', shape->prefix_size);
    /* Differing sizes, and some keys that are others' prefixes. */
    int more = snprintf((char *)key + shape->prefix_size,
                        ENGINE_KEY_BYTES_MAX - shape->prefix_size, "%06zu%s",
                        number, number % 7 == 0 ? "longer" : "");
    return bytes_of(key, shape->prefix_size + (size_t)more);
}

static inline bool is_removed(size_t number)
{
    return number % 10 == 3;
}

static inline struct bytes value_of(const struct shape *shape, size_t number)
{
    static uint8_t bytes[10000];
    if (is_removed(number))
        return bytes_of(NULL, 0);
    for (size_t i = 0; bytes[1] == 0 && i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i >> 6);
    size_t size = shape->value_size == 0 ? 0 : number % shape->value_size;
    return bytes_of(bytes + number % 100, size);
}

static inline struct table_facts write_table(struct fixture *fixture,
                                             const struct shape *shape)
{
    struct table_writer *writer;
    struct table_facts facts, expected = {0};
    struct table_options options = {.compression = shape->compression};
    assert_int_equal(table_writer_new(fixture->disk, TABLE, &options, &writer),
                     STATUS_OK);
    uint8_t key[ENGINE_KEY_BYTES_MAX];
    for (size_t i = 1; i < 2 * shape->count; i += 2) {
        struct entry entry = {.key = key_of(shape, i, key),
                              .value = value_of(shape, i),
                              .removed = is_removed(i)};
        assert_int_equal(table_writer_add(writer, &entry), STATUS_OK);
        expected.entries++;
        expected.removals += entry.removed;
        expected.user_bytes += entry.key.size + entry.value.size;
    }
    uint64_t before = table_writer_bytes(writer);
    assert_int_equal(table_writer_finish(writer, &facts), STATUS_OK);
    table_writer_free(writer);
    char name[32];
    table_name(name, TABLE);
    expected.bytes = memory_disk_file_bytes(fixture->memory, name);
    assert_memory_equal(&facts, &expected, sizeof facts);
    if (shape->compression == COMPRESSION_NONE)
        assert_true(before < facts.bytes);
    return facts;
}

static inline enum status open_table(struct fixture *fixture,
                                     struct cache *cache, struct table **table)
{
    struct table_report report = {damaged, fixture};
    return table_open(fixture->disk, cache, TABLE, &report, table);
}

static inline struct table *make_table(struct fixture *fixture,
                                       const struct shape *shape)
{
    struct table *table;
    struct table_facts facts = write_table(fixture, shape);
    assert_int_equal(open_table(fixture, fixture->cache, &table), STATUS_OK);
    assert_memory_equal(&table->facts, &facts, sizeof facts);
    return table;
}

static inline enum status get(struct table *table, struct bytes key,
                              struct cache_block **block, struct entry *entry)
{
    return table_get(table, key, key_hash(key), block, entry);
}

/* Whether the entry is the number-th. */
static inline bool is_entry(const struct shape *shape, size_t number,
                            const struct entry *entry)
{
    uint8_t key[ENGINE_KEY_BYTES_MAX];
    return bytes_equal(entry->key, key_of(shape, number, key)) &&
           bytes_equal(entry->value, value_of(shape, number)) &&
           entry->removed == is_removed(number);
}

/* OK: it is there and right, which is asserted; or else the status. */
static inline enum status try_get(struct table *table,
                                  const struct shape *shape, size_t number)
{
    uint8_t key[ENGINE_KEY_BYTES_MAX];
    struct cache_block *block;
    struct entry entry;
    enum status status = get(table, key_of(shape, number, key), &block, &entry);
    assert_int_equal(block != NULL, status == STATUS_OK);
    if (status == STATUS_OK)
        assert_true(is_entry(shape, number, &entry));
    cache_release(block);
    return status;
}

/* Walk from the number-th entry to the end, which is 2 * count + 1 or -1. */
static inline void expect_walk(struct table_cursor *cursor,
                               const struct shape *shape, long number, int step)
{
    enum status status = STATUS_OK;
    long end = step > 0 ? 2 * (long)shape->count + 1 : -1;
    for (; number != end; number += step) {
        assert_int_equal(status, STATUS_OK);
        struct entry entry = table_cursor_entry(cursor);
        assert_true(is_entry(shape, (size_t)number, &entry));
        status = step > 0 ? table_cursor_next(cursor)
                          : table_cursor_previous(cursor);
    }
    assert_int_equal(status, STATUS_NOT_FOUND);
}

#define TABLE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
