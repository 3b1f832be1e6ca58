/* SPDX-License-Identifier: MIT */
#include "tests/proto/client_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Batches of the C client: each of their requests as if it were alone. */

static struct test_node a, b;

static struct replikv_request get_of(const char *key)
{
    return (struct replikv_request){.kind = REPLIKV_GET,
                                    .key = bytes_from(key)};
}

static struct replikv_request put_of(const char *key)
{
    return (struct replikv_request){.kind = REPLIKV_PUT,
                                    .key = bytes_from(key),
                                    .value = bytes_from("v"),
                                    .context = bytes_from("seen")};
}

static struct replikv_request batch_of(const struct replikv_request *requests,
                                       size_t count)
{
    return (struct replikv_request){
        .kind = REPLIKV_BATCH, .requests = requests, .request_count = count};
}

static struct replikv_result *call(struct replikv *client,
                                   const struct replikv_request *requests,
                                   size_t count)
{
    struct replikv_request batch = batch_of(requests, count);
    struct replikv_result *result = replikv_call(client, &batch);
    assert_int_equal(result->result_count, count);
    return result;
}

static void assert_bytes(struct replikv_bytes bytes, const char *expected)
{
    assert_int_equal(bytes.size, strlen(expected));
    assert_memory_equal(bytes.data, expected, bytes.size);
}

static void assert_ended(const struct replikv_result *result,
                         enum replikv_status status,
                         enum replikv_outcome outcome, uint32_t attempts)
{
    assert_int_equal(result->status, status);
    assert_int_equal(result->outcome, outcome);
    assert_int_equal(result->attempts, attempts);
}

/* The index-th message that the node saw is a batch of these keys, and of
 * writes with the ids that the results say. */
static void assert_saw(struct test_node *node, size_t index,
                       const struct replikv_result *whole, const size_t *places,
                       const char *const *keys, size_t count)
{
    assert_in_range(index, 0, node_seen(node) - 1);
    const struct node_request *seen = &node->requests[index];
    struct arena arena;
    arena_init(&arena, envelope_budget(seen->size));
    const Rkv__Envelope *sent =
        envelope_unpack(bytes_of(seen->payload, seen->size), &arena, NULL);
    assert_non_null(sent);
    assert_int_equal(sent->body_case, RKV__ENVELOPE__BODY_BATCH);
    assert_int_equal(sent->batch->n_requests, count);
    for (size_t i = 0; i < count; i++) {
        const Rkv__BatchItem *item = sent->batch->requests[i];
        bool is_write = item->body_case == RKV__BATCH_ITEM__BODY_WRITE;
        struct bytes key =
            bytes_of_binary(is_write ? item->write->key : item->read->key);
        assert_true(bytes_equal(key, bytes_of_string(keys[i])));
        if (is_write)
            assert_memory_equal(item->write->request_id.data,
                                whole->results[places[i]].request_id, 16);
    }
    arena_fini(&arena);
}

static void each_request_has_its_own_result(void **state)
{
    (void)state;
    const struct replikv_request requests[] = {
        get_of("sibling"),
        put_of("k"),
        get_of("gone"),
        {.kind = REPLIKV_DELETE, .key = bytes_from("k")},
        put_of("wrong")};
    node_open(&a, NULL, ANSWERS);
    a.refused_batches = 1;
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    struct replikv_result *result = call(client, requests, 5);
    const struct replikv_result *each = result->results;
    replikv_close(client);
    /* Results outlive their client. */
    assert_ended(&each[0], REPLIKV_OK, REPLIKV_NONE, 1);
    assert_int_equal(each[0].value_count, 2);
    assert_bytes(each[0].values[0], "sibling");
    assert_bytes(each[0].values[1], "other");
    assert_bytes(each[0].context, "context");
    assert_ended(&each[1], REPLIKV_OK, REPLIKV_APPLIED, 1);
    assert_int_equal(each[1].need, 2);
    assert_int_equal(each[1].got, 3);
    assert_int_equal(each[1].epoch, 7);
    assert_bytes(each[1].context, "context");
    assert_ended(&each[2], REPLIKV_NOT_FOUND, REPLIKV_NONE, 1);
    assert_int_equal(each[2].value_count, 0);
    assert_ended(&each[3], REPLIKV_OK, REPLIKV_APPLIED, 1);
    assert_memory_not_equal(each[1].request_id, each[3].request_id, 16);
    assert_ended(&each[4], REPLIKV_INVALID, REPLIKV_NOT_APPLIED, 1);
    assert_string_equal(each[4].message, "because of its key");
    /* The whole says that not all went well, and why. */
    assert_ended(result, REPLIKV_INVALID, REPLIKV_UNKNOWN, 1);
    assert_string_equal(result->message, "because of its key");
    static const char *const keys[] = {"sibling", "k", "gone", "k", "wrong"};
    assert_saw(&a, 0, result, (size_t[]){0, 1, 2, 3, 4}, keys, 5);
    replikv_result_free(result);
    node_close(&a);
}

static void many_are_put_and_got(void **state)
{
    (void)state;
    enum { MANY = REPLIKV_BATCH_MAX };
    static struct replikv_bytes keys[MANY + 1];
    static char text[MANY][8];
    node_open(&a, NULL, ANSWERS);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    for (size_t i = 0; i < MANY; i++) {
        snprintf(text[i], sizeof text[i], "k%zu", i);
        keys[i] = bytes_from(text[i]);
    }
    struct replikv_result *result =
        replikv_put_many(client, keys, keys, NULL, MANY);
    assert_ended(result, REPLIKV_OK, REPLIKV_APPLIED, 1);
    assert_string_equal(result->message, "");
    assert_int_equal(result->result_count, MANY);
    for (size_t i = 1; i < MANY; i++)
        assert_memory_not_equal(result->results[i].request_id,
                                result->results[i - 1].request_id, 16);
    replikv_result_free(result);
    result = replikv_get_many(client, keys, MANY);
    assert_ended(result, REPLIKV_OK, REPLIKV_NONE, 1);
    for (size_t i = 0; i < MANY; i++)
        assert_bytes(result->results[i].values[0], text[i]);
    replikv_result_free(result);
    assert_int_equal(node_seen(&a), 2);
    result = replikv_get_many(client, keys, MANY + 1);
    assert_int_equal(result->status, REPLIKV_INVALID);
    assert_int_equal(result->result_count, 0);
    assert_non_null(strstr(result->message, "1001"));
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
}

static void only_what_is_not_settled_is_sent_again(void **state)
{
    (void)state;
    const struct replikv_request requests[] = {
        put_of("k"), put_of("overloaded"), get_of("gone"),
        get_of("overloaded")};
    static const char *const keys[] = {"overloaded", "overloaded"};
    node_open(&a, NULL, ANSWERS);
    a.refused_batches = 2;
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    struct replikv_result *result = call(client, requests, 4);
    assert_ended(result, REPLIKV_OK, REPLIKV_APPLIED, 3);
    assert_ended(&result->results[0], REPLIKV_OK, REPLIKV_APPLIED, 1);
    assert_ended(&result->results[1], REPLIKV_OK, REPLIKV_APPLIED, 3);
    assert_ended(&result->results[2], REPLIKV_NOT_FOUND, REPLIKV_NONE, 1);
    assert_ended(&result->results[3], REPLIKV_OK, REPLIKV_NONE, 3);
    /* What came with the first answer is still there. */
    assert_bytes(result->results[0].context, "context");
    assert_bytes(result->results[3].values[0], "overloaded");
    assert_int_equal(node_seen(&a), 3);
    assert_saw(&a, 1, result, (size_t[]){1, 3}, keys, 2);
    assert_saw(&a, 2, result, (size_t[]){1, 3}, keys, 2);
    assert_int_not_equal(a.requests[0].id, a.requests[1].id);
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
}

static void what_one_node_cannot_another_can(void **state)
{
    (void)state;
    const struct replikv_request requests[] = {put_of("unavailable"),
                                               get_of("k"), put_of("unsure"),
                                               get_of("unavailable")};
    static const char *const keys[] = {"unavailable", "unsure", "unavailable"};
    node_open(&a, NULL, ANSWERS);
    node_open(&b, NULL, ANSWERS);
    a.refused_batches = 1;
    struct replikv *client = client_of(&a, &b, (struct replikv_options){0});
    struct replikv_result *result = call(client, requests, 4);
    assert_ended(result, REPLIKV_OK, REPLIKV_APPLIED, 2);
    assert_ended(&result->results[1], REPLIKV_OK, REPLIKV_NONE, 1);
    assert_ended(&result->results[2], REPLIKV_OK, REPLIKV_APPLIED, 2);
    assert_int_equal(node_seen(&a), 1);
    assert_int_equal(node_seen(&b), 1);
    assert_saw(&b, 0, result, (size_t[]){0, 2, 3}, keys, 3);
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
    node_close(&b);
}

static void where_no_node_can_each_says_what_it_was_told(void **state)
{
    (void)state;
    const struct replikv_request requests[] = {put_of("unavailable"),
                                               put_of("k"), put_of("unsure"),
                                               get_of("unavailable")};
    node_open(&a, NULL, ANSWERS);
    node_open(&b, NULL, ANSWERS);
    a.refused_batches = b.refused_batches = 1;
    struct replikv *client = client_of(&a, &b, (struct replikv_options){0});
    struct replikv_result *result = call(client, requests, 4);
    assert_ended(result, REPLIKV_UNAVAILABLE, REPLIKV_UNKNOWN, 2);
    assert_ended(&result->results[0], REPLIKV_UNAVAILABLE, REPLIKV_NOT_APPLIED,
                 2);
    assert_ended(&result->results[1], REPLIKV_OK, REPLIKV_APPLIED, 1);
    assert_ended(&result->results[2], REPLIKV_UNAVAILABLE, REPLIKV_UNKNOWN, 2);
    assert_ended(&result->results[3], REPLIKV_UNAVAILABLE, REPLIKV_NONE, 2);
    assert_string_equal(result->results[3].message, "because of its key");
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
    node_close(&b);
}

/* However a is lost, b gets the same batch. */
static void a_lost_batch_is_the_same_batch_elsewhere(void **state)
{
    (void)state;
    const struct replikv_request requests[] = {put_of("k"), get_of("gone"),
                                               put_of("l")};
    static const char *const keys[] = {"k", "gone", "l"};
    const enum manner manners[] = {HANGS_UP,       SENDS_GARBAGE,
                                   ANSWERS_BESIDE, FORGETS_OUTCOME,
                                   IS_UNAVAILABLE, IS_UNSURE};
    for (size_t i = 0; i < sizeof manners / sizeof *manners; i++) {
        node_open(&a, NULL, manners[i]);
        node_open(&b, NULL, ANSWERS);
        struct replikv *client =
            client_of(&a, &b, (struct replikv_options){.attempt_ms = 60000});
        struct replikv_result *result = call(client, requests, 3);
        assert_ended(result, REPLIKV_OK, REPLIKV_APPLIED, 2);
        assert_saw(&a, 0, result, (size_t[]){0, 1, 2}, keys, 3);
        assert_saw(&b, 0, result, (size_t[]){0, 1, 2}, keys, 3);
        replikv_result_free(result);
        replikv_close(client);
        node_close(&a);
        node_close(&b);
    }
}

static void keep_result(void *user, struct replikv_result *result)
{
    struct replikv_result **kept = user;
    *kept = result;
}

/* What the first attempt settled stays so; the rest was lost with the second,
 * of which nothing was heard before the end. */
static void a_lost_rest_is_unknown_and_no_more(void **state)
{
    (void)state;
    const struct replikv_request requests[] = {
        put_of("k"), put_of("unavailable"), put_of("wrong"),
        get_of("unavailable")};
    const struct replikv_request batch = batch_of(requests, 4);
    struct replikv_result *result = NULL;
    node_open(&a, NULL, ANSWERS);
    node_open(&b, NULL, KEEPS_SILENT);
    a.refused_batches = 1;
    struct replikv *client =
        client_of(&a, &b, (struct replikv_options){.attempt_ms = 60000});
    assert_int_equal(replikv_start(client, &batch, keep_result, &result, NULL),
                     REPLIKV_OK);
    node_wait(&b, 1);
    replikv_close(client);
    assert_non_null(result);
    assert_ended(result, REPLIKV_CLOSED, REPLIKV_UNKNOWN, 2);
    assert_ended(&result->results[0], REPLIKV_OK, REPLIKV_APPLIED, 1);
    assert_ended(&result->results[1], REPLIKV_CLOSED, REPLIKV_UNKNOWN, 2);
    assert_non_null(strstr(result->results[1].message, "closed"));
    assert_ended(&result->results[2], REPLIKV_INVALID, REPLIKV_NOT_APPLIED, 1);
    assert_ended(&result->results[3], REPLIKV_CLOSED, REPLIKV_NONE, 2);
    replikv_result_free(result);
    node_close(&a);
    node_close(&b);
}

static void a_batch_refused_as_a_whole_is_refused_in_each(void **state)
{
    (void)state;
    const struct replikv_request requests[] = {put_of("k"), get_of("k")};
    node_open(&a, NULL, REFUSES);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    struct replikv_result *result = call(client, requests, 2);
    assert_ended(result, REPLIKV_INVALID, REPLIKV_NOT_APPLIED, 1);
    assert_ended(&result->results[0], REPLIKV_INVALID, REPLIKV_NOT_APPLIED, 1);
    assert_ended(&result->results[1], REPLIKV_INVALID, REPLIKV_NONE, 1);
    assert_string_equal(result->results[1].message, "because of the test");
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
}

static void refused(struct replikv *client, struct replikv_request batch,
                    const char *field, const char *value)
{
    struct replikv_result *result = replikv_call(client, &batch);
    assert_int_equal(result->status, REPLIKV_INVALID);
    assert_int_equal(result->result_count, 0);
    assert_non_null(strstr(result->message, field));
    assert_non_null(strstr(result->message, value));
    replikv_result_free(result);
}

static void what_no_batch_may_have_is_named(void **state)
{
    (void)state;
    struct replikv_request requests[] = {put_of("k"), get_of("k")};
    node_open(&a, NULL, ANSWERS);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    refused(client, batch_of(requests, 0), "requests", "1 to 1000");
    requests[1].kind = REPLIKV_LIST;
    refused(client, batch_of(requests, 2), "requests[1].kind", "3");
    requests[1] = batch_of(requests, 1);
    refused(client, batch_of(requests, 2), "requests[1].kind", "5");
    assert_int_equal(node_seen(&a), 0);
    replikv_close(client);
    node_close(&a);
}

static void a_batch_counts_as_its_requests(void **state)
{
    (void)state;
    const struct replikv_request requests[] = {put_of("k"), put_of("k"),
                                               put_of("k"), get_of("k")};
    struct replikv_error error;
    struct tally tally;
    tally_init(&tally);
    node_open(&a, NULL, KEEPS_SILENT);
    struct replikv *client =
        client_of(&a, NULL, (struct replikv_options){.inflight_max = 3});
    struct replikv_request two = batch_of(requests, 2);
    struct replikv_request four = batch_of(requests, 4);
    assert_int_equal(replikv_start(client, &two, tally_add, &tally, &error),
                     REPLIKV_OK);
    assert_int_equal(replikv_start(client, &two, tally_add, &tally, &error),
                     REPLIKV_OVERLOADED);
    assert_non_null(strstr(error.text, "inflight_max"));
    assert_int_equal(
        replikv_start(client, &requests[0], tally_add, &tally, &error),
        REPLIKV_OK);
    assert_int_equal(
        replikv_start(client, &requests[0], tally_add, &tally, &error),
        REPLIKV_OVERLOADED);
    node_wait(&a, 2);
    node_answer_held(&a);
    tally_wait(&tally, 2);
    /* One that is larger than the bound goes alone. */
    assert_int_equal(replikv_start(client, &four, tally_add, &tally, &error),
                     REPLIKV_OK);
    assert_int_equal(
        replikv_start(client, &requests[0], tally_add, &tally, &error),
        REPLIKV_OVERLOADED);
    replikv_close(client);
    assert_int_equal(tally.by_status[REPLIKV_OK], 2);
    assert_int_equal(tally.by_status[REPLIKV_CLOSED], 1);
    node_close(&a);
    tally_fini(&tally);
}

enum { THREADS = 4, CALLS = 25, EACH = 8 };

static void *call_many(void *user)
{
    struct replikv_bytes keys[EACH];
    size_t applied = 0;
    for (int i = 0; i < EACH; i++)
        keys[i] = bytes_from(i % 2 == 0 ? "k" : "overloaded");
    for (int i = 0; i < CALLS; i++) {
        struct replikv_result *result =
            replikv_put_many(user, keys, keys, NULL, EACH);
        for (size_t j = 0; j < result->result_count; j++)
            applied += result->results[j].outcome == REPLIKV_APPLIED;
        replikv_result_free(result);
    }
    return applied == CALLS * EACH ? user : NULL;
}

static void threads_share_a_client_while_nodes_hang_up(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    node_open(&a, NULL, ANSWERS);
    node_open(&b, NULL, ANSWERS);
    a.hang_up_every = 17;
    b.hang_up_every = 23;
    a.refused_batches = SIZE_MAX;
    struct replikv *client = client_of(&a, &b, (struct replikv_options){0});
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_many, client),
                         0);
    for (int i = 0; i < THREADS; i++) {
        void *all_applied;
        pthread_join(threads[i], &all_applied);
        assert_non_null(all_applied);
    }
    replikv_close(client);
    node_close(&a);
    node_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_has_its_own_result),
        cmocka_unit_test(many_are_put_and_got),
        cmocka_unit_test(only_what_is_not_settled_is_sent_again),
        cmocka_unit_test(what_one_node_cannot_another_can),
        cmocka_unit_test(where_no_node_can_each_says_what_it_was_told),
        cmocka_unit_test(a_lost_batch_is_the_same_batch_elsewhere),
        cmocka_unit_test(a_lost_rest_is_unknown_and_no_more),
        cmocka_unit_test(a_batch_refused_as_a_whole_is_refused_in_each),
        cmocka_unit_test(what_no_batch_may_have_is_named),
        cmocka_unit_test(a_batch_counts_as_its_requests),
        cmocka_unit_test(threads_share_a_client_while_nodes_hang_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
