/* SPDX-License-Identifier: MIT */
#include <leveldb/c.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/engine/bench.h"
#include "tests/bench/engine/peers.h"

enum {
    POLL_MS = 20,
    /* Ten million keys of 1 KB settle in less. */
    SETTLE_S_MAX = 1800,
    SETTINGS_MAX = 8,
};

static const struct engine_type *const peers[] = {
    &leveldb_default_type,
#ifdef REPLIKV_ROCKSDB
    &rocksdb_type,
#endif
    NULL,
};

const char *bench_type_names(void)
{
    static char names[256];
    const struct engine_type *const *lists[] = {engine_types(), peers};
    size_t size = 0;
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; lists[i][j] != NULL; j++)
            size += (size_t)snprintf(names + size, sizeof names - size, "%s%s",
                                     size == 0 ? "" : " ", lists[i][j]->name);
    return names;
}

const struct engine_type *bench_type(const char *name)
{
    for (size_t i = 0; peers[i] != NULL; i++)
        if (strcmp(peers[i]->name, name) == 0)
            return peers[i];
    const struct engine_type *type = engine_type_find(name);
    if (type != NULL)
        return type;
#ifndef REPLIKV_ROCKSDB
    if (strcmp(name, "rocksdb") == 0)
        bench_fail("rocksdb: built without it; librocksdb-dev was not there");
#endif
    bench_fail("%s: no such engine; there are: %s", name, bench_type_names());
}

/* --- opening --- */

/* The product's adapter of LevelDB leaves its compression, snappy, on, and has
 * no setting for it; the linker leads its call here. */
static bool compress;
leveldb_options_t *__real_leveldb_options_create(void);
leveldb_options_t *__wrap_leveldb_options_create(void);

leveldb_options_t *__wrap_leveldb_options_create(void)
{
    leveldb_options_t *options = __real_leveldb_options_create();
    leveldb_options_set_compression(options, compress
                                                 ? leveldb_snappy_compression
                                                 : leveldb_no_compression);
    return options;
}

struct settings {
    struct engine_setting list[SETTINGS_MAX];
    size_t count;
};

/* If the engine has it. */
static void set(struct settings *settings, const struct engine_type *type,
                const char *name, uint64_t value)
{
    const struct engine_setting_spec *spec = type->settings;
    for (; spec != NULL && spec->name != NULL; spec++)
        if (strcmp(spec->name, name) == 0)
            settings->list[settings->count++] =
                (struct engine_setting){.name = spec->name, .value = value};
}

static struct settings settings_of(const struct bench *bench)
{
    const struct bench_options *options = bench->options;
    struct settings settings = {.count = 0};
    set(&settings, bench->type, "cache_bytes", options->cache_bytes);
    set(&settings, bench->type, "memtable_bytes", options->memtable_bytes);
    set(&settings, bench->type, "write_buffer_bytes", options->memtable_bytes);
    set(&settings, bench->type, "compression", options->compress);
    set(&settings, bench->type, "compression_last", options->compress);
    /* LMDB's batches without sync else sync as well, and a fill takes hours;
     * engine_compare.py says what that gives up. */
    set(&settings, bench->type, "unsafe_nosync", 1);
    return settings;
}

static void on_damage(void *context, const char *message)
{
    (void)context;
    bench_fail("damage: %s", message);
}

void bench_open(struct bench *bench)
{
    struct settings settings = settings_of(bench);
    struct engine_options options = {
        .directory = bench->directory,
        .settings = settings.list,
        .setting_count = settings.count,
        .report = on_damage,
    };
    struct error error;
    compress = bench->options->compress;
    if (engine_open(bench->type, &options, &bench->engine, &error) != STATUS_OK)
        bench_fail("open: %s", error.text);
    bench->serial = (bench->type->capabilities & ENGINE_CONCURRENT_WRITES) == 0;
}

void bench_close(struct bench *bench)
{
    engine_close(bench->engine);
    bench->engine = NULL;
}

/* --- settling --- */

void bench_settle(const struct bench *bench)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
    uint64_t quiet_ns = bench->options->settle_ms * 1000000;
    uint64_t begin = bench_now_ns(), last = begin, now = begin;
    uint64_t written = device_written().wchar;
    while (now - last < quiet_ns) {
        if (now - begin > (uint64_t)SETTLE_S_MAX * 1000000000)
            bench_fail("not settled after %d s", SETTLE_S_MAX);
        nanosleep(&pause, NULL);
        now = bench_now_ns();
        uint64_t seen = device_written().wchar;
        if (seen != written)
            last = now;
        written = seen;
    }
}

void bench_in_child(struct bench *bench, void (*run)(struct bench *))
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        bench_fail("cannot fork");
    if (child == 0) {
        run(bench);
        _exit(0);
    }
    if (waitpid(child, &status, 0) != child || status != 0)
        bench_fail("the child that prepares the store failed");
}
