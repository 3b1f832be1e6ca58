/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_PROXY_FAULT_FIXTURE_H
#define REPLIKV_TESTS_PROXY_FAULT_FIXTURE_H

#include "tests/proxy/fault_engine.h"
#include "tests/proxy/storage_fixture.h"

/* A storage edge on the engine that fails on command; not yet open, so that
 * its config can be changed. For cmocka: *state is the fixture. */
int fault_set_up(void **state);
int fault_tear_down(void **state);

/* Open, and leave the writer in the write of token 1, to "first". */
void fault_open_and_block(struct fixture *fixture);

/* Open, and fail the write of token 1; it cannot be opened again. */
void fault_open_and_break(struct fixture *fixture);

/* COORDINATE, submitted and not waited for. */
void fault_submit(struct fixture *fixture, uint64_t token, const char *key);
/* The status that STORED told, waited for. */
enum status fault_stored(struct fixture *fixture, uint64_t token);
/* Of a READ, waited for. */
enum status fault_read(struct fixture *fixture, uint64_t token,
                       const char *key);

#endif
