/* SPDX-License-Identifier: MIT */
#include "proxy/links.h"

#include <stdlib.h>
#include <xxhash.h>

#include "proxy/log.h"
#include "proxy/server_internal.h"

/* A request's frame id: the top bit, generation (14), slot (17). */
enum { SLOT_BITS = 17, SLOTS_MAX = 1 << SLOT_BITS, GENERATION_MASK = 0x3fff };
#define ID_TOP UINT32_C(0x80000000)

/* No machine's request number: the link's own. */
static const uint64_t HELLO = 1;

enum {
    /* After a failed dial; doubled up to the most, which is also how late a
     * node that is back, and says no Hello first, may be seen on this lane. */
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 1000,
    /* Of the buffer for packing: any usual message. */
    PACKED_BYTES_KEPT = 64 << 10,
};

/* --- finding --- */

static size_t bucket_of(struct node_id node, const char *address,
                        enum lane lane)
{
    uint64_t hash = address == NULL ? XXH3_64bits(node.bytes, NODE_ID_SIZE)
                                    : XXH3_64bits(address, strlen(address));
    return (hash + lane) % LINK_BUCKETS;
}

static bool is_it(const struct link *link, struct node_id node,
                  const char *address, enum lane lane)
{
    if (link->lane != lane || (link->address == NULL) != (address == NULL))
        return false;
    return address == NULL ? node_id_equal(link->node, node)
                           : strcmp(link->address, address) == 0;
}

/* NULL: nothing was sent on this lane yet. */
static struct link *find(const struct links *links, struct node_id node,
                         const char *address, enum lane lane)
{
    struct link *link = links->buckets[bucket_of(node, address, lane)];
    while (link != NULL && !is_it(link, node, address, lane))
        link = link->next;
    return link;
}

static struct link *find_or_make(struct server *server,
                                 const struct message_out *message)
{
    struct link *link =
        find(&server->links, message->to, message->address, message->lane);
    if (link != NULL)
        return link;
    link = calloc(1, sizeof *link);
    if (link == NULL)
        return NULL;
    struct link **head =
        &server->links
             .buckets[bucket_of(message->to, message->address, message->lane)];
    link->server = server;
    link->node = message->to;
    link->address = message->address;
    link->lane = message->lane;
    link->backoff_ms = BACKOFF_MIN_MS;
    link->next = *head;
    *head = link;
    return link;
}

void links_fini(struct links *links)
{
    for (size_t i = 0; i < LINK_BUCKETS; i++)
        while (links->buckets[i] != NULL) {
            struct link *link = links->buckets[i];
            links->buckets[i] = link->next;
            free(link->pending);
            free(link);
        }
    buffer_fini(&links->packed);
}

/* --- requests that wait --- */

/* The frame id, or 0 when there is no place for it. */
static uint32_t pending_add(struct link *link, uint64_t request)
{
    if (link->free_pending == 0) {
        size_t capacity = link->pending_capacity * 2 + 16;
        if (capacity > SLOTS_MAX)
            capacity = SLOTS_MAX;
        void *grown =
            capacity == link->pending_capacity
                ? NULL
                : realloc(link->pending, capacity * sizeof *link->pending);
        if (grown == NULL)
            return 0;
        link->pending = grown;
        for (size_t i = capacity; i-- > link->pending_capacity;) {
            link->pending[i] =
                (struct link_pending){.next_free = link->free_pending};
            link->free_pending = (uint32_t)i + 1;
        }
        link->pending_capacity = capacity;
    }
    uint32_t slot = link->free_pending - 1;
    struct link_pending *pending = &link->pending[slot];
    link->free_pending = pending->next_free;
    pending->request = request;
    pending->generation = (pending->generation + 1) & GENERATION_MASK;
    link->pending_count++;
    return ID_TOP | pending->generation << SLOT_BITS | slot;
}

/* The request that the frame answers, 0 for one that was given up. */
static uint64_t pending_take(struct link *link, uint32_t id)
{
    uint32_t slot = id & (SLOTS_MAX - 1);
    if (slot >= link->pending_capacity)
        return 0;
    struct link_pending *pending = &link->pending[slot];
    if (pending->request == 0 ||
        pending->generation != (id >> SLOT_BITS & GENERATION_MASK))
        return 0;
    uint64_t request = pending->request;
    pending->request = 0;
    pending->next_free = link->free_pending;
    link->free_pending = slot + 1;
    link->pending_count--;
    return request;
}

static void fail_all(struct link *link)
{
    for (size_t i = 0; i < link->pending_capacity && link->pending_count > 0;
         i++) {
        const struct link_pending *pending = &link->pending[i];
        if (pending->request == 0)
            continue;
        uint32_t id = ID_TOP | pending->generation << SLOT_BITS | (uint32_t)i;
        uint64_t request = pending_take(link, id);
        if (request != HELLO)
            server_no_reply(link->server, request, link->node);
    }
}

/* --- sending --- */

static enum status send(struct server *server, struct turn *turn,
                        struct link *link, uint32_t id,
                        const Rkv__Envelope *envelope)
{
    struct links *links = &server->links;
    enum status status = STATUS_OK;
    if (links->packed_of != envelope) {
        buffer_clear(&links->packed);
        status = envelope_pack(envelope, &links->packed);
        links->packed_of = status == STATUS_OK ? envelope : NULL;
    }
    if (status == STATUS_OK)
        status = connection_send(link->connection, id, (struct bytes){0},
                                 buffer_bytes(&links->packed));
    if (status == STATUS_OK)
        turn_flush(turn, link->connection);
    return status;
}

static const char *address_of(const struct server *server,
                              const struct link *link)
{
    if (link->address != NULL)
        return link->address;
    const struct member *member =
        membership_find(node_membership(server->node), link->node);
    return member == NULL ? NULL : member->peer_address;
}

static void backoff(struct link *link, int64_t now_ms)
{
    link->retry_at_ms = now_ms + link->backoff_ms;
    link->backoff_ms *= 2;
    if (link->backoff_ms > BACKOFF_MAX_MS)
        link->backoff_ms = BACKOFF_MAX_MS;
}

void links_wake(struct links *links, struct node_id node)
{
    for (int lane = 0; lane < LANE_COUNT; lane++) {
        struct link *link = find(links, node, NULL, (enum lane)lane);
        if (link == NULL)
            continue;
        link->retry_at_ms = 0;
        link->backoff_ms = BACKOFF_MIN_MS;
    }
}

static void dial(struct server *server, struct turn *turn, struct link *link)
{
    const char *address = address_of(server, link);
    if (address == NULL || server->closing || turn->now_ms < link->retry_at_ms)
        return;
    struct error error;
    if (transport_dial(server->peer_transport, address, &link_handlers, link,
                       &link->connection, &error) != STATUS_OK) {
        log_line("event=dial_failed why=\"%s\"", error.text);
        backoff(link, turn->now_ms);
        return;
    }
    link->state = LINK_GREETING;
    link->heard_ms = turn->now_ms;
    link->hello_id = pending_add(link, HELLO);
    Rkv__Envelope *hello =
        node_hello(server->node, link->lane, &server->effects.arena);
    if (hello != NULL)
        hello->hello->session = ++server->links.sessions;
    if (link->hello_id == 0 || hello == NULL ||
        send(server, turn, link, link->hello_id, hello) != STATUS_OK) {
        link->state = LINK_CLOSING;
        connection_close(link->connection);
    }
}

void links_send(struct server *server, struct turn *turn,
                const struct message_out *message)
{
    struct link *link = find_or_make(server, message);
    if (link != NULL && link->state == LINK_DOWN)
        dial(server, turn, link);
    uint32_t id = 0;
    if (link != NULL &&
        (link->state == LINK_GREETING || link->state == LINK_UP)) {
        if (link->pending_count == 0)
            link->heard_ms = turn->now_ms;
        id = pending_add(link, message->request);
    }
    if (id != 0 && send(server, turn, link, id, message->envelope) == STATUS_OK)
        return;
    if (id != 0)
        (void)pending_take(link, id);
    server->counters[EDGE_REQUESTS_UNSENT]++;
    server_no_reply(server, message->request, message->to);
}

void links_forget(struct links *links)
{
    links->packed_of = NULL;
    if (links->packed.capacity > PACKED_BYTES_KEPT)
        buffer_fini(&links->packed);
}

void links_tick(struct server *server, int64_t now_ms)
{
    for (size_t i = 0; i < LINK_BUCKETS; i++)
        for (struct link *link = server->links.buckets[i]; link != NULL;
             link = link->next) {
            if (link->state != LINK_GREETING && link->state != LINK_UP)
                continue;
            if (link->pending_count == 0 ||
                now_ms - link->heard_ms < server->config->lane_timeout_ms)
                continue;
            server->counters[EDGE_LANES_SILENT]++;
            log_line("event=lane_silent peer=%s lane=%d waiting=%zu",
                     connection_peer(link->connection), (int)link->lane,
                     link->pending_count);
            link->state = LINK_CLOSING;
            connection_close(link->connection);
        }
}

size_t links_queued(const struct server *server)
{
    size_t queued = 0;
    for (size_t i = 0; i < LINK_BUCKETS; i++)
        for (const struct link *link = server->links.buckets[i]; link != NULL;
             link = link->next)
            if (link->state == LINK_UP)
                queued += connection_queued_bytes(link->connection);
    return queued;
}

/* --- hearing --- */

/* Whether the Hello is of the node that we meant to reach. */
static bool is_meant(struct link *link, const Rkv__Envelope *message)
{
    if (message->body_case != RKV__ENVELOPE__BODY_HELLO_REPLY ||
        message->hello_reply->status != RKV__STATUS__OK ||
        message->hello_reply->hello == NULL ||
        message->hello_reply->hello->self == NULL ||
        message->hello_reply->hello->self->id.len != NODE_ID_SIZE)
        return false;
    struct node_id id;
    memcpy(id.bytes, message->hello_reply->hello->self->id.data, NODE_ID_SIZE);
    if (link->address != NULL)
        link->node = id;
    return node_id_equal(link->node, id);
}

static void greeted(struct server *server, struct turn *turn, struct link *link,
                    const Rkv__Envelope *message, struct bytes packed)
{
    struct event event = {
        .kind = EVENT_HELLO_REPLY, .message = message, .packed = packed};
    bool is_up = is_meant(link, message);
    /* The core judges whom we reached as it judges who reaches us. */
    if (turn_step(server, turn, &event))
        is_up = false;
    if (is_up) {
        link->state = LINK_UP;
        link->backoff_ms = BACKOFF_MIN_MS;
    } else {
        link->state = LINK_CLOSING;
        connection_close(link->connection);
    }
}

static void heard(struct server *server, struct turn *turn, struct link *link,
                  const struct frame *frame, const Rkv__Envelope *message)
{
    link->heard_ms = turn->now_ms;
    if (link->state == LINK_GREETING) {
        /* In order, so the first answer is the one to Hello. */
        if (frame->id != link->hello_id || pending_take(link, frame->id) == 0)
            return;
        greeted(server, turn, link, message, frame->payload);
        return;
    }
    /* Of one that closes, fail_all tells. */
    uint64_t request =
        link->state == LINK_UP ? pending_take(link, frame->id) : 0;
    if (request == 0)
        return;
    struct event event = {.kind = EVENT_REPLY,
                          .from = link->node,
                          .request = request,
                          .message = message,
                          .packed = frame->payload};
    turn_step(server, turn, &event);
}

static void frames_heard(struct link *link, struct connection *connection,
                         const struct frame *frames, size_t count)
{
    struct server *server = link->server;
    const Rkv__Envelope *messages[FRAMES_A_TURN];
    struct error errors[FRAMES_A_TURN];
    struct turn *turn = turn_take(server);
    if (turn == NULL) {
        connection_close(connection);
        return;
    }
    turn_unpack(turn, frames, count, messages, errors);
    turn_lock(server, turn);
    for (size_t i = 0; i < count; i++) {
        if (messages[i] != NULL) {
            heard(server, turn, link, &frames[i], messages[i]);
            continue;
        }
        server->counters[EDGE_FRAMES_MALFORMED]++;
        log_line("event=malformed peer=%s why=\"%s\"",
                 connection_peer(connection), errors[i].text);
        connection_close(connection);
    }
    turn_end(server, turn);
}

static void on_frames(struct connection *connection, void *user,
                      const struct frame *frames, size_t count)
{
    while (count > 0) {
        size_t some = turn_frames(frames, count);
        frames_heard(user, connection, frames, some);
        frames += some;
        count -= some;
    }
}

void links_take_lane(struct connection *connection, uint32_t lane)
{
    if (lane == LANE_CONTROL)
        connection_move(connection, LOOP_EXPRESS);
    else if (lane == LANE_BULK)
        connection_move(connection, LOOP_BULK);
}

static void on_opened(struct connection *connection, void *user)
{
    /* Hello waits in its queue since it was dialled. */
    const struct link *link = user;
    links_take_lane(connection, link->lane);
}

static void on_closed(struct connection *connection, void *user,
                      const struct error *why)
{
    struct link *link = user;
    struct server *server = link->server;
    if (why->status == STATUS_TOO_LARGE || why->status == STATUS_INVALID)
        log_line("event=closed why=\"%s\"", why->text);
    struct turn *turn = turn_begin(server);
    if (turn == NULL)
        pthread_mutex_lock(&server->lock);
    link->state = LINK_DOWN;
    link->connection = NULL;
    backoff(link, server->now_ms);
    fail_all(link);
    if (turn == NULL)
        pthread_mutex_unlock(&server->lock); /* the next turn tells them */
    else
        turn_end(server, turn);
    connection_release(connection);
}

const struct transport_handlers link_handlers = {
    .opened = on_opened,
    .frames = on_frames,
    .closed = on_closed,
};
