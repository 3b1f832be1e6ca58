/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_TRANSPORT_INTERNAL_H
#define REPLIKV_PROTO_TRANSPORT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include <event2/dns.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "proto/address.h"
#include "proto/sp.h"
#include "proto/transport.h"

/* What connection.c, connection_write.c, dial.c, listener.c, loop.c and
 * transport.c share.
 *
 * A connection belongs to one loop, on whose thread everything that is heard
 * of it happens: its events, the user's callbacks, and at last its end. Other
 * threads append, write what the socket takes at once, and ask for its end by
 * activating its timer. So closed can never run beside another callback of the
 * same connection, and what libevent holds is given back where it is used.
 *
 * Locks, in the order they are taken: a connection's, then its queue_lock or
 * the transport's. Events are added and activated under the connection's, which
 * is safe as libevent calls back without its own. No callback of the user is
 * called under a lock. */

enum {
    COMMON_LOOPS_MAX = 16,
    LOOPS_MAX = LOOP_COMMON + COMMON_LOOPS_MAX,
    /* As many peers and clients share a write; the next are written at once. */
    LOOP_DIRTY_MAX = 64,
    DNS_FILES = 2, /* resolv.conf, hosts */
};

struct loop {
    struct event_base *base;
    struct event *stop;  /* activated, it ends the loop */
    struct event *flush; /* activated, it flushes what is dirty */
    pthread_t thread;
    /* Of the thread alone: what its callbacks flushed, of any transport. */
    struct connection *dirty[LOOP_DIRTY_MAX];
    size_t dirty_count;
    int64_t dirty_since_us;
};

struct transport {
    struct transport_limits limits;
    struct transport_counters counters; /* with __atomic operations */
    /* By kind, the common ones from LOOP_COMMON on; or one for all. The first
     * has the listeners and the resolver. */
    struct loop loops[LOOPS_MAX];
    size_t loop_count;
    atomic_uint next_loop;
    /* Of the first loop's thread. */
    struct evdns_base *dns;           /* NULL until a name is dialed */
    struct stat dns_files[DNS_FILES]; /* as they were read */
    pthread_mutex_t lock;             /* what follows */
    pthread_cond_t changed;
    bool closing;
    struct connection *live; /* until they begin to close */
    size_t unended;          /* connections whose closed is still to come */
    struct listener *listeners;
};

enum connection_state {
    CONNECTION_DIALING,
    CONNECTION_HANDSHAKE,
    CONNECTION_OPEN,
    CONNECTION_CLOSING,
};

/* What is needed until there is a socket that is connected. */
struct dial {
    struct address address;
    struct places places;
    size_t next; /* place to try */
    bool started;
    struct evdns_getaddrinfo_request *lookup;
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
    struct event_base *base;

    pthread_mutex_t lock; /* what follows; held over writes to the socket */
    enum connection_state state;
    struct error why;
    int fd;
    struct event *timer; /* the handshake's deadline; activated, the end */
    struct event *readable;
    struct event *writable; /* added when the socket takes no more */
    struct buffer sending;  /* under way, up to sent already gone */
    size_t sent;
    bool send_busy;
    bool greeting;     /* sending is the handshake, which no limit counts */
    bool flush_wanted; /* before it was open */
    atomic_size_t queued;

    atomic_uint flushes; /* asked for since somebody flushes; 0: nobody does */

    /* Whoever writes may have to give the processor to the reader that this
     * wakes. Who adds to what leaves next, or takes what came in, does not
     * wait for that: what they need is under a lock that is held for a copy
     * at most, and may be taken under the other. */
    pthread_mutex_t queue_lock;
    struct buffer pending; /* leaves with the next write */
    bool is_shut;          /* CLOSING */
    void *user;
    struct event_base *moves_to; /* or NULL */

    /* Of the loop's thread alone. */
    struct dial *dial; /* while DIALING */
    bool is_greeted;   /* the peer's handshake was there: OPEN, or behind it */
    uint8_t *input;
    size_t input_size, input_capacity;
    size_t skipping; /* so much of what comes in is not looked at */
};

struct listener {
    struct transport *transport;
    const struct transport_handlers *handlers;
    void *user;
    struct listener *next;
    struct address address;
    char name[ADDRESS_BYTES_MAX];
    int port;
    struct evconnlistener *acceptor;
    struct event *rest; /* ends the pause after a failed accept */
    atomic_size_t connections;
};

static inline void count(uint64_t *counter, uint64_t more)
{
    __atomic_fetch_add(counter, more, __ATOMIC_RELAXED);
}

/* False, and nothing is held, when there is no memory or thread for it. */
bool loop_start(struct loop *loop);
void loop_stop(struct loop *loop);
void loop_free(struct loop *loop);
/* On a loop's thread: flush it when the callbacks that are due are over. False:
 * it was not put off. */
bool loop_defer_flush(struct connection *connection);

/* Of the common ones, each in turn. */
struct event_base *transport_loop(struct transport *transport,
                                  enum loop_kind kind);

/* NULL when memory is short. Not on any list yet. */
struct connection *connection_new(struct transport *transport,
                                  struct event_base *base,
                                  const struct transport_handlers *handlers,
                                  void *user, const char *peer);
/* Put it on the live list with a reference of the transport's, and let the time
 * for its handshake run. CLOSED when the transport is closing. */
enum status transport_adopt(struct connection *connection) MUST_CHECK;
/* Off the live list. Called under the connection's lock. */
void transport_forget(struct connection *connection);
/* Behind closed. */
void transport_ended(struct transport *transport);
/* A socket that is connected, which it owns from here on: shake hands. The
 * functions named *_locked are called under the connection's lock. */
void connection_begin_locked(struct connection *connection, int fd);
void connection_shut_locked(struct connection *connection, enum status status,
                            const char *what);
/* failure is an errno, or 0 for an end of what is read. */
void connection_fail_locked(struct connection *connection, int failure);

/* connection_write.c: what is in sending leaves, as far as the socket takes it
 * at once; connection_on_writable goes on when it takes more. */
void connection_write_locked(struct connection *connection);
/* Also what is pending, unless the socket takes no more. */
void connection_flush_locked(struct connection *connection);
void connection_on_writable(evutil_socket_t fd, short what, void *connection);
/* On its loop's thread, CLOSING, and nothing of a dial is under way. */
void connection_end(struct connection *connection);

/* On the connection's loop. */
void dial_start(struct connection *connection);
/* False: what dialed still has to hear that it is over, and ends the
 * connection. */
bool dial_stop(struct connection *connection);

void listener_free(struct listener *listener);

#endif
