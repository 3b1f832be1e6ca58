/* SPDX-License-Identifier: MIT */
#include "proxy/core/replica.h"

#include "proto/assert.h"

/* SplitMix64 (Steele, Lea, Flood 2014): every seed gives a full period, which
 * is all that drawing distinct incarnations needs. */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void replica_init(struct replica *replica, uint64_t seed,
                  int64_t dedup_window_ms)
{
    *replica = (struct replica){
        .random = seed,
        .dedup_window_ms = dedup_window_ms,
    };
    replica_renew(replica);
}

void replica_renew(struct replica *replica)
{
    actor_source_init(&replica->actors, draw(&replica->random));
}

static void fail(struct replica_change *change, enum status status,
                 const char *message)
{
    *change = (struct replica_change){.status = status, .message = message};
}

/* Our own copy. One that cannot be read counts as missing: with it goes what it
 * said of our dots, so a new incarnation begins. */
static enum status own_copy(struct replica *replica,
                            const struct storage_op *op,
                            struct replica_copy copy, struct arena *scratch,
                            struct record *own, struct replica_change *change)
{
    *own = record_empty(op->record_kind);
    enum status status = copy.is_unreadable ? STATUS_CORRUPT : STATUS_OK;
    if (status == STATUS_OK && copy.record.size > 0)
        status = record_decode(copy.record, scratch, own);
    bool is_damaged = status == STATUS_CORRUPT;
    if (is_damaged && (op->key.table != TABLE_DATA || op->mends)) {
        replica_renew(replica);
        *own = record_empty(op->record_kind);
        status = STATUS_OK;
    }
    if (status != STATUS_OK)
        fail(change, status,
             is_damaged ? "this node's copy of the key is damaged, and is "
                          "being mended from the others; try again"
                        : "our own copy cannot be decoded");
    change->was_damaged = is_damaged;
    return status;
}

static void store(const struct storage_op *op, struct bytes current,
                  const struct record *record, struct buffer *next,
                  struct replica_change *change)
{
    enum status status = record_encode(record, next);
    if (status != STATUS_OK) {
        fail(change, status, "no memory for the record");
        return;
    }
    change->changed = !bytes_equal(current, buffer_bytes(next));
    if (!change->changed)
        return;
    if (op->key.table == TABLE_HINTS) {
        change->records_delta = current.size == 0;
        change->bytes_delta = (int64_t)next->size - (int64_t)current.size;
    } else {
        change->version_before =
            change->was_damaged ? 0 : record_version(current);
        change->version_after = record_version(buffer_bytes(next));
        change->ripe_ms = record_ripe_ms(record);
    }
}

/* A hint is dropped once it was delivered, and an older record of the key may
 * become the next one: what it shows of our dots says nothing of those that we
 * issued since. So a fallback begins an epoch with each write; it coordinates
 * only while no replica can. */
static struct dot next_dot(struct replica *replica, enum table table,
                           const struct context *own)
{
    static const struct context nothing;
    if (replica->actors.epoch == UINT32_MAX - 1)
        replica_renew(replica); /* of its own keys it has begun 2^32 */
    return actor_source_next(&replica->actors,
                             table == TABLE_HINTS ? &nothing : own);
}

/* Above what the key has here, and what the client has seen of it, whoever's
 * clock that is of: what is acknowledged must not be lost to what came before
 * it. */
static uint64_t stamp_over(const struct record *own, const struct context *seen,
                           uint64_t stamp)
{
    if (seen->stamp >= stamp && seen->stamp < UINT64_MAX)
        stamp = seen->stamp + 1;
    for (size_t i = 0; i < own->value_count; i++)
        if (own->values[i].stamp >= stamp && own->values[i].stamp < UINT64_MAX)
            stamp = own->values[i].stamp + 1;
    return stamp;
}

/* A write that makes a large record smaller is the way out. */
static bool outgrows(const struct replica *replica, struct bytes current,
                     const struct buffer *next)
{
    size_t limit = RECORD_VALUE_SIZES_MAX * replica->value_bytes_max +
                   RECORD_OVERHEAD_BYTES;
    return replica->value_bytes_max > 0 && next->size > limit &&
           next->size > current.size;
}

static const char *why_not(enum status status)
{
    if (status == STATUS_TOO_LARGE)
        return "siblings: the key has 100, the limit; read it and write with "
               "its context";
    if (status == STATUS_INVALID)
        return "request_id: all zeros, or context: it covers the very write "
               "that it came with";
    return "no memory for the record";
}

static void coordinate(struct replica *replica, const struct storage_op *op,
                       struct replica_copy copy, struct arena *scratch,
                       struct buffer *next, struct replica_change *change)
{
    struct record own, written;
    struct context seen;
    enum status status = own_copy(replica, op, copy, scratch, &own, change);
    if (status != STATUS_OK)
        return;
    status = context_decode(op->context, key_hash(op->key.bucket, op->key.key),
                            scratch, &seen);
    if (status != STATUS_OK) {
        fail(change, status, context_mistake(status));
        return;
    }
    if (actor_source_is_behind(&replica->actors, &own.context, &seen))
        replica_renew(replica);
    struct record_write write = {
        .seen = seen,
        .request = op->request,
        .dot = next_dot(replica, op->key.table, &own.context),
        .now_ms = op->wall_ms,
        .stamp = stamp_over(&own, &seen, op->stamp),
        .tombstone = op->tombstone,
        .expires_ms = op->expires_ms,
        .data = op->tombstone ? (struct bytes){0} : op->data,
    };
    status = record_apply(&own, &write, replica->dedup_window_ms, scratch,
                          &written, &change->duplicate);
    if (status != STATUS_OK) {
        fail(change, status, why_not(status));
        return;
    }
    store(op, copy.record, &written, next, change);
    if (change->status != STATUS_OK || !outgrows(replica, copy.record, next))
        return;
    buffer_clear(next);
    fail(change, STATUS_TOO_LARGE,
         "record: with its siblings it is larger than twice "
         "limits.value_bytes_max; read it and write with its context");
}

static void merge(struct replica *replica, const struct storage_op *op,
                  struct replica_copy copy, struct arena *scratch,
                  struct buffer *next, struct replica_change *change)
{
    struct record own, other, merged;
    enum status status = own_copy(replica, op, copy, scratch, &own, change);
    if (status != STATUS_OK)
        return;
    if (op->mends && op->data.size == 0) {
        change->changed = change->removed = change->was_damaged;
        return;
    }
    status = record_decode(op->data, scratch, &other);
    if (status != STATUS_OK) {
        fail(change, status, "record: malformed or damaged on its way");
        return;
    }
    if (op->key.table == TABLE_DATA &&
        actor_source_is_behind(&replica->actors, &own.context, &other.context))
        replica_renew(replica);
    status = record_merge(&own, &other, op->wall_ms, replica->dedup_window_ms,
                          scratch, &merged);
    if (status != STATUS_OK) {
        fail(change, status, "our own copy cannot be merged with");
        return;
    }
    store(op, copy.record, &merged, next, change);
}

/* Whether it can be decoded or not. */
static void drop(const struct storage_op *op, struct bytes current,
                 struct replica_change *change)
{
    if (current.size == 0 || record_version(current) != op->version)
        return;
    change->changed = change->removed = true;
    change->records_delta = -1;
    change->bytes_delta = -(int64_t)current.size;
}

static void collect(const struct storage_op *op, struct bytes current,
                    struct arena *scratch, struct buffer *next,
                    struct replica_change *change)
{
    struct record own, left;
    if (current.size == 0 || record_version(current) != op->version)
        return;
    enum status status = record_decode(current, scratch, &own);
    if (status != STATUS_OK) {
        fail(change, status, "our own copy cannot be decoded");
        return;
    }
    if (!record_collect(&own, op->wall_ms, scratch, &left))
        return;
    if (left.context.count > 0) {
        store(op, current, &left, next, change);
        return;
    }
    change->changed = change->removed = true;
    change->version_before = op->version;
}

void replica_apply(struct replica *replica, const struct storage_op *op,
                   struct replica_copy copy, struct arena *scratch,
                   struct buffer *next, struct replica_change *change)
{
    *change = (struct replica_change){.status = STATUS_OK, .ripe_ms = -1};
    buffer_clear(next);
    /* Of what cannot be read there is nothing to let go. */
    if (copy.is_unreadable &&
        (op->kind == STORAGE_DROP || op->kind == STORAGE_COLLECT)) {
        fail(change, STATUS_CORRUPT, "our own copy cannot be read");
        return;
    }
    switch (op->kind) {
    case STORAGE_COORDINATE:
        coordinate(replica, op, copy, scratch, next, change);
        return;
    case STORAGE_MERGE:
        merge(replica, op, copy, scratch, next, change);
        return;
    case STORAGE_DROP:
        drop(op, copy.record, change);
        return;
    case STORAGE_COLLECT:
        collect(op, copy.record, scratch, next, change);
        return;
    case STORAGE_SET:
        change->status = buffer_append(next, op->data);
        change->changed = change->status == STATUS_OK;
        return;
    case STORAGE_READ:
    case STORAGE_SCAN:
        ASSERT(!"reads change nothing");
    }
}
