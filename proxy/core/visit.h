/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_VISIT_H
#define REPLIKV_PROXY_CORE_VISIT_H

#include "proto/arena.h"
#include "proto/bytes.h"

/* One description of a struct that writes it and reads it back: a function
 * visits the fields in order, and the visit puts each behind the last, or takes
 * it from there.
 *
 * Who writes has made the room. What is read is bytes of a file: it is checked
 * and bounded, and from the first mistake on all is zero and `in` is NULL, so
 * that a row of fields is checked once. Bytes and strings that are read point
 * into what they are read from.
 *
 * Writing assigns to no field, so that what is written may be constant. All of
 * it is inlined, and so has to be what is to be fast: then a field is a load
 * and a store. */

#define VISIT static inline __attribute__((always_inline))

struct visit {
    bool writes;
    uint8_t *out;            /* writing: the place behind */
    const uint8_t *in, *end; /* reading; in is NULL after a mistake */
    struct arena *arena;     /* reading: for lists */
};

VISIT bool visit_is_good(const struct visit *visit)
{
    return visit->writes || visit->in != NULL;
}

VISIT size_t visit_left(const struct visit *visit)
{
    return visit->in == NULL ? 0 : (size_t)(visit->end - visit->in);
}

/* Any field of this machine's byte order, without pointers or gaps. */
VISIT void visit_raw(struct visit *visit, void *field, size_t size)
{
    if (visit->writes) {
        memcpy(visit->out, field, size);
        visit->out += size;
    } else if (size <= visit_left(visit)) {
        memcpy(field, visit->in, size);
        visit->in += size;
    } else {
        memset(field, 0, size);
        visit->in = NULL;
    }
}

/* A number of one byte, at most max: an enum, flags. */
VISIT void visit_small(struct visit *visit, unsigned *field, unsigned max)
{
    uint8_t byte = (uint8_t)*field;
    visit_raw(visit, &byte, sizeof byte);
    if (visit->writes)
        return;
    *field = byte <= max ? byte : 0;
    if (byte > max)
        visit->in = NULL;
}

VISIT void visit_bool(struct visit *visit, bool *field)
{
    unsigned value = *field;
    visit_small(visit, &value, 1);
    if (!visit->writes)
        *field = value != 0;
}

/* How many bytes or things of a byte or more follow. */
VISIT size_t visit_size(struct visit *visit, size_t value)
{
    uint32_t size = (uint32_t)value;
    visit_raw(visit, &size, sizeof size);
    if (visit->writes || size <= visit_left(visit))
        return size;
    visit->in = NULL;
    return 0;
}

VISIT void visit_bytes(struct visit *visit, struct bytes *field)
{
    size_t size = visit_size(visit, field->size);
    if (visit->writes) {
        if (size > 0)
            memcpy(visit->out, field->data, size);
        visit->out += size;
        return;
    }
    *field = (struct bytes){0};
    if (size == 0)
        return;
    *field = bytes_of(visit->in, size);
    visit->in += size;
}

/* With its end; NULL stays NULL. */
VISIT void visit_string(struct visit *visit, const char **field)
{
    struct bytes bytes = {0};
    if (visit->writes && *field != NULL)
        bytes = bytes_of(*field, strlen(*field) + 1);
    visit_bytes(visit, &bytes);
    if (visit->writes)
        return;
    *field = (const char *)bytes.data;
    if (bytes.size > 0 && strnlen(*field, bytes.size) != bytes.size - 1) {
        *field = NULL;
        visit->in = NULL;
    }
}

/* Of an array of size characters, one of them its end. */
VISIT void visit_name(struct visit *visit, char *field, size_t size)
{
    const char *string = field;
    visit_string(visit, &string);
    if (visit->writes)
        return;
    memset(field, 0, size);
    if (string != NULL && strlen(string) < size)
        memcpy(field, string, strlen(string));
    else
        visit->in = NULL;
}

/* To visit what is written: nothing is assigned then. */
VISIT void *visit_writes(const void *constant)
{
    union {
        const void *in;
        void *out;
    } pointer = {.in = constant};
    return pointer.out;
}

/* Things of size each. Writing, those of list; reading, their memory, zeroed.
 */
VISIT void *visit_list(struct visit *visit, const void *list, size_t *count,
                       size_t size)
{
    size_t there = visit_size(visit, *count);
    if (visit->writes)
        return visit_writes(list);
    void *memory = there == 0 ? NULL : arena_zalloc(visit->arena, there * size);
    *count = memory == NULL ? 0 : there;
    if (*count < there)
        visit->in = NULL;
    return memory;
}

#endif
