/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engines/store.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* What engine.h promises, asked of the engine named on the command line. */

static const struct engine_type *type;

static int set_up(void **state)
{
    struct store *store = calloc(1, sizeof *store);
    *state = store;
    if (store == NULL || !store_init(store, type))
        return -1;
    return store_open(store) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    store_fini(*state);
    free(*state);
    return 0;
}

static void put(struct store *store, const char *key, const char *value)
{
    assert_int_equal(store_put(store, key, value, true), STATUS_OK);
}

/* A NULL value: the key is not there. */
static void expect(struct store *store, struct bytes key, struct bytes *value)
{
    struct buffer got = {0};
    enum status status = engine_get(store->engine, key, &got);
    assert_int_equal(status, value == NULL ? STATUS_NOT_FOUND : STATUS_OK);
    if (value != NULL)
        assert_true(bytes_equal(buffer_bytes(&got), *value));
    buffer_fini(&got);
}

static void expect_text(struct store *store, const char *key, const char *value)
{
    struct bytes bytes =
        value != NULL ? bytes_of_string(value) : bytes_of(NULL, 0);
    expect(store, bytes_of_string(key), value != NULL ? &bytes : NULL);
}

/* The rest of the iterator as "key=value key=value ". */
static void expect_rest(struct engine_iterator *iterator, const char *wanted)
{
    struct buffer text = {0};
    struct bytes key, value;
    enum status status;
    while ((status = engine_next(iterator, &key, &value)) == STATUS_OK) {
        assert_int_equal(buffer_append(&text, key), STATUS_OK);
        assert_int_equal(buffer_append(&text, bytes_of_string("=")), STATUS_OK);
        assert_int_equal(buffer_append(&text, value), STATUS_OK);
        assert_int_equal(buffer_append(&text, bytes_of_string(" ")), STATUS_OK);
    }
    assert_int_equal(status, STATUS_NOT_FOUND);
    assert_int_equal(engine_next(iterator, &key, &value), STATUS_NOT_FOUND);
    assert_int_equal(buffer_append(&text, bytes_of("", 1)), STATUS_OK);
    assert_string_equal((const char *)text.data, wanted);
    buffer_fini(&text);
}

static struct engine_iterator *iterate(struct store *store, const char *from,
                                       const char *to)
{
    struct engine_iterator *iterator;
    assert_int_equal(engine_iterate(store->engine, bytes_of_string(from),
                                    bytes_of_string(to), ENGINE_FORWARD,
                                    &iterator),
                     STATUS_OK);
    return iterator;
}

static void expect_range(struct store *store, const char *from, const char *to,
                         const char *wanted)
{
    struct engine_iterator *iterator = iterate(store, from, to);
    expect_rest(iterator, wanted);
    engine_iterator_free(iterator);
}

static void reopen(struct store *store)
{
    store_close(store);
    assert_int_equal(store_open(store), STATUS_OK);
}

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

static void range_holds_its_first_key_and_not_its_last(void **state)
{
    struct store *store = *state;
    put(store, "b", "2");
    put(store, "a", "1");
    put(store, "bb", "3");
    put(store, "c", "4");
    expect_range(store, "", "", "a=1 b=2 bb=3 c=4 ");
    expect_range(store, "b", "c", "b=2 bb=3 ");
    expect_range(store, "aa", "bb", "b=2 ");
    expect_range(store, "", "b", "a=1 ");
    expect_range(store, "bc", "", "c=4 ");
    expect_range(store, "b", "b", "");
    expect_range(store, "c", "a", "");
    expect_range(store, "d", "", "");
}

static void keys_are_ordered_as_unsigned_bytes(void **state)
{
    struct store *store = *state;
    put(store, "\x80", "2");
    put(store, "\xff", "3");
    put(store, "\x7f", "1");
    expect_range(store, "", "", "\x7f=1 \x80=2 \xff=3 ");
}

static void iterator_sees_its_snapshot_only(void **state)
{
    struct store *store = *state;
    struct bytes key, value;
    put(store, "a", "1");
    put(store, "b", "1");
    put(store, "c", "1");
    struct engine_iterator *old = iterate(store, "", "");
    put(store, "b", "2");
    assert_int_equal(engine_next(old, &key, &value), STATUS_OK);
    put(store, "a", NULL);
    put(store, "bb", "2");
    put(store, "c", NULL);
    assert_true(bytes_equal(key, bytes_of_string("a")));
    assert_true(bytes_equal(value, bytes_of_string("1")));
    expect_rest(old, "b=1 c=1 ");
    expect_range(store, "", "", "b=2 bb=2 ");
    engine_iterator_free(old);
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
    struct engine_iterator *iterator = iterate(store, "", "");
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

/* Readers beside the writer: both keys of every batch, or a bug. */
enum { PAIR_WRITES = 300 };

struct readers {
    struct engine *engine;
    atomic_bool stop;
    atomic_int torn;
};

static void *read_pairs(void *argument)
{
    struct readers *readers = argument;
    struct buffer got = {0};
    while (!atomic_load(&readers->stop)) {
        struct engine_iterator *iterator;
        struct bytes key, value;
        char first[16] = "";
        int seen = 0;
        if (engine_iterate(readers->engine, bytes_of(NULL, 0),
                           bytes_of(NULL, 0), ENGINE_FORWARD,
                           &iterator) != STATUS_OK)
            break;
        while (engine_next(iterator, &key, &value) == STATUS_OK) {
            if (seen++ == 0)
                memcpy(first, value.data, value.size);
            else if (!bytes_equal(value, bytes_of_string(first)))
                atomic_fetch_add(&readers->torn, 1);
        }
        engine_iterator_free(iterator);
        if (seen != 2 || engine_get(readers->engine, bytes_of_string("left"),
                                    &got) != STATUS_OK)
            atomic_fetch_add(&readers->torn, 1);
    }
    buffer_fini(&got);
    return NULL;
}

static void write_pair(struct store *store, int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    struct batch_operation operations[] = {
        {.key = bytes_of_string("left"), .value = bytes_of_string(text)},
        {.key = bytes_of_string("right"), .value = bytes_of_string(text)},
    };
    struct batch batch = {.operations = operations, .count = 2};
    assert_int_equal(engine_write(store->engine, &batch, false), STATUS_OK);
}

static void readers_never_see_half_a_batch(void **state)
{
    struct store *store = *state;
    struct readers readers = {.engine = store->engine};
    pthread_t threads[2];
    write_pair(store, 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, read_pairs, &readers), 0);
    for (int number = 1; number <= PAIR_WRITES; number++)
        write_pair(store, number);
    atomic_store(&readers.stop, true);
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&readers.torn), 0);
}

static void stats_are_told(void **state)
{
    struct store *store = *state;
    struct engine_stats stats;
    put(store, "a", "1");
    engine_stats(store->engine, &stats);
    assert_true((stats.disk_bytes > 0) ==
                ((type->capabilities & ENGINE_DURABLE) != 0));
}

#define CLAIM(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

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
        CLAIM(range_holds_its_first_key_and_not_its_last),
        CLAIM(keys_are_ordered_as_unsigned_bytes),
        CLAIM(iterator_sees_its_snapshot_only),
        CLAIM(longest_key_and_a_large_value_are_kept),
        CLAIM(checkpoint_is_a_store_of_its_own),
        CLAIM(readers_never_see_half_a_batch),
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
    if (type->capabilities & ENGINE_DURABLE)
        failures += cmocka_run_group_tests(lasting, NULL, NULL);
    return failures;
}
