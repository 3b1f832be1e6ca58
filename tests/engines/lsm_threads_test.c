/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_tree.h"

/* Writers, readers, drops and copies beside each other, on a tree so small
 * that it rotates, flushes and compacts all the time. cmocka's assertions
 * belong to the main thread: the others leave a complaint. */

enum {
    WRITERS = 4,
    READERS = 2,
    WRITES = 1000,
    DROP_EVERY = 50, /* writes of a writer */
    COPIES = 6,
};

static atomic_bool stop;
static _Atomic(const char *) complaint; /* NULL: all is well */

static void complain(const char *about)
{
    atomic_store(&complaint, about);
    atomic_store(&stop, true);
}

struct writer_of_pairs {
    pthread_t thread;
    unsigned number;
};

/* A writer's keys: a pair that is the same in every snapshot, one for each
 * write that stays, and one for each that is dropped. */
static struct bytes name(char key[32], const char *kind, unsigned writer,
                         unsigned number)
{
    snprintf(key, 32, "%s-%u-%06u", kind, writer, number);
    return bytes_of_string(key);
}

/* The write's number, with something to make it longer. */
static struct bytes text_of(char text[64], unsigned number)
{
    memset(text, '.', 64);
    snprintf(text, 64, "%06u", number);
    return bytes_of(text, 64);
}

static enum status write_once(unsigned writer, unsigned number)
{
    char left[32], right[32], own[32], scratch[32], text[64];
    struct bytes value = text_of(text, number);
    struct batch_operation operations[] = {
        {.key = name(left, "pair", writer, 0), .value = value},
        {.key = name(own, "own", writer, number), .value = value},
        {.key = name(scratch, "scratch", writer, number), .value = value},
        {.key = name(right, "pair", writer, 1), .value = value},
    };
    struct batch batch = {.operations = operations, .count = 4};
    return engine_write(tree.engine, &batch, number % 3 == 0);
}

static enum status drop_scratch(unsigned writer)
{
    char from[32], to[32];
    return engine_delete_range(tree.engine, name(from, "scratch", writer, 0),
                               name(to, "scratch", writer, WRITES));
}

static void *write_pairs(void *argument)
{
    const struct writer_of_pairs *writer = argument;
    for (unsigned i = 0; i < WRITES && !atomic_load(&stop); i++) {
        if (write_once(writer->number, i) != STATUS_OK)
            complain("a write failed");
        if (i % DROP_EVERY == DROP_EVERY - 1 &&
            drop_scratch(writer->number) != STATUS_OK)
            complain("a drop failed");
    }
    return NULL;
}

/* What one iterator sees of a writer's pair; -1: nothing yet. */
struct seen {
    int numbers[WRITERS];
    unsigned halves[WRITERS];
};

static int number_of(struct bytes value)
{
    char text[8] = "";
    memcpy(text, value.data, 6);
    return (int)strtol(text, NULL, 10);
}

/* Of a key "pair-W-...". */
static void see_half(struct seen *seen, struct bytes key, struct bytes value)
{
    unsigned writer = (unsigned)(key.data[5] - '0');
    int number = number_of(value);
    if (seen->halves[writer]++ > 0 && seen->numbers[writer] != number)
        complain("a snapshot has half of a batch");
    seen->numbers[writer] = number;
}

/* Walk all pairs of a snapshot of the engine. */
static struct seen see_pairs(struct engine *engine, enum engine_order order)
{
    struct seen seen = {.numbers = {-1, -1, -1, -1}};
    struct engine_iterator *iterator;
    struct bytes key, value;
    enum status status = engine_iterate(engine, bytes_of_string("pair"),
                                        bytes_of_string("q"), order, &iterator);
    while (status == STATUS_OK) {
        status = engine_next(iterator, &key, &value);
        if (status == STATUS_OK)
            see_half(&seen, key, value);
    }
    engine_iterator_free(iterator);
    if (status != STATUS_NOT_FOUND)
        complain("an iterator failed");
    for (unsigned i = 0; i < WRITERS; i++) {
        if (seen.halves[i] % 2 != 0)
            complain("a snapshot has one key of a batch");
    }
    return seen;
}

/* What the last write of a snapshot wrote is there since. */
static void get_own(const struct seen *seen, struct buffer *value)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        char key[32];
        if (seen->numbers[i] < 0)
            continue;
        unsigned number = (unsigned)seen->numbers[i];
        if (engine_get(tree.engine, name(key, "own", i, number), value) !=
                STATUS_OK ||
            number_of(buffer_bytes(value)) != seen->numbers[i])
            complain("a get has not what an iterator had");
    }
}

static void *read_pairs(void *argument)
{
    struct seen before = {.numbers = {-1, -1, -1, -1}};
    struct buffer value = {0};
    enum engine_order order = ENGINE_FORWARD;
    (void)argument;
    while (!atomic_load(&stop)) {
        struct seen seen = see_pairs(tree.engine, order);
        for (unsigned i = 0; i < WRITERS; i++) {
            if (seen.numbers[i] < before.numbers[i])
                complain("a snapshot went back");
        }
        get_own(&seen, &value);
        before = seen;
        order = order == ENGINE_FORWARD ? ENGINE_BACKWARD : ENGINE_FORWARD;
    }
    buffer_fini(&value);
    return NULL;
}

/* Every own key up to the pair's number is there, and none behind. */
static void expect_copy(const char *path)
{
    struct engine_options options = {.directory = path};
    struct engine *copy;
    struct buffer value = {0};
    char key[32];
    assert_int_equal(lsm_open_on(&options, memory_disk_at(tree.memory, path),
                                 false, &copy, NULL),
                     STATUS_OK);
    struct seen seen = see_pairs(copy, ENGINE_FORWARD);
    for (unsigned i = 0; i < WRITERS; i++) {
        for (int j = 0; j < WRITES; j++) {
            enum status status =
                engine_get(copy, name(key, "own", i, (unsigned)j), &value);
            assert_int_equal(status, j <= seen.numbers[i] ? STATUS_OK
                                                          : STATUS_NOT_FOUND);
        }
    }
    buffer_fini(&value);
    engine_close(copy);
}

static void take_copies(void)
{
    struct error error;
    for (int i = 0; i < COPIES && !atomic_load(&stop); i++) {
        char path[16];
        snprintf(path, sizeof path, "copy%d", i);
        if (lsm_engine_type.checkpoint(tree.engine, path, &error) != STATUS_OK)
            complain("a checkpoint failed");
        else
            expect_copy(path);
    }
}

static void expect_all(void)
{
    struct buffer value = {0};
    for (unsigned i = 0; i < WRITERS; i++) {
        for (unsigned j = 0; j < WRITES; j++) {
            char key[32];
            assert_int_equal(
                engine_get(tree.engine, name(key, "own", i, j), &value),
                STATUS_OK);
            assert_int_equal(number_of(buffer_bytes(&value)), j);
            assert_int_equal(
                engine_get(tree.engine, name(key, "scratch", i, j), &value),
                STATUS_NOT_FOUND);
        }
        assert_int_equal(see_pairs(tree.engine, ENGINE_BACKWARD).numbers[i],
                         WRITES - 1);
    }
    buffer_fini(&value);
}

static void start_all(struct writer_of_pairs *writers, pthread_t *readers)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].number = i;
        assert_int_equal(
            pthread_create(&writers[i].thread, NULL, write_pairs, &writers[i]),
            0);
    }
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_pairs, NULL),
                         0);
}

static void all_goes_on_at_once_and_nothing_is_lost(void **state)
{
    (void)state;
    struct writer_of_pairs writers[WRITERS];
    pthread_t readers[READERS];
    tree.threads = true;
    tree_set("cache_bytes", 32 << 10);
    tree_open();
    start_all(writers, readers);
    take_copies();
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    if (complaint != NULL)
        fail_msg("%s", complaint);
    assert_true(tree_levels() >= 2);
    expect_all();
    tree_settle();
    expect_all();
    assert_int_equal(tree_drops(), 0);
    tree_sync();
    tree_crash(MEMORY_NOTHING);
    tree_open();
    expect_all();
    tree_settle();
    tree_reopen();
    expect_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_CASE(all_goes_on_at_once_and_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
