/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "gossip/broadcast.h"

enum { MULT = 4, ARENA_BYTES = 1 << 20 };

struct fixture {
    struct broadcast *broadcast;
    struct arena arena;
};

static int setup(void **state)
{
    static struct fixture fixture;
    fixture.broadcast = broadcast_new(MULT);
    arena_init(&fixture.arena, ARENA_BYTES);
    *state = &fixture;
    return fixture.broadcast == NULL;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    broadcast_free(fixture->broadcast);
    arena_fini(&fixture->arena);
    return 0;
}

static enum status offer(struct fixture *f, const char *key, uint64_t version,
                         const char *payload)
{
    return broadcast_offer(f->broadcast, "t", bytes_of_string(key), version,
                           bytes_of_string(payload));
}

/* The keys taken, in order, as one string. */
static const char *take(struct fixture *f, size_t members, size_t bytes_max)
{
    static char keys[256];
    Rkv__Rumour **rumours;
    size_t length = 0;
    arena_reset(&f->arena);
    size_t count =
        broadcast_take(f->broadcast, members, bytes_max, &f->arena, &rumours);
    keys[0] = '\0';
    for (size_t i = 0; i < count; i++)
        length += (size_t)snprintf(keys + length, sizeof keys - length,
                                   "%.*s=%.*s ", (int)rumours[i]->key.len,
                                   (const char *)rumours[i]->key.data,
                                   (int)rumours[i]->payload.len,
                                   (const char *)rumours[i]->payload.data);
    return keys;
}

static bool hear(struct fixture *f, const char *topic, const char *key,
                 uint64_t version, size_t payload_size)
{
    static uint8_t payload[2 * RUMOUR_BYTES_MAX];
    uint8_t key_bytes[16];
    char topic_bytes[16];
    memcpy(key_bytes, key, strlen(key));
    snprintf(topic_bytes, sizeof topic_bytes, "%s", topic);
    Rkv__Rumour rumour = RKV__RUMOUR__INIT;
    rumour.topic = topic_bytes;
    rumour.key = (ProtobufCBinaryData){strlen(key), key_bytes};
    rumour.version = version;
    rumour.payload = (ProtobufCBinaryData){payload_size, payload};
    return broadcast_hear(f->broadcast, &rumour);
}

static void newest_version_replaces_older(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(offer(f, "k", 1, "one"), STATUS_OK);
    assert_int_equal(offer(f, "k", 3, "three"), STATUS_OK);
    assert_int_equal(offer(f, "k", 2, "two"), STATUS_OK);
    assert_int_equal(broadcast_queued(f->broadcast), 1);
    assert_string_equal(take(f, 3, 1400), "k=three ");
}

static void newer_version_is_sent_afresh(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(offer(f, "k", 1, "a"), STATUS_OK);
    for (int i = 0; i < MULT; i++)
        assert_string_equal(take(f, 3, 1400), "k=a ");
    assert_string_equal(take(f, 3, 1400), "");
    assert_int_equal(offer(f, "k", 2, "b"), STATUS_OK);
    for (int i = 0; i < MULT; i++)
        assert_string_equal(take(f, 3, 1400), "k=b ");
    assert_string_equal(take(f, 3, 1400), "");
}

static void least_sent_goes_first(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(offer(f, "a", 1, "1"), STATUS_OK);
    assert_string_equal(take(f, 3, 1400), "a=1 ");
    assert_int_equal(offer(f, "b", 1, "1"), STATUS_OK);
    assert_string_equal(take(f, 3, 1400), "b=1 a=1 ");
    assert_int_equal(offer(f, "c", 1, "1"), STATUS_OK);
    /* Room for one: each gets its turn. */
    assert_string_equal(take(f, 3, 30), "c=1 ");
    assert_string_equal(take(f, 3, 30), "c=1 ");
    assert_string_equal(take(f, 3, 30), "b=1 ");
}

static void transmit_limit_grows_with_the_logarithm(void **state)
{
    struct fixture *f = *state;
    const struct {
        size_t members, times;
    } rows[] = {{0, 4}, {1, 4}, {9, 4}, {10, 8}, {99, 8}, {100, 12}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(offer(f, "k", i + 1, "v"), STATUS_OK);
        size_t times = 0;
        while (take(f, rows[i].members, 1400)[0] != '\0')
            times++;
        assert_int_equal(times, rows[i].times);
        assert_int_equal(broadcast_queued(f->broadcast), 0);
    }
}

static void what_was_sent_often_enough_is_not_news_again(void **state)
{
    struct fixture *f = *state;
    assert_true(hear(f, "t", "k", 5, 1));
    assert_false(hear(f, "t", "k", 5, 1));
    assert_true(hear(f, "u", "k", 5, 1));
    while (take(f, 3, 1400)[0] != '\0')
        continue;
    assert_false(hear(f, "t", "k", 5, 1));
    assert_false(hear(f, "t", "k", 4, 1));
    assert_true(hear(f, "t", "k", 6, 1));
    broadcast_forget(f->broadcast, "t", bytes_of_string("k"));
    assert_true(hear(f, "t", "k", 1, 1));
}

static void sizes_are_bounded(void **state)
{
    struct fixture *f = *state;
    assert_true(hear(f, "t", "k", 1, RUMOUR_BYTES_MAX - 2));
    assert_false(hear(f, "t", "k", 2, RUMOUR_BYTES_MAX - 1));
    assert_false(hear(f, "", "k", 1, 1));
    static uint8_t large[RUMOUR_BYTES_MAX];
    assert_int_equal(broadcast_offer(f->broadcast, "t", bytes_of_string("l"), 1,
                                     bytes_of(large, sizeof large)),
                     STATUS_TOO_LARGE);
    /* Larger than a packet: it travels, alone. */
    assert_int_equal(offer(f, "s", 1, "x"), STATUS_OK);
    Rkv__Rumour **rumours;
    size_t largest = 0;
    for (int i = 0; i < 2 * MULT; i++) {
        arena_reset(&f->arena);
        size_t count =
            broadcast_take(f->broadcast, 3, 1400, &f->arena, &rumours);
        if (count == 1 && rumours[0]->payload.len > largest)
            largest = rumours[0]->payload.len;
    }
    assert_int_equal(largest, RUMOUR_BYTES_MAX - 2);
}

static void queue_is_bounded_and_sent_ones_make_room(void **state)
{
    struct fixture *f = *state;
    char key[16];
    for (int i = 0; i < RUMOURS_MAX; i++) {
        snprintf(key, sizeof key, "%d", i);
        assert_int_equal(offer(f, key, 1, ""), STATUS_OK);
    }
    assert_int_equal(offer(f, "more", 1, ""), STATUS_OVERLOADED);
    assert_false(hear(f, "t", "more", 1, 1));
    assert_int_equal(offer(f, "7", 2, ""), STATUS_OK);
    for (int i = 0; i < MULT; i++) {
        Rkv__Rumour **rumours;
        arena_reset(&f->arena);
        broadcast_take(f->broadcast, 3, SIZE_MAX / 2, &f->arena, &rumours);
    }
    assert_true(broadcast_queued(f->broadcast) < RUMOURS_MAX);
    assert_int_equal(offer(f, "more", 1, ""), STATUS_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(newest_version_replaces_older),
        TEST(newer_version_is_sent_afresh),
        TEST(least_sent_goes_first),
        TEST(transmit_limit_grows_with_the_logarithm),
        TEST(what_was_sent_often_enough_is_not_news_again),
        TEST(sizes_are_bounded),
        TEST(queue_is_bounded_and_sent_ones_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
