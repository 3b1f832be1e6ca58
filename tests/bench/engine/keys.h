/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_BENCH_ENGINE_KEYS_H
#define REPLIKV_TESTS_BENCH_ENGINE_KEYS_H

#include "proto/bytes.h"

/* The keys and values of a run, the same for all engines: they follow from the
 * number of keys and the size of values alone.
 *
 * A key is 16 decimal digits. Number n of a store has the digits of 2n, so
 * that those of 2n + 1 are absent and lie between keys that are there. A value
 * is a slice of a pool, chosen by the key's number: nothing is copied to write
 * it, and what is read can be held against it. As in db_bench, values shrink to
 * a half: each 100 bytes of the pool are 50 random ones twice. */

enum { KEY_BYTES = 16 };

struct keys {
    uint64_t count;
    unsigned half_bits; /* of the permutation's two halves */
    uint8_t *pool;
    uint64_t slices;
    size_t value_bytes;
};

struct key {
    uint8_t digits[KEY_BYTES];
};

void keys_init(struct keys *keys, uint64_t count, size_t value_bytes);
void keys_fini(struct keys *keys);

/* Number i of the random order: over i of 0 to count - 1, each key once. */
uint64_t keys_shuffled(const struct keys *keys, uint64_t i);

/* Any number below bound, from *state, which is any number to begin with. */
uint64_t keys_random(uint64_t *state, uint64_t bound);

void key_present(struct key *key, uint64_t number);
void key_absent(struct key *key, uint64_t number);
static inline struct bytes key_bytes(const struct key *key)
{
    return bytes_of(key->digits, KEY_BYTES);
}

struct bytes keys_value(const struct keys *keys, uint64_t number);
/* Whether it has the value's size and begins as it does. */
bool keys_value_is(const struct keys *keys, uint64_t number,
                   struct bytes value);

#endif
