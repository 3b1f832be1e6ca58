/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engines/lsm/inspect.h"
#include "proxy/cli/stored_key.h"

/* lsm check: all that the inspector tells, summed up by level or collected as
 * JSON, which is what people's lines are then made of, too. */

struct sum {
    uint64_t tables, bytes, entries, removals;
    struct owned from, to; /* the smallest and the largest key */
};

struct check {
    struct sum levels[LEVELS];
    uint64_t sequence;
    json_t *drops, *logs, *unnamed, *damage;
    struct progress progress;
};

static struct replikv_bytes of(struct bytes bytes)
{
    return replikv_bytes_of(bytes.data, bytes.size);
}

/* Keep key if it is the first, or on the side that order says. */
static void keep(struct owned *kept, struct bytes key, int order)
{
    if (kept->data != NULL &&
        bytes_compare(key, bytes_of(kept->data, kept->size)) * order <= 0)
        return;
    owned_fini(kept);
    kept->data = must_have(malloc(key.size + 1));
    kept->size = key.size;
    if (key.size > 0)
        memcpy(kept->data, key.data, key.size);
}

static void note_manifest(void *context, const struct manifest *manifest)
{
    struct check *check = context;
    check->sequence = manifest->sequence;
    for (size_t i = 0; i < manifest->drop_count; i++) {
        const struct dropped_range *drop = &manifest->drops[i];
        json_t *object = must_have(json_object());
        struct owned from = stored_key_text(of(drop->from));
        struct owned to = stored_key_text(of(drop->to));
        json_set_number(object, "sequence", drop->sequence);
        json_set_string(object, "from", from.data);
        json_set_string(object, "to", to.data);
        owned_fini(&from);
        owned_fini(&to);
        json_push(check->drops, object);
    }
}

static void note_table(void *context, unsigned level, const struct table *table)
{
    struct check *check = context;
    struct sum *sum = &check->levels[level];
    sum->tables++;
    sum->bytes += table->facts.bytes;
    sum->entries += table->facts.entries;
    sum->removals += table->facts.removals;
    keep(&sum->from, table->smallest, -1);
    keep(&sum->to, table->largest, 1);
}

static void note_log(void *context, const struct log_replay *replay,
                     uint64_t operations, const char *end)
{
    struct check *check = context;
    char name[LSM_NAME_MAX];
    json_t *object = must_have(json_object());
    log_name(name, replay->number);
    json_set_string(object, "file", name);
    json_set_string(object, "end", end);
    json_set_number(object, "bytes", replay->size);
    json_set_number(object, "synced", replay->synced);
    json_set_number(object, "operations", operations);
    json_push(check->logs, object);
}

static void note_unnamed(void *context, const char *file, const char *what)
{
    struct check *check = context;
    json_t *object = must_have(json_object());
    json_set_string(object, "file", file);
    json_set_string(object, "what", what);
    json_push(check->unnamed, object);
}

static void note_damage(void *context, const char *file, uint64_t offset,
                        const char *what)
{
    struct check *check = context;
    json_t *object = must_have(json_object());
    json_set_string(object, "file", file);
    json_set_number(object, "offset", offset);
    json_set_string(object, "what", what);
    json_push(check->damage, object);
}

static void note_progress(void *context, uint64_t done, uint64_t total)
{
    struct check *check = context;
    progress_show(&check->progress, done, total, done);
}

/* ---- printing ---- */

static void print_levels(const struct check *check)
{
    static const char *const headers[] = {
        ">LEVEL", ">TABLES", ">BYTES", ">ENTRIES", ">REMOVALS", "FROM", "TO"};
    struct grid grid;
    grid_init(&grid, headers, sizeof headers / sizeof *headers);
    for (unsigned i = 0; i < LEVELS; i++) {
        const struct sum *sum = &check->levels[i];
        if (sum->tables == 0)
            continue;
        struct owned from = stored_key_text(owned_bytes(&sum->from));
        struct owned to = stored_key_text(owned_bytes(&sum->to));
        grid_add(&grid, "%u", i);
        grid_add(&grid, "%" PRIu64, sum->tables);
        grid_add(&grid, "%" PRIu64, sum->bytes);
        grid_add(&grid, "%" PRIu64, sum->entries);
        grid_add(&grid, "%" PRIu64, sum->removals);
        grid_add(&grid, "%s", from.data);
        grid_add(&grid, "%s", to.data);
        owned_fini(&from);
        owned_fini(&to);
    }
    grid_finish(&grid);
}

/* Objects with one cell under each header, by these names; nothing if there
 * are none. */
static void print_list(const json_t *list, const char *const *headers,
                       const char *const *names, size_t columns)
{
    struct grid grid;
    if (json_array_size(list) == 0)
        return;
    putchar('\n');
    grid_init(&grid, headers, columns);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *object = json_array_get(list, i);
        for (size_t j = 0; j < columns; j++) {
            const json_t *cell = json_object_get(object, names[j]);
            if (json_is_string(cell))
                grid_add(&grid, "%s", json_string_value(cell));
            else
                grid_add(&grid, "%" PRId64, (int64_t)json_integer_value(cell));
        }
    }
    grid_finish(&grid);
}

static void print_check(const struct check *check)
{
    size_t damages = json_array_size(check->damage);
    print_levels(check);
    print_list(check->logs,
               (const char *const[]){"LOG", "END", ">BYTES", ">OPERATIONS"},
               (const char *const[]){"file", "end", "bytes", "operations"}, 4);
    print_list(check->drops, (const char *const[]){"DROPPED FROM", "TO"},
               (const char *const[]){"from", "to"}, 2);
    print_list(check->unnamed, (const char *const[]){"NOT OF THE STORE", "WHY"},
               (const char *const[]){"file", "what"}, 2);
    print_list(check->damage,
               (const char *const[]){"DAMAGED", ">OFFSET", "HOW"},
               (const char *const[]){"file", "offset", "what"}, 3);
    if (damages == 0)
        puts("\nsound");
    else
        printf("\n%zu %s damaged; restore them from a backup, or start the "
               "node anew with\nreplikvd --replace and let the replicas refill "
               "it\n",
               damages, damages == 1 ? "place is" : "places are");
}

static json_t *json_of_levels(const struct check *check)
{
    json_t *list = must_have(json_array());
    for (unsigned i = 0; i < LEVELS; i++) {
        const struct sum *sum = &check->levels[i];
        if (sum->tables == 0)
            continue;
        json_t *object = must_have(json_object());
        json_set_number(object, "level", i);
        json_set_number(object, "tables", sum->tables);
        json_set_number(object, "bytes", sum->bytes);
        json_set_number(object, "entries", sum->entries);
        json_set_number(object, "removals", sum->removals);
        json_set(object, "from", stored_key_json(owned_bytes(&sum->from)));
        json_set(object, "to", stored_key_json(owned_bytes(&sum->to)));
        json_push(list, object);
    }
    return list;
}

static void print_json(const struct check *check)
{
    json_t *document = must_have(json_object());
    json_set(document, "sound",
             json_boolean(json_array_size(check->damage) == 0));
    json_set_number(document, "sequence", check->sequence);
    json_set(document, "levels", json_of_levels(check));
    json_set(document, "logs", json_incref(check->logs));
    json_set(document, "drops", json_incref(check->drops));
    json_set(document, "unnamed", json_incref(check->unnamed));
    json_set(document, "damage", json_incref(check->damage));
    json_document(document);
}

static void check_fini(struct check *check)
{
    json_decref(check->drops);
    json_decref(check->logs);
    json_decref(check->unnamed);
    json_decref(check->damage);
    for (unsigned i = 0; i < LEVELS; i++) {
        owned_fini(&check->levels[i].from);
        owned_fini(&check->levels[i].to);
    }
}

int command_lsm_check(const struct cli *cli)
{
    const char *path = cli->args[0];
    struct stat found;
    struct error error;
    struct check check = {
        .drops = must_have(json_array()),
        .logs = must_have(json_array()),
        .unnamed = must_have(json_array()),
        .damage = must_have(json_array()),
    };
    struct inspector inspector = {
        .context = &check,
        .manifest = note_manifest,
        .table = note_table,
        .log = note_log,
        .unnamed = note_unnamed,
        .damage = note_damage,
        .progress = note_progress,
    };
    enum status status = STATUS_INVALID;
    progress_start(&check.progress, "files");
    if (stat(path, &found) == 0 && !S_ISDIR(found.st_mode))
        error_set(&error, status,
                  "%.200s is a file; replikv lsm dump prints those", path);
    else
        status = inspect_directory(path, &inspector, &error);
    progress_finish(&check.progress);
    bool done = status == STATUS_OK || status == STATUS_CORRUPT;
    if (done && cli->json)
        print_json(&check);
    else if (done)
        print_check(&check);
    else
        fprintf(stderr, "replikv: lsm check: %s\n", error.text);
    check_fini(&check);
    if (done)
        return status == STATUS_OK ? EXIT_DONE : EXIT_NOT_FOUND;
    return status == STATUS_INVALID || status == STATUS_NOT_FOUND
               ? EXIT_USAGE
               : EXIT_REFUSED;
}
