/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/wire/wire.h"

enum {
    /* To fork and to connect, on a machine with much else to do. */
    SETUP_S = 20,
    POLL_NS = 1000000,
};

static pid_t start(const struct run *run)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    /* Twice the length, because run_begin adds to it. */
    alarm(SETUP_S + 2 * (unsigned)(run->length_ns / 1000000000));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    return 0;
}

/* False also for one that could not be started. */
static bool ended_well(pid_t pid)
{
    int status;
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

bool run_processes(struct run *run, unsigned servers,
                   void (*serve)(struct run *, unsigned),
                   void (*ask)(struct run *))
{
    pid_t pids[NODES];
    for (unsigned i = 0; i < servers; i++) {
        pids[i] = start(run);
        if (pids[i] == 0) {
            serve(run, i);
            _exit(0);
        }
    }
    pid_t client = start(run);
    if (client == 0) {
        ask(run);
        _exit(0);
    }
    bool good = ended_well(client);
    for (unsigned i = 0; i < servers; i++) {
        if (pids[i] <= 0)
            continue;
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    return good;
}

void run_publish(struct run *run, unsigned server, int port)
{
    atomic_store(&run->ports[server], port);
}

int run_port(struct run *run, unsigned server)
{
    int port;
    while ((port = atomic_load(&run->ports[server])) == 0)
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    return port;
}

void run_begin(struct run *run)
{
    uint64_t begin = wire_now_ns() + run->length_ns / 10;
    for (unsigned i = 0; i < NODES; i++) {
        run->tallies[i].begin_ns = begin;
        run->tallies[i].end_ns = begin + run->length_ns;
    }
}

void tally_record(struct tally *tally, uint64_t started_ns, uint64_t now_ns)
{
    if (now_ns >= tally->begin_ns && now_ns < tally->end_ns)
        histogram_record(&tally->latency, now_ns - started_ns, 1);
}

size_t frames_whole(const uint8_t *data, size_t size)
{
    struct head head;
    size_t whole = 0;
    while (size - whole >= sizeof head) {
        memcpy(&head, data + whole, sizeof head);
        if (head.bytes < sizeof head || head.bytes > FRAME_BYTES_MAX)
            wire_fail("a frame of %u bytes", head.bytes);
        if (size - whole < head.bytes)
            break;
        whole += head.bytes;
    }
    return whole;
}

void frames_record(uint8_t *data, size_t size, struct tally *tally)
{
    uint64_t now = wire_now_ns();
    struct head head;
    for (size_t at = 0; at < size; at += head.bytes) {
        memcpy(&head, data + at, sizeof head);
        tally_record(tally, head.started_ns, now);
        head.started_ns = now;
        memcpy(data + at, &head, sizeof head);
    }
}
