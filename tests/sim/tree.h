/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_TREE_H
#define REPLIKV_TESTS_SIM_TREE_H

#include "disk_table.h"
#include "engines/engine.h"
#include "random.h"
#include "tests/engines/memory_disk.h"

/* Which call to the disk: the calls-th from now of some kinds. */
struct tree_moment {
    uint64_t calls; /* 0: none, or it is over */
    unsigned kinds; /* a bit for each memory_call that counts */
};

/* The built-in engine without threads, on a disk in memory whose power can be
 * cut and whose calls can fail, at a moment that the seed draws. Its memtables
 * and tables are so small that it flushes and compacts all the time. */
struct tree {
    struct memory_disk *memory;
    struct engine *engine; /* NULL: closed */
    struct randomness random;
    struct tree_moment cut, fault;
    struct memory_disk *left; /* of the disk, when it was cut; NULL: it is on */
    bool is_killed;           /* the fault is that the process ends */
    bool may_fail;            /* it was told to, since it was opened */
    bool is_damaged;          /* a bit of its tables is another */
    uint64_t tables;          /* written, so far */
};

struct tree *tree_new(uint64_t seed);
void tree_free(struct tree *tree); /* NULL is allowed */

/* It is closed. */
enum status tree_open(struct tree *tree, struct error *error) MUST_CHECK;
void tree_close(struct tree *tree);
/* Its disk is a new one. It is closed. */
void tree_wipe(struct tree *tree);
/* A copy of its disk's files, to be given back or to memory_disk_free; and one
 * of that instead of its disk, while it is closed. */
struct memory_disk *tree_copy(struct tree *tree);
void tree_put_back(struct tree *tree, struct memory_disk *copy);

enum status tree_write(struct tree *tree, const struct disk_changes *changes,
                       bool sync) MUST_CHECK;
/* The removals of all keys from the first to the last, by one call. */
enum status tree_delete_range(struct tree *tree,
                              const struct disk_changes *removals) MUST_CHECK;

/* What a node does not ask for, so that there are levels: some writes, and now
 * and then the removals of a range. Their keys begin with TREE_BALLAST.
 * much_permille: how often it is so much that a table follows. */
enum { TREE_BALLAST = 'e' };
void tree_draw_ballast(struct tree *tree, uint32_t much_permille,
                       struct disk_changes *writes,
                       struct disk_changes *removals);

/* Some call soon, or all from then on, fails; until tree_heal. */
void tree_fail_soon(struct tree *tree);
void tree_heal(struct tree *tree);
/* Cut the power at some call soon. What is done goes on as if it had not been,
 * until tree_cut. */
void tree_cut_soon(struct tree *tree);
/* Cut it now, if it was not, and close. */
void tree_cut(struct tree *tree);
/* End the process at some call soon: neither that nor any behind it is carried
 * out, but for what failures do; the disk keeps what it was not yet told to
 * sync. */
void tree_kill_soon(struct tree *tree);
void tree_kill(struct tree *tree);

/* Change a bit of a block of some table, while it is closed. False: there is no
 * table. What is left of it can be read, but for keys of the block. */
bool tree_flip(struct tree *tree);

/* Of one that is damaged CORRUPT says that it cannot be read.
 *
 * Whether the key has the value; none, if that is empty. */
enum status tree_has(struct tree *tree, struct bytes key, struct bytes value,
                     bool *same) MUST_CHECK;
/* Whether [from, to) is the table's entries from first on, so many. */
enum status tree_has_range(struct tree *tree, struct bytes from,
                           struct bytes to, const struct disk_table *table,
                           size_t first, size_t count, bool *same) MUST_CHECK;
/* Whether nothing is shown of [from, to) that the table does not have, though
 * not all of it may be. */
enum status tree_shows_no_other(struct tree *tree, struct bytes from,
                                struct bytes to, const struct disk_table *table,
                                bool *same) MUST_CHECK;
/* Whether it holds exactly what the table does. */
enum status tree_has_all(struct tree *tree, const struct disk_table *table,
                         bool *same) MUST_CHECK;

#endif
