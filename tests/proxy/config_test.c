/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy/config.h"
#include "proxy/config_schema.h"

static const char *const methods[] = {"none", "lz4", "zstd", NULL};
static const struct engine_setting_spec settings[] = {
    {"cache_bytes", 1024, 1 << 30, 1 << 20, "bytes", NULL},
    {"level", 1, 9, 3, "of compression", NULL},
    {"compression", 0, 2, 0, "of blocks", methods},
    {NULL, 0, 0, 0, NULL, NULL}};
static const struct engine_type lsm = {.name = "lsm", .settings = settings};
static const struct engine_type memory = {.name = "memory"};
static const struct engine_type null = {.name = "null"};
static const struct engine_setting_spec twin_settings[] = {
    {"first.level", 1, 9, 3, "of compression", NULL},
    {NULL, 0, 0, 0, NULL, NULL}};
static const struct engine_type twin = {.name = "twin(lsm, memory)",
                                        .settings = twin_settings};

static const struct engine_type *find(const char *name)
{
    if (strcmp(name, "lsm") == 0)
        return &lsm;
    if (strcmp(name, "null") == 0)
        return &null;
    if (strcmp(name, "twin(lsm,memory)") == 0 || strcmp(name, twin.name) == 0)
        return &twin;
    return strcmp(name, "memory") == 0 ? &memory : NULL;
}

static struct config config;
static struct config_mistakes mistakes;

static enum status parse(const char *text)
{
    return config_parse("f.yaml", bytes_of_string(text), find, &config,
                        &mistakes);
}

/* What every file needs, on the first line, so that a test's own lines begin
 * with the second. */
#define NODE "node: {name: n1, data_dir: /tmp/n1}\n"
#define FOUNDERS "cluster: {bootstrap: [n1]}\n"

static void expect_ok(enum status status)
{
    for (size_t i = 0; i < mistakes.count; i++)
        print_error("%s\n", mistakes.list[i].text);
    assert_int_equal(status, STATUS_OK);
}

static void full_file_sets_every_field(void **state)
{
    (void)state;
    expect_ok(parse(
        "node: {name: n1, zone: east, data_dir: '/tmp/a b'}\n"
        "listen: {client: 'tcp://0.0.0.0:1', peer: ipc:///tmp/p,"
        " allow_any: true}\n"
        "cluster: {name: c, seeds: ['tcp://10.0.0.1:2', ipc:///s],"
        " bootstrap: [n1@east, n2@west, n3], replicas: 5, partitions: 64}\n"
        "storage: {engine: lsm, sync: interval, sync_interval_ms: 7,"
        " options: {level: 9, cache_bytes: 64KiB}}\n"
        "replication: {request_timeout_ms: 11, forward_timeout_ms: 12,"
        " hedge_ms: 13, handoff_interval_ms: 14, hint_window_ms: 1500,"
        " anti_entropy_interval_ms: 150, anti_entropy_rebuild_ms: 1600,"
        " dedup_window_ms: 1700, collect_interval_ms: 180,"
        " clock_skew_max_ms: 190, r: one, w: 4, sloppy: true}\n"
        "limits: {value_bytes_max: 2MiB, inflight_max: 5,"
        " inflight_bytes_max: 3MiB, hint_bytes_max: 8GiB,"
        " fallback_bytes_max: 0, list_bytes_max: 4KiB,"
        " queue_bytes_max: 3MiB, connections_max: 9, recorder_mib: 15}\n"
        "buckets: [{name: a, kind: lww, r: all, sloppy: false},"
        " {name: b}]\n"));
    assert_string_equal(config.zone, "east");
    assert_string_equal(config.data_dir, "/tmp/a b");
    assert_string_equal(config.client_address, "tcp://0.0.0.0:1");
    assert_string_equal(config.peer_address, "ipc:///tmp/p");
    assert_true(config.allow_any);
    assert_int_equal(config.seed_count, 2);
    assert_string_equal(config.seeds[1], "ipc:///s");
    assert_int_equal(config.founder_count, 3);
    assert_string_equal(config.founders[1].name, "n2");
    assert_string_equal(config.founders[1].zone, "west");
    assert_string_equal(config.founders[2].zone, "");
    assert_true(config.replicas == 5 && config.partitions == 64);
    assert_int_equal(config.sync, CONFIG_SYNC_INTERVAL);
    assert_int_equal(config.sync_interval_ms, 7);
    assert_int_equal(config.setting_count, 2);
    assert_string_equal(config.settings[0].name, "cache_bytes");
    assert_int_equal(config.settings[0].value, 65536);
    assert_true(config.timeouts.request_ms == 11 &&
                config.timeouts.forward_ms == 12);
    assert_int_equal(config.timeouts.hedge_ms, 13);
    assert_true(config.timeouts.handoff_interval_ms == 14 &&
                config.timeouts.hint_window_ms == 1500);
    assert_int_equal(config.timeouts.dedup_window_ms, 1700);
    assert_true(config.timeouts.collect_interval_ms == 180 &&
                config.timeouts.clock_skew_max_ms == 190);
    assert_int_equal(config.limits.value_bytes_max, 2 << 20);
    assert_int_equal(config.limits.inflight_max, 5);
    assert_int_equal(config.limits.inflight_bytes_max, 3 << 20);
    assert_true(config.limits.hint_bytes_max == UINT64_C(8) << 30);
    assert_int_equal(config.limits.fallback_bytes_max, 0);
    assert_int_equal(config.limits.list_bytes_max, 4096);
    assert_int_equal(config.queue_bytes_max, 3 << 20);
    assert_true(config.connections_max == 9 && config.recorder_mib == 15);
}

static void setting_with_words_is_said_by_one_of_them(void **state)
{
    (void)state;
    static const char *const said[] = {"none", "lz4", "'zstd'"};
    for (size_t i = 0; i < 3; i++) {
        char text[256];
        snprintf(text, sizeof(text),
                 NODE FOUNDERS "storage: {options: {compression: %s}}\n",
                 said[i]);
        expect_ok(parse(text));
        assert_int_equal(config.setting_count, 1);
        assert_string_equal(config.settings[0].name, "compression");
        assert_int_equal(config.settings[0].value, i);
    }
}

static void null_is_an_engine_and_nothing_elsewhere(void **state)
{
    (void)state;
    expect_ok(parse(NODE FOUNDERS "storage: {engine: null}\n"));
    assert_string_equal(config.engine, "null");
    assert_int_equal(parse(NODE FOUNDERS "storage: {engine: ~}\n"),
                     STATUS_INVALID);
    assert_int_equal(parse(NODE FOUNDERS "storage: {sync: null}\n"),
                     STATUS_INVALID);
}

static void twin_is_called_as_it_calls_itself(void **state)
{
    (void)state;
    expect_ok(parse(NODE FOUNDERS "storage: {options: {first.level: 9},"
                                  " engine: 'twin(lsm,memory)'}\n"));
    assert_string_equal(config.engine, "twin(lsm, memory)");
    assert_int_equal(config.setting_count, 1);
    assert_string_equal(config.settings[0].name, "first.level");
    expect_ok(parse(NODE FOUNDERS "storage:\n  engine: twin(lsm,memory)\n"));
}

static void buckets_inherit_what_they_do_not_say(void **state)
{
    (void)state;
    expect_ok(parse(NODE FOUNDERS
                    "buckets: [{name: a, kind: lww, r: all, sloppy: false},"
                    " {name: b}]\n"
                    "replication: {r: one, w: 2, sloppy: true}\n"));
    assert_int_equal(config.bucket_count, 3);
    const struct bucket_config *a = &config.buckets[0];
    const struct bucket_config *b = &config.buckets[1];
    const struct bucket_config *c = &config.buckets[2];
    assert_int_equal(a->kind, RECORD_LWW);
    assert_int_equal(a->r, LEVEL_ALL);
    assert_int_equal(a->w, 2);
    assert_false(a->sloppy);
    assert_int_equal(b->kind, RECORD_SIBLINGS);
    assert_int_equal(b->r, 1);
    assert_true(b->sloppy);
    assert_string_equal(c->name, "default");
    assert_int_equal(c->id.value, bucket_id_of("default").value);
    assert_int_equal(c->w, 2);
}

static void minimal_file_gives_the_promised_defaults(void **state)
{
    (void)state;
    expect_ok(parse(NODE FOUNDERS));
    assert_string_equal(config.client_address, "tcp://127.0.0.1:3001");
    assert_string_equal(config.peer_address, "tcp://127.0.0.1:4001");
    assert_int_equal(config.replicas, 3);
    assert_int_equal(config.partitions, 256);
    assert_int_equal(config.sync, CONFIG_SYNC_BATCH);
    assert_int_equal(config.timeouts.request_ms, 2000);
    assert_int_equal(config.timeouts.forward_ms, 500);
    assert_int_equal(config.timeouts.hedge_ms, 50);
    assert_int_equal(config.timeouts.handoff_interval_ms, 200);
    assert_int_equal(config.timeouts.dedup_window_ms, 150000);
    assert_int_equal(config.limits.value_bytes_max, 1 << 20);
    assert_int_equal(config.limits.inflight_max, 4096);
    assert_int_equal(config.limits.inflight_bytes_max, 128 << 20);
    assert_true(config.limits.hint_bytes_max == UINT64_C(1) << 30);
    assert_true(config.limits.fallback_bytes_max == UINT64_C(4) << 30);
    assert_int_equal(config.limits.list_bytes_max, 256 << 10);
    assert_int_equal(config.bucket_count, 1);
    assert_int_equal(config.buckets[0].r, LEVEL_QUORUM);
    assert_false(config.buckets[0].sloppy);
}

static void the_largest_value_needs_no_other_limit(void **state)
{
    (void)state;
    expect_ok(parse(NODE FOUNDERS "limits: {value_bytes_max: 64MiB}\n"));
    expect_ok(parse(NODE FOUNDERS "limits: {value_bytes_max: 1MiB, "
                                  "inflight_bytes_max: 1114112}\n"));
}

static void documented_defaults_are_the_defaults(void **state)
{
    (void)state;
    static struct config documented;
    expect_ok(config_load(EXAMPLES "/node.yaml", find, &documented, &mistakes));
    expect_ok(parse("node: {name: n1, data_dir: /var/lib/replikv/n1}\n"
                    "cluster: {bootstrap: [n1]}\n"));
    /* Plain data, and all of it zeroed before it is filled in. */
    assert_memory_equal(&documented, &config, sizeof(config));
}

static void example_names_and_explains_every_key(void **state)
{
    (void)state;
    static char text[65536];
    FILE *file = fopen(EXAMPLES "/node.yaml", "rb");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    size_t count;
    const struct config_key *keys = config_keys(&count);
    for (size_t i = 0; i < count; i++) {
        char line[80];
        snprintf(line, sizeof(line), " %s:", keys[i].name);
        if (strstr(text, line) == NULL)
            fail_msg("%s.%s is not in the example", keys[i].section,
                     keys[i].name);
        assert_true(keys[i].meaning[0] != '\0');
    }
}

static void example_cluster_is_valid_and_agrees(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++) {
        char path[512], client[64], peer[64];
        snprintf(path, sizeof(path), EXAMPLES "/cluster/node%d.yaml", i);
        snprintf(client, sizeof(client), "tcp://127.0.0.1:%d", 3000 + i);
        snprintf(peer, sizeof(peer), "tcp://127.0.0.1:%d", 4000 + i);
        expect_ok(config_load(path, find, &config, &mistakes));
        assert_string_equal(config.client_address, client);
        assert_string_equal(config.peer_address, peer);
        assert_int_equal(config.founder_count, 3);
        assert_string_equal(config.cluster, "example");
    }
}

static void node_config_carries_the_file(void **state)
{
    (void)state;
    expect_ok(parse(NODE "cluster: {name: c, bootstrap: [n1, n2],"
                         " seeds: ['tcp://127.0.0.1:4002']}\n"));
    struct node_config node = config_node_config(&config);
    assert_true(node_id_equal(node.self.id, node_id_of("c", "n1")));
    assert_string_equal(node.self.peer_address, "tcp://127.0.0.1:4001");
    assert_string_equal(node.founding.cluster, "c");
    assert_int_equal(node.founding.founder_count, 2);
    assert_int_equal(node.founding.replicas, 3);
    assert_int_equal(node.founding.partitions, 256);
    assert_string_equal(node.seeds[0], "tcp://127.0.0.1:4002");
    assert_string_equal(node.engine, "lsm");
    assert_int_equal(node.limits.inflight_max, 4096);
    assert_int_equal(node.bucket_count, 1);
}

struct wrong {
    const char *text;
    const char *says; /* the one mistake begins so */
};

/* The file begins with NODE FOUNDERS, so the text's first line is the third. */
static const struct wrong wrongs[] = {
    {"lissten: {}", "f.yaml:3: file: found unknown key \"lissten\", nearest is "
                    "listen; allowed node, "},
    {"listen:\n  pear: 1", "f.yaml:4: listen: found unknown key \"pear\", "
                           "nearest is peer"},
    {"limits:\n  zzzzzzzzzzzzz: 1",
     "f.yaml:4: limits: found unknown key \"zzzzzzzzzzzzz\"; allowed value_"},
    {"listen: 3", "f.yaml:3: listen: found \"3\"; allowed a mapping"},
    {"listen: []", "f.yaml:3: listen: found a list; allowed a mapping"},
    {"buckets: {}", "f.yaml:3: buckets: found a mapping; allowed a list"},
    {"buckets: [a]", "f.yaml:3: buckets[0]: found \"a\"; allowed a mapping"},
    {"storage: {sync: always}", "f.yaml:3: storage.sync: found \"always\"; "
                                "allowed batch, interval or none"},
    {"storage: {sync: [batch]}", "f.yaml:3: storage.sync: found a list;"},
    {"storage: {sync: }", "f.yaml:3: storage.sync: found nothing;"},
    {"storage: {engine: oracle}", "f.yaml:3: storage.engine: found \"oracle\"; "
                                  "allowed lsm, memory"},
    {"storage: {engine: oracle, options: {what: 1}}",
     "f.yaml:3: storage.engine: found \"oracle\"; allowed lsm, memory, null, "
     "or twin(A, B) of two of them, but not null"},
    {"storage:\n  sync: none\n  engine: twin(lsm, oracle)",
     "f.yaml:5: storage.engine: found \"twin(lsm, oracle)\"; allowed lsm, "},
    {"storage: {options: {cash_bytes: 1}}",
     "f.yaml:3: storage.options: found unknown key \"cash_bytes\", nearest is "
     "cache_bytes"},
    {"storage: {options: {level: 10}}", "f.yaml:3: storage.options.level: "
                                        "found \"10\"; allowed 1 to 9"},
    {"storage: {options: {compression: gzip}}",
     "f.yaml:3: storage.options.compression: found \"gzip\"; allowed none, lz4 "
     "or zstd: of blocks"},
    {"storage: {options: {compression: 1}}",
     "f.yaml:3: storage.options.compression: found \"1\"; allowed none, lz4"},
    {"storage: {options: {compression: }}",
     "f.yaml:3: storage.options.compression: found nothing; allowed none"},
    {"storage: {options: {level: '3'}}",
     "f.yaml:3: storage.options.level: found \"3\"; allowed 1 to 9"},
    {"storage: {engine: memory, options: {level: 1}}",
     "f.yaml:3: storage.options: found unknown key \"level\""},
    {"storage: {options: [1]}", "f.yaml:3: storage.options: found a list"},
    {"replication: {hedge_ms: 0}", "f.yaml:3: replication.hedge_ms: found "
                                   "\"0\"; allowed 1 to 600000 ms"},
    {"replication: {hedge_ms: '5'}", "f.yaml:3: replication.hedge_ms: found"},
    {"replication: {hedge_ms: -1}", "f.yaml:3: replication.hedge_ms: found"},
    {"replication: {hedge_ms: 1.5}", "f.yaml:3: replication.hedge_ms: found"},
    {"replication: {hedge_ms: 99999999999999999999999}",
     "f.yaml:3: replication.hedge_ms: found"},
    {"replication: {sloppy: yes}", "f.yaml:3: replication.sloppy: found "
                                   "\"yes\"; allowed true or false"},
    {"replication: {r: two}", "f.yaml:3: replication.r: found \"two\""},
    {"replication: {r: 0}", "f.yaml:3: replication.r: found \"0\""},
    {"replication: {w: 17}", "f.yaml:3: replication.w: found \"17\""},
    {"limits: {value_bytes_max: 65MiB}",
     "f.yaml:3: limits.value_bytes_max: found \"65MiB\"; allowed 1 to 64MiB"},
    {"limits: {value_bytes_max: 1MB}", "f.yaml:3: limits.value_bytes_max: f"},
    {"limits: {hint_bytes_max: 99999999999999999GiB}",
     "f.yaml:3: limits.hint_bytes_max: found"},
    {"limits: {inflight_max: 65536}",
     "f.yaml:3: limits.inflight_max: found \"65536\"; allowed 1 to 65535"},
    {"limits:\n  value_bytes_max: 1MiB\n  inflight_bytes_max: 1114111",
     "f.yaml:5: limits.inflight_bytes_max: found \"1114111\"; allowed 1114112 "
     "(limits.value_bytes_max and 64KiB)"},
    {"listen:\n  allow_any: true\n  peer: tcp://0.0.0.0:4001",
     "f.yaml:5: listen.peer: found \"tcp://0.0.0.0:4001\"; allowed an address "
     "that other nodes can dial"},
    {"limits: {inflight_max: 1KiB}", "f.yaml:3: limits.inflight_max: found"},
    {"limits:\n  inflight_max: 1\n  inflight_max: 2",
     "f.yaml:5: limits: found inflight_max a second time; allowed once (line "
     "4)"},
    {"listen: {client: 'tcp://127.0.0.1:0'}", "f.yaml:3: listen.client: found"},
    {"listen: {client: 'tcp://127.0.0.1:65536'}",
     "f.yaml:3: listen.client: found"},
    {"listen: {client: 'tcp://localhost:1'}", "f.yaml:3: listen.client: found"},
    {"listen: {client: 'tcp://127.0.0.1'}", "f.yaml:3: listen.client: found"},
    {"listen: {client: 'udp://127.0.0.1:1'}", "f.yaml:3: listen.client: found"},
    {"listen: {client: 'ipc://tmp/a'}", "f.yaml:3: listen.client: found"},
    {"listen: {client: \"ipc:///a\\0b\"}", "f.yaml:3: listen.client: found"},
    {"listen:\n  client: tcp://0.0.0.0:3001",
     "f.yaml:4: listen.client: found \"tcp://0.0.0.0:3001\"; allowed loopback"},
    {"listen:\n  peer: tcp://10.1.2.3:3001",
     "f.yaml:4: listen.peer: found \"tcp://10.1.2.3:3001\"; allowed loopback"},
    {"listen:\n  peer: tcp://127.0.0.1:3001",
     "f.yaml:4: listen.peer: found \"tcp://127.0.0.1:3001\"; allowed an "
     "address other than"},
    {"buckets: [{kind: lww}]", "f.yaml:3: buckets[0].name: found nothing"},
    {"buckets: [{name: 'a b'}]", "f.yaml:3: buckets[0].name: found \"a b\""},
    {"buckets: [{name: a, kind: crdt}]",
     "f.yaml:3: buckets[0].kind: found \"crdt\"; allowed siblings or lww"},
    {"buckets: [{name: a, w: 4}]", "f.yaml:3: buckets[0].w: found \"4\"; "
                                   "allowed 1 to 3, the replicas"},
    {"buckets:\n- name: a\n- name: b\n- name: a",
     "f.yaml:6: buckets[2].name: found \"a\" a second time; allowed once (line "
     "4)"},
};

static void every_mistake_is_reported_with_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text), NODE FOUNDERS "%s\n", wrongs[i].text);
        assert_int_equal(parse(text), STATUS_INVALID);
        size_t size = strlen(wrongs[i].says);
        if (mistakes.count != 1 ||
            strncmp(mistakes.list[0].text, wrongs[i].says, size) != 0)
            fail_msg("%s\n%zu: %s\nnot: %s", wrongs[i].text, mistakes.count,
                     mistakes.list[0].text, wrongs[i].says);
    }
}

static void cluster_mistakes_are_reported(void **state)
{
    (void)state;
    static const struct wrong cluster[] = {
        {"{}", "f.yaml:2: cluster.bootstrap: found nothing"},
        {"{bootstrap: []}", "f.yaml:2: cluster.bootstrap: found nothing"},
        {"{bootstrap: n1}", "f.yaml:2: cluster.bootstrap: found \"n1\""},
        {"{bootstrap: [n1,\n n2, n1]}",
         "f.yaml:3: cluster.bootstrap: found \"n1\"; allowed each name once"},
        {"{bootstrap: [n1@]}", "f.yaml:2: cluster.bootstrap: found \"n1@\""},
        {"{bootstrap: [n1@z]}", "f.yaml:2: cluster.bootstrap: found \"n1@z\"; "
                                "allowed this node with the zone"},
        {"{bootstrap: [n1], seeds: [x]}", "f.yaml:2: cluster.seeds: found"},
        {"{bootstrap: [n1], seeds: ['tcp://localhost:1']}",
         "f.yaml:2: cluster.seeds: found \"tcp://localhost:1\"; allowed "
         "tcp://A.B.C.D:PORT"},
        {"{bootstrap: [n1], seeds: ['tcp://0.0.0.0:1']}",
         "f.yaml:2: cluster.seeds: found"},
        {"{bootstrap: [n1], seeds: [ipc:///a, ipc:///a]}",
         "f.yaml:2: cluster.seeds: found \"ipc:///a\"; allowed each"},
        {"{bootstrap: [n1], replicas: 17}", "f.yaml:2: cluster.replicas: f"},
        {"{bootstrap: [n1], partitions: 0}", "f.yaml:2: cluster.partitions"},
    };
    for (size_t i = 0; i < sizeof(cluster) / sizeof(cluster[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), NODE "cluster: %s\n", cluster[i].text);
        assert_int_equal(parse(text), STATUS_INVALID);
        if (mistakes.list[0].text !=
            strstr(mistakes.list[0].text, cluster[i].says))
            fail_msg("%s\nnot: %s", mistakes.list[0].text, cluster[i].says);
    }
}

/* Found by search over names; 32 bits of hash make one in some 77,000. */
static void buckets_of_one_id_are_refused(void **state)
{
    (void)state;
    enum { NAMES = 400000, SLOTS = 1 << 20 };
    uint32_t *slots = calloc(SLOTS, sizeof(*slots));
    assert_non_null(slots);
    char first[BUCKET_NAME_MAX], second[BUCKET_NAME_MAX] = "";
    for (uint32_t i = 1; i < NAMES && second[0] == '\0'; i++) {
        char name[BUCKET_NAME_MAX];
        snprintf(name, sizeof(name), "b%u", i);
        uint32_t id = bucket_id_of(name).value;
        uint32_t at = id % SLOTS;
        for (; slots[at] != 0; at = (at + 1) % SLOTS) {
            snprintf(first, sizeof(first), "b%u", slots[at]);
            if (bucket_id_of(first).value == id) {
                memcpy(second, name, sizeof(second));
                break;
            }
        }
        slots[at] = i;
    }
    free(slots);
    assert_true(second[0] != '\0');
    char text[512];
    snprintf(text, sizeof(text),
             NODE FOUNDERS "buckets:\n- name: %s\n- name: %s\n", first, second);
    assert_int_equal(parse(text), STATUS_INVALID);
    assert_int_equal(mistakes.count, 1);
    assert_non_null(strstr(mistakes.list[0].text, "whose id is that of"));
}

static void ten_mistakes_are_reported_at_once_in_order(void **state)
{
    (void)state;
    assert_int_equal(parse("nodes: {}\n"
                           "node:\n"
                           "  nam: n1\n"
                           "limits:\n"
                           "  inflight_max: x\n"
                           "  inflight_max: 3\n"
                           "listen:\n"
                           "  client: here\n"
                           "  peer: tcp://8.8.8.8:1\n"
                           "replication: {r: 9}\n"
                           "buckets:\n"
                           "- kind: x\n"),
                     STATUS_INVALID);
    static const char *const says[] = {
        ":1: cluster.bootstrap: found nothing",
        ":1: file: found unknown key \"nodes\"",
        ":3: node: found unknown key \"nam\"",
        ":3: node.name: found nothing",
        ":3: node.data_dir: found nothing",
        ":5: limits.inflight_max: found \"x\"",
        ":6: limits: found inflight_max a second time",
        ":8: listen.client: found \"here\"",
        ":9: listen.peer: found",
        ":10: replication.r: found \"9\"",
        ":12: buckets[0].name: found nothing",
        ":12: buckets[0].kind: found \"x\"",
    };
    unsigned line = 0;
    for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); i++) {
        size_t j = 0;
        while (j < mistakes.count &&
               strstr(mistakes.list[j].text, says[i]) == NULL)
            j++;
        if (j == mistakes.count)
            fail_msg("not reported: %s", says[i]);
    }
    for (size_t i = 0; i < mistakes.count; i++) {
        assert_true(mistakes.list[i].line >= line);
        line = mistakes.list[i].line;
    }
}

static void endless_mistakes_are_bounded(void **state)
{
    (void)state;
    static char text[65536];
    size_t used = 0;
    /* node is walked first, so the hundredth mistake is found above it. */
    for (int i = 0; i < 500; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s  k: 1\n",
                                 i == 0     ? "limits:\n"
                                 : i == 450 ? "node:\n"
                                            : "");
    assert_int_equal(parse(text), STATUS_INVALID);
    assert_int_equal(mistakes.count, CONFIG_MISTAKES_MAX);
    const char *last = mistakes.list[CONFIG_MISTAKES_MAX - 1].text;
    assert_non_null(strstr(last, "too many mistakes"));
}

static void refused(struct bytes text, const char *says)
{
    enum status status = config_parse("f.yaml", text, find, &config, &mistakes);
    assert_int_equal(status, STATUS_INVALID);
    if (strstr(mistakes.list[0].text, says) == NULL)
        fail_msg("%s\nnot: %s", mistakes.list[0].text, says);
}

static void hostile_files_are_refused(void **state)
{
    (void)state;
    static char big[CONFIG_FILE_BYTES_MAX + 1];
    refused(bytes_of_string(""), "found nothing");
    refused(bytes_of_string("# a comment\n"), "found nothing");
    refused(bytes_of_string("---\n"), "found nothing");
    refused(bytes_of_string("7"), "found \"7\"");
    refused(bytes_of_string("a: &x 1\nb: *x\n"), "f.yaml:1: file: found an");
    refused(bytes_of_string("a: *x\n"), "found an alias");
    refused(bytes_of_string("a: !!binary aGVsbG8=\n"), "found a tag");
    refused(bytes_of_string(NODE "---\n" NODE), ":2: file: found a second");
    refused(bytes_of_string("a: [\n"), "found no YAML");
    refused(bytes_of_string("a: \"\n"), "found no YAML");
    refused(bytes_of("\0\1\2\377", 4), "found no YAML");
    refused(bytes_of("a: \xff\xfe", 5), "found no YAML");
    refused(bytes_of_string("[[[[[[[[[1]]]]]]]]]"), "found a deeper nesting");
    memset(big, '[', sizeof(big));
    refused(bytes_of(big, sizeof(big) - 1), "found a deeper nesting");
    memset(big, ' ', sizeof(big));
    refused(bytes_of(big, sizeof(big)), "allowed 1 MiB");
}

static void file_on_disk_over_the_limit_is_refused(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    char directory[512], path[600];
    snprintf(directory, sizeof(directory), "%s/config_test.XXXXXX",
             parent == NULL ? "/tmp" : parent);
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/big.yaml", directory);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (size_t i = 0; i <= CONFIG_FILE_BYTES_MAX; i++)
        fputc('\n', file);
    fclose(file);
    enum status big = config_load(path, find, &config, &mistakes);
    bool said = strstr(mistakes.list[0].text, "1 MiB") != NULL;
    unlink(path);
    enum status missing = config_load(path, find, &config, &mistakes);
    enum status folder = config_load(directory, find, &config, &mistakes);
    rmdir(directory);
    assert_int_equal(big, STATUS_INVALID);
    assert_true(said);
    assert_int_equal(missing, STATUS_INVALID);
    assert_int_equal(folder, STATUS_INVALID);
    assert_non_null(strstr(mistakes.list[0].text, "can be read"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_file_sets_every_field),
        cmocka_unit_test(setting_with_words_is_said_by_one_of_them),
        cmocka_unit_test(null_is_an_engine_and_nothing_elsewhere),
        cmocka_unit_test(twin_is_called_as_it_calls_itself),
        cmocka_unit_test(buckets_inherit_what_they_do_not_say),
        cmocka_unit_test(minimal_file_gives_the_promised_defaults),
        cmocka_unit_test(the_largest_value_needs_no_other_limit),
        cmocka_unit_test(documented_defaults_are_the_defaults),
        cmocka_unit_test(example_names_and_explains_every_key),
        cmocka_unit_test(example_cluster_is_valid_and_agrees),
        cmocka_unit_test(node_config_carries_the_file),
        cmocka_unit_test(every_mistake_is_reported_with_its_line),
        cmocka_unit_test(cluster_mistakes_are_reported),
        cmocka_unit_test(buckets_of_one_id_are_refused),
        cmocka_unit_test(ten_mistakes_are_reported_at_once_in_order),
        cmocka_unit_test(endless_mistakes_are_bounded),
        cmocka_unit_test(hostile_files_are_refused),
        cmocka_unit_test(file_on_disk_over_the_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
