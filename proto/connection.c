/* SPDX-License-Identifier: MIT */
#include "proto/transport_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"
#include "proto/clock.h"

/* One read takes what a busy peer sent meanwhile: 256 KiB is some thousand
 * small requests for one system call. */
enum { READ_BYTES = 256 * 1024 };
/* Frames handed over in one call, 10 KiB of stack. */
enum { BATCH_FRAMES = 256 };
/* A write buffer that grew beyond this for a burst is given back. */
enum { WRITE_BYTES_KEPT = 256 * 1024 };

static void on_recv(void *argument);
static void on_send(void *argument);

struct connection *connection_new(struct transport *transport,
                                  const struct transport_handlers *handlers,
                                  void *user, const char *peer)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL)
        return NULL;
    atomic_init(&connection->references, 1);
    atomic_init(&connection->queued, 0);
    connection->transport = transport;
    connection->handlers = handlers;
    connection->user = user;
    connection->deadline_ms = clock_now_ms() + transport->limits.handshake_ms;
    snprintf(connection->peer, sizeof(connection->peer), "%s", peer);
    pthread_mutex_init(&connection->lock, NULL);
    if (nng_aio_alloc(&connection->recv_aio, on_recv, connection) != 0 ||
        nng_aio_alloc(&connection->send_aio, on_send, connection) != 0 ||
        nng_aio_alloc(&connection->try_aio, NULL, NULL) != 0) {
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

/* Gives back what is nng's. The aios are stopped, or were never used. */
static void free_streams(struct connection *connection)
{
    if (connection->recv_aio != NULL)
        nng_aio_free(connection->recv_aio);
    if (connection->send_aio != NULL)
        nng_aio_free(connection->send_aio);
    if (connection->try_aio != NULL)
        nng_aio_free(connection->try_aio);
    /* The dialer first: the stream refers to it, so that nng destroys both on
     * its own reaper, behind the lock of its queue. */
    if (connection->dialer != NULL)
        nng_stream_dialer_free(connection->dialer);
    if (connection->stream != NULL)
        nng_stream_free(connection->stream);
    connection->recv_aio = NULL;
    connection->send_aio = NULL;
    connection->try_aio = NULL;
    connection->stream = NULL;
    connection->dialer = NULL;
}

void connection_release(struct connection *connection)
{
    if (connection == NULL || atomic_fetch_sub(&connection->references, 1) != 1)
        return;
    free_streams(connection);
    buffer_fini(&connection->pending);
    buffer_fini(&connection->sending);
    free(connection->input);
    pthread_mutex_destroy(&connection->lock);
    free(connection);
}

/* The functions named *_locked are called under the connection's lock. */

static void shut_locked(struct connection *connection, enum status status,
                        const char *what)
{
    if (connection->state == CONNECTION_CLOSING)
        return;
    connection->state = CONNECTION_CLOSING;
    error_set(&connection->why, status, "%s: %s", connection->peer, what);
    if (connection->stream != NULL)
        nng_stream_close(connection->stream);
    transport_condemn(connection);
}

static void shut(struct connection *connection, enum status status,
                 const char *what)
{
    pthread_mutex_lock(&connection->lock);
    shut_locked(connection, status, what);
    pthread_mutex_unlock(&connection->lock);
}

static void fail_locked(struct connection *connection, int result)
{
    bool hung_up = result == NNG_ECLOSED || result == NNG_ECONNSHUT ||
                   result == NNG_ECONNRESET;
    if (result == NNG_ETIMEDOUT)
        shut_locked(connection, STATUS_TIMEOUT, "no handshake in time");
    else if (hung_up)
        shut_locked(connection, STATUS_CLOSED, "the peer hung up");
    else
        shut_locked(connection, STATUS_IO, nng_strerror(result));
}

/* What is left of sending. */
static void set_rest(struct connection *connection, nng_aio *aio)
{
    nng_iov iov = {.iov_buf = connection->sending.data + connection->sent,
                   .iov_len = connection->sending.size - connection->sent};
    ASSERT(!connection->send_busy && iov.iov_len > 0);
    ASSERT(nng_aio_set_iov(aio, 1, &iov) == 0);
}

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

/* Most writes fit the socket's buffer and are done at once. nng calls back for
 * those, too, on another thread, which costs more than the write; so they are
 * tried with an aio that has no callback, and taken back if they would wait:
 * nng has not written any of it then. */
static int try_send_locked(struct connection *connection)
{
    nng_aio *aio = connection->try_aio;
    set_rest(connection, aio);
    nng_stream_send(connection->stream, aio);
    nng_aio_cancel(aio);
    nng_aio_wait(aio);
    int result = nng_aio_result(aio);
    if (result == 0)
        sent_locked(connection, nng_aio_count(aio));
    return result;
}

/* What is in sending and pending leaves, as far as the socket takes it at
 * once; on_send goes on when it takes more. */
static void send_locked(struct connection *connection)
{
    while (connection->sending.size > 0) {
        int result = try_send_locked(connection);
        if (result == NNG_ECANCELED) {
            set_rest(connection, connection->send_aio);
            connection->send_busy = true;
            nng_stream_send(connection->stream, connection->send_aio);
            return;
        }
        if (result != 0) {
            fail_locked(connection, result);
            return;
        }
    }
}

static void flush_locked(struct connection *connection)
{
    if (connection->state < CONNECTION_OPEN)
        connection->flush_wanted = true;
    if (connection->state != CONNECTION_OPEN || connection->send_busy ||
        connection->pending.size == 0)
        return;
    struct buffer empty = connection->sending;
    connection->sending = connection->pending;
    connection->pending = empty;
    send_locked(connection);
}

static void on_send(void *argument)
{
    struct connection *connection = argument;
    int result = nng_aio_result(connection->send_aio);
    pthread_mutex_lock(&connection->lock);
    connection->send_busy = false;
    if (result != 0)
        fail_locked(connection, result);
    if (result == 0 && connection->state != CONNECTION_CLOSING) {
        sent_locked(connection, nng_aio_count(connection->send_aio));
        send_locked(connection);
    }
    if (connection->state == CONNECTION_OPEN)
        flush_locked(connection);
    pthread_mutex_unlock(&connection->lock);
}

static void recv_locked(struct connection *connection)
{
    if (connection->state == CONNECTION_CLOSING)
        return;
    nng_duration timeout = NNG_DURATION_INFINITE;
    if (connection->state == CONNECTION_HANDSHAKE) {
        int64_t left = connection->deadline_ms - clock_now_ms();
        timeout = left < 1 ? 1 : (nng_duration)left;
    }
    nng_iov iov = {.iov_buf = connection->input + connection->input_size,
                   .iov_len =
                       connection->input_capacity - connection->input_size};
    ASSERT(iov.iov_len > 0);
    nng_aio_set_timeout(connection->recv_aio, timeout);
    ASSERT(nng_aio_set_iov(connection->recv_aio, 1, &iov) == 0);
    nng_stream_recv(connection->stream, connection->recv_aio);
}

static void begin_handshake_locked(struct connection *connection)
{
    uint8_t handshake[SP_HANDSHAKE_BYTES];
    sp_handshake(connection->protocol, handshake);
    connection->state = CONNECTION_HANDSHAKE;
    connection->input = malloc(READ_BYTES);
    if (connection->input == NULL ||
        buffer_append(&connection->sending,
                      bytes_of(handshake, sizeof(handshake))) != STATUS_OK) {
        shut_locked(connection, STATUS_NO_MEMORY, "no memory for buffers");
        return;
    }
    connection->input_capacity = READ_BYTES;
    connection->greeting = true;
    send_locked(connection);
    recv_locked(connection);
}

void connection_accepted(struct connection *connection, nng_stream *stream)
{
    pthread_mutex_lock(&connection->lock);
    connection->stream = stream;
    begin_handshake_locked(connection);
    pthread_mutex_unlock(&connection->lock);
}

void connection_reject(struct connection *connection, nng_stream *stream)
{
    pthread_mutex_lock(&connection->lock);
    connection->stream = stream;
    connection->handlers = NULL;
    shut_locked(connection, STATUS_OVERLOADED, "too many connections");
    pthread_mutex_unlock(&connection->lock);
}

static void dialed(struct connection *connection, int result)
{
    struct transport_counters *counters = &connection->transport->counters;
    pthread_mutex_lock(&connection->lock);
    if (result == 0) {
        /* Kept when it is closing already, too: the reaper frees it. */
        connection->stream = nng_aio_get_output(connection->recv_aio, 0);
        count(&counters->dialed, 1);
        if (connection->state == CONNECTION_DIALING)
            begin_handshake_locked(connection);
    } else {
        count(&counters->dial_failed, 1);
        if (result == NNG_ETIMEDOUT)
            shut_locked(connection, STATUS_TIMEOUT, "no connection in time");
        else
            shut_locked(connection, STATUS_IO, nng_strerror(result));
    }
    pthread_mutex_unlock(&connection->lock);
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
    void *user = connection->user;
    if (open) {
        connection->state = CONNECTION_OPEN;
        if (connection->flush_wanted)
            flush_locked(connection);
    }
    pthread_mutex_unlock(&connection->lock);
    if (open)
        connection->handlers->opened(connection, user);
    return open;
}

static bool still_open(struct connection *connection, void **user)
{
    pthread_mutex_lock(&connection->lock);
    bool open = connection->state == CONNECTION_OPEN;
    *user = connection->user;
    pthread_mutex_unlock(&connection->lock);
    return open;
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
            return SP_MORE;
        count(&transport->counters.frames_in, frame_count);
        if (frame_count > 0)
            connection->handlers->frames(connection, user, frames, frame_count);
    }
    return result;
}

/* Move what is left to the front, with room for the frame it begins and no
 * more than a read's worth beyond. */
static bool make_room(struct connection *connection, size_t at, size_t frame)
{
    size_t left = connection->input_size - at;
    if (at > 0)
        memmove(connection->input, connection->input + at, left);
    connection->input_size = left;
    size_t capacity = frame > READ_BYTES ? frame : READ_BYTES;
    if (capacity == connection->input_capacity)
        return true;
    uint8_t *input = realloc(connection->input, capacity);
    if (input == NULL) {
        shut(connection, STATUS_NO_MEMORY, "no memory for a frame");
        return false;
    }
    connection->input = input;
    connection->input_capacity = capacity;
    return true;
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
    size_t at = 0;
    size_t frame_size = 0;
    /* Only this callback leaves HANDSHAKE for OPEN. */
    pthread_mutex_lock(&connection->lock);
    bool handshake = connection->state == CONNECTION_HANDSHAKE;
    pthread_mutex_unlock(&connection->lock);
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
    if (!make_room(connection, at, frame_size))
        return;
    pthread_mutex_lock(&connection->lock);
    recv_locked(connection);
    pthread_mutex_unlock(&connection->lock);
}

static void on_recv(void *argument)
{
    struct connection *connection = argument;
    int result = nng_aio_result(connection->recv_aio);
    pthread_mutex_lock(&connection->lock);
    bool was_dial = connection->stream == NULL;
    bool closing = connection->state == CONNECTION_CLOSING;
    if (!was_dial && result != 0)
        fail_locked(connection, result);
    pthread_mutex_unlock(&connection->lock);
    if (was_dial)
        dialed(connection, result);
    else if (result == 0 && !closing)
        received(connection, nng_aio_count(connection->recv_aio));
}

/* On the reaper thread, where waiting for callbacks harms nobody. */
void connection_reap(struct connection *connection)
{
    if (connection->dialer != NULL)
        nng_stream_dialer_close(connection->dialer);
    nng_aio_stop(connection->recv_aio);
    nng_aio_stop(connection->send_aio);
    free_streams(connection);
    if (connection->listener != NULL)
        listener_forget_connection(connection->listener);
    if (connection->handlers == NULL)
        return;
    pthread_mutex_lock(&connection->lock);
    void *user = connection->user;
    pthread_mutex_unlock(&connection->lock);
    count(&connection->transport->counters.closed, 1);
    connection->handlers->closed(connection, user, &connection->why);
}

enum status transport_dial(struct transport *transport, const char *address,
                           const struct transport_handlers *handlers,
                           void *user, struct connection **out,
                           struct error *error)
{
    enum sp_framing framing;
    enum status status = address_framing(address, &framing, error);
    if (status != STATUS_OK)
        return status;
    struct connection *connection =
        connection_new(transport, handlers, user, address);
    if (connection == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to dial %s",
                         address);
    connection->protocol = SP_REQ;
    connection->framing = framing;
    int result = nng_stream_dialer_alloc(&connection->dialer, address);
    if (result != 0) {
        connection_release(connection);
        return error_set(error, STATUS_IO, "cannot dial %s: %s", address,
                         nng_strerror(result));
    }
    /* As of what is accepted: what is written leaves at once. */
    if (framing == SP_TCP)
        (void)nng_stream_dialer_set_bool(connection->dialer,
                                         NNG_OPT_TCP_NODELAY, true);
    pthread_mutex_lock(&connection->lock);
    status = transport_adopt(connection);
    if (status == STATUS_OK) {
        *out = connection;
        nng_aio_set_timeout(connection->recv_aio,
                            (nng_duration)transport->limits.handshake_ms);
        nng_stream_dialer_dial(connection->dialer, connection->recv_aio);
    }
    pthread_mutex_unlock(&connection->lock);
    if (status != STATUS_OK) {
        connection_release(connection);
        return error_set(error, status, "cannot dial %s: the transport closes",
                         address);
    }
    return STATUS_OK;
}

enum status connection_send(struct connection *connection, uint32_t id,
                            struct bytes hops, struct bytes payload)
{
    const struct frame frame = {.id = id, .hops = hops, .payload = payload};
    size_t size = sp_frame_size(connection->framing, hops, payload);
    pthread_mutex_lock(&connection->lock);
    size_t queued = atomic_load(&connection->queued);
    enum status status;
    if (connection->state == CONNECTION_CLOSING) {
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
    pthread_mutex_unlock(&connection->lock);
    return status;
}

void connection_flush(struct connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    flush_locked(connection);
    pthread_mutex_unlock(&connection->lock);
}

void connection_close(struct connection *connection)
{
    shut(connection, STATUS_CLOSED, "closed by this side");
}

void connection_set_user(struct connection *connection, void *user)
{
    pthread_mutex_lock(&connection->lock);
    connection->user = user;
    pthread_mutex_unlock(&connection->lock);
}

const char *connection_peer(const struct connection *connection)
{
    return connection->peer;
}

size_t connection_queued_bytes(const struct connection *connection)
{
    return atomic_load(&connection->queued);
}
