/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/batch.h"
#include "proto/envelope.h"
#include "tests/proto/transport_fixture.h"
#include "tests/proxy/server_fixture.h"

#include <stdio.h>

/* What whole servers do with batches. The engine does not matter here, so it
 * is the one that needs no disk. */

enum { KIB = 1024, MIB = 1024 * KIB };

/* --- a client by hand --- */

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct transport *transport;
    struct connection *connection;
    struct buffer last; /* payload */
    size_t count;
};

static void on_nothing(struct connection *connection, void *user)
{
    (void)connection;
    (void)user;
}

static void on_end(struct connection *connection, void *user,
                   const struct error *why)
{
    (void)connection;
    (void)user;
    (void)why;
}

static void on_mail(struct connection *connection, void *user,
                    const struct frame *frames, size_t count)
{
    struct mailbox *box = user;
    (void)connection;
    pthread_mutex_lock(&box->lock);
    buffer_clear(&box->last);
    if (buffer_append(&box->last, frames[count - 1].payload) != STATUS_OK)
        abort();
    box->count += count;
    pthread_cond_signal(&box->changed);
    pthread_mutex_unlock(&box->lock);
}

static const struct transport_handlers mail_handlers = {
    .opened = on_nothing, .frames = on_mail, .closed = on_end};

static void mailbox_open(struct mailbox *box, const struct cluster *cluster)
{
    struct error error;
    struct transport_limits limits = test_limits;
    limits.frame_bytes_max = limits.queue_bytes_max = 64 * MIB;
    *box = (struct mailbox){.lock = PTHREAD_MUTEX_INITIALIZER,
                            .changed = PTHREAD_COND_INITIALIZER};
    if (transport_open(&limits, &box->transport, &error) != STATUS_OK ||
        transport_dial(box->transport, cluster->nodes[0].client, &mail_handlers,
                       box, &box->connection, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void mailbox_close(struct mailbox *box)
{
    connection_close(box->connection);
    connection_release(box->connection);
    transport_close(box->transport);
    buffer_fini(&box->last);
}

static void post(struct mailbox *box, struct buffer *parts)
{
    assert_int_equal(
        connection_send(box->connection, ID_TOP_BIT | 7, bytes_of(NULL, 0),
                        batch_seal(parts, RKV__ENVELOPE__BODY_BATCH)),
        STATUS_OK);
    connection_flush(box->connection);
    buffer_fini(parts);
}

/* Send the batch, wait for its answer. */
static const Rkv__Envelope *ask(struct mailbox *box, struct buffer *parts,
                                struct arena *arena)
{
    struct error error;
    size_t before = box->count;
    post(box, parts);
    pthread_mutex_lock(&box->lock);
    while (box->count == before)
        pthread_cond_wait(&box->changed, &box->lock);
    pthread_mutex_unlock(&box->lock);
    arena_init(arena, envelope_budget(box->last.size));
    const Rkv__Envelope *envelope =
        envelope_unpack(buffer_bytes(&box->last), arena, &error);
    if (envelope == NULL)
        fail_msg("%s", error.text);
    return envelope;
}

static struct buffer begun(void)
{
    struct buffer parts = {0};
    assert_int_equal(batch_begin(&parts), STATUS_OK);
    return parts;
}

static void add_write(struct buffer *parts, const char *key)
{
    Rkv__Write write = RKV__WRITE__INIT;
    Rkv__BatchItem item = RKV__BATCH_ITEM__INIT;
    write.key = write.value = binary_of_bytes(bytes_of_string(key));
    item.body_case = RKV__BATCH_ITEM__BODY_WRITE;
    item.write = &write;
    assert_int_equal(batch_append(parts, &item.base), STATUS_OK);
}

static void add_read(struct buffer *parts, const char *key)
{
    Rkv__Read read = RKV__READ__INIT;
    Rkv__BatchItem item = RKV__BATCH_ITEM__INIT;
    read.key = binary_of_bytes(bytes_of_string(key));
    item.body_case = RKV__BATCH_ITEM__BODY_READ;
    item.read = &read;
    assert_int_equal(batch_append(parts, &item.base), STATUS_OK);
}

static void add_nothing(struct buffer *parts)
{
    Rkv__BatchItem item = RKV__BATCH_ITEM__INIT;
    assert_int_equal(batch_append(parts, &item.base), STATUS_OK);
}

static const Rkv__Result *result_of(const Rkv__BatchItemReply *reply)
{
    switch ((int)reply->body_case) {
    case RKV__BATCH_ITEM_REPLY__BODY_RESULT:
        return reply->result;
    case RKV__BATCH_ITEM_REPLY__BODY_WRITE_REPLY:
        return reply->write_reply->result;
    case RKV__BATCH_ITEM_REPLY__BODY_READ_REPLY:
        return reply->read_reply->result;
    default:
        fail_msg("no reply");
        return NULL;
    }
}

static const Rkv__BatchReply *replies_of(const Rkv__Envelope *envelope,
                                         size_t count)
{
    if (envelope->body_case == RKV__ENVELOPE__BODY_RESULT)
        fail_msg("%s", envelope->result->message);
    assert_int_equal(envelope->body_case, RKV__ENVELOPE__BODY_BATCH_REPLY);
    assert_int_equal(envelope->batch_reply->n_replies, count);
    return envelope->batch_reply;
}

static size_t count_status(const Rkv__BatchReply *reply, Rkv__Status status)
{
    size_t count = 0;
    for (size_t i = 0; i < reply->n_replies; i++)
        count += result_of(reply->replies[i])->status == status;
    return count;
}

/* --- whole batches --- */

static struct replikv_bytes bytes_from(const char *string)
{
    return replikv_bytes_of(string, strlen(string));
}

static void each_request_is_answered_as_if_alone(void **state)
{
    (void)state;
    static const char long_key[REPLIKV_KEY_BYTES_MAX + 1];
    struct cluster *cluster = cluster_new("memory", 3, NULL);
    cluster_open(cluster);
    struct replikv *client = cluster_client(cluster, 0);
    const struct replikv_request requests[] = {
        {.kind = REPLIKV_GET, .key = bytes_from("there")},
        {.kind = REPLIKV_PUT,
         .key = replikv_bytes_of(long_key, sizeof long_key)},
        {.kind = REPLIKV_PUT,
         .key = bytes_from("new"),
         .value = bytes_from("value"),
         .level = REPLIKV_LEVEL_ALL},
        {.kind = REPLIKV_GET, .key = bytes_from("never")},
        {.kind = REPLIKV_GET, .bucket = "other", .key = bytes_from("k")},
    };
    expect_serves(cluster, 1, "there");
    struct replikv_result *result =
        replikv_call(client, &(struct replikv_request){.kind = REPLIKV_BATCH,
                                                       .requests = requests,
                                                       .request_count = 5});
    const struct replikv_result *each = result->results;
    assert_int_equal(result->result_count, 5);
    assert_int_equal(each[0].status, REPLIKV_OK);
    assert_memory_equal(each[0].values[0].data, "there", 5);
    assert_int_equal(each[1].status, REPLIKV_TOO_LARGE);
    assert_int_equal(each[1].outcome, REPLIKV_NOT_APPLIED);
    assert_non_null(strstr(each[1].message, "key: 481 bytes"));
    assert_int_equal(each[2].outcome, REPLIKV_APPLIED);
    assert_int_equal(each[2].got, 3);
    assert_true(each[2].context.size > 0);
    assert_int_equal(each[3].status, REPLIKV_NOT_FOUND);
    assert_int_equal(each[4].status, REPLIKV_INVALID);
    assert_non_null(strstr(each[4].message, "bucket: \"other\""));
    replikv_result_free(result);
    result = replikv_get(client, bytes_from("new"));
    assert_memory_equal(result->values[0].data, "value", 5);
    replikv_result_free(result);
    assert_int_equal(cluster_counter(cluster, 0, "batches"), 1);
    replikv_close(client);
    cluster_free(cluster);
}

/* More than one turn takes. */
static void the_largest_batch_is_carried_out_whole(void **state)
{
    (void)state;
    enum { MANY = REPLIKV_BATCH_MAX };
    static struct replikv_bytes keys[MANY];
    static char text[MANY][12];
    struct cluster *cluster = cluster_new("memory", 3, NULL);
    cluster_open(cluster);
    struct replikv *client = cluster_client(cluster, 0);
    for (size_t i = 0; i < MANY; i++) {
        snprintf(text[i], sizeof text[i], "many-%zu", i);
        keys[i] = bytes_from(text[i]);
    }
    struct replikv_result *result =
        replikv_put_many(client, keys, keys, NULL, MANY);
    assert_int_equal(result->outcome, REPLIKV_APPLIED);
    replikv_result_free(result);
    replikv_close(client);
    client = cluster_client(cluster, 1);
    result = replikv_get_many(client, keys, MANY);
    assert_int_equal(result->status, REPLIKV_OK);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(result->results[i].value_count, 1);
        assert_int_equal(result->results[i].values[0].size, keys[i].size);
        assert_memory_equal(result->results[i].values[0].data, text[i],
                            keys[i].size);
    }
    replikv_result_free(result);
    replikv_close(client);
    cluster_free(cluster);
}

/* --- what no batch may be --- */

static void expect_refused(struct mailbox *box, struct buffer *parts,
                           Rkv__Status status, const char *said)
{
    struct arena arena;
    const Rkv__Envelope *envelope = ask(box, parts, &arena);
    assert_int_equal(envelope->body_case, RKV__ENVELOPE__BODY_RESULT);
    assert_int_equal(envelope->result->status, status);
    assert_int_equal(envelope->result->outcome, RKV__OUTCOME__NOT_APPLIED);
    if (strstr(envelope->result->message, said) == NULL)
        fail_msg("%s", envelope->result->message);
    arena_fini(&arena);
}

static void what_no_batch_may_be_is_refused(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new("memory", 1, NULL);
    struct mailbox box;
    struct arena arena;
    cluster_open(cluster);
    mailbox_open(&box, cluster);
    struct buffer parts = begun();
    expect_refused(&box, &parts, RKV__STATUS__INVALID,
                   "batch.requests: 0, allowed are 1 to 1000");
    parts = begun();
    for (size_t i = 0; i <= BATCH_REQUESTS_MAX; i++)
        add_write(&parts, "k");
    expect_refused(&box, &parts, RKV__STATUS__INVALID, "1001");
    assert_int_equal(cluster_counter(cluster, 0, "batches_refused"), 2);
    assert_int_equal(cluster_counter(cluster, 0, "writes"), 0);

    parts = begun();
    add_write(&parts, "k");
    add_nothing(&parts);
    add_read(&parts, "never");
    const Rkv__BatchReply *reply = replies_of(ask(&box, &parts, &arena), 3);
    assert_int_equal(result_of(reply->replies[0])->outcome,
                     RKV__OUTCOME__APPLIED);
    assert_int_equal(result_of(reply->replies[1])->status,
                     RKV__STATUS__INVALID);
    assert_non_null(strstr(result_of(reply->replies[1])->message,
                           "neither a write nor a read"));
    assert_int_equal(result_of(reply->replies[2])->status,
                     RKV__STATUS__NOT_FOUND);
    arena_fini(&arena);

    /* Nothing but what is wrong: the batch ends as it begins. */
    parts = begun();
    add_nothing(&parts);
    reply = replies_of(ask(&box, &parts, &arena), 1);
    assert_int_equal(count_status(reply, RKV__STATUS__INVALID), 1);
    arena_fini(&arena);
    mailbox_close(&box);
    cluster_free(cluster);
}

/* --- bounds --- */

static void requests_over_inflight_max_are_overloaded_alone(void **state)
{
    (void)state;
    enum { MAX = 8, MANY = 64 };
    struct cluster *cluster =
        cluster_new("memory", 1, "limits: {inflight_max: 8}\n");
    struct mailbox box;
    struct arena arena;
    cluster_open(cluster);
    mailbox_open(&box, cluster);
    /* One turn takes them all before the engine has any. */
    struct buffer parts = begun();
    for (size_t i = 0; i < MANY; i++)
        add_write(&parts, "k");
    const Rkv__BatchReply *reply = replies_of(ask(&box, &parts, &arena), MANY);
    assert_int_equal(count_status(reply, RKV__STATUS__OK), MAX);
    assert_int_equal(count_status(reply, RKV__STATUS__OVERLOADED), MANY - MAX);
    const Rkv__Result *last = result_of(reply->replies[MANY - 1]);
    assert_int_equal(last->outcome, RKV__OUTCOME__NOT_APPLIED);
    assert_true(last->retry_after_ms > 0);
    arena_fini(&arena);
    mailbox_close(&box);

    /* To who tries again it is only slow. */
    struct replikv_bytes keys[3 * MAX];
    char text[3 * MAX][8];
    for (size_t i = 0; i < 3 * MAX; i++) {
        snprintf(text[i], sizeof text[i], "k%zu", i);
        keys[i] = bytes_from(text[i]);
    }
    struct replikv_result *result =
        replikv_put_many(cluster->nodes[0].ask, keys, keys, NULL, 3 * MAX);
    assert_int_equal(result->outcome, REPLIKV_APPLIED);
    assert_int_equal(result->attempts, 3);
    replikv_result_free(result);
    cluster_free(cluster);
}

/* Else all of it would be in flight at once, and everybody else would wait. */
static void a_turn_pauses_within_a_large_batch(void **state)
{
    (void)state;
    enum { MANY = 200 };
    struct cluster *cluster =
        cluster_new("memory", 1, "limits: {inflight_max: 64}\n");
    struct mailbox box;
    struct arena arena;
    char key[32];
    cluster_open(cluster);
    mailbox_open(&box, cluster);
    /* Reads: they are run by who pauses. Writes may be by who writes already,
     * and then a pause does not see them through. */
    struct buffer parts = begun();
    for (int i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add_read(&parts, key);
    }
    const Rkv__BatchReply *reply = replies_of(ask(&box, &parts, &arena), MANY);
    assert_int_equal(count_status(reply, RKV__STATUS__NOT_FOUND), MANY);
    arena_fini(&arena);
    mailbox_close(&box);
    cluster_free(cluster);
}

static void put_large(struct cluster *cluster, const char *key, size_t size)
{
    uint8_t *value = calloc(1, size);
    assert_non_null(value);
    struct replikv_result *result =
        replikv_put(cluster->nodes[0].ask, bytes_from(key),
                    replikv_bytes_of(value, size), (struct replikv_bytes){0});
    assert_int_equal(result->outcome, REPLIKV_APPLIED);
    replikv_result_free(result);
    free(value);
}

/* The reply to `reads` reads of the large value, among which are two writes:
 * so many of the reads are OK, and the others have the status. */
static void expect_some(struct cluster *cluster, size_t reads, size_t ok,
                        Rkv__Status status, const char *said)
{
    struct mailbox box;
    struct arena arena;
    mailbox_open(&box, cluster);
    struct buffer parts = begun();
    add_write(&parts, "before");
    for (size_t i = 0; i < reads; i++)
        add_read(&parts, "large");
    add_write(&parts, "behind");
    const Rkv__BatchReply *reply =
        replies_of(ask(&box, &parts, &arena), reads + 2);
    assert_int_equal(count_status(reply, RKV__STATUS__OK), ok + 2);
    assert_int_equal(count_status(reply, status), reads - ok);
    for (size_t i = 1; i <= reads; i++) {
        const Rkv__Result *result = result_of(reply->replies[i]);
        if (result->status == status)
            assert_non_null(strstr(result->message, said));
    }
    for (size_t i = 0; i <= reads + 1; i += reads + 1)
        assert_int_equal(result_of(reply->replies[i])->outcome,
                         RKV__OUTCOME__APPLIED);
    arena_fini(&arena);
    mailbox_close(&box);
}

static void replies_beyond_the_frame_limit_are_too_large_alone(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_new("memory", 1, "limits: {value_bytes_max: 1MiB}\n");
    cluster_open(cluster);
    put_large(cluster, "large", MIB);
    /* A frame to a client may have 16 MiB. */
    expect_some(cluster, 20, 15, RKV__STATUS__TOO_LARGE, "frame limit");
    assert_int_equal(cluster_counter(cluster, 0, "replies_too_large"), 5);
    expect_serves(cluster, 0, "others");
    cluster_free(cluster);
}

/* What would fill the frame up is refused, as all that follow have to fit. */
static void large_replies_leave_room_for_the_small_ones(void **state)
{
    (void)state;
    enum { LARGE = 15, MANY = BATCH_REQUESTS_MAX, LEFT_BYTES = 8000 };
    struct cluster *cluster =
        cluster_new("memory", 1, "limits: {value_bytes_max: 1MiB}\n");
    struct mailbox box;
    struct arena arena;
    cluster_open(cluster);
    put_large(cluster, "large", MIB);
    put_large(cluster, "fills", MIB - LARGE * 64 - LEFT_BYTES);
    mailbox_open(&box, cluster);
    struct buffer parts = begun();
    for (size_t i = 0; i < MANY; i++)
        add_read(&parts, i < LARGE ? "large" : i == LARGE ? "fills" : "never");
    const Rkv__BatchReply *reply = replies_of(ask(&box, &parts, &arena), MANY);
    assert_int_equal(count_status(reply, RKV__STATUS__OK), LARGE);
    assert_int_equal(result_of(reply->replies[LARGE])->status,
                     RKV__STATUS__TOO_LARGE);
    assert_int_equal(count_status(reply, RKV__STATUS__NOT_FOUND),
                     MANY - LARGE - 1);
    arena_fini(&arena);
    mailbox_close(&box);
    cluster_free(cluster);
}

static void replies_that_wait_are_bounded(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new(
        "memory", 1,
        "limits: {value_bytes_max: 64KiB, inflight_bytes_max: 300KiB}\n");
    cluster_open(cluster);
    put_large(cluster, "large", 64 * KIB);
    expect_some(cluster, 10, 4, RKV__STATUS__OVERLOADED,
                "replies to batches are waiting");
    expect_serves(cluster, 0, "others");
    cluster_free(cluster);
}

/* --- clients that go --- */

/* Send batches, hang up at the first answer. */
static void batches_and_go(struct cluster *cluster)
{
    enum { BATCHES = 16, EACH = 64 };
    struct mailbox box;
    char key[32];
    mailbox_open(&box, cluster);
    for (int i = 0; i < BATCHES; i++) {
        struct buffer parts = begun();
        for (int j = 0; j < EACH; j++) {
            snprintf(key, sizeof key, "gone-%d-%d", i, j);
            add_read(&parts, key);
        }
        post(&box, &parts);
    }
    pthread_mutex_lock(&box.lock);
    while (box.count == 0)
        pthread_cond_wait(&box.changed, &box.lock);
    pthread_mutex_unlock(&box.lock);
    mailbox_close(&box);
}

static bool has_dropped(void *of)
{
    batches_and_go(of);
    return cluster_counter(of, 0, "replies_dropped") > 0;
}

/* That nothing of them is left is asserted when the server closes. */
static void batches_of_gone_clients_are_freed(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new("memory", 3, NULL);
    cluster_open(cluster);
    wait_until("a reply is dropped", has_dropped, cluster);
    expect_serves(cluster, 0, "others");
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_is_answered_as_if_alone),
        cmocka_unit_test(the_largest_batch_is_carried_out_whole),
        cmocka_unit_test(what_no_batch_may_be_is_refused),
        cmocka_unit_test(requests_over_inflight_max_are_overloaded_alone),
        cmocka_unit_test(a_turn_pauses_within_a_large_batch),
        cmocka_unit_test(replies_beyond_the_frame_limit_are_too_large_alone),
        cmocka_unit_test(large_replies_leave_room_for_the_small_ones),
        cmocka_unit_test(replies_that_wait_are_bounded),
        cmocka_unit_test(batches_of_gone_clients_are_freed),
    };
    return cmocka_run_group_tests_name("server_batch", tests, NULL, NULL);
}
