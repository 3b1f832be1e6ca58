/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_LOG_FORMAT_H
#define REPLIKV_ENGINES_LSM_LOG_FORMAT_H

#include "engines/lsm/coding.h"

/* A record of the log as writer and reader know it, see FORMAT.md. */

enum {
    LOG_AT_CHECKSUM = 0,  /* u64 */
    LOG_AT_CHECK = 8,     /* u32 */
    LOG_AT_SIZE = 12,     /* u32, of the payload; 0: the end record */
    LOG_AT_SEQUENCE = 16, /* u64; of the end record: the next log */
    LOG_AT_SYNCED = 24,   /* u64 */
    LOG_HEADER_BYTES = 32,
};

/* number and offset: of the log and of the record in it. */
static inline uint32_t log_check(const uint8_t *header, uint64_t number,
                                 uint64_t offset)
{
    struct bytes checked =
        bytes_of(header + LOG_AT_SIZE, LOG_HEADER_BYTES - LOG_AT_SIZE);
    return (uint32_t)checksum_at(checked, number, offset);
}

static inline uint64_t log_checksum(const uint8_t *record, size_t size,
                                    uint64_t number, uint64_t offset)
{
    struct bytes checked = bytes_of(record + LOG_AT_CHECK, size - LOG_AT_CHECK);
    return checksum_at(checked, number, offset);
}

/* Complete the header of a record of size bytes, its sequence and payload
 * being in place. */
static inline void log_seal(uint8_t *record, size_t size, uint64_t synced,
                            uint64_t number, uint64_t offset)
{
    put_u32(record + LOG_AT_SIZE, (uint32_t)(size - LOG_HEADER_BYTES));
    put_u64(record + LOG_AT_SYNCED, synced);
    put_u32(record + LOG_AT_CHECK, log_check(record, number, offset));
    put_u64(record + LOG_AT_CHECKSUM,
            log_checksum(record, size, number, offset));
}

#endif
