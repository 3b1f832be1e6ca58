#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Instructions that a quorum put and a quorum get cost the pure core of three
nodes together, held against core_cost.baseline.

    cmake --preset release && cmake --build --preset release --target core_cost
    ./tests/bench/core_cost.py            # compare; what CI runs
    ./tests/bench/core_cost.py --write    # make these the baseline

Callgrind counts what core_cost does between a request and its last answer; the
same program gives the same count each time, on a busy machine too. The exit
status is 1 if a count grew or shrank by more than a twentieth: smaller steps
add up, as the baseline does not follow them, and one that shrank is to be
lowered, so that it cannot grow back. Of what grew, the function that grew most
is named.

The baseline is that of Debian 12's gcc on x86-64, and of the release preset.
The C library picks its memcpy and the like by the processor: here it is told
that this one has none of what it would pick by, so that every machine runs the
same code."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("REPLIKV_BUILD",
                       os.path.join(HERE, "..", "..", "build", "release"))
PROGRAM = os.path.join(BUILD, "tests", "core_cost")
BASELINE = os.path.join(HERE, "core_cost.baseline")
MODES = ("put", "get", "put-direct", "get-direct")
# Enough that what a first request costs more is lost in rounding.
REQUESTS = 1000
# Room for what is none of ours: an update of the C library or protobuf-c.
CHANGE_MAX = 0.05
# Functions with less than this share of a count are not in the baseline.
SHARE_MIN = 0.02
# In the place of a function's name.
TOTAL = "-"
# Without these glibc 2.36 takes what every x86-64 has. The first is no feature
# but what it concludes from AVX2, before it hears that there is none.
HARDWARE = ("AVX_Fast_Unaligned_Load", "AVX512F", "AVX512VL", "AVX2", "AVX",
            "SSE4_2", "SSE4_1", "SSSE3", "ERMS", "FSRM", "BMI2", "LZCNT",
            "MOVBE", "POPCNT", "RTM")


# --- counting ---

def parse(annotated):
    """{file:function: instructions}, and the total, of what callgrind_annotate
    printed."""
    counts = {}
    for line in annotated.splitlines():
        found = re.match(r"\s*([0-9,]+)\s+(.+)$", line)
        if not found:
            continue
        count, name = int(found[1].replace(",", "")), found[2].strip()
        if name.startswith("PROGRAM TOTALS"):
            counts[TOTAL] = count
            continue
        # /a/path/file.c:function'2 [/an/object]: the second of a recursion.
        place = re.match(r"(?:.*/)?([^/:]+:[^ ]+?)(?:'\d+)?(?: \[.*\])?$", name)
        if place:
            counts[place[1]] = counts.get(place[1], 0) + count
    return counts


def environment():
    return {"PATH": os.environ["PATH"], "LC_ALL": "C",
            "GLIBC_TUNABLES": "glibc.cpu.hwcaps=" +
                              ",".join("-" + name for name in HARDWARE)}


def run(command):
    done = subprocess.run(command, capture_output=True, text=True,
                          env=environment(), check=False)
    if done.returncode != 0:
        raise SystemExit(f"core_cost.py: failed: {' '.join(command)}\n"
                         f"{done.stdout}{done.stderr}")
    return done.stdout


def count(mode, requests):
    """What the requests cost, whole."""
    with tempfile.TemporaryDirectory(prefix="core_cost.") as directory:
        profile = os.path.join(directory, "profile")
        run(["valgrind", "-q", "--tool=callgrind", "--collect-atstart=no",
             f"--callgrind-out-file={profile}", PROGRAM, mode, str(requests)])
        return parse(run(["callgrind_annotate", "--threshold=100",
                          "--auto=no", "--show-percs=no", profile]))


def per_request(counts):
    return {name: round(each / REQUESTS) for name, each in counts.items()}


# --- the baseline ---

def read_baseline(lines):
    """{mode: {function: count}}"""
    baseline = {}
    for line in lines:
        if line.strip() and not line.startswith("#"):
            mode, name, each = line.split()
            baseline.setdefault(mode, {})[name] = int(each)
    return baseline


def by_size(counts):
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def baseline_lines(found):
    yield "# Instructions a request: MODE FUNCTION COUNT, of all three nodes;"
    yield "# core_cost.py --write writes it."
    for mode, counts in found.items():
        for name, each in by_size(counts):
            if each >= SHARE_MIN * counts[TOTAL]:
                yield f"{mode} {name} {each}"


def grew_most(now, was):
    """The function, and by how much at least: what the baseline does not list
    is taken for the most that it may leave out."""
    small = round(SHARE_MIN * was[TOTAL])
    growth = {name: each - was.get(name, small) for name, each in now.items()
              if name != TOTAL}
    return max(growth.items(), key=lambda each: each[1], default=("?", 0))


def compare(found, baseline):
    """A sentence for each count that is not as it was."""
    for mode, now in found.items():
        was = baseline.get(mode)
        if was is None:
            yield f"{mode}: not in the baseline; --write puts it there"
            continue
        change, may = now[TOTAL] - was[TOTAL], CHANGE_MAX * was[TOTAL]
        said = (f"{mode}: {now[TOTAL]:,} instructions a request, "
                f"{was[TOTAL]:,} in the baseline: {change / was[TOTAL]:+.1%}")
        if change > may:
            name, more = grew_most(now, was)
            yield f"{said}, most in {name}: {more:+,}"
        elif change < -may:
            yield f"{said}; lower the baseline: core_cost.py --write"


# --- the command line ---

def print_counts(found):
    for mode, counts in found.items():
        total = counts[TOTAL]
        print(f"{mode}: {total:,} instructions a request")
        for name, each in by_size(counts)[1:6]:
            print(f"  {each / total:6.1%}  {name}")
    for mode in ("put", "get"):
        share = 1 - found[mode + "-direct"][TOTAL] / found[mode][TOTAL]
        print(f"protobuf's share of a {mode}: {share:.0%}")


def check_there():
    if not os.access(PROGRAM, os.X_OK):
        raise SystemExit(f"core_cost.py: {PROGRAM} is not there: build the "
                         "release preset, or set REPLIKV_BUILD")
    if shutil.which("valgrind") is None:
        raise SystemExit("core_cost.py: no valgrind: apt-get install valgrind")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true",
                        help="write the baseline, rather than compare")
    options = parser.parse_args()
    check_there()
    found = {mode: per_request(count(mode, REQUESTS)) for mode in MODES}
    print_counts(found)
    if options.write:
        with open(BASELINE, "w", encoding="ascii") as file:
            file.writelines(line + "\n" for line in baseline_lines(found))
        return 0
    with open(BASELINE, encoding="ascii") as file:
        complaints = list(compare(found, read_baseline(file)))
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
