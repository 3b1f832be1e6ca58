/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_RECORD_WIRE_H
#define REPLIKV_PROTO_RECORD_WIRE_H

#include <endian.h>

#include "proto/record.h"

/* How records and contexts are laid out: little-endian, fixed width, all of it
 * under an XXH3 64 at the end. Private to proto/.
 *
 *     dot      incarnation u64, epoch u32, counter u64
 *     context  count u32, dots by actor
 *     record   main: format u8, kind u8, context,
 *                  values u32, each: dots u32 (dots ascending), request 16
 *                      bytes, written_ms i64, stamp u64, life u8,
 *                      expires_ms i64 if it says so, size u32, data
 *              superseded, each: request, dot, written_ms
 *              superseded u32: how many
 *              version u64: of main
 *              checksum u64: of what is between main and it
 *
 * So a record's version is read, not computed, and what it is of is hashed once
 * for both.
 *
 * Fixed width costs some bytes and leaves a number only one spelling, so that
 * equal records have equal bytes without a rule about shortest forms. */

enum {
    CONTEXT_FORMAT = 2,
    CHECKSUM_SIZE = 8,
    DOT_SIZE = 8 + 4 + 8,
    /* A value has a dot and may have no data. */
    VALUE_SIZE_MIN = 4 + DOT_SIZE + REQUEST_ID_SIZE + 8 + 8 + 1 + 4,
    SUPERSEDED_SIZE = REQUEST_ID_SIZE + DOT_SIZE + 8,
    VERSION_SIZE = 8,
};

/* How long a value lives. */
enum { VALUE_STAYS = 0, VALUE_TOMBSTONE = 1, VALUE_EXPIRES = 2 };

/* Appends; after the first failure it keeps that status and does nothing. */
struct writer {
    struct buffer *out;
    enum status status;
};

static inline void put_bytes(struct writer *writer, struct bytes bytes)
{
    if (writer->status == STATUS_OK)
        writer->status = buffer_append(writer->out, bytes);
}

/* Inline, as the next ones: of a size that is known they are one store, one
 * load, and a hot key's record has some two hundred numbers. */
static inline void put_number(struct writer *writer, uint64_t number,
                              size_t size)
{
    number = htole64(number);
    put_bytes(writer, bytes_of(&number, size));
}

void put_dot(struct writer *writer, struct dot dot);
void put_context(struct writer *writer, const struct context *context);
/* The checksum of out's bytes from start on. */
void put_checksum(struct writer *writer, size_t start);
/* The version and the checksum of the record that out has from start on, as far
 * as how many are superseded. */
void put_seals(struct writer *writer, size_t start);

/* Takes from the front of rest; after the first failure it keeps that status
 * and gives zeros. */
struct reader {
    struct bytes rest;
    struct arena *arena;
    enum status status;
};

void reader_fail(struct reader *reader, enum status status);

static inline struct bytes take_bytes(struct reader *reader, size_t size)
{
    if (size > reader->rest.size)
        reader_fail(reader, STATUS_CORRUPT);
    if (reader->status != STATUS_OK)
        return (struct bytes){0};
    struct bytes taken = bytes_of(reader->rest.data, size);
    reader->rest.data += size;
    reader->rest.size -= size;
    return taken;
}

static inline uint64_t take_number(struct reader *reader, size_t size)
{
    struct bytes bytes = take_bytes(reader, size);
    uint64_t number = 0;
    if (bytes.size > 0)
        memcpy(&number, bytes.data, size);
    return le64toh(number);
}

/* A count of things that take at least size_min bytes each: one that the rest
 * cannot hold is CORRUPT before any memory is taken. */
size_t take_count(struct reader *reader, size_t size_min);
struct dot take_dot(struct reader *reader);
void take_context(struct reader *reader, struct context *context);

/* Cut a right checksum off the end, or answer CORRUPT. */
enum status check_checksum(struct bytes encoded,
                           struct bytes *content) MUST_CHECK;
/* The parts of a record whose version and checksum are right, else CORRUPT. */
enum status check_seals(struct bytes encoded, struct bytes *main,
                        struct bytes *superseded) MUST_CHECK;

#endif
