/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_STORAGE_OP_H
#define REPLIKV_PROXY_CORE_STORAGE_OP_H

#include "proto/ids.h"
#include "proto/record.h"

/* What the core asks of the storage, and what it hears back.
 *
 * The storage edge runs these: reads beside each other, everything that writes
 * through one writer that makes batches (proxy/storage.h); tests/sim runs them
 * over its simulated disk. Both use the same pure code (replica.h) to decide
 * what a key becomes. */

enum table {
    TABLE_DATA = 'd',  /* a primary's records */
    TABLE_HINTS = 'h', /* records kept for another node, target first */
    TABLE_META = 'm',  /* what the node itself must remember */
    TABLE_TREES = 't', /* what it can do without: saved hash trees */
};

struct storage_key {
    enum table table;
    struct node_id target; /* TABLE_HINTS only */
    struct partition partition;
    struct bucket_id bucket;
    struct bytes key; /* TABLE_META, TABLE_TREES: the name */
};

enum storage_kind {
    /* A client's write: read our own copy, give the write the next dot, merge,
     * store. Heard back twice: PREPARED with the record, before it is on disk,
     * so that the other replicas' syncs overlap with ours; then DONE. A write
     * that is refused or was found to be a retry says so in PREPARED. */
    STORAGE_COORDINATE,
    /* Another coordinator's record: merge it into our copy, store. */
    STORAGE_MERGE,
    /* Our copy. */
    STORAGE_READ,
    /* A chunk of records in key order: of a partition (TABLE_DATA) or of one
     * bucket in it (not 0), of a target's hints, or of all hints (zero
     * target). */
    STORAGE_SCAN,
    /* Delete a hint, if its version is still the one that was delivered. */
    STORAGE_DROP,
    /* Let go of what record_collect does, if its version is still this one. */
    STORAGE_COLLECT,
    /* Store a TABLE_META entry, synced. */
    STORAGE_SET,
};

struct storage_op {
    enum storage_kind kind;
    /* The core's number, which comes back in the event, and whom the result
     * answers when that is all there is to do with it (0: nobody). */
    uint64_t token;
    uint64_t reply_token;
    int64_t asked_us; /* now, of what is measured (latency.h) */
    /* COORDINATE, MERGE, READ that count as a replica's vote: by which
     * topology. */
    uint64_t epoch;
    struct storage_key key;
    enum record_kind record_kind;
    /* Past this (monotonic ms) an operation that still waits is answered
     * TIMEOUT and not run; 0 never. */
    int64_t deadline_ms;
    /* Now, for stamps and the dedup window; COLLECT: what is older goes. */
    int64_t wall_ms;
    /* MERGE: the encoded record. SET: the value. COORDINATE: the value. */
    struct bytes data;
    /* COORDINATE */
    bool tombstone;
    int64_t expires_ms;   /* wall clock; 0: never */
    struct bytes context; /* encoded, as the client gave it */
    struct request_id request;
    uint64_t stamp;
    /* MERGE, COORDINATE on TABLE_HINTS: what may be added to what is kept for
     * the target. */
    uint64_t hint_bytes;
    /* SCAN: resume behind this engine key (empty: from the start). */
    struct bytes after;
    uint32_t bytes_max;
    /* SCAN: hear of it after all that it may show was STORED. */
    bool settled;
    /* What is written may take the place of a copy that cannot be read. MERGE:
     * data is what all other owners hold, empty for nothing; or the partition
     * is being filled. Either: there is no other owner. All else fails over
     * such a copy of TABLE_DATA, CORRUPT: it would be a replica that has the
     * new and lacks the old. */
    bool mends;
    /* SCAN: leave out what cannot be read, where the engine can; else the scan
     * fails of it. */
    bool passes_damage;
    /* DROP, COLLECT */
    uint64_t version;
};

struct storage_row {
    struct storage_key key;
    struct bytes record; /* encoded */
};

/* Pointers are valid during the step that hears of it. */
struct storage_result {
    /* As it was asked, with its key and token. */
    const struct storage_op *op;
    enum status status;
    const char *message; /* for people; may be NULL */
    /* PREPARED: the record to send to the others. READ: our copy; empty with
     * NOT_FOUND. */
    struct bytes record;
    bool duplicate; /* COORDINATE: the request was already here */
    /* STORED, of what was written: since when it waited for the disk alone. */
    int64_t prepared_us;
    /* MERGE, COORDINATE, DROP on hints: how the store grew or shrank. */
    int64_t records_delta, bytes_delta;
    /* MERGE, COORDINATE on TABLE_DATA: record_version of our copy before and
     * after, 0 for none. Equal when nothing changed. With another status than
     * OK: what may or may not have become of it. was_damaged: the copy before
     * could not be read, which is none; where that is why it failed, too. */
    uint64_t version_before, version_after;
    bool was_damaged;
    int64_t ripe_ms; /* of our copy now, if it changed; see record_ripe_ms */
    /* SCAN */
    const struct storage_row *rows;
    size_t row_count;
    struct bytes next; /* give it as after */
    bool done;
    bool passed_damage; /* something was left out that cannot be read */
};

#endif
