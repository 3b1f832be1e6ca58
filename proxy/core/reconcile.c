/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/core/exchange.h"

/* One partition whose trees differ, a chunk of our copy at a time, and of it
 * the keys in the leaves that differ:
 *
 *   SCANNING  our keys and their versions
 *   LISTING   those of the peer in the same range, in as many replies as it
 *             takes; of each:
 *   PULLING     the rows that it has otherwise than we do
 *   STORING     merging them
 *   READING   our chunk once more: the rows that we still have otherwise
 *   PUSHING   giving them */

enum {
    CHUNK_BYTES_MAX = 1024 * 1024,
    /* Below it one record decides, which comes alone however large it is. */
    CHUNK_BYTES_MIN = 4 * 1024,
    /* While the node is busy. */
    BUSY_CHUNK_BYTES = 64 * 1024,
};

/* One of ours in the chunk. Versions are four bytes of them, as on the wire:
 * two that are equal by chance, one in four billion, differ on until the key is
 * written or read. */
struct own_key {
    uint64_t hash; /* first, to be sorted and found by */
    uint32_t version, their_version;
    bool is_theirs; /* they have the key */
};

static struct own_key *own_keys(const struct exchange *exchange, size_t *count)
{
    *count = exchange->own.size / sizeof(struct own_key);
    return (struct own_key *)(void *)exchange->own.data;
}

static struct own_key *find_own(const struct exchange *exchange, uint64_t hash)
{
    size_t count;
    struct own_key *own = own_keys(exchange, &count);
    return count == 0 ? NULL
                      : bsearch(&hash, own, count, sizeof *own, compare_hashes);
}

static bool is_same(const struct own_key *own, uint32_t version)
{
    return own->is_theirs && own->their_version == version;
}

static bool set_bytes(struct buffer *buffer, struct bytes bytes)
{
    buffer_clear(buffer);
    return buffer_append(buffer, bytes) == STATUS_OK;
}

static bool add_hash(struct buffer *hashes, uint64_t hash)
{
    return buffer_append(hashes, bytes_of(&hash, sizeof hash)) == STATUS_OK;
}

/* In the arena; data is NULL when that is spent. */
static struct bytes copy_of(const struct buffer *buffer, struct arena *arena)
{
    return bytes_of(arena_copy(arena, buffer->data, buffer->size),
                    buffer->size);
}

/* --- our chunk --- */

static void scan_own(struct node *node, enum exchange_stage stage,
                     const struct buffer *after, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    uint32_t limit = SCAN_LISTS * node->config.limits.list_bytes_max;
    exchange->serial++;
    struct storage_op op = {
        .kind = STORAGE_SCAN,
        .token = exchange_number(node),
        .key = {.table = TABLE_DATA,
                .partition = exchange->partition,
                .bucket = exchange->repair.bucket},
        .after = copy_of(after, &effects->arena),
        .bytes_max =
            exchange->chunk_bytes < limit ? exchange->chunk_bytes : limit,
        .passes_damage = true,
    };
    if (op.after.data != NULL && effects_storage(effects, &op))
        exchange_go_to(node, stage);
    else
        exchange_skip(node);
}

void reconcile(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    exchange->chunk_bytes = CHUNK_BYTES_MAX;
    exchange->moved = 0;
    exchange->is_one_by_one = exchange->has_refused = false;
    buffer_clear(&exchange->after);
    scan_own(node, EXCHANGE_SCANNING, &exchange->after, effects);
}

void reconcile_go_on(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    uint32_t most = node_is_busy(node) ? BUSY_CHUNK_BYTES : CHUNK_BYTES_MAX;
    exchange->is_between = false;
    exchange->started_ms = node->now_ms;
    exchange->chunk_bytes += exchange->chunk_bytes / 4;
    if (exchange->chunk_bytes > most)
        exchange->chunk_bytes = most;
    scan_own(node, EXCHANGE_SCANNING, &exchange->after, effects);
}

static void next_chunk(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    exchange->is_one_by_one = false;
    if (exchange->is_last)
        exchange_partition_done(node, effects);
    else if (!set_bytes(&exchange->after, buffer_bytes(&exchange->to)))
        exchange_skip(node);
    else if (node_is_busy(node))
        exchange_pause(node);
    else
        reconcile_go_on(node, effects);
}

/* No usable answer is all that is heard of one too large for a frame or a
 * queue: a smaller chunk may do. */
void reconcile_unanswered(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    if (exchange->chunk_bytes == CHUNK_BYTES_MIN) {
        exchange_skip(node);
        return;
    }
    exchange->chunk_bytes /= 2;
    if (exchange->chunk_bytes < CHUNK_BYTES_MIN)
        exchange->chunk_bytes = CHUNK_BYTES_MIN;
    scan_own(node, EXCHANGE_SCANNING, &exchange->after, effects);
}

/* OK for a damaged one, too, which is as good as missing. */
static enum status add_own(struct exchange *exchange,
                           const struct storage_row *row, struct arena *scratch)
{
    struct record record;
    struct own_key own = {.hash = key_hash(row->key.bucket, row->key.key)};
    if (!leaf_set_has(&exchange->leaves, hash_tree_leaf(own.hash)))
        return STATUS_OK;
    enum status status = record_decode(row->record, scratch, &record);
    if (status != STATUS_OK)
        return status == STATUS_NO_MEMORY ? status : STATUS_OK;
    own.version = (uint32_t)record_version(row->record);
    return buffer_append(&exchange->own, bytes_of(&own, sizeof own));
}

/* Versions while LISTING, rows while PULLING. */
static void ask_chunk(struct node *node, enum exchange_stage stage,
                      struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    struct arena *arena = &effects->arena;
    Rkv__Scan *scan = message_new(arena, &rkv__scan__descriptor);
    struct leaf_set *leaves =
        arena_copy(arena, &exchange->leaves, sizeof *leaves);
    uint64_t *keys =
        arena_copy(arena, exchange->pulls.data, exchange->pulls.size);
    struct bytes after = copy_of(&exchange->list_after, arena);
    struct bytes to = copy_of(&exchange->to, arena);
    if (scan == NULL || leaves == NULL || keys == NULL || after.data == NULL ||
        to.data == NULL) {
        exchange_skip(node);
        return;
    }
    scan->partition = exchange->partition.value;
    scan->bucket = exchange->repair.bucket.value;
    scan->after = binary_of_bytes(after);
    scan->max_bytes = exchange->chunk_bytes;
    if (stage == EXCHANGE_LISTING) {
        scan->to = binary_of_bytes(to);
        scan->leaves = binary_of_bytes(bytes_of(leaves, sizeof *leaves));
    } else {
        scan->keys = keys;
        scan->n_keys = exchange->pulls.size / sizeof *keys;
    }
    exchange_ask(node, stage,
                 envelope_new(arena, RKV__ENVELOPE__BODY_SCAN, scan), effects);
}

static void scanned(struct node *node, const struct storage_result *result,
                    struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    enum status status = result->status;
    buffer_clear(&exchange->own);
    for (size_t i = 0; i < result->row_count && status == STATUS_OK; i++)
        status = add_own(exchange, &result->rows[i], &effects->arena);
    exchange->is_last = result->done;
    if (status == STATUS_OK &&
        (!set_bytes(&exchange->to,
                    result->done ? (struct bytes){0} : result->next) ||
         !set_bytes(&exchange->list_after, buffer_bytes(&exchange->after))))
        status = STATUS_NO_MEMORY;
    if (status != STATUS_OK) {
        if (status == STATUS_CORRUPT || status == STATUS_IO)
            tree_unreadable(node, exchange->partition);
        exchange_skip(node);
        return;
    }
    size_t count;
    struct own_key *own = own_keys(exchange, &count);
    if (count > 0)
        qsort(own, count, sizeof *own, compare_hashes);
    ask_chunk(node, EXCHANGE_LISTING, effects);
}

/* --- theirs --- */

/* What they have otherwise than we do is to be pulled. */
static bool tell_apart(struct exchange *exchange, const Rkv__ScanReply *reply)
{
    buffer_clear(&exchange->pulls);
    if (reply->n_keys != reply->n_versions || reply->n_keys > SCAN_KEYS_MAX)
        return false;
    for (size_t i = 0; i < reply->n_keys; i++) {
        uint64_t hash = reply->keys[i];
        struct own_key *own = find_own(exchange, hash);
        if (own != NULL) {
            own->their_version = reply->versions[i];
            own->is_theirs = true;
        }
        if ((own == NULL || own->version != reply->versions[i]) &&
            !add_hash(&exchange->pulls, hash))
            return false;
    }
    size_t count = exchange->pulls.size / sizeof(uint64_t);
    if (count > 0)
        qsort(exchange->pulls.data, count, sizeof(uint64_t), compare_hashes);
    return true;
}

static void push(struct node *node, struct effects *effects);

static void list_on(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    if (exchange->is_listed)
        push(node, effects);
    else if (set_bytes(&exchange->list_after,
                       buffer_bytes(&exchange->list_next)))
        ask_chunk(node, EXCHANGE_LISTING, effects);
    else
        exchange_skip(node);
}

static void listed(struct node *node, const Rkv__ScanReply *reply,
                   struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    struct bytes next = bytes_of_binary(reply->next);
    exchange->is_listed = reply->done;
    /* One that goes nowhere would do so for ever. */
    bool goes_on = reply->done ||
                   bytes_compare(next, buffer_bytes(&exchange->list_after)) > 0;
    if (!goes_on || !tell_apart(exchange, reply) ||
        !set_bytes(&exchange->list_next, next))
        exchange_skip(node);
    else if (exchange->pulls.size > 0)
        ask_chunk(node, EXCHANGE_PULLING, effects);
    else
        list_on(node, effects);
}

/* Of the first in a partition there is a line. */
static void refused(struct node *node, const char *by, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    char line[160];
    node_count(node, COUNTER_KEYS_REFUSED);
    if (exchange->has_refused || effects->log != NULL)
        return;
    exchange->has_refused = true;
    snprintf(line, sizeof line, "event=key_not_repaired partition=%u by=%s",
             exchange->partition.value, by);
    effects->log = arena_string(&effects->arena, line);
}

static void pulled(struct node *node, const Rkv__ScanReply *reply,
                   struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    exchange->serial++;
    exchange->storing = 0;
    exchange->moved += reply->n_rows;
    for (size_t i = 0; i < reply->n_rows; i++) {
        struct storage_op op = {.token = exchange_number(node)};
        if (row_merge(node, reply->rows[i], exchange->partition,
                      &effects->arena, &op) == NULL &&
            effects_storage(effects, &op))
            exchange->storing++;
        else
            refused(node, "us", effects);
    }
    exchange_go_to(node, EXCHANGE_STORING);
    if (exchange->storing == 0)
        list_on(node, effects);
}

static void merged(struct node *node, const struct storage_result *result,
                   struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    const struct storage_key *key = &result->op->key;
    struct own_key *own = find_own(exchange, key_hash(key->bucket, key->key));
    if (result->status == STATUS_OK)
        node_count(node, COUNTER_KEYS_PULLED);
    else if (!result->was_damaged)
        refused(node, "us", effects);
    if (own != NULL && result->version_after != 0)
        own->version = (uint32_t)result->version_after;
    if (--exchange->storing == 0)
        list_on(node, effects);
}

void reconcile_scan_reply(struct node *node, const Rkv__ScanReply *reply,
                          struct effects *effects)
{
    if (node->exchange.stage == EXCHANGE_LISTING)
        listed(node, reply, effects);
    else
        pulled(node, reply, effects);
}

/* --- what they lack --- */

static void push(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    size_t count;
    const struct own_key *own = own_keys(exchange, &count);
    bool ok = set_bytes(&exchange->read_after, buffer_bytes(&exchange->after));
    buffer_clear(&exchange->pushes);
    for (size_t i = 0; i < count && ok; i++)
        if (!is_same(&own[i], own[i].version))
            ok = add_hash(&exchange->pushes, own[i].hash);
    if (!ok)
        exchange_skip(node);
    else if (exchange->pushes.size > 0)
        scan_own(node, EXCHANGE_READING, &exchange->read_after, effects);
    else
        next_chunk(node, effects);
}

/* What was merged takes room: it may be more than one chunk now. */
static void read_on(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    if (exchange->is_read)
        next_chunk(node, effects);
    else
        scan_own(node, EXCHANGE_READING, &exchange->read_after, effects);
}

/* It was given, or is not taken. */
static void strike_out(struct exchange *exchange, uint64_t hash)
{
    struct own_key *own = find_own(exchange, hash);
    if (own == NULL)
        return;
    own->their_version = own->version;
    own->is_theirs = true;
}

static bool is_to_be_pushed(const struct exchange *exchange,
                            const struct storage_row *row,
                            struct arena *scratch)
{
    struct record record;
    uint64_t hash = key_hash(row->key.bucket, row->key.key);
    size_t count = exchange->pushes.size / sizeof hash;
    /* One by one: the first of those that are left. */
    if (exchange->is_one_by_one)
        count = 1;
    return bsearch(&hash, exchange->pushes.data, count, sizeof hash,
                   compare_hashes) != NULL &&
           record_decode(row->record, scratch, &record) == STATUS_OK &&
           !is_same(find_own(exchange, hash),
                    (uint32_t)record_version(row->record));
}

static void read_again(struct node *node, const struct storage_result *result,
                       struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    struct arena *arena = &effects->arena;
    Rkv__Handoff *message = message_new(arena, &rkv__handoff__descriptor);
    Rkv__Row **rows =
        arena_alloc(arena, (result->row_count + 1) * sizeof *rows);
    if (result->status != STATUS_OK || message == NULL || rows == NULL) {
        exchange_skip(node);
        return;
    }
    struct bytes to = buffer_bytes(&exchange->to);
    exchange->is_read =
        result->done || (to.size > 0 && bytes_compare(result->next, to) >= 0);
    if (!set_bytes(&exchange->read_after, result->next)) {
        exchange_skip(node);
        return;
    }
    message->rows = rows;
    for (size_t i = 0; i < result->row_count; i++) {
        const struct storage_row *row = &result->rows[i];
        if (!is_to_be_pushed(exchange, row, arena))
            continue;
        rows[message->n_rows] = row_to_wire(row, arena);
        if (rows[message->n_rows] == NULL) {
            exchange_skip(node);
            return;
        }
        message->n_rows++;
    }
    exchange->row_count = message->n_rows;
    if (message->n_rows > 0)
        exchange_ask(node, EXCHANGE_PUSHING,
                     envelope_new(arena, RKV__ENVELOPE__BODY_HANDOFF, message),
                     effects);
    else
        reconcile_pushed(node, STATUS_OK, effects);
}

/* So that another one may be taken. */
static bool is_about_rows(enum status status)
{
    return status == STATUS_REFUSED || status == STATUS_INVALID ||
           status == STATUS_TOO_LARGE || status == STATUS_CORRUPT ||
           status == STATUS_UNSUPPORTED;
}

void reconcile_pushed(struct node *node, enum status status,
                      struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    size_t count = exchange->pushes.size / sizeof(uint64_t);
    bool is_lasting = is_about_rows(status);
    if (status != STATUS_OK && !is_lasting && status != STATUS_CLOSED) {
        exchange_skip(node);
        return;
    }
    if (status != STATUS_OK && exchange->chunk_bytes > CHUNK_BYTES_MIN &&
        exchange->row_count > 1) {
        reconcile_unanswered(node, effects);
        return;
    }
    if (status == STATUS_CLOSED) {
        exchange_skip(node);
        return;
    }
    exchange->moved += exchange->row_count;
    if (is_lasting && exchange->row_count > 1) {
        /* Which of them it is that they do not take. */
        exchange->is_one_by_one = true;
        push(node, effects);
        return;
    }
    for (size_t i = 0; status == STATUS_OK && i < exchange->row_count; i++)
        node_count(node, COUNTER_KEYS_PUSHED);
    if (status != STATUS_OK)
        refused(node, "peer", effects);
    if (!exchange->is_one_by_one || count == 0) {
        read_on(node, effects);
        return;
    }
    /* Not here: further on. */
    if (exchange->row_count == 0 && !exchange->is_read) {
        read_on(node, effects);
        return;
    }
    uint64_t first;
    memcpy(&first, exchange->pushes.data, sizeof first);
    strike_out(exchange, first);
    push(node, effects);
}

void reconcile_stored(struct node *node, const struct storage_result *result,
                      struct effects *effects)
{
    switch (node->exchange.stage) {
    case EXCHANGE_SCANNING:
        scanned(node, result, effects);
        break;
    case EXCHANGE_STORING:
        merged(node, result, effects);
        break;
    case EXCHANGE_READING:
        read_again(node, result, effects);
        break;
    case EXCHANGE_IDLE:
    case EXCHANGE_COMPARING:
    case EXCHANGE_LISTING:
    case EXCHANGE_PULLING:
    case EXCHANGE_PUSHING:
        break; /* of an operation that was given up */
    }
}
