/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_RUN_H
#define REPLIKV_ENGINES_LSM_RUN_H

#include "engines/lsm/coding.h"

/* Entries in the order in which they came, then, sorted, by key and of one key
 * the newest first: what recovery makes of logs. Nobody reads them before they
 * are a table, so they are sorted once and not kept sorted, in less than half
 * of the time that a memtable takes. Zeroed memory is an empty run; not
 * thread-safe. */
struct run {
    struct run_item *items;
    size_t count, capacity;
    struct buffer data; /* keys, each with its value behind it */
};

/* Copies the entry. NO_MEMORY. Not after run_sort. */
enum status run_add(struct run *run, const struct entry *entry) MUST_CHECK;
/* The memory that it takes, about. */
size_t run_size(const struct run *run);
void run_sort(struct run *run);
/* The at-th of a sorted run, borrowed until it is cleared. */
struct entry run_entry(const struct run *run, size_t at);
/* Empty, and keeps its memory. */
void run_clear(struct run *run);
void run_fini(struct run *run);

#endif
