/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_BENCH_ENGINE_PEERS_H
#define REPLIKV_TESTS_BENCH_ENGINE_PEERS_H

#include "engines/engine.h"

/* Engines to compare with, which the product does not have. They hold to the
 * contract as far as a bench needs it: after a write that failed they go on. */

/* LevelDB as it comes: without the adapter's paranoid checks, without verified
 * checksums, written to by many threads at once. */
extern const struct engine_type leveldb_default_type;
/* RocksDB with its defaults, but for what all engines here are given. Only
 * with REPLIKV_ROCKSDB. */
extern const struct engine_type rocksdb_type;

#endif
