#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Quorum puts of replikv beside etcd's and quorum gets beside Redis's, on this
machine, and whether what is claimed of them is so.

    apt-get install etcd-server nghttp2-client redis-server redis-tools wrk
    cmake --preset release && cmake --build --preset release
    ./tests/bench/peers_bench.py            # a quarter of an hour
    ./tests/bench/peers_bench.py --quick    # two minutes, and rough

Starts, on loopback, and ends whatever happens: three replikvd (lsm, sync:
batch), three etcd as they come, which sync as well, on the same disk, and one
Redis without replicas and without a disk. Peers that are not installed are left
out.

replikv      replikv bench, its clients spread over the nodes
etcd         wrk through the gRPC gateway, at the leader, which saves etcd a hop
etcd-grpc    h2load, gRPC without the gateway, at the leader; always one key
redis        redis-benchmark, without pipelining

Each client has one request under way. Keys are 16 or 17 bytes, values 100.
Runs are interleaved: a round runs each peer once after the other, while the
others idle. Figures are medians over the rounds, ratios the medians of each
round's ratio. The exit status is 1 if something claimed is missed, 2 if a run
failed."""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile

from peers import FAILURES, Etcd, EtcdCluster, EtcdGrpc, Redis, Replikv

# What is claimed of replikv: its rate, of the peer's.
PUTS_FLOOR = 5.0
GETS_FLOOR = 0.5
# Dynomite over Redis at DC_QUORUM, which syncs nothing, is in no Debian: these
# were measured once, on a machine of two cores with three nodes, and are not
# now. (clients, puts/s, gets/s); p99 was 1.1 to 3.5 ms.
DYNOMITE = ((16, 25000, 21000), (50, 35000, 31000))

# The programs each peer needs, and the packages they are in.
NEEDS = {
    "etcd": {"etcd": "etcd-server", "wrk": "wrk"},
    "etcd-grpc": {"etcd": "etcd-server", "h2load": "nghttp2-client"},
    "redis": {"redis-server": "redis-server",
              "redis-benchmark": "redis-tools"},
}
WORKLOADS = {"puts": ("replikv", "etcd", "etcd-grpc"),
             "gets": ("replikv", "redis")}


def say(text):
    print(text, file=sys.stderr, flush=True)


# --- measuring ---

class Results:
    """What the runs gave, by workload, clients and peer: a list of rounds, in
    which one that failed is None."""

    def __init__(self):
        self.runs = {}

    def add(self, workload, clients, peer, result):
        self.runs.setdefault((workload, clients, peer), []).append(result)

    def rounds(self, workload, clients, peer):
        return self.runs.get((workload, clients, peer), [])

    def median(self, workload, clients, peer, field):
        found = [each[field] for each in self.rounds(workload, clients, peer)
                 if each]
        return statistics.median(found) if found else None

    def ratio(self, workload, clients, peer):
        """The median of the rounds' ratios of replikv's rate to the peer's;
        None if one has no runs."""
        pairs = zip(self.rounds(workload, clients, "replikv"),
                    self.rounds(workload, clients, peer))
        found = [ours["per_second"] / theirs["per_second"]
                 for ours, theirs in pairs if ours and theirs]
        return statistics.median(found) if found else None


def start_all(stack, names, directory, keys):
    peers = {"replikv": Replikv(stack, keys)}
    if "etcd" in names or "etcd-grpc" in names:
        cluster = EtcdCluster(stack, directory)
        if "etcd" in names:
            peers["etcd"] = Etcd(cluster)
        if "etcd-grpc" in names:
            peers["etcd-grpc"] = EtcdGrpc(cluster, directory)
    if "redis" in names:
        peers["redis"] = Redis(stack, directory, keys)
    return peers


def measure(options, peers, results):
    for number in range(1, options.rounds + 1):
        for workload, names in WORKLOADS.items():
            for clients in options.clients:
                for name in (name for name in names if name in peers):
                    # What others wrote is not this run's to wait for.
                    os.sync()
                    try:
                        result = getattr(peers[name], workload)(
                            clients, options.seconds)
                    except FAILURES as error:
                        say(f"failed: {error}")
                        result = None
                    results.add(workload, clients, name, result)
                    rate = (f"{result['per_second']:,.0f}/s" if result
                            else "failed")
                    say(f"round {number} of {options.rounds}, {workload}, "
                        f"{clients} clients, {name}: {rate}")


# --- the table ---

def cell(value, decimals):
    return "-" if value is None else f"{value:,.{decimals}f}"


def print_table(results, options, workload, names):
    def row(title, cells):
        print(f"  {title:22}", *(f"{each:>12}" for each in cells))

    def medians(name, field, decimals):
        return [cell(results.median(workload, clients, name, field), decimals)
                for clients in options.clients]

    print(f"\n{workload}")
    row("", [f"{clients} clients" for clients in options.clients])
    for name in names:
        row(f"{name}, a second", medians(name, "per_second", 0))
    for name in names[1:]:
        row(f"replikv/{name}", [cell(results.ratio(workload, clients, name), 2)
                                for clients in options.clients])
    for name in names:
        row(f"{name}, p99 us", medians(name, "p99_us", 0))


def print_dynomite():
    print("\nConstants, not measured here and now: Dynomite over Redis at "
          "DC_QUORUM,\nthree nodes on a machine of two cores, nothing synced, "
          "p99 1.1 to 3.5 ms")
    for clients, puts, gets in DYNOMITE:
        print(f"  {clients} clients: {puts:,} puts/s, {gets:,} gets/s")


# --- the claims ---

@dataclasses.dataclass
class Claim:
    text: str
    reached: bool
    found: str


def claims(results, options):
    for workload, floor, names in (("puts", PUTS_FLOOR, ("etcd", "etcd-grpc")),
                                   ("gets", GETS_FLOOR, ("redis",))):
        for name in names:
            ratios = [(results.ratio(workload, clients, name), clients)
                      for clients in options.clients]
            ratios = [each for each in ratios if each[0] is not None]
            if ratios:
                yield Claim(
                    f"at least {floor:g} times {name} in {workload}",
                    min(ratios)[0] >= floor,
                    ", ".join(f"{ratio:.2f} with {clients} clients"
                              for ratio, clients in ratios))


def print_claims(found):
    if found:
        print("\nWhat is claimed of replikv")
    for claim in found:
        print(f"  {'reached' if claim.reached else 'MISSED ':7}  {claim.text}:"
              f" {claim.found}")


# --- the command line ---

def installed():
    """The peers that are, having said what would bring the others."""
    missing = {name: [program for program in programs
                      if shutil.which(program) is None]
               for name, programs in NEEDS.items()}
    packages = sorted({NEEDS[name][program]
                       for name, programs in missing.items()
                       for program in programs})
    if packages:
        say("peers_bench.py: without "
            f"{', '.join(name for name in missing if missing[name])}; for "
            f"those: apt-get install {' '.join(packages)}")
    return [name for name in NEEDS if not missing[name]]


def number(text):
    if not text.isdecimal() or not 1 <= int(text) <= 1000000:
        raise argparse.ArgumentTypeError(f'1 to 1000000, not "{text}"')
    return int(text)


def numbers(text):
    return [number(each) for each in text.split(",")]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=numbers, default="16,48",
                        help="(16,48)")
    parser.add_argument("--keys", type=number, default=20000,
                        help="that are read (20000)")
    parser.add_argument("--rounds", type=number, help="(5)")
    parser.add_argument("--seconds", type=number, help="of a run (10)")
    parser.add_argument("--quick", action="store_true",
                        help="3 seconds, two rounds")
    parser.add_argument("--directory", default=os.environ.get(
        "TMPDIR", "/var/tmp"), help="on the disk to measure (TMPDIR)")
    parser.add_argument("--json", action="store_true",
                        help="every run, and the claims")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (3 if options.quick else 10)
    return options


def print_json(results, found):
    print(json.dumps({
        "runs": [{"workload": workload, "clients": clients, "peer": peer,
                  "rounds": rounds} for (workload, clients, peer), rounds
                 in results.runs.items()],
        "dynomite_constants": [
            dict(zip(("clients", "puts_per_s", "gets_per_s"), each))
            for each in DYNOMITE],
        "claims": [dataclasses.asdict(claim) for claim in found]}))


def print_all(results, options, names, found):
    print(f"Medians of {options.rounds} rounds, {options.seconds} s a run")
    for workload, peers in WORKLOADS.items():
        print_table(results, options, workload,
                    [peer for peer in peers if peer in ("replikv", *names)])
    print_dynomite()
    print_claims(found)


def run_all(options, names):
    results = Results()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(
            prefix="peers_bench.", dir=options.directory))
        tempfile.tempdir = directory  # of the harness
        try:
            peers = start_all(stack, names, directory, options.keys)
        except FAILURES as error:
            say(f"peers_bench.py: {error}")
            sys.exit(2)
        measure(options, peers, results)
    return results


def main():
    options = parse()
    names = installed()
    # So that what was started is ended on this, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = run_all(options, names)
    found = list(claims(results, options))
    if options.json:
        print_json(results, found)
    else:
        print_all(results, options, names, found)
    if any(None in rounds for rounds in results.runs.values()):
        return 2
    return 0 if all(claim.reached for claim in found) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
