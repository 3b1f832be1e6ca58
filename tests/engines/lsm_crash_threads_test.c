/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_workload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"

/* lsm_crash_threads_test [SEED [STEPS]]: the power fails while the engine's
 * own threads are at work, and while several writers share its syncs. What is
 * left may then be a state between two moments: what had been durable before
 * the disk was looked at, and what had been begun after. Not the same each
 * time, so lsm_crash_test comes first; this one sees several memtables and
 * logs at once, which there is never time for without threads. */

static struct {
    uint64_t seed, steps;
} arguments = {1, 400};

enum {
    /* Of the calls that change the disk one in so many is looked at. */
    LOOK_EVERY = 3,
    WRITERS = 4,
    ROUNDS = 150,
    VALUE_BYTES = 300,
    /* Of the calls up to FAULTS_MAX one in so many fails. */
    FAULT_EVERY = 11,
    FAULTS_MAX = 700,
};

/* Aborts, since cmocka can only be told by the thread that it runs. */
static _Noreturn void die(const char *at, const char *why)
{
    fprintf(stderr, "seed %u, %u steps, %s: %s\n", (unsigned)arguments.seed,
            (unsigned)arguments.steps, at, why);
    abort();
}

/* What had been durable before the disk was looked at. */
struct low {
    size_t step;
    unsigned rounds[WRITERS];
};

static struct {
    struct memory_disk *memory;
    struct workload workload;
    atomic_size_t durable, begun; /* steps */
    struct test_writer {
        unsigned number;
        atomic_uint durable, begun; /* rounds */
    } writers[WRITERS];
    struct engine *engine;
    bool may_fail; /* a write: see write_rounds */
    atomic_uint calls, crashes;
    unsigned logs_max; /* on a disk at once; under the mutex */
    pthread_mutex_t mutex;
    void (*check)(struct workload_store *left, const struct low *low,
                  const char *at);
} run;

static enum status count_log(void *context, const char *name)
{
    *(unsigned *)context += strstr(name, ".log") != NULL;
    return STATUS_OK;
}

static void count_logs(struct memory_disk *memory)
{
    unsigned logs = 0;
    struct disk *disk = memory_disk_at(memory, MEMORY_DISK_PATH);
    enum status status = disk->operations->list(disk, count_log, &logs);
    ASSERT(status == STATUS_OK);
    disk_free(disk);
    pthread_mutex_lock(&run.mutex);
    if (logs > run.logs_max)
        run.logs_max = logs;
    pthread_mutex_unlock(&run.mutex);
}

static void lose_power(void *context, enum memory_call call, const char *name)
{
    (void)context;
    unsigned number = atomic_fetch_add(&run.calls, 1);
    if (number % LOOK_EVERY != 0)
        return;
    struct low low = {.step = atomic_load(&run.durable)};
    for (unsigned i = 0; i < WRITERS; i++)
        low.rounds[i] = atomic_load(&run.writers[i].durable);
    struct memory_crash crash =
        workload_crash(number / LOOK_EVERY, arguments.seed + number);
    struct workload_store left = {.memory =
                                      memory_disk_after(run.memory, &crash)};
    char at[160];
    snprintf(at, sizeof at, "power lost before call %u, %s %s", number,
             memory_call_name(call), name);
    count_logs(left.memory);
    if (workload_open(&left) != STATUS_OK)
        die(at, left.error.text);
    run.check(&left, &low, at);
    workload_close(&left);
    memory_disk_free(left.memory);
    atomic_fetch_add(&run.crashes, 1);
}

static void start(void (*check)(struct workload_store *left,
                                const struct low *low, const char *at))
{
    memset(&run, 0, sizeof run);
    run.memory = memory_disk_new();
    run.check = check;
    pthread_mutex_init(&run.mutex, NULL);
    memory_disk_watch(run.memory, lose_power, NULL);
}

static void stop(void)
{
    print_message("%u calls, %u crashes, %u logs at once\n",
                  atomic_load(&run.calls), atomic_load(&run.crashes),
                  run.logs_max);
    assert_true(run.logs_max > 2);
    memory_disk_free(run.memory);
    pthread_mutex_destroy(&run.mutex);
}

/* workload_find and _agrees say why in memory that threads would share. */
static void check_steps(struct workload_store *left, const struct low *low,
                        const char *at)
{
    const char *why;
    size_t high = atomic_load(&run.begun);
    pthread_mutex_lock(&run.mutex);
    size_t found =
        workload_find(left, run.workload.states, low->step, high, &why);
    if (found == SIZE_MAX ||
        !workload_agrees(left, &run.workload.states[found], STATUS_OK, &why))
        die(at, why);
    pthread_mutex_unlock(&run.mutex);
}

static void nothing_synced_is_lost_while_threads_work(void **state)
{
    (void)state;
    start(check_steps);
    workload_init(&run.workload, arguments.seed, arguments.steps);
    struct workload_store store = {.memory = run.memory, .threads = true};
    assert_int_equal(workload_open(&store), STATUS_OK);
    for (size_t i = 1; i <= run.workload.count; i++) {
        atomic_store(&run.begun, i);
        assert_int_equal(workload_do(&run.workload, i, &store), STATUS_OK);
        if (run.workload.steps[i].sync)
            atomic_store(&run.durable, i);
    }
    workload_close(&store);
    memory_disk_watch(run.memory, NULL, NULL);
    workload_fini(&run.workload);
    stop();
}

static void writer_keys(unsigned number, char keys[2][16])
{
    snprintf(keys[0], 16, "a%u", number);
    snprintf(keys[1], 16, "b%u", number);
}

/* A round writes its number to two keys in one batch. */
static void *write_rounds(void *context)
{
    struct test_writer *writer = context;
    char keys[2][16];
    uint8_t value[VALUE_BYTES];
    struct batch_operation operations[2];
    struct batch batch = {.operations = operations, .count = 2};
    writer_keys(writer->number, keys);
    for (unsigned round = 1; round <= ROUNDS; round++) {
        bool sync = (round + writer->number) % 3 == 0;
        memset(value, (int)round, sizeof value);
        memcpy(value, &round, sizeof round);
        for (unsigned i = 0; i < 2; i++)
            operations[i] = (struct batch_operation){
                .key = bytes_of_string(keys[i]),
                .value = bytes_of(value, sizeof value)};
        atomic_store(&writer->begun, round);
        enum status status = engine_write(run.engine, &batch, sync);
        if (status != STATUS_OK && run.may_fail) {
            status = engine_write(run.engine, &batch, sync);
            if (status != STATUS_BROKEN)
                die("after a failure", status_name(status));
            return NULL;
        }
        if (status != STATUS_OK)
            die("writing", status_name(status));
        if (sync)
            atomic_store(&writer->durable, round);
    }
    return NULL;
}

/* The number in a key; 0: it is not there. */
static unsigned round_in(struct engine *engine, const char *key, const char *at)
{
    unsigned round = 0;
    struct buffer value = {0};
    enum status status = engine_get(engine, bytes_of_string(key), &value);
    if (status == STATUS_OK && value.size == VALUE_BYTES)
        memcpy(&round, value.data, sizeof round);
    else if (status != STATUS_NOT_FOUND)
        die(at, status_name(status));
    buffer_fini(&value);
    return round;
}

static void check_rounds(struct workload_store *left, const struct low *low,
                         const char *at)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        char keys[2][16];
        writer_keys(i, keys);
        unsigned round = round_in(left->engine, keys[0], at);
        unsigned high = atomic_load(&run.writers[i].begun);
        if (round_in(left->engine, keys[1], at) != round)
            die(at, "half a batch is there");
        if (round < low->rounds[i])
            die(at, "a synced batch is lost");
        if (round > high)
            die(at, "there is what was never written");
    }
}

static void write_from_all(struct engine *engine)
{
    pthread_t threads[WRITERS];
    run.engine = engine;
    for (unsigned i = 0; i < WRITERS; i++) {
        run.writers[i].number = i;
        assert_int_equal(
            pthread_create(&threads[i], NULL, write_rounds, &run.writers[i]),
            0);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
}

static void no_writer_of_a_group_loses_what_was_synced(void **state)
{
    (void)state;
    start(check_rounds);
    struct workload_store store = {.memory = run.memory, .threads = true};
    assert_int_equal(workload_open(&store), STATUS_OK);
    write_from_all(store.engine);
    workload_close(&store);
    memory_disk_watch(run.memory, NULL, NULL);
    stop();
}

/* Whoever waits, be it for a sync, for room or for work, is told. */
static void a_call_that_fails_ends_every_writer(void **state)
{
    (void)state;
    unsigned failures = 0;
    for (uint64_t call = 30; call < FAULTS_MAX; call += FAULT_EVERY) {
        start(check_rounds);
        memory_disk_watch(run.memory, NULL, NULL);
        run.may_fail = true;
        struct workload_store store = {.memory = run.memory, .threads = true};
        struct memory_fault fault = {.call = call,
                                     .lasting = call % 2 == 0,
                                     .status = STATUS_IO,
                                     .seed = call};
        assert_int_equal(workload_open(&store), STATUS_OK);
        memory_disk_fail(run.memory, &fault);
        write_from_all(store.engine);
        workload_close(&store);
        memory_disk_fail(run.memory, &(struct memory_fault){.call = 0});
        store.threads = false;
        assert_int_equal(workload_open(&store), STATUS_OK);
        struct low low = {.step = 0};
        for (unsigned i = 0; i < WRITERS; i++) {
            low.rounds[i] = atomic_load(&run.writers[i].durable);
            failures += low.rounds[i] < ROUNDS - 2;
        }
        check_rounds(&store, &low, "opened after a failure");
        workload_close(&store);
        memory_disk_free(run.memory);
        pthread_mutex_destroy(&run.mutex);
    }
    assert_true(failures > WRITERS);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_synced_is_lost_while_threads_work),
        cmocka_unit_test(no_writer_of_a_group_loses_what_was_synced),
        cmocka_unit_test(a_call_that_fails_ends_every_writer),
    };
    uint64_t *const numbers[] = {&arguments.seed, &arguments.steps, NULL};
    workload_arguments(argc, argv, "[SEED [STEPS]]", numbers);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
