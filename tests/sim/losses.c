/* SPDX-License-Identifier: MIT */
#include "losses.h"

#include "proto/assert.h"
#include "sim.h"

void losses_add(struct sim *sim, unsigned keys)
{
    static struct record_view view; /* large; one thread */
    struct copy copies[COPIES_MAX];
    struct losses *losses = &sim->losses;
    ASSERT(losses->count < LOSSES_MAX);
    losses->list[losses->count].at_us = sim->now_us;
    losses->list[losses->count++].keys = keys;
    sim->history.disk_was_lost = true;
    for (uint32_t k = 0; k < sim->plan.keys; k++) {
        size_t count = observe_copies(sim, k, copies);
        losses->known[k].count = 0;
        for (size_t i = 0; i < count; i++)
            if (record_view_read(&view, copies[i].data, copies[i].size))
                floor_raise(&losses->known[k], &view);
    }
}

uint32_t losses_since(const struct sim *sim, uint32_t key, int64_t us)
{
    const struct losses *losses = &sim->losses;
    uint32_t count = 0;
    for (uint32_t i = 0; i < losses->count; i++)
        count +=
            losses->list[i].at_us >= us && (losses->list[i].keys >> key & 1);
    return count;
}

static bool is_above(const struct copy *copy, const struct read_floor *floor)
{
    static struct record_view view; /* large; one thread */
    if (!record_view_read(&view, copy->data, copy->size))
        return false;
    for (size_t i = 0; i < floor->count; i++)
        if (view_counter(view.context, view.context_count, &floor->dots[i]) <
            floor->dots[i].counter)
            return false;
    return true;
}

static bool is_at_all_owners(const struct sim *sim, uint32_t key)
{
    struct copy copies[COPIES_MAX];
    struct read_floor floor = sim->losses.known[key];
    size_t above = 0, asked = 0;
    floor_forget(&floor, &sim->forgotten[key]);
    for (size_t i = 0; i < floor.count; i++)
        asked += floor.dots[i].counter > 0;
    if (asked == 0)
        return true;
    size_t count = observe_primaries(sim, key, copies);
    for (size_t i = 0; i < count; i++)
        above += is_above(&copies[i], &floor);
    return above == sim->keys[key].owner_count;
}

static bool is_sound(const struct disk_table *table)
{
    const unsigned damaged = ~(1u << SOUND);
    return disk_table_count(table, TABLE_DATA, damaged) == 0 &&
           disk_table_count(table, TABLE_HINTS, damaged) == 0;
}

/* It is not known what, before it is opened. */
static bool may_lack(const struct host *host)
{
    const struct tree *tree = host->storage.store.tree;
    return tree != NULL && tree->is_damaged && host->node == NULL;
}

bool losses_are_mended(const struct sim *sim)
{
    if (sim->losses.count == 0)
        return true;
    if (sim->losses.count == LOSSES_MAX)
        return false;
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        const struct host *host = &sim->hosts[i];
        if (!host->has_left && (host->lost != LOST_NOTHING || may_lack(host) ||
                                !is_sound(&host->storage.store.table)))
            return false;
    }
    for (uint32_t k = 0; k < sim->plan.keys; k++)
        if (!is_at_all_owners(sim, k))
            return false;
    return true;
}
