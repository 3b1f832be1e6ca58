/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_RECORDING_H
#define REPLIKV_PROXY_CORE_RECORDING_H

#include "proxy/core/node.h"

/* A recording: a file from which a node is made again and stepped through what
 * it lived through. proxy/recorder.h writes it, `sim --replay` reads it.
 *
 *   header | first: config, trees, event, event, ... | last: event, ...
 *
 * `first` begins with what the node was made of: its configuration, then each
 * saved hash tree that it was given; then come its events from the first one
 * on. `last` are those up to the end, `missing` counts those between. With none
 * missing the recording is whole, and replays exactly.
 *
 * An entry is its size, what the step did, and its bytes. The event that is
 * being stepped when the file is written is in it, and has not ended.
 *
 * The layout is of one format and of this machine's byte order: a recording is
 * for the program that made it, not for keeping. The sum in the header finds
 * what was cut or damaged. It is no signature: a file that someone made up may
 * fail an assertion of the node. */

enum {
    RECORDING_FORMAT = 3,
    RECORDING_HEADER_BYTES = 64,
    RECORDING_ENTRY_BYTES = 12, /* before an entry's own */
    RECORDING_CUT_BYTES = 1 + sizeof(uint64_t),
    /* Of a configuration: its longest has 256 founders and 64 seeds and 256
     * buckets of at most 150 bytes each. */
    RECORDING_CONFIG_BYTES_MAX = 128 << 10,
    /* The sum is the last of the header, over all but itself. */
    RECORDING_SUMMED_BYTES = RECORDING_HEADER_BYTES - 8,
};

/* The first byte of an entry's own bytes, or the kind of an event. Of an event
 * that is larger than what there is for the last ones no more than its size is
 * kept. */
enum {
    RECORDING_CONFIG = 0xff,
    RECORDING_TREES = 0xfe,
    RECORDING_CUT = 0xfd,
};

struct recording_header {
    /* What the node was made of did not fit: it cannot be made again. */
    bool is_headless;
    uint64_t first_events, first_bytes;
    uint64_t missing;
    uint64_t last_events, last_bytes;
};

/* --- writing --- */

/* In place of what a step did, while it has not ended. */
extern const struct step_outcome recording_unended;

/* Before the bytes of an entry; returns their place. */
uint8_t *recording_entry(uint8_t *at, uint32_t size,
                         struct step_outcome outcome);
static inline size_t recording_entry_size(const uint8_t *entry)
{
    uint32_t size;
    memcpy(&size, entry, sizeof size);
    return (size_t)RECORDING_ENTRY_BYTES + size;
}
/* In place of an event of so many bytes. Returns the place behind, at most
 * RECORDING_CUT_BYTES. */
uint8_t *recording_cut(uint8_t *at, uint64_t size);
/* version is the program's. Returns the place behind, at most
 * RECORDING_CONFIG_BYTES_MAX. */
uint8_t *recording_config(uint8_t *at, const char *version,
                          const struct node_config *config);
/* Fill in the header, with the sum over it and the parts that follow it, of
 * first_bytes and last_bytes together. Async-signal-safe. */
void recording_seal(const struct recording_header *header,
                    const struct bytes *parts, size_t part_count,
                    uint8_t out[RECORDING_HEADER_BYTES]);

/* --- reading --- */

enum recorded_kind {
    RECORDED_TREES, /* node_restore(bytes), before the first event */
    RECORDED_EVENT, /* event_decode(bytes) */
    RECORDED_CUT,   /* an event of cut_bytes, which are not here */
    RECORDED_GAP,   /* here header.missing events are missing */
    RECORDED_END,
    RECORDED_WRONG, /* the bytes are no entry */
};

struct recorded {
    enum recorded_kind kind;
    struct bytes bytes;
    uint64_t cut_bytes;
    struct step_outcome outcome; /* of an event that has_ended */
    bool has_ended;
};

struct recording {
    struct recording_header header;
    const char *version;
    struct node_config config; /* not of one that is headless */
    /* For recording_next. */
    struct arena arena;
    const uint8_t *at, *first_end, *end;
    bool is_past_gap;
};

/* The file is borrowed until recording_fini. INVALID with a sentence for
 * anything else than a whole file of this format; then nothing is to fini. */
enum status recording_open(struct bytes file, struct recording *recording,
                           struct error *error) MUST_CHECK;
void recording_fini(struct recording *recording);
/* The next entry, in order; END and WRONG for ever once reached. */
struct recorded recording_next(struct recording *recording);

#endif
