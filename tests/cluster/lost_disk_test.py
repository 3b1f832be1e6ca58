# SPDX-License-Identifier: MIT
"""A disk that is older than it was, or empty: its node is refused until the
operator says that the newer one is lost, and then is filled before it votes.
Arguments: the engine of all nodes."""

import contextlib
import os
import shutil
import signal
import sys
import unittest

from harness import Cluster, rkv, wait_for
from load import Loads

KEYS = 10
ENGINE = sys.argv.pop(1) if len(sys.argv) > 1 else "lsm"


class LostDisk(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def filling(self, node):
        with contextlib.closing(node.client()) as client:
            return client.admin(rkv.Admin.STATUS).filling

    def aside(self, node):
        folder, name = os.path.split(node.data)
        return {entry.removeprefix(name).rstrip("-0123456789")
                for entry in os.listdir(folder) if entry.startswith(name + ".")}

    def run_with(self, lose, aside):
        """Load, what happens to the last node's disk, load; the node is
        refused, replaced, filled; nothing acknowledged is lost."""
        with Cluster(ENGINE) as cluster:
            cluster.start()
            nodes, node = cluster.nodes, cluster.nodes[2]
            with Loads(nodes) as loads:
                loads.wait_applied(300)
                lose(node, loads)
                loads.wait_applied(50)
                # The others dial it, too: they must not take its votes.
                node.start()
                self.assertEqual(node.wait_end(), 1, node.said())
                last = node.said().splitlines()[-1]
                self.assertIn("--replace", last)
                print(last)
                # Once more: it is refused for good, not once.
                node.start()
                self.assertEqual(node.wait_end(), 1, node.said())
                loads.wait_applied(50)
                node.start("--replace").wait_ready()
                loads.wait_applied(50)
                wait_for("all to be filled", lambda: self.filling(node) == 0)
                self.assertIn("event=filled", node.said())
                # What it had is kept, and is not what it goes on with.
                self.assertEqual(self.aside(node), aside)
                # What it was told is on its disk: it starts without a word.
                node.kill()
                node.start().wait_ready()
                loads.wait_applied(50)
            cluster.wait_met()
            cluster.wait_no_hints()
            # Of any two replicas, at quorum and without the others' help.
            for other in nodes[:2]:
                other.kill()
                loads.check([node, *(set(nodes[:2]) - {other})], level=2)
                other.start().wait_ready()
            cluster.wait_met()
            cluster.wait_no_hints()
            loads.check(nodes)
            cluster.wait_equal()

    def restore(self, node, loads):
        """A copy from before the last start."""
        self.assertEqual(node.stop(), 0, node.said())
        shutil.copytree(node.data, node.data + ".copy")
        node.start().wait_ready()
        loads.wait_applied(200)
        node.kill()
        shutil.rmtree(node.data)
        shutil.move(node.data + ".copy", node.data)

    def test_an_older_copy_is_refused_until_it_is_replaced(self):
        self.run_with(self.restore, {".replaced"})

    def test_a_copy_that_was_started_alone_is_refused_as_well(self):
        def restore_and_start(node, loads):
            self.restore(node, loads)
            # Its boot rises with each start, and nobody is there to tell.
            others = node.cluster.nodes[:2]
            for other in others:
                other.signal(signal.SIGSTOP)
            for _ in range(3):
                node.start().wait_ready()
                node.kill()
            for other in others:
                other.signal(signal.SIGCONT)
        self.run_with(restore_and_start, {".replaced"})

    def test_a_damaged_disk_is_refused_until_it_is_replaced(self):
        def damage(node, _):
            node.kill()
            for name in set(os.listdir(node.data)) - {"ENGINE"}:
                path = os.path.join(node.data, name)
                with open(path, "r+b") as file:
                    size = os.path.getsize(path)
                    file.write(bytes(b % 251 for b in range(min(size, 9999))))
        self.run_with(damage, {".damaged"})

    def test_an_emptied_disk_is_refused_until_it_is_replaced(self):
        def wipe(node, _):
            node.kill()
            shutil.rmtree(node.data)
        self.run_with(wipe, {".replaced"})

    def read_all(self, node, expected):
        """How many of the keys, at quorum, through the node."""
        found = 0
        with contextlib.closing(node.client()) as client:
            for i in range(KEYS):
                result, values, _ = client.get(b"key%d" % i, timeout_ms=300)
                self.assertNotEqual(result.status, rkv.NOT_FOUND)
                found += values == [expected]
        return found

    def test_an_empty_disk_never_says_not_found(self):
        with Cluster(ENGINE) as cluster:
            one, two, three = cluster.start().nodes
            two.kill()
            with contextlib.closing(one.client()) as client:
                for i in range(KEYS):
                    result, _ = client.put(b"key%d" % i, b"value")
                    self.assertEqual(result.outcome, rkv.APPLIED)
            # What was acknowledged is now on one disk, whose node is away.
            three.kill()
            one.kill()
            shutil.rmtree(three.data)
            two.start().wait_ready()
            three.start("--replace").wait_ready()
            for node in (two, three):
                self.assertEqual(self.read_all(node, b"value"), 0)
            one.start().wait_ready()
            wait_for("all to be filled", lambda: self.filling(three) == 0)
            one.kill()
            for node in (two, three):
                self.assertEqual(self.read_all(node, b"value"), KEYS)


if __name__ == "__main__":
    unittest.main()
