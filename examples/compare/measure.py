# SPDX-License-Identifier: MIT
"""One workload on a cluster of its own: what its clients saw, and what its
nodes took."""

import dataclasses
import json
import os
import random
import re
import time

from cluster import BUCKET, NODES, REFUSED, UNKNOWN, Cluster
from processes import Failed, Program, run

# `replikv bench` puts these under way at once: as many as the deeper of the
# bare echoes of wire_bench, so that the two can be compared.
CLIENTS, INFLIGHT = 16, 4
DEPTH = CLIENTS * INFLIGHT
KEY_BYTES, VALUE_BYTES = 17, 100  # "bench" and 12 digits
POOL_BYTES = 1 << 20  # a value is a slice of it, as in bench
WARMUP_S = 1
SAMPLE_EVERY_S = 0.2
LOAD_SLACK_S, LOADED_PER_SECOND_MIN = 60, 100
BENCH_SLACK_S = 60
DRAIN_S = 60
SECOND = re.compile(r"^ *(\d+) s +(\d+)/s +p50 ([\d.]+) ms +p99 ([\d.]+) ms +"
                    r"(\d+) errors$", re.M)


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    arguments: tuple  # of `replikv bench`
    loads: bool = True  # the keys, before it is measured
    paced: bool = False  # at a fixed rate, whatever is answered
    is_fault: bool = False

    def seconds(self, options):
        """A fault takes three parts: all up, one down, that one back."""
        return options.seconds * (3 if self.is_fault else 1)

    def warmup(self):
        return 0 if self.is_fault else WARMUP_S


WORKLOADS = {each.name: each for each in (
    Workload("load", "new keys, each written once", ("--mix", "insert=100"),
             loads=False),
    Workload("a", "YCSB A: half gets, half puts", ("--workload", "a")),
    Workload("b", "YCSB B: 95 % gets, 5 % puts", ("--workload", "b")),
    Workload("c", "YCSB C: gets", ("--workload", "c")),
    Workload("d", "YCSB D: 95 % gets of the latest, 5 % new keys",
             ("--workload", "d")),
    Workload("f", "YCSB F: half gets, half get and then put",
             ("--workload", "f")),
    Workload("put", "puts at a fixed rate", ("--mix", "put=100"), paced=True),
    Workload("fault", "half gets, half puts at a fixed rate; n3 is killed "
             "after a third of the time and started again after two",
             ("--workload", "a"), paced=True, is_fault=True),
)}
# What becomes a write of a client, of the kinds of operations that there are.
WRITING = ("put", "insert", "rmw", "delete")


def write_keys(path, count):
    """What `replikv load` reads: the keys that bench asks for. The values do
    not compress, as those of bench do not."""
    digits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    draw = random.Random(1)
    pool = "".join(draw.choices(digits, k=POOL_BYTES))
    with open(path, "w", encoding="ascii") as file:
        for i in range(count):
            at = draw.randrange(POOL_BYTES - VALUE_BYTES)
            file.write(f"bench{i:012}\t{pool[at:at + VALUE_BYTES]}\n")


class Fault:
    """The last node killed and started again, and what is kept for it
    meanwhile. Times are in seconds from the start of the load."""

    def __init__(self, cluster, third_s):
        self.cluster, self.third_s = cluster, third_s
        self.node = cluster.nodes[-1]
        self.found = {"node": self.node.name, "engine": self.node.engine,
                      "killed_s": None, "restarted_s": None, "ready_s": None,
                      "drained_s": None, "hints_max": 0, "hints": []}

    def step(self, passed_s):
        found = self.found
        if found["killed_s"] is None:
            if passed_s >= self.third_s:
                self.cluster.kill(self.node)
                found["killed_s"] = passed_s
            return
        if found["restarted_s"] is None and passed_s >= 2 * self.third_s:
            self.cluster.restart(self.node)
            found["restarted_s"] = passed_s
        if found["drained_s"] is None:
            self.look(passed_s)

    def look(self, passed_s):
        found = self.found
        answers = [each for each in self.cluster.ask("status")
                   if "hints" in each]
        hints = sum(hint["records"] for each in answers
                    for hint in each["hints"])
        found["hints"].append([round(passed_s, 2), hints])
        found["hints_max"] = max(found["hints_max"], hints)
        if found["restarted_s"] is None:
            return
        self.node.must_be_up()
        back = [each for each in answers if each["node"] == self.node.name and
                each["ready"] and each["filling"] == 0]
        if back and found["ready_s"] is None:
            found["ready_s"] = passed_s
        if back and hints == 0 and len(answers) == NODES:
            found["drained_s"] = passed_s

    def is_over(self):
        return self.found["drained_s"] is not None


class Run:
    """One workload on one engine, once."""

    def __init__(self, workload, options, number, watch):
        self.workload, self.options = workload, options
        self.number, self.watch = number, watch

    def bench_arguments(self):
        workload, options = self.workload, self.options
        arguments = ["--json", "bench", "--bucket", BUCKET,
                     "--clients", str(CLIENTS), "--inflight", str(INFLIGHT),
                     "--value-size", str(VALUE_BYTES),
                     "--seed", str(self.number),
                     "--warmup", str(workload.warmup()),
                     "--duration", str(workload.seconds(options)),
                     "--keys", str(options.keys), *workload.arguments]
        if workload.paced:
            arguments += ["--rate", str(options.rate)]
        return arguments

    def load(self, cluster, keys_file):
        """Keys a second, or None where the workload brings its own."""
        if not self.workload.loads:
            return None
        text = run(self.watch, cluster.command(
            "--json", "load", "--bucket", BUCKET, "--format", "tab",
            "--inflight", str(DEPTH), keys_file),
            LOAD_SLACK_S + self.options.keys / LOADED_PER_SECOND_MIN)
        return json.loads(text)["per_second"]

    def watch_bench(self, cluster, bench, fault):
        """Until it ends: sample, and do what the fault is due for."""
        began = time.monotonic()
        bound = (self.workload.warmup() + self.workload.seconds(self.options) +
                 BENCH_SLACK_S)
        while bench.is_running():
            passed = time.monotonic() - began
            if passed > bound:
                raise Failed(f"bench did not end within {bound} s")
            cluster.sample()
            if fault is None:
                for node in cluster.nodes:
                    node.must_be_up()
            else:
                fault.step(passed)
            self.watch.pause(SAMPLE_EVERY_S)
        cluster.sample()
        while fault and not fault.is_over():
            passed = time.monotonic() - began
            if passed > bound + DRAIN_S:
                break
            fault.step(passed)
            self.watch.pause(SAMPLE_EVERY_S)

    def measure(self, engine, directory, keys_file, programs):
        """The figures, as the report reads them."""
        with Cluster(engine, self.options.sync, directory, programs,
                     self.watch) as cluster:
            cluster.start()
            idle = {node.name: node.peak_bytes for node in cluster.nodes}
            loaded = self.load(cluster, keys_file)
            cluster.sample()
            written = sum(node.written() for node in cluster.nodes)
            applied = cluster.applied()
            fault = (Fault(cluster, self.options.seconds)
                     if self.workload.is_fault else None)
            with Program(cluster.command(*self.bench_arguments())) as bench:
                self.watch_bench(cluster, bench, fault)
                summary = json.loads(bench.output((0, REFUSED, UNKNOWN)))
                said = bench.text_of(bench.said)
            written = sum(node.written() for node in cluster.nodes) - written
            applied = cluster.applied() - applied
            nodes = [{"name": node.name, "engine": node.engine,
                      "idle_bytes": idle[node.name],
                      "peak_bytes": node.peak_bytes,
                      "resident_peak_bytes": node.resident_peak_bytes,
                      "disk_bytes": node.disk_bytes()}
                     for node in cluster.nodes]
        result = {name: summary[name] for name in
                  ("operations", "per_second", "failed", "latency", "kinds")}
        result.update(
            never_started=summary.get("never_started", 0),
            loaded_per_second=loaded, seconds=seconds_of(said), nodes=nodes,
            write_amplification=amplification(summary, written, applied))
        if fault:
            result["fault"] = phases(fault.found, result["seconds"])
        return result


def seconds_of(said):
    """What bench said each second: [s, requests/s, p50 ms, p99 ms, errors so
    far]"""
    return [[int(second), int(rate), float(p50), float(p99), int(errors)]
            for second, rate, p50, p99, errors in SECOND.findall(said)]


def amplification(summary, written, applied):
    """Bytes that the nodes wrote for each byte of keys and values that clients
    had them keep, on every node. None where nothing was written."""
    writes = any(summary["kinds"].get(kind, {}).get("count")
                 for kind in WRITING)
    if not writes or applied <= 0:
        return None
    return written / (applied * (KEY_BYTES + VALUE_BYTES) * NODES)


def phases(found, seconds):
    """With the worst second's p99 of each part: bench says a second's figures
    at its end. Draining takes one second at least."""
    def worst(first, last):
        inside = [p99 for second, _, _, p99, _ in seconds
                  if first < second <= last]
        return max(inside) if inside else None

    killed, restarted = found["killed_s"], found["restarted_s"]
    if killed is None or restarted is None:
        raise Failed("bench ended before the fault was over")
    until = found["drained_s"]
    until = float("inf") if until is None else max(until, restarted + 1) + 1
    found["p99_ms"] = {"up": worst(0, killed), "down": worst(killed, restarted),
                       "draining": worst(restarted, until)}
    return found
