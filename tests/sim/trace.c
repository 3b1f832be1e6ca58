/* SPDX-License-Identifier: MIT */
#include "trace.h"

#include <stdarg.h>
#include <stdio.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

void trace_mix(struct trace *trace, uint64_t number)
{
    trace->digest ^= number;
    trace->digest *= UINT64_C(0x9e3779b97f4a7c15);
    trace->digest ^= trace->digest >> 29;
}

void trace_mix_bytes(struct trace *trace, const void *data, size_t size)
{
    trace_mix(trace, XXH3_64bits(data, size));
}

void trace_tell(const struct trace *trace, int64_t now_us, const char *who,
                const char *format, ...)
{
    if (!trace->is_told)
        return;
    va_list arguments;
    va_start(arguments, format);
    printf("[%10.3f ms] %-3s ", (double)now_us / 1000, who);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}
