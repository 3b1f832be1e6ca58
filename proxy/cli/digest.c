/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cli/output.h"

/* digest: each endpoint's node sums up its own records, partition by
 * partition; then the nodes that own a partition are compared. */

struct digest {
    uint64_t sum, records;
};

struct digested {
    const char *endpoint;
    char node[80];
    bool good;
    struct digest whole;
    struct digest *partitions;
};

struct comparison {
    struct digested nodes[REPLIKV_ENDPOINTS_MAX];
    size_t node_count;
    struct replikv_result *ring;
    size_t differing;
};

static bool owns(const struct replikv_owners *owners, const char *node)
{
    for (size_t i = 0; i < owners->node_count; i++)
        if (strcmp(owners->nodes[i], node) == 0)
            return true;
    return false;
}

static bool digest_partition(const struct cli *cli, struct replikv *client,
                             uint32_t partition, struct digest *digest)
{
    struct cli quiet = *cli;
    quiet.json = false;
    struct replikv_result *before = NULL;
    for (;;) {
        struct replikv_request request = {.kind = REPLIKV_ADMIN,
                                          .what = REPLIKV_WHAT_DIGEST,
                                          .partition = partition};
        if (before != NULL)
            request.after = before->next;
        struct replikv_result *chunk = replikv_call(client, &request);
        replikv_result_free(before);
        before = chunk;
        if (chunk->status != REPLIKV_OK || chunk->node == NULL) {
            cli_failed(&quiet, chunk);
            break;
        }
        digest->sum ^= chunk->node->digest;
        digest->records += chunk->node->records;
        if (chunk->done || chunk->next.size == 0)
            break;
    }
    bool good = before->status == REPLIKV_OK && before->done;
    replikv_result_free(before);
    return good;
}

/* The node behind one endpoint; the ring is asked of the first that answers. */
static void digest_node(const struct cli *cli, struct comparison *all,
                        size_t index, struct progress *progress)
{
    struct digested *node = &all->nodes[index];
    struct replikv *client = cli_open_one(cli, index);
    struct replikv_result *ring = replikv_call(
        client, &(struct replikv_request){.kind = REPLIKV_ADMIN,
                                          .what = REPLIKV_WHAT_RING});
    node->endpoint = cli->endpoints[index];
    node->good = ring->node != NULL;
    if (node->good && all->ring != NULL &&
        ring->node->owner_count != all->ring->node->owner_count) {
        fprintf(stderr, "replikv: digest: %s is of another cluster than %s\n",
                node->endpoint, cli->endpoints[0]);
        node->good = false;
    } else if (!node->good) {
        struct cli quiet = *cli;
        quiet.json = false;
        cli_failed(&quiet, ring);
    } else {
        snprintf(node->node, sizeof(node->node), "%.79s", ring->node->node);
        node->partitions = must_have(
            calloc(ring->node->owner_count + 1, sizeof(*node->partitions)));
    }
    for (size_t p = 0; node->good && p < ring->node->owner_count; p++) {
        node->good =
            digest_partition(cli, client, (uint32_t)p, &node->partitions[p]);
        node->whole.sum ^= node->partitions[p].sum;
        node->whole.records += node->partitions[p].records;
        progress_show(progress, index * ring->node->owner_count + p,
                      cli->endpoint_count * ring->node->owner_count,
                      node->whole.records);
    }
    if (all->ring == NULL && node->good)
        all->ring = ring;
    else
        replikv_result_free(ring);
    replikv_close(client);
}

/* Whether all owners that were asked hold the same of the partition. */
static bool agree(const struct comparison *all,
                  const struct replikv_owners *owners, uint32_t partition)
{
    const struct digest *first = NULL;
    for (size_t i = 0; i < all->node_count; i++) {
        const struct digested *node = &all->nodes[i];
        if (!node->good || !owns(owners, node->node))
            continue;
        const struct digest *digest = &node->partitions[partition];
        if (first == NULL)
            first = digest;
        if (digest->sum != first->sum || digest->records != first->records)
            return false;
    }
    return true;
}

static void print_nodes(const struct comparison *all)
{
    static const char *const headers[] = {"ENDPOINT", "NODE", ">RECORDS",
                                          "DIGEST"};
    struct grid grid;
    grid_init(&grid, headers, sizeof(headers) / sizeof(*headers));
    for (size_t i = 0; i < all->node_count; i++) {
        const struct digested *node = &all->nodes[i];
        if (!node->good)
            continue;
        grid_add(&grid, "%s", node->endpoint);
        grid_add(&grid, "%s", node->node);
        grid_add(&grid, "%" PRIu64, node->whole.records);
        grid_add(&grid, "%016" PRIx64, node->whole.sum);
    }
    grid_finish(&grid);
}

static void print_difference(const struct comparison *all, uint32_t partition)
{
    const struct replikv_owners *owners = &all->ring->node->owners[partition];
    printf("partition %u differs:", partition);
    for (size_t i = 0; i < all->node_count; i++) {
        const struct digested *node = &all->nodes[i];
        if (node->good && owns(owners, node->node))
            printf("  %s %" PRIu64 " records %016" PRIx64, node->node,
                   node->partitions[partition].records,
                   node->partitions[partition].sum);
    }
    putchar('\n');
}

static void print_json(const struct comparison *all)
{
    json_t *object = must_have(json_object());
    json_t *nodes = must_have(json_array());
    json_t *differing = must_have(json_array());
    for (size_t i = 0; i < all->node_count; i++) {
        json_t *node = must_have(json_object());
        json_set_string(node, "endpoint", all->nodes[i].endpoint);
        if (all->nodes[i].good) {
            json_set_string(node, "node", all->nodes[i].node);
            json_set_number(node, "records", all->nodes[i].whole.records);
            json_set_hex(node, "digest", all->nodes[i].whole.sum);
        }
        json_array_append_new(nodes, node);
    }
    for (size_t p = 0; all->ring != NULL && p < all->ring->node->owner_count;
         p++)
        if (!agree(all, &all->ring->node->owners[p], (uint32_t)p))
            json_array_append_new(differing, json_integer((json_int_t)p));
    json_object_set_new(object, "nodes", nodes);
    json_object_set_new(object, "differing_partitions", differing);
    json_document(object);
}

/* How many nodes there were to compare: endpoints may be of the same one. */
static size_t nodes_compared(const struct comparison *all, size_t *answered)
{
    size_t distinct = 0;
    *answered = 0;
    for (size_t i = 0; i < all->node_count; i++) {
        bool is_new = all->nodes[i].good;
        *answered += all->nodes[i].good;
        for (size_t j = 0; j < i && is_new; j++)
            is_new = !all->nodes[j].good ||
                     strcmp(all->nodes[i].node, all->nodes[j].node) != 0;
        distinct += is_new;
    }
    return distinct;
}

static void print_comparison(struct comparison *all)
{
    enum { SHOWN = 10 };
    print_nodes(all);
    size_t count = all->ring == NULL ? 0 : all->ring->node->owner_count;
    size_t shown = 0;
    for (size_t p = 0; p < count && shown < SHOWN; p++)
        if (!agree(all, &all->ring->node->owners[p], (uint32_t)p)) {
            print_difference(all, (uint32_t)p);
            shown++;
        }
    size_t answered;
    if (nodes_compared(all, &answered) > 1 && all->differing == 0)
        printf("the owners%s hold the same of all %zu partitions\n",
               answered < all->node_count ? " that answered" : "", count);
    else if (all->differing > 0)
        printf("%zu of %zu partitions differ\n", all->differing, count);
}

int command_digest(const struct cli *cli)
{
    struct comparison all = {.node_count = cli->endpoint_count};
    struct progress progress;
    int code = EXIT_DONE;
    progress_start(&progress, "records summed up");
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        digest_node(cli, &all, i, &progress);
        if (!all.nodes[i].good)
            code = EXIT_REFUSED;
    }
    progress_finish(&progress);
    for (size_t p = 0; all.ring != NULL && p < all.ring->node->owner_count; p++)
        all.differing += !agree(&all, &all.ring->node->owners[p], (uint32_t)p);
    if (cli->json)
        print_json(&all);
    else
        print_comparison(&all);
    if (code == EXIT_DONE && all.differing > 0)
        code = EXIT_NOT_FOUND;
    for (size_t i = 0; i < all.node_count; i++)
        free(all.nodes[i].partitions);
    replikv_result_free(all.ring);
    return code;
}
