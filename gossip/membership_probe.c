/* SPDX-License-Identifier: MIT */
#include "gossip/membership_internal.h"

/* SWIM's failure detector. One target a protocol period, in an order that is
 * shuffled once all had their turn, so that every node is probed within 2n - 1
 * periods. The periods and timeouts stretch with our own ill health. */

void awareness_change(struct membership *m, int change)
{
    int64_t awareness = (int64_t)m->awareness + change;
    int64_t most =
        m->config.awareness_max > 0 ? (int64_t)m->config.awareness_max - 1 : 0;
    if (awareness > most)
        awareness = most;
    m->awareness = awareness < 0 ? 0 : (uint32_t)awareness;
}

static int64_t stretched(const struct membership *m, uint32_t ms)
{
    return (int64_t)ms * (m->awareness + 1);
}

static void shuffle(struct membership *m)
{
    m->order_count = 0;
    for (size_t i = 1; i < m->count; i++)
        m->order[m->order_count++] = (uint16_t)i;
    for (size_t i = m->order_count; i > 1; i--) {
        size_t j = random_below(m, i);
        uint16_t other = m->order[i - 1];
        m->order[i - 1] = m->order[j];
        m->order[j] = other;
    }
    m->order_next = 0;
}

/* NULL when nobody is worth probing. */
static struct entry *next_target(struct membership *m)
{
    for (int round = 0; round < 2; round++) {
        while (m->order_next < m->order_count) {
            struct entry *entry = &m->entries[m->order[m->order_next++]];
            if (wants_reachable(m, entry))
                return entry;
        }
        shuffle(m);
    }
    return NULL;
}

static void send_ping(struct membership *m, struct node_id to, uint64_t request,
                      struct outbox *out)
{
    Rkv__Envelope *envelope = NULL;
    Rkv__Ping *ping = message_new(out->arena, &rkv__ping__descriptor);
    if (ping != NULL) {
        ping->target.data = arena_copy(out->arena, to.bytes, NODE_ID_SIZE);
        ping->target.len = ping->target.data == NULL ? 0 : NODE_ID_SIZE;
        ping->n_rumours = gossip_take(m, to, out->arena, &ping->rumours);
        envelope = envelope_new(out->arena, RKV__ENVELOPE__BODY_PING, ping);
    }
    outbox_request(out, to, LANE_CONTROL, request, envelope);
}

static void send_ack(struct membership *m, struct node_id to,
                     struct reply_token token, bool reached,
                     uint32_t incarnation, struct outbox *out)
{
    Rkv__Envelope *envelope = NULL;
    Rkv__Ack *ack = message_new(out->arena, &rkv__ack__descriptor);
    if (ack != NULL) {
        ack->reached = reached;
        ack->incarnation = incarnation;
        ack->n_rumours = gossip_take(m, to, out->arena, &ack->rumours);
        envelope = envelope_new(out->arena, RKV__ENVELOPE__BODY_ACK, ack);
    }
    outbox_reply(out, token, envelope);
}

static void probe_start(struct membership *m, struct outbox *out)
{
    struct entry *target = next_target(m);
    int64_t period = stretched(m, m->config.probe_interval_ms);
    m->probe_ms = m->now_ms + period;
    if (target == NULL)
        return;
    m->probe = (struct probe){
        .running = true,
        .target = target->member.id,
        .indirect_ms = m->now_ms + stretched(m, m->config.probe_timeout_ms),
        .end_ms = m->now_ms + period,
        .request = next_request(m)};
    m->counters.probes++;
    send_ping(m, m->probe.target, m->probe.request, out);
}

static void ask_others(struct membership *m, struct outbox *out)
{
    struct probe *probe = &m->probe;
    uint16_t picked[INDIRECT_MAX];
    size_t max = m->config.indirect_probes;
    if (max > INDIRECT_MAX)
        max = INDIRECT_MAX;
    probe->indirect = true;
    /* The others get their time even if we ourselves were late to ask. */
    int64_t end_ms = m->now_ms + probe->end_ms - probe->indirect_ms;
    if (end_ms > probe->end_ms)
        probe->end_ms = end_ms;
    size_t count = pick_others(m, wants_reachable, probe->target, picked, max);
    for (size_t i = 0; i < count; i++) {
        struct node_id to = m->entries[picked[i]].member.id;
        uint64_t request = next_request(m);
        probe->indirect_requests[probe->indirect_count++] = request;
        m->counters.indirect_probes++;
        Rkv__Envelope *envelope = NULL;
        Rkv__PingReq *ask = message_new(out->arena, &rkv__ping_req__descriptor);
        if (ask != NULL) {
            ask->target.data =
                arena_copy(out->arena, probe->target.bytes, NODE_ID_SIZE);
            ask->target.len = ask->target.data == NULL ? 0 : NODE_ID_SIZE;
            ask->n_rumours = gossip_take(m, to, out->arena, &ask->rumours);
            envelope =
                envelope_new(out->arena, RKV__ENVELOPE__BODY_PING_REQ, ask);
        }
        outbox_request(out, to, LANE_CONTROL, request, envelope);
    }
}

static void probe_succeed(struct membership *m)
{
    m->probe.running = false;
    awareness_change(m, -1);
}

/* Those we asked and who did not even say "not reached" speak of our own
 * network, not of the target's. */
static void probe_fail(struct membership *m)
{
    struct probe *probe = &m->probe;
    probe->running = false;
    m->counters.probe_failures++;
    awareness_change(m, probe->indirect_count > 0
                            ? (int)(probe->indirect_count - probe->nacks)
                            : 1);
    struct entry *target = entry_find(m, probe->target);
    if (target != NULL)
        table_suspect(m, target);
}

static void relay_end(struct membership *m, struct relay *relay, bool reached,
                      uint32_t incarnation, struct outbox *out)
{
    relay->request = 0;
    send_ack(m, (struct node_id){{0}}, relay->token, reached, incarnation, out);
}

void probe_tick(struct membership *m, struct outbox *out)
{
    for (size_t i = 0; i < RELAYS_MAX; i++)
        if (m->relays[i].request != 0 && m->now_ms >= m->relays[i].end_ms)
            relay_end(m, &m->relays[i], false, 0, out);
    if (m->left)
        return;
    if (m->probe.running && !m->probe.indirect &&
        m->now_ms >= m->probe.indirect_ms)
        ask_others(m, out);
    else if (m->probe.running && m->now_ms >= m->probe.end_ms)
        probe_fail(m);
    if (!m->probe.running && m->now_ms >= m->probe_ms)
        probe_start(m, out);
}

void probe_ping(struct membership *m, struct node_id from,
                struct reply_token token, const Rkv__Ping *ping,
                struct outbox *out)
{
    struct member *self = self_of(m);
    gossip_hear(m, ping->rumours, ping->n_rumours);
    /* A ping for whoever had this address before us did not reach it. */
    bool reached = bytes_equal(bytes_of_binary(ping->target),
                               bytes_of(self->id.bytes, NODE_ID_SIZE));
    send_ack(m, from, token, reached, self->incarnation, out);
}

void probe_ping_req(struct membership *m, struct node_id from,
                    struct reply_token token, const Rkv__PingReq *ping_req,
                    struct outbox *out)
{
    gossip_hear(m, ping_req->rumours, ping_req->n_rumours);
    struct node_id target = {{0}};
    if (ping_req->target.len == NODE_ID_SIZE)
        memcpy(target.bytes, ping_req->target.data, NODE_ID_SIZE);
    if (is_self(m, target)) {
        send_ack(m, from, token, true, self_of(m)->incarnation, out);
        return;
    }
    struct relay *free_relay = NULL;
    for (size_t i = 0; i < RELAYS_MAX && free_relay == NULL; i++)
        if (m->relays[i].request == 0)
            free_relay = &m->relays[i];
    if (free_relay == NULL || entry_find(m, target) == NULL) {
        send_ack(m, from, token, false, 0, out);
        return;
    }
    /* Lifeguard's nack leaves before the asker's own timeout: at 80 % of it. */
    *free_relay = (struct relay){
        .request = next_request(m),
        .token = token,
        .end_ms = m->now_ms + (int64_t)m->config.probe_timeout_ms * 8 / 10};
    send_ping(m, target, free_relay->request, out);
}

static bool relay_reply(struct membership *m, uint64_t request,
                        const Rkv__Ack *ack, struct outbox *out)
{
    for (size_t i = 0; i < RELAYS_MAX; i++) {
        struct relay *relay = &m->relays[i];
        if (relay->request != request)
            continue;
        if (ack == NULL)
            relay_end(m, relay, false, 0, out);
        else
            relay_end(m, relay, ack->reached, ack->incarnation, out);
        return true;
    }
    return false;
}

static bool indirect_reply(struct membership *m, uint64_t request,
                           const Rkv__Ack *ack)
{
    struct probe *probe = &m->probe;
    for (size_t i = 0; i < probe->indirect_count; i++) {
        if (probe->indirect_requests[i] != request)
            continue;
        probe->indirect_requests[i] = 0;
        if (ack != NULL && ack->reached)
            probe_succeed(m);
        else if (ack != NULL)
            probe->nacks++;
        return true;
    }
    return false;
}

bool probe_reply(struct membership *m, uint64_t request,
                 const Rkv__Envelope *reply, struct outbox *out)
{
    struct probe *probe = &m->probe;
    const Rkv__Ack *ack = NULL;
    if (reply != NULL && reply->body_case == RKV__ENVELOPE__BODY_ACK)
        ack = reply->ack;
    bool direct = probe->running && probe->request == request;
    if (direct && ack != NULL && ack->reached) {
        probe_succeed(m);
    } else if (direct) {
        /* Refused or cut off: no sense in waiting for the timeout. */
        probe->request = 0;
        if (!probe->indirect)
            ask_others(m, out);
    } else if (!(probe->running && indirect_reply(m, request, ack)) &&
               !relay_reply(m, request, ack, out)) {
        return false;
    }
    if (ack != NULL)
        gossip_hear(m, ack->rumours, ack->n_rumours);
    return true;
}
