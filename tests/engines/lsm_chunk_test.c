/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "engines/lsm/memtable.h"

enum { KEPT_MAX = 2 * CHUNK_BYTES_MAX, SMALL = 4096, FILL = 6000 };

static struct chunk *largest(struct chunk_pool *pool)
{
    struct chunk *chunk = chunk_new(pool, CHUNK_BYTES_MAX);
    assert_non_null(chunk);
    assert_int_equal(chunk->size, CHUNK_BYTES_MAX);
    assert_int_equal(chunk->used, sizeof *chunk);
    assert_null(chunk->previous);
    memset(chunk + 1, 0xa5, CHUNK_BYTES_MAX - sizeof *chunk);
    return chunk;
}

static void what_was_given_back_is_used_again(void **state)
{
    (void)state;
    struct chunk_pool pool;
    chunk_pool_init(&pool, KEPT_MAX);
    struct chunk *first = largest(&pool), *second = largest(&pool);
    assert_ptr_not_equal(first, second);
    first->previous = second;
    first->used = first->size;
    chunk_free(&pool, first);
    assert_int_equal(chunk_pool_bytes(&pool), CHUNK_BYTES_MAX);
    assert_ptr_equal(largest(&pool), first);
    assert_int_equal(chunk_pool_bytes(&pool), 0);
    chunk_free(&pool, first);
    chunk_free(&pool, second);
    chunk_pool_fini(&pool);
}

static void no_more_is_kept_than_its_bound(void **state)
{
    (void)state;
    struct chunk_pool pool;
    chunk_pool_init(&pool, KEPT_MAX);
    struct chunk *chunks[] = {largest(&pool), largest(&pool), largest(&pool)};
    for (size_t i = 0; i < 3; i++)
        chunk_free(&pool, chunks[i]);
    assert_int_equal(chunk_pool_bytes(&pool), KEPT_MAX);
    chunk_pool_fini(&pool);
}

static void only_the_largest_are_kept(void **state)
{
    (void)state;
    struct chunk_pool pool;
    chunk_pool_init(&pool, KEPT_MAX);
    struct chunk *small = chunk_new(&pool, SMALL);
    assert_non_null(small);
    assert_int_equal(small->size, SMALL);
    chunk_free(&pool, small);
    assert_int_equal(chunk_pool_bytes(&pool), 0);
    chunk_pool_fini(&pool);
}

static void at_rest_nothing_is_kept_until_one_is_asked_for(void **state)
{
    (void)state;
    struct chunk_pool pool;
    chunk_pool_init(&pool, KEPT_MAX);
    struct chunk *first = largest(&pool), *second = largest(&pool);
    chunk_free(&pool, first);
    chunk_pool_rest(&pool);
    assert_int_equal(chunk_pool_bytes(&pool), 0);
    chunk_free(&pool, second);
    assert_int_equal(chunk_pool_bytes(&pool), 0);
    first = largest(&pool);
    chunk_free(&pool, first);
    assert_int_equal(chunk_pool_bytes(&pool), CHUNK_BYTES_MAX);
    chunk_pool_fini(&pool);
}

static void there_need_not_be_a_pool(void **state)
{
    (void)state;
    chunk_free(NULL, largest(NULL));
}

/* Adds what fills more than one of the largest chunks. */
static struct memtable *fill(struct chunk_pool *pool)
{
    struct memtable *memtable = memtable_new(16 << 20, 1, NULL, pool);
    assert_non_null(memtable);
    static const uint8_t value[1000];
    for (uint64_t i = 1; i <= FILL; i++) {
        struct entry entry = {.key = bytes_of(&i, sizeof i),
                              .value = bytes_of(value, sizeof value),
                              .sequence = i};
        assert_int_equal(memtable_add(memtable, &entry), STATUS_OK);
    }
    return memtable;
}

static void memtables_give_back_what_they_took(void **state)
{
    (void)state;
    struct chunk_pool pool;
    chunk_pool_init(&pool, 16 << 20);
    memtable_unref(fill(&pool));
    size_t kept = chunk_pool_bytes(&pool);
    assert_true(kept >= 2 * CHUNK_BYTES_MAX);
    struct memtable *second = fill(&pool);
    assert_int_equal(chunk_pool_bytes(&pool), 0);
    assert_int_equal(memtable_count(second), FILL);
    memtable_unref(second);
    assert_int_equal(chunk_pool_bytes(&pool), kept);
    chunk_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_given_back_is_used_again),
        cmocka_unit_test(no_more_is_kept_than_its_bound),
        cmocka_unit_test(only_the_largest_are_kept),
        cmocka_unit_test(at_rest_nothing_is_kept_until_one_is_asked_for),
        cmocka_unit_test(there_need_not_be_a_pool),
        cmocka_unit_test(memtables_give_back_what_they_took),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
