/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/transport.h"

/* What is killed: a client that keeps requests in flight, or a server that
 * sends back what it is sent. It says one byte on its standard output, the
 * client when the first replies are in, the server when it listens. It never
 * ends by itself, but for a client whose connection does. */

enum { IN_FLIGHT = 64 };

static void say_so(void)
{
    if (write(STDOUT_FILENO, "!", 1) != 1)
        _exit(1);
}

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

static void send_back(struct connection *connection, void *user,
                      const struct frame *frames, size_t count)
{
    (void)user;
    for (size_t i = 0; i < count; i++)
        if (connection_send(connection, frames[i].id, frames[i].hops,
                            frames[i].payload) != STATUS_OK)
            return;
    connection_flush(connection);
}

static void on_replies(struct connection *connection, void *user,
                       const struct frame *frames, size_t count)
{
    bool *told = user;
    send_back(connection, user, frames, count);
    if (!*told)
        say_so();
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

static void on_accepted(struct connection *connection, void *user)
{
    (void)connection;
    (void)user;
}

static void on_client_gone(struct connection *connection, void *user,
                           const struct error *why)
{
    (void)connection;
    (void)user;
    (void)why;
}

static enum status dial(struct transport *transport, const char *address,
                        struct error *error)
{
    static const struct transport_handlers handlers = {
        .opened = on_opened, .frames = on_replies, .closed = on_closed};
    static bool told;
    struct connection *connection;
    return transport_dial(transport, address, &handlers, &told, &connection,
                          error);
}

static enum status listen_on(struct transport *transport, const char *address,
                             struct error *error)
{
    static const struct transport_handlers handlers = {
        .opened = on_accepted, .frames = send_back, .closed = on_client_gone};
    struct listener *listener;
    enum status status =
        transport_listen(transport, address, &handlers, NULL, &listener, error);
    if (status == STATUS_OK)
        say_so();
    return status;
}

int main(int argc, char **argv)
{
    static const struct transport_limits limits = {.frame_bytes_max = 1 << 20,
                                                   .queue_bytes_max = 1 << 20,
                                                   .connections_max = 1,
                                                   .handshake_ms = 60000};
    struct transport *transport;
    struct error error = {0};
    bool listens = argc == 3 && strcmp(argv[1], "listen") == 0;
    if (argc != 3 || (!listens && strcmp(argv[1], "dial") != 0)) {
        fprintf(stderr, "usage: transport_victim dial|listen ADDRESS\n");
        return 2;
    }
    enum status status = transport_open(&limits, &transport, &error);
    if (status == STATUS_OK)
        status = listens ? listen_on(transport, argv[2], &error)
                         : dial(transport, argv[2], &error);
    if (status != STATUS_OK) {
        fprintf(stderr, "victim: %s\n", error.text);
        return 1;
    }
    for (;;)
        pause();
}
