/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/ids.h"
#include "proxy/core/hash_tree.h"

static uint64_t hash_of(uint64_t number)
{
    return key_hash((struct bucket_id){1}, bytes_of(&number, sizeof number));
}

static void add(struct hash_tree *tree, uint64_t number, uint64_t version)
{
    uint64_t hash = hash_of(number);
    hash_tree_add(tree, hash, hash_tree_worth(hash, version));
}

static void the_order_of_writes_does_not_matter(void **state)
{
    (void)state;
    struct hash_tree a = {{0}}, b = {{0}};
    for (uint64_t i = 0; i < 1000; i++) {
        add(&a, i, i + 1);
        add(&b, 999 - i, 1000 - i);
    }
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_not_equal(hash_tree_node(&a, 0, 0), 0);
}

static void what_is_written_over_leaves_no_trace(void **state)
{
    (void)state;
    struct hash_tree tree = {{0}}, empty = {{0}};
    for (uint64_t i = 0; i < 100; i++)
        add(&tree, i, 7);
    for (uint64_t i = 0; i < 100; i++)
        add(&tree, i, 7);
    assert_memory_equal(&tree, &empty, sizeof tree);
    assert_int_equal(hash_tree_worth(hash_of(1), 0), 0);
}

static void a_node_is_the_xor_of_its_children(void **state)
{
    (void)state;
    struct hash_tree tree = {{0}};
    for (uint64_t i = 0; i < 5000; i++)
        add(&tree, i, 1);
    unsigned nodes = 1;
    for (unsigned level = 0; level < TREE_LEVELS; level++) {
        for (unsigned i = 0; i < nodes; i++) {
            uint64_t children = 0;
            for (unsigned k = 0; k < TREE_FANOUT; k++)
                children ^=
                    hash_tree_node(&tree, level + 1, i * TREE_FANOUT + k);
            assert_int_equal(hash_tree_node(&tree, level, i), children);
        }
        nodes *= TREE_FANOUT;
    }
}

/* One record that differs changes one node of each level. */
static void a_difference_is_found_from_the_root_down(void **state)
{
    (void)state;
    struct hash_tree a = {{0}}, b = {{0}};
    for (uint64_t i = 0; i < 5000; i++) {
        add(&a, i, 1);
        add(&b, i, i == 1234 ? 2 : 1);
    }
    unsigned nodes = 1;
    for (unsigned level = 0; level <= TREE_LEVELS; level++) {
        unsigned differ = 0;
        for (unsigned i = 0; i < nodes; i++)
            differ +=
                hash_tree_node(&a, level, i) != hash_tree_node(&b, level, i);
        assert_int_equal(differ, 1);
        nodes *= TREE_FANOUT;
    }
    unsigned leaf = hash_tree_leaf(hash_of(1234));
    assert_true(a.leaves[leaf] != b.leaves[leaf]);
}

/* Of one partition, too, whose keys share a remainder. */
static void the_keys_of_a_partition_fall_into_all_leaves(void **state)
{
    (void)state;
    static const uint32_t partitions[] = {1, 7, 64, 256, 1000};
    for (size_t p = 0; p < sizeof partitions / sizeof *partitions; p++) {
        unsigned keys[TREE_LEAVES] = {0};
        uint64_t count = 0;
        for (uint64_t i = 0; count < 16 * TREE_LEAVES; i++) {
            if (hash_of(i) % partitions[p] != 0)
                continue;
            keys[hash_tree_leaf(hash_of(i))]++;
            count++;
        }
        for (unsigned i = 0; i < TREE_LEAVES; i++)
            assert_in_range(keys[i], 1, 50);
    }
}

static void a_set_has_what_was_added(void **state)
{
    (void)state;
    struct leaf_set set = {{0}};
    for (unsigned i = 0; i < TREE_LEAVES; i += 3)
        leaf_set_add(&set, i);
    for (unsigned i = 0; i < TREE_LEAVES; i++)
        assert_int_equal(leaf_set_has(&set, i), i % 3 == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_writes_does_not_matter),
        cmocka_unit_test(what_is_written_over_leaves_no_trace),
        cmocka_unit_test(a_node_is_the_xor_of_its_children),
        cmocka_unit_test(a_difference_is_found_from_the_root_down),
        cmocka_unit_test(the_keys_of_a_partition_fall_into_all_leaves),
        cmocka_unit_test(a_set_has_what_was_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
