/* SPDX-License-Identifier: MIT */
#include "proxy/core/node_internal.h"

/* Anti-entropy now, as an operator asks for it: one round with each other node,
 * one after the other without a pause, of all that we share with it or of one
 * bucket or partition, once our trees are built; with `full` they are built
 * anew. */

static bool check(const struct node *node, const Rkv__Admin *admin,
                  struct repair *repair, struct error *error)
{
    enum status status = STATUS_OK;
    const struct bucket_config *bucket = NULL;
    bool is_named = admin->bucket != NULL && admin->bucket[0] != '\0';
    if (is_named)
        bucket = node_bucket(node, bucket_id_of(admin->bucket));
    if (node->stage != NODE_READY)
        status = error_set(error, STATUS_UNAVAILABLE,
                           "the node is not ready: it has not met its cluster");
    else if (node->exchange.repair.is_running)
        status = error_set(error, STATUS_REFUSED,
                           "a repair is under way on this node");
    else if (is_named && bucket == NULL)
        status = error_set(error, STATUS_INVALID,
                           "bucket: \"%.64s\" is not declared in the "
                           "configuration of %s",
                           admin->bucket, node->config.self.name);
    else if (admin->one_partition &&
             admin->partition >= node->topology.partitions)
        status = error_set(error, STATUS_INVALID,
                           "partition: %u, allowed are 0 to %u",
                           admin->partition, node->topology.partitions - 1);
    else if (admin->one_partition &&
             !topology_owns(&node->topology,
                            (struct partition){(uint16_t)admin->partition},
                            node->self))
        status =
            error_set(error, STATUS_REFUSED,
                      "partition: %u is not of %s; replikv ring says whose "
                      "it is",
                      admin->partition, node->config.self.name);
    *repair = (struct repair){
        .is_running = true,
        .is_full = admin->full,
        .is_of_one = admin->one_partition,
        .partition = {(uint16_t)admin->partition},
        .peers_left = topology_member_count(&node->topology) - 1,
    };
    if (bucket != NULL)
        repair->bucket = bucket->id;
    return status == STATUS_OK;
}

void repair_request(struct node *node, struct reply_token token,
                    const Rkv__Admin *admin, struct effects *effects)
{
    struct error error;
    struct repair repair;
    if (!check(node, admin, &repair, &error)) {
        reply_result(node, effects, token, error.status, RKV__OUTCOME__NONE,
                     error.text);
        return;
    }
    if (admin->full)
        trees_rebuild(node, repair.is_of_one ? &repair.partition : NULL);
    if (repair.peers_left > 0)
        exchange_repair(node, &repair);
    Rkv__AdminReply *reply =
        message_new(&effects->arena, &rkv__admin_reply__descriptor);
    if (reply != NULL)
        reply->result = result_new(node, &effects->arena, STATUS_OK,
                                   RKV__OUTCOME__NONE, NULL);
    reply_with(effects, token, RKV__ENVELOPE__BODY_ADMIN_REPLY, reply);
}

uint64_t repair_left(const struct node *node)
{
    const struct repair *repair = &node->exchange.repair;
    uint64_t partitions = repair->is_of_one ? 1 : node->topology.partitions;
    return repair->peers_left * partitions +
           (repair->is_running ? trees_due(node) : 0);
}
