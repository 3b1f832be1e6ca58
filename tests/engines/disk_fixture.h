/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_DISK_FIXTURE_H
#define REPLIKV_TESTS_ENGINES_DISK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/engines/memory_disk.h"

/* What a test of files works on: the real disk in a directory of its own, or,
 * where it needs power losses and failures, one in memory. */
static char fixture_path[4096];
static struct memory_disk *memory; /* NULL: the disk is real */
static struct disk *disk;

static int real_setup(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(fixture_path, sizeof fixture_path, "%s/lsm_test.XXXXXX",
             parent != NULL ? parent : "/tmp");
    if (mkdtemp(fixture_path) == NULL)
        return -1;
    return disk_open(fixture_path, &disk, NULL) == STATUS_OK ? 0 : -1;
}

static enum status remove_file(void *context, const char *name)
{
    (void)context;
    return disk->operations->remove(disk, name);
}

static int real_teardown(void **state)
{
    (void)state;
    enum status status = disk->operations->list(disk, remove_file, NULL);
    disk_free(disk);
    return status == STATUS_OK ? rmdir(fixture_path) : -1;
}

static int memory_setup(void **state)
{
    (void)state;
    memory = memory_disk_new();
    disk = memory_disk_at(memory, MEMORY_DISK_PATH);
    return disk == NULL ? -1 : 0;
}

static int memory_teardown(void **state)
{
    (void)state;
    disk_free(disk);
    /* A test that failed says why, and may have left a file open. */
    if (memory_disk_counts(memory).files_open == 0)
        memory_disk_free(memory);
    memory = NULL;
    return 0;
}

#define REAL_CASE(name)                                                        \
    cmocka_unit_test_setup_teardown(name, real_setup, real_teardown)
#define MEMORY_CASE(name)                                                      \
    cmocka_unit_test_setup_teardown(name, memory_setup, memory_teardown)

static inline void read_whole(const char *name, struct buffer *content)
{
    assert_int_equal(disk_read_all(disk, name, SIZE_MAX, content), STATUS_OK);
}

/* Make a file of these bytes and no others. */
static inline void write_whole(const char *name, struct bytes content)
{
    struct disk_file *file;
    assert_int_equal(disk_file_open(disk, name, DISK_CREATE, &file), STATUS_OK);
    assert_int_equal(disk_file_write(file, 0, content), STATUS_OK);
    disk_file_close(file);
}

/* Change a file in place, which costs no disk a sync, as replacing all of one
 * may: a byte of it, or its length. */
static inline void write_byte(const char *name, uint64_t at, uint8_t byte)
{
    struct disk_file *file;
    assert_int_equal(disk_file_open(disk, name, DISK_UPDATE, &file), STATUS_OK);
    assert_int_equal(disk_file_write(file, at, bytes_of(&byte, 1)), STATUS_OK);
    disk_file_close(file);
}

static inline void cut(const char *name, uint64_t size)
{
    struct disk_file *file;
    assert_int_equal(disk_file_open(disk, name, DISK_UPDATE, &file), STATUS_OK);
    assert_int_equal(file->operations->truncate(file, size), STATUS_OK);
    disk_file_close(file);
}

#endif
