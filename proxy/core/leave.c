/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "proxy/core/agree.h"
#include "proxy/core/moves.h"
#include "proxy/core/node_internal.h"

/* What an operator asks about nodes that leave, and is shown. */

static bool add_shares(const struct topology *topology, uint16_t leaver,
                       Rkv__Move *move, struct arena *arena)
{
    uint32_t taken[NODES_MAX] = {0};
    move->shares =
        arena_alloc(arena, topology->node_count * sizeof *move->shares);
    if (move->shares == NULL)
        return false;
    for (size_t p = 0; p < topology->partitions; p++)
        if (topology->heirs[leaver][p] != NO_NODE)
            taken[topology->heirs[leaver][p]]++;
    for (size_t i = 0; i < topology->node_count; i++) {
        Rkv__Share *share =
            taken[i] == 0 ? NULL : message_new(arena, &rkv__share__descriptor);
        if (share == NULL)
            continue;
        share->node = arena_string(arena, topology->nodes[i].name);
        share->partitions = taken[i];
        move->shares[move->n_shares++] = share;
    }
    return true;
}

/* topology: with the LEAVE decreed. */
static Rkv__Move *move_to_wire(const struct topology *topology,
                               const char *stage, struct arena *arena)
{
    Rkv__Move *move = message_new(arena, &rkv__move__descriptor);
    if (move == NULL || !add_shares(topology, topology->leaver, move, arena))
        return NULL;
    move->node = arena_string(arena, topology->nodes[topology->leaver].name);
    move->lost = topology->move.lost;
    move->stage = arena_string(arena, stage);
    return move;
}

static void add_waits(const struct node *node, Rkv__Move *move,
                      struct arena *arena)
{
    size_t count = node->topology.node_count;
    move->waits_for = arena_alloc(arena, count * sizeof *move->waits_for);
    if (move->waits_for == NULL)
        return;
    for (size_t i = 0; i < count; i++) {
        char line[NODE_NAME_MAX + 80];
        if (moves_waits_for(node, i, line, sizeof line))
            move->waits_for[move->n_waits_for++] = arena_string(arena, line);
    }
}

Rkv__Move *moves_to_wire(const struct node *node, struct arena *arena)
{
    const struct topology *topology = &node->topology;
    if (!topology_is_moving(topology))
        return NULL;
    Rkv__Move *move = move_to_wire(
        topology, topology->move.kind == DECREE_LEAVE ? "filling" : "turning",
        arena);
    if (move != NULL)
        add_waits(node, move, arena);
    return move;
}

/* All of them take part in every step. */
static enum status check_others(const struct node *node,
                                const struct decree *decree,
                                struct error *error)
{
    const struct topology *topology = &node->topology;
    if (node->config.self.version_max < PEER_VERSION_TOPOLOGY)
        return error_set(error, STATUS_UNSUPPORTED, "this node is too old");
    for (size_t i = 0; i < topology->node_count; i++) {
        const struct placement_node *other = &topology->nodes[i];
        const struct member *member =
            membership_find(node->membership, other->id);
        if (!topology_is_member(topology, i) ||
            node_id_equal(other->id, node->self) ||
            (decree->lost && node_id_equal(other->id, decree->node)))
            continue;
        if (member == NULL ||
            !membership_is_reachable(node->membership, other->id))
            return error_set(error, STATUS_UNAVAILABLE,
                             "%s does not answer: a node can leave when all "
                             "others are up",
                             other->name);
        if (member->version_max < PEER_VERSION_TOPOLOGY)
            return error_set(error, STATUS_UNSUPPORTED,
                             "%s runs a version from before nodes could "
                             "leave: update it",
                             other->name);
    }
    return STATUS_OK;
}

static enum status plan(const struct node *node, const Rkv__Admin *admin,
                        struct topology *next, struct decree *decree,
                        struct error *error)
{
    const char *name = admin->node == NULL ? "" : admin->node;
    *decree = (struct decree){
        .kind = DECREE_LEAVE,
        .lost = admin->lost,
        .node = node_id_of(node->config.founding.cluster, name),
    };
    int at = topology_node(&node->topology, decree->node);
    if (node->stage != NODE_READY)
        return error_set(error, STATUS_UNAVAILABLE, "the node is not ready");
    if (at < 0)
        return error_set(error, STATUS_INVALID,
                         "node: \"%.64s\" is none of the cluster", name);
    if (admin->lost &&
        (node_id_equal(decree->node, node->self) ||
         membership_is_reachable(node->membership, decree->node)))
        return error_set(error, STATUS_INVALID,
                         "lost: %s is there; without --lost what it holds is "
                         "read of it",
                         name);
    enum status status = topology_allows(&node->topology, decree, error);
    if (status != STATUS_OK)
        return status;
    if (!admin->lost && !node_id_equal(decree->node, node->self) &&
        !membership_is_reachable(node->membership, decree->node))
        return error_set(
            error, STATUS_INVALID,
            "node: %s does not answer, and all that it holds is to "
            "be read of it: start it, or say --lost if it is",
            name);
    status = check_others(node, decree, error);
    if (status == STATUS_OK)
        status = topology_copy(&node->topology, next);
    if (status == STATUS_OK)
        status = topology_decree(next, decree, error);
    return status;
}

/* next: what is planned; NULL: it is decreed. */
static void answer(struct node *node, struct reply_token token,
                   const struct topology *next, uint64_t epoch,
                   struct effects *effects)
{
    struct arena *arena = &effects->arena;
    Rkv__AdminReply *reply = message_new(arena, &rkv__admin_reply__descriptor);
    if (reply != NULL) {
        reply->result =
            result_new(node, arena, STATUS_OK, RKV__OUTCOME__NONE, NULL);
        reply->epoch = epoch;
    }
    if (reply != NULL && next != NULL)
        reply->move = move_to_wire(next, "planned", arena);
    reply_with(effects, token, RKV__ENVELOPE__BODY_ADMIN_REPLY, reply);
}

void leave_decreed(struct node *node, struct reply_token token, uint64_t epoch,
                   struct effects *effects)
{
    answer(node, token, NULL, epoch, effects);
}

void leave_request(struct node *node, struct reply_token token,
                   const Rkv__Admin *admin, struct effects *effects)
{
    struct topology next = {0};
    struct decree decree;
    struct error error = {.status = STATUS_OK};
    enum status status = plan(node, admin, &next, &decree, &error);
    if (status != STATUS_OK)
        reply_result(node, effects, token, status, RKV__OUTCOME__NONE,
                     error.text);
    else if (!admin->commit)
        answer(node, token, &next, node->topology.epoch, effects);
    else if (!agree_propose(node, &decree, token, effects))
        reply_result(node, effects, token, STATUS_UNAVAILABLE,
                     RKV__OUTCOME__NONE,
                     "another change is being decreed, or this disk, which was "
                     "replaced, has not caught up yet; ask again");
    topology_fini(&next);
}
