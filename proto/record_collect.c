/* SPDX-License-Identifier: MIT */
#include "proto/record.h"
#include "proto/record_order.h"

/* Fewer entries that nothing needs are not worth a round. */
enum { FOLD_ENTRIES_MIN = 4 };

static const struct actor folds = {0};

/* A live value stays, and so does what is young: a retry of its request is
 * recognised by it. */
static bool value_is_ripe(const struct value *value, int64_t before_ms)
{
    return value_is_gone(value, before_ms) && value->written_ms < before_ms;
}

static bool has_actor(const struct record *record, struct actor actor)
{
    for (size_t i = 0; i < record->value_count; i++)
        for (size_t k = 0; k < record->values[i].dot_count; k++)
            if (actor_compare(record->values[i].dots[k].actor, actor) == 0)
                return true;
    for (size_t i = 0; i < record->superseded_count; i++)
        if (actor_compare(record->superseded[i].dot.actor, actor) == 0)
            return true;
    return false;
}

static bool is_foldable(const struct record *record, struct actor actor)
{
    return actor_compare(actor, folds) != 0 && !has_actor(record, actor);
}

/* NULL for no memory. left has its values and superseded entries. */
static struct dot *fold(const struct context *context, struct record *left,
                        struct arena *arena)
{
    struct dot *kept = arena_alloc(arena, (context->count + 1) * sizeof *kept);
    if (kept == NULL)
        return NULL;
    /* The first of all, and how often so far. */
    size_t count = 1;
    kept[0] = (struct dot){.actor = folds,
                           .counter = context_counter(context, folds) + 1};
    for (size_t i = 0; i < context->count; i++)
        if (actor_compare(context->entries[i].actor, folds) != 0 &&
            has_actor(left, context->entries[i].actor))
            kept[count++] = context->entries[i];
    left->context = (struct context){.entries = kept, .count = count};
    return kept;
}

static size_t count_foldable(const struct record *record)
{
    size_t count = 0;
    for (size_t i = 0; i < record->context.count; i++)
        count += is_foldable(record, record->context.entries[i].actor);
    return count;
}

bool record_collect(const struct record *record, int64_t before_ms,
                    struct arena *arena, struct record *left)
{
    *left = *record;
    struct value *values =
        arena_alloc(arena, record->value_count * sizeof *values);
    struct superseded *superseded =
        arena_alloc(arena, record->superseded_count * sizeof *superseded);
    if (values == NULL || superseded == NULL)
        return false;
    left->values = values;
    left->superseded = superseded;
    left->value_count = left->superseded_count = 0;
    for (size_t i = 0; i < record->value_count; i++)
        if (!value_is_ripe(&record->values[i], before_ms))
            values[left->value_count++] = record->values[i];
    for (size_t i = 0; i < record->superseded_count; i++)
        if (record->superseded[i].written_ms >= before_ms)
            superseded[left->superseded_count++] = record->superseded[i];
    if (left->value_count == 0 && left->superseded_count == 0) {
        left->context = (struct context){0};
        return true;
    }
    if (left->value_count == record->value_count &&
        count_foldable(left) < FOLD_ENTRIES_MIN)
        return false;
    return fold(&record->context, left, arena) != NULL;
}

bool record_is_collectable(const struct record *record)
{
    for (size_t i = 0; i < record->value_count; i++)
        if (record->values[i].tombstone || record->values[i].expires_ms != 0)
            return true;
    return record->context.count > record->value_count + FOLD_ENTRIES_MIN &&
           count_foldable(&(struct record){
               .context = record->context,
               .values = record->values,
               .value_count = record->value_count}) >= FOLD_ENTRIES_MIN;
}

bool context_is_folded(const struct context *context,
                       const struct context *later, struct actor actor)
{
    return context_counter(later, actor) == 0 &&
           context_counter(later, folds) > context_counter(context, folds);
}
