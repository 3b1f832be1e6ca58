/* SPDX-License-Identifier: MIT */
#include "network.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"
#include "sim.h"

enum {
    /* As in the real edge: bytes outstanding and nothing heard. */
    LANE_TIMEOUT_US = 1500 * 1000,
    REFUSED_US = 200, /* a port where nobody listens */
    STALL_US = 10 * 1000,
};

static void frame_free(struct frame *frame)
{
    buffer_fini(&frame->bytes);
    free(frame);
}

static size_t pipe_clear(struct pipe *pipe)
{
    size_t count = 0;
    while (pipe->first != NULL) {
        struct frame *next = pipe->first->next;
        frame_free(pipe->first);
        pipe->first = next;
        count++;
    }
    pipe->last = NULL;
    return count;
}

void network_fini(struct network *network)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        struct session *session = &network->sessions[i];
        pipe_clear(&session->pipes[DIRECTION_THERE]);
        pipe_clear(&session->pipes[DIRECTION_BACK]);
        free(session->pending);
    }
    free(network->no_replies);
}

static uint32_t index_of(const struct network *network,
                         const struct session *session)
{
    return (uint32_t)(session - network->sessions);
}

/* --- what will not be answered --- */

static void promise_no_reply(struct sim *sim, struct host *host,
                             uint64_t request, struct node_id from,
                             int64_t in_us)
{
    struct network *network = &sim->network;
    size_t at = 0;
    while (at < network->no_reply_count && network->no_replies[at].used)
        at++;
    if (at == network->no_reply_capacity) {
        network->no_reply_capacity = network->no_reply_capacity * 2 + 64;
        network->no_replies =
            realloc(network->no_replies,
                    network->no_reply_capacity * sizeof *network->no_replies);
        ASSERT(network->no_replies != NULL);
    }
    if (at == network->no_reply_count)
        network->no_reply_count++;
    network->no_replies[at] =
        (struct no_reply){.used = true, .request = request, .from = from};
    sim_in(sim, in_us, MOMENT_NO_REPLY, host->index, host->life, at);
}

void network_no_reply(struct sim *sim, struct host *host, size_t entry)
{
    struct no_reply *no_reply = &sim->network.no_replies[entry];
    struct event event = {
        .kind = EVENT_NO_REPLY,
        .request = no_reply->request,
        .from = no_reply->from,
    };
    no_reply->used = false;
    /* A process that is gone hears nothing. */
    if (host != NULL)
        host_step(sim, host, &event);
}

/* --- sessions --- */

static void give_back(struct network *network, struct session *session)
{
    pipe_clear(&session->pipes[DIRECTION_THERE]);
    pipe_clear(&session->pipes[DIRECTION_BACK]);
    session->used = false;
    session->generation++;
    uint32_t *current =
        &network->current[session->dialer][session->listener][session->lane];
    if (*current == index_of(network, session) + 1)
        *current = 0;
}

/* The dialer waits no more. What is on its way to the listener may arrive. */
static void abandon(struct sim *sim, struct session *session, bool tell,
                    int64_t in_us, bool lose)
{
    struct network *network = &sim->network;
    struct host *dialer = &sim->hosts[session->dialer];
    for (size_t i = 0; tell && i < session->pending_count; i++)
        if (session->pending[i].request != 0)
            promise_no_reply(sim, dialer, session->pending[i].request,
                             sim->hosts[session->listener].id, in_us);
    session->pending_count = session->awaited = 0;
    session->is_abandoned = true;
    sim->tally->faults[FAULT_FRAMES_LOST] +=
        pipe_clear(&session->pipes[DIRECTION_BACK]);
    if (lose)
        sim->tally->faults[FAULT_FRAMES_LOST] +=
            pipe_clear(&session->pipes[DIRECTION_THERE]);
    uint32_t *current =
        &network->current[session->dialer][session->listener][session->lane];
    if (*current == index_of(network, session) + 1)
        *current = 0;
    if (session->pipes[DIRECTION_THERE].first == NULL)
        give_back(network, session);
    else
        sim->tally->faults[FAULT_LATE_FRAMES]++;
}

static void lose_or_not(struct sim *sim, struct session *session, int64_t in_us)
{
    abandon(sim, session, true, in_us,
            random_chance(&sim->network_random, 500));
}

void network_reset(struct sim *sim, uint32_t index)
{
    struct session *session = &sim->network.sessions[index];
    lose_or_not(sim, session, random_range(&sim->network_random, 0, 20000));
}

void network_host_gone(struct sim *sim, struct host *host)
{
    for (size_t i = 0; i < sim->network.high; i++) {
        struct session *session = &sim->network.sessions[i];
        if (!session->used)
            continue;
        if (session->dialer == host->index && !session->is_abandoned)
            abandon(sim, session, false, 0,
                    random_chance(&sim->network_random, 500));
        else if (session->listener == host->index) {
            /* The dialer learns of it by a reset, soon. */
            if (!session->is_abandoned)
                abandon(sim, session, true,
                        random_range(&sim->network_random, 100, 5000), true);
            else
                give_back(&sim->network, session);
        }
    }
}

void network_tick(struct sim *sim, struct host *host)
{
    for (size_t i = 0; i < sim->network.high; i++) {
        struct session *session = &sim->network.sessions[i];
        if (!session->used || session->is_abandoned ||
            session->dialer != host->index || session->awaited == 0 ||
            sim->now_us - session->heard_us < LANE_TIMEOUT_US)
            continue;
        sim->tally->faults[FAULT_LANE_TIMEOUT]++;
        sim_tell(sim, host->name, "gives up the silent lane %d to %s",
                 session->lane, sim->hosts[session->listener].name);
        lose_or_not(sim, session, 0);
    }
}

static void pipe_push(struct sim *sim, struct session *session,
                      enum direction direction, enum frame_kind kind,
                      uint32_t number, const Rkv__Envelope *envelope)
{
    struct pipe *pipe = &session->pipes[direction];
    struct frame *frame = calloc(1, sizeof *frame);
    ASSERT(frame != NULL);
    enum status status = envelope_pack(envelope, &frame->bytes);
    ASSERT(status == STATUS_OK);
    frame->kind = kind;
    frame->number = number;
    uint32_t from =
        direction == DIRECTION_THERE ? session->dialer : session->listener;
    uint32_t to =
        direction == DIRECTION_THERE ? session->listener : session->dialer;
    int64_t least = sim->plan.latency_us;
    frame->ready_us = sim->now_us + sim->network.clogged_us[from][to] +
                      random_range(&sim->network_random, least, 10 * least);
    if (frame->ready_us < pipe->last_us)
        frame->ready_us = pipe->last_us;
    pipe->last_us = frame->ready_us;
    if (pipe->last != NULL)
        pipe->last->next = frame;
    else
        pipe->first = frame;
    pipe->last = frame;
    if (pipe->scheduled)
        return;
    pipe->scheduled = true;
    sim_at(sim, frame->ready_us, MOMENT_FRAME, index_of(&sim->network, session),
           session->generation, direction);
}

static struct session *dial(struct sim *sim, struct host *host, uint32_t to,
                            enum lane lane)
{
    struct network *network = &sim->network;
    uint32_t at = 0;
    while (at < SESSIONS_MAX && network->sessions[at].used)
        at++;
    ASSERT(at < SESSIONS_MAX);
    if (at >= network->high)
        network->high = at + 1;
    struct session *session = &network->sessions[at];
    uint32_t generation = session->generation;
    free(session->pending);
    *session = (struct session){
        .used = true,
        .generation = generation,
        .dialer = host->index,
        .listener = to,
        .lane = lane,
        .dialer_life = host->life,
        .heard_us = sim->now_us,
    };
    network->current[host->index][to][lane] = at + 1;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    pipe_push(sim, session, DIRECTION_THERE, FRAME_HELLO, 0,
              node_hello(host->node, lane, &arena));
    arena_fini(&arena);
    return session;
}

/* Whom it is for, as the edge would find out: by the address of a seed, or by
 * the one that membership knows. */
static uint32_t resolve(const struct sim *sim, const struct host *host,
                        const struct message_out *message)
{
    const char *address = message->address;
    if (!node_id_is_zero(message->to)) {
        const struct member *member =
            membership_find(node_membership(host->node), message->to);
        address = member == NULL ? NULL : member->peer_address;
    }
    for (uint32_t i = 0; address != NULL && i < sim->plan.hosts; i++)
        if (strcmp(sim->hosts[i].address, address) == 0)
            return i;
    return HOSTS_MAX;
}

static void await(struct session *session, uint64_t request, int64_t now_us)
{
    if (session->awaited == 0)
        session->heard_us = now_us;
    session->awaited++;
    for (size_t i = 0; i < session->pending_count; i++)
        if (session->pending[i].request == 0) {
            session->pending[i] =
                (struct pending){.number = session->number, .request = request};
            return;
        }
    if (session->pending_count == session->pending_capacity) {
        session->pending_capacity = session->pending_capacity * 2 + 16;
        session->pending =
            realloc(session->pending,
                    session->pending_capacity * sizeof *session->pending);
        ASSERT(session->pending != NULL);
    }
    session->pending[session->pending_count++] =
        (struct pending){.number = session->number, .request = request};
}

void network_request(struct sim *sim, struct host *host,
                     const struct message_out *message)
{
    uint32_t to = resolve(sim, host, message);
    if (to == host->index)
        verdict_unsafe(&sim->verdict, "no-self-talk",
                       "%s sends itself a request (body %d)", host->name,
                       (int)message->envelope->body_case);
    if (to == HOSTS_MAX || to == host->index) {
        promise_no_reply(sim, host, message->request, message->to, 0);
        return;
    }
    uint32_t current = sim->network.current[host->index][to][message->lane];
    struct session *session = current != 0 ? &sim->network.sessions[current - 1]
                                           : dial(sim, host, to, message->lane);
    session->number++;
    await(session, message->request, sim->now_us);
    pipe_push(sim, session, DIRECTION_THERE, FRAME_REQUEST, session->number,
              message->envelope);
}

void network_reply(struct sim *sim, uint32_t index, uint32_t generation,
                   uint32_t number, const Rkv__Envelope *envelope)
{
    struct session *session = &sim->network.sessions[index];
    if (!session->used || session->generation != generation ||
        session->is_abandoned)
        return;
    bool greets = number == 0;
    if (greets && envelope->body_case == RKV__ENVELOPE__BODY_HELLO_REPLY)
        session->is_accepted = envelope->hello_reply->status == RKV__STATUS__OK;
    pipe_push(sim, session, DIRECTION_BACK,
              greets ? FRAME_HELLO_REPLY : FRAME_REPLY, number, envelope);
}

/* --- delivery --- */

static const Rkv__Envelope *unpack(struct sim *sim, const struct frame *frame)
{
    arena_reset(&sim->arena);
    trace_mix_bytes(&sim->trace, frame->bytes.data, frame->bytes.size);
    const Rkv__Envelope *envelope =
        envelope_unpack(buffer_bytes(&frame->bytes), &sim->arena, NULL);
    ASSERT(envelope != NULL);
    return envelope;
}

static void deliver_there(struct sim *sim, struct session *session,
                          const struct frame *frame)
{
    struct host *listener = &sim->hosts[session->listener];
    if (!session->is_met) {
        session->is_met = true;
        session->listener_life = listener->life;
    }
    /* A session that was refused: closed by the listener. */
    if (frame->kind == FRAME_REQUEST && !session->is_accepted)
        return;
    struct event event = {
        .kind = frame->kind == FRAME_HELLO ? EVENT_HELLO : EVENT_PEER_REQUEST,
        .from = sim->hosts[session->dialer].id,
        .message = unpack(sim, frame),
    };
    event.token =
        host_expect(sim, listener,
                    (struct asked){.asker = ASKER_SESSION,
                                   .a = index_of(&sim->network, session),
                                   .b = session->generation,
                                   .c = frame->number,
                                   .is_hello = frame->kind == FRAME_HELLO});
    host_step(sim, listener, &event);
}

static void deliver_hello_reply(struct sim *sim, struct session *session,
                                const Rkv__Envelope *message)
{
    struct host *dialer = &sim->hosts[session->dialer];
    struct event event = {.kind = EVENT_HELLO_REPLY,
                          .from = sim->hosts[session->listener].id,
                          .message = message};
    session->is_up = message->body_case == RKV__ENVELOPE__BODY_HELLO_REPLY &&
                     message->hello_reply->status == RKV__STATUS__OK;
    uint32_t generation = session->generation;
    if (host_step(sim, dialer, &event))
        session->is_up = false;
    if (session->is_up || session->generation != generation)
        return;
    sim_tell(sim, dialer->name, "and %s do not talk",
             sim->hosts[session->listener].name);
    abandon(sim, session, true, 0, true);
}

static void deliver_back(struct sim *sim, struct session *session,
                         const struct frame *frame)
{
    struct host *dialer = &sim->hosts[session->dialer];
    session->heard_us = sim->now_us;
    const Rkv__Envelope *message = unpack(sim, frame);
    if (frame->kind == FRAME_HELLO_REPLY) {
        deliver_hello_reply(sim, session, message);
        return;
    }
    for (size_t i = 0; session->is_up && i < session->pending_count; i++) {
        struct pending *pending = &session->pending[i];
        if (pending->number != frame->number || pending->request == 0)
            continue;
        struct event event = {.kind = EVENT_REPLY,
                              .from = sim->hosts[session->listener].id,
                              .request = pending->request,
                              .message = message};
        pending->request = 0;
        session->awaited--;
        host_step(sim, dialer, &event);
        return;
    }
}

/* The receiver's host, or NULL: it is down, or not the process that the
 * session is with. */
static struct host *receiver(struct sim *sim, const struct session *session,
                             enum direction direction)
{
    bool there = direction == DIRECTION_THERE;
    struct host *host =
        &sim->hosts[there ? session->listener : session->dialer];
    if (host->node == NULL ||
        (there && session->is_met && session->listener_life != host->life))
        return NULL;
    return host;
}

void network_deliver(struct sim *sim, uint32_t index, uint32_t generation,
                     enum direction direction)
{
    struct session *session = &sim->network.sessions[index];
    if (!session->used || session->generation != generation)
        return;
    struct pipe *pipe = &session->pipes[direction];
    pipe->scheduled = false;
    struct frame *frame = pipe->first;
    if (frame == NULL)
        return;
    const struct host *host = receiver(sim, session, direction);
    bool there = direction == DIRECTION_THERE;
    uint32_t from = there ? session->dialer : session->listener;
    uint32_t to = there ? session->listener : session->dialer;
    int64_t again_us = sim->network.cut[from][to] ? sim->now_us + STALL_US : 0;
    if (again_us == 0 && host != NULL && host->paused_until_us > sim->now_us)
        again_us = host->paused_until_us;
    if (frame->ready_us > sim->now_us)
        again_us = frame->ready_us;
    if (again_us == 0 && host == NULL) {
        if (session->is_abandoned)
            give_back(&sim->network, session);
        else
            abandon(sim, session, true, REFUSED_US, true);
        return;
    }
    if (again_us == 0) {
        pipe->first = frame->next;
        if (pipe->first == NULL)
            pipe->last = NULL;
        if (there)
            deliver_there(sim, session, frame);
        else
            deliver_back(sim, session, frame);
        frame_free(frame);
        if (!session->used || session->generation != generation)
            return;
        if (session->is_abandoned && pipe->first == NULL) {
            give_back(&sim->network, session);
            return;
        }
        if (pipe->first == NULL || pipe->scheduled)
            return;
        again_us = pipe->first->ready_us > sim->now_us ? pipe->first->ready_us
                                                       : sim->now_us;
    }
    pipe->scheduled = true;
    sim_at(sim, again_us, MOMENT_FRAME, index, generation, direction);
}
