/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/wire/wire.h"

/* Several rounds of all measurements in turn, so that an hour in which the
 * machine is slow is slow for all of them; prints the round whose rate is the
 * median. */

enum { ROUNDS_MAX = 99 };

struct measurement {
    const char *name;
    unsigned in_flight, servers;
    void (*serve)(struct run *run, unsigned server);
    void (*ask)(struct run *run);
    bool no_disk;
};

static const struct measurement measurements[] = {
    {"epoll", 1, 1, epoll_serve, epoll_ask, true},
    {"epoll", 64, 1, epoll_serve, epoll_ask, true},
    {"stream", 1, 1, stream_serve, stream_ask, true},
    {"stream", 64, 1, stream_serve, stream_ask, true},
    {"reqrep", 1, 1, reqrep_serve, reqrep_ask, true},
    {"reqrep", 64, 1, reqrep_serve, reqrep_ask, true},
    {"skeleton", 15, NODES, skeleton_serve, skeleton_ask, false},
    {"skeleton", 48, NODES, skeleton_serve, skeleton_ask, false},
    {"skeleton", PUTS_MAX, NODES, skeleton_serve, skeleton_ask, false},
    {"skeleton-no-disk", 15, NODES, skeleton_serve, skeleton_ask, true},
    {"skeleton-no-disk", 48, NODES, skeleton_serve, skeleton_ask, true},
    {"skeleton-no-disk", PUTS_MAX, NODES, skeleton_serve, skeleton_ask, true},
    {"fdatasync", 1, 0, NULL, disk_ask, false},
};

enum { MEASUREMENTS = sizeof measurements / sizeof measurements[0] };

static const char help[] =
    "wire_bench [OPTION]...\n"
    "\n"
    "What this machine can do at best: the same number of requests always in\n"
    "flight, over TCP on loopback, between processes.\n"
    "\n"
    "  epoll      echo over the kernel's sockets, many frames in one write\n"
    "  stream     the same over nng's byte streams\n"
    "  reqrep     the same over nng's REQ and REP sockets, a context each\n"
    "  skeleton   three nodes that only move, append and sync what quorum "
    "puts\n"
    "             of 100 bytes need; skeleton-no-disk: only move it\n"
    "  fdatasync  of a block of 4 KiB, overwritten\n"
    "\n"
    "  --only NAME  one of these names\n"
    "  --rounds N   whose median is printed (5)\n"
    "  --seconds S  of each measurement in a round (1)\n"
    "  --bytes B    of an echo's frame, 16 to 1024 (128)\n"
    "  --json       one object\n"
    "  --help\n";

struct bench {
    unsigned rounds, bytes;
    double seconds;
    const char *only;
    bool json;
    int files[NODES];
};

struct row {
    double rate;
    uint64_t p50_ns, p99_ns;
};

uint64_t wire_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

_Noreturn void wire_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "wire_bench: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    _exit(1);
}

static struct row measure(const struct bench *bench,
                          const struct measurement *what)
{
    struct run *run = mmap(NULL, sizeof *run, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run == MAP_FAILED)
        wire_fail("no memory: %s", strerror(errno));
    run->in_flight = what->in_flight;
    run->frame_bytes = bench->bytes;
    run->disk = !what->no_disk;
    run->length_ns = (uint64_t)(bench->seconds * 1e9);
    memcpy(run->files, bench->files, sizeof run->files);
    if (!run_processes(run, what->servers, what->serve, what->ask))
        wire_fail("%s with %u in flight failed, or took too long", what->name,
                  what->in_flight);
    struct histogram *latency = &run->tallies[0].latency;
    for (unsigned i = 1; i < NODES; i++)
        histogram_add(latency, &run->tallies[i].latency);
    struct row row = {
        .rate = (double)latency->count / bench->seconds,
        .p50_ns = histogram_quantile(latency, 0.5),
        .p99_ns = histogram_quantile(latency, 0.99),
    };
    munmap(run, sizeof *run);
    return row;
}

static int by_rate(const void *a, const void *b)
{
    double x = ((const struct row *)a)->rate, y = ((const struct row *)b)->rate;
    return (x > y) - (x < y);
}

static void print(const struct bench *bench, const struct measurement *what,
                  struct row *rows, const char *between)
{
    qsort(rows, bench->rounds, sizeof *rows, by_rate);
    struct row median = rows[bench->rounds / 2];
    printf(bench->json ? "%s\n{\"name\": \"%s\", \"in_flight\": %u, "
                         "\"requests_per_s\": %.0f, "
                         "\"requests_per_s_min\": %.0f, "
                         "\"requests_per_s_max\": %.0f, "
                         "\"p50_us\": %.1f, \"p99_us\": %.1f}"
                       : "%s%-16s %9u %12.0f %10.0f %10.0f %9.1f %9.1f\n",
           between, what->name, what->in_flight, median.rate, rows[0].rate,
           rows[bench->rounds - 1].rate, (double)median.p50_ns / 1e3,
           (double)median.p99_ns / 1e3);
}

static bool is_wanted(const struct bench *bench, unsigned i)
{
    return bench->only == NULL ||
           strcmp(bench->only, measurements[i].name) == 0;
}

static void print_all(const struct bench *bench,
                      struct row rows[MEASUREMENTS][ROUNDS_MAX])
{
    const char *between = "";
    if (bench->json)
        printf("{\"rounds\": %u, \"seconds\": %g, \"bytes\": %u, \"rows\": [",
               bench->rounds, bench->seconds, bench->bytes);
    else
        printf("%-16s %9s %12s %10s %10s %9s %9s\n", "", "in flight",
               "requests/s", "min", "max", "p50 us", "p99 us");
    for (unsigned i = 0; i < MEASUREMENTS; i++)
        if (is_wanted(bench, i)) {
            print(bench, &measurements[i], rows[i], between);
            between = bench->json ? "," : "";
        }
    printf(bench->json ? "\n]}\n" : "");
}

static _Noreturn void misused(const char *option, const char *text)
{
    fprintf(stderr, "wire_bench: %s is \"%s\"; see --help\n", option, text);
    exit(2);
}

static double number(const char *option, const char *text, double min,
                     double max)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= min && value <= max))
        misused(option, text);
    return value;
}

static void take(struct bench *bench, int option, const char *text)
{
    bool known = false;
    switch (option) {
    case 'r':
        bench->rounds = (unsigned)number("--rounds", text, 1, ROUNDS_MAX);
        break;
    case 's':
        bench->seconds = number("--seconds", text, 0.01, 3600);
        break;
    case 'b':
        bench->bytes = (unsigned)number("--bytes", text, sizeof(struct head),
                                        FRAME_BYTES_MAX);
        break;
    case 'o':
        bench->only = text;
        for (unsigned i = 0; i < MEASUREMENTS; i++)
            known = known || is_wanted(bench, i);
        if (!known)
            misused("--only", text);
        break;
    case 'j':
        bench->json = true;
        break;
    case 'h':
        printf("%s", help);
        exit(0);
    default:
        exit(2); /* getopt has said why */
    }
}

static void parse(struct bench *bench, int argc, char **argv)
{
    static const struct option options[] = {
        {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'},
        {"bytes", required_argument, NULL, 'b'},
        {"only", required_argument, NULL, 'o'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    for (int option;
         (option = getopt_long(argc, argv, "", options, NULL)) >= 0;)
        take(bench, option, optarg);
    if (optind < argc)
        misused("an argument", argv[optind]);
}

int main(int argc, char **argv)
{
    static struct row rows[MEASUREMENTS][ROUNDS_MAX];
    struct bench bench = {.rounds = 5, .bytes = 128, .seconds = 1};
    parse(&bench, argc, argv);
    for (unsigned i = 0; i < NODES; i++)
        bench.files[i] = disk_file();
    for (unsigned round = 0; round < bench.rounds; round++)
        for (unsigned i = 0; i < MEASUREMENTS; i++)
            if (is_wanted(&bench, i))
                rows[i][round] = measure(&bench, &measurements[i]);
    print_all(&bench, rows);
    return 0;
}
