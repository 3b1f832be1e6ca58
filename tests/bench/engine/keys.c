/* SPDX-License-Identifier: MIT */
#include "tests/bench/engine/keys.h"

#include <stdlib.h>

#include "tests/bench/engine/bench.h"

enum {
    POOL_BYTES = 1 << 20,
    PIECE_BYTES = 100, /* db_bench's */
    ROUNDS = 4,        /* from which on a Feistel network looks random */
};

/* Vigna's splitmix64: any state will do, and its outputs are independent. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t keys_random(uint64_t *state, uint64_t bound)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return (uint64_t)(((unsigned __int128)mix(*state) * bound) >> 64);
}

static void fill_pool(uint8_t *pool, size_t size)
{
    uint64_t state = 0;
    for (size_t i = 0; i < size; i++)
        pool[i] = i % PIECE_BYTES < PIECE_BYTES / 2
                      ? (uint8_t)keys_random(&state, 256)
                      : pool[i - PIECE_BYTES / 2];
}

void keys_init(struct keys *keys, uint64_t count, size_t value_bytes)
{
    size_t pool_bytes = POOL_BYTES + value_bytes;
    *keys = (struct keys){.count = count,
                          .half_bits = 1,
                          .pool = bench_allocate(pool_bytes),
                          .slices = POOL_BYTES / PIECE_BYTES,
                          .value_bytes = value_bytes};
    while (UINT64_C(1) << (2 * keys->half_bits) < count)
        keys->half_bits++;
    fill_pool(keys->pool, pool_bytes);
}

void keys_fini(struct keys *keys)
{
    free(keys->pool);
    *keys = (struct keys){0};
}

/* A Feistel network permutes a power of four of numbers; walking on from those
 * that are too large permutes the rest. It takes no memory, which a shuffled
 * array would take from the caches that are measured. */
uint64_t keys_shuffled(const struct keys *keys, uint64_t i)
{
    uint64_t mask = (UINT64_C(1) << keys->half_bits) - 1;
    do {
        uint64_t left = i >> keys->half_bits, right = i & mask;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            uint64_t hash =
                (right + (round << 32) + 1) * UINT64_C(0x9e3779b97f4a7c15);
            uint64_t next = left ^ ((hash >> 32) & mask);
            left = right;
            right = next;
        }
        i = (left << keys->half_bits) | right;
    } while (i >= keys->count);
    return i;
}

static void write_digits(uint8_t *digits, uint32_t number)
{
    for (unsigned i = KEY_BYTES / 2; i > 0; i--) {
        digits[i - 1] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

static void key_of(struct key *key, uint64_t number)
{
    write_digits(key->digits, (uint32_t)(number / 100000000));
    write_digits(key->digits + KEY_BYTES / 2, (uint32_t)(number % 100000000));
}

void key_present(struct key *key, uint64_t number)
{
    key_of(key, 2 * number);
}

void key_absent(struct key *key, uint64_t number)
{
    key_of(key, 2 * number + 1);
}

struct bytes keys_value(const struct keys *keys, uint64_t number)
{
    size_t slice = (size_t)(mix(number) % keys->slices);
    return bytes_of(keys->pool + slice * PIECE_BYTES, keys->value_bytes);
}

bool keys_value_is(const struct keys *keys, uint64_t number, struct bytes value)
{
    struct bytes expected = keys_value(keys, number);
    size_t compared = value.size < 8 ? value.size : 8;
    return value.size == expected.size &&
           memcmp(value.data, expected.data, compared) == 0;
}
