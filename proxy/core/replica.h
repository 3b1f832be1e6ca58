/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_REPLICA_H
#define REPLIKV_PROXY_CORE_REPLICA_H

#include "proxy/core/storage_op.h"

/* What a stored key becomes: the pure read-merge-write that the writer thread
 * and the simulated disk both run, one operation at a time, with the batch's
 * overlay as `current`. Owns this node's source of dots. */

enum {
    /* What a client may make of a record, in sizes of the largest value, and
     * what is around values. Merges may go beyond: two copies that both grew to
     * it, apart, are twice as large, which a frame between nodes takes. */
    RECORD_VALUE_SIZES_MAX = 2,
    RECORD_OVERHEAD_BYTES = 64 * 1024,
};

struct replica {
    struct actor_source actors;
    uint64_t random; /* state of the generator that draws incarnations */
    int64_t dedup_window_ms;
    size_t value_bytes_max; /* 0: a record may have any size */
};

/* seed: from the system's randomness at start; from the seed in tests/sim. */
void replica_init(struct replica *replica, uint64_t seed,
                  int64_t dedup_window_ms);
/* Draw a new incarnation: after a failed write, over a copy that is lost. */
void replica_renew(struct replica *replica);

struct replica_change {
    enum status status;
    const char *message; /* static, or NULL */
    /* What to write: `next` has the new value, unless unchanged or removed. */
    bool changed, removed;
    bool duplicate;
    bool was_damaged;                   /* our own copy: it counts as missing */
    int64_t records_delta, bytes_delta; /* of hints */
    uint64_t version_before, version_after; /* of data; see storage_op.h */
    int64_t ripe_ms;                        /* likewise */
};

/* What the key holds before op: empty when it is not stored. */
struct replica_copy {
    struct bytes record;
    bool is_unreadable; /* the engine says CORRUPT */
};

/* Run op, which is no read, on the copy. next is cleared and filled with the
 * value to store; with COORDINATE, also when nothing changed, with the record
 * to send on. The arena is scratch: the caller resets it. A copy that cannot be
 * read, or fails its checksum, counts as missing, and where another takes its
 * place the incarnation is renewed. */
void replica_apply(struct replica *replica, const struct storage_op *op,
                   struct replica_copy copy, struct arena *scratch,
                   struct buffer *next, struct replica_change *change);

/* Engine keys: table, target (hints), partition, bucket, key; big-endian, so
 * that a partition and a target's hints are ranges. */
enum { STORAGE_KEY_BYTES_MAX = 23 + KEY_BYTES_MAX };
enum status storage_key_encode(const struct storage_key *key,
                               struct buffer *out) MUST_CHECK;
/* key borrows from encoded. CORRUPT for what was never written by us. */
enum status storage_key_decode(struct bytes encoded,
                               struct storage_key *key) MUST_CHECK;
/* The range [from, to) that a SCAN covers, behind scan->after, which may be any
 * bytes; empty when that is beyond it. No bound is longer than a key. */
enum status storage_scan_range(const struct storage_op *scan,
                               struct buffer *from,
                               struct buffer *to) MUST_CHECK;

#endif
