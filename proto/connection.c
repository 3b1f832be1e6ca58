/* SPDX-License-Identifier: MIT */
#include "proto/transport_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/assert.h"

/* One read takes what a busy peer sent meanwhile: 256 KiB is some thousand
 * small requests for one system call. */
enum { READ_BYTES = 256 * 1024 };
/* Frames handed over in one call, 10 KiB of stack. */
enum { BATCH_FRAMES = 256 };
/* Of a frame that is too long and may be told of, before that is a peer that
 * means no request. */
enum { SKIP_BYTES_MAX = 1 << 30 };

static void on_timer(evutil_socket_t fd, short what, void *argument);
static void on_readable(evutil_socket_t fd, short what, void *argument);

/* Persistent, or activating it would end its deadline. */
static struct event *new_timer(struct connection *connection,
                               struct event_base *base)
{
    return event_new(base, -1, EV_PERSIST, on_timer, connection);
}

struct connection *connection_new(struct transport *transport,
                                  struct event_base *base,
                                  const struct transport_handlers *handlers,
                                  void *user, const char *peer)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL)
        return NULL;
    atomic_init(&connection->references, 1);
    atomic_init(&connection->queued, 0);
    atomic_init(&connection->flushes, 0);
    connection->transport = transport;
    connection->base = base;
    connection->handlers = handlers;
    connection->user = user;
    connection->fd = -1;
    snprintf(connection->peer, sizeof(connection->peer), "%s", peer);
    pthread_mutex_init(&connection->lock, NULL);
    pthread_mutex_init(&connection->queue_lock, NULL);
    connection->timer = new_timer(connection, base);
    if (connection->timer == NULL) {
        connection_release(connection);
        return NULL;
    }
    return connection;
}

struct connection *connection_retain(struct connection *connection)
{
    atomic_fetch_add(&connection->references, 1);
    return connection;
}

static void free_event(struct event **event)
{
    if (*event != NULL)
        event_free(*event);
    *event = NULL;
}

/* Gives back what only its loop may. */
static void disconnect(struct connection *connection)
{
    free_event(&connection->timer);
    free_event(&connection->readable);
    free_event(&connection->writable);
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
    free(connection->dial);
    connection->dial = NULL;
}

void connection_release(struct connection *connection)
{
    if (connection == NULL || atomic_fetch_sub(&connection->references, 1) != 1)
        return;
    disconnect(connection);
    buffer_fini(&connection->pending);
    buffer_fini(&connection->sending);
    free(connection->input);
    pthread_mutex_destroy(&connection->queue_lock);
    pthread_mutex_destroy(&connection->lock);
    free(connection);
}

void connection_shut_locked(struct connection *connection, enum status status,
                            const char *what)
{
    if (connection->state == CONNECTION_CLOSING)
        return;
    connection->state = CONNECTION_CLOSING;
    error_set(&connection->why, status, "%s: %s", connection->peer, what);
    transport_forget(connection);
    event_active(connection->timer, EV_READ, 0);
    /* Last: the loop that sees it and takes no more comes to the end before it
     * would read again. */
    pthread_mutex_lock(&connection->queue_lock);
    connection->is_shut = true;
    pthread_mutex_unlock(&connection->queue_lock);
}

static void shut(struct connection *connection, enum status status,
                 const char *what)
{
    pthread_mutex_lock(&connection->lock);
    connection_shut_locked(connection, status, what);
    pthread_mutex_unlock(&connection->lock);
}

void connection_fail_locked(struct connection *connection, int failure)
{
    if (failure == 0 || failure == ECONNRESET || failure == EPIPE)
        connection_shut_locked(connection, STATUS_CLOSED, "the peer hung up");
    else
        connection_shut_locked(connection, STATUS_IO, strerror(failure));
}

/* Its socket's events, of the loop that it belongs to. */
static bool watch(struct connection *connection, struct event_base *base,
                  struct event **readable, struct event **writable)
{
    int fd = connection->fd;
    *readable =
        event_new(base, fd, EV_READ | EV_PERSIST, on_readable, connection);
    *writable =
        event_new(base, fd, EV_WRITE, connection_on_writable, connection);
    return *readable != NULL && *writable != NULL;
}

static bool prepare_locked(struct connection *connection)
{
    uint8_t handshake[SP_HANDSHAKE_BYTES];
    sp_handshake(connection->protocol, handshake);
    connection->input_capacity = READ_BYTES;
    connection->input = malloc(READ_BYTES);
    return connection->input != NULL &&
           watch(connection, connection->base, &connection->readable,
                 &connection->writable) &&
           buffer_append(&connection->sending,
                         bytes_of(handshake, sizeof(handshake))) == STATUS_OK &&
           event_add(connection->readable, NULL) == 0;
}

void connection_begin_locked(struct connection *connection, int fd)
{
    connection->fd = fd;
    connection->state = CONNECTION_HANDSHAKE;
    connection->greeting = true;
    if (prepare_locked(connection))
        connection_write_locked(connection);
    else
        connection_shut_locked(connection, STATUS_NO_MEMORY,
                               "no memory for buffers");
}

static bool still_open(struct connection *connection, void **user)
{
    pthread_mutex_lock(&connection->queue_lock);
    bool open = !connection->is_shut;
    *user = connection->user;
    pthread_mutex_unlock(&connection->queue_lock);
    return open;
}

/* The peer's handshake is here; 8 bytes of input are used up. */
static bool finish_handshake(struct connection *connection)
{
    enum sp_protocol peer = connection->protocol == SP_REQ ? SP_REP : SP_REQ;
    if (sp_handshake_check(connection->input, peer) != STATUS_OK) {
        count(&connection->transport->counters.malformed, 1);
        shut(connection, STATUS_INVALID,
             "the peer does not begin with the handshake of req/rep");
        return false;
    }
    pthread_mutex_lock(&connection->lock);
    bool open = connection->state == CONNECTION_HANDSHAKE;
    if (open) {
        connection->state = CONNECTION_OPEN;
        event_del(connection->timer);
        if (connection->flush_wanted)
            connection_flush_locked(connection);
    }
    pthread_mutex_unlock(&connection->lock);
    connection->is_greeted = open;
    void *user;
    (void)still_open(connection, &user);
    if (open)
        connection->handlers->opened(connection, user);
    return open;
}

/* Past a frame that is too long, if there is somebody to tell: what of it is
 * still to come is dropped by received. */
static enum sp_result skip(struct connection *connection, void *user,
                           size_t *at, size_t *size)
{
    size_t whole = *size, here = connection->input_size - *at;
    if (connection->handlers->oversized == NULL || whole > SKIP_BYTES_MAX)
        return SP_OVERSIZED;
    if (here > whole)
        here = whole;
    struct frame frame;
    enum sp_result result = sp_parse_head(
        connection->framing, bytes_of(connection->input + *at, here), &frame);
    *size = 0;
    if (result == SP_MORE && here == whole)
        return SP_MALFORMED;
    if (result != SP_FRAME)
        return result;
    count(&connection->transport->counters.oversized, 1);
    connection->handlers->oversized(
        connection, user, &frame, whole - sp_header_size(connection->framing));
    *at += here;
    connection->skipping = whole - here;
    return SP_FRAME;
}

/* Closing: what is left in the input stays as it is. */
static enum sp_result stop_reading(const struct connection *connection,
                                   size_t *size)
{
    *size = connection->input_capacity;
    return SP_MORE;
}

/* Hand over every whole frame from *at on and leave *at behind the last, and
 * in *size what the next one takes. */
static enum sp_result deliver(struct connection *connection, size_t *at,
                              size_t *size)
{
    struct transport *transport = connection->transport;
    enum sp_result result = SP_FRAME;
    while (result == SP_FRAME) {
        struct frame frames[BATCH_FRAMES];
        size_t frame_count = 0;
        while (frame_count < BATCH_FRAMES) {
            result = sp_parse(
                connection->framing, transport->limits.frame_bytes_max,
                bytes_of(connection->input + *at, connection->input_size - *at),
                &frames[frame_count], size);
            if (result != SP_FRAME)
                break;
            *at += *size;
            frame_count++;
        }
        void *user;
        if (!still_open(connection, &user))
            return stop_reading(connection, size);
        count(&transport->counters.frames_in, frame_count);
        if (frame_count > 0)
            connection->handlers->frames(connection, user, frames, frame_count);
        if (result != SP_OVERSIZED)
            continue;
        if (!still_open(connection, &user))
            return stop_reading(connection, size);
        result = skip(connection, user, at, size);
    }
    return result;
}

/* Move what is left to the front, with room for the frame it begins and no
 * more than a read's worth beyond. */
static void make_room(struct connection *connection, size_t at, size_t frame)
{
    size_t left = connection->input_size - at;
    if (at > 0)
        memmove(connection->input, connection->input + at, left);
    connection->input_size = left;
    size_t capacity = frame > READ_BYTES ? frame : READ_BYTES;
    if (capacity == connection->input_capacity)
        return;
    uint8_t *input = realloc(connection->input, capacity);
    if (input == NULL) {
        shut(connection, STATUS_NO_MEMORY, "no memory for a frame");
        return;
    }
    connection->input = input;
    connection->input_capacity = capacity;
}

static void refuse(struct connection *connection, enum sp_result result)
{
    struct transport *transport = connection->transport;
    if (result == SP_OVERSIZED) {
        char what[120];
        snprintf(what, sizeof(what),
                 "a frame is longer than frame_bytes_max, %zu bytes",
                 transport->limits.frame_bytes_max);
        count(&transport->counters.oversized, 1);
        shut(connection, STATUS_TOO_LARGE, what);
    } else {
        count(&transport->counters.malformed, 1);
        shut(connection, STATUS_INVALID, "a malformed frame");
    }
}

static void received(struct connection *connection, size_t size)
{
    count(&connection->transport->counters.bytes_in, size);
    connection->input_size += size;
    size_t at = connection->skipping < connection->input_size
                    ? connection->skipping
                    : connection->input_size;
    connection->skipping -= at;
    size_t frame_size = 0;
    void *user;
    if (!still_open(connection, &user))
        return;
    bool handshake = !connection->is_greeted;
    bool whole = connection->input_size >= SP_HANDSHAKE_BYTES;
    if (handshake && whole) {
        if (!finish_handshake(connection))
            return;
        at = SP_HANDSHAKE_BYTES;
    }
    if (!handshake || whole) {
        enum sp_result result = deliver(connection, &at, &frame_size);
        if (result != SP_MORE) {
            refuse(connection, result);
            return;
        }
    }
    make_room(connection, at, frame_size);
}

static void swap(struct event **one, struct event **other)
{
    struct event *event = *one;
    *one = *other;
    *other = event;
}

/* To another loop, whose thread takes over: here nothing but the lock is
 * touched behind this. Without memory for its events it stays. */
static void move_locked(struct connection *connection, struct event_base *base)
{
    struct event *readable = NULL, *writable = NULL;
    struct event *timer = new_timer(connection, base);
    bool moves = watch(connection, base, &readable, &writable) && timer != NULL;
    if (moves) {
        connection->base = base;
        swap(&connection->timer, &timer);
        swap(&connection->readable, &readable);
        swap(&connection->writable, &writable);
    }
    free_event(&timer);
    free_event(&readable);
    free_event(&writable);
    if (moves &&
        (event_add(connection->readable, NULL) != 0 ||
         (connection->send_busy && event_add(connection->writable, NULL) != 0)))
        connection_fail_locked(connection, ENOMEM);
}

static void move(struct connection *connection)
{
    if (!connection->is_greeted)
        return;
    pthread_mutex_lock(&connection->queue_lock);
    struct event_base *base = connection->moves_to;
    connection->moves_to = NULL;
    pthread_mutex_unlock(&connection->queue_lock);
    if (base == NULL || base == connection->base)
        return;
    pthread_mutex_lock(&connection->lock);
    if (connection->state == CONNECTION_OPEN)
        move_locked(connection, base);
    pthread_mutex_unlock(&connection->lock);
}

static void on_readable(evutil_socket_t fd, short what, void *argument)
{
    (void)what;
    struct connection *connection = argument;
    size_t room = connection->input_capacity - connection->input_size;
    ASSERT(room > 0);
    ssize_t size =
        recv(fd, connection->input + connection->input_size, room, 0);
    int failure = errno;
    if (size > 0) {
        received(connection, (size_t)size);
        loop_flush_due();
    } else if (size == 0 || (failure != EAGAIN && failure != EINTR)) {
        pthread_mutex_lock(&connection->lock);
        connection_fail_locked(connection, size == 0 ? 0 : failure);
        pthread_mutex_unlock(&connection->lock);
    }
    move(connection);
}

void connection_end(struct connection *connection)
{
    struct transport *transport = connection->transport;
    disconnect(connection);
    if (connection->listener != NULL)
        atomic_fetch_sub(&connection->listener->connections, 1);
    void *user;
    (void)still_open(connection, &user);
    count(&transport->counters.closed, 1);
    connection->handlers->closed(connection, user, &connection->why);
    connection_release(connection);
    transport_ended(transport);
}

static void expire_locked(struct connection *connection)
{
    bool dials = connection->state == CONNECTION_DIALING;
    if (dials)
        count(&connection->transport->counters.dial_failed, 1);
    if (dials || connection->state == CONNECTION_HANDSHAKE)
        connection_shut_locked(connection, STATUS_TIMEOUT,
                               dials ? "no connection in time"
                                     : "no handshake in time");
}

/* Its time is up, or somebody activated it: to dial, or to end. */
static void on_timer(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    struct connection *connection = argument;
    /* A loop that was held up finds the deadline over before it dialed. */
    bool starts = connection->dial != NULL && !connection->dial->started;
    bool is_deadline = (what & EV_TIMEOUT) != 0 && !starts;
    pthread_mutex_lock(&connection->lock);
    enum connection_state state = connection->state;
    if (state != CONNECTION_CLOSING && is_deadline)
        expire_locked(connection);
    pthread_mutex_unlock(&connection->lock);
    if (state == CONNECTION_CLOSING) {
        if (dial_stop(connection))
            connection_end(connection);
    } else if (starts) {
        dial_start(connection);
    }
}

/* What another was left to flush leaves before. */
void connection_close(struct connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    if (connection->state == CONNECTION_OPEN && connection->send_busy)
        connection_write_locked(connection);
    connection_flush_locked(connection);
    connection_shut_locked(connection, STATUS_CLOSED, "closed by this side");
    pthread_mutex_unlock(&connection->lock);
}

void connection_move(struct connection *connection, enum loop_kind kind)
{
    pthread_mutex_lock(&connection->queue_lock);
    connection->moves_to = transport_loop(connection->transport, kind);
    pthread_mutex_unlock(&connection->queue_lock);
}

void connection_set_user(struct connection *connection, void *user)
{
    pthread_mutex_lock(&connection->queue_lock);
    connection->user = user;
    pthread_mutex_unlock(&connection->queue_lock);
}

const char *connection_peer(const struct connection *connection)
{
    return connection->peer;
}

size_t connection_queued_bytes(const struct connection *connection)
{
    return atomic_load(&connection->queued);
}
