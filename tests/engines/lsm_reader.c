/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *told(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
static const char *told(const char *format, ...)
{
    static char text[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return text;
}

const char *reader_get(struct engine *engine, const struct history_state *state,
                       size_t number)
{
    struct buffer value = {0};
    uint32_t wanted = state->versions[number], version = 0;
    enum status status = engine_get(engine, history_key(number), &value);
    if (status == STATUS_OK)
        version = history_version(number, buffer_bytes(&value));
    buffer_fini(&value);
    if (version == wanted &&
        status == (wanted == 0 ? STATUS_NOT_FOUND : STATUS_OK))
        return NULL;
    return told("key %zu answers %s with version %u, not %u", number,
                status_name(status), (unsigned)version, (unsigned)wanted);
}

const char *reader_get_none(struct engine *engine, size_t number)
{
    uint8_t room[ENGINE_KEY_BYTES_MAX];
    struct buffer value = {0};
    struct bytes key = history_key(number);
    if (key.size == sizeof room)
        return NULL;
    memcpy(room, key.data, key.size);
    room[key.size] = 1;
    enum status status =
        engine_get(engine, bytes_of(room, key.size + 1), &value);
    buffer_fini(&value);
    return status == STATUS_NOT_FOUND
               ? NULL
               : told("what was never written answers %s", status_name(status));
}

const char *reader_all(struct engine *engine, const struct history_state *state)
{
    const char *why = NULL;
    for (size_t i = 0; i < HISTORY_KEYS && why == NULL; i++)
        why = reader_get(engine, state, i);
    for (int order = ENGINE_FORWARD; order <= ENGINE_BACKWARD; order++) {
        struct reader reader = {0};
        struct reader_range all = {.to = HISTORY_KEYS,
                                   .order = (enum engine_order)order};
        if (why == NULL)
            why = reader_open(&reader, engine, state, &all);
        if (why == NULL)
            why = reader_next(&reader, SIZE_MAX);
        reader_close(&reader);
    }
    return why;
}

const char *reader_scan(struct engine *engine, struct history_state *state)
{
    struct engine_iterator *iterator;
    struct bytes key, value, none = {0};
    const char *why = NULL;
    memset(state, 0, sizeof *state);
    enum status status =
        engine_iterate(engine, none, none, ENGINE_FORWARD, &iterator);
    if (status != STATUS_OK)
        return told("iterate answers %s", status_name(status));
    while (why == NULL &&
           (status = engine_next(iterator, &key, &value)) == STATUS_OK) {
        size_t number = history_key_number(key);
        uint32_t version =
            number == SIZE_MAX ? 0 : history_version(number, value);
        if (version == 0)
            why = told("key %zu or its value was never written", number);
        else
            state->versions[number] = version;
    }
    engine_iterator_free(iterator);
    if (why == NULL && status != STATUS_NOT_FOUND)
        why = told("a scan ends with %s", status_name(status));
    return why;
}

const char *reader_open(struct reader *reader, struct engine *engine,
                        const struct history_state *state,
                        const struct reader_range *range)
{
    uint8_t rooms[2][ENGINE_KEY_BYTES_MAX];
    struct bytes from = {0};
    *reader = (struct reader){.state = *state,
                              .from = range->from,
                              .to = range->to,
                              .order = range->order};
    if (range->from > 0)
        from = history_bound(range->from, range->from_between, rooms[0]);
    enum status status = engine_iterate(
        engine, from, history_bound(range->to, range->to_between, rooms[1]),
        range->order, &reader->iterator);
    return status == STATUS_OK
               ? NULL
               : told("iterate answers %s", status_name(status));
}

/* The next key that ought to come; HISTORY_KEYS: none. */
static size_t next_key(struct reader *reader)
{
    size_t size = reader->to - reader->from;
    while (reader->passed < size) {
        size_t passed = reader->passed++;
        size_t number = reader->order == ENGINE_FORWARD
                            ? reader->from + passed
                            : reader->to - 1 - passed;
        if (reader->state.versions[number] != 0)
            return number;
    }
    return HISTORY_KEYS;
}

static const char *check_row(const struct reader *reader, size_t number,
                             struct bytes key, struct bytes value)
{
    if (!bytes_equal(key, history_key(number)))
        return told("key %zu comes where key %zu ought to",
                    history_key_number(key), number);
    uint32_t wanted = reader->state.versions[number];
    uint32_t version = history_version(number, value);
    return version == wanted
               ? NULL
               : told("a row of key %zu has version %u, not %u", number,
                      (unsigned)version, (unsigned)wanted);
}

const char *reader_next(struct reader *reader, size_t count)
{
    const char *why = NULL;
    for (size_t n = 0; n < count && why == NULL; n++) {
        struct bytes key, value;
        size_t number = next_key(reader);
        enum status status = engine_next(reader->iterator, &key, &value);
        if (number == HISTORY_KEYS && status == STATUS_NOT_FOUND) {
            reader_close(reader);
            return NULL;
        }
        if (number == HISTORY_KEYS || status != STATUS_OK)
            why = told("next answers %s where key %zu ought to come",
                       status_name(status), number);
        else
            why = check_row(reader, number, key, value);
    }
    return why;
}

void reader_close(struct reader *reader)
{
    engine_iterator_free(reader->iterator);
    reader->iterator = NULL;
}
