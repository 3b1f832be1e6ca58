/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "tests/engines/memory_disk.h"

/* The disk that the engine is judged on has to lose, tear and fail in truth,
 * or what is proven on it is not. */

enum { SEEDS = 200, SECTOR = MEMORY_SECTOR_BYTES };

static struct memory_disk *memory;
static struct disk *disk;

static int setup(void **state)
{
    (void)state;
    memory = memory_disk_new();
    disk = memory_disk_at(memory, MEMORY_DISK_PATH);
    return disk == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    disk_free(disk);
    memory_disk_free(memory);
    return 0;
}

static struct disk_file *open_file(const char *name, enum disk_mode mode)
{
    struct disk_file *file;
    assert_int_equal(disk_file_open(disk, name, mode, &file), STATUS_OK);
    return file;
}

static void write_at(struct disk_file *file, uint64_t offset, const char *text)
{
    assert_int_equal(disk_file_write(file, offset, bytes_of_string(text)),
                     STATUS_OK);
}

static void make_file(const char *name, const char *text)
{
    struct disk_file *file = open_file(name, DISK_CREATE);
    write_at(file, 0, text);
    assert_int_equal(disk_file_sync(file), STATUS_OK);
    disk_file_close(file);
}

static void sync_names(void)
{
    assert_int_equal(disk->operations->sync_directory(disk), STATUS_OK);
}

/* A file's content, as text in a buffer of our own; "-": it is not there. */
static const char *content(struct disk *at, const char *name)
{
    static char text[64];
    struct buffer got = {0};
    enum status status = disk_read_all(at, name, sizeof text - 1, &got);
    if (status == STATUS_NOT_FOUND)
        return "-";
    assert_int_equal(status, STATUS_OK);
    if (got.size > 0)
        memcpy(text, got.data, got.size);
    text[got.size] = '\0';
    buffer_fini(&got);
    return text;
}

/* Content of two files after a crash: "first second". */
static const char *after(enum memory_survival bytes, enum memory_survival names,
                         uint64_t seed)
{
    static char text[160];
    struct memory_crash crash = {bytes, names, seed};
    struct memory_disk *left = memory_disk_after(memory, &crash);
    struct disk *at = memory_disk_at(left, MEMORY_DISK_PATH);
    int size = snprintf(text, sizeof text, "%s ", content(at, "a"));
    snprintf(text + size, sizeof text - (size_t)size, "%s", content(at, "b"));
    disk_free(at);
    memory_disk_free(left);
    return text;
}

/* Of all crashes of a kind, how many different ones leave one of `wanted`,
 * ended by NULL; none may leave anything else. */
static unsigned outcomes(enum memory_survival bytes, enum memory_survival names,
                         const char *const *wanted)
{
    unsigned seen = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        const char *left = after(bytes, names, seed);
        unsigned i = 0;
        while (wanted[i] != NULL && strcmp(wanted[i], left) != 0)
            i++;
        if (wanted[i] == NULL)
            fail_msg("seed %u leaves '%s'", (unsigned)seed, left);
        seen |= 1u << i;
    }
    return (unsigned)__builtin_popcount(seen);
}

static void bytes_are_lost_or_kept_until_they_are_synced(void **state)
{
    (void)state;
    make_file("a", "old");
    sync_names();
    struct disk_file *file = open_file("a", DISK_UPDATE);
    write_at(file, 0, "new and longer");
    assert_string_equal(content(disk, "a"), "new and longer");
    assert_string_equal(after(MEMORY_NOTHING, MEMORY_NOTHING, 1), "old -");
    assert_string_equal(after(MEMORY_EVERYTHING, MEMORY_NOTHING, 1),
                        "new and longer -");
    assert_int_equal(disk_file_sync(file), STATUS_OK);
    assert_string_equal(after(MEMORY_NOTHING, MEMORY_NOTHING, 1),
                        "new and longer -");
    assert_int_equal(file->operations->truncate(file, 1), STATUS_OK);
    assert_string_equal(after(MEMORY_NOTHING, MEMORY_NOTHING, 1),
                        "new and longer -");
    assert_string_equal(after(MEMORY_EVERYTHING, MEMORY_NOTHING, 1), "n -");
    disk_file_close(file);
}

static void some_writes_survive_in_any_order(void **state)
{
    (void)state;
    make_file("a", "....");
    sync_names();
    struct disk_file *file = open_file("a", DISK_UPDATE);
    write_at(file, 0, "11");
    write_at(file, 1, "22");
    const char *const wanted[] = {".... -", "11.. -", ".22. -", "122. -", NULL};
    assert_int_equal(outcomes(MEMORY_SOME, MEMORY_NOTHING, wanted), 4);
    disk_file_close(file);
}

/* Which of a file's two sectors, as bits, are new after a crash: a write of
 * 100 bytes lay across their border. */
static unsigned torn(uint64_t seed)
{
    struct memory_crash crash = {MEMORY_TORN, MEMORY_NOTHING, seed};
    struct memory_disk *left = memory_disk_after(memory, &crash);
    struct disk *at = memory_disk_at(left, MEMORY_DISK_PATH);
    struct buffer got = {0};
    assert_int_equal(disk_read_all(at, "a", 2 * SECTOR, &got), STATUS_OK);
    assert_int_equal(got.size, 2 * SECTOR);
    char first = (char)got.data[SECTOR - 1], second = (char)got.data[SECTOR];
    for (size_t i = 0; i < got.size; i++) {
        char wanted = i < SECTOR ? first : second;
        if (i < SECTOR - 50 || i >= SECTOR + 50)
            wanted = 'o';
        assert_int_equal(got.data[i], wanted);
    }
    buffer_fini(&got);
    disk_free(at);
    memory_disk_free(left);
    return (first == 'n' ? 1u : 0) | (second == 'n' ? 2u : 0);
}

static void a_write_is_torn_at_sectors_only(void **state)
{
    (void)state;
    char block[2 * SECTOR + 1] = {0};
    char piece[100 + 1] = {0};
    unsigned seen = 0;
    memset(block, 'o', 2 * SECTOR);
    memset(piece, 'n', 100);
    make_file("a", block);
    sync_names();
    struct disk_file *file = open_file("a", DISK_UPDATE);
    write_at(file, SECTOR - 50, piece);
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        seen |= 1u << torn(seed);
    assert_int_equal(seen, 0xf);
    disk_file_close(file);
}

static void a_torn_file_may_have_its_size_but_not_its_bytes(void **state)
{
    (void)state;
    struct buffer got = {0};
    unsigned empty = 0, zeros = 0, whole = 0;
    make_file("a", "");
    sync_names();
    struct disk_file *file = open_file("a", DISK_UPDATE);
    write_at(file, 0, "xy");
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct memory_crash crash = {MEMORY_TORN, MEMORY_NOTHING, seed};
        struct memory_disk *left = memory_disk_after(memory, &crash);
        struct disk *at = memory_disk_at(left, MEMORY_DISK_PATH);
        assert_int_equal(disk_read_all(at, "a", 2, &got), STATUS_OK);
        empty += got.size == 0;
        zeros += got.size == 2 && memcmp(got.data, "\0\0", 2) == 0;
        whole += got.size == 2 && memcmp(got.data, "xy", 2) == 0;
        disk_free(at);
        memory_disk_free(left);
    }
    assert_true(empty > 0 && zeros > 0 && whole > 0);
    assert_int_equal(empty + zeros + whole, SEEDS);
    buffer_fini(&got);
    disk_file_close(file);
}

static void names_are_old_or_new_until_the_directory_is_synced(void **state)
{
    (void)state;
    const struct disk_operations *operations = disk->operations;
    make_file("a", "1");
    assert_string_equal(after(MEMORY_EVERYTHING, MEMORY_NOTHING, 1), "- -");
    sync_names();
    assert_string_equal(after(MEMORY_NOTHING, MEMORY_NOTHING, 1), "1 -");
    make_file("b", "2");
    assert_int_equal(operations->rename(disk, "b", "a"), STATUS_OK);
    assert_string_equal(content(disk, "a"), "2");
    /* In the order in which they were made, then in any. */
    const char *const prefixes[] = {"1 -", "1 2", "2 -", NULL};
    assert_int_equal(outcomes(MEMORY_NOTHING, MEMORY_SOME, prefixes), 3);
    assert_int_equal(operations->remove(disk, "a"), STATUS_OK);
    const char *const any[] = {"1 -", "1 2", "2 -", "- 2", "- -", NULL};
    assert_true(outcomes(MEMORY_NOTHING, MEMORY_TORN, any) >= 4);
    sync_names();
    assert_string_equal(after(MEMORY_NOTHING, MEMORY_NOTHING, 1), "- -");
}

static void a_name_may_outlive_the_bytes_of_its_file(void **state)
{
    (void)state;
    struct disk_file *file = open_file("a", DISK_CREATE);
    write_at(file, 0, "text");
    sync_names();
    assert_string_equal(after(MEMORY_NOTHING, MEMORY_NOTHING, 1), " -");
    disk_file_close(file);
}

static void a_seed_gives_the_same_crash_again(void **state)
{
    (void)state;
    char first[160];
    make_file("a", "0123456789");
    sync_names();
    struct disk_file *file = open_file("a", DISK_UPDATE);
    for (uint64_t i = 0; i < 10; i++)
        write_at(file, i, "x");
    snprintf(first, sizeof first, "%s", after(MEMORY_SOME, MEMORY_SOME, 7));
    assert_string_equal(after(MEMORY_SOME, MEMORY_SOME, 7), first);
    assert_string_not_equal(after(MEMORY_SOME, MEMORY_SOME, 8), first);
    disk_file_close(file);
}

static void a_checkpoint_shares_the_files_of_its_origin(void **state)
{
    (void)state;
    struct disk *other, *again;
    const struct disk_operations *operations = disk->operations;
    make_file("a", "abc");
    sync_names();
    assert_int_equal(operations->make_directory(disk, "copy", &other, NULL),
                     STATUS_OK);
    assert_int_equal(operations->make_directory(disk, "copy", &again, NULL),
                     STATUS_IO);
    assert_int_equal(operations->link(disk, "a", other), STATUS_OK);
    assert_int_equal(operations->link(disk, "a", other), STATUS_IO);
    assert_int_equal(operations->link(disk, "b", other), STATUS_IO);
    assert_int_equal(operations->remove(disk, "a"), STATUS_OK);
    assert_string_equal(content(other, "a"), "abc");
    assert_int_equal(operations->sync_directory(other), STATUS_OK);
    disk_free(other);

    struct memory_crash crash = {MEMORY_NOTHING, MEMORY_NOTHING, 1};
    struct memory_disk *left = memory_disk_after(memory, &crash);
    other = memory_disk_at(left, "copy");
    again = memory_disk_at(left, MEMORY_DISK_PATH);
    memory_disk_flip(left, "a", 0, 1);
    assert_string_equal(content(again, "a"), "`bc");
    assert_string_equal(content(other, "a"), "`bc");
    disk_free(other);
    disk_free(again);
    assert_null(memory_disk_at(left, "elsewhere"));
    memory_disk_free(left);
}

static void equal_hashes_are_of_disks_left_equal(void **state)
{
    (void)state;
    uint64_t empty = memory_disk_hash(memory);
    make_file("a", "1");
    assert_true(memory_disk_hash(memory) == empty);
    sync_names();
    uint64_t one = memory_disk_hash(memory);
    assert_true(one != empty);
    make_file("a", "2");
    uint64_t two = memory_disk_hash(memory);
    assert_true(two != one);
    assert_int_equal(disk->operations->rename(disk, "a", "b"), STATUS_OK);
    sync_names();
    assert_true(memory_disk_hash(memory) != two);
    assert_int_equal(disk->operations->rename(disk, "b", "a"), STATUS_OK);
    sync_names();
    assert_true(memory_disk_hash(memory) == two);
}

static void a_flipped_bit_is_there_for_good(void **state)
{
    (void)state;
    make_file("a", "abc");
    sync_names();
    memory_disk_flip(memory, "a", 1, 3);
    assert_string_equal(content(disk, "a"), "aac");
    assert_string_equal(after(MEMORY_NOTHING, MEMORY_NOTHING, 1), "aac -");
    assert_int_equal(memory_disk_file_bytes(memory, "a"), 3);
    assert_true(memory_disk_file_bytes(memory, "b") == UINT64_MAX);
}

/* Seven calls that change something; how many were OK. */
static int workload(void)
{
    const struct disk_operations *operations = disk->operations;
    struct disk_file *file;
    int fine = 0;
    enum status status = disk_file_open(disk, "a", DISK_CREATE, &file);
    if (status == STATUS_OK) {
        fine = 1;
        fine += disk_file_write(file, 0, bytes_of_string("abc")) == STATUS_OK;
        fine += disk_file_sync(file) == STATUS_OK;
        fine += file->operations->truncate(file, 1) == STATUS_OK;
        disk_file_close(file);
    }
    fine += operations->rename(disk, "a", "b") == STATUS_OK;
    fine += operations->sync_directory(disk) == STATUS_OK;
    fine += operations->remove(disk, "b") == STATUS_OK;
    return fine;
}

static void every_call_that_changes_something_can_fail(void **state)
{
    (void)state;
    struct memory_fault fault = {.status = STATUS_NO_SPACE, .seed = 1};
    assert_int_equal(workload(), 7);
    struct memory_counts counts = memory_disk_counts(memory);
    assert_int_equal(counts.calls, 7);
    assert_int_equal(counts.syncs, 2);
    assert_int_equal(counts.bytes_written, 3);
    assert_int_equal(counts.bytes_stored, 0);
    for (uint64_t call = 2; call <= 7; call++) {
        disk_free(disk); /* a failed sync of the directory is for good */
        disk = memory_disk_at(memory, MEMORY_DISK_PATH);
        fault.call = memory_disk_counts(memory).calls + call;
        memory_disk_fail(memory, &fault);
        /* A rename that fails takes its removal with it. */
        assert_int_equal(workload(), call == 5 ? 5 : 6);
    }
    fault.call = memory_disk_counts(memory).calls + 3;
    fault.lasting = true;
    memory_disk_fail(memory, &fault);
    assert_int_equal(workload(), 2);
}

static void fail_read(uint64_t read)
{
    struct memory_fault fault = {.call =
                                     memory_disk_counts(memory).reads + read,
                                 .of_reads = true,
                                 .status = STATUS_IO};
    memory_disk_fail(memory, &fault);
}

static void a_read_can_fail(void **state)
{
    (void)state;
    char got[3];
    make_file("a", "abc");
    struct disk_file *file = open_file("a", DISK_READ);
    fail_read(2);
    assert_int_equal(disk_file_read(file, 0, got, 3), STATUS_OK);
    assert_int_equal(disk_file_read(file, 0, got, 3), STATUS_IO);
    assert_int_equal(disk_file_read(file, 0, got, 3), STATUS_OK);
    assert_int_equal(disk_file_read(file, 1, got, 3), STATUS_CORRUPT);
    disk_file_close(file);
}

static enum status ignore_name(void *context, const char *name)
{
    (void)context;
    (void)name;
    return STATUS_OK;
}

static void calls_that_change_nothing_can_fail(void **state)
{
    (void)state;
    struct disk_file *file = NULL;
    uint64_t size;
    make_file("a", "abc");
    fail_read(1);
    assert_int_equal(disk_file_open(disk, "a", DISK_READ, &file), STATUS_IO);
    assert_null(file);
    fail_read(1);
    assert_int_equal(disk_file_open(disk, "a", DISK_UPDATE, &file), STATUS_IO);
    assert_null(file);
    fail_read(2);
    assert_int_equal(disk_file_open(disk, "a", DISK_UPDATE, &file), STATUS_OK);
    assert_int_equal(file->operations->size(file, &size), STATUS_IO);
    assert_int_equal(file->operations->size(file, &size), STATUS_OK);
    assert_int_equal(size, 3);
    disk_file_close(file);
    fail_read(1);
    assert_int_equal(disk->operations->list(disk, ignore_name, NULL),
                     STATUS_IO);
    memory_disk_limit(memory, 10);
    fail_read(1);
    assert_true(disk->operations->free_bytes(disk) == UINT64_MAX);
    assert_int_equal(disk->operations->free_bytes(disk), 7);
}

static void a_failed_write_may_be_done_in_part(void **state)
{
    (void)state;
    unsigned seen = 0;
    struct disk_file *file = open_file("a", DISK_CREATE);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        assert_int_equal(file->operations->truncate(file, 0), STATUS_OK);
        struct memory_fault fault = {.call =
                                         memory_disk_counts(memory).calls + 1,
                                     .status = STATUS_IO,
                                     .seed = seed};
        memory_disk_fail(memory, &fault);
        assert_int_equal(disk_file_write(file, 0, bytes_of_string("abc")),
                         STATUS_IO);
        seen |= 1u << strlen(content(disk, "a"));
    }
    assert_int_equal(seen, 0xf);
    disk_file_close(file);
}

/* Readers see the bytes, and no later sync makes them durable. */
static void a_failed_sync_leaves_bytes_in_doubt_for_good(void **state)
{
    (void)state;
    unsigned lost = 0, kept = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        make_file("a", "old");
        sync_names();
        struct disk_file *file = open_file("a", DISK_UPDATE);
        write_at(file, 0, "new");
        struct memory_fault fault = {.call =
                                         memory_disk_counts(memory).calls + 1,
                                     .status = STATUS_IO,
                                     .seed = seed};
        memory_disk_fail(memory, &fault);
        assert_int_equal(disk_file_sync(file), STATUS_IO);
        assert_int_equal(disk_file_sync(file), STATUS_IO);
        disk_file_close(file);
        file = open_file("a", DISK_UPDATE);
        assert_int_equal(disk_file_sync(file), STATUS_OK);
        disk_file_close(file);
        assert_string_equal(content(disk, "a"), "new");
        const char *left = after(MEMORY_EVERYTHING, MEMORY_EVERYTHING, 1);
        lost += strcmp(left, "old -") == 0;
        kept += strcmp(left, "new -") == 0;
    }
    assert_true(lost > 0 && kept > 0);
    assert_int_equal(lost + kept, SEEDS);
}

static void a_full_disk_takes_what_fits(void **state)
{
    (void)state;
    make_file("a", "abc");
    memory_disk_limit(memory, 5);
    assert_int_equal(disk->operations->free_bytes(disk), 2);
    struct disk_file *file = open_file("b", DISK_CREATE);
    assert_int_equal(disk_file_write(file, 0, bytes_of_string("wxyz")),
                     STATUS_NO_SPACE);
    assert_string_equal(content(disk, "b"), "wx");
    assert_int_equal(disk->operations->free_bytes(disk), 0);
    write_at(file, 0, "WX");
    assert_int_equal(disk->operations->remove(disk, "a"), STATUS_OK);
    write_at(file, 2, "YZ!");
    assert_string_equal(content(disk, "b"), "WXYZ!");
    disk_file_close(file);
}

struct watched {
    char calls[200];
    struct memory_disk *left; /* before the first sync */
};

static void watch(void *context, enum memory_call call, const char *name)
{
    struct watched *watched = context;
    struct memory_crash crash = {MEMORY_NOTHING, MEMORY_EVERYTHING, 1};
    size_t size = strlen(watched->calls);
    snprintf(watched->calls + size, sizeof watched->calls - size, "%s %s, ",
             memory_call_name(call), name);
    if (call == MEMORY_SYNC && watched->left == NULL)
        watched->left = memory_disk_after(memory, &crash);
}

static void a_watcher_sees_every_call_before_its_effect(void **state)
{
    (void)state;
    struct watched watched = {.left = NULL};
    memory_disk_watch(memory, watch, &watched);
    assert_int_equal(workload(), 7);
    memory_disk_watch(memory, NULL, NULL);
    assert_string_equal(watched.calls,
                        "create a, write a, sync a, truncate a, rename a, "
                        "sync directory store, remove b, ");
    assert_int_equal(memory_disk_file_bytes(watched.left, "a"), 0);
    memory_disk_free(watched.left);
}

static enum status remove_each(void *context, const char *name)
{
    ++*(int *)context;
    return disk->operations->remove(disk, name);
}

static void a_listing_may_remove_what_it_names(void **state)
{
    (void)state;
    int seen = 0;
    make_file("a", "");
    make_file("b", "");
    assert_int_equal(disk->operations->list(disk, remove_each, &seen),
                     STATUS_OK);
    assert_int_equal(disk->operations->list(disk, remove_each, &seen),
                     STATUS_OK);
    assert_int_equal(seen, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_are_lost_or_kept_until_they_are_synced),
        TEST(some_writes_survive_in_any_order),
        TEST(a_write_is_torn_at_sectors_only),
        TEST(a_torn_file_may_have_its_size_but_not_its_bytes),
        TEST(names_are_old_or_new_until_the_directory_is_synced),
        TEST(a_name_may_outlive_the_bytes_of_its_file),
        TEST(a_seed_gives_the_same_crash_again),
        TEST(a_checkpoint_shares_the_files_of_its_origin),
        TEST(equal_hashes_are_of_disks_left_equal),
        TEST(a_flipped_bit_is_there_for_good),
        TEST(every_call_that_changes_something_can_fail),
        TEST(a_read_can_fail),
        TEST(calls_that_change_nothing_can_fail),
        TEST(a_failed_write_may_be_done_in_part),
        TEST(a_failed_sync_leaves_bytes_in_doubt_for_good),
        TEST(a_full_disk_takes_what_fits),
        TEST(a_watcher_sees_every_call_before_its_effect),
        TEST(a_listing_may_remove_what_it_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
