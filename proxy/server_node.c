/* SPDX-License-Identifier: MIT */
#include "proxy/crash.h"
#include "proxy/log.h"
#include "proxy/server_internal.h"

/* How soon a node that starts is met: well under the second in which it should
 * be ready. */
enum { JOIN_INTERVAL_MS = 200 };

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
        status = server_read_disk(server, &config, error);
    if (status == STATUS_OK)
        status = node_new(&config, &server->node, error);
    if (status == STATUS_OK)
        status = start_recorder(server, options, &config, error);
    if (status == STATUS_OK && config.trees_of_run != 0)
        server_restore_trees(server);
    if (status == STATUS_OK && server->recorder.is_headless)
        log_line(
            "event=recorder_headless recorder_mib=%u what=\"it has no room "
            "for the saved hash trees: recordings cannot be replayed\"",
            server->config->recorder_mib);
    if (status == STATUS_OK)
        log_line("event=start cluster=%s engine=%s data_dir=%s boot=%llu",
                 server->config->cluster, server->config->engine,
                 server->config->data_dir,
                 (unsigned long long)config.self.boot);
    return status;
}

/* Of a second's work of a thread a copy takes a thirtieth, of the largest. */
enum { RECORDING_EVERY_MS = 1000 };

static enum status may_record(struct server *server, Rkv__Result *result)
{
    int64_t wait_ms = server->recorded_ms + RECORDING_EVERY_MS - server->now_ms;
    if (server->recorded_ms != 0 && wait_ms > 0) {
        result->retry_after_ms = (uint32_t)wait_ms;
        return STATUS_OVERLOADED;
    }
    server->recorded_ms = server->now_ms;
    return STATUS_OK;
}

static char *why_not(enum status status)
{
    if (status == STATUS_UNSUPPORTED)
        return "the node keeps no recording: its limits.recorder_mib is 0";
    return status == STATUS_OVERLOADED
               ? "a recording was taken less than a second ago"
               : "no memory for a copy of the recording";
}

void server_send_recording(struct server *server, struct turn *turn,
                           struct reply_token token)
{
    Rkv__Envelope envelope = RKV__ENVELOPE__INIT;
    Rkv__AdminReply reply = RKV__ADMIN_REPLY__INIT;
    Rkv__Result result = RKV__RESULT__INIT;
    struct buffer file = {0};
    enum status status = may_record(server, &result);
    if (status == STATUS_OK)
        status = recorder_copy(&server->recorder, &file);
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
        result.message = why_not(status);
    }
    result.status = (Rkv__Status)status;
    sessions_reply(server, turn, token, &envelope);
    buffer_fini(&file);
    buffer_fini(&server->packed); /* it may have grown to as much */
}
