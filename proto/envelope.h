/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_ENVELOPE_H
#define REPLIKV_PROTO_ENVELOPE_H

#include "proto/arena.h"
#include "proto/bytes.h"
#include "proto/replikv.pb-c.h"

/* The versioned message around everything on the wire. */

enum {
    PROTOCOL_VERSION_MIN = 1,
    PROTOCOL_VERSION_MAX = 1,
    /* Of what nodes say to each other; 3: records of format 3, 4: Clock. */
    PEER_VERSION_MIN = 3,
    PEER_VERSION_CLOCK = 4,
    PEER_VERSION_TOPOLOGY = 5,
    PEER_VERSION_MAX = 5,
    ENVELOPE_HEAD_MAX = 16, /* version 2, tag 3, length 10 */
};

/* Unpack into the arena, whose budget bounds what a hostile frame can cost:
 * set it with envelope_budget(frame.size). The message borrows nothing from
 * frame and lives as long as the arena's content. NULL with *error filled in:
 * INVALID (malformed), UNSUPPORTED (version or no known body), NO_MEMORY
 * (over the budget). */
const Rkv__Envelope *envelope_unpack(struct bytes frame, struct arena *arena,
                                     struct error *error);

/* Bytes of arena that an honest frame of this size needs at most. */
size_t envelope_budget(size_t frame_bytes);

/* Append the packed message to out. It has a body, and is of this version. */
enum status envelope_pack(const Rkv__Envelope *envelope,
                          struct buffer *out) MUST_CHECK;
/* What an envelope has before its packed body; how many bytes. */
size_t envelope_head(Rkv__Envelope__BodyCase body_case, size_t body_bytes,
                     uint8_t head[ENVELOPE_HEAD_MAX]);

/* A zeroed envelope of this version with the body set; body points to a
 * message of the case's type and is borrowed. NULL when arena is spent. */
Rkv__Envelope *envelope_new(struct arena *arena,
                            Rkv__Envelope__BodyCase body_case,
                            const void *body);

/* A message of the given descriptor, initialised, in the arena, or NULL. */
void *message_new(struct arena *arena,
                  const ProtobufCMessageDescriptor *descriptor);

/* A bare Result. NULL when arena is spent. */
Rkv__Envelope *envelope_result(struct arena *arena, enum status status,
                               const char *message);

/* protobuf-c's bytes and ours. Neither copies. */
static inline struct bytes bytes_of_binary(ProtobufCBinaryData data)
{
    return bytes_of(data.data, data.len);
}

static inline ProtobufCBinaryData binary_of_bytes(struct bytes bytes)
{
    union {
        const uint8_t *in;
        uint8_t *out;
    } data = {.in = bytes.data};
    return (ProtobufCBinaryData){.len = bytes.size, .data = data.out};
}

#endif
