#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A cluster beside what the machine could do at best: quorum puts and gets of
three nodes beside a skeleton that only moves, appends and syncs what they need;
one node in memory beside bare echoes of messages of its sizes; and what
batches come to, for which there is no bare limit.

    cmake --preset release && cmake --build --preset release
    ./tests/bench/limits_bench.py            # six minutes

Rounds are interleaved, and each measures both sides; ratios are the medians of
the rounds' ratios. The exit status is 1 if a limit is not reached."""

import argparse
import json
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bench_load import BUILD, SECTIONS, load  # noqa: E402
from harness import Cluster  # noqa: E402

WIRE_BENCH = os.path.join(BUILD, "wire_bench")
CLIENTS = 3  # connections, one to each node, as the skeleton's
# As many as the skeleton has in flight.
IN_FLIGHT = (15, 48, 192)
DEPTH = 64
WARM = ("--warmup", "1")
PUT_KEYS, GET_KEYS = 1000000, 100000
# Of a request with a key of 17 bytes and a value of 100, and of its reply.
ECHO_BYTES = 160

PUTS_FLOOR = 0.6    # of the skeleton
GETS_FLOOR = 0.5    # of the skeleton without a disk
STREAM_FLOOR = 0.4  # one node, of an echo over nng's streams
REQREP_FLOOR = 4    # one node, of an echo over nng's REQ and REP
ADDED_P50_US = 30   # one node, over the echo, one request at a time

BATCH = 64
BATCHES = 12  # in flight
# Of a machine of two cores like that of README's figures.
BATCHED_PER_S = {"puts": 120000, "gets": 250000}  # operations


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure_cluster(options, found):
    with Cluster(options.engine, sections={
            **SECTIONS, "storage": {"sync": options.sync}}) as cluster:
        nodes = cluster.start().nodes
        for in_flight in IN_FLIGHT:
            found["puts", in_flight] = load(
                nodes, "put=100", PUT_KEYS, options.seconds, CLIENTS, in_flight,
                *WARM)
        batched = ("--batch", str(BATCH))
        found["puts", BATCH] = load(nodes, "put=100", PUT_KEYS, options.seconds,
                                    CLIENTS, BATCHES, *WARM, *batched)
        more = ["--load"]
        for in_flight in IN_FLIGHT:
            found["gets", in_flight] = load(
                nodes, "get=100", GET_KEYS, options.seconds, CLIENTS, in_flight,
                *WARM, *more)
            more = []
        found["gets", BATCH] = load(nodes, "get=100", GET_KEYS, options.seconds,
                                    CLIENTS, BATCHES, *WARM, *batched)


def measure_one(options, found):
    with Cluster("memory", nodes=1, replicas=1, sections=SECTIONS) as cluster:
        nodes = cluster.start().nodes
        more = ["--load"]
        for depth in (DEPTH, 1):
            found["one node", depth] = load(
                nodes, "get=100", GET_KEYS, options.seconds, 1, depth, *WARM,
                *more)
            more = []


def measure_limits(options, found):
    for name in ("skeleton", "skeleton-no-disk", "stream", "reqrep"):
        done = subprocess.run(
            [WIRE_BENCH, "--only", name, "--rounds", "1", "--seconds",
             f"{options.seconds}", "--bytes", str(ECHO_BYTES), "--json"],
            capture_output=True, text=True, check=True)
        for row in json.loads(done.stdout)["rows"]:
            found[name, row["in_flight"]] = row


def measure(options):
    rounds = []
    for number in range(1, options.rounds + 1):
        found = {}
        measure_limits(options, found)
        measure_cluster(options, found)
        measure_one(options, found)
        rounds.append(found)
        say(f"round {number} of {options.rounds}")
    return rounds


def rate(summary):
    if "requests_per_s" in summary:
        return summary["requests_per_s"]
    return summary["per_second"]


def p50_us(summary):
    return summary["p50_us"] if "p50_us" in summary else \
        summary["latency"]["p50_us"]


def comparisons():
    """(ours, beside it, the least ratio)"""
    for in_flight in IN_FLIGHT:
        yield ("puts", in_flight), ("skeleton", in_flight), PUTS_FLOOR
    for in_flight in IN_FLIGHT:
        yield ("gets", in_flight), ("skeleton-no-disk", in_flight), GETS_FLOOR
    yield ("one node", DEPTH), ("stream", DEPTH), STREAM_FLOOR
    yield ("one node", DEPTH), ("reqrep", DEPTH), REQREP_FLOOR


def rows_of(rounds):
    def median(value):
        return statistics.median(value(found) for found in rounds)

    for ours, limit, floor in comparisons():
        ratio = median(lambda found: rate(found[ours]) / rate(found[limit]))
        yield {"what": f"{ours[0]}, {ours[1]} in flight", "limit": limit[0],
               "per_s": median(lambda found: rate(found[ours])),
               "limit_per_s": median(lambda found: rate(found[limit])),
               "ratio": ratio, "floor": floor, "reached": ratio >= floor,
               "p99_us": median(
                   lambda found: found[ours]["latency"]["p99_us"])}
    for what, least in BATCHED_PER_S.items():
        per_s = median(lambda found, key=(what, BATCH): rate(found[key]))
        yield {"what": f"{what} in batches of {BATCH}, {BATCHES} in flight",
               "per_s": per_s, "least_per_s": least, "reached": per_s >= least}
    added = median(lambda found: p50_us(found["one node", 1]) -
                   p50_us(found["stream", 1]))
    yield {"what": "one node, 1 in flight: p50 over the stream's, us",
           "added_us": added, "ceiling_us": ADDED_P50_US,
           "reached": added <= ADDED_P50_US}


def show(row):
    verdict = "reached" if row["reached"] else "NOT REACHED"
    if "added_us" in row:
        print(f"{row['what']}: {row['added_us']:.1f}, at most "
              f"{row['ceiling_us']}: {verdict}")
    elif "least_per_s" in row:
        print(f"{row['what']}: {row['per_s']:,.0f} a second, at least "
              f"{row['least_per_s']:,}: {verdict}")
    else:
        print(f"{row['what']:24} {row['per_s']:>10,.0f} "
              f"{row['limit']:>16} {row['limit_per_s']:>10,.0f} "
              f"{row['ratio']:>6.2f} {row['floor']:>6} "
              f"{row['p99_us'] / 1000:>8.2f}  {verdict}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="lsm", help="(lsm)")
    parser.add_argument("--sync", default="batch",
                        choices=("batch", "interval", "none"))
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--seconds", type=int, default=2,
                        help="of each measurement (2)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds: at least 1")
    rows = list(rows_of(measure(options)))
    if options.json:
        print(json.dumps({"engine": options.engine, "sync": options.sync,
                          "rounds": options.rounds, "rows": rows}, indent=2))
    else:
        print(f"{'':24} {'per s':>10} {'beside':>16} {'per s':>10} "
              f"{'ratio':>6} {'least':>6} {'p99 ms':>8}")
        for row in rows:
            show(row)
    return 0 if all(row["reached"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
