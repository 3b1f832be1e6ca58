/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_PROTO_TRANSPORT_FIXTURE_H
#define REPLIKV_TESTS_PROTO_TRANSPORT_FIXTURE_H

#include <pthread.h>
#include <stdbool.h>

#include "proto/transport.h"

/* What one side's callbacks saw, and a way to wait for it. A probe is the user
 * of every connection of its side. */
struct probe {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t opened, closed, frames;
    size_t bad;            /* payloads that are not the one expected */
    struct bytes expected; /* of every frame; size 0: anything goes */
    size_t resend;         /* so many replies are answered by a request */
    struct error why;      /* of the last one closed */
    char last[64];         /* beginning of the last payload */
};

enum { ID_TOP_BIT = 1u << 31 };

void probe_init(struct probe *probe);
void probe_fini(struct probe *probe);
/* Until *what, a counter of the probe's, is at least count. */
void probe_wait(struct probe *probe, const size_t *what, size_t count);
size_t probe_read(struct probe *probe, const size_t *what);

/* Answers every frame with itself. */
extern const struct transport_handlers echo_handlers;
/* Counts, and sends again while resend lasts. */
extern const struct transport_handlers client_handlers;

extern const struct transport_limits test_limits;

/* A server on address (port 0 allowed) with a client transport beside it. */
struct pair {
    struct probe server_probe, client_probe;
    struct transport *server, *client;
    struct listener *listener;
    char address[160]; /* with the real port */
};

void pair_open(struct pair *pair, const char *address,
               const struct transport_limits *server_limits);
void pair_close(struct pair *pair);
struct connection *pair_dial(struct pair *pair);

void send_one(struct connection *connection, uint32_t number, const char *text);
/* A directory of our own and an ipc address in it. */
void ipc_address(char *directory, size_t directory_size, char *address,
                 size_t address_size);

#endif
