# SPDX-License-Identifier: MIT
"""One node's wall clock is a day off: writes to lww buckets and values that
expire are as if it was not."""

import contextlib
import json
import os
import subprocess
import unittest

from harness import BUILD, Cluster, REPLIKV, rkv, wait_for

DAY_S, HOUR_MS = 86400, 3600 * 1000
BUCKETS = "[{name: last, kind: lww}]"


def set_clock(node, ahead_s):
    options = os.environ.get("ASAN_OPTIONS", "")
    node.prefix = ["env", f"WRONG_CLOCK_S={ahead_s}",
                   f"LD_PRELOAD={os.path.join(BUILD, 'libwrong_clock.so')}",
                   f"ASAN_OPTIONS={options}:verify_asan_link_order=0"]


class WrongClock(unittest.TestCase):
    @contextlib.contextmanager
    def cluster(self, ahead_s):
        with Cluster("memory", sections={"buckets": BUCKETS}) as cluster:
            set_clock(cluster.nodes[2], ahead_s)
            cluster.start()
            with contextlib.ExitStack() as stack:
                clients = [
                    stack.enter_context(contextlib.closing(node.client()))
                    for node in cluster.nodes]
                wait_for("all to know the others' clocks", lambda: all(
                    client.admin(rkv.Admin.STATUS).clock_is_known
                    for client in clients))
                wait_for("n3 to find its own wrong", lambda:
                         "event=clock_off" in cluster.nodes[2].said())
                yield cluster, clients

    def write(self, client, key, value, **options):
        result, _ = client.put(key, value, bucket="last", w=-2, **options)
        self.assertEqual(result.outcome, rkv.APPLIED, result.message)

    def read(self, client, key):
        return client.get(key, bucket="last", r=-2)[1]

    def test_what_it_writes_does_not_win_for_a_day(self):
        with self.cluster(DAY_S) as (_, clients):
            self.write(clients[2], b"k", b"of the wrong clock")
            self.write(clients[0], b"k", b"later")
            for client in clients:
                self.assertEqual(self.read(client, b"k"), [b"later"])

    def test_what_it_writes_is_not_lost_to_what_was_before(self):
        with self.cluster(-DAY_S) as (_, clients):
            self.write(clients[0], b"k", b"before")
            self.write(clients[2], b"k", b"of the wrong clock")
            for client in clients:
                self.assertEqual(self.read(client, b"k"),
                                 [b"of the wrong clock"])

    def test_values_live_as_long_as_they_should(self):
        for ahead_s in (DAY_S, -DAY_S):
            with self.cluster(ahead_s) as (_, clients):
                self.write(clients[0], b"a", b"v", ttl_ms=HOUR_MS)
                self.write(clients[2], b"b", b"v", ttl_ms=HOUR_MS)
                for client in clients:
                    self.assertEqual((self.read(client, b"a"),
                                      self.read(client, b"b")),
                                     ([b"v"], [b"v"]))

    def status(self, cluster):
        """As JSON, and the lines of the table."""
        command = [REPLIKV, "status"]
        for node in cluster.nodes:
            command += ["--endpoint", node.endpoint()]
        said, shown = (
            subprocess.run([*command, *options], check=True,
                           capture_output=True, text=True).stdout
            for options in (["--json"], []))
        return json.loads(said), shown.splitlines()

    def test_status_says_so(self):
        with self.cluster(DAY_S) as (cluster, _):
            nodes, lines = self.status(cluster)
            self.assertEqual([round(node["clock_off_ms"] / 1000)
                              for node in nodes], [0, 0, DAY_S])
            self.assertEqual(lines[0].split()[-1], "CLOCK")
            self.assertRegex(lines[3], r"\+86400\.\ds$")

    def test_of_a_node_alone_nothing_is_known(self):
        with Cluster("memory", nodes=1, replicas=1) as cluster:
            cluster.start()
            nodes, lines = self.status(cluster)
            self.assertNotIn("clock_off_ms", nodes[0])
            self.assertEqual(lines[1].split()[-1], "-")


if __name__ == "__main__":
    unittest.main()
