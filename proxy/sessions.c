/* SPDX-License-Identifier: MIT */
#include "proxy/sessions.h"

#include <stdlib.h>

#include "proto/assert.h"
#include "proxy/log.h"
#include "proxy/server_internal.h"

/* A token is generation (16), slot (17) and the frame's id without its top
 * bit, which is always set (31). */
enum { SLOT_BITS = 17, ID_BITS = 31, SLOTS_MAX = 1 << SLOT_BITS };
#define ID_TOP UINT32_C(0x80000000)

enum {
    /* Requests through nng devices outstanding on one connection. */
    ROUTES_MAX = 1024,
    /* A peer that connected has this long to say who it is. */
    GREETING_MS = 5000,
};

struct reply_token sessions_token(const struct session *session, uint32_t id)
{
    return (struct reply_token){
        (uint64_t)session->generation << (SLOT_BITS + ID_BITS) |
        (uint64_t)session->slot << ID_BITS | (id & ~ID_TOP)};
}

static struct session *find(struct sessions *sessions, struct reply_token token)
{
    size_t slot = token.value >> ID_BITS & (SLOTS_MAX - 1);
    uint32_t generation = (uint32_t)(token.value >> (SLOT_BITS + ID_BITS));
    if (slot >= sessions->count)
        return NULL;
    struct session *session = sessions->slots[slot].session;
    return session != NULL && session->generation == generation ? session
                                                                : NULL;
}

void sessions_init(struct sessions *sessions, struct server *server)
{
    *sessions = (struct sessions){.count = 0};
    for (int kind = SESSION_CLIENT; kind <= SESSION_PEER; kind++)
        sessions->acceptors[kind] =
            (struct session){.server = server, .kind = (enum session_kind)kind};
}

void sessions_fini(struct sessions *sessions)
{
    for (size_t i = 0; i < sessions->count; i++)
        ASSERT(sessions->slots[i].session == NULL);
    free(sessions->slots);
}

/* A free slot or a new one; SLOTS_MAX when there is none. */
static size_t slot_take(struct sessions *sessions)
{
    for (size_t i = 0; i < sessions->count; i++)
        if (sessions->slots[i].session == NULL)
            return i;
    if (sessions->count == SLOTS_MAX)
        return SLOTS_MAX;
    if (sessions->count == sessions->capacity) {
        size_t capacity = sessions->capacity * 2 + 16;
        void *grown =
            realloc(sessions->slots, capacity * sizeof *sessions->slots);
        if (grown == NULL)
            return SLOTS_MAX;
        sessions->slots = grown;
        sessions->capacity = capacity;
    }
    sessions->slots[sessions->count] = (struct session_slot){.session = NULL};
    return sessions->count++;
}

/* --- routes through devices --- */

static void route_keep(struct session *session, const struct frame *frame)
{
    struct route *route =
        session->route_count < ROUTES_MAX ? malloc(sizeof *route) : NULL;
    if (route == NULL || frame->hops.size > sizeof route->hops) {
        free(route);
        return; /* the reply goes astray, as on a full device */
    }
    route->id = frame->id;
    route->size = frame->hops.size;
    memcpy(route->hops, frame->hops.data, frame->hops.size);
    route->next = session->routes;
    session->routes = route;
    session->route_count++;
}

/* Where it is linked, or would be. */
static struct route **route_of(struct session *session, uint32_t id)
{
    struct route **at = &session->routes;
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void route_drop(struct session *session, struct route **at)
{
    struct route *route = *at;
    *at = route->next;
    session->route_count--;
    free(route);
}

/* --- replies --- */

static enum status send(struct session *session, uint32_t id,
                        struct bytes payload)
{
    struct route **route = route_of(session, id);
    struct bytes hops = {0};
    if (*route != NULL)
        hops = bytes_of((*route)->hops, (*route)->size);
    enum status status =
        connection_send(session->connection, id, hops, payload);
    /* In place of one that is too large comes a short one. */
    if (*route != NULL && status != STATUS_TOO_LARGE)
        route_drop(session, route);
    return status;
}

static enum status send_packed(struct server *server, struct session *session,
                               uint32_t id, const Rkv__Envelope *envelope)
{
    buffer_clear(&server->packed);
    enum status status = envelope_pack(envelope, &server->packed);
    if (status != STATUS_OK)
        return status;
    return send(session, id, buffer_bytes(&server->packed));
}

static void send_too_large(struct server *server, struct session *session,
                           uint32_t id)
{
    struct arena *arena = &server->effects.arena;
    server->counters[EDGE_REPLIES_TOO_LARGE]++;
    const Rkv__Envelope *envelope =
        envelope_result(arena, STATUS_TOO_LARGE,
                        "the reply is longer than the frame limit; ask for "
                        "less, or raise limits.value_bytes_max");
    if (envelope == NULL ||
        send_packed(server, session, id, envelope) != STATUS_OK)
        server->counters[EDGE_REPLIES_DROPPED]++;
}

/* See to what became of a reply. */
static void sent(struct server *server, struct turn *turn,
                 struct session *session, uint32_t id, enum status status)
{
    if (status == STATUS_TOO_LARGE)
        send_too_large(server, session, id);
    else if (status != STATUS_OK)
        server->counters[EDGE_REPLIES_DROPPED]++;
    /* It asks and does not read: what it waits for is lost anyway. */
    if (status == STATUS_OVERLOADED)
        connection_close(session->connection);
    else
        turn_flush(turn, session->connection);
}

void sessions_send(struct server *server, struct turn *turn,
                   struct session *session, uint32_t id, struct bytes payload)
{
    sent(server, turn, session, id, send(session, id, payload));
}

/* A node dials a lane anew when it has given up the old one, whose end may
 * never have reached us. */
static void close_older(struct server *server, const struct session *session)
{
    for (size_t i = 0; i < server->sessions.count; i++) {
        struct session *other = server->sessions.slots[i].session;
        if (other == NULL || other == session || other->kind != SESSION_PEER ||
            other->state != SESSION_OPEN || other->lane != session->lane ||
            !node_id_equal(other->node, session->node))
            continue;
        /* What it still has is older than what this one will bring. */
        other->state = SESSION_REFUSED;
        connection_close(other->connection);
    }
}

/* The node's answer to a Hello decides what the session is. */
static void judge(struct server *server, struct session *session,
                  const Rkv__Envelope *envelope)
{
    if (session->state != SESSION_GREETING)
        return;
    bool accepted = envelope->body_case == RKV__ENVELOPE__BODY_HELLO_REPLY &&
                    envelope->hello_reply->status == RKV__STATUS__OK;
    session->state = accepted ? SESSION_OPEN : SESSION_REFUSED;
    if (accepted) {
        links_take_lane(session->connection, session->lane);
        close_older(server, session);
        links_wake(&server->links, session->node);
    } else {
        log_line("event=hello_refused peer=%s why=\"%s\"",
                 connection_peer(session->connection),
                 envelope->body_case == RKV__ENVELOPE__BODY_HELLO_REPLY
                     ? envelope->hello_reply->message
                     : "another message came first");
    }
}

void sessions_reply(struct server *server, struct turn *turn,
                    struct reply_token token, const Rkv__Envelope *envelope)
{
    if (batches_is_token(token)) {
        batches_reply(server, turn, token, envelope);
        return;
    }
    struct session *session = find(&server->sessions, token);
    if (session == NULL) {
        server->counters[EDGE_REPLIES_DROPPED]++;
        return;
    }
    if (session->kind == SESSION_PEER)
        judge(server, session, envelope);
    if (envelope->body_case == RKV__ENVELOPE__BODY_ADMIN_REPLY &&
        envelope->admin_reply->n_counters > 0)
        server_add_counters(server, envelope->admin_reply,
                            &server->effects.arena);
    uint32_t id = (uint32_t)token.value | ID_TOP;
    sent(server, turn, session, id, send_packed(server, session, id, envelope));
}

/* --- requests --- */

static void answer_alone(struct server *server, struct turn *turn,
                         struct session *session, uint32_t id,
                         const char *event, const struct error *error)
{
    log_line("event=%s peer=%s why=\"%s\"", event,
             connection_peer(session->connection), error->text);
    Rkv__Envelope *envelope =
        envelope_result(&server->effects.arena, error->status, error->text);
    if (envelope == NULL)
        return;
    envelope->result->outcome = RKV__OUTCOME__NOT_APPLIED;
    sessions_reply(server, turn, sessions_token(session, id), envelope);
}

static void greet(struct server *server, struct turn *turn,
                  struct session *session, struct event *event)
{
    const Rkv__Envelope *message = event->message;
    event->kind = EVENT_HELLO;
    if (message->body_case == RKV__ENVELOPE__BODY_HELLO &&
        message->hello->self != NULL &&
        message->hello->self->id.len == NODE_ID_SIZE) {
        memcpy(session->node.bytes, message->hello->self->id.data,
               NODE_ID_SIZE);
        session->lane = message->hello->lane;
    }
    turn_step(server, turn, event);
    /* The verdict, before the next frame is looked at. */
    turn_settle(server, turn);
}

/* What the edge has, and the node knows nothing of. */
static bool asks_recording(const Rkv__Envelope *message)
{
    return message->body_case == RKV__ENVELOPE__BODY_ADMIN &&
           message->admin->what == RKV__ADMIN__WHAT__RECORDING;
}

static void heard(struct server *server, struct turn *turn,
                  struct session *session, const struct frame *frame,
                  const Rkv__Envelope *message)
{
    struct event event = {
        .from = session->node,
        .token = sessions_token(session, frame->id),
        .message = message,
        .packed = frame->payload,
    };
    if (session->kind == SESSION_CLIENT &&
        message->body_case == RKV__ENVELOPE__BODY_BATCH) {
        batches_request(server, turn, session, frame->id, message);
    } else if (session->kind == SESSION_CLIENT && asks_recording(message)) {
        server_send_recording(server, turn, event.token);
    } else if (session->kind == SESSION_CLIENT) {
        event.kind = EVENT_CLIENT_REQUEST;
        turn_step(server, turn, &event);
    } else if (session->state == SESSION_GREETING) {
        greet(server, turn, session, &event);
    } else if (session->state == SESSION_OPEN) {
        event.kind = EVENT_PEER_REQUEST;
        turn_step(server, turn, &event);
    }
}

static void frames_heard(struct session *session, const struct frame *frames,
                         size_t count)
{
    struct server *server = session->server;
    const Rkv__Envelope *messages[FRAMES_A_TURN];
    struct error errors[FRAMES_A_TURN];
    struct turn *turn = turn_take(server);
    if (turn == NULL) {
        connection_close(session->connection);
        return;
    }
    turn_unpack(turn, frames, count, messages, errors);
    turn_lock(server, turn);
    for (size_t i = 0; i < count; i++) {
        if (frames[i].hops.size > 0)
            route_keep(session, &frames[i]);
        if (messages[i] != NULL) {
            heard(server, turn, session, &frames[i], messages[i]);
            continue;
        }
        server->counters[EDGE_FRAMES_MALFORMED]++;
        answer_alone(server, turn, session, frames[i].id, "malformed",
                     &errors[i]);
    }
    turn_end(server, turn);
}

static void on_frames(struct connection *connection, void *user,
                      const struct frame *frames, size_t count)
{
    (void)connection;
    while (count > 0) {
        size_t some = turn_frames(frames, count);
        frames_heard(user, frames, some);
        frames += some;
        count -= some;
    }
}

/* A request, as large as it may be: the others of its connection go on. */
static void on_oversized(struct connection *connection, void *user,
                         const struct frame *frame, size_t size)
{
    struct session *session = user;
    struct server *server = session->server;
    struct error error;
    struct turn *turn = turn_begin(server);
    if (turn == NULL) {
        connection_close(connection);
        return;
    }
    error_set(&error, STATUS_TOO_LARGE,
              "request: %zu bytes, allowed are %zu: limits.value_bytes_max and "
              "%d KiB",
              size, server->request_bytes_max,
              CONFIG_REQUEST_OVERHEAD_BYTES >> 10);
    if (frame->hops.size > 0)
        route_keep(session, frame);
    answer_alone(server, turn, session, frame->id, "oversized", &error);
    turn_end(server, turn);
}

/* --- coming and going --- */

static void on_opened(struct connection *connection, void *user)
{
    const struct session *acceptor = user;
    struct server *server = acceptor->server;
    struct session *session = calloc(1, sizeof *session);
    struct turn *turn = session == NULL ? NULL : turn_begin(server);
    if (turn == NULL) {
        free(session);
        connection_close(connection);
        return;
    }
    size_t slot = slot_take(&server->sessions);
    if (slot < SLOTS_MAX) {
        struct session_slot *at = &server->sessions.slots[slot];
        *session = *acceptor;
        session->state =
            session->kind == SESSION_PEER ? SESSION_GREETING : SESSION_OPEN;
        session->connection = connection_retain(connection);
        session->since_ms = session->moved_ms = turn->now_ms;
        session->slot = (uint32_t)slot;
        /* Never 0, so that no token is: that is nowhere. */
        at->generation = at->generation % UINT16_MAX + 1;
        session->generation = at->generation;
        at->session = session;
        connection_set_user(connection, session);
    }
    turn_end(server, turn);
    if (slot == SLOTS_MAX) {
        free(session);
        connection_close(connection);
    }
}

/* What a person can do something about; the rest is everyday. */
static bool is_worth_a_line(const struct error *why)
{
    return why->status == STATUS_TOO_LARGE || why->status == STATUS_INVALID;
}

static void on_closed(struct connection *connection, void *user,
                      const struct error *why)
{
    struct session *session = user;
    struct server *server = session->server;
    (void)connection;
    if (is_worth_a_line(why))
        log_line("event=closed why=\"%s\"", why->text);
    if (session->connection == NULL)
        return; /* it never was more than a connection */
    pthread_mutex_lock(&server->lock);
    batches_forget(server, session);
    server->sessions.slots[session->slot].session = NULL;
    pthread_mutex_unlock(&server->lock);
    while (session->routes != NULL)
        route_drop(session, &session->routes);
    connection_release(session->connection);
    free(session);
}

const struct transport_handlers session_handlers[] = {
    [SESSION_CLIENT] = {.opened = on_opened,
                        .frames = on_frames,
                        .oversized = on_oversized,
                        .closed = on_closed},
    [SESSION_PEER] = {.opened = on_opened,
                      .frames = on_frames,
                      .closed = on_closed},
};

static bool is_stalled(struct server *server, struct session *session,
                       int64_t now_ms)
{
    size_t queued = connection_queued_bytes(session->connection);
    if (queued == 0 || queued < session->queued_bytes)
        session->moved_ms = now_ms;
    session->queued_bytes = queued;
    return now_ms - session->moved_ms > server->config->lane_timeout_ms;
}

void sessions_tick(struct server *server, int64_t now_ms)
{
    for (size_t i = 0; i < server->sessions.count; i++) {
        struct session *session = server->sessions.slots[i].session;
        if (session == NULL)
            continue;
        bool late = session->state == SESSION_GREETING &&
                    now_ms - session->since_ms > GREETING_MS;
        bool stalled = is_stalled(server, session, now_ms);
        if (session->state != SESSION_REFUSED) {
            server->counters[EDGE_HELLOS_LATE] += late;
            server->counters[EDGE_SESSIONS_STALLED] += stalled;
        }
        if (late || stalled)
            session->state = SESSION_REFUSED;
        if (stalled ||
            (session->state == SESSION_REFUSED && session->queued_bytes == 0))
            connection_close(session->connection);
    }
}

size_t sessions_queued(const struct server *server)
{
    size_t queued = 0;
    for (size_t i = 0; i < server->sessions.count; i++)
        if (server->sessions.slots[i].session != NULL)
            queued += connection_queued_bytes(
                server->sessions.slots[i].session->connection);
    return queued;
}
