/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proto/envelope.h"
#include "tests/fuzz/fuzz.h"

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
    if (envelope != NULL) {
        struct buffer packed = {0};
        ASSERT(envelope_pack(envelope, &packed) == STATUS_OK);
        ASSERT(packed.size == envelope_packed_size(envelope));
        buffer_fini(&packed);
    }
    arena_fini(&arena);
    return 0;
}
