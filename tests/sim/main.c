/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replay.h"
#include "sim.h"

/* Exit codes, and those of replay.h; a failed assertion ends by a signal. */
enum { EXIT_USAGE = 1, EXIT_UNSAFE = 2, EXIT_STUCK = 3 };

static const char usage[] =
    "sim --seed N [--trace]           replay one seed\n"
    "sim --seed N --shrink            with as few faults as it fails with\n"
    "sim --seeds COUNT [--first N]    run seeds N to N + COUNT - 1 (from 1)\n"
    "sim --file FILE                  run the seeds of a file, one a line\n"
    "sim --replay FILE [--trace]      what `replikv record`, a crash or "
    "--record\n"
    "                                 wrote: one node, stepped again\n"
    "    --engine model|lsm|mixed  what stores (model); mixed: one node lsm\n"
    "    --nodes 3|5    instead of what the seed draws\n"
    "    --calm         without faults\n"
    "    --record FILE  of --seed: write what node n0 does since its last "
    "start\n"
    "    --only N,N     of the faults that strike, by number, these or none\n"
    "exit: 0 all is well, 1 usage, or FILE is no recording, 2 an invariant of "
    "safety is broken, 3 one\n"
    "of liveness; a signal: a failed assertion\n";

static const char *const engines[] = {
    [SIM_MODEL] = "model", [SIM_LSM] = "lsm", [SIM_MIXED] = "mixed"};

struct options {
    uint64_t first, count;
    bool is_single, shrinks;
    const char *file, *replay;
    struct fault_set only;
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

/* 3,17,20; or none */
static bool fault_numbers(const char *text, struct fault_set *out)
{
    *out = (struct fault_set){{0}};
    if (text != NULL && strcmp(text, "none") == 0)
        return true;
    for (char *end = NULL; text != NULL; text = *end == ',' ? end + 1 : NULL) {
        unsigned long long fault = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9' || (*end != ',' && *end != '\0') ||
            fault == 0 || fault > SHRINK_FAULTS_MAX)
            return false;
        fault_set_add(out, (uint32_t)fault, (uint32_t)fault);
        if (*end == '\0')
            return true;
    }
    return false;
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

static bool is_flag(const char *word, struct options *options)
{
    bool *flag = strcmp(word, "--trace") == 0    ? &options->sim.tell
                 : strcmp(word, "--calm") == 0   ? &options->sim.calm
                 : strcmp(word, "--shrink") == 0 ? &options->shrinks
                                                 : NULL;
    if (flag != NULL)
        *flag = true;
    return flag != NULL;
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
        } else if (strcmp(word, "--replay") == 0) {
            options->replay = next;
        } else if (strcmp(word, "--record") == 0) {
            right = next != NULL;
            options->sim.record = next;
        } else if (strcmp(word, "--only") == 0) {
            right = fault_numbers(next, &options->only);
            options->sim.only = &options->only;
        } else {
            takes = false;
            right = is_flag(word, options);
        }
        if (!right)
            return false;
        i += takes;
    }
    options->sim.hosts = (uint32_t)nodes;
    if ((options->sim.only != NULL || options->sim.record != NULL ||
         options->shrinks) &&
        !options->is_single)
        return false;
    return options->count > 0 || options->file != NULL ||
           options->replay != NULL;
}

static void print_faults(const struct fault_set *set)
{
    const char *before = "";
    for (uint32_t i = 1; i <= SHRINK_FAULTS_MAX; i++) {
        if (!fault_set_has(set, i))
            continue;
        printf("%s%u", before, i);
        before = ",";
    }
    if (*before == '\0')
        printf("none");
}

/* How to see it again. */
static void print_replay(const struct options *options, uint64_t seed,
                         const struct fault_set *only)
{
    printf("replay: sim --seed %llu --engine %s%s%s%s",
           (unsigned long long)seed, engines[options->sim.engine],
           options->sim.hosts == 3   ? " --nodes 3"
           : options->sim.hosts == 5 ? " --nodes 5"
                                     : "",
           options->sim.calm ? " --calm" : "", only == NULL ? "" : " --only ");
    if (only != NULL)
        print_faults(only);
    puts(" --trace");
}

/* One failure, run again and again. */
struct shrinking {
    struct sim *sim;
    uint64_t seed;
    struct sim_options options;
    const char *invariant;
};

static bool still_fails(void *context, const struct fault_set *faults)
{
    struct shrinking *shrinking = context;
    struct tally tally = {0};
    struct sim *sim = shrinking->sim;
    shrinking->options.only = faults;
    sim_run(sim, shrinking->seed, &shrinking->options, &tally);
    bool fails = sim->verdict.invariant != NULL &&
                 strcmp(sim->verdict.invariant, shrinking->invariant) == 0;
    sim_free(sim);
    return fails;
}

/* sim has failed, and is free. */
static void shrink_failure(const struct options *options, uint64_t seed,
                           struct sim *sim)
{
    uint32_t count = sim->fault_number, left = 0;
    struct shrinking shrinking = {.sim = sim,
                                  .seed = seed,
                                  .options = options->sim,
                                  .invariant = sim->verdict.invariant};
    struct fault_set needed = {{0}};
    shrinking.options.tell = false;
    if (options->sim.only != NULL)
        needed = options->only;
    else
        fault_set_add(&needed, 1, count);
    shrink(&needed, count, still_fails, &shrinking);
    for (uint32_t i = 1; i <= count; i++)
        left += fault_set_has(&needed, i);
    printf("  of %u faults %u are needed; ", count, left);
    print_replay(options, seed, &needed);
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
        printf("seed %llu: %s: %s\n  at %.3f ms; ", (unsigned long long)seed,
               verdict->invariant, verdict->text, (double)sim->now_us / 1000);
    if (code != 0)
        print_replay(options, seed, options->sim.only);
    if (options->is_single)
        printf("seed %llu digest %016llx\n", (unsigned long long)seed,
               (unsigned long long)sim->trace.digest);
    if (options->sim.record != NULL &&
        !host_write_recording(&sim->hosts[0], options->sim.record))
        code = EXIT_USAGE;
    sim_free(sim);
    if (code != 0 && options->shrinks)
        shrink_failure(options, seed, sim);
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
    if (options.replay != NULL)
        return (int)replay_file(options.replay, options.sim.tell);
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
