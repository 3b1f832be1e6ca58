/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_LSM_H
#define REPLIKV_ENGINES_LSM_LSM_H

#include <pthread.h>

#include "engines/engine.h"
#include "engines/lsm/log.h"
#include "engines/lsm/view.h"

/* The built-in engine: a log-structured merge tree.
 *
 *   write --> log --> active memtable --full--> frozen memtable
 *                                                   | flush
 *             tier 2 <--4 tables-- tier 1 <--4-- tier 0 tables
 *
 * Threads: the writer (the contract allows one) owns the log and is the only
 * one to add to memtables and to freeze them. One background thread flushes
 * and compacts; it alone changes the tables and writes the manifest. Readers
 * take a view and a sequence under the mutex and then go without it. The
 * mutex is never held over I/O.
 *
 * It has no block cache (the page cache serves) and no compression. */
struct lsm {
    struct engine engine; /* first: what callers hold */
    char *directory;
    int lock_fd;
    size_t memtable_bytes;
    struct log log;       /* the writer's */
    uint64_t flushed_log; /* the background's: the manifest's log_number */
    pthread_t thread;

    pthread_mutex_t mutex;  /* guards all below */
    pthread_cond_t changed; /* something below changed */
    struct view *view;
    uint64_t sequence; /* of the last write that readers may see */
    uint64_t next_file;
    uint64_t log_number; /* of the log of view->active */
    bool broken;
    enum status
        untold; /* what broke it in the background, until a write says */
    bool stopping;
    /* A table is damaged: merging it would fail again, so compaction rests
     * until the next open, and reads of what is damaged say CORRUPT. Or the
     * disk has no room for the merged table, and it rests until a flush. */
    bool compaction_rests;
};

/* Fill an lsm whose directory is set and locked from its files: replay the
 * logs into a table, remove what nothing refers to, begin a new log. */
enum status lsm_recover(struct lsm *lsm, struct error *error) MUST_CHECK;

/* Mark broken and wake all who wait. The next write says why: it cannot know
 * whether what it wrote before has become a table. */
void lsm_break(struct lsm *lsm, enum status why);
/* A number that no file has. */
uint64_t lsm_new_file(struct lsm *lsm);
/* Remove files whose removal may be lost: recovery repeats it. */
void lsm_remove_file(struct lsm *lsm, enum lsm_file_kind kind, uint64_t number);

#endif
