/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

/* A node leaves, seen by n1 of five with three replicas: what is decreed, what
 * it does about it, and what it takes from others. */

enum { ROUND = 3 };
static struct fixture f;
static uint64_t token;

static int opened(void **state)
{
    (void)state;
    node_open(&f, 5, 3);
    f.config.self.version_max = PEER_VERSION_MAX;
    for (size_t i = 0; i < 5; i++)
        f.members[i].version_max = PEER_VERSION_MAX;
    f.is_quiet = true;
    token = 1;
    return 0;
}

static int started(void **state)
{
    opened(state);
    node_start(&f);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    node_close(&f);
    return 0;
}

/* --- what is said --- */

static uint64_t ballot(uint64_t round)
{
    return round << 40 | 7;
}

static Rkv__Decree *decree_of(Rkv__Decree__Kind kind, int number, bool lost)
{
    Rkv__Decree *decree = message_new(&f.arena, &rkv__decree__descriptor);
    struct node_id id = node_number(&f, number);
    decree->kind = kind;
    decree->lost = lost;
    decree->node = binary_of_bytes(
        bytes_of(arena_copy(&f.arena, id.bytes, NODE_ID_SIZE), NODE_ID_SIZE));
    return decree;
}

/* Ask n1 to promise, or to accept the decree; its answer if it has one. */
static const Rkv__AgreeReply *ask(int64_t now_ms, int from, uint64_t epoch,
                                  uint64_t number, Rkv__Decree *decree)
{
    Rkv__Agree asked = RKV__AGREE__INIT;
    asked.epoch = epoch;
    asked.ballot = number;
    asked.decree = decree;
    f.reply = NULL;
    peer(&f, now_ms, from, token++, RKV__ENVELOPE__BODY_AGREE, &asked);
    return f.reply == NULL ? NULL : f.reply->agree_reply;
}

static const Rkv__AgreeReply *stored(int64_t now_ms)
{
    f.reply = NULL;
    disk(&f, now_ms);
    assert_non_null(f.reply);
    return f.reply->agree_reply;
}

/* What waits at n(number), and is of that kind, behind all else. */
static const Rkv__Envelope *waits(int64_t now_ms, int number,
                                  Rkv__Envelope__BodyCase body_case)
{
    const Rkv__Envelope *found = request_at(&f, number);
    while (found != NULL && found->body_case != body_case) {
        gone(&f, now_ms, number);
        found = request_at(&f, number);
    }
    return found;
}

/* n(from) answers what n1 proposes. */
static void says(int64_t now_ms, int from, Rkv__Status status,
                 uint64_t accepted, Rkv__Decree *decree)
{
    Rkv__AgreeReply reply = RKV__AGREE_REPLY__INIT;
    assert_non_null(waits(now_ms, from, RKV__ENVELOPE__BODY_AGREE));
    reply.status = status;
    reply.epoch = node_topology(f.node)->epoch;
    reply.accepted = accepted;
    reply.decree = decree;
    answer(&f, now_ms, from, RKV__ENVELOPE__BODY_AGREE_REPLY, &reply);
}

/* n(from) tells n1 of so many decrees; stored if they are more than its own. */
static void told(int64_t now_ms, int from, Rkv__Decree **decrees, size_t count)
{
    Rkv__Topology message = RKV__TOPOLOGY__INIT;
    message.decrees = decrees;
    message.n_decrees = count;
    peer(&f, now_ms, from, token++, RKV__ENVELOPE__BODY_TOPOLOGY, &message);
    disk(&f, now_ms);
}

static void told_of_leave(int64_t now_ms, int leaver, size_t steps, bool lost)
{
    Rkv__Decree *decrees[3] = {
        decree_of(RKV__DECREE__KIND__LEAVE, leaver, lost),
        decree_of(lost ? RKV__DECREE__KIND__SETTLE : RKV__DECREE__KIND__TURN,
                  leaver, lost),
        decree_of(RKV__DECREE__KIND__SETTLE, leaver, false)};
    told(now_ms, 2, decrees, steps);
    assert_int_equal(node_topology(f.node)->epoch, steps + 1);
}

static const Rkv__Envelope *leave(int64_t now_ms, const char *name, bool lost,
                                  bool commit)
{
    Rkv__Admin admin = RKV__ADMIN__INIT;
    admin.what = RKV__ADMIN__WHAT__LEAVE;
    admin.node = arena_string(&f.arena, name);
    admin.lost = lost;
    admin.commit = commit;
    f.reply = NULL;
    client(&f, now_ms, token++, RKV__ENVELOPE__BODY_ADMIN, &admin);
    return f.reply;
}

static void refused(const Rkv__Envelope *reply, Rkv__Status status,
                    const char *message)
{
    assert_non_null(reply);
    assert_int_equal(reply->body_case, RKV__ENVELOPE__BODY_RESULT);
    assert_int_equal(reply->result->status, status);
    assert_string_equal(reply->result->message, message);
}

/* --- the acceptor --- */

static void a_promise_is_on_disk_before_it_is_given(void **state)
{
    (void)state;
    assert_null(ask(1, 2, 2, ballot(ROUND), NULL));
    assert_int_equal(ask(1, 3, 2, ballot(ROUND + 1), NULL)->status,
                     RKV__STATUS__OVERLOADED);
    const Rkv__AgreeReply *reply = stored(1);
    assert_int_equal(reply->status, RKV__STATUS__OK);
    assert_int_equal(reply->accepted, 0);
    reply = ask(2, 3, 2, ballot(ROUND), NULL);
    assert_int_equal(reply->status, RKV__STATUS__REFUSED);
    assert_true(reply->promised == ballot(ROUND));
    assert_int_equal(ask(2, 3, 2, ballot(ROUND - 1),
                         decree_of(RKV__DECREE__KIND__LEAVE, 5, false))
                         ->status,
                     RKV__STATUS__REFUSED);
    assert_null(ask(3, 2, 2, ballot(ROUND),
                    decree_of(RKV__DECREE__KIND__LEAVE, 4, false)));
    assert_int_equal(stored(3)->status, RKV__STATUS__OK);
    assert_null(ask(4, 3, 2, ballot(ROUND + 1), NULL));
    reply = stored(4);
    assert_true(reply->accepted == ballot(ROUND));
    assert_memory_equal(reply->decree->node.data, node_number(&f, 4).bytes,
                        NODE_ID_SIZE);
}

static void a_promise_that_cannot_be_stored_is_none(void **state)
{
    (void)state;
    assert_null(ask(1, 2, 2, ballot(ROUND), NULL));
    f.reply = NULL;
    disk_fails(&f, 1, STATUS_NO_SPACE);
    assert_int_equal(f.reply->agree_reply->status, RKV__STATUS__NO_SPACE);
    assert_null(ask(2, 3, 2, ballot(ROUND - 1), NULL));
    assert_int_equal(stored(2)->status, RKV__STATUS__OK);
}

static void what_was_promised_outlives_a_restart(void **state)
{
    (void)state;
    assert_null(ask(1, 2, 2, ballot(ROUND),
                    decree_of(RKV__DECREE__KIND__LEAVE, 4, true)));
    stored(1);
    node_free(f.node);
    node_start(&f);
    const Rkv__AgreeReply *reply = ask(2, 3, 2, ballot(ROUND - 1), NULL);
    assert_int_equal(reply->status, RKV__STATUS__REFUSED);
    assert_null(ask(3, 3, 2, ballot(ROUND + 9), NULL));
    reply = stored(3);
    assert_true(reply->accepted == ballot(ROUND));
    assert_true(reply->decree->lost);
}

static void what_makes_no_sense_is_not_accepted(void **state)
{
    (void)state;
    Rkv__Decree *decrees[] = {
        decree_of((Rkv__Decree__Kind)9, 4, false),
        decree_of(RKV__DECREE__KIND__NO_DECREE, 4, false),
        decree_of(RKV__DECREE__KIND__TURN, 4, false),
        decree_of(RKV__DECREE__KIND__SETTLE, 4, true),
        decree_of(RKV__DECREE__KIND__LEAVE, 4, false),
        decree_of(RKV__DECREE__KIND__LEAVE, 4, false),
    };
    decrees[4]->node.len = 3;
    decrees[5]->node.data[0] ^= 1;
    for (size_t i = 0; i < sizeof decrees / sizeof *decrees; i++)
        assert_int_equal(ask(1, 2, 2, ballot(ROUND), decrees[i])->status,
                         RKV__STATUS__INVALID);
    /* Of another epoch than the next it has no part in. */
    for (uint64_t epoch = 0; epoch < 5; epoch += epoch == 1 ? 2 : 1) {
        const Rkv__AgreeReply *reply = ask(2, 2, epoch, ballot(ROUND), NULL);
        assert_int_equal(reply->status, RKV__STATUS__UNAVAILABLE);
        assert_int_equal(reply->epoch, 1);
    }
}

/* --- the proposer --- */

static void a_leave_is_decreed_by_a_majority(void **state)
{
    (void)state;
    assert_null(leave(1, "n4", false, true));
    disk(&f, 1);
    says(2, 2, RKV__STATUS__OK, 0, NULL);
    /* Said twice it is one. */
    says(2, 3, RKV__STATUS__UNAVAILABLE, 0, NULL);
    assert_null(waits(3, 2, RKV__ENVELOPE__BODY_AGREE));
    says(3, 4, RKV__STATUS__OK, 0, NULL);
    disk(&f, 3);
    assert_non_null(
        waits(3, 5, RKV__ENVELOPE__BODY_AGREE)); /* the promise, then */
    says(4, 2, RKV__STATUS__OK, 0, NULL);
    assert_null(f.reply);
    assert_int_equal(node_topology(f.node)->epoch, 1);
    says(5, 3, RKV__STATUS__OK, 0, NULL);
    assert_non_null(f.reply);
    assert_int_equal(f.reply->admin_reply->result->status, RKV__STATUS__OK);
    /* It goes by it once it is on disk, and tells all. */
    assert_int_equal(node_topology(f.node)->epoch, 1);
    disk(&f, 5);
    assert_int_equal(node_topology(f.node)->epoch, 2);
    tick(&f, 6);
    for (int other = 2; other <= 5; other++) {
        const Rkv__Envelope *told =
            waits(6, other, RKV__ENVELOPE__BODY_TOPOLOGY);
        assert_non_null(told);
        assert_int_equal(told->topology->n_decrees, 1);
    }
}

static void what_another_had_accepted_is_decreed_instead(void **state)
{
    (void)state;
    assert_null(leave(1, "n4", false, true));
    disk(&f, 1);
    says(2, 2, RKV__STATUS__OK, ballot(1),
         decree_of(RKV__DECREE__KIND__LEAVE, 3, false));
    says(3, 5, RKV__STATUS__OK, ballot(0),
         decree_of(RKV__DECREE__KIND__LEAVE, 2, false));
    disk(&f, 3);
    const Rkv__Envelope *accept = waits(3, 2, RKV__ENVELOPE__BODY_AGREE);
    assert_memory_equal(accept->agree->decree->node.data,
                        node_number(&f, 3).bytes, NODE_ID_SIZE);
    says(4, 2, RKV__STATUS__OK, 0, NULL);
    f.reply = NULL;
    assert_non_null(waits(4, 5, RKV__ENVELOPE__BODY_AGREE));
    says(4, 5, RKV__STATUS__OK, 0, NULL);
    refused(f.reply, RKV__STATUS__REFUSED,
            "another change was decreed before; see where it stands, then ask "
            "again");
    disk(&f, 4);
    assert_true(topology_leaves(node_topology(f.node), node_number(&f, 3)));
}

static void without_a_majority_nothing_is_decreed(void **state)
{
    (void)state;
    assert_null(leave(1, "n4", false, true));
    refused(leave(1, "n4", false, true), RKV__STATUS__UNAVAILABLE,
            "another change is being decreed, or this disk, which was "
            "replaced, has not caught up yet; ask again");
    disk(&f, 1);
    says(2, 2, RKV__STATUS__OK, 0, NULL);
    f.reply = NULL;
    tick(&f, 1 + f.config.timeouts.request_ms);
    refused(f.reply, RKV__STATUS__UNAVAILABLE,
            "no majority of the members answered; it may be decreed yet: see "
            "where it stands, then ask again");
    assert_int_equal(node_topology(f.node)->epoch, 1);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    refused(leave(1, "n9", false, true), RKV__STATUS__INVALID,
            "node: \"n9\" is none of the cluster");
    refused(leave(1, "", false, false), RKV__STATUS__INVALID,
            "node: \"\" is none of the cluster");
    refused(leave(1, "n4", true, true), RKV__STATUS__INVALID,
            "lost: n4 is there; without --lost what it holds is read of it");
    const Rkv__Envelope *plan = leave(1, "n4", false, false);
    const Rkv__Move *move = plan->admin_reply->move;
    assert_string_equal(move->node, "n4");
    assert_string_equal(move->stage, "planned");
    assert_true(move->n_shares > 1);
    assert_int_equal(node_topology(f.node)->epoch, 1);
}

/* A disk that lost something may have promised. */
static void a_replaced_disk_votes_once_it_has_recovered(void **state)
{
    (void)state;
    f.config.replace = f.config.amnesiac = true;
    f.config.self.boot = 2;
    node_boot(&f);
    disk(&f, 0);
    tick(&f, 0);
    for (int other = 2; other <= 5; other++) {
        meet(&f, 0, other);
        greeted(&f, 0, other);
    }
    tick(&f, 0);
    assert_true(node_is_ready(f.node));
    assert_int_equal(ask(1, 2, 2, ballot(ROUND), NULL)->status,
                     RKV__STATUS__UNAVAILABLE);
    tick(&f, 2);
    says(3, 2, RKV__STATUS__OK, 0, NULL);
    says(3, 3, RKV__STATUS__OK, ballot(1),
         decree_of(RKV__DECREE__KIND__LEAVE, 4, false));
    says(3, 4, RKV__STATUS__OK, 0, NULL);
    assert_int_equal(ask(4, 2, 2, ballot(ROUND), NULL)->status,
                     RKV__STATUS__UNAVAILABLE);
    disk(&f, 4);
    /* Far above what it may have promised before. */
    assert_int_equal(ask(5, 2, 2, ballot(ROUND + 9), NULL)->status,
                     RKV__STATUS__REFUSED);
    assert_null(ask(5, 2, 2, ballot(5000), NULL));
    const Rkv__AgreeReply *reply = stored(5);
    assert_true(reply->accepted == ballot(1));
    assert_memory_equal(reply->decree->node.data, node_number(&f, 4).bytes,
                        NODE_ID_SIZE);
    /* It may have voted in what came next. */
    told_of_leave(6, 4, 1, false);
    assert_int_equal(ask(7, 2, 3, ballot(ROUND), NULL)->status,
                     RKV__STATUS__UNAVAILABLE);
}

/* --- what follows --- */

static void owners_of_the_old_topology_write_no_more(void **state)
{
    (void)state;
    const char *key = key_owned_by(&f, "default", "124");
    Rkv__Store *store = store_of(&f, key, record_of(&f, 2, 1, "v"));
    store->epoch = 1;
    told_of_leave(1, 4, 1, false);
    peer(&f, 2, 2, token++, RKV__ENVELOPE__BODY_STORE, store);
    assert_int_equal(f.reply->store_reply->status, RKV__STATUS__REFUSED);
    Rkv__Fetch *fetch = fetch_of(&f, key);
    fetch->epoch = 1;
    peer(&f, 2, 2, token++, RKV__ENVELOPE__BODY_FETCH, fetch);
    assert_int_equal(f.reply->fetch_reply->status, RKV__STATUS__REFUSED);
    store->epoch = 2;
    peer(&f, 3, 2, token++, RKV__ENVELOPE__BODY_STORE, store);
    disk(&f, 3);
    assert_int_equal(f.reply->store_reply->status, RKV__STATUS__OK);
    /* What did not move is as it was. */
    store = store_of(&f, key_owned_by(&f, "default", "123"),
                     record_of(&f, 2, 1, "v"));
    store->epoch = 1;
    peer(&f, 4, 2, token++, RKV__ENVELOPE__BODY_STORE, store);
    disk(&f, 4);
    assert_int_equal(f.reply->store_reply->status, RKV__STATUS__OK);
}

/* Its heir may have read our copy before that was in it. */
static void what_was_under_way_when_it_moved_is_no_vote(void **state)
{
    (void)state;
    const char *key = key_owned_by(&f, "default", "124");
    Rkv__Topology message = RKV__TOPOLOGY__INIT;
    Rkv__Decree *decree = decree_of(RKV__DECREE__KIND__LEAVE, 4, false);
    message.decrees = &decree;
    message.n_decrees = 1;
    peer(&f, 1, 2, token++, RKV__ENVELOPE__BODY_TOPOLOGY, &message);
    disk_one(&f, 1); /* what is missing, then the topology */
    Rkv__Store *store = store_of(&f, key, record_of(&f, 2, 1, "v"));
    store->epoch = 1;
    peer(&f, 1, 2, token++, RKV__ENVELOPE__BODY_STORE, store);
    disk(&f, 1);
    assert_int_equal(node_topology(f.node)->epoch, 2);
    assert_int_equal(f.reply->store_reply->status, RKV__STATUS__REFUSED);
}

/* What it finds late was not there when the heir read the old owners. */
static void a_read_of_the_old_owners_writes_nothing_back(void **state)
{
    (void)state;
    const char *key = key_owned_by(&f, "default", "124");
    uint64_t read = token++;
    f.reply = NULL;
    get(&f, 1, read, read_of(&f, key));
    told_of_leave(2, 4, 1, false);
    int other = waits(2, 2, RKV__ENVELOPE__BODY_FETCH) != NULL ? 2 : 4;
    const Rkv__Envelope *fetch = waits(2, other, RKV__ENVELOPE__BODY_FETCH);
    assert_int_equal(fetch->fetch->epoch, 1);
    f.reply = NULL;
    fetched(&f, 3, other, STATUS_OK, record_of(&f, 2, 1, "v"));
    disk(&f, 3); /* our own copy is not written to */
    assert_null(f.reply);
    other = 6 - other;
    assert_int_equal(waits(3, other, RKV__ENVELOPE__BODY_FETCH)->fetch->epoch,
                     1);
    fetched(&f, 4, other, STATUS_REFUSED, (struct bytes){0});
    assert_int_equal(f.answers[read], 1);
    assert_int_equal(f.reply->read_reply->result->status,
                     RKV__STATUS__UNAVAILABLE);
}

static void who_is_older_or_away_holds_a_leave_up(void **state)
{
    (void)state;
    f.members[2].version_max = PEER_VERSION_TOPOLOGY - 1;
    node_start(&f);
    refused(leave(1, "n4", false, true), RKV__STATUS__UNSUPPORTED,
            "n3 runs a version from before nodes could leave: update it");
    refused(leave(1, "n3", false, true), RKV__STATUS__UNSUPPORTED,
            "n3 runs a version from before nodes could leave: update it");
}

static void all_others_have_to_be_there(void **state)
{
    (void)state;
    f.config.self.boot = 2;
    node_boot(&f);
    meet(&f, 0, 2);
    meet(&f, 0, 3);
    meet(&f, 0, 4);
    refused(leave(1, "n4", false, true), RKV__STATUS__UNAVAILABLE,
            "n5 does not answer: a node can leave when all others are up");
    refused(leave(1, "n5", false, true), RKV__STATUS__INVALID,
            "node: n5 does not answer, and all that it holds is to be read of "
            "it: start it, or say --lost if it is");
    assert_non_null(leave(1, "n5", true, false)->admin_reply->move);
}

static bool reads_somebody(int64_t now_ms)
{
    bool reads = false;
    tick(&f, now_ms);
    for (int other = 2; other <= 5; other++)
        reads |= waits(now_ms, other, RKV__ENVELOPE__BODY_SCAN) != NULL;
    return reads;
}

/* Before that somebody may still write what the heir would not have. */
static void an_heir_reads_once_all_go_by_its_topology(void **state)
{
    (void)state;
    Rkv__Decree *decree = decree_of(RKV__DECREE__KIND__LEAVE, 4, false);
    told_of_leave(1, 4, 1, false);
    assert_false(reads_somebody(1000));
    told(1001, 3, &decree, 1);
    told(1001, 4, &decree, 1);
    assert_false(reads_somebody(2000));
    told(3001, 5, &decree, 1);
    assert_true(reads_somebody(4000));
}

static void decrees_that_contradict_are_not_taken(void **state)
{
    (void)state;
    Rkv__Decree *other[] = {decree_of(RKV__DECREE__KIND__LEAVE, 3, false),
                            decree_of(RKV__DECREE__KIND__TURN, 4, false)};
    Rkv__Decree *wrong[] = {decree_of(RKV__DECREE__KIND__TURN, 4, false)};
    told(1, 2, wrong, 1);
    assert_int_equal(node_topology(f.node)->epoch, 1);
    told_of_leave(2, 4, 1, false);
    told(3, 2, other, 2);
    assert_int_equal(node_topology(f.node)->epoch, 2);
    told(4, 2, NULL, 0);
    assert_int_equal(node_topology(f.node)->epoch, 2);
}

static void what_was_decreed_outlives_a_restart(void **state)
{
    (void)state;
    told_of_leave(1, 4, 2, false);
    node_free(f.node);
    node_start(&f);
    const struct topology *topology = node_topology(f.node);
    assert_int_equal(topology->epoch, 3);
    assert_int_equal(topology->move.kind, DECREE_TURN);
    assert_true(topology_leaves(topology, node_number(&f, 4)));
}

static void who_has_left_is_refused(void **state)
{
    (void)state;
    told_of_leave(1, 4, 3, false);
    meet(&f, 2, 4);
    assert_int_equal(f.reply->hello_reply->status, RKV__STATUS__REFUSED);
    assert_string_equal(
        f.reply->hello_reply->message,
        "n4 has left the cluster: it is not to be started again");
    peer(&f, 3, 4, token++, RKV__ENVELOPE__BODY_FETCH,
         fetch_of(&f, key_owned_by(&f, "default", "123")));
    refused(f.reply, RKV__STATUS__REFUSED, "the node has left");
    assert_false(f.halted);
}

static void one_that_has_left_ends_and_does_not_start(void **state)
{
    (void)state;
    told_of_leave(1, 1, 2, false);
    assert_false(f.halted);
    /* It coordinates no more, stands in for nobody, and takes no hints. */
    put(&f, 2, token++, write_of(&f, key_owned_by(&f, "default", "123"), "v"));
    int other = waits(2, 2, RKV__ENVELOPE__BODY_WRITE) != NULL ? 2 : 3;
    assert_non_null(waits(2, other, RKV__ENVELOPE__BODY_WRITE));
    written(&f, 2, other, STATUS_OK, RKV__OUTCOME__APPLIED);
    Rkv__Handoff handoff = RKV__HANDOFF__INIT;
    peer(&f, 3, 2, token++, RKV__ENVELOPE__BODY_HANDOFF, &handoff);
    assert_int_equal(f.reply->handoff_reply->status, RKV__STATUS__UNAVAILABLE);
    told_of_leave(4, 1, 3, false);
    assert_true(f.halted);
    f.halted = false;
    node_free(f.node);
    node_boot(&f);
    assert_true(f.halted);
    f.halted = false;
}

/* What is kept for n4 is its heir's, and ours if we are that. */
static void hints_for_one_that_leaves_are_its_heirs(void **state)
{
    (void)state;
    const char *key = key_owned_by(&f, "sloppy", "234");
    struct storage_key hint = key_in(&f, TABLE_HINTS, 4, "sloppy", key);
    Rkv__Store *store = store_of(&f, key, record_of(&f, 2, 1, "v"));
    store->bucket = bucket_id_of("sloppy").value;
    struct node_id target = node_number(&f, 4);
    store->target = binary_of_bytes(bytes_of(target.bytes, NODE_ID_SIZE));
    store->epoch = 1;
    peer(&f, 1, 2, token++, RKV__ENVELOPE__BODY_STORE, store);
    disk(&f, 1);
    assert_int_equal(f.reply->store_reply->status, RKV__STATUS__OK);
    assert_true(toy_get(&f.toy, &hint).size > 0);
    told_of_leave(2, 4, 1, true);
    struct node_id heir =
        topology_heir(node_topology(f.node), hint.partition, target);
    for (int64_t now_ms = 3; now_ms < 2000; now_ms += 100) {
        tick(&f, now_ms);
        disk(&f, now_ms);
    }
    assert_int_equal(toy_get(&f.toy, &hint).size, 0);
    int number = number_of(&f, heir);
    assert_true(number == 1 || number == 5);
    struct storage_key now = key_in(&f, number == 1 ? TABLE_DATA : TABLE_HINTS,
                                    number == 1 ? 0 : number, "sloppy", key);
    assert_true(toy_get(&f.toy, &now).size > 0);
}

#define STARTED(test) cmocka_unit_test_setup_teardown(test, started, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STARTED(a_promise_is_on_disk_before_it_is_given),
        STARTED(a_promise_that_cannot_be_stored_is_none),
        STARTED(what_was_promised_outlives_a_restart),
        STARTED(what_makes_no_sense_is_not_accepted),
        STARTED(a_leave_is_decreed_by_a_majority),
        STARTED(what_another_had_accepted_is_decreed_instead),
        STARTED(without_a_majority_nothing_is_decreed),
        STARTED(what_cannot_be_is_refused),
        cmocka_unit_test_setup_teardown(
            a_replaced_disk_votes_once_it_has_recovered, opened, closed),
        STARTED(owners_of_the_old_topology_write_no_more),
        STARTED(what_was_under_way_when_it_moved_is_no_vote),
        STARTED(a_read_of_the_old_owners_writes_nothing_back),
        cmocka_unit_test_setup_teardown(who_is_older_or_away_holds_a_leave_up,
                                        opened, closed),
        cmocka_unit_test_setup_teardown(all_others_have_to_be_there, opened,
                                        closed),
        STARTED(an_heir_reads_once_all_go_by_its_topology),
        STARTED(decrees_that_contradict_are_not_taken),
        STARTED(what_was_decreed_outlives_a_restart),
        STARTED(who_has_left_is_refused),
        STARTED(one_that_has_left_ends_and_does_not_start),
        STARTED(hints_for_one_that_leaves_are_its_heirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
