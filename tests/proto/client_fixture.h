/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_PROTO_CLIENT_FIXTURE_H
#define REPLIKV_TESTS_PROTO_CLIENT_FIXTURE_H

#include <pthread.h>

#include "proto/envelope.h"
#include "proto/replikv.h"
#include "proto/transport.h"

/* A node as the client sees it, with the manners that a test asks for. It
 * stores nothing: a read of a key answers with the key itself, of one that
 * begins with "sib" with two siblings, with "gone" NOT_FOUND. Of a batch, which
 * is answered, the first refused_batches refuse the keys that are named for it:
 * "overloaded", "unavailable" (NOT_APPLIED), "unsure" (UNAVAILABLE, UNKNOWN)
 * and "wrong" (INVALID, NOT_APPLIED). */

enum manner {
    ANSWERS,
    KEEPS_SILENT, /* notes what comes; node_answer_held answers later */
    HANGS_UP,
    SENDS_GARBAGE,
    ANSWERS_BESIDE,  /* with a reply of another kind, a batch one too few */
    FORGETS_OUTCOME, /* OK to a write, and no outcome */
    IS_OVERLOADED,   /* retry_after_ms, nothing was done */
    IS_UNAVAILABLE,  /* NOT_APPLIED */
    IS_UNSURE,       /* UNAVAILABLE, UNKNOWN */
    REFUSES,         /* INVALID, NOT_APPLIED */
};

enum { NODE_REQUESTS_KEPT = 8192, NODE_RETRY_AFTER_MS = 400 };

struct node_request {
    struct connection *connection; /* a reference */
    uint32_t id;
    uint8_t *payload;
    size_t size;
    uint8_t write_id[REPLIKV_REQUEST_ID_BYTES];
    bool refuses; /* what a batch is refused by its keys */
};

struct test_node {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct transport *transport;
    char address[128];
    enum manner manner;
    /* So many requests are met with manner, the others answered. */
    size_t ill_mannered;
    size_t hang_up_every; /* the n-th request; 0 never */
    size_t refused_batches;
    size_t seen;
    struct node_request requests[NODE_REQUESTS_KEPT]; /* the first ones */
};

/* On a free TCP port, or on address. */
void node_open(struct test_node *node, const char *address, enum manner manner);
void node_close(struct test_node *node);
void node_behave(struct test_node *node, enum manner manner, size_t times);
void node_wait(struct test_node *node, size_t seen);
size_t node_seen(struct test_node *node);
/* Answer what was kept, the last one first. */
void node_answer_held(struct test_node *node);

struct replikv *client_of(struct test_node *first, struct test_node *second,
                          struct replikv_options options);
struct replikv_bytes bytes_from(const char *string);

/* Results that callbacks collect. */
struct tally {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t done;
    size_t by_status[REPLIKV_STALE + 1];
    size_t by_outcome[REPLIKV_UNKNOWN + 1];
};
void tally_init(struct tally *tally);
void tally_fini(struct tally *tally);
void tally_add(void *tally, struct replikv_result *result);
void tally_wait(struct tally *tally, size_t done);

#endif
