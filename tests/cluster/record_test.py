# SPDX-License-Identifier: MIT
"""The flight recorder of real nodes: what `replikv record` and a crash write,
`sim --replay` steps through again."""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import unittest

from harness import BUILD, PERSISTENT, REPLIKV, Cluster
from load import Loads, pump

SIM = os.path.join(BUILD, "sim")
WHOLE = re.compile(r"the whole of ([0-9]+) events: the node did the same$")
GAP = re.compile(r"the first [0-9]+ events: the node did the same; then "
                 r"([0-9]+) are missing")


def ran(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=300,
                          check=False)


class Record(unittest.TestCase):
    def cluster(self, engines=PERSISTENT, recorder_mib=15):
        cluster = Cluster(engines, sections={
            "limits": {"recorder_mib": recorder_mib}})
        self.addCleanup(cluster.__exit__, None)
        self.directory = cluster.directory
        return cluster.start()

    def path(self, name="flight"):
        return os.path.join(self.directory, f"{name}.rec")

    def record(self, node, path):
        """What it says of the file."""
        done = ran(REPLIKV, "-e", node.endpoint(), "--json", "record", "--out",
                   path)
        self.assertEqual(done.returncode, 0, done)
        said = json.loads(done.stdout)
        self.assertEqual((said["node"], said["file"], said["bytes"]),
                         (node.name, path, os.path.getsize(path)))
        self.assert_private(path)
        return said

    def assert_private(self, path):
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def replay(self, path, end=WHOLE, code=0, *words):
        """The number in the last line that it prints."""
        done = ran(SIM, "--replay", path, *words)
        last = done.stdout.rstrip().splitlines()[-1]
        self.assertEqual(done.returncode, code, last + done.stderr)
        self.assertRegex(last, end)
        return int(end.search(last).group(1))

    def test_nodes_under_load_do_the_same_again(self):
        cluster = self.cluster()
        with Loads(cluster.nodes) as loads:
            loads.wait_applied(300)
            for node in cluster.nodes:
                path = self.path(node.name)
                said = self.record(node, path)
                self.assertTrue(said["whole"], said)
                self.assertEqual(said["missing"], 0)
                self.assertEqual(self.replay(path), said["events"])
        told = ran(SIM, "--replay", path, "--trace").stdout
        self.assertIn(" asks store ", told)
        self.assertIn("says event=ready", told)

    def test_a_start_behind_a_clean_stop_replays(self):
        cluster = self.cluster("lsm")
        node = cluster.nodes[0]
        with contextlib.closing(node.client()) as client:
            pump(client, b"before", 500, b"value")
        self.assertEqual(node.stop(), 0, node.said())
        node.start().wait_ready()
        cluster.wait_met()
        with contextlib.closing(node.client()) as client:
            pump(client, b"after", 500, b"value")
            self.assertEqual(client.counters()["trees_built"], 0)
        self.record(node, self.path())
        self.replay(self.path())

    def test_batches_and_lists_replay(self):
        cluster = self.cluster("memory")
        node = cluster.nodes[0]
        for command in ("put a 1", "put b 2", "get a b", "dump", "digest",
                        "explain a", "status --latency", "repair"):
            done = ran(REPLIKV, "-e", node.endpoint(), *command.split())
            self.assertEqual(done.returncode, 0, done)
        self.record(node, self.path())
        self.replay(self.path())

    def test_little_memory_leaves_a_gap(self):
        cluster = self.cluster("memory", recorder_mib=1)
        node = cluster.nodes[0]
        with contextlib.closing(node.client()) as client:
            pump(client, b"key", 3000, bytes(1000))
        said = self.record(node, self.path())
        self.assertFalse(said["whole"])
        self.assertGreater(said["missing"], 0)
        self.assertLess(said["bytes"], 1 << 20)
        self.assertEqual(self.replay(self.path(), GAP), said["missing"])
        told = ran(SIM, "--replay", self.path(), "--trace").stdout
        self.assertIn(f"{said['missing']} events are missing", told)

    def test_a_crash_leaves_its_recording(self):
        cluster = self.cluster()
        for node in cluster.nodes:
            path = os.path.join(node.data, "flight.rec")
            with contextlib.closing(node.client()) as client:
                pump(client, node.name.encode(), 300, b"value")
            kept = self.path(node.name)
            with open(kept, "w", encoding="ascii") as file:
                file.write("nobody's")
            os.symlink(kept, path)
            for _ in range(2):
                node.signal(signal.SIGABRT)
                self.assertEqual(node.wait_end(), -signal.SIGABRT)
                self.assertIn(f"in {path}", node.said())
                self.assert_private(path)
                events = self.replay(path)
                node.start().wait_ready()
            self.assertEqual([name for name in os.listdir(node.data)
                              if "flight" in name], ["flight.rec"])
            with open(kept, encoding="ascii") as file:
                self.assertEqual(file.read(), "nobody's")
            # Of its second start, which had no load.
            self.assertLess(events, 900)
        cluster.wait_met()

    def test_a_crash_that_cannot_be_written_says_so(self):
        node = self.cluster("memory").nodes[0]
        fresh = os.path.join(node.data, "flight.rec.new")
        os.mkdir(fresh)
        node.signal(signal.SIGABRT)
        self.assertEqual(node.wait_end(), -signal.SIGABRT)
        self.assertIn(f"could not be written to {node.data}/flight.rec",
                      node.said())
        self.assertTrue(os.path.isdir(fresh))

    def test_what_is_no_recording_is_refused(self):
        node = self.cluster("memory").nodes[0]
        self.record(node, self.path())
        with open(self.path(), "rb") as file:
            whole = file.read()
        for cut in (0, 10, len(whole) // 2, len(whole) - 1):
            with open(self.path("cut"), "wb") as file:
                file.write(whole[:cut])
            done = ran(SIM, "--replay", self.path("cut"))
            self.assertEqual(done.returncode, 1, done)
            self.assertIn("cut.rec: it ", done.stdout)

    def test_it_says_what_cannot_be(self):
        one, two, three = self.cluster("lsm").nodes
        record = (REPLIKV, "-e", one.endpoint(), "record")
        with open(self.path(), "w", encoding="ascii") as file:
            file.write("here before")
        for command, code, words in (
                (record, 2, "--out FILE is missing"),
                ((*record, "--out", self.path()), 2, "name another file"),
                ((*record, "--out", "/none/x"), 2, "cannot make /none/x"),
                ((REPLIKV, "-e", two.endpoint(), *record[1:], "--out",
                  self.path("x")), 2, "of one node: name it"),
                ((REPLIKV, "-e", one.endpoint(), "status", "--out", "x"), 2,
                 "no use for --out")):
            done = ran(*command)
            self.assertEqual(done.returncode, code, done)
            self.assertIn(words, done.stderr)
        with open(self.path(), encoding="ascii") as file:
            self.assertEqual(file.read(), "here before")
        three.kill()
        three.write_config(limits={"recorder_mib": 0})
        three.start().wait_ready()
        done = ran(REPLIKV, "-e", three.endpoint(), "record", "--out",
                   self.path("x"))
        self.assertEqual(done.returncode, 3, done)
        self.assertIn("limits.recorder_mib is 0", done.stderr)
        three.kill()
        done = ran(REPLIKV, "-e", three.endpoint(), "record", "--out",
                   self.path("x"))
        self.assertEqual(done.returncode, 3, done)
        self.assertFalse(os.path.exists(self.path("x")))


if __name__ == "__main__":
    unittest.main()
