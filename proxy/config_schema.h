/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CONFIG_SCHEMA_H
#define REPLIKV_PROXY_CONFIG_SCHEMA_H

#include "proxy/config.h"

/* What config.c, config_parse.c and config_schema.c share: the table of keys,
 * and how the text of one value becomes a field. */

enum config_type {
    CONFIG_NAME,
    CONFIG_ZONE,
    CONFIG_PATH,
    CONFIG_LISTEN,
    CONFIG_BOOL,
    CONFIG_NUMBER,  /* uint32_t */
    CONFIG_SIZE,    /* uint32_t, bytes */
    CONFIG_SIZE_64, /* uint64_t, bytes */
    CONFIG_LEVEL,   /* int */
    CONFIG_SYNC,
    CONFIG_KIND,
    CONFIG_ENGINE,
    /* From here on not scalars: config_parse.c walks them. */
    CONFIG_SEEDS,
    CONFIG_FOUNDERS,
    CONFIG_OPTIONS,
};

struct config_key {
    const char *section;
    const char *name;
    enum config_type type;
    size_t offset; /* in struct config; for buckets in struct bucket_config */
    uint64_t min, max;
    const char *normal; /* the default as a file would say it, NULL: none */
    const char *unit;   /* or "" */
    const char *meaning;
    bool required;
};

/* The section of what a bucket can say. */
#define CONFIG_BUCKET_SECTION "buckets"

/* Sections together, in the order in which they depend on each other. */
const struct config_key *config_keys(size_t *count);
/* NULL if there is none. */
const struct config_key *config_key_find(const char *section, const char *name);
/* The names of the sections, ended by NULL. */
const char *const *config_sections(void);

/* Set the key's field in base (struct config or struct bucket_config). False,
 * and nothing set, if the text is no such value. */
bool config_set(const struct config_key *key, const char *text, void *base);
/* What config_set would take, in words. */
void config_allowed(const struct config_key *key, char *text, size_t size);

/* Whether text is one of the setting's words, or a number of its range. */
bool config_read_setting(const struct engine_setting_spec *spec,
                         const char *text, uint64_t *value);
/* What config_read_setting would take, in words, and what it means. */
void config_setting_allowed(const struct engine_setting_spec *spec, char *text,
                            size_t size);

/* Decimal digits, with KiB, MiB or GiB behind them if sizes are allowed. */
bool config_read_number(const char *text, bool size, uint64_t *value);
/* 1 to max of the characters that are safe in names everywhere. */
bool config_name_ok(const char *text, size_t max);
/* Letters to change, add or drop to make one word the other. */
size_t config_distance(const char *a, const char *b);

enum config_reach { CONFIG_LOOPBACK, CONFIG_REMOTE, CONFIG_WILDCARD };
/* tcp://A.B.C.D:PORT or ipc:///PATH, and how far it reaches. */
bool config_address_ok(const char *text, enum config_reach *reach);

/* Whatever the table says when a file says nothing. */
void config_defaults(struct config *config);

#endif
