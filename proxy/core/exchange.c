/* SPDX-License-Identifier: MIT */
#include "proxy/core/exchange.h"

#include <stdlib.h>

#include "proxy/core/compare.h"

enum {
    RETRY_MS = 1000,
    /* Before leaves are compared: what is on its way arrives. */
    ARRIVAL_MS = 200,
    /* Of a turn: so soon a node that is there again has its own. */
    WAKE_PART = 30,
    /* So that the leaves of all of a group fit one message. */
    GROUP_PARTITIONS = COMPARE_NODES_MAX / (TREE_LEAVES / TREE_FANOUT),
};

enum status exchange_init(struct node *node)
{
    size_t pairs = (size_t)node->topology.partitions * OWNERS_MAX;
    struct exchange *exchange = &node->exchange;
    exchange->next_ms = -1;
    exchange->equal_ms = calloc(pairs, sizeof *exchange->equal_ms);
    exchange->suspects = calloc(1, bits_size(node->topology.partitions));
    return exchange->equal_ms == NULL || exchange->suspects == NULL
               ? STATUS_NO_MEMORY
               : STATUS_OK;
}

static void forget_round(struct exchange *exchange)
{
    struct buffer *const buffers[] = {
        &exchange->differ,     &exchange->nodes, &exchange->after,
        &exchange->to,         &exchange->own,   &exchange->list_after,
        &exchange->list_next,  &exchange->pulls, &exchange->pushes,
        &exchange->read_after,
    };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_fini(buffers[i]);
    exchange->is_on = exchange->is_verifying = false;
    exchange->is_waiting = exchange->is_between = false;
}

void exchange_fini(struct node *node)
{
    forget_round(&node->exchange);
    free(node->exchange.equal_ms);
    free(node->exchange.suspects);
    node->exchange.equal_ms = NULL;
    node->exchange.suspects = NULL;
}

void exchange_go_to(struct node *node, enum exchange_stage stage)
{
    node->exchange.stage = stage;
    node->exchange.lost_at_ms = node->now_ms + LOST_MS;
}

static void rest(struct node *node, int64_t wait_ms)
{
    struct exchange *exchange = &node->exchange;
    exchange->serial++;
    exchange->stage = EXCHANGE_IDLE;
    exchange->next_ms = node->now_ms + wait_ms;
}

/* So that each peer has its turn once an interval. */
static int64_t turn_ms(const struct node *node)
{
    int64_t peers = (int64_t)topology_member_count(&node->topology) - 1;
    return node->config.timeouts.exchange_interval_ms / (peers > 0 ? peers : 1);
}

/* The next peer has its turn: at once when an operator waits for it. */
static void round_over(struct node *node)
{
    struct repair *repair = &node->exchange.repair;
    if (repair->is_running && --repair->peers_left == 0)
        *repair = (struct repair){.is_running = false};
    forget_round(&node->exchange);
    rest(node, repair->is_running ? 0 : turn_ms(node));
    node->exchange.has_failed = false;
}

/* The peer is gone, or we are at odds with it. */
static void fail(struct node *node)
{
    node_count(node, COUNTER_EXCHANGES_FAILED);
    round_over(node);
    node->exchange.has_failed = true;
}

void exchange_skip(struct node *node)
{
    node_count(node, COUNTER_EXCHANGES_FAILED);
    node->exchange.is_between = false;
    rest(node, RETRY_MS);
}

void exchange_pause(struct node *node)
{
    node->exchange.is_between = true;
    rest(node, node_pause_ms(node, node->exchange.started_ms));
}

uint64_t exchange_number(const struct node *node)
{
    return request_number(OWNER_EXCHANGE, node->exchange.serial);
}

void exchange_ask(struct node *node, enum exchange_stage stage,
                  const Rkv__Envelope *message, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    if (message == NULL) {
        fail(node);
        return;
    }
    exchange->serial++;
    exchange_go_to(node, stage);
    outbox_request(&effects->out, exchange->peer, LANE_BULK,
                   exchange_number(node), message);
}

static const uint32_t *numbers(const struct buffer *buffer, size_t *count)
{
    *count = buffer->size / sizeof(uint32_t);
    return (const uint32_t *)(const void *)buffer->data;
}

static bool add_number(struct buffer *buffer, uint32_t number)
{
    return buffer_append(buffer, bytes_of(&number, sizeof number)) == STATUS_OK;
}

/* --- comparing --- */

/* What of the group is not taken up yet is not known any more, here or there:
 * the next one, later. */
static void pass_over_group(struct node *node)
{
    struct exchange *exchange = &node->exchange;
    node_count(node, COUNTER_PARTITIONS_UNCOMPARED);
    buffer_clear(&exchange->nodes);
    exchange->node_next = 0;
    exchange->is_waiting = false;
    rest(node, RETRY_MS);
}

static void compare(struct node *node, unsigned level, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    const uint32_t *nodes = numbers(&exchange->nodes, &exchange->asked);
    exchange->level = level;
    exchange->is_waiting = false;
    for (size_t i = 0; i < exchange->asked; i++)
        if (tree_of(node, compare_partition(level, nodes[i])) == NULL) {
            /* It is doubted since, or the engine failed. */
            pass_over_group(node);
            return;
        }
    exchange_ask(
        node, EXCHANGE_COMPARING,
        compare_ask(node, level, nodes, exchange->asked, &effects->arena),
        effects);
}

/* Of what differs, where to begin: with the next that the peer is known to have
 * missed some of; behind one that ended the last round, which must not hide the
 * others. */
static uint32_t first_of_round(const struct node *node)
{
    const struct exchange *exchange = &node->exchange;
    size_t count, first = 0;
    const uint32_t *differ = numbers(&exchange->differ, &count);
    while (first < count && differ[first] < exchange->resume_next)
        first++;
    for (size_t i = 0; i < count && !exchange->has_failed; i++) {
        uint32_t number = differ[(first + i) % count];
        const int64_t *when_ms = exchange_equal_ms(
            node, compare_partition(0, number), exchange->peer);
        if (when_ms != NULL && *when_ms == 0)
            return number;
    }
    return exchange->resume_next;
}

/* Some of the partitions that differ, from resume on. */
static void next_group(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    size_t count, first = 0;
    const uint32_t *differ = numbers(&exchange->differ, &count);
    while (first < count && differ[first] < exchange->resume)
        first++;
    buffer_clear(&exchange->nodes);
    exchange->node_next = 0;
    for (size_t i = 0; i < GROUP_PARTITIONS && exchange->differ_next < count;
         i++) {
        struct partition partition = compare_partition(
            0, differ[(first + exchange->differ_next++) % count]);
        if (tree_of(node, partition) == NULL) {
            node_count(node, COUNTER_PARTITIONS_UNCOMPARED);
        } else if (!add_number(&exchange->nodes, compare_node(partition, 0))) {
            fail(node);
            return;
        }
    }
    if (exchange->nodes.size > 0)
        compare(node, 1, effects);
    else if (exchange->differ_next < count)
        rest(node, 0); /* these are not known any more; more are to come */
    else
        round_over(node);
}

static bool is_shared(const struct node *node, struct partition partition)
{
    const struct repair *repair = &node->exchange.repair;
    return topology_owns(&node->topology, partition, node->self) &&
           topology_owns(&node->topology, partition, node->exchange.peer) &&
           (!repair->is_of_one || repair->partition.value == partition.value);
}

/* Of the partitions that we share with the peer, from roots_next on. */
static void ask_roots(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    size_t count = 0;
    buffer_clear(&exchange->nodes);
    while (exchange->roots_next < node->topology.partitions &&
           count < COMPARE_NODES_MAX) {
        struct partition partition = {(uint16_t)exchange->roots_next++};
        if (!is_shared(node, partition))
            continue;
        if (!compare_is_possible(node, partition)) {
            node_count(node, COUNTER_PARTITIONS_UNCOMPARED);
            continue;
        }
        if (!add_number(&exchange->nodes, partition.value)) {
            fail(node);
            return;
        }
        count++;
    }
    if (count > 0) {
        compare(node, 0, effects);
        return;
    }
    exchange->resume = first_of_round(node);
    next_group(node, effects);
}

static bool take_roots(struct node *node, struct bytes differ)
{
    struct exchange *exchange = &node->exchange;
    size_t count;
    const uint32_t *nodes = numbers(&exchange->nodes, &count);
    for (size_t i = 0; i < count; i++) {
        if (differ.data[i] == COMPARE_EQUAL)
            exchange_found_equal(node, compare_partition(0, nodes[i]));
        else if (differ.data[i] != COMPARE_DIFFERS)
            node_count(node, COUNTER_PARTITIONS_UNCOMPARED);
        else if (!add_number(&exchange->differ, nodes[i]))
            return false;
    }
    return true;
}

static bool add_children(struct buffer *next, uint32_t node, unsigned differ)
{
    unsigned first = (node & (TREE_LEAVES - 1)) * TREE_FANOUT;
    struct partition partition = compare_partition(1, node);
    for (unsigned child = 0; child < TREE_FANOUT; child++)
        if ((differ >> child & 1) &&
            !add_number(next, compare_node(partition, first + child)))
            return false;
    return true;
}

/* What to ask about at the next level, in place of what was asked; behind the
 * last level these are leaves. */
static bool descend(struct exchange *exchange, struct bytes differ)
{
    struct buffer next = {0};
    size_t count;
    const uint32_t *nodes = numbers(&exchange->nodes, &count);
    bool ok = true;
    for (size_t i = 0; i < count && ok; i++)
        ok = add_children(&next, nodes[i], differ.data[i]);
    buffer_fini(&exchange->nodes);
    exchange->nodes = next;
    return ok;
}

/* --- from partition to partition --- */

/* The next one with leaves that differ. */
static void next_partition(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    size_t count, at = exchange->node_next;
    const uint32_t *leaves = numbers(&exchange->nodes, &count);
    if (at == count) {
        next_group(node, effects);
        return;
    }
    exchange->partition = compare_partition(TREE_LEVELS, leaves[at]);
    exchange->leaves = (struct leaf_set){{0}};
    while (at < count && compare_partition(TREE_LEVELS, leaves[at]).value ==
                             exchange->partition.value)
        leaf_set_add(&exchange->leaves, leaves[at++] & (TREE_LEAVES - 1));
    exchange->node_next = at;
    exchange->resume_next = exchange->partition.value + 1u;
    exchange->started_ms = node->now_ms;
    reconcile(node, effects);
}

/* Whether it is equal now; what is not may be on its way to one of us. */
void exchange_partition_done(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    uint32_t root = exchange->partition.value;
    if (!compare_is_possible(node, exchange->partition)) {
        exchange_skip(node);
        return;
    }
    exchange->is_verifying = true;
    exchange->level = 0;
    exchange->asked = 1;
    exchange_ask(node, EXCHANGE_COMPARING,
                 compare_ask(node, 0, &root, 1, &effects->arena), effects);
}

static void verified(struct node *node, enum compare_result result)
{
    struct exchange *exchange = &node->exchange;
    struct partition partition = exchange->partition;
    bool was_suspect = bit_has(exchange->suspects, partition.value);
    exchange->is_verifying = false;
    rest(node, node_pause_ms(node, exchange->started_ms));
    if (exchange->repair.bucket.value != 0)
        return; /* the other buckets were not looked at */
    if (result != COMPARE_EQUAL && result != COMPARE_DIFFERS) {
        node_count(node, COUNTER_PARTITIONS_UNCOMPARED);
        return; /* the other has lost its tree meanwhile */
    }
    bit_clear(exchange->suspects, partition.value);
    if (result == COMPARE_EQUAL) {
        exchange_found_equal(node, partition);
    } else if (exchange->moved == 0) {
        /* They differ, and nothing was found that does: once that may be what
         * was on its way, twice in a row one of the trees is wrong. */
        if (!was_suspect) {
            bit_set(exchange->suspects, partition.value);
            return;
        }
        node_count(node, COUNTER_PARTITIONS_UNCOMPARED);
        trees_rebuild(node, &partition);
    }
}

/* Level by level, about the leaves after a while. */
static void went_down(struct node *node, struct bytes differ,
                      struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    if (!descend(exchange, differ)) {
        fail(node);
    } else if (exchange->nodes.size == 0 || exchange->level == TREE_LEVELS) {
        next_partition(node, effects);
    } else if (exchange->level + 1 == TREE_LEVELS) {
        exchange->is_waiting = true;
        rest(node, ARRIVAL_MS);
    } else {
        compare(node, exchange->level + 1, effects);
    }
}

static void compared(struct node *node, const Rkv__TreesReply *reply,
                     struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    struct bytes differ = bytes_of_binary(reply->differ);
    if (reply->status == RKV__STATUS__UNCERTAIN && exchange->level > 0)
        pass_over_group(node);
    else if (reply->status != RKV__STATUS__OK || differ.size != exchange->asked)
        fail(node);
    else if (exchange->is_verifying)
        verified(node, (enum compare_result)differ.data[0]);
    else if (exchange->level > 0)
        went_down(node, differ, effects);
    else if (take_roots(node, differ))
        ask_roots(node, effects);
    else
        fail(node);
}

/* --- rounds --- */

/* What is to be repaired. */
static bool is_to_be_built(const struct node *node)
{
    const struct repair *repair = &node->exchange.repair;
    const struct trees *trees = &node->trees;
    if (!repair->is_running)
        return false;
    for (size_t p = 0; p < node->topology.partitions; p++)
        if (bit_has(trees->due, p) &&
            (repair->is_full || !bit_has(trees->known, p)) &&
            (!repair->is_of_one || repair->partition.value == p))
            return true;
    return false;
}

/* With the next peer, if it can be reached. */
static void begin(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    const struct topology *topology = &node->topology;
    if (is_to_be_built(node))
        return;
    exchange->peer_next = (exchange->peer_next + 1) % topology->node_count;
    exchange->peer = topology->nodes[exchange->peer_next].id;
    if (node_id_equal(exchange->peer, node->self) ||
        !topology_is_member(topology, exchange->peer_next))
        return;
    if (!membership_is_reachable(node->membership, exchange->peer)) {
        fail(node);
        return;
    }
    node_count(node, COUNTER_EXCHANGES);
    exchange->is_on = true;
    exchange->roots_next = 0;
    exchange->differ_next = exchange->node_next = 0;
    ask_roots(node, effects);
}

void exchange_moved(struct node *node, const struct topology *before)
{
    int64_t *equal = node->exchange.equal_ms;
    for (size_t p = 0; p < before->partitions; p++)
        if (before->changed[p] != node->topology.changed[p])
            memset(equal + p * OWNERS_MAX, 0, OWNERS_MAX * sizeof *equal);
    /* A repair begins again, as long as there is anybody. */
    struct repair *repair = &node->exchange.repair;
    repair->peers_left =
        repair->is_running ? topology_member_count(&node->topology) - 1 : 0;
    repair->is_running = repair->peers_left > 0;
    forget_round(&node->exchange);
    rest(node, node->exchange.repair.is_running ? 0 : turn_ms(node));
}

void exchange_repair(struct node *node, const struct repair *repair)
{
    forget_round(&node->exchange);
    node->exchange.repair = *repair;
    rest(node, 0);
}

void exchange_wake(struct node *node, struct node_id peer)
{
    struct exchange *exchange = &node->exchange;
    int at = topology_node(&node->topology, peer);
    int64_t soon_ms = node->now_ms + turn_ms(node) / WAKE_PART;
    if (at < 0 || exchange->is_on || exchange->repair.is_running ||
        exchange->next_ms < soon_ms || node->now_ms < exchange->wake_ms)
        return;
    /* One that comes and goes does not take the others' turns. */
    exchange->wake_ms = node->now_ms + turn_ms(node);
    size_t count = node->topology.node_count;
    exchange->peer_next = ((size_t)at + count - 1) % count;
    exchange->next_ms = soon_ms;
}

void exchange_let_go(struct node *node, struct partition partition)
{
    struct exchange *exchange = &node->exchange;
    bool has_rows = exchange->stage == EXCHANGE_PULLING ||
                    exchange->stage == EXCHANGE_READING;
    if (!has_rows || exchange->partition.value != partition.value)
        return;
    exchange->is_between = true;
    rest(node, 0);
}

void exchange_tick(struct node *node, struct effects *effects)
{
    struct exchange *exchange = &node->exchange;
    if (node->topology.node_count < 2 || node->stage != NODE_READY)
        return;
    if (exchange->next_ms < 0) { /* not all nodes of a cluster at once */
        int64_t half_ms = turn_ms(node) / 2;
        rest(node,
             half_ms + (int64_t)(node_random(node) % ((uint64_t)half_ms + 1)));
    }
    if (exchange->stage != EXCHANGE_IDLE) {
        if (node->now_ms >= exchange->lost_at_ms)
            fail(node);
    } else if (node->now_ms >= exchange->next_ms) {
        if (exchange->is_waiting)
            compare(node, TREE_LEVELS, effects);
        else if (exchange->is_between)
            reconcile_go_on(node, effects);
        else if (exchange->is_on)
            next_partition(node, effects);
        else
            begin(node, effects);
    }
}

void exchange_reply(struct node *node, uint64_t request,
                    const Rkv__Envelope *reply, struct effects *effects)
{
    const struct exchange *exchange = &node->exchange;
    if (request != exchange_number(node))
        return;
    Rkv__Envelope__BodyCase body =
        reply == NULL ? RKV__ENVELOPE__BODY__NOT_SET : reply->body_case;
    switch (exchange->stage) {
    case EXCHANGE_COMPARING:
        if (body == RKV__ENVELOPE__BODY_TREES_REPLY)
            compared(node, reply->trees_reply, effects);
        else
            fail(node);
        break;
    case EXCHANGE_LISTING:
    case EXCHANGE_PULLING:
        if (body == RKV__ENVELOPE__BODY_SCAN_REPLY &&
            reply->scan_reply->status == RKV__STATUS__OK)
            reconcile_scan_reply(node, reply->scan_reply, effects);
        else if (body == RKV__ENVELOPE__BODY_SCAN_REPLY)
            exchange_skip(node);
        else if (membership_is_reachable(node->membership, exchange->peer))
            reconcile_unanswered(node, effects);
        else
            fail(node);
        break;
    case EXCHANGE_PUSHING:
        if (body == RKV__ENVELOPE__BODY_HANDOFF_REPLY)
            reconcile_pushed(node, (enum status)reply->handoff_reply->status,
                             effects);
        else if (membership_is_reachable(node->membership, exchange->peer))
            reconcile_pushed(node, STATUS_CLOSED, effects);
        else
            fail(node);
        break;
    case EXCHANGE_IDLE:
    case EXCHANGE_SCANNING:
    case EXCHANGE_STORING:
    case EXCHANGE_READING:
        break; /* nothing was asked of the peer */
    }
}

void exchange_stored(struct node *node, const struct storage_result *result,
                     struct effects *effects)
{
    if (result->op->token == exchange_number(node))
        reconcile_stored(node, result, effects);
}
