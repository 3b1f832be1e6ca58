/* SPDX-License-Identifier: MIT */
#include "sim.h"

/* Everything is scaled down from what replikvd uses, about fivefold, so that a
 * run of a few simulated seconds sees nodes die, be suspected, come back and
 * be handed what was kept for them. */

static struct membership_config draw_membership(struct randomness *random)
{
    struct membership_config config = membership_config_default();
    config.probe_interval_ms = (uint32_t)random_range(random, 150, 300);
    config.probe_timeout_ms = config.probe_interval_ms / 2;
    config.gossip_interval_ms = 60;
    config.push_pull_interval_ms = (uint32_t)random_range(random, 500, 1500);
    config.join_interval_ms = 200;
    /* A short suspicion: more deaths, more of them mistaken. */
    config.suspicion_mult = 2;
    return config;
}

static struct node_limits draw_limits(struct randomness *random)
{
    struct node_limits limits = node_limits_default();
    limits.value_bytes_max = 4096;
    limits.inflight_max = 64;
    /* Sometimes few requests fit, hints are shed, and chunks are short. */
    if (random_chance(random, 100))
        limits.inflight_max = 3;
    if (random_chance(random, 200))
        limits.hint_bytes_max = 400;
    if (random_chance(random, 150)) {
        limits.fallback_bytes_max = 1000;
        limits.hint_bytes_max = 400;
    }
    if (random_chance(random, 500))
        limits.list_bytes_max = 300;
    return limits;
}

/* Mostly three: of two a write needs both, and of five three. */
static uint32_t draw_replicas(struct randomness *random, uint32_t hosts)
{
    if (random_chance(random, 100))
        return 2;
    return hosts == 5 && random_chance(random, 300) ? 5 : 3;
}

static void leave_without_exchange(struct plan *plan)
{
    const struct node_limits limits = node_limits_default();
    plan->is_without_exchange = true;
    plan->is_mended_by_reads = plan->may_lose;
    plan->has_nights = false;
    plan->failed_write_permille = 0;
    plan->limits.hint_bytes_max = limits.hint_bytes_max;
    plan->limits.fallback_bytes_max = limits.fallback_bytes_max;
    plan->timeouts.hint_window_ms = node_timeouts_default().hint_window_ms;
    plan->timeouts.exchange_interval_ms = 24 * 3600 * 1000;
}

/* Nothing but hints and what heirs read brings anything to them. */
static void leave_often(struct plan *plan, struct randomness *random)
{
    plan->may_lose = plan->has_older = false;
    leave_without_exchange(plan);
    plan->is_of_leaves = true;
    plan->hosts = random_chance(random, 500) ? 4 : 5;
    plan->replicas = 3;
    plan->timeouts.handoff_interval_ms = (uint32_t)random_range(random, 5, 50);
    /* Much is under way when a step is taken. */
    plan->keys = 3;
    plan->clients = CLIENTS_MAX;
    plan->think_us = random_range(random, 2, 20) * 1000;
}

/* Calm enough for it to hear what the others' clocks show. What it deletes may
 * be old in a day only. */
static void set_wild(struct plan *plan, struct randomness *random)
{
    plan->has_nights = false;
    plan->wild = (uint32_t)random_below(random, plan->hosts);
    plan->fault_every_us *= 6;
    plan->faults_us *= 2;
}

void plan_draw(struct plan *plan, struct randomness *random, uint32_t hosts)
{
    *plan = (struct plan){
        .hosts = hosts != 0                   ? hosts
                 : random_chance(random, 500) ? 3
                 : random_chance(random, 700) ? 5
                                              : 4,
        .clients = (uint32_t)random_range(random, 2, CLIENTS_MAX),
        .keys = (uint32_t)random_range(random, 3, 6),
        .partitions = (uint32_t)random_range(random, 5, 12),
        .faults_us = random_range(random, 1500, 5000) * 1000,
        .heal_us = 40 * 1000000,
        .tick_us = random_range(random, 10, 40) * 1000,
        .latency_us = random_range(random, 50, 1000),
        .sync_us = random_range(random, 30, 2000),
        .fault_every_us = random_range(random, 50, 250) * 1000,
        .failed_write_permille = random_chance(random, 500)
                                     ? (uint32_t)random_range(random, 1, 20)
                                     : 0,
        .slow_write_permille = (uint32_t)random_range(random, 0, 40),
        .may_lose = random_chance(random, 500),
        .has_older = random_chance(random, 400),
        .wild = HOSTS_MAX,
        .think_us = random_range(random, 5, 60) * 1000,
        .patience_us = random_range(random, 50, 250) * 1000,
        .membership = draw_membership(random),
        .limits = draw_limits(random),
        .timeouts = node_timeouts_default(),
    };
    plan->replicas = draw_replicas(random, plan->hosts);
    /* What a read shows then one of them may have alone. */
    if (plan->replicas == 2)
        plan->may_lose = false;
    plan->timeouts.request_ms = 800;
    plan->timeouts.forward_ms = (uint32_t)random_range(random, 20, 300);
    plan->timeouts.hedge_ms = (uint32_t)random_range(random, 5, 60);
    plan->timeouts.handoff_interval_ms =
        (uint32_t)random_range(random, 20, 200);
    plan->timeouts.tree_rebuild_ms = 500;
    plan->timeouts.exchange_interval_ms = 300;
    plan->timeouts.collect_interval_ms = 100;
    /* More than two that are right may differ by. */
    plan->timeouts.clock_skew_max_ms = 20000;
    plan->has_nights = random_chance(random, 500);
    if (random_chance(random, 300))
        plan->failed_send_permille = (uint32_t)random_range(random, 1, 50);
    if (random_chance(random, 300))
        plan->timeouts.hint_window_ms = 300;
    if (random_chance(random, 100))
        leave_without_exchange(plan);
    else if (random_chance(random, 100))
        set_wild(plan, random);
    else if (hosts == 0 && random_chance(random, 250))
        leave_often(plan, random);
}
