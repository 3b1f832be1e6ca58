/* SPDX-License-Identifier: MIT */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <yaml.h>

#include "proto/assert.h"
#include "proxy/config_schema.h"
#include "proxy/config_walk.h"

enum { KEYS_MAX = 64, PATH_TEXT_MAX = 96, ALLOWED_TEXT_MAX = 320 };

struct walk {
    yaml_document_t *document;
    const char *file;
    config_engine_find *find;
    struct config *config;
    struct config_mistakes *mistakes;
    bool founders_given;
    unsigned lines[KEYS_MAX];                  /* by index in config_keys */
    unsigned bucket_lines[CONFIG_BUCKETS_MAX]; /* of the names */
};

__attribute__((format(printf, 3, 4))) static void
mistake(struct walk *walk, unsigned line, const char *format, ...)
{
    struct config_mistakes *all = walk->mistakes;
    if (all->count == CONFIG_MISTAKES_MAX)
        return;
    struct config_mistake *one = &all->list[all->count++];
    one->line = line;
    int used =
        snprintf(one->text, sizeof(one->text), "%s:%u: ", walk->file, line);
    if (used < 0 || (size_t)used >= sizeof(one->text))
        return;
    if (all->count == CONFIG_MISTAKES_MAX) {
        one->line = UINT_MAX; /* sorted behind the others */
        snprintf(one->text + used, sizeof(one->text) - (size_t)used,
                 "too many mistakes, the rest is not shown");
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(one->text + used, sizeof(one->text) - (size_t)used, format,
              arguments);
    va_end(arguments);
}

static yaml_node_t *node_at(struct walk *walk, int index)
{
    return yaml_document_get_node(walk->document, index);
}

static unsigned line_of(const yaml_node_t *node)
{
    return (unsigned)node->start_mark.line + 1;
}

static const char *scalar(const yaml_node_t *node)
{
    return (const char *)node->data.scalar.value;
}

/* Nothing, as YAML writes it: `key:`, `key: ~`, `key: null`. */
static bool is_nothing(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE ||
        node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    const char *text = scalar(node);
    return *text == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

/* What stands there, for people: short, on one line, printable. */
static const char *found(const yaml_node_t *node, char text[64])
{
    if (node->type == YAML_SEQUENCE_NODE)
        return "a list";
    if (node->type == YAML_MAPPING_NODE)
        return "a mapping";
    if (is_nothing(node))
        return "nothing";
    size_t used = 0;
    size_t length = node->data.scalar.length;
    text[used++] = '"';
    for (size_t i = 0; i < length && i < 48; i++) {
        unsigned char c = node->data.scalar.value[i];
        text[used++] = c < ' ' || c == 0x7f ? '?' : (char)c;
    }
    snprintf(text + used, 64 - used, "%s", length > 48 ? "...\"" : "\"");
    return text;
}

static void wrong(struct walk *walk, const yaml_node_t *node, const char *path,
                  const char *allowed)
{
    char text[64];
    mistake(walk, line_of(node), "%s: found %s; allowed %s", path,
            found(node, text), allowed);
}

/* Names of one mapping, so that unknown ones can be told from known. */
struct names {
    const char *list[KEYS_MAX];
    size_t count;
};

static void unknown(struct walk *walk, const yaml_node_t *key,
                    const char *prefix, const struct names *names)
{
    const char *nearest = NULL;
    size_t least = SIZE_MAX;
    char all[320] = "";
    size_t used = 0;
    for (size_t i = 0; i < names->count; i++) {
        size_t far = key->data.scalar.length <= 32
                         ? config_distance(scalar(key), names->list[i])
                         : SIZE_MAX;
        if (far < least) {
            least = far;
            nearest = names->list[i];
        }
        if (used < sizeof(all))
            used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s",
                                     i == 0 ? "" : ", ", names->list[i]);
    }
    char text[64];
    if (least <= 3)
        mistake(walk, line_of(key),
                "%s: found unknown key %s, nearest is %s; allowed %s", prefix,
                found(key, text), nearest, all);
    else
        mistake(walk, line_of(key), "%s: found unknown key %s; allowed %s",
                prefix, found(key, text), all);
}

/* Every key is text, known, and there once. */
static void check_keys(struct walk *walk, const yaml_node_t *mapping,
                       const char *prefix, const struct names *names)
{
    unsigned seen[KEYS_MAX] = {0};
    const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
    for (; pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = node_at(walk, pair->key);
        if (key->type != YAML_SCALAR_NODE ||
            strlen(scalar(key)) != key->data.scalar.length) {
            wrong(walk, key, prefix, "a key");
            continue;
        }
        size_t i = 0;
        while (i < names->count && strcmp(names->list[i], scalar(key)) != 0)
            i++;
        if (i == names->count)
            unknown(walk, key, prefix, names);
        else if (seen[i] != 0)
            mistake(walk, line_of(key),
                    "%s: found %s a second time; allowed once (line %u)",
                    prefix, names->list[i], seen[i]);
        else
            seen[i] = line_of(key);
    }
}

/* The value of the first pair of that name; NULL if there is none. */
static yaml_node_t *lookup(struct walk *walk, const yaml_node_t *mapping,
                           const char *name)
{
    const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
    for (; pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = node_at(walk, pair->key);
        if (key->type == YAML_SCALAR_NODE && strcmp(scalar(key), name) == 0)
            return node_at(walk, pair->value);
    }
    return NULL;
}

/* Text without hidden ends; NULL if the node is no such thing. */
static const char *text_of(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE || is_nothing(node) ||
        strlen(scalar(node)) != node->data.scalar.length)
        return NULL;
    return scalar(node);
}

/* An engine is called null, which is nothing in YAML. */
static const char *engine_text(const yaml_node_t *node)
{
    if (is_nothing(node) && strcmp(scalar(node), "null") == 0)
        return scalar(node);
    return text_of(node);
}

/* Quotes make text of anything, so that "3" is no number and "no" no bool. */
static bool is_plain(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE &&
           node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool is_quotable(enum config_type type)
{
    return type != CONFIG_BOOL && type != CONFIG_NUMBER &&
           type != CONFIG_SIZE && type != CONFIG_SIZE_64;
}

static void walk_seeds(struct walk *walk, const yaml_node_t *list,
                       const char *path)
{
    struct config *config = walk->config;
    const yaml_node_item_t *item = list->data.sequence.items.start;
    for (; item < list->data.sequence.items.top; item++) {
        const yaml_node_t *node = node_at(walk, *item);
        const char *text = text_of(node);
        enum config_reach reach;
        if (text == NULL || !config_address_ok(text, &reach) ||
            reach == CONFIG_WILDCARD) {
            wrong(walk, node, path, "tcp://A.B.C.D:PORT or ipc:///PATH");
            continue;
        }
        size_t i = 0;
        while (i < config->seed_count && strcmp(config->seeds[i], text) != 0)
            i++;
        if (i < config->seed_count)
            wrong(walk, node, path, "each address once");
        else if (config->seed_count == CONFIG_SEEDS_MAX)
            wrong(walk, node, path, "at most 64 addresses");
        else
            memcpy(config->seeds[config->seed_count++], text, strlen(text) + 1);
    }
}

static bool read_founder(const char *text, struct placement_node *founder)
{
    const char *at = strchr(text, '@');
    size_t size = at == NULL ? strlen(text) : (size_t)(at - text);
    memset(founder, 0, sizeof(*founder));
    if (size > NODE_NAME_MAX)
        return false;
    memcpy(founder->name, text, size);
    if (at != NULL && !config_name_ok(at + 1, ZONE_NAME_MAX))
        return false;
    if (at != NULL)
        memcpy(founder->zone, at + 1, strlen(at + 1));
    return config_name_ok(founder->name, NODE_NAME_MAX);
}

static void walk_founders(struct walk *walk, const yaml_node_t *list,
                          const char *path)
{
    struct config *config = walk->config;
    const yaml_node_item_t *item = list->data.sequence.items.start;
    walk->founders_given = item < list->data.sequence.items.top;
    for (; item < list->data.sequence.items.top; item++) {
        const yaml_node_t *node = node_at(walk, *item);
        const char *text = text_of(node);
        struct placement_node founder;
        if (text == NULL || !read_founder(text, &founder)) {
            wrong(walk, node, path, "NAME or NAME@ZONE");
            continue;
        }
        size_t i = 0;
        while (i < config->founder_count &&
               strcmp(config->founders[i].name, founder.name) != 0)
            i++;
        if (i < config->founder_count)
            wrong(walk, node, path, "each name once");
        else if (config->founder_count == NODES_MAX)
            wrong(walk, node, path, "at most 256 founders");
        else if (strcmp(founder.name, config->name) == 0 &&
                 strcmp(founder.zone, config->zone) != 0)
            wrong(walk, node, path, "this node with the zone of node.zone");
        else
            config->founders[config->founder_count++] = founder;
    }
}

static void walk_options(struct walk *walk, const yaml_node_t *mapping,
                         const char *path)
{
    const struct engine_type *type = walk->find(walk->config->engine);
    if (type == NULL)
        return; /* said where the engine is named */
    struct names names = {.count = 0};
    const struct engine_setting_spec *spec = type->settings;
    for (; spec != NULL && spec->name != NULL; spec++) {
        ASSERT(names.count < CONFIG_SETTINGS_MAX);
        names.list[names.count++] = spec->name;
    }
    check_keys(walk, mapping, path, &names);
    for (spec = type->settings; spec != NULL && spec->name != NULL; spec++) {
        const yaml_node_t *node = lookup(walk, mapping, spec->name);
        if (node == NULL)
            continue;
        const char *text =
            is_plain(node) || spec->words != NULL ? text_of(node) : NULL;
        uint64_t value;
        if (text != NULL && config_read_setting(spec, text, &value)) {
            walk->config->settings[walk->config->setting_count++] =
                (struct engine_setting){spec->name, value};
            continue;
        }
        char at[2 * PATH_TEXT_MAX], allowed[ALLOWED_TEXT_MAX];
        snprintf(at, sizeof(at), "%s.%.64s", path, spec->name);
        config_setting_allowed(spec, allowed, sizeof(allowed));
        wrong(walk, node, at, allowed);
    }
}

/* The engines that this build has, of those that the project knows. */
static void engine_names(struct walk *walk, char *text, size_t size)
{
    static const char *const known[] = {"lsm",    "leveldb", "lmdb",
                                        "memory", "remote",  "null"};
    size_t used = 0;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (walk->find(known[i]) != NULL && used < size)
            used +=
                (size_t)snprintf(text + used, size - used, "%s, ", known[i]);
    if (used < size)
        snprintf(text + used, size - used,
                 "or twin(A, B) of two of them, but not null");
}

/* The engine is called as it calls itself, however it was written; and not at
 * all if there is none, so that options are not taken for the default's. */
static void walk_engine(struct walk *walk, const yaml_node_t *node,
                        const char *path)
{
    const char *text = engine_text(node);
    const struct engine_type *type = text == NULL ? NULL : walk->find(text);
    char allowed[ALLOWED_TEXT_MAX];
    snprintf(walk->config->engine, sizeof(walk->config->engine), "%s",
             type == NULL ? "" : type->name);
    if (type != NULL)
        return;
    engine_names(walk, allowed, sizeof(allowed));
    wrong(walk, node, path, allowed);
}

static void walk_value(struct walk *walk, const struct config_key *key,
                       const yaml_node_t *node, void *base, const char *path)
{
    char allowed[ALLOWED_TEXT_MAX];
    config_allowed(key, allowed, sizeof(allowed));
    if (key->type == CONFIG_SEEDS && node->type == YAML_SEQUENCE_NODE) {
        walk_seeds(walk, node, path);
    } else if (key->type == CONFIG_FOUNDERS &&
               node->type == YAML_SEQUENCE_NODE) {
        walk_founders(walk, node, path);
    } else if (key->type == CONFIG_OPTIONS && node->type == YAML_MAPPING_NODE) {
        walk_options(walk, node, path);
    } else if (key->type == CONFIG_ENGINE) {
        walk_engine(walk, node, path);
    } else if (key->type != CONFIG_OPTIONS || !is_nothing(node)) {
        const char *text = text_of(node);
        if (text == NULL || (!is_quotable(key->type) && !is_plain(node)) ||
            !config_set(key, text, base))
            wrong(walk, node, path, allowed);
    }
}

/* One mapping against the rows of its section. */
static void walk_section(struct walk *walk, const yaml_node_t *mapping,
                         const char *section, const char *prefix, void *base)
{
    size_t count;
    const struct config_key *keys = config_keys(&count);
    ASSERT(count <= KEYS_MAX);
    struct names names = {.count = 0};
    for (size_t i = 0; i < count; i++)
        if (strcmp(keys[i].section, section) == 0)
            names.list[names.count++] = keys[i].name;
    check_keys(walk, mapping, prefix, &names);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i].section, section) != 0)
            continue;
        char path[PATH_TEXT_MAX];
        snprintf(path, sizeof(path), "%s.%s", prefix, keys[i].name);
        const yaml_node_t *node = lookup(walk, mapping, keys[i].name);
        walk->lines[i] = line_of(node == NULL ? mapping : node);
        if (node != NULL) {
            walk_value(walk, &keys[i], node, base, path);
        } else if (keys[i].required) {
            char allowed[ALLOWED_TEXT_MAX];
            config_allowed(&keys[i], allowed, sizeof(allowed));
            mistake(walk, line_of(mapping), "%s: found nothing; allowed %s",
                    path, allowed);
        }
    }
}

static void check_level(struct walk *walk, unsigned line, const char *path,
                        int level)
{
    if (level > (int)walk->config->replicas)
        mistake(walk, line, "%s: found \"%d\"; allowed 1 to %u, the replicas",
                path, level, walk->config->replicas);
}

static void add_bucket(struct walk *walk, const struct bucket_config *bucket,
                       unsigned line, const char *path)
{
    struct config *config = walk->config;
    for (size_t i = 0; i < config->bucket_count; i++) {
        const struct bucket_config *other = &config->buckets[i];
        if (strcmp(other->name, bucket->name) == 0)
            mistake(walk, line,
                    "%s.name: found \"%s\" a second time; allowed once "
                    "(line %u)",
                    path, bucket->name, walk->bucket_lines[i]);
        else if (other->id.value == bucket->id.value)
            mistake(walk, line,
                    "%s.name: found \"%s\", whose id is that of \"%s\" "
                    "(line %u); allowed another name",
                    path, bucket->name, other->name, walk->bucket_lines[i]);
        else
            continue;
        return;
    }
    walk->bucket_lines[config->bucket_count] = line;
    config->buckets[config->bucket_count++] = *bucket;
}

/* Only what the bucket itself says: what it inherits is reported where it
 * stands. */
static void check_bucket_level(struct walk *walk, const yaml_node_t *bucket,
                               const char *path, const char *name, int level)
{
    char at[64];
    snprintf(at, sizeof(at), "%.48s.%s", path, name);
    const yaml_node_t *node = lookup(walk, bucket, name);
    if (node != NULL)
        check_level(walk, line_of(node), at, level);
}

static struct bucket_config bucket_default(const struct config *config)
{
    struct bucket_config bucket;
    /* Padding too: a config is plain data that may be compared. */
    memset(&bucket, 0, sizeof(bucket));
    bucket.kind = RECORD_SIBLINGS;
    bucket.r = config->r;
    bucket.w = config->w;
    bucket.sloppy = config->sloppy;
    return bucket;
}

static void walk_buckets(struct walk *walk, const yaml_node_t *list)
{
    const yaml_node_item_t *item = list->data.sequence.items.start;
    for (size_t i = 0; item < list->data.sequence.items.top; item++, i++) {
        const yaml_node_t *node = node_at(walk, *item);
        char path[32];
        snprintf(path, sizeof(path), CONFIG_BUCKET_SECTION "[%zu]", i);
        if (node->type != YAML_MAPPING_NODE) {
            wrong(walk, node, path, "a mapping with a name");
            continue;
        }
        /* One is kept for `default`, which nobody has to declare. */
        if (walk->config->bucket_count == CONFIG_BUCKETS_MAX - 1) {
            wrong(walk, node, path, "at most 255 buckets");
            return;
        }
        struct bucket_config bucket = bucket_default(walk->config);
        walk_section(walk, node, CONFIG_BUCKET_SECTION, path, &bucket);
        check_bucket_level(walk, node, path, "r", bucket.r);
        check_bucket_level(walk, node, path, "w", bucket.w);
        if (bucket.name[0] == '\0')
            continue;
        bucket.id = bucket_id_of(bucket.name);
        const yaml_node_t *name = lookup(walk, node, "name");
        add_bucket(walk, &bucket, line_of(name), path);
    }
}

static void add_default_bucket(struct walk *walk)
{
    struct config *config = walk->config;
    for (size_t i = 0; i < config->bucket_count; i++)
        if (strcmp(config->buckets[i].name, "default") == 0)
            return;
    struct bucket_config bucket = bucket_default(config);
    memcpy(bucket.name, "default", sizeof("default"));
    bucket.id = bucket_id_of(bucket.name);
    add_bucket(walk, &bucket, 1, CONFIG_BUCKET_SECTION);
}

static unsigned key_line(const struct walk *walk, const char *section,
                         const char *name)
{
    size_t count;
    const struct config_key *keys = config_keys(&count);
    const struct config_key *key = config_key_find(section, name);
    ASSERT(key != NULL);
    unsigned line = walk->lines[key - keys];
    return line == 0 ? 1 : line;
}

static void check_listen(struct walk *walk, const char *name, const char *text)
{
    enum config_reach reach;
    const char *allowed = NULL;
    bool ok = config_address_ok(text, &reach);
    ASSERT(ok);
    if (reach == CONFIG_WILDCARD && strcmp(name, "peer") == 0)
        allowed = "an address that other nodes can dial";
    else if (reach != CONFIG_LOOPBACK && !walk->config->allow_any)
        allowed = "loopback (127.x.x.x), or listen.allow_any: true";
    if (allowed != NULL)
        mistake(walk, key_line(walk, "listen", name),
                "listen.%s: found \"%s\"; allowed %s", name, text, allowed);
}

static void check_least(struct walk *walk, const char *section,
                        const char *name, unsigned long long value,
                        unsigned long long least, const char *because)
{
    if (value < least)
        mistake(walk, key_line(walk, section, name),
                "%s.%s: found \"%llu\"; allowed %llu (%s) and more", section,
                name, value, least, because);
}

/* What no value can show alone. */
static void check_together(struct walk *walk)
{
    struct config *config = walk->config;
    check_listen(walk, "client", config->client_address);
    check_listen(walk, "peer", config->peer_address);
    /* Or no value that is allowed could be written. */
    check_least(walk, "limits", "inflight_bytes_max",
                config->limits.inflight_bytes_max,
                config->limits.value_bytes_max + CONFIG_REQUEST_OVERHEAD_BYTES,
                "limits.value_bytes_max and 64KiB");
    /* Or a write that is still under way would be taken for another one. */
    check_least(walk, "replication", "dedup_window_ms",
                config->timeouts.dedup_window_ms,
                2ull * config->timeouts.request_ms, "twice request_timeout_ms");
    if (strcmp(config->client_address, config->peer_address) == 0)
        mistake(walk, key_line(walk, "listen", "peer"),
                "listen.peer: found \"%s\"; allowed an address other than "
                "listen.client",
                config->peer_address);
    check_level(walk, key_line(walk, "replication", "r"), "replication.r",
                config->r);
    check_level(walk, key_line(walk, "replication", "w"), "replication.w",
                config->w);
    if (!(walk->founders_given && walk->mistakes->count > 0) &&
        !config_is_founder(config))
        mistake(walk, key_line(walk, "cluster", "bootstrap"),
                "cluster.bootstrap: found %s; allowed a list with this node",
                config->founder_count == 0 ? "nothing" : "other nodes");
}

static void walk_root(struct walk *walk, const yaml_node_t *root)
{
    if (root->type != YAML_MAPPING_NODE) {
        wrong(walk, root, "file", "a mapping of sections");
        return;
    }
    struct names names = {.count = 0};
    const char *const *sections = config_sections();
    for (size_t i = 0; sections[i] != NULL; i++)
        names.list[names.count++] = sections[i];
    check_keys(walk, root, "file", &names);
    for (size_t i = 0; sections[i] != NULL; i++) {
        bool buckets = strcmp(sections[i], CONFIG_BUCKET_SECTION) == 0;
        const yaml_node_t *node = lookup(walk, root, sections[i]);
        /* A section all of whose keys are commented out says nothing. */
        if (node != NULL && is_nothing(node))
            node = NULL;
        if (node == NULL && strcmp(sections[i], "node") == 0)
            mistake(walk, 1, "node: found nothing; allowed name, data_dir");
        else if (node == NULL)
            continue;
        else if (buckets && node->type != YAML_SEQUENCE_NODE)
            wrong(walk, node, sections[i], "a list of buckets");
        else if (buckets)
            walk_buckets(walk, node);
        else if (node->type != YAML_MAPPING_NODE)
            wrong(walk, node, sections[i], "a mapping of keys");
        else
            walk_section(walk, node, sections[i], sections[i], walk->config);
    }
    add_default_bucket(walk);
    check_together(walk);
}

void config_walk(yaml_document_t *document, const char *file,
                 config_engine_find *find, struct config *config,
                 struct config_mistakes *mistakes)
{
    struct walk walk = {.document = document,
                        .file = file,
                        .find = find,
                        .config = config,
                        .mistakes = mistakes};
    walk_root(&walk, yaml_document_get_root_node(document));
}
