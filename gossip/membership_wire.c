/* SPDX-License-Identifier: MIT */
#include "gossip/membership_internal.h"

Rkv__Member *member_to_wire(const struct member *member, struct arena *arena)
{
    Rkv__Member *wire = message_new(arena, &rkv__member__descriptor);
    if (wire == NULL)
        return NULL;
    wire->id.data = arena_copy(arena, member->id.bytes, NODE_ID_SIZE);
    wire->id.len = NODE_ID_SIZE;
    wire->name = arena_string(arena, member->name);
    wire->zone = arena_string(arena, member->zone);
    wire->peer_address = arena_string(arena, member->peer_address);
    wire->client_address = arena_string(arena, member->client_address);
    wire->incarnation = member->incarnation;
    wire->state = (Rkv__MemberState)member->state;
    wire->boot = member->boot;
    wire->run = member->run;
    wire->store_id.data =
        arena_copy(arena, member->store.bytes, sizeof member->store.bytes);
    wire->store_id.len = sizeof member->store.bytes;
    wire->version_min = member->version_min;
    wire->version_max = member->version_max;
    if (wire->id.data == NULL || wire->name == NULL || wire->zone == NULL ||
        wire->peer_address == NULL || wire->client_address == NULL ||
        wire->store_id.data == NULL)
        return NULL;
    return wire;
}

static enum status copy_text(const char *from, char *to, size_t max,
                             const char *field, struct error *error)
{
    size_t size = from == NULL ? 0 : strlen(from);
    if (size > max)
        return error_set(error, STATUS_INVALID,
                         "member.%s has %zu bytes, the limit is %zu", field,
                         size, max);
    /* It ends up in logs and terminals. */
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)from[i] < ' ' || from[i] == 0x7f)
            return error_set(error, STATUS_INVALID,
                             "member.%s contains a control character", field);
    if (size > 0)
        memcpy(to, from, size);
    to[size] = '\0';
    return STATUS_OK;
}

static enum status copy_texts(const Rkv__Member *wire, struct member *member,
                              struct error *error)
{
    enum status status =
        copy_text(wire->name, member->name, NODE_NAME_MAX, "name", error);
    if (status == STATUS_OK)
        status =
            copy_text(wire->zone, member->zone, ZONE_NAME_MAX, "zone", error);
    if (status == STATUS_OK)
        status = copy_text(wire->peer_address, member->peer_address,
                           ADDRESS_MAX, "peer_address", error);
    if (status == STATUS_OK)
        status = copy_text(wire->client_address, member->client_address,
                           ADDRESS_MAX, "client_address", error);
    if (status == STATUS_OK && member->name[0] == '\0')
        status = error_set(error, STATUS_INVALID, "member.name is empty");
    return status;
}

enum status member_from_wire(const Rkv__Member *wire, struct member *member,
                             struct error *error)
{
    memset(member, 0, sizeof *member);
    if (wire->id.len != NODE_ID_SIZE)
        return error_set(error, STATUS_INVALID,
                         "member.id has %zu bytes instead of %d", wire->id.len,
                         NODE_ID_SIZE);
    memcpy(member->id.bytes, wire->id.data, NODE_ID_SIZE);
    if (node_id_is_zero(member->id))
        return error_set(error, STATUS_INVALID, "member.id is zero");
    if (wire->store_id.len != 0 &&
        wire->store_id.len != sizeof member->store.bytes)
        return error_set(error, STATUS_INVALID,
                         "member.store_id has %zu bytes instead of %zu",
                         wire->store_id.len, sizeof member->store.bytes);
    if (wire->store_id.len != 0)
        memcpy(member->store.bytes, wire->store_id.data, wire->store_id.len);
    /* proto3 keeps unknown numbers of an enum. */
    if ((unsigned)wire->state > MEMBER_LEFT)
        return error_set(error, STATUS_INVALID, "member.state %u is not known",
                         (unsigned)wire->state);
    if (wire->incarnation > INCARNATION_MAX)
        return error_set(error, STATUS_INVALID,
                         "member.incarnation %u is above %d", wire->incarnation,
                         INCARNATION_MAX);
    member->state = (enum member_state)wire->state;
    member->incarnation = wire->incarnation;
    member->boot = wire->boot;
    member->run = wire->run;
    member->version_min = wire->version_min;
    member->version_max = wire->version_max;
    return copy_texts(wire, member, error);
}
