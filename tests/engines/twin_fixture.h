/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_TWIN_FIXTURE_H
#define REPLIKV_TESTS_ENGINES_TWIN_FIXTURE_H

#include "engines/twin.h"
#include "tests/engines/store.h"
#include "tests/proxy/fault_engine.h"

/* A twin in a directory of its own, and what it reported. For cmocka, whose
 * header comes first: *state is the fixture, with nothing open yet. */

enum { FIXTURE_TOLD_MAX = 32 };

struct fixture {
    struct store store; /* for its directory */
    struct engine *engine;
    struct error error;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something was told */
    char told[FIXTURE_TOLD_MAX][320];
    size_t told_count;
};

int fixture_set_up(void **state);
int fixture_tear_down(void **state);

/* In the fixture's directory. open_engine does not expect success. */
enum status open_engine(struct fixture *fixture,
                        const struct engine_type *type) MUST_CHECK;
void open_twin(struct fixture *fixture, const struct engine_type *first,
               const struct engine_type *second);
/* And forget what was told. */
void close_engine(struct fixture *fixture);
/* A path in it. */
void path_in(const struct fixture *fixture, const char *name,
             char path[PATH_MAX]);

/* A NULL value removes. */
enum status write_one(struct engine *engine, const char *key, const char *value,
                      bool sync) MUST_CHECK;
void put(struct engine *engine, const char *key, const char *value);
/* To one of the two, past the twin. */
void put_one(struct fixture *fixture, enum twin_place place, const char *key,
             const char *value);

/* A NULL value: it is not there. */
void expect(struct engine *engine, const char *key, const char *value);
/* "key=value key=value ", in the order given. */
void expect_rows(struct engine *engine, enum engine_order order,
                 const char *wanted);
/* Frees it. */
void expect_rest(struct engine_iterator *iterator, const char *wanted);
/* Both engines of the twin hold the same; how many keys. */
size_t expect_alike(struct fixture *fixture);
/* The nth report has this in it. */
void expect_told(struct fixture *fixture, size_t n, const char *text);

struct engine_stats stats_of(struct fixture *fixture);
/* Until reads are compared, 10 s at most. */
void wait_same(struct fixture *fixture);

#endif
