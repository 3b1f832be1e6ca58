/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

/* --- the memory of one step --- */

static void ask_everything(struct fixture *f)
{
    struct bytes record = record_of(f, 2, 1, "other");
    Rkv__List list = RKV__LIST__INIT;
    Rkv__Scan scan = RKV__SCAN__INIT;
    Rkv__Handoff handoff = RKV__HANDOFF__INIT;
    Rkv__Row row = RKV__ROW__INIT;
    Rkv__Row *rows[] = {&row};
    row.bucket = bucket_id_of("default").value;
    row.key = binary_of_bytes(bytes_of_string("k"));
    row.record = binary_of_bytes(record);
    handoff.rows = rows;
    handoff.n_rows = 1;
    list.partition = scan.partition =
        key_in(f, TABLE_DATA, 0, "default", "k").partition.value;
    uint64_t token = 1;
    put(f, 1, token++, write_of(f, "k", "value"));
    disk(f, 1);
    get(f, 1, token++, read_of(f, "k"));
    peer(f, 1, 2, token++, RKV__ENVELOPE__BODY_STORE, store_of(f, "k", record));
    peer(f, 1, 2, token++, RKV__ENVELOPE__BODY_FETCH, fetch_of(f, "k"));
    peer(f, 1, 2, token++, RKV__ENVELOPE__BODY_SCAN, &scan);
    peer(f, 1, 2, token++, RKV__ENVELOPE__BODY_HANDOFF, &handoff);
    client(f, 1, token++, RKV__ENVELOPE__BODY_LIST, &list);
    for (int what = 0; what <= RKV__ADMIN__WHAT__LATENCY; what++) {
        Rkv__Admin admin = RKV__ADMIN__INIT;
        admin.what = (Rkv__Admin__What)what;
        admin.key = row.key;
        client(f, 1, token++, RKV__ENVELOPE__BODY_ADMIN, &admin);
    }
    peer(f, 1, 2, token++, RKV__ENVELOPE__BODY_HELLO, hello_of(f, 2));
    meet(f, 1, 3);
    disk(f, 1);
}

static void each_request_is_answered_once_whatever_memory_there_is(void **state)
{
    (void)state;
    static struct fixture f;
    for (size_t budget = 0; budget < 16384; budget += 48) {
        node_open(&f, 3, 3);
        node_start(&f);
        f.effects.arena.budget = budget;
        ask_everything(&f);
        for (int node = 2; node <= 3; node++)
            while (request_at(&f, node) != NULL)
                fetched(&f, 2, node, STATUS_OK, record_of(&f, 2, 1, "other"));
        disk(&f, 2);
        node_close(&f);
    }
}

/* Half an answer is none: a list without some of its items, a value without
 * its context, not found because there was no room for the value. */
static void what_does_not_fit_is_said_and_never_cut(void **state)
{
    (void)state;
    static struct fixture f;
    Rkv__Read *read;
    size_t spent = 0, whole = 0;
    for (size_t budget = 0; budget < 8192; budget += 16) {
        node_open(&f, 1, 1);
        node_start(&f);
        put(&f, 1, 1, write_of(&f, "k", "value"));
        disk(&f, 1);
        read = read_of(&f, "k");
        f.effects.arena.budget = budget;
        get(&f, 1, 2, read);
        disk(&f, 1);
        tick(&f, 5000);
        if (f.reply->body_case == RKV__ENVELOPE__BODY_READ_REPLY &&
            f.reply->read_reply->result->status != RKV__STATUS__TIMEOUT) {
            assert_int_equal(f.reply->read_reply->result->status,
                             RKV__STATUS__OK);
            assert_int_equal(f.reply->read_reply->n_values, 1);
            assert_true(f.reply->read_reply->context.len > 0);
            whole++;
        } else {
            spent++;
        }
        node_close(&f);
    }
    assert_true(spent > 0);
    assert_true(whole > 0);
}

/* --- how much is under way --- */

static void requests_beyond_inflight_max_are_answered_at_once(void **state)
{
    (void)state;
    static struct fixture f;
    node_open(&f, 3, 3);
    f.config.limits.inflight_max = 2;
    node_start(&f);
    for (uint64_t token = 1; token <= 3; token++)
        put(&f, 1, token, write_of(&f, "k", "v"));
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  1] ask 2 -> coordinate k\n"
                     "[  1] ask 3 -> reply 3 overloaded not_applied retry\n");
    for (uint64_t token = 4; token <= 6; token++)
        get(&f, 1, token, read_of(&f, "k"));
    expect_trace(&f, "[  1] ask 4 -> read k, fetch n3\n"
                     "[  1] ask 5 -> read k, fetch n3\n"
                     "[  1] ask 6 -> reply 6 overloaded retry\n");
    assert_int_equal(counter_of(&f, "refused_overloaded"), 2);
    disk(&f, 2);
    tick(&f, 1001);
    f.trace_size = 0;
    put(&f, 1002, 7, write_of(&f, "k", "v"));
    get(&f, 1002, 8, read_of(&f, "k"));
    expect_trace(&f, "[1002] ask 7 -> coordinate k\n"
                     "[1002] ask 8 -> read k, fetch n2\n");
    node_close(&f);
}

static void bytes_beyond_inflight_bytes_max_are_not_taken_in(void **state)
{
    (void)state;
    static struct fixture f;
    static char value[20001];
    memset(value, 'v', 20000);
    node_open(&f, 3, 3);
    f.config.limits.inflight_bytes_max = 50000;
    node_start(&f);
    for (uint64_t token = 1; token <= 3; token++)
        put(&f, 1, token, write_of(&f, "k", value));
    expect_trace(&f, "[  1] ask 1 -> coordinate k\n"
                     "[  1] ask 2 -> coordinate k\n"
                     "[  1] ask 3 -> reply 3 overloaded not_applied retry\n");
    disk_fails(&f, 2, STATUS_BROKEN);
    f.trace_size = 0;
    put(&f, 3, 4, write_of(&f, "k", value));
    expect_trace(&f, "[  3] ask 4 -> coordinate k\n");
    node_close(&f);
}

/* What reads have been told counts as well: many reads of large values must
 * not take all memory. */
static void records_that_reads_hold_are_bounded(void **state)
{
    (void)state;
    static struct fixture f;
    static char value[20001];
    memset(value, 'v', 20000);
    node_open(&f, 3, 3);
    f.config.limits.inflight_bytes_max = 50000;
    node_start(&f);
    for (uint64_t token = 1; token <= 4; token++)
        get(&f, 1, token, read_of(&f, "k"));
    disk(&f, 1);
    struct bytes record = record_of(&f, 2, 1, value);
    /* Our own copy answered with nothing: it is written back to. */
    f.trace_size = 0;
    for (int i = 0; i < 4; i++)
        fetched(&f, 2, 3, STATUS_OK, record);
    assert_int_equal(f.answers[1] + f.answers[2], 0);
    expect_trace(&f, "[  2] n3 fetched ok -> merge k\n"
                     "[  2] n3 fetched ok -> merge k\n"
                     "[  2] n3 fetched ok -> merge k, "
                     "reply 3 overloaded 2/2 retry\n"
                     "[  2] n3 fetched ok -> merge k, "
                     "reply 4 overloaded 2/2 retry\n");
    disk(&f, 3);
    assert_int_equal(f.answers[1] + f.answers[2], 2);
    get(&f, 4, 5, read_of(&f, "k"));
    disk(&f, 4);
    fetched(&f, 5, 3, STATUS_OK, record);
    assert_int_equal(f.answers[5], 1);
    node_close(&f);
}

static void hand_offs_beyond_what_is_kept_are_answered_at_once(void **state)
{
    (void)state;
    static struct fixture f;
    Rkv__Handoff handoff = RKV__HANDOFF__INIT;
    Rkv__Row row = RKV__ROW__INIT;
    Rkv__Row *rows[] = {&row};
    node_open(&f, 3, 3);
    node_start(&f);
    row.bucket = bucket_id_of("default").value;
    row.key = binary_of_bytes(bytes_of_string("k"));
    row.record = binary_of_bytes(record_of(&f, 2, 1, "v"));
    handoff.rows = rows;
    handoff.n_rows = 1;
    for (uint64_t token = 1; token <= 65; token++)
        peer(&f, 1, 2, token, RKV__ENVELOPE__BODY_HANDOFF, &handoff);
    assert_int_equal(f.reply->handoff_reply->status, RKV__STATUS__OVERLOADED);
    assert_int_equal(f.answers[65], 1);
    disk(&f, 2);
    for (uint64_t token = 1; token <= 64; token++)
        assert_int_equal(f.answers[token], 1);
    f.trace_size = 0;
    node_close(&f);
}

/* --- nonsense from peers --- */

static void malformed_stores_and_fetches_are_refused(void **state)
{
    (void)state;
    static struct fixture f;
    static uint8_t zeros[KEY_BYTES_MAX + 1];
    struct bytes good;
    node_open(&f, 5, 3);
    node_start(&f);
    good = record_of(&f, 2, 1, "v");
    const char *key = key_owned_by(&f, "default", "123");
    Rkv__Store *store = store_of(&f, key, good);
    uint64_t token = 1;
#define STORED(change)                                                         \
    store = store_of(&f, key, good);                                           \
    change;                                                                    \
    peer(&f, 1, 2, token++, RKV__ENVELOPE__BODY_STORE, store)
#define FETCHED(change)                                                        \
    fetch = fetch_of(&f, key);                                                 \
    change;                                                                    \
    peer(&f, 1, 2, token++, RKV__ENVELOPE__BODY_FETCH, fetch)
    STORED(store->bucket++);
    STORED(store->key.len = 0);
    STORED(store->key = binary_of_bytes(bytes_of(zeros, sizeof zeros)));
    STORED(store->target = binary_of_bytes(bytes_of(zeros, 15)));
    STORED(store->target = binary_of_bytes(bytes_of(zeros, NODE_ID_SIZE)));
    STORED(store->target =
               binary_of_bytes(bytes_of(f.members[3].id.bytes, NODE_ID_SIZE)));
    STORED(store->target =
               binary_of_bytes(bytes_of(f.members[0].id.bytes, NODE_ID_SIZE)));
    STORED(store->record.len = 0; store->record.data = NULL);
    STORED(store->record.len--);
    STORED(store->bucket = bucket_id_of("lww").value;
           store->key = binary_of_bytes(bytes_of_string("k0")));
    disk(&f, 1);
    expect_trace(&f, "[  1] ask 1 -> reply 1 invalid\n"
                     "[  1] ask 2 -> reply 2 invalid\n"
                     "[  1] ask 3 -> reply 3 invalid\n"
                     "[  1] ask 4 -> reply 4 refused\n"
                     "[  1] ask 5 -> reply 5 refused\n"
                     "[  1] ask 6 -> reply 6 refused\n"
                     "[  1] ask 7 -> reply 7 refused\n"
                     "[  1] ask 8 -> merge k21\n"
                     "[  1] ask 9 -> merge k21\n"
                     "[  1] ask 10 -> merge k0\n"
                     "[  1] stored corrupt -> reply 8 corrupt\n"
                     "[  1] stored corrupt -> reply 9 corrupt\n"
                     "[  1] stored invalid -> reply 10 invalid\n");
    Rkv__Fetch *fetch;
    FETCHED(fetch->bucket++);
    FETCHED(fetch->key.len = 0);
    FETCHED(fetch->key = binary_of_bytes(bytes_of(zeros, sizeof zeros)));
    FETCHED(fetch->target = binary_of_bytes(bytes_of(zeros, 1)));
    FETCHED(fetch->key = binary_of_bytes(
                bytes_of_string(key_owned_by(&f, "default", "234"))));
    disk(&f, 1);
    expect_trace(&f, "[  1] ask 11 -> reply 11 invalid\n"
                     "[  1] ask 12 -> reply 12 invalid\n"
                     "[  1] ask 13 -> reply 13 invalid\n"
                     "[  1] ask 14 -> reply 14 refused\n"
                     "[  1] ask 15 -> reply 15 uncertain\n");
    node_close(&f);
}

static void empty_messages_of_every_kind_are_answered(void **state)
{
    (void)state;
    static struct fixture f;
    node_open(&f, 3, 3);
    node_start(&f);
    const ProtobufCMessageDescriptor *envelope = &rkv__envelope__descriptor;
    uint64_t token = 1;
    for (unsigned i = 0; i < envelope->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &envelope->fields[i];
        if (field->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        const void *empty = message_new(&f.arena, field->descriptor);
        Rkv__Envelope__BodyCase body = (Rkv__Envelope__BodyCase)field->id;
        client(&f, 1, token++, body, empty);
        peer(&f, 1, 2, token++, body, empty);
    }
    disk(&f, 1);
    f.trace_size = 0;
    node_close(&f);
}

static void empty_replies_of_every_kind_are_failures(void **state)
{
    (void)state;
    static struct fixture f;
    const ProtobufCMessageDescriptor *envelope = &rkv__envelope__descriptor;
    for (unsigned i = 0; i < envelope->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &envelope->fields[i];
        if (field->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        node_open(&f, 5, 3);
        node_start(&f);
        const char *elsewhere = key_owned_by(&f, "default", "234");
        Rkv__List list = RKV__LIST__INIT;
        Rkv__Admin admin = RKV__ADMIN__INIT;
        list.partition =
            key_in(&f, TABLE_DATA, 0, "default", elsewhere).partition.value;
        admin.what = RKV__ADMIN__WHAT__EXPLAIN;
        admin.key = binary_of_bytes(bytes_of_string(elsewhere));
        put(&f, 1, 1, write_of(&f, elsewhere, "v"));
        put(&f, 1, 2, write_of(&f, key_owned_by(&f, "default", "123"), "v"));
        get(&f, 1, 3, read_of(&f, elsewhere));
        client(&f, 1, 4, RKV__ENVELOPE__BODY_LIST, &list);
        client(&f, 1, 5, RKV__ENVELOPE__BODY_ADMIN, &admin);
        disk(&f, 1);
        for (int node = 2; node <= 5; node++)
            while (request_at(&f, node) != NULL)
                answer(&f, 2, node, (Rkv__Envelope__BodyCase)field->id,
                       message_new(&f.arena, field->descriptor));
        f.trace_size = 0;
        node_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            each_request_is_answered_once_whatever_memory_there_is),
        cmocka_unit_test(what_does_not_fit_is_said_and_never_cut),
        cmocka_unit_test(requests_beyond_inflight_max_are_answered_at_once),
        cmocka_unit_test(bytes_beyond_inflight_bytes_max_are_not_taken_in),
        cmocka_unit_test(records_that_reads_hold_are_bounded),
        cmocka_unit_test(hand_offs_beyond_what_is_kept_are_answered_at_once),
        cmocka_unit_test(malformed_stores_and_fetches_are_refused),
        cmocka_unit_test(empty_messages_of_every_kind_are_answered),
        cmocka_unit_test(empty_replies_of_every_kind_are_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
