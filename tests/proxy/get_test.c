/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxy/core/get.h"

/* A get and all that it was seen to do. Nodes are named by small numbers, and
 * records by how many writes one coordinator made to the key: version 2 is
 * newer than version 1. */
struct traced {
    struct get get;
    struct arena arena;
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
                  const struct get_actions *actions)
{
    for (size_t i = 0; i < actions->count; i++) {
        const struct get_action *action = &actions->list[i];
        if (i == 0)
            say(t, "[%3d] %s", now_ms, cause);
        say(t, i == 0 ? "" : ", ");
        switch (action->kind) {
        case GET_ASK:
            say(t, "ask %d", action->node.bytes[15]);
            break;
        case GET_WRITE_BACK:
            say(t, "write %d", action->node.bytes[15]);
            break;
        case GET_REPLY:
            say(t, "reply %s", status_name(action->status));
            break;
        }
    }
    if (actions->count > 0)
        say(t, "\n");
}

static struct node_id silent_id; /* mostly nobody */

static void start(struct traced *t, int n, size_t r, bool monotonic,
                  struct context seen)
{
    struct node_id ids[REPLICAS_MAX];
    for (int i = 0; i < n; i++)
        ids[i] = id(i + 1);
    struct get_config config = {
        .replicas = ids,
        .replica_count = (size_t)n,
        .r = r,
        .monotonic = monotonic,
        .silent = silent_id,
        .seen = seen,
        .deadline_ms = 500,
        .hedge_ms = 50,
        .wall_ms = 1000,
        .dedup_window_ms = 60000,
    };
    struct get_actions actions;
    *t = (struct traced){.size = 0};
    arena_init(&t->arena, 1 << 20);
    assert_int_equal(get_start(&t->get, &config, 0, &actions), STATUS_OK);
    trace(t, 0, "", &actions);
}

static void get_of(struct traced *t, int n, size_t r, bool monotonic)
{
    start(t, n, r, monotonic, (struct context){0});
}

static void end(struct traced *t)
{
    get_fini(&t->get);
    arena_fini(&t->arena);
}

/* The record after `writes` writes, each superseding the one before. */
static void record_of(struct arena *arena, int writes, struct buffer *out)
{
    struct record record = record_empty(RECORD_SIBLINGS);
    struct actor_source source;
    actor_source_init(&source, 77);
    for (int i = 1; i <= writes; i++) {
        struct record next;
        bool duplicate;
        struct record_write write = {
            .seen = record.context,
            .request = {.bytes = {(uint8_t)i}},
            .dot = actor_source_next(&source, &record.context),
            .now_ms = 1000,
            .data = bytes_of_string("value"),
        };
        assert_int_equal(
            record_apply(&record, &write, 60000, arena, &next, &duplicate),
            STATUS_OK);
        record = next;
    }
    assert_int_equal(record_encode(&record, out), STATUS_OK);
}

/* By a client that has seen what so many writes left. */
static void session_of(struct traced *t, int n, size_t r, int version)
{
    struct arena arena;
    struct buffer encoded = {0};
    struct record record;
    arena_init(&arena, 1 << 20);
    record_of(&arena, version, &encoded);
    assert_int_equal(record_decode(buffer_bytes(&encoded), &arena, &record),
                     STATUS_OK);
    start(t, n, r, r * 2 > (size_t)n, record.context);
    buffer_fini(&encoded);
    arena_fini(&arena);
}

/* version 0: the replica has no record. */
static void hear(struct traced *t, int now_ms, int node, int version)
{
    struct get_actions actions;
    struct buffer record = {0};
    char cause[32];
    if (version > 0)
        record_of(&t->arena, version, &record);
    get_hear(&t->get, id(node), version > 0 ? STATUS_OK : STATUS_NOT_FOUND,
             buffer_bytes(&record), &t->arena, &actions);
    snprintf(cause, sizeof cause, "%d has v%d -> ", node, version);
    trace(t, now_ms, cause, &actions);
    buffer_fini(&record);
}

static void broken(struct traced *t, int now_ms, int node, enum status status)
{
    struct get_actions actions;
    char cause[32];
    get_hear(&t->get, id(node), status, (struct bytes){0}, &t->arena, &actions);
    snprintf(cause, sizeof cause, "%d fails -> ", node);
    trace(t, now_ms, cause, &actions);
}

static void written(struct traced *t, int now_ms, int node, enum status status)
{
    struct get_actions actions;
    char cause[32];
    get_hear_written(&t->get, id(node), status, &actions);
    snprintf(cause, sizeof cause, "%d written -> ", node);
    trace(t, now_ms, cause, &actions);
}

static void tick(struct traced *t, int now_ms)
{
    struct get_actions actions;
    get_tick(&t->get, now_ms, &actions);
    trace(t, now_ms, "tick -> ", &actions);
}

static void get_asks_r_and_answers_when_they_agree(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 2, true);
    hear(&t, 1, 1, 1);
    hear(&t, 2, 2, 1);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  2] 2 has v1 -> reply ok\n");
    assert_int_equal(t.get.state, GET_DONE);
    end(&t);
}

static void monotonic_get_writes_back_before_it_answers(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 2, true);
    hear(&t, 1, 1, 2);
    hear(&t, 2, 2, 1);
    written(&t, 3, 2, STATUS_OK);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  2] 2 has v1 -> write 2\n"
                                "[  3] 2 written -> reply ok\n");
    end(&t);
}

static void a_missing_key_is_written_back_too(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 2, true);
    hear(&t, 1, 1, 0);
    hear(&t, 2, 2, 1);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  2] 2 has v1 -> write 1\n");
    end(&t);
}

static void other_gets_answer_first_and_write_back_behind(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 1, false);
    hear(&t, 1, 1, 1);
    assert_string_equal(t.text, "[  0] ask 1\n"
                                "[  1] 1 has v1 -> reply ok\n");
    end(&t);
}

static void a_failed_write_back_goes_to_the_next_replica(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 2, true);
    hear(&t, 1, 1, 2);
    hear(&t, 2, 2, 1);
    written(&t, 3, 2, STATUS_CLOSED);
    hear(&t, 4, 3, 2);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  2] 2 has v1 -> write 2\n"
                                "[  3] 2 written -> ask 3\n"
                                "[  4] 3 has v2 -> reply ok\n");
    assert_int_equal(get_answers(&t.get), 3);
    end(&t);
}

static void one_who_does_not_know_is_no_answer(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 2, true);
    broken(&t, 1, 1, STATUS_UNCERTAIN);
    hear(&t, 2, 2, 0);
    assert_int_equal(get_answers(&t.get), 1);
    hear(&t, 3, 3, 0);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  1] 1 fails -> ask 3\n"
                                "[  3] 3 has v0 -> reply ok\n");
    assert_int_equal(t.get.merged.size, 0);
    end(&t);
}

static void get_fails_when_r_is_out_of_reach(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 2, true);
    broken(&t, 1, 1, STATUS_CLOSED);
    broken(&t, 2, 2, STATUS_CLOSED);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  1] 1 fails -> ask 3\n"
                                "[  2] 2 fails -> reply unavailable\n");
    end(&t);
}

/* --- sessions --- */

static void a_session_that_one_replica_satisfies_ends_there(void **state)
{
    (void)state;
    struct traced t;
    session_of(&t, 3, 1, 2);
    hear(&t, 1, 1, 3);
    assert_string_equal(t.text, "[  0] ask 1\n"
                                "[  1] 1 has v3 -> reply ok\n");
    assert_int_equal(t.get.state, GET_DONE);
    end(&t);
}

static void a_session_asks_all_where_r_are_behind(void **state)
{
    (void)state;
    struct traced t;
    session_of(&t, 3, 1, 2);
    hear(&t, 1, 1, 1);
    hear(&t, 2, 2, 0);
    hear(&t, 3, 3, 2);
    assert_string_equal(t.text, "[  0] ask 1\n"
                                "[  1] 1 has v1 -> ask 2, ask 3\n"
                                "[  3] 3 has v2 -> write 1, write 2, "
                                "reply ok\n");
    end(&t);
}

static void a_session_that_no_replica_satisfies_is_stale(void **state)
{
    (void)state;
    struct traced t;
    session_of(&t, 3, 2, 2);
    hear(&t, 1, 1, 0);
    hear(&t, 2, 2, 1);
    hear(&t, 3, 3, 1);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  2] 2 has v1 -> ask 3\n"
                                "[  3] 3 has v1 -> reply stale, write 1\n");
    end(&t);
}

/* Nor is it known to be missing. */
static void a_session_of_a_key_that_is_nowhere_is_stale(void **state)
{
    (void)state;
    struct traced t;
    session_of(&t, 3, 2, 1);
    hear(&t, 1, 1, 0);
    hear(&t, 2, 2, 0);
    broken(&t, 3, 3, STATUS_CLOSED);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  2] 2 has v0 -> ask 3\n"
                                "[  3] 3 fails -> reply stale\n");
    assert_int_equal(t.get.state, GET_DONE);
    end(&t);
}

/* Collected: one that was lost would be with N-W+1 of them at least. */
static void a_session_of_a_key_that_all_lack_finds_nothing(void **state)
{
    (void)state;
    struct traced t;
    session_of(&t, 3, 2, 1);
    hear(&t, 1, 1, 0);
    hear(&t, 2, 2, 0);
    hear(&t, 3, 3, 0);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  2] 2 has v0 -> ask 3\n"
                                "[  3] 3 has v0 -> reply ok\n");
    assert_int_equal(t.get.merged.size, 0);
    end(&t);
}

static void a_session_is_stale_at_its_deadline(void **state)
{
    (void)state;
    struct traced t;
    session_of(&t, 3, 1, 2);
    hear(&t, 1, 1, 1);
    tick(&t, 50);
    tick(&t, 500);
    hear(&t, 501, 2, 2);
    assert_string_equal(t.text, "[  0] ask 1\n"
                                "[  1] 1 has v1 -> ask 2, ask 3\n"
                                "[500] tick -> reply stale\n");
    end(&t);
}

/* Nobody waits long for a replica that stands still, which is heard all the
 * same. */
static void a_session_is_stale_soon_where_a_replica_is_silent(void **state)
{
    (void)state;
    struct traced t;
    session_of(&t, 3, 1, 2);
    hear(&t, 1, 1, 1);
    tick(&t, 50);
    tick(&t, 249);
    tick(&t, 250);
    hear(&t, 260, 2, 2);
    assert_string_equal(t.text, "[  0] ask 1\n"
                                "[  1] 1 has v1 -> ask 2, ask 3\n"
                                "[250] tick -> reply stale\n"
                                "[260] 2 has v2 -> write 1\n");
    end(&t);
}

/* It is the level that was missed first. */
static void a_session_without_r_answers_is_unavailable(void **state)
{
    (void)state;
    struct traced t;
    session_of(&t, 3, 2, 2);
    hear(&t, 1, 1, 1);
    broken(&t, 2, 2, STATUS_CLOSED);
    broken(&t, 3, 3, STATUS_CLOSED);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  2] 2 fails -> ask 3\n"
                                "[  3] 3 fails -> reply unavailable\n");
    end(&t);
}

static void a_slow_replica_is_hedged(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 2, true);
    hear(&t, 1, 1, 1);
    tick(&t, 49);
    tick(&t, 50);
    hear(&t, 51, 3, 1);
    tick(&t, 500);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[ 50] tick -> ask 3\n"
                                "[ 51] 3 has v1 -> reply ok\n");
    assert_int_equal(t.get.state, GET_DONE);
    end(&t);
}

static void get_times_out_at_its_deadline(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 3, true);
    hear(&t, 1, 1, 1);
    tick(&t, 500);
    assert_string_equal(t.text, "[  0] ask 1, ask 2, ask 3\n"
                                "[500] tick -> reply timeout\n");
    end(&t);
}

static void damaged_records_do_not_count(void **state)
{
    (void)state;
    struct traced t;
    struct get_actions actions;
    get_of(&t, 3, 2, true);
    get_hear(&t.get, id(1), STATUS_OK, bytes_of_string("garbage"), &t.arena,
             &actions);
    assert_int_equal(get_answers(&t.get), 0);
    assert_int_equal(actions.count, 1);
    assert_int_equal(actions.list[0].kind, GET_ASK);
    end(&t);
}

static void
a_damaged_copy_is_written_over_with_what_a_majority_holds(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 2, true);
    broken(&t, 1, 1, STATUS_CORRUPT);
    hear(&t, 2, 2, 1);
    hear(&t, 3, 3, 1);
    written(&t, 4, 1, STATUS_OK);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  1] 1 fails -> ask 3\n"
                                "[  3] 3 has v1 -> write 1, reply ok\n");
    assert_int_equal(t.get.state, GET_DONE);
    assert_int_equal(get_answers(&t.get), 2);
    end(&t);
}

/* The third may hold what the damaged copy held and this one never had. */
static void one_copy_is_not_written_over_a_damaged_one(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 1, false);
    broken(&t, 1, 1, STATUS_CORRUPT);
    hear(&t, 2, 2, 1);
    assert_string_equal(t.text, "[  0] ask 1\n"
                                "[  1] 1 fails -> ask 2\n"
                                "[  2] 2 has v1 -> reply ok\n");
    assert_int_equal(t.get.state, GET_DONE);
    end(&t);
}

/* One of three has it: a later read of the two others would go back. */
static void a_monotonic_get_of_all_still_leaves_it_on_a_majority(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 3, true);
    hear(&t, 1, 1, 1);
    hear(&t, 2, 2, 1);
    hear(&t, 3, 3, 2);
    written(&t, 4, 1, STATUS_OK);
    assert_string_equal(t.text, "[  0] ask 1, ask 2, ask 3\n"
                                "[  3] 3 has v2 -> write 1, write 2\n"
                                "[  4] 1 written -> reply ok\n");
    end(&t);
}

/* The answer to the first write-back would pass for that of the second. */
static void a_replica_is_written_to_once_at_a_time(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 2, true);
    hear(&t, 1, 1, 2);
    hear(&t, 2, 2, 1);
    tick(&t, 60);
    hear(&t, 61, 3, 3);
    written(&t, 62, 2, STATUS_OK);
    written(&t, 63, 2, STATUS_OK);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  2] 2 has v1 -> write 2\n"
                                "[ 60] tick -> ask 3\n"
                                "[ 61] 3 has v3 -> write 1\n"
                                "[ 62] 2 written -> write 2\n"
                                "[ 63] 2 written -> reply ok\n");
    end(&t);
}

static void late_answers_are_repaired(void **state)
{
    (void)state;
    struct traced t;
    get_of(&t, 3, 2, true);
    tick(&t, 50);
    hear(&t, 51, 1, 2);
    hear(&t, 52, 2, 2);
    hear(&t, 60, 3, 1);
    written(&t, 61, 3, STATUS_OK);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[ 50] tick -> ask 3\n"
                                "[ 52] 2 has v2 -> reply ok\n"
                                "[ 60] 3 has v1 -> write 3\n");
    assert_int_equal(t.get.state, GET_DONE);
    end(&t);
}

static void get_that_moves(struct traced *t)
{
    silent_id = id(4);
    get_of(t, 3, 2, true);
    silent_id = (struct node_id){{0}};
}

static void one_of_two_is_silent(void **state)
{
    (void)state;
    struct traced t;
    get_that_moves(&t);
    hear(&t, 2, 1, 1);
    hear(&t, 3, 2, 1);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  3] 2 has v1 -> reply ok\n");
    end(&t);
}

static void the_silent_one_is_written_to_before_the_two_hold(void **state)
{
    (void)state;
    struct traced t;
    get_that_moves(&t);
    broken(&t, 1, 2, STATUS_CLOSED);
    hear(&t, 2, 1, 2);
    hear(&t, 3, 3, 1);
    written(&t, 4, 3, STATUS_OK);
    assert_int_equal(t.get.state, GET_SETTLING);
    written(&t, 5, 4, STATUS_OK);
    assert_string_equal(t.text, "[  0] ask 1, ask 2\n"
                                "[  1] 2 fails -> ask 3\n"
                                "[  3] 3 has v1 -> write 3, write 4\n"
                                "[  5] 4 written -> reply ok\n");
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_of_two_is_silent),
        cmocka_unit_test(the_silent_one_is_written_to_before_the_two_hold),
        cmocka_unit_test(get_asks_r_and_answers_when_they_agree),
        cmocka_unit_test(monotonic_get_writes_back_before_it_answers),
        cmocka_unit_test(a_missing_key_is_written_back_too),
        cmocka_unit_test(other_gets_answer_first_and_write_back_behind),
        cmocka_unit_test(a_failed_write_back_goes_to_the_next_replica),
        cmocka_unit_test(one_who_does_not_know_is_no_answer),
        cmocka_unit_test(get_fails_when_r_is_out_of_reach),
        cmocka_unit_test(a_session_that_one_replica_satisfies_ends_there),
        cmocka_unit_test(a_session_asks_all_where_r_are_behind),
        cmocka_unit_test(a_session_that_no_replica_satisfies_is_stale),
        cmocka_unit_test(a_session_of_a_key_that_is_nowhere_is_stale),
        cmocka_unit_test(a_session_of_a_key_that_all_lack_finds_nothing),
        cmocka_unit_test(a_session_is_stale_at_its_deadline),
        cmocka_unit_test(a_session_is_stale_soon_where_a_replica_is_silent),
        cmocka_unit_test(a_session_without_r_answers_is_unavailable),
        cmocka_unit_test(a_slow_replica_is_hedged),
        cmocka_unit_test(get_times_out_at_its_deadline),
        cmocka_unit_test(damaged_records_do_not_count),
        cmocka_unit_test(
            a_damaged_copy_is_written_over_with_what_a_majority_holds),
        cmocka_unit_test(one_copy_is_not_written_over_a_damaged_one),
        cmocka_unit_test(a_monotonic_get_of_all_still_leaves_it_on_a_majority),
        cmocka_unit_test(a_replica_is_written_to_once_at_a_time),
        cmocka_unit_test(late_answers_are_repaired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
