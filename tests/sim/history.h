/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_HISTORY_H
#define REPLIKV_TESTS_SIM_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the clients did and were told: all that the checkers know of the truth.
 *
 * A write is a number from 1; its request id begins with it, and the value of
 * a put is made of it, so that it is known wherever it turns up. */

enum {
    WRITES_MAX = 512,
    KEYS_MAX = 8,
    /* A record remembers 64 superseded requests; beyond that a retry that was
     * long away may count again, which is no mistake. */
    WRITES_PER_KEY_MAX = 60,
};

/* A set of writes. */
struct write_set {
    uint64_t bits[WRITES_MAX / 64];
};

static inline bool set_has(const struct write_set *set, uint32_t write)
{
    return set->bits[write / 64] >> (write % 64) & 1;
}

static inline void set_add(struct write_set *set, uint32_t write)
{
    set->bits[write / 64] |= UINT64_C(1) << (write % 64);
}

static inline void set_join(struct write_set *set, const struct write_set *more)
{
    for (size_t i = 0; i < WRITES_MAX / 64; i++)
        set->bits[i] |= more->bits[i];
}

enum fate {
    FATE_OPEN,        /* its client waits, or has given up: unknown */
    FATE_APPLIED,     /* some attempt was answered so */
    FATE_NOT_APPLIED, /* all attempts were answered so */
};

struct write {
    uint32_t key;
    bool remove, expires;
    int64_t expires_min_ms; /* by the slowest clock, if it expires */
    /* What its client had seen when it wrote, and what those had seen. */
    struct write_set seen;
    enum fate fate;
    int64_t issued_us;
    /* From the outside, by observing: */
    bool observed;      /* in a stored record or in a reply */
    bool prepared;      /* in a batch, whatever became of it */
    uint32_t dot_count; /* dots it was ever stored under */
    /* In a lww bucket; several when it was coordinated more than once. */
    uint64_t stamp_min, stamp_max;
    int64_t expires_max_ms; /* likewise */
};

struct history {
    struct write writes[WRITES_MAX];
    uint32_t write_count; /* the last one's number */
    bool key_is_lww[KEYS_MAX];
    uint32_t key_count;
    uint32_t writes_of_key[KEYS_MAX];
    int64_t key_began_us[KEYS_MAX]; /* its first write */
    bool disk_was_lost, clock_was_wrong;
    int64_t night_us;    /* the last began then; 0: none did */
    int64_t wall_ms_max; /* what any clock shows, at the end */
};

/* Whether the write, if it was coordinated twice, may not be known for one: by
 * a night, which is longer than retries are remembered, or a clock by which it
 * was. */
static inline bool history_may_split(const struct history *history,
                                     uint32_t write)
{
    return history->disk_was_lost || history->clock_was_wrong ||
           (history->night_us > 0 &&
            history->writes[write].issued_us <= history->night_us);
}

/* A new write, or 0 when the key or the history has had enough. */
uint32_t history_write(struct history *history, uint32_t key, bool remove,
                       const struct write_set *seen, int64_t now_us);
/* What a client has seen that was given these values. */
void history_seen(const struct history *history, const uint32_t *writes,
                  size_t count, struct write_set *seen);

#endif
