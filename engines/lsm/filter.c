/* SPDX-License-Identifier: MIT */
#include "engines/lsm/filter.h"

size_t filter_bytes(uint64_t keys)
{
    uint64_t line_bits = FILTER_LINE_BYTES * 8;
    uint64_t lines = (keys * FILTER_BITS_PER_KEY + line_bits - 1) / line_bits;
    return (size_t)(lines > 0 ? lines : 1) * FILTER_LINE_BYTES;
}
