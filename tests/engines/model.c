/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engines/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Random operations on the engine named on the command line, and on an array
 * in key order, which must agree; with the store reopened now and then.
 *
 * `engine_model ENGINE STEPS SEED` replays a seed, or runs one for longer than
 * every build does. */
enum {
    MODEL_KEYS = 500,
    MODEL_BATCH = 8,
    MODEL_STEPS = 10000,
    /* Of a scan or a range, mostly: few, so that most steps are cheap. */
    MODEL_SHORT = 20,
};

struct model {
    uint8_t keys[MODEL_KEYS][2 + 40];
    size_t key_sizes[MODEL_KEYS];
    size_t value_sizes[MODEL_KEYS]; /* SIZE_MAX: absent */
    size_t value_starts[MODEL_KEYS];
    uint64_t random;
};

/* Indexes of keys: the first, and the one behind the last, MODEL_KEYS for the
 * end of the store. */
struct range {
    size_t from, to;
};

static const struct engine_type *type;

/* Every value is a piece of this. */
static uint8_t material[4096];

static struct bytes model_key(const struct model *model, size_t i)
{
    return bytes_of(model->keys[i], model->key_sizes[i]);
}

static struct bytes model_value(const struct model *model, size_t i)
{
    return bytes_of(material + model->value_starts[i], model->value_sizes[i]);
}

static size_t below(struct model *model, size_t bound)
{
    return (size_t)(store_random(&model->random) >> 16) % bound;
}

/* In order by the number they begin with, but of several lengths. */
static void model_init(struct model *model, uint64_t seed)
{
    *model = (struct model){.random = seed};
    for (size_t i = 0; i < sizeof material; i++)
        material[i] = (uint8_t)store_random(&model->random);
    for (size_t i = 0; i < MODEL_KEYS; i++) {
        model->key_sizes[i] = 2 + below(model, 41);
        model->keys[i][0] = (uint8_t)(i / 8);
        model->keys[i][1] = (uint8_t)(i % 8 * 36);
        for (size_t at = 2; at < model->key_sizes[i]; at++)
            model->keys[i][at] = (uint8_t)below(model, 256);
        model->value_sizes[i] = SIZE_MAX;
    }
}

/* A NULL value: the key is not there. */
static void expect(struct store *store, struct bytes key, struct bytes *value)
{
    struct buffer got = {0};
    enum status status = engine_get(store->engine, key, &got);
    assert_int_equal(status, value == NULL ? STATUS_NOT_FOUND : STATUS_OK);
    if (value != NULL)
        assert_true(bytes_equal(buffer_bytes(&got), *value));
    buffer_fini(&got);
}

/* Mostly small, so that many are in one block, and some of several blocks. */
static void model_draw_value(struct model *model, size_t i)
{
    size_t bound = below(model, 16) == 0 ? sizeof material / 2 : 100;
    model->value_starts[i] = below(model, sizeof material / 2);
    model->value_sizes[i] = below(model, bound);
}

static struct range model_draw_range(struct model *model)
{
    size_t from = below(model, MODEL_KEYS);
    size_t most = MODEL_KEYS - from;
    if (most > MODEL_SHORT && below(model, 32) != 0)
        most = MODEL_SHORT;
    return (struct range){from, from + below(model, most + 1)};
}

static struct bytes model_end(const struct model *model, struct range range)
{
    return range.to < MODEL_KEYS ? model_key(model, range.to)
                                 : bytes_of(NULL, 0);
}

static void model_write(struct model *model, struct store *store)
{
    struct batch_operation operations[MODEL_BATCH];
    size_t count = below(model, MODEL_BATCH + 1);
    for (size_t n = 0; n < count; n++) {
        size_t i = below(model, MODEL_KEYS);
        operations[n] = (struct batch_operation){.key = model_key(model, i)};
        if (below(model, 4) == 0) {
            model->value_sizes[i] = SIZE_MAX;
            operations[n].remove = true;
        } else {
            model_draw_value(model, i);
            operations[n].value = model_value(model, i);
        }
    }
    struct batch batch = {.operations = operations, .count = count};
    assert_int_equal(engine_write(store->engine, &batch, below(model, 64) == 0),
                     STATUS_OK);
}

static void model_delete_range(struct model *model, struct store *store)
{
    struct range range = model_draw_range(model);
    assert_int_equal(engine_delete_range(store->engine,
                                         model_key(model, range.from),
                                         model_end(model, range)),
                     STATUS_OK);
    for (size_t i = range.from; i < range.to; i++)
        model->value_sizes[i] = SIZE_MAX;
}

static void model_get(struct model *model, struct store *store)
{
    size_t i = below(model, MODEL_KEYS);
    struct bytes value = model_value(model, i);
    expect(store, model_key(model, i),
           model->value_sizes[i] == SIZE_MAX ? NULL : &value);
}

static struct engine_iterator *model_iterate(const struct model *model,
                                             struct store *store,
                                             struct range range,
                                             enum engine_order order)
{
    struct engine_iterator *iterator;
    assert_int_equal(engine_iterate(store->engine, model_key(model, range.from),
                                    model_end(model, range), order, &iterator),
                     STATUS_OK);
    return iterator;
}

/* Frees the iterator. */
static void expect_range(const struct model *model,
                         struct engine_iterator *iterator, struct range range,
                         enum engine_order order)
{
    struct bytes key, value;
    for (size_t n = 0; n < range.to - range.from; n++) {
        size_t i = order == ENGINE_FORWARD ? range.from + n : range.to - 1 - n;
        if (model->value_sizes[i] == SIZE_MAX)
            continue;
        assert_int_equal(engine_next(iterator, &key, &value), STATUS_OK);
        assert_true(bytes_equal(key, model_key(model, i)));
        assert_true(bytes_equal(value, model_value(model, i)));
    }
    assert_int_equal(engine_next(iterator, &key, &value), STATUS_NOT_FOUND);
    engine_iterator_free(iterator);
}

static enum engine_order model_draw_order(struct model *model)
{
    return below(model, 2) == 0 ? ENGINE_FORWARD : ENGINE_BACKWARD;
}

static void model_scan(struct model *model, struct store *store)
{
    struct range range = model_draw_range(model);
    enum engine_order order = model_draw_order(model);
    expect_range(model, model_iterate(model, store, range, order), range,
                 order);
}

/* What is written meanwhile is not seen. */
static void model_scan_snapshot(struct model *model, struct store *store)
{
    struct range range = model_draw_range(model);
    enum engine_order order = model_draw_order(model);
    struct model then = *model;
    struct engine_iterator *iterator =
        model_iterate(model, store, range, order);
    for (size_t n = below(model, MODEL_SHORT); n > 0; n--)
        model_write(model, store);
    if (below(model, 4) == 0)
        model_delete_range(model, store);
    expect_range(&then, iterator, range, order);
}

static void expect_all(const struct model *model, struct store *store)
{
    struct range all = {0, MODEL_KEYS};
    expect_range(model, model_iterate(model, store, all, ENGINE_FORWARD), all,
                 ENGINE_FORWARD);
    expect_range(model, model_iterate(model, store, all, ENGINE_BACKWARD), all,
                 ENGINE_BACKWARD);
}

static void model_reopen(struct model *model, struct store *store)
{
    if (store->type->capabilities & ENGINE_DURABLE) {
        assert_int_equal(engine_write(store->engine, &(struct batch){0}, true),
                         STATUS_OK);
        store_close(store);
        assert_int_equal(store_open(store), STATUS_OK);
    }
    expect_all(model, store);
}

static void model_step(struct model *model, struct store *store)
{
    size_t choice = below(model, 1000);
    if (choice < 500)
        model_write(model, store);
    else if (choice < 840)
        model_get(model, store);
    else if (choice < 940)
        model_scan(model, store);
    else if (choice < 980)
        model_delete_range(model, store);
    else if (choice < 998)
        model_scan_snapshot(model, store);
    else
        model_reopen(model, store);
}

static struct {
    uint64_t steps, seed; /* asked for; seed 0: some */
    uint64_t step, at_seed;
} run = {.steps = MODEL_STEPS};

static void run_seed(struct model *model, struct store *store, uint64_t seed)
{
    run.at_seed = seed;
    assert_true(store_init(store, type));
    store->variant = seed;
    assert_int_equal(store_open(store), STATUS_OK);
    model_init(model, seed);
    for (run.step = 0; run.step < run.steps; run.step++)
        model_step(model, store);
    expect_all(model, store);
    assert_int_equal(store->reports, 0);
    store_fini(store);
}

static void random_operations_agree_with_a_model(void **state)
{
    struct store *store = calloc(1, sizeof *store);
    struct model *model = malloc(sizeof *model);
    (void)state;
    assert_non_null(store);
    assert_non_null(model);
    if (run.seed != 0)
        run_seed(model, store, run.seed);
    for (uint64_t seed = 1; run.seed == 0 && seed <= 3; seed++)
        run_seed(model, store, seed);
    free(model);
    free(store);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_model),
    };
    type = argc >= 2 && argc <= 4 ? engine_type_find(argv[1]) : NULL;
    if (type == NULL) {
        fprintf(stderr, "usage: %s ENGINE [STEPS [SEED]]\n", argv[0]);
        return 2;
    }
    if (argc > 2)
        run.steps = strtoull(argv[2], NULL, 10);
    if (argc > 3)
        run.seed = strtoull(argv[3], NULL, 10);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures > 0)
        fprintf(stderr, "step %" PRIu64 " of seed %" PRIu64 "\n", run.step,
                run.at_seed);
    return failures;
}
