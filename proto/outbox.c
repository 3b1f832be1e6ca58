/* SPDX-License-Identifier: MIT */
#include "proto/outbox.h"

#include "proto/assert.h"

/* A step says few things: a write to N replicas and a reply. */
enum { OUTBOX_CAPACITY_MIN = 8 };

/* What can be said of any request when there is no room to say more. */
static Rkv__Result spent_result = {
    .base = PROTOBUF_C_MESSAGE_INIT(&rkv__result__descriptor),
    .status = RKV__STATUS__OVERLOADED,
    .outcome = RKV__OUTCOME__UNKNOWN,
    .message = "the reply does not fit the memory of one step",
    .retry_after_ms = 100, /* as for every other queue that is full */
};
static const Rkv__Envelope spent_reply = {
    .base = PROTOBUF_C_MESSAGE_INIT(&rkv__envelope__descriptor),
    .version = PROTOCOL_VERSION_MAX,
    .body_case = RKV__ENVELOPE__BODY_RESULT,
    .result = &spent_result,
};

void outbox_init(struct outbox *outbox, struct arena *arena)
{
    *outbox = (struct outbox){.arena = arena};
}

static bool grow(struct outbox *outbox)
{
    size_t capacity =
        outbox->capacity == 0 ? OUTBOX_CAPACITY_MIN : outbox->capacity * 2;
    struct message_out *messages =
        arena_alloc_uncharged(outbox->arena, capacity * sizeof *messages);
    if (messages == NULL)
        return false;
    if (outbox->count > 0)
        memcpy(messages, outbox->messages, outbox->count * sizeof *messages);
    outbox->messages = messages;
    outbox->capacity = capacity;
    return true;
}

/* A NULL envelope is one that the arena had no room for. */
static void append(struct outbox *outbox, struct message_out message)
{
    if (message.envelope == NULL ||
        (outbox->count == outbox->capacity && !grow(outbox))) {
        outbox->dropped++;
        return;
    }
    outbox->messages[outbox->count++] = message;
}

void outbox_request(struct outbox *outbox, struct node_id to, enum lane lane,
                    uint64_t request, const Rkv__Envelope *envelope)
{
    ASSERT(request != 0 && !node_id_is_zero(to) && lane < LANE_COUNT);
    append(outbox, (struct message_out){.kind = MESSAGE_REQUEST,
                                        .to = to,
                                        .lane = lane,
                                        .request = request,
                                        .envelope = envelope});
}

void outbox_request_address(struct outbox *outbox, const char *address,
                            enum lane lane, uint64_t request,
                            const Rkv__Envelope *envelope)
{
    ASSERT(request != 0 && address != NULL && lane < LANE_COUNT);
    append(outbox, (struct message_out){.kind = MESSAGE_REQUEST,
                                        .address = address,
                                        .lane = lane,
                                        .request = request,
                                        .envelope = envelope});
}

void outbox_reply(struct outbox *outbox, struct reply_token token,
                  const Rkv__Envelope *envelope)
{
    if (token.value == 0)
        return;
    if (envelope == NULL) {
        outbox->dropped++;
        envelope = &spent_reply;
    }
    append(outbox, (struct message_out){.kind = MESSAGE_REPLY,
                                        .token = token,
                                        .envelope = envelope});
}
