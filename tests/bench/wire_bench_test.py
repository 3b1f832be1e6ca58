#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""wire_bench measures everything that it names, and leaves nothing behind.

    REPLIKV_BUILD=build/dev ./tests/bench/wire_bench_test.py

Nothing here holds the numbers to anything but what they cannot be."""

import json
import os
import subprocess
import tempfile
import unittest

BENCH = os.path.abspath(os.path.join(os.environ["REPLIKV_BUILD"],
                                     "wire_bench"))
ROWS = {("epoll", 1), ("epoll", 64), ("stream", 1), ("stream", 64),
        ("reqrep", 1), ("reqrep", 64), ("fdatasync", 1)} | {
    (name, puts) for name in ("skeleton", "skeleton-no-disk")
    for puts in (15, 48, 192)}


class WireBench(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.addCleanup(self.directory.cleanup)

    def run_bench(self, *arguments):
        return subprocess.run([BENCH, *arguments], capture_output=True,
                              text=True, timeout=300, check=False,
                              cwd=self.directory.name)

    def measure(self, *arguments):
        done = self.run_bench("--seconds", "0.1", "--json", *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(os.listdir(self.directory.name), [])
        return json.loads(done.stdout)

    def test_every_row_has_a_rate(self):
        # A disk may well stand still for one tenth of a second, hence the best
        # of several.
        result = self.measure("--rounds", "3")
        self.assertEqual(result["rounds"], 3)
        self.assertEqual({(row["name"], row["in_flight"])
                          for row in result["rows"]}, ROWS)
        for row in result["rows"]:
            with self.subTest(row["name"], in_flight=row["in_flight"]):
                self.assertGreater(row["requests_per_s_max"], 0)
                self.assertGreaterEqual(row["requests_per_s_max"],
                                        row["requests_per_s"])
                self.assertGreaterEqual(row["p99_us"], row["p50_us"])

    def test_one_name_with_frames_of_any_size(self):
        for size in (16, 1024):
            with self.subTest(size):
                result = self.measure("--rounds", "1", "--only", "stream",
                                      "--bytes", str(size))
                self.assertEqual(result["bytes"], size)
                self.assertEqual([row["in_flight"] for row in result["rows"]],
                                 [1, 64])
                for row in result["rows"]:
                    self.assertGreater(row["requests_per_s"], 0)

    def test_the_table_has_a_line_for_each_row(self):
        done = self.run_bench("--seconds", "0.1", "--rounds", "1", "--only",
                              "epoll")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual([line.split()[:2] for line in
                          done.stdout.splitlines()[1:]],
                         [["epoll", "1"], ["epoll", "64"]])

    def test_mistakes_are_named(self):
        for option, value in (("--rounds", "0"), ("--seconds", "nan"),
                              ("--bytes", "15"), ("--bytes", "1k"),
                              ("--only", "carrier-pigeon")):
            with self.subTest(option):
                done = self.run_bench(option, value)
                self.assertEqual(done.returncode, 2)
                self.assertIn(f'{option} is "{value}"', done.stderr)


if __name__ == "__main__":
    unittest.main()
