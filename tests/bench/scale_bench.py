#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a request costs as the cluster grows, N = 3 throughout: processor time
of all nodes a request, and requests a second and core. On one machine more
nodes share the same cores, so the first should stay as it is.

    cmake --preset release && cmake --build --preset release
    ./tests/bench/scale_bench.py            # two minutes

Rounds are interleaved; figures are their medians, growth is over the least
number of nodes."""

import argparse
import json
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bench_load import SECTIONS, load  # noqa: E402
from harness import Cluster  # noqa: E402
from idle_bench import cpu_seconds  # noqa: E402

MIXES = ("put", "get")
IN_FLIGHT = 48


def measure(options, count):
    found = {}
    with Cluster(options.engine, nodes=count, sections=SECTIONS) as cluster:
        nodes = cluster.start().nodes
        load(nodes, "get=100", options.keys, 1, IN_FLIGHT, IN_FLIGHT, "--load")
        for mix in MIXES:
            before = sum(map(cpu_seconds, nodes))
            requests = load(nodes, f"{mix}=100", options.keys, options.seconds,
                            IN_FLIGHT, IN_FLIGHT)["operations"]
            spent = sum(map(cpu_seconds, nodes)) - before
            found[mix] = {"cpu_us": spent * 1e6 / requests,
                          "per_s": requests / options.seconds}
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="3,5,7,9", help="(3,5,7,9)")
    parser.add_argument("--engine", default="lsm", help="(lsm)")
    parser.add_argument("--keys", type=int, default=100000, help="(100000)")
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--seconds", type=int, default=2,
                        help="of each measurement (2)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    counts = [int(count) for count in options.nodes.split(",")]
    if min(options.rounds, options.seconds, options.keys, *counts) < 1:
        parser.error("numbers are at least 1")
    rounds = []
    for number in range(1, options.rounds + 1):
        rounds.append([measure(options, count) for count in counts])
        print(f"round {number} of {options.rounds}", file=sys.stderr,
              flush=True)

    rows = []
    for i, count in enumerate(counts):
        row = {"nodes": count}
        for mix in MIXES:
            for field in ("cpu_us", "per_s"):
                row[f"{mix}_{field}"] = statistics.median(
                    found[i][mix][field] for found in rounds)
            row[f"{mix}_growth"] = statistics.median(
                found[i][mix]["cpu_us"] / found[0][mix]["cpu_us"]
                for found in rounds)
            row[f"{mix}_per_core_s"] = 1e6 / row[f"{mix}_cpu_us"]
        rows.append(row)
    if options.json:
        print(json.dumps({"engine": options.engine, "rounds": options.rounds,
                          "rows": rows}, indent=2))
        return
    print("nodes", *(f"{mix + 's: ' + name:>20}" for mix in MIXES for name in
                     ("us a request", "growth", "per s and core")))
    for row in rows:
        print(f"{row['nodes']:5}", *(
            f"{row[f'{mix}_{field}']:20,.{decimals}f}" for mix in MIXES
            for field, decimals in (("cpu_us", 1), ("growth", 2),
                                    ("per_core_s", 0))))


if __name__ == "__main__":
    main()
