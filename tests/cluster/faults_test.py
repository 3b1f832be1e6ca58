# SPDX-License-Identifier: MIT
"""Nodes are killed and started again under load: nothing acknowledged is
lost. Arguments: the engine of all nodes, or three with commas."""

import sys
import unittest

from harness import Cluster
from load import Loads

ENGINES = sys.argv.pop(1).split(",") if len(sys.argv) > 1 else ["lsm"]
# Which nodes end at once. Two leave no quorum: writes are sent again until the
# nodes are back.
VICTIMS = ((0,), (1,), (2,), (0, 1), (2,), (0, 1, 2), (1,))


class Faults(unittest.TestCase):
    def test_what_was_acknowledged_survives_kills(self):
        with Cluster(ENGINES * (3 // len(ENGINES)), sections={
                "replication": {"request_timeout_ms": 1000}}) as cluster:
            cluster.start()
            nodes = cluster.nodes
            with Loads(nodes) as loads:
                for victims in VICTIMS:
                    loads.wait_applied(100)
                    for i in victims:
                        nodes[i].kill()
                    if len(victims) == 1:
                        loads.wait_applied(100)
                    else:
                        loads.wait_failing()
                    for i in victims:
                        nodes[i].start()
                    for i in victims:
                        nodes[i].wait_ready()
            cluster.wait_no_hints()
            keys = loads.check(nodes)
            self.assertGreater(cluster.wait_equal(), keys // 2)
            print(loads.told())
            self.assertGreater(sum(load.gone for load in loads.loads), 0)


if __name__ == "__main__":
    unittest.main()
