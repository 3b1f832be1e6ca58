/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_MANIFEST_H
#define REPLIKV_ENGINES_LSM_MANIFEST_H

#include "engines/lsm/disk.h"
#include "engines/lsm/version.h"

/* Which files are the store: the file MANIFEST, 20 bytes a table, written anew
 * for each version beside the old one and renamed over it, so that a version is
 * there as a whole or not. A journal of edits would write less and read worse;
 * even 10 GB of tables of 16 MiB make but 12 KB here, in the background, a few
 * times a second at most, and for each range that is dropped. */

struct manifest_table {
    uint64_t number;
    unsigned level;
    uint64_t drops_applied;
};

struct manifest {
    uint64_t next_file;
    uint64_t log_number; /* of the first log that is not in tables */
    uint64_t sequence;   /* at least that of everything in tables and drops */
    struct manifest_table *tables; /* level by level, in the level's order */
    size_t table_count;
    struct dropped_range *drops; /* their bytes point into content */
    size_t drop_count;
    struct buffer content;
};

/* NOT_FOUND if there is none; CORRUPT. Zeroed or read, it wants a fini. */
enum status manifest_read(struct disk *disk,
                          struct manifest *manifest) MUST_CHECK;
void manifest_fini(struct manifest *manifest);

/* Make version the store's, durably, with the names of all files made so far.
 * On failure the old one or the new one is in place. */
enum status manifest_write(struct disk *disk, const struct version *version,
                           uint64_t next_file, uint64_t log_number,
                           uint64_t sequence) MUST_CHECK;

#endif
