/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "proxy/core/node_internal.h"

/* Beside requests, of which there may be 4096. */
enum { MENDS_MAX = 64 };

/* A read of our own; see read_mend. */
static bool is_mend(const struct read_op *op)
{
    return op->token.value == 0;
}

static struct read_op *find(struct node *node, uint64_t request)
{
    uint64_t serial = request_serial(request);
    if (slot_of(serial) >= node->read_slots.count)
        return NULL;
    struct read_op *op = &node->reads[slot_of(serial)];
    return op->used && op->serial == serial ? op : NULL;
}

static void finish(struct node *node, struct read_op *op)
{
    get_fini(&op->get);
    node->inflight_bytes -= op->charged_bytes;
    slots_give(&node->read_slots, op->serial);
    op->used = false;
}

static void reply(struct node *node, const struct read_op *op,
                  enum status status, const char *message, Rkv__ReadReply *body,
                  struct effects *effects)
{
    if (is_mend(op))
        return; /* nobody asked */
    Rkv__Result *result =
        result_new(node, &effects->arena, status, RKV__OUTCOME__NONE, message);
    node_took(node, LATENCY_GET_ANSWER, op->arrived_us);
    if (body != NULL && result != NULL) {
        result->need = (uint32_t)op->get.r;
        result->got = (uint32_t)get_answers(&op->get);
        body->result = result;
    }
    reply_with(effects, op->token, RKV__ENVELOPE__BODY_READ_REPLY, body);
}

static const char *why_failed(enum status status)
{
    if (status == STATUS_OVERLOADED)
        return "too many bytes are in flight";
    if (status == STATUS_NO_MEMORY)
        return "no memory for the read";
    if (status == STATUS_STALE)
        return "no replica that answered has all that the context has seen; "
               "read again, or without it if it stays so: what it has seen is "
               "lost then";
    return "too few replicas answered";
}

static void reply_failure(struct node *node, const struct read_op *op,
                          enum status status, struct effects *effects)
{
    node_count(node, COUNTER_READS_FAILED);
    reply(node, op, status, why_failed(status),
          message_new(&effects->arena, &rkv__read_reply__descriptor), effects);
}

struct live_values live_values(const struct record *record,
                               const struct bucket_config *bucket,
                               int64_t wall_ms, struct arena *arena)
{
    size_t room = record->value_count + 1;
    struct live_values live = {
        .values = arena_alloc(arena, room * sizeof *live.values),
        .ttl_ms = arena_alloc(arena, room * sizeof *live.ttl_ms),
    };
    if (live.values == NULL || live.ttl_ms == NULL)
        return live;
    bool expires = bucket->ttl_s != 0;
    for (size_t i = 0; i < record->value_count; i++) {
        const struct value *value = &record->values[i];
        if (value_is_gone(value, wall_ms))
            continue;
        expires |= value->expires_ms != 0;
        live.ttl_ms[live.count] =
            value->expires_ms == 0 ? 0 : value->expires_ms - wall_ms;
        live.values[live.count++] = binary_of_bytes(value->data);
    }
    live.ttl_count = expires ? live.count : 0;
    return live;
}

ProtobufCBinaryData context_for_client(const struct record *record,
                                       uint64_t hash, struct arena *arena)
{
    struct buffer encoded = {0};
    struct bytes copy = {0};
    const struct context seen = record_seen(record);
    if (context_encode(&seen, hash, &encoded) == STATUS_OK) {
        copy.data = arena_copy(arena, encoded.data, encoded.size);
        copy.size = copy.data == NULL ? 0 : encoded.size;
    }
    buffer_fini(&encoded);
    return binary_of_bytes(copy);
}

static void reply_record(struct node *node, const struct read_op *op,
                         struct effects *effects)
{
    struct arena *arena = &effects->arena;
    Rkv__ReadReply *body = message_new(arena, &rkv__read_reply__descriptor);
    /* Copied, because the operation may end before the reply is packed. */
    struct bytes merged = {
        .data = arena_copy(arena, op->get.merged.data, op->get.merged.size),
        .size = op->get.merged.size,
    };
    struct record record = record_empty(op->bucket->kind);
    if (body == NULL || merged.data == NULL ||
        (merged.size > 0 &&
         record_decode(merged, arena, &record) != STATUS_OK)) {
        reply_failure(node, op, STATUS_NO_MEMORY, effects);
        return;
    }
    struct live_values live =
        live_values(&record, op->bucket, node->wall_ms, arena);
    body->n_values = live.count;
    body->values = live.values;
    body->n_ttl_ms = live.ttl_count;
    body->ttl_ms = live.ttl_ms;
    if (body->n_values > 1)
        node_count(node, COUNTER_SIBLINGS);
    if (merged.size > 0)
        body->context = context_for_client(
            &record, key_hash(op->bucket->id, bytes_of(op->key, op->key_size)),
            arena);
    reply(node, op, body->n_values == 0 ? STATUS_NOT_FOUND : STATUS_OK, NULL,
          body, effects);
}

/* What was sent is answered, or given up for good when its session ends. */
static void send(struct node *node, const struct read_op *op,
                 struct node_id whom, const Rkv__Envelope *envelope,
                 struct effects *effects)
{
    size_t sent = effects->out.count;
    int index = topology_node(&node->topology, whom);
    outbox_request(&effects->out, whom, LANE_FOREGROUND,
                   request_number(OWNER_READ, op->serial), envelope);
    if (index >= 0 && effects->out.count > sent)
        node->read_peers[index].debt++;
}

static void settle_debt(struct node *node, struct node_id from)
{
    int index = topology_node(&node->topology, from);
    if (index >= 0 && node->read_peers[index].debt > 0)
        node->read_peers[index].debt--;
}

static void ask(struct node *node, const struct read_op *op,
                struct node_id whom, struct effects *effects)
{
    /* Copied, because the operation may end in the same step. */
    struct bytes key = {arena_copy(&effects->arena, op->key, op->key_size),
                        op->key_size};
    if (key.data == NULL)
        return; /* as if the message were lost */
    if (node_id_equal(whom, node->self)) {
        struct storage_op storage = {
            .kind = STORAGE_READ,
            .token = request_number(OWNER_READ, op->serial),
            .key = {.table = TABLE_DATA,
                    .partition = op->partition,
                    .bucket = op->bucket->id,
                    .key = key},
            .asked_us = node->now_us,
            .epoch = op->epoch,
            .deadline_ms = op->get.deadline_ms,
        };
        (void)effects_storage(effects, &storage);
        return;
    }
    Rkv__Fetch *fetch = message_new(&effects->arena, &rkv__fetch__descriptor);
    if (fetch == NULL)
        return;
    fetch->bucket = op->bucket->id.value;
    fetch->key = binary_of_bytes(key);
    fetch->epoch = op->epoch;
    send(node, op, whom,
         envelope_new(&effects->arena, RKV__ENVELOPE__BODY_FETCH, fetch),
         effects);
}

/* A mend of our own was begun behind the damage, so that nothing which the copy
 * had acknowledged can be missing. What another's read found may be older: its
 * write-back is refused, and the owner mends. */
static void write_back(struct node *node, const struct read_op *op,
                       struct node_id whom, struct effects *effects)
{
    node_count(node, COUNTER_READ_REPAIRS);
    struct arena *arena = &effects->arena;
    struct bytes key = {arena_copy(arena, op->key, op->key_size), op->key_size};
    struct bytes record = {
        arena_copy(arena, op->get.merged.data, op->get.merged.size),
        op->get.merged.size};
    if (key.data == NULL || record.data == NULL)
        return; /* as if the message were lost */
    if (node_id_equal(whom, node->self)) {
        struct storage_op storage = {
            .kind = STORAGE_MERGE,
            .token = request_number(OWNER_READ, op->serial),
            .key = {.table = TABLE_DATA,
                    .partition = op->partition,
                    .bucket = op->bucket->id,
                    .key = key},
            .epoch = op->epoch,
            .record_kind = op->bucket->kind,
            .wall_ms = node->wall_ms,
            .data = record,
            .mends = is_mend(op),
        };
        (void)effects_storage(effects, &storage);
        return;
    }
    Rkv__Store *store = message_new(arena, &rkv__store__descriptor);
    if (store == NULL)
        return;
    store->bucket = op->bucket->id.value;
    store->key = binary_of_bytes(key);
    store->record = binary_of_bytes(record);
    store->epoch = op->epoch;
    send(node, op, whom, envelope_new(arena, RKV__ENVELOPE__BODY_STORE, store),
         effects);
}

/* What it was told counts among the bytes in flight: who reads much at once
 * could fill all memory otherwise. */
static bool has_room(struct node *node, struct read_op *op)
{
    node->inflight_bytes -= op->charged_bytes;
    op->charged_bytes = op->get.merged.size + op->get.seen.size;
    node->inflight_bytes += op->charged_bytes;
    return node->inflight_bytes <= node->config.limits.inflight_bytes_max;
}

/* Asking ends with the R-th answer, or with too few. */
static void measure_replicas(struct node *node, struct read_op *op)
{
    if (!op->asks || op->get.state == GET_ASKING)
        return;
    op->asks = false;
    if (get_answers(&op->get) >= op->get.r)
        node_took(node, LATENCY_GET_REPLICAS, op->arrived_us);
}

static void carry_out(struct node *node, struct read_op *op,
                      const struct get_actions *actions,
                      struct effects *effects)
{
    measure_replicas(node, op);
    for (size_t i = 0; i < actions->count; i++) {
        const struct get_action *action = &actions->list[i];
        switch (action->kind) {
        case GET_ASK:
            ask(node, op, action->node, effects);
            break;
        case GET_WRITE_BACK:
            write_back(node, op, action->node, effects);
            break;
        case GET_REPLY:
            if (is_mend(op))
                break;
            if (action->status == STATUS_OK)
                reply_record(node, op, effects);
            else
                reply_failure(node, op, action->status, effects);
            break;
        }
    }
    if (op->get.state != GET_DONE && !has_room(node, op)) {
        node_count(node, COUNTER_REFUSED_OVERLOADED);
        if (op->get.state != GET_ANSWERED)
            reply_failure(node, op, STATUS_OVERLOADED, effects);
        op->get.state = GET_DONE;
    }
    if (op->get.state == GET_DONE)
        finish(node, op);
}

static size_t without(struct node_id *list, size_t count, struct node_id node)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!node_id_equal(list[i], node))
            list[kept++] = list[i];
    return kept;
}

/* Who is asked, the best first; of a partition that moves last the one of the
 * two owners that are one which is, and the other is silent. */
static size_t readers(struct node *node, struct partition partition,
                      struct node_id *list, struct node_id *silent)
{
    struct node_id leaving, coming;
    size_t count = preference_list(node, partition, list);
    if (!topology_moves(&node->topology, partition, &leaving, &coming))
        return count;
    bool turned = node->topology.move.kind == DECREE_TURN;
    *silent = turned ? leaving : coming;
    count = without(list, without(list, count, leaving), coming);
    list[count++] = turned ? coming : leaving;
    return count;
}

/* False: too many are in flight. */
static bool begin(struct node *node, struct reply_token token,
                  const struct admitted *admitted, struct context seen,
                  struct effects *effects)
{
    uint64_t serial;
    int slot = slots_take(&node->read_slots, &serial);
    if (slot < 0)
        return false;
    struct read_op *op = &node->reads[slot];
    op->used = true;
    op->serial = serial;
    op->token = token;
    op->epoch = node->topology.epoch;
    op->arrived_us = node->now_us;
    op->asks = true;
    op->charged_bytes = 0;
    op->bucket = admitted->bucket;
    op->partition = admitted->partition;
    op->key_size = (uint16_t)admitted->key.size;
    memcpy(op->key, admitted->key.data, admitted->key.size);
    struct node_id replicas[OWNERS_MAX], silent = {{0}};
    struct get_config config = {
        .replicas = replicas,
        .replica_count = readers(node, op->partition, replicas, &silent),
        .r = admitted->level,
        .silent = silent,
        .seen = seen,
        .deadline_ms = admitted->deadline_ms,
        .hedge_ms = node->config.timeouts.hedge_ms,
        .wall_ms = node->wall_ms,
        .dedup_window_ms = node->config.timeouts.dedup_window_ms,
    };
    /* From a majority on, reads of a client never go back. */
    config.monotonic = config.r * 2 > config.replica_count;
    config.sloppy = admitted->bucket->sloppy;
    struct get_actions actions;
    enum status status = get_start(&op->get, &config, node->now_ms, &actions);
    if (status == STATUS_OK) {
        carry_out(node, op, &actions, effects);
    } else {
        reply_failure(node, op, status, effects);
        finish(node, op);
    }
    return true;
}

void read_request(struct node *node, struct reply_token token,
                  const Rkv__Read *read, struct effects *effects)
{
    struct admitted admitted;
    struct error error;
    node_count(node, COUNTER_READS);
    enum status status =
        admit(node, read->bucket, bytes_of_binary(read->key), read->r, false,
              read->timeout_ms, &admitted, &error);
    if (status != STATUS_OK) {
        reply_result(node, effects, token, status, RKV__OUTCOME__NONE,
                     error.text);
        return;
    }
    struct context seen;
    status = context_decode(
        bytes_of_binary(read->context),
        key_hash(admitted.bucket->id, bytes_of_binary(read->key)),
        &effects->arena, &seen);
    if (status != STATUS_OK) {
        reply_result(node, effects, token, status, RKV__OUTCOME__NONE,
                     context_mistake(status));
        return;
    }
    if (node->inflight_bytes + seen.count * sizeof *seen.entries >
        node->config.limits.inflight_bytes_max) {
        reply_result(node, effects, token, STATUS_OVERLOADED,
                     RKV__OUTCOME__NONE, "too many bytes are in flight");
        return;
    }
    if (!begin(node, token, &admitted, seen, effects))
        reply_result(node, effects, token, STATUS_OVERLOADED,
                     RKV__OUTCOME__NONE, "too many requests are in flight");
}

/* Of all damage that is met the first is told, the second, the fourth, ... */
static void count_damage(struct node *node, const struct storage_key *key,
                         struct effects *effects)
{
    char line[120];
    node_count(node, COUNTER_RECORDS_DAMAGED);
    uint64_t count = node->counters[COUNTER_RECORDS_DAMAGED];
    if ((count & (count - 1)) != 0 || effects->log != NULL)
        return;
    snprintf(line, sizeof line,
             "event=record_damaged partition=%u count=%llu what=\"it is mended "
             "from the other replicas\"",
             key->partition.value, (unsigned long long)count);
    effects->log = arena_string(&effects->arena, line);
}

/* Whether a mend more may begin: there is none of the key, nor so many that
 * requests would find no slot. */
static bool may_mend(const struct node *node, const struct storage_key *key)
{
    size_t mends = 0;
    for (size_t i = 0; i < slots_end(&node->read_slots); i++) {
        const struct read_op *op = &node->reads[i];
        if (!op->used || !is_mend(op))
            continue;
        if (op->bucket->id.value == key->bucket.value &&
            bytes_equal(bytes_of(op->key, op->key_size), key->key))
            return false;
        mends++;
    }
    return mends < MENDS_MAX;
}

void read_mend(struct node *node, const struct storage_key *key,
               struct effects *effects)
{
    struct admitted admitted = {
        .bucket = node_bucket(node, key->bucket),
        .partition = key->partition,
        .key = key->key,
        .level = (uint32_t)topology_replica_count(&node->topology),
        .deadline_ms = node->now_ms + node->config.timeouts.request_ms,
    };
    /* One that is being filled has no vote, and is read of all owners. */
    if (admitted.bucket == NULL || fill_is_missing(node, key->partition) ||
        !may_mend(node, key))
        return;
    count_damage(node, key, effects);
    (void)begin(node, (struct reply_token){0}, &admitted, (struct context){0},
                effects);
}

static bool is_in(const struct read_op *op, struct node_id replica,
                  enum get_replica_state state)
{
    for (size_t i = 0; i < op->get.replica_count; i++)
        if (node_id_equal(op->get.replicas[i].node, replica))
            return op->get.replicas[i].state == state;
    return node_id_equal(op->get.silent.node, replica) &&
           op->get.silent.state == state;
}

void read_stored(struct node *node, const struct storage_result *result,
                 struct effects *effects)
{
    struct read_op *op = find(node, result->op->token);
    if (op == NULL)
        return;
    struct get_actions actions;
    enum status status = result->status;
    if (result->op->kind == STORAGE_READ) {
        if (status == STATUS_OK || status == STATUS_NOT_FOUND)
            node_took(node, LATENCY_GET_READ, result->op->asked_us);
        if (fill_is_missing(node, op->partition))
            status = STATUS_UNCERTAIN;
        if (is_outdated(node, result->op))
            status = STATUS_REFUSED;
        get_hear(&op->get, node->self, status, result->record, &effects->arena,
                 &actions);
        if (op->get.has_damage && !is_mend(op) &&
            is_in(op, node->self, REPLICA_DAMAGED))
            read_mend(node, &result->op->key, effects);
    } else {
        get_hear_written(
            &op->get, node->self,
            is_outdated(node, result->op) ? STATUS_REFUSED : status, &actions);
    }
    carry_out(node, op, &actions, effects);
}

void read_reply(struct node *node, uint64_t request, struct node_id from,
                const Rkv__Envelope *reply, struct effects *effects)
{
    struct read_op *op = find(node, request);
    settle_debt(node, from);
    if (op == NULL)
        return;
    struct get_actions actions = {.count = 0};
    if (reply != NULL && reply->body_case == RKV__ENVELOPE__BODY_FETCH_REPLY)
        get_hear(&op->get, from, (enum status)reply->fetch_reply->status,
                 bytes_of_binary(reply->fetch_reply->record), &effects->arena,
                 &actions);
    else if (reply != NULL &&
             reply->body_case == RKV__ENVELOPE__BODY_STORE_REPLY)
        get_hear_written(&op->get, from,
                         (enum status)reply->store_reply->status, &actions);
    /* What we last sent it was a write-back: that alone can fail without saying
     * which of the two it answers. */
    else if (is_in(op, from, REPLICA_WRITTEN))
        get_hear_written(&op->get, from, STATUS_CLOSED, &actions);
    else
        get_hear(&op->get, from, STATUS_CLOSED, (struct bytes){0},
                 &effects->arena, &actions);
    carry_out(node, op, &actions, effects);
}

void reads_tick(struct node *node, struct effects *effects)
{
    for (size_t i = 0; i < slots_end(&node->read_slots); i++) {
        struct read_op *op = &node->reads[i];
        if (!op->used)
            continue;
        struct get_actions actions;
        get_tick(&op->get, node->now_ms, &actions);
        if (actions.count > 0 && actions.list[0].kind == GET_ASK)
            node_count(node, COUNTER_READS_HEDGED);
        carry_out(node, op, &actions, effects);
    }
}
