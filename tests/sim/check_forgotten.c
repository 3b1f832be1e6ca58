/* SPDX-License-Identifier: MIT */
#include "checks.h"

static bool is_covered(const struct record_view *record,
                       const struct view_value *value)
{
    for (size_t i = 0; i < value->dot_count; i++)
        if (view_counter(record->context, record->context_count,
                         &value->dots[i]) >= value->dots[i].counter)
            return true;
    return false;
}

/* In a lww bucket the higher stamp is the later one, whatever contexts say. */
static bool is_older(const struct record_view *record,
                     const struct view_value *value)
{
    if (!record->is_lww)
        return is_covered(record, value);
    for (size_t i = 0; i < record->value_count; i++)
        if (record->values[i].stamp > value->stamp)
            return true;
    return false;
}

static bool holds(const struct record_view *record, uint32_t write)
{
    for (size_t i = 0; i < record->value_count; i++)
        if (record->values[i].write == write)
            return true;
    return false;
}

void check_forgotten(uint32_t key, const struct record_view *before,
                     const struct copy *copies, size_t count,
                     struct verdict *verdict)
{
    static struct record_view view; /* large; one thread */
    for (size_t i = 0; i < count; i++) {
        if (!record_view_read(&view, copies[i].data, copies[i].size))
            continue;
        for (size_t k = 0; k < view.value_count; k++)
            if (is_older(before, &view.values[k]) &&
                !holds(before, view.values[k].write))
                verdict_unsafe(verdict, "no-resurrection",
                               "key %u: that write %u was replaced is "
                               "forgotten, and a disk still has it",
                               key, view.values[k].write);
    }
}
