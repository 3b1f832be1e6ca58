/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_SERVER_H
#define REPLIKV_PROXY_SERVER_H

#include "proxy/config.h"

/* The edges of one node: sockets, storage and clock around the pure core.
 *
 *   clients --> sessions --+               +--> sessions, links (replies,
 *   peers ----> sessions --+-> turn: step -+    requests to other nodes)
 *   links (replies) -------+   the node    +--> storage (reads, writes)
 *   storage, ticks --------+               |
 *          ^                               |
 *          +-------------------------------+
 *
 * Run to completion: the thread that read a message carries it as far as it
 * goes. It decodes every frame of the read, steps the node under the server's
 * lock, appends what is to be sent to its connections, queues what is to be
 * written, lets go of the lock, flushes each connection once, runs reads
 * itself and steps their results. Nothing waits for a disk or a socket under
 * the lock. See server_internal.h for how the parts divide this. */

struct server;

struct server_options {
    /* The operator's word that an older disk of this node was lost. The one
     * that is there is read whole, and if that fails set aside. */
    bool replace;
    /* A crash of this process leaves the node's recording (proxy/crash.h); of
     * one server in a process. */
    bool watch_crashes;
};

/* Open the store, raise the boot number, listen. config is borrowed until
 * server_close. The error is a sentence for people. Answers nobody before the
 * first tick. */
enum status server_open(struct config *config,
                        const struct server_options *options,
                        struct server **server, struct error *error) MUST_CHECK;

/* Time passed: call it every 10 ms, from one thread. False once the node
 * cannot go on; server_halted says why. */
bool server_tick(struct server *server) MUST_CHECK;
/* NULL, or why the node cannot go on. Valid until server_close. */
const char *server_halted(const struct server *server);
bool server_is_ready(struct server *server);

/* The TCP ports that are listened on, 0 for ipc. */
int server_client_port(const struct server *server);
int server_peer_port(const struct server *server);

/* Tell the others that we go, let what is queued leave, close. NULL allowed. */
void server_close(struct server *server);

#endif
