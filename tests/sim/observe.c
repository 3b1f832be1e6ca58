/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/assert.h"
#include "sim.h"

/* One of each kind; key i is in bucket i mod 3. */
struct bucket_config sim_buckets[SIM_BUCKETS] = {
    {.name = "strict",
     .kind = RECORD_SIBLINGS,
     .r = LEVEL_QUORUM,
     .w = LEVEL_QUORUM},
    {.name = "loose",
     .kind = RECORD_SIBLINGS,
     .r = LEVEL_QUORUM,
     .w = LEVEL_QUORUM,
     .sloppy = true},
    {.name = "stamped",
     .kind = RECORD_LWW,
     .r = LEVEL_QUORUM,
     .w = LEVEL_QUORUM},
};

void observe_start(struct sim *sim)
{
    const struct topology *topology = node_topology(sim->hosts[0].node);
    ASSERT(sim->plan.partitions <= SIM_PARTITIONS_MAX);
    sim->history.key_count = sim->plan.keys;
    for (uint32_t k = 0; k < sim->plan.keys; k++) {
        struct sim_key *key = &sim->keys[k];
        snprintf(key->name, sizeof key->name, "key%u", k);
        key->bucket = &sim_buckets[k % SIM_BUCKETS];
        key->partition = partition_of(
            key->bucket->id, bytes_of_string(key->name), sim->plan.partitions);
        sim->history.key_is_lww[k] = key->bucket->kind == RECORD_LWW;
    }
    owners_start(sim, topology);
}

/* --- records --- */

static uint32_t key_number(const struct sim *sim, struct bytes name)
{
    for (uint32_t k = 0; k < sim->plan.keys; k++)
        if (bytes_equal(name, bytes_of_string(sim->keys[k].name)))
            return k;
    return KEYS_MAX;
}

uint32_t observe_key(const struct sim *sim, struct bytes stored)
{
    struct storage_key key;
    if (storage_key_decode(stored, &key) != STATUS_OK ||
        (key.table != TABLE_DATA && key.table != TABLE_HINTS))
        return KEYS_MAX;
    return key_number(sim, key.key);
}

const char *observe_list(const uint32_t *writes, size_t count, char *text,
                         size_t size)
{
    size_t used = 0;
    snprintf(text, size, " nothing");
    for (size_t i = 0; i < count && used + 12 < size; i++)
        used += (size_t)snprintf(text + used, size - used, " w%u", writes[i]);
    return text;
}

void observe_stored(struct sim *sim, const struct host *host, struct bytes key,
                    struct bytes record)
{
    static struct record_view view; /* large; one thread */
    struct storage_key decoded;
    enum status status = storage_key_decode(key, &decoded);
    ASSERT(status == STATUS_OK);
    if (decoded.table == TABLE_META || decoded.table == TABLE_TREES)
        return;
    if (!record_view_read(&view, record.data, record.size) ||
        key_number(sim, decoded.key) == KEYS_MAX) {
        verdict_unsafe(&sim->verdict, "outcome-true",
                       "%s stores what nobody wrote", host->name);
        return;
    }
    sim->tally->with_siblings += view.value_count > 1;
    check_dot_once(&sim->dots, &sim->history, &view, &sim->verdict);
    check_lifetime(&sim->history, &view, &sim->verdict);
    uint32_t writes[VIEW_VALUES_MAX];
    for (size_t i = 0; i < view.value_count; i++) {
        writes[i] = view.values[i].write;
        check_observed(&sim->history, writes[i], &sim->verdict);
    }
    /* Within one batch it came and was superseded. */
    for (size_t i = 0; i < view.superseded_count; i++)
        check_observed(&sim->history, view.superseded[i].write, &sim->verdict);
    if (sim->verdict.invariant == NULL)
        check_no_false_sibling(&sim->history, writes, view.value_count, false,
                               &sim->verdict);
    char list[80];
    sim_tell(sim, host->name, "stores %s%s:%s",
             sim->keys[key_number(sim, decoded.key)].name,
             decoded.table == TABLE_HINTS ? " as a hint" : "",
             observe_list(writes, view.value_count, list, sizeof list));
}

/* What is prepared may be superseded within its batch, and never be stored. */
void observe_prepared(struct sim *sim, struct bytes record)
{
    static struct record_view view; /* large; one thread */
    if (!record_view_read(&view, record.data, record.size))
        return;
    for (size_t i = 0; i < view.value_count; i++) {
        uint32_t write = view.values[i].write;
        if (write <= sim->history.write_count)
            sim->history.writes[write].prepared = true;
    }
}

/* To a client of any node; and of none again, if it is so for long. */
static bool is_dead(const struct sim *sim, const struct view_value *value)
{
    return value->tombstone || (value->expires_ms != 0 &&
                                value->expires_ms <= host_walls(sim).latest_ms);
}

/* What the record before knew and the one behind it does not: what a delete,
 * or a fold of its context, lets go. */
static bool let_go(const struct record_view *before,
                   const struct record_view *after,
                   struct read_floor *forgotten)
{
    static struct record_view gone; /* large; one thread */
    gone = *before;
    struct view_dot dots[VIEW_DOTS_MAX];
    gone.context = dots;
    gone.context_count = 0;
    for (size_t i = 0; i < before->context_count; i++)
        if (view_counter(after->context, after->context_count,
                         &before->context[i]) < before->context[i].counter)
            dots[gone.context_count++] = before->context[i];
    floor_raise(forgotten, &gone);
    return gone.context_count > 0;
}

static bool has_write(const struct record_view *record, uint32_t write)
{
    for (size_t i = 0; i < record->value_count; i++)
        if (record->values[i].write == write)
            return true;
    return false;
}

/* Nothing goes with it but what is dead, and nothing comes. */
static void check_kept(struct sim *sim, const struct host *host, uint32_t key,
                       const struct record_view *old,
                       const struct record_view *new)
{
    for (size_t i = 0; i < old->value_count; i++)
        if (!has_write(new, old->values[i].write) &&
            !is_dead(sim, &old->values[i]))
            verdict_unsafe(&sim->verdict, "acked-durable",
                           "%s drops write %u of key %u, which is alive",
                           host->name, old->values[i].write, key);
    for (size_t i = 0; i < new->value_count; i++)
        if (!has_write(old, new->values[i].write))
            verdict_unsafe(&sim->verdict, "no-resurrection",
                           "%s forgets what it knew of key %u for write %u",
                           host->name, key, new->values[i].write);
}

void observe_replaced(struct sim *sim, const struct host *host,
                      struct bytes key, struct bytes before, struct bytes after)
{
    static struct record_view old, new; /* large; one thread */
    struct copy copies[COPIES_MAX];
    struct storage_key decoded;
    if (before.size == 0 || key.data[0] != TABLE_DATA)
        return;
    enum status status = storage_key_decode(key, &decoded);
    ASSERT(status == STATUS_OK);
    uint32_t number = key_number(sim, decoded.key);
    new.context_count = 0;
    if (number == KEYS_MAX ||
        !record_view_read(&old, before.data, before.size) ||
        (after.size > 0 && !record_view_read(&new, after.data, after.size)))
        return;
    if (!let_go(&old, &new, &sim->forgotten[number]))
        return;
    if (after.size == 0)
        new.value_count = 0;
    check_kept(sim, host, number, &old, &new);
    sim_tell(sim, host->name, "forgets what it knew of %s%s",
             sim->keys[number].name, after.size > 0 ? ", in part" : "");
    size_t count = observe_copies(sim, number, copies);
    check_forgotten(number, &old, copies, count, &sim->verdict);
}

void observe_removed(struct sim *sim, const struct host *host, struct bytes key)
{
    const struct disk_entry *own =
        disk_table_find(&host->storage.store.table, key);
    if (key.data[0] != TABLE_DATA || own == NULL || own->damage == SOUND)
        return;
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        const struct host *other = &sim->hosts[i];
        const struct disk_entry *entry =
            disk_table_find(&other->storage.store.table, key);
        if (entry != NULL && entry->damage == SOUND &&
            other->lost == LOST_NOTHING && entry->written_us < own->damaged_us)
            verdict_unsafe(&sim->verdict, "acked-durable",
                           "%s drops a damaged record, of which %s has a copy",
                           host->name, other->name);
    }
}

size_t observe_values(struct sim *sim, const Rkv__ReadReply *reply,
                      uint32_t *writes)
{
    size_t count = 0;
    for (size_t i = 0; i < reply->n_values && i < VIEW_VALUES_MAX; i++) {
        char text[32] = "";
        if (reply->values[i].len < sizeof text)
            memcpy(text, reply->values[i].data, reply->values[i].len);
        uint32_t write =
            text[0] == 'w' ? (uint32_t)strtoul(text + 1, NULL, 10) : 0;
        check_observed(&sim->history, write, &sim->verdict);
        if (write > 0 && write <= sim->history.write_count)
            writes[count++] = write;
    }
    check_no_false_sibling(&sim->history, writes, count, false, &sim->verdict);
    return count;
}

/* --- what the disks hold --- */

static struct bytes stored_at(const struct host *host,
                              const struct sim_key *key,
                              const struct host *target)
{
    struct storage_key name = {
        .table = target == NULL ? TABLE_DATA : TABLE_HINTS,
        .partition = key->partition,
        .bucket = key->bucket->id,
        .key = bytes_of_string(key->name),
    };
    if (target != NULL)
        name.target = target->id;
    struct buffer encoded = {0};
    enum status status = storage_key_encode(&name, &encoded);
    ASSERT(status == STATUS_OK);
    struct bytes found = storage_get(&host->storage, buffer_bytes(&encoded));
    buffer_fini(&encoded);
    return found;
}

static size_t add_copy(struct copy *copies, size_t count, uint32_t slot,
                       struct bytes record)
{
    if (record.size == 0)
        return count;
    ASSERT(count < COPIES_MAX);
    copies[count] =
        (struct copy){.slot = slot, .data = record.data, .size = record.size};
    return count + 1;
}

size_t observe_primaries(const struct sim *sim, uint32_t number,
                         struct copy *copies)
{
    const struct sim_key *key = &sim->keys[number];
    size_t count = 0;
    for (uint32_t i = 0; i < key->owner_count; i++)
        count = add_copy(copies, count, i,
                         stored_at(&sim->hosts[key->owners[i]], key, NULL));
    return count;
}

/* One that was an owner, and whose hints go to its heir, has its own. */
static uint32_t slot_of_host(const struct sim_key *key, uint32_t host)
{
    for (uint32_t i = 0; i < key->owner_count; i++)
        if (key->owners[i] == host)
            return i;
    return SIM_OWNERS_MAX + host;
}

size_t observe_copies(const struct sim *sim, uint32_t number,
                      struct copy *copies)
{
    const struct sim_key *key = &sim->keys[number];
    size_t count = observe_primaries(sim, number, copies);
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        for (uint32_t h = 0; h < sim->plan.hosts; h++)
            count = add_copy(copies, count, slot_of_host(key, i),
                             stored_at(&sim->hosts[h], key, &sim->hosts[i]));
    return count;
}

size_t observe_holders(const struct sim *sim, uint32_t key, uint32_t write,
                       bool *has)
{
    static struct record_view view; /* large; one thread */
    struct copy copies[COPIES_MAX];
    size_t count = observe_primaries(sim, key, copies), holders = 0;
    memset(has, 0, SIM_OWNERS_MAX * sizeof *has);
    for (size_t i = 0; i < count; i++) {
        has[copies[i].slot] =
            record_view_read(&view, copies[i].data, copies[i].size) &&
            view_knows(&view, write);
        holders += has[copies[i].slot];
    }
    return holders;
}

void observe_applied(struct sim *sim, uint32_t write, uint32_t need)
{
    struct copy copies[COPIES_MAX];
    const struct write *of = &sim->history.writes[write];
    /* Only in a sloppy bucket others may stand in. */
    size_t count = sim->keys[of->key].bucket->sloppy
                       ? observe_copies(sim, of->key, copies)
                       : observe_primaries(sim, of->key, copies);
    /* One that lost something since may have acknowledged it before. */
    uint32_t lost = losses_since(sim, of->key, of->issued_us);
    /* By a wrong clock it may be old, and what superseded it does not name it
     * any more. */
    if (need > lost && !sim->history.clock_was_wrong)
        check_applied(write, need - lost, copies, count, &sim->verdict);
}

/* --- after healing --- */

static size_t count_hints(const struct sim *sim, unsigned damages)
{
    size_t count = 0;
    for (uint32_t h = 0; h < sim->plan.hosts; h++)
        count += disk_table_count(&sim->hosts[h].storage.store.table,
                                  TABLE_HINTS, damages);
    return count;
}

/* One in a damaged block lasts, and is never handed over. */
static bool hints_are_left(const struct sim *sim)
{
    return count_hints(sim, ~(1u << UNREADABLE)) > 0;
}

static bool all_see_all(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        const struct host *host = &sim->hosts[i];
        if (!host_is_here(host))
            continue;
        if (host->node == NULL || !node_is_ready(host->node))
            return false;
        for (uint32_t k = 0; k < sim->plan.hosts; k++) {
            if (!host_is_here(&sim->hosts[k]))
                continue;
            const struct member *member =
                membership_find(node_membership(host->node), sim->hosts[k].id);
            if (member == NULL || member->state != MEMBER_ALIVE)
                return false;
        }
    }
    return true;
}

/* For all, and nobody is lost without having left. */
static bool topology_is_settled(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        const struct host *host = &sim->hosts[i];
        if (host->has_left ? host->node != NULL
                           : host->is_lost ||
                                 node_topology(host->node)->epoch != sim->epoch)
            return false;
    }
    return !sim->is_moving;
}

static bool clients_are_idle(const struct sim *sim)
{
    for (uint32_t i = 1; i < sim->plan.clients; i++)
        if (sim->clients[i].task != TASK_NONE)
            return false;
    return sim->clients[0].task != TASK_WRITE;
}

/* Every owner's, and equal. */
static const char *trees_apart(const struct sim *sim)
{
    for (uint32_t p = 0; p < sim->plan.partitions; p++) {
        struct partition partition = {(uint16_t)p};
        uint64_t first = 0, root;
        for (size_t i = 0; i < sim->plan.replicas; i++) {
            uint32_t owner = sim->owners[p][i];
            if (!node_tree_root(sim->hosts[owner].node, partition, &root))
                return "a hash tree is not built";
            if (i > 0 && root != first)
                return "hash trees differ";
            first = root;
        }
    }
    return NULL;
}

static const char *replicas_differ(const struct sim *sim, uint32_t key)
{
    static char text[40]; /* one thread */
    snprintf(text, sizeof text, "replicas of %s differ", sim->keys[key].name);
    return text;
}

const char *observe_apart(struct sim *sim)
{
    struct copy copies[COPIES_MAX];
    if (!all_see_all(sim))
        return "no-false-death: some node is not ready, or held to be dead";
    if (!topology_is_settled(sim))
        return "a node that leaves is not settled";
    const char *unsettled = !clients_are_idle(sim) ? "a client still waits"
                            : hints_are_left(sim)  ? "hints are left"
                                                   : NULL;
    if (unsettled != NULL) {
        /* What was read may be older than what is still to come. */
        memset(sim->final_read, 0, sizeof sim->final_read);
        return unsettled;
    }
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        if (!sim->hosts[i].has_left && sim->hosts[i].lost != LOST_NOTHING)
            return "amnesia: a disk that lost something is not replaced";
    for (uint32_t k = 0; k < sim->plan.keys; k++)
        if (!copies_are_equal(copies, observe_primaries(sim, k, copies)))
            return replicas_differ(sim, k);
    return trees_apart(sim);
}

const char *observe_uncollected(const struct sim *sim)
{
    static struct record_view view; /* large; one thread */
    /* What cannot be read may be a hint of anything: all stays. */
    if (count_hints(sim, 1u << UNREADABLE) > 0)
        return NULL;
    struct copy copies[COPIES_MAX];
    for (uint32_t k = 0; k < sim->plan.keys; k++) {
        size_t count = observe_primaries(sim, k, copies);
        for (size_t i = 0; i < count; i++) {
            if (!record_view_read(&view, copies[i].data, copies[i].size))
                return "a record is damaged";
            for (size_t v = 0; v < view.value_count; v++)
                if (is_dead(sim, &view.values[v]))
                    return "what was deleted is not forgotten";
            if (view.value_count == 0)
                return "a record without values is not forgotten";
        }
    }
    return NULL;
}

const char *observe_unread(const struct sim *sim)
{
    for (uint32_t k = 0; k < sim->plan.keys; k++)
        if (!sim->final_read[k])
            return "a key cannot be read at level all";
    return NULL;
}

/* Only what was damaged is lost silently, until all trees were built again,
 * which pauses hold up. */
void observe_wrong_tree(struct sim *sim, const struct host *host)
{
    int64_t ago_us = sim->now_us - host->damaged_us;
    bool is_excused = host->damaged_us > 0 && ago_us < 4000 * 1000;
    if (!is_excused)
        verdict_unsafe(&sim->verdict, "trees-true",
                       "%s built a hash tree that differs from what it kept",
                       host->name);
}

static void judge(struct sim *sim, uint32_t key, const uint32_t *live,
                  size_t count)
{
    check_no_false_sibling(&sim->history, live, count, true, &sim->verdict);
    check_acked_durable(&sim->history, key, live, count, &sim->verdict);
}

/* What clients are shown of a record, or were before it expired. */
static size_t live_in(const struct copy *copy, uint32_t *live)
{
    static struct record_view view; /* large; one thread */
    size_t count = 0;
    if (!record_view_read(&view, copy->data, copy->size))
        return 0;
    for (size_t i = 0; i < view.value_count; i++)
        if (!view.values[i].tombstone)
            live[count++] = view.values[i].write;
    return count;
}

void observe_end(struct sim *sim)
{
    struct copy copies[COPIES_MAX];
    uint32_t live[VIEW_VALUES_MAX];
    struct verdict *verdict = &sim->verdict;
    sim->history.wall_ms_max = host_walls(sim).latest_ms;
    for (uint32_t k = 0; k < sim->plan.keys; k++) {
        size_t count = observe_primaries(sim, k, copies);
        check_converged(k, copies, count, sim->plan.replicas, verdict);
        /* What the disks hold, which are equal, and what was read of them. */
        judge(sim, k, live, count == 0 ? 0 : live_in(&copies[0], live));
        judge(sim, k, sim->final_values[k], sim->final_count[k]);
    }
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        store_check(sim, &sim->hosts[i]);
        size_t unanswered = host_unanswered(sim, &sim->hosts[i], UNANSWERED_US);
        if (unanswered > 0)
            verdict_stuck(verdict, "answered-once",
                          "%s has not answered %zu requests",
                          sim->hosts[i].name, unanswered);
    }
}
