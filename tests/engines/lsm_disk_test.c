/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_fixture.h"

#include <errno.h>

#include "engines/lsm/compaction.h"

/* What the LSM engine does on a disk that is full or fails. The linker puts
 * the functions named __wrap here in the place of the system's, so the disk
 * is as large as a test says. */

enum {
    MEMTABLE_BYTES = 64 * 1024,
    VALUE_BYTES = 1000,
    STEP_BYTES = MEMTABLE_BYTES / 8,
    /* Of steps: twice what a memtable's table and a manifest need. */
    STEPS_MAX = 16,
};

static struct {
    const char *path;
    uint64_t bytes_max; /* 0: no end */
    /* A listing fails where this name would come; NULL: never. */
    const char *unlisted;
} disk;

struct dirent *__real_readdir(DIR *directory);
struct dirent *__wrap_readdir(DIR *directory);

struct dirent *__wrap_readdir(DIR *directory)
{
    struct dirent *found = __real_readdir(directory);
    if (found == NULL || disk.unlisted == NULL ||
        strcmp(found->d_name, disk.unlisted) != 0)
        return found;
    errno = EIO;
    return NULL;
}

static uint64_t disk_used(void)
{
    uint64_t used = 0;
    DIR *opened = opendir(disk.path);
    struct dirent *found;
    assert_non_null(opened);
    while ((found = readdir(opened)) != NULL) {
        struct stat stat;
        if (fstatat(dirfd(opened), found->d_name, &stat, 0) == 0 &&
            S_ISREG(stat.st_mode))
            used += (uint64_t)stat.st_size;
    }
    closedir(opened);
    return used;
}

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    if (disk.bytes_max > 0) {
        uint64_t used = disk_used();
        if (used >= disk.bytes_max) {
            errno = ENOSPC;
            return -1;
        }
        if (size > disk.bytes_max - used)
            size = (size_t)(disk.bytes_max - used);
    }
    return __real_write(fd, data, size);
}

static int setup(void **state)
{
    int failed = fixture_setup(state);
    disk.path = *state;
    disk.bytes_max = 0;
    disk.unlisted = NULL;
    return failed;
}

static enum status open_store(struct engine **engine)
{
    struct engine_setting small = {"memtable_bytes", MEMTABLE_BYTES};
    struct engine_options options = {
        .directory = disk.path, .settings = &small, .setting_count = 1};
    return lsm_engine_type.open(&options, engine, NULL);
}

static struct bytes key_of(int number)
{
    static char key[16];
    snprintf(key, sizeof key, "k%06d", number);
    return bytes_of_string(key);
}

static enum status put(struct engine *engine, int number)
{
    static const uint8_t value[VALUE_BYTES];
    struct batch_operation operation = {.key = key_of(number),
                                        .value = bytes_of(value, VALUE_BYTES)};
    struct batch batch = {.operations = &operation, .count = 1};
    return lsm_engine_type.write(engine, &batch, true);
}

static void expect_keys(struct engine *engine, int count)
{
    struct buffer value = {0};
    for (int i = 0; i < count; i++) {
        assert_int_equal(lsm_engine_type.get(engine, key_of(i), &value),
                         STATUS_OK);
        assert_int_equal(value.size, VALUE_BYTES);
    }
    buffer_fini(&value);
}

/* A store whose log holds a memtable, on a disk that is full; how many keys
 * it acknowledged. */
static int fill_disk(void)
{
    struct engine *engine;
    int count = 0;
    assert_int_equal(open_store(&engine), STATUS_OK);
    disk.bytes_max = MEMTABLE_BYTES * 3 / 4;
    enum status status;
    while ((status = put(engine, count)) == STATUS_OK)
        count++;
    assert_int_equal(status, STATUS_NO_SPACE);
    lsm_engine_type.close(engine);
    assert_true(count > 10);
    return count;
}

static void an_open_that_fails_on_a_full_disk_takes_no_space(void **state)
{
    (void)state;
    struct engine *engine;
    fill_disk();
    disk.bytes_max += STEP_BYTES;
    uint64_t used = disk_used();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(open_store(&engine), STATUS_NO_SPACE);
        assert_true(disk_used() <= used);
    }
}

static void a_store_opens_when_space_comes_back_bit_by_bit(void **state)
{
    (void)state;
    struct engine *engine;
    int count = fill_disk(), steps = 0;
    enum status status;
    while ((status = open_store(&engine)) == STATUS_NO_SPACE &&
           steps++ < STEPS_MAX)
        disk.bytes_max += STEP_BYTES;
    assert_int_equal(status, STATUS_OK);
    assert_true(steps > 1);
    expect_keys(engine, count);
    lsm_engine_type.close(engine);
}

/* As a start leaves it that wrote its table and not the manifest. */
static void what_a_crash_left_makes_room_for_the_next_open(void **state)
{
    (void)state;
    struct engine *engine;
    char path[LSM_PATH_MAX];
    int count = fill_disk();
    disk.bytes_max += 2 * MEMTABLE_BYTES;
    assert_true(file_path(path, disk.path, LSM_FILE_TABLE, 1000));
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 2 * MEMTABLE_BYTES), 0);
    close(fd);
    assert_int_equal(open_store(&engine), STATUS_OK);
    expect_keys(engine, count);
    lsm_engine_type.close(engine);
    assert_int_equal(access(path, F_OK), -1);
}

static void wait_rests(struct engine *engine, bool rests)
{
    struct lsm *lsm = (struct lsm *)(void *)engine;
    pthread_mutex_lock(&lsm->mutex);
    while (lsm->compaction_rests != rests && !lsm->broken)
        pthread_cond_wait(&lsm->changed, &lsm->mutex);
    assert_false(lsm->broken);
    pthread_mutex_unlock(&lsm->mutex);
}

/* Each open makes a table of what the one before it left in its log. */
static int leave_tables(int tables)
{
    struct engine *engine;
    int count = 0;
    for (int i = 0; i < tables; i++) {
        assert_int_equal(open_store(&engine), STATUS_OK);
        for (int j = 0; j < MEMTABLE_BYTES / VALUE_BYTES / 2; j++)
            assert_int_equal(put(engine, count++), STATUS_OK);
        lsm_engine_type.close(engine);
    }
    return count;
}

static void without_room_to_compact_a_store_is_read_and_written(void **state)
{
    (void)state;
    struct engine *engine;
    int count = leave_tables(COMPACTION_TABLES);
    disk.bytes_max = disk_used() + MEMTABLE_BYTES;
    assert_int_equal(open_store(&engine), STATUS_OK);
    wait_rests(engine, true);
    expect_keys(engine, count);
    assert_int_equal(put(engine, count++), STATUS_OK);
    disk.bytes_max = 0;
    for (int i = 0; i < 2 * MEMTABLE_BYTES / VALUE_BYTES; i++)
        assert_int_equal(put(engine, count++), STATUS_OK);
    wait_rests(engine, false);
    expect_keys(engine, count);
    lsm_engine_type.close(engine);
}

/* As a rotation leaves it: a second log, which alone holds key 1. */
static void add_log(char *name)
{
    char path[LSM_PATH_MAX];
    enum lsm_file_kind kind;
    uint64_t number;
    struct log log;
    static const uint8_t value[VALUE_BYTES];
    struct entry entry = {.key = key_of(1),
                          .value = bytes_of(value, VALUE_BYTES),
                          .sequence = 1000};
    newest_file(disk.path, LSM_FILE_LOG, path);
    assert_true(file_parse_name(strrchr(path, '/') + 1, &kind, &number));
    assert_int_equal(log_create(&log, disk.path, number + 1), STATUS_OK);
    assert_int_equal(log_begin(&log), STATUS_OK);
    assert_int_equal(log_put(&log, &entry), STATUS_OK);
    assert_int_equal(log_append(&log), STATUS_OK);
    assert_int_equal(log_sync(&log), STATUS_OK);
    log_close(&log);
    assert_true(file_path(path, disk.path, LSM_FILE_LOG, number + 1));
    snprintf(name, NAME_MAX, "%s", strrchr(path, '/') + 1);
}

static void a_log_that_was_not_listed_is_not_lost(void **state)
{
    (void)state;
    struct engine *engine;
    char name[NAME_MAX];
    assert_int_equal(open_store(&engine), STATUS_OK);
    assert_int_equal(put(engine, 0), STATUS_OK);
    lsm_engine_type.close(engine);
    add_log(name);
    disk.unlisted = name;
    enum status status = open_store(&engine);
    if (status == STATUS_OK)
        lsm_engine_type.close(engine);
    assert_int_equal(status, STATUS_IO);
    disk.unlisted = NULL;
    assert_int_equal(open_store(&engine), STATUS_OK);
    expect_keys(engine, 2);
    lsm_engine_type.close(engine);
}

static void a_directory_that_cannot_be_listed_is_not_empty(void **state)
{
    char path[LSM_PATH_MAX];
    struct engine_options options = {.directory = *state};
    struct engine *engine;
    struct error error;
    snprintf(path, sizeof path, "%s/foreign", (char *)*state);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    close(fd);
    disk.unlisted = "foreign";
    enum status status =
        engine_open(&lsm_engine_type, &options, &engine, &error);
    engine_close(engine);
    assert_int_equal(status, STATUS_IO);
}

#define CASE(name)                                                             \
    cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_open_that_fails_on_a_full_disk_takes_no_space),
        CASE(a_store_opens_when_space_comes_back_bit_by_bit),
        CASE(what_a_crash_left_makes_room_for_the_next_open),
        CASE(without_room_to_compact_a_store_is_read_and_written),
        CASE(a_log_that_was_not_listed_is_not_lost),
        CASE(a_directory_that_cannot_be_listed_is_not_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
