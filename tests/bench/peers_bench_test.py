#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""peers_bench says that a claim is missed when it is, from figures made up
here; reads what the tools print; and runs where no peer is installed.

    REPLIKV_BUILD=build/release ./tests/bench/peers_bench_test.py"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peers  # noqa: E402
import peers_bench  # noqa: E402

OPTIONS = types.SimpleNamespace(clients=[16, 48])
REDIS = '''\
"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",\
"p95_latency_ms","p99_latency_ms","max_latency_ms"
"GET","98039.22","0.100","0.024","0.095","0.135","0.207","0.535"
'''
WRK = '''\
Running 3s test @ http://127.0.0.1:2379
  Thread Stats   Avg      Stdev     Max   +/- Stdev
Requests/sec:   2000.00
{"requests": %d, "duration_us": 3000000, "p50_us": 400, "p99_us": 950, \
"failed": %d}
'''


def results(workload, **peers):
    """peers: by name the rates with 16 and with 48 clients, a round each."""
    made = peers_bench.Results()
    for name, rates in peers.items():
        for clients, rounds in zip(OPTIONS.clients, rates):
            for rate in rounds:
                made.add(workload, clients, name.replace("_", "-"), rate and
                         {"per_second": rate, "p99_us": 10 * rate})
    return made


def reached(workload, **peers):
    return [claim.reached for claim in
            peers_bench.claims(results(workload, **peers), OPTIONS)]


class Claims(unittest.TestCase):
    def test_puts_are_held_against_etcd_with_any_number_of_clients(self):
        for rates, expected in (([[500], [500]], True), ([[499], [900]], False),
                                ([[900], [499]], False)):
            with self.subTest(rates):
                self.assertEqual(reached("puts", replikv=rates,
                                         etcd=[[100], [100]]), [expected])

    def test_each_way_to_etcd_is_a_claim_of_its_own(self):
        self.assertEqual(
            reached("puts", replikv=[[600], [600]], etcd=[[100], [100]],
                    etcd_grpc=[[100], [200]]), [True, False])

    def test_gets_are_held_against_redis(self):
        for rate, expected in ((50, True), (49, False)):
            self.assertEqual(reached("gets", replikv=[[rate], [90]],
                                     redis=[[100], [100]]), [expected])

    def test_without_a_peer_nothing_is_claimed(self):
        self.assertEqual(reached("puts", replikv=[[1], [1]]), [])

    def test_ratio_is_the_median_of_the_rounds_that_did_not_fail(self):
        made = results("puts", replikv=[[10, 90, 40, 1000, None], []],
                       etcd=[[10, 30, 20, None, 1], []])
        self.assertEqual(made.ratio("puts", 16, "etcd"), 2)
        self.assertEqual(made.median("puts", 16, "etcd", "p99_us"), 150)
        self.assertIsNone(made.ratio("puts", 48, "etcd"))


class Tools(unittest.TestCase):
    def test_redis_benchmark(self):
        self.assertEqual(peers.redis_figures(REDIS),
                         {"per_second": 98039.22, "p99_us": 207})

    def test_wrk(self):
        self.assertEqual(
            peers.wrk_figures(WRK % (6000, 0)),
            {"per_second": 2000, "p99_us": 950, "requests": 6000})
        with self.assertRaisesRegex(peers.Failed, "3 of 6000 failed"):
            peers.wrk_figures(WRK % (6000, 3))

    def test_h2load(self):
        lines = [f"16100000{us:04} 200 {us}" for us in range(1000, 0, -1)]
        self.assertEqual(
            peers.h2load_figures(lines, 2),
            {"per_second": 500, "p99_us": 991, "requests": 1000})
        for bad in ([], ["1 200 5", "2 503 5"], ["1 -1 5"]):
            with self.assertRaises(peers.Failed):
                peers.h2load_figures(bad, 2)

    def test_a_put_by_grpc_is_a_length_and_a_message(self):
        self.assertEqual(peers.grpc_put(b"key", b"value"),
                         b"\0\0\0\0\x0c\x0a\x03key\x12\x05value")


class Table(unittest.TestCase):
    def test_has_rates_and_ratios_and_says_what_is_a_constant(self):
        made = results("gets", replikv=[[6000], [8000]], redis=[[9000], [9000]])
        options = types.SimpleNamespace(rounds=1, seconds=2, **vars(OPTIONS))
        found = list(peers_bench.claims(made, options))
        with contextlib.redirect_stdout(io.StringIO()) as said:
            peers_bench.print_all(made, options, ["redis"], found)
        for line in (r"replikv, a second +6,000 +8,000\n",
                     r"replikv/redis +0\.67 +0\.89\n",
                     r"Constants, not measured here(.|\n)*"
                     r"16 clients: 25,000 puts/s, 21,000 gets/s",
                     r"reached  at least 0\.5 times redis in gets: 0\.67 with"):
            self.assertRegex(said.getvalue(), line)
        self.assertNotIn("etcd", said.getvalue())


class Program(unittest.TestCase):
    def test_wrong_numbers_are_named(self):
        for option, text in (("--clients", "16,x"), ("--rounds", "0")):
            done = subprocess.run(
                [sys.executable, peers_bench.__file__, option, text],
                capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn(f'{option}: 1 to 1000000, not "{text[-1]}"',
                          done.stderr)

    def test_without_peers_it_measures_what_is_there(self):
        # Nothing but what the nodes need is on the PATH.
        with tempfile.TemporaryDirectory() as directory:
            os.symlink(shutil.which("setpriv"),
                       os.path.join(directory, "setpriv"))
            done = subprocess.run(
                [sys.executable, peers_bench.__file__, "--rounds", "1",
                 "--seconds", "1", "--clients", "2", "--keys", "100",
                 "--json"], env={**os.environ, "PATH": directory},
                capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("without etcd, etcd-grpc, redis; for those: apt-get "
                      "install etcd-server nghttp2-client redis-server "
                      "redis-tools wrk", done.stderr)
        found = json.loads(done.stdout)
        runs = {(run["workload"], run["peer"]): run["rounds"]
                for run in found["runs"]}
        self.assertEqual(set(runs), {("puts", "replikv"), ("gets", "replikv")})
        for (result,) in runs.values():
            self.assertGreater(result["per_second"], 0)
            self.assertGreater(result["p99_us"], 0)
        self.assertEqual(found["claims"], [])
        self.assertEqual(len(found["dynomite_constants"]), 2)


if __name__ == "__main__":
    unittest.main()
