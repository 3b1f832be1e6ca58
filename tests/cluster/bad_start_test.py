# SPDX-License-Identifier: MIT
"""Nodes that cannot start say why and end; the cluster goes on."""

import contextlib
import itertools
import os
import subprocess
import unittest

from harness import PERSISTENT, REPLIKVD, Cluster, Node, rkv, wait_for

NEWCOMERS = itertools.count()


class BadStart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(PERSISTENT)
        cls.addClassCleanup(cls.cluster.__exit__, None)
        cls.cluster.start()
        with contextlib.closing(cls.cluster.nodes[0].client()) as client:
            result, _ = client.put(b"key", b"value", w=-2)
            assert result.outcome == rkv.APPLIED, result.message

    def newcomer(self, name="n1", engine="lsm", **sections):
        """A node that is not of the cluster, with ports of its own."""
        nodes = self.cluster.nodes
        node = Node(self.cluster, f"newcomer-{next(NEWCOMERS)}", engine,
                    nodes[-1].peer_port + 1)
        self.addCleanup(lambda: node.process and node.process.kill())
        node.name = name
        node.write_config(**sections)
        return node

    def assert_ends(self, node, *words, status=1):
        if node.process is None:
            node.start()
        self.assertEqual(node.wait_end(), status, node.said())
        last = [line for line in node.said().splitlines()
                if line.startswith("replikvd:")][-1]
        for word in words:
            self.assertIn(str(word), last)

    def assert_others_go_on(self, said=None):
        """And the log of one that refused says so, with the reason."""
        if said:
            self.assertTrue(any(
                "event=hello_refused" in line and said in line
                for node in self.cluster.nodes
                for line in node.said().splitlines()))
        for node in self.cluster.nodes:
            self.assertTrue(node.is_ready())
            with contextlib.closing(node.client()) as client:
                result, values, _ = client.get(b"key", r=-2)
                self.assertEqual(values, [b"value"], result.message)

    # --- whose cluster ---

    def test_another_cluster_is_refused(self):
        self.assert_ends(self.newcomer(cluster={"name": "other"}),
                         "cluster.name", "other", "test")
        self.assert_others_go_on('of "other"')

    def test_another_number_of_replicas_is_refused(self):
        self.assert_ends(self.newcomer(cluster={"replicas": 2}),
                         "founded otherwise", "replicas=2", "replicas=3")
        self.assert_others_go_on("replicas=2")

    def test_other_founders_are_refused(self):
        self.assert_ends(self.newcomer(cluster={"bootstrap": "[n1, n2, n9]"}),
                         "founded otherwise", "n9", "n3")
        self.assert_others_go_on("n9")

    def test_another_kind_of_a_bucket_is_refused(self):
        self.assert_ends(
            self.newcomer(buckets="[{name: default, kind: lww}]"),
            "buckets.default.kind", "lww", "siblings")
        self.assert_others_go_on()

    def test_a_name_in_use_is_refused_to_the_newcomer(self):
        node = self.cluster.nodes[1]
        self.assert_ends(self.newcomer(name="n2"), "n2", "taken", node.peer())
        self.assert_others_go_on("the name n2 is taken")
        # Not even as a replacement: the other one is there.
        self.assert_ends(self.newcomer(name="n2").start("--replace"),
                         "n2", "taken")
        self.assert_others_go_on()

    # --- sockets ---

    def test_ports_in_use_are_named(self):
        other = self.cluster.nodes[0]
        for listener, address in (("client", other.endpoint()),
                                  ("peer", other.peer())):
            node = self.newcomer(listen={listener: address})
            self.assert_ends(node, f"listen.{listener}", address, "in use")
        self.assert_others_go_on()

    # --- disks ---

    def test_a_data_dir_of_another_engine_is_refused(self):
        for made_by in PERSISTENT:
            node = self.newcomer(engine=made_by)
            node.start().wait_listening()
            node.kill()
            for engine in PERSISTENT:
                if engine == made_by:
                    continue
                node.engine = engine
                node.write_config()
                self.assert_ends(node.start(), made_by, engine, node.data)

    def test_a_data_dir_of_another_node_is_refused(self):
        """Or of this one under a configuration that places keys otherwise."""
        for engine in PERSISTENT:
            alone = {"name": "first", "bootstrap": "[n1]", "replicas": 1}
            node = self.newcomer(engine=engine, cluster=alone)
            node.start().wait_ready()
            node.kill()
            for name, changed in (
                    ("n1", {"name": "second"}), ("n1", {"partitions": 64}),
                    ("n7", {"bootstrap": "[n7]"}),
                    ("n1", {"bootstrap": "[n1, n2]"})):
                node.name = name
                node.write_config(cluster={**alone, **changed})
                self.assert_ends(node.start(), node.data, "not this node's",
                                 "cluster first, node n1, partitions 32")
            node.name = "n1"
            node.write_config(cluster=alone)
            node.start().wait_ready()
            node.kill()

    def test_a_data_dir_in_use_is_refused(self):
        for other in self.cluster.nodes:
            node = self.newcomer(engine=other.engine)
            node.data = other.data
            node.write_config()
            self.assert_ends(node, other.data, "process", "open")
        self.assert_others_go_on()

    def test_the_limit_of_open_files_is_raised_and_told_if_low(self):
        node = self.newcomer()
        node.prefix = ["prlimit", "--nofile=256:1024"]
        node.start()
        wait_for("its word", lambda: "event=few_descriptors limit=1024"
                 in node.said())
        with open(f"/proc/{node.process.pid}/limits",
                  encoding="ascii") as limits:
            self.assertRegex(limits.read(), r"Max open files +1024 +1024 ")

    def test_a_data_dir_that_cannot_be_made_is_named(self):
        for engine in PERSISTENT:
            node = self.newcomer(engine=engine)
            with open(node.data, "w", encoding="ascii") as file:
                file.write("not a directory\n")
            self.assert_ends(node, node.data)
            node.data = os.path.join(node.data, "below")
            node.write_config()
            self.assert_ends(node.start(), node.data.rsplit("/", 1)[0],
                             "Not a directory")
            node.data = "/proc/replikv"
            node.write_config()
            self.assert_ends(node.start(), "/proc/replikv", "node.data_dir")

    def test_files_that_are_no_store_are_refused(self):
        for engine in PERSISTENT:
            node = self.newcomer(engine=engine)
            os.mkdir(node.data)
            with open(os.path.join(node.data, "letter.txt"), "w",
                      encoding="ascii") as file:
                file.write("dear diary\n")
            self.assert_ends(node, node.data)

    # --- configuration ---

    def test_mistakes_are_all_reported_with_their_lines(self):
        node = self.newcomer()
        node.write_config(
            "node:\n"
            "  name: n/1\n"                               # 2
            "  data_dir: /tmp/never\n"
            "listen:\n"
            "  client: tcp://0.0.0.0:3001\n"              # 5
            "  peer: udp://127.0.0.1:1\n"                 # 6
            "cluster:\n"
            "  bootstrap: [n1]\n"
            "  replicas: many\n"                          # 9
            "storage:\n"
            "  engine: papyrus\n"                         # 11
            "  synk: batch\n")                            # 12
        for flag in ("--check-config", "--config"):
            ran = subprocess.run([REPLIKVD, flag, node.config], check=False,
                                 capture_output=True, text=True)
            self.assertEqual(ran.returncode, 2)
            lines = [line.split(":")[1] for line in ran.stderr.splitlines()]
            self.assertEqual(lines, ["2", "5", "6", "9", "11", "12"],
                             ran.stderr)
            for line in ran.stderr.splitlines():
                self.assertIn("allowed", line)
        self.assertFalse(os.path.exists("/tmp/never"))

    def test_a_node_has_to_be_a_founder(self):
        node = self.newcomer()
        node.write_config("node: {name: n1, data_dir: /tmp/never}\n"
                          "cluster:\n"
                          "  bootstrap: [n2, n3]\n")
        ran = subprocess.run([REPLIKVD, "--check-config", node.config],
                             check=False, capture_output=True, text=True)
        self.assertEqual(ran.returncode, 2, ran)
        self.assertIn(":3: cluster.bootstrap: found other nodes; allowed a "
                      "list with this node", ran.stderr)

    def test_what_is_no_twin_is_reported_with_its_line(self):
        for engine in ("twin(lsm)", "twin(lsm, papyrus)", "twin(lsm, null)",
                       "twin(lsm, twin(lsm, lmdb))"):
            node = self.newcomer(engine=engine)
            ran = subprocess.run([REPLIKVD, "--check-config", node.config],
                                 check=False, capture_output=True, text=True)
            self.assertEqual(ran.returncode, 2, ran)
            self.assertRegex(ran.stderr, r"yaml:\d+: storage\.engine: found ")
            self.assertIn(f'"{engine}"; allowed lsm, leveldb, ', ran.stderr)
            self.assertIn("twin(A, B) of two", ran.stderr)

    def test_a_setting_of_a_twin_says_whose_it_is(self):
        for options, said in (
                ("{first.cache_bytes: 1MiB, second.cache_bytes: 2MiB}", ""),
                ("{cache_bytes: 1MiB}", 'unknown key "cache_bytes"'),
                ("{second.memtable_bytes: 1MiB}", "unknown key"),
                ("{second.cache_bytes: 1}",
                 'options.second.cache_bytes: found "1"')):
            node = self.newcomer(engine="twin(lsm, leveldb)",
                                 storage={"options": options})
            ran = subprocess.run([REPLIKVD, "--check-config", node.config],
                                 check=False, capture_output=True, text=True)
            self.assertEqual(ran.returncode, 2 if said else 0, ran)
            self.assertIn(said, ran.stderr)

    def test_what_does_not_go_together_is_reported(self):
        node = self.newcomer()
        node.write_config(
            "node: {name: n1, data_dir: /tmp/never}\n"
            "cluster: {bootstrap: [n1], replicas: 1}\n"
            "replication:\n"
            "  request_timeout_ms: 2000\n"
            "  dedup_window_ms: 3999\n"                    # 5
            "  hint_window_ms: 999\n"                      # 6
            "limits: {recorder_mib: 16}\n")                # 7
        ran = subprocess.run([REPLIKVD, "--check-config", node.config],
                             check=False, capture_output=True, text=True)
        self.assertEqual(ran.returncode, 2, ran)
        self.assertIn(':5: replication.dedup_window_ms: found "3999"; allowed '
                      "4000 (twice request_timeout_ms) and more", ran.stderr)
        self.assertIn(':6: replication.hint_window_ms: found "999"; allowed '
                      "1000 to 604800000 ms", ran.stderr)
        self.assertIn(':7: limits.recorder_mib: found "16"; allowed 0 to 15 '
                      "MiB", ran.stderr)

    def test_a_good_file_has_no_mistakes(self):
        node = self.newcomer()
        ran = subprocess.run([REPLIKVD, "--check-config", node.config],
                             check=False, capture_output=True, text=True)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertIn("no mistakes", ran.stdout)
        self.assertFalse(os.path.exists(node.data))


if __name__ == "__main__":
    unittest.main()
