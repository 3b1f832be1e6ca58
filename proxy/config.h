/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CONFIG_H
#define REPLIKV_PROXY_CONFIG_H

#include "engines/engine.h"
#include "proxy/core/node.h"

/* The configuration of a node: one YAML file, read once at start.
 *
 *   bytes -> events -------------> document ----> struct config
 *            one document, no      keys against    plain data
 *            aliases, no depth     the schema
 *
 * Every mistake is reported at once, with its line; a file with a mistake is
 * never used. A key that is not known is a mistake, so that nothing is read
 * and ignored. Keys, defaults, ranges and meanings stand in one table in
 * config_schema.c; examples/node.yaml is held against it by a test.
 *
 * No threads, no global state, nothing is kept after the call. */

enum {
    CONFIG_FILE_BYTES_MAX = 1024 * 1024,
    CONFIG_PATH_MAX = 1023,
    CONFIG_SEEDS_MAX = 64,
    CONFIG_BUCKETS_MAX = 256,
    CONFIG_SETTINGS_MAX = 32,
    /* What a request has beside its value: key, context, its own fields. */
    CONFIG_REQUEST_OVERHEAD_BYTES = 64 * 1024,
    /* A file with more is not worth reading on; the last line says so. */
    CONFIG_MISTAKES_MAX = 100,
    CONFIG_MISTAKE_TEXT_MAX = 512,
};

enum config_sync { CONFIG_SYNC_BATCH, CONFIG_SYNC_INTERVAL, CONFIG_SYNC_NONE };

/* Plain data of a fixed size (some 70 KB: keep it off small stacks). It may be
 * copied, but pointers given out by config_node_config point into it. */
struct config {
    char name[NODE_NAME_MAX + 1];
    char zone[ZONE_NAME_MAX + 1];
    char data_dir[CONFIG_PATH_MAX + 1];

    char client_address[ADDRESS_MAX + 1];
    char peer_address[ADDRESS_MAX + 1];
    bool allow_any; /* addresses beyond loopback may be listened on */

    char cluster[NODE_NAME_MAX + 1];
    char seeds[CONFIG_SEEDS_MAX][ADDRESS_MAX + 1];
    size_t seed_count;
    struct placement_node founders[NODES_MAX]; /* ids are zero */
    size_t founder_count;
    uint32_t replicas, partitions;

    char engine[64]; /* as much as an ENGINE file holds */
    enum config_sync sync;
    uint32_t sync_interval_ms;
    /* Only those that the file names; names are the engine's own strings. */
    struct engine_setting settings[CONFIG_SETTINGS_MAX];
    size_t setting_count;

    struct node_timeouts timeouts;
    uint32_t lane_timeout_ms; /* of silence, with requests outstanding */
    int r, w;                 /* for buckets that do not say */
    bool sloppy;

    struct node_limits limits;
    uint64_t queue_bytes_max; /* waiting to be sent to one peer */
    uint32_t connections_max;
    uint32_t recorder_mib; /* 0: off */

    /* `default` is always among them. */
    struct bucket_config buckets[CONFIG_BUCKETS_MAX];
    size_t bucket_count;

    const char *seed_pointers[CONFIG_SEEDS_MAX]; /* of config_node_config */
};

/* In the order of their lines; text is FILE:LINE: key.path: found X; allowed
 * Y, without a newline. */
struct config_mistake {
    unsigned line;
    char text[CONFIG_MISTAKE_TEXT_MAX];
};
struct config_mistakes {
    struct config_mistake list[CONFIG_MISTAKES_MAX];
    size_t count;
};

/* engine_type_find, or what a test puts in its place. */
typedef const struct engine_type *config_engine_find(const char *name);

/* Read the file. OK: config is complete and mistakes empty. INVALID: at least
 * one mistake, and config must not be used. */
enum status config_load(const char *path, config_engine_find *find,
                        struct config *config,
                        struct config_mistakes *mistakes) MUST_CHECK;

/* The same for text in memory; file is what mistakes call it. */
enum status config_parse(const char *file, struct bytes text,
                         config_engine_find *find, struct config *config,
                         struct config_mistakes *mistakes) MUST_CHECK;

/* What node_new takes. Pointers in it point into config and live as long.
 * membership, boot, store, versions, replace, amnesiac and seed are not of the
 * file: they are zero, for the caller to fill in. */
struct node_config config_node_config(struct config *config);

#endif
