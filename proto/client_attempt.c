/* SPDX-License-Identifier: MIT */
#include "proto/client_internal.h"

enum {
    /* A lost endpoint is dialled again after 50, 100, ... 1600 ms: a node that
     * restarts is found soon, one that is gone costs little. */
    BACKOFF_MIN_MS = 50,
    BACKOFF_DOUBLINGS = 5,
    /* One that let a request time out is passed over for so long. */
    AVOID_SLOW_MS = 1000,
    /* When a node does not say how long to wait. */
    RETRY_AFTER_MS = 50,
    /* Everything is momentarily in the way: a connection that is closing, a
     * full queue. */
    PAUSE_MIN_MS = 10,
    /* Answers whose callbacks are called before what those start leaves: half
     * of what a node takes in at once, so that it works on what the first half
     * started while the second half is heard. */
    FRAMES_AT_ONCE = 32,
};

static void avoid(struct endpoint *endpoint, int64_t until_ms)
{
    struct replikv *client = endpoint->client;
    endpoint->avoid_until_ms = until_ms;
    if (client->preferred == (size_t)(endpoint - client->endpoints))
        client->preferred = (client->preferred + 1) % client->endpoint_count;
}

static void endpoint_failed(struct endpoint *endpoint, int64_t now_ms)
{
    avoid(endpoint, now_ms + ((int64_t)BACKOFF_MIN_MS << endpoint->failures));
    if (endpoint->failures < BACKOFF_DOUBLINGS)
        endpoint->failures++;
}

/* Whether the request is on its way to the endpoint now. */
static bool try_endpoint(struct request *request, struct endpoint *endpoint,
                         int64_t now_ms)
{
    struct replikv *client = endpoint->client;
    enum status status = STATUS_OK;
    if (endpoint->connection == NULL)
        status = transport_dial(client->transport, endpoint->address,
                                &client_transport_handlers, endpoint,
                                &endpoint->connection, &request->last);
    if (status != STATUS_OK) {
        endpoint_failed(endpoint, now_ms);
        return false;
    }
    request->endpoint = (size_t)(endpoint - client->endpoints);
    request->state = ATTEMPT_QUEUED;
    if (endpoint->open) {
        status = connection_send(endpoint->connection, request->id,
                                 bytes_of(NULL, 0), request->payload);
        if (status != STATUS_OK) {
            error_set(&request->last, STATUS_UNAVAILABLE, "%s: %s",
                      endpoint->address, status_name(status));
            return false;
        }
        request->state = ATTEMPT_SENT;
        request->sent_ms = now_ms;
        request->result.attempts++;
        endpoint->flush = true;
    }
    int64_t due_ms = request->deadline_ms;
    if (client->endpoint_count > 1 &&
        now_ms + client->options.attempt_ms < due_ms)
        due_ms = now_ms + client->options.attempt_ms;
    client_schedule(client, request, due_ms);
    return true;
}

/* Past the deadline nothing will have changed: what is known is said now. */
void client_pause(struct replikv *client, struct request *request,
                  int64_t until_ms)
{
    if (until_ms >= request->deadline_ms) {
        client_finish(client, request,
                      (enum replikv_status)request->last.status);
        return;
    }
    request->state = ATTEMPT_PAUSED;
    client_schedule(client, request, until_ms);
}

void client_attempt(struct replikv *client, struct request *request,
                    size_t from, int64_t now_ms)
{
    size_t count = client->endpoint_count;
    for (size_t i = 0; i < count; i++) {
        struct endpoint *endpoint = &client->endpoints[(from + i) % count];
        if (endpoint->avoid_until_ms <= now_ms &&
            try_endpoint(request, endpoint, now_ms))
            return;
    }
    /* A slow node is better than none. */
    int64_t until_ms = INT64_MAX;
    bool gone = true;
    for (size_t i = 0; i < count; i++) {
        struct endpoint *endpoint = &client->endpoints[(from + i) % count];
        if (endpoint->connection != NULL && endpoint->avoid_until_ms > now_ms &&
            try_endpoint(request, endpoint, now_ms))
            return;
        if (endpoint->connection != NULL)
            gone = false;
        if (endpoint->avoid_until_ms < until_ms)
            until_ms = endpoint->avoid_until_ms;
    }
    if (request->last.status == STATUS_OK)
        error_set(&request->last, STATUS_UNAVAILABLE,
                  "%s: lately not in reach; try again in a second",
                  client->endpoints[from % count].address);
    if (gone && client->options.fail_fast) {
        client_finish(client, request,
                      (enum replikv_status)request->last.status);
        return;
    }
    if (until_ms < now_ms + PAUSE_MIN_MS)
        until_ms = now_ms + PAUSE_MIN_MS;
    client_pause(client, request, until_ms);
}

/* An endpoint that answers others is slow, not gone: sending it all again
 * elsewhere would only make it slower. Large values over a busy cluster were
 * seen to end so, each written three times and in time by none. */
static int64_t quiet_since(const struct endpoint *endpoint,
                           const struct request *request)
{
    return endpoint->heard_ms > request->sent_ms ? endpoint->heard_ms
                                                 : request->sent_ms;
}

void client_due(struct replikv *client, struct request *request, int64_t now_ms)
{
    struct endpoint *endpoint = &client->endpoints[request->endpoint];
    bool late = now_ms >= request->deadline_ms;
    if (request->state == ATTEMPT_PAUSED) {
        if (late)
            client_finish(client, request,
                          (enum replikv_status)request->last.status);
        else
            client_attempt(client, request, request->endpoint + 1, now_ms);
        return;
    }
    int64_t quiet_ms =
        quiet_since(endpoint, request) + client->options.attempt_ms;
    if (!late && request->state == ATTEMPT_SENT && quiet_ms > now_ms) {
        client_schedule(client, request,
                        quiet_ms < request->deadline_ms ? quiet_ms
                                                        : request->deadline_ms);
        return;
    }
    if (request->state == ATTEMPT_SENT)
        request->maybe_applied = true;
    error_set(&request->last, STATUS_TIMEOUT, "%s: no %s in time",
              endpoint->address,
              request->state == ATTEMPT_SENT ? "answer" : "connection");
    if (endpoint->avoid_until_ms <= now_ms)
        avoid(endpoint, now_ms + AVOID_SLOW_MS);
    if (late)
        client_finish(client, request, REPLIKV_TIMEOUT);
    else
        client_attempt(client, request, request->endpoint + 1, now_ms);
}

/* ---- what the transport tells ---- */

static void on_opened(struct connection *connection, void *user)
{
    struct endpoint *endpoint = user;
    struct replikv *client = endpoint->client;
    size_t index = (size_t)(endpoint - client->endpoints);
    client_enter(client);
    int64_t now_ms = clock_now_ms();
    endpoint->open = connection == endpoint->connection;
    struct request *next;
    for (struct request *r = client->requests; r != NULL; r = next) {
        next = r->next;
        if (r->state == ATTEMPT_QUEUED && r->endpoint == index &&
            !try_endpoint(r, endpoint, now_ms))
            client_attempt(client, r, index + 1, now_ms);
    }
    client_leave(client);
}

static void lost(struct replikv *client, struct request *request,
                 const struct error *why, int64_t now_ms)
{
    if (request->state == ATTEMPT_SENT)
        request->maybe_applied = true;
    error_set(&request->last, STATUS_UNAVAILABLE, "%s", why->text);
    client_attempt(client, request, request->endpoint + 1, now_ms);
}

static void on_closed(struct connection *connection, void *user,
                      const struct error *why)
{
    struct endpoint *endpoint = user;
    struct replikv *client = endpoint->client;
    size_t index = (size_t)(endpoint - client->endpoints);
    client_enter(client);
    int64_t now_ms = clock_now_ms();
    endpoint->connection = NULL;
    endpoint->open = false;
    endpoint->flush = false;
    endpoint_failed(endpoint, now_ms);
    struct request *next;
    for (struct request *r = client->requests; r != NULL; r = next) {
        next = r->next;
        if (r->state != ATTEMPT_PAUSED && r->endpoint == index)
            lost(client, r, why, now_ms);
    }
    client_leave(client);
    connection_release(connection);
}

/* Statuses that say something about the node that answered, not about the
 * request: another node may do better. */
bool client_may_retry(const Rkv__Result *result)
{
    switch ((int)result->status) {
    case RKV__STATUS__OK:
    case RKV__STATUS__NOT_FOUND:
    case RKV__STATUS__INVALID:
    case RKV__STATUS__TOO_LARGE:
    case RKV__STATUS__REFUSED:
    case RKV__STATUS__UNSUPPORTED:
        return false;
    default:
        return true;
    }
}

bool client_did_nothing(const Rkv__Result *result)
{
    return result->outcome == RKV__OUTCOME__NOT_APPLIED ||
           (result->outcome == RKV__OUTCOME__NONE &&
            result->status == RKV__STATUS__OVERLOADED);
}

uint32_t client_retry_after_ms(const Rkv__Result *result)
{
    return result->retry_after_ms > 0 ? result->retry_after_ms : RETRY_AFTER_MS;
}

static void refused(struct replikv *client, struct request *request,
                    const Rkv__Result *result)
{
    const struct endpoint *endpoint = &client->endpoints[request->endpoint];
    int64_t now_ms = clock_now_ms();
    enum status status = (enum status)result->status;
    error_set(&request->last, status, "%s: %s", endpoint->address,
              result->message[0] != '\0' ? result->message
                                         : status_name(status));
    if (!client_did_nothing(result))
        request->maybe_applied = true;
    request->result.retry_after_ms = result->retry_after_ms;
    request->result.need = result->need;
    /* Of the attempt that came the furthest. */
    if (result->got > request->result.got)
        request->result.got = result->got;
    request->result.epoch = result->epoch;
    if (status == STATUS_OVERLOADED)
        client_pause(client, request, now_ms + client_retry_after_ms(result));
    else if (++request->refusals < client->endpoint_count)
        client_attempt(client, request, request->endpoint + 1, now_ms);
    else
        client_finish(client, request, (enum replikv_status)status);
}

/* A write's OK without APPLIED, or the answer to another question. */
bool client_is_sensible(bool is_write, int reply_case, int body_case,
                        const Rkv__Result *result)
{
    if (body_case == RKV__ENVELOPE__BODY_RESULT)
        return result->status != RKV__STATUS__OK;
    if (body_case != reply_case)
        return false;
    return !is_write || result->status != RKV__STATUS__OK ||
           result->outcome == RKV__OUTCOME__APPLIED;
}

/* An answer to something given up is dropped; one to an earlier attempt counts
 * if it settles the matter. False for what no node would send. */
static bool heard(struct endpoint *endpoint, uint32_t id,
                  const Rkv__Envelope *envelope, struct arena *arena)
{
    struct replikv *client = endpoint->client;
    const Rkv__Result *result = client_result_of(envelope);
    struct request *request = client->table[id & client->mask];
    bool is_batch = envelope->body_case == RKV__ENVELOPE__BODY_BATCH_REPLY;
    if (result == NULL && !is_batch)
        return false;
    endpoint->failures = 0;
    endpoint->heard_ms = clock_now_ms();
    if (request == NULL || request->id != id)
        return true;
    size_t index = (size_t)(endpoint - client->endpoints);
    bool current = request->state == ATTEMPT_SENT && request->endpoint == index;
    if (is_batch)
        return request->batch != NULL &&
               client_batch_heard(client, request, current,
                                  envelope->batch_reply, arena);
    if (!client_is_sensible(request->is_write, (int)request->reply_case,
                            (int)envelope->body_case, result))
        return false;
    if (!client_may_retry(result)) {
        arena_adopt(&request->arena, arena);
        request->answer = envelope;
        client_finish(client, request, (enum replikv_status)result->status);
    } else if (current) {
        refused(client, request, result);
    }
    return true;
}

/* False if any is not what a node would send. */
static bool hear(struct endpoint *endpoint, const struct frame *frames,
                 size_t count)
{
    struct arena arenas[FRAMES_AT_ONCE];
    const Rkv__Envelope *envelopes[FRAMES_AT_ONCE];
    bool sensible = true;
    for (size_t i = 0; i < count; i++) {
        /* Twice: the public structs are made in it as well. */
        arena_init(&arenas[i], 2 * envelope_budget(frames[i].payload.size));
        envelopes[i] = envelope_unpack(frames[i].payload, &arenas[i], NULL);
    }
    client_enter(endpoint->client);
    for (size_t i = 0; i < count && sensible; i++)
        sensible = envelopes[i] != NULL &&
                   heard(endpoint, frames[i].id, envelopes[i], &arenas[i]);
    client_leave_calling(endpoint->client);
    for (size_t i = 0; i < count; i++)
        arena_fini(&arenas[i]);
    return sensible;
}

static void on_frames(struct connection *connection, void *user,
                      const struct frame *frames, size_t count)
{
    while (count > 0) {
        size_t some = count < FRAMES_AT_ONCE ? count : FRAMES_AT_ONCE;
        if (!hear(user, frames, some)) {
            /* What is behind it cannot be trusted either. */
            connection_close(connection);
            return;
        }
        frames += some;
        count -= some;
    }
}

const struct transport_handlers client_transport_handlers = {
    .opened = on_opened, .frames = on_frames, .closed = on_closed};
