/* SPDX-License-Identifier: MIT */
#include "tests/proto/client_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct test_node a, b;

static void assert_bytes(struct replikv_bytes bytes, const char *expected)
{
    assert_int_equal(bytes.size, strlen(expected));
    assert_memory_equal(bytes.data, expected, bytes.size);
}

static void put_get_delete_say_what_became_of_them(void **state)
{
    (void)state;
    node_open(&a, NULL, ANSWERS);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});

    struct replikv_result *result = replikv_put(
        client, bytes_from("k"), bytes_from("v"), bytes_from("seen"));
    assert_int_equal(result->status, REPLIKV_OK);
    assert_int_equal(result->outcome, REPLIKV_APPLIED);
    assert_int_equal(result->need, 2);
    assert_int_equal(result->got, 3);
    assert_int_equal(result->epoch, 7);
    assert_int_equal(result->attempts, 1);
    assert_memory_equal(result->request_id, a.requests[0].write_id, 16);
    assert_bytes(result->context, "context");
    replikv_result_free(result);

    result = replikv_get(client, bytes_from("sibling"));
    assert_int_equal(result->status, REPLIKV_OK);
    assert_int_equal(result->outcome, REPLIKV_NONE);
    assert_int_equal(result->value_count, 2);
    assert_bytes(result->values[0], "sibling");
    assert_bytes(result->values[1], "other");
    assert_bytes(result->context, "context");
    replikv_result_free(result);

    result = replikv_get(client, bytes_from("gone"));
    assert_int_equal(result->status, REPLIKV_NOT_FOUND);
    assert_int_equal(result->value_count, 0);
    replikv_result_free(result);

    result = replikv_delete(client, bytes_from("k"), bytes_from(""));
    assert_int_equal(result->outcome, REPLIKV_APPLIED);
    /* A result outlives its client. */
    replikv_close(client);
    assert_bytes(result->context, "context");
    replikv_result_free(result);
    node_close(&a);
}

static void a_request_carries_all_that_it_says(void **state)
{
    (void)state;
    static const uint8_t id[16] = "the same again!";
    struct arena arena;
    node_open(&a, NULL, ANSWERS);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    replikv_result_free(replikv_call(
        client, &(struct replikv_request){.kind = REPLIKV_PUT,
                                          .bucket = "fruit",
                                          .key = bytes_from("k"),
                                          .value = bytes_from("v"),
                                          .context = bytes_from("c"),
                                          .level = REPLIKV_LEVEL_ALL,
                                          .timeout_ms = 1000,
                                          .request_id = id}));
    replikv_close(client);

    arena_init(&arena, envelope_budget(a.requests[0].size));
    const Rkv__Envelope *sent = envelope_unpack(
        bytes_of(a.requests[0].payload, a.requests[0].size), &arena, NULL);
    assert_non_null(sent);
    assert_int_equal(sent->version, 1);
    assert_int_equal(sent->body_case, RKV__ENVELOPE__BODY_WRITE);
    const Rkv__Write *write = sent->write;
    assert_string_equal(write->bucket, "fruit");
    assert_memory_equal(write->key.data, "k", 1);
    assert_memory_equal(write->value.data, "v", 1);
    assert_memory_equal(write->context.data, "c", 1);
    assert_memory_equal(write->request_id.data, id, 16);
    assert_false(write->remove);
    assert_false(write->coordinate);
    assert_int_equal(write->w, -2);
    /* Less than ours, so that the node's word at its deadline arrives. */
    assert_int_equal(write->timeout_ms, 900);
    arena_fini(&arena);
    node_close(&a);
}

static void lists_and_admin_answers_come_whole(void **state)
{
    (void)state;
    node_open(&a, NULL, ANSWERS);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    struct replikv_result *result =
        replikv_call(client, &(struct replikv_request){.kind = REPLIKV_LIST});
    assert_int_equal(result->item_count, 2);
    assert_string_equal(result->items[1].bucket, "b");
    assert_bytes(result->items[1].key, "k");
    assert_int_equal(result->items[1].value_count, 1);
    assert_bytes(result->items[1].values[0], "v");
    assert_bytes(result->next, "more");
    assert_false(result->done);
    assert_int_equal(result->partitions, 256);
    assert_null(result->node);
    replikv_result_free(result);

    result = replikv_call(
        client, &(struct replikv_request){.kind = REPLIKV_ADMIN,
                                          .what = REPLIKV_WHAT_EXPLAIN,
                                          .key = bytes_from("k")});
    assert_non_null(result->node);
    assert_string_equal(result->node->node, "n1");
    assert_int_equal(result->node->digest, 99);
    assert_int_equal(result->node->member_count, 1);
    assert_string_equal(result->node->members[0].name, "n2");
    assert_int_equal(result->node->members[0].state, REPLIKV_SUSPECT);
    assert_int_equal(result->node->owner_count, 1);
    assert_string_equal(result->node->owners[0].nodes[1], "n2");
    assert_int_equal(result->node->state_count, 1);
    assert_int_equal(result->node->states[0].dots[0].counter, 9);
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
}

static void a_leave_is_shown_then_begun(void **state)
{
    (void)state;
    node_open(&a, NULL, ANSWERS);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    struct replikv_request request = {.kind = REPLIKV_ADMIN,
                                      .what = REPLIKV_WHAT_LEAVE,
                                      .node = "n4",
                                      .lost = true};
    struct replikv_result *result = replikv_call(client, &request);
    assert_int_equal(result->status, REPLIKV_OK);
    const struct replikv_move *move = result->node->move;
    assert_string_equal(move->node, "n4");
    assert_true(move->lost);
    assert_string_equal(move->stage, "planned");
    assert_int_equal(move->share_count, 1);
    assert_string_equal(move->shares[0].node, "n2");
    assert_int_equal(move->shares[0].partitions, 8);
    assert_int_equal(move->wait_count, 1);
    assert_string_equal(move->waits_for[0], "n2: partitions to fill: 8");
    replikv_result_free(result);

    request.commit = true;
    result = replikv_call(client, &request);
    assert_int_equal(result->status, REPLIKV_OK);
    assert_int_equal(result->attempts, 1);
    assert_int_equal(result->node->epoch, 2);
    assert_null(result->node->move);
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
}

/* One read and whether its own answer came. */
struct asked {
    struct tally *tally;
    unsigned expected;
    bool right;
};

static void compare(void *user, struct replikv_result *result)
{
    struct asked *asked = user;
    char expected[16];
    int size = snprintf(expected, sizeof(expected), "%u", asked->expected);
    asked->right = result->value_count == 1 &&
                   result->values[0].size == (size_t)size &&
                   memcmp(result->values[0].data, expected, (size_t)size) == 0;
    tally_add(asked->tally, result);
}

static void ask_many(struct replikv *client, struct asked *asked, size_t count,
                     struct tally *tally)
{
    for (size_t i = 0; i < count; i++) {
        char key[24];
        snprintf(key, sizeof(key), "%zu", i);
        asked[i] = (struct asked){.tally = tally, .expected = (unsigned)i};
        assert_int_equal(
            replikv_start(client,
                          &(struct replikv_request){.kind = REPLIKV_GET,
                                                    .key = bytes_from(key)},
                          compare, &asked[i], NULL),
            REPLIKV_OK);
    }
}

static void thousands_in_flight_find_their_answers_in_any_order(void **state)
{
    (void)state;
    enum { COUNT = 4000 };
    struct tally tally;
    struct asked *asked = calloc(COUNT, sizeof(*asked));
    assert_non_null(asked);
    tally_init(&tally);
    node_open(&a, NULL, KEEPS_SILENT);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    ask_many(client, asked, COUNT, &tally);
    node_wait(&a, COUNT);
    assert_int_equal(tally.done, 0);
    node_answer_held(&a);
    tally_wait(&tally, COUNT);
    assert_int_equal(tally.by_status[REPLIKV_OK], COUNT);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(asked[i].right);
    replikv_close(client);
    node_close(&a);
    tally_fini(&tally);
    free(asked);
}

static void what_is_in_flight_is_bounded(void **state)
{
    (void)state;
    struct tally tally;
    struct replikv_error error;
    const struct replikv_request put = {.kind = REPLIKV_PUT,
                                        .key = bytes_from("k")};
    tally_init(&tally);
    node_open(&a, NULL, KEEPS_SILENT);
    struct replikv *client =
        client_of(&a, NULL, (struct replikv_options){.inflight_max = 8});
    for (int i = 0; i < 8; i++)
        assert_int_equal(replikv_start(client, &put, tally_add, &tally, NULL),
                         REPLIKV_OK);
    assert_int_equal(replikv_start(client, &put, tally_add, &tally, &error),
                     REPLIKV_OVERLOADED);
    assert_non_null(strstr(error.text, "inflight_max"));
    struct replikv_result *result = replikv_call(client, &put);
    assert_int_equal(result->status, REPLIKV_OVERLOADED);
    assert_int_equal(result->outcome, REPLIKV_NOT_APPLIED);
    replikv_result_free(result);

    node_wait(&a, 8);
    node_answer_held(&a);
    tally_wait(&tally, 8);
    assert_int_equal(replikv_start(client, &put, tally_add, &tally, NULL),
                     REPLIKV_OK);
    replikv_close(client);
    node_close(&a);
    tally_fini(&tally);
}

static void bytes_in_flight_are_bounded(void **state)
{
    (void)state;
    struct tally tally;
    struct replikv_error error;
    static const char value[600];
    const struct replikv_request put = {
        .kind = REPLIKV_PUT,
        .key = bytes_from("k"),
        .value = replikv_bytes_of(value, sizeof(value))};
    tally_init(&tally);
    node_open(&a, NULL, KEEPS_SILENT);
    struct replikv *client =
        client_of(&a, NULL,
                  (struct replikv_options){.inflight_bytes_max = 1000,
                                           .message_bytes_max = 2000});
    assert_int_equal(replikv_start(client, &put, tally_add, &tally, NULL),
                     REPLIKV_OK);
    assert_int_equal(replikv_start(client, &put, tally_add, &tally, &error),
                     REPLIKV_OVERLOADED);
    assert_non_null(strstr(error.text, "inflight_bytes_max"));
    /* What was answered counts no more. */
    const struct replikv_request small = {.kind = REPLIKV_PUT,
                                          .key = bytes_from("k")};
    node_wait(&a, 1);
    node_answer_held(&a);
    tally_wait(&tally, 1);
    assert_int_equal(replikv_start(client, &put, tally_add, &tally, NULL),
                     REPLIKV_OK);
    assert_int_equal(replikv_start(client, &small, tally_add, &tally, NULL),
                     REPLIKV_OK);
    static const char large[3000];
    struct replikv_result *result =
        replikv_put(client, bytes_from("k"),
                    replikv_bytes_of(large, sizeof(large)), bytes_from(""));
    assert_int_equal(result->status, REPLIKV_TOO_LARGE);
    assert_int_equal(result->outcome, REPLIKV_NOT_APPLIED);
    assert_non_null(strstr(result->message, "message_bytes_max"));
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
    tally_fini(&tally);
}

static void close_ends_what_is_under_way(void **state)
{
    (void)state;
    struct tally tally;
    tally_init(&tally);
    node_open(&a, NULL, KEEPS_SILENT);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    for (int i = 0; i < 100; i++)
        assert_int_equal(
            replikv_start(client,
                          &(struct replikv_request){.kind = REPLIKV_DELETE,
                                                    .key = bytes_from("k")},
                          tally_add, &tally, NULL),
            REPLIKV_OK);
    node_wait(&a, 100);
    replikv_close(client);
    assert_int_equal(tally.done, 100);
    assert_int_equal(tally.by_status[REPLIKV_CLOSED], 100);
    assert_int_equal(tally.by_outcome[REPLIKV_UNKNOWN], 100);
    node_close(&a);
    tally_fini(&tally);
}

static void an_answer_that_comes_late_still_counts(void **state)
{
    (void)state;
    struct tally tally;
    tally_init(&tally);
    node_open(&a, NULL, KEEPS_SILENT);
    node_open(&b, NULL, KEEPS_SILENT);
    struct replikv *client =
        client_of(&a, &b, (struct replikv_options){.attempt_ms = 30});
    assert_int_equal(
        replikv_start(client,
                      &(struct replikv_request){.kind = REPLIKV_PUT,
                                                .key = bytes_from("k")},
                      tally_add, &tally, NULL),
        REPLIKV_OK);
    node_wait(&b, 1);
    node_answer_held(&a);
    tally_wait(&tally, 1);
    assert_int_equal(tally.by_outcome[REPLIKV_APPLIED], 1);
    assert_memory_equal(a.requests[0].write_id, b.requests[0].write_id, 16);
    replikv_close(client);
    node_close(&a);
    node_close(&b);
    tally_fini(&tally);
}

/* A callback may go on with the next request. */
struct chain {
    struct replikv *client;
    struct tally *tally;
    atomic_int left;
};

static void go_on(void *user, struct replikv_result *result)
{
    struct chain *chain = user;
    if (atomic_fetch_sub(&chain->left, 1) > 0 &&
        replikv_start(chain->client,
                      &(struct replikv_request){.kind = REPLIKV_GET,
                                                .key = bytes_from("k")},
                      go_on, chain, NULL) != REPLIKV_OK)
        abort();
    tally_add(chain->tally, result);
}

static void callbacks_may_start_requests(void **state)
{
    (void)state;
    struct tally tally;
    tally_init(&tally);
    node_open(&a, NULL, ANSWERS);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    struct chain chain = {.client = client, .tally = &tally};
    atomic_init(&chain.left, 500);
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            replikv_start(client,
                          &(struct replikv_request){.kind = REPLIKV_GET,
                                                    .key = bytes_from("k")},
                          go_on, &chain, NULL),
            REPLIKV_OK);
    tally_wait(&tally, 504);
    assert_int_equal(tally.by_status[REPLIKV_OK], 504);
    replikv_close(client);
    node_close(&a);
    tally_fini(&tally);
}

/* A get of what the answer was of. */
static void ask_again(void *user, struct replikv_result *result)
{
    struct chain *chain = user;
    if (atomic_fetch_sub(&chain->left, 1) > 0 &&
        replikv_start(chain->client,
                      &(struct replikv_request){.kind = REPLIKV_GET,
                                                .key = result->values[0]},
                      ask_again, chain, NULL) != REPLIKV_OK)
        abort();
    tally_add(chain->tally, result);
}

static void
callbacks_and_what_they_start_come_in_the_order_of_answers(void **state)
{
    (void)state;
    enum { COUNT = 150 }; /* more than are called back for at once */
    struct tally tally;
    tally_init(&tally);
    node_open(&a, NULL, KEEPS_SILENT);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    struct chain chain = {.client = client, .tally = &tally};
    atomic_init(&chain.left, COUNT);
    for (int i = 0; i < COUNT; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(
            replikv_start(client,
                          &(struct replikv_request){.kind = REPLIKV_GET,
                                                    .key = bytes_from(key)},
                          ask_again, &chain, NULL),
            REPLIKV_OK);
    }
    node_wait(&a, COUNT);
    node_answer_held(&a); /* the last one first */
    node_wait(&a, 2 * COUNT);
    for (int i = 0; i < COUNT; i++) {
        const struct node_request *first = &a.requests[COUNT - 1 - i];
        const struct node_request *again = &a.requests[COUNT + i];
        assert_int_equal(first->size, again->size);
        assert_memory_equal(first->payload, again->payload, first->size);
    }
    replikv_close(client);
    assert_int_equal(tally.by_status[REPLIKV_OK], COUNT);
    assert_int_equal(tally.by_status[REPLIKV_CLOSED], COUNT);
    node_close(&a);
    tally_fini(&tally);
}

enum { THREADS = 4, CALLS = 400 };

static void *call_many(void *user)
{
    size_t applied = 0;
    for (int i = 0; i < CALLS; i++) {
        struct replikv_result *result =
            replikv_put(user, bytes_from("k"), bytes_from("v"), bytes_from(""));
        applied += result->outcome == REPLIKV_APPLIED;
        replikv_result_free(result);
    }
    return applied == CALLS ? user : NULL;
}

static void threads_share_a_client_while_nodes_hang_up(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    node_open(&a, NULL, ANSWERS);
    node_open(&b, NULL, ANSWERS);
    a.hang_up_every = 97;
    b.hang_up_every = 101;
    struct replikv *client = client_of(&a, &b, (struct replikv_options){0});
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_many, client),
                         0);
    for (int i = 0; i < THREADS; i++) {
        void *all_applied;
        pthread_join(threads[i], &all_applied);
        assert_non_null(all_applied);
    }
    assert_true(node_seen(&a) > 0);
    assert_true(node_seen(&b) > 0);
    replikv_close(client);
    node_close(&a);
    node_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_get_delete_say_what_became_of_them),
        cmocka_unit_test(a_request_carries_all_that_it_says),
        cmocka_unit_test(lists_and_admin_answers_come_whole),
        cmocka_unit_test(a_leave_is_shown_then_begun),
        cmocka_unit_test(thousands_in_flight_find_their_answers_in_any_order),
        cmocka_unit_test(what_is_in_flight_is_bounded),
        cmocka_unit_test(bytes_in_flight_are_bounded),
        cmocka_unit_test(close_ends_what_is_under_way),
        cmocka_unit_test(an_answer_that_comes_late_still_counts),
        cmocka_unit_test(callbacks_may_start_requests),
        cmocka_unit_test(
            callbacks_and_what_they_start_come_in_the_order_of_answers),
        cmocka_unit_test(threads_share_a_client_while_nodes_hang_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
