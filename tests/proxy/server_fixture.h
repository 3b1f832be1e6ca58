/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_PROXY_SERVER_FIXTURE_H
#define REPLIKV_TESTS_PROXY_SERVER_FIXTURE_H

#include "proto/replikv.h"
#include "proxy/server.h"

#include <limits.h>
#include <pthread.h>

/* Whole servers in one process, each with a thread that ticks it as main does,
 * on loopback addresses that no other process uses, in a directory of their
 * own. Include cmocka.h first: what goes wrong here fails the test. */

enum { CLUSTER_NODES_MAX = 3 };

struct cluster_node {
    struct config config;
    char peer[64], client[64]; /* addresses */
    struct server *server;     /* NULL: closed */
    struct replikv *ask;       /* a client that knows this node only */
    pthread_t ticker;
    pthread_mutex_t lock; /* of stop */
    pthread_cond_t stopped;
    bool stop, halted;
};

struct cluster {
    char directory[PATH_MAX];
    const char *engine;
    size_t count;
    /* Lines of YAML for sections that the fixture does not write, or NULL. */
    const char *more;
    struct cluster_node nodes[CLUSTER_NODES_MAX];
};

/* Addresses, a directory, configurations; nothing runs. More founders than
 * nodes are opened may be asked for. */
struct cluster *cluster_new(const char *engine, size_t count, const char *more);
/* Close what is open, remove the directory. */
void cluster_free(struct cluster *cluster);
/* All nodes, until each is ready and sees each alive. */
void cluster_open(struct cluster *cluster);
void cluster_open_node(struct cluster *cluster, size_t node, bool replace);
void cluster_close_node(struct cluster *cluster, size_t node);
void cluster_wait_met(struct cluster *cluster);
/* Until no node keeps a hint and all hold the same records. */
void cluster_wait_equal(struct cluster *cluster);

/* A client that prefers the node and knows the others. */
struct replikv *cluster_client(struct cluster *cluster, size_t node);
/* A counter of the node's status. */
uint64_t cluster_counter(struct cluster *cluster, size_t node,
                         const char *name);

/* Until it is so; what names it if that takes too long. */
void wait_until(const char *what, bool (*is_so)(void *of), void *of);

/* Fails the test unless the node takes a write and gives it back. */
void expect_serves(struct cluster *cluster, size_t node, const char *key);

#endif
