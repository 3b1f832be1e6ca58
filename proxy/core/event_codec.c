/* SPDX-License-Identifier: MIT */
#include "proxy/core/event_codec.h"

#include "proto/envelope.h"
#include "proxy/core/visit.h"

enum {
    /* What an event has beside bytes that vary: kind, flags, times and ids;
     * key, request id and numbers of a result; less than 256. */
    EVENT_BYTES = 256,
    ROW_BYTES = 32, /* the same of a row, whose key names a target */
};

enum {
    HAS_FROM = 1,
    HAS_TOKEN = 2,
    HAS_REQUEST = 4,
    HAS_MESSAGE = 8,
    HAS_STORAGE = 16,
    HAS_ALL = 31,
};

/* Of a result. */
enum {
    WAS_DUPLICATE = 1,
    WAS_DAMAGED = 2,
    IS_DONE = 4,
    PASSED_DAMAGE = 8,
    HAS_TEXT = 16,
    HAS_RECORD = 32,
    HAS_CHANGE = 64, /* what was written, and since when it waited */
    HAS_ROWS = 128,  /* or where to go on */
};

/* The bodies are pointers in one union. Packing one with a head before it takes
 * a fraction of what protobuf-c takes with all that there might be. */
static const ProtobufCMessage *body_of(const Rkv__Envelope *envelope)
{
    const ProtobufCMessage *body;
    memcpy(&body, &envelope->result, sizeof body);
    return body;
}

static uint8_t *pack(const Rkv__Envelope *envelope, uint8_t *at)
{
    const ProtobufCMessage *body = body_of(envelope);
    uint8_t head[ENVELOPE_HEAD_MAX];
    size_t size = protobuf_c_message_get_packed_size(body);
    size_t used = envelope_head(envelope->body_case, size, head);
    memcpy(at, head, used);
    return at + used + protobuf_c_message_pack(body, at + used);
}

static size_t message_bytes_max(const struct event *event)
{
    if (event->message == NULL)
        return 0;
    return event->packed.size > 0
               ? event->packed.size
               : ENVELOPE_HEAD_MAX + protobuf_c_message_get_packed_size(
                                         body_of(event->message));
}

size_t event_bytes_max(const struct event *event)
{
    size_t size = EVENT_BYTES + message_bytes_max(event);
    const struct storage_result *result = event->storage;
    if (result == NULL)
        return size;
    const struct storage_op *op = result->op;
    size += op->key.key.size + op->after.size + result->record.size +
            result->next.size;
    if (op->kind == STORAGE_SCAN)
        size += op->data.size;
    if (result->message != NULL)
        size += strlen(result->message) + 1;
    for (size_t i = 0; i < result->row_count; i++)
        size += ROW_BYTES + result->rows[i].key.key.size +
                result->rows[i].record.size;
    return size;
}

VISIT void visit_key(struct visit *visit, struct storage_key *key)
{
    visit_small(visit, &key->table, UINT8_MAX);
    switch ((int)key->table) {
    case TABLE_HINTS:
        visit_raw(visit, key->target.bytes, NODE_ID_SIZE);
        break;
    case TABLE_DATA:
    case TABLE_META:
    case TABLE_TREES:
        break;
    default: /* an int: any number may be in a file */
        visit->in = NULL;
        return;
    }
    visit_raw(visit, &key->partition.value, sizeof key->partition.value);
    visit_raw(visit, &key->bucket.value, sizeof key->bucket.value);
    visit_bytes(visit, &key->key);
}

VISIT void visit_op(struct visit *visit, struct storage_op *op)
{
    visit_small(visit, &op->kind, STORAGE_SET);
    visit_raw(visit, &op->token, sizeof op->token);
    visit_raw(visit, &op->reply_token, sizeof op->reply_token);
    visit_raw(visit, &op->asked_us, sizeof op->asked_us);
    visit_key(visit, &op->key);
    if (op->kind == STORAGE_COORDINATE || op->kind == STORAGE_MERGE ||
        op->kind == STORAGE_READ)
        visit_raw(visit, &op->epoch, sizeof op->epoch);
    if (op->kind == STORAGE_COORDINATE)
        visit_raw(visit, op->request.bytes, REQUEST_ID_SIZE);
    if (op->key.table == TABLE_HINTS &&
        (op->kind == STORAGE_COORDINATE || op->kind == STORAGE_MERGE))
        visit_raw(visit, &op->hint_bytes, sizeof op->hint_bytes);
    if (op->kind != STORAGE_SCAN)
        return;
    visit_bytes(visit, &op->data);
    visit_bytes(visit, &op->after);
    visit_raw(visit, &op->bytes_max, sizeof op->bytes_max);
}

VISIT void visit_change(struct visit *visit, struct storage_result *result)
{
    visit_raw(visit, &result->prepared_us, sizeof result->prepared_us);
    visit_raw(visit, &result->records_delta, sizeof result->records_delta);
    visit_raw(visit, &result->bytes_delta, sizeof result->bytes_delta);
    visit_raw(visit, &result->version_before, sizeof result->version_before);
    visit_raw(visit, &result->version_after, sizeof result->version_after);
    visit_raw(visit, &result->ripe_ms, sizeof result->ripe_ms);
}

VISIT void visit_rows(struct visit *visit, struct storage_result *result)
{
    struct storage_row *rows =
        visit_list(visit, result->rows, &result->row_count, sizeof *rows);
    if (!visit->writes)
        result->rows = rows;
    for (size_t i = 0; i < result->row_count && visit_is_good(visit); i++) {
        visit_key(visit, &rows[i].key);
        visit_bytes(visit, &rows[i].record);
    }
    visit_bytes(visit, &result->next);
}

VISIT unsigned flags_of_result(const struct storage_result *result)
{
    bool has_change = result->prepared_us != 0 || result->records_delta != 0 ||
                      result->bytes_delta != 0 || result->version_before != 0 ||
                      result->version_after != 0 || result->ripe_ms != 0;
    return (result->duplicate ? WAS_DUPLICATE : 0) |
           (result->was_damaged ? WAS_DAMAGED : 0) |
           (result->done ? IS_DONE : 0) |
           (result->passed_damage ? PASSED_DAMAGE : 0) |
           (result->message != NULL ? HAS_TEXT : 0) |
           (result->record.size > 0 ? HAS_RECORD : 0) |
           (has_change ? HAS_CHANGE : 0) |
           (result->row_count > 0 || result->next.size > 0 ? HAS_ROWS : 0);
}

VISIT void visit_result(struct visit *visit, struct storage_result *result)
{
    unsigned flags = visit->writes ? flags_of_result(result) : 0;
    visit_small(visit, &flags, UINT8_MAX);
    if (!visit->writes) {
        result->duplicate = (flags & WAS_DUPLICATE) != 0;
        result->was_damaged = (flags & WAS_DAMAGED) != 0;
        result->done = (flags & IS_DONE) != 0;
        result->passed_damage = (flags & PASSED_DAMAGE) != 0;
    }
    visit_small(visit, &result->status, STATUS_STALE);
    if (flags & HAS_TEXT)
        visit_string(visit, &result->message);
    if (flags & HAS_RECORD)
        visit_bytes(visit, &result->record);
    if (flags & HAS_CHANGE)
        visit_change(visit, result);
    if (flags & HAS_ROWS)
        visit_rows(visit, result);
}

VISIT void visit_head(struct visit *visit, struct event *event, unsigned *flags)
{
    visit_small(visit, &event->kind, EVENT_LEAVE);
    visit_small(visit, flags, HAS_ALL);
    visit_raw(visit, &event->now_us, sizeof event->now_us);
    visit_raw(visit, &event->wall_ms, sizeof event->wall_ms);
    if (*flags & HAS_FROM)
        visit_raw(visit, event->from.bytes, NODE_ID_SIZE);
    if (*flags & HAS_TOKEN)
        visit_raw(visit, &event->token.value, sizeof event->token.value);
    if (*flags & HAS_REQUEST)
        visit_raw(visit, &event->request, sizeof event->request);
}

uint8_t *event_encode(const struct event *event, uint8_t *at)
{
    struct visit visit = {.writes = true, .out = at};
    unsigned flags = (node_id_is_zero(event->from) ? 0 : HAS_FROM) |
                     (event->token.value == 0 ? 0 : HAS_TOKEN) |
                     (event->request == 0 ? 0 : HAS_REQUEST) |
                     (event->message == NULL ? 0 : HAS_MESSAGE) |
                     (event->storage == NULL ? 0 : HAS_STORAGE);
    visit_head(&visit, visit_writes(event), &flags);
    if (event->storage != NULL) {
        visit_op(&visit, visit_writes(event->storage->op));
        visit_result(&visit, visit_writes(event->storage));
    }
    if (event->message == NULL)
        return visit.out;
    if (event->packed.size == 0)
        return pack(event->message, visit.out);
    memcpy(visit.out, event->packed.data, event->packed.size);
    return visit.out + event->packed.size;
}

/* Whether it has what node_step does not do without. */
static bool is_whole(const struct event *event)
{
    switch (event->kind) {
    case EVENT_CLIENT_REQUEST:
    case EVENT_PEER_REQUEST:
    case EVENT_HELLO:
        return event->message != NULL;
    case EVENT_PREPARED:
    case EVENT_STORED:
        return event->storage != NULL;
    case EVENT_TICK:
    case EVENT_HELLO_REPLY:
    case EVENT_REPLY:
    case EVENT_NO_REPLY:
    case EVENT_REOPENED:
    case EVENT_LEAVE:
        return true;
    }
    return false;
}

bool event_decode(struct bytes bytes, struct arena *arena, struct event *event)
{
    struct visit visit = {
        .in = bytes.data, .end = bytes.data + bytes.size, .arena = arena};
    unsigned flags = 0;
    *event = (struct event){.kind = EVENT_TICK};
    if (bytes.size == 0)
        return false;
    visit_head(&visit, event, &flags);
    if (flags & HAS_STORAGE) {
        struct storage_result *result = arena_zalloc(arena, sizeof *result);
        struct storage_op *op = arena_zalloc(arena, sizeof *op);
        if (result == NULL || op == NULL)
            return false;
        visit_op(&visit, op);
        visit_result(&visit, result);
        result->op = op;
        event->storage = result;
    }
    if (visit.in != NULL && flags & HAS_MESSAGE) {
        struct error error;
        event->packed = bytes_of(visit.in, (size_t)(visit.end - visit.in));
        event->message = envelope_unpack(event->packed, arena, &error);
        visit.in = event->message == NULL ? NULL : visit.end;
    }
    return visit.in == visit.end && is_whole(event);
}
