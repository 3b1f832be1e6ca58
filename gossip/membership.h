/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_GOSSIP_MEMBERSHIP_H
#define REPLIKV_GOSSIP_MEMBERSHIP_H

#include "gossip/broadcast.h"
#include "gossip/disk_starts.h"
#include "gossip/placement.h"
#include "proto/ids.h"
#include "proto/outbox.h"

/* Who is there: SWIM (Das, Gupta, Motivala 2002) with Lifeguard (Dadgar,
 * Phillips, Currey 2018), in memberlist's words.
 *
 *              no ack, no indirect ack          suspicion time passed
 *    ALIVE --------------------------> SUSPECT -----------------------> DEAD
 *      ^  ^                               |                              |
 *      |  +--- refuted: higher incarnation+                              |
 *      +------ alive with a higher incarnation --------------------------+
 *    LEFT: said by the node itself; comes back with a higher incarnation.
 *
 * Its opinion is soft and local: it orders preferences and starts hand-off,
 * it never changes who owns a partition and is never counted as an answer.
 *
 * Also remembers, for every node, the largest boot number, the run that showed
 * it and the store id, so that an older or emptied disk is recognised: one that
 * was copied before the last start counts up to the same boot, in another run.
 *
 * Pure: time arrives with each call (ms, monotonic), randomness is seeded,
 * messages leave through an outbox. Not thread-safe. */

enum member_state { MEMBER_ALIVE, MEMBER_SUSPECT, MEMBER_DEAD, MEMBER_LEFT };
const char *member_state_name(enum member_state state);

struct member {
    struct node_id id;
    char name[NODE_NAME_MAX + 1];
    char zone[ZONE_NAME_MAX + 1];
    char peer_address[ADDRESS_MAX + 1];
    char client_address[ADDRESS_MAX + 1];
    uint32_t incarnation;
    enum member_state state;
    int64_t since_ms; /* when we came to hold this state */
    uint64_t boot;
    uint64_t run; /* of the process, random; 0: not told */
    struct store_id store;
    uint32_t version_min, version_max;
};

struct membership_config {
    uint32_t probe_interval_ms;     /* 1000: shorter finds failures sooner */
    uint32_t probe_timeout_ms;      /* 500: then indirect probes */
    uint32_t indirect_probes;       /* 3 */
    uint32_t suspicion_mult;        /* 4: times log(n) probe intervals */
    uint32_t gossip_interval_ms;    /* 200 */
    uint32_t gossip_fanout;         /* 3 */
    uint32_t push_pull_interval_ms; /* 30000 */
    uint32_t retransmit_mult;       /* 4 */
    uint32_t awareness_max;         /* 8: Lifeguard's local health */
    uint32_t join_interval_ms;      /* 1000: how often seeds are tried */
};
struct membership_config membership_config_default(void);

struct membership;

/* self is copied; it starts ALIVE. seeds are addresses, copied; our own among
 * them is skipped. seed makes all randomness. */
struct membership *membership_new(const struct membership_config *config,
                                  const struct member *self,
                                  const char *const *seeds, size_t seed_count,
                                  uint64_t seed);
void membership_free(struct membership *membership);

/* Time passed: probe, time out, suspect, gossip, push/pull, join. */
void membership_tick(struct membership *membership, int64_t now_ms,
                     struct outbox *out);
/* A Ping, PingReq, PushPull or Gossip from a node whose Hello was accepted. */
void membership_request(struct membership *membership, int64_t now_ms,
                        struct node_id from, struct reply_token token,
                        const Rkv__Envelope *request, struct outbox *out);
/* The answer to a request of ours (OWNER_MEMBERSHIP), or, with reply NULL,
 * that none will come. Unknown numbers are late answers, ignored. */
void membership_reply(struct membership *membership, int64_t now_ms,
                      uint64_t request, const Rkv__Envelope *reply,
                      struct outbox *out);
/* A Hello was accepted: the node is there, with this boot and store. */
void membership_met(struct membership *membership, int64_t now_ms,
                    const struct member *who);
/* Say that we go; the rest learn by rumour. */
void membership_leave(struct membership *membership, int64_t now_ms,
                      struct outbox *out);

/* Our disk was replaced and the others remember more starts of the old one: we
 * count on from there. Told to the rest with a higher incarnation. */
void membership_raise_boot(struct membership *membership, uint64_t boot);

/* Whether an operator has set a disk in another's place: at this start, or at
 * an earlier one, which the disk remembers. */
enum replaced { REPLACED_NEVER, REPLACED_BEFORE, REPLACED_NOW };

/* What a Hello says of the disk, beside who the node is. */
struct disk_claim {
    enum replaced replaced;
    struct disk_starts starts; /* this one, too */
};

/* Whether a Hello shows a disk that we know to be older or emptied, or a name
 * that another living node holds: REFUSED with a sentence that says what to
 * do. That the old disk is replaced now is believed unless the name's holder
 * is alive at another address. That it was before, only with a boot above the
 * old one's, as a copy of a disk that was itself replaced says so too. */
enum status membership_check(const struct membership *membership,
                             const struct member *newcomer,
                             const struct disk_claim *claim,
                             struct error *error) MUST_CHECK;

size_t membership_count(const struct membership *membership);
/* By index, in no special order; self is among them. Valid until the next
 * call that takes membership without const. */
const struct member *membership_at(const struct membership *membership,
                                   size_t index);
const struct member *membership_find(const struct membership *membership,
                                     struct node_id id);
const struct member *membership_self(const struct membership *membership);
/* ALIVE or SUSPECT: worth asking. */
bool membership_is_reachable(const struct membership *membership,
                             struct node_id id);
/* DEAD or LEFT, as was found since our start: not worth asking. One that is
 * only remembered may be there, and so may one that nobody has heard of. */
bool membership_is_gone(const struct membership *membership, struct node_id id);

/* Changes since the last call, so that the node can start hand-off when a
 * target returns and store the table when a boot number rises. Returns false
 * when there is none left. */
struct member_change {
    struct node_id id;
    enum member_state from, to;
    bool identity_changed; /* boot, store or address: worth storing */
};
bool membership_next_change(struct membership *membership,
                            struct member_change *change);

/* Restore what was stored about a node (state becomes DEAD until heard of). */
void membership_remember(struct membership *membership,
                         const struct member *member);

/* The generic broadcast that rides on our messages. Topic "member" is ours. */
struct broadcast *membership_broadcast(struct membership *membership);
/* Rumours of other topics, heard since the last call; NULL when none is left.
 * Valid until the next call. */
const Rkv__Rumour *membership_next_rumour(struct membership *membership);

struct membership_counters {
    uint64_t probes, probe_failures, indirect_probes, suspicions, refutations,
        deaths, false_deaths, push_pulls, rumours_heard;
};
const struct membership_counters *
membership_counters(const struct membership *membership);

/* Members in wire form, for push/pull and the admin service. */
Rkv__Member *member_to_wire(const struct member *member, struct arena *arena);
/* INVALID with a sentence that names the field. */
enum status member_from_wire(const Rkv__Member *wire, struct member *member,
                             struct error *error) MUST_CHECK;

#endif
