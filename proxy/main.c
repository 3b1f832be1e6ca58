/* SPDX-License-Identifier: MIT */
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "proxy/log.h"
#include "proxy/server.h"

/* replikvd: one node. */

enum {
    EXIT_USAGE = 2,
    /* The node cannot start, or cannot go on. */
    EXIT_HALTED = 1,
    /* Deadlines and probes are in tens of milliseconds; 100 wake-ups a second
     * of an idle node are 0.1 % of a core. */
    TICK_MS = 10,
    /* glibc gives every thread a heap of its own, each with its own waste;
     * a node's threads share two. */
    HEAPS = 2,
    /* What is larger comes from the system and goes back to it when freed.
     * glibc raises its own threshold to the largest that was freed, up to
     * 32 MiB, and a burst of large values then stays in the heaps. */
    HEAP_BLOCK_BYTES_MAX = 256 * 1024,
    /* Some 40 GiB of tables, and a thousand connections. */
    DESCRIPTORS_MIN = 4096,
};

static const char usage[] =
    "usage: replikvd --config FILE [--replace]\n"
    "       replikvd --check-config FILE\n"
    "\n"
    "  --config FILE        run the node that FILE describes; Ctrl-C or\n"
    "                       SIGTERM stops it cleanly\n"
    "  --replace            this node's former disk is lost, damaged or older\n"
    "                       than it was: set what is there aside, and fill\n"
    "                       another from the other nodes before it votes; for\n"
    "                       one start, and one node at a time\n"
    "  --check-config FILE  report every mistake in FILE, and do nothing else\n"
    "  --version, --help\n"
    "\n"
    "A crash leaves DATA_DIR/flight.rec, the last events of the node with\n"
    "keys and values, for its owner alone; sim --replay steps through it.\n"
    "\n"
    "examples/node.yaml explains every key. Exit status: 0 stopped as asked,\n"
    "1 the node cannot start or go on (standard error says why), 2 usage or\n"
    "a mistake in the configuration.\n";

static void print_mistakes(const struct config_mistakes *mistakes)
{
    for (size_t i = 0; i < mistakes->count; i++)
        fprintf(stderr, "%s\n", mistakes->list[i].text);
}

static bool load(const char *path, struct config *config)
{
    struct config_mistakes *mistakes = calloc(1, sizeof *mistakes);
    if (mistakes == NULL)
        return false;
    bool ok =
        config_load(path, engine_type_find, config, mistakes) == STATUS_OK;
    print_mistakes(mistakes);
    free(mistakes);
    return ok;
}

static void warn_of_sync(const struct config *config)
{
    const struct engine_type *type = engine_type_find(config->engine);
    if (!(type->capabilities & ENGINE_DURABLE))
        log_line("event=not_durable storage.engine=%s "
                 "means=\"a restart loses this node's copies\"",
                 config->engine);
    else if (config->sync == CONFIG_SYNC_NONE)
        log_line("event=not_durable storage.sync=none "
                 "means=\"a power failure may lose acknowledged writes\"");
    else if (config->sync == CONFIG_SYNC_INTERVAL)
        log_line("event=not_durable storage.sync=interval means=\"a power "
                 "failure may lose acknowledged writes of the last %u ms\"",
                 config->sync_interval_ms);
}

/* Signals are waited for, so that none interrupts a thread. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The engine's tables take one descriptor each, as connections do, and the
 * soft limit is low for the sake of programs that use select. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)!setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < DESCRIPTORS_MIN)
        log_line("event=few_descriptors limit=%llu means=\"a large store or "
                 "many clients may need %d: raise the hard limit of open "
                 "files\"",
                 (unsigned long long)limit.rlim_max, DESCRIPTORS_MIN);
}

static int run(struct config *config, const struct server_options *options)
{
    sigset_t stop;
    struct server *server;
    struct error error;
    mallopt(M_ARENA_MAX, HEAPS);
    mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES_MAX);
    block_signals(&stop);
    log_open(config->name);
    raise_descriptor_limit();
    warn_of_sync(config);
    if (server_open(config, options, &server, &error) != STATUS_OK) {
        fprintf(stderr, "replikvd: %s\n", error.text);
        return EXIT_HALTED;
    }
    const struct timespec tick = {.tv_nsec = TICK_MS * 1000000};
    int signal = -1;
    while (signal < 0 && server_tick(server))
        signal = sigtimedwait(&stop, NULL, &tick);
    const char *halted = server_halted(server);
    if (halted != NULL)
        fprintf(stderr, "replikvd: %s\n", halted);
    else
        log_line("event=stop signal=%d", signal);
    int status = halted == NULL ? EXIT_SUCCESS : EXIT_HALTED;
    server_close(server);
    return status;
}

static int misused(const char *why)
{
    fprintf(stderr, "replikvd: %s\n%s", why, usage);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    enum { CONFIG = 1, CHECK, REPLACE, VERSION, HELP };
    static const struct option options[] = {
        {"config", required_argument, NULL, CONFIG},
        {"check-config", required_argument, NULL, CHECK},
        {"replace", no_argument, NULL, REPLACE},
        {"version", no_argument, NULL, VERSION},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    static struct config config;
    struct server_options server = {.watch_crashes = true};
    const char *path = NULL;
    bool check = false;
    for (int option;
         (option = getopt_long(argc, argv, "", options, NULL)) >= 0;)
        switch (option) {
        case CONFIG:
        case CHECK:
            if (path != NULL)
                return misused("give one of --config and --check-config");
            path = optarg;
            check = option == CHECK;
            break;
        case REPLACE:
            server.replace = true;
            break;
        case VERSION:
            puts("replikvd " REPLIKV_VERSION);
            return EXIT_SUCCESS;
        case HELP:
            fputs(usage, stdout);
            return EXIT_SUCCESS;
        default:
            fputs(usage, stderr);
            return EXIT_USAGE;
        }
    if (optind < argc)
        return misused("what is not an option has no meaning here");
    if (path == NULL)
        return misused("--config FILE is missing");
    if (!load(path, &config))
        return EXIT_USAGE;
    if (check) {
        printf("%s: no mistakes\n", path);
        return EXIT_SUCCESS;
    }
    return run(&config, &server);
}
