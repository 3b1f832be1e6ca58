/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "engines/types.h"
#include "tests/engines/store.h"

/* Whose a directory is. The linker puts __wrap_readdir in the place of the
 * system's, so that a listing can end early. */

/* A listing fails where this name would come; NULL: never. */
static const char *unlisted;

struct dirent *__real_readdir(DIR *directory);
struct dirent *__wrap_readdir(DIR *directory);
struct dirent *__wrap_readdir(DIR *directory)
{
    struct dirent *found = __real_readdir(directory);
    if (found == NULL || unlisted == NULL ||
        strcmp(found->d_name, unlisted) != 0)
        return found;
    errno = EIO;
    return NULL;
}

static void a_directory_that_cannot_be_listed_is_not_empty(void **state)
{
    (void)state;
    struct store store;
    char path[PATH_MAX + 16];
    assert_true(store_init(&store, &lsm_engine_type));
    snprintf(path, sizeof path, "%s/foreign", store.directory);
    assert_int_equal(mkdir(store.directory, 0755), 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(store_open(&store), STATUS_REFUSED);
    unlisted = "foreign";
    enum status status = store_open(&store);
    unlisted = NULL;
    store_fini(&store);
    assert_int_equal(status, STATUS_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_that_cannot_be_listed_is_not_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
