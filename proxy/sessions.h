/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_SESSIONS_H
#define REPLIKV_PROXY_SESSIONS_H

#include "proto/envelope.h"
#include "proto/outbox.h"
#include "proto/transport.h"

/* Accepted connections, and the way back to them.
 *
 *   client:  OPEN
 *   peer:    GREETING --> OPEN       its Hello was accepted
 *               +-------> REFUSED    answered why, closed once that has left
 *
 * A reply token names a session's slot, its generation and the frame's id, so
 * that nothing is kept for a request: a reply whose session is gone finds
 * another generation and is dropped.
 *
 * Everything here is called under the server's lock, but for the handlers. */

struct server;
struct turn;

enum session_kind { SESSION_CLIENT, SESSION_PEER };
enum session_state { SESSION_GREETING, SESSION_OPEN, SESSION_REFUSED };

/* The hops of a request that came through nng devices. */
struct route {
    struct route *next;
    uint32_t id;
    size_t size;
    uint8_t hops[64];
};

struct session {
    struct server *server;
    enum session_kind kind;
    enum session_state state;
    struct connection *connection; /* NULL: what a listener accepts with */
    struct node_id node;           /* of a peer, once it said so */
    uint32_t lane;                 /* likewise */
    int64_t since_ms;
    size_t queued_bytes; /* what waited to be sent at the last tick */
    int64_t moved_ms;    /* when it was less than the tick before, or nothing */
    uint32_t slot, generation;
    struct route *routes;
    size_t route_count;
};

struct sessions {
    struct session acceptors[2]; /* by kind: what listeners begin with */
    struct session_slot {
        struct session *session;
        uint32_t generation;
    } * slots;
    size_t count, capacity;
};

extern const struct transport_handlers session_handlers[]; /* by kind */

void sessions_init(struct sessions *sessions, struct server *server);
/* After the transports are closed. */
void sessions_fini(struct sessions *sessions);

/* Send the envelope to whoever asked; count it if that cannot be. */
void sessions_reply(struct server *server, struct turn *turn,
                    struct reply_token token, const Rkv__Envelope *envelope);
/* The same for one that is packed, the answer to the frame with this id. */
void sessions_send(struct server *server, struct turn *turn,
                   struct session *session, uint32_t id, struct bytes payload);
/* Whom to reply to a frame of the session. */
struct reply_token sessions_token(const struct session *session, uint32_t id);
/* Close those that were refused, that never say who they are, or for whom what
 * waits to be sent has not become less for lane_timeout_ms. */
void sessions_tick(struct server *server, int64_t now_ms);
/* Bytes that have not left. */
size_t sessions_queued(const struct server *server);

#endif
