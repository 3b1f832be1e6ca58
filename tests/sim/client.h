/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_CLIENT_H
#define REPLIKV_TESTS_SIM_CLIENT_H

#include "checks.h"
#include "proto/envelope.h"

/* Clients that read, write, delete and read before they write, on a few hot
 * keys, through any node; that lose patience and send the same request again
 * through another one. */

struct sim;
struct host;

enum client_task { TASK_NONE, TASK_READ, TASK_WRITE, TASK_ADMIN };

/* One sending of a request to one node. */
struct attempt {
    bool used, is_delivered;
    enum client_task task;
    uint32_t generation;
    uint32_t client, operation;
    uint32_t write, need; /* of the client, then */
    uint32_t host;
    struct buffer request, reply;
};

/* What a client knows of a key. */
struct knowledge {
    struct buffer context;
    struct write_set seen;
    int64_t learnt_us;
};

struct client {
    uint32_t index;
    uint32_t generation; /* of its timer */
    uint32_t operation;
    enum client_task task;
    uint32_t key;
    uint32_t need;           /* replicas that the level means */
    struct read_floor floor; /* READ: when it began */
    struct read_floor seen;  /* READ: what its context names */
    /* WRITE */
    uint32_t write;
    struct buffer request; /* packed, sent again as it is */
    bool maybe;            /* some attempt may have done something */
    uint32_t attempts, attempts_max;
    struct knowledge knowledge[KEYS_MAX];
    bool is_checker; /* reads all, after healing */
    bool is_mistake; /* ADMIN: a write that can only be refused */
};

enum { ATTEMPTS_MAX = 512, CLIENTS_MAX = 6 };

void client_fini(struct client *client);
/* The client's timer. */
void client_wake(struct sim *sim, struct client *client);
void client_wake_in(struct sim *sim, struct client *client, int64_t in_us);
/* A reply to its operation; NULL: the connection failed, before or after the
 * request was delivered. */
void client_hear(struct sim *sim, struct client *client, bool is_delivered,
                 const Rkv__Envelope *envelope);
/* What a reply says of its level is what the client asked for. */
void client_check_counts(struct sim *sim, uint32_t need,
                         const Rkv__Result *result);

/* Send the client's request through some node. */
void attempt_send(struct sim *sim, struct client *client);
/* An attempt reaches its node. */
void attempt_arrive(struct sim *sim, struct attempt *attempt);
/* The node answered: it is on its way to the client. */
void attempt_answer(struct sim *sim, uint32_t attempt, uint32_t generation,
                    const Rkv__Envelope *envelope);
/* The reply, or without one the news that the connection ended. */
void attempt_return(struct sim *sim, struct attempt *attempt);
/* All requests and answers on their way are lost, and nobody tries again. */
void attempts_night(struct sim *sim);
/* The host's process ended: its clients see their connections close. */
void attempts_host_gone(struct sim *sim, uint32_t host);

#endif
