#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What anti-entropy costs three nodes, and how fast it mends.

    cmake --preset release && cmake --build --preset release
    ./tests/bench/repair_bench.py            # ten minutes, a million keys
    ./tests/bench/repair_bench.py --keys 100000 --rounds 1

equal       bytes between nodes, and reads of engines, while all compare all
            that they hold, which is equal; less what they say to each other
            in as much time without it
differing   bytes between nodes while a thousand keys that one node missed are
            mended, at most 1.5 times those of the keys and of their records as
            they are stored, and 256 KiB
kept        keys a second at which trees are built anew after SIGKILL, and how
            many are built after a clean stop
load        throughput of puts and gets while one repair after the other reads
            all that the engines hold, over that without; the median of the
            rounds

The exit status is 1 if a limit is not reached."""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bench_load import SECTIONS, load  # noqa: E402
from harness import REPLIKV, Cluster, rkv, wait_for  # noqa: E402

KIB = 1024
VALUE_BYTES, KEY_BYTES, MISSED = 100, 17, 1000
WAIT_S = 600
LIMITS = {"equal_bytes": 64 * KIB, "equal_reads": 0, "built_after_stop": 0}
FLOORS = {"built_keys_per_s": 200000, "puts_beside": 0.95, "gets_beside": 0.95}


def say(text):
    print(text, file=sys.stderr, flush=True)


def counters(node):
    with contextlib.closing(node.client()) as client:
        return client.counters()


def total(nodes, name):
    return sum(counters(node)[name] for node in nodes)


def wait_trees(nodes):
    """All are built and saved nowhere."""
    for node in nodes:
        with contextlib.closing(node.client()) as client:
            partitions = client.admin(rkv.Admin.STATUS).partitions
            wait_for("its trees", lambda client=client, partitions=partitions:
                     client.counters()["trees_built"] >= partitions, WAIT_S)


def repair(nodes, *arguments):
    done = subprocess.run([REPLIKV, "repair", *arguments], check=False,
                          capture_output=True, text=True, env=dict(
                              os.environ, REPLIKV_ENDPOINTS=",".join(
                                  node.endpoint() for node in nodes)))
    assert done.returncode == 0, done.stderr


# --- equal replicas ---

def measure_equal(nodes):
    repair(nodes)  # what was on its way
    before = {name: total(nodes, name)
              for name in ("peer_bytes_out", "storage_reads", "exchanges")}
    begin = time.monotonic()
    repair(nodes)
    took = time.monotonic() - begin
    after = {name: total(nodes, name) for name in before}
    # What they gossip, in as much time.
    time.sleep(took)
    idle = total(nodes, "peer_bytes_out") - after["peer_bytes_out"]
    assert after["exchanges"] - before["exchanges"] >= 6
    return {"equal_bytes": after["peer_bytes_out"] -
            before["peer_bytes_out"] - idle,
            "equal_reads": after["storage_reads"] - before["storage_reads"],
            "equal_s": took}


# --- a thousand that differ ---

def miss(cluster):
    """Writes of new keys that n3 does not get."""
    one, _, three = cluster.nodes
    three.kill()
    wait_for("its death to be noticed", lambda: all(
        node.members()["n3"] == rkv.DEAD for node in cluster.nodes[:2]))
    with contextlib.closing(one.client()) as client:
        for i in range(MISSED):
            result, _ = client.put(b"missed%011d" % i, bytes(VALUE_BYTES),
                                   bucket="latest")
            assert result.outcome == rkv.APPLIED
    three.start()
    cluster.wait_met()


def measure_differing(cluster):
    nodes = cluster.nodes
    before = total(nodes, "peer_bytes_out")
    with contextlib.closing(nodes[0].client()) as client:
        state = client.admin(rkv.Admin.EXPLAIN, bucket="latest",
                             key=b"missed%011d" % 0).replica_states[0]
    begin = time.monotonic()
    repair(nodes[2:])
    took = time.monotonic() - begin
    moved = total(nodes, "peer_bytes_out") - before
    pulled = counters(nodes[2])["keys_pulled"]
    assert pulled >= MISSED, pulled
    time.sleep(took)
    idle = total(nodes, "peer_bytes_out") - before - moved
    theirs = MISSED * (KEY_BYTES + state.record_bytes)
    return {"differing_bytes": moved - idle,
            "differing_bytes_max": 1.5 * theirs + 256 * KIB,
            "differing_s": took, "differing_keys": pulled}


# --- starts ---

def measure_starts(cluster, keys):
    three = cluster.nodes[2]
    assert three.stop() == 0, three.said()
    three.start().wait_ready()
    cluster.wait_met()
    repair([three])
    built = counters(three)["trees_built"]
    three.kill()
    begin = time.monotonic()
    three.start().wait_ready()
    wait_trees([three])
    return {"built_after_stop": built,
            "built_keys_per_s": keys / (time.monotonic() - begin)}


# --- beside load ---

class Repairs(threading.Thread):
    """One after the other."""

    def __init__(self, nodes):
        super().__init__()
        self.nodes, self.count, self.ended = nodes, 0, threading.Event()

    def run(self):
        while not self.ended.is_set():
            repair(self.nodes, "--full")
            self.count += 1


def beside_repairs(nodes, *arguments):
    repairs = Repairs(nodes)
    repairs.start()
    found = load(nodes, *arguments)
    repairs.ended.set()
    repairs.join()
    assert repairs.count > 0
    return found


def measure_load(nodes, options):
    """First one of both, then the other: stores slow down as they are written
    over."""
    ratios = {"puts_beside": [], "gets_beside": []}
    for number in range(options.rounds):
        for name, mix in (("puts_beside", "put=100"),
                          ("gets_beside", "get=100")):
            arguments = (mix, options.keys, options.seconds, 3, 48)
            if number % 2 == 0:
                alone = load(nodes, *arguments)
                beside = beside_repairs(nodes, *arguments)
            else:
                beside = beside_repairs(nodes, *arguments)
                alone = load(nodes, *arguments)
            ratios[name].append(beside["per_second"] / alone["per_second"])
            say(f"{name}: {ratios[name][-1]:.2f}, "
                f"{alone['per_second']:.0f}/s alone")
    return {name: statistics.median(found) for name, found in ratios.items()}


def measure(options):
    replication = {"anti_entropy_interval_ms": 86400000,
                   "request_timeout_ms": 10000}
    found = {}
    with Cluster(options.engine, sections={
            **SECTIONS, "limits": {"hint_bytes_max": 0},
            "cluster": {"partitions": 256},
            "replication": replication}) as cluster:
        nodes = cluster.start().nodes
        say("loading")
        load(nodes, "get=100", options.keys, 1, 3, 192, "--load")
        wait_trees(nodes)
        found.update(measure_equal(nodes))
        say(f"equal: {found}")
        miss(cluster)
        wait_trees(nodes[2:])
        found.update(measure_differing(cluster))
        say(f"differing: {found}")
        found.update(measure_starts(cluster, options.keys))
        say(f"starts: {found}")
        found.update(measure_load(nodes, options))
    return found


def verdicts(found):
    limits = {**LIMITS, "differing_bytes": found["differing_bytes_max"]}
    for name, limit in limits.items():
        yield name, found[name], "at most", limit, found[name] <= limit
    for name, floor in FLOORS.items():
        yield name, found[name], "at least", floor, found[name] >= floor


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="lsm", help="(lsm)")
    parser.add_argument("--keys", type=int, default=1000000, help="(1000000)")
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--seconds", type=int, default=5,
                        help="of each measurement of load (5)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.keys < 1 or options.rounds < 1 or options.seconds < 1:
        parser.error("--keys, --rounds and --seconds: at least 1")
    found = measure(options)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value, bound, limit, reached in verdicts(found):
            print(f"{name:18} {value:>12,.2f}  {bound} {limit:,.2f}: "
                  f"{'reached' if reached else 'NOT REACHED'}")
        print(f"compared in {found['equal_s']:.2f} s; {MISSED} keys mended in "
              f"{found['differing_s']:.2f} s")
    return 0 if all(row[-1] for row in verdicts(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
