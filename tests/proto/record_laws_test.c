/* SPDX-License-Identifier: MIT */
/* Merge is a least upper bound, over records that simulated coordinators make:
 * three replicas of one key, clients that read one replica and write through
 * another, retries through a third, and merges between any two. */
#include "tests/proto/record_version.h"

enum {
    ROUNDS = 1500,
    REPLICAS = 3,
    /* Less than DEDUP_ENTRIES_MAX writes, as the law reaches as far back as
     * the superseded entries do. */
    STEPS = 40,
    WINDOW_MS = 60000,
};

struct world {
    struct arena arena;
    uint64_t seed;
    enum record_kind kind;
    struct record replicas[REPLICAS];
    struct actor_source sources[REPLICAS];
    uint64_t requests; /* written so far */
    struct context seen_of[STEPS + 1];
};

static uint64_t draw(struct world *world, uint64_t below)
{
    world->seed = world->seed * UINT64_C(6364136223846793005) +
                  UINT64_C(1442695040888963407);
    return (world->seed >> 33) % below;
}

static struct record merge_of(struct world *world, const struct record *a,
                              const struct record *b)
{
    struct record merged;
    assert_int_equal(
        record_merge(a, b, STEPS, WINDOW_MS, &world->arena, &merged),
        STATUS_OK);
    return merged;
}

/* A retry has the same context and data as the write it repeats. */
static void write_once(struct world *world, int64_t now_ms)
{
    bool again = world->requests > 0 && draw(world, 3) == 0;
    uint64_t number =
        again ? 1 + draw(world, world->requests) : ++world->requests;
    if (!again)
        world->seen_of[number] =
            draw(world, 4) == 0
                ? (struct context){0}
                : world->replicas[draw(world, REPLICAS)].context;
    uint64_t at = draw(world, REPLICAS);
    struct record *own = &world->replicas[at];
    struct actor_source *source = &world->sources[at];
    struct context seen = world->seen_of[number];
    if (actor_source_is_behind(source, &own->context, &seen))
        actor_source_init(source, source->incarnation + REPLICAS);
    struct request_id request = {{1, (uint8_t)number}};
    struct record_write write = {
        .seen = seen,
        .request = request,
        .dot = actor_source_next(source, &own->context),
        .now_ms = now_ms,
        .stamp = (uint64_t)now_ms / 2,
        .tombstone = number % 4 == 0,
    };
    bool duplicate;
    assert_int_equal(
        record_apply(own, &write, WINDOW_MS, &world->arena, own, &duplicate),
        STATUS_OK);
}

static void make_world(struct world *world, uint64_t seed,
                       enum record_kind kind)
{
    *world = (struct world){.seed = seed, .kind = kind};
    arena_init(&world->arena, 16 << 20);
    for (size_t i = 0; i < REPLICAS; i++) {
        world->replicas[i] = record_empty(kind);
        actor_source_init(&world->sources[i], 1 + i);
    }
    uint64_t steps = 1 + draw(world, STEPS);
    for (uint64_t i = 0; i < steps; i++) {
        struct record *to = &world->replicas[draw(world, REPLICAS)];
        if (draw(world, 3) > 0)
            write_once(world, (int64_t)i);
        else
            *to = merge_of(world, to, &world->replicas[draw(world, REPLICAS)]);
    }
}

static void expect_equal(const struct record *a, const struct record *b)
{
    struct buffer left = {0}, right = {0};
    assert_int_equal(record_encode(a, &left), STATUS_OK);
    assert_int_equal(record_encode(b, &right), STATUS_OK);
    bool equal = bytes_equal(buffer_bytes(&left), buffer_bytes(&right));
    buffer_fini(&left);
    buffer_fini(&right);
    assert_true(equal);
}

static void expect_laws(struct world *world)
{
    const struct record *a = &world->replicas[0];
    const struct record *b = &world->replicas[1];
    const struct record *c = &world->replicas[2];
    struct record aa = merge_of(world, a, a);
    expect_equal(a, &aa);
    struct record ab = merge_of(world, a, b);
    struct record ba = merge_of(world, b, a);
    expect_equal(&ab, &ba);
    struct record absorbed = merge_of(world, &ab, a);
    expect_equal(&ab, &absorbed);
    struct record bc = merge_of(world, b, c);
    struct record ac = merge_of(world, a, c);
    struct record left = merge_of(world, &ab, c);
    struct record right = merge_of(world, a, &bc);
    struct record third = merge_of(world, &ac, b);
    assert_int_equal(version_of(&left), version_of(&right));
    assert_int_equal(version_of(&left), version_of(&third));
    struct buffer out = {0};
    struct record back;
    assert_int_equal(record_encode(&left, &out), STATUS_OK);
    assert_int_equal(record_decode(buffer_bytes(&out), &world->arena, &back),
                     STATUS_OK);
    expect_equal(&left, &back);
    buffer_fini(&out);
}

static void expect_laws_of_all(enum record_kind kind)
{
    static struct world world;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        make_world(&world, seed, kind);
        expect_laws(&world);
        arena_fini(&world.arena);
    }
}

static void merge_of_siblings_is_a_least_upper_bound(void **state)
{
    (void)state;
    expect_laws_of_all(RECORD_SIBLINGS);
}

static void merge_of_lww_is_a_least_upper_bound(void **state)
{
    (void)state;
    expect_laws_of_all(RECORD_LWW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merge_of_siblings_is_a_least_upper_bound),
        cmocka_unit_test(merge_of_lww_is_a_least_upper_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
