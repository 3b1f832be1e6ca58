/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "proxy/log.h"
#include "proxy/server_internal.h"

enum {
    /* Waiting operations of the storage: every request in flight and what the
     * other nodes send meanwhile. */
    STORAGE_QUEUE = 64 * 1024,
    STORAGE_QUEUE_BYTES = 256 * 1024 * 1024,
    OWNER_BYTES_MAX = 256, /* two names of at most 64 and numbers */
};

enum status server_draw(void *bytes, size_t size, struct error *error)
{
    if (getrandom(bytes, size, 0) == (ssize_t)size)
        return STATUS_OK;
    return error_set(error, STATUS_IO, "the system gives no random numbers");
}

static enum status meta_failed(enum status status, const char *what,
                               const struct config *config, struct error *error)
{
    return error_set(error, status, "cannot %s in %s: %s", what,
                     config->data_dir, status_name(status));
}

/* --- the disk --- */

/* mkdir -p: the parents of a data_dir are nobody's in particular. */
static enum status make_directory(const char *path, struct error *error)
{
    char partial[CONFIG_PATH_MAX + 1];
    snprintf(partial, sizeof partial, "%s", path);
    for (char *at = partial + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char end = *at;
        *at = '\0';
        if (mkdir(partial, 0755) != 0 && errno != EEXIST)
            return error_set(error, STATUS_IO,
                             "node.data_dir: cannot make %s: %s", partial,
                             strerror(errno));
        *at = end;
        if (end == '\0')
            return STATUS_OK;
    }
}

/* A disk that is replaced is kept for whoever wants to look at it, and one that
 * is empty takes its place. */
static enum status set_aside(const char *directory, const char *why,
                             struct error *error)
{
    char aside[CONFIG_PATH_MAX + 64];
    snprintf(aside, sizeof aside, "%s.%s-%lld", directory, why,
             (long long)time(NULL));
    if (rename(directory, aside) != 0)
        return error_set(error, STATUS_IO, "cannot move %.200s aside: %s",
                         directory, strerror(errno));
    log_line("event=set_aside data_dir=%s as=%s", directory, aside);
    return STATUS_OK;
}

/* What opens may be damaged further in: who asks for another disk should have
 * it then, too. */
static enum status check_storage(struct server *server, struct error *error)
{
    const char *directory = server->config->data_dir;
    log_line("event=check data_dir=%s", directory);
    enum status status = storage_check(server->storage);
    if (status == STATUS_OK)
        return STATUS_OK;
    return error_set(error, status, "%.200s: not all of it can be read: %s",
                     directory, status_name(status));
}

/* Records that this program wrote, or a new disk. A record of another format
 * would be taken for a damaged one, and written over. */
static enum status check_format(struct server *server, struct error *error)
{
    const uint8_t ours = RECORD_FORMAT;
    struct buffer value = {0};
    enum status status =
        storage_meta_get(server->storage, TABLE_META, META_STORE, &value);
    bool is_new = status == STATUS_NOT_FOUND;
    if (status == STATUS_OK)
        status =
            storage_meta_get(server->storage, TABLE_META, META_FORMAT, &value);
    if (is_new)
        status = storage_meta_set(server->storage, TABLE_META, META_FORMAT,
                                  bytes_of(&ours, sizeof ours));
    bool is_other =
        !is_new &&
        (status == STATUS_NOT_FOUND ||
         (status == STATUS_OK && (value.size != 1 || value.data[0] != ours)));
    unsigned theirs =
        status == STATUS_OK && value.size == 1 ? value.data[0] : 1;
    buffer_fini(&value);
    if (is_other)
        return error_set(
            error, STATUS_REFUSED,
            "data_dir %.200s: its records are of format %u, this replikvd has "
            "format %u; start the one that wrote them and `replikv dump` the "
            "data, set the directory aside, start with --replace and load it",
            server->config->data_dir, theirs, ours);
    return status == STATUS_OK
               ? STATUS_OK
               : meta_failed(status, "read or write the records' format",
                             server->config, error);
}

static bool has_bits(const struct server *server, const char *name)
{
    struct buffer value = {0};
    bool has = false;
    if (storage_meta_get(server->storage, TABLE_META, name, &value) ==
        STATUS_OK)
        for (size_t i = 0; i < value.size; i++)
            has |= value.data[i] != 0;
    buffer_fini(&value);
    return has;
}

/* What it holds may have been deleted since, and that be forgotten: it may not
 * come back. One that is being filled took another's place before. */
static bool is_to_be_emptied(const struct server *server)
{
    const struct config *config = server->config;
    return has_bits(server, META_STORE) && !has_bits(server, META_MISSING) &&
           config->replicas > 1 && config->founder_count > 1;
}

enum status server_open_storage(struct server *server,
                                const struct server_options *options,
                                bool *amnesiac, struct error *error)
{
    const struct config *config = server->config;
    struct storage_config storage = {
        .type = engine_type_find(config->engine),
        .options = {.directory = config->data_dir,
                    .settings = config->settings,
                    .setting_count = config->setting_count},
        .sync = (enum storage_sync)config->sync,
        .interval_ms = config->sync_interval_ms,
        .queue_max = STORAGE_QUEUE,
        .queue_bytes_max = STORAGE_QUEUE_BYTES,
        .dedup_window_ms = config->timeouts.dedup_window_ms,
        .value_bytes_max = config->limits.value_bytes_max,
    };
    enum status status = make_directory(config->data_dir, error);
    if (status == STATUS_OK)
        status = server_draw(&storage.seed, sizeof storage.seed, error);
    if (status == STATUS_OK)
        status = storage_open(&storage, &server_storage_handlers, server,
                              &server->storage, error);
    if (status == STATUS_OK)
        status = check_format(server, error);
    bool is_emptied =
        status == STATUS_OK && options->replace && is_to_be_emptied(server);
    if (status == STATUS_OK && options->replace && !is_emptied)
        status = check_storage(server, error);
    bool is_damaged = status == STATUS_CORRUPT ||
                      (status == STATUS_IO && server->storage != NULL);
    if (!is_emptied && (!is_damaged || !options->replace))
        return status;
    if (server->storage != NULL)
        storage_close(server->storage);
    server->storage = NULL;
    *amnesiac = true;
    if (is_damaged)
        log_line("event=damaged why=\"%s\"", error->text);
    status =
        set_aside(config->data_dir, is_damaged ? "damaged" : "replaced", error);
    if (status == STATUS_OK)
        status = storage_open(&storage, &server_storage_handlers, server,
                              &server->storage, error);
    if (status == STATUS_OK)
        status = check_format(server, error);
    return status;
}

/* --- who this disk is --- */

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
               : meta_failed(status, "read or write the disk's id",
                             server->config, error);
}

/* Where a key lies and who else has it follow from these: under others it would
 * not be found, and what is written would be lost to those who look right. */
static enum status describe_owner(const struct node_config *config, char *text,
                                  size_t size, struct error *error)
{
    const struct founding *founding = &config->founding;
    struct topology topology;
    enum status status = topology_found(founding, &topology, error);
    if (status != STATUS_OK)
        return status;
    snprintf(text, size,
             "cluster %s, node %s, partitions %" PRIu32 ", replicas %" PRIu32
             ", bootstrap %08" PRIx32,
             founding->cluster, config->self.name, founding->partitions,
             founding->replicas, (uint32_t)topology.cluster_id);
    topology_fini(&topology);
    return STATUS_OK;
}

static enum status check_owner(struct server *server,
                               const struct node_config *config,
                               struct error *error)
{
    char ours[OWNER_BYTES_MAX];
    struct buffer theirs = {0};
    enum status status = describe_owner(config, ours, sizeof ours, error);
    if (status != STATUS_OK)
        return status;
    struct bytes text = bytes_of_string(ours);
    status = storage_meta_get(server->storage, TABLE_META, META_OWNER, &theirs);
    bool is_new = status == STATUS_NOT_FOUND;
    if (is_new)
        status =
            storage_meta_set(server->storage, TABLE_META, META_OWNER, text);
    if (status != STATUS_OK)
        status = meta_failed(status, "read or write whose the disk is",
                             server->config, error);
    else if (!is_new && !bytes_equal(buffer_bytes(&theirs), text))
        status = error_set(
            error, STATUS_REFUSED,
            "data_dir %.60s is not this node's: it has %.*s; the "
            "configuration says %.100s: go back, or name another data_dir",
            server->config->data_dir,
            theirs.size < 100 ? (int)theirs.size : 100,
            (const char *)theirs.data, ours);
    buffer_fini(&theirs);
    return status;
}

static enum status add_start(struct server *server, const struct member *self,
                             struct disk_starts *starts)
{
    struct buffer value = {0};
    enum status status =
        storage_meta_get(server->storage, TABLE_META, META_STARTS, &value);
    disk_starts_read(starts, buffer_bytes(&value));
    buffer_fini(&value);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND)
        return status;
    disk_starts_add(starts, self->boot, self->run);
    return storage_meta_set(server->storage, TABLE_META, META_STARTS,
                            disk_starts_bytes(starts));
}

/* The starts go before the boot, so that none is without its own. */
static enum status raise_boot(struct server *server, struct member *self,
                              struct disk_starts *starts, struct error *error)
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
        status = add_start(server, self, starts);
    if (status == STATUS_OK)
        status = storage_meta_set(server->storage, TABLE_META, META_BOOT,
                                  bytes_of(&boot, sizeof boot));
    buffer_fini(&value);
    return status == STATUS_OK ? STATUS_OK
                               : meta_failed(status, "raise the boot number",
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
    return status == STATUS_OK ? STATUS_OK
                               : meta_failed(status, "take up the hash trees",
                                             server->config, error);
}

enum status server_read_disk(struct server *server, struct node_config *config,
                             struct error *error)
{
    struct member *self = &config->self;
    enum status status = server_draw(&self->run, sizeof self->run, error);
    if (status == STATUS_OK)
        status = check_owner(server, config, error);
    if (status == STATUS_OK)
        status = read_store(server, self, error);
    if (status == STATUS_OK)
        status = raise_boot(server, self, &config->starts, error);
    if (status == STATUS_OK)
        status = take_trees(server, &config->trees_of_run, error);
    return status;
}

void server_restore_trees(struct server *server)
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
