/* SPDX-License-Identifier: MIT */
#include "engines/engine.h"
#include "proto/assert.h"

#include <inttypes.h>

static const struct engine_setting_spec *
find_spec(const struct engine_type *type, const char *name)
{
    const struct engine_setting_spec *spec = type->settings;
    for (; spec != NULL && spec->name != NULL; spec++)
        if (strcmp(spec->name, name) == 0)
            return spec;
    return NULL;
}

enum status engine_check_settings(const struct engine_type *type,
                                  const struct engine_options *options,
                                  struct error *error)
{
    for (size_t i = 0; i < options->setting_count; i++) {
        const struct engine_setting *setting = &options->settings[i];
        const struct engine_setting_spec *spec = find_spec(type, setting->name);
        if (spec == NULL)
            return error_set(error, STATUS_INVALID,
                             "the engine \"%s\" has no setting \"%.60s\"",
                             type->name, setting->name);
        if (setting->value < spec->min || setting->value > spec->max)
            return error_set(error, STATUS_INVALID,
                             "%s of the engine \"%s\" is %" PRIu64
                             "; it must be %" PRIu64 " to %" PRIu64,
                             spec->name, type->name, setting->value, spec->min,
                             spec->max);
    }
    return STATUS_OK;
}

uint64_t engine_setting(const struct engine_options *options,
                        const struct engine_type *type, const char *name)
{
    const struct engine_setting_spec *spec = find_spec(type, name);
    ASSERT(spec != NULL);
    for (size_t i = 0; i < options->setting_count; i++)
        if (strcmp(options->settings[i].name, name) == 0)
            return options->settings[i].value;
    return spec->normal;
}
