/* SPDX-License-Identifier: MIT */
#include "proxy/core/node.h"

#include "proto/assert.h"
#include "proxy/core/compare.h"
#include "proxy/core/node_internal.h"

uint64_t node_random(struct node *node)
{
    /* SplitMix64, as in replica.c. */
    uint64_t z = (node->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* A hybrid logical clock (Kulkarni et al. 2014), the wall clock's milliseconds
 * above 16 bits of count: never back, but for what was counted from while the
 * clock was wrong. */
uint64_t node_stamp(struct node *node)
{
    uint64_t physical = (uint64_t)node->wall_ms << 16;
    int64_t ahead_ms = (int64_t)(node->stamp >> 16) - node->wall_ms;
    bool was_off = node->clocks.is_known &&
                   ahead_ms > node->config.timeouts.clock_skew_max_ms;
    node->stamp =
        physical > node->stamp || was_off ? physical : node->stamp + 1;
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

/* A request a millisecond, of clients and of other nodes. */
static void note_load(struct node *node)
{
    enum { BUSY_A_SECOND = 1000 };
    static const enum counter counted[] = {COUNTER_WRITES, COUNTER_READS,
                                           COUNTER_STORES, COUNTER_FETCHES};
    uint64_t requests = 0;
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++)
        requests += node->counters[counted[i]];
    uint64_t came = requests - node->requests;
    int64_t took_ms = node->now_ms - node->ticked_ms;
    node->is_busy = came * 1000 > (uint64_t)took_ms * BUSY_A_SECOND;
    node->requests = requests;
    node->ticked_ms = node->now_ms;
}

bool node_is_busy(const struct node *node)
{
    return node->is_busy;
}

int64_t node_pause_ms(const struct node *node, int64_t since_ms)
{
    enum { BUSY_TIMES = 30 };
    int64_t took_ms = node->now_ms - since_ms;
    int64_t pause_ms = node->is_busy ? BUSY_TIMES * (took_ms + 1) : took_ms;
    return pause_ms < PAUSE_MS_MAX ? pause_ms : PAUSE_MS_MAX;
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

/* --- dispatch --- */

static void note_changes(struct node *node, struct effects *effects)
{
    struct member_change change;
    while (membership_next_change(node->membership, &change)) {
        if (change.identity_changed) {
            start_store_member(node, change.id, effects);
            moves_forget(node, change.id);
        }
        if (change.to == MEMBER_ALIVE) {
            handoff_wake(node, change.id);
            exchange_wake(node, change.id);
            moves_tell(node, change.id, effects);
        }
    }
}

/* A disk that fails now and then would else show what was long ago. */
static void store_notes_again(struct node *node, struct effects *effects)
{
    for (size_t i = 0; i < node->topology.node_count; i++) {
        if (!node->has_failed_note[i])
            continue;
        node->has_failed_note[i] = false;
        start_store_member(node, node->topology.nodes[i].id, effects);
    }
}

static void tick(struct node *node, struct effects *effects)
{
    if (!node->start_asked) {
        node->start_asked = true;
        start_begin(node, effects);
    }
    if (node->stage == NODE_STARTING)
        return;
    note_load(node);
    membership_tick(node->membership, node->now_ms, &effects->out);
    store_notes_again(node, effects);
    if (node->stage == NODE_JOINING)
        start_join(node, effects);
    writes_tick(node, effects);
    reads_tick(node, effects);
    relays_tick(node, effects);
    serve_tick(node, effects);
    handoff_tick(node, effects);
    fill_tick(node, effects);
    trees_tick(node, effects);
    exchange_tick(node, effects);
    collect_tick(node, effects);
    moves_tick(node, effects);
    clocks_tick(node, effects); /* last: a step has one line to say */
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
    case RKV__ENVELOPE__BODY_TREES:
        compare_serve(node, event->token, message->trees, effects);
        return;
    case RKV__ENVELOPE__BODY_DRAIN:
        drain_request(node, event->token, message->drain, effects);
        return;
    case RKV__ENVELOPE__BODY_BARRIER:
        reply_result(node, effects, event->token, STATUS_OK, RKV__OUTCOME__NONE,
                     NULL);
        return;
    case RKV__ENVELOPE__BODY_COLLECT:
        serve_collect(node, event->token, message->collect, effects);
        return;
    case RKV__ENVELOPE__BODY_TOPOLOGY:
        moves_serve(node, event->token, event->from, message->topology,
                    effects);
        return;
    case RKV__ENVELOPE__BODY_AGREE:
        agree_serve(node, event->token, message->agree, effects);
        return;
    case RKV__ENVELOPE__BODY_CLOCK:
        clocks_serve(node, event->token, effects);
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
    case OWNER_EXCHANGE:
        exchange_reply(node, event->request, message, effects);
        break;
    case OWNER_COLLECT:
        collect_reply(node, event->request, event->from, message, effects);
        break;
    case OWNER_DRAIN:
        drain_reply(node, event->request, message, effects);
        break;
    case OWNER_CLOCK:
        clocks_reply(node, event->request, message);
        break;
    case OWNER_AGREE:
        agree_reply(node, event->request, event->from, message, effects);
        break;
    case OWNER_MOVES:
        moves_reply(node, event->from, message, effects);
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
    case OWNER_TREES:
        ASSERT(!"storage operations are not requests");
    }
}

static void note_data(struct node *node, const struct storage_result *result,
                      struct effects *effects)
{
    if (result->was_damaged && result->status != STATUS_OK)
        read_mend(node, &result->op->key, effects);
    trees_changed(node, result);
    if (result->status != STATUS_OK)
        return;
    if (result->version_before != result->version_after)
        collect_note(node, result->op->key.partition, result->ripe_ms);
    if (result->op->kind == STORAGE_COLLECT &&
        result->version_before != result->version_after)
        node_count(node, result->version_after == 0 ? COUNTER_RECORDS_COLLECTED
                                                    : COUNTER_CONTEXTS_FOLDED);
}

static void prepared(struct node *node, const struct storage_result *result,
                     struct effects *effects)
{
    if (result->status != STATUS_OK && result->op->key.table == TABLE_HINTS)
        hint_refused(node, result);
    if (result->status != STATUS_OK && result->was_damaged)
        read_mend(node, &result->op->key, effects);
    write_prepared(node, result, effects);
}

static void note(struct node *node, const struct storage_result *result,
                 struct effects *effects)
{
    if (result->op->key.table == TABLE_HINTS &&
        result->op->kind != STORAGE_SCAN)
        hints_changed(node, result);
    if (result->op->key.table == TABLE_DATA)
        note_data(node, result, effects);
    if (result->status == STATUS_BROKEN) {
        trees_heard_broken(node);
        collect_heard_broken(node);
    }
    /* Those of hash trees have a count of their own. */
    if (result->status != STATUS_OK && result->status != STATUS_NOT_FOUND &&
        request_owner_of(result->op->token) != OWNER_TREES)
        node_count(node, COUNTER_STORAGE_FAILURES);
}

static void stored(struct node *node, const struct storage_result *result,
                   struct effects *effects)
{
    note(node, result, effects);
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
    case OWNER_TREES:
        trees_stored(node, result, effects);
        break;
    case OWNER_EXCHANGE:
        exchange_stored(node, result, effects);
        break;
    case OWNER_COLLECT:
        collect_stored(node, result, effects);
        break;
    case OWNER_DRAIN:
        drain_stored(node, result, effects);
        break;
    case OWNER_AGREE:
        agree_stored(node, result, effects);
        break;
    case OWNER_MOVES:
        moves_stored(node, result, effects);
        break;
    case OWNER_HINT:
        break; /* counted above; nobody waits */
    case OWNER_MEMBERSHIP:
    case OWNER_BROADCAST:
    case OWNER_FORWARD:
    case OWNER_RELAY:
    case OWNER_CLOCK:
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

/* One that has left, to whom nothing is owed but to hear of it. */
static bool is_of_no_member(const struct node *node, const struct event *event)
{
    if (node->topology.epoch == 1)
        return false;
    int from = topology_node(&node->topology, event->from);
    return from >= 0 && !topology_is_member(&node->topology, (size_t)from) &&
           event->message->body_case != RKV__ENVELOPE__BODY_TOPOLOGY;
}

static void request(struct node *node, const struct event *event,
                    struct effects *effects)
{
    if (is_too_early(node, event, effects) ||
        storage_service(node, event, effects))
        return;
    if (event->kind == EVENT_PEER_REQUEST && is_of_no_member(node, event))
        reply_result(node, effects, event->token, STATUS_REFUSED,
                     RKV__OUTCOME__NOT_APPLIED, "the node has left");
    else if (event->kind == EVENT_PEER_REQUEST)
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
    node->wall_ms = clocks_wall(node, event->wall_ms);
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
        prepared(node, event->storage, effects);
        break;
    case EVENT_STORED:
        stored(node, event->storage, effects);
        break;
    case EVENT_REOPENED:
        node_count(node, COUNTER_REOPENS);
        effects->renew_incarnation = true;
        trees_heard_reopened(node);
        break;
    case EVENT_LEAVE:
        membership_leave(node->membership, node->now_ms, &effects->out);
        break;
    }
    note_changes(node, effects);
    node->counters[COUNTER_MESSAGES_DROPPED] += effects->out.dropped - dropped;
}
