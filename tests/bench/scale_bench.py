#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a request costs as the cluster grows, N = 3 throughout, with as many
requests in flight for each node, and as the ring is cut into more partitions:
processor time of all nodes a request, and requests a second and core. On one
machine more nodes share the same cores, so the first should stay as it is.

    cmake --preset release && cmake --build --preset release
    ./tests/bench/scale_bench.py            # four minutes

Rounds are interleaved; figures are their medians, growth is over the first row
of each table."""

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
IN_FLIGHT = 16  # for each node
NODES, PARTITIONS = 3, 32  # where the other is the one that grows


def measure(options, count, partitions):
    found = {}
    in_flight = count * IN_FLIGHT
    sections = {**SECTIONS, "cluster": {"partitions": partitions}}
    with Cluster(options.engine, nodes=count, sections=sections) as cluster:
        nodes = cluster.start().nodes
        load(nodes, "get=100", options.keys, 1, count, in_flight, "--load")
        for mix in MIXES:
            before = sum(map(cpu_seconds, nodes))
            requests = load(nodes, f"{mix}=100", options.keys, options.seconds,
                            count, in_flight)["operations"]
            spent = sum(map(cpu_seconds, nodes)) - before
            found[mix] = {"cpu_us": spent * 1e6 / requests,
                          "per_s": requests / options.seconds}
    return found


def rows_of(what, sizes, rounds):
    """rounds: of each, what was found for each size."""
    rows = []
    for i, size in enumerate(sizes):
        row = {what: size}
        for mix in MIXES:
            for field in ("cpu_us", "per_s"):
                row[f"{mix}_{field}"] = statistics.median(
                    found[i][mix][field] for found in rounds)
            row[f"{mix}_growth"] = statistics.median(
                found[i][mix]["cpu_us"] / found[0][mix]["cpu_us"]
                for found in rounds)
            row[f"{mix}_per_core_s"] = 1e6 / row[f"{mix}_cpu_us"]
        rows.append(row)
    return rows


def print_table(what, rows):
    print(f"{what:10}", *(
        f"{mix + 's: ' + name:>20}" for mix in MIXES
        for name in ("us a request", "growth", "per s and core")))
    for row in rows:
        print(f"{row[what]:10}", *(
            f"{row[f'{mix}_{field}']:20,.{decimals}f}" for mix in MIXES
            for field, decimals in (("cpu_us", 1), ("growth", 2),
                                    ("per_core_s", 0))))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="3,5,7,9", help="(3,5,7,9)")
    parser.add_argument("--partitions", default="4,16,64",
                        help="(4,16,64)")
    parser.add_argument("--engine", default="lsm", help="(lsm)")
    parser.add_argument("--keys", type=int, default=100000, help="(100000)")
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--seconds", type=int, default=2,
                        help="of each measurement (2)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    counts = [int(count) for count in options.nodes.split(",")]
    cuts = [int(cut) for cut in options.partitions.split(",")]
    if min(options.rounds, options.seconds, options.keys, *counts, *cuts) < 1:
        parser.error("numbers are at least 1")
    rounds = {"nodes": [], "partitions": []}
    for number in range(1, options.rounds + 1):
        rounds["nodes"].append(
            [measure(options, count, PARTITIONS) for count in counts])
        rounds["partitions"].append(
            [measure(options, NODES, cut) for cut in cuts])
        print(f"round {number} of {options.rounds}", file=sys.stderr,
              flush=True)

    tables = {"nodes": rows_of("nodes", counts, rounds["nodes"]),
              "partitions": rows_of("partitions", cuts, rounds["partitions"])}
    if options.json:
        print(json.dumps({"engine": options.engine, "rounds": options.rounds,
                          **tables}, indent=2))
        return
    for what, rows in tables.items():
        print_table(what, rows)


if __name__ == "__main__":
    main()
