# SPDX-License-Identifier: MIT
"""More nodes than replicas: every node serves every key, though most keep it
not."""

import collections
import contextlib
import unittest

from harness import Cluster, rkv, wait_for
from load import Loads

KEYS, REPLICAS, PARTITIONS = 200, 3, 32
SLOPPY = "[{name: loose, sloppy: true, w: all}]"


class FiveNodes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(["lsm", "leveldb", "lmdb", "lsm", "leveldb"],
                              replicas=REPLICAS, sections={
                                  "buckets": SLOPPY,
                                  # No anti-entropy while a test takes.
                                  "replication": {
                                      "anti_entropy_interval_ms": 86400000}})
        cls.addClassCleanup(cls.cluster.__exit__, None)
        cls.cluster.start()
        with contextlib.closing(cls.cluster.nodes[0].client()) as client:
            for i in range(KEYS):
                result, _ = client.put(b"key%d" % i, b"value%d" % i)
                assert result.outcome == rkv.APPLIED, result.message

    def owners(self):
        with contextlib.closing(self.cluster.nodes[0].client()) as client:
            ring = client.admin(rkv.Admin.RING).owners
        return {entry.partition: list(entry.nodes) for entry in ring}

    def read_all(self, nodes, **options):
        for node in nodes:
            with contextlib.closing(node.client()) as client:
                for i in range(KEYS):
                    result, values, _ = client.get(b"key%d" % i, **options)
                    self.assertEqual((result.status, values),
                                     (rkv.OK, [b"value%d" % i]),
                                     f"{node.name}: {result.message}")

    def reaches_all(self, node):
        with contextlib.closing(node.client()) as client:
            return all(client.get(b"key%d" % i, r=-2)[0].status == rkv.OK
                       for i in range(KEYS))

    def test_every_node_gives_every_key(self):
        self.read_all(self.cluster.nodes)
        self.read_all(self.cluster.nodes[:1], r=-2)

    def test_the_ring_is_balanced_and_its_owners_are_distinct(self):
        owners = self.owners()
        self.assertEqual(sorted(owners), list(range(PARTITIONS)))
        self.assertEqual({len(set(nodes)) for nodes in owners.values()},
                         {REPLICAS})
        share = collections.Counter(name for nodes in owners.values()
                                    for name in nodes)
        self.assertEqual(len(share), 5)
        self.assertLessEqual(max(share.values()) - min(share.values()), 1)

    def test_what_a_killed_node_kept_is_read_from_the_others(self):
        nodes = self.cluster.nodes
        # Another test's dead node may be dialled again only a moment later.
        wait_for("all lanes", lambda: all(map(self.reaches_all, nodes)))
        nodes[1].kill()
        try:
            self.read_all(nodes[:1] + nodes[2:])
            with Loads(nodes[:1] + nodes[2:]) as loads:
                loads.wait_applied(200)
        finally:
            nodes[1].start()
            nodes[1].wait_ready()
        self.cluster.wait_no_hints()
        loads.check(nodes)

    def test_fallbacks_stand_in_and_hand_over(self):
        nodes, dead = self.cluster.nodes, self.cluster.nodes[4]
        keys = [b"loose%d" % i for i in range(KEYS)]
        dead.kill()
        try:
            with contextlib.closing(nodes[0].client()) as client:
                for key in keys:
                    result, _ = client.put(key, b"value", bucket="loose")
                    self.assertEqual(result.outcome, rkv.APPLIED,
                                     result.message)
                outcomes = {client.put(key, b"value", w=-2)[0].outcome
                            for key in keys[:20]}
            # Where fallbacks do not count, all are not to be had.
            self.assertIn(rkv.UNKNOWN, outcomes)
            self.assertGreater(self.cluster.hints(), KEYS // 3)
        finally:
            dead.start()
            dead.wait_ready()
        self.cluster.wait_no_hints()
        with contextlib.closing(dead.client()) as client:
            states = [client.admin(rkv.Admin.EXPLAIN, bucket="loose",
                                   key=key).replica_states for key in keys]
        # Nobody has read them: what the dead one has was handed over.
        for replicas in states:
            self.assertEqual(
                [(replica.status, replica.version) for replica in replicas],
                [(rkv.OK, replicas[0].version)] * REPLICAS)
        held = [replica for replicas in states for replica in replicas
                if replica.node == dead.name]
        self.assertGreater(len(held), KEYS // 3)


if __name__ == "__main__":
    unittest.main()
