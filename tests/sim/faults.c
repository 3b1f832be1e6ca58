/* SPDX-License-Identifier: MIT */
#include "sim.h"

/* What goes wrong, and how often. The weights are here and nowhere else, so
 * that nobody tunes a seed to green.
 *
 * Faults that lose a disk strike one node a run: an acknowledged write is on W
 * replicas, W is 2 at least in those runs, and W-1 of them may go. Nothing
 * certifies more yet. */
static const uint32_t weights[FAULT_KIND_COUNT] = {
    [FAULT_RESET] = 25,  [FAULT_CUT] = 12,  [FAULT_CUT_ONE_WAY] = 10,
    [FAULT_ISOLATE] = 6, [FAULT_SPLIT] = 8, [FAULT_CLOG] = 10,
    [FAULT_CRASH] = 18,  [FAULT_PAUSE] = 8, [FAULT_WALL_JUMP] = 5,
    [FAULT_WIPE] = 20,   [FAULT_STOP] = 8,  [FAULT_NIGHT] = 6,
};

/* Longer than the dedup window of 150 s and two such offsets: what was written
 * before is old then. Whoever waits for an answer has given up. */
#define NIGHT_US (INT64_C(200) * 1000000)

static uint32_t draw_host(struct sim *sim)
{
    return (uint32_t)random_below(&sim->strike_random, sim->plan.hosts);
}

static uint32_t draw_other(struct sim *sim, uint32_t host)
{
    uint32_t step =
        1 + (uint32_t)random_below(&sim->strike_random, sim->plan.hosts - 1);
    return (host + step) % sim->plan.hosts;
}

static enum fault draw_fault(struct sim *sim)
{
    uint32_t sum = 0, kind = 0;
    for (size_t i = 0; i < FAULT_KIND_COUNT; i++)
        sum += weights[i];
    uint32_t drawn = (uint32_t)random_below(&sim->strike_random, sum);
    while (drawn >= weights[kind])
        drawn -= weights[kind++];
    return (enum fault)kind;
}

static void ends_in(struct sim *sim, enum fault fault, uint32_t host,
                    uint32_t other, int64_t least_ms, int64_t most_ms)
{
    sim_in(sim, random_range(&sim->strike_random, least_ms, most_ms) * 1000,
           MOMENT_FAULT_ENDS, fault, host, other);
}

static void reset(struct sim *sim)
{
    struct network *network = &sim->network;
    for (int tries = 0; tries < 20; tries++) {
        uint32_t at =
            (uint32_t)random_below(&sim->strike_random, network->high + 1);
        struct session *session = &network->sessions[at % SESSIONS_MAX];
        if (!session->used || session->is_abandoned)
            continue;
        sim_tell(sim, "net", "session %s to %s, lane %d, is reset",
                 sim->hosts[session->dialer].name,
                 sim->hosts[session->listener].name, session->lane);
        network_reset(sim, at);
        return;
    }
}

static void cut(struct sim *sim, uint32_t from, uint32_t to, bool on)
{
    sim->network.cut[from][to] = on;
}

static void isolate(struct sim *sim, uint32_t host, bool on)
{
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        if (i != host)
            sim->network.cut[host][i] = sim->network.cut[i][host] = on;
}

/* Two halves; a bit of side says where each node is. */
static void split(struct sim *sim, uint32_t side, bool on)
{
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        for (uint32_t k = 0; k < sim->plan.hosts; k++)
            if ((side >> i & 1) != (side >> k & 1))
                sim->network.cut[i][k] = on;
}

static void crash(struct sim *sim, struct host *host, bool wipe)
{
    if (host->node == NULL)
        return;
    sim_tell(sim, host->name, wipe ? "crashes and loses its disk" : "crashes");
    host_crash(sim, host);
    if (wipe) {
        storage_wipe(&host->storage);
        host->is_wiped = true;
        sim->wipes++;
        sim->wiped_us = sim->now_us;
        sim->history.disk_was_lost = true;
    }
    /* Some operators know at once that the disk is gone. */
    host->with_replace = wipe && random_chance(&sim->strike_random, 300);
    sim_in(sim, random_range(&sim->strike_random, 20, 1500) * 1000,
           MOMENT_START, host->index, host->life, 0);
}

/* It says goodbye, and goes on for as long as its last replies take. */
static void leave(struct sim *sim, struct host *host)
{
    if (host->node == NULL || host->paused_until_us > sim->now_us)
        return;
    struct event event = {.kind = EVENT_LEAVE};
    sim_tell(sim, host->name, "is told to stop");
    host->leaving_life = host->life;
    host_step(sim, host, &event);
    ends_in(sim, FAULT_STOP, host->index, host->life, 1, 100);
}

/* All lanes, or one of them. */
static void clog_lanes(struct sim *sim, uint32_t from, uint32_t to)
{
    int64_t late_us = random_range(&sim->strike_random, 10, 1200) * 1000;
    uint64_t which = random_below(&sim->strike_random, 2 * LANE_COUNT);
    for (uint64_t lane = 0; lane < LANE_COUNT; lane++)
        if (which >= LANE_COUNT || which == lane)
            sim->network.clogged_us[from][to][lane] = late_us;
    sim_tell(sim, sim->hosts[from].name, "is %lld ms late at %s, lanes %s",
             (long long)late_us / 1000, sim->hosts[to].name,
             which == LANE_CONTROL      ? "control"
             : which == LANE_FOREGROUND ? "foreground"
             : which == LANE_BULK       ? "bulk"
                                        : "all");
}

static void unclog_lanes(struct sim *sim, uint32_t from, uint32_t to)
{
    for (size_t lane = 0; lane < LANE_COUNT; lane++)
        sim->network.clogged_us[from][to][lane] = 0;
}

static bool is_leaving(const struct host *host)
{
    return host->node != NULL && host->leaving_life == host->life;
}

/* A newcomer and one other are a majority that may know of no other disk: an
 * emptied one that was ready with the third alone is then taken for new. */
static bool can_wipe(const struct sim *sim, const struct host *host)
{
    return sim->plan.may_wipe && sim->wipes == 0 && host->node != NULL &&
           host_is_known(sim, host);
}

static void jump(struct sim *sim, struct host *host)
{
    host->wall_offset_ms = random_range(
        &sim->strike_random, -WALL_OFFSET_MAX_MS, WALL_OFFSET_MAX_MS);
    sim_tell(sim, host->name, "has its wall clock set to %+lld ms",
             (long long)host->wall_offset_ms);
}

/* All machines and what is between them stand still, but for the clocks. */
void faults_night(struct sim *sim)
{
    sim_tell(sim, "all", "stand still for %d s", (int)(NIGHT_US / 1000000));
    network_night(sim);
    attempts_night(sim);
    sim->slept_us += NIGHT_US;
    sim->history.night_us = sim->now_us;
}

static void strike(struct sim *sim, enum fault fault, uint32_t a)
{
    uint32_t b = draw_other(sim, a);
    struct host *host = &sim->hosts[a];
    const char *other = sim->hosts[b].name;
    switch ((int)fault) {
    case FAULT_RESET:
        reset(sim);
        break;
    case FAULT_CUT:
        sim_tell(sim, host->name, "and %s are cut off", other);
        cut(sim, a, b, true);
        cut(sim, b, a, true);
        ends_in(sim, fault, a, b, 100, 3000);
        break;
    case FAULT_CUT_ONE_WAY:
        sim_tell(sim, host->name, "is not heard by %s any more", other);
        cut(sim, a, b, true);
        ends_in(sim, fault, a, b, 100, 3000);
        break;
    case FAULT_ISOLATE:
        sim_tell(sim, host->name, "is cut off from all");
        isolate(sim, a, true);
        ends_in(sim, fault, a, b, 100, 3000);
        break;
    case FAULT_SPLIT:
        b = 1 + (uint32_t)random_below(&sim->strike_random,
                                       (1u << sim->plan.hosts) - 2);
        split(sim, b, true);
        sim_tell(sim, "net", "the cluster is split, side %x", b);
        ends_in(sim, fault, a, b, 200, 3000);
        break;
    case FAULT_CLOG:
        clog_lanes(sim, a, b);
        ends_in(sim, fault, a, b, 200, 3000);
        break;
    case FAULT_CRASH:
        crash(sim, host, false);
        break;
    case FAULT_PAUSE:
        host->paused_until_us =
            sim->now_us + random_range(&sim->strike_random, 20, 1500) * 1000;
        sim_tell(sim, host->name, "stands still");
        break;
    case FAULT_WALL_JUMP:
        jump(sim, host);
        break;
    case FAULT_WIPE:
        crash(sim, host, true);
        break;
    case FAULT_STOP:
        leave(sim, host);
        break;
    case FAULT_NIGHT:
        faults_night(sim);
        break;
    }
}

/* Each draws from a stream of its own: those behind one that is left out are
 * what they were, but for wipes, of which there is one. */
void faults_next(struct sim *sim)
{
    const struct fault_set *only = sim->options->only;
    sim->strike_random = random_fork(&sim->fault_random);
    sim->fault_number++;
    if (only == NULL || fault_set_has(only, sim->fault_number)) {
        uint32_t host = draw_host(sim);
        enum fault fault = draw_fault(sim);
        while ((fault == FAULT_WIPE && !can_wipe(sim, &sim->hosts[host])) ||
               (fault == FAULT_NIGHT && !sim->plan.has_nights))
            fault = draw_fault(sim);
        sim->tally->faults[fault]++;
        sim_tell(sim, "fault", "%u", sim->fault_number);
        strike(sim, fault, host);
    }
    faults_start(sim);
}

void faults_start(struct sim *sim)
{
    sim_in(sim,
           random_range(&sim->fault_random, sim->plan.fault_every_us / 4,
                        sim->plan.fault_every_us * 2),
           MOMENT_FAULT, 0, 0, 0);
}

void faults_end(struct sim *sim, uint32_t which, uint32_t host, uint32_t other)
{
    const char *name = sim->hosts[host].name;
    if (which == FAULT_ISOLATE) {
        isolate(sim, host, false);
        sim_tell(sim, name, "is joined to all again");
    } else if (which == FAULT_SPLIT) {
        split(sim, other, false);
        sim_tell(sim, "net", "the cluster is whole again");
    } else if (which == FAULT_STOP) {
        if (is_leaving(&sim->hosts[host]))
            crash(sim, &sim->hosts[host], false);
    } else if (which == FAULT_CLOG) {
        unclog_lanes(sim, host, other);
    } else {
        cut(sim, host, other, false);
        if (which == FAULT_CUT)
            cut(sim, other, host, false);
        sim_tell(sim, name, "is joined to %s again", sim->hosts[other].name);
    }
}

void faults_heal(struct sim *sim)
{
    sim_tell(sim, "all", "faults end");
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        struct host *host = &sim->hosts[i];
        isolate(sim, i, false);
        host->paused_until_us = 0;
        storage_heal(&host->storage);
        for (uint32_t k = 0; k < sim->plan.hosts; k++)
            unclog_lanes(sim, i, k);
        if (is_leaving(host))
            host_crash(sim, host);
        if (host->node == NULL)
            host_start(sim, host);
    }
}
