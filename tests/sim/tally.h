/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_TALLY_H
#define REPLIKV_TESTS_SIM_TALLY_H

#include <stddef.h>
#include <stdint.h>

#include "proxy/core/counters.h"
#include "proxy/core/node.h"

/* How often what happened, over all seeds of a run: a fault or a code path
 * that never occurs is one that is not tested. */

enum fault {
    FAULT_RESET,
    FAULT_CUT,
    FAULT_CUT_ONE_WAY,
    FAULT_ISOLATE,
    FAULT_SPLIT,
    FAULT_CLOG,
    FAULT_CRASH,
    FAULT_PAUSE,
    FAULT_WALL_JUMP,
    FAULT_WIPE,
    FAULT_OLD_COPY,
    FAULT_DAMAGE,
    FAULT_FULL,
    FAULT_SLOW,
    FAULT_OTHER_BUILD,
    FAULT_STOP,
    FAULT_NIGHT,
    FAULT_LEAVE,
    FAULT_LOST_FOR_GOOD,
    FAULT_KIND_COUNT, /* those above are drawn; those below follow */
    FAULT_FAILED_WRITE = FAULT_KIND_COUNT,
    FAULT_SLOW_WRITE,
    FAULT_BATCH_LOST,
    FAULT_BATCH_KEPT,
    FAULT_FAILED_OPEN,
    FAULT_CRASH_IN_OPEN,
    FAULT_FAILED_SEND,
    FAULT_UNKNOWN_REQUEST,
    FAULT_FRAMES_LOST,
    FAULT_LATE_FRAMES,
    FAULT_NIGHT_LATE,
    FAULT_LANE_TIMEOUT,
    FAULT_CLIENT_TIMEOUT,
    FAULT_CLIENT_RETRY,
    FAULT_CLIENT_MISTAKE,
    FAULT_HALT,
    FAULT_REPLACE,
    FAULT_META_DAMAGED,
    FAULT_SAVED_TREES,
    FAULT_LEFT,
    FAULT_COUNT
};

struct tally {
    uint64_t seeds, events, writes, reads, acknowledged;
    uint64_t tables;     /* that LSM trees wrote */
    uint64_t unreadable; /* entries in their damaged blocks */
    int64_t simulated_us;
    uint64_t faults[FAULT_COUNT];
    uint64_t counters[COUNTER_COUNT];
    struct membership_counters members;
    /* Records that were stored with more than one value. */
    uint64_t with_siblings;
};

/* Add what the node has counted. */
void tally_node(struct tally *tally, const struct node *node);

/* faults.c: how often it is drawn, against the others of its kind. */
uint32_t fault_weight(enum fault fault);
void tally_print(const struct tally *tally, double seconds);

#endif
