/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_tree.h"

/* Where the LSM engine does not open, and says of which file and place: a log
 * or a manifest that is damaged, and anything that is missing. */

enum { KEYS = 400 };

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
    tree_make_table(KEYS, name);
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
    tree_fail_reads(false);
    return reads;
}

static void an_open_that_cannot_read_says_nothing_of_giving_up(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    static const enum status statuses[] = {STATUS_IO, STATUS_NO_MEMORY};
    for (int i = 0; i < 2; i++) {
        tree_setup(NULL);
        tree_make_table(KEYS, name);
        tree_put_all(0, 10);
        tree_sync();
        tree_close();
        /* The listing and the manifest's, the table's and the log's opens,
         * sizes and bytes, which of the table are four parts. */
        assert_true(expect_patience(statuses[i]) >= 13);
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
    /* After the open of the MANIFEST and the list: its open, its size, its
     * bytes. */
    for (uint64_t read = 3; read <= 5; read++) {
        struct memory_fault fault = {
            .call = memory_disk_counts(tree.memory).reads + read,
            .of_reads = true,
            .status = STATUS_IO,
        };
        memory_disk_fail(tree.memory, &fault);
        tree_refused(STATUS_IO, words);
    }
}

static void a_damaged_manifest_is_refused_by_name(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    const char *words[] = {MEMORY_DISK_PATH "/MANIFEST", NULL};
    tree_make_table(KEYS, name);
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
int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
