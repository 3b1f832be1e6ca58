/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_RECORD_ORDER_H
#define REPLIKV_PROTO_RECORD_ORDER_H

#include "proto/record.h"

/* The orders in which a record keeps its parts, shared by its codec, its merge
 * and its contexts. Total, so that equal records have equal encodings. Private
 * to proto/. */

static inline int actor_compare(struct actor a, struct actor b)
{
    if (a.incarnation != b.incarnation)
        return a.incarnation < b.incarnation ? -1 : 1;
    return (a.epoch > b.epoch) - (a.epoch < b.epoch);
}

static inline int dot_compare(struct dot a, struct dot b)
{
    int order = actor_compare(a.actor, b.actor);
    if (order != 0)
        return order;
    return (a.counter > b.counter) - (a.counter < b.counter);
}

static inline int request_id_compare(struct request_id a, struct request_id b)
{
    return memcmp(a.bytes, b.bytes, REQUEST_ID_SIZE);
}

static inline bool request_id_is_zero(struct request_id id)
{
    return request_id_equal(id, (struct request_id){{0}});
}

static inline int superseded_compare(const struct superseded *a,
                                     const struct superseded *b)
{
    if (a->written_ms != b->written_ms)
        return a->written_ms < b->written_ms ? -1 : 1;
    return request_id_compare(a->request, b->request);
}

/* The least upper bound of two contexts. NO_MEMORY when the arena is spent. */
enum status context_join(const struct context *a, const struct context *b,
                         struct arena *arena,
                         struct context *joined) MUST_CHECK;

/* Order count pointers in place without allocating (libc's qsort may). */
void sort_pointers(const void **items, size_t count,
                   int (*compare)(const void *, const void *));

/* Which requests were met, and where: a hash table in an arena. */
struct request_places {
    struct {
        const struct request_id *request; /* NULL: free */
        size_t place;
    } * slots;
    size_t mask;
};

/* For count requests. NO_MEMORY when the arena is spent. */
enum status request_places_init(struct request_places *places, size_t count,
                                struct arena *arena) MUST_CHECK;
/* What was noted for an equal request; 0, for the caller to change, when there
 * was none. The id is borrowed as long as the table is used. */
size_t *request_place(struct request_places *places,
                      const struct request_id *request);

#endif
