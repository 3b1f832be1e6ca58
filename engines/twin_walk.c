/* SPDX-License-Identifier: MIT */
#include "engines/twin.h"

#include <stdlib.h>

/* What one of the two has next. */
struct ahead {
    struct engine_iterator *iterator;
    bool known; /* status and row are of the next key, not yet taken */
    enum status status;
    struct bytes key, value;
};

struct twin_walk {
    struct engine_iterator base; /* first: what callers hold */
    struct twin *twin;
    enum engine_order order;
    struct ahead ahead[TWIN_BOTH];
};

enum status twin_walk_new(struct twin *twin, struct bytes from, struct bytes to,
                          enum engine_order order, struct twin_walk **out)
{
    *out = NULL;
    struct twin_walk *walk = calloc(1, sizeof *walk);
    if (walk == NULL)
        return STATUS_NO_MEMORY;
    walk->base.type = twin->base.type;
    walk->twin = twin;
    walk->order = order;
    pthread_mutex_lock(&twin->writes);
    enum status status =
        engine_iterate(twin->inner[TWIN_FIRST], from, to, order,
                       &walk->ahead[TWIN_FIRST].iterator);
    if (status == STATUS_OK) {
        status = engine_iterate(twin->inner[TWIN_SECOND], from, to, order,
                                &walk->ahead[TWIN_SECOND].iterator);
        twin_heard(twin, status, NULL);
    }
    pthread_mutex_unlock(&twin->writes);
    if (status == STATUS_OK)
        *out = walk;
    else
        twin_walk_free(walk);
    return status;
}

void twin_walk_free(struct twin_walk *walk)
{
    for (int i = 0; i < TWIN_BOTH; i++)
        engine_iterator_free(walk->ahead[i].iterator);
    free(walk);
}

static void look_ahead(struct ahead *ahead)
{
    if (!ahead->known)
        ahead->status =
            engine_next(ahead->iterator, &ahead->key, &ahead->value);
    ahead->known = true;
}

/* Below 0: the first's key comes first, or the second has none any more. */
static int order_of(const struct twin_walk *walk)
{
    const struct ahead *first = &walk->ahead[TWIN_FIRST];
    const struct ahead *second = &walk->ahead[TWIN_SECOND];
    if (second->status != STATUS_OK)
        return -1;
    if (first->status != STATUS_OK)
        return 1;
    int order = bytes_compare(first->key, second->key);
    return walk->order == ENGINE_BACKWARD ? -order : order;
}

enum status twin_walk_next(struct twin_walk *walk, struct twin_row *row)
{
    struct ahead *first = &walk->ahead[TWIN_FIRST];
    struct ahead *second = &walk->ahead[TWIN_SECOND];
    look_ahead(first);
    if (!twin_answers(first->status))
        return first->status;
    look_ahead(second);
    twin_heard(walk->twin, second->status, NULL);
    if (first->status != STATUS_OK && second->status != STATUS_OK)
        return STATUS_NOT_FOUND;
    int order = order_of(walk);
    const struct ahead *at = order > 0 ? second : first;
    *row = (struct twin_row){
        .key = at->key, .value = at->value, .in_first = order <= 0};
    if (twin_answers(second->status))
        row->how =
            twin_how(order <= 0 ? STATUS_OK : STATUS_NOT_FOUND, first->value,
                     order >= 0 ? STATUS_OK : STATUS_NOT_FOUND, second->value);
    /* An end stays known, as does the row that is not this one. */
    first->known = order > 0;
    second->known = order < 0;
    return STATUS_OK;
}

enum status twin_iterate(struct engine *engine, struct bytes from,
                         struct bytes to, enum engine_order order,
                         struct engine_iterator **iterator)
{
    struct twin *twin = twin_of(engine);
    struct twin_walk *walk;
    if (atomic_load(&twin->state) == TWIN_SAME) {
        enum status status = twin_walk_new(twin, from, to, order, &walk);
        if (status == STATUS_OK)
            *iterator = &walk->base;
        if (status == STATUS_OK || atomic_load(&twin->state) != TWIN_OUT)
            return status;
    }
    /* Nothing to compare: its own iterator. */
    return engine_iterate(twin->inner[TWIN_FIRST], from, to, order, iterator);
}

enum status twin_next(struct engine_iterator *iterator, struct bytes *key,
                      struct bytes *value)
{
    struct twin_walk *walk = (struct twin_walk *)iterator;
    struct twin_row row;
    enum status status;
    do {
        status = twin_walk_next(walk, &row);
        if (status == STATUS_OK && row.how != NULL)
            twin_differs(walk->twin, row.key, row.how);
    } while (status == STATUS_OK && !row.in_first);
    if (status == STATUS_OK) {
        *key = row.key;
        *value = row.value;
    }
    return status;
}

void twin_iterator_free(struct engine_iterator *iterator)
{
    twin_walk_free((struct twin_walk *)iterator);
}
