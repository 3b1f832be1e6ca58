/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_CLOCK_H
#define REPLIKV_PROTO_CLOCK_H

#include <stdint.h>
#include <time.h>

/* The clocks of the edges. It is no part of rkv_proto, which is pure: the
 * core is told the time. */

static inline int64_t clock_us(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static inline int64_t clock_ms(clockid_t id)
{
    return clock_us(id) / 1000;
}

/* What deadlines and intervals are measured by: it is never set back. */
static inline int64_t clock_now_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

static inline int64_t clock_now_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

#endif
