/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/clock.h"
#include "proxy/cli/histogram.h"
#include "proxy/cli/output.h"

/* status --latency: the buckets that each node counts in, since its start or
 * since a moment ago. Histograms here are in microseconds. */

static void add_all(struct histogram *to, const struct replikv_latency *latency)
{
    for (size_t i = 0; i < latency->count; i++)
        histogram_put(to, latency->at_least_us[i], latency->counts[i]);
    to->max = latency->max_us;
}

/* NULL if the node has none of this name. */
static const struct replikv_latency *find(const struct replikv_node *node,
                                          const struct replikv_latency *like)
{
    for (size_t i = 0; i < node->latency_count; i++)
        if (strcmp(node->latencies[i].kind, like->kind) == 0 &&
            strcmp(node->latencies[i].stage, like->stage) == 0)
            return &node->latencies[i];
    return NULL;
}

/* What came since `before` was asked, which may be NULL: since the start. */
static void read_latency(const struct replikv_latency *latency,
                         const struct replikv_node *before,
                         struct histogram *out)
{
    *out = (struct histogram){0};
    add_all(out, latency);
    const struct replikv_latency *old =
        before == NULL ? NULL : find(before, latency);
    if (old == NULL)
        return;
    struct histogram *since = must_have(calloc(1, sizeof(*since)));
    add_all(since, old);
    histogram_subtract(out, since);
    free(since);
    /* The longest of all may have come before; then its bucket must do. */
    if (latency->max_us == old->max_us)
        out->max = histogram_quantile(out, 1);
}

/* With a unit, so that microseconds and seconds are told apart at a glance. */
static void add_time(struct grid *grid, uint64_t us)
{
    if (us < 1000)
        grid_add(grid, "%" PRIu64 " us", us);
    else if (us < 1000000)
        grid_add(grid, "%.2f ms", (double)us / 1e3);
    else
        grid_add(grid, "%.2f s", (double)us / 1e6);
}

static void print_node(struct grid *grid, const struct replikv_node *node,
                       const struct replikv_node *before)
{
    struct histogram *latency = must_have(calloc(1, sizeof(*latency)));
    for (size_t i = 0; i < node->latency_count; i++) {
        read_latency(&node->latencies[i], before, latency);
        if (latency->count == 0)
            continue;
        grid_add(grid, "%s", node->node);
        grid_add(grid, "%s", node->latencies[i].kind);
        grid_add(grid, "%s", node->latencies[i].stage);
        grid_add(grid, "%" PRIu64, latency->count);
        for (size_t j = 0; j < HISTOGRAM_SHOWN; j++)
            add_time(grid,
                     histogram_quantile(latency, histogram_shown[j].fraction));
        add_time(grid, latency->max);
    }
    free(latency);
}

static json_t *json_of_node(const struct replikv_node *node,
                            const struct replikv_node *before)
{
    struct histogram *latency = must_have(calloc(1, sizeof(*latency)));
    json_t *list = must_have(json_array());
    for (size_t i = 0; i < node->latency_count; i++) {
        json_t *object = must_have(json_object());
        read_latency(&node->latencies[i], before, latency);
        json_set_string(object, "kind", node->latencies[i].kind);
        json_set_string(object, "stage", node->latencies[i].stage);
        json_set_number(object, "count", latency->count);
        for (size_t j = 0; j < HISTOGRAM_SHOWN; j++)
            json_set_number(
                object, histogram_shown[j].field,
                histogram_quantile(latency, histogram_shown[j].fraction));
        json_set_number(object, "max_us", latency->max);
        json_push(list, object);
    }
    free(latency);
    return list;
}

static void print_text(const struct cli *cli,
                       struct replikv_result *const *results,
                       const struct replikv_node *const *before)
{
    static const char *const headers[] = {"NODE",   "KIND",   "STAGE",
                                          ">COUNT", ">P50",   ">P90",
                                          ">P99",   ">P99.9", ">MAX"};
    struct grid grid;
    bool any = false;
    grid_init(&grid, headers, sizeof(headers) / sizeof(*headers));
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        any |= results[i]->node != NULL;
        if (results[i]->node != NULL)
            print_node(&grid, results[i]->node, before[i]);
    }
    if (grid.count > 0)
        grid_finish(&grid);
    else if (any)
        puts(cli->seconds > 0 ? "no requests meanwhile" : "no requests so far");
}

static void print_json(const struct cli *cli,
                       struct replikv_result *const *results,
                       const struct replikv_node *const *before)
{
    json_t *list = must_have(json_array());
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        const struct replikv_node *node = results[i]->node;
        json_t *object = json_of_result(results[i]);
        json_set_string(object, "endpoint", cli->endpoints[i]);
        if (node != NULL) {
            json_set_string(object, "node", node->node);
            json_set(object, "latencies", json_of_node(node, before[i]));
        }
        json_push(list, object);
    }
    json_document(list);
}

/* What to subtract: nothing of a node that counts anew. One that could not be
 * asked before has failed, whatever it says now: since when would it be? */
static void choose_before(const struct cli *cli, struct replikv_result **first,
                          struct replikv_result **results,
                          const struct replikv_node **before)
{
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        if (first[i]->node == NULL) {
            struct replikv_result *failed = first[i];
            first[i] = results[i];
            results[i] = failed;
        } else if (results[i]->node != NULL &&
                   results[i]->node->run != first[i]->node->run) {
            fprintf(stderr, "replikv: status: %s was started meanwhile\n",
                    results[i]->node->node);
        } else {
            before[i] = first[i]->node;
        }
    }
}

/* Or until there is an interrupt: between the look for one and a long sleep it
 * would be missed. */
static void wait_for(uint32_t seconds)
{
    const struct timespec a_little = {.tv_nsec = 50000000};
    int64_t end_ms = clock_now_ms() + (int64_t)seconds * 1000;
    while (!interrupted() && clock_now_ms() < end_ms)
        nanosleep(&a_little, NULL);
}

int command_latency(const struct cli *cli)
{
    struct replikv_result *first[REPLIKV_ENDPOINTS_MAX] = {0};
    struct replikv_result *results[REPLIKV_ENDPOINTS_MAX];
    const struct replikv_node *before[REPLIKV_ENDPOINTS_MAX] = {0};
    int code = EXIT_DONE;
    if (cli->seconds > 0) {
        code = cli_ask_each(cli, REPLIKV_WHAT_LATENCY, first);
        wait_for(cli->seconds);
    }
    int last = cli_ask_each(cli, REPLIKV_WHAT_LATENCY, results);
    if (code == EXIT_DONE)
        code = last;
    if (cli->seconds > 0)
        choose_before(cli, first, results, before);
    if (cli->json)
        print_json(cli, results, before);
    else
        print_text(cli, results, before);
    cli_print_failures(cli, results);
    cli_free_each(cli, first);
    cli_free_each(cli, results);
    return code;
}
