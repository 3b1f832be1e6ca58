# SPDX-License-Identifier: MIT
"""A disk that is older than it was, or empty: its node is refused until the
operator says that the newer one is lost, and then is filled before it votes.
Arguments: the engine of all nodes."""

import contextlib
import os
import shutil
import sys
import unittest

from harness import Cluster, rkv, wait_for
from load import Loads

ENGINE = sys.argv.pop(1) if len(sys.argv) > 1 else "lsm"


class LostDisk(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def filling(self, node):
        with contextlib.closing(node.client()) as client:
            return client.admin(rkv.Admin.STATUS).filling

    def run_with(self, lose):
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

    def test_an_older_copy_is_refused_until_it_is_replaced(self):
        def restore(node, loads):
            self.assertEqual(node.stop(), 0, node.said())
            shutil.copytree(node.data, node.data + ".copy")
            node.start().wait_ready()
            loads.wait_applied(200)
            node.kill()
            shutil.rmtree(node.data)
            shutil.move(node.data + ".copy", node.data)
        self.run_with(restore)

    def test_a_damaged_disk_is_refused_until_it_is_replaced(self):
        def damage(node, _):
            node.kill()
            for name in set(os.listdir(node.data)) - {"ENGINE"}:
                path = os.path.join(node.data, name)
                with open(path, "r+b") as file:
                    size = os.path.getsize(path)
                    file.write(bytes(b % 251 for b in range(min(size, 9999))))
        self.run_with(damage)

    def test_an_emptied_disk_is_refused_until_it_is_replaced(self):
        def wipe(node, _):
            node.kill()
            shutil.rmtree(node.data)
        self.run_with(wipe)


if __name__ == "__main__":
    unittest.main()
