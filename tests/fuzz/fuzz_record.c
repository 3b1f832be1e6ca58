/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proto/record.h"
#include "proto/record_wire.h"
#include "tests/fuzz/fuzz.h"

enum { ARENA_BYTES_PER_BYTE = 64, ARENA_BYTES_MIN = 1 << 16 };

/* What decodes encodes to the same bytes, and merged with itself is itself. */
static void check_record(struct bytes encoded, struct arena *arena)
{
    struct record record, merged;
    if (record_decode(encoded, arena, &record) != STATUS_OK)
        return;
    struct buffer again = {0};
    ASSERT(record_encode(&record, &again) == STATUS_OK);
    ASSERT(bytes_equal(encoded, buffer_bytes(&again)));
    buffer_clear(&again);
    if (record_merge(&record, &record, 0, 1000, arena, &merged) == STATUS_OK) {
        ASSERT(record_encode(&merged, &again) == STATUS_OK);
        ASSERT(record_version(buffer_bytes(&again)) == record_version(encoded));
    }
    buffer_fini(&again);
}

static void check_context(struct bytes encoded, struct arena *arena)
{
    struct context context;
    enum status status = context_decode(encoded, 0, arena, &context);
    ASSERT(status == STATUS_OK || status == STATUS_INVALID ||
           status == STATUS_REFUSED || status == STATUS_NO_MEMORY);
    if (status != STATUS_OK)
        return;
    struct buffer again = {0};
    ASSERT(context_encode(&context, 0, &again) == STATUS_OK);
    ASSERT(bytes_equal(encoded, buffer_bytes(&again)));
    buffer_fini(&again);
}

static void check(struct bytes data, void (*seal)(struct writer *, size_t),
                  void (*check_sealed)(struct bytes, struct arena *),
                  struct arena *arena)
{
    struct buffer encoded = {0};
    struct writer writer = {.out = &encoded};
    put_bytes(&writer, data);
    if (data.size > 0)
        seal(&writer, 0);
    ASSERT(writer.status == STATUS_OK);
    arena_reset(arena);
    check_sealed(buffer_bytes(&encoded), arena);
    buffer_fini(&encoded);
}

/* The input lacks version and checksum, which no fuzzer would guess. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    arena_init(&arena, ARENA_BYTES_MIN + size * ARENA_BYTES_PER_BYTE);
    struct record record;
    (void)!record_decode(bytes_of(data, size), &arena, &record);
    check(bytes_of(data, size), put_seals, check_record, &arena);
    if (size > 0)
        check(bytes_of(data, size), put_checksum, check_context, &arena);
    arena_fini(&arena);
    return 0;
}
