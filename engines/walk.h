/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_WALK_H
#define REPLIKV_ENGINES_WALK_H

#include <stdlib.h>

#include "engines/engine.h"

/* What the iterators of most engines begin with. The bounds are copies in the
 * allocation of the walk. */
struct walk {
    struct engine_iterator base; /* first: what callers hold */
    enum engine_order order;
    struct bytes from, to; /* an empty to: no bound */
};

/* A walk that is the first member of a struct of `size` bytes, all else in it
 * zeros. free() ends it. NULL: no memory. */
static inline void *walk_new(size_t size, const struct engine_type *type,
                             struct bytes from, struct bytes to,
                             enum engine_order order)
{
    struct walk *walk = calloc(1, size + from.size + to.size);
    if (walk == NULL)
        return NULL;
    uint8_t *bounds = (uint8_t *)walk + size;
    if (from.size > 0)
        memcpy(bounds, from.data, from.size);
    if (to.size > 0)
        memcpy(bounds + from.size, to.data, to.size);
    walk->base.type = type;
    walk->order = order;
    walk->from = bytes_of(bounds, from.size);
    walk->to = bytes_of(bounds + from.size, to.size);
    return walk;
}

/* Whether a key that the walk has got to is not beyond its end. */
static inline bool walk_has(const struct walk *walk, struct bytes key)
{
    if (walk->order == ENGINE_BACKWARD)
        return bytes_compare(key, walk->from) >= 0;
    return walk->to.size == 0 || bytes_compare(key, walk->to) < 0;
}

#endif
