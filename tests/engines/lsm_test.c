/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "engines/lsm/compaction.h"
#include "engines/lsm/lsm.h"

/* What the LSM engine promises beyond the suites that all engines pass. */

/* The smallest memtable: a few dozen records, so flushes are many. */
static struct engine *open_small(const char *directory)
{
    struct engine_setting setting = {"memtable_bytes", 4096};
    struct engine_options options = {
        .directory = directory, .settings = &setting, .setting_count = 1};
    struct engine *engine = NULL;
    struct error error;
    enum status status = lsm_engine_type.open(&options, &engine, &error);
    if (status != STATUS_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, STATUS_OK);
    return engine;
}

static enum status try_open(const char *directory, struct error *error)
{
    struct engine_options options = {.directory = directory};
    struct engine *engine = NULL;
    enum status status = lsm_engine_type.open(&options, &engine, error);
    if (status == STATUS_OK)
        lsm_engine_type.close(engine);
    return status;
}

static void close_engine(struct engine *engine)
{
    lsm_engine_type.close(engine);
}

static enum status put(struct engine *engine, const char *key,
                       const char *value, bool sync)
{
    struct batch_operation operation = {.key = bytes_of_string(key),
                                        .value = bytes_of_string(value)};
    struct batch batch = {.operations = &operation, .count = 1};
    return lsm_engine_type.write(engine, &batch, sync);
}

static enum status drop(struct engine *engine, const char *key)
{
    struct batch_operation operation = {.key = bytes_of_string(key),
                                        .remove = true};
    struct batch batch = {.operations = &operation, .count = 1};
    return lsm_engine_type.write(engine, &batch, true);
}

static void expect(struct engine *engine, const char *key, const char *value)
{
    struct buffer found = {0};
    enum status status =
        lsm_engine_type.get(engine, bytes_of_string(key), &found);
    assert_int_equal(status, value != NULL ? STATUS_OK : STATUS_NOT_FOUND);
    if (value != NULL)
        assert_true(bytes_equal(buffer_bytes(&found), bytes_of_string(value)));
    buffer_fini(&found);
}

/* Whether a flush or a compaction is due. Under the mutex. */
static bool is_busy(const struct lsm *lsm)
{
    const struct view *view = lsm->view;
    size_t run = 0;
    for (size_t i = 0; i < view->table_count; i++) {
        bool same = i > 0 && view->tables[i]->tier == view->tables[i - 1]->tier;
        run = same ? run + 1 : 1;
        if (run >= COMPACTION_TABLES)
            return true;
    }
    return view->frozen != NULL;
}

/* Wait until the background thread has nothing left to do. */
static void settle(struct engine *engine)
{
    struct lsm *lsm = (struct lsm *)(void *)engine;
    pthread_mutex_lock(&lsm->mutex);
    while (is_busy(lsm) && !lsm->broken)
        pthread_cond_wait(&lsm->changed, &lsm->mutex);
    pthread_mutex_unlock(&lsm->mutex);
}

static size_t table_count(struct engine *engine)
{
    struct lsm *lsm = (struct lsm *)(void *)engine;
    pthread_mutex_lock(&lsm->mutex);
    size_t count = lsm->view->table_count;
    pthread_mutex_unlock(&lsm->mutex);
    return count;
}

static void keys_survive_ten_restarts_with_compactions(void **state)
{
    enum { KEYS = 300, ROUNDS = 11 };
    char key[32], value[64];
    unsigned highest_tier = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct engine *engine = open_small(*state);
        for (int i = 0; i < KEYS && round > 0; i++) {
            snprintf(key, sizeof key, "key%04d", i);
            snprintf(value, sizeof value, "value %d of round %d", i,
                     round - 1 - (i + round - 1) % 2 * (round > 1));
            expect(engine, key, value);
        }
        /* Half of the keys in each round, so old and new lie mixed. */
        for (int i = 0; i < KEYS; i++) {
            if (round > 0 && (i + round) % 2 != 0)
                continue;
            snprintf(key, sizeof key, "key%04d", i);
            snprintf(value, sizeof value, "value %d of round %d", i, round);
            assert_int_equal(put(engine, key, value, i % 10 == 0), STATUS_OK);
        }
        settle(engine);
        struct lsm *lsm = (struct lsm *)(void *)engine;
        const struct view *view = lsm->view;
        if (view->table_count > 0 &&
            view->tables[view->table_count - 1]->tier > highest_tier)
            highest_tier = view->tables[view->table_count - 1]->tier;
        close_engine(engine);
    }
    assert_true(highest_tier >= 2);
}

static void compaction_drops_overwritten_versions(void **state)
{
    enum { KEYS = 20, ROUNDS = 100 };
    struct engine *engine = open_small(*state);
    char key[32], value[64];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < KEYS; i++) {
            snprintf(key, sizeof key, "key%d", i);
            snprintf(value, sizeof value, "value of round %d", round);
            assert_int_equal(put(engine, key, value, false), STATUS_OK);
        }
    }
    settle(engine);
    struct lsm *lsm = (struct lsm *)(void *)engine;
    assert_true(lsm->view->table_count > 0);
    unsigned oldest = lsm->view->tables[lsm->view->table_count - 1]->tier;
    assert_true(oldest > 0);
    for (size_t i = 0; i < lsm->view->table_count; i++)
        assert_true(lsm->view->tables[i]->entries <= KEYS);
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key%d", i);
        snprintf(value, sizeof value, "value of round %d", ROUNDS - 1);
        expect(engine, key, value);
    }
    close_engine(engine);
}

/* Every open turns its log into one table; the fourth table is due. */
static void compaction_of_the_oldest_drops_removals(void **state)
{
    for (int round = 0; round < COMPACTION_TABLES; round++) {
        struct engine *engine = open_small(*state);
        assert_int_equal(table_count(engine), round);
        for (int i = 0; i < 10; i++) {
            char key[32];
            snprintf(key, sizeof key, "key%d", i);
            assert_int_equal(round + 1 < COMPACTION_TABLES
                                 ? put(engine, key, "value", true)
                                 : drop(engine, key),
                             STATUS_OK);
        }
        close_engine(engine);
    }
    struct engine *engine = open_small(*state);
    settle(engine);
    assert_int_equal(table_count(engine), 0);
    expect(engine, "key1", NULL);
    close_engine(engine);
}

/* Four opens with a write each make a table of tier 1 at the fifth. */
static void removal_hides_an_older_tier_after_compaction(void **state)
{
    for (int round = 0; round < 2 * COMPACTION_TABLES; round++) {
        struct engine *engine = open_small(*state);
        settle(engine);
        assert_int_equal(put(engine, "other", "value", true), STATUS_OK);
        if (round == 0)
            assert_int_equal(put(engine, "key", "old", true), STATUS_OK);
        if (round == COMPACTION_TABLES)
            assert_int_equal(drop(engine, "key"), STATUS_OK);
        close_engine(engine);
    }
    struct engine *engine = open_small(*state);
    settle(engine);
    assert_int_equal(table_count(engine), 2);
    expect(engine, "key", NULL);
    expect(engine, "other", "value");
    close_engine(engine);
}

static void snapshot_stands_still_while_all_changes(void **state)
{
    enum { KEYS = 100 };
    struct engine *engine = open_small(*state);
    struct engine_iterator *iterator;
    char key[32];
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key%03d", i);
        assert_int_equal(put(engine, key, "before", false), STATUS_OK);
    }
    assert_int_equal(lsm_engine_type.iterate(engine, bytes_of_string("key010"),
                                             bytes_of_string("key090"),
                                             ENGINE_FORWARD, &iterator),
                     STATUS_OK);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < KEYS; i++) {
            snprintf(key, sizeof key, "key%03d", i);
            assert_int_equal(round % 2 == 0 ? put(engine, key, "after", false)
                                            : drop(engine, key),
                             STATUS_OK);
        }
    }
    settle(engine);
    struct bytes found, value;
    for (int i = 10; i < 90; i++) {
        snprintf(key, sizeof key, "key%03d", i);
        assert_int_equal(lsm_engine_type.next(iterator, &found, &value),
                         STATUS_OK);
        assert_true(bytes_equal(found, bytes_of_string(key)));
        assert_true(bytes_equal(value, bytes_of_string("before")));
    }
    assert_int_equal(lsm_engine_type.next(iterator, &found, &value),
                     STATUS_NOT_FOUND);
    lsm_engine_type.iterator_free(iterator);
    close_engine(engine);
}

static void second_opener_is_refused(void **state)
{
    struct error error;
    struct engine *engine = open_small(*state);
    assert_int_equal(try_open(*state, &error), STATUS_REFUSED);
    assert_non_null(strstr(error.text, "in this process or another"));
    close_engine(engine);
    assert_int_equal(try_open(*state, &error), STATUS_OK);
}

static void damaged_value_is_corrupt_and_others_are_read(void **state)
{
    char path[LSM_PATH_MAX], large[5000];
    struct buffer found = {0};
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    struct engine *engine = open_small(*state);
    assert_int_equal(put(engine, "a", large, true), STATUS_OK);
    close_engine(engine);
    engine = open_small(*state); /* a lies in a table */
    assert_int_equal(put(engine, "b", large, true), STATUS_OK);
    close_engine(engine);
    newest_file(*state, LSM_FILE_TABLE, path);
    flip(path, 2000, 0x04);
    engine = open_small(*state);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            lsm_engine_type.get(engine, bytes_of_string("a"), &found),
            STATUS_CORRUPT);
        assert_int_equal(found.size, 0);
    }
    expect(engine, "b", large);
    struct engine_iterator *iterator;
    assert_int_equal(lsm_engine_type.iterate(engine, (struct bytes){0},
                                             (struct bytes){0}, ENGINE_FORWARD,
                                             &iterator),
                     STATUS_CORRUPT);
    close_engine(engine);
    buffer_fini(&found);
}

static void missing_files_are_named_at_open(void **state)
{
    char path[LSM_PATH_MAX];
    struct error error;
    struct engine *engine = open_small(*state);
    assert_int_equal(put(engine, "a", "value", true), STATUS_OK);
    close_engine(engine);
    close_engine(open_small(*state));
    char manifest[LSM_PATH_MAX], hidden[LSM_PATH_MAX];
    snprintf(manifest, sizeof manifest, "%s/MANIFEST", (char *)*state);
    snprintf(hidden, sizeof hidden, "%s/hidden", (char *)*state);
    assert_int_equal(rename(manifest, hidden), 0);
    assert_int_equal(try_open(*state, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.text, "MANIFEST"));
    assert_int_equal(rename(hidden, manifest), 0);
    newest_file(*state, LSM_FILE_LOG, path);
    assert_int_equal(rename(path, hidden), 0);
    assert_int_equal(try_open(*state, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.text, "log"));
    assert_int_equal(rename(hidden, path), 0);
    newest_file(*state, LSM_FILE_TABLE, path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(try_open(*state, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.text, "table"));
}

static void failed_write_breaks_until_reopened(void **state)
{
    struct rlimit old, low;
    struct buffer found = {0};
    char large[3000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    struct engine *engine = open_small(*state);
    assert_int_equal(put(engine, "a", "value", true), STATUS_OK);
    /* A file that may not grow beyond 1000 bytes: a short write. */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = (struct rlimit){.rlim_cur = 1000, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    enum status status = put(engine, "b", large, true);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(status, STATUS_IO);
    assert_int_equal(put(engine, "c", "value", true), STATUS_BROKEN);
    assert_int_equal(lsm_engine_type.get(engine, bytes_of_string("a"), &found),
                     STATUS_BROKEN);
    struct engine_iterator *iterator;
    assert_int_equal(lsm_engine_type.iterate(engine, (struct bytes){0},
                                             (struct bytes){0}, ENGINE_FORWARD,
                                             &iterator),
                     STATUS_BROKEN);
    close_engine(engine);
    for (int i = 0; i < 2; i++) {
        engine = open_small(*state);
        expect(engine, "a", "value");
        expect(engine, "b", NULL);
        expect(engine, "d", i == 0 ? NULL : "value");
        assert_int_equal(put(engine, "d", "value", true), STATUS_OK);
        close_engine(engine);
    }
    buffer_fini(&found);
}

static _Noreturn void write_until_killed(const char *directory, int acks)
{
    struct engine *engine = open_small(directory);
    char key[32];
    for (int i = 0;; i++) {
        snprintf(key, sizeof key, "key%06d", i);
        if (put(engine, key, key, true) != STATUS_OK ||
            write(acks, &i, sizeof i) != (ssize_t)sizeof i)
            _exit(1);
    }
}

static void acknowledged_writes_survive_a_kill(void **state)
{
    for (int round = 0; round < 3; round++) {
        int ends[2], acked = -1, last = -1;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            write_until_killed(*state, ends[1]);
        close(ends[1]);
        while (acked < 300 + 37 * round &&
               read(ends[0], &acked, sizeof acked) == (ssize_t)sizeof acked)
            last = acked;
        assert_int_equal(kill(child, SIGKILL), 0);
        while (read(ends[0], &acked, sizeof acked) == (ssize_t)sizeof acked)
            last = acked;
        assert_int_equal(waitpid(child, NULL, 0), child);
        close(ends[0]);
        assert_true(last >= 300);
        struct engine *engine = open_small(*state);
        for (int i = 0; i <= last; i++) {
            char key[32];
            snprintf(key, sizeof key, "key%06d", i);
            expect(engine, key, key);
        }
        close_engine(engine);
    }
}

struct reader {
    struct engine *engine;
    atomic_bool *done;
    const char *complaint; /* NULL: all was well */
};

/* Both keys are written in one batch: a snapshot has them equal, and they
 * never go back. cmocka's assertions belong to the main thread. */
static void *read_pairs(void *context)
{
    struct reader *reader = context;
    struct buffer got = {0};
    char before[16] = "";
    while (!atomic_load(reader->done) && reader->complaint == NULL) {
        struct engine_iterator *iterator;
        struct bytes key, left, right;
        char seen[16] = "";
        if (lsm_engine_type.iterate(reader->engine, bytes_of_string("left"),
                                    (struct bytes){0}, ENGINE_FORWARD,
                                    &iterator) != STATUS_OK) {
            reader->complaint = "iterate failed";
            break;
        }
        if (lsm_engine_type.next(iterator, &key, &left) == STATUS_OK) {
            memcpy(seen, left.data, left.size);
            if (lsm_engine_type.next(iterator, &key, &right) != STATUS_OK ||
                !bytes_equal(right, bytes_of_string(seen)))
                reader->complaint = "half a batch";
        }
        lsm_engine_type.iterator_free(iterator);
        if (strcmp(seen, before) < 0)
            reader->complaint = "a snapshot went back";
        if (seen[0] != '\0' &&
            (lsm_engine_type.get(reader->engine, bytes_of_string("left"),
                                 &got) != STATUS_OK ||
             bytes_compare(buffer_bytes(&got), bytes_of_string(seen)) < 0))
            reader->complaint = "a get went back";
        memcpy(before, seen, sizeof before);
    }
    buffer_fini(&got);
    return NULL;
}

static void readers_beside_a_writer_see_whole_batches(void **state)
{
    enum { READERS = 3, WRITES = 2000 };
    struct engine *engine = open_small(*state);
    atomic_bool done = false;
    struct reader readers[READERS];
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.engine = engine, .done = &done};
        assert_int_equal(
            pthread_create(&threads[i], NULL, read_pairs, &readers[i]), 0);
    }
    enum status status = STATUS_OK;
    for (int i = 0; i < WRITES && status == STATUS_OK; i++) {
        char value[16];
        snprintf(value, sizeof value, "%08d", i);
        struct batch_operation operations[] = {
            {.key = bytes_of_string("left"), .value = bytes_of_string(value)},
            {.key = bytes_of_string("right"), .value = bytes_of_string(value)},
        };
        struct batch batch = {.operations = operations, .count = 2};
        status = lsm_engine_type.write(engine, &batch, false);
    }
    atomic_store(&done, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        if (readers[i].complaint != NULL)
            fail_msg("%s", readers[i].complaint);
    }
    assert_int_equal(status, STATUS_OK);
    close_engine(engine);
}

static void batch_with_no_operations_syncs_what_came_before(void **state)
{
    struct engine *engine = open_small(*state);
    struct lsm *lsm = (struct lsm *)(void *)engine;
    struct batch none = {0};
    assert_int_equal(put(engine, "a", "value", false), STATUS_OK);
    assert_true(lsm->log.synced < lsm->log.size);
    assert_int_equal(lsm_engine_type.write(engine, &none, true), STATUS_OK);
    assert_int_equal(lsm->log.synced, lsm->log.size);
    close_engine(engine);
}

#define CASE(name)                                                             \
    cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(acknowledged_writes_survive_a_kill),
        CASE(keys_survive_ten_restarts_with_compactions),
        CASE(compaction_drops_overwritten_versions),
        CASE(compaction_of_the_oldest_drops_removals),
        CASE(removal_hides_an_older_tier_after_compaction),
        CASE(snapshot_stands_still_while_all_changes),
        CASE(second_opener_is_refused),
        CASE(damaged_value_is_corrupt_and_others_are_read),
        CASE(missing_files_are_named_at_open),
        CASE(failed_write_breaks_until_reopened),
        CASE(readers_beside_a_writer_see_whole_batches),
        CASE(batch_with_no_operations_syncs_what_came_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
