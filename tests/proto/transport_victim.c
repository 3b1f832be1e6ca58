/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/transport.h"

/* A client that keeps requests in flight until it is killed: it says one byte
 * on its standard output when the first replies are in, and never ends by
 * itself unless its connection does. */

enum { IN_FLIGHT = 64 };

static void on_opened(struct connection *connection, void *user)
{
    (void)user;
    static const char payload[128];
    for (uint32_t i = 0; i < IN_FLIGHT; i++)
        if (connection_send(connection, 1u << 31 | i, bytes_of(NULL, 0),
                            bytes_of(payload, sizeof(payload))) != STATUS_OK)
            abort();
    connection_flush(connection);
}

static void on_replies(struct connection *connection, void *user,
                       const struct frame *frames, size_t count)
{
    bool *told = user;
    for (size_t i = 0; i < count; i++)
        if (connection_send(connection, frames[i].id, frames[i].hops,
                            frames[i].payload) != STATUS_OK)
            return;
    connection_flush(connection);
    if (!*told && write(STDOUT_FILENO, "!", 1) == 1)
        *told = true;
}

static void on_closed(struct connection *connection, void *user,
                      const struct error *why)
{
    (void)connection;
    (void)user;
    fprintf(stderr, "victim: %s\n", why->text);
    _exit(1);
}

int main(int argc, char **argv)
{
    static const struct transport_handlers handlers = {
        .opened = on_opened, .frames = on_replies, .closed = on_closed};
    static const struct transport_limits limits = {.frame_bytes_max = 1 << 20,
                                                   .queue_bytes_max = 1 << 20,
                                                   .connections_max = 1,
                                                   .handshake_ms = 60000};
    static bool told;
    struct transport *transport;
    struct connection *connection;
    struct error error = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: transport_victim ADDRESS\n");
        return 2;
    }
    if (transport_open(&limits, &transport, &error) != STATUS_OK ||
        transport_dial(transport, argv[1], &handlers, &told, &connection,
                       &error) != STATUS_OK) {
        fprintf(stderr, "victim: %s\n", error.text);
        return 1;
    }
    for (;;)
        pause();
}
