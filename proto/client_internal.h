/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_CLIENT_INTERNAL_H
#define REPLIKV_PROTO_CLIENT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "proto/clock.h"
#include "proto/envelope.h"
#include "proto/ids.h"
#include "proto/replikv.h"
#include "proto/transport.h"

/* The inside of libreplikv. client.c: the public functions and the timer
 * thread. client_request.c: a request's message. client_attempt.c: which
 * endpoint a request goes to, and what an answer means for it.
 * client_result.c: from messages to public structs.
 *
 * One lock guards all of a client. Whoever holds it may only collect what has
 * to happen without it, requests that ended and connections to flush, and
 * client_leave does that. The transport's locks are taken inside it. */

enum attempt_state {
    ATTEMPT_QUEUED, /* for the endpoint's connection to open */
    ATTEMPT_SENT,
    ATTEMPT_PAUSED, /* until due_ms */
};

struct request {
    struct replikv_result result; /* first: the user's pointer is ours */
    struct request *previous, *next;
    uint32_t id; /* of the frame; the same in every attempt */
    enum attempt_state state;
    size_t endpoint;
    uint32_t refusals; /* answers that another endpoint may not give */
    uint32_t losses;   /* of its connection, if it may be the reason */
    int64_t deadline_ms, due_ms, sent_ms;
    bool is_write;
    bool maybe_applied; /* an attempt left and its answer is not known */
    Rkv__Envelope__BodyCase reply_case;
    struct buffer packed;
    struct error last; /* why the last attempt failed; result.message */
    /* The answer, once there is one; it lives in the arena. */
    struct arena arena;
    const Rkv__Envelope *answer;
    replikv_callback *callback;
    void *user;
};

struct endpoint {
    struct replikv *client;
    char address[ADDRESS_MAX];
    struct connection *connection; /* a reference, NULL when there is none */
    bool open;
    bool flush; /* frames were appended */
    uint32_t failures;
    int64_t avoid_until_ms;
    int64_t heard_ms; /* any answer */
};

struct replikv {
    struct replikv_options options; /* without the endpoints */
    struct endpoint endpoints[REPLIKV_ENDPOINTS_MAX];
    size_t endpoint_count;
    size_t preferred;
    struct transport *transport;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* wake_at_ms moved, or stopping */
    pthread_t timer;
    bool stopping;
    int64_t wake_at_ms;

    struct request *requests; /* under way */
    size_t inflight, inflight_bytes;
    /* By id & mask. At least twice as large as inflight_max, and ids are
     * counted up past taken places, so that one place is one request. */
    struct request **table;
    uint32_t mask, next_id;
    struct request *finished; /* for client_leave */
};

enum { ID_TOP_BIT = 1u << 31 };

/* client_request.c: the message is packed and named, and too large ones are
 * refused. */
enum status request_new(const struct replikv *client,
                        const struct replikv_request *from,
                        struct request **out, struct error *error) MUST_CHECK;
void request_free(struct request *request);

void client_enter(struct replikv *client);
/* Unlock, flush what was sent, call back for what ended. */
void client_leave(struct replikv *client);

/* The rest is called between the two. */

/* See to it that the timer looks at the request then. */
void client_schedule(struct replikv *client, struct request *request,
                     int64_t due_ms);
/* Take the request out; the callback follows. */
void client_finish(struct replikv *client, struct request *request,
                   enum replikv_status status);

/* client_attempt.c */
/* Send it to the first fit endpoint from `from` on, pause, or finish. */
void client_attempt(struct replikv *client, struct request *request,
                    size_t from, int64_t now_ms);
/* due_ms came. */
void client_due(struct replikv *client, struct request *request,
                int64_t now_ms);
extern const struct transport_handlers client_transport_handlers;

/* client_result.c: fill in result from answer. Without the lock. */
void client_result_fill(struct request *request);
/* The result inside of a reply, NULL when it has none. */
const Rkv__Result *client_result_of(const Rkv__Envelope *envelope);

#endif
