/* SPDX-License-Identifier: MIT */
#include "checks.h"

void check_bounded(const char *who, const char *what, uint64_t has,
                   uint64_t limit, struct verdict *verdict)
{
    if (has > limit)
        verdict_unsafe(verdict, "bounded",
                       "%s has %s of %llu, allowed are %llu", who, what,
                       (unsigned long long)has, (unsigned long long)limit);
}
