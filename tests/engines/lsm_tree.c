/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_tree.h"

#include "tests/sim/random.h"

struct tree tree;

int tree_setup(void **state)
{
    (void)state;
    memset(&tree, 0, sizeof tree);
    tree.memory = memory_disk_new();
    tree.value_bytes = 100;
    tree_set("memtable_bytes", 4096);
    tree_set("table_bytes", 4096);
    tree_set("level1_bytes", 16384);
    return 0;
}

int tree_teardown(void **state)
{
    (void)state;
    tree_close();
    /* A test that failed says why, and may have left an iterator open. */
    if (memory_disk_counts(tree.memory).files_open == 0)
        memory_disk_free(tree.memory);
    return 0;
}

void tree_set(const char *name, uint64_t value)
{
    size_t i = 0;
    while (i < tree.setting_count && strcmp(tree.settings[i].name, name) != 0)
        i++;
    assert_true(i < sizeof tree.settings / sizeof *tree.settings);
    tree.settings[i] = (struct engine_setting){name, value};
    if (i == tree.setting_count)
        tree.setting_count++;
}

static void note_report(void *context, const char *message)
{
    (void)context;
    snprintf(tree.report, sizeof tree.report, "%s", message);
    atomic_fetch_add(&tree.reports, 1);
}

enum status tree_try_open_at(const char *path)
{
    struct engine_options options = {
        .directory = path,
        .settings = tree.settings,
        .setting_count = tree.setting_count,
        .report = note_report,
    };
    struct disk *disk = memory_disk_at(tree.memory, path);
    assert_non_null(disk);
    assert_null(tree.engine);
    return lsm_open_on(&options, disk, tree.threads, &tree.engine, &tree.error);
}

void tree_open(void)
{
    if (tree_try_open_at(MEMORY_DISK_PATH) != STATUS_OK)
        fail_msg("%s", tree.error.text);
}

void tree_refused(enum status status, const char *const *words)
{
    enum status found = tree_try_open_at(MEMORY_DISK_PATH);
    assert_null(tree.engine);
    assert_int_equal(found, status);
    assert_int_equal(tree.error.status, status);
    for (; *words != NULL; words++) {
        if (strstr(tree.error.text, *words) == NULL)
            fail_msg("'%s' is not in: %s", *words, tree.error.text);
    }
}

void tree_close(void)
{
    engine_close(tree.engine);
    tree.engine = NULL;
}

void tree_reopen(void)
{
    tree_close();
    tree_open();
}

void tree_crash(enum memory_survival survival)
{
    struct memory_crash crash = {
        .bytes = survival, .names = survival, .seed = ++tree.crashes};
    struct memory_disk *left = memory_disk_after(tree.memory, &crash);
    tree_close();
    memory_disk_free(tree.memory);
    tree.memory = left;
}

struct bytes tree_key(unsigned number)
{
    static char keys[4][16];
    static unsigned next;
    char *key = keys[next++ % 4];
    snprintf(key, sizeof keys[0], "k%06u", number);
    return bytes_of_string(key);
}

struct bytes tree_value(unsigned number, unsigned round, size_t size)
{
    static struct buffer value;
    struct randomness random = {(uint64_t)round << 32 | number};
    buffer_clear(&value);
    assert_int_equal(buffer_reserve(&value, size + 8), STATUS_OK);
    for (; value.size < size; value.size += 8)
        put_u64(value.data + value.size, random_next(&random));
    return bytes_of(value.data, size);
}

enum status tree_try_put(unsigned number, bool sync)
{
    unsigned round = ++tree.round;
    struct batch_operation operation = {
        .key = tree_key(number),
        .value = tree_value(number, round, tree.value_bytes),
    };
    struct batch batch = {.operations = &operation, .count = 1};
    assert_true(number < TREE_KEYS_MAX);
    enum status status = engine_write(tree.engine, &batch, sync);
    if (status != STATUS_OK)
        return status;
    tree.rounds[number] = round;
    tree.sizes[number] = tree.value_bytes;
    if (number >= tree.key_count)
        tree.key_count = number + 1;
    return STATUS_OK;
}

void tree_put(unsigned number)
{
    assert_int_equal(tree_try_put(number, false), STATUS_OK);
}

void tree_put_all(unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++)
        tree_put(i);
}

void tree_remove(unsigned number)
{
    struct batch_operation operation = {.key = tree_key(number),
                                        .remove = true};
    struct batch batch = {.operations = &operation, .count = 1};
    assert_int_equal(engine_write(tree.engine, &batch, false), STATUS_OK);
    tree.rounds[number] = 0;
}

void tree_drop(unsigned first, unsigned end)
{
    assert_int_equal(
        engine_delete_range(tree.engine, tree_key(first), tree_key(end)),
        STATUS_OK);
    for (unsigned i = first; i < end && i < TREE_KEYS_MAX; i++)
        tree.rounds[i] = 0;
}

void tree_sync(void)
{
    struct batch nothing = {.count = 0};
    assert_int_equal(engine_write(tree.engine, &nothing, true), STATUS_OK);
}

void tree_settle(void)
{
    assert_int_equal(lsm_settle(tree.engine), STATUS_OK);
}

void tree_flush(void)
{
    assert_int_equal(lsm_freeze(lsm_of(tree.engine)), STATUS_OK);
    assert_int_equal(lsm_flush(lsm_of(tree.engine)), STATUS_OK);
}

enum status tree_get(unsigned number)
{
    struct buffer value = {0};
    enum status status = engine_get(tree.engine, tree_key(number), &value);
    if (status == STATUS_OK &&
        !bytes_equal(
            buffer_bytes(&value),
            tree_value(number, tree.rounds[number], tree.sizes[number])))
        fail_msg("key %u has another value than that of round %u", number,
                 tree.rounds[number]);
    buffer_fini(&value);
    return status;
}

void tree_expect(unsigned number)
{
    enum status wanted =
        tree.rounds[number] != 0 ? STATUS_OK : STATUS_NOT_FOUND;
    enum status status = tree_get(number);
    if (status != wanted)
        fail_msg("key %u of round %u: %s", number, tree.rounds[number],
                 status_name(status));
}

struct engine_iterator *tree_iterate(unsigned first, unsigned end,
                                     enum engine_order order)
{
    struct engine_iterator *iterator;
    assert_int_equal(engine_iterate(tree.engine, tree_key(first), tree_key(end),
                                    order, &iterator),
                     STATUS_OK);
    return iterator;
}

void tree_expect_rest(struct engine_iterator *iterator, unsigned first,
                      unsigned end, enum engine_order order,
                      const unsigned *rounds)
{
    struct bytes key, value;
    for (unsigned i = 0; i < end - first; i++) {
        unsigned number = order == ENGINE_FORWARD ? first + i : end - 1 - i;
        if (rounds[number] == 0)
            continue;
        enum status status = engine_next(iterator, &key, &value);
        if (status != STATUS_OK)
            fail_msg("at key %u: %s", number, status_name(status));
        if (!bytes_equal(key, tree_key(number)))
            fail_msg("%.*s where key %u ought to be", (int)key.size, key.data,
                     number);
        if (!bytes_equal(value, tree_value(number, rounds[number], value.size)))
            fail_msg("key %u has another value than that of round %u", number,
                     rounds[number]);
    }
    assert_int_equal(engine_next(iterator, &key, &value), STATUS_NOT_FOUND);
}

static void check_range(unsigned first, unsigned end)
{
    for (int order = ENGINE_FORWARD; order <= ENGINE_BACKWARD; order++) {
        struct engine_iterator *iterator =
            tree_iterate(first, end, (enum engine_order)order);
        tree_expect_rest(iterator, first, end, (enum engine_order)order,
                         tree.rounds);
        engine_iterator_free(iterator);
    }
}

void tree_check(void)
{
    for (unsigned i = 0; i < tree.key_count; i++)
        tree_expect(i);
    check_range(0, tree.key_count);
    check_range(tree.key_count / 3, tree.key_count / 2);
}

/* The version, with a reference. */
static struct version *version(void)
{
    struct lsm *lsm = lsm_of(tree.engine);
    pthread_mutex_lock(&lsm->mutex);
    struct version *current = lsm->view->version;
    version_ref(current);
    pthread_mutex_unlock(&lsm->mutex);
    return current;
}

size_t tree_tables(unsigned level)
{
    struct version *current = version();
    size_t count = current->levels[level].count;
    version_unref(current);
    return count;
}

size_t tree_levels(void)
{
    size_t count = 0;
    for (unsigned i = 0; i < LEVELS; i++)
        count += tree_tables(i) > 0;
    return count;
}

size_t tree_drops(void)
{
    struct version *current = version();
    size_t count = current->drop_count;
    version_unref(current);
    return count;
}

struct engine_stats tree_stats(void)
{
    struct engine_stats stats;
    engine_stats(tree.engine, &stats);
    return stats;
}

void tree_table_name(unsigned level, char name[LSM_NAME_MAX])
{
    struct version *current = version();
    assert_int_equal(current->levels[level].count, 1);
    table_name(name, current->levels[level].tables[0]->number);
    version_unref(current);
}

struct listing {
    const char *ending;
    enum tree_which which;
    size_t count;
    char *name;
};

static enum status list_file(void *context, const char *name)
{
    struct listing *listing = context;
    size_t size = strlen(name), ending = strlen(listing->ending);
    if (size < ending || strcmp(name + size - ending, listing->ending) != 0)
        return STATUS_OK;
    int order = listing->count == 0 ? 0 : strcmp(name, listing->name);
    if (listing->count++ == 0 || (order < 0) == (listing->which == TREE_FIRST))
        snprintf(listing->name, MEMORY_NAME_MAX, "%s", name);
    return STATUS_OK;
}

size_t tree_files(const char *ending, enum tree_which which,
                  char name[MEMORY_NAME_MAX])
{
    char unused[MEMORY_NAME_MAX];
    struct listing listing = {
        .ending = ending, .which = which, .name = name == NULL ? unused : name};
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    assert_int_equal(disk->operations->list(disk, list_file, &listing),
                     STATUS_OK);
    disk_free(disk);
    return listing.count;
}

void tree_make_table(unsigned end, char name[LSM_NAME_MAX])
{
    enum { BYTES = 64 << 10 };
    tree_set("memtable_bytes", BYTES);
    tree_set("table_bytes", BYTES);
    tree_open();
    tree_put_all(0, end);
    tree_settle();
    tree_table_name(0, name);
}

void tree_fail_reads(bool fail)
{
    struct memory_fault fault = {
        .call = fail ? memory_disk_counts(tree.memory).reads + 1 : 0,
        .of_reads = true,
        .lasting = true,
        .status = STATUS_IO,
    };
    memory_disk_fail(tree.memory, &fault);
}
