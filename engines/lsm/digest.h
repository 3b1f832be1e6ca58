/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_DIGEST_H
#define REPLIKV_ENGINES_LSM_DIGEST_H

#include "engines/lsm/coding.h"

/* Eight bytes that stand for a key in most comparisons: its digest, a
 * big-endian number of the bytes in which keys differ. What all of them seem to
 * share is left out, of which there may be two pieces, as in keys that begin
 * with a partition and go on with a bucket. A key that does not share a piece
 * is before or behind all those that do, so the rest of its digest is zeros or
 * ones. That makes an order that agrees with the keys', but may take different
 * ones for equal. */

enum {
    DIGEST_BYTES = 8,
    /* Of a key, that are looked at for what keys share. */
    SHAPE_BYTES_MAX = 64,
};

/* What keys seem to be made of: bytes that all share, bytes in which they
 * differ, and both once more. */
struct shape {
    uint8_t bytes[SHAPE_BYTES_MAX]; /* of one of them */
    uint8_t shared[2], differ[2];   /* differ: DIGEST_BYTES in all */
};

/* Zeroed memory has seen no key. */
struct shape_learner {
    uint8_t first[SHAPE_BYTES_MAX];
    /* How many keys had another byte there, or none. */
    uint32_t differ[SHAPE_BYTES_MAX];
    uint32_t seen; /* keys */
};

/* The first is the one that others are held against. */
void shape_see(struct shape_learner *learner, struct bytes key);
/* Add what another learner has seen, more keys and earlier ones, if they are
 * like these. */
void shape_add(struct shape_learner *learner,
               const struct shape_learner *earlier);
/* Any shape will do for any keys; one of keys like those seen does best. */
struct shape shape_learn(const struct shape_learner *learner);

/* The first `size` bytes, at most 8, of those that are left, zeros behind. */
static inline uint64_t digest_load(const uint8_t *data, size_t size,
                                   size_t left)
{
    uint64_t number = 0;
    if (left >= 8) {
        number = __builtin_bswap64(load_u64(data));
        return size == 8 ? number : number & ~(UINT64_MAX >> (8 * size));
    }
    for (size_t i = 0; i < size; i++)
        number |= (uint64_t)data[i] << (56 - 8 * i);
    return number;
}

static inline uint64_t digest_of(const struct shape *shape, struct bytes key)
{
    uint64_t digest = 0;
    size_t at = 0;
    unsigned used = 0; /* bits */
    for (int i = 0; i < 2 && used < 64; i++) {
        size_t left = key.size - at;
        size_t shared = shape->shared[i] < left ? shape->shared[i] : left;
        int order =
            shared == 0 ? 0 : memcmp(key.data + at, shape->bytes + at, shared);
        if (order != 0)
            return order < 0 ? digest : digest | UINT64_MAX >> used;
        at += shared;
        left -= shared;
        size_t differ = shape->differ[i] < left ? shape->differ[i] : left;
        digest |= digest_load(key.data + at, differ, left) >> used;
        if (differ < shape->differ[i])
            return digest; /* the key ends here */
        at += differ;
        used += 8 * (unsigned)differ;
    }
    return digest;
}

#endif
