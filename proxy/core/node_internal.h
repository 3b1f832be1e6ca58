/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_NODE_INTERNAL_H
#define REPLIKV_PROXY_CORE_NODE_INTERNAL_H

#include "proxy/core/counters.h"
#include "proxy/core/get.h"
#include "proxy/core/latency.h"
#include "proxy/core/node.h"
#include "proxy/core/put.h"

/* What the parts of a node share. Each part is one file:
 *
 *   node.c    dispatch, start                 writes.c   clients' writes
 *   hello.c   who may talk to whom            reads.c    clients' reads
 *   admit.c   checks of requests, levels      handoff.c  hints to their node
 *   serve.c   what other nodes ask of us      fill.c     an emptied disk
 *   list.c    lists, digests                  admin.c    status, members, ring
 *   slots.c   numbered operations             explain.c  one key, everywhere
 *   latency.c how long stages of them took
 */

/* A write that a client waits for.
 *
 *  PREPARING --> REPLICATING --> (free)     coordinated here
 *  FORWARDED ------------------> (free)     by a replica, one after the other
 */
enum write_stage {
    WRITE_FREE,
    WRITE_PREPARING,
    WRITE_REPLICATING,
    WRITE_FORWARDED
};

struct write_op {
    enum write_stage stage;
    uint64_t serial; /* of this use of the slot */
    struct reply_token token;
    const struct bucket_config *bucket;
    struct partition partition;
    uint32_t w;
    bool tombstone, answered;
    int64_t deadline_ms;
    int64_t arrived_us, prepared_us; /* REPLICATING: since when it is */
    size_t charged_bytes;
    uint16_t key_size;
    uint8_t key[KEY_BYTES_MAX];
    /* REPLICATING: the record. FORWARDED: the packed Write. */
    struct buffer payload;
    struct put put;
    struct buffer context; /* of the record, for the client */
    /* FORWARDED */
    struct node_id candidates[REPLICAS_MAX];
    size_t candidate_count, candidate_next;
    int64_t forward_at_ms;
    bool attempted; /* some replica may hold it */
    uint32_t got;   /* as the coordinator counted */
};

struct read_op {
    bool used;
    uint64_t serial;
    struct reply_token token;
    const struct bucket_config *bucket;
    struct partition partition;
    uint16_t key_size;
    uint8_t key[KEY_BYTES_MAX];
    struct get get;
    int64_t arrived_us;
    bool asks;            /* fewer than R have answered so far */
    size_t charged_bytes; /* of the record that it holds */
};

/* Slots of one kind of operation, lowest free first so that what is never used
 * is never touched. */
struct slots {
    uint16_t *free;
    size_t free_count;
    size_t count;
    size_t high; /* no slot at or above it was ever taken */
    uint64_t serial;
};

/* What is kept for one node until it can have it. */
struct hint_target {
    struct node_id node;
    uint64_t records, bytes;
    /* A write of one failed: what the counts say may be wrong, until a pass
     * over all of them finds none. */
    bool is_unsure;
    uint64_t changes;
    /* Behind which the next chunk begins, and how large it may be: kept while
     * others have their turn. */
    struct buffer after;
    uint32_t chunk_bytes;
    uint32_t unsent; /* how often in a row one row alone got no reply */
};

struct relay_op {
    bool used;
    uint64_t serial;
    struct reply_token token;
    int64_t deadline_ms;
    bool explain;
    struct bucket_id bucket;
    uint16_t key_size;
    uint8_t key[KEY_BYTES_MAX];
    size_t owner_count, heard;
    struct node_id owners[REPLICAS_MAX];
    /* EXPLAIN: what each owner said so far. A list: the packed request. */
    struct buffer states;
};

struct batch_op {
    bool used;
    uint64_t serial;
    struct reply_token token;
    size_t waiting;
    enum status status;
    int64_t lost_at_ms;
};

enum {
    /* What hand-off or fill waits for has been lost by then, or is of no use
     * any more: a message that did not fit a step's memory, an operation whose
     * result never came. A lane or a disk that is slower than this (see
     * replication.lane_timeout_ms) is given up as well. Its answer, should it
     * still come, belongs to a number that is over and changes nothing; what
     * it did is done once more. */
    LOST_MS = 30000,
    RELAYS_MAX = 64,        /* lists and explains under way */
    BATCHES_MAX = 64,       /* hand-off messages being stored */
    EFFECTS_ROW_MAX = 4096, /* rows of one hand-off or scan message */
};

enum handoff_stage {
    HANDOFF_IDLE,
    HANDOFF_SCANNING,
    HANDOFF_SENT,
    HANDOFF_DROPPING
};

struct handoff {
    enum handoff_stage stage;
    struct node_id target;
    uint64_t serial;
    int64_t started_ms, next_ms;
    int64_t lost_at_ms; /* not IDLE: then what is waited for is given up */
    size_t target_next; /* round robin */
    struct buffer next; /* where the chunk ends; empty: with the last */
    uint64_t changes;   /* of the target when the scan began */
    struct buffer rows; /* keys and versions of the chunk under way */
    size_t rows_bytes;  /* of their keys and records */
    size_t dropping;
};

enum fill_stage { FILL_IDLE, FILL_ASKED, FILL_STORING };

struct fill {
    enum fill_stage stage;
    uint8_t *missing; /* a bit a partition: it does not vote yet */
    size_t missing_count;
    struct partition partition;
    size_t owner; /* which owner of it is being read */
    uint64_t serial;
    int64_t next_ms;
    struct buffer after;
    uint32_t chunk_bytes;
    bool last_chunk;
    size_t storing;
    bool failed;
    const char *reason; /* of the failure, for the log */
    bool told;          /* that this partition is held up */
};

enum node_stage { NODE_STARTING, NODE_JOINING, NODE_READY };

struct node {
    struct node_config config;
    enum node_stage stage;
    size_t start_waiting; /* scans of the start that have not ended */
    bool start_asked;
    bool has_joined; /* this disk was ready before */
    struct membership *membership;
    struct topology topology;
    struct node_id self;
    uint64_t random, stamp;
    int64_t now_us, now_ms, wall_ms;

    struct slots write_slots, read_slots, relay_slots, batch_slots;
    struct write_op *writes;
    struct read_op *reads;
    struct relay_op relays[RELAYS_MAX];
    struct batch_op batches[BATCHES_MAX];
    uint64_t inflight_bytes;
    /* What each node was asked for reads and has not answered, nor its session
     * ended; by topology index. */
    uint32_t read_debts[NODES_MAX];

    struct hint_target *hints;
    size_t hint_count;
    struct handoff handoff;
    struct fill fill;
    bool met[NODES_MAX]; /* founders that accepted us, by topology index */
    /* Under replace: the largest of ours that others remember, and the one
     * that is being stored, 0 for none. */
    uint64_t boot_known, boot_storing;
    uint64_t counters[COUNTER_COUNT];
    struct latency latencies[LATENCY_COUNT];
};

/* node.c */
uint64_t node_random(struct node *node);
uint64_t node_stamp(struct node *node);
void node_count(struct node *node, enum counter counter);
/* A stage that began then has ended now. */
void node_took(struct node *node, enum latency_stage stage, int64_t since_us);
const struct bucket_config *node_bucket(const struct node *node,
                                        struct bucket_id id);
const char *node_name_of(const struct node *node, struct node_id id);

/* slots.c: a serial is (use << 16 | slot); -1 when all are taken. */
enum status slots_init(struct slots *slots, size_t count) MUST_CHECK;
void slots_fini(struct slots *slots);
int slots_take(struct slots *slots, uint64_t *serial);
void slots_give(struct slots *slots, uint64_t serial);
static inline size_t slot_of(uint64_t serial)
{
    return serial & 0xffff;
}
/* What a tick must look through: nothing when nothing is in flight. */
static inline size_t slots_end(const struct slots *slots)
{
    return slots->free_count == slots->count ? 0 : slots->high;
}

/* admit.c */
struct admitted {
    const struct bucket_config *bucket;
    struct partition partition;
    struct bytes key;
    uint32_t level;
    int64_t deadline_ms;
};
/* Check what a client sent; on failure error says field, limit and value. */
enum status admit(const struct node *node, const char *bucket, struct bytes key,
                  int level, bool is_write, uint32_t timeout_ms,
                  struct admitted *admitted, struct error *error) MUST_CHECK;
void reply_result(struct node *node, struct effects *effects,
                  struct reply_token token, enum status status,
                  Rkv__Outcome outcome, const char *message);
Rkv__Result *result_new(struct node *node, struct arena *arena,
                        enum status status, Rkv__Outcome outcome,
                        const char *message);
/* Reply with this body, which may be NULL when memory was short. If anything of
 * the step did not fit the effects' budget the reply says that instead: half an
 * answer could be taken for a whole one. */
void reply_with(struct effects *effects, struct reply_token token,
                Rkv__Envelope__BodyCase body_case, const void *body);
/* Owners of the partition: us first, then those that seem to be there, who
 * owes the fewest answers to our reads before the others, then the rest. So
 * load goes where it is served, and one that stands still is left alone long
 * before anybody suspects it. */
size_t preference_list(const struct node *node, struct partition partition,
                       struct node_id *list);

/* writes.c */
void write_request(struct node *node, struct reply_token token,
                   const Rkv__Write *write, bool from_peer,
                   struct effects *effects);
void write_prepared(struct node *node, const struct storage_result *result,
                    struct effects *effects);
void write_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects);
void write_reply(struct node *node, uint64_t request, struct node_id from,
                 const Rkv__Envelope *reply, struct effects *effects);
void forward_reply(struct node *node, uint64_t request, struct node_id from,
                   const Rkv__Envelope *reply, struct effects *effects);
void writes_tick(struct node *node, struct effects *effects);

/* reads.c */
void read_request(struct node *node, struct reply_token token,
                  const Rkv__Read *read, struct effects *effects);
void read_stored(struct node *node, const struct storage_result *result,
                 struct effects *effects);
void read_reply(struct node *node, uint64_t request, struct node_id from,
                const Rkv__Envelope *reply, struct effects *effects);
void reads_tick(struct node *node, struct effects *effects);
uint32_t read_debt(const struct node *node, struct node_id id);

/* serve.c */
void serve_store(struct node *node, struct reply_token token,
                 const Rkv__Store *store, struct effects *effects);
void serve_fetch(struct node *node, struct reply_token token,
                 const Rkv__Fetch *fetch, struct effects *effects);
void serve_scan(struct node *node, struct reply_token token,
                const Rkv__Scan *scan, struct effects *effects);
void serve_handoff(struct node *node, struct reply_token token,
                   const Rkv__Handoff *handoff, struct effects *effects);
void serve_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects);
void serve_tick(struct node *node, struct effects *effects);

/* handoff.c */
/* Keep a courtesy hint of the record for target, or shed it. */
void hint_keep(struct node *node, struct node_id target,
               const struct storage_key *key, enum record_kind kind,
               struct bytes record, struct effects *effects);
/* A fallback's records are replicas: over its bound, which is counted, it
 * refuses to vote. */
bool fallback_admit(struct node *node);
struct hint_target *hint_target(struct node *node, struct node_id id);
void handoff_fini(struct node *node);
void hints_changed(struct node *node, const struct storage_result *result);
void handoff_tick(struct node *node, struct effects *effects);
void handoff_stored(struct node *node, const struct storage_result *result,
                    struct effects *effects);
void handoff_reply(struct node *node, uint64_t request,
                   const Rkv__Envelope *reply, struct effects *effects);
void handoff_wake(struct node *node);

/* fill.c */
enum status fill_init(struct node *node) MUST_CHECK;
void fill_fini(struct node *node);
bool fill_is_missing(const struct node *node, struct partition partition);
/* All that we own is missing: stored under token, or false. */
bool fill_all(struct node *node, uint64_t token,
              struct effects *effects) MUST_CHECK;
void fill_restore(struct node *node, struct bytes missing);
void fill_tick(struct node *node, struct effects *effects);
void fill_reply(struct node *node, uint64_t request, const Rkv__Envelope *reply,
                struct effects *effects);
void fill_stored(struct node *node, const struct storage_result *result,
                 struct effects *effects);

/* hello.c */
void hello_heard(struct node *node, const struct event *event,
                 struct effects *effects);
void hello_answered(struct node *node, const struct event *event,
                    struct effects *effects);
void hello_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects);

/* admin.c */
void admin_request(struct node *node, struct reply_token token,
                   const Rkv__Admin *admin, struct effects *effects);

/* explain.c */
void explain_request(struct node *node, struct reply_token token,
                     const Rkv__Admin *admin, struct effects *effects);
void explain_stored(struct node *node, const struct storage_result *result,
                    struct effects *effects);
void explain_reply(struct node *node, uint64_t request, struct node_id from,
                   const Rkv__Envelope *reply, struct effects *effects);
void explain_answer(struct node *node, const struct relay_op *relay,
                    struct effects *effects);

/* list.c */
void list_request(struct node *node, struct reply_token token,
                  const Rkv__List *list, bool from_peer,
                  struct effects *effects);
void digest_request(struct node *node, struct reply_token token,
                    const Rkv__Admin *admin, struct effects *effects);
void list_stored(struct node *node, const struct storage_result *result,
                 struct effects *effects);
void digest_stored(struct node *node, const struct storage_result *result,
                   struct effects *effects);
void relay_reply(struct node *node, uint64_t request, struct node_id from,
                 const Rkv__Envelope *reply, struct effects *effects);
void relays_tick(struct node *node, struct effects *effects);

/* reads.c: what a client sees of a record. */
size_t live_values(const struct record *record, struct arena *arena,
                   ProtobufCBinaryData **values);
ProtobufCBinaryData context_for_client(const struct record *record,
                                       uint64_t hash, struct arena *arena);

#endif
