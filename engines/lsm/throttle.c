/* SPDX-License-Identifier: MIT */
#include <sys/prctl.h>
#include <time.h>

#include "engines/lsm/compaction.h"
#include "engines/lsm/lsm.h"

/* Once more than the soft limit of bytes waits for the background, each byte
 * written costs a time that grows with the square of what is beyond it, so
 * that writers slow down smoothly to the pace at which tables can be made. At
 * the hard limit a megabyte takes a quarter of a second, at four times the
 * distance, where it ends, four seconds; a group takes one at most. Where
 * compactions are slower still, level 0 grows on. In memtables: see
 * lsm_update_pressure. */
enum {
    PRESSURE_SOFT = 20,
    PRESSURE_HARD = 48,
    BEYOND_MAX = 4,
    THROTTLE_NS_PER_BYTE = 250,
    /* Shorter sleeps cost more than they take; longer ones would go on when
     * the background has caught up. */
    SLEEP_NS_MIN = 50 * 1000,
    SLEEP_NS_MAX = 10 * 1000 * 1000,
    /* What is slept at most for one group, however large: others wait, too. */
    OWED_NS_MAX = 1000 * 1000 * 1000,
};

/* What is in level 0, and in frozen memtables behind the one that is being
 * flushed: those count for more, since there may be fewer. */
void lsm_update_pressure(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->mutex);
    uint64_t frozen = 0;
    for (size_t i = 1; i + 1 < lsm->view->memtable_count; i++)
        frozen += memtable_bytes(lsm->view->memtables[i]);
    uint64_t level0 = lsm->view->version->levels[0].bytes;
    if (lsm->compaction_rests || compaction_held_up(lsm->view->version))
        level0 = 0; /* waiting would not help */
    uint64_t pressure = level0 + frozen * (PRESSURE_HARD / FROZEN_MAX);
    atomic_store_explicit(&lsm->pressure_bytes, pressure, memory_order_relaxed);
    lsm->changes++;
    pthread_cond_broadcast(&lsm->changed);
    pthread_mutex_unlock(&lsm->mutex);
}

static double ns_per_byte(const struct lsm *lsm)
{
    uint64_t soft = PRESSURE_SOFT * (uint64_t)lsm->memtable_bytes;
    uint64_t hard = PRESSURE_HARD * (uint64_t)lsm->memtable_bytes;
    uint64_t pressure =
        atomic_load_explicit(&lsm->pressure_bytes, memory_order_relaxed);
    if (pressure <= soft || !lsm->threads)
        return 0;
    double beyond = (double)(pressure - soft) / (double)(hard - soft);
    if (beyond > BEYOND_MAX)
        beyond = BEYOND_MAX;
    return beyond * beyond * THROTTLE_NS_PER_BYTE;
}

/* By itself Linux may wake a thread 50 us late, to wake several at a time.
 * What it took, in microseconds. */
static uint64_t sleep_ns(double ns)
{
    uint64_t begun = lsm_now_us();
    int slack = prctl(PR_GET_TIMERSLACK);
    (void)prctl(PR_SET_TIMERSLACK, 1);
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
    (void)prctl(PR_SET_TIMERSLACK, (unsigned long)slack);
    return lsm_now_us() - begun;
}

/* What is owed and was not slept for costs no more than it would now. */
static void set_price(struct throttle *throttle, double price)
{
    if (price < throttle->ns_per_byte)
        throttle->owed_ns *= price / throttle->ns_per_byte;
    throttle->ns_per_byte = price;
}

void lsm_owe(struct lsm *lsm, size_t bytes)
{
    struct throttle *throttle = &lsm->throttle;
    throttle->owed_ns += throttle->ns_per_byte * (double)bytes;
    if (throttle->owed_ns > OWED_NS_MAX)
        throttle->owed_ns = OWED_NS_MAX;
}

uint64_t lsm_pay(struct lsm *lsm)
{
    struct throttle *throttle = &lsm->throttle;
    uint64_t slept_us = 0;
    set_price(throttle, ns_per_byte(lsm));
    while (throttle->owed_ns >= SLEEP_NS_MIN && !lsm->broken) {
        double ns = throttle->owed_ns;
        uint64_t us = sleep_ns(ns < SLEEP_NS_MAX ? ns : SLEEP_NS_MAX);
        slept_us += us;
        /* What was overslept is paid in advance, but not all of it by a
         * machine that stood still. */
        throttle->owed_ns -= (double)us * 1000;
        if (throttle->owed_ns < -SLEEP_NS_MAX)
            throttle->owed_ns = -SLEEP_NS_MAX;
        set_price(throttle, ns_per_byte(lsm));
    }
    return slept_us;
}
