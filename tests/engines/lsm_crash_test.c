/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_workload.h"

#include <stdio.h>
#include <stdlib.h>

/* lsm_crash_test [SEED [STEPS [EVERY]]]: the power fails before every sync of
 * a workload, and before every EVERY-th other call that changes the disk, in
 * each way that a disk may then look. What is left has to open, to hold a
 * state behind the last step that was durable, to go on, and to bear the next
 * crash. */

enum { SEED = 1, STEPS = 400 };

static struct {
    uint64_t seed, steps, every;
} arguments = {SEED, STEPS, 8};

enum {
    /* Of the disks that are left, one in so many is written to and lost once
     * more, and one in so many is lost while it is opened. */
    GO_ON_EVERY = 5,
    NEST_EVERY = 31,
    KNOWN = 512,
};

static const char *const survival_names[] = {
    [MEMORY_NOTHING] = "nothing",
    [MEMORY_EVERYTHING] = "everything",
    [MEMORY_SOME] = "some",
    [MEMORY_TORN] = "torn",
};

/* The run, and which states a disk that is lost now may hold. */
static struct {
    struct workload workload;
    struct workload_store store;
    size_t low, high;
    uint64_t calls, crashes, images, nested;
    unsigned levels; /* below level 0, that had tables at once */
    char at[200];    /* for people */
    /* Most crashes leave a disk like one that was opened not long before, by
     * its hash, and which held the state found. */
    struct known {
        uint64_t hash;
        size_t found;
    } known[KNOWN];
} run;

/* A disk that was left while another was opened. */
struct nest {
    struct memory_disk *memory;
    size_t low, high;
    uint64_t calls;
};

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

/* Write more, of which all but the last is durable, and lose it again. */
static void go_on(struct workload_store *store, size_t found, uint64_t seed)
{
    const struct workload *workload = &run.workload;
    struct workload_state states[1 + WORKLOAD_MORE];
    states[0] = workload->states[found];
    for (size_t i = 1; i <= WORKLOAD_MORE; i++) {
        size_t number = workload->count + i;
        states[i] = states[i - 1];
        workload_apply(workload, number, &states[i]);
        enum status status = workload_do(workload, number, store);
        if (status != STATUS_OK)
            fail_at("going on", status_name(status));
    }
    struct memory_crash crash = workload_crash(seed, seed);
    struct workload_store left = {.memory =
                                      memory_disk_after(store->memory, &crash)};
    reopen(&left, "opening after a second crash");
    check(&left, states, WORKLOAD_MORE_SYNCED, WORKLOAD_MORE,
          "after a second crash");
    workload_close(&left);
    memory_disk_free(left.memory);

    workload_close(store);
    reopen(store, "opening after going on");
    check(store, states, WORKLOAD_MORE, WORKLOAD_MORE, "after going on");
}

/* The power fails again, before a call of the open after the first crash. */
static void lose_again(void *context, enum memory_call call, const char *name)
{
    struct nest *nest = context;
    struct memory_crash crash =
        workload_crash(nest->calls, run.images * 1000 + nest->calls);
    nest->calls++;
    struct workload_store left = {.memory =
                                      memory_disk_after(nest->memory, &crash)};
    char what[100];
    snprintf(what, sizeof what, "lost again before call %u of the open, %s %s",
             (unsigned)nest->calls, memory_call_name(call), name);
    reopen(&left, what);
    check(&left, run.workload.states, nest->low, nest->high, what);
    workload_close(&left);
    memory_disk_free(left.memory);
    run.nested++;
}

/* Whether a disk like this was looked at; its place among the known ones. */
static bool is_known(struct memory_disk *memory, struct known **known)
{
    uint64_t hash = memory_disk_hash(memory);
    *known = &run.known[hash % KNOWN];
    bool found = (*known)->hash == hash;
    (*known)->hash = hash;
    return found;
}

/* Whether a state is one of those that there may be now; neighbours may be
 * equal. */
static bool may_be_now(size_t found)
{
    const struct workload_state *states = run.workload.states;
    size_t i = run.low;
    while (i <= run.high &&
           memcmp(&states[i], &states[found], sizeof states[i]) != 0)
        i++;
    return i <= run.high;
}

static void check_crash(const struct memory_crash *crash)
{
    struct workload_store left = {
        .memory = memory_disk_after(run.store.memory, crash)};
    struct known *known;
    run.crashes++;
    if (is_known(left.memory, &known)) {
        if (!may_be_now(known->found))
            fail_at("found", "a state of another time");
        memory_disk_free(left.memory);
        return;
    }
    uint64_t number = run.images++;
    struct nest nest = {left.memory, run.low, run.high, 0};
    if (number % NEST_EVERY == 0)
        memory_disk_watch(left.memory, lose_again, &nest);
    reopen(&left, "opening");
    memory_disk_watch(left.memory, NULL, NULL);
    known->found = check(&left, run.workload.states, run.low, run.high, "");
    if (number % GO_ON_EVERY == 0)
        go_on(&left, known->found, number);
    workload_close(&left);
    memory_disk_free(left.memory);
}

static void lose_power(void *context, enum memory_call call, const char *name)
{
    (void)context;
    uint64_t number = run.calls++;
    if (call != MEMORY_SYNC && call != MEMORY_SYNC_DIRECTORY &&
        number % arguments.every != 0)
        return;
    for (size_t i = 0; i < WORKLOAD_CRASHES; i++) {
        struct memory_crash crash = workload_crash(i, number);
        snprintf(run.at, sizeof run.at,
                 "power lost in step %zu before call %u, %s %s (bytes: %s, "
                 "names: %s)",
                 run.high, (unsigned)number + 1, memory_call_name(call), name,
                 survival_names[crash.bytes], survival_names[crash.names]);
        check_crash(&crash);
    }
}

/* A checkpoint stays whatever happens to the disk. */
static void check_checkpoint(size_t number)
{
    struct memory_crash crash = workload_crash(0, 0);
    struct workload_store left = {
        .memory = memory_disk_after(run.store.memory, &crash),
        .path = workload_checkpoint(number)};
    reopen(&left, left.path);
    check(&left, run.workload.states, number, number, left.path);
    workload_close(&left);
    memory_disk_free(left.memory);
}

static void start(uint64_t seed, uint64_t steps)
{
    memset(&run, 0, sizeof run);
    workload_init(&run.workload, seed, steps);
    run.store.memory = memory_disk_new();
}

static void stop(void)
{
    workload_close(&run.store);
    memory_disk_free(run.store.memory);
    workload_fini(&run.workload);
}

static void count_levels(void)
{
    const struct version *version = lsm_of(run.store.engine)->view->version;
    unsigned levels = 0;
    for (unsigned i = 1; i < LEVELS; i++)
        levels += version->levels[i].count > 0;
    if (levels > run.levels)
        run.levels = levels;
}

/* Do all steps, with low and high as they are between and in them. */
static void do_all(void)
{
    assert_int_equal(workload_open(&run.store), STATUS_OK);
    for (size_t i = 1; i <= run.workload.count; i++) {
        const struct step *step = &run.workload.steps[i];
        run.high = i;
        enum status status = workload_do(&run.workload, i, &run.store);
        snprintf(run.at, sizeof run.at, "in step %zu", i);
        if (status != STATUS_OK)
            fail_at("without a fault", status_name(status));
        count_levels();
        if (step->sync)
            run.low = i;
        if (step->kind == STEP_REOPEN)
            check(&run.store, run.workload.states, i, i, "reopened");
        if (step->kind == STEP_CHECKPOINT)
            check_checkpoint(i);
    }
    snprintf(run.at, sizeof run.at, "at the end");
    check(&run.store, run.workload.states, run.high, run.high, "");
}

static void nothing_synced_is_lost_wherever_the_power_fails(void **state)
{
    (void)state;
    start(arguments.seed, arguments.steps);
    memory_disk_watch(run.store.memory, lose_power, NULL);
    do_all();
    memory_disk_watch(run.store.memory, NULL, NULL);
    print_message("%u calls, %u crashes with %u outcomes, %u more crashes in "
                  "the opens after them\n",
                  (unsigned)run.calls, (unsigned)run.crashes,
                  (unsigned)run.images, (unsigned)run.nested);
    stop();
}

struct seen {
    bool recycled;
    unsigned checkpoints, tables;
};

static void see(void *context, enum memory_call call, const char *name)
{
    struct seen *seen = context;
    seen->recycled = seen->recycled ||
                     (call == MEMORY_RENAME && strstr(name, ".log") != NULL);
    seen->checkpoints += call == MEMORY_MAKE_DIRECTORY;
    seen->tables += call == MEMORY_CREATE && strstr(name, ".table") != NULL;
}

/* The crashes prove nothing of what the workload never does. Of others than
 * the usual one not all is asked. */
static void the_workload_reaches_every_part_of_the_tree(void **state)
{
    (void)state;
    struct seen seen = {0};
    start(SEED, STEPS);
    memory_disk_watch(run.store.memory, see, &seen);
    do_all();
    assert_true(run.levels >= 2);
    assert_true(seen.recycled);
    assert_true(seen.checkpoints > 0);
    assert_true(seen.tables >= 40);
    stop();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_workload_reaches_every_part_of_the_tree),
        cmocka_unit_test(nothing_synced_is_lost_wherever_the_power_fails),
    };
    uint64_t *const numbers[] = {&arguments.seed, &arguments.steps,
                                 &arguments.every, NULL};
    workload_arguments(argc, argv, "[SEED [STEPS [EVERY]]]", numbers);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
