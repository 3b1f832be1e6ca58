/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "proxy/core/node_internal.h"

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
        .tree_rebuild_ms = 86400000,
        .exchange_interval_ms = 60000,
        .hint_window_ms = 10800000,
        .collect_interval_ms = 10000,
        .clock_skew_max_ms = 5000,
    };
}

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
        fill_init(node) != STATUS_OK || trees_init(node) != STATUS_OK ||
        exchange_init(node) != STATUS_OK || collect_init(node) != STATUS_OK)
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
    trees_fini(node);
    exchange_fini(node);
    collect_fini(node);
    moves_fini(node);
    topology_fini(&node->topology);
    membership_free(node->membership);
    free(node->writes);
    free(node->reads);
    free(node->hints);
    free(node);
}
