/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_LOSSES_H
#define REPLIKV_TESTS_SIM_LOSSES_H

#include "checks.h"

/* What disks lost of what they had said to hold: all, as an emptied one, what
 * came since, as an older copy, or some records, as a damaged one.
 *
 * An acknowledged write is on W replicas, W is 2 at least where this happens,
 * and W-1 of them may go: another disk may lose something when all that any
 * knew of a key at the last loss is at all its owners again, and nothing is
 * damaged any more, which is judged from the outside. */

struct sim;

enum { LOSSES_MAX = 64, ALL_KEYS = (1 << KEYS_MAX) - 1 };

struct losses {
    struct {
        int64_t at_us;
        unsigned keys; /* a bit each */
    } list[LOSSES_MAX];
    uint32_t count;
    /* What the disks knew of each key when the last was over. */
    struct read_floor known[KEYS_MAX];
};

/* Something has just been lost, of these keys. */
void losses_add(struct sim *sim, unsigned keys);
/* How many there were of the key since. */
uint32_t losses_since(const struct sim *sim, uint32_t key, int64_t us);
/* Whether there may be another. */
bool losses_are_mended(const struct sim *sim);

#endif
