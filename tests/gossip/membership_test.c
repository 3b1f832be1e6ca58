/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "network.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND };

static int setup(void **state)
{
    struct network *n = malloc(sizeof *n);
    if (n == NULL)
        return 1;
    network_init(n, 1);
    *state = n;
    return 0;
}

static int teardown(void **state)
{
    network_fini(*state);
    free(*state);
    return 0;
}

static void start_all(struct network *n, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct member self = network_member(i);
        network_start(n, i, &self);
    }
}

static bool all_alive(struct network *n, size_t count, int64_t within_ms)
{
    for (size_t i = 0; i < count; i++)
        if (!network_agrees(n, i, MEMBER_ALIVE, within_ms))
            return false;
    return true;
}

static void form(struct network *n, size_t count)
{
    start_all(n, count);
    assert_true(all_alive(n, count, 10 * SECOND));
    network_run(n, MINUTE);
    n->trace_length = 0;
    n->trace[0] = '\0';
}

static const struct membership_counters *counters(const struct network *n,
                                                  size_t index)
{
    return membership_counters(n->nodes[index].membership);
}

static const struct member *view(const struct network *n, size_t of,
                                 size_t about)
{
    return membership_find(n->nodes[of].membership, network_member(about).id);
}

/* The place in the trace where the text next occurs, or failure. */
static const char *expect(const char *trace, const char *text)
{
    const char *found = strstr(trace, text);
    if (found == NULL)
        print_error("no \"%s\" in:\n%s\n", text, trace);
    assert_non_null(found);
    return found;
}

static void all_meet_through_one_seed(void **state)
{
    struct network *n = *state;
    start_all(n, 8);
    assert_true(all_alive(n, 8, 10 * SECOND));
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(membership_count(n->nodes[i].membership), 8);
        assert_string_equal(view(n, i, 7)->client_address, "client:7");
        assert_true(membership_is_reachable(n->nodes[i].membership,
                                            network_member(3).id));
    }
}

static void nobody_is_suspected_while_all_answer(void **state)
{
    struct network *n = *state;
    form(n, 8);
    network_run(n, 5 * MINUTE);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(counters(n, i)->suspicions, 0);
        assert_int_equal(counters(n, i)->probe_failures, 0);
        assert_true(counters(n, i)->probes > 300);
    }
    assert_string_equal(n->trace, "");
}

static void a_seed_may_come_last(void **state)
{
    struct network *n = *state;
    for (size_t i = 1; i < 4; i++) {
        struct member self = network_member(i);
        network_start(n, i, &self);
    }
    network_run(n, 20 * SECOND);
    assert_int_equal(network_view(n, 1, 2), -1);
    struct member seed = network_member(0);
    network_start(n, 0, &seed);
    assert_true(all_alive(n, 4, 10 * SECOND));
}

static void silent_node_becomes_suspect_then_dead(void **state)
{
    struct network *n = *state;
    form(n, 5);
    network_kill(n, 3);
    assert_true(network_agrees(n, 3, MEMBER_DEAD, MINUTE));
    for (size_t i = 0; i < 5; i++) {
        if (i == 3)
            continue;
        char text[64];
        snprintf(text, sizeof text, "n%zu: n3 alive -> suspect\n", i);
        const char *at = expect(n->trace, text);
        snprintf(text, sizeof text, "n%zu: n3 suspect -> dead\n", i);
        expect(at, text);
        assert_false(membership_is_reachable(n->nodes[i].membership,
                                             network_member(3).id));
        assert_int_equal(counters(n, i)->deaths, 1);
    }
    assert_true(all_alive(n, 3, 0));
    assert_int_equal(network_view(n, 0, 4), MEMBER_ALIVE);
}

/* From the first doubt of one about the other to its certainty. */
static int64_t suspicion_ms(struct network *n, size_t of, size_t about)
{
    while (network_view(n, of, about) == MEMBER_ALIVE)
        network_run(n, 10);
    int64_t start_ms = n->now_ms;
    while (network_view(n, of, about) == MEMBER_SUSPECT)
        network_run(n, 10);
    assert_int_equal(network_view(n, of, about), MEMBER_DEAD);
    return n->now_ms - start_ms;
}

/* Four probe intervals where another confirms, six times that where nobody
 * does: a node that is cut off itself is slow to bury the rest. */
static void confirmations_shorten_suspicion(void **state)
{
    struct network *n = *state;
    form(n, 3);
    network_kill(n, 2);
    int64_t confirmed_ms = suspicion_ms(n, 0, 2);
    assert_true(confirmed_ms >= 4 * SECOND && confirmed_ms < 12 * SECOND);
    struct member again = network_member(2);
    again.boot = 2;
    network_start(n, 2, &again);
    assert_true(all_alive(n, 3, 10 * SECOND));
    network_isolate(n, 1, true);
    assert_true(suspicion_ms(n, 1, 0) > 20 * SECOND);
}

static void a_cluster_of_two_notices_too(void **state)
{
    struct network *n = *state;
    form(n, 2);
    network_kill(n, 1);
    assert_true(network_agrees(n, 1, MEMBER_DEAD, 20 * SECOND));
}

static void indirect_probe_saves_a_node_with_a_cut_link(void **state)
{
    struct network *n = *state;
    form(n, 4);
    n->cut[1][2] = n->cut[2][1] = true;
    network_run(n, 3 * MINUTE);
    assert_true(counters(n, 1)->indirect_probes > 0);
    assert_int_equal(counters(n, 1)->probe_failures, 0);
    assert_string_equal(n->trace, "");
}

/* Cut off long enough to be doubted, not long enough to be buried. */
static void suspect_refutes_with_higher_incarnation(void **state)
{
    struct network *n = *state;
    form(n, 4);
    uint32_t before = view(n, 0, 2)->incarnation;
    network_isolate(n, 2, true);
    for (int i = 0; i < 100 && network_view(n, 0, 2) == MEMBER_ALIVE; i++)
        network_run(n, 100);
    assert_int_equal(network_view(n, 0, 2), MEMBER_SUSPECT);
    network_isolate(n, 2, false);
    assert_true(network_agrees(n, 2, MEMBER_ALIVE, 10 * SECOND));
    assert_true(view(n, 0, 2)->incarnation > before);
    assert_true(counters(n, 2)->refutations > 0);
    assert_int_equal(counters(n, 0)->deaths, 0);
    expect(expect(n->trace, "n0: n2 alive -> suspect\n"),
           "n0: n2 suspect -> alive\n");
}

static void leaving_is_seen_as_left(void **state)
{
    struct network *n = *state;
    form(n, 5);
    network_leave(n, 2);
    assert_true(network_agrees(n, 2, MEMBER_LEFT, 5 * SECOND));
    network_kill(n, 2);
    network_run(n, 2 * MINUTE);
    assert_true(network_agrees(n, 2, MEMBER_LEFT, 0));
    for (size_t i = 0; i < 5; i++)
        if (i != 2)
            assert_int_equal(counters(n, i)->suspicions, 0);
    struct member again = network_member(2);
    again.boot = 2;
    network_start(n, 2, &again);
    assert_true(network_agrees(n, 2, MEMBER_ALIVE, 10 * SECOND));
}

static void restarted_node_returns_with_its_new_boot(void **state)
{
    struct network *n = *state;
    form(n, 4);
    network_kill(n, 1);
    assert_true(network_agrees(n, 1, MEMBER_DEAD, MINUTE));
    struct member again = network_member(1);
    again.boot = 2;
    snprintf(again.peer_address, sizeof again.peer_address, "moved:1");
    network_start(n, 1, &again);
    assert_true(network_agrees(n, 1, MEMBER_ALIVE, 10 * SECOND));
    network_run(n, 10 * SECOND);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(view(n, i, 1)->boot, 2);
        assert_string_equal(view(n, i, 1)->peer_address, "moved:1");
        assert_int_equal(counters(n, i)->false_deaths, 0);
    }
}

static void push_pull_heals_a_split(void **state)
{
    struct network *n = *state;
    form(n, 6);
    for (size_t a = 0; a < 3; a++)
        for (size_t b = 3; b < 6; b++)
            n->cut[a][b] = n->cut[b][a] = true;
    network_run(n, 5 * MINUTE);
    for (size_t a = 0; a < 3; a++)
        for (size_t b = 3; b < 6; b++) {
            assert_int_equal(network_view(n, a, b), MEMBER_DEAD);
            assert_int_equal(network_view(n, b, a), MEMBER_DEAD);
        }
    memset(n->cut, 0, sizeof n->cut);
    assert_true(all_alive(n, 6, 2 * MINUTE));
    assert_true(counters(n, 0)->false_deaths > 0);
    network_run(n, MINUTE);
    assert_true(all_alive(n, 6, 0));
}

static enum status check(const struct network *n, const struct member *member,
                         enum replaced replaced)
{
    struct error error = {0};
    struct disk_claim claim = {.replaced = replaced};
    enum status status =
        membership_check(n->nodes[0].membership, member, &claim, &error);
    assert_true(status == STATUS_OK || strstr(error.text, "n2") != NULL);
    return status;
}

static void wiped_and_older_disks_are_refused_until_replaced(void **state)
{
    struct network *n = *state;
    start_all(n, 2);
    struct member first = network_member(2);
    first.boot = 5;
    network_start(n, 2, &first);
    assert_true(all_alive(n, 3, 10 * SECOND));
    network_kill(n, 2);

    struct member next = first, wiped = first, older = first;
    next.boot = 6;
    wiped.store.bytes[0] = 99;
    wiped.boot = 1;
    older.boot = 4;
    assert_int_equal(check(n, &first, REPLACED_NEVER), STATUS_OK);
    assert_int_equal(check(n, &next, REPLACED_NEVER), STATUS_OK);
    assert_int_equal(check(n, &wiped, REPLACED_NEVER), STATUS_REFUSED);
    assert_int_equal(check(n, &older, REPLACED_NEVER), STATUS_REFUSED);
    assert_int_equal(check(n, &wiped, REPLACED_NOW), STATUS_OK);
    assert_int_equal(check(n, &older, REPLACED_NOW), STATUS_OK);
    /* A disk that was itself replaced is no newer for having replaced one. */
    assert_int_equal(check(n, &wiped, REPLACED_BEFORE), STATUS_REFUSED);
    assert_int_equal(check(n, &older, REPLACED_BEFORE), STATUS_REFUSED);
    wiped.boot = first.boot;
    assert_int_equal(check(n, &wiped, REPLACED_BEFORE), STATUS_REFUSED);
    wiped.boot = first.boot + 1;
    assert_int_equal(check(n, &wiped, REPLACED_BEFORE), STATUS_OK);
    wiped.boot = 1;

    network_start(n, 2, &wiped);
    network_run(n, 2 * MINUTE);
    assert_true(n->refused > 0);
    assert_int_equal(network_view(n, 0, 2), MEMBER_DEAD);
    assert_int_equal(network_view(n, 1, 2), MEMBER_DEAD);

    n->nodes[2].claim.replaced = REPLACED_NOW;
    network_start(n, 2, &wiped);
    assert_true(network_agrees(n, 2, MEMBER_ALIVE, 10 * SECOND));
    network_run(n, 10 * SECOND);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(view(n, i, 2)->store.bytes[0], 99);
        assert_int_equal(view(n, i, 2)->boot, 1);
    }
    /* Now the first disk is the one that is not known. */
    assert_int_equal(check(n, &next, REPLACED_NEVER), STATUS_REFUSED);
}

static void copy_from_before_the_last_start_is_refused(void **state)
{
    struct network *n = *state;
    start_all(n, 2);
    struct member first = network_member(2);
    first.boot = 5;
    first.run = 1;
    network_start(n, 2, &first);
    assert_true(all_alive(n, 3, 10 * SECOND));
    network_kill(n, 2);

    struct member copy = first, next = first;
    copy.run = 2;
    next.run = 3;
    next.boot = 6;
    assert_int_equal(check(n, &first, REPLACED_NEVER), STATUS_OK);
    assert_int_equal(check(n, &next, REPLACED_NEVER), STATUS_OK);
    assert_int_equal(check(n, &copy, REPLACED_NEVER), STATUS_REFUSED);
    assert_int_equal(check(n, &copy, REPLACED_NOW), STATUS_OK);

    /* Started again and again, where nobody saw it, it is above the boot. */
    struct disk_claim claim = {.replaced = REPLACED_NEVER};
    struct error error;
    copy.boot = 7;
    copy.run = 4;
    disk_starts_add(&claim.starts, 4, 9);
    for (uint64_t boot = 5; boot <= copy.boot; boot++)
        disk_starts_add(&claim.starts, boot, boot - 3);
    const struct membership *one = n->nodes[0].membership;
    assert_int_equal(membership_check(one, &copy, &claim, &error),
                     STATUS_REFUSED);
    assert_non_null(strstr(error.text, "another run for boot 5"));
    claim.replaced = REPLACED_BEFORE;
    assert_int_equal(membership_check(one, &copy, &claim, &error),
                     STATUS_REFUSED);
    /* The disk itself says of boot 5 what was seen. */
    disk_starts_add(&claim.starts, 5, 1);
    disk_starts_add(&claim.starts, 7, 4);
    assert_int_equal(membership_check(one, &copy, &claim, &error), STATUS_OK);
    copy.boot = 5;
    copy.run = 2;

    n->nodes[2].claim.replaced = REPLACED_NOW;
    network_start(n, 2, &copy);
    assert_true(network_agrees(n, 2, MEMBER_ALIVE, 10 * SECOND));
    network_run(n, MINUTE);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(view(n, i, 2)->run, 2);
    /* It was met, not argued about with whoever remembers the other run. */
    assert_true(view(n, 0, 2)->incarnation < 10);
    assert_int_equal(check(n, &first, REPLACED_NEVER), STATUS_REFUSED);
}

static void taken_name_is_refused_even_to_replace(void **state)
{
    struct network *n = *state;
    form(n, 3);
    struct member thief = network_member(2);
    thief.store.bytes[0] = 99;
    snprintf(thief.peer_address, sizeof thief.peer_address, "elsewhere");
    assert_int_equal(check(n, &thief, REPLACED_NEVER), STATUS_REFUSED);
    assert_int_equal(check(n, &thief, REPLACED_NOW), STATUS_REFUSED);
    network_kill(n, 2);
    assert_true(network_agrees(n, 2, MEMBER_DEAD, MINUTE));
    assert_int_equal(check(n, &thief, REPLACED_NEVER), STATUS_REFUSED);
    assert_int_equal(check(n, &thief, REPLACED_NOW), STATUS_OK);
}

static void remembered_disk_protects_after_our_own_restart(void **state)
{
    struct network *n = *state;
    struct member self = network_member(0), other = network_member(2);
    network_start(n, 0, &self);
    other.boot = 7;
    other.incarnation = 3;
    membership_remember(n->nodes[0].membership, &other);
    assert_int_equal(network_view(n, 0, 2), MEMBER_DEAD);
    struct member older = other;
    older.boot = 6;
    assert_int_equal(check(n, &older, REPLACED_NEVER), STATUS_REFUSED);
    /* A memory is no opinion: the first word of it, even with a lower
     * incarnation, is believed, and nobody else is told of its death. */
    struct member again = network_member(2), third = network_member(1);
    again.boot = 8;
    network_start(n, 1, &third);
    network_run(n, 10 * SECOND);
    assert_int_equal(network_view(n, 1, 2), -1);
    network_start(n, 2, &again);
    assert_true(all_alive(n, 3, 10 * SECOND));
    assert_int_equal(view(n, 0, 2)->boot, 8);
}

static void other_topics_reach_everybody_once(void **state)
{
    struct network *n = *state;
    form(n, 6);
    assert_int_equal(
        broadcast_offer(membership_broadcast(n->nodes[4].membership), "buckets",
                        bytes_of_string("k"), 1, bytes_of_string("v")),
        STATUS_OK);
    network_run(n, 10 * SECOND);
    for (size_t i = 0; i < 6; i++) {
        if (i == 4)
            continue;
        const Rkv__Rumour *rumour =
            membership_next_rumour(n->nodes[i].membership);
        assert_non_null(rumour);
        assert_string_equal(rumour->topic, "buckets");
        assert_int_equal(rumour->version, 1);
        assert_memory_equal(rumour->payload.data, "v", 1);
        assert_null(membership_next_rumour(n->nodes[i].membership));
    }
}

static void equal_seeds_give_equal_traces(void **state)
{
    (void)state;
    struct network *runs[3];
    for (size_t i = 0; i < 3; i++) {
        runs[i] = malloc(sizeof *runs[i]);
        assert_non_null(runs[i]);
        network_init(runs[i], i == 2 ? 8 : 7);
        start_all(runs[i], 5);
        network_run(runs[i], 20 * SECOND);
        network_kill(runs[i], 2);
        network_isolate(runs[i], 4, true);
        network_run(runs[i], MINUTE);
        network_isolate(runs[i], 4, false);
        network_run(runs[i], MINUTE);
    }
    assert_true(runs[0]->trace_length > 0);
    assert_string_equal(runs[0]->trace, runs[1]->trace);
    assert_string_not_equal(runs[0]->trace, runs[2]->trace);
    for (size_t i = 0; i < 3; i++) {
        network_fini(runs[i]);
        free(runs[i]);
    }
}

/* What a broken or hostile peer may send. */
static void malformed_members_are_refused_with_the_field(void **state)
{
    struct network *n = *state;
    struct member good = network_member(1), member;
    struct error error;
    Rkv__Member *wire = member_to_wire(&good, &n->arena);
    assert_non_null(wire);
    assert_int_equal(member_from_wire(wire, &member, &error), STATUS_OK);
    assert_memory_equal(&member.id, &good.id, sizeof good.id);
    assert_string_equal(member.peer_address, good.peer_address);

    char long_name[NODE_NAME_MAX + 2];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    char control[] = "a\nb", empty[] = "";
    const struct {
        const char *field;
        size_t id_size;
        char *name;
        int state;
        uint32_t incarnation;
    } rows[] = {
        {"id", 15, wire->name, 0, 0},
        {"name", 16, long_name, 0, 0},
        {"name", 16, control, 0, 0},
        {"name", 16, empty, 0, 0},
        {"state", 16, wire->name, 4, 0},
        {"incarnation", 16, wire->name, 0, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Rkv__Member bad = *wire;
        bad.id.len = rows[i].id_size;
        bad.name = rows[i].name;
        bad.state = (Rkv__MemberState)rows[i].state;
        bad.incarnation = rows[i].incarnation;
        assert_int_equal(member_from_wire(&bad, &member, &error),
                         STATUS_INVALID);
        expect(error.text, rows[i].field);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_meet_through_one_seed),
        TEST(nobody_is_suspected_while_all_answer),
        TEST(a_seed_may_come_last),
        TEST(silent_node_becomes_suspect_then_dead),
        TEST(confirmations_shorten_suspicion),
        TEST(a_cluster_of_two_notices_too),
        TEST(indirect_probe_saves_a_node_with_a_cut_link),
        TEST(suspect_refutes_with_higher_incarnation),
        TEST(leaving_is_seen_as_left),
        TEST(copy_from_before_the_last_start_is_refused),
        TEST(restarted_node_returns_with_its_new_boot),
        TEST(push_pull_heals_a_split),
        TEST(wiped_and_older_disks_are_refused_until_replaced),
        TEST(taken_name_is_refused_even_to_replace),
        TEST(remembered_disk_protects_after_our_own_restart),
        TEST(other_topics_reach_everybody_once),
        TEST(malformed_members_are_refused_with_the_field),
        cmocka_unit_test(equal_seeds_give_equal_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
