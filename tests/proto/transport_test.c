/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

#include "tests/proto/transport_fixture.h"

static const char any_port[] = "tcp://127.0.0.1:0";

/* In place of the C library's: how many sockets were told to send at once what
 * is written. */
static atomic_size_t nodelay_sockets;

int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    int is_on = 0;
    if (level == IPPROTO_TCP && name == TCP_NODELAY && size == sizeof is_on)
        memcpy(&is_on, value, sizeof is_on);
    if (is_on != 0)
        atomic_fetch_add(&nodelay_sockets, 1);
    return (int)syscall(SYS_setsockopt, fd, level, name, value, size);
}

static void echo_many(const char *address)
{
    enum { IN_FLIGHT = 1000, AGAIN = 20000 };
    struct pair pair;
    pair_open(&pair, address, &test_limits);
    pair.client_probe.expected = bytes_of_string("payload");
    pair.client_probe.resend = AGAIN;
    struct connection *connection = pair_dial(&pair);
    for (uint32_t i = 0; i < IN_FLIGHT; i++)
        send_one(connection, i, "payload");
    probe_wait(&pair.client_probe, &pair.client_probe.frames,
               IN_FLIGHT + AGAIN);
    assert_int_equal(pair.client_probe.bad, 0);
    assert_int_equal(pair.client_probe.opened, 1);
    struct transport_counters counters;
    transport_counters_read(pair.server, &counters);
    assert_int_equal(counters.accepted, 1);
    assert_int_equal(counters.frames_in, IN_FLIGHT + AGAIN);
    connection_release(connection);
    pair_close(&pair);
}

static void many_in_flight_come_back_over_tcp(void **state)
{
    (void)state;
    echo_many(any_port);
}

/* Else a small frame waits for the other end's delayed acknowledgement. */
static void neither_end_holds_back_what_is_written(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, any_port, &test_limits);
    atomic_store(&nodelay_sockets, 0);
    struct connection *connection = pair_dial(&pair);
    send_one(connection, 1, "payload");
    probe_wait(&pair.client_probe, &pair.client_probe.frames, 1);
    assert_int_equal(atomic_load(&nodelay_sockets), 2);
    connection_release(connection);
    pair_close(&pair);
}

static void many_in_flight_come_back_over_ipc(void **state)
{
    (void)state;
    char directory[100];
    char address[150];
    ipc_address(directory, sizeof(directory), address, sizeof(address));
    echo_many(address);
    /* It removes the socket; what is left would make this fail. */
    assert_int_equal(rmdir(directory), 0);
}

static void frames_larger_than_the_read_buffer_come_back_whole(void **state)
{
    (void)state;
    enum { SIZE = 3 << 20, COUNT = 4 };
    uint8_t *payload = malloc(SIZE);
    assert_non_null(payload);
    for (size_t i = 0; i < SIZE; i++)
        payload[i] = (uint8_t)(i * 2654435761u >> 13);
    struct pair pair;
    pair_open(&pair, any_port, &test_limits);
    pair.client_probe.expected = bytes_of(payload, SIZE);
    struct connection *connection = pair_dial(&pair);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(connection_send(connection, ID_TOP_BIT | i,
                                         bytes_of(NULL, 0),
                                         pair.client_probe.expected),
                         STATUS_OK);
    connection_flush(connection);
    probe_wait(&pair.client_probe, &pair.client_probe.frames, COUNT);
    assert_int_equal(pair.client_probe.bad, 0);
    assert_int_equal(connection_queued_bytes(connection), 0);
    connection_release(connection);
    pair_close(&pair);
    free(payload);
}

static void a_plain_nng_req_socket_is_a_client(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, any_port, &test_limits);
    nng_socket socket;
    assert_int_equal(nng_req0_open(&socket), 0);
    assert_int_equal(nng_dial(socket, pair.address, NULL, 0), 0);
    for (int i = 0; i < 100; i++) {
        char reply[16];
        size_t size = sizeof(reply);
        assert_int_equal(nng_send(socket, "question", 8, 0), 0);
        assert_int_equal(nng_recv(socket, reply, &size, 0), 0);
        assert_int_equal(size, 8);
        assert_memory_equal(reply, "question", 8);
    }
    nng_close(socket);
    pair_close(&pair);
}

static void a_plain_nng_rep_socket_is_a_server(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, any_port, &test_limits);
    nng_socket socket;
    nng_listener listener;
    int port;
    assert_int_equal(nng_rep0_open(&socket), 0);
    assert_int_equal(nng_listen(socket, any_port, &listener, 0), 0);
    assert_int_equal(
        nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), 0);
    snprintf(pair.address, sizeof(pair.address), "tcp://127.0.0.1:%d", port);
    struct connection *connection = pair_dial(&pair);
    for (uint32_t i = 0; i < 100; i++) {
        nng_msg *message;
        send_one(connection, i, "question");
        assert_int_equal(nng_recvmsg(socket, &message, 0), 0);
        assert_int_equal(nng_msg_len(message), 8);
        assert_memory_equal(nng_msg_body(message), "question", 8);
        assert_int_equal(nng_sendmsg(socket, message, 0), 0);
        probe_wait(&pair.client_probe, &pair.client_probe.frames, i + 1);
        assert_string_equal(pair.client_probe.last, "question");
    }
    connection_release(connection);
    pair_close(&pair);
    nng_close(socket);
}

/* A peer made of system calls, for what no honest one does. */
static int raw_connect(const struct pair *pair)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(descriptor >= 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port =
                                 htons((uint16_t)listener_port(pair->listener)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(
        connect(descriptor, (const struct sockaddr *)&to, sizeof(to)), 0);
    return descriptor;
}

static void raw_send(int descriptor, const char *bytes, size_t size)
{
    assert_int_equal(send(descriptor, bytes, size, MSG_NOSIGNAL),
                     (ssize_t)size);
}

static void raw_expect_end(int descriptor)
{
    char ignored[64];
    while (recv(descriptor, ignored, sizeof(ignored), 0) > 0) {
    }
    close(descriptor);
}

/* A socket that lets others connect and never says a word. */
static int raw_listen(struct pair *pair)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(descriptor >= 0);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    assert_int_equal(bind(descriptor, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(descriptor, 8), 0);
    assert_int_equal(getsockname(descriptor, (struct sockaddr *)&at, &size), 0);
    snprintf(pair->address, sizeof(pair->address), "tcp://127.0.0.1:%d",
             ntohs(at.sin_port));
    return descriptor;
}

static void oversized_frame_is_counted_and_closed_with_the_peer(void **state)
{
    (void)state;
    struct transport_limits limits = test_limits;
    limits.frame_bytes_max = 1000;
    struct pair pair;
    pair_open(&pair, any_port, &limits);
    int descriptor = raw_connect(&pair);
    raw_send(descriptor, "\0SP\0\0\x30\0\0", 8);
    raw_send(descriptor, "\0\0\0\0\0\0\0\6\x80\0\0\1ok", 14);
    raw_send(descriptor, "\x00\xff\xff\xff\xff\xff\xff\xff", 8);
    probe_wait(&pair.server_probe, &pair.server_probe.closed, 1);
    raw_expect_end(descriptor);
    assert_int_equal(pair.server_probe.frames, 1);
    assert_int_equal(pair.server_probe.why.status, STATUS_TOO_LARGE);
    assert_non_null(strstr(pair.server_probe.why.text, "tcp://127.0.0.1:"));
    assert_non_null(strstr(pair.server_probe.why.text, "1000"));
    struct transport_counters counters;
    transport_counters_read(pair.server, &counters);
    assert_int_equal(counters.oversized, 1);
    pair_close(&pair);
}

static void answer_too_long(struct connection *connection, void *user,
                            const struct frame *frame, size_t size)
{
    (void)user;
    (void)size;
    if (connection_send(connection, frame->id, frame->hops,
                        bytes_of_string("long")) != STATUS_OK)
        abort();
    connection_flush(connection);
}

/* Byte by byte, so that each read ends elsewhere in its head. */
static void a_long_frame_may_come_in_pieces(void **state)
{
    (void)state;
    static const char sent[] = "\0SP\0\0\x30\0\0"
                               "\0\0\0\0\0\0\x04\0" /* 1024, limit 1000 */
                               "\0\0\0\1\x80\0\0\7";
    static const char expected[] = "\0SP\0\0\x31\0\0"
                                   "\0\0\0\0\0\0\0\x0c"
                                   "\0\0\0\1\x80\0\0\7long"
                                   "\0\0\0\0\0\0\0\6\x80\0\0\1ok";
    struct transport_handlers handlers = echo_handlers;
    handlers.oversized = answer_too_long;
    struct transport_limits limits = test_limits;
    limits.frame_bytes_max = 1000;
    struct pair pair;
    pair_open(&pair, any_port, &limits);
    assert_int_equal(transport_listen(pair.server, any_port, &handlers,
                                      &pair.server_probe, &pair.listener, NULL),
                     STATUS_OK);
    int descriptor = raw_connect(&pair);
    const int on = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    for (size_t i = 0; i < sizeof sent - 1; i++)
        raw_send(descriptor, sent + i, 1);
    for (size_t i = 0; i < 1024 - 8; i++)
        raw_send(descriptor, "x", 1);
    raw_send(descriptor, "\0\0\0\0\0\0\0\6\x80\0\0\1ok", 14);
    char heard[sizeof expected - 1];
    assert_int_equal(recv(descriptor, heard, sizeof heard, MSG_WAITALL),
                     sizeof heard);
    assert_memory_equal(heard, expected, sizeof heard);
    close(descriptor);
    pair_close(&pair);
}

static void what_is_not_req_is_refused(void **state)
{
    (void)state;
    static const char *const beginnings[] = {"\0SP\0\0\x31\0\0",
                                             "\0SP\0\0\x10\0\0", "GET / HT"};
    struct pair pair;
    pair_open(&pair, any_port, &test_limits);
    for (size_t i = 0; i < 3; i++) {
        int descriptor = raw_connect(&pair);
        raw_send(descriptor, beginnings[i], 8);
        probe_wait(&pair.server_probe, &pair.server_probe.closed, i + 1);
        raw_expect_end(descriptor);
        assert_int_equal(pair.server_probe.why.status, STATUS_INVALID);
    }
    struct transport_counters counters;
    transport_counters_read(pair.server, &counters);
    assert_int_equal(counters.malformed, 3);
    assert_int_equal(pair.server_probe.opened, 0);
    pair_close(&pair);
}

static void a_stream_cut_into_bytes_is_still_understood(void **state)
{
    (void)state;
    static const char bytes[] = "\0SP\0\0\x30\0\0\0\0\0\0\0\0\0\6\x80\0\0\1hi";
    struct pair pair;
    pair_open(&pair, any_port, &test_limits);
    int descriptor = raw_connect(&pair);
    int on = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    for (size_t i = 0; i < sizeof(bytes) - 1; i++)
        raw_send(descriptor, bytes + i, 1);
    char reply[22];
    assert_int_equal(recv(descriptor, reply, sizeof(reply), MSG_WAITALL), 22);
    assert_memory_equal(reply, "\0SP\0\0\x31\0\0\0\0\0\0\0\0\0\6\x80\0\0\1hi",
                        22);
    close(descriptor);
    probe_wait(&pair.server_probe, &pair.server_probe.closed, 1);
    assert_int_equal(pair.server_probe.why.status, STATUS_CLOSED);
    pair_close(&pair);
}

static void silence_ends_at_the_handshake_deadline(void **state)
{
    (void)state;
    struct transport_limits limits = test_limits;
    limits.handshake_ms = 50;
    struct pair pair;
    pair_open(&pair, any_port, &limits);
    int descriptor = raw_connect(&pair);
    raw_send(descriptor, "\0SP", 3);
    raw_expect_end(descriptor);
    probe_wait(&pair.server_probe, &pair.server_probe.closed, 1);
    assert_int_equal(pair.server_probe.why.status, STATUS_TIMEOUT);

    /* The server's transport dials now, because its deadline is short. */
    struct connection *connection;
    int silent = raw_listen(&pair);
    assert_int_equal(transport_dial(pair.server, pair.address, &client_handlers,
                                    &pair.client_probe, &connection, NULL),
                     STATUS_OK);
    probe_wait(&pair.client_probe, &pair.client_probe.closed, 1);
    assert_int_equal(pair.client_probe.why.status, STATUS_TIMEOUT);
    assert_int_equal(pair.client_probe.opened, 0);
    connection_release(connection);
    close(silent);
    pair_close(&pair);
}

static void a_frame_longer_than_the_queue_is_taken_alone(void **state)
{
    (void)state;
    struct transport_limits limits = test_limits;
    limits.queue_bytes_max = 100;
    limits.frame_bytes_max = 1000;
    struct pair pair;
    pair_open(&pair, any_port, &limits);
    int silent = raw_listen(&pair);
    struct connection *connection;
    assert_int_equal(transport_dial(pair.server, pair.address, &client_handlers,
                                    &pair.client_probe, &connection, NULL),
                     STATUS_OK);
    static const char payload[900];
    const struct bytes none = bytes_of(NULL, 0);
    assert_int_equal(
        connection_send(connection, ID_TOP_BIT, none, bytes_of(payload, 900)),
        STATUS_OK);
    assert_int_equal(
        connection_send(connection, ID_TOP_BIT, none, bytes_of(payload, 0)),
        STATUS_OVERLOADED);
    connection_release(connection);
    close(silent);
    pair_close(&pair);
}

static void a_full_queue_answers_overloaded_and_appends_nothing(void **state)
{
    (void)state;
    enum { FRAMES = 10, FRAME = 8 + 4 + 88 };
    struct transport_limits limits = test_limits;
    limits.queue_bytes_max = FRAMES * FRAME;
    limits.frame_bytes_max = 200;
    struct pair pair;
    pair_open(&pair, any_port, &limits);
    int silent = raw_listen(&pair);
    struct connection *connection;
    assert_int_equal(transport_dial(pair.server, pair.address, &client_handlers,
                                    &pair.client_probe, &connection, NULL),
                     STATUS_OK);
    static const char payload[200];
    const struct bytes none = bytes_of(NULL, 0);
    for (int i = 0; i < FRAMES; i++)
        assert_int_equal(connection_send(connection, ID_TOP_BIT, none,
                                         bytes_of(payload, 88)),
                         STATUS_OK);
    assert_int_equal(
        connection_send(connection, ID_TOP_BIT, none, bytes_of(payload, 0)),
        STATUS_OVERLOADED);
    assert_int_equal(connection_queued_bytes(connection), FRAMES * FRAME);
    assert_int_equal(
        connection_send(connection, ID_TOP_BIT, none, bytes_of(payload, 197)),
        STATUS_TOO_LARGE);
    struct transport_counters counters;
    transport_counters_read(pair.server, &counters);
    assert_int_equal(counters.queue_full, 1);
    connection_close(connection);
    assert_int_equal(
        connection_send(connection, ID_TOP_BIT, none, bytes_of(payload, 1)),
        STATUS_CLOSED);
    connection_release(connection);
    close(silent);
    pair_close(&pair);
}

static void an_address_that_cannot_be_had_is_named(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, any_port, &test_limits);
    const char *addresses[] = {pair.address, "udp://127.0.0.1:1",
                               "tcp://127.0.0.1:notaport",
                               "ipc:///nonexistent/directory/socket"};
    for (size_t i = 0; i < 4; i++) {
        struct listener *listener = NULL;
        struct error error = {0};
        assert_int_equal(transport_listen(pair.client, addresses[i],
                                          &echo_handlers, &pair.server_probe,
                                          &listener, &error),
                         STATUS_IO);
        assert_int_equal(error.status, STATUS_IO);
        assert_non_null(strstr(error.text, addresses[i]));
        if (i == 0)
            assert_non_null(strstr(error.text, "in use"));
    }
    pair_close(&pair);
}

static void connections_beyond_the_limit_are_refused_and_counted(void **state)
{
    (void)state;
    struct transport_limits limits = test_limits;
    limits.connections_max = 2;
    struct pair pair;
    pair_open(&pair, any_port, &limits);
    struct connection *connections[3];
    for (size_t i = 0; i < 2; i++) {
        connections[i] = pair_dial(&pair);
        probe_wait(&pair.server_probe, &pair.server_probe.opened, i + 1);
    }
    connections[2] = pair_dial(&pair);
    probe_wait(&pair.client_probe, &pair.client_probe.closed, 1);
    struct transport_counters counters;
    transport_counters_read(pair.server, &counters);
    assert_int_equal(counters.accepted, 2);
    assert_int_equal(counters.refused_connections, 1);

    /* A place that is given up can be had again. */
    connection_close(connections[0]);
    probe_wait(&pair.server_probe, &pair.server_probe.closed, 1);
    struct connection *late = pair_dial(&pair);
    probe_wait(&pair.server_probe, &pair.server_probe.opened, 3);
    connection_release(late);
    for (size_t i = 0; i < 3; i++)
        connection_release(connections[i]);
    pair_close(&pair);
}

static void closing_under_load_closes_each_connection_once(void **state)
{
    (void)state;
    enum { ROUNDS = 20, CLIENTS = 4, IN_FLIGHT = 64 };
    for (int round = 0; round < ROUNDS; round++) {
        struct pair pair;
        pair_open(&pair, any_port, &test_limits);
        pair.client_probe.resend = SIZE_MAX;
        struct connection *clients[CLIENTS];
        for (size_t i = 0; i < CLIENTS; i++) {
            clients[i] = pair_dial(&pair);
            for (uint32_t k = 0; k < IN_FLIGHT; k++)
                send_one(clients[i], k, "load");
        }
        probe_wait(&pair.client_probe, &pair.client_probe.opened, CLIENTS);
        probe_wait(&pair.client_probe, &pair.client_probe.frames, 500);
        /* Either side first, and one connection on its own. */
        connection_close(clients[0]);
        transport_close(round % 2 == 0 ? pair.client : pair.server);
        transport_close(round % 2 == 0 ? pair.server : pair.client);
        assert_int_equal(pair.client_probe.closed, CLIENTS);
        assert_true(pair.server_probe.closed <= CLIENTS);
        assert_true(pair.server_probe.closed >= pair.server_probe.opened);
        for (size_t i = 0; i < CLIENTS; i++) {
            assert_int_equal(connection_send(clients[i], ID_TOP_BIT,
                                             bytes_of(NULL, 0),
                                             bytes_of(NULL, 0)),
                             STATUS_CLOSED);
            connection_release(clients[i]);
        }
        probe_fini(&pair.client_probe);
        probe_fini(&pair.server_probe);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_in_flight_come_back_over_tcp),
        cmocka_unit_test(neither_end_holds_back_what_is_written),
        cmocka_unit_test(many_in_flight_come_back_over_ipc),
        cmocka_unit_test(frames_larger_than_the_read_buffer_come_back_whole),
        cmocka_unit_test(a_plain_nng_req_socket_is_a_client),
        cmocka_unit_test(a_plain_nng_rep_socket_is_a_server),
        cmocka_unit_test(oversized_frame_is_counted_and_closed_with_the_peer),
        cmocka_unit_test(a_long_frame_may_come_in_pieces),
        cmocka_unit_test(what_is_not_req_is_refused),
        cmocka_unit_test(a_stream_cut_into_bytes_is_still_understood),
        cmocka_unit_test(silence_ends_at_the_handshake_deadline),
        cmocka_unit_test(a_frame_longer_than_the_queue_is_taken_alone),
        cmocka_unit_test(a_full_queue_answers_overloaded_and_appends_nothing),
        cmocka_unit_test(an_address_that_cannot_be_had_is_named),
        cmocka_unit_test(connections_beyond_the_limit_are_refused_and_counted),
        cmocka_unit_test(closing_under_load_closes_each_connection_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
