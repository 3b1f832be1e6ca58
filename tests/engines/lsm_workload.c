/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_workload.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"

/* The smallest that the engine takes; see lsm.c. */
static const struct engine_setting settings[] = {
    {"memtable_bytes", 8192},
    {"cache_bytes", 16384},
    {"table_bytes", 4096},
    {"level1_bytes", 8192},
    {"compression", COMPRESSION_LZ4},
    {"compression_last", COMPRESSION_ZSTD},
};

enum { CHECKPOINTS_MAX = 8 };

static void key_of(size_t number, char key[32])
{
    /* Of several lengths, and in order all the same. */
    snprintf(key, 32, "k%05u%.*s", (unsigned)number, (int)(number % 17),
             "................");
}

static uint64_t mixed(uint64_t a, uint64_t b)
{
    struct randomness random = {a * UINT64_C(0x100000001b3) + b};
    return random_next(&random);
}

/* What a step writes to a key: the same always, and different from what any
 * other step writes to any other. Two in three compress well. */
static size_t value_of(uint32_t key, uint32_t step, uint8_t *value)
{
    uint64_t hash = mixed(key, step);
    size_t size = 8 + hash % 120;
    if (hash % 41 == 0)
        size = 8 + (hash >> 16) % (WORKLOAD_VALUE_MAX - 8);
    struct randomness random = {hash};
    memcpy(value, &key, 4);
    memcpy(value + 4, &step, 4);
    for (size_t i = 8; i < size; i++)
        value[i] = (uint8_t)(hash % 3 == 0 ? random_next(&random) : i / 16);
    return size;
}

static void draw_write(struct step *step, struct randomness *random)
{
    step->kind = STEP_WRITE;
    step->sync = random_chance(random, 300);
    step->count =
        (uint16_t)(1 + random_below(random, WORKLOAD_OPERATIONS_MAX - 1));
    for (size_t i = 1; i < step->count; i++) {
        step->keys[i] = (uint16_t)(1 + random_below(random, WORKLOAD_KEYS - 1));
        step->removed[i] = random_chance(random, 250);
    }
}

/* One in twelve leaves nothing but the first key, so that later ones meet an
 * empty tree. */
static void draw_drop(struct step *step, struct randomness *random)
{
    step->kind = STEP_DROP;
    step->first = (uint16_t)(1 + random_below(random, WORKLOAD_KEYS - 1));
    step->last = (uint16_t)(step->first + 1 + random_below(random, 60));
    if (random_below(random, 12) == 0) {
        step->first = 1;
        step->last = WORKLOAD_KEYS;
    }
    if (step->last > WORKLOAD_KEYS)
        step->last = WORKLOAD_KEYS;
}

/* Checkpoints are few, since all that they link stays. */
static void draw_step(struct step *step, struct randomness *random,
                      unsigned *checkpoints)
{
    uint64_t choice = random_below(random, 1000);
    *step = (struct step){.sync = true};
    if (choice < 30) {
        draw_drop(step, random);
    } else if (choice < 45) {
        step->kind = STEP_SYNC;
    } else if (choice < 55) {
        step->kind = STEP_REOPEN;
        step->sync = false;
    } else if (choice < 65 && *checkpoints < CHECKPOINTS_MAX) {
        ++*checkpoints;
        step->kind = STEP_CHECKPOINT;
        step->sync = false;
    } else {
        draw_write(step, random);
    }
}

void workload_apply(const struct workload *workload, size_t number,
                    struct workload_state *state)
{
    const struct step *step = &workload->steps[number];
    for (size_t i = 0; i < step->count; i++)
        state->steps[step->keys[i]] = step->removed[i] ? 0 : (uint32_t)number;
    if (step->kind == STEP_DROP)
        memset(&state->steps[step->first], 0,
               (size_t)(step->last - step->first) * sizeof *state->steps);
}

void workload_arguments(int argc, char **argv, const char *usage,
                        uint64_t *const *numbers)
{
    for (int i = 1; i < argc && numbers[i - 1] != NULL; i++) {
        char *end;
        *numbers[i - 1] = strtoull(argv[i], &end, 10);
        if (*end != '\0' || *numbers[i - 1] == 0) {
            fprintf(stderr, "usage: %s %s\n", argv[0], usage);
            exit(2);
        }
    }
}

void workload_init(struct workload *workload, uint64_t seed, size_t count)
{
    struct randomness random = {seed};
    size_t all = 1 + count + WORKLOAD_MORE;
    unsigned checkpoints = 0;
    *workload = (struct workload){.seed = seed, .count = count};
    workload->steps = calloc(all, sizeof *workload->steps);
    workload->states = calloc(all, sizeof *workload->states);
    ASSERT(workload->steps != NULL && workload->states != NULL);
    for (size_t i = 1; i < all; i++) {
        draw_step(&workload->steps[i], &random, &checkpoints);
        if (i > count) {
            draw_write(&workload->steps[i], &random);
            workload->steps[i].sync =
                i == count + 1 || i == count + WORKLOAD_MORE_SYNCED;
        }
        workload->states[i] = workload->states[i - 1];
        workload_apply(workload, i, &workload->states[i]);
    }
}

void workload_fini(struct workload *workload)
{
    free(workload->steps);
    free(workload->states);
}

struct memory_crash workload_crash(uint64_t number, uint64_t seed)
{
    static const struct memory_crash crashes[WORKLOAD_CRASHES] = {
        {MEMORY_NOTHING, MEMORY_NOTHING, 0},
        {MEMORY_EVERYTHING, MEMORY_EVERYTHING, 0},
        {MEMORY_NOTHING, MEMORY_EVERYTHING, 0},
        {MEMORY_EVERYTHING, MEMORY_NOTHING, 0},
        {MEMORY_SOME, MEMORY_SOME, 0},
        {MEMORY_TORN, MEMORY_SOME, 0},
        {MEMORY_TORN, MEMORY_TORN, 0},
    };
    struct memory_crash crash = crashes[number % WORKLOAD_CRASHES];
    crash.seed = seed;
    return crash;
}

static void note_report(void *context, const char *message)
{
    struct workload_store *store = context;
    store->reports++;
    snprintf(store->report, sizeof store->report, "%s", message);
}

enum status workload_open(struct workload_store *store)
{
    const char *path = store->path != NULL ? store->path : MEMORY_DISK_PATH;
    struct engine_options options = {
        .directory = path,
        .settings = settings,
        .setting_count = sizeof settings / sizeof *settings,
        .report = note_report,
        .report_context = store,
    };
    struct disk *disk = memory_disk_at(store->memory, path);
    memset(&store->error, 0, sizeof store->error);
    store->reports = 0;
    return lsm_open_on(&options, disk, store->threads, &store->engine,
                       &store->error);
}

void workload_close(struct workload_store *store)
{
    engine_close(store->engine);
    store->engine = NULL;
}

static enum status write_batch(const struct step *step, size_t number,
                               struct engine *engine)
{
    uint8_t values[WORKLOAD_OPERATIONS_MAX][WORKLOAD_VALUE_MAX];
    char keys[WORKLOAD_OPERATIONS_MAX][32];
    struct batch_operation operations[WORKLOAD_OPERATIONS_MAX];
    for (size_t i = 0; i < step->count; i++) {
        key_of(step->keys[i], keys[i]);
        size_t size = value_of(step->keys[i], (uint32_t)number, values[i]);
        operations[i] =
            (struct batch_operation){.key = bytes_of_string(keys[i]),
                                     .value = bytes_of(values[i], size),
                                     .remove = step->removed[i]};
    }
    struct batch batch = {.operations = operations, .count = step->count};
    return engine_write(engine, &batch, step->sync);
}

static enum status drop(const struct step *step, struct engine *engine)
{
    char from[32], to[32];
    key_of(step->first, from);
    key_of(step->last, to);
    struct bytes end = bytes_of_string(to);
    if (step->last == WORKLOAD_KEYS)
        end.size = 0;
    return engine_delete_range(engine, bytes_of_string(from), end);
}

const char *workload_checkpoint(size_t number)
{
    static char path[32];
    snprintf(path, sizeof path, "checkpoint%zu", number);
    return path;
}

enum status workload_do(const struct workload *workload, size_t number,
                        struct workload_store *store)
{
    const struct step *step = &workload->steps[number];
    switch (step->kind) {
    case STEP_WRITE:
    case STEP_SYNC:
        return write_batch(step, number, store->engine);
    case STEP_DROP:
        return drop(step, store->engine);
    case STEP_CHECKPOINT:
        return store->engine->type->checkpoint(
            store->engine, workload_checkpoint(number), NULL);
    case STEP_REOPEN:
        workload_close(store);
        return workload_open(store);
    }
    ASSERT(!"reached");
    return STATUS_INVALID;
}

static const char *told(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
static const char *told(const char *format, ...)
{
    /* Two, as one may be part of the other. */
    static char texts[2][300];
    static unsigned next;
    char *text = texts[next++ % 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof texts[0], format, arguments);
    va_end(arguments);
    return text;
}

/* Which step wrote the value, if it is just what that step wrote; or 0. */
static uint32_t writer_of(uint32_t key, struct bytes value)
{
    static uint8_t wanted[WORKLOAD_VALUE_MAX];
    uint32_t step;
    if (value.size < 8)
        return 0;
    memcpy(&step, value.data + 4, 4);
    size_t size = value_of(key, step, wanted);
    return bytes_equal(value, bytes_of(wanted, size)) ? step : 0;
}

static size_t key_number(struct bytes key)
{
    char text[32] = {0}, wanted[32];
    if (key.size >= sizeof text || key.size < 6)
        return SIZE_MAX;
    memcpy(text, key.data, key.size);
    size_t number = strtoul(text + 1, NULL, 10);
    if (number >= WORKLOAD_KEYS)
        return SIZE_MAX;
    key_of(number, wanted);
    return strcmp(text, wanted) == 0 ? number : SIZE_MAX;
}

/* Read all of the store into *state. */
static const char *scan(struct engine *engine, struct workload_state *state)
{
    struct engine_iterator *iterator;
    struct bytes key, value, none = {0};
    const char *wrong = NULL;
    size_t last = SIZE_MAX;
    enum status status =
        engine_iterate(engine, none, none, ENGINE_FORWARD, &iterator);
    if (status != STATUS_OK)
        return told("iterate answers %s", status_name(status));
    memset(state, 0, sizeof *state);
    while (wrong == NULL &&
           (status = engine_next(iterator, &key, &value)) == STATUS_OK) {
        size_t number = key_number(key);
        if (number == SIZE_MAX)
            wrong = told("a key that was never written");
        else if (last != SIZE_MAX && number <= last)
            wrong = told("key %zu comes after key %zu", number, last);
        else if ((state->steps[number] = writer_of((uint32_t)number, value)) ==
                 0)
            wrong = told("key %zu has a value never written to it", number);
        last = number;
    }
    engine_iterator_free(iterator);
    if (wrong == NULL && status != STATUS_NOT_FOUND)
        wrong = told("next answers %s", status_name(status));
    return wrong;
}

static const char *difference(const struct workload_state *found,
                              const struct workload_state *wanted)
{
    for (size_t i = 0; i < WORKLOAD_KEYS; i++) {
        if (found->steps[i] != wanted->steps[i])
            return told("key %zu has the value of step %u, not of %u", i,
                        found->steps[i], wanted->steps[i]);
    }
    return told("nothing differs");
}

size_t workload_find(struct workload_store *store,
                     const struct workload_state *states, size_t first,
                     size_t last, const char **why)
{
    struct workload_state found;
    *why = scan(store->engine, &found);
    if (*why != NULL)
        return SIZE_MAX;
    for (size_t i = last + 1; i-- > first;) {
        if (memcmp(&found, &states[i], sizeof found) == 0)
            return i;
    }
    *why = told("of states %zu to %zu none is there; as to the first, %s",
                first, last, difference(&found, &states[first]));
    return SIZE_MAX;
}

static const char *agrees_by_gets(struct engine *engine,
                                  const struct workload_state *state,
                                  enum status besides)
{
    struct buffer value = {0};
    const char *why = NULL;
    for (uint32_t i = 0; i < WORKLOAD_KEYS && why == NULL; i++) {
        char key[32];
        key_of(i, key);
        enum status status = engine_get(engine, bytes_of_string(key), &value);
        uint32_t step =
            status == STATUS_OK ? writer_of(i, buffer_bytes(&value)) : 0;
        if (status == besides && besides != STATUS_OK)
            continue;
        if (status != (state->steps[i] == 0 ? STATUS_NOT_FOUND : STATUS_OK) ||
            step != state->steps[i])
            why = told("key %u answers %s of step %u, not of %u", i,
                       status_name(status), step, state->steps[i]);
    }
    buffer_fini(&value);
    return why;
}

/* The next of the state's keys behind number in an order; or WORKLOAD_KEYS. */
static size_t next_key(const struct workload_state *state, size_t number,
                       enum engine_order order)
{
    do
        number = order == ENGINE_FORWARD ? number + 1 : number - 1;
    while (number < WORKLOAD_KEYS && state->steps[number] == 0);
    return number < WORKLOAD_KEYS ? number : WORKLOAD_KEYS;
}

static const char *agrees_by_walk(struct engine *engine,
                                  const struct workload_state *state,
                                  enum engine_order order, enum status besides)
{
    struct engine_iterator *iterator;
    struct bytes key, value, none = {0};
    enum status status = engine_iterate(engine, none, none, order, &iterator);
    if (status != STATUS_OK)
        return status == besides
                   ? NULL
                   : told("iterate answers %s", status_name(status));
    const char *why = NULL;
    size_t number = order == ENGINE_FORWARD ? SIZE_MAX : WORKLOAD_KEYS;
    do {
        number = next_key(state, number, order);
        status = engine_next(iterator, &key, &value);
        if (status == STATUS_OK &&
            (number == WORKLOAD_KEYS || key_number(key) != number ||
             writer_of((uint32_t)number, value) != state->steps[number]))
            why = told("%s, key %zu is wrong where key %zu should be",
                       order == ENGINE_FORWARD ? "forward" : "backward",
                       key_number(key), number);
    } while (status == STATUS_OK && why == NULL);
    engine_iterator_free(iterator);
    if (why == NULL && status != besides &&
        (status != STATUS_NOT_FOUND || number != WORKLOAD_KEYS))
        why = told("a walk answers %s at key %zu", status_name(status), number);
    return why;
}

bool workload_agrees(struct workload_store *store,
                     const struct workload_state *state, enum status besides,
                     const char **why)
{
    *why = agrees_by_gets(store->engine, state, besides);
    if (*why == NULL)
        *why = agrees_by_walk(store->engine, state, ENGINE_FORWARD, besides);
    if (*why == NULL)
        *why = agrees_by_walk(store->engine, state, ENGINE_BACKWARD, besides);
    return *why == NULL;
}
