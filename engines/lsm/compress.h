/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_COMPRESS_H
#define REPLIKV_ENGINES_LSM_COMPRESS_H

#include "proto/bytes.h"
#include "proto/status.h"

/* How a block is stored. On disk, so never renumbered. */
enum compression {
    COMPRESSION_NONE = 0,
    COMPRESSION_LZ4 = 1,
    COMPRESSION_ZSTD = 2,
};

/* What compressing needs from block to block. Zeroed memory is ready. */
struct compressor {
    void *zstd; /* ZSTD_CCtx; NULL until it is needed */
};
void compressor_fini(struct compressor *compressor);

/* Append content, compressed, to out, and say how it was stored: as it is, if
 * compressing does not save an eighth of it. */
enum status compress(struct compressor *compressor, enum compression wanted,
                     struct bytes content, struct buffer *out,
                     enum compression *stored) MUST_CHECK;

/* The size of what was compressed, for the caller to make room. CORRUPT if it
 * is above max, so that a lie costs no memory. */
enum status decompressed_size(enum compression stored, struct bytes bytes,
                              size_t max, size_t *size) MUST_CHECK;
/* Into exactly size bytes, or CORRUPT. */
enum status decompress(enum compression stored, struct bytes bytes,
                       uint8_t *data, size_t size) MUST_CHECK;

#endif
