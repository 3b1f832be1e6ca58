/* SPDX-License-Identifier: MIT */
#include "proxy/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "proto/assert.h"
#include "proxy/config_schema.h"
#include "proxy/config_walk.h"

/* Sections, lists, items and their values are four deep. Twice that leaves room
 * for a useful message about the wrong type, and none for a hostile file. */
enum { DEPTH_MAX = 8 };

bool config_is_founder(const struct config *config)
{
    for (size_t i = 0; i < config->founder_count; i++)
        if (strcmp(config->founders[i].name, config->name) == 0)
            return true;
    return false;
}

static enum status refuse(struct config_mistakes *mistakes, const char *file,
                          size_t line, const char *what, const char *allowed)
{
    mistakes->list[0].line = (unsigned)line;
    snprintf(mistakes->list[0].text, sizeof(mistakes->list[0].text),
             "%.200s:%zu: file: found %s; allowed %s", file, line, what,
             allowed);
    mistakes->count = 1;
    return STATUS_INVALID;
}

/* The text that libyaml holds is lent to it. */
static void yaml_open(yaml_parser_t *parser, struct bytes text)
{
    bool ok = yaml_parser_initialize(parser) == 1;
    ASSERT(ok);
    yaml_parser_set_input_string(parser, text.data, text.size);
}

static enum status refuse_syntax(const yaml_parser_t *parser, const char *file,
                                 struct config_mistakes *mistakes)
{
    char what[160];
    snprintf(what, sizeof(what), "no YAML: %s",
             parser->problem == NULL ? "out of memory" : parser->problem);
    return refuse(mistakes, file, parser->problem_mark.line + 1, what,
                  "YAML in UTF-8");
}

struct shape {
    int depth;
    int documents;
    bool content;
};

/* What this one event makes of the file; NULL or what was found. */
static const char *look_at(const yaml_event_t *event, struct shape *shape)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return "an alias";
    case YAML_DOCUMENT_START_EVENT:
        return ++shape->documents > 1 ? "a second document" : NULL;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        shape->depth++;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        shape->depth++;
        break;
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        if (event->data.scalar.length > 0)
            shape->content = true;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        shape->depth--;
        break;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
    if (anchor != NULL)
        return "an anchor";
    if (tag != NULL)
        return "a tag";
    if (shape->depth > 0)
        shape->content = true;
    return shape->depth > DEPTH_MAX ? "a deeper nesting" : NULL;
}

/* Before any tree is built: syntax, and what a configuration has no use for. A
 * document with aliases can be a thousand times its file, and endless. */
static enum status check_shape(const char *file, struct bytes text,
                               struct config_mistakes *mistakes)
{
    yaml_parser_t parser;
    struct shape shape = {0};
    enum status status = STATUS_OK;
    bool more = true;
    yaml_open(&parser, text);
    while (more && status == STATUS_OK) {
        yaml_event_t event;
        if (yaml_parser_parse(&parser, &event) != 1) {
            status = refuse_syntax(&parser, file, mistakes);
            break;
        }
        const char *what = look_at(&event, &shape);
        if (what != NULL)
            status = refuse(mistakes, file, event.start_mark.line + 1, what,
                            "one document of at most 8 levels without anchors, "
                            "aliases and tags");
        more = event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (status == STATUS_OK && !shape.content)
        status = refuse(mistakes, file, 1, "nothing", "a mapping of sections");
    return status;
}

/* By line, those of one line as they were found. */
static void sort_by_line(struct config_mistakes *mistakes)
{
    for (size_t i = 1; i < mistakes->count; i++) {
        struct config_mistake one = mistakes->list[i];
        size_t j = i;
        for (; j > 0 && mistakes->list[j - 1].line > one.line; j--)
            mistakes->list[j] = mistakes->list[j - 1];
        mistakes->list[j] = one;
    }
}

enum status config_parse(const char *file, struct bytes text,
                         config_engine_find *find, struct config *config,
                         struct config_mistakes *mistakes)
{
    mistakes->count = 0;
    config_defaults(config);
    if (text.size > CONFIG_FILE_BYTES_MAX)
        return refuse(mistakes, file, 1, "a file of more", "1 MiB");
    if (text.size == 0)
        return refuse(mistakes, file, 1, "nothing", "a mapping of sections");
    enum status status = check_shape(file, text, mistakes);
    if (status != STATUS_OK)
        return status;

    yaml_parser_t parser;
    yaml_document_t document;
    yaml_open(&parser, text);
    if (yaml_parser_load(&parser, &document) == 1) {
        config_walk(&document, file, find, config, mistakes);
        yaml_document_delete(&document);
    } else {
        (void)refuse_syntax(&parser, file, mistakes);
    }
    yaml_parser_delete(&parser);
    sort_by_line(mistakes);
    return mistakes->count == 0 ? STATUS_OK : STATUS_INVALID;
}

enum status config_load(const char *path, config_engine_find *find,
                        struct config *config, struct config_mistakes *mistakes)
{
    /* One byte more than is allowed shows a file that is too long. */
    size_t room = CONFIG_FILE_BYTES_MAX + 1;
    uint8_t *text = malloc(room);
    if (text == NULL)
        return refuse(mistakes, path, 1, "no memory", "1 MiB of it");
    FILE *file = fopen(path, "rb");
    size_t size = file == NULL ? 0 : fread(text, 1, room, file);
    enum status status;
    if (file == NULL || ferror(file))
        status = refuse(mistakes, path, 1, strerror(errno),
                        "a file that can be read");
    else
        status =
            config_parse(path, bytes_of(text, size), find, config, mistakes);
    if (file != NULL)
        fclose(file);
    free(text);
    return status;
}

static struct member self_of(const struct config *config)
{
    struct member self = {.id = node_id_of(config->cluster, config->name)};
    memcpy(self.name, config->name, sizeof(self.name));
    memcpy(self.zone, config->zone, sizeof(self.zone));
    memcpy(self.peer_address, config->peer_address, sizeof(self.peer_address));
    memcpy(self.client_address, config->client_address,
           sizeof(self.client_address));
    return self;
}

struct node_config config_node_config(struct config *config)
{
    for (size_t i = 0; i < config->seed_count; i++)
        config->seed_pointers[i] = config->seeds[i];
    return (struct node_config){
        .self = self_of(config),
        .founding = {.cluster = config->cluster,
                     .founders = config->founders,
                     .founder_count = config->founder_count,
                     .partitions = config->partitions,
                     .replicas = config->replicas},
        .seeds = config->seed_pointers,
        .seed_count = config->seed_count,
        .buckets = config->buckets,
        .bucket_count = config->bucket_count,
        .limits = config->limits,
        .timeouts = config->timeouts,
        .engine = config->engine,
    };
}
