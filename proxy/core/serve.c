/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "proto/assert.h"
#include "proxy/core/node_internal.h"
#include "proxy/core/replica.h"

/* What other nodes ask of us. Most of it is one storage operation whose result
 * is the reply, so nothing is kept here: the operation carries the token. */

static void reply_store(struct effects *effects, struct reply_token token,
                        enum status status, const char *message)
{
    Rkv__StoreReply *reply =
        message_new(&effects->arena, &rkv__store_reply__descriptor);
    if (reply != NULL)
        reply->status = (Rkv__Status)status;
    if (reply != NULL && message != NULL)
        reply->message = arena_string(&effects->arena, message);
    reply_with(effects, token, RKV__ENVELOPE__BODY_STORE_REPLY, reply);
}

static void reply_fetch(struct effects *effects, struct reply_token token,
                        enum status status, struct bytes record)
{
    Rkv__FetchReply *reply =
        message_new(&effects->arena, &rkv__fetch_reply__descriptor);
    if (reply != NULL) {
        reply->status = (Rkv__Status)status;
        reply->record = binary_of_bytes(record);
    }
    reply_with(effects, token, RKV__ENVELOPE__BODY_FETCH_REPLY, reply);
}

/* The storage key of a row that another node names; NULL or a sentence. */
static const char *key_of(struct node *node, uint32_t bucket,
                          ProtobufCBinaryData key, struct storage_key *out,
                          enum record_kind *kind)
{
    const struct bucket_config *declared =
        node_bucket(node, (struct bucket_id){bucket});
    if (declared == NULL)
        return "bucket: not declared in this node's configuration";
    if (key.len == 0 || key.len > KEY_BYTES_MAX)
        return "key: allowed are 1 to 480 bytes";
    *kind = declared->kind;
    *out = (struct storage_key){
        .table = TABLE_DATA,
        .partition = partition_of(declared->id, bytes_of_binary(key),
                                  node->topology.partitions),
        .bucket = declared->id,
        .key = bytes_of_binary(key),
    };
    return NULL;
}

/* Make it the key of the hint for target, if there is one; NULL or a sentence.
 * Kept for one that is no replica of it a record would never be handed over. */
static const char *target_of(const struct node *node,
                             ProtobufCBinaryData target,
                             struct storage_key *key)
{
    if (target.len == 0)
        return NULL;
    if (target.len != NODE_ID_SIZE)
        return "target: a node's id has 16 bytes";
    key->table = TABLE_HINTS;
    memcpy(key->target.bytes, target.data, NODE_ID_SIZE);
    if (node_id_equal(key->target, node->self) ||
        !topology_owns(&node->topology, key->partition, key->target))
        return "target: not another replica of the key";
    if (topology_leaves(&node->topology, node->self))
        return "this node leaves: it stands in for nobody";
    return NULL;
}

static const char outdated[] = "epoch: the partition has other owners since";

bool is_outdated(const struct node *node, const struct storage_op *op)
{
    return op->epoch < node->topology.changed[op->key.partition.value];
}

void serve_store(struct node *node, struct reply_token token,
                 const Rkv__Store *store, struct effects *effects)
{
    struct storage_op op = {
        .kind = STORAGE_MERGE,
        .token = request_number(OWNER_SERVE_STORE, 0),
        .reply_token = token.value,
        .asked_us = node->now_us,
        .wall_ms = node->wall_ms,
        .data = bytes_of_binary(store->record),
        .epoch = store->epoch,
    };
    node_count(node, COUNTER_STORES);
    const char *mistake =
        key_of(node, store->bucket, store->key, &op.key, &op.record_kind);
    if (mistake != NULL) {
        reply_store(effects, token, STATUS_INVALID, mistake);
        return;
    }
    mistake = target_of(node, store->target, &op.key);
    if (mistake == NULL && is_outdated(node, &op)) {
        node_count(node, COUNTER_OUTDATED);
        mistake = outdated;
    }
    if (mistake != NULL) {
        reply_store(effects, token, STATUS_REFUSED, mistake);
        return;
    }
    if (op.key.table == TABLE_HINTS) {
        mistake = fallback_store(node, &op, effects);
        if (mistake != NULL)
            reply_store(effects, token, STATUS_OVERLOADED, mistake);
        return;
    }
    if (!topology_owns(&node->topology, op.key.partition, node->self)) {
        reply_store(effects, token, STATUS_REFUSED,
                    "this node is no replica of the key");
        return;
    }
    op.mends = topology_owner_count(&node->topology, op.key.partition) == 1;
    if (!effects_storage(effects, &op))
        reply_store(effects, token, STATUS_OVERLOADED,
                    "effects: the budget of one step is spent");
}

void serve_fetch(struct node *node, struct reply_token token,
                 const Rkv__Fetch *fetch, struct effects *effects)
{
    struct storage_op op = {
        .kind = STORAGE_READ,
        .token = request_number(OWNER_SERVE_FETCH, 0),
        .reply_token = token.value,
        .asked_us = node->now_us,
        .epoch = fetch->epoch,
    };
    node_count(node, COUNTER_FETCHES);
    if (key_of(node, fetch->bucket, fetch->key, &op.key, &op.record_kind) !=
        NULL) {
        reply_fetch(effects, token, STATUS_INVALID, (struct bytes){0});
        return;
    }
    if (target_of(node, fetch->target, &op.key) != NULL ||
        is_outdated(node, &op)) {
        reply_fetch(effects, token, STATUS_REFUSED, (struct bytes){0});
        return;
    }
    if (op.key.table == TABLE_DATA &&
        (node->stage != NODE_READY || fill_is_missing(node, op.key.partition) ||
         !topology_owns(&node->topology, op.key.partition, node->self))) {
        reply_fetch(effects, token, STATUS_UNCERTAIN, (struct bytes){0});
        return;
    }
    if (!effects_storage(effects, &op))
        reply_fetch(effects, token, STATUS_OVERLOADED, (struct bytes){0});
}

static void reply_scan_failure(struct effects *effects,
                               struct reply_token token, enum status status)
{
    Rkv__ScanReply *reply =
        message_new(&effects->arena, &rkv__scan_reply__descriptor);
    if (reply != NULL)
        reply->status = (Rkv__Status)status;
    reply_with(effects, token, RKV__ENVELOPE__BODY_SCAN_REPLY, reply);
}

/* What of a chunk is sent. */
enum scan_filter { SCAN_ROWS, SCAN_VERSIONS_OF_LEAVES, SCAN_ROWS_OF_KEYS };

/* data NULL: the arena is spent. */
static struct bytes filter_of(const Rkv__Scan *scan, struct arena *arena,
                              enum scan_filter *filter)
{
    *filter = scan->leaves.len > 0 ? SCAN_VERSIONS_OF_LEAVES
              : scan->n_keys > 0   ? SCAN_ROWS_OF_KEYS
                                   : SCAN_ROWS;
    if (*filter != SCAN_VERSIONS_OF_LEAVES)
        return bytes_of(scan->keys, scan->n_keys * sizeof *scan->keys);
    size_t size = scan->leaves.len + scan->to.len;
    uint8_t *both = arena_alloc(arena, size);
    if (both == NULL)
        return bytes_of(NULL, 1);
    memcpy(both, scan->leaves.data, scan->leaves.len);
    if (scan->to.len > 0)
        memcpy(both + scan->leaves.len, scan->to.data, scan->to.len);
    return bytes_of(both, size);
}

void serve_scan(struct node *node, struct reply_token token,
                const Rkv__Scan *scan, struct effects *effects)
{
    if (scan->partition >= node->topology.partitions ||
        scan->after.len > STORAGE_KEY_BYTES_MAX ||
        (scan->leaves.len != 0 &&
         scan->leaves.len != sizeof(struct leaf_set)) ||
        scan->n_keys > SCAN_KEYS_MAX || scan->to.len > STORAGE_KEY_BYTES_MAX) {
        reply_scan_failure(effects, token, STATUS_INVALID);
        return;
    }
    if (scan->epoch > node->topology.epoch) {
        reply_scan_failure(effects, token, STATUS_UNAVAILABLE);
        return;
    }
    enum scan_filter filter;
    struct bytes data = filter_of(scan, &effects->arena, &filter);
    struct storage_op op = {
        .kind = STORAGE_SCAN,
        .token = request_number(OWNER_SERVE_SCAN, filter),
        .reply_token = token.value,
        .data = data,
        .key = {.table = TABLE_DATA,
                .partition = {(uint16_t)scan->partition},
                .bucket = {scan->bucket}},
        .after = bytes_of_binary(scan->after),
        .bytes_max = node->config.limits.list_bytes_max *
                     (filter == SCAN_ROWS ? 1 : SCAN_LISTS),
        /* Who fills would take it for all that there is. */
        .passes_damage = filter != SCAN_ROWS,
    };
    if (scan->max_bytes > 0 && scan->max_bytes < op.bytes_max)
        op.bytes_max = scan->max_bytes;
    /* Also while we are filled ourselves: what we have is all that is left of
     * our copy then, and two that fill would wait for each other for ever. */
    if ((data.data == NULL && data.size > 0) || !effects_storage(effects, &op))
        reply_scan_failure(effects, token, STATUS_OVERLOADED);
}

/* The engine key at which a list of leaves ends, which follows them in the
 * filter; empty: at the end of the partition. */
static struct bytes end_of(struct bytes filter)
{
    return bytes_of(filter.data + sizeof(struct leaf_set),
                    filter.size - sizeof(struct leaf_set));
}

static bool is_behind(const struct storage_key *key, struct bytes end)
{
    uint8_t memory[STORAGE_KEY_BYTES_MAX];
    struct buffer encoded = {.data = memory, .capacity = sizeof memory};
    if (end.size == 0)
        return false;
    enum status status = storage_key_encode(key, &encoded);
    ASSERT(status == STATUS_OK && encoded.data == memory);
    return bytes_compare(buffer_bytes(&encoded), end) > 0;
}

static bool is_of_leaves(struct bytes filter, const struct storage_key *key,
                         uint64_t hash)
{
    struct leaf_set leaves;
    memcpy(&leaves, filter.data, sizeof leaves);
    return leaf_set_has(&leaves, hash_tree_leaf(hash)) &&
           !is_behind(key, end_of(filter));
}

static bool is_wanted(enum scan_filter filter, struct bytes data,
                      const struct storage_key *key, uint64_t hash)
{
    switch (filter) {
    case SCAN_ROWS:
        return true;
    case SCAN_VERSIONS_OF_LEAVES:
        return is_of_leaves(data, key, hash);
    case SCAN_ROWS_OF_KEYS:
        return bsearch(&hash, data.data, data.size / sizeof hash, sizeof hash,
                       compare_hashes) != NULL;
    }
    return false;
}

/* Every wanted row that decodes. A damaged one is as good as missing here, too,
 * and no filler could store it: passed on, it would keep the filler from ever
 * voting in the partition. */
static void add_rows(struct node *node, const struct storage_result *result,
                     enum scan_filter filter, Rkv__ScanReply *reply,
                     struct arena *arena)
{
    size_t room = result->row_count + 1;
    Rkv__Row **rows = arena_alloc(arena, room * sizeof *rows);
    uint64_t *keys = arena_alloc(arena, room * sizeof *keys);
    uint32_t *versions = arena_alloc(arena, room * sizeof *versions);
    if (rows == NULL || keys == NULL || versions == NULL)
        return;
    reply->rows = rows;
    reply->keys = keys;
    reply->versions = versions;
    for (size_t i = 0; i < result->row_count; i++) {
        const struct storage_row *row = &result->rows[i];
        uint64_t hash = key_hash(row->key.bucket, row->key.key);
        struct record record;
        if (!is_wanted(filter, result->op->data, &row->key, hash))
            continue;
        enum status status = record_decode(row->record, arena, &record);
        if (status == STATUS_CORRUPT ||
            (status != STATUS_OK && filter != SCAN_ROWS)) {
            node_count(node, COUNTER_ROWS_SKIPPED);
            continue;
        }
        if (filter == SCAN_VERSIONS_OF_LEAVES) {
            keys[reply->n_keys++] = hash;
            versions[reply->n_versions++] =
                (uint32_t)record_version(row->record);
            continue;
        }
        rows[reply->n_rows] = row_to_wire(row, arena);
        if (rows[reply->n_rows] == NULL)
            return;
        reply->n_rows++;
    }
}

static void scan_done(struct node *node, const struct storage_result *result,
                      struct reply_token token, struct effects *effects)
{
    struct arena *arena = &effects->arena;
    const struct storage_op *op = result->op;
    Rkv__ScanReply *reply = message_new(arena, &rkv__scan_reply__descriptor);
    if (result->status == STATUS_CORRUPT || result->status == STATUS_IO)
        tree_unreadable(node, op->key.partition);
    if (reply != NULL) {
        enum scan_filter filter = (enum scan_filter)(op->token & 0xff);
        struct bytes end = {0};
        if (filter == SCAN_VERSIONS_OF_LEAVES)
            end = end_of(op->data);
        reply->status = (Rkv__Status)result->status;
        add_rows(node, result, filter, reply, arena);
        reply->next = binary_of_bytes(result->next);
        reply->done = result->done ||
                      (end.size > 0 && bytes_compare(result->next, end) >= 0);
    }
    /* Whatever memory was short for makes it no answer at all. */
    reply_with(effects, token, RKV__ENVELOPE__BODY_SCAN_REPLY, reply);
}

static void reply_handoff(struct effects *effects, struct reply_token token,
                          enum status status, const char *message)
{
    Rkv__HandoffReply *reply =
        message_new(&effects->arena, &rkv__handoff_reply__descriptor);
    if (reply != NULL)
        reply->status = (Rkv__Status)status;
    if (reply != NULL && message != NULL)
        reply->message = arena_string(&effects->arena, message);
    reply_with(effects, token, RKV__ENVELOPE__BODY_HANDOFF_REPLY, reply);
}

static void end_batch(struct node *node, struct batch_op *batch,
                      const char *message, struct effects *effects)
{
    reply_handoff(effects, batch->token, batch->status, message);
    batch->used = false;
    slots_give(&node->batch_slots, batch->serial);
}

void serve_tick(struct node *node, struct effects *effects)
{
    for (size_t i = 0; i < slots_end(&node->batch_slots); i++) {
        struct batch_op *batch = &node->batches[i];
        if (!batch->used || node->now_ms < batch->lost_at_ms)
            continue;
        batch->status = STATUS_TIMEOUT;
        end_batch(node, batch, "the disk did not answer in time", effects);
    }
}

/* NULL: the answer is sent. */
static struct batch_op *begin_batch(struct node *node, struct reply_token token,
                                    struct effects *effects)
{
    uint64_t serial;
    int slot = slots_take(&node->batch_slots, &serial);
    if (slot < 0) {
        reply_handoff(effects, token, STATUS_OVERLOADED,
                      "too many hand-offs are under way");
        return NULL;
    }
    struct batch_op *batch = &node->batches[slot];
    *batch = (struct batch_op){
        .used = true,
        .serial = serial,
        .token = token,
        .lost_at_ms = node->now_ms + LOST_MS,
    };
    return batch;
}

/* Of a row of which we have to be a replica, whether its bucket is declared
 * here or not yet. */
static void add_to_batch(struct node *node, struct batch_op *batch,
                         const Rkv__Row *row, struct storage_op *op,
                         struct effects *effects)
{
    struct bucket_id bucket = {row->bucket};
    struct bytes key = bytes_of_binary(row->key);
    struct partition partition =
        partition_of(bucket, key, node->topology.partitions);
    const char *mistake = NULL;
    op->key = (struct storage_key){.table = TABLE_DATA,
                                   .partition = partition,
                                   .bucket = bucket,
                                   .key = key};
    if (key.size == 0 || key.size > KEY_BYTES_MAX)
        mistake = "key";
    else if (op->kind == STORAGE_MERGE)
        mistake = row_merge(node, row, partition, &effects->arena, op);
    if (mistake != NULL ||
        !topology_owns(&node->topology, partition, node->self))
        batch->status = STATUS_REFUSED;
    else if (effects_storage(effects, op))
        batch->waiting++;
    else
        batch->status = STATUS_OVERLOADED;
}

void serve_handoff(struct node *node, struct reply_token token,
                   const Rkv__Handoff *handoff, struct effects *effects)
{
    /* Its heirs may have read it already. */
    if (topology_leaves(&node->topology, node->self)) {
        reply_handoff(effects, token, STATUS_UNAVAILABLE, "this node leaves");
        return;
    }
    struct batch_op *batch = begin_batch(node, token, effects);
    if (batch == NULL)
        return;
    for (size_t i = 0; i < handoff->n_rows; i++) {
        struct storage_op op = {
            .kind = STORAGE_MERGE,
            .token = request_number(OWNER_SERVE_HANDOFF, batch->serial),
        };
        add_to_batch(node, batch, handoff->rows[i], &op, effects);
    }
    if (batch->waiting == 0)
        end_batch(node, batch, NULL, effects);
}

void serve_collect(struct node *node, struct reply_token token,
                   const Rkv__Collect *collect, struct effects *effects)
{
    struct batch_op *batch = begin_batch(node, token, effects);
    if (batch == NULL)
        return;
    if (collect->epoch != node->topology.epoch ||
        collect->n_versions != collect->n_rows) {
        batch->status = STATUS_REFUSED;
        end_batch(node, batch, "not of this topology", effects);
        return;
    }
    for (size_t i = 0; i < collect->n_rows; i++) {
        struct storage_op op = {
            .kind = STORAGE_COLLECT,
            .token = request_number(OWNER_SERVE_HANDOFF, batch->serial),
            .wall_ms = collect->before_ms,
            .version = collect->versions[i],
        };
        add_to_batch(node, batch, collect->rows[i], &op, effects);
    }
    if (batch->waiting == 0)
        end_batch(node, batch, NULL, effects);
}

static void handoff_row_done(struct node *node,
                             const struct storage_result *result,
                             struct effects *effects)
{
    uint64_t serial = request_serial(result->op->token);
    struct batch_op *batch = &node->batches[slot_of(serial)];
    if (!batch->used || batch->serial != serial)
        return;
    if (result->status != STATUS_OK)
        batch->status = result->status;
    else if (topology_leaves(&node->topology, node->self))
        batch->status = STATUS_UNAVAILABLE;
    if (--batch->waiting > 0)
        return;
    end_batch(node, batch, NULL, effects);
}

static void store_done(struct node *node, const struct storage_result *result,
                       struct reply_token token, struct effects *effects)
{
    int64_t asked_us = result->op->asked_us;
    if (result->status == STATUS_OK) {
        latency_record(&node->latencies[LATENCY_STORE_QUEUE],
                       result->prepared_us - asked_us);
        node_took(node, LATENCY_STORE_DISK, result->prepared_us);
    }
    node_took(node, LATENCY_STORE_ANSWER, asked_us);
    /* Who takes the partition over may have read it before this was there. */
    if (result->status == STATUS_OK && is_outdated(node, result->op)) {
        node_count(node, COUNTER_OUTDATED);
        reply_store(effects, token, STATUS_REFUSED, outdated);
    } else {
        reply_store(effects, token, result->status, result->message);
    }
}

void serve_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects)
{
    struct reply_token token = {result->op->reply_token};
    switch (request_owner_of(result->op->token)) {
    case OWNER_SERVE_STORE:
        store_done(node, result, token, effects);
        break;
    case OWNER_SERVE_FETCH:
        node_took(node, LATENCY_FETCH_ANSWER, result->op->asked_us);
        if (result->status == STATUS_CORRUPT)
            read_mend(node, &result->op->key, effects);
        reply_fetch(effects, token,
                    is_outdated(node, result->op) ? STATUS_REFUSED
                                                  : result->status,
                    result->record);
        break;
    case OWNER_SERVE_SCAN:
        scan_done(node, result, token, effects);
        break;
    case OWNER_SERVE_HANDOFF:
        handoff_row_done(node, result, effects);
        break;
    case OWNER_MEMBERSHIP:
    case OWNER_BROADCAST:
    case OWNER_WRITE:
    case OWNER_FORWARD:
    case OWNER_READ:
    case OWNER_HANDOFF:
    case OWNER_FILL:
    case OWNER_RELAY:
    case OWNER_EXPLAIN:
    case OWNER_START:
    case OWNER_META:
    case OWNER_SERVE_LIST:
    case OWNER_SERVE_DIGEST:
    case OWNER_HINT:
    case OWNER_TREES:
    case OWNER_EXCHANGE:
    case OWNER_COLLECT:
    case OWNER_DRAIN:
    case OWNER_CLOCK:
    case OWNER_AGREE:
    case OWNER_MOVES:
        break;
    }
}
