/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_EVENT_H
#define REPLIKV_PROXY_CORE_EVENT_H

#include "proto/bytes.h"
#include "proto/outbox.h"
#include "proxy/core/storage_op.h"

/* What happens to a node, and what it does about it.
 *
 * Events are borrowed for the length of the step. Effects may point into the
 * event and into the effects' arena: the edge applies them, or copies, before
 * it lets go of either. */

enum event_kind {
    EVENT_TICK,           /* time passed */
    EVENT_CLIENT_REQUEST, /* on listen.client */
    EVENT_PEER_REQUEST,   /* from a node whose Hello was accepted */
    EVENT_HELLO,          /* first on an accepted peer connection */
    EVENT_HELLO_REPLY,    /* to our Hello; the edge asks, the core judges */
    EVENT_REPLY,          /* to a request of ours */
    EVENT_NO_REPLY,       /* none will come: the session ended or never began */
    EVENT_PREPARED,       /* storage: a coordinated write has its record */
    EVENT_STORED,         /* storage: an operation ended */
    EVENT_REOPENED,       /* the engine failed and is open again */
    EVENT_LEAVE,          /* we stop: the others are told; more may follow */
};

struct event {
    enum event_kind kind;
    int64_t now_us;               /* monotonic */
    int64_t wall_ms;              /* Unix time */
    struct node_id from;          /* PEER_REQUEST, REPLY, NO_REPLY */
    struct reply_token token;     /* requests, HELLO */
    const Rkv__Envelope *message; /* requests, replies */
    /* The message as it came, or empty: not for the node, but for the recorder
     * (proxy/recorder.h), which packs it otherwise. */
    struct bytes packed;
    /* REPLY, NO_REPLY. One number may have gone to several nodes; each is
     * heard of once, so `from` tells them apart. */
    uint64_t request;
    const struct storage_result *storage; /* PREPARED, STORED */
};

struct effects {
    struct arena arena;
    struct outbox out;
    struct storage_op *storage; /* in the arena */
    size_t storage_count, storage_capacity;
    /* The arena's refusals before this step. */
    size_t refused_before;
    /* Draw a new incarnation: our copies may lag behind what we told others. */
    bool renew_incarnation;
    /* HELLO_REPLY: the node at the other end may not be talked to. Close the
     * connection; what was asked on it gets no reply. */
    bool hang_up;
    /* The node cannot go on (its disk is refused, its name is taken): stop
     * with this sentence. In the arena; NULL otherwise. */
    const char *halt;
    /* One line for the log, key=value, or NULL. */
    const char *log;
};

/* What one step did, in short: equal steps do the same. */
struct step_outcome {
    uint16_t messages, operations; /* at most UINT16_MAX of each */
    uint32_t sum; /* over what they are, but not their content */
};

void effects_init(struct effects *effects, size_t budget_bytes);
void effects_fini(struct effects *effects);
/* Empty, ready for the next step. */
void effects_reset(struct effects *effects);
/* Append; op is copied, what it points to is not. False once the budget is
 * spent: the operation will not run, and the machine must answer for it. */
bool effects_storage(struct effects *effects, const struct storage_op *op);
/* Store the TABLE_META entry, a string that lives for ever, synced. False as
 * above. */
bool effects_meta(struct effects *effects, const char *name, uint64_t token,
                  struct bytes value);
/* Of the step that appended what is behind so many messages and operations. */
struct step_outcome effects_outcome(const struct effects *effects,
                                    size_t messages, size_t operations);

#endif
