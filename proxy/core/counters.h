/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_COUNTERS_H
#define REPLIKV_PROXY_CORE_COUNTERS_H

/* What a node counts: everything it did, and every message, hint or request
 * that it dropped, shed or refused. Names in counters.c. */
enum counter {
    COUNTER_WRITES,
    COUNTER_WRITES_APPLIED,
    COUNTER_WRITES_NOT_APPLIED,
    COUNTER_WRITES_UNKNOWN,
    COUNTER_WRITES_FORWARDED,
    COUNTER_WRITES_RETRIED,
    COUNTER_READS,
    COUNTER_READS_FAILED,
    COUNTER_READS_HEDGED,
    COUNTER_READ_REPAIRS,
    COUNTER_SIBLINGS,
    COUNTER_REFUSED_INVALID,
    COUNTER_REFUSED_OVERLOADED,
    COUNTER_STORES,
    COUNTER_FETCHES,
    COUNTER_HINTS_STORED,
    COUNTER_HINTS_DELIVERED,
    COUNTER_HINTS_SHED,
    COUNTER_HINTS_REFUSED,
    COUNTER_HINTS_MOVED, /* to the heirs of one that leaves */
    COUNTER_FALLBACKS_REFUSED,
    COUNTER_PARTITIONS_FILLED,
    COUNTER_HELLOS_REFUSED,
    COUNTER_REQUESTS_UNKNOWN,
    COUNTER_MESSAGES_DROPPED,
    COUNTER_STORAGE_FAILURES,
    COUNTER_RECORDS_DAMAGED, /* met and asked of the other replicas */
    COUNTER_ROWS_SKIPPED,    /* by a scan: damaged, or of no declared bucket */
    COUNTER_REOPENS,
    COUNTER_EXCHANGES, /* of hash trees, with one other node each */
    COUNTER_EXCHANGES_FAILED,
    COUNTER_KEYS_PULLED, /* by an exchange: what we lacked, what they did */
    COUNTER_KEYS_PUSHED,
    COUNTER_KEYS_REFUSED,          /* here or there: they differ on */
    COUNTER_PARTITIONS_UNCOMPARED, /* not known what is held of them */
    COUNTER_TREES_BUILT,
    COUNTER_TREES_FAILED, /* the partition could not be read */
    COUNTER_TREES_WRONG,  /* found so when built anew: silent loss */
    COUNTER_COLLECTIONS,  /* rounds that began */
    COUNTER_COLLECTIONS_FAILED,
    COUNTER_RECORDS_COLLECTED, /* of this node's own copies */
    COUNTER_CONTEXTS_FOLDED,   /* likewise; dead siblings too */
    COUNTER_EPOCHS,            /* that it came to go by */
    COUNTER_PROPOSALS,         /* of what is to make one */
    COUNTER_PROPOSALS_FAILED,
    COUNTER_OUTDATED, /* stores refused: routed by an older topology */
    COUNTER_COUNT
};

#endif
