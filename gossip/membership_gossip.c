/* SPDX-License-Identifier: MIT */
#include "gossip/membership_internal.h"

#include <stdlib.h>

/* How beliefs travel: rumours on every message, rounds of Gossip while there
 * is something to tell, and push/pull, which compares whole tables by digest
 * first and so mends what rumours missed. */

static const char member_topic[] = "member";

size_t gossip_take(struct membership *m, struct node_id to, struct arena *arena,
                   Rkv__Rumour ***rumours)
{
    size_t count = broadcast_take(m->broadcast, reachable_count(m),
                                  RUMOUR_PACKET_BYTES, arena, rumours);
    struct entry *entry = node_id_is_zero(to) ? NULL : entry_find(m, to);
    if (entry == NULL || entry->remembered ||
        entry->member.state == MEMBER_ALIVE)
        return count;
    Rkv__Rumour *first = state_rumour(m, entry, arena);
    Rkv__Rumour **more = arena_alloc(arena, (count + 1) * sizeof *more);
    if (first == NULL || more == NULL)
        return count;
    more[0] = first;
    if (count > 0)
        memcpy(more + 1, *rumours, count * sizeof *more);
    *rumours = more;
    return count + 1;
}

static bool decode(struct membership *m, const Rkv__Rumour *rumour,
                   struct member *news, struct node_id *accuser)
{
    arena_reset(&m->scratch);
    ProtobufCAllocator allocator = arena_allocator(&m->scratch);
    if (rumour->payload.len == 0)
        return false;
    const Rkv__Member *wire = rkv__member__unpack(
        &allocator, rumour->payload.len, rumour->payload.data);
    if (wire == NULL || member_from_wire(wire, news, NULL) != STATUS_OK)
        return false;
    size_t wanted =
        news->state == MEMBER_SUSPECT ? 2 * NODE_ID_SIZE : NODE_ID_SIZE;
    if (rumour->version != member_version(news) || rumour->key.len != wanted ||
        memcmp(rumour->key.data, news->id.bytes, NODE_ID_SIZE) != 0)
        return false;
    memset(accuser, 0, sizeof *accuser);
    if (news->state == MEMBER_SUSPECT)
        memcpy(accuser->bytes, rumour->key.data + NODE_ID_SIZE, NODE_ID_SIZE);
    return true;
}

/* What is said of us is answered, not passed on. */
static void hear_member(struct membership *m, const Rkv__Rumour *rumour)
{
    struct member news;
    struct node_id accuser;
    if (!decode(m, rumour, &news, &accuser))
        return;
    if (is_self(m, news.id)) {
        table_hear(m, &news, accuser);
        return;
    }
    if (table_is_stale(m, &news, accuser) ||
        !broadcast_hear(m->broadcast, rumour))
        return;
    m->counters.rumours_heard++;
    table_hear(m, &news, accuser);
}

static struct heard *heard_new(const Rkv__Rumour *rumour)
{
    size_t topic_size = strlen(rumour->topic) + 1;
    size_t size = topic_size + rumour->key.len + rumour->payload.len;
    struct heard *heard = malloc(sizeof *heard + size);
    if (heard == NULL)
        return NULL;
    uint8_t *bytes = (uint8_t *)(heard + 1);
    heard->next = NULL;
    rkv__rumour__init(&heard->rumour);
    heard->rumour.version = rumour->version;
    heard->rumour.topic = (char *)bytes;
    memcpy(bytes, rumour->topic, topic_size);
    bytes += topic_size;
    heard->rumour.key = (ProtobufCBinaryData){rumour->key.len, bytes};
    if (rumour->key.len > 0)
        memcpy(bytes, rumour->key.data, rumour->key.len);
    bytes += rumour->key.len;
    heard->rumour.payload = (ProtobufCBinaryData){rumour->payload.len, bytes};
    if (rumour->payload.len > 0)
        memcpy(bytes, rumour->payload.data, rumour->payload.len);
    return heard;
}

/* A full inbox refuses before the rumour is marked as known, so that it is
 * still news when it comes again. */
static void hear_other(struct membership *m, const Rkv__Rumour *rumour)
{
    if (m->inbox_count == INBOX_MAX || !broadcast_hear(m->broadcast, rumour))
        return;
    m->counters.rumours_heard++;
    struct heard *heard = heard_new(rumour);
    if (heard == NULL) {
        broadcast_forget(m->broadcast, rumour->topic,
                         bytes_of_binary(rumour->key));
        return;
    }
    *m->inbox_last = heard;
    m->inbox_last = &heard->next;
    m->inbox_count++;
}

void gossip_hear(struct membership *m, Rkv__Rumour *const *rumours,
                 size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rumours[i]->topic, member_topic) == 0)
            hear_member(m, rumours[i]);
        else
            hear_other(m, rumours[i]);
    }
}

/* The reachable, and those who died so recently that it may be a mistake. */
static bool wants_gossip(const struct membership *m, const struct entry *entry)
{
    if (wants_reachable(m, entry))
        return true;
    return entry->member.state == MEMBER_DEAD && !entry->remembered &&
           m->now_ms - entry->member.since_ms < m->config.push_pull_interval_ms;
}

void gossip_round(struct membership *m, struct outbox *out)
{
    uint16_t picked[NODES_MAX];
    size_t fanout = m->config.gossip_fanout;
    if (fanout > NODES_MAX)
        fanout = NODES_MAX;
    size_t count =
        pick_others(m, wants_gossip, (struct node_id){{0}}, picked, fanout);
    for (size_t i = 0; i < count; i++) {
        struct node_id to = m->entries[picked[i]].member.id;
        Rkv__Gossip *gossip = message_new(out->arena, &rkv__gossip__descriptor);
        if (gossip == NULL)
            return;
        gossip->n_rumours = gossip_take(m, to, out->arena, &gossip->rumours);
        if (gossip->n_rumours == 0)
            continue;
        outbox_request(
            out, to, LANE_CONTROL, next_request(m),
            envelope_new(out->arena, RKV__ENVELOPE__BODY_GOSSIP, gossip));
    }
}

/* --- push/pull --- */

static Rkv__Envelope *table_envelope(struct membership *m, bool members,
                                     bool join, struct arena *arena)
{
    Rkv__PushPull *table = message_new(arena, &rkv__push_pull__descriptor);
    if (table == NULL)
        return NULL;
    table->digest = table_digest(m);
    table->join = join;
    if (members) {
        table->members = arena_alloc(arena, m->count * sizeof *table->members);
        if (table->members == NULL)
            return NULL;
    }
    for (size_t i = 0; members && i < m->count; i++) {
        if (m->entries[i].remembered)
            continue;
        Rkv__Member *wire = member_to_wire(&m->entries[i].member, arena);
        if (wire == NULL)
            return NULL;
        table->members[table->n_members++] = wire;
    }
    return envelope_new(arena, RKV__ENVELOPE__BODY_PUSH_PULL, table);
}

/* To a node, or, when to is zero, to an address. */
static void exchange_start(struct membership *m, struct node_id to,
                           const char *address, bool send_table,
                           struct outbox *out)
{
    struct exchange *exchange = &m->exchanges[m->exchange_next++];
    m->exchange_next %= EXCHANGES_MAX;
    *exchange = (struct exchange){.request = next_request(m),
                                  .table_sent = send_table,
                                  .to = to,
                                  .address = address};
    m->counters.push_pulls++;
    Rkv__Envelope *envelope =
        table_envelope(m, send_table, address != NULL, out->arena);
    if (address == NULL)
        outbox_request(out, to, LANE_CONTROL, exchange->request, envelope);
    else
        outbox_request_address(out, address, LANE_CONTROL, exchange->request,
                               envelope);
}

static void merge(struct membership *m, const Rkv__PushPull *table)
{
    for (size_t i = 0; i < table->n_members; i++) {
        struct member news;
        if (member_from_wire(table->members[i], &news, NULL) == STATUS_OK)
            table_merge(m, &news);
    }
}

void push_pull_request(struct membership *m, struct reply_token token,
                       const Rkv__PushPull *request, struct outbox *out)
{
    merge(m, request);
    bool differs = request->digest != table_digest(m);
    outbox_reply(
        out, token,
        table_envelope(m, differs || request->join, false, out->arena));
}

bool push_pull_reply(struct membership *m, uint64_t request,
                     const Rkv__Envelope *reply, struct outbox *out)
{
    for (size_t i = 0; i < EXCHANGES_MAX; i++) {
        if (m->exchanges[i].request != request)
            continue;
        struct exchange done = m->exchanges[i];
        m->exchanges[i].request = 0;
        if (reply == NULL || reply->body_case != RKV__ENVELOPE__BODY_PUSH_PULL)
            return true;
        merge(m, reply->push_pull);
        /* It has told us its table; now it gets ours, once. */
        if (!done.table_sent && reply->push_pull->digest != table_digest(m))
            exchange_start(m, done.to, done.address, true, out);
        return true;
    }
    return false;
}

static bool wants_reconnect(const struct membership *m,
                            const struct entry *entry)
{
    (void)m;
    return entry->member.state == MEMBER_DEAD &&
           entry->member.peer_address[0] != '\0';
}

static bool is_address_of_reachable(const struct membership *m,
                                    const char *address)
{
    for (size_t i = 0; i < m->count; i++)
        if (state_is_reachable(m->entries[i].member.state) &&
            strcmp(m->entries[i].member.peer_address, address) == 0)
            return true;
    return false;
}

/* One that is reachable; one that is dead, as serf does, because two halves of
 * a cluster that hold each other dead would never speak again; and one seed
 * that nobody known answers for, for two clusters that began apart. */
static void push_pull_round(struct membership *m, struct outbox *out)
{
    const struct node_id nobody = {{0}};
    uint16_t picked;
    if (pick_others(m, wants_reachable, nobody, &picked, 1) == 1)
        exchange_start(m, m->entries[picked].member.id, NULL, false, out);
    if (pick_others(m, wants_reconnect, nobody, &picked, 1) == 1)
        exchange_start(m, m->entries[picked].member.id, NULL, false, out);
    if (m->seed_count == 0)
        return;
    const char *seed = m->seeds[random_below(m, m->seed_count)];
    if (!is_address_of_reachable(m, seed))
        exchange_start(m, nobody, seed, true, out);
}

static void join_round(struct membership *m, struct outbox *out)
{
    if (reachable_count(m) > 1)
        return;
    for (size_t i = 0; i < m->seed_count; i++)
        exchange_start(m, (struct node_id){{0}}, m->seeds[i], true, out);
}

void gossip_tick(struct membership *m, struct outbox *out)
{
    if (m->now_ms >= m->gossip_ms) {
        m->gossip_ms = m->now_ms + m->config.gossip_interval_ms;
        if (broadcast_queued(m->broadcast) > 0)
            gossip_round(m, out);
    }
    if (m->left)
        return;
    if (m->now_ms >= m->join_ms) {
        m->join_ms = m->now_ms + m->config.join_interval_ms;
        join_round(m, out);
    }
    if (m->now_ms >= m->push_pull_ms) {
        m->push_pull_ms = m->now_ms + m->config.push_pull_interval_ms;
        push_pull_round(m, out);
    }
}
