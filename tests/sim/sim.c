/* SPDX-License-Identifier: MIT */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"

enum {
    /* Healing takes at least so long, so that what was never answered shows. */
    HEAL_US_MIN = 2200 * 1000,
    SETTLE_EVERY_US = 50 * 1000,
    NIGHT_EVERY_US = 5 * 1000 * 1000,
};

void sim_at(struct sim *sim, int64_t at_us, enum moment_kind kind, uint32_t a,
            uint32_t b, uint64_t c)
{
    struct moment moment = {
        .at_us = at_us, .kind = kind, .a = a, .b = b, .c = c};
    queue_push(&sim->queue, moment);
}

/* --- moments --- */

static void stop(struct sim *sim, struct host *host)
{
    bool is_foreign = host->version_min > PEER_VERSION_MAX;
    host_crash(sim, host);
    if (host->has_left) {
        leaving_settled(sim, host);
        return;
    }
    if (host->lost == LOST_NOTHING && !is_foreign)
        verdict_unsafe(
            &sim->verdict, "amnesia",
            "%s was refused, and its disk is its own, and the latest",
            host->name);
    /* The operator reads what it said, or only starts it again. */
    host->with_replace |= !is_foreign && random_chance(&sim->random, 700);
    sim_in(sim, 200000, MOMENT_START, host->index, host->life, 0);
}

/* A moment of a process: passed over when that has ended, put off while it
 * stands still. */
static void host_moment(struct sim *sim, const struct moment *moment)
{
    struct host *host = &sim->hosts[moment->a];
    bool is_gone = host->life != moment->b;
    if (moment->kind == MOMENT_NO_REPLY && is_gone)
        network_no_reply(sim, NULL, moment->c);
    if (is_gone)
        return;
    if (host->paused_until_us > sim->now_us) {
        sim_at(sim, host->paused_until_us, moment->kind, moment->a, moment->b,
               moment->c);
        return;
    }
    switch ((int)moment->kind) {
    case MOMENT_TICK:
        host_tick(sim, host);
        break;
    case MOMENT_START:
        if (host->node == NULL && host_is_here(host))
            host_start(sim, host);
        break;
    case MOMENT_STOP:
        stop(sim, host);
        break;
    case MOMENT_NO_REPLY:
        network_no_reply(sim, host, moment->c);
        break;
    case MOMENT_DISK_BATCH:
        storage_run_batch(sim, host);
        break;
    case MOMENT_DISK_SYNC:
        storage_synced(sim, host);
        break;
    case MOMENT_DISK_ANSWER:
        storage_answer(sim, host, moment->c);
        break;
    case MOMENT_DISK_REOPEN:
        storage_reopen(sim, host);
        break;
    }
}

static void attempt_moment(struct sim *sim, const struct moment *moment)
{
    struct attempt *attempt = &sim->attempts[moment->a];
    if (!attempt->used || attempt->generation != moment->b)
        return;
    int64_t paused_until_us = sim->hosts[attempt->host].paused_until_us;
    if (moment->kind == MOMENT_REPLY)
        attempt_return(sim, attempt);
    else if (paused_until_us > sim->now_us)
        sim_at(sim, paused_until_us, moment->kind, moment->a, moment->b, 0);
    else
        attempt_arrive(sim, attempt);
}

static void dispatch(struct sim *sim, const struct moment *moment)
{
    switch (moment->kind) {
    case MOMENT_TICK:
    case MOMENT_START:
    case MOMENT_STOP:
    case MOMENT_NO_REPLY:
    case MOMENT_DISK_BATCH:
    case MOMENT_DISK_SYNC:
    case MOMENT_DISK_ANSWER:
    case MOMENT_DISK_REOPEN:
        host_moment(sim, moment);
        break;
    case MOMENT_FRAME:
        network_deliver(sim, moment->a, moment->b, (enum direction)moment->c);
        break;
    case MOMENT_REQUEST:
    case MOMENT_REPLY:
        attempt_moment(sim, moment);
        break;
    case MOMENT_CLIENT:
        if (sim->clients[moment->a].generation == moment->b)
            client_wake(sim, &sim->clients[moment->a]);
        break;
    case MOMENT_FAULT:
        if (sim->stage == SIM_FAULTS)
            faults_next(sim);
        break;
    case MOMENT_FAULT_ENDS:
        if (sim->stage == SIM_FAULTS)
            faults_end(sim, moment->a, moment->b, (uint32_t)moment->c);
        break;
    case MOMENT_OPERATOR:
        leaving_ask(sim, moment->a);
        break;
    }
}

/* Until the time, or until something is wrong. */
static void run_until(struct sim *sim, int64_t until_us)
{
    while (sim->verdict.invariant == NULL && sim->queue.count > 0 &&
           sim->queue.heap[0].at_us <= until_us) {
        struct moment moment = queue_pop(&sim->queue);
        sim->now_us = moment.at_us;
        trace_mix(&sim->trace, (uint64_t)moment.at_us ^ moment.kind);
        sim->tally->events++;
        dispatch(sim, &moment);
    }
    if (sim->verdict.invariant == NULL)
        sim->now_us = until_us;
}

/* --- stages --- */

static const char *read_all(struct sim *sim)
{
    struct client *reader = &sim->clients[0];
    if (!reader->is_checker && reader->task != TASK_NONE)
        return "a client still waits";
    if (!reader->is_checker)
        client_wake_in(sim, reader, 0);
    reader->is_checker = true;
    return observe_unread(sim);
}

/* Replicas come back together by themselves: hints are delivered, and what they
 * do not carry over, because their keeper crashed before it stored them,
 * anti-entropy does. After a night what is deleted is forgotten. Then the first
 * client reads every key at level all. */
static void heal(struct sim *sim)
{
    int64_t began_us = sim->now_us;
    const char *unsettled = NULL;
    bool is_together = false; /* it was once */
    int64_t night_us = sim->plan.has_nights ? 0 : INT64_MAX;
    sim->stage = SIM_HEALING;
    faults_heal(sim);
    do {
        run_until(sim, sim->now_us + SETTLE_EVERY_US);
        if (sim->plan.is_mended_by_reads)
            (void)read_all(sim);
        unsettled = observe_apart(sim);
        is_together |= unsettled == NULL;
        if (unsettled == NULL && sim->plan.has_nights)
            unsettled = observe_uncollected(sim);
        if (unsettled == NULL)
            unsettled = read_all(sim);
        if (unsettled != NULL && is_together && sim->now_us >= night_us) {
            /* What was mended in the morning is old in the evening. And what a
             * client says that it has seen may name what was folded away, so
             * that another one's read is stale until it is so again. */
            night_us = sim->now_us + NIGHT_EVERY_US;
            faults_night(sim);
        }
    } while (sim->verdict.invariant == NULL &&
             (unsettled != NULL || sim->now_us < began_us + HEAL_US_MIN) &&
             sim->now_us < began_us + sim->plan.heal_us);
    if (unsettled != NULL)
        verdict_stuck(&sim->verdict, "converged", "%.0f s after healing: %s",
                      (double)sim->plan.heal_us / 1e6, unsettled);
    sim->stage = SIM_CHECKED;
    observe_end(sim);
}

static void start_all(struct sim *sim)
{
    for (size_t i = 0; i < SIM_BUCKETS; i++)
        sim_buckets[i].id = bucket_id_of(sim_buckets[i].name);
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        host_init(sim, &sim->hosts[i], i);
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        host_start(sim, &sim->hosts[i]);
    observe_start(sim);
    for (uint32_t i = 0; i < sim->plan.clients; i++) {
        sim->clients[i].index = i;
        sim_in(sim, random_range(&sim->client_random, 0, 300000), MOMENT_CLIENT,
               i, 0, 0);
    }
}

void sim_run(struct sim *sim, uint64_t seed, const struct sim_options *options,
             struct tally *tally)
{
    memset(sim, 0, sizeof *sim);
    sim->seed = seed;
    sim->options = options;
    sim->random = (struct randomness){seed};
    sim->tally = tally;
    sim->trace.is_told = options->tell;
    sim->leaving.host = sim->leaving.rival = HOSTS_MAX;
    struct randomness plan_random = random_fork(&sim->random);
    sim->network_random = random_fork(&sim->random);
    sim->disk_random = random_fork(&sim->random);
    sim->fault_random = random_fork(&sim->random);
    sim->client_random = random_fork(&sim->random);
    sim->send_random = random_fork(&sim->random);
    plan_draw(&sim->plan, &plan_random, options->hosts);
    arena_init(&sim->arena, 8u << 20);
    start_all(sim);
    if (options->calm)
        sim->plan.failed_write_permille = sim->plan.failed_send_permille =
            sim->plan.slow_write_permille = 0;
    else
        faults_start(sim);
    run_until(sim, sim->plan.faults_us);
    if (sim->verdict.invariant == NULL)
        heal(sim);
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        if (sim->hosts[i].node != NULL)
            tally_node(tally, sim->hosts[i].node);
    tally->seeds++;
    tally->simulated_us += sim->now_us;
}

void sim_free(struct sim *sim)
{
    for (uint32_t i = 0; i < CLIENTS_MAX; i++)
        client_fini(&sim->clients[i]);
    for (size_t i = 0; i < ATTEMPTS_MAX; i++) {
        buffer_fini(&sim->attempts[i].request);
        buffer_fini(&sim->attempts[i].reply);
    }
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        host_fini(sim, &sim->hosts[i]);
    network_fini(&sim->network);
    queue_fini(&sim->queue);
    arena_fini(&sim->arena);
}
