/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

#include "engines/lsm/digest.h"

enum { SEEN = 64, KEYS = 400, KEY_MAX = 40 };

struct key {
    uint8_t bytes[KEY_MAX];
    size_t size;
};

static uint64_t seed = 1;

static uint64_t draw(uint64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (seed >> 33) % below;
}

static struct bytes bytes_of_key(const struct key *key)
{
    return bytes_of(key->bytes, key->size);
}

static struct shape_learner learner_of(const struct key *keys, size_t count)
{
    struct shape_learner learner = {.seen = 0};
    for (size_t i = 0; i < count; i++)
        shape_see(&learner, bytes_of_key(&keys[i]));
    return learner;
}

static struct shape shape_of(const struct key *keys, size_t count)
{
    struct shape_learner learner = learner_of(keys, count);
    return shape_learn(&learner);
}

/* Of few letters, so that much is shared, and of any length. */
static struct key draw_key(size_t letters)
{
    struct key key = {.size = draw(KEY_MAX + 1)};
    for (size_t i = 0; i < key.size; i++)
        key.bytes[i] = (uint8_t)(draw(8) > 0 ? 'm' : 'm' - 1 + draw(letters));
    return key;
}

/* As a node stores them: table, partition, bucket, then a client's. */
static struct key stored_key(unsigned number)
{
    struct key key = {.size = 1 + 2 + 4 + 4 + 15};
    snprintf((char *)key.bytes, KEY_MAX, "d..buckuser%015u", number);
    key.bytes[1] = 0;
    key.bytes[2] = (uint8_t)draw(256);
    return key;
}

static void digests_agree_with_the_order_of_any_keys(void **state)
{
    static struct key keys[KEYS];
    (void)state;
    for (int round = 0; round < 50; round++) {
        size_t seen = 1 + draw(SEEN);
        uint64_t stored = draw(4);
        for (size_t i = 0; i < KEYS; i++)
            keys[i] = draw(3) < stored ? stored_key((unsigned)draw(1000000))
                                       : draw_key(3);
        struct shape_learner learner = learner_of(keys, seen), earlier = {0};
        for (uint64_t i = draw(3 * KEYS); i > 0; i--)
            shape_see(&earlier, bytes_of_key(&keys[draw(KEYS)]));
        shape_add(&learner, &earlier);
        struct shape shape = shape_learn(&learner);
        for (size_t i = 0; i < KEYS; i++)
            for (size_t k = 0; k < KEYS; k++) {
                struct bytes a = bytes_of_key(&keys[i]);
                struct bytes b = bytes_of_key(&keys[k]);
                if (bytes_compare(a, b) <= 0)
                    assert_true(digest_of(&shape, a) <= digest_of(&shape, b));
            }
    }
}

/* Pairs of keys whose digests are alike, of KEYS * (KEYS - 1) / 2. */
static size_t count_alike(const struct shape *shape, const struct key *keys)
{
    size_t alike = 0;
    for (size_t i = 0; i < KEYS; i++)
        for (size_t k = 0; k < i; k++)
            alike += digest_of(shape, bytes_of_key(&keys[i])) ==
                     digest_of(shape, bytes_of_key(&keys[k]));
    return alike;
}

static void digests_tell_stored_keys_apart(void **state)
{
    static struct key keys[KEYS];
    (void)state;
    for (size_t i = 0; i < KEYS; i++)
        keys[i] = stored_key((unsigned)draw(1000000));
    struct shape shape = shape_of(keys, SEEN);
    /* By the partition alone it would be one pair in 256. */
    assert_true(count_alike(&shape, keys) < KEYS * KEYS / 20000);
}

static void see_ascending(struct shape_learner *learner, unsigned first,
                          unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct key key = stored_key(first + i);
        shape_see(learner, bytes_of_key(&key));
    }
}

static void what_was_seen_earlier_tells_ascending_keys_apart(void **state)
{
    static struct key keys[KEYS];
    (void)state;
    struct shape_learner earlier = {.seen = 0}, learner = {.seen = 0};
    see_ascending(&earlier, 0, 20000);
    see_ascending(&learner, 20000, SEEN);
    for (unsigned i = 0; i < KEYS; i++)
        keys[i] = stored_key(20000 + SEEN + i * 1000);
    struct shape alone = shape_learn(&learner);
    shape_add(&learner, &earlier);
    struct shape shape = shape_learn(&learner);
    assert_true(count_alike(&alone, keys) > KEYS * KEYS / 1000);
    assert_true(count_alike(&shape, keys) < KEYS * KEYS / 20000);
}

static void keys_of_another_kind_seen_earlier_do_not_count(void **state)
{
    (void)state;
    struct shape_learner earlier = {.seen = 0}, learner = {.seen = 0};
    see_ascending(&earlier, 0, 20000);
    for (unsigned i = 0; i < SEEN; i++) {
        struct key key = stored_key(i);
        key.bytes[0] = 'e';
        shape_see(&learner, bytes_of_key(&key));
    }
    struct shape_learner before = learner;
    shape_add(&learner, &earlier);
    assert_memory_equal(&before, &learner, sizeof learner);
    shape_add(&learner, &(struct shape_learner){.seen = 0});
    assert_memory_equal(&before, &learner, sizeof learner);
}

static void strays_do_not_count(void **state)
{
    static struct key keys[KEYS];
    (void)state;
    const struct key stray = {"m", 1};
    struct shape_learner earlier = {.seen = 0}, learner = {.seen = 0};
    for (size_t i = 0; i < KEYS; i++)
        keys[i] = stored_key((unsigned)draw(1000000));
    see_ascending(&earlier, 123456, 1000);
    shape_see(&earlier, bytes_of_key(&stray));
    see_ascending(&earlier, 654321, 1000);
    see_ascending(&learner, 555555, SEEN);
    shape_see(&learner, bytes_of_key(&stray));
    shape_add(&learner, &earlier);
    struct shape shape = shape_learn(&learner);
    assert_true(count_alike(&shape, keys) < KEYS * KEYS / 20000);
    assert_int_equal(digest_of(&shape, bytes_of_key(&stray)), UINT64_MAX);
}

static void a_digest_skips_what_keys_share(void **state)
{
    (void)state;
    struct key keys[] = {{"prefix-of-all-abcdefghij", 24},
                         {"prefix-of-all-zbcdefghij", 24},
                         {"prefix-of-al", 12},
                         {"a", 1},
                         {"z", 1}};
    struct shape shape = shape_of(keys, 2);
    /* But for two bytes of each piece, in case that others share less. */
    assert_int_equal(digest_of(&shape, bytes_of_key(&keys[0])),
                     UINT64_C(0x6c2d61696a000000)); /* l-aij */
    assert_int_equal(digest_of(&shape, bytes_of_key(&keys[2])), 0);
    assert_int_equal(digest_of(&shape, bytes_of_key(&keys[3])), 0);
    assert_int_equal(digest_of(&shape, bytes_of_key(&keys[4])), UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_agree_with_the_order_of_any_keys),
        cmocka_unit_test(digests_tell_stored_keys_apart),
        cmocka_unit_test(what_was_seen_earlier_tells_ascending_keys_apart),
        cmocka_unit_test(keys_of_another_kind_seen_earlier_do_not_count),
        cmocka_unit_test(strays_do_not_count),
        cmocka_unit_test(a_digest_skips_what_keys_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
