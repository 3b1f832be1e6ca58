/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_SP_H
#define REPLIKV_PROTO_SP_H

#include "proto/bytes.h"
#include "proto/transport.h"

/* The bytes of the Scalability Protocols' req/rep mapping (WIRE.md): the
 * handshake both sides begin with, and the frames that follow. It looks at the
 * bytes it is given, borrows them, allocates nothing and keeps no state: a
 * frame that is not whole yet is looked at again when more has come, which
 * costs the few bytes of its header. */

enum { SP_HANDSHAKE_BYTES = 8 };

/* Devices between a client and us. nng gives up at 8 by default and can be
 * told 15 at most. */
enum { SP_HOPS_MAX = 15 };

enum sp_protocol { SP_REQ = 0x0030, SP_REP = 0x0031 };
enum sp_framing { SP_TCP, SP_IPC };

void sp_handshake(enum sp_protocol self, uint8_t out[SP_HANDSHAKE_BYTES]);
/* INVALID unless it is the handshake of this protocol. */
enum status sp_handshake_check(const uint8_t in[SP_HANDSHAKE_BYTES],
                               enum sp_protocol expected) MUST_CHECK;

enum sp_result {
    SP_FRAME,     /* *frame is the first one and *size its bytes */
    SP_MORE,      /* not whole yet; *size is what it takes, header included */
    SP_OVERSIZED, /* it says that it is so many bytes, beyond the limit */
    SP_MALFORMED,
};

/* Look at the first frame of input. frame_bytes_max bounds what the header
 * counts: hops, id and payload. But for OVERSIZED, *size never exceeds
 * frame_bytes_max + 9. */
enum sp_result sp_parse(enum sp_framing framing, size_t frame_bytes_max,
                        struct bytes input, struct frame *frame,
                        size_t *size) MUST_CHECK;

/* Before what the header counts. */
size_t sp_header_size(enum sp_framing framing);

/* Of an OVERSIZED frame, of which input is what is here: its hops and id, and
 * the beginning of its payload. MORE: they are not all here, which takes at
 * most 64 bytes behind the header. */
enum sp_result sp_parse_head(enum sp_framing framing, struct bytes input,
                             struct frame *frame) MUST_CHECK;

/* What sp_append takes for such a frame, header included. */
size_t sp_frame_size(enum sp_framing framing, struct bytes hops,
                     struct bytes payload);
/* Append a frame to out. NO_MEMORY leaves out as it was. hops are whole words
 * without their top bits, id has its own. */
enum status sp_append(enum sp_framing framing, const struct frame *frame,
                      struct buffer *out) MUST_CHECK;

#endif
