/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Loaded before a node: its wall clock is WRONG_CLOCK_S seconds ahead. */

int clock_gettime(clockid_t id, struct timespec *now)
{
    const char *ahead = getenv("WRONG_CLOCK_S");
    int failed = (int)syscall(SYS_clock_gettime, id, now);
    if (failed == 0 && id == CLOCK_REALTIME && ahead != NULL)
        now->tv_sec += atol(ahead);
    return failed;
}
