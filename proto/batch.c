/* SPDX-License-Identifier: MIT */
#include "proto/batch.h"

#include "proto/assert.h"
#include "proto/envelope.h"

enum {
    /* protobuf's wire types, which share a varint with the field's number. */
    WIRE_VARINT = 0,
    WIRE_BYTES = 2,
    VARINT_MAX = 10,
    FIELD_VERSION = 1,  /* of Envelope */
    FIELD_REPEATED = 1, /* of Batch and BatchReply */
};

static size_t put_varint(uint64_t number, uint8_t *out)
{
    size_t size = 0;
    for (; number >= 0x80; number >>= 7)
        out[size++] = (uint8_t)(number | 0x80);
    out[size++] = (uint8_t)number;
    return size;
}

static size_t put_tag(uint32_t field, uint32_t wire_type, uint8_t *out)
{
    return put_varint((uint64_t)field << 3 | wire_type, out);
}

enum status batch_begin(struct buffer *parts)
{
    static const uint8_t gap[BATCH_GAP_BYTES];
    ASSERT(parts->size == 0);
    return buffer_append(parts, bytes_of(gap, sizeof gap));
}

enum status batch_append(struct buffer *parts, const ProtobufCMessage *item)
{
    uint8_t start[1 + VARINT_MAX];
    size_t size = protobuf_c_message_get_packed_size(item);
    size_t used = put_tag(FIELD_REPEATED, WIRE_BYTES, start);
    used += put_varint(size, start + used);
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
    uint8_t head[BATCH_GAP_BYTES];
    size_t used = put_tag(FIELD_VERSION, WIRE_VARINT, head);
    used += put_varint(PROTOCOL_VERSION_MAX, head + used);
    /* A case is the number of its field. */
    used += put_tag((uint32_t)body_case, WIRE_BYTES, head + used);
    used += put_varint(parts->size - BATCH_GAP_BYTES, head + used);
    size_t start = BATCH_GAP_BYTES - used;
    memcpy(parts->data + start, head, used);
    return bytes_of(parts->data + start, parts->size - start);
}
