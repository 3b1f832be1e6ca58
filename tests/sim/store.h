/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_STORE_H
#define REPLIKV_TESTS_SIM_STORE_H

#include "tree.h"

/* What lasts of one node's disk: a table of what must be there. It stands for
 * an engine (the model); or a real one is beside it (the tree), which decides
 * what fails and what a crash leaves, and must always show what the table
 * has.
 *
 *   written whole: in the table    failed, or cut by a crash: in doubt
 *
 * The next open settles a doubt. What is written goes in steps, of which the
 * first ones may be there, each as a whole: ballast, which is not synced; the
 * removals of a range of it; and the node's batch, synced. */

struct sim;
struct host;

enum store_step { STEP_BALLAST, STEP_RANGE, STEP_BATCH, STORE_STEPS };

struct store {
    struct disk_table table;
    struct tree *tree;                      /* NULL: the model alone */
    struct disk_changes doubt[STORE_STEPS]; /* no longer, once it is settled */
    struct disk_table copied;               /* what it was, once */
    struct memory_disk *copied_disk;        /* likewise, of the tree */
};

void store_fini(struct store *store);
/* Everything is gone. */
void store_wipe(struct store *store);
/* Nothing that was written is in doubt: it may be copied. And what is written
 * next will not fail: it may be damaged. */
bool store_is_sure(const struct store *store);
bool store_is_calm(const struct store *store);
/* Somebody copies it, and puts that copy back while it is closed. */
void store_copy(struct store *store);
void store_put_back(struct store *store);
/* What the place of the table holds is not what was written there any more: it
 * cannot be read, or a bit of it is another. */
void store_make_unreadable(struct store *store, size_t at);
void store_flip(struct store *store, size_t at, uint64_t bit);

/* The process starts, or opens it again after a failure. False: it failed, as
 * it was told to; it can be tried again. */
bool store_open(struct sim *sim, struct host *host);
/* Synced, and shown to the checkers. On failure it is there, or not, and the
 * store is to be opened again. fails: the model does, the tree will soon. The
 * changes may be taken. */
enum status store_write(struct sim *sim, struct host *host,
                        struct disk_changes *changes, bool fails) MUST_CHECK;
/* The process ended; changes: that were being written, or NULL. They may be
 * taken. */
void store_crash(struct sim *sim, struct host *host,
                 struct disk_changes *changes);

/* BROKEN: it failed and is to be opened again; CORRUPT: it is unreadable. The
 * value is empty when there is none, and valid until the next change. */
enum status store_get(struct sim *sim, struct host *host, struct bytes key,
                      struct bytes *value) MUST_CHECK;
/* The entries of the table from first on, so many, are what a reader of
 * [from, to) sees. */
enum status store_see(struct sim *sim, struct host *host, struct bytes from,
                      struct bytes to, size_t first, size_t count) MUST_CHECK;
/* The end of the run: all is there. */
void store_check(struct sim *sim, struct host *host);

#endif
