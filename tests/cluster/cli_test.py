# SPDX-License-Identifier: MIT
"""The command line against real nodes: what it prints, its exit codes, and
what it does when nodes fail."""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest

from harness import REPLIKV, Cluster, rkv, wait_for

DONE, NOT_FOUND, USAGE, REFUSED, UNKNOWN = range(5)
NOBODY = "tcp://127.0.0.1:1"


class Cli(unittest.TestCase):
    def run_cli(self, *arguments, expect=DONE, given=b"", endpoints=None):
        """Standard output and standard error."""
        urls = endpoints or [node.endpoint() for node in self.cluster.nodes]
        environment = dict(os.environ, REPLIKV_ENDPOINTS=",".join(urls))
        if isinstance(given, str):
            given = given.encode()
        ran = subprocess.run([REPLIKV, *arguments], input=given,
                             capture_output=True, timeout=120, check=False,
                             env=environment)
        self.assertEqual(ran.returncode, expect,
                         f"{arguments}: {ran.stdout} {ran.stderr}")
        return ran.stdout, ran.stderr.decode()

    def wait_in_step(self):
        wait_for("the replicas to be in step",
                 lambda: len(set(self.cluster.digests())) == 1)

    def text(self, *arguments, **how):
        return self.run_cli(*arguments, **how)[0].decode()

    def error(self, *arguments, **how):
        return self.run_cli(*arguments, **how)[1]

    def json(self, *arguments, **how):
        return json.loads(self.run_cli("--json", *arguments, **how)[0])


class OneCluster(Cli):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster("memory", sections={
            "buckets": '[{name: copy}, {name: lines}, {name: many}, '
                       '{name: brief, ttl_s: 1}]'})
        cls.addClassCleanup(cls.cluster.__exit__, None)
        cls.cluster.start()

    def test_values_come_back_as_they_were(self):
        self.assertIn("applied on", self.text("put", "plain", "value"))
        self.assertEqual(self.text("get", "plain"), "value")
        blob = bytes(range(256))
        self.run_cli("put", "blob", given=blob)
        self.assertEqual(self.run_cli("get", "blob")[0], blob)
        self.run_cli("put", "empty", "-")
        self.assertEqual(self.run_cli("get", "empty")[0], b"")
        self.run_cli("put", "--", "-dash", "-5")
        self.assertEqual(self.text("get", "--", "-dash"), "-5")

    def test_base64_carries_keys_and_values_that_are_no_text(self):
        key = base64.b64encode(b"\xff\x00key").decode()
        self.run_cli("put", "--base64", key, "AAH+")
        self.assertEqual(self.text("get", "--base64", key), "AAH+\n")
        answer = self.json("get", "--base64", key)
        self.assertEqual(answer["key_base64"], key)
        self.assertEqual(answer["value_base64"], "AAH+")
        self.assertNotIn("value", answer)
        self.assertIn("not base64", self.error(
            "get", "--base64", "no!", expect=USAGE))

    def test_json_is_escaped(self):
        text = 'a "quote"\\ \n\t\x01 \u00e9 \u2028'
        self.run_cli("put", "escaped", given=text)
        answer = self.json("get", "escaped")
        self.assertEqual(answer["value"], text)
        self.assertEqual((answer["status"], answer["siblings"]), ("ok", 1))

    def test_not_found_is_1(self):
        self.assertIn("not found", self.error("get", "none", expect=NOT_FOUND))
        self.assertEqual(self.json("get", "none", expect=NOT_FOUND)["status"],
                         "not_found")
        self.run_cli("del", "none", expect=NOT_FOUND)

    def test_several_keys_are_a_line_each(self):
        self.run_cli("put", "first", "1")
        self.run_cli("put", "third", given=b"\xff\x00")
        shown = self.text("get", "first", "nowhere", "third",
                          expect=NOT_FOUND)
        lines = [json.loads(line) for line in shown.splitlines()]
        self.assertEqual([line["key"] for line in lines],
                         ["first", "nowhere", "third"])
        self.assertEqual([line["status"] for line in lines],
                         ["ok", "not_found", "ok"])
        self.assertEqual(lines[0]["value"], "1")
        self.assertEqual(base64.b64decode(lines[2]["value_base64"]),
                         b"\xff\x00")
        self.assertEqual(len(self.text("get", "first", "first").splitlines()),
                         2)
        self.assertIn("allowed", self.text(
            "get", "first", "third", "--r", "9", expect=REFUSED))

    def wait_gone(self, *arguments):
        environment = dict(os.environ,
                           REPLIKV_ENDPOINTS=self.cluster.nodes[0].endpoint())
        wait_for("the value to expire", lambda: subprocess.run(
            [REPLIKV, "get", *arguments], capture_output=True, check=False,
            env=environment).returncode == NOT_FOUND)

    def test_a_value_is_gone_after_its_time(self):
        self.run_cli("put", "brief", "v", "--ttl", "1s")
        self.run_cli("put", "default", "v", "--bucket", "brief")
        self.run_cli("put", "stays", "v", "--bucket", "brief", "--ttl", "never")
        self.run_cli("put", "long", "v", "--ttl", "7d")
        left = self.json("get", "long")["ttl_ms"]
        self.assertTrue(604740000 < left <= 604800000, left)
        self.wait_gone("brief")
        self.wait_gone("default", "--bucket", "brief")
        self.assertEqual(self.text("get", "stays", "--bucket", "brief"), "v")
        # That is said where values expire unless they say so.
        stays = self.json("get", "stays", "--bucket", "brief")
        self.assertEqual(stays["ttl_ms"], -1)
        dump = [json.loads(line) for line in self.text("dump").splitlines()]
        of = {line["key"]: line for line in dump if "key" in line}
        self.assertNotIn("brief", of)
        self.assertTrue(604740000 < of["long"]["ttl_ms"] <= left)
        # It comes back as it was, and is not given the bucket's time.
        self.run_cli("del", "stays", "--bucket", "brief")
        self.text("load", given=json.dumps(of["stays"]) + "\n")
        again = self.json("get", "stays", "--bucket", "brief")
        self.assertEqual((again["value"], again["ttl_ms"]), ("v", -1))
        line = {"key": "again", "value": "v", "ttl_ms": 600000}
        self.text("load", given=json.dumps(line) + "\n")
        self.assertTrue(540000 < self.json("get", "again")["ttl_ms"] <= 600000)
        self.assertIn("line 1", self.error(
            "load", given='{"key": "k", "value": "v", "ttl_ms": 0}',
            expect=REFUSED))

    def test_delete_supersedes_what_is_there(self):
        self.run_cli("put", "doomed", "1")
        self.assertIn("applied", self.text("del", "doomed"))
        self.run_cli("get", "doomed", expect=NOT_FOUND)

    def test_siblings_come_with_the_context_that_resolves_them(self):
        self.run_cli("put", "s", "left")
        self.run_cli("put", "s", "right")
        shown = self.text("get", "s")
        self.assertIn("2 siblings", shown)
        self.assertIn("left\n", shown)
        self.assertIn("right\n", shown)
        context = re.search(r"--context (\S+)", shown).group(1)
        answer = self.json("get", "s")
        self.assertEqual(sorted(v["value"] for v in answer["values"]),
                         ["left", "right"])
        self.assertEqual(answer["context"], context)
        self.run_cli("put", "s", "both", "--context", context)
        self.assertEqual(self.text("get", "s"), "both")
        self.run_cli("put", "s", "newer", "--overwrite")
        self.assertEqual(self.text("get", "s"), "newer")

    def test_context_of_another_key_is_refused(self):
        self.run_cli("put", "mine", "1")
        context = self.json("get", "mine")["context"]
        said = self.error("put", "yours", "1", "--context", context,
                          expect=REFUSED)
        self.assertIn("another key", said)
        self.assertIn("Nothing was applied", said)
        self.run_cli("get", "yours", expect=NOT_FOUND)
        self.assertIn("another key", self.error(
            "get", "yours", "--context", context, expect=REFUSED))

    def test_request_id_makes_a_second_write_the_first(self):
        once = base64.b64encode(os.urandom(16)).decode()
        for _ in range(2):
            self.run_cli("put", "once", "1", "--request-id", once)
        self.assertEqual(self.json("get", "once")["siblings"], 1)

    def test_levels_are_passed_on(self):
        for level, need in (("one", 1), ("quorum", 2), ("all", 3), ("2", 2)):
            answer = self.json("put", "level-" + level, "v", "--w", level)
            self.assertEqual(answer["need"], need)
            answer = self.json("get", "level-" + level, "--r", level)
            self.assertEqual(answer["need"], need)
        self.assertIn("allowed are 1 to 3", self.error(
            "put", "k", "v", "--w", "4", expect=REFUSED))

    def test_wrong_usage_is_2_and_says_what_is_right(self):
        long_key = "k" * 481
        for arguments, said in (
                ([], "a command is missing"),
                (["fly"], "fly"),
                (["get"], "too little"),
                (["get", "a", ""], "allowed are 1 to 480"),
                (["get", *["a"] * 1001], "too much"),
                (["get", "a", "--w", "1"], "no use for --w"),
                (["get", "a", "--r", "most"], "one, quorum, all"),
                (["get", "a", "--r", "0"], "1 to 16"),
                (["--timeout", "0", "get", "a"], "1 to 3600000"),
                (["--timeout", "1s", "get", "a"], "1 to 3600000"),
                (["--endpoint", "localhost", "get", "a"], "tcp://HOST:PORT"),
                (["put", "a", "b", "--context", "?"], "--context"),
                (["get", "a", "--context", "?"], "--context"),
                (["get", "a", "b", "--context", "Aa=="], "of one key"),
                (["put", "a", "b", "--context", "Aa==", "--overwrite"],
                 "--overwrite"),
                (["put", "a", "b", "--request-id", "AAAA"], "--request-id"),
                (["put", "", "b"], "allowed are 1 to 480"),
                (["put", long_key, "b"], "481 bytes, allowed are 1 to 480"),
                (["load", "/does/not/exist"], "No such file"),
                (["load", "--format", "xml"], "json or tab"),
                (["load", "--inflight", "0"], "1 to 65536"),
                (["dump", "--resume", "17"], "--resume"),
                (["status", "--seconds", "5"], "without --latency"),
                (["status", "--latency", "--seconds", "0"], "1 to 86400"),
                (["get", "a", "--latency"], "no use for --latency"),
                (["put", "a", "b", "--ttl", "1"], "90s, 15m, 12h or 7d"),
                (["put", "a", "b", "--ttl", "0s"], "90s, 15m, 12h or 7d"),
                (["put", "a", "b", "--ttl", "365001d"], "1000 years"),
                (["get", "a", "--ttl", "1s"], "no use for --ttl"),
                (["--flag"], "--help")):
            with self.subTest(arguments):
                self.assertIn(said, self.error(*arguments, expect=USAGE))
        self.assertIn("Exit codes", self.text("--help"))

    def test_refusals_of_the_node_are_3(self):
        self.assertIn("not declared", self.error(
            "put", "k", "v", "--bucket", "nowhere", expect=REFUSED))
        answer = self.json("put", "k", "v", "--bucket", "nowhere",
                           expect=REFUSED)
        self.assertEqual((answer["status"], answer["outcome"]),
                         ("invalid", "not_applied"))
        self.assertIn("value", self.error("put", "k", given=b"x" * (2**20 + 1),
                                          expect=REFUSED))

    def test_request_far_beyond_the_limit_is_named(self):
        said = self.error("put", "huge", given=b"x" * 2**22, expect=REFUSED)
        self.assertIn("value_bytes_max", said)
        self.run_cli("get", "huge", expect=NOT_FOUND)

    def test_load_reads_tabs_and_json(self):
        said = self.text("load", "--bucket", "lines",
                         given="a\tone\r\nb\ttwo\twith tab\n\nc\t\n")
        self.assertIn("3 applied, 0 not applied, 0 unknown", said)
        lines = [{"key": "d", "value": "\u00e9"},
                 {"key_base64": "/w==", "value_base64": "AA=="},
                 {"key": "e", "values": [{"value": "1"}, {"value": "2"}]}]
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("\n".join(map(json.dumps, lines)))
            file.flush()
            summary = self.json("load", file.name, "--bucket", "lines")
        self.assertEqual((summary["applied"], summary["lines"]), (4, 3))

        def get(*key):
            return self.run_cli("get", "--bucket", "lines", *key)[0]

        self.assertEqual(get("b"), b"two\twith tab")
        self.assertEqual(get("c"), b"")
        self.assertEqual(get("d"), "\u00e9".encode())
        self.assertEqual(get("--base64", "/w=="), b"AA==\n")
        self.assertIn(b"2 siblings", get("e"))
        self.text("load", "--bucket", "lines", "--base64", given="Zg==\teA==\n")
        self.assertEqual(get("f"), b"x")
        self.text("load", "--bucket", "lines", "--overwrite", given="a\tnew\n")
        self.assertEqual(get("a"), b"new")
        self.text("load", "--bucket", "lines", "--overwrite",
                  given="".join(f"again\t{i}\n" for i in range(100)))
        self.assertEqual(get("again"), b"99")

    def test_load_bounds_the_bytes_under_way(self):
        lines = "".join(f"large{i}\t{'x' * 1000000}\n" for i in range(70))
        summary = self.json("--timeout", "60000", "load", "--bucket", "lines",
                            "--overwrite", given=lines)
        self.assertEqual(summary["applied"], 70)

    def test_load_names_the_lines_that_it_cannot_write(self):
        bad = ['{"key": "k1", "value": "v"}', '{"key": "k2"}', "no json",
               '{"key": "k3", "value": 7}', '["k4"]', '{"key": "", "value": ""}',
               '{"key": "k5", "value": "v", "bucket": "nowhere"}',
               '{"key": "k6", "value_base64": "?"}', '{"key": "k7", "values": 1}']
        out, said = self.run_cli("--json", "load", given="\n".join(bad),
                                 expect=REFUSED)
        summary = json.loads(out)
        self.assertEqual(
            (summary["applied"], summary["not_applied"], summary["malformed"]),
            (1, 2, 6))
        for line in (2, 3, 4, 5, 6, 7, 8, 9):
            self.assertIn(f"line {line}", said)

    def test_dump_comes_back_by_load_and_may_be_resumed(self):
        given = "".join(f"key{i}\tvalue {i}\n" for i in range(3000))
        self.text("load", "--bucket", "many", "--inflight", "500", given=given)
        self.run_cli("put", "key7", "a sibling", "--bucket", "many")

        def of_many(dump):
            return [line for line in dump.splitlines()
                    if json.loads(line)["bucket"] == "many"]

        whole = of_many(self.text("dump"))
        self.assertEqual(len(whole), 3000)
        self.assertEqual(len(set(whole)), 3000)
        (sibling,) = (json.loads(line) for line in whole if "values" in line)
        self.assertEqual(sorted(v["value"] for v in sibling["values"]),
                         ["a sibling", "value 7"])

        self.text("load", "--bucket", "copy", given="\n".join(whole))
        self.assertEqual(self.text("get", "key2999", "--bucket", "copy"),
                         "value 2999")
        self.assertIn("2 siblings",
                      self.text("get", "key7", "--bucket", "copy"))

        stopped, token = self.dump_until_the_pipe_breaks()
        rest = of_many(self.text("dump", "--resume", token))
        self.assertLess(len(rest), 3000)
        self.assertEqual(set(of_many(stopped)) | set(rest), set(whole))

    def dump_until_the_pipe_breaks(self):
        urls = ",".join(node.endpoint() for node in self.cluster.nodes)
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [REPLIKV, "dump"], stdout=writer, stderr=subprocess.PIPE,
            env=dict(os.environ, REPLIKV_ENDPOINTS=urls))
        os.close(writer)
        # More than one partition, and not to the end.
        read = b""
        while len(read) < 40000:
            read += os.read(reader, 40000 - len(read))
        os.close(reader)
        said = process.stderr.read().decode()
        process.stderr.close()
        self.assertEqual(process.wait(60), REFUSED, said)
        token = re.search(r"--resume (\S+)", said).group(1)
        return read[:read.rindex(b"\n")].decode(), token

    def test_nodes_are_shown_for_people_and_programs(self):
        self.run_cli("put", "known", "v", "--w", "all")
        self.wait_in_step()
        for command in ("status", "members", "ring", "digest"):
            shown = self.text(command)
            for name in ("n1", "n2", "n3"):
                self.assertIn(name, shown)
        status = self.json("status")
        self.assertEqual([node["node"] for node in status], ["n1", "n2", "n3"])
        self.assertTrue(all(node["ready"] for node in status))
        self.assertGreater(sum(n["counters"]["writes"] for n in status), 0)
        members = self.json("members")["members"]
        self.assertEqual(sorted((m["name"], m["state"]) for m in members),
                         [("n1", "alive"), ("n2", "alive"), ("n3", "alive")])
        ring = self.json("ring")["ring"]
        self.assertEqual([entry["partition"] for entry in ring],
                         list(range(32)))
        self.assertTrue(all(sorted(entry["owners"]) == ["n1", "n2", "n3"]
                            for entry in ring))
        hints = self.json("hints")
        self.assertEqual([node["node"] for node in hints], ["n1", "n2", "n3"])

    def test_explain_shows_each_replica(self):
        self.run_cli("put", "explained", "v", "--w", "all")
        shown = self.text("explain", "explained")
        self.assertIn("3 of 3 replicas answered, in step", shown)
        answer = self.json("explain", "explained")
        self.assertTrue(answer["in_step"])
        self.assertEqual(sorted(r["node"] for r in answer["replicas"]),
                         ["n1", "n2", "n3"])
        for replica in answer["replicas"]:
            self.assertEqual((replica["status"], replica["values"],
                              replica["tombstones"]), ("ok", 1, 0))
            self.assertEqual(len(replica["dots"]), 1)

    def test_dead_endpoint_is_passed_over(self):
        endpoints = [NOBODY, self.cluster.nodes[1].endpoint()]
        self.run_cli("put", "failover", "v", endpoints=endpoints)
        self.assertEqual(self.text("get", "failover", endpoints=endpoints),
                         "v")
        self.assertEqual(self.text("-e", NOBODY, "-e", endpoints[1], "get",
                                   "failover", endpoints=[NOBODY]), "v")

    def test_without_a_node_it_says_so_at_once(self):
        start = time.monotonic()
        said = self.error("--timeout", "60000", "put", "k", "v",
                          endpoints=[NOBODY], expect=REFUSED)
        self.assertLess(time.monotonic() - start, 30)
        self.assertIn("refused", said)
        self.assertIn("--endpoint", said)
        for command in ("status", "members", "ring", "hints", "digest"):
            self.run_cli(command, endpoints=[NOBODY], expect=REFUSED)


class TwoEngines(Cli):
    def test_status_says_what_an_engine_writes_for_what_it_is_given(self):
        with Cluster(["lsm", "memory"], nodes=2, replicas=2) as self.cluster:
            self.cluster.start()
            self.text("load", given="".join(
                f"k{i}\t{i:0100}\n" for i in range(500)))

            def known():
                on_disk, in_memory = self.json("status")
                return ("write_amplification" in on_disk and
                        in_memory["counters"]["engine_live_bytes"] > 50000)

            wait_for("the engines to be asked", known)
            on_disk, in_memory = self.json("status")
            counters = on_disk["counters"]
            self.assertAlmostEqual(
                on_disk["write_amplification"],
                counters["engine_stored_bytes"] / counters["engine_user_bytes"])
            self.assertEqual(counters["engine_damaged"], 0)
            self.assertNotIn("write_amplification", in_memory)
            self.assertNotIn("space_amplification", in_memory)
            shown = self.text("status")
            self.assertRegex(shown, r"write_amplification +\d+\.\d\d +-")
            self.assertNotIn("engine_damaged", shown)


class FailingNodes(Cli):
    def test_unknown_write_is_finished_by_its_request_id(self):
        with Cluster("memory") as self.cluster:
            self.cluster.start()
            first, *others = self.cluster.nodes
            for node in others:
                node.signal(signal.SIGSTOP)
            said = self.error("--timeout", "1500", "put", "k", "v",
                              endpoints=[first.endpoint()], expect=UNKNOWN)
            self.assertIn("Outcome unknown", said)
            once = re.search(r"--request-id (\S+)", said).group(1)
            answer = self.json("--timeout", "1500", "put", "k", "v",
                               endpoints=[first.endpoint()], expect=UNKNOWN)
            self.assertEqual(answer["outcome"], "unknown")
            self.assertIn("request_id", answer)
            for node in others:
                node.signal(signal.SIGCONT)
            self.run_cli("put", "k", "v", "--request-id", once)
            # The second write without one is a sibling, the retry is not.
            self.assertEqual(self.json("get", "k")["siblings"], 2)

    def test_get_shows_what_its_context_has_seen_or_is_stale(self):
        with Cluster("memory", nodes=1, replicas=1, sections={
                "buckets": "[{name: sloppy, sloppy: true}]"}) as self.cluster:
            self.cluster.start()
            node = self.cluster.nodes[0]
            seen = {}
            for bucket in ("default", "sloppy"):
                key = ["k", "--bucket", bucket]
                self.run_cli("put", "k", "1", "--bucket", bucket)
                context = self.json("get", *key)["context"]
                seen[bucket] = ["get", *key, "--context", context]
                self.assertEqual(self.text(*seen[bucket]), "1")
            node.kill()
            node.start()
            node.wait_ready()
            # Some other node may have it.
            self.assertIn("all that the context has seen",
                          self.error(*seen["sloppy"], expect=REFUSED))
            self.assertEqual(
                self.json(*seen["sloppy"], expect=REFUSED)["status"], "stale")
            # All that could have it answered: as if deleted and collected.
            self.run_cli(*seen["default"], expect=NOT_FOUND)

    def test_load_goes_on_while_a_node_dies(self):
        with Cluster("lsm") as self.cluster:
            self.cluster.start()
            urls = ",".join(n.endpoint() for n in self.cluster.nodes)
            process = subprocess.Popen(
                [REPLIKV, "--json", "load"], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, env=dict(
                    os.environ, REPLIKV_ENDPOINTS=urls))
            for i in range(4000):
                process.stdin.write(b"key%d\tvalue %d\n" % (i, i))
                if i == 2000:
                    process.stdin.flush()
                    self.cluster.nodes[0].kill()
            out, _ = process.communicate(timeout=120)
            self.assertEqual(process.returncode, DONE, out)
            self.assertEqual(json.loads(out)["applied"], 4000)
            dumped = [json.loads(line)
                      for line in self.text("dump").splitlines()]
            self.assertEqual({d["key"]: d.get("value") for d in dumped},
                             {f"key{i}": f"value {i}" for i in range(4000)})

    def test_hints_are_listed_and_digest_finds_what_they_do_not_cover(self):
        # Room for one hint; what is shed n3 will lack.
        one_hint = {"limits": {"hint_bytes_max": 150},
                    "replication": {"anti_entropy_interval_ms": 86400000}}
        with Cluster("lsm", sections=one_hint) as self.cluster:
            self.cluster.start()
            with contextlib.closing(self.cluster.nodes[0].client()) as client:
                wait_for("n1 to reach both others", lambda: client.put(
                    b"first", b"v", w=-2)[0].outcome == rkv.APPLIED)
            self.text("load", given="".join(f"k{i}\tv\n" for i in range(50)))
            self.wait_in_step()
            self.assertIn("hold the same of all 32 partitions",
                          self.text("digest"))
            self.assertIn("no hints", self.text("hints"))
            self.cluster.nodes[2].kill()
            two = [node.endpoint() for node in self.cluster.nodes[:2]]
            self.run_cli("put", "hinted", "v", endpoints=two)
            wait_for("the hint", lambda: [
                (hint["target"], hint["records"])
                for node in self.json("hints", endpoints=two)
                for hint in node["hints"] if hint["records"]] == [("n3", 1)])
            self.assertIn("n3", self.text("hints", endpoints=two))
            self.run_cli("put", "missed", "v", endpoints=two)
            self.assertIn("the owners that answered hold the same",
                          self.text("digest", expect=REFUSED))
            self.assertNotIn("hold the same", self.text(
                "digest", endpoints=[two[0], two[0]]))
            self.cluster.nodes[2].start().wait_ready()
            self.cluster.wait_no_hints()
            self.assertIn("1 of 32 partitions differ",
                          self.text("digest", expect=NOT_FOUND))
            self.assertEqual(len(self.json(
                "digest", expect=NOT_FOUND)["differing_partitions"]), 1)


if __name__ == "__main__":
    unittest.main()
