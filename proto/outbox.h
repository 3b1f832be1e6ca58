/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_OUTBOX_H
#define REPLIKV_PROTO_OUTBOX_H

#include "proto/envelope.h"
#include "proto/ids.h"

/* What a pure machine wants said: requests to other nodes and replies to
 * requests it was given, in the order in which they are to go out.
 *
 * Messages and their parts live in the outbox's arena, or in the event that
 * caused them: so the edge packs what is in the outbox before it lets go of
 * the event. Nothing here sends; proxy/ does over a network, tests/sim over its
 * simulated network. */

/* Between two nodes each lane is a connection of its own, in order within a
 * session, so that bulk traffic cannot make a healthy node look dead. */
enum lane { LANE_CONTROL, LANE_FOREGROUND, LANE_BULK, LANE_COUNT };

/* Where a reply goes. Given by the edge with each request, opaque to the
 * machines; 0 is nowhere. Every request is replied to exactly once; the edge
 * drops a reply whose connection is gone. */
struct reply_token {
    uint64_t value;
};

struct message_out {
    enum { MESSAGE_REQUEST, MESSAGE_REPLY } kind;
    /* Of a request: the node, or, when id is zero, the address to dial (a
     * seed, whose id is not known yet; lives as long as the machine). */
    struct node_id to;
    const char *address;
    enum lane lane;
    /* Of a request: the sender's own number, which comes back with the reply
     * or with the news that none will come. Never 0. The top byte says which
     * machine of the node it belongs to (enum request_owner). */
    uint64_t request;
    /* Of a reply: whom it answers. */
    struct reply_token token;
    const Rkv__Envelope *envelope;
};

/* The top byte of a request's number. */
enum request_owner {
    OWNER_MEMBERSHIP = 1,
    OWNER_BROADCAST,
    OWNER_WRITE,
    OWNER_FORWARD, /* a Write; apart from the Stores of the same write */
    OWNER_READ,
    OWNER_HANDOFF,
    OWNER_FILL,
    OWNER_RELAY,
    OWNER_EXPLAIN,
    OWNER_START,
    OWNER_META,
    /* Storage operations whose result is the reply to a peer or a client. */
    OWNER_SERVE_STORE,
    OWNER_SERVE_FETCH,
    OWNER_SERVE_SCAN,
    OWNER_SERVE_LIST,
    OWNER_SERVE_DIGEST,
    OWNER_SERVE_HANDOFF,
    OWNER_HINT,
    OWNER_TREES,
    OWNER_EXCHANGE,
    OWNER_COLLECT,
    OWNER_DRAIN,
    OWNER_CLOCK,
    OWNER_AGREE,
    OWNER_MOVES,
};

static inline uint64_t request_serial(uint64_t request)
{
    return request & UINT64_C(0xffffffffffffff);
}

static inline uint64_t request_number(enum request_owner owner, uint64_t serial)
{
    return (uint64_t)owner << 56 | request_serial(serial);
}

static inline enum request_owner request_owner_of(uint64_t request)
{
    return (enum request_owner)(request >> 56);
}

/* Zeroed memory is not an outbox; outbox_init gives it its arena. The list is
 * in the arena too, beside its budget, and grows. */
struct outbox {
    struct arena *arena;
    struct message_out *messages;
    size_t count;
    size_t capacity;
    /* Messages that did not fit the arena's budget. A request is not sent: to
     * the machine that is a lost message, which it must survive anyway. In
     * place of a reply goes one that takes no memory: a bare result,
     * OVERLOADED, outcome unknown. */
    uint64_t dropped;
};

void outbox_init(struct outbox *outbox, struct arena *arena);
/* A NULL envelope is one that the arena had no room for: it is counted. */
void outbox_request(struct outbox *outbox, struct node_id to, enum lane lane,
                    uint64_t request, const Rkv__Envelope *envelope);
void outbox_request_address(struct outbox *outbox, const char *address,
                            enum lane lane, uint64_t request,
                            const Rkv__Envelope *envelope);
void outbox_reply(struct outbox *outbox, struct reply_token token,
                  const Rkv__Envelope *envelope);

#endif
