/* SPDX-License-Identifier: MIT */
#include "proto/bytes.h"

#include <stdlib.h>

/* Small enough not to matter, large enough that a typical record fits
 * without growing again. */
enum { BUFFER_CAPACITY_MIN = 256 };

enum status buffer_reserve(struct buffer *buffer, size_t more)
{
    if (more <= buffer->capacity - buffer->size)
        return STATUS_OK;
    if (more > SIZE_MAX / 2 - buffer->size)
        return STATUS_NO_MEMORY;
    size_t capacity =
        buffer->capacity == 0 ? BUFFER_CAPACITY_MIN : buffer->capacity;
    while (capacity < buffer->size + more)
        capacity *= 2;
    uint8_t *data = realloc(buffer->data, capacity);
    if (data == NULL)
        return STATUS_NO_MEMORY;
    buffer->data = data;
    buffer->capacity = capacity;
    return STATUS_OK;
}

void buffer_fini(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
