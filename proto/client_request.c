/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proto/client_internal.h"

static ProtobufCBinaryData binary(struct replikv_bytes bytes)
{
    return binary_of_bytes(bytes_of(bytes.data, bytes.size));
}

/* protobuf-c wants what it only reads without const. */
static char *text(const char *string)
{
    union {
        const char *in;
        char *out;
    } cast = {.in = string == NULL ? "" : string};
    return cast.out;
}

/* A node is told a tenth less than we wait, so that what it knows at its
 * deadline still reaches us. */
static uint32_t node_timeout(uint32_t timeout_ms)
{
    return timeout_ms - timeout_ms / 10;
}

Rkv__Write client_write_of(const struct replikv_request *from,
                           uint32_t timeout_ms, const uint8_t *id)
{
    Rkv__Write write = RKV__WRITE__INIT;
    write.bucket = text(from->bucket);
    write.key = binary(from->key);
    write.remove = from->kind == REPLIKV_DELETE;
    if (!write.remove) {
        write.value = binary(from->value);
        write.ttl_ms = from->ttl_ms;
    }
    write.context = binary(from->context);
    write.w = from->level;
    write.request_id = binary(replikv_bytes_of(id, REPLIKV_REQUEST_ID_BYTES));
    write.timeout_ms = node_timeout(timeout_ms);
    return write;
}

Rkv__Read client_read_of(const struct replikv_request *from,
                         uint32_t timeout_ms)
{
    Rkv__Read read = RKV__READ__INIT;
    read.bucket = text(from->bucket);
    read.key = binary(from->key);
    read.r = from->level;
    read.timeout_ms = node_timeout(timeout_ms);
    read.context = binary(from->context);
    return read;
}

static enum status pack_write(const struct replikv_request *from,
                              uint32_t timeout_ms, struct request *request)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__Write write =
        client_write_of(from, timeout_ms, request->result.request_id);
    envelope.version = PROTOCOL_VERSION_MAX;
    envelope.body_case = RKV__ENVELOPE__BODY_WRITE;
    envelope.write = &write;
    request->reply_case = RKV__ENVELOPE__BODY_WRITE_REPLY;
    return envelope_pack(&envelope, &request->packed);
}

static enum status pack_read(const struct replikv_request *from,
                             uint32_t timeout_ms, struct request *request)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__Read read = client_read_of(from, timeout_ms);
    envelope.version = PROTOCOL_VERSION_MAX;
    envelope.body_case = RKV__ENVELOPE__BODY_READ;
    envelope.read = &read;
    request->reply_case = RKV__ENVELOPE__BODY_READ_REPLY;
    return envelope_pack(&envelope, &request->packed);
}

static enum status pack_list(const struct replikv_request *from,
                             struct request *request)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__List list = RKV__LIST__INIT;
    list.partition = from->partition;
    list.after = binary(from->after);
    list.max_bytes = from->bytes_max;
    envelope.version = PROTOCOL_VERSION_MAX;
    envelope.body_case = RKV__ENVELOPE__BODY_LIST;
    envelope.list = &list;
    request->reply_case = RKV__ENVELOPE__BODY_LIST_REPLY;
    return envelope_pack(&envelope, &request->packed);
}

static enum status pack_admin(const struct replikv_request *from,
                              struct request *request)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__Admin admin = RKV__ADMIN__INIT;
    admin.what = (Rkv__Admin__What)from->what;
    admin.bucket = text(from->bucket);
    admin.key = binary(from->key);
    admin.partition = from->partition;
    admin.after = binary(from->after);
    admin.one_partition = from->one_partition;
    admin.full = from->full;
    admin.node = text(from->node);
    admin.lost = from->lost;
    admin.commit = from->commit;
    envelope.version = PROTOCOL_VERSION_MAX;
    envelope.body_case = RKV__ENVELOPE__BODY_ADMIN;
    envelope.admin = &admin;
    request->reply_case = RKV__ENVELOPE__BODY_ADMIN_REPLY;
    return envelope_pack(&envelope, &request->packed);
}

static enum status pack(const struct replikv_request *from, uint32_t timeout_ms,
                        struct request *request, struct error *error)
{
    enum status status = STATUS_INVALID;
    const char *why = "kind is not one of replikv_kind";
    switch (from->kind) {
    case REPLIKV_GET:
        status = pack_read(from, timeout_ms, request);
        break;
    case REPLIKV_PUT:
    case REPLIKV_DELETE:
        status = pack_write(from, timeout_ms, request);
        break;
    case REPLIKV_LIST:
        status = pack_list(from, request);
        break;
    case REPLIKV_ADMIN:
        status = pack_admin(from, request);
        break;
    case REPLIKV_BATCH:
        return client_batch_pack(from, timeout_ms, request, error);
    }
    request->payload = buffer_bytes(&request->packed);
    if (status == STATUS_OK)
        return STATUS_OK;
    return error_set(error, status, "the request cannot be made: %s",
                     status == STATUS_INVALID ? why : status_name(status));
}

bool client_is_write(const struct replikv_request *from)
{
    if (from->kind != REPLIKV_BATCH)
        return from->kind == REPLIKV_PUT || from->kind == REPLIKV_DELETE;
    for (size_t i = 0; i < from->request_count; i++)
        if (from->requests[i].kind != REPLIKV_GET)
            return true;
    return false;
}

static enum status draw(struct names *names)
{
    size_t count = sizeof names->drawn / sizeof *names->drawn;
    if (names->wanted < count)
        count = names->wanted;
    /* So few bytes come whole or, before the kernel's pool is ready, not at
     * all. */
    ssize_t wanted = (ssize_t)(count * sizeof *names->drawn);
    ssize_t size;
    do
        size = getrandom(names->drawn, (size_t)wanted, 0);
    while (size < 0 && errno == EINTR);
    names->left = count;
    return size == wanted ? STATUS_OK : STATUS_IO;
}

enum status client_name(struct names *names, const struct replikv_request *from,
                        uint8_t *id)
{
    if (from->kind != REPLIKV_PUT && from->kind != REPLIKV_DELETE)
        return STATUS_OK;
    if (from->request_id != NULL) {
        memcpy(id, from->request_id, REPLIKV_REQUEST_ID_BYTES);
        return STATUS_OK;
    }
    if (names->left == 0) {
        enum status status = draw(names);
        if (status != STATUS_OK)
            return status;
    }
    memcpy(id, names->drawn[--names->left], REPLIKV_REQUEST_ID_BYTES);
    return STATUS_OK;
}

void request_free(struct request *request)
{
    client_batch_free(request->batch);
    buffer_fini(&request->packed);
    arena_fini(&request->arena);
    free(request);
}

enum status request_new(const struct replikv *client,
                        const struct replikv_request *from,
                        struct request **out, struct error *error)
{
    struct request *request = calloc(1, sizeof(*request));
    struct names names = {.wanted = 1};
    if (request == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    uint32_t timeout_ms =
        from->timeout_ms > 0 ? from->timeout_ms : client->options.timeout_ms;
    request->deadline_ms = clock_now_ms() + timeout_ms;
    request->weight = 1;
    request->is_write = client_is_write(from);
    enum status status = client_name(&names, from, request->result.request_id);
    if (status != STATUS_OK)
        error_set(error, status, "the system gives no random numbers");
    else
        status = pack(from, timeout_ms, request, error);
    if (status == STATUS_OK && request->packed.size + sizeof(request->id) >
                                   client->options.message_bytes_max)
        status =
            error_set(error, STATUS_TOO_LARGE,
                      "request: %zu bytes, message_bytes_max is %zu",
                      request->packed.size, client->options.message_bytes_max);
    if (status == STATUS_OK)
        *out = request;
    else
        request_free(request);
    return status;
}
