/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

#include "engines/lsm/merge.h"
#include "tests/engines/memory_disk.h"
#include "tests/sim/random.h"

/* Memtables and tables walked as one, against a model of what is in each. */

enum {
    KEYS = 60,
    MEMTABLES = 2,
    LEVEL0 = 2, /* tables of one source each */
    RUNS = 2,   /* sources of several tables */
    RUN_TABLES = 4,
    SOURCES = MEMTABLES + LEVEL0 + RUNS,
    VERSIONS_MAX = 3, /* of a key in a memtable */
    MEMTABLE_SEQUENCES = 1000,
    SEEDS = 20,
};

struct version_of_key {
    uint64_t sequence;
    unsigned value; /* distinct in all */
    bool removed;
};

/* Of each key what the source has, newest first; newer sources first. */
struct source {
    size_t counts[KEYS];
    struct version_of_key versions[KEYS][VERSIONS_MAX];
};

static struct {
    struct memory_disk *memory;
    struct disk *disk;
    struct randomness random;
    unsigned values;       /* so far */
    uint64_t file_number;  /* of the last table */
    struct version *drops; /* a version that has nothing else */
    struct memtable *memtables[MEMTABLES];
    struct table *tables[LEVEL0 + RUNS * RUN_TABLES];
    size_t table_counts[LEVEL0 + RUNS];
    struct source sources[SOURCES];
    struct table *damaged; /* NULL: none is */
    size_t damaged_source, damaged_block;
} world;

/* Keys of the model are even, so that there are some between. */
static struct bytes key_of(unsigned number)
{
    static char text[4][16];
    static unsigned next;
    char *key = text[next++ % 4];
    snprintf(key, sizeof text[0], "key%03u", number);
    return bytes_of_string(key);
}

static struct bytes value_of(unsigned value)
{
    static char text[512];
    int size = snprintf(text, sizeof text, "value %u ", value);
    memset(text + size, 'v', sizeof text - (size_t)size);
    return bytes_of(text, (size_t)size + value % 400);
}

static struct version_of_key draw(uint64_t sequence)
{
    return (struct version_of_key){
        .sequence = sequence,
        .value = ++world.values,
        .removed = random_chance(&world.random, 200),
    };
}

static struct entry entry_of(unsigned key, const struct version_of_key *of)
{
    return (struct entry){
        .key = key_of(2 * key),
        .value = of->removed ? (struct bytes){0} : value_of(of->value),
        .sequence = of->sequence,
        .removed = of->removed,
    };
}

static void fill_memtable(size_t number)
{
    struct source *source = &world.sources[number];
    uint64_t sequence = (MEMTABLES - number) * MEMTABLE_SEQUENCES;
    world.memtables[number] = memtable_new(4096, 1, NULL, NULL);
    assert_non_null(world.memtables[number]);
    for (int i = 0; i < KEYS; i++) {
        unsigned key = (unsigned)random_below(&world.random, KEYS);
        size_t count = source->counts[key];
        struct version_of_key *versions = source->versions[key];
        if (count == VERSIONS_MAX)
            continue;
        memmove(versions + 1, versions, count * sizeof *versions);
        versions[0] = draw(++sequence);
        source->counts[key]++;
        struct entry entry = entry_of(key, &versions[0]);
        assert_int_equal(memtable_add(world.memtables[number], &entry),
                         STATUS_OK);
    }
}

/* A table of some keys from first to before end, known to the drops up to
 * drops_applied; NULL if the dice give it none. */
static struct table *make_table(struct source *source, unsigned first,
                                unsigned end, uint64_t drops_applied)
{
    struct table_options options = {.compression = COMPRESSION_NONE};
    struct table_report report = {0};
    struct table_writer *writer;
    struct table_facts facts;
    struct table *table = NULL;
    uint64_t number = ++world.file_number;
    assert_int_equal(table_writer_new(world.disk, number, &options, &writer),
                     STATUS_OK);
    for (unsigned key = first; key < end; key++) {
        if (random_chance(&world.random, 400))
            continue;
        source->versions[key][0] = draw(drops_applied);
        source->counts[key] = 1;
        struct entry entry = entry_of(key, &source->versions[key][0]);
        assert_int_equal(table_writer_add(writer, &entry), STATUS_OK);
    }
    if (table_writer_bytes(writer) > 0) {
        assert_int_equal(table_writer_finish(writer, &facts), STATUS_OK);
        assert_int_equal(table_open(world.disk, NULL, number, &report, &table),
                         STATUS_OK);
        table->drops_applied = drops_applied;
    }
    table_writer_free(writer);
    return table;
}

static void fill_tables(void)
{
    size_t count = 0;
    for (size_t i = 0; i < LEVEL0 + RUNS; i++) {
        struct source *source = &world.sources[MEMTABLES + i];
        unsigned pieces = i < LEVEL0 ? 1 : RUN_TABLES;
        uint64_t drops_applied = random_below(&world.random, 3);
        for (unsigned j = 0; j < pieces; j++) {
            struct table *table =
                make_table(source, j * KEYS / pieces, (j + 1) * KEYS / pieces,
                           drops_applied);
            if (table != NULL)
                world.tables[count++] = table;
            world.table_counts[i] += table != NULL;
        }
    }
}

static void add_drop(unsigned first, unsigned end, uint64_t sequence)
{
    struct dropped_range range = {.from = key_of(first),
                                  .to = end == 0 ? (struct bytes){0}
                                                 : key_of(end),
                                  .sequence = sequence};
    struct version_edit edit = {.drop = &range};
    struct version *next = version_apply(world.drops, &edit, 0);
    assert_non_null(next);
    version_unref(world.drops);
    world.drops = next;
}

static void build(uint64_t seed)
{
    memset(&world, 0, sizeof world);
    world.random = (struct randomness){seed};
    world.memory = memory_disk_new();
    world.disk = memory_disk_at(world.memory, MEMORY_DISK_PATH);
    world.drops = version_new();
    add_drop(90, 0, 1); /* only tables that knew none are older */
    add_drop(30, 50, 2);
    add_drop(20, 33, MEMTABLE_SEQUENCES + KEYS / 3);
    add_drop(60, 81, 2 * MEMTABLE_SEQUENCES + KEYS / 3);
    for (size_t i = 0; i < MEMTABLES; i++)
        fill_memtable(i);
    fill_tables();
}

static void demolish(void)
{
    for (size_t i = 0; i < MEMTABLES; i++)
        memtable_unref(world.memtables[i]);
    for (size_t i = 0; i < LEVEL0 + RUNS * RUN_TABLES; i++)
        table_unref(world.tables[i]);
    version_unref(world.drops);
    disk_free(world.disk);
    memory_disk_free(world.memory);
}

static void open_merge(struct merge *merge, uint64_t sequence,
                       enum engine_order order, bool with_drops)
{
    assert_int_equal(merge_init(merge, SOURCES, sequence, order, TABLE_CACHED,
                                with_drops ? world.drops : NULL),
                     STATUS_OK);
    for (size_t i = 0; i < MEMTABLES; i++)
        merge_add_memtable(merge, world.memtables[i]);
    struct table **tables = world.tables;
    for (size_t i = 0; i < LEVEL0 + RUNS; i++) {
        if (world.table_counts[i] > 0)
            merge_add_tables(merge, tables, world.table_counts[i]);
        tables += world.table_counts[i];
    }
}

/* Whether what the source, or an older one, has of the key cannot be known. */
static bool is_lost(unsigned key, size_t source)
{
    return world.damaged != NULL && source >= world.damaged_source &&
           table_block_covers(world.damaged, world.damaged_block,
                              key_of(2 * key));
}

/* What the model says of a key: its newest version up to sequence. */
static const struct version_of_key *newest(unsigned key, uint64_t sequence)
{
    for (size_t i = 0; i < SOURCES; i++) {
        if (is_lost(key, i))
            return NULL;
        const struct source *source = &world.sources[i];
        for (size_t j = 0; j < source->counts[key]; j++) {
            const struct version_of_key *version = &source->versions[key][j];
            if (i >= MEMTABLES || version->sequence <= sequence)
                return version;
        }
    }
    return NULL;
}

static void expect_entry(const struct entry *entry, unsigned key,
                         const struct version_of_key *wanted, bool with_drops)
{
    bool removed = wanted->removed;
    if (with_drops &&
        version_hides(world.drops, key_of(2 * key), wanted->sequence))
        removed = true;
    assert_true(bytes_equal(entry->key, key_of(2 * key)));
    assert_int_equal(entry->removed, removed);
    if (!removed)
        assert_true(bytes_equal(entry->value, value_of(wanted->value)));
}

/* The next that is no damage, of which there is one at most. */
static enum status next_of(struct merge *merge, struct entry *entry)
{
    enum status status = merge_next(merge, entry);
    if (world.damaged == NULL || status != STATUS_CORRUPT)
        return status;
    return merge_next(merge, entry);
}

/* From the bound on, in the merge's order; `bound` counts as key_of does. */
static void expect_walk(struct merge *merge, unsigned bound, bool with_drops)
{
    struct entry entry;
    for (unsigned i = 0; i < KEYS; i++) {
        bool forward = merge->order == ENGINE_FORWARD;
        unsigned key = forward ? i : KEYS - 1 - i;
        const struct version_of_key *wanted = newest(key, merge->sequence);
        if (wanted == NULL || (forward ? 2 * key < bound : 2 * key >= bound))
            continue;
        assert_int_equal(next_of(merge, &entry), STATUS_OK);
        expect_entry(&entry, key, wanted, with_drops);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(next_of(merge, &entry), STATUS_NOT_FOUND);
}

static void check_walks(uint64_t sequence, enum engine_order order,
                        bool with_drops)
{
    struct merge merge;
    open_merge(&merge, sequence, order, with_drops);
    assert_int_equal(merge_seek(&merge, (struct bytes){0}), STATUS_OK);
    expect_walk(&merge, order == ENGINE_FORWARD ? 0 : UINT32_MAX, with_drops);
    /* On keys, between them, before the first and behind the last. */
    for (unsigned bound = 0; bound <= 2 * KEYS; bound++) {
        assert_int_equal(merge_seek(&merge, key_of(bound)), STATUS_OK);
        expect_walk(&merge, bound, with_drops);
    }
    merge_fini(&merge);
}

static void walks_give_the_newest_of_each_key_in_order(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        build(seed);
        check_walks(UINT64_MAX, ENGINE_FORWARD, false);
        check_walks(UINT64_MAX, ENGINE_BACKWARD, false);
        demolish();
    }
}

static void walks_give_what_a_snapshot_may_see(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        build(seed);
        uint64_t sequence = MEMTABLE_SEQUENCES * (1 + seed % MEMTABLES) +
                            random_below(&world.random, KEYS);
        check_walks(sequence, ENGINE_FORWARD, false);
        check_walks(sequence, ENGINE_BACKWARD, false);
        demolish();
    }
}

static void what_drops_hide_comes_as_removed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        build(seed);
        check_walks(UINT64_MAX, ENGINE_FORWARD, true);
        check_walks(UINT64_MAX, ENGINE_BACKWARD, true);
        demolish();
    }
}

static void nothing_to_merge_ends_at_once(void **state)
{
    (void)state;
    struct merge merge;
    struct entry entry;
    assert_int_equal(
        merge_init(&merge, 0, UINT64_MAX, ENGINE_FORWARD, TABLE_CACHED, NULL),
        STATUS_OK);
    assert_int_equal(merge_seek(&merge, (struct bytes){0}), STATUS_OK);
    assert_int_equal(merge_next(&merge, &entry), STATUS_NOT_FOUND);
    merge_fini(&merge);
}

/* The source whose tables have that number among all. */
static size_t source_of(size_t table)
{
    size_t source = 0;
    while (table >= world.table_counts[source])
        table -= world.table_counts[source++];
    return MEMTABLES + source;
}

static bool is_corrupt(struct table *table, unsigned key)
{
    struct cache_block *block;
    struct entry entry;
    struct bytes name = key_of(2 * key);
    enum status status = table_get(table, name, key_hash(name), &block, &entry);
    if (status == STATUS_OK)
        cache_release(block);
    return status == STATUS_CORRUPT;
}

/* A bit of a block with keys of the model; false if the dice met none. */
static bool damage_one(void)
{
    char name[32];
    size_t count = 0;
    while (count < LEVEL0 + RUNS * RUN_TABLES && world.tables[count] != NULL)
        count++;
    size_t at = random_below(&world.random, count);
    struct table *table = world.tables[at];
    table_name(name, table->number);
    memory_disk_flip(world.memory, name,
                     random_below(&world.random, table->facts.bytes / 2), 0x08);
    for (unsigned key = 0; key < KEYS; key++) {
        if (!is_corrupt(table, key))
            continue;
        while (!table_block_covers(table, world.damaged_block, key_of(2 * key)))
            world.damaged_block++;
        world.damaged_source = source_of(at);
        world.damaged = table;
        return true;
    }
    return false;
}

static void
what_cannot_be_read_is_passed_over_and_hides_what_is_older(void **state)
{
    (void)state;
    unsigned damaged = 0;
    for (uint64_t seed = 1; seed <= 3 * SEEDS; seed++) {
        build(seed);
        if (damage_one()) {
            check_walks(UINT64_MAX, ENGINE_FORWARD, false);
            check_walks(UINT64_MAX, ENGINE_BACKWARD, true);
            damaged++;
        }
        demolish();
    }
    assert_true(damaged > SEEDS);
}

static void damage_is_told_once_and_before_the_end(void **state)
{
    (void)state;
    struct merge merge;
    struct entry entry;
    enum status status;
    unsigned told = 0;
    uint64_t seed = 1;
    for (build(seed); !damage_one(); build(++seed))
        demolish();
    open_merge(&merge, UINT64_MAX, ENGINE_FORWARD, false);
    assert_int_equal(merge_seek(&merge, (struct bytes){0}), STATUS_OK);
    while ((status = merge_next(&merge, &entry)) != STATUS_NOT_FOUND)
        told += status == STATUS_CORRUPT;
    assert_int_equal(told, 1);
    merge_fini(&merge);
    demolish();
}

/* A disk that reads nothing any more: the walk ends, and not as if it had come
 * to the end. */
static void a_disk_that_reads_nothing_is_told_and_ends(void **state)
{
    (void)state;
    struct merge merge;
    struct entry entry;
    build(1);
    open_merge(&merge, UINT64_MAX, ENGINE_FORWARD, false);
    struct memory_fault fault = {
        .call = memory_disk_counts(world.memory).reads + 1,
        .of_reads = true,
        .lasting = true,
        .status = STATUS_IO,
    };
    memory_disk_fail(world.memory, &fault);
    assert_int_equal(merge_seek(&merge, (struct bytes){0}), STATUS_OK);
    assert_int_equal(merge_next(&merge, &entry), STATUS_IO);
    enum status status;
    unsigned steps = 0;
    while ((status = merge_next(&merge, &entry)) != STATUS_NOT_FOUND)
        assert_true(++steps < 1000);
    merge_fini(&merge);
    demolish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walks_give_the_newest_of_each_key_in_order),
        cmocka_unit_test(walks_give_what_a_snapshot_may_see),
        cmocka_unit_test(what_drops_hide_comes_as_removed),
        cmocka_unit_test(nothing_to_merge_ends_at_once),
        cmocka_unit_test(
            what_cannot_be_read_is_passed_over_and_hides_what_is_older),
        cmocka_unit_test(damage_is_told_once_and_before_the_end),
        cmocka_unit_test(a_disk_that_reads_nothing_is_told_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
