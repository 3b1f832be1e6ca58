/* SPDX-License-Identifier: MIT */
#include "proxy/core/node_internal.h"

/* Lists and digests of one partition, a chunk at a time, and the passing on of
 * a list to a node that has the partition. */

static void finish(struct node *node, struct relay_op *relay)
{
    buffer_fini(&relay->states);
    relay->used = false;
    slots_give(&node->relay_slots, relay->serial);
}

/* To the next owner; when none is left, to the client that it failed. */
static void ask_next(struct node *node, struct relay_op *relay,
                     struct effects *effects)
{
    struct error error;
    if (relay->heard < relay->owner_count) {
        const Rkv__Envelope *list = envelope_unpack(
            buffer_bytes(&relay->states), &effects->arena, &error);
        outbox_request(&effects->out, relay->owners[relay->heard++], LANE_BULK,
                       request_number(OWNER_RELAY, relay->serial), list);
        return;
    }
    reply_result(node, effects, relay->token, STATUS_UNAVAILABLE,
                 RKV__OUTCOME__NONE, "no replica could list the partition");
    finish(node, relay);
}

static void pass_on(struct node *node, struct reply_token token,
                    const Rkv__List *list, struct effects *effects)
{
    struct partition partition = {(uint16_t)list->partition};
    uint64_t serial;
    const Rkv__Envelope *message =
        envelope_new(&effects->arena, RKV__ENVELOPE__BODY_LIST, list);
    int slot = message == NULL ? -1 : slots_take(&node->relay_slots, &serial);
    if (slot < 0) {
        reply_result(node, effects, token, STATUS_OVERLOADED,
                     RKV__OUTCOME__NONE, "too many lists are under way");
        return;
    }
    struct relay_op *relay = &node->relays[slot];
    *relay = (struct relay_op){
        .used = true,
        .serial = serial,
        .token = token,
        .deadline_ms = node->now_ms + node->config.timeouts.request_ms,
    };
    struct node_id owners[OWNERS_MAX];
    size_t count = preference_list(node, partition, owners);
    for (size_t i = 0; i < count; i++)
        if (!node_id_equal(owners[i], node->self))
            relay->owners[relay->owner_count++] = owners[i];
    if (envelope_pack(message, &relay->states) != STATUS_OK)
        relay->owner_count = 0;
    ask_next(node, relay, effects);
}

void relay_reply(struct node *node, uint64_t request, struct node_id from,
                 const Rkv__Envelope *reply, struct effects *effects)
{
    uint64_t serial = request_serial(request);
    if (slot_of(serial) >= RELAYS_MAX)
        return;
    struct relay_op *relay = &node->relays[slot_of(serial)];
    if (!relay->used || relay->serial != serial ||
        !node_id_equal(from, relay->owners[relay->heard - 1]))
        return;
    if (reply == NULL || reply->body_case != RKV__ENVELOPE__BODY_LIST_REPLY ||
        reply->list_reply->result == NULL ||
        reply->list_reply->result->status != RKV__STATUS__OK) {
        ask_next(node, relay, effects);
        return;
    }
    outbox_reply(&effects->out, relay->token, reply);
    finish(node, relay);
}

void relays_tick(struct node *node, struct effects *effects)
{
    for (size_t i = 0; i < slots_end(&node->relay_slots); i++) {
        struct relay_op *relay = &node->relays[i];
        if (!relay->used || node->now_ms < relay->deadline_ms)
            continue;
        if (relay->explain) {
            explain_answer(node, relay, effects);
        } else {
            reply_result(node, effects, relay->token, STATUS_TIMEOUT,
                         RKV__OUTCOME__NONE, "no replica answered in time");
        }
        finish(node, relay);
    }
}

static bool scan_own(struct node *node, uint64_t number,
                     struct reply_token token, uint32_t partition,
                     ProtobufCBinaryData after, uint32_t max_bytes,
                     struct effects *effects)
{
    uint32_t limit = node->config.limits.list_bytes_max;
    struct storage_op op = {
        .kind = STORAGE_SCAN,
        .token = number,
        .reply_token = token.value,
        .key = {.table = TABLE_DATA, .partition = {(uint16_t)partition}},
        .after = bytes_of_binary(after),
        .bytes_max = max_bytes > 0 && max_bytes < limit ? max_bytes : limit,
    };
    return effects_storage(effects, &op);
}

static bool check_position(struct node *node, struct reply_token token,
                           uint32_t partition, size_t after_size,
                           struct effects *effects)
{
    struct error error;
    if (partition >= node->topology.partitions)
        error_set(&error, STATUS_INVALID, "partition: %u, allowed are 0 to %u",
                  partition, node->topology.partitions - 1);
    else if (after_size > KEY_BYTES_MAX + 23)
        error_set(&error, STATUS_INVALID,
                  "after: %zu bytes; give the `next` of an earlier reply",
                  after_size);
    else
        return true;
    reply_result(node, effects, token, error.status, RKV__OUTCOME__NONE,
                 error.text);
    return false;
}

void list_request(struct node *node, struct reply_token token,
                  const Rkv__List *list, bool from_peer,
                  struct effects *effects)
{
    if (!check_position(node, token, list->partition, list->after.len, effects))
        return;
    struct partition partition = {(uint16_t)list->partition};
    bool can = node->stage == NODE_READY &&
               topology_owns(&node->topology, partition, node->self) &&
               !fill_is_missing(node, partition);
    /* Who asks passes it on itself: two that cannot would do so for ever. */
    if (!can && from_peer)
        reply_result(node, effects, token, STATUS_UNCERTAIN, RKV__OUTCOME__NONE,
                     "this node does not have the whole partition");
    else if (!can)
        pass_on(node, token, list, effects);
    else if (!scan_own(node, request_number(OWNER_SERVE_LIST, from_peer), token,
                       list->partition, list->after, list->max_bytes, effects))
        reply_result(node, effects, token, STATUS_OVERLOADED,
                     RKV__OUTCOME__NONE, "the budget of one step is spent");
}

void digest_request(struct node *node, struct reply_token token,
                    const Rkv__Admin *admin, struct effects *effects)
{
    if (!check_position(node, token, admin->partition, admin->after.len,
                        effects))
        return;
    if (!scan_own(node, request_number(OWNER_SERVE_DIGEST, 0), token,
                  admin->partition, admin->after, 0, effects))
        reply_result(node, effects, token, STATUS_OVERLOADED,
                     RKV__OUTCOME__NONE, "the budget of one step is spent");
}

/* NULL when the record says nothing to a client, which is counted unless it is
 * deleted, or memory is spent. */
static Rkv__ListItem *item_of(struct node *node, const struct storage_row *row,
                              struct arena *arena)
{
    const struct bucket_config *bucket = node_bucket(node, row->key.bucket);
    struct record record;
    if (bucket == NULL ||
        record_decode(row->record, arena, &record) != STATUS_OK) {
        node_count(node, COUNTER_ROWS_SKIPPED);
        return NULL;
    }
    if (record_is_deleted(&record, node->wall_ms))
        return NULL;
    Rkv__ListItem *item = message_new(arena, &rkv__list_item__descriptor);
    if (item == NULL)
        return NULL;
    item->bucket = arena_string(arena, bucket->name);
    item->key = binary_of_bytes(row->key.key);
    struct live_values live =
        live_values(&record, bucket, node->wall_ms, arena);
    item->n_values = live.count;
    item->values = live.values;
    item->n_ttl_ms = live.ttl_count;
    item->ttl_ms = live.ttl_ms;
    item->context =
        context_for_client(&record, key_hash(bucket->id, row->key.key), arena);
    return item;
}

/* What our own disk cannot read another owner's may. */
static bool pass_on_failed(struct node *node,
                           const struct storage_result *result,
                           struct effects *effects)
{
    const struct storage_op *op = result->op;
    bool from_peer = request_serial(op->token) != 0;
    bool failed = result->status == STATUS_CORRUPT ||
                  result->status == STATUS_IO ||
                  result->status == STATUS_BROKEN;
    if (from_peer || !failed)
        return false;
    Rkv__List list = RKV__LIST__INIT;
    list.partition = op->key.partition.value;
    list.after = binary_of_bytes(op->after);
    list.max_bytes = op->bytes_max;
    pass_on(node, (struct reply_token){op->reply_token}, &list, effects);
    return true;
}

void list_stored(struct node *node, const struct storage_result *result,
                 struct effects *effects)
{
    if (pass_on_failed(node, result, effects))
        return;
    struct arena *arena = &effects->arena;
    struct reply_token token = {result->op->reply_token};
    Rkv__ListReply *reply = message_new(arena, &rkv__list_reply__descriptor);
    Rkv__ListItem **items =
        arena_alloc(arena, (result->row_count + 1) * sizeof *items);
    if (reply != NULL && items != NULL) {
        reply->result = result_new(node, arena, result->status,
                                   RKV__OUTCOME__NONE, result->message);
        reply->items = items;
        for (size_t i = 0; i < result->row_count; i++) {
            Rkv__ListItem *item = item_of(node, &result->rows[i], arena);
            if (item != NULL)
                items[reply->n_items++] = item;
        }
        reply->next = binary_of_bytes(result->next);
        reply->done = result->done;
        reply->partitions = node->topology.partitions;
    }
    reply_with(effects, token, RKV__ENVELOPE__BODY_LIST_REPLY, reply);
}

/* The root of the partition's hash tree, from the engine: the order of keys and
 * what else a node holds do not matter. */
void digest_stored(struct node *node, const struct storage_result *result,
                   struct effects *effects)
{
    struct arena *arena = &effects->arena;
    struct reply_token token = {result->op->reply_token};
    enum status status = result->status;
    uint64_t digest = 0;
    for (size_t i = 0; i < result->row_count && status == STATUS_OK; i++) {
        const struct storage_row *row = &result->rows[i];
        struct record record;
        status = record_decode(row->record, arena, &record);
        if (status != STATUS_OK)
            break;
        digest ^= hash_tree_worth(key_hash(row->key.bucket, row->key.key),
                                  record_version(row->record));
    }
    Rkv__AdminReply *reply = message_new(arena, &rkv__admin_reply__descriptor);
    if (reply != NULL) {
        reply->result = result_new(node, arena, status, RKV__OUTCOME__NONE,
                                   result->message);
        reply->digest = digest;
        reply->records = result->row_count;
        reply->next = binary_of_bytes(result->next);
        reply->done = result->done;
    }
    reply_with(effects, token, RKV__ENVELOPE__BODY_ADMIN_REPLY, reply);
}
