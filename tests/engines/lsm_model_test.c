/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "engines/lsm/lsm.h"
#include "tests/engines/lsm_reached.h"
#include "tests/engines/lsm_reader.h"
#include "tests/engines/memory_disk.h"
#include "tests/sim/random.h"

/* lsm_model_test [STEPS [SEED]]: random calls of the engine, and an array that
 * must agree with it, through reopens and through power that fails at any call
 * of the disk. What is then left must be the state behind a batch that is not
 * before the last synced one; the array goes on from there.
 *
 * Steps are done in lives of LIFE_STEPS, each with the next seed and on a new
 * disk, so "lsm_model_test STEP SEED" replays a failure that told them. In one
 * life in THREADED_EVERY the engine has its threads, and a replay is only about
 * the same. */

enum {
    LIFE_STEPS = 10000,
    STEPS = 10 * LIFE_STEPS,
    REPLAY_STEPS = 1000,
    THREADED_EVERY = 4,
    HABIT_STEPS = 500,
    BATCH_MAX = 64,
    SHORT = 20, /* keys of most ranges */
    HELD = 4,   /* iterators at once */
    /* A disk has room for so many directories, and those of checkpoints are
     * never removed. */
    CHECKPOINTS_MAX = 12,
    /* Further on than this an armed crash does not come. */
    CALLS_NEAR = 40,
    CALLS_FAR = 400,
};

static struct {
    uint64_t steps, seed;
} arguments = {STEPS, 1};

/* One life. */
static struct {
    uint64_t seed, step;
    struct randomness random;
    struct memory_disk *memory;
    struct engine *engine;
    bool threads;
    uint32_t sync_permille, remove_permille, drop_permille;
    struct history history;
    uint32_t version; /* of the last put */
    unsigned checkpoints;
    struct reader held[HELD];
    atomic_uint reports;

    pthread_mutex_t mutex;   /* guards all below */
    uint64_t durable, begun; /* batches */
    /* Of calls of the disk until the power fails, 0 if it does not, and the
     * seed of what is left then. */
    uint64_t countdown, luck;
    struct memory_disk *image;        /* what was left; NULL: it did not fail */
    uint64_t image_first, image_last; /* batches that it may end with */
} life;

static uint64_t below(uint64_t bound)
{
    return random_below(&life.random, bound);
}

static bool chance(uint32_t permille)
{
    return random_chance(&life.random, permille);
}

static void fail_at(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));
static void fail_at(const char *format, ...)
{
    char text[300];
    va_list arguments_of;
    va_start(arguments_of, format);
    vsnprintf(text, sizeof text, format, arguments_of);
    va_end(arguments_of);
    fail_msg("seed %" PRIu64 ", step %" PRIu64 "%s: %s; replay with "
             "lsm_model_test %" PRIu64 " %" PRIu64,
             life.seed, life.step, life.threads ? " (threads)" : "", text,
             life.step, life.seed);
    abort();
}

static void expect_ok(const char *call, enum status status)
{
    if (status != STATUS_OK)
        fail_at("%s answers %s", call, status_name(status));
}

/* What a reader says: NULL if all is well. */
static void expect(const char *why)
{
    if (why != NULL)
        fail_at("%s", why);
}

static struct memory_crash draw_crash(uint64_t seed)
{
    struct randomness random = {seed};
    return (struct memory_crash){
        .bytes = (enum memory_survival)random_below(&random, MEMORY_TORN + 1),
        .names = (enum memory_survival)random_below(&random, MEMORY_TORN + 1),
        .seed = seed,
    };
}

/* The mutex is held. */
static void lose_power(void)
{
    struct memory_crash crash = draw_crash(life.luck);
    life.image = memory_disk_after(life.memory, &crash);
    life.image_first = life.durable;
    life.image_last = life.begun;
    life.countdown = 0;
}

/* From any of the engine's threads. */
static void before_call(void *context, enum memory_call call, const char *name)
{
    (void)context;
    pthread_mutex_lock(&life.mutex);
    reached.recycled += call == MEMORY_RENAME && strstr(name, ".log") != NULL;
    if (life.countdown > 0 && --life.countdown == 0) {
        lose_power();
        reached.inside++;
    }
    pthread_mutex_unlock(&life.mutex);
}

/* Have the power fail at a call of the disk from here on; 0: now. */
static void arm(uint64_t calls)
{
    uint64_t seed = random_next(&life.random);
    pthread_mutex_lock(&life.mutex);
    if (life.image == NULL && life.countdown == 0) {
        life.luck = seed;
        life.countdown = calls;
        if (calls == 0)
            lose_power();
    }
    pthread_mutex_unlock(&life.mutex);
}

/* All up to this batch is durable. A disk that was lost before that may still
 * be behind an older one. */
static void set_durable(uint64_t batch)
{
    pthread_mutex_lock(&life.mutex);
    life.durable = batch;
    if (life.image == NULL)
        history_forget(&life.history, batch);
    pthread_mutex_unlock(&life.mutex);
}

/* The batch that history_begin began is about to be written. */
static void set_begun(void)
{
    pthread_mutex_lock(&life.mutex);
    life.begun = life.history.last;
    pthread_mutex_unlock(&life.mutex);
}

static void count_report(void *context, const char *message)
{
    (void)context;
    fprintf(stderr, "reported: %s\n", message);
    life.reports++;
}

/* Each time with other settings, as small as the engine takes. */
static struct engine *open_store(struct memory_disk *memory, const char *path)
{
    const struct engine_setting settings[] = {
        {"memtable_bytes", UINT64_C(4096) << below(3)},
        {"cache_bytes", below(3) * 32768},
        {"table_bytes", UINT64_C(4096) << below(2)},
        {"level1_bytes", UINT64_C(4096) << below(3)},
        {"compression", below(3)},
        {"compression_last", below(3)},
    };
    struct engine_options options = {
        .directory = path,
        .settings = settings,
        .setting_count = sizeof settings / sizeof *settings,
        .report = count_report,
    };
    struct engine *engine = NULL;
    struct error error = {0};
    enum status status = lsm_open_on(&options, memory_disk_at(memory, path),
                                     life.threads, &engine, &error);
    if (status != STATUS_OK)
        fail_at("an open answers %s: %s", status_name(status), error.text);
    return engine;
}

static void draw_range(size_t *from, size_t *to)
{
    *from = below(HISTORY_KEYS);
    size_t most = HISTORY_KEYS - *from;
    if (most > SHORT && !chance(40))
        most = SHORT;
    *to = *from + below(most + 1);
}

static struct reader_range draw_walk(void)
{
    struct reader_range range;
    draw_range(&range.from, &range.to);
    range.from_between = chance(250);
    range.to_between = chance(250);
    range.order = chance(500) ? ENGINE_FORWARD : ENGINE_BACKWARD;
    return range;
}

static void check_all(struct engine *engine)
{
    expect(reader_all(engine, &life.history.now));
    if (life.reports > 0)
        fail_at("it reports damage");
    reached.checks++;
}

static void let_all_go(void)
{
    for (size_t i = 0; i < HELD; i++) {
        if (life.held[i].iterator != NULL && chance(500))
            expect(reader_next(&life.held[i], SIZE_MAX));
        reader_close(&life.held[i]);
    }
}

/* Behind which batch, of first to last, the store is. */
static uint64_t find_state(uint64_t first, uint64_t last)
{
    struct history_state state;
    expect(reader_scan(life.engine, &state));
    struct history_match found =
        history_find(&life.history, &state, first, last);
    if (found.differing > 0)
        fail_at("none of the states behind batches %" PRIu64 " to %" PRIu64
                " is there; that behind %" PRIu64 " differs in %zu keys",
                first, last, found.batch, found.differing);
    return found.batch;
}

static void count_crash(uint64_t found, uint64_t first, uint64_t last)
{
    reached.crashes++;
    reached.lost += found < last;
    reached.left += found > first;
    reached.between += found < last && found > first;
}

/* Go on with what the power left. An open makes all durable that it finds, so
 * if the power fails in it, just that must be there. */
static void recover(void)
{
    uint64_t first = life.image_first, last = life.image_last;
    let_all_go();
    engine_close(life.engine);
    memory_disk_free(life.memory);
    life.memory = life.image;
    life.image = NULL;
    memory_disk_watch(life.memory, before_call, NULL);
    if (chance(300))
        arm(1 + below(CALLS_NEAR));
    life.engine = open_store(life.memory, MEMORY_DISK_PATH);
    uint64_t found = find_state(first, last);
    count_crash(found, first, last);
    pthread_mutex_lock(&life.mutex);
    reached.nested += life.image != NULL;
    history_undo(&life.history, found);
    history_forget(&life.history, found);
    life.durable = life.begun = found;
    life.image_first = life.image_last = found;
    pthread_mutex_unlock(&life.mutex);
    check_all(life.engine);
}

static void step_reopen(void)
{
    let_all_go();
    engine_close(life.engine);
    life.engine = open_store(life.memory, MEMORY_DISK_PATH);
    check_all(life.engine);
    set_durable(life.history.last);
    reached.reopens++;
}

static void step_crash(void)
{
    arm(chance(200) ? 0 : 1 + below(chance(300) ? CALLS_FAR : CALLS_NEAR));
}

static size_t draw_count(void)
{
    if (chance(20))
        return 0;
    if (chance(20))
        return 1 + below(BATCH_MAX);
    return chance(400) ? 1 : 1 + below(8);
}

/* Keys that follow each other, a few that are written often, or any. */
static void draw_keys(size_t *keys, size_t count)
{
    size_t first = below(HISTORY_KEYS), all = HISTORY_KEYS;
    if (chance(300)) {
        for (size_t i = 0; i < count; i++)
            keys[i] = (first + i) % HISTORY_KEYS;
        return;
    }
    if (chance(200))
        all = SHORT;
    for (size_t i = 0; i < count; i++)
        keys[i] = below(all);
}

static uint32_t draw_version(void)
{
    if (chance(life.remove_permille))
        return 0;
    return chance(30) ? HISTORY_EMPTY : ++life.version;
}

static void step_write(void)
{
    static uint8_t values[BATCH_MAX][HISTORY_VALUE_MAX];
    struct batch_operation operations[BATCH_MAX];
    size_t keys[BATCH_MAX], count = draw_count();
    bool sync = chance(life.sync_permille);
    draw_keys(keys, count);
    history_begin(&life.history);
    for (size_t i = 0; i < count; i++) {
        uint32_t version = draw_version();
        operations[i] = (struct batch_operation){.key = history_key(keys[i]),
                                                 .remove = version == 0};
        if (version != 0)
            operations[i].value = history_value(keys[i], version, values[i]);
        history_change(&life.history, keys[i], version);
    }
    set_begun();
    struct batch batch = {.operations = operations, .count = count};
    expect_ok("write", engine_write(life.engine, &batch, sync));
    if (sync)
        set_durable(life.history.last);
    reached.batches++;
    reached.operations += count;
    reached.syncs += sync;
}

static void step_drop(void)
{
    uint8_t rooms[2][ENGINE_KEY_BYTES_MAX];
    struct reader_range range = draw_walk();
    if (chance(30)) {
        range.from = 0;
        range.to = HISTORY_KEYS;
    }
    history_begin(&life.history);
    for (size_t i = range.from; i < range.to; i++) {
        if (life.history.now.versions[i] != 0)
            history_change(&life.history, i, 0);
    }
    set_begun();
    expect_ok("delete_range",
              engine_delete_range(
                  life.engine,
                  history_bound(range.from, range.from_between, rooms[0]),
                  history_bound(range.to, range.to_between, rooms[1])));
    /* An empty range is nothing to make durable. */
    if (range.from < range.to)
        set_durable(life.history.last);
    /* While it is memtables that still have them. */
    for (size_t i = range.from; i < range.to && i < range.from + SHORT; i++)
        expect(reader_get(life.engine, &life.history.now, i));
    reached.drops++;
}

static void step_get(void)
{
    size_t number = below(HISTORY_KEYS);
    if (chance(60))
        expect(reader_get_none(life.engine, number));
    expect(reader_get(life.engine, &life.history.now, number));
    reached.gets++;
}

static void step_walk(void)
{
    struct reader reader;
    struct reader_range range = draw_walk();
    expect(reader_open(&reader, life.engine, &life.history.now, &range));
    expect(reader_next(&reader, SIZE_MAX));
    reached.walks++;
}

/* Begin to hold an iterator, or read on in one that is held. */
static void step_held(void)
{
    struct reader *held = &life.held[below(HELD)];
    if (held->iterator != NULL) {
        expect(reader_next(held, 1 + below(SHORT)));
        return;
    }
    struct reader_range range = draw_walk();
    if (chance(500))
        range.to = HISTORY_KEYS;
    expect(reader_open(held, life.engine, &life.history.now, &range));
    reached.held++;
}

static void step_settle(void)
{
    if (chance(500)) {
        expect_ok("freeze", lsm_freeze(lsm_of(life.engine)));
        reached.freezes++;
        return;
    }
    expect_ok("settle", lsm_settle(life.engine));
    reached.settles++;
}

static void step_checkpoint(void)
{
    char path[32];
    if (life.checkpoints == CHECKPOINTS_MAX)
        return;
    snprintf(path, sizeof path, "checkpoint%u", life.checkpoints++);
    /* Not engine_checkpoint, which marks a real directory. */
    expect_ok("checkpoint",
              life.engine->type->checkpoint(life.engine, path, NULL));
    struct engine *copy = open_store(life.memory, path);
    check_all(copy);
    engine_close(copy);
    reached.checkpoints++;
}

static void do_step(void)
{
    /* Of 10000. */
    uint64_t choice = below(10000);
    if (choice < 5500)
        step_write();
    else if (choice < 7700)
        step_get();
    else if (choice < 8700)
        step_walk();
    else if (choice < 9500)
        step_held();
    else if (choice < 9700)
        step_settle();
    else if (choice < 9800)
        reached_levels(life.engine);
    else if (choice < 9900)
        step_crash();
    else if (choice < 9910)
        step_checkpoint();
    else if (choice < 9940)
        step_reopen();
    if (chance(life.drop_permille))
        step_drop();
}

static bool power_failed(void)
{
    pthread_mutex_lock(&life.mutex);
    bool failed = life.image != NULL;
    pthread_mutex_unlock(&life.mutex);
    return failed;
}

/* Some write without ever syncing, so that much can be lost; others never
 * delete ranges, which sync. */
static void draw_habits(void)
{
    life.sync_permille = (uint32_t)below(3) * 60;
    life.remove_permille = 50 + (uint32_t)below(3) * 150;
    life.drop_permille = (uint32_t)below(3) * 10;
}

/* Answers with a hash of the disk at its end. */
static uint64_t live(uint64_t seed, uint64_t steps)
{
    memset(&life, 0, sizeof life);
    pthread_mutex_init(&life.mutex, NULL);
    life.seed = seed;
    life.random = (struct randomness){seed};
    life.threads = seed % THREADED_EVERY == 0;
    life.version = HISTORY_FIRST - 1;
    history_init(&life.history);
    life.memory = memory_disk_new();
    memory_disk_watch(life.memory, before_call, NULL);
    life.engine = open_store(life.memory, MEMORY_DISK_PATH);
    while (life.step < steps) {
        if (life.step++ % HABIT_STEPS == 0)
            draw_habits();
        do_step();
        while (power_failed())
            recover();
    }
    let_all_go();
    check_all(life.engine);
    engine_close(life.engine);
    uint64_t hash = memory_disk_hash(life.memory);
    memory_disk_free(life.memory);
    memory_disk_free(life.image);
    history_fini(&life.history);
    pthread_mutex_destroy(&life.mutex);
    return hash;
}

static void random_calls_and_crashes_agree_with_a_model(void **state)
{
    uint64_t left = arguments.steps, seed = arguments.seed;
    (void)state;
    reached = (struct reached){0};
    while (left > 0) {
        uint64_t steps = left < LIFE_STEPS ? left : LIFE_STEPS;
        /* Should it abort. */
        fprintf(stderr, "seed %" PRIu64 "\n", seed);
        (void)live(seed++, steps);
        left -= steps;
    }
    reached_print();
}

/* Agreement proves nothing of what was never done. Of shorter runs than the
 * usual one not all is asked. */
static void every_part_of_the_tree_was_reached(void **state)
{
    (void)state;
    if (arguments.steps < STEPS)
        skip();
    assert_true(reached.levels >= 4);
    assert_true(reached.flushes > 2000 && reached.recovered > 500);
    assert_true(reached.merges > 2000 && reached.moves > 200);
    assert_true(reached.removals > 20000);
    assert_true(reached.covered > 20 && reached.rewritten > 500);
    assert_true(reached.recycled > 1500);
    assert_true(reached.drops > 500 && reached.held > 2000);
    assert_true(reached.settles > 500 && reached.freezes > 500);
    assert_true(reached.reopens > 100 && reached.checkpoints > 40);
    assert_true(reached.crashes > 500 && reached.inside > 400);
    assert_true(reached.nested > 50);
    assert_true(reached.lost > 300 && reached.left > 300);
    assert_true(reached.between > 150);
}

static void a_seed_gives_the_same_disk_each_time(void **state)
{
    (void)state;
    assert_int_equal(live(1, REPLAY_STEPS), live(1, REPLAY_STEPS));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_gives_the_same_disk_each_time),
        cmocka_unit_test(random_calls_and_crashes_agree_with_a_model),
        cmocka_unit_test(every_part_of_the_tree_was_reached),
    };
    uint64_t *const numbers[] = {&arguments.steps, &arguments.seed};
    for (int i = 1; i < argc; i++) {
        char *end = argv[i];
        if (i <= 2)
            *numbers[i - 1] = strtoull(argv[i], &end, 10);
        if (i > 2 || *end != '\0' || *numbers[i - 1] == 0) {
            fprintf(stderr, "usage: %s [STEPS [SEED]]\n", argv[0]);
            return 2;
        }
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
