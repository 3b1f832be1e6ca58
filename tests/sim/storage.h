/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_STORAGE_H
#define REPLIKV_TESTS_SIM_STORAGE_H

#include "disk_table.h"
#include "proxy/core/replica.h"

/* One node's storage: what the storage edge and an engine are to replikvd.
 *
 *   submit --> waiting --> forming batch: read, merge --> written, synced
 *                                         PREPARED                 STORED
 *
 * What is prepared while a batch is being written forms the next one, which
 * one sync makes last as a whole (group commit); both are laid over what is
 * synced. Reads see only that. A crash loses the batch under way, or leaves all
 * of it, and loses what forms. A write that fails does either, the batch that
 * was made on it is lost, and the disk is broken until it is opened again. The
 * disk outlives the process: only the queue and the batches end with it. */

struct sim;
struct host;

struct storage_job {
    uint64_t number;
    struct storage_op op; /* what it points to is in `bytes` */
    uint8_t *bytes;
    struct replica_change change;
    struct buffer key, next;
    enum status refused; /* DISK_ANSWER: instead of running it */
};

struct storage_jobs {
    struct storage_job **list;
    size_t count, capacity;
};

struct storage {
    struct disk_table table; /* synced */
    struct storage_jobs waiting, forming, batch, answers;
    bool batch_scheduled, writing, broken;
    uint64_t number;
};

void storage_fini(struct storage *storage);
/* The process starts: nothing waits. */
void storage_open(struct storage *storage);
/* The process ended: of the batch under way all or nothing lasts. */
void storage_crash(struct sim *sim, struct host *host);
/* Everything is gone. */
void storage_wipe(struct storage *storage);

/* The synced value; empty when there is none. Valid until the next change. */
static inline struct bytes storage_get(const struct storage *storage,
                                       struct bytes key)
{
    return disk_table_get(&storage->table, key);
}
/* At once and synced, as at start. */
void storage_set(struct storage *storage, struct bytes key, struct bytes value);

void storage_submit(struct sim *sim, struct host *host,
                    const struct storage_op *op);
/* The moments of the disk. */
void storage_run_batch(struct sim *sim, struct host *host);
void storage_synced(struct sim *sim, struct host *host);
void storage_answer(struct sim *sim, struct host *host, uint64_t number);
void storage_reopen(struct sim *sim, struct host *host);

#endif
