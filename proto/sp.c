/* SPDX-License-Identifier: MIT */
#include "proto/sp.h"

#include "proto/assert.h"

enum { WORD = 4, LENGTH = 8, TOP_BIT = 0x80, IPC_MESSAGE = 1 };

void sp_handshake(enum sp_protocol self, uint8_t out[SP_HANDSHAKE_BYTES])
{
    const uint8_t bytes[SP_HANDSHAKE_BYTES] = {
        0, 'S', 'P', 0, (uint8_t)(self >> 8), (uint8_t)self, 0, 0};
    memcpy(out, bytes, sizeof(bytes));
}

enum status sp_handshake_check(const uint8_t in[SP_HANDSHAKE_BYTES],
                               enum sp_protocol expected)
{
    uint8_t wanted[SP_HANDSHAKE_BYTES];
    sp_handshake(expected, wanted);
    return memcmp(in, wanted, sizeof(wanted)) == 0 ? STATUS_OK : STATUS_INVALID;
}

size_t sp_header_size(enum sp_framing framing)
{
    return framing == SP_IPC ? 1 + LENGTH : LENGTH;
}

static uint64_t read_number(const uint8_t *data, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | data[i];
    return number;
}

static void write_number(uint8_t *data, size_t size, uint64_t number)
{
    for (size_t i = size; i > 0; i--) {
        data[i - 1] = (uint8_t)number;
        number >>= 8;
    }
}

/* MORE: there are hops, and no id yet. */
static enum sp_result parse_body(struct bytes body, struct frame *frame)
{
    size_t at = 0;
    while (at + WORD <= body.size && (body.data[at] & TOP_BIT) == 0)
        at += WORD;
    if (at / WORD > SP_HOPS_MAX)
        return SP_MALFORMED;
    if (at + WORD > body.size)
        return SP_MORE;
    size_t end = at + WORD;
    frame->id = (uint32_t)read_number(body.data + at, WORD);
    frame->hops = bytes_of(body.data, at);
    frame->payload = bytes_of(body.data + end, body.size - end);
    return SP_FRAME;
}

enum sp_result sp_parse(enum sp_framing framing, size_t frame_bytes_max,
                        struct bytes input, struct frame *frame, size_t *size)
{
    size_t header = sp_header_size(framing);
    if (framing == SP_IPC && input.size > 0 && input.data[0] != IPC_MESSAGE)
        return SP_MALFORMED;
    *size = header;
    if (input.size < header)
        return SP_MORE;
    uint64_t length = read_number(input.data + header - LENGTH, LENGTH);
    if (length > frame_bytes_max) {
        *size = length > SIZE_MAX - header ? SIZE_MAX : header + length;
        return SP_OVERSIZED;
    }
    if (length < WORD)
        return SP_MALFORMED;
    *size = header + (size_t)length;
    if (input.size < *size)
        return SP_MORE;
    enum sp_result result =
        parse_body(bytes_of(input.data + header, (size_t)length), frame);
    return result == SP_MORE ? SP_MALFORMED : result;
}

enum sp_result sp_parse_head(enum sp_framing framing, struct bytes input,
                             struct frame *frame)
{
    size_t header = sp_header_size(framing);
    ASSERT(input.size >= header);
    return parse_body(bytes_of(input.data + header, input.size - header),
                      frame);
}

size_t sp_frame_size(enum sp_framing framing, struct bytes hops,
                     struct bytes payload)
{
    return sp_header_size(framing) + hops.size + WORD + payload.size;
}

enum status sp_append(enum sp_framing framing, const struct frame *frame,
                      struct buffer *out)
{
    ASSERT(frame->hops.size % WORD == 0);
    ASSERT((frame->id & (uint32_t)TOP_BIT << 24) != 0);
    size_t size = sp_frame_size(framing, frame->hops, frame->payload);
    enum status status = buffer_reserve(out, size);
    if (status != STATUS_OK)
        return status;
    size_t header = sp_header_size(framing);
    uint8_t *data = out->data + out->size;
    data[0] = IPC_MESSAGE;
    write_number(data + header - LENGTH, LENGTH, size - header);
    data += header;
    if (frame->hops.size > 0)
        memcpy(data, frame->hops.data, frame->hops.size);
    data += frame->hops.size;
    write_number(data, WORD, frame->id);
    if (frame->payload.size > 0)
        memcpy(data + WORD, frame->payload.data, frame->payload.size);
    out->size += size;
    return STATUS_OK;
}
