/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "proto/assert.h"
#include "proxy/core/exchange.h"
#include "proxy/core/replica.h"

enum {
    /* After a failure; a target that is not there is found so by probes. */
    RETRY_MS = 500,
    RETRY_MS_MAX = 8000,
    /* So often a row alone gets no reply before it is passed over: once or
     * twice it is the session that ended. */
    UNSENT_MAX = 3,
};

/* One row of the chunk under way, in handoff.rows. */
struct sent_row {
    uint64_t version;
    uint32_t bucket;
    uint16_t partition;
    uint16_t key_size;
    uint8_t key[KEY_BYTES_MAX];
};

void handoff_fini(struct node *node)
{
    for (size_t i = 0; i < node->hint_count; i++)
        buffer_fini(&node->hints[i].after);
    buffer_fini(&node->handoff.next);
    buffer_fini(&node->handoff.rows);
}

static void go_to(struct node *node, enum handoff_stage stage)
{
    node->handoff.stage = stage;
    node->handoff.lost_at_ms = node->now_ms + LOST_MS;
}

static void rest(struct node *node, int64_t wait_ms)
{
    node->handoff.stage = HANDOFF_IDLE;
    node->handoff.next_ms = node->now_ms + wait_ms;
}

/* Half as long as the chunk took. */
static void rest_a_while(struct node *node)
{
    int64_t took_ms = (node->now_ms - node->handoff.started_ms) / 2;
    rest(node, took_ms < PAUSE_MS_MAX ? took_ms : PAUSE_MS_MAX);
}

void handoff_wake(struct node *node, struct node_id id)
{
    struct hint_target *target = hint_find(node, id);
    node->handoff.next_ms = 0;
    if (target != NULL)
        target->next_ms = target->wait_ms = 0;
}

void handoff_moved(struct node *node)
{
    node->handoff.next_ms = 0;
    for (size_t i = 0; i < node->hint_count; i++)
        if (topology_leaves(&node->topology, node->hints[i].node))
            node->hints[i].next_ms = node->hints[i].wait_ms = 0;
}

/* Others have their turn. */
static void put_off(struct node *node, int64_t wait_ms)
{
    struct hint_target *target = hint_target(node, node->handoff.target);
    target->next_ms = node->now_ms + wait_ms;
    node->handoff.target_next++;
    rest(node, 0);
}

/* The target has the same chunk once more, later. */
static void fail(struct node *node)
{
    struct hint_target *target = hint_target(node, node->handoff.target);
    target->wait_ms = target->wait_ms == 0 ? RETRY_MS : target->wait_ms * 2;
    if (target->wait_ms > RETRY_MS_MAX)
        target->wait_ms = RETRY_MS_MAX;
    put_off(node, target->wait_ms);
}

/* The chunk is done with: the next begins behind it, at the first again when
 * it was the last. It may be larger by a quarter: doubled, every second one
 * would fail where a small queue is the bound. */
static void advance(struct node *node)
{
    struct handoff *handoff = &node->handoff;
    struct hint_target *target = hint_target(node, handoff->target);
    struct buffer empty = target->after;
    target->after = handoff->next;
    handoff->next = empty;
    target->unsent = 0;
    target->chunk_bytes += target->chunk_bytes / 4 + 1;
    if (target->chunk_bytes > HANDOFF_CHUNK_BYTES)
        target->chunk_bytes = HANDOFF_CHUNK_BYTES;
    if (target->after.size == 0)
        handoff->target_next++;
}

static void scan(struct node *node, struct hint_target *to,
                 struct effects *effects)
{
    struct handoff *handoff = &node->handoff;
    struct node_id target = to->node;
    handoff->target = target;
    handoff->started_ms = node->now_ms;
    handoff->changes = to->changes;
    struct storage_op op = {
        .kind = STORAGE_SCAN,
        .token = request_number(OWNER_HANDOFF, ++handoff->serial),
        .key = {.table = TABLE_HINTS, .target = target},
        .after = buffer_bytes(&to->after),
        .bytes_max = to->chunk_bytes,
        .passes_damage = true,
    };
    if (effects_storage(effects, &op))
        go_to(node, HANDOFF_SCANNING);
    else
        fail(node);
}

/* Half of the chunk, if it has more than one row. */
static bool halve(struct node *node)
{
    struct handoff *handoff = &node->handoff;
    if (handoff->rows.size <= sizeof(struct sent_row))
        return false;
    hint_target(node, handoff->target)->chunk_bytes =
        (uint32_t)(handoff->rows_bytes / 2);
    return true;
}

static void pass_over(struct node *node)
{
    node_count(node, COUNTER_HINTS_REFUSED);
    advance(node);
    put_off(node, RETRY_MS);
}

static void refused(struct node *node)
{
    if (halve(node))
        rest_a_while(node);
    else
        pass_over(node);
}

static void unanswered(struct node *node)
{
    struct hint_target *target = hint_target(node, node->handoff.target);
    if (halve(node))
        put_off(node, RETRY_MS);
    else if (++target->unsent >= UNSENT_MAX)
        pass_over(node);
    else
        fail(node);
}

static bool is_wanted(const struct node *node, const struct hint_target *target)
{
    return (target->records > 0 || target->is_unsure) &&
           (topology_leaves(&node->topology, target->node) ||
            membership_is_reachable(node->membership, target->node));
}

/* The next target whose time has come, or NULL, and when to look again. */
static struct hint_target *due(struct node *node, int64_t *wait_ms)
{
    struct handoff *handoff = &node->handoff;
    *wait_ms = node->config.timeouts.handoff_interval_ms;
    for (size_t i = 0; i < node->hint_count; i++) {
        size_t at = (handoff->target_next + i) % node->hint_count;
        struct hint_target *target = &node->hints[at];
        if (!is_wanted(node, target))
            continue;
        int64_t left_ms = target->next_ms - node->now_ms;
        if (left_ms <= 0) {
            handoff->target_next = at;
            return target;
        }
        if (left_ms < *wait_ms)
            *wait_ms = left_ms;
    }
    return NULL;
}

void handoff_tick(struct node *node, struct effects *effects)
{
    struct handoff *handoff = &node->handoff;
    if (handoff->stage != HANDOFF_IDLE && node->now_ms >= handoff->lost_at_ms) {
        handoff->serial++;
        if (handoff->stage == HANDOFF_SENT)
            unanswered(node);
        else
            fail(node);
    }
    if (handoff->stage != HANDOFF_IDLE || node->now_ms < handoff->next_ms)
        return;
    int64_t wait_ms;
    struct hint_target *target = due(node, &wait_ms);
    if (target != NULL)
        scan(node, target, effects);
    else
        rest(node, wait_ms);
}

/* Remember the row's version, so that only what was delivered is dropped. */
static enum status remember(struct handoff *handoff,
                            const struct storage_row *row,
                            struct arena *scratch)
{
    struct record record;
    enum status status = record_decode(row->record, scratch, &record);
    if (status != STATUS_OK)
        return status;
    struct sent_row sent = {
        .version = record_version(row->record),
        .bucket = row->key.bucket.value,
        .partition = row->key.partition.value,
        .key_size = (uint16_t)row->key.key.size,
    };
    memcpy(sent.key, row->key.key.data, row->key.key.size);
    handoff->rows_bytes += row->key.key.size + row->record.size;
    return buffer_append(&handoff->rows, bytes_of(&sent, sizeof sent));
}

/* What fails its checksum can never be delivered. */
static void drop_damaged(struct node *node, const struct storage_row *row,
                         struct effects *effects)
{
    struct storage_op op = {
        .kind = STORAGE_DROP,
        .token = request_number(OWNER_HINT, 0),
        .key = row->key,
        .version = record_version(row->record),
    };
    hint_shed(node, row->key.target, row->key.partition);
    (void)effects_storage(effects, &op);
}

static const Rkv__Envelope *handoff_message(struct node *node,
                                            const struct storage_result *result,
                                            struct effects *effects)
{
    struct arena *arena = &effects->arena;
    Rkv__Handoff *message = message_new(arena, &rkv__handoff__descriptor);
    Rkv__Row **rows =
        arena_alloc(arena, (result->row_count + 1) * sizeof *rows);
    if (message == NULL || rows == NULL)
        return NULL;
    message->epoch = node->topology.epoch;
    message->rows = rows;
    for (size_t i = 0; i < result->row_count; i++) {
        const struct storage_row *row = &result->rows[i];
        enum status status = remember(&node->handoff, row, arena);
        if (status != STATUS_OK)
            node_count(node, COUNTER_STORAGE_FAILURES);
        if (status == STATUS_CORRUPT)
            drop_damaged(node, row, effects);
        if (status != STATUS_OK)
            continue;
        rows[message->n_rows] = row_to_wire(row, arena);
        if (rows[message->n_rows] == NULL)
            return NULL;
        message->n_rows++;
    }
    return envelope_new(arena, RKV__ENVELOPE__BODY_HANDOFF, message);
}

/* Keep a row for the target's heir, or have it ourselves. */
static bool move_row(struct node *node, const struct storage_row *row,
                     struct effects *effects)
{
    struct record record;
    void *key =
        arena_copy(&effects->arena, row->key.key.data, row->key.key.size);
    void *data =
        arena_copy(&effects->arena, row->record.data, row->record.size);
    if (key == NULL || data == NULL)
        return false;
    enum status status = record_decode(row->record, &effects->arena, &record);
    if (status != STATUS_OK)
        return status != STATUS_NO_MEMORY; /* else it is not among the rows */
    struct storage_op op = {
        .kind = STORAGE_MERGE,
        .token = request_number(OWNER_HANDOFF, node->handoff.serial),
        .key = row->key,
        .record_kind = record.kind,
        .wall_ms = node->wall_ms,
        .data = bytes_of(data, row->record.size),
    };
    op.key.key = bytes_of(key, row->key.key.size);
    op.key.target =
        topology_heir(&node->topology, row->key.partition, row->key.target);
    bool is_own = node_id_equal(op.key.target, node->self);
    if (node_id_equal(op.key.target, row->key.target))
        return false; /* it would be dropped with what it was moved from */
    if (is_own)
        op.key.table = TABLE_DATA;
    if (!(is_own ? effects_storage(effects, &op)
                 : hint_submit(node, &op, effects)))
        return false;
    node->handoff.dropping++;
    node_count(node, COUNTER_HINTS_MOVED);
    return true;
}

/* They were kept already: no limit refuses them. */
static void move_rows(struct node *node, const struct storage_result *result,
                      struct effects *effects)
{
    struct handoff *handoff = &node->handoff;
    handoff->dropping = 0;
    handoff->has_failed = false;
    go_to(node, HANDOFF_MOVING);
    for (size_t i = 0; i < result->row_count; i++)
        handoff->has_failed |= !move_row(node, &result->rows[i], effects);
    if (handoff->dropping == 0)
        fail(node);
}

/* Nothing is kept for the target, and nothing was on its way meanwhile. */
static void found_none(struct node *node)
{
    struct hint_target *target = hint_target(node, node->handoff.target);
    if (target->after.size > 0 || target->changes != node->handoff.changes)
        return;
    target->records = target->bytes = 0;
    target->is_unsure = false;
}

static void scanned(struct node *node, const struct storage_result *result,
                    struct effects *effects)
{
    struct handoff *handoff = &node->handoff;
    buffer_clear(&handoff->rows);
    buffer_clear(&handoff->next);
    handoff->rows_bytes = 0;
    if (result->status != STATUS_OK ||
        (!result->done &&
         buffer_append(&handoff->next, result->next) != STATUS_OK)) {
        fail(node);
        return;
    }
    const Rkv__Envelope *message = handoff_message(node, result, effects);
    if (message == NULL) {
        fail(node);
        return;
    }
    if (message->handoff->n_rows > 0 &&
        topology_leaves(&node->topology, handoff->target)) {
        move_rows(node, result, effects);
        return;
    }
    if (message->handoff->n_rows == 0) {
        if (result->done && result->row_count == 0 && !result->passed_damage)
            found_none(node);
        hint_target(node, handoff->target)->taken_ms = node->now_ms;
        advance(node);
        rest(node, RETRY_MS);
        return;
    }
    go_to(node, HANDOFF_SENT);
    outbox_request(&effects->out, handoff->target, LANE_BULK,
                   request_number(OWNER_HANDOFF, handoff->serial), message);
}

/* They are stored elsewhere. */
static void drop_rows(struct node *node, struct effects *effects)
{
    struct handoff *handoff = &node->handoff;
    hint_target(node, handoff->target)->wait_ms = 0;
    advance(node);
    go_to(node, HANDOFF_DROPPING);
    handoff->dropping = 0;
    size_t count = handoff->rows.size / sizeof(struct sent_row);
    for (size_t i = 0; i < count; i++) {
        const struct sent_row *sent =
            arena_copy(&effects->arena, handoff->rows.data + i * sizeof *sent,
                       sizeof *sent);
        if (sent == NULL)
            break; /* it is delivered once more */
        struct storage_op op = {
            .kind = STORAGE_DROP,
            .token = request_number(OWNER_HANDOFF, handoff->serial),
            .key = {.table = TABLE_HINTS,
                    .target = handoff->target,
                    .partition = {sent->partition},
                    .bucket = {sent->bucket},
                    .key = bytes_of(sent->key, sent->key_size)},
            .version = sent->version,
        };
        if (effects_storage(effects, &op))
            handoff->dropping++;
    }
    if (handoff->dropping == 0)
        rest(node, RETRY_MS);
}

/* Whether sending the same again would only be refused again. */
static bool is_lasting(Rkv__Status status)
{
    return status == RKV__STATUS__REFUSED || status == RKV__STATUS__INVALID ||
           status == RKV__STATUS__CORRUPT || status == RKV__STATUS__UNSUPPORTED;
}

void handoff_reply(struct node *node, uint64_t request,
                   const Rkv__Envelope *reply, struct effects *effects)
{
    struct handoff *handoff = &node->handoff;
    if (request != request_number(OWNER_HANDOFF, handoff->serial) ||
        handoff->stage != HANDOFF_SENT)
        return;
    const Rkv__HandoffReply *answer = NULL;
    if (reply != NULL && reply->body_case == RKV__ENVELOPE__BODY_HANDOFF_REPLY)
        answer = reply->handoff_reply;
    /* Whatever it says, it is there. */
    if (answer != NULL)
        hint_target(node, handoff->target)->taken_ms = node->now_ms;
    if (answer == NULL || answer->status != RKV__STATUS__OK) {
        if (answer == NULL)
            unanswered(node);
        else if (is_lasting(answer->status))
            refused(node);
        else
            fail(node);
        return;
    }
    drop_rows(node, effects);
}

void handoff_stored(struct node *node, const struct storage_result *result,
                    struct effects *effects)
{
    struct handoff *handoff = &node->handoff;
    if (result->op->token != request_number(OWNER_HANDOFF, handoff->serial))
        return;
    if (result->op->kind == STORAGE_SCAN) {
        scanned(node, result, effects);
        return;
    }
    ASSERT(handoff->dropping > 0);
    if (handoff->stage == HANDOFF_MOVING) {
        handoff->has_failed |= result->status != STATUS_OK;
        if (--handoff->dropping > 0)
            return;
        if (handoff->has_failed)
            fail(node);
        else
            drop_rows(node, effects);
        return;
    }
    if (result->records_delta < 0)
        node_count(node, COUNTER_HINTS_DELIVERED);
    if (--handoff->dropping == 0)
        rest_a_while(node);
}
