# SPDX-License-Identifier: MIT
"""Nodes in networks of their own, one cut off from the others by iptables. It
hears nothing and no connection ends, which is not what a killed node does."""

import contextlib
import unittest

from harness import rkv, wait_for
from load import Loads
from network import Network, alone_with_network


class Partition(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.network = Network(3)

    def refused(self, node):
        """A node without the others says that it does not know, or that it
        did nothing, of a write and of a read."""
        with contextlib.closing(node.client()) as client:
            result, _ = client.put(b"minority", b"value")
            self.assertIn(result.outcome, (rkv.UNKNOWN, rkv.NOT_APPLIED))
            self.assertLess(result.got, result.need)
            result, values, _ = client.get(b"minority")
            self.assertIn(result.status, (rkv.UNAVAILABLE, rkv.TIMEOUT))
            self.assertEqual(values, [])
            # What asks for no more than itself is answered.
            result, _ = client.put(b"alone", b"value", w=1)
            self.assertEqual(result.outcome, rkv.APPLIED)

    def cut_and_heal(self, chains):
        with self.network.cluster("lsm") as cluster:
            cluster.start()
            self.run_cut(cluster, chains)

    def run_cut(self, cluster, chains):
        nodes, last = cluster.nodes, cluster.nodes[2]
        with Loads(nodes) as loads:
            loads.wait_applied(100)
            self.network.cut(2, (0, 1), chains)
            loads.wait_applied(100)
        with Loads(nodes[:2], after=loads) as majority:
            majority.wait_applied(100)
            self.refused(last)
            majority.wait_applied(300)
            wait_for("the majority to see it dead", lambda: all(
                node.members()["n3"] == rkv.DEAD for node in nodes[:2]))
        self.network.heal(2)
        cluster.wait_met()
        cluster.wait_no_hints()
        loads.failed()
        majority.check(nodes)
        print(majority.told())
        with contextlib.closing(nodes[0].client()) as client:
            for key in (b"alone", b"minority"):
                wait_for(f"{key} on all", lambda key=key: client.get(
                    key, r=-2)[1] == [b"value"])
        cluster.wait_equal()

    def test_a_node_that_is_cut_off_loses_nothing(self):
        self.cut_and_heal(("INPUT", "OUTPUT"))

    def test_a_node_that_hears_nothing_loses_nothing(self):
        self.cut_and_heal(("INPUT",))


if __name__ == "__main__":
    alone_with_network()
    unittest.main()
