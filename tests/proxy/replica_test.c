/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/proxy/toy_storage.h"

/* What becomes of a key on its replicas, without a node around them: the
 * traps about dots, siblings and retries that others fell into. */

enum { REPLICAS = 3, WALL_MS = 1000000 };

struct world {
    struct toy_storage toys[REPLICAS];
    struct arena arena;
    uint64_t random;
    uint8_t request;
    bool mends; /* it writes over a damaged copy, as the only replica does */
};

static struct world world;

static int opened(void **state)
{
    (void)state;
    world = (struct world){.random = 1};
    arena_init(&world.arena, 256 << 20);
    for (size_t i = 0; i < REPLICAS; i++)
        toy_init(&world.toys[i], i + 1);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    for (size_t i = 0; i < REPLICAS; i++)
        toy_fini(&world.toys[i]);
    arena_fini(&world.arena);
    return 0;
}

static uint64_t draw(void)
{
    uint64_t z = (world.random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static struct storage_key data_key(void)
{
    return (struct storage_key){.table = TABLE_DATA,
                                .bucket = bucket_id_of("b"),
                                .key = bytes_of_string("k")};
}

static struct storage_key hint_key(void)
{
    struct storage_key key = data_key();
    key.table = TABLE_HINTS;
    key.target.bytes[0] = 1;
    return key;
}

static struct request_id new_request(void)
{
    struct request_id request = {.bytes = {0}};
    uint64_t parts[2] = {draw(), draw()};
    memcpy(request.bytes, parts, sizeof parts);
    return request;
}

static struct bytes kept(struct bytes bytes)
{
    return bytes_of(arena_copy(&world.arena, bytes.data, bytes.size),
                    bytes.size);
}

/* The record as it was left, in the arena. */
static enum status coordinate(struct toy_storage *toy, struct storage_key key,
                              struct request_id request, struct bytes context,
                              struct bytes value, struct bytes *record)
{
    struct storage_op op = {.kind = STORAGE_COORDINATE,
                            .key = key,
                            .wall_ms = WALL_MS,
                            .mends = world.mends,
                            .data = value,
                            .context = context,
                            .request = request};
    struct storage_result result;
    toy_run(toy, &op, &result);
    *record = kept(result.record);
    return result.status;
}

static void merge(struct toy_storage *toy, struct storage_key key,
                  struct bytes record)
{
    struct storage_op op = {.kind = STORAGE_MERGE,
                            .key = key,
                            .wall_ms = WALL_MS,
                            .mends = true,
                            .data = record};
    struct storage_result result;
    toy_run(toy, &op, &result);
    assert_int_equal(result.status, STATUS_OK);
}

static struct record decoded(struct bytes encoded)
{
    struct record record = record_empty(RECORD_SIBLINGS);
    if (encoded.size > 0)
        assert_int_equal(record_decode(encoded, &world.arena, &record),
                         STATUS_OK);
    return record;
}

static struct bytes context_of(struct bytes encoded)
{
    struct record record = decoded(encoded);
    struct storage_key key = data_key();
    struct context seen = record_seen(&record);
    struct buffer buffer = {0};
    assert_int_equal(
        context_encode(&seen, key_hash(key.bucket, key.key), &buffer),
        STATUS_OK);
    struct bytes context = kept(buffer_bytes(&buffer));
    buffer_fini(&buffer);
    return context;
}

/* riak_test's sibling_explosion: with plain version vectors 99 siblings. Both
 * have read, then they write in turn, each over what it read last. */
static void two_interleaved_writers_leave_two_siblings(void **state)
{
    (void)state;
    struct storage_key key = data_key();
    struct bytes seen[2] = {{0}}, record;
    for (int round = 0; round < 100; round++) {
        int writer = round % 2;
        struct toy_storage *at = &world.toys[round % REPLICAS];
        assert_int_equal(coordinate(at, key, new_request(), seen[writer],
                                    bytes_of_string("v"), &record),
                         STATUS_OK);
        for (size_t i = 0; i < REPLICAS; i++)
            merge(&world.toys[i], key, record);
        size_t siblings = decoded(record).value_count;
        assert_int_equal(siblings, round == 0 ? 1 : 2);
        seen[writer] = context_of(record);
        /* It has read, too, what the other wrote before; the other has not
         * read this. */
    }
}

static void a_write_that_two_coordinate_is_one_value(void **state)
{
    (void)state;
    struct storage_key key = data_key();
    struct bytes first, second, third;
    struct request_id request = new_request();
    struct bytes none = {0}, value = bytes_of_string("v");
    assert_int_equal(
        coordinate(&world.toys[0], key, request, none, value, &first), 0);
    assert_int_equal(
        coordinate(&world.toys[1], key, request, none, value, &second), 0);
    merge(&world.toys[0], key, second);
    merge(&world.toys[1], key, first);
    for (size_t i = 0; i < 2; i++) {
        struct bytes record = toy_get(&world.toys[i], &key);
        assert_int_equal(decoded(record).value_count, 1);
        assert_true(bytes_equal(record, toy_get(&world.toys[0], &key)));
    }
    /* Overwritten, and then sent once more by a client that heard nothing. */
    struct bytes over = context_of(toy_get(&world.toys[0], &key));
    assert_int_equal(coordinate(&world.toys[0], key, new_request(), over,
                                bytes_of_string("newer"), &third),
                     0);
    merge(&world.toys[1], key, third);
    assert_int_equal(
        coordinate(&world.toys[1], key, request, none, value, &third), 0);
    struct record left = decoded(third);
    assert_int_equal(left.value_count, 1);
    assert_true(bytes_equal(left.values[0].data, bytes_of_string("newer")));
}

/* riak_kv#679: the copy is gone, the counter begins again, and new writes are
 * taken for ones that were seen already. */
static void
a_write_after_the_copy_was_lost_is_not_taken_for_an_old_one(void **state)
{
    (void)state;
    struct storage_key key = data_key();
    struct bytes none = {0}, old, fresh;
    for (int i = 0; i < 3; i++) {
        struct bytes over =
            i == 0 ? none : context_of(toy_get(&world.toys[0], &key));
        assert_int_equal(coordinate(&world.toys[0], key, new_request(), over,
                                    bytes_of_string("old"), &old),
                         0);
    }
    merge(&world.toys[1], key, old);
    toy_put(&world.toys[0], &key, bytes_of_string("damaged"));
    assert_int_equal(coordinate(&world.toys[0], key, new_request(), none,
                                bytes_of_string("new"), &fresh),
                     STATUS_CORRUPT);
    world.mends = true;
    assert_int_equal(coordinate(&world.toys[0], key, new_request(), none,
                                bytes_of_string("new"), &fresh),
                     0);
    merge(&world.toys[1], key, fresh);
    assert_int_equal(decoded(toy_get(&world.toys[1], &key)).value_count, 2);
}

static void
another_copy_that_is_further_than_ours_renews_the_incarnation(void **state)
{
    (void)state;
    struct storage_key key = data_key();
    struct bytes none = {0}, before, after;
    assert_int_equal(coordinate(&world.toys[0], key, new_request(), none,
                                bytes_of_string("a"), &before),
                     0);
    assert_int_equal(coordinate(&world.toys[0], key, new_request(), none,
                                bytes_of_string("b"), &after),
                     0);
    uint64_t incarnation = world.toys[0].replica.actors.incarnation;
    toy_put(&world.toys[0], &key, before); /* as an older disk would */
    merge(&world.toys[0], key, before);
    assert_true(world.toys[0].replica.actors.incarnation == incarnation);
    merge(&world.toys[0], key, after);
    assert_true(world.toys[0].replica.actors.incarnation != incarnation);
}

/* A copy that was kept for a replica while it was away comes after the key was
 * deleted, or written anew. */
static void an_old_copy_that_comes_late_brings_nothing_back(void **state)
{
    (void)state;
    struct storage_key key = data_key();
    struct storage_op remove = {.kind = STORAGE_COORDINATE,
                                .key = key,
                                .wall_ms = WALL_MS,
                                .request = new_request(),
                                .tombstone = true};
    struct storage_result result;
    struct bytes none = {0}, old, fresh;
    assert_int_equal(coordinate(&world.toys[0], key, new_request(), none,
                                bytes_of_string("old"), &old),
                     0);
    remove.context = context_of(old);
    toy_run(&world.toys[0], &remove, &result);
    merge(&world.toys[0], key, old);
    struct record record = decoded(toy_get(&world.toys[0], &key));
    assert_true(record_is_deleted(&record, 0));
    assert_int_equal(record.value_count, 1);
    assert_int_equal(coordinate(&world.toys[0], key, new_request(),
                                context_of(toy_get(&world.toys[0], &key)),
                                bytes_of_string("new"), &fresh),
                     0);
    merge(&world.toys[0], key, old);
    record = decoded(toy_get(&world.toys[0], &key));
    assert_int_equal(record.value_count, 1);
    assert_true(bytes_equal(record.values[0].data, bytes_of_string("new")));
}

/* Through this replica, whose clock shows the stamp. */
static struct bytes write_lww(size_t toy, const char *text, uint64_t stamp,
                              struct bytes context)
{
    struct storage_op op = {.kind = STORAGE_COORDINATE,
                            .key = data_key(),
                            .record_kind = RECORD_LWW,
                            .wall_ms = WALL_MS,
                            .data = bytes_of_string(text),
                            .request = new_request(),
                            .stamp = stamp,
                            .context = context};
    struct storage_result result;
    toy_run(&world.toys[toy], &op, &result);
    assert_int_equal(result.status, STATUS_OK);
    return kept(result.record);
}

static void merge_lww(size_t toy, struct bytes record)
{
    struct storage_op op = {.kind = STORAGE_MERGE,
                            .key = data_key(),
                            .record_kind = RECORD_LWW,
                            .wall_ms = WALL_MS,
                            .data = record};
    struct storage_result result;
    toy_run(&world.toys[toy], &op, &result);
    assert_int_equal(result.status, STATUS_OK);
}

static void expect_lww(size_t toy, const char *text)
{
    struct storage_key key = data_key();
    struct record record = decoded(toy_get(&world.toys[toy], &key));
    assert_int_equal(record.value_count, 1);
    assert_true(bytes_equal(record.values[0].data, bytes_of_string(text)));
}

/* A write that is acknowledged is the newest, whatever the clock of whoever
 * wrote before: it could be lost to its own predecessor otherwise. */
static void a_write_wins_over_one_of_a_clock_that_is_ahead(void **state)
{
    (void)state;
    merge_lww(1, write_lww(0, "ahead", UINT64_MAX / 2, (struct bytes){0}));
    write_lww(1, "later", 1, (struct bytes){0});
    expect_lww(1, "later");
}

/* Though the replica that it is written through lacks what was read. */
static void a_write_wins_over_what_its_client_has_seen(void **state)
{
    (void)state;
    struct bytes read = write_lww(0, "read", UINT64_MAX / 2, (struct bytes){0});
    write_lww(1, "written over it", 1, context_of(read));
    merge_lww(1, read);
    expect_lww(1, "written over it");
}

static void a_context_of_another_key_is_refused(void **state)
{
    (void)state;
    struct storage_key key = data_key();
    struct bytes record, none = {0};
    assert_int_equal(coordinate(&world.toys[0], key, new_request(), none,
                                bytes_of_string("a"), &record),
                     0);
    struct bytes context = context_of(record);
    key.key = bytes_of_string("other");
    assert_int_equal(coordinate(&world.toys[0], key, new_request(), context,
                                bytes_of_string("a"), &record),
                     STATUS_REFUSED);
    assert_int_equal(toy_get(&world.toys[0], &key).size, 0);
    assert_int_equal(coordinate(&world.toys[0], key, new_request(),
                                bytes_of_string("malformed"),
                                bytes_of_string("a"), &record),
                     STATUS_INVALID);
}

static void a_write_that_cannot_be_is_told_why(void **state)
{
    (void)state;
    struct storage_op op = {.kind = STORAGE_COORDINATE,
                            .key = data_key(),
                            .wall_ms = WALL_MS,
                            .data = bytes_of_string("a")};
    struct storage_result result;
    toy_run(&world.toys[0], &op, &result);
    assert_int_equal(result.status, STATUS_INVALID);
    assert_non_null(strstr(result.message, "request_id: all zeros"));
}

static void
a_write_beyond_a_hundred_siblings_is_refused_a_merge_never(void **state)
{
    (void)state;
    struct storage_key key = data_key();
    struct bytes record, none = {0}, value = bytes_of_string("v");
    for (size_t i = 0; i < SIBLINGS_MAX; i++)
        assert_int_equal(coordinate(&world.toys[0], key, new_request(), none,
                                    value, &record),
                         STATUS_OK);
    struct bytes full = record;
    assert_int_equal(
        coordinate(&world.toys[0], key, new_request(), none, value, &record),
        STATUS_TOO_LARGE);
    struct bytes other;
    assert_int_equal(
        coordinate(&world.toys[1], key, new_request(), none, value, &other),
        STATUS_OK);
    merge(&world.toys[1], key, full);
    assert_int_equal(decoded(toy_get(&world.toys[1], &key)).value_count,
                     SIBLINGS_MAX + 1);
    /* The way out is the one that the message names. */
    assert_int_equal(coordinate(&world.toys[1], key, new_request(),
                                context_of(toy_get(&world.toys[1], &key)),
                                value, &record),
                     STATUS_OK);
    assert_int_equal(decoded(record).value_count, 1);
}

/* Larger than a frame it could not be sent to the other replicas. */
static void a_record_does_not_outgrow_what_a_frame_takes(void **state)
{
    (void)state;
    static uint8_t big[100000];
    struct storage_key key = data_key();
    struct bytes record, none = {0}, value = bytes_of(big, sizeof big);
    struct toy_storage *toy = &world.toys[0];
    toy->replica.value_bytes_max = sizeof big;
    for (size_t i = 0; i < RECORD_VALUE_SIZES_MAX; i++)
        assert_int_equal(
            coordinate(toy, key, new_request(), none, value, &record),
            STATUS_OK);
    assert_int_equal(coordinate(toy, key, new_request(), none, value, &record),
                     STATUS_TOO_LARGE);
    assert_int_equal(decoded(toy_get(toy, &key)).value_count,
                     RECORD_VALUE_SIZES_MAX);
    /* A merge that goes beyond is taken, and so is what makes it smaller. */
    struct bytes other;
    assert_int_equal(
        coordinate(&world.toys[1], key, new_request(), none, value, &other),
        STATUS_OK);
    merge(toy, key, other);
    struct bytes all = toy_get(toy, &key);
    assert_int_equal(decoded(all).value_count, RECORD_VALUE_SIZES_MAX + 1);
    assert_int_equal(
        coordinate(toy, key, new_request(), context_of(all), value, &record),
        STATUS_OK);
    assert_int_equal(decoded(record).value_count, 1);
}

/* --- dots, over and over --- */

enum { DOTS_MAX = 4096 };

struct issued {
    struct dot dot;
    struct request_id request;
};

static struct issued issued[DOTS_MAX];
static size_t issued_count;

static void check_dots(struct bytes encoded)
{
    struct record record = decoded(encoded);
    for (size_t v = 0; v < record.value_count; v++) {
        for (size_t d = 0; d < record.values[v].dot_count; d++) {
            struct dot dot = record.values[v].dots[d];
            size_t i = 0;
            while (i < issued_count &&
                   memcmp(&issued[i].dot, &dot, sizeof dot) != 0)
                i++;
            if (i < issued_count) {
                assert_true(request_id_equal(issued[i].request,
                                             record.values[v].request));
                continue;
            }
            assert_in_range(issued_count, 0, DOTS_MAX - 1);
            issued[issued_count++] =
                (struct issued){dot, record.values[v].request};
        }
    }
}

static void drop_hint(struct toy_storage *toy)
{
    struct storage_key key = hint_key();
    struct record record;
    struct bytes encoded = toy_get(toy, &key);
    if (record_decode(encoded, &world.arena, &record) != STATUS_OK)
        return; /* none, or damaged: those are not delivered */
    struct storage_op op = {
        .kind = STORAGE_DROP, .key = key, .version = record_version(encoded)};
    struct storage_result result;
    toy_run(toy, &op, &result);
    assert_int_equal(toy_get(toy, &key).size, 0);
}

/* A random life of three replicas and the hints they keep: writes over
 * everything or nothing, messages that arrive late or never, copies lost or
 * set back, hints handed over, restarts. */
static void live(struct bytes *sent, size_t *sent_count)
{
    struct toy_storage *toy = &world.toys[draw() % REPLICAS];
    struct storage_key key = draw() % 2 == 0 ? data_key() : hint_key();
    struct bytes record, context = {0};
    switch (draw() % 8) {
    case 0:
        drop_hint(toy);
        return;
    case 1: /* its disk forgot, or it starts again */
        toy_put(toy, &key, bytes_of_string("damaged"));
        if (draw() % 4 == 0)
            replica_init(&toy->replica, draw(), 60000);
        return;
    case 2:
    case 3:
        if (*sent_count > 0)
            merge(toy, key, sent[draw() % *sent_count]);
        return;
    default:
        if (*sent_count > 0 && draw() % 2 == 0)
            context = context_of(sent[draw() % *sent_count]);
        if (coordinate(toy, key, new_request(), context, bytes_of_string("v"),
                       &record) != STATUS_OK)
            return;
        check_dots(record);
        sent[(*sent_count)++] = record;
    }
}

static void no_dot_is_ever_issued_twice(void **state)
{
    world.mends = true;
    (void)state;
    enum { STEPS = 60 };
    struct bytes sent[STEPS];
    for (uint64_t seed = 1; seed <= 400; seed++) {
        closed(NULL);
        opened(NULL);
        world.random = seed;
        issued_count = 0;
        size_t sent_count = 0;
        for (size_t i = 0; i < STEPS; i++)
            live(sent, &sent_count);
    }
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, opened, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(two_interleaved_writers_leave_two_siblings),
        WITH(a_write_that_two_coordinate_is_one_value),
        WITH(a_write_after_the_copy_was_lost_is_not_taken_for_an_old_one),
        WITH(another_copy_that_is_further_than_ours_renews_the_incarnation),
        WITH(an_old_copy_that_comes_late_brings_nothing_back),
        WITH(a_write_wins_over_one_of_a_clock_that_is_ahead),
        WITH(a_write_wins_over_what_its_client_has_seen),
        WITH(a_context_of_another_key_is_refused),
        WITH(a_write_that_cannot_be_is_told_why),
        WITH(a_write_beyond_a_hundred_siblings_is_refused_a_merge_never),
        WITH(a_record_does_not_outgrow_what_a_frame_takes),
        WITH(no_dot_is_ever_issued_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
