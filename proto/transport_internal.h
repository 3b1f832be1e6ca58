/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_TRANSPORT_INTERNAL_H
#define REPLIKV_PROTO_TRANSPORT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <nng/nng.h>

#include "proto/sp.h"
#include "proto/transport.h"

/* What connection.c, listener.c and transport.c share.
 *
 * A connection is on the transport's live list until it begins to close, then
 * on the reaper's queue, then nowhere. The reaper stops its aios (which waits
 * for their callbacks), frees what is nng's, and calls closed. So closed can
 * never run beside another callback of the same connection.
 *
 * Locks, in the order they are taken: a connection's, a listener's, the
 * transport's. nng_stream_send and _recv are called under the connection's:
 * nng calls back for recv_aio and send_aio on its own threads, never inside the
 * call, and for try_aio not at all. The lock is what keeps the reaper from
 * freeing the stream meanwhile: after a send that failed nothing of nng's is
 * touched. No callback of the user is called under a lock. */

enum { ADDRESS_BYTES_MAX = 160 };

struct transport {
    struct transport_limits limits;
    struct transport_counters counters; /* with __atomic operations */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closing;
    bool reaper_stops;
    size_t unreaped; /* connections that are on either list, or in between */
    struct connection *live;
    struct connection *dead; /* newest first; the reaper turns it around */
    struct listener *listeners;
    pthread_t reaper;
};

enum connection_state {
    CONNECTION_DIALING,
    CONNECTION_HANDSHAKE,
    CONNECTION_OPEN,
    CONNECTION_CLOSING,
};

struct connection {
    atomic_uint references;
    struct transport *transport; /* not looked at once closed was called */
    const struct transport_handlers *handlers;
    struct listener *listener; /* that accepted it, or NULL */
    struct connection *previous, *next;
    enum sp_protocol protocol;
    enum sp_framing framing;
    char peer[ADDRESS_BYTES_MAX];
    int64_t deadline_ms; /* of dial and handshake, monotonic */

    pthread_mutex_t lock; /* what follows */
    enum connection_state state;
    void *user;
    struct error why;
    nng_stream_dialer *dialer;
    nng_stream *stream;
    nng_aio *recv_aio; /* the dial's, too */
    nng_aio *send_aio;
    nng_aio *try_aio;      /* for writes that are done at once */
    struct buffer pending; /* leaves with the next write */
    struct buffer sending; /* under way, up to sent already gone */
    size_t sent;
    bool send_busy;
    bool greeting;     /* sending is the handshake, which no limit counts */
    bool flush_wanted; /* before it was open */
    atomic_size_t queued;

    /* Of the receive callback alone. */
    uint8_t *input;
    size_t input_size, input_capacity;
};

struct listener {
    struct transport *transport;
    const struct transport_handlers *handlers;
    void *user;
    struct listener *next;
    enum sp_framing framing;
    char address[ADDRESS_BYTES_MAX];
    int port;
    nng_stream_listener *stream_listener;
    nng_aio *aio;
    pthread_mutex_t lock; /* what follows */
    bool closing;
    bool resting; /* the aio sleeps after a failed accept */
    size_t connections;
};

static inline void count(uint64_t *counter, uint64_t more)
{
    __atomic_fetch_add(counter, more, __ATOMIC_RELAXED);
}

/* NULL when memory is short. Not on any list yet. */
struct connection *connection_new(struct transport *transport,
                                  const struct transport_handlers *handlers,
                                  void *user, const char *peer);
/* Put it on the live list with a reference of the transport's. CLOSED when the
 * transport is closing. */
enum status transport_adopt(struct connection *connection) MUST_CHECK;
/* From the live list to the reaper. Called under the connection's lock. */
void transport_condemn(struct connection *connection);
void connection_accepted(struct connection *connection, nng_stream *stream);
/* Give it to the reaper unheard: the user is never told of it. */
void connection_reject(struct connection *connection, nng_stream *stream);
void connection_reap(struct connection *connection);
void listener_close(struct listener *listener);
void listener_free(struct listener *listener);
void listener_forget_connection(struct listener *listener);
/* IO unless tcp:// or ipc:// and short enough to name in messages. */
enum status address_framing(const char *address, enum sp_framing *framing,
                            struct error *error) MUST_CHECK;

#endif
