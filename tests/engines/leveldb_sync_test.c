/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engines/types.h"
#include "tests/engines/store.h"

/* LevelDB leaves a full log unsynced and writes its content to a table in the
 * background. Here the table is never done before the test says so, as it may
 * be when power fails, and every file that is synced is noted. */

enum {
    NAMES_MAX = 64,
    WRITE_BUFFER_BYTES = 64 << 10,
    VALUE_BYTES = 1000,
    WRITES_MAX = 10 * WRITE_BUFFER_BYTES / VALUE_BYTES,
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool tables_wait;
    size_t count;
    char names[NAMES_MAX][NAME_MAX + 1]; /* of files that were synced */
} syncs = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .changed = PTHREAD_COND_INITIALIZER};

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

/* In the place of the C library's, for LevelDB as for us. */
int fdatasync(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    assert_true(size > 0);
    path[size] = '\0';
    const char *name = strrchr(path, '/') + 1;
    pthread_mutex_lock(&syncs.lock);
    while (syncs.tables_wait && ends_with(name, ".ldb"))
        pthread_cond_wait(&syncs.changed, &syncs.lock);
    if (syncs.count < NAMES_MAX)
        snprintf(syncs.names[syncs.count++], NAME_MAX + 1, "%s", name);
    pthread_mutex_unlock(&syncs.lock);
    return (int)syscall(SYS_fdatasync, fd);
}

static void let_tables_wait(bool wait)
{
    pthread_mutex_lock(&syncs.lock);
    syncs.tables_wait = wait;
    syncs.count = 0;
    pthread_cond_broadcast(&syncs.changed);
    pthread_mutex_unlock(&syncs.lock);
}

static bool was_synced(const char *name)
{
    bool found = false;
    pthread_mutex_lock(&syncs.lock);
    for (size_t i = 0; i < syncs.count; i++)
        found = found || strcmp(syncs.names[i], name) == 0;
    pthread_mutex_unlock(&syncs.lock);
    return found;
}

/* How many logs there are; with expect_synced, each was. */
static size_t count_logs(const char *path, bool expect_synced)
{
    DIR *directory = opendir(path);
    const struct dirent *found;
    size_t count = 0;
    assert_non_null(directory);
    while ((found = readdir(directory)) != NULL) {
        if (!ends_with(found->d_name, ".log"))
            continue;
        count++;
        if (expect_synced && !was_synced(found->d_name))
            fail_msg("%s was not synced", found->d_name);
    }
    closedir(directory);
    return count;
}

static void put(struct store *store, uint32_t number)
{
    static char value[VALUE_BYTES + 1];
    char key[16];
    memset(value, 'v', VALUE_BYTES);
    snprintf(key, sizeof key, "%08u", number);
    assert_int_equal(store_put(store, key, value, false), STATUS_OK);
}

static void a_sync_reaches_what_was_written_to_an_earlier_log(void **state)
{
    (void)state;
    struct store store;
    uint32_t number = 0;
    assert_true(store_init(&store, &leveldb_engine_type));
    assert_int_equal(store_open(&store), STATUS_OK);
    let_tables_wait(true);
    while (count_logs(store.directory, false) < 2 && number < WRITES_MAX)
        put(&store, number++);
    assert_int_equal(count_logs(store.directory, false), 2);
    struct batch nothing = {.count = 0};
    assert_int_equal(engine_write(store.engine, &nothing, true), STATUS_OK);
    assert_int_equal(count_logs(store.directory, true), 2);
    let_tables_wait(false);
    store_fini(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sync_reaches_what_was_written_to_an_earlier_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
