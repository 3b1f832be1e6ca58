# SPDX-License-Identifier: MIT
"""Blocks of the lsm engine damaged on one node's disk: nothing false is read,
quorum reads mend what they meet, anti-entropy mends the rest, and --replace
fills another disk."""

import contextlib
import json
import os
import subprocess
import unittest

from harness import REPLIKV, SMALL_TREE, Cluster, flip, rkv, wait_for

KEYS = 2000
ONE, QUORUM, ALL = 1, -1, -2
SOUND, DAMAGED = 0, 1


def key(i):
    return b"key%05d" % i


def value(i):
    return b"%0150d" % i


class DamagedBlock(unittest.TestCase):
    def setUp(self):
        # Reads mend here, and not the nodes by themselves.
        self.cluster = Cluster("lsm", sections={
            "storage": {"options": SMALL_TREE},
            "replication": {"anti_entropy_interval_ms": 86400000}})
        self.addCleanup(self.cluster.__exit__, None)
        self.cluster.start()
        self.node = self.cluster.nodes[2]
        with contextlib.closing(self.cluster.nodes[0].client()) as client:
            for i in range(KEYS):
                result, _ = client.put(key(i), value(i), w=ALL)
                self.assertEqual(result.outcome, rkv.APPLIED)
        self.assertEqual(self.node.stop(), 0, self.node.said())

    def check(self, expect):
        ran = subprocess.run([REPLIKV, "lsm", "check", self.node.data],
                             capture_output=True, timeout=120, check=False)
        self.assertEqual(ran.returncode, expect, ran)
        return ran.stdout.decode()

    def damage(self, kind):
        """A block with entries of that kind in each table that has one."""
        count = 0
        for name in os.listdir(self.node.data):
            path = os.path.join(self.node.data, name)
            if not name.endswith(".table"):
                continue
            dumped = subprocess.run([REPLIKV, "--json", "lsm", "dump", path],
                                    capture_output=True, timeout=120,
                                    check=True).stdout.decode()
            lines = [json.loads(line) for line in dumped.splitlines()]
            offsets = {line["offset"] for line in lines
                       if line.get("table") == kind}
            if offsets:
                flip(path, min(offsets) + 20)
                count += 1
        self.assertGreater(count, 0)

    def read_all(self, node, level):
        with contextlib.closing(node.client()) as client:
            for i in range(KEYS):
                result, values, _ = client.get(key(i), r=level)
                self.assertEqual((result.status, values),
                                 (rkv.OK, [value(i)]))

    def counter(self, name):
        with contextlib.closing(self.node.client()) as client:
            return client.counters()[name]

    def replace(self):
        self.node.start("--replace").wait_ready()
        with contextlib.closing(self.node.client()) as client:
            wait_for("all to be filled", lambda: client.admin(
                rkv.Admin.STATUS).filling == 0)
        self.assertIn("event=set_aside", self.node.said())
        self.cluster.wait_met()
        self.cluster.wait_no_hints()
        self.cluster.wait_equal()
        self.cluster.nodes[0].kill()
        self.read_all(self.node, QUORUM)
        self.assertEqual(self.node.stop(), 0, self.node.said())
        self.assertIn("sound", self.check(SOUND))

    def test_quorum_reads_mend_records_and_replace_the_disk(self):
        self.damage("data")
        self.assertIn("--replace", self.check(DAMAGED))
        self.node.start().wait_ready()
        self.read_all(self.node, QUORUM)
        damaged = self.counter("records_damaged")
        self.assertGreater(damaged, 0)
        self.assertGreaterEqual(self.counter("read_repairs"), damaged)
        self.assertIn("event=record_damaged", self.node.said())
        wait_for("what was read to be written anew",
                 lambda: self.failures_of_its_own() == 0)
        self.assertEqual(self.node.stop(), 0, self.node.said())
        self.replace()

    def test_anti_entropy_mends_what_is_damaged(self):
        self.damage("data")
        self.node.start().wait_ready()
        self.cluster.wait_met()
        self.assertGreater(self.failures_of_its_own(), 0)
        ran = subprocess.run(
            [REPLIKV, "-e", self.node.endpoint(), "--json", "repair", "--full"],
            capture_output=True, timeout=120, check=False)
        wait_for("what is damaged to be written anew",
                 lambda: self.failures_of_its_own() == 0)
        self.assertIn(ran.returncode, (0, 3), ran)
        # What one other replica has may be older: by reads of a majority.
        self.assertGreater(self.counter("read_repairs"), 0)
        self.assertEqual(self.counter("trees_failed"), 0)
        # And of itself alone.
        self.cluster.nodes[0].kill()
        self.read_all(self.node, QUORUM)
        self.cluster.nodes[1].kill()
        self.read_all(self.node, ONE)

    def test_a_write_waits_until_what_is_damaged_is_mended(self):
        self.damage("data")
        self.node.start().wait_ready()
        self.cluster.wait_met()
        refused = 0
        with contextlib.closing(self.node.client()) as client:
            for i in range(KEYS):
                result, _ = client.put(key(i), b"new")
                while result.outcome != rkv.APPLIED:
                    self.assertEqual(
                        (result.status, result.outcome),
                        (rkv.UNAVAILABLE, rkv.NOT_APPLIED), result.message)
                    self.assertIn("is damaged, and is being mended",
                                  result.message)
                    refused += 1
                    result, _ = client.put(key(i), b"new")
            self.assertGreater(refused, 0)
            # Beside what was there, which nothing had superseded.
            for other in self.cluster.nodes[:2]:
                other.kill()
            for i in range(KEYS):
                result, values, _ = client.get(key(i), r=ONE)
                self.assertEqual((result.status, sorted(values)),
                                 (rkv.OK, sorted([value(i), b"new"])))

    def failures_of_its_own(self):
        """How many records its own disk cannot give."""
        before = self.counter("storage_failures")
        self.read_all(self.node, ONE)
        return self.counter("storage_failures") - before

    def test_what_the_node_itself_keeps_is_replaced_too(self):
        self.damage("meta")
        self.node.start()
        self.assertEqual(self.node.wait_end(), 1, self.node.said())
        self.assertIn("--replace", self.node.said().splitlines()[-1])
        self.replace()


if __name__ == "__main__":
    unittest.main()
