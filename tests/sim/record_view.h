/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_RECORD_VIEW_H
#define REPLIKV_TESTS_SIM_RECORD_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A record as the checkers read it: a decoder of their own, which shares
 * nothing with proto/record*.c, so that a mistake there is not repeated here.
 * It borrows from the bytes. */

enum {
    VIEW_DOTS_MAX = 512,
    VIEW_VALUES_MAX = 128,
    VIEW_SUPERSEDED_MAX = 128,
};

struct view_dot {
    uint64_t incarnation, counter;
    uint32_t epoch;
};

struct view_value {
    const struct view_dot *dots;
    size_t dot_count;
    uint32_t write; /* from the request id; see history.h */
    uint64_t stamp;
    bool tombstone;
    int64_t expires_ms; /* 0: never */
};

struct view_superseded {
    uint32_t write;
    struct view_dot dot;
};

struct record_view {
    bool is_lww;
    struct view_dot pool[VIEW_DOTS_MAX];
    size_t pool_count;
    const struct view_dot *context;
    size_t context_count;
    struct view_value values[VIEW_VALUES_MAX];
    size_t value_count;
    struct view_superseded superseded[VIEW_SUPERSEDED_MAX];
    size_t superseded_count;
    /* Of the context and values, byte by byte: equal exactly when they are. */
    uint64_t fingerprint;
};

/* False for bytes that are no record, or one too large for the view. */
bool record_view_read(struct record_view *view, const uint8_t *data,
                      size_t size);
/* The same for the context that a client is given: fills in only context. */
bool context_view_read(struct record_view *view, const uint8_t *data,
                       size_t size);

/* The counter that a context shows for the dot's actor, 0 for none. */
uint64_t view_counter(const struct view_dot *context, size_t count,
                      const struct view_dot *of);
/* Whether the record holds the write or has superseded it. */
bool view_knows(const struct record_view *view, uint32_t write);

#endif
