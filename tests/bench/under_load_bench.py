#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a node of three costs under load, and how requests fare while another
does not answer.

    cmake --preset release && cmake --build --preset release
    ./tests/bench/under_load_bench.py            # three minutes

memory       anonymous memory of the largest node beyond what its engine says
             that it holds (memtables and cache), at most, under gets and puts
             with 192 in flight; and that, some time after, over before
connections  memory of a thousand idle client connections
paused       p99.9 with one replica stopped (SIGSTOP) over that with all well,
             of gets and of puts with 16 in flight; the median of the rounds

The exit status is 1 if a limit is not reached."""

import argparse
import contextlib
import json
import os
import resource
import signal
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bench_load import SECTIONS, load  # noqa: E402
from harness import Cluster, wait_for  # noqa: E402

MB = 1e6
LIMITS = {"memory_mb": 64, "memory_after_mb": 10, "connections_mb": 20,
          "paused_gets": 2, "paused_puts": 2}
CONNECTIONS = 1000
# After the load: reclaiming memory is nobody's hurry.
SETTLE_S = 30
KEYS = 100000


# --- memory ---

def beyond_engine_mb(node):
    """The engine's own figure is up to a second old."""
    with contextlib.closing(node.client()) as client:
        held = client.counters()["engine_memory_bytes"]
    return (node.memory_bytes() - held) / MB


class Watch(threading.Thread):
    """The most that any node takes meanwhile."""

    def __init__(self, nodes):
        super().__init__()
        self.nodes, self.most, self.ended = nodes, 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.1):
            self.most = max(self.most, *map(beyond_engine_mb, self.nodes))

    def end(self):
        self.ended.set()
        self.join()
        return self.most


def measure_memory(options):
    with Cluster(options.engine, sections=SECTIONS) as cluster:
        nodes = cluster.start().nodes
        # What is warm stays: buffers of connections, pools.
        load(nodes, "get=50,put=50", KEYS, 2, 12, 192, "--load")
        time.sleep(2)
        before = max(map(beyond_engine_mb, nodes))
        watch = Watch(nodes)
        watch.start()
        load(nodes, "get=50,put=50", KEYS, options.seconds, 12, 192)
        most = watch.end()
        after = None
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            after = max(map(beyond_engine_mb, nodes)) - before
            if after <= LIMITS["memory_after_mb"]:
                break
            time.sleep(0.5)
        return {"memory_mb": most, "memory_after_mb": after}


def measure_connections(options):
    resource.setrlimit(resource.RLIMIT_NOFILE, (
        resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with Cluster(options.engine) as cluster:
        node = cluster.start().nodes[0]
        before = node.memory_bytes()
        with contextlib.ExitStack() as stack:
            for _ in range(CONNECTIONS):
                client = stack.enter_context(
                    contextlib.closing(node.client()))
                client.get(b"nobody")
            grown = (node.memory_bytes() - before) / MB
    return {"connections_mb": grown}


# --- a replica that does not answer ---

def p999_us(options, nodes, mix):
    summary = load(nodes, mix, KEYS, options.seconds, 8, 16)
    return summary["latency"]["p999_us"]


def measure_paused(options):
    """Both kinds in one cluster: well, paused, well, paused, ..."""
    ratios = {"paused_gets": [], "paused_puts": []}
    with Cluster(options.engine, sections=SECTIONS) as cluster:
        *asked, stopped = cluster.start().nodes
        load(asked, "get=100", KEYS, 1, 8, 16, "--load")
        for _ in range(options.rounds):
            for name, mix in (("paused_gets", "get=100"),
                              ("paused_puts", "put=100")):
                well = p999_us(options, asked, mix)
                stopped.signal(signal.SIGSTOP)
                try:
                    paused = p999_us(options, asked, mix)
                finally:
                    stopped.signal(signal.SIGCONT)
                print(f"{name}: p99.9 {well / 1000:.2f} ms well, "
                      f"{paused / 1000:.2f} ms paused", file=sys.stderr,
                      flush=True)
                ratios[name].append(paused / well)
                cluster.wait_met()
                wait_for("hints to be handed over",
                         lambda: cluster.hints() == 0, 120)
    return {name: statistics.median(found) for name, found in ratios.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="lsm", help="(lsm)")
    parser.add_argument("--rounds", type=int, default=5,
                        help="of paused (5)")
    parser.add_argument("--seconds", type=int, default=5,
                        help="of each load (5)")
    parser.add_argument("--only", choices=("memory", "connections", "paused"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds: at least 1")
    found = {}
    for name, measure in (("memory", measure_memory),
                          ("connections", measure_connections),
                          ("paused", measure_paused)):
        if options.only in (None, name):
            found.update(measure(options))
    missed = [name for name, value in found.items() if value > LIMITS[name]]
    if options.json:
        print(json.dumps({"engine": options.engine, "found": found,
                          "limits": LIMITS, "missed": missed}, indent=2))
    else:
        for name, value in found.items():
            verdict = "NOT REACHED" if name in missed else "reached"
            print(f"{name:16} {value:8.2f}  at most {LIMITS[name]:3}  "
                  f"{verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
