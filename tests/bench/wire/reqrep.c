/* SPDX-License-Identifier: MIT */
#include <nng/nng.h>

#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/wire/wire.h"

/* Each context, at both ends, sends what it received. */
struct context {
    nng_ctx context;
    nng_aio *aio;
    bool sending;
    struct tally *tally; /* the client's, under the lock; else NULL */
};

/* Of the one tally that the callbacks of all contexts share. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void must(int result, const char *what)
{
    if (result != 0)
        wire_fail("%s: %s", what, nng_strerror(result));
}

static void on_done(void *argument)
{
    struct context *context = argument;
    must(nng_aio_result(context->aio), "req/rep");
    context->sending = !context->sending;
    if (!context->sending) {
        nng_ctx_recv(context->context, context->aio);
        return;
    }
    if (context->tally != NULL) {
        nng_msg *message = nng_aio_get_msg(context->aio);
        pthread_mutex_lock(&lock);
        frames_record(nng_msg_body(message), nng_msg_len(message),
                      context->tally);
        pthread_mutex_unlock(&lock);
    }
    nng_ctx_send(context->context, context->aio);
}

static struct context *new_context(nng_socket socket, struct tally *tally)
{
    struct context *context = calloc(1, sizeof *context);
    if (context == NULL)
        wire_fail("no memory");
    context->tally = tally;
    must(nng_ctx_open(&context->context, socket), "no context");
    must(nng_aio_alloc(&context->aio, on_done, context), "no aio");
    return context;
}

/* Until it is killed. */
void reqrep_serve(struct run *run, unsigned server)
{
    nng_socket socket;
    nng_listener listener;
    int port;
    must(nng_rep0_open(&socket), "no socket");
    for (unsigned i = 0; i < run->in_flight; i++) {
        struct context *context = new_context(socket, NULL);
        nng_ctx_recv(context->context, context->aio);
    }
    must(nng_listen(socket, "tcp://127.0.0.1:0", &listener, 0),
         "cannot listen");
    must(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port),
         "no port");
    run_publish(run, server, port);
    pause();
}

static void send_first(struct context *context, unsigned bytes)
{
    struct head head = {.bytes = bytes, .started_ns = wire_now_ns()};
    nng_msg *message;
    must(nng_msg_alloc(&message, bytes), "no memory");
    memset(nng_msg_body(message), 0, bytes);
    memcpy(nng_msg_body(message), &head, sizeof head);
    nng_aio_set_msg(context->aio, message);
    context->sending = true;
    nng_ctx_send(context->context, context->aio);
}

void reqrep_ask(struct run *run)
{
    nng_socket socket;
    char address[64];
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", run_port(run, 0));
    must(nng_req0_open(&socket), "no socket");
    must(nng_dial(socket, address, NULL, 0), address);
    run_begin(run);
    for (unsigned i = 0; i < run->in_flight; i++)
        send_first(new_context(socket, &run->tallies[0]), run->frame_bytes);
    uint64_t now = wire_now_ns();
    uint64_t left = run->tallies[0].end_ns - now;
    nanosleep(&(struct timespec){.tv_sec = (time_t)(left / 1000000000),
                                 .tv_nsec = (long)(left % 1000000000)},
              NULL);
    pthread_mutex_lock(&lock); /* and end with it */
}
