/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_LSM_FIXTURE_H
#define REPLIKV_TESTS_ENGINES_LSM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engines/lsm/file.h"
#include "engines/types.h"

/* A directory that lives for one test, in *state. */
static int fixture_setup(void **state)
{
    const char *parent = getenv("TMPDIR");
    char *directory = NULL;
    if (asprintf(&directory, "%s/lsm_test.XXXXXX",
                 parent != NULL ? parent : "/tmp") < 0)
        return -1;
    *state = directory;
    return mkdtemp(directory) == NULL ? -1 : 0;
}

static int fixture_teardown(void **state)
{
    char path[LSM_PATH_MAX];
    DIR *directory = opendir(*state);
    struct dirent *found;
    while (directory != NULL && (found = readdir(directory)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", (char *)*state, found->d_name);
        if (found->d_name[0] != '.')
            unlink(path);
    }
    if (directory != NULL)
        closedir(directory);
    rmdir(*state);
    free(*state);
    return 0;
}

/* Flip the bits of mask in the byte at offset. */
static inline void flip(const char *path, off_t offset, uint8_t mask)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= mask;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static inline off_t file_size(const char *path)
{
    struct stat found;
    assert_int_equal(stat(path, &found), 0);
    return found.st_size;
}

/* The path of the only file of its kind, or of the newest. */
static inline void newest_file(const char *directory, enum lsm_file_kind kind,
                               char *path)
{
    DIR *opened = opendir(directory);
    struct dirent *found;
    uint64_t newest = 0;
    assert_non_null(opened);
    while ((found = readdir(opened)) != NULL) {
        enum lsm_file_kind found_kind;
        uint64_t number;
        if (file_parse_name(found->d_name, &found_kind, &number) &&
            found_kind == kind && number > newest)
            newest = number;
    }
    closedir(opened);
    assert_true(newest > 0);
    assert_true(file_path(path, directory, kind, newest));
}

#endif
