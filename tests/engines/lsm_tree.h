/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_LSM_TREE_H
#define REPLIKV_TESTS_ENGINES_LSM_TREE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "engines/lsm/lsm.h"
#include "engines/types.h"
#include "tests/engines/memory_disk.h"

/* An LSM tree on a disk in memory, as small as its settings allow, and what
 * ought to be in it: every write goes to both, and tree_check compares.
 *
 * Keys are numbers, "k000042". A value follows from its key and the round in
 * which it was written, and does not compress; rounds count writes. All that
 * fails fails the test. */

enum { TREE_KEYS_MAX = 5000, TREE_REPORT_MAX = 320 };

struct tree {
    struct memory_disk *memory;
    struct engine *engine; /* NULL: closed */
    bool threads;
    struct engine_setting settings[8];
    size_t setting_count;
    struct error error; /* of the last open */

    atomic_uint reports;          /* of damage */
    char report[TREE_REPORT_MAX]; /* the last */

    unsigned crashes;

    unsigned key_count; /* what is written is below */
    unsigned round;
    unsigned rounds[TREE_KEYS_MAX]; /* 0: not there */
    size_t value_bytes;             /* of values written from now on, at most */
    size_t sizes[TREE_KEYS_MAX];
};

/* The tree of the test that runs: new, closed, its disk empty, with memtables
 * and tables of 4096 bytes, level 1 of 16384, and no threads. */
extern struct tree tree;

int tree_setup(void **state);
int tree_teardown(void **state);
#define TREE_CASE(name)                                                        \
    cmocka_unit_test_setup_teardown(name, tree_setup, tree_teardown)

/* For the next open. */
void tree_set(const char *name, uint64_t value);
/* On a directory of the disk, e.g. a checkpoint's. */
enum status tree_try_open_at(const char *path);
void tree_open(void);
/* The open fails with status, and says all the words, ended by NULL. */
void tree_refused(enum status status, const char *const *words);
void tree_close(void);
void tree_reopen(void);
/* Lose power, each time with other luck, and close. */
void tree_crash(enum memory_survival survival);

struct bytes tree_key(unsigned number); /* until the fourth call after it */
/* Until the next call. */
struct bytes tree_value(unsigned number, unsigned round, size_t size);

enum status tree_try_put(unsigned number, bool sync) MUST_CHECK;
void tree_put(unsigned number);
void tree_put_all(unsigned first, unsigned end);
void tree_remove(unsigned number);
/* Delete the range of keys from first to before end. */
void tree_drop(unsigned first, unsigned end);
void tree_sync(void);
void tree_settle(void);
/* Without threads: make a table of what is in memory, and compact nothing. */
void tree_flush(void);

/* A key reads as it should. */
void tree_expect(unsigned number);
enum status tree_get(unsigned number) MUST_CHECK;
/* All keys do, by gets and by iterators in both directions. */
void tree_check(void);
struct engine_iterator *tree_iterate(unsigned first, unsigned end,
                                     enum engine_order order);
/* What is left of the iterator are the keys from first to before end that are
 * in rounds. */
void tree_expect_rest(struct engine_iterator *iterator, unsigned first,
                      unsigned end, enum engine_order order,
                      const unsigned *rounds);

/* Of the version: tables of a level, levels that have any, drops. */
size_t tree_tables(unsigned level);
size_t tree_levels(void);
size_t tree_drops(void);
struct engine_stats tree_stats(void);
/* How many files of the store end so, and the name of the first or the last;
 * name may be NULL. */
enum tree_which { TREE_FIRST, TREE_LAST };
size_t tree_files(const char *ending, enum tree_which which,
                  char name[MEMORY_NAME_MAX]);
/* The name of the only table of a level. */
void tree_table_name(unsigned level, char name[LSM_NAME_MAX]);
/* In a store that is new: one table in level 0 of the keys below end, 400 at
 * most, in some ten blocks; its name. Memtables and tables grow for it. */
void tree_make_table(unsigned end, char name[LSM_NAME_MAX]);
/* All reads of the disk fail from the next on, or none does any more. */
void tree_fail_reads(bool fail);

#endif
