/* SPDX-License-Identifier: MIT */
#include <time.h>

#include "tests/engines/lsm_tree.h"

/* Checkpoints while writes and drops go on, which a watch on the disk has come
 * in the middle of them: what is called from there runs in the flusher, so
 * cmocka's assertions are for the main thread. */

#define COPY "copy"

enum { KEYS = 100, TABLES_MAX = 2000, DROP_WAIT_MS = 100 };

static struct {
    atomic_bool done;    /* the checkpoint is taken */
    atomic_uint tables;  /* begun by the flusher */
    atomic_bool failed;  /* a write or a drop */
    atomic_bool dropped; /* the drop is done */
    atomic_bool has_dropper;
    pthread_t dropper;
} seen;

static int setup(void **state)
{
    memset(&seen, 0, sizeof seen);
    int failed = tree_setup(state);
    tree.threads = true;
    return failed;
}
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, tree_teardown)

static bool begins_flush(enum memory_call call, const char *name)
{
    return call == MEMORY_CREATE && strstr(name, ".table") != NULL &&
           pthread_equal(pthread_self(), lsm_of(tree.engine)->flusher);
}

/* More than a memtable takes, and less than two. */
static void fill(void)
{
    for (unsigned i = 0; i < 30; i++) {
        if (tree_try_put(i, false) != STATUS_OK)
            atomic_store(&seen.failed, true);
    }
}

/* Each flush finds another frozen memtable when it is done. */
static void keep_busy(void *context, enum memory_call call, const char *name)
{
    (void)context;
    if (!begins_flush(call, name) || atomic_load(&seen.done) ||
        atomic_fetch_add(&seen.tables, 1) >= TABLES_MAX)
        return;
    fill();
}

static void take_checkpoint(void)
{
    struct error error;
    if (lsm_engine_type.checkpoint(tree.engine, COPY, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    atomic_store(&seen.done, true);
    tree_settle();
    memory_disk_watch(tree.memory, NULL, NULL);
    assert_false(atomic_load(&seen.failed));
}

static void a_checkpoint_waits_only_for_what_was_there_before(void **state)
{
    (void)state;
    tree_open();
    tree_put(0);
    memory_disk_watch(tree.memory, keep_busy, NULL);
    take_checkpoint();
    assert_in_range(atomic_load(&seen.tables), 1, TABLES_MAX - 1);
    tree_check();
}

static void *drop_half(void *context)
{
    (void)context;
    if (engine_delete_range(tree.engine, tree_key(KEYS / 2), tree_key(KEYS)) !=
        STATUS_OK)
        atomic_store(&seen.failed, true);
    atomic_store(&seen.dropped, true);
    return NULL;
}

static uint64_t now_ms(void)
{
    return lsm_now_us() / 1000;
}

/* Behind the freeze: a write, and a drop that has some time to come. */
static void write_and_drop(void *context, enum memory_call call,
                           const char *name)
{
    (void)context;
    if (!begins_flush(call, name) || atomic_load(&seen.has_dropper))
        return;
    if (tree_try_put(KEYS, false) != STATUS_OK)
        atomic_store(&seen.failed, true);
    atomic_store(&seen.has_dropper, true);
    if (pthread_create(&seen.dropper, NULL, drop_half, NULL) != 0)
        atomic_store(&seen.failed, true);
    uint64_t end = now_ms() + DROP_WAIT_MS;
    while (!atomic_load(&seen.dropped) && now_ms() < end)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void a_checkpoint_has_no_drop_without_the_writes_before_it(void **state)
{
    (void)state;
    tree_open();
    /* Less than a memtable, so that the checkpoint freezes it. */
    tree.value_bytes = 1;
    tree_put_all(KEYS / 2 - 10, KEYS / 2 + 10);
    unsigned rounds[KEYS + 1];
    memcpy(rounds, tree.rounds, sizeof rounds);
    memory_disk_watch(tree.memory, write_and_drop, NULL);
    take_checkpoint();
    assert_true(atomic_load(&seen.has_dropper));
    pthread_join(seen.dropper, NULL);
    assert_false(atomic_load(&seen.failed));
    for (unsigned i = KEYS / 2; i < KEYS; i++)
        tree.rounds[i] = 0;
    tree_check();
    tree_close();
    assert_int_equal(tree_try_open_at(COPY), STATUS_OK);
    memcpy(tree.rounds, rounds, sizeof rounds);
    tree_check();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_checkpoint_waits_only_for_what_was_there_before),
        CASE(a_checkpoint_has_no_drop_without_the_writes_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
