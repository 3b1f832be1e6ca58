/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_DISK_H
#define REPLIKV_TESTS_SIM_DISK_H

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

struct disk_op {
    uint64_t number;
    struct storage_op op; /* what it points to is in `bytes` */
    uint8_t *bytes;
    struct replica_change change;
    struct buffer key, next;
    enum status refused; /* DISK_ANSWER: instead of running it */
};

struct disk_ops {
    struct disk_op **list;
    size_t count, capacity;
};

struct disk {
    struct disk_table table; /* synced */
    struct disk_ops waiting, forming, batch, answers;
    bool batch_scheduled, writing, broken;
    uint64_t number;
};

void disk_fini(struct disk *disk);
/* The process starts: nothing waits. */
void disk_open(struct disk *disk);
/* The process ended: of the batch under way all or nothing lasts. */
void disk_crash(struct sim *sim, struct host *host);
/* Everything is gone. */
void disk_wipe(struct disk *disk);

/* The synced value; empty when there is none. Valid until the next change. */
static inline struct bytes disk_get(const struct disk *disk, struct bytes key)
{
    return disk_table_get(&disk->table, key);
}
/* At once and synced, as at start. */
void disk_set(struct disk *disk, struct bytes key, struct bytes value);

void disk_submit(struct sim *sim, struct host *host,
                 const struct storage_op *op);
/* The moments of the disk. */
void disk_run_batch(struct sim *sim, struct host *host);
void disk_synced(struct sim *sim, struct host *host);
void disk_answer(struct sim *sim, struct host *host, uint64_t number);
void disk_reopen(struct sim *sim, struct host *host);

#endif
