/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engines/store.h"

#include <stdio.h>
#include <stdlib.h>

/* Random operations on the engine named on the command line, and on an array
 * in key order, which must agree; with the store reopened now and then. */
enum { MODEL_KEYS = 200, MODEL_STEPS = 1500, MODEL_BATCH = 8 };

struct model {
    uint8_t keys[MODEL_KEYS][2 + 40];
    size_t key_sizes[MODEL_KEYS];
    size_t value_sizes[MODEL_KEYS]; /* SIZE_MAX: absent */
    size_t value_starts[MODEL_KEYS];
    uint64_t random;
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
            model->value_starts[i] = below(model, sizeof material / 2);
            model->value_sizes[i] = below(model, sizeof material / 2);
            operations[n].value = model_value(model, i);
        }
    }
    struct batch batch = {.operations = operations, .count = count};
    assert_int_equal(engine_write(store->engine, &batch, below(model, 8) == 0),
                     STATUS_OK);
}

static void model_scan(struct model *model, struct store *store, size_t from,
                       size_t to)
{
    struct engine_iterator *iterator;
    struct bytes key, value;
    struct bytes end =
        to < MODEL_KEYS ? model_key(model, to) : bytes_of(NULL, 0);
    assert_int_equal(engine_iterate(store->engine, model_key(model, from), end,
                                    ENGINE_FORWARD, &iterator),
                     STATUS_OK);
    for (size_t i = from; i < to; i++) {
        if (model->value_sizes[i] == SIZE_MAX)
            continue;
        assert_int_equal(engine_next(iterator, &key, &value), STATUS_OK);
        assert_true(bytes_equal(key, model_key(model, i)));
        assert_true(bytes_equal(value, model_value(model, i)));
    }
    assert_int_equal(engine_next(iterator, &key, &value), STATUS_NOT_FOUND);
    engine_iterator_free(iterator);
}

static void model_step(struct model *model, struct store *store)
{
    size_t choice = below(model, 100);
    size_t i = below(model, MODEL_KEYS);
    if (choice < 50) {
        model_write(model, store);
    } else if (choice < 85) {
        struct bytes value = model_value(model, i);
        expect(store, model_key(model, i),
               model->value_sizes[i] == SIZE_MAX ? NULL : &value);
    } else if (choice < 98) {
        model_scan(model, store, i, i + below(model, MODEL_KEYS - i) + 1);
    } else if (store->type->capabilities & ENGINE_DURABLE) {
        assert_int_equal(engine_write(store->engine, &(struct batch){0}, true),
                         STATUS_OK);
        store_close(store);
        assert_int_equal(store_open(store), STATUS_OK);
    }
}

static void random_operations_agree_with_a_model(void **state)
{
    static const uint64_t seeds[] = {1, 2, 3};
    struct store *store = calloc(1, sizeof *store);
    struct model *model = malloc(sizeof *model);
    (void)state;
    assert_non_null(store);
    assert_non_null(model);
    for (size_t n = 0; n < sizeof seeds / sizeof *seeds; n++) {
        assert_true(store_init(store, type));
        assert_int_equal(store_open(store), STATUS_OK);
        model_init(model, seeds[n]);
        for (size_t step = 0; step < MODEL_STEPS; step++)
            model_step(model, store);
        model_scan(model, store, 0, MODEL_KEYS);
        store_fini(store);
    }
    free(model);
    free(store);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_model),
    };
    type = argc == 2 ? engine_type_find(argv[1]) : NULL;
    if (type == NULL) {
        fprintf(stderr, "usage: %s ENGINE\n", argv[0]);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
