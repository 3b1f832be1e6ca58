/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/proto/transport_fixture.h"

static void a_refused_dial_is_closed_once_and_counted(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, "tcp://127.0.0.1:0", &test_limits);
    /* Nothing listens on port 1 here: IANA gave it to a service long gone. */
    snprintf(pair.address, sizeof(pair.address), "tcp://127.0.0.1:1");
    struct connection *connection = pair_dial(&pair);
    probe_wait(&pair.client_probe, &pair.client_probe.closed, 1);
    assert_int_equal(pair.client_probe.why.status, STATUS_IO);
    assert_non_null(strstr(pair.client_probe.why.text, pair.address));
    connection_close(connection);
    connection_release(connection);
    struct transport_counters counters;
    transport_counters_read(pair.client, &counters);
    assert_int_equal(counters.dial_failed, 1);
    assert_int_equal(counters.closed, 1);
    pair_close(&pair);
}

static void closing_while_dialing_closes_each_connection_once(void **state)
{
    (void)state;
    enum { ROUNDS = 50, CLIENTS = 8 };
    for (size_t round = 0; round < ROUNDS; round++) {
        struct pair pair;
        pair_open(&pair, "tcp://127.0.0.1:0", &test_limits);
        struct connection *clients[CLIENTS];
        for (size_t i = 0; i < CLIENTS; i++)
            clients[i] = pair_dial(&pair);
        /* From none opened to all, by the round. */
        probe_wait(&pair.client_probe, &pair.client_probe.opened,
                   round % (CLIENTS + 1));
        transport_close(pair.client);
        assert_int_equal(pair.client_probe.closed, CLIENTS);
        for (size_t i = 0; i < CLIENTS; i++)
            connection_release(clients[i]);
        transport_close(pair.server);
        probe_fini(&pair.client_probe);
        probe_fini(&pair.server_probe);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_dial_is_closed_once_and_counted),
        cmocka_unit_test(closing_while_dialing_closes_each_connection_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
