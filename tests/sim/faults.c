/* SPDX-License-Identifier: MIT */
#include "sim.h"

/* What goes wrong, and how often. The weights are here and nowhere else, so
 * that nobody tunes a seed to green. Of what disks lose, see losses.h. */
static const uint32_t weights[FAULT_KIND_COUNT] = {
    [FAULT_RESET] = 25,         [FAULT_CUT] = 12,    [FAULT_CUT_ONE_WAY] = 10,
    [FAULT_ISOLATE] = 6,        [FAULT_SPLIT] = 8,   [FAULT_CLOG] = 10,
    [FAULT_CRASH] = 18,         [FAULT_PAUSE] = 8,   [FAULT_WALL_JUMP] = 5,
    [FAULT_WIPE] = 16,          [FAULT_STOP] = 10,   [FAULT_NIGHT] = 6,
    [FAULT_OLD_COPY] = 12,      [FAULT_DAMAGE] = 24, [FAULT_FULL] = 4,
    [FAULT_OTHER_BUILD] = 4,    [FAULT_SLOW] = 6,    [FAULT_LEAVE] = 20,
    [FAULT_LOST_FOR_GOOD] = 20,
};

uint32_t fault_weight(enum fault fault)
{
    return weights[fault];
}

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

static bool reset(struct sim *sim)
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
        return true;
    }
    return false;
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

/* Before it is started again somebody copies the disk, now and then. */
static void copy(struct sim *sim, struct host *host)
{
    struct store *store = &host->storage.store;
    if (!random_chance(&sim->strike_random, 700) || !store_is_sure(store) ||
        host->lost != LOST_NOTHING || host_is_being_filled(host) ||
        (store->tree != NULL && store->tree->is_damaged))
        return;
    sim_tell(sim, host->name, "has its disk copied");
    store_copy(store);
    host->copied_boot = host->boot;
}

static bool crash(struct sim *sim, struct host *host, enum lost lost)
{
    static const char *const told[] = {
        [LOST_NOTHING] = "crashes",
        [LOST_LATEST] = "crashes, and an older copy of its disk is put back",
        [LOST_ALL] = "crashes and loses its disk",
    };
    if (host->node == NULL)
        return false;
    sim_tell(sim, host->name, "%s", told[lost]);
    host_crash(sim, host);
    if (lost == LOST_ALL)
        storage_wipe(&host->storage);
    if (lost == LOST_LATEST)
        store_put_back(&host->storage.store);
    if (lost != LOST_NOTHING) {
        host->lost = lost;
        losses_add(sim, ALL_KEYS);
    }
    copy(sim, host);
    /* Some operators know at once that the disk is gone. */
    host->with_replace =
        lost != LOST_NOTHING && random_chance(&sim->strike_random, 300);
    sim_in(sim, random_range(&sim->strike_random, 20, 1500) * 1000,
           MOMENT_START, host->index, host->life, 0);
    return true;
}

bool faults_crash(struct sim *sim, struct host *host)
{
    return crash(sim, host, LOST_NOTHING);
}

/* Its successor, which speaks nothing that the others do, or its own. */
static void set_build(struct host *host, bool is_other)
{
    host->version_min = is_other ? PEER_VERSION_MAX + 1 : PEER_VERSION_MIN;
    host->version_max = is_other ? PEER_VERSION_MAX + 1 : host->own_version_max;
}

static bool run_other_build(struct sim *sim, struct host *host)
{
    if (host->node == NULL || host->version_min > PEER_VERSION_MAX)
        return false;
    crash(sim, host, LOST_NOTHING);
    set_build(host, true);
    sim_tell(sim, host->name, "is to run another build");
    ends_in(sim, FAULT_OTHER_BUILD, host->index, 0, 200, 3000);
    return true;
}

static void run_this_build(struct sim *sim, struct host *host)
{
    set_build(host, false);
    sim_tell(sim, host->name, "is to run this build again");
    crash(sim, host, LOST_NOTHING);
}

/* It says goodbye, and goes on for as long as its last replies take. */
static bool leave(struct sim *sim, struct host *host)
{
    if (host->node == NULL || host->paused_until_us > sim->now_us)
        return false;
    struct event event = {.kind = EVENT_LEAVE};
    sim_tell(sim, host->name, "is told to stop");
    host->leaving_life = host->life;
    host_step(sim, host, &event);
    ends_in(sim, FAULT_STOP, host->index, host->life, 1, 100);
    return true;
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
bool faults_can_lose(const struct sim *sim, const struct host *host)
{
    return sim->plan.may_lose && host->node != NULL &&
           host_is_known(sim, host) && losses_are_mended(sim);
}

/* The next host from this one on whose disk may turn out an older copy. One of
 * an earlier run is told by the boot; one of this run by nothing. */
static struct host *older_copy(struct sim *sim, uint32_t from)
{
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        struct host *host = &sim->hosts[(from + i) % sim->plan.hosts];
        if (host->copied_boot > 0 && host->copied_boot < host->boot &&
            faults_can_lose(sim, host))
            return host;
    }
    return NULL;
}

static bool can_strike(struct sim *sim, enum fault fault,
                       const struct host *host)
{
    switch ((int)fault) {
    case FAULT_CRASH:
    case FAULT_STOP:
    case FAULT_OTHER_BUILD:
    case FAULT_FULL:
        return !sim->plan.is_without_exchange;
    case FAULT_WIPE:
        return !sim->plan.is_without_exchange && faults_can_lose(sim, host);
    case FAULT_OLD_COPY:
        return !sim->plan.is_without_exchange &&
               older_copy(sim, host->index) != NULL;
    case FAULT_LEAVE:
        return leaving_can(sim, host, false);
    case FAULT_LOST_FOR_GOOD:
        return leaving_can(sim, host, true) && faults_can_lose(sim, host);
    case FAULT_DAMAGE:
        return damage_can(sim, host);
    case FAULT_NIGHT:
        return sim->plan.has_nights;
    }
    return true;
}

static void jump(struct sim *sim, struct host *host)
{
    bool is_wild = host->index == sim->plan.wild;
    int64_t most_ms = is_wild ? WILD_OFFSET_MAX_MS : WALL_OFFSET_MAX_MS;
    sim->history.clock_was_wrong |= is_wild;
    host->wall_offset_ms = random_range(&sim->strike_random, -most_ms, most_ms);
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

static void isolate_now(struct sim *sim, uint32_t host)
{
    isolate(sim, host, true);
    sim_tell(sim, sim->hosts[host].name, "is cut off from all");
    sim->tally->faults[FAULT_ISOLATE]++;
    ends_in(sim, FAULT_ISOLATE, host, 0, 100, 3000);
}

/* Half of what disks lose they lose in the worst moment: see faults_wrote. */
static bool waits(struct sim *sim, enum fault fault)
{
    if (!random_chance(&sim->strike_random, 500))
        return false;
    sim->armed = (struct armed){.fault = fault,
                                .until_us = sim->now_us + ARMED_US,
                                .random = sim->strike_random};
    return true;
}

/* False, here and below: there was nothing to strike, or it is counted when it
 * does. */
static bool strike_disk(struct sim *sim, enum fault fault, struct host *host)
{
    int64_t until_us =
        sim->now_us + random_range(&sim->strike_random, 20, 1500) * 1000;
    switch ((int)fault) {
    case FAULT_WIPE:
        return !waits(sim, fault) && crash(sim, host, LOST_ALL);
    case FAULT_OLD_COPY:
        return crash(sim, older_copy(sim, host->index), LOST_LATEST);
    case FAULT_DAMAGE:
        if (!waits(sim, fault))
            damage(sim, host);
        return false;
    case FAULT_FULL:
        host->full_until_us = until_us;
        sim_tell(sim, host->name, "has a full disk");
        break;
    case FAULT_SLOW:
        host->slow_until_us = until_us;
        sim_tell(sim, host->name, "has a slow disk");
        break;
    }
    return true;
}

static bool strike(struct sim *sim, enum fault fault, uint32_t a)
{
    uint32_t b = draw_other(sim, a);
    struct host *host = &sim->hosts[a];
    const char *other = sim->hosts[b].name;
    switch ((int)fault) {
    case FAULT_RESET:
        return reset(sim);
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
        isolate_now(sim, a);
        return false;
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
        return crash(sim, host, LOST_NOTHING);
    case FAULT_PAUSE:
        host->paused_until_us =
            sim->now_us + random_range(&sim->strike_random, 20, 1500) * 1000;
        sim_tell(sim, host->name, "stands still");
        break;
    case FAULT_WALL_JUMP:
        jump(sim, host);
        break;
    case FAULT_WIPE:
    case FAULT_OLD_COPY:
    case FAULT_DAMAGE:
    case FAULT_FULL:
    case FAULT_SLOW:
        return strike_disk(sim, fault, host);
    case FAULT_OTHER_BUILD:
        return run_other_build(sim, host);
    case FAULT_STOP:
        return leave(sim, host);
    case FAULT_NIGHT:
        faults_night(sim);
        break;
    case FAULT_LEAVE:
        leaving_begin(sim, host, false);
        break;
    case FAULT_LOST_FOR_GOOD:
        crash(sim, host, LOST_ALL);
        leaving_begin(sim, host, true);
        break;
    }
    return true;
}

static bool lose_it(struct sim *sim, struct host *host, uint32_t key)
{
    if (sim->armed.fault == FAULT_DAMAGE)
        return damage_key(sim, host, key);
    if (!faults_can_lose(sim, host))
        return false;
    sim->tally->faults[FAULT_WIPE]++;
    return crash(sim, host, LOST_ALL);
}

/* A write is on some of its key's owners, and not on all. One of them loses it,
 * and the others that have it are cut off: what one disk lost the rest must not
 * take for nothing. */
void faults_wrote(struct sim *sim, uint32_t key, uint32_t write)
{
    bool has[SIM_OWNERS_MAX];
    if (sim->stage != SIM_FAULTS || sim->now_us > sim->armed.until_us)
        return;
    size_t count = observe_holders(sim, key, write, has);
    if (count == 0 || count == sim->plan.replicas || sim->is_moving)
        return;
    sim->strike_random = sim->armed.random;
    size_t first = random_below(&sim->strike_random, sim->plan.replicas),
           loser = first;
    while (!has[loser])
        loser = (loser + 1) % sim->plan.replicas;
    const uint32_t *owners = sim->keys[key].owners;
    if (!lose_it(sim, &sim->hosts[owners[loser]], key))
        return;
    sim->armed.until_us = 0;
    for (size_t i = 0; i < sim->plan.replicas; i++)
        if (has[i] && i != loser)
            isolate_now(sim, owners[i]);
}

/* Each draws from a stream of its own: those behind one that is left out are
 * what they were, but for those that cannot strike then. */
void faults_next(struct sim *sim)
{
    const struct fault_set *only = sim->options->only;
    sim->strike_random = random_fork(&sim->fault_random);
    sim->fault_number++;
    if (only == NULL || fault_set_has(only, sim->fault_number)) {
        uint32_t host = draw_host(sim);
        enum fault fault = draw_fault(sim);
        if (sim->plan.wild != HOSTS_MAX &&
            random_chance(&sim->strike_random, 300)) {
            host = sim->plan.wild;
            fault = FAULT_WALL_JUMP;
        }
        if (sim->plan.is_of_leaves && random_chance(&sim->strike_random, 500))
            fault = random_chance(&sim->strike_random, 500) ? FAULT_LEAVE
                                                            : FAULT_CLOG;
        while (!can_strike(sim, fault, &sim->hosts[host]))
            fault = draw_fault(sim);
        sim_tell(sim, "fault", "%u", sim->fault_number);
        sim->tally->faults[fault] += strike(sim, fault, host);
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

static void end_leaving(struct sim *sim, struct host *host)
{
    if (!is_leaving(host))
        return;
    if (node_is_ready(host->node) && storage_is_idle(&host->storage))
        host_save_trees(sim, host);
    crash(sim, host, LOST_NOTHING);
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
        end_leaving(sim, &sim->hosts[host]);
    } else if (which == FAULT_OTHER_BUILD) {
        run_this_build(sim, &sim->hosts[host]);
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
        host->paused_until_us = host->full_until_us = host->slow_until_us = 0;
        if (host->version_min > PEER_VERSION_MAX && host->node != NULL)
            host_crash(sim, host);
        set_build(host, false);
        storage_heal(&host->storage);
        for (uint32_t k = 0; k < sim->plan.hosts; k++)
            unclog_lanes(sim, i, k);
        if (is_leaving(host))
            host_crash(sim, host);
        if (host->node == NULL && host_is_here(host))
            host_start(sim, host);
    }
}
