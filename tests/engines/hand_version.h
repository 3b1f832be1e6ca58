/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_HAND_VERSION_H
#define REPLIKV_TESTS_ENGINES_HAND_VERSION_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

#include "engines/lsm/version.h"

/* A version of tables that are made by hand and have no files, for what looks
 * at their keys and sizes only. Tables are known by the order in which they
 * are made, the first being 1. */

enum { HAND_TABLES_MAX = 32, HAND_TEXT_MAX = 256 };

static struct {
    struct version *version;
    struct table tables[HAND_TABLES_MAX + 1];
    size_t count;
} hand;

static int hand_setup(void **state)
{
    (void)state;
    memset(&hand, 0, sizeof hand);
    hand.version = version_new();
    return hand.version == NULL ? -1 : 0;
}

/* The test's own reference keeps a table from being freed as one of the heap:
 * after a test every other one is gone. */
static int hand_teardown(void **state)
{
    (void)state;
    version_unref(hand.version);
    for (size_t i = 1; i <= hand.count; i++) {
        if (hand.tables[i].references != 1)
            return -1;
    }
    return 0;
}

#define HAND_CASE(name)                                                        \
    cmocka_unit_test_setup_teardown(name, hand_setup, hand_teardown)

static inline struct table *hand_table(const char *smallest,
                                       const char *largest)
{
    assert_true(hand.count < HAND_TABLES_MAX);
    struct table *table = &hand.tables[++hand.count];
    *table = (struct table){
        .number = hand.count,
        .facts = {.bytes = 100, .entries = 10},
        .smallest = bytes_of_string(smallest),
        .largest = bytes_of_string(largest),
    };
    atomic_init(&table->references, 1);
    return table;
}

static inline void hand_apply(const struct version_edit *edit,
                              uint64_t flushed_sequence)
{
    struct version *next = version_apply(hand.version, edit, flushed_sequence);
    assert_non_null(next);
    version_unref(hand.version);
    hand.version = next;
}

/* Make a table and add it: in level 0 in front, elsewhere in key order. */
static inline struct table *hand_add(unsigned level, const char *smallest,
                                     const char *largest)
{
    struct table *table = hand_table(smallest, largest);
    struct version_edit edit = {
        .added = &table, .added_count = 1, .added_level = level};
    hand_apply(&edit, 0);
    return table;
}

static inline void hand_resize(struct table *table, unsigned level,
                               uint64_t bytes)
{
    hand.version->levels[level].bytes += bytes - table->facts.bytes;
    table->facts.bytes = bytes;
}

/* "" for `to`: no bound. */
static inline void hand_drop(const char *from, const char *to,
                             uint64_t sequence)
{
    struct dropped_range range = {.from = bytes_of_string(from),
                                  .to = bytes_of_string(to),
                                  .sequence = sequence};
    struct version_edit edit = {.drop = &range};
    hand_apply(&edit, 0);
}

#endif
