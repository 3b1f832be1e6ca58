/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_MEMTABLE_H
#define REPLIKV_ENGINES_LSM_MEMTABLE_H

#include <stdatomic.h>

#include "engines/lsm/file.h"

/* What was written and is not yet in a table: a skip list over an arena,
 * ordered by key, then newest first. Nodes are never changed or removed once
 * linked, so one thread may add while any number read, without a lock; a
 * reader skips what is newer than its sequence. Reference-counted. */
struct memtable;
struct memtable_node;

struct memtable *memtable_new(void); /* with one reference; NULL: no memory */
void memtable_ref(struct memtable *memtable);
void memtable_unref(struct memtable *memtable);

/* Copies the entry. From one thread at a time. */
enum status memtable_add(struct memtable *memtable,
                         const struct entry *entry) MUST_CHECK;

/* The first node at or after key, with a sequence of at most `sequence` if
 * its key is the same. NULL at the end. */
const struct memtable_node *memtable_seek(const struct memtable *memtable,
                                          struct bytes key, uint64_t sequence);
const struct memtable_node *memtable_next(const struct memtable_node *node);
/* Lives as long as the memtable. */
struct entry memtable_entry(const struct memtable_node *node);

size_t memtable_bytes(const struct memtable *memtable);
uint64_t memtable_count(const struct memtable *memtable);

#endif
