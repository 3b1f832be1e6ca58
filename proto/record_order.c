/* SPDX-License-Identifier: MIT */
#include "proto/record_order.h"

/* Heapsort: libc's qsort may allocate, and a hostile record must not make it
 * quadratic. */
static void sift_down(const void **items, size_t root, size_t count,
                      int (*compare)(const void *, const void *))
{
    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= count)
            return;
        if (child + 1 < count && compare(items[child], items[child + 1]) < 0)
            child++;
        if (compare(items[root], items[child]) >= 0)
            return;
        const void *item = items[root];
        items[root] = items[child];
        items[child] = item;
        root = child;
    }
}

void sort_pointers(const void **items, size_t count,
                   int (*compare)(const void *, const void *))
{
    for (size_t i = count / 2; i-- > 0;)
        sift_down(items, i, count, compare);
    for (size_t i = count; i > 1; i--) {
        const void *item = items[0];
        items[0] = items[i - 1];
        items[i - 1] = item;
        sift_down(items, 0, i - 1, compare);
    }
}

enum status request_places_init(struct request_places *places, size_t count,
                                struct arena *arena)
{
    size_t size = 4;
    while (size < 2 * count)
        size *= 2;
    places->mask = size - 1;
    places->slots = arena_zalloc(arena, size * sizeof *places->slots);
    return places->slots == NULL ? STATUS_NO_MEMORY : STATUS_OK;
}

size_t *request_place(struct request_places *places,
                      const struct request_id *request)
{
    /* Fibonacci hashing: whatever bits of an id differ, the top ones of the
     * product do. */
    uint64_t halves[2];
    memcpy(halves, request->bytes, sizeof halves);
    uint64_t hash =
        (halves[0] ^ (halves[1] << 32 | halves[1] >> 32)) * 0x9e3779b97f4a7c15;
    size_t at = (hash >> 32) & places->mask;
    while (places->slots[at].request != NULL &&
           !request_id_equal(*places->slots[at].request, *request))
        at = (at + 1) & places->mask;
    places->slots[at].request = request;
    return &places->slots[at].place;
}
