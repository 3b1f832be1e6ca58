/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_LSM_WORKLOAD_H
#define REPLIKV_TESTS_ENGINES_LSM_WORKLOAD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engines/lsm/lsm.h"
#include "tests/engines/memory_disk.h"
#include "tests/sim/random.h"

/* What the LSM engine is given to do on a disk in memory, drawn from a seed,
 * and the model that says which states it may be in: one behind every step.
 * Every batch writes its step's number to the first key, so that what is left
 * after a crash says how far it came.
 *
 * Tables are so small that a few hundred steps fill several levels. Without
 * threads a seed gives the same calls of the disk each time. */

enum {
    WORKLOAD_KEYS = 240,
    WORKLOAD_OPERATIONS_MAX = 8,
    /* Beyond a block of a table, and beyond a sector. */
    WORKLOAD_VALUE_MAX = 6000,
    /* Batches drawn behind the last step, to go on with after a crash: the
     * first and the one of WORKLOAD_MORE_SYNCED are synced. */
    WORKLOAD_MORE = 4,
    WORKLOAD_MORE_SYNCED = 3,
    /* Ways in which the power fails. */
    WORKLOAD_CRASHES = 7,
};

/* Of each key, the step that wrote it, or 0: it is not there. */
struct workload_state {
    uint32_t steps[WORKLOAD_KEYS];
};

enum step_kind {
    STEP_WRITE,
    STEP_DROP,       /* the keys from first to before last */
    STEP_SYNC,       /* an empty batch, with sync */
    STEP_CHECKPOINT, /* into the directory workload_checkpoint names */
    STEP_REOPEN,
};

struct step {
    enum step_kind kind;
    bool sync; /* its effect is durable when it is done */
    uint16_t first, last;
    uint16_t count; /* of operations */
    uint16_t keys[WORKLOAD_OPERATIONS_MAX];
    bool removed[WORKLOAD_OPERATIONS_MAX];
};

struct workload {
    uint64_t seed;
    size_t count;
    struct step *steps;            /* steps[1] is the first */
    struct workload_state *states; /* states[i]: behind step i; [0]: empty */
};

/* Of a test's program: put those that are given into *numbers, a list that NULL
 * ends. Exits, showing the usage, if one is not a positive number. */
void workload_arguments(int argc, char **argv, const char *usage,
                        uint64_t *const *numbers);

void workload_init(struct workload *workload, uint64_t seed, size_t count);
void workload_fini(struct workload *workload);

/* A store on a disk in memory. */
struct workload_store {
    struct memory_disk *memory;
    const char *path;      /* NULL: MEMORY_DISK_PATH */
    bool threads;          /* the engine may start its own */
    struct engine *engine; /* NULL: closed */
    struct error error;    /* of the last open */
    unsigned reports;      /* of damage, since the open */
    char report[256];      /* the last of them */
};

enum status workload_open(struct workload_store *store) MUST_CHECK;
void workload_close(struct workload_store *store); /* the engine, if open */

/* Do step `number` of an open store. Where it is a reopen that fails, the
 * store is closed. */
enum status workload_do(const struct workload *workload, size_t number,
                        struct workload_store *store) MUST_CHECK;

/* Where a checkpoint goes; valid until the next call. */
const char *workload_checkpoint(size_t number);

/* Which state, of first to last, the store holds, the last if several do.
 * SIZE_MAX: none; then *why says what is wrong. */
size_t workload_find(struct workload_store *store,
                     const struct workload_state *states, size_t first,
                     size_t last, const char **why);

/* Whether every get answers what the state says, and a walk in each order, too.
 * Unless besides is OK each may answer that instead, with which the walks end.
 * Otherwise *why says what is wrong. */
bool workload_agrees(struct workload_store *store,
                     const struct workload_state *state, enum status besides,
                     const char **why);

/* One of the WORKLOAD_CRASHES; any number will do. */
struct memory_crash workload_crash(uint64_t number, uint64_t seed);

/* The state behind a step that is done to this one. */
void workload_apply(const struct workload *workload, size_t number,
                    struct workload_state *state);

#endif
