/* SPDX-License-Identifier: MIT */
#include "engines/twin.h"
#include "engines/types.h"
#include "proto/assert.h"

#include <stdio.h>
#include <stdlib.h>

/* Types of twins are made as they are asked for, as which engines there are is
 * known to the table in engine.c only, and capabilities and settings follow
 * from both. There are as many as pairs were named; none is freed. */

const char *const twin_places[TWIN_BOTH] = {"first", "second"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct twin_type *made;

static void add_settings(struct twin_type *type, enum twin_place place)
{
    const struct engine_setting_spec *spec = type->inner[place]->settings;
    for (; spec != NULL && spec->name != NULL; spec++) {
        size_t i = type->setting_count++;
        ASSERT(i < TWIN_SETTINGS_MAX);
        char *name = type->setting_names[i];
        int size = snprintf(name, TWIN_SETTING_BYTES, "%s.%s",
                            twin_places[place], spec->name);
        ASSERT(size < TWIN_SETTING_BYTES);
        type->settings[i] = *spec;
        type->settings[i].name = name;
    }
}

static struct twin_type *type_new(const struct engine_type *first,
                                  const struct engine_type *second)
{
    struct twin_type *type = calloc(1, sizeof *type);
    if (type == NULL)
        return NULL;
    unsigned both = first->capabilities & second->capabilities;
    type->inner[TWIN_FIRST] = first;
    type->inner[TWIN_SECOND] = second;
    int size = snprintf(type->name, sizeof type->name, "twin(%s, %s)",
                        first->name, second->name);
    ASSERT(size < (int)sizeof type->name);
    add_settings(type, TWIN_FIRST);
    add_settings(type, TWIN_SECOND);
    type->base = twin_engine_type;
    type->base.name = type->name;
    type->base.settings = type->settings;
    type->base.capabilities =
        (both & (ENGINE_NEVER_BLOCKS | ENGINE_RANGE_DELETE)) |
        (first->capabilities & (ENGINE_DURABLE | ENGINE_CHECKPOINT));
    /* Key by key, through both, unless neither needs that. */
    if ((both & ENGINE_RANGE_DELETE) == 0)
        type->base.delete_range = NULL;
    if ((first->capabilities & ENGINE_CHECKPOINT) == 0)
        type->base.checkpoint = NULL;
    return type;
}

const struct engine_type *twin_type_of(const struct engine_type *first,
                                       const struct engine_type *second)
{
    pthread_mutex_lock(&lock);
    struct twin_type *type = made;
    while (type != NULL && (type->inner[TWIN_FIRST] != first ||
                            type->inner[TWIN_SECOND] != second))
        type = type->next;
    if (type == NULL && (type = type_new(first, second)) != NULL) {
        type->next = made;
        made = type;
    }
    pthread_mutex_unlock(&lock);
    return type == NULL ? NULL : &type->base;
}

/* Names have no parentheses, so there is no twin of a twin. What keeps nothing
 * has nothing to compare. */
const struct engine_type *twin_type_find(const char *text)
{
    enum { NAME_MAX_BYTES = 33 };
    char names[TWIN_BOTH][NAME_MAX_BYTES];
    const struct engine_type *types[TWIN_BOTH];
    int end = 0;
    if (sscanf(text, "twin( %32[a-z0-9_] , %32[a-z0-9_] ) %n",
               names[TWIN_FIRST], names[TWIN_SECOND], &end) != 2 ||
        end == 0 || text[end] != '\0')
        return NULL;
    for (int i = 0; i < TWIN_BOTH; i++) {
        types[i] = engine_type_find(names[i]);
        if (types[i] == NULL || types[i] == &null_engine_type)
            return NULL;
    }
    return twin_type_of(types[TWIN_FIRST], types[TWIN_SECOND]);
}
