/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_LSM_READER_H
#define REPLIKV_TESTS_ENGINES_LSM_READER_H

#include "engines/engine.h"
#include "tests/engines/lsm_history.h"

/* Reads of an engine that holds what lsm_history.h says. What answers a text
 * answers NULL if the engine is right, and otherwise what is wrong, which is
 * valid until the next call. Not thread-safe. */

/* A get of a key. */
const char *reader_get(struct engine *engine, const struct history_state *state,
                       size_t number) MUST_CHECK;
/* A get of what was never written, and lies behind this key. */
const char *reader_get_none(struct engine *engine, size_t number) MUST_CHECK;
/* Gets of all keys, and a walk in each order. */
const char *reader_all(struct engine *engine,
                       const struct history_state *state) MUST_CHECK;
/* What the store holds, whatever that is. */
const char *reader_scan(struct engine *engine,
                        struct history_state *state) MUST_CHECK;

/* An iterator, to be read bit by bit while the store changes. */
struct reader {
    struct engine_iterator *iterator; /* NULL: closed */
    struct history_state state;       /* at the open */
    size_t from, to;
    size_t passed; /* of the keys of [from, to) in the order */
    enum engine_order order;
};

struct reader_range {
    size_t from, to; /* bounds: see history_bound */
    bool from_between, to_between;
    enum engine_order order;
};
const char *reader_open(struct reader *reader, struct engine *engine,
                        const struct history_state *state,
                        const struct reader_range *range) MUST_CHECK;
/* Read so many rows, or those up to the end, with which it is closed. */
const char *reader_next(struct reader *reader, size_t count) MUST_CHECK;
void reader_close(struct reader *reader); /* safe on a closed one */

#endif
