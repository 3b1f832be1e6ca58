/* SPDX-License-Identifier: MIT */
#include "proxy/cli/stored_key.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proxy/core/replica.h"

enum { NODE_TEXT_SIZE = 2 * NODE_ID_SIZE + 1 };

/* NULL if it is no key of a node's. */
static const char *take_apart(struct replikv_bytes stored,
                              struct storage_key *key,
                              char node[NODE_TEXT_SIZE])
{
    if (storage_key_decode(bytes_of(stored.data, stored.size), key) !=
        STATUS_OK)
        return NULL;
    for (size_t i = 0; i < NODE_ID_SIZE; i++)
        sprintf(node + 2 * i, "%02x", key->target.bytes[i]);
    switch (key->table) {
    case TABLE_DATA:
        return "data";
    case TABLE_HINTS:
        return "hints";
    case TABLE_META:
        return "meta";
    case TABLE_TREES:
        return "trees";
    }
    return NULL;
}

static bool has_partition(enum table table)
{
    return table == TABLE_DATA || table == TABLE_HINTS;
}

struct owned stored_key_text(struct replikv_bytes stored)
{
    enum { PREFIX_MAX = 80 };
    struct storage_key key;
    char node[NODE_TEXT_SIZE], prefix[PREFIX_MAX] = "\"";
    const char *table = take_apart(stored, &key, node);
    struct replikv_bytes rest =
        table == NULL ? stored : replikv_bytes_of(key.key.data, key.key.size);
    struct owned shown = printable(rest, rest.size), text = {0};
    if (table != NULL && !has_partition(key.table))
        snprintf(prefix, sizeof prefix, "%s/", table);
    else if (table != NULL)
        snprintf(prefix, sizeof prefix, "%s/%s%s%u/%08" PRIx32 "/", table,
                 key.table == TABLE_HINTS ? node : "",
                 key.table == TABLE_HINTS ? "/" : "", key.partition.value,
                 key.bucket.value);
    int size = asprintf(&text.data, "%s%s%s", prefix, shown.data,
                        table == NULL ? "\"" : "");
    text.data = must_have(size < 0 ? NULL : text.data);
    text.size = (size_t)size;
    owned_fini(&shown);
    return text;
}

json_t *stored_key_json(struct replikv_bytes stored)
{
    struct storage_key key;
    char node[NODE_TEXT_SIZE], bucket[16];
    const char *table = take_apart(stored, &key, node);
    json_t *object = must_have(json_object());
    if (table == NULL) {
        json_set_bytes(object, "key", stored);
        return object;
    }
    json_set_string(object, "table", table);
    if (key.table == TABLE_HINTS)
        json_set_string(object, "node", node);
    if (has_partition(key.table)) {
        snprintf(bucket, sizeof bucket, "%08" PRIx32, key.bucket.value);
        json_set_number(object, "partition", key.partition.value);
        json_set_string(object, "bucket", bucket);
    }
    json_set_bytes(object, "key", replikv_bytes_of(key.key.data, key.key.size));
    return object;
}
