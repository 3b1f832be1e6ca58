/* SPDX-License-Identifier: MIT */
#include "proto/record.h"
#include "proto/record_order.h"
#include "proto/record_wire.h"

uint64_t context_counter(const struct context *context, struct actor actor)
{
    size_t low = 0;
    size_t high = context->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = actor_compare(context->entries[middle].actor, actor);
        if (order == 0)
            return context->entries[middle].counter;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

bool context_covers(const struct context *context, struct dot dot)
{
    return dot.counter <= context_counter(context, dot.actor);
}

enum status context_join(const struct context *a, const struct context *b,
                         struct arena *arena, struct context *joined)
{
    struct dot *entries =
        arena_alloc(arena, (a->count + b->count) * sizeof *entries);
    if (entries == NULL)
        return STATUS_NO_MEMORY;
    size_t i = 0;
    size_t k = 0;
    size_t count = 0;
    while (i < a->count || k < b->count) {
        int order = i == a->count   ? 1
                    : k == b->count ? -1
                                    : actor_compare(a->entries[i].actor,
                                                    b->entries[k].actor);
        struct dot entry = order <= 0 ? a->entries[i] : b->entries[k];
        if (order == 0 && b->entries[k].counter > entry.counter)
            entry = b->entries[k];
        i += order <= 0;
        k += order >= 0;
        entries[count++] = entry;
    }
    *joined = (struct context){.entries = entries, .count = count};
    return STATUS_OK;
}

struct context record_seen(const struct record *record)
{
    struct context seen = record->context;
    if (record->kind != RECORD_LWW)
        return seen;
    for (size_t i = 0; i < record->value_count; i++)
        if (record->values[i].stamp > seen.stamp)
            seen.stamp = record->values[i].stamp;
    return seen;
}

/* format u8, key hash u64, stamp u64, context, checksum u64 */
enum status context_encode(const struct context *context, uint64_t key_hash,
                           struct buffer *out)
{
    size_t start = out->size;
    struct writer writer = {.out = out};
    put_number(&writer, CONTEXT_FORMAT, 1);
    put_number(&writer, key_hash, 8);
    put_number(&writer, context->stamp, 8);
    put_context(&writer, context);
    put_checksum(&writer, start);
    if (writer.status != STATUS_OK)
        out->size = start;
    return writer.status;
}

enum status context_decode(struct bytes encoded, uint64_t key_hash,
                           struct arena *arena, struct context *context)
{
    *context = (struct context){0};
    if (encoded.size == 0)
        return STATUS_OK;
    struct reader reader = {.arena = arena};
    if (check_checksum(encoded, &reader.rest) != STATUS_OK)
        return STATUS_INVALID;
    if (take_number(&reader, 1) != CONTEXT_FORMAT)
        return STATUS_INVALID;
    uint64_t named = take_number(&reader, 8);
    struct context decoded;
    uint64_t stamp = take_number(&reader, 8);
    take_context(&reader, &decoded);
    decoded.stamp = stamp;
    if (reader.status == STATUS_NO_MEMORY)
        return STATUS_NO_MEMORY;
    if (reader.status != STATUS_OK || reader.rest.size != 0)
        return STATUS_INVALID;
    if (named != key_hash)
        return STATUS_REFUSED;
    *context = decoded;
    return STATUS_OK;
}

const char *context_mistake(enum status status)
{
    if (status == STATUS_REFUSED)
        return "context: it belongs to another key";
    return status == STATUS_NO_MEMORY ? "context: no memory for it"
                                      : "context: malformed";
}
