/* SPDX-License-Identifier: MIT */
#include "proto/envelope.h"

#include "proto/assert.h"

enum {
    /* The smallest honest parts cost about 27 bytes for each byte of frame
     * (siblings of one byte: 3 bytes of frame, 32 of arena and protobuf-c's
     * scratch of 48, doubled). An empty submessage costs 50 and more. */
    BUDGET_PER_FRAME_BYTE = 32,
    /* Envelope, body and the scratch of the smallest frames. */
    BUDGET_BASE = 16 * 1024,
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

const Rkv__Envelope *envelope_unpack(struct bytes frame, struct arena *arena,
                                     struct error *error)
{
    static const uint8_t nothing[1];
    struct tracked tracked = {.arena = arena};
    ProtobufCAllocator allocator = {.alloc = tracked_alloc,
                                    .free = tracked_free,
                                    .allocator_data = &tracked};
    const Rkv__Envelope *envelope = rkv__envelope__unpack(
        &allocator, frame.size, frame.data == NULL ? nothing : frame.data);
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

size_t envelope_packed_size(const Rkv__Envelope *envelope)
{
    return rkv__envelope__get_packed_size(envelope);
}

enum status envelope_pack(const Rkv__Envelope *envelope, struct buffer *out)
{
    size_t size = envelope_packed_size(envelope);
    enum status status = buffer_reserve(out, size);
    if (status != STATUS_OK)
        return status;
    size_t packed =
        size == 0 ? 0 : rkv__envelope__pack(envelope, out->data + out->size);
    ASSERT(packed == size);
    out->size += packed;
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
