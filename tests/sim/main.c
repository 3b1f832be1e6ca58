/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"

/* Exit codes; a failed assertion ends by a signal. */
enum { EXIT_USAGE = 1, EXIT_UNSAFE = 2, EXIT_STUCK = 3 };

static const char usage[] =
    "sim --seed N [--trace]           replay one seed\n"
    "sim --seeds COUNT [--first N]    run seeds N to N + COUNT - 1 (from 1)\n"
    "sim --file FILE                  run the seeds of a file, one a line\n"
    "    --engine model|lsm|mixed  what stores (model); mixed: one node lsm\n"
    "    --nodes 3|5    instead of what the seed draws\n"
    "    --calm         without faults\n"
    "exit: 0 all is well, 1 usage, 2 an invariant of safety is broken, 3 one\n"
    "of liveness; a signal: a failed assertion\n";

static const char *const engines[] = {
    [SIM_MODEL] = "model", [SIM_LSM] = "lsm", [SIM_MIXED] = "mixed"};

struct options {
    uint64_t first, count;
    bool is_single;
    const char *file;
    struct sim_options sim;
};

static bool number(const char *text, uint64_t *out)
{
    char *end;
    if (text == NULL || *text < '0' || *text > '9')
        return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

static bool engine_named(const char *name, enum sim_engine *out)
{
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        if (name == NULL || strcmp(name, engines[i]) != 0)
            continue;
        *out = (enum sim_engine)i;
        return true;
    }
    return false;
}

static bool parse(int count, char **words, struct options *options)
{
    uint64_t nodes = 0;
    *options = (struct options){.first = 1};
    for (int i = 1; i < count; i++) {
        const char *word = words[i];
        const char *next = i + 1 < count ? words[i + 1] : NULL;
        bool takes = true, right = true;
        if (strcmp(word, "--seed") == 0) {
            right = number(next, &options->first);
            options->is_single = true;
            options->count = 1;
        } else if (strcmp(word, "--seeds") == 0) {
            right = number(next, &options->count);
        } else if (strcmp(word, "--first") == 0) {
            right = number(next, &options->first);
        } else if (strcmp(word, "--nodes") == 0) {
            right = number(next, &nodes) && (nodes == 3 || nodes == 5);
        } else if (strcmp(word, "--engine") == 0) {
            right = engine_named(next, &options->sim.engine);
        } else if (strcmp(word, "--file") == 0) {
            options->file = next;
        } else {
            takes = false;
            right = strcmp(word, "--trace") == 0 || strcmp(word, "--calm") == 0;
            options->sim.tell |= strcmp(word, "--trace") == 0;
            options->sim.calm |= strcmp(word, "--calm") == 0;
        }
        if (!right)
            return false;
        i += takes;
    }
    options->sim.hosts = (uint32_t)nodes;
    return options->count > 0 || options->file != NULL;
}

static int run_seed(const struct options *options, uint64_t seed,
                    struct sim *sim, struct tally *tally)
{
    sim_run(sim, seed, &options->sim, tally);
    const struct verdict *verdict = &sim->verdict;
    int code = verdict->invariant == NULL ? 0
               : verdict->is_liveness     ? EXIT_STUCK
                                          : EXIT_UNSAFE;
    if (code != 0)
        printf("seed %llu: %s: %s\n  at %.3f ms; replay: sim --seed %llu "
               "--engine %s%s --trace\n",
               (unsigned long long)seed, verdict->invariant, verdict->text,
               (double)sim->now_us / 1000, (unsigned long long)seed,
               engines[options->sim.engine],
               options->sim.hosts == 3   ? " --nodes 3"
               : options->sim.hosts == 5 ? " --nodes 5"
                                         : "");
    if (options->is_single)
        printf("seed %llu digest %016llx\n", (unsigned long long)seed,
               (unsigned long long)sim->trace.digest);
    sim_free(sim);
    return code;
}

static int run_file(const struct options *options, struct sim *sim,
                    struct tally *tally)
{
    FILE *file = fopen(options->file, "r");
    char line[256];
    int code = 0;
    if (file == NULL) {
        perror(options->file);
        return EXIT_USAGE;
    }
    while (code == 0 && fgets(line, sizeof line, file) != NULL)
        if (line[0] >= '0' && line[0] <= '9')
            code = run_seed(options, strtoull(line, NULL, 10), sim, tally);
    fclose(file);
    return code;
}

int main(int count, char **words)
{
    struct options options;
    struct tally tally = {0};
    struct timespec began, ended;
    if (!parse(count, words, &options)) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    struct sim *sim = malloc(sizeof *sim);
    if (sim == NULL)
        return EXIT_USAGE;
    int code = 0;
    clock_gettime(CLOCK_MONOTONIC, &began);
    if (options.file != NULL)
        code = run_file(&options, sim, &tally);
    for (uint64_t i = 0; i < options.count && code == 0; i++)
        code = run_seed(&options, options.first + i, sim, &tally);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    double seconds = (double)(ended.tv_sec - began.tv_sec) +
                     (double)(ended.tv_nsec - began.tv_nsec) / 1e9;
    if (!options.is_single)
        tally_print(&tally, seconds);
    free(sim);
    return code;
}
