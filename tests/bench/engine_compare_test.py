#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""engine_compare says that a claim is missed when it is, from figures made up
here, and runs from its command line to its table."""

import os
import signal
import subprocess
import sys
import types
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import engine_compare  # noqa: E402

ROWS = {row.name: row for row in engine_compare.ROWS}
FIGURES = {"ops_per_s": 100, "p999_us": 10, "max_us": 10, "sync_max_us": 0,
           "rename_max_us": 0, "disk_bytes": 100, "rss_peak_bytes": 0,
           "rss_before_bytes": 0, "cache_bytes": 100, "memtable_bytes": 50,
           "seconds": 0.5}


def options(*names):
    return types.SimpleNamespace(rows=[ROWS[name] for name in names],
                                 value_sizes=[1024])


def results(name, **engines):
    """A round for each list of changes to the figures."""
    made = engine_compare.Results()
    for engine, rounds in engines.items():
        for changes in rounds:
            result = None if changes is None else {**FIGURES, **changes}
            made.add(ROWS[name], 1024, engine, result)
    return made


def reached(claim, name, **engines):
    return [each.reached for each in
            claim(results(name, **engines), options(name))]


class Claims(unittest.TestCase):
    def test_ratio_is_the_median_of_the_rounds(self):
        made = results("overwrite",
                       lsm=[{"ops_per_s": rate} for rate in (10, 90, 40)],
                       leveldb=[{"ops_per_s": rate} for rate in (10, 30, 20)])
        self.assertEqual(made.ratio(ROWS["overwrite"], 1024,
                                    ("lsm", "leveldb"), "ops_per_s"), 2)

    def test_a_failed_run_leaves_its_round_out(self):
        made = results("overwrite", lsm=[None, {"ops_per_s": 300}],
                       leveldb=[{}, {}])
        self.assertEqual(made.ratio(ROWS["overwrite"], 1024,
                                    ("lsm", "leveldb"), "ops_per_s"), 3)
        self.assertEqual(made.median(ROWS["overwrite"], 1024, "lsm",
                                     "ops_per_s"), 300)

    def test_rates_are_held_against_leveldb(self):
        claim = engine_compare.claim_leveldb
        for name, rate, expected in (("overwrite", 121, True),
                                     ("overwrite", 119, False),
                                     ("readseq", 101, True),
                                     ("readseq", 99, False)):
            with self.subTest(name, rate=rate):
                self.assertEqual(reached(claim, name, leveldb=[{}],
                                         lsm=[{"ops_per_s": rate}]),
                                 [expected])
        self.assertEqual(reached(claim, "readreverse", leveldb=[{}],
                                 lsm=[{"ops_per_s": 1}]), [])

    def test_rates_are_held_against_rocksdb(self):
        for rate, expected in ((100, [True, True]), (99, [False, True]),
                               (79, [False, False])):
            with self.subTest(rate=rate):
                self.assertEqual(reached(engine_compare.claim_rocksdb,
                                         "overwrite", rocksdb=[{}],
                                         lsm=[{"ops_per_s": rate}]), expected)

    def test_memory_is_held_against_cache_and_memtables(self):
        for peak, expected in ((240, True), (241, False)):
            self.assertEqual(reached(engine_compare.claim_memory, "overwrite",
                                     lsm=[{"rss_peak_bytes": peak}]),
                             [expected])

    def test_disk_is_held_against_rocksdb(self):
        for disk, expected in ((110, True), (111, False)):
            self.assertEqual(reached(engine_compare.claim_disk, "overwrite",
                                     rocksdb=[{}], lsm=[{"disk_bytes": disk}]),
                             [expected])

    def test_tail_is_held_against_both(self):
        for tail, expected in ((1, [True, True]), (15, [True, False]),
                               (16, [False, False])):
            self.assertEqual(reached(engine_compare.claim_tail, "fillrandom",
                                     rocksdb=[{}], leveldb=[{}],
                                     lsm=[{"p999_us": tail}]), expected)

    def test_one_stall_in_any_round_counts(self):
        for longest, expected in ((25000, True), (25001, False)):
            self.assertEqual(reached(engine_compare.claim_stall, "overwrite",
                                     lsm=[{}, {"max_us": longest,
                                               "sync_max_us": 5000}, {}]),
                             [expected])

    def test_recovery_takes_less_than_a_second(self):
        for seconds, expected in ((0.99, True), (1.0, False)):
            self.assertEqual(reached(engine_compare.claim_recovery, "recovery",
                                     lsm=[{"seconds": seconds}]), [expected])


class Notes(unittest.TestCase):
    def test_what_lmdb_gives_up_is_said_where_it_runs(self):
        for engines, expected in ((["lsm", "lmdb"], True),
                                  (["lsm", "leveldb"], False)):
            said = engine_compare.notes(
                types.SimpleNamespace(rows=[], engines=engines))
            self.assertEqual(engine_compare.LMDB_NOTE in said, expected)


class Program(unittest.TestCase):
    def test_prints_a_table_and_the_claims(self):
        done = subprocess.run(
            [engine_compare.__file__, "--quick", "--keys", "1000", "--rows",
             "overwrite,readmissing", "--engines", "lsm,leveldb",
             "--value-sizes", "100"],
            capture_output=True, text=True, timeout=300, check=False)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        self.assertRegex(done.stdout, r"overwrite +[0-9.,]+ +[0-9.,]+ +[0-9.]+")
        self.assertIn("What is claimed of lsm", done.stdout)
        self.assertIn("[4/4]", done.stderr)

    def test_interrupted_it_prints_what_it_has(self):
        # A shell's background job has SIGINT ignored, and so its children.
        process = subprocess.Popen(
            ["env", "--default-signal=INT", engine_compare.__file__, "--keys",
             "1000", "--rounds", "1000000", "--rows", "overwrite", "--engines",
             "lsm,leveldb", "--value-sizes", "100"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            while "[2/" not in (line := process.stderr.readline()):
                self.assertNotEqual(line, "")
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=300)
        finally:
            process.kill()
        self.assertEqual(process.returncode, 2)
        self.assertRegex(said, r"overwrite +[0-9.,]+ +[0-9.,]+ +[0-9.]+")


if __name__ == "__main__":
    unittest.main()
