/* SPDX-License-Identifier: MIT */
#include "engines/lsm/digest.h"

enum {
    /* Less is left out than keys share so far, since ascending ones go on to
     * share less: two bytes are two more digits, or a hundred times as many
     * keys. Where many were seen one will do, and leaves a digest more room. */
    MARGIN_BYTES = 2,
    MARGIN_BYTES_OF_MANY = 1,
    MANY = 1000,
    /* One in so many that does not share what the others do is passed over, as
     * a node's notes are among its clients' keys, of which there are some in
     * the first few. */
    STRAYS = 8,
    STRAYS_OF_MANY = 256,
};

void shape_see(struct shape_learner *learner, struct bytes key)
{
    size_t size = key.size < SHAPE_BYTES_MAX ? key.size : SHAPE_BYTES_MAX;
    if (learner->seen++ == 0 && size > 0)
        memcpy(learner->first, key.data, size);
    for (size_t i = 0; i < size; i++)
        learner->differ[i] += key.data[i] != learner->first[i];
    for (size_t i = size; i < SHAPE_BYTES_MAX; i++)
        learner->differ[i]++;
}

static bool differ_at(const struct shape_learner *learner, size_t at)
{
    uint32_t strays = learner->seen < MANY ? STRAYS : STRAYS_OF_MANY;
    return learner->differ[at] > learner->seen / strays;
}

void shape_add(struct shape_learner *learner,
               const struct shape_learner *earlier)
{
    if (earlier->seen == 0)
        return;
    for (size_t i = 0; i < SHAPE_BYTES_MAX; i++)
        if (!differ_at(earlier, i) &&
            (differ_at(learner, i) || learner->first[i] != earlier->first[i]))
            return;
    for (size_t i = 0; i < SHAPE_BYTES_MAX; i++)
        learner->differ[i] += earlier->differ[i];
    learner->seen += earlier->seen;
}

/* How many bytes from `at` on all keys share, or not. */
static size_t run_of(const struct shape_learner *learner, size_t at,
                     bool differ)
{
    size_t end = at;
    while (end < SHAPE_BYTES_MAX && differ_at(learner, end) == differ)
        end++;
    return end - at;
}

struct shape shape_learn(const struct shape_learner *learner)
{
    struct shape shape = {.differ = {0}};
    memcpy(shape.bytes, learner->first, sizeof shape.bytes);
    size_t at = 0, room = DIGEST_BYTES;
    size_t margin = learner->seen < MANY ? MARGIN_BYTES : MARGIN_BYTES_OF_MANY;
    for (int i = 0; i < 2; i++) {
        size_t shared = run_of(learner, at, false);
        size_t differ = run_of(learner, at + shared, true);
        size_t left_out = shared > margin ? shared - margin : 0;
        at += shared + differ;
        differ += shared - left_out;
        if (i == 1 || differ > room)
            differ = room;
        shape.shared[i] = (uint8_t)left_out;
        shape.differ[i] = (uint8_t)differ;
        room -= differ;
    }
    return shape;
}
