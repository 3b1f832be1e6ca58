/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_STORE_H
#define REPLIKV_TESTS_ENGINES_STORE_H

#include "engines/engine.h"

#include <limits.h>
#include <stdatomic.h>

/* A directory of a test's own under TMPDIR, with an engine's store in it. It
 * asserts nothing, so that a forked child can use it as well. */

enum { STORE_VALUE_BYTES_MAX = 1 << 20 };

struct store {
    const struct engine_type *type;
    char parent[PATH_MAX];
    char directory[PATH_MAX]; /* in parent, not made here */
    struct engine *engine;    /* NULL: closed */
    struct error error;       /* of the last open */
    atomic_uint reports;      /* of damage, since store_init */
    uint64_t variant;         /* which of a setting's words; 0: the default */
};

bool store_init(struct store *store, const struct engine_type *type);

/* Close it and remove all files. */
void store_fini(struct store *store);

/* Buffers and tables as small as the engine allows, so that they are flushed
 * and merged often. */
enum status store_open(struct store *store) MUST_CHECK;
void store_close(struct store *store);

/* One operation as a batch; a NULL value removes. */
enum status store_put(struct store *store, const char *key, const char *value,
                      bool sync) MUST_CHECK;

/* xorshift64, seeded with anything but 0. */
uint64_t store_random(uint64_t *state);

#endif
