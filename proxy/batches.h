/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_BATCHES_H
#define REPLIKV_PROXY_BATCHES_H

#include "proto/batch.h"
#include "proto/envelope.h"
#include "proto/outbox.h"

/* Batches: many requests of a client in one frame.
 *
 * The node knows nothing of them. It is given their requests one by one, each
 * with a token of its own, and what it answers is packed and kept here, until
 * the last has come and all leave in one frame.
 *
 *     OPEN ----- the last reply ------> sent and freed
 *       +------- the session ended ---> freed; replies that still come find
 *                                       another generation and are dropped
 *
 * Bounds. Each request counts on its own among those that the node has in
 * flight, and is told overloaded on its own. What waits here is bounded by
 * limits.inflight_max, twice, of requests, answered ones included (as many
 * writes and as many reads can be in flight), one batch aside; and by
 * limits.inflight_bytes_max of replies beyond a few hundred bytes each. A
 * reply that does not fit that, or the frame, is told so in a short one.
 *
 * Called under the server's lock. */

struct server;
struct session;
struct turn;
struct client_batch;

struct batches {
    struct batch_slot {
        struct client_batch *batch; /* NULL: free */
        uint32_t generation;
        uint32_t next_free;
    } * slots;
    uint32_t count, capacity, free; /* free: the first, or count */
    size_t requests;                /* of all that are open */
    size_t bytes;                   /* of the replies that wait */
};

/* Let the node have the requests. The message lives in the turn, which may let
 * go of the lock meanwhile. */
void batches_request(struct server *server, struct turn *turn,
                     struct session *session, uint32_t id,
                     const Rkv__Envelope *message);
/* Whether the token is of a batch's request. */
bool batches_is_token(struct reply_token token);
void batches_reply(struct server *server, struct turn *turn,
                   struct reply_token token, const Rkv__Envelope *envelope);
/* The session ends: nobody waits for its batches. */
void batches_forget(struct server *server, const struct session *session);
/* After all sessions ended. */
void batches_fini(struct batches *batches);

#endif
