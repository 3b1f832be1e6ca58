/* SPDX-License-Identifier: MIT */
#include "sim.h"

/* What is watched at every tick of a host, whatever it is doing: that nothing
 * of it outgrows its limit, and whom it holds for dead. */

static uint64_t bytes_of_hints(const struct sim *sim, const struct host *host,
                               const struct host *target, bool of_fallbacks)
{
    const struct disk_table *table = &host->storage.store.table;
    uint64_t bytes = 0;
    for (size_t i = 0; i < table->count; i++) {
        const struct disk_entry *entry = &table->entries[i];
        struct storage_key key;
        if (entry->key.data[0] != TABLE_HINTS || entry->damage == UNREADABLE ||
            storage_key_decode(buffer_bytes(&entry->key), &key) != STATUS_OK ||
            (target != NULL && !node_id_equal(key.target, target->id)))
            continue;
        uint32_t number = observe_key(sim, buffer_bytes(&entry->key));
        bool is_of_fallbacks =
            number < sim->plan.keys && sim->keys[number].bucket->sloppy;
        if (of_fallbacks || !is_of_fallbacks)
            bytes += entry->key.size + entry->value.size;
    }
    return bytes;
}

/* What was kept for one that leaves, within its limit, comes on top of what is
 * kept for its heir. */
static uint64_t hint_bytes_max(const struct sim *sim)
{
    uint64_t targets = 1 + sim->is_moving;
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        targets += sim->hosts[i].has_left;
    return targets * sim->plan.limits.hint_bytes_max;
}

/* Fallbacks are asked for in sloppy buckets alone: of all others hints are
 * courtesy. */
static void watch_hints(struct sim *sim, const struct host *host)
{
    const struct node_limits *limits = &sim->plan.limits;
    uint64_t courtesy = 0, most = hint_bytes_max(sim);
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        if (i == host->index)
            continue;
        courtesy += most;
        check_bounded(host->name, "bytes of hints",
                      bytes_of_hints(sim, host, &sim->hosts[i], false), most,
                      &sim->verdict);
    }
    check_bounded(host->name, "bytes of hints and of a fallback's records",
                  bytes_of_hints(sim, host, NULL, true),
                  limits->fallback_bytes_max + courtesy, &sim->verdict);
}

static void watch_requests(struct sim *sim, const struct host *host)
{
    uint64_t counts[TASK_ADMIN + 1] = {0};
    for (size_t i = 0; i < host->asked_count; i++)
        if (host->asked[i].asker == ASKER_ATTEMPT)
            counts[host->asked[i].c]++;
    uint64_t limit = sim->plan.limits.inflight_max;
    check_bounded(host->name, "reads", counts[TASK_READ], limit, &sim->verdict);
    check_bounded(host->name, "writes", counts[TASK_WRITE], limit,
                  &sim->verdict);
}

static bool runs(const struct sim *sim, const struct host *host)
{
    return host->node != NULL && host->paused_until_us <= sim->now_us &&
           host->version_min <= PEER_VERSION_MAX &&
           host->leaving_life != host->life && !host->is_halting;
}

/* What was sent while it was clogged is late for longer. */
static bool is_late(const struct sim *sim, uint32_t a, uint32_t b)
{
    uint32_t current = sim->network.current[a][b][LANE_CONTROL];
    int64_t usual_us = sim->now_us + 10 * sim->plan.latency_us;
    if (current == 0)
        return false;
    const struct session *session = &sim->network.sessions[current - 1];
    for (size_t i = 0; i < DIRECTION_COUNT; i++)
        if (session->pipes[i].first != NULL &&
            session->pipes[i].first->ready_us > usual_us)
            return true;
    return false;
}

static bool can_talk(const struct sim *sim, uint32_t a, uint32_t b)
{
    const struct network *network = &sim->network;
    bool can = !network->cut[a][b] && !network->cut[b][a] &&
               !is_late(sim, a, b) && !is_late(sim, b, a) &&
               runs(sim, &sim->hosts[a]) && runs(sim, &sim->hosts[b]);
    for (size_t lane = 0; lane < LANE_COUNT; lane++)
        can = can && network->clogged_us[a][b][lane] == 0 &&
              network->clogged_us[b][a][lane] == 0;
    return can;
}

/* Directly, or by way of a third, which is asked to probe. */
static bool can_reach(const struct sim *sim, uint32_t a, uint32_t b)
{
    bool can = can_talk(sim, a, b);
    for (uint32_t i = 0; i < sim->plan.hosts && !can; i++)
        can = i != a && i != b && can_talk(sim, a, i) && can_talk(sim, i, b);
    return can;
}

static bool holds_dead(const struct host *host, const struct host *other)
{
    const struct member *member =
        membership_find(node_membership(host->node), other->id);
    return member != NULL &&
           (member->state == MEMBER_DEAD || member->state == MEMBER_LEFT);
}

/* All ticks of a pair count, whosever they are: less than a tick is missed of
 * what disturbs it. */
static void watch_deaths(struct sim *sim, struct host *host)
{
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        struct pair *pair = &sim->pairs[host->index][i];
        if (i == host->index || !host_is_here(host) ||
            !host_is_here(&sim->hosts[i]))
            continue;
        struct pair *back = &sim->pairs[i][host->index];
        if (!can_talk(sim, host->index, i))
            pair->apart_us = back->apart_us = sim->now_us;
        if (!can_reach(sim, host->index, i))
            pair->unreached_us = back->unreached_us = sim->now_us;
        if (!holds_dead(host, &sim->hosts[i]))
            pair->not_dead_us = sim->now_us;
        check_no_false_death(host->name, sim->hosts[i].name,
                             sim->now_us - pair->not_dead_us,
                             sim->now_us - pair->unreached_us, &sim->verdict);
    }
}

static bool has_clocks(const struct host *host)
{
    return host->version_max >= PEER_VERSION_CLOCK;
}

/* Some tries, each a second behind the one before. */
static void watch_clocks(const struct sim *sim, struct host *host)
{
    enum { TRIES_US = FALSE_DEATH_US_MAX + 1500 * 1000 };
    size_t count = 0;
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        count += i != host->index && has_clocks(&sim->hosts[i]) &&
                 sim->now_us - sim->pairs[host->index][i].apart_us > TRIES_US;
    host->knows_clocks |= has_clocks(host) && count > 1;
}

void watch_clock(struct sim *sim, const struct host *host,
                 const struct storage_op *op)
{
    struct host_walls walls = host_right_walls(sim);
    int64_t skew_ms = sim->plan.timeouts.clock_skew_max_ms;
    bool writes = op->kind == STORAGE_COORDINATE || op->kind == STORAGE_MERGE;
    if (writes && host->knows_clocks)
        check_clock(host->name, op->wall_ms, walls.earliest_ms - skew_ms,
                    walls.latest_ms + skew_ms, &sim->verdict);
    /* All members agree on what is old, of which one alone may be wrong. */
    if (op->kind == STORAGE_COLLECT)
        check_clock(host->name,
                    op->wall_ms + sim->plan.timeouts.dedup_window_ms / 2, 0,
                    walls.latest_ms, &sim->verdict);
}

void watch(struct sim *sim, struct host *host)
{
    watch_hints(sim, host);
    watch_requests(sim, host);
    watch_deaths(sim, host);
    watch_clocks(sim, host); /* now it is known who could talk to whom */
}

void watch_started(struct sim *sim, const struct host *host)
{
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        sim->pairs[host->index][i] = sim->pairs[i][host->index] =
            (struct pair){sim->now_us, sim->now_us, sim->now_us};
}
