/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

#include <stdio.h>

#include "proto/assert.h"

enum { WALL_MS = 1000000, FOREVER_MS = 1 << 30 };

static const struct bucket_config buckets[] = {
    {.name = "default", .kind = RECORD_SIBLINGS, .r = -1, .w = -1},
    {.name = "sloppy",
     .kind = RECORD_SIBLINGS,
     .r = -1,
     .w = -1,
     .sloppy = true},
    {.name = "lww", .kind = RECORD_LWW, .r = -1, .w = -1},
};
static struct bucket_config declared[3];

/* --- making one --- */

static void make_members(struct fixture *f, size_t nodes)
{
    for (size_t i = 0; i < nodes; i++) {
        struct member *member = &f->members[i];
        snprintf(member->name, sizeof member->name, "n%zu", i + 1);
        snprintf(member->zone, sizeof member->zone, "z%zu", i + 1);
        snprintf(member->peer_address, sizeof member->peer_address,
                 "tcp://127.0.0.1:%zu", 4001 + i);
        member->id = node_id_of("test", member->name);
        member->boot = 2;
        member->store.bytes[0] = (uint8_t)(i + 1);
        /* Who does not know Clock is not asked. */
        member->version_min = member->version_max = PEER_VERSION_MIN;
        memcpy(f->founders[i].name, member->name, sizeof member->name);
        memcpy(f->founders[i].zone, member->zone, sizeof member->zone);
    }
}

void node_open(struct fixture *f, size_t nodes, uint32_t replicas)
{
    memset(f, 0, sizeof *f);
    make_members(f, nodes);
    memcpy(declared, buckets, sizeof buckets);
    for (size_t i = 0; i < 3; i++)
        declared[i].id = bucket_id_of(declared[i].name);
    f->config = (struct node_config){
        .self = f->members[0],
        .founding = {.cluster = "test",
                     .founders = f->founders,
                     .founder_count = nodes,
                     .partitions = 64,
                     .replicas = replicas},
        .buckets = declared,
        .bucket_count = 3,
        .limits = node_limits_default(),
        .timeouts = node_timeouts_default(),
        .membership = membership_config_default(),
        .engine = "toy",
        .seed = 1,
    };
    f->config.timeouts.request_ms = 1000;
    f->config.timeouts.forward_ms = 200;
    /* No probes, rumours or comparisons that a test did not ask for. */
    f->config.membership.probe_interval_ms = FOREVER_MS;
    f->config.membership.gossip_interval_ms = FOREVER_MS;
    f->config.membership.push_pull_interval_ms = FOREVER_MS;
    toy_init(&f->toy, 7);
    effects_init(&f->effects, 16 << 20);
    arena_init(&f->arena, 64 << 20);
    arena_init(&f->reply_arena, 64 << 20);
    arena_init(&f->request_arena, 64 << 20);
}

void node_boot(struct fixture *f)
{
    struct error error;
    struct storage_key joined = {.table = TABLE_META,
                                 .key = bytes_of_string("joined")};
    if (f->config.self.boot > 1)
        toy_put(&f->toy, &joined, bytes_of_string("yes"));
    assert_int_equal(node_new(&f->config, &f->node, &error), STATUS_OK);
    tick(f, 0);
    disk(f, 0);
    tick(f, 0);
}

void node_start(struct fixture *f)
{
    node_boot(f);
    for (size_t i = 1; i < f->config.founding.founder_count; i++)
        meet(f, 0, (int)i + 1);
    disk(f, 0);
    if (!node_is_ready(f->node)) {
        greeted(f, 0, 2);
        tick(f, 0);
    }
    f->trace_size = 0;
    assert_true(node_is_ready(f->node));
}

static void op_fini(struct waiting_op *waiting)
{
    buffer_fini(&waiting->key);
    buffer_fini(&waiting->data);
    buffer_fini(&waiting->context);
    buffer_fini(&waiting->after);
}

void node_close(struct fixture *f)
{
    /* Whatever still waits fails; then each deadline passes. */
    for (int round = 0; round < 4 && f->node != NULL; round++) {
        while (f->op_count > 0)
            disk_fails(f, f->now_ms, STATUS_BROKEN);
        while (f->request_count > 0) {
            for (int i = 1; i <= FIXTURE_NODES_MAX; i++)
                if (request_at(f, i) != NULL)
                    gone(f, f->now_ms, i);
        }
        tick(f, f->now_ms + 100000);
    }
    for (size_t i = 0; i < FIXTURE_TOKENS_MAX; i++)
        if (f->asked[i] && f->answers[i] != 1)
            fail_msg("request %zu was answered %d times", i, f->answers[i]);
    node_free(f->node);
    toy_fini(&f->toy);
    effects_fini(&f->effects);
    for (size_t i = 0; i < f->op_count; i++)
        op_fini(&f->ops[i]);
    for (size_t i = 0; i < f->request_count; i++)
        buffer_fini(&f->requests[i].packed);
    arena_fini(&f->arena);
    arena_fini(&f->reply_arena);
    arena_fini(&f->request_arena);
}

struct node_id node_number(const struct fixture *f, int number)
{
    assert_in_range(number, 1, FIXTURE_NODES_MAX);
    return f->members[number - 1].id;
}

int number_of(const struct fixture *f, struct node_id id)
{
    for (int i = 0; i < FIXTURE_NODES_MAX; i++)
        if (node_id_equal(f->members[i].id, id))
            return i + 1;
    return 0;
}

struct storage_key key_in(const struct fixture *f, enum table table, int target,
                          const char *bucket, const char *key)
{
    struct storage_key in = {.table = table,
                             .bucket = bucket_id_of(bucket),
                             .key = bytes_of_string(key)};
    in.partition =
        partition_of(in.bucket, in.key, f->config.founding.partitions);
    if (target > 0)
        in.target = node_number(f, target);
    return in;
}

const char *key_owned_by(struct fixture *f, const char *bucket,
                         const char *owners)
{
    const struct topology *topology = node_topology(f->node);
    for (int i = 0; i < 10000; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        struct partition partition =
            key_in(f, TABLE_DATA, 0, bucket, key).partition;
        bool matches = true;
        for (size_t r = 0; owners[r] != '\0' && matches; r++)
            matches = node_id_equal(topology_owner(topology, partition, r),
                                    node_number(f, owners[r] - '0'));
        if (matches)
            return arena_string(&f->arena, key);
    }
    fail_msg("no key is owned by %s", owners);
    return NULL;
}

/* --- taking effects --- */

static void keep(struct buffer *buffer, struct bytes *bytes)
{
    assert_int_equal(buffer_append(buffer, *bytes), STATUS_OK);
    *bytes = buffer_bytes(buffer);
}

static void take_op(struct fixture *f, const struct storage_op *op)
{
    if (request_owner_of(op->token) == OWNER_TREES && !f->with_trees)
        return;
    assert_in_range(f->op_count, 0, FIXTURE_WAITING_MAX - 1);
    struct waiting_op *waiting = &f->ops[f->op_count++];
    *waiting = (struct waiting_op){.op = *op};
    keep(&waiting->key, &waiting->op.key.key);
    keep(&waiting->data, &waiting->op.data);
    keep(&waiting->context, &waiting->op.context);
    keep(&waiting->after, &waiting->op.after);
    trace_op(f, op);
}

static bool is_chat(const Rkv__Envelope *message)
{
    return message->body_case >= RKV__ENVELOPE__BODY_PING ||
           message->body_case == RKV__ENVELOPE__BODY_CLOCK_REPLY;
}

static void take_message(struct fixture *f, const struct message_out *message)
{
    struct buffer packed = {0};
    struct error error;
    assert_int_equal(envelope_pack(message->envelope, &packed), STATUS_OK);
    bool is_reply = message->kind == MESSAGE_REPLY;
    struct arena *arena = is_reply ? &f->reply_arena : &f->request_arena;
    arena_reset(arena);
    const Rkv__Envelope *copy =
        envelope_unpack(buffer_bytes(&packed), arena, &error);
    assert_non_null(copy);
    if (is_reply) {
        assert_in_range(message->token.value, 1, FIXTURE_TOKENS_MAX - 1);
        f->answers[message->token.value]++;
        f->reply = copy;
        if (!is_chat(copy))
            trace_reply(f, message->token.value, copy);
        buffer_fini(&packed);
        return;
    }
    if (is_chat(copy)) {
        buffer_fini(&packed);
        return;
    }
    assert_in_range(f->request_count, 0, FIXTURE_WAITING_MAX - 1);
    f->requests[f->request_count++] =
        (struct waiting_request){.to = message->to,
                                 .request = message->request,
                                 .body_case = copy->body_case,
                                 .packed = packed};
    trace_request(f, message->to, copy);
}

void step(struct fixture *f, int64_t now_ms, const struct event *event,
          const char *cause)
{
    struct event timed = *event;
    f->now_ms = now_ms;
    timed.now_us = now_ms * 1000 + f->extra_us;
    timed.wall_ms = WALL_MS + now_ms + f->wall_ahead_ms;
    snprintf(f->cause, sizeof f->cause, "%s", cause);
    if (event->token.value > 0) {
        assert_in_range(event->token.value, 1, FIXTURE_TOKENS_MAX - 1);
        assert_false(f->asked[event->token.value]);
        f->asked[event->token.value] = true;
    }
    effects_reset(&f->effects);
    node_step(f->node, &timed, &f->effects);
    for (size_t i = 0; i < f->effects.storage_count; i++)
        take_op(f, &f->effects.storage[i]);
    for (size_t i = 0; i < f->effects.out.count; i++)
        take_message(f, &f->effects.out.messages[i]);
    if (f->effects.renew_incarnation) {
        trace_word(f, "renew");
        replica_renew(&f->toy.replica);
        f->renewed = true;
    }
    if (f->effects.log != NULL) {
        trace_word(f, f->effects.log);
    }
    if (f->effects.halt != NULL) {
        trace_word(f, "halt");
        f->halted = true;
    }
    trace_end(f);
}

void tick(struct fixture *f, int64_t now_ms)
{
    step(f, now_ms, &(struct event){.kind = EVENT_TICK}, "tick");
}

static void request(struct fixture *f, int64_t now_ms, enum event_kind kind,
                    int from, uint64_t token, Rkv__Envelope__BodyCase body_case,
                    const void *body)
{
    char cause[32];
    struct event event = {
        .kind = kind,
        .token = {token},
        .message = envelope_new(&f->arena, body_case, body),
    };
    if (from > 0)
        event.from = node_number(f, from);
    snprintf(cause, sizeof cause, "ask %d", (int)token);
    step(f, now_ms, &event, cause);
}

void client(struct fixture *f, int64_t now_ms, uint64_t token,
            Rkv__Envelope__BodyCase body_case, const void *body)
{
    request(f, now_ms, EVENT_CLIENT_REQUEST, 0, token, body_case, body);
}

void peer(struct fixture *f, int64_t now_ms, int from, uint64_t token,
          Rkv__Envelope__BodyCase body_case, const void *body)
{
    request(f, now_ms, EVENT_PEER_REQUEST, from, token, body_case, body);
}

Rkv__Hello *hello_of(struct fixture *f, int number)
{
    const Rkv__Envelope *own = node_hello(f->node, LANE_FOREGROUND, &f->arena);
    assert_non_null(own);
    Rkv__Hello *hello = own->hello;
    hello->self = member_to_wire(&f->members[number - 1], &f->arena);
    hello->replace = false;
    hello->session = ++f->sessions;
    return hello;
}

void meet(struct fixture *f, int64_t now_ms, int number)
{
    /* Tokens from the end, out of the way of those that tests name. */
    uint64_t token = FIXTURE_TOKENS_MAX - 1;
    while (f->asked[token])
        token--;
    request(f, now_ms, EVENT_HELLO, number, token, RKV__ENVELOPE__BODY_HELLO,
            hello_of(f, number));
}

void greeted(struct fixture *f, int64_t now_ms, int number)
{
    Rkv__HelloReply *reply =
        message_new(&f->arena, &rkv__hello_reply__descriptor);
    reply->hello = hello_of(f, number);
    struct event event = {
        .kind = EVENT_HELLO_REPLY,
        .message =
            envelope_new(&f->arena, RKV__ENVELOPE__BODY_HELLO_REPLY, reply)};
    step(f, now_ms, &event, "hello");
}

/* --- replies of other nodes --- */

static struct waiting_request *oldest_at(struct fixture *f, int number)
{
    for (size_t i = 0; i < f->request_count; i++)
        if (node_id_equal(f->requests[i].to, node_number(f, number)))
            return &f->requests[i];
    return NULL;
}

const Rkv__Envelope *request_at(struct fixture *f, int number)
{
    struct error error;
    const struct waiting_request *waiting = oldest_at(f, number);
    if (waiting == NULL)
        return NULL;
    return envelope_unpack(buffer_bytes(&waiting->packed), &f->arena, &error);
}

static uint64_t take_request(struct fixture *f, int number)
{
    struct waiting_request *waiting = oldest_at(f, number);
    if (waiting == NULL)
        fail_msg("nothing waits at n%d\n%s", number, f->trace);
    uint64_t taken = waiting->request;
    buffer_fini(&waiting->packed);
    size_t behind = f->request_count - (size_t)(waiting - f->requests) - 1;
    memmove(waiting, waiting + 1, behind * sizeof *waiting);
    f->request_count--;
    return taken;
}

static void reply_with(struct fixture *f, int64_t now_ms, int from,
                       const Rkv__Envelope *message, const char *cause)
{
    struct event event = {
        .kind = message == NULL ? EVENT_NO_REPLY : EVENT_REPLY,
        .from = node_number(f, from),
        .request = take_request(f, from),
        .message = message,
    };
    step(f, now_ms, &event, cause);
}

void answer(struct fixture *f, int64_t now_ms, int from,
            Rkv__Envelope__BodyCase body_case, const void *body)
{
    char cause[32];
    snprintf(cause, sizeof cause, "n%d answers", from);
    reply_with(f, now_ms, from, envelope_new(&f->arena, body_case, body),
               cause);
}

void ack(struct fixture *f, int64_t now_ms, int from, enum status status)
{
    char cause[32];
    Rkv__StoreReply *reply =
        message_new(&f->arena, &rkv__store_reply__descriptor);
    reply->status = (Rkv__Status)status;
    snprintf(cause, sizeof cause, "n%d stored %s", from, status_name(status));
    reply_with(f, now_ms, from,
               envelope_new(&f->arena, RKV__ENVELOPE__BODY_STORE_REPLY, reply),
               cause);
}

void fetched(struct fixture *f, int64_t now_ms, int from, enum status status,
             struct bytes record)
{
    char cause[32];
    Rkv__FetchReply *reply =
        message_new(&f->arena, &rkv__fetch_reply__descriptor);
    reply->status = (Rkv__Status)status;
    reply->record = binary_of_bytes(record);
    snprintf(cause, sizeof cause, "n%d fetched %s", from, status_name(status));
    reply_with(f, now_ms, from,
               envelope_new(&f->arena, RKV__ENVELOPE__BODY_FETCH_REPLY, reply),
               cause);
}

void written(struct fixture *f, int64_t now_ms, int from, enum status status,
             Rkv__Outcome outcome)
{
    char cause[32];
    Rkv__WriteReply *reply =
        message_new(&f->arena, &rkv__write_reply__descriptor);
    reply->result = message_new(&f->arena, &rkv__result__descriptor);
    reply->result->status = (Rkv__Status)status;
    reply->result->outcome = outcome;
    if (outcome == RKV__OUTCOME__APPLIED)
        reply->result->need = reply->result->got = 2;
    snprintf(cause, sizeof cause, "n%d wrote %s", from, status_name(status));
    reply_with(f, now_ms, from,
               envelope_new(&f->arena, RKV__ENVELOPE__BODY_WRITE_REPLY, reply),
               cause);
}

void gone(struct fixture *f, int64_t now_ms, int from)
{
    char cause[32];
    snprintf(cause, sizeof cause, "n%d gone", from);
    reply_with(f, now_ms, from, NULL, cause);
}

/* --- the disk --- */

static void hear(struct fixture *f, int64_t now_ms, enum event_kind kind,
                 const struct storage_result *result)
{
    char cause[64];
    snprintf(cause, sizeof cause, "%s%s%s",
             kind == EVENT_PREPARED ? "prepared" : "stored",
             result->status == STATUS_OK ? "" : " ",
             result->status == STATUS_OK ? "" : status_name(result->status));
    step(f, now_ms, &(struct event){.kind = kind, .storage = result}, cause);
}

static struct waiting_op take_waiting(struct fixture *f)
{
    struct waiting_op first = f->ops[0];
    memmove(f->ops, f->ops + 1, --f->op_count * sizeof *f->ops);
    return first;
}

void disk_one(struct fixture *f, int64_t now_ms)
{
    struct waiting_op waiting = take_waiting(f);
    struct storage_result result = waiting.result;
    result.op = &waiting.op;
    if (!waiting.prepared) {
        toy_run(&f->toy, &waiting.op, &result);
        result.prepared_us = now_ms * 1000 + f->extra_us;
        if (waiting.op.kind == STORAGE_COORDINATE)
            hear(f, now_ms, EVENT_PREPARED, &result);
    }
    if (waiting.op.kind != STORAGE_COORDINATE || result.status == STATUS_OK)
        hear(f, now_ms, EVENT_STORED, &result);
    op_fini(&waiting);
}

void disk(struct fixture *f, int64_t now_ms)
{
    while (f->op_count > 0)
        disk_one(f, now_ms);
}

void prepare(struct fixture *f, int64_t now_ms)
{
    for (size_t i = 0; i < f->op_count; i++) {
        struct storage_result result;
        enum storage_kind kind = f->ops[i].op.kind;
        if ((kind != STORAGE_COORDINATE && kind != STORAGE_MERGE) ||
            f->ops[i].prepared)
            continue;
        f->ops[i].prepared = true;
        toy_run(&f->toy, &f->ops[i].op, &result);
        result.prepared_us = now_ms * 1000 + f->extra_us;
        if (kind == STORAGE_COORDINATE)
            hear(f, now_ms, EVENT_PREPARED, &result);
        /* What it points to is gone with the next operation. */
        result.record = (struct bytes){0};
        f->ops[i].result = result;
    }
}

void disk_fails(struct fixture *f, int64_t now_ms, enum status status)
{
    for (size_t count = f->op_count; count > 0; count--) {
        struct waiting_op waiting = take_waiting(f);
        struct storage_result result = {.op = &waiting.op,
                                        .status = status,
                                        .was_damaged =
                                            status == STATUS_CORRUPT &&
                                            waiting.op.kind == STORAGE_MERGE};
        hear(f, now_ms, EVENT_STORED, &result);
        op_fini(&waiting);
    }
}
