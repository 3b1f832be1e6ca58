/* SPDX-License-Identifier: MIT */
#include "checks.h"

bool copies_are_equal(const struct copy *copies, size_t count)
{
    static struct record_view view; /* large; one thread */
    uint64_t first = 0;
    for (size_t i = 0; i < count; i++) {
        if (!record_view_read(&view, copies[i].data, copies[i].size))
            return false;
        if (i == 0)
            first = view.fingerprint;
        if (view.fingerprint != first)
            return false;
    }
    return true;
}

void check_converged(uint32_t key, const struct copy *copies, size_t count,
                     size_t replicas, struct verdict *verdict)
{
    if (count != 0 && count != replicas)
        verdict_stuck(verdict, "converged",
                      "key %u: %zu of %zu replicas have a record", key, count,
                      replicas);
    else if (!copies_are_equal(copies, count))
        verdict_stuck(verdict, "converged", "key %u: the replicas differ", key);
}
