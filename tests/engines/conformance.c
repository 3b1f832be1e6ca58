/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engines/conformance.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* What engine.h promises, asked of the engine named on the command line. */

static void engine_is_found_by_its_name(void **state)
{
    (void)state;
    assert_ptr_equal(engine_type_find(type->name), type);
    assert_null(engine_type_find("no such engine"));
}

static void unknown_setting_is_refused(void **state)
{
    struct store *store = *state;
    struct engine_setting setting = {.name = "no_such_setting", .value = 1};
    struct engine_options options = {.directory = store->directory,
                                     .settings = &setting,
                                     .setting_count = 1};
    struct engine *engine;
    struct error error = {0};
    store_close(store);
    assert_int_equal(engine_open(type, &options, &engine, &error),
                     STATUS_INVALID);
    assert_null(engine);
    assert_non_null(strstr(error.text, "no_such_setting"));
}

/* Their places are the range. */
static void expect_words(const struct engine_setting_spec *spec)
{
    uint64_t count = 0;
    while (spec->words[count] != NULL)
        count++;
    assert_int_equal(spec->min, 0);
    assert_int_equal(spec->max + 1, count);
}

static void setting_out_of_range_is_refused(void **state)
{
    struct store *store = *state;
    const struct engine_setting_spec *spec = type->settings;
    store_close(store);
    for (; spec != NULL && spec->name != NULL; spec++) {
        struct engine_setting setting = {.name = spec->name,
                                         .value = spec->max + 1};
        struct engine_options options = {.directory = store->directory,
                                         .settings = &setting,
                                         .setting_count = 1};
        struct engine *engine;
        struct error error = {0};
        if (spec->words != NULL)
            expect_words(spec);
        assert_true(spec->min <= spec->normal && spec->normal <= spec->max);
        assert_int_equal(engine_open(type, &options, &engine, &error),
                         STATUS_INVALID);
        assert_non_null(strstr(error.text, spec->name));
        setting.value = spec->normal;
        assert_true(engine_setting(&options, type, spec->name) == spec->normal);
    }
}

static void directory_of_another_engine_is_refused(void **state)
{
    struct store *store = *state;
    store_close(store);
    for (const struct engine_type *const *other = engine_types();
         *other != NULL; other++) {
        struct engine_options options = {.directory = store->directory};
        struct engine *engine;
        struct error error = {0};
        if (*other == type)
            continue;
        assert_int_equal(engine_open(*other, &options, &engine, &error),
                         STATUS_REFUSED);
        assert_null(engine);
        assert_non_null(strstr(error.text, type->name));
        assert_non_null(strstr(error.text, (*other)->name));
    }
    assert_int_equal(store_open(store), STATUS_OK);
}

static void directory_with_files_of_nobody_is_refused(void **state)
{
    struct store *store = *state;
    char path[PATH_MAX + sizeof "/letter"];
    store_close(store);
    snprintf(store->directory, sizeof store->directory, "%.200s/strange",
             store->parent);
    assert_int_equal(mkdir(store->directory, 0755), 0);
    snprintf(path, sizeof path, "%s/letter", store->directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(store_open(store), STATUS_REFUSED);
    assert_non_null(strstr(store->error.text, "letter"));
}

static void missing_parent_is_an_error(void **state)
{
    struct store *store = *state;
    store_close(store);
    snprintf(store->directory, sizeof store->directory, "%.200s/no/store",
             store->parent);
    assert_int_equal(store_open(store), STATUS_IO);
    assert_null(store->engine);
}

static void write_is_accepted(void **state)
{
    put(*state, "key", "value");
    put(*state, "key", NULL);
    delete_range(*state, "a", "b");
    assert_int_equal(
        engine_write(((struct store *)*state)->engine, &(struct batch){0}, 1),
        STATUS_OK);
}

static void absent_key_is_not_found(void **state)
{
    expect_text(*state, "key", NULL);
    expect_range(*state, "", "", "");
}

static void null_keeps_nothing(void **state)
{
    put(*state, "key", "value");
    expect_text(*state, "key", NULL);
    expect_range(*state, "", "", "");
}

static void get_returns_what_was_put(void **state)
{
    struct store *store = *state;
    struct buffer got = {0};
    put(store, "key", "a rather long value");
    put(store, "kez", "short");
    expect_text(store, "key", "a rather long value");
    /* A buffer that is used again holds the new value only. */
    assert_int_equal(engine_get(store->engine, bytes_of_string("key"), &got),
                     STATUS_OK);
    assert_int_equal(engine_get(store->engine, bytes_of_string("kez"), &got),
                     STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&got), bytes_of_string("short")));
    buffer_fini(&got);
    put(store, "key", "b");
    expect_text(store, "key", "b");
    put(store, "key", NULL);
    expect_text(store, "key", NULL);
    put(store, "key", NULL);
}

static void batch_is_applied_in_order(void **state)
{
    struct store *store = *state;
    struct bytes a = bytes_of_string("a");
    struct bytes b = bytes_of_string("b");
    struct bytes c = bytes_of_string("c");
    struct batch_operation operations[] = {
        {.key = a, .value = bytes_of_string("1")},
        {.key = b, .value = bytes_of_string("1")},
        {.key = b, .remove = true},
        {.key = c, .remove = true},
        {.key = c, .value = bytes_of_string("1")},
        {.key = a, .value = bytes_of_string("2")},
    };
    struct batch batch = {.operations = operations, .count = 6};
    assert_int_equal(engine_write(store->engine, &batch, false), STATUS_OK);
    expect_range(store, "", "", "a=2 c=1 ");
}

static void empty_value_is_not_an_absent_one(void **state)
{
    struct store *store = *state;
    put(store, "key", "");
    expect_text(store, "key", "");
    expect_range(store, "", "", "key= ");
    if (type->capabilities & ENGINE_DURABLE)
        reopen(store);
    else
        return;
    expect_text(store, "key", "");
}

static void longest_key_and_a_large_value_are_kept(void **state)
{
    struct store *store = *state;
    uint8_t long_key[ENGINE_KEY_BYTES_MAX];
    uint8_t *large = malloc(STORE_VALUE_BYTES_MAX);
    uint64_t random = 7;
    assert_non_null(large);
    for (size_t i = 0; i < STORE_VALUE_BYTES_MAX; i++)
        large[i] = (uint8_t)store_random(&random);
    memset(long_key, 0xff, sizeof long_key);
    struct bytes key = bytes_of(long_key, sizeof long_key);
    struct bytes shorter = bytes_of(long_key, sizeof long_key - 1);
    struct bytes value = bytes_of(large, STORE_VALUE_BYTES_MAX);
    struct batch_operation operation = {.key = key, .value = value};
    struct batch batch = {.operations = &operation, .count = 1};
    assert_int_equal(engine_write(store->engine, &batch, true), STATUS_OK);
    expect(store, key, &value);
    expect(store, shorter, NULL);
    if (type->capabilities & ENGINE_DURABLE) {
        reopen(store);
        expect(store, key, &value);
    }
    free(large);
}

static void reopened_store_has_what_was_synced(void **state)
{
    struct store *store = *state;
    put(store, "a", "1");
    put(store, "b", "1");
    reopen(store);
    put(store, "b", NULL);
    assert_int_equal(store_put(store, "c", "1", false), STATUS_OK);
    assert_int_equal(engine_write(store->engine, &(struct batch){0}, true),
                     STATUS_OK);
    reopen(store);
    expect_range(store, "", "", "a=1 c=1 ");
}

static void second_opener_is_refused(void **state)
{
    struct store *store = *state;
    struct store second = *store;
    second.engine = NULL;
    assert_int_equal(store_open(&second), STATUS_REFUSED);
    assert_null(second.engine);
    put(store, "a", "1");
    reopen(store);
    expect_text(store, "a", "1");
}

/* A limit on the size of files stands in for a full disk. */
static void failed_write_breaks_it_until_reopened(void **state)
{
    struct store *store = *state;
    struct rlimit limit;
    struct bytes key, value;
    struct buffer got = {0};
    uint8_t *large = calloc(1, STORE_VALUE_BYTES_MAX);
    struct batch_operation operation = {
        .key = bytes_of_string("large"),
        .value = bytes_of(large, STORE_VALUE_BYTES_MAX)};
    struct batch batch = {.operations = &operation, .count = 1};
    put(store, "a", "1");
    struct engine_iterator *iterator = iterate(store, "", "", ENGINE_FORWARD);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    struct rlimit low = {.rlim_cur = 256 << 10, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    enum status failed = engine_write(store->engine, &batch, true);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    free(large);
    assert_int_not_equal(failed, STATUS_OK);
    assert_int_equal(store_put(store, "b", "1", true), STATUS_BROKEN);
    assert_int_equal(engine_get(store->engine, bytes_of_string("a"), &got),
                     STATUS_BROKEN);
    assert_int_equal(engine_next(iterator, &key, &value), STATUS_BROKEN);
    engine_iterator_free(iterator);
    assert_int_equal(engine_iterate(store->engine, bytes_of(NULL, 0),
                                    bytes_of(NULL, 0), ENGINE_FORWARD,
                                    &iterator),
                     STATUS_BROKEN);
    assert_int_equal(engine_delete_range(store->engine, bytes_of_string("a"),
                                         bytes_of(NULL, 0)),
                     STATUS_BROKEN);
    reopen(store);
    expect_text(store, "a", "1");
    put(store, "b", "1");
    reopen(store);
    expect_text(store, "a", "1");
    expect_text(store, "b", "1");
    buffer_fini(&got);
}

static void checkpoint_is_a_store_of_its_own(void **state)
{
    struct store *store = *state;
    struct store copy = *store;
    struct error error = {0};
    copy.engine = NULL;
    snprintf(copy.directory, sizeof copy.directory, "%.200s/copy",
             store->parent);
    put(store, "a", "1");
    put(store, "b", "1");
    delete_range(store, "b", "c");
    if ((type->capabilities & ENGINE_CHECKPOINT) == 0) {
        assert_int_equal(
            engine_checkpoint(store->engine, copy.directory, &error),
            STATUS_UNSUPPORTED);
        return;
    }
    assert_int_equal(engine_checkpoint(store->engine, copy.directory, &error),
                     STATUS_OK);
    put(store, "a", "2");
    assert_int_equal(store_open(&copy), STATUS_OK);
    expect_range(&copy, "", "", "a=1 ");
    store_close(&copy);
    assert_int_not_equal(
        engine_checkpoint(store->engine, copy.directory, &error), STATUS_OK);
    expect_text(store, "a", "2");
}

static void stats_are_told(void **state)
{
    struct store *store = *state;
    struct engine_stats stats;
    put(store, "a", "1");
    engine_stats(store->engine, &stats);
    assert_true((stats.disk_bytes > 0) ==
                ((type->capabilities & ENGINE_DURABLE) != 0));
    assert_true(stats.stall_us >= stats.stall_us_max);
    assert_int_equal(stats.damaged, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest every[] = {
        CLAIM(engine_is_found_by_its_name),
        CLAIM(unknown_setting_is_refused),
        CLAIM(setting_out_of_range_is_refused),
        CLAIM(directory_of_another_engine_is_refused),
        CLAIM(directory_with_files_of_nobody_is_refused),
        CLAIM(missing_parent_is_an_error),
        CLAIM(write_is_accepted),
        CLAIM(absent_key_is_not_found),
        CLAIM(stats_are_told),
    };
    const struct CMUnitTest keeping_nothing[] = {CLAIM(null_keeps_nothing)};
    const struct CMUnitTest keeping[] = {
        CLAIM(get_returns_what_was_put),
        CLAIM(batch_is_applied_in_order),
        CLAIM(empty_value_is_not_an_absent_one),
        CLAIM(longest_key_and_a_large_value_are_kept),
        CLAIM(checkpoint_is_a_store_of_its_own),
    };
    const struct CMUnitTest lasting[] = {
        CLAIM(reopened_store_has_what_was_synced),
        CLAIM(second_opener_is_refused),
        CLAIM(failed_write_breaks_it_until_reopened),
    };
    type = argc == 2 ? engine_type_find(argv[1]) : NULL;
    if (type == NULL) {
        fprintf(stderr, "usage: %s ENGINE\n", argv[0]);
        return 2;
    }
    int failures = cmocka_run_group_tests(every, NULL, NULL);
    if (strcmp(type->name, "null") == 0)
        return failures + cmocka_run_group_tests(keeping_nothing, NULL, NULL);
    failures += cmocka_run_group_tests(keeping, NULL, NULL);
    failures += claims_of_ranges() + claims_of_readers();
    if (type->capabilities & ENGINE_CONCURRENT_WRITES)
        failures += claims_of_writers();
    if (type->capabilities & ENGINE_DURABLE) {
        failures += cmocka_run_group_tests(lasting, NULL, NULL);
        failures += claims_of_lasting_ranges();
    }
    return failures;
}
