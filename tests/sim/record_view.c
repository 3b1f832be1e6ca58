/* SPDX-License-Identifier: MIT */
#include "record_view.h"

#include <string.h>

/* How many are superseded, version and checksum. */
enum { END_BYTES = 4 + 8 + 8 };

struct reading {
    const uint8_t *data;
    size_t size, at;
    bool failed;
};

static uint64_t number(struct reading *r, size_t size)
{
    uint64_t value = 0;
    if (r->failed || r->size - r->at < size) {
        r->failed = true;
        return 0;
    }
    for (size_t i = size; i-- > 0;)
        value = value << 8 | r->data[r->at + i];
    r->at += size;
    return value;
}

static struct view_dot dot(struct reading *r)
{
    struct view_dot read;
    read.incarnation = number(r, 8);
    read.epoch = (uint32_t)number(r, 4);
    read.counter = number(r, 8);
    return read;
}

static const struct view_dot *dots(struct reading *r, struct record_view *view,
                                   size_t *count)
{
    const struct view_dot *first = view->pool + view->pool_count;
    *count = number(r, 4);
    if (*count > VIEW_DOTS_MAX - view->pool_count)
        r->failed = true;
    for (size_t i = 0; i < *count && !r->failed; i++)
        view->pool[view->pool_count++] = dot(r);
    return first;
}

static uint32_t request(struct reading *r)
{
    uint64_t write = number(r, 8);
    number(r, 8);
    return (uint32_t)write;
}

static uint64_t fingerprint(const uint8_t *data, size_t size)
{
    /* FNV-1a, 64 bits. */
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static void value(struct reading *r, struct record_view *view)
{
    struct view_value *read = &view->values[view->value_count++];
    read->dots = dots(r, view, &read->dot_count);
    read->write = request(r);
    number(r, 8);
    read->stamp = number(r, 8);
    uint64_t life = number(r, 1);
    read->tombstone = life == 1;
    read->expires_ms = life == 2 ? (int64_t)number(r, 8) : 0;
    size_t size = number(r, 4);
    if (r->size - r->at < size)
        r->failed = true;
    else
        r->at += size;
}

bool record_view_read(struct record_view *view, const uint8_t *data,
                      size_t size)
{
    struct reading r = {.data = data, .size = size};
    view->pool_count = view->value_count = view->superseded_count = 0;
    number(&r, 1);
    view->is_lww = number(&r, 1) != 0;
    view->context = dots(&r, view, &view->context_count);
    size_t values = number(&r, 4);
    if (values > VIEW_VALUES_MAX)
        return false;
    for (size_t i = 0; i < values && !r.failed; i++)
        value(&r, view);
    view->fingerprint = fingerprint(data, r.at);
    while (!r.failed && r.at < size && size - r.at > END_BYTES) {
        if (view->superseded_count == VIEW_SUPERSEDED_MAX)
            return false;
        struct view_superseded *gone =
            &view->superseded[view->superseded_count++];
        gone->write = request(&r);
        gone->dot = dot(&r);
        number(&r, 8);
    }
    bool is_whole = number(&r, 4) == view->superseded_count;
    number(&r, 8);
    number(&r, 8);
    return is_whole && !r.failed && r.at == size;
}

bool context_view_read(struct record_view *view, const uint8_t *data,
                       size_t size)
{
    struct reading r = {.data = data, .size = size};
    view->pool_count = view->value_count = view->superseded_count = 0;
    view->context_count = 0;
    if (size == 0)
        return true;
    number(&r, 1); /* format */
    number(&r, 8); /* key hash */
    number(&r, 8); /* stamp */
    view->context = dots(&r, view, &view->context_count);
    number(&r, 8);
    return !r.failed && r.at == size;
}

uint64_t view_counter(const struct view_dot *context, size_t count,
                      const struct view_dot *of)
{
    for (size_t i = 0; i < count; i++)
        if (context[i].incarnation == of->incarnation &&
            context[i].epoch == of->epoch)
            return context[i].counter;
    return 0;
}

bool view_knows(const struct record_view *view, uint32_t write)
{
    for (size_t i = 0; i < view->value_count; i++)
        if (view->values[i].write == write)
            return true;
    for (size_t i = 0; i < view->superseded_count; i++)
        if (view->superseded[i].write == write)
            return true;
    return false;
}
