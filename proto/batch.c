/* SPDX-License-Identifier: MIT */
#include "proto/batch.h"

#include "proto/assert.h"
#include "proto/varint.h"

/* How protobuf begins field 1, of bytes, as both messages have their parts. */
enum { TAG_PART = 1 << 3 | 2 };

enum status batch_begin(struct buffer *parts)
{
    static const uint8_t gap[BATCH_GAP_BYTES];
    ASSERT(parts->size == 0);
    return buffer_append(parts, bytes_of(gap, sizeof gap));
}

enum status batch_append(struct buffer *parts, const ProtobufCMessage *item)
{
    uint8_t start[1 + VARINT64_MAX] = {TAG_PART};
    size_t size = protobuf_c_message_get_packed_size(item);
    size_t used = (size_t)(put_varint(start + 1, size) - start);
    enum status status = buffer_reserve(parts, used + size);
    if (status != STATUS_OK)
        return status;
    memcpy(parts->data + parts->size, start, used);
    size_t packed =
        protobuf_c_message_pack(item, parts->data + parts->size + used);
    ASSERT(packed == size);
    parts->size += used + size;
    return STATUS_OK;
}

struct bytes batch_seal(struct buffer *parts, Rkv__Envelope__BodyCase body_case)
{
    ASSERT(body_case == RKV__ENVELOPE__BODY_BATCH ||
           body_case == RKV__ENVELOPE__BODY_BATCH_REPLY);
    ASSERT(parts->size >= BATCH_GAP_BYTES);
    uint8_t head[ENVELOPE_HEAD_MAX];
    size_t used = envelope_head(body_case, parts->size - BATCH_GAP_BYTES, head);
    size_t start = BATCH_GAP_BYTES - used;
    memcpy(parts->data + start, head, used);
    return bytes_of(parts->data + start, parts->size - start);
}
