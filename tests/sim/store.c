/* SPDX-License-Identifier: MIT */
#include "store.h"

#include "proto/assert.h"
#include "sim.h"

void store_fini(struct store *store)
{
    tree_free(store->tree);
    disk_table_fini(&store->table);
    for (int step = 0; step < STORE_STEPS; step++)
        disk_changes_fini(&store->doubt[step]);
    disk_table_fini(&store->copied);
    memory_disk_free(store->copied_disk);
    *store = (struct store){0};
}

static void clear_doubt(struct store *store)
{
    for (int step = 0; step < STORE_STEPS; step++)
        disk_changes_clear(&store->doubt[step]);
}

void store_wipe(struct store *store)
{
    disk_table_clear(&store->table);
    clear_doubt(store);
    if (store->tree != NULL)
        tree_wipe(store->tree);
}

bool store_is_sure(const struct store *store)
{
    for (int step = 0; step < STORE_STEPS; step++)
        if (store->doubt[step].count > 0)
            return false;
    return true;
}

bool store_is_calm(const struct store *store)
{
    return store_is_sure(store) &&
           (store->tree == NULL || !store->tree->may_fail);
}

void store_copy(struct store *store)
{
    ASSERT(store_is_sure(store));
    disk_table_copy(&store->copied, &store->table);
    if (store->tree == NULL)
        return;
    memory_disk_free(store->copied_disk);
    store->copied_disk = tree_copy(store->tree);
}

void store_put_back(struct store *store)
{
    disk_table_copy(&store->table, &store->copied);
    clear_doubt(store);
    if (store->tree != NULL)
        tree_put_back(store->tree, store->copied_disk);
}

void store_make_unreadable(struct store *store, size_t at)
{
    ASSERT(store->tree == NULL);
    store->table.entries[at].damage = UNREADABLE;
}

void store_flip(struct store *store, size_t at, uint64_t bit)
{
    struct disk_entry *entry = &store->table.entries[at];
    entry->value.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    entry->damage = FLIPPED;
    if (store->tree == NULL)
        return;
    struct disk_changes changes = {0};
    disk_changes_add(&changes, buffer_bytes(&entry->key),
                     buffer_bytes(&entry->value), false);
    enum status status = tree_write(store->tree, &changes, true);
    ASSERT(status == STATUS_OK);
    disk_changes_fini(&changes);
}

static void commit(struct sim *sim, struct host *host,
                   const struct disk_changes *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        const struct disk_change *change = &changes->list[i];
        struct bytes before = disk_table_get(&host->storage.store.table,
                                             buffer_bytes(&change->key));
        observe_replaced(sim, host, buffer_bytes(&change->key), before,
                         change->removed ? (struct bytes){0}
                                         : buffer_bytes(&change->value));
        if (change->removed)
            observe_removed(sim, host, buffer_bytes(&change->key));
        disk_table_apply(&host->storage.store.table, change, sim->now_us);
        if (!change->removed && change->key.data[0] != TREE_BALLAST)
            observe_stored(sim, host, buffer_bytes(&change->key),
                           buffer_bytes(&change->value));
    }
}

static void count_outcome(struct sim *sim, struct host *host, bool kept)
{
    sim->tally->faults[kept ? FAULT_BATCH_KEPT : FAULT_BATCH_LOST]++;
    sim_tell(sim, host->name, "what was being written is %s",
             kept ? "on disk just in time" : "lost");
}

/* --- the tree --- */

/* The seed decides what the tree does to its disk, too. */
static void trace_calls(struct sim *sim, const struct tree *tree)
{
    struct memory_counts counts = memory_disk_counts(tree->memory);
    trace_mix(&sim->trace, counts.calls);
    trace_mix(&sim->trace, counts.bytes_written);
}

/* OK, or BROKEN from one that may be; anything else is wrong. */
static enum status judge(struct sim *sim, const struct host *host,
                         enum status status, bool same)
{
    if (status == STATUS_BROKEN && host->storage.store.tree->may_fail)
        return STATUS_BROKEN;
    if (status != STATUS_OK)
        verdict_unsafe(&sim->verdict, "engine-true", "%s cannot be read: %s",
                       host->name, status_name(status));
    else if (!same)
        verdict_unsafe(&sim->verdict, "engine-true",
                       "%s shows something else than was written", host->name);
    return STATUS_OK;
}

/* What cannot be read of one that is damaged is passed over. */
static enum status has_key(struct store *store, struct bytes key, bool *same)
{
    const struct disk_entry *entry = disk_table_find(&store->table, key);
    struct bytes value =
        entry == NULL ? (struct bytes){0} : buffer_bytes(&entry->value);
    bool is_one;
    enum status status = tree_has(store->tree, key, value, &is_one);
    *same = *same && (is_one || status == STATUS_CORRUPT);
    return status == STATUS_CORRUPT ? STATUS_OK : status;
}

static enum status has_all_but_damaged(struct store *store, bool *same)
{
    enum status status = STATUS_OK;
    *same = true;
    for (size_t i = 0; i < store->table.count && status == STATUS_OK; i++)
        status =
            has_key(store, buffer_bytes(&store->table.entries[i].key), same);
    for (int step = 0; step < STORE_STEPS; step++)
        for (size_t i = 0; i < store->doubt[step].count; i++)
            if (status == STATUS_OK)
                status = has_key(
                    store, buffer_bytes(&store->doubt[step].list[i].key), same);
    if (status != STATUS_OK || !*same)
        return status;
    return tree_shows_no_other(store->tree, (struct bytes){0},
                               (struct bytes){0}, &store->table, same);
}

static enum status has_all(struct store *store, bool *same)
{
    return store->tree->is_damaged
               ? has_all_but_damaged(store, same)
               : tree_has_all(store->tree, &store->table, same);
}

/* Note what cannot be read. */
static void find_damage(struct sim *sim, struct host *host)
{
    struct store *store = &host->storage.store;
    bool same;
    for (size_t i = 0; i < store->table.count; i++) {
        struct disk_entry *entry = &store->table.entries[i];
        if (entry->damage != UNREADABLE &&
            tree_has(store->tree, buffer_bytes(&entry->key),
                     buffer_bytes(&entry->value), &same) == STATUS_CORRUPT) {
            entry->damage = UNREADABLE;
            entry->damaged_us = sim->now_us;
            sim->tally->unreadable++;
        }
    }
}

/* See how many of the steps were taken. */
static enum status settle(struct sim *sim, struct host *host)
{
    struct store *store = &host->storage.store;
    bool same = true, in_doubt = !store_is_sure(store);
    int step = 0;
    enum status status = has_all(store, &same);
    while (status == STATUS_OK && !same && in_doubt && step < STORE_STEPS) {
        commit(sim, host, &store->doubt[step++]);
        status = has_all(store, &same);
    }
    status = judge(sim, host, status, same);
    if (status != STATUS_OK)
        return status;
    if (store->tree->is_damaged)
        find_damage(sim, host);
    if (in_doubt)
        count_outcome(sim, host, step == STORE_STEPS);
    clear_doubt(store);
    return STATUS_OK;
}

bool store_open(struct sim *sim, struct host *host)
{
    struct tree *tree = host->storage.store.tree;
    if (tree == NULL)
        return true;
    struct error error;
    bool again = tree->may_fail;
    tree_close(tree);
    tree_heal(tree);
    tree->may_fail = false;
    if (again && sim->stage == SIM_FAULTS && random_chance(&tree->random, 250))
        tree_fail_soon(tree);
    enum status status = tree_open(tree, &error);
    trace_calls(sim, tree);
    if (status != STATUS_OK && !tree->may_fail)
        verdict_unsafe(&sim->verdict, "engine-true", "%s cannot be opened: %s",
                       host->name, error.text);
    /* As the storage edge does: what a failed sync left is read from here. */
    if (status == STATUS_OK)
        status = tree_write(tree, &(struct disk_changes){0}, true);
    if (status == STATUS_OK)
        status = settle(sim, host);
    if (status == STATUS_OK)
        return true;
    tree_close(tree);
    sim->tally->faults[FAULT_FAILED_OPEN]++;
    return false;
}

/* Until it is known to be written, it is in doubt. Takes the changes. */
static enum status take_steps(struct store *store, struct disk_changes *changes,
                              uint32_t much_ballast_permille)
{
    struct disk_changes *doubt = store->doubt;
    struct disk_changes none = doubt[STEP_BATCH];
    ASSERT(store_is_sure(store));
    doubt[STEP_BATCH] = *changes;
    *changes = none;
    tree_draw_ballast(store->tree, much_ballast_permille, &doubt[STEP_BALLAST],
                      &doubt[STEP_RANGE]);
    enum status status = STATUS_OK;
    if (doubt[STEP_BALLAST].count > 0)
        status = tree_write(store->tree, &doubt[STEP_BALLAST], false);
    if (status == STATUS_OK && doubt[STEP_RANGE].count > 0)
        status = tree_delete_range(store->tree, &doubt[STEP_RANGE]);
    if (status == STATUS_OK)
        status = tree_write(store->tree, &doubt[STEP_BATCH], true);
    return status;
}

static enum status write_tree(struct sim *sim, struct host *host,
                              struct disk_changes *changes, bool fails)
{
    struct store *store = &host->storage.store;
    struct tree *tree = store->tree;
    if (fails)
        tree_fail_soon(tree);
    enum status status = take_steps(store, changes, 100);
    trace_calls(sim, tree);
    if (status == STATUS_OK) {
        for (int step = 0; step < STORE_STEPS; step++)
            commit(sim, host, &store->doubt[step]);
        clear_doubt(store);
        return STATUS_OK;
    }
    if (!tree->may_fail)
        verdict_unsafe(&sim->verdict, "engine-true", "%s fails to write: %s",
                       host->name, status_name(status));
    sim->tally->faults[FAULT_FAILED_WRITE]++;
    sim_tell(sim, host->name, "a write fails: %s", status_name(status));
    return status;
}

/* The power fails, or the process is killed; and then perhaps the power, while
 * it is opened again. */
static void crash_tree(struct sim *sim, struct host *host,
                       struct disk_changes *changes)
{
    struct tree *tree = host->storage.store.tree;
    struct error error;
    enum status status = STATUS_OK;
    bool is_killed = random_chance(&tree->random, 400);
    if (changes != NULL) {
        if (is_killed)
            tree_kill_soon(tree);
        else
            tree_cut_soon(tree);
        /* Most that can go wrong is in flushes and compactions. */
        status = take_steps(&host->storage.store, changes, 700);
    }
    if (tree->may_fail)
        status = STATUS_OK;
    if (is_killed)
        tree_kill(tree);
    else
        tree_cut(tree);
    if (status == STATUS_OK && random_chance(&tree->random, 300)) {
        sim->tally->faults[FAULT_CRASH_IN_OPEN]++;
        tree_cut_soon(tree);
        status = tree_open(tree, &error);
        if (status == STATUS_OK)
            status = tree_write(tree, &(struct disk_changes){0}, true);
        tree_cut(tree);
    }
    trace_calls(sim, tree);
    if (status != STATUS_OK)
        verdict_unsafe(&sim->verdict, "engine-true", "%s fails in a crash: %s",
                       host->name, status_name(status));
}

/* --- either --- */

enum status store_write(struct sim *sim, struct host *host,
                        struct disk_changes *changes, bool fails)
{
    if (host->storage.store.tree != NULL)
        return write_tree(sim, host, changes, fails);
    if (!fails) {
        commit(sim, host, changes);
        return STATUS_OK;
    }
    bool kept = random_chance(&sim->disk_random, 500);
    sim->tally->faults[FAULT_FAILED_WRITE]++;
    sim_tell(sim, host->name, "a write fails (%s)",
             kept ? "and is on disk" : "and is lost");
    if (kept)
        commit(sim, host, changes);
    return STATUS_IO;
}

void store_crash(struct sim *sim, struct host *host,
                 struct disk_changes *changes)
{
    if (host->storage.store.tree != NULL) {
        crash_tree(sim, host, changes);
    } else if (changes != NULL) {
        bool kept = random_chance(&sim->disk_random, 400);
        count_outcome(sim, host, kept);
        if (kept)
            commit(sim, host, changes);
    }
}

enum status store_get(struct sim *sim, struct host *host, struct bytes key,
                      struct bytes *value)
{
    struct store *store = &host->storage.store;
    const struct disk_entry *entry = disk_table_find(&store->table, key);
    if (entry != NULL && entry->damage == UNREADABLE) {
        *value = (struct bytes){0};
        return STATUS_CORRUPT;
    }
    *value = entry == NULL ? (struct bytes){0} : buffer_bytes(&entry->value);
    if (store->tree == NULL)
        return STATUS_OK;
    bool same;
    enum status status = tree_has(store->tree, key, *value, &same);
    if (status == STATUS_CORRUPT && store->tree->is_damaged) {
        *value = (struct bytes){0};
        return STATUS_CORRUPT;
    }
    return judge(sim, host, status, same);
}

enum status store_see(struct sim *sim, struct host *host, struct bytes from,
                      struct bytes to, size_t first, size_t count)
{
    struct store *store = &host->storage.store;
    if (store->tree == NULL)
        return STATUS_OK;
    bool same;
    enum status status =
        store->tree->is_damaged
            ? tree_shows_no_other(store->tree, from, to, &store->table, &same)
            : tree_has_range(store->tree, from, to, &store->table, first, count,
                             &same);
    return judge(sim, host, status, same);
}

void store_check(struct sim *sim, struct host *host)
{
    struct store *store = &host->storage.store;
    bool same;
    if (store->tree == NULL)
        return;
    sim->tally->tables += store->tree->tables;
    if (store->tree->engine == NULL)
        return;
    enum status status = has_all(store, &same);
    (void)!judge(sim, host, status, same);
}
