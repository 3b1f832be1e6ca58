/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/core/node_internal.h"

enum {
    ASK_MS = 10000,
    /* One that did not answer, or not soon enough. */
    RETRY_MS = 1000,
    /* What was heard so long ago may have drifted away. */
    STALE_MS = 600000,
    /* From one step to the next: it is set, and not slewed. */
    SET_MS = 100,
};

/* The year 10000, and far from where a sum would overflow. */
#define WALL_MS_MAX INT64_C(253402300800000)

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* Find the median of what is known. That a clock is wrong is not forgotten
 * while nobody is there to say so. */
static void hold_against(struct node *node)
{
    struct clocks *clocks = &node->clocks;
    int64_t list[NODES_MAX + 1] = {clocks->own_ahead_ms};
    size_t count = 1;
    for (size_t i = 0; i < node->topology.node_count; i++) {
        const struct peer_clock *peer = &clocks->peers[i];
        if (peer->heard_ms != 0 && node->now_ms - peer->heard_ms < STALE_MS)
            list[count++] = peer->ahead_ms;
    }
    if (count <= 2 && clocks->is_off)
        return;
    qsort(list, count, sizeof *list, compare);
    clocks->is_known = count > 2;
    clocks->low_ms = list[(count - 1) / 2];
    clocks->high_ms = list[count / 2];
}

int64_t clocks_off_ms(const struct node *node)
{
    const struct clocks *clocks = &node->clocks;
    int64_t own_ms = clocks->own_ahead_ms;
    return !clocks->is_known          ? 0
           : own_ms > clocks->high_ms ? own_ms - clocks->high_ms
           : own_ms < clocks->low_ms  ? own_ms - clocks->low_ms
                                      : 0;
}

int64_t clocks_wall(struct node *node, int64_t wall_ms)
{
    struct clocks *clocks = &node->clocks;
    int64_t ahead_ms = wall_ms - node->now_ms;
    int64_t skew_ms = node->config.timeouts.clock_skew_max_ms;
    bool is_set = llabs(ahead_ms - clocks->own_ahead_ms) > SET_MS;
    clocks->own_ahead_ms = ahead_ms;
    if (is_set) {
        hold_against(node);
        /* Or the machine was asleep, and all others went on. */
        for (size_t i = 0; i < NODES_MAX; i++)
            clocks->peers[i].next_ms = 0;
    }
    /* Once it is off, it is not by some milliseconds that it is right. */
    clocks->is_off =
        clocks->is_known &&
        llabs(clocks_off_ms(node)) > (clocks->is_off ? skew_ms / 2 : skew_ms);
    if (!clocks->is_off)
        return wall_ms;
    return node->now_ms +
           (ahead_ms > clocks->high_ms ? clocks->high_ms : clocks->low_ms);
}

/* --- asking --- */

static bool may_ask(const struct node *node, struct node_id id)
{
    const struct member *member = membership_find(node->membership, id);
    return member != NULL && !node_id_equal(id, node->self) &&
           member->version_max >= PEER_VERSION_CLOCK &&
           node->config.self.version_max >= PEER_VERSION_CLOCK &&
           membership_is_reachable(node->membership, id);
}

static void ask(struct node *node, size_t at, struct effects *effects)
{
    struct peer_clock *peer = &node->clocks.peers[at];
    Rkv__Clock *clock = message_new(&effects->arena, &rkv__clock__descriptor);
    peer->next_ms = node->now_ms + ASK_MS;
    if (clock == NULL)
        return;
    peer->serial = ++node->clocks.serial << 16 | at;
    peer->asked_us = node->now_us;
    outbox_request(
        &effects->out, node->topology.nodes[at].id, LANE_CONTROL,
        request_number(OWNER_CLOCK, peer->serial),
        envelope_new(&effects->arena, RKV__ENVELOPE__BODY_CLOCK, clock));
}

static void tell(struct node *node, struct effects *effects)
{
    struct clocks *clocks = &node->clocks;
    char line[160];
    if (clocks->is_off == clocks->is_told || effects->log != NULL)
        return;
    snprintf(line, sizeof line, "event=%s ahead_of_median_ms=%lld what=\"%s\"",
             clocks->is_off ? "clock_off" : "clock_right",
             (long long)clocks_off_ms(node),
             clocks->is_off ? "the others' clocks are gone by; set this one"
                            : "this node's clock is gone by again");
    effects->log = arena_string(&effects->arena, line);
    if (effects->log != NULL)
        clocks->is_told = clocks->is_off;
}

void clocks_tick(struct node *node, struct effects *effects)
{
    for (size_t i = 0; i < node->topology.node_count; i++)
        if (node->now_ms >= node->clocks.peers[i].next_ms &&
            may_ask(node, node->topology.nodes[i].id))
            ask(node, i, effects);
    hold_against(node); /* some may be stale by now */
    tell(node, effects);
}

void clocks_serve(struct node *node, struct reply_token token,
                  struct effects *effects)
{
    Rkv__ClockReply *reply =
        message_new(&effects->arena, &rkv__clock_reply__descriptor);
    /* The clock itself: were it what is gone by, those that are wrong would
     * hold to each other. */
    if (reply != NULL)
        reply->wall_ms = node->now_ms + node->clocks.own_ahead_ms;
    reply_with(effects, token, RKV__ENVELOPE__BODY_CLOCK_REPLY, reply);
}

void clocks_reply(struct node *node, uint64_t request,
                  const Rkv__Envelope *reply)
{
    uint64_t serial = request_serial(request);
    struct peer_clock *peer =
        &node->clocks.peers[(serial & 0xffff) % NODES_MAX];
    if (peer->serial != serial)
        return;
    int64_t took_ms = (node->now_us - peer->asked_us) / 1000;
    peer->serial = 0;
    if (reply == NULL || reply->body_case != RKV__ENVELOPE__BODY_CLOCK_REPLY ||
        reply->clock_reply->wall_ms < 0 ||
        reply->clock_reply->wall_ms > WALL_MS_MAX ||
        took_ms > node->config.timeouts.clock_skew_max_ms / 2) {
        peer->next_ms = node->now_ms + RETRY_MS;
        return;
    }
    peer->ahead_ms = reply->clock_reply->wall_ms + took_ms / 2 - node->now_ms;
    peer->heard_ms = node->now_ms;
    hold_against(node);
}
