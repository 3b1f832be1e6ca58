# SPDX-License-Identifier: MIT
"""Anti-entropy of real nodes: what hints do not cover comes back by itself.
Arguments: the engine of all nodes, or three with commas."""

import contextlib
import json
import subprocess
import sys
import unittest

from harness import REPLIKV, Cluster, engines_of, rkv, wait_for
from load import pump

ENGINES = engines_of(sys.argv.pop(1) if len(sys.argv) > 1 else "lsm")
if len(ENGINES) == 1:
    ENGINES *= 3
INTERVAL_MS = 300
MANY, MISSED = 2000, 500
VALUE = bytes(100)


def sections(**replication):
    return {"limits": {"hint_bytes_max": 0},
            "replication": {"anti_entropy_interval_ms": INTERVAL_MS,
                            **replication}}


def repair(cluster, *arguments, expect=0):
    """What `replikv repair` prints as JSON, by node."""
    endpoints = [word for node in cluster.nodes
                 if node.process.poll() is None
                 for word in ("-e", node.endpoint())]
    ran = subprocess.run([REPLIKV, *endpoints, "--json", "repair", *arguments],
                         capture_output=True, timeout=120, check=False)
    assert ran.returncode == expect, ran
    return {one["node"]: one for one in json.loads(ran.stdout)}, ran.stderr


class Command(unittest.TestCase):
    """Nodes that do not compare by themselves as long as a test takes."""

    def setUp(self):
        self.cluster = Cluster(ENGINES, sections={
            **sections(anti_entropy_interval_ms=86400000),
            "buckets": "[{name: default}, {name: other}]"})
        self.addCleanup(self.cluster.__exit__, None)
        self.cluster.start()
        self.one, self.two, self.three = self.cluster.nodes

    def miss(self, bucket, count=50):
        """Writes that n3 does not get."""
        self.three.kill()
        with contextlib.closing(self.one.client()) as client:
            for i in range(count):
                result, _ = client.put(b"key%d" % i, VALUE, bucket=bucket)
                self.assertEqual(result.outcome, rkv.APPLIED)
        self.three.start().wait_ready()
        self.cluster.wait_met()
        for node in self.cluster.nodes:
            self.wait_trees(node)

    def wait_trees(self, node):
        with contextlib.closing(node.client()) as client:
            wait_for("its trees", lambda: client.counters()["trees_built"] >=
                     client.admin(rkv.Admin.STATUS).partitions)

    def is_equal(self):
        return len(set(self.cluster.digests())) == 1

    def test_it_mends_and_says_what_it_did(self):
        self.miss("default")
        self.assertFalse(self.is_equal())
        found, _ = repair(self.cluster)
        self.assertTrue(self.is_equal())
        self.assertGreaterEqual(sum(one["pulled"] + one["pushed"]
                                    for one in found.values()), 50)
        self.assertEqual([one["left_out"] for one in found.values()], [0] * 3)
        found, _ = repair(self.cluster, "--full")
        self.assertEqual([one["pulled"] + one["pushed"]
                          for one in found.values()], [0] * 3)

    def test_of_one_bucket_or_partition(self):
        self.miss("default")
        self.miss("other")
        repair(self.cluster, "--bucket", "other")
        self.assertFalse(self.is_equal())
        with contextlib.closing(self.three.client()) as client:
            for bucket, status in (("other", rkv.OK),
                                   ("default", rkv.NOT_FOUND)):
                result, _, _ = client.get(b"key1", r=1, bucket=bucket)
                self.assertEqual(result.status, status)
        for partition in range(31):
            repair(self.cluster, "--partition", str(partition))
        self.assertFalse(self.is_equal())
        repair(self.cluster, "--partition", "31")
        self.assertTrue(self.is_equal())

    def test_it_says_what_cannot_be(self):
        self.assertIn(b"not declared", self.refused("--bucket", "none"))
        self.assertIn(b"partition: 32, allowed are 0 to 31",
                      self.refused("--partition", "32"))
        self.three.kill()
        wait_for("its death to be noticed", lambda: all(
            node.members()["n3"] == rkv.DEAD for node in (self.one, self.two)))
        found, said = repair(self.cluster, expect=3)
        self.assertIn(b"left something out: a node is away", said)
        self.assertEqual([one["left_out"] for one in found.values()], [1, 1])

    def refused(self, *arguments):
        ran = subprocess.run([REPLIKV, "-e", self.one.endpoint(), "repair",
                              *arguments],
                             capture_output=True, timeout=120, check=False)
        self.assertEqual(ran.returncode, 3, ran)
        return ran.stderr

    def test_status_says_when_partitions_were_equal(self):
        def ages(node):
            ran = subprocess.run(
                [REPLIKV, "-e", node.endpoint(), "--json", "status",
                 "--partitions"], capture_output=True, timeout=120, check=True)
            return [one["equal_ago_ms"] for one in
                    json.loads(ran.stdout)[0]["partitions"]]

        for node in self.cluster.nodes:
            self.wait_trees(node)
        self.assertEqual(ages(self.one), [None] * 32)
        repair(self.cluster)
        self.assertTrue(all(0 <= age < 60000 for age in ages(self.one)))
        ran = subprocess.run([REPLIKV, "-e", self.one.endpoint(), "status"],
                             capture_output=True, timeout=120, check=True)
        self.assertRegex(ran.stdout.decode(), r"\d+ s ago")


class Saved(unittest.TestCase):
    def test_a_clean_stop_leaves_trees_for_the_next_start(self):
        with Cluster(ENGINES, sections=sections()) as cluster:
            cluster.start()
            three = cluster.nodes[2]
            with contextlib.closing(cluster.nodes[0].client()) as client:
                pump(client, b"key", MANY, VALUE)
            cluster.wait_equal()
            self.assertEqual(three.stop(), 0, three.said())
            three.start().wait_ready()
            cluster.wait_met()
            with contextlib.closing(three.client()) as client:
                wait_for("a round with each other node",
                         lambda: client.counters()["exchanges"] >= 4)
                counted = client.counters()
            self.assertEqual(counted["trees_built"], 0)
            self.assertEqual(counted["keys_pulled"] + counted["keys_pushed"],
                             0)
            # After another end all is read again.
            three.kill()
            three.start().wait_ready()
            with contextlib.closing(three.client()) as client:
                wait_for("the trees",
                         lambda: client.counters()["trees_built"] == 32)


class Repair(unittest.TestCase):
    def test_what_a_node_missed_it_is_given(self):
        with Cluster(ENGINES, sections=sections()) as cluster:
            cluster.start()
            one, _, three = cluster.nodes
            with contextlib.closing(one.client()) as client:
                pump(client, b"key", MANY, VALUE)
                three.kill()
                wait_for("its death to be noticed",
                         lambda: one.members()["n3"] == rkv.DEAD)
                # New keys, newer values, and deletes.
                outcomes = pump(client, b"new", MISSED, VALUE)
                for i in range(MISSED):
                    key = b"key%d" % i
                    _, _, context = client.get(key)
                    outcomes.add(client.put(key, b"newer", context,
                                            remove=i % 2 == 0)[0].outcome)
            self.assertEqual(outcomes, {rkv.APPLIED})
            three.start().wait_ready()
            self.assertEqual(cluster.wait_equal(), MANY + MISSED)
            self.assertEqual(cluster.hints(), 0)
            # None was read by a client since; three are equal to each other.
            moved = cluster.total("keys_pulled") + cluster.total(
                "keys_pushed")
            print(f"{moved} records moved for {2 * MISSED} that n3 missed")
            self.assertGreaterEqual(moved, 2 * MISSED)
            self.assertEqual(cluster.total("trees_wrong"), 0)

    def test_equal_replicas_move_nothing(self):
        with Cluster(ENGINES, sections=sections()) as cluster:
            cluster.start()
            with contextlib.closing(cluster.nodes[0].client()) as client:
                pump(client, b"key", 10 * MANY, VALUE)
            cluster.wait_equal()
            rounds = cluster.total("exchanges")
            moved = cluster.total("keys_pulled") + cluster.total(
                "keys_pushed")
            wait_for("a few rounds",
                     lambda: cluster.total("exchanges") >= rounds + 12)
            self.assertEqual(moved, cluster.total("keys_pulled") +
                             cluster.total("keys_pushed"))
            self.assertEqual(cluster.total("trees_wrong"), 0)


if __name__ == "__main__":
    unittest.main()
