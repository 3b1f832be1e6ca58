/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

/* Writes whose replicas are late, gone, or answer what was asked before. */

static struct fixture f;

static int not_started(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    return 0;
}

static int three_nodes(void **state)
{
    not_started(state);
    node_start(&f);
    return 0;
}

static int five_nodes(void **state)
{
    (void)state;
    node_open(&f, 5, 3);
    node_start(&f);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&f);
    return 0;
}

/* n2 answers, n3 does not: at most so many writes are held as are answered
 * within the grace, however far the clients' deadline is. */
static void a_replica_that_stands_still_caps_no_one(void **state)
{
    (void)state;
    f.config.limits.inflight_max = 25;
    node_start(&f);
    int64_t now_ms = 0;
    for (uint64_t token = 1; token <= 50; token++) {
        put(&f, now_ms += 10, token, write_of(&f, "k", "v"));
        disk(&f, now_ms);
        ack(&f, now_ms, 2, STATUS_OK);
        tick(&f, now_ms);
        disk(&f, now_ms);
    }
    assert_int_equal(counter_of(&f, "writes_applied"), 50);
    f.trace_size = 0;
}

static void who_left_is_not_sent_to(void **state)
{
    (void)state;
    Rkv__PushPull table = RKV__PUSH_PULL__INIT;
    Rkv__Member *member = member_to_wire(&f.members[2], &f.arena);
    member->state = RKV__MEMBER_STATE__LEFT;
    table.members = &member;
    table.n_members = 1;
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_PUSH_PULL, &table);
    put(&f, 2, 2, write_of(&f, "k", "v"));
    disk(&f, 3);
    ack(&f, 4, 2, STATUS_OK);
    expect_trace(&f, "[  2] ask 2 -> coordinate k\n"
                     "[  3] prepared -> store n2\n"
                     "[  4] n2 stored ok -> merge k for n3, "
                     "reply 2 ok applied 2/2\n");
}

/* n1 forwards to all three, gives up on each, and coordinates itself. What
 * comes of the forwards then is no answer to its Stores. */
static void a_late_forward_is_no_answer_to_a_store(void **state)
{
    (void)state;
    Rkv__Write *write = write_of(&f, key_owned_by(&f, "sloppy", "234"), "v");
    write->bucket = arena_string(&f.arena, "sloppy");
    put(&f, 1, 1, write);
    for (int64_t now_ms = 201; now_ms <= 601; now_ms += 200)
        tick(&f, now_ms);
    disk(&f, 602);
    f.trace_size = 0;
    gone(&f, 603, 3);
    written(&f, 603, 4, STATUS_OVERLOADED, RKV__OUTCOME__NOT_APPLIED);
    ack(&f, 604, 3, STATUS_OK);
    ack(&f, 605, 4, STATUS_OK);
    gone(&f, 606, 2);
    ack(&f, 607, 2, STATUS_OK);
    expect_trace(&f, "[604] n3 stored ok -> reply 1 ok applied 2/2\n");
}

/* What is on disk without our having heard of its record may be seen. */
static void what_was_run_unprepared_is_unknown(void **state)
{
    (void)state;
    put(&f, 1, 1, write_of(&f, "k", "v"));
    disk_fails(&f, 2, STATUS_OK);
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  2] stored -> reply 1 io unknown 0/2\n");
}

#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(not_started, a_replica_that_stands_still_caps_no_one),
        WITH(three_nodes, who_left_is_not_sent_to),
        WITH(three_nodes, what_was_run_unprepared_is_unknown),
        WITH(five_nodes, a_late_forward_is_no_answer_to_a_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
