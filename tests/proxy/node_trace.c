/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

#include <stdio.h>

static void say(struct fixture *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(struct fixture *f, const char *format, ...)
{
    va_list arguments;
    if (f->is_quiet)
        return;
    size_t room = sizeof f->trace - f->trace_size;
    va_start(arguments, format);
    int size = vsnprintf(f->trace + f->trace_size, room, format, arguments);
    va_end(arguments);
    assert_true(size >= 0 && (size_t)size < room);
    f->trace_size += (size_t)size;
}

/* Before each effect: the line of its cause, or a comma. */
static void begin(struct fixture *f)
{
    if (f->cause[0] == '\0')
        say(f, ", ");
    else
        say(f, "[%3d] %s -> ", (int)f->now_ms, f->cause);
    f->cause[0] = '\0';
}

static void say_target(struct fixture *f, struct bytes target)
{
    struct node_id id;
    if (target.size != NODE_ID_SIZE)
        return;
    memcpy(id.bytes, target.data, NODE_ID_SIZE);
    if (!node_id_is_zero(id))
        say(f, " for n%d", number_of(f, id));
}

static void say_key(struct fixture *f, const struct storage_key *key)
{
    struct bytes name = key->key;
    if (key->table == TABLE_META && name.size == 7 + NODE_ID_SIZE) {
        struct node_id id;
        memcpy(id.bytes, name.data + 7, NODE_ID_SIZE);
        say(f, "n%d", number_of(f, id));
        return;
    }
    say(f, "%.*s", (int)name.size, (const char *)name.data);
    if (key->table == TABLE_HINTS)
        say_target(f, bytes_of(key->target.bytes, NODE_ID_SIZE));
}

static void say_scan(struct fixture *f, const struct storage_op *op)
{
    say(f, "scan %s",
        op->key.table == TABLE_DATA    ? "data"
        : op->key.table == TABLE_HINTS ? "hints"
                                       : "meta");
    if (op->key.table == TABLE_HINTS)
        say_target(f, bytes_of(op->key.target.bytes, NODE_ID_SIZE));
    if (op->after.size > 0)
        say(f, " on");
}

void trace_op(struct fixture *f, const struct storage_op *op)
{
    static const char *const names[] = {"coordinate", "merge",   "read", "scan",
                                        "drop",       "collect", "set"};
    begin(f);
    if (op->kind == STORAGE_SCAN) {
        say_scan(f, op);
        return;
    }
    bool mends = op->kind == STORAGE_MERGE && op->mends;
    say(f, "%s ", mends ? "mend" : names[op->kind]);
    say_key(f, &op->key);
}

void trace_request(struct fixture *f, struct node_id to,
                   const Rkv__Envelope *message)
{
    const char *name = NULL;
    ProtobufCBinaryData target = {0, NULL};
    if (message->body_case == RKV__ENVELOPE__BODY_STORE) {
        name = "store";
        target = message->store->target;
    } else if (message->body_case == RKV__ENVELOPE__BODY_FETCH) {
        name = "fetch";
    } else if (message->body_case == RKV__ENVELOPE__BODY_WRITE) {
        name = "forward";
    } else if (message->body_case == RKV__ENVELOPE__BODY_LIST) {
        name = "list";
    } else if (message->body_case == RKV__ENVELOPE__BODY_SCAN) {
        name = message->scan->after.len > 0 ? "scan on" : "scan";
    } else if (message->body_case == RKV__ENVELOPE__BODY_TREES) {
        begin(f);
        say(f, "trees %u: %zu n%d", message->trees->level,
            message->trees->n_nodes, number_of(f, to));
        return;
    } else if (message->body_case == RKV__ENVELOPE__BODY_HANDOFF) {
        begin(f);
        say(f, "handoff %zu n%d", message->handoff->n_rows, number_of(f, to));
        return;
    } else if (message->body_case == RKV__ENVELOPE__BODY_COLLECT) {
        begin(f);
        say(f, "collect %zu n%d", message->collect->n_rows, number_of(f, to));
        return;
    } else if (message->body_case == RKV__ENVELOPE__BODY_DRAIN) {
        name = "drain";
    } else if (message->body_case == RKV__ENVELOPE__BODY_BARRIER) {
        name = "barrier";
    } else if (message->body_case == RKV__ENVELOPE__BODY_CLOCK) {
        name = "clock";
    } else if (message->body_case == RKV__ENVELOPE__BODY_TOPOLOGY) {
        name = "topology";
    } else if (message->body_case == RKV__ENVELOPE__BODY_AGREE) {
        name = message->agree->decree == NULL ? "prepare" : "accept";
    }
    assert_non_null(name);
    begin(f);
    say(f, "%s n%d", name, number_of(f, to));
    say_target(f, bytes_of_binary(target));
}

static void say_result(struct fixture *f, const Rkv__Result *result)
{
    static const char *const outcomes[] = {"", " applied", " not_applied",
                                           " unknown"};
    assert_non_null(result);
    say(f, "%s%s", status_name((enum status)result->status),
        outcomes[result->outcome]);
    if (result->need > 0)
        say(f, " %u/%u", result->got, result->need);
    if (result->retry_after_ms > 0)
        say(f, " retry");
}

/* The beginnings of values. */
static void say_values(struct fixture *f, const Rkv__ReadReply *reply)
{
    for (size_t i = 0; i < reply->n_values; i++) {
        struct bytes value = bytes_of_binary(reply->values[i]);
        say(f, "%s%.*s", i == 0 ? " " : "|",
            value.size > 16 ? 16 : (int)value.size, (const char *)value.data);
    }
}

void trace_reply(struct fixture *f, uint64_t token, const Rkv__Envelope *reply)
{
    begin(f);
    say(f, "reply %d ", (int)token);
    switch ((int)reply->body_case) {
    case RKV__ENVELOPE__BODY_RESULT:
        say_result(f, reply->result);
        break;
    case RKV__ENVELOPE__BODY_WRITE_REPLY:
        say_result(f, reply->write_reply->result);
        break;
    case RKV__ENVELOPE__BODY_READ_REPLY:
        say_result(f, reply->read_reply->result);
        say_values(f, reply->read_reply);
        break;
    case RKV__ENVELOPE__BODY_LIST_REPLY:
        say_result(f, reply->list_reply->result);
        say(f, " items %zu%s", reply->list_reply->n_items,
            reply->list_reply->done ? " done" : "");
        break;
    case RKV__ENVELOPE__BODY_ADMIN_REPLY:
        say_result(f, reply->admin_reply->result);
        break;
    case RKV__ENVELOPE__BODY_STORE_REPLY:
        say(f, "%s", status_name((enum status)reply->store_reply->status));
        break;
    case RKV__ENVELOPE__BODY_FETCH_REPLY:
        say(f, "%s", status_name((enum status)reply->fetch_reply->status));
        break;
    case RKV__ENVELOPE__BODY_SCAN_REPLY:
        say(f, "%s rows %zu%s",
            status_name((enum status)reply->scan_reply->status),
            reply->scan_reply->n_rows, reply->scan_reply->done ? " done" : "");
        break;
    case RKV__ENVELOPE__BODY_HANDOFF_REPLY:
        say(f, "%s", status_name((enum status)reply->handoff_reply->status));
        break;
    case RKV__ENVELOPE__BODY_HELLO_REPLY:
        say(f, "%s", status_name((enum status)reply->hello_reply->status));
        break;
    default:
        say(f, "body %d", (int)reply->body_case);
    }
}

void trace_word(struct fixture *f, const char *word)
{
    begin(f);
    say(f, "%s", word);
}

void trace_end(struct fixture *f)
{
    if (f->cause[0] == '\0')
        say(f, "\n");
    f->cause[0] = '\0';
}

void expect_trace(struct fixture *f, const char *trace)
{
    f->trace[f->trace_size] = '\0';
    assert_string_equal(f->trace, trace);
    f->trace_size = 0;
}
