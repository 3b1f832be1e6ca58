/* SPDX-License-Identifier: MIT */
#include "proto/transport_internal.h"

#include <stdlib.h>
#include <unistd.h>

#include <event2/thread.h>

#include "proto/assert.h"

static bool has_threads;

/* It fails in a program that gave libevent locks of its own. */
static void use_threads(void)
{
    has_threads = evthread_use_pthreads() == 0;
}

/* What is left belongs to nobody else. */
static void free_transport(struct transport *transport)
{
    for (size_t i = 0; i < transport->loop_count; i++)
        loop_stop(&transport->loops[i]);
    while (transport->listeners != NULL) {
        struct listener *next = transport->listeners->next;
        listener_free(transport->listeners);
        transport->listeners = next;
    }
    if (transport->dns != NULL)
        evdns_base_free(transport->dns, 0);
    for (size_t i = 0; i < transport->loop_count; i++)
        loop_free(&transport->loops[i]);
    pthread_cond_destroy(&transport->changed);
    pthread_mutex_destroy(&transport->lock);
    free(transport);
}

static size_t loops_wanted(const struct transport_limits *limits)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t common = processors > 1 ? (size_t)processors : 1;
    if (limits->loops == 1)
        return 1;
    if (limits->loops > 0)
        common = limits->loops;
    return LOOP_COMMON +
           (common < COMMON_LOOPS_MAX ? common : COMMON_LOOPS_MAX);
}

enum status transport_open(const struct transport_limits *limits,
                           struct transport **out, struct error *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, use_threads);
    ASSERT(limits->frame_bytes_max >= sizeof(uint32_t));
    if (!has_threads)
        return error_set(error, STATUS_IO,
                         "libevent has other locks than those of pthreads");
    struct transport *transport = calloc(1, sizeof(*transport));
    if (transport == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a transport");
    transport->limits = *limits;
    if (limits->send_bytes_max == 0)
        transport->limits.send_bytes_max = limits->frame_bytes_max;
    pthread_mutex_init(&transport->lock, NULL);
    pthread_cond_init(&transport->changed, NULL);
    size_t loops = loops_wanted(limits);
    while (transport->loop_count < loops) {
        if (!loop_start(&transport->loops[transport->loop_count])) {
            free_transport(transport);
            return error_set(error, STATUS_IO,
                             "cannot start the transport's %zu threads", loops);
        }
        transport->loop_count++;
    }
    *out = transport;
    return STATUS_OK;
}

struct event_base *transport_loop(struct transport *transport,
                                  enum loop_kind kind)
{
    size_t loop = kind;
    if (kind == LOOP_COMMON && transport->loop_count > LOOP_COMMON)
        loop += atomic_fetch_add(&transport->next_loop, 1) %
                (transport->loop_count - LOOP_COMMON);
    return transport->loops[transport->loop_count == 1 ? 0 : loop].base;
}

enum status transport_adopt(struct connection *connection)
{
    struct transport *transport = connection->transport;
    uint32_t ms = transport->limits.handshake_ms;
    const struct timeval time = {.tv_sec = ms / 1000,
                                 .tv_usec = ms % 1000 * 1000};
    pthread_mutex_lock(&transport->lock);
    enum status status = transport->closing ? STATUS_CLOSED : STATUS_OK;
    if (status == STATUS_OK && evtimer_add(connection->timer, &time) != 0)
        status = STATUS_NO_MEMORY;
    if (status == STATUS_OK) {
        connection_retain(connection);
        connection->next = transport->live;
        if (connection->next != NULL)
            connection->next->previous = connection;
        transport->live = connection;
        transport->unended++;
    }
    pthread_mutex_unlock(&transport->lock);
    return status;
}

void transport_forget(struct connection *connection)
{
    struct transport *transport = connection->transport;
    pthread_mutex_lock(&transport->lock);
    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        transport->live = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    pthread_mutex_unlock(&transport->lock);
}

void transport_ended(struct transport *transport)
{
    pthread_mutex_lock(&transport->lock);
    transport->unended--;
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
    /* From here on none is adopted. */
    pthread_mutex_lock(&transport->lock);
    transport->closing = true;
    pthread_mutex_unlock(&transport->lock);
    close_live_ones(transport);

    pthread_mutex_lock(&transport->lock);
    while (transport->unended > 0)
        pthread_cond_wait(&transport->changed, &transport->lock);
    pthread_mutex_unlock(&transport->lock);
    free_transport(transport);
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
