/* SPDX-License-Identifier: MIT */
#include "tests/proto/client_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/proto/transport_fixture.h"

static struct test_node a, b;

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct replikv_result *put(struct replikv *client)
{
    return replikv_put(client, bytes_from("k"), bytes_from("v"),
                       bytes_from(""));
}

/* A write to a with this manner ends on b, as the same write, without waiting
 * for more than it has to. */
static void write_moves_on(enum manner manner)
{
    node_open(&a, NULL, manner);
    node_open(&b, NULL, ANSWERS);
    struct replikv *client =
        client_of(&a, &b,
                  (struct replikv_options){
                      .attempt_ms = manner == KEEPS_SILENT ? 100 : 60000});
    struct replikv_result *result = put(client);
    assert_int_equal(result->status, REPLIKV_OK);
    assert_int_equal(result->outcome, REPLIKV_APPLIED);
    /* More where b was not as quick as 100 ms either. */
    assert_true(result->attempts == 2 ||
                (manner == KEEPS_SILENT && result->attempts > 2));
    assert_memory_equal(a.requests[0].write_id, result->request_id, 16);
    assert_memory_equal(b.requests[0].write_id, result->request_id, 16);
    replikv_result_free(result);
    result = replikv_get(client, bytes_from("k"));
    assert_int_equal(result->status, REPLIKV_OK);
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
    node_close(&b);
}

static void lost_write_is_the_same_write_elsewhere(void **state)
{
    (void)state;
    write_moves_on(HANGS_UP);
}

static void unanswered_write_is_the_same_write_elsewhere(void **state)
{
    (void)state;
    write_moves_on(KEEPS_SILENT);
}

static void malformed_answers_are_no_answers(void **state)
{
    (void)state;
    write_moves_on(SENDS_GARBAGE);
    write_moves_on(ANSWERS_BESIDE);
    write_moves_on(FORGETS_OUTCOME);
}

static void what_one_node_cannot_another_can(void **state)
{
    (void)state;
    write_moves_on(IS_UNAVAILABLE);
    write_moves_on(IS_UNSURE);
}

static void reads_move_on_too(void **state)
{
    (void)state;
    static const enum manner manners[] = {HANGS_UP, KEEPS_SILENT, SENDS_GARBAGE,
                                          IS_UNAVAILABLE};
    for (size_t i = 0; i < sizeof(manners) / sizeof(*manners); i++) {
        node_open(&a, NULL, manners[i]);
        node_open(&b, NULL, ANSWERS);
        struct replikv *client =
            client_of(&a, &b, (struct replikv_options){.attempt_ms = 100});
        struct replikv_result *result = replikv_get(client, bytes_from("k"));
        assert_int_equal(result->status, REPLIKV_OK);
        assert_int_equal(result->outcome, REPLIKV_NONE);
        assert_int_equal(result->value_count, 1);
        assert_true(node_seen(&a) >= 1);
        assert_true(node_seen(&b) >= 1);
        replikv_result_free(result);
        replikv_close(client);
        node_close(&a);
        node_close(&b);
    }
}

static void slow_request_stays_where_others_are_answered(void **state)
{
    (void)state;
    enum { ATTEMPT_MS = 1500 };
    struct tally tally;
    tally_init(&tally);
    node_open(&a, NULL, ANSWERS);
    node_open(&b, NULL, ANSWERS);
    node_behave(&a, KEEPS_SILENT, 1);
    struct replikv *client =
        client_of(&a, &b, (struct replikv_options){.attempt_ms = ATTEMPT_MS});
    assert_int_equal(
        replikv_start(client,
                      &(struct replikv_request){.kind = REPLIKV_PUT,
                                                .key = bytes_from("k")},
                      tally_add, &tally, NULL),
        REPLIKV_OK);
    node_wait(&a, 1);
    for (int64_t end = now_ms() + ATTEMPT_MS + 200; now_ms() < end;)
        replikv_result_free(replikv_get(client, bytes_from("k")));
    assert_int_equal(node_seen(&b), 0);
    /* Left alone, a is quiet, and the write moves on. */
    tally_wait(&tally, 1);
    assert_int_equal(tally.by_outcome[REPLIKV_APPLIED], 1);
    assert_int_equal(node_seen(&b), 1);
    replikv_close(client);
    node_close(&a);
    node_close(&b);
    tally_fini(&tally);
}

static void overloaded_is_waited_out(void **state)
{
    (void)state;
    node_open(&a, NULL, ANSWERS);
    node_behave(&a, IS_OVERLOADED, 2);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    int64_t start_ms = now_ms();
    struct replikv_result *result = put(client);
    assert_true(now_ms() - start_ms >= 2 * NODE_RETRY_AFTER_MS);
    assert_int_equal(result->outcome, REPLIKV_APPLIED);
    assert_int_equal(result->attempts, 3);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(a.requests[i].write_id, result->request_id, 16);
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
}

static void overloaded_to_the_end_is_not_applied(void **state)
{
    (void)state;
    /* Two attempts, both answered long before the deadline also on a machine
     * that stands still for a moment. */
    node_open(&a, NULL, IS_OVERLOADED);
    struct replikv *client =
        client_of(&a, NULL, (struct replikv_options){.timeout_ms = 700});
    struct replikv_result *result = put(client);
    assert_int_equal(result->status, REPLIKV_OVERLOADED);
    assert_int_equal(result->outcome, REPLIKV_NOT_APPLIED);
    assert_int_equal(result->retry_after_ms, NODE_RETRY_AFTER_MS);
    assert_non_null(strstr(result->message, "because of the test"));
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
}

static void deadline_leaves_a_sent_write_unknown(void **state)
{
    (void)state;
    node_open(&a, NULL, KEEPS_SILENT);
    struct replikv *client =
        client_of(&a, NULL, (struct replikv_options){.timeout_ms = 100});
    struct replikv_result *result = put(client);
    assert_int_equal(result->status, REPLIKV_TIMEOUT);
    assert_int_equal(result->outcome, REPLIKV_UNKNOWN);
    assert_non_null(strstr(result->message, a.address));
    replikv_result_free(result);
    result = replikv_get(client, bytes_from("k"));
    assert_int_equal(result->status, REPLIKV_TIMEOUT);
    assert_int_equal(result->outcome, REPLIKV_NONE);
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
}

static void every_node_unsure_is_unknown_with_its_counts(void **state)
{
    (void)state;
    node_open(&a, NULL, IS_UNSURE);
    node_open(&b, NULL, IS_UNSURE);
    struct replikv *client = client_of(&a, &b, (struct replikv_options){0});
    struct replikv_result *result = put(client);
    assert_int_equal(result->status, REPLIKV_UNAVAILABLE);
    assert_int_equal(result->outcome, REPLIKV_UNKNOWN);
    assert_int_equal(result->need, 2);
    assert_int_equal(result->got, 1);
    assert_int_equal(result->attempts, 2);
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
    node_close(&b);
}

static void refusal_after_a_lost_attempt_is_unknown(void **state)
{
    (void)state;
    node_open(&a, NULL, HANGS_UP);
    node_open(&b, NULL, REFUSES);
    struct replikv *client = client_of(&a, &b, (struct replikv_options){0});
    struct replikv_result *result = put(client);
    assert_int_equal(result->status, REPLIKV_INVALID);
    assert_int_equal(result->outcome, REPLIKV_UNKNOWN);
    replikv_result_free(result);
    /* From now on b is asked first. */
    result = put(client);
    assert_int_equal(result->status, REPLIKV_INVALID);
    assert_int_equal(result->outcome, REPLIKV_NOT_APPLIED);
    assert_int_equal(result->attempts, 1);
    replikv_result_free(result);
    replikv_close(client);
    node_close(&a);
    node_close(&b);
}

static void dead_endpoint_is_passed_over(void **state)
{
    (void)state;
    node_open(&a, NULL, ANSWERS);
    node_open(&b, NULL, ANSWERS);
    node_close(&a);
    struct replikv *client = client_of(&a, &b, (struct replikv_options){0});
    struct replikv_result *result = put(client);
    assert_int_equal(result->outcome, REPLIKV_APPLIED);
    assert_int_equal(result->attempts, 1);
    replikv_result_free(result);
    replikv_close(client);
    node_close(&b);
}

static void without_a_node_nothing_is_applied(void **state)
{
    (void)state;
    node_open(&a, NULL, ANSWERS);
    node_close(&a);
    struct replikv *client =
        client_of(&a, NULL, (struct replikv_options){.timeout_ms = 300});
    int64_t start_ms = now_ms();
    struct replikv_result *result = put(client);
    assert_int_equal(result->status, REPLIKV_UNAVAILABLE);
    assert_int_equal(result->outcome, REPLIKV_NOT_APPLIED);
    assert_int_equal(result->attempts, 0);
    assert_non_null(strstr(result->message, a.address));
    assert_true(now_ms() - start_ms < 5000);
    replikv_result_free(result);
    replikv_close(client);
}

static void fail_fast_does_not_wait_for_the_deadline(void **state)
{
    (void)state;
    node_open(&a, NULL, ANSWERS);
    node_close(&a);
    struct replikv *client = client_of(
        &a, NULL,
        (struct replikv_options){.timeout_ms = 600000, .fail_fast = true});
    struct replikv_result *result = put(client);
    assert_int_equal(result->status, REPLIKV_UNAVAILABLE);
    assert_int_equal(result->outcome, REPLIKV_NOT_APPLIED);
    replikv_result_free(result);
    replikv_close(client);
}

static void restarted_node_is_dialled_again(void **state)
{
    (void)state;
    char directory[100], address[120];
    ipc_address(directory, sizeof(directory), address, sizeof(address));
    node_open(&a, address, ANSWERS);
    struct replikv *client = client_of(&a, NULL, (struct replikv_options){0});
    for (int i = 0; i < 3; i++) {
        struct replikv_result *result = put(client);
        assert_int_equal(result->outcome, REPLIKV_APPLIED);
        replikv_result_free(result);
        node_close(&a);
        node_open(&a, address, ANSWERS);
    }
    replikv_close(client);
    node_close(&a);
    unlink(address + strlen("ipc://"));
    rmdir(directory);
}

static void options_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"127.0.0.1:3001"};
    static const char *const right[] = {"tcp://127.0.0.1:3001"};
    struct replikv *client = NULL;
    struct replikv_error error;
    assert_int_equal(
        replikv_open(&(struct replikv_options){0}, &client, &error),
        REPLIKV_INVALID);
    assert_non_null(strstr(error.text, "endpoints"));
    assert_int_equal(
        replikv_open(
            &(struct replikv_options){.endpoints = wrong, .endpoint_count = 1},
            &client, &error),
        REPLIKV_INVALID);
    assert_non_null(strstr(error.text, "tcp://HOST:PORT"));
    assert_int_equal(
        replikv_open(&(struct replikv_options){.endpoints = right,
                                               .endpoint_count = 1,
                                               .inflight_max = UINT32_MAX},
                     &client, &error),
        REPLIKV_INVALID);
    assert_non_null(strstr(error.text, "inflight_max"));
    assert_null(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lost_write_is_the_same_write_elsewhere),
        cmocka_unit_test(unanswered_write_is_the_same_write_elsewhere),
        cmocka_unit_test(malformed_answers_are_no_answers),
        cmocka_unit_test(what_one_node_cannot_another_can),
        cmocka_unit_test(reads_move_on_too),
        cmocka_unit_test(slow_request_stays_where_others_are_answered),
        cmocka_unit_test(overloaded_is_waited_out),
        cmocka_unit_test(overloaded_to_the_end_is_not_applied),
        cmocka_unit_test(deadline_leaves_a_sent_write_unknown),
        cmocka_unit_test(every_node_unsure_is_unknown_with_its_counts),
        cmocka_unit_test(refusal_after_a_lost_attempt_is_unknown),
        cmocka_unit_test(dead_endpoint_is_passed_over),
        cmocka_unit_test(without_a_node_nothing_is_applied),
        cmocka_unit_test(fail_fast_does_not_wait_for_the_deadline),
        cmocka_unit_test(restarted_node_is_dialled_again),
        cmocka_unit_test(options_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
