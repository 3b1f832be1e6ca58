/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engines/conformance.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

/* Readers beside writers: both keys of every batch, or a bug. Writers beside
 * each other: each writes the pair, and keys of its own. */
enum { PAIR_WRITES = 300, WRITERS = 4, WRITES = 300 };

struct readers {
    struct engine *engine;
    atomic_bool stop;
    atomic_int torn;
};

struct writer {
    struct engine *engine;
    unsigned number;
    enum status status; /* of its first write that failed */
    pthread_t thread;
};

static void *read_pairs(void *argument)
{
    struct readers *readers = argument;
    struct buffer got = {0};
    enum engine_order order = ENGINE_FORWARD;
    while (!atomic_load(&readers->stop)) {
        struct engine_iterator *iterator;
        struct bytes key, value;
        char first[16] = "";
        int seen = 0;
        order = order == ENGINE_FORWARD ? ENGINE_BACKWARD : ENGINE_FORWARD;
        if (engine_iterate(readers->engine, bytes_of_string("left"),
                           bytes_of_string("right!"), order,
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

static void start_readers(struct readers *readers, pthread_t threads[2])
{
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_pairs, readers),
                         0);
}

static void stop_readers(struct readers *readers, pthread_t threads[2])
{
    atomic_store(&readers->stop, true);
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&readers->torn), 0);
}

static void readers_never_see_half_a_batch(void **state)
{
    struct store *store = *state;
    struct readers readers = {.engine = store->engine};
    pthread_t threads[2];
    write_pair(store, 0);
    start_readers(&readers, threads);
    for (int number = 1; number <= PAIR_WRITES; number++)
        write_pair(store, number);
    stop_readers(&readers, threads);
}

static void name_key(char key[32], unsigned writer, unsigned write)
{
    snprintf(key, 32, "thread-%u-%05u", writer, write);
}

/* Two keys of its own and the pair; every third is synced. */
static enum status write_own(struct writer *writer, unsigned write)
{
    char own[32], next[32], text[16];
    name_key(own, writer->number, 2 * write);
    name_key(next, writer->number, 2 * write + 1);
    snprintf(text, sizeof text, "%u-%u", writer->number, write);
    struct bytes value = bytes_of_string(text);
    struct batch_operation operations[] = {
        {.key = bytes_of_string("left"), .value = value},
        {.key = bytes_of_string(own), .value = value},
        {.key = bytes_of_string(next), .value = value},
        {.key = bytes_of_string("right"), .value = value},
    };
    struct batch batch = {.operations = operations, .count = 4};
    return engine_write(writer->engine, &batch, write % 3 == 0);
}

/* Half way, what it wrote so far is deleted. */
static void *write_beside(void *argument)
{
    struct writer *writer = argument;
    char from[32], to[32];
    name_key(from, writer->number, 0);
    name_key(to, writer->number, 2 * WRITES);
    for (unsigned i = 0; writer->status == STATUS_OK && i < WRITES; i++) {
        if (i == WRITES / 2)
            writer->status = engine_delete_range(
                writer->engine, bytes_of_string(from), bytes_of_string(to));
        if (writer->status == STATUS_OK)
            writer->status = write_own(writer, i);
    }
    return NULL;
}

static void expect_own(struct store *store)
{
    char key[32], text[16];
    for (unsigned number = 0; number < WRITERS; number++)
        for (unsigned i = 0; i < 2 * WRITES; i++) {
            name_key(key, number, i);
            snprintf(text, sizeof text, "%u-%u", number, i / 2);
            expect_text(store, key, i < WRITES ? NULL : text);
        }
}

/* Every batch is whole and all of them are there in the end. */
static void writers_do_not_disturb_each_other(void **state)
{
    struct store *store = *state;
    struct readers readers = {.engine = store->engine};
    struct writer writers[WRITERS] = {0};
    pthread_t threads[2];
    write_pair(store, 0);
    start_readers(&readers, threads);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.engine = store->engine, .number = i};
        assert_int_equal(
            pthread_create(&writers[i].thread, NULL, write_beside, &writers[i]),
            0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        assert_int_equal(writers[i].status, STATUS_OK);
    }
    stop_readers(&readers, threads);
    expect_own(store);
    if ((type->capabilities & ENGINE_DURABLE) == 0)
        return;
    assert_int_equal(engine_write(store->engine, &(struct batch){0}, true),
                     STATUS_OK);
    reopen(store);
    expect_own(store);
}

int claims_of_readers(void)
{
    const struct CMUnitTest tests[] = {CLAIM(readers_never_see_half_a_batch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int claims_of_writers(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(writers_do_not_disturb_each_other)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
