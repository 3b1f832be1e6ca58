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

/* From the hosts file. Not every address behind it need be listened on. */
static void a_name_is_looked_up(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, "tcp://127.0.0.1:0", &test_limits);
    snprintf(pair.address, sizeof(pair.address), "tcp://localhost:%d",
             listener_port(pair.listener));
    struct connection *connection = pair_dial(&pair);
    probe_wait(&pair.client_probe, &pair.client_probe.opened, 1);
    assert_string_equal(connection_peer(connection), pair.address);
    connection_release(connection);
    pair_close(&pair);
}

/* No server is asked for it: a part of a name has 1 to 63 bytes. */
static void a_name_that_is_none_is_closed_once_and_counted(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, "tcp://127.0.0.1:0", &test_limits);
    snprintf(pair.address, sizeof(pair.address), "tcp://%070d.example:1", 0);
    struct connection *connection = pair_dial(&pair);
    probe_wait(&pair.client_probe, &pair.client_probe.closed, 1);
    assert_int_equal(pair.client_probe.why.status, STATUS_IO);
    assert_non_null(strstr(pair.client_probe.why.text, pair.address));
    connection_release(connection);
    struct transport_counters counters;
    transport_counters_read(pair.client, &counters);
    assert_int_equal(counters.dial_failed, 1);
    pair_close(&pair);
}

static void an_address_that_is_none_is_refused_with_its_name(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, "tcp://127.0.0.1:0", &test_limits);
    static const char *const addresses[] = {
        "127.0.0.1:1",
        "tcp://127.0.0.1",
        "tcp://host:",
        "tcp://host:65536",
        "tcp://host:99999999999",
        "tcp://host:1a",
        "tcp://::1:1",
        "tcp://:1",
        "tcp://*:1",
        "ipc://",
    };
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        struct connection *connection;
        struct error error;
        assert_int_equal(transport_dial(pair.client, addresses[i],
                                        &client_handlers, &pair.client_probe,
                                        &connection, &error),
                         STATUS_IO);
        assert_non_null(strstr(error.text, addresses[i]));
    }
    assert_int_equal(pair.client_probe.closed, 0);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_dial_is_closed_once_and_counted),
        cmocka_unit_test(closing_while_dialing_closes_each_connection_once),
        cmocka_unit_test(a_name_is_looked_up),
        cmocka_unit_test(a_name_that_is_none_is_closed_once_and_counted),
        cmocka_unit_test(an_address_that_is_none_is_refused_with_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
