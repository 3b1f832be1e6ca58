/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_TYPES_H
#define REPLIKV_ENGINES_TYPES_H

#include "engines/engine.h"

/* The engines there are, for the table in engine.c; everyone else asks for
 * one by name. A paragraph on each begins its file. */
extern const struct engine_type leveldb_engine_type;
extern const struct engine_type lmdb_engine_type;
extern const struct engine_type lsm_engine_type;
extern const struct engine_type memory_engine_type;
extern const struct engine_type null_engine_type;

/* The twin that a text like "twin(lsm, leveldb)" names; NULL if it names none.
 * See twin.h. */
const struct engine_type *twin_type_find(const char *text);

#endif
