/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_PROXY_TOY_STORAGE_H
#define REPLIKV_TESTS_PROXY_TOY_STORAGE_H

#include "proxy/core/event.h"
#include "proxy/core/replica.h"

/* What the storage edge does for the core, on a sorted array in memory: one
 * operation at a time, each at once. What a key becomes is decided by the
 * production code. */

struct toy_entry {
    struct buffer key, value;
};

struct toy_storage {
    struct replica replica;
    struct toy_entry *entries;
    size_t count, capacity;
    struct arena scratch;
    /* What the last result points to. */
    struct buffer value, next;
    struct storage_row *rows;
};

void toy_init(struct toy_storage *toy, uint64_t seed);
void toy_fini(struct toy_storage *toy);

/* Carry out op. result points to op and into toy, until the next call. */
void toy_run(struct toy_storage *toy, const struct storage_op *op,
             struct storage_result *result);

/* The encoded value of a key, empty if there is none. */
struct bytes toy_get(const struct toy_storage *toy,
                     const struct storage_key *key);
/* Put any bytes under it, damaged ones too. */
void toy_put(struct toy_storage *toy, const struct storage_key *key,
             struct bytes value);

#endif
