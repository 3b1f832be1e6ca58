/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_MEMTABLE_H
#define REPLIKV_ENGINES_LSM_MEMTABLE_H

#include <stdatomic.h>

#include "engines/lsm/chunk.h"
#include "engines/lsm/coding.h"

/* What was written and is not yet in a table: a skip list (Pugh, 1990) over an
 * arena, ordered by key, then newest first, with a Bloom filter of its keys in
 * front, since most reads are of keys that are not in it. Nodes are never
 * changed or removed once linked, so one thread may add while any number read,
 * without a lock. A reader skips what is newer than its sequence; all up to it
 * must have been added before the reader took it, with an acquire (or a mutex)
 * for the writer's release. Reference-counted. */
struct memtable;
struct memtable_node;

/* With one reference; NULL: no memory. bytes_expected, of memtable_bytes, sizes
 * filter and chunks: memory is taken as it fills, at most an eighth ahead, or
 * 2 MiB. log_number: the log that its entries are in. before: one to which
 * nothing is added meanwhile, whose keys are probably like those to come; it
 * may be NULL. pool: where its memory comes from and goes to, which then lives
 * longer; it may be NULL. */
struct memtable *memtable_new(size_t bytes_expected, uint64_t log_number,
                              const struct memtable *before,
                              struct chunk_pool *pool);
void memtable_ref(struct memtable *memtable);
void memtable_unref(struct memtable *memtable); /* NULL is allowed */

/* Copies the entry, whose sequence is not that of another one of its key. Fast
 * for one that follows the one added last. From one thread at a time.
 * NO_MEMORY; TOO_LARGE: a key above 65,535 bytes, a value above UINT32_MAX. */
enum status memtable_add(struct memtable *memtable,
                         const struct entry *entry) MUST_CHECK;

/* Let what adding or getting these keys will look at come from memory: the
 * misses of one search come after one another, those of several side by
 * side. count is at most MEMTABLE_FETCH_MAX. From any thread. */
enum { MEMTABLE_FETCH_MAX = 16 };
void memtable_fetch(const struct memtable *memtable, const struct bytes *keys,
                    size_t count);

/* The newest version of key up to sequence, borrowed from the memtable; false
 * if there is none. hash is key_hash(key). */
bool memtable_get(const struct memtable *memtable, struct bytes key,
                  uint64_t hash, uint64_t sequence,
                  struct entry *entry) MUST_CHECK;

/* The newest version up to sequence of the first key at or behind `key` (seek),
 * behind the node's own (next), before `key` (seek_before; an empty key: the
 * last there is). NULL if there is none. */
const struct memtable_node *memtable_seek(const struct memtable *memtable,
                                          struct bytes key, uint64_t sequence);
const struct memtable_node *memtable_next(const struct memtable_node *node,
                                          uint64_t sequence);
const struct memtable_node *
memtable_seek_before(const struct memtable *memtable, struct bytes key,
                     uint64_t sequence);
/* Lives as long as the memtable. */
struct entry memtable_entry(const struct memtable_node *node);

/* Of its entries, with their links; the filter, a 64th of what was expected,
 * comes on top. From any thread, as the following. */
size_t memtable_bytes(const struct memtable *memtable);
uint64_t memtable_count(const struct memtable *memtable);
uint64_t memtable_log(const struct memtable *memtable);
/* The sequence of the last entry added; 0 while empty. */
uint64_t memtable_last_sequence(const struct memtable *memtable);

#endif
