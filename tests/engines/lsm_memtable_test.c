/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "engines/lsm/memtable.h"

enum { KEY_MAX = 48, ADDED_MAX = 1000 };

static uint64_t random_next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *state >> 33;
}

/* --- against a list that is searched from end to end --- */

struct added {
    uint8_t key[KEY_MAX];
    size_t key_size;
    bool removed;
};

/* Entry i has sequence i + 1, which is also its value. */
struct list {
    struct memtable *memtable;
    struct added added[ADDED_MAX];
    size_t count;
};

static struct bytes key_of(const struct added *added)
{
    return bytes_of(added->key, added->key_size);
}

/* It changes nothing, whatever the keys: one that is there, or is not, or is
 * before or behind all. */
static void fetch_some(const struct list *list, struct bytes key)
{
    uint8_t high[KEY_MAX];
    memset(high, 0xff, sizeof high);
    struct bytes keys[MEMTABLE_FETCH_MAX] = {bytes_of(high, sizeof high),
                                             bytes_of(high, 0), key};
    size_t count = list->count % (MEMTABLE_FETCH_MAX + 1);
    for (size_t i = 3; i < count; i++)
        keys[i] = key_of(&list->added[i * list->count / MEMTABLE_FETCH_MAX]);
    memtable_fetch(list->memtable, keys, count);
}

static void list_add(struct list *list, struct bytes key, bool removed)
{
    assert_true(key.size <= KEY_MAX && list->count < ADDED_MAX);
    struct added *added = &list->added[list->count++];
    memcpy(added->key, key.data, key.size);
    added->key_size = key.size;
    added->removed = removed;
    uint64_t sequence = list->count;
    struct entry entry = {.key = key,
                          .value = bytes_of(&sequence, sizeof sequence),
                          .sequence = sequence,
                          .removed = removed};
    fetch_some(list, key);
    assert_int_equal(memtable_add(list->memtable, &entry), STATUS_OK);
}

/* The newest version up to sequence of the first key at or behind `key` (or
 * strictly behind), or of the last one before it; 0 if there is none. */
enum where { AT, BEHIND, BEFORE };

static uint64_t list_find(const struct list *list, struct bytes key,
                          enum where where, uint64_t sequence)
{
    const struct added *best = NULL;
    for (size_t i = 0; i < list->count && i < sequence; i++) {
        const struct added *added = &list->added[i];
        int order = bytes_compare(key_of(added), key);
        if (where == BEFORE && key.size == 0)
            order = -1;
        bool fits = where == AT       ? order >= 0
                    : where == BEHIND ? order > 0
                                      : order < 0;
        if (!fits)
            continue;
        int nearer =
            best == NULL ? -1 : bytes_compare(key_of(added), key_of(best));
        if (nearer == 0 || (nearer > 0) == (where == BEFORE) || best == NULL)
            best = added;
    }
    return best == NULL ? 0 : (uint64_t)(best - list->added) + 1;
}

static void expect_node(const struct list *list,
                        const struct memtable_node *node, uint64_t sequence)
{
    if (sequence == 0) {
        assert_null(node);
        return;
    }
    assert_non_null(node);
    const struct added *added = &list->added[sequence - 1];
    struct entry entry = memtable_entry(node);
    assert_int_equal(entry.sequence, sequence);
    assert_true(bytes_equal(entry.key, key_of(added)));
    assert_int_equal(entry.removed, added->removed);
    assert_int_equal(entry.value.size, added->removed ? 0 : sizeof sequence);
    if (!added->removed)
        assert_memory_equal(entry.value.data, &sequence, sizeof sequence);
}

static void expect_get(const struct list *list, struct bytes key,
                       uint64_t sequence)
{
    struct entry entry;
    uint64_t found = list_find(list, key, AT, sequence);
    if (found > 0 && !bytes_equal(key_of(&list->added[found - 1]), key))
        found = 0;
    assert_int_equal(
        memtable_get(list->memtable, key, key_hash(key), sequence, &entry),
        found > 0);
    if (found > 0)
        assert_int_equal(entry.sequence, found);
}

static void expect_around(const struct list *list, struct bytes key,
                          uint64_t sequence)
{
    expect_get(list, key, sequence);
    expect_node(list, memtable_seek(list->memtable, key, sequence),
                list_find(list, key, AT, sequence));
    expect_node(list, memtable_seek_before(list->memtable, key, sequence),
                list_find(list, key, BEFORE, sequence));
}

/* Walks in both directions give what the list has. */
static void expect_walks(const struct list *list, uint64_t sequence)
{
    struct bytes none = {0};
    const struct memtable_node *node =
        memtable_seek(list->memtable, none, sequence);
    uint64_t expected = list_find(list, none, AT, sequence);
    while (expected > 0) {
        expect_node(list, node, expected);
        node = memtable_next(node, sequence);
        expected = list_find(list, key_of(&list->added[expected - 1]), BEHIND,
                             sequence);
    }
    assert_null(node);
    expected = list_find(list, none, BEFORE, sequence);
    node = memtable_seek_before(list->memtable, none, sequence);
    while (expected > 0) {
        expect_node(list, node, expected);
        struct bytes key = key_of(&list->added[expected - 1]);
        node = memtable_seek_before(list->memtable, key, sequence);
        expected = list_find(list, key, BEFORE, sequence);
    }
    assert_null(node);
}

/* A key of some shape: few or many different ones, with what is a beginning of
 * others among them, behind a prefix or not. */
static size_t random_key(uint64_t *random, unsigned shape, uint8_t *key)
{
    static const uint8_t letters[] = {0, 1, 'a', 'b', 0xfe, 0xff};
    size_t size = 0;
    if (shape == 1 || (shape == 2 && random_next(random) % 4 > 0)) {
        memset(key, 0xff, 23);
        size = 23;
    }
    size_t more = 1 + random_next(random) % (shape == 3 ? 16 : 4);
    for (size_t i = 0; i < more; i++)
        key[size++] = shape == 3 ? (uint8_t)random_next(random)
                                 : letters[random_next(random) % 6];
    return size;
}

enum { SHAPES = 4 };

static void answers_are_those_of_a_list(void **state)
{
    (void)state;
    static struct list list;
    struct memtable *before = NULL;
    for (unsigned round = 0; round < 4 * SHAPES; round++) {
        uint64_t random = round;
        uint8_t key[KEY_MAX];
        /* Mostly the one before has keys of the same kind. */
        unsigned shape = round / 4;
        list.count = 0;
        list.memtable =
            memtable_new(round % 2 == 0 ? 4096 : 1 << 20, 7, before, NULL);
        assert_non_null(list.memtable);
        for (unsigned i = 0; i < 400; i++) {
            size_t size = random_key(&random, shape, key);
            list_add(&list, bytes_of(key, size), random_next(&random) % 4 == 0);
            size = random_key(&random, shape, key);
            expect_around(&list, bytes_of(key, size),
                          random_next(&random) % (list.count + 2));
            if (i % 50 == 13)
                expect_walks(&list, random_next(&random) % (list.count + 2));
        }
        expect_walks(&list, UINT64_MAX - 1);
        memtable_unref(before);
        before = list.memtable;
    }
    memtable_unref(before);
}

/* The first keys teach what all share; these do not. */
static void keys_that_share_less_than_the_first_are_found(void **state)
{
    (void)state;
    static struct list list;
    static const char *const others[] = {
        "zz", "prefix-of-them", "prefix-of-them-all-",  "prefix-of-them-all-9",
        "a",  "prefiy",         "prefix-of-them-all.5", "p",
    };
    list.count = 0;
    list.memtable = memtable_new(1 << 20, 7, NULL, NULL);
    assert_non_null(list.memtable);
    for (unsigned i = 0; i < 100; i++) {
        char key[KEY_MAX];
        int size = snprintf(key, sizeof key, "prefix-of-them-all-%06u", i * 37);
        list_add(&list, bytes_of(key, (size_t)size), false);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct bytes key = bytes_of_string(others[i]);
        expect_around(&list, key, UINT64_MAX - 1);
        list_add(&list, key, false);
        expect_around(&list, key, UINT64_MAX - 1);
        expect_walks(&list, UINT64_MAX - 1);
    }
    memtable_unref(list.memtable);
}

static void ascending_and_descending_keys_stay_in_order(void **state)
{
    (void)state;
    static struct list list;
    for (unsigned up = 0; up < 2; up++) {
        list.count = 0;
        list.memtable = memtable_new(1 << 20, 7, NULL, NULL);
        assert_non_null(list.memtable);
        for (unsigned i = 0; i < 600; i++) {
            char key[KEY_MAX];
            /* With a leap now and then, and a key again. */
            unsigned number = (i % 7 == 0 ? i / 2 : i) + 1000;
            int size = snprintf(key, sizeof key, "%016u",
                                up == 1 ? number : 2000 - number);
            list_add(&list, bytes_of(key, (size_t)size), false);
        }
        expect_walks(&list, UINT64_MAX - 1);
        expect_walks(&list, 300);
        memtable_unref(list.memtable);
    }
}

/* --- what else it says --- */

static void add(struct memtable *memtable, const char *key, struct bytes value,
                uint64_t sequence)
{
    struct entry entry = {
        .key = bytes_of_string(key), .value = value, .sequence = sequence};
    assert_int_equal(memtable_add(memtable, &entry), STATUS_OK);
}

static void values_of_any_size_come_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,     1,       1000,    5000,   70000,
                                   20000, 3 << 20, 1 << 20, 300000, 40};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    struct memtable *memtable = memtable_new(32 << 20, 1, NULL, NULL);
    uint8_t *value = malloc(3 << 20);
    assert_true(memtable != NULL && value != NULL);
    uint64_t sequence = 0;
    for (size_t round = 0; round < 5; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            char key[32];
            snprintf(key, sizeof key, "%zu.%zu", round, i);
            memset(value, (int)(round * COUNT + i), sizes[i]);
            add(memtable, key, bytes_of(value, sizes[i]), ++sequence);
        }
    }
    for (size_t i = 0; i < 5 * (size_t)COUNT; i++) {
        char text[32];
        snprintf(text, sizeof text, "%zu.%zu", i / COUNT, i % COUNT);
        struct bytes key = bytes_of_string(text);
        struct entry entry;
        assert_true(
            memtable_get(memtable, key, key_hash(key), sequence, &entry));
        memset(value, (int)i, sizes[i % COUNT]);
        assert_true(
            bytes_equal(entry.value, bytes_of(value, sizes[i % COUNT])));
    }
    free(value);
    memtable_unref(memtable);
}

static void too_large_entries_change_nothing(void **state)
{
    (void)state;
    struct memtable *memtable = memtable_new(4096, 1, NULL, NULL);
    assert_non_null(memtable);
    size_t bytes = memtable_bytes(memtable);
    uint8_t *key = calloc(1, 1 << 16);
    assert_non_null(key);
    struct entry entry = {.key = bytes_of(key, 1 << 16), .sequence = 1};
    assert_int_equal(memtable_add(memtable, &entry), STATUS_TOO_LARGE);
    entry.key.size = 1;
    entry.value = bytes_of(key, (size_t)UINT32_MAX + 1);
    assert_int_equal(memtable_add(memtable, &entry), STATUS_TOO_LARGE);
    assert_int_equal(memtable_count(memtable), 0);
    assert_int_equal(memtable_bytes(memtable), bytes);
    assert_null(memtable_seek(memtable, bytes_of("", 0), 9));
    free(key);
    memtable_unref(memtable);
}

static void it_counts_what_was_added(void **state)
{
    (void)state;
    struct memtable *memtable = memtable_new(1 << 20, 42, NULL, NULL);
    assert_non_null(memtable);
    assert_int_equal(memtable_log(memtable), 42);
    assert_int_equal(memtable_last_sequence(memtable), 0);
    size_t bytes = memtable_bytes(memtable);
    assert_true(bytes < 1024);
    uint8_t value[1000] = {0};
    for (uint64_t i = 1; i <= 100; i++) {
        char key[32];
        snprintf(key, sizeof key, "%u", (unsigned)i % 50);
        add(memtable, key, bytes_of(value, sizeof value), 10 + i);
    }
    assert_int_equal(memtable_count(memtable), 100);
    assert_int_equal(memtable_last_sequence(memtable), 110);
    bytes = memtable_bytes(memtable) - bytes;
    assert_true(bytes > 100000 && bytes < 110000);
    memtable_unref(memtable);
}

static void it_lives_until_the_last_reference_goes(void **state)
{
    (void)state;
    struct memtable *memtable = memtable_new(4096, 1, NULL, NULL);
    assert_non_null(memtable);
    add(memtable, "k", bytes_of("v", 1), 1);
    memtable_ref(memtable);
    memtable_unref(memtable);
    assert_non_null(memtable_seek(memtable, bytes_of("k", 1), 1));
    memtable_unref(memtable);
    memtable_unref(NULL);
}

/* --- readers beside the writer --- */

/* Entry s is the version s of key number s % keys, scrambled. */
struct shared {
    struct memtable *memtable;
    uint64_t keys, entries;
    size_t prefix;
    _Atomic uint64_t sequence; /* published */
};

static struct bytes shared_key(const struct shared *shared, uint64_t sequence,
                               uint8_t *key)
{
    uint64_t number = sequence % shared->keys * UINT64_C(0x9e3779b97f4a7c15);
    memset(key, 'p', shared->prefix);
    memcpy(key + shared->prefix, &number, sizeof number);
    return bytes_of(key, shared->prefix + sizeof number);
}

static void check_get(const struct shared *shared, uint64_t sequence,
                      uint64_t wanted)
{
    uint8_t memory[KEY_MAX];
    struct bytes key = shared_key(shared, wanted, memory);
    struct entry entry;
    assert_true(
        memtable_get(shared->memtable, key, key_hash(key), sequence, &entry));
    /* The newest version there was. */
    uint64_t newest = sequence - (sequence - wanted) % shared->keys;
    assert_int_equal(entry.sequence, newest);
    assert_memory_equal(entry.value.data, &newest, sizeof newest);
    assert_ptr_equal(memtable_seek(shared->memtable, key, sequence),
                     memtable_seek(shared->memtable, entry.key, newest));
}

static uint64_t keys_at(const struct shared *shared, uint64_t sequence)
{
    return sequence < shared->keys ? sequence : shared->keys;
}

static void check_walk(const struct shared *shared, uint64_t sequence)
{
    struct bytes last = {0};
    uint64_t count = 0;
    const struct memtable_node *node =
        memtable_seek(shared->memtable, last, sequence);
    for (; node != NULL; node = memtable_next(node, sequence), count++) {
        struct entry entry = memtable_entry(node);
        assert_true(count == 0 || bytes_compare(last, entry.key) < 0);
        assert_true(entry.sequence <= sequence &&
                    entry.sequence + shared->keys > sequence);
        last = entry.key;
    }
    assert_int_equal(count, keys_at(shared, sequence));
}

static void check_walk_back(const struct shared *shared, uint64_t sequence)
{
    struct bytes last = {0};
    uint64_t count = 0;
    const struct memtable_node *node;
    while ((node = memtable_seek_before(shared->memtable, last, sequence)) !=
           NULL) {
        struct entry entry = memtable_entry(node);
        assert_true(count == 0 || bytes_compare(last, entry.key) > 0);
        assert_true(entry.sequence <= sequence &&
                    entry.sequence + shared->keys > sequence);
        last = entry.key;
        count++;
    }
    assert_int_equal(count, keys_at(shared, sequence));
}

static void *read_while_written(void *context)
{
    const struct shared *shared = context;
    uint64_t random = 1, sequence;
    do {
        sequence =
            atomic_load_explicit(&shared->sequence, memory_order_acquire);
        for (unsigned i = 0; sequence > 0 && i < 20; i++) {
            uint64_t back = random_next(&random) % keys_at(shared, sequence);
            check_get(shared, sequence, sequence - back);
        }
        if (random_next(&random) % 2 == 0)
            check_walk(shared, sequence);
        else
            check_walk_back(shared, sequence);
    } while (sequence < shared->entries);
    return NULL;
}

static void write_beside_readers(uint64_t keys, uint64_t entries, size_t prefix)
{
    struct shared shared = {
        .memtable = memtable_new(1 << 20, 1, NULL, NULL),
        .keys = keys,
        .entries = entries,
        .prefix = prefix,
    };
    assert_non_null(shared.memtable);
    pthread_t readers[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            pthread_create(&readers[i], NULL, read_while_written, &shared), 0);
    for (uint64_t sequence = 1; sequence <= entries; sequence++) {
        uint8_t key[KEY_MAX];
        struct entry entry = {
            .key = shared_key(&shared, sequence, key),
            .value = bytes_of(&sequence, sizeof sequence),
            .sequence = sequence,
        };
        assert_int_equal(memtable_add(shared.memtable, &entry), STATUS_OK);
        atomic_store_explicit(&shared.sequence, sequence, memory_order_release);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    memtable_unref(shared.memtable);
}

static void readers_see_all_that_was_published(void **state)
{
    (void)state;
    write_beside_readers(3000, 10000, 0);
    write_beside_readers(3000, 10000, 23);
    write_beside_readers(1, 3000, 0);
    /* Many short ones, for the moment in which the keys' prefix is learned. */
    for (unsigned i = 0; i < 200; i++)
        write_beside_readers(150, 200, i % 2 * 23);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_a_list),
        cmocka_unit_test(keys_that_share_less_than_the_first_are_found),
        cmocka_unit_test(ascending_and_descending_keys_stay_in_order),
        cmocka_unit_test(values_of_any_size_come_back),
        cmocka_unit_test(too_large_entries_change_nothing),
        cmocka_unit_test(it_counts_what_was_added),
        cmocka_unit_test(it_lives_until_the_last_reference_goes),
        cmocka_unit_test(readers_see_all_that_was_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
