/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_SIM_H
#define REPLIKV_TESTS_SIM_SIM_H

#include "checks.h"
#include "client.h"
#include "host.h"
#include "losses.h"
#include "network.h"
#include "queue.h"
#include "random.h"
#include "shrink.h"
#include "tally.h"
#include "trace.h"

/* A whole cluster in one thread, from one seed.
 *
 *   FAULTS ------------------> HEALING ---------------------> CHECKED
 *     clients and faults;        no faults, no clients;         what is left
 *     safety is checked          everything is read until       is judged
 *     after every event          all replicas are equal
 *
 * The nodes are the production objects. Time is virtual: it jumps from one
 * moment to the next. */

enum sim_stage { SIM_FAULTS, SIM_HEALING, SIM_CHECKED };

/* What the seed draws before it starts; see plan.c. */
struct plan {
    uint32_t hosts, clients, keys, partitions, replicas;
    int64_t faults_us; /* how long the first stage takes */
    int64_t heal_us;   /* how long the second may take */
    int64_t tick_us;
    int64_t latency_us; /* of a frame, at least; at most ten times it */
    int64_t sync_us;    /* of a batch, likewise */
    int64_t fault_every_us;
    uint32_t failed_write_permille; /* of batches */
    uint32_t slow_write_permille;   /* likewise */
    uint32_t failed_send_permille;  /* of requests to other nodes */
    bool may_lose, has_nights;      /* of disks */
    /* Nodes stay up and disks keep what they are given, and nothing mends of
     * itself but hints: whatever a write leaves undone shows. Or disks are
     * damaged, and reads mend it, too. */
    bool is_without_exchange, is_mended_by_reads;
    bool has_older; /* some nodes are of an earlier build */
    /* Without anti-entropy one node after the other leaves. */
    bool is_of_leaves;
    /* Whose clock may be set to anything, or HOSTS_MAX: nobody's. */
    uint32_t wild;
    int64_t think_us, patience_us; /* of clients, on average */
    struct membership_config membership;
    struct node_timeouts timeouts;
    struct node_limits limits;
};

/* A disk is to lose something as soon as there is a write that not all have. */
enum { ARMED_US = 1000 * 1000 };
struct armed {
    enum fault fault;
    int64_t until_us;
    struct randomness random;
};

/* Of two hosts, as the first sees the second: when something last kept them
 * from talking, and even by way of a third; and when it did not hold it for
 * dead. */
struct pair {
    int64_t apart_us, unreached_us, not_dead_us;
};

enum {
    SIM_BUCKETS = 3,
    SIM_REPLICAS_MAX = 5,
    SIM_OWNERS_MAX = SIM_REPLICAS_MAX + 1,
    SIM_PARTITIONS_MAX = 64,
    EPOCHS_MAX = 16,
    SIM_ZONES = 3,               /* node i is in zone i mod 3 */
    UNANSWERED_US = 2000 * 1000, /* longer than any deadline */
};

/* What the operator has asked for, or HOSTS_MAX; and another at the same time,
 * one of whom is to be told that he comes too late. */
struct leaving {
    uint32_t host, rival;
    bool is_lost;
};

struct sim_key {
    char name[16];
    const struct bucket_config *bucket;
    struct partition partition;
    uint32_t owners[SIM_OWNERS_MAX]; /* hosts, */
    uint32_t owner_count;            /* one more while one of them leaves */
};

/* Of wall clocks, either way. Together with the longest run between two nights
 * it stays below the dedup window of 150 s: beyond it a retry is a new write,
 * by design. */
enum { WALL_OFFSET_MAX_MS = 8000, WILD_OFFSET_MAX_MS = 86400000 };

extern struct bucket_config sim_buckets[SIM_BUCKETS];

/* What stands for the nodes' engines: a model; the built-in LSM tree (see
 * store.h); or that on the first node and the model on the others. */
enum sim_engine { SIM_MODEL, SIM_LSM, SIM_MIXED };

/* What a seed does not decide. */
struct sim_options {
    enum sim_engine engine;
    uint32_t hosts; /* 0: the seed chooses */
    bool tell;      /* print the story */
    bool calm;      /* without faults */
    /* NULL: all faults, but for those that come with a batch or a frame. */
    const struct fault_set *only;
    /* NULL, or the file for a recording of the first host's last life. */
    const char *record;
};

struct sim {
    uint64_t seed;
    const struct sim_options *options;
    struct plan plan;
    enum sim_stage stage;
    int64_t now_us;
    int64_t slept_us; /* that all clocks went on and nothing happened */
    struct queue queue;
    struct randomness random, network_random, disk_random, fault_random,
        client_random, send_random, strike_random;
    struct armed armed;
    uint32_t fault_number; /* of the last that struck, or was left out */
    struct host hosts[HOSTS_MAX];
    struct network network;
    struct client clients[CLIENTS_MAX];
    struct attempt attempts[ATTEMPTS_MAX];
    struct placement_node founders[HOSTS_MAX];
    struct arena arena; /* unpacked messages of the moment */
    struct trace trace;
    struct tally *tally; /* shared by all seeds of a run */
    struct verdict verdict;
    /* What the checkers know. */
    struct history history;
    struct dot_ledger dots;
    struct read_floor floors[KEYS_MAX];
    struct read_floor forgotten[KEYS_MAX]; /* by some replica */
    struct sim_key keys[KEYS_MAX];
    struct losses losses;
    struct pair pairs[HOSTS_MAX][HOSTS_MAX];
    uint64_t epoch; /* the latest that any node goes by, of which: */
    uint32_t owners[SIM_PARTITIONS_MAX][SIM_OWNERS_MAX];
    bool is_moving;
    uint32_t mover;                    /* then who leaves, */
    bool is_lost;                      /* and is lost */
    struct decree decrees[EPOCHS_MAX]; /* by the epoch that they made */
    struct leaving leaving;
    /* Of the reads at level all after healing. */
    uint32_t final_reads;
    bool final_read[KEYS_MAX];
    uint32_t final_values[KEYS_MAX][VIEW_VALUES_MAX];
    size_t final_count[KEYS_MAX];
};

/* plan.c: everything that a seed decides about how it runs. hosts: 0 lets the
 * seed choose. */
void plan_draw(struct plan *plan, struct randomness *random, uint32_t hosts);

/* Run the seed to its end; the verdict says what was found. The options are
 * borrowed until sim_free. */
void sim_run(struct sim *sim, uint64_t seed, const struct sim_options *options,
             struct tally *tally);
void sim_free(struct sim *sim);

/* --- for the parts --- */

void sim_at(struct sim *sim, int64_t at_us, enum moment_kind kind, uint32_t a,
            uint32_t b, uint64_t c);
static inline void sim_in(struct sim *sim, int64_t in_us, enum moment_kind kind,
                          uint32_t a, uint32_t b, uint64_t c)
{
    sim_at(sim, sim->now_us + in_us, kind, a, b, c);
}
#define sim_tell(sim, who, ...)                                                \
    trace_tell(&(sim)->trace, (sim)->now_us, who, __VA_ARGS__)

/* faults.c */
void faults_start(struct sim *sim);
void faults_next(struct sim *sim);
void faults_end(struct sim *sim, uint32_t which, uint32_t host, uint32_t other);
/* Time passes, longer than retries are remembered, and nothing happens. */
void faults_night(struct sim *sim);
/* Undo all that is still on. */
void faults_heal(struct sim *sim);

/* Whether the host's disk may lose something now. */
bool faults_can_lose(const struct sim *sim, const struct host *host);
/* False: it does not run. */
bool faults_crash(struct sim *sim, struct host *host);
/* A client was told that its write is applied. */
void faults_wrote(struct sim *sim, uint32_t key, uint32_t write);

/* owners.c: by the founding; the host goes by another topology. */
void owners_start(struct sim *sim, const struct topology *topology);
void owners_changed(struct sim *sim, const struct host *seen);

/* leaving.c: whether it can be told to, and that it is. */
bool leaving_can(const struct sim *sim, const struct host *host,
                 bool may_be_lost);
void leaving_begin(struct sim *sim, struct host *host, bool is_lost);
/* Once more: for the first, or the other one (1). */
void leaving_ask(struct sim *sim, uint32_t which);
/* Who has left is not started again. */
void leaving_settled(struct sim *sim, struct host *host);

/* watch.c: what is checked all the time */
void watch(struct sim *sim, struct host *host);
/* What an operation that it begins takes for the time. */
void watch_clock(struct sim *sim, const struct host *host,
                 const struct storage_op *op);
/* What was before is over. */
void watch_started(struct sim *sim, const struct host *host);

/* damage.c: counted, when there was something to damage. */
bool damage_can(const struct sim *sim, const struct host *host);
void damage(struct sim *sim, struct host *host);
/* Its copy of the key. */
bool damage_key(struct sim *sim, struct host *host, uint32_t key);

/* observe.c: what the checkers are shown. */
void observe_start(struct sim *sim);
/* It is in a batch that forms, whatever becomes of that. */
void observe_prepared(struct sim *sim, struct bytes record);
/* The host's disk now holds this record, synced. */
void observe_stored(struct sim *sim, const struct host *host, struct bytes key,
                    struct bytes record);
/* It is about to, instead of another; empty: of none. */
void observe_replaced(struct sim *sim, const struct host *host,
                      struct bytes key, struct bytes before,
                      struct bytes after);
/* It is about to hold none; if what it holds is damaged, then because nobody
 * else holds one. */
void observe_removed(struct sim *sim, const struct host *host,
                     struct bytes key);
/* A host says that a client's write is applied. */
void observe_applied(struct sim *sim, uint32_t write, uint32_t need);
/* Values that a client was shown: their writes. */
size_t observe_values(struct sim *sim, const Rkv__ReadReply *reply,
                      uint32_t *writes);
/* " w1 w2", as many as the text takes, for the story. */
const char *observe_list(const uint32_t *writes, size_t count, char *text,
                         size_t size);
/* Of the record under the engine's key; KEYS_MAX: it is none of ours. */
uint32_t observe_key(const struct sim *sim, struct bytes stored);
/* Every copy of the key on any disk, synced; those of its owners, by slot. An
 * empty one is none, nor is one that cannot be read. */
size_t observe_copies(const struct sim *sim, uint32_t key, struct copy *copies);
size_t observe_primaries(const struct sim *sim, uint32_t key,
                         struct copy *copies);
/* Which of the key's owners know the write, by slot; how many. */
size_t observe_holders(const struct sim *sim, uint32_t key, uint32_t write,
                       bool *has);
/* What healing still waits for, or NULL: that all are equal; that all is read
 * since. */
const char *observe_apart(struct sim *sim);
/* What is deleted or expired, and old by now, and still on a disk. */
const char *observe_uncollected(const struct sim *sim);
const char *observe_unread(const struct sim *sim);
/* The host found a hash tree of its own wrong. */
void observe_wrong_tree(struct sim *sim, const struct host *host);
void observe_end(struct sim *sim);

#endif
