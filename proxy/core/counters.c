/* SPDX-License-Identifier: MIT */
#include "proxy/core/counters.h"

#include "proxy/core/node_internal.h"

static const char *const names[COUNTER_COUNT] = {
    [COUNTER_WRITES] = "writes",
    [COUNTER_WRITES_APPLIED] = "writes_applied",
    [COUNTER_WRITES_NOT_APPLIED] = "writes_not_applied",
    [COUNTER_WRITES_UNKNOWN] = "writes_unknown",
    [COUNTER_WRITES_FORWARDED] = "writes_forwarded",
    [COUNTER_WRITES_RETRIED] = "writes_retried",
    [COUNTER_READS] = "reads",
    [COUNTER_READS_FAILED] = "reads_failed",
    [COUNTER_READS_HEDGED] = "reads_hedged",
    [COUNTER_READ_REPAIRS] = "read_repairs",
    [COUNTER_SIBLINGS] = "reads_with_siblings",
    [COUNTER_REFUSED_INVALID] = "refused_invalid",
    [COUNTER_REFUSED_OVERLOADED] = "refused_overloaded",
    [COUNTER_STORES] = "stores",
    [COUNTER_FETCHES] = "fetches",
    [COUNTER_HINTS_STORED] = "hints_stored",
    [COUNTER_HINTS_DELIVERED] = "hints_delivered",
    [COUNTER_HINTS_SHED] = "hints_shed",
    [COUNTER_HINTS_REFUSED] = "hints_refused",
    [COUNTER_HINTS_MOVED] = "hints_moved",
    [COUNTER_FALLBACKS_REFUSED] = "fallbacks_refused",
    [COUNTER_PARTITIONS_FILLED] = "partitions_filled",
    [COUNTER_HELLOS_REFUSED] = "hellos_refused",
    [COUNTER_REQUESTS_UNKNOWN] = "requests_unknown",
    [COUNTER_MESSAGES_DROPPED] = "messages_dropped",
    [COUNTER_STORAGE_FAILURES] = "storage_failures",
    [COUNTER_RECORDS_DAMAGED] = "records_damaged",
    [COUNTER_ROWS_SKIPPED] = "rows_skipped",
    [COUNTER_REOPENS] = "engine_reopens",
    [COUNTER_EXCHANGES] = "exchanges",
    [COUNTER_EXCHANGES_FAILED] = "exchanges_failed",
    [COUNTER_KEYS_PULLED] = "keys_pulled",
    [COUNTER_KEYS_PUSHED] = "keys_pushed",
    [COUNTER_KEYS_REFUSED] = "keys_refused",
    [COUNTER_PARTITIONS_UNCOMPARED] = "partitions_uncompared",
    [COUNTER_TREES_BUILT] = "trees_built",
    [COUNTER_TREES_FAILED] = "trees_failed",
    [COUNTER_TREES_WRONG] = "trees_wrong",
    [COUNTER_COLLECTIONS] = "collections",
    [COUNTER_COLLECTIONS_FAILED] = "collections_failed",
    [COUNTER_RECORDS_COLLECTED] = "records_collected",
    [COUNTER_CONTEXTS_FOLDED] = "contexts_folded",
    [COUNTER_EPOCHS] = "epochs",
    [COUNTER_PROPOSALS] = "proposals",
    [COUNTER_PROPOSALS_FAILED] = "proposals_failed",
    [COUNTER_OUTDATED] = "outdated",
};

size_t node_counter_count(void)
{
    return COUNTER_COUNT;
}

const char *node_counter_name(size_t index)
{
    return index < COUNTER_COUNT ? names[index] : NULL;
}

uint64_t node_counter(const struct node *node, size_t index)
{
    return index < COUNTER_COUNT ? node->counters[index] : 0;
}
