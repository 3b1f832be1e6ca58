/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_IDS_H
#define REPLIKV_PROTO_IDS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "proto/bytes.h"

/* Ids are single-field structs, so that one cannot be passed for another. */

enum {
    NODE_ID_SIZE = 16,
    REQUEST_ID_SIZE = 16,
    /* Any bytes, the same on every engine: with the 23 bytes of table, target,
     * partition and bucket before it a key stays under LMDB's 511. */
    KEY_BYTES_MAX = 480,
    BUCKET_NAME_MAX = 64,
    NODE_NAME_MAX = 64,
    ADDRESS_MAX = 128,
};

/* A node, by the hash of cluster name and node name: the same before and after
 * its disk was replaced. All zeros is no node. */
struct node_id {
    uint8_t bytes[NODE_ID_SIZE];
};

/* One disk's identity, random, drawn when a data_dir is first used. */
struct store_id {
    uint8_t bytes[16];
};

/* Names one client write however often it is sent. All zeros is none. */
struct request_id {
    uint8_t bytes[REQUEST_ID_SIZE];
};

/* 0 to Q-1. */
struct partition {
    uint16_t value;
};

/* A bucket, by the hash of its name; configurations with two names of one id
 * are refused. */
struct bucket_id {
    uint32_t value;
};

static inline bool node_id_equal(struct node_id a, struct node_id b)
{
    return memcmp(a.bytes, b.bytes, NODE_ID_SIZE) == 0;
}

static inline int node_id_compare(struct node_id a, struct node_id b)
{
    return memcmp(a.bytes, b.bytes, NODE_ID_SIZE);
}

static inline bool node_id_is_zero(struct node_id id)
{
    return node_id_equal(id, (struct node_id){{0}});
}

static inline bool request_id_equal(struct request_id a, struct request_id b)
{
    return memcmp(a.bytes, b.bytes, REQUEST_ID_SIZE) == 0;
}

/* Pure functions of their arguments, the same on every machine and release;
 * all are XXH3 (xxhash.h). */
struct node_id node_id_of(const char *cluster, const char *node);
struct bucket_id bucket_id_of(const char *bucket);
struct partition partition_of(struct bucket_id bucket, struct bytes key,
                              uint32_t partitions);
/* What a context carries to name its key. */
uint64_t key_hash(struct bucket_id bucket, struct bytes key);

#endif
