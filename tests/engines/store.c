/* SPDX-License-Identifier: MIT */
#include "tests/engines/store.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SETTINGS_MAX = 16 };

bool store_init(struct store *store, const struct engine_type *type)
{
    const char *base = getenv("TMPDIR");
    *store = (struct store){.type = type};
    snprintf(store->parent, sizeof store->parent, "%s/replikv-XXXXXX",
             base != NULL ? base : "/tmp");
    if (mkdtemp(store->parent) == NULL)
        return false;
    return snprintf(store->directory, sizeof store->directory, "%s/store",
                    store->parent) < (int)sizeof store->directory;
}

static int remove_entry(const char *path, const struct stat *stat, int kind,
                        struct FTW *walk)
{
    (void)stat;
    (void)kind;
    (void)walk;
    return remove(path);
}

void store_fini(struct store *store)
{
    store_close(store);
    nftw(store->parent, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void count_report(void *context, const char *message)
{
    struct store *store = context;
    fprintf(stderr, "reported: %s\n", message);
    atomic_fetch_add(&store->reports, 1);
}

/* A twin's are first.NAME and second.NAME. */
static bool is_small(const char *name)
{
    const char *dot = strchr(name, '.');
    if (dot != NULL)
        name = dot + 1;
    static const char *const names[] = {"write_buffer_bytes", "memtable_bytes",
                                        "table_bytes", "level1_bytes"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

enum status store_open(struct store *store)
{
    struct engine_setting settings[SETTINGS_MAX];
    size_t count = 0;
    const struct engine_setting_spec *spec = store->type->settings;
    for (; spec != NULL && spec->name != NULL && count < SETTINGS_MAX; spec++) {
        if (is_small(spec->name))
            settings[count++] = (struct engine_setting){spec->name, spec->min};
        else if (spec->words != NULL && store->variant != 0)
            settings[count++] = (struct engine_setting){
                spec->name, store->variant % (spec->max + 1)};
    }
    struct engine_options options = {
        .directory = store->directory,
        .settings = settings,
        .setting_count = count,
        .report = count_report,
        .report_context = store,
    };
    return engine_open(store->type, &options, &store->engine, &store->error);
}

void store_close(struct store *store)
{
    engine_close(store->engine);
    store->engine = NULL;
}

enum status store_put(struct store *store, const char *key, const char *value,
                      bool sync)
{
    struct batch_operation operation = {
        .key = bytes_of_string(key),
        .value = value != NULL ? bytes_of_string(value) : bytes_of(NULL, 0),
        .remove = value == NULL,
    };
    struct batch batch = {.operations = &operation, .count = 1};
    return engine_write(store->engine, &batch, sync);
}

uint64_t store_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}
