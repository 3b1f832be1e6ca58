/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/proxy/server_fixture.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_S = 60, TICK_MS = 10, POLL_MS = 5, PARTITIONS = 8 };

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void wait_until(const char *what, bool (*is_so)(void *of), void *of)
{
    int64_t end_ms = clock_ms() + DEADLINE_S * 1000;
    while (!is_so(of)) {
        if (clock_ms() > end_ms)
            fail_msg("waited %d s until %s", DEADLINE_S, what);
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000}, NULL);
    }
}

/* --- configuration --- */

static void read_config(struct cluster *cluster, size_t node)
{
    struct cluster_node *self = &cluster->nodes[node];
    char text[4096];
    int size = snprintf(text, sizeof text,
                        "node: {name: n%zu, data_dir: \"%s/n%zu\"}\n"
                        "listen: {client: \"%s\", peer: \"%s\"}\n"
                        "storage: {engine: %s}\n"
                        "cluster:\n"
                        "  name: test\n"
                        "  replicas: %zu\n"
                        "  partitions: %d\n"
                        "  bootstrap: [n1%s%s]\n"
                        "  seeds: [",
                        node + 1, cluster->directory, node + 1, self->client,
                        self->peer, cluster->engine, cluster->count, PARTITIONS,
                        cluster->count > 1 ? ", n2" : "",
                        cluster->count > 2 ? ", n3" : "");
    const char *separator = "";
    for (size_t i = 0; i < cluster->count; i++) {
        if (i == node)
            continue;
        size += snprintf(text + size, sizeof text - (size_t)size, "%s\"%s\"",
                         separator, cluster->nodes[i].peer);
        separator = ", ";
    }
    size += snprintf(text + size, sizeof text - (size_t)size, "]\n%s",
                     cluster->more == NULL ? "" : cluster->more);
    static struct config_mistakes mistakes;
    if (config_parse("test", bytes_of(text, (size_t)size), engine_type_find,
                     &self->config, &mistakes) != STATUS_OK)
        fail_msg("%s", mistakes.list[0].text);
}

struct cluster *cluster_new(const char *engine, size_t count, const char *more)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);
    const char *base = getenv("TMPDIR");
    assert_non_null(cluster);
    cluster->engine = engine;
    cluster->count = count;
    cluster->more = more;
    snprintf(cluster->directory, sizeof cluster->directory,
             "%s/rkv-server-XXXXXX", base == NULL ? "/tmp" : base);
    assert_non_null(mkdtemp(cluster->directory));
    /* All of 127/8 is loopback: an address of this process's own needs no
     * search for free ports, and no other can take one while a node is
     * closed. Process ids have 22 bits. A test that failed keeps its ports. */
    unsigned pid = (unsigned)getpid();
    static size_t ports = 3001;
    for (size_t i = 0; i < count; i++) {
        struct cluster_node *node = &cluster->nodes[i];
        snprintf(node->client, sizeof node->client, "tcp://127.%u.%u.%u:%zu",
                 64 + (pid >> 16), pid >> 8 & 255, pid & 255, ports++);
        snprintf(node->peer, sizeof node->peer, "tcp://127.%u.%u.%u:%zu",
                 64 + (pid >> 16), pid >> 8 & 255, pid & 255, ports++);
    }
    for (size_t i = 0; i < count; i++)
        read_config(cluster, i);
    return cluster;
}

static int remove_one(const char *path, const struct stat *stat, int type,
                      struct FTW *walk)
{
    (void)stat;
    (void)type;
    (void)walk;
    return remove(path);
}

void cluster_free(struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        if (cluster->nodes[i].server != NULL)
            cluster_close_node(cluster, i);
    nftw(cluster->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(cluster);
}

/* --- nodes --- */

static void *tick(void *user)
{
    struct cluster_node *node = user;
    pthread_mutex_lock(&node->lock);
    while (!node->stop) {
        pthread_mutex_unlock(&node->lock);
        bool goes_on = server_tick(node->server);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += TICK_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&node->lock);
        node->halted |= !goes_on;
        if (!node->stop)
            pthread_cond_timedwait(&node->stopped, &node->lock, &until);
    }
    pthread_mutex_unlock(&node->lock);
    return NULL;
}

static struct replikv *client_open(const char *const *endpoints, size_t count)
{
    struct replikv_options options = {.endpoints = endpoints,
                                      .endpoint_count = count,
                                      .timeout_ms = DEADLINE_S * 1000};
    struct replikv *client;
    struct replikv_error error;
    if (replikv_open(&options, &client, &error) != REPLIKV_OK)
        fail_msg("%s", error.text);
    return client;
}

void cluster_open_node(struct cluster *cluster, size_t node, bool replace)
{
    struct cluster_node *self = &cluster->nodes[node];
    struct server_options options = {.replace = replace};
    struct error error;
    if (server_open(&self->config, &options, &self->server, &error) !=
        STATUS_OK)
        fail_msg("n%zu: %s", node + 1, error.text);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&self->stopped, &clock);
    pthread_condattr_destroy(&clock);
    pthread_mutex_init(&self->lock, NULL);
    self->stop = false;
    assert_int_equal(pthread_create(&self->ticker, NULL, tick, self), 0);
    const char *endpoint = self->client;
    self->ask = client_open(&endpoint, 1);
}

void cluster_close_node(struct cluster *cluster, size_t node)
{
    struct cluster_node *self = &cluster->nodes[node];
    replikv_close(self->ask);
    pthread_mutex_lock(&self->lock);
    self->stop = true;
    pthread_cond_signal(&self->stopped);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->ticker, NULL);
    server_close(self->server);
    self->server = NULL;
    pthread_cond_destroy(&self->stopped);
    pthread_mutex_destroy(&self->lock);
    assert_false(self->halted);
}

/* --- what nodes say --- */

static struct replikv_result *ask(struct cluster *cluster, size_t node,
                                  struct replikv_request request)
{
    request.kind = REPLIKV_ADMIN;
    struct replikv_result *result =
        replikv_call(cluster->nodes[node].ask, &request);
    if (result->status != REPLIKV_OK)
        fail_msg("n%zu: %s", node + 1, result->message);
    return result;
}

static bool have_met(void *of)
{
    struct cluster *cluster = of;
    bool met = true;
    for (size_t i = 0; i < cluster->count && met; i++) {
        struct replikv_result *result = ask(
            cluster, i, (struct replikv_request){.what = REPLIKV_WHAT_MEMBERS});
        met =
            result->node->ready && result->node->member_count == cluster->count;
        for (size_t j = 0; j < result->node->member_count; j++)
            met &= result->node->members[j].state == REPLIKV_ALIVE;
        met &= server_is_ready(cluster->nodes[i].server);
        replikv_result_free(result);
    }
    return met;
}

void cluster_wait_met(struct cluster *cluster)
{
    wait_until("all nodes see all alive", have_met, cluster);
}

void cluster_open(struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++)
        cluster_open_node(cluster, i, false);
    cluster_wait_met(cluster);
}

/* Hints that the node keeps, and the digest of its records. */
static uint64_t hints_of(struct cluster *cluster, size_t node)
{
    uint64_t records = 0;
    struct replikv_result *result = ask(
        cluster, node, (struct replikv_request){.what = REPLIKV_WHAT_HINTS});
    for (size_t i = 0; i < result->node->hint_count; i++)
        records += result->node->hints[i].records;
    replikv_result_free(result);
    return records;
}

static uint64_t digest_of(struct cluster *cluster, size_t node)
{
    uint64_t digest = 0;
    for (uint32_t partition = 0; partition < PARTITIONS; partition++) {
        struct replikv_result *result = NULL;
        do {
            struct replikv_request request = {.what = REPLIKV_WHAT_DIGEST,
                                              .partition = partition};
            struct replikv_result *before = result;
            if (before != NULL)
                request.after = before->next;
            result = ask(cluster, node, request);
            replikv_result_free(before);
            digest ^= result->node->digest;
        } while (!result->done);
        replikv_result_free(result);
    }
    return digest;
}

static bool are_equal(void *of)
{
    struct cluster *cluster = of;
    for (size_t i = 0; i < cluster->count; i++)
        if (hints_of(cluster, i) > 0)
            return false;
    uint64_t first = digest_of(cluster, 0);
    for (size_t i = 1; i < cluster->count; i++)
        if (digest_of(cluster, i) != first)
            return false;
    return true;
}

void cluster_wait_equal(struct cluster *cluster)
{
    wait_until("all nodes hold the same", are_equal, cluster);
}

struct replikv *cluster_client(struct cluster *cluster, size_t node)
{
    const char *endpoints[CLUSTER_NODES_MAX];
    for (size_t i = 0; i < cluster->count; i++)
        endpoints[i] = cluster->nodes[(node + i) % cluster->count].client;
    return client_open(endpoints, cluster->count);
}

uint64_t cluster_counter(struct cluster *cluster, size_t node, const char *name)
{
    struct replikv_result *result =
        ask(cluster, node, (struct replikv_request){.what = 0});
    uint64_t value = 0;
    bool found = false;
    for (size_t i = 0; i < result->node->counter_count; i++)
        if (strcmp(result->node->counters[i].name, name) == 0) {
            value = result->node->counters[i].value;
            found = true;
        }
    replikv_result_free(result);
    if (!found)
        fail_msg("no counter %s", name);
    return value;
}

void expect_serves(struct cluster *cluster, size_t node, const char *key)
{
    struct replikv *client = cluster->nodes[node].ask;
    struct replikv_bytes bytes = replikv_bytes_of(key, strlen(key));
    struct replikv_result *result =
        replikv_put(client, bytes, bytes, (struct replikv_bytes){0});
    if (result->outcome != REPLIKV_APPLIED)
        fail_msg("%s", result->message);
    replikv_result_free(result);
    result = replikv_get(client, bytes);
    assert_int_equal(result->status, REPLIKV_OK);
    assert_int_equal(result->value_count, 1);
    assert_int_equal(result->values[0].size, bytes.size);
    assert_memory_equal(result->values[0].data, key, bytes.size);
    replikv_result_free(result);
}
