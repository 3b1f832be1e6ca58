#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a node costs while it does nothing: three nodes with an empty store,
for each engine.

    cmake --preset release && cmake --build --preset release
    ./tests/bench/idle_bench.py

start    from starting the last of three nodes to its being ready
restart  the same of one node that was stopped, with two running
memory   resident, of the largest node; of that, what is not a mapped file
cpu      of one core, of the busiest node, while idle

Medians over the rounds. The exit status is 1 if a target is missed."""

import argparse
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench_load  # noqa: E402, F401 (which build it is, and the harness)
from harness import Cluster, PERSISTENT  # noqa: E402

# What a newcomer is promised, and where it is measured from.
TARGETS = {"start_s": 1.0, "restart_s": 1.0, "memory_mb": 20.0,
           "cpu_percent": 1.0}
POLL_S = 0.002
DEADLINE_S = 30


def seconds_to_ready(node):
    """From exec on. The poll is finer than the harness's."""
    began = time.monotonic()
    node.start()
    while not node.is_ready():
        assert time.monotonic() - began < DEADLINE_S, node.said()
        time.sleep(POLL_S)
    return time.monotonic() - began


def cpu_seconds(node):
    with open(f"/proc/{node.process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status_field(node, name):
    with open(f"/proc/{node.process.pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    raise AssertionError(f"no {name}")


def measure(engine, idle_s):
    """One round: the figures of the worst of three nodes."""
    with Cluster(engine) as cluster:
        *others, last = cluster.nodes
        for node in cluster.nodes:
            node.write_config()
        for node in others:
            node.start()
        figures = {"start_s": seconds_to_ready(last)}
        cluster.wait_met()
        last.stop()
        # A memory node's disk is empty again, which is another matter.
        if engine in PERSISTENT:
            figures["restart_s"] = seconds_to_ready(last)
        else:
            last.start("--replace").wait_ready()
        cluster.wait_met()
        before = [cpu_seconds(node) for node in cluster.nodes]
        began = time.monotonic()
        time.sleep(idle_s)
        passed = time.monotonic() - began
        figures["cpu_percent"] = 100 * max(
            cpu_seconds(node) - spent
            for node, spent in zip(cluster.nodes, before)) / passed
        figures["memory_mb"] = max(
            status_field(node, "VmRSS") for node in cluster.nodes) / 1024
        figures["private_mb"] = max(
            status_field(node, "RssAnon") for node in cluster.nodes) / 1024
        figures["threads"] = max(
            status_field(node, "Threads") for node in cluster.nodes)
    return figures


def medians(engine, rounds, idle_s):
    measured = [measure(engine, idle_s) for _ in range(rounds)]
    return {name: round(statistics.median(each[name] for each in measured), 3)
            for name in measured[0]}


def limit(name):
    return f"< {TARGETS[name]:g}" if name in TARGETS else ""


def main():
    parser = argparse.ArgumentParser(
        description="Three idle nodes: time to ready, memory, CPU.")
    parser.add_argument("engines", nargs="*",
                        default=["lsm", "leveldb", "lmdb", "memory"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=float, default=10, metavar="SECONDS")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    columns = ("start_s", "restart_s", "memory_mb", "private_mb",
               "cpu_percent", "threads")
    if not options.json:
        print("engine  ", *(f"{name:>11}" for name in columns))
        print("target  ", *(f"{limit(name):>11}" for name in columns),
              flush=True)
    results = {}
    for engine in options.engines:
        results[engine] = found = medians(engine, options.rounds, options.idle)
        if not options.json:
            print(f"{engine:8}", *(f"{found.get(name, '-'):>11}"
                                   for name in columns), flush=True)
    missed = [f"{engine}.{name}" for engine, found in results.items()
              for name, target in TARGETS.items()
              if found.get(name, 0) >= target]
    if options.json:
        print(json.dumps({"targets": TARGETS, "rounds": options.rounds,
                          "idle_s": options.idle, "engines": results,
                          "missed": missed}, indent=2))
    elif missed:
        print("missed:", ", ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
