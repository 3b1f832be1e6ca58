/* SPDX-License-Identifier: MIT */
#include "gossip/membership_internal.h"

#include <stdlib.h>

#include "proto/assert.h"

const char *member_state_name(enum member_state state)
{
    static const char *const names[] = {"alive", "suspect", "dead", "left"};
    if ((unsigned)state > MEMBER_LEFT)
        return "unknown";
    return names[state];
}

struct membership_config membership_config_default(void)
{
    return (struct membership_config){
        .probe_interval_ms = 1000,
        .probe_timeout_ms = 500,
        .indirect_probes = 3,
        .suspicion_mult = 4,
        .gossip_interval_ms = 200,
        .gossip_fanout = 3,
        .push_pull_interval_ms = 30000,
        .retransmit_mult = 4,
        .awareness_max = 8,
        .join_interval_ms = 1000,
    };
}

/* --- small things that the other files use --- */

struct entry *entry_find(struct membership *m, struct node_id id)
{
    for (size_t i = 0; i < m->count; i++)
        if (node_id_equal(m->entries[i].member.id, id))
            return &m->entries[i];
    return NULL;
}

/* When the table is full, whoever left longest ago is forgotten. The dead are
 * kept: what is remembered of their disks is what protects them. */
struct entry *entry_add(struct membership *m)
{
    struct entry *entry = NULL;
    if (m->count < NODES_MAX) {
        entry = &m->entries[m->count++];
    } else {
        for (size_t i = 1; i < m->count; i++) {
            struct entry *other = &m->entries[i];
            if (other->member.state == MEMBER_LEFT &&
                (entry == NULL ||
                 other->member.since_ms < entry->member.since_ms))
                entry = other;
        }
        if (entry == NULL)
            return NULL;
        broadcast_forget(m->broadcast, "member",
                         bytes_of(entry->member.id.bytes, NODE_ID_SIZE));
    }
    memset(entry, 0, sizeof *entry);
    return entry;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t random_next(struct membership *m)
{
    uint64_t z = m->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

size_t random_below(struct membership *m, size_t below)
{
    return below == 0 ? 0 : (size_t)(random_next(m) % below);
}

uint64_t next_request(struct membership *m)
{
    return request_number(OWNER_MEMBERSHIP, ++m->serial);
}

size_t reachable_count(const struct membership *m)
{
    size_t count = 0;
    for (size_t i = 0; i < m->count; i++)
        count += state_is_reachable(m->entries[i].member.state);
    return count;
}

bool wants_reachable(const struct membership *m, const struct entry *entry)
{
    (void)m;
    return state_is_reachable(entry->member.state);
}

size_t pick_others(struct membership *m,
                   bool (*wanted)(const struct membership *,
                                  const struct entry *),
                   struct node_id except, uint16_t *picked, size_t max)
{
    uint16_t all[NODES_MAX];
    size_t count = 0;
    for (size_t i = 1; i < m->count; i++)
        if (wanted(m, &m->entries[i]) &&
            !node_id_equal(m->entries[i].member.id, except))
            all[count++] = (uint16_t)i;
    if (max > count)
        max = count;
    for (size_t i = 0; i < max; i++) {
        size_t j = i + random_below(m, count - i);
        picked[i] = all[j];
        all[j] = all[i];
    }
    return max;
}

/* The integer part by shifting, then eight bits of the fraction by squaring
 * the mantissa. No libm: the module is pure to the linker. */
uint32_t log2_256(uint32_t value)
{
    ASSERT(value > 0);
    uint32_t whole = 31 - (uint32_t)__builtin_clz(value);
    uint64_t mantissa = (uint64_t)value << (31 - whole); /* 1.31 */
    uint32_t result = whole;
    for (int bit = 0; bit < 8; bit++) {
        mantissa = mantissa * mantissa >> 31;
        result <<= 1;
        if (mantissa >> 32 != 0) {
            mantissa >>= 1;
            result |= 1;
        }
    }
    return result;
}

uint32_t node_scale_milli(size_t n)
{
    if (n <= 10)
        return 1000;
    return (uint32_t)(UINT64_C(1000) * log2_256((uint32_t)n) / log2_256(10));
}

/* --- the object --- */

static bool copy_seeds(struct membership *m, const char *const *seeds,
                       size_t count)
{
    if (count == 0)
        return true;
    m->seeds = calloc(count, sizeof *m->seeds);
    if (m->seeds == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(seeds[i]);
        if (size > ADDRESS_MAX ||
            strcmp(seeds[i], self_of(m)->peer_address) == 0)
            continue;
        memcpy(m->seeds[m->seed_count++], seeds[i], size + 1);
    }
    return true;
}

struct membership *membership_new(const struct membership_config *config,
                                  const struct member *self,
                                  const char *const *seeds, size_t seed_count,
                                  uint64_t seed)
{
    ASSERT(!node_id_is_zero(self->id) && self->incarnation < INCARNATION_MAX);
    struct membership *m = calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    m->config = *config;
    m->random = seed;
    m->inbox_last = &m->inbox_first;
    arena_init(&m->scratch, SCRATCH_BYTES);
    m->count = 1;
    m->entries[0].member = *self;
    m->entries[0].member.state = MEMBER_ALIVE;
    m->broadcast = broadcast_new(config->retransmit_mult);
    if (m->broadcast == NULL || !copy_seeds(m, seeds, seed_count)) {
        membership_free(m);
        return NULL;
    }
    table_offer(m, &m->entries[0], (struct node_id){{0}});
    return m;
}

void membership_free(struct membership *m)
{
    if (m == NULL)
        return;
    while (m->inbox_first != NULL) {
        struct heard *next = m->inbox_first->next;
        free(m->inbox_first);
        m->inbox_first = next;
    }
    free(m->lent);
    free(m->seeds);
    broadcast_free(m->broadcast);
    arena_fini(&m->scratch);
    free(m);
}

/* The first rounds are spread at random, so that nodes that were started
 * together do not probe and compare tables in step for ever. */
static void start(struct membership *m)
{
    m->started = true;
    m->entries[0].member.since_ms = m->now_ms;
    m->join_ms = m->now_ms;
    m->probe_ms =
        m->now_ms + (int64_t)random_below(m, m->config.probe_interval_ms);
    m->gossip_ms =
        m->now_ms + (int64_t)random_below(m, m->config.gossip_interval_ms);
    m->push_pull_ms =
        m->now_ms + (int64_t)random_below(m, m->config.push_pull_interval_ms);
}

void membership_tick(struct membership *m, int64_t now_ms, struct outbox *out)
{
    m->now_ms = now_ms;
    if (!m->started)
        start(m);
    table_expire_suspicions(m);
    probe_tick(m, out);
    gossip_tick(m, out);
}

static void reply_gossip(struct reply_token token, struct outbox *out)
{
    Rkv__GossipReply *reply =
        message_new(out->arena, &rkv__gossip_reply__descriptor);
    outbox_reply(out, token,
                 reply == NULL
                     ? NULL
                     : envelope_new(out->arena,
                                    RKV__ENVELOPE__BODY_GOSSIP_REPLY, reply));
}

void membership_request(struct membership *m, int64_t now_ms,
                        struct node_id from, struct reply_token token,
                        const Rkv__Envelope *request, struct outbox *out)
{
    m->now_ms = now_ms;
    /* Not a switch: a body is whatever the sender says it is. */
    if (request->body_case == RKV__ENVELOPE__BODY_PING) {
        probe_ping(m, from, token, request->ping, out);
    } else if (request->body_case == RKV__ENVELOPE__BODY_PING_REQ) {
        probe_ping_req(m, from, token, request->ping_req, out);
    } else if (request->body_case == RKV__ENVELOPE__BODY_PUSH_PULL) {
        push_pull_request(m, token, request->push_pull, out);
    } else if (request->body_case == RKV__ENVELOPE__BODY_GOSSIP) {
        gossip_hear(m, request->gossip->rumours, request->gossip->n_rumours);
        reply_gossip(token, out);
    } else {
        outbox_reply(out, token,
                     envelope_result(out->arena, STATUS_UNSUPPORTED,
                                     "membership does not know this request"));
    }
}

void membership_reply(struct membership *m, int64_t now_ms, uint64_t request,
                      const Rkv__Envelope *reply, struct outbox *out)
{
    m->now_ms = now_ms;
    /* 0 marks a free slot. */
    if (request != 0 && !probe_reply(m, request, reply, out))
        push_pull_reply(m, request, reply, out);
}

static void take_boot(struct entry *entry, const struct member *who)
{
    entry->member.boot = who->boot;
    entry->member.run = who->run;
}

/* First-hand, so it counts for who and where the node is. Whether it is alive
 * again is its own to say, with a higher incarnation, or a rumour of its death
 * would still win elsewhere: our next message tells it what we believe. */
void membership_met(struct membership *m, int64_t now_ms,
                    const struct member *who)
{
    m->now_ms = now_ms;
    if (is_self(m, who->id) || who->incarnation > INCARNATION_MAX)
        return;
    struct member news = *who;
    news.state = MEMBER_ALIVE;
    struct entry *entry = entry_find(m, who->id);
    if (entry != NULL && !entry->remembered) {
        table_adopt_identity(entry, &news);
        /* The Hello was checked: a lower boot is the operator's word. */
        entry->identity_changed |=
            entry->member.boot != who->boot || entry->member.run != who->run;
        entry->changed |= entry->identity_changed;
        take_boot(entry, who);
    }
    table_hear(m, &news, (struct node_id){{0}});
    entry = entry_find(m, who->id);
    if (entry != NULL)
        take_boot(entry, who);
}

void membership_leave(struct membership *m, int64_t now_ms, struct outbox *out)
{
    m->now_ms = now_ms;
    if (m->left)
        return;
    m->left = true;
    m->probe.running = false;
    self_of(m)->state = MEMBER_LEFT;
    self_of(m)->since_ms = now_ms;
    table_offer(m, &m->entries[0], (struct node_id){{0}});
    gossip_round(m, out);
}

static bool store_is_zero(const struct store_id *store)
{
    static const struct store_id zero;
    return memcmp(store, &zero, sizeof zero) == 0;
}

void membership_raise_boot(struct membership *membership, uint64_t boot)
{
    struct member *self = self_of(membership);
    ASSERT(boot > self->boot);
    self->boot = boot;
    self->incarnation++;
    table_offer(membership, &membership->entries[0], (struct node_id){{0}});
}

/* The disk is the one that we know, or a copy of it. */
static enum status check_boot(const struct member *known,
                              const struct member *newcomer,
                              const struct disk_starts *starts,
                              struct error *error)
{
    if (newcomer->boot < known->boot)
        return error_set(error, STATUS_REFUSED,
                         "%s shows boot %llu but was seen with %llu: its disk "
                         "is an older copy; restore the newest, or start it "
                         "with --replace",
                         newcomer->name, (unsigned long long)newcomer->boot,
                         (unsigned long long)known->boot);
    bool is_another = newcomer->boot == known->boot && newcomer->run != 0 &&
                      known->run != 0 && newcomer->run != known->run;
    if (is_another || disk_starts_deny(starts, known->boot, known->run))
        return error_set(error, STATUS_REFUSED,
                         "%s shows another run for boot %llu than was seen: "
                         "its disk is a copy from before that; restore the "
                         "newest, or start it with --replace",
                         newcomer->name, (unsigned long long)known->boot);
    return STATUS_OK;
}

enum status membership_check(const struct membership *m,
                             const struct member *newcomer,
                             const struct disk_claim *claim,
                             struct error *error)
{
    const struct member *known = membership_find(m, newcomer->id);
    if (known == NULL)
        return STATUS_OK;
    if (state_is_reachable(known->state) &&
        strcmp(known->peer_address, newcomer->peer_address) != 0)
        return error_set(error, STATUS_REFUSED,
                         "the name %s is taken by the node at %s, which is %s; "
                         "choose another name, or stop that node first",
                         newcomer->name, known->peer_address,
                         member_state_name(known->state));
    if (claim->replaced == REPLACED_NOW || store_is_zero(&known->store))
        return STATUS_OK;
    if (memcmp(&known->store, &newcomer->store, sizeof known->store) == 0)
        return check_boot(known, newcomer, &claim->starts, error);
    if (claim->replaced == REPLACED_BEFORE && newcomer->boot > known->boot)
        return STATUS_OK;
    return error_set(error, STATUS_REFUSED,
                     "%s is known with another disk: if its data is lost, "
                     "start it with --replace; if not, give it back its "
                     "data_dir",
                     newcomer->name);
}

size_t membership_count(const struct membership *m)
{
    return m->count;
}

const struct member *membership_at(const struct membership *m, size_t index)
{
    ASSERT(index < m->count);
    return &m->entries[index].member;
}

const struct member *membership_find(const struct membership *m,
                                     struct node_id id)
{
    for (size_t i = 0; i < m->count; i++)
        if (node_id_equal(m->entries[i].member.id, id))
            return &m->entries[i].member;
    return NULL;
}

const struct member *membership_self(const struct membership *m)
{
    return &m->entries[0].member;
}

bool membership_is_reachable(const struct membership *m, struct node_id id)
{
    const struct member *member = membership_find(m, id);
    return member != NULL && state_is_reachable(member->state);
}

bool membership_is_gone(const struct membership *m, struct node_id id)
{
    for (size_t i = 0; i < m->count; i++)
        if (node_id_equal(m->entries[i].member.id, id))
            return !m->entries[i].remembered &&
                   !state_is_reachable(m->entries[i].member.state);
    return false;
}

bool membership_next_change(struct membership *m, struct member_change *change)
{
    for (size_t i = 1; i < m->count; i++) {
        struct entry *entry = &m->entries[i];
        if (!entry->changed)
            continue;
        *change =
            (struct member_change){.id = entry->member.id,
                                   .from = entry->reported,
                                   .to = entry->member.state,
                                   .identity_changed = entry->identity_changed};
        entry->changed = false;
        entry->identity_changed = false;
        entry->reported = change->to;
        if (change->from != change->to || change->identity_changed)
            return true;
    }
    return false;
}

void membership_remember(struct membership *m, const struct member *member)
{
    struct entry *entry = entry_find(m, member->id);
    if (entry == &m->entries[0]) {
        struct member *self = self_of(m);
        if (member->incarnation >= self->incarnation &&
            member->incarnation < INCARNATION_MAX) {
            self->incarnation = member->incarnation + 1;
            table_offer(m, &m->entries[0], (struct node_id){{0}});
        }
        return;
    }
    if (entry != NULL || (entry = entry_add(m)) == NULL)
        return;
    entry->member = *member;
    entry->member.state = MEMBER_DEAD;
    entry->member.since_ms = m->now_ms;
    entry->reported = MEMBER_DEAD;
    entry->remembered = true;
}

struct broadcast *membership_broadcast(struct membership *m)
{
    return m->broadcast;
}

const Rkv__Rumour *membership_next_rumour(struct membership *m)
{
    free(m->lent);
    m->lent = m->inbox_first;
    if (m->lent == NULL)
        return NULL;
    m->inbox_first = m->lent->next;
    if (m->inbox_first == NULL)
        m->inbox_last = &m->inbox_first;
    m->inbox_count--;
    return &m->lent->rumour;
}

const struct membership_counters *
membership_counters(const struct membership *m)
{
    return &m->counters;
}
