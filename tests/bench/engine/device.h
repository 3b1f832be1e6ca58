/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_BENCH_ENGINE_DEVICE_H
#define REPLIKV_TESTS_BENCH_ENGINE_DEVICE_H

#include <stdint.h>

/* What this process does to its disk and memory, seen from outside the engine
 * and so alike for all: from /proc/self, and by standing before the C library's
 * fsync, fdatasync, sync_file_range and rename, also for shared libraries. */

struct device_calls {
    uint64_t syncs, sync_ns_max; /* fsync, fdatasync, sync_file_range */
    uint64_t renames, rename_ns_max;
};

/* What was called since the last reset, by any thread. */
struct device_calls device_calls(void);
void device_reset(void);

struct device_written {
    uint64_t wchar;       /* bytes given to write and its like */
    uint64_t write_bytes; /* of pages that were made dirty: 0 on a tmpfs */
};
struct device_written device_written(void);

struct device_memory {
    uint64_t resident, resident_peak; /* bytes */
    uint64_t anonymous, anonymous_peak;
    uint64_t file; /* now: mapped files, libraries included */
};
/* anonymous_peak is the largest that device_memory_sample saw. */
struct device_memory device_memory(void);
void device_memory_sample(void);

/* What the files below a directory take on the disk. */
uint64_t device_disk_bytes(const char *directory);
void device_remove(const char *directory);

#endif
