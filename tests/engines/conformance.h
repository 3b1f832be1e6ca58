/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_ENGINES_CONFORMANCE_H
#define REPLIKV_TESTS_ENGINES_CONFORMANCE_H

#include "tests/engines/store.h"

/* What the files of the conformance suite share. Each claim begins with an
 * empty store of the engine, open. Include cmocka.h first. */

extern const struct engine_type *type;

int set_up(void **state);
int tear_down(void **state);

#define CLAIM(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

/* Run a file's claims; how many failed. */
int claims_of_ranges(void);
int claims_of_lasting_ranges(void);
int claims_of_readers(void);
int claims_of_writers(void);

/* Synced; a NULL value removes. */
void put(struct store *store, const char *key, const char *value);
void delete_range(struct store *store, const char *from, const char *to);
void reopen(struct store *store);

/* A NULL value: the key is not there. */
void expect(struct store *store, struct bytes key, const struct bytes *value);
void expect_text(struct store *store, const char *key, const char *value);

struct engine_iterator *iterate(struct store *store, const char *from,
                                const char *to, enum engine_order order);
/* The rest of the iterator, whatever its order, is "key=value key=value " in
 * the order of keys. */
void expect_rest(struct engine_iterator *iterator, enum engine_order order,
                 const char *wanted);
/* So is the range, in both directions. */
void expect_range(struct store *store, const char *from, const char *to,
                  const char *wanted);

#endif
