/* SPDX-License-Identifier: MIT */
#include "network.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"

enum {
    TICK_MS = 50,
    ARENA_BYTES = 8 << 20,
    NO_REPLY_MS = 3000, /* when the edge gives up on a request */
};

enum event_kind { EVENT_REQUEST, EVENT_REPLY, EVENT_NO_REPLY };

struct event {
    struct event *next;
    int64_t at_ms;
    enum event_kind kind;
    size_t from, to;
    uint64_t request;
    struct buffer frame;
};

static uint64_t random_next(struct network *n)
{
    n->random ^= n->random << 13;
    n->random ^= n->random >> 7;
    n->random ^= n->random << 17;
    return n->random;
}

void network_init(struct network *n, uint64_t seed)
{
    memset(n, 0, sizeof *n);
    n->random = seed * 2654435761u + 1;
    n->config = membership_config_default();
    arena_init(&n->arena, ARENA_BYTES);
    arena_init(&n->unpacked, ARENA_BYTES);
}

static void event_free(struct event *event)
{
    buffer_fini(&event->frame);
    free(event);
}

void network_fini(struct network *n)
{
    while (n->events != NULL) {
        struct event *next = n->events->next;
        event_free(n->events);
        n->events = next;
    }
    for (size_t i = 0; i < NETWORK_NODES_MAX; i++)
        membership_free(n->nodes[i].membership);
    arena_fini(&n->arena);
    arena_fini(&n->unpacked);
}

struct member network_member(size_t index)
{
    struct member member = {.boot = 1, .version_min = 1, .version_max = 1};
    snprintf(member.name, sizeof member.name, "n%zu", index);
    snprintf(member.zone, sizeof member.zone, "z");
    snprintf(member.peer_address, sizeof member.peer_address, "peer:%zu",
             index);
    snprintf(member.client_address, sizeof member.client_address, "client:%zu",
             index);
    member.id = node_id_of("test", member.name);
    member.store.bytes[0] = (uint8_t)(index + 1);
    return member;
}

void network_start(struct network *n, size_t index, const struct member *self)
{
    static const char *const seeds[] = {"peer:0"};
    struct network_node *node = &n->nodes[index];
    membership_free(node->membership);
    node->self = *self;
    node->membership =
        membership_new(&n->config, self, seeds, 1, random_next(n));
    ASSERT(node->membership != NULL);
    memset(node->met, 0, sizeof node->met);
    for (size_t i = 0; i < NETWORK_NODES_MAX; i++)
        n->nodes[i].met[index] = false;
}

void network_kill(struct network *n, size_t index)
{
    membership_free(n->nodes[index].membership);
    n->nodes[index].membership = NULL;
}

void network_isolate(struct network *n, size_t index, bool isolated)
{
    for (size_t i = 0; i < NETWORK_NODES_MAX; i++)
        n->cut[index][i] = n->cut[i][index] = isolated;
}

static struct event *schedule(struct network *n, int64_t at_ms,
                              enum event_kind kind, size_t from, size_t to,
                              uint64_t request)
{
    struct event *event = calloc(1, sizeof *event);
    ASSERT(event != NULL);
    *event = (struct event){.at_ms = at_ms,
                            .kind = kind,
                            .from = from,
                            .to = to,
                            .request = request};
    struct event **place = &n->events;
    while (*place != NULL && (*place)->at_ms <= at_ms)
        place = &(*place)->next;
    event->next = *place;
    *place = event;
    return event;
}

static size_t index_of(const struct network *n, const struct message_out *to)
{
    for (size_t i = 0; i < NETWORK_NODES_MAX; i++) {
        const struct member *self = &n->nodes[i].self;
        if (to->address != NULL ? strcmp(self->peer_address, to->address) == 0
                                : node_id_equal(self->id, to->to))
            return i;
    }
    return NETWORK_NODES_MAX;
}

/* A reply's token says who asked, and under which number. */
static struct reply_token token_of(size_t from, uint64_t request)
{
    return (struct reply_token){(request & UINT64_C(0xffffffffffffff)) << 8 |
                                (from + 1)};
}

static void send(struct network *n, size_t from, const struct outbox *out)
{
    ASSERT(out->dropped == 0);
    for (size_t i = 0; i < out->count; i++) {
        const struct message_out *message = &out->messages[i];
        bool reply = message->kind == MESSAGE_REPLY;
        size_t to =
            reply ? (message->token.value & 0xff) - 1 : index_of(n, message);
        uint64_t request =
            reply ? request_number(OWNER_MEMBERSHIP, message->token.value >> 8)
                  : message->request;
        if (!reply)
            schedule(n, n->now_ms + NO_REPLY_MS, EVENT_NO_REPLY, from, from,
                     request);
        int64_t delay_ms = 1 + (int64_t)(random_next(n) % 10);
        if (to == NETWORK_NODES_MAX || n->cut[from][to])
            continue;
        struct event *event =
            schedule(n, n->now_ms + delay_ms,
                     reply ? EVENT_REPLY : EVENT_REQUEST, from, to, request);
        enum status status = envelope_pack(message->envelope, &event->frame);
        ASSERT(status == STATUS_OK);
    }
}

static bool accepts(struct network *n, size_t who, size_t newcomer)
{
    return membership_check(n->nodes[who].membership, &n->nodes[newcomer].self,
                            &n->nodes[newcomer].claim, NULL) == STATUS_OK;
}

/* The Hello of both sides, before the first message of a pair. */
static bool greet(struct network *n, size_t from, size_t to)
{
    struct network_node *a = &n->nodes[from], *b = &n->nodes[to];
    if (a->membership == NULL)
        return false;
    if (a->met[to] && b->met[from])
        return true;
    if (!accepts(n, from, to) || !accepts(n, to, from)) {
        n->refused++;
        return false;
    }
    a->met[to] = b->met[from] = true;
    membership_met(b->membership, n->now_ms, &a->self);
    membership_met(a->membership, n->now_ms, &b->self);
    return true;
}

static void trace_changes(struct network *n, size_t index)
{
    struct member_change change;
    while (membership_next_change(n->nodes[index].membership, &change)) {
        const struct member *who =
            membership_find(n->nodes[index].membership, change.id);
        int length = snprintf(
            n->trace + n->trace_length, sizeof n->trace - n->trace_length,
            "[%6lld] n%zu: %s %s -> %s\n", (long long)n->now_ms, index,
            who->name, member_state_name(change.from),
            member_state_name(change.to));
        ASSERT(length > 0 &&
               (size_t)length < sizeof n->trace - n->trace_length);
        n->trace_length += (size_t)length;
    }
}

static void step(struct network *n, const struct event *event)
{
    struct membership *membership = n->nodes[event->to].membership;
    if (membership == NULL ||
        (event->kind == EVENT_REQUEST && !greet(n, event->from, event->to)))
        return;
    arena_reset(&n->arena);
    arena_reset(&n->unpacked);
    struct outbox out;
    outbox_init(&out, &n->arena);
    const Rkv__Envelope *envelope = NULL;
    if (event->kind != EVENT_NO_REPLY) {
        envelope =
            envelope_unpack(buffer_bytes(&event->frame), &n->unpacked, NULL);
        ASSERT(envelope != NULL);
    }
    if (event->kind == EVENT_REQUEST)
        membership_request(membership, n->now_ms, n->nodes[event->from].self.id,
                           token_of(event->from, event->request), envelope,
                           &out);
    else
        membership_reply(membership, n->now_ms, event->request, envelope, &out);
    send(n, event->to, &out);
    trace_changes(n, event->to);
}

static void tick(struct network *n, size_t index)
{
    struct outbox out;
    arena_reset(&n->arena);
    outbox_init(&out, &n->arena);
    membership_tick(n->nodes[index].membership, n->now_ms, &out);
    send(n, index, &out);
    trace_changes(n, index);
}

void network_leave(struct network *n, size_t index)
{
    struct outbox out;
    arena_reset(&n->arena);
    outbox_init(&out, &n->arena);
    membership_leave(n->nodes[index].membership, n->now_ms, &out);
    send(n, index, &out);
}

void network_run(struct network *n, int64_t for_ms)
{
    int64_t end_ms = n->now_ms + for_ms;
    for (; n->now_ms < end_ms; n->now_ms++) {
        while (n->events != NULL && n->events->at_ms <= n->now_ms) {
            struct event *event = n->events;
            n->events = event->next;
            step(n, event);
            event_free(event);
        }
        for (size_t i = 0; i < NETWORK_NODES_MAX; i++)
            if (n->nodes[i].membership != NULL &&
                n->now_ms % TICK_MS == (int64_t)i)
                tick(n, i);
    }
}

int network_view(const struct network *n, size_t of, size_t about)
{
    struct member member = network_member(about);
    const struct member *view =
        membership_find(n->nodes[of].membership, member.id);
    return view == NULL ? -1 : (int)view->state;
}

static bool agrees(const struct network *n, size_t about,
                   enum member_state state)
{
    for (size_t i = 0; i < NETWORK_NODES_MAX; i++)
        if (i != about && n->nodes[i].membership != NULL &&
            network_view(n, i, about) != (int)state)
            return false;
    return true;
}

bool network_agrees(struct network *n, size_t about, enum member_state state,
                    int64_t within_ms)
{
    int64_t end_ms = n->now_ms + within_ms;
    while (!agrees(n, about, state) && n->now_ms < end_ms)
        network_run(n, TICK_MS);
    return agrees(n, about, state);
}
