/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/proto/transport_fixture.h"

/* Processes die by SIGKILL with 64 requests in flight. With nng's SP sockets
 * 195 of 200 such deaths of a client leaked the server's descriptor, and after
 * 11 to 20 of a server its clients never reconnected. */

enum {
    WAVES_TCP = 50,
    WAVES_IPC = 10,
    WAVE = 4, /* clients, so that the server also sees several go at once */
    RESTARTS = 100,
    IN_FLIGHT = 64,
};

extern char **environ;

static size_t open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    size_t count = 0;
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* does: dial or listen. *output becomes readable when the process has had its
 * first reply, or listens. */
static pid_t spawn_victim(const char *does, const char *address, int *output)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    char program[] = TRANSPORT_VICTIM;
    char verb[8], argument[160];
    snprintf(verb, sizeof(verb), "%s", does);
    snprintf(argument, sizeof(argument), "%s", address);
    char *const arguments[] = {program, verb, argument, NULL};
    pid_t child;
    assert_int_equal(
        posix_spawn(&child, program, &actions, NULL, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    *output = ends[0];
    return child;
}

static void await_word(int output)
{
    char byte;
    assert_int_equal(read(output, &byte, 1), 1);
    close(output);
}

/* It was alive when it was killed. */
static void bury(pid_t victim)
{
    int status;
    assert_int_equal(waitpid(victim, &status, 0), victim);
    assert_true(WIFSIGNALED(status));
}

static void fresh_client_is_served(struct pair *pair)
{
    size_t frames = probe_read(&pair->client_probe, &pair->client_probe.frames);
    size_t closed = probe_read(&pair->client_probe, &pair->client_probe.closed);
    struct connection *connection = pair_dial(pair);
    send_one(connection, 1, "fresh");
    probe_wait(&pair->client_probe, &pair->client_probe.frames, frames + 1);
    connection_close(connection);
    connection_release(connection);
    probe_wait(&pair->client_probe, &pair->client_probe.closed, closed + 1);
}

static void deaths_leave_nothing_behind(const char *address, int waves)
{
    struct pair pair;
    pair_open(&pair, address, &test_limits);
    size_t gone = 0;
    size_t descriptors = open_descriptors();
    for (int wave = 0; wave < waves; wave++) {
        pid_t victims[WAVE];
        int outputs[WAVE];
        for (size_t i = 0; i < WAVE; i++)
            victims[i] = spawn_victim("dial", pair.address, &outputs[i]);
        for (size_t i = 0; i < WAVE; i++)
            await_word(outputs[i]);
        for (size_t i = 0; i < WAVE; i++)
            assert_int_equal(kill(victims[i], SIGKILL), 0);
        fresh_client_is_served(&pair);
        for (size_t i = 0; i < WAVE; i++)
            bury(victims[i]);
        gone += WAVE + 1;
        probe_wait(&pair.server_probe, &pair.server_probe.closed, gone);
        assert_int_equal(open_descriptors(), descriptors);
    }
    struct transport_counters counters;
    transport_counters_read(pair.server, &counters);
    assert_int_equal(counters.accepted, gone);
    pair_close(&pair);
}

static void two_hundred_deaths_over_tcp_leave_nothing_behind(void **state)
{
    (void)state;
    deaths_leave_nothing_behind("tcp://127.0.0.1:0", WAVES_TCP);
}

static void forty_deaths_over_ipc_leave_nothing_behind(void **state)
{
    (void)state;
    char directory[100];
    char address[150];
    ipc_address(directory, sizeof(directory), address, sizeof(address));
    deaths_leave_nothing_behind(address, WAVES_IPC);
    assert_int_equal(rmdir(directory), 0);
}

/* --- the server dies --- */

static bool is_open(struct probe *probe, size_t opened, size_t closed)
{
    pthread_mutex_lock(&probe->lock);
    while (probe->opened == opened && probe->closed == closed)
        pthread_cond_wait(&probe->changed, &probe->lock);
    bool open = probe->opened > opened;
    pthread_mutex_unlock(&probe->lock);
    return open;
}

/* NULL when nobody listens. */
static struct connection *dial_once(struct pair *pair)
{
    struct probe *probe = &pair->client_probe;
    size_t opened = probe_read(probe, &probe->opened);
    size_t closed = probe_read(probe, &probe->closed);
    struct connection *connection = pair_dial(pair);
    if (is_open(probe, opened, closed))
        return connection;
    connection_release(connection);
    return NULL;
}

/* It dials while the server starts, and once more when that listens. */
static struct connection *dial_a_starting_server(struct pair *pair, int output)
{
    enum { EARLY_TRIES = 8 };
    struct connection *connection = NULL;
    for (int i = 0; i < EARLY_TRIES && connection == NULL; i++)
        connection = dial_once(pair);
    await_word(output);
    if (connection == NULL)
        connection = dial_once(pair);
    assert_non_null(connection);
    return connection;
}

/* Each request in flight is answered once and sent again before the end. */
static void load_and_kill(struct pair *pair, struct connection *connection,
                          pid_t server)
{
    struct probe *probe = &pair->client_probe;
    size_t frames = probe_read(probe, &probe->frames);
    size_t closed = probe_read(probe, &probe->closed);
    for (uint32_t i = 0; i < IN_FLIGHT; i++)
        send_one(connection, i, "payload");
    probe_wait(probe, &probe->frames, frames + 2 * IN_FLIGHT);
    assert_int_equal(kill(server, SIGKILL), 0);
    bury(server);
    probe_wait(probe, &probe->closed, closed + 1);
    connection_release(connection);
}

static void every_restart_is_reconnected_to(const char *address)
{
    struct pair pair = {0};
    struct error error = {0};
    snprintf(pair.address, sizeof(pair.address), "%s", address);
    probe_init(&pair.client_probe);
    pair.client_probe.resend = SIZE_MAX;
    pair.client_probe.expected = bytes_of_string("payload");
    assert_int_equal(transport_open(&test_limits, &pair.client, &error),
                     STATUS_OK);
    size_t descriptors = open_descriptors();
    for (int i = 0; i < RESTARTS; i++) {
        int output;
        pid_t server = spawn_victim("listen", address, &output);
        struct connection *connection = dial_a_starting_server(&pair, output);
        load_and_kill(&pair, connection, server);
        assert_int_equal(open_descriptors(), descriptors);
    }
    assert_int_equal(pair.client_probe.bad, 0);
    assert_int_equal(pair.client_probe.opened, RESTARTS);
    transport_close(pair.client);
    probe_fini(&pair.client_probe);
}

/* Below the kernel's own range: a dialer whose own port is the one that it
 * dials is connected to itself. */
static void free_address(char *address, size_t size)
{
    enum { FIRST = 8000, TRIES = 1000 };
    for (int i = 0; i < TRIES; i++) {
        int port = FIRST + (getpid() + i) % TRIES;
        struct sockaddr_in name = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(descriptor >= 0);
        int status = bind(descriptor, (struct sockaddr *)&name, sizeof(name));
        close(descriptor);
        if (status == 0) {
            snprintf(address, size, "tcp://127.0.0.1:%d", port);
            return;
        }
    }
    fail_msg("no port is free");
}

static void a_dialer_outlives_a_hundred_servers_over_tcp(void **state)
{
    (void)state;
    char address[150];
    free_address(address, sizeof(address));
    every_restart_is_reconnected_to(address);
}

static void a_dialer_outlives_a_hundred_servers_over_ipc(void **state)
{
    (void)state;
    char directory[100];
    char address[150];
    ipc_address(directory, sizeof(directory), address, sizeof(address));
    every_restart_is_reconnected_to(address);
    /* The last one that was killed could not remove its socket. */
    assert_int_equal(unlink(address + strlen("ipc://")), 0);
    assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_hundred_deaths_over_tcp_leave_nothing_behind),
        cmocka_unit_test(forty_deaths_over_ipc_leave_nothing_behind),
        cmocka_unit_test(a_dialer_outlives_a_hundred_servers_over_tcp),
        cmocka_unit_test(a_dialer_outlives_a_hundred_servers_over_ipc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
