/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_GOSSIP_MEMBERSHIP_INTERNAL_H
#define REPLIKV_GOSSIP_MEMBERSHIP_INTERNAL_H

#include "gossip/membership.h"

/* What the files of membership share. Who does what:
 *
 *   membership.c         the object, its queries, and tick
 *   membership_table.c   what is believed of whom, suspicion, refutation
 *   membership_probe.c   ping, indirect ping, local health
 *   membership_gossip.c  rumours, push/pull, joining, leaving
 *   membership_wire.c    members in wire form
 */

enum {
    /* Who else suspects: more confirmations than this do not shorten a
     * suspicion further, so they are not kept. */
    ACCUSERS_MAX = 8,
    INDIRECT_MAX = 16,
    RELAYS_MAX = 64,
    EXCHANGES_MAX = 32,
    /* Rumours of other topics that wait for membership_next_rumour. */
    INBOX_MAX = 1024,
    SCRATCH_BYTES = 64 * 1024,
    /* Far above what refuting could ever reach; a claim beyond it is a lie or
     * a flipped bit and would leave no room to refute. */
    INCARNATION_MAX = INT32_MAX,
};

/* Lifeguard's dynamic suspicion: it starts at max_ms and falls towards min_ms
 * as others confirm. accusers[0] began it. */
struct suspicion {
    int64_t start_ms;
    uint32_t min_ms, max_ms;
    size_t wanted; /* confirmations after which it is min_ms */
    size_t accuser_count;
    struct node_id accusers[ACCUSERS_MAX + 1];
};

struct entry {
    struct member member;
    /* Restored from our disk and not heard of since: any word overrides it,
     * and it is told to nobody. */
    bool remembered;
    struct suspicion suspicion;
    /* The boot that died: if the same one comes back, the death was false. */
    uint64_t dead_boot;
    /* For membership_next_change. */
    bool changed, identity_changed;
    enum member_state reported;
};

/* One probe at a time: the protocol period is longer than its timeouts. */
struct probe {
    bool running, indirect;
    struct node_id target;
    int64_t indirect_ms; /* when others are asked */
    int64_t end_ms;
    uint64_t request;
    uint64_t indirect_requests[INDIRECT_MAX];
    size_t indirect_count, nacks;
};

/* A ping that we send because another node asked for it. */
struct relay {
    uint64_t request; /* 0 is free */
    struct reply_token token;
    int64_t end_ms;
};

/* A push/pull that waits for its answer. */
struct exchange {
    uint64_t request;
    bool table_sent;
    struct node_id to; /* zero for a seed */
    const char *address;
};

struct heard {
    struct heard *next;
    Rkv__Rumour rumour;
};

struct membership {
    struct membership_config config;
    struct entry entries[NODES_MAX]; /* the first is self */
    size_t count;
    char (*seeds)[ADDRESS_MAX + 1];
    size_t seed_count;
    uint64_t random, serial;
    int64_t now_ms;
    bool started, left;
    uint32_t awareness; /* 0 is healthy */

    struct probe probe;
    struct relay relays[RELAYS_MAX];
    struct exchange exchanges[EXCHANGES_MAX];
    size_t exchange_next;
    int64_t probe_ms, gossip_ms, push_pull_ms, join_ms;
    uint16_t order[NODES_MAX];
    size_t order_count, order_next;

    struct broadcast *broadcast;
    struct arena scratch;
    struct heard *inbox_first, **inbox_last, *lent;
    size_t inbox_count;
    struct membership_counters counters;
};

static inline struct member *self_of(struct membership *m)
{
    return &m->entries[0].member;
}

static inline bool is_self(const struct membership *m, struct node_id id)
{
    return node_id_equal(id, m->entries[0].member.id);
}

static inline bool state_is_reachable(enum member_state state)
{
    return state == MEMBER_ALIVE || state == MEMBER_SUSPECT;
}

/* --- membership.c --- */

struct entry *entry_find(struct membership *m, struct node_id id);
/* A new entry, zeroed, or NULL when NODES_MAX are known. */
struct entry *entry_add(struct membership *m);
uint64_t random_next(struct membership *m);
/* 0 to below - 1; 0 for 0. */
size_t random_below(struct membership *m, size_t below);
uint64_t next_request(struct membership *m);
size_t reachable_count(const struct membership *m);
/* Up to max different others for which wanted holds, at random. */
size_t pick_others(struct membership *m,
                   bool (*wanted)(const struct membership *,
                                  const struct entry *),
                   struct node_id except, uint16_t *picked, size_t max);
bool wants_reachable(const struct membership *m, const struct entry *entry);
/* The binary logarithm in 1/256ths; value is at least 1. */
uint32_t log2_256(uint32_t value);
/* 1000 times the decimal logarithm of n, at least 1000: memberlist's scale. */
uint32_t node_scale_milli(size_t n);

/* --- membership_table.c --- */

/* Higher overrides lower: by incarnation, then alive, suspect, dead, left. */
uint64_t member_version(const struct member *member);
/* Believe it if it overrides what is known. accuser: who says SUSPECT. */
void table_hear(struct membership *m, const struct member *news,
                struct node_id accuser);
/* One member of a push/pull. */
void table_merge(struct membership *m, const struct member *news);
/* Our own probe of it failed. */
void table_suspect(struct membership *m, struct entry *entry);
void table_expire_suspicions(struct membership *m);
/* Start the rumour of what we believe of it. */
void table_offer(struct membership *m, const struct entry *entry,
                 struct node_id accuser);
void table_adopt_identity(struct entry *entry, const struct member *news);
bool identity_equal(const struct member *a, const struct member *b);
uint64_t table_digest(const struct membership *m);
/* Whether a rumour of this version and accuser can still teach us anything. */
bool table_is_stale(struct membership *m, const struct member *news,
                    struct node_id accuser);
/* What we believe of it, as a rumour in the arena, or NULL. */
Rkv__Rumour *state_rumour(struct membership *m, const struct entry *entry,
                          struct arena *arena);

/* --- membership_probe.c --- */

void probe_tick(struct membership *m, struct outbox *out);
void probe_ping(struct membership *m, struct node_id from,
                struct reply_token token, const Rkv__Ping *ping,
                struct outbox *out);
void probe_ping_req(struct membership *m, struct node_id from,
                    struct reply_token token, const Rkv__PingReq *ping_req,
                    struct outbox *out);
/* true when the number was one of the probe's or a relay's. */
bool probe_reply(struct membership *m, uint64_t request,
                 const Rkv__Envelope *reply, struct outbox *out);
/* Lifeguard's local health: worse by change, within its bounds. */
void awareness_change(struct membership *m, int change);

/* --- membership_gossip.c --- */

void gossip_tick(struct membership *m, struct outbox *out);
/* Rumours to gossip_fanout nodes, now. */
void gossip_round(struct membership *m, struct outbox *out);
/* What rides on a message to this node. One that we do not hold to be alive is
 * told so first, whatever else there is: it can refute at once (Lifeguard's
 * buddy system, for the dead too). */
size_t gossip_take(struct membership *m, struct node_id to, struct arena *arena,
                   Rkv__Rumour ***rumours);
void gossip_hear(struct membership *m, Rkv__Rumour *const *rumours,
                 size_t count);
void push_pull_request(struct membership *m, struct reply_token token,
                       const Rkv__PushPull *request, struct outbox *out);
bool push_pull_reply(struct membership *m, uint64_t request,
                     const Rkv__Envelope *reply, struct outbox *out);

#endif
