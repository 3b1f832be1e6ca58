/* SPDX-License-Identifier: MIT */
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/proto/transport_fixture.h"

/* With nng's SP sockets 195 of 200 such deaths leaked a descriptor. Processes
 * die by SIGKILL with 64 requests in flight, a few at a time, so that the
 * server also sees several go at once. */

enum { WAVES_TCP = 50, WAVES_IPC = 10, WAVE = 4 };

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

/* nng closes descriptors on a thread of its own, after closed was called. The
 * bound is work, not time: a leak never goes away. */
static void descriptors_come_back_to(size_t wanted)
{
    enum { TRIES = 20000 };
    for (int i = 0; i < TRIES && open_descriptors() > wanted; i++)
        sched_yield();
    assert_in_range(open_descriptors(), 0, wanted);
}

/* *output becomes readable when the process has had its first reply. */
static pid_t spawn_victim(const char *address, int *output)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    char program[] = TRANSPORT_VICTIM;
    char argument[160];
    snprintf(argument, sizeof(argument), "%s", address);
    char *const arguments[] = {program, argument, NULL};
    pid_t child;
    assert_int_equal(
        posix_spawn(&child, program, &actions, NULL, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    *output = ends[0];
    return child;
}

static void await_first_reply(int output)
{
    char byte;
    assert_int_equal(read(output, &byte, 1), 1);
    close(output);
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
            victims[i] = spawn_victim(pair.address, &outputs[i]);
        for (size_t i = 0; i < WAVE; i++)
            await_first_reply(outputs[i]);
        for (size_t i = 0; i < WAVE; i++)
            assert_int_equal(kill(victims[i], SIGKILL), 0);
        fresh_client_is_served(&pair);
        for (size_t i = 0; i < WAVE; i++) {
            int status;
            assert_int_equal(waitpid(victims[i], &status, 0), victims[i]);
            /* It was alive, with requests in flight, when it was killed. */
            assert_true(WIFSIGNALED(status));
        }
        gone += WAVE + 1;
        probe_wait(&pair.server_probe, &pair.server_probe.closed, gone);
        descriptors_come_back_to(descriptors);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_hundred_deaths_over_tcp_leave_nothing_behind),
        cmocka_unit_test(forty_deaths_over_ipc_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
