/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engines/types.h"
#include "tests/engines/twin_fixture.h"

#include <stdio.h>

/* What a twin answers, and what it says of a second engine that differs, or
 * fails, or only seems to. */

static void twin_is_found_however_it_is_spaced(void **state)
{
    (void)state;
    const struct engine_type *type = engine_type_find("twin(lsm, leveldb)");
    assert_non_null(type);
    assert_string_equal(type->name, "twin(lsm, leveldb)");
    assert_ptr_equal(type, engine_type_find("twin(lsm,leveldb)"));
    assert_ptr_equal(type, engine_type_find("twin(  lsm ,leveldb ) "));
    assert_ptr_equal(type, twin_type_of(engine_type_find("lsm"),
                                        engine_type_find("leveldb")));
    assert_ptr_not_equal(type, engine_type_find("twin(leveldb, lsm)"));
    assert_non_null(engine_type_find("twin(lsm, lsm)"));
}

static void what_names_no_twin_is_not_found(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "twin",
        "twin()",
        "twin(lsm)",
        "twin(lsm, )",
        "twin(lsm leveldb)",
        "twin(lsm, leveldb",
        "twin(lsm, leveldb))",
        "twin(lsm, leveldb, lmdb)",
        "twin(lsm, oracle)",
        "twin(lsm, null)",
        "twin(null, lsm)",
        "twin(lsm, twin(lsm, lmdb))",
        "twins(lsm, lmdb)",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (engine_type_find(texts[i]) != NULL)
            fail_msg("found: %s", texts[i]);
}

static void capabilities_are_what_both_allow(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned capabilities;
    } rows[] = {
        {"twin(lsm, leveldb)", ENGINE_DURABLE | ENGINE_CHECKPOINT},
        {"twin(leveldb, lsm)", ENGINE_DURABLE},
        {"twin(lsm, lsm)",
         ENGINE_DURABLE | ENGINE_CHECKPOINT | ENGINE_RANGE_DELETE},
        {"twin(lsm, memory)", ENGINE_DURABLE | ENGINE_CHECKPOINT},
        {"twin(memory, lsm)", 0},
        {"twin(memory, memory)", ENGINE_NEVER_BLOCKS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(engine_type_find(rows[i].name)->capabilities,
                         rows[i].capabilities);
}

static uint64_t heard[2];
static size_t opened;
static const struct engine_setting_spec probe_settings[] = {
    {"size", 1, 9, 5, "of nothing", NULL}, {NULL, 0, 0, 0, NULL, NULL}};

static enum status probe_open(const struct engine_options *options,
                              struct engine **engine, struct error *error)
{
    heard[opened++] = engine_setting(options, options->type, "size");
    return memory_engine_type.open(options, engine, error);
}

static void settings_reach_the_engine_they_name(void **state)
{
    struct fixture *fixture = *state;
    /* There for good, as the type of its twin is. */
    static struct engine_type probe;
    probe = memory_engine_type;
    probe.settings = probe_settings;
    probe.open = probe_open;
    const struct engine_setting settings[] = {{"second.size", 7},
                                              {"first.size", 3}};
    struct engine_options options = {.directory = fixture->store.directory,
                                     .settings = settings,
                                     .setting_count = 2};
    const struct engine_type *type = twin_type_of(&probe, &probe);
    assert_int_equal(
        engine_open(type, &options, &fixture->engine, &fixture->error),
        STATUS_OK);
    assert_int_equal(heard[0], 3);
    assert_int_equal(heard[1], 7);
    engine_close(fixture->engine);
    const struct engine_setting wrong = {"second.size", 10};
    options.settings = &wrong;
    options.setting_count = 1;
    assert_int_equal(
        engine_open(type, &options, &fixture->engine, &fixture->error),
        STATUS_INVALID);
    assert_non_null(strstr(fixture->error.text, "second.size"));
}

/* --- what differs --- */

static void gets_that_differ_are_counted_and_told(void **state)
{
    struct fixture *fixture = *state;
    open_twin(fixture, &memory_engine_type, &memory_engine_type);
    put(fixture->engine, "same", "1");
    put_one(fixture, TWIN_FIRST, "\"value\"", "1");
    put_one(fixture, TWIN_SECOND, "\"value\"", "2");
    put_one(fixture, TWIN_FIRST, "first", "1");
    put_one(fixture, TWIN_SECOND, "second", "1");
    expect(fixture->engine, "same", "1");
    expect(fixture->engine, "nowhere", NULL);
    assert_int_equal(stats_of(fixture).twin_differences, 0);
    expect(fixture->engine, "\"value\"", "1");
    expect(fixture->engine, "first", "1");
    expect(fixture->engine, "second", NULL);
    assert_int_equal(stats_of(fixture).twin_differences, 3);
    expect_told(fixture, 0, "\\x22value\\x22: they have different values");
    expect_told(fixture, 1, "first: only the first has it");
    expect_told(fixture, 2, "second: only the second has it");
    /* Each read that differs is counted; not each is told. */
    for (int i = 0; i < 20; i++)
        expect(fixture->engine, "first", "1");
    assert_int_equal(stats_of(fixture).twin_differences, 23);
    assert_int_equal(fixture->told_count, 10);
}

static void rows_that_differ_are_counted_in_either_order(void **state)
{
    struct fixture *fixture = *state;
    open_twin(fixture, &memory_engine_type, &memory_engine_type);
    put(fixture->engine, "b", "1");
    put_one(fixture, TWIN_SECOND, "a", "2");
    put_one(fixture, TWIN_SECOND, "c", "2");
    put_one(fixture, TWIN_FIRST, "c", "1");
    put_one(fixture, TWIN_FIRST, "d", "1");
    put_one(fixture, TWIN_SECOND, "e", "2");
    put_one(fixture, TWIN_SECOND, "f", "2");
    expect_rows(fixture->engine, ENGINE_FORWARD, "b=1 c=1 d=1 ");
    assert_int_equal(stats_of(fixture).twin_differences, 5);
    expect_told(fixture, 0, "a: only the second has it");
    expect_told(fixture, 1, "c: they have different values");
    expect_told(fixture, 2, "d: only the first has it");
    expect_told(fixture, 4, "f: only the second has it");
    expect_rows(fixture->engine, ENGINE_BACKWARD, "d=1 c=1 b=1 ");
    assert_int_equal(stats_of(fixture).twin_differences, 10);
    expect_told(fixture, 5, "f: only the second has it");
    expect_told(fixture, 9, "a: only the second has it");
}

struct reader {
    struct engine *engine;
    enum status status;
    struct buffer value;
};

static void *get_key(void *argument)
{
    struct reader *reader = argument;
    reader->status =
        engine_get(reader->engine, bytes_of_string("key"), &reader->value);
    return NULL;
}

/* The reader has the first's old value and waits in the second meanwhile. */
static void a_write_between_two_gets_is_no_difference(void **state)
{
    struct fixture *fixture = *state;
    pthread_t thread;
    open_twin(fixture, &memory_engine_type, &fault_engine_type);
    struct reader reader = {.engine = fixture->engine};
    put(fixture->engine, "key", "1");
    fault_block_reads(true);
    assert_int_equal(pthread_create(&thread, NULL, get_key, &reader), 0);
    assert_true(fault_wait_blocked_reads(1));
    put(fixture->engine, "key", "2");
    fault_block_reads(false);
    pthread_join(thread, NULL);
    assert_int_equal(reader.status, STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&reader.value), bytes_of_string("2")));
    assert_int_equal(stats_of(fixture).twin_differences, 0);
    buffer_fini(&reader.value);
}

/* --- readers beside a writer --- */

enum { KEYS = 8, WRITES = 4000 };

struct readers {
    struct engine *engine;
    atomic_bool stop;
};

static void *read_on(void *argument)
{
    struct readers *readers = argument;
    struct buffer value = {0};
    enum engine_order order = ENGINE_FORWARD;
    for (unsigned i = 0; !atomic_load(&readers->stop); i++) {
        char name[16];
        struct engine_iterator *iterator;
        struct bytes key, row;
        snprintf(name, sizeof name, "key%u", i % KEYS);
        (void)!engine_get(readers->engine, bytes_of_string(name), &value);
        order = order == ENGINE_FORWARD ? ENGINE_BACKWARD : ENGINE_FORWARD;
        if (engine_iterate(readers->engine, bytes_of(NULL, 0),
                           bytes_of(NULL, 0), order, &iterator) != STATUS_OK)
            break;
        while (engine_next(iterator, &key, &row) == STATUS_OK)
            ;
        engine_iterator_free(iterator);
    }
    buffer_fini(&value);
    return NULL;
}

static void reads_beside_writes_find_no_difference(void **state)
{
    struct fixture *fixture = *state;
    pthread_t threads[2];
    uint64_t random = 3;
    open_twin(fixture, &memory_engine_type, &lsm_engine_type);
    struct readers readers = {.engine = fixture->engine};
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers),
                         0);
    for (int i = 0; i < WRITES; i++) {
        char key[16], value[16];
        snprintf(key, sizeof key, "key%u",
                 (unsigned)(store_random(&random) % KEYS));
        snprintf(value, sizeof value, "%d", i);
        bool remove = store_random(&random) % 4 == 0;
        assert_int_equal(
            write_one(fixture->engine, key, remove ? NULL : value, false),
            STATUS_OK);
    }
    atomic_store(&readers.stop, true);
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    struct engine_stats stats = stats_of(fixture);
    assert_int_equal(stats.twin_differences, 0);
    assert_int_equal(stats.twin_failures, 0);
    expect_alike(fixture);
}

/* --- a second that fails --- */

static void expect_out(struct fixture *fixture, const char *why)
{
    struct engine_stats stats = stats_of(fixture);
    assert_int_equal(stats.twin_failures, 1);
    assert_int_equal(stats.twin_behind, 1);
    assert_int_equal(stats.twin_differences, 0);
    assert_int_equal(fixture->told_count, 1);
    expect_told(fixture, 0, why);
    expect_told(fixture, 0, "remove its folder, second");
}

static void the_first_goes_on_when_a_write_of_the_second_fails(void **state)
{
    struct fixture *fixture = *state;
    open_twin(fixture, &memory_engine_type, &fault_engine_type);
    put(fixture->engine, "a", "1");
    struct engine_iterator *iterator;
    assert_int_equal(engine_iterate(fixture->engine, bytes_of(NULL, 0),
                                    bytes_of(NULL, 0), ENGINE_FORWARD,
                                    &iterator),
                     STATUS_OK);
    fault_fail_write();
    put(fixture->engine, "a", "2");
    expect_out(fixture, "fault, failed: io");
    unsigned writes = fault_counts().writes;
    put(fixture->engine, "b", "2");
    expect(fixture->engine, "a", "2");
    expect_rest(iterator, "a=1 ");
    expect_rows(fixture->engine, ENGINE_FORWARD, "a=2 b=2 ");
    assert_int_equal(fault_counts().writes, writes);
    expect_out(fixture, "fault, failed: io");
}

static void the_first_goes_on_when_the_second_breaks(void **state)
{
    struct fixture *fixture = *state;
    open_twin(fixture, &memory_engine_type, &fault_engine_type);
    put(fixture->engine, "a", "1");
    fault_break();
    expect(fixture->engine, "a", "1");
    expect_out(fixture, "fault, failed: broken");
    expect_rows(fixture->engine, ENGINE_BACKWARD, "a=1 ");
    expect_out(fixture, "fault, failed: broken");
}

static void the_first_goes_on_when_the_second_cannot_be_iterated(void **state)
{
    struct fixture *fixture = *state;
    open_twin(fixture, &memory_engine_type, &fault_engine_type);
    put(fixture->engine, "a", "1");
    fault_fail_reads(STATUS_CORRUPT);
    expect_rows(fixture->engine, ENGINE_FORWARD, "a=1 ");
    expect_out(fixture, "fault, failed: corrupt");
}

static void the_first_goes_on_when_the_second_does_not_open(void **state)
{
    struct fixture *fixture = *state;
    fault_fail_opens(true);
    open_twin(fixture, &memory_engine_type, &fault_engine_type);
    put(fixture->engine, "a", "1");
    expect(fixture->engine, "a", "1");
    expect_rows(fixture->engine, ENGINE_FORWARD, "a=1 ");
    expect_out(fixture, "failed: the disk does not answer");
}

/* It may have written the second's part of what failed, or not: neither. */
static void a_write_that_fails_in_the_first_is_not_in_the_second(void **state)
{
    struct fixture *fixture = *state;
    open_twin(fixture, &fault_engine_type, &memory_engine_type);
    put(fixture->engine, "a", "1");
    fault_fail_write();
    assert_int_equal(write_one(fixture->engine, "b", "1", true), STATUS_IO);
    assert_int_equal(write_one(fixture->engine, "c", "1", true), STATUS_BROKEN);
    expect_rows(twin_of(fixture->engine)->inner[TWIN_SECOND], ENGINE_FORWARD,
                "a=1 ");
    assert_int_equal(stats_of(fixture).twin_failures, 0);
    assert_int_equal(fixture->told_count, 0);
}

int main(void)
{
#define CLAIM(test)                                                            \
    cmocka_unit_test_setup_teardown(test, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        CLAIM(twin_is_found_however_it_is_spaced),
        CLAIM(what_names_no_twin_is_not_found),
        CLAIM(capabilities_are_what_both_allow),
        CLAIM(settings_reach_the_engine_they_name),
        CLAIM(gets_that_differ_are_counted_and_told),
        CLAIM(rows_that_differ_are_counted_in_either_order),
        CLAIM(a_write_between_two_gets_is_no_difference),
        CLAIM(reads_beside_writes_find_no_difference),
        CLAIM(the_first_goes_on_when_a_write_of_the_second_fails),
        CLAIM(the_first_goes_on_when_the_second_breaks),
        CLAIM(the_first_goes_on_when_the_second_cannot_be_iterated),
        CLAIM(the_first_goes_on_when_the_second_does_not_open),
        CLAIM(a_write_that_fails_in_the_first_is_not_in_the_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
