/* SPDX-License-Identifier: MIT */
#include "proxy/core/moves.h"

#include <stdio.h>

#include "proxy/core/agree.h"
#include "proxy/core/node_internal.h"

void moves_fini(struct node *node)
{
    topology_fini(&node->moves.next);
}

/* --- decrees on the wire --- */

Rkv__Decree *decree_to_wire(const struct decree *decree, struct arena *arena)
{
    Rkv__Decree *wire = message_new(arena, &rkv__decree__descriptor);
    void *id = arena_copy(arena, decree->node.bytes, NODE_ID_SIZE);
    if (wire == NULL || id == NULL)
        return NULL;
    wire->kind = (Rkv__Decree__Kind)decree->kind;
    wire->node = binary_of_bytes(bytes_of(id, NODE_ID_SIZE));
    wire->lost = decree->lost;
    return wire;
}

bool decree_from_wire(const Rkv__Decree *wire, struct decree *decree)
{
    if (wire->node.len != NODE_ID_SIZE ||
        wire->kind < RKV__DECREE__KIND__LEAVE ||
        wire->kind > RKV__DECREE__KIND__SETTLE)
        return false;
    *decree = (struct decree){
        .kind = (enum decree_kind)wire->kind,
        .lost = wire->lost,
    };
    memcpy(decree->node.bytes, wire->node.data, NODE_ID_SIZE);
    return true;
}

static Rkv__Topology *to_wire(const struct topology *topology,
                              struct arena *arena)
{
    Rkv__Topology *wire = message_new(arena, &rkv__topology__descriptor);
    size_t count = topology->epoch - 1;
    Rkv__Decree **decrees = arena_alloc(arena, (count + 1) * sizeof *decrees);
    if (wire == NULL || decrees == NULL)
        return NULL;
    wire->decrees = decrees;
    for (size_t i = 0; i < count; i++) {
        decrees[i] = decree_to_wire(&topology->decrees[i], arena);
        if (decrees[i] == NULL)
            return NULL;
        wire->n_decrees++;
    }
    return wire;
}

static bool is_same(const struct decree *a, const struct decree *b)
{
    return a->kind == b->kind && a->lost == b->lost &&
           node_id_equal(a->node, b->node);
}

/* As far as both go. */
static bool agrees(const struct topology *topology, const Rkv__Topology *wire)
{
    for (size_t i = 0; i < topology->epoch - 1 && i < wire->n_decrees; i++) {
        struct decree decree;
        if (!decree_from_wire(wire->decrees[i], &decree) ||
            !is_same(&decree, &topology->decrees[i]))
            return false;
    }
    return true;
}

/* Those that it lacks. */
static enum status add_decrees(struct topology *topology,
                               const Rkv__Topology *wire, struct error *error)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && topology->epoch - 1 < wire->n_decrees) {
        struct decree decree;
        if (!decree_from_wire(wire->decrees[topology->epoch - 1], &decree))
            return error_set(error, STATUS_INVALID, "decree: not known here");
        status = topology_decree(topology, &decree, error);
    }
    return status;
}

/* --- where each member stands --- */

static bool is_own(const struct node *node, size_t at)
{
    return node_id_equal(node->topology.nodes[at].id, node->self);
}

/* Partitions that we take over from the one that leaves and have not read. */
static uint32_t filling(const struct node *node)
{
    const struct topology *topology = &node->topology;
    uint32_t count = 0;
    if (!topology_is_moving(topology))
        return 0;
    for (size_t p = 0; p < topology->partitions; p++) {
        uint16_t heir = topology->heirs[topology->leaver][p];
        count += heir != NO_NODE && is_own(node, heir) &&
                 bit_has(node->fill.missing, p);
    }
    return count;
}

static uint64_t kept(const struct node *node)
{
    uint64_t count = writes_are_done(node) ? 0 : 1;
    for (size_t i = 0; i < node->hint_count; i++) {
        const struct hint_target *target = &node->hints[i];
        count += target->records + target->is_unsure + (target->coming > 0);
    }
    return topology_leaves(&node->topology, node->self) ? count : 0;
}

static struct mover mover_of(const struct node *node, size_t at)
{
    if (is_own(node, at))
        return (struct mover){.epoch = node->topology.epoch,
                              .filling = filling(node),
                              .kept = kept(node)};
    return node->moves.movers[at];
}

bool moves_all_confirmed(const struct node *node)
{
    const struct topology *topology = &node->topology;
    for (size_t i = 0; i < topology->node_count; i++)
        if (topology_is_member(topology, i) &&
            mover_of(node, i).epoch < topology->epoch)
            return false;
    return true;
}

/* --- going by another topology --- */

static bool store_next(struct node *node, struct effects *effects)
{
    Rkv__Topology *wire = to_wire(&node->moves.next, &effects->arena);
    if (wire == NULL)
        return false;
    size_t size = rkv__topology__get_packed_size(wire);
    uint8_t *packed = arena_alloc(&effects->arena, size);
    if (packed == NULL)
        return false;
    rkv__topology__pack(wire, packed);
    return effects_meta(effects, META_TOPOLOGY,
                        request_number(OWNER_MOVES, node->moves.serial),
                        bytes_of(packed, size));
}

static void give_up(struct node *node)
{
    topology_fini(&node->moves.next);
    node->moves.serial++;
    node->moves.stage = MOVES_IDLE;
}

/* What is missing with it is on disk before it is: a start in between finds
 * nothing that it would vote in. */
static void begin(struct node *node, struct effects *effects)
{
    struct moves *moves = &node->moves;
    uint64_t token = request_number(OWNER_MOVES, ++moves->serial);
    fill_moved(node, &moves->next);
    if (trees_moved(node, &moves->next) == STATUS_OK &&
        fill_save(node, token, effects))
        moves->stage = MOVES_MISSING;
    else
        give_up(node); /* it is heard of again */
}

static void learn(struct node *node, const Rkv__Topology *told,
                  struct effects *effects)
{
    struct moves *moves = &node->moves;
    struct error error;
    if (moves->stage != MOVES_IDLE || told->n_decrees < node->topology.epoch ||
        topology_copy(&node->topology, &moves->next) != STATUS_OK)
        return;
    if (add_decrees(&moves->next, told, &error) == STATUS_OK)
        begin(node, effects);
    else
        give_up(node);
}

void moves_decided(struct node *node, const struct decree *decree,
                   struct effects *effects)
{
    struct moves *moves = &node->moves;
    struct error error;
    if (moves->stage != MOVES_IDLE ||
        topology_copy(&node->topology, &moves->next) != STATUS_OK)
        return; /* accepted by many, it is proposed again */
    if (topology_decree(&moves->next, decree, &error) == STATUS_OK)
        begin(node, effects);
    else
        give_up(node);
}

static void say(const struct node *node, struct effects *effects)
{
    static const char *const steps[] = {
        [DECREE_LEAVE] = "leaves",
        [DECREE_TURN] = "is_read_no_more",
        [DECREE_SETTLE] = "has_left",
    };
    char line[160];
    const struct decree *move = &node->topology.move;
    snprintf(line, sizeof line, "event=topology epoch=%llu node=%s step=%s",
             (unsigned long long)node->topology.epoch,
             node_name_of(node, move->node), steps[move->kind]);
    effects->log = arena_string(&effects->arena, line);
}

static const char halted[] =
    "the node has left the cluster: it is not to be started again, and its "
    "data_dir is of no more use";

static bool has_left(const struct node *node)
{
    int at = topology_node(&node->topology, node->self);
    return at >= 0 && !topology_is_member(&node->topology, (size_t)at);
}

static void adopt(struct node *node, struct effects *effects)
{
    struct topology before = node->topology;
    node->topology = node->moves.next;
    node_count(node, COUNTER_EPOCHS);
    node->moves.next = (struct topology){0};
    node->moves.next_ms = node->now_ms; /* all are told */
    agree_moved(node, before.epoch, effects);
    exchange_moved(node, &before);
    fill_begin_again(node);
    handoff_moved(node);
    collect_moved(node, &before);
    topology_fini(&before);
    say(node, effects);
    if (has_left(node))
        effects->halt = halted;
}

void moves_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects)
{
    struct moves *moves = &node->moves;
    if (moves->stage == MOVES_IDLE ||
        result->op->token != request_number(OWNER_MOVES, moves->serial))
        return;
    if (result->status != STATUS_OK) {
        give_up(node);
    } else if (moves->stage == MOVES_TOPOLOGY) {
        moves->stage = MOVES_IDLE;
        adopt(node, effects);
    } else if (store_next(node, effects)) {
        moves->stage = MOVES_TOPOLOGY;
    } else {
        give_up(node);
    }
}

void moves_found_all(const struct node *node, struct effects *effects)
{
    if (has_left(node))
        effects->halt = halted;
}

bool moves_found(struct node *node, struct bytes stored)
{
    struct error error;
    Rkv__Topology *wire = rkv__topology__unpack(NULL, stored.size, stored.data);
    if (wire == NULL)
        return false;
    enum status status = add_decrees(&node->topology, wire, &error);
    rkv__topology__free_unpacked(wire, NULL);
    return status == STATUS_OK &&
           trees_moved(node, &node->topology) == STATUS_OK;
}

void moves_forget(struct node *node, struct node_id member)
{
    int at = topology_node(&node->topology, member);
    if (at >= 0)
        node->moves.movers[at] = (struct mover){0};
}

/* --- telling --- */

static Rkv__Topology *our_word(struct node *node, struct arena *arena)
{
    Rkv__Topology *wire = to_wire(&node->topology, arena);
    if (wire != NULL) {
        wire->filling = filling(node);
        wire->kept = kept(node);
    }
    return wire;
}

static bool may_tell(const struct node *node, struct node_id id)
{
    const struct member *member = membership_find(node->membership, id);
    return member != NULL && !node_id_equal(id, node->self) &&
           member->version_max >= PEER_VERSION_TOPOLOGY &&
           node->config.self.version_max >= PEER_VERSION_TOPOLOGY &&
           membership_is_reachable(node->membership, id);
}

void moves_tell(struct node *node, struct node_id member,
                struct effects *effects)
{
    if (node->stage != NODE_READY || !may_tell(node, member))
        return;
    Rkv__Topology *wire = our_word(node, &effects->arena);
    outbox_request(&effects->out, member, LANE_CONTROL,
                   request_number(OWNER_MOVES, ++node->moves.told_serial),
                   wire == NULL
                       ? NULL
                       : envelope_new(&effects->arena,
                                      RKV__ENVELOPE__BODY_TOPOLOGY, wire));
}

static void hear(struct node *node, struct node_id from,
                 const Rkv__Topology *told, struct effects *effects)
{
    int at = topology_node(&node->topology, from);
    if (at < 0)
        return;
    if (!agrees(&node->topology, told)) {
        node->moves.movers[at] = (struct mover){0};
        effects->log = "event=topology_contradicts what=\"another node goes by "
                       "other decrees: its disk, or this one's, is not of this "
                       "cluster\"";
        return;
    }
    node->moves.movers[at] = (struct mover){.epoch = told->n_decrees + 1,
                                            .filling = told->filling,
                                            .kept = told->kept};
    learn(node, told, effects);
}

void moves_serve(struct node *node, struct reply_token token,
                 struct node_id from, const Rkv__Topology *told,
                 struct effects *effects)
{
    hear(node, from, told, effects);
    reply_with(effects, token, RKV__ENVELOPE__BODY_TOPOLOGY,
               our_word(node, &effects->arena));
}

void moves_reply(struct node *node, struct node_id from,
                 const Rkv__Envelope *reply, struct effects *effects)
{
    if (reply != NULL && reply->body_case == RKV__ENVELOPE__BODY_TOPOLOGY)
        hear(node, from, reply->topology, effects);
}

/* --- the next step --- */

/* The first member that is there: it alone proposes, as a rule. Not the one
 * that leaves, which would be gone with its last step before anybody knew. */
static bool is_first(const struct node *node)
{
    for (size_t i = 0; i < node->topology.node_count; i++) {
        if (!topology_is_member(&node->topology, i) ||
            i == node->topology.leaver)
            continue;
        if (is_own(node, i))
            return true;
        if (membership_is_reachable(node->membership,
                                    node->topology.nodes[i].id))
            return false;
    }
    return false;
}

/* What it still has to do before the next step; 0: nothing. */
static uint64_t left_to_do(const struct node *node, size_t at)
{
    const struct topology *topology = &node->topology;
    struct mover mover = mover_of(node, at);
    if (mover.epoch < topology->epoch)
        return 1;
    return mover.filling +
           (topology->move.kind == DECREE_TURN ? mover.kept : 0);
}

bool moves_waits_for(const struct node *node, size_t at, char *line,
                     size_t size)
{
    const char *name = node->topology.nodes[at].name;
    struct mover mover = mover_of(node, at);
    bool is_gone =
        at == node->topology.leaver && !is_own(node, at) &&
        !membership_is_reachable(node->membership, node->topology.move.node);
    if (!topology_is_member(&node->topology, at) ||
        (left_to_do(node, at) == 0 && !is_gone))
        return false;
    if (is_gone)
        snprintf(line, size, "%s: to be there again, or to be lost", name);
    else if (mover.epoch < node->topology.epoch)
        snprintf(line, size, "%s: to hear of it", name);
    else if (mover.filling > 0)
        snprintf(line, size, "%s: partitions to fill: %u", name, mover.filling);
    else
        snprintf(line, size, "%s: hints to hand over: %llu", name,
                 (unsigned long long)mover.kept);
    return true;
}

static bool is_step_due(const struct node *node)
{
    for (size_t i = 0; i < node->topology.node_count; i++)
        if (topology_is_member(&node->topology, i) && left_to_do(node, i) > 0)
            return false;
    return true;
}

static void propose_step(struct node *node, struct effects *effects)
{
    struct decree next = node->topology.move;
    next.kind =
        next.kind == DECREE_LEAVE && !next.lost ? DECREE_TURN : DECREE_SETTLE;
    if (!agree_is_busy(node) && node->moves.stage == MOVES_IDLE &&
        node->now_ms >= node->agree.next_ms && is_first(node) &&
        is_step_due(node))
        (void)agree_propose(node, &next, (struct reply_token){0}, effects);
}

void moves_tick(struct node *node, struct effects *effects)
{
    bool is_moving = topology_is_moving(&node->topology);
    if (node->stage != NODE_READY)
        return;
    agree_tick(node, effects);
    if (is_moving)
        propose_step(node, effects);
    if (node->now_ms < node->moves.next_ms)
        return;
    node->moves.next_ms =
        node->now_ms + (is_moving ? node->config.timeouts.handoff_interval_ms
                                  : node->config.timeouts.exchange_interval_ms);
    for (size_t i = 0; i < node->topology.node_count; i++)
        moves_tell(node, node->topology.nodes[i].id, effects);
}
