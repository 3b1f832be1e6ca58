/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_BYTES_H
#define REPLIKV_PROTO_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto/status.h"

/* Borrowed bytes: never freed through this struct, valid as long as whoever
 * lent them says. data may be NULL only when size is 0. */
struct bytes {
    const uint8_t *data;
    size_t size;
};

/* Owned bytes that grow. Zeroed memory is an empty buffer; buffer_fini gives
 * the memory back and leaves an empty buffer. */
struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

static inline struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes){.data = data, .size = size};
}

static inline struct bytes bytes_of_string(const char *string)
{
    return bytes_of(string, strlen(string));
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size &&
           (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Unsigned bytewise order, a prefix before what it begins: the order in which
 * every engine keeps its keys. */
static inline int bytes_compare(struct bytes a, struct bytes b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    if (order != 0)
        return order;
    return (a.size > b.size) - (a.size < b.size);
}

static inline struct bytes buffer_bytes(const struct buffer *buffer)
{
    return bytes_of(buffer->data, buffer->size);
}

/* Make room for more bytes behind size; STATUS_NO_MEMORY leaves the buffer as
 * it was. Capacity doubles, so that appends are amortised. */
enum status buffer_reserve(struct buffer *buffer, size_t more) MUST_CHECK;
MUST_CHECK static inline enum status buffer_append(struct buffer *buffer,
                                                   struct bytes bytes)
{
    if (bytes.size > buffer->capacity - buffer->size) {
        enum status status = buffer_reserve(buffer, bytes.size);
        if (status != STATUS_OK)
            return status;
    }
    if (bytes.size > 0)
        memcpy(buffer->data + buffer->size, bytes.data, bytes.size);
    buffer->size += bytes.size;
    return STATUS_OK;
}

void buffer_fini(struct buffer *buffer);

static inline void buffer_clear(struct buffer *buffer)
{
    buffer->size = 0;
}

#endif
