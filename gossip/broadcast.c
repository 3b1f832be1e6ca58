/* SPDX-License-Identifier: MIT */
#include "gossip/broadcast.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/assert.h"

enum {
    /* What protobuf adds to a rumour: its own tag and length (4), those of
     * topic, key and payload (3 * 3), the version's tag and varint (11). */
    RUMOUR_OVERHEAD = 24,
    /* How many rumours that do not fit a packet are passed over before it is
     * sent as it is. */
    MISSES_MAX = 16,
};

/* One topic and key. Once sent often enough it stays, without its payload, so
 * that a late copy is not taken for news. */
struct rumour {
    uint64_t hash;
    uint64_t version;
    uint64_t serial; /* the newest has the highest */
    uint64_t round;  /* the last broadcast_take that considered it */
    uint32_t sent;
    bool queued;
    char *topic; /* with its end, then the key */
    size_t topic_size, key_size;
    uint8_t *payload;
    size_t payload_size;
};

struct broadcast {
    uint32_t retransmit_mult;
    uint64_t serial, round;
    size_t count, capacity, queued;
    struct rumour *rumours;
};

struct broadcast *broadcast_new(uint32_t retransmit_mult)
{
    struct broadcast *broadcast = calloc(1, sizeof *broadcast);
    if (broadcast != NULL)
        broadcast->retransmit_mult = retransmit_mult;
    return broadcast;
}

static void rumour_fini(struct rumour *rumour)
{
    free(rumour->topic);
    free(rumour->payload);
}

void broadcast_free(struct broadcast *broadcast)
{
    if (broadcast == NULL)
        return;
    for (size_t i = 0; i < broadcast->count; i++)
        rumour_fini(&broadcast->rumours[i]);
    free(broadcast->rumours);
    free(broadcast);
}

static uint64_t hash_of(const char *topic, struct bytes key)
{
    return XXH3_64bits_withSeed(key.data, key.size,
                                XXH3_64bits(topic, strlen(topic)));
}

static struct rumour *find(const struct broadcast *broadcast, const char *topic,
                           struct bytes key)
{
    uint64_t hash = hash_of(topic, key);
    for (size_t i = 0; i < broadcast->count; i++) {
        struct rumour *rumour = &broadcast->rumours[i];
        if (rumour->hash == hash && strcmp(rumour->topic, topic) == 0 &&
            bytes_equal(
                bytes_of(rumour->topic + rumour->topic_size, rumour->key_size),
                key))
            return rumour;
    }
    return NULL;
}

static void dequeue(struct broadcast *broadcast, struct rumour *rumour)
{
    if (!rumour->queued)
        return;
    rumour->queued = false;
    broadcast->queued--;
    free(rumour->payload);
    rumour->payload = NULL;
    rumour->payload_size = 0;
}

static void remove_rumour(struct broadcast *broadcast, struct rumour *rumour)
{
    dequeue(broadcast, rumour);
    rumour_fini(rumour);
    *rumour = broadcast->rumours[--broadcast->count];
}

/* The longest known of those that need not be sent any more; a copy of it that
 * is still about would be news once more, which costs a few messages. */
static bool evict(struct broadcast *broadcast)
{
    struct rumour *oldest = NULL;
    for (size_t i = 0; i < broadcast->count; i++) {
        struct rumour *rumour = &broadcast->rumours[i];
        if (!rumour->queued &&
            (oldest == NULL || rumour->serial < oldest->serial))
            oldest = rumour;
    }
    if (oldest == NULL)
        return false;
    remove_rumour(broadcast, oldest);
    return true;
}

static bool grow(struct broadcast *broadcast)
{
    if (broadcast->count < broadcast->capacity)
        return true;
    size_t capacity = broadcast->capacity == 0 ? 64 : broadcast->capacity * 2;
    if (capacity > RUMOURS_MAX)
        capacity = RUMOURS_MAX;
    struct rumour *rumours = calloc(capacity, sizeof *rumours);
    if (rumours == NULL)
        return false;
    if (broadcast->count > 0)
        memcpy(rumours, broadcast->rumours, broadcast->count * sizeof *rumours);
    free(broadcast->rumours);
    broadcast->rumours = rumours;
    broadcast->capacity = capacity;
    return true;
}

static enum status add(struct broadcast *broadcast, const char *topic,
                       struct bytes key, struct rumour **added)
{
    if (broadcast->count == RUMOURS_MAX && !evict(broadcast))
        return STATUS_OVERLOADED;
    if (!grow(broadcast))
        return STATUS_NO_MEMORY;
    size_t topic_size = strlen(topic) + 1;
    char *names = malloc(topic_size + key.size);
    if (names == NULL)
        return STATUS_NO_MEMORY;
    memcpy(names, topic, topic_size);
    if (key.size > 0)
        memcpy(names + topic_size, key.data, key.size);
    *added = &broadcast->rumours[broadcast->count++];
    **added = (struct rumour){.hash = hash_of(topic, key),
                              .topic = names,
                              .topic_size = topic_size,
                              .key_size = key.size};
    return STATUS_OK;
}

static bool fits(const char *topic, struct bytes key, struct bytes payload)
{
    size_t left = RUMOUR_BYTES_MAX, topic_size = strlen(topic);
    if (topic_size > left || key.size > left - topic_size)
        return false;
    return payload.size <= left - topic_size - key.size;
}

/* *news: it was not known, and is queued. */
static enum status queue(struct broadcast *broadcast, const char *topic,
                         struct bytes key, uint64_t version,
                         struct bytes payload, bool *news)
{
    *news = false;
    if (!fits(topic, key, payload))
        return STATUS_TOO_LARGE;
    struct rumour *rumour = find(broadcast, topic, key);
    if (rumour != NULL && version <= rumour->version)
        return STATUS_OK;
    uint8_t *copy = malloc(payload.size > 0 ? payload.size : 1);
    if (copy == NULL)
        return STATUS_NO_MEMORY;
    if (payload.size > 0)
        memcpy(copy, payload.data, payload.size);
    enum status status =
        rumour == NULL ? add(broadcast, topic, key, &rumour) : STATUS_OK;
    if (status != STATUS_OK) {
        free(copy);
        return status;
    }
    dequeue(broadcast, rumour);
    rumour->version = version;
    rumour->serial = ++broadcast->serial;
    rumour->sent = 0;
    rumour->queued = true;
    rumour->payload = copy;
    rumour->payload_size = payload.size;
    broadcast->queued++;
    *news = true;
    return STATUS_OK;
}

enum status broadcast_offer(struct broadcast *broadcast, const char *topic,
                            struct bytes key, uint64_t version,
                            struct bytes payload)
{
    bool news;
    return queue(broadcast, topic, key, version, payload, &news);
}

bool broadcast_hear(struct broadcast *broadcast, const Rkv__Rumour *rumour)
{
    bool news;
    if (rumour->topic == NULL || rumour->topic[0] == '\0')
        return false;
    enum status status =
        queue(broadcast, rumour->topic,
              bytes_of(rumour->key.data, rumour->key.len), rumour->version,
              bytes_of(rumour->payload.data, rumour->payload.len), &news);
    return status == STATUS_OK && news;
}

/* retransmit_mult * ceil(log10(members + 1)), at least retransmit_mult. */
static uint32_t transmit_limit(const struct broadcast *broadcast,
                               size_t members)
{
    uint32_t digits = 1;
    for (uint64_t power = 10; power < (uint64_t)members + 1; power *= 10)
        digits++;
    return broadcast->retransmit_mult * digits;
}

/* The least sent, then the newest, of those this round has not considered. */
static struct rumour *next(struct broadcast *broadcast)
{
    struct rumour *best = NULL;
    for (size_t i = 0; i < broadcast->count; i++) {
        struct rumour *rumour = &broadcast->rumours[i];
        if (!rumour->queued || rumour->round == broadcast->round)
            continue;
        if (best == NULL || rumour->sent < best->sent ||
            (rumour->sent == best->sent && rumour->serial > best->serial))
            best = rumour;
    }
    if (best != NULL)
        best->round = broadcast->round;
    return best;
}

static Rkv__Rumour *copy_out(const struct rumour *rumour, struct arena *arena)
{
    Rkv__Rumour *out = arena_alloc(arena, sizeof *out);
    if (out == NULL)
        return NULL;
    rkv__rumour__init(out);
    out->topic = arena_string(arena, rumour->topic);
    out->key.data =
        arena_copy(arena, rumour->topic + rumour->topic_size, rumour->key_size);
    out->key.len = rumour->key_size;
    out->version = rumour->version;
    out->payload.data =
        arena_copy(arena, rumour->payload, rumour->payload_size);
    out->payload.len = rumour->payload_size;
    if (out->topic == NULL || out->key.data == NULL ||
        out->payload.data == NULL)
        return NULL;
    return out;
}

size_t broadcast_take(struct broadcast *broadcast, size_t members,
                      size_t bytes_max, struct arena *arena,
                      Rkv__Rumour ***rumours)
{
    uint32_t limit = transmit_limit(broadcast, members);
    size_t room = bytes_max / RUMOUR_OVERHEAD + 1;
    if (room > broadcast->queued)
        room = broadcast->queued;
    *rumours = room == 0 ? NULL : arena_alloc(arena, room * sizeof **rumours);
    if (*rumours == NULL)
        return 0;
    broadcast->round++;
    size_t count = 0, used = 0, misses = 0;
    struct rumour *rumour;
    while (count < room && misses < MISSES_MAX &&
           (rumour = next(broadcast)) != NULL) {
        size_t size = RUMOUR_OVERHEAD + rumour->topic_size + rumour->key_size +
                      rumour->payload_size;
        /* One that is larger than any packet travels alone, or it would never
         * travel. */
        if (count > 0 && size > bytes_max - used) {
            misses++;
            continue;
        }
        Rkv__Rumour *out = copy_out(rumour, arena);
        if (out == NULL)
            break;
        (*rumours)[count++] = out;
        used = size > bytes_max - used ? bytes_max : used + size;
        if (++rumour->sent >= limit)
            dequeue(broadcast, rumour);
    }
    return count;
}

void broadcast_forget(struct broadcast *broadcast, const char *topic,
                      struct bytes key)
{
    struct rumour *rumour = find(broadcast, topic, key);
    if (rumour != NULL)
        remove_rumour(broadcast, rumour);
}

size_t broadcast_queued(const struct broadcast *broadcast)
{
    return broadcast->queued;
}
