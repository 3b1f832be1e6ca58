/* SPDX-License-Identifier: MIT */
#include "proto/transport_internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RESOLV_CONF "/etc/resolv.conf"
#define HOSTS "/etc/hosts"
/* Of libevent's: the file is read, and has no name server. */
enum { RESOLV_CONF_NAMES_NONE = 6 };

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
    connection_move(connection, LOOP_COMMON);
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
static bool have_changed(struct transport *transport)
{
    static const char *const files[DNS_FILES] = {RESOLV_CONF, HOSTS};
    struct stat now[DNS_FILES];
    memset(now, 0, sizeof now);
    for (size_t i = 0; i < DNS_FILES; i++)
        (void)stat(files[i], &now[i]);
    bool have = false;
    for (size_t i = 0; i < DNS_FILES; i++) {
        const struct stat *then = &transport->dns_files[i];
        have |= then->st_dev != now[i].st_dev ||
                then->st_ino != now[i].st_ino ||
                then->st_size != now[i].st_size ||
                then->st_mtim.tv_sec != now[i].st_mtim.tv_sec ||
                then->st_mtim.tv_nsec != now[i].st_mtim.tv_nsec;
    }
    memcpy(transport->dns_files, now, sizeof now);
    return have;
}

/* One server that is silent, or one family that is not answered for, leaves
 * time for the next within a dial's second, whatever resolv.conf says: it means
 * programs that wait for longer. That is too short to call a server failed, nor
 * would a probe of one survive its being read anew. Without a decimal point,
 * which is another character in other locales. */
static const char *const dns_options[][2] = {
    {"timeout", "15e-2"},
    {"attempts", "8"},
    {"max-timeouts", "255"},
    {"getaddrinfo-allow-skew", "5e-1"},
    {"initial-probe-timeout", "3600"},
};

static void read_files(struct transport *transport)
{
    struct evdns_base *dns = transport->dns;
    evdns_base_search_clear(dns);
    evdns_base_clear_host_addresses(dns);
    (void)evdns_base_clear_nameservers_and_suspend(dns);
    int failure =
        evdns_base_resolv_conf_parse(dns, DNS_OPTIONS_ALL, RESOLV_CONF);
    if (failure != 0 && failure != RESOLV_CONF_NAMES_NONE)
        memset(transport->dns_files, 0, sizeof transport->dns_files);
    for (size_t i = 0; i < sizeof dns_options / sizeof *dns_options; i++)
        (void)evdns_base_set_option(dns, dns_options[i][0], dns_options[i][1]);
    (void)evdns_base_resume(dns);
}

/* It reads what names are known by again when that has changed, or could not be
 * read: a client may be older than its network. */
static struct evdns_base *resolver(struct transport *transport)
{
    bool is_new = transport->dns == NULL;
    if (is_new)
        transport->dns = evdns_base_new(transport->loops[0].base,
                                        EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (transport->dns != NULL && (have_changed(transport) || is_new))
        read_files(transport);
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
