/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_LSM_REACHED_H
#define REPLIKV_TESTS_ENGINES_LSM_REACHED_H

#include "engines/lsm/lsm.h"

/* What lsm_model_test did and what the tree did for it, counted, since what was
 * never done was not tested. The program is linked with --wrap=lsm_install. */
extern struct reached {
    uint64_t batches, operations, syncs, drops, gets, walks, held;
    uint64_t settles, freezes, reopens, checkpoints, checks;

    /* Crashes: those within a call of the engine, and those within the open
     * after another; those that lost a batch, those that left one that was not
     * synced, and those that did both. */
    uint64_t crashes, inside, nested, lost, left, between;

    /* Of the tree: flushes, and opens that made tables of logs; compactions
     * that merged tables, that only moved them, that removed those a drop
     * covers, and that wrote anew one that a drop touches. Counted from any
     * thread; read when all have ended. */
    uint64_t flushes, recovered;
    uint64_t merges, moves, covered, rewritten;
    uint64_t removals; /* that merges left out */
    uint64_t recycled; /* logs */
    unsigned levels;   /* that had tables at once, at most */
} reached;

/* Look at how many levels have tables now. */
void reached_levels(struct engine *engine);
void reached_print(void);

#endif
