/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <stdbool.h>
#include <stdlib.h>

#include "proto/assert.h"

static bool is_before(const struct moment *a, const struct moment *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void swap(struct queue *queue, size_t a, size_t b)
{
    struct moment kept = queue->heap[a];
    queue->heap[a] = queue->heap[b];
    queue->heap[b] = kept;
}

void queue_fini(struct queue *queue)
{
    free(queue->heap);
    *queue = (struct queue){0};
}

void queue_push(struct queue *queue, struct moment moment)
{
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity * 2 + 256;
        queue->heap =
            realloc(queue->heap, queue->capacity * sizeof *queue->heap);
        ASSERT(queue->heap != NULL);
    }
    moment.order = ++queue->order;
    size_t at = queue->count++;
    queue->heap[at] = moment;
    while (at > 0 && is_before(&queue->heap[at], &queue->heap[(at - 1) / 2])) {
        swap(queue, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

struct moment queue_pop(struct queue *queue)
{
    ASSERT(queue->count > 0);
    struct moment first = queue->heap[0];
    queue->heap[0] = queue->heap[--queue->count];
    for (size_t at = 0;;) {
        size_t child = 2 * at + 1;
        if (child >= queue->count)
            return first;
        if (child + 1 < queue->count &&
            is_before(&queue->heap[child + 1], &queue->heap[child]))
            child++;
        if (!is_before(&queue->heap[child], &queue->heap[at]))
            return first;
        swap(queue, at, child);
        at = child;
    }
}
