/* SPDX-License-Identifier: MIT */
#include "tests/proto/client_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Callbacks run beside the test and cannot fail through cmocka. */
static void insist(bool condition)
{
    if (!condition)
        abort();
}

static void send_envelope(const struct node_request *to,
                          const Rkv__Envelope *envelope)
{
    struct buffer packed = {0};
    insist(envelope_pack(envelope, &packed) == STATUS_OK);
    enum status status = connection_send(
        to->connection, to->id, bytes_of(NULL, 0), buffer_bytes(&packed));
    insist(status == STATUS_OK || status == STATUS_CLOSED);
    connection_flush(to->connection);
    buffer_fini(&packed);
}

static char *words(const char *string)
{
    union {
        const char *in;
        char *out;
    } cast = {.in = string};
    return cast.out;
}

static void send_result(const struct node_request *to, Rkv__Result *result)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    envelope.version = 1;
    envelope.body_case = RKV__ENVELOPE__BODY_RESULT;
    envelope.result = result;
    send_envelope(to, &envelope);
}

/* What a node says to a write; reply and result live in the caller. */
static void fill_write(Rkv__WriteReply *reply, Rkv__Result *result,
                       Rkv__Outcome outcome)
{
    rkv__write_reply__init(reply);
    rkv__result__init(result);
    result->outcome = outcome;
    result->need = 2;
    result->got = 3;
    result->epoch = 7;
    reply->result = result;
    reply->context = binary_of_bytes(bytes_of_string("context"));
}

static void answer_write(const struct node_request *to, Rkv__Outcome outcome)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__WriteReply reply;
    Rkv__Result result;
    fill_write(&reply, &result, outcome);
    envelope.version = 1;
    envelope.body_case = RKV__ENVELOPE__BODY_WRITE_REPLY;
    envelope.write_reply = &reply;
    send_envelope(to, &envelope);
}

/* And to a read; values has room for two. */
static void fill_read(Rkv__ReadReply *reply, Rkv__Result *result,
                      ProtobufCBinaryData *values, const Rkv__Read *read)
{
    struct bytes key = bytes_of_binary(read->key);
    rkv__read_reply__init(reply);
    rkv__result__init(result);
    values[0] = read->key;
    values[1] = binary_of_bytes(bytes_of_string("other"));
    reply->values = values;
    reply->n_values = 1;
    if (key.size >= 3 && memcmp(key.data, "sib", 3) == 0)
        reply->n_values = 2;
    if (bytes_equal(key, bytes_of_string("gone"))) {
        reply->n_values = 0;
        result->status = RKV__STATUS__NOT_FOUND;
    }
    reply->result = result;
    reply->context = binary_of_bytes(bytes_of_string("context"));
}

static void answer_read(const struct node_request *to, const Rkv__Read *read)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__ReadReply reply;
    Rkv__Result result;
    ProtobufCBinaryData values[2];
    fill_read(&reply, &result, values, read);
    envelope.version = 1;
    envelope.body_case = RKV__ENVELOPE__BODY_READ_REPLY;
    envelope.read_reply = &reply;
    send_envelope(to, &envelope);
}

/* Whether the key is one to refuse, and how. */
static bool refuse_key(struct bytes key, Rkv__Result *result)
{
    rkv__result__init(result);
    result->outcome = RKV__OUTCOME__NOT_APPLIED;
    result->message = words("because of its key");
    if (bytes_equal(key, bytes_of_string("overloaded"))) {
        result->status = RKV__STATUS__OVERLOADED;
        result->retry_after_ms = NODE_RETRY_AFTER_MS;
    } else if (bytes_equal(key, bytes_of_string("unavailable"))) {
        result->status = RKV__STATUS__UNAVAILABLE;
    } else if (bytes_equal(key, bytes_of_string("unsure"))) {
        result->status = RKV__STATUS__UNAVAILABLE;
        result->outcome = RKV__OUTCOME__UNKNOWN;
    } else if (bytes_equal(key, bytes_of_string("wrong"))) {
        result->status = RKV__STATUS__INVALID;
    } else {
        return false;
    }
    return true;
}

struct item_answer {
    Rkv__BatchItemReply item;
    Rkv__WriteReply write;
    Rkv__ReadReply read;
    Rkv__Result result;
    ProtobufCBinaryData values[2];
};

static void fill_item(struct item_answer *answer, const Rkv__BatchItem *asked,
                      bool refuses)
{
    Rkv__BatchItemReply *item = &answer->item;
    bool is_write = asked->body_case == RKV__BATCH_ITEM__BODY_WRITE;
    insist(is_write || asked->body_case == RKV__BATCH_ITEM__BODY_READ);
    rkv__batch_item_reply__init(item);
    if (refuses && refuse_key(bytes_of_binary(is_write ? asked->write->key
                                                       : asked->read->key),
                              &answer->result)) {
        item->body_case = RKV__BATCH_ITEM_REPLY__BODY_RESULT;
        item->result = &answer->result;
    } else if (is_write) {
        fill_write(&answer->write, &answer->result, RKV__OUTCOME__APPLIED);
        item->body_case = RKV__BATCH_ITEM_REPLY__BODY_WRITE_REPLY;
        item->write_reply = &answer->write;
    } else {
        fill_read(&answer->read, &answer->result, answer->values, asked->read);
        item->body_case = RKV__BATCH_ITEM_REPLY__BODY_READ_REPLY;
        item->read_reply = &answer->read;
    }
}

static void answer_batch(const struct node_request *to, const Rkv__Batch *asked,
                         bool one_too_few)
{
    size_t count = asked->n_requests;
    struct item_answer *answers = calloc(count, sizeof(*answers));
    Rkv__BatchItemReply **items = calloc(count, sizeof(*items));
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__BatchReply reply = RKV__BATCH_REPLY__INIT;
    insist(answers != NULL && items != NULL);
    for (size_t i = 0; i < count; i++) {
        fill_item(&answers[i], asked->requests[i], to->refuses);
        items[i] = &answers[i].item;
    }
    reply.replies = items;
    reply.n_replies = count - one_too_few;
    envelope.version = 1;
    envelope.body_case = RKV__ENVELOPE__BODY_BATCH_REPLY;
    envelope.batch_reply = &reply;
    send_envelope(to, &envelope);
    free(items);
    free(answers);
}

static void answer_list(const struct node_request *to)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__ListReply reply = RKV__LIST_REPLY__INIT;
    Rkv__Result result = RKV__RESULT__INIT;
    Rkv__ListItem item = RKV__LIST_ITEM__INIT;
    Rkv__ListItem *items[] = {&item, &item};
    ProtobufCBinaryData value = binary_of_bytes(bytes_of_string("v"));
    item.bucket = words("b");
    item.key = binary_of_bytes(bytes_of_string("k"));
    item.values = &value;
    item.n_values = 1;
    reply.result = &result;
    reply.items = items;
    reply.n_items = 2;
    reply.next = binary_of_bytes(bytes_of_string("more"));
    reply.partitions = 256;
    envelope.version = 1;
    envelope.body_case = RKV__ENVELOPE__BODY_LIST_REPLY;
    envelope.list_reply = &reply;
    send_envelope(to, &envelope);
}

static void answer_admin(const struct node_request *to)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__AdminReply reply = RKV__ADMIN_REPLY__INIT;
    Rkv__Result result = RKV__RESULT__INIT;
    Rkv__Member member = RKV__MEMBER__INIT;
    Rkv__Owners owners = RKV__OWNERS__INIT;
    Rkv__ReplicaState state = RKV__REPLICA_STATE__INIT;
    Rkv__Dot dot = RKV__DOT__INIT;
    char *names[] = {words("n1"), words("n2")};
    Rkv__Member *members[] = {&member};
    Rkv__Owners *all[] = {&owners};
    Rkv__ReplicaState *states[] = {&state};
    Rkv__Dot *dots[] = {&dot};
    member.name = names[1];
    member.state = RKV__MEMBER_STATE__SUSPECT;
    owners.nodes = names;
    owners.n_nodes = 2;
    dot.counter = 9;
    state.node = names[0];
    state.dots = dots;
    state.n_dots = 1;
    reply.result = &result;
    reply.node = names[0];
    reply.digest = 99;
    reply.members = members;
    reply.owners = all;
    reply.replica_states = states;
    reply.n_members = reply.n_owners = reply.n_replica_states = 1;
    envelope.version = 1;
    envelope.body_case = RKV__ENVELOPE__BODY_ADMIN_REPLY;
    envelope.admin_reply = &reply;
    send_envelope(to, &envelope);
}

/* What was asked for comes back. */
static void answer_leave(const struct node_request *to, const Rkv__Admin *asked)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__AdminReply reply = RKV__ADMIN_REPLY__INIT;
    Rkv__Result result = RKV__RESULT__INIT;
    Rkv__Move move = RKV__MOVE__INIT;
    Rkv__Share share = RKV__SHARE__INIT;
    Rkv__Share *shares[] = {&share};
    char *waits_for[] = {words("n2: partitions to fill: 8")};
    share.node = words("n2");
    share.partitions = 8;
    move.node = asked->node;
    move.lost = asked->lost;
    move.stage = words("planned");
    move.shares = shares;
    move.waits_for = waits_for;
    move.n_shares = move.n_waits_for = 1;
    reply.result = &result;
    reply.epoch = 2;
    reply.move = asked->commit ? NULL : &move;
    envelope.version = 1;
    envelope.body_case = RKV__ENVELOPE__BODY_ADMIN_REPLY;
    envelope.admin_reply = &reply;
    send_envelope(to, &envelope);
}

static void answer(const struct node_request *to, const Rkv__Envelope *asked,
                   bool beside)
{
    enum { BESIDE = 1000 };
    switch ((int)asked->body_case + (beside ? BESIDE : 0)) {
    case RKV__ENVELOPE__BODY_WRITE:
        answer_write(to, RKV__OUTCOME__APPLIED);
        break;
    case RKV__ENVELOPE__BODY_READ:
        answer_read(to, asked->read);
        break;
    case RKV__ENVELOPE__BODY_LIST:
        answer_list(to);
        break;
    case RKV__ENVELOPE__BODY_ADMIN:
        if (asked->admin->what == RKV__ADMIN__WHAT__LEAVE)
            answer_leave(to, asked->admin);
        else
            answer_admin(to);
        break;
    case RKV__ENVELOPE__BODY_BATCH:
    case RKV__ENVELOPE__BODY_BATCH + BESIDE:
        answer_batch(to, asked->batch, beside);
        break;
    default:
        answer_list(to);
    }
}

static void refuse(const struct node_request *to, enum manner manner)
{
    Rkv__Result result = RKV__RESULT__INIT;
    result.outcome = RKV__OUTCOME__NOT_APPLIED;
    result.message = words("because of the test");
    result.status = RKV__STATUS__UNAVAILABLE;
    if (manner == IS_OVERLOADED) {
        result.status = RKV__STATUS__OVERLOADED;
        result.retry_after_ms = NODE_RETRY_AFTER_MS;
    }
    if (manner == IS_UNSURE) {
        result.outcome = RKV__OUTCOME__UNKNOWN;
        result.need = 2;
        result.got = 1;
    }
    if (manner == REFUSES)
        result.status = RKV__STATUS__INVALID;
    send_result(to, &result);
}

static void meet(const struct node_request *request,
                 const Rkv__Envelope *envelope, enum manner manner)
{
    switch (manner) {
    case ANSWERS:
        answer(request, envelope, false);
        break;
    case ANSWERS_BESIDE:
        answer(request, envelope, true);
        break;
    case KEEPS_SILENT:
        break;
    case HANGS_UP:
        connection_close(request->connection);
        break;
    case SENDS_GARBAGE:
        insist(connection_send(
                   request->connection, request->id, bytes_of(NULL, 0),
                   bytes_of_string("\xff\xff no message")) != STATUS_TOO_LARGE);
        connection_flush(request->connection);
        break;
    case FORGETS_OUTCOME:
        answer_write(request, RKV__OUTCOME__NONE);
        break;
    case IS_OVERLOADED:
    case IS_UNAVAILABLE:
    case IS_UNSURE:
    case REFUSES:
        refuse(request, manner);
        break;
    }
}

static const Rkv__Envelope *unpack(struct bytes payload, struct arena *arena)
{
    arena_init(arena, envelope_budget(payload.size));
    const Rkv__Envelope *envelope = envelope_unpack(payload, arena, NULL);
    insist(envelope != NULL);
    return envelope;
}

static void keep(struct test_node *node, struct node_request *request,
                 struct bytes payload)
{
    connection_retain(request->connection);
    request->payload = malloc(payload.size);
    insist(request->payload != NULL);
    memcpy(request->payload, payload.data, payload.size);
    request->size = payload.size;
    node->requests[node->seen] = *request;
}

static void on_request(struct connection *connection, struct test_node *node,
                       const struct frame *frame)
{
    struct arena arena;
    const Rkv__Envelope *envelope = unpack(frame->payload, &arena);
    struct node_request request = {.connection = connection, .id = frame->id};
    if (envelope->body_case == RKV__ENVELOPE__BODY_WRITE) {
        insist(envelope->write->request_id.len == REPLIKV_REQUEST_ID_BYTES);
        memcpy(request.write_id, envelope->write->request_id.data,
               REPLIKV_REQUEST_ID_BYTES);
    }
    pthread_mutex_lock(&node->lock);
    enum manner manner = ANSWERS;
    if (node->ill_mannered > 0) {
        node->ill_mannered--;
        manner = node->manner;
    }
    if (envelope->body_case == RKV__ENVELOPE__BODY_BATCH && manner == ANSWERS &&
        node->refused_batches > 0) {
        node->refused_batches--;
        request.refuses = true;
    }
    if (node->seen < NODE_REQUESTS_KEPT)
        keep(node, &request, frame->payload);
    node->seen++;
    if (node->hang_up_every > 0 && node->seen % node->hang_up_every == 0)
        manner = HANGS_UP;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    meet(&request, envelope, manner);
    arena_fini(&arena);
}

static void on_frames(struct connection *connection, void *user,
                      const struct frame *frames, size_t count)
{
    for (size_t i = 0; i < count; i++)
        on_request(connection, user, &frames[i]);
}

static void on_opened(struct connection *connection, void *user)
{
    (void)connection;
    (void)user;
}

static void on_closed(struct connection *connection, void *user,
                      const struct error *why)
{
    (void)connection;
    (void)user;
    (void)why;
}

static const struct transport_handlers handlers = {
    .opened = on_opened, .frames = on_frames, .closed = on_closed};

void node_open(struct test_node *node, const char *address, enum manner manner)
{
    static const struct transport_limits limits = {
        .frame_bytes_max = 8u << 20,
        .queue_bytes_max = 64u << 20,
        .connections_max = 64,
        .handshake_ms = 60000,
    };
    struct error error = {0};
    struct listener *listener;
    memset(node, 0, sizeof(*node));
    pthread_mutex_init(&node->lock, NULL);
    pthread_cond_init(&node->changed, NULL);
    node->manner = manner;
    node->ill_mannered = SIZE_MAX;
    assert_int_equal(transport_open(&limits, &node->transport, &error),
                     STATUS_OK);
    if (transport_listen(node->transport,
                         address == NULL ? "tcp://127.0.0.1:0" : address,
                         &handlers, node, &listener, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    if (address == NULL)
        snprintf(node->address, sizeof(node->address), "tcp://127.0.0.1:%d",
                 listener_port(listener));
    else
        snprintf(node->address, sizeof(node->address), "%s", address);
}

void node_close(struct test_node *node)
{
    transport_close(node->transport);
    for (size_t i = 0; i < node->seen && i < NODE_REQUESTS_KEPT; i++) {
        connection_release(node->requests[i].connection);
        free(node->requests[i].payload);
    }
    pthread_cond_destroy(&node->changed);
    pthread_mutex_destroy(&node->lock);
}

void node_behave(struct test_node *node, enum manner manner, size_t times)
{
    pthread_mutex_lock(&node->lock);
    node->manner = manner;
    node->ill_mannered = times;
    pthread_mutex_unlock(&node->lock);
}

void node_wait(struct test_node *node, size_t seen)
{
    pthread_mutex_lock(&node->lock);
    while (node->seen < seen)
        pthread_cond_wait(&node->changed, &node->lock);
    pthread_mutex_unlock(&node->lock);
}

size_t node_seen(struct test_node *node)
{
    pthread_mutex_lock(&node->lock);
    size_t seen = node->seen;
    pthread_mutex_unlock(&node->lock);
    return seen;
}

void node_answer_held(struct test_node *node)
{
    for (size_t i = node_seen(node); i > 0; i--) {
        struct arena arena;
        const struct node_request *request = &node->requests[i - 1];
        const Rkv__Envelope *envelope =
            unpack(bytes_of(request->payload, request->size), &arena);
        answer(request, envelope, false);
        arena_fini(&arena);
    }
}

struct replikv *client_of(struct test_node *first, struct test_node *second,
                          struct replikv_options options)
{
    const char *endpoints[2] = {first->address};
    struct replikv *client = NULL;
    struct replikv_error error = {0};
    if (second != NULL)
        endpoints[1] = second->address;
    options.endpoints = endpoints;
    options.endpoint_count = second == NULL ? 1 : 2;
    if (options.timeout_ms == 0)
        options.timeout_ms = 60000;
    if (replikv_open(&options, &client, &error) != REPLIKV_OK)
        fail_msg("%s", error.text);
    return client;
}

struct replikv_bytes bytes_from(const char *string)
{
    return replikv_bytes_of(string, strlen(string));
}

void tally_init(struct tally *tally)
{
    *tally = (struct tally){0};
    pthread_mutex_init(&tally->lock, NULL);
    pthread_cond_init(&tally->changed, NULL);
}

void tally_fini(struct tally *tally)
{
    pthread_cond_destroy(&tally->changed);
    pthread_mutex_destroy(&tally->lock);
}

void tally_add(void *user, struct replikv_result *result)
{
    struct tally *tally = user;
    pthread_mutex_lock(&tally->lock);
    tally->by_status[result->status]++;
    tally->by_outcome[result->outcome]++;
    tally->done++;
    pthread_cond_signal(&tally->changed);
    pthread_mutex_unlock(&tally->lock);
    replikv_result_free(result);
}

void tally_wait(struct tally *tally, size_t done)
{
    pthread_mutex_lock(&tally->lock);
    while (tally->done < done)
        pthread_cond_wait(&tally->changed, &tally->lock);
    pthread_mutex_unlock(&tally->lock);
}
