/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engines/lsm/disk.h"

/* The real file system behind engines/lsm/disk.h. The linker puts the
 * functions named __wrap here in the place of the system's, so that a test can
 * make them stop short, be interrupted or fail. */

static struct {
    char parent[PATH_MAX];
    char path[PATH_MAX]; /* in it, made */
    struct disk *disk;
    size_t piece_max;   /* of one pread or pwrite; 0: no limit */
    int interrupts;     /* that are still to come */
    int failure;        /* an errno that the next calls fail with; 0: none */
    int link_failure;   /* the same, of links */
    int syncs;          /* asked for */
    bool no_statistics; /* of the file system */
} world;

/* Whether the call is to answer -1, with errno set. */
static bool disturbed(void)
{
    if (world.interrupts > 0) {
        world.interrupts--;
        errno = EINTR;
        return true;
    }
    errno = world.failure;
    return world.failure != 0;
}

static size_t piece(size_t size)
{
    return world.piece_max > 0 && size > world.piece_max ? world.piece_max
                                                         : size;
}

ssize_t __real_pread(int fd, void *data, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *data, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *data, size_t size, off_t offset)
{
    return disturbed() ? -1 : __real_pread(fd, data, piece(size), offset);
}

ssize_t __real_pwrite(int fd, const void *data, size_t size, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t size, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return disturbed() ? -1 : __real_pwrite(fd, data, piece(size), offset);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    world.syncs++;
    return disturbed() ? -1 : __real_fdatasync(fd);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    world.syncs++;
    return disturbed() ? -1 : __real_fsync(fd);
}

int __real_linkat(int from_fd, const char *from, int to_fd, const char *to,
                  int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to,
                  int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to,
                  int flags)
{
    errno = world.link_failure;
    return errno != 0 ? -1 : __real_linkat(from_fd, from, to_fd, to, flags);
}

/* Three blocks of seven bytes for us, and one more for root. */
int __wrap_fstatvfs(int fd, struct statvfs *found);
int __wrap_fstatvfs(int fd, struct statvfs *found)
{
    (void)fd;
    *found = (struct statvfs){
        .f_bsize = 11, .f_frsize = 7, .f_bfree = 4, .f_bavail = 3};
    errno = EIO;
    return world.no_statistics ? -1 : 0;
}

struct dirent;
struct dirent *__real_readdir(void *directory);
struct dirent *__wrap_readdir(void *directory);
struct dirent *__wrap_readdir(void *directory)
{
    return disturbed() ? NULL : __real_readdir(directory);
}

static int setup(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    memset(&world, 0, sizeof world);
    snprintf(world.parent, sizeof world.parent, "%s/disk_test.XXXXXX",
             parent != NULL ? parent : "/tmp");
    if (mkdtemp(world.parent) == NULL)
        return -1;
    snprintf(world.path, sizeof world.path, "%.*s/store", PATH_MAX - 8,
             world.parent);
    if (mkdir(world.path, 0755) != 0)
        return -1;
    return disk_open(world.path, &world.disk, NULL) == STATUS_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[PATH_MAX + 16];
    disk_free(world.disk);
    snprintf(command, sizeof command, "rm -rf %s", world.parent);
    return system(command);
}

static struct disk_file *open_file(const char *name, enum disk_mode mode)
{
    struct disk_file *file;
    assert_int_equal(disk_file_open(world.disk, name, mode, &file), STATUS_OK);
    return file;
}

static void make_file(const char *name, const char *content)
{
    struct disk_file *file = open_file(name, DISK_CREATE);
    assert_int_equal(disk_file_write(file, 0, bytes_of_string(content)),
                     STATUS_OK);
    disk_file_close(file);
}

static void expect_content(const char *name, const char *content)
{
    struct buffer got = {0};
    assert_int_equal(disk_read_all(world.disk, name, 100, &got), STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&got), bytes_of_string(content)));
    buffer_fini(&got);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct disk_file *file = open_file("a", DISK_CREATE);
    char got[4];
    uint64_t size;
    assert_int_equal(disk_file_write(file, 3, bytes_of_string("defg")),
                     STATUS_OK);
    assert_int_equal(disk_file_write(file, 0, bytes_of_string("abc")),
                     STATUS_OK);
    assert_int_equal(disk_file_read(file, 1, got, 4), STATUS_OK);
    assert_memory_equal(got, "bcde", 4);
    assert_int_equal(file->operations->size(file, &size), STATUS_OK);
    assert_int_equal(size, 7);
    assert_int_equal(file->operations->truncate(file, 2), STATUS_OK);
    file->operations->advise(file, DISK_SEQUENTIAL);
    file->operations->start_sync(file, 0, 2);
    assert_int_equal(disk_file_sync(file), STATUS_OK);
    disk_file_close(file);
    expect_content("a", "ab");
}

static void a_read_past_the_end_is_corrupt(void **state)
{
    (void)state;
    make_file("a", "abc");
    struct disk_file *file = open_file("a", DISK_READ);
    char got[4];
    assert_int_equal(disk_file_read(file, 0, got, 4), STATUS_CORRUPT);
    assert_int_equal(disk_file_read(file, 3, got, 1), STATUS_CORRUPT);
    assert_int_equal(disk_file_read(file, 3, got, 0), STATUS_OK);
    disk_file_close(file);
}

static void short_and_interrupted_calls_are_gone_on_with(void **state)
{
    (void)state;
    struct disk_file *file = open_file("a", DISK_CREATE);
    char got[8];
    world.piece_max = 3;
    world.interrupts = 2;
    assert_int_equal(disk_file_write(file, 0, bytes_of_string("abcdefgh")),
                     STATUS_OK);
    world.interrupts = 2;
    assert_int_equal(disk_file_read(file, 0, got, 8), STATUS_OK);
    assert_memory_equal(got, "abcdefgh", 8);
    world.interrupts = 2;
    assert_int_equal(disk_file_sync(file), STATUS_OK);
    assert_int_equal(world.interrupts, 0);
    disk_file_close(file);
}

static void failures_are_named(void **state)
{
    (void)state;
    struct disk_file *file = open_file("a", DISK_CREATE);
    char got[1];
    world.failure = ENOSPC;
    assert_int_equal(disk_file_write(file, 0, bytes_of_string("a")),
                     STATUS_NO_SPACE);
    world.failure = EIO;
    assert_int_equal(disk_file_write(file, 0, bytes_of_string("a")), STATUS_IO);
    assert_int_equal(disk_file_read(file, 0, got, 1), STATUS_IO);
    world.failure = 0;
    disk_file_close(file);
    assert_int_equal(disk_file_open(world.disk, "b", DISK_READ, &file),
                     STATUS_NOT_FOUND);
    assert_null(file);
    assert_int_equal(disk_file_open(world.disk, "b", DISK_UPDATE, &file),
                     STATUS_NOT_FOUND);
}

static void a_failed_sync_is_never_tried_again(void **state)
{
    (void)state;
    struct disk_file *file = open_file("a", DISK_CREATE);
    assert_int_equal(disk_file_write(file, 0, bytes_of_string("a")), STATUS_OK);
    world.failure = EIO;
    assert_int_equal(disk_file_sync(file), STATUS_IO);
    world.failure = 0;
    errno = EMFILE;
    assert_int_equal(disk_file_sync(file), STATUS_IO);
    assert_int_equal(errno, EIO);
    assert_int_equal(world.syncs, 1);
    disk_file_close(file);
}

static void a_failed_sync_of_the_directory_is_never_tried_again(void **state)
{
    (void)state;
    const struct disk_operations *operations = world.disk->operations;
    world.interrupts = 2;
    assert_int_equal(operations->sync_directory(world.disk), STATUS_OK);
    world.failure = ENOSPC;
    world.syncs = 0;
    assert_int_equal(operations->sync_directory(world.disk), STATUS_IO);
    world.failure = 0;
    errno = EMFILE;
    assert_int_equal(operations->sync_directory(world.disk), STATUS_IO);
    assert_int_equal(errno, EIO);
    assert_int_equal(world.syncs, 1);
}

static void create_empties_and_update_does_not(void **state)
{
    (void)state;
    make_file("a", "long content");
    struct disk_file *file = open_file("a", DISK_UPDATE);
    assert_int_equal(disk_file_write(file, 0, bytes_of_string("L")), STATUS_OK);
    disk_file_close(file);
    expect_content("a", "Long content");
    make_file("a", "b");
    expect_content("a", "b");
}

static void a_rename_replaces_and_a_removed_name_is_gone(void **state)
{
    (void)state;
    const struct disk_operations *operations = world.disk->operations;
    make_file("a", "old");
    make_file("b", "new");
    struct disk_file *file = open_file("a", DISK_READ);
    char got[3];
    assert_int_equal(operations->rename(world.disk, "b", "a"), STATUS_OK);
    expect_content("a", "new");
    assert_int_equal(operations->remove(world.disk, "a"), STATUS_OK);
    assert_int_equal(operations->remove(world.disk, "a"), STATUS_NOT_FOUND);
    assert_int_equal(operations->rename(world.disk, "b", "a"), STATUS_IO);
    assert_int_equal(operations->sync_directory(world.disk), STATUS_OK);
    /* An open file stays readable when its name is gone. */
    assert_int_equal(disk_file_read(file, 0, got, 3), STATUS_OK);
    assert_memory_equal(got, "old", 3);
    disk_file_close(file);
}

static void a_file_is_missing_only_where_one_is_looked_for(void **state)
{
    (void)state;
    struct disk_file *file;
    assert_int_equal(rmdir(world.path), 0);
    assert_int_equal(disk_file_open(world.disk, "a", DISK_CREATE, &file),
                     STATUS_IO);
    assert_int_equal(disk_file_open(world.disk, "a", DISK_READ, &file),
                     STATUS_NOT_FOUND);
}

static enum status count_name(void *context, const char *name)
{
    unsigned *seen = context;
    assert_true(name[0] == 'a' || name[0] == 'b');
    *seen += name[0] == 'a' ? 1 : 100;
    return STATUS_OK;
}

static enum status refuse_name(void *context, const char *name)
{
    (void)name;
    ++*(unsigned *)context;
    return STATUS_REFUSED;
}

static void a_listing_names_files_only_or_fails(void **state)
{
    (void)state;
    const struct disk_operations *operations = world.disk->operations;
    char inner[PATH_MAX + 8];
    unsigned seen = 0;
    make_file("a", "");
    make_file("b", "");
    snprintf(inner, sizeof inner, "%s/inner", world.path);
    assert_int_equal(mkdir(inner, 0755), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(operations->list(world.disk, count_name, &seen),
                         STATUS_OK);
    assert_int_equal(seen, 2 * 101);
    seen = 0;
    assert_int_equal(operations->list(world.disk, refuse_name, &seen),
                     STATUS_REFUSED);
    assert_int_equal(seen, 1);
    world.failure = EIO;
    assert_int_equal(operations->list(world.disk, count_name, &seen),
                     STATUS_IO);
}

static void free_bytes_are_those_that_may_be_written(void **state)
{
    (void)state;
    const struct disk_operations *operations = world.disk->operations;
    assert_int_equal(operations->free_bytes(world.disk), 3 * 7);
    world.no_statistics = true;
    assert_int_equal(operations->free_bytes(world.disk), UINT64_MAX);
}

static void a_directory_has_one_opener_but_may_be_looked_at(void **state)
{
    (void)state;
    struct disk *other;
    struct error error;
    make_file("a", "abc");
    assert_int_equal(disk_open(world.path, &other, &error), STATUS_REFUSED);
    assert_null(other);
    assert_non_null(strstr(error.text, world.path));
    assert_int_equal(disk_open_to_read(world.path, &other, &error), STATUS_OK);
    disk_free(other);
    disk_free(world.disk);
    assert_int_equal(disk_open(world.path, &world.disk, &error), STATUS_OK);
    assert_int_equal(disk_open_to_read("/nowhere/at/all", &other, &error),
                     STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "/nowhere/at/all"));
}

static void a_made_directory_shares_linked_files(void **state)
{
    (void)state;
    const struct disk_operations *operations = world.disk->operations;
    struct disk *other;
    struct error error;
    struct buffer got = {0};
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/copy", world.parent);
    make_file("a", "abc");
    assert_int_equal(
        operations->make_directory(world.disk, path, &other, &error),
        STATUS_OK);
    assert_int_equal(operations->link(world.disk, "a", other), STATUS_OK);
    assert_int_equal(operations->link(world.disk, "b", other), STATUS_IO);
    world.link_failure = EXDEV;
    assert_int_equal(operations->link(world.disk, "a", other), STATUS_REFUSED);
    assert_int_equal(operations->remove(world.disk, "a"), STATUS_OK);
    assert_int_equal(disk_read_all(other, "a", 3, &got), STATUS_OK);
    assert_int_equal(disk_read_all(other, "a", 2, &got), STATUS_TOO_LARGE);
    buffer_fini(&got);
    struct disk *again;
    assert_int_not_equal(
        operations->make_directory(world.disk, path, &again, &error),
        STATUS_OK);
    assert_null(again);
    assert_non_null(strstr(error.text, path));
    disk_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_read_past_the_end_is_corrupt, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            short_and_interrupted_calls_are_gone_on_with, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_sync_is_never_tried_again,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_failed_sync_of_the_directory_is_never_tried_again, setup,
            teardown),
        cmocka_unit_test_setup_teardown(create_empties_and_update_does_not,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_rename_replaces_and_a_removed_name_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_file_is_missing_only_where_one_is_looked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_listing_names_files_only_or_fails,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            free_bytes_are_those_that_may_be_written, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_directory_has_one_opener_but_may_be_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(a_made_directory_shares_linked_files,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
