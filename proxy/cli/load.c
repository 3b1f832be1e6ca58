/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "proxy/cli/output.h"

/* load: many writes in flight, read line by line. Callbacks of the library
 * count what became of them; this thread reads, waits for room and draws the
 * progress. */

enum {
    INFLIGHT_DEFAULT = 128,
    /* Keys and values under way: half of what the library allows. */
    BYTES_MAX = 32 << 20,
    FAILURES_SHOWN = 10,
    WAKE_EVERY_MS = 100,
};

enum format { FORMAT_UNKNOWN, FORMAT_JSON, FORMAT_TAB };

struct load {
    const struct cli *cli;
    struct replikv *client;
    FILE *file;
    enum format format;
    uint64_t line, bytes_read, bytes_total;
    struct progress progress;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    struct load_write *under_way; /* inflight of them */
    uint32_t inflight;
    size_t inflight_bytes;
    uint64_t by_outcome[REPLIKV_UNKNOWN + 1];
    uint64_t malformed;
    uint64_t failures_shown;
};

/* One write, until its result has come. */
struct load_write {
    struct load *load;
    struct load_write *next, **link; /* of under_way */
    uint64_t line;
    char *bucket; /* NULL: the command's */
    struct owned key, value, context;
    int64_t ttl_ms;
    bool reads_first;
};

static void write_free(struct load_write *write)
{
    free(write->bucket);
    owned_fini(&write->key);
    owned_fini(&write->value);
    owned_fini(&write->context);
    free(write);
}

static void tell(struct load *load, uint64_t line, struct replikv_bytes key,
                 const char *what, const char *why)
{
    if (load->failures_shown++ >= FAILURES_SHOWN)
        return;
    struct owned shown = printable(key, SHOWN_BYTES);
    fprintf(stderr, "%sreplikv: line %" PRIu64 "%s%s: %s: %s\n",
            load->progress.terminal ? "\r\033[K" : "", line,
            key.size > 0 ? ", key " : "", shown.data, what, why);
    owned_fini(&shown);
}

static size_t size_of(const struct load_write *write)
{
    return write->key.size + write->value.size;
}

static void end_write(struct load_write *write,
                      const struct replikv_result *result)
{
    struct load *load = write->load;
    enum replikv_outcome outcome = result->outcome;
    /* The read before it failed. */
    if (outcome == REPLIKV_NONE)
        outcome = REPLIKV_NOT_APPLIED;
    pthread_mutex_lock(&load->lock);
    load->by_outcome[outcome]++;
    if (outcome != REPLIKV_APPLIED)
        tell(load, write->line, owned_bytes(&write->key),
             replikv_outcome_name(outcome), result->message);
    *write->link = write->next;
    if (write->next != NULL)
        write->next->link = write->link;
    load->inflight--;
    load->inflight_bytes -= size_of(write);
    pthread_cond_signal(&load->changed);
    pthread_mutex_unlock(&load->lock);
    write_free(write);
}

static void on_written(void *user, struct replikv_result *result)
{
    end_write(user, result);
    replikv_result_free(result);
}

static enum replikv_status start(struct load_write *write,
                                 enum replikv_kind kind,
                                 replikv_callback *callback,
                                 struct replikv_error *error)
{
    const struct cli *cli = write->load->cli;
    const struct replikv_request request = {
        .kind = kind,
        .bucket = write->bucket != NULL ? write->bucket : cli->bucket,
        .key = owned_bytes(&write->key),
        .value = owned_bytes(&write->value),
        .context = owned_bytes(&write->context),
        .level = kind == REPLIKV_PUT ? cli->w : REPLIKV_LEVEL_DEFAULT,
        .ttl_ms = write->ttl_ms,
    };
    return replikv_start(write->load->client, &request, callback, write, error);
}

static void end_refused(struct load_write *write,
                        const struct replikv_error *error)
{
    end_write(write, &(struct replikv_result){.status = error->status,
                                              .outcome = REPLIKV_NOT_APPLIED,
                                              .message = error->text});
}

/* What is there is to be superseded. */
static void on_read(void *user, struct replikv_result *result)
{
    struct load_write *write = user;
    struct replikv_error error;
    if (result->status != REPLIKV_OK && result->status != REPLIKV_NOT_FOUND) {
        end_write(write, result);
    } else {
        size_t size = result->context.size;
        write->context.data = must_have(malloc(size + 1));
        write->context.size = size;
        if (size > 0)
            memcpy(write->context.data, result->context.data, size);
        if (start(write, REPLIKV_PUT, on_written, &error) != REPLIKV_OK)
            end_refused(write, &error);
    }
    replikv_result_free(result);
}

static void show_progress(struct load *load)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= REPLIKV_UNKNOWN; i++)
        count += load->by_outcome[i];
    progress_show(&load->progress, load->bytes_read, load->bytes_total, count);
}

static bool is_same_key(const struct load_write *a, const struct load_write *b)
{
    bool is_same_bucket = a->bucket == NULL || b->bucket == NULL
                              ? a->bucket == b->bucket
                              : strcmp(a->bucket, b->bucket) == 0;
    return is_same_bucket && a->key.size == b->key.size &&
           memcmp(a->key.data, b->key.data, a->key.size) == 0;
}

/* Under lock. Lines of one key are written in their order. */
static bool is_under_way(const struct load *load,
                         const struct load_write *write)
{
    for (const struct load_write *each = load->under_way;
         write != NULL && each != NULL; each = each->next)
        if (is_same_key(each, write))
            return true;
    return false;
}

/* Until at most `writes` and `bytes` are under way, and nothing of the key of
 * next, if there is one. */
static void wait_for_room(struct load *load, uint32_t writes, size_t bytes,
                          const struct load_write *next)
{
    pthread_mutex_lock(&load->lock);
    show_progress(load);
    while (load->inflight > writes ||
           (load->inflight > 0 && load->inflight_bytes > bytes) ||
           is_under_way(load, next)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += WAKE_EVERY_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&load->changed, &load->lock, &until);
        show_progress(load);
    }
    pthread_mutex_unlock(&load->lock);
}

static void submit(struct load_write *write)
{
    struct load *load = write->load;
    size_t size = size_of(write);
    struct replikv_error error;
    wait_for_room(load, load->cli->inflight - 1,
                  size < BYTES_MAX ? BYTES_MAX - size : 0, write);
    pthread_mutex_lock(&load->lock);
    write->next = load->under_way;
    write->link = &load->under_way;
    if (write->next != NULL)
        write->next->link = &write->next;
    load->under_way = write;
    load->inflight++;
    load->inflight_bytes += size;
    pthread_mutex_unlock(&load->lock);
    enum replikv_status status =
        write->reads_first ? start(write, REPLIKV_GET, on_read, &error)
                           : start(write, REPLIKV_PUT, on_written, &error);
    if (status != REPLIKV_OK)
        end_refused(write, &error);
}

static void note_malformed(struct load *load, const char *why)
{
    pthread_mutex_lock(&load->lock);
    load->malformed++;
    tell(load, load->line, replikv_bytes_of(NULL, 0), "malformed", why);
    pthread_mutex_unlock(&load->lock);
}

static struct owned copy_of(const char *data, size_t size)
{
    struct owned copy = {.data = must_have(malloc(size + 1)), .size = size};
    memcpy(copy.data, data, size);
    copy.data[size] = '\0';
    return copy;
}

static struct load_write *new_write(struct load *load)
{
    struct load_write *write = must_have(calloc(1, sizeof(*write)));
    write->load = load;
    write->line = load->line;
    write->reads_first = load->cli->overwrite;
    write->ttl_ms = load->cli->ttl_ms;
    return write;
}

/* ---- one line ---- */

static const char *take_tab_line(struct load *load, const char *line,
                                 size_t size)
{
    const char *tab = memchr(line, '\t', size);
    if (tab == NULL)
        return "no tab between key and value";
    struct load_write *write = new_write(load);
    size_t key_size = (size_t)(tab - line);
    size_t value_size = size - key_size - 1;
    bool good = true;
    if (load->cli->base64) {
        good = base64_decode(line, key_size, &write->key) &&
               base64_decode(tab + 1, value_size, &write->value);
    } else {
        write->key = copy_of(line, key_size);
        write->value = copy_of(tab + 1, value_size);
    }
    if (!good) {
        write_free(write);
        return "not base64, as --base64 asks for";
    }
    submit(write);
    return NULL;
}

/* The field as a string, or its _base64 twin. */
static const char *json_bytes(const json_t *object, const char *name,
                              const char *twin, struct owned *out)
{
    const json_t *string = json_object_get(object, name);
    const json_t *encoded = json_object_get(object, twin);
    if (json_is_string(string) && encoded == NULL) {
        *out = copy_of(json_string_value(string), json_string_length(string));
        return NULL;
    }
    if (json_is_string(encoded) && string == NULL)
        return base64_decode(json_string_value(encoded),
                             json_string_length(encoded), out)
                   ? NULL
                   : "a field ending in _base64 is not base64";
    return "key and value must be strings, each as itself or as _base64";
}

/* What dump prints of a value that expires. */
static const char *json_ttl(const json_t *value, int64_t *ttl_ms)
{
    const json_t *ttl = json_object_get(value, "ttl_ms");
    if (ttl == NULL)
        return NULL;
    *ttl_ms = json_integer_value(ttl);
    return json_is_integer(ttl) && (*ttl_ms > 0 || *ttl_ms == REPLIKV_TTL_NEVER)
               ? NULL
               : "ttl_ms must be a number of milliseconds from 1, or -1";
}

static const char *submit_json(struct load *load, const json_t *object,
                               const json_t *value)
{
    struct load_write *write = new_write(load);
    const json_t *bucket = json_object_get(object, "bucket");
    const char *why = json_bytes(object, "key", "key_base64", &write->key);
    if (why == NULL)
        why = json_bytes(value, "value", "value_base64", &write->value);
    if (why == NULL && bucket != NULL && !json_is_string(bucket))
        why = "bucket must be a string";
    if (why == NULL && load->cli->ttl_ms == REPLIKV_TTL_DEFAULT)
        why = json_ttl(value, &write->ttl_ms);
    if (why != NULL) {
        write_free(write);
        return why;
    }
    if (bucket != NULL && load->cli->bucket == NULL)
        write->bucket = must_have(strdup(json_string_value(bucket)));
    submit(write);
    return NULL;
}

/* What dump prints: siblings are written as siblings. */
static const char *submit_siblings(struct load *load, const json_t *object,
                                   const json_t *values)
{
    size_t index;
    json_t *value;
    const char *why = NULL;
    if (load->cli->overwrite)
        return "--overwrite cannot write siblings";
    json_array_foreach(values, index, value)
    {
        if (why == NULL)
            why = submit_json(load, object, value);
    }
    return why;
}

static const char *take_json_line(struct load *load, const char *line,
                                  size_t size)
{
    json_error_t error;
    json_t *object =
        json_loadb(line, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    const char *why = NULL;
    const json_t *values = json_object_get(object, "values");
    if (!json_is_object(object))
        why = object == NULL ? error.text : "not a JSON object";
    else if (values == NULL)
        why = submit_json(load, object, object);
    else if (json_is_array(values) && json_array_size(values) > 0)
        why = submit_siblings(load, object, values);
    else
        why = "values must be a list of objects";
    if (why != NULL)
        note_malformed(load, why);
    json_decref(object);
    return NULL;
}

static void take_line(struct load *load, const char *line, size_t size)
{
    while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r'))
        size--;
    if (size == 0)
        return;
    if (load->format == FORMAT_UNKNOWN)
        load->format =
            line[strspn(line, " \t")] == '{' ? FORMAT_JSON : FORMAT_TAB;
    const char *why = load->format == FORMAT_JSON
                          ? take_json_line(load, line, size)
                          : take_tab_line(load, line, size);
    if (why != NULL)
        note_malformed(load, why);
}

/* ---- the whole file ---- */

static bool read_lines(struct load *load)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    while (!interrupted() &&
           (size = getline(&line, &capacity, load->file)) > 0) {
        load->line++;
        load->bytes_read += (uint64_t)size;
        take_line(load, line, (size_t)size);
    }
    free(line);
    bool good = interrupted() || !ferror(load->file);
    if (!good)
        fprintf(stderr, "replikv: load: line %" PRIu64 ": %s\n", load->line + 1,
                strerror(errno));
    return good;
}

static int summary(struct load *load, bool read_all_of_it)
{
    int64_t elapsed_ms = progress_finish(&load->progress);
    uint64_t applied = load->by_outcome[REPLIKV_APPLIED];
    uint64_t not_applied = load->by_outcome[REPLIKV_NOT_APPLIED];
    uint64_t unknown = load->by_outcome[REPLIKV_UNKNOWN];
    uint64_t rate =
        applied * 1000 / (uint64_t)(elapsed_ms > 0 ? elapsed_ms : 1);
    if (load->failures_shown > FAILURES_SHOWN)
        fprintf(stderr, "replikv: and %" PRIu64 " more\n",
                load->failures_shown - FAILURES_SHOWN);
    if (load->cli->json) {
        json_t *object = must_have(json_object());
        json_set_number(object, "lines", load->line);
        json_set_number(object, "applied", applied);
        json_set_number(object, "not_applied", not_applied);
        json_set_number(object, "unknown", unknown);
        json_set_number(object, "malformed", load->malformed);
        json_set_number(object, "milliseconds", (uint64_t)elapsed_ms);
        json_set_number(object, "per_second", rate);
        json_document(object);
    } else {
        printf("%" PRIu64 " applied, %" PRIu64 " not applied, %" PRIu64
               " unknown, %" PRIu64 " lines malformed; %.1f s, %" PRIu64 "/s\n",
               applied, not_applied, unknown, load->malformed,
               (double)elapsed_ms / 1000, rate);
    }
    if (interrupted())
        fprintf(stderr, "replikv: interrupted after line %" PRIu64 "\n",
                load->line);
    if (unknown > 0)
        return EXIT_UNKNOWN;
    bool whole = read_all_of_it && !interrupted();
    return not_applied > 0 || load->malformed > 0 || !whole ? EXIT_REFUSED
                                                            : EXIT_DONE;
}

int command_load(const struct cli *cli)
{
    struct cli own = *cli;
    const char *path = cli->arg_count > 0 ? cli->args[0] : "-";
    struct load load = {.cli = &own, .file = stdin};
    struct stat status;
    if (own.inflight == 0)
        own.inflight = INFLIGHT_DEFAULT;
    if (cli->format != NULL)
        load.format =
            strcmp(cli->format, "json") == 0 ? FORMAT_JSON : FORMAT_TAB;
    if (strcmp(path, "-") != 0)
        load.file = fopen(path, "r");
    if (load.file == NULL) {
        fprintf(stderr, "replikv: load: %s: %s\n", path, strerror(errno));
        return EXIT_USAGE;
    }
    if (fstat(fileno(load.file), &status) == 0 && S_ISREG(status.st_mode))
        load.bytes_total = (uint64_t)status.st_size;
    interrupted();
    load.client = cli_open(&own, false);
    pthread_mutex_init(&load.lock, NULL);
    pthread_cond_init(&load.changed, NULL);
    progress_start(&load.progress, "written");
    bool read_all_of_it = read_lines(&load);
    wait_for_room(&load, 0, 0, NULL);
    replikv_close(load.client);
    int code = summary(&load, read_all_of_it);
    pthread_cond_destroy(&load.changed);
    pthread_mutex_destroy(&load.lock);
    if (load.file != stdin)
        fclose(load.file);
    return code;
}
