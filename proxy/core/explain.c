/* SPDX-License-Identifier: MIT */
#include "proxy/core/node_internal.h"

/* What every owner of a key holds of it: asked of all, answered when all have
 * been heard or the deadline passed. Answers are kept as packed messages. */

struct seen {
    uint32_t owner;
    enum status status;
    uint64_t version;
    uint64_t record_bytes;
    uint32_t values, tombstones, dots;
    /* followed by `dots` struct dot */
};

static struct relay_op *find(struct node *node, uint64_t request)
{
    uint64_t serial = request_serial(request);
    if (slot_of(serial) >= RELAYS_MAX)
        return NULL;
    struct relay_op *relay = &node->relays[slot_of(serial)];
    return relay->used && relay->explain && relay->serial == serial ? relay
                                                                    : NULL;
}

static void ask_owners(struct node *node, struct relay_op *relay,
                       struct effects *effects)
{
    uint64_t number = request_number(OWNER_EXPLAIN, relay->serial);
    struct bytes key = {
        arena_copy(&effects->arena, relay->key, relay->key_size),
        relay->key_size};
    for (size_t i = 0; i < relay->owner_count && key.data != NULL; i++) {
        if (node_id_equal(relay->owners[i], node->self)) {
            struct storage_op op = {
                .kind = STORAGE_READ,
                .token = number,
                .key = {.table = TABLE_DATA,
                        .partition = partition_of(relay->bucket, key,
                                                  node->topology.partitions),
                        .bucket = relay->bucket,
                        .key = key},
                .deadline_ms = relay->deadline_ms,
            };
            (void)effects_storage(effects, &op);
            continue;
        }
        Rkv__Fetch *fetch =
            message_new(&effects->arena, &rkv__fetch__descriptor);
        if (fetch == NULL)
            return; /* the deadline answers */
        fetch->bucket = relay->bucket.value;
        fetch->key = binary_of_bytes(key);
        fetch->epoch = node->topology.epoch;
        outbox_request(
            &effects->out, relay->owners[i], LANE_FOREGROUND, number,
            envelope_new(&effects->arena, RKV__ENVELOPE__BODY_FETCH, fetch));
    }
}

void explain_request(struct node *node, struct reply_token token,
                     const Rkv__Admin *admin, struct effects *effects)
{
    struct admitted admitted;
    struct error error;
    uint64_t serial;
    enum status status = admit(node, admin->bucket, bytes_of_binary(admin->key),
                               LEVEL_DEFAULT, false, 0, &admitted, &error);
    if (status != STATUS_OK) {
        reply_result(node, effects, token, status, RKV__OUTCOME__NONE,
                     error.text);
        return;
    }
    int slot = slots_take(&node->relay_slots, &serial);
    if (slot < 0) {
        reply_result(node, effects, token, STATUS_OVERLOADED,
                     RKV__OUTCOME__NONE, "too many lists are under way");
        return;
    }
    struct relay_op *relay = &node->relays[slot];
    *relay = (struct relay_op){
        .used = true,
        .explain = true,
        .serial = serial,
        .token = token,
        .deadline_ms = admitted.deadline_ms,
        .bucket = admitted.bucket->id,
        .key_size = (uint16_t)admitted.key.size,
    };
    memcpy(relay->key, admitted.key.data, admitted.key.size);
    relay->owner_count =
        preference_list(node, admitted.partition, relay->owners);
    ask_owners(node, relay, effects);
}

static enum status describe(const struct record *record, int64_t wall_ms,
                            struct seen *seen, struct buffer *dots)
{
    enum status status = STATUS_OK;
    seen->values = (uint32_t)record->value_count;
    for (size_t i = 0; i < record->value_count && status == STATUS_OK; i++) {
        seen->tombstones += value_is_gone(&record->values[i], wall_ms);
        size_t count = record->values[i].dot_count;
        status = buffer_append(
            dots, bytes_of(record->values[i].dots, count * sizeof(struct dot)));
        seen->dots += (uint32_t)count;
    }
    return status;
}

static void heard(struct node *node, struct relay_op *relay,
                  struct node_id from, enum status status, struct bytes encoded,
                  struct effects *effects)
{
    struct seen seen = {.status = status, .record_bytes = encoded.size};
    struct buffer dots = {0};
    struct record record;
    while (seen.owner < relay->owner_count &&
           !node_id_equal(relay->owners[seen.owner], from))
        seen.owner++;
    if (status == STATUS_OK) {
        seen.status = record_decode(encoded, &effects->arena, &record);
        if (seen.status == STATUS_OK) {
            seen.version = record_version(encoded);
            seen.status = describe(&record, node->wall_ms, &seen, &dots);
        }
        if (seen.status != STATUS_OK)
            seen.dots = 0;
    }
    if (seen.owner < relay->owner_count &&
        buffer_append(&relay->states, bytes_of(&seen, sizeof seen)) ==
            STATUS_OK &&
        buffer_append(&relay->states,
                      bytes_of(dots.data, seen.dots * sizeof(struct dot))) !=
            STATUS_OK)
        buffer_clear(&relay->states);
    buffer_fini(&dots);
    if (++relay->heard < relay->owner_count)
        return;
    explain_answer(node, relay, effects);
    buffer_fini(&relay->states);
    relay->used = false;
    slots_give(&node->relay_slots, relay->serial);
}

void explain_stored(struct node *node, const struct storage_result *result,
                    struct effects *effects)
{
    struct relay_op *relay = find(node, result->op->token);
    if (relay != NULL)
        heard(node, relay, node->self, result->status, result->record, effects);
}

void explain_reply(struct node *node, uint64_t request, struct node_id from,
                   const Rkv__Envelope *reply, struct effects *effects)
{
    struct relay_op *relay = find(node, request);
    if (relay == NULL)
        return;
    if (reply != NULL && reply->body_case == RKV__ENVELOPE__BODY_FETCH_REPLY)
        heard(node, relay, from, (enum status)reply->fetch_reply->status,
              bytes_of_binary(reply->fetch_reply->record), effects);
    else
        heard(node, relay, from, STATUS_CLOSED, (struct bytes){0}, effects);
}

/* One answer, in wire form; NULL when memory is spent. */
static Rkv__ReplicaState *state_of(const struct node *node,
                                   const struct relay_op *relay,
                                   const struct seen *seen, const uint8_t *dots,
                                   struct arena *arena)
{
    Rkv__ReplicaState *state =
        message_new(arena, &rkv__replica_state__descriptor);
    Rkv__Dot **list = arena_alloc(arena, (seen->dots + 1) * sizeof *list);
    if (state == NULL || list == NULL)
        return NULL;
    state->node =
        arena_string(arena, node_name_of(node, relay->owners[seen->owner]));
    state->status = (Rkv__Status)seen->status;
    state->version = seen->version;
    state->values = seen->values;
    state->tombstones = seen->tombstones;
    state->record_bytes = seen->record_bytes;
    state->dots = list;
    for (uint32_t i = 0; i < seen->dots; i++) {
        struct dot dot;
        memcpy(&dot, dots + i * sizeof dot, sizeof dot);
        Rkv__Dot *wire = message_new(arena, &rkv__dot__descriptor);
        if (wire == NULL)
            return NULL;
        wire->incarnation = dot.actor.incarnation;
        wire->epoch = dot.actor.epoch;
        wire->counter = dot.counter;
        list[state->n_dots++] = wire;
    }
    return state;
}

static void add_states(const struct node *node, const struct relay_op *relay,
                       Rkv__AdminReply *reply, struct arena *arena)
{
    for (size_t at = 0; at < relay->states.size;) {
        struct seen seen;
        memcpy(&seen, relay->states.data + at, sizeof seen);
        at += sizeof seen;
        Rkv__ReplicaState *state =
            state_of(node, relay, &seen, relay->states.data + at, arena);
        at += seen.dots * sizeof(struct dot);
        if (state != NULL)
            reply->replica_states[reply->n_replica_states++] = state;
    }
}

void explain_answer(struct node *node, const struct relay_op *relay,
                    struct effects *effects)
{
    struct arena *arena = &effects->arena;
    Rkv__AdminReply *reply = message_new(arena, &rkv__admin_reply__descriptor);
    Rkv__ReplicaState **states =
        arena_alloc(arena, OWNERS_MAX * sizeof *states);
    if (reply != NULL && states != NULL) {
        reply->result =
            result_new(node, arena, STATUS_OK, RKV__OUTCOME__NONE, NULL);
        reply->partition =
            partition_of(relay->bucket, bytes_of(relay->key, relay->key_size),
                         node->topology.partitions)
                .value;
        reply->replica_states = states;
        add_states(node, relay, reply, arena);
    }
    reply_with(effects, relay->token, RKV__ENVELOPE__BODY_ADMIN_REPLY, reply);
}
