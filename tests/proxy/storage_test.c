/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/proxy/storage_fixture.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* What storage.h promises whatever the engine, asked of the engine named on
 * the command line. */

static const struct engine_type *type;

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    if (fixture == NULL)
        return -1;
    fixture_init(fixture, type);
    fixture_open(fixture);
    return 0;
}

static int tear_down(void **state)
{
    fixture_fini(*state);
    free(*state);
    return 0;
}

static void coordinate_is_prepared_then_stored(void **state)
{
    struct fixture *fixture = *state;
    struct storage_op op = coordinate_of(1, "k", "value");
    struct storage_op read = op_of(STORAGE_READ, 2, "k");
    struct buffer record = {0};
    fixture_store(fixture, &op);
    fixture_expect(fixture, 1, "prepared ok, stored ok");
    struct told prepared = fixture_wait(fixture, EVENT_PREPARED, 1);
    assert_int_equal(fixture_read(fixture, &read, &record), STATUS_OK);
    assert_true(
        bytes_equal(buffer_bytes(&record), buffer_bytes(&prepared.record)));
    assert_int_equal(value_count_of(&record), 1);
    buffer_fini(&record);
}

static void a_missing_key_is_not_found(void **state)
{
    struct fixture *fixture = *state;
    struct storage_op read = op_of(STORAGE_READ, 1, "k");
    struct buffer record = {0};
    assert_int_equal(fixture_read(fixture, &read, &record), STATUS_NOT_FOUND);
    assert_int_equal(record.size, 0);
    buffer_fini(&record);
}

static void a_retried_write_is_a_duplicate(void **state)
{
    struct fixture *fixture = *state;
    struct storage_op op = coordinate_of(1, "k", "value");
    fixture_store(fixture, &op);
    op.token = 2;
    fixture_store(fixture, &op);
    fixture_expect(fixture, 2, "prepared ok, stored ok");
    struct told first = fixture_wait(fixture, EVENT_PREPARED, 1);
    struct told again = fixture_wait(fixture, EVENT_PREPARED, 2);
    assert_false(first.duplicate);
    assert_true(again.duplicate);
    assert_true(
        bytes_equal(buffer_bytes(&first.record), buffer_bytes(&again.record)));
}

static void a_refused_write_is_prepared_with_its_status(void **state)
{
    struct fixture *fixture = *state;
    struct context none = {0};
    struct buffer context = {0};
    assert_int_equal(context_encode(&none, 12345, &context), STATUS_OK);
    struct storage_op op = coordinate_of(1, "k", "value");
    struct storage_op after = coordinate_of(2, "k", "value");
    op.context = buffer_bytes(&context);
    fixture_submit(fixture, &op);
    fixture_store(fixture, &after);
    fixture_expect(fixture, 1, "prepared refused");
    buffer_fini(&context);
}

static void a_damaged_record_is_not_merged(void **state)
{
    struct fixture *fixture = *state;
    struct storage_op op = op_of(STORAGE_MERGE, 1, "k");
    struct storage_op read = op_of(STORAGE_READ, 2, "k");
    op.data = bytes_of_string("no record at all");
    fixture_submit(fixture, &op);
    assert_int_equal(fixture_wait(fixture, EVENT_STORED, 1).status,
                     STATUS_CORRUPT);
    assert_int_equal(fixture_read(fixture, &read, NULL), STATUS_NOT_FOUND);
}

static void concurrent_writes_of_one_key_are_all_kept(void **state)
{
    struct fixture *fixture = *state;
    enum { WRITES = 50 };
    for (uint64_t i = 1; i <= WRITES; i++) {
        struct storage_op op = coordinate_of(i, "k", "value");
        storage_submit(fixture->storage, &op);
    }
    storage_run(fixture->storage);
    for (uint64_t i = 1; i <= WRITES; i++)
        assert_int_equal(fixture_wait(fixture, EVENT_STORED, i).status,
                         STATUS_OK);
    struct storage_op read = op_of(STORAGE_READ, WRITES + 1, "k");
    struct buffer record = {0};
    assert_int_equal(fixture_read(fixture, &read, &record), STATUS_OK);
    assert_int_equal(value_count_of(&record), WRITES);
    buffer_fini(&record);
}

static void more_than_a_batch_is_carried_out_in_order(void **state)
{
    struct fixture *fixture = *state;
    enum { WRITES = 1000 };
    char name[16];
    for (uint64_t i = 1; i <= WRITES; i++) {
        snprintf(name, sizeof name, "k%03u", (unsigned)i % 700);
        struct storage_op op = coordinate_of(i, name, "value");
        storage_submit(fixture->storage, &op);
    }
    storage_run(fixture->storage);
    (void)fixture_wait(fixture, EVENT_STORED, WRITES);
    uint64_t prepared = 0, stored = 0;
    for (size_t i = 0; i < fixture->told_count; i++) {
        const struct told *told = &fixture->told[i];
        uint64_t *last = told->kind == EVENT_PREPARED ? &prepared : &stored;
        assert_int_equal(told->status, STATUS_OK);
        assert_int_equal(told->token, *last + 1);
        *last = told->token;
        assert_true(prepared >= stored);
    }
    assert_int_equal(prepared, WRITES);
    assert_int_equal(stored, WRITES);
}

static void drop_keeps_a_newer_hint(void **state)
{
    struct fixture *fixture = *state;
    struct buffer old = {0}, newer = {0}, kept = {0};
    record_of(1, "old", &old);
    record_of(2, "newer", &newer);
    struct storage_op merge = hint_of(STORAGE_MERGE, 1, "k");
    struct storage_op drop = hint_of(STORAGE_DROP, 2, "k");
    struct storage_op read = hint_of(STORAGE_READ, 3, "k");
    merge.data = buffer_bytes(&old);
    fixture_store(fixture, &merge);
    struct told first = fixture_wait(fixture, EVENT_STORED, 1);
    assert_int_equal(first.records_delta, 1);
    assert_int_equal(first.bytes_delta, old.size);
    drop.version = version_of(&old);
    merge.token = 4;
    merge.data = buffer_bytes(&newer);
    fixture_store(fixture, &merge);
    assert_int_equal(fixture_wait(fixture, EVENT_STORED, 4).records_delta, 0);
    fixture_store(fixture, &drop);
    assert_int_equal(fixture_wait(fixture, EVENT_STORED, 2).records_delta, 0);
    assert_int_equal(fixture_read(fixture, &read, &kept), STATUS_OK);
    drop.version = version_of(&kept);
    drop.token = 5;
    read.token = 6;
    fixture_store(fixture, &drop);
    struct told last = fixture_wait(fixture, EVENT_STORED, 5);
    assert_int_equal(last.records_delta, -1);
    assert_int_equal(last.bytes_delta, -(int64_t)kept.size);
    assert_int_equal(fixture_read(fixture, &read, NULL), STATUS_NOT_FOUND);
    buffer_fini(&old);
    buffer_fini(&newer);
    buffer_fini(&kept);
}

static void a_scan_goes_through_its_partition_in_chunks(void **state)
{
    struct fixture *fixture = *state;
    enum { KEYS = 20 };
    char name[16];
    for (uint64_t i = 0; i < KEYS; i++) {
        snprintf(name, sizeof name, "k%02u", (unsigned)i);
        struct storage_op op = coordinate_of(i + 1, name, "value");
        fixture_store(fixture, &op);
        op.key.partition.value++;
        op.token = KEYS + 1 + i;
        fixture_store(fixture, &op);
    }
    size_t record = fixture_wait(fixture, EVENT_PREPARED, 1).record.size;
    struct storage_op scan = {.kind = STORAGE_SCAN, .token = 1000};
    scan.key.table = TABLE_DATA;
    scan.key.partition.value = 7;
    scan.bytes_max = (uint32_t)(3 * (record + 10));
    size_t rows = 0;
    for (;;) {
        struct told chunk = fixture_scan(fixture, &scan);
        assert_int_equal(chunk.status, STATUS_OK);
        if (chunk.row_count > 0) {
            snprintf(name, sizeof name, "k%02u", (unsigned)rows);
            assert_string_equal(chunk.first_name, name);
            assert_int_equal(chunk.first_key.partition.value, 7);
            assert_int_equal(chunk.first_key.bucket.value, 3);
        }
        rows += chunk.row_count;
        if (chunk.done)
            break;
        assert_int_equal(chunk.row_count, 3);
        scan.after = buffer_bytes(&chunk.next);
        scan.token++;
    }
    assert_int_equal(rows, KEYS);
}

static void a_chunk_has_a_row_however_large(void **state)
{
    struct fixture *fixture = *state;
    struct storage_op op = coordinate_of(1, "k", "value");
    struct storage_op scan = op_of(STORAGE_SCAN, 2, "");
    fixture_store(fixture, &op);
    scan.bytes_max = 1;
    struct told chunk = fixture_scan(fixture, &scan);
    assert_int_equal(chunk.row_count, 1);
    scan.after = buffer_bytes(&chunk.next);
    scan.token = 3;
    chunk = fixture_scan(fixture, &scan);
    assert_int_equal(chunk.row_count, 0);
    assert_true(chunk.done);
}

static void a_scan_of_hints_names_target_and_key(void **state)
{
    struct fixture *fixture = *state;
    struct buffer record = {0};
    record_of(1, "value", &record);
    struct storage_op merge = hint_of(STORAGE_MERGE, 1, "k");
    struct storage_op scan = hint_of(STORAGE_SCAN, 2, "");
    merge.data = buffer_bytes(&record);
    fixture_store(fixture, &merge);
    scan.key.target = (struct node_id){{0}};
    scan.bytes_max = 1 << 20;
    struct told chunk = fixture_scan(fixture, &scan);
    assert_int_equal(chunk.row_count, 1);
    assert_true(chunk.done);
    assert_true(node_id_equal(chunk.first_key.target, merge.key.target));
    assert_string_equal(chunk.first_name, "k");
    assert_true(
        bytes_equal(buffer_bytes(&chunk.record), buffer_bytes(&record)));
    buffer_fini(&record);
}

static void what_is_set_is_found_by_its_name(void **state)
{
    struct fixture *fixture = *state;
    struct storage_op op = {.kind = STORAGE_SET, .token = 1};
    struct buffer value = {0};
    op.key.table = TABLE_META;
    op.key.key = bytes_of_string("boot");
    op.data = bytes_of_string("2");
    assert_int_equal(
        storage_meta_get(fixture->storage, TABLE_META, "boot", &value),
        STATUS_NOT_FOUND);
    assert_int_equal(storage_meta_set(fixture->storage, TABLE_META, "boot",
                                      bytes_of_string("1")),
                     STATUS_OK);
    assert_int_equal(
        storage_meta_get(fixture->storage, TABLE_META, "boot", &value),
        STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&value), bytes_of_string("1")));
    fixture_store(fixture, &op);
    assert_int_equal(
        storage_meta_get(fixture->storage, TABLE_META, "boot", &value),
        STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&value), bytes_of_string("2")));
    buffer_fini(&value);
}

enum { CHAIN = 100 };

static void submit_next(struct fixture *fixture,
                        const struct storage_done *done)
{
    struct storage_result result;
    struct buffer value = {0};
    uint64_t token = done->result.op->token;
    if (done->kind != EVENT_STORED || token >= CHAIN)
        return;
    struct storage_op read = op_of(STORAGE_READ, 1000 + token, "k");
    if (storage_read(fixture->storage, &read, &value, &result))
        assert_int_equal(result.status, STATUS_OK);
    struct storage_op next = coordinate_of(token + 1, "k", "value");
    fixture_submit(fixture, &next);
    buffer_fini(&value);
}

static void done_may_submit_read_and_run(void **state)
{
    struct fixture *fixture = *state;
    struct storage_op op = coordinate_of(1, "k", "value");
    fixture->on_done = submit_next;
    fixture_submit(fixture, &op);
    assert_int_equal(fixture_wait(fixture, EVENT_STORED, CHAIN).status,
                     STATUS_OK);
    fixture_close(fixture);
}

static void close_carries_out_what_is_queued(void **state)
{
    struct fixture *fixture = *state;
    enum { WRITES = 600 };
    char name[16];
    for (uint64_t i = 1; i <= WRITES; i++) {
        snprintf(name, sizeof name, "k%03u", (unsigned)i);
        struct storage_op op = coordinate_of(i, name, "value");
        storage_submit(fixture->storage, &op);
    }
    fixture_close(fixture);
    assert_int_equal(fixture->told_count, 2 * WRITES);
    for (size_t i = 0; i < fixture->told_count; i++)
        assert_int_equal(fixture->told[i].status, STATUS_OK);
    fixture_open(fixture);
    struct storage_op read = op_of(STORAGE_READ, WRITES + 1, name);
    bool lasts = (type->capabilities & ENGINE_DURABLE) != 0;
    assert_int_equal(fixture_read(fixture, &read, NULL),
                     lasts ? STATUS_OK : STATUS_NOT_FOUND);
}

/* --- many threads --- */

enum { THREADS = 4, WRITES_EACH = 300, WINDOW = 16 };

struct client {
    struct fixture *fixture;
    unsigned number;
    pthread_t thread;
};

static void *client_main(void *argument)
{
    struct client *client = argument;
    struct fixture *fixture = client->fixture;
    struct buffer value = {0};
    char name[16];
    for (unsigned i = 0; i < WRITES_EACH; i++) {
        uint64_t token = client->number * WRITES_EACH + i + 1;
        snprintf(name, sizeof name, "k%u",
                 i % 10 == 0 ? 0 : client->number * WRITES_EACH + i);
        struct storage_op op = coordinate_of(token, name, "value");
        fixture_submit(fixture, &op);
        struct storage_result result;
        struct storage_op read = op_of(STORAGE_READ, 100000 + token, name);
        (void)storage_read(fixture->storage, &read, &value, &result);
        struct storage_op scan = op_of(STORAGE_SCAN, 200000 + token, "");
        scan.bytes_max = 1000;
        if (i % 50 == 0)
            (void)storage_read(fixture->storage, &scan, &value, &result);
        /* Odd, so that it is none of those to the full key. */
        if (i % WINDOW == 1)
            (void)fixture_wait(fixture, EVENT_STORED, token);
    }
    buffer_fini(&value);
    return NULL;
}

static void threads_get_every_result_once(void **state)
{
    struct fixture *fixture = *state;
    struct client clients[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        clients[i] = (struct client){.fixture = fixture, .number = i};
        assert_int_equal(
            pthread_create(&clients[i].thread, NULL, client_main, &clients[i]),
            0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(clients[i].thread, NULL);
    fixture_close(fixture);
    size_t stored = 0, prepared = 0;
    for (size_t i = 0; i < fixture->told_count; i++) {
        const struct told *told = &fixture->told[i];
        /* 30 writes of each thread go to one key, which holds 100. */
        if (told->op == STORAGE_COORDINATE && told->status == STATUS_OK) {
            stored += told->kind == EVENT_STORED;
            prepared += told->kind == EVENT_PREPARED;
        }
    }
    size_t refused = THREADS * WRITES_EACH / 10 - SIBLINGS_MAX;
    assert_int_equal(stored, THREADS * WRITES_EACH - refused);
    assert_int_equal(prepared, stored);
}

int main(int argc, char **argv)
{
    type = argc == 2 ? engine_type_find(argv[1]) : NULL;
    if (type == NULL) {
        fprintf(stderr, "usage: storage_test ENGINE\n");
        return 2;
    }
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CLAIM(coordinate_is_prepared_then_stored),
        CLAIM(a_missing_key_is_not_found),
        CLAIM(a_retried_write_is_a_duplicate),
        CLAIM(a_refused_write_is_prepared_with_its_status),
        CLAIM(a_damaged_record_is_not_merged),
        CLAIM(concurrent_writes_of_one_key_are_all_kept),
        CLAIM(more_than_a_batch_is_carried_out_in_order),
        CLAIM(drop_keeps_a_newer_hint),
        CLAIM(a_scan_goes_through_its_partition_in_chunks),
        CLAIM(a_chunk_has_a_row_however_large),
        CLAIM(a_scan_of_hints_names_target_and_key),
        CLAIM(what_is_set_is_found_by_its_name),
        CLAIM(done_may_submit_read_and_run),
        CLAIM(close_carries_out_what_is_queued),
        CLAIM(threads_get_every_result_once),
    };
    return cmocka_run_group_tests_name(type->name, tests, NULL, NULL);
}
