/* SPDX-License-Identifier: MIT */
#include "shrink.h"

bool fault_set_has(const struct fault_set *set, uint32_t number)
{
    return number <= SHRINK_FAULTS_MAX &&
           (set->bits[number / 64] >> number % 64 & 1) != 0;
}

void fault_set_add(struct fault_set *set, uint32_t first, uint32_t last)
{
    for (uint32_t i = first; i <= last && i <= SHRINK_FAULTS_MAX; i++)
        set->bits[i / 64] |= UINT64_C(1) << i % 64;
}

/* False: there was none. */
static bool leave_out(struct fault_set *set, uint32_t first, uint32_t size)
{
    bool had = false;
    for (uint32_t i = first; i < first + size && i <= SHRINK_FAULTS_MAX; i++) {
        had |= fault_set_has(set, i);
        set->bits[i / 64] &= ~(UINT64_C(1) << i % 64);
    }
    return had;
}

void shrink(struct fault_set *needed, uint32_t count, shrink_try *still_fails,
            void *context)
{
    uint32_t size = count;
    while (size > 0) {
        bool is_less = false;
        for (uint32_t first = 1; first <= count; first += size) {
            struct fault_set fewer = *needed;
            if (!leave_out(&fewer, first, size) ||
                !still_fails(context, &fewer))
                continue;
            *needed = fewer;
            is_less = true;
        }
        if (size > 1 || !is_less)
            size /= 2;
    }
}
