/* SPDX-License-Identifier: MIT */
#include "proto/transport_internal.h"

#include <stdlib.h>

#include "proto/assert.h"

static struct connection *take_dead(struct transport *transport)
{
    pthread_mutex_lock(&transport->lock);
    while (transport->dead == NULL && !transport->reaper_stops)
        pthread_cond_wait(&transport->changed, &transport->lock);
    struct connection *newest = transport->dead;
    transport->dead = NULL;
    pthread_mutex_unlock(&transport->lock);

    struct connection *oldest = NULL;
    while (newest != NULL) {
        struct connection *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void *reaper_main(void *argument)
{
    struct transport *transport = argument;
    struct connection *dead;
    while ((dead = take_dead(transport)) != NULL) {
        while (dead != NULL) {
            struct connection *next = dead->next;
            dead->next = NULL;
            connection_reap(dead);
            connection_release(dead);
            pthread_mutex_lock(&transport->lock);
            transport->unreaped--;
            pthread_cond_broadcast(&transport->changed);
            pthread_mutex_unlock(&transport->lock);
            dead = next;
        }
    }
    return NULL;
}

enum status transport_open(const struct transport_limits *limits,
                           struct transport **out, struct error *error)
{
    ASSERT(limits->frame_bytes_max >= sizeof(uint32_t));
    struct transport *transport = calloc(1, sizeof(*transport));
    if (transport == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a transport");
    transport->limits = *limits;
    if (limits->send_bytes_max == 0)
        transport->limits.send_bytes_max = limits->frame_bytes_max;
    pthread_mutex_init(&transport->lock, NULL);
    pthread_cond_init(&transport->changed, NULL);
    int failure =
        pthread_create(&transport->reaper, NULL, reaper_main, transport);
    if (failure != 0) {
        pthread_cond_destroy(&transport->changed);
        pthread_mutex_destroy(&transport->lock);
        free(transport);
        return error_set(error, STATUS_IO,
                         "cannot start the transport's reaper thread: %s",
                         strerror(failure));
    }
    *out = transport;
    return STATUS_OK;
}

enum status transport_adopt(struct connection *connection)
{
    struct transport *transport = connection->transport;
    pthread_mutex_lock(&transport->lock);
    enum status status = transport->closing ? STATUS_CLOSED : STATUS_OK;
    if (status == STATUS_OK) {
        connection_retain(connection);
        connection->next = transport->live;
        if (connection->next != NULL)
            connection->next->previous = connection;
        transport->live = connection;
        transport->unreaped++;
    }
    pthread_mutex_unlock(&transport->lock);
    return status;
}

void transport_condemn(struct connection *connection)
{
    struct transport *transport = connection->transport;
    pthread_mutex_lock(&transport->lock);
    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        transport->live = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    connection->previous = NULL;
    connection->next = transport->dead;
    transport->dead = connection;
    pthread_cond_broadcast(&transport->changed);
    pthread_mutex_unlock(&transport->lock);
}

/* One at a time, because a connection's lock is taken before the
 * transport's. */
static void close_live_ones(struct transport *transport)
{
    for (;;) {
        pthread_mutex_lock(&transport->lock);
        struct connection *connection = transport->live;
        if (connection != NULL)
            connection_retain(connection);
        pthread_mutex_unlock(&transport->lock);
        if (connection == NULL)
            return;
        connection_close(connection);
        connection_release(connection);
    }
}

void transport_close(struct transport *transport)
{
    if (transport == NULL)
        return;
    pthread_mutex_lock(&transport->lock);
    transport->closing = true;
    struct listener *listeners = transport->listeners;
    pthread_mutex_unlock(&transport->lock);

    /* After this no listener's callback runs, so none accepts any more. */
    for (struct listener *l = listeners; l != NULL; l = l->next)
        listener_close(l);
    close_live_ones(transport);

    pthread_mutex_lock(&transport->lock);
    while (transport->unreaped > 0)
        pthread_cond_wait(&transport->changed, &transport->lock);
    transport->reaper_stops = true;
    pthread_cond_broadcast(&transport->changed);
    pthread_mutex_unlock(&transport->lock);
    pthread_join(transport->reaper, NULL);

    while (listeners != NULL) {
        struct listener *next = listeners->next;
        listener_free(listeners);
        listeners = next;
    }
    pthread_cond_destroy(&transport->changed);
    pthread_mutex_destroy(&transport->lock);
    free(transport);
}

void transport_counters_read(struct transport *transport,
                             struct transport_counters *counters)
{
    struct transport_counters *from = &transport->counters;
    *counters = (struct transport_counters){0};
#define READ(field)                                                            \
    counters->field = __atomic_load_n(&from->field, __ATOMIC_RELAXED)
    READ(accepted);
    READ(dialed);
    READ(dial_failed);
    READ(closed);
    READ(frames_in);
    READ(frames_out);
    READ(bytes_in);
    READ(bytes_out);
    READ(oversized);
    READ(malformed);
    READ(queue_full);
    READ(refused_connections);
#undef READ
}

enum status address_framing(const char *address, enum sp_framing *framing,
                            struct error *error)
{
    if (strlen(address) >= ADDRESS_BYTES_MAX)
        return error_set(error, STATUS_IO,
                         "address is longer than %d bytes: %.40s...",
                         ADDRESS_BYTES_MAX - 1, address);
    if (strncmp(address, "tcp://", 6) == 0)
        *framing = SP_TCP;
    else if (strncmp(address, "ipc://", 6) == 0)
        *framing = SP_IPC;
    else
        return error_set(error, STATUS_IO,
                         "address %s begins with neither tcp:// nor ipc://",
                         address);
    return STATUS_OK;
}
