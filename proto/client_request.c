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

static enum status pack_write(const struct replikv_request *from,
                              uint32_t timeout_ms, struct request *request)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__Write write = RKV__WRITE__INIT;
    write.bucket = text(from->bucket);
    write.key = binary(from->key);
    write.remove = from->kind == REPLIKV_DELETE;
    if (!write.remove)
        write.value = binary(from->value);
    write.context = binary(from->context);
    write.w = from->level;
    write.request_id = binary(
        replikv_bytes_of(request->result.request_id, REPLIKV_REQUEST_ID_BYTES));
    write.timeout_ms = node_timeout(timeout_ms);
    envelope.version = PROTOCOL_VERSION_MAX;
    envelope.body_case = RKV__ENVELOPE__BODY_WRITE;
    envelope.write = &write;
    request->is_write = true;
    request->reply_case = RKV__ENVELOPE__BODY_WRITE_REPLY;
    return envelope_pack(&envelope, &request->packed);
}

static enum status pack_read(const struct replikv_request *from,
                             uint32_t timeout_ms, struct request *request)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__Read read = RKV__READ__INIT;
    read.bucket = text(from->bucket);
    read.key = binary(from->key);
    read.r = from->level;
    read.timeout_ms = node_timeout(timeout_ms);
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
    envelope.version = PROTOCOL_VERSION_MAX;
    envelope.body_case = RKV__ENVELOPE__BODY_ADMIN;
    envelope.admin = &admin;
    request->reply_case = RKV__ENVELOPE__BODY_ADMIN_REPLY;
    return envelope_pack(&envelope, &request->packed);
}

static enum status pack(const struct replikv_request *from, uint32_t timeout_ms,
                        struct request *request)
{
    switch (from->kind) {
    case REPLIKV_GET:
        return pack_read(from, timeout_ms, request);
    case REPLIKV_PUT:
    case REPLIKV_DELETE:
        return pack_write(from, timeout_ms, request);
    case REPLIKV_LIST:
        return pack_list(from, request);
    case REPLIKV_ADMIN:
        return pack_admin(from, request);
    }
    return STATUS_INVALID;
}

static enum status name_write(const struct replikv_request *from,
                              struct request *request)
{
    uint8_t *id = request->result.request_id;
    if (from->kind != REPLIKV_PUT && from->kind != REPLIKV_DELETE)
        return STATUS_OK;
    if (from->request_id != NULL) {
        memcpy(id, from->request_id, REPLIKV_REQUEST_ID_BYTES);
        return STATUS_OK;
    }
    /* So few bytes come whole or, before the kernel's pool is ready, not at
     * all. */
    ssize_t size;
    do
        size = getrandom(id, REPLIKV_REQUEST_ID_BYTES, 0);
    while (size < 0 && errno == EINTR);
    return size == REPLIKV_REQUEST_ID_BYTES ? STATUS_OK : STATUS_IO;
}

void request_free(struct request *request)
{
    buffer_fini(&request->packed);
    arena_fini(&request->arena);
    free(request);
}

enum status request_new(const struct replikv *client,
                        const struct replikv_request *from,
                        struct request **out, struct error *error)
{
    struct request *request = calloc(1, sizeof(*request));
    if (request == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    uint32_t timeout_ms =
        from->timeout_ms > 0 ? from->timeout_ms : client->options.timeout_ms;
    request->deadline_ms = clock_now_ms() + timeout_ms;
    enum status status = name_write(from, request);
    if (status == STATUS_OK)
        status = pack(from, timeout_ms, request);
    if (status != STATUS_OK)
        error_set(error, status, "the request cannot be made: %s",
                  status == STATUS_INVALID ? "kind is not one of replikv_kind"
                                           : status_name(status));
    else if (request->packed.size + sizeof(request->id) >
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
