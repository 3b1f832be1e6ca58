# SPDX-License-Identifier: MIT
"""Deletes and expired values of real nodes are forgotten, and do not come back.
Arguments: the engine of all nodes, or three with commas."""

import sys
import time
import unittest

from harness import Cluster, engines_of, rkv, wait_for

ENGINES = engines_of(sys.argv.pop(1) if len(sys.argv) > 1 else "lsm")
if len(ENGINES) == 1:
    ENGINES *= 3
WINDOW_S = 6
MANY = 500


def records(cluster):
    return [held for held, _ in cluster.digests()]


class Collect(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(ENGINES, sections={"replication": {
            "dedup_window_ms": WINDOW_S * 1000,
            "request_timeout_ms": WINDOW_S * 500, "collect_interval_ms": 100,
            "anti_entropy_interval_ms": 300}})
        self.addCleanup(self.cluster.__exit__, None)
        self.cluster.start()
        self.one, self.two, self.three = self.cluster.nodes

    def client(self, node):
        client = node.client()
        self.addCleanup(client.close)
        return client

    def put(self, client, *arguments, **more):
        result, _ = client.put(*arguments, **more)
        self.assertEqual(result.outcome, rkv.APPLIED)

    def wait_for_records(self, count):
        wait_for(f"{count} records to be left",
                 lambda: records(self.cluster) == [count] * 3)

    def test_what_is_deleted_or_expired_leaves_nothing(self):
        client = self.client(self.one)
        keys = [b"key%d" % i for i in range(MANY)]
        for key in keys:
            self.put(client, key, b"v")
        self.wait_for_records(MANY)
        for i, key in enumerate(keys):
            context = client.get(key)[2]
            if i % 5 == 0:
                self.put(client, key, b"lives", context)
            elif i % 5 == 1:
                self.put(client, key, b"v", context, ttl_ms=100)
            else:
                self.put(client, key, b"", context, remove=True)
        left = len(range(0, MANY, 5))
        self.wait_for_records(left)
        # Some twice, where a lost answer left one behind and it came back.
        self.assertGreaterEqual(self.cluster.total("records_collected"),
                                3 * (MANY - left))
        reader = self.client(self.three)
        for i, key in enumerate(keys):
            self.assertEqual(reader.get(key)[1],
                             [b"lives"] if i % 5 == 0 else [])
        # A key that was collected is one like any other.
        self.put(client, keys[1], b"again")
        self.assertEqual(reader.get(keys[1])[1], [b"again"])

    def test_nothing_is_forgotten_while_a_node_is_away(self):
        client = self.client(self.one)
        self.put(client, b"k", b"v")
        self.wait_for_records(1)
        self.three.kill()
        self.put(client, b"k", b"", client.get(b"k")[2], remove=True)
        # Longer than it would take, were it not for n3.
        time.sleep(1.5 * WINDOW_S)
        self.assertEqual([self.client(node).digest()[0]
                          for node in (self.one, self.two)], [1, 1])
        self.three.start().wait_ready()
        self.wait_for_records(0)
        self.assertEqual(client.get(b"k")[1], [])


if __name__ == "__main__":
    unittest.main()
