/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_tree.h"

#include <sched.h>

/* Writers that come at once share their syncs, and wait when the background
 * cannot follow. The disk stops at a gate, which the test opens. */

enum { WRITERS = 16, DEADLINE_US = 60 * 1000 * 1000 };

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    enum memory_call call;
    const char *ending; /* of the files that stop */
    bool shut;
    bool fail; /* what stopped fails when it goes on, and all behind it */
    unsigned fail_from; /* after so many have passed */
    unsigned waiting;
    unsigned passed;
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER,
          .opened = PTHREAD_COND_INITIALIZER};

static void stop_at_gate(void *context, enum memory_call call, const char *name)
{
    (void)context;
    size_t size = strlen(name), ending = strlen(gate.ending);
    if (call != gate.call || size < ending ||
        strcmp(name + size - ending, gate.ending) != 0)
        return;
    pthread_mutex_lock(&gate.mutex);
    gate.waiting++;
    while (gate.shut)
        pthread_cond_wait(&gate.opened, &gate.mutex);
    gate.waiting--;
    bool fail = gate.fail && gate.passed >= gate.fail_from;
    gate.passed++;
    pthread_mutex_unlock(&gate.mutex);
    if (fail)
        memory_disk_fail(tree.memory,
                         &(struct memory_fault){
                             .call = 1, .lasting = true, .status = STATUS_IO});
}

static void shut_gate(enum memory_call call, const char *ending)
{
    gate.call = call;
    gate.ending = ending;
    gate.shut = true;
    gate.fail = false;
    gate.waiting = gate.passed = gate.fail_from = 0;
    memory_disk_watch(tree.memory, stop_at_gate, NULL);
}

static void open_gate(bool fail)
{
    pthread_mutex_lock(&gate.mutex);
    gate.shut = false;
    gate.fail = fail;
    pthread_cond_broadcast(&gate.opened);
    pthread_mutex_unlock(&gate.mutex);
}

static unsigned passed_gate(void)
{
    pthread_mutex_lock(&gate.mutex);
    unsigned passed = gate.passed;
    pthread_mutex_unlock(&gate.mutex);
    return passed;
}

static bool somebody_waits(unsigned count)
{
    pthread_mutex_lock(&gate.mutex);
    bool waits = gate.waiting >= count;
    pthread_mutex_unlock(&gate.mutex);
    return waits;
}

/* Writers of the group that forms. */
static unsigned count_joined(void)
{
    struct commit_queue *queue = &lsm_of(tree.engine)->queue;
    unsigned joined = 0;
    pthread_mutex_lock(&queue->mutex);
    for (const struct writer *at = queue->first; at != NULL; at = at->next)
        joined++;
    pthread_mutex_unlock(&queue->mutex);
    return joined;
}

static bool have_joined(unsigned count)
{
    return count_joined() == count;
}

static bool have_frozen(unsigned count)
{
    struct lsm *lsm = lsm_of(tree.engine);
    pthread_mutex_lock(&lsm->mutex);
    size_t memtables = lsm->view->memtable_count;
    pthread_mutex_unlock(&lsm->mutex);
    return memtables == count + 1;
}

static void wait_until(bool (*is)(unsigned count), unsigned count)
{
    uint64_t deadline = lsm_now_us() + DEADLINE_US;
    while (!is(count)) {
        if (lsm_now_us() > deadline)
            fail_msg("what the test waits for does not come");
        sched_yield();
    }
}

struct client {
    pthread_t thread;
    unsigned number, writes; /* to make */
    unsigned done;           /* acknowledged, all synced */
    enum status status;      /* of the one behind them */
};

static struct client clients[WRITERS];
static atomic_uint inside; /* clients that are in a write */
static atomic_uint running;

enum { CLIENT_VALUE_BYTES = 200 };

static void client_key(char key[32], unsigned client, unsigned write)
{
    snprintf(key, 32, "client-%02u-%06u", client, write);
}

static void *write_all(void *argument)
{
    struct client *client = argument;
    static const uint8_t value[CLIENT_VALUE_BYTES];
    while (client->status == STATUS_OK && client->done < client->writes) {
        char key[32];
        client_key(key, client->number, client->done);
        struct batch_operation operation = {
            .key = bytes_of_string(key),
            .value = bytes_of(value, sizeof value),
        };
        struct batch batch = {.operations = &operation, .count = 1};
        atomic_fetch_add(&inside, 1);
        client->status = engine_write(tree.engine, &batch, true);
        atomic_fetch_sub(&inside, 1);
        client->done += client->status == STATUS_OK;
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

/* Clients from first to before end begin. */
static void start(unsigned first, unsigned end, unsigned writes)
{
    atomic_fetch_add(&running, end - first);
    for (unsigned i = first; i < end; i++) {
        clients[i] = (struct client){.number = i, .writes = writes};
        assert_int_equal(
            pthread_create(&clients[i].thread, NULL, write_all, &clients[i]),
            0);
    }
}

static void join(unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++)
        pthread_join(clients[i].thread, NULL);
}

/* What clients below end acknowledged is there, also after a crash. */
static void expect_acknowledged(unsigned end)
{
    struct buffer value = {0};
    tree_crash(MEMORY_NOTHING);
    tree_open();
    for (unsigned i = 0; i < end; i++) {
        for (unsigned j = 0; j < clients[i].done; j++) {
            char key[32];
            client_key(key, i, j);
            assert_int_equal(
                engine_get(tree.engine, bytes_of_string(key), &value),
                STATUS_OK);
            assert_int_equal(value.size, CLIENT_VALUE_BYTES);
        }
    }
    buffer_fini(&value);
}

static int setup(void **state)
{
    atomic_store(&inside, 0);
    atomic_store(&running, 0);
    memset(clients, 0, sizeof clients);
    int failed = tree_setup(state);
    tree.threads = true;
    return failed;
}

/* One sync under way, of the first; all others come meanwhile. */
static void start_behind_a_slow_sync(void)
{
    tree_set("memtable_bytes", 1 << 20);
    tree_open();
    shut_gate(MEMORY_SYNC, ".log");
    start(0, 1, 1);
    wait_until(somebody_waits, 1);
    start(1, WRITERS, 1);
    wait_until(have_joined, WRITERS - 1);
}

static void those_who_come_during_a_sync_share_the_next(void **state)
{
    (void)state;
    start_behind_a_slow_sync();
    open_gate(false);
    join(0, WRITERS);
    assert_int_equal(passed_gate(), 2);
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(clients[i].done, 1);
    expect_acknowledged(WRITERS);
}

static void a_sync_that_fails_breaks_those_who_wait(void **state)
{
    (void)state;
    start_behind_a_slow_sync();
    open_gate(true);
    join(0, WRITERS);
    assert_int_equal(clients[0].status, STATUS_IO);
    for (unsigned i = 1; i < WRITERS; i++)
        assert_int_equal(clients[i].status, STATUS_BROKEN);
    assert_int_equal(passed_gate(), 1);
    expect_acknowledged(WRITERS);
}

static void a_sync_that_fails_fails_all_who_share_it(void **state)
{
    (void)state;
    start_behind_a_slow_sync();
    gate.fail_from = 1;
    open_gate(true);
    join(0, WRITERS);
    assert_int_equal(clients[0].status, STATUS_OK);
    for (unsigned i = 1; i < WRITERS; i++)
        assert_int_equal(clients[i].status, STATUS_IO);
    expect_acknowledged(WRITERS);
}

/* A disk so slow that during each sync all writers come that are not in the
 * group it is for: what a log holds, less what it held at the last sync. */
struct slow_syncs {
    unsigned count;
    uint64_t operations; /* in the log */
};

static void wait_for_all(void *context, enum memory_call call, const char *name)
{
    struct slow_syncs *syncs = context;
    if (call != MEMORY_SYNC || strstr(name, ".log") == NULL)
        return;
    uint64_t operations = lsm_of(tree.engine)->log_sequence;
    uint64_t group = operations - syncs->operations;
    syncs->operations = operations;
    syncs->count++;
    while (count_joined() + group < atomic_load(&running))
        sched_yield();
}

static void many_writers_take_far_fewer_syncs_than_writes(void **state)
{
    (void)state;
    enum { WRITES = 50 };
    struct slow_syncs syncs = {0};
    tree_set("memtable_bytes", 4 << 20);
    tree_open();
    memory_disk_watch(tree.memory, wait_for_all, &syncs);
    start(0, WRITERS, WRITES);
    join(0, WRITERS);
    memory_disk_watch(tree.memory, NULL, NULL);
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(clients[i].done, WRITES);
    /* Two groups take turns, whatever their sizes. */
    assert_true(syncs.count <= 2 * WRITES + 2);
    expect_acknowledged(WRITERS);
}

enum { STALLED = 4, STALLED_WRITES = 400, MEMTABLE_BYTES = 4096 };

static bool active_is_full(unsigned count)
{
    struct lsm *lsm = lsm_of(tree.engine);
    pthread_mutex_lock(&lsm->mutex);
    size_t bytes = memtable_bytes(lsm->view->memtables[0]);
    pthread_mutex_unlock(&lsm->mutex);
    return bytes >= count;
}

static bool are_inside(unsigned count)
{
    return atomic_load(&inside) == count;
}

/* No table can be made, and all memtables are full. */
static void start_until_stalled(void)
{
    tree_open();
    shut_gate(MEMORY_CREATE, ".table");
    start(0, STALLED, STALLED_WRITES);
    wait_until(somebody_waits, 1);
    wait_until(have_frozen, FROZEN_MAX);
    wait_until(active_is_full, MEMTABLE_BYTES);
    wait_until(are_inside, STALLED);
}

static unsigned acknowledged(void)
{
    unsigned done = 0;
    for (unsigned i = 0; i < STALLED; i++)
        done += clients[i].done;
    return done;
}

static void writers_wait_while_no_table_can_be_made(void **state)
{
    (void)state;
    start_until_stalled();
    assert_true(have_frozen(FROZEN_MAX));
    struct lsm *lsm = lsm_of(tree.engine);
    size_t bytes = 0;
    pthread_mutex_lock(&lsm->mutex);
    for (size_t i = 0; i < lsm->view->memtable_count; i++)
        bytes += memtable_bytes(lsm->view->memtables[i]);
    pthread_mutex_unlock(&lsm->mutex);
    /* The last group may go beyond the end of its memtable. */
    size_t group = STALLED * 2 * CLIENT_VALUE_BYTES;
    assert_true(bytes < (FROZEN_MAX + 1) * (MEMTABLE_BYTES + group));
    open_gate(false);
    join(0, STALLED);
    assert_int_equal(acknowledged(), STALLED * STALLED_WRITES);
    struct engine_stats stats = tree_stats();
    assert_true(stats.stall_us_max > 0);
    assert_true(stats.stall_us >= stats.stall_us_max);
    tree_settle();
    expect_acknowledged(STALLED);
}

static void writers_who_wait_are_told_when_a_table_fails(void **state)
{
    (void)state;
    unsigned told = 0;
    start_until_stalled();
    open_gate(true);
    join(0, STALLED);
    for (unsigned i = 0; i < STALLED; i++) {
        enum status status = clients[i].status;
        assert_true(status == STATUS_IO || status == STATUS_BROKEN);
        told += status == STATUS_IO;
    }
    assert_true(told > 0);
    assert_int_equal(lsm_settle(tree.engine), STATUS_BROKEN);
    expect_acknowledged(STALLED);
}

/* The flush of what is older forgets no drop that the active memtable needs,
 * though something newer is in that, too. */
static void a_drop_outlasts_a_flush_of_older_memtables(void **state)
{
    (void)state;
    tree_open();
    shut_gate(MEMORY_CREATE, ".table");
    tree_put_all(0, 40); /* somewhat more than a memtable */
    wait_until(somebody_waits, 1);
    tree_put_all(100, 110);
    tree_drop(100, 105);
    tree_put(120);
    assert_true(have_frozen(1));
    tree_check();
    open_gate(false);
    wait_until(have_frozen, 0);
    assert_int_equal(tree_drops(), 1);
    tree_check();
    tree_settle();
    assert_int_equal(tree_drops(), 0);
    tree_check();
}

static bool has_spare(unsigned count)
{
    struct lsm *lsm = lsm_of(tree.engine);
    pthread_mutex_lock(&lsm->mutex);
    unsigned spares = lsm->spare.file != NULL;
    pthread_mutex_unlock(&lsm->mutex);
    return spares == count;
}

static struct {
    unsigned long last; /* the number of the log written to last */
    unsigned logs;
    bool went_back;
} order;

static void note_order(void *context, enum memory_call call, const char *name)
{
    stop_at_gate(context, call, name);
    if (call != MEMORY_WRITE || strstr(name, ".log") == NULL)
        return;
    unsigned long number = strtoul(name, NULL, 10);
    order.went_back = order.went_back || number < order.last;
    order.logs += number != order.last;
    order.last = number;
}

/* The spare log is late: it is not ready when the next is needed. */
static void logs_are_written_in_the_order_of_their_numbers(void **state)
{
    (void)state;
    memset(&order, 0, sizeof order);
    tree_open();
    wait_until(has_spare, 1);
    shut_gate(MEMORY_CREATE, ".log");
    memory_disk_watch(tree.memory, note_order, NULL);
    start(0, 1, 200);
    wait_until(somebody_waits, 1);
    wait_until(active_is_full, MEMTABLE_BYTES);
    wait_until(are_inside, 1);
    open_gate(false);
    join(0, 1);
    assert_int_equal(clients[0].done, 200);
    memory_disk_watch(tree.memory, NULL, NULL);
    assert_false(order.went_back);
    assert_true(order.logs > 3);
    expect_acknowledged(1);
}

static void a_close_waits_for_the_table_that_is_being_made(void **state)
{
    (void)state;
    tree_open();
    shut_gate(MEMORY_CREATE, ".table");
    start(0, 1, 60);
    join(0, 1);
    wait_until(somebody_waits, 1);
    open_gate(false);
    tree_close();
    assert_true(passed_gate() >= 1);
    tree_open();
    expect_acknowledged(1);
}

static size_t chunk_bytes(void)
{
    return chunk_pool_bytes(&lsm_of(tree.engine)->chunks);
}

static bool chunks_rest(unsigned count)
{
    (void)count;
    struct chunk_pool *pool = &lsm_of(tree.engine)->chunks;
    pthread_mutex_lock(&pool->mutex);
    bool rests = pool->rests && pool->bytes == 0;
    pthread_mutex_unlock(&pool->mutex);
    return rests;
}

/* What a memtable was made of is for the next one, and for nobody when none
 * comes. Writers wait when too many are frozen, so one becomes a table before
 * long. */
static void memory_of_memtables_goes_back_when_writes_rest(void **state)
{
    (void)state;
    enum { MEMORY = 8 * CHUNK_BYTES_MAX, VALUE = 4000 };
    tree_set("memtable_bytes", MEMORY);
    tree.value_bytes = VALUE;
    tree_open();
    unsigned most = (FROZEN_MAX + 4) * (MEMORY / VALUE);
    size_t kept = 0;
    for (unsigned i = 0; i < most && kept == 0; i++) {
        tree_put(i % TREE_KEYS_MAX);
        kept = chunk_bytes();
    }
    assert_true(kept > 0);
    wait_until(chunks_rest, 0);
    assert_int_equal(chunk_bytes(), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, tree_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(those_who_come_during_a_sync_share_the_next),
        CASE(a_sync_that_fails_breaks_those_who_wait),
        CASE(a_sync_that_fails_fails_all_who_share_it),
        CASE(many_writers_take_far_fewer_syncs_than_writes),
        CASE(writers_wait_while_no_table_can_be_made),
        CASE(writers_who_wait_are_told_when_a_table_fails),
        CASE(a_drop_outlasts_a_flush_of_older_memtables),
        CASE(logs_are_written_in_the_order_of_their_numbers),
        CASE(a_close_waits_for_the_table_that_is_being_made),
        CASE(memory_of_memtables_goes_back_when_writes_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
