/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "proxy/cli/output.h"

/* repair, and status --partitions. */

enum { ASK_EVERY_MS = 200 };

struct counted {
    uint64_t pulled, pushed;
    uint64_t left_out; /* keys, partitions and rounds: not mended */
};

/* One endpoint's node while it repairs. */
struct repairing {
    const char *endpoint;
    struct replikv *client;
    char node[80];
    bool is_good, is_running;
    uint64_t run;
    struct counted before, now; /* as it counts */
    uint64_t left;
};

static int say_failed(const struct cli *cli,
                      const struct replikv_result *result)
{
    struct cli quiet = *cli;
    quiet.json = false;
    return cli_failed(&quiet, result);
}

/* Returns the exit code, as what follows. */
static int ask_how_far(const struct cli *cli, struct repairing *one)
{
    int code = EXIT_DONE;
    struct replikv_result *result = replikv_call(
        one->client, &(struct replikv_request){.kind = REPLIKV_ADMIN,
                                               .what = REPLIKV_WHAT_STATUS});
    const struct replikv_node *node = result->node;
    one->is_good = node != NULL && result->status == REPLIKV_OK;
    if (one->is_good) {
        snprintf(one->node, sizeof(one->node), "%.79s", node->node);
        one->is_running = node->repairing;
        one->left = node->repair_left;
        one->now = (struct counted){
            .pulled = cli_counter(node, "keys_pulled"),
            .pushed = cli_counter(node, "keys_pushed"),
            .left_out = cli_counter(node, "exchanges_failed") +
                        cli_counter(node, "partitions_uncompared") +
                        cli_counter(node, "keys_refused") +
                        cli_counter(node, "trees_failed"),
        };
        if (one->run != 0 && one->run != node->run) {
            fprintf(stderr,
                    "replikv: repair: %s was started again meanwhile; repair "
                    "it once more\n",
                    one->node);
            one->is_good = one->is_running = false;
            code = EXIT_REFUSED;
        }
        one->run = node->run;
    } else {
        code = say_failed(cli, result);
        one->is_running = false;
    }
    replikv_result_free(result);
    return code;
}

static int begin(const struct cli *cli, struct repairing *one)
{
    int code = ask_how_far(cli, one);
    one->before = one->now;
    if (code != EXIT_DONE)
        return code;
    struct replikv_result *result =
        replikv_call(one->client, &(struct replikv_request){
                                      .kind = REPLIKV_ADMIN,
                                      .what = REPLIKV_WHAT_REPAIR,
                                      .bucket = cli->bucket,
                                      .one_partition = cli->has_partition,
                                      .partition = cli->partition,
                                      .full = cli->full,
                                  });
    one->is_good = one->is_running = result->status == REPLIKV_OK;
    if (!one->is_good)
        code = say_failed(cli, result);
    replikv_result_free(result);
    return code == EXIT_DONE ? ask_how_far(cli, one) : code;
}

/* Until all have ended; what one cannot tell any more it goes on with. */
static int wait_for_all(const struct cli *cli, struct repairing *all)
{
    int code = EXIT_DONE;
    uint64_t total = 0;
    bool is_running = true;
    struct progress progress;
    progress_start(&progress, "records moved");
    while (is_running && !interrupted()) {
        uint64_t left = 0, records = 0;
        is_running = false;
        for (size_t i = 0; i < cli->endpoint_count; i++) {
            struct repairing *one = &all[i];
            if (one->is_running) {
                int failed = ask_how_far(cli, one);
                code = code == EXIT_DONE ? failed : code;
            }
            is_running |= one->is_running;
            left += one->is_running ? one->left : 0;
            if (one->is_good)
                records += one->now.pulled + one->now.pushed -
                           one->before.pulled - one->before.pushed;
        }
        total = left > total ? left : total;
        progress_show(&progress, total - left, total, records);
        if (is_running)
            nanosleep(&(struct timespec){.tv_nsec = ASK_EVERY_MS * 1000000},
                      NULL);
    }
    progress_finish(&progress);
    if (is_running) {
        fputs("replikv: repair: interrupted; the nodes go on with it\n",
              stderr);
        return EXIT_UNKNOWN;
    }
    return code;
}

static void print_all(const struct cli *cli, const struct repairing *all)
{
    static const char *const headers[] = {"ENDPOINT", "NODE", ">PULLED",
                                          ">PUSHED", ">LEFT OUT"};
    struct grid grid;
    grid_init(&grid, headers, sizeof(headers) / sizeof(*headers));
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        const struct repairing *one = &all[i];
        if (!one->is_good)
            continue;
        grid_add(&grid, "%s", one->endpoint);
        grid_add(&grid, "%s", one->node);
        grid_add(&grid, "%" PRIu64, one->now.pulled - one->before.pulled);
        grid_add(&grid, "%" PRIu64, one->now.pushed - one->before.pushed);
        grid_add(&grid, "%" PRIu64, one->now.left_out - one->before.left_out);
    }
    if (grid.count > 0)
        grid_finish(&grid);
}

static void print_all_json(const struct cli *cli, const struct repairing *all)
{
    json_t *list = must_have(json_array());
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        const struct repairing *one = &all[i];
        json_t *object = must_have(json_object());
        json_set_string(object, "endpoint", one->endpoint);
        json_set(object, "good", json_boolean(one->is_good));
        if (one->is_good) {
            json_set_string(object, "node", one->node);
            json_set_number(object, "pulled",
                            one->now.pulled - one->before.pulled);
            json_set_number(object, "pushed",
                            one->now.pushed - one->before.pushed);
            json_set_number(object, "left_out",
                            one->now.left_out - one->before.left_out);
        }
        json_push(list, object);
    }
    json_document(list);
}

/* What was not compared is not mended. */
static int judge(const struct cli *cli, const struct repairing *all, int code)
{
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        const struct repairing *one = &all[i];
        if (!one->is_good || one->now.left_out == one->before.left_out)
            continue;
        fprintf(stderr,
                "replikv: repair: %s left something out: a node is away, is "
                "filled, still reads its disk or cannot read it; see replikv "
                "status and members, and repair once more\n",
                one->node);
        code = code == EXIT_DONE ? EXIT_REFUSED : code;
    }
    return code;
}

int command_repair(const struct cli *cli)
{
    static struct repairing all[REPLIKV_ENDPOINTS_MAX];
    int code = EXIT_DONE;
    (void)interrupted(); /* from here on it is asked for */
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        all[i].endpoint = cli->endpoints[i];
        all[i].client = cli_open_one(cli, i);
        int failed = begin(cli, &all[i]);
        code = code == EXIT_DONE ? failed : code;
    }
    int failed = wait_for_all(cli, all);
    code = code == EXIT_DONE ? failed : code;
    if (cli->json)
        print_all_json(cli, all);
    else
        print_all(cli, all);
    for (size_t i = 0; i < cli->endpoint_count; i++)
        replikv_close(all[i].client);
    return judge(cli, all, code);
}

/* ---- status --partitions ---- */

static json_t *json_of_agos(const char *endpoint,
                            const struct replikv_result *result)
{
    const struct replikv_node *node = result->node;
    json_t *object = json_of_result(result);
    json_t *partitions = must_have(json_array());
    json_set_string(object, "endpoint", endpoint);
    for (size_t p = 0; node != NULL && p < node->equal_ago_count; p++) {
        if (node->equal_ago_ms[p] < -1)
            continue;
        json_t *one = must_have(json_object());
        json_set_number(one, "partition", p);
        json_set_ago(one, "equal_ago_ms", node->equal_ago_ms[p]);
        json_push(partitions, one);
    }
    if (node != NULL)
        json_set_string(object, "node", node->node);
    json_set(object, "partitions", partitions);
    return object;
}

static void print_agos(const struct cli *cli,
                       struct replikv_result *const *results)
{
    static const char *const headers[] = {"NODE", ">PARTITION", ">EQUAL"};
    struct grid grid;
    grid_init(&grid, headers, sizeof(headers) / sizeof(*headers));
    for (size_t i = 0; i < cli->endpoint_count; i++) {
        const struct replikv_node *node = results[i]->node;
        for (size_t p = 0; node != NULL && p < node->equal_ago_count; p++) {
            if (node->equal_ago_ms[p] < -1)
                continue;
            grid_add(&grid, "%s", node->node);
            grid_add(&grid, "%zu", p);
            grid_add_ago(&grid, node->equal_ago_ms[p]);
        }
    }
    grid_finish(&grid);
}

int command_partitions(const struct cli *cli)
{
    struct replikv_result *results[REPLIKV_ENDPOINTS_MAX];
    int code = cli_ask_each(cli, REPLIKV_WHAT_TREES, results);
    if (cli->json) {
        json_t *list = must_have(json_array());
        for (size_t i = 0; i < cli->endpoint_count; i++)
            json_push(list, json_of_agos(cli->endpoints[i], results[i]));
        json_document(list);
    } else {
        print_agos(cli, results);
    }
    cli_print_failures(cli, results);
    cli_free_each(cli, results);
    return code;
}
