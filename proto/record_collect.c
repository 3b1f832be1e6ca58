/* SPDX-License-Identifier: MIT */
#include "proto/record.h"
#include "proto/record_order.h"

/* Fewer entries that nothing needs are not worth a round. */
enum { FOLD_ENTRIES_MIN = 4 };

/* From when on it is of no use: a tombstone when no retry of what it replaced
 * can come, a value when it has expired, too. In lww a write that comes behind
 * has to have a higher stamp, which only the clocks see to then. -1: never. */
static int64_t ripe_ms(const struct record *record, const struct value *value)
{
    if (!value->tombstone && value->expires_ms == 0)
        return -1;
    int64_t ripe = value->written_ms;
    int64_t stamped = (int64_t)(value->stamp >> 16);
    if (value->expires_ms > ripe)
        ripe = value->expires_ms;
    if (record->kind == RECORD_LWW && stamped > ripe)
        ripe = stamped;
    return ripe;
}

/* A live value stays, and so does what is young. */
static bool value_is_ripe(const struct record *record,
                          const struct value *value, int64_t before_ms)
{
    int64_t ripe = ripe_ms(record, value);
    return ripe >= 0 && ripe < before_ms;
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

/* NULL for no memory. left has its values and superseded entries. */
static struct dot *fold(const struct context *context, struct record *left,
                        struct arena *arena)
{
    struct dot *kept = arena_alloc(arena, context->count * sizeof *kept);
    if (kept == NULL)
        return NULL;
    size_t count = 0;
    for (size_t i = 0; i < context->count; i++)
        if (has_actor(left, context->entries[i].actor))
            kept[count++] = context->entries[i];
    left->context = (struct context){.entries = kept, .count = count};
    return kept;
}

static size_t count_foldable(const struct record *record)
{
    size_t count = 0;
    for (size_t i = 0; i < record->context.count; i++)
        count += !has_actor(record, record->context.entries[i].actor);
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
        if (!value_is_ripe(record, &record->values[i], before_ms))
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

int64_t record_ripe_ms(const struct record *record)
{
    if (record->value_count == 0)
        return 0;
    int64_t first = -1;
    for (size_t i = 0; i < record->value_count; i++) {
        int64_t ripe = ripe_ms(record, &record->values[i]);
        if (ripe >= 0 && (first < 0 || ripe < first))
            first = ripe;
    }
    if (first >= 0 ||
        record->context.count <= record->value_count + FOLD_ENTRIES_MIN)
        return first;
    struct record alone = *record;
    alone.superseded_count = 0;
    return count_foldable(&alone) >= FOLD_ENTRIES_MIN ? 0 : -1;
}
