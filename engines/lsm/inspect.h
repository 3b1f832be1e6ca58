/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_INSPECT_H
#define REPLIKV_ENGINES_LSM_INSPECT_H

#include "engines/lsm/log.h"
#include "engines/lsm/manifest.h"

/* To look into a store's files without opening it, for people. Nothing is
 * written or locked, so the store may be open meanwhile, in this process or
 * another. Files then come and go under the reader: a table or log that is
 * missing, or a log that is damaged, is told as such only if it still is, and
 * still counts, when the manifest and the log are read once more. A table that
 * is there does not change. */

/* Who is told what is found, each with context first. Everything is borrowed
 * for the call. A file is named without its directory. */
struct inspector {
    void *context;
    void (*manifest)(void *context, const struct manifest *manifest);
    void (*table)(void *context, unsigned level, const struct table *table);
    /* end: "ended" by an end record, so that another log follows; "open", it
     * is being written, or a crash tore what came; "empty", the same;
     * "ignored", behind an open one, so that the next open forgets it; or
     * "damaged". */
    void (*log)(void *context, const struct log_replay *replay,
                uint64_t operations, const char *end);
    /* It is no part of the store, which is no error; what says why. */
    void (*unnamed)(void *context, const char *file, const char *what);
    void (*damage)(void *context, const char *file, uint64_t offset,
                   const char *what);
    /* So many files of total were read. */
    void (*progress)(void *context, uint64_t done, uint64_t total);
    /* Of inspect_table: an entry of the block at offset. */
    void (*entry)(void *context, uint64_t offset, const struct entry *entry);
};

/* Read all of the store: the manifest, each table from level 0 on, each log
 * that counts, then tell what is unnamed. CORRUPT if there is damage, all of
 * it told. Otherwise not all was read, and error says why. */
enum status inspect_store(struct disk *disk, const struct inspector *inspector,
                          struct error *error) MUST_CHECK;
/* The same of a directory; also NOT_FOUND, INVALID (it is no store), REFUSED
 * (it is another engine's). */
enum status inspect_directory(const char *directory,
                              const struct inspector *inspector,
                              struct error *error) MUST_CHECK;

/* Tell a table and its entries, going on behind damaged blocks. CORRUPT,
 * having told the damage, or NOT_FOUND, IO, NO_MEMORY. */
enum status inspect_table(struct disk *disk, uint64_t number,
                          const struct inspector *inspector) MUST_CHECK;

enum store_file { STORE_TABLE, STORE_LOG, STORE_MANIFEST, STORE_OTHER };
/* By its name, which for tables and logs gives the number. */
enum store_file inspect_name(const char *name, uint64_t *number);

#endif
