/* SPDX-License-Identifier: MIT */
#include "proto/client_internal.h"

/* Public numbers are those of the wire. */
_Static_assert((int)REPLIKV_STALE == (int)STATUS_STALE &&
                   (int)REPLIKV_OVERLOADED == (int)STATUS_OVERLOADED &&
                   (int)REPLIKV_TIMEOUT == (int)STATUS_TIMEOUT,
               "replikv_status is status");
_Static_assert((int)REPLIKV_UNKNOWN == (int)RKV__OUTCOME__UNKNOWN &&
                   (int)REPLIKV_WHAT_LATENCY ==
                       (int)RKV__ADMIN__WHAT__LATENCY &&
                   (int)REPLIKV_LEFT == (int)RKV__MEMBER_STATE__LEFT &&
                   (int)REPLIKV_KEY_BYTES_MAX == (int)KEY_BYTES_MAX &&
                   (int)REPLIKV_BATCH_MAX == (int)BATCH_REQUESTS_MAX,
               "public enums are the wire's");

const char *replikv_status_name(enum replikv_status status)
{
    return status_name((enum status)status);
}

const char *replikv_outcome_name(enum replikv_outcome outcome)
{
    static const char *const names[] = {
        [REPLIKV_NONE] = "none",
        [REPLIKV_APPLIED] = "applied",
        [REPLIKV_NOT_APPLIED] = "not_applied",
        [REPLIKV_UNKNOWN] = "unknown",
    };
    return (unsigned)outcome <= REPLIKV_UNKNOWN ? names[outcome] : "unknown";
}

const Rkv__Result *client_result_of(const Rkv__Envelope *envelope)
{
    switch ((int)envelope->body_case) {
    case RKV__ENVELOPE__BODY_RESULT:
        return envelope->result;
    case RKV__ENVELOPE__BODY_WRITE_REPLY:
        return envelope->write_reply->result;
    case RKV__ENVELOPE__BODY_READ_REPLY:
        return envelope->read_reply->result;
    case RKV__ENVELOPE__BODY_LIST_REPLY:
        return envelope->list_reply->result;
    case RKV__ENVELOPE__BODY_ADMIN_REPLY:
        return envelope->admin_reply->result;
    default:
        return NULL;
    }
}

const Rkv__Result *client_item_result_of(const Rkv__BatchItemReply *reply)
{
    switch ((int)reply->body_case) {
    case RKV__BATCH_ITEM_REPLY__BODY_RESULT:
        return reply->result;
    case RKV__BATCH_ITEM_REPLY__BODY_WRITE_REPLY:
        return reply->write_reply->result;
    case RKV__BATCH_ITEM_REPLY__BODY_READ_REPLY:
        return reply->read_reply->result;
    default:
        return NULL;
    }
}

static struct replikv_bytes lend(ProtobufCBinaryData data)
{
    return replikv_bytes_of(data.data, data.len);
}

/* Memory for an array, or NULL with *spent set. */
static void *array(struct request *request, size_t count, size_t size,
                   bool *spent)
{
    void *memory = arena_zalloc(&request->arena, count * size);
    if (memory == NULL)
        *spent = true;
    return memory;
}

static const struct replikv_bytes *lend_all(struct request *request,
                                            size_t count,
                                            const ProtobufCBinaryData *values,
                                            bool *spent)
{
    struct replikv_bytes *list = array(request, count, sizeof *list, spent);
    for (size_t i = 0; list != NULL && i < count; i++)
        list[i] = lend(values[i]);
    return list;
}

/* The node's, if it says so of each value. */
static const int64_t *lend_ttl(size_t count, const int64_t *ttl_ms,
                               size_t value_count)
{
    return count > 0 && count == value_count ? ttl_ms : NULL;
}

static void fill_list(struct request *request, const Rkv__ListReply *reply,
                      bool *spent)
{
    struct replikv_result *result = &request->result;
    struct replikv_item *items =
        array(request, reply->n_items, sizeof *items, spent);
    for (size_t i = 0; items != NULL && i < reply->n_items; i++) {
        const Rkv__ListItem *item = reply->items[i];
        items[i] = (struct replikv_item){
            .bucket = item->bucket,
            .key = lend(item->key),
            .values = lend_all(request, item->n_values, item->values, spent),
            .value_count = item->n_values,
            .ttl_ms = lend_ttl(item->n_ttl_ms, item->ttl_ms, item->n_values),
            .context = lend(item->context),
        };
    }
    result->items = items;
    result->item_count = reply->n_items;
    result->next = lend(reply->next);
    result->done = reply->done;
    result->partitions = reply->partitions;
}

static void fill_members(struct request *request, const Rkv__AdminReply *reply,
                         struct replikv_node *node, bool *spent)
{
    struct replikv_member *members =
        array(request, reply->n_members, sizeof *members, spent);
    for (size_t i = 0; members != NULL && i < reply->n_members; i++) {
        const Rkv__Member *member = reply->members[i];
        members[i] = (struct replikv_member){
            .name = member->name,
            .zone = member->zone,
            .peer_address = member->peer_address,
            .client_address = member->client_address,
            .state = (enum replikv_member_state)member->state,
            .incarnation = member->incarnation,
            .boot = member->boot,
        };
    }
    node->members = members;
    node->member_count = reply->n_members;
}

static void fill_counts(struct request *request, const Rkv__AdminReply *reply,
                        struct replikv_node *node, bool *spent)
{
    struct replikv_counter *counters =
        array(request, reply->n_counters, sizeof *counters, spent);
    for (size_t i = 0; counters != NULL && i < reply->n_counters; i++)
        counters[i] = (struct replikv_counter){reply->counters[i]->name,
                                               reply->counters[i]->value};
    struct replikv_hints *hints =
        array(request, reply->n_hints, sizeof *hints, spent);
    for (size_t i = 0; hints != NULL && i < reply->n_hints; i++)
        hints[i] = (struct replikv_hints){reply->hints[i]->target,
                                          reply->hints[i]->records,
                                          reply->hints[i]->bytes};
    struct replikv_owners *owners =
        array(request, reply->n_owners, sizeof *owners, spent);
    for (size_t i = 0; owners != NULL && i < reply->n_owners; i++)
        owners[i] = (struct replikv_owners){
            .partition = reply->owners[i]->partition,
            .nodes = (const char *const *)reply->owners[i]->nodes,
            .node_count = reply->owners[i]->n_nodes};
    node->counters = counters;
    node->counter_count = reply->n_counters;
    node->hints = hints;
    node->hint_count = reply->n_hints;
    node->owners = owners;
    node->owner_count = reply->n_owners;
}

static void fill_states(struct request *request, const Rkv__AdminReply *reply,
                        struct replikv_node *node, bool *spent)
{
    struct replikv_replica *states =
        array(request, reply->n_replica_states, sizeof *states, spent);
    for (size_t i = 0; states != NULL && i < reply->n_replica_states; i++) {
        const Rkv__ReplicaState *state = reply->replica_states[i];
        struct replikv_dot *dots =
            array(request, state->n_dots, sizeof *dots, spent);
        for (size_t j = 0; dots != NULL && j < state->n_dots; j++)
            dots[j] = (struct replikv_dot){state->dots[j]->incarnation,
                                           state->dots[j]->epoch,
                                           state->dots[j]->counter};
        states[i] = (struct replikv_replica){
            .node = state->node,
            .status = (enum replikv_status)state->status,
            .version = state->version,
            .dots = dots,
            .dot_count = state->n_dots,
            .values = state->values,
            .tombstones = state->tombstones,
            .record_bytes = state->record_bytes,
        };
    }
    node->states = states;
    node->state_count = reply->n_replica_states;
}

static void fill_latencies(struct request *request,
                           const Rkv__AdminReply *reply,
                           struct replikv_node *node, bool *spent)
{
    struct replikv_latency *latencies =
        array(request, reply->n_latencies, sizeof *latencies, spent);
    for (size_t i = 0; latencies != NULL && i < reply->n_latencies; i++) {
        const Rkv__LatencyStage *stage = reply->latencies[i];
        latencies[i] = (struct replikv_latency){
            .kind = stage->kind,
            .stage = stage->stage,
            .at_least_us = stage->at_least_us,
            .counts = stage->counts,
            .count = stage->n_counts < stage->n_at_least_us
                         ? stage->n_counts
                         : stage->n_at_least_us,
            .max_us = stage->max_us,
        };
    }
    node->latencies = latencies;
    node->latency_count = reply->n_latencies;
}

static void fill_move(struct request *request, const Rkv__Move *from,
                      struct replikv_node *node, bool *spent)
{
    struct replikv_move *move = array(request, 1, sizeof *move, spent);
    struct replikv_share *shares =
        array(request, from->n_shares, sizeof *shares, spent);
    for (size_t i = 0; shares != NULL && i < from->n_shares; i++)
        shares[i] = (struct replikv_share){from->shares[i]->node,
                                           from->shares[i]->partitions};
    if (move != NULL)
        *move = (struct replikv_move){
            .node = from->node,
            .lost = from->lost,
            .stage = from->stage,
            .shares = shares,
            .share_count = shares == NULL ? 0 : from->n_shares,
            .waits_for = (const char *const *)from->waits_for,
            .wait_count = from->n_waits_for,
        };
    node->move = move;
}

static void fill_admin(struct request *request, const Rkv__AdminReply *reply,
                       bool *spent)
{
    struct replikv_node *node = array(request, 1, sizeof *node, spent);
    if (node == NULL)
        return;
    *node = (struct replikv_node){
        .node = reply->node,
        .cluster = reply->cluster,
        .engine = reply->engine,
        .ready = reply->ready,
        .epoch = reply->epoch,
        .partitions = reply->partitions,
        .replicas = reply->replicas,
        .filling = reply->filling,
        .partition = reply->partition,
        .digest = reply->digest,
        .records = reply->records,
        .run = reply->run,
        .repairing = reply->repairing,
        .repair_left = reply->repair_left,
        .clock_off_ms = reply->clock_off_ms,
        .clock_is_known = reply->clock_is_known,
        .equal_ago_ms = reply->equal_ago_ms,
        .equal_ago_count = reply->n_equal_ago_ms,
        .recording = lend(reply->recording),
    };
    fill_members(request, reply, node, spent);
    fill_counts(request, reply, node, spent);
    fill_states(request, reply, node, spent);
    fill_latencies(request, reply, node, spent);
    if (reply->move != NULL)
        fill_move(request, reply->move, node, spent);
    request->result.node = node;
    request->result.next = lend(reply->next);
    request->result.done = reply->done;
}

static void fill_read(struct request *request, struct replikv_result *result,
                      const Rkv__ReadReply *reply, bool *spent)
{
    result->value_count = reply->n_values;
    result->values = lend_all(request, reply->n_values, reply->values, spent);
    result->ttl_ms = lend_ttl(reply->n_ttl_ms, reply->ttl_ms, reply->n_values);
    result->context = lend(reply->context);
}

static void fill_said(struct replikv_result *result, const Rkv__Result *said)
{
    result->message = said->message;
    result->need = said->need;
    result->got = said->got;
    result->epoch = said->epoch;
    result->retry_after_ms = said->retry_after_ms;
}

/* What became of a write is known all the same. */
static void forget(struct replikv_result *result)
{
    *result = (struct replikv_result){
        .status = REPLIKV_NO_MEMORY,
        .outcome = result->outcome,
        .message = "no memory for the answer",
        .attempts = result->attempts,
    };
}

/* What was said last of one request of a batch. */
static void fill_item(struct request *request, struct replikv_result *result,
                      const Rkv__BatchItemReply *reply)
{
    bool spent = false;
    fill_said(result, client_item_result_of(reply));
    switch ((int)reply->body_case) {
    case RKV__BATCH_ITEM_REPLY__BODY_WRITE_REPLY:
        result->context = lend(reply->write_reply->context);
        break;
    case RKV__BATCH_ITEM_REPLY__BODY_READ_REPLY:
        fill_read(request, result, reply->read_reply, &spent);
        break;
    default:
        break;
    }
    if (spent)
        forget(result);
}

static void fill_batch(struct request *request)
{
    const struct batch *batch = request->batch;
    struct replikv_result *whole = &request->result;
    const struct replikv_result *first = NULL; /* of those that failed */
    for (size_t i = 0; i < batch->count; i++) {
        struct replikv_result *result = &batch->results[i];
        result->message = request->last.text;
        if (batch->items[i].answer != NULL)
            fill_item(request, result, batch->items[i].answer);
        else if (request->answer != NULL)
            fill_said(result, client_result_of(request->answer));
        if (first == NULL && whole->status != REPLIKV_OK &&
            result->status == whole->status)
            first = result;
    }
    whole->message = first == NULL ? "" : first->message;
    if (first != NULL) {
        whole->need = first->need;
        whole->got = first->got;
        whole->epoch = first->epoch;
        whole->retry_after_ms = first->retry_after_ms;
    }
    whole->results = batch->results;
    whole->result_count = batch->count;
}

static void fill_body(struct request *request, bool *spent)
{
    const Rkv__Envelope *answer = request->answer;
    struct replikv_result *result = &request->result;
    switch ((int)answer->body_case) {
    case RKV__ENVELOPE__BODY_WRITE_REPLY:
        result->context = lend(answer->write_reply->context);
        break;
    case RKV__ENVELOPE__BODY_READ_REPLY:
        fill_read(request, result, answer->read_reply, spent);
        break;
    case RKV__ENVELOPE__BODY_LIST_REPLY:
        fill_list(request, answer->list_reply, spent);
        break;
    case RKV__ENVELOPE__BODY_ADMIN_REPLY:
        fill_admin(request, answer->admin_reply, spent);
        break;
    default:
        break;
    }
}

void client_result_fill(struct request *request)
{
    struct replikv_result *result = &request->result;
    bool spent = false;
    result->message = request->last.text;
    if (request->batch != NULL) {
        fill_batch(request);
        return;
    }
    if (request->answer == NULL)
        return;
    fill_said(result, client_result_of(request->answer));
    fill_body(request, &spent);
    if (spent)
        forget(result);
}
