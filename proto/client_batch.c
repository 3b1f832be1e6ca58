/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "proto/client_internal.h"

/* A batch goes from node to node as any request does, and an answer to it is
 * taken apart: what is settled has ended, and only the rest is sent again. */

_Static_assert((int)RKV__BATCH_ITEM_REPLY__BODY_RESULT ==
                       (int)RKV__ENVELOPE__BODY_RESULT &&
                   (int)RKV__BATCH_ITEM_REPLY__BODY_WRITE_REPLY ==
                       (int)RKV__ENVELOPE__BODY_WRITE_REPLY &&
                   (int)RKV__BATCH_ITEM_REPLY__BODY_READ_REPLY ==
                       (int)RKV__ENVELOPE__BODY_READ_REPLY,
               "bodies have one number, in a batch and alone");

/* ---- the message ---- */

static struct batch *batch_new(size_t count)
{
    struct batch *batch =
        calloc(1, sizeof(*batch) + count * sizeof(*batch->items));
    if (batch == NULL)
        return NULL;
    batch->count = batch->waiting = count;
    batch->results = calloc(count, sizeof(*batch->results));
    if (batch->results == NULL) {
        free(batch);
        return NULL;
    }
    return batch;
}

void client_batch_free(struct batch *batch)
{
    if (batch == NULL)
        return;
    free(batch->results);
    free(batch);
}

static enum status check(const struct replikv_request *from,
                         struct error *error)
{
    if (from->request_count < 1 || from->request_count > REPLIKV_BATCH_MAX)
        return error_set(error, STATUS_INVALID,
                         "requests: %zu, a batch may have 1 to %d",
                         from->request_count, REPLIKV_BATCH_MAX);
    for (size_t i = 0; i < from->request_count; i++) {
        enum replikv_kind kind = from->requests[i].kind;
        if (kind != REPLIKV_GET && kind != REPLIKV_PUT &&
            kind != REPLIKV_DELETE)
            return error_set(error, STATUS_INVALID,
                             "requests[%zu].kind: %d, a batch may have GET, "
                             "PUT and DELETE",
                             i, (int)kind);
    }
    return STATUS_OK;
}

static enum status pack_item(const struct replikv_request *from,
                             uint32_t timeout_ms, const uint8_t *id,
                             struct buffer *packed)
{
    Rkv__BatchItem item = RKV__BATCH_ITEM__INIT;
    if (from->timeout_ms > 0)
        timeout_ms = from->timeout_ms;
    if (from->kind == REPLIKV_GET) {
        Rkv__Read read = client_read_of(from, timeout_ms);
        item.body_case = RKV__BATCH_ITEM__BODY_READ;
        item.read = &read;
        return batch_append(packed, &item.base);
    }
    Rkv__Write write = client_write_of(from, timeout_ms, id);
    item.body_case = RKV__BATCH_ITEM__BODY_WRITE;
    item.write = &write;
    return batch_append(packed, &item.base);
}

enum status client_batch_pack(const struct replikv_request *from,
                              uint32_t timeout_ms, struct request *request,
                              struct error *error)
{
    struct buffer *packed = &request->packed;
    struct names names = {.wanted = from->request_count};
    enum status status = check(from, error);
    if (status != STATUS_OK)
        return status;
    struct batch *batch = request->batch = batch_new(from->request_count);
    status = batch == NULL ? STATUS_NO_MEMORY : batch_begin(packed);
    for (size_t i = 0; i < from->request_count && status == STATUS_OK; i++) {
        struct item *item = &batch->items[i];
        uint8_t *id = batch->results[i].request_id;
        item->offset = packed->size;
        item->is_write = from->requests[i].kind != REPLIKV_GET;
        status = client_name(&names, &from->requests[i], id);
        if (status == STATUS_OK)
            status = pack_item(&from->requests[i], timeout_ms, id, packed);
        item->size = packed->size - item->offset;
    }
    if (status != STATUS_OK)
        return error_set(error, status, "the batch cannot be made: %s",
                         status_name(status));
    request->weight = (uint32_t)from->request_count;
    request->reply_case = RKV__ENVELOPE__BODY_BATCH_REPLY;
    request->payload = batch_seal(packed, RKV__ENVELOPE__BODY_BATCH);
    return STATUS_OK;
}

/* Only what has not ended stays in the message, and an answer to the longer
 * one is none to this: it gets another number. */
static void shorten(struct replikv *client, struct request *request)
{
    struct buffer *packed = &request->packed;
    size_t end = BATCH_GAP_BYTES;
    for (size_t i = 0; i < request->batch->count; i++) {
        struct item *item = &request->batch->items[i];
        if (item->ended)
            continue;
        memmove(packed->data + end, packed->data + item->offset, item->size);
        item->offset = end;
        end += item->size;
    }
    if (end == packed->size)
        return;
    client->inflight_bytes -= packed->size - end;
    packed->size = end;
    request->payload = batch_seal(packed, RKV__ENVELOPE__BODY_BATCH);
    client->table[request->id & client->mask] = NULL;
    client_number(client, request);
}

/* ---- answers ---- */

static void end_item(struct request *request, size_t index,
                     enum replikv_status status, const Rkv__Result *said)
{
    struct item *item = &request->batch->items[index];
    struct replikv_result *result = &request->batch->results[index];
    item->ended = true;
    request->batch->waiting--;
    result->status = status;
    result->outcome = client_outcome(
        item->is_write, said, item->maybe_applied || request->maybe_applied);
    result->attempts = request->result.attempts;
}

/* Whether each of the replies is one to its request, and settles it. */
static bool are_sensible(const struct batch *batch,
                         const Rkv__BatchReply *reply, bool *all_settle)
{
    size_t next = 0;
    *all_settle = true;
    if (reply->n_replies != batch->waiting)
        return false;
    for (size_t i = 0; i < batch->count; i++) {
        const struct item *item = &batch->items[i];
        if (item->ended)
            continue;
        const Rkv__BatchItemReply *one = reply->replies[next++];
        const Rkv__Result *said = client_item_result_of(one);
        int reply_case = item->is_write
                             ? (int)RKV__BATCH_ITEM_REPLY__BODY_WRITE_REPLY
                             : (int)RKV__BATCH_ITEM_REPLY__BODY_READ_REPLY;
        if (said == NULL || !client_is_sensible(item->is_write, reply_case,
                                                (int)one->body_case, said))
            return false;
        *all_settle &= !client_may_retry(said);
    }
    return true;
}

/* NULL when the item has ended, or what is to be waited out or tried
 * elsewhere. */
static const Rkv__Result *hear_item(const struct replikv *client,
                                    struct request *request, size_t index,
                                    const Rkv__BatchItemReply *reply)
{
    struct item *item = &request->batch->items[index];
    const Rkv__Result *said = client_item_result_of(reply);
    item->answer = reply;
    item->answered = request->result.attempts;
    bool retry = client_may_retry(said);
    if (retry && !client_did_nothing(said))
        item->maybe_applied = true;
    if (retry && said->status != RKV__STATUS__OVERLOADED)
        retry = ++item->refusals < client->endpoint_count;
    if (retry)
        return said;
    end_item(request, index, (enum replikv_status)said->status, said);
    return NULL;
}

static void go_on(struct replikv *client, struct request *request,
                  const Rkv__Result *refusal, uint32_t wait_ms)
{
    const struct endpoint *endpoint = &client->endpoints[request->endpoint];
    enum status status = (enum status)refusal->status;
    int64_t now_ms = clock_now_ms();
    error_set(&request->last, status, "%s: %s", endpoint->address,
              refusal->message[0] != '\0' ? refusal->message
                                          : status_name(status));
    shorten(client, request);
    if (wait_ms > 0)
        client_pause(client, request, now_ms + wait_ms);
    else
        client_attempt(client, request, request->endpoint + 1, now_ms);
}

bool client_batch_heard(struct replikv *client, struct request *request,
                        bool current, const Rkv__BatchReply *reply,
                        struct arena *arena)
{
    struct batch *batch = request->batch;
    const Rkv__Result *refusal = NULL;
    uint32_t wait_ms = 0;
    bool all_settle;
    size_t next = 0;
    if (!are_sensible(batch, reply, &all_settle))
        return false;
    /* One to an earlier attempt: there is a later one, with all of it. */
    if (!current && !all_settle)
        return true;
    arena_adopt(&request->arena, arena);
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->items[i].ended)
            continue;
        const Rkv__Result *said =
            hear_item(client, request, i, reply->replies[next++]);
        if (said == NULL)
            continue;
        refusal = said;
        if (said->status == RKV__STATUS__OVERLOADED &&
            client_retry_after_ms(said) > wait_ms)
            wait_ms = client_retry_after_ms(said);
    }
    if (refusal != NULL)
        go_on(client, request, refusal, wait_ms);
    else
        client_finish(client, request, REPLIKV_OK);
    return true;
}

/* ---- the end ---- */

/* An answer that is not of the last attempt says nothing of that one. */
static void end_with_batch(struct request *request, size_t index)
{
    struct item *item = &request->batch->items[index];
    enum replikv_status status = request->result.status;
    const Rkv__Result *said = NULL;
    if (request->answer != NULL || item->answered != request->result.attempts)
        item->answer = NULL;
    if (request->answer != NULL) {
        said = client_result_of(request->answer);
    } else if (item->answer != NULL) {
        said = client_item_result_of(item->answer);
        status = (enum replikv_status)said->status;
    }
    end_item(request, index, status, said);
}

void client_batch_end(struct request *request)
{
    const struct batch *batch = request->batch;
    struct replikv_result *whole = &request->result;
    bool is_first = true;
    for (size_t i = 0; i < batch->count; i++)
        if (!batch->items[i].ended)
            end_with_batch(request, i);
    whole->status = REPLIKV_OK;
    whole->outcome = REPLIKV_NONE;
    for (size_t i = 0; i < batch->count; i++) {
        const struct replikv_result *one = &batch->results[i];
        if (whole->status == REPLIKV_OK && one->status != REPLIKV_NOT_FOUND)
            whole->status = one->status;
        if (!batch->items[i].is_write)
            continue;
        whole->outcome = is_first || one->outcome == whole->outcome
                             ? one->outcome
                             : REPLIKV_UNKNOWN;
        is_first = false;
    }
}
