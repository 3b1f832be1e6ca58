/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_STORAGE_H
#define REPLIKV_PROXY_STORAGE_H

#include "engines/engine.h"
#include "proxy/core/event.h"
#include "proxy/core/replica.h"

/* The storage edge: carries out on an engine what the core asks of one.
 *
 *   storage_submit --> queue
 *   storage_run -----> read, merge --> forming batch --> one write, one sync
 *                                PREPARED                            STORED
 *   storage_read ----> here, or a reader thread
 *
 * A write is prepared, read and merged, by the thread that brought it, and is
 * on its way to the other replicas before it waits for any disk. One thread
 * prepares at a time; others leave it their operations. What is prepared while
 * a batch is being written forms the next one, which the writer takes as a
 * whole (group commit). Prepared values are laid over the engine. A batch that
 * fails is thrown away, and the one that was made on it, with their overlays:
 * their operations are told so, and the engine is closed and opened again,
 * after 100 ms and twice as long each time it fails, up to 5 s. Meanwhile every
 * operation is answered BROKEN, at once.
 *
 * The writer is a thread of its own, unless the engine never blocks: then
 * whoever calls storage_run writes, too. An engine that keeps nothing is not
 * opened again: it would come back empty and say so. It stays BROKEN until the
 * node is started again.
 *
 * Reads run beside each other and beside the writer. A read that may block
 * takes one of a few permits and runs on the caller's thread; when none is
 * left, and for every scan, it goes to a reader thread, so that a slow disk
 * takes no more of the callers' threads than there are permits, and the one
 * that prepares. */

struct storage;

enum storage_sync {
    /* What is acknowledged is on disk. */
    STORAGE_SYNC_BATCH,
    /* It will be within interval_ms. */
    STORAGE_SYNC_INTERVAL,
    /* It will be when the engine sees fit. */
    STORAGE_SYNC_NONE,
};

struct storage_config {
    const struct engine_type *type;
    /* Copied, the directory and the settings too. What the engine reports goes
     * to the log. */
    struct engine_options options;
    enum storage_sync sync;
    uint32_t interval_ms;
    /* Waiting operations; beyond either they are answered OVERLOADED. As many
     * again may be under way, and as many reads wait. */
    size_t queue_max;
    size_t queue_bytes_max;
    int64_t dedup_window_ms;
    size_t value_bytes_max;
    uint64_t seed; /* from the system's randomness */
};

struct storage_done {
    enum event_kind kind; /* EVENT_PREPARED or EVENT_STORED */
    struct storage_result result;
};

struct storage_handlers {
    /* What became of operations, several at a time: what is PREPARED comes
     * before the batch is written, its STORED after. A COORDINATE that was run
     * and failed is PREPARED with that status, and no STORED follows; one that
     * was not run (TIMEOUT, OVERLOADED, BROKEN) is STORED alone. Everything
     * pointed to is valid during the call. On the writer's or a reader's
     * thread or inside storage_run, several of them at once; never inside
     * storage_submit or storage_read. It may submit, read and run, which can
     * call done again before it returns. */
    void (*done)(void *user, const struct storage_done *done, size_t count);
    /* The engine failed, was opened again, and no dot of the old incarnation
     * will be issued. On the writer's thread. */
    void (*reopened)(void *user);
    /* One line for the log, key=value. From any thread, also inside
     * storage_open. */
    void (*log)(void *user, const char *line);
};

/* Open the engine and start the threads. handlers and user are borrowed until
 * storage_close. error as engine_open fills it in. */
enum status storage_open(const struct storage_config *config,
                         const struct storage_handlers *handlers, void *user,
                         struct storage **storage,
                         struct error *error) MUST_CHECK;
/* Carry out what is queued and stop. No other call runs, and none but
 * storage_meta_set and storage_close follows. The last results are still told
 * to the handlers. */
void storage_drain(struct storage *storage);
/* The same, unless it was done, and close the engine. */
void storage_close(struct storage *storage);

/* Entries of TABLE_META or TABLE_TREES at start, before there is a node, and
 * behind storage_drain. Directly on the engine; not beside any other call.
 * NOT_FOUND; set is synced, and BROKEN when the engine failed. */
enum status storage_meta_get(struct storage *storage, enum table table,
                             const char *name, struct buffer *value) MUST_CHECK;
enum status storage_meta_set(struct storage *storage, enum table table,
                             const char *name, struct bytes value) MUST_CHECK;
/* Likewise at start: read all that is stored; the log says every two seconds
 * how far it is, and what is damaged, of an engine that tells. CORRUPT, also
 * for what the disk does not give. */
enum status storage_check(struct storage *storage) MUST_CHECK;

/* Queue an operation that writes (COORDINATE, MERGE, DROP, SET). It is copied;
 * its deadline is of CLOCK_MONOTONIC. Its results come through done, whatever
 * becomes of it. Never blocks on the engine, so it may be called under the
 * lock that done takes. Follow it with storage_run once that is free. */
void storage_submit(struct storage *storage, const struct storage_op *op);

/* Prepare what is queued unless another thread is at it, write it if the engine
 * never blocks, and tell of operations that were refused. May read the engine.
 * Not under the lock that done takes. */
void storage_run(struct storage *storage);

/* READ or SCAN. True: it was carried out here (a READ), or refused; result
 * points to op and to value, which holds the record. False: op was copied for a
 * reader thread and its result comes through done. A record whose checksum the
 * engine finds wrong is CORRUPT. A chunk of a SCAN has at least one row,
 * however large; keys that are none of ours are left out and logged. One that
 * is to be `settled` waits, on the reader's thread, until what was being
 * written beside it has been told. Not under the lock that done takes. */
bool storage_read(struct storage *storage, const struct storage_op *op,
                  struct buffer *value, struct storage_result *result);

/* Whether storage_run and storage_read may wait for a disk. */
bool storage_blocks(const struct storage *storage);

/* Draw a new incarnation before the next dot. */
void storage_renew(struct storage *storage);

struct storage_stats {
    uint64_t batches, operations; /* written; their ratio is the grouping */
    uint64_t syncs, reopens, reads_inline, reads_handed_over;
    /* As of about a second before the last call; zeros while it is closed. */
    struct engine_stats engine;
};
/* Never asks the engine itself: a reader does. */
void storage_stats(struct storage *storage, struct storage_stats *stats);

#endif
