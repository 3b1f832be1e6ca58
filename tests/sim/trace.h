/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_TRACE_H
#define REPLIKV_TESTS_SIM_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The story of a run, and a digest of all that happened in it. The digest
 * covers the bytes of every message, so equal digests mean equal runs; the
 * story is only written when somebody reads it. */
struct trace {
    bool is_told;
    uint64_t digest;
};

void trace_mix(struct trace *trace, uint64_t number);
void trace_mix_bytes(struct trace *trace, const void *data, size_t size);
/* One line: when, who, what. */
void trace_tell(const struct trace *trace, int64_t now_us, const char *who,
                const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
