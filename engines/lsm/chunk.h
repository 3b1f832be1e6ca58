/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_CHUNK_H
#define REPLIKV_ENGINES_LSM_CHUNK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What memtables are made of. The largest chunks are one huge page each where
 * the system has them: without those the page faults were a third of the time
 * of adding 100 bytes, and half of adding 1 KB. */
enum { CHUNK_BYTES_MAX = 2 * 1024 * 1024 };

struct chunk {
    struct chunk *previous; /* the owner's */
    size_t used, size;      /* this header included */
    bool mapped;
};

/* Largest chunks that a memtable gave back, for the next one. To clear a page
 * of 2 MiB takes the system half a millisecond, in which the processor may go
 * to others; who adds to a memtable waits, and with them all writes: of stalls
 * above 12 ms, at half load, these were the most. From any thread. */
struct chunk_pool {
    pthread_mutex_t mutex;
    struct chunk *kept;
    size_t bytes, bytes_max; /* of what is kept */
    bool rests;
};

void chunk_pool_init(struct chunk_pool *pool, size_t bytes_max);
void chunk_pool_fini(struct chunk_pool *pool);
/* Writes rest: the system has all of it back, and nothing more is kept until a
 * largest chunk is asked for. */
void chunk_pool_rest(struct chunk_pool *pool);
size_t chunk_pool_bytes(struct chunk_pool *pool);

/* Of size bytes, with what is behind the header undefined. NULL: no memory.
 * pool may be NULL, also when it is freed. */
struct chunk *chunk_new(struct chunk_pool *pool, size_t size);
void chunk_free(struct chunk_pool *pool, struct chunk *chunk);

#endif
