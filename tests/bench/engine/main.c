/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/engine/bench.h"

enum { TMPFS_MAGIC = 0x01021994 };

/* Removed at exit, but by the process that made it only. */
static char made[PATH_MAX / 2];
static pid_t maker;

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void *bench_allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL)
        bench_fail("no memory");
    return memory;
}

/* Without the destructors: threads of the engine may run. */
void bench_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "engine_bench: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    if (maker == getpid())
        device_remove(made);
    _exit(1);
}

static void set_directory(struct bench *bench, const char *path,
                          const char *suffix)
{
    int size = snprintf(bench->directory, sizeof bench->directory, "%s%s", path,
                        suffix);
    if (size < 0 || (size_t)size >= sizeof bench->directory)
        bench_fail("%s: too long", path);
}

static void make_directory(struct bench *bench)
{
    const char *parent = bench->options->parent;
    struct statfs system;
    if (parent == NULL)
        parent = getenv("TMPDIR");
    if (parent == NULL)
        parent = "/var/tmp";
    if (statfs(parent, &system) == 0 && system.f_type == TMPFS_MAGIC)
        fprintf(stderr,
                "engine_bench: %s is memory and no disk; see --directory\n",
                parent);
    if (strlen(parent) > sizeof made / 2)
        bench_fail("%s: too long", parent);
    snprintf(made, sizeof made, "%s/engine_bench.XXXXXX", parent);
    if (mkdtemp(made) == NULL)
        bench_fail("%s: cannot make a directory in it", parent);
    maker = getpid();
    set_directory(bench, made, "/store");
}

static bool is_durable(const struct bench *bench)
{
    return (bench->type->capabilities & ENGINE_DURABLE) != 0;
}

static void fill_and_close(struct bench *bench)
{
    bench_open(bench);
    workload_fill(bench);
    bench_close(bench);
}

/* Under another name first, so that one of which the filling failed is not
 * taken for a store to share. */
static void fill_shared(struct bench *bench)
{
    const char *store = bench->options->store;
    if (access(store, F_OK) != 0) {
        set_directory(bench, store, ".part");
        device_remove(bench->directory);
        bench_in_child(bench, fill_and_close);
        if (rename(bench->directory, store) != 0)
            bench_fail("%s: cannot be renamed", bench->directory);
    }
    set_directory(bench, store, "");
}

/* Open the store that the workload begins with. */
static void prepare(struct bench *bench, struct outcome *outcome)
{
    enum workload workload = bench->options->workload;
    if (bench->options->store != NULL && is_durable(bench))
        fill_shared(bench);
    else if (workload_needs_store(workload) && is_durable(bench))
        bench_in_child(bench, fill_and_close);
    outcome->resident_before = device_memory().resident;
    bench_open(bench);
    if (workload_needs_store(workload) && !is_durable(bench))
        workload_fill(bench);
    if (workload_needs_store(workload))
        bench_settle(bench);
    if (workload_needs_store(workload) && !workload_writes(workload)) {
        workload_read_all(bench);
        /* LevelDB compacts what is read often. */
        bench_settle(bench);
    }
}

static struct device_written since(struct device_written begin)
{
    struct device_written now = device_written();
    return (struct device_written){now.wchar - begin.wchar,
                                   now.write_bytes - begin.write_bytes};
}

/* What the writes took on disk is known when the engine has nothing left to
 * do for them: also what it would do at the next open. */
static void finish_writes(struct bench *bench, struct outcome *outcome,
                          struct device_written before)
{
    uint64_t begin = bench_now_ns();
    bench_settle(bench);
    engine_stats(bench->engine, &outcome->stats);
    if (is_durable(bench)) {
        bench_close(bench);
        bench_open(bench);
        bench_settle(bench);
    }
    outcome->settle_ns = bench_now_ns() - begin;
    outcome->written = since(before);
}

static void count_user_bytes(const struct bench *bench, struct outcome *outcome)
{
    const struct bench_options *options = bench->options;
    uint64_t pair = KEY_BYTES + options->value_bytes, live = options->keys;
    if (options->workload == WORKLOAD_READWHILEWRITING)
        outcome->user_bytes = outcome->writes * pair;
    else if (options->workload == WORKLOAD_DELETERANDOM)
        outcome->user_bytes = outcome->operations * KEY_BYTES;
    else if (workload_writes(options->workload))
        outcome->user_bytes = outcome->operations * pair;
    if (!workload_needs_store(options->workload) && outcome->operations < live)
        live = outcome->operations;
    if (options->workload == WORKLOAD_DELETERANDOM)
        live -= outcome->operations < live ? outcome->operations : live;
    outcome->live_bytes = live * pair;
}

static void measure(struct bench *bench, struct outcome *outcome)
{
    prepare(bench, outcome);
    struct device_written before = device_written();
    workload_run(bench, outcome);
    count_user_bytes(bench, outcome);
    if (outcome->user_bytes > 0)
        finish_writes(bench, outcome, before);
    else
        engine_stats(bench->engine, &outcome->stats);
}

int main(int argc, char **argv)
{
    struct bench_options options;
    options_parse(&options, argc, argv);
    struct bench bench = {
        .options = &options,
        .type = bench_type(options.engine),
        .write_lock = PTHREAD_MUTEX_INITIALIZER,
    };
    struct outcome *outcome = bench_allocate(sizeof *outcome);
    keys_init(&bench.keys, options.keys, options.value_bytes);
    if (options.store == NULL)
        make_directory(&bench);
    if (options.workload != WORKLOAD_RECOVERY)
        measure(&bench, outcome);
    else if (is_durable(&bench))
        recovery_run(&bench, outcome);
    else
        bench_fail("%s: has nothing to recover", bench.type->name);
    outcome->disk_bytes = device_disk_bytes(bench.directory);
    report_print(&bench, outcome);
    bench_close(&bench);
    keys_fini(&bench.keys);
    if (options.store == NULL)
        device_remove(made);
    free(outcome);
    return 0;
}
