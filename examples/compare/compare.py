#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The same workloads on clusters of three nodes that differ in nothing but the
engine, and a report of it: a table for each workload, plots, what sockets, disk
and engines do alone, and a sentence for each workload that says which engine
won, by what ratio, and whether that is more than the noise.

    cmake --preset release && cmake --build --preset release
    ./examples/compare/compare.py             # how long it takes, it says first
    ./examples/compare/compare.py --quick     # one short round, and rough
    ./examples/compare/compare.py --report-only DIR   # of what is in DIR

Runs are interleaved: each round runs each workload on one engine after the
other, each time on a new cluster. `mixed` has one node on lsm, one on leveldb
and one on lmdb; `null`, which keeps nothing, is the proxy's own cost, and is
always among them. Ctrl-C ends it, with a report of what there is.

DIR gets report.html, which opens from disk and has everything in it, report.md
with the plots beside it, and results.json. Exit status: 0, or 1 if a run failed
or not all were made, 2 usage, 128 and the signal's number when interrupted."""

import argparse
import os
import shutil
import sys
import tempfile
import time
import types

import limits
import machine
import measure
from cluster import ENGINES, MIXED
from processes import Failed, Stopped, Watch
from report import write_report
from results import FIGURES, Results, measures_of

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
PROGRAMS = {"replikvd": "replikvd", "replikv": "replikv",
            "wire_bench": "wire_bench", "storage_bench": "tests/storage_bench"}
NORMAL = {"rounds": 5, "seconds": 10, "keys": 20000}
QUICK = {"rounds": 1, "seconds": 3, "keys": 2000}
# For the estimate alone: starting and ending a cluster, and what a slow machine
# loads.
CLUSTER_S, LOADED_PER_SECOND = 2.5, 4000
DRAINING_S, ENGINE_LIMIT_S = 5, 6.5
# As late as this it ends by itself.
BOUND_FACTOR, BOUND_MORE_S = 2, 60


def say(text):
    print(text, file=sys.stderr, flush=True)


# --- the command line ---

def whole(least, most):
    def parse(text):
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"{least} to {most}, not {text!r}")
        return int(text)
    return parse


def names(allowed):
    def parse(text):
        found = list(dict.fromkeys(text.split(",")))
        for name in found:
            if name not in allowed:
                raise argparse.ArgumentTypeError(
                    f"{name!r} is none of {', '.join(allowed)}")
        return found
    return parse


def parser():
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--engines", type=names(ENGINES), default=list(ENGINES),
                      help=f"with commas between, of {', '.join(ENGINES)}")
    made.add_argument("--workloads", type=names(measure.WORKLOADS),
                      default=list(measure.WORKLOADS),
                      help="with commas between, of " +
                      ", ".join(measure.WORKLOADS))
    made.add_argument("--rounds", type=whole(1, 20),
                      help=f"1 to 20; default {NORMAL['rounds']}")
    made.add_argument("--seconds", type=whole(1, 3600),
                      help="that each run is measured, 1 to 3600; a fault "
                      f"takes three times as long; default {NORMAL['seconds']}")
    made.add_argument("--keys", type=whole(1, 10000000),
                      help="loaded before all but the workload load; default "
                      f"{NORMAL['keys']}")
    made.add_argument("--rate", type=whole(1, 1000000), default=2000,
                      help="requests a second of put and fault; default 2000")
    made.add_argument("--sync", choices=("batch", "none"), default="batch",
                      help="of every node; default batch")
    made.add_argument("--quick", action="store_true",
                      help="{rounds} round of {seconds} s and {keys} keys, if "
                      "nothing else is said".format(**QUICK))
    made.add_argument("--out", metavar="DIR",
                      help="empty or new; default data/compare-DATE-TIME")
    made.add_argument("--report-only", metavar="DIR",
                      help="measure nothing; write the report of DIR anew")
    made.add_argument("--programs", metavar="DIR", help="of the build; default "
                      "$REPLIKV_BUILD, or build/release")
    made.add_argument("--directory", metavar="DIR", help="for the nodes' data, "
                      "removed again; default $TMPDIR, or /var/tmp")
    return made


def settle(options):
    for name, value in (QUICK if options.quick else NORMAL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if "null" not in options.engines:
        options.engines.append("null")
    options.out = options.out or os.path.join(
        ROOT, "data", time.strftime("compare-%Y%m%d-%H%M%S"))
    options.directory = (options.directory or os.environ.get("TMPDIR") or
                         "/var/tmp")
    return options


def find_programs(folder):
    folder = os.path.abspath(folder or os.environ.get("REPLIKV_BUILD") or
                             os.path.join(ROOT, "build", "release"))
    found = {name: os.path.join(folder, path)
             for name, path in PROGRAMS.items()}
    absent = [path for path in found.values() if not os.access(path, os.X_OK)]
    if absent:
        raise Failed(f"--programs: there is no {', no '.join(absent)}; build "
                     "them: cmake --preset release && cmake --build --preset "
                     "release")
    return types.SimpleNamespace(**found)


def make_out(path):
    try:
        os.makedirs(path, exist_ok=True)
        inside = os.listdir(path)
    except OSError as error:
        raise Failed(f"--out: {path}: {error.strerror}") from error
    if inside:
        raise Failed(f"--out: {path} is not empty; name another, or --report-"
                     "only to write its report anew")


# --- all of it ---

def run_seconds(workload, options):
    """About what one run takes."""
    load = options.keys / LOADED_PER_SECOND if workload.loads else 0
    return (CLUSTER_S + load + workload.warmup() + workload.seconds(options) +
            (DRAINING_S if workload.is_fault else 0))


def bare_engines(options):
    """Those to be called directly; null does nothing when it is called."""
    found = [each for name in options.engines
             for each in (MIXED if name == "mixed" else (name,))]
    return [each for each in dict.fromkeys(found) if each != "null"]


def limits_seconds(options):
    return (2 * len(limits.WIRE) * limits.WIRE_S +
            ENGINE_LIMIT_S * len(bare_engines(options)))


def plan(options):
    """(round, workload, engine), interleaved; None for the limits. Another
    engine begins each time, so that none always comes after the same one."""
    for number in range(1, options.rounds + 1):
        yield number, None, None
        for i, name in enumerate(options.workloads):
            first = (number + i) % len(options.engines)
            for engine in options.engines[first:] + options.engines[:first]:
                yield number, measure.WORKLOADS[name], engine


def seconds_of(step, options):
    _, workload, _ = step
    return (run_seconds(workload, options) if workload else
            limits_seconds(options))


def minutes(seconds):
    return (f"{seconds / 60:.0f} minutes" if seconds >= 90 else
            f"{seconds:.0f} s")


def told(workload, result):
    return ", ".join(
        each.what + (each.said(value) if value is not None else "-")
        for each in measures_of(workload)
        for value in [FIGURES[each.figure](result)])


class Comparison:
    def __init__(self, options, programs, results, watch):
        self.options, self.programs = options, programs
        self.results, self.watch = results, watch
        self.keys_file = None

    def step(self, number, workload, engine, directory):
        """Returns what to tell of it."""
        place = tempfile.mkdtemp(prefix="run-", dir=directory)
        # What others wrote is not this run's to wait for.
        os.sync()
        try:
            if workload is None:
                self.results.add_limits(number, limits.measure_limits(
                    bare_engines(self.options), self.programs, place,
                    self.watch))
                return "the bare limits"
            result = measure.Run(workload, self.options, number,
                                 self.watch).measure(
                engine, place, self.keys_file, self.programs)
            self.results.add(number, workload.name, engine, result)
            return f"{workload.name}, {engine}: {told(workload, result)}"
        except (Failed, OSError, ValueError, KeyError) as error:
            self.results.add(number, workload and workload.name, engine, None,
                             f"{type(error).__name__}: {error}")
            return (f"{workload.name}, {engine}" if workload else
                    "the bare limits") + f" FAILED: {error}"
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def run(self, directory):
        steps = list(plan(self.options))
        total = sum(seconds_of(step, self.options) for step in steps)
        bound = BOUND_FACTOR * total + BOUND_MORE_S
        say(f"{len(steps)} steps, about {minutes(total)}; it ends by itself "
            f"after {minutes(bound)}, and leaves {self.options.out}")
        self.watch.begin(bound)
        self.keys_file = os.path.join(directory, "keys")
        measure.write_keys(self.keys_file, self.options.keys)
        began, planned = time.monotonic(), 0
        for i, step in enumerate(steps, 1):
            text = self.step(*step, directory)
            self.results.save(self.options.out)
            planned += seconds_of(step, self.options)
            took = time.monotonic() - began
            left = (total - planned) * took / planned
            say(f"[{i}/{len(steps)}] round {step[0]}, {text}; "
                f"{minutes(left)} left")


def compare(options):
    programs = find_programs(options.programs)
    make_out(options.out)
    results = Results.new(
        {name: getattr(options, name) for name in
         ("engines", "workloads", "rounds", "seconds", "keys", "rate", "sync")},
        machine.describe(options.directory, programs.replikvd))
    watch = Watch()
    try:
        with tempfile.TemporaryDirectory(prefix="replikv-compare-",
                                         dir=options.directory) as directory:
            Comparison(options, programs, results, watch).run(directory)
    except Stopped as stopped:
        say(f"stopped: {stopped}")
        results.document["stopped"] = str(stopped)
    results.save(options.out)
    write_report(results, options.out, say)
    if watch.why:
        return watch.status
    return 1 if results.failures() else 0


def main():
    options = settle(parser().parse_args())
    try:
        if options.report_only:
            write_report(Results.load(options.report_only),
                         options.report_only, say)
            return 0
        return compare(options)
    except (Failed, OSError) as error:
        say(f"compare.py: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
