/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_H
#define REPLIKV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* libreplikv, the C client of replikv.
 *
 * A client holds one connection to each of its endpoints that it needs, with
 * any number of requests in flight on it. It talks to one node as long as that
 * one answers. When a connection is lost, or no answer at all comes from it
 * for attempt_ms, the request goes to the next endpoint, a write with the same
 * request id, by which the nodes know that it is one write. That goes on until
 * the deadline.
 *
 *     replikv_start ---> WAITING ----------------> callback, exactly once
 *                        ^     | lost, late, overloaded
 *                        +-----+
 *
 * Outcome. The result of every write says what became of it:
 * REPLIKV_APPLIED, on as many replicas as its level asked for;
 * REPLIKV_NOT_APPLIED, nothing was attempted anywhere; REPLIKV_UNKNOWN, some
 * replica may hold it: write again with result.request_id, or read.
 *
 * Threads. All functions may be called from any thread at once, except that
 * nothing may be called with a client after replikv_close. Callbacks run on
 * threads of the library, several at a time; they may call replikv_start, and
 * must neither wait nor call replikv_call or replikv_close. What they start
 * leaves when all have been called whose answers came together.
 *
 * Memory. What a request points to is copied before replikv_start returns. A
 * result, and all that it points to, belongs to who gets it, until
 * replikv_result_free; it outlives its client. */

/* The same numbers as on the wire (enum Status of replikv.proto). */
enum replikv_status {
    REPLIKV_OK = 0,
    REPLIKV_NOT_FOUND = 1,    /* no such key; an answer, not a failure */
    REPLIKV_INVALID = 2,      /* the message names the field */
    REPLIKV_TOO_LARGE = 3,    /* the message names the limit */
    REPLIKV_CORRUPT = 4,      /* stored bytes fail their checksum */
    REPLIKV_NO_SPACE = 5,     /* a node's disk is full */
    REPLIKV_IO = 6,           /* a node's disk or a socket failed */
    REPLIKV_BROKEN = 7,       /* a node's engine failed a write */
    REPLIKV_TIMEOUT = 8,      /* the deadline passed */
    REPLIKV_OVERLOADED = 9,   /* a bound is reached: wait retry_after_ms */
    REPLIKV_UNAVAILABLE = 10, /* no node, or too few replicas, in reach */
    REPLIKV_UNCERTAIN = 11,   /* a replica that is still being filled */
    REPLIKV_REFUSED = 12,     /* a context of another key */
    REPLIKV_UNSUPPORTED = 13, /* by this version of the node */
    REPLIKV_NO_MEMORY = 14,
    REPLIKV_CLOSED = 15, /* replikv_close came first */
    REPLIKV_STALE = 16,  /* no replica in reach has all the context has seen */
};

enum replikv_outcome {
    REPLIKV_NONE = 0, /* the request was not a write */
    REPLIKV_APPLIED = 1,
    REPLIKV_NOT_APPLIED = 2,
    REPLIKV_UNKNOWN = 3,
};

/* Short lower-case words, static strings. */
const char *replikv_status_name(enum replikv_status status);
const char *replikv_outcome_name(enum replikv_outcome outcome);

enum {
    REPLIKV_ENDPOINTS_MAX = 16,
    REPLIKV_BATCH_MAX = 1000, /* requests of one batch */
    REPLIKV_REQUEST_ID_BYTES = 16,
    REPLIKV_KEY_BYTES_MAX = 480,
};

struct replikv_bytes {
    const void *data; /* may be NULL when size is 0 */
    size_t size;
};

struct replikv_error {
    enum replikv_status status;
    char text[320]; /* a sentence for people */
};

/* ---- a client ---- */

/* Zero means the default of each field but the endpoints. */
struct replikv_options {
    /* "tcp://127.0.0.1:3001" or "ipc:///path", 1 to REPLIKV_ENDPOINTS_MAX, the
     * preferred one first. Copied. */
    const char *const *endpoints;
    size_t endpoint_count;
    /* The deadline of a request that names none. 5000. */
    uint32_t timeout_ms;
    /* When a node has answered nothing, this request or others, for so long,
     * the next endpoint is asked as well; also what connecting may take. 1000.
     * Below the usual latency it multiplies the work. With one endpoint a
     * request waits for its deadline. */
    uint32_t attempt_ms;
    /* Requests, and bytes of them, that may be under way; beyond it
     * replikv_start says REPLIKV_OVERLOADED. 4096, at most 1048576; 64 MiB. A
     * batch counts as its requests, and one that is larger goes alone. */
    uint32_t inflight_max;
    size_t inflight_bytes_max;
    /* The largest request or reply. 128 MiB. A node that sends more is taken
     * for broken. */
    size_t message_bytes_max;
    /* Give up once no endpoint can be connected to, rather than at the
     * deadline. */
    bool fail_fast;
};

struct replikv;

/* Connects to nothing yet. On any status but OK *client is unchanged and error
 * (which may be NULL) says why. */
enum replikv_status replikv_open(const struct replikv_options *options,
                                 struct replikv **client,
                                 struct replikv_error *error);
/* Requests under way end with REPLIKV_CLOSED; when it returns every callback
 * has. NULL is allowed. */
void replikv_close(struct replikv *client);

/* ---- requests ---- */

enum replikv_kind {
    REPLIKV_GET,
    REPLIKV_PUT,
    REPLIKV_DELETE,
    REPLIKV_LIST, /* a chunk of one partition, in key order */
    REPLIKV_ADMIN,
    REPLIKV_BATCH, /* many gets, puts and deletes in one message */
};

/* What an admin request asks of the node that answers. */
enum replikv_what {
    REPLIKV_WHAT_STATUS = 0,
    REPLIKV_WHAT_MEMBERS = 1,
    REPLIKV_WHAT_RING = 2,
    REPLIKV_WHAT_HINTS = 3,
    REPLIKV_WHAT_EXPLAIN = 4, /* of bucket and key */
    REPLIKV_WHAT_DIGEST = 5,  /* of the node's own copy of partition */
    REPLIKV_WHAT_LATENCY = 6,
    /* Begin to compare this node's replicas with all others, and to mend what
     * differs: of bucket, NULL of all; STATUS says when it has ended. */
    REPLIKV_WHAT_REPAIR = 7,
    REPLIKV_WHAT_TREES = 8, /* when partitions were last found equal */
    REPLIKV_WHAT_RECORDING =
        9, /* what the node has lived through, for a file */
    /* What it would move if `node` left the cluster; with commit, begin that:
     * it goes on by itself, and STATUS says how far it is. With lost, of one
     * that leaves already: go on without it. */
    REPLIKV_WHAT_LEAVE = 10,
};

/* Replicas that must answer: one of these, or their number. */
enum {
    REPLIKV_LEVEL_DEFAULT = 0, /* the bucket's */
    REPLIKV_LEVEL_ONE = 1,
    REPLIKV_LEVEL_QUORUM = -1,
    REPLIKV_LEVEL_ALL = -2,
};

/* How long a put lives: one of these, or milliseconds. */
enum { REPLIKV_TTL_DEFAULT = 0 /* the bucket's */, REPLIKV_TTL_NEVER = -1 };

/* Fields that the kind has no use for are ignored. */
struct replikv_request {
    enum replikv_kind kind;
    const char *bucket;       /* NULL: "default" */
    struct replikv_bytes key; /* 1 to REPLIKV_KEY_BYTES_MAX, any bytes */
    struct replikv_bytes value;
    /* Of writes: the context of what was read, which this write supersedes.
     * Empty: it supersedes nothing, and may leave siblings. Of gets: the
     * context of an earlier result of the key; what is read is not older than
     * that, whatever the level, or the status is STALE. */
    struct replikv_bytes context;
    int level;
    /* Of puts: so long after it was taken in, by the clock of the node that
     * did, the value is gone, as if deleted. To 1,000 years. How long what it
     * writes over was to live does not matter; sent again with the same request
     * id, it lives as long as it was to at first. */
    int64_t ttl_ms;
    uint32_t timeout_ms; /* 0: the client's */
    /* Of writes: REPLIKV_REQUEST_ID_BYTES to go on with a write whose outcome
     * is unknown; NULL draws a new one. */
    const uint8_t *request_id;
    /* LIST, DIGEST: resume behind `after`, the `next` of an earlier result. */
    uint32_t partition;
    struct replikv_bytes after;
    uint32_t bytes_max; /* LIST: about; 0 the node's default */
    enum replikv_what what;
    bool one_partition; /* REPAIR: of `partition` alone */
    bool full;          /* REPAIR: read all that the engine holds first */
    const char *node;   /* LEAVE: its name */
    bool lost;          /* LEAVE: so is its disk, of which nothing is read */
    bool commit;
    /* BATCH: 1 to REPLIKV_BATCH_MAX of GET, PUT and DELETE, in any mix; of the
     * batch itself only timeout_ms counts, which is also that of those that
     * name none. They are carried out side by side, in no order, and each has
     * its own result; the batch ends when all have. Those that another attempt
     * may help are sent again, without the others and with the same request
     * ids. All of it has to fit one message: about 1 MiB, a node's
     * limits.value_bytes_max. */
    const struct replikv_request *requests;
    size_t request_count;
};

/* ---- results ---- */

struct replikv_item {
    const char *bucket;
    struct replikv_bytes key;
    const struct replikv_bytes *values; /* more than one: siblings */
    size_t value_count;
    const int64_t *ttl_ms; /* as in a result */
    struct replikv_bytes context;
};

enum replikv_member_state {
    REPLIKV_ALIVE = 0,
    REPLIKV_SUSPECT = 1,
    REPLIKV_DEAD = 2,
    REPLIKV_LEFT = 3,
};

struct replikv_member {
    const char *name, *zone, *peer_address, *client_address;
    enum replikv_member_state state; /* as the answering node sees it */
    uint32_t incarnation;
    uint64_t boot; /* how often its disk was started */
};

struct replikv_counter {
    const char *name;
    uint64_t value;
};

struct replikv_owners {
    uint32_t partition;
    const char *const *nodes;
    size_t node_count;
};

/* Records that the answering node keeps for target. */
struct replikv_hints {
    const char *target;
    uint64_t records, bytes;
};

/* Names one write: the counter-th of an actor. */
struct replikv_dot {
    uint64_t incarnation;
    uint32_t epoch;
    uint64_t counter;
};

/* What one replica holds of a key. */
struct replikv_replica {
    const char *node;
    enum replikv_status status;
    uint64_t version; /* replicas in step have the same */
    const struct replikv_dot *dots;
    size_t dot_count;
    uint32_t values, tombstones; /* tombstones are among the values */
    uint64_t record_bytes;
};

/* How long one stage of one kind of request took, since the node started:
 * counts[i] of them at_least_us[i], which rises, or up to a sixteenth more. */
struct replikv_latency {
    const char *kind, *stage; /* "put", "queue" */
    const uint64_t *at_least_us, *counts;
    size_t count;
    uint64_t max_us; /* exact */
};

/* So many partitions go to the node. */
struct replikv_share {
    const char *node;
    uint32_t partitions;
};

/* A node leaves, and others take its place. */
struct replikv_move {
    const char *node;
    bool lost;
    const char *stage; /* "planned", "filling", "turning" */
    const struct replikv_share *shares;
    size_t share_count;
    /* What the next stage waits for, as "n2: partitions to fill: 12". */
    const char *const *waits_for;
    size_t wait_count;
};

/* The answer to REPLIKV_ADMIN; the first group always, the rest as asked. */
struct replikv_node {
    const char *node, *cluster, *engine;
    bool ready;
    uint64_t epoch;
    uint32_t partitions, replicas;
    uint32_t filling; /* partitions that do not vote yet */

    const struct replikv_counter *counters; /* STATUS */
    size_t counter_count;
    const struct replikv_member *members; /* MEMBERS */
    size_t member_count;
    const struct replikv_owners *owners; /* RING */
    size_t owner_count;
    const struct replikv_hints *hints; /* HINTS, STATUS */
    size_t hint_count;
    const struct replikv_replica *states; /* EXPLAIN */
    size_t state_count;
    uint32_t partition; /* EXPLAIN */
    /* DIGEST, of a chunk: XOR them over the chunks, add the records. */
    uint64_t digest, records;
    const struct replikv_latency *latencies; /* LATENCY */
    size_t latency_count;
    /* LATENCY, STATUS: another one after each start of the node */
    uint64_t run;
    /* STATUS: a repair is under way; partitions that it still has to read, or
     * to compare with each other node. */
    bool repairing;
    uint64_t repair_left;
    /* STATUS: how far its clock is ahead of the median of all, if known. */
    int64_t clock_off_ms;
    bool clock_is_known;
    /* How long ago partition i was last found equal to all its other replicas,
     * -1 never, or a hint for one was not kept since, -2 it is not this node's.
     * STATUS: one, the longest. TREES: of each. */
    const int64_t *equal_ago_ms;
    size_t equal_ago_count;
    /* RECORDING: the whole file, with keys and values, for `sim --replay` of
     * the same version. */
    struct replikv_bytes recording;
    /* LEAVE without commit; STATUS, of the one that is open. NULL: none. */
    const struct replikv_move *move;
};

struct replikv_result {
    enum replikv_status status;
    enum replikv_outcome outcome;
    const char *message;     /* a sentence, "" when there is nothing to say */
    uint32_t need, got;      /* answers that the level asked for, and came */
    uint64_t epoch;          /* of the topology; 0 when no node answered */
    uint32_t retry_after_ms; /* OVERLOADED */
    uint32_t attempts;       /* times that it was sent */
    uint8_t request_id[REPLIKV_REQUEST_ID_BYTES]; /* of writes */

    const struct replikv_bytes *values; /* GET; more than one: siblings */
    size_t value_count;
    /* How long each value still lives, 0: it stays. NULL: they all do, in a
     * bucket in which puts do by default. */
    const int64_t *ttl_ms;
    /* GET, and writes that were applied: give it to the write that supersedes
     * what was read, and to gets that are to read nothing older. */
    struct replikv_bytes context;

    const struct replikv_item *items; /* LIST */
    size_t item_count;
    struct replikv_bytes next; /* LIST, DIGEST */
    bool done;                 /* this was the last chunk */
    uint32_t partitions;       /* LIST: how many there are */

    const struct replikv_node *node; /* ADMIN, or NULL */

    /* BATCH: results[i] is that of requests[i], and part of this one. None
     * when the batch could not be sent at all: then what is said above is said
     * of each. Else status is OK if each one's is OK or NOT_FOUND, or the first
     * other one; and outcome is APPLIED, or NOT_APPLIED, if it is of every
     * write, or else UNKNOWN. */
    const struct replikv_result *results;
    size_t result_count;
};

/* Takes over result. */
typedef void replikv_callback(void *user, struct replikv_result *result);

/* Send a request; callback gets the result, maybe before this returns and on
 * the calling thread, so call it without locks that callback takes. On any
 * status but OK nothing was sent, callback is never called, and error (which
 * may be NULL) says why: OVERLOADED, TOO_LARGE, INVALID, NO_MEMORY, CLOSED. */
enum replikv_status replikv_start(struct replikv *client,
                                  const struct replikv_request *request,
                                  replikv_callback *callback, void *user,
                                  struct replikv_error *error);
/* Send it and wait. Never NULL. */
struct replikv_result *replikv_call(struct replikv *client,
                                    const struct replikv_request *request);

/* The usual calls, in the default bucket at its levels. context as in the
 * request; {NULL, 0} for none. */
struct replikv_result *replikv_get(struct replikv *client,
                                   struct replikv_bytes key);
struct replikv_result *replikv_put(struct replikv *client,
                                   struct replikv_bytes key,
                                   struct replikv_bytes value,
                                   struct replikv_bytes context);
struct replikv_result *replikv_delete(struct replikv *client,
                                      struct replikv_bytes key,
                                      struct replikv_bytes context);

/* Many of them in one message: see REPLIKV_BATCH. contexts may be NULL. */
struct replikv_result *replikv_get_many(struct replikv *client,
                                        const struct replikv_bytes *keys,
                                        size_t count);
struct replikv_result *replikv_put_many(struct replikv *client,
                                        const struct replikv_bytes *keys,
                                        const struct replikv_bytes *values,
                                        const struct replikv_bytes *contexts,
                                        size_t count);

/* NULL is allowed. Of results of a batch only the whole is freed. */
void replikv_result_free(struct replikv_result *result);

static inline struct replikv_bytes replikv_bytes_of(const void *data,
                                                    size_t size)
{
    struct replikv_bytes bytes = {data, size};
    return bytes;
}

#ifdef __cplusplus
}
#endif

#endif
