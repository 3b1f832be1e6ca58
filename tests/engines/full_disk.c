/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engines/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A small disk is filled with synced writes until one fails. Then some space is
 * freed, the store is opened again and written on, the writer is killed without
 * warning: everything that was acknowledged is there.
 *
 * The disk is a tmpfs in a mount namespace of this process, which is gone with
 * it; where that is not allowed the test is skipped. */

enum {
    DISK_BYTES = 24 << 20,
    BALLAST_BYTES = 8 << 20,
    WRITES_MAX = 100000, /* of a kilobyte and more: above any of the disk's */
    ACKS_AFTER = 300,
    SKIPPED = 77,
};

static const struct engine_type *type;

struct entry {
    char key[16];
    char value[4096];
};

static const struct entry *entry_of(uint32_t number)
{
    static struct entry entry;
    uint64_t random = number + UINT64_C(0x9e3779b97f4a7c15);
    size_t size = 1000 + store_random(&random) % 3000;
    snprintf(entry.key, sizeof entry.key, "k%08u", number);
    for (size_t i = 0; i < size; i++)
        entry.value[i] = (char)('a' + store_random(&random) % 26);
    entry.value[size] = '\0';
    return &entry;
}

static enum status write_entry(struct store *store, uint32_t number)
{
    const struct entry *entry = entry_of(number);
    return store_put(store, entry->key, entry->value, true);
}

/* Where the store may break meanwhile, an entry may also not be told. */
static void holds_all(struct store *store, uint32_t count, bool may_break)
{
    struct buffer got = {0};
    for (uint32_t number = 0; number < count; number++) {
        const struct entry *entry = entry_of(number);
        buffer_clear(&got);
        enum status status =
            engine_get(store->engine, bytes_of_string(entry->key), &got);
        if (may_break && status == STATUS_BROKEN)
            break;
        if (status != STATUS_OK)
            fail_msg("%s of %u: %s", entry->key, count, status_name(status));
        assert_true(
            bytes_equal(buffer_bytes(&got), bytes_of_string(entry->value)));
    }
    buffer_fini(&got);
}

/* --- the disk --- */

static bool mount_disk(struct store *store)
{
    char options[32];
    snprintf(options, sizeof options, "size=%d", DISK_BYTES);
    return unshare(CLONE_NEWNS) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", store->parent, "tmpfs", 0, options) == 0;
}

static void ballast_path(const struct store *store, char *path, size_t size)
{
    assert_true(snprintf(path, size, "%s/ballast", store->parent) < (int)size);
}

static void take_ballast(const struct store *store)
{
    char path[PATH_MAX + 16];
    ballast_path(store, path, sizeof path);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(posix_fallocate(file, 0, BALLAST_BYTES), 0);
    close(file);
}

static void drop_ballast(const struct store *store)
{
    char path[PATH_MAX + 16];
    ballast_path(store, path, sizeof path);
    assert_int_equal(unlink(path), 0);
}

/* Write synced entries until one fails; how many were acknowledged. */
static uint32_t fill(struct store *store, uint32_t number)
{
    enum status status = STATUS_OK;
    while (number < WRITES_MAX && status == STATUS_OK) {
        status = write_entry(store, number);
        number += status == STATUS_OK;
    }
    assert_int_equal(status, STATUS_NO_SPACE);
    return number;
}

static void is_broken(struct store *store)
{
    struct buffer got = {0};
    assert_int_equal(store_put(store, "after", "v", true), STATUS_BROKEN);
    assert_int_equal(store_put(store, "after", "v", false), STATUS_BROKEN);
    assert_int_equal(
        engine_get(store->engine, bytes_of_string("k00000000"), &got),
        STATUS_BROKEN);
    buffer_fini(&got);
}

/* --- the writer that is killed --- */

/* What this program does as a child: write on, and report each number. */
static int run_child(const char *directory, uint32_t number)
{
    struct store store = {.type = type};
    snprintf(store.directory, sizeof store.directory, "%s", directory);
    if (store_open(&store) != STATUS_OK)
        return 1;
    for (;; number++) {
        if (write_entry(&store, number) != STATUS_OK)
            return 2;
        if (write(STDOUT_FILENO, &number, sizeof number) != sizeof number)
            return 3;
    }
}

static bool read_number(int pipe_end, uint32_t *number)
{
    ssize_t got;
    do
        got = read(pipe_end, number, sizeof *number);
    while (got < 0 && errno == EINTR);
    return got == sizeof *number;
}

/* How many are acknowledged when it was killed after some more. */
static uint32_t write_on_and_kill(const struct store *store, uint32_t count)
{
    int ends[2];
    char text[16];
    assert_int_equal(pipe(ends), 0);
    snprintf(text, sizeof text, "%u", count);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "full_disk", type->name, store->directory, text,
              NULL);
        _exit(4);
    }
    close(ends[1]);
    uint32_t number, end = count + ACKS_AFTER;
    while (count < end && read_number(ends[0], &number))
        count = number + 1;
    kill(child, SIGKILL);
    while (read_number(ends[0], &number))
        count = number + 1;
    close(ends[0]);
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    assert_true(count >= end);
    return count;
}

static struct store store;

static void a_full_disk_loses_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    uint32_t count = 0;
    take_ballast(&store);
    assert_int_equal(store_open(&store), STATUS_OK);
    count = fill(&store, count);
    assert_true(count > 100);
    is_broken(&store);
    store_close(&store);
    /* While it is full it may not open, or break once more in the background;
     * it damages nothing. */
    enum status status = store_open(&store);
    if (status == STATUS_OK)
        holds_all(&store, count, true);
    else
        assert_true(strlen(store.error.text) > 0);
    store_close(&store);
    drop_ballast(&store);
    assert_int_equal(store_open(&store), STATUS_OK);
    holds_all(&store, count, false);
    store_close(&store);
    count = write_on_and_kill(&store, count);
    assert_int_equal(store_open(&store), STATUS_OK);
    holds_all(&store, count, false);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_loses_nothing_that_was_acknowledged),
    };
    type = argc == 2 || argc == 4 ? engine_type_find(argv[1]) : NULL;
    if (type == NULL || (type->capabilities & ENGINE_DURABLE) == 0) {
        fprintf(stderr, "usage: %s ENGINE, a durable one\n", argv[0]);
        return 2;
    }
    if (argc == 4)
        return run_child(argv[2], (uint32_t)strtoul(argv[3], NULL, 10));
    if (!store_init(&store, type))
        return 1;
    if (!mount_disk(&store)) {
        printf("skipped: a tmpfs cannot be mounted here: %s\n",
               strerror(errno));
        rmdir(store.parent);
        return SKIPPED;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    store_close(&store);
    umount(store.parent);
    rmdir(store.parent);
    return failed;
}
