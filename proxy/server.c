/* SPDX-License-Identifier: MIT */
#include "proxy/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proto/assert.h"
#include "proxy/crash.h"
#include "proxy/log.h"
#include "proxy/server_internal.h"

enum {
    MIB = 1024 * 1024,
    /* A record may hold some siblings of the largest value; one with more
     * than fits stays where it is: requests with it count as unsent, and
     * replies as too large. Also room for a whole ring or member table. */
    RECORD_VALUES = 4,
    RECORD_FRAME_BYTES_MIN = 16 * MIB,
    HANDSHAKE_MS = 2000,
    /* What is queued has this long to leave at a stop. */
    LINGER_MS = 500,
};

/* --- sockets --- */

static enum status listen_on(struct server *server, struct transport *transport,
                             const char *key, const char *address,
                             enum session_kind kind, struct listener **listener,
                             struct error *error)
{
    struct error why;
    enum status status =
        transport_listen(transport, address, &session_handlers[kind],
                         &server->sessions.acceptors[kind], listener, &why);
    if (status != STATUS_OK)
        return error_set(error, status, "%s: %s", key, why.text);
    log_line("event=listen %s=%s", key, address);
    return STATUS_OK;
}

static enum status open_sockets(struct server *server, struct error *error)
{
    const struct config *config = server->config;
    size_t value = config->limits.value_bytes_max;
    size_t record = value * RECORD_VALUES + CONFIG_REQUEST_OVERHEAD_BYTES;
    if (record < RECORD_FRAME_BYTES_MIN)
        record = RECORD_FRAME_BYTES_MIN;
    struct transport_limits limits = {
        .frame_bytes_max = value + CONFIG_REQUEST_OVERHEAD_BYTES,
        .send_bytes_max = record,
        .queue_bytes_max = config->queue_bytes_max,
        .connections_max = config->connections_max,
        .handshake_ms = HANDSHAKE_MS,
    };
    server->request_bytes_max = limits.frame_bytes_max;
    server->reply_bytes_max = record;
    struct transport_limits peer_limits = limits;
    peer_limits.frame_bytes_max = record;
    enum status status =
        transport_open(&limits, &server->client_transport, error);
    if (status == STATUS_OK)
        status = transport_open(&peer_limits, &server->peer_transport, error);
    if (status == STATUS_OK)
        status = listen_on(server, server->peer_transport, "listen.peer",
                           config->peer_address, SESSION_PEER,
                           &server->peer_listener, error);
    if (status == STATUS_OK)
        status = listen_on(server, server->client_transport, "listen.client",
                           config->client_address, SESSION_CLIENT,
                           &server->client_listener, error);
    return status;
}

/* --- what the edges count --- */

struct counted {
    const char *name;
    uint64_t value;
};

static void append_counters(Rkv__AdminReply *reply, struct arena *arena,
                            const struct counted *counted, size_t count)
{
    size_t total = reply->n_counters + count;
    Rkv__Counter **list = arena_alloc(arena, total * sizeof *list);
    if (list == NULL)
        return;
    memcpy(list, reply->counters, reply->n_counters * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        Rkv__Counter *counter = message_new(arena, &rkv__counter__descriptor);
        if (counter == NULL)
            return;
        counter->name = arena_string(arena, counted[i].name);
        counter->value = counted[i].value;
        list[reply->n_counters + i] = counter;
    }
    reply->counters = list;
    reply->n_counters = total;
}

void server_add_counters(struct server *server, Rkv__AdminReply *reply,
                         struct arena *arena)
{
    struct storage_stats storage;
    struct transport_counters client, peer;
    storage_stats(server->storage, &storage);
    transport_counters_read(server->client_transport, &client);
    transport_counters_read(server->peer_transport, &peer);
    const uint64_t *edge = server->counters;
    const struct counted counted[] = {
        {"frames_malformed",
         edge[EDGE_FRAMES_MALFORMED] + client.malformed + peer.malformed},
        {"frames_oversized", client.oversized + peer.oversized},
        {"connections_refused",
         client.refused_connections + peer.refused_connections},
        {"replies_dropped", edge[EDGE_REPLIES_DROPPED]},
        {"replies_too_large", edge[EDGE_REPLIES_TOO_LARGE]},
        {"requests_unsent", edge[EDGE_REQUESTS_UNSENT]},
        {"hellos_late", edge[EDGE_HELLOS_LATE]},
        {"lanes_silent", edge[EDGE_LANES_SILENT]},
        {"sessions_stalled", edge[EDGE_SESSIONS_STALLED]},
        {"batches", edge[EDGE_BATCHES]},
        {"batches_refused", edge[EDGE_BATCHES_REFUSED]},
        {"client_bytes_in", client.bytes_in},
        {"client_bytes_out", client.bytes_out},
        {"peer_bytes_in", peer.bytes_in},
        {"peer_bytes_out", peer.bytes_out},
        {"storage_reads", storage.reads_inline + storage.reads_handed_over},
        {"storage_batches", storage.batches},
        {"storage_operations", storage.operations},
        {"storage_syncs", storage.syncs},
        {"storage_reopens", storage.reopens},
        {"engine_disk_bytes", storage.engine.disk_bytes},
        {"engine_memory_bytes", storage.engine.memory_bytes},
        {"engine_keys", storage.engine.keys},
        {"engine_live_bytes", storage.engine.live_bytes},
        {"engine_user_bytes", storage.engine.user_bytes},
        {"engine_stored_bytes", storage.engine.stored_bytes},
        {"engine_stall_us", storage.engine.stall_us},
        {"engine_stall_us_max", storage.engine.stall_us_max},
        {"engine_damaged", storage.engine.damaged},
        {"engine_twin_behind", storage.engine.twin_behind},
        {"engine_twin_compared", storage.engine.twin_compared},
        {"engine_twin_mended", storage.engine.twin_mended},
        {"engine_twin_differences", storage.engine.twin_differences},
        {"engine_twin_failures", storage.engine.twin_failures},
    };
    append_counters(reply, arena, counted, sizeof counted / sizeof *counted);
}

/* --- life --- */

enum status server_open(struct config *config,
                        const struct server_options *options,
                        struct server **out, struct error *error)
{
    *out = NULL;
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the server");
    server->config = config;
    pthread_mutex_init(&server->lock, NULL);
    pthread_mutex_init(&server->turns_lock, NULL);
    effects_init(&server->effects,
                 64 * (size_t)MIB + 2 * RECORD_VALUES *
                                        (size_t)config->limits.value_bytes_max);
    sessions_init(&server->sessions, server);
    /* The disk first: what came in before there is a node would wait for the
     * lock, which is held until there is one. */
    pthread_mutex_lock(&server->lock);
    bool amnesiac = false;
    enum status status = server_open_storage(server, options, &amnesiac, error);
    if (status == STATUS_OK)
        status = server_make_node(server, options, amnesiac, error);
    if (status == STATUS_OK)
        status = open_sockets(server, error);
    pthread_mutex_unlock(&server->lock);
    if (status == STATUS_CORRUPT && !options->replace) {
        struct error why = *error;
        error_set(error, status,
                  "%.230s; --replace sets the disk aside and fills another "
                  "from the other nodes",
                  why.text);
    }
    if (status != STATUS_OK) {
        server_close(server);
        return status;
    }
    *out = server;
    return STATUS_OK;
}

bool server_tick(struct server *server)
{
    struct turn *turn = turn_begin(server);
    struct event event = {.kind = EVENT_TICK};
    if (turn == NULL)
        return true;
    turn_step(server, turn, &event);
    sessions_tick(server, turn->now_ms);
    links_tick(server, turn->now_ms);
    turn_end(server, turn);
    return server_halted(server) == NULL;
}

const char *server_halted(const struct server *server)
{
    return __atomic_load_n(&server->is_halted, __ATOMIC_ACQUIRE)
               ? server->halted
               : NULL;
}

bool server_is_ready(struct server *server)
{
    pthread_mutex_lock(&server->lock);
    bool ready = node_is_ready(server->node);
    pthread_mutex_unlock(&server->lock);
    return ready;
}

int server_client_port(const struct server *server)
{
    return listener_port(server->client_listener);
}

int server_peer_port(const struct server *server)
{
    return listener_port(server->peer_listener);
}

/* Say goodbye, and let that and the last replies leave. */
static void leave(struct server *server)
{
    struct turn *turn = turn_begin(server);
    struct event event = {.kind = EVENT_LEAVE};
    if (turn == NULL)
        return;
    int64_t end_ms = turn->now_ms + LINGER_MS;
    turn_step(server, turn, &event);
    turn_end(server, turn);
    for (bool queued = true; queued;) {
        turn = turn_begin(server);
        if (turn == NULL)
            return;
        queued = turn->now_ms < end_ms &&
                 (sessions_queued(server) > 0 || links_queued(server) > 0);
        turn_end(server, turn);
        if (queued)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

void server_close(struct server *server)
{
    if (server == NULL)
        return;
    if (server->node != NULL && server->client_listener != NULL)
        leave(server);
    pthread_mutex_lock(&server->lock);
    server->closing = true;
    pthread_mutex_unlock(&server->lock);
    if (server->client_transport != NULL)
        transport_close(server->client_transport);
    if (server->peer_transport != NULL)
        transport_close(server->peer_transport);
    /* Its last results step the node, whose replies go nowhere. */
    if (server->storage != NULL)
        storage_drain(server->storage);
    if (server->node != NULL && node_is_ready(server->node) &&
        !__atomic_load_n(&server->has_lost_results, __ATOMIC_ACQUIRE))
        server_save_trees(server);
    if (server->storage != NULL)
        storage_close(server->storage);
    if (server->watched)
        crash_unwatch();
    node_free(server->node);
    recorder_fini(&server->recorder);
    sessions_fini(&server->sessions);
    batches_fini(&server->batches);
    links_fini(&server->links);
    turns_free(server);
    effects_fini(&server->effects);
    buffer_fini(&server->packed);
    free(server->late);
    pthread_mutex_destroy(&server->lock);
    pthread_mutex_destroy(&server->turns_lock);
    free(server);
}
