/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_SERVER_INTERNAL_H
#define REPLIKV_PROXY_SERVER_INTERNAL_H

#include <pthread.h>

#include "proto/transport.h"
#include "proxy/batches.h"
#include "proxy/links.h"
#include "proxy/recorder.h"
#include "proxy/server.h"
#include "proxy/sessions.h"
#include "proxy/storage.h"

/* What the parts of the server share:
 *
 *   server.c       open, tick, close         sessions.c  accepted connections
 *   server_disk.c  open it, who it is        batches.c   many requests in one
 *   server_node.c  make the node             links.c     connections to nodes
 *   turn.c         step it, carry out
 *
 * The lock guards the node, the effects, sessions, links and what follows
 * them. It is taken before any connection's lock, and never held while a
 * socket is written, an engine is asked, or a callback is made. */

enum edge_counter {
    EDGE_FRAMES_MALFORMED,  /* not an envelope; answered INVALID */
    EDGE_REPLIES_DROPPED,   /* whoever asked is gone, or does not read */
    EDGE_REPLIES_TOO_LARGE, /* beyond a limit; answered TOO_LARGE, or short */
    EDGE_REQUESTS_UNSENT,   /* no connection, or its queue is full */
    EDGE_HELLOS_LATE,       /* accepted, but did not say who it is in time */
    EDGE_LANES_SILENT,      /* closed after lane_timeout_ms of silence */
    EDGE_SESSIONS_STALLED,  /* closed, as no less waited for as long */
    EDGE_BATCHES,           /* taken apart */
    EDGE_BATCHES_REFUSED,   /* as a whole */
    EDGE_COUNTER_COUNT
};

/* A read that a turn runs itself: a copy of the operation with what it points
 * to, and what came of it. */
struct turn_read {
    struct storage_op op;
    struct storage_result result;
    struct buffer value;
    struct buffer data; /* of a SCAN */
    uint8_t key[KEY_BYTES_MAX];
    uint8_t after[ENGINE_KEY_BYTES_MAX];
};

/* One thread's way through the server, from the events it brings to the last
 * of their consequences that it can carry out itself. Reused. */
struct turn {
    struct turn *next;
    int64_t now_us, now_ms, wall_ms;
    struct arena messages; /* unpacked frames */
    struct turn_read **reads;
    size_t read_count, read_capacity;
    /* Connections with something to flush; each a reference. */
    struct connection **dirty;
    size_t dirty_count, dirty_capacity;
    bool has_writes; /* submitted, and storage_run is still to come */
    size_t steps;    /* since the lock was taken */
};

/* A request of ours that will not be answered, to be told the node. */
struct late {
    uint64_t request;
    struct node_id from;
};

struct server {
    struct config *config;
    struct storage *storage;
    struct transport *client_transport, *peer_transport;
    struct listener *client_listener, *peer_listener;
    pthread_mutex_t lock;
    struct node *node;
    struct recorder recorder;
    bool watched;        /* crash_watch */
    int64_t recorded_ms; /* a recording was sent */
    struct effects effects;
    struct sessions sessions;
    struct batches batches;
    size_t request_bytes_max, reply_bytes_max; /* of a client's frames */
    struct links links;
    struct buffer packed;
    bool has_lost_results; /* of the storage, for lack of memory */
    struct late *late;
    size_t late_count, late_capacity;
    uint64_t counters[EDGE_COUNTER_COUNT];
    int64_t now_ms; /* of the turn that has the lock */
    bool closing;
    char halted[320]; /* set once, before is_halted */
    bool is_halted;

    pthread_mutex_t turns_lock; /* what follows; no other is taken under it */
    struct turn *turns;         /* free ones */
};

/* --- server_disk.c --- */

/* Open the engine that the config names on its directory, which is made; under
 * replace what was used before is set aside, and the disk is amnesiac. */
enum status server_open_storage(struct server *server,
                                const struct server_options *options,
                                bool *amnesiac, struct error *error) MUST_CHECK;
/* Which disk it is and how often it was started, this time counted; whether its
 * hash trees are true, which they are for this start alone. */
enum status server_read_disk(struct server *server, struct node_config *config,
                             struct error *error) MUST_CHECK;
/* They are recorded, too. */
void server_restore_trees(struct server *server);
/* Nothing is written behind them. Without them the next start reads all that is
 * stored, in the background. */
void server_save_trees(struct server *server);
/* From the system's randomness. */
enum status server_draw(void *bytes, size_t size,
                        struct error *error) MUST_CHECK;

/* --- turn.c --- */

/* Frames of one turn: enough to share a lock and a flush, few enough that a
 * flood from one peer does not keep the others waiting. A batch counts as its
 * requests: a turn pauses once it has made so many steps. */
enum { FRAMES_A_TURN = 64, FRAME_BYTES_A_TURN = 1 << 20 };

/* How many of the frames, at least one, make a turn. */
size_t turn_frames(const struct frame *frames, size_t count);
/* Decode them into the turn, which is not locked yet. A message is NULL when
 * its frame is malformed: then its error says how. */
void turn_unpack(struct turn *turn, const struct frame *frames, size_t count,
                 const Rkv__Envelope **messages, struct error *errors);

/* A turn to decode messages in, before the lock; NULL when memory is short. */
struct turn *turn_take(struct server *server);
/* Take the lock and the time. */
void turn_lock(struct server *server, struct turn *turn);
/* Both; NULL, and no lock, when memory is short. */
struct turn *turn_begin(struct server *server);
/* Let the node take one step; event's times are filled in. What the event
 * borrows must live until turn_settle or turn_end. True: close the connection
 * that it came by. */
bool turn_step(struct server *server, struct turn *turn, struct event *event);
/* Carry out what the steps so far asked for, as far as the lock allows. */
void turn_settle(struct server *server, struct turn *turn);
/* Settle, let go of the lock, flush, run reads and what comes of them; then
 * take the lock again. Others may have had it. */
void turn_pause(struct server *server, struct turn *turn);
/* The same but for the lock, and give the turn back. */
void turn_end(struct server *server, struct turn *turn);
/* Flush the connection at the end of the turn. */
void turn_flush(struct turn *turn, struct connection *connection);
/* Tell the node soon that no reply will come. */
void server_no_reply(struct server *server, uint64_t request,
                     struct node_id from);
void turns_free(struct server *server);

/* The storage's handlers; user is the server. */
extern const struct storage_handlers server_storage_handlers;

/* --- server_node.c --- */

/* On the disk that is open, recorded from here on. */
enum status server_make_node(struct server *server,
                             const struct server_options *options,
                             bool amnesiac, struct error *error) MUST_CHECK;
/* Answer with the node's recording, once a second at most: it is copied under
 * the lock, 28 ms of the largest. */
void server_send_recording(struct server *server, struct turn *turn,
                           struct reply_token token);

/* --- server.c --- */

/* Add what the edges count to the node's own answer. */
void server_add_counters(struct server *server, Rkv__AdminReply *reply,
                         struct arena *arena);

#endif
