/* SPDX-License-Identifier: MIT */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/assert.h"
#include "sim.h"

enum { EFFECTS_BYTES = 8 << 20, RECORDER_BYTES = 64 << 20 };

static const char *const zones[SIM_ZONES] = {"east", "west", "north"};
static const char cluster[] = "sim";
/* The addresses of the founders: everybody's seeds. */
static const char *const addresses[HOSTS_MAX] = {
    "peer:0", "peer:1", "peer:2", "peer:3", "peer:4",
};

static bool has_tree(const struct sim *sim, uint32_t index)
{
    switch (sim->options->engine) {
    case SIM_MODEL:
        return false;
    case SIM_LSM:
        return true;
    case SIM_MIXED:
        return index == 0;
    }
    ASSERT(!"reached");
    return false;
}

void host_init(struct sim *sim, struct host *host, uint32_t index)
{
    *host = (struct host){.index = index};
    snprintf(host->name, sizeof host->name, "n%u", index);
    snprintf(host->address, sizeof host->address, "%s", addresses[index]);
    host->id = node_id_of(cluster, host->name);
    host->drift_ppm = random_range(&sim->random, -300, 300);
    host->mono_offset_us = random_range(&sim->random, 0, 1000000000);
    host->wall_offset_ms = random_range(&sim->random, -500, 500);
    /* Some are newer, and speak more than is spoken here, and some older. */
    host->version_min = PEER_VERSION_MIN;
    host->version_max = PEER_VERSION_MAX + random_chance(&sim->random, 300);
    if (sim->plan.has_older && random_chance(&sim->random, 400))
        host->version_max = PEER_VERSION_MIN;
    host->own_version_max = host->version_max;
    storage_init(&host->storage, has_tree(sim, index),
                 ~(sim->seed << 8 | index));
    effects_init(&host->effects, EFFECTS_BYTES);
    struct placement_node *founder = &sim->founders[index];
    snprintf(founder->name, sizeof founder->name, "%s", host->name);
    snprintf(founder->zone, sizeof founder->zone, "%s",
             zones[index % SIM_ZONES]);
}

void host_fini(struct sim *sim, struct host *host)
{
    (void)sim;
    node_free(host->node);
    effects_fini(&host->effects);
    recorder_fini(&host->recorder);
    storage_fini(&host->storage);
    free(host->asked);
    *host = (struct host){0};
}

int64_t host_mono_us(const struct sim *sim, const struct host *host)
{
    int64_t drifted = sim->now_us + sim->now_us * host->drift_ppm / 1000000;
    return host->mono_offset_us + drifted + sim->slept_us;
}

int64_t host_mono_ms(const struct sim *sim, const struct host *host)
{
    return host_mono_us(sim, host) / 1000;
}

int64_t host_wall_ms(const struct sim *sim, const struct host *host)
{
    /* Some day in 2025, and the jumps. */
    return INT64_C(1750000000000) + host_mono_ms(sim, host) -
           host->mono_offset_us / 1000 + host->wall_offset_ms;
}

static struct host_walls walls(const struct sim *sim, int64_t offset_max_ms)
{
    struct host_walls found = {.earliest_ms = INT64_MAX};
    for (uint32_t i = 0; i < sim->plan.hosts; i++) {
        const struct host *host = &sim->hosts[i];
        int64_t wall_ms = host_wall_ms(sim, host) - host->wall_offset_ms;
        if (wall_ms < found.earliest_ms)
            found.earliest_ms = wall_ms;
        if (wall_ms > found.latest_ms)
            found.latest_ms = wall_ms;
    }
    found.earliest_ms -= offset_max_ms;
    found.latest_ms += offset_max_ms;
    return found;
}

struct host_walls host_walls(const struct sim *sim)
{
    return walls(sim, sim->history.clock_was_wrong ? WILD_OFFSET_MAX_MS
                                                   : WALL_OFFSET_MAX_MS);
}

struct host_walls host_right_walls(const struct sim *sim)
{
    return walls(sim, WALL_OFFSET_MAX_MS);
}

/* --- start and end --- */

static struct bytes meta_key(const char *name, struct buffer *out)
{
    struct storage_key key = {.table = TABLE_META,
                              .key = bytes_of_string(name)};
    buffer_clear(out);
    enum status status = storage_key_encode(&key, out);
    ASSERT(status == STATUS_OK);
    return buffer_bytes(out);
}

static struct bytes stored_meta(const struct host *host, const char *name)
{
    struct buffer key = {0};
    struct bytes stored = storage_get(&host->storage, meta_key(name, &key));
    buffer_fini(&key);
    return stored;
}

static void set_meta(struct sim *sim, struct host *host, const char *name,
                     struct bytes value)
{
    struct buffer key = {0};
    storage_set(sim, host, meta_key(name, &key), value);
    buffer_fini(&key);
}

bool host_is_being_filled(const struct host *host)
{
    struct bytes missing = stored_meta(host, META_MISSING);
    for (size_t i = 0; i < missing.size; i++)
        if (missing.data[i] != 0)
            return true;
    return false;
}

bool host_is_full(const struct sim *sim, const struct host *host)
{
    return sim->now_us < host->full_until_us;
}

/* What replikvd does before there is a node: raise the boot number, synced,
 * and draw the store's id if it is new. True if it was. */
static bool open_store(struct sim *sim, struct host *host, struct member *self,
                       struct disk_starts *starts)
{
    struct bytes stored = stored_meta(host, META_BOOT);
    if (stored.size == sizeof self->boot)
        memcpy(&self->boot, stored.data, sizeof self->boot);
    self->boot++;
    disk_starts_read(starts, stored_meta(host, META_STARTS));
    disk_starts_add(starts, self->boot, self->run);
    set_meta(sim, host, META_STARTS, disk_starts_bytes(starts));
    set_meta(sim, host, META_BOOT, bytes_of(&self->boot, sizeof self->boot));
    stored = stored_meta(host, META_STORE);
    bool is_new = stored.size != sizeof self->store;
    for (size_t i = 0; is_new && i < sizeof self->store; i++)
        self->store.bytes[i] = (uint8_t)random_next(&sim->random);
    if (is_new)
        set_meta(sim, host, META_STORE,
                 bytes_of(&self->store, sizeof self->store));
    else
        memcpy(&self->store, stored.data, sizeof self->store);
    return is_new;
}

/* The run whose hash trees are true, for this start alone, as replikvd does. */
static uint64_t take_trees(struct sim *sim, struct host *host)
{
    static const uint64_t none;
    uint64_t run = 0;
    struct bytes stored = stored_meta(host, META_TREES_OF_RUN);
    if (stored.size == sizeof run)
        memcpy(&run, stored.data, sizeof run);
    if (run != 0)
        set_meta(sim, host, META_TREES_OF_RUN, bytes_of(&none, sizeof none));
    return run;
}

static void restore(struct host *host, struct bytes saved)
{
    recorder_trees(&host->recorder, saved);
    node_restore(host->node, saved);
}

static void each_saved(struct sim *sim, struct host *host, bool saves)
{
    struct buffer saved = {0}, encoded = {0};
    char name[SAVED_NAME_MAX];
    enum status status = STATUS_OK;
    for (size_t i = 0; i < node_saved_count(host->node); i++) {
        struct storage_key key = {.table = TABLE_TREES};
        snprintf(name, sizeof name, "%zu", i);
        if (saves)
            status = node_save(host->node, i, &key.table, name, &saved);
        key.key = bytes_of_string(name);
        buffer_clear(&encoded);
        if (status == STATUS_OK)
            status = storage_key_encode(&key, &encoded);
        ASSERT(status == STATUS_OK);
        if (saves)
            storage_set(sim, host, buffer_bytes(&encoded),
                        buffer_bytes(&saved));
        else
            restore(host, storage_get(&host->storage, buffer_bytes(&encoded)));
    }
    buffer_fini(&saved);
    buffer_fini(&encoded);
}

void host_save_trees(struct sim *sim, struct host *host)
{
    each_saved(sim, host, true);
    sim->tally->faults[FAULT_SAVED_TREES]++;
    sim_tell(sim, host->name, "saves its hash trees");
}

static struct member self_of(const struct host *host)
{
    struct member self = {.id = host->id,
                          .version_min = host->version_min,
                          .version_max = host->version_max};
    snprintf(self.name, sizeof self.name, "%s", host->name);
    snprintf(self.zone, sizeof self.zone, "%s", zones[host->index % SIM_ZONES]);
    snprintf(self.peer_address, sizeof self.peer_address, "%s", host->address);
    snprintf(self.client_address, sizeof self.client_address, "client:%u",
             host->index);
    return self;
}

static void start_recorder(const struct sim *sim, struct host *host,
                           const struct node_config *config)
{
    bool is_on = sim->options->record != NULL && host->index == 0;
    recorder_fini(&host->recorder);
    enum status status =
        recorder_init(&host->recorder, is_on ? RECORDER_BYTES : 0);
    ASSERT(status == STATUS_OK);
    recorder_config(&host->recorder, "in the simulator", config);
}

bool host_write_recording(const struct host *host, const char *path)
{
    uint8_t header[RECORDING_HEADER_BYTES];
    struct bytes parts[RECORDER_PARTS];
    size_t count = recorder_parts(&host->recorder, header, parts);
    FILE *file = fopen(path, "wb");
    bool wrote = file != NULL;
    for (size_t i = 0; i < count && wrote; i++)
        wrote = fwrite(parts[i].data, 1, parts[i].size, file) == parts[i].size;
    if (file != NULL)
        wrote = fclose(file) == 0 && wrote;
    if (!wrote)
        perror(path);
    return wrote;
}

/* What the node has to remember: replikvd ends, and says so. */
static bool is_meta_damaged(const struct host *host)
{
    return disk_table_count(&host->storage.store.table, TABLE_META,
                            ~(1u << SOUND)) > 0;
}

/* The operator reads it and sets the disk aside. */
static void start_anew(struct sim *sim, struct host *host)
{
    sim_tell(sim, host->name, "cannot read who it is");
    sim->tally->faults[FAULT_META_DAMAGED]++;
    host->lost = LOST_ALL;
    host->with_replace = true;
    storage_close(&host->storage);
    storage_wipe(&host->storage);
    storage_open(sim, host);
}

void host_start(struct sim *sim, struct host *host)
{
    ASSERT(host->node == NULL);
    /* It would end at once, and be started again. */
    if (host_is_full(sim, host)) {
        sim_at(sim, host->full_until_us, MOMENT_START, host->index, host->life,
               0);
        return;
    }
    host->life++;
    host->is_halting = host->knows_clocks = false;
    if (host->with_replace && stored_meta(host, META_STORE).size > 0 &&
        !host_is_being_filled(host))
        storage_wipe(&host->storage); /* set aside, as replikvd does */
    storage_open(sim, host);
    if (is_meta_damaged(host))
        start_anew(sim, host);
    struct member self = self_of(host);
    self.run = random_next(&sim->random);
    struct disk_starts starts;
    bool is_new = open_store(sim, host, &self, &starts);
    host->runs_replace = host->with_replace;
    host->is_replaced |= host->runs_replace;
    host->with_replace = false; /* the operator says it once */
    struct node_config config = {
        .self = self,
        .founding = {.cluster = cluster,
                     .founders = sim->founders,
                     .founder_count = sim->plan.hosts,
                     .partitions = sim->plan.partitions,
                     .replicas = sim->plan.replicas},
        .seeds = addresses,
        .seed_count = sim->plan.hosts,
        .buckets = sim_buckets,
        .bucket_count = SIM_BUCKETS,
        .limits = sim->plan.limits,
        .timeouts = sim->plan.timeouts,
        .membership = sim->plan.membership,
        .replace = host->runs_replace,
        .amnesiac = is_new && host->runs_replace,
        .trees_of_run = take_trees(sim, host),
        .starts = starts,
        .engine = "simulated",
        .seed = random_next(&sim->random),
    };
    struct error error;
    enum status status = node_new(&config, &host->node, &error);
    ASSERT(status == STATUS_OK);
    host->boot = self.boot;
    start_recorder(sim, host, &config);
    each_saved(sim, host, false);
    replica_init(&host->replica, random_next(&sim->random),
                 sim->plan.timeouts.dedup_window_ms);
    host->replica.value_bytes_max = sim->plan.limits.value_bytes_max;
    watch_started(sim, host);
    if (host->runs_replace)
        sim->tally->faults[FAULT_REPLACE]++;
    sim_tell(sim, host->name, "starts, boot %llu%s%s",
             (unsigned long long)self.boot, is_new ? ", on a new disk" : "",
             host->runs_replace ? ", with --replace" : "");
    sim_in(sim, random_range(&sim->random, 0, sim->plan.tick_us), MOMENT_TICK,
           host->index, host->life, 0);
}

static void forget_asked(struct host *host)
{
    for (size_t i = 0; i < host->asked_count; i++) {
        host->asked[i].asker = ASKER_NONE;
        host->asked[i].generation++;
    }
}

void host_crash(struct sim *sim, struct host *host)
{
    ASSERT(host->node != NULL);
    tally_node(sim->tally, host->node);
    network_host_gone(sim, host);
    attempts_host_gone(sim, host->index);
    storage_crash(sim, host);
    node_free(host->node);
    host->node = NULL;
    host->life++;
    host->paused_until_us = 0;
    forget_asked(host);
    effects_reset(&host->effects);
}

/* --- what the node says --- */

struct reply_token host_expect(struct sim *sim, struct host *host,
                               struct asked asked)
{
    size_t at = 0;
    while (at < host->asked_count && host->asked[at].asker != ASKER_NONE)
        at++;
    if (at == host->asked_capacity) {
        host->asked_capacity = host->asked_capacity * 2 + 64;
        host->asked =
            realloc(host->asked, host->asked_capacity * sizeof *host->asked);
        ASSERT(host->asked != NULL);
    }
    if (at == host->asked_count) {
        host->asked[at].generation = 0;
        host->asked_count++;
    }
    asked.generation = host->asked[at].generation + 1;
    asked.since_us = sim->now_us;
    host->asked[at] = asked;
    return (struct reply_token){(uint64_t)asked.generation << 32 | (at + 1)};
}

size_t host_unanswered(const struct sim *sim, const struct host *host,
                       int64_t longer_us)
{
    size_t count = 0;
    for (size_t i = 0; i < host->asked_count; i++)
        count += host->asked[i].asker != ASKER_NONE &&
                 sim->now_us - host->asked[i].since_us > longer_us;
    return count;
}

static void carry_out_reply(struct sim *sim, struct host *host,
                            const struct message_out *message)
{
    size_t at = (message->token.value & UINT32_MAX) - 1;
    if (at >= host->asked_count ||
        host->asked[at].generation != message->token.value >> 32 ||
        host->asked[at].asker == ASKER_NONE) {
        verdict_unsafe(&sim->verdict, "answered-once",
                       "%s answers token %llx (body %d), which is answered",
                       host->name, (unsigned long long)message->token.value,
                       (int)message->envelope->body_case);
        return;
    }
    struct asked asked = host->asked[at];
    host->asked[at].asker = ASKER_NONE;
    if (asked.asker == ASKER_OPERATOR)
        return; /* who looks at what became of it */
    if (asked.asker == ASKER_ATTEMPT)
        attempt_answer(sim, asked.a, asked.b, message->envelope);
    else
        network_reply(sim, asked.a, asked.b, asked.is_hello ? 0 : asked.c,
                      message->envelope);
}

static void carry_out(struct sim *sim, struct host *host)
{
    struct effects *effects = &host->effects;
    ASSERT(effects->out.dropped == 0);
    if (effects->renew_incarnation)
        replica_renew(&host->replica);
    for (size_t i = 0; i < effects->out.count; i++) {
        const struct message_out *message = &effects->out.messages[i];
        if (message->kind == MESSAGE_REQUEST)
            network_request(sim, host, message);
        else
            carry_out_reply(sim, host, message);
    }
    for (size_t i = 0; i < effects->storage_count; i++)
        storage_submit(sim, host, &effects->storage[i]);
    if (effects->log != NULL)
        sim_tell(sim, host->name, "says: %s", effects->log);
    if (effects->log != NULL && strncmp(effects->log, "event=filled", 12) == 0)
        host->is_filled = true;
    if (effects->log != NULL &&
        strncmp(effects->log, "event=tree_differed", 19) == 0)
        observe_wrong_tree(sim, host);
    if (effects->halt == NULL || host->is_halting)
        return;
    host->is_halting = true;
    sim->tally->faults[FAULT_HALT]++;
    sim_tell(sim, host->name, "halts: %s", effects->halt);
    sim_in(sim, 0, MOMENT_STOP, host->index, host->life, 0);
}

static void became_ready(struct sim *sim, struct host *host)
{
    if (host->lost == LOST_ALL && !host->is_replaced)
        verdict_unsafe(&sim->verdict, "amnesia",
                       "%s is ready on an emptied disk that nobody replaced",
                       host->name);
}

bool host_step(struct sim *sim, struct host *host, struct event *event)
{
    ASSERT(host->node != NULL);
    event->now_us = host_mono_us(sim, host);
    event->wall_ms = host_wall_ms(sim, host);
    trace_mix(&sim->trace, (uint64_t)sim->now_us << 8 | host->index << 4 |
                               (unsigned)event->kind);
    bool was_ready = node_is_ready(host->node);
    recorder_begin(&host->recorder, event, &host->effects);
    node_step(host->node, event, &host->effects);
    recorder_end(&host->recorder, &host->effects);
    if (node_topology(host->node)->epoch != host->epoch)
        owners_changed(sim, host);
    host->epoch = node_topology(host->node)->epoch;
    if (!was_ready && node_is_ready(host->node))
        became_ready(sim, host);
    carry_out(sim, host);
    bool hangs_up = host->effects.hang_up;
    effects_reset(&host->effects);
    return hangs_up;
}

bool host_is_known(const struct sim *sim, const struct host *host)
{
    uint8_t name[7 + NODE_ID_SIZE] = "member/";
    memcpy(name + 7, host->id.bytes, NODE_ID_SIZE);
    struct storage_key note = {.table = TABLE_META,
                               .key = bytes_of(name, sizeof name)};
    struct buffer encoded = {0};
    struct bytes store = stored_meta(host, META_STORE);
    enum status status = storage_key_encode(&note, &encoded);
    ASSERT(status == STATUS_OK);
    bool known = store.size > 0;
    for (uint32_t i = 0; i < sim->plan.hosts && known; i++) {
        struct bytes noted =
            storage_get(&sim->hosts[i].storage, buffer_bytes(&encoded));
        Rkv__Member *member = rkv__member__unpack(NULL, noted.size, noted.data);
        known = i == host->index || !host_is_here(&sim->hosts[i]) ||
                (member != NULL && member->boot >= host->boot &&
                 bytes_equal(bytes_of_binary(member->store_id), store));
        rkv__member__free_unpacked(member, NULL);
    }
    buffer_fini(&encoded);
    return known;
}

void host_tick(struct sim *sim, struct host *host)
{
    struct event event = {.kind = EVENT_TICK};
    /* From here on it would be wrong to refuse it. */
    if (host->is_filled && host_is_known(sim, host))
        host->lost = LOST_NOTHING;
    if (host->lost == LOST_NOTHING)
        host->is_replaced = host->is_filled = false;
    network_tick(sim, host);
    watch(sim, host);
    host_step(sim, host, &event);
    sim_in(sim, sim->plan.tick_us, MOMENT_TICK, host->index, host->life, 0);
}
