/* SPDX-License-Identifier: MIT */
#include "proxy/batches.h"

#include <stdlib.h>

#include "proto/assert.h"
#include "proxy/server_internal.h"

/* A token is generation (21), slot (17) and the request's place (10). Its top
 * bits are those of a session's generation, which is never 0. */
enum { ITEM_BITS = 10, SLOT_BITS = 17, GENERATION_BITS = 21 };
enum { TOKEN_BITS = ITEM_BITS + SLOT_BITS + GENERATION_BITS };
enum {
    SLOTS_MAX = 1 << SLOT_BITS,
    GENERATION_MAX = (1 << GENERATION_BITS) - 1
};
_Static_assert(BATCH_REQUESTS_MAX <= 1 << ITEM_BITS, "a place fits its bits");
_Static_assert(TOKEN_BITS == 48, "a session's generation begins here");

enum {
    /* A reply of so many bytes is always kept: a Result with the longest
     * message (320) and all of its numbers, and a context of few actors. */
    SHORT_BYTES = 512,
    /* Id and hops before a payload. */
    FRAME_START_BYTES = 128,
    RETRY_AFTER_MS = 100, /* as for every other queue that is full */
};

/* Where a reply is among those that came. */
struct part {
    size_t offset, size; /* size 0: there is none */
};

struct client_batch {
    struct session *session;
    uint32_t id; /* of the frame */
    uint32_t slot;
    size_t count, waiting;
    struct buffer replies;
    struct part parts[]; /* count */
};

/* --- slots --- */

/* A free one, or SLOTS_MAX. */
static uint32_t slot_take(struct batches *batches)
{
    if (batches->free < batches->count) {
        uint32_t slot = batches->free;
        batches->free = batches->slots[slot].next_free;
        return slot;
    }
    if (batches->count == SLOTS_MAX)
        return SLOTS_MAX;
    if (batches->count == batches->capacity) {
        uint32_t capacity = batches->capacity * 2 + 16;
        void *grown =
            realloc(batches->slots, capacity * sizeof *batches->slots);
        if (grown == NULL)
            return SLOTS_MAX;
        batches->slots = grown;
        batches->capacity = capacity;
    }
    batches->slots[batches->count] = (struct batch_slot){.batch = NULL};
    batches->free = batches->count + 1;
    return batches->count++;
}

static struct client_batch *batch_new(struct batches *batches,
                                      struct session *session, uint32_t id,
                                      size_t count)
{
    struct client_batch *batch =
        calloc(1, sizeof *batch + count * sizeof *batch->parts);
    if (batch == NULL)
        return NULL;
    uint32_t slot = slot_take(batches);
    if (slot == SLOTS_MAX) {
        free(batch);
        return NULL;
    }
    batch->session = session;
    batch->id = id;
    batch->slot = slot;
    batch->count = batch->waiting = count;
    struct batch_slot *at = &batches->slots[slot];
    at->batch = batch;
    at->generation = at->generation % GENERATION_MAX + 1; /* never 0 */
    batches->requests += count;
    return batch;
}

static void batch_free(struct batches *batches, struct client_batch *batch)
{
    struct batch_slot *at = &batches->slots[batch->slot];
    at->batch = NULL;
    at->next_free = batches->free;
    batches->free = batch->slot;
    batches->requests -= batch->count;
    batches->bytes -= batch->replies.size;
    buffer_fini(&batch->replies);
    free(batch);
}

static struct reply_token token_of(const struct batches *batches,
                                   const struct client_batch *batch)
{
    uint64_t generation = batches->slots[batch->slot].generation;
    return (struct reply_token){generation << (SLOT_BITS + ITEM_BITS) |
                                (uint64_t)batch->slot << ITEM_BITS};
}

bool batches_is_token(struct reply_token token)
{
    return token.value >> TOKEN_BITS == 0;
}

static struct client_batch *find(const struct batches *batches,
                                 struct reply_token token)
{
    size_t slot = token.value >> ITEM_BITS & (SLOTS_MAX - 1);
    uint32_t generation = (uint32_t)(token.value >> (SLOT_BITS + ITEM_BITS));
    if (slot >= batches->count || batches->slots[slot].generation != generation)
        return NULL;
    return batches->slots[slot].batch;
}

/* --- replies --- */

static Rkv__BatchItemReply item_of(const Rkv__Envelope *envelope)
{
    Rkv__BatchItemReply item = RKV__BATCH_ITEM_REPLY__INIT;
    switch ((int)envelope->body_case) {
    case RKV__ENVELOPE__BODY_WRITE_REPLY:
        item.body_case = RKV__BATCH_ITEM_REPLY__BODY_WRITE_REPLY;
        item.write_reply = envelope->write_reply;
        break;
    case RKV__ENVELOPE__BODY_READ_REPLY:
        item.body_case = RKV__BATCH_ITEM_REPLY__BODY_READ_REPLY;
        item.read_reply = envelope->read_reply;
        break;
    case RKV__ENVELOPE__BODY_RESULT:
        item.body_case = RKV__BATCH_ITEM_REPLY__BODY_RESULT;
        item.result = envelope->result;
        break;
    default: /* an int: any number may come from the wire */
        ASSERT(!"writes and reads have no other replies");
    }
    return item;
}

/* Whether a reply of so many bytes fits, with a short one for each request
 * that is still to be answered. */
static enum status room(const struct server *server,
                        const struct client_batch *batch, size_t size)
{
    size_t others = (batch->waiting - 1) * SHORT_BYTES;
    if (BATCH_GAP_BYTES + batch->replies.size + size + others +
            FRAME_START_BYTES >
        server->reply_bytes_max)
        return STATUS_TOO_LARGE;
    if (server->batches.bytes + size >
        server->config->limits.inflight_bytes_max)
        return STATUS_OVERLOADED;
    return STATUS_OK;
}

static enum status append_result(struct buffer *out, enum status status,
                                 Rkv__Outcome outcome, char *message)
{
    Rkv__Result result = RKV__RESULT__INIT;
    Rkv__BatchItemReply item = RKV__BATCH_ITEM_REPLY__INIT;
    result.status = (Rkv__Status)status;
    result.outcome = outcome;
    result.message = message;
    if (status == STATUS_OVERLOADED)
        result.retry_after_ms = RETRY_AFTER_MS;
    item.body_case = RKV__BATCH_ITEM_REPLY__BODY_RESULT;
    item.result = &result;
    return batch_append(out, &item.base);
}

static enum status append(struct server *server, struct client_batch *batch,
                          const Rkv__Envelope *envelope)
{
    Rkv__BatchItemReply item = item_of(envelope);
    size_t size = protobuf_c_message_get_packed_size(&item.base);
    enum status status =
        size > SHORT_BYTES ? room(server, batch, size) : STATUS_OK;
    if (status == STATUS_OK)
        return batch_append(&batch->replies, &item.base);
    server->counters[EDGE_REPLIES_TOO_LARGE]++;
    if (envelope->body_case != RKV__ENVELOPE__BODY_WRITE_REPLY)
        return append_result(
            &batch->replies, status, RKV__OUTCOME__NONE,
            status == STATUS_TOO_LARGE
                ? "the replies to this batch are longer than the frame limit; "
                  "ask for less at once"
                : "too many bytes of replies to batches are waiting");
    /* What became of a write is said in any case. Without a context it is to
     * be read before it is written over. */
    Rkv__WriteReply brief = *envelope->write_reply;
    brief.context = (ProtobufCBinaryData){.len = 0};
    item.write_reply = &brief;
    return batch_append(&batch->replies, &item.base);
}

/* They came in any order, and leave in that of their requests. */
static enum status assemble(const struct client_batch *batch,
                            struct buffer *frame)
{
    buffer_clear(frame);
    enum status status =
        buffer_reserve(frame, BATCH_GAP_BYTES + batch->replies.size);
    if (status == STATUS_OK)
        status = batch_begin(frame);
    for (size_t i = 0; i < batch->count && status == STATUS_OK; i++) {
        const struct part *part = &batch->parts[i];
        if (part->size == 0) /* memory was too short to keep it */
            status =
                append_result(frame, STATUS_OVERLOADED, RKV__OUTCOME__UNKNOWN,
                              "no memory for the reply");
        else
            status = buffer_append(
                frame,
                bytes_of(batch->replies.data + part->offset, part->size));
    }
    return status;
}

static void finish(struct server *server, struct turn *turn,
                   struct client_batch *batch)
{
    struct buffer *frame = &server->packed;
    if (assemble(batch, frame) == STATUS_OK)
        sessions_send(server, turn, batch->session, batch->id,
                      batch_seal(frame, RKV__ENVELOPE__BODY_BATCH_REPLY));
    else
        server->counters[EDGE_REPLIES_DROPPED]++;
    batch_free(&server->batches, batch);
}

void batches_reply(struct server *server, struct turn *turn,
                   struct reply_token token, const Rkv__Envelope *envelope)
{
    struct client_batch *batch = find(&server->batches, token);
    if (batch == NULL) {
        server->counters[EDGE_REPLIES_DROPPED]++;
        return;
    }
    size_t item = token.value & ((1 << ITEM_BITS) - 1);
    ASSERT(item < batch->count && batch->parts[item].size == 0);
    size_t offset = batch->replies.size;
    if (append(server, batch, envelope) == STATUS_OK) {
        size_t size = batch->replies.size - offset;
        batch->parts[item] = (struct part){offset, size};
        server->batches.bytes += size;
    }
    if (--batch->waiting == 0)
        finish(server, turn, batch);
}

void batches_forget(struct server *server, const struct session *session)
{
    struct batches *batches = &server->batches;
    for (size_t i = 0; i < batches->count; i++) {
        struct client_batch *batch = batches->slots[i].batch;
        if (batch != NULL && batch->session == session)
            batch_free(batches, batch);
    }
}

void batches_fini(struct batches *batches)
{
    ASSERT(batches->requests == 0 && batches->bytes == 0);
    free(batches->slots);
}

/* --- requests --- */

static void refuse(struct server *server, struct turn *turn,
                   struct session *session, uint32_t id, struct error *error)
{
    Rkv__Result result = RKV__RESULT__INIT;
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    result.status = (Rkv__Status)error->status;
    result.outcome = RKV__OUTCOME__NOT_APPLIED;
    result.message = error->text;
    if (error->status == STATUS_OVERLOADED)
        result.retry_after_ms = RETRY_AFTER_MS;
    envelope.version = PROTOCOL_VERSION_MAX;
    envelope.body_case = RKV__ENVELOPE__BODY_RESULT;
    envelope.result = &result;
    server->counters[EDGE_BATCHES_REFUSED]++;
    sessions_reply(server, turn, sessions_token(session, id), &envelope);
}

static enum status check(const struct server *server, size_t count,
                         struct error *error)
{
    size_t open = server->batches.requests;
    size_t open_max = 2 * (size_t)server->config->limits.inflight_max;
    if (count == 0 || count > BATCH_REQUESTS_MAX)
        return error_set(error, STATUS_INVALID,
                         "batch.requests: %zu, allowed are 1 to %d", count,
                         BATCH_REQUESTS_MAX);
    if (open > 0 && open + count > open_max)
        return error_set(error, STATUS_OVERLOADED,
                         "batch.requests: %zu, beside %zu of batches under "
                         "way, allowed are %zu, twice limits.inflight_max",
                         count, open, open_max);
    return STATUS_OK;
}

static void step_item(struct server *server, struct turn *turn,
                      struct reply_token token, const Rkv__BatchItem *item,
                      Rkv__Envelope *message)
{
    static Rkv__Result no_item = {
        .base = PROTOBUF_C_MESSAGE_INIT(&rkv__result__descriptor),
        .status = RKV__STATUS__INVALID,
        .outcome = RKV__OUTCOME__NOT_APPLIED,
        .message = "this request of the batch is neither a write nor a read; "
                   "a batch holds nothing else",
    };
    struct event event = {
        .kind = EVENT_CLIENT_REQUEST, .token = token, .message = message};
    *message = (Rkv__Envelope)RKV__ENVELOPE__INIT;
    message->version = PROTOCOL_VERSION_MAX;
    switch ((int)item->body_case) {
    case RKV__BATCH_ITEM__BODY_WRITE:
        message->body_case = RKV__ENVELOPE__BODY_WRITE;
        message->write = item->write;
        turn_step(server, turn, &event);
        break;
    case RKV__BATCH_ITEM__BODY_READ:
        message->body_case = RKV__ENVELOPE__BODY_READ;
        message->read = item->read;
        turn_step(server, turn, &event);
        break;
    default: /* an int: any number may come from the wire */
        message->body_case = RKV__ENVELOPE__BODY_RESULT;
        message->result = &no_item;
        batches_reply(server, turn, token, message);
    }
}

void batches_request(struct server *server, struct turn *turn,
                     struct session *session, uint32_t id,
                     const Rkv__Envelope *message)
{
    const Rkv__Batch *asked = message->batch;
    size_t count = asked->n_requests;
    struct client_batch *batch = NULL;
    Rkv__Envelope *messages = NULL;
    struct error error;
    if (check(server, count, &error) == STATUS_OK) {
        /* What the node borrows until the turn settles. */
        messages =
            arena_alloc_uncharged(&turn->messages, count * sizeof *messages);
        if (messages != NULL)
            batch = batch_new(&server->batches, session, id, count);
        if (batch == NULL)
            error_set(&error, STATUS_OVERLOADED, "no memory for a batch");
    }
    if (batch == NULL) {
        refuse(server, turn, session, id, &error);
        return;
    }
    server->counters[EDGE_BATCHES]++;
    struct reply_token token = token_of(&server->batches, batch);
    /* The batch is gone with its last reply. One that fits a turn is not
     * spread over two: what it sends to a node leaves in one write. */
    if (turn->steps > 0 && turn->steps + count > FRAMES_A_TURN)
        turn_pause(server, turn);
    for (size_t i = 0; i < count; i++) {
        if (turn->steps >= FRAMES_A_TURN)
            turn_pause(server, turn);
        step_item(server, turn, (struct reply_token){token.value + i},
                  asked->requests[i], &messages[i]);
    }
}
