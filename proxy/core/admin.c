/* SPDX-License-Identifier: MIT */
#include "proxy/core/node_internal.h"

/* What a node knows of itself and the others, for people and scripts. */

static void add_counters(const struct node *node, Rkv__AdminReply *reply,
                         struct arena *arena)
{
    Rkv__Counter **list = arena_alloc(arena, COUNTER_COUNT * sizeof *list);
    if (list == NULL)
        return;
    reply->counters = list;
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        Rkv__Counter *counter = message_new(arena, &rkv__counter__descriptor);
        if (counter == NULL)
            return;
        counter->name = arena_string(arena, node_counter_name(i));
        counter->value = node_counter(node, i);
        list[reply->n_counters++] = counter;
    }
}

static void add_members(const struct node *node, Rkv__AdminReply *reply,
                        struct arena *arena)
{
    size_t count = membership_count(node->membership);
    Rkv__Member **list = arena_alloc(arena, count * sizeof *list);
    if (list == NULL)
        return;
    reply->members = list;
    for (size_t i = 0; i < count; i++) {
        const struct member *each = membership_at(node->membership, i);
        Rkv__Member *member = member_to_wire(each, arena);
        int at = topology_node(&node->topology, each->id);
        if (member != NULL && at >= 0 &&
            !topology_is_member(&node->topology, (size_t)at))
            member->state = RKV__MEMBER_STATE__LEFT;
        if (member != NULL)
            list[reply->n_members++] = member;
    }
}

static void add_owners(const struct node *node, Rkv__AdminReply *reply,
                       struct arena *arena)
{
    const struct topology *topology = &node->topology;
    Rkv__Owners **list =
        arena_alloc(arena, topology->partitions * sizeof *list);
    if (list == NULL)
        return;
    reply->owners = list;
    for (uint32_t p = 0; p < topology->partitions; p++) {
        Rkv__Owners *owners = message_new(arena, &rkv__owners__descriptor);
        struct partition partition = {(uint16_t)p};
        size_t count = topology_owner_count(topology, partition);
        char **names = arena_alloc(arena, count * sizeof *names);
        if (owners == NULL || names == NULL)
            return;
        owners->partition = p;
        owners->nodes = names;
        for (size_t i = 0; i < count; i++)
            names[owners->n_nodes++] = arena_string(
                arena,
                node_name_of(node, topology_owner(topology, partition, i)));
        list[reply->n_owners++] = owners;
    }
}

static void add_hints(const struct node *node, Rkv__AdminReply *reply,
                      struct arena *arena)
{
    Rkv__HintCount **list =
        arena_alloc(arena, (node->hint_count + 1) * sizeof *list);
    if (list == NULL)
        return;
    reply->hints = list;
    for (size_t i = 0; i < node->hint_count; i++) {
        Rkv__HintCount *count =
            message_new(arena, &rkv__hint_count__descriptor);
        if (count == NULL)
            return;
        count->target =
            arena_string(arena, node_name_of(node, node->hints[i].node));
        count->records = node->hints[i].records;
        count->bytes = node->hints[i].bytes;
        list[reply->n_hints++] = count;
    }
}

static Rkv__LatencyStage *latency_to_wire(const struct latency *latency,
                                          enum latency_stage stage,
                                          struct arena *arena)
{
    Rkv__LatencyStage *wire =
        message_new(arena, &rkv__latency_stage__descriptor);
    size_t used = 0;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++)
        used += latency->buckets[i] > 0;
    uint64_t *at_least_us = arena_alloc(arena, used * sizeof *at_least_us);
    uint64_t *counts = arena_alloc(arena, used * sizeof *counts);
    if (wire == NULL || at_least_us == NULL || counts == NULL)
        return NULL;
    wire->kind = arena_string(arena, latency_kind_name(stage));
    wire->stage = arena_string(arena, latency_stage_name(stage));
    wire->max_us = latency->max_us;
    wire->at_least_us = at_least_us;
    wire->counts = counts;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        if (latency->buckets[i] == 0)
            continue;
        at_least_us[wire->n_at_least_us++] = latency_lowest_us(i);
        counts[wire->n_counts++] = latency->buckets[i];
    }
    return wire;
}

static void add_latencies(const struct node *node, Rkv__AdminReply *reply,
                          struct arena *arena)
{
    Rkv__LatencyStage **list = arena_alloc(arena, LATENCY_COUNT * sizeof *list);
    if (list == NULL)
        return;
    reply->run = node->config.self.run;
    reply->latencies = list;
    for (unsigned i = 0; i < LATENCY_COUNT; i++) {
        Rkv__LatencyStage *stage =
            latency_to_wire(&node->latencies[i], (enum latency_stage)i, arena);
        if (stage != NULL)
            list[reply->n_latencies++] = stage;
    }
}

/* Of each partition; or the longest, never being longer than all. */
static void add_equal_agos(const struct node *node, bool of_each,
                           Rkv__AdminReply *reply, struct arena *arena)
{
    size_t partitions = node->topology.partitions;
    int64_t *agos = arena_alloc(arena, partitions * sizeof *agos);
    int64_t longest = -2;
    if (agos == NULL)
        return;
    for (size_t p = 0; p < partitions; p++) {
        agos[p] = exchange_equal_ago_ms(node, (struct partition){(uint16_t)p});
        if (agos[p] != -2 && longest != -1 &&
            (agos[p] == -1 || agos[p] > longest))
            longest = agos[p];
    }
    reply->equal_ago_ms = agos;
    reply->n_equal_ago_ms = of_each ? partitions : 1;
    if (!of_each)
        agos[0] = longest;
}

static void fill_in_status(const struct node *node, Rkv__AdminReply *reply,
                           struct arena *arena)
{
    reply->node = arena_string(arena, node->config.self.name);
    reply->cluster = arena_string(arena, node->config.founding.cluster);
    reply->engine = arena_string(arena, node->config.engine);
    reply->ready = node->stage == NODE_READY;
    reply->epoch = node->topology.epoch;
    reply->partitions = node->topology.partitions;
    reply->replicas = node->topology.replicas;
    reply->filling = (uint32_t)node->fill.missing_count;
}

void admin_request(struct node *node, struct reply_token token,
                   const Rkv__Admin *admin, struct effects *effects)
{
    struct arena *arena = &effects->arena;
    Rkv__AdminReply *reply = message_new(arena, &rkv__admin_reply__descriptor);
    if (reply == NULL) {
        outbox_reply(&effects->out, token, NULL);
        return;
    }
    reply->result =
        result_new(node, arena, STATUS_OK, RKV__OUTCOME__NONE, NULL);
    fill_in_status(node, reply, arena);
    switch ((int)admin->what) {
    case RKV__ADMIN__WHAT__STATUS:
        add_counters(node, reply, arena);
        add_hints(node, reply, arena);
        add_equal_agos(node, false, reply, arena);
        reply->run = node->config.self.run;
        reply->clock_off_ms = clocks_off_ms(node);
        reply->clock_is_known = node->clocks.is_known;
        reply->repairing = node->exchange.repair.is_running;
        reply->repair_left = repair_left(node);
        reply->move = moves_to_wire(node, arena);
        break;
    case RKV__ADMIN__WHAT__TREES:
        add_equal_agos(node, true, reply, arena);
        break;
    case RKV__ADMIN__WHAT__REPAIR:
        repair_request(node, token, admin, effects);
        return;
    case RKV__ADMIN__WHAT__LEAVE:
        leave_request(node, token, admin, effects);
        return;
    case RKV__ADMIN__WHAT__MEMBERS:
        add_members(node, reply, arena);
        break;
    case RKV__ADMIN__WHAT__RING:
        add_owners(node, reply, arena);
        break;
    case RKV__ADMIN__WHAT__HINTS:
        add_hints(node, reply, arena);
        break;
    case RKV__ADMIN__WHAT__LATENCY:
        add_latencies(node, reply, arena);
        break;
    case RKV__ADMIN__WHAT__EXPLAIN:
        explain_request(node, token, admin, effects);
        return;
    case RKV__ADMIN__WHAT__DIGEST:
        digest_request(node, token, admin, effects);
        return;
    default: /* an int: a later version may ask for more */
        reply_result(node, effects, token, STATUS_UNSUPPORTED,
                     RKV__OUTCOME__NONE,
                     "what: not known to this version of replikvd");
        return;
    }
    reply_with(effects, token, RKV__ENVELOPE__BODY_ADMIN_REPLY, reply);
}
