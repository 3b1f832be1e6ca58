/* SPDX-License-Identifier: MIT */
#include "proxy/config_schema.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "proto/assert.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define AT(field) offsetof(struct config, field)
#define BUCKET_AT(field) offsetof(struct bucket_config, field)

/* clang-format off: a table is read by its columns. */
static const struct config_key keys[] = {
    {"node", "name", CONFIG_NAME, AT(name), 1, NODE_NAME_MAX, NULL, "",
     "this node's name, its identity for good", true},
    {"node", "zone", CONFIG_ZONE, AT(zone), 0, ZONE_NAME_MAX, "", "",
     "what fails together; replicas are spread over zones", false},
    {"node", "data_dir", CONFIG_PATH, AT(data_dir), 1, CONFIG_PATH_MAX, NULL,
     "", "where this node, and no other, keeps its data", true},

    {"listen", "client", CONFIG_LISTEN, AT(client_address), 0, 0,
     "tcp://127.0.0.1:3001", "", "where clients connect", false},
    {"listen", "peer", CONFIG_LISTEN, AT(peer_address), 0, 0,
     "tcp://127.0.0.1:4001", "", "where other nodes connect", false},
    {"listen", "allow_any", CONFIG_BOOL, AT(allow_any), 0, 0, "false", "",
     "listen beyond loopback; nothing is authenticated or encrypted", false},

    {"cluster", "name", CONFIG_NAME, AT(cluster), 1, NODE_NAME_MAX, "replikv",
     "", "nodes of other clusters are refused", false},
    {"cluster", "seeds", CONFIG_SEEDS, 0, 0, CONFIG_SEEDS_MAX, NULL, "",
     "peer addresses to meet the others by", false},
    {"cluster", "bootstrap", CONFIG_FOUNDERS, 0, 0, NODES_MAX, NULL, "",
     "the founders, name or name@zone, the same list on every node", false},
    {"cluster", "replicas", CONFIG_NUMBER, AT(replicas), 1, REPLICAS_MAX, "3",
     "nodes", "how many keep each key; the same on every node", false},
    {"cluster", "partitions", CONFIG_NUMBER, AT(partitions), 1, PARTITIONS_MAX,
     "256", "",
     "fixed when the cluster is made; more balance better, "
     "and cost memory",
     false},

    {"storage", "engine", CONFIG_ENGINE, AT(engine), 0, 0, "lsm", "",
     "what keeps the bytes; a data_dir belongs to one engine", false},
    {"storage", "sync", CONFIG_SYNC, AT(sync), 0, 0, "batch", "",
     "batch acknowledges what is on disk; interval and none may lose it",
     false},
    {"storage", "sync_interval_ms", CONFIG_NUMBER, AT(sync_interval_ms), 1,
     60000, "1000", "ms", "with sync: interval, the most that power loss takes",
     false},
    {"storage", "options", CONFIG_OPTIONS, 0, 0, CONFIG_SETTINGS_MAX, NULL, "",
     "the engine's own settings", false},

    {"replication", "request_timeout_ms", CONFIG_NUMBER,
     AT(timeouts.request_ms), 10, 600000, "2000", "ms",
     "a request's deadline if its client names none", false},
    {"replication", "forward_timeout_ms", CONFIG_NUMBER,
     AT(timeouts.forward_ms), 1, 600000, "500", "ms",
     "then the next replica is asked to coordinate; below a usual round trip "
     "it doubles the work",
     false},
    {"replication", "hedge_ms", CONFIG_NUMBER, AT(timeouts.hedge_ms), 1, 600000,
     "50", "ms",
     "then the next replica is asked to answer; shorter costs more reads",
     false},
    {"replication", "handoff_interval_ms", CONFIG_NUMBER,
     AT(timeouts.handoff_interval_ms), 1, 600000, "200", "ms",
     "between batches of hints; shorter heals sooner and loads more", false},
    {"replication", "hint_window_ms", CONFIG_NUMBER,
     AT(timeouts.hint_window_ms), 1000, 604800000, "10800000", "ms",
     "once a node has been away so long, it is kept no more hints, and "
     "what it missed is mended by anti-entropy",
     false},
    {"replication", "anti_entropy_interval_ms", CONFIG_NUMBER,
     AT(timeouts.exchange_interval_ms), 100, 86400000, "60000", "ms",
     "so often replicas are compared; what differs is mended", false},
    {"replication", "anti_entropy_rebuild_ms", CONFIG_NUMBER,
     AT(timeouts.tree_rebuild_ms), 1000, 604800000, "86400000", "ms",
     "so often the engine is read again for it, so that silent loss is seen",
     false},
    {"replication", "dedup_window_ms", CONFIG_NUMBER,
     AT(timeouts.dedup_window_ms), 1000, 86400000, "150000", "ms",
     "so long a write that is sent again counts once, and deletes are kept",
     false},
    {"replication", "collect_interval_ms", CONFIG_NUMBER,
     AT(timeouts.collect_interval_ms), 100, 86400000, "10000", "ms",
     "between one partition and the next that is looked through for deletes "
     "to be forgotten; shorter frees disks sooner and reads more",
     false},
    {"replication", "clock_skew_max_ms", CONFIG_NUMBER,
     AT(timeouts.clock_skew_max_ms), 100, 3600000, "5000", "ms",
     "when this node's clock is further from the median of all nodes', it goes "
     "by theirs; more than two round trips",
     false},
    {"replication", "lane_timeout_ms", CONFIG_NUMBER, AT(lane_timeout_ms), 100,
     600000, "10000", "ms",
     "a connection to a node that is silent this long is closed; shorter "
     "notices dead links sooner and cuts off slow disks",
     false},
    {"replication", "r", CONFIG_LEVEL, AT(r), 1, REPLICAS_MAX, "quorum",
     "replicas", "answers that a read waits for", false},
    {"replication", "w", CONFIG_LEVEL, AT(w), 1, REPLICAS_MAX, "quorum",
     "replicas", "answers that a write waits for", false},
    {"replication", "sloppy", CONFIG_BOOL, AT(sloppy), 0, 0, "false", "",
     "fallbacks count for w: more writes succeed, fewer reads see them", false},

    {"limits", "value_bytes_max", CONFIG_SIZE, AT(limits.value_bytes_max), 1,
     64 * MIB, "1MiB", "bytes", "the largest value a client can write", false},
    {"limits", "inflight_max", CONFIG_NUMBER, AT(limits.inflight_max), 1, 65535,
     "4096", "requests", "then clients are told overloaded", false},
    {"limits", "inflight_bytes_max", CONFIG_SIZE_64,
     AT(limits.inflight_bytes_max), 64 * KIB, 1024 * GIB, "128MiB", "bytes",
     "keys and values of requests under way; at least one of the largest",
     false},
    {"limits", "hint_bytes_max", CONFIG_SIZE_64, AT(limits.hint_bytes_max), 0,
     1024 * GIB * 1024, "1GiB", "bytes",
     "courtesy hints for one node; beyond it they are shed, and what it missed "
     "is mended by anti-entropy",
     false},
    {"limits", "fallback_bytes_max", CONFIG_SIZE_64,
     AT(limits.fallback_bytes_max), 0, 1024 * GIB * 1024, "4GiB", "bytes",
     "records kept for others; beyond it this fallback refuses to vote", false},
    {"limits", "list_bytes_max", CONFIG_SIZE, AT(limits.list_bytes_max),
     4 * KIB, 16 * MIB, "256KiB", "bytes", "one chunk of a list", false},
    {"limits", "queue_bytes_max", CONFIG_SIZE_64, AT(queue_bytes_max), 64 * KIB,
     64 * GIB, "64MiB", "bytes",
     "waiting to be sent on one connection; beyond it messages are refused, "
     "but for one that is longer and alone",
     false},
    {"limits", "connections_max", CONFIG_NUMBER, AT(connections_max), 1, 100000,
     "1024", "connections", "then new ones are closed", false},
    /* To 15, so that a recording fits the frame of a reply. */
    {"limits", "recorder_mib", CONFIG_NUMBER, AT(recorder_mib), 0, 15, "4",
     "MiB",
     "of memory for the node's first and last events, for replikv record and "
     "crashes; 0: none are kept",
     false},

    {CONFIG_BUCKET_SECTION, "name", CONFIG_NAME, BUCKET_AT(name), 1,
     BUCKET_NAME_MAX, NULL, "", "the bucket's name", true},
    {CONFIG_BUCKET_SECTION, "kind", CONFIG_KIND, BUCKET_AT(kind), 0, 0,
     "siblings", "", "whether concurrent writes are kept or the later wins",
     false},
    {CONFIG_BUCKET_SECTION, "r", CONFIG_LEVEL, BUCKET_AT(r), 1, REPLICAS_MAX,
     NULL, "replicas", "as replication.r, its default", false},
    {CONFIG_BUCKET_SECTION, "w", CONFIG_LEVEL, BUCKET_AT(w), 1, REPLICAS_MAX,
     NULL, "replicas", "as replication.w, its default", false},
    {CONFIG_BUCKET_SECTION, "sloppy", CONFIG_BOOL, BUCKET_AT(sloppy), 0, 0,
     NULL, "", "as replication.sloppy, its default", false},
    {CONFIG_BUCKET_SECTION, "ttl_s", CONFIG_NUMBER, BUCKET_AT(ttl_s), 0,
     UINT32_MAX, "0", "s",
     "then a put that names no other time is gone; 0: it stays. The same on "
     "all nodes: it is that of the one that takes the put",
     false},
};
/* clang-format on */

enum { KEY_COUNT = sizeof(keys) / sizeof(keys[0]) };

const struct config_key *config_keys(size_t *count)
{
    *count = KEY_COUNT;
    return keys;
}

const struct config_key *config_key_find(const char *section, const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (strcmp(keys[i].section, section) == 0 &&
            strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

const char *const *config_sections(void)
{
    static const char *const sections[] = {"node",
                                           "listen",
                                           "cluster",
                                           "storage",
                                           "replication",
                                           "limits",
                                           CONFIG_BUCKET_SECTION,
                                           NULL};
    return sections;
}

bool config_read_number(const char *text, bool size, uint64_t *value)
{
    uint64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        unsigned digit = (unsigned)(*at - '0');
        if (number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    if (at == text)
        return false;
    uint64_t unit = 1;
    if (size && strcmp(at, "KiB") == 0)
        unit = KIB;
    else if (size && strcmp(at, "MiB") == 0)
        unit = MIB;
    else if (size && strcmp(at, "GiB") == 0)
        unit = GIB;
    else if (*at != '\0')
        return false;
    if (number > UINT64_MAX / unit)
        return false;
    *value = number * unit;
    return true;
}

size_t config_distance(const char *a, const char *b)
{
    size_t row[33];
    size_t width = strlen(b);
    if (width > 32)
        return SIZE_MAX;
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= width; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[width];
}

bool config_name_ok(const char *text, size_t max)
{
    size_t size = strlen(text);
    return size >= 1 && size <= max &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789._-") == size;
}

static bool path_ok(const char *text, size_t max)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return false;
    return size >= 1 && size <= max;
}

static bool tcp_address_ok(const char *text, enum config_reach *reach)
{
    char host[16];
    const char *colon = strchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
        return false;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    struct in_addr address;
    uint64_t port;
    if (inet_pton(AF_INET, host, &address) != 1 ||
        !config_read_number(colon + 1, false, &port) || port < 1 ||
        port > 65535)
        return false;
    uint32_t number = ntohl(address.s_addr);
    *reach = number == 0           ? CONFIG_WILDCARD
             : number >> 24 == 127 ? CONFIG_LOOPBACK
                                   : CONFIG_REMOTE;
    return true;
}

/* A path of a Unix socket ends up in sockaddr_un, 108 bytes with its end. */
enum { SOCKET_PATH_MAX = 107 };

bool config_address_ok(const char *text, enum config_reach *reach)
{
    *reach = CONFIG_LOOPBACK;
    if (strlen(text) > ADDRESS_MAX)
        return false;
    if (strncmp(text, "tcp://", 6) == 0)
        return tcp_address_ok(text + 6, reach);
    return strncmp(text, "ipc:///", 7) == 0 && text[7] != '\0' &&
           path_ok(text + 6, SOCKET_PATH_MAX);
}

/* The index of text among words, -1 if it is none of them. */
static int word(const char *text, const char *const words[])
{
    for (int i = 0; words[i] != NULL; i++)
        if (strcmp(text, words[i]) == 0)
            return i;
    return -1;
}

static bool set_bool(const char *text, bool *field)
{
    int index = word(text, (const char *const[]){"false", "true", NULL});
    if (index >= 0)
        *field = index == 1;
    return index >= 0;
}

static bool set_level(const struct config_key *key, const char *text,
                      int *field)
{
    uint64_t number;
    if (strcmp(text, "one") == 0)
        *field = 1;
    else if (strcmp(text, "quorum") == 0)
        *field = LEVEL_QUORUM;
    else if (strcmp(text, "all") == 0)
        *field = LEVEL_ALL;
    else if (config_read_number(text, false, &number) && number >= key->min &&
             number <= key->max)
        *field = (int)number;
    else
        return false;
    return true;
}

static bool set_number(const struct config_key *key, const char *text,
                       void *field)
{
    uint64_t number;
    if (!config_read_number(text, key->type != CONFIG_NUMBER, &number) ||
        number < key->min || number > key->max)
        return false;
    if (key->type == CONFIG_SIZE_64)
        *(uint64_t *)field = number;
    else
        *(uint32_t *)field = (uint32_t)number;
    return true;
}

static bool set_text(bool ok, const char *text, char *field)
{
    if (ok)
        memcpy(field, text, strlen(text) + 1);
    return ok;
}

static bool set_sync(const char *text, enum config_sync *field)
{
    int index =
        word(text, (const char *const[]){"batch", "interval", "none", NULL});
    if (index >= 0)
        *field = (enum config_sync)index;
    return index >= 0;
}

static bool set_kind(const char *text, enum record_kind *field)
{
    int index = word(text, (const char *const[]){"siblings", "lww", NULL});
    if (index >= 0)
        *field = index == 0 ? RECORD_SIBLINGS : RECORD_LWW;
    return index >= 0;
}

bool config_set(const struct config_key *key, const char *text, void *base)
{
    void *field = (char *)base + key->offset;
    enum config_reach reach;
    switch (key->type) {
    case CONFIG_NAME:
        return set_text(config_name_ok(text, key->max), text, field);
    case CONFIG_ZONE:
        return set_text(*text == '\0' || config_name_ok(text, key->max), text,
                        field);
    case CONFIG_PATH:
        return set_text(path_ok(text, key->max), text, field);
    case CONFIG_LISTEN:
        return set_text(config_address_ok(text, &reach), text, field);
    case CONFIG_ENGINE:
        return set_text(config_name_ok(text, 32), text, field);
    case CONFIG_BOOL:
        return set_bool(text, field);
    case CONFIG_NUMBER:
    case CONFIG_SIZE:
    case CONFIG_SIZE_64:
        return set_number(key, text, field);
    case CONFIG_LEVEL:
        return set_level(key, text, field);
    case CONFIG_SYNC:
        return set_sync(text, field);
    case CONFIG_KIND:
        return set_kind(text, field);
    case CONFIG_SEEDS:
    case CONFIG_FOUNDERS:
    case CONFIG_OPTIONS:
        break;
    }
    return false;
}

/* A size as people write it: the largest unit that divides it. */
static void print_size(uint64_t size, char *text, size_t text_size)
{
    if (size != 0 && size % GIB == 0)
        snprintf(text, text_size, "%lluGiB", (unsigned long long)(size / GIB));
    else if (size != 0 && size % MIB == 0)
        snprintf(text, text_size, "%lluMiB", (unsigned long long)(size / MIB));
    else if (size != 0 && size % KIB == 0)
        snprintf(text, text_size, "%lluKiB", (unsigned long long)(size / KIB));
    else
        snprintf(text, text_size, "%llu", (unsigned long long)size);
}

void config_allowed(const struct config_key *key, char *text, size_t size)
{
    char low[32], high[32];
    print_size(key->min, low, sizeof(low));
    print_size(key->max, high, sizeof(high));
    unsigned long long min = key->min, max = key->max;
    switch (key->type) {
    case CONFIG_NAME:
    case CONFIG_ZONE:
        snprintf(text, size, "%llu to %llu of A-Z a-z 0-9 . _ -", min, max);
        return;
    case CONFIG_PATH:
        snprintf(text, size, "a path of at most %llu bytes", max);
        return;
    case CONFIG_LISTEN:
        snprintf(text, size, "tcp://127.0.0.1:PORT or ipc:///PATH");
        return;
    case CONFIG_ENGINE:
        snprintf(text, size, "the name of an engine");
        return;
    case CONFIG_BOOL:
        snprintf(text, size, "true or false");
        return;
    case CONFIG_NUMBER:
        snprintf(text, size, "%llu to %llu%s%s", min, max,
                 *key->unit ? " " : "", key->unit);
        return;
    case CONFIG_SIZE:
    case CONFIG_SIZE_64:
        snprintf(text, size, "%s to %s, plain or in KiB, MiB or GiB", low,
                 high);
        return;
    case CONFIG_LEVEL:
        snprintf(text, size, "one, quorum, all or %llu to %llu", min, max);
        return;
    case CONFIG_SYNC:
        snprintf(text, size, "batch, interval or none");
        return;
    case CONFIG_KIND:
        snprintf(text, size, "siblings or lww");
        return;
    case CONFIG_SEEDS:
        snprintf(text, size, "a list of at most %llu addresses", max);
        return;
    case CONFIG_FOUNDERS:
        snprintf(text, size, "a list of at most %llu, name or name@zone", max);
        return;
    case CONFIG_OPTIONS:
        snprintf(text, size, "a mapping of the engine's settings");
        return;
    }
}

static bool read_word(const char *const *words, const char *text,
                      uint64_t *value)
{
    for (size_t i = 0; words[i] != NULL; i++)
        if (strcmp(words[i], text) == 0) {
            *value = i;
            return true;
        }
    return false;
}

bool config_read_setting(const struct engine_setting_spec *spec,
                         const char *text, uint64_t *value)
{
    if (spec->words != NULL)
        return read_word(spec->words, text, value);
    return config_read_number(text, true, value) && *value >= spec->min &&
           *value <= spec->max;
}

/* "none, lz4 or zstd" */
static void print_words(const char *const *words, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; words[i] != NULL && used < size; i++) {
        const char *between = words[i + 1] == NULL ? " or " : ", ";
        used += (size_t)snprintf(text + used, size - used, "%s%s",
                                 i == 0 ? "" : between, words[i]);
    }
}

void config_setting_allowed(const struct engine_setting_spec *spec, char *text,
                            size_t size)
{
    char values[80];
    if (spec->words != NULL)
        print_words(spec->words, values, sizeof(values));
    else
        snprintf(values, sizeof(values), "%llu to %llu",
                 (unsigned long long)spec->min, (unsigned long long)spec->max);
    snprintf(text, size, "%s: %.64s", values,
             spec->meaning == NULL ? "" : spec->meaning);
}

void config_defaults(struct config *config)
{
    memset(config, 0, sizeof(*config));
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (keys[i].normal == NULL ||
            strcmp(keys[i].section, CONFIG_BUCKET_SECTION) == 0)
            continue;
        bool ok = config_set(&keys[i], keys[i].normal, config);
        ASSERT(ok);
    }
}
