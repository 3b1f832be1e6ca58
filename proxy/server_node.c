/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proxy/crash.h"
#include "proxy/log.h"
#include "proxy/server_internal.h"

/* How soon a node that starts is met: well under the second in which it should
 * be ready. */
enum { JOIN_INTERVAL_MS = 200 };

enum status server_draw(void *bytes, size_t size, struct error *error)
{
    if (getrandom(bytes, size, 0) == (ssize_t)size)
        return STATUS_OK;
    return error_set(error, STATUS_IO, "the system gives no random numbers");
}

enum status server_meta_failed(enum status status, const char *what,
                               const struct config *config, struct error *error)
{
    return error_set(error, status, "cannot %s in %s: %s", what,
                     config->data_dir, status_name(status));
}

/* The disk's id, drawn when it is first used. */
static enum status read_store(struct server *server, struct member *self,
                              struct error *error)
{
    struct buffer value = {0};
    enum status status =
        storage_meta_get(server->storage, TABLE_META, META_STORE, &value);
    if (status == STATUS_OK && value.size == sizeof self->store.bytes) {
        memcpy(self->store.bytes, value.data, value.size);
    } else if (status == STATUS_NOT_FOUND) {
        status =
            server_draw(self->store.bytes, sizeof self->store.bytes, error);
        if (status == STATUS_OK)
            status = storage_meta_set(
                server->storage, TABLE_META, META_STORE,
                bytes_of(self->store.bytes, sizeof self->store.bytes));
    } else if (status == STATUS_OK) {
        status = STATUS_CORRUPT;
    }
    buffer_fini(&value);
    return status == STATUS_OK
               ? STATUS_OK
               : server_meta_failed(status, "read or write the disk's id",
                                    server->config, error);
}

static enum status raise_boot(struct server *server, struct member *self,
                              struct error *error)
{
    struct buffer value = {0};
    uint64_t boot = 0;
    enum status status =
        storage_meta_get(server->storage, TABLE_META, META_BOOT, &value);
    if (status == STATUS_OK && value.size == sizeof boot)
        memcpy(&boot, value.data, sizeof boot);
    else if (status == STATUS_OK)
        status = STATUS_CORRUPT;
    else if (status == STATUS_NOT_FOUND)
        status = STATUS_OK;
    self->boot = ++boot;
    if (status == STATUS_OK)
        status = storage_meta_set(server->storage, TABLE_META, META_BOOT,
                                  bytes_of(&boot, sizeof boot));
    buffer_fini(&value);
    return status == STATUS_OK
               ? STATUS_OK
               : server_meta_failed(status, "raise the boot number",
                                    server->config, error);
}

/* The run whose hash trees are true, for this start alone. */
static enum status take_trees(struct server *server, uint64_t *run,
                              struct error *error)
{
    static const uint64_t none;
    struct buffer value = {0};
    enum status status = storage_meta_get(server->storage, TABLE_META,
                                          META_TREES_OF_RUN, &value);
    *run = 0;
    if (status == STATUS_OK && value.size == sizeof *run)
        memcpy(run, value.data, sizeof *run);
    buffer_fini(&value);
    if (status == STATUS_NOT_FOUND || (status == STATUS_OK && *run == 0))
        return STATUS_OK;
    if (status == STATUS_OK)
        status =
            storage_meta_set(server->storage, TABLE_META, META_TREES_OF_RUN,
                             bytes_of(&none, sizeof none));
    return status == STATUS_OK
               ? STATUS_OK
               : server_meta_failed(status, "take up the hash trees",
                                    server->config, error);
}

static void restore_trees(struct server *server)
{
    char name[SAVED_NAME_MAX];
    struct buffer saved = {0};
    for (size_t i = 0; i < node_saved_count(server->node); i++) {
        snprintf(name, sizeof name, "%zu", i);
        if (storage_meta_get(server->storage, TABLE_TREES, name, &saved) !=
            STATUS_OK)
            continue;
        recorder_trees(&server->recorder, buffer_bytes(&saved));
        node_restore(server->node, buffer_bytes(&saved));
    }
    buffer_fini(&saved);
}

static enum status start_recorder(struct server *server,
                                  const struct server_options *options,
                                  const struct node_config *config,
                                  struct error *error)
{
    enum { MIB = 1 << 20 };
    size_t bytes = (size_t)server->config->recorder_mib * MIB;
    if (recorder_init(&server->recorder, bytes) != STATUS_OK)
        return error_set(error, STATUS_NO_MEMORY,
                         "limits.recorder_mib: no memory for %u MiB",
                         server->config->recorder_mib);
    recorder_config(&server->recorder, REPLIKV_VERSION, config);
    server->watched = options->watch_crashes;
    if (server->watched)
        crash_watch(&server->recorder, server->config->data_dir);
    return STATUS_OK;
}

enum status server_make_node(struct server *server,
                             const struct server_options *options,
                             bool amnesiac, struct error *error)
{
    struct node_config config = config_node_config(server->config);
    config.membership = membership_config_default();
    config.membership.join_interval_ms = JOIN_INTERVAL_MS;
    config.replace = options->replace;
    config.amnesiac = amnesiac;
    config.self.version_min = PEER_VERSION_MIN;
    config.self.version_max = PEER_VERSION_MAX;
    enum status status = server_draw(&config.seed, sizeof config.seed, error);
    if (status == STATUS_OK)
        status = read_store(server, &config.self, error);
    if (status == STATUS_OK)
        status = raise_boot(server, &config.self, error);
    if (status == STATUS_OK)
        status = take_trees(server, &config.trees_of_run, error);
    if (status == STATUS_OK)
        status = server_draw(&config.self.run, sizeof config.self.run, error);
    if (status == STATUS_OK)
        status = node_new(&config, &server->node, error);
    if (status == STATUS_OK)
        status = start_recorder(server, options, &config, error);
    if (status == STATUS_OK && config.trees_of_run != 0)
        restore_trees(server);
    if (status == STATUS_OK)
        log_line("event=start cluster=%s engine=%s data_dir=%s boot=%llu",
                 server->config->cluster, server->config->engine,
                 server->config->data_dir,
                 (unsigned long long)config.self.boot);
    return status;
}

void server_save_trees(struct server *server)
{
    char name[SAVED_NAME_MAX];
    enum table table;
    struct buffer saved = {0};
    enum status status = STATUS_OK;
    size_t count = node_saved_count(server->node);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = node_save(server->node, i, &table, name, &saved);
        if (status == STATUS_OK)
            status = storage_meta_set(server->storage, table, name,
                                      buffer_bytes(&saved));
    }
    if (status != STATUS_OK)
        log_line("event=trees_not_saved status=%s", status_name(status));
    buffer_fini(&saved);
}

static enum status take_recording(const struct server *server,
                                  struct buffer *file)
{
    uint8_t header[RECORDING_HEADER_BYTES];
    struct bytes parts[RECORDER_PARTS];
    size_t count = recorder_parts(&server->recorder, header, parts);
    enum status status = count == 0 ? STATUS_UNSUPPORTED : STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = buffer_append(file, parts[i]);
    return status;
}

void server_send_recording(struct server *server, struct turn *turn,
                           struct reply_token token)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__AdminReply reply = RKV__ADMIN_REPLY__INIT;
    Rkv__Result result = RKV__RESULT__INIT;
    struct buffer file = {0};
    enum status status = take_recording(server, &file);
    envelope.version = PROTOCOL_VERSION_MAX;
    if (status == STATUS_OK) {
        reply.result = &result;
        reply.node = server->config->name;
        reply.recording = binary_of_bytes(buffer_bytes(&file));
        envelope.body_case = RKV__ENVELOPE__BODY_ADMIN_REPLY;
        envelope.admin_reply = &reply;
    } else {
        envelope.body_case = RKV__ENVELOPE__BODY_RESULT;
        envelope.result = &result;
        result.message = status == STATUS_UNSUPPORTED
                             ? "the node keeps no recording: its "
                               "limits.recorder_mib is 0"
                             : "no memory for a copy of the recording";
    }
    result.status = (Rkv__Status)status;
    sessions_reply(server, turn, token, &envelope);
    buffer_fini(&file);
    buffer_fini(&server->packed); /* it may have grown to as much */
}
