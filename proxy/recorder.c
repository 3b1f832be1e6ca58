/* SPDX-License-Identifier: MIT */
#include "proxy/recorder.h"

#include <stdlib.h>

#include "proto/assert.h"
#include "proxy/core/event_codec.h"

enum status recorder_init(struct recorder *recorder, size_t bytes)
{
    ASSERT(bytes == 0 || bytes >= 4 * RECORDING_CONFIG_BYTES_MAX);
    *recorder = (struct recorder){.half_bytes = bytes / 2};
    if (bytes == 0)
        return STATUS_OK;
    recorder->memory = malloc(bytes);
    if (recorder->memory == NULL)
        return STATUS_NO_MEMORY;
    recorder->at = recorder->memory;
    recorder->end = recorder->memory + recorder->half_bytes;
    return STATUS_OK;
}

void recorder_fini(struct recorder *recorder)
{
    free(recorder->memory);
    *recorder = (struct recorder){.memory = NULL};
}

static bool is_off(const struct recorder *recorder)
{
    return recorder->memory == NULL ||
           atomic_load_explicit(&recorder->is_stopped, memory_order_relaxed);
}

/* --- what the node is made of --- */

void recorder_config(struct recorder *recorder, const char *version,
                     const struct node_config *config)
{
    if (is_off(recorder))
        return;
    uint8_t *at = recorder->at + RECORDING_ENTRY_BYTES;
    size_t size = (size_t)(recording_config(at, version, config) - at);
    ASSERT(size <= RECORDING_CONFIG_BYTES_MAX);
    recorder->at =
        recording_entry(recorder->at, (uint32_t)size, recording_unended) + size;
}

void recorder_trees(struct recorder *recorder, struct bytes saved)
{
    if (is_off(recorder) || recorder->is_headless)
        return;
    size_t size = RECORDING_ENTRY_BYTES + 1 + saved.size;
    if (size > (size_t)(recorder->end - recorder->at)) {
        /* Without them the node would do something else. */
        recorder->is_headless = true;
        recorder->at = recorder->end = recorder->memory;
        return;
    }
    uint8_t *at = recording_entry(recorder->at, (uint32_t)saved.size + 1,
                                  recording_unended);
    *at = RECORDING_TREES;
    if (saved.size > 0)
        memcpy(at + 1, saved.data, saved.size);
    recorder->at += size;
}

/* --- the ring --- */

static uint8_t *ring_of(const struct recorder *recorder)
{
    return recorder->memory + recorder->half_bytes;
}

static size_t ring_to(const struct recorder *recorder)
{
    return recorder->is_first_full ? (size_t)(recorder->at - ring_of(recorder))
                                   : 0;
}

static size_t ring_from(const struct recorder *recorder)
{
    return recorder->block_count == 0 ? ring_to(recorder)
                                      : recorder->blocks[recorder->oldest].at;
}

static void drop_oldest(struct recorder *recorder)
{
    size_t from = ring_from(recorder);
    recorder->oldest = (recorder->oldest + 1) % RECORDER_BLOCKS_MAX;
    recorder->block_count--;
    if (ring_from(recorder) < from)
        recorder->goes_round = false;
}

static void ring_empty(struct recorder *recorder)
{
    recorder->block_count = 0;
    recorder->goes_round = false;
    recorder->at = recorder->end = ring_of(recorder);
}

/* Until there are so many bytes behind `at`; how many there are then. */
static size_t ring_clear(struct recorder *recorder, size_t size)
{
    for (;;) {
        size_t end =
            recorder->goes_round ? ring_from(recorder) : recorder->half_bytes;
        size_t room = end - ring_to(recorder);
        if (size <= room)
            return room;
        if (recorder->block_count == 0) {
            ring_empty(recorder);
        } else if (recorder->goes_round) {
            drop_oldest(recorder);
        } else {
            recorder->wrap = ring_to(recorder);
            recorder->at = ring_of(recorder);
            recorder->goes_round = true;
        }
    }
}

static void end_first(struct recorder *recorder)
{
    if (recorder->is_first_full)
        return;
    recorder->is_first_full = true;
    recorder->first_bytes = (size_t)(recorder->at - recorder->memory);
    recorder->first_events = recorder->events;
    ring_empty(recorder);
}

/* What is cut cannot be stepped, so it comes behind a gap, or is one: false,
 * and nothing is kept of it. */
static bool make_gap(struct recorder *recorder)
{
    end_first(recorder);
    if (recorder->block_count > 0 &&
        recorder->blocks[recorder->oldest].first_event ==
            recorder->first_events)
        drop_oldest(recorder);
    if (recorder->block_count == 0)
        ring_empty(recorder);
    return recorder->block_count > 0;
}

/* A block with room for so many bytes. */
static void begin_block(struct recorder *recorder, size_t size)
{
    size_t usual = recorder->half_bytes / RECORDER_BLOCKS;
    end_first(recorder);
    if (recorder->block_count == RECORDER_BLOCKS_MAX)
        drop_oldest(recorder);
    size_t room = ring_clear(recorder, size);
    size_t block = size < usual ? usual : size;
    recorder->end = recorder->at + (block < room ? block : room);
    size_t newest =
        (recorder->oldest + recorder->block_count++) % RECORDER_BLOCKS_MAX;
    recorder->blocks[newest] = (struct recorder_block){
        .at = ring_to(recorder), .first_event = recorder->events};
}

/* --- events --- */

/* Returns the place of its bytes. */
static uint8_t *begin_entry(struct recorder *recorder, size_t size)
{
    if (size > (size_t)(recorder->end - recorder->at))
        begin_block(recorder, size);
    recorder->open = recorder->at;
    return recorder->at + RECORDING_ENTRY_BYTES;
}

void recorder_begin(struct recorder *recorder, const struct event *event,
                    const struct effects *effects)
{
    if (is_off(recorder))
        return;
    size_t whole = event_bytes_max(event);
    bool is_cut = RECORDING_ENTRY_BYTES + whole > recorder->half_bytes;
    if (!is_cut || make_gap(recorder)) {
        size_t size = is_cut ? RECORDING_CUT_BYTES : whole;
        uint8_t *bytes = begin_entry(recorder, RECORDING_ENTRY_BYTES + size);
        recorder->at =
            is_cut ? recording_cut(bytes, whole) : event_encode(event, bytes);
        recording_entry(recorder->open, (uint32_t)(recorder->at - bytes),
                        recording_unended);
    }
    recorder->messages = effects->out.count;
    recorder->operations = effects->storage_count;
    recorder->events++;
}

void recorder_end(struct recorder *recorder, const struct effects *effects)
{
    if (recorder->open == NULL || is_off(recorder))
        return;
    struct step_outcome outcome =
        effects_outcome(effects, recorder->messages, recorder->operations);
    memcpy(recorder->open + sizeof(uint32_t), &outcome, sizeof outcome);
    recorder->open = NULL;
}

/* --- out --- */

void recorder_stop(struct recorder *recorder)
{
    atomic_store_explicit(&recorder->is_stopped, true, memory_order_relaxed);
}

size_t recorder_parts(const struct recorder *recorder,
                      uint8_t header[RECORDING_HEADER_BYTES],
                      struct bytes parts[RECORDER_PARTS])
{
    if (recorder->memory == NULL)
        return 0;
    const uint8_t *ring = ring_of(recorder);
    size_t from = ring_from(recorder), to = ring_to(recorder);
    size_t end = recorder->goes_round ? recorder->wrap : to;
    if (end < from)
        end = from; /* another thread was at work when this one crashed */
    bool is_full = recorder->is_first_full;
    struct recording_header filled = {
        .is_headless = recorder->is_headless,
        .first_events = is_full ? recorder->first_events : recorder->events,
        .first_bytes = is_full ? recorder->first_bytes
                               : (size_t)(recorder->at - recorder->memory),
    };
    uint64_t last_from = recorder->block_count == 0
                             ? recorder->events
                             : recorder->blocks[recorder->oldest].first_event;
    parts[0] = bytes_of(header, RECORDING_HEADER_BYTES);
    parts[1] = bytes_of(recorder->memory, filled.first_bytes);
    parts[2] = bytes_of(ring + from, end - from);
    parts[3] = bytes_of(ring, recorder->goes_round ? to : 0);
    filled.missing = last_from - filled.first_events;
    filled.last_events = recorder->events - last_from;
    filled.last_bytes = parts[2].size + parts[3].size;
    recording_seal(&filled, parts + 1, RECORDER_PARTS - 1, header);
    return RECORDER_PARTS;
}

enum status recorder_copy(const struct recorder *recorder, struct buffer *file)
{
    uint8_t header[RECORDING_HEADER_BYTES];
    struct bytes parts[RECORDER_PARTS];
    size_t count = recorder_parts(recorder, header, parts);
    enum status status = count == 0 ? STATUS_UNSUPPORTED : STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = buffer_append(file, parts[i]);
    return status;
}
