/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/proxy/fault_fixture.h"

#include <stdlib.h>

int fault_set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    if (fixture == NULL)
        return -1;
    fault_reset();
    fixture_init(fixture, &fault_engine_type);
    return 0;
}

int fault_tear_down(void **state)
{
    fixture_fini(*state);
    free(*state);
    fault_reset();
    return 0;
}

void fault_submit(struct fixture *fixture, uint64_t token, const char *key)
{
    struct storage_op op = coordinate_of(token, key, "value");
    fixture_submit(fixture, &op);
}

enum status fault_read(struct fixture *fixture, uint64_t token, const char *key)
{
    struct storage_op op = op_of(STORAGE_READ, token, key);
    return fixture_read(fixture, &op, NULL);
}

enum status fault_stored(struct fixture *fixture, uint64_t token)
{
    return fixture_wait(fixture, EVENT_STORED, token).status;
}

void fault_open_and_block(struct fixture *fixture)
{
    fixture_open(fixture);
    fault_block_writes(true);
    fault_submit(fixture, 1, "first");
    assert_true(fault_wait_blocked_writes(1));
}

void fault_open_and_break(struct fixture *fixture)
{
    fixture_open(fixture);
    fault_fail_opens(true);
    fault_fail_write();
    fault_submit(fixture, 1, "k");
    assert_int_equal(fault_stored(fixture, 1), STATUS_IO);
}
