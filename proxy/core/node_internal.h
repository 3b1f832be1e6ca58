/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_NODE_INTERNAL_H
#define REPLIKV_PROXY_CORE_NODE_INTERNAL_H

#include "proxy/core/agree.h"
#include "proxy/core/bits.h"
#include "proxy/core/clocks.h"
#include "proxy/core/collect.h"
#include "proxy/core/counters.h"
#include "proxy/core/get.h"
#include "proxy/core/handoff.h"
#include "proxy/core/hash_tree.h"
#include "proxy/core/latency.h"
#include "proxy/core/moves.h"
#include "proxy/core/node.h"
#include "proxy/core/put.h"

/* What the parts of a node share. Each part is one file:
 *
 *   node.c    dispatch                        writes.c   clients' writes
 *   make.c    beginning and end               hints.c    what is kept
 *   start.c   what a start reads              reads.c    clients' reads
 *   hello.c   who may talk to whom            handoff.c  hints to their node
 *   admit.c   checks of requests, levels      fill.c     an emptied disk
 *   serve.c   what other nodes ask of us      admin.c    status, members, ring
 *   list.c    lists, digests                  explain.c  one key, everywhere
 *   slots.c   numbered operations             latency.c  how long stages took
 *
 * Anti-entropy: hash_tree.h, trees.c (of our copies), saved_trees.c (over a
 * clean stop), compare.h (with another node's), exchange.h (and what differs),
 * repair.c (now). What is deleted: collect.h. The time: clocks.h. Who leaves:
 * moves.h, leave.c, and what is decreed about it: agree.h. */

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
    struct node_id candidates[OWNERS_MAX];
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
    uint64_t epoch; /* of the topology by which its replicas are */
    int64_t arrived_us;
    bool asks;            /* fewer than R have answered so far */
    size_t charged_bytes; /* of record and context that it holds */
};

/* Reads that a node was asked for and has not answered, nor its session ended:
 * now, and when the turn began that had this time. */
struct read_peer {
    uint32_t debt, turn_debt;
    int64_t turn_us;
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
    struct node_id owners[OWNERS_MAX];
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
    /* What takes as long, or stood still meanwhile, need not rest as long. */
    PAUSE_MS_MAX = 10000,
    RELAYS_MAX = 64,       /* lists and explains under way */
    BATCHES_MAX = 64,      /* hand-off messages being stored */
    SCAN_KEYS_MAX = 65536, /* that one scan picks: of the smallest rows */
    /* limits.list_bytes_max that a scan reads of which little is sent. */
    SCAN_LISTS = 4,
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
    const char *told;   /* why this partition is held up, or NULL */
};

enum build_stage { BUILD_IDLE, BUILD_SCANNING };

/* One partition's tree on its way. */
struct tree_build {
    enum build_stage stage;
    bool begun; /* of partition; else there is none */
    struct partition partition;
    uint64_t serial;
    int64_t next_ms, lost_at_ms;
    int64_t burst_us; /* since then chunk followed chunk */
    int64_t out_ms;   /* until then a scan that was given up may be out */
    struct hash_tree tree;
    struct buffer after;  /* so far it is built */
    struct buffer writes; /* struct build_write, since the scan was asked for */
    bool is_overrun;      /* there were too many */
    unsigned overruns;    /* in a row */
};

struct trees {
    struct hash_tree **list; /* by partition; NULL: it is not ours */
    uint8_t *known;          /* a bit a partition: says what the engine holds */
    uint8_t *due;            /* likewise: to be built */
    uint8_t *failed;         /* it could not be, and is tried again */
    int64_t forgotten_ms;    /* when the engine last said that it is broken */
    int64_t rebuild_at_ms;   /* all of them */
    int64_t retry_at_ms;     /* those that failed; 0: none did */
    int64_t retry_ms;        /* what was waited last */
    bool is_begun;           /* what was not saved is due since then */
    struct tree_build build;
};

enum exchange_stage {
    EXCHANGE_IDLE,
    EXCHANGE_COMPARING,
    EXCHANGE_SCANNING,
    EXCHANGE_LISTING,
    EXCHANGE_PULLING,
    EXCHANGE_STORING,
    EXCHANGE_READING,
    EXCHANGE_PUSHING
};

/* What an operator asked for. */
struct repair {
    bool is_running, is_full, is_of_one;
    struct bucket_id bucket;    /* 0: of all */
    struct partition partition; /* is_of_one */
    size_t peers_left;
};

/* See exchange.h. */
struct exchange {
    enum exchange_stage stage;
    bool is_on; /* a round with peer has begun */
    struct repair repair;
    struct node_id peer;
    size_t peer_next; /* by topology index */
    uint64_t serial;
    int64_t next_ms; /* below 0: never begun */
    int64_t wake_ms; /* nobody is woken before */
    int64_t lost_at_ms;
    /* When a partition was last found equal with its owner i, at
     * partition * OWNERS_MAX + i; 0 never. */
    int64_t *equal_ms;

    /* Partitions of which nothing was found that differs, though they do. */
    uint8_t *suspects;

    /* Of the round: roots below were asked about; uint32_t, partitions that
     * differ, from the first at or behind resume on, those before differ_next
     * taken up; of these the nodes that are compared at the level, and then
     * the leaves, those before node_next taken up. */
    uint32_t roots_next, resume, resume_next;
    struct buffer differ, nodes;
    size_t differ_next, node_next;
    unsigned level;
    size_t asked; /* nodes, of the peer */
    bool is_verifying, is_waiting;
    bool is_between; /* chunks of a partition, at rest */
    bool has_failed; /* the round before */

    /* Of the partition; see reconcile.c. */
    struct partition partition;
    struct leaf_set leaves;
    int64_t started_ms;
    uint64_t moved; /* rows, whatever became of them */
    uint32_t chunk_bytes;
    struct buffer after, to; /* our chunk; empty: from the start, to the end */
    bool is_last;            /* it is the last */
    struct buffer own;       /* struct own_key */
    /* Where the peer's part of that range that is listed begins and ends. */
    struct buffer list_after, list_next;
    bool is_listed;              /* to its end */
    struct buffer pulls, pushes; /* uint64_t, hashes of keys, rising */
    size_t storing;              /* of what was pulled */
    struct buffer read_after;    /* where they are read from, */
    bool is_read;                /* to the end of the chunk */
    size_t row_count;            /* of the push under way */
    bool is_one_by_one;          /* some push of the chunk was refused */
    bool has_refused;            /* a line was logged */
};

/* A connection that a node made: number is of its run. */
struct heard_session {
    uint64_t run, number;
};

enum node_stage { NODE_STARTING, NODE_JOINING, NODE_READY };

struct node {
    struct node_config config;
    enum node_stage stage;
    size_t start_waiting; /* scans of the start that have not ended */
    bool start_asked;
    bool has_joined;  /* this disk was ready before */
    bool is_replaced; /* it was set in another's place */
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
    struct read_peer read_peers[NODES_MAX]; /* by topology index */

    struct hint_target *hints;
    size_t hint_count;
    struct handoff handoff;
    struct fill fill;
    struct trees trees;
    struct exchange exchange;
    struct collect collect;
    struct agree agree;
    struct moves moves;
    struct clocks clocks;
    struct slots drain_slots;
    struct drain drains[DRAINS_MAX];
    /* Of founders: each lane's latest session; accepted us; is to be noted. */
    struct heard_session heard[NODES_MAX][LANE_COUNT];
    bool met[NODES_MAX], has_failed_note[NODES_MAX];
    /* Under replace: the largest of ours that others remember, and the one
     * that is being stored, 0 for none. */
    uint64_t boot_known, boot_storing;
    uint64_t counters[COUNTER_COUNT];
    uint64_t requests; /* of the counters, at the last tick */
    int64_t ticked_ms;
    bool is_busy;
    struct latency latencies[LATENCY_COUNT];
};

/* node.c */
uint64_t node_random(struct node *node);
/* Whether requests came since the tick before the last at a rate at which work
 * in the background should give way. */
bool node_is_busy(const struct node *node);
/* How long to rest after such work that began then. */
int64_t node_pause_ms(const struct node *node, int64_t since_ms);
uint64_t node_stamp(struct node *node);
void node_count(struct node *node, enum counter counter);
/* A stage that began then has ended now. */
void node_took(struct node *node, enum latency_stage stage, int64_t since_us);
const struct bucket_config *node_bucket(const struct node *node,
                                        struct bucket_id id);
const char *node_name_of(const struct node *node, struct node_id id);

/* start.c */
void start_begin(struct node *node, struct effects *effects);
void start_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects);
void start_join(struct node *node, struct effects *effects);
/* So that the next start remembers who the member was. */
void start_store_member(struct node *node, struct node_id id,
                        struct effects *effects);
void start_noted(struct node *node, const struct storage_result *result);

/* slots.c: a serial is (use << 16 | slot); -1 when all are taken. */
enum status slots_init(struct slots *slots, size_t count) MUST_CHECK;
void slots_fini(struct slots *slots);
int slots_take(struct slots *slots, uint64_t *serial);
void slots_give(struct slots *slots, uint64_t serial);
static inline size_t slot_of(uint64_t serial)
{
    return serial & 0xffff;
}
/* No serial that was taken so far is above it, all later ones are. */
static inline uint64_t slots_last(const struct slots *slots)
{
    return slots->serial << 16 | 0xffff;
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
/* The same of what a write says beside that. */
enum status admit_value(const struct node *node, const Rkv__Write *write,
                        struct error *error) MUST_CHECK;
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
 * owed the fewest answers to our reads when the turn began before the others,
 * then the rest. So load goes where it is served, many reads in one message,
 * and one that stands still is left alone long before anybody suspects it. */
size_t preference_list(struct node *node, struct partition partition,
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
/* None is coordinated here, which may come to keep hints. */
bool writes_are_done(const struct node *node);

/* reads.c */
void read_request(struct node *node, struct reply_token token,
                  const Rkv__Read *read, struct effects *effects);
void read_stored(struct node *node, const struct storage_result *result,
                 struct effects *effects);
void read_reply(struct node *node, uint64_t request, struct node_id from,
                const Rkv__Envelope *reply, struct effects *effects);
void reads_tick(struct node *node, struct effects *effects);
/* Our copy is damaged: it is to have what all others hold. */
void read_mend(struct node *node, const struct storage_key *key,
               struct effects *effects);

/* serve.c */
void serve_store(struct node *node, struct reply_token token,
                 const Rkv__Store *store, struct effects *effects);
void serve_fetch(struct node *node, struct reply_token token,
                 const Rkv__Fetch *fetch, struct effects *effects);
void serve_scan(struct node *node, struct reply_token token,
                const Rkv__Scan *scan, struct effects *effects);
void serve_handoff(struct node *node, struct reply_token token,
                   const Rkv__Handoff *handoff, struct effects *effects);
void serve_collect(struct node *node, struct reply_token token,
                   const Rkv__Collect *collect, struct effects *effects);
void serve_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects);
void serve_tick(struct node *node, struct effects *effects);

/* fill.c */
enum status fill_init(struct node *node) MUST_CHECK;
void fill_fini(struct node *node);
bool fill_is_missing(const struct node *node, struct partition partition);
/* All that we own is missing: stored under token, or false. */
bool fill_all(struct node *node, uint64_t token,
              struct effects *effects) MUST_CHECK;
void fill_restore(struct node *node, struct bytes missing);
/* What we own only by the next topology is missing; to be saved. */
void fill_moved(struct node *node, const struct topology *next);
bool fill_save(struct node *node, uint64_t token, struct effects *effects);
/* With the owners that there are now. */
void fill_begin_again(struct node *node);
void fill_tick(struct node *node, struct effects *effects);
/* A row for the wire, which borrows it; NULL: the arena is spent. */
Rkv__Row *row_to_wire(const struct storage_row *row, struct arena *arena);
/* Make op merge a row that another owner of the partition gave us; NULL, or why
 * it cannot be stored. */
const char *row_merge(const struct node *node, const Rkv__Row *row,
                      struct partition partition, struct arena *scratch,
                      struct storage_op *op);
void fill_reply(struct node *node, uint64_t request, const Rkv__Envelope *reply,
                struct effects *effects);
void fill_stored(struct node *node, const struct storage_result *result,
                 struct effects *effects);

/* trees.c */
enum status trees_init(struct node *node) MUST_CHECK;
void trees_fini(struct node *node);
/* Have one for all that we own by the next topology, too. */
enum status trees_moved(struct node *node,
                        const struct topology *next) MUST_CHECK;
/* NULL while it is not known what our copy holds, or it is not ours. */
const struct hash_tree *tree_of(const struct node *node,
                                struct partition partition);
/* leaves: as they were at a clean stop. */
void tree_set(struct node *node, uint32_t partition, const uint8_t *leaves);
/* A write to TABLE_DATA was stored. */
void trees_changed(struct node *node, const struct storage_result *result);
/* What the engine holds is not known. */
void trees_heard_broken(struct node *node);
void trees_heard_reopened(struct node *node);
/* This one may be wrong. */
void tree_doubt(struct node *node, struct partition partition);
/* A scan of the partition found damage. */
void tree_unreadable(struct node *node, struct partition partition);
/* All of them anew, or one. */
void trees_rebuild(struct node *node, const struct partition *one);
/* So many are still to be built. */
size_t trees_due(const struct node *node);
void trees_tick(struct node *node, struct effects *effects);
void trees_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects);

/* exchange.c, reconcile.c */
enum status exchange_init(struct node *node) MUST_CHECK;
void exchange_fini(struct node *node);
void exchange_tick(struct node *node, struct effects *effects);
void exchange_reply(struct node *node, uint64_t request,
                    const Rkv__Envelope *reply, struct effects *effects);
void exchange_stored(struct node *node, const struct storage_result *result,
                     struct effects *effects);
/* How long ago our copy was last found equal to that of each other owner, the
 * longest; -1 never, -2 when it is not ours. */
int64_t exchange_equal_ago_ms(const struct node *node,
                              struct partition partition);

/* The topology was that before: let go of what is under way. */
void exchange_moved(struct node *node, const struct topology *before);
/* Let go of what is under way, and begin with that. */
void exchange_repair(struct node *node, const struct repair *repair);

/* The node is there again: it may have missed something. */
void exchange_wake(struct node *node, struct node_id peer);

/* repair.c */
void repair_request(struct node *node, struct reply_token token,
                    const Rkv__Admin *admin, struct effects *effects);
/* Partitions that are still to be read or compared, of each other node. */
uint64_t repair_left(const struct node *node);

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

/* serve.c: the owners are others since the topology that it goes by. */
bool is_outdated(const struct node *node, const struct storage_op *op);

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
struct live_values {
    size_t count, ttl_count; /* 0: none of them expires */
    ProtobufCBinaryData *values;
    int64_t *ttl_ms;
};
/* Of a record of the bucket: where puts expire by default, of each is said how
 * long it lives. */
struct live_values live_values(const struct record *record,
                               const struct bucket_config *bucket,
                               int64_t wall_ms, struct arena *arena);
ProtobufCBinaryData context_for_client(const struct record *record,
                                       uint64_t hash, struct arena *arena);

#endif
