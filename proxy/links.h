/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_LINKS_H
#define REPLIKV_PROXY_LINKS_H

#include "gossip/placement.h"
#include "proto/envelope.h"
#include "proto/outbox.h"
#include "proto/transport.h"

/* Connections to other nodes: one a lane, dialled when there is something to
 * say, and one an address of a node that is not known yet.
 *
 *            a request            HelloReply accepted
 *   DOWN ------------> GREETING ---------------------> UP
 *    ^                    |                            |
 *    +---- closed: refused, failed, silent, hung up ---+
 *
 * Hello goes first and requests right behind it: the lane is in order, so the
 * other side has judged us before it reads them. Replies count only once its
 * own Hello has shown that it is the node we meant. When a connection ends,
 * whatever still waits on it is told that no reply will come.
 *
 * Everything here is called under the server's lock, but for the handlers. */

struct server;
struct turn;

enum link_state { LINK_DOWN, LINK_GREETING, LINK_UP, LINK_CLOSING };

struct link_pending {
    uint64_t request;    /* 0: free */
    uint32_t generation; /* of the slot, 14 bits, in the frame's id */
    uint32_t next_free;  /* index + 1 */
};

struct link {
    struct link *next; /* in its bucket */
    struct server *server;
    struct node_id node; /* zero: an address whose node is not known yet */
    const char *address; /* of a seed; NULL: the node's own */
    enum lane lane;
    enum link_state state;
    struct connection *connection;
    uint32_t hello_id;
    int64_t retry_at_ms; /* not dialled before */
    uint32_t backoff_ms;
    int64_t heard_ms; /* a sign of life, or the first request after none */
    struct link_pending *pending;
    size_t pending_count, pending_capacity;
    uint32_t free_pending; /* index + 1, 0: none */
};

enum { LINK_BUCKETS = 256 };

struct links {
    struct link *buckets[LINK_BUCKETS];
    /* What was packed last: a write goes to all replicas in the same words. */
    struct buffer packed;
    const Rkv__Envelope *packed_of; /* NULL: nothing */
    uint64_t sessions;              /* dialled so far */
};

extern const struct transport_handlers link_handlers;

/* Send a request, or tell the node soon that no reply will come. */
void links_send(struct server *server, struct turn *turn,
                const struct message_out *message);
/* The envelopes of the requests since are about to go. */
void links_forget(struct links *links);
/* The node is there: what waits to be dialled again is, when next needed. */
void links_wake(struct links *links, struct node_id node);
/* A new connection's lane, dialled or said by its Hello. No disk that holds up
 * a loop holds up what says that this node lives, and nothing bulky what people
 * wait for. In one of its callbacks. */
void links_take_lane(struct connection *connection, uint32_t lane);
/* Close lanes that are silent with requests outstanding. */
void links_tick(struct server *server, int64_t now_ms);
/* Bytes that have not left, of lanes that are up. */
size_t links_queued(const struct server *server);
/* After the transports are closed. */
void links_fini(struct links *links);

#endif
