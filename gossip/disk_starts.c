/* SPDX-License-Identifier: MIT */
#include "gossip/disk_starts.h"

#include <string.h>

void disk_starts_read(struct disk_starts *starts, struct bytes stored)
{
    size_t count = stored.size / sizeof starts->list[0];
    *starts = (struct disk_starts){.count = 0};
    if (stored.size % sizeof starts->list[0] != 0 || count > DISK_STARTS_MAX)
        return;
    if (count > 0)
        memcpy(starts->list, stored.data, stored.size);
    starts->count = count;
}

struct bytes disk_starts_bytes(const struct disk_starts *starts)
{
    return bytes_of(starts->list, starts->count * sizeof starts->list[0]);
}

void disk_starts_add(struct disk_starts *starts, uint64_t boot, uint64_t run)
{
    while (starts->count > 0 && starts->list[starts->count - 1].boot >= boot)
        starts->count--;
    if (starts->count == DISK_STARTS_MAX)
        memmove(starts->list, starts->list + 1,
                --starts->count * sizeof starts->list[0]);
    starts->list[starts->count++] =
        (struct disk_start){.boot = boot, .run = run};
}

bool disk_starts_deny(const struct disk_starts *starts, uint64_t boot,
                      uint64_t run)
{
    for (size_t i = 0; i < starts->count && run != 0; i++)
        if (starts->list[i].boot == boot && starts->list[i].run != run)
            return true;
    return false;
}
