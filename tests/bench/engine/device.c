/* SPDX-License-Identifier: MIT */
#include "tests/bench/engine/device.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/engine/bench.h"

/* --- calls that wait for the disk --- */

struct timed {
    atomic_uint_fast64_t count, ns_max;
};

static struct timed syncs, renames;

static void count(struct timed *timed, uint64_t since_ns)
{
    uint64_t ns = bench_now_ns() - since_ns;
    atomic_fetch_add(&timed->count, 1);
    uint64_t seen = atomic_load(&timed->ns_max);
    while (ns > seen &&
           !atomic_compare_exchange_weak(&timed->ns_max, &seen, ns))
        ;
}

static struct {
    int (*fsync)(int);
    int (*fdatasync)(int);
    int (*sync_file_range)(int, off64_t, off64_t, unsigned);
    int (*rename)(const char *, const char *);
    int (*renameat)(int, const char *, int, const char *);
} real;

/* POSIX has it that a pointer to an object may hold one to a function, which C
 * does not say: hence the copy. */
static void find(const char *name, void *function)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        bench_fail("%s: no such function", name);
    memcpy(function, &found, sizeof found);
}

__attribute__((constructor)) static void find_all(void)
{
    find("fsync", &real.fsync);
    find("fdatasync", &real.fdatasync);
    find("sync_file_range", &real.sync_file_range);
    find("rename", &real.rename);
    find("renameat", &real.renameat);
}

int fsync(int fd)
{
    uint64_t begin = bench_now_ns();
    int result = real.fsync(fd);
    count(&syncs, begin);
    return result;
}

int fdatasync(int fd)
{
    uint64_t begin = bench_now_ns();
    int result = real.fdatasync(fd);
    count(&syncs, begin);
    return result;
}

int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags)
{
    uint64_t begin = bench_now_ns();
    int result = real.sync_file_range(fd, offset, size, flags);
    count(&syncs, begin);
    return result;
}

int rename(const char *from, const char *to)
{
    uint64_t begin = bench_now_ns();
    int result = real.rename(from, to);
    count(&renames, begin);
    return result;
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    uint64_t begin = bench_now_ns();
    int result = real.renameat(from_at, from, to_at, to);
    count(&renames, begin);
    return result;
}

struct device_calls device_calls(void)
{
    return (struct device_calls){
        .syncs = atomic_load(&syncs.count),
        .sync_ns_max = atomic_load(&syncs.ns_max),
        .renames = atomic_load(&renames.count),
        .rename_ns_max = atomic_load(&renames.ns_max),
    };
}

void device_reset(void)
{
    atomic_store(&syncs.count, 0);
    atomic_store(&syncs.ns_max, 0);
    atomic_store(&renames.count, 0);
    atomic_store(&renames.ns_max, 0);
}

/* --- /proc/self --- */

/* The number behind "name:" in a file of lines; 0 if it is not there. */
static uint64_t number_of(const char *path, const char *name)
{
    char line[128];
    unsigned long long number = 0;
    size_t size = strlen(name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, size) == 0 && line[size] == ':')
            sscanf(line + size + 1, "%llu", &number);
    fclose(file);
    return number;
}

struct device_written device_written(void)
{
    return (struct device_written){
        .wchar = number_of("/proc/self/io", "wchar"),
        .write_bytes = number_of("/proc/self/io", "write_bytes"),
    };
}

/* The kernel keeps a peak of all that is resident, and none of its parts. */
static atomic_uint_fast64_t anonymous_peak;

static uint64_t status_bytes(const char *name)
{
    return number_of("/proc/self/status", name) * 1024;
}

void device_memory_sample(void)
{
    uint64_t anonymous = status_bytes("RssAnon");
    if (anonymous > atomic_load(&anonymous_peak))
        atomic_store(&anonymous_peak, anonymous);
}

struct device_memory device_memory(void)
{
    device_memory_sample();
    return (struct device_memory){
        .resident = status_bytes("VmRSS"),
        .resident_peak = status_bytes("VmHWM"),
        .anonymous = status_bytes("RssAnon"),
        .anonymous_peak = atomic_load(&anonymous_peak),
        .file = status_bytes("RssFile"),
    };
}

/* --- directories --- */

static uint64_t disk_bytes;

static int add_size(const char *path, const struct stat *file, int type,
                    struct FTW *walk)
{
    (void)path;
    (void)walk;
    if (type == FTW_F)
        disk_bytes += (uint64_t)file->st_blocks * 512;
    return 0;
}

uint64_t device_disk_bytes(const char *directory)
{
    disk_bytes = 0;
    nftw(directory, add_size, 16, FTW_PHYS);
    return disk_bytes;
}

static int remove_entry(const char *path, const struct stat *file, int type,
                        struct FTW *walk)
{
    (void)file;
    (void)type;
    (void)walk;
    return remove(path);
}

void device_remove(const char *directory)
{
    nftw(directory, remove_entry, 16, FTW_PHYS | FTW_DEPTH);
}
