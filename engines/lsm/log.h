/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_LOG_H
#define REPLIKV_ENGINES_LSM_LOG_H

#include "engines/engine.h"
#include "engines/lsm/coding.h"
#include "engines/lsm/disk.h"

/* The write-ahead log: a record per group of batches, some of a large one, so
 * that a batch is there or not. FORMAT.md says what may lie behind the records,
 * and how far a reader tells damage to what had been synced from the torn end
 * of a crash.
 *
 * A log's file is used again when its memtable has become a table: syncing
 * what is overwritten costs 95 us here, what makes a file grow 165, since the
 * latter writes the file system's journal too. A new log that is synced often
 * is therefore filled with zeros ahead of its records.
 *
 * Not thread-safe, but for log_sync beside log_begin and log_put. */
struct log {
    struct disk_file *file; /* NULL: closed */
    uint64_t number;
    uint64_t size;     /* of the records */
    uint64_t synced;   /* of size */
    uint64_t prepared; /* of the file: written before, if only with zeros */
    /* All logs before this one are; log_sync sets it, and its owner may, who
     * knows. Until then nothing in this log says that anything was synced. */
    bool predecessors_synced;
    struct buffer record; /* being encoded */
};

/* The name of log `number`, in name. */
enum { LSM_NAME_MAX = 32 };
void log_name(char name[LSM_NAME_MAX], uint64_t number);

/* Make log `number`, durably; with a recycled number, out of that log's file,
 * which is not needed any more and not open. After a crash or a failure the log
 * is there, and empty, or not; a recycled one is left under one of the names.
 */
enum status log_create(struct log *log, struct disk *disk, uint64_t number,
                       uint64_t recycled) MUST_CHECK; /* recycled 0: none */
/* Safe on a closed log. The file stays. */
void log_close(struct log *log);

/* Encode a record: begin, any number of puts, append. sequence is the first
 * operation's, and never below that behind the last one of the record before.
 * A put answers TOO_LARGE if the record would pass 4 GiB. A record that was
 * begun may be given up by beginning another. */
enum status log_begin(struct log *log, uint64_t sequence) MUST_CHECK;
enum status log_put(struct log *log,
                    const struct batch_operation *operation) MUST_CHECK;
/* Write the record, which holds an operation. synced_soon: log_sync follows.
 * After a failure of log_append, log_end or log_sync the log must not be used
 * further. */
enum status log_append(struct log *log, bool synced_soon) MUST_CHECK;
/* Append the end record, with which nothing follows in this log: it takes no
 * memory any more. Log `next`, which follows, is there durably. */
enum status log_end(struct log *log, uint64_t next) MUST_CHECK;
/* Make what was appended last. The caller has synced all logs before. */
enum status log_sync(struct log *log) MUST_CHECK;

struct log_replay {
    uint64_t number;
    uint64_t size;     /* of the sound records, the end record included */
    uint64_t synced;   /* of size, as far as the records say */
    bool ended;        /* with an end record */
    uint64_t next;     /* the log that this names; 0: none */
    bool claims;       /* a record says that logs before it were synced */
    bool damaged;      /* behind size is something bad that had been synced, or
                        * that is sound and makes no sense */
    uint64_t sequence; /* behind the last operation; 0: no records */
};

/* Read a log, handing every operation of every sound record to apply in order,
 * until the end of the records; *replay says how it ended, and the caller,
 * who knows the other logs, what that means. Failures are those of the disk,
 * NO_MEMORY, and what apply answered; *replay is then as far as it came, and
 * so it is for apply: size is where the operation's record begins. The
 * entry is borrowed for the call. Memory: that of the largest record, or a MiB.
 */
enum status log_read(struct disk *disk, uint64_t number,
                     enum status (*apply)(void *context,
                                          const struct entry *entry),
                     void *context, struct log_replay *replay) MUST_CHECK;

#endif
