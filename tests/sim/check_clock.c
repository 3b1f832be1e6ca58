/* SPDX-License-Identifier: MIT */
#include "checks.h"

void check_clock(const char *who, int64_t wall_ms, int64_t earliest_ms,
                 int64_t latest_ms, struct verdict *verdict)
{
    if (wall_ms < earliest_ms || wall_ms > latest_ms)
        verdict_unsafe(
            verdict, "clock",
            "%s goes by a clock that is %lld ms off, though it could "
            "ask two others",
            who,
            (long long)(wall_ms < earliest_ms ? wall_ms - earliest_ms
                                              : wall_ms - latest_ms));
}
