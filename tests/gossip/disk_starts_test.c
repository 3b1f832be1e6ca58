/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gossip/disk_starts.h"

static void starts_are_stored_and_read(void **state)
{
    (void)state;
    struct disk_starts starts = {.count = 0}, read;
    disk_starts_add(&starts, 1, 11);
    disk_starts_add(&starts, 2, 12);
    disk_starts_read(&read, disk_starts_bytes(&starts));
    assert_int_equal(read.count, 2);
    assert_memory_equal(read.list, starts.list, 2 * sizeof read.list[0]);
}

static void what_is_malformed_is_no_starts(void **state)
{
    (void)state;
    static const uint8_t bytes[sizeof(struct disk_starts) + 64];
    struct disk_starts starts = {.count = 9};
    size_t one = sizeof starts.list[0];
    disk_starts_read(&starts, bytes_of(bytes, one - 1));
    assert_int_equal(starts.count, 0);
    disk_starts_read(&starts, bytes_of(bytes, (DISK_STARTS_MAX + 1) * one));
    assert_int_equal(starts.count, 0);
    disk_starts_read(&starts, (struct bytes){0});
    assert_int_equal(starts.count, 0);
    disk_starts_read(&starts, bytes_of(bytes, DISK_STARTS_MAX * one));
    assert_int_equal(starts.count, DISK_STARTS_MAX);
}

static void the_oldest_go_when_there_are_many(void **state)
{
    (void)state;
    struct disk_starts starts = {.count = 0};
    for (uint64_t boot = 1; boot <= DISK_STARTS_MAX + 5; boot++)
        disk_starts_add(&starts, boot, 100 + boot);
    assert_int_equal(starts.count, DISK_STARTS_MAX);
    assert_int_equal(starts.list[0].boot, 6);
    assert_false(disk_starts_deny(&starts, 5, 1));
    assert_true(disk_starts_deny(&starts, 6, 1));
}

/* One that was refused counts to the same boot again, in another run. */
static void a_boot_is_counted_to_again(void **state)
{
    (void)state;
    struct disk_starts starts = {.count = 0};
    disk_starts_add(&starts, 1, 11);
    disk_starts_add(&starts, 2, 12);
    disk_starts_add(&starts, 2, 13);
    assert_int_equal(starts.count, 2);
    assert_true(disk_starts_deny(&starts, 2, 12));
    assert_false(disk_starts_deny(&starts, 2, 13));
}

static void what_nobody_knows_is_not_denied(void **state)
{
    (void)state;
    struct disk_starts starts = {.count = 0};
    disk_starts_add(&starts, 3, 13);
    assert_false(disk_starts_deny(&starts, 3, 0));
    assert_false(disk_starts_deny(&starts, 2, 12));
    assert_false(disk_starts_deny(&starts, 4, 14));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_are_stored_and_read),
        cmocka_unit_test(what_is_malformed_is_no_starts),
        cmocka_unit_test(the_oldest_go_when_there_are_many),
        cmocka_unit_test(a_boot_is_counted_to_again),
        cmocka_unit_test(what_nobody_knows_is_not_denied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
