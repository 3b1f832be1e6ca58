/* SPDX-License-Identifier: MIT */
#include "proxy/core/node_internal.h"

/* What a start reads of the disk, and what is stored for the next one. */

static const char META_MEMBER[] = "member/";
static const char META_JOINED[] = "joined";
static const char META_REPLACED[] = "replaced";

static void start_scan(struct node *node, enum table table, struct bytes after,
                       struct effects *effects)
{
    struct storage_op op = {
        .kind = STORAGE_SCAN,
        .token = request_number(OWNER_START, table),
        .key = {.table = table},
        .after = after,
        .bytes_max = node->config.limits.list_bytes_max,
        .passes_damage = table == TABLE_HINTS,
    };
    if (effects_storage(effects, &op))
        node->start_waiting++;
    else
        effects->halt = "start: no memory to read what was stored";
}

void start_begin(struct node *node, struct effects *effects)
{
    start_scan(node, TABLE_META, (struct bytes){0}, effects);
    start_scan(node, TABLE_HINTS, (struct bytes){0}, effects);
}

static bool begins_with(struct bytes name, const char *prefix)
{
    size_t size = strlen(prefix);
    return name.size >= size && memcmp(name.data, prefix, size) == 0;
}

static void start_row(struct node *node, const struct storage_row *row,
                      struct effects *effects)
{
    struct arena *arena = &effects->arena;
    if (row->key.table == TABLE_HINTS) {
        hint_found(node, row);
        return;
    }
    struct bytes name = row->key.key;
    if (bytes_equal(name, bytes_of_string(META_MISSING))) {
        fill_restore(node, row->record);
        return;
    }
    if (bytes_equal(name, bytes_of_string(META_TOPOLOGY))) {
        if (!moves_found(node, row->record))
            effects->halt = "start: what was decreed cannot be read; --replace "
                            "sets the disk aside and fills another";
        return;
    }
    agree_found(node, name, row->record);
    if (bytes_equal(name, bytes_of_string(META_JOINED))) {
        node->has_joined = true;
        return;
    }
    if (bytes_equal(name, bytes_of_string(META_REPLACED))) {
        node->is_replaced = true;
        return;
    }
    if (!begins_with(name, META_MEMBER))
        return;
    ProtobufCAllocator allocator = arena_allocator(arena);
    Rkv__Member *wire =
        rkv__member__unpack(&allocator, row->record.size, row->record.data);
    struct member member;
    if (wire != NULL && member_from_wire(wire, &member, NULL) == STATUS_OK &&
        !node_id_equal(member.id, node->self))
        membership_remember(node->membership, &member);
}

static bool store_yes(const char *name, uint64_t token, struct effects *effects)
{
    return effects_meta(effects, name, token, bytes_of_string("yes"));
}

/* What is missing must be on disk before anyone knows this disk: a crash would
 * leave one that seems whole. And that an operator set it in another's place:
 * who is away now remembers that other one, and would refuse it later. */
static void set_in_place(struct node *node, struct effects *effects)
{
    uint64_t token = request_number(OWNER_START, 0);
    if (fill_all(node, token, effects) && agree_abstain(node, token, effects) &&
        store_yes(META_REPLACED, token, effects)) {
        node->start_waiting += 3;
        node->is_replaced = true;
    } else {
        effects->halt = "start: no memory to store what is missing";
    }
}

void start_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects)
{
    node->start_waiting--;
    if (result->status != STATUS_OK) {
        effects->halt = result->op->kind == STORAGE_SCAN
                            ? "start: what was stored cannot be read; "
                              "--replace sets the disk aside and fills another "
                              "from the other nodes"
                            : "start: what is missing cannot be stored";
        return;
    }
    for (size_t i = 0; i < result->row_count; i++)
        start_row(node, &result->rows[i], effects);
    bool was_scan = result->op->kind == STORAGE_SCAN;
    if (was_scan && !result->done)
        start_scan(node, result->op->key.table, result->next, effects);
    if (node->start_waiting > 0)
        return;
    if (was_scan && (node->config.replace || node->config.amnesiac)) {
        set_in_place(node, effects);
        return;
    }
    moves_found_all(node, effects);
    node->stage = NODE_JOINING;
}

/* A disk that has been ready before is ready at once: the others refuse it
 * should it be older than it was. A new one might be an emptied one, which
 * only they can tell: it waits until a majority has accepted it, however often
 * it is started meanwhile. */
void start_join(struct node *node, struct effects *effects)
{
    size_t count = 1;
    for (size_t i = 0; i < node->topology.node_count; i++)
        count += node->met[i] && topology_is_member(&node->topology, i);
    bool is_new = !node->has_joined || node->config.replace;
    if (is_new && count * 2 <= topology_member_count(&node->topology))
        return;
    node->stage = NODE_READY;
    effects->log = "event=ready";
    /* So that the next start need not wait for them. Lost, it just does. */
    if (!node->has_joined)
        (void)store_yes(META_JOINED, request_number(OWNER_META, 0), effects);
}

static void note_failed(struct node *node, struct node_id id)
{
    int at = topology_node(&node->topology, id);
    if (at >= 0)
        node->has_failed_note[at] = true;
}

void start_store_member(struct node *node, struct node_id id,
                        struct effects *effects)
{
    const struct member *member = membership_find(node->membership, id);
    if (member == NULL || node_id_equal(id, node->self))
        return;
    struct arena *arena = &effects->arena;
    Rkv__Member *wire = member_to_wire(member, arena);
    size_t prefix = sizeof META_MEMBER - 1;
    uint8_t *name = arena_alloc(arena, prefix + NODE_ID_SIZE);
    uint8_t *data =
        wire == NULL ? NULL
                     : arena_alloc(arena, rkv__member__get_packed_size(wire));
    if (name == NULL || data == NULL) {
        note_failed(node, id);
        return;
    }
    memcpy(name, META_MEMBER, prefix);
    memcpy(name + prefix, id.bytes, NODE_ID_SIZE);
    struct storage_op op = {
        .kind = STORAGE_SET,
        .token = request_number(OWNER_META, 0),
        .key = {.table = TABLE_META,
                .key = bytes_of(name, prefix + NODE_ID_SIZE)},
        .data = bytes_of(data, rkv__member__pack(wire, data)),
    };
    if (!effects_storage(effects, &op))
        note_failed(node, id);
}

void start_noted(struct node *node, const struct storage_result *result)
{
    struct bytes name = result->op->key.key;
    size_t prefix = sizeof META_MEMBER - 1;
    struct node_id id;
    if (result->status == STATUS_OK || name.size != prefix + NODE_ID_SIZE ||
        !begins_with(name, META_MEMBER))
        return;
    memcpy(id.bytes, name.data + prefix, NODE_ID_SIZE);
    note_failed(node, id);
}
