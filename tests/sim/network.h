/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_NETWORK_H
#define REPLIKV_TESTS_SIM_NETWORK_H

#include "proto/outbox.h"

/* The connections between nodes, which promise what the lanes promise: one
 * session at a time for each dialer, listener and lane, in order, Hello first
 * and requests right behind it. When a session ends, what is in flight is
 * lost, or what was on its way to the listener still arrives although nobody
 * waits for the answer; the dialer is told of each request that none will
 * come. A cut direction holds frames up until it heals or the dialer loses
 * its patience. */

enum { HOSTS_MAX = 5 };

struct sim;
struct host;

enum frame_kind { FRAME_HELLO, FRAME_HELLO_REPLY, FRAME_REQUEST, FRAME_REPLY };

struct frame {
    struct frame *next;
    enum frame_kind kind;
    uint32_t number;
    int64_t ready_us;
    struct buffer bytes;
};

enum direction { DIRECTION_THERE, DIRECTION_BACK, DIRECTION_COUNT };

struct pipe {
    struct frame *first, *last;
    int64_t last_us; /* when the newest frame is ready: none overtakes it */
    bool scheduled;
};

struct pending {
    uint32_t number;
    uint64_t request; /* 0: answered */
};

struct session {
    bool used;
    uint32_t generation;
    uint32_t dialer, listener;
    enum lane lane;
    uint32_t dialer_life, listener_life;
    bool is_met;       /* the first frame has reached the listener */
    bool is_accepted;  /* the listener said OK */
    bool is_up;        /* so did the dialer, of the listener */
    bool is_abandoned; /* the dialer is gone: nobody waits any more */
    int64_t heard_us;  /* by the dialer; or its first request after none */
    struct node_id peer;
    struct pipe pipes[DIRECTION_COUNT];
    struct pending *pending;
    size_t pending_count, pending_capacity, awaited;
    uint32_t number;
};

struct no_reply {
    bool used;
    uint64_t request;
    struct node_id from;
};

enum { SESSIONS_MAX = 1024 };

struct network {
    struct session sessions[SESSIONS_MAX];
    size_t high;
    uint64_t dialled; /* so far: the sessions' numbers */
    uint32_t current[HOSTS_MAX][HOSTS_MAX][LANE_COUNT]; /* index + 1 */
    bool cut[HOSTS_MAX][HOSTS_MAX];
    /* Microseconds that are added to every frame of a clogged lane. */
    int64_t clogged_us[HOSTS_MAX][HOSTS_MAX][LANE_COUNT];
    struct no_reply *no_replies;
    size_t no_reply_count, no_reply_capacity;
};

void network_fini(struct network *network);
/* A request of the host's node. */
void network_request(struct sim *sim, struct host *host,
                     const struct message_out *message);
/* A reply to a request that came by a session. */
void network_reply(struct sim *sim, uint32_t session, uint32_t generation,
                   uint32_t number, const Rkv__Envelope *envelope);
/* The process of the host ended. */
void network_host_gone(struct sim *sim, struct host *host);
/* Close what is silent with requests outstanding. */
void network_tick(struct sim *sim, struct host *host);
/* End one session; what is in flight is lost. */
void network_reset(struct sim *sim, uint32_t session);
/* All stand still for longer than a write may be under way: sessions that carry
 * one to another coordinator end, and some of the others; what is on its way on
 * the rest may be late. */
void network_night(struct sim *sim);

/* For delivery.c. The dialer waits no more: with tell, its node hears so; what
 * is on its way to the listener is lost or may still arrive. */
void network_abandon(struct sim *sim, struct session *session, bool tell,
                     int64_t in_us, bool lose);
void network_give_back(struct network *network, struct session *session);
void network_frame_free(struct frame *frame);
uint32_t network_index(const struct network *network,
                       const struct session *session);

/* The moments of the network. */
void network_deliver(struct sim *sim, uint32_t session, uint32_t generation,
                     enum direction direction);
void network_no_reply(struct sim *sim, struct host *host, size_t entry);

#endif
