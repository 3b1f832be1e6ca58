/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_table_fixture.h"

#include "engines/lsm/table_inside.h"

/* What table.h promises of damaged tables and failing disks. */

/* How many of the entries are right; the others must be CORRUPT. */
static size_t count_sound(struct table *table, const struct shape *shape)
{
    size_t sound = 0;
    for (size_t number = 0; number <= 2 * shape->count; number++) {
        enum status status = try_get(table, shape, number);
        if (number % 2 == 1 || status == STATUS_OK)
            assert_true(status == STATUS_OK || status == STATUS_CORRUPT);
        sound += number % 2 == 1 && status == STATUS_OK;
    }
    return sound;
}

/* A walk gives what is right, until it fails. */
static void expect_walk_until_damage(struct table *table,
                                     const struct shape *shape)
{
    struct table_cursor cursor;
    table_cursor_init(&cursor, table, TABLE_STREAM);
    enum status status = table_cursor_seek(&cursor, bytes_of(NULL, 0));
    size_t number = 1;
    for (; status == STATUS_OK; number += 2) {
        struct entry entry = table_cursor_entry(&cursor);
        assert_true(is_entry(shape, number, &entry));
        status = table_cursor_next(&cursor);
    }
    if (status == STATUS_NOT_FOUND)
        assert_int_equal(number, 2 * shape->count + 1);
    else
        assert_int_equal(status, STATUS_CORRUPT);
    table_cursor_fini(&cursor);
}

static void flipped_bit_anywhere_is_seen(void **state)
{
    struct fixture *fixture = *state;
    unsigned reports = 0;
    for (int i = 0; i < 3; i++) {
        struct shape shape = {100, 23, 100, (enum compression)i};
        uint64_t bytes = write_table(fixture, &shape).bytes;
        char name[32];
        table_name(name, TABLE);
        for (uint64_t offset = 0; offset < bytes; offset++) {
            uint8_t mask = (uint8_t)(1u << offset % 8);
            struct table *table;
            memory_disk_flip(fixture->memory, name, offset, mask);
            enum status status = open_table(fixture, NULL, &table);
            if (status == STATUS_OK) {
                bool whole = count_sound(table, &shape) == shape.count;
                expect_walk_until_damage(table, &shape);
                /* Only a filter is not missed. */
                assert_true(whole == (table->inside->filter == NULL));
                assert_true(whole != atomic_load(&table->damaged));
                table_unref(table);
            } else {
                assert_int_equal(status, STATUS_CORRUPT);
            }
            assert_int_equal(fixture->reports, ++reports);
            memory_disk_flip(fixture->memory, name, offset, mask);
        }
    }
}

static void table_of_another_length_or_number_is_corrupt(void **state)
{
    struct fixture *fixture = *state;
    const struct shape shape = {50, 3, 10, COMPRESSION_NONE};
    uint64_t bytes = write_table(fixture, &shape).bytes;
    char name[32], other[32];
    struct disk *disk = fixture->disk;
    struct disk_file *file;
    struct table *table;
    struct table_report report = {0};
    table_name(name, TABLE);
    table_name(other, TABLE + 1);
    assert_int_equal(disk->operations->rename(disk, name, other), STATUS_OK);
    assert_int_equal(table_open(disk, NULL, TABLE + 1, &report, &table),
                     STATUS_CORRUPT);
    assert_int_equal(table_open(disk, NULL, TABLE, &report, &table),
                     STATUS_NOT_FOUND);
    assert_int_equal(disk->operations->rename(disk, other, name), STATUS_OK);
    assert_int_equal(disk_file_open(disk, name, DISK_UPDATE, &file), STATUS_OK);
    assert_int_equal(disk_file_write(file, bytes, bytes_of_string("x")),
                     STATUS_OK);
    while (bytes-- > 0) {
        assert_int_equal(open_table(fixture, NULL, &table), STATUS_CORRUPT);
        assert_null(table);
        assert_int_equal(file->operations->truncate(file, bytes), STATUS_OK);
    }
    disk_file_close(file);
}

/* What the index answers stays in range, for any bytes. */
static void use_index(struct bytes content, uint64_t blocks_bytes)
{
    struct table_index index = {0};
    enum status status = table_index_parse(&index, content, blocks_bytes);
    if (status == STATUS_OK) {
        static const char *keys[] = {"", "a", "key", "key 12", "key 9", "z"};
        for (int i = 0; i < 6; i++) {
            struct bytes key = bytes_of_string(keys[i]);
            size_t number = table_index_find(&index, key);
            assert_in_range(number, 0, index.count);
            assert_true(number == index.count ||
                        table_index_compare(&index, number, key) >= 0);
            assert_true(number == 0 ||
                        table_index_compare(&index, number - 1, key) < 0);
        }
        assert_int_equal(index.offsets[index.count], blocks_bytes);
    } else {
        assert_int_equal(status, STATUS_CORRUPT);
    }
    table_index_fini(&index);
}

enum { BLOCK_BYTES = 100 };

static void put_line(struct buffer *content, size_t shared, const char *rest)
{
    uint8_t line[64], *at = put_varint(line, shared);
    at = put_bytes(at, bytes_of_string(rest));
    at = put_varint(at, BLOCK_BYTES);
    assert_int_equal(
        buffer_append(content, bytes_of(line, (size_t)(at - line))), STATUS_OK);
}

static void index_of_any_bytes_stays_in_bounds(void **state)
{
    (void)state;
    struct buffer content = {0};
    enum { BLOCKS = 20 };
    uint64_t bytes = BLOCKS * (BLOCK_BYTES + TABLE_TRAILER_BYTES);
    for (int i = 0; i < BLOCKS; i++) {
        char key[16];
        size_t shared = i == 0 ? 0 : i % 10 == 0 ? 4 : 5;
        snprintf(key, sizeof key, "key %02d", i);
        put_line(&content, shared, key + shared);
    }
    for (size_t size = 0; size <= content.size; size++) {
        uint8_t *cut = malloc(size);
        for (size_t i = 0; i < size; i++)
            cut[i] = content.data[i];
        use_index(bytes_of(cut, size), bytes);
        for (size_t i = 0; size == content.size && i < size; i++) {
            for (unsigned change = 1; change < 256; change++) {
                cut[i] ^= (uint8_t)change;
                use_index(bytes_of(cut, size), bytes);
                cut[i] ^= (uint8_t)change;
            }
        }
        free(cut);
    }
    buffer_fini(&content);
}

static void index_out_of_order_is_corrupt(void **state)
{
    (void)state;
    static const struct {
        const char *first;
        size_t shared;
        const char *rest;
        enum status status;
    } cases[] = {
        {"abc", 2, "d", STATUS_OK},      {"abc", 3, "d", STATUS_OK},
        {"abc", 0, "b", STATUS_OK},      {"abc", 4, "d", STATUS_CORRUPT},
        {"abc", 3, "", STATUS_CORRUPT},  {"abc", 2, "c", STATUS_CORRUPT},
        {"abc", 2, "b", STATUS_CORRUPT}, {"abc", 0, "ab", STATUS_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer content = {0};
        struct table_index index = {0};
        put_line(&content, 0, cases[i].first);
        put_line(&content, cases[i].shared, cases[i].rest);
        assert_int_equal(
            table_index_parse(&index, buffer_bytes(&content),
                              2 * (BLOCK_BYTES + TABLE_TRAILER_BYTES)),
            cases[i].status);
        table_index_fini(&index);
        buffer_fini(&content);
    }
}

static void damage_to_one_block_leaves_the_others(void **state)
{
    struct fixture *fixture = *state;
    const struct shape shape = {1000, 23, 100, COMPRESSION_NONE};
    struct table *table;
    char name[32];
    write_table(fixture, &shape);
    table_name(name, TABLE);
    memory_disk_flip(fixture->memory, name, 5000, 0x10);
    assert_int_equal(open_table(fixture, fixture->cache, &table), STATUS_OK);
    assert_false(atomic_load(&table->damaged));
    assert_int_equal(try_get(table, &shape, 1), STATUS_OK);
    assert_false(atomic_load(&table->damaged));
    for (int i = 0; i < 2; i++) {
        size_t sound = count_sound(table, &shape);
        assert_in_range(sound, shape.count - 100, shape.count - 1);
        assert_true(atomic_load(&table->damaged));
    }
    /* Told once, of the block that the byte is in. */
    assert_int_equal(fixture->reports, 1);
    assert_int_equal(fixture->reported_table, TABLE);
    assert_in_range(fixture->reported_offset, 5000 - TABLE_BLOCK_BYTES, 5000);
    /* A walk that failed goes on behind the damage. */
    struct table_cursor cursor;
    table_cursor_init(&cursor, table, TABLE_CACHED);
    uint8_t key[ENGINE_KEY_BYTES_MAX];
    enum status status = table_cursor_seek(&cursor, bytes_of(NULL, 0));
    while (status == STATUS_OK)
        status = table_cursor_next(&cursor);
    assert_int_equal(status, STATUS_CORRUPT);
    assert_int_equal(table_cursor_seek(&cursor, key_of(&shape, 1001, key)),
                     STATUS_OK);
    expect_walk(&cursor, &shape, 1001, 2);
    table_cursor_fini(&cursor);
    table_unref(table);
}

struct told {
    unsigned times;
    uint64_t offset;
};

static void tell(void *context, uint64_t offset, const char *what)
{
    struct told *told = context;
    told->times++;
    told->offset = offset;
    assert_non_null(what);
}

static void check_tells_of_damage_and_of_nothing_else(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < SHAPES; i++) {
        struct table *table;
        struct told told = {0};
        write_table(fixture, &shapes[i]);
        assert_int_equal(open_table(fixture, NULL, &table), STATUS_OK);
        assert_int_equal(table_check(table, tell, &told), STATUS_OK);
        assert_int_equal(told.times, 0);
        table_unref(table);
        char name[32];
        table_name(name, TABLE);
        memory_disk_flip(fixture->memory, name, 3, 1);
        assert_int_equal(open_table(fixture, NULL, &table), STATUS_OK);
        assert_int_equal(table_check(table, tell, &told), STATUS_CORRUPT);
        assert_int_equal(told.times, 1);
        assert_int_equal(told.offset, 0);
        table_unref(table);
    }
}

static void check_goes_on_behind_a_block_that_cannot_be_read(void **state)
{
    struct fixture *fixture = *state;
    const struct shape shape = {1000, 23, 100, COMPRESSION_NONE};
    struct table *table;
    struct told told = {0};
    char name[32];
    write_table(fixture, &shape);
    table_name(name, TABLE);
    memory_disk_flip(fixture->memory, name, 20000, 1);
    assert_int_equal(open_table(fixture, NULL, &table), STATUS_OK);
    struct memory_fault fault = {
        .call = memory_disk_counts(fixture->memory).reads + 2,
        .of_reads = true,
        .status = STATUS_IO,
    };
    memory_disk_fail(fixture->memory, &fault);
    assert_int_equal(table_check(table, tell, &told), STATUS_CORRUPT);
    /* The second block, and the one with the flipped bit. */
    assert_int_equal(told.times, 2);
    assert_in_range(told.offset, 20000 - TABLE_BLOCK_BYTES, 20000);
    table_unref(table);
}

/* A table made while the call-th call of the disk fails: what the failure
 * is, or OK if there are not so many calls. */
static enum status write_failing(struct fixture *fixture, uint64_t call,
                                 enum status failure)
{
    struct table_options options = {.compression = COMPRESSION_NONE};
    struct table_writer *writer;
    struct table_facts facts;
    struct memory_fault fault = {.call = call, .status = failure};
    memory_disk_fail(fixture->memory, &fault);
    enum status status =
        table_writer_new(fixture->disk, TABLE, &options, &writer);
    uint8_t key[ENGINE_KEY_BYTES_MAX];
    for (size_t i = 0; status == STATUS_OK && i < 10000; i++) {
        struct entry entry = {.key = key_of(&shapes[1], i, key),
                              .value = value_of(&shapes[1], i)};
        status = table_writer_add(writer, &entry);
    }
    if (status == STATUS_OK)
        status = table_writer_finish(writer, &facts);
    table_writer_free(writer);
    return status;
}

static void failing_write_is_answered(void **state)
{
    struct fixture *fixture = *state;
    uint64_t before = memory_disk_counts(fixture->memory).calls;
    assert_int_equal(write_failing(fixture, 0, STATUS_IO), STATUS_OK);
    uint64_t calls = memory_disk_counts(fixture->memory).calls - before;
    assert_true(calls >= 4);
    for (uint64_t i = 1; i <= calls; i++) {
        enum status failure = i % 2 == 0 ? STATUS_IO : STATUS_NO_SPACE;
        uint64_t call = memory_disk_counts(fixture->memory).calls + i;
        assert_int_equal(write_failing(fixture, call, failure), failure);
    }
}

static void failing_read_is_answered_and_reported(void **state)
{
    struct fixture *fixture = *state;
    struct table *table = make_table(fixture, &shapes[1]);
    struct table_cursor cursor;
    struct memory_fault fault = {
        .call = memory_disk_counts(fixture->memory).reads + 1,
        .of_reads = true,
        .lasting = true,
        .status = STATUS_IO,
    };
    memory_disk_fail(fixture->memory, &fault);
    assert_int_equal(try_get(table, &shapes[1], 1), STATUS_IO);
    table_cursor_init(&cursor, table, TABLE_STREAM);
    assert_int_equal(table_cursor_seek(&cursor, bytes_of(NULL, 0)), STATUS_IO);
    memory_disk_fail(fixture->memory, &(struct memory_fault){0});
    assert_int_equal(table_cursor_seek(&cursor, bytes_of(NULL, 0)), STATUS_OK);
    assert_int_equal(try_get(table, &shapes[1], 1), STATUS_OK);
    /* As damage, since a disk that failed to read once is not to be trusted. */
    assert_true(atomic_load(&table->damaged));
    assert_int_equal(fixture->reports, 1);
    table_cursor_fini(&cursor);
    table_unref(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TABLE_TEST(flipped_bit_anywhere_is_seen),
        TABLE_TEST(table_of_another_length_or_number_is_corrupt),
        TABLE_TEST(index_of_any_bytes_stays_in_bounds),
        TABLE_TEST(index_out_of_order_is_corrupt),
        TABLE_TEST(damage_to_one_block_leaves_the_others),
        TABLE_TEST(check_tells_of_damage_and_of_nothing_else),
        TABLE_TEST(check_goes_on_behind_a_block_that_cannot_be_read),
        TABLE_TEST(failing_write_is_answered),
        TABLE_TEST(failing_read_is_answered_and_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
