/* SPDX-License-Identifier: MIT */
#include "engines/lsm/digest.h"

/* Less is left out than keys share so far, since ascending ones go on to share
 * less: two bytes are two more digits, or a hundred times as many keys. */
enum { MARGIN_BYTES = 2 };

void shape_see(struct shape_learner *learner, struct bytes key)
{
    size_t size = key.size < SHAPE_BYTES_MAX ? key.size : SHAPE_BYTES_MAX;
    if (!learner->has_first) {
        if (size > 0)
            memcpy(learner->first, key.data, size);
        learner->size = size;
        learner->has_first = true;
    }
    if (size < learner->size)
        learner->size = size;
    for (size_t i = 0; i < learner->size; i++)
        learner->differs[i] |= key.data[i] != learner->first[i];
}

/* How many bytes from `at` on all keys share, or not. */
static size_t run_of(const struct shape_learner *learner, size_t at,
                     bool differ)
{
    size_t end = at;
    while (end < learner->size && learner->differs[end] == differ)
        end++;
    return end - at;
}

struct shape shape_learn(const struct shape_learner *learner)
{
    struct shape shape = {.differ = {0}};
    memcpy(shape.bytes, learner->first, sizeof shape.bytes);
    size_t at = 0, room = DIGEST_BYTES;
    for (int i = 0; i < 2; i++) {
        size_t shared = run_of(learner, at, false);
        size_t differ = run_of(learner, at + shared, true);
        size_t left_out = shared > MARGIN_BYTES ? shared - MARGIN_BYTES : 0;
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
