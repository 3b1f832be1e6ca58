/* SPDX-License-Identifier: MIT */
#include "proxy/core/node.h"

#include <stdlib.h>

#include "proto/assert.h"
#include "proxy/core/node_internal.h"

static const char META_MEMBER[] = "member/";
static const char META_MISSING[] = "missing";
static const char META_JOINED[] = "joined";

struct node_limits node_limits_default(void)
{
    return (struct node_limits){
        .value_bytes_max = 1 << 20,
        .inflight_max = 4096,
        .inflight_bytes_max = 128u << 20,
        .hint_bytes_max = 1u << 30,
        .fallback_bytes_max = UINT64_C(4) << 30,
        .list_bytes_max = 256 << 10,
    };
}

struct node_timeouts node_timeouts_default(void)
{
    return (struct node_timeouts){
        .request_ms = 2000,
        .forward_ms = 500,
        .hedge_ms = 50,
        .handoff_interval_ms = 200,
        .dedup_window_ms = 150000,
    };
}

uint64_t node_random(struct node *node)
{
    /* SplitMix64, as in replica.c. */
    uint64_t z = (node->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* A hybrid logical clock (Kulkarni et al. 2014): never back, and the wall
 * clock's milliseconds above 16 bits of count. */
uint64_t node_stamp(struct node *node)
{
    uint64_t physical = (uint64_t)node->wall_ms << 16;
    node->stamp = physical > node->stamp ? physical : node->stamp + 1;
    return node->stamp;
}

void node_count(struct node *node, enum counter counter)
{
    node->counters[counter]++;
}

void node_took(struct node *node, enum latency_stage stage, int64_t since_us)
{
    latency_record(&node->latencies[stage], node->now_us - since_us);
}

const struct bucket_config *node_bucket(const struct node *node,
                                        struct bucket_id id)
{
    for (size_t i = 0; i < node->config.bucket_count; i++)
        if (node->config.buckets[i].id.value == id.value)
            return &node->config.buckets[i];
    return NULL;
}

const char *node_name_of(const struct node *node, struct node_id id)
{
    int at = topology_node(&node->topology, id);
    if (at >= 0)
        return node->topology.nodes[at].name;
    const struct member *member = membership_find(node->membership, id);
    return member == NULL ? "?" : member->name;
}

/* --- making and freeing --- */

static enum status make_pools(struct node *node, struct error *error)
{
    size_t requests = node->config.limits.inflight_max;
    if (requests == 0 || requests > UINT16_MAX)
        return error_set(error, STATUS_INVALID,
                         "limits.inflight_max: %zu, allowed are 1 to %d",
                         requests, UINT16_MAX);
    node->writes = calloc(requests, sizeof *node->writes);
    node->reads = calloc(requests, sizeof *node->reads);
    node->hints = calloc(NODES_MAX, sizeof *node->hints);
    if (node->writes == NULL || node->reads == NULL || node->hints == NULL ||
        slots_init(&node->write_slots, requests) != STATUS_OK ||
        slots_init(&node->read_slots, requests) != STATUS_OK ||
        slots_init(&node->relay_slots, RELAYS_MAX) != STATUS_OK ||
        slots_init(&node->batch_slots, BATCHES_MAX) != STATUS_OK ||
        fill_init(node) != STATUS_OK)
        return error_set(error, STATUS_NO_MEMORY,
                         "no memory for %zu requests in flight", requests);
    return STATUS_OK;
}

enum status node_new(const struct node_config *config, struct node **out,
                     struct error *error)
{
    *out = NULL;
    struct node *node = calloc(1, sizeof *node);
    if (node == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the node");
    node->config = *config;
    node->self = config->self.id;
    node->random = config->seed;
    enum status status =
        topology_found(&config->founding, &node->topology, error);
    if (status == STATUS_OK)
        status = make_pools(node, error);
    if (status == STATUS_OK) {
        node->membership =
            membership_new(&config->membership, &config->self, config->seeds,
                           config->seed_count, node_random(node));
        if (node->membership == NULL)
            status = error_set(error, STATUS_NO_MEMORY,
                               "no memory for the member table");
    }
    if (status != STATUS_OK) {
        node_free(node);
        return status;
    }
    *out = node;
    return STATUS_OK;
}

void node_free(struct node *node)
{
    if (node == NULL)
        return;
    for (size_t i = 0; node->writes != NULL && i < node->write_slots.high;
         i++) {
        buffer_fini(&node->writes[i].payload);
        buffer_fini(&node->writes[i].context);
    }
    for (size_t i = 0; node->reads != NULL && i < node->read_slots.high; i++)
        if (node->reads[i].used)
            get_fini(&node->reads[i].get);
    for (size_t i = 0; i < RELAYS_MAX; i++)
        buffer_fini(&node->relays[i].states);
    slots_fini(&node->write_slots);
    slots_fini(&node->read_slots);
    slots_fini(&node->relay_slots);
    slots_fini(&node->batch_slots);
    handoff_fini(node);
    fill_fini(node);
    topology_fini(&node->topology);
    membership_free(node->membership);
    free(node->writes);
    free(node->reads);
    free(node->hints);
    free(node);
}

const struct membership *node_membership(const struct node *node)
{
    return node->membership;
}

const struct topology *node_topology(const struct node *node)
{
    return &node->topology;
}

bool node_is_ready(const struct node *node)
{
    return node->stage == NODE_READY;
}

/* --- start --- */

static void start_scan(struct node *node, enum table table, struct bytes after,
                       struct effects *effects)
{
    struct storage_op op = {
        .kind = STORAGE_SCAN,
        .token = request_number(OWNER_START, table),
        .key = {.table = table},
        .after = after,
        .bytes_max = node->config.limits.list_bytes_max,
    };
    if (effects_storage(effects, &op))
        node->start_waiting++;
    else
        effects->halt = "start: no memory to read what was stored";
}

static void start_row(struct node *node, const struct storage_row *row,
                      struct arena *arena)
{
    if (row->key.table == TABLE_HINTS) {
        struct hint_target *target = hint_target(node, row->key.target);
        if (target != NULL) {
            target->records++;
            target->bytes += row->record.size;
        }
        return;
    }
    struct bytes name = row->key.key;
    if (bytes_equal(name, bytes_of_string(META_MISSING))) {
        fill_restore(node, row->record);
        return;
    }
    if (bytes_equal(name, bytes_of_string(META_JOINED))) {
        node->has_joined = true;
        return;
    }
    if (name.size < sizeof META_MEMBER - 1 ||
        memcmp(name.data, META_MEMBER, sizeof META_MEMBER - 1) != 0)
        return;
    ProtobufCAllocator allocator = arena_allocator(arena);
    Rkv__Member *wire =
        rkv__member__unpack(&allocator, row->record.size, row->record.data);
    struct member member;
    if (wire != NULL && member_from_wire(wire, &member, NULL) == STATUS_OK &&
        !node_id_equal(member.id, node->self))
        membership_remember(node->membership, &member);
}

static void start_stored(struct node *node, const struct storage_result *result,
                         struct effects *effects)
{
    node->start_waiting--;
    if (result->status != STATUS_OK) {
        effects->halt = result->op->kind == STORAGE_SCAN
                            ? "start: what was stored cannot be read; "
                              "--replace sets the disk aside and fills another "
                              "from the other nodes"
                            : "start: what is missing cannot be stored";
        return;
    }
    for (size_t i = 0; i < result->row_count; i++)
        start_row(node, &result->rows[i], &effects->arena);
    bool was_scan = result->op->kind == STORAGE_SCAN;
    if (was_scan && !result->done)
        start_scan(node, result->op->key.table, result->next, effects);
    if (node->start_waiting > 0)
        return;
    /* What is missing must be on disk before anyone knows this disk: a crash
     * would leave one that seems whole. */
    if (was_scan && (node->config.replace || node->config.amnesiac)) {
        if (fill_all(node, request_number(OWNER_START, 0), effects))
            node->start_waiting++;
        else
            effects->halt = "start: no memory to store what is missing";
        return;
    }
    node->stage = NODE_JOINING;
}

/* So that the next start need not wait for the others. Lost, it just does. */
static void store_joined(struct effects *effects)
{
    struct storage_op op = {
        .kind = STORAGE_SET,
        .token = request_number(OWNER_META, 0),
        .key = {.table = TABLE_META, .key = bytes_of_string(META_JOINED)},
        .data = bytes_of_string("yes"),
    };
    (void)effects_storage(effects, &op);
}

/* A disk that has been ready before is ready at once: the others refuse it
 * should it be older than it was. A new one might be an emptied one, which
 * only they can tell: it waits until a majority has accepted it, however often
 * it is started meanwhile. */
static void join(struct node *node, struct effects *effects)
{
    size_t count = 1;
    for (size_t i = 0; i < node->topology.node_count; i++)
        count += node->met[i];
    bool is_new = !node->has_joined || node->config.replace;
    if (is_new && count * 2 <= node->topology.node_count)
        return;
    node->stage = NODE_READY;
    effects->log = "event=ready";
    if (!node->has_joined)
        store_joined(effects);
}

static void store_member(struct node *node, struct node_id id,
                         struct effects *effects)
{
    const struct member *member = membership_find(node->membership, id);
    if (member == NULL || node_id_equal(id, node->self))
        return;
    struct arena *arena = &effects->arena;
    Rkv__Member *wire = member_to_wire(member, arena);
    size_t prefix = sizeof META_MEMBER - 1;
    uint8_t *name = arena_alloc(arena, prefix + NODE_ID_SIZE);
    uint8_t *data =
        wire == NULL ? NULL
                     : arena_alloc(arena, rkv__member__get_packed_size(wire));
    if (name == NULL || data == NULL)
        return;
    memcpy(name, META_MEMBER, prefix);
    memcpy(name + prefix, id.bytes, NODE_ID_SIZE);
    struct storage_op op = {
        .kind = STORAGE_SET,
        .token = request_number(OWNER_META, 0),
        .key = {.table = TABLE_META,
                .key = bytes_of(name, prefix + NODE_ID_SIZE)},
        .data = bytes_of(data, rkv__member__pack(wire, data)),
    };
    (void)effects_storage(effects, &op);
}

static void note_changes(struct node *node, struct effects *effects)
{
    struct member_change change;
    while (membership_next_change(node->membership, &change)) {
        if (change.identity_changed)
            store_member(node, change.id, effects);
        if (change.to == MEMBER_ALIVE)
            handoff_wake(node);
    }
}

/* --- dispatch --- */

static void tick(struct node *node, struct effects *effects)
{
    if (!node->start_asked) {
        node->start_asked = true;
        start_scan(node, TABLE_META, (struct bytes){0}, effects);
        start_scan(node, TABLE_HINTS, (struct bytes){0}, effects);
    }
    if (node->stage == NODE_STARTING)
        return;
    membership_tick(node->membership, node->now_ms, &effects->out);
    if (node->stage == NODE_JOINING)
        join(node, effects);
    writes_tick(node, effects);
    reads_tick(node, effects);
    relays_tick(node, effects);
    serve_tick(node, effects);
    handoff_tick(node, effects);
    fill_tick(node, effects);
}

static void unknown_request(struct node *node, const struct event *event,
                            struct effects *effects)
{
    node_count(node, COUNTER_REQUESTS_UNKNOWN);
    reply_result(node, effects, event->token, STATUS_UNSUPPORTED,
                 RKV__OUTCOME__NOT_APPLIED,
                 event->kind == EVENT_CLIENT_REQUEST
                     ? "this message is no request of the storage service; "
                       "other services answer on listen.peer"
                     : "this message is no request");
}

static bool storage_service(struct node *node, const struct event *event,
                            struct effects *effects)
{
    const Rkv__Envelope *message = event->message;
    switch ((int)message->body_case) {
    case RKV__ENVELOPE__BODY_WRITE:
        write_request(node, event->token, message->write,
                      event->kind == EVENT_PEER_REQUEST &&
                          message->write->coordinate,
                      effects);
        return true;
    case RKV__ENVELOPE__BODY_READ:
        read_request(node, event->token, message->read, effects);
        return true;
    case RKV__ENVELOPE__BODY_LIST:
        list_request(node, event->token, message->list,
                     event->kind == EVENT_PEER_REQUEST, effects);
        return true;
    case RKV__ENVELOPE__BODY_ADMIN:
        admin_request(node, event->token, message->admin, effects);
        return true;
    default: /* an int: any number may come from the wire */
        return false;
    }
}

static void peer_request(struct node *node, const struct event *event,
                         struct effects *effects)
{
    const Rkv__Envelope *message = event->message;
    switch ((int)message->body_case) {
    case RKV__ENVELOPE__BODY_STORE:
        serve_store(node, event->token, message->store, effects);
        return;
    case RKV__ENVELOPE__BODY_FETCH:
        serve_fetch(node, event->token, message->fetch, effects);
        return;
    case RKV__ENVELOPE__BODY_SCAN:
        serve_scan(node, event->token, message->scan, effects);
        return;
    case RKV__ENVELOPE__BODY_HANDOFF:
        serve_handoff(node, event->token, message->handoff, effects);
        return;
    case RKV__ENVELOPE__BODY_PING:
    case RKV__ENVELOPE__BODY_PING_REQ:
    case RKV__ENVELOPE__BODY_PUSH_PULL:
    case RKV__ENVELOPE__BODY_GOSSIP:
        membership_request(node->membership, node->now_ms, event->from,
                           event->token, message, &effects->out);
        return;
    default: /* an int: any number may come from the wire */
        unknown_request(node, event, effects);
        return;
    }
}

static void reply(struct node *node, const struct event *event,
                  struct effects *effects)
{
    const Rkv__Envelope *message =
        event->kind == EVENT_REPLY ? event->message : NULL;
    switch (request_owner_of(event->request)) {
    case OWNER_MEMBERSHIP:
    case OWNER_BROADCAST:
        membership_reply(node->membership, node->now_ms, event->request,
                         message, &effects->out);
        break;
    case OWNER_WRITE:
        write_reply(node, event->request, event->from, message, effects);
        break;
    case OWNER_FORWARD:
        forward_reply(node, event->request, event->from, message, effects);
        break;
    case OWNER_READ:
        read_reply(node, event->request, event->from, message, effects);
        break;
    case OWNER_HANDOFF:
        handoff_reply(node, event->request, message, effects);
        break;
    case OWNER_FILL:
        fill_reply(node, event->request, message, effects);
        break;
    case OWNER_RELAY:
        relay_reply(node, event->request, event->from, message, effects);
        break;
    case OWNER_EXPLAIN:
        explain_reply(node, event->request, event->from, message, effects);
        break;
    case OWNER_START:
    case OWNER_META:
    case OWNER_SERVE_STORE:
    case OWNER_SERVE_FETCH:
    case OWNER_SERVE_SCAN:
    case OWNER_SERVE_LIST:
    case OWNER_SERVE_DIGEST:
    case OWNER_SERVE_HANDOFF:
    case OWNER_HINT:
        ASSERT(!"storage operations are not requests");
    }
}

static void stored(struct node *node, const struct event *event,
                   struct effects *effects)
{
    const struct storage_result *result = event->storage;
    if (result->op->key.table == TABLE_HINTS &&
        result->op->kind != STORAGE_SCAN)
        hints_changed(node, result);
    if (result->status != STATUS_OK && result->status != STATUS_NOT_FOUND)
        node_count(node, COUNTER_STORAGE_FAILURES);
    switch (request_owner_of(result->op->token)) {
    case OWNER_WRITE:
        write_stored(node, result, effects);
        break;
    case OWNER_READ:
        read_stored(node, result, effects);
        break;
    case OWNER_HANDOFF:
        handoff_stored(node, result, effects);
        break;
    case OWNER_FILL:
        fill_stored(node, result, effects);
        break;
    case OWNER_EXPLAIN:
        explain_stored(node, result, effects);
        break;
    case OWNER_START:
        start_stored(node, result, effects);
        break;
    case OWNER_SERVE_STORE:
    case OWNER_SERVE_FETCH:
    case OWNER_SERVE_SCAN:
    case OWNER_SERVE_HANDOFF:
        serve_stored(node, result, effects);
        break;
    case OWNER_SERVE_LIST:
        list_stored(node, result, effects);
        break;
    case OWNER_SERVE_DIGEST:
        digest_stored(node, result, effects);
        break;
    case OWNER_META:
        hello_stored(node, result, effects);
        break;
    case OWNER_HINT:
        break; /* counted above; nobody waits */
    case OWNER_MEMBERSHIP:
    case OWNER_BROADCAST:
    case OWNER_FORWARD:
    case OWNER_RELAY:
        ASSERT(!"these machines store nothing");
    }
}

/* Until the disk was read nothing is known of what it lacks or keeps. */
static bool is_too_early(struct node *node, const struct event *event,
                         struct effects *effects)
{
    Rkv__Envelope__BodyCase body = event->message->body_case;
    if (node->stage != NODE_STARTING || body == RKV__ENVELOPE__BODY_ADMIN ||
        body >= RKV__ENVELOPE__BODY_HELLO)
        return false;
    reply_result(node, effects, event->token, STATUS_UNAVAILABLE,
                 RKV__OUTCOME__NOT_APPLIED,
                 "the node is starting: it has not read its disk yet");
    return true;
}

static void request(struct node *node, const struct event *event,
                    struct effects *effects)
{
    if (is_too_early(node, event, effects) ||
        storage_service(node, event, effects))
        return;
    if (event->kind == EVENT_PEER_REQUEST)
        peer_request(node, event, effects);
    else
        unknown_request(node, event, effects);
}

void node_step(struct node *node, const struct event *event,
               struct effects *effects)
{
    uint64_t dropped = effects->out.dropped;
    effects->refused_before = effects->arena.refused;
    node->now_us = event->now_us;
    node->now_ms = event->now_us / 1000;
    node->wall_ms = event->wall_ms;
    switch (event->kind) {
    case EVENT_TICK:
        tick(node, effects);
        break;
    case EVENT_CLIENT_REQUEST:
    case EVENT_PEER_REQUEST:
        request(node, event, effects);
        break;
    case EVENT_HELLO:
        hello_heard(node, event, effects);
        break;
    case EVENT_HELLO_REPLY:
        hello_answered(node, event, effects);
        break;
    case EVENT_REPLY:
    case EVENT_NO_REPLY:
        reply(node, event, effects);
        break;
    case EVENT_PREPARED:
        write_prepared(node, event->storage, effects);
        break;
    case EVENT_STORED:
        stored(node, event, effects);
        break;
    case EVENT_REOPENED:
        node_count(node, COUNTER_REOPENS);
        effects->renew_incarnation = true;
        break;
    case EVENT_LEAVE:
        membership_leave(node->membership, node->now_ms, &effects->out);
        break;
    }
    note_changes(node, effects);
    node->counters[COUNTER_MESSAGES_DROPPED] += effects->out.dropped - dropped;
}
