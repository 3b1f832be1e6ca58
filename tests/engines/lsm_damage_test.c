/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_tree.h"

#include "engines/lsm/table_inside.h"

/* What the LSM engine does about damaged tables: it goes on without what is
 * lost. */

enum {
    KEYS = 400,
    TABLE_BYTES = 64 << 10,
    /* In the second block of a table. */
    DAMAGED_AT = TABLE_BLOCK_BYTES + 1000,
};

/* A table that is damaged, in a store that was opened since. */
static void make_damaged(char name[LSM_NAME_MAX])
{
    tree_make_table(KEYS, name);
    tree_close();
    memory_disk_flip(tree.memory, name, DAMAGED_AT, 0x10);
    tree_open();
}

struct lost {
    unsigned first, end;
};

/* The keys below end that are corrupt, which follow each other; the others
 * read well. */
static struct lost find_lost(unsigned end)
{
    struct lost lost = {0, 0};
    for (unsigned i = 0; i < end; i++) {
        if (tree_get(i) != STATUS_CORRUPT) {
            tree_expect(i);
            continue;
        }
        if (lost.end == 0)
            lost.first = lost.end = i;
        assert_int_equal(i, lost.end);
        lost.end++;
    }
    return lost;
}

static void keys_in_a_damaged_block_are_corrupt_and_no_others(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    make_damaged(name);
    struct lost lost = find_lost(KEYS);
    assert_true(lost.first > 0 && lost.end > lost.first);
    assert_true(lost.end - lost.first < KEYS / 5);
}

static void damage_is_reported_once_with_file_and_offset(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    make_damaged(name);
    assert_int_equal(tree.reports, 0);
    for (int i = 0; i < 3; i++)
        find_lost(KEYS);
    assert_int_equal(tree.reports, 1);
    assert_int_equal(tree_stats().damaged, 1);
    char *offset = strstr(tree.report, "offset ");
    assert_non_null(strstr(tree.report, name));
    assert_non_null(offset);
    unsigned long at = strtoul(offset + strlen("offset "), NULL, 10);
    assert_true(at > 0 && at < DAMAGED_AT && at + 5000 > DAMAGED_AT);
}

/* All keys from `from` to before `to`, in order, but for those that are lost,
 * whose damage is told once. */
static void expect_walk_past(struct lost lost, unsigned from, unsigned to,
                             enum engine_order order)
{
    struct engine_iterator *iterator = tree_iterate(from, to, order);
    struct bytes key, value;
    unsigned told = 0;
    enum status status;
    for (unsigned i = 0; i < to - from; i++) {
        unsigned number = order == ENGINE_FORWARD ? from + i : to - 1 - i;
        if (number >= lost.first && number < lost.end)
            continue;
        while ((status = engine_next(iterator, &key, &value)) == STATUS_CORRUPT)
            told++;
        assert_int_equal(status, STATUS_OK);
        assert_true(bytes_equal(key, tree_key(number)));
    }
    while ((status = engine_next(iterator, &key, &value)) == STATUS_CORRUPT)
        told++;
    assert_int_equal(status, STATUS_NOT_FOUND);
    assert_int_equal(engine_next(iterator, &key, &value), STATUS_NOT_FOUND);
    assert_in_range(told, 0, 1);
    assert_int_equal(told, from < lost.end && to > lost.first);
    engine_iterator_free(iterator);
}

static void iterators_pass_over_damage_and_tell(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    make_damaged(name);
    struct lost lost = find_lost(KEYS);
    for (int order = ENGINE_FORWARD; order <= ENGINE_BACKWARD; order++) {
        expect_walk_past(lost, 0, KEYS, (enum engine_order)order);
        expect_walk_past(lost, lost.first + 1, KEYS, (enum engine_order)order);
        expect_walk_past(lost, 0, lost.end - 1, (enum engine_order)order);
        expect_walk_past(lost, lost.end + 50, KEYS, (enum engine_order)order);
    }
}

static void a_lost_key_that_is_written_anew_reads_back(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    make_damaged(name);
    struct lost lost = find_lost(KEYS);
    tree_put(lost.first);
    tree_remove(lost.first + 1);
    tree_expect(lost.first);
    tree_expect(lost.first + 1);
    tree_settle();
    tree_expect(lost.first);
    tree_expect(lost.first + 1);
    tree_reopen();
    tree_expect(lost.first);
    tree_expect(lost.first + 1);
    assert_int_equal(tree_get(lost.first + 2), STATUS_CORRUPT);
}

static void compactions_go_on_beside_damage(void **state)
{
    (void)state;
    char name[MEMORY_NAME_MAX];
    tree_open();
    /* In order, so that the first table has the first keys, and alone. */
    tree_put_all(0, KEYS);
    tree_settle();
    tree_files(".table", TREE_FIRST, name);
    tree_close();
    memory_disk_flip(tree.memory, name, 100, 0x10);
    tree_open();
    struct lost lost = find_lost(KEYS);
    assert_int_equal(lost.first, 0);
    assert_true(lost.end > 0 && lost.end < KEYS / 4);
    for (int i = 0; i < 10; i++)
        tree_put_all(lost.end, KEYS);
    tree_settle();
    assert_true(tree_tables(0) < 4);
    assert_true(tree_stats().disk_bytes < 3 * KEYS * tree.value_bytes);
    struct lost still = find_lost(KEYS);
    assert_memory_equal(&still, &lost, sizeof lost);
    assert_int_equal(tree.reports, 1);
    assert_true(memory_disk_file_bytes(tree.memory, name) < UINT64_MAX);
}

static void a_compaction_that_meets_damage_breaks_nothing(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    make_damaged(name);
    for (int i = 0; i < 4; i++) {
        tree_put_all(i * 10, KEYS);
        tree_settle();
    }
    assert_int_equal(tree.reports, 1);
    assert_true(tree_tables(0) >= 4);
    for (unsigned i = 0; i < KEYS; i++)
        tree_expect(i);
    tree_put_all(0, KEYS);
    tree_reopen();
    for (unsigned i = 0; i < KEYS; i++)
        tree_expect(i);
}

/* Three tables to compact, every read of which asks the disk. */
static struct lsm *make_uncached(void)
{
    tree_set("memtable_bytes", TABLE_BYTES);
    tree_set("cache_bytes", 0);
    tree_open();
    for (int i = 0; i < 3; i++) {
        tree_put_all(0, KEYS);
        tree_flush();
    }
    return lsm_of(tree.engine);
}

/* Is called before the directory is synced behind a compaction's outputs: a
 * reader meets a disk that cannot read, and then the sync fails. */
static void fail_after_a_reader(void *context, enum memory_call call,
                                const char *name)
{
    (void)context;
    (void)name;
    if (call != MEMORY_SYNC_DIRECTORY)
        return;
    memory_disk_watch(tree.memory, NULL, NULL);
    tree_fail_reads(true);
    assert_int_equal(tree_get(1), STATUS_IO);
    struct memory_fault fault = {
        .call = memory_disk_counts(tree.memory).calls + 1,
        .status = STATUS_IO,
    };
    memory_disk_fail(tree.memory, &fault);
}

static void an_output_that_failed_is_not_taken_for_damage(void **state)
{
    (void)state;
    struct lsm *lsm = make_uncached();
    memory_disk_watch(tree.memory, fail_after_a_reader, NULL);
    assert_int_equal(lsm_compact(lsm, true), STATUS_IO);
    assert_int_equal(tree.reports, 1);
    assert_int_equal(tree_try_put(0, false), STATUS_IO);
    assert_int_equal(tree_try_put(0, false), STATUS_BROKEN);
    tree_reopen();
    tree_check();
}

static void what_the_disk_cannot_read_is_left_alone_like_damage(void **state)
{
    (void)state;
    struct lsm *lsm = make_uncached();
    tree_fail_reads(true);
    assert_int_equal(lsm_compact(lsm, true), STATUS_CORRUPT);
    assert_int_equal(tree.reports, 3); /* one for each table */
    assert_int_equal(tree_get(1), STATUS_IO);
    tree_fail_reads(false);
    assert_int_equal(tree_tables(0), 3);
    tree_check();
    tree_put_all(0, KEYS);
    tree_settle();
    assert_true(tree_tables(0) > 0);
    tree_check();
    /* A disk that has recovered is used in full. */
    tree_reopen();
    tree_settle();
    assert_int_equal(tree_tables(0), 0);
    tree_check();
}

static void a_drop_over_a_damaged_table_heals_the_store(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    make_damaged(name);
    find_lost(KEYS);
    tree_put_all(KEYS, KEYS + 10);
    tree_drop(0, KEYS);
    tree_settle();
    assert_int_equal(memory_disk_file_bytes(tree.memory, name), UINT64_MAX);
    tree_check();
    tree_put_all(0, KEYS);
    tree_check();
    tree_settle();
    tree_reopen();
    tree_check();
    assert_int_equal(tree.reports, 1);
}

static void a_drop_that_comes_before_the_damage_is_met_heals_too(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    make_damaged(name);
    tree_drop(0, KEYS);
    tree_settle();
    assert_int_equal(memory_disk_file_bytes(tree.memory, name), UINT64_MAX);
    assert_int_equal(tree.reports, 0);
    tree_check();
}

/* Where the sections behind a table's blocks begin. */
struct places {
    uint64_t filter, index, size;
};

static struct places find_places(const char *name)
{
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    struct buffer file = {0};
    assert_int_equal(disk_read_all(disk, name, SIZE_MAX, &file), STATUS_OK);
    const uint8_t *footer = file.data + file.size - TABLE_FOOTER_BYTES;
    struct places places = {.filter = load_u64(footer), .size = file.size};
    places.index = places.filter + load_u64(footer + 8) + TABLE_TRAILER_BYTES;
    buffer_fini(&file);
    disk_free(disk);
    return places;
}

static void a_table_whose_end_is_damaged_is_refused_by_name(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    tree_make_table(KEYS, name);
    tree_close();
    const char *words[] = {MEMORY_DISK_PATH, name, "corrupt", NULL};
    struct places places = find_places(name);
    for (uint64_t at = places.index; at < places.size; at += 3) {
        memory_disk_flip(tree.memory, name, at, 0x20);
        tree_refused(STATUS_CORRUPT, words);
        memory_disk_flip(tree.memory, name, at, 0x20);
    }
    tree_open();
    tree_check();
}

static void
a_damaged_filter_hides_nothing_and_goes_with_compaction(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    tree_make_table(KEYS, name);
    tree_close();
    struct places places = find_places(name);
    memory_disk_flip(tree.memory, name, places.filter + 7, 0x20);
    tree_open();
    assert_int_equal(tree.reports, 1);
    assert_non_null(strstr(tree.report, name));
    assert_non_null(strstr(tree.report, "filter"));
    tree_check();
    for (int i = 0; i < 4; i++) {
        tree_put_all(0, KEYS);
        tree_settle();
    }
    assert_int_equal(memory_disk_file_bytes(tree.memory, name), UINT64_MAX);
    tree_reopen();
    assert_int_equal(tree.reports, 1);
    tree_check();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_CASE(keys_in_a_damaged_block_are_corrupt_and_no_others),
        TREE_CASE(damage_is_reported_once_with_file_and_offset),
        TREE_CASE(iterators_pass_over_damage_and_tell),
        TREE_CASE(a_lost_key_that_is_written_anew_reads_back),
        TREE_CASE(compactions_go_on_beside_damage),
        TREE_CASE(a_compaction_that_meets_damage_breaks_nothing),
        TREE_CASE(an_output_that_failed_is_not_taken_for_damage),
        TREE_CASE(what_the_disk_cannot_read_is_left_alone_like_damage),
        TREE_CASE(a_drop_over_a_damaged_table_heals_the_store),
        TREE_CASE(a_drop_that_comes_before_the_damage_is_met_heals_too),
        TREE_CASE(a_table_whose_end_is_damaged_is_refused_by_name),
        TREE_CASE(a_damaged_filter_hides_nothing_and_goes_with_compaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
