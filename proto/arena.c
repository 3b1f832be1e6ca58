/* SPDX-License-Identifier: MIT */
#include "proto/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/assert.h"

enum {
    /* One page holds the usual message; doubling up to 64 KiB keeps the number
     * of chunks of a large one small and what a chunk's end wastes bounded. */
    CHUNK_BYTES_MIN = 4096,
    CHUNK_BYTES_MAX = 64 * 1024,
};

struct arena_chunk {
    struct arena_chunk *next;
    size_t size;
    _Alignas(max_align_t) uint8_t data[];
};

void arena_init(struct arena *arena, size_t budget_bytes)
{
    *arena = (struct arena){.budget = budget_bytes};
}

/* The chunk, or NULL, is the first from here on, and empty. */
static void fill(struct arena *arena, struct arena_chunk *chunk)
{
    arena->chunks = chunk;
    arena->free = chunk == NULL ? NULL : chunk->data;
    arena->room = chunk == NULL ? 0 : chunk->size;
}

static void free_chunks(struct arena_chunk *chunk)
{
    while (chunk != NULL) {
        struct arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

void arena_fini(struct arena *arena)
{
    free_chunks(arena->chunks);
    *arena = (struct arena){0};
}

void arena_reset(struct arena *arena)
{
    struct arena_chunk *first = arena->chunks;
    arena->used = 0;
    if (first == NULL)
        return;
    free_chunks(first->next);
    first->next = NULL;
    /* One huge message must not hold its memory for ever. */
    if (first->size > CHUNK_BYTES_MAX) {
        free(first);
        first = NULL;
    }
    fill(arena, first);
}

void arena_adopt(struct arena *arena, struct arena *other)
{
    /* Behind ours: the first chunk is the one that is being filled. */
    if (arena->chunks == NULL) {
        arena->free = other->free;
        arena->room = other->room;
    }
    struct arena_chunk **last = &arena->chunks;
    while (*last != NULL)
        last = &(*last)->next;
    *last = other->chunks;
    arena->used += other->used;
    arena->budget += other->budget;
    arena->refused += other->refused;
    *other = (struct arena){0};
}

static struct arena_chunk *add_chunk(struct arena *arena, size_t size)
{
    size_t chunk_size = CHUNK_BYTES_MIN;
    if (arena->chunks != NULL && arena->chunks->size < CHUNK_BYTES_MAX)
        chunk_size = arena->chunks->size * 2;
    else if (arena->chunks != NULL)
        chunk_size = CHUNK_BYTES_MAX;
    if (chunk_size > CHUNK_BYTES_MAX)
        chunk_size = CHUNK_BYTES_MAX;
    if (chunk_size < size)
        chunk_size = size;
    struct arena_chunk *chunk = malloc(sizeof *chunk + chunk_size);
    if (chunk == NULL)
        return NULL;
    chunk->size = chunk_size;
    chunk->next = arena->chunks;
    fill(arena, chunk);
    return chunk;
}

/* 0 for what cannot be had. */
static size_t round_up(size_t size)
{
    if (size > SIZE_MAX / 2)
        return 0;
    return ((size == 0 ? 1 : size) + ARENA_ALIGNMENT - 1) &
           ~(ARENA_ALIGNMENT - 1);
}

static void *take(struct arena *arena, size_t rounded)
{
    if (arena->room < rounded && add_chunk(arena, rounded) == NULL)
        return NULL;
    void *memory = arena->free;
    arena->free += rounded;
    arena->room -= rounded;
    return memory;
}

void *arena_alloc_slowly(struct arena *arena, size_t size)
{
    ASSERT(arena->used <= arena->budget);
    size_t rounded = round_up(size);
    void *memory = NULL;
    if (rounded > 0 && rounded <= arena->budget - arena->used)
        memory = take(arena, rounded);
    if (memory == NULL)
        arena->refused++;
    else
        arena->used += rounded;
    return memory;
}

void *arena_alloc_uncharged(struct arena *arena, size_t size)
{
    size_t rounded = round_up(size);
    return rounded == 0 ? NULL : take(arena, rounded);
}

void *arena_zalloc(struct arena *arena, size_t size)
{
    void *memory = arena_alloc(arena, size);
    if (memory != NULL)
        memset(memory, 0, size);
    return memory;
}

void *arena_copy(struct arena *arena, const void *data, size_t size)
{
    void *memory = arena_alloc(arena, size);
    if (memory != NULL && size > 0)
        memcpy(memory, data, size);
    return memory;
}

char *arena_string(struct arena *arena, const char *string)
{
    return arena_copy(arena, string, strlen(string) + 1);
}

static void *allocator_alloc(void *data, size_t size)
{
    return arena_alloc(data, size);
}

static void allocator_free(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

ProtobufCAllocator arena_allocator(struct arena *arena)
{
    return (ProtobufCAllocator){.alloc = allocator_alloc,
                                .free = allocator_free,
                                .allocator_data = arena};
}
