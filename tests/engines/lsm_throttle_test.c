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
    OWED_NS_MAX = 1000 * 1000 * 1000,
    SLEEP_US_MIN = 50, /* less is left to be slept by later writes */
    BYTES = 100 * 1000,
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

static void write_one(size_t bytes)
{
    struct batch_operation put = {.key = tree_key(0),
                                  .value = tree_value(0, 1, bytes)};
    struct batch batch = {.operations = &put, .count = 1};
    assert_int_equal(engine_write(tree.engine, &batch, false), STATUS_OK);
}

/* What is owed after a write of so many bytes under a pressure, in ns. */
static uint64_t owed_by(uint64_t pressure, size_t bytes)
{
    struct throttle *throttle = &lsm_of(tree.engine)->throttle;
    press(pressure);
    write_one(1); /* so that it pays */
    throttle->owed_ns = 0;
    write_one(bytes - tree_key(0).size);
    return (uint64_t)throttle->owed_ns;
}

static void bytes_cost_by_the_square_of_what_is_beyond(void **state)
{
    (void)state;
    const uint64_t step = HARD_BYTES - SOFT_BYTES;
    uint64_t at_hard = (uint64_t)BYTES * NS_PER_BYTE;
    tree_open();
    assert_int_equal(owed_by(SOFT_BYTES, BYTES), 0);
    assert_int_equal(owed_by(SOFT_BYTES + step / 2, BYTES), at_hard / 4);
    assert_int_equal(owed_by(HARD_BYTES, BYTES), at_hard);
    assert_int_equal(owed_by(SOFT_BYTES + 4 * step, BYTES), 16 * at_hard);
    assert_int_equal(owed_by(UINT64_MAX / 2, BYTES), 16 * at_hard);
    assert_int_equal(owed_by(UINT64_MAX / 2, MEMTABLE_BYTES / 2), OWED_NS_MAX);
}

/* How long a small write waits for what was written before, in us. */
static uint64_t us_waited(uint64_t pressure)
{
    uint64_t before = tree_stats().stall_us;
    press(pressure);
    write_one(1);
    return tree_stats().stall_us - before;
}

static void a_group_pays_for_what_was_written_before(void **state)
{
    (void)state;
    tree_open();
    press(HARD_BYTES);
    write_one(1);
    for (int i = 0; i < 2; i++) {
        write_one(BYTES);
        assert_true(us_waited(HARD_BYTES) + SLEEP_US_MIN >=
                    BYTES * NS_PER_BYTE / 1000);
        lsm_of(tree.engine)->throttle.owed_ns = 0;
    }
    assert_true(tree_stats().stall_us_max >= BYTES * NS_PER_BYTE / 2000);
}

static void small_writes_pay_together(void **state)
{
    (void)state;
    enum { COUNT = 1000, KEY_AND_VALUE = 8 };
    uint64_t us = 0;
    tree_open();
    for (int i = 0; i < COUNT; i++)
        us += us_waited(HARD_BYTES);
    assert_true(us + SLEEP_US_MIN >=
                (COUNT - 1) * KEY_AND_VALUE * NS_PER_BYTE / 1000);
}

static void what_was_cheap_stays_so(void **state)
{
    (void)state;
    tree_open();
    press(SOFT_BYTES + (HARD_BYTES - SOFT_BYTES) / 1000);
    write_one(1);
    write_one(BYTES);
    assert_int_equal(us_waited(HARD_BYTES), 0);
}

static void nobody_waits_when_the_background_has_caught_up(void **state)
{
    (void)state;
    tree_open();
    assert_true(owed_by(HARD_BYTES, BYTES) > 0);
    assert_int_equal(us_waited(SOFT_BYTES), 0);
    assert_int_equal(us_waited(HARD_BYTES), 0);
}

static void *write_and_tell(void *context)
{
    struct batch_operation put = {.key = bytes_of_string("a")};
    struct batch batch = {.operations = &put, .count = 1};
    *(enum status *)context = engine_write(tree.engine, &batch, false);
    return NULL;
}

/* A drop's manifest tells the pressure anew, which ends the sleep. */
static void a_drop_does_not_wait_for_a_writer_who_sleeps(void **state)
{
    (void)state;
    pthread_t writer;
    enum status status = STATUS_IO;
    tree_open();
    struct lsm *lsm = lsm_of(tree.engine);
    press(HARD_BYTES);
    write_one(1);
    lsm->throttle.owed_ns = 1e15; /* eleven days */
    assert_int_equal(pthread_create(&writer, NULL, write_and_tell, &status), 0);
    for (bool led = false; !led; sched_yield()) {
        pthread_mutex_lock(&lsm->queue.mutex);
        led = lsm->queue.led;
        pthread_mutex_unlock(&lsm->queue.mutex);
    }
    assert_int_equal(engine_delete_range(tree.engine, tree_key(0), tree_key(1)),
                     STATUS_OK);
    pthread_join(writer, NULL);
    assert_int_equal(status, STATUS_OK);
}

static void pressure_is_level_0_unless_compactions_rest(void **state)
{
    (void)state;
    tree.threads = false;
    tree_open();
    struct lsm *lsm = lsm_of(tree.engine);
    for (int i = 0; i < 3; i++) {
        tree_put_all(0, KEYS);
        tree_flush();
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
        CASE(a_group_pays_for_what_was_written_before),
        CASE(small_writes_pay_together),
        CASE(what_was_cheap_stays_so),
        CASE(nobody_waits_when_the_background_has_caught_up),
        CASE(a_drop_does_not_wait_for_a_writer_who_sleeps),
        CASE(pressure_is_level_0_unless_compactions_rest),
        CASE(compactions_keep_to_their_rate),
        CASE(a_close_does_not_wait_for_the_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
