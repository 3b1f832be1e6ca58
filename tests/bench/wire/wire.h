/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_BENCH_WIRE_WIRE_H
#define REPLIKV_TESTS_BENCH_WIRE_WIRE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <nng/nng.h>

#include "proto/bytes.h"
#include "proxy/cli/histogram.h"

/* What this machine gives to a replicated store at best, piece by piece: the
 * kernel's sockets, nng's streams and sockets, the disk, and all that a quorum
 * put moves and syncs, with nothing decided, decoded or stored.
 *
 *   parent --fork--> servers   publish their ports, then serve until killed
 *          --fork--> client    measures into the shared memory, ends
 *
 * The parent waits for the client and kills the servers by their pids. Only
 * the children use nng, which does not survive a fork. Every child dies with
 * its parent, and of an alarm when it takes too long, so nothing here needs a
 * deadline of its own. What fails in a child says so and ends it. */

enum {
    NODES = 3,
    /* As much as a connection of replikv reads at once. */
    READ_BYTES = 256 * 1024,
    /* Of an echo: 64 in flight are then at most 64 KiB, which the buffers of
     * a socket take, so that both ends can never wait to write. */
    FRAME_BYTES_MAX = 1024,
    /* A node's file, written from the start again when it is full. */
    FILE_BYTES = 8 << 20,
    PUTS_MAX = 192,
};

/* Begins every frame; filler up to `bytes` follows. */
struct head {
    uint32_t bytes; /* of the frame, with its head */
    uint8_t kind;   /* of the skeleton alone, as are from and slot */
    uint8_t from;   /* node that coordinates it; NODES for the client */
    uint16_t slot;  /* the client's, of those in flight */
    uint64_t started_ns;
};

/* Latencies of one client thread; what ends outside of begin to end counts
 * for nothing. */
struct tally {
    uint64_t begin_ns, end_ns;
    struct histogram latency;
};

/* One measurement, once; in memory that its processes share. */
struct run {
    unsigned in_flight, frame_bytes;
    bool disk; /* else nodes answer without it */
    uint64_t length_ns;
    int files[NODES]; /* FILE_BYTES each, written before */
    atomic_int ports[NODES];
    struct tally tallies[NODES];
};

/* --- wire_bench.c --- */

uint64_t wire_now_ns(void);
/* Say why, and end this process. */
_Noreturn void wire_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* --- process.c --- */

/* Run serve(run, i) in servers processes and ask(run) in another one, until
 * that ends. False: it failed, and said why. No process is left. */
bool run_processes(struct run *run, unsigned servers,
                   void (*serve)(struct run *, unsigned),
                   void (*ask)(struct run *));
/* For a server: the others can connect from here on. */
void run_publish(struct run *run, unsigned server, int port);
/* Wait until a server can be connected to. */
int run_port(struct run *run, unsigned server);
/* The client is ready: what ends from a tenth of the length on is counted. */
void run_begin(struct run *run);
void tally_record(struct tally *tally, uint64_t started_ns, uint64_t now_ns);
/* Bytes of the whole frames that data begins with. */
size_t frames_whole(const uint8_t *data, size_t size);
/* A client's answers are its next requests: record each whole frame and stamp
 * it anew. */
void frames_record(uint8_t *data, size_t size, struct tally *tally);

/* --- link.c --- */

/* An nng stream without callbacks: a thread that waits for nng_aio_wait. What
 * can be read or written at once then costs no hand-off to another thread. One
 * thread reads; any thread pushes and flushes. */
struct link {
    nng_stream *stream;
    nng_aio *reads, *writes;
    uint8_t *in;
    size_t in_bytes;
    pthread_mutex_t lock; /* of what follows, and of writes */
    struct buffer out;
};

nng_stream_listener *link_listen(int *port);
struct link *link_accept(nng_stream_listener *listener);
struct link *link_dial(int port);
/* Append what is there to in, or wait for something. False, here and below:
 * the other end is gone. */
bool link_read(struct link *link);
/* Forget the first bytes of in. */
void link_drop(struct link *link, size_t bytes);
bool link_write(struct link *link, const uint8_t *data, size_t size);
/* Append a frame, with filler behind its head. */
void frame_append(struct buffer *buffer, const struct head *head);
/* The same to out. */
void link_push(struct link *link, const struct head *head);
/* Write all of out. */
bool link_flush(struct link *link);

/* --- disk.c --- */

/* A file without a name in the working directory, all of it written and
 * synced, so that fdatasync of what overwrites it waits for no journal. */
int disk_file(void);
/* Write at the offset, or at 0 where that would be too far; sync; the offset
 * behind it. */
off_t disk_append(int file, off_t at, const uint8_t *data, size_t size);
void disk_ask(struct run *run);

/* --- echo.c, reqrep.c, skeleton.c --- */

void epoll_serve(struct run *run, unsigned server);
void epoll_ask(struct run *run);
void stream_serve(struct run *run, unsigned server);
void stream_ask(struct run *run);
void reqrep_serve(struct run *run, unsigned server);
void reqrep_ask(struct run *run);
void skeleton_serve(struct run *run, unsigned server);
void skeleton_ask(struct run *run);

#endif
