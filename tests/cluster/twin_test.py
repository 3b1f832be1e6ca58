# SPDX-License-Identifier: MIT
"""From one engine to another, by a twin of both under traffic."""

import contextlib
import os
import unittest

from harness import Cluster, rkv, wait_for
from load import Loads

KEYS = 300
VALUES = {b"key%d" % i: b"value %d" % i for i in range(KEYS)}


class Twin(unittest.TestCase):
    def restart(self, node, engine, data=None):
        self.assertEqual(node.stop(), 0, node.said())
        node.engine, node.data = engine, data or node.data
        node.write_config()
        node.start().wait_ready()

    def counters(self, node):
        with contextlib.closing(node.client()) as client:
            return client.counters()

    def wait_compared(self, node):
        """The counters, once reads are compared."""
        def compared():
            counters = self.counters(node)
            return counters["engine_twin_behind"] == 0 and counters
        return wait_for("the second to be compared", compared)

    def assert_alike(self, node):
        counters = self.counters(node)
        self.assertEqual(counters["engine_twin_differences"], 0)
        self.assertEqual(counters["engine_twin_failures"], 0)
        # At once, and not within a second.
        self.assertNotIn("differs from the first", node.said())

    def read_all(self, node):
        with contextlib.closing(node.client()) as client:
            for key, value in VALUES.items():
                result, values, _ = client.get(key)
                self.assertEqual(values, [value], result.message)

    def test_a_node_moves_to_another_engine(self):
        with Cluster("lsm", nodes=1, replicas=1) as cluster:
            node = cluster.start().nodes[0]
            with contextlib.closing(node.client()) as client:
                for key, value in VALUES.items():
                    result, _ = client.put(key, value)
                    self.assertEqual(result.outcome, rkv.APPLIED)
            self.restart(node, "twin(lsm, leveldb)")
            with Loads(cluster.nodes) as loads:
                loads.wait_applied(100)
                copied = self.wait_compared(node)["engine_twin_mended"]
                self.assertGreaterEqual(copied, KEYS)
                self.assertIn("now holds what the first does", node.said())
                loads.wait_applied(100)
                node.kill()
                # Not all may be in it: it is not gone on with.
                whole, node.engine = node.data, "leveldb"
                node.data = os.path.join(whole, "second")
                node.write_config()
                self.assertEqual(node.start().wait_end(), 1)
                self.assertIn("leveldb, behind its twin", node.said())
                node.data, node.engine = whole, "twin(lsm, leveldb)"
                node.write_config()
                node.start().wait_ready()
                again = self.wait_compared(node)
                self.assertGreater(again["engine_twin_compared"], KEYS)
                self.assertLess(again["engine_twin_mended"], KEYS)
                loads.wait_applied(100)
            self.read_all(node)
            loads.check(cluster.nodes)
            self.assert_alike(node)
            self.assertEqual(node.stop(), 0, node.said())
            self.assertTrue(os.path.exists(os.path.join(node.data, "AGREED")))
            node.start().wait_ready()
            self.assertEqual(self.counters(node)["engine_twin_compared"], 0)
            self.restart(node, "leveldb", os.path.join(node.data, "second"))
            self.read_all(node)
            loads.check(cluster.nodes)


if __name__ == "__main__":
    unittest.main()
