/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_PROXY_FAULT_ENGINE_H
#define REPLIKV_TESTS_PROXY_FAULT_ENGINE_H

#include "engines/engine.h"

/* The memory engine, which fails and blocks on command, and whose content
 * outlives engine_close as a disk's does. One store a process; any thread. */

/* Durable, may block. */
extern const struct engine_type fault_engine_type;
/* Never blocks, keeps nothing. */
extern const struct engine_type fault_inline_engine_type;

/* An empty disk and no faults. */
void fault_reset(void);

/* The next write fails with IO and loses its batch. */
void fault_fail_write(void);
void fault_fail_opens(bool fail);
/* What is open answers BROKEN from now on. */
void fault_break(void);
/* Reads of any key that is there fail so, and all walks; OK: no more. */
void fault_fail_reads(enum status status);

/* What is open reports damage. */
void fault_report(const char *message);

/* Writes, or reads, wait until they may go on. */
void fault_block_writes(bool block);
void fault_block_reads(bool block);
/* Wait until so many are waiting; false after 10 s. */
bool fault_wait_blocked_writes(unsigned count);
bool fault_wait_blocked_reads(unsigned count);

/* Since fault_reset. */
struct fault_counts {
    unsigned opens, open_attempts;
    unsigned writes, syncs; /* syncs: of the writes, those synced */
    size_t last_batch;      /* operations in the last write */
};
struct fault_counts fault_counts(void);
/* Wait until there are as many; false after 10 s. */
bool fault_wait_open_attempts(unsigned count);
bool fault_wait_syncs(unsigned count);

/* Directly to the disk. */
enum status fault_put(struct bytes key, struct bytes value) MUST_CHECK;

#endif
