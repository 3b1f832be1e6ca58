/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_MANIFEST_H
#define REPLIKV_ENGINES_LSM_MANIFEST_H

#include "engines/lsm/file.h"

/* Which files are the store. The file MANIFEST is replaced as a whole: a new
 * one is written and synced beside it, renamed over it, and the directory is
 * synced. A log of edits would write less, but a store has tens of tables, not
 * thousands, and a whole file has no tail to tear. */
struct manifest_table {
    uint64_t number;
    unsigned tier;
};

struct manifest {
    uint64_t next_file;  /* files made since may have greater numbers */
    uint64_t log_number; /* logs from this number on are replayed */
    uint64_t sequence;   /* the last one in any table */
    struct manifest_table *tables; /* newest data first */
    size_t table_count;
};

/* NOT_FOUND if the store has none. tables is owned by the manifest. */
enum status manifest_read(const char *directory,
                          struct manifest *manifest) MUST_CHECK;
/* On failure the old one or the new one is in place. */
enum status manifest_write(const char *directory,
                           const struct manifest *manifest) MUST_CHECK;
void manifest_fini(struct manifest *manifest);

#endif
