/* SPDX-License-Identifier: MIT */
#include "gossip/membership_internal.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/assert.h"

/* What is believed of whom. Every change of belief starts a rumour. A rumour
 * of topic "member" has the node's id as its key; a suspicion has the
 * accuser's id behind it, so that each accuser's is a rumour of its own and
 * can be counted as a confirmation. */

static const char topic[] = "member";

uint64_t member_version(const struct member *member)
{
    return (uint64_t)member->incarnation << 2 | (unsigned)member->state;
}

bool identity_equal(const struct member *a, const struct member *b)
{
    return a->boot == b->boot && a->run == b->run &&
           memcmp(&a->store, &b->store, sizeof a->store) == 0 &&
           strcmp(a->peer_address, b->peer_address) == 0 &&
           strcmp(a->client_address, b->client_address) == 0 &&
           strcmp(a->zone, b->zone) == 0;
}

struct rumour_key {
    uint8_t bytes[2 * NODE_ID_SIZE];
    size_t size;
};

static struct rumour_key key_of(struct node_id id, struct node_id accuser)
{
    struct rumour_key key = {.size = NODE_ID_SIZE};
    memcpy(key.bytes, id.bytes, NODE_ID_SIZE);
    if (!node_id_is_zero(accuser)) {
        memcpy(key.bytes + NODE_ID_SIZE, accuser.bytes, NODE_ID_SIZE);
        key.size += NODE_ID_SIZE;
    }
    return key;
}

static struct bytes pack(const struct member *member, struct arena *arena)
{
    Rkv__Member *wire = member_to_wire(member, arena);
    if (wire == NULL)
        return bytes_of(NULL, 0);
    size_t size = rkv__member__get_packed_size(wire);
    uint8_t *data = arena_alloc(arena, size);
    if (data == NULL)
        return bytes_of(NULL, 0);
    return bytes_of(data, rkv__member__pack(wire, data));
}

void table_offer(struct membership *m, const struct entry *entry,
                 struct node_id accuser)
{
    arena_reset(&m->scratch);
    struct bytes payload = pack(&entry->member, &m->scratch);
    struct rumour_key key = key_of(entry->member.id, accuser);
    /* A rumour that finds no room is not lost for good: push/pull carries the
     * whole table. */
    enum status status = STATUS_NO_MEMORY;
    if (payload.size > 0)
        status =
            broadcast_offer(m->broadcast, topic, bytes_of(key.bytes, key.size),
                            member_version(&entry->member), payload);
    (void)status;
}

Rkv__Rumour *state_rumour(struct membership *m, const struct entry *entry,
                          struct arena *arena)
{
    Rkv__Rumour *rumour = message_new(arena, &rkv__rumour__descriptor);
    if (rumour == NULL)
        return NULL;
    bool suspect = entry->member.state == MEMBER_SUSPECT;
    struct rumour_key key = key_of(
        entry->member.id, suspect ? self_of(m)->id : (struct node_id){{0}});
    struct bytes payload = pack(&entry->member, arena);
    rumour->topic = arena_string(arena, topic);
    rumour->key.data = arena_copy(arena, key.bytes, key.size);
    rumour->key.len = key.size;
    rumour->version = member_version(&entry->member);
    rumour->payload = binary_of_bytes(payload);
    if (rumour->topic == NULL || rumour->key.data == NULL || payload.size == 0)
        return NULL;
    return rumour;
}

uint64_t table_digest(const struct membership *m)
{
    uint64_t digest = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct member *member = &m->entries[i].member;
        if (m->entries[i].remembered)
            continue;
        uint64_t parts[] = {
            XXH3_64bits(member->id.bytes, NODE_ID_SIZE),
            member_version(member),
            member->boot,
            XXH3_64bits(member->store.bytes, sizeof member->store.bytes),
        };
        /* In a fixed byte order, so that unlike machines agree. */
        uint8_t bytes[sizeof parts];
        for (size_t b = 0; b < sizeof parts; b++)
            bytes[b] = (uint8_t)(parts[b / 8] >> (b % 8 * 8));
        digest ^= XXH3_64bits(bytes, sizeof bytes);
    }
    return digest;
}

/* --- suspicion --- */

static bool has_accused(const struct suspicion *suspicion,
                        struct node_id accuser)
{
    for (size_t i = 0; i < suspicion->accuser_count; i++)
        if (node_id_equal(suspicion->accusers[i], accuser))
            return true;
    return false;
}

/* memberlist asks for suspicion_mult - 2 confirmations, and for none where
 * there are not that many others: then the shortest time holds at once. Here a
 * small cluster asks for as many as it has, which keeps Lifeguard's protection
 * against a slow accuser in clusters of three and four. */
static void suspicion_start(struct membership *m, struct entry *entry,
                            struct node_id accuser)
{
    struct suspicion *suspicion = &entry->suspicion;
    size_t n = reachable_count(m);
    uint32_t mult = m->config.suspicion_mult;
    size_t wanted = mult > 2 ? mult - 2 : 0;
    if (wanted > (n > 2 ? n - 2 : 0))
        wanted = n > 2 ? n - 2 : 0;
    if (wanted > ACCUSERS_MAX)
        wanted = ACCUSERS_MAX;
    uint64_t min_ms = (uint64_t)mult * node_scale_milli(n) *
                      m->config.probe_interval_ms / 1000;
    if (min_ms > INT32_MAX / 6)
        min_ms = INT32_MAX / 6;
    memset(suspicion, 0, sizeof *suspicion);
    suspicion->start_ms = m->now_ms;
    suspicion->min_ms = (uint32_t)min_ms;
    /* 6 is memberlist's SuspicionMaxTimeoutMult. */
    suspicion->max_ms = (uint32_t)(wanted == 0 ? min_ms : 6 * min_ms);
    suspicion->wanted = wanted;
    suspicion->accusers[suspicion->accuser_count++] = accuser;
}

/* Lifeguard: max - (max - min) * log(confirmations + 1) / log(wanted + 1). */
static uint32_t suspicion_ms(const struct suspicion *suspicion)
{
    size_t confirmations = suspicion->accuser_count - 1;
    if (confirmations >= suspicion->wanted)
        return suspicion->min_ms;
    uint64_t span = suspicion->max_ms - suspicion->min_ms;
    return suspicion->max_ms -
           (uint32_t)(span * log2_256((uint32_t)confirmations + 1) /
                      log2_256((uint32_t)suspicion->wanted + 1));
}

static void confirm(struct membership *m, struct entry *entry,
                    struct node_id accuser)
{
    struct suspicion *suspicion = &entry->suspicion;
    if (suspicion->accuser_count > suspicion->wanted ||
        has_accused(suspicion, accuser))
        return;
    suspicion->accusers[suspicion->accuser_count++] = accuser;
    table_offer(m, entry, accuser);
}

static void suspicion_end(struct membership *m, struct entry *entry)
{
    struct suspicion *suspicion = &entry->suspicion;
    for (size_t i = 0; i < suspicion->accuser_count; i++) {
        struct rumour_key key =
            key_of(entry->member.id, suspicion->accusers[i]);
        broadcast_forget(m->broadcast, topic, bytes_of(key.bytes, key.size));
    }
    suspicion->accuser_count = 0;
}

static void set_state(struct membership *m, struct entry *entry,
                      enum member_state state, struct node_id accuser)
{
    enum member_state from = entry->member.state;
    if (from == MEMBER_SUSPECT)
        suspicion_end(m, entry);
    if (state != from) {
        entry->member.state = state;
        entry->member.since_ms = m->now_ms;
        entry->changed = true;
    }
    if (state != from && state == MEMBER_DEAD) {
        m->counters.deaths++;
        entry->dead_boot = entry->member.boot;
    }
    if (state == MEMBER_SUSPECT) {
        m->counters.suspicions++;
        suspicion_start(m, entry, accuser);
    }
}

void table_suspect(struct membership *m, struct entry *entry)
{
    struct node_id self = self_of(m)->id;
    switch (entry->member.state) {
    case MEMBER_ALIVE:
        set_state(m, entry, MEMBER_SUSPECT, self);
        table_offer(m, entry, self);
        break;
    case MEMBER_SUSPECT:
        confirm(m, entry, self);
        break;
    case MEMBER_DEAD:
    case MEMBER_LEFT:
        break;
    }
}

void table_expire_suspicions(struct membership *m)
{
    for (size_t i = 1; i < m->count; i++) {
        struct entry *entry = &m->entries[i];
        if (entry->member.state != MEMBER_SUSPECT ||
            m->now_ms - entry->suspicion.start_ms <
                suspicion_ms(&entry->suspicion))
            continue;
        set_state(m, entry, MEMBER_DEAD, (struct node_id){{0}});
        table_offer(m, entry, (struct node_id){{0}});
    }
}

/* --- what others say --- */

/* The same store only ever counts its boots up; another store counts its
 * own. */
void table_adopt_identity(struct entry *entry, const struct member *news)
{
    struct member *member = &entry->member;
    struct member old = *member;
    memcpy(member->name, news->name, sizeof member->name);
    memcpy(member->zone, news->zone, sizeof member->zone);
    memcpy(member->peer_address, news->peer_address,
           sizeof member->peer_address);
    memcpy(member->client_address, news->client_address,
           sizeof member->client_address);
    member->version_min = news->version_min;
    member->version_max = news->version_max;
    if (memcmp(&old.store, &news->store, sizeof old.store) != 0 ||
        news->boot > old.boot) {
        member->boot = news->boot;
        member->run = news->run;
    }
    member->store = news->store;
    if (!identity_equal(&old, member)) {
        entry->identity_changed = true;
        entry->changed = true;
    }
}

/* Whether news shows an earlier life of ours. A higher boot of our store, or
 * ours in another run, does not: then we are the older disk, started on the
 * operator's word, and arguing would never end because nobody lowers a boot
 * number on hearsay. */
static bool is_earlier_life(const struct member *news,
                            const struct member *self)
{
    struct member same_boot = *news;
    if (memcmp(&news->store, &self->store, sizeof news->store) == 0 &&
        news->boot >= self->boot) {
        same_boot.boot = self->boot;
        same_boot.run = self->run;
    }
    return !identity_equal(&same_boot, self);
}

/* Somebody speaks of us. Anything but what we say ourselves is refuted: that
 * we are suspect, dead or gone, and what an earlier life of ours said. */
static void hear_of_self(struct membership *m, const struct member *news)
{
    struct member *self = self_of(m);
    if (m->left || news->incarnation < self->incarnation)
        return;
    bool accused = news->state != MEMBER_ALIVE;
    if (!accused && news->incarnation == self->incarnation &&
        !is_earlier_life(news, self))
        return;
    if (news->incarnation >= INCARNATION_MAX)
        return;
    self->incarnation = news->incarnation + 1;
    if (accused) {
        m->counters.refutations++;
        awareness_change(m, 1);
    }
    table_offer(m, &m->entries[0], (struct node_id){{0}});
}

static void hear_of_unknown(struct membership *m, const struct member *news,
                            struct node_id accuser)
{
    struct entry *entry = entry_add(m);
    if (entry == NULL)
        return;
    entry->member = *news;
    /* From no state at all, so that whatever it is counts as a change. */
    entry->member.state = MEMBER_DEAD;
    entry->member.since_ms = m->now_ms;
    entry->reported = MEMBER_DEAD;
    entry->changed = true;
    entry->identity_changed = true;
    if (news->state != MEMBER_DEAD)
        set_state(m, entry, news->state, accuser);
    table_offer(m, entry, accuser);
}

void table_hear(struct membership *m, const struct member *news,
                struct node_id accuser)
{
    if (news->state == MEMBER_SUSPECT && node_id_is_zero(accuser))
        accuser = self_of(m)->id;
    if (news->state != MEMBER_SUSPECT)
        accuser = (struct node_id){{0}};
    if (is_self(m, news->id)) {
        hear_of_self(m, news);
        return;
    }
    struct entry *entry = entry_find(m, news->id);
    if (entry == NULL) {
        hear_of_unknown(m, news, accuser);
        return;
    }
    struct member *member = &entry->member;
    uint64_t before = member_version(member), after = member_version(news);
    if (!entry->remembered && after <= before) {
        if (after == before && news->state == MEMBER_SUSPECT)
            confirm(m, entry, accuser);
        return;
    }
    bool returned = !entry->remembered && member->state == MEMBER_DEAD &&
                    news->state == MEMBER_ALIVE &&
                    news->boot == entry->dead_boot;
    m->counters.false_deaths += returned;
    if (entry->remembered || news->incarnation > member->incarnation)
        table_adopt_identity(entry, news);
    entry->remembered = false;
    member->incarnation = news->incarnation;
    set_state(m, entry, news->state, accuser);
    table_offer(m, entry, accuser);
}

/* A death that a table brings may be old or somebody's mistake: whom we hold
 * to be reachable gets the time to refute it, as in memberlist. */
void table_merge(struct membership *m, const struct member *news)
{
    struct entry *entry = entry_find(m, news->id);
    struct member softened = *news;
    if (news->state == MEMBER_DEAD && entry != NULL && !entry->remembered &&
        !is_self(m, news->id) && state_is_reachable(entry->member.state))
        softened.state = MEMBER_SUSPECT;
    table_hear(m, &softened, (struct node_id){{0}});
}

bool table_is_stale(struct membership *m, const struct member *news,
                    struct node_id accuser)
{
    struct entry *entry = entry_find(m, news->id);
    if (entry == NULL || entry->remembered)
        return false;
    uint64_t known = member_version(&entry->member);
    if (known > member_version(news))
        return true;
    /* A confirmation more than anybody needs. */
    return known == member_version(news) && news->state == MEMBER_SUSPECT &&
           (entry->suspicion.accuser_count > entry->suspicion.wanted ||
            has_accused(&entry->suspicion, accuser));
}
