/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

#include <stdio.h>

#include "proto/assert.h"
#include "proxy/core/hash_tree.h"

/* The hash trees of one node beside writes, with a disk that shows a scan what
 * it holds long before the node hears of it. */

enum { PARTITIONS = 3, KEYS = 40, REBUILD_MS = 1000 };

static struct fixture f;
static uint64_t seed, token;

/* A scan that was shown something and has not been heard of. */
static struct {
    bool is_shown;
    struct waiting_op waiting;
    struct storage_result result;
    struct arena arena;
} scan;

static int opened(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    f.config.founding.partitions = PARTITIONS;
    f.config.limits.list_bytes_max = 600; /* a few rows a chunk */
    f.config.timeouts.tree_rebuild_ms = REBUILD_MS;
    f.with_trees = true;
    arena_init(&scan.arena, 64 << 20);
    scan.is_shown = false;
    token = 1;
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&f);
    arena_fini(&scan.arena);
    return 0;
}

static unsigned draw(unsigned below)
{
    seed = seed * UINT64_C(6364136223846793005) + 1;
    return (unsigned)(seed >> 33) % below;
}

static bool is_of_trees(const struct waiting_op *waiting)
{
    return request_owner_of(waiting->op.token) == OWNER_TREES;
}

static void store(int64_t now_ms)
{
    char key[16];
    snprintf(key, sizeof key, "k%u", draw(KEYS));
    token++;
    peer(&f, now_ms, 2, token, RKV__ENVELOPE__BODY_STORE,
         store_of(&f, key, record_of(&f, 2, token, "v")));
}

static struct bytes kept(struct bytes bytes)
{
    void *copy = arena_copy(&scan.arena, bytes.data, bytes.size);
    assert_non_null(copy);
    return bytes_of(copy, bytes.size);
}

/* The disk runs the scan that waits, if one does; the node will hear later. */
static void show(void)
{
    size_t at = 0;
    while (at < f.op_count && !is_of_trees(&f.ops[at]))
        at++;
    if (at == f.op_count || scan.is_shown)
        return;
    scan.is_shown = true;
    scan.waiting = f.ops[at];
    memmove(f.ops + at, f.ops + at + 1, (--f.op_count - at) * sizeof *f.ops);
    arena_reset(&scan.arena);
    toy_run(&f.toy, &scan.waiting.op, &scan.result);
    struct storage_row *rows =
        arena_alloc(&scan.arena, (scan.result.row_count + 1) * sizeof *rows);
    for (size_t i = 0; i < scan.result.row_count; i++) {
        rows[i] = scan.result.rows[i];
        rows[i].key.key = kept(rows[i].key.key);
        rows[i].record = kept(rows[i].record);
    }
    scan.result.rows = rows;
    scan.result.next = kept(scan.result.next);
}

static bool is_write_next(bool prepared)
{
    return f.op_count > 0 && !is_of_trees(&f.ops[0]) &&
           (f.ops[0].prepared || !prepared);
}

/* As the storage promises: after all that it may show. */
static void hear(int64_t now_ms, enum status status)
{
    if (!scan.is_shown)
        return;
    while (is_write_next(true))
        disk_one(&f, now_ms);
    scan.is_shown = false;
    scan.result.op = &scan.waiting.op;
    scan.result.status = status;
    step(&f, now_ms,
         &(struct event){.kind = EVENT_STORED, .storage = &scan.result},
         "scanned");
    buffer_fini(&scan.waiting.key);
    buffer_fini(&scan.waiting.after);
}

/* What the toy's copy of the partition hashes to. */
static uint64_t truth(uint16_t partition)
{
    struct storage_op op = {
        .kind = STORAGE_SCAN,
        .key = {.table = TABLE_DATA, .partition = {partition}},
        .bytes_max = UINT32_MAX};
    struct storage_result result;
    uint64_t root = 0;
    struct arena scratch;
    arena_init(&scratch, 1 << 20);
    toy_run(&f.toy, &op, &result);
    for (size_t i = 0; i < result.row_count; i++) {
        const struct storage_row *row = &result.rows[i];
        struct record record;
        if (record_decode(row->record, &scratch, &record) == STATUS_OK)
            root ^= hash_tree_worth(key_hash(row->key.bucket, row->key.key),
                                    record_version(row->record));
    }
    arena_fini(&scratch);
    return root;
}

static void expect_true_trees(void)
{
    for (uint16_t p = 0; p < PARTITIONS; p++) {
        uint64_t root = 1;
        assert_true(node_tree_root(f.node, (struct partition){p}, &root));
        assert_int_equal(root, truth(p));
    }
}

/* Whatever is known is true once no write is under way. */
static void expect_what_is_known(void)
{
    uint64_t root;
    for (size_t i = 0; i < f.op_count; i++)
        if (!is_of_trees(&f.ops[i]))
            return;
    for (uint16_t p = 0; p < PARTITIONS; p++)
        if (node_tree_root(f.node, (struct partition){p}, &root))
            assert_int_equal(root, truth(p));
}

static void something_happens(int64_t now_ms)
{
    switch (draw(8)) {
    case 0:
    case 1:
        store(now_ms);
        break;
    case 2:
        prepare(&f, now_ms);
        break;
    case 3:
    case 4:
        if (is_write_next(false))
            disk_one(&f, now_ms);
        break;
    case 5:
        show();
        break;
    case 6:
        hear(now_ms, draw(200) == 0 ? STATUS_IO : STATUS_OK);
        break;
    default:
        tick(&f, now_ms);
    }
    f.trace_size = 0;
    expect_what_is_known();
}

static void writes_beside_a_build_are_in_the_tree_once(void **state)
{
    (void)state;
    node_start(&f);
    for (seed = 1; token < 3500;)
        something_happens(f.now_ms + draw(3));
    /* However the last build went, it told no live tree wrong. */
    assert_int_equal(counter_of(&f, "trees_wrong"), 0);
    assert_in_range(counter_of(&f, "trees_built"), 2 * PARTITIONS, 100000);
    hear(f.now_ms, STATUS_OK);
    for (int i = 0; i < 10; i++) {
        disk(&f, f.now_ms);
        tick(&f, f.now_ms + REBUILD_MS);
        f.trace_size = 0;
    }
    disk(&f, f.now_ms);
    assert_int_equal(counter_of(&f, "trees_wrong"), 0);
    expect_true_trees();
}

/* What was asked so far is lost, and asked again. */
static void expect_nothing_is_known_until_it_is_read(void)
{
    uint64_t root;
    for (uint16_t p = 0; p < PARTITIONS; p++)
        assert_false(node_tree_root(f.node, (struct partition){p}, &root));
    f.with_trees = true;
    for (int64_t now_ms = 100000; now_ms < 800000; now_ms += 50000) {
        tick(&f, now_ms); /* what was asked is lost, and asked again */
        disk(&f, now_ms);
    }
    expect_true_trees();
}

static void nothing_is_known_before_the_engine_was_read(void **state)
{
    (void)state;
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "a");
    toy_put(&f.toy, &key, record_of(&f, 2, 1, "v"));
    f.with_trees = false;
    node_start(&f);
    expect_nothing_is_known_until_it_is_read();
    assert_true(truth(key.partition.value) != 0);
}

static void an_engine_that_failed_is_read_anew(void **state)
{
    (void)state;
    node_start(&f);
    tick(&f, 1);
    disk(&f, 1);
    expect_true_trees();
    f.with_trees = false;
    step(&f, 2, &(struct event){.kind = EVENT_REOPENED}, "reopened");
    expect_nothing_is_known_until_it_is_read();
    assert_int_equal(counter_of(&f, "trees_wrong"), 0);
}

/* What n1 knows, where the next start finds it. */
static void save(void)
{
    char name[SAVED_NAME_MAX];
    struct buffer saved = {0};
    for (size_t i = 0; i < node_saved_count(f.node); i++) {
        struct storage_key key = {.table = TABLE_META};
        assert_int_equal(node_save(f.node, i, &key.table, name, &saved),
                         STATUS_OK);
        key.key = bytes_of_string(name);
        toy_put(&f.toy, &key, buffer_bytes(&saved));
    }
    buffer_fini(&saved);
}

static struct storage_key key_of(enum table table, const char *name)
{
    return (struct storage_key){.table = table, .key = bytes_of_string(name)};
}

/* As replikvd does: what was saved is taken up once. */
static void start_again(bool takes_up)
{
    struct storage_key run = key_of(TABLE_META, META_TREES_OF_RUN);
    struct error error;
    uint64_t none = 0;
    size_t count = node_saved_count(f.node);
    node_free(f.node);
    f.config.self.run++;
    memcpy(&f.config.trees_of_run, toy_get(&f.toy, &run).data, sizeof none);
    if (takes_up)
        toy_put(&f.toy, &run, bytes_of(&none, sizeof none));
    assert_int_equal(node_new(&f.config, &f.node, &error), STATUS_OK);
    for (size_t i = 0; i + 1 < count; i++) {
        char name[SAVED_NAME_MAX];
        snprintf(name, sizeof name, "%zu", i);
        struct storage_key key = key_of(TABLE_TREES, name);
        node_restore(f.node, toy_get(&f.toy, &key));
    }
    tick(&f, 0);
    disk(&f, 0);
    tick(&f, 0);
}

static bool knows(uint16_t partition)
{
    uint64_t root;
    return node_tree_root(f.node, (struct partition){partition}, &root);
}

static void what_was_saved_is_true_for_the_next_start(void **state)
{
    (void)state;
    f.config.self.run = 7;
    f.config.founding.partitions = 100; /* two chunks */
    for (int i = 0; i < KEYS; i++) {
        char name[16];
        snprintf(name, sizeof name, "k%d", i);
        struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", name);
        toy_put(&f.toy, &key, record_of(&f, 2, 1, "v"));
    }
    node_start(&f);
    disk(&f, 1);
    save();
    start_again(true);
    disk(&f, 1);
    assert_int_equal(counter_of(&f, "trees_built"), 0);
    for (uint16_t p = 0; p < 100; p++) {
        uint64_t root;
        assert_true(node_tree_root(f.node, (struct partition){p}, &root));
        assert_int_equal(root, truth(p));
    }
    /* The engine is read when the first run would have read it. */
    tick(&f, REBUILD_MS - 10);
    disk(&f, REBUILD_MS - 10);
    assert_int_equal(counter_of(&f, "trees_built"), 0);
    tick(&f, REBUILD_MS + 1);
    disk(&f, REBUILD_MS + 1);
    assert_int_equal(counter_of(&f, "trees_built"), 100);
    /* The start after that finds none that is true. */
    f.with_trees = false;
    start_again(true);
    assert_false(knows(0) || knows(99));
}

static void what_was_saved_and_damaged_is_not_believed(void **state)
{
    (void)state;
    struct storage_key name = key_of(TABLE_TREES, "0");
    f.config.self.run = 7;
    node_start(&f);
    disk(&f, 1);
    save();
    struct bytes saved = toy_get(&f.toy, &name);
    uint8_t *copy = arena_copy(&f.arena, saved.data, saved.size);
    size_t size = saved.size;
    f.with_trees = false;
    copy[100] ^= 1;
    toy_put(&f.toy, &name, bytes_of(copy, size));
    start_again(false);
    assert_false(knows(0));
    copy[100] ^= 1;
    toy_put(&f.toy, &name, bytes_of(copy, size - 1));
    start_again(false);
    assert_false(knows(0));
    toy_put(&f.toy, &name, bytes_of(copy, size));
    start_again(false);
    assert_true(knows(0));
}

/* A write whose fate is not known, and one over a copy that was damaged. */
static void what_may_be_wrong_is_built_anew(void **state)
{
    (void)state;
    node_start(&f);
    disk(&f, 1);
    for (int damaged = 0; damaged < 2; damaged++) {
        f.with_trees = true;
        tick(&f, 2);
        disk(&f, 2);
        expect_true_trees();
        struct storage_op op = {.kind = STORAGE_MERGE,
                                .token = request_number(OWNER_HINT, 0),
                                .key =
                                    key_in(&f, TABLE_DATA, 0, "default", "a")};
        struct storage_result result = {.op = &op,
                                        .status =
                                            damaged ? STATUS_OK : STATUS_IO,
                                        .version_after = 1,
                                        .was_damaged = damaged};
        f.with_trees = false;
        step(&f, 3, &(struct event){.kind = EVENT_STORED, .storage = &result},
             "stored");
        assert_false(knows(op.key.partition.value));
        f.trace_size = 0;
    }
}

static void what_the_engine_lost_silently_is_seen(void **state)
{
    (void)state;
    struct storage_key key = key_in(&f, TABLE_DATA, 0, "default", "a");
    toy_put(&f.toy, &key, record_of(&f, 2, 1, "v"));
    node_start(&f);
    tick(&f, 1);
    disk(&f, 1);
    expect_true_trees();
    toy_put(&f.toy, &key, bytes_of_string("no record at all"));
    tick(&f, 2 + REBUILD_MS);
    disk(&f, 2 + REBUILD_MS);
    assert_int_equal(counter_of(&f, "trees_wrong"), 1);
    expect_true_trees();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            writes_beside_a_build_are_in_the_tree_once, opened, closed),
        cmocka_unit_test_setup_teardown(
            nothing_is_known_before_the_engine_was_read, opened, closed),
        cmocka_unit_test_setup_teardown(an_engine_that_failed_is_read_anew,
                                        opened, closed),
        cmocka_unit_test_setup_teardown(
            what_was_saved_is_true_for_the_next_start, opened, closed),
        cmocka_unit_test_setup_teardown(
            what_was_saved_and_damaged_is_not_believed, opened, closed),
        cmocka_unit_test_setup_teardown(what_may_be_wrong_is_built_anew, opened,
                                        closed),
        cmocka_unit_test_setup_teardown(what_the_engine_lost_silently_is_seen,
                                        opened, closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
