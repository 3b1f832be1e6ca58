/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_NODE_H
#define REPLIKV_PROXY_CORE_NODE_H

#include "gossip/membership.h"
#include "gossip/placement.h"
#include "proxy/core/event.h"

/* A whole node as one state machine: membership, placement, writes, reads,
 * hand-off, filling and anti-entropy, without I/O, clock or threads. replikvd
 * drives it with real sockets and an engine, tests/sim with simulated ones,
 * from one seed.
 *
 *   STARTING ----> JOINING ----> READY
 *    hints and      accepted by   answers clients; partitions that are still
 *    meta scanned   a majority,   filling do not vote
 *                   or was before
 */

/* Levels on the wire: positive is a number of replicas. */
enum { LEVEL_DEFAULT = 0, LEVEL_QUORUM = -1, LEVEL_ALL = -2 };

/* How long a put lives; positive is milliseconds, to 1,000 years: far from
 * where a clock's sum would overflow (CASSANDRA-14092). */
enum { TTL_DEFAULT = 0, TTL_NEVER = -1 };
#define TTL_MS_MAX (INT64_C(1000) * 365 * 86400 * 1000)

struct bucket_config {
    char name[BUCKET_NAME_MAX + 1];
    struct bucket_id id;
    enum record_kind kind;
    int r, w;       /* default levels */
    bool sloppy;    /* fallbacks may vote for writes */
    uint32_t ttl_s; /* of puts that name none; 0: they stay */
};

struct node_limits {
    uint32_t value_bytes_max;    /* 1 MiB */
    uint32_t inflight_max;       /* client requests, 4096 */
    uint64_t inflight_bytes_max; /* their keys and values, 128 MiB */
    uint64_t hint_bytes_max;     /* courtesy hints for one target, 1 GiB */
    uint64_t fallback_bytes_max; /* records kept as a fallback, 4 GiB */
    uint32_t list_bytes_max;     /* one chunk of a list or scan, 256 KiB */
};

struct node_timeouts {
    uint32_t request_ms; /* 2000: the default deadline of a client's request */
    uint32_t forward_ms; /* 500: then the next replica is asked to coordinate */
    uint32_t hedge_ms;   /* 50: then the next replica is asked to answer */
    uint32_t handoff_interval_ms; /* 200 */
    /* 10800000, three hours: once a node has been away so long, no more
     * courtesy hints are kept for it. */
    uint32_t hint_window_ms;
    /* 150000: nng's REQ sends again after 60 s; two such retries fall within
     * it, and half a minute is left for clocks that differ. */
    uint32_t dedup_window_ms;
    /* 86400000, a day: then the hash trees are built anew from the engine. */
    uint32_t tree_rebuild_ms;
    /* 60000: so often they are compared with each other replica's. */
    uint32_t exchange_interval_ms;
    /* 10000: from one partition whose deletes are looked for to the next. */
    uint32_t collect_interval_ms;
    /* 5000: a clock that is further from the median of all is not gone by. */
    uint32_t clock_skew_max_ms;
};

struct node_config {
    struct member self;
    struct founding founding;
    const char *const *seeds; /* peer addresses */
    size_t seed_count;
    const struct bucket_config *buckets;
    size_t bucket_count;
    struct node_limits limits;
    struct node_timeouts timeouts;
    struct membership_config membership;
    bool replace;  /* the operator's word that an older disk was lost */
    bool amnesiac; /* the store was made anew under replace: fill first */
    struct disk_starts starts; /* of the disk, this one too */
    /* The run (member.run) whose clean stop saved its hash trees and behind
     * which nothing was written; 0 for none. */
    uint64_t trees_of_run;
    const char *engine; /* its name, for status */
    uint64_t seed;
};

/* TABLE_META entries that the edge reads before there is a node: the format of
 * the disk's records (a byte; none: 1), whose it is (text), how often it was
 * started (uint64_t), its random id (16 bytes), which partitions are still to
 * be filled (a bit each), all decrees (Rkv__Topology), and the run whose hash
 * trees are true (uint64_t), which it makes 0, synced, before anything can be
 * written. Its last starts (disk_starts_bytes), which it stores before the boot
 * number that the latest is of. */
#define META_FORMAT "format"
#define META_BOOT "boot"
#define META_STARTS "starts"
#define META_STORE "store"
#define META_OWNER "owner"
#define META_MISSING "missing"
#define META_TOPOLOGY "topology"
#define META_TREES_OF_RUN "trees_of_run"

struct node_limits node_limits_default(void);
struct node_timeouts node_timeouts_default(void);

struct node;

/* config is copied, what it points to is borrowed until node_free. INVALID
 * with a sentence for a config that cannot be. */
enum status node_new(const struct node_config *config, struct node **node,
                     struct error *error) MUST_CHECK;
void node_free(struct node *node);

/* The one entrance. effects was reset by the caller and may be appended to by
 * several steps in a row. */
void node_step(struct node *node, const struct event *event,
               struct effects *effects);

/* Our Hello for a connection of this lane, in the arena. The edge numbers it
 * (Hello.session). */
Rkv__Envelope *node_hello(const struct node *node, enum lane lane,
                          struct arena *arena);
/* For the edge, to dial and to log. Valid until the next step. */
const struct membership *node_membership(const struct node *node);
const struct topology *node_topology(const struct node *node);
bool node_is_ready(const struct node *node);
/* Of the hash tree of our copy of the partition. False while it is not known
 * what that holds, or when it is not ours. */
bool node_tree_root(const struct node *node, struct partition partition,
                    uint64_t *root);

/* For the next start, when all that was asked of the storage has been heard of
 * and nothing more will be: by number, entries of TABLE_TREES and at last
 * META_TREES_OF_RUN, to be stored in this order, synced. */
enum { SAVED_NAME_MAX = 32 };
size_t node_saved_count(const struct node *node);
enum status node_save(const struct node *node, size_t number, enum table *table,
                      char name[SAVED_NAME_MAX], struct buffer *out) MUST_CHECK;
/* Before the first step: one of these entries, if config.trees_of_run says that
 * they are true. What does not fit is left. */
void node_restore(struct node *node, struct bytes saved);

/* Counters for status, in a fixed order; name is a static string. Returns how
 * many; index beyond gives NULL. */
size_t node_counter_count(void);
const char *node_counter_name(size_t index);
uint64_t node_counter(const struct node *node, size_t index);

#endif
