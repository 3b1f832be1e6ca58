# SPDX-License-Identifier: MIT
"""examples/compare: what its verdicts say of made-up figures, what its report
has, and that it runs, is interrupted, and refuses what it cannot do."""

import glob
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from harness import BUILD, rkv, wait_for

COMPARE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))), "examples", "compare")
sys.path.insert(0, COMPARE)
import cluster  # noqa: E402
import limits  # noqa: E402
import measure  # noqa: E402
import plots  # noqa: E402
import report  # noqa: E402
import results  # noqa: E402
import verdict  # noqa: E402

DEADLINE_S = 400
LOW, HIGH = [80, 84, 81, 83, 82], [102, 104, 100, 103, 101]


class Verdicts(unittest.TestCase):
    def says(self, expected, measure_=verdict.RATE, rounds=5, **found):
        self.assertEqual(verdict.sentence(measure_, found, rounds), expected)

    def test_a_clear_win(self):
        self.says("lsm won with 102 requests/s, 1.24 times the 82 requests/s "
                  "of leveldb; that is more than the noise (p = 0.008).",
                  leveldb=LOW, lsm=HIGH, lmdb=[1] * 5)

    def test_less_is_better_of_latencies(self):
        self.says("lmdb won with a p99 of 82.00 ms, 0.80 times the 102.00 ms "
                  "of lsm; that is more than the noise (p = 0.008).",
                  verdict.TAIL, lsm=HIGH, lmdb=LOW)

    def test_a_tie_within_the_noise(self):
        self.says("lsm won with 102 requests/s, 1.01 times the 101 requests/s "
                  "of lmdb; that is no more than the noise (p = 0.794).",
                  lsm=HIGH, lmdb=[95, 110, 101, 99, 104])
        self.says("nobody won: leveldb and lsm both have 102 requests/s.",
                  lsm=HIGH, leveldb=HIGH)

    def test_missing_rounds_are_named_and_left_out(self):
        self.says("lsm won with 102 requests/s, 1.24 times the 82 requests/s "
                  "of leveldb; that is more than the noise (p = 0.016). "
                  "(leveldb has 4 of 5 rounds; lmdb has no result.)",
                  lsm=HIGH, leveldb=[80, 84, 83, 81], lmdb=[])
        self.says("lsm won with 102 requests/s, and there is no other to "
                  "compare it with. (leveldb has no result.)",
                  lsm=HIGH, leveldb=[])
        self.says("nobody won: none that competes has a result. (lsm has no "
                  "result.)", lsm=[])

    def test_few_rounds_tell_nothing(self):
        self.says("lsm won with 200 requests/s, 2.00 times the 100 requests/s "
                  "of lmdb; fewer than 4 rounds of each cannot tell that from "
                  "the noise.", rounds=3, lsm=[200] * 3, lmdb=[100] * 3)

    def test_what_keeps_nothing_stands_beside(self):
        self.says("lsm won with 102 requests/s, 1.24 times the 82 requests/s "
                  "of lmdb; that is more than the noise (p = 0.008). Keeping "
                  "nothing: null 306 requests/s, 3.00 times that; memory 204 "
                  "requests/s, 2.00 times that.", memory=[204] * 5,
                  null=[306] * 5, lsm=HIGH, lmdb=LOW)
        self.says("memory won with 102 requests/s, 1.24 times the 82 requests"
                  "/s of lsm; that is more than the noise (p = 0.008). "
                  "Keeping nothing: null 0 requests/s, 0.00 times that.",
                  memory=HIGH, lsm=LOW, null=[0] * 5)

    def test_the_rank_test_counts_every_deal(self):
        def brute(a, b):
            dealt = verdict.ranks(a + b)
            middle = sum(dealt) * len(a) / len(dealt)
            seen = abs(sum(dealt[:len(a)]) - middle)
            far = [abs(sum(some) - middle) >= seen - 1e-9 for some in
                   itertools.combinations(dealt, len(a))]
            return sum(far) / len(far)

        for a, b in ((LOW, HIGH), ([1, 1, 2, 3], [2, 2, 4]), ([5], [5, 5]),
                     ([1, 9, 2, 8], [3, 7, 4, 6, 5])):
            with self.subTest(a=a, b=b):
                self.assertAlmostEqual(verdict.rank_test(a, b), brute(a, b))
                self.assertAlmostEqual(verdict.rank_test(b, a), brute(a, b))
        self.assertEqual(verdict.ranks([7, 3, 7]), [5, 2, 5])


class Figures(unittest.TestCase):
    def test_what_bench_says_each_second_is_read(self):
        said = ("replikv: bench: warming up for 1 s\n"
                "   1 s      7662/s  p50 2.000 ms  p99 9.500 ms  0 errors\n"
                "replikv: bench: get bench1: unavailable: no answer\n"
                "  12 s         0/s  p50 0.000 ms  p99 0.000 ms  31 errors\n")
        self.assertEqual(measure.seconds_of(said), [
            [1, 7662, 2.0, 9.5, 0], [12, 0, 0.0, 0.0, 31]])

    def test_a_fault_has_three_parts(self):
        seconds = [[i, 100, 1.0, float(i), 0] for i in range(1, 13)]
        found = {"killed_s": 4.1, "restarted_s": 8.1, "drained_s": 8.6}
        self.assertEqual(measure.phases(dict(found), seconds)["p99_ms"], {
            "up": 4.0, "down": 8.0, "draining": 10.0})
        found["drained_s"] = None
        self.assertEqual(measure.phases(found, seconds)["p99_ms"]["draining"],
                         12.0)

    def test_figures_are_medians_of_the_rounds(self):
        made = made_up(rounds=3)
        fault, put = made.workloads()[2], made.workloads()[1]
        self.assertEqual(made.spread(put, "leveldb", "per_second"),
                         (2020, 2010, 2030))
        self.assertEqual(made.seconds(put, "lsm", 2)[:2],
                         [(1, 1.02), (2, 1.02)])
        self.assertEqual(made.hints(fault, "lsm"),
                         [(3.75, 10), (5.25, 70), (7.25, 0)])
        for run in made.document["runs"][-3:]:  # a round of the fault
            run["result"]["fault"]["drained_s"] = None
        self.assertEqual(made.values(fault, "lsm", "drain_s"), [1, 1])
        self.assertEqual(made.values(put, "lsm", "drain_s"), [])

    def test_amplification_is_of_what_was_written(self):
        user = 100 * (measure.KEY_BYTES + measure.VALUE_BYTES) * 3
        for kinds, expected in (({"put": {"count": 9}}, 4.0),
                                ({"get": {"count": 9}}, None)):
            self.assertEqual(measure.amplification({"kinds": kinds}, 4 * user,
                                                   100), expected)

    def test_the_echo_is_as_long_as_a_put(self):
        put = rkv.Envelope(version=1, write=rkv.Write(
            bucket=cluster.BUCKET, key=b"k" * measure.KEY_BYTES,
            value=bytes(measure.VALUE_BYTES), request_id=bytes(16),
            timeout_ms=4500))
        self.assertEqual(8 + 4 + put.ByteSize(), limits.PUT_FRAME_BYTES)


def made_up_result(factor, fault=False):
    """A run's figures; what is compared of them is in proportion."""
    latency = {f"{mark}_us": int(factor * 1000 * (i + 1))
               for i, mark in enumerate(results.MARKS)}
    result = {
        "operations": 1000, "per_second": round(1000 * factor), "failed": 0,
        "never_started": 0, "loaded_per_second": 1000, "latency": latency,
        "kinds": {}, "write_amplification": 2 * factor,
        "seconds": [[i, 1000, factor, 2 * factor, 0] for i in range(1, 10)],
        "nodes": [{"name": name, "engine": "lsm", "idle_bytes": 1e6,
                   "peak_bytes": 2e6, "resident_peak_bytes": 3e6,
                   "disk_bytes": 4e6} for name in ("n1", "n2", "n3")]}
    if fault:
        result["fault"] = measure.phases({
            "node": "n3", "engine": "lsm", "killed_s": 3, "restarted_s": 6,
            "ready_s": 6.5, "drained_s": 7, "hints_max": 70,
            "hints": [[3.5, 10], [5, 70], [7, 0]]}, result["seconds"])
    return result


def made_up(workloads=("a", "put", "fault"), rounds=5):
    options = {"engines": ["lsm", "leveldb", "null"], "rounds": rounds,
               "workloads": list(workloads), "seconds": 3, "keys": 10,
               "rate": 100, "sync": "batch"}
    made = results.Results.new(options, {"processors": "2 of | them"})
    for number in range(1, rounds + 1):
        made.add_limits(number, [
            {"name": "epoll", "depth": 64, "per_second": 9e5, "p50_us": 10,
             "p99_us": 20},
            {"name": "direct", "engine": "lsm", "depth": 64, "batch": 31.5,
             "per_second": 5e4}])
        for name in workloads:
            for i, engine in enumerate(options["engines"]):
                made.add(number, name, engine, made_up_result(
                    i + 1 + number / 100, name == "fault"))
    return made


class Reports(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="replikv-test-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.said = []

    def write(self, made):
        """The Markdown and the HTML."""
        report.write_report(made, self.directory, self.said.append)
        texts = []
        for name in ("report.md", "report.html"):
            with open(os.path.join(self.directory, name),
                      encoding="utf-8") as file:
                texts.append(file.read())
        return texts

    def test_without_gnuplot_it_says_how_to_get_it(self):
        path = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        os.environ["PATH"] = self.directory
        for text in self.write(made_up()):
            self.assertIn("apt-get install gnuplot-nox", text)
            self.assertIn("leveldb won with 2,030 requests/s, 1.97 times the "
                          "1,030 requests/s of lsm; that is more than the "
                          "noise (p = 0.008).", text)
        self.assertIn("gnuplot-nox", "".join(self.said))
        self.assertEqual(sorted(os.listdir(self.directory)),
                         ["report.html", "report.md"])

    @unittest.skipIf(shutil.which("gnuplot") is None, "no gnuplot")
    def test_plots_are_beside_and_inside(self):
        marked, page = self.write(made_up())
        shown = re.findall(r"!\[[^]]*\]\(([^)]*)\)", marked)
        self.assertEqual(sorted(shown), sorted(
            os.path.basename(each) for each in
            glob.glob(os.path.join(self.directory, "*.svg"))))
        self.assertEqual(len(shown), 7)
        self.assertEqual(page.count("<svg"), 7)
        self.assertNotRegex(page, r"<script|<link|src=|@import|url\(.?http")
        ids = re.findall(r"""\bid=["']([^"']*)""", page)
        for name in shown:
            stem = name.partition(".")[0]
            self.assertTrue(any(each.startswith(stem + "-") for each in ids))
        for name in shown:
            self.expect_colours(name, "lsm", "leveldb", "null")

    def expect_colours(self, name, *engines):
        with open(os.path.join(self.directory, name),
                  encoding="utf-8") as file:
            drawn = file.read()
        for engine in engines:
            rgb = plots.COLOURS[engine][1:]
            red, green, blue = (int(rgb[i:i + 2], 16) for i in (0, 2, 4))
            with self.subTest(name, engine=engine):
                self.assertRegex(
                    drawn, rf"rgb\( *{red}, *{green}, *{blue}\)")

    def test_it_is_made_of_what_there_is(self):
        made = made_up()
        made.document["stopped"] = "interrupted"
        made.document["runs"] = [
            run for run in made.document["runs"]
            if run["workload"] != "fault" and
            (run["round"], run["engine"]) != (2, "lsm")]
        made.add(2, "a", "lsm", None, "n1 ended: no room")
        marked, page = self.write(made)
        for text in (marked, page):
            self.assertIn("Stopped: interrupted.", text)
            self.assertIn("n1 ended: no room", text)
            self.assertIn("(lsm has 4 of 5 rounds.)", text)
            self.assertIn("nobody won: none that competes has a result.", text)
        self.assertIn("2 of \\| them", marked)

    def test_with_nothing_measured_there_is_a_report(self):
        made = made_up()
        made.document["runs"] = made.document["limits"] = []
        for text in self.write(made):
            self.assertIn("nobody won: none that competes has a result.", text)
            self.assertIn("They were not measured.", text)


class Program(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="replikv-test-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.out = os.path.join(self.directory, "out")
        self.data = os.path.join(self.directory, "data")
        os.mkdir(self.data)

    def start(self, *arguments):
        process = subprocess.Popen(
            [os.path.join(COMPARE, "compare.py"), "--programs", BUILD,
             "--out", self.out, "--directory", self.data, "--seconds", "1",
             "--rounds", "1", "--keys", "100", "--rate", "200", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def run_it(self, *arguments, expect=0):
        process = self.start(*arguments)
        _, said = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, expect, said)
        self.expect_nothing_left()
        return said

    def nodes(self):
        """Command lines of what runs with files of ours."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as file:
                    line = file.read().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if self.data in line and "compare.py" not in line:
                found.append(line)
        return found

    def expect_nothing_left(self):
        self.assertEqual(self.nodes(), [])
        self.assertEqual(os.listdir(self.data), [])

    def read(self, name):
        with open(os.path.join(self.out, name), encoding="utf-8") as file:
            return file.read()

    def test_it_measures_and_reports(self):
        said = self.run_it("--engines", "lsm,memory", "--workloads",
                           "load,put,fault")
        self.assertIn("[10/10] round 1, ", said)
        self.assertRegex(said, r"about \d+ .*; it ends by itself after \d+")
        document = json.loads(self.read("results.json"))
        self.assertEqual({(run["workload"], run["engine"])
                          for run in document["runs"] if run["result"]},
                         set(itertools.product(("load", "put", "fault"),
                                               ("lsm", "memory", "null"))))
        by_name = {(run["workload"], run["engine"]): run["result"]
                   for run in document["runs"]}
        for (workload, engine), result in by_name.items():
            with self.subTest(workload, engine=engine):
                self.check(workload, engine, result)
        self.assertEqual({row["name"] for row in document["limits"]},
                         {*limits.WIRE, "edge", "direct"})
        marked, page = self.read("report.md"), self.read("report.html")
        for text in (marked, page):
            self.assertEqual(len(re.findall(
                r"lsm won|memory won|nobody won", text)), 4)
            self.assertIn("fewer than 4 rounds of each cannot tell", text)
        again = subprocess.run(
            [os.path.join(COMPARE, "compare.py"), "--report-only", self.out],
            capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(self.read("report.md"), marked)

    def check(self, workload, engine, result):
        self.assertGreater(result["operations"], 0)
        self.assertEqual(len(result["nodes"]), 3)
        for node in result["nodes"]:
            self.assertGreater(node["peak_bytes"], 0)
        if workload == "fault":
            fault = result["fault"]
            self.assertLess(fault["killed_s"], fault["restarted_s"])
            self.assertLess(fault["restarted_s"], fault["drained_s"])
            self.assertGreater(fault["hints_max"], 0)
        else:
            self.assertEqual(result["failed"], 0)
        if engine == "lsm":
            self.assertGreater(result["write_amplification"], 1)
        self.assertEqual(result["loaded_per_second"] is None,
                         workload == "load")

    def test_interrupted_it_reports_what_there_is(self):
        process = self.start("--engines", "lsm,null", "--workloads", "load",
                             "--rounds", "20")
        said = ""
        while "[2/60]" not in said:
            line = process.stderr.readline()
            self.assertTrue(line, said)
            said += line
        wait_for("a node of the next run", lambda: len(
            [line for line in self.nodes() if "replikvd" in line]) == 3)
        process.send_signal(signal.SIGINT)
        said += process.communicate(timeout=DEADLINE_S)[1]
        self.assertEqual(process.returncode, 128 + signal.SIGINT, said)
        self.expect_nothing_left()
        self.assertIn("Stopped: interrupted.", self.read("report.md"))
        self.assertRegex(self.read("report.html"),
                         r"has [12] of 20 rounds|has no result")

    def refuses(self, text, *arguments):
        with self.subTest(arguments):
            said = self.run_it(*arguments, expect=2)
            self.assertIn(text, said)
            self.assertNotIn("Traceback", said)

    def test_what_it_cannot_do_is_said_at_once(self):
        self.refuses("'rocksdb' is none of lsm, leveldb, lmdb, memory, mixed, "
                     "null", "--engines", "lsm,rocksdb")
        self.refuses("'e' is none of load, a, b, c", "--workloads", "a,e")
        self.refuses("--rounds: 1 to 20, not '21'", "--rounds", "21")
        self.refuses("--seconds: 1 to 3600, not '1.5'", "--seconds", "1.5")
        self.refuses("build them: cmake", "--programs", self.data)
        self.refuses("results.json: No such file", "--report-only", self.data)
        self.assertFalse(os.path.exists(self.out))
        os.mkdir(self.out)
        with open(os.path.join(self.out, "results.json"), "w",
                  encoding="utf-8") as file:
            file.write('{"format": 99}')
        self.refuses("out is not empty")
        self.refuses("its format is 99, and this program reads 1",
                     "--report-only", self.out)


if __name__ == "__main__":
    unittest.main()
