/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engines/lsm/lsm.h"
#include "engines/lsm/merge.h"
#include "engines/types.h"

/* A view, which keeps all it lists alive, and a merge of it. */
struct lsm_iterator {
    struct engine_iterator iterator; /* first: what callers hold */
    struct lsm *lsm;
    struct view *view;
    struct merge merge;
    enum engine_order order;
    struct buffer bound; /* where to stop; empty: nowhere */
};

static struct lsm_iterator *iterator_of(struct engine_iterator *iterator)
{
    return (struct lsm_iterator *)(void *)iterator;
}

void lsm_iterator_free(struct engine_iterator *base)
{
    struct lsm_iterator *iterator = iterator_of(base);
    merge_fini(&iterator->merge);
    buffer_fini(&iterator->bound);
    view_unref(iterator->view);
    free(iterator);
}

enum status lsm_iterate(struct engine *engine, struct bytes from,
                        struct bytes to, enum engine_order order,
                        struct engine_iterator **result)
{
    *result = NULL;
    struct lsm_iterator *iterator = calloc(1, sizeof *iterator);
    if (iterator == NULL)
        return STATUS_NO_MEMORY;
    iterator->iterator.type = &lsm_engine_type;
    iterator->lsm = lsm_of(engine);
    iterator->order = order;
    uint64_t sequence;
    enum status status =
        lsm_snapshot(iterator->lsm, &iterator->view, &sequence);
    if (status != STATUS_OK) {
        free(iterator);
        return status;
    }
    bool forward = order == ENGINE_FORWARD;
    status = buffer_append(&iterator->bound, forward ? to : from);
    if (status == STATUS_OK)
        status =
            merge_init(&iterator->merge, view_sources(iterator->view), sequence,
                       order, TABLE_CACHED, iterator->view->version);
    if (status == STATUS_OK) {
        merge_add_view(&iterator->merge, iterator->view);
        status = merge_seek(&iterator->merge, forward ? from : to);
    }
    if (status != STATUS_OK) {
        lsm_iterator_free(&iterator->iterator);
        return status;
    }
    *result = &iterator->iterator;
    return STATUS_OK;
}

static bool is_beyond(const struct lsm_iterator *iterator, struct bytes key)
{
    struct bytes bound = buffer_bytes(&iterator->bound);
    if (bound.size == 0)
        return false;
    int order = bytes_compare(key, bound);
    return iterator->order == ENGINE_FORWARD ? order >= 0 : order < 0;
}

enum status lsm_next(struct engine_iterator *base, struct bytes *key,
                     struct bytes *value)
{
    struct lsm_iterator *iterator = iterator_of(base);
    if (iterator->lsm->broken)
        return STATUS_BROKEN;
    struct entry entry;
    do {
        enum status status = merge_next(&iterator->merge, &entry);
        if (status != STATUS_OK)
            return status;
        if (is_beyond(iterator, entry.key))
            return STATUS_NOT_FOUND;
    } while (entry.removed);
    *key = entry.key;
    *value = entry.value;
    return STATUS_OK;
}
