/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/core/recording.h"
#include "tests/proxy/server_fixture.h"

#include <stdio.h>

/* Three whole servers in one process, under the load of clients with many
 * requests in flight. The engine is the program's argument. */

enum { WRITERS = 3, WRITES_MAX = 2000, IN_FLIGHT = 16 };

static const char *engine;

struct writer;
struct work {
    struct writer *writer;
    char key[24]; /* and value */
    bool acknowledged;
};

/* A client on a thread of its own. */
struct writer {
    struct cluster *cluster;
    struct replikv *client;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t target; /* stop after so many */
    size_t begun, ended, acknowledged, unlike;
    struct work work[WRITES_MAX];
};

static void ended(struct writer *writer, bool acknowledged, bool unlike)
{
    pthread_mutex_lock(&writer->lock);
    writer->ended++;
    writer->acknowledged += acknowledged;
    writer->unlike += unlike;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
}

static void written(void *user, struct replikv_result *result)
{
    struct work *work = user;
    work->acknowledged =
        result->status == REPLIKV_OK && result->outcome == REPLIKV_APPLIED;
    ended(work->writer, work->acknowledged,
          result->outcome == REPLIKV_NONE ||
              (result->status == REPLIKV_OK && !work->acknowledged));
    replikv_result_free(result);
}

static void read_back(void *user, struct replikv_result *result)
{
    struct work *work = user;
    size_t size = strlen(work->key);
    bool unlike = result->status != REPLIKV_OK || result->value_count != 1 ||
                  result->values[0].size != size ||
                  memcmp(result->values[0].data, work->key, size) != 0;
    ended(work->writer, false, unlike);
    replikv_result_free(result);
}

/* Wait for a place among those in flight; false once there is no more to do. */
static bool may_begin(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    while (writer->begun < writer->target &&
           writer->begun - writer->ended >= IN_FLIGHT)
        pthread_cond_wait(&writer->changed, &writer->lock);
    bool may = writer->begun < writer->target;
    writer->begun += may;
    pthread_mutex_unlock(&writer->lock);
    return may;
}

static void start(struct writer *writer, struct work *work,
                  enum replikv_kind kind)
{
    struct replikv_bytes bytes = replikv_bytes_of(work->key, strlen(work->key));
    struct replikv_request request = {.kind = kind,
                                      .key = bytes,
                                      .value = bytes,
                                      .level = REPLIKV_LEVEL_QUORUM};
    if (replikv_start(writer->client, &request,
                      kind == REPLIKV_PUT ? written : read_back, work,
                      NULL) != REPLIKV_OK)
        ended(writer, false, true);
}

static void drain(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    while (writer->ended < writer->begun)
        pthread_cond_wait(&writer->changed, &writer->lock);
    pthread_mutex_unlock(&writer->lock);
}

static void *write_all(void *user)
{
    struct writer *writer = user;
    for (size_t i = 0; may_begin(writer); i++)
        start(writer, &writer->work[i], REPLIKV_PUT);
    drain(writer);
    return NULL;
}

static struct writer *writers_start(struct cluster *cluster, size_t writes)
{
    struct writer *writers = calloc(WRITERS, sizeof *writers);
    assert_non_null(writers);
    for (size_t i = 0; i < WRITERS; i++) {
        struct writer *writer = &writers[i];
        writer->cluster = cluster;
        writer->client = cluster_client(cluster, i);
        writer->target = writes;
        pthread_mutex_init(&writer->lock, NULL);
        pthread_cond_init(&writer->changed, NULL);
        for (size_t j = 0; j < WRITES_MAX; j++) {
            struct work *work = &writer->work[j];
            work->writer = writer;
            snprintf(work->key, sizeof work->key, "w%zu.%zu", i, j);
        }
        assert_int_equal(
            pthread_create(&writer->thread, NULL, write_all, writer), 0);
    }
    return writers;
}

/* Let all have so many acknowledged writes, or nothing left to write. */
static void wait_acknowledged(struct writer *writers, size_t count)
{
    for (size_t i = 0; i < WRITERS; i++) {
        struct writer *writer = &writers[i];
        pthread_mutex_lock(&writer->lock);
        while (writer->acknowledged < count && writer->ended < writer->target)
            pthread_cond_wait(&writer->changed, &writer->lock);
        pthread_mutex_unlock(&writer->lock);
    }
}

static size_t acknowledged(struct writer *writers)
{
    size_t most = 0;
    for (size_t i = 0; i < WRITERS; i++) {
        pthread_mutex_lock(&writers[i].lock);
        if (writers[i].acknowledged > most)
            most = writers[i].acknowledged;
        pthread_mutex_unlock(&writers[i].lock);
    }
    return most;
}

/* No further write is begun; every one that was has its result. */
static void writers_join(struct writer *writers)
{
    for (size_t i = 0; i < WRITERS; i++) {
        struct writer *writer = &writers[i];
        pthread_mutex_lock(&writer->lock);
        writer->target = writer->begun;
        pthread_cond_broadcast(&writer->changed);
        pthread_mutex_unlock(&writer->lock);
    }
    for (size_t i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        assert_int_equal(writers[i].unlike, 0);
    }
}

/* Every acknowledged write is read, at quorum, by a client of another node. */
static void expect_read_back(struct writer *writers)
{
    for (size_t i = 0; i < WRITERS; i++) {
        struct writer *writer = &writers[i];
        size_t begun = writer->begun;
        replikv_close(writer->client);
        writer->client = cluster_client(writer->cluster, i + 1);
        writer->begun = writer->ended = 0;
        writer->target = begun;
        for (size_t j = 0; may_begin(writer); j++)
            if (writer->work[j].acknowledged)
                start(writer, &writer->work[j], REPLIKV_GET);
            else
                ended(writer, false, false);
        drain(writer);
        assert_int_equal(writer->unlike, 0);
    }
}

static void writers_free(struct writer *writers)
{
    for (size_t i = 0; i < WRITERS; i++) {
        replikv_close(writers[i].client);
        pthread_cond_destroy(&writers[i].changed);
        pthread_mutex_destroy(&writers[i].lock);
    }
    free(writers);
}

static void three_servers_answer_one_cluster(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_new(engine, 3, NULL);
    cluster_open(cluster);
    static const char *const keys[] = {"one", "two", "three"};
    for (size_t i = 0; i < 3; i++)
        expect_serves(cluster, i, keys[i]);
    for (size_t i = 0; i < 9; i++) {
        const char *key = keys[i / 3];
        struct replikv_result *result = replikv_get(
            cluster->nodes[i % 3].ask, replikv_bytes_of(key, strlen(key)));
        assert_int_equal(result->status, REPLIKV_OK);
        assert_int_equal(result->value_count, 1);
        assert_memory_equal(result->values[0].data, key, strlen(key));
        replikv_result_free(result);
    }
    cluster_wait_equal(cluster);
    cluster_free(cluster);
}

static void many_clients_at_once_lose_nothing(void **state)
{
    (void)state;
    enum { WRITES = 250 };
    struct cluster *cluster = cluster_new(engine, 3, NULL);
    cluster_open(cluster);
    struct writer *writers = writers_start(cluster, WRITES);
    wait_acknowledged(writers, WRITES);
    writers_join(writers);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(writers[i].acknowledged, WRITES);
    expect_read_back(writers);
    writers_free(writers);
    cluster_wait_equal(cluster);
    cluster_free(cluster);
}

static void a_server_that_closes_under_load_answers_or_drops(void **state)
{
    (void)state;
    enum { BEFORE = 50, WITHOUT = 100 };
    struct cluster *cluster = cluster_new(engine, 3, NULL);
    cluster_open(cluster);
    struct writer *writers = writers_start(cluster, WRITES_MAX);
    wait_acknowledged(writers, BEFORE);
    cluster_close_node(cluster, 2);
    wait_acknowledged(writers, acknowledged(writers) + WITHOUT);
    /* What was in memory is lost with the server, and that is said. */
    cluster_open_node(cluster, 2, strcmp(engine, "memory") == 0);
    cluster_wait_met(cluster);
    writers_join(writers);
    expect_read_back(writers);
    writers_free(writers);
    cluster_wait_equal(cluster);
    expect_serves(cluster, 2, "back");
    cluster_free(cluster);
}

/* How many events there were. */
static uint64_t events_recorded(struct replikv *client)
{
    struct recording recording;
    struct error error;
    struct replikv_result *result = replikv_call(
        client, &(struct replikv_request){.kind = REPLIKV_ADMIN,
                                          .what = REPLIKV_WHAT_RECORDING});
    assert_int_equal(result->status, REPLIKV_OK);
    struct bytes file =
        bytes_of(result->node->recording.data, result->node->recording.size);
    assert_int_equal(recording_open(file, &recording, &error), STATUS_OK);
    uint64_t events = recording.header.first_events + recording.header.missing +
                      recording.header.last_events;
    recording_fini(&recording);
    replikv_result_free(result);
    return events;
}

static void recordings_are_taken_under_load(void **state)
{
    (void)state;
    enum { WRITES = 250, RECORDINGS = 6 };
    struct cluster *cluster =
        cluster_new(engine, 3, "limits: {recorder_mib: 1}\n");
    cluster_open(cluster);
    struct writer *writers = writers_start(cluster, WRITES);
    uint64_t before[3] = {0};
    for (size_t i = 0; i < RECORDINGS; i++) {
        uint64_t events = events_recorded(cluster->nodes[i % 3].ask);
        assert_true(events > before[i % 3]);
        before[i % 3] = events;
        wait_acknowledged(writers, (i + 1) * WRITES / RECORDINGS);
    }
    writers_join(writers);
    writers_free(writers);
    cluster_free(cluster);
}

int main(int argc, char **argv)
{
    if (argc != 2 || engine_type_find(argv[1]) == NULL) {
        fprintf(stderr, "usage: server_test ENGINE\n");
        return 2;
    }
    engine = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_servers_answer_one_cluster),
        cmocka_unit_test(many_clients_at_once_lose_nothing),
        cmocka_unit_test(a_server_that_closes_under_load_answers_or_drops),
        cmocka_unit_test(recordings_are_taken_under_load),
    };
    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
