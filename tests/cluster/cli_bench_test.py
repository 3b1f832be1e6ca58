# SPDX-License-Identifier: MIT
"""`replikv bench` against real nodes: what it counts, what it refuses."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest

from cli_test import DONE, NOBODY, REFUSED, USAGE, Cli
from harness import REPLIKV, Cluster

ONE_SECOND = ("--duration", "1", "--warmup", "0")


class Bench(Cli):
    def bench(self, *arguments, **how):
        """The summary, its parts held against each other."""
        summary = self.json("bench", *arguments, *ONE_SECOND, **how)
        self.check(summary)
        return summary

    def check(self, summary):
        kinds = summary["kinds"]
        self.assertEqual(set(kinds), set(summary["mix"]))
        self.assertEqual(sum(k["count"] for k in kinds.values()),
                         summary["operations"])
        self.assertEqual(sum(e["count"] for e in summary["errors"]),
                         summary["failed"])
        for part in (summary["latency"], *kinds.values()):
            marks = [part[name] for name in
                     ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")]
            self.assertEqual(marks, sorted(marks))
        self.assertGreater(summary["latency"]["p50_us"], 0)

    @contextlib.contextmanager
    def running(self, *arguments):
        """A bench in the background, once it has measured for a second."""
        urls = ",".join(node.endpoint() for node in self.cluster.nodes)
        process = subprocess.Popen(
            [REPLIKV, "--json", "bench", *arguments], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=dict(
                os.environ, REPLIKV_ENDPOINTS=urls))
        try:
            self.read_second(process)
            yield process
        finally:
            process.kill()
            process.communicate()

    def read_second(self, process):
        while line := process.stderr.readline():
            if re.search(rb"\d/s +p50 .* p99 .* errors", line):
                return
        self.fail("it ended")


class OneCluster(Bench):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster("memory", sections={
            "buckets": "[{name: late, kind: lww}, {name: kept},"
                       " {name: empty, kind: lww}]"})
        cls.addClassCleanup(cls.cluster.__exit__, None)
        cls.cluster.start()

    def test_closed_loop_counts_what_it_did(self):
        def done():
            return [sum(node["counters"][name] for node in self.json("status"))
                    for name in ("reads", "writes")]

        before = done()
        summary = self.bench(
            "--bucket", "late", "--load", "--keys", "200", "--clients", "4",
            "--inflight", "2", "--mix", "get=50,put=40,rmw=10",
            "--value-size", "10-20")
        reads, writes = (now - then for now, then in zip(done(), before))
        kinds = {name: k["count"] for name, k in summary["kinds"].items()}
        self.assertEqual((summary["load"]["loaded"], summary["load"]["failed"],
                          summary["failed"], summary["not_found"]),
                         (200, 0, 0, 0))
        # Loading a key is a read and a write. More is what was sent again.
        self.assertGreaterEqual(reads, 200 + kinds["get"] + kinds["rmw"])
        self.assertGreaterEqual(writes, 200 + kinds["put"] + kinds["rmw"])
        self.assertGreaterEqual(summary["milliseconds"], 1000)
        for number in (0, 199):
            value = self.run_cli("get", f"bench{number:012}", "--bucket",
                                 "late")[0]
            self.assertIn(len(value), range(10, 21))
        self.run_cli("get", "bench000000000200", "--bucket", "late",
                     expect=1)

    def test_batches_count_their_operations(self):
        def done(*names):
            return [sum(node["counters"][name] for node in self.json("status"))
                    for name in names]

        names = ("batches", "reads", "writes")
        before = done(*names)
        summary = self.bench(
            "--bucket", "late", "--load", "--keys", "150", "--clients", "2",
            "--inflight", "2", "--batch", "32", "--mix",
            "get=40,put=30,rmw=20,delete=10")
        batches, reads, writes = (
            now - then for now, then in zip(done(*names), before))
        kinds = {name: k["count"] for name, k in summary["kinds"].items()}
        self.assertEqual((summary["batch"], summary["load"]["loaded"],
                          summary["load"]["failed"], summary["failed"]),
                         (32, 150, 0, 0))
        # Each deleted, or not found, was read first.
        self.assertGreaterEqual(reads, 150 + kinds["get"] + kinds["rmw"] +
                                kinds["delete"])
        self.assertGreaterEqual(writes, 150 + kinds["put"] + kinds["rmw"])
        self.assertGreaterEqual(batches, summary["operations"] // 32)
        self.assertEqual(summary["operations"] % 32, 0)
        shown = self.run_cli("bench", "--bucket", "late", "--workload", "c",
                             "--batch", "8", *ONE_SECOND)[0].decode()
        self.assertIn("in batches of 8", shown)

    def test_open_loop_keeps_its_schedule(self):
        summary = self.bench("--bucket", "late", "--load", "--rate", "200",
                             "--keys", "50", "--workload", "b")
        self.assertEqual(summary["operations"] + summary["never_started"], 200)
        self.assertGreater(summary["operations"], 20)
        self.assertEqual(summary["distribution"], "zipfian")

    def test_text_and_percentiles(self):
        with tempfile.NamedTemporaryFile() as file:
            shown, said = self.run_cli(
                "bench", "--bucket", "late", "--load", "--keys", "50",
                "--workload", "d", "--percentiles", file.name, *ONE_SECOND)
            lines = file.read().decode().splitlines()
        shown = shown.decode()
        count = int(re.search(r"^(\d+) operations in", shown, re.M).group(1))
        self.assertIn("loaded 50 keys", shown)
        self.assertRegex(shown, rf"(?m)^all +{count} ")
        self.assertRegex(shown, r"(?m)^insert +\d+ ")
        self.assertRegex(said, r"1 s +\d+/s +p50 ")
        self.assertEqual(lines[0].split(), [
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"])
        self.assertEqual(lines[-4].split()[1:], ["1.000000000000", str(count)])

    def test_puts_leave_siblings_unless_they_are_told_to_overwrite(self):
        one_key = ("--bucket", "kept", "--clients", "1", "--load", "--keys",
                   "1", "--mix")
        summary = self.bench(*one_key, "get=50,put=50", "--overwrite")
        self.assertEqual((summary["siblings_max"], summary["failed"]), (1, 0))
        summary = self.bench(*one_key, "get=50,rmw=30,delete=20")
        self.assertEqual((summary["siblings_max"], summary["failed"]), (1, 0))
        self.assertGreater(summary["not_found"], 0)
        # Some ten puts: a key may have no more than a hundred.
        out, said = self.run_cli(
            "--json", "bench", *one_key, "get=50,put=50", "--rate", "20",
            *ONE_SECOND)
        self.assertGreater(json.loads(out)["siblings_max"], 1)
        self.assertIn("siblings", said)

    def test_failures_are_counted_by_status_and_outcome(self):
        summary = self.bench("--bucket", "empty", "--keys", "10", "--mix",
                             "get=50,put=50", "--value-size", "1048577",
                             "--clients", "1", expect=REFUSED)
        self.assertEqual([(e["status"], e["outcome"]) for e in
                          summary["errors"]], [("too_large", "not_applied")])
        self.assertEqual(summary["kinds"]["put"]["count"], 0)
        self.assertEqual(summary["not_found"], summary["operations"])

    def test_wrong_usage_is_2_and_says_what_is_right(self):
        for arguments, said in (
                (["--workload", "e"], "scans, which are not offered"),
                (["--workload", "z"], 'a, b, c, d or f, not "z"'),
                (["--mix", "get=50,put=40"], "sum to 100, not"),
                (["--mix", "scan=100"], "get, put, insert, delete and rmw"),
                (["--mix", "get=100", "--workload", "c"], "one of them"),
                (["--rate", "0"], '1 to 10000000 requests/s, not "0"'),
                (["--clients", "0"], "1 to 1024"),
                (["--clients", "1000", "--inflight", "1000"],
                 "at most 65536"),
                (["--batch", "0"], '1 to 1000 operations, not "0"'),
                (["--batch", "1001"], "1 to 1000"),
                (["--clients", "1000", "--batch", "1000"],
                 "at most 262144"),
                (["--keys", "many"], "--keys"),
                (["--distribution", "normal"], "uniform, zipfian or latest"),
                (["--value-size", "9-1"], "LEAST-MOST"),
                (["--duration", "0"], "--duration: 1 to"),
                (["--percentiles", "/does/not/exist"], "No such file"),
                (["--context", "AA=="], "no use for --context"),
                (["now"], "too much")):
            with self.subTest(arguments):
                self.assertIn(said, self.error("bench", *arguments,
                                               expect=USAGE))
        self.assertIn("get has no use for --rate", self.error(
            "get", "k", "--rate", "1", expect=USAGE))
        self.assertIn("scans are not offered", self.text("--help"))

    def test_what_can_never_succeed_stops_it(self):
        answer = self.json("bench", "--bucket", "nowhere", expect=REFUSED)
        self.assertEqual(answer["status"], "invalid")
        self.assertIn("not declared", answer["message"])
        said = self.error("bench", "--bucket", "late", "--w", "4", "--load",
                          "--duration", "600", expect=REFUSED)
        self.assertIn("allowed are 1 to 3", said)

    def test_without_a_node_it_says_so_at_once(self):
        start = time.monotonic()
        said = self.error("--timeout", "60000", "bench", "--duration", "600",
                          endpoints=[NOBODY], expect=REFUSED)
        self.assertLess(time.monotonic() - start, 30)
        self.assertIn("refused", said)
        self.assertIn("--endpoint", said)

    def test_interrupted_it_prints_what_it_has(self):
        for loop in ((), ("--rate", "100")):
            with self.running("--bucket", "late", "--warmup", "0",
                              "--duration", "600", *loop) as process:
                process.send_signal(signal.SIGINT)
                out, said = process.communicate(timeout=60)
                self.assertEqual(process.returncode, DONE, said)
            summary = json.loads(out)
            self.check(summary)
            self.assertLess(summary["milliseconds"], 60000)
            self.assertGreater(summary["operations"], 0)


class FailingNode(Bench):
    def test_a_dead_node_is_not_asked_a_million_times(self):
        with Cluster("memory", nodes=1, replicas=1) as self.cluster:
            self.cluster.start()
            with self.running("--timeout", "100", "--workload", "c",
                              "--warmup", "0", "--duration",
                              "3") as process:
                self.cluster.nodes[0].kill()
                out, said = process.communicate(timeout=60)
                self.assertEqual(process.returncode, REFUSED, said)
            summary = json.loads(out)
            self.check(summary)
            # 16 clients, each ten times a second, and what was under way.
            self.assertIn(summary["failed"], range(1, 1000))

    def test_open_loop_sees_a_stall_in_all_that_was_due(self):
        with Cluster("memory", nodes=1, replicas=1) as self.cluster:
            self.cluster.start()
            with self.running("--rate", "100", "--clients", "1", "--workload",
                              "c", "--warmup", "0", "--duration",
                              "3") as process:
                self.cluster.nodes[0].signal(signal.SIGSTOP)
                self.read_second(process)
                self.cluster.nodes[0].signal(signal.SIGCONT)
                out, said = process.communicate(timeout=60)
                self.assertEqual(process.returncode, DONE, said)
            summary = json.loads(out)
            self.check(summary)
            self.assertEqual(
                summary["operations"] + summary["never_started"], 300)
            # A third of all was due in that second, and one under way.
            self.assertGreater(summary["latency"]["p90_us"], 300000)


if __name__ == "__main__":
    unittest.main()
