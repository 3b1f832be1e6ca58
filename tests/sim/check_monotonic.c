/* SPDX-License-Identifier: MIT */
#include "checks.h"

static struct view_dot *find(struct read_floor *floor,
                             const struct view_dot *dot)
{
    for (size_t i = 0; i < floor->count; i++)
        if (floor->dots[i].incarnation == dot->incarnation &&
            floor->dots[i].epoch == dot->epoch)
            return &floor->dots[i];
    if (floor->count == FLOOR_DOTS_MAX)
        return NULL; /* it asks for less than it could */
    floor->dots[floor->count] = *dot;
    floor->dots[floor->count].counter = 0;
    return &floor->dots[floor->count++];
}

void floor_raise(struct read_floor *floor, const struct record_view *context)
{
    for (size_t i = 0; i < context->context_count; i++) {
        const struct view_dot *shown = &context->context[i];
        struct view_dot *dot = find(floor, shown);
        if (dot != NULL && dot->counter < shown->counter)
            dot->counter = shown->counter;
    }
}

void floor_forget(struct read_floor *floor, const struct read_floor *forgotten)
{
    for (size_t i = 0; i < floor->count; i++)
        if (view_counter(forgotten->dots, forgotten->count, &floor->dots[i]) >=
            floor->dots[i].counter)
            floor->dots[i].counter = 0;
}

static void check_floor(const char *invariant, const char *known, uint32_t key,
                        const struct read_floor *floor,
                        const struct record_view *context,
                        struct verdict *verdict)
{
    for (size_t i = 0; i < floor->count; i++) {
        const struct view_dot *dot = &floor->dots[i];
        uint64_t shown =
            view_counter(context->context, context->context_count, dot);
        if (shown < dot->counter)
            verdict_unsafe(verdict, invariant,
                           "key %u: a read shows (%016llx, %u) at %llu, and "
                           "%llu was known to %s before it began",
                           key, (unsigned long long)dot->incarnation,
                           dot->epoch, (unsigned long long)shown,
                           (unsigned long long)dot->counter, known);
    }
}

void check_monotonic_quorum(uint32_t key, const struct read_floor *floor,
                            const struct record_view *context,
                            struct verdict *verdict)
{
    check_floor("monotonic-quorum", "a quorum", key, floor, context, verdict);
}

void check_session(uint32_t key, const struct read_floor *seen,
                   const struct record_view *context, struct verdict *verdict)
{
    check_floor("session", "its client", key, seen, context, verdict);
}
