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

#define RESOLV_CONF "/etc/resolv.conf"
#define HOSTS "/etc/hosts"

/* Everything here runs on the connection's loop, but for transport_dial. */

static void failed_locked(struct connection *connection, const char *what)
{
    count(&connection->transport->counters.dial_failed, 1);
    connection_shut_locked(connection, STATUS_IO, what);
}

static void on_connected(evutil_socket_t fd, short what, void *argument);

/* 0 when it is connected, EINPROGRESS, or what failed. */
static int start_connect(struct connection *connection,
                         const struct place *place, int *out)
{
    int family = place->name.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    *out = fd;
    /* As of what is accepted: what is written leaves at once. */
    const int on = 1;
    if (connection->framing == SP_TCP)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int result =
        connect(fd, (const struct sockaddr *)&place->name, place->size);
    return result == 0 ? 0 : errno;
}

static void dialed_locked(struct connection *connection, int fd)
{
    count(&connection->transport->counters.dialed, 1);
    free(connection->dial);
    connection->dial = NULL;
    connection_begin_locked(connection, fd);
}

static bool await(struct connection *connection, int fd)
{
    struct event *event =
        event_new(connection->base, fd, EV_WRITE, on_connected, connection);
    if (event == NULL)
        return false;
    if (event_add(event, NULL) != 0) {
        event_free(event);
        return false;
    }
    connection->writable = event;
    connection->fd = fd;
    return true;
}

/* Try one place after the other until one is worth waiting for. */
static void try_places_locked(struct connection *connection, int failure)
{
    struct dial *dial = connection->dial;
    while (dial->next < dial->places.count) {
        int fd = -1;
        failure =
            start_connect(connection, &dial->places.at[dial->next++], &fd);
        if (failure == 0) {
            dialed_locked(connection, fd);
            return;
        }
        if (failure == EINPROGRESS) {
            if (await(connection, fd))
                return;
            failure = ENOMEM;
        }
        if (fd >= 0)
            close(fd);
    }
    failed_locked(connection, strerror(failure));
}

static void on_connected(evutil_socket_t fd, short what, void *argument)
{
    (void)what;
    struct connection *connection = argument;
    int failure = 0;
    socklen_t size = sizeof failure;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) != 0)
        failure = errno;
    pthread_mutex_lock(&connection->lock);
    if (connection->state == CONNECTION_DIALING) {
        event_free(connection->writable);
        connection->writable = NULL;
        connection->fd = -1;
        if (failure == 0) {
            dialed_locked(connection, fd);
        } else {
            close(fd);
            try_places_locked(connection, failure);
        }
    }
    pthread_mutex_unlock(&connection->lock);
}

static void on_looked_up(int result, struct evutil_addrinfo *found,
                         void *argument)
{
    struct connection *connection = argument;
    struct dial *dial = connection->dial;
    dial->lookup = NULL;
    if (found != NULL)
        places_take(&dial->places, found);
    pthread_mutex_lock(&connection->lock);
    bool closing = connection->state == CONNECTION_CLOSING;
    if (!closing && result != 0)
        failed_locked(connection, gai_strerror(result));
    else if (!closing)
        try_places_locked(connection, EHOSTUNREACH);
    pthread_mutex_unlock(&connection->lock);
    if (closing)
        connection_end(connection);
}

/* Changed since the last call? */
static bool have_changed(struct timespec changed[2])
{
    static const char *const files[] = {RESOLV_CONF, HOSTS};
    bool have = false;
    for (size_t i = 0; i < 2; i++) {
        struct stat found = {0};
        (void)stat(files[i], &found);
        have |= memcmp(&changed[i], &found.st_mtim, sizeof changed[i]) != 0;
        changed[i] = found.st_mtim;
    }
    return have;
}

/* It reads what names are known by again when that has changed: a client may be
 * older than its network. */
static struct evdns_base *resolver(struct transport *transport)
{
    bool is_new = transport->dns == NULL;
    if (is_new) {
        transport->dns = evdns_base_new(transport->loops[0].base,
                                        EVDNS_BASE_DISABLE_WHEN_INACTIVE);
        if (transport->dns == NULL)
            return NULL;
        /* One server that is silent, or answers for one family only, leaves
         * time for the next. Servers may change the case of a name. */
        (void)evdns_base_set_option(transport->dns, "timeout", "1");
        (void)evdns_base_set_option(transport->dns, "getaddrinfo-allow-skew",
                                    "0.2");
        (void)evdns_base_set_option(transport->dns, "randomize-case", "0");
    }
    if (have_changed(transport->dns_files) || is_new) {
        evdns_base_clear_host_addresses(transport->dns);
        (void)evdns_base_clear_nameservers_and_suspend(transport->dns);
        (void)evdns_base_resolv_conf_parse(transport->dns, DNS_OPTIONS_ALL,
                                           RESOLV_CONF);
        (void)evdns_base_resume(transport->dns);
    }
    return transport->dns;
}

static void look_up(struct connection *connection)
{
    struct dial *dial = connection->dial;
    struct evdns_base *dns = resolver(connection->transport);
    if (dns == NULL) {
        on_looked_up(EVUTIL_EAI_MEMORY, NULL, connection);
        return;
    }
    const struct evutil_addrinfo hints = address_hints(0);
    struct evdns_getaddrinfo_request *lookup =
        evdns_getaddrinfo(dns, dial->address.host, dial->address.port, &hints,
                          on_looked_up, connection);
    /* NULL: it was called already, and there may be no dial any more. */
    if (lookup != NULL)
        dial->lookup = lookup;
}

void dial_start(struct connection *connection)
{
    struct dial *dial = connection->dial;
    dial->started = true;
    if (dial->places.count == 0) {
        look_up(connection);
        return;
    }
    pthread_mutex_lock(&connection->lock);
    if (connection->state == CONNECTION_DIALING)
        try_places_locked(connection, 0);
    pthread_mutex_unlock(&connection->lock);
}

bool dial_stop(struct connection *connection)
{
    struct dial *dial = connection->dial;
    if (dial == NULL || dial->lookup == NULL)
        return true;
    evdns_getaddrinfo_cancel(dial->lookup);
    return false;
}

enum status transport_dial(struct transport *transport, const char *text,
                           const struct transport_handlers *handlers,
                           void *user, struct connection **out,
                           struct error *error)
{
    struct address address;
    enum status status = address_parse(text, &address, error);
    if (status != STATUS_OK)
        return status;
    if (address.framing == SP_TCP && address_node(&address) == NULL)
        return error_set(error, STATUS_IO, "address %s names no host", text);
    struct dial *dial = calloc(1, sizeof *dial);
    /* A name is looked up by the first loop, whose the resolver is. */
    struct event_base *base = transport->loops[0].base;
    if (dial != NULL &&
        address_places(&address, EVUTIL_AI_NUMERICHOST, &dial->places) == 0)
        base = transport_loop(transport, LOOP_COMMON);
    struct connection *connection =
        connection_new(transport, base, handlers, user, text);
    if (dial == NULL || connection == NULL) {
        free(dial);
        connection_release(connection);
        return error_set(error, STATUS_NO_MEMORY, "no memory to dial %s", text);
    }
    dial->address = address;
    connection->dial = dial;
    connection->protocol = SP_REQ;
    connection->framing = address.framing;
    pthread_mutex_lock(&connection->lock);
    status = transport_adopt(connection);
    if (status == STATUS_OK) {
        *out = connection;
        event_active(connection->timer, EV_READ, 0);
    }
    pthread_mutex_unlock(&connection->lock);
    if (status != STATUS_OK) {
        connection_release(connection);
        return error_set(error, status, "cannot dial %s: %s", text,
                         status == STATUS_CLOSED ? "the transport closes"
                                                 : "no memory");
    }
    return STATUS_OK;
}
