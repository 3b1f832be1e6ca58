/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_MOVES_H
#define REPLIKV_PROXY_CORE_MOVES_H

#include "gossip/placement.h"
#include "proto/outbox.h"
#include "proxy/core/storage_op.h"

/* How a node leaves (gossip/placement.h says in which steps): what was decreed
 * spreads, each member stores it and then goes by it, and once all have and
 * those who take over have read what was there, the next step is decreed.
 *
 * Every member tells every other what it has on its disk, all decrees from the
 * first on, often while a node leaves and now and then otherwise. Who is behind
 * takes over what it lacks. The first member that the others reach proposes the
 * next step; should two think that they are, agree.h has it. */

struct node;
struct effects;

enum moves_stage { MOVES_IDLE, MOVES_MISSING, MOVES_TOPOLOGY };

/* What a member last said. */
struct mover {
    uint64_t epoch; /* 0: nothing since our start */
    uint32_t filling;
    uint64_t kept;
};

struct moves {
    struct mover movers[NODES_MAX]; /* by topology index */
    /* On its way to the disk, what is missing with it before it. */
    struct topology next;
    enum moves_stage stage;
    int64_t next_ms;
    uint64_t serial, told_serial;
};

void moves_fini(struct node *node);
/* The member has another disk than the one that it spoke of. */
void moves_forget(struct node *node, struct node_id member);
void moves_tick(struct node *node, struct effects *effects);
/* The member is there, or has named an epoch that is not known here. */
void moves_tell(struct node *node, struct node_id member,
                struct effects *effects);
/* All members, but one that is lost, have this epoch on their disks. */
bool moves_all_confirmed(const struct node *node);
/* What follows our epoch is decided. */
void moves_decided(struct node *node, const struct decree *decree,
                   struct effects *effects);
void moves_serve(struct node *node, struct reply_token token,
                 struct node_id from, const Rkv__Topology *told,
                 struct effects *effects);
void moves_reply(struct node *node, struct node_id from,
                 const Rkv__Envelope *reply, struct effects *effects);
void moves_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects);
/* At the start: what was stored. False: it cannot be. */
bool moves_found(struct node *node, struct bytes stored) MUST_CHECK;
/* One that has left does not start. */
void moves_found_all(const struct node *node, struct effects *effects);
/* leave.c: what a client asked for is decreed, and makes that epoch. */
void leave_decreed(struct node *node, struct reply_token token, uint64_t epoch,
                   struct effects *effects);
/* A client asks for a leave, or what it would be. */
void leave_request(struct node *node, struct reply_token token,
                   const Rkv__Admin *admin, struct effects *effects);
/* The move that is open, for status; NULL: none is, or memory was short. */
Rkv__Move *moves_to_wire(const struct node *node, struct arena *arena);
/* Whether the next step waits for that member of the topology, and for what. */
bool moves_waits_for(const struct node *node, size_t at, char *line,
                     size_t size);

Rkv__Decree *decree_to_wire(const struct decree *decree, struct arena *arena);
/* False: it is none. */
bool decree_from_wire(const Rkv__Decree *wire, struct decree *decree);

#endif
