/* SPDX-License-Identifier: MIT */
#include "engines/types.h"
#include "engines/walk.h"

#define XXH_INLINE_ALL
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>

/* A treap that lives in memory only: a search tree by key and a heap by random
 * priority, hence balanced. Nodes are counted and what is shared is never
 * changed but copied on the way down, so a snapshot is one more reference to
 * the root, and iterators walk theirs without the lock while writes go on.
 *
 * Beside it a hash table has the newest tree's nodes: of 100,000 keys the way
 * down the tree takes 6 us, most of it waiting for memory.
 *
 * Counts, the table and the root are touched under the lock only; iterators
 * read none of them.
 */

enum { SLOTS_MIN = 64 };

struct item {
    size_t references;
    size_t key_size, value_size;
    uint8_t data[]; /* key, then value */
};

struct node {
    size_t references;
    uint32_t priority;
    uint32_t hash; /* of the key */
    struct item *item;
    struct node *left, *right;
};

struct memory_engine {
    struct engine base;
    pthread_mutex_t lock;
    struct node *root;
    size_t iterators; /* with a root, whose nodes are not to be changed */
    /* Open addressing; a power of two, at most half of them taken. */
    struct node **slots;
    size_t slot_count;
    uint64_t seed;
    uint64_t random;
    uint64_t keys, bytes; /* of the newest version */
    bool broken;
};

struct memory_iterator {
    struct walk base;
    struct memory_engine *engine;
    struct node *root;
    const struct item *last; /* kept alive by root; NULL at the start */
};

static struct bytes item_key(const struct item *item)
{
    return bytes_of(item->data, item->key_size);
}

static struct bytes item_value(const struct item *item)
{
    return bytes_of(item->data + item->key_size, item->value_size);
}

static struct item *item_new(struct bytes key, struct bytes value)
{
    if (value.size > SIZE_MAX / 2)
        return NULL;
    struct item *item = malloc(sizeof *item + key.size + value.size);
    if (item == NULL)
        return NULL;
    item->references = 1;
    item->key_size = key.size;
    item->value_size = value.size;
    memcpy(item->data, key.data, key.size);
    if (value.size > 0)
        memcpy(item->data + key.size, value.data, value.size);
    return item;
}

static void item_release(struct item *item)
{
    if (--item->references == 0)
        free(item);
}

/* As deep as the tree, about three times log2 of the keys. */
static void node_release(struct node *node)
{
    if (node == NULL || --node->references > 0)
        return;
    node_release(node->left);
    node_release(node->right);
    item_release(node->item);
    free(node);
}

/* Where the table has the key's node, or would have it. */
static size_t table_place(const struct memory_engine *engine, struct bytes key,
                          uint32_t hash)
{
    size_t at = hash & (engine->slot_count - 1);
    for (;; at = (at + 1) & (engine->slot_count - 1)) {
        const struct node *node = engine->slots[at];
        if (node == NULL ||
            (node->hash == hash && bytes_equal(item_key(node->item), key)))
            return at;
    }
}

/* Clients choose keys, and must not choose where they go. */
static uint32_t hash_of(const struct memory_engine *engine, struct bytes key)
{
    return (uint32_t)XXH3_64bits_withSeed(key.data, key.size, engine->seed);
}

static struct node *table_find(const struct memory_engine *engine,
                               struct bytes key)
{
    return engine->slot_count == 0
               ? NULL
               : engine->slots[table_place(engine, key, hash_of(engine, key))];
}

/* In place of another of the same key, or where there is room. */
static void table_set(struct memory_engine *engine, struct node *node)
{
    engine->slots[table_place(engine, item_key(node->item), node->hash)] = node;
}

/* Make room for one more. All find a new place at once, while others wait. */
static bool table_grow(struct memory_engine *engine)
{
    size_t old_count = engine->slot_count;
    if (2 * (engine->keys + 1) <= old_count)
        return true;
    size_t count = old_count == 0 ? SLOTS_MIN : 2 * old_count;
    struct node **old = engine->slots, **slots = calloc(count, sizeof *slots);
    if (slots == NULL)
        return false;
    engine->slots = slots;
    engine->slot_count = count;
    for (size_t i = 0; i < old_count; i++)
        if (old[i] != NULL)
            table_set(engine, old[i]);
    free(old);
    return true;
}

/* Those behind move up, so that every node is found from its own place on. */
static void table_remove(struct memory_engine *engine, struct bytes key)
{
    size_t mask = engine->slot_count - 1;
    size_t hole = table_place(engine, key, hash_of(engine, key));
    for (size_t at = (hole + 1) & mask; engine->slots[at] != NULL;
         at = (at + 1) & mask) {
        size_t home = engine->slots[at]->hash & mask;
        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        engine->slots[hole] = engine->slots[at];
        hole = at;
    }
    engine->slots[hole] = NULL;
}

/* Make *slot a node that only this tree has, copying it if it is shared. */
static bool node_own(struct memory_engine *engine, struct node **slot)
{
    struct node *shared = *slot;
    if (shared->references == 1)
        return true;
    struct node *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return false;
    *copy = *shared;
    copy->references = 1;
    copy->item->references++;
    if (copy->left != NULL)
        copy->left->references++;
    if (copy->right != NULL)
        copy->right->references++;
    shared->references--;
    *slot = copy;
    table_set(engine, copy);
    return true;
}

/* Both nodes of a rotation are owned. */
static void rotate_right(struct node **slot)
{
    struct node *top = (*slot)->left;
    (*slot)->left = top->right;
    top->right = *slot;
    *slot = top;
}

static void rotate_left(struct node **slot)
{
    struct node *top = (*slot)->right;
    (*slot)->right = top->left;
    top->left = *slot;
    *slot = top;
}

/* The first item at key, or behind it if after is set. */
static const struct item *tree_seek(const struct node *node, struct bytes key,
                                    bool after)
{
    const struct item *found = NULL;
    while (node != NULL) {
        int order = bytes_compare(item_key(node->item), key);
        if (order > 0 || (order == 0 && !after)) {
            found = node->item;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return found;
}

/* The last item before key; an empty key is behind all. */
static const struct item *tree_seek_back(const struct node *node,
                                         struct bytes key)
{
    const struct item *found = NULL;
    while (node != NULL) {
        if (key.size == 0 || bytes_compare(item_key(node->item), key) < 0) {
            found = node->item;
            node = node->right;
        } else {
            node = node->left;
        }
    }
    return found;
}

/* xorshift64: priorities need to be unlike the keys' order, no more. */
static uint32_t next_random(struct memory_engine *engine)
{
    engine->random ^= engine->random << 13;
    engine->random ^= engine->random >> 7;
    engine->random ^= engine->random << 17;
    return (uint32_t)(engine->random >> 32);
}

static struct node *node_new(struct memory_engine *engine, struct item *item)
{
    struct node *node = malloc(sizeof *node);
    if (node == NULL)
        return NULL;
    *node = (struct node){.references = 1,
                          .priority = next_random(engine),
                          .hash = hash_of(engine, item_key(item)),
                          .item = item};
    table_set(engine, node);
    return node;
}

/* Takes over item if it succeeds. The table has room for it. */
static bool tree_put(struct memory_engine *engine, struct node **slot,
                     struct item *item)
{
    if (*slot == NULL)
        return (*slot = node_new(engine, item)) != NULL;
    if (!node_own(engine, slot))
        return false;
    struct node *node = *slot;
    int order = bytes_compare(item_key(item), item_key(node->item));
    if (order == 0) {
        item_release(node->item);
        node->item = item;
        return true;
    }
    struct node **child = order < 0 ? &node->left : &node->right;
    if (!tree_put(engine, child, item))
        return false;
    if ((*child)->priority > node->priority) {
        if (order < 0)
            rotate_right(slot);
        else
            rotate_left(slot);
    }
    return true;
}

/* Sink the owned node in *slot until it has one child, then cut it out. */
static bool node_remove(struct memory_engine *engine, struct node **slot)
{
    struct node *node = *slot;
    while (node->left != NULL && node->right != NULL) {
        bool left_rises = node->left->priority > node->right->priority;
        if (!node_own(engine, left_rises ? &node->left : &node->right))
            return false;
        if (left_rises)
            rotate_right(slot);
        else
            rotate_left(slot);
        slot = left_rises ? &(*slot)->right : &(*slot)->left;
    }
    *slot = node->left != NULL ? node->left : node->right;
    node->left = NULL;
    node->right = NULL;
    table_remove(engine, item_key(node->item));
    node_release(node);
    return true;
}

/* The key is there. */
static bool tree_remove(struct memory_engine *engine, struct bytes key)
{
    for (struct node **slot = &engine->root;;) {
        if (!node_own(engine, slot))
            return false;
        int order = bytes_compare(key, item_key((*slot)->item));
        if (order == 0)
            return node_remove(engine, slot);
        slot = order < 0 ? &(*slot)->left : &(*slot)->right;
    }
}

/* Takes over item if it succeeds. */
static bool put(struct memory_engine *engine, struct node *old,
                struct item *item)
{
    if (old == NULL || engine->iterators > 0)
        return table_grow(engine) && tree_put(engine, &engine->root, item);
    item_release(old->item);
    old->item = item;
    return true;
}

static bool apply(struct memory_engine *engine,
                  const struct batch_operation *operation)
{
    struct node *old = table_find(engine, operation->key);
    uint64_t keys = engine->keys - (old != NULL);
    uint64_t bytes = engine->bytes;
    if (old != NULL)
        bytes -= old->item->key_size + old->item->value_size;
    if (operation->remove) {
        if (old != NULL && !tree_remove(engine, operation->key))
            return false;
    } else {
        struct item *item = item_new(operation->key, operation->value);
        if (item == NULL)
            return false;
        if (!put(engine, old, item)) {
            item_release(item);
            return false;
        }
        keys++;
        bytes += item->key_size + item->value_size;
    }
    engine->keys = keys;
    engine->bytes = bytes;
    return true;
}

static enum status memory_open(const struct engine_options *options,
                               struct engine **engine, struct error *error)
{
    (void)options;
    struct memory_engine *memory = calloc(1, sizeof *memory);
    if (memory == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for an engine");
    memory->base.type = &memory_engine_type;
    memory->random = 0x9e3779b97f4a7c15; /* any number but 0 */
    if (getrandom(&memory->seed, sizeof memory->seed, 0) < 0) {
        free(memory);
        return error_set(error, STATUS_IO,
                         "the system gives no random numbers");
    }
    pthread_mutex_init(&memory->lock, NULL);
    *engine = &memory->base;
    return STATUS_OK;
}

static void memory_close(struct engine *engine)
{
    struct memory_engine *memory = (struct memory_engine *)engine;
    node_release(memory->root);
    free(memory->slots);
    pthread_mutex_destroy(&memory->lock);
    free(memory);
}

static enum status memory_get(struct engine *engine, struct bytes key,
                              struct buffer *value)
{
    struct memory_engine *memory = (struct memory_engine *)engine;
    enum status status;
    pthread_mutex_lock(&memory->lock);
    const struct node *node = table_find(memory, key);
    if (memory->broken) {
        status = STATUS_BROKEN;
    } else if (node == NULL) {
        status = STATUS_NOT_FOUND;
    } else {
        buffer_clear(value);
        status = buffer_append(value, item_value(node->item));
    }
    pthread_mutex_unlock(&memory->lock);
    return status;
}

static enum status memory_write(struct engine *engine,
                                const struct batch *batch, bool sync)
{
    (void)sync;
    struct memory_engine *memory = (struct memory_engine *)engine;
    enum status status = STATUS_OK;
    pthread_mutex_lock(&memory->lock);
    if (memory->broken)
        status = STATUS_BROKEN;
    for (size_t i = 0; status == STATUS_OK && i < batch->count; i++)
        if (!apply(memory, &batch->operations[i])) {
            memory->broken = true;
            status = STATUS_NO_MEMORY;
        }
    pthread_mutex_unlock(&memory->lock);
    return status;
}

static enum status memory_iterate(struct engine *engine, struct bytes from,
                                  struct bytes to, enum engine_order order,
                                  struct engine_iterator **iterator)
{
    struct memory_engine *memory = (struct memory_engine *)engine;
    struct memory_iterator *walk =
        walk_new(sizeof *walk, &memory_engine_type, from, to, order);
    if (walk == NULL)
        return STATUS_NO_MEMORY;
    walk->engine = memory;
    pthread_mutex_lock(&memory->lock);
    bool broken = memory->broken;
    if (!broken && memory->root != NULL) {
        walk->root = memory->root;
        walk->root->references++;
        memory->iterators++;
    }
    pthread_mutex_unlock(&memory->lock);
    if (broken) {
        free(walk);
        return STATUS_BROKEN;
    }
    *iterator = &walk->base.base;
    return STATUS_OK;
}

static const struct item *step(const struct memory_iterator *walk)
{
    struct bytes from = walk->base.from, to = walk->base.to;
    const struct item *last = walk->last;
    if (walk->base.order == ENGINE_BACKWARD)
        return tree_seek_back(walk->root, last == NULL ? to : item_key(last));
    return last == NULL ? tree_seek(walk->root, from, false)
                        : tree_seek(walk->root, item_key(last), true);
}

static enum status memory_next(struct engine_iterator *iterator,
                               struct bytes *key, struct bytes *value)
{
    struct memory_iterator *walk = (struct memory_iterator *)iterator;
    pthread_mutex_lock(&walk->engine->lock);
    bool broken = walk->engine->broken;
    pthread_mutex_unlock(&walk->engine->lock);
    if (broken)
        return STATUS_BROKEN;
    const struct item *item = step(walk);
    if (item == NULL || !walk_has(&walk->base, item_key(item)))
        return STATUS_NOT_FOUND;
    walk->last = item;
    *key = item_key(item);
    *value = item_value(item);
    return STATUS_OK;
}

static void memory_iterator_free(struct engine_iterator *iterator)
{
    struct memory_iterator *walk = (struct memory_iterator *)iterator;
    pthread_mutex_lock(&walk->engine->lock);
    walk->engine->iterators -= walk->root != NULL;
    node_release(walk->root);
    pthread_mutex_unlock(&walk->engine->lock);
    free(walk);
}

static void memory_stats(struct engine *engine, struct engine_stats *stats)
{
    struct memory_engine *memory = (struct memory_engine *)engine;
    pthread_mutex_lock(&memory->lock);
    stats->keys = memory->keys;
    stats->live_bytes = memory->bytes;
    stats->memory_bytes =
        memory->bytes + memory->slot_count * sizeof *memory->slots +
        memory->keys * (sizeof(struct node) + sizeof(struct item));
    pthread_mutex_unlock(&memory->lock);
}

const struct engine_type memory_engine_type = {
    .name = "memory",
    .capabilities = ENGINE_NEVER_BLOCKS | ENGINE_CONCURRENT_WRITES,
    .settings = NULL,
    .open = memory_open,
    .close = memory_close,
    .get = memory_get,
    .write = memory_write,
    .iterate = memory_iterate,
    .next = memory_next,
    .iterator_free = memory_iterator_free,
    .stats = memory_stats,
};
