/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engines/store.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child writes numbered steps and reports each one whose sync was OK; it is
 * killed without warning, and the store is opened again. Step n is
 *
 *     unsynced:  put u<n>
 *     synced:    put a<n>, put b<n>, remove r<n-1>, put r<n>
 *
 * so whatever step was the last, the store's whole content follows from its
 * number, but for the u of a step that was not finished. */

enum { ROUNDS = 10, VALUE_BYTES_MAX = 3000, ACKS_MIN = 10, ACKS_MAX = 120 };

static const struct engine_type *type;

struct step_text {
    char a[16], b[16], u[16], r[16], old[16];
    uint8_t value[VALUE_BYTES_MAX];
    size_t value_size;
};

static void step_of(struct step_text *step, uint32_t number)
{
    uint64_t random = number + UINT64_C(0x9e3779b97f4a7c15);
    snprintf(step->a, sizeof step->a, "a%08u", number);
    snprintf(step->b, sizeof step->b, "b%08u", number);
    snprintf(step->u, sizeof step->u, "u%08u", number);
    snprintf(step->r, sizeof step->r, "r%08u", number);
    snprintf(step->old, sizeof step->old, "r%08u", number - 1);
    step->value_size = store_random(&random) % VALUE_BYTES_MAX;
    for (size_t i = 0; i < step->value_size; i++)
        step->value[i] = (uint8_t)store_random(&random);
}

static enum status write_step(struct engine *engine, uint32_t number)
{
    struct step_text step;
    step_of(&step, number);
    struct bytes value = bytes_of(step.value, step.value_size);
    struct batch_operation first = {.key = bytes_of_string(step.u),
                                    .value = value};
    struct batch_operation rest[] = {
        {.key = bytes_of_string(step.a), .value = value},
        {.key = bytes_of_string(step.b), .value = value},
        {.key = bytes_of_string(step.old), .remove = true},
        {.key = bytes_of_string(step.r), .value = value},
    };
    struct batch unsynced = {.operations = &first, .count = 1};
    struct batch synced = {.operations = rest, .count = 4};
    enum status status = engine_write(engine, &unsynced, false);
    return status == STATUS_OK ? engine_write(engine, &synced, true) : status;
}

/* What this program does as a child: write on and report on its standard
 * output. Ends only if something failed. */
static int run_child(const char *directory, uint32_t number)
{
    struct store store = {.type = type};
    snprintf(store.directory, sizeof store.directory, "%s", directory);
    if (store_open(&store) != STATUS_OK)
        return 1;
    for (;; number++) {
        if (write_step(store.engine, number) != STATUS_OK)
            return 2;
        if (write(STDOUT_FILENO, &number, sizeof number) != sizeof number)
            return 3;
    }
}

/* A program of its own and not a mere fork: a fork has none of the threads
 * that LevelDB believes to be running once a store was open in the parent. */
static void start_child(const struct store *store, uint32_t number,
                        int pipe_end)
{
    char text[16];
    snprintf(text, sizeof text, "%u", number);
    dup2(pipe_end, STDOUT_FILENO);
    execl("/proc/self/exe", "crash", type->name, store->directory, text, NULL);
    _exit(4);
}

/* The last number reported, 0 at the end of the pipe. */
static uint32_t read_number(int pipe_end)
{
    uint32_t number = 0;
    ssize_t got;
    do
        got = read(pipe_end, &number, sizeof number);
    while (got < 0 && errno == EINTR);
    return got == sizeof number ? number : 0;
}

/* Let a child write on from number, kill it after acks reports and some
 * microseconds into what follows. The last number it reported. */
static uint32_t crash(struct store *store, uint32_t number, uint32_t acks,
                      uint64_t microseconds)
{
    int ends[2];
    uint32_t acked = number - 1;
    uint32_t read_now = number;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        start_child(store, number, ends[1]);
    close(ends[1]);
    for (uint32_t i = 0; i < acks && read_now != 0; i++) {
        read_now = read_number(ends[0]);
        acked = read_now != 0 ? read_now : acked;
    }
    /* Where in a write the kill falls; nothing waits for this to pass. */
    usleep((useconds_t)microseconds);
    kill(child, SIGKILL);
    while ((read_now = read_number(ends[0])) != 0)
        acked = read_now;
    close(ends[0]);
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    return acked;
}

static bool holds(struct engine *engine, const char *key, struct bytes wanted)
{
    struct buffer got = {0};
    enum status status = engine_get(engine, bytes_of_string(key), &got);
    if (status != STATUS_NOT_FOUND) {
        assert_int_equal(status, STATUS_OK);
        assert_true(bytes_equal(buffer_bytes(&got), wanted));
    }
    buffer_fini(&got);
    return status == STATUS_OK;
}

/* Steps up to last are there and a step behind it is not, but for its u.
 * Every key that the store has is one of these: the counts say so. */
static void check_content(struct engine *engine, uint32_t last)
{
    struct step_text step;
    struct engine_iterator *iterator;
    struct bytes key, value;
    size_t count = 0;
    for (uint32_t number = 1; number <= last; number++) {
        step_of(&step, number);
        struct bytes wanted = bytes_of(step.value, step.value_size);
        assert_true(holds(engine, step.a, wanted));
        assert_true(holds(engine, step.b, wanted));
        assert_true(holds(engine, step.u, wanted));
        assert_int_equal(holds(engine, step.r, wanted), number == last);
    }
    step_of(&step, last + 1);
    bool begun = holds(engine, step.u, bytes_of(step.value, step.value_size));
    assert_int_equal(engine_iterate(engine, bytes_of(NULL, 0),
                                    bytes_of(NULL, 0), ENGINE_FORWARD,
                                    &iterator),
                     STATUS_OK);
    enum status status;
    while ((status = engine_next(iterator, &key, &value)) == STATUS_OK)
        count++;
    assert_int_equal(status, STATUS_NOT_FOUND);
    engine_iterator_free(iterator);
    assert_int_equal(count, 3 * last + (last > 0) + begun);
}

static void acknowledged_writes_survive_kills(void **state)
{
    (void)state;
    struct store store;
    uint64_t random = 42;
    uint32_t last = 0;
    assert_true(store_init(&store, type));
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t acks = (uint32_t)(ACKS_MIN + store_random(&random) %
                                                  (ACKS_MAX - ACKS_MIN));
        uint32_t acked =
            crash(&store, last + 1, acks, store_random(&random) % 2000);
        struct step_text step;
        assert_true(acked >= last + acks);
        assert_int_equal(store_open(&store), STATUS_OK);
        /* One step may have been done and not reported. */
        step_of(&step, acked + 1);
        last = acked + holds(store.engine, step.r,
                             bytes_of(step.value, step.value_size));
        check_content(store.engine, last);
        store_close(&store);
    }
    store_fini(&store);
}

/* The first thing a store does is the most fragile: killed before anything
 * was acknowledged, the directory must still open. */
static void store_killed_while_it_is_made_opens(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct store store;
        struct step_text step;
        assert_true(store_init(&store, type));
        uint32_t acked = crash(&store, 1, 0, round * 700);
        assert_int_equal(store_open(&store), STATUS_OK);
        step_of(&step, acked + 1);
        uint32_t last = acked + holds(store.engine, step.r,
                                      bytes_of(step.value, step.value_size));
        check_content(store.engine, last);
        store_fini(&store);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledged_writes_survive_kills),
        cmocka_unit_test(store_killed_while_it_is_made_opens),
    };
    type = argc == 2 || argc == 4 ? engine_type_find(argv[1]) : NULL;
    if (type == NULL || (type->capabilities & ENGINE_DURABLE) == 0) {
        fprintf(stderr, "usage: %s ENGINE, a durable one\n", argv[0]);
        return 2;
    }
    if (argc == 4)
        return run_child(argv[2], (uint32_t)strtoul(argv[3], NULL, 10));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
