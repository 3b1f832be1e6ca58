# SPDX-License-Identifier: MIT
"""Nodes are killed and started again under load: nothing acknowledged is
lost, no descriptor of a survivor either. Arguments: the engine of all nodes,
or three with commas."""

import contextlib
import sys
import unittest

from harness import Cluster, engines_of, rkv, wait_for
from load import Loads

ENGINES = engines_of(sys.argv.pop(1) if len(sys.argv) > 1 else "lsm")
# Which nodes end at once. Two leave no quorum: writes are sent again until the
# nodes are back.
VICTIMS = ((0,), (1,), (2,), (0, 1), (2,), (0, 1, 2), (1,))
# More than the clients of a load, whose connections hide as many.
KILLS = 8
# What only memory keeps is lost with the process. One at a time is replaced.
IS_LASTING = "memory" not in ENGINES
if not IS_LASTING:
    VICTIMS = ((0,), (1,), (2,))


def is_filled(node):
    with contextlib.closing(node.client()) as client:
        return client.admin(rkv.Admin.STATUS).filling == 0


def start_again(nodes):
    for node in nodes:
        node.start(*([] if IS_LASTING else ["--replace"]))
    for node in nodes:
        node.wait_ready()
        if not IS_LASTING:
            wait_for("all to be filled", lambda node=node: is_filled(node))


class Faults(unittest.TestCase):
    def check_twins(self, nodes):
        """What kills left behind in a second engine was found and mended
        before its reads were compared."""
        for node in nodes:
            if not node.engine.startswith("twin"):
                continue
            with contextlib.closing(node.client()) as client:
                wait_for("the second to be compared", lambda client=client:
                         client.counters()["engine_twin_behind"] == 0)
                counters = client.counters()
            self.assertEqual(counters["engine_twin_differences"], 0,
                             node.said())
            self.assertEqual(counters["engine_twin_failures"], 0, node.said())
            self.assertNotIn("differs from the first", node.said())

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
                    start_again([nodes[i] for i in victims])
            cluster.wait_no_hints()
            keys = loads.check(nodes)
            self.check_twins(nodes)
            self.assertGreater(cluster.wait_equal(), keys // 2)
            print(loads.told())
            self.assertGreater(sum(load.gone for load in loads.loads), 0)

    def test_kills_of_a_peer_leak_no_descriptor(self):
        with Cluster(ENGINES * (3 // len(ENGINES))) as cluster:
            cluster.start()
            *survivors, victim = cluster.nodes
            with Loads(cluster.nodes) as loads:
                loads.wait_applied(100)
                before = [node.descriptors() for node in survivors]
                for _ in range(KILLS):
                    victim.kill()
                    loads.wait_applied(20)
                    start_again([victim])
                    loads.wait_applied(20)
            for node, wanted in zip(survivors, before):
                wait_for(f"{node.name} to have {wanted} descriptors",
                         lambda node=node, wanted=wanted:
                         node.descriptors() <= wanted)
            print(f"descriptors {before} before, "
                  f"{[node.descriptors() for node in survivors]} after")
            loads.check(cluster.nodes)


if __name__ == "__main__":
    unittest.main()
