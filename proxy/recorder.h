/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_RECORDER_H
#define REPLIKV_PROXY_RECORDER_H

#include <stdatomic.h>

#include "proxy/core/recording.h"

/* The flight recorder: what the node was made of and its events, in memory of
 * a fixed size, as the parts of a recording (proxy/core/recording.h).
 *
 *   | config, trees, first events | a ring: the last events |
 *     half, kept for ever            half, the oldest go
 *
 * An event is recorded before the node takes it, and what the node did is
 * filled in behind; so an assertion that fails has its event on record. Nothing
 * is allocated after recorder_init.
 *
 * Whoever steps the node holds the server's lock, which guards this too; only
 * recorder_stop and recorder_parts may be called without, by a process that
 * dies. */

enum {
    RECORDER_PARTS = 4,
    /* The oldest go by blocks, so that how long they were need not be read
     * again: of a 64th of the ring, or of one event that is longer. */
    RECORDER_BLOCKS = 64,
    /* A block may be left for the next event to find room in another. */
    RECORDER_BLOCKS_MAX = 2 * RECORDER_BLOCKS,
};

struct recorder_block {
    size_t at; /* its place in the ring, behind the block before */
    uint64_t first_event;
};

struct recorder {
    uint8_t *memory; /* NULL: it is off */
    size_t half_bytes;
    uint64_t events; /* all that there were */
    /* Room of the first half, and when that is full of the newest block. */
    uint8_t *at, *end;
    bool is_headless; /* as in the header */
    bool is_first_full;
    size_t first_bytes; /* once it is full */
    uint64_t first_events;
    /* The blocks of the ring, oldest first, a ring as well. */
    struct recorder_block blocks[RECORDER_BLOCKS_MAX];
    size_t oldest, block_count;
    /* They lie from the oldest's place to `at`, or, when they go round, to
     * `wrap` and from 0 to `at`. */
    size_t wrap;
    bool goes_round;
    uint8_t *open;               /* the entry of the event under way, or NULL */
    size_t messages, operations; /* effects before it */
    atomic_bool is_stopped;
};

/* bytes: 0 for one that is off and records nothing, or at least four times
 * RECORDING_CONFIG_BYTES_MAX. */
enum status recorder_init(struct recorder *recorder, size_t bytes) MUST_CHECK;
/* Fine on zeroed memory. */
void recorder_fini(struct recorder *recorder);

/* What the node is made of, before its first event: the configuration, once,
 * then each entry that node_restore is given. */
void recorder_config(struct recorder *recorder, const char *version,
                     const struct node_config *config);
void recorder_trees(struct recorder *recorder, struct bytes saved);

/* Around node_step. Not again before the end of the one before. */
void recorder_begin(struct recorder *recorder, const struct event *event,
                    const struct effects *effects);
void recorder_end(struct recorder *recorder, const struct effects *effects);

/* Nothing is recorded from here on. From any thread, async-signal-safe. */
void recorder_stop(struct recorder *recorder);
/* The recording, in pieces that are borrowed until the next event; the header
 * is made in the first of them. How many; 0 of one that is off.
 * Async-signal-safe; while another thread records, an entry may not be whole.
 */
size_t recorder_parts(const struct recorder *recorder,
                      uint8_t header[RECORDING_HEADER_BYTES],
                      struct bytes parts[RECORDER_PARTS]);
/* All of it behind what is in file; UNSUPPORTED of one that is off. */
enum status recorder_copy(const struct recorder *recorder,
                          struct buffer *file) MUST_CHECK;

#endif
