/* SPDX-License-Identifier: MIT */
#include "sim.h"

/* Disks that do not give what was stored: records of which a bit is another,
 * or that the engine cannot read. */

/* Whoever waits for others counts what a disk has stored, though it is lost
 * meanwhile: that is two losses of one write. */
static bool is_awaited(const struct sim *sim, uint32_t key)
{
    for (uint32_t i = 0; i < sim->plan.clients; i++)
        if (sim->clients[i].task == TASK_WRITE && sim->clients[i].key == key)
            return true;
    return false;
}

static bool can_damage_entry(const struct sim *sim,
                             const struct disk_entry *entry)
{
    uint32_t key = observe_key(sim, buffer_bytes(&entry->key));
    return key != KEYS_MAX && !is_awaited(sim, key) && entry->value.size > 0 &&
           entry->damage == SOUND;
}

static void damage_at(const struct sim *sim, struct host *host, size_t at,
                      struct randomness *random)
{
    struct store *store = &host->storage.store;
    struct disk_entry *entry = &store->table.entries[at];
    entry->damaged_us = sim->now_us;
    /* The tree reads its own blocks, and of a hint that would last. */
    if (store->tree == NULL && entry->key.data[0] == TABLE_DATA &&
        random_chance(random, 500))
        store_make_unreadable(store, at);
    else
        store_flip(store, at, random_below(random, entry->value.size * 8));
}

static void finish(struct sim *sim, struct host *host, unsigned keys)
{
    sim->tally->faults[FAULT_DAMAGE]++;
    host->damaged_us = sim->now_us;
    losses_add(sim, keys);
}

/* A block of a table: it is found when the tree is opened. */
static void damage_tree(struct sim *sim, struct host *host)
{
    for (uint32_t k = 0; k < sim->plan.keys; k++)
        if (is_awaited(sim, k))
            return;
    if (!faults_crash(sim, host) || !tree_flip(host->storage.store.tree))
        return;
    sim_tell(sim, host->name, "has a block of its disk damaged");
    finish(sim, host, ALL_KEYS);
}

/* One to three of its records, or a block of its tree. */
void damage(struct sim *sim, struct host *host)
{
    struct store *store = &host->storage.store;
    if (store->tree != NULL && faults_can_lose(sim, host) &&
        random_chance(&sim->strike_random, 500)) {
        damage_tree(sim, host);
        return;
    }
    struct randomness *random = &sim->strike_random;
    uint64_t wanted = 1 + random_below(random, 3), damaged = 0;
    unsigned keys = 0;
    for (int tries = 0; tries < 50 && damaged < wanted; tries++) {
        size_t at = random_below(random, store->table.count);
        if (!can_damage_entry(sim, &store->table.entries[at]))
            continue;
        keys |=
            1u << observe_key(sim, buffer_bytes(&store->table.entries[at].key));
        damage_at(sim, host, at, random);
        damaged++;
    }
    sim_tell(sim, host->name, "has %llu records damaged",
             (unsigned long long)damaged);
    if (damaged > 0)
        finish(sim, host, keys);
}

/* Where the host has its copy of the key, or the count of all. */
static size_t find_copy(const struct sim *sim, const struct host *host,
                        uint32_t key)
{
    const struct disk_table *table = &host->storage.store.table;
    size_t at = 0;
    while (at < table->count &&
           (table->entries[at].key.data[0] != TABLE_DATA ||
            observe_key(sim, buffer_bytes(&table->entries[at].key)) != key))
        at++;
    return at;
}

bool damage_key(struct sim *sim, struct host *host, uint32_t key)
{
    size_t at = find_copy(sim, host, key);
    if (!damage_can(sim, host) || at == host->storage.store.table.count ||
        !can_damage_entry(sim, &host->storage.store.table.entries[at]))
        return false;
    damage_at(sim, host, at, &sim->strike_random);
    sim_tell(sim, host->name, "has its copy of %s damaged",
             sim->keys[key].name);
    finish(sim, host, 1u << key);
    return true;
}

/* What is lost of a disk that is being filled is no more than it lacks. */
bool damage_can(const struct sim *sim, const struct host *host)
{
    bool is_filled = host->node != NULL && sim->plan.may_lose &&
                     host->lost == LOST_ALL && host_is_being_filled(host);
    return (is_filled || faults_can_lose(sim, host)) && !host->storage.broken &&
           store_is_calm(&host->storage.store);
}
