/* SPDX-License-Identifier: MIT */
#include "proxy/core/agree.h"

#include "proxy/core/node_internal.h"

enum {
    AGAIN_MS = 1000, /* to this and half as much is rested after a failure */
    /* What was accepted here and is not decided yet is proposed again then:
     * whoever proposed it may be gone. */
    LEFT_OVER_MS = 3000,
    /* So far above all that others have seen is what was forgotten to have been
     * promised, to one of whom nobody else has heard, surely not. */
    RECOVERY_ROUNDS = 1000,
    /* Of those who do not mean to use them up. */
    ROUNDS_MAX = 1 << 23,
};

static const char META_ACCEPTOR[] = "acceptor";
static const char META_ABSTAINS[] = "abstains";

static size_t own_index(const struct node *node)
{
    return (size_t)topology_node(&node->topology, node->self);
}

bool agree_is_busy(const struct node *node)
{
    return node->agree.stage != AGREE_IDLE;
}

/* --- what is stored --- */

/* As it is told to others. NULL: the arena is spent. */
static Rkv__AgreeReply *to_wire(const struct acceptor *acceptor,
                                struct arena *arena)
{
    Rkv__AgreeReply *wire = message_new(arena, &rkv__agree_reply__descriptor);
    if (wire == NULL)
        return NULL;
    wire->epoch = acceptor->epoch - 1;
    wire->promised = acceptor->promised;
    wire->accepted = acceptor->accepted;
    if (acceptor->accepted != 0)
        wire->decree = decree_to_wire(&acceptor->decree, arena);
    return wire;
}

static bool store_acceptor(struct node *node, struct effects *effects)
{
    struct agree *agree = &node->agree;
    Rkv__AgreeReply *wire = to_wire(&agree->storing, &effects->arena);
    if (wire == NULL)
        return false;
    size_t size = rkv__agree_reply__get_packed_size(wire);
    uint8_t *packed = arena_alloc(&effects->arena, size);
    if (packed == NULL)
        return false;
    rkv__agree_reply__pack(wire, packed);
    return effects_meta(effects, META_ACCEPTOR,
                        request_number(OWNER_AGREE, agree->storing_serial),
                        bytes_of(packed, size));
}

static bool store_abstains(uint64_t token, bool abstains,
                           struct effects *effects)
{
    uint8_t byte = abstains;
    return effects_meta(effects, META_ABSTAINS, token,
                        bytes_of(&byte, sizeof byte));
}

bool agree_abstain(struct node *node, uint64_t token, struct effects *effects)
{
    node->agree.abstains = true;
    return store_abstains(token, true, effects);
}

/* False: what it says cannot be read. */
static bool read_acceptor(struct acceptor *acceptor, struct bytes stored)
{
    Rkv__AgreeReply *wire =
        rkv__agree_reply__unpack(NULL, stored.size, stored.data);
    if (wire == NULL)
        return false;
    bool is_read = wire->decree == NULL ||
                   decree_from_wire(wire->decree, &acceptor->decree);
    acceptor->epoch = wire->epoch + 1;
    acceptor->promised = wire->promised;
    acceptor->accepted = wire->accepted;
    rkv__agree_reply__free_unpacked(wire, NULL);
    return is_read;
}

void agree_found(struct node *node, struct bytes name, struct bytes stored)
{
    struct agree *agree = &node->agree;
    if (bytes_equal(name, bytes_of_string(META_ACCEPTOR)))
        agree->abstains |= !read_acceptor(&agree->acceptor, stored);
    else if (bytes_equal(name, bytes_of_string(META_ABSTAINS)) &&
             stored.size == 1)
        agree->abstains = stored.data[0] != 0;
}

/* --- the acceptor --- */

static void answer(struct reply_token token, enum status status,
                   const struct acceptor *acceptor, struct effects *effects)
{
    Rkv__AgreeReply *reply = to_wire(acceptor, &effects->arena);
    if (reply != NULL)
        reply->status = (Rkv__Status)status;
    reply_with(effects, token, RKV__ENVELOPE__BODY_AGREE_REPLY, reply);
}

/* Of the epoch that is to come: what was of another one is over. */
static struct acceptor *acceptor_now(struct node *node)
{
    struct acceptor *acceptor = &node->agree.acceptor;
    if (acceptor->epoch != node->topology.epoch + 1)
        *acceptor = (struct acceptor){.epoch = node->topology.epoch + 1};
    return acceptor;
}

/* Begin to store what it is asked to be; else why not. accept NULL: it is asked
 * for a promise. */
static enum status take(struct node *node, uint64_t epoch, uint64_t ballot,
                        const struct decree *accept, struct effects *effects)
{
    struct agree *agree = &node->agree;
    const struct acceptor *acceptor = acceptor_now(node);
    struct error error;
    if (node->stage != NODE_READY || epoch != acceptor->epoch ||
        ballot >> 40 > ROUNDS_MAX ||
        (agree->abstains && epoch != agree->recovered_epoch))
        return STATUS_UNAVAILABLE;
    if (agree->is_storing)
        return STATUS_OVERLOADED;
    if (accept == NULL ? ballot <= acceptor->promised
                       : ballot < acceptor->promised)
        return STATUS_REFUSED;
    if (accept != NULL &&
        topology_allows(&node->topology, accept, &error) != STATUS_OK)
        return STATUS_INVALID;
    agree->storing = *acceptor;
    agree->storing.promised = ballot;
    if (accept != NULL) {
        agree->storing.accepted = ballot;
        agree->storing.decree = *accept;
    }
    agree->storing_serial++;
    if (!store_acceptor(node, effects))
        return STATUS_OVERLOADED;
    agree->is_storing = true;
    return STATUS_OK;
}

void agree_serve(struct node *node, struct reply_token token,
                 const Rkv__Agree *asked, struct effects *effects)
{
    struct agree *agree = &node->agree;
    struct decree decree;
    bool is_accept = asked->decree != NULL;
    enum status status = STATUS_INVALID;
    if (!is_accept || decree_from_wire(asked->decree, &decree))
        status = take(node, asked->epoch, asked->ballot,
                      is_accept ? &decree : NULL, effects);
    if (status != STATUS_OK) {
        answer(token, status, acceptor_now(node), effects);
        return;
    }
    agree->is_own = false;
    agree->storing_for = token;
}

/* --- the proposer --- */

static struct reply_token take_token(struct node *node)
{
    struct reply_token token = node->agree.token;
    node->agree.token = (struct reply_token){0};
    return token;
}

static void tell_decreed(struct node *node, uint64_t epoch,
                         struct effects *effects)
{
    struct reply_token token = take_token(node);
    if (token.value != 0)
        leave_decreed(node, token, epoch, effects);
}

static void tell_failed(struct node *node, enum status status,
                        const char *message, struct effects *effects)
{
    struct reply_token token = take_token(node);
    if (token.value != 0)
        reply_result(node, effects, token, status, RKV__OUTCOME__NONE, message);
}

static void fail(struct node *node, const char *why, struct effects *effects)
{
    struct agree *agree = &node->agree;
    node_count(node, COUNTER_PROPOSALS_FAILED);
    agree->stage = AGREE_IDLE;
    agree->serial++;
    agree->next_ms =
        node->now_ms + AGAIN_MS / 2 + (int64_t)(node_random(node) % AGAIN_MS);
    tell_failed(node, STATUS_UNAVAILABLE, why, effects);
}

static void send(struct node *node, struct effects *effects)
{
    struct agree *agree = &node->agree;
    struct arena *arena = &effects->arena;
    Rkv__Agree *message = message_new(arena, &rkv__agree__descriptor);
    const Rkv__Envelope *envelope = NULL;
    if (message != NULL) {
        message->epoch = node->topology.epoch + 1;
        message->ballot = agree->ballot;
        if (agree->stage == AGREE_ACCEPTING)
            message->decree = decree_to_wire(&agree->chosen, arena);
        if (agree->stage != AGREE_ACCEPTING || message->decree != NULL)
            envelope = envelope_new(arena, RKV__ENVELOPE__BODY_AGREE, message);
    }
    for (size_t i = 0; i < node->topology.node_count; i++) {
        struct node_id member = node->topology.nodes[i].id;
        if (topology_is_member(&node->topology, i) &&
            !node_id_equal(member, node->self))
            outbox_request(&effects->out, member, LANE_CONTROL,
                           request_number(OWNER_AGREE, agree->serial),
                           envelope);
    }
}

/* Ask all, ourselves too: our own answer comes with what is stored. */
static void go_to(struct node *node, enum agree_stage stage,
                  struct effects *effects)
{
    struct agree *agree = &node->agree;
    agree->stage = stage;
    agree->serial++;
    agree->yes = 0;
    memset(agree->heard, 0, sizeof agree->heard);
    agree->lost_at_ms = node->now_ms + node->config.timeouts.request_ms;
    if (stage != AGREE_RECOVERING &&
        take(node, node->topology.epoch + 1, agree->ballot,
             stage == AGREE_ACCEPTING ? &agree->chosen : NULL,
             effects) == STATUS_OK)
        agree->is_own = true;
    send(node, effects);
}

/* Above all that were seen: rounds above numbers of proposers. One that
 * proposed before a restart, which it may have forgotten, is another. */
static uint64_t next_ballot(struct node *node, uint64_t rounds)
{
    uint64_t round = (node->agree.ballot_seen >> 40) + rounds;
    uint64_t proposer = (node_random(node) & 0xffffff) << 16 | own_index(node);
    return round << 40 | proposer;
}

static void prepare(struct node *node, enum agree_stage stage,
                    struct effects *effects)
{
    struct agree *agree = &node->agree;
    bool jumps = stage == AGREE_RECOVERING && !agree->has_jumped;
    agree->chosen_ballot = 0;
    if (agree->ballot_seen < acceptor_now(node)->promised)
        agree->ballot_seen = agree->acceptor.promised;
    agree->ballot = agree->ballot_seen =
        next_ballot(node, jumps ? RECOVERY_ROUNDS : 1);
    agree->has_jumped |= jumps;
    go_to(node, stage, effects);
}

static void recover(struct node *node, struct effects *effects)
{
    node->agree.token = (struct reply_token){0};
    prepare(node, AGREE_RECOVERING, effects);
}

static void recovered(struct node *node, struct effects *effects)
{
    struct agree *agree = &node->agree;
    agree->stage = AGREE_IDLE;
    agree->serial++;
    agree->storing = (struct acceptor){
        .epoch = node->topology.epoch + 1,
        .promised = agree->ballot,
        .accepted = agree->chosen_ballot,
        .decree = agree->chosen,
    };
    agree->storing_serial++;
    agree->is_storing = agree->is_recovering = store_acceptor(node, effects);
    agree->is_own = true;
}

/* What we had forgotten is made good for, and on disk. */
static void stored_recovery(struct node *node, struct effects *effects)
{
    struct agree *agree = &node->agree;
    agree->recovered_epoch = agree->acceptor.epoch;
    if (agree->acceptor.accepted != 0)
        return;
    agree->abstains = false;
    (void)store_abstains(request_number(OWNER_META, 0), false, effects);
}

bool agree_propose(struct node *node, const struct decree *decree,
                   struct reply_token token, struct effects *effects)
{
    struct agree *agree = &node->agree;
    if (agree->stage != AGREE_IDLE || agree->is_storing ||
        own_index(node) == SIZE_MAX)
        return false;
    agree->token = token;
    agree->wanted = agree->chosen = *decree;
    node_count(node, COUNTER_PROPOSALS);
    prepare(node, AGREE_PREPARING, effects);
    return true;
}

static const char overtaken[] =
    "another change was decreed before; see where it stands, then ask again";

static bool is_wanted(const struct agree *agree, const struct decree *decree)
{
    return node_id_equal(decree->node, agree->wanted.node) &&
           decree->kind == agree->wanted.kind &&
           decree->lost == agree->wanted.lost;
}

/* With which we are gone before anybody knew: those who stay have accepted it,
 * and tell us. */
static bool is_own_end(const struct node *node, const struct decree *decree)
{
    return (decree->kind == DECREE_SETTLE || decree->lost) &&
           node_id_equal(decree->node, node->self);
}

static void decided(struct node *node, struct effects *effects)
{
    struct agree *agree = &node->agree;
    agree->stage = AGREE_IDLE;
    agree->serial++;
    agree->next_ms = node->now_ms + AGAIN_MS;
    if (is_wanted(agree, &agree->chosen))
        tell_decreed(node, node->topology.epoch + 1, effects);
    else
        tell_failed(node, STATUS_REFUSED, overtaken, effects);
    if (!is_own_end(node, &agree->chosen))
        moves_decided(node, &agree->chosen, effects);
}

/* before: what the acceptor had accepted when it promised. */
static void said_yes(struct node *node, size_t from,
                     const struct acceptor *before, struct effects *effects)
{
    struct agree *agree = &node->agree;
    if (agree->heard[from])
        return;
    agree->heard[from] = true;
    agree->yes++;
    if (agree->stage != AGREE_ACCEPTING &&
        before->accepted > agree->chosen_ballot) {
        agree->chosen_ballot = before->accepted;
        agree->chosen = before->decree;
    }
    size_t members = topology_member_count(&node->topology);
    if (agree->stage == AGREE_RECOVERING) {
        if (agree->yes * 2 >= members)
            recovered(node, effects);
        return;
    }
    if (agree->yes * 2 <= members)
        return;
    if (agree->stage == AGREE_PREPARING)
        go_to(node, AGREE_ACCEPTING, effects);
    else
        decided(node, effects);
}

void agree_reply(struct node *node, uint64_t request, struct node_id from,
                 const Rkv__Envelope *reply, struct effects *effects)
{
    struct agree *agree = &node->agree;
    int at = topology_node(&node->topology, from);
    if (agree->stage == AGREE_IDLE || at < 0 ||
        request != request_number(OWNER_AGREE, agree->serial) ||
        node->now_ms >= agree->lost_at_ms || /* the next tick gives up */
        reply == NULL || reply->body_case != RKV__ENVELOPE__BODY_AGREE_REPLY)
        return;
    const Rkv__AgreeReply *answer = reply->agree_reply;
    struct acceptor before = {.accepted = answer->accepted};
    if (answer->promised > agree->ballot_seen &&
        answer->promised >> 40 <= ROUNDS_MAX)
        agree->ballot_seen = answer->promised;
    if (before.accepted != 0 &&
        (answer->decree == NULL ||
         !decree_from_wire(answer->decree, &before.decree)))
        return;
    if (answer->status == RKV__STATUS__OK)
        said_yes(node, (size_t)at, &before, effects);
    else if (answer->status == RKV__STATUS__REFUSED)
        fail(node, "another node proposes a change; ask again", effects);
    if (answer->epoch != node->topology.epoch)
        moves_tell(node, from, effects);
}

void agree_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects)
{
    struct agree *agree = &node->agree;
    agree->is_storing = false;
    /* Before it, which a promise tells. */
    struct acceptor before = *acceptor_now(node);
    bool is_now = agree->storing.epoch == before.epoch;
    enum status status = !is_now ? STATUS_UNAVAILABLE : result->status;
    bool was_recovering = agree->is_recovering;
    agree->is_recovering = false;
    if (status == STATUS_OK)
        agree->acceptor = agree->storing;
    if (was_recovering) {
        if (status == STATUS_OK)
            stored_recovery(node, effects);
        return;
    }
    if (!agree->is_own)
        answer(agree->storing_for, status,
               status == STATUS_OK ? &before : acceptor_now(node), effects);
    else if (status == STATUS_OK && agree->stage != AGREE_IDLE &&
             agree->storing.promised == agree->ballot &&
             (agree->stage == AGREE_ACCEPTING) ==
                 (agree->storing.accepted == agree->ballot))
        said_yes(node, own_index(node), &before, effects);
}

void agree_moved(struct node *node, uint64_t before, struct effects *effects)
{
    struct agree *agree = &node->agree;
    /* It may have been another who had the same decreed. */
    for (uint64_t epoch = before + 1; epoch <= node->topology.epoch; epoch++)
        if (is_wanted(agree, &node->topology.decrees[epoch - 2]))
            tell_decreed(node, epoch, effects);
    tell_failed(node, STATUS_REFUSED, overtaken, effects);
    agree->stage = AGREE_IDLE;
    agree->serial++;
    agree->ballot_seen = 0;
    agree->has_jumped = false;
}

/* --- time --- */

void agree_tick(struct node *node, struct effects *effects)
{
    struct agree *agree = &node->agree;
    if (node->config.self.version_max < PEER_VERSION_TOPOLOGY)
        return;
    if (agree->stage != AGREE_IDLE) {
        if (node->now_ms >= agree->lost_at_ms)
            fail(node,
                 "no majority of the members answered; it may be decreed "
                 "yet: see where it stands, then ask again",
                 effects);
        return;
    }
    const struct acceptor *acceptor = acceptor_now(node);
    struct decree decree = acceptor->decree;
    if (agree->abstains && acceptor->epoch != agree->recovered_epoch) {
        if (node->now_ms >= agree->next_ms && !agree->is_storing)
            recover(node, effects);
        return;
    }
    if (acceptor->accepted == 0)
        agree->left_over_ms = node->now_ms + LEFT_OVER_MS;
    else if (!is_own_end(node, &decree) &&
             node->now_ms >= agree->left_over_ms &&
             node->now_ms >= agree->next_ms)
        (void)agree_propose(node, &decree, (struct reply_token){0}, effects);
}
