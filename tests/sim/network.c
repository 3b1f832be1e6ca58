/* SPDX-License-Identifier: MIT */
#include "network.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"
#include "sim.h"

enum {
    /* As in the real edge: bytes outstanding and nothing heard. */
    LANE_TIMEOUT_US = 1500 * 1000,
};

void network_frame_free(struct frame *frame)
{
    buffer_fini(&frame->bytes);
    free(frame);
}

static size_t pipe_clear(struct pipe *pipe)
{
    size_t count = 0;
    while (pipe->first != NULL) {
        struct frame *next = pipe->first->next;
        network_frame_free(pipe->first);
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

uint32_t network_index(const struct network *network,
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

void network_give_back(struct network *network, struct session *session)
{
    pipe_clear(&session->pipes[DIRECTION_THERE]);
    pipe_clear(&session->pipes[DIRECTION_BACK]);
    session->used = false;
    session->generation++;
    uint32_t *current =
        &network->current[session->dialer][session->listener][session->lane];
    if (*current == network_index(network, session) + 1)
        *current = 0;
}

/* The dialer waits no more. What is on its way to the listener may arrive. */
void network_abandon(struct sim *sim, struct session *session, bool tell,
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
    if (*current == network_index(network, session) + 1)
        *current = 0;
    if (session->pipes[DIRECTION_THERE].first == NULL)
        network_give_back(network, session);
    else
        sim->tally->faults[FAULT_LATE_FRAMES]++;
}

static void lose_or_not(struct sim *sim, struct session *session, int64_t in_us)
{
    network_abandon(sim, session, true, in_us,
                    random_chance(&sim->network_random, 500));
}

void network_reset(struct sim *sim, uint32_t index)
{
    struct session *session = &sim->network.sessions[index];
    lose_or_not(sim, session, random_range(&sim->network_random, 0, 20000));
}

static bool is_write(struct sim *sim, const struct frame *frame)
{
    if (frame->kind != FRAME_REQUEST)
        return false;
    arena_reset(&sim->arena);
    const Rkv__Envelope *message =
        envelope_unpack(buffer_bytes(&frame->bytes), &sim->arena, NULL);
    ASSERT(message != NULL);
    return message->body_case == RKV__ENVELOPE__BODY_WRITE;
}

/* Clients' writes that one node passes on to another. */
static bool carries_write(struct sim *sim, const struct session *session)
{
    const struct frame *frame = session->pipes[DIRECTION_THERE].first;
    while (frame != NULL && !is_write(sim, frame))
        frame = frame->next;
    return frame != NULL;
}

/* What is on its way arrives long after what is said in the morning to others
 * and on other lanes. */
static void delay(struct sim *sim, struct pipe *pipe)
{
    int64_t late_us = random_range(&sim->network_random, 10, 1200) * 1000;
    for (struct frame *frame = pipe->first; frame != NULL; frame = frame->next)
        frame->ready_us += late_us;
    if (pipe->first == NULL)
        return;
    pipe->last_us += late_us;
    sim->tally->faults[FAULT_NIGHT_LATE]++;
}

void network_night(struct sim *sim)
{
    for (size_t i = 0; i < sim->network.high; i++) {
        struct session *session = &sim->network.sessions[i];
        if (!session->used)
            continue;
        if (random_chance(&sim->network_random, 700) &&
            !carries_write(sim, session)) {
            if (random_chance(&sim->network_random, 500))
                delay(sim, &session->pipes[DIRECTION_THERE]);
            continue;
        }
        if (session->is_abandoned)
            network_give_back(&sim->network, session);
        else
            network_abandon(sim, session, true, 0, true);
    }
}

void network_host_gone(struct sim *sim, struct host *host)
{
    for (size_t i = 0; i < sim->network.high; i++) {
        struct session *session = &sim->network.sessions[i];
        if (!session->used)
            continue;
        if (session->dialer == host->index && !session->is_abandoned)
            network_abandon(sim, session, false, 0,
                            random_chance(&sim->network_random, 500));
        else if (session->listener == host->index) {
            /* The dialer learns of it by a reset, soon. */
            if (!session->is_abandoned)
                network_abandon(sim, session, true,
                                random_range(&sim->network_random, 100, 5000),
                                true);
            else
                network_give_back(&sim->network, session);
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

/* Fields that a later build may add, of two kinds: a number and bytes. Whoever
 * does not know them passes over them. */
static void say_more(struct buffer *frame)
{
    static const uint8_t fields[] = {0xc0, 0xbb, 0x01, 42,  0xc2, 0xbb,
                                     0x01, 3,    'n',  'e', 'w'};
    enum status status = buffer_append(frame, bytes_of(fields, sizeof fields));
    ASSERT(status == STATUS_OK);
}

static bool is_newer(const struct sim *sim, uint32_t host)
{
    return sim->hosts[host].version_max > PEER_VERSION_MAX;
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
    if (is_newer(sim, from))
        say_more(&frame->bytes);
    int64_t least = sim->plan.latency_us;
    frame->ready_us = sim->now_us +
                      sim->network.clogged_us[from][to][session->lane] +
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
    sim_at(sim, frame->ready_us, MOMENT_FRAME,
           network_index(&sim->network, session), session->generation,
           direction);
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
    Rkv__Envelope *hello = node_hello(host->node, lane, &arena);
    hello->hello->session = ++network->dialled;
    pipe_push(sim, session, DIRECTION_THERE, FRAME_HELLO, 0, hello);
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

/* What a later build may ask: here it is none that is asked. The answer is of
 * no use to it. */
static void ask_unknown(struct sim *sim, struct session *session)
{
    static const Rkv__Result result = RKV__RESULT__INIT;
    struct arena arena;
    arena_init(&arena, 1 << 12);
    sim->tally->faults[FAULT_UNKNOWN_REQUEST]++;
    session->number++;
    pipe_push(sim, session, DIRECTION_THERE, FRAME_REQUEST, session->number,
              envelope_new(&arena, RKV__ENVELOPE__BODY_RESULT, &result));
    arena_fini(&arena);
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
    /* The lane's buffer is full, or there is no memory. */
    if (sim->stage == SIM_FAULTS &&
        random_chance(&sim->send_random, sim->plan.failed_send_permille)) {
        sim->tally->faults[FAULT_FAILED_SEND]++;
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
    if (is_newer(sim, host->index) && random_chance(&sim->send_random, 20))
        ask_unknown(sim, session);
}

/* As the edge does: the listener hears no more of the lane's older ones. */
static void end_older(struct sim *sim, const struct session *session)
{
    for (size_t i = 0; i < sim->network.high; i++) {
        struct session *other = &sim->network.sessions[i];
        if (other == session || !other->used || !other->is_accepted ||
            other->dialer != session->dialer ||
            other->listener != session->listener ||
            other->lane != session->lane)
            continue;
        if (other->is_abandoned)
            network_give_back(&sim->network, other);
        else
            network_abandon(sim, other, true, 0, true);
    }
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
    if (greets && session->is_accepted)
        end_older(sim, session);
    pipe_push(sim, session, DIRECTION_BACK,
              greets ? FRAME_HELLO_REPLY : FRAME_REPLY, number, envelope);
}
