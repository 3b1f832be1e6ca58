# SPDX-License-Identifier: MIT
"""Clients and peers over Unix sockets."""

import contextlib
import os
import unittest

from harness import Cluster, rkv
from load import Loads


class Ipc(unittest.TestCase):
    def test_clients_and_peers_come_over_unix_sockets(self):
        with Cluster("lsm") as cluster:
            for node in cluster.nodes:
                node.path = os.path.join(node.directory, "client.socket")
                node.peer_path = os.path.join(node.directory, "peer.socket")
            cluster.start()
            one, two, _ = cluster.nodes
            with contextlib.closing(one.client()) as client:
                result, _ = client.put(b"large", bytes(1 << 20))
                self.assertEqual(result.outcome, rkv.APPLIED, result.message)
            with contextlib.closing(two.client()) as client:
                _, values, _ = client.get(b"large")
                self.assertEqual(values, [bytes(1 << 20)])
            with Loads(cluster.nodes) as loads:
                loads.wait_applied(200)
                # The sockets' files are still there: the node takes their
                # place. Ready, it has met a majority over them.
                for node in cluster.nodes:
                    node.kill()
                    loads.wait_applied(100)
                    node.start().wait_ready()
                    loads.wait_applied(100)
                cluster.wait_met()
            cluster.wait_no_hints()
            loads.check(cluster.nodes)


if __name__ == "__main__":
    unittest.main()
