/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_LSM_H
#define REPLIKV_ENGINES_LSM_LSM_H

#include <pthread.h>

#include "engines/engine.h"
#include "engines/lsm/log.h"
#include "engines/lsm/version.h"

/* The built-in engine: a log-structured merge tree (O'Neil et al., 1996), with
 * the leveled compaction of LevelDB.
 *
 *   writers --> log --> memtable --full--> frozen memtables
 *                                               | flush
 *        level 6 <-- ... <-- level 1 <-- level 0 tables
 *
 * Writers, any number, form groups: whoever finds nobody at work leads, and
 * writes one log record, or some of a large group, and calls one sync for all
 * who came while the group before was at it (write.c). Readers take a view and
 * a sequence and go without locks from there (lsm.c, iterator.c). Two threads
 * work in the background: one turns frozen memtables into tables (flush.c), one
 * compacts (compaction.c). A store that is opened without threads does that
 * work in the thread that writes, for tests and simulators that want each run
 * the same.
 *
 * Locks, in the order in which they may be taken; none is held over I/O but
 * those that say so:
 *
 *   drop_mutex      drops and checkpoints; held over all they do. A drop in
 *                   between would be in a copy that lacks writes before it
 *   lead_mutex      the log; held over its writes and syncs
 *   memtable_mutex  adding to the active memtable; who leads takes it before
 *                   the next group may begin, so groups add in their order.
 *                   Held over all that replaces that memtable and its log,
 *                   and over the manifest of a drop
 *   manifest_mutex  from reading a version to having replaced it; held over
 *                   the manifest's I/O and while files are removed or linked
 *   retired_mutex   logs of frozen memtables; held over their syncs
 *   mutex           everything that is read often, for a few instructions */

/* Memtables that wait to become tables before writers must wait, too. */
enum { FROZEN_MAX = 4 };

struct retired_log {
    struct log log;
    struct retired_log *next;
};

/* See write.c. */
struct writer {
    const struct batch *batch;
    bool sync;
    enum status status;
    struct writer *next;
};
struct commit_queue {
    pthread_mutex_t mutex; /* guards all but words */
    struct writer *first, **end;
    uint32_t forming;     /* the number of the group that arrivals join */
    bool led;             /* somebody leads, or was offered to */
    atomic_uint words[2]; /* futexes: of groups with even and odd numbers */
};

/* See throttle.c. */
struct throttle {
    double ns_per_byte; /* as it was last */
    double owed_ns;     /* for what was written before; below 0: paid ahead */
};

struct lsm_counters {
    atomic_uint_fast64_t user_bytes, stored_bytes;
    atomic_uint_fast64_t stall_us, stall_us_max;
    atomic_uint_fast64_t damaged;
};

struct lsm {
    struct engine engine; /* first: what callers hold */
    char *directory;      /* for messages */
    struct disk *disk;
    struct cache *cache;
    bool threads;
    void (*report)(void *context, const char *message);
    void *report_context;

    /* Settings: see lsm.c. */
    size_t memtable_bytes;
    uint64_t table_bytes, level1_bytes, compaction_bytes_per_second;
    enum compression compression, compression_last;

    struct commit_queue queue;
    struct throttle throttle; /* of whoever leads */
    pthread_mutex_t drop_mutex;
    pthread_mutex_t lead_mutex;
    struct log log;
    uint64_t log_sequence; /* of the last operation or drop, or above */
    unsigned drops;        /* since the active memtable became so */
    pthread_mutex_t memtable_mutex;
    struct memtable *active;
    struct chunk_pool chunks; /* of memtables */
    pthread_mutex_t retired_mutex;
    struct retired_log *retired; /* newest first */
    pthread_mutex_t manifest_mutex;
    uint64_t flushed_log; /* the manifest's log_number */
    uint64_t flushed_sequence;
    uint64_t recyclable; /* a log whose file may be used again; 0: none */

    pthread_mutex_t mutex;  /* guards all below */
    pthread_cond_t changed; /* something below changed */
    struct view *view;
    uint64_t next_file;
    struct log spare; /* the next log, made ahead of time */
    bool spare_wanted, spare_begun;
    uint64_t changes;        /* of the view and of the pressure, counted */
    unsigned settling;       /* callers of lsm_settle */
    uint64_t compactor_seen; /* at so many there was nothing to compact */
    /* Compactions that write tables rest until the next flush, or for a while,
     * the disk being full or nearly. */
    bool compaction_rests;
    bool rest_told;     /* of whoever compacts: since one last had room */
    enum status untold; /* what broke it in the background, until a write
                         * says */

    atomic_bool broken, stopping; /* set under the mutex */
    /* Of the last operation that readers may see. Written under the
     * memtable_mutex. */
    atomic_uint_fast64_t sequence;
    atomic_uint_fast64_t pressure_bytes; /* see throttle.c */
    struct lsm_counters counters;
    pthread_t flusher, compactor;
};

/* Open on a disk, which then belongs to the engine, also on failure. Without
 * threads all work is done inline. engine_open calls it with the real disk. */
enum status lsm_open_on(const struct engine_options *options, struct disk *disk,
                        bool threads, struct engine **engine,
                        struct error *error) MUST_CHECK;

/* Turn what is in memory into tables and wait for that and for all compactions
 * that are due when writes rest: for tests. */
enum status lsm_settle(struct engine *engine) MUST_CHECK;

/* From here on: for the files of this folder. */

static inline struct lsm *lsm_of(struct engine *engine)
{
    return (struct lsm *)(void *)engine;
}

/* recovery.c: fill an lsm that has a disk from its files. */
enum status lsm_recover(struct lsm *lsm, struct error *error) MUST_CHECK;

/* write.c */
enum status lsm_write(struct engine *engine, const struct batch *batch,
                      bool sync) MUST_CHECK;
enum status lsm_delete_range(struct engine *engine, struct bytes from,
                             struct bytes to) MUST_CHECK;
/* Freeze what is in the active memtable, if anything. */
enum status lsm_freeze(struct lsm *lsm) MUST_CHECK;
/* Make all logs last. The caller holds lead_mutex. */
enum status lsm_sync_logs(struct lsm *lsm) MUST_CHECK;
void lsm_init_queue(struct commit_queue *queue);

/* throttle.c: tell writers how far behind the background is. */
void lsm_update_pressure(struct lsm *lsm);
/* Sleep for what was written before, if that is worth a sleep: for so many
 * microseconds. The caller leads, and holds nothing. */
uint64_t lsm_pay(struct lsm *lsm);
/* So many bytes are being written. The caller leads. */
void lsm_owe(struct lsm *lsm, size_t bytes);

/* iterator.c */
enum status lsm_iterate(struct engine *engine, struct bytes from,
                        struct bytes to, enum engine_order order,
                        struct engine_iterator **iterator) MUST_CHECK;
enum status lsm_next(struct engine_iterator *iterator, struct bytes *key,
                     struct bytes *value) MUST_CHECK;
void lsm_iterator_free(struct engine_iterator *iterator);

/* flush.c: make a table of level 0 of the entries that add gives the writer,
 * in order, with the version's drops applied. On failure no file is left. */
typedef enum status lsm_add_entries(const void *context,
                                    const struct version *version,
                                    struct table_writer *writer);
enum status lsm_store(struct lsm *lsm, lsm_add_entries *add,
                      const void *context, const struct version *version,
                      struct table **table) MUST_CHECK;
/* Make a table of what is frozen, if anything is. */
enum status lsm_flush(struct lsm *lsm) MUST_CHECK;
enum status lsm_flush_or_break(struct lsm *lsm) MUST_CHECK;
/* Make the next log ahead of time, if it is wanted. */
void lsm_make_spare(struct lsm *lsm);
/* Without threads: flush, and compact until nothing is due. */
enum status lsm_work(struct lsm *lsm, bool quiet) MUST_CHECK;
void *lsm_flusher(void *lsm);

/* checkpoint.c */
enum status lsm_checkpoint(struct engine *engine, const char *directory,
                           struct error *error) MUST_CHECK;

/* compaction.c. NOT_FOUND: nothing is due, or it rests. CLOSED: stopping.
 * CORRUPT: it met a table that cannot be read, which is marked and left alone.
 * NO_SPACE: it rests until the next flush, or for a while. quiet: as if writes
 * rested. */
enum status lsm_compact(struct lsm *lsm, bool quiet) MUST_CHECK;
void *lsm_compactor(void *lsm);
/* Whether compactions that write tables rest. */
void lsm_set_rest(struct lsm *lsm, bool rests);

/* lsm.c: the current view, referenced. */
struct view *lsm_view(struct lsm *lsm);
/* The same, and what of it counts. BROKEN. */
enum status lsm_snapshot(struct lsm *lsm, struct view **view,
                         uint64_t *sequence) MUST_CHECK;
/* Replace the view by one with a memtable that is begun, if not NULL, without
 * its `flushed` oldest ones, and with another version, if not NULL. */
enum status lsm_change_view(struct lsm *lsm, struct memtable *begun,
                            size_t flushed, struct version *version) MUST_CHECK;
uint64_t lsm_new_file(struct lsm *lsm);
/* Mark broken and wake all who wait. The next write says why, as it cannot
 * know whether what it wrote before has become a table. */
void lsm_break(struct lsm *lsm, enum status why);
/* For people: what the system said of an IO, if errno has it, or the status. */
const char *lsm_why(enum status status);
/* Replace the version by one with the edit applied, and take the `flushed`
 * oldest memtables out of the view: durably, the manifest first. Removes the
 * names of the edit's removed tables. The caller holds manifest_mutex. On
 * failure either version may be the one on disk, so the engine is broken. */
enum status lsm_install(struct lsm *lsm, const struct version_edit *edit,
                        size_t flushed) MUST_CHECK;
/* Open a table, reporting its damage to the engine's: see table_open. */
enum status lsm_open_table(struct lsm *lsm, uint64_t number,
                           uint64_t drops_applied,
                           struct table **table) MUST_CHECK;
/* The same of one just written, which cannot be missing: IO. */
enum status lsm_open_written(struct lsm *lsm, uint64_t number,
                             uint64_t drops_applied,
                             struct table **table) MUST_CHECK;
void lsm_remove_table(struct lsm *lsm, uint64_t number);
/* Of both, what cannot be removed is, by the next open. */
void lsm_remove_log(struct lsm *lsm, uint64_t number);
uint64_t lsm_now_us(void);

#endif
