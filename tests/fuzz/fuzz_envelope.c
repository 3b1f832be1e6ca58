/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proto/envelope.h"
#include "tests/fuzz/fuzz.h"

/* What protobuf alone makes of it. */
static void compare(const uint8_t *data, size_t size,
                    const Rkv__Envelope *envelope, enum status status)
{
    Rkv__Envelope *whole = rkv__envelope__unpack(NULL, size, data);
    ASSERT(status == STATUS_NO_MEMORY ||
           (whole == NULL) == (status == STATUS_INVALID));
    if (envelope != NULL) {
        ASSERT(whole->body_case == envelope->body_case);
        ASSERT(whole->version == envelope->version);
        /* The bodies alone, which know of no unknown fields around them. */
        ASSERT(protobuf_c_message_get_packed_size(&whole->result->base) ==
               protobuf_c_message_get_packed_size(&envelope->result->base));
    }
    if (whole != NULL)
        rkv__envelope__free_unpacked(whole, NULL);
}

/* Any frame is unpacked within its budget or refused with a reason, and what
 * was unpacked can be packed. That it then unpacks again is no promise:
 * protobuf-c keeps an unknown field whose tag is spelled too long, and packs
 * the tag short and the rest as it was. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    arena_init(&arena, envelope_budget(size));
    struct error error = {.status = STATUS_OK};
    const Rkv__Envelope *envelope =
        envelope_unpack(bytes_of(data, size), &arena, &error);
    ASSERT((envelope != NULL) == (error.status == STATUS_OK));
    ASSERT(arena.used <= arena.budget);
    compare(data, size, envelope, error.status);
    if (envelope != NULL) {
        struct buffer packed = {0};
        ASSERT(envelope_pack(envelope, &packed) == STATUS_OK);
        buffer_fini(&packed);
    }
    arena_fini(&arena);
    return 0;
}
