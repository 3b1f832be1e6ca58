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
    for (int what = 0; what <= RKV__ADMIN__WHAT__DIGEST; what++) {
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            each_request_is_answered_once_whatever_memory_there_is),
        cmocka_unit_test(what_does_not_fit_is_said_and_never_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
