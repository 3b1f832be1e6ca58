/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_ENGINE_H
#define REPLIKV_ENGINES_ENGINE_H

#include "proto/bytes.h"
#include "proto/status.h"

/* The contract of a storage engine: an ordered map from keys to values, both
 * any bytes, that lasts. Engines know nothing of replicas, versions or nodes.
 *
 *            open           write failed
 *   CLOSED -------> OPEN ---------------> BROKEN
 *      ^             |                       |
 *      +-------------+------- close ---------+
 *
 * A directory belongs to the engine that made it: a file named ENGINE in it
 * says which, and engine_open refuses any other. One process at a time.
 *
 * To add an engine: fill in a struct engine_type in one file, add it to the
 * table in engine.c; the conformance and crash suites in tests/engines then
 * run on it by its name. */

struct engine;
struct engine_iterator;

enum {
    /* 1 + 16 + 2 + 4 + 480: see proxy/core/keys.h. Under LMDB's 511. */
    ENGINE_KEY_BYTES_MAX = 503,
};

enum engine_capability {
    /* Reads and writes touch memory only: they may be called inline. */
    ENGINE_NEVER_BLOCKS = 1 << 0,
    /* checkpoint works. */
    ENGINE_CHECKPOINT = 1 << 1,
    /* What was written with sync survives a crash. */
    ENGINE_DURABLE = 1 << 2,
};

struct batch_operation {
    struct bytes key;
    struct bytes value;
    bool remove; /* value is ignored */
};

/* Operations applied all or none, in order: a later one on the same key wins.
 * Borrowed for the length of the call. */
struct batch {
    const struct batch_operation *operations;
    size_t count;
};

struct engine_stats {
    uint64_t disk_bytes;   /* approximate; 0 if nothing is on disk */
    uint64_t memory_bytes; /* approximate: caches and buffers */
    uint64_t keys;         /* approximate; 0 if not known cheaply */
};

/* One per-engine option from the configuration, e.g. cache_bytes: 64 MiB. */
struct engine_setting {
    const char *name;
    uint64_t value;
};

/* What an engine can be configured with; a table of these, ended by a NULL
 * name, is how the configuration checks names and ranges. */
struct engine_setting_spec {
    const char *name;
    uint64_t min, max, normal; /* normal: the default */
    const char *meaning;       /* with its unit and what each way costs */
};

struct engine_options {
    const char *directory; /* made if missing, its parent not */
    const struct engine_setting *settings;
    size_t setting_count;
};

struct engine_type {
    const char *name;
    unsigned capabilities; /* of enum engine_capability */
    const struct engine_setting_spec *settings;

    /* Open the store in options->directory, making it durably if it is not
     * there. On failure *engine is NULL and error says what and where, and
     * what to do. Checksums are verified where the engine has any. */
    enum status (*open)(const struct engine_options *options,
                        struct engine **engine, struct error *error) MUST_CHECK;

    /* Wait for background work, release everything. No iterator is open and
     * no other call runs. Never fails: what was synced is synced. */
    void (*close)(struct engine *engine);

    /* Replace value's content with a copy of key's value. NOT_FOUND, CORRUPT,
     * IO, BROKEN. Any number of threads, also beside write. */
    enum status (*get)(struct engine *engine, struct bytes key,
                       struct buffer *value) MUST_CHECK;

    /* Apply the batch. With sync, OK means it survives power loss; without,
     * it survives when a later synced write is OK. On any other status the
     * outcome is unknown, and every later get, write and iterator answers
     * BROKEN until the engine is closed and opened again. Called from one
     * thread at a time. An empty batch with sync syncs what came before. */
    enum status (*write)(struct engine *engine, const struct batch *batch,
                         bool sync) MUST_CHECK;

    /* An iterator over a snapshot of [from, to); an empty `to` is no bound.
     * Both are copied. It is placed before the first key. Hold it for a chunk,
     * not for a scan: in LMDB an old snapshot keeps every newer page alive. */
    enum status (*iterate)(struct engine *engine, struct bytes from,
                           struct bytes to,
                           struct engine_iterator **iterator) MUST_CHECK;

    /* Step to the next key, in bytewise order: OK, NOT_FOUND at the end, or
     * what went wrong. key and value are valid until the next call. */
    enum status (*next)(struct engine_iterator *iterator, struct bytes *key,
                        struct bytes *value) MUST_CHECK;
    void (*iterator_free)(struct engine_iterator *iterator);

    void (*stats)(struct engine *engine, struct engine_stats *stats);

    /* With ENGINE_CHECKPOINT, else NULL: a consistent copy in a directory that
     * must not exist yet, itself openable by this engine. */
    enum status (*checkpoint)(struct engine *engine, const char *directory,
                              struct error *error) MUST_CHECK;
};

/* What every engine's struct begins with. */
struct engine {
    const struct engine_type *type;
};
struct engine_iterator {
    const struct engine_type *type;
};

/* By name, NULL if there is none. */
const struct engine_type *engine_type_find(const char *name);
/* All of them, ended by NULL. */
const struct engine_type *const *engine_types(void);

/* Check the directory's ENGINE file (REFUSED: it belongs to another engine;
 * the message names both), write it durably if the directory is new, check the
 * settings' names and ranges (INVALID), then open. */
enum status engine_open(const struct engine_type *type,
                        const struct engine_options *options,
                        struct engine **engine, struct error *error) MUST_CHECK;

/* The rest are the slots above, by name. NULL is allowed for close and
 * iterator_free. */
void engine_close(struct engine *engine);
enum status engine_get(struct engine *engine, struct bytes key,
                       struct buffer *value) MUST_CHECK;
enum status engine_write(struct engine *engine, const struct batch *batch,
                         bool sync) MUST_CHECK;
enum status engine_iterate(struct engine *engine, struct bytes from,
                           struct bytes to,
                           struct engine_iterator **iterator) MUST_CHECK;
enum status engine_next(struct engine_iterator *iterator, struct bytes *key,
                        struct bytes *value) MUST_CHECK;
void engine_iterator_free(struct engine_iterator *iterator);
void engine_stats(struct engine *engine, struct engine_stats *stats);
enum status engine_checkpoint(struct engine *engine, const char *directory,
                              struct error *error) MUST_CHECK;

/* Whether their names and values are the engine's, or INVALID. */
enum status engine_check_settings(const struct engine_type *type,
                                  const struct engine_options *options,
                                  struct error *error) MUST_CHECK;

/* The value of a setting, or its default. */
uint64_t engine_setting(const struct engine_options *options,
                        const struct engine_type *type, const char *name);

#endif
