/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "gossip/placement.h"

enum { Q = 64 };

/* node i is in zone i modulo zones */
static struct topology found(size_t nodes, size_t zones, uint32_t replicas,
                             bool backwards)
{
    static struct placement_node founders[NODES_MAX];
    for (size_t i = 0; i < nodes; i++) {
        struct placement_node *to = &founders[backwards ? nodes - 1 - i : i];
        memset(to, 0, sizeof *to);
        snprintf(to->name, sizeof to->name, "n%zu", i);
        snprintf(to->zone, sizeof to->zone, "z%zu", i % zones);
    }
    struct founding founding = {.cluster = "test",
                                .founders = founders,
                                .founder_count = nodes,
                                .partitions = Q,
                                .replicas = replicas};
    struct topology topology;
    struct error error;
    assert_int_equal(topology_found(&founding, &topology, &error), STATUS_OK);
    return topology;
}

static struct partition part(size_t value)
{
    return (struct partition){(uint16_t)value};
}

static void owners_are_distinct(const struct topology *topology)
{
    size_t owners = topology_replica_count(topology);
    for (size_t p = 0; p < Q; p++)
        for (size_t a = 0; a < owners; a++) {
            struct node_id id = topology_owner(topology, part(p), a);
            assert_true(topology_owns(topology, part(p), id));
            for (size_t b = 0; b < a; b++)
                assert_false(
                    node_id_equal(id, topology_owner(topology, part(p), b)));
        }
}

/* Every partition is in as many zones as there are owners, or all of them. */
static void owners_spread_over_zones(const struct topology *topology,
                                     size_t zones)
{
    size_t owners = topology_replica_count(topology);
    size_t wanted = owners < zones ? owners : zones;
    for (size_t p = 0; p < Q; p++) {
        unsigned seen = 0;
        for (size_t r = 0; r < owners; r++) {
            int node =
                topology_node(topology, topology_owner(topology, part(p), r));
            assert_true(node >= 0);
            seen |= 1u << (topology->nodes[node].zone[1] - '0');
        }
        assert_int_equal(__builtin_popcount(seen), wanted);
    }
}

/* Within a zone no node holds more than one partition more than another. */
static void loads_are_level(const struct topology *topology)
{
    size_t load[NODES_MAX] = {0};
    for (size_t p = 0; p < Q; p++)
        for (size_t r = 0; r < topology_replica_count(topology); r++)
            load[topology->owners[p * topology->replicas + r]]++;
    for (size_t a = 0; a < topology->node_count; a++)
        for (size_t b = 0; b < topology->node_count; b++)
            if (strcmp(topology->nodes[a].zone, topology->nodes[b].zone) == 0)
                assert_true(load[a] <= load[b] + 1);
}

static void every_claim_is_distinct_and_balanced(void **state)
{
    (void)state;
    for (size_t nodes = 1; nodes <= 9; nodes++)
        for (size_t zones = 1; zones <= 4; zones++)
            for (uint32_t replicas = 1; replicas <= 5; replicas++) {
                struct topology topology = found(nodes, zones, replicas, false);
                owners_are_distinct(&topology);
                owners_spread_over_zones(&topology,
                                         zones < nodes ? zones : nodes);
                loads_are_level(&topology);
                topology_fini(&topology);
            }
}

static void three_nodes_hold_everything(void **state)
{
    (void)state;
    struct topology topology = found(3, 1, 3, false);
    for (size_t p = 0; p < Q; p++)
        for (size_t i = 0; i < 3; i++)
            assert_true(
                topology_owns(&topology, part(p), topology.nodes[i].id));
    struct node_id none[1];
    assert_int_equal(topology_fallbacks(&topology, part(0), none, 1), 0);
    topology_fini(&topology);
}

static void fallbacks_are_all_the_others_once(void **state)
{
    (void)state;
    struct topology topology = found(5, 1, 3, false);
    bool first_differs = false;
    struct node_id first = {{0}};
    for (size_t p = 0; p < Q; p++) {
        struct node_id fallbacks[8];
        assert_int_equal(topology_fallbacks(&topology, part(p), fallbacks, 8),
                         2);
        assert_false(node_id_equal(fallbacks[0], fallbacks[1]));
        for (size_t i = 0; i < 2; i++)
            assert_false(topology_owns(&topology, part(p), fallbacks[i]));
        struct node_id one;
        assert_int_equal(topology_fallbacks(&topology, part(p), &one, 1), 1);
        assert_true(node_id_equal(one, fallbacks[0]));
        first_differs |= p > 0 && !node_id_equal(first, one);
        first = one;
    }
    assert_true(first_differs);
    topology_fini(&topology);
}

static void more_replicas_than_nodes_is_every_node(void **state)
{
    (void)state;
    struct topology topology = found(2, 1, 3, false);
    assert_int_equal(topology_replica_count(&topology), 2);
    owners_are_distinct(&topology);
    assert_int_equal(topology_node(&topology, node_id_of("test", "n9")), -1);
    topology_fini(&topology);
}

static void order_of_founders_does_not_matter(void **state)
{
    (void)state;
    struct topology a = found(7, 3, 3, false), b = found(7, 3, 3, true);
    assert_true(a.cluster_id == b.cluster_id);
    assert_memory_equal(a.owners, b.owners, Q * 3 * sizeof *a.owners);
    struct topology zones = found(7, 2, 3, false);
    struct topology copies = found(7, 3, 2, false);
    assert_true(zones.cluster_id != a.cluster_id);
    assert_true(copies.cluster_id != a.cluster_id);
    topology_fini(&a);
    topology_fini(&b);
    topology_fini(&zones);
    topology_fini(&copies);
}

static void impossible_foundings_are_refused(void **state)
{
    (void)state;
    struct placement_node two[2] = {{.name = "a"}, {.name = "a"}};
    const struct {
        size_t nodes;
        uint32_t partitions, replicas;
    } rows[] = {{2, 16, 3}, {0, 16, 3},  {1, 0, 1}, {1, PARTITIONS_MAX + 1, 1},
                {1, 16, 0}, {1, 16, 17}, {2, 1, 1}, {NODES_MAX + 1, 16, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct founding founding = {"c", two, rows[i].nodes, rows[i].partitions,
                                    rows[i].replicas};
        struct topology topology;
        struct error error = {0};
        assert_int_equal(topology_found(&founding, &topology, &error),
                         STATUS_INVALID);
        assert_true(error.text[0] != '\0');
        topology_fini(&topology);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_claim_is_distinct_and_balanced),
        cmocka_unit_test(three_nodes_hold_everything),
        cmocka_unit_test(fallbacks_are_all_the_others_once),
        cmocka_unit_test(more_replicas_than_nodes_is_every_node),
        cmocka_unit_test(order_of_founders_does_not_matter),
        cmocka_unit_test(impossible_foundings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
