/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_LSM_HISTORY_H
#define REPLIKV_TESTS_ENGINES_LSM_HISTORY_H

#include "proto/bytes.h"

/* What a store may hold: the state behind one batch, and every batch since, so
 * that what a crash left can be found among the states behind each of them.
 *
 *     base --batch--> ... --batch--> now
 *
 * A value follows from its key and its version, a number that no two puts
 * share, so a state is one number a key. Not thread-safe. Memory that cannot be
 * had ends the test. */

enum {
    HISTORY_KEYS = 640,
    /* Beyond a memtable, a table and a record that is read at once. */
    HISTORY_VALUE_MAX = 120000,
    /* The version of all values without a byte, which say nothing. */
    HISTORY_EMPTY = 1,
    HISTORY_FIRST = 2, /* of other versions */
};

struct history_state {
    uint32_t versions[HISTORY_KEYS]; /* 0: it is not there */
};

struct history_change {
    uint16_t key;
    uint32_t version;
    uint64_t batch;
};

struct history {
    uint64_t first, last; /* the batches behind which base and now are */
    struct history_state base, now;
    struct history_change *changes; /* since base, oldest first */
    size_t count, capacity;
};

/* Empty, behind batch 0. */
void history_init(struct history *history);
void history_fini(struct history *history);

/* The next batch begins, and nothing is in it. */
void history_begin(struct history *history);
/* It writes a key, or with version 0 removes it. */
void history_change(struct history *history, size_t key, uint32_t version);

/* The last batch, of first to last, behind which the state differs the least
 * from this one, and in how many keys. */
struct history_match {
    uint64_t batch;
    size_t differing;
};
struct history_match history_find(const struct history *history,
                                  const struct history_state *state,
                                  uint64_t first, uint64_t last);
/* Forget how the states before this batch were: it is the new base. */
void history_forget(struct history *history, uint64_t batch);
/* What came behind this batch never was. */
void history_undo(struct history *history, uint64_t batch);

/* Keys are numbered in their order. Some are prefixes of others, and some are
 * as long as can be. What is answered stays valid. */
struct bytes history_key(size_t number);
/* SIZE_MAX: it is none. */
size_t history_key_number(struct bytes key);
/* A bound with the keys from number on behind it: that key, or with `between`
 * what comes just behind the key before, in room for ENGINE_KEY_BYTES_MAX
 * bytes. HISTORY_KEYS: the end, which is empty but for that. */
struct bytes history_bound(size_t number, bool between, uint8_t *room);

/* The value, in room for HISTORY_VALUE_MAX bytes. */
struct bytes history_value(size_t key, uint32_t version, uint8_t *room);
/* 0: no version of this key has such a value. */
uint32_t history_version(size_t key, struct bytes value);

#endif
