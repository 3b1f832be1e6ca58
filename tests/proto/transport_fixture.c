/* SPDX-License-Identifier: MIT */
#include "tests/proto/transport_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

const struct transport_limits test_limits = {
    .frame_bytes_max = 8u << 20,
    .queue_bytes_max = 64u << 20,
    .connections_max = 64,
    .handshake_ms = 60000,
    .loops = 3,
};

void probe_init(struct probe *probe)
{
    *probe = (struct probe){0};
    pthread_mutex_init(&probe->lock, NULL);
    pthread_cond_init(&probe->changed, NULL);
}

void probe_fini(struct probe *probe)
{
    pthread_cond_destroy(&probe->changed);
    pthread_mutex_destroy(&probe->lock);
}

void probe_wait(struct probe *probe, const size_t *what, size_t count)
{
    pthread_mutex_lock(&probe->lock);
    while (*what < count)
        pthread_cond_wait(&probe->changed, &probe->lock);
    pthread_mutex_unlock(&probe->lock);
}

size_t probe_read(struct probe *probe, const size_t *what)
{
    pthread_mutex_lock(&probe->lock);
    size_t value = *what;
    pthread_mutex_unlock(&probe->lock);
    return value;
}

static void on_opened(struct connection *connection, void *user)
{
    (void)connection;
    struct probe *probe = user;
    pthread_mutex_lock(&probe->lock);
    probe->opened++;
    pthread_cond_broadcast(&probe->changed);
    pthread_mutex_unlock(&probe->lock);
}

static void on_closed(struct connection *connection, void *user,
                      const struct error *why)
{
    (void)connection;
    struct probe *probe = user;
    pthread_mutex_lock(&probe->lock);
    probe->closed++;
    probe->why = *why;
    pthread_cond_broadcast(&probe->changed);
    pthread_mutex_unlock(&probe->lock);
}

/* Closing beside the load is part of the tests, so a refused send is too. */
static void send_back(struct connection *connection, const struct frame *frame)
{
    enum status status =
        connection_send(connection, frame->id, frame->hops, frame->payload);
    if (status != STATUS_OK && status != STATUS_CLOSED)
        abort();
}

static void note(struct probe *probe, const struct frame *frame)
{
    size_t size = frame->payload.size;
    if (probe->expected.size > 0 &&
        !bytes_equal(probe->expected, frame->payload))
        probe->bad++;
    if (size > sizeof(probe->last) - 1)
        size = sizeof(probe->last) - 1;
    memcpy(probe->last, frame->payload.data, size);
    probe->last[size] = '\0';
    probe->frames++;
}

static void on_request(struct connection *connection, void *user,
                       const struct frame *frames, size_t count)
{
    struct probe *probe = user;
    for (size_t i = 0; i < count; i++)
        send_back(connection, &frames[i]);
    connection_flush(connection);
    pthread_mutex_lock(&probe->lock);
    for (size_t i = 0; i < count; i++)
        note(probe, &frames[i]);
    pthread_cond_broadcast(&probe->changed);
    pthread_mutex_unlock(&probe->lock);
}

static void on_reply(struct connection *connection, void *user,
                     const struct frame *frames, size_t count)
{
    struct probe *probe = user;
    pthread_mutex_lock(&probe->lock);
    for (size_t i = 0; i < count; i++)
        note(probe, &frames[i]);
    size_t again = count < probe->resend ? count : probe->resend;
    probe->resend -= again;
    pthread_cond_broadcast(&probe->changed);
    pthread_mutex_unlock(&probe->lock);
    for (size_t i = 0; i < again; i++)
        send_back(connection, &frames[i]);
    connection_flush(connection);
}

const struct transport_handlers echo_handlers = {
    .opened = on_opened, .frames = on_request, .closed = on_closed};
const struct transport_handlers client_handlers = {
    .opened = on_opened, .frames = on_reply, .closed = on_closed};

void pair_open(struct pair *pair, const char *address,
               const struct transport_limits *server_limits)
{
    struct error error = {0};
    probe_init(&pair->server_probe);
    probe_init(&pair->client_probe);
    assert_int_equal(transport_open(server_limits, &pair->server, &error),
                     STATUS_OK);
    assert_int_equal(transport_open(&test_limits, &pair->client, &error),
                     STATUS_OK);
    if (transport_listen(pair->server, address, &echo_handlers,
                         &pair->server_probe, &pair->listener,
                         &error) != STATUS_OK)
        fail_msg("%s", error.text);
    int port = listener_port(pair->listener);
    if (port == 0)
        snprintf(pair->address, sizeof(pair->address), "%s", address);
    else
        snprintf(pair->address, sizeof(pair->address), "tcp://127.0.0.1:%d",
                 port);
}

void pair_close(struct pair *pair)
{
    transport_close(pair->client);
    transport_close(pair->server);
    probe_fini(&pair->client_probe);
    probe_fini(&pair->server_probe);
}

struct connection *pair_dial(struct pair *pair)
{
    struct connection *connection = NULL;
    struct error error = {0};
    if (transport_dial(pair->client, pair->address, &client_handlers,
                       &pair->client_probe, &connection, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return connection;
}

void send_one(struct connection *connection, uint32_t number, const char *text)
{
    assert_int_equal(connection_send(connection, ID_TOP_BIT | number,
                                     bytes_of(NULL, 0), bytes_of_string(text)),
                     STATUS_OK);
    connection_flush(connection);
}

void ipc_address(char *directory, size_t directory_size, char *address,
                 size_t address_size)
{
    const char *base = getenv("TMPDIR");
    snprintf(directory, directory_size, "%s/rkv-transport-XXXXXX",
             base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(directory));
    snprintf(address, address_size, "ipc://%s/socket", directory);
}
