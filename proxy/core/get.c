/* SPDX-License-Identifier: MIT */
#include "proxy/core/get.h"

#include "proto/assert.h"

/* In hedge_ms, which is already more than is usual: so long a read that R have
 * answered waits for one that has what its client has seen. */
enum { STALE_HEDGES = 4 };

static void act(struct get_actions *actions, enum get_action_kind kind,
                struct node_id node, enum status status)
{
    ASSERT(actions->count < GET_ACTIONS_MAX);
    actions->list[actions->count++] = (struct get_action){
        .kind = kind,
        .node = node,
        .status = status,
    };
}

static size_t count_state(const struct get *get, enum get_replica_state state)
{
    size_t count = 0;
    for (size_t i = 0; i < get->replica_count; i++)
        count += get->replicas[i].state == state;
    return count;
}

size_t get_answers(const struct get *get)
{
    return get->answers;
}

static void answer(struct get *get, enum status status,
                   struct get_actions *actions)
{
    ASSERT(get->state == GET_ASKING || get->state == GET_SETTLING);
    get->state = GET_ANSWERED;
    act(actions, GET_REPLY, (struct node_id){{0}}, status);
}

static bool ask_next(struct get *get, struct get_actions *actions)
{
    for (size_t i = 0; i < get->replica_count; i++) {
        if (get->replicas[i].state != REPLICA_IDLE)
            continue;
        get->replicas[i].state = REPLICA_ASKED;
        act(actions, GET_ASK, get->replicas[i].node, STATUS_OK);
        return true;
    }
    return false;
}

/* So many replicas that every majority has one of them. */
static size_t meets_majorities(const struct get *get)
{
    size_t majority = get->replica_count / 2 + 1;
    return get->replica_count - majority + 1;
}

/* What a damaged copy acknowledged is on one of the others at least: what all
 * of them hold may take its place. */
static bool lacks_merge(const struct get *get,
                        const struct get_replica *replica)
{
    if (replica->state == REPLICA_DAMAGED)
        return get->answers > 0 && get->answers + 1 >= get->replica_count;
    return replica->state == REPLICA_ANSWERED &&
           replica->version != get->merged_version;
}

static void write_to(struct get *get, struct get_replica *replica,
                     struct get_actions *actions)
{
    replica->state = REPLICA_WRITTEN;
    replica->written_version = get->merged_version;
    act(actions, GET_WRITE_BACK, replica->node, STATUS_OK);
}

/* Send the merge to those that are known to lack it. One that is being told an
 * earlier merge gets this one when it has answered. */
static void write_back(struct get *get, struct get_actions *actions)
{
    for (size_t i = 0; i < get->replica_count; i++) {
        struct get_replica *replica = &get->replicas[i];
        if (lacks_merge(get, replica))
            write_to(get, replica, actions);
    }
    if (get->has_silent && lacks_merge(get, &get->silent))
        write_to(get, &get->silent, actions);
}

static bool holds_merge(const struct get *get,
                        const struct get_replica *replica)
{
    return replica->state == REPLICA_ANSWERED &&
           replica->version == get->merged_version;
}

static bool may_hold(const struct get *get, const struct get_replica *replica)
{
    (void)get;
    return replica->state == REPLICA_ANSWERED ||
           replica->state == REPLICA_WRITTEN || replica->state == REPLICA_ASKED;
}

/* Of the replicas: the last and the silent one are one. */
static size_t count_both(const struct get *get,
                         bool (*is)(const struct get *,
                                    const struct get_replica *))
{
    size_t count = 0;
    for (size_t i = 0; i < get->replica_count; i++)
        count += is(get, &get->replicas[i]);
    if (get->has_silent && !is(get, &get->silent))
        count -= is(get, &get->replicas[get->replica_count - 1]);
    return count;
}

static size_t holders(const struct get *get)
{
    return count_both(get, holds_merge);
}

/* With no record anywhere that was read there is nothing to hold. */
static size_t holders_needed(const struct get *get)
{
    if (!get->monotonic || get->merged.size == 0)
        return 0;
    return meets_majorities(get);
}

/* How many could still come to hold the merge without asking anyone new. */
static size_t holders_possible(const struct get *get)
{
    return count_both(get, may_hold);
}

/* One more that may come to hold the merge: false when there is none. */
static bool reach_on(struct get *get, struct get_actions *actions)
{
    if (ask_next(get, actions))
        return true;
    if (!get->has_silent || get->silent.state != REPLICA_IDLE)
        return false;
    write_to(get, &get->silent, actions);
    return true;
}

/* So many that their answers would do, as far as there are any to ask. */
static void ask(struct get *get, struct get_actions *actions)
{
    bool has_r = get->answers >= get->r;
    size_t awaited = has_r && get->is_behind ? get->replica_count : get->r;
    bool reachable = true;
    while (reachable &&
           get->answers + count_state(get, REPLICA_ASKED) < awaited)
        reachable = ask_next(get, actions);
    /* Of whom no replica at all knows anything was collected since, or folded
     * away. But in a sloppy bucket a fallback may have it. */
    if (get->answers == get->replica_count && !get->is_lower && !get->sloppy)
        get->is_behind = false;
    if (has_r && !get->is_behind)
        get->state = GET_SETTLING;
    else if (has_r && count_state(get, REPLICA_ASKED) == 0)
        answer(get, STATUS_STALE, actions);
    else if (!has_r && !reachable)
        answer(get, STATUS_UNAVAILABLE, actions);
}

static void settle(struct get *get, struct get_actions *actions)
{
    if (get->state == GET_ASKING)
        ask(get, actions);
    if (get->state == GET_SETTLING || get->state == GET_ANSWERED)
        write_back(get, actions);
    if (get->state == GET_SETTLING) {
        size_t needed = holders_needed(get);
        bool reachable = true;
        while (reachable && holders_possible(get) < needed)
            reachable = reach_on(get, actions);
        if (holders(get) >= needed)
            answer(get, STATUS_OK, actions);
        else if (!reachable)
            answer(get, STATUS_UNAVAILABLE, actions);
    }
    if (get->state == GET_ANSWERED && count_state(get, REPLICA_ASKED) == 0 &&
        count_state(get, REPLICA_WRITTEN) == 0)
        get->state = GET_DONE;
}

enum status get_start(struct get *get, const struct get_config *config,
                      int64_t now_ms, struct get_actions *actions)
{
    ASSERT(config->replica_count > 0 && config->replica_count <= REPLICAS_MAX);
    ASSERT(config->r > 0 && config->r <= config->replica_count);
    actions->count = 0;
    *get = (struct get){
        .replica_count = config->replica_count,
        .r = config->r,
        .monotonic = config->monotonic,
        .sloppy = config->sloppy,
        .deadline_ms = config->deadline_ms,
        .hedge_ms = config->hedge_ms,
        .hedge_at_ms = now_ms + config->hedge_ms,
        .wall_ms = config->wall_ms,
        .dedup_window_ms = config->dedup_window_ms,
        .is_behind = config->seen.count > 0,
    };
    enum status status = buffer_append(
        &get->seen, bytes_of(config->seen.entries,
                             config->seen.count * sizeof(struct dot)));
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < get->replica_count; i++)
        get->replicas[i].node = config->replicas[i];
    get->silent.node = config->silent;
    get->has_silent = !node_id_is_zero(config->silent);
    settle(get, actions);
    return STATUS_OK;
}

void get_fini(struct get *get)
{
    buffer_fini(&get->merged);
    buffer_fini(&get->seen);
}

static struct get_replica *find(struct get *get, struct node_id node)
{
    for (size_t i = 0; i < get->replica_count; i++)
        if (node_id_equal(get->replicas[i].node, node))
            return &get->replicas[i];
    if (get->has_silent && node_id_equal(get->silent.node, node))
        return &get->silent;
    return NULL;
}

/* How what was merged, whose context this is, stands to what the client saw. */
static void compare_seen(struct get *get, const struct context *merged)
{
    const struct dot *seen = (const void *)get->seen.data;
    get->is_behind = get->is_lower = false;
    for (size_t i = 0; i < get->seen.size / sizeof *seen; i++) {
        bool covers = context_covers(merged, seen[i]);
        get->is_behind |= !covers;
        get->is_lower |= !covers && context_counter(merged, seen[i].actor) > 0;
    }
}

/* Merge what a replica holds into what was merged before. */
static enum status take_record(struct get *get, struct bytes encoded,
                               struct arena *scratch, uint64_t *version)
{
    struct record heard, before, merged;
    if (encoded.size > 0 && bytes_equal(encoded, buffer_bytes(&get->merged))) {
        *version = get->merged_version;
        return STATUS_OK;
    }
    enum status status = record_decode(encoded, scratch, &heard);
    if (status != STATUS_OK)
        return status;
    *version = record_version(encoded);
    if (get->merged.size == 0) {
        status = buffer_append(&get->merged, encoded);
        if (status == STATUS_OK) {
            get->merged_version = *version;
            compare_seen(get, &heard.context);
        }
        return status;
    }
    if (*version == get->merged_version)
        return STATUS_OK;
    status = record_decode(buffer_bytes(&get->merged), scratch, &before);
    if (status == STATUS_OK)
        status = record_merge(&before, &heard, get->wall_ms,
                              get->dedup_window_ms, scratch, &merged);
    struct buffer encoding = {0};
    if (status == STATUS_OK)
        status = record_encode(&merged, &encoding);
    if (status != STATUS_OK) {
        buffer_fini(&encoding);
        return status;
    }
    /* What was merged borrows from the old encoding. */
    get->merged_version = record_version(buffer_bytes(&encoding));
    compare_seen(get, &merged.context);
    buffer_fini(&get->merged);
    get->merged = encoding;
    return STATUS_OK;
}

void get_hear(struct get *get, struct node_id node, enum status status,
              struct bytes record, struct arena *scratch,
              struct get_actions *actions)
{
    actions->count = 0;
    struct get_replica *replica = find(get, node);
    if (get->state == GET_DONE || replica == NULL ||
        replica->state != REPLICA_ASKED)
        return;
    uint64_t version = 0;
    if (status == STATUS_OK)
        status = take_record(get, record, scratch, &version);
    if (status == STATUS_OK || status == STATUS_NOT_FOUND) {
        replica->state = REPLICA_ANSWERED;
        replica->version = version;
        get->answers++;
    } else {
        replica->state =
            status == STATUS_CORRUPT ? REPLICA_DAMAGED : REPLICA_FAILED;
        get->has_damage |= status == STATUS_CORRUPT;
    }
    settle(get, actions);
}

void get_hear_written(struct get *get, struct node_id node, enum status status,
                      struct get_actions *actions)
{
    actions->count = 0;
    struct get_replica *replica = find(get, node);
    if (get->state == GET_DONE || replica == NULL ||
        replica->state != REPLICA_WRITTEN)
        return;
    if (status != STATUS_OK) {
        replica->state = REPLICA_FAILED;
    } else {
        replica->state = REPLICA_ANSWERED;
        replica->version = replica->written_version;
    }
    settle(get, actions);
}

void get_tick(struct get *get, int64_t now_ms, struct get_actions *actions)
{
    actions->count = 0;
    if (get->state == GET_DONE)
        return;
    bool waits = get->state == GET_ASKING && get->answers >= get->r;
    if (now_ms >= get->deadline_ms) {
        if (get->state != GET_ANSWERED)
            answer(get, waits ? STATUS_STALE : STATUS_TIMEOUT, actions);
        get->state = GET_DONE;
        return;
    }
    if (waits && get->stale_at_ms == 0)
        get->stale_at_ms = now_ms + STALE_HEDGES * (int64_t)get->hedge_ms;
    if (waits && now_ms >= get->stale_at_ms) {
        answer(get, STATUS_STALE, actions);
        return;
    }
    if (get->state == GET_ANSWERED || now_ms < get->hedge_at_ms)
        return;
    get->hedge_at_ms = now_ms + get->hedge_ms;
    if (get->state == GET_SETTLING)
        (void)reach_on(get, actions);
    else
        (void)ask_next(get, actions);
}
