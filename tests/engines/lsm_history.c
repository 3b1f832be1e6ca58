/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engines/engine.h"
#include "proto/assert.h"
#include "tests/sim/random.h"

void history_init(struct history *history)
{
    *history = (struct history){0};
}

void history_fini(struct history *history)
{
    free(history->changes);
}

void history_begin(struct history *history)
{
    history->last++;
}

void history_change(struct history *history, size_t key, uint32_t version)
{
    ASSERT(key < HISTORY_KEYS && history->last > history->first);
    if (history->count == history->capacity) {
        history->capacity = 2 * history->capacity + 64;
        history->changes = realloc(
            history->changes, history->capacity * sizeof *history->changes);
        ASSERT(history->changes != NULL);
    }
    history->changes[history->count++] =
        (struct history_change){(uint16_t)key, version, history->last};
    history->now.versions[key] = version;
}

/* Counts the keys that differ, so that a batch costs what it changes. */
struct history_match history_find(const struct history *history,
                                  const struct history_state *state,
                                  uint64_t first, uint64_t last)
{
    struct history_state at = history->base;
    struct history_match found = {first, SIZE_MAX};
    size_t differing = 0, next = 0;
    ASSERT(history->first <= first && last <= history->last);
    for (size_t i = 0; i < HISTORY_KEYS; i++)
        differing += at.versions[i] != state->versions[i];
    for (uint64_t batch = history->first; batch <= last; batch++) {
        for (; next < history->count && history->changes[next].batch == batch;
             next++) {
            const struct history_change *change = &history->changes[next];
            uint32_t wanted = state->versions[change->key];
            differing -= at.versions[change->key] != wanted;
            differing += change->version != wanted;
            at.versions[change->key] = change->version;
        }
        if (batch >= first && differing <= found.differing)
            found = (struct history_match){batch, differing};
    }
    return found;
}

void history_forget(struct history *history, uint64_t batch)
{
    size_t done = 0;
    ASSERT(history->first <= batch && batch <= history->last);
    for (; done < history->count && history->changes[done].batch <= batch;
         done++) {
        const struct history_change *change = &history->changes[done];
        history->base.versions[change->key] = change->version;
    }
    history->count -= done;
    if (history->count > 0)
        memmove(history->changes, history->changes + done,
                history->count * sizeof *history->changes);
    history->first = batch;
}

void history_undo(struct history *history, uint64_t batch)
{
    ASSERT(history->first <= batch && batch <= history->last);
    while (history->count > 0 &&
           history->changes[history->count - 1].batch > batch)
        history->count--;
    history->now = history->base;
    for (size_t i = 0; i < history->count; i++)
        history->now.versions[history->changes[i].key] =
            history->changes[i].version;
    history->last = batch;
}

/* Keys come in fours: a number, and that with more and more of one byte behind
 * it, which is the lowest, the highest or one between. */
enum { FOUR = 4, NUMBER_BYTES = 4, LONG_EVERY = 16 };

static size_t tail_size(size_t number)
{
    size_t four = number / FOUR;
    switch (number % FOUR) {
    case 0:
        return 0;
    case 1:
        return 1 + four % 3;
    case 2:
        return 4 + four * 7 % 40;
    }
    return four % LONG_EVERY == 0 ? ENGINE_KEY_BYTES_MAX - NUMBER_BYTES
                                  : 44 + four * 13 % 60;
}

struct bytes history_key(size_t number)
{
    static uint8_t keys[HISTORY_KEYS][ENGINE_KEY_BYTES_MAX];
    static const uint8_t tails[] = {0x00, 'x', 0xff};
    ASSERT(number < HISTORY_KEYS);
    uint8_t *key = keys[number];
    size_t tail = tail_size(number);
    if (key[0] == 0) {
        char text[NUMBER_BYTES + 1];
        snprintf(text, sizeof text, "k%03u", (unsigned)(number / FOUR) % 1000);
        memset(key + NUMBER_BYTES, tails[number / FOUR % 3], tail);
        memcpy(key, text, NUMBER_BYTES);
    }
    return bytes_of(key, NUMBER_BYTES + tail);
}

size_t history_key_number(struct bytes key)
{
    char text[NUMBER_BYTES + 1] = {0};
    if (key.size < NUMBER_BYTES)
        return SIZE_MAX;
    memcpy(text, key.data, NUMBER_BYTES);
    size_t four = strtoul(text + 1, NULL, 10);
    for (size_t i = FOUR * four; i < FOUR * four + FOUR; i++) {
        if (i < HISTORY_KEYS && bytes_equal(history_key(i), key))
            return i;
    }
    return SIZE_MAX;
}

struct bytes history_bound(size_t number, bool between, uint8_t *room)
{
    if (between && number > 0) {
        struct bytes before = history_key(number - 1);
        if (before.size < ENGINE_KEY_BYTES_MAX) {
            memcpy(room, before.data, before.size);
            room[before.size] = 0;
            return bytes_of(room, before.size + 1);
        }
    }
    return number < HISTORY_KEYS ? history_key(number) : bytes_of(NULL, 0);
}

/* Small mostly, some of several blocks of a table, and few larger than all of
 * the tree was made for. Two in three compress well. */
struct bytes history_value(size_t key, uint32_t version, uint8_t *room)
{
    uint32_t number = (uint32_t)key;
    struct randomness random = {(uint64_t)version << 16 | key};
    uint64_t hash = random_next(&random);
    size_t size = 8 + hash % 120;
    if (version == HISTORY_EMPTY)
        return bytes_of(room, 0);
    if (hash % 61 == 0)
        size = 8 + (hash >> 16) % 6000;
    if (hash % 4099 == 0)
        size = 8 + (hash >> 16) % (HISTORY_VALUE_MAX - 8);
    memcpy(room, &number, 4);
    memcpy(room + 4, &version, 4);
    for (size_t i = 8; i < size; i++)
        room[i] = (uint8_t)(hash % 3 == 0 ? random_next(&random) : i / 16);
    return bytes_of(room, size);
}

uint32_t history_version(size_t key, struct bytes value)
{
    static uint8_t wanted[HISTORY_VALUE_MAX];
    uint32_t version;
    if (value.size == 0)
        return HISTORY_EMPTY;
    if (value.size < 8)
        return 0;
    memcpy(&version, value.data + 4, 4);
    if (version < HISTORY_FIRST)
        return 0;
    return bytes_equal(value, history_value(key, version, wanted)) ? version
                                                                   : 0;
}
