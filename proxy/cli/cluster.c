/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/clock.h"
#include "proxy/cli/output.h"

/* cluster leave and cluster status. */

enum {
    ASK_EVERY_MS = 500,
    /* A node that is asked may be started again meanwhile. */
    SILENT_MAX_MS = 10000,
};

/* A leave that was begun, as the nodes last told it. */
struct leaving {
    const struct cli *cli;
    struct replikv_move move; /* as it was planned or found */
    /* It was open then, or decreed as the next: later, and open no more, it is
     * settled. */
    uint64_t since_epoch;
    uint64_t epoch;
    char stage[32];
    char answering[80]; /* the node that answered last */
    int64_t answered_ms;
};

static const char *leaver(const struct cli *cli)
{
    return cli->args[0];
}

static struct replikv_request leave_request(const struct cli *cli, bool commit)
{
    return (struct replikv_request){.kind = REPLIKV_ADMIN,
                                    .what = REPLIKV_WHAT_LEAVE,
                                    .node = leaver(cli),
                                    .lost = cli->lost,
                                    .commit = commit};
}

static const struct replikv_request status_request = {
    .kind = REPLIKV_ADMIN, .what = REPLIKV_WHAT_STATUS};

/* ---- a move, for programs and for people ---- */

static json_t *json_of_move(const struct replikv_move *move, const char *stage)
{
    json_t *object = must_have(json_object());
    json_t *shares = must_have(json_array());
    json_t *waits = must_have(json_array());
    bool is_now = strcmp(stage, move->stage) == 0;
    json_set_string(object, "node", move->node);
    json_set(object, "lost", json_boolean(move->lost));
    json_set_string(object, "stage", stage);
    for (size_t i = 0; i < move->share_count; i++) {
        json_t *share = must_have(json_object());
        json_set_string(share, "node", move->shares[i].node);
        json_set_number(share, "partitions", move->shares[i].partitions);
        json_push(shares, share);
    }
    for (size_t i = 0; is_now && i < move->wait_count; i++)
        json_push(waits, must_have(json_string(move->waits_for[i])));
    json_set(object, "shares", shares);
    json_set(object, "waits_for", waits);
    return object;
}

static void print_plan(const struct cli *cli, const struct replikv_move *move)
{
    static const char *const headers[] = {"NODE", ">PARTITIONS"};
    struct grid grid;
    if (move->share_count == 0)
        printf("%s owns no partition: without it nothing moves\n", move->node);
    else
        printf("without %s these own so many partitions more:\n", move->node);
    grid_init(&grid, headers, 2);
    for (size_t i = 0; i < move->share_count; i++) {
        grid_add(&grid, "%s", move->shares[i].node);
        grid_add(&grid, "%u", move->shares[i].partitions);
    }
    if (grid.count > 0)
        grid_finish(&grid);
    printf("Nothing was begun. To carry it out, for good:\n"
           "replikv cluster leave %s%s --commit\n",
           move->node, cli->lost ? " --lost" : "");
}

static void print_settled(const struct replikv_move *move)
{
    printf("%s has left", move->node);
    for (size_t i = 0; i < move->share_count; i++) {
        uint32_t partitions = move->shares[i].partitions;
        printf("%s %s ", i == 0 ? ";" : ",", move->shares[i].node);
        if (i == 0)
            printf("took %u partition%s", partitions,
                   partitions == 1 ? "" : "s");
        else
            printf("%u", partitions);
    }
    putchar('\n');
}

/* ---- to leave ---- */

static bool is_open(const struct cli *cli, const struct replikv_node *node)
{
    return node != NULL && node->move != NULL &&
           strcmp(node->move->node, leaver(cli)) == 0;
}

static bool is_under_way(const struct replikv_move *move)
{
    return strcmp(move->stage, "planned") != 0;
}

/* Of a node that leaves it may be said, once, that it is lost. */
static bool is_asked_for(const struct cli *cli, const struct replikv_node *node)
{
    return is_open(cli, node) && node->move->lost == cli->lost;
}

/* What it would be; with --commit, what is under way already is gone on with:
 * so that one that was interrupted can be waited for. NULL with *code set. */
static struct replikv_result *find(const struct cli *cli, int *code)
{
    const struct replikv_request request = leave_request(cli, false);
    struct replikv_result *result = NULL;
    if (cli->commit) {
        result = cli_ask_any(cli, &status_request, code);
        if (result == NULL || is_open(cli, result->node))
            return result;
        replikv_result_free(result);
    }
    result = cli_ask_any(cli, &request, code);
    if (result == NULL || result->node->move != NULL)
        return result;
    fputs("replikv: cluster leave: the node had no memory for it\n", stderr);
    *code = EXIT_REFUSED;
    replikv_result_free(result);
    return NULL;
}

/* Whether that is what became of it, of which who was asked may not know. */
static bool is_begun(struct leaving *leaving, const struct replikv_node *node)
{
    if (is_asked_for(leaving->cli, node)) {
        leaving->move.lost = leaving->cli->lost;
        leaving->since_epoch = node->epoch;
        return true;
    }
    /* It was open, and got done before. */
    return is_under_way(&leaving->move) && !is_open(leaving->cli, node) &&
           node->epoch > leaving->since_epoch;
}

static int begin(struct leaving *leaving)
{
    const struct cli *cli = leaving->cli;
    const struct replikv_request request = leave_request(cli, true);
    struct replikv *client = cli_open(cli, true);
    struct replikv_result *result = replikv_call(client, &request);
    struct replikv_result *status = NULL;
    int code = EXIT_DONE;
    if (result->status == REPLIKV_OK && result->node != NULL) {
        leaving->move.lost = cli->lost;
        leaving->since_epoch = result->node->epoch;
    } else {
        status = replikv_call(client, &status_request);
    }
    if (status != NULL &&
        (status->node == NULL || !is_begun(leaving, status->node))) {
        code = cli_failed(cli, result);
        if (result->status == REPLIKV_UNAVAILABLE ||
            result->status == REPLIKV_TIMEOUT) {
            fputs("It may be begun all the same.\n", stderr);
            code = EXIT_UNKNOWN;
        }
    }
    replikv_result_free(status);
    replikv_result_free(result);
    replikv_close(client);
    return code;
}

static void say_how_far(struct progress *progress, const char *node,
                        const struct replikv_move *move)
{
    char line[400];
    if (move == NULL)
        snprintf(line, sizeof(line), "%.70s leaves", node);
    else if (move->wait_count == 0)
        snprintf(line, sizeof(line), "%.70s leaves: %.20s", node, move->stage);
    else if (move->wait_count == 1)
        snprintf(line, sizeof(line), "%.70s leaves: %.20s; %.200s", node,
                 move->stage, move->waits_for[0]);
    else
        snprintf(line, sizeof(line),
                 "%.70s leaves: %.20s; %.200s, and %zu more", node, move->stage,
                 move->waits_for[0], move->wait_count - 1);
    progress_say(progress, line);
}

/* Whether it is settled. */
static bool hear(struct leaving *leaving, const struct replikv_node *node,
                 struct progress *progress)
{
    bool is_on = is_open(leaving->cli, node);
    leaving->epoch = node->epoch;
    leaving->answered_ms = clock_now_ms();
    snprintf(leaving->answering, sizeof(leaving->answering), "%.79s",
             node->node);
    if (is_on) {
        snprintf(leaving->stage, sizeof(leaving->stage), "%.31s",
                 node->move->stage);
        /* Another operator may say that it is. */
        leaving->move.lost |= node->move->lost;
    }
    if (!is_on && node->epoch > leaving->since_epoch)
        return true;
    say_how_far(progress, leaver(leaving->cli), is_on ? node->move : NULL);
    return false;
}

/* The node that leaves ends by itself: where only that one can be asked,
 * there is nothing more to hear. */
static bool is_silent(const struct leaving *leaving)
{
    bool is_gone = leaving->cli->endpoint_count == 1 &&
                   strcmp(leaving->answering, leaver(leaving->cli)) == 0;
    return is_gone || clock_now_ms() - leaving->answered_ms > SILENT_MAX_MS;
}

static bool wait_for_it(struct leaving *leaving, bool *is_lost_of_sight)
{
    struct replikv *client = cli_open(leaving->cli, true);
    bool is_settled = false;
    struct progress progress;
    progress_start(&progress, "");
    leaving->answered_ms = clock_now_ms();
    while (!is_settled && !*is_lost_of_sight && !interrupted()) {
        struct replikv_result *result = replikv_call(client, &status_request);
        if (result->node != NULL && result->status == REPLIKV_OK)
            is_settled = hear(leaving, result->node, &progress);
        else
            *is_lost_of_sight = is_silent(leaving);
        replikv_result_free(result);
        if (!is_settled && !*is_lost_of_sight)
            nanosleep(&(struct timespec){.tv_nsec = ASK_EVERY_MS * 1000000},
                      NULL);
    }
    progress_finish(&progress);
    replikv_close(client);
    return is_settled;
}

static int follow(struct leaving *leaving)
{
    const struct cli *cli = leaving->cli;
    bool is_lost_of_sight = false;
    bool is_settled = wait_for_it(leaving, &is_lost_of_sight);
    if (cli->json) {
        json_t *object = must_have(json_object());
        json_set_number(object, "epoch", leaving->epoch);
        json_set(object, "move",
                 json_of_move(&leaving->move,
                              is_settled ? "settled" : leaving->stage));
        json_document(object);
    } else if (is_settled) {
        print_settled(&leaving->move);
    }
    if (is_settled)
        return EXIT_DONE;
    if (!is_lost_of_sight)
        fprintf(stderr,
                "replikv: cluster leave: interrupted; the nodes go on with "
                "it, and the same again waits on\n");
    else if (strcmp(leaving->answering, leaver(cli)) == 0)
        fprintf(stderr,
                "replikv: cluster leave: %s is gone, as it is once it has "
                "left; `replikv cluster status` at another node's --endpoint "
                "shows whether that is settled\n",
                leaver(cli));
    else
        fprintf(stderr,
                "replikv: cluster leave: no endpoint answers any more; the "
                "nodes go on with it: `replikv cluster status` at another "
                "--endpoint shows how far they are\n");
    return EXIT_UNKNOWN;
}

int command_cluster_leave(const struct cli *cli)
{
    int code = EXIT_DONE;
    struct replikv_result *found = find(cli, &code);
    if (found == NULL)
        return code;
    const struct replikv_move *move = found->node->move;
    struct leaving leaving = {
        .cli = cli,
        .move = *move,
        .epoch = found->node->epoch,
        .since_epoch = found->node->epoch,
    };
    snprintf(leaving.stage, sizeof(leaving.stage), "%.31s", move->stage);
    if (cli->commit) {
        (void)interrupted(); /* from here on it is asked for */
        if (!is_under_way(move) || move->lost != cli->lost)
            code = begin(&leaving);
        if (code == EXIT_DONE)
            code = follow(&leaving);
    } else if (cli->json) {
        json_t *object = json_of_result(found);
        json_set(object, "move", json_of_move(move, move->stage));
        json_document(object);
    } else {
        print_plan(cli, move);
    }
    replikv_result_free(found);
    return code;
}

/* ---- cluster status ---- */

struct cluster {
    struct replikv_result *status, *members, *ring;
};

static uint32_t owned(const struct cluster *cluster, const char *name)
{
    const struct replikv_node *ring = cluster->ring->node;
    uint32_t count = 0;
    for (size_t i = 0; i < ring->owner_count; i++)
        for (size_t j = 0; j < ring->owners[i].node_count; j++)
            count += strcmp(ring->owners[i].nodes[j], name) == 0;
    return count;
}

/* A node that was stopped says goodbye as one does that leaves for good. */
static const char *state_of(const struct cluster *cluster,
                            const struct replikv_member *member)
{
    bool is_stopped =
        member->state == REPLIKV_LEFT && owned(cluster, member->name) > 0;
    return is_stopped ? "stopped" : cli_state_name(member->state);
}

static void print_cluster(const struct cluster *cluster)
{
    static const char *const headers[] = {"NODE", "STATE", ">PARTITIONS"};
    const struct replikv_node *members = cluster->members->node;
    const struct replikv_move *move = cluster->status->node->move;
    struct grid grid;
    printf("epoch %" PRIu64 "\n", cluster->status->node->epoch);
    grid_init(&grid, headers, sizeof(headers) / sizeof(*headers));
    for (size_t i = 0; i < members->member_count; i++) {
        const struct replikv_member *member = &members->members[i];
        grid_add(&grid, "%s", member->name);
        grid_add(&grid, "%s", state_of(cluster, member));
        grid_add(&grid, "%u", owned(cluster, member->name));
    }
    grid_finish(&grid);
    if (move == NULL)
        return;
    printf("\n%s leaves%s: %s%s\n", move->node,
           move->lost ? ", its disk is lost" : "", move->stage,
           move->wait_count > 0 ? ", which waits for" : "");
    for (size_t i = 0; i < move->wait_count; i++)
        printf("  %s\n", move->waits_for[i]);
}

static void print_cluster_json(const struct cluster *cluster)
{
    const struct replikv_node *node = cluster->status->node;
    const struct replikv_node *members = cluster->members->node;
    json_t *object = json_of_result(cluster->status);
    json_t *list = must_have(json_array());
    json_set_string(object, "node", node->node);
    json_set_number(object, "epoch", node->epoch);
    for (size_t i = 0; i < members->member_count; i++) {
        const struct replikv_member *member = &members->members[i];
        json_t *one = must_have(json_object());
        json_set_string(one, "name", member->name);
        json_set_string(one, "state", state_of(cluster, member));
        json_set_number(one, "partitions", owned(cluster, member->name));
        json_push(list, one);
    }
    json_set(object, "members", list);
    json_set(object, "move",
             node->move == NULL ? json_null()
                                : json_of_move(node->move, node->move->stage));
    json_document(object);
}

int command_cluster_status(const struct cli *cli)
{
    static const struct replikv_request of_members = {
        .kind = REPLIKV_ADMIN, .what = REPLIKV_WHAT_MEMBERS};
    static const struct replikv_request of_ring = {.kind = REPLIKV_ADMIN,
                                                   .what = REPLIKV_WHAT_RING};
    struct cluster cluster = {0};
    int code = EXIT_DONE;
    cluster.status = cli_ask_any(cli, &status_request, &code);
    if (cluster.status != NULL)
        cluster.members = cli_ask_any(cli, &of_members, &code);
    if (cluster.members != NULL)
        cluster.ring = cli_ask_any(cli, &of_ring, &code);
    if (cluster.ring != NULL && cli->json)
        print_cluster_json(&cluster);
    else if (cluster.ring != NULL)
        print_cluster(&cluster);
    replikv_result_free(cluster.status);
    replikv_result_free(cluster.members);
    replikv_result_free(cluster.ring);
    return code;
}
