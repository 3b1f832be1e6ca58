/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proto/record_wire.h"
#include "proxy/core/node.h"
#include "tests/fuzz/fuzz.h"
#include "tests/proxy/toy_storage.h"

/* A node that hears anything from clients and peers, in any order. Whatever it
 * is, no assertion of ours fails and each request is answered once.
 *
 * The input is a list of what happens: a byte that says what and of whom, two
 * that say how long the message is, the message. */

enum {
    NODES = 5,
    WAITING_MAX = 64,
    TOKENS_MAX = 512,
    BUDGET_BYTES = 4 << 20,
    STEP_MS = 100,
};

struct waiting {
    struct node_id to;
    uint64_t request;
};

struct world {
    struct node *node;
    struct toy_storage toy;
    struct effects effects;
    struct arena unpacked;
    struct buffer record;
    struct placement_node founders[NODES];
    struct member members[NODES];
    struct waiting waiting[WAITING_MAX];
    size_t waiting_count;
    uint8_t answers[TOKENS_MAX];
    uint64_t token;
    int64_t now_ms;
    uint64_t sessions;
};

static void step(struct world *w, struct event *event);

static struct bucket_config buckets[] = {
    {.name = "default", .kind = RECORD_SIBLINGS, .r = -1, .w = -1},
    {.name = "sloppy",
     .kind = RECORD_SIBLINGS,
     .r = -1,
     .w = -1,
     .sloppy = true},
    {.name = "lww", .kind = RECORD_LWW, .r = -1, .w = -1},
};

static void name_members(struct world *w)
{
    for (int i = 0; i < NODES; i++) {
        struct member *member = &w->members[i];
        memcpy(member->name, "n1", 3);
        member->name[1] = (char)('1' + i);
        member->id = node_id_of("fuzz", member->name);
        memcpy(member->peer_address, "ipc:///n1", 10);
        member->peer_address[8] = member->name[1];
        member->boot = 2;
        member->store.bytes[0] = 1;
        member->version_min = member->version_max = PEER_VERSION_MAX;
        memcpy(w->founders[i].name, member->name, 3);
    }
}

static void open_node(struct world *w)
{
    name_members(w);
    for (size_t i = 0; i < 3; i++)
        buckets[i].id = bucket_id_of(buckets[i].name);
    struct node_config config = {
        .self = w->members[0],
        .founding = {.cluster = "fuzz",
                     .founders = w->founders,
                     .founder_count = NODES,
                     .partitions = 16,
                     .replicas = 3},
        .buckets = buckets,
        .bucket_count = 3,
        .limits = node_limits_default(),
        .timeouts = node_timeouts_default(),
        .membership = membership_config_default(),
        .engine = "toy",
        .seed = 1,
    };
    config.limits.inflight_max = 8;
    config.limits.hint_bytes_max = 4096;
    config.limits.fallback_bytes_max = 8192;
    struct error error;
    ASSERT(node_new(&config, &w->node, &error) == STATUS_OK);
}

/* --- what the node asks for --- */

/* Carried out at once, what that leads to as well: no step nests deeper than
 * its operations do. */
static void run(struct world *w, const struct storage_op *op, bool fails)
{
    struct storage_result result;
    if (fails)
        result = (struct storage_result){.op = op, .status = STATUS_BROKEN};
    else
        toy_run(&w->toy, op, &result);
    result.prepared_us = w->now_ms * 1000;
    struct event event = {.kind = EVENT_PREPARED, .storage = &result};
    if (!fails && op->kind == STORAGE_COORDINATE)
        step(w, &event);
    event.kind = EVENT_STORED;
    step(w, &event);
}

static void take(struct world *w, const struct message_out *message)
{
    struct buffer packed = {0};
    ASSERT(envelope_pack(message->envelope, &packed) == STATUS_OK);
    buffer_fini(&packed);
    if (message->kind == MESSAGE_REPLY) {
        ASSERT(message->token.value <= w->token);
        ASSERT(++w->answers[message->token.value] == 1);
    } else if (w->waiting_count < WAITING_MAX) {
        w->waiting[w->waiting_count++] =
            (struct waiting){message->to, message->request};
    } /* else it is lost */
}

static void step(struct world *w, struct event *event)
{
    struct effects effects;
    effects_init(&effects, BUDGET_BYTES);
    event->now_us = w->now_ms * 1000;
    event->wall_ms = w->now_ms + 1000000;
    node_step(w->node, event, &effects);
    for (size_t i = 0; i < effects.out.count; i++)
        take(w, &effects.out.messages[i]);
    for (size_t i = 0; i < effects.storage_count; i++)
        run(w, &effects.storage[i], w->now_ms % 7 == 6);
    effects_fini(&effects);
}

/* --- what it is told --- */

/* No fuzzer would guess a version and a checksum. */
static void mend(struct world *w, ProtobufCBinaryData *record)
{
    struct writer writer = {.out = &w->record};
    if (record->len == 0)
        return;
    buffer_clear(&w->record);
    put_bytes(&writer, bytes_of_binary(*record));
    put_seals(&writer, 0);
    ASSERT(writer.status == STATUS_OK);
    void *copy = arena_copy(&w->unpacked, w->record.data, w->record.size);
    if (copy != NULL)
        *record = binary_of_bytes(bytes_of(copy, w->record.size));
}

static void mend_rows(struct world *w, Rkv__Row **rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mend(w, &rows[i]->record);
}

static void mend_records(struct world *w, const Rkv__Envelope *message)
{
    switch ((int)message->body_case) {
    case RKV__ENVELOPE__BODY_STORE:
        mend(w, &message->store->record);
        break;
    case RKV__ENVELOPE__BODY_FETCH_REPLY:
        mend(w, &message->fetch_reply->record);
        break;
    case RKV__ENVELOPE__BODY_HANDOFF:
        mend_rows(w, message->handoff->rows, message->handoff->n_rows);
        break;
    case RKV__ENVELOPE__BODY_SCAN_REPLY:
        mend_rows(w, message->scan_reply->rows, message->scan_reply->n_rows);
        break;
    default:
        break;
    }
}

static void request(struct world *w, enum event_kind kind, unsigned whom,
                    const Rkv__Envelope *message)
{
    if (message == NULL || w->token == TOKENS_MAX - 1)
        return;
    struct event event = {.kind = kind,
                          .from = w->members[1 + whom % (NODES - 1)].id,
                          .token = {++w->token},
                          .message = message};
    step(w, &event);
}

/* To the oldest request, or the one that whom picks. */
static void reply(struct world *w, unsigned whom, const Rkv__Envelope *message)
{
    if (w->waiting_count == 0)
        return;
    size_t at = whom % w->waiting_count;
    struct waiting waiting = w->waiting[at];
    w->waiting[at] = w->waiting[--w->waiting_count];
    struct event event = {.kind =
                              message == NULL ? EVENT_NO_REPLY : EVENT_REPLY,
                          .from = waiting.to,
                          .request = waiting.request,
                          .message = message};
    step(w, &event);
}

static void happen(struct world *w, uint8_t what, const Rkv__Envelope *message)
{
    struct event event = {.kind = EVENT_TICK};
    unsigned whom = what >> 3;
    switch (what & 7) {
    case 0:
        w->now_ms += STEP_MS * (1 + whom);
        step(w, &event);
        break;
    case 1:
        request(w, EVENT_CLIENT_REQUEST, whom, message);
        break;
    case 2:
    case 3:
        request(w, EVENT_PEER_REQUEST, whom, message);
        break;
    case 4:
        if (message != NULL &&
            message->body_case == RKV__ENVELOPE__BODY_HELLO && (whom & 1) == 0)
            message->hello->session = ++w->sessions;
        request(w, EVENT_HELLO, whom, message);
        break;
    case 5:
        event.kind = EVENT_HELLO_REPLY;
        event.message = message;
        step(w, &event);
        break;
    default:
        reply(w, whom, message);
    }
}

static void play(struct world *w, const uint8_t *data, size_t size)
{
    while (size >= 3) {
        size_t length = (size_t)data[1] << 8 | data[2];
        if (length > size - 3)
            length = size - 3;
        struct error error;
        arena_fini(&w->unpacked);
        arena_init(&w->unpacked, envelope_budget(length) + 16 * length + 4096);
        const Rkv__Envelope *message =
            length == 0 ? NULL
                        : envelope_unpack(bytes_of(data + 3, length),
                                          &w->unpacked, &error);
        if (message != NULL)
            mend_records(w, message);
        happen(w, data[0], message);
        data += 3 + length;
        size -= 3 + length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.token = 0};
    toy_init(&w.toy, 1);
    open_node(&w);
    for (int i = 0; i < 2; i++)
        happen(&w, 0, NULL);
    play(&w, data, size);
    /* At the latest when nobody answers and every deadline has passed. */
    for (int i = 0; i < 3; i++) {
        while (w.waiting_count > 0)
            reply(&w, 0, NULL);
        w.now_ms += INT64_C(1) << 33;
        happen(&w, 0, NULL);
    }
    for (uint64_t token = 1; token <= w.token; token++)
        ASSERT(w.answers[token] == 1);
    node_free(w.node);
    toy_fini(&w.toy);
    arena_fini(&w.unpacked);
    buffer_fini(&w.record);
    return 0;
}
