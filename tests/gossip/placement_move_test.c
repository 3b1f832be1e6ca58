/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "gossip/placement.h"

enum { Q = 64 };

/* node i is in zone i modulo zones */
static struct topology found(size_t nodes, size_t zones, uint32_t replicas)
{
    static struct placement_node founders[NODES_MAX];
    for (size_t i = 0; i < nodes; i++) {
        memset(&founders[i], 0, sizeof founders[i]);
        snprintf(founders[i].name, sizeof founders[i].name, "n%zu", i);
        snprintf(founders[i].zone, sizeof founders[i].zone, "z%zu", i % zones);
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

static void decree(struct topology *topology, enum decree_kind kind,
                   size_t node, bool lost)
{
    struct decree next = {
        .kind = kind, .lost = lost, .node = topology->nodes[node].id};
    struct error error;
    uint64_t epoch = topology->epoch;
    assert_int_equal(topology_decree(topology, &next, &error), STATUS_OK);
    assert_int_equal(topology->epoch, epoch + 1);
}

static void refused(struct topology *topology, enum decree_kind kind,
                    size_t node, bool lost, const char *why)
{
    struct decree next = {
        .kind = kind, .lost = lost, .node = topology->nodes[node].id};
    struct error error;
    uint64_t epoch = topology->epoch;
    assert_int_equal(topology_decree(topology, &next, &error), STATUS_INVALID);
    assert_string_equal(error.text, why);
    assert_int_equal(topology->epoch, epoch);
}

/* The owners of each partition, and those that it had before. */
static void owners_were(const struct topology *topology, size_t leaver,
                        const struct topology *before)
{
    struct node_id gone = topology->nodes[leaver].id;
    size_t replicas = topology_replica_count(topology);
    for (size_t p = 0; p < Q; p++) {
        assert_int_equal(topology_owner_count(topology, part(p)), replicas);
        assert_false(topology_owns(topology, part(p), gone));
        size_t kept = 0;
        for (size_t r = 0; r < replicas; r++) {
            struct node_id owner = topology_owner(topology, part(p), r);
            for (size_t other = 0; other < r; other++)
                assert_false(node_id_equal(
                    owner, topology_owner(topology, part(p), other)));
            kept += topology_owns(before, part(p), owner);
        }
        bool was_owner = topology_owns(before, part(p), gone);
        assert_int_equal(kept, replicas - was_owner);
        assert_int_equal(topology->changed[p], was_owner ? topology->epoch : 0);
    }
}

static size_t zones_of(const struct topology *topology, size_t p)
{
    unsigned seen = 0;
    for (size_t r = 0; r < topology_replica_count(topology); r++) {
        int node =
            topology_node(topology, topology_owner(topology, part(p), r));
        seen |= 1u << (topology->nodes[node].zone[1] - '0');
    }
    return (size_t)__builtin_popcount(seen);
}

static void both_own_what_moves(const struct topology *topology, size_t leaver,
                                const struct topology *before)
{
    for (size_t p = 0; p < Q; p++) {
        struct node_id leaving, coming;
        bool moves = topology_moves(topology, part(p), &leaving, &coming);
        assert_int_equal(
            moves, topology_owns(before, part(p), topology->nodes[leaver].id));
        assert_int_equal(topology_owner_count(topology, part(p)),
                         topology_replica_count(topology) + moves);
        if (!moves)
            continue;
        assert_true(node_id_equal(leaving, topology->nodes[leaver].id));
        assert_true(topology_owns(topology, part(p), leaving));
        assert_true(topology_owns(topology, part(p), coming));
        assert_false(topology_owns(before, part(p), coming));
        assert_true(
            node_id_equal(coming, topology_heir(topology, part(p), leaving)));
    }
}

static void a_node_leaves_in_three_steps(void **state)
{
    (void)state;
    for (size_t nodes = 2; nodes <= 7; nodes++)
        for (size_t zones = 1; zones <= 4; zones++)
            for (uint32_t replicas = 1; replicas < nodes; replicas++) {
                struct topology before = found(nodes, zones, replicas);
                struct topology topology = found(nodes, zones, replicas);
                decree(&topology, DECREE_LEAVE, 1, false);
                both_own_what_moves(&topology, 1, &before);
                assert_int_equal(topology_member_count(&topology), nodes);
                decree(&topology, DECREE_TURN, 1, false);
                both_own_what_moves(&topology, 1, &before);
                decree(&topology, DECREE_SETTLE, 1, false);
                owners_were(&topology, 1, &before);
                assert_int_equal(topology_member_count(&topology), nodes - 1);
                assert_false(topology_is_moving(&topology));
                topology_fini(&topology);
                topology_fini(&before);
            }
}

static void one_that_is_lost_has_its_place_taken_at_once(void **state)
{
    (void)state;
    struct topology before = found(5, 3, 3), topology = found(5, 3, 3);
    decree(&topology, DECREE_LEAVE, 2, true);
    owners_were(&topology, 2, &before);
    assert_int_equal(topology_member_count(&topology), 4);
    assert_true(topology_is_moving(&topology));
    decree(&topology, DECREE_SETTLE, 2, true);
    assert_false(topology_is_moving(&topology));
    topology_fini(&topology);
    topology_fini(&before);
}

/* With the heirs that it has. */
static void one_that_leaves_may_be_lost_on_its_way(void **state)
{
    (void)state;
    for (int turned = 0; turned <= 1; turned++) {
        struct topology before = found(5, 3, 3), topology = found(5, 3, 3);
        decree(&topology, DECREE_LEAVE, 2, false);
        if (turned)
            decree(&topology, DECREE_TURN, 2, false);
        struct topology moving;
        assert_int_equal(topology_copy(&topology, &moving), STATUS_OK);
        decree(&topology, DECREE_LEAVE, 2, true);
        owners_were(&topology, 2, &before);
        for (size_t p = 0; p < Q; p++) {
            struct node_id leaving, coming;
            if (topology_moves(&moving, part(p), &leaving, &coming))
                assert_true(topology_owns(&topology, part(p), coming));
        }
        char why[200];
        snprintf(why, sizeof why,
                 "node: %s leaves, and is not settled yet: one after the other",
                 topology.nodes[2].name);
        refused(&topology, DECREE_LEAVE, 2, true, why);
        decree(&topology, DECREE_SETTLE, 2, true);
        topology_fini(&topology);
        topology_fini(&moving);
        topology_fini(&before);
    }
}

static void heirs_are_spread_and_in_other_zones(void **state)
{
    (void)state;
    struct topology topology = found(6, 3, 3);
    size_t taken[6] = {0}, least = Q, most = 0;
    decree(&topology, DECREE_LEAVE, 0, true);
    for (size_t p = 0; p < Q; p++) {
        assert_int_equal(zones_of(&topology, p), 3);
        if (topology.heirs[0][p] != NO_NODE)
            taken[topology.heirs[0][p]]++;
    }
    topology_fini(&topology);
    /* Without zones all take as much. */
    topology = found(6, 1, 3);
    memset(taken, 0, sizeof taken);
    decree(&topology, DECREE_LEAVE, 0, true);
    for (size_t p = 0; p < Q; p++)
        for (size_t r = 0; r < 3; r++)
            taken[topology.owners[p * 3 + r]]++;
    for (size_t i = 1; i < 6; i++) {
        least = taken[i] < least ? taken[i] : least;
        most = taken[i] > most ? taken[i] : most;
    }
    assert_int_equal(taken[0], 0);
    assert_true(most - least <= 1);
    topology_fini(&topology);
}

/* What was kept for one that left goes to its heir's heir in the end. */
static void heirs_have_heirs(void **state)
{
    (void)state;
    struct topology topology = found(6, 1, 3);
    struct node_id first = topology.nodes[0].id, second = topology.nodes[1].id;
    decree(&topology, DECREE_LEAVE, 0, true);
    decree(&topology, DECREE_SETTLE, 0, true);
    size_t chains = 0;
    for (size_t p = 0; p < Q; p++)
        chains += topology.heirs[0][p] == 1;
    assert_true(chains > 0);
    decree(&topology, DECREE_LEAVE, 1, false);
    for (size_t p = 0; p < Q; p++) {
        struct node_id heir = topology_heir(&topology, part(p), first);
        assert_true(topology_owns(&topology, part(p), heir));
        assert_false(node_id_equal(heir, first));
        assert_false(node_id_equal(heir, second));
        struct node_id others[6];
        size_t count = topology_fallbacks(&topology, part(p), others, 6);
        for (size_t i = 0; i < count; i++) {
            assert_false(topology_leaves(&topology, others[i]));
            assert_false(topology_owns(&topology, part(p), others[i]));
        }
    }
    assert_true(
        node_id_equal(topology_heir(&topology, part(0), topology.nodes[3].id),
                      topology.nodes[3].id));
    topology_fini(&topology);
}

static void what_cannot_follow_is_refused(void **state)
{
    (void)state;
    struct error error;
    struct topology topology = found(5, 1, 3);
    struct decree stranger = {.kind = DECREE_LEAVE,
                              .node = node_id_of("test", "n9")};
    assert_int_equal(topology_decree(&topology, &stranger, &error),
                     STATUS_INVALID);
    assert_string_equal(error.text, "node: no node of the cluster has this id");
    refused(&topology, DECREE_TURN, 0, false, "decree: 2 does not follow 0");
    refused(&topology, DECREE_SETTLE, 0, false, "decree: 3 does not follow 0");
    decree(&topology, DECREE_LEAVE, 0, false);
    refused(&topology, DECREE_SETTLE, 0, false, "decree: 3 does not follow 1");
    refused(&topology, DECREE_TURN, 0, true, "decree: 2 does not follow 1");
    refused(&topology, DECREE_TURN, 1, false, "decree: 2 does not follow 1");
    char why[200];
    snprintf(why, sizeof why,
             "node: %s leaves, and is not settled yet: one after the other",
             topology.nodes[0].name);
    refused(&topology, DECREE_LEAVE, 1, false, why);
    refused(&topology, DECREE_LEAVE, 1, true, why);
    decree(&topology, DECREE_TURN, 0, false);
    decree(&topology, DECREE_SETTLE, 0, false);
    snprintf(why, sizeof why, "node: %s has left", topology.nodes[0].name);
    refused(&topology, DECREE_LEAVE, 0, true, why);
    decree(&topology, DECREE_LEAVE, 1, true);
    refused(&topology, DECREE_TURN, 1, true, "decree: 2 does not follow 1");
    decree(&topology, DECREE_SETTLE, 1, true);
    snprintf(why, sizeof why,
             "node: without %s there are 2 nodes, and each record has 3 "
             "replicas",
             topology.nodes[2].name);
    refused(&topology, DECREE_LEAVE, 2, false, why);
    topology_fini(&topology);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_leaves_in_three_steps),
        cmocka_unit_test(one_that_is_lost_has_its_place_taken_at_once),
        cmocka_unit_test(one_that_leaves_may_be_lost_on_its_way),
        cmocka_unit_test(heirs_are_spread_and_in_other_zones),
        cmocka_unit_test(heirs_have_heirs),
        cmocka_unit_test(what_cannot_follow_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
