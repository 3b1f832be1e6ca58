/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proto/record.h"
#include "proto/record_order.h"

/* Why the merge is associative. To a record each dot is unseen, live or dead
 * (covered, and of no live value), and a merge takes the later of the three
 * for every dot. A request is dead when one of its dots is, or when it is
 * listed as superseded; a merge that kills one lists it, so that a third copy
 * that holds it under another dot dies whichever merge comes first. That holds
 * as far back as the list reaches. */

struct record record_empty(enum record_kind kind)
{
    return (struct record){.kind = kind};
}

bool value_is_gone(const struct value *value, int64_t now_ms)
{
    return value->tombstone ||
           (value->expires_ms != 0 && now_ms >= value->expires_ms);
}

bool record_is_deleted(const struct record *record, int64_t now_ms)
{
    for (size_t i = 0; i < record->value_count; i++) {
        if (!value_is_gone(&record->values[i], now_ms))
            return false;
    }
    return true;
}

static int compare_requests(const void *a, const void *b)
{
    const struct value *left = a;
    const struct value *right = b;
    return request_id_compare(left->request, right->request);
}

static int compare_first_dots(const void *a, const void *b)
{
    const struct value *left = a;
    const struct value *right = b;
    return dot_compare(left->dots[0], right->dots[0]);
}

static int compare_stamps(const struct value *a, const struct value *b)
{
    if (a->stamp != b->stamp)
        return a->stamp < b->stamp ? -1 : 1;
    return dot_compare(a->dots[0], b->dots[0]);
}

static int compare_superseded(const void *a, const void *b)
{
    return superseded_compare(a, b);
}

static bool lists_superseded(const struct record *record,
                             struct request_id request)
{
    for (size_t i = 0; i < record->superseded_count; i++) {
        if (request_id_equal(record->superseded[i].request, request))
            return true;
    }
    return false;
}

/* The dots of a value are sorted. */
static bool value_has_dot(const struct value *value, struct dot dot)
{
    size_t low = 0;
    size_t high = value->dot_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = dot_compare(value->dots[middle], dot);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* Whether other, where the request of value is live as theirs (or not, NULL),
 * has seen it superseded. */
static bool is_dead_in(const struct value *value, const struct value *theirs,
                       const struct record *other)
{
    if (lists_superseded(other, value->request))
        return true;
    for (size_t i = 0; i < value->dot_count; i++) {
        struct dot dot = value->dots[i];
        if (context_covers(&other->context, dot) &&
            (theirs == NULL || !value_has_dot(theirs, dot)))
            return true;
    }
    return false;
}

/* A merge at work: all pieces have room for what both sides hold. */
struct merging {
    const struct record *a;
    const struct record *b;
    struct arena *arena;
    const void **live; /* of struct value */
    size_t live_count;
    struct superseded *dying; /* what this merge supersedes */
    const void **dying_sorted;
    size_t dying_count;
};

static enum status merging_init(struct merging *merging, const struct record *a,
                                const struct record *b, struct arena *arena)
{
    size_t values = a->value_count + b->value_count;
    *merging = (struct merging){.a = a, .b = b, .arena = arena};
    merging->live = arena_alloc(arena, values * sizeof *merging->live);
    merging->dying = arena_alloc(arena, values * sizeof *merging->dying);
    merging->dying_sorted =
        arena_alloc(arena, values * sizeof *merging->dying_sorted);
    if (merging->live == NULL || merging->dying == NULL ||
        merging->dying_sorted == NULL)
        return STATUS_NO_MEMORY;
    return STATUS_OK;
}

static void bury(struct merging *merging, const struct value *value)
{
    struct superseded *gone = &merging->dying[merging->dying_count];
    *gone = (struct superseded){.request = value->request,
                                .dot = value->dots[0],
                                .written_ms = value->written_ms};
    merging->dying_sorted[merging->dying_count++] = gone;
}

/* One request that two coordinators applied: the lower dot's value under the
 * dots of both. */
static enum status unite(struct merging *merging, const struct value *a,
                         const struct value *b)
{
    const struct value *lower = compare_first_dots(a, b) <= 0 ? a : b;
    struct value *united = arena_copy(merging->arena, lower, sizeof *united);
    struct dot *dots = arena_alloc(
        merging->arena, (a->dot_count + b->dot_count) * sizeof *dots);
    if (united == NULL || dots == NULL)
        return STATUS_NO_MEMORY;
    size_t i = 0;
    size_t k = 0;
    size_t count = 0;
    while (i < a->dot_count || k < b->dot_count) {
        int order = i == a->dot_count   ? 1
                    : k == b->dot_count ? -1
                                        : dot_compare(a->dots[i], b->dots[k]);
        dots[count++] = order <= 0 ? a->dots[i] : b->dots[k];
        i += order <= 0;
        k += order >= 0;
    }
    united->dots = dots;
    united->dot_count = count;
    merging->live[merging->live_count++] = united;
    return STATUS_OK;
}

/* Decide one request: of_a and of_b are its values there, or NULL. */
static enum status settle(struct merging *merging, const struct value *of_a,
                          const struct value *of_b)
{
    bool dead = (of_a != NULL && is_dead_in(of_a, of_b, merging->b)) ||
                (of_b != NULL && is_dead_in(of_b, of_a, merging->a));
    if (dead) {
        if (of_a != NULL)
            bury(merging, of_a);
        if (of_b != NULL)
            bury(merging, of_b);
        return STATUS_OK;
    }
    if (of_a != NULL && of_b != NULL)
        return unite(merging, of_a, of_b);
    merging->live[merging->live_count++] = of_a != NULL ? of_a : of_b;
    return STATUS_OK;
}

static enum status sorted_by_request(const struct record *record,
                                     struct arena *arena, const void ***sorted)
{
    const void **items =
        arena_alloc(arena, record->value_count * sizeof *items);
    if (items == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < record->value_count; i++)
        items[i] = &record->values[i];
    sort_pointers(items, record->value_count, compare_requests);
    *sorted = items;
    return STATUS_OK;
}

static enum status merge_siblings(struct merging *merging)
{
    const void **of_a = NULL;
    const void **of_b = NULL;
    if (sorted_by_request(merging->a, merging->arena, &of_a) != STATUS_OK ||
        sorted_by_request(merging->b, merging->arena, &of_b) != STATUS_OK)
        return STATUS_NO_MEMORY;
    size_t count_a = merging->a->value_count;
    size_t count_b = merging->b->value_count;
    size_t i = 0;
    size_t k = 0;
    while (i < count_a || k < count_b) {
        int order = i == count_a   ? 1
                    : k == count_b ? -1
                                   : compare_requests(of_a[i], of_b[k]);
        enum status status = settle(merging, order <= 0 ? of_a[i] : NULL,
                                    order >= 0 ? of_b[k] : NULL);
        if (status != STATUS_OK)
            return status;
        i += order <= 0;
        k += order >= 0;
    }
    sort_pointers(merging->live, merging->live_count, compare_first_dots);
    return STATUS_OK;
}

/* The highest of all, whatever the contexts say: a plain maximum is what makes
 * it a lattice, and a stamp is drawn above every stamp it supersedes. */
static void merge_lww(struct merging *merging)
{
    const struct record *sides[] = {merging->a, merging->b};
    const struct value *highest = NULL;
    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < sides[s]->value_count; i++) {
            const struct value *value = &sides[s]->values[i];
            if (highest == NULL || compare_stamps(value, highest) > 0)
                highest = value;
        }
    }
    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < sides[s]->value_count; i++) {
            const struct value *value = &sides[s]->values[i];
            if (!request_id_equal(value->request, highest->request))
                bury(merging, value);
        }
    }
    if (highest != NULL)
        merging->live[merging->live_count++] = highest;
}

/* In lww a listed request can be live by the other side's stamp; among
 * siblings to be listed is to be dead. */
static bool is_lww_winner(const struct merging *merging,
                          struct request_id request)
{
    if (merging->a->kind != RECORD_LWW || merging->live_count == 0)
        return false;
    const struct value *value = merging->live[0];
    return request_id_equal(value->request, request);
}

/* What is left of the three lists of superseded requests, each in order. */
struct superseded_heads {
    const struct superseded *of_a, *end_a;
    const struct superseded *of_b, *end_b;
    const void **dying, **end_dying;
};

/* The next of all in order, NULL at the end. */
static const struct superseded *take_first(struct superseded_heads *heads)
{
    const struct superseded *first = NULL;
    if (heads->of_a < heads->end_a)
        first = heads->of_a;
    if (heads->of_b < heads->end_b &&
        (first == NULL || superseded_compare(heads->of_b, first) < 0))
        first = heads->of_b;
    if (heads->dying < heads->end_dying &&
        (first == NULL || superseded_compare(*heads->dying, first) < 0)) {
        heads->dying++;
        return heads->dying[-1];
    }
    if (first != NULL && first == heads->of_a)
        heads->of_a++;
    else if (first != NULL)
        heads->of_b++;
    return first;
}

/* Into kept, in order, each request once, by its lowest dot: a NULL is where
 * one was that turned up under a lower dot later. How many, NULLs included. */
static size_t collect_superseded(struct merging *merging, int64_t oldest_ms,
                                 struct request_places *places,
                                 const struct superseded **kept)
{
    const struct record *a = merging->a, *b = merging->b;
    struct superseded_heads heads = {
        .of_a = a->superseded,
        .end_a = a->superseded + a->superseded_count,
        .of_b = b->superseded,
        .end_b = b->superseded + b->superseded_count,
        .dying = merging->dying_sorted,
        .end_dying = merging->dying_sorted + merging->dying_count,
    };
    size_t count = 0;
    const struct superseded *entry;
    while ((entry = take_first(&heads)) != NULL) {
        if (entry->written_ms < oldest_ms ||
            is_lww_winner(merging, entry->request))
            continue;
        size_t *place = request_place(places, &entry->request);
        if (*place > 0) {
            if (dot_compare(kept[*place - 1]->dot, entry->dot) <= 0)
                continue;
            kept[*place - 1] = NULL;
        }
        kept[count++] = entry;
        *place = count;
    }
    return count;
}

/* The newest of those in the window. A key that is written often has all of
 * them all the time, so this is linear in their number. */
static enum status keep_superseded(struct merging *merging, int64_t oldest_ms,
                                   struct record *merged)
{
    size_t most = merging->a->superseded_count + merging->b->superseded_count +
                  merging->dying_count;
    if (most == 0)
        return STATUS_OK;
    sort_pointers(merging->dying_sorted, merging->dying_count,
                  compare_superseded);
    struct request_places places;
    const struct superseded **kept =
        arena_alloc(merging->arena, most * sizeof *kept);
    if (kept == NULL ||
        request_places_init(&places, most, merging->arena) != STATUS_OK)
        return STATUS_NO_MEMORY;
    size_t first = collect_superseded(merging, oldest_ms, &places, kept);
    size_t end = first;
    while (first > 0 && merged->superseded_count < DEDUP_ENTRIES_MAX)
        merged->superseded_count += kept[--first] != NULL;
    merged->superseded = arena_alloc(
        merging->arena, merged->superseded_count * sizeof *merged->superseded);
    if (merged->superseded == NULL)
        return STATUS_NO_MEMORY;
    struct superseded *next = merged->superseded;
    for (size_t i = first; i < end; i++)
        if (kept[i] != NULL)
            *next++ = *kept[i];
    return STATUS_OK;
}

enum status record_merge(const struct record *a, const struct record *b,
                         int64_t now_ms, int64_t dedup_window_ms,
                         struct arena *arena, struct record *merged)
{
    ASSERT(dedup_window_ms >= 0);
    if (a->kind != b->kind)
        return STATUS_INVALID;
    struct merging merging;
    enum status status = merging_init(&merging, a, b, arena);
    if (status != STATUS_OK)
        return status;
    switch (a->kind) {
    case RECORD_SIBLINGS:
        status = merge_siblings(&merging);
        break;
    case RECORD_LWW:
        merge_lww(&merging);
        break;
    }
    if (status != STATUS_OK)
        return status;
    struct record result = record_empty(a->kind);
    status = context_join(&a->context, &b->context, arena, &result.context);
    if (status == STATUS_OK)
        status = keep_superseded(&merging, now_ms - dedup_window_ms, &result);
    if (status != STATUS_OK)
        return status;
    result.value_count = merging.live_count;
    result.values =
        arena_alloc(arena, merging.live_count * sizeof *result.values);
    if (result.values == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < merging.live_count; i++) {
        const struct value *value = merging.live[i];
        result.values[i] = *value;
    }
    *merged = result;
    return STATUS_OK;
}

static bool holds_request(const struct record *record,
                          struct request_id request)
{
    for (size_t i = 0; i < record->value_count; i++) {
        if (request_id_equal(record->values[i].request, request))
            return true;
    }
    return lists_superseded(record, request);
}

/* own without values that are gone, which are superseded then: they would count
 * as siblings, and nobody is shown them. */
static enum status without_gone(const struct record *own, int64_t now_ms,
                                int64_t dedup_window_ms, struct arena *arena,
                                struct record *trimmed)
{
    struct record live = *own;
    struct value *values =
        arena_alloc(arena, own->value_count * sizeof *values);
    *trimmed = *own;
    if (values == NULL)
        return STATUS_NO_MEMORY;
    live.values = values;
    live.value_count = 0;
    for (size_t i = 0; i < own->value_count; i++)
        if (!value_is_gone(&own->values[i], now_ms))
            values[live.value_count++] = own->values[i];
    if (live.value_count == own->value_count)
        return STATUS_OK;
    return record_merge(own, &live, now_ms, dedup_window_ms, arena, trimmed);
}

enum status record_apply(const struct record *own,
                         const struct record_write *write,
                         int64_t dedup_window_ms, struct arena *arena,
                         struct record *written, bool *duplicate)
{
    ASSERT(!write->tombstone ||
           (write->data.size == 0 && write->expires_ms == 0));
    if (request_id_is_zero(write->request))
        return STATUS_INVALID;
    *duplicate = holds_request(own, write->request);
    if (*duplicate) {
        *written = *own;
        return STATUS_OK;
    }
    ASSERT(write->dot.counter > 0 &&
           !context_covers(&own->context, write->dot));
    /* A client's context that knows this dot already was made before it:
     * the caller did not draw a new incarnation, or the context is a lie. */
    if (context_covers(&write->seen, write->dot))
        return STATUS_INVALID;
    struct dot *dot = arena_copy(arena, &write->dot, sizeof *dot);
    if (dot == NULL)
        return STATUS_NO_MEMORY;
    struct value value = {.dots = dot,
                          .dot_count = 1,
                          .request = write->request,
                          .written_ms = write->now_ms,
                          .stamp = write->stamp,
                          .tombstone = write->tombstone,
                          .expires_ms = write->expires_ms,
                          .data = write->data};
    /* A record that has seen what the client saw, superseded all of it and
     * holds the new value. Its context lacks the dot until after the merge:
     * an entry covers all counters below it, and our own siblings are there. */
    struct record said = {.kind = own->kind,
                          .context = write->seen,
                          .values = &value,
                          .value_count = 1};
    struct context only = {.entries = dot, .count = 1};
    struct record result, trimmed = *own;
    enum status status = STATUS_OK;
    if (own->kind == RECORD_SIBLINGS)
        status =
            without_gone(own, write->now_ms, dedup_window_ms, arena, &trimmed);
    if (status == STATUS_OK)
        status = record_merge(&trimmed, &said, write->now_ms, dedup_window_ms,
                              arena, &result);
    if (status == STATUS_OK)
        status = context_join(&result.context, &only, arena, &result.context);
    if (status != STATUS_OK)
        return status;
    if (result.value_count > SIBLINGS_MAX &&
        result.value_count > own->value_count)
        return STATUS_TOO_LARGE;
    *written = result;
    return STATUS_OK;
}
