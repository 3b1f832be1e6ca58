/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_LOG_H
#define REPLIKV_ENGINES_LSM_LOG_H

#include "engines/engine.h"
#include "engines/lsm/coding.h"
#include "engines/lsm/disk.h"

/* The write-ahead log: one record per group of batches, so that a group is
 * there or not. See FORMAT.md.
 *
 * A log's file is used again when its memtable has become a table: syncing
 * what is overwritten costs 95 us here, what makes a file grow 165, since the
 * latter writes the file system's journal too. A new log that is synced often
 * is therefore filled with zeros ahead of its records.
 *
 * What is behind the records is thus zeros or the records of an earlier log,
 * whose checksums fail, their seeds being the file's number. A log that is
 * followed by another ends with an end record. Every record says how much of
 * its log was synced when it was written, and not 0 only if all logs before it
 * were synced, so a reader that meets something bad knows whether it is damage
 * to what had been acknowledged or the torn end of a crash.
 *
 * Not thread-safe, but for log_sync beside the encoding of the next record. */
struct log {
    struct disk_file *file; /* NULL: closed */
    uint64_t number;
    uint64_t size;     /* of the records */
    uint64_t synced;   /* of size */
    uint64_t prepared; /* of the file: written before, if only with zeros */
    bool predecessors_synced;
    struct buffer record; /* being encoded */
};

/* The name of log `number`, in name. */
enum { LSM_NAME_MAX = 32 };
void log_name(char name[LSM_NAME_MAX], uint64_t number);

/* Make log `number`, durably; with a recycled number, out of that log's file,
 * which is not needed any more. */
enum status log_create(struct log *log, struct disk *disk, uint64_t number,
                       uint64_t recycled) MUST_CHECK; /* recycled 0: none */
/* Safe on a closed log. The file stays. */
void log_close(struct log *log);

/* Encode a record: begin, any number of puts, append. sequence is the first
 * operation's. After a failure of log_append, log_end or log_sync the log must
 * not be used further. synced_soon: log_sync follows. */
enum status log_begin(struct log *log, uint64_t sequence) MUST_CHECK;
enum status log_put(struct log *log,
                    const struct batch_operation *operation) MUST_CHECK;
enum status log_append(struct log *log, bool synced_soon) MUST_CHECK;
/* Append the end record, with which nothing follows in this log. */
enum status log_end(struct log *log) MUST_CHECK;
/* Make what was appended last. The caller has synced all logs before. */
enum status log_sync(struct log *log) MUST_CHECK;

struct log_replay {
    uint64_t number;
    uint64_t size;     /* of the sound records */
    bool ended;        /* with an end record */
    bool claims;       /* a record says that logs before it were synced */
    bool damaged;      /* behind size is something bad that had been synced */
    uint64_t sequence; /* behind the last operation; 0: no records */
};

/* Read a log, handing every operation of every sound record to apply in order,
 * until the end of the records; *replay says how it ended, and the caller,
 * who knows the other logs, what that means. Failures are those of the disk,
 * NO_MEMORY, and what apply answered. The entry is borrowed for the call. */
enum status log_read(struct disk *disk, uint64_t number,
                     enum status (*apply)(void *context,
                                          const struct entry *entry),
                     void *context, struct log_replay *replay) MUST_CHECK;

/* After a crash: cut the log behind its `size` sound bytes and put an end
 * record there, durably, because another log will follow. */
enum status log_mend(struct disk *disk,
                     const struct log_replay *replay) MUST_CHECK;

#endif
