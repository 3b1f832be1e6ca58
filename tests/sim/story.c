/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <stdio.h>

#include "replay.h"

enum { SHOWN_BYTES_MAX = 48 };

static const char *const kinds[] = {
    [EVENT_TICK] = "tick",
    [EVENT_CLIENT_REQUEST] = "a client asks",
    [EVENT_PEER_REQUEST] = "asks",
    [EVENT_HELLO] = "hello",
    [EVENT_HELLO_REPLY] = "answer to our hello",
    [EVENT_REPLY] = "answers",
    [EVENT_NO_REPLY] = "no answer from",
    [EVENT_PREPARED] = "prepared",
    [EVENT_STORED] = "stored",
    [EVENT_REOPENED] = "the engine is open again",
    [EVENT_LEAVE] = "leave",
};

static const char *const operations[] = {
    [STORAGE_COORDINATE] = "coordinate",
    [STORAGE_MERGE] = "merge",
    [STORAGE_READ] = "read",
    [STORAGE_SCAN] = "scan",
    [STORAGE_DROP] = "drop",
    [STORAGE_COLLECT] = "collect",
    [STORAGE_SET] = "set",
};

/* What is no plain character could be an order to the terminal. */
static void print_escaped(struct bytes bytes)
{
    for (size_t i = 0; i < bytes.size; i++)
        if (isprint(bytes.data[i]))
            putchar(bytes.data[i]);
        else
            printf("\\x%02x", bytes.data[i]);
}

void story_text(const char *before, const char *text)
{
    printf("%s", before);
    print_escaped(bytes_of_string(text));
}

static void print_bytes(struct bytes bytes)
{
    bool is_long = bytes.size > SHOWN_BYTES_MAX;
    printf(" \"");
    print_escaped(is_long ? bytes_of(bytes.data, SHOWN_BYTES_MAX) : bytes);
    printf("%s\"", is_long ? "..." : "");
}

static void print_node(const struct topology *topology, struct node_id id)
{
    int at = topology == NULL ? -1 : topology_node(topology, id);
    if (at >= 0)
        story_text(" ", topology->nodes[at].name);
    else
        printf(" node %02x%02x%02x%02x", id.bytes[0], id.bytes[1], id.bytes[2],
               id.bytes[3]);
}

/* Its body's name and, if that has one, key. */
static void print_message(const Rkv__Envelope *message)
{
    const ProtobufCFieldDescriptor *body =
        protobuf_c_message_descriptor_get_field(&rkv__envelope__descriptor,
                                                (unsigned)message->body_case);
    if (body == NULL)
        return;
    printf(" %s", body->name);
    const ProtobufCMessageDescriptor *type = body->descriptor;
    const ProtobufCFieldDescriptor *key =
        protobuf_c_message_descriptor_get_field_by_name(type, "key");
    const ProtobufCMessage *content;
    memcpy(&content, (const uint8_t *)message + body->offset, sizeof content);
    if (key == NULL || key->type != PROTOBUF_C_TYPE_BYTES || content == NULL)
        return;
    ProtobufCBinaryData data;
    memcpy(&data, (const uint8_t *)content + key->offset, sizeof data);
    if (data.len > 0)
        print_bytes(bytes_of_binary(data));
}

static void print_operation(const struct storage_op *op)
{
    printf(" %s %c", operations[op->kind], (char)op->key.table);
    if (op->key.table != TABLE_META)
        printf("/%u", op->key.partition.value);
    if (op->key.key.size > 0)
        print_bytes(op->key.key);
}

void story_event(const struct topology *topology, const struct event *event)
{
    bool has_sender =
        event->kind == EVENT_PEER_REQUEST || event->kind == EVENT_REPLY;
    if (has_sender)
        print_node(topology, event->from);
    printf(" %s", kinds[event->kind]);
    if (event->kind == EVENT_NO_REPLY)
        print_node(topology, event->from);
    if (event->message != NULL)
        print_message(event->message);
    if (event->storage == NULL)
        return;
    print_operation(event->storage->op);
    if (event->storage->status != STATUS_OK)
        printf(" %s", status_name(event->storage->status));
    if (event->storage->row_count > 0)
        printf(", %zu rows", event->storage->row_count);
}

void story_effects(const struct topology *topology,
                   const struct effects *effects)
{
    const char *before = " ->";
    for (size_t i = 0; i < effects->out.count; i++) {
        const struct message_out *message = &effects->out.messages[i];
        printf("%s", before);
        print_message(message->envelope);
        if (message->kind == MESSAGE_REPLY)
            printf(" as the answer");
        else if (message->address != NULL)
            story_text(" to ", message->address);
        else
            printf(" to");
        if (message->kind == MESSAGE_REQUEST && message->address == NULL)
            print_node(topology, message->to);
        before = ",";
    }
    for (size_t i = 0; i < effects->storage_count; i++) {
        printf("%s", before);
        print_operation(&effects->storage[i]);
        before = ",";
    }
    if (effects->log != NULL) {
        printf("%s", before);
        story_text(" says ", effects->log);
    }
    if (effects->halt != NULL) {
        printf("%s", before);
        story_text(" halts: ", effects->halt);
    }
}
