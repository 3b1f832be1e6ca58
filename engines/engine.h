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
    /* Far above what a node takes; engines may count on it. */
    ENGINE_VALUE_BYTES_MAX = 1 << 30,
};

enum engine_capability {
    /* Reads and writes touch memory only: they may be called inline. */
    ENGINE_NEVER_BLOCKS = 1 << 0,
    /* checkpoint works. */
    ENGINE_CHECKPOINT = 1 << 1,
    /* What was written with sync survives a crash. */
    ENGINE_DURABLE = 1 << 2,
    /* write may be called by any number of threads at once, which share the
     * syncs (group commit). */
    ENGINE_CONCURRENT_WRITES = 1 << 3,
    /* delete_range takes about as long for a million keys as for one. */
    ENGINE_RANGE_DELETE = 1 << 4,
    /* An iterator that answered CORRUPT or IO may be stepped on: it has passed
     * over what cannot be read, and shows nothing older of it. */
    ENGINE_PASSES_DAMAGE = 1 << 5,
};

enum engine_order {
    ENGINE_FORWARD,
    ENGINE_BACKWARD,
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

/* What is not known cheaply is 0. The second part counts since the open. */
struct engine_stats {
    uint64_t disk_bytes;   /* approximate; 0 if nothing is on disk */
    uint64_t memory_bytes; /* approximate: caches and buffers */
    uint64_t keys;         /* approximate */
    uint64_t live_bytes;   /* of keys and values, approximate: disk_bytes over
                            * this is the space amplification */

    uint64_t user_bytes;   /* keys and values that were written */
    uint64_t stored_bytes; /* written to files for them, logs included: over
                            * user_bytes, the write amplification */
    uint64_t stall_us;     /* that writes were held back for housekeeping */
    uint64_t stall_us_max; /* the longest of them */
    uint64_t damaged;      /* places, of a table one or two, that failed their
                            * checksum or could not be read */

    /* Of a twin: see twin.h. */
    uint64_t twin_behind;      /* 1 unless reads are compared */
    uint64_t twin_compared;    /* keys, to find what the second lacks */
    uint64_t twin_mended;      /* keys of the second, made the first's */
    uint64_t twin_differences; /* rows and gets that were not alike */
    uint64_t twin_failures;    /* of the second: 1 once it is out */
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
    /* If not NULL, the configuration says one of these words, ended by NULL,
     * and the value is its place: {"none", "lz4", "zstd", NULL}. */
    const char *const *words;
};

struct engine_options {
    const struct engine_type *type; /* as engine_open was told: it sets it */
    const char *directory;          /* made if missing, its parent not */
    const struct engine_setting *settings;
    size_t setting_count;
    /* If not NULL, told once of each thing on disk that is damaged, naming
     * file and offset, of a limit of the system that broke the engine, and of
     * work that waits for room on the disk; by a twin, of how its second
     * engine does. From any thread; must not call the engine. */
    void (*report)(void *context, const char *message);
    void *report_context;
};

struct engine_type {
    const char *name;
    unsigned capabilities; /* of enum engine_capability */
    const struct engine_setting_spec *settings;

    /* NULL, or run before the directory is checked: what another engine made
     * in it may be made one's own. */
    enum status (*adopt)(const struct engine_type *type, const char *directory,
                         struct error *error) MUST_CHECK;

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
     * thread at a time, or see ENGINE_CONCURRENT_WRITES. An empty batch with
     * sync syncs what came before. */
    enum status (*write)(struct engine *engine, const struct batch *batch,
                         bool sync) MUST_CHECK;

    /* An iterator over a snapshot of [from, to), from its first key on or
     * from its last one back; an empty `to` is no bound. Both are copied.
     * Hold it for a chunk, not for a scan: in LMDB an old snapshot keeps
     * every newer page alive. */
    enum status (*iterate)(struct engine *engine, struct bytes from,
                           struct bytes to, enum engine_order order,
                           struct engine_iterator **iterator) MUST_CHECK;

    /* Step to the next key of the order: OK, NOT_FOUND at the end, or what
     * went wrong, which further steps answer too (but see
     * ENGINE_PASSES_DAMAGE). key and value are valid until the next call. */
    enum status (*next)(struct engine_iterator *iterator, struct bytes *key,
                        struct bytes *value) MUST_CHECK;
    void (*iterator_free)(struct engine_iterator *iterator);

    /* Delete all keys of [from, to), an empty `to` being no bound: durable
     * once OK, and in order with writes, beside which it is not called
     * (unless ENGINE_CONCURRENT_WRITES). A failure is as one of write. NULL:
     * engine_delete_range deletes key by key. */
    enum status (*delete_range)(struct engine *engine, struct bytes from,
                                struct bytes to) MUST_CHECK;

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

/* By name, or twin(NAME, NAME); NULL if there is none. */
const struct engine_type *engine_type_find(const char *name);
/* All of them but twins, ended by NULL. */
const struct engine_type *const *engine_types(void);

/* Check the directory's ENGINE file (REFUSED: it belongs to another engine that
 * this one cannot adopt; the message names both), write it durably if the
 * directory is new, check the settings' names and ranges (INVALID), then open.
 */
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
                           struct bytes to, enum engine_order order,
                           struct engine_iterator **iterator) MUST_CHECK;
enum status engine_next(struct engine_iterator *iterator, struct bytes *key,
                        struct bytes *value) MUST_CHECK;
void engine_iterator_free(struct engine_iterator *iterator);
/* Without the slot, in batches: a failure may leave a part deleted. */
enum status engine_delete_range(struct engine *engine, struct bytes from,
                                struct bytes to) MUST_CHECK;
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
