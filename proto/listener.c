/* SPDX-License-Identifier: MIT */
#include "proto/transport_internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

/* After a failed accept (out of descriptors, mostly) the same failure would
 * come back at once; a tenth of a second keeps that from eating a core. */
enum { REST_MS = 100 };

static void name_peer(const struct listener *listener, nng_stream *stream,
                      char *peer)
{
    nng_sockaddr address;
    char host[INET6_ADDRSTRLEN];
    if (nng_stream_get_addr(stream, NNG_OPT_REMADDR, &address) == 0) {
        if (address.s_family == NNG_AF_INET &&
            inet_ntop(AF_INET, &address.s_in.sa_addr, host, sizeof(host))) {
            snprintf(peer, ADDRESS_BYTES_MAX, "tcp://%s:%u", host,
                     ntohs(address.s_in.sa_port));
            return;
        }
        if (address.s_family == NNG_AF_INET6 &&
            inet_ntop(AF_INET6, &address.s_in6.sa_addr, host, sizeof(host))) {
            snprintf(peer, ADDRESS_BYTES_MAX, "tcp://[%s]:%u", host,
                     ntohs(address.s_in6.sa_port));
            return;
        }
    }
    snprintf(peer, ADDRESS_BYTES_MAX, "%s", listener->address);
}

static bool admit(struct listener *listener)
{
    pthread_mutex_lock(&listener->lock);
    bool room =
        listener->connections < listener->transport->limits.connections_max;
    listener->connections++;
    pthread_mutex_unlock(&listener->lock);
    return room;
}

void listener_forget_connection(struct listener *listener)
{
    pthread_mutex_lock(&listener->lock);
    listener->connections--;
    pthread_mutex_unlock(&listener->lock);
}

static void accept_stream(struct listener *listener, nng_stream *stream)
{
    struct transport *transport = listener->transport;
    char peer[ADDRESS_BYTES_MAX];
    name_peer(listener, stream, peer);
    /* What is written leaves at once: frames are gathered before, and a small
     * one would wait 40 ms for the other end's delayed acknowledgement of the
     * one before it. And an end that vanished without a word is noticed some
     * day. Without either the connection works as well. */
    if (listener->framing == SP_TCP) {
        (void)nng_stream_set_bool(stream, NNG_OPT_TCP_NODELAY, true);
        (void)nng_stream_set_bool(stream, NNG_OPT_TCP_KEEPALIVE, true);
    }
    struct connection *connection =
        connection_new(transport, listener->handlers, listener->user, peer);
    if (connection == NULL) {
        /* Nothing to hand to the reaper. No aio ever used this stream, so
         * freeing it here has nothing to wait for. */
        count(&transport->counters.refused_connections, 1);
        nng_stream_free(stream);
        return;
    }
    connection->listener = listener;
    connection->protocol = SP_REP;
    connection->framing = listener->framing;
    bool room = admit(listener);
    /* Never refused: the transport closes its listeners, and waits for this
     * callback, before it looks for the last connection. But it may already
     * be closing. */
    if (transport_adopt(connection) != STATUS_OK) {
        listener_forget_connection(listener);
        connection_release(connection);
        nng_stream_free(stream);
        return;
    }
    if (room) {
        count(&transport->counters.accepted, 1);
        connection_accepted(connection, stream);
    } else {
        count(&transport->counters.refused_connections, 1);
        connection_reject(connection, stream);
    }
    connection_release(connection);
}

static void on_accept(void *argument)
{
    struct listener *listener = argument;
    int result = nng_aio_result(listener->aio);
    pthread_mutex_lock(&listener->lock);
    bool rested = listener->resting;
    listener->resting = false;
    pthread_mutex_unlock(&listener->lock);
    if (!rested && result == 0)
        accept_stream(listener, nng_aio_get_output(listener->aio, 0));

    pthread_mutex_lock(&listener->lock);
    if (!listener->closing) {
        listener->resting = !rested && result != 0;
        if (listener->resting)
            nng_sleep_aio(REST_MS, listener->aio);
        else
            nng_stream_listener_accept(listener->stream_listener,
                                       listener->aio);
    }
    pthread_mutex_unlock(&listener->lock);
}

void listener_close(struct listener *listener)
{
    pthread_mutex_lock(&listener->lock);
    listener->closing = true;
    pthread_mutex_unlock(&listener->lock);
    nng_stream_listener_close(listener->stream_listener);
    nng_aio_stop(listener->aio);
}

void listener_free(struct listener *listener)
{
    if (listener->aio != NULL)
        nng_aio_free(listener->aio);
    if (listener->stream_listener != NULL)
        nng_stream_listener_free(listener->stream_listener);
    pthread_mutex_destroy(&listener->lock);
    free(listener);
}

static int bind_address(struct listener *listener)
{
    int result = nng_stream_listener_alloc(&listener->stream_listener,
                                           listener->address);
    if (result != 0)
        return result;
    result = nng_aio_alloc(&listener->aio, on_accept, listener);
    if (result != 0)
        return result;
    result = nng_stream_listener_listen(listener->stream_listener);
    if (result == 0 && listener->framing == SP_TCP)
        result = nng_stream_listener_get_int(
            listener->stream_listener, NNG_OPT_TCP_BOUND_PORT, &listener->port);
    return result;
}

enum status transport_listen(struct transport *transport, const char *address,
                             const struct transport_handlers *handlers,
                             void *user, struct listener **out,
                             struct error *error)
{
    enum sp_framing framing;
    enum status status = address_framing(address, &framing, error);
    if (status != STATUS_OK)
        return status;
    struct listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to listen on %s",
                         address);
    listener->transport = transport;
    listener->handlers = handlers;
    listener->user = user;
    listener->framing = framing;
    snprintf(listener->address, sizeof(listener->address), "%s", address);
    pthread_mutex_init(&listener->lock, NULL);
    int result = bind_address(listener);
    if (result != 0) {
        listener_free(listener);
        return error_set(error, STATUS_IO, "cannot listen on %s: %s", address,
                         nng_strerror(result));
    }
    pthread_mutex_lock(&transport->lock);
    listener->next = transport->listeners;
    transport->listeners = listener;
    pthread_mutex_unlock(&transport->lock);
    *out = listener;

    pthread_mutex_lock(&listener->lock);
    nng_stream_listener_accept(listener->stream_listener, listener->aio);
    pthread_mutex_unlock(&listener->lock);
    return STATUS_OK;
}

int listener_port(const struct listener *listener)
{
    return listener->port;
}
