/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cli/output.h"

/* status, members, ring, hints and explain. */

static struct replikv_result *ask(struct replikv *client,
                                  enum replikv_what what)
{
    return replikv_call(
        client, &(struct replikv_request){.kind = REPLIKV_ADMIN, .what = what});
}

/* ---- what each endpoint is asked ---- */

int cli_ask_each(const struct cli *cli, enum replikv_what what,
                 struct replikv_result **results)
{
    int code = EXIT_DONE;
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        struct replikv *client = cli_open_one(cli, i);
        results[i] = ask(client, what);
        replikv_close(client);
        if (code == EXIT_DONE)
            code = exit_code_of(results[i]);
    }
    return code;
}

static json_t *json_of_hints(const struct replikv_node *node)
{
    json_t *hints = must_have(json_array());
    for (size_t i = 0; i < node->hint_count; i++) {
        json_t *hint = must_have(json_object());
        json_set_string(hint, "target", node->hints[i].target);
        json_set_number(hint, "records", node->hints[i].records);
        json_set_number(hint, "bytes", node->hints[i].bytes);
        json_array_append_new(hints, hint);
    }
    return hints;
}

uint64_t cli_counter(const struct replikv_node *node, const char *name)
{
    for (size_t i = 0; i < node->counter_count; i++)
        if (strcmp(node->counters[i].name, name) == 0)
            return node->counters[i].value;
    return 0;
}

/* What an engine's counters are to each other. */
static const struct proportion {
    const char *name, *of, *to;
} proportions[] = {
    {"write_amplification", "engine_stored_bytes", "engine_user_bytes"},
    {"space_amplification", "engine_disk_bytes", "engine_live_bytes"},
};
enum { PROPORTIONS = sizeof(proportions) / sizeof(*proportions) };

/* 0 if the engine does not know. */
static double proportion_of(const struct replikv_node *node,
                            const struct proportion *proportion)
{
    uint64_t of = cli_counter(node, proportion->of);
    uint64_t to = cli_counter(node, proportion->to);
    return to == 0 ? 0 : (double)of / (double)to;
}

static void set_proportions(json_t *object, const struct replikv_node *node)
{
    for (size_t i = 0; i < PROPORTIONS; i++) {
        double known = proportion_of(node, &proportions[i]);
        if (known > 0)
            json_set(object, proportions[i].name, json_real(known));
    }
}

static json_t *json_of_node(const char *endpoint,
                            const struct replikv_result *result, bool all)
{
    const struct replikv_node *node = result->node;
    json_t *object = json_of_result(result);
    json_set_string(object, "endpoint", endpoint);
    if (node == NULL)
        return object;
    json_set_string(object, "node", node->node);
    if (all) {
        json_t *counters = must_have(json_object());
        json_set_string(object, "cluster", node->cluster);
        json_set_string(object, "engine", node->engine);
        json_set(object, "ready", json_boolean(node->ready));
        json_set_number(object, "partitions", node->partitions);
        json_set_number(object, "replicas", node->replicas);
        json_set_number(object, "filling", node->filling);
        json_set(object, "repairing", json_boolean(node->repairing));
        json_set_number(object, "repair_left", node->repair_left);
        if (node->clock_is_known)
            json_set(object, "clock_off_ms", json_integer(node->clock_off_ms));
        if (node->equal_ago_count > 0)
            json_set_ago(object, "equal_ago_ms", *node->equal_ago_ms);
        for (size_t i = 0; i < node->counter_count; i++)
            json_set_number(counters, node->counters[i].name,
                            node->counters[i].value);
        json_set(object, "counters", counters);
        set_proportions(object, node);
    }
    json_set(object, "hints", json_of_hints(node));
    return object;
}

static void print_each_json(const struct cli *cli,
                            struct replikv_result *const *results, bool all)
{
    json_t *list = must_have(json_array());
    for (size_t i = 0; i < cli->endpoint_count; i++)
        json_array_append_new(list,
                              json_of_node(cli->endpoints[i], results[i], all));
    json_document(list);
}

void cli_free_each(const struct cli *cli, struct replikv_result **results)
{
    for (size_t i = 0; i < cli->endpoint_count; i++)
        replikv_result_free(results[i]);
}

void cli_print_failures(const struct cli *cli,
                        struct replikv_result *const *results)
{
    struct cli quiet = *cli;
    quiet.json = false;
    for (size_t i = 0; i < cli->endpoint_count; i++)
        if (results[i]->status == REPLIKV_UNSUPPORTED)
            fprintf(stderr,
                    "replikv: %s: unsupported: the node at %s is older than "
                    "this program, and does not know that\n",
                    cli->command, cli->endpoints[i]);
        else if (results[i]->node == NULL)
            cli_failed(&quiet, results[i]);
}

static void print_status(const struct cli *cli,
                         struct replikv_result *const *results)
{
    static const char *const headers[] = {
        "ENDPOINT",    "NODE",      "CLUSTER",  "ENGINE", "READY",  ">EPOCH",
        ">PARTITIONS", ">REPLICAS", ">FILLING", ">HINTS", ">EQUAL", ">CLOCK"};
    struct grid grid;
    grid_init(&grid, headers, sizeof(headers) / sizeof(*headers));
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        const struct replikv_node *node = results[i]->node;
        if (node == NULL)
            continue;
        uint64_t hints = 0;
        for (size_t j = 0; j < node->hint_count; j++)
            hints += node->hints[j].records;
        grid_add(&grid, "%s", cli->endpoints[i]);
        grid_add(&grid, "%s", node->node);
        grid_add(&grid, "%s", node->cluster);
        grid_add(&grid, "%s", node->engine);
        grid_add(&grid, "%s", node->ready ? "yes" : "no");
        grid_add(&grid, "%" PRIu64, node->epoch);
        grid_add(&grid, "%u", node->partitions);
        grid_add(&grid, "%u", node->replicas);
        grid_add(&grid, "%u", node->filling);
        grid_add(&grid, "%" PRIu64, hints);
        grid_add_ago(&grid,
                     node->equal_ago_count == 0 ? -2 : *node->equal_ago_ms);
        if (node->clock_is_known)
            grid_add(&grid, "%+.1fs", (double)node->clock_off_ms / 1000);
        else
            grid_add(&grid, "-");
    }
    grid_finish(&grid);
}

/* A row for each that one node at least knows. */
static void add_proportions(struct grid *grid,
                            const struct replikv_node *const *nodes,
                            size_t count)
{
    for (size_t i = 0; i < PROPORTIONS; i++) {
        double sum = 0;
        for (size_t j = 0; j < count; j++)
            sum += proportion_of(nodes[j], &proportions[i]);
        if (sum <= 0)
            continue;
        grid_add(grid, "%s", proportions[i].name);
        for (size_t j = 0; j < count; j++) {
            double known = proportion_of(nodes[j], &proportions[i]);
            if (known > 0)
                grid_add(grid, "%.2f", known);
            else
                grid_add(grid, "-");
        }
    }
}

/* A row for each counter that is not zero everywhere, by the names of the
 * first node that answered. */
static void print_counters(const struct cli *cli,
                           struct replikv_result *const *results)
{
    const struct replikv_node *nodes[REPLIKV_ENDPOINTS_MAX];
    char headers[REPLIKV_ENDPOINTS_MAX][80];
    const char *names[REPLIKV_ENDPOINTS_MAX + 1] = {"COUNTER"};
    size_t count = 0;
    for (size_t i = 0; i < cli->endpoint_count; i++)
        if (results[i]->node != NULL) {
            nodes[count] = results[i]->node;
            snprintf(headers[count], sizeof(headers[count]), ">%.70s",
                     nodes[count]->node);
            names[count + 1] = headers[count];
            count++;
        }
    struct grid grid;
    grid_init(&grid, names, count + 1);
    for (size_t i = 0; count > 0 && i < nodes[0]->counter_count; i++) {
        const char *name = nodes[0]->counters[i].name;
        uint64_t sum = 0;
        for (size_t j = 0; j < count; j++)
            sum += cli_counter(nodes[j], name);
        if (sum == 0)
            continue;
        grid_add(&grid, "%s", name);
        for (size_t j = 0; j < count; j++)
            grid_add(&grid, "%" PRIu64, cli_counter(nodes[j], name));
    }
    add_proportions(&grid, nodes, count);
    if (grid.count > 0)
        putchar('\n');
    if (grid.count > 0)
        grid_finish(&grid);
}

int command_status(const struct cli *cli)
{
    struct replikv_result *results[REPLIKV_ENDPOINTS_MAX];
    if (cli->latency && cli->partitions) {
        fputs("replikv: status: --latency or --partitions\n", stderr);
        return EXIT_USAGE;
    }
    if (cli->latency)
        return command_latency(cli);
    if (cli->seconds > 0) {
        fputs("replikv: status: --seconds is of no use without --latency\n",
              stderr);
        return EXIT_USAGE;
    }
    if (cli->partitions)
        return command_partitions(cli);
    int code = cli_ask_each(cli, REPLIKV_WHAT_STATUS, results);
    if (cli->json) {
        print_each_json(cli, results, true);
    } else {
        print_status(cli, results);
        print_counters(cli, results);
    }
    cli_print_failures(cli, results);
    cli_free_each(cli, results);
    return code;
}

int command_hints(const struct cli *cli)
{
    static const char *const headers[] = {"ENDPOINT", "NODE", "FOR", ">RECORDS",
                                          ">BYTES"};
    struct replikv_result *results[REPLIKV_ENDPOINTS_MAX];
    int code = cli_ask_each(cli, REPLIKV_WHAT_HINTS, results);
    struct grid grid;
    grid_init(&grid, headers, sizeof(headers) / sizeof(*headers));
    for (size_t i = 0; !cli->json && i < cli->endpoint_count; i++) {
        const struct replikv_node *node = results[i]->node;
        for (size_t j = 0; node != NULL && j < node->hint_count; j++) {
            if (node->hints[j].records == 0)
                continue;
            grid_add(&grid, "%s", cli->endpoints[i]);
            grid_add(&grid, "%s", node->node);
            grid_add(&grid, "%s", node->hints[j].target);
            grid_add(&grid, "%" PRIu64, node->hints[j].records);
            grid_add(&grid, "%" PRIu64, node->hints[j].bytes);
        }
    }
    if (cli->json)
        print_each_json(cli, results, false);
    else if (grid.count == 0 && code == EXIT_DONE)
        puts("no hints");
    else
        grid_finish(&grid);
    cli_print_failures(cli, results);
    cli_free_each(cli, results);
    return code;
}

/* ---- what any node may answer ---- */

struct replikv_result *cli_ask_any(const struct cli *cli,
                                   const struct replikv_request *request,
                                   int *code)
{
    struct replikv *client = cli_open(cli, true);
    struct replikv_result *result = replikv_call(client, request);
    replikv_close(client);
    *code = EXIT_DONE;
    if (result->node != NULL && result->status == REPLIKV_OK)
        return result;
    *code = cli_failed(cli, result);
    replikv_result_free(result);
    return NULL;
}

const char *cli_state_name(enum replikv_member_state state)
{
    static const char *const names[] = {"alive", "suspect", "dead", "left"};
    return (unsigned)state < 4 ? names[state] : "unknown";
}

static json_t *json_of_member(const struct replikv_member *member)
{
    json_t *object = must_have(json_object());
    json_set_string(object, "name", member->name);
    json_set_string(object, "state", cli_state_name(member->state));
    json_set_string(object, "zone", member->zone);
    json_set_string(object, "client", member->client_address);
    json_set_string(object, "peer", member->peer_address);
    json_set_number(object, "incarnation", member->incarnation);
    json_set_number(object, "boot", member->boot);
    return object;
}

static void print_members(const struct replikv_node *node)
{
    static const char *const headers[] = {
        "NODE", "STATE", "ZONE", "CLIENT", "PEER", ">INCARNATION", ">BOOT"};
    struct grid grid;
    grid_init(&grid, headers, sizeof(headers) / sizeof(*headers));
    for (size_t i = 0; i < node->member_count; i++) {
        const struct replikv_member *member = &node->members[i];
        grid_add(&grid, "%s", member->name);
        grid_add(&grid, "%s", cli_state_name(member->state));
        grid_add(&grid, "%s", member->zone[0] == '\0' ? "-" : member->zone);
        grid_add(&grid, "%s", member->client_address);
        grid_add(&grid, "%s", member->peer_address);
        grid_add(&grid, "%u", member->incarnation);
        grid_add(&grid, "%" PRIu64, member->boot);
    }
    grid_finish(&grid);
}

int command_members(const struct cli *cli)
{
    int code;
    struct replikv_result *result =
        cli_ask_any(cli,
                    &(struct replikv_request){.kind = REPLIKV_ADMIN,
                                              .what = REPLIKV_WHAT_MEMBERS},
                    &code);
    if (result == NULL)
        return code;
    if (cli->json) {
        json_t *object = json_of_result(result);
        json_t *members = must_have(json_array());
        json_set_string(object, "node", result->node->node);
        for (size_t i = 0; i < result->node->member_count; i++)
            json_array_append_new(members,
                                  json_of_member(&result->node->members[i]));
        json_set(object, "members", members);
        json_document(object);
    } else {
        print_members(result->node);
    }
    replikv_result_free(result);
    return code;
}

static json_t *json_of_names(const char *const *names, size_t count)
{
    json_t *list = must_have(json_array());
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, must_have(json_string(names[i])));
    return list;
}

static void print_ring_json(const struct replikv_result *result)
{
    const struct replikv_node *node = result->node;
    json_t *object = json_of_result(result);
    json_t *ring = must_have(json_array());
    json_set_number(object, "partitions", node->partitions);
    json_set_number(object, "replicas", node->replicas);
    for (size_t i = 0; i < node->owner_count; i++) {
        json_t *owners = must_have(json_object());
        json_set_number(owners, "partition", node->owners[i].partition);
        json_set(
            owners, "owners",
            json_of_names(node->owners[i].nodes, node->owners[i].node_count));
        json_array_append_new(ring, owners);
    }
    json_set(object, "ring", ring);
    json_document(object);
}

static void print_ring(const struct replikv_node *node)
{
    static const char *const headers[] = {">PARTITION", "OWNERS"};
    struct grid grid;
    printf("epoch %" PRIu64 ", %u partitions, %u replicas\n", node->epoch,
           node->partitions, node->replicas);
    grid_init(&grid, headers, 2);
    for (size_t i = 0; i < node->owner_count; i++) {
        const struct replikv_owners *owners = &node->owners[i];
        char line[1200] = "";
        size_t size = 0;
        for (size_t j = 0; j < owners->node_count && size < sizeof(line); j++)
            size += (size_t)snprintf(line + size, sizeof(line) - size, "%s%s",
                                     j > 0 ? " " : "", owners->nodes[j]);
        grid_add(&grid, "%u", owners->partition);
        grid_add(&grid, "%s", line);
    }
    grid_finish(&grid);
}

int command_ring(const struct cli *cli)
{
    int code;
    struct replikv_result *result =
        cli_ask_any(cli,
                    &(struct replikv_request){.kind = REPLIKV_ADMIN,
                                              .what = REPLIKV_WHAT_RING},
                    &code);
    if (result == NULL)
        return code;
    if (cli->json)
        print_ring_json(result);
    else
        print_ring(result->node);
    replikv_result_free(result);
    return code;
}

/* ---- explain ---- */

static bool in_step(const struct replikv_node *node)
{
    for (size_t i = 0; i < node->state_count; i++)
        if (node->states[i].status != node->states[0].status ||
            node->states[i].version != node->states[0].version)
            return false;
    return true;
}

static json_t *json_of_state(const struct replikv_replica *state)
{
    json_t *object = must_have(json_object());
    json_t *dots = must_have(json_array());
    json_set_string(object, "node", state->node);
    json_set_string(object, "status", replikv_status_name(state->status));
    json_set_hex(object, "version", state->version);
    json_set_number(object, "values", state->values - state->tombstones);
    json_set_number(object, "tombstones", state->tombstones);
    json_set_number(object, "record_bytes", state->record_bytes);
    for (size_t i = 0; i < state->dot_count; i++) {
        json_t *dot = must_have(json_object());
        json_set_hex(dot, "incarnation", state->dots[i].incarnation);
        json_set_number(dot, "epoch", state->dots[i].epoch);
        json_set_number(dot, "counter", state->dots[i].counter);
        json_array_append_new(dots, dot);
    }
    json_set(object, "dots", dots);
    return object;
}

static void print_explanation_json(const struct cli *cli,
                                   const struct replikv_result *result,
                                   struct replikv_bytes key)
{
    const struct replikv_node *node = result->node;
    json_t *object = json_of_result(result);
    json_t *states = must_have(json_array());
    json_set_bytes(object, "key", key);
    json_set_string(object, "bucket",
                    cli->bucket == NULL ? "default" : cli->bucket);
    json_set_number(object, "partition", node->partition);
    json_set(object, "in_step", json_boolean(in_step(node)));
    for (size_t i = 0; i < node->state_count; i++)
        json_array_append_new(states, json_of_state(&node->states[i]));
    json_set(object, "replicas", states);
    json_document(object);
}

static size_t answered(const struct replikv_node *node)
{
    size_t count = 0;
    for (size_t i = 0; i < node->state_count; i++)
        count += node->states[i].status != REPLIKV_CLOSED &&
                 node->states[i].status != REPLIKV_TIMEOUT;
    return count;
}

static void print_explanation(const struct replikv_node *node)
{
    static const char *const headers[] = {"REPLICA",
                                          "STATUS",
                                          "VERSION",
                                          ">VALUES",
                                          ">GONE",
                                          ">BYTES",
                                          "DOTS (incarnation.epoch:counter)"};
    struct grid grid;
    printf("partition %u, %zu of %zu replicas answered, %s\n", node->partition,
           answered(node), node->state_count,
           in_step(node) ? "in step" : "not in step");
    grid_init(&grid, headers, sizeof(headers) / sizeof(*headers));
    for (size_t i = 0; i < node->state_count; i++) {
        const struct replikv_replica *state = &node->states[i];
        char dots[1000] = "";
        size_t size = 0;
        for (size_t j = 0; j < state->dot_count && size < sizeof(dots); j++)
            size += (size_t)snprintf(
                dots + size, sizeof(dots) - size, "%s%08" PRIx64 ".%u:%" PRIu64,
                j > 0 ? " " : "", state->dots[j].incarnation >> 32,
                state->dots[j].epoch, state->dots[j].counter);
        grid_add(&grid, "%s", state->node);
        grid_add(&grid, "%s", replikv_status_name(state->status));
        grid_add(&grid, "%016" PRIx64, state->version);
        grid_add(&grid, "%u", state->values - state->tombstones);
        grid_add(&grid, "%u", state->tombstones);
        grid_add(&grid, "%" PRIu64, state->record_bytes);
        grid_add(&grid, "%s", dots);
    }
    grid_finish(&grid);
}

int command_explain(const struct cli *cli)
{
    struct owned key = {0};
    if (!cli_key(cli, cli->args[0], &key))
        return EXIT_USAGE;
    int code;
    struct replikv_result *result =
        cli_ask_any(cli,
                    &(struct replikv_request){.kind = REPLIKV_ADMIN,
                                              .what = REPLIKV_WHAT_EXPLAIN,
                                              .bucket = cli->bucket,
                                              .key = owned_bytes(&key)},
                    &code);
    if (result != NULL && cli->json)
        print_explanation_json(cli, result, owned_bytes(&key));
    else if (result != NULL)
        print_explanation(result->node);
    replikv_result_free(result);
    owned_fini(&key);
    return code;
}
