/* SPDX-License-Identifier: MIT */
#include "checks.h"

/* Either alone may last: that a node is dead, or that it can be reached. */
void check_no_false_death(const char *who, const char *whom,
                          int64_t held_dead_us, int64_t reachable_us,
                          struct verdict *verdict)
{
    int64_t wrong_us =
        held_dead_us < reachable_us ? held_dead_us : reachable_us;
    if (wrong_us > FALSE_DEATH_US_MAX)
        verdict_stuck(verdict, "no-false-death",
                      "%s holds %s for dead, which could be reached for %.1f s",
                      who, whom, (double)wrong_us / 1e6);
}
