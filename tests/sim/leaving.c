/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "sim.h"

/* An operator who has a node leave: he asks some other node, or the node
 * itself, again and again until it is decreed. One that is lost for good is
 * gone before he does. */

enum { ASK_EVERY_US = 200 * 1000 };

bool leaving_can(const struct sim *sim, const struct host *host,
                 bool may_be_lost)
{
    uint32_t here = 0;
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        if (sim->hosts[i].own_version_max < PEER_VERSION_TOPOLOGY)
            return false;
        here += host_is_here(&sim->hosts[i]);
    }
    /* It may be lost on its way. */
    if (may_be_lost && sim->is_moving)
        return sim->mover == host->index && host_is_here(host);
    return here > sim->plan.replicas && sim->leaving.host == HOSTS_MAX &&
           !sim->is_moving && host_is_here(host) && host->node != NULL &&
           (!sim->plan.is_without_exchange || sim->plan.is_of_leaves);
}

void leaving_begin(struct sim *sim, struct host *host, bool is_lost)
{
    uint32_t rival =
        (uint32_t)random_below(&sim->strike_random, sim->plan.hosts);
    host->is_lost = is_lost;
    sim->leaving = (struct leaving){host->index, HOSTS_MAX, is_lost};
    sim_tell(sim, host->name, "%s",
             is_lost ? "is lost for good" : "is to leave");
    if (!is_lost && host_is_here(&sim->hosts[rival]) &&
        random_chance(&sim->strike_random, 500)) {
        sim->leaving.rival = rival;
        sim_tell(sim, sim->hosts[rival].name, "is to leave, too");
        /* While the first is being decreed, or a little before. */
        sim_in(sim, random_range(&sim->strike_random, 0, 20000),
               MOMENT_OPERATOR, 1, 0, 0);
    }
    sim_in(sim, 0, MOMENT_OPERATOR, 0, 0, 0);
}

/* Of any node that is there. */
static void ask(struct sim *sim, uint32_t leaver)
{
    struct host *host =
        &sim->hosts[random_below(&sim->random, sim->plan.hosts)];
    if (leaver == HOSTS_MAX || host->node == NULL ||
        host->paused_until_us > sim->now_us)
        return;
    Rkv__Admin admin = RKV__ADMIN__INIT;
    char name[8];
    snprintf(name, sizeof name, "%s", sim->hosts[leaver].name);
    admin.what = RKV__ADMIN__WHAT__LEAVE;
    admin.node = name;
    admin.lost = sim->leaving.is_lost;
    admin.commit = true;
    arena_reset(&sim->arena);
    struct event event = {
        .kind = EVENT_CLIENT_REQUEST,
        .message = envelope_new(&sim->arena, RKV__ENVELOPE__BODY_ADMIN, &admin),
        .token =
            host_expect(sim, host, (struct asked){.asker = ASKER_OPERATOR}),
    };
    host_step(sim, host, &event);
}

void leaving_ask(struct sim *sim, uint32_t which)
{
    struct leaving *leaving = &sim->leaving;
    if (leaving->host == HOSTS_MAX)
        return;
    const struct host *host = &sim->hosts[leaving->host];
    bool is_decreed = host->has_left ||
                      (sim->is_moving && (!leaving->is_lost || sim->is_lost));
    /* He waits for better weather, with one that is not lost. */
    if (is_decreed || (sim->stage != SIM_FAULTS && !leaving->is_lost)) {
        leaving->host = HOSTS_MAX;
        return;
    }
    ask(sim, which == 0 ? leaving->host : leaving->rival);
    sim_in(sim, ASK_EVERY_US, MOMENT_OPERATOR, which, 0, 0);
}

void leaving_settled(struct sim *sim, struct host *host)
{
    sim_tell(sim, host->name, "has left");
    storage_close(&host->storage);
    storage_wipe(&host->storage);
}
