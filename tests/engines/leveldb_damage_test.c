/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engines/types.h"
#include "tests/engines/store.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <unistd.h>

enum { KEYS = 3000 };

static void fill(struct store *store)
{
    uint64_t random = 1, value[16];
    char key[16];
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key%04d", i);
        for (size_t n = 0; n < 16; n++)
            value[n] = store_random(&random);
        struct batch_operation operation = {.key = bytes_of_string(key),
                                            .value =
                                                bytes_of(value, sizeof value)};
        struct batch batch = {.operations = &operation, .count = 1};
        assert_int_equal(engine_write(store->engine, &batch, false), STATUS_OK);
    }
}

/* Flip a bit in the middle of each table, which is far from its index at the
 * end. All of them, as one may be left over from a merge. */
static void damage(const struct store *store)
{
    char pattern[PATH_MAX + 8];
    glob_t tables;
    snprintf(pattern, sizeof pattern, "%s/*.ldb", store->directory);
    assert_int_equal(glob(pattern, 0, NULL, &tables), 0);
    assert_true(tables.gl_pathc > 1);
    for (size_t i = 0; i < tables.gl_pathc; i++) {
        uint8_t byte;
        int fd = open(tables.gl_pathv[i], O_RDWR);
        assert_true(fd >= 0);
        off_t middle = lseek(fd, 0, SEEK_END) / 2;
        assert_int_equal(pread(fd, &byte, 1, middle), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, middle), 1);
        close(fd);
    }
    globfree(&tables);
}

static void expect_corrupt(struct store *store, const char *to,
                           enum engine_order order)
{
    struct engine_iterator *iterator;
    struct bytes key, value;
    enum status status;
    int count = 0;
    assert_int_equal(engine_iterate(store->engine, bytes_of_string("key"),
                                    bytes_of_string(to), order, &iterator),
                     STATUS_OK);
    while ((status = engine_next(iterator, &key, &value)) == STATUS_OK) {
        char wanted[16];
        snprintf(wanted, sizeof wanted, "key%04d",
                 order == ENGINE_FORWARD ? count : KEYS - 1 - count);
        assert_true(bytes_equal(key, bytes_of_string(wanted)));
        count++;
    }
    assert_int_equal(status, STATUS_CORRUPT);
    assert_true(count > 0);
    assert_int_equal(engine_next(iterator, &key, &value), STATUS_CORRUPT);
    engine_iterator_free(iterator);
}

static void iterator_does_not_pass_over_a_damaged_block(void **state)
{
    struct store store;
    (void)state;
    assert_true(store_init(&store, &leveldb_engine_type));
    assert_int_equal(store_open(&store), STATUS_OK);
    fill(&store);
    store_close(&store);
    damage(&store);
    assert_int_equal(store_open(&store), STATUS_OK);
    expect_corrupt(&store, "", ENGINE_FORWARD);
    expect_corrupt(&store, "key9", ENGINE_FORWARD);
    expect_corrupt(&store, "", ENGINE_BACKWARD);
    expect_corrupt(&store, "key9", ENGINE_BACKWARD);
    store_fini(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(iterator_does_not_pass_over_a_damaged_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
