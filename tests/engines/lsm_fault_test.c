/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_workload.h"

#include <stdio.h>
#include <stdlib.h>

/* lsm_fault_test [SEED [STEPS [EVERY]]]: a workload in pieces, each begun on a
 * disk as the piece before left it, and every EVERY-th of them repeated with
 * every single one of its calls of the disk failing. */

static struct {
    uint64_t seed, steps, every;
} arguments = {1, 240, 4};

enum {
    PIECE_STEPS = 20,
    /* After one fault in so many, and after each of a sync, the power fails,
     * too, at every call of the next open. */
    NEST_EVERY = 16,
    /* How much room a disk has that becomes full. */
    ROOM_MAX = 160 << 10,
    ROOM_STEP = 1365,
    /* What it is given before the next open: less than a table, so that opens
     * fail at most of what they write. */
    MORE_BYTES = 1000,
    MORE_TIMES = 1600,
};

static struct {
    struct workload workload;
    struct memory_disk *base; /* where the piece begins */
    size_t begin, end;        /* its steps: from begin to before end */
    uint64_t faults, failures, crashes;
    char at[200]; /* for people */
} run;

/* One repetition. */
struct attempt {
    struct workload_store store;
    size_t durable, done, begun; /* steps */
    bool failed;
    uint64_t calls, call; /* made, and the one that is to fail */
    bool sync_failed;     /* which is a sync */
};

static const struct memory_crash keep = {MEMORY_EVERYTHING, MEMORY_EVERYTHING,
                                         0};

static void fail_at(const char *what, const char *why)
{
    fail_msg("seed %u, %u steps, %s: %s: %s", (unsigned)arguments.seed,
             (unsigned)arguments.steps, run.at, what, why);
}

static size_t check(struct workload_store *store,
                    const struct workload_state *states, size_t low,
                    size_t high, const char *what)
{
    const char *why;
    size_t found = workload_find(store, states, low, high, &why);
    if (found == SIZE_MAX ||
        !workload_agrees(store, &states[found], STATUS_OK, &why))
        fail_at(what, why);
    return found;
}

static void reopen(struct workload_store *store, const char *what)
{
    if (workload_open(store) != STATUS_OK)
        fail_at(what, store->error.text);
}

/* Having failed once, it answers nothing. */
static void expect_broken(struct workload_store *store)
{
    struct buffer value = {0};
    struct engine_iterator *iterator;
    struct bytes none = {0}, key = bytes_of_string("k00000");
    struct batch_operation operation = {.key = key};
    struct batch batch = {.operations = &operation, .count = 1};
    /* What broke it inside a call that was OK is told to the next write. */
    enum status told = engine_write(store->engine, &batch, false);
    if (told == STATUS_OK ||
        engine_write(store->engine, &batch, true) != STATUS_BROKEN ||
        engine_write(store->engine, &(struct batch){0}, true) !=
            STATUS_BROKEN ||
        engine_delete_range(store->engine, none, none) != STATUS_BROKEN ||
        engine_get(store->engine, key, &value) != STATUS_BROKEN ||
        engine_iterate(store->engine, none, none, ENGINE_FORWARD, &iterator) !=
            STATUS_BROKEN)
        fail_at("after a failure", "it does not answer broken");
}

static void begin(struct attempt *attempt)
{
    *attempt = (struct attempt){
        .store.memory = memory_disk_after(run.base, &keep),
        .durable = run.begin - 1,
        .done = run.begin - 1,
        .begun = run.begin - 1,
    };
}

static void note_failed_open(struct attempt *attempt)
{
    attempt->failed = true;
    if (attempt->store.engine != NULL || attempt->store.error.text[0] == '\0')
        fail_at("a failed open", "leaves an engine or says nothing");
}

/* Open the store and do the piece's steps until something fails. */
static void attempt_piece(struct attempt *attempt)
{
    struct workload_store *store = &attempt->store;
    if (workload_open(store) != STATUS_OK) {
        note_failed_open(attempt);
        return;
    }
    while (!attempt->failed && attempt->done + 1 < run.end) {
        size_t number = attempt->begun = attempt->done + 1;
        const struct step *step = &run.workload.steps[number];
        enum status status = workload_do(&run.workload, number, store);
        /* A copy that failed changes nothing here, unless it says so. */
        if (status == STATUS_OK || step->kind == STEP_CHECKPOINT) {
            attempt->done = number;
            if (step->sync)
                attempt->durable = number;
        } else if (step->kind == STEP_REOPEN) {
            note_failed_open(attempt);
        } else {
            attempt->failed = true;
            expect_broken(store);
        }
    }
    run.failures += attempt->failed;
}

static void check_after_crash(struct attempt *attempt, uint64_t seed)
{
    struct memory_crash crash = workload_crash(seed, seed);
    struct workload_store left = {
        .memory = memory_disk_after(attempt->store.memory, &crash)};
    reopen(&left, "opening after a crash");
    check(&left, run.workload.states, attempt->durable, attempt->begun,
          "after a crash");
    workload_close(&left);
    memory_disk_free(left.memory);
}

/* The power fails while a store is opened again and written to. */
struct nest {
    struct memory_disk *memory;
    const struct workload_state *states;
    size_t low, high; /* of states, that may be there */
    uint64_t calls, seed;
};

static void lose_power(void *context, enum memory_call call, const char *name)
{
    struct nest *nest = context;
    struct memory_crash crash =
        workload_crash(nest->seed + nest->calls, nest->seed + nest->calls);
    struct workload_store left = {.memory =
                                      memory_disk_after(nest->memory, &crash)};
    char what[100];
    nest->calls++;
    snprintf(what, sizeof what,
             "opened again, the power lost before call %u, %s %s",
             (unsigned)nest->calls, memory_call_name(call), name);
    reopen(&left, what);
    check(&left, nest->states, nest->low, nest->high, what);
    workload_close(&left);
    memory_disk_free(left.memory);
    run.crashes++;
}

/* Write more to a store that holds the state at nest->high. */
static void go_on(struct workload_store *store, struct nest *nest,
                  struct workload_state *states)
{
    const struct workload *workload = &run.workload;
    for (size_t i = 1; i <= WORKLOAD_MORE; i++) {
        size_t number = workload->count + i, at = nest->high + 1;
        states[at] = states[at - 1];
        workload_apply(workload, number, &states[at]);
        nest->high = at;
        if (workload_do(workload, number, store) != STATUS_OK)
            fail_at("opened again", "it cannot be written to");
        if (workload->steps[number].sync)
            nest->low = at;
    }
}

/* Without a crash all that was done is there, and what is written then lasts,
 * also where the sync before it failed. */
static void check_reopened(struct attempt *attempt, uint64_t seed)
{
    struct workload_store *store = &attempt->store;
    size_t count = attempt->begun - attempt->durable + 1;
    struct workload_state *states =
        calloc(count + WORKLOAD_MORE, sizeof *states);
    assert_non_null(states);
    memcpy(states, &run.workload.states[attempt->durable],
           count * sizeof *states);
    struct nest nest = {store->memory, states, 0, count - 1, 0, seed};
    if (attempt->sync_failed || seed % NEST_EVERY == 0)
        memory_disk_watch(store->memory, lose_power, &nest);
    reopen(store, "opening again");
    nest.high = check(store, states, attempt->done - attempt->durable,
                      count - 1, "opened again");
    go_on(store, &nest, states);
    memory_disk_watch(store->memory, NULL, NULL);
    struct memory_crash crash = workload_crash(seed, seed);
    struct workload_store left = {.memory =
                                      memory_disk_after(store->memory, &crash)};
    reopen(&left, "opening after a crash after opening again");
    check(&left, states, nest.low, nest.high,
          "after a crash after opening again");
    workload_close(&left);
    memory_disk_free(left.memory);
    free(states);
}

static void note_sync(void *context, enum memory_call call, const char *name)
{
    struct attempt *attempt = context;
    (void)name;
    if (++attempt->calls == attempt->call)
        attempt->sync_failed =
            call == MEMORY_SYNC || call == MEMORY_SYNC_DIRECTORY;
}

static void try_fault(const struct memory_fault *fault)
{
    struct attempt attempt;
    begin(&attempt);
    snprintf(run.at, sizeof run.at, "steps %zu to %zu, %s %u %s with %s",
             run.begin, run.end - 1, fault->of_reads ? "read" : "call",
             (unsigned)fault->call, fault->lasting ? "and all later" : "once",
             status_name(fault->status));
    attempt.call = fault->of_reads ? 0 : fault->call;
    memory_disk_watch(attempt.store.memory, note_sync, &attempt);
    memory_disk_fail(attempt.store.memory, fault);
    attempt_piece(&attempt);
    workload_close(&attempt.store);
    memory_disk_watch(attempt.store.memory, NULL, NULL);
    memory_disk_fail(attempt.store.memory, &(struct memory_fault){.call = 0});
    run.faults++;
    check_after_crash(&attempt, fault->call);
    check_reopened(&attempt, fault->call);
    workload_close(&attempt.store);
    memory_disk_free(attempt.store.memory);
}

/* Do the piece without a fault: how many calls that takes, and where the next
 * one begins. */
static struct memory_counts do_piece(struct memory_disk **next)
{
    struct attempt attempt;
    begin(&attempt);
    snprintf(run.at, sizeof run.at, "steps %zu to %zu", run.begin, run.end - 1);
    attempt_piece(&attempt);
    if (attempt.failed)
        fail_at("without a fault", "it fails");
    workload_close(&attempt.store);
    struct memory_counts counts = memory_disk_counts(attempt.store.memory);
    *next = memory_disk_after(attempt.store.memory, &keep);
    memory_disk_free(attempt.store.memory);
    return counts;
}

/* Call each(counts) for every piece of the workload. */
static void each_piece(void (*each)(const struct memory_counts *counts))
{
    memset(&run, 0, sizeof run);
    workload_init(&run.workload, arguments.seed, arguments.steps);
    run.base = memory_disk_new();
    for (run.begin = 1; run.begin <= arguments.steps; run.begin = run.end) {
        struct memory_disk *next;
        run.end = run.begin + PIECE_STEPS;
        if (run.end > arguments.steps + 1)
            run.end = arguments.steps + 1;
        struct memory_counts counts = do_piece(&next);
        if (run.begin / PIECE_STEPS % arguments.every == 0)
            each(&counts);
        memory_disk_free(run.base);
        run.base = next;
    }
    memory_disk_free(run.base);
    workload_fini(&run.workload);
    print_message("%u faults, %u failures, %u crashes after them\n",
                  (unsigned)run.faults, (unsigned)run.failures,
                  (unsigned)run.crashes);
}

/* In both of the ways in which a call may fail. */
static void try_both(uint64_t call, bool of_reads)
{
    struct memory_fault fault = {
        .call = call, .of_reads = of_reads, .status = STATUS_IO, .seed = call};
    try_fault(&fault);
    fault.status = STATUS_NO_SPACE;
    fault.lasting = true;
    try_fault(&fault);
}

static void fail_every_call(const struct memory_counts *counts)
{
    for (uint64_t call = 1; call <= counts->calls; call++)
        try_both(call, false);
}

static void fail_every_read(const struct memory_counts *counts)
{
    for (uint64_t read = 1; read <= counts->reads; read++)
        try_both(read, true);
}

/* Gets and walks with a read of theirs failing answer that, or what is so. */
static void read_with_a_fault(struct workload_store *store, uint64_t read,
                              bool lasting)
{
    const struct workload_state *state = &run.workload.states[run.begin - 1];
    struct memory_fault fault = {
        .of_reads = true, .lasting = lasting, .status = STATUS_IO};
    const char *why;
    snprintf(run.at, sizeof run.at, "before step %zu, read %u %s", run.begin,
             (unsigned)read, lasting ? "and all later" : "once");
    workload_close(store);
    reopen(store, "opening"); /* with an empty cache */
    fault.call = memory_disk_counts(store->memory).reads + read;
    memory_disk_fail(store->memory, &fault);
    if (!workload_agrees(store, state, STATUS_IO, &why))
        fail_at("reading with a fault", why);
    if (memory_disk_counts(store->memory).reads < fault.call)
        fail_at("reading with a fault", "that was never met");
    memory_disk_fail(store->memory, &(struct memory_fault){.call = 0});
    if (!workload_agrees(store, state, STATUS_OK, &why))
        fail_at("reading after a fault", why);
    run.failures += store->reports;
    run.faults++;
}

static void fail_reads_of_gets(const struct memory_counts *counts)
{
    const struct workload_state *state = &run.workload.states[run.begin - 1];
    struct workload_store store = {.memory =
                                       memory_disk_after(run.base, &keep)};
    const char *why;
    (void)counts;
    reopen(&store, "opening");
    uint64_t before = memory_disk_counts(store.memory).reads;
    if (!workload_agrees(&store, state, STATUS_OK, &why))
        fail_at("without a fault", why);
    uint64_t reads = memory_disk_counts(store.memory).reads - before;
    for (uint64_t read = 1; read <= reads; read++) {
        read_with_a_fault(&store, read, false);
        read_with_a_fault(&store, read, true);
    }
    workload_close(&store);
    memory_disk_free(store.memory);
}

/* Whether a copy of this disk opens with so much room. */
static bool copy_opens(struct memory_disk *memory, uint64_t bytes_max)
{
    struct workload_store copy = {.memory = memory_disk_after(memory, &keep)};
    memory_disk_limit(copy.memory, bytes_max);
    bool opens = workload_open(&copy) == STATUS_OK;
    workload_close(&copy);
    memory_disk_free(copy.memory);
    return opens;
}

/* What a failed open leaves behind, tables and half a manifest, takes no room
 * from the next: where one fails, it would have failed without them. */
static void open_with_more_and_more_room(struct attempt *attempt,
                                         uint64_t bytes_max)
{
    struct workload_store *store = &attempt->store;
    struct memory_disk *before = memory_disk_after(store->memory, &keep);
    unsigned times = 0;
    while (workload_open(store) != STATUS_OK) {
        note_failed_open(attempt);
        if (store->error.status != STATUS_NO_SPACE)
            fail_at("opening on a full disk", store->error.text);
        if (copy_opens(before, bytes_max))
            fail_at("opening on a full disk", "earlier opens took its room");
        if (++times == MORE_TIMES)
            fail_at("opening on a full disk", "it takes too much room");
        bytes_max += MORE_BYTES;
        memory_disk_limit(store->memory, bytes_max);
    }
    memory_disk_free(before);
}

static void fill_the_disk(const struct memory_counts *counts)
{
    uint64_t stored = memory_disk_counts(run.base).bytes_stored;
    (void)counts;
    for (uint64_t room = 0; room < ROOM_MAX; room += ROOM_STEP) {
        struct attempt attempt;
        begin(&attempt);
        snprintf(run.at, sizeof run.at, "steps %zu to %zu, room for %u bytes",
                 run.begin, run.end - 1, (unsigned)room);
        memory_disk_limit(attempt.store.memory, stored + room);
        attempt_piece(&attempt);
        workload_close(&attempt.store);
        run.faults++;
        check_after_crash(&attempt, room);
        open_with_more_and_more_room(&attempt, stored + room);
        workload_close(&attempt.store);
        memory_disk_limit(attempt.store.memory, UINT64_MAX);
        check_reopened(&attempt, room);
        workload_close(&attempt.store);
        memory_disk_free(attempt.store.memory);
    }
}

static void no_call_that_fails_loses_what_was_acknowledged(void **state)
{
    (void)state;
    each_piece(fail_every_call);
    assert_true(run.failures > run.faults / 2);
}

static void no_read_that_fails_loses_anything(void **state)
{
    (void)state;
    each_piece(fail_every_read);
    assert_true(run.failures > 0);
}

static void no_read_that_fails_is_taken_for_an_answer(void **state)
{
    (void)state;
    each_piece(fail_reads_of_gets);
    assert_true(run.failures > 0);
}

static void a_full_disk_loses_nothing_and_opens_again_with_room(void **state)
{
    (void)state;
    each_piece(fill_the_disk);
    assert_true(run.failures > 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_call_that_fails_loses_what_was_acknowledged),
        cmocka_unit_test(no_read_that_fails_loses_anything),
        cmocka_unit_test(no_read_that_fails_is_taken_for_an_answer),
        cmocka_unit_test(a_full_disk_loses_nothing_and_opens_again_with_room),
    };
    uint64_t *const numbers[] = {&arguments.seed, &arguments.steps,
                                 &arguments.every, NULL};
    workload_arguments(argc, argv, "[SEED [STEPS [EVERY]]]", numbers);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
