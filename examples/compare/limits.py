# SPDX-License-Identifier: MIT
"""What there is beneath a cluster, bare: the wire, the engine, the disk."""

import json
import os

from measure import DEPTH
from processes import Failed, run

# A put on the wire: a length of 8 and an id of 4; version, 2, and the write's
# tag and size, 3; in it the bucket, 7, key, 19, value, 102, the request's id,
# 18, and time-out, 3.
PUT_FRAME_BYTES = 8 + 4 + 2 + 3 + 7 + 19 + 102 + 18 + 3
WIRE = ("epoll", "stream", "reqrep", "fdatasync")
WIRE_S = 1
LIMIT_SLACK_S = 60


def measure_wire(programs, directory, watch):
    rows = []
    for name in WIRE:
        text = run(watch, [
            programs.wire_bench, "--json", "--rounds", "1", "--only", name,
            "--seconds", str(WIRE_S), "--bytes", str(PUT_FRAME_BYTES)],
            LIMIT_SLACK_S, directory=directory)
        rows += [{"name": row["name"], "depth": row["in_flight"],
                  "per_second": row["requests_per_s"],
                  "p50_us": row["p50_us"], "p99_us": row["p99_us"]}
                 for row in json.loads(text)["rows"]]
    return rows


def measure_engine(engine, programs, directory, watch):
    """Through the storage edge of a node, and directly with batches of the
    size that those came to; each synced."""
    text = run(watch, [programs.storage_bench, engine, str(DEPTH)],
               LIMIT_SLACK_S, environment={"TMPDIR": directory})
    fields = text.splitlines()[-1].split()
    if len(fields) != 8 or fields[:2] != [engine, str(DEPTH)]:
        raise Failed(f"storage_bench printed {text!r}")
    return [{"name": "edge", "engine": engine, "depth": DEPTH,
             "per_second": float(fields[2])},
            {"name": "direct", "engine": engine, "depth": DEPTH,
             "per_second": float(fields[6]), "batch": float(fields[5])}]


def measure_limits(engines, programs, directory, watch):
    place = os.path.join(directory, "limits")
    os.makedirs(place, exist_ok=True)
    rows = measure_wire(programs, place, watch)
    for engine in engines:
        rows += measure_engine(engine, programs, place, watch)
    return rows
