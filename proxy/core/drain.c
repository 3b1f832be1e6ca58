/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proxy/core/exchange.h"
#include "proxy/core/replica.h"

static struct drain *find(struct node *node, uint64_t number)
{
    uint64_t serial = request_serial(number);
    if (slot_of(serial) >= DRAINS_MAX)
        return NULL;
    struct drain *drain = &node->drains[slot_of(serial)];
    return drain->stage != DRAIN_FREE && drain->serial == serial ? drain : NULL;
}

static void end(struct node *node, struct drain *drain, enum status status,
                const char *why, struct effects *effects)
{
    struct drain ended = *drain;
    if (status == STATUS_OK && drain->epoch != node->topology.epoch) {
        status = STATUS_UNAVAILABLE;
        why = "the topology is another now";
    }
    drain->stage = DRAIN_FREE;
    slots_give(&node->drain_slots, drain->serial);
    if (ended.token.value == 0)
        collect_drained(node, ended.collect_serial, status, effects);
    else
        reply_result(node, effects, ended.token, status, RKV__OUTCOME__NONE,
                     why);
}

/* --- what is under way --- */

static bool has_older_request(const struct node *node,
                              const struct drain *drain)
{
    for (size_t i = 0; i < slots_end(&node->write_slots); i++)
        if (node->writes[i].stage != WRITE_FREE &&
            node->writes[i].partition.value == drain->partition.value &&
            node->writes[i].serial <= drain->last_write)
            return true;
    for (size_t i = 0; i < slots_end(&node->read_slots); i++)
        if (node->reads[i].used &&
            node->reads[i].partition.value == drain->partition.value &&
            node->reads[i].serial <= drain->last_read)
            return true;
    return false;
}

/* Behind all that was asked of the disk, synced: hints that were dropped, too,
 * stay so over a crash. */
static void ask_disk(struct node *node, struct drain *drain,
                     struct effects *effects)
{
    struct storage_op op = {
        .kind = STORAGE_SET,
        .token = request_number(OWNER_DRAIN, drain->serial),
        .key = {.table = TABLE_META, .key = bytes_of_string("drain")},
        .data = bytes_of_string("done"),
    };
    drain->stage = DRAIN_STORING;
    if (!effects_storage(effects, &op))
        end(node, drain, STATUS_OVERLOADED, "no memory", effects);
}

static bool is_kept_for(const struct node *node, struct partition partition,
                        const struct hint_target *target)
{
    return (target->records > 0 || target->is_unsure) &&
           topology_owns(&node->topology, partition, target->node);
}

/* Something is on its way from one that leaves to its heir: it could be found
 * with neither. */
static bool hints_move(const struct node *node)
{
    for (size_t i = 0; i < node->hint_count; i++) {
        const struct hint_target *target = &node->hints[i];
        bool is_kept =
            target->records > 0 || target->is_unsure || target->coming > 0;
        if (is_kept && topology_leaves(&node->topology, target->node))
            return true;
    }
    return false;
}

/* Hints of the partition for the next owner that we keep any for: the first
 * row behind its beginning is one of them, or of another partition. */
static void look_for_hints(struct node *node, struct drain *drain,
                           struct effects *effects)
{
    struct storage_op op = {
        .kind = STORAGE_SCAN,
        .token = request_number(OWNER_DRAIN, drain->serial),
        /* Of no bucket: below all keys of the partition. */
        .key = {.table = TABLE_HINTS,
                .partition = drain->partition,
                .key = bytes_of("", 1)},
        .bytes_max = 1,
    };
    const struct hint_target *target = NULL;
    if (hints_move(node)) {
        end(node, drain, STATUS_UNAVAILABLE, "hints are kept", effects);
        return;
    }
    while (target == NULL && drain->target_next < node->hint_count) {
        const struct hint_target *next = &node->hints[drain->target_next++];
        if (is_kept_for(node, drain->partition, next))
            target = next;
    }
    if (target == NULL) {
        end(node, drain, STATUS_OK, NULL, effects);
        return;
    }
    op.key.target = target->node;
    struct buffer after = {0};
    void *copy = NULL;
    if (storage_key_encode(&op.key, &after) == STATUS_OK)
        copy = arena_copy(&effects->arena, after.data, after.size);
    op.after = bytes_of(copy, after.size);
    buffer_fini(&after);
    drain->stage = DRAIN_LOOKING;
    if (copy == NULL || !effects_storage(effects, &op))
        end(node, drain, STATUS_OVERLOADED, "no memory", effects);
}

static bool is_of(const struct storage_result *result,
                  struct partition partition)
{
    return result->row_count > 0 &&
           result->rows[0].key.partition.value == partition.value;
}

/* --- what was sent --- */

static void send_barriers(struct node *node, struct drain *drain,
                          struct effects *effects)
{
    static const enum lane lanes[DRAIN_LANES] = {LANE_FOREGROUND, LANE_BULK};
    Rkv__Barrier *barrier =
        message_new(&effects->arena, &rkv__barrier__descriptor);
    const Rkv__Envelope *message =
        barrier == NULL ? NULL
                        : envelope_new(&effects->arena,
                                       RKV__ENVELOPE__BODY_BARRIER, barrier);
    drain->stage = DRAIN_BARRIERS;
    drain->awaited = 0;
    /* Also to who owns nothing of it: it may have been asked to stand in. */
    for (size_t i = 0; i < node->topology.node_count; i++) {
        struct node_id member = node->topology.nodes[i].id;
        if (node_id_equal(member, node->self) ||
            !topology_is_member(&node->topology, i))
            continue;
        for (size_t lane = 0; lane < DRAIN_LANES; lane++) {
            drain->awaited++;
            outbox_request(&effects->out, member, lanes[lane],
                           request_number(OWNER_DRAIN, drain->serial), message);
        }
    }
    if (drain->awaited == 0)
        end(node, drain, STATUS_OK, NULL, effects);
}

void drain_reply(struct node *node, uint64_t request,
                 const Rkv__Envelope *reply, struct effects *effects)
{
    struct drain *drain = find(node, request);
    if (drain == NULL || drain->stage != DRAIN_BARRIERS)
        return;
    if (reply == NULL || reply->body_case != RKV__ENVELOPE__BODY_RESULT ||
        reply->result->status != RKV__STATUS__OK)
        end(node, drain, STATUS_UNAVAILABLE, "a member was not reached",
            effects);
    else if (--drain->awaited == 0)
        end(node, drain, STATUS_OK, NULL, effects);
}

void drain_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects)
{
    struct drain *drain = find(node, result->op->token);
    if (drain == NULL ||
        (drain->stage != DRAIN_STORING && drain->stage != DRAIN_LOOKING))
        return;
    if (result->status != STATUS_OK)
        end(node, drain, STATUS_UNAVAILABLE, "the disk failed", effects);
    else if (drain->stage == DRAIN_LOOKING && is_of(result, drain->partition))
        end(node, drain, STATUS_UNAVAILABLE, "hints are kept", effects);
    else
        look_for_hints(node, drain, effects);
}

/* --- beginning --- */

static struct drain *take(struct node *node, struct partition partition)
{
    uint64_t serial;
    int slot = slots_take(&node->drain_slots, &serial);
    if (slot < 0)
        return NULL;
    node->drains[slot] = (struct drain){
        .stage = DRAIN_WAITING,
        .serial = serial,
        .partition = partition,
        .epoch = node->topology.epoch,
        .last_write = slots_last(&node->write_slots),
        .last_read = slots_last(&node->read_slots),
        .lost_at_ms = node->now_ms + LOST_MS,
    };
    /* What it has read of others, or has asked for. */
    exchange_let_go(node, partition);
    return &node->drains[slot];
}

static void go_on(struct node *node, struct drain *drain,
                  struct effects *effects)
{
    if (!has_older_request(node, drain))
        send_barriers(node, drain, effects);
}

static void start(struct node *node, struct drain *drain, bool of_hints,
                  struct effects *effects)
{
    if (fill_is_missing(node, drain->partition))
        end(node, drain, STATUS_UNAVAILABLE, "the partition is being filled",
            effects);
    else if (of_hints)
        ask_disk(node, drain, effects);
    else
        go_on(node, drain, effects);
}

void drain_begin(struct node *node, struct partition partition, bool of_hints,
                 uint64_t collect_serial, struct effects *effects)
{
    struct drain *drain = take(node, partition);
    if (drain == NULL) {
        collect_drained(node, collect_serial, STATUS_OVERLOADED, effects);
        return;
    }
    drain->collect_serial = collect_serial;
    start(node, drain, of_hints, effects);
}

/* One clock that is wrong by days must not make old what is not: within half of
 * the window the clocks of all members have to agree on it. */
static int64_t newest_ms(const struct node *node)
{
    return node->wall_ms - node->config.timeouts.dedup_window_ms / 2;
}

void drain_request(struct node *node, struct reply_token token,
                   const Rkv__Drain *asked, struct effects *effects)
{
    struct partition partition = {(uint16_t)asked->partition};
    struct drain *drain = NULL;
    const char *why = "too many are under way";
    if (asked->partition >= node->topology.partitions ||
        asked->epoch != node->topology.epoch)
        why = "not of this topology";
    else if (node->stage != NODE_READY)
        why = "the node is not ready";
    else if (asked->before_ms > newest_ms(node))
        why = "by this node's clock and dedup_window_ms it is too young";
    else
        drain = take(node, partition);
    if (drain == NULL) {
        reply_result(node, effects, token, STATUS_UNAVAILABLE,
                     RKV__OUTCOME__NONE, why);
        return;
    }
    drain->token = token;
    start(node, drain, asked->of_hints, effects);
}

void drain_tick(struct node *node, struct effects *effects)
{
    for (size_t i = 0; i < slots_end(&node->drain_slots); i++) {
        struct drain *drain = &node->drains[i];
        if (drain->stage == DRAIN_FREE)
            continue;
        if (node->now_ms >= drain->lost_at_ms)
            end(node, drain, STATUS_TIMEOUT, "it takes too long", effects);
        else if (drain->stage == DRAIN_WAITING)
            go_on(node, drain, effects);
    }
}
