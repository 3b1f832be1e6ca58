/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_TRANSPORT_H
#define REPLIKV_PROTO_TRANSPORT_H

#include "proto/bytes.h"
#include "proto/status.h"

/* The Scalability Protocols' req/rep mapping over byte streams (tcp:// and
 * ipc:// addresses), so that any nng REQ socket is a client. WIRE.md says why
 * the streams are libevent's and not nng's.
 *
 * One connection carries any number of requests in flight, matched by their
 * 32-bit id. Reads take up to 256 KiB at once and hand every complete frame in
 * it to one callback. Writes are appended to a buffer and leave together when
 * flushed, or, if a write is under way, when it ends: many frames, one system
 * call.
 *
 *   connect ----> HANDSHAKE ----> OPEN ----> CLOSED      (handlers.closed is
 *   or accept         |                        ^          called exactly once,
 *                     +------------------------+          also from HANDSHAKE)
 *
 * Threads: a transport has loops, each a thread, and a connection belongs
 * to one, whose thread makes all of its callbacks: what comes in is read,
 * carried out and answered without another thread being woken. A callback that
 * waits holds up all the connections of its loop. connection_send, _flush and
 * _close may be called from any thread, in callbacks too. Connections are
 * counted references. */

struct transport;
struct listener;
struct connection;

/* One frame: its request id (top bit set, as SP has it) and its payload,
 * borrowed from the read buffer until the callback returns. A request that
 * came through an nng device carries further hops; they are kept and given
 * back by connection_send with the same `hops`. */
struct frame {
    uint32_t id;
    struct bytes hops; /* whole 32-bit words before the id, usually none */
    struct bytes payload;
};

struct transport_handlers {
    /* The SP handshake is done; frames may flow. user is the connection's. */
    void (*opened)(struct connection *connection, void *user);
    /* The frames of one read, at least one; very many come in several calls. */
    void (*frames)(struct connection *connection, void *user,
                   const struct frame *frames, size_t count);
    /* One of size bytes, beyond frame_bytes_max, of whose payload is what
     * happens to be here. It is skipped, and the connection goes on. NULL, or
     * beyond 1 GiB: the connection is closed. */
    void (*oversized)(struct connection *connection, void *user,
                      const struct frame *frame, size_t size);
    /* No further callback for this connection follows; its descriptor is
     * closed. why is a sentence with the address in it: CLOSED when one side
     * hung up, TIMEOUT for dial or handshake. */
    void (*closed)(struct connection *connection, void *user,
                   const struct error *why);
};

struct transport_limits {
    /* Received and longer: counted, skipped or closed; no memory is taken. */
    size_t frame_bytes_max;
    size_t send_bytes_max;  /* longer ones are not sent; 0: as received ones */
    size_t queue_bytes_max; /* unsent bytes of more than one frame */
    size_t connections_max; /* accepted ones, per listener */
    uint32_t handshake_ms;  /* dial and handshake together */
    /* 1: one for everything; otherwise so many common ones, at most 16, and
     * one for each of the other kinds. 0: one a processor. */
    unsigned loops;
};

/* Ever-growing, readable at any time. */
struct transport_counters {
    /* dialed ones got through; closed counts what closed was called for. */
    uint64_t accepted, dialed, dial_failed, closed;
    uint64_t frames_in, frames_out, bytes_in, bytes_out;
    uint64_t oversized, malformed, queue_full, refused_connections;
};

/* limits are copied. */
enum status transport_open(const struct transport_limits *limits,
                           struct transport **transport,
                           struct error *error) MUST_CHECK;
/* Close every listener and connection, wait until their callbacks are over.
 * Not from a callback. References to connections outlive it. */
void transport_close(struct transport *transport);
void transport_counters_read(struct transport *transport,
                             struct transport_counters *counters);

/* Accept on address ("tcp://127.0.0.1:3001", "ipc:///path"). handlers is
 * borrowed until transport_close; user is what callbacks get until
 * connection_set_user changes it. IO with a message that names the address
 * when it is in use or malformed. */
enum status transport_listen(struct transport *transport, const char *address,
                             const struct transport_handlers *handlers,
                             void *user, struct listener **listener,
                             struct error *error) MUST_CHECK;

/* The TCP port that is listened on, so that port 0 can be asked for; 0 for
 * ipc. A listener lives until transport_close. */
int listener_port(const struct listener *listener);

/* Start to dial. The result comes as opened or closed. On OK *connection is a
 * reference the caller releases. */
enum status transport_dial(struct transport *transport, const char *address,
                           const struct transport_handlers *handlers,
                           void *user, struct connection **connection,
                           struct error *error) MUST_CHECK;

/* Append one frame. Copies. Frames sent before `opened` wait for it.
 * OVERLOADED: queue_bytes_max reached, nothing appended; where nothing waits,
 * one frame of any length is taken. CLOSED. TOO_LARGE: beyond send_bytes_max.
 * NO_MEMORY: nothing appended. */
enum status connection_send(struct connection *connection, uint32_t id,
                            struct bytes hops, struct bytes payload) MUST_CHECK;
/* Let what was appended leave. */
void connection_flush(struct connection *connection);
/* The same, but in a callback it may wait until those that are due on its
 * thread are over, so that what is ready together leaves together: for 100 us,
 * as far as loop_flush_due or another flush_soon is called in time, and until
 * the callback returns at most. */
void connection_flush_soon(struct connection *connection);
/* Flush what waits for longer than that. Before something that takes long;
 * outside of a callback there is nothing to do. */
void loop_flush_due(void);

/* Whose callbacks are beside a connection's, and may hold it up. Listeners are
 * express; a connection is common until it is moved. */
enum loop_kind { LOOP_EXPRESS, LOOP_BULK, LOOP_COMMON };

/* In one of its callbacks: a loop of this kind makes those that follow. */
void connection_move(struct connection *connection, enum loop_kind kind);
/* Begin to close, behind what was appended as far as the socket takes it at
 * once; closed follows unless it already did. Idempotent. */
void connection_close(struct connection *connection);

void connection_set_user(struct connection *connection, void *user);
struct connection *connection_retain(struct connection *connection);
void connection_release(struct connection *connection);
/* "tcp://127.0.0.1:40312": of the other side, for logs. */
const char *connection_peer(const struct connection *connection);
size_t connection_queued_bytes(const struct connection *connection);

#endif
