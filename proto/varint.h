/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_VARINT_H
#define REPLIKV_PROTO_VARINT_H

#include <stddef.h>
#include <stdint.h>

/* Numbers of 7 bits a byte, the least significant first, as protobuf has them
 * on the wire and the LSM engine in its files. */

enum { VARINT32_MAX = 5, VARINT64_MAX = 10 };

/* Returns the place behind, whose room the caller has made. */
static inline uint8_t *put_varint(uint8_t *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}

/* The place behind, or NULL if the bytes end before or it is too long; passes a
 * NULL on, so that a row of them is checked once. */
static inline const uint8_t *take_varint(const uint8_t *at, const uint8_t *end,
                                         uint64_t *value)
{
    if (at == NULL)
        return NULL;
    if (at < end && *at < 0x80) {
        *value = *at;
        return at + 1;
    }
    uint64_t result = 0;
    for (unsigned shift = 0; at < end && shift < 64; shift += 7) {
        uint8_t byte = *at++;
        result |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = result;
            return at;
        }
    }
    return NULL;
}

#endif
