/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_tree.h"

#include <sched.h>

/* Writers pay in time for being ahead of the background, and compactions keep
 * to their rate. Times are only ever held to be long enough: a sleep is never
 * shorter than was asked for. */

enum {
    MEMTABLE_BYTES = 1 << 20, /* none is frozen here */
    SOFT_BYTES = 20 * MEMTABLE_BYTES,
    HARD_BYTES = 48 * MEMTABLE_BYTES,
    NS_PER_BYTE = 250, /* at the hard limit */
    VALUE_BYTES = 100 * 1000,
    KEYS = 400,
};

static int setup(void **state)
{
    int result = tree_setup(state);
    tree.threads = true;
    tree_set("memtable_bytes", MEMTABLE_BYTES);
    return result;
}

static void press(uint64_t bytes)
{
    atomic_store(&lsm_of(tree.engine)->pressure_bytes, bytes);
}

/* How long writes waited, in all, to write so many bytes of one value. */
static uint64_t us_waited(uint64_t pressure, size_t bytes)
{
    uint64_t before = tree_stats().stall_us;
    press(pressure);
    struct batch_operation put = {.key = tree_key(0),
                                  .value = tree_value(0, 1, bytes)};
    struct batch batch = {.operations = &put, .count = 1};
    assert_int_equal(engine_write(tree.engine, &batch, false), STATUS_OK);
    return tree_stats().stall_us - before;
}

static void bytes_cost_by_the_square_of_what_is_beyond(void **state)
{
    (void)state;
    uint64_t at_hard = VALUE_BYTES * NS_PER_BYTE / 1000;
    tree_open();
    assert_int_equal(us_waited(SOFT_BYTES, VALUE_BYTES), 0);
    assert_true(us_waited(HARD_BYTES, VALUE_BYTES) >= at_hard);
    /* Here, what was overslept is forgotten, too. */
    assert_int_equal(us_waited(SOFT_BYTES, 1), 0);
    uint64_t twice = HARD_BYTES + (HARD_BYTES - SOFT_BYTES);
    assert_true(us_waited(twice, VALUE_BYTES) >= 4 * at_hard);
    assert_true(tree_stats().stall_us_max >= 4 * at_hard);
}

static void small_writes_pay_together(void **state)
{
    (void)state;
    enum { COUNT = 500, BYTES = 100 };
    uint64_t us = 0;
    tree_open();
    for (int i = 0; i < COUNT; i++)
        us += us_waited(HARD_BYTES, BYTES);
    /* But for what is below the shortest sleep. */
    assert_true(us + 50 >= COUNT * BYTES * NS_PER_BYTE / 1000);
}

static void *write_far_beyond(void *context)
{
    (void)context;
    us_waited(UINT64_MAX / 2, VALUE_BYTES);
    return NULL;
}

static void writers_go_on_when_the_background_has_caught_up(void **state)
{
    (void)state;
    pthread_t writer;
    tree_open();
    struct commit_queue *queue = &lsm_of(tree.engine)->queue;
    assert_int_equal(pthread_create(&writer, NULL, write_far_beyond, NULL), 0);
    for (bool led = false; !led;) {
        pthread_mutex_lock(&queue->mutex);
        led = queue->led && queue->first == NULL;
        pthread_mutex_unlock(&queue->mutex);
        sched_yield();
    }
    press(0);
    pthread_join(writer, NULL);
}

static void pressure_is_level_0_unless_compactions_rest(void **state)
{
    (void)state;
    tree.threads = false;
    tree_open();
    struct lsm *lsm = lsm_of(tree.engine);
    for (int i = 0; i < 3; i++) {
        tree_put_all(0, KEYS);
        assert_int_equal(lsm_freeze(lsm), STATUS_OK);
        assert_int_equal(lsm_flush(lsm), STATUS_OK);
    }
    uint64_t bytes = lsm->view->version->levels[0].bytes;
    assert_true(bytes > 3 * KEYS * tree.value_bytes);
    assert_int_equal(atomic_load(&lsm->pressure_bytes), bytes);
    lsm_set_rest(lsm, true);
    assert_int_equal(atomic_load(&lsm->pressure_bytes), 0);
    lsm_set_rest(lsm, false);
    assert_int_equal(atomic_load(&lsm->pressure_bytes), bytes);
}

static bool is_flushed(struct lsm *lsm)
{
    struct view *view = lsm_view(lsm);
    size_t memtables = view->memtable_count;
    view_unref(view);
    return memtables == 1;
}

static void add_table(void)
{
    struct lsm *lsm = lsm_of(tree.engine);
    tree_put_all(0, KEYS);
    assert_int_equal(lsm_freeze(lsm), STATUS_OK);
    while (!is_flushed(lsm))
        sched_yield();
}

static void compactions_keep_to_their_rate(void **state)
{
    (void)state;
    enum { BYTES_PER_SECOND = 256 << 10 };
    tree_set("compaction_bytes_per_second", BYTES_PER_SECOND);
    tree_set("compression", 0);
    tree_set("compression_last", 0);
    tree_open();
    uint64_t begun = lsm_now_us();
    for (int i = 0; i < 2; i++)
        add_table();
    tree_settle();
    uint64_t us = lsm_now_us() - begun;
    assert_int_equal(tree_tables(0), 0);
    /* Of what is behind a table's blocks nothing is asked. */
    assert_true(us >= KEYS * tree.value_bytes * 1000000 / BYTES_PER_SECOND);
    tree_check();
}

static void a_close_does_not_wait_for_the_rate(void **state)
{
    (void)state;
    tree_set("compaction_bytes_per_second", 1);
    tree_open();
    struct lsm *lsm = lsm_of(tree.engine);
    pthread_mutex_lock(&lsm->mutex);
    lsm->settling++; /* so that two tables are due at once */
    pthread_mutex_unlock(&lsm->mutex);
    for (int i = 0; i < 2; i++)
        add_table();
    while (tree_files(".table", TREE_LAST, NULL) < 3)
        sched_yield(); /* until the compaction has begun */
    tree_close();
    tree_open();
    tree_check();
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, tree_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(bytes_cost_by_the_square_of_what_is_beyond),
        CASE(small_writes_pay_together),
        CASE(writers_go_on_when_the_background_has_caught_up),
        CASE(pressure_is_level_0_unless_compactions_rest),
        CASE(compactions_keep_to_their_rate),
        CASE(a_close_does_not_wait_for_the_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
