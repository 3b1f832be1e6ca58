/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_tree.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* A disk that fails breaks the LSM engine: whoever writes is told why, once,
 * and nothing is answered from then on. What was synced is there when it is
 * opened again. */

/* Has one call of a kind on a file whose name ends so fail. */
struct trap {
    enum memory_call call;
    const char *ending;
};

static struct {
    struct trap trap;
    enum status status;
    bool lasting;
    atomic_bool sprung;
} set;

static bool ends_so(const char *name, const char *ending)
{
    size_t size = strlen(name), end = strlen(ending);
    return size >= end && strcmp(name + size - end, ending) == 0;
}

/* Is called before the call is counted. */
static void spring(void *context, enum memory_call call, const char *name)
{
    (void)context;
    if (call != set.trap.call || !ends_so(name, set.trap.ending) ||
        atomic_exchange(&set.sprung, true))
        return;
    struct memory_fault fault = {
        .call = memory_disk_counts(tree.memory).calls + 1,
        .lasting = set.lasting,
        .status = set.status,
        .seed = 7,
    };
    memory_disk_fail(tree.memory, &fault);
}

static void set_trap(struct trap trap, enum status status, bool lasting)
{
    set.trap = trap;
    set.status = status;
    set.lasting = lasting;
    atomic_store(&set.sprung, false);
    memory_disk_watch(tree.memory, spring, NULL);
}

static void expect_broken(void)
{
    struct buffer value = {0};
    struct engine_iterator *iterator;
    struct batch nothing = {.count = 0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tree_try_put(0, false), STATUS_BROKEN);
        assert_int_equal(tree_try_put(0, true), STATUS_BROKEN);
        assert_int_equal(engine_write(tree.engine, &nothing, true),
                         STATUS_BROKEN);
        assert_int_equal(
            engine_delete_range(tree.engine, tree_key(0), tree_key(1)),
            STATUS_BROKEN);
        assert_int_equal(engine_get(tree.engine, tree_key(0), &value),
                         STATUS_BROKEN);
        assert_int_equal(engine_iterate(tree.engine, tree_key(0), tree_key(1),
                                        ENGINE_FORWARD, &iterator),
                         STATUS_BROKEN);
        assert_null(iterator);
        assert_int_equal(lsm_settle(tree.engine), STATUS_BROKEN);
    }
    buffer_fini(&value);
}

/* Lose what was not synced, or nothing, open again, and go on. */
static void expect_recovered(enum memory_survival survival, unsigned keys)
{
    tree_crash(survival);
    for (int i = 0; i < 2; i++) {
        tree_open();
        for (unsigned key = 0; key < keys; key++)
            tree_expect(key);
        assert_int_equal(tree_try_put(keys + 1, true), STATUS_OK);
        tree_settle();
        tree_close();
    }
}

static void a_failed_write_says_why_and_breaks(void **state)
{
    (void)state;
    static const struct trap traps[] = {{MEMORY_WRITE, ".log"},
                                        {MEMORY_SYNC, ".log"}};
    static const enum status statuses[] = {STATUS_IO, STATUS_NO_SPACE};
    for (int i = 0; i < 4; i++) {
        struct bytes key, value;
        tree_open();
        assert_int_equal(tree_try_put(0, true), STATUS_OK);
        assert_int_equal(tree_try_put(1, true), STATUS_OK);
        struct engine_iterator *iterator = tree_iterate(0, 9, ENGINE_FORWARD);
        assert_int_equal(engine_next(iterator, &key, &value), STATUS_OK);
        set_trap(traps[i / 2], statuses[i % 2], false);
        assert_int_equal(tree_try_put(2, true), statuses[i % 2]);
        expect_broken();
        assert_int_equal(engine_next(iterator, &key, &value), STATUS_BROKEN);
        engine_iterator_free(iterator);
        expect_recovered(MEMORY_NOTHING, 2);
    }
}

static unsigned synced; /* tables */

/* Is called before the sync of a file: of the second table, which is the first
 * of a compaction, takes the name away. */
static void remove_second(void *context, enum memory_call call,
                          const char *name)
{
    (void)context;
    if (call != MEMORY_SYNC || !ends_so(name, ".table") || ++synced != 2)
        return;
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    assert_int_equal(disk->operations->remove(disk, name), STATUS_OK);
    disk_free(disk);
}

static void a_compaction_whose_output_is_gone_removes_no_input(void **state)
{
    (void)state;
    tree_set("memtable_bytes", 65536);
    tree_open();
    tree_put_all(0, 120);
    tree_settle();
    tree_put_all(0, 120);
    tree_sync();
    synced = 0;
    memory_disk_watch(tree.memory, remove_second, NULL);
    assert_int_equal(lsm_settle(tree.engine), STATUS_IO);
    assert_true(synced == 2);
    memory_disk_watch(tree.memory, NULL, NULL);
    tree_reopen();
    tree_check();
}

/* Everything that a rotation, a flush and a compaction ask of the disk. */
static const struct trap background[] = {
    {MEMORY_CREATE, ".log"},          {MEMORY_RENAME, ".log"},
    {MEMORY_CREATE, ".table"},        {MEMORY_WRITE, ".table"},
    {MEMORY_SYNC, ".table"},          {MEMORY_CREATE, "MANIFEST.next"},
    {MEMORY_WRITE, "MANIFEST.next"},  {MEMORY_SYNC, "MANIFEST.next"},
    {MEMORY_RENAME, "MANIFEST.next"}, {MEMORY_SYNC_DIRECTORY, MEMORY_DISK_PATH},
};
enum {
    BACKGROUND = sizeof background / sizeof *background,
    KEYS_BEFORE = 10, /* less than a memtable */
    KEYS_MAX = 2000,
};

/* Write until it fails, which is to be with the trap's status, and then no
 * more. How many keys were acknowledged. */
static unsigned write_until_broken(struct trap trap, bool lasting)
{
    unsigned key = 0;
    enum status status = STATUS_OK;
    tree_open();
    for (; key < KEYS_BEFORE; key++)
        assert_int_equal(tree_try_put(key, true), STATUS_OK);
    set_trap(trap, STATUS_IO, lasting);
    while (status == STATUS_OK && key < KEYS_MAX) {
        status = tree_try_put(key, true);
        key += status == STATUS_OK;
    }
    if (!set.sprung)
        fail_msg("%s of %s never came", memory_call_name(trap.call),
                 trap.ending);
    if (status != STATUS_IO)
        fail_msg("%s of %s: %s", memory_call_name(trap.call), trap.ending,
                 status_name(status));
    expect_broken();
    return key;
}

static void check_background(bool threads)
{
    static const enum memory_survival survivals[] = {
        MEMORY_NOTHING, MEMORY_EVERYTHING, MEMORY_SOME, MEMORY_TORN};
    for (size_t i = 0; i < BACKGROUND; i++) {
        for (size_t j = 0; j < 4; j++) {
            tree_setup(NULL);
            tree.threads = threads;
            unsigned keys = write_until_broken(background[i], threads);
            expect_recovered(survivals[j], keys);
            tree_teardown(NULL);
        }
    }
}

static void a_failure_behind_a_write_is_told_by_the_next(void **state)
{
    (void)state;
    check_background(false);
}

static void a_failure_in_a_thread_is_told_by_the_next_write(void **state)
{
    (void)state;
    check_background(true);
}

static void a_drop_that_failed_says_why_and_breaks(void **state)
{
    (void)state;
    for (size_t i = 5; i < BACKGROUND; i++) {
        tree_open();
        tree_put_all(0, 100);
        tree_sync();
        set_trap(background[i], STATUS_IO, false);
        assert_int_equal(
            engine_delete_range(tree.engine, tree_key(50), tree_key(100)),
            STATUS_IO);
        assert_true(set.sprung);
        expect_broken();
        expect_recovered(i % 2 == 0 ? MEMORY_NOTHING : MEMORY_EVERYTHING, 50);
    }
}

static void a_checkpoint_on_another_file_system_says_so(void **state)
{
    (void)state;
    static const struct trap link = {MEMORY_LINK, ".table"};
    struct error error;
    tree_open();
    tree_put_all(0, 100);
    set_trap(link, STATUS_REFUSED, false);
    assert_int_equal(engine_checkpoint(tree.engine, "copy", &error),
                     STATUS_REFUSED);
    assert_non_null(strstr(error.text, "copy"));
    assert_non_null(strstr(error.text, "another file system"));
    tree_check();
}

/* A store on the real disk, in a directory that goes with the test. */
static char real_path[] = "/tmp/lsm_broken_test.XXXXXX";

static int real_setup(void **state)
{
    tree_setup(state);
    memcpy(strrchr(real_path, '.'), ".XXXXXX", sizeof ".XXXXXX" - 1);
    return mkdtemp(real_path) == NULL ? -1 : 0;
}

static void remove_directory(void)
{
    char command[sizeof real_path + 16];
    snprintf(command, sizeof command, "rm -rf %s", real_path);
    assert_int_equal(system(command), 0);
}

static int real_teardown(void **state)
{
    tree_teardown(state);
    remove_directory();
    return 0;
}

static void note_report(void *context, const char *message)
{
    (void)context;
    snprintf(tree.report, sizeof tree.report, "%s", message);
}

static enum status real_open(void)
{
    struct disk *disk;
    struct engine_options options = {
        .directory = real_path,
        .settings = tree.settings,
        .setting_count = tree.setting_count,
        .report = note_report,
    };
    assert_int_equal(disk_open(real_path, &disk, &tree.error), STATUS_OK);
    return lsm_open_on(&options, disk, false, &tree.engine, &tree.error);
}

static enum status put_until_it_fails(void)
{
    enum status status = STATUS_OK;
    for (unsigned key = 0; status == STATUS_OK && key < KEYS_MAX; key++)
        status = tree_try_put(key, false);
    return status;
}

static void a_store_whose_directory_is_gone_says_io(void **state)
{
    (void)state;
    assert_int_equal(real_open(), STATUS_OK);
    tree_put_all(0, 100);
    remove_directory();
    assert_int_equal(put_until_it_fails(), STATUS_IO);
    expect_broken();
}

/* Let so many more files be opened. How many there might be before. */
static rlim_t allow_files(rlim_t more)
{
    struct rlimit limit;
    int next = dup(STDERR_FILENO);
    assert_true(next >= 0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)next + more;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return before;
}

static void restore_files(rlim_t before)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = before;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void too_many_open_files_are_named(void **state)
{
    (void)state;
    static const char words[] = "Too many open files";
    assert_int_equal(real_open(), STATUS_OK);
    tree_put_all(0, KEYS_MAX);
    tree_close();
    /* The directory, and what is opened and closed again. */
    rlim_t before = allow_files(3);
    enum status status = real_open();
    restore_files(before);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(tree.error.text, words));

    /* Whether it is a log or a table that takes the last. */
    for (rlim_t more = 1; more <= 8; more++) {
        tree.report[0] = '\0';
        assert_int_equal(real_open(), STATUS_OK);
        tree_check();
        before = allow_files(more);
        status = put_until_it_fails();
        restore_files(before);
        assert_int_equal(status, STATUS_IO);
        assert_non_null(strstr(tree.report, words));
        expect_broken();
        tree_close();
    }
}

/* As after a compaction whose inputs had keys that they do not name. */
static void tables_that_overlap_are_never_installed(void **state)
{
    (void)state;
    tree_open();
    tree_put_all(0, 400);
    tree_sync();
    tree_settle();
    struct lsm *lsm = lsm_of(tree.engine);
    unsigned level = 1;
    while (lsm->view->version->levels[level].count == 0)
        level++;
    struct version_edit edit = {
        .added = lsm->view->version->levels[level].tables,
        .added_count = 1,
        .added_level = level,
    };
    pthread_mutex_lock(&lsm->manifest_mutex);
    enum status status = lsm_install(lsm, &edit, 0);
    pthread_mutex_unlock(&lsm->manifest_mutex);
    assert_int_equal(status, STATUS_CORRUPT);
    assert_int_equal(tree_try_put(0, false), STATUS_CORRUPT);
    expect_broken();
    tree_reopen();
    tree_check();
}

static bool rests(void)
{
    struct lsm *lsm = lsm_of(tree.engine);
    pthread_mutex_lock(&lsm->mutex);
    bool rests = lsm->compaction_rests;
    pthread_mutex_unlock(&lsm->mutex);
    return rests;
}

/* A full disk that a flush may still fit on. */
static void without_room_to_compact_a_store_is_read_and_written(void **state)
{
    (void)state;
    enum { KEYS = 120 };
    static const struct trap compaction = {MEMORY_WRITE, ".table"};
    tree_set("memtable_bytes", 65536);
    tree_open();
    for (int i = 0; i < 3; i++) {
        tree_put_all(0, KEYS);
        tree_flush();
    }
    assert_int_equal(tree_tables(0), 3);
    set_trap(compaction, STATUS_NO_SPACE, false);
    size_t tables = tree_files(".table", TREE_FIRST, NULL);
    assert_int_equal(lsm_settle(tree.engine), STATUS_NO_SPACE);
    assert_true(set.sprung);
    assert_true(rests());
    assert_int_equal(tree_files(".table", TREE_FIRST, NULL), tables);
    tree_check();
    /* Nothing is tried again before a flush has made room. */
    tree_put_all(0, 10);
    assert_int_equal(lsm_compact(lsm_of(tree.engine), false), STATUS_NOT_FOUND);
    tree_settle();
    assert_false(rests());
    assert_int_equal(tree_tables(0), 0);
    tree_check();
    tree_reopen();
    tree_check();
}

/* So many bytes more than a compaction into level 1 has to leave and takes for
 * its first table, or fewer. */
static void leave_room(int more)
{
    struct lsm *lsm = lsm_of(tree.engine);
    memory_disk_limit(tree.memory,
                      memory_disk_counts(tree.memory).bytes_stored +
                          2 * lsm->memtable_bytes + lsm->table_bytes +
                          (uint64_t)more);
}

static void add_table(void)
{
    memory_disk_limit(tree.memory, UINT64_MAX);
    tree_put_all(0, 10);
    tree_flush();
}

static void compactions_leave_logs_and_flushes_their_room(void **state)
{
    (void)state;
    tree_set("memtable_bytes", 1 << 20);
    tree_open();
    struct lsm *lsm = lsm_of(tree.engine);
    add_table();
    for (unsigned i = 0; i < 2; i++) {
        add_table();
        leave_room(-1);
        uint64_t written = memory_disk_counts(tree.memory).bytes_written;
        assert_int_equal(lsm_compact(lsm, true), STATUS_NO_SPACE);
        assert_int_equal(memory_disk_counts(tree.memory).bytes_written,
                         written);
        assert_true(rests());
        assert_int_equal(lsm_compact(lsm, true), STATUS_NOT_FOUND);
        assert_int_equal(tree.reports, 1);
        assert_string_equal(tree.report, MEMORY_DISK_PATH
                            ": compactions rest: 2 MB free, 3 needed");
    }
    /* By itself, and then it is told anew. */
    add_table();
    leave_room(0);
    assert_int_equal(lsm_compact(lsm, true), STATUS_OK);
    assert_int_equal(tree_tables(0), 0);
    assert_int_equal(tree.reports, 1);
    add_table();
    add_table();
    leave_room(-1);
    assert_int_equal(lsm_compact(lsm, true), STATUS_NO_SPACE);
    assert_int_equal(tree.reports, 2);
    tree_check();
    /* What makes room does not wait for it. */
    tree_drop(0, 10);
    assert_true(rests());
    assert_int_equal(lsm_compact(lsm, true), STATUS_OK);
    assert_int_equal(tree_tables(0), 0);
    tree_check();
}

/* Until the tree's background has come so far. */
static void wait_until(bool (*is_so)(const struct lsm *lsm))
{
    struct lsm *lsm = lsm_of(tree.engine);
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += 60;
    pthread_mutex_lock(&lsm->mutex);
    int waited = 0;
    while (!is_so(lsm) && waited == 0)
        waited = pthread_cond_timedwait(&lsm->changed, &lsm->mutex, &deadline);
    pthread_mutex_unlock(&lsm->mutex);
    assert_int_equal(waited, 0);
}

static bool has_flushed(const struct lsm *lsm)
{
    return lsm->view->memtable_count == 1;
}

static bool has_begun_to_rest(const struct lsm *lsm)
{
    return lsm->compaction_rests;
}

static bool has_compacted(const struct lsm *lsm)
{
    return lsm->view->version->levels[0].count == 0;
}

static void a_rest_ends_without_writes_when_there_is_room(void **state)
{
    (void)state;
    tree_set("memtable_bytes", 1 << 20);
    tree.threads = true;
    tree_open();
    memory_disk_limit(tree.memory,
                      memory_disk_counts(tree.memory).bytes_stored + (3 << 19));
    for (unsigned i = 0; i < 4; i++) {
        tree_put_all(0, 10);
        assert_int_equal(lsm_freeze(lsm_of(tree.engine)), STATUS_OK);
        wait_until(has_flushed);
    }
    wait_until(has_begun_to_rest);
    memory_disk_limit(tree.memory, UINT64_MAX);
    wait_until(has_compacted);
    tree_check();
}

static void starts_that_fail_leave_one_log(void **state)
{
    (void)state;
    /* Before there is a new log, and behind it. */
    static const struct trap traps[] = {{MEMORY_WRITE, ".table"},
                                        {MEMORY_WRITE, "MANIFEST.next"}};
    const char *words[] = {"cannot be written", NULL};
    tree_open();
    assert_int_equal(tree_try_put(0, true), STATUS_OK);
    tree_crash(MEMORY_NOTHING);
    size_t logs = tree_files(".log", TREE_FIRST, NULL);
    for (size_t i = 0; i < 8; i++) {
        set_trap(traps[i / 4], STATUS_NO_SPACE, true);
        tree_refused(STATUS_NO_SPACE, words);
        memory_disk_fail(tree.memory, &(struct memory_fault){0});
        assert_int_equal(tree_files(".log", TREE_FIRST, NULL), logs + i / 4);
    }
    memory_disk_watch(tree.memory, NULL, NULL);
    tree_open();
    tree_check();
}

static void a_start_that_is_refused_leaves_no_tables(void **state)
{
    (void)state;
    char name[MEMORY_NAME_MAX];
    const char *words[] = {"is corrupt at offset", NULL};
    tree_set("memtable_bytes", 1 << 20);
    tree_open();
    tree.value_bytes = 5000;
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(tree_try_put(i, true), STATUS_OK);
    tree_files(".log", TREE_FIRST, name);
    tree_crash(MEMORY_NOTHING);
    memory_disk_flip(tree.memory, name, 20000, 1);
    /* What comes before the damage is more than one of these holds. */
    tree_set("memtable_bytes", 4096);
    uint64_t written = memory_disk_counts(tree.memory).bytes_written;
    tree_refused(STATUS_CORRUPT, words);
    assert_true(memory_disk_counts(tree.memory).bytes_written > written);
    assert_int_equal(tree_files(".table", TREE_FIRST, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_CASE(a_failed_write_says_why_and_breaks),
        cmocka_unit_test_setup_teardown(a_store_whose_directory_is_gone_says_io,
                                        real_setup, real_teardown),
        cmocka_unit_test_setup_teardown(too_many_open_files_are_named,
                                        real_setup, real_teardown),
        TREE_CASE(tables_that_overlap_are_never_installed),
        TREE_CASE(a_compaction_whose_output_is_gone_removes_no_input),
        cmocka_unit_test(a_failure_behind_a_write_is_told_by_the_next),
        cmocka_unit_test(a_failure_in_a_thread_is_told_by_the_next_write),
        TREE_CASE(a_drop_that_failed_says_why_and_breaks),
        TREE_CASE(a_checkpoint_on_another_file_system_says_so),
        TREE_CASE(without_room_to_compact_a_store_is_read_and_written),
        TREE_CASE(compactions_leave_logs_and_flushes_their_room),
        TREE_CASE(a_rest_ends_without_writes_when_there_is_room),
        TREE_CASE(starts_that_fail_leave_one_log),
        TREE_CASE(a_start_that_is_refused_leaves_no_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
