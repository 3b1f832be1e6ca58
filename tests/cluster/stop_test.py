# SPDX-License-Identifier: MIT
"""A node that is asked to stop says goodbye, and comes back soon. Arguments:
the engines of the cluster that stops as a whole, with commas."""

import sys
import time
import unittest

from harness import Cluster, rkv, wait_for
from load import Loads

ENGINES = sys.argv.pop(1).split(",")
# A write's deadline and what is left of its replies.
STOP_S = 5


class Stop(unittest.TestCase):
    def test_a_stopped_node_leaves_at_once_and_cleanly(self):
        with Cluster("lsm") as cluster:
            cluster.start()
            one, two, three = cluster.nodes
            with Loads(cluster.nodes) as loads:
                loads.wait_applied(100)
                began = time.monotonic()
                self.assertEqual(three.stop(), 0, three.said())
                took = time.monotonic() - began
                self.assertLess(took, STOP_S)
                # Told, not found out by probes: those take some seconds.
                for node in (one, two):
                    wait_for("n3 to have left", lambda node=node:
                             node.members()["n3"] == rkv.LEFT, 1)
                loads.wait_applied(100)
                three.start().wait_ready()
                cluster.wait_met()
                loads.wait_applied(100)
            print(f"stopped in {took * 1000:.0f} ms")
            self.assertIn("event=stop", three.said())
            cluster.wait_no_hints()
            loads.check(cluster.nodes)

    def test_an_empty_node_is_ready_soon(self):
        with Cluster("lsm") as cluster:
            for node in cluster.nodes:
                node.write_config()
            cluster.nodes[0].start()
            cluster.nodes[1].start().wait_ready()
            began = time.monotonic()
            cluster.nodes[2].start().wait_ready()
            print(f"ready in {(time.monotonic() - began) * 1000:.0f} ms")
            cluster.nodes[2].stop()
            began = time.monotonic()
            cluster.nodes[2].start().wait_ready()
            print(f"ready again in {(time.monotonic() - began) * 1000:.0f} ms")

    def test_a_whole_cluster_stops_and_starts(self):
        with Cluster(ENGINES) as cluster:
            cluster.start()
            with Loads(cluster.nodes) as loads:
                loads.wait_applied(200)
                for node in cluster.nodes:
                    self.assertEqual(node.stop(), 0, node.said())
                for node in cluster.nodes:
                    node.start()
                for node in cluster.nodes:
                    node.wait_ready()
                loads.wait_applied(100)
            cluster.wait_no_hints()
            loads.check(cluster.nodes)


if __name__ == "__main__":
    unittest.main()
