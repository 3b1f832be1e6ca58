/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

static struct fixture f;

static int opened(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    return 0;
}

static int started(void **state)
{
    (void)state;
    node_open(&f, 3, 3);
    node_start(&f);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&f);
    return 0;
}

/* --- start --- */

static void a_known_disk_is_ready_without_the_others(void **state)
{
    (void)state;
    node_boot(&f);
    expect_trace(&f, "[  0] tick -> scan meta, scan hints\n"
                     "[  0] tick -> event=ready\n");
}

static void a_new_disk_waits_for_a_majority(void **state)
{
    (void)state;
    f.config.self.boot = 1;
    node_boot(&f);
    put(&f, 1, 1, write_of(&f, "k", "v"));
    greeted(&f, 2, 2);
    tick(&f, 3);
    expect_trace(&f, "[  0] tick -> scan meta, scan hints\n"
                     "[  1] ask 1 -> reply 1 unavailable not_applied\n"
                     "[  2] hello -> set n2\n"
                     "[  3] tick -> set joined, event=ready\n");
}

static void a_node_alone_is_its_own_majority(void **state)
{
    (void)state;
    node_close(&f);
    node_open(&f, 1, 1);
    f.config.self.boot = 1;
    node_boot(&f);
    assert_true(node_is_ready(f.node));
}

/* Under another spelling of its own address among the seeds. */
static void meeting_itself_is_no_majority(void **state)
{
    (void)state;
    f.config.self.boot = 1;
    node_boot(&f);
    f.members[0].boot = 1;
    greeted(&f, 1, 1);
    tick(&f, 2);
    assert_false(node_is_ready(f.node));
}

static void a_disk_that_cannot_be_read_stops_the_start(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(node_new(&f.config, &f.node, &error), STATUS_OK);
    tick(&f, 0);
    disk_fails(&f, 1, STATUS_CORRUPT);
    expect_trace(&f, "[  0] tick -> scan meta, scan hints\n"
                     "[  1] stored corrupt -> halt\n"
                     "[  1] stored corrupt -> halt\n");
}

static void hints_and_members_are_found_again(void **state)
{
    (void)state;
    struct storage_key hint = key_in(&f, TABLE_HINTS, 2, "default", "k");
    struct bytes record = record_of(&f, 1, 1, "v");
    toy_put(&f.toy, &hint, record);
    f.config.limits.list_bytes_max = 1; /* a row a chunk */
    struct member other = f.members[2];
    other.boot = 9;
    Rkv__Member *wire = member_to_wire(&other, &f.arena);
    uint8_t packed[300], name[7 + NODE_ID_SIZE] = "member/";
    memcpy(name + 7, other.id.bytes, NODE_ID_SIZE);
    struct storage_key member = {.table = TABLE_META,
                                 .key = bytes_of(name, sizeof name)};
    toy_put(&f.toy, &member, bytes_of(packed, rkv__member__pack(wire, packed)));
    struct storage_key boot = {.table = TABLE_META,
                               .key = bytes_of_string(META_BOOT)};
    toy_put(&f.toy, &boot, bytes_of_string("12345678"));
    node_boot(&f);
    expect_trace(&f, "[  0] tick -> scan meta, scan hints\n"
                     "[  0] stored -> scan meta on\n"
                     "[  0] stored -> scan meta on\n"
                     "[  0] tick -> event=ready\n");
    Rkv__Admin admin = RKV__ADMIN__INIT;
    admin.what = RKV__ADMIN__WHAT__HINTS;
    client(&f, 1, 1, RKV__ENVELOPE__BODY_ADMIN, &admin);
    assert_int_equal(f.reply->admin_reply->n_hints, 1);
    assert_string_equal(f.reply->admin_reply->hints[0]->target, "n2");
    assert_int_equal(f.reply->admin_reply->hints[0]->records, 1);
    /* Its key is table, target, partition, bucket and one byte. */
    assert_int_equal(f.reply->admin_reply->hints[0]->bytes, 24 + record.size);
    assert_int_equal(membership_find(node_membership(f.node), other.id)->boot,
                     9);
    assert_int_equal(membership_find(node_membership(f.node), other.id)->state,
                     MEMBER_DEAD);
}

/* What is missing is not known yet, so nothing may be vouched for. */
static void before_its_disk_is_read_a_node_says_nothing_of_it(void **state)
{
    (void)state;
    struct error error;
    Rkv__Scan scan = RKV__SCAN__INIT;
    Rkv__Handoff handoff = RKV__HANDOFF__INIT;
    Rkv__List list = RKV__LIST__INIT;
    assert_int_equal(node_new(&f.config, &f.node, &error), STATUS_OK);
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_FETCH, fetch_of(&f, "k"));
    peer(&f, 1, 2, 2, RKV__ENVELOPE__BODY_STORE,
         store_of(&f, "k", record_of(&f, 2, 1, "v")));
    peer(&f, 1, 2, 3, RKV__ENVELOPE__BODY_SCAN, &scan);
    peer(&f, 1, 2, 4, RKV__ENVELOPE__BODY_HANDOFF, &handoff);
    client(&f, 1, 5, RKV__ENVELOPE__BODY_LIST, &list);
    get(&f, 1, 6, read_of(&f, "k"));
    expect_trace(&f, "[  1] ask 1 -> reply 1 unavailable not_applied\n"
                     "[  1] ask 2 -> reply 2 unavailable not_applied\n"
                     "[  1] ask 3 -> reply 3 unavailable not_applied\n"
                     "[  1] ask 4 -> reply 4 unavailable not_applied\n"
                     "[  1] ask 5 -> reply 5 unavailable not_applied\n"
                     "[  1] ask 6 -> reply 6 unavailable not_applied\n");
}

/* A new disk may be an emptied one that nobody has told so yet. */
static void before_it_has_met_a_majority_a_new_disk_does_not_vote(void **state)
{
    (void)state;
    f.config.self.boot = 1;
    node_boot(&f);
    f.trace_size = 0;
    peer(&f, 1, 2, 1, RKV__ENVELOPE__BODY_FETCH, fetch_of(&f, "k"));
    greeted(&f, 2, 2);
    tick(&f, 3);
    f.trace_size = 0;
    peer(&f, 4, 2, 2, RKV__ENVELOPE__BODY_FETCH, fetch_of(&f, "k"));
    disk(&f, 4);
    expect_trace(&f, "[  4] ask 2 -> read k\n"
                     "[  4] stored not_found -> reply 2 not_found\n");
}

/* --- leaving --- */

static void leaving_is_said_to_the_others(void **state)
{
    (void)state;
    effects_reset(&f.effects);
    struct event leave = {.kind = EVENT_LEAVE, .now_us = 1000};
    node_step(f.node, &leave, &f.effects);
    size_t told = 0;
    for (size_t i = 0; i < f.effects.out.count; i++) {
        const Rkv__Envelope *message = f.effects.out.messages[i].envelope;
        assert_int_equal(message->body_case, RKV__ENVELOPE__BODY_GOSSIP);
        told += message->gossip->n_rumours > 0;
    }
    assert_int_equal(told, 2);
    assert_int_equal(membership_self(node_membership(f.node))->state,
                     MEMBER_LEFT);
}

/* --- hello --- */

static void refused(uint64_t token, int from, const Rkv__Hello *hello,
                    enum status status, const char *what)
{
    struct event event = {
        .kind = EVENT_HELLO,
        .from = node_number(&f, from),
        .token = {token},
        .message = envelope_new(&f.arena, RKV__ENVELOPE__BODY_HELLO, hello)};
    uint64_t before = counter_of(&f, "hellos_refused");
    step(&f, 1, &event, "hello");
    const Rkv__HelloReply *reply = f.reply->hello_reply;
    assert_int_equal(reply->status, status);
    if (strstr(reply->message, what) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", reply->message, what);
    assert_int_equal(counter_of(&f, "hellos_refused"), before + 1);
}

static void
hello_of_another_cluster_is_refused_with_the_difference(void **state)
{
    (void)state;
    Rkv__Hello *hello = hello_of(&f, 2);
    hello->cluster = arena_string(&f.arena, "other");
    refused(1, 2, hello, STATUS_INVALID,
            "cluster.name: this is \"test\", the other node is of \"other\"");
    hello = hello_of(&f, 2);
    hello->cluster_id++;
    hello->founding = arena_string(&f.arena, "partitions=8");
    refused(2, 2, hello, STATUS_INVALID, "there partitions=8");
    refused(3, 2, hello, STATUS_INVALID, "here partitions=64 replicas=3");
    hello = hello_of(&f, 2);
    hello->self->version_min = hello->self->version_max = PEER_VERSION_MAX + 1;
    refused(4, 2, hello, STATUS_INVALID, "protocol: here 3 to 5, there 6 to 6");
    hello = hello_of(&f, 2);
    hello->buckets[0]->kind = arena_string(&f.arena, "lww");
    refused(5, 2, hello, STATUS_INVALID,
            "buckets.default.kind: here siblings, there lww");
}

static void
hello_of_a_bucket_that_is_not_declared_here_is_accepted(void **state)
{
    (void)state;
    Rkv__Hello *hello = hello_of(&f, 2);
    hello->buckets[0]->name = arena_string(&f.arena, "new");
    client(&f, 1, 1, RKV__ENVELOPE__BODY_HELLO, hello);
    struct event event = {
        .kind = EVENT_HELLO,
        .token = {2},
        .message = envelope_new(&f.arena, RKV__ENVELOPE__BODY_HELLO, hello)};
    step(&f, 1, &event, "hello");
    expect_trace(&f, "[  1] ask 1 -> reply 1 unsupported not_applied\n"
                     "[  1] hello -> reply 2 ok\n");
}

static void hello_that_names_nobody_is_refused(void **state)
{
    (void)state;
    Rkv__Hello *hello = hello_of(&f, 2);
    hello->self = NULL;
    refused(1, 2, hello, STATUS_INVALID, "does not say who");
    hello = hello_of(&f, 2);
    hello->self->id.len = 15;
    refused(2, 2, hello, STATUS_INVALID, "member.id has 15 bytes");
    struct event event = {
        .kind = EVENT_HELLO,
        .token = {3},
        .message =
            envelope_new(&f.arena, RKV__ENVELOPE__BODY_READ, read_of(&f, "k"))};
    step(&f, 1, &event, "hello");
    assert_int_equal(f.reply->hello_reply->status, STATUS_INVALID);
}

static void a_name_in_use_is_refused_to_the_newcomer(void **state)
{
    (void)state;
    Rkv__Hello *hello = hello_of(&f, 2);
    hello->self->peer_address = arena_string(&f.arena, "tcp://127.0.0.9:1");
    refused(1, 2, hello, STATUS_REFUSED, "the name n2 is taken by the node at");
    hello->replace = true;
    refused(2, 2, hello, STATUS_REFUSED, "the name n2 is taken by the node at");
    assert_string_equal(
        membership_find(node_membership(f.node), node_number(&f, 2))
            ->peer_address,
        "tcp://127.0.0.1:4002");
}

static void our_own_name_is_refused_to_a_newcomer(void **state)
{
    (void)state;
    Rkv__Hello *hello = hello_of(&f, 1);
    hello->self->peer_address = arena_string(&f.arena, "tcp://127.0.0.9:1");
    refused(1, 1, hello, STATUS_REFUSED, "the name n1 is taken");
    hello = hello_of(&f, 1);
    hello->self->store_id.data[0]++;
    refused(2, 1, hello, STATUS_REFUSED, "known with another disk");
}

static void
an_older_or_emptied_disk_is_refused_until_it_is_replaced(void **state)
{
    (void)state;
    Rkv__Hello *hello = hello_of(&f, 2);
    hello->self->boot = 1;
    refused(1, 2, hello, STATUS_REFUSED, "n2 shows boot 1 but was seen with 2");
    hello = hello_of(&f, 2);
    hello->self->store_id.data[0]++;
    hello->self->boot = 1;
    refused(2, 2, hello, STATUS_REFUSED, "n2 is known with another disk");
    hello->replace = true;
    struct event event = {
        .kind = EVENT_HELLO,
        .token = {3},
        .message = envelope_new(&f.arena, RKV__ENVELOPE__BODY_HELLO, hello)};
    step(&f, 1, &event, "hello");
    expect_trace(&f, "[  1] hello -> reply 1 refused\n"
                     "[  1] hello -> reply 2 refused\n"
                     "[  1] hello -> set n2, reply 3 ok\n");
    assert_int_equal(f.reply->hello_reply->known_boot, 2);
}

/* It is told to count to the same boot again, or it would try until none of the
 * starts that it tells is one that was seen. */
static void a_copy_that_was_started_since_is_not_to_count_on(void **state)
{
    (void)state;
    Rkv__DiskStart two = RKV__DISK_START__INIT, seven = two;
    Rkv__DiskStart *starts[] = {&two, &seven};
    Rkv__Hello *hello = hello_of(&f, 2);
    hello->self->boot = two.boot = 3;
    hello->self->run = 5;
    struct event event = {
        .kind = EVENT_HELLO,
        .token = {7},
        .message = envelope_new(&f.arena, RKV__ENVELOPE__BODY_HELLO, hello)};
    step(&f, 1, &event, "hello");
    two.run = 6;
    hello->self->boot = seven.boot = 7;
    hello->self->run = seven.run = 99;
    hello->starts = starts;
    hello->n_starts = 2;
    refused(1, 2, hello, STATUS_REFUSED, "n2 shows another run for boot 3");
    assert_int_equal(f.reply->hello_reply->known_boot, 7);
}

/* What an older one carries is older than what came by the later one. */
static void a_connection_is_refused_behind_a_later_one_of_its_lane(void **state)
{
    (void)state;
    Rkv__Hello *hello = hello_of(&f, 2);
    uint64_t later = hello->session;
    struct event event = {
        .kind = EVENT_HELLO,
        .token = {1},
        .message = envelope_new(&f.arena, RKV__ENVELOPE__BODY_HELLO, hello)};
    step(&f, 1, &event, "hello");
    hello->session = later - 1;
    refused(2, 2, hello, STATUS_UNAVAILABLE, "a later connection");
    hello->session = later;
    refused(3, 2, hello, STATUS_UNAVAILABLE, "a later connection");
    /* Not of another lane, nor of another run, whose numbers begin anew. */
    hello->lane = LANE_BULK;
    event.token.value = 4;
    step(&f, 1, &event, "hello");
    hello->self->run++;
    hello->self->boot++;
    hello->session = 1;
    event.token.value = 5;
    step(&f, 1, &event, "hello");
    expect_trace(&f, "[  1] hello -> reply 1 ok\n"
                     "[  1] hello -> reply 2 unavailable\n"
                     "[  1] hello -> reply 3 unavailable\n"
                     "[  1] hello -> reply 4 ok\n"
                     "[  1] hello -> set n2, reply 5 ok\n");
}

/* Who was away meanwhile remembers the disk before. */
static void a_disk_that_was_replaced_before_needs_a_higher_boot(void **state)
{
    (void)state;
    Rkv__Hello *hello = hello_of(&f, 2);
    hello->self->store_id.data[0]++;
    hello->replaced = true;
    refused(1, 2, hello, STATUS_REFUSED, "n2 is known with another disk");
    hello->self->boot = 3;
    struct event event = {
        .kind = EVENT_HELLO,
        .token = {2},
        .message = envelope_new(&f.arena, RKV__ENVELOPE__BODY_HELLO, hello)};
    step(&f, 1, &event, "hello");
    expect_trace(&f, "[  1] hello -> reply 1 refused\n"
                     "[  1] hello -> set n2, reply 2 ok\n");
}

static bool says_replaced(void)
{
    const Rkv__Envelope *hello =
        node_hello(f.node, LANE_CONTROL, &f.effects.arena);
    return hello->hello->replaced;
}

static void a_disk_remembers_that_it_replaced_another(void **state)
{
    (void)state;
    node_boot(&f);
    assert_false(says_replaced());
    node_free(f.node);
    f.config.replace = f.config.amnesiac = true;
    f.config.self.boot = 1;
    node_boot(&f);
    assert_true(says_replaced());
    node_free(f.node);
    f.config.replace = f.config.amnesiac = false;
    f.config.self.boot = 2;
    node_boot(&f);
    assert_true(says_replaced());
}

/* --- what others say to our hello --- */

static void hear_hello(Rkv__Status status, uint64_t known_boot)
{
    Rkv__HelloReply *reply =
        message_new(&f.arena, &rkv__hello_reply__descriptor);
    reply->status = status;
    reply->message = arena_string(&f.arena, "why");
    reply->known_boot = known_boot;
    reply->hello = hello_of(&f, 2);
    struct event event = {
        .kind = EVENT_HELLO_REPLY,
        .message =
            envelope_new(&f.arena, RKV__ENVELOPE__BODY_HELLO_REPLY, reply)};
    step(&f, 1, &event, "hello");
}

static void a_refused_node_stops_and_a_misfit_stops_only_at_start(void **state)
{
    (void)state;
    f.config.self.boot = 1;
    node_boot(&f);
    f.trace_size = 0;
    hear_hello(RKV__STATUS__INVALID, 0);
    assert_string_equal(f.effects.halt, "why");
    hear_hello(RKV__STATUS__OK, 0);
    tick(&f, 2);
    hear_hello(RKV__STATUS__INVALID, 0);
    assert_null(f.effects.halt);
    hear_hello(RKV__STATUS__REFUSED, 0);
    assert_string_equal(f.effects.halt, "why");
    /* An older disk: this start does not count, or the next might pass. */
    hear_hello(RKV__STATUS__REFUSED, 1);
    expect_trace(&f, "[  1] hello -> halt\n"
                     "[  1] hello -> set n2\n"
                     "[  2] tick -> set joined, event=ready\n"
                     "[  1] hello -> event=refused why=\"why\"\n"
                     "[  1] hello -> halt\n"
                     "[  1] hello -> set boot, halt\n");
}

static uint64_t own_boot(void)
{
    return membership_self(node_membership(f.node))->boot;
}

static void
under_replace_the_boot_number_goes_on_from_what_is_known(void **state)
{
    (void)state;
    f.config.replace = true;
    f.config.self.boot = 1;
    node_boot(&f);
    f.trace_size = 0;
    hear_hello(RKV__STATUS__OK, 7);
    expect_trace(&f, "[  1] hello -> set starts, set boot, set n2\n");
    disk(&f, 1);
    assert_int_equal(own_boot(), 8);
}

/* Once the others know the number, a crash must not show it again. */
static void a_boot_number_is_not_told_before_it_is_on_disk(void **state)
{
    (void)state;
    f.config.replace = true;
    f.config.self.boot = 1;
    node_boot(&f);
    hear_hello(RKV__STATUS__OK, 7);
    assert_int_equal(own_boot(), 1);
    disk_fails(&f, 1, STATUS_IO);
    assert_int_equal(own_boot(), 1);
    f.trace_size = 0;
    hear_hello(RKV__STATUS__OK, 7);
    hear_hello(RKV__STATUS__OK, 9); /* while the first is being stored */
    assert_int_equal(own_boot(), 1);
    disk(&f, 1);
    assert_int_equal(own_boot(), 10);
    expect_trace(&f, "[  1] hello -> set starts, set boot\n"
                     "[  1] stored -> set starts, set boot\n");
}

static void nonsense_for_a_hello_reply_leads_to_nothing(void **state)
{
    (void)state;
    f.config.self.boot = 1;
    node_boot(&f);
    f.trace_size = 0;
    struct event event = {.kind = EVENT_HELLO_REPLY};
    step(&f, 1, &event, "none");
    event.message =
        envelope_new(&f.arena, RKV__ENVELOPE__BODY_READ, read_of(&f, "k"));
    step(&f, 1, &event, "a read");
    Rkv__HelloReply *reply =
        message_new(&f.arena, &rkv__hello_reply__descriptor);
    event.message =
        envelope_new(&f.arena, RKV__ENVELOPE__BODY_HELLO_REPLY, reply);
    step(&f, 1, &event, "of nobody");
    reply->hello = hello_of(&f, 2);
    reply->hello->self = NULL;
    step(&f, 1, &event, "of nobody still");
    expect_trace(&f, "[  1] of nobody -> event=hello_refused "
                     "why=\"hello: it does not say whose\"\n"
                     "[  1] of nobody still -> event=hello_refused "
                     "why=\"hello: it does not say who it is of\"\n");
    assert_true(f.effects.hang_up);
    tick(&f, 2);
    assert_false(node_is_ready(f.node));
}

#define WITH(setup, test) cmocka_unit_test_setup_teardown(test, setup, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(opened, a_known_disk_is_ready_without_the_others),
        WITH(opened, a_new_disk_waits_for_a_majority),
        WITH(opened, a_node_alone_is_its_own_majority),
        WITH(opened, meeting_itself_is_no_majority),
        WITH(opened, a_disk_that_cannot_be_read_stops_the_start),
        WITH(opened, hints_and_members_are_found_again),
        WITH(opened, before_its_disk_is_read_a_node_says_nothing_of_it),
        WITH(opened, before_it_has_met_a_majority_a_new_disk_does_not_vote),
        WITH(started, leaving_is_said_to_the_others),
        WITH(started, hello_of_another_cluster_is_refused_with_the_difference),
        WITH(started, hello_of_a_bucket_that_is_not_declared_here_is_accepted),
        WITH(started, hello_that_names_nobody_is_refused),
        WITH(started, a_name_in_use_is_refused_to_the_newcomer),
        WITH(started, our_own_name_is_refused_to_a_newcomer),
        WITH(started, an_older_or_emptied_disk_is_refused_until_it_is_replaced),
        WITH(started, a_copy_that_was_started_since_is_not_to_count_on),
        WITH(started, a_connection_is_refused_behind_a_later_one_of_its_lane),
        WITH(started, a_disk_that_was_replaced_before_needs_a_higher_boot),
        WITH(opened, a_disk_remembers_that_it_replaced_another),
        WITH(opened, a_refused_node_stops_and_a_misfit_stops_only_at_start),
        WITH(opened, under_replace_the_boot_number_goes_on_from_what_is_known),
        WITH(opened, a_boot_number_is_not_told_before_it_is_on_disk),
        WITH(opened, nonsense_for_a_hello_reply_leads_to_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
