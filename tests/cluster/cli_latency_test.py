# SPDX-License-Identifier: MIT
"""`replikv status --latency`: against real nodes, and against one that answers
what the test wants."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import unittest

from cli_test import DONE, REFUSED, Cli
from harness import REPLIKV, Cluster, rkv, wait_for


class FakeNode:
    """Answers one request on each connection, with what it is given."""

    def __init__(self, *bodies):
        self.bodies = bodies
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return f"tcp://127.0.0.1:{self.socket.getsockname()[1]}"

    def __exit__(self, *_):
        self.thread.join(60)
        self.socket.close()
        assert not self.thread.is_alive(), "not everything was asked for"

    def serve(self):
        for body in self.bodies:
            connection, _ = self.socket.accept()
            with connection, connection.makefile("rwb") as stream:
                stream.write(bytes.fromhex("0053500000310000"))
                stream.flush()
                stream.read(8)
                size = struct.unpack(">Q", stream.read(8))[0]
                number = stream.read(size)[:4]
                reply = number + rkv.Envelope(
                    version=1, **body).SerializeToString()
                stream.write(struct.pack(">Q", len(reply)) + reply)
                stream.flush()
                stream.read()  # until it is hung up


class Latencies(Cli):
    def latencies(self, answer):
        """By kind and stage."""
        rows = {(row["kind"], row["stage"]): row
                for row in answer["latencies"]}
        self.assertEqual(len(rows), len(answer["latencies"]))
        for row in rows.values():
            marks = [row[name] for name in
                     ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")]
            self.assertEqual(marks, sorted(marks))
        return rows

    def of(self, kind, answer):
        """By stage: how many, and the longest."""
        rows = self.latencies(answer)
        return ({stage: row["count"] for (k, stage), row in rows.items()
                 if k == kind},
                {stage: row["max_us"] for (k, stage), row in rows.items()
                 if k == kind})

    def test_stages_show_where_the_time_of_requests_goes(self):
        with Cluster("lsm") as self.cluster:
            self.cluster.start()
            first = self.cluster.nodes[0]
            one = [first.endpoint()]
            self.assertEqual(self.text("status", "--latency", endpoints=one),
                             "no requests so far\n")
            with contextlib.closing(first.client()) as client:
                for i in range(50):
                    key = b"k%d" % i
                    wait_for("n1 to reach both others", lambda: client.put(
                        key, b"v", w=-2)[0].outcome == rkv.APPLIED)
                    self.assertEqual(client.get(key)[0].status, rkv.OK)
                    self.assertEqual(client.get(key, r=1)[0].status, rkv.OK)
                counters = client.counters()
            answers = self.json("status", "--latency")
            self.assertEqual([answer["node"] for answer in answers],
                             ["n1", "n2", "n3"])
            counts, longest = self.of("put", answers[0])
            self.assertEqual(counts["answer"], counters["writes"])
            self.assertEqual(counts["replicas"], counters["writes_applied"])
            self.assertEqual(counts["disk"], counts["queue"])
            self.assertGreater(longest["disk"], 0)
            self.assertGreaterEqual(longest["answer"], longest["replicas"])
            counts, longest = self.of("get", answers[0])
            self.assertEqual((counts["replicas"], counts["answer"]),
                             (100, 100))
            self.assertIn(counts["read"], range(1, 101))
            self.assertGreaterEqual(longest["answer"], longest["read"])
            for answer in answers[1:]:
                counts, longest = self.of("store", answer)
                self.assertGreaterEqual(counts["answer"], 50)
                self.assertGreaterEqual(longest["answer"], longest["disk"])
                self.assertLessEqual(longest["answer"],
                                     longest["queue"] + longest["disk"])
                self.assertEqual(self.of("put", answer)[0]["answer"], 0)
            self.assertGreaterEqual(sum(
                self.of("fetch", answer)[0]["answer"] for answer in answers),
                50)
            shown = self.text("status", "--latency")
            self.assertRegex(shown, r"(?m)^n1 +put +disk +\d+( +[\d.]+ "
                                    r"(us|ms|s)){5}$")
            self.assertNotRegex(shown, "(?m)^n2 +put")

    def test_a_window_leaves_out_what_came_before(self):
        with Cluster("memory") as self.cluster:
            self.cluster.start()
            first = self.cluster.nodes[0]
            meanwhile = 0
            with contextlib.closing(first.client()) as client:
                for i in range(1000):
                    client.put(b"before%d" % i, b"v")
                process = self.start("--seconds", "1")
                while process.poll() is None:
                    client.put(b"k%d" % meanwhile, b"v")
                    meanwhile += 1
            out, _ = process.communicate()
            self.assertEqual(process.returncode, DONE)
            count = self.of("put", json.loads(out)[0])[0]["answer"]
            self.assertIn(count, range(1, meanwhile + 1))
            everything = self.json("status", "--latency")[0]
            self.assertEqual(self.of("put", everything)[0]["answer"],
                             1000 + meanwhile)

    def start(self, *arguments):
        urls = ",".join(node.endpoint() for node in self.cluster.nodes)
        process = subprocess.Popen(
            [REPLIKV, "--json", "status", "--latency", *arguments],
            stdout=subprocess.PIPE,
            env=dict(os.environ, REPLIKV_ENDPOINTS=urls))
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_an_interrupt_ends_the_window(self):
        with Cluster("memory", nodes=1, replicas=1) as self.cluster:
            self.cluster.start()
            process = self.start("--seconds", "86400")

            def catches():
                with open(f"/proc/{process.pid}/status",
                          encoding="ascii") as file:
                    caught = re.search(r"SigCgt:\s+(\w+)", file.read())
                return int(caught.group(1), 16) >> (signal.SIGINT - 1) & 1

            wait_for("SIGINT to be caught", catches)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
            self.assertEqual(process.returncode, DONE)
            self.assertEqual(json.loads(out)[0]["node"], "n1")

    @staticmethod
    def measured(run, max_us, **counts):
        """counts: us500=3, three of 500 us."""
        return {"admin_reply": rkv.AdminReply(
            result=rkv.Result(status=rkv.OK), node="n1", run=run,
            latencies=[rkv.LatencyStage(
                kind="put", stage="disk", max_us=max_us,
                at_least_us=[int(name[2:]) for name in counts],
                counts=list(counts.values()))])}

    def window(self, *bodies):
        """(count, p50, max) and standard error of --seconds on them."""
        with FakeNode(*bodies) as endpoint:
            out, said = self.run_cli("--json", "status", "--latency",
                                     "--seconds", "1", endpoints=[endpoint])
        row = self.latencies(json.loads(out)[0])["put", "disk"]
        return (row["count"], row["p50_us"], row["max_us"]), said

    def test_a_window_is_the_difference(self):
        before = self.measured(1, 900, us100=5, us800=1)
        self.assertEqual(
            self.window(before, self.measured(
                1, 900, us100=7, us200=3, us800=1)),
            ((5, 200, 200), ""))
        self.assertEqual(
            self.window(before, self.measured(1, 1010, us100=5, us800=1,
                                              us992=1)),
            ((1, 992, 1010), ""))
        self.assertEqual(self.window(before, before), ((0, 0, 0), ""))
        shown, said = self.window(before, self.measured(2, 900, us800=2))
        self.assertEqual(shown, (2, 800, 900))
        self.assertIn("n1 was started meanwhile", said)

    def test_a_node_that_does_not_measure_is_named(self):
        older = {"result": rkv.Result(
            status=rkv.UNSUPPORTED,
            message="what: not known to this version of replikvd")}
        with FakeNode(older) as endpoint:
            said = self.error("status", "--latency", endpoints=[endpoint],
                              expect=REFUSED)
        self.assertIn(f"the node at {endpoint} is older", said)
        newer = self.measured(1, 900, us800=2)
        with FakeNode(older) as endpoint, FakeNode(newer) as other:
            answers = self.json("status", "--latency", expect=REFUSED,
                                endpoints=[endpoint, other])
        self.assertEqual([answer["status"] for answer in answers],
                         ["unsupported", "ok"])
        self.assertEqual(self.of("put", answers[1])[0], {"disk": 2})


if __name__ == "__main__":
    unittest.main()
