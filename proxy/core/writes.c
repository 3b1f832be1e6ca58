/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proxy/core/node_internal.h"

enum {
    /* Context and request id beside the value, roughly. */
    WRITE_OVERHEAD_BYTES = 1024,
    /* In hedge_ms, which is already more than is usual: so long after its
     * answer a write waits for the replicas that are late. With a hint for
     * each they lose nothing; with the client's deadline in its place one that
     * stands still would fill limits.inflight_max. */
    GRACE_HEDGES = 4,
};

static struct storage_key data_key(const struct write_op *op)
{
    return (struct storage_key){
        .table = TABLE_DATA,
        .partition = op->partition,
        .bucket = op->bucket->id,
        .key = bytes_of(op->key, op->key_size),
    };
}

static struct write_op *find(struct node *node, uint64_t request)
{
    uint64_t serial = request_serial(request);
    if (slot_of(serial) >= node->write_slots.count)
        return NULL;
    struct write_op *op = &node->writes[slot_of(serial)];
    return op->stage != WRITE_FREE && op->serial == serial ? op : NULL;
}

static void finish(struct node *node, struct write_op *op)
{
    node->inflight_bytes -= op->charged_bytes;
    slots_give(&node->write_slots, op->serial);
    buffer_fini(&op->payload);
    buffer_fini(&op->context);
    op->stage = WRITE_FREE;
}

static void answer(struct node *node, struct write_op *op, enum status status,
                   Rkv__Outcome outcome, const char *message,
                   struct effects *effects)
{
    ASSERT(!op->answered);
    op->answered = true;
    node_took(node,
              op->stage == WRITE_FORWARDED ? LATENCY_FORWARD_ANSWER
                                           : LATENCY_PUT_ANSWER,
              op->arrived_us);
    node_count(node, outcome == RKV__OUTCOME__APPLIED ? COUNTER_WRITES_APPLIED
                     : outcome == RKV__OUTCOME__NOT_APPLIED
                         ? COUNTER_WRITES_NOT_APPLIED
                         : COUNTER_WRITES_UNKNOWN);
    Rkv__WriteReply *reply =
        message_new(&effects->arena, &rkv__write_reply__descriptor);
    Rkv__Result *result =
        result_new(node, &effects->arena, status, outcome, message);
    /* Copied, because the operation may end before the reply is packed. */
    void *context =
        arena_copy(&effects->arena, op->context.data, op->context.size);
    if (reply != NULL && result != NULL) {
        result->need = op->w;
        result->got = op->stage == WRITE_REPLICATING
                          ? (uint32_t)put_held(&op->put)
                          : op->got;
        reply->result = result;
        reply->context = binary_of_bytes(bytes_of(context, op->context.size));
    }
    reply_with(effects, op->token, RKV__ENVELOPE__BODY_WRITE_REPLY, reply);
}

/* What a refusal makes of the write: a replica that was asked before and went
 * silent may hold it all the same. */
static Rkv__Outcome refused(const struct write_op *op)
{
    return op->attempted ? RKV__OUTCOME__UNKNOWN : RKV__OUTCOME__NOT_APPLIED;
}

/* --- replicating --- */

/* NULL: the arena is spent, which is as if the message were lost. */
static const Rkv__Envelope *store_new(const struct node *node,
                                      const struct write_op *op,
                                      struct node_id target,
                                      struct effects *effects)
{
    Rkv__Store *store = message_new(&effects->arena, &rkv__store__descriptor);
    /* Copied, because the operation may end in the same step. */
    void *record =
        arena_copy(&effects->arena, op->payload.data, op->payload.size);
    void *key = arena_copy(&effects->arena, op->key, op->key_size);
    if (store == NULL || record == NULL || key == NULL)
        return NULL;
    store->bucket = op->bucket->id.value;
    store->key = binary_of_bytes(bytes_of(key, op->key_size));
    store->record = binary_of_bytes(bytes_of(record, op->payload.size));
    store->epoch = node->topology.epoch;
    if (!node_id_is_zero(target)) {
        void *id = arena_copy(&effects->arena, target.bytes, NODE_ID_SIZE);
        if (id == NULL)
            return NULL;
        store->target = binary_of_bytes(bytes_of(id, NODE_ID_SIZE));
    }
    return envelope_new(&effects->arena, RKV__ENVELOPE__BODY_STORE, store);
}

static void carry_out(struct node *node, struct write_op *op,
                      const struct put_actions *actions,
                      struct effects *effects)
{
    struct storage_key key = data_key(op);
    const Rkv__Envelope *store = NULL; /* the same for all with its target */
    struct node_id target = {0};
    for (size_t i = 0; i < actions->count; i++) {
        const struct put_action *action = &actions->list[i];
        switch (action->kind) {
        case PUT_SEND:
            if (node_id_equal(action->node, node->self))
                break; /* our own copy is under way since PREPARING */
            if (store == NULL || !node_id_equal(target, action->target))
                store = store_new(node, op, action->target, effects);
            target = action->target;
            outbox_request(&effects->out, action->node, LANE_FOREGROUND,
                           request_number(OWNER_WRITE, op->serial), store);
            break;
        case PUT_REPLY:
            if (action->applied) {
                node_took(node, LATENCY_PUT_REPLICAS, op->prepared_us);
                answer(node, op, STATUS_OK, RKV__OUTCOME__APPLIED, NULL,
                       effects);
            } else {
                answer(node, op, STATUS_UNAVAILABLE, RKV__OUTCOME__UNKNOWN,
                       "too few replicas acknowledged; send the write again "
                       "with the same request_id",
                       effects);
            }
            break;
        case PUT_HINT:
            /* Our heir may have read our copy before this was in it. */
            if (!node_id_equal(action->target, node->self) ||
                topology_leaves(&node->topology, node->self))
                hint_keep(node, action->target, &key, op->bucket->kind,
                          buffer_bytes(&op->payload), effects);
            break;
        }
    }
    if (op->put.state == PUT_DONE)
        finish(node, op);
}

/* --- coordinating here --- */

/* What check has let in cannot overflow. */
static int64_t expiry_of(const struct node *node, const struct write_op *op,
                         const Rkv__Write *write)
{
    int64_t ttl_ms = write->ttl_ms;
    if (op->tombstone || ttl_ms == TTL_NEVER)
        return 0;
    if (ttl_ms == TTL_DEFAULT)
        ttl_ms = (int64_t)op->bucket->ttl_s * 1000;
    return ttl_ms == 0 ? 0 : node->wall_ms + ttl_ms;
}

static void coordinate(struct node *node, struct write_op *op,
                       const Rkv__Write *write, struct node_id target,
                       struct effects *effects)
{
    op->stage = WRITE_PREPARING;
    struct storage_op storage = {
        .kind = STORAGE_COORDINATE,
        .token = request_number(OWNER_WRITE, op->serial),
        .asked_us = node->now_us,
        .key = data_key(op),
        .record_kind = op->bucket->kind,
        .deadline_ms = op->deadline_ms,
        .wall_ms = node->wall_ms,
        .data = bytes_of_binary(write->value),
        .tombstone = op->tombstone,
        .expires_ms = expiry_of(node, op, write),
        .context = bytes_of_binary(write->context),
        .stamp = node_stamp(node),
        .epoch = node->topology.epoch,
        .mends = topology_owner_count(&node->topology, op->partition) == 1,
    };
    void *key = arena_copy(&effects->arena, op->key, op->key_size);
    storage.key.key = bytes_of(key, op->key_size);
    if (!node_id_is_zero(target)) {
        storage.key.table = TABLE_HINTS;
        storage.key.target = target;
    }
    memcpy(storage.request.bytes, write->request_id.data, REQUEST_ID_SIZE);
    const char *mistake = "effects: the budget of one step is spent";
    if (key != NULL && storage.key.table == TABLE_HINTS)
        mistake = fallback_store(node, &storage, effects);
    else if (key != NULL && effects_storage(effects, &storage))
        mistake = NULL;
    if (mistake == NULL)
        return;
    answer(node, op, STATUS_OVERLOADED, refused(op), mistake, effects);
    finish(node, op);
}

/* What the client may write over next. Beside siblings that it has not read
 * there is none: the record's context covers them too, and they would be
 * lost unseen. */
static enum status keep_context(struct write_op *op, struct request_id request,
                                struct bytes encoded, struct arena *scratch)
{
    struct record record;
    enum status status = record_decode(encoded, scratch, &record);
    if (status != STATUS_OK)
        return status;
    if (record.value_count != 1 ||
        !request_id_equal(record.values[0].request, request))
        return STATUS_OK;
    const struct context seen = record_seen(&record);
    return context_encode(
        &seen, key_hash(op->bucket->id, bytes_of(op->key, op->key_size)),
        &op->context);
}

static void replicate(struct node *node, struct write_op *op,
                      struct node_id target, struct effects *effects)
{
    struct node_id primaries[OWNERS_MAX], fallbacks[REPLICAS_MAX];
    bool gone[OWNERS_MAX];
    struct put_config config = {
        .primaries = primaries,
        .gone = gone,
        .primary_count = preference_list(node, op->partition, primaries),
        .fallbacks = fallbacks,
        .w = op->w,
        .deadline_ms = op->deadline_ms,
        .fallback_ms = node->config.timeouts.hedge_ms,
        .grace_ms = GRACE_HEDGES * node->config.timeouts.hedge_ms,
        .self = node->self,
        .answered = op->answered,
    };
    if (op->answered)
        config.deadline_ms = node->now_ms + node->config.timeouts.request_ms;
    (void)topology_moves(&node->topology, op->partition, &config.leaving,
                         &config.coming);
    /* A fallback that coordinates took the slot of the hint's target. */
    for (size_t i = 1; i < config.primary_count; i++)
        if (node_id_equal(primaries[i], target)) {
            primaries[i] = primaries[0];
            primaries[0] = target;
        }
    for (size_t i = 0; i < config.primary_count; i++)
        gone[i] = membership_is_gone(node->membership, primaries[i]);
    if (op->bucket->sloppy) {
        size_t count = topology_fallbacks(&node->topology, op->partition,
                                          fallbacks, REPLICAS_MAX);
        for (size_t i = 0; i < count; i++)
            if (!membership_is_gone(node->membership, fallbacks[i]))
                fallbacks[config.fallback_count++] = fallbacks[i];
    }
    struct put_actions actions;
    put_start(&op->put, &config, node->now_ms, &actions);
    carry_out(node, op, &actions, effects);
}

void write_prepared(struct node *node, const struct storage_result *result,
                    struct effects *effects)
{
    struct write_op *op = find(node, result->op->token);
    if (op == NULL || op->stage != WRITE_PREPARING)
        return;
    enum status status = result->status;
    if (status == STATUS_OK) {
        status = keep_context(op, result->op->request, result->record,
                              &effects->arena);
        if (status == STATUS_OK)
            status = buffer_append(&op->payload, result->record);
    }
    if (status != STATUS_OK) {
        /* Nothing was sent. Refused, our own copy is unchanged; where only
         * memory was short here, it has the write, or will. */
        if (!op->answered)
            answer(node, op, result->was_damaged ? STATUS_UNAVAILABLE : status,
                   result->status == STATUS_OK ? RKV__OUTCOME__UNKNOWN
                                               : refused(op),
                   result->message, effects);
        finish(node, op);
        return;
    }
    if (result->duplicate)
        node_count(node, COUNTER_WRITES_RETRIED);
    node_took(node, LATENCY_PUT_QUEUE, result->op->asked_us);
    op->prepared_us = node->now_us;
    op->stage = WRITE_REPLICATING;
    op->charged_bytes += op->payload.size;
    node->inflight_bytes += op->payload.size;
    replicate(node, op, result->op->key.target, effects);
}

void write_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects)
{
    struct write_op *op = find(node, result->op->token);
    if (op == NULL)
        return;
    if (op->stage == WRITE_PREPARING) {
        /* It was never run: too late, too much, or the engine is closed. One
         * that is on disk though we never had its record was not sent on. */
        bool was_run = result->status == STATUS_OK;
        if (!op->answered)
            answer(node, op, was_run ? STATUS_IO : result->status,
                   was_run ? RKV__OUTCOME__UNKNOWN : refused(op),
                   result->message, effects);
        finish(node, op);
        return;
    }
    if (result->status == STATUS_OK)
        node_took(node, LATENCY_PUT_DISK, op->prepared_us);
    struct put_actions actions;
    enum status status =
        is_outdated(node, result->op) ? STATUS_REFUSED : result->status;
    put_hear(&op->put, node->self, status, node->now_ms, &actions);
    carry_out(node, op, &actions, effects);
}

/* --- forwarding to a replica --- */

static void give_up(struct node *node, struct write_op *op,
                    struct effects *effects)
{
    answer(node, op, STATUS_UNAVAILABLE, refused(op),
           op->attempted ? "no replica that was asked has said that it is "
                           "applied; send it again with the same request_id"
                         : "no replica of the key could be asked to coordinate",
           effects);
    finish(node, op);
}

/* One that leaves coordinates no more, nor stands in: it would keep hints. */
static size_t coordinators(struct node *node, struct partition partition,
                           struct node_id *list)
{
    size_t kept = 0, count = preference_list(node, partition, list);
    for (size_t i = 0; i < count; i++)
        if (!topology_leaves(&node->topology, list[i]))
            list[kept++] = list[i];
    return kept;
}

static void coordinate_as_fallback(struct node *node, struct write_op *op,
                                   struct effects *effects)
{
    struct error error;
    const Rkv__Envelope *envelope =
        envelope_unpack(buffer_bytes(&op->payload), &effects->arena, &error);
    if (envelope == NULL) {
        give_up(node, op, effects);
        return;
    }
    /* Since it was asked for it may have become ours. */
    bool is_own = topology_owns(&node->topology, op->partition, node->self);
    struct node_id targets[OWNERS_MAX] = {{{0}}};
    if (!is_own)
        (void)coordinators(node, op->partition, targets);
    buffer_clear(&op->payload);
    coordinate(node, op, envelope->write, targets[0], effects);
}

/* envelope: the request, if it is at hand; it is kept packed for later. */
static void forward_next(struct node *node, struct write_op *op,
                         const Rkv__Envelope *envelope, struct effects *effects)
{
    if (op->candidate_next == op->candidate_count) {
        if (op->bucket->sloppy && !topology_leaves(&node->topology, node->self))
            coordinate_as_fallback(node, op, effects);
        else
            give_up(node, op, effects);
        return;
    }
    struct error error;
    if (envelope == NULL)
        envelope = envelope_unpack(buffer_bytes(&op->payload), &effects->arena,
                                   &error);
    if (envelope == NULL) {
        give_up(node, op, effects);
        return;
    }
    op->forward_at_ms = node->now_ms + node->config.timeouts.forward_ms;
    node_count(node, COUNTER_WRITES_FORWARDED);
    outbox_request(&effects->out, op->candidates[op->candidate_next++],
                   LANE_FOREGROUND, request_number(OWNER_FORWARD, op->serial),
                   envelope);
}

static void forward(struct node *node, struct write_op *op,
                    const Rkv__Write *write, struct effects *effects)
{
    op->stage = WRITE_FORWARDED;
    op->candidate_count = coordinators(node, op->partition, op->candidates);
    op->candidate_next = 0;
    const Rkv__Envelope *envelope = NULL;
    Rkv__Write *copy = arena_copy(&effects->arena, write, sizeof *write);
    if (copy != NULL) {
        copy->coordinate = true;
        copy->timeout_ms = (uint32_t)(op->deadline_ms - node->now_ms);
        envelope =
            envelope_new(&effects->arena, RKV__ENVELOPE__BODY_WRITE, copy);
    }
    if (envelope == NULL || envelope_pack(envelope, &op->payload) != STATUS_OK)
        give_up(node, op, effects);
    else
        forward_next(node, op, envelope, effects);
}

void forward_reply(struct node *node, uint64_t request, struct node_id from,
                   const Rkv__Envelope *reply, struct effects *effects)
{
    struct write_op *op = find(node, request);
    if (op == NULL || op->stage != WRITE_FORWARDED)
        return;
    const Rkv__Result *result = NULL;
    if (reply != NULL && reply->body_case == RKV__ENVELOPE__BODY_WRITE_REPLY)
        result = reply->write_reply->result;
    else if (reply != NULL && reply->body_case == RKV__ENVELOPE__BODY_RESULT)
        result = reply->result;
    bool applied = result != NULL && result->outcome == RKV__OUTCOME__APPLIED;
    bool was_refused =
        result != NULL && result->outcome == RKV__OUTCOME__NOT_APPLIED;
    op->attempted |= !was_refused;
    /* What every replica would refuse is refused now. */
    bool is_final =
        applied || (was_refused && (result->status == RKV__STATUS__INVALID ||
                                    result->status == RKV__STATUS__REFUSED ||
                                    result->status == RKV__STATUS__TOO_LARGE));
    if (!is_final) {
        /* An answer of one that was given up on moves nothing on. */
        if (op->candidate_next > 0 &&
            node_id_equal(from, op->candidates[op->candidate_next - 1]))
            forward_next(node, op, NULL, effects);
        return;
    }
    if (applied && reply->body_case == RKV__ENVELOPE__BODY_WRITE_REPLY &&
        buffer_append(&op->context,
                      bytes_of_binary(reply->write_reply->context)) !=
            STATUS_OK)
        buffer_clear(&op->context);
    op->got = result->got;
    answer(node, op, (enum status)result->status,
           applied ? RKV__OUTCOME__APPLIED : refused(op), result->message,
           effects);
    finish(node, op);
}

void write_reply(struct node *node, uint64_t request, struct node_id from,
                 const Rkv__Envelope *reply, struct effects *effects)
{
    struct write_op *op = find(node, request);
    if (op == NULL || op->stage != WRITE_REPLICATING)
        return;
    enum status status = STATUS_CLOSED;
    if (reply != NULL && reply->body_case == RKV__ENVELOPE__BODY_STORE_REPLY)
        status = (enum status)reply->store_reply->status;
    struct put_actions actions;
    put_hear(&op->put, from, status, node->now_ms, &actions);
    carry_out(node, op, &actions, effects);
}

/* --- taking one in --- */

static struct write_op *take(struct node *node, const Rkv__Write *write,
                             const struct admitted *admitted,
                             struct reply_token token)
{
    size_t bytes = write->key.len + write->value.len + write->context.len +
                   WRITE_OVERHEAD_BYTES;
    uint64_t serial;
    if (node->inflight_bytes + bytes > node->config.limits.inflight_bytes_max)
        return NULL;
    int slot = slots_take(&node->write_slots, &serial);
    if (slot < 0)
        return NULL;
    node->inflight_bytes += bytes;
    struct write_op *op = &node->writes[slot];
    op->serial = serial;
    op->token = token;
    op->bucket = admitted->bucket;
    op->partition = admitted->partition;
    op->w = admitted->level;
    op->tombstone = write->remove;
    op->answered = op->attempted = false;
    op->got = 0;
    op->deadline_ms = admitted->deadline_ms;
    op->arrived_us = node->now_us;
    op->charged_bytes = bytes;
    op->key_size = (uint16_t)admitted->key.size;
    memcpy(op->key, admitted->key.data, admitted->key.size);
    return op;
}

/* A write without an id gets one here, so that a forward that times out and
 * goes to the next replica is still one write. */
static bool name_request(struct node *node, Rkv__Write *write,
                         struct effects *effects)
{
    if (write->request_id.len == REQUEST_ID_SIZE)
        return true;
    uint64_t id[2] = {node_random(node), node_random(node)};
    void *copy = arena_copy(&effects->arena, id, sizeof id);
    write->request_id = binary_of_bytes(bytes_of(copy, sizeof id));
    return copy != NULL;
}

void write_request(struct node *node, struct reply_token token,
                   const Rkv__Write *write, bool from_peer,
                   struct effects *effects)
{
    struct admitted admitted;
    struct error error;
    node_count(node, COUNTER_WRITES);
    enum status status = admit_value(node, write, &error);
    if (status == STATUS_OK)
        status = admit(node, write->bucket, bytes_of_binary(write->key),
                       write->w, true, write->timeout_ms, &admitted, &error);
    if (status != STATUS_OK) {
        reply_result(node, effects, token, status, RKV__OUTCOME__NOT_APPLIED,
                     error.text);
        return;
    }
    Rkv__Write named = *write;
    struct write_op *op = name_request(node, &named, effects)
                              ? take(node, write, &admitted, token)
                              : NULL;
    if (op == NULL) {
        reply_result(node, effects, token, STATUS_OVERLOADED,
                     RKV__OUTCOME__NOT_APPLIED,
                     "too many requests or bytes are in flight");
        return;
    }
    bool leaves = topology_leaves(&node->topology, node->self);
    if (topology_owns(&node->topology, op->partition, node->self) && !leaves) {
        coordinate(node, op, &named, (struct node_id){{0}}, effects);
    } else if (from_peer) {
        answer(node, op, leaves ? STATUS_UNAVAILABLE : STATUS_REFUSED,
               RKV__OUTCOME__NOT_APPLIED,
               leaves ? "this node leaves"
                      : "this node is no replica of the key",
               effects);
        finish(node, op);
    } else {
        forward(node, op, &named, effects);
    }
}

bool writes_are_done(const struct node *node)
{
    for (size_t i = 0; i < slots_end(&node->write_slots); i++)
        if (node->writes[i].stage == WRITE_PREPARING ||
            node->writes[i].stage == WRITE_REPLICATING)
            return false;
    return true;
}

void writes_tick(struct node *node, struct effects *effects)
{
    for (size_t i = 0; i < slots_end(&node->write_slots); i++) {
        struct write_op *op = &node->writes[i];
        if (op->stage == WRITE_PREPARING) {
            /* It stays: what the disk makes of it is still to go round. */
            if (node->now_ms >= op->deadline_ms && !op->answered)
                answer(node, op, STATUS_TIMEOUT, RKV__OUTCOME__UNKNOWN,
                       "our own disk did not answer in time; send the write "
                       "again with the same request_id",
                       effects);
        } else if (op->stage == WRITE_REPLICATING) {
            struct put_actions actions;
            put_tick(&op->put, node->now_ms, &actions);
            carry_out(node, op, &actions, effects);
        } else if (op->stage == WRITE_FORWARDED) {
            if (node->now_ms >= op->deadline_ms) {
                op->attempted = true;
                give_up(node, op, effects);
            } else if (node->now_ms >= op->forward_at_ms) {
                op->attempted = true;
                forward_next(node, op, NULL, effects);
            }
        }
    }
}
