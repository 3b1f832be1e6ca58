/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxy/core/put.h"

/* A put and all that it was seen to do, a line for each call that did
 * something. Nodes are named by small numbers. */
struct traced {
    struct put put;
    char text[1024];
    size_t size;
};

static struct node_id id(int number)
{
    return (struct node_id){.bytes = {[15] = (uint8_t)number}};
}

static void say(struct traced *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(struct traced *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(t->text + t->size, sizeof t->text - t->size, format,
                         arguments);
    va_end(arguments);
    assert_true(size >= 0 && t->size + (size_t)size < sizeof t->text);
    t->size += (size_t)size;
}

static void trace(struct traced *t, int now_ms, const char *cause,
                  const struct put_actions *actions)
{
    for (size_t i = 0; i < actions->count; i++) {
        const struct put_action *action = &actions->list[i];
        if (i == 0)
            say(t, "[%3d] %s", now_ms, cause);
        say(t, i == 0 ? "" : ", ");
        switch (action->kind) {
        case PUT_SEND:
            say(t, "send %d", action->node.bytes[15]);
            if (!node_id_is_zero(action->target))
                say(t, " for %d", action->target.bytes[15]);
            break;
        case PUT_REPLY:
            say(t, "reply %s", action->applied ? "applied" : "unknown");
            break;
        case PUT_HINT:
            say(t, "hint %d", action->target.bytes[15]);
            break;
        }
    }
    if (actions->count > 0)
        say(t, "\n");
}

/* Those of 1 to n that are known to be gone. */
static bool gone[REPLICAS_MAX];

/* Primaries are 1 to n, fallbacks follow them; node `self` coordinates. */
static void put_of(struct traced *t, int n, int fallbacks, size_t w, int self)
{
    struct node_id ids[2 * REPLICAS_MAX];
    for (int i = 0; i < n + fallbacks; i++)
        ids[i] = id(i + 1);
    struct put_config config = {
        .primaries = ids,
        .primary_count = (size_t)n,
        .fallbacks = ids + n,
        .fallback_count = (size_t)fallbacks,
        .w = w,
        .deadline_ms = 500,
        .fallback_ms = 100,
        .grace_ms = 200,
        .self = id(self),
        .gone = gone,
    };
    struct put_actions actions;
    *t = (struct traced){.size = 0};
    put_start(&t->put, &config, 0, &actions);
    trace(t, 0, "", &actions);
}

static void hear(struct traced *t, int now_ms, int node, enum status status)
{
    struct put_actions actions;
    put_hear(&t->put, id(node), status, now_ms, &actions);
    char cause[32];
    snprintf(cause, sizeof cause, "%s %d -> ",
             status == STATUS_OK ? "ack" : "fail", node);
    trace(t, now_ms, cause, &actions);
}

static void tick(struct traced *t, int now_ms)
{
    struct put_actions actions;
    put_tick(&t->put, now_ms, &actions);
    trace(t, now_ms, "tick -> ", &actions);
}

static void put_answers_after_w_acks(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 0, 2, 1);
    hear(&t, 10, 1, STATUS_OK);
    hear(&t, 12, 2, STATUS_OK);
    tick(&t, 211);
    tick(&t, 212);
    hear(&t, 213, 3, STATUS_OK);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 3\n"
                                "[ 12] ack 2 -> reply applied\n"
                                "[212] tick -> hint 3\n");
    assert_int_equal(t.put.state, PUT_DONE);
}

static void our_own_disk_is_waited_for_to_the_deadline(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 0, 1, 1);
    hear(&t, 10, 2, STATUS_OK);
    tick(&t, 499);
    tick(&t, 500);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 3\n"
                                "[ 10] ack 2 -> reply applied\n"
                                "[500] tick -> hint 1, hint 3\n");
}

static void who_is_gone_is_not_sent_to_and_never_counts(void **state)
{
    (void)state;
    struct traced t;
    gone[2] = true;
    put_of(&t, 3, 0, 2, 1);
    hear(&t, 1, 3, STATUS_OK);
    hear(&t, 2, 1, STATUS_OK);
    hear(&t, 3, 2, STATUS_OK);
    assert_string_equal(t.text, "[  0] send 1, send 2\n"
                                "[  3] ack 2 -> reply applied, hint 3\n");
    put_of(&t, 3, 1, 2, 1);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 4 for 3\n");
    gone[1] = true;
    put_of(&t, 3, 0, 2, 1);
    hear(&t, 1, 1, STATUS_OK);
    gone[1] = gone[2] = false;
    assert_string_equal(t.text, "[  0] send 1, reply unknown\n"
                                "[  1] ack 1 -> hint 2, hint 3\n");
}

static void put_is_done_when_all_have_answered(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 0, 2, 1);
    hear(&t, 1, 3, STATUS_OK);
    hear(&t, 2, 2, STATUS_IO);
    hear(&t, 3, 1, STATUS_OK);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 3\n"
                                "[  3] ack 1 -> reply applied, hint 2\n");
    assert_int_equal(t.put.state, PUT_DONE);
}

static void put_is_unknown_once_w_is_out_of_reach(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 0, 2, 1);
    hear(&t, 1, 1, STATUS_OK);
    hear(&t, 2, 2, STATUS_CLOSED);
    hear(&t, 3, 3, STATUS_NO_SPACE);
    assert_string_equal(t.text,
                        "[  0] send 1, send 2, send 3\n"
                        "[  3] fail 3 -> reply unknown, hint 2, hint 3\n");
}

static void put_is_unknown_at_its_deadline(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 0, 3, 1);
    hear(&t, 1, 1, STATUS_OK);
    hear(&t, 1, 2, STATUS_OK);
    tick(&t, 500);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 3\n"
                                "[500] tick -> reply unknown, hint 3\n");
}

static void repeated_and_foreign_answers_do_not_count(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 0, 2, 1);
    hear(&t, 1, 1, STATUS_OK);
    hear(&t, 2, 1, STATUS_OK);
    hear(&t, 3, 9, STATUS_OK);
    hear(&t, 4, 1, STATUS_IO);
    assert_int_equal(put_held(&t.put), 1);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 3\n");
}

static void strict_put_never_counts_a_fallback(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 0, 2, 1);
    hear(&t, 1, 1, STATUS_OK);
    hear(&t, 2, 2, STATUS_CLOSED);
    tick(&t, 100);
    hear(&t, 101, 4, STATUS_OK);
    assert_int_equal(t.put.state, PUT_WAITING);
}

static void sloppy_put_asks_the_next_fallback_for_a_failed_primary(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 2, 3, 1);
    hear(&t, 1, 1, STATUS_OK);
    hear(&t, 2, 3, STATUS_CLOSED);
    hear(&t, 3, 4, STATUS_OVERLOADED);
    hear(&t, 4, 5, STATUS_OK);
    hear(&t, 5, 2, STATUS_OK);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 3\n"
                                "[  2] fail 3 -> send 4 for 3\n"
                                "[  3] fail 4 -> send 5 for 3\n"
                                "[  5] ack 2 -> reply applied\n");
    assert_int_equal(t.put.state, PUT_DONE);
}

static void sloppy_put_asks_a_fallback_for_a_slow_primary(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 1, 2, 1);
    hear(&t, 1, 1, STATUS_OK);
    tick(&t, 99);
    tick(&t, 100);
    tick(&t, 101);
    hear(&t, 120, 4, STATUS_OK);
    tick(&t, 320);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 3\n"
                                "[100] tick -> send 4 for 2\n"
                                "[120] ack 4 -> reply applied\n"
                                "[320] tick -> hint 3\n");
}

static void a_primary_and_its_stand_in_are_one_answer(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 1, 3, 1);
    hear(&t, 1, 1, STATUS_OK);
    tick(&t, 100);
    hear(&t, 110, 4, STATUS_OK);
    hear(&t, 111, 2, STATUS_OK);
    assert_int_equal(put_held(&t.put), 2);
    assert_int_equal(t.put.state, PUT_WAITING);
}

static void a_fallback_that_coordinates_stands_in_for_the_first(void **state)
{
    (void)state;
    struct traced t;
    put_of(&t, 3, 2, 1, 4);
    hear(&t, 1, 4, STATUS_OK);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 3, send 4 for 1\n"
                                "[  1] ack 4 -> reply applied\n");
}

/* n1 to n3, of which n3 leaves, and n4 takes its place. */
static void put_that_moves(struct traced *t, size_t w)
{
    struct node_id ids[] = {id(1), id(2), id(3), id(4)};
    struct put_config config = {
        .primaries = ids,
        .primary_count = 4,
        .leaving = id(3),
        .coming = id(4),
        .w = w,
        .deadline_ms = 500,
        .fallback_ms = 100,
        .grace_ms = 200,
        .self = id(1),
    };
    struct put_actions actions;
    *t = (struct traced){.size = 0};
    put_start(&t->put, &config, 0, &actions);
    trace(t, 0, "", &actions);
}

static void one_that_leaves_and_its_heir_are_one_replica(void **state)
{
    (void)state;
    struct traced t;
    put_that_moves(&t, 2);
    hear(&t, 1, 3, STATUS_OK);
    hear(&t, 2, 1, STATUS_OK);
    assert_int_equal(put_held(&t.put), 1);
    hear(&t, 3, 4, STATUS_OK);
    assert_int_equal(put_held(&t.put), 2);
    hear(&t, 4, 2, STATUS_CLOSED);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 3, send 4\n"
                                "[  3] ack 4 -> reply applied\n"
                                "[  4] fail 2 -> hint 2\n");
    put_that_moves(&t, 2);
    hear(&t, 1, 1, STATUS_OK);
    hear(&t, 2, 2, STATUS_OK);
    hear(&t, 3, 3, STATUS_CLOSED);
    hear(&t, 4, 4, STATUS_OK);
    assert_int_equal(put_held(&t.put), 2);
    assert_string_equal(t.text, "[  0] send 1, send 2, send 3, send 4\n"
                                "[  2] ack 2 -> reply applied\n"
                                "[  4] ack 4 -> hint 3\n");
}

/* All of three are out of reach once one of the two is. */
static void one_of_the_two_is_none(void **state)
{
    (void)state;
    for (int other = 3; other <= 4; other++) {
        struct traced t;
        put_that_moves(&t, 3);
        hear(&t, 1, 7 - other, STATUS_OK);
        assert_int_equal(t.put.state, PUT_WAITING);
        hear(&t, 2, other, STATUS_CLOSED);
        assert_int_equal(t.put.state, PUT_ANSWERED);
        assert_non_null(strstr(t.text, "reply unknown"));
    }
}

static void n_is_not_three(void **state)
{
    (void)state;
    for (int n = 1; n <= REPLICAS_MAX; n++) {
        struct traced t;
        put_of(&t, n, 0, (size_t)n, 1);
        for (int node = 1; node <= n; node++) {
            assert_int_equal(t.put.state, PUT_WAITING);
            hear(&t, node, node, STATUS_OK);
        }
        assert_int_equal(t.put.state, PUT_DONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_answers_after_w_acks),
        cmocka_unit_test(our_own_disk_is_waited_for_to_the_deadline),
        cmocka_unit_test(who_is_gone_is_not_sent_to_and_never_counts),
        cmocka_unit_test(put_is_done_when_all_have_answered),
        cmocka_unit_test(put_is_unknown_once_w_is_out_of_reach),
        cmocka_unit_test(put_is_unknown_at_its_deadline),
        cmocka_unit_test(repeated_and_foreign_answers_do_not_count),
        cmocka_unit_test(strict_put_never_counts_a_fallback),
        cmocka_unit_test(
            sloppy_put_asks_the_next_fallback_for_a_failed_primary),
        cmocka_unit_test(sloppy_put_asks_a_fallback_for_a_slow_primary),
        cmocka_unit_test(a_primary_and_its_stand_in_are_one_answer),
        cmocka_unit_test(a_fallback_that_coordinates_stands_in_for_the_first),
        cmocka_unit_test(one_that_leaves_and_its_heir_are_one_replica),
        cmocka_unit_test(one_of_the_two_is_none),
        cmocka_unit_test(n_is_not_three),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
