/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "engines/lsm/cache.h"

enum { MIB = 1 << 20, BLOCK = 4096 };

/* A block whose content says which it is. */
static struct cache_block *new_block(struct cache *cache, uint64_t table,
                                     uint64_t offset, size_t size)
{
    struct cache_block *block = cache_block_new(cache, size);
    assert_non_null(block);
    assert_int_equal(block->size, size);
    memset(block->data, (int)(table * 31 + offset / BLOCK), size + 8);
    return block;
}

static void expect_block(const struct cache_block *block, uint64_t table,
                         uint64_t offset, size_t size)
{
    assert_non_null(block);
    assert_int_equal(block->size, size);
    uint8_t expected = (uint8_t)(table * 31 + offset / BLOCK);
    if (size == 0)
        return;
    /* Each byte is as the one before it. */
    assert_int_equal(block->data[0], expected);
    assert_memory_equal(block->data + 1, block->data, size - 1);
}

static void put(struct cache *cache, uint64_t table, uint64_t offset,
                size_t size)
{
    struct cache_block *block = new_block(cache, table, offset, size);
    cache_put(cache, table, offset, block);
    cache_release(block);
}

/* Whether it is in; if so, with the right content. */
static bool has(struct cache *cache, uint64_t table, uint64_t offset,
                size_t size)
{
    struct cache_block *block = cache_get(cache, table, offset);
    if (block == NULL)
        return false;
    expect_block(block, table, offset, size);
    cache_release(block);
    return true;
}

static uint64_t bytes_of_cache(struct cache *cache)
{
    struct cache_stats stats;
    cache_stats(cache, &stats);
    return stats.bytes;
}

static void what_was_put_is_got_and_nothing_else(void **state)
{
    (void)state;
    struct cache *cache = cache_new(64 * MIB);
    assert_non_null(cache);
    assert_null(cache_get(cache, 1, 0));
    for (uint64_t table = 1; table <= 20; table++) {
        for (uint64_t i = 0; i < 200; i++)
            put(cache, table, i * BLOCK, (size_t)(1 + i * 31));
    }
    for (uint64_t table = 1; table <= 20; table++) {
        for (uint64_t i = 0; i < 200; i++) {
            assert_true(has(cache, table, i * BLOCK, (size_t)(1 + i * 31)));
            assert_false(has(cache, table, i * BLOCK + 1, 1));
            assert_false(has(cache, table + 20, i * BLOCK, 1));
        }
    }
    struct cache_stats stats;
    cache_stats(cache, &stats);
    assert_int_equal(stats.hits, 20 * 200);
    assert_int_equal(stats.misses, 1 + 2 * 20 * 200);
    cache_free(cache);
}

static void the_first_of_two_for_one_place_stays(void **state)
{
    (void)state;
    struct cache *cache = cache_new(MIB);
    struct cache_block *first = new_block(cache, 1, 0, 100);
    struct cache_block *second = new_block(cache, 1, 0, 100);
    cache_put(cache, 1, 0, first);
    uint64_t bytes = bytes_of_cache(cache);
    cache_put(cache, 1, 0, second);
    cache_put(cache, 1, 0, first);
    assert_int_equal(bytes_of_cache(cache), bytes);
    struct cache_block *got = cache_get(cache, 1, 0);
    assert_ptr_equal(got, first);
    cache_release(got);
    cache_release(first);
    expect_block(second, 1, 0, 100);
    cache_release(second);
    assert_true(has(cache, 1, 0, 100));
    cache_free(cache);
}

static void it_never_holds_more_than_its_budget(void **state)
{
    (void)state;
    static const size_t budgets[] = {0,   1,       4096,    16 * 1024,
                                     MIB, 3 * MIB, 10 * MIB};
    for (size_t i = 0; i < sizeof budgets / sizeof budgets[0]; i++) {
        struct cache *cache = cache_new(budgets[i]);
        assert_non_null(cache);
        for (uint64_t j = 0; j < 5000; j++) {
            put(cache, j % 3, j * BLOCK, (size_t)(j * 7 % 9000));
            assert_true(bytes_of_cache(cache) <= budgets[i]);
        }
        /* And uses it. */
        if (budgets[i] >= MIB)
            assert_true(bytes_of_cache(cache) > budgets[i] / 10 * 8);
        cache_free(cache);
    }
}

static void a_tiny_cache_keeps_a_block(void **state)
{
    (void)state;
    struct cache *cache = cache_new(8 * 1024);
    put(cache, 1, 0, BLOCK);
    assert_true(has(cache, 1, 0, BLOCK));
    put(cache, 1, BLOCK, BLOCK);
    assert_true(has(cache, 1, BLOCK, BLOCK));
    assert_false(has(cache, 1, 0, BLOCK));
    cache_free(cache);
}

static void what_is_too_large_pushes_nothing_out(void **state)
{
    (void)state;
    struct cache *cache = cache_new(16 * MIB);
    for (uint64_t i = 0; i < 100; i++)
        put(cache, 1, i * BLOCK, BLOCK);
    put(cache, 2, 0, 2 * MIB);
    assert_false(has(cache, 2, 0, 2 * MIB));
    put(cache, 2, BLOCK, MIB / 2);
    assert_true(has(cache, 2, BLOCK, MIB / 2));
    for (uint64_t i = 0; i < 100; i++)
        assert_true(has(cache, 1, i * BLOCK, BLOCK));
    assert_null(cache_block_new(cache, (size_t)UINT32_MAX + 1));
    cache_free(cache);
}

static void what_is_asked_for_outlives_a_scan(void **state)
{
    (void)state;
    struct cache *cache = cache_new(4 * MIB);
    enum { HOT = 200 };
    for (uint64_t i = 0; i < HOT; i++)
        put(cache, 1, i * BLOCK, BLOCK);
    unsigned lost = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        put(cache, 2, i * BLOCK, BLOCK);
        uint64_t hot = i % HOT;
        if (!has(cache, 1, hot * BLOCK, BLOCK)) {
            put(cache, 1, hot * BLOCK, BLOCK);
            lost++;
        }
    }
    /* A fifth of what is there is asked for as often as something comes in. */
    assert_true(lost < 200);
    cache_free(cache);
}

static void a_referenced_block_outlives_its_eviction(void **state)
{
    (void)state;
    struct cache *cache = cache_new(64 * 1024);
    enum { HELD = 10 };
    struct cache_block *held[HELD];
    for (uint64_t i = 0; i < HELD; i++) {
        held[i] = new_block(cache, 1, i * BLOCK, BLOCK);
        cache_put(cache, 1, i * BLOCK, held[i]);
    }
    for (uint64_t i = 0; i < 1000; i++)
        put(cache, 2, i * BLOCK, BLOCK);
    for (uint64_t i = 0; i < HELD; i++) {
        assert_false(has(cache, 1, i * BLOCK, BLOCK));
        expect_block(held[i], 1, i * BLOCK, BLOCK);
        cache_release(held[i]);
    }
    cache_free(cache);
}

static void charges_take_from_the_budget_and_give_back(void **state)
{
    (void)state;
    enum { BUDGET = 4 * MIB };
    struct cache *cache = cache_new(BUDGET);
    for (uint64_t i = 0; i < 2000; i++)
        put(cache, 1, i * BLOCK, BLOCK);
    uint64_t full = bytes_of_cache(cache);
    cache_charge(cache, 2 * MIB);
    assert_true(bytes_of_cache(cache) <= BUDGET);
    /* More than there is: nothing is kept, and all works. */
    cache_charge(cache, 7 * MIB);
    assert_int_equal(bytes_of_cache(cache), 9 * MIB);
    for (uint64_t i = 0; i < 2000; i++) {
        assert_false(has(cache, 1, i * BLOCK, BLOCK));
        put(cache, 1, i * BLOCK, BLOCK);
    }
    assert_int_equal(bytes_of_cache(cache), 9 * MIB);
    cache_charge(cache, -9 * MIB);
    assert_int_equal(bytes_of_cache(cache), 0);
    for (uint64_t i = 0; i < 2000; i++)
        put(cache, 1, i * BLOCK, BLOCK);
    assert_true(bytes_of_cache(cache) > full / 10 * 9);
    cache_free(cache);
}

static void blocks_that_went_give_their_memory_to_new_ones(void **state)
{
    (void)state;
    struct cache *cache = cache_new(MIB);
    struct cache_block *block = cache_block_new(cache, 4100);
    block->size = 100; /* what it holds counts for nothing here */
    void *memory = block;
    cache_release(block);
    assert_true(bytes_of_cache(cache) > 4100);
    block = cache_block_new(cache, 4110);
    assert_ptr_equal(block, memory);
    assert_int_equal(block->size, 4110);
    assert_int_equal(bytes_of_cache(cache), 0);
    memset(block->data, 1, 4118);
    cache_release(block);
    /* Not for one that it would not fit. */
    block = cache_block_new(cache, 5000);
    assert_ptr_not_equal(block, memory);
    cache_release(block);
    cache_free(cache);
}

static void a_block_of_no_cache_is_released_alike(void **state)
{
    (void)state;
    struct cache_block *block = new_block(NULL, 1, 0, 1000);
    expect_block(block, 1, 0, 1000);
    cache_release(block);
    cache_release(NULL);
    cache_free(NULL);
}

/* --- threads --- */

enum { THREADS = 4, ROUNDS = 20000, HELD_MAX = 16, PLACES = 1000 };

struct shared {
    struct cache *cache;
    size_t budget;
    unsigned number;
};

static size_t size_at(uint64_t place)
{
    return (size_t)(place * 37 % 5000);
}

static void *use(void *context)
{
    const struct shared *shared = context;
    struct cache *cache = shared->cache;
    struct cache_block *held[HELD_MAX] = {0};
    uint64_t places[HELD_MAX] = {0};
    uint64_t random = shared->number;
    for (unsigned i = 0; i < ROUNDS; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t place = (random >> 33) % PLACES;
        uint64_t table = place % 7, offset = place * BLOCK;
        struct cache_block *block = cache_get(cache, table, offset);
        if (block == NULL) {
            block = new_block(cache, table, offset, size_at(place));
            cache_put(cache, table, offset, block);
        }
        unsigned slot = i % HELD_MAX;
        if (held[slot] != NULL)
            expect_block(held[slot], places[slot] % 7, places[slot] * BLOCK,
                         size_at(places[slot]));
        cache_release(held[slot]);
        held[slot] = block;
        places[slot] = place;
        if (i % 64 == 0)
            assert_true(bytes_of_cache(cache) <= shared->budget);
        if (i % 1000 == 0)
            cache_charge(cache, 30000);
        if (i % 1000 == 500)
            cache_charge(cache, -30000);
    }
    for (unsigned i = 0; i < HELD_MAX; i++)
        cache_release(held[i]);
    return NULL;
}

static void threads_find_what_each_other_put(void **state)
{
    (void)state;
    static const size_t budgets[] = {200 * 1024, 2 * MIB};
    for (unsigned i = 0; i < 2; i++) {
        struct cache *cache = cache_new(budgets[i]);
        assert_non_null(cache);
        pthread_t threads[THREADS];
        struct shared shared[THREADS];
        for (unsigned j = 0; j < THREADS; j++) {
            /* Charges come before their room is made, for a moment. */
            shared[j] = (struct shared){cache, budgets[i] + THREADS * 30000, j};
            assert_int_equal(pthread_create(&threads[j], NULL, use, &shared[j]),
                             0);
        }
        for (unsigned j = 0; j < THREADS; j++)
            pthread_join(threads[j], NULL);
        struct cache_stats stats;
        cache_stats(cache, &stats);
        assert_true(stats.bytes <= budgets[i]);
        assert_int_equal(stats.hits + stats.misses, THREADS * ROUNDS);
        assert_true(stats.hits > 0 && stats.misses > PLACES);
        cache_free(cache);
    }
}

static void a_full_cache_wants_what_is_missed_again(void **state)
{
    (void)state;
    enum { BLOCKS = 2 * MIB / BLOCK, OTHERS = 1000 * 1000 };
    struct cache *cache = cache_new(MIB);
    assert_true(cache_wants(cache, 1, 0, BLOCK)); /* there is room */
    for (uint64_t i = 0; i < BLOCKS; i++)
        put(cache, 1, i * BLOCK, BLOCK);
    size_t first = 0, again = 0, later = 0;
    for (uint64_t i = 0; i < 100; i++) {
        first += cache_wants(cache, 2, i * BLOCK, BLOCK);
        again += cache_wants(cache, 2, i * BLOCK, BLOCK);
    }
    for (uint64_t i = 0; i < OTHERS; i++)
        (void)cache_wants(cache, 3, i * BLOCK, BLOCK);
    for (uint64_t i = 0; i < 100; i++)
        later += cache_wants(cache, 2, i * BLOCK, BLOCK);
    assert_int_equal(again, 100);
    /* Some may share a place and a mark. */
    assert_in_range(first, 0, 1);
    assert_in_range(later, 0, 1);
    cache_free(cache);
}

static void a_cache_of_nothing_wants_nothing(void **state)
{
    (void)state;
    struct cache *cache = cache_new(0);
    for (int i = 0; i < 3; i++)
        assert_false(cache_wants(cache, 1, 0, BLOCK));
    cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_got_and_nothing_else),
        cmocka_unit_test(the_first_of_two_for_one_place_stays),
        cmocka_unit_test(it_never_holds_more_than_its_budget),
        cmocka_unit_test(a_tiny_cache_keeps_a_block),
        cmocka_unit_test(what_is_too_large_pushes_nothing_out),
        cmocka_unit_test(what_is_asked_for_outlives_a_scan),
        cmocka_unit_test(a_referenced_block_outlives_its_eviction),
        cmocka_unit_test(charges_take_from_the_budget_and_give_back),
        cmocka_unit_test(blocks_that_went_give_their_memory_to_new_ones),
        cmocka_unit_test(a_block_of_no_cache_is_released_alike),
        cmocka_unit_test(threads_find_what_each_other_put),
        cmocka_unit_test(a_full_cache_wants_what_is_missed_again),
        cmocka_unit_test(a_cache_of_nothing_wants_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
