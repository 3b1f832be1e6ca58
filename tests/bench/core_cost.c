/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <valgrind/callgrind.h>

#include "proto/assert.h"
#include "proxy/core/node.h"
#include "proxy/core/replica.h"

/* What one request costs the pure core of all nodes together: three of
 * replikvd's state machines, N = 3, R = W = 2, stepped in one thread, from the
 * client's frame at one of them to the last replica's answer.
 *
 *     core_cost put|get|put-direct|get-direct REQUESTS
 *
 * Each key is put once; what counts are puts over that, with its context, or
 * gets. Messages are packed by the sender and unpacked by the receiver as nodes
 * do it; -direct hands them over as they are, so that what its count lacks is
 * protobuf's share. What a key becomes is decided by replica.h, as in the
 * storage edge; the engine is an array.
 *
 * Under callgrind, with --collect-atstart=no, what counts is collected and
 * nothing else. The program itself prints how many steps, messages and packed
 * bytes a request took. core_cost.py runs it, and compares. */

enum {
    HOSTS = 3,
    REQUESTS_MAX = 100000,
    KEY_BYTES = 16,
    VALUE_BYTES = 100,
    NOW_MS = 1,
    WALL_MS = 1000000,
    /* A put, the longest, takes 9 steps and 6 messages, the client's two among
     * them; a start, a tick of membership, may take more. */
    UNDER_WAY_MAX = 64,
    ARENA_BYTES = 16 << 20,
};

struct host {
    struct node *node;
    struct node_id id;
    struct replica replica;
    struct buffer *records; /* by the key's number */
    struct buffer key, next;
    struct arena scratch;
};

/* Who waits for the answer to a token: the client, where host is NULL. */
struct asked {
    struct host *host;
    uint64_t request;
    bool is_hello;
};

struct delivery {
    struct host *to; /* NULL: the client */
    struct event event;
    struct buffer packed;
    struct arena arena; /* unpacked into */
};

/* What is under way belongs to one request and is forgotten with it: nothing
 * that was handed over directly goes before its receiver has done with it. */
struct cluster {
    bool direct;
    uint32_t keys;
    struct placement_node founders[HOSTS];
    struct bucket_config bucket;
    struct host hosts[HOSTS];
    struct delivery deliveries[UNDER_WAY_MAX];
    size_t delivery_count;
    struct effects effects[UNDER_WAY_MAX];
    size_t step_count;
    struct asked asked[UNDER_WAY_MAX];
    size_t asked_count;
    struct delivery *answer;   /* the client's */
    struct buffer *contexts;   /* the client's, by the key's number */
    size_t steps, sent, bytes; /* since tally began */
};

/* --- messages --- */

static struct reply_token expect(struct cluster *cluster, struct asked asked)
{
    ASSERT(cluster->asked_count < UNDER_WAY_MAX);
    cluster->asked[cluster->asked_count++] = asked;
    return (struct reply_token){cluster->asked_count};
}

static void send(struct cluster *cluster, struct host *to,
                 const struct event *event)
{
    ASSERT(cluster->delivery_count < UNDER_WAY_MAX);
    struct delivery *delivery = &cluster->deliveries[cluster->delivery_count++];
    delivery->to = to;
    delivery->event = *event;
    cluster->sent++;
    if (cluster->direct)
        return;
    buffer_clear(&delivery->packed);
    enum status status = envelope_pack(event->message, &delivery->packed);
    ASSERT(status == STATUS_OK);
    cluster->bytes += delivery->packed.size;
}

static void unpack(struct delivery *delivery)
{
    struct error error;
    delivery->arena.budget = envelope_budget(delivery->packed.size);
    delivery->event.message = envelope_unpack(buffer_bytes(&delivery->packed),
                                              &delivery->arena, &error);
    ASSERT(delivery->event.message != NULL);
}

static struct host *host_of(struct cluster *cluster, struct node_id id)
{
    struct host *host = cluster->hosts;
    while (!node_id_equal(host->id, id)) {
        host++;
        ASSERT(host < cluster->hosts + HOSTS);
    }
    return host;
}

static void carry_out_message(struct cluster *cluster, struct host *host,
                              const struct message_out *message)
{
    struct event event = {.from = host->id, .message = message->envelope};
    struct host *to;
    if (message->kind == MESSAGE_REQUEST) {
        to = host_of(cluster, message->to);
        event.kind = EVENT_PEER_REQUEST;
        event.token = expect(cluster, (struct asked){
                                          .host = host,
                                          .request = message->request,
                                      });
    } else {
        ASSERT(message->token.value <= cluster->asked_count);
        struct asked asked = cluster->asked[message->token.value - 1];
        to = asked.host;
        event.kind = asked.is_hello ? EVENT_HELLO_REPLY : EVENT_REPLY;
        event.request = asked.request;
    }
    send(cluster, to, &event);
}

/* --- a node and its disk --- */

static void run(struct cluster *cluster, struct host *host,
                const struct storage_op *op);

static void step(struct cluster *cluster, struct host *host,
                 struct event *event)
{
    ASSERT(cluster->step_count < UNDER_WAY_MAX);
    struct effects *effects = &cluster->effects[cluster->step_count++];
    event->now_us = NOW_MS * INT64_C(1000);
    event->wall_ms = WALL_MS;
    node_step(host->node, event, effects);
    ASSERT(effects->halt == NULL && !effects->hang_up);
    ASSERT(!effects->renew_incarnation && effects->out.dropped == 0);
    cluster->steps++;
    for (size_t i = 0; i < effects->out.count; i++)
        carry_out_message(cluster, host, &effects->out.messages[i]);
    /* Hash trees are fed without having been built, which would be no part of
     * a request. */
    for (size_t i = 0; i < effects->storage_count; i++)
        if (request_owner_of(effects->storage[i].token) != OWNER_TREES)
            run(cluster, host, &effects->storage[i]);
}

static void tell(struct cluster *cluster, struct host *host,
                 enum event_kind kind, const struct storage_result *result)
{
    step(cluster, host, &(struct event){.kind = kind, .storage = result});
}

static uint32_t number_of(struct bytes key)
{
    uint32_t number;
    ASSERT(key.size == KEY_BYTES);
    memcpy(&number, key.data + KEY_BYTES - sizeof number, sizeof number);
    return number;
}

/* The storage edge asks an engine by the encoded key. */
static struct buffer *record_at(struct host *host, const struct storage_op *op)
{
    buffer_clear(&host->key);
    enum status status = storage_key_encode(&op->key, &host->key);
    ASSERT(status == STATUS_OK && op->key.table == TABLE_DATA);
    return &host->records[number_of(op->key.key)];
}

static void change(struct cluster *cluster, struct host *host,
                   const struct storage_op *op, struct storage_result *result)
{
    struct replica_change change;
    struct buffer *record = record_at(host, op);
    arena_reset(&host->scratch);
    replica_apply(&host->replica, op,
                  (struct replica_copy){.record = buffer_bytes(record)},
                  &host->scratch, &host->next, &change);
    ASSERT(change.status == STATUS_OK && change.changed && !change.removed);
    if (op->kind == STORAGE_COORDINATE) {
        result->record = buffer_bytes(&host->next);
        tell(cluster, host, EVENT_PREPARED, result);
        result->record = (struct bytes){0};
    }
    result->records_delta = change.records_delta;
    result->bytes_delta = change.bytes_delta;
    result->version_before = change.version_before;
    result->ripe_ms = change.ripe_ms;
    result->version_after = change.version_after;
    struct buffer old = *record;
    *record = host->next;
    host->next = old;
}

static void run(struct cluster *cluster, struct host *host,
                const struct storage_op *op)
{
    struct storage_result result = {.op = op, .status = STATUS_OK};
    switch (op->kind) {
    case STORAGE_COORDINATE:
    case STORAGE_MERGE:
        change(cluster, host, op, &result);
        break;
    case STORAGE_READ:
        result.record = buffer_bytes(record_at(host, op));
        ASSERT(result.record.size > 0);
        break;
    case STORAGE_SCAN: /* of a start, on a disk that is empty */
        result.done = true;
        break;
    case STORAGE_SET: /* for a next start, which does not come */
        break;
    case STORAGE_DROP:
    case STORAGE_COLLECT:
        ASSERT(!"hints are kept for nobody, and nothing is deleted");
    }
    tell(cluster, host, EVENT_STORED, &result);
}

/* --- until all is done --- */

static void deliver(struct cluster *cluster, struct delivery *delivery)
{
    if (delivery->to == NULL) {
        ASSERT(cluster->answer == NULL);
        cluster->answer = delivery;
        return;
    }
    if (!cluster->direct)
        unpack(delivery);
    step(cluster, delivery->to, &delivery->event);
}

static void settle(struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->delivery_count; i++)
        deliver(cluster, &cluster->deliveries[i]);
}

static void forget(struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->delivery_count; i++)
        arena_reset(&cluster->deliveries[i].arena);
    for (size_t i = 0; i < cluster->step_count; i++)
        effects_reset(&cluster->effects[i]);
    cluster->delivery_count = cluster->step_count = cluster->asked_count = 0;
    cluster->answer = NULL;
}

/* --- the start --- */

static struct member member_of(const struct cluster *cluster, int number)
{
    const struct placement_node *founder = &cluster->founders[number];
    struct member member = {
        .id = node_id_of("cost", founder->name),
        .boot = 1,
        .store = {{(uint8_t)(number + 1)}},
        .version_min = PEER_VERSION_MIN,
        .version_max = PEER_VERSION_MAX,
    };
    memcpy(member.name, founder->name, sizeof founder->name);
    snprintf(member.peer_address, sizeof member.peer_address,
             "tcp://127.0.0.1:%d", 4001 + number);
    return member;
}

static void make_host(struct cluster *cluster, int number)
{
    struct host *host = &cluster->hosts[number];
    struct error error;
    struct node_config config = {
        .self = member_of(cluster, number),
        .founding = {.cluster = "cost",
                     .founders = cluster->founders,
                     .founder_count = HOSTS,
                     .partitions = 256,
                     .replicas = HOSTS},
        .buckets = &cluster->bucket,
        .bucket_count = 1,
        .limits = node_limits_default(),
        .timeouts = node_timeouts_default(),
        .membership = membership_config_default(),
        .engine = "array",
        .seed = (uint64_t)number,
    };
    enum status status = node_new(&config, &host->node, &error);
    ASSERT(status == STATUS_OK);
    host->id = config.self.id;
    replica_init(&host->replica, (uint64_t)number,
                 config.timeouts.dedup_window_ms);
    host->replica.value_bytes_max = config.limits.value_bytes_max;
    arena_init(&host->scratch, ARENA_BYTES);
    host->records = calloc(cluster->keys, sizeof *host->records);
    ASSERT(host->records != NULL);
}

static void tick_all(struct cluster *cluster)
{
    for (int i = 0; i < HOSTS; i++) {
        step(cluster, &cluster->hosts[i], &(struct event){.kind = EVENT_TICK});
        settle(cluster);
        forget(cluster);
    }
}

static void greet(struct cluster *cluster, struct host *from, struct host *to)
{
    struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    Rkv__Envelope *hello = node_hello(from->node, LANE_FOREGROUND, &arena);
    hello->hello->session = 1;
    struct event event = {
        .kind = EVENT_HELLO,
        .token =
            expect(cluster, (struct asked){.host = from, .is_hello = true}),
        .message = hello,
    };
    send(cluster, to, &event);
    settle(cluster);
    forget(cluster);
    arena_fini(&arena);
}

static void cluster_init(struct cluster *cluster)
{
    cluster->bucket = (struct bucket_config){
        .name = "default",
        .id = bucket_id_of("default"),
        .kind = RECORD_SIBLINGS,
        .r = LEVEL_QUORUM,
        .w = LEVEL_QUORUM,
    };
    for (size_t i = 0; i < UNDER_WAY_MAX; i++) {
        effects_init(&cluster->effects[i], ARENA_BYTES);
        arena_init(&cluster->deliveries[i].arena, ARENA_BYTES);
    }
    for (int i = 0; i < HOSTS; i++)
        snprintf(cluster->founders[i].name, sizeof cluster->founders[i].name,
                 "n%d", i + 1);
    for (int i = 0; i < HOSTS; i++)
        make_host(cluster, i);
    cluster->contexts = calloc(cluster->keys, sizeof *cluster->contexts);
    ASSERT(cluster->contexts != NULL);
    tick_all(cluster);
    for (int i = 0; i < HOSTS * HOSTS; i++)
        if (i / HOSTS != i % HOSTS)
            greet(cluster, &cluster->hosts[i / HOSTS],
                  &cluster->hosts[i % HOSTS]);
    tick_all(cluster);
    for (int i = 0; i < HOSTS; i++)
        ASSERT(node_is_ready(cluster->hosts[i].node));
}

static void buffers_free(struct buffer *buffers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buffer_fini(&buffers[i]);
    free(buffers);
}

static void cluster_fini(struct cluster *cluster)
{
    for (int i = 0; i < HOSTS; i++) {
        struct host *host = &cluster->hosts[i];
        node_free(host->node);
        buffers_free(host->records, cluster->keys);
        buffer_fini(&host->key);
        buffer_fini(&host->next);
        arena_fini(&host->scratch);
    }
    for (size_t i = 0; i < UNDER_WAY_MAX; i++) {
        effects_fini(&cluster->effects[i]);
        arena_fini(&cluster->deliveries[i].arena);
        buffer_fini(&cluster->deliveries[i].packed);
    }
    buffers_free(cluster->contexts, cluster->keys);
}

/* --- the client --- */

static struct bytes key_of(uint32_t number)
{
    static uint8_t key[KEY_BYTES] = "core_cost---";
    memcpy(key + KEY_BYTES - sizeof number, &number, sizeof number);
    return bytes_of(key, sizeof key);
}

/* The answer, until all is forgotten. */
static const Rkv__Envelope *ask(struct cluster *cluster, uint32_t number,
                                const Rkv__Envelope *envelope, bool counts)
{
    struct event event = {
        .kind = EVENT_CLIENT_REQUEST,
        .token = expect(cluster, (struct asked){.host = NULL}),
        .message = envelope,
    };
    send(cluster, &cluster->hosts[number % HOSTS], &event);
    if (counts)
        CALLGRIND_TOGGLE_COLLECT;
    settle(cluster);
    if (counts)
        CALLGRIND_TOGGLE_COLLECT;
    ASSERT(cluster->answer != NULL);
    if (!cluster->direct)
        unpack(cluster->answer);
    return cluster->answer->event.message;
}

/* As the nodes do at the end of a turn, which belongs to its cost. */
static void end_turns(struct cluster *cluster, bool counts)
{
    if (counts)
        CALLGRIND_TOGGLE_COLLECT;
    forget(cluster);
    if (counts)
        CALLGRIND_TOGGLE_COLLECT;
}

static void put(struct cluster *cluster, uint32_t number, bool counts)
{
    uint8_t value[VALUE_BYTES], request[REQUEST_ID_SIZE] = {1, counts};
    struct buffer *context = &cluster->contexts[number];
    Rkv__Write write = RKV__WRITE__INIT;
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    memset(value, (int)(number % 251), sizeof value);
    memcpy(request + 2, &number, sizeof number);
    write.key = binary_of_bytes(key_of(number));
    write.value = binary_of_bytes(bytes_of(value, sizeof value));
    write.request_id = binary_of_bytes(bytes_of(request, sizeof request));
    write.context = binary_of_bytes(buffer_bytes(context));
    envelope.version = PROTOCOL_VERSION_MAX;
    envelope.body_case = RKV__ENVELOPE__BODY_WRITE;
    envelope.write = &write;
    const Rkv__Envelope *answer = ask(cluster, number, &envelope, counts);
    ASSERT(answer->body_case == RKV__ENVELOPE__BODY_WRITE_REPLY);
    const Rkv__WriteReply *reply = answer->write_reply;
    ASSERT(reply->result->outcome == RKV__OUTCOME__APPLIED);
    ASSERT(reply->result->got >= 2 && reply->context.len > 0);
    buffer_clear(context);
    enum status status =
        buffer_append(context, bytes_of_binary(reply->context));
    ASSERT(status == STATUS_OK);
    end_turns(cluster, counts);
}

static void get(struct cluster *cluster, uint32_t number)
{
    Rkv__Read read = RKV__READ__INIT;
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    read.key = binary_of_bytes(key_of(number));
    envelope.version = PROTOCOL_VERSION_MAX;
    envelope.body_case = RKV__ENVELOPE__BODY_READ;
    envelope.read = &read;
    const Rkv__Envelope *answer = ask(cluster, number, &envelope, true);
    ASSERT(answer->body_case == RKV__ENVELOPE__BODY_READ_REPLY);
    const Rkv__ReadReply *reply = answer->read_reply;
    ASSERT(reply->result->status == RKV__STATUS__OK && reply->result->got >= 2);
    ASSERT(reply->n_values == 1 && reply->values[0].len == VALUE_BYTES);
    end_turns(cluster, true);
}

static void measure(struct cluster *cluster, const char *mode, bool puts)
{
    cluster_init(cluster);
    for (uint32_t i = 0; i < cluster->keys; i++)
        put(cluster, i, false);
    cluster->steps = cluster->sent = cluster->bytes = 0;
    for (uint32_t i = 0; i < cluster->keys; i++) {
        if (puts)
            put(cluster, i, true);
        else
            get(cluster, i);
    }
    printf("%s: %.2f steps, %.2f messages, %.1f bytes packed a request\n", mode,
           (double)cluster->steps / cluster->keys,
           (double)cluster->sent / cluster->keys,
           (double)cluster->bytes / cluster->keys);
    cluster_fini(cluster);
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"put", "get", "put-direct",
                                        "get-direct"};
    static struct cluster cluster;
    unsigned mode = 0;
    unsigned long keys = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    while (mode < 4 && (argc != 3 || strcmp(argv[1], modes[mode]) != 0))
        mode++;
    if (mode == 4 || keys < 1 || keys > REQUESTS_MAX) {
        fprintf(stderr,
                "core_cost put|get|put-direct|get-direct REQUESTS (1 to %d)\n",
                REQUESTS_MAX);
        return 2;
    }
    cluster.keys = (uint32_t)keys;
    cluster.direct = mode >= 2;
    measure(&cluster, modes[mode], mode % 2 == 0);
    return 0;
}
