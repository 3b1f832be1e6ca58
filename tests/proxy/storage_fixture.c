/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/proxy/storage_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void copy_rows(struct told *told, const struct storage_result *result)
{
    told->row_count = result->row_count;
    if (result->row_count == 0)
        return;
    told->first_key = result->rows[0].key;
    struct bytes name = result->rows[0].key.key;
    assert_true(name.size < sizeof told->first_name);
    memcpy(told->first_name, name.data, name.size);
    told->first_key.key = (struct bytes){0};
    assert_int_equal(buffer_append(&told->record, result->rows[0].record),
                     STATUS_OK);
}

static void keep(struct fixture *fixture, const struct storage_done *done)
{
    if (fixture->told_count == fixture->told_capacity) {
        fixture->told_capacity = fixture->told_capacity * 2 + 64;
        fixture->told = realloc(fixture->told,
                                fixture->told_capacity * sizeof *fixture->told);
        assert_non_null(fixture->told);
    }
    const struct storage_result *result = &done->result;
    struct told *told = &fixture->told[fixture->told_count++];
    *told = (struct told){
        .kind = done->kind,
        .op = result->op->kind,
        .token = result->op->token,
        .status = result->status,
        .duplicate = result->duplicate,
        .done = result->done,
        .records_delta = result->records_delta,
        .bytes_delta = result->bytes_delta,
        .prepared_us = result->prepared_us,
        .here = pthread_equal(pthread_self(), fixture->thread),
    };
    assert_int_equal(buffer_append(&told->record, result->record), STATUS_OK);
    assert_int_equal(buffer_append(&told->next, result->next), STATUS_OK);
    copy_rows(told, result);
}

static void on_done(void *user, const struct storage_done *done, size_t count)
{
    struct fixture *fixture = user;
    pthread_mutex_lock(&fixture->lock);
    for (size_t i = 0; i < count; i++)
        keep(fixture, &done[i]);
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
    for (size_t i = 0; i < count && fixture->on_done != NULL; i++)
        fixture->on_done(fixture, &done[i]);
}

static void on_reopened(void *user)
{
    struct fixture *fixture = user;
    pthread_mutex_lock(&fixture->lock);
    fixture->reopened++;
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

static void on_log(void *user, const char *line)
{
    struct fixture *fixture = user;
    printf("%s\n", line);
    pthread_mutex_lock(&fixture->lock);
    snprintf(fixture->logged, sizeof fixture->logged, "%s", line);
    pthread_mutex_unlock(&fixture->lock);
}

static const struct storage_handlers handlers = {
    .done = on_done,
    .reopened = on_reopened,
    .log = on_log,
};

void fixture_init(struct fixture *fixture, const struct engine_type *type)
{
    *fixture = (struct fixture){.thread = pthread_self()};
    pthread_mutex_init(&fixture->lock, NULL);
    pthread_cond_init(&fixture->changed, NULL);
    assert_true(store_init(&fixture->store, type));
    fixture->config = (struct storage_config){
        .type = type,
        .options = {.directory = fixture->store.directory},
        .sync = STORAGE_SYNC_BATCH,
        .queue_max = 1024,
        .queue_bytes_max = 1 << 20,
        .dedup_window_ms = 60000,
        .value_bytes_max = STORE_VALUE_BYTES_MAX,
        .seed = 42,
    };
}

void fixture_fini(struct fixture *fixture)
{
    fixture_close(fixture);
    store_fini(&fixture->store);
    for (size_t i = 0; i < fixture->told_count; i++) {
        buffer_fini(&fixture->told[i].record);
        buffer_fini(&fixture->told[i].next);
    }
    free(fixture->told);
    pthread_mutex_destroy(&fixture->lock);
    pthread_cond_destroy(&fixture->changed);
}

void fixture_open(struct fixture *fixture)
{
    struct error error = {0};
    if (storage_open(&fixture->config, &handlers, fixture, &fixture->storage,
                     &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

void fixture_close(struct fixture *fixture)
{
    if (fixture->storage != NULL)
        storage_close(fixture->storage);
    fixture->storage = NULL;
}

void fixture_submit(struct fixture *fixture, const struct storage_op *op)
{
    storage_submit(fixture->storage, op);
    storage_run(fixture->storage);
}

static const struct told *find(const struct fixture *fixture,
                               enum event_kind kind, uint64_t token)
{
    for (size_t i = 0; i < fixture->told_count; i++)
        if (fixture->told[i].kind == kind && fixture->told[i].token == token)
            return &fixture->told[i];
    return NULL;
}

/* Under the lock. */
static void wait_change(struct fixture *fixture, const struct timespec *until)
{
    if (pthread_cond_timedwait(&fixture->changed, &fixture->lock, until) != 0)
        fail_msg("nothing was told for 10 s");
}

static struct timespec soon(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    return until;
}

struct told fixture_wait(struct fixture *fixture, enum event_kind kind,
                         uint64_t token)
{
    struct timespec until = soon();
    const struct told *told;
    pthread_mutex_lock(&fixture->lock);
    while ((told = find(fixture, kind, token)) == NULL)
        wait_change(fixture, &until);
    struct told copy = *told;
    pthread_mutex_unlock(&fixture->lock);
    return copy;
}

void fixture_wait_reopened(struct fixture *fixture, unsigned times)
{
    struct timespec until = soon();
    pthread_mutex_lock(&fixture->lock);
    while (fixture->reopened < times)
        wait_change(fixture, &until);
    pthread_mutex_unlock(&fixture->lock);
}

void fixture_expect(struct fixture *fixture, uint64_t token, const char *wanted)
{
    char text[256] = "";
    pthread_mutex_lock(&fixture->lock);
    for (size_t i = 0; i < fixture->told_count; i++) {
        const struct told *told = &fixture->told[i];
        size_t size = strlen(text);
        if (told->token == token)
            snprintf(text + size, sizeof text - size, "%s%s %s",
                     size > 0 ? ", " : "",
                     told->kind == EVENT_PREPARED ? "prepared" : "stored",
                     status_name(told->status));
    }
    pthread_mutex_unlock(&fixture->lock);
    assert_string_equal(text, wanted);
}

struct storage_op op_of(enum storage_kind kind, uint64_t token, const char *key)
{
    return (struct storage_op){
        .kind = kind,
        .token = token,
        .key = {.table = TABLE_DATA,
                .partition = {7},
                .bucket = {3},
                .key = bytes_of_string(key)},
        .wall_ms = 1000000,
    };
}

static struct request_id request_of(uint64_t token)
{
    struct request_id request = {{1}};
    memcpy(request.bytes + 8, &token, sizeof token);
    return request;
}

struct storage_op coordinate_of(uint64_t token, const char *key,
                                const char *value)
{
    struct storage_op op = op_of(STORAGE_COORDINATE, token, key);
    op.data = bytes_of_string(value);
    op.request = request_of(token);
    return op;
}

struct storage_op hint_of(enum storage_kind kind, uint64_t token,
                          const char *key)
{
    struct storage_op op = op_of(kind, token, key);
    op.key.table = TABLE_HINTS;
    op.key.target = (struct node_id){{9, 9}};
    return op;
}

void fixture_store(struct fixture *fixture, const struct storage_op *op)
{
    fixture_submit(fixture, op);
    assert_int_equal(fixture_wait(fixture, EVENT_STORED, op->token).status,
                     STATUS_OK);
}

enum status fixture_read(struct fixture *fixture, const struct storage_op *op,
                         struct buffer *record)
{
    struct storage_result result;
    struct buffer value = {0};
    struct bytes read;
    if (storage_read(fixture->storage, op, &value, &result)) {
        read = result.record;
    } else {
        struct told told = fixture_wait(fixture, EVENT_STORED, op->token);
        result.status = told.status;
        read = buffer_bytes(&told.record);
    }
    if (record != NULL) {
        buffer_clear(record);
        assert_int_equal(buffer_append(record, read), STATUS_OK);
    }
    buffer_fini(&value);
    return result.status;
}

struct told fixture_scan(struct fixture *fixture, const struct storage_op *op)
{
    struct storage_result result;
    struct buffer value = {0};
    assert_false(storage_read(fixture->storage, op, &value, &result));
    return fixture_wait(fixture, EVENT_STORED, op->token);
}

/* --- records --- */

void record_of(uint64_t counter, const char *value, struct buffer *record)
{
    struct arena arena;
    struct record own = record_empty(RECORD_SIBLINGS), written;
    bool duplicate;
    struct record_write write = {
        .request = request_of(counter << 32),
        .dot = {.actor = {.incarnation = 77}, .counter = counter},
        .now_ms = 1000000,
        .data = bytes_of_string(value),
    };
    arena_init(&arena, 1 << 20);
    assert_int_equal(
        record_apply(&own, &write, 60000, &arena, &written, &duplicate),
        STATUS_OK);
    buffer_clear(record);
    assert_int_equal(record_encode(&written, record), STATUS_OK);
    arena_fini(&arena);
}

static struct record decode(const struct buffer *record, struct arena *arena)
{
    struct record decoded;
    arena_init(arena, 1 << 20);
    assert_int_equal(record_decode(buffer_bytes(record), arena, &decoded),
                     STATUS_OK);
    return decoded;
}

uint64_t version_of(const struct buffer *record)
{
    return record_version(buffer_bytes(record));
}

size_t value_count_of(const struct buffer *record)
{
    struct arena arena;
    size_t count = decode(record, &arena).value_count;
    arena_fini(&arena);
    return count;
}

struct dot dot_of(const struct buffer *record, uint64_t token)
{
    struct arena arena;
    struct record decoded = decode(record, &arena);
    struct dot dot = {.counter = 0};
    for (size_t i = 0; i < decoded.value_count; i++)
        if (request_id_equal(decoded.values[i].request, request_of(token)))
            dot = decoded.values[i].dots[0];
    arena_fini(&arena);
    assert_true(dot.counter > 0);
    return dot;
}
