/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_tree.h"

/* What the LSM engine does about files that are damaged or missing: where a
 * table is, it goes on without what is lost; else it does not open, and says
 * of which file and place. */

enum {
    KEYS = 400,
    TABLE_BYTES = 64 << 10,
    /* In the second block of a table. */
    DAMAGED_AT = TABLE_BLOCK_BYTES + 1000,
};

/* One table of some ten blocks in level 0; its name. */
static void make_table(char name[LSM_NAME_MAX])
{
    tree_set("memtable_bytes", TABLE_BYTES);
    tree_set("table_bytes", TABLE_BYTES);
    tree_open();
    tree_put_all(0, KEYS);
    tree_settle();
    tree_table_name(0, name);
}

/* Such a table, damaged, in a store that was opened since. */
static void make_damaged(char name[LSM_NAME_MAX])
{
    make_table(name);
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

static void expect_corrupt_from(unsigned number, unsigned wanted,
                                struct engine_iterator *iterator)
{
    struct bytes key, value;
    for (unsigned i = 0; i < wanted; i++) {
        assert_int_equal(engine_next(iterator, &key, &value), STATUS_OK);
        if (i == 0)
            assert_true(bytes_equal(key, tree_key(number)));
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(engine_next(iterator, &key, &value), STATUS_CORRUPT);
    engine_iterator_free(iterator);
}

static void iterators_stop_at_damage_for_good(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    make_damaged(name);
    struct lost lost = find_lost(KEYS);
    expect_corrupt_from(0, lost.first, tree_iterate(0, KEYS, ENGINE_FORWARD));
    expect_corrupt_from(KEYS - 1, KEYS - lost.end,
                        tree_iterate(0, KEYS, ENGINE_BACKWARD));
    /* Whether there were keys below the first that is lost, nobody knows. */
    unsigned end = lost.first - 1;
    struct engine_iterator *before = tree_iterate(0, end, ENGINE_BACKWARD);
    tree_expect_rest(before, 0, end, ENGINE_BACKWARD, tree.rounds);
    engine_iterator_free(before);
    struct engine_iterator *behind =
        tree_iterate(lost.end, KEYS, ENGINE_FORWARD);
    tree_expect_rest(behind, lost.end, KEYS, ENGINE_FORWARD, tree.rounds);
    engine_iterator_free(behind);
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

/* All reads fail from the next on, or none does any more. */
static void fail_reads(bool fail)
{
    struct memory_fault fault = {
        .call = fail ? memory_disk_counts(tree.memory).reads + 1 : 0,
        .of_reads = true,
        .lasting = true,
        .status = STATUS_IO,
    };
    memory_disk_fail(tree.memory, &fault);
}

static void what_the_disk_cannot_read_is_left_alone_like_damage(void **state)
{
    (void)state;
    tree_set("memtable_bytes", TABLE_BYTES);
    tree_set("cache_bytes", 0);
    tree_open();
    struct lsm *lsm = lsm_of(tree.engine);
    for (int i = 0; i < 3; i++) {
        tree_put_all(0, KEYS);
        assert_int_equal(lsm_freeze(lsm), STATUS_OK);
        assert_int_equal(lsm_flush(lsm), STATUS_OK);
    }
    fail_reads(true);
    assert_int_equal(lsm_compact(lsm, true), STATUS_CORRUPT);
    assert_int_equal(tree.reports, 1);
    assert_int_equal(tree_get(1), STATUS_IO);
    fail_reads(false);
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

/* Three synced records in the only log that matters. Where the second is. */
static uint64_t write_three(char name[LSM_NAME_MAX])
{
    uint64_t second = 0;
    tree_open();
    for (unsigned i = 0; i < 3; i++) {
        if (i == 1)
            second = lsm_of(tree.engine)->log.size;
        assert_int_equal(tree_try_put(i, true), STATUS_OK);
    }
    log_name(name, lsm_of(tree.engine)->log.number);
    return second;
}

static void damage_in_a_log_is_refused_with_its_place(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX], number[16], place[32];
    uint64_t second = write_three(name);
    snprintf(number, sizeof number, "%.8s", name);
    snprintf(place, sizeof place, "offset %u;", (unsigned)second);
    const char *words[] = {MEMORY_DISK_PATH, number, place, NULL};
    tree_crash(MEMORY_NOTHING);
    memory_disk_flip(tree.memory, name, second + 40, 0x01);
    /* It stays so, and nothing is taken from what a person may yet mend. */
    for (int i = 0; i < 3; i++)
        tree_refused(STATUS_CORRUPT, words);
    memory_disk_flip(tree.memory, name, second + 40, 0x01);
    tree_open();
    tree_check();
}

static void a_torn_end_of_the_log_is_forgotten(void **state)
{
    (void)state;
    enum { CRASHES = 50, UNSYNCED = 10 };
    for (unsigned i = 0; i < CRASHES; i++) {
        tree_open();
        tree_sync();
        assert_int_equal(tree_try_put(0, true), STATUS_OK);
        for (unsigned j = 0; j < UNSYNCED; j++) {
            tree.value_bytes = 100 + 50 * j;
            tree_put(1 + j);
        }
        tree_crash(MEMORY_TORN);
        tree_open();
        tree_expect(0);
        /* Of the others a first part is there. */
        unsigned left = 0;
        struct buffer value = {0};
        for (unsigned j = 0; j < UNSYNCED; j++) {
            enum status status =
                engine_get(tree.engine, tree_key(1 + j), &value);
            assert_int_equal(status, left == j && status == STATUS_OK
                                         ? STATUS_OK
                                         : STATUS_NOT_FOUND);
            left += status == STATUS_OK;
        }
        buffer_fini(&value);
        tree_drop(0, 1 + UNSYNCED);
        tree_close();
    }
}

static void remove_file(const char *name)
{
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    assert_int_equal(disk->operations->remove(disk, name), STATUS_OK);
    disk_free(disk);
}

static void a_missing_table_is_refused_by_name(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    make_table(name);
    tree_close();
    remove_file(name);
    const char *words[] = {MEMORY_DISK_PATH, name, "missing", NULL};
    tree_refused(STATUS_CORRUPT, words);
}

static void a_missing_log_is_refused_by_name(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    write_three(name);
    tree_close();
    remove_file(name);
    const char *words[] = {MEMORY_DISK_PATH, name, "missing", NULL};
    tree_refused(STATUS_CORRUPT, words);
}

enum { CHAIN = 3 };

/* Logs that are in no table, of one record each, then a crash. */
static void write_chain(uint64_t numbers[CHAIN])
{
    tree_open();
    struct lsm *lsm = lsm_of(tree.engine);
    lsm->threads = true; /* none of which flushes */
    for (unsigned i = 0; i < CHAIN; i++) {
        assert_int_equal(lsm_freeze(lsm), STATUS_OK);
        assert_int_equal(tree_try_put(i, true), STATUS_OK);
        numbers[i] = lsm->log.number;
    }
    lsm->threads = false;
    tree_crash(MEMORY_NOTHING);
}

static void a_log_missing_anywhere_is_refused_by_name(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CHAIN; i++) {
        uint64_t numbers[CHAIN];
        char name[LSM_NAME_MAX];
        tree_setup(NULL);
        write_chain(numbers);
        log_name(name, numbers[i]);
        remove_file(name);
        const char *words[] = {MEMORY_DISK_PATH, name, "missing", NULL};
        tree_refused(STATUS_CORRUPT, words);
        tree_teardown(NULL);
    }
}

static void a_log_that_none_names_is_not_read(void **state)
{
    (void)state;
    struct log unnamed;
    char name[LSM_NAME_MAX];
    tree_open();
    struct lsm *lsm = lsm_of(tree.engine);
    lsm->threads = true;
    assert_int_equal(tree_try_put(0, true), STATUS_OK);
    assert_int_equal(log_create(&unnamed, lsm->disk, lsm_new_file(lsm), 0),
                     STATUS_OK);
    log_close(&unnamed);
    log_name(name, unnamed.number);
    assert_int_equal(lsm_freeze(lsm), STATUS_OK);
    assert_int_equal(tree_try_put(1, true), STATUS_OK);
    lsm->threads = false;
    tree_crash(MEMORY_NOTHING);
    tree_open();
    tree_check();
    assert_int_equal(memory_disk_file_bytes(tree.memory, name), UINT64_MAX);
}

static void what_was_torn_in_a_log_that_is_emptied_stays_away(void **state)
{
    (void)state;
    enum { CRASHES = 50 };
    char name[LSM_NAME_MAX];
    for (unsigned i = 0; i < CRASHES; i++) {
        tree_open();
        log_name(name, lsm_of(tree.engine)->log.number);
        tree_put_all(0, 2);
        tree_crash(MEMORY_EVERYTHING);
        memory_disk_flip(tree.memory, name, 40, 0x01);
        tree_open();
        assert_int_equal(memory_disk_file_bytes(tree.memory, name), 0);
        tree_put(0);
        tree_crash(MEMORY_SOME);
        tree_open();
        assert_int_equal(tree_get(1), STATUS_NOT_FOUND);
        tree_drop(0, 2);
        tree_close();
    }
}

static void data_without_a_manifest_is_refused(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    const char *words[] = {MEMORY_DISK_PATH, "no MANIFEST", NULL};
    write_three(name);
    tree_close();
    remove_file("MANIFEST");
    tree_refused(STATUS_CORRUPT, words);
    /* The log was left as it was. */
    assert_true(memory_disk_file_bytes(tree.memory, name) < UINT64_MAX);
}

/* With each of its reads failing, an open says so, and of nothing that it is
 * to be given up. How many reads come before it writes. */
static unsigned expect_patience(enum status status)
{
    const char *words[] = {MEMORY_DISK_PATH, "cannot be ", NULL};
    unsigned reads = 0;
    for (;; reads++) {
        struct memory_fault fault = {
            .call = memory_disk_counts(tree.memory).reads + reads + 1,
            .of_reads = true,
            .lasting = true,
            .status = status,
        };
        memory_disk_fail(tree.memory, &fault);
        tree_refused(status, words);
        if (strstr(tree.error.text, "cannot be written") != NULL)
            break;
        assert_null(strstr(tree.error.text, "empty this directory"));
        assert_null(strstr(tree.error.text, "backup"));
    }
    fail_reads(false);
    return reads;
}

static void an_open_that_cannot_read_says_nothing_of_giving_up(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    static const enum status statuses[] = {STATUS_IO, STATUS_NO_MEMORY};
    for (int i = 0; i < 2; i++) {
        tree_setup(NULL);
        make_table(name);
        tree_put_all(0, 10);
        tree_sync();
        tree_close();
        /* The listing, the manifest, the table's four parts, the log. */
        assert_true(expect_patience(statuses[i]) >= 7);
        tree_open();
        tree_check();
        tree_teardown(NULL);
    }
}

static void
a_log_that_cannot_be_read_is_not_data_without_a_manifest(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    write_three(name);
    tree_close();
    remove_file("MANIFEST");
    const char *words[] = {name, "cannot be read", NULL};
    struct memory_fault fault = {
        .call = memory_disk_counts(tree.memory).reads + 2, /* after the list */
        .of_reads = true,
        .status = STATUS_IO,
    };
    memory_disk_fail(tree.memory, &fault);
    tree_refused(STATUS_IO, words);
}

static void a_damaged_manifest_is_refused_by_name(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    const char *words[] = {MEMORY_DISK_PATH "/MANIFEST", NULL};
    make_table(name);
    tree_close();
    uint64_t size = memory_disk_file_bytes(tree.memory, "MANIFEST");
    for (uint64_t at = 0; at < size; at++) {
        memory_disk_flip(tree.memory, "MANIFEST", at, 0x04);
        tree_refused(STATUS_CORRUPT, words);
        memory_disk_flip(tree.memory, "MANIFEST", at, 0x04);
    }
    tree_open();
    tree_check();
}

static void a_table_whose_index_is_damaged_is_refused_by_name(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    make_table(name);
    tree_close();
    const char *words[] = {MEMORY_DISK_PATH, name, "corrupt", NULL};
    uint64_t size = memory_disk_file_bytes(tree.memory, name);
    for (uint64_t back = 1; back < 200; back += 9) {
        memory_disk_flip(tree.memory, name, size - back, 0x20);
        tree_refused(STATUS_CORRUPT, words);
        memory_disk_flip(tree.memory, name, size - back, 0x20);
    }
    tree_open();
    tree_check();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_CASE(keys_in_a_damaged_block_are_corrupt_and_no_others),
        TREE_CASE(damage_is_reported_once_with_file_and_offset),
        TREE_CASE(iterators_stop_at_damage_for_good),
        TREE_CASE(a_lost_key_that_is_written_anew_reads_back),
        TREE_CASE(compactions_go_on_beside_damage),
        TREE_CASE(a_compaction_that_meets_damage_breaks_nothing),
        TREE_CASE(what_the_disk_cannot_read_is_left_alone_like_damage),
        TREE_CASE(a_drop_over_a_damaged_table_heals_the_store),
        TREE_CASE(a_drop_that_comes_before_the_damage_is_met_heals_too),
        TREE_CASE(damage_in_a_log_is_refused_with_its_place),
        TREE_CASE(a_torn_end_of_the_log_is_forgotten),
        TREE_CASE(a_missing_table_is_refused_by_name),
        TREE_CASE(a_missing_log_is_refused_by_name),
        cmocka_unit_test(a_log_missing_anywhere_is_refused_by_name),
        TREE_CASE(a_log_that_none_names_is_not_read),
        TREE_CASE(what_was_torn_in_a_log_that_is_emptied_stays_away),
        TREE_CASE(data_without_a_manifest_is_refused),
        cmocka_unit_test(an_open_that_cannot_read_says_nothing_of_giving_up),
        TREE_CASE(a_log_that_cannot_be_read_is_not_data_without_a_manifest),
        TREE_CASE(a_damaged_manifest_is_refused_by_name),
        TREE_CASE(a_table_whose_index_is_damaged_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
