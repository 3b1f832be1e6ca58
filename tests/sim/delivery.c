/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "sim.h"

/* What happens when the first frame of a pipe is due. */

enum {
    REFUSED_US = 200, /* a port where nobody listens */
    STALL_US = 10 * 1000,
};

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
                                   .a = network_index(&sim->network, session),
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
    network_abandon(sim, session, true, 0, true);
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
            network_give_back(&sim->network, session);
        else
            network_abandon(sim, session, true, REFUSED_US, true);
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
        network_frame_free(frame);
        if (!session->used || session->generation != generation)
            return;
        if (session->is_abandoned && pipe->first == NULL) {
            network_give_back(&sim->network, session);
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
