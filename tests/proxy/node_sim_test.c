/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

/* What the simulator found, each as the trace of the one node that was wrong.
 * The seeds are in tests/sim/seeds. */

static struct fixture f;

static int started(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    node_start(&f);
    return 0;
}

static int opened(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&f);
    return 0;
}

/* A batch fails, and is on disk all the same: nobody counted the hint. */
static void a_hint_whose_write_failed_is_delivered(void **state)
{
    (void)state;
    struct storage_key hint = key_in(&f, TABLE_HINTS, 2, "default", "k");
    put(&f, 1, 1, write_of(&f, "k", "v"));
    disk(&f, 2);
    ack(&f, 3, 3, STATUS_OK);
    gone(&f, 4, 2);
    disk_fails(&f, 5, STATUS_IO);
    toy_put(&f.toy, &hint, record_of(&f, 1, 1, "v"));
    f.trace_size = 0;
    meet(&f, 600, 2);
    tick(&f, 600);
    disk(&f, 601);
    expect_trace(&f, "[600] ask 4093 -> reply 4093 ok\n"
                     "[600] tick -> scan hints for n2\n"
                     "[601] stored -> handoff 1 n2\n");
    Rkv__HandoffReply reply = RKV__HANDOFF_REPLY__INIT;
    answer(&f, 602, 2, RKV__ENVELOPE__BODY_HANDOFF_REPLY, &reply);
    disk(&f, 603);
    /* Then a pass that finds none ends the search. */
    tick(&f, 1200);
    disk(&f, 1201);
    tick(&f, 2500);
    expect_trace(&f, "[602] n2 answers -> drop k for n2\n"
                     "[1200] tick -> scan hints for n2\n");
}

/* --- emptied disks --- */

/* The service manager starts an emptied node again and again, and each time its
 * boot number rises. */
static void a_disk_is_new_until_it_was_ready(void **state)
{
    (void)state;
    node_boot(&f); /* boot 2, and "joined" put there by the fixture */
    node_free(f.node);
    toy_fini(&f.toy);
    toy_init(&f.toy, 7);
    struct error error;
    assert_int_equal(node_new(&f.config, &f.node, &error), STATUS_OK);
    tick(&f, 1);
    disk(&f, 1);
    tick(&f, 2);
    assert_false(node_is_ready(f.node));
}

/* Those who dial an emptied node have not judged it. */
static void being_dialled_is_not_being_accepted(void **state)
{
    (void)state;
    f.config.self.boot = 1;
    node_boot(&f);
    meet(&f, 1, 2);
    meet(&f, 1, 3);
    tick(&f, 2);
    assert_false(node_is_ready(f.node));
    greeted(&f, 3, 2);
    tick(&f, 4);
    assert_true(node_is_ready(f.node));
}

static void an_emptied_node_that_answers_is_hung_up_on(void **state)
{
    (void)state;
    f.members[1].boot = 1;
    f.members[1].store.bytes[0] = 77;
    greeted(&f, 1, 2);
    assert_true(f.effects.hang_up);
    expect_trace(&f, "[  1] hello -> event=hello_refused why=\"n2 is known "
                     "with another disk: if its data is lost, start it with "
                     "--replace; if not, give it back its data_dir\"\n");
}

/* It would accept everybody, and forget whom it knew. */
static void before_its_disk_is_read_a_node_greets_nobody(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(node_new(&f.config, &f.node, &error), STATUS_OK);
    tick(&f, 0);
    meet(&f, 1, 2);
    expect_trace(&f, "[  0] tick -> scan meta, scan hints\n"
                     "[  1] ask 4095 -> reply 4095 unavailable\n");
}

/* Not being able to greet yet is no reason to stop for the other. */
static void a_node_that_starts_stops_nobody(void **state)
{
    (void)state;
    f.config.self.boot = 1;
    node_boot(&f);
    Rkv__HelloReply *reply =
        message_new(&f.arena, &rkv__hello_reply__descriptor);
    reply->status = RKV__STATUS__UNAVAILABLE;
    struct event event = {
        .kind = EVENT_HELLO_REPLY,
        .message =
            envelope_new(&f.arena, RKV__ENVELOPE__BODY_HELLO_REPLY, reply)};
    step(&f, 1, &event, "hello");
    assert_null(f.effects.halt);
}

#define WITH(nodes, test) cmocka_unit_test_setup_teardown(test, nodes, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(started, a_hint_whose_write_failed_is_delivered),
        WITH(opened, a_disk_is_new_until_it_was_ready),
        WITH(opened, being_dialled_is_not_being_accepted),
        WITH(started, an_emptied_node_that_answers_is_hung_up_on),
        WITH(opened, before_its_disk_is_read_a_node_greets_nobody),
        WITH(opened, a_node_that_starts_stops_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
