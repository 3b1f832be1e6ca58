/* SPDX-License-Identifier: MIT */
#include "proto/envelope.h"

#include "proto/assert.h"
#include "proto/varint.h"

enum {
    /* The smallest honest parts cost about 27 bytes for each byte of frame
     * (siblings of one byte: 3 bytes of frame, 32 of arena and protobuf-c's
     * scratch of 48, doubled). An empty submessage costs 50 and more. */
    BUDGET_PER_FRAME_BYTE = 32,
    /* Envelope, body and the scratch of the smallest frames. */
    BUDGET_BASE = 16 * 1024,

    /* How protobuf begins a field: its number and the type on the wire. */
    WIRE_TYPE_BITS = 3,
    WIRE_TYPE_MASK = 7,
    WIRE_BYTES = 2,
    TAG_VERSION = 1 << WIRE_TYPE_BITS,
};

size_t envelope_budget(size_t frame_bytes)
{
    if (frame_bytes > (SIZE_MAX - BUDGET_BASE) / BUDGET_PER_FRAME_BYTE)
        return SIZE_MAX;
    return BUDGET_BASE + frame_bytes * BUDGET_PER_FRAME_BYTE;
}

/* protobuf-c says NULL for both malformed and out of memory; this remembers
 * which it was. */
struct tracked {
    struct arena *arena;
    bool spent;
};

static void *tracked_alloc(void *data, size_t size)
{
    struct tracked *tracked = data;
    void *memory = arena_alloc(tracked->arena, size);
    if (memory == NULL)
        tracked->spent = true;
    return memory;
}

static void tracked_free(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

/* The bytes of the body, and of what type it is, in a frame that begins as
 * envelope_head has it, whatever the version, and ends with the body. NULL for
 * any other. protobuf-c takes no longer varints either. */
static const ProtobufCFieldDescriptor *find_body(struct bytes frame,
                                                 struct bytes *body)
{
    uint64_t tag, size;
    if (frame.size < 2 || frame.data[0] != TAG_VERSION || frame.data[1] >= 0x80)
        return NULL;
    const uint8_t *end = frame.data + frame.size, *begin = frame.data + 2;
    const uint8_t *middle = take_varint(begin, end, &tag);
    const uint8_t *at = take_varint(middle, end, &size);
    if (at == NULL || size != (uint64_t)(end - at) ||
        middle - begin > VARINT32_MAX || at - middle > VARINT32_MAX ||
        (tag & WIRE_TYPE_MASK) != WIRE_BYTES || tag > UINT32_MAX)
        return NULL;
    *body = bytes_of(at, (size_t)size);
    return protobuf_c_message_descriptor_get_field(
        &rkv__envelope__descriptor, (unsigned)(tag >> WIRE_TYPE_BITS));
}

/* protobuf-c is a third faster with bodies than with envelopes around them,
 * for which it goes through all bodies that there might be. So it gets those
 * of frames that begin as ours do, and all other frames whole. */
static Rkv__Envelope *unpack(struct bytes frame, struct tracked *tracked)
{
    static const uint8_t nothing[1];
    ProtobufCAllocator allocator = {.alloc = tracked_alloc,
                                    .free = tracked_free,
                                    .allocator_data = tracked};
    struct bytes body;
    const ProtobufCFieldDescriptor *field = find_body(frame, &body);
    if (field == NULL || field->type != PROTOBUF_C_TYPE_MESSAGE)
        return rkv__envelope__unpack(&allocator, frame.size,
                                     frame.data == NULL ? nothing : frame.data);
    const void *message = protobuf_c_message_unpack(
        field->descriptor, &allocator, body.size, body.data);
    if (message == NULL)
        return NULL;
    Rkv__Envelope *envelope = envelope_new(
        tracked->arena, (Rkv__Envelope__BodyCase)field->id, message);
    if (envelope == NULL)
        tracked->spent = true;
    else
        envelope->version = frame.data[1];
    return envelope;
}

const Rkv__Envelope *envelope_unpack(struct bytes frame, struct arena *arena,
                                     struct error *error)
{
    struct tracked tracked = {.arena = arena};
    const Rkv__Envelope *envelope = unpack(frame, &tracked);
    if (envelope == NULL && tracked.spent) {
        error_set(error, STATUS_NO_MEMORY,
                  "a frame of %zu bytes does not unpack into %zu bytes",
                  frame.size, arena->budget);
        return NULL;
    }
    if (envelope == NULL) {
        error_set(error, STATUS_INVALID,
                  "a frame of %zu bytes is not an envelope", frame.size);
        return NULL;
    }
    if (envelope->version < PROTOCOL_VERSION_MIN ||
        envelope->version > PROTOCOL_VERSION_MAX) {
        error_set(error, STATUS_UNSUPPORTED,
                  "protocol version %u; this node speaks %d to %d",
                  (unsigned)envelope->version, PROTOCOL_VERSION_MIN,
                  PROTOCOL_VERSION_MAX);
        return NULL;
    }
    if (envelope->body_case == RKV__ENVELOPE__BODY__NOT_SET) {
        error_set(error, STATUS_UNSUPPORTED,
                  "the envelope has no body that this node knows");
        return NULL;
    }
    return envelope;
}

size_t envelope_head(Rkv__Envelope__BodyCase body_case, size_t body_bytes,
                     uint8_t head[ENVELOPE_HEAD_MAX])
{
    head[0] = TAG_VERSION;
    head[1] = PROTOCOL_VERSION_MAX;
    /* A case is the number of its field. */
    uint8_t *at = put_varint(head + 2, (uint64_t)body_case << WIRE_TYPE_BITS |
                                           WIRE_BYTES);
    return (size_t)(put_varint(at, body_bytes) - head);
}

enum status envelope_pack(const Rkv__Envelope *envelope, struct buffer *out)
{
    const ProtobufCMessage *body;
    memcpy(&body, &envelope->result, sizeof body); /* as envelope_new sets it */
    ASSERT(body != NULL && envelope->version == PROTOCOL_VERSION_MAX);
    uint8_t head[ENVELOPE_HEAD_MAX];
    size_t size = protobuf_c_message_get_packed_size(body);
    size_t used = envelope_head(envelope->body_case, size, head);
    enum status status = buffer_reserve(out, used + size);
    if (status != STATUS_OK)
        return status;
    memcpy(out->data + out->size, head, used);
    size_t packed = protobuf_c_message_pack(body, out->data + out->size + used);
    ASSERT(packed == size);
    out->size += used + size;
    return STATUS_OK;
}

void *message_new(struct arena *arena,
                  const ProtobufCMessageDescriptor *descriptor)
{
    void *message = arena_alloc(arena, descriptor->sizeof_message);
    if (message != NULL)
        protobuf_c_message_init(descriptor, message);
    return message;
}

Rkv__Envelope *envelope_new(struct arena *arena,
                            Rkv__Envelope__BodyCase body_case, const void *body)
{
    ASSERT(body_case != RKV__ENVELOPE__BODY__NOT_SET && body != NULL);
    Rkv__Envelope *envelope = message_new(arena, &rkv__envelope__descriptor);
    if (envelope == NULL)
        return NULL;
    envelope->version = PROTOCOL_VERSION_MAX;
    envelope->body_case = body_case;
    /* The bodies are pointers in one union, so any member sets each. */
    memcpy(&envelope->result, &body, sizeof body);
    return envelope;
}

Rkv__Envelope *envelope_result(struct arena *arena, enum status status,
                               const char *message)
{
    Rkv__Result *result = message_new(arena, &rkv__result__descriptor);
    if (result == NULL)
        return NULL;
    result->status = (Rkv__Status)status;
    if (message != NULL) {
        result->message = arena_string(arena, message);
        if (result->message == NULL)
            return NULL;
    }
    return envelope_new(arena, RKV__ENVELOPE__BODY_RESULT, result);
}
