/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_STORAGE_H
#define REPLIKV_TESTS_SIM_STORAGE_H

#include "proxy/core/replica.h"
#include "store.h"

/* One node's storage edge, which is to the node what proxy/storage.h is to
 * replikvd, over what lasts (store.h).
 *
 *   submit --> waiting --> forming batch: read, merge --> written, synced
 *                                         PREPARED                 STORED
 *
 * What is prepared while a batch is being written forms the next one, which
 * one sync makes last as a whole (group commit); both are laid over what is
 * synced. Reads see only that. A crash loses the batch under way, or leaves all
 * of it, and loses what forms. A write that fails does either, the batch that
 * was made on it is lost, and the disk is broken until it is opened again; a
 * read that hears so makes it so, too. What lasts outlives the process: only
 * the queue and the batches end with it. */

struct sim;
struct host;

struct storage_job {
    uint64_t number;
    struct storage_op op; /* what it points to is in `bytes` */
    uint8_t *bytes;
    struct replica_change change;
    struct buffer key, next;
    int64_t prepared_us;
    enum status refused; /* DISK_ANSWER: instead of running it */
};

struct storage_jobs {
    struct storage_job **list;
    size_t count, capacity;
};

struct storage {
    struct store store;
    struct storage_jobs waiting, forming, batch, answers;
    bool batch_scheduled, writing, broken;
    bool suspect; /* a read heard that the store is broken */
    uint64_t number;
};

/* With a tree, or but a model. */
void storage_init(struct storage *storage, bool with_tree, uint64_t seed);
void storage_fini(struct storage *storage);
/* The process starts: nothing waits. */
void storage_open(struct sim *sim, struct host *host);
/* The process ended: of the batch under way all or nothing lasts. */
void storage_crash(struct sim *sim, struct host *host);
/* No write fails from here on, unless one before it did. */
void storage_heal(struct storage *storage);
/* The process ends before there is a node. */
void storage_close(struct storage *storage);
/* Everything is gone. */
void storage_wipe(struct storage *storage);
/* All that it was asked is answered, and what comes next will not fail. */
bool storage_is_idle(const struct storage *storage);

/* The synced value, for checkers and at start; empty when there is none. Valid
 * until the next change. */
static inline struct bytes storage_get(const struct storage *storage,
                                       struct bytes key)
{
    return disk_table_get(&storage->store.table, key);
}
/* At once and synced, as at start. */
void storage_set(struct sim *sim, struct host *host, struct bytes key,
                 struct bytes value);

void storage_submit(struct sim *sim, struct host *host,
                    const struct storage_op *op);
/* The moments of the disk. */
void storage_run_batch(struct sim *sim, struct host *host);
void storage_synced(struct sim *sim, struct host *host);
void storage_answer(struct sim *sim, struct host *host, uint64_t number);
void storage_reopen(struct sim *sim, struct host *host);

#endif
