/* SPDX-License-Identifier: MIT */
#include <sys/prctl.h>
#include <time.h>

#include "engines/lsm/compaction.h"
#include "engines/lsm/lsm.h"
#include "proto/assert.h"

/* Once more than the soft limit of bytes waits for the background, each byte
 * written costs a time that grows with the square of what is beyond it, so
 * that writers slow down smoothly to the pace at which tables can be made,
 * whatever that is. At the hard limit a megabyte takes a quarter of a second,
 * at twice the distance a second. In memtables: see lsm_update_pressure. */
enum {
    PRESSURE_SOFT = 20,
    PRESSURE_HARD = 48,
    THROTTLE_NS_PER_BYTE = 250,
    /* Shorter sleeps cost more than they take; longer ones would go on when
     * the background has caught up. */
    THROTTLE_NS_MIN = 50 * 1000,
    THROTTLE_NS_MAX = 10 * 1000 * 1000,
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

void lsm_count_stall(struct lsm *lsm, uint64_t us)
{
    struct lsm_counters *counters = &lsm->counters;
    atomic_fetch_add(&counters->stall_us, us);
    if (us > atomic_load(&counters->stall_us_max))
        atomic_store(&counters->stall_us_max, us);
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

void lsm_throttle(struct lsm *lsm, size_t bytes)
{
    uint64_t slept_us = 0;
    double price = ns_per_byte(lsm);
    lsm->unpaid_bytes += (double)bytes;
    while (!lsm->broken && lsm->unpaid_bytes * price >= THROTTLE_NS_MIN) {
        double ns = lsm->unpaid_bytes * price;
        uint64_t us = sleep_ns(ns < THROTTLE_NS_MAX ? ns : THROTTLE_NS_MAX);
        slept_us += us;
        /* What was overslept is paid in advance. */
        lsm->unpaid_bytes -= (double)us * 1000 / price;
        price = ns_per_byte(lsm);
    }
    /* But not by a machine that stood still. */
    if (price == 0 || lsm->unpaid_bytes * price < -THROTTLE_NS_MAX)
        lsm->unpaid_bytes = 0;
    if (slept_us > 0)
        lsm_count_stall(lsm, slept_us);
}

void lsm_wait_for_room(struct lsm *lsm)
{
    uint64_t begun = 0;
    pthread_mutex_lock(&lsm->mutex);
    while (lsm->view->memtable_count > FROZEN_MAX && !lsm->broken) {
        ASSERT(lsm->threads); /* without, each write flushes what it froze */
        if (begun == 0)
            begun = lsm_now_us();
        pthread_cond_wait(&lsm->changed, &lsm->mutex);
    }
    pthread_mutex_unlock(&lsm->mutex);
    if (begun != 0)
        lsm_count_stall(lsm, lsm_now_us() - begun);
}
