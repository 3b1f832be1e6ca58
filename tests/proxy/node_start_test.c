/* SPDX-License-Identifier: MIT */
#include "tests/proxy/node_fixture.h"

static void a_known_disk_is_ready_without_the_others(void **state)
{
    (void)state;
    static struct fixture f;
    node_open(&f, 3, 3);
    node_boot(&f);
    expect_trace(&f, "[  0] tick -> scan meta, scan hints\n"
                     "[  0] tick -> event=ready\n");
    node_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_disk_is_ready_without_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
