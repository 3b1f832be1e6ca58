/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_STORAGE_INTERNAL_H
#define REPLIKV_PROXY_STORAGE_INTERNAL_H

#include "proto/arena.h"
#include "proto/clock.h"
#include "proxy/storage.h"

#include <pthread.h>
#include <stdatomic.h>

/* What the files of the storage edge share; nobody else includes it.
 *
 *   storage.c           open and close, queueing, refusals
 *   storage_batch.c     one batch: read, merge, overlay
 *   storage_prepare.c   who is in storage_run: from the queue into a batch
 *   storage_writer.c    who writes: batches, syncs, reopening
 *   storage_reader.c    reads, permits, the reader threads
 *
 * There are two batches. One is forming: whoever is in storage_run prepares
 * what is queued into it, one thread at a time, and tells what is PREPARED.
 * The other is being written, by the writer. When that is done and nobody is
 * preparing, they change places. So a write is merged and on its way to the
 * other replicas while the disk is busy with those before it.
 *
 * What is prepared is laid over both: a key is looked for in the forming
 * batch, then in the other, which holds what the engine does or will hold,
 * then in the engine.
 *
 * Locks, never held over a call of a handler: `lock` guards what is queued and
 * what is told, and who prepares; `engine_lock` keeps the engine open while it
 * is read. The writer alone replaces the engine, so it writes it without. */

#define STORAGE_BROKEN_MESSAGE                                                 \
    "the engine failed; nothing is run until it is open again"

enum {
    /* Of one batch. Its first operation waits for the reads of all, its last
     * for the write of all: 512 are some 5 ms of the one and 4 MiB some 10 ms
     * of the other, against a sync of 0.1 ms that is long since shared. */
    BATCH_OPS_MAX = 512,
    BATCH_BYTES_MAX = 4 << 20,
    /* A disk that is slow for one reader is not helped by many; two, so that
     * a scan does not hold up the reads behind it. */
    READERS = 2,
    /* The engine's own numbers are asked for no more often. */
    STATS_MS = 1000,
    CHECK_TOLD_MS = 2000,
    REOPEN_MS_MIN = 100,
    REOPEN_MS_MAX = 5000,
};

/* Copies of operations, and in the arena of what they point to. */
struct op_queue {
    struct storage_op *ops; /* room for queue_max */
    size_t count;
    struct arena arena;
};

/* Results of operations that are not run, with copies of those. */
struct refusals {
    struct storage_done *list;
    size_t count, capacity;
    struct arena arena;
};

/* One batch in the making, reused: nothing is allocated for an operation once
 * the arenas have grown. */
struct storage_batch {
    struct arena arena;   /* keys and values, until it is written */
    struct arena scratch; /* of one operation */
    struct buffer key, current, next;
    struct batch_operation *operations; /* the last value of each key */
    size_t operation_count;
    /* Open addressing by the key's hash: index into operations + 1, 0 free. */
    uint16_t *slots;
    struct storage_done *early;  /* told before the write */
    struct storage_done *stored; /* told after it */
    size_t early_count, stored_count;
    bool sync; /* something in it must be on disk before it is told */
};

struct read_job;

struct reader {
    pthread_t thread;
    bool started;
    struct storage *storage;
    struct buffer value, from, to;
    struct storage_row *rows;
    size_t row_capacity;
    struct arena arena;  /* the rows' keys and records */
    size_t foreign_keys; /* of the scan under way: not made by us */
};

struct storage {
    struct storage_config config;
    struct engine_setting *settings;
    char *directory;
    const struct storage_handlers *handlers;
    void *user;

    pthread_rwlock_t engine_lock;
    struct engine *engine; /* NULL while it is closed */
    atomic_bool broken;    /* from the failed write until it is open again */
    atomic_bool suspect;   /* a reader heard BROKEN from the open engine */
    atomic_bool renew;     /* a new incarnation before the next dot */

    pthread_mutex_t lock;
    pthread_cond_t wake;      /* the writer */
    pthread_cond_t told_wake; /* scans that are to be settled */
    uint64_t begun, told;     /* batches: given to the engine, heard of */
    struct op_queue waiting;
    struct refusals refusals;
    bool writer_waits;
    bool is_preparing; /* someone has the forming batch */
    bool is_writing;   /* someone prepares and writes inside storage_run */
    bool is_telling;   /* someone tells the refusals */
    bool stop;
    bool is_drained;
    struct refusals telling; /* of who tells */

    /* Of who prepares; and of the writer while nobody does. */
    struct op_queue taken; /* from `taken_done` on not yet prepared */
    size_t taken_done;
    struct storage_batch *forming, *writing;
    struct storage_batch batches_of[2];
    struct replica replica;

    /* The writer's. */
    pthread_t writer;
    bool writer_started;
    bool unsynced;           /* the engine may hold what is not on disk */
    int64_t unsynced_ms;     /* since then */
    int64_t reopen_ms;       /* when to try */
    int64_t reopen_delay_ms; /* what was waited last; 0 after a good write */

    pthread_mutex_t read_lock;
    pthread_cond_t read_wake;
    struct read_job *read_first, **read_last;
    size_t read_count, read_bytes;
    bool read_stop;
    struct engine_stats stats; /* as a reader saw them last */
    int64_t stats_ms;
    bool stats_wanted;
    atomic_int permits;
    struct reader readers[READERS];

    atomic_uint_fast64_t batches, operations, syncs, reopens;
    atomic_uint_fast64_t reads_inline, reads_handed_over;
};

static inline bool storage_is_inline(const struct storage *storage)
{
    return (storage->config.type->capabilities & ENGINE_NEVER_BLOCKS) != 0;
}

static inline bool storage_is_durable(const struct storage *storage)
{
    return (storage->config.type->capabilities & ENGINE_DURABLE) != 0;
}

void storage_log(struct storage *storage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes that a copy of op points to. */
size_t storage_op_bytes(const struct storage_op *op);
/* Copy what op points to, to memory of storage_op_bytes, and point there. */
void storage_op_move(struct storage_op *op, uint8_t *memory);
/* What the core knows an operation by, without the rest, which is of no more
 * use once it is carried out. NULL: no memory. */
struct storage_op *storage_op_copy_head(struct arena *arena,
                                        const struct storage_op *op);

/* Under lock: queue the answer to an operation that is not run, BROKEN or
 * OVERLOADED. */
void storage_refuse(struct storage *storage, const struct storage_op *op,
                    enum status status);
/* Tell what was refused, unless someone is at it. Under lock, which is let go
 * of and taken again. */
void storage_tell_refusals(struct storage *storage);

/* Under engine_lock, so that what is called suspect is the open engine. */
void storage_note(struct storage *storage, enum status status);

enum status batch_init(struct storage_batch *batch) MUST_CHECK;
void batch_fini(struct storage_batch *batch);
void batch_reset(struct storage_batch *batch);
bool batch_is_full(const struct storage_batch *batch);
/* Prepare operations from ops on into the forming batch until it is full; how
 * many. By who prepares. */
size_t batch_run(struct storage *storage, const struct storage_op *ops,
                 size_t count);

bool storage_is_queued(const struct storage *storage);
/* Under lock, which is let go of and taken again: prepare what is queued,
 * unless someone is at it or the forming batch is full. Leaves the rest as
 * soon as a batch is ready for a writer that waits for one. */
void storage_prepare(struct storage *storage);
/* Under lock, by who prepares or when nobody does: refuse all that waits. */
void storage_refuse_queued(struct storage *storage);

enum status writer_start(struct storage *storage) MUST_CHECK;
/* Under lock, which is let go of and taken again: prepare and write all that
 * is queued, unless someone is at it. Of engines that never block. */
void writer_run_inline(struct storage *storage);
/* Drain and end. */
void writer_stop(struct storage *storage);

/* What a reader saw last, at most a second before it was last asked. */
void readers_stats(struct storage *storage, struct engine_stats *stats);
enum status readers_start(struct storage *storage) MUST_CHECK;
void readers_stop(struct storage *storage);
void readers_fini(struct storage *storage);

#endif
