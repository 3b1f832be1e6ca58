/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_PROXY_NODE_FIXTURE_H
#define REPLIKV_TESTS_PROXY_NODE_FIXTURE_H

/* What cmocka.h wants before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/core/node.h"
#include "tests/proxy/toy_storage.h"

/* One node, n1, driven by hand: its requests to n2, n3, ... wait until the test
 * answers them, its storage operations until the test runs or fails them. What
 * it does is traced, a line for each event that made it do something; the chat
 * of membership is left out.
 *
 * node_close holds every test to this: each request is answered exactly once,
 * at the latest when its deadline has passed and all that waits has failed. */

enum {
    FIXTURE_NODES_MAX = 5,
    FIXTURE_WAITING_MAX = 256,
    FIXTURE_TOKENS_MAX = 4096,
    FIXTURE_TRACE_BYTES = 1 << 14,
};

struct waiting_op {
    struct storage_op op; /* owns what it points to, in bytes */
    struct buffer key, data, context, after;
    bool prepared;
    struct storage_result result; /* of one that is prepared */
};

struct waiting_request {
    struct node_id to;
    uint64_t request;
    Rkv__Envelope__BodyCase body_case;
    struct buffer packed;
};

struct fixture {
    struct node_config config;
    struct node *node;
    struct toy_storage toy;
    struct effects effects;
    struct arena arena; /* what the test builds messages in */
    int64_t now_ms;
    uint64_t sessions; /* that hellos were numbered for */
    int64_t extra_us;  /* added to what the node is told */
    bool is_quiet;     /* nothing is traced: it would be too long */
    bool with_trees;   /* what builds hash trees waits, too; else it is lost */
    struct placement_node founders[FIXTURE_NODES_MAX];
    struct member members[FIXTURE_NODES_MAX];
    struct waiting_op ops[FIXTURE_WAITING_MAX];
    size_t op_count;
    struct waiting_request requests[FIXTURE_WAITING_MAX];
    size_t request_count;
    /* How often each token was answered; asked counts those given out. */
    uint8_t answers[FIXTURE_TOKENS_MAX];
    bool asked[FIXTURE_TOKENS_MAX];
    bool renewed, halted;
    int64_t wall_ahead_ms; /* so far the wall clock was set */
    /* The last reply to anyone, in its arena until the next. */
    struct arena reply_arena, request_arena;
    const Rkv__Envelope *reply;
    char cause[96];
    char trace[FIXTURE_TRACE_BYTES];
    size_t trace_size;
};

/* Nodes, N, and a disk that was ready before, so that it is so at once; with
 * boot 1 it is new.
 * Buckets: default and sloppy (siblings), lww. Change f->config before
 * node_start. */
void node_open(struct fixture *f, size_t nodes, uint32_t replicas);
/* Make it, run the scans of the start, meet all others; then forget the
 * trace. */
void node_start(struct fixture *f);
/* The same, without meeting anyone, and with the trace. */
void node_boot(struct fixture *f);
void node_close(struct fixture *f);

struct node_id node_number(const struct fixture *f, int number);
/* A key of the bucket with these owners in this order: "123" for n1, n2, n3. */
const char *key_owned_by(struct fixture *f, const char *bucket,
                         const char *owners);
struct storage_key key_in(const struct fixture *f, enum table table, int target,
                          const char *bucket, const char *key);

/* --- events --- */

void tick(struct fixture *f, int64_t now_ms);
/* Any event; its token is given out if it is a request's. */
void step(struct fixture *f, int64_t now_ms, const struct event *event,
          const char *cause);
void client(struct fixture *f, int64_t now_ms, uint64_t token,
            Rkv__Envelope__BodyCase body_case, const void *body);
void peer(struct fixture *f, int64_t now_ms, int from, uint64_t token,
          Rkv__Envelope__BodyCase body_case, const void *body);
/* n(number) as it is in members accepts our Hello. */
void greeted(struct fixture *f, int64_t now_ms, int number);
/* A Hello of n(number) as it is in members. */
void meet(struct fixture *f, int64_t now_ms, int number);

/* Messages with what tests say most; change them before they are sent. */
Rkv__Write *write_of(struct fixture *f, const char *key, const char *value);
Rkv__Read *read_of(struct fixture *f, const char *key);
Rkv__Store *store_of(struct fixture *f, const char *key, struct bytes record);
Rkv__Fetch *fetch_of(struct fixture *f, const char *key);
Rkv__Hello *hello_of(struct fixture *f, int number);
void put(struct fixture *f, int64_t now_ms, uint64_t token, Rkv__Write *write);
void get(struct fixture *f, int64_t now_ms, uint64_t token, Rkv__Read *read);

/* The reply to the oldest request that waits at that node. */
void answer(struct fixture *f, int64_t now_ms, int from,
            Rkv__Envelope__BodyCase body_case, const void *body);
/* To a Store. */
void ack(struct fixture *f, int64_t now_ms, int from, enum status status);
/* To a Fetch: OK with the record; otherwise without one. */
void fetched(struct fixture *f, int64_t now_ms, int from, enum status status,
             struct bytes record);
/* To a forwarded Write. */
void written(struct fixture *f, int64_t now_ms, int from, enum status status,
             Rkv__Outcome outcome);
/* No reply will come to the oldest request that waits there. */
void gone(struct fixture *f, int64_t now_ms, int from);
/* What waits there, unpacked; NULL if nothing does. */
const Rkv__Envelope *request_at(struct fixture *f, int number);

/* Carry out everything that waits for the disk, what that leads to as well. */
void disk(struct fixture *f, int64_t now_ms);
/* The oldest of it alone. */
void disk_one(struct fixture *f, int64_t now_ms);
/* Writes only as far as they wait for the disk, and are PREPARED. */
void prepare(struct fixture *f, int64_t now_ms);
/* Nothing of what waits is carried out. */
void disk_fails(struct fixture *f, int64_t now_ms, enum status status);

/* --- what was seen --- */

int number_of(const struct fixture *f, struct node_id id);
/* Append one effect to the trace; the fixture does. */
void trace_op(struct fixture *f, const struct storage_op *op);
void trace_request(struct fixture *f, struct node_id to,
                   const Rkv__Envelope *message);
void trace_reply(struct fixture *f, uint64_t token, const Rkv__Envelope *reply);
void trace_word(struct fixture *f, const char *word);
void trace_end(struct fixture *f);

/* The trace since the last time. */
void expect_trace(struct fixture *f, const char *trace);
uint64_t counter_of(const struct fixture *f, const char *name);
/* The record of one value that another node would have made, in the arena.
 * Its dot is (node, counter). */
struct bytes record_of(struct fixture *f, int node, uint64_t counter,
                       const char *value);
/* Two records as a replica would merge them. */
struct bytes merged(struct fixture *f, struct bytes a, struct bytes b);
/* The values of a reply or a record, by their bytes: "a|b". */
const char *values_of(struct fixture *f, struct bytes record);

#endif
