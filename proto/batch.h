/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_BATCH_H
#define REPLIKV_PROTO_BATCH_H

#include "proto/envelope.h"

/* Many requests, or the replies to them, in one envelope.
 *
 * A repeated message is, for each of its elements, a tag, a length and the
 * packed element; so an envelope around a batch is a head and its parts, one
 * after the other, and no part is ever packed twice:
 *
 *     gap | version, tag and length of the body | part | part | ...
 *
 * A client sends again those parts that need it, a node gathers them as they
 * come, and each puts a head before them, into the end of a gap that was left
 * for it. */

enum {
    BATCH_REQUESTS_MAX = 1000,
    BATCH_GAP_BYTES = ENVELOPE_HEAD_MAX,
};

/* Append the gap to an empty buffer. */
enum status batch_begin(struct buffer *parts) MUST_CHECK;
/* Append the item, a BatchItem or a BatchItemReply, as a part. On NO_MEMORY
 * parts is unchanged. */
enum status batch_append(struct buffer *parts,
                         const ProtobufCMessage *item) MUST_CHECK;
/* Write the head of a BATCH or a BATCH_REPLY into the end of the gap that
 * parts begins with. Returns head and parts, borrowed from parts. */
struct bytes batch_seal(struct buffer *parts,
                        Rkv__Envelope__BodyCase body_case);

#endif
