/* SPDX-License-Identifier: MIT */
#include "engines/lsm/chunk.h"

#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Aligned, so that it is one huge page where the system has them. */
static struct chunk *map_chunk(void)
{
    size_t size = CHUNK_BYTES_MAX;
    uint8_t *area = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        return NULL;
    size_t before = size - (uintptr_t)area % size;
    (void)munmap(area, before);
    area += before;
    if (before < size)
        (void)munmap(area + size, size - before);
    (void)madvise(area, size, MADV_HUGEPAGE);
    return (struct chunk *)area;
}

/* NULL: nothing is kept. */
static struct chunk *take(struct chunk_pool *pool, bool rests)
{
    pthread_mutex_lock(&pool->mutex);
    pool->rests = rests;
    struct chunk *chunk = pool->kept;
    if (chunk != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(chunk + 1, CHUNK_BYTES_MAX - sizeof *chunk);
        pool->kept = chunk->previous;
        pool->bytes -= CHUNK_BYTES_MAX;
    }
    pthread_mutex_unlock(&pool->mutex);
    return chunk;
}

static bool keep(struct chunk_pool *pool, struct chunk *chunk)
{
    pthread_mutex_lock(&pool->mutex);
    bool has_room =
        !pool->rests && pool->bytes + CHUNK_BYTES_MAX <= pool->bytes_max;
    if (has_room) {
        chunk->previous = pool->kept;
        pool->kept = chunk;
        pool->bytes += CHUNK_BYTES_MAX;
        /* Whose memtable is gone must not be looked at. */
        ASAN_POISON_MEMORY_REGION(chunk + 1, CHUNK_BYTES_MAX - sizeof *chunk);
    }
    pthread_mutex_unlock(&pool->mutex);
    return has_room;
}

struct chunk *chunk_new(struct chunk_pool *pool, size_t size)
{
    bool mapped = size == CHUNK_BYTES_MAX;
    struct chunk *chunk = NULL;
    if (mapped && pool != NULL)
        chunk = take(pool, false);
    if (chunk == NULL)
        chunk = mapped ? map_chunk() : malloc(size);
    if (chunk != NULL)
        *chunk = (struct chunk){
            .used = sizeof *chunk, .size = size, .mapped = mapped};
    return chunk;
}

void chunk_free(struct chunk_pool *pool, struct chunk *chunk)
{
    if (!chunk->mapped)
        free(chunk);
    else if (pool == NULL || !keep(pool, chunk))
        (void)munmap(chunk, CHUNK_BYTES_MAX);
}

void chunk_pool_init(struct chunk_pool *pool, size_t bytes_max)
{
    *pool = (struct chunk_pool){.bytes_max = bytes_max};
    pthread_mutex_init(&pool->mutex, NULL);
}

void chunk_pool_rest(struct chunk_pool *pool)
{
    struct chunk *chunk;
    while ((chunk = take(pool, true)) != NULL)
        (void)munmap(chunk, CHUNK_BYTES_MAX);
}

void chunk_pool_fini(struct chunk_pool *pool)
{
    chunk_pool_rest(pool);
    pthread_mutex_destroy(&pool->mutex);
}

size_t chunk_pool_bytes(struct chunk_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    size_t bytes = pool->bytes;
    pthread_mutex_unlock(&pool->mutex);
    return bytes;
}
