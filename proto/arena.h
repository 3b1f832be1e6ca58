/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_ARENA_H
#define REPLIKV_PROTO_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

/* Memory that is given back all at once, within a budget.
 *
 * A bump allocator over a list of chunks. What it returns lives until
 * arena_reset or arena_fini; nothing is freed alone. It is how a message is
 * unpacked (1 MiB of empty submessages would unpack to 100 MiB of heap
 * otherwise) and where the effects of a step live. Not thread-safe. */
struct arena {
    struct arena_chunk *chunks;
    /* What is left of the first chunk, whole alignments. */
    uint8_t *free;
    size_t room;
    size_t used;
    size_t budget;
    /* Allocations that were refused, since arena_init. */
    size_t refused;
};

/* malloc's promise: aligned for any type. */
#define ARENA_ALIGNMENT _Alignof(max_align_t)

void arena_init(struct arena *arena, size_t budget_bytes);
void arena_fini(struct arena *arena);

/* Forget all that was allocated; one chunk is kept for the next round. The
 * budget may be changed when nothing is allocated. */
void arena_reset(struct arena *arena);

/* Take over all that other holds, which lives on here, and its budget. other
 * is left empty, without a budget. */
void arena_adopt(struct arena *arena, struct arena *other);

/* arena_alloc, whatever it takes. */
void *arena_alloc_slowly(struct arena *arena, size_t size);

/* Aligned for any type, not zeroed. NULL once the budget is spent or memory
 * cannot be had. size 0 is allowed and returns a unique pointer. */
static inline void *arena_alloc(struct arena *arena, size_t size)
{
    /* A step allocates some fifty times, so what fits is inline. */
    if (size <= arena->room && size > 0) {
        size_t rounded = (size + ARENA_ALIGNMENT - 1) & ~(ARENA_ALIGNMENT - 1);
        if (rounded <= arena->budget - arena->used) {
            void *memory = arena->free;
            arena->free += rounded;
            arena->room -= rounded;
            arena->used += rounded;
            return memory;
        }
    }
    return arena_alloc_slowly(arena, size);
}

/* The same, zeroed. */
void *arena_zalloc(struct arena *arena, size_t size);
/* Beside the budget: for what must not fail for lack of it and is bounded
 * elsewhere. NULL only when memory cannot be had. */
void *arena_alloc_uncharged(struct arena *arena, size_t size);
/* A copy of size bytes. NULL as above. */
void *arena_copy(struct arena *arena, const void *data, size_t size);
/* A copy of a string with its end. NULL as above. */
char *arena_string(struct arena *arena, const char *string);

/* For protobuf_c_message_unpack: frees are ignored. Valid while arena is. */
ProtobufCAllocator arena_allocator(struct arena *arena);

#endif
