#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The built-in engine beside LevelDB, RocksDB and LMDB: every workload of
engine_bench, what each engine makes of it, and whether what is claimed of lsm
is so.

    cmake --preset release && cmake --build --preset release
    ./tests/bench/engine_compare.py            # two hours, half without LMDB
    ./tests/bench/engine_compare.py --quick    # ten minutes, and rough
    ./tests/bench/engine_compare.py --keys 10000000 --value-sizes 100 --rounds 1

Runs are interleaved: a round runs each row on one engine after the other.
Figures are medians over the rounds, ratios the medians of each round's ratio.
Cold reads have data ten times the engine's cache; the page cache of the system
stays warm, for all engines alike. Rows that only read share a store, filled
once a round. Interrupted, it prints what it has. The exit status is 1 if
something claimed is missed, 2 if a run failed or is missing."""

import argparse
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BUILD = os.environ.get("REPLIKV_BUILD", os.path.join(ROOT, "build", "release"))
BENCH = os.path.join(BUILD, "tests", "engine_bench")
ENGINES = "lsm,leveldb,rocksdb,lmdb"
KEY_BYTES = 16
MIB = 1 << 20
CACHE_BYTES = 64 * MIB
MEMTABLE_BYTES = 16 * MIB
# That may be held at once: the one written to and the one being stored.
MEMTABLES = 2

# What is claimed of lsm.
LEVELDB_FLOOR = 1.2
ROCKSDB_FLOOR = 0.8
ROCKSDB_LEVEL_SHARE = 2 / 3
MEMORY_LIMIT = 1.2
DISK_LIMIT = 1.1
TAIL_LIMIT_ROCKSDB = 1.5
TAIL_LIMIT_LEVELDB = 0.1
STALL_BEYOND_SYNC_US = 20000
RECOVERY_LIMIT_S = 1.0


@dataclasses.dataclass
class Row:
    name: str
    workload: str
    threads: int = 1
    cache: str = "normal"  # warm: all fits; cold: a tenth
    only_reads: bool = False
    writes: bool = False
    floor: float = LEVELDB_FLOOR  # of LevelDB's rate; 0: nothing is claimed
    rate: str = "ops_per_s"
    tail: str = "p999_us"
    longest: str = "max_us"
    of: str = ""  # shares the runs of another row


ROWS = (
    Row("fillseq", "fillseq", writes=True),
    Row("fillrandom", "fillrandom", writes=True),
    Row("fillsync", "fillsync", writes=True),
    Row("fillsync-16", "fillsync", threads=16, writes=True),
    Row("overwrite", "overwrite", writes=True),
    Row("deleterandom", "deleterandom", writes=True),
    Row("readrandom-warm", "readrandom", cache="warm", only_reads=True),
    Row("readrandom-cold", "readrandom", cache="cold", only_reads=True),
    Row("readmissing", "readmissing", only_reads=True),
    Row("readseq", "readseq", only_reads=True, floor=1.0),
    Row("readreverse", "readreverse", only_reads=True, floor=0),
    Row("seekrandom", "seekrandom", only_reads=True),
    Row("readwhilewriting", "readwhilewriting"),
    Row("its-writer", "readwhilewriting", rate="writer_ops_per_s",
        tail="writer_p999_us", longest="writer_max_us", of="readwhilewriting"),
    Row("recovery", "recovery", floor=0),
)


def say(text):
    print(text, file=sys.stderr, flush=True)


# --- running ---

def cache_bytes(row, options, value_bytes):
    data = options.keys * (KEY_BYTES + value_bytes)
    if row.cache == "warm":
        return data * 3 // 2 + 16 * MIB
    if row.cache == "cold":
        return max(data // 10, MIB)
    return CACHE_BYTES


def engine_for(row, engine):
    """LevelDB's adapter takes one writer at a time, as the product has; of
    many threads LevelDB itself makes groups, and that is what to beat."""
    if engine == "leveldb" and row.threads > 1:
        return "leveldb-default"
    return engine


class Stop:
    """SIGINT ends the run that is on, and no other starts. A flag and not an
    exception, which could come before the run is known or leave it before it
    has ended: it would write into a directory that is being removed."""

    def __init__(self):
        self.requested = False
        self.child = None
        signal.signal(signal.SIGINT, self.request)

    def request(self, *_):
        self.requested = True
        if self.child:
            self.child.terminate()

    def run(self, command):
        """(exit status, stdout, stderr) of a command that has ended."""
        with subprocess.Popen(command, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as self.child:
            said, errors = self.child.communicate()
        return self.child.returncode, said, errors


def run(row, engine, value_bytes, options, directory, stop):
    """The result of one run, or None if it failed."""
    command = [BENCH, "--engine", engine_for(row, engine),
               "--workload", row.workload, "--keys", str(options.keys),
               "--value-size", str(value_bytes), "--threads", str(row.threads),
               "--cache-bytes", str(cache_bytes(row, options, value_bytes)),
               "--memtable-bytes", str(MEMTABLE_BYTES),
               "--compression", options.compression, "--json"]
    if row.only_reads:
        command += ["--store", os.path.join(directory,
                                            f"{engine}-{value_bytes}")]
    else:
        command += ["--directory", directory]
    # What others wrote is not this run's to wait for.
    os.sync()
    status, said, errors = stop.run(command)
    if status != 0:
        if not stop.requested:
            say(f"failed: {' '.join(command)}\n{errors.strip()}")
        return None
    return json.loads(said)


class Results:
    """What the runs gave, by row, value size and engine, a list of rounds."""

    def __init__(self):
        self.runs = {}

    def add(self, row, value_bytes, engine, result):
        key = (row.name, value_bytes, engine)
        self.runs.setdefault(key, []).append(result)

    def rounds(self, row, value_bytes, engine):
        return self.runs.get((row.of or row.name, value_bytes, engine), [])

    def median(self, row, value_bytes, engine, of):
        """Of a field's name or a function of a result; None without runs."""
        found = [of(each) if callable(of) else each.get(of)
                 for each in self.rounds(row, value_bytes, engine) if each]
        found = [each for each in found if each is not None]
        return statistics.median(found) if found else None

    def ratio(self, row, value_bytes, engines, field):
        """The median of the rounds' ratios; None if one has no runs."""
        pairs = zip(*(self.rounds(row, value_bytes, engine)
                      for engine in engines))
        found = [a[field] / b[field] for a, b in pairs
                 if a and b and b.get(field)]
        return statistics.median(found) if found else None


def measure(options, directory, results, stop):
    """Adds to results run by run, until all are there or stop is requested."""
    rows = [row for row in options.rows if not row.of]
    total = (options.rounds * len(options.value_sizes) * len(rows) *
             len(options.engines))
    done = 0
    for round_number in range(1, options.rounds + 1):
        for value_bytes in options.value_sizes:
            with tempfile.TemporaryDirectory(dir=directory) as stores:
                for row in rows:
                    for engine in options.engines:
                        result = run(row, engine, value_bytes, options, stores,
                                     stop)
                        if stop.requested:
                            return
                        results.add(row, value_bytes, engine, result)
                        done += 1
                        rate = (f"{result['ops_per_s'] / 1000:,.1f} thousand/s"
                                if result else "failed")
                        say(f"[{done}/{total}] round {round_number}, "
                            f"{value_bytes} B, {row.name}, {engine}: {rate}")


# --- the table ---

def cell(value, decimals=1):
    return "-" if value is None else f"{value:,.{decimals}f}"


def scaled(field, scale):
    """A field of a result in another unit."""
    return lambda result: (result[field] / scale if field in result else None)


def waited_us(result):
    return max(result["sync_max_us"], result["rename_max_us"])


def memory_mb(result):
    return (result["rss_peak_bytes"] - result["rss_before_bytes"]) / 1e6


def section(title, rows, columns):
    print(f"\n{title}")
    width = max(len(name) for name, _ in rows)
    for name, cells in [("", columns)] + rows:
        print(f"  {name:{width}}", *(f"{each:>12}" for each in cells))


def print_rates(results, options, value_bytes):
    peers = [peer for peer in ("leveldb", "rocksdb")
             if {"lsm", peer} <= set(options.engines)]
    rows = []
    for row in options.rows:
        if row.workload == "recovery":
            continue
        cells = [cell(results.median(row, value_bytes, engine,
                                     scaled(row.rate, 1000)))
                 for engine in options.engines]
        cells += [cell(results.ratio(row, value_bytes, ("lsm", peer),
                                     row.rate), 2) for peer in peers]
        rows.append((row.name, cells))
    if rows:
        section(f"{value_bytes} B values: thousand operations a second", rows,
                options.engines + [f"lsm/{peer}" for peer in peers])


def print_figures(results, options, value_bytes, title, rows, figure,
                  decimals=1):
    """figure(row) is a field's name, or a function of a result."""
    lines = [(row.name, [cell(results.median(row, value_bytes, engine,
                                             figure(row)), decimals)
                         for engine in options.engines]) for row in rows]
    if lines:
        section(title, lines, options.engines)


def print_table(results, options, value_bytes):
    rows = [row for row in options.rows if row.workload != "recovery"]
    writes = [row for row in rows if row.writes]
    stalls = [row for row in rows if row.writes or row.of]
    runs = [row for row in rows if not row.of]

    def figures(*arguments):
        print_figures(results, options, value_bytes, *arguments)

    print_rates(results, options, value_bytes)
    figures("p99.9, us", rows, lambda row: row.tail)
    figures("longest, ms", stalls, lambda row: scaled(row.longest, 1000), 2)
    figures("longest sync or rename meanwhile, ms", stalls,
            lambda row: lambda result: waited_us(result) / 1000, 2)
    figures("bytes given to write, of bytes of keys and values", writes,
            lambda row: "write_amplification", 2)
    figures("on disk when settled, MB", writes,
            lambda row: scaled("disk_bytes", 1e6))
    figures("peak memory above the program's own, MB", runs,
            lambda row: memory_mb)
    figures("of that and the program's own, no mapped file, MB", runs,
            lambda row: scaled("rss_anon_peak_bytes", 1e6))
    figures("processor time of an operation, all threads, us", runs,
            lambda row: "cpu_us_per_op", 2)
    figures("open after a crash with 64 MiB of log, s",
            [row for row in options.rows if row.workload == "recovery"],
            lambda row: "seconds", 2)


# --- the claims ---

@dataclasses.dataclass
class Claim:
    text: str
    reached: bool
    found: str


def ratios(results, options, peer):
    """(row, its name with the value size, lsm's rate over the peer's)"""
    for value_bytes in options.value_sizes:
        for row in options.rows:
            found = results.ratio(row, value_bytes, ("lsm", peer), row.rate)
            if row.floor and found is not None:
                yield row, f"{row.name} {value_bytes} B", found


def listed(misses):
    return ", ".join(f"{name} {found:.2f}" for name, found in misses)


def claim_leveldb(results, options):
    found = list(ratios(results, options, "leveldb"))
    misses = [(name, value) for row, name, value in found if value < row.floor]
    if found:
        yield Claim(f"at least {LEVELDB_FLOOR} times LevelDB's rate, 1.0 of "
                    "readseq", not misses,
                    f"{len(found) - len(misses)} of {len(found)} rows" +
                    ("; not " + listed(misses) if misses else ""))


def claim_rocksdb(results, options):
    found = [(name, value) for _, name, value in
             ratios(results, options, "rocksdb")]
    if not found:
        return
    level = [value for _, value in found if value >= 1]
    below = [(name, value) for name, value in found if value < 1]
    misses = [(name, value) for name, value in found if value < ROCKSDB_FLOOR]
    yield Claim("level with RocksDB on two thirds of the rows",
                len(level) >= ROCKSDB_LEVEL_SHARE * len(found),
                f"{len(level)} of {len(found)}" +
                ("; below: " + listed(below) if below else ""))
    yield Claim(f"never under {ROCKSDB_FLOOR} times RocksDB's rate",
                not misses, listed(misses) if misses else
                "lowest " + listed([min(found, key=lambda each: each[1])]))


def runs_of_lsm(results, options, wanted):
    for value_bytes in options.value_sizes:
        for row in options.rows:
            if row.of or not wanted(row):
                continue
            for result in results.rounds(row, value_bytes, "lsm"):
                if result:
                    yield f"{row.name} {value_bytes} B", row, result


def claim_memory(results, options):
    found = [(memory_mb(result) * 1e6 /
              (result["cache_bytes"] + MEMTABLES * result["memtable_bytes"]),
              name) for name, _, result in
             runs_of_lsm(results, options,
                         lambda row: row.workload != "recovery")]
    if found:
        yield Claim(f"peak memory within {MEMORY_LIMIT} of the cache and "
                    f"{MEMTABLES} memtables", max(found)[0] <= MEMORY_LIMIT,
                    f"most is {max(found)[0]:.2f}, of {max(found)[1]}")


def claim_disk(results, options):
    for row in options.rows:
        if row.workload != "overwrite":
            continue
        for value_bytes in options.value_sizes:
            found = results.ratio(row, value_bytes, ("lsm", "rocksdb"),
                                  "disk_bytes")
            if found is not None:
                yield Claim(f"disk within {DISK_LIMIT} of RocksDB's after "
                            f"overwrite {value_bytes} B", found <= DISK_LIMIT,
                            f"{found:.2f}")


def claim_tail(results, options):
    rows = [row for row in options.rows if row.workload == "fillrandom"]
    for row in rows if 1024 in options.value_sizes else []:
        for peer, limit in (("rocksdb", TAIL_LIMIT_ROCKSDB),
                            ("leveldb", TAIL_LIMIT_LEVELDB)):
            found = results.ratio(row, 1024, ("lsm", peer), row.tail)
            if found is not None:
                yield Claim(f"p99.9 of fillrandom 1024 B within {limit} of "
                            f"{peer}'s", found <= limit, f"{found:.2f}")


def claim_stall(results, options):
    found = []
    for name, row, result in runs_of_lsm(
            results, options,
            lambda row: row.writes or row.workload == "readwhilewriting"):
        longest = result["max_us" if row.writes else "writer_max_us"]
        found.append((longest - waited_us(result), longest, name))
    if found:
        beyond, longest, name = max(found)
        yield Claim(f"no stall longer than the longest sync or rename and "
                    f"{STALL_BEYOND_SYNC_US // 1000} ms",
                    beyond <= STALL_BEYOND_SYNC_US,
                    f"{longest / 1000:.1f} ms of {name}, "
                    f"{beyond / 1000:+.1f} ms of its longest")


def claim_recovery(results, options):
    found = [(result["seconds"], name) for name, _, result in
             runs_of_lsm(results, options,
                         lambda row: row.workload == "recovery")]
    if found:
        yield Claim(f"64 MiB of log recovered in {RECOVERY_LIMIT_S:g} s",
                    max(found)[0] < RECOVERY_LIMIT_S,
                    f"{max(found)[0]:.2f} s, of {max(found)[1]}")


def claims(results, options):
    checks = (claim_leveldb, claim_rocksdb, claim_memory, claim_disk,
              claim_tail, claim_stall, claim_recovery)
    return [claim for check in checks for claim in check(results, options)]


def print_claims(found):
    if found:
        print("\nWhat is claimed of lsm")
    for claim in found:
        print(f"  {'reached' if claim.reached else 'MISSED ':7}  {claim.text}:"
              f" {claim.found}")


# --- the command line ---

def names_of(text, known, what):
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"engine_compare.py: no such {what}: "
                         f"{', '.join(unknown)}; there are: "
                         f"{', '.join(known)}")
    return names


def known_engines():
    said = subprocess.run([BENCH, "--help"], capture_output=True, text=True,
                          check=True).stdout
    return said.partition("one of: ")[2].split("\n")[0].split()


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default=ENGINES, help=f"({ENGINES})")
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS),
                        help="(all): " + " ".join(row.name for row in ROWS))
    parser.add_argument("--value-sizes", default="100,1024", help="(100,1024)")
    parser.add_argument("--keys", type=int, help="(1000000)")
    parser.add_argument("--rounds", type=int, help="(5)")
    parser.add_argument("--quick", action="store_true",
                        help="200000 keys, one round")
    parser.add_argument("--compression", choices=("none", "fast"),
                        default="none")
    parser.add_argument("--directory", default=os.environ.get(
        "TMPDIR", "/var/tmp"), help="on the disk to measure (TMPDIR)")
    parser.add_argument("--json", action="store_true",
                        help="every run, and the claims")
    options = parser.parse_args()
    if not os.access(BENCH, os.X_OK):
        raise SystemExit(f"engine_compare.py: {BENCH} is not there: build the "
                         "release preset, or set REPLIKV_BUILD")
    wanted = names_of(options.rows, [row.name for row in ROWS], "row")
    options.rows = [row for row in ROWS if row.name in wanted or
                    row.of and row.of in wanted]
    if any(row.of and row.of not in wanted for row in options.rows):
        raise SystemExit("engine_compare.py: its-writer comes with "
                         "readwhilewriting")
    options.engines = names_of(options.engines, known_engines(), "engine")
    options.value_sizes = [int(size) for size in options.value_sizes.split(",")]
    options.keys = options.keys or (200000 if options.quick else 1000000)
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def rounds_of(results):
    return max((len(rounds) for rounds in results.runs.values()), default=0)


LEVELDB_NOTE = """\
Of many threads, leveldb is LevelDB without our adapter, which takes one
writer at a time."""
LMDB_NOTE = """\
LMDB reads from its map, and pays in writes: one writer at a time, each commit
writing every page on the way from the root to a change anew, as a whole. Its
file never shrinks, grows while a snapshot is held, and ends at a size set at
the open; there are no checksums. Its writes here, but in fillsync, flush
nothing, so that a power loss may lose the whole store, synced or not; as the
product has it they flush, too, at a tenth of these rates or less. Its synced
meta pages are not among the syncs."""


def notes(options):
    """What the figures alone do not say."""
    if "leveldb" in options.engines and any(row.threads > 1
                                            for row in options.rows):
        yield LEVELDB_NOTE
    if "lmdb" in options.engines:
        yield LMDB_NOTE


def print_all(results, options, found):
    print(f"{options.keys:,} keys of {KEY_BYTES} B, compression "
          f"{options.compression}, medians of {rounds_of(results)}")
    for value_bytes in options.value_sizes:
        print_table(results, options, value_bytes)
    for note in notes(options):
        print(f"\n{note}")
    print_claims(found)


def main():
    options = parse()
    results = Results()
    stop = Stop()
    with tempfile.TemporaryDirectory(prefix="engine_compare.",
                                     dir=options.directory) as directory:
        measure(options, directory, results, stop)
    if stop.requested:
        say("interrupted: this is of the runs until now")
    found = claims(results, options)
    if options.json:
        print(json.dumps({
            "runs": [{"row": name, "value_bytes": value_bytes,
                      "engine": engine, "rounds": rounds}
                     for (name, value_bytes, engine), rounds
                     in results.runs.items()],
            "claims": [dataclasses.asdict(claim) for claim in found]}))
    else:
        print_all(results, options, found)
    failed = any(None in rounds for rounds in results.runs.values())
    if stop.requested or failed:
        return 2
    return 0 if all(claim.reached for claim in found) else 1


if __name__ == "__main__":
    sys.exit(main())
