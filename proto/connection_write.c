/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <sys/socket.h>

#include "proto/transport_internal.h"

/* What leaves. */

/* A thread that flushes for others, too, leaves it to the loop then. */
enum { ROUNDS_MAX = 8 };
/* A write buffer that grew beyond this for a burst is given back. */
enum { WRITE_BYTES_KEPT = 256 * 1024 };

static void sent_locked(struct connection *connection, size_t size)
{
    connection->sent += size;
    if (!connection->greeting)
        atomic_fetch_sub(&connection->queued, size);
    count(&connection->transport->counters.bytes_out, size);
    if (connection->sent < connection->sending.size)
        return;
    connection->greeting = false;
    connection->sent = 0;
    buffer_clear(&connection->sending);
    if (connection->sending.capacity > WRITE_BYTES_KEPT)
        buffer_fini(&connection->sending);
}

void connection_write_locked(struct connection *connection)
{
    connection->send_busy = false;
    while (connection->sending.size > 0) {
        ssize_t size =
            send(connection->fd, connection->sending.data + connection->sent,
                 connection->sending.size - connection->sent, MSG_NOSIGNAL);
        if (size >= 0) {
            sent_locked(connection, (size_t)size);
            continue;
        }
        if (errno == EINTR)
            continue;
        connection->send_busy = errno == EAGAIN;
        if (errno != EAGAIN)
            connection_fail_locked(connection, errno);
        else if (event_add(connection->writable, NULL) != 0)
            connection_fail_locked(connection, ENOMEM);
        return;
    }
}

/* Its loop may be at the callback that makes all this, and not yet see that the
 * socket takes more. */
static bool is_filled(const struct connection *connection)
{
    size_t queued = atomic_load(&connection->queued);
    return queued >= WRITE_BYTES_KEPT ||
           queued >= connection->transport->limits.queue_bytes_max / 2;
}

static bool has_pending(struct connection *connection)
{
    pthread_mutex_lock(&connection->queue_lock);
    bool has = connection->pending.size > 0;
    pthread_mutex_unlock(&connection->queue_lock);
    return has;
}

void connection_flush_locked(struct connection *connection)
{
    if (connection->state < CONNECTION_OPEN)
        connection->flush_wanted = true;
    if (connection->state != CONNECTION_OPEN || !has_pending(connection))
        return;
    if (connection->send_busy && is_filled(connection))
        connection_write_locked(connection);
    if (connection->send_busy || connection->state != CONNECTION_OPEN)
        return;
    struct buffer empty = connection->sending;
    pthread_mutex_lock(&connection->queue_lock);
    connection->sending = connection->pending;
    connection->pending = empty;
    pthread_mutex_unlock(&connection->queue_lock);
    connection_write_locked(connection);
}

void connection_on_writable(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct connection *connection = argument;
    pthread_mutex_lock(&connection->lock);
    if (connection->state != CONNECTION_CLOSING)
        connection_write_locked(connection);
    if (connection->state == CONNECTION_OPEN)
        connection_flush_locked(connection);
    pthread_mutex_unlock(&connection->lock);
}

enum status connection_send(struct connection *connection, uint32_t id,
                            struct bytes hops, struct bytes payload)
{
    const struct frame frame = {.id = id, .hops = hops, .payload = payload};
    size_t size = sp_frame_size(connection->framing, hops, payload);
    pthread_mutex_lock(&connection->queue_lock);
    size_t queued = atomic_load(&connection->queued);
    enum status status;
    if (connection->is_shut) {
        status = STATUS_CLOSED;
    } else if (hops.size + sizeof(id) + payload.size >
               connection->transport->limits.send_bytes_max) {
        status = STATUS_TOO_LARGE;
    } else if (queued > 0 &&
               queued + size > connection->transport->limits.queue_bytes_max) {
        count(&connection->transport->counters.queue_full, 1);
        status = STATUS_OVERLOADED;
    } else {
        status = sp_append(connection->framing, &frame, &connection->pending);
    }
    if (status == STATUS_OK) {
        atomic_fetch_add(&connection->queued, size);
        count(&connection->transport->counters.frames_out, 1);
    }
    pthread_mutex_unlock(&connection->queue_lock);
    return status;
}

/* Who comes while another is at it leaves it to them. */
void connection_flush(struct connection *connection)
{
    if (atomic_fetch_add(&connection->flushes, 1) > 0)
        return;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        unsigned asked = atomic_load(&connection->flushes);
        pthread_mutex_lock(&connection->lock);
        connection_flush_locked(connection);
        pthread_mutex_unlock(&connection->lock);
        if (atomic_compare_exchange_strong(&connection->flushes, &asked, 0))
            return;
    }
    atomic_store(&connection->flushes, 0);
    pthread_mutex_lock(&connection->lock);
    if (connection->state == CONNECTION_OPEN)
        event_active(connection->writable, EV_WRITE, 0);
    pthread_mutex_unlock(&connection->lock);
}

void connection_flush_soon(struct connection *connection)
{
    if (!loop_defer_flush(connection))
        connection_flush(connection);
}
