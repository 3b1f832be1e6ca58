/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_CLIENT_INTERNAL_H
#define REPLIKV_PROTO_CLIENT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "proto/batch.h"
#include "proto/clock.h"
#include "proto/envelope.h"
#include "proto/ids.h"
#include "proto/replikv.h"
#include "proto/transport.h"

/* The inside of libreplikv. client.c: the public functions and the timer
 * thread. client_request.c: a request's message. client_attempt.c: which
 * endpoint a request goes to, and what an answer means for it.
 * client_batch.c: the requests of a batch, each on its own.
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

/* One request of a batch. It ends when an answer settles it, or with the
 * batch. */
struct item {
    size_t offset, size; /* of its part in packed */
    bool is_write;
    bool ended;
    bool maybe_applied;
    uint32_t refusals;
    /* The last answer, to an attempt of the batch; in the request's arena. */
    const Rkv__BatchItemReply *answer;
    uint32_t answered; /* its attempt */
};

struct batch {
    size_t count;
    size_t waiting; /* items that have not ended: the message has these */
    struct replikv_result *results;
    struct item items[];
};

struct request {
    struct replikv_result result; /* first: the user's pointer is ours */
    struct request *previous, *next;
    /* Of the frame; the same in every attempt, unless some of a batch ended:
     * an answer to an attempt with more requests is not taken for one with
     * fewer. */
    uint32_t id;
    uint32_t weight; /* among those in flight: requests */
    enum attempt_state state;
    size_t endpoint;
    uint32_t refusals; /* answers that another endpoint may not give */
    int64_t deadline_ms, due_ms, sent_ms;
    bool is_write;
    bool maybe_applied; /* an attempt left and its answer is not known */
    Rkv__Envelope__BodyCase reply_case;
    struct buffer packed;
    struct bytes payload; /* within packed */
    struct batch *batch;  /* NULL: it is none */
    struct error last;    /* why the last attempt failed; result.message */
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
    struct request *finished, **finished_end; /* for client_leave */
};

enum { ID_TOP_BIT = 1u << 31 };

/* client_request.c: the message is packed and named, and too large ones are
 * refused. */
enum status request_new(const struct replikv *client,
                        const struct replikv_request *from,
                        struct request **out, struct error *error) MUST_CHECK;
void request_free(struct request *request);
/* Whether there is a write in it. */
bool client_is_write(const struct replikv_request *from);
/* The messages of one request; they borrow from it, and from id. */
Rkv__Write client_write_of(const struct replikv_request *from,
                           uint32_t timeout_ms, const uint8_t *id);
Rkv__Read client_read_of(const struct replikv_request *from,
                         uint32_t timeout_ms);
/* Names of writes, random: those of a batch are drawn some at a time, as each
 * draw is a system call. */
struct names {
    size_t wanted; /* of the names still to be drawn, at most */
    size_t left;
    uint8_t drawn[16][REPLIKV_REQUEST_ID_BYTES];
};
enum status client_name(struct names *names, const struct replikv_request *from,
                        uint8_t *id) MUST_CHECK;

void client_enter(struct replikv *client);
/* Unlock, flush what was sent, call back for what ended. */
void client_leave(struct replikv *client);
/* The same on a thread that replikv_close waits for: what the callbacks start
 * is flushed when all have been called. */
void client_leave_calling(struct replikv *client);

/* The rest is called between the two. */

/* See to it that the timer looks at the request then. */
void client_schedule(struct replikv *client, struct request *request,
                     int64_t due_ms);
/* Give it an id that no other has, and put it in the table. */
void client_number(struct replikv *client, struct request *request);
/* Take the request out; the callback follows. */
void client_finish(struct replikv *client, struct request *request,
                   enum replikv_status status);
/* What a write is known to have become. said: the last answer, or NULL. */
enum replikv_outcome client_outcome(bool is_write, const Rkv__Result *said,
                                    bool maybe_applied);

/* client_attempt.c */
/* Send it to the first fit endpoint from `from` on, pause, or finish. */
void client_attempt(struct replikv *client, struct request *request,
                    size_t from, int64_t now_ms);
/* Try again then, or finish where that is past the deadline. */
void client_pause(struct replikv *client, struct request *request,
                  int64_t until_ms);
/* due_ms came. */
void client_due(struct replikv *client, struct request *request,
                int64_t now_ms);
/* Of an answer: whether another node may do better; whether nothing was
 * attempted; whether a node would give it to a request that is answered by
 * reply_case. Cases are the numbers of fields. */
bool client_may_retry(const Rkv__Result *result);
bool client_did_nothing(const Rkv__Result *result);
bool client_is_sensible(bool is_write, int reply_case, int body_case,
                        const Rkv__Result *result);
/* How long to wait when a node is overloaded. */
uint32_t client_retry_after_ms(const Rkv__Result *result);
extern const struct transport_handlers client_transport_handlers;

/* client_batch.c */
enum status client_batch_pack(const struct replikv_request *from,
                              uint32_t timeout_ms, struct request *request,
                              struct error *error) MUST_CHECK;
void client_batch_free(struct batch *batch);
/* current: it answers the last attempt. Takes over arena if it takes the
 * reply. False for what no node would send. */
bool client_batch_heard(struct replikv *client, struct request *request,
                        bool current, const Rkv__BatchReply *reply,
                        struct arena *arena) MUST_CHECK;
/* The batch ends, and what has not ended of it. */
void client_batch_end(struct request *request);

/* client_result.c: fill in result from answer. Without the lock. */
void client_result_fill(struct request *request);
/* The result inside of a reply, NULL when it has none. */
const Rkv__Result *client_result_of(const Rkv__Envelope *envelope);
const Rkv__Result *client_item_result_of(const Rkv__BatchItemReply *reply);

#endif
