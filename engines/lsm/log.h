/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_LOG_H
#define REPLIKV_ENGINES_LSM_LOG_H

#include "engines/lsm/file.h"

/* The write-ahead log: one record per batch, so a batch is there or not.
 *
 * Every record says how much of the log was synced when it was written. So a
 * reader that meets a bad record knows what it sees: if a later record says
 * that this place had been synced, acknowledged data is damaged (CORRUPT);
 * if none does, it is the torn end of a crash and is cut off. Not
 * thread-safe. */
struct log {
    int fd;          /* -1: closed */
    uint64_t number; /* of the file; the seed of its checksums */
    uint64_t size;
    uint64_t synced;
    struct buffer scratch;
};

/* Make the file durably. It must not exist. */
enum status log_create(struct log *log, const char *directory,
                       uint64_t number) MUST_CHECK;
/* Safe on a closed log. */
void log_close(struct log *log);

/* Begin a record, put its entries, then append it. After any failure of
 * log_append or log_sync the log must not be used further. */
enum status log_begin(struct log *log) MUST_CHECK;
enum status log_put(struct log *log, const struct entry *entry) MUST_CHECK;
enum status log_append(struct log *log) MUST_CHECK;
enum status log_sync(struct log *log) MUST_CHECK;

/* Hand every entry of a log to apply, in order, stopping at what is not OK.
 * In the last log a torn tail is cut off the file durably; in one that is
 * not the last, which was synced before its successor was made, it is
 * CORRUPT. The entry is borrowed for the length of apply. */
enum status log_replay(const char *directory, uint64_t number, bool last,
                       enum status (*apply)(void *context,
                                            const struct entry *entry),
                       void *context) MUST_CHECK;

#endif
