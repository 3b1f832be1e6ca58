/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_CODING_H
#define REPLIKV_ENGINES_LSM_CODING_H

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/bytes.h"
#include "proto/varint.h"

/* Numbers in files: little-endian, or varints of 7 bits a byte, least
 * significant first. Writers return the place behind what they wrote, whose
 * room the caller has made; readers NULL if the bytes end before or a varint
 * is too long, and pass a NULL on, so that a row of them is checked once. */

enum {
    /* Bytes from which checksum_long pays: 24 ns to 51 for 256, 114 to 743 for
     * 4096. Up to 240 XXH3 is another, short function. */
    CODING_LONG = 256,
};

static inline uint8_t *put_u32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof value); /* little-endian hosts only, see below */
    return at + sizeof value;
}

static inline uint8_t *put_u64(uint8_t *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "files are little-endian, and so must be this machine");

static inline uint32_t load_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t load_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline const uint8_t *take_u32(const uint8_t *at, const uint8_t *end,
                                      uint32_t *value)
{
    if (at == NULL || end - at < (ptrdiff_t)sizeof *value)
        return NULL;
    *value = load_u32(at);
    return at + sizeof *value;
}

static inline const uint8_t *take_u64(const uint8_t *at, const uint8_t *end,
                                      uint64_t *value)
{
    if (at == NULL || end - at < (ptrdiff_t)sizeof *value)
        return NULL;
    *value = load_u64(at);
    return at + sizeof *value;
}

/* A varint size, then the bytes, which are borrowed. */
static inline const uint8_t *take_bytes(const uint8_t *at, const uint8_t *end,
                                        struct bytes *bytes)
{
    uint64_t size;
    at = take_varint(at, end, &size);
    if (at == NULL || size > (uint64_t)(end - at))
        return NULL;
    *bytes = bytes_of(at, (size_t)size);
    return at + size;
}

static inline uint8_t *put_bytes(uint8_t *at, struct bytes bytes)
{
    at = put_varint(at, bytes.size);
    if (bytes.size > 0)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

/* The hash of a key that filters take. */
static inline uint64_t key_hash(struct bytes key)
{
    return XXH3_64bits(key.data, key.size);
}

/* The same checksum, with the widest instructions that this machine has: of a
 * block, in a sixth of the time. */
uint64_t checksum_long(struct bytes bytes, uint64_t seed);

/* What guards everything on disk. The seed is file and place, so that a block
 * copied elsewhere, or left over in a recycled file, does not pass for one. */
static inline uint64_t checksum_at(struct bytes bytes, uint64_t file_number,
                                   uint64_t offset)
{
    uint64_t seed = file_number * UINT64_C(0x9e3779b97f4a7c15) ^ offset;
    return bytes.size < CODING_LONG
               ? XXH3_64bits_withSeed(bytes.data, bytes.size, seed)
               : checksum_long(bytes, seed);
}

/* One version of one key, wherever it is. Borrowed. Sequences number all
 * operations ever written; in a table they are gone: what is nearer to the top
 * of the tree is newer. */
struct entry {
    struct bytes key;
    struct bytes value;
    uint64_t sequence;
    bool removed;
};

#endif
