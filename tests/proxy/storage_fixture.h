/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_PROXY_STORAGE_FIXTURE_H
#define REPLIKV_TESTS_PROXY_STORAGE_FIXTURE_H

#include "proxy/storage.h"
#include "tests/engines/store.h"

#include <pthread.h>

/* A storage edge in a directory of its own and everything it told. Include
 * cmocka.h first: what goes wrong here fails the test. */

struct told {
    enum event_kind kind;
    enum storage_kind op;
    uint64_t token;
    enum status status;
    bool duplicate, done;
    int64_t records_delta, bytes_delta, prepared_us;
    struct buffer record;
    struct buffer next;
    size_t row_count;
    struct storage_key first_key; /* of the rows; its key is in first_name */
    char first_name[64];
    bool here; /* on the thread that made the fixture */
};

struct fixture {
    struct store store; /* for its directory */
    struct storage_config config;
    struct storage *storage;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct told *told;
    size_t told_count, told_capacity;
    unsigned reopened;
    char logged[512]; /* the last line */
    /* Called at the end of done, without the lock. */
    void (*on_done)(struct fixture *fixture, const struct storage_done *done);
};

/* fixture->config may be changed before fixture_open. */
void fixture_init(struct fixture *fixture, const struct engine_type *type);
void fixture_fini(struct fixture *fixture);
void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);

/* Submit and, as a server does, run. */
void fixture_submit(struct fixture *fixture, const struct storage_op *op);

/* Wait until it was told; a copy whose buffers the fixture keeps. */
struct told fixture_wait(struct fixture *fixture, enum event_kind kind,
                         uint64_t token);
void fixture_wait_reopened(struct fixture *fixture, unsigned times);
/* What was told so far of the token, as "prepared ok, stored io". */
void fixture_expect(struct fixture *fixture, uint64_t token,
                    const char *wanted);

/* An operation on TABLE_DATA, partition 7; token names its request too. */
struct storage_op op_of(enum storage_kind kind, uint64_t token,
                        const char *key);
struct storage_op coordinate_of(uint64_t token, const char *key,
                                const char *value);
/* The same on a hint. */
struct storage_op hint_of(enum storage_kind kind, uint64_t token,
                          const char *key);

/* Submit, wait for STORED, expect OK. */
void fixture_store(struct fixture *fixture, const struct storage_op *op);
/* READ, here or by a reader; record is filled unless it is NULL. */
enum status fixture_read(struct fixture *fixture, const struct storage_op *op,
                         struct buffer *record);
/* SCAN, waited for. */
struct told fixture_scan(struct fixture *fixture, const struct storage_op *op);

/* The encoding of a record with one value, of another node's making. */
void record_of(uint64_t counter, const char *value, struct buffer *record);
uint64_t version_of(const struct buffer *record);
size_t value_count_of(const struct buffer *record);
/* The dot of the value that request `token` wrote. */
struct dot dot_of(const struct buffer *record, uint64_t token);

#endif
