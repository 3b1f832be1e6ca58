/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/core/node_internal.h"

/* First contact: who may talk to whom. The listener judges the dialer's Hello
 * and answers with its own, which the dialer judges in turn.
 *
 * INVALID: the two are configured for different clusters; a node that is up
 * goes on without the other. REFUSED: the dialer's disk is older or emptied or
 * its name is taken; it must not go on. UNAVAILABLE: not now.
 *
 * Only the listener's word that it accepts us counts as having met it: an
 * emptied node is dialled by those who do not know yet that it is one. */

/* What the cluster id is made from, so that a difference can be named. */
static void describe_founding(const struct node *node, char *out, size_t size)
{
    const struct topology *topology = &node->topology;
    int used = snprintf(out, size, "partitions=%u replicas=%u founders=",
                        topology->partitions, topology->replicas);
    for (size_t i = 0; i < topology->node_count; i++) {
        const struct placement_node *founder = &topology->nodes[i];
        if (used < 0 || (size_t)used >= size)
            return;
        used += snprintf(out + used, size - (size_t)used, "%s%s@%s",
                         i == 0 ? "" : ",", founder->name, founder->zone);
    }
}

static bool add_buckets(const struct node *node, Rkv__Hello *hello,
                        struct arena *arena)
{
    hello->buckets =
        arena_alloc(arena, node->config.bucket_count * sizeof *hello->buckets);
    for (size_t i = 0; i < node->config.bucket_count; i++) {
        const struct bucket_config *bucket = &node->config.buckets[i];
        Rkv__BucketDeclaration *wire =
            message_new(arena, &rkv__bucket_declaration__descriptor);
        if (hello->buckets == NULL || wire == NULL)
            return false;
        wire->name = arena_string(arena, bucket->name);
        wire->kind = arena_string(
            arena, bucket->kind == RECORD_LWW ? "lww" : "siblings");
        hello->buckets[hello->n_buckets++] = wire;
    }
    return true;
}

static bool add_starts(const struct node *node, Rkv__Hello *hello,
                       struct arena *arena)
{
    const struct disk_starts *starts = &node->config.starts;
    hello->starts =
        arena_alloc(arena, (starts->count + 1) * sizeof *hello->starts);
    for (size_t i = 0; i < starts->count; i++) {
        Rkv__DiskStart *wire = message_new(arena, &rkv__disk_start__descriptor);
        if (hello->starts == NULL || wire == NULL)
            return false;
        wire->boot = starts->list[i].boot;
        wire->run = starts->list[i].run;
        hello->starts[hello->n_starts++] = wire;
    }
    return true;
}

static Rkv__Hello *hello_new(const struct node *node, enum lane lane,
                             struct arena *arena)
{
    Rkv__Hello *hello = message_new(arena, &rkv__hello__descriptor);
    if (hello == NULL || !add_buckets(node, hello, arena) ||
        !add_starts(node, hello, arena))
        return NULL;
    char founding[1024];
    describe_founding(node, founding, sizeof founding);
    hello->cluster = arena_string(arena, node->config.founding.cluster);
    hello->cluster_id = node->topology.cluster_id;
    hello->self = member_to_wire(membership_self(node->membership), arena);
    hello->lane = lane;
    hello->replace = node->config.replace;
    hello->replaced = node->is_replaced;
    hello->founding = arena_string(arena, founding);
    return hello->self == NULL ? NULL : hello;
}

Rkv__Envelope *node_hello(const struct node *node, enum lane lane,
                          struct arena *arena)
{
    Rkv__Hello *hello = hello_new(node, lane, arena);
    return hello == NULL
               ? NULL
               : envelope_new(arena, RKV__ENVELOPE__BODY_HELLO, hello);
}

static enum status check_cluster(const struct node *node,
                                 const Rkv__Hello *hello, struct error *error)
{
    char founding[1024];
    if (strcmp(hello->cluster, node->config.founding.cluster) != 0)
        return error_set(error, STATUS_INVALID,
                         "cluster.name: this is \"%.64s\", the other node is "
                         "of \"%.64s\"",
                         node->config.founding.cluster, hello->cluster);
    if (hello->cluster_id == node->topology.cluster_id)
        return STATUS_OK;
    describe_founding(node, founding, sizeof founding);
    return error_set(error, STATUS_INVALID,
                     "cluster: founded otherwise: here %.120s; there %.120s",
                     founding, hello->founding);
}

static enum status check_buckets(const struct node *node,
                                 const Rkv__Hello *hello, struct error *error)
{
    for (size_t i = 0; i < hello->n_buckets; i++) {
        const Rkv__BucketDeclaration *theirs = hello->buckets[i];
        const struct bucket_config *ours =
            node_bucket(node, bucket_id_of(theirs->name));
        if (ours == NULL)
            continue;
        const char *kind = ours->kind == RECORD_LWW ? "lww" : "siblings";
        if (strcmp(kind, theirs->kind) != 0)
            return error_set(error, STATUS_INVALID,
                             "buckets.%.64s.kind: here %s, there %.32s; all "
                             "nodes must declare the same",
                             ours->name, kind, theirs->kind);
    }
    return STATUS_OK;
}

static enum status check_membership(const struct node *node,
                                    const struct member *who,
                                    struct error *error)
{
    int at = topology_node(&node->topology, who->id);
    if (at < 0 || topology_is_member(&node->topology, (size_t)at))
        return STATUS_OK;
    return error_set(error, STATUS_REFUSED,
                     "%s has left the cluster: it is not to be started again",
                     who->name);
}

static enum status check(const struct node *node, const Rkv__Hello *hello,
                         struct member *who, struct error *error)
{
    enum status status = hello->self == NULL
                             ? error_set(error, STATUS_INVALID,
                                         "hello: it does not say who it is of")
                             : member_from_wire(hello->self, who, error);
    if (status == STATUS_OK)
        status = check_cluster(node, hello, error);
    if (status == STATUS_OK && (who->version_min > PEER_VERSION_MAX ||
                                who->version_max < PEER_VERSION_MIN))
        status = error_set(error, STATUS_INVALID,
                           "protocol: here %d to %d, there %u to %u",
                           PEER_VERSION_MIN, PEER_VERSION_MAX, who->version_min,
                           who->version_max);
    if (status == STATUS_OK)
        status = check_buckets(node, hello, error);
    if (status == STATUS_OK)
        status = check_membership(node, who, error);
    return status;
}

static struct disk_claim claim_of(const Rkv__Hello *hello)
{
    struct disk_claim claim = {
        .replaced = hello->replace    ? REPLACED_NOW
                    : hello->replaced ? REPLACED_BEFORE
                                      : REPLACED_NEVER,
    };
    for (size_t i = 0; i < hello->n_starts; i++)
        disk_starts_add(&claim.starts, hello->starts[i]->boot,
                        hello->starts[i]->run);
    return claim;
}

/* What a start that is refused as an older one is to be below. */
static uint64_t known_boot(const struct node *node, const struct member *who,
                           const Rkv__Hello *hello)
{
    const struct member *known = membership_find(node->membership, who->id);
    if (known == NULL)
        return 0;
    struct disk_claim claim = claim_of(hello);
    bool is_copy = who->boot > known->boot &&
                   disk_starts_deny(&claim.starts, known->boot, known->run);
    return is_copy ? who->boot : known->boot;
}

/* Whether the node may be talked to at all. */
static enum status judge(const struct node *node, const Rkv__Hello *hello,
                         struct member *who, struct error *error)
{
    /* What is remembered of whom is not read yet: all would be accepted. */
    if (node->stage == NODE_STARTING)
        return error_set(error, STATUS_UNAVAILABLE,
                         "the node is starting: it has not read its disk yet");
    enum status status = check(node, hello, who, error);
    if (status != STATUS_OK)
        return status;
    struct disk_claim claim = claim_of(hello);
    return membership_check(node->membership, who, &claim, error);
}

/* One that the dialer has given up may be heard late, and what it carries is
 * older than what came since: behind a later one of its lane it is refused. */
static bool is_latest(struct node *node, const struct member *who,
                      const Rkv__Hello *hello)
{
    int at = topology_node(&node->topology, who->id);
    if (at < 0 || hello->lane >= LANE_COUNT)
        return true;
    struct heard_session *heard = &node->heard[at][hello->lane];
    if (heard->run == who->run && hello->session <= heard->number)
        return false;
    *heard = (struct heard_session){.run = who->run, .number = hello->session};
    return true;
}

/* Ourselves under another spelling of our address, too: that is nobody. */
static bool is_other(const struct node *node, const struct member *who)
{
    return !node_id_equal(who->id, node->self);
}

void hello_heard(struct node *node, const struct event *event,
                 struct effects *effects)
{
    struct arena *arena = &effects->arena;
    struct member who;
    struct error error = {.status = STATUS_OK};
    const Rkv__Envelope *message = event->message;
    enum status status = message->body_case == RKV__ENVELOPE__BODY_HELLO
                             ? judge(node, message->hello, &who, &error)
                             : error_set(&error, STATUS_INVALID,
                                         "hello: another message came first");
    Rkv__HelloReply *reply = message_new(arena, &rkv__hello_reply__descriptor);
    if (reply == NULL) {
        outbox_reply(&effects->out, event->token, NULL);
        return;
    }
    /* A Hello that is refused was read: it is who it was of that is. */
    if (status == STATUS_OK || status == STATUS_REFUSED)
        reply->known_boot = known_boot(node, &who, message->hello);
    if (status == STATUS_OK && is_other(node, &who) &&
        !is_latest(node, &who, message->hello))
        status = error_set(&error, STATUS_UNAVAILABLE,
                           "a later connection of this lane was heard of");
    if (status != STATUS_OK)
        node_count(node, COUNTER_HELLOS_REFUSED);
    else if (is_other(node, &who))
        membership_met(node->membership, node->now_ms, &who);
    reply->status = (Rkv__Status)status;
    if (status != STATUS_OK)
        reply->message = arena_string(arena, error.text);
    reply->version = PEER_VERSION_MAX;
    if (status == STATUS_OK && who.version_max < PEER_VERSION_MAX)
        reply->version = who.version_max;
    reply->hello = hello_new(node, LANE_CONTROL, arena);
    reply_with(effects, event->token, RKV__ENVELOPE__BODY_HELLO_REPLY, reply);
}

static void store_meta(const char *name, struct bytes value,
                       struct effects *effects)
{
    (void)effects_meta(effects, name, request_number(OWNER_META, 0), value);
}

/* Under replace the disk may show less than the others remember of it: it is to
 * show more. They are told when that is on disk, not before: a start after a
 * crash would show what they had seen in another run. */
static void raise_boot(struct node *node, struct effects *effects)
{
    if (!node->config.replace || node->boot_storing != 0 ||
        node->boot_known < membership_self(node->membership)->boot)
        return;
    node->boot_storing = node->boot_known + 1;
    struct disk_starts *starts = &node->config.starts;
    starts->count = 0; /* they were of what is remembered of another disk */
    disk_starts_add(starts, node->boot_storing, node->config.self.run);
    store_meta(META_STARTS, disk_starts_bytes(starts), effects);
    store_meta(META_BOOT,
               bytes_of(&node->boot_storing, sizeof node->boot_storing),
               effects);
}

void hello_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects)
{
    uint64_t boot = node->boot_storing;
    start_noted(node, result);
    if (boot == 0 ||
        !bytes_equal(result->op->key.key, bytes_of_string(META_BOOT)))
        return;
    node->boot_storing = 0;
    /* Otherwise the next one that we meet has us try again. */
    if (result->status != STATUS_OK)
        return;
    membership_raise_boot(node->membership, boot);
    raise_boot(node, effects);
}

static void say(const char *event, const char *why, struct effects *effects)
{
    size_t size = strlen(event) + strlen(why) + sizeof "event= why=\"\"";
    char *line = arena_alloc(&effects->arena, size);
    if (line == NULL)
        return;
    snprintf(line, size, "event=%s why=\"%s\"", event, why);
    effects->log = line;
}

static void refused(struct node *node, const Rkv__HelloReply *reply,
                    struct effects *effects)
{
    /* A start that was refused does not count: a service manager that tries
     * again and again would count past what the others remember. */
    uint64_t boot = membership_self(node->membership)->boot;
    uint64_t before = boot - 1;
    if (reply->status == RKV__STATUS__REFUSED && reply->known_boot >= boot)
        store_meta(META_BOOT, bytes_of(&before, sizeof before), effects);
    bool is_final =
        reply->status == RKV__STATUS__REFUSED ||
        (reply->status == RKV__STATUS__INVALID && node->stage != NODE_READY);
    if (is_final)
        effects->halt = arena_string(&effects->arena, reply->message);
    else
        say("refused", reply->message, effects);
}

void hello_answered(struct node *node, const struct event *event,
                    struct effects *effects)
{
    const Rkv__Envelope *message = event->message;
    struct member who;
    struct error error;
    if (message == NULL ||
        message->body_case != RKV__ENVELOPE__BODY_HELLO_REPLY)
        return;
    const Rkv__HelloReply *reply = message->hello_reply;
    if (reply->status != RKV__STATUS__OK) {
        refused(node, reply, effects);
        return;
    }
    enum status status =
        reply->hello == NULL
            ? error_set(&error, STATUS_INVALID, "hello: it does not say whose")
            : judge(node, reply->hello, &who, &error);
    if (status != STATUS_OK) {
        node_count(node, COUNTER_HELLOS_REFUSED);
        effects->hang_up = true;
        say("hello_refused", error.text, effects);
        return;
    }
    if (!is_other(node, &who))
        return;
    if (reply->known_boot > node->boot_known)
        node->boot_known = reply->known_boot;
    raise_boot(node, effects);
    membership_met(node->membership, node->now_ms, &who);
    int founder = topology_node(&node->topology, who.id);
    if (founder >= 0)
        node->met[founder] = true;
}
