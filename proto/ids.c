/* SPDX-License-Identifier: MIT */
#include "proto/ids.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/assert.h"

/* Strings are hashed with a byte between them that neither may contain, so
 * that ("ab", "c") and ("a", "bc") differ. */
struct node_id node_id_of(const char *cluster, const char *node)
{
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, cluster, strlen(cluster) + 1);
    XXH3_128bits_update(&state, node, strlen(node));
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    struct node_id id;
    memcpy(id.bytes, canonical.digest, sizeof id.bytes);
    return id;
}

struct bucket_id bucket_id_of(const char *bucket)
{
    return (struct bucket_id){(uint32_t)XXH3_64bits(bucket, strlen(bucket))};
}

uint64_t key_hash(struct bucket_id bucket, struct bytes key)
{
    return XXH3_64bits_withSeed(key.data, key.size, bucket.value);
}

struct partition partition_of(struct bucket_id bucket, struct bytes key,
                              uint32_t partitions)
{
    ASSERT(partitions > 0 && partitions <= UINT16_MAX);
    return (struct partition){(uint16_t)(key_hash(bucket, key) % partitions)};
}
