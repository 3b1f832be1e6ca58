/* SPDX-License-Identifier: MIT */
#include "engines/lsm/compress.h"

#include <lz4.h>
#include <pthread.h>
#include <zstd.h>

#include "engines/lsm/coding.h"
#include "proto/assert.h"

enum {
    /* Before the block of LZ4, which does not say it: the size of what was
     * compressed. */
    LZ4_HEAD_BYTES = 4,
    /* Of blocks of 4 KiB, level 3 makes 3 % less than level 1, in a third more
     * time; they decompress alike. */
    ZSTD_LEVEL = 1,
};

void compressor_fini(struct compressor *compressor)
{
    ZSTD_freeCCtx(compressor->zstd);
    compressor->zstd = NULL;
}

/* Each compresses into at most room bytes, or answers 0. */
static size_t compress_lz4(struct bytes content, uint8_t *data, size_t room)
{
    if (content.size > LZ4_MAX_INPUT_SIZE || room <= LZ4_HEAD_BYTES)
        return 0;
    uint8_t *at = put_u32(data, (uint32_t)content.size);
    int size =
        LZ4_compress_default((const char *)content.data, (char *)at,
                             (int)content.size, (int)(room - LZ4_HEAD_BYTES));
    return size <= 0 ? 0 : (size_t)size + LZ4_HEAD_BYTES;
}

static size_t compress_zstd(struct compressor *compressor, struct bytes content,
                            uint8_t *data, size_t room)
{
    if (compressor->zstd == NULL)
        compressor->zstd = ZSTD_createCCtx();
    if (compressor->zstd == NULL)
        return 0;
    size_t size = ZSTD_compressCCtx(compressor->zstd, data, room, content.data,
                                    content.size, ZSTD_LEVEL);
    return ZSTD_isError(size) ? 0 : size;
}

enum status compress(struct compressor *compressor, enum compression wanted,
                     struct bytes content, struct buffer *out,
                     enum compression *stored)
{
    enum status status = buffer_reserve(out, content.size);
    if (status != STATUS_OK)
        return status;
    size_t room = content.size - content.size / 8;
    uint8_t *data = out->data + out->size;
    size_t size = 0;
    switch (wanted) {
    case COMPRESSION_NONE:
        break;
    case COMPRESSION_LZ4:
        size = compress_lz4(content, data, room);
        break;
    case COMPRESSION_ZSTD:
        size = compress_zstd(compressor, content, data, room);
        break;
    }
    *stored = size > 0 ? wanted : COMPRESSION_NONE;
    if (size > 0)
        out->size += size;
    else
        status = buffer_append(out, content);
    return status;
}

enum status decompressed_size(enum compression stored, struct bytes bytes,
                              size_t max, size_t *size)
{
    uint64_t claimed = UINT64_MAX;
    switch (stored) {
    case COMPRESSION_NONE:
        claimed = bytes.size;
        break;
    case COMPRESSION_LZ4:
        if (bytes.size >= LZ4_HEAD_BYTES)
            claimed = load_u32(bytes.data);
        break;
    case COMPRESSION_ZSTD:
        /* Unknown and wrong are the two largest numbers. */
        claimed = ZSTD_getFrameContentSize(bytes.data, bytes.size);
        break;
    }
    if (claimed > max)
        return STATUS_CORRUPT;
    *size = (size_t)claimed;
    return STATUS_OK;
}

static pthread_once_t contexts_once = PTHREAD_ONCE_INIT;
static pthread_key_t contexts;
static bool contexts_usable;

static void free_context(void *context)
{
    ZSTD_freeDCtx(context);
}

static void make_contexts(void)
{
    contexts_usable = pthread_key_create(&contexts, free_context) == 0;
}

/* One a thread, since to make one costs more than to decompress a block. */
static ZSTD_DCtx *thread_context(void)
{
    (void)pthread_once(&contexts_once, make_contexts);
    if (!contexts_usable)
        return NULL;
    ZSTD_DCtx *context = pthread_getspecific(contexts);
    if (context != NULL)
        return context;
    context = ZSTD_createDCtx();
    if (pthread_setspecific(contexts, context) != 0) {
        ZSTD_freeDCtx(context);
        return NULL;
    }
    return context;
}

static enum status decompress_lz4(struct bytes bytes, uint8_t *data,
                                  size_t size)
{
    if (bytes.size < LZ4_HEAD_BYTES || bytes.size > INT32_MAX ||
        size > INT32_MAX)
        return STATUS_CORRUPT;
    int made = LZ4_decompress_safe(
        (const char *)bytes.data + LZ4_HEAD_BYTES, (char *)data,
        (int)(bytes.size - LZ4_HEAD_BYTES), (int)size);
    return made >= 0 && (size_t)made == size ? STATUS_OK : STATUS_CORRUPT;
}

static enum status decompress_zstd(struct bytes bytes, uint8_t *data,
                                   size_t size)
{
    ZSTD_DCtx *context = thread_context();
    if (context == NULL)
        return STATUS_NO_MEMORY;
    size_t made =
        ZSTD_decompressDCtx(context, data, size, bytes.data, bytes.size);
    return made == size ? STATUS_OK : STATUS_CORRUPT;
}

enum status decompress(enum compression stored, struct bytes bytes,
                       uint8_t *data, size_t size)
{
    switch (stored) {
    case COMPRESSION_NONE:
        if (bytes.size != size)
            return STATUS_CORRUPT;
        if (size > 0)
            memcpy(data, bytes.data, size);
        return STATUS_OK;
    case COMPRESSION_LZ4:
        return decompress_lz4(bytes, data, size);
    case COMPRESSION_ZSTD:
        return decompress_zstd(bytes, data, size);
    }
    return STATUS_CORRUPT; /* not one that we know */
}
