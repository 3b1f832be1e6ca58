/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_fixture.h"

#include "engines/lsm/log.h"
#include "engines/lsm/manifest.h"
#include "engines/lsm/table.h"

/* What the files of the LSM engine promise, each for itself. */

static struct entry entry_of(const char *key, const char *value, uint64_t n)
{
    return (struct entry){.key = bytes_of_string(key),
                          .value = bytes_of_string(value),
                          .sequence = n};
}

static void append(struct log *log, const char *key, const char *value)
{
    struct entry entry = entry_of(key, value, 1);
    assert_int_equal(log_begin(log), STATUS_OK);
    assert_int_equal(log_put(log, &entry), STATUS_OK);
    assert_int_equal(log_append(log), STATUS_OK);
}

/* Gathers the keys of a replay. */
static enum status gather(void *context, const struct entry *entry)
{
    return buffer_append(context, entry->key);
}

static enum status replay(const char *directory, bool last, struct buffer *keys)
{
    buffer_clear(keys);
    return log_replay(directory, 1, last, gather, keys);
}

static void expect_keys(struct buffer *keys, const char *expected)
{
    assert_true(bytes_equal(buffer_bytes(keys), bytes_of_string(expected)));
}

static void empty_log_replays_nothing(void **state)
{
    struct log log;
    struct buffer keys = {0};
    assert_int_equal(log_create(&log, *state, 1), STATUS_OK);
    log_close(&log);
    assert_int_equal(replay(*state, false, &keys), STATUS_OK);
    expect_keys(&keys, "");
    buffer_fini(&keys);
}

static void torn_tail_is_cut_at_every_length(void **state)
{
    struct buffer keys = {0};
    char path[LSM_PATH_MAX];
    assert_true(file_path(path, *state, LSM_FILE_LOG, 1));
    uint64_t whole = 0;
    for (uint64_t lost = 1; whole == 0 || lost <= whole; lost++) {
        struct log log;
        assert_int_equal(log_create(&log, *state, 1), STATUS_OK);
        append(&log, "a", "value");
        assert_int_equal(log_sync(&log), STATUS_OK);
        whole = log.size;
        append(&log, "b", "value");
        assert_int_equal(log.size, 2 * whole);
        log_close(&log);
        assert_int_equal(truncate(path, (off_t)(2 * whole - lost)), 0);
        if (lost < whole)
            assert_int_equal(replay(*state, false, &keys), STATUS_CORRUPT);
        assert_int_equal(replay(*state, true, &keys), STATUS_OK);
        expect_keys(&keys, "a");
        assert_int_equal(file_size(path), (off_t)whole);
        assert_int_equal(unlink(path), 0);
    }
    buffer_fini(&keys);
}

static void damage_before_synced_records_is_corrupt(void **state)
{
    struct log log;
    struct buffer keys = {0};
    char path[LSM_PATH_MAX];
    assert_true(file_path(path, *state, LSM_FILE_LOG, 1));
    assert_int_equal(log_create(&log, *state, 1), STATUS_OK);
    append(&log, "a", "value");
    assert_int_equal(log_sync(&log), STATUS_OK);
    off_t first = (off_t)log.size;
    append(&log, "b", "value");
    log_close(&log);
    for (off_t at = 0; at < first; at++) {
        flip(path, at, 0x10);
        assert_int_equal(replay(*state, true, &keys), STATUS_CORRUPT);
        expect_keys(&keys, "");
        flip(path, at, 0x10);
    }
    assert_int_equal(replay(*state, true, &keys), STATUS_OK);
    expect_keys(&keys, "ab");
    buffer_fini(&keys);
}

/* After power loss, pages that were never synced are there in any order. */
static void hole_in_an_unsynced_tail_is_cut(void **state)
{
    struct log log;
    struct buffer keys = {0};
    char path[LSM_PATH_MAX];
    assert_true(file_path(path, *state, LSM_FILE_LOG, 1));
    assert_int_equal(log_create(&log, *state, 1), STATUS_OK);
    append(&log, "a", "value");
    assert_int_equal(log_sync(&log), STATUS_OK);
    off_t synced = (off_t)log.size;
    append(&log, "b", "value");
    append(&log, "c", "value");
    log_close(&log);
    flip(path, synced + 30, 0xff);
    assert_int_equal(replay(*state, true, &keys), STATUS_OK);
    expect_keys(&keys, "a");
    assert_int_equal(file_size(path), synced);
    buffer_fini(&keys);
}

enum { TABLE_KEYS = 150 };

static void write_table(const char *directory, uint64_t number)
{
    struct table_writer writer;
    char key[16], value[64];
    assert_int_equal(table_writer_open(&writer, directory, number), STATUS_OK);
    for (int i = 0; i < TABLE_KEYS; i++) {
        snprintf(key, sizeof key, "key%06d", i * 2);
        snprintf(value, sizeof value, "the value of number %d", i * 2);
        struct entry entry = entry_of(key, value, (uint64_t)i + 1);
        assert_int_equal(table_writer_add(&writer, &entry), STATUS_OK);
    }
    assert_int_equal(table_writer_finish(&writer), STATUS_OK);
    table_writer_fini(&writer);
}

static void table_finds_its_keys_and_no_others(void **state)
{
    struct table *table;
    struct buffer block = {0};
    write_table(*state, 1);
    assert_int_equal(table_open(*state, 1, 0, &table), STATUS_OK);
    assert_true(table->block_count > 1);
    for (int i = -1; i < 2 * TABLE_KEYS; i++) {
        char text[16], value[64];
        struct entry entry;
        snprintf(text, sizeof text, "key%06d", i);
        snprintf(value, sizeof value, "the value of number %d", i);
        struct bytes key = bytes_of_string(text);
        enum status status =
            table_get(table, key, table_key_hash(key), &block, &entry);
        bool there = i >= 0 && i % 2 == 0;
        assert_int_equal(status, there ? STATUS_OK : STATUS_NOT_FOUND);
        if (there)
            assert_true(bytes_equal(entry.value, bytes_of_string(value)));
    }
    buffer_fini(&block);
    table_unref(table);
}

/* Read a table from end to end. */
static enum status scan(const char *directory, uint64_t number)
{
    struct table *table;
    struct table_cursor cursor = {0};
    struct entry entry;
    enum status status = table_open(directory, number, 0, &table);
    if (status != STATUS_OK)
        return status;
    status = table_cursor_seek(&cursor, table, (struct bytes){0});
    while (status == STATUS_OK)
        status = table_cursor_next(&cursor, &entry);
    table_cursor_fini(&cursor);
    table_unref(table);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static void any_flipped_bit_of_a_table_is_corrupt(void **state)
{
    char path[LSM_PATH_MAX];
    write_table(*state, 1);
    assert_true(file_path(path, *state, LSM_FILE_TABLE, 1));
    assert_int_equal(scan(*state, 1), STATUS_OK);
    off_t size = file_size(path);
    for (off_t at = 0; at < size; at++) {
        uint8_t mask = (uint8_t)(1u << (at % 8));
        flip(path, at, mask);
        assert_int_equal(scan(*state, 1), STATUS_CORRUPT);
        flip(path, at, mask);
    }
}

static void any_shorter_table_is_corrupt(void **state)
{
    char path[LSM_PATH_MAX];
    write_table(*state, 1);
    assert_true(file_path(path, *state, LSM_FILE_TABLE, 1));
    for (off_t size = file_size(path) - 1; size >= 0; size -= 7) {
        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(scan(*state, 1), STATUS_CORRUPT);
    }
}

static void a_table_under_another_number_is_corrupt(void **state)
{
    char from[LSM_PATH_MAX], to[LSM_PATH_MAX];
    write_table(*state, 1);
    assert_true(file_path(from, *state, LSM_FILE_TABLE, 1));
    assert_true(file_path(to, *state, LSM_FILE_TABLE, 2));
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(scan(*state, 2), STATUS_CORRUPT);
}

static void manifest_reads_back_or_is_corrupt(void **state)
{
    char path[LSM_PATH_MAX];
    struct manifest_table tables[] = {{.number = 7, .tier = 0},
                                      {.number = 3, .tier = 2}};
    struct manifest manifest = {.next_file = 9,
                                .log_number = 8,
                                .sequence = 77,
                                .tables = tables,
                                .table_count = 2};
    struct manifest read;
    assert_int_equal(manifest_read(*state, &read), STATUS_NOT_FOUND);
    assert_int_equal(manifest_write(*state, &manifest), STATUS_OK);
    assert_int_equal(manifest_read(*state, &read), STATUS_OK);
    assert_int_equal(read.next_file, 9);
    assert_int_equal(read.log_number, 8);
    assert_int_equal(read.sequence, 77);
    assert_int_equal(read.table_count, 2);
    assert_int_equal(read.tables[1].number, 3);
    assert_int_equal(read.tables[1].tier, 2);
    manifest_fini(&read);
    snprintf(path, sizeof path, "%s/MANIFEST", (char *)*state);
    for (off_t at = 0; at < file_size(path); at++) {
        flip(path, at, 1);
        assert_int_equal(manifest_read(*state, &read), STATUS_CORRUPT);
        flip(path, at, 1);
    }
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(manifest_read(*state, &read), STATUS_CORRUPT);
}

#define CASE(name)                                                             \
    cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(empty_log_replays_nothing),
        CASE(torn_tail_is_cut_at_every_length),
        CASE(damage_before_synced_records_is_corrupt),
        CASE(hole_in_an_unsynced_tail_is_cut),
        CASE(table_finds_its_keys_and_no_others),
        CASE(any_flipped_bit_of_a_table_is_corrupt),
        CASE(any_shorter_table_is_corrupt),
        CASE(a_table_under_another_number_is_corrupt),
        CASE(manifest_reads_back_or_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
