/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proxy/core/event_codec.h"
#include "proxy/core/recording.h"
#include "tests/fuzz/fuzz.h"

enum { ARENA_BYTES = 16 << 20 };

/* What is read as an event can be written, and read again. */
static void check_event(struct bytes bytes)
{
    struct event event;
    struct arena first, second;
    struct buffer copy = {0};
    arena_init(&first, ARENA_BYTES);
    arena_init(&second, 2 * ARENA_BYTES);
    if (event_decode(bytes, &first, &event)) {
        size_t size = event_bytes_max(&event);
        ASSERT(buffer_reserve(&copy, size) == STATUS_OK);
        copy.size = (size_t)(event_encode(&event, copy.data) - copy.data);
        ASSERT(copy.size <= size);
        ASSERT(event_decode(buffer_bytes(&copy), &second, &event));
    }
    buffer_fini(&copy);
    arena_fini(&second);
    arena_fini(&first);
}

/* The input lacks a header with its sum, which no fuzzer would guess: its first
 * byte says how much of it are the first events, and whether some are missing
 * or it is headless. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct bytes parts[] = {bytes_of(data + 1, size - 1)};
    struct recording_header header = {
        .is_headless = *data & 1,
        .missing = *data & 2,
        .first_bytes = parts[0].size * (*data >> 2) / 63,
    };
    header.last_bytes = parts[0].size - header.first_bytes;
    uint8_t sealed[RECORDING_HEADER_BYTES];
    recording_seal(&header, parts, 1, sealed);
    struct buffer file = {0};
    ASSERT(buffer_append(&file, bytes_of(sealed, sizeof sealed)) == STATUS_OK);
    ASSERT(buffer_append(&file, parts[0]) == STATUS_OK);

    struct recording recording;
    struct error error;
    if (recording_open(buffer_bytes(&file), &recording, &error) == STATUS_OK) {
        struct recorded recorded = recording_next(&recording);
        for (; recorded.kind < RECORDED_END;
             recorded = recording_next(&recording))
            if (recorded.kind == RECORDED_EVENT)
                check_event(recorded.bytes);
        recording_fini(&recording);
    }
    buffer_fini(&file);
    return 0;
}
