/* SPDX-License-Identifier: MIT */
#include "proxy/core/put.h"

#include "proto/assert.h"

static void act(struct put_actions *actions, struct put_action action)
{
    ASSERT(actions->count < PUT_ACTIONS_MAX);
    actions->list[actions->count++] = action;
}

static bool slot_is_held(const struct put_slot *slot)
{
    return slot->state == SLOT_HELD || (!node_id_is_zero(slot->stand_in) &&
                                        slot->stand_in_state == SLOT_HELD);
}

/* Whether an answer that would make the slot held may still come. */
static bool slot_is_open(const struct put_slot *slot)
{
    return slot->state == SLOT_ASKED || (!node_id_is_zero(slot->stand_in) &&
                                         slot->stand_in_state == SLOT_ASKED);
}

static bool slot_may_hold(const struct put_slot *slot)
{
    return slot_is_held(slot) || slot_is_open(slot);
}

/* Of the replicas: both slots of one that moves are one. */
static size_t count(const struct put *put, bool (*is)(const struct put_slot *))
{
    size_t found = 0;
    for (size_t i = 0; i < put->slot_count; i++)
        found += is(&put->slots[i]);
    if (put->moves)
        found -= is(&put->slots[put->pair[0]]) || is(&put->slots[put->pair[1]]);
    return found;
}

size_t put_held(const struct put *put)
{
    return count(put, slot_is_held);
}

static bool is_heard(const struct put *put)
{
    for (size_t i = 0; i < put->slot_count; i++)
        if (slot_is_open(&put->slots[i]))
            return false;
    return true;
}

static void answer(struct put *put, bool applied, int64_t now_ms,
                   struct put_actions *actions)
{
    ASSERT(put->state == PUT_WAITING);
    put->state = PUT_ANSWERED;
    put->grace_end_ms = now_ms + put->grace_ms;
    act(actions, (struct put_action){.kind = PUT_REPLY, .applied = applied});
}

/* The end: primaries without the record, for which no stand-in keeps it, get a
 * courtesy hint. */
static void finish(struct put *put, struct put_actions *actions)
{
    put->state = PUT_DONE;
    for (size_t i = 0; i < put->slot_count; i++) {
        const struct put_slot *slot = &put->slots[i];
        if (!slot_is_held(slot))
            act(actions,
                (struct put_action){.kind = PUT_HINT, .target = slot->primary});
    }
}

static void settle(struct put *put, int64_t now_ms, struct put_actions *actions)
{
    if (put->state == PUT_WAITING) {
        if (put_held(put) >= put->w)
            answer(put, true, now_ms, actions);
        else if (count(put, slot_may_hold) < put->w)
            answer(put, false, now_ms, actions);
    }
    if (put->state == PUT_ANSWERED && is_heard(put))
        finish(put, actions);
}

/* Ask the next fallback to stand in for the slot's primary, if one is left and
 * the slot needs it: once the client has its answer a hint is cheaper. */
static void stand_in(struct put *put, struct put_slot *slot,
                     struct put_actions *actions)
{
    if (put->state != PUT_WAITING || slot_is_held(slot) ||
        put->fallback_next == put->fallback_count)
        return;
    if (!node_id_is_zero(slot->stand_in) && slot->stand_in_state == SLOT_ASKED)
        return;
    slot->stand_in = put->fallbacks[put->fallback_next++];
    slot->stand_in_state = SLOT_ASKED;
    act(actions, (struct put_action){.kind = PUT_SEND,
                                     .node = slot->stand_in,
                                     .target = slot->primary});
}

static bool is_primary(const struct put_config *config, struct node_id node)
{
    for (size_t i = 0; i < config->primary_count; i++)
        if (node_id_equal(config->primaries[i], node))
            return true;
    return false;
}

static void copy_fallbacks(struct put *put, const struct put_config *config)
{
    for (size_t i = 0; i < config->fallback_count; i++) {
        if (put->fallback_count == REPLICAS_MAX)
            return;
        if (!node_id_equal(config->fallbacks[i], config->self))
            put->fallbacks[put->fallback_count++] = config->fallbacks[i];
    }
}

void put_start(struct put *put, const struct put_config *config, int64_t now_ms,
               struct put_actions *actions)
{
    ASSERT(config->primary_count > 0 && config->primary_count <= OWNERS_MAX);
    ASSERT(config->w > 0 && config->w <= config->primary_count);
    actions->count = 0;
    *put = (struct put){
        .state = config->answered ? PUT_ANSWERED : PUT_WAITING,
        .slot_count = config->primary_count,
        .w = config->w,
        .deadline_ms = config->deadline_ms,
        .fallback_at_ms = now_ms + config->fallback_ms,
        .grace_ms = config->grace_ms,
        .grace_end_ms = config->deadline_ms,
        .self = config->self,
        .moves = !node_id_is_zero(config->coming),
    };
    copy_fallbacks(put, config);
    for (size_t i = 0; i < put->slot_count; i++) {
        put->slots[i].primary = config->primaries[i];
        if (node_id_equal(config->primaries[i], config->leaving))
            put->pair[0] = i;
        if (node_id_equal(config->primaries[i], config->coming))
            put->pair[1] = i;
        if (config->gone != NULL && config->gone[i])
            put->slots[i].state = SLOT_FAILED;
        else
            act(actions, (struct put_action){.kind = PUT_SEND,
                                             .node = config->primaries[i]});
    }
    if (!is_primary(config, config->self)) {
        put->slots[0].stand_in = config->self;
        put->slots[0].stand_in_state = SLOT_ASKED;
        act(actions, (struct put_action){.kind = PUT_SEND,
                                         .node = config->self,
                                         .target = config->primaries[0]});
    }
    for (size_t i = 0; i < put->slot_count; i++)
        if (put->slots[i].state == SLOT_FAILED)
            stand_in(put, &put->slots[i], actions);
    settle(put, now_ms, actions);
}

void put_hear(struct put *put, struct node_id node, enum status status,
              int64_t now_ms, struct put_actions *actions)
{
    actions->count = 0;
    if (put->state == PUT_DONE)
        return;
    enum slot_state heard = status == STATUS_OK ? SLOT_HELD : SLOT_FAILED;
    for (size_t i = 0; i < put->slot_count; i++) {
        struct put_slot *slot = &put->slots[i];
        bool changed = false;
        if (node_id_equal(slot->primary, node) && slot->state == SLOT_ASKED) {
            slot->state = heard;
            changed = true;
        } else if (node_id_equal(slot->stand_in, node) &&
                   slot->stand_in_state == SLOT_ASKED) {
            slot->stand_in_state = heard;
            changed = true;
        }
        if (changed && heard == SLOT_FAILED)
            stand_in(put, slot, actions);
    }
    settle(put, now_ms, actions);
}

/* Whether our own disk is still to be heard of. */
static bool is_own_open(const struct put *put)
{
    for (size_t i = 0; i < put->slot_count; i++) {
        const struct put_slot *slot = &put->slots[i];
        if ((slot->state == SLOT_ASKED &&
             node_id_equal(slot->primary, put->self)) ||
            (slot->stand_in_state == SLOT_ASKED &&
             node_id_equal(slot->stand_in, put->self)))
            return true;
    }
    return false;
}

void put_tick(struct put *put, int64_t now_ms, struct put_actions *actions)
{
    actions->count = 0;
    if (put->state == PUT_DONE)
        return;
    if (now_ms >= put->deadline_ms) {
        if (put->state == PUT_WAITING)
            answer(put, false, now_ms, actions);
        finish(put, actions);
        return;
    }
    if (put->state == PUT_ANSWERED && now_ms >= put->grace_end_ms &&
        !is_own_open(put)) {
        finish(put, actions);
        return;
    }
    if (now_ms < put->fallback_at_ms)
        return;
    for (size_t i = 0; i < put->slot_count; i++)
        if (node_id_is_zero(put->slots[i].stand_in))
            stand_in(put, &put->slots[i], actions);
}
