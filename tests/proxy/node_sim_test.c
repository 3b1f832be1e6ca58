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

#define WITH(nodes, test) cmocka_unit_test_setup_teardown(test, nodes, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(started, a_hint_whose_write_failed_is_delivered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
