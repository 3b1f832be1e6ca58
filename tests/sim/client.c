/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"
#include "sim.h"

void client_fini(struct client *client)
{
    buffer_fini(&client->request);
    for (size_t i = 0; i < KEYS_MAX; i++)
        buffer_fini(&client->knowledge[i].context);
}

static const char *name_of(const struct client *client)
{
    static const char *const names[] = {"c0", "c1", "c2", "c3", "c4", "c5"};
    return names[client->index];
}

void client_wake_in(struct sim *sim, struct client *client, int64_t in_us)
{
    client->generation++;
    sim_in(sim, in_us, MOMENT_CLIENT, client->index, client->generation, 0);
}

/* --- operations --- */

static void rest(struct sim *sim, struct client *client)
{
    client->task = TASK_NONE;
    client->is_mistake = false;
    client->operation++;
    buffer_clear(&client->request);
    if (!client->is_checker || sim->stage != SIM_HEALING)
        client_wake_in(sim, client,
                       random_range(&sim->client_random, sim->plan.think_us / 4,
                                    sim->plan.think_us * 2));
    else
        client_wake_in(sim, client, 20000);
}

static void begin(struct sim *sim, struct client *client, enum client_task task,
                  uint32_t attempts_max, const Rkv__Envelope *envelope)
{
    enum status status = envelope_pack(envelope, &client->request);
    ASSERT(status == STATUS_OK);
    client->task = task;
    client->attempts = 0;
    client->attempts_max = attempts_max;
    client->maybe = false;
    attempt_send(sim, client);
}

static int draw_level(struct randomness *random, bool may_be_one)
{
    static const int levels[] = {LEVEL_QUORUM, LEVEL_DEFAULT, 2, LEVEL_ALL, 1};
    return levels[random_below(random, may_be_one ? 5 : 4)];
}

/* What the level means; by default it is the quorum. */
static uint32_t need_of(const struct sim *sim, int level)
{
    if (level > 0)
        return (uint32_t)level;
    return level == LEVEL_ALL ? sim->plan.replicas : sim->plan.replicas / 2 + 1;
}

/* Some ask for no less than they know; who reads all, after healing, for what
 * replicas gave before. */
static void name_seen(struct sim *sim, struct client *client, uint32_t key,
                      Rkv__Read *read)
{
    static struct record_view view; /* large; one thread */
    struct bytes context = buffer_bytes(&client->knowledge[key].context);
    client->seen = (struct read_floor){.count = 0};
    /* One from before the night may name what was collected in it. */
    bool is_fresh = client->knowledge[key].learnt_us >= sim->history.night_us;
    bool asks = client->is_checker ? sim->final_read[key]
                                   : random_chance(&sim->client_random, 400);
    if (!asks || !is_fresh ||
        !context_view_read(&view, context.data, context.size))
        return;
    read->context = binary_of_bytes(context);
    floor_raise(&client->seen, &view);
}

static void begin_read(struct sim *sim, struct client *client, uint32_t key,
                       int level)
{
    Rkv__Read read = RKV__READ__INIT;
    union {
        const char *in;
        char *out;
    } bucket = {.in = sim->keys[key].bucket->name};
    read.bucket = bucket.out;
    read.key = binary_of_bytes(bytes_of_string(sim->keys[key].name));
    read.r = level;
    read.timeout_ms = (uint32_t)random_range(&sim->client_random, 100, 800);
    client->key = key;
    client->need = need_of(sim, level);
    client->floor = sim->floors[key];
    name_seen(sim, client, key, &read);
    sim->tally->reads++;
    arena_reset(&sim->arena);
    sim_tell(sim, name_of(client), "reads %s from %u", sim->keys[key].name,
             client->need);
    begin(sim, client, TASK_READ, 1,
          envelope_new(&sim->arena, RKV__ENVELOPE__BODY_READ, &read));
}

static void begin_write(struct sim *sim, struct client *client, uint32_t key,
                        bool remove)
{
    struct randomness *random = &sim->client_random;
    struct knowledge *knowledge = &client->knowledge[key];
    /* Some write without having looked. */
    if (random_chance(random, 150)) {
        buffer_clear(&knowledge->context);
        knowledge->seen = (struct write_set){{0}};
    }
    uint32_t number = history_write(&sim->history, key, remove,
                                    &knowledge->seen, sim->now_us);
    if (number == 0) {
        rest(sim, client);
        return;
    }
    char value[32];
    uint64_t id[2] = {number, sim->seed};
    Rkv__Write write = RKV__WRITE__INIT;
    union {
        const char *in;
        char *out;
    } bucket = {.in = sim->keys[key].bucket->name};
    snprintf(value, sizeof value, "w%u", number);
    write.bucket = bucket.out;
    write.key = binary_of_bytes(bytes_of_string(sim->keys[key].name));
    write.remove = remove;
    if (!remove)
        write.value = binary_of_bytes(bytes_of_string(value));
    if (!remove && random_chance(random, 200)) {
        /* Half of them outlive every run. */
        write.ttl_ms = random_chance(random, 500)
                           ? random_range(random, 20, 1500)
                           : INT64_C(1000) * 86400000;
        sim->history.writes[number].expires = true;
        sim->history.writes[number].expires_min_ms =
            host_walls(sim).earliest_ms + write.ttl_ms;
    }
    write.context = binary_of_bytes(buffer_bytes(&knowledge->context));
    /* A disk that is lost may be the only one that had it. */
    write.w = draw_level(random, !sim->plan.may_lose);
    write.request_id = binary_of_bytes(bytes_of(id, sizeof id));
    write.timeout_ms = (uint32_t)random_range(random, 100, 800);
    client->key = key;
    client->write = number;
    client->need = need_of(sim, write.w);
    sim->tally->writes++;
    arena_reset(&sim->arena);
    sim_tell(sim, name_of(client), "%s %s on %u as write %u%s",
             remove ? "deletes" : "puts", sim->keys[key].name, client->need,
             number, knowledge->context.size == 0 ? ", blindly" : "");
    begin(sim, client, TASK_WRITE, (uint32_t)random_range(random, 1, 5),
          envelope_new(&sim->arena, RKV__ENVELOPE__BODY_WRITE, &write));
}

/* All but RECORDING, which is not the node's. Repairs, which mend what other
 * faults of a seed left to be found, come in some seeds only. */
static void draw_admin(struct sim *sim, Rkv__Admin *admin)
{
    enum { REPAIRED = 5 };
    struct randomness *random = &sim->client_random;
    bool repairs = sim->seed % REPAIRED == 0;
    admin->what = (Rkv__Admin__What)random_below(
        random,
        repairs ? RKV__ADMIN__WHAT__RECORDING : RKV__ADMIN__WHAT__LATENCY);
    admin->one_partition = repairs && random_chance(random, 300);
    admin->full = repairs && random_chance(random, 300);
}

static void begin_admin(struct sim *sim, struct client *client)
{
    Rkv__Admin admin = RKV__ADMIN__INIT;
    Rkv__List list = RKV__LIST__INIT;
    uint32_t key = (uint32_t)random_below(&sim->client_random, sim->plan.keys);
    union {
        const char *in;
        char *out;
    } bucket = {.in = sim->keys[key].bucket->name};
    draw_admin(sim, &admin);
    if (admin.what != RKV__ADMIN__WHAT__REPAIR || admin.one_partition)
        admin.bucket = bucket.out;
    admin.key = binary_of_bytes(bytes_of_string(sim->keys[key].name));
    list.partition =
        (uint32_t)random_below(&sim->client_random, sim->plan.partitions);
    admin.partition = list.partition;
    arena_reset(&sim->arena);
    bool lists = random_chance(&sim->client_random, 500);
    begin(sim, client, TASK_ADMIN, 1,
          envelope_new(&sim->arena,
                       lists ? RKV__ENVELOPE__BODY_LIST
                             : RKV__ENVELOPE__BODY_ADMIN,
                       lists ? (void *)&list : (void *)&admin));
}

/* A write that says something that is not allowed. */
static void begin_mistake(struct sim *sim, struct client *client)
{
    enum { MISTAKES = 5 };
    static uint8_t key[KEY_BYTES_MAX + 1], id[REQUEST_ID_SIZE] = {1};
    Rkv__Write write = RKV__WRITE__INIT;
    uint64_t mistake = random_below(&sim->client_random, MISTAKES);
    union {
        const char *in;
        char *out;
    } bucket = {.in = mistake == 0 ? "undeclared" : sim_buckets[0].name};
    write.bucket = bucket.out;
    write.key = binary_of_bytes(bytes_of(key, mistake == 1 ? sizeof key : 1));
    write.w = mistake == 2 ? sim->plan.replicas + 1 : LEVEL_DEFAULT;
    write.request_id =
        binary_of_bytes(bytes_of(id, mistake == 3 ? 3 : sizeof id));
    write.ttl_ms = mistake == 4 ? TTL_MS_MAX + 1 : 0;
    client->is_mistake = true;
    sim->tally->faults[FAULT_CLIENT_MISTAKE]++;
    arena_reset(&sim->arena);
    begin(sim, client, TASK_ADMIN, 1,
          envelope_new(&sim->arena, RKV__ENVELOPE__BODY_WRITE, &write));
}

static void begin_next(struct sim *sim, struct client *client)
{
    struct randomness *random = &sim->client_random;
    uint32_t key = (uint32_t)random_below(random, sim->plan.keys);
    /* What was just read is what is written next, more often than not. */
    if (random_chance(random, 500))
        key = client->key;
    uint64_t what = random_below(random, 100);
    if (what < 40)
        begin_read(sim, client, key, draw_level(random, true));
    else if (what < 85)
        begin_write(sim, client, key, false);
    else if (what < 96)
        begin_write(sim, client, key, true);
    else if (what < 97)
        begin_mistake(sim, client);
    else
        begin_admin(sim, client);
}

/* The final reader goes round the keys. */
static void begin_check(struct sim *sim, struct client *client)
{
    begin_read(sim, client, sim->final_reads++ % sim->plan.keys, LEVEL_ALL);
}

static void give_up(struct sim *sim, struct client *client)
{
    if (client->task == TASK_WRITE && client->maybe)
        sim_tell(sim, name_of(client), "does not know of write %u",
                 client->write);
    if (client->task == TASK_WRITE && !client->maybe) {
        sim_tell(sim, name_of(client), "knows that write %u is nowhere",
                 client->write);
        check_not_applied(&sim->history, client->write, &sim->verdict);
    }
    rest(sim, client);
}

static void try_again(struct sim *sim, struct client *client)
{
    if (client->task != TASK_WRITE ||
        client->attempts >= client->attempts_max) {
        give_up(sim, client);
        return;
    }
    sim->tally->faults[FAULT_CLIENT_RETRY]++;
    sim_tell(sim, name_of(client), "sends write %u again", client->write);
    attempt_send(sim, client);
}

void client_wake(struct sim *sim, struct client *client)
{
    if (client->task != TASK_NONE) {
        sim->tally->faults[FAULT_CLIENT_TIMEOUT]++;
        client->maybe = true;
        try_again(sim, client);
    } else if (sim->stage == SIM_FAULTS) {
        begin_next(sim, client);
    } else if (sim->stage == SIM_HEALING && client->is_checker) {
        begin_check(sim, client);
    }
}

/* --- replies --- */

/* N is not what a node can see: a level means the same whoever is there. */
void client_check_counts(struct sim *sim, uint32_t need,
                         const Rkv__Result *result)
{
    if (result->need != need || result->got < result->need)
        verdict_unsafe(&sim->verdict, "outcome-true",
                       "a level that means %u is met by %u of %u", need,
                       result->got, result->need);
}

static bool is_majority(const struct sim *sim, uint32_t need)
{
    return need * 2 > sim->plan.replicas;
}

static void learn(struct sim *sim, struct client *client,
                  ProtobufCBinaryData context, const struct write_set *seen)
{
    struct knowledge *knowledge = &client->knowledge[client->key];
    knowledge->learnt_us = sim->now_us;
    buffer_clear(&knowledge->context);
    enum status status =
        buffer_append(&knowledge->context, bytes_of_binary(context));
    ASSERT(status == STATUS_OK);
    knowledge->seen = *seen;
}

static bool is_strict(uint32_t key)
{
    return !sim_buckets[key % SIM_BUCKETS].sloppy;
}

/* Some replica knows less of an actor than the client has seen, of what was
 * folded away: another client said that it had seen so much, and it is there
 * until it is folded away again. */
static bool shows_less(const struct sim *sim, const struct client *client)
{
    static struct record_view view; /* large; one thread */
    struct copy copies[COPIES_MAX];
    struct read_floor kept = client->seen;
    floor_forget(&kept, &sim->forgotten[client->key]);
    size_t count = observe_primaries(sim, client->key, copies);
    for (size_t i = 0; i < count; i++) {
        if (!record_view_read(&view, copies[i].data, copies[i].size))
            continue;
        for (size_t k = 0; k < client->seen.count; k++) {
            const struct view_dot *seen = &client->seen.dots[k];
            uint64_t counter =
                view_counter(view.context, view.context_count, seen);
            if (kept.dots[k].counter == 0 && counter > 0 &&
                counter < seen->counter)
                return true;
        }
    }
    return false;
}

static void hear_read(struct sim *sim, struct client *client,
                      const Rkv__ReadReply *reply)
{
    static struct record_view view; /* large; one thread */
    if (reply->result->status != RKV__STATUS__OK &&
        reply->result->status != RKV__STATUS__NOT_FOUND) {
        sim_tell(sim, name_of(client), "is told: %s",
                 status_name((enum status)reply->result->status));
        /* In a sloppy one a fallback might have what was folded away. */
        if (client->is_checker && is_strict(client->key) &&
            reply->result->status == RKV__STATUS__STALE &&
            !shows_less(sim, client))
            verdict_stuck(&sim->verdict, "session",
                          "%s is stale, and was given before",
                          sim->keys[client->key].name);
        rest(sim, client);
        return;
    }
    uint32_t writes[VIEW_VALUES_MAX];
    uint32_t key = client->key;
    client_check_counts(sim, client->need, reply->result);
    size_t count = observe_values(sim, reply, writes);
    char list[80];
    sim_tell(sim, name_of(client), "is shown%s",
             observe_list(writes, count, list, sizeof list));
    struct write_set seen;
    history_seen(&sim->history, writes, count, &seen);
    learn(sim, client, reply->context, &seen);
    if (!context_view_read(&view, reply->context.data, reply->context.len)) {
        verdict_unsafe(&sim->verdict, "outcome-true", "a malformed context");
        return;
    }
    floor_forget(&client->seen, &sim->forgotten[key]);
    floor_forget(&client->floor, &sim->forgotten[key]);
    /* What no replica at all has is taken for collected, lost or not. */
    if (losses_since(sim, key, sim->history.key_began_us[key]) == 0 ||
        view.context_count > 0)
        check_session(key, &client->seen, &view, &sim->verdict);
    if (is_majority(sim, client->need) && is_strict(key)) {
        check_monotonic_quorum(key, &client->floor, &view, &sim->verdict);
        floor_raise(&sim->floors[key], &view);
    }
    if (client->is_checker) {
        memcpy(sim->final_values[key], writes, count * sizeof *writes);
        sim->final_count[key] = count;
        sim->final_read[key] = true;
    }
    rest(sim, client);
}

static void hear_applied(struct sim *sim, struct client *client,
                         const Rkv__WriteReply *reply)
{
    static struct record_view view; /* large; one thread */
    struct write *write = &sim->history.writes[client->write];
    write->fate = FATE_APPLIED;
    sim->tally->acknowledged++;
    sim_tell(sim, name_of(client), "is told that write %u is applied on %u",
             client->write, reply->result->got);
    if (reply->context.len > 0) {
        struct write_set seen;
        history_seen(&sim->history, &client->write, 1, &seen);
        learn(sim, client, reply->context, &seen);
        if (context_view_read(&view, reply->context.data, reply->context.len) &&
            is_majority(sim, client->need) && is_strict(client->key))
            floor_raise(&sim->floors[client->key], &view);
    }
    rest(sim, client);
    faults_wrote(sim, client->key, client->write);
}

static void hear_write(struct sim *sim, struct client *client,
                       const Rkv__Envelope *envelope)
{
    const Rkv__Result *result =
        envelope->body_case == RKV__ENVELOPE__BODY_WRITE_REPLY
            ? envelope->write_reply->result
            : envelope->result;
    if (result->outcome == RKV__OUTCOME__APPLIED &&
        envelope->body_case == RKV__ENVELOPE__BODY_WRITE_REPLY) {
        hear_applied(sim, client, envelope->write_reply);
        return;
    }
    client->maybe |= result->outcome != RKV__OUTCOME__NOT_APPLIED;
    sim_tell(sim, name_of(client), "is told: %s, write %u is %s: %s",
             status_name((enum status)result->status), client->write,
             result->outcome == RKV__OUTCOME__NOT_APPLIED ? "not applied"
                                                          : "unknown",
             result->message);
    try_again(sim, client);
}

static void hear_of_mistake(struct sim *sim, struct client *client,
                            const Rkv__Envelope *envelope)
{
    bool is_reply = envelope->body_case == RKV__ENVELOPE__BODY_WRITE_REPLY;
    const Rkv__Result *result =
        is_reply ? envelope->write_reply->result : envelope->result;
    if (result->status == RKV__STATUS__OK ||
        result->outcome != RKV__OUTCOME__NOT_APPLIED)
        verdict_unsafe(&sim->verdict, "outcome-true",
                       "a write that is not allowed is answered %s",
                       status_name((enum status)result->status));
    rest(sim, client);
}

void client_hear(struct sim *sim, struct client *client, bool is_delivered,
                 const Rkv__Envelope *envelope)
{
    if (envelope == NULL) {
        client->maybe |= is_delivered;
        try_again(sim, client);
    } else if (client->task == TASK_WRITE) {
        hear_write(sim, client, envelope);
    } else if (client->task == TASK_READ &&
               envelope->body_case == RKV__ENVELOPE__BODY_READ_REPLY) {
        hear_read(sim, client, envelope->read_reply);
    } else if (client->task == TASK_ADMIN && client->is_mistake) {
        hear_of_mistake(sim, client, envelope);
    } else {
        rest(sim, client);
    }
}
