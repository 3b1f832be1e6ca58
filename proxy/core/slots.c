/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "proto/assert.h"
#include "proxy/core/node_internal.h"

enum status slots_init(struct slots *slots, size_t count)
{
    ASSERT(count > 0 && count <= UINT16_MAX);
    *slots = (struct slots){.count = count};
    slots->free = calloc(count, sizeof *slots->free);
    if (slots->free == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        slots->free[i] = (uint16_t)(count - 1 - i);
    slots->free_count = count;
    return STATUS_OK;
}

void slots_fini(struct slots *slots)
{
    free(slots->free);
    *slots = (struct slots){0};
}

int slots_take(struct slots *slots, uint64_t *serial)
{
    if (slots->free_count == 0)
        return -1;
    int slot = slots->free[--slots->free_count];
    if ((size_t)slot >= slots->high)
        slots->high = (size_t)slot + 1;
    *serial = ++slots->serial << 16 | (uint64_t)slot;
    return slot;
}

void slots_give(struct slots *slots, uint64_t serial)
{
    ASSERT(slots->free_count < slots->count);
    slots->free[slots->free_count++] = (uint16_t)slot_of(serial);
}
