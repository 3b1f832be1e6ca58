/* SPDX-License-Identifier: MIT */
#include "engines/twin.h"
#include "proto/assert.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* One broken table can differ in all its keys: so many are told of. */
enum { DIFFERENCES_TOLD = 10, KEY_BYTES_TOLD = 48 };

void twin_report(struct twin *twin, const char *format, ...)
{
    char message[320];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (twin->report != NULL)
        twin->report(twin->report_context, message);
}

void twin_heard(struct twin *twin, enum status status, const char *why)
{
    if (twin_answers(status) ||
        atomic_exchange(&twin->state, TWIN_OUT) == TWIN_OUT)
        return;
    atomic_fetch_add(&twin->failures, 1);
    twin_report(twin,
                "the second engine, %s, failed: %.140s; all goes on from the "
                "first alone. The next start mends it; if it is damaged, "
                "remove its folder, %s, before",
                twin_second(twin), why != NULL ? why : status_name(status),
                twin_places[TWIN_SECOND]);
}

/* Printable, and without what would end it where it is quoted. */
static void show_key(struct bytes key, char text[4 * KEY_BYTES_TOLD + 4])
{
    size_t used = 0;
    for (size_t i = 0; i < key.size && i < KEY_BYTES_TOLD; i++) {
        uint8_t byte = key.data[i];
        bool plain = byte > ' ' && byte < 0x7f && byte != '"' && byte != '\\';
        used += (size_t)sprintf(text + used, plain ? "%c" : "\\x%02x", byte);
    }
    strcpy(text + used, key.size > KEY_BYTES_TOLD ? "..." : "");
}

void twin_differs(struct twin *twin, struct bytes key, const char *how)
{
    char text[4 * KEY_BYTES_TOLD + 4];
    if (atomic_fetch_add(&twin->differences, 1) >= DIFFERENCES_TOLD)
        return;
    show_key(key, text);
    twin_report(twin, "the second engine, %s, differs from the first: %s: %s",
                twin_second(twin), text, how);
}

const char *twin_how(enum status first, struct bytes first_value,
                     enum status second, struct bytes second_value)
{
    if (first != second)
        return first == STATUS_OK ? "only the first has it"
                                  : "only the second has it";
    return first == STATUS_NOT_FOUND || bytes_equal(first_value, second_value)
               ? NULL
               : "they have different values";
}

/* --- slots --- */

/* Get from the first, and how the second differs, if it can be said. */
static enum status get(struct twin *twin, struct bytes key,
                       struct buffer *value, const char **how)
{
    *how = NULL;
    enum status status = engine_get(twin->inner[TWIN_FIRST], key, value);
    if (!twin_answers(status) || atomic_load(&twin->state) != TWIN_SAME)
        return status;
    struct buffer other = {0};
    enum status second = engine_get(twin->inner[TWIN_SECOND], key, &other);
    twin_heard(twin, second, NULL);
    if (twin_answers(second))
        *how =
            twin_how(status, buffer_bytes(value), second, buffer_bytes(&other));
    buffer_fini(&other);
    return status;
}

static enum status twin_get(struct engine *engine, struct bytes key,
                            struct buffer *value)
{
    struct twin *twin = twin_of(engine);
    const char *how;
    enum status status = get(twin, key, value, &how);
    if (how == NULL)
        return status;
    /* Or a write came between the two. */
    pthread_mutex_lock(&twin->writes);
    status = get(twin, key, value, &how);
    pthread_mutex_unlock(&twin->writes);
    if (how != NULL)
        twin_differs(twin, key, how);
    return status;
}

/* The second syncs when the first does: what is tried is all of its work. */
static enum status twin_write(struct engine *engine, const struct batch *batch,
                              bool sync)
{
    struct twin *twin = twin_of(engine);
    pthread_mutex_lock(&twin->writes);
    enum status status = engine_write(twin->inner[TWIN_FIRST], batch, sync);
    if (status == STATUS_OK && atomic_load(&twin->state) != TWIN_OUT)
        twin_heard(twin, engine_write(twin->inner[TWIN_SECOND], batch, sync),
                   NULL);
    pthread_mutex_unlock(&twin->writes);
    return status;
}

static enum status twin_delete_range(struct engine *engine, struct bytes from,
                                     struct bytes to)
{
    struct twin *twin = twin_of(engine);
    pthread_mutex_lock(&twin->writes);
    enum status status = engine_delete_range(twin->inner[TWIN_FIRST], from, to);
    if (status == STATUS_OK && atomic_load(&twin->state) != TWIN_OUT)
        twin_heard(twin,
                   engine_delete_range(twin->inner[TWIN_SECOND], from, to),
                   NULL);
    pthread_mutex_unlock(&twin->writes);
    return status;
}

static void twin_stats(struct engine *engine, struct engine_stats *stats)
{
    struct twin *twin = twin_of(engine);
    engine_stats(twin->inner[TWIN_FIRST], stats);
    if (twin->inner[TWIN_SECOND] != NULL) {
        struct engine_stats other;
        engine_stats(twin->inner[TWIN_SECOND], &other);
        stats->damaged += other.damaged;
    }
    stats->twin_behind = atomic_load(&twin->state) != TWIN_SAME;
    stats->twin_compared = atomic_load(&twin->compared);
    stats->twin_mended = atomic_load(&twin->mended);
    stats->twin_differences = atomic_load(&twin->differences);
    stats->twin_failures = atomic_load(&twin->failures);
}

static enum status twin_checkpoint(struct engine *engine, const char *directory,
                                   struct error *error)
{
    char path[TWIN_PATH_MAX];
    enum status status =
        twin_path(directory, twin_places[TWIN_FIRST], path, error);
    if (status == STATUS_OK && mkdir(directory, 0755) != 0)
        status = error_set(error, directory_status(errno),
                           "cannot make the directory %.200s: %s", directory,
                           strerror(errno));
    if (status == STATUS_OK)
        status =
            engine_checkpoint(twin_of(engine)->inner[TWIN_FIRST], path, error);
    return status;
}

/* --- open and close --- */

static void release(struct twin *twin)
{
    if (twin->lock >= 0)
        close(twin->lock);
    pthread_mutex_destroy(&twin->writes);
    free(twin->directory);
    free(twin);
}

static bool are_durable(const struct twin *twin)
{
    const struct twin_type *type = twin_type(twin);
    return (type->inner[TWIN_FIRST]->capabilities &
            type->inner[TWIN_SECOND]->capabilities & ENGINE_DURABLE) != 0;
}

static bool is_synced(struct twin *twin)
{
    for (int i = 0; i < TWIN_BOTH; i++)
        if (engine_write(twin->inner[i], &(struct batch){0}, true) != STATUS_OK)
            return false;
    return true;
}

static void twin_close(struct engine *engine)
{
    struct twin *twin = twin_of(engine);
    twin_compare_stop(twin);
    bool agree = atomic_load(&twin->state) == TWIN_SAME &&
                 atomic_load(&twin->differences) == 0 && are_durable(twin) &&
                 is_synced(twin);
    engine_close(twin->inner[TWIN_SECOND]);
    engine_close(twin->inner[TWIN_FIRST]);
    if (agree)
        twin_leave_agreed(twin_type(twin), twin->directory);
    release(twin);
}

static enum status open_inner(struct twin *twin, enum twin_place place,
                              const struct engine_options *options,
                              struct error *error)
{
    const struct engine_type *type = twin_type(twin)->inner[place];
    struct engine_setting settings[TWIN_SETTINGS_MAX];
    struct engine_options own = *options;
    char path[TWIN_PATH_MAX];
    size_t size = strlen(twin_places[place]);
    own.type = type;
    own.settings = settings;
    own.setting_count = 0;
    for (size_t i = 0; i < options->setting_count; i++) {
        struct engine_setting setting = options->settings[i];
        if (strncmp(setting.name, twin_places[place], size) != 0)
            continue;
        ASSERT(own.setting_count < TWIN_SETTINGS_MAX);
        setting.name += size + 1;
        settings[own.setting_count++] = setting;
    }
    enum status status = STATUS_OK;
    if (options->directory != NULL) {
        own.directory = path;
        status = twin_path(options->directory, twin_places[place], path, error);
    }
    if (place == TWIN_SECOND && options->directory != NULL) {
        /* As engine_open does, but for what its ENGINE file says. */
        if (status == STATUS_OK)
            status = twin_claim_second(type, path, error);
        if (status == STATUS_OK)
            status = type->open(&own, &twin->inner[place], error);
    } else if (status == STATUS_OK) {
        status = engine_open(type, &own, &twin->inner[place], error);
    }
    return status;
}

/* What a configuration gets wrong is said; a second that is damaged, or whose
 * disk is, is no reason not to start. */
static enum status open_second(struct twin *twin,
                               const struct engine_options *options,
                               struct error *error)
{
    struct error why = {0};
    enum status status = open_inner(twin, TWIN_SECOND, options, &why);
    if (status == STATUS_REFUSED || status == STATUS_INVALID)
        return error_set(error, status, "%s", why.text);
    twin_heard(twin, status, why.text);
    return STATUS_OK;
}

static enum status open_both(struct twin *twin,
                             const struct engine_options *options,
                             struct error *error)
{
    bool agreed = false;
    enum status status = STATUS_OK;
    if (twin->directory != NULL) {
        status = directory_lock(twin->directory, &twin->lock, error);
        if (status == STATUS_OK)
            status = twin_take_agreed(twin->directory, &agreed, error);
    }
    if (status == STATUS_OK)
        status = open_inner(twin, TWIN_FIRST, options, error);
    if (status == STATUS_OK)
        status = open_second(twin, options, error);
    if (status != STATUS_OK || atomic_load(&twin->state) == TWIN_OUT)
        return status;
    if (agreed) {
        atomic_store(&twin->state, TWIN_SAME);
        return STATUS_OK;
    }
    status = twin_compare_start(twin);
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(error, status, "no memory to compare two engines");
}

static enum status twin_open(const struct engine_options *options,
                             struct engine **engine, struct error *error)
{
    struct twin *twin = calloc(1, sizeof *twin);
    if (twin == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for an engine");
    twin->base.type = options->type;
    twin->lock = -1;
    twin->report = options->report;
    twin->report_context = options->report_context;
    pthread_mutex_init(&twin->writes, NULL);
    enum status status = STATUS_OK;
    if (options->directory != NULL &&
        (twin->directory = strdup(options->directory)) == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for an engine");
    if (status == STATUS_OK)
        status = open_both(twin, options, error);
    if (status == STATUS_OK) {
        *engine = &twin->base;
        return STATUS_OK;
    }
    engine_close(twin->inner[TWIN_SECOND]);
    engine_close(twin->inner[TWIN_FIRST]);
    release(twin);
    return status;
}

const struct engine_type twin_engine_type = {
    .adopt = twin_adopt,
    .open = twin_open,
    .close = twin_close,
    .get = twin_get,
    .write = twin_write,
    .iterate = twin_iterate,
    .next = twin_next,
    .iterator_free = twin_iterator_free,
    .delete_range = twin_delete_range,
    .stats = twin_stats,
    .checkpoint = twin_checkpoint,
};
