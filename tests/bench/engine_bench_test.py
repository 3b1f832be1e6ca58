#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""engine_bench runs every workload, on every engine that it names.

    REPLIKV_BUILD=build/dev ./tests/bench/engine_bench_test.py

Nothing here holds the numbers to anything but what they cannot be."""

import json
import os
import subprocess
import tempfile
import unittest

BENCH = os.path.join(os.environ["REPLIKV_BUILD"], "tests", "engine_bench")
KEYS = 2000
WRITES = ("fillseq", "fillrandom", "fillsync", "overwrite", "deleterandom")
READS = ("readrandom", "readmissing", "readseq", "readreverse", "seekrandom")


def run(*arguments):
    return subprocess.run([BENCH, *arguments], capture_output=True, text=True,
                          timeout=120, check=False)


class EngineBench(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.addCleanup(self.directory.cleanup)

    def measure(self, engine, workload, *arguments):
        done = run("--engine", engine, "--workload", workload, "--keys",
                   str(KEYS), "--settle-ms", "20", "--directory",
                   self.directory.name, "--json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(os.listdir(self.directory.name), [])
        return json.loads(done.stdout)

    def test_writes_are_counted(self):
        for workload in WRITES:
            with self.subTest(workload):
                result = self.measure("lsm", workload)
                self.assertGreater(result["ops_per_s"], 0)
                self.assertGreaterEqual(result["max_us"], result["p50_us"])
                self.assertGreaterEqual(result["write_amplification"], 1)

    def test_reads_find_what_was_filled(self):
        for workload in READS:
            with self.subTest(workload):
                result = self.measure("lsm", workload)
                self.assertGreaterEqual(result["operations"], KEYS // 2)
                self.assertGreaterEqual(result["space_amplification"], 0.5)

    def test_reads_share_a_store(self):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as parent:
            store = os.path.join(parent, "store")
            self.measure("lsm", "readrandom", "--store", store)
            made = os.stat(store).st_ino
            self.measure("lsm", "readmissing", "--store", store)
            self.assertEqual(os.stat(store).st_ino, made)
            self.assertEqual(os.listdir(parent), ["store"])

    def test_syncs_are_seen_through_shared_libraries(self):
        for engine in ("leveldb", "leveldb-default", "lsm"):
            with self.subTest(engine):
                result = self.measure(engine, "fillsync", "--threads", "1")
                self.assertGreaterEqual(result["syncs"], result["operations"])
                self.assertGreater(result["sync_max_us"], 0)

    def test_many_threads_write_all_keys(self):
        result = self.measure("lsm", "fillsync", "--threads", "16",
                              "--operations", str(KEYS))
        self.assertEqual(result["operations"], KEYS)

    def test_a_writer_beside_readers_has_its_own_rate(self):
        result = self.measure("lsm", "readwhilewriting", "--threads", "2")
        self.assertGreater(result["writer_ops_per_s"], 0)

    def test_recovery_replays_a_log(self):
        result = self.measure("lsm", "recovery", "--value-size", "1024")
        self.assertGreater(result["log_bytes"], 60 << 20)

    def test_all_engines_run(self):
        engines = run("--help").stdout.partition("one of: ")[2].split("\n")[0]
        for engine in set(engines.split()) - {"null"}:
            with self.subTest(engine):
                self.measure(engine, "readwhilewriting")
                self.measure(engine, "readreverse")

    def test_mistakes_are_named(self):
        right = ["--engine", "lsm", "--workload", "fillseq"]
        for said, *arguments in (
                ("--engine is missing", "--workload", "fillseq"),
                ("--workload is missing", "--engine", "lsm"),
                ("\"dance\", which", "--engine", "lsm", "--workload", "dance"),
                ("--keys is \"1x\"", *right, "--keys", "1x"),
                ("--threads is \"0\"", *right, "--threads", "0"),
                ("none or fast", *right, "--compression", "zip"),
                ("--store is for", *right, "--store", "/nowhere"),
                ("\"more\" is no option", *right, "more")):
            with self.subTest(said):
                done = run(*arguments)
                self.assertEqual(done.returncode, 2)
                self.assertIn(said, done.stderr)
        done = run("--engine", "none", "--workload", "fillseq")
        self.assertEqual(done.returncode, 1)
        self.assertIn("there are: ", done.stderr)


if __name__ == "__main__":
    unittest.main()
