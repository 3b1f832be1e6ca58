/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_GOSSIP_DISK_STARTS_H
#define REPLIKV_GOSSIP_DISK_STARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

/* The last times that a disk was started, each under a boot number and in a run
 * of its own. The disk remembers them and a Hello tells them, so that a copy
 * from before the last start is known however often it was started since: what
 * it says of a boot that others have seen is another run.
 *
 *   the disk:       1 a, 2 b, 3 c          seen by the others with 3 c
 *   a copy of 1 a:  1 a, 2 x, 3 y, 4 z     its 3 is another one
 *
 * Plain values, compared and copied. */

struct disk_start {
    uint64_t boot;
    uint64_t run; /* member.run; not 0 */
};

/* So many starts in a row without meeting anybody who remembers; a copy that
 * had more is not told. 512 bytes of a Hello. */
enum { DISK_STARTS_MAX = 32 };

struct disk_starts {
    struct disk_start list[DISK_STARTS_MAX]; /* by boot, the latest last */
    size_t count;
};

/* As they are stored: disk_starts_bytes. Anything else is no starts. */
void disk_starts_read(struct disk_starts *starts, struct bytes stored);
struct bytes disk_starts_bytes(const struct disk_starts *starts);
/* The start under this boot; what was noted under it or a higher one, which
 * nobody was told or which was refused, goes. */
void disk_starts_add(struct disk_starts *starts, uint64_t boot, uint64_t run);
/* Whether they say that the boot was another run. */
bool disk_starts_deny(const struct disk_starts *starts, uint64_t boot,
                      uint64_t run);

#endif
