/* SPDX-License-Identifier: MIT */
#include "proxy/storage.h"
#include "tests/engines/store.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

/* What the storage edge makes of an engine: threads that submit writes, each
 * with some outstanding, against the engine written to directly in batches of
 * the size that those came to. Every batch is synced. The processor time of a
 * put, clients included, says more than its rate when the machine is shared.
 *
 *     storage_bench [ENGINE [OUTSTANDING]] */

enum {
    THREADS = 2,
    SECONDS = 3,
    KEYS = 100000,
    VALUE_BYTES = 100,
    DIRECT_BATCH_MAX = 512,
};

struct client {
    pthread_t thread;
    struct bench *bench;
    uint32_t number;
    unsigned outstanding, outstanding_max;
    pthread_mutex_t lock;
    pthread_cond_t less;
    uint64_t random, done;
};

struct bench {
    struct storage *storage;
    struct client clients[THREADS];
    int64_t end_ns;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static double cpu_us(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "storage_bench: %s: %s\n", what, why);
    exit(1);
}

/* --- through the storage edge --- */

static void on_done(void *user, const struct storage_done *list, size_t count)
{
    struct bench *bench = user;
    unsigned stored[THREADS] = {0};
    for (size_t i = 0; i < count; i++) {
        const struct storage_result *result = &list[i].result;
        struct client *client = &bench->clients[result->op->token];
        if (list[i].kind == EVENT_STORED)
            stored[client->number]++;
        if (result->status != STATUS_OK)
            fail("write", status_name(result->status));
    }
    for (size_t i = 0; i < THREADS; i++) {
        struct client *client = &bench->clients[i];
        if (stored[i] == 0)
            continue;
        pthread_mutex_lock(&client->lock);
        client->outstanding -= stored[i];
        client->done += stored[i];
        pthread_cond_signal(&client->less);
        pthread_mutex_unlock(&client->lock);
    }
}

static void on_reopened(void *user)
{
    (void)user;
}

static void on_log(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "%s\n", line);
}

static const struct storage_handlers handlers = {
    .done = on_done, .reopened = on_reopened, .log = on_log};

static void submit(struct client *client)
{
    static const uint8_t value[VALUE_BYTES];
    char name[16];
    uint64_t draw = store_random(&client->random);
    snprintf(name, sizeof name, "key%08" PRIu64, draw % KEYS);
    struct storage_op op = {
        .kind = STORAGE_COORDINATE,
        .token = client->number,
        .key = {.table = TABLE_DATA,
                .partition = {(uint16_t)(draw % 256)},
                .key = bytes_of_string(name)},
        .record_kind = RECORD_LWW,
        .stamp = (uint64_t)now_ns(),
        .data = bytes_of(value, sizeof value),
    };
    memcpy(op.request.bytes, &draw, sizeof draw);
    op.request.bytes[15] = 1;
    storage_submit(client->bench->storage, &op);
}

/* Submit what the window allows, then run, as a server does a turn. */
static void *client_main(void *argument)
{
    struct client *client = argument;
    pthread_mutex_lock(&client->lock);
    while (now_ns() < client->bench->end_ns) {
        unsigned room = client->outstanding_max - client->outstanding;
        if (room == 0) {
            pthread_cond_wait(&client->less, &client->lock);
            continue;
        }
        client->outstanding += room;
        pthread_mutex_unlock(&client->lock);
        while (room-- > 0)
            submit(client);
        storage_run(client->bench->storage);
        pthread_mutex_lock(&client->lock);
    }
    while (client->outstanding > 0)
        pthread_cond_wait(&client->less, &client->lock);
    pthread_mutex_unlock(&client->lock);
    return NULL;
}

static void start(struct bench *bench, unsigned outstanding)
{
    bench->end_ns = now_ns() + (int64_t)SECONDS * 1000000000;
    for (uint32_t i = 0; i < THREADS; i++) {
        struct client *client = &bench->clients[i];
        *client = (struct client){.bench = bench,
                                  .number = i,
                                  .outstanding_max = outstanding / THREADS,
                                  .random = i + 1};
        pthread_mutex_init(&client->lock, NULL);
        pthread_cond_init(&client->less, NULL);
        if (pthread_create(&client->thread, NULL, client_main, client) != 0)
            fail("pthread_create", "no thread");
    }
}

struct outcome {
    double per_second, batch, cpu_us;
    uint64_t batches;
};

static struct outcome through_storage(const struct engine_type *type,
                                      unsigned outstanding)
{
    static struct bench bench;
    struct store store;
    struct error error;
    if (!store_init(&store, type))
        fail("temporary directory", "cannot be made");
    struct storage_config config = {
        .type = type,
        .options = {.directory = store.directory},
        .sync = STORAGE_SYNC_BATCH,
        .queue_max = 4096,
        .queue_bytes_max = 16 << 20,
        .dedup_window_ms = 60000,
        .value_bytes_max = STORE_VALUE_BYTES_MAX,
        .seed = 1,
    };
    if (storage_open(&config, &handlers, &bench, &bench.storage, &error) !=
        STATUS_OK)
        fail(type->name, error.text);
    int64_t begin = now_ns();
    double cpu = cpu_us();
    start(&bench, outstanding);
    uint64_t done = 0;
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(bench.clients[i].thread, NULL);
        done += bench.clients[i].done;
    }
    double seconds = (double)(now_ns() - begin) / 1e9;
    cpu = cpu_us() - cpu;
    struct storage_stats stats;
    storage_stats(bench.storage, &stats);
    storage_close(bench.storage);
    store_fini(&store);
    return (struct outcome){
        .per_second = (double)done / seconds,
        .cpu_us = cpu / (double)done,
        .batches = stats.batches,
        .batch = (double)stats.operations / (double)stats.batches,
    };
}

/* --- directly --- */

/* As large as what a record of one value comes to. */
enum { RECORD_BYTES = VALUE_BYTES + 100 };

static struct outcome directly(const struct engine_type *type,
                               size_t batch_size)
{
    static char names[DIRECT_BATCH_MAX][32];
    static const uint8_t value[RECORD_BYTES];
    struct batch_operation operations[DIRECT_BATCH_MAX];
    struct batch batch = {.operations = operations, .count = batch_size};
    struct store store;
    if (!store_init(&store, type))
        fail("temporary directory", "cannot be made");
    struct engine_options options = {.directory = store.directory};
    if (engine_open(type, &options, &store.engine, &store.error) != STATUS_OK)
        fail(type->name, store.error.text);
    uint64_t random = 1, done = 0;
    double cpu = cpu_us();
    int64_t begin = now_ns(), end = begin + (int64_t)SECONDS * 1000000000;
    while (now_ns() < end) {
        for (size_t i = 0; i < batch_size; i++) {
            uint64_t draw = store_random(&random);
            snprintf(names[i], sizeof names[i], "d%03u....key%08" PRIu64,
                     (unsigned)(draw % 256), draw % KEYS);
            operations[i] = (struct batch_operation){
                .key = bytes_of_string(names[i]),
                .value = bytes_of(value, sizeof value)};
        }
        enum status status = engine_write(store.engine, &batch, true);
        if (status != STATUS_OK)
            fail("engine_write", status_name(status));
        done += batch_size;
    }
    double seconds = (double)(now_ns() - begin) / 1e9;
    cpu = cpu_us() - cpu;
    store_fini(&store);
    return (struct outcome){.per_second = (double)done / seconds,
                            .cpu_us = cpu / (double)done};
}

static void compare(const struct engine_type *type, unsigned outstanding)
{
    struct outcome outcome = through_storage(type, outstanding);
    size_t batch = (size_t)(outcome.batch + 0.5);
    if (batch > DIRECT_BATCH_MAX)
        batch = DIRECT_BATCH_MAX;
    struct outcome direct = directly(type, batch);
    printf("%-8s %11u %10.0f %8.1f %9" PRIu64 " %10.1f %10.0f %10.1f\n",
           type->name, outstanding, outcome.per_second, outcome.cpu_us,
           outcome.batches, outcome.batch, direct.per_second, direct.cpu_us);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const char *const normal[] = {"lsm", "leveldb", "lmdb", "memory"};
    static const unsigned windows[] = {16, 64};
    printf("%-8s %11s %10s %8s %9s %10s %10s %10s\n", "engine", "outstanding",
           "puts/s", "cpu us", "batches", "puts/batch", "direct/s",
           "direct us");
    for (size_t i = 0; i < (argc > 1 ? 1 : 4); i++) {
        const char *name = argc > 1 ? argv[1] : normal[i];
        const struct engine_type *type = engine_type_find(name);
        if (type == NULL)
            fail(name, "no such engine");
        if (argc > 2) {
            compare(type, (unsigned)atoi(argv[2]));
            continue;
        }
        for (size_t j = 0; j < 2; j++)
            compare(type, windows[j]);
    }
    return 0;
}
