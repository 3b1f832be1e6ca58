/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engines/twin_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int fixture_set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    if (fixture == NULL || !store_init(&fixture->store, NULL))
        return -1;
    pthread_mutex_init(&fixture->lock, NULL);
    pthread_cond_init(&fixture->changed, NULL);
    fault_reset();
    return 0;
}

int fixture_tear_down(void **state)
{
    struct fixture *fixture = *state;
    close_engine(fixture);
    fault_reset();
    store_fini(&fixture->store);
    pthread_mutex_destroy(&fixture->lock);
    pthread_cond_destroy(&fixture->changed);
    free(fixture);
    return 0;
}

static void keep(void *context, const char *message)
{
    struct fixture *fixture = context;
    pthread_mutex_lock(&fixture->lock);
    if (fixture->told_count < FIXTURE_TOLD_MAX)
        snprintf(fixture->told[fixture->told_count++], sizeof fixture->told[0],
                 "%s", message);
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

enum status open_engine(struct fixture *fixture, const struct engine_type *type)
{
    struct engine_options options = {.directory = fixture->store.directory,
                                     .report = keep,
                                     .report_context = fixture};
    return engine_open(type, &options, &fixture->engine, &fixture->error);
}

void open_twin(struct fixture *fixture, const struct engine_type *first,
               const struct engine_type *second)
{
    if (open_engine(fixture, twin_type_of(first, second)) != STATUS_OK)
        fail_msg("%s", fixture->error.text);
}

void close_engine(struct fixture *fixture)
{
    engine_close(fixture->engine);
    fixture->engine = NULL;
    fixture->told_count = 0;
}

void path_in(const struct fixture *fixture, const char *name,
             char path[PATH_MAX])
{
    int size =
        snprintf(path, PATH_MAX, "%s/%s", fixture->store.directory, name);
    assert_true(size < PATH_MAX);
}

enum status write_one(struct engine *engine, const char *key, const char *value,
                      bool sync)
{
    struct batch_operation operation = {.key = bytes_of_string(key),
                                        .remove = value == NULL};
    if (value != NULL)
        operation.value = bytes_of_string(value);
    struct batch batch = {.operations = &operation, .count = 1};
    return engine_write(engine, &batch, sync);
}

void put(struct engine *engine, const char *key, const char *value)
{
    assert_int_equal(write_one(engine, key, value, true), STATUS_OK);
}

void put_one(struct fixture *fixture, enum twin_place place, const char *key,
             const char *value)
{
    put(twin_of(fixture->engine)->inner[place], key, value);
}

void expect(struct engine *engine, const char *key, const char *value)
{
    struct buffer got = {0};
    enum status status = engine_get(engine, bytes_of_string(key), &got);
    assert_int_equal(status, value == NULL ? STATUS_NOT_FOUND : STATUS_OK);
    if (value != NULL)
        assert_true(bytes_equal(buffer_bytes(&got), bytes_of_string(value)));
    buffer_fini(&got);
}

static struct engine_iterator *all_of(struct engine *engine,
                                      enum engine_order order)
{
    struct engine_iterator *iterator;
    assert_int_equal(engine_iterate(engine, bytes_of(NULL, 0),
                                    bytes_of(NULL, 0), order, &iterator),
                     STATUS_OK);
    return iterator;
}

void expect_rest(struct engine_iterator *iterator, const char *wanted)
{
    struct bytes key, value;
    enum status status;
    char text[1024] = "";
    size_t used = 0;
    while ((status = engine_next(iterator, &key, &value)) == STATUS_OK)
        used += (size_t)snprintf(text + used, sizeof text - used, "%.*s=%.*s ",
                                 (int)key.size, (const char *)key.data,
                                 (int)value.size, (const char *)value.data);
    assert_int_equal(status, STATUS_NOT_FOUND);
    engine_iterator_free(iterator);
    assert_string_equal(text, wanted);
}

void expect_rows(struct engine *engine, enum engine_order order,
                 const char *wanted)
{
    expect_rest(all_of(engine, order), wanted);
}

size_t expect_alike(struct fixture *fixture)
{
    struct engine_iterator *iterators[TWIN_BOTH];
    size_t count = 0;
    for (int i = 0; i < TWIN_BOTH; i++)
        iterators[i] =
            all_of(twin_of(fixture->engine)->inner[i], ENGINE_FORWARD);
    for (;; count++) {
        struct bytes key[TWIN_BOTH], value[TWIN_BOTH];
        enum status first = engine_next(iterators[0], &key[0], &value[0]);
        enum status second = engine_next(iterators[1], &key[1], &value[1]);
        assert_int_equal(first, second);
        if (first != STATUS_OK)
            break;
        assert_true(bytes_equal(key[0], key[1]));
        assert_true(bytes_equal(value[0], value[1]));
    }
    for (int i = 0; i < TWIN_BOTH; i++)
        engine_iterator_free(iterators[i]);
    return count;
}

void expect_told(struct fixture *fixture, size_t n, const char *text)
{
    pthread_mutex_lock(&fixture->lock);
    bool told =
        n < fixture->told_count && strstr(fixture->told[n], text) != NULL;
    pthread_mutex_unlock(&fixture->lock);
    if (!told)
        fail_msg("of %zu, told %s\nnot: %s", fixture->told_count,
                 fixture->told[n], text);
}

struct engine_stats stats_of(struct fixture *fixture)
{
    struct engine_stats stats;
    engine_stats(fixture->engine, &stats);
    return stats;
}

void wait_same(struct fixture *fixture)
{
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 10;
    int failed = 0;
    pthread_mutex_lock(&fixture->lock);
    while (failed == 0 && stats_of(fixture).twin_behind)
        failed = pthread_cond_timedwait(&fixture->changed, &fixture->lock,
                                        &deadline);
    pthread_mutex_unlock(&fixture->lock);
    assert_int_equal(failed, 0);
}
