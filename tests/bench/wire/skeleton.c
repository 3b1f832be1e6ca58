/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <unistd.h>

#include "tests/bench/wire/wire.h"

/* What a put of 100 bytes moves and syncs at N = 3 and W = 2:
 *
 *   client --PUT--> coordinator --STORE--> both others     180, 220 bytes
 *   client <-DONE-- coordinator <-STORED-- each            60 bytes
 *
 * All three append what a wake brought to their file, sync it, and only then
 * say STORED; the coordinator says DONE when its own file and the first of the
 * others have the put. Two nodes share one stream.
 *
 * The thread that read also commits. A thread per node that does nothing else
 * was no faster, and cost more of the processor. Medians of 25 runs of 0.2 s in
 * turn, on two cores of which other programs kept one busy:
 *
 *   in flight                     15               48               192
 *   who read     15,000/s  58 us   39,200/s  20 us   139,200/s  6.3 us a put
 *   a committer  11,700/s  78 us   36,400/s  23 us   137,300/s  6.9 us a put
 *
 * To read on, rather than wait for the commit that is under way, gained nothing
 * either. */

enum kind { KIND_HELLO, KIND_PUT, KIND_STORE, KIND_STORED, KIND_DONE };

static const uint32_t frame_bytes[] = {
    [KIND_HELLO] = sizeof(struct head),
    [KIND_PUT] = 180,
    [KIND_STORE] = 220,
    [KIND_STORED] = 60,
    [KIND_DONE] = 60,
};

/* What a node coordinates; one for each of the client's slots. */
struct put {
    uint64_t started_ns; /* later than that of the slot's last one */
    bool own, other;     /* have it; both: answered */
};

struct node {
    unsigned number;
    bool disk;
    struct link *links[NODES + 1]; /* own: NULL; the last: the client */

    pthread_mutex_t commit_lock; /* of what follows, and before the other */
    int file;
    off_t at;
    struct buffer written; /* while the other one gathers */

    pthread_mutex_t lock; /* of what follows */
    struct put puts[PUTS_MAX];
    /* STORE frames: of each thread no more than one read, so that they always
     * fit the file. */
    struct buffer gathered;
};

struct reader {
    struct node *node;
    struct link *link;
};

static void push(struct link *link, enum kind kind, const struct head *about)
{
    struct head head = *about;
    head.kind = kind;
    head.bytes = frame_bytes[kind];
    link_push(link, &head);
}

/* A node whose client or peer is gone has nothing left to do. */
static void flush(struct node *node)
{
    for (unsigned i = 0; i <= NODES; i++)
        if (node->links[i] != NULL && !link_flush(node->links[i]))
            _exit(0);
}

static void gather(struct node *node, struct head head)
{
    head.kind = KIND_STORE;
    head.bytes = frame_bytes[KIND_STORE];
    frame_append(&node->gathered, &head);
}

static void heard(struct node *node, const struct head *head, bool own)
{
    struct put *put = &node->puts[head->slot];
    if (put->started_ns != head->started_ns || (put->own && put->other))
        return; /* the last of the three */
    put->own = put->own || own;
    put->other = put->other || !own;
    if (put->own && put->other)
        push(node->links[NODES], KIND_DONE, head);
}

static void take(struct node *node, struct head head)
{
    switch ((enum kind)head.kind) {
    case KIND_PUT:
        head.from = (uint8_t)node->number;
        node->puts[head.slot] = (struct put){.started_ns = head.started_ns};
        for (unsigned i = 0; i < NODES; i++)
            if (i != node->number)
                push(node->links[i], KIND_STORE, &head);
        gather(node, head);
        return;
    case KIND_STORE:
        gather(node, head);
        return;
    case KIND_STORED:
        heard(node, &head, false);
        return;
    case KIND_HELLO:
    case KIND_DONE:
        break;
    }
    wire_fail("a frame of kind %u", head.kind);
}

/* Write and answer what has gathered, after the commit that is under way: that
 * may have taken it along. */
static void commit(struct node *node)
{
    pthread_mutex_lock(&node->commit_lock);
    pthread_mutex_lock(&node->lock);
    struct buffer batch = node->gathered;
    node->gathered = node->written;
    pthread_mutex_unlock(&node->lock);
    if (node->disk && batch.size > 0)
        node->at = disk_append(node->file, node->at, batch.data, batch.size);
    pthread_mutex_lock(&node->lock);
    for (size_t at = 0; at < batch.size;) {
        struct head head;
        memcpy(&head, batch.data + at, sizeof head);
        at += head.bytes;
        if (head.from == node->number)
            heard(node, &head, true);
        else
            push(node->links[head.from], KIND_STORED, &head);
    }
    pthread_mutex_unlock(&node->lock);
    buffer_clear(&batch);
    node->written = batch;
    pthread_mutex_unlock(&node->commit_lock);
    flush(node);
}

static void serve_read(struct node *node, struct link *link)
{
    size_t whole = frames_whole(link->in, link->in_bytes);
    pthread_mutex_lock(&node->lock);
    for (size_t at = 0; at < whole;) {
        struct head head;
        memcpy(&head, link->in + at, sizeof head);
        at += head.bytes;
        take(node, head);
    }
    bool any = node->gathered.size > 0;
    pthread_mutex_unlock(&node->lock);
    link_drop(link, whole);
    flush(node);
    if (any)
        commit(node);
}

static void *read_all(void *argument)
{
    struct reader *reader = argument;
    do
        serve_read(reader->node, reader->link);
    while (link_read(reader->link));
    _exit(0);
}

/* --- connections --- */

static struct link *greet(struct run *run, unsigned server, unsigned from)
{
    struct link *link = link_dial(run_port(run, server));
    push(link, KIND_HELLO, &(struct head){.from = (uint8_t)from});
    if (!link_flush(link))
        wire_fail("a node hung up");
    return link;
}

/* Accept one and see who it is. */
static void meet(struct node *node, nng_stream_listener *listener)
{
    struct link *link = link_accept(listener);
    struct head head;
    while (link->in_bytes < sizeof head)
        if (!link_read(link))
            wire_fail("a peer hung up");
    memcpy(&head, link->in, sizeof head);
    if (head.kind != KIND_HELLO || head.from > NODES)
        wire_fail("a peer does not say hello");
    node->links[head.from] = link;
    link_drop(link, sizeof head);
}

static pthread_t start(void *(*thread)(void *), void *argument)
{
    pthread_t id;
    if (pthread_create(&id, NULL, thread, argument) != 0)
        wire_fail("no thread");
    return id;
}

void skeleton_serve(struct run *run, unsigned server)
{
    static struct node node;
    static struct reader readers[NODES + 1];
    int port;
    nng_stream_listener *listener = link_listen(&port);
    node.number = server;
    node.disk = run->disk;
    node.file = run->files[server];
    pthread_mutex_init(&node.lock, NULL);
    pthread_mutex_init(&node.commit_lock, NULL);
    run_publish(run, server, port);
    for (unsigned i = server + 1; i < NODES; i++)
        node.links[i] = greet(run, i, server);
    for (unsigned i = 0; i <= server; i++)
        meet(&node, listener);
    for (unsigned i = 0; i <= NODES; i++) {
        readers[i] = (struct reader){&node, node.links[i]};
        if (node.links[i] != NULL)
            (void)start(read_all, &readers[i]);
    }
    pause();
}

/* --- the client --- */

struct asker {
    struct link *link;
    struct tally *tally;
};

static void *ask_one(void *argument)
{
    struct asker *asker = argument;
    struct link *link = asker->link;
    while (wire_now_ns() < asker->tally->end_ns) {
        if (!link_flush(link) || !link_read(link))
            wire_fail("a node hung up");
        size_t whole = frames_whole(link->in, link->in_bytes);
        frames_record(link->in, whole, asker->tally);
        for (size_t at = 0; at < whole;) {
            struct head head;
            memcpy(&head, link->in + at, sizeof head);
            at += head.bytes;
            push(link, KIND_PUT, &head);
        }
        link_drop(link, whole);
    }
    return NULL;
}

void skeleton_ask(struct run *run)
{
    struct asker askers[NODES];
    pthread_t threads[NODES];
    for (unsigned i = 0; i < NODES; i++)
        askers[i] = (struct asker){.link = greet(run, i, NODES),
                                   .tally = &run->tallies[i]};
    run_begin(run);
    for (unsigned i = 0; i < run->in_flight; i++)
        push(askers[i % NODES].link, KIND_PUT,
             &(struct head){.slot = (uint16_t)i, .started_ns = wire_now_ns()});
    for (unsigned i = 0; i < NODES; i++)
        threads[i] = start(ask_one, &askers[i]);
    for (unsigned i = 0; i < NODES; i++)
        pthread_join(threads[i], NULL);
}
