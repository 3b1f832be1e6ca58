/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_RECORD_H
#define REPLIKV_PROTO_RECORD_H

#include "proto/arena.h"
#include "proto/bytes.h"
#include "proto/ids.h"

/* What an engine stores under a key: the values that nothing has superseded,
 * each with the dot of the write that made it, and one causal context. One
 * encoding, on disk and on the wire, checksummed, so that a replica write is a
 * copy.
 *
 * Dotted version vectors as sets: Preguica, Baquero, Almeida et al., "Dotted
 * Version Vectors: Logical Clocks for Optimistic Replication" (2010); riak_kv
 * uses the same idea. Retried writes and the rule for actors are ours (below).
 *
 * Everything here is pure and allocates only from the arena it is given.
 * Decoded structs borrow from the bytes they were decoded from and from the
 * arena. */

enum {
    /* A byte in front of every record. */
    RECORD_FORMAT = 3,
    /* More concurrent values than this and a client's write is refused; a
     * merge never is. */
    SIBLINGS_MAX = 100,
    SIBLINGS_WARN = 25,
    /* Superseded request ids a record keeps. The window is time (150 s); this
     * bounds what a hot key costs: 64 * about 40 bytes is 2.5 KB. */
    DEDUP_ENTRIES_MAX = 64,
};

/* Who counts: one life of one coordinator's copy of one key. The incarnation
 * is random and in memory only; the epoch numbers the keys it began. */
struct actor {
    uint64_t incarnation;
    uint32_t epoch;
};

struct dot {
    struct actor actor;
    uint64_t counter; /* from 1 */
};

/* A version vector: for each actor, the highest counter seen; sorted by actor,
 * each once. All counters up to it are covered. */
struct context {
    struct dot *entries;
    size_t count;
    uint64_t stamp; /* see record_seen; 0 in records */
};

enum record_kind { RECORD_SIBLINGS = 0, RECORD_LWW = 1 };

/* A live value or a tombstone. dots[0] is its own (the lowest); more than one
 * where the same request was coordinated twice and both met here. */
struct value {
    struct dot *dots;
    size_t dot_count;
    struct request_id request;
    int64_t written_ms; /* wall clock of its coordinator */
    uint64_t stamp;     /* hybrid logical clock; decides in lww buckets */
    bool tombstone;
    int64_t expires_ms; /* wall clock; 0: never. No tombstone does */
    struct bytes data;
};

/* A write that was superseded, remembered so that its retry is recognised. */
struct superseded {
    struct request_id request;
    struct dot dot;
    int64_t written_ms;
};

struct record {
    enum record_kind kind;
    struct context context;
    struct value *values; /* sorted by dots[0] */
    size_t value_count;
    struct superseded *superseded; /* newest last */
    size_t superseded_count;
};

/* An empty record of the kind: what a key has before its first write. */
struct record record_empty(enum record_kind kind);

/* Check and decode. CORRUPT when the checksum or anything behind it does not
 * hold (order, duplicates, a dot its context does not cover, sizes);
 * UNSUPPORTED for a later format; NO_MEMORY when the arena is spent. */
enum status record_decode(struct bytes encoded, struct arena *arena,
                          struct record *record) MUST_CHECK;
/* Append the encoding to out. Equal records have equal encodings. */
enum status record_encode(const struct record *record,
                          struct buffer *out) MUST_CHECK;

/* The least upper bound of both: associative, commutative and idempotent in
 * context and values. A value is kept if it is in both, or in one and not
 * covered by the other's context. Two dots of one request are one value; one
 * of them superseded is both superseded, also when the other side holds the
 * request under another dot only. In lww the highest (stamp, dot) remains,
 * whatever the contexts say. Superseded entries older than now_ms -
 * dedup_window_ms go, and the oldest beyond DEDUP_ENTRIES_MAX; the laws about
 * retries reach as far back as these do. INVALID when the kinds differ. */
enum status record_merge(const struct record *a, const struct record *b,
                         int64_t now_ms, int64_t dedup_window_ms,
                         struct arena *arena, struct record *merged) MUST_CHECK;

/* A client's write as a coordinator applies it to its own copy. */
struct record_write {
    struct context seen; /* what the client's context covers */
    struct request_id request;
    struct dot dot; /* the next of the coordinator's actor */
    int64_t now_ms;
    uint64_t stamp;
    bool tombstone;
    int64_t expires_ms;
    struct bytes data;
};

/* own plus the write: what write->seen covers is superseded, and what is gone.
 * When own already holds the request, live or superseded, *duplicate is true
 * and *written is own: a retried write is one write. TOO_LARGE when
 * SIBLINGS_MAX would be exceeded by a write that adds to the values. INVALID
 * without a request id, or when write->seen covers the dot (see
 * actor_source_is_behind). The dot must be new to own. written borrows from own
 * and write. */
enum status record_apply(const struct record *own,
                         const struct record_write *write,
                         int64_t dedup_window_ms, struct arena *arena,
                         struct record *written, bool *duplicate) MUST_CHECK;

/* A hash of kind, context and values, whatever superseded entries a record
 * still has: records of equal versions hold the same. It is of all data, not of
 * dots alone, so that damage above the checksum shows, too. encoded: what
 * record_encode made, or record_decode took; 0 if empty. */
uint64_t record_version(struct bytes encoded);
/* The one predicate of what clients are not shown: a tombstone, and a value
 * from its expiry on. It changes nothing that is stored, so that replicas whose
 * clocks differ still hold the same. */
bool value_is_gone(const struct value *value, int64_t now_ms);
/* Whether no other value remains. */
bool record_is_deleted(const struct record *record, int64_t now_ms);

/* --- what may be forgotten --- */

/* What is left of a record once all replicas hold it and no older one can
 * arrive: without values that were gone, and written, before before_ms, without
 * requests that were superseded before, and without the context's entries that
 * nothing left needs. Nothing may be left of it. False if that is no less, but
 * for a few entries, or for lack of memory. */
bool record_collect(const struct record *record, int64_t before_ms,
                    struct arena *arena, struct record *left) MUST_CHECK;
/* From which before_ms on it might; -1: not as it is. */
int64_t record_ripe_ms(const struct record *record);

/* --- contexts, as clients hold them --- */

/* The counter seen of actor, 0 for none. */
uint64_t context_counter(const struct context *context, struct actor actor);
bool context_covers(const struct context *context, struct dot dot);

/* What a client that has read the record holds: its context, and in lww the
 * stamp to write above. */
struct context record_seen(const struct record *record);

/* The opaque bytes of such a context, which name the key by its hash and
 * carry a checksum. */
enum status context_encode(const struct context *context, uint64_t key_hash,
                           struct buffer *out) MUST_CHECK;
/* An empty encoding is the empty context. INVALID for anything malformed;
 * REFUSED when it belongs to another key. */
enum status context_decode(struct bytes encoded, uint64_t key_hash,
                           struct arena *arena,
                           struct context *context) MUST_CHECK;
/* What to say of one that gave this status. */
const char *context_mistake(enum status status);

/* --- who may count --- */

/* One node's source of actors. The incarnation is replaced whenever our own
 * copies may lag behind what we told others: at start, after an engine write
 * that failed, after a checksum failure, and on any record or context that
 * shows this incarnation further than our own copy. Nothing of it is stored. */
struct actor_source {
    uint64_t incarnation;
    uint32_t epoch;
};

/* incarnation: random, never used before. */
void actor_source_init(struct actor_source *source, uint64_t incarnation);
/* The dot of the next write to a key whose own copy has this context: the next
 * counter of our current incarnation's actor in it, or 1 of a new epoch. */
struct dot actor_source_next(struct actor_source *source,
                             const struct context *own);
/* Whether other shows our incarnation further than own does: then the caller
 * draws a new incarnation before it issues another dot. */
bool actor_source_is_behind(const struct actor_source *source,
                            const struct context *own,
                            const struct context *other);

#endif
