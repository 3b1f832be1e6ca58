/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_TWIN_H
#define REPLIKV_ENGINES_TWIN_H

#include <pthread.h>
#include <stdatomic.h>

#include "engines/directory.h"
#include "engines/engine.h"

/* Two engines as one, twin(FIRST, SECOND): an engine is tried under real
 * traffic, or moved to, beside one that is trusted.
 *
 *            all compared          a call failed
 *   BEHIND --------------> SAME -----------------> OUT
 *      |                                            ^
 *      +--------------- a call failed --------------+
 *
 * What is answered, and what lasts, is the first's: a write goes to the first
 * and, if that was OK, to the second. No status of the second is ever an
 * answer, but what it takes long for is waited for.
 *
 * BEHIND: the second may lack what the first holds, or hold more: it is new, or
 *         the two were not closed in agreement. Writes go to both already. A
 *         thread walks both, in chunks between which it rests as long as it
 *         worked, and makes the second what the first is. Reads are not
 *         compared.
 * SAME:   what differs is a fault. All reads are compared, gets and the rows
 *         of iterators; differences are counted, and the first few reported
 *         with their keys. They are left as they are until the next open.
 * OUT:    a call of the second answered neither OK nor NOT_FOUND. That is
 *         counted and reported, and it is left alone until the next open.
 *
 * What is compared is one state of both. They are written in one order, which
 * is why a twin never has ENGINE_CONCURRENT_WRITES. A get that finds them
 * unlike looks again while no write is under way, since one may have been done
 * in the first only; the snapshots of an iterator are both taken while none is.
 *
 * A crash may leave the second behind the first, or ahead of it. So agreement
 * is a file: AGREED is written when both are synced and closed, had been SAME
 * and showed no difference, and is removed before they are written again. Where
 * it is missing, the second is BEHIND. It also says how the files of both were,
 * so that it is void once either was opened alone.
 *
 *   DIRECTORY/ENGINE   twin(lsm, leveldb)
 *   DIRECTORY/first/   a store of the first engine, as it makes them
 *   DIRECTORY/second/  one of the second; if it is removed, it is filled anew
 *   DIRECTORY/AGREED
 *
 * A directory that the first engine made alone, or with another second, is
 * taken over: its files move into first/. Either store is opened by its own
 * engine in its own folder once the twin is closed, which is how a move ends.
 * Until they are closed in agreement, the ENGINE file of second/ says "leveldb,
 * behind its twin", so that nobody goes on with a store that may lack keys.
 *
 * A checkpoint is one of the first: opened as a twin, it fills a second. Stats
 * are the first's, but for `damaged`, which is of both. */

enum twin_place { TWIN_FIRST, TWIN_SECOND, TWIN_BOTH };

/* Their folders, and what their settings begin with: first.cache_bytes. */
extern const char *const twin_places[TWIN_BOTH];

enum twin_state { TWIN_BEHIND, TWIN_SAME, TWIN_OUT };

/* The twin of two types, made when it is first asked for, and there for good.
 * NULL: no memory. */
const struct engine_type *twin_type_of(const struct engine_type *first,
                                       const struct engine_type *second);

/* From here on: for the files of the twin. */

enum { TWIN_SETTINGS_MAX = 32, TWIN_SETTING_BYTES = 48 };

struct twin_type {
    struct engine_type base; /* first: what callers hold */
    const struct engine_type *inner[TWIN_BOTH];
    struct twin_type *next;
    char name[DIRECTORY_OWNER_MAX];
    size_t setting_count;
    /* Those of both, and one without a name. */
    struct engine_setting_spec settings[TWIN_SETTINGS_MAX + 1];
    char setting_names[TWIN_SETTINGS_MAX][TWIN_SETTING_BYTES];
};

/* What all twins share, without a name, capabilities and settings. */
extern const struct engine_type twin_engine_type;

struct twin {
    struct engine base;              /* first: what callers hold */
    struct engine *inner[TWIN_BOTH]; /* the second NULL if it did not open */
    char *directory;                 /* NULL: none */
    int lock;                        /* of the directory; -1: none */
    void (*report)(void *context, const char *message);
    void *report_context;
    /* Held over a write to both, and by whoever must see none half done. */
    pthread_mutex_t writes;
    _Atomic enum twin_state state;
    atomic_uint_fast64_t differences, failures, compared, mended;
    /* The thread of BEHIND. */
    bool comparing;
    atomic_bool stop;
    pthread_t comparer;
};

static inline struct twin *twin_of(struct engine *engine)
{
    return (struct twin *)engine;
}

static inline const struct twin_type *twin_type(const struct twin *twin)
{
    return (const struct twin_type *)twin->base.type;
}

/* What the second's name is in messages. */
static inline const char *twin_second(const struct twin *twin)
{
    return twin_type(twin)->inner[TWIN_SECOND]->name;
}

/* Neither is a failure. */
static inline bool twin_answers(enum status status)
{
    return status == STATUS_OK || status == STATUS_NOT_FOUND;
}

void twin_report(struct twin *twin, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Whatever a call of the second answered: if it failed, the second is OUT.
 * why says more of it, or is NULL. */
void twin_heard(struct twin *twin, enum status status, const char *why);
/* Count that they differ, in SAME. */
void twin_differs(struct twin *twin, struct bytes key, const char *how);
/* How two answers differ; NULL if they do not. */
const char *twin_how(enum status first, struct bytes first_value,
                     enum status second, struct bytes second_value);

/* Both engines' iterators over one state, merged: an iterator of the twin. */
struct twin_walk;

struct twin_row {
    struct bytes key, value; /* the first's, unless only the second has it */
    const char *how;         /* how they differ there, or NULL */
    bool in_first;
};

/* On any failure *walk is NULL; if it was the second's, that is OUT. */
enum status twin_walk_new(struct twin *twin, struct bytes from, struct bytes to,
                          enum engine_order order,
                          struct twin_walk **walk) MUST_CHECK;
/* The next key that either has, NOT_FOUND at the end of both. A failure is one
 * of the first; once the second has failed, the rows are the first's. Valid
 * until the next call. */
enum status twin_walk_next(struct twin_walk *walk,
                           struct twin_row *row) MUST_CHECK;
void twin_walk_free(struct twin_walk *walk);

/* The slots of an engine's iterator, for a walk. */
enum status twin_iterate(struct engine *engine, struct bytes from,
                         struct bytes to, enum engine_order order,
                         struct engine_iterator **iterator) MUST_CHECK;
enum status twin_next(struct engine_iterator *iterator, struct bytes *key,
                      struct bytes *value) MUST_CHECK;
void twin_iterator_free(struct engine_iterator *iterator);

/* Begin to compare all, of a twin that is BEHIND: the first chunk at once, so
 * that of two empty stores nothing is left to do, the rest in a thread. */
enum status twin_compare_start(struct twin *twin) MUST_CHECK;
void twin_compare_stop(struct twin *twin);

/* DIRECTORY/first or /second; INVALID if that is too long. */
enum { TWIN_PATH_MAX = 4096 };
enum status twin_path(const char *directory, const char *name,
                      char path[TWIN_PATH_MAX], struct error *error) MUST_CHECK;
/* The slot of engine_type: take over what the first engine made. */
enum status twin_adopt(const struct engine_type *type, const char *directory,
                       struct error *error) MUST_CHECK;
/* Have the second's folder say that it is behind. */
enum status twin_claim_second(const struct engine_type *type,
                              const char *directory,
                              struct error *error) MUST_CHECK;
/* Whether AGREED is there and true; it is no more. */
enum status twin_take_agreed(const char *directory, bool *agreed,
                             struct error *error) MUST_CHECK;
/* Write it, both being closed, and have the second's folder say that it is not
 * behind. Best effort: without it all is compared. */
void twin_leave_agreed(const struct twin_type *type, const char *directory);

#endif
