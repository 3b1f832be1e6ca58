/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engines/conformance.h"

#include <stdlib.h>

const struct engine_type *type;

int set_up(void **state)
{
    struct store *store = calloc(1, sizeof *store);
    *state = store;
    if (store == NULL || !store_init(store, type))
        return -1;
    return store_open(store) == STATUS_OK ? 0 : -1;
}

int tear_down(void **state)
{
    store_fini(*state);
    free(*state);
    return 0;
}

void put(struct store *store, const char *key, const char *value)
{
    assert_int_equal(store_put(store, key, value, true), STATUS_OK);
}

void expect(struct store *store, struct bytes key, const struct bytes *value)
{
    struct buffer got = {0};
    enum status status = engine_get(store->engine, key, &got);
    assert_int_equal(status, value == NULL ? STATUS_NOT_FOUND : STATUS_OK);
    if (value != NULL)
        assert_true(bytes_equal(buffer_bytes(&got), *value));
    buffer_fini(&got);
}

void expect_text(struct store *store, const char *key, const char *value)
{
    struct bytes bytes =
        value != NULL ? bytes_of_string(value) : bytes_of(NULL, 0);
    expect(store, bytes_of_string(key), value != NULL ? &bytes : NULL);
}

static void insert(struct buffer *text, size_t at, struct bytes bytes)
{
    assert_int_equal(buffer_reserve(text, bytes.size), STATUS_OK);
    memmove(text->data + at + bytes.size, text->data + at, text->size - at);
    if (bytes.size > 0)
        memcpy(text->data + at, bytes.data, bytes.size);
    text->size += bytes.size;
}

void expect_rest(struct engine_iterator *iterator, enum engine_order order,
                 const char *wanted)
{
    struct buffer text = {0};
    struct bytes key, value;
    enum status status;
    insert(&text, 0, bytes_of("", 1));
    while ((status = engine_next(iterator, &key, &value)) == STATUS_OK) {
        const struct bytes parts[] = {key, bytes_of_string("="), value,
                                      bytes_of_string(" ")};
        size_t at = order == ENGINE_FORWARD ? text.size - 1 : 0;
        for (size_t i = 0; i < 4; i++) {
            insert(&text, at, parts[i]);
            at += parts[i].size;
        }
    }
    assert_int_equal(status, STATUS_NOT_FOUND);
    assert_int_equal(engine_next(iterator, &key, &value), STATUS_NOT_FOUND);
    assert_string_equal((const char *)text.data, wanted);
    buffer_fini(&text);
}

struct engine_iterator *iterate(struct store *store, const char *from,
                                const char *to, enum engine_order order)
{
    struct engine_iterator *iterator;
    assert_int_equal(engine_iterate(store->engine, bytes_of_string(from),
                                    bytes_of_string(to), order, &iterator),
                     STATUS_OK);
    return iterator;
}

void expect_range(struct store *store, const char *from, const char *to,
                  const char *wanted)
{
    static const enum engine_order orders[] = {ENGINE_FORWARD, ENGINE_BACKWARD};
    for (size_t i = 0; i < 2; i++) {
        struct engine_iterator *iterator = iterate(store, from, to, orders[i]);
        expect_rest(iterator, orders[i], wanted);
        engine_iterator_free(iterator);
    }
}

void delete_range(struct store *store, const char *from, const char *to)
{
    assert_int_equal(engine_delete_range(store->engine, bytes_of_string(from),
                                         bytes_of_string(to)),
                     STATUS_OK);
}

void reopen(struct store *store)
{
    store_close(store);
    assert_int_equal(store_open(store), STATUS_OK);
}
