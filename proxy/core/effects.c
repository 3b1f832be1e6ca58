/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proxy/core/event.h"

void effects_init(struct effects *effects, size_t budget_bytes)
{
    *effects = (struct effects){0};
    arena_init(&effects->arena, budget_bytes);
    outbox_init(&effects->out, &effects->arena);
}

void effects_fini(struct effects *effects)
{
    arena_fini(&effects->arena);
    *effects = (struct effects){0};
}

void effects_reset(struct effects *effects)
{
    arena_reset(&effects->arena);
    outbox_init(&effects->out, &effects->arena);
    effects->storage = NULL;
    effects->storage_count = effects->storage_capacity = 0;
    effects->renew_incarnation = effects->hang_up = false;
    effects->halt = effects->log = NULL;
}

bool effects_storage(struct effects *effects, const struct storage_op *op)
{
    if (effects->storage_count == effects->storage_capacity) {
        size_t capacity =
            effects->storage_capacity == 0 ? 8 : effects->storage_capacity * 2;
        struct storage_op *grown =
            arena_alloc(&effects->arena, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        if (effects->storage_count > 0)
            memcpy(grown, effects->storage,
                   effects->storage_count * sizeof *grown);
        effects->storage = grown;
        effects->storage_capacity = capacity;
    }
    effects->storage[effects->storage_count++] = *op;
    return true;
}
