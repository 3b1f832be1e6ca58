/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proto/record.h"

void actor_source_init(struct actor_source *source, uint64_t incarnation)
{
    *source = (struct actor_source){.incarnation = incarnation};
}

/* The last entry of the incarnation, or NULL. More than one is possible where
 * a copy was lost without our noticing; the later one is then ours to extend,
 * because its epoch was begun for this key too. */
static const struct dot *find_incarnation(const struct context *context,
                                          uint64_t incarnation)
{
    for (size_t i = context->count; i-- > 0;) {
        if (context->entries[i].actor.incarnation == incarnation)
            return &context->entries[i];
    }
    return NULL;
}

struct dot actor_source_next(struct actor_source *source,
                             const struct context *own)
{
    const struct dot *last = find_incarnation(own, source->incarnation);
    /* A counter at its end cannot be reached by counting, but can be sent. */
    if (last != NULL && last->counter < UINT64_MAX)
        return (struct dot){.actor = last->actor, .counter = last->counter + 1};
    ASSERT(source->epoch < UINT32_MAX);
    source->epoch++;
    return (struct dot){
        .actor = {.incarnation = source->incarnation, .epoch = source->epoch},
        .counter = 1};
}

bool actor_source_is_behind(const struct actor_source *source,
                            const struct context *own,
                            const struct context *other)
{
    for (size_t i = 0; i < other->count; i++) {
        struct dot shown = other->entries[i];
        if (shown.actor.incarnation == source->incarnation &&
            !context_covers(own, shown))
            return true;
    }
    return false;
}
