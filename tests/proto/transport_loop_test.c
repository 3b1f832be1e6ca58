/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/proto/transport_fixture.h"

/* What a loop's thread does for one connection, and the others see of it. */

static const char any_port[] = "tcp://127.0.0.1:0";

/* In place of the C library's: how many were called, and how many more have no
 * descriptor left. */
static atomic_int accepts, accepts_to_fail;
static atomic_size_t sends;

int accept4(int fd, struct sockaddr *name, socklen_t *size, int flags)
{
    atomic_fetch_add(&accepts, 1);
    if (atomic_fetch_sub(&accepts_to_fail, 1) > 0) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_accept4, fd, name, size, flags);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    atomic_fetch_add(&sends, 1);
    return syscall(SYS_sendto, fd, data, size, flags, NULL, 0);
}

static void answer(struct connection *connection, const struct frame *frame)
{
    if (connection_send(connection, frame->id, frame->hops, frame->payload) !=
        STATUS_OK)
        abort();
}

static void no_event(struct connection *connection, void *user)
{
    (void)connection;
    (void)user;
}

static void no_end(struct connection *connection, void *user,
                   const struct error *why)
{
    (void)connection;
    (void)user;
    (void)why;
}

/* A server with handlers of its own, in place of the one that echoes. */
static void serve(struct pair *pair, const struct transport_limits *limits,
                  const struct transport_handlers *handlers, void *user)
{
    struct listener *listener;
    pair_open(pair, any_port, limits);
    assert_int_equal(transport_listen(pair->server, any_port, handlers, user,
                                      &listener, NULL),
                     STATUS_OK);
    snprintf(pair->address, sizeof pair->address, "tcp://127.0.0.1:%d",
             listener_port(listener));
}

static void flush_each(struct connection *connection, void *user,
                       const struct frame *frames, size_t count)
{
    (void)user;
    for (size_t i = 0; i < count; i++) {
        answer(connection, &frames[i]);
        connection_flush_soon(connection);
    }
}

/* Each write would be a frame if they left at once. */
static void what_callbacks_flush_leaves_together(void **state)
{
    (void)state;
    enum { FRAMES = 2000, HALF = FRAMES / 2 };
    static const struct transport_handlers handlers = {
        .opened = no_event, .frames = flush_each, .closed = no_end};
    struct pair pair;
    serve(&pair, &test_limits, &handlers, NULL);
    struct connection *connection = pair_dial(&pair);
    for (uint32_t i = 0; i < FRAMES; i++)
        assert_int_equal(connection_send(connection, ID_TOP_BIT | i,
                                         bytes_of(NULL, 0),
                                         bytes_of_string("payload")),
                         STATUS_OK);
    atomic_store(&sends, 0);
    connection_flush(connection);
    probe_wait(&pair.client_probe, &pair.client_probe.frames, FRAMES);
    assert_in_range(atomic_load(&sends), 2, HALF);
    connection_release(connection);
    pair_close(&pair);
}

/* Callbacks are held up until it is opened. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t held;
    bool is_open;
};

static void hold(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->held++;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->is_open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void wait_held(struct gate *gate, size_t held)
{
    pthread_mutex_lock(&gate->lock);
    while (gate->held < held)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void let_go(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->is_open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void hold_or_answer(struct connection *connection, void *user,
                           const struct frame *frames, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes_equal(frames[i].payload, bytes_of_string("hold")))
            hold(user);
        if (bytes_equal(frames[i].payload, bytes_of_string("express")))
            connection_move(connection, LOOP_EXPRESS);
        if (bytes_equal(frames[i].payload, bytes_of_string("bulk")))
            connection_move(connection, LOOP_BULK);
        answer(connection, &frames[i]);
    }
    connection_flush(connection);
}

/* Sends text until the answer is here. */
static void is_served(struct pair *pair, struct connection *connection,
                      const char *text)
{
    static uint32_t number;
    struct probe *probe = &pair->client_probe;
    size_t frames = probe_read(probe, &probe->frames);
    send_one(connection, number++, text);
    probe_wait(probe, &probe->frames, frames + 1);
    pthread_mutex_lock(&probe->lock);
    bool is_it = strcmp(probe->last, text) == 0;
    pthread_mutex_unlock(&probe->lock);
    assert_true(is_it);
}

static void connections_wait_for_none_of_another_kind(void **state)
{
    (void)state;
    static const struct transport_handlers handlers = {
        .opened = no_event, .frames = hold_or_answer, .closed = no_end};
    struct transport_limits limits = test_limits;
    limits.loops = 2;
    struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER};
    struct pair pair;
    serve(&pair, &limits, &handlers, &gate);
    /* The last two are on a common loop each. */
    struct connection *connections[4];
    for (size_t i = 0; i < 4; i++) {
        connections[i] = pair_dial(&pair);
        static const char *const kinds[] = {"express", "bulk", "", ""};
        is_served(&pair, connections[i], kinds[i]);
    }
    struct connection *express = connections[0], *bulk = connections[1];
    send_one(connections[2], 0, "hold");
    send_one(connections[3], 0, "hold");
    wait_held(&gate, 2);
    for (size_t i = 0; i < 100; i++) {
        is_served(&pair, express, "meanwhile");
        is_served(&pair, bulk, "too");
    }
    send_one(bulk, 0, "hold");
    wait_held(&gate, 3);
    for (size_t i = 0; i < 100; i++)
        is_served(&pair, express, "all the time");
    let_go(&gate);
    for (size_t i = 0; i < 4; i++)
        connection_release(connections[i]);
    pair_close(&pair);
}

enum { LARGE = 64 * 1024, LARGE_COUNT = 256 };

/* Many times what the queue and the socket hold, in one callback. */
static void answer_at_length(struct connection *connection, void *user,
                             const struct frame *frames, size_t count)
{
    static const uint8_t large[LARGE];
    (void)user;
    (void)count;
    for (size_t i = 0; i < LARGE_COUNT;) {
        enum status status =
            connection_send(connection, frames->id, frames->hops,
                            bytes_of(large, sizeof large));
        connection_flush(connection);
        if (status == STATUS_OK)
            i++;
        else
            sched_yield();
    }
}

static void a_queue_drains_while_its_loop_is_busy(void **state)
{
    (void)state;
    static const struct transport_handlers handlers = {
        .opened = no_event, .frames = answer_at_length, .closed = no_end};
    struct transport_limits limits = test_limits;
    limits.queue_bytes_max = 1 << 20;
    struct pair pair;
    serve(&pair, &limits, &handlers, NULL);
    struct connection *connection = pair_dial(&pair);
    send_one(connection, 1, "go on");
    probe_wait(&pair.client_probe, &pair.client_probe.frames, LARGE_COUNT);
    connection_release(connection);
    pair_close(&pair);
}

/* More than the socket takes from one that does not read before it moves. */
static void fill_and_move(struct connection *connection, void *user,
                          const struct frame *frames, size_t count)
{
    static const uint8_t large[LARGE];
    (void)count;
    for (size_t i = 0; i < LARGE_COUNT; i++)
        if (connection_send(connection, frames->id, frames->hops,
                            bytes_of(large, sizeof large)) != STATUS_OK)
            abort();
    connection_flush(connection);
    connection_move(connection, LOOP_BULK);
    let_go(user);
}

struct slow_reader {
    struct gate gate;
    struct probe *probe;
};

static void reader_opened(struct connection *connection, void *user)
{
    client_handlers.opened(connection, ((struct slow_reader *)user)->probe);
}

static void reader_frames(struct connection *connection, void *user,
                          const struct frame *frames, size_t count)
{
    struct slow_reader *reader = user;
    hold(&reader->gate);
    client_handlers.frames(connection, reader->probe, frames, count);
}

static void reader_closed(struct connection *connection, void *user,
                          const struct error *why)
{
    client_handlers.closed(connection, ((struct slow_reader *)user)->probe,
                           why);
}

static void what_waits_moves_along(void **state)
{
    (void)state;
    static const struct transport_handlers handlers = {
        .opened = no_event, .frames = fill_and_move, .closed = no_end};
    static const struct transport_handlers slow_handlers = {
        .opened = reader_opened,
        .frames = reader_frames,
        .closed = reader_closed};
    struct transport_limits limits = test_limits;
    limits.loops = 2;
    limits.queue_bytes_max = (size_t)2 * LARGE * LARGE_COUNT;
    struct pair pair;
    struct slow_reader reader = {.gate = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                          .changed = PTHREAD_COND_INITIALIZER},
                                 .probe = &pair.client_probe};
    serve(&pair, &limits, &handlers, &reader.gate);
    struct connection *connection;
    assert_int_equal(transport_dial(pair.client, pair.address, &slow_handlers,
                                    &reader, &connection, NULL),
                     STATUS_OK);
    send_one(connection, 1, "go on");
    probe_wait(reader.probe, &reader.probe->frames, LARGE_COUNT);
    connection_release(connection);
    pair_close(&pair);
}

/* The size, in place of what was sent. */
static void answer_size(struct connection *connection, void *user,
                        const struct frame *frame, size_t size)
{
    (void)user;
    char text[40];
    snprintf(text, sizeof text, "%zu", size);
    if (connection_send(connection, frame->id, frame->hops,
                        bytes_of_string(text)) != STATUS_OK)
        abort();
    connection_flush(connection);
}

/* To a server that takes frames of 1000 bytes. */
static struct connection *dial_short(struct pair *pair)
{
    static const struct transport_handlers handlers = {.opened = no_event,
                                                       .frames = flush_each,
                                                       .oversized = answer_size,
                                                       .closed = no_end};
    struct transport_limits limits = test_limits;
    limits.frame_bytes_max = 1000;
    serve(pair, &limits, &handlers, NULL);
    return pair_dial(pair);
}

static void send_zeros(struct connection *connection, uint32_t number,
                       size_t size)
{
    static const uint8_t zeros[7000000];
    assert_true(size <= sizeof zeros);
    assert_int_equal(connection_send(connection, ID_TOP_BIT | number,
                                     bytes_of(NULL, 0), bytes_of(zeros, size)),
                     STATUS_OK);
}

/* Within what one read brings, and far beyond it. */
static void what_is_too_long_is_answered_and_skipped(void **state)
{
    (void)state;
    static const size_t sizes[] = {1000, 1001, 5000, 300000, 7000000};
    struct pair pair;
    struct connection *connection = dial_short(&pair);
    struct probe *probe = &pair.client_probe;
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char expected[40];
        snprintf(expected, sizeof expected, "%zu", sizes[i] + 4);
        send_zeros(connection, i, sizes[i]);
        connection_flush(connection);
        probe_wait(probe, &probe->frames, 2 * i + 1);
        pthread_mutex_lock(&probe->lock);
        assert_string_equal(probe->last, expected);
        pthread_mutex_unlock(&probe->lock);
        is_served(&pair, connection, "and on it goes");
    }
    struct transport_counters counters;
    transport_counters_read(pair.server, &counters);
    assert_int_equal(counters.oversized, sizeof sizes / sizeof *sizes);
    assert_int_equal(probe_read(probe, &probe->closed), 0);
    connection_release(connection);
    pair_close(&pair);
}

/* One flush, so that one read has several of them and parts of others. */
static void what_is_skipped_takes_nothing_along(void **state)
{
    (void)state;
    static const size_t sizes[] = {10,   1001, 20,     300000, 30,  1001,
                                   1001, 40,   600000, 2000,   200, 50};
    enum { COUNT = sizeof sizes / sizeof *sizes, LONG = 6 };
    struct pair pair;
    struct connection *connection = dial_short(&pair);
    for (uint32_t round = 0; round < 20; round++)
        for (uint32_t i = 0; i < COUNT; i++)
            send_zeros(connection, i, sizes[i]);
    connection_flush(connection);
    probe_wait(&pair.client_probe, &pair.client_probe.frames, 20 * COUNT);
    is_served(&pair, connection, "and on it goes");
    struct transport_counters counters;
    transport_counters_read(pair.server, &counters);
    assert_int_equal(counters.oversized, 20 * LONG);
    assert_int_equal(counters.malformed, 0);
    connection_release(connection);
    pair_close(&pair);
}

enum { SENDERS = 4, SENT_EACH = 5000 };

static void *send_many(void *argument)
{
    for (uint32_t i = 0; i < SENT_EACH; i++) {
        enum status status =
            connection_send(argument, ID_TOP_BIT | i, bytes_of(NULL, 0),
                            bytes_of_string("one of many"));
        if (status != STATUS_OK)
            abort();
        connection_flush(argument);
    }
    return NULL;
}

/* Who is at it flushes for those who come meanwhile. */
static void all_that_many_threads_flush_at_once_leaves(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, "tcp://127.0.0.1:0", &test_limits);
    struct connection *connection = pair_dial(&pair);
    pthread_t threads[SENDERS];
    for (size_t i = 0; i < SENDERS; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, send_many, connection), 0);
    for (size_t i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    size_t all = (size_t)SENDERS * SENT_EACH;
    probe_wait(&pair.client_probe, &pair.client_probe.frames, all);
    assert_int_equal(connection_queued_bytes(connection), 0);
    connection_release(connection);
    pair_close(&pair);
}

static void what_was_appended_leaves_before_the_close(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, "tcp://127.0.0.1:0", &test_limits);
    struct connection *connection = pair_dial(&pair);
    probe_wait(&pair.client_probe, &pair.client_probe.opened, 1);
    assert_int_equal(connection_send(connection, ID_TOP_BIT, bytes_of(NULL, 0),
                                     bytes_of_string("last words")),
                     STATUS_OK);
    connection_close(connection);
    assert_int_equal(connection_send(connection, ID_TOP_BIT, bytes_of(NULL, 0),
                                     bytes_of_string("no")),
                     STATUS_CLOSED);
    connection_release(connection);
    probe_wait(&pair.server_probe, &pair.server_probe.closed, 1);
    assert_int_equal(pair.server_probe.frames, 1);
    assert_string_equal(pair.server_probe.last, "last words");
    pair_close(&pair);
}

static void a_listener_rests_when_descriptors_are_short(void **state)
{
    (void)state;
    enum { FAILURES = 3 };
    struct pair pair;
    pair_open(&pair, any_port, &test_limits);
    atomic_store(&accepts, 0);
    atomic_store(&accepts_to_fail, FAILURES);
    struct connection *connection = pair_dial(&pair);
    probe_wait(&pair.client_probe, &pair.client_probe.opened, 1);
    /* Those that failed, the one that did not, and what found no other. */
    assert_in_range(atomic_load(&accepts), FAILURES + 1, FAILURES + 2);
    connection_release(connection);
    pair_close(&pair);
}

static void a_file_is_not_taken_for_a_socket_that_was_left(void **state)
{
    (void)state;
    char directory[100];
    char address[150];
    ipc_address(directory, sizeof(directory), address, sizeof(address));
    const char *path = address + strlen("ipc://");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    struct pair pair;
    pair_open(&pair, any_port, &test_limits);
    struct listener *listener;
    struct error error;
    assert_int_equal(transport_listen(pair.server, address, &echo_handlers,
                                      &pair.server_probe, &listener, &error),
                     STATUS_IO);
    assert_non_null(strstr(error.text, "in use"));
    pair_close(&pair);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_callbacks_flush_leaves_together),
        cmocka_unit_test(connections_wait_for_none_of_another_kind),
        cmocka_unit_test(a_queue_drains_while_its_loop_is_busy),
        cmocka_unit_test(what_waits_moves_along),
        cmocka_unit_test(what_is_too_long_is_answered_and_skipped),
        cmocka_unit_test(what_is_skipped_takes_nothing_along),
        cmocka_unit_test(a_listener_rests_when_descriptors_are_short),
        cmocka_unit_test(a_file_is_not_taken_for_a_socket_that_was_left),
        cmocka_unit_test(all_that_many_threads_flush_at_once_leaves),
        cmocka_unit_test(what_was_appended_leaves_before_the_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
