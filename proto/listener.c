/* SPDX-License-Identifier: MIT */
#include "proto/transport_internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BACKLOG = SOMAXCONN, /* as long as the system allows */
    /* After a failed accept (out of descriptors, mostly) the same failure would
     * come back at once; a tenth of a second keeps that from eating a core. */
    REST_US = 100 * 1000,
};

static bool admit(struct listener *listener)
{
    size_t limit = listener->transport->limits.connections_max;
    if (atomic_fetch_add(&listener->connections, 1) < limit)
        return true;
    atomic_fetch_sub(&listener->connections, 1);
    return false;
}

static bool adopt(struct listener *listener, int fd,
                  const struct sockaddr *name)
{
    struct transport *transport = listener->transport;
    char peer[ADDRESS_BYTES_MAX];
    address_print(name, listener->name, peer);
    struct connection *connection =
        connection_new(transport, transport_loop(transport, LOOP_COMMON),
                       listener->handlers, listener->user, peer);
    if (connection == NULL)
        return false;
    connection->listener = listener;
    connection->protocol = SP_REP;
    connection->framing = listener->address.framing;
    pthread_mutex_lock(&connection->lock);
    connection->state = CONNECTION_HANDSHAKE;
    bool is_adopted = transport_adopt(connection) == STATUS_OK;
    if (is_adopted) {
        count(&transport->counters.accepted, 1);
        connection_begin_locked(connection, fd);
    }
    pthread_mutex_unlock(&connection->lock);
    connection_release(connection);
    return is_adopted;
}

/* Also for what was accepted and cannot be kept. It ends libevent's round of
 * accepting, too. */
static void on_accept_failed(struct evconnlistener *acceptor, void *argument)
{
    struct listener *listener = argument;
    const struct timeval time = {.tv_usec = REST_US};
    if (evtimer_add(listener->rest, &time) == 0)
        evconnlistener_disable(acceptor);
}

static void on_accept(struct evconnlistener *acceptor, evutil_socket_t fd,
                      struct sockaddr *name, int size, void *argument)
{
    (void)size;
    struct listener *listener = argument;
    struct transport *transport = listener->transport;
    if (!admit(listener)) {
        count(&transport->counters.refused_connections, 1);
        close(fd);
        return;
    }
    /* What is written leaves at once: frames are gathered before, and a small
     * one would wait 40 ms for the other end's delayed acknowledgement of the
     * one before it. And an end that vanished without a word is noticed some
     * day. Without either the connection works as well. */
    const int on = 1;
    if (listener->address.framing == SP_TCP) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    if (!adopt(listener, fd, name)) {
        count(&transport->counters.refused_connections, 1);
        atomic_fetch_sub(&listener->connections, 1);
        close(fd);
        on_accept_failed(acceptor, listener);
    }
}

static void on_rested(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct listener *listener = argument;
    if (evconnlistener_enable(listener->acceptor) != 0)
        on_accept_failed(listener->acceptor, listener);
}

void listener_free(struct listener *listener)
{
    if (listener->acceptor != NULL) {
        /* Before another process finds that nobody listens, and takes it. */
        if (listener->address.framing == SP_IPC)
            (void)unlink(listener->address.host);
        evconnlistener_free(listener->acceptor);
    }
    if (listener->rest != NULL)
        event_free(listener->rest);
    free(listener);
}

/* A socket that nobody listens on any more was left by a process that was
 * killed. */
static bool is_abandoned(const struct place *place, const char *path)
{
    struct stat found;
    if (lstat(path, &found) != 0 || !S_ISSOCK(found.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool is_refused =
        connect(fd, (const struct sockaddr *)&place->name, place->size) != 0 &&
        errno == ECONNREFUSED;
    close(fd);
    return is_refused;
}

/* errno when it is NULL. */
static struct evconnlistener *bind_to(struct listener *listener,
                                      const struct place *place)
{
    return evconnlistener_new_bind(
        listener->transport->loops[0].base, on_accept, listener,
        LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE |
            LEV_OPT_THREADSAFE | LEV_OPT_DISABLED,
        BACKLOG, (const struct sockaddr *)&place->name, (int)place->size);
}

static int bound_port(struct evconnlistener *acceptor)
{
    struct sockaddr_storage name = {0};
    socklen_t size = sizeof name;
    (void)getsockname(evconnlistener_get_fd(acceptor), (struct sockaddr *)&name,
                      &size);
    if (name.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&name)->sin_port);
    if (name.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&name)->sin6_port);
    return 0;
}

/* NULL, or what failed. */
static const char *start(struct listener *listener)
{
    struct places places;
    int result = address_places(&listener->address, EVUTIL_AI_PASSIVE, &places);
    if (result != 0)
        return gai_strerror(result);
    const struct place *place = &places.at[0];
    listener->rest =
        evtimer_new(listener->transport->loops[0].base, on_rested, listener);
    if (listener->rest == NULL)
        return strerror(ENOMEM);
    listener->acceptor = bind_to(listener, place);
    int failure = errno;
    const char *path = listener->address.host;
    if (listener->acceptor == NULL && failure == EADDRINUSE &&
        listener->address.framing == SP_IPC && is_abandoned(place, path)) {
        (void)unlink(path);
        listener->acceptor = bind_to(listener, place);
        failure = errno;
    }
    if (listener->acceptor == NULL)
        return strerror(failure);
    evconnlistener_set_error_cb(listener->acceptor, on_accept_failed);
    listener->port = bound_port(listener->acceptor);
    if (evconnlistener_enable(listener->acceptor) != 0)
        return strerror(ENOMEM);
    return NULL;
}

enum status transport_listen(struct transport *transport, const char *text,
                             const struct transport_handlers *handlers,
                             void *user, struct listener **out,
                             struct error *error)
{
    struct address address;
    enum status status = address_parse(text, &address, error);
    if (status != STATUS_OK)
        return status;
    struct listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to listen on %s",
                         text);
    listener->transport = transport;
    listener->handlers = handlers;
    listener->user = user;
    listener->address = address;
    snprintf(listener->name, sizeof(listener->name), "%s", text);
    const char *failure = start(listener);
    if (failure != NULL) {
        status = error_set(error, STATUS_IO, "cannot listen on %s: %s", text,
                           failure);
        listener_free(listener);
        return status;
    }
    pthread_mutex_lock(&transport->lock);
    listener->next = transport->listeners;
    transport->listeners = listener;
    pthread_mutex_unlock(&transport->lock);
    *out = listener;
    return STATUS_OK;
}

int listener_port(const struct listener *listener)
{
    return listener->port;
}
