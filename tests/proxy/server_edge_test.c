/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/envelope.h"
#include "proxy/core/node.h"
#include "proxy/storage.h"
#include "tests/proto/transport_fixture.h"
#include "tests/proxy/server_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* What whole servers do about clients and peers with bad manners, and about
 * another program's disk. But for that the engine does not matter here, so it
 * is the one that needs none. */

enum { KIB = 1024, MIB = 1024 * KIB };

/* Connections of ours to a server's ports, by hand. */
struct stranger {
    struct transport *transport;
    struct probe probe;
};

static void stranger_init(struct stranger *stranger)
{
    struct error error;
    probe_init(&stranger->probe);
    if (transport_open(&test_limits, &stranger->transport, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void stranger_fini(struct stranger *stranger)
{
    transport_close(stranger->transport);
    probe_fini(&stranger->probe);
}

static struct connection *
stranger_dial(struct stranger *stranger, const char *address,
              const struct transport_handlers *handlers, void *user)
{
    struct connection *connection;
    struct error error;
    if (transport_dial(stranger->transport, address, handlers, user,
                       &connection, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return connection;
}

static void send_message(struct connection *connection, uint32_t number,
                         struct bytes hops, Rkv__Envelope *envelope)
{
    struct buffer packed = {0};
    envelope->version = PROTOCOL_VERSION_MAX;
    assert_int_equal(envelope_pack(envelope, &packed), STATUS_OK);
    assert_int_equal(connection_send(connection, ID_TOP_BIT | number, hops,
                                     buffer_bytes(&packed)),
                     STATUS_OK);
    buffer_fini(&packed);
}

static void send_write(struct connection *connection, uint32_t number)
{
    uint8_t id[REPLIKV_REQUEST_ID_BYTES] = {0};
    memcpy(id, &number, sizeof number);
    Rkv__Write write = RKV__WRITE__INIT;
    write.key = binary_of_bytes(bytes_of_string("gone"));
    write.value = binary_of_bytes(bytes_of_string("value"));
    write.request_id = binary_of_bytes(bytes_of(id, sizeof id));
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    envelope.body_case = RKV__ENVELOPE__BODY_WRITE;
    envelope.write = &write;
    send_message(connection, number, (struct bytes){0}, &envelope);
}

/* Send many writes, hang up at the first answer. */
static void write_and_go(struct cluster *cluster, uint32_t first)
{
    enum { WRITES = 256 };
    struct stranger client;
    stranger_init(&client);
    struct connection *connection = stranger_dial(
        &client, cluster->nodes[0].client, &client_handlers, &client.probe);
    for (uint32_t i = 0; i < WRITES; i++)
        send_write(connection, first + i);
    connection_flush(connection);
    probe_wait(&client.probe, &client.probe.frames, 1);
    connection_close(connection);
    connection_release(connection);
    stranger_fini(&client);
}

struct going {
    struct cluster *cluster;
    uint32_t number;
};

/* Whether an answer is under way when its client goes is the scheduler's
 * choice: it is, sooner or later. */
static bool has_dropped(void *of)
{
    struct going *going = of;
    write_and_go(going->cluster, going->number);
    going->number += 1000;
    return cluster_counter(going->cluster, 0, "replies_dropped") > 0;
}

static void replies_to_gone_clients_are_dropped(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new("memory", 3, NULL);
    cluster_open(cluster);
    struct going going = {.cluster = cluster};
    assert_int_equal(cluster_counter(cluster, 0, "replies_dropped"), 0);
    wait_until("a reply is dropped", has_dropped, &going);
    expect_serves(cluster, 0, "others");
    cluster_free(cluster);
}

/* --- a client that does not read --- */

static int plain_socket(const char *address)
{
    static const uint8_t hello[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
    char host[32];
    unsigned port;
    assert_int_equal(sscanf(address, "tcp://%31[0-9.]:%u", host, &port), 2);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port)};
    assert_int_equal(inet_pton(AF_INET, host, &to.sin_addr), 1);
    int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(socket_fd >= 0);
    int small = 4 * KIB;
    setsockopt(socket_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    struct timeval patience = {.tv_sec = 60};
    setsockopt(socket_fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(socket_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(socket_fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(send(socket_fd, hello, sizeof hello, MSG_NOSIGNAL),
                     sizeof hello);
    return socket_fd;
}

/* The frame of a Read of key "large". */
static void read_frame(struct buffer *frame)
{
    struct buffer packed = {0};
    Rkv__Read read = RKV__READ__INIT;
    read.key = binary_of_bytes(bytes_of_string("large"));
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    envelope.version = PROTOCOL_VERSION_MAX;
    envelope.body_case = RKV__ENVELOPE__BODY_READ;
    envelope.read = &read;
    assert_int_equal(envelope_pack(&envelope, &packed), STATUS_OK);
    uint8_t head[12] = {[7] = (uint8_t)(4 + packed.size), [8] = 0x80};
    assert_int_equal(buffer_append(frame, bytes_of(head, sizeof head)),
                     STATUS_OK);
    assert_int_equal(buffer_append(frame, buffer_bytes(&packed)), STATUS_OK);
    buffer_fini(&packed);
}

static bool is_dropped(void *of)
{
    return cluster_counter(of, 0, "replies_dropped") > 0;
}

/* How many bytes come before the other side has hung up. */
static size_t read_to_end(int socket_fd)
{
    static uint8_t bytes[64 * KIB];
    size_t total = 0;
    ssize_t some;
    while ((some = recv(socket_fd, bytes, sizeof bytes, 0)) > 0)
        total += (size_t)some;
    assert_true(some == 0 || errno == ECONNRESET);
    return total;
}

static void a_client_that_does_not_read_is_hung_up_on(void **state)
{
    (void)state;
    /* Of 64 MiB of replies the kernel takes some and the server one. */
    enum { VALUE = 64 * KIB, REQUESTS = 1000 };
    struct cluster *cluster =
        cluster_new("memory", 1, "limits: {queue_bytes_max: 1MiB}\n");
    cluster_open(cluster);
    uint8_t *value = calloc(1, VALUE);
    assert_non_null(value);
    struct replikv_result *result =
        replikv_put(cluster->nodes[0].ask, replikv_bytes_of("large", 5),
                    replikv_bytes_of(value, VALUE), (struct replikv_bytes){0});
    assert_int_equal(result->outcome, REPLIKV_APPLIED);
    replikv_result_free(result);
    free(value);

    struct buffer frame = {0};
    read_frame(&frame);
    int client = plain_socket(cluster->nodes[0].client);
    for (int i = 0; i < REQUESTS; i++)
        assert_int_equal(send(client, frame.data, frame.size, MSG_NOSIGNAL),
                         frame.size);
    buffer_fini(&frame);
    wait_until("a reply is dropped", is_dropped, cluster);
    /* There is an end behind what the kernel had taken by then. */
    assert_true(read_to_end(client) < (size_t)REQUESTS * VALUE / 2);
    close(client);
    expect_serves(cluster, 0, "others");
    cluster_free(cluster);
}

/* --- devices --- */

struct answer {
    uint32_t number;
    uint8_t hops[16];
    size_t hops_size;
};

struct answers {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t count;
    struct answer list[8];
};

static void on_answers(struct connection *connection, void *user,
                       const struct frame *frames, size_t count)
{
    struct answers *answers = user;
    (void)connection;
    pthread_mutex_lock(&answers->lock);
    for (size_t i = 0; i < count && answers->count < 8; i++) {
        struct answer *answer = &answers->list[answers->count++];
        answer->number = frames[i].id & ~ID_TOP_BIT;
        answer->hops_size = frames[i].hops.size;
        if (frames[i].hops.size > 0 &&
            frames[i].hops.size <= sizeof answer->hops)
            memcpy(answer->hops, frames[i].hops.data, frames[i].hops.size);
    }
    pthread_cond_broadcast(&answers->changed);
    pthread_mutex_unlock(&answers->lock);
}

static void on_nothing(struct connection *connection, void *user)
{
    (void)connection;
    (void)user;
}

static void on_end(struct connection *connection, void *user,
                   const struct error *why)
{
    (void)connection;
    (void)user;
    (void)why;
}

static const struct transport_handlers answer_handlers = {
    .opened = on_nothing, .frames = on_answers, .closed = on_end};

static void send_status(struct connection *connection, uint32_t number,
                        struct bytes hops)
{
    Rkv__Admin admin = RKV__ADMIN__INIT;
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    envelope.body_case = RKV__ENVELOPE__BODY_ADMIN;
    envelope.admin = &admin;
    send_message(connection, number, hops, &envelope);
}

static const struct answer *answer_to(const struct answers *answers,
                                      uint32_t number)
{
    for (size_t i = 0; i < answers->count; i++)
        if (answers->list[i].number == number)
            return &answers->list[i];
    fail_msg("no answer to %u", number);
    return NULL;
}

static void a_frame_through_a_device_finds_its_way_back(void **state)
{
    (void)state;
    static const uint8_t ways[3][8] = {
        {0}, {0, 0, 0, 7}, {0x7f, 1, 2, 3, 0, 0, 0, 9}};
    static const size_t sizes[3] = {0, 4, 8};
    struct cluster *cluster = cluster_new("memory", 1, NULL);
    struct answers answers = {.lock = PTHREAD_MUTEX_INITIALIZER,
                              .changed = PTHREAD_COND_INITIALIZER};
    struct stranger device;
    cluster_open(cluster);
    stranger_init(&device);
    struct connection *connection = stranger_dial(
        &device, cluster->nodes[0].client, &answer_handlers, &answers);
    for (uint32_t i = 0; i < 3; i++)
        send_status(connection, 40 + i, bytes_of(ways[i], sizes[i]));
    connection_flush(connection);
    pthread_mutex_lock(&answers.lock);
    while (answers.count < 3)
        pthread_cond_wait(&answers.changed, &answers.lock);
    for (uint32_t i = 0; i < 3; i++) {
        const struct answer *answer = answer_to(&answers, 40 + i);
        assert_int_equal(answer->hops_size, sizes[i]);
        assert_memory_equal(answer->hops, ways[i], sizes[i]);
    }
    pthread_mutex_unlock(&answers.lock);
    connection_release(connection);
    stranger_fini(&device);
    cluster_free(cluster);
}

/* --- peers --- */

static void a_peer_that_never_says_hello_is_closed(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new("memory", 1, NULL);
    struct stranger peer;
    cluster_open(cluster);
    stranger_init(&peer);
    struct connection *connection = stranger_dial(
        &peer, cluster->nodes[0].peer, &client_handlers, &peer.probe);
    probe_wait(&peer.probe, &peer.probe.opened, 1);
    probe_wait(&peer.probe, &peer.probe.closed, 1);
    assert_int_equal(peer.probe.why.status, STATUS_CLOSED);
    assert_int_equal(probe_read(&peer.probe, &peer.probe.frames), 0);
    connection_release(connection);
    assert_int_equal(cluster_counter(cluster, 0, "hellos_late"), 1);
    expect_serves(cluster, 0, "others");
    stranger_fini(&peer);
    cluster_free(cluster);
}

static void a_peer_that_begins_with_something_else_is_refused(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new("memory", 1, NULL);
    struct stranger peer;
    cluster_open(cluster);
    stranger_init(&peer);
    struct connection *connection = stranger_dial(
        &peer, cluster->nodes[0].peer, &client_handlers, &peer.probe);
    Rkv__Ping ping = RKV__PING__INIT;
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    envelope.body_case = RKV__ENVELOPE__BODY_PING;
    envelope.ping = &ping;
    send_message(connection, 1, (struct bytes){0}, &envelope);
    connection_flush(connection);
    probe_wait(&peer.probe, &peer.probe.closed, 1);
    /* It is told why, and before it could be late. */
    assert_int_equal(probe_read(&peer.probe, &peer.probe.frames), 1);
    assert_int_equal(cluster_counter(cluster, 0, "hellos_late"), 0);
    connection_release(connection);
    stranger_fini(&peer);
    cluster_free(cluster);
}

static void a_silent_lane_is_closed(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_new("memory", 2, "replication: {lane_timeout_ms: 100}\n");
    struct stranger peer;
    struct listener *listener;
    struct error error;
    stranger_init(&peer);
    /* In the place of n2, which n1 knows from its seeds. */
    if (transport_listen(peer.transport, cluster->nodes[1].peer,
                         &client_handlers, &peer.probe, &listener,
                         &error) != STATUS_OK)
        fail_msg("%s", error.text);
    cluster_open_node(cluster, 0, false);
    probe_wait(&peer.probe, &peer.probe.frames, 1);
    probe_wait(&peer.probe, &peer.probe.closed, 1);
    /* It is tried again all the same. */
    probe_wait(&peer.probe, &peer.probe.closed, 2);
    assert_true(probe_read(&peer.probe, &peer.probe.opened) >= 2);
    assert_true(cluster_counter(cluster, 0, "lanes_silent") >= 2);
    cluster_close_node(cluster, 0);
    stranger_fini(&peer);
    cluster_free(cluster);
}

static void a_port_in_use_is_named_and_nothing_is_left(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new("memory", 1, NULL);
    cluster_open(cluster);
    struct config *other = malloc(sizeof *other);
    assert_non_null(other);
    struct server_options options = {.replace = false};
    struct server *server;
    struct error error;
    /* The peer port, and, when that is free, the client port. */
    for (int i = 0; i < 2; i++) {
        *other = cluster->nodes[0].config;
        strcat(other->data_dir, "-other");
        if (i == 1)
            snprintf(other->peer_address, sizeof other->peer_address,
                     "ipc://%.100s/peer", cluster->directory);
        assert_int_equal(server_open(other, &options, &server, &error),
                         STATUS_IO);
        assert_null(server);
        assert_non_null(
            strstr(error.text, i == 0 ? "listen.peer" : "listen.client"));
    }
    free(other);
    expect_serves(cluster, 0, "others");
    cluster_free(cluster);
}

/* --- another program's disk --- */

static void told(void *user, const struct storage_done *done, size_t count)
{
    (void)user, (void)done, (void)count;
}

static void logged(void *user, const char *line)
{
    (void)user, (void)line;
}

static void set_on_disk(const struct cluster *cluster, const char *name,
                        struct bytes value)
{
    static const struct storage_handlers handlers = {.done = told,
                                                     .log = logged};
    const struct config *config = &cluster->nodes[0].config;
    const struct storage_config storage_config = {
        .type = engine_type_find("lsm"),
        .options = {.directory = config->data_dir},
        .queue_max = 1,
        .queue_bytes_max = 1};
    struct storage *storage;
    struct error error;
    assert_int_equal(
        storage_open(&storage_config, &handlers, NULL, &storage, &error),
        STATUS_OK);
    assert_int_equal(storage_meta_set(storage, TABLE_META, name, value),
                     STATUS_OK);
    storage_close(storage);
}

static void expect_refused(struct cluster *cluster, bool replace,
                           const char *said)
{
    struct server_options options = {.replace = replace};
    struct server *server;
    struct error error;
    assert_int_equal(
        server_open(&cluster->nodes[0].config, &options, &server, &error),
        STATUS_REFUSED);
    assert_non_null(strstr(error.text, said));
}

/* They would be taken for damaged ones, and written over. */
static void records_of_another_format_are_refused(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new("lsm", 1, NULL);
    mkdir(cluster->nodes[0].config.data_dir, 0700);
    set_on_disk(cluster, META_STORE, bytes_of("0123456789abcdef", 16));
    expect_refused(cluster, false, "its records are of format 1,");
    expect_refused(cluster, true, "its records are of format 1,");
    set_on_disk(cluster, META_FORMAT, bytes_of("\4", 1));
    expect_refused(cluster, true, "its records are of format 4,");
    set_on_disk(cluster, META_FORMAT, bytes_of("\3", 1));
    cluster_open(cluster);
    expect_serves(cluster, 0, "ours");
    cluster_free(cluster);
}

static void a_disk_of_other_partitions_is_refused(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new("lsm", 1, NULL);
    cluster_open(cluster);
    cluster_close_node(cluster, 0);
    cluster->nodes[0].config.partitions = 16;
    expect_refused(cluster, false,
                   "it has cluster test, node n1, partitions 8");
    cluster_free(cluster);
}

/* --- counters --- */

static void count_malformed(struct cluster *cluster, struct stranger *stranger)
{
    struct probe *probe = &stranger->probe;
    struct connection *connection = stranger_dial(
        stranger, cluster->nodes[0].client, &client_handlers, probe);
    send_one(connection, 1, "\xff\xff");
    probe_wait(probe, &probe->frames, 1);
    assert_int_equal(cluster_counter(cluster, 0, "frames_malformed"), 1);
    assert_int_equal(probe_read(probe, &probe->closed), 0);
    /* One more, and the connection serves on. */
    send_one(connection, 2, "\xff\xff");
    send_status(connection, 3, (struct bytes){0});
    connection_flush(connection);
    probe_wait(probe, &probe->frames, 3);
    assert_int_equal(cluster_counter(cluster, 0, "frames_malformed"), 2);
    connection_close(connection);
    connection_release(connection);
    probe_wait(probe, &probe->closed, 1);
}

static void count_oversized(struct cluster *cluster, struct stranger *stranger)
{
    struct probe *probe = &stranger->probe;
    uint8_t *bytes = calloc(1, 2 * MIB);
    assert_non_null(bytes);
    struct connection *connection = stranger_dial(
        stranger, cluster->nodes[0].client, &client_handlers, probe);
    assert_int_equal(connection_send(connection, ID_TOP_BIT | 1,
                                     (struct bytes){0},
                                     bytes_of(bytes, 2 * MIB)),
                     STATUS_OK);
    connection_flush(connection);
    free(bytes);
    probe_wait(probe, &probe->frames, 4);
    connection_release(connection); /* and it stays */
    assert_int_equal(cluster_counter(cluster, 0, "frames_oversized"), 1);
}

static void count_refused(struct cluster *cluster, struct stranger *stranger)
{
    /* Of three the fixture's own client has one, the last stranger another. */
    struct probe *probe = &stranger->probe;
    struct connection *held[2];
    for (size_t i = 0; i < 2; i++) {
        held[i] = stranger_dial(stranger, cluster->nodes[0].client,
                                &client_handlers, probe);
        if (i < 1)
            probe_wait(probe, &probe->opened, 3);
    }
    probe_wait(probe, &probe->closed, 2);
    assert_int_equal(cluster_counter(cluster, 0, "connections_refused"), 1);
    for (size_t i = 0; i < 2; i++)
        connection_release(held[i]);
}

/* As a reader last saw it, up to a second ago. */
static bool has_keys(void *of)
{
    return cluster_counter(of, 0, "engine_keys") > 0;
}

static void status_counts_what_the_edges_saw(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new("memory", 1,
                                          "limits: {connections_max: 3, "
                                          "value_bytes_max: 1MiB}\n");
    struct stranger stranger;
    cluster_open(cluster);
    stranger_init(&stranger);
    uint64_t operations = cluster_counter(cluster, 0, "storage_operations");
    expect_serves(cluster, 0, "counted");
    assert_true(cluster_counter(cluster, 0, "storage_operations") > operations);
    wait_until("the engine's keys are counted", has_keys, cluster);
    count_malformed(cluster, &stranger);
    count_oversized(cluster, &stranger);
    count_refused(cluster, &stranger);
    stranger_fini(&stranger);
    static const char *const others[] = {"replies_dropped", "replies_too_large",
                                         "hellos_late", "lanes_silent",
                                         "messages_dropped"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(cluster_counter(cluster, 0, others[i]), 0);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_to_gone_clients_are_dropped),
        cmocka_unit_test(a_client_that_does_not_read_is_hung_up_on),
        cmocka_unit_test(a_frame_through_a_device_finds_its_way_back),
        cmocka_unit_test(a_peer_that_never_says_hello_is_closed),
        cmocka_unit_test(a_peer_that_begins_with_something_else_is_refused),
        cmocka_unit_test(a_silent_lane_is_closed),
        cmocka_unit_test(a_port_in_use_is_named_and_nothing_is_left),
        cmocka_unit_test(records_of_another_format_are_refused),
        cmocka_unit_test(a_disk_of_other_partitions_is_refused),
        cmocka_unit_test(status_counts_what_the_edges_saw),
    };
    return cmocka_run_group_tests_name("server_edge", tests, NULL, NULL);
}
