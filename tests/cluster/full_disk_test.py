# SPDX-License-Identifier: MIT
"""A node whose disk is full, or cannot be written: it says so, the others go
on, and it goes on by itself once there is space. Arguments: the engine."""

import contextlib
import os
import random
import sys
import unittest

from alone import alone, run
from harness import Cluster, rkv, wait_for
from load import Loads, pump

ENGINE = sys.argv.pop(1) if len(sys.argv) > 1 else "lsm"
MIB = 1 << 20
# What is filled, and what is given back: more, since a compaction holds what
# it reads and what it writes.
SPACE_BYTES, BALLAST_BYTES = 16 * MIB, 40 * MIB
# Not to be compressed.
VALUE = random.Random(1).randbytes(16 << 10)


@contextlib.contextmanager
def mounted(path, size):
    """A disk of its own there, and at the end the directory again."""
    os.makedirs(path, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)
    try:
        yield path
    finally:
        run("umount", "-l", path)


class FullDisk(unittest.TestCase):
    def fill(self, cluster, node):
        """Until its engine fails for lack of space; how many rounds."""
        rounds = 0
        with contextlib.closing(cluster.nodes[0].client()) as client:
            while "event=engine_failed" not in node.said():
                self.assertEqual(pump(client, b"fill%d." % rounds, 32, VALUE),
                                 {rkv.APPLIED})
                rounds += 1
                self.assertLess(rounds, 500)
        self.assertIn("status=no_space", node.said())
        return rounds

    def read_filled(self, cluster, rounds):
        with contextlib.closing(cluster.nodes[0].client()) as client:
            for i in range(rounds * 32):
                key = b"fill%d.%d" % (i // 32, i % 32)
                wait_for(f"{key} on all", lambda key=key: client.get(
                    key, r=-2)[1] == [VALUE])

    def test_a_full_disk_loses_nothing(self):
        with Cluster(ENGINE) as cluster, \
                mounted(os.path.join(cluster.nodes[2].directory, "disk"),
                        SPACE_BYTES + BALLAST_BYTES) as disk:
            node = cluster.nodes[2]
            ballast = os.path.join(disk, "ballast")
            with open(ballast, "wb") as file:
                file.write(bytes(BALLAST_BYTES))
            node.data = os.path.join(disk, "data")
            cluster.start()
            with Loads(cluster.nodes) as loads:
                loads.wait_applied(50)
                rounds = self.fill(cluster, node)
                loads.wait_applied(100)
                with contextlib.closing(node.client()) as client:
                    self.assertGreater(client.counters()["storage_failures"],
                                       0)
                os.remove(ballast)
                with contextlib.closing(node.client()) as client:
                    wait_for("writes on all", lambda: client.put(
                        b"after", b"value", w=-2)[0].outcome == rkv.APPLIED)
                self.assertIn("event=engine_reopened", node.said())
                loads.wait_applied(100)
                node.kill()
                node.start().wait_ready()
                loads.wait_applied(50)
            cluster.wait_met()
            cluster.wait_no_hints()
            loads.check(cluster.nodes)
            self.read_filled(cluster, rounds)
            cluster.wait_equal()
            print(loads.told(), f"{rounds * 32 * len(VALUE) / MIB} MiB fill it")

    def test_a_start_on_a_full_disk_says_why_or_succeeds(self):
        with Cluster(ENGINE) as cluster, \
                mounted(os.path.join(cluster.nodes[2].directory, "disk"),
                        SPACE_BYTES) as disk:
            node = cluster.nodes[2]
            node.data = os.path.join(disk, "data")
            cluster.start()
            self.fill(cluster, node)
            node.kill()
            with contextlib.suppress(OSError), \
                    open(os.path.join(disk, "ballast"), "wb", 0) as file:
                while True:
                    file.write(bytes(4096))
            node.start()
            wait_for("it to end or to serve", lambda:
                     node.process.poll() is not None or node.is_ready())
            if node.process.poll() is not None:
                self.assertEqual(node.process.returncode, 1)
                last = node.said().splitlines()[-1]
                self.assertRegex(last, "no_space|[Nn]o space")
                self.assertIn(node.data, last)
                print(last)
            os.remove(os.path.join(disk, "ballast"))
            run("mount", "-o", f"remount,size={SPACE_BYTES + BALLAST_BYTES}",
                disk)
            if node.process.poll() is not None:
                node.start().wait_ready()
            cluster.wait_met()
            with contextlib.closing(node.client()) as client:
                wait_for("writes on all", lambda: client.put(
                    b"after", b"value", w=-2)[0].outcome == rkv.APPLIED)

    def test_a_disk_that_cannot_be_written_is_named(self):
        with Cluster(ENGINE, nodes=1, replicas=1) as cluster:
            node = cluster.nodes[0]
            for state in ("written", "empty"):
                with mounted(node.data, 16 * MIB):
                    if state == "written":
                        cluster.start()
                        node.kill()
                    run("mount", "-o", "remount,ro", node.data)
                    self.assertEqual(node.start().wait_end(), 1, state)
                    last = node.said().splitlines()[-1]
                    self.assertTrue(last.startswith("replikvd:"), last)
                    self.assertIn(node.data, last)
                    self.assertIn("Read-only", last)


if __name__ == "__main__":
    alone("--mount")
    unittest.main()
