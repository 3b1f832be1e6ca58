/* SPDX-License-Identifier: MIT */
#include "engines/lsm/view.h"

#include <stdlib.h>

struct view *view_new(struct memtable *active, struct memtable *frozen,
                      struct table *const *tables, size_t table_count)
{
    struct view *view = calloc(1, sizeof *view);
    if (view == NULL)
        return NULL;
    view->tables = calloc(table_count + 1, sizeof(struct table *));
    if (view->tables == NULL) {
        free(view);
        return NULL;
    }
    atomic_init(&view->references, 1);
    view->active = active;
    view->frozen = frozen;
    view->table_count = table_count;
    memtable_ref(active);
    if (frozen != NULL)
        memtable_ref(frozen);
    for (size_t i = 0; i < table_count; i++) {
        view->tables[i] = tables[i];
        table_ref(tables[i]);
    }
    return view;
}

void view_ref(struct view *view)
{
    atomic_fetch_add(&view->references, 1);
}

void view_unref(struct view *view)
{
    if (view == NULL || atomic_fetch_sub(&view->references, 1) != 1)
        return;
    memtable_unref(view->active);
    memtable_unref(view->frozen);
    for (size_t i = 0; i < view->table_count; i++)
        table_unref(view->tables[i]);
    free(view->tables);
    free(view);
}

static bool is_among(const struct table *table, struct table *const *tables,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (tables[i] == table)
            return true;
    }
    return false;
}

struct view *view_replace(const struct view *view, struct memtable *frozen,
                          struct table *const *removed, size_t removed_count,
                          struct table *added)
{
    struct table **tables =
        calloc(view->table_count + 1, sizeof(struct table *));
    if (tables == NULL)
        return NULL;
    size_t count = 0;
    if (removed_count == 0 && added != NULL) {
        tables[count++] = added;
        added = NULL;
    }
    for (size_t i = 0; i < view->table_count; i++) {
        if (!is_among(view->tables[i], removed, removed_count)) {
            tables[count++] = view->tables[i];
        } else if (added != NULL) {
            tables[count++] = added;
            added = NULL;
        }
    }
    struct view *next = view_new(view->active, frozen, tables, count);
    free(tables);
    return next;
}
