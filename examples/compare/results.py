# SPDX-License-Identifier: MIT
"""Everything that was measured, as it is kept in results.json, and the figures
that a report makes of it."""

import json
import os
import statistics

from cluster import ENGINES, NODES
from measure import WORKLOADS
from processes import Failed
from verdict import DRAIN, RATE, TAIL

FORMAT = 1
FILE = "results.json"
MARKS = ("p50", "p90", "p99", "p999", "max")
MB = 1e6


def latency_ms(mark):
    return lambda result: result["latency"][f"{mark}_us"] / 1000


def largest_mb(field):
    """Of the node that takes the most."""
    return lambda result: max(node[field] for node in result["nodes"]) / MB


def mean_mb(field):
    return lambda result: sum(node[field] for node in
                              result["nodes"]) / NODES / MB


def of_fault(figure):
    return lambda result: figure(result["fault"]) if "fault" in result else None


def since_restart(field):
    """None if it has not happened in time."""
    return of_fault(lambda fault: None if fault[field] is None else
                    fault[field] - fault["restarted_s"])


def worst_ms(part):
    return of_fault(lambda fault: fault["p99_ms"][part])


# By name, a function of one run's result; None where it has none.
FIGURES = {
    "per_second": lambda result: result["per_second"],
    "failed": lambda result: result["failed"],
    "never_started": lambda result: result["never_started"],
    **{f"{mark}_ms": latency_ms(mark) for mark in MARKS},
    "idle_mb": largest_mb("idle_bytes"),
    "peak_mb": largest_mb("peak_bytes"),
    "resident_mb": largest_mb("resident_peak_bytes"),
    "disk_mb": mean_mb("disk_bytes"),
    "amplification": lambda result: result["write_amplification"],
    "hints": of_fault(lambda fault: fault["hints_max"]),
    "ready_s": since_restart("ready_s"),
    "drain_s": since_restart("drained_s"),
    **{f"{part}_ms": worst_ms(part) for part in ("up", "down", "draining")},
}


def measures_of(workload):
    """What it is won by."""
    if workload.is_fault:
        return (TAIL, DRAIN)
    return (TAIL,) if workload.paced else (RATE,)


class Results:
    def __init__(self, document):
        self.document = document

    @classmethod
    def new(cls, options, machine):
        return cls({"format": FORMAT, "options": options, "machine": machine,
                    "stopped": None, "runs": [], "limits": []})

    @classmethod
    def load(cls, directory):
        path = os.path.join(directory, FILE)
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
        except OSError as error:
            raise Failed(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise Failed(f"{path}: not JSON: {error}") from error
        found = document.get("format") if isinstance(document, dict) else None
        if found != FORMAT:
            raise Failed(f"{path}: its format is {found}, and this program "
                         f"reads {FORMAT}")
        unknown = [name for kind, known in (("workloads", WORKLOADS),
                                            ("engines", ENGINES))
                   for name in document["options"][kind] if name not in known]
        if unknown:
            raise Failed(f"{path}: of {', '.join(unknown)} this program knows "
                         "nothing")
        return cls(document)

    def save(self, directory):
        """Whole or not at all, after each run."""
        path = os.path.join(directory, FILE)
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(self.document, file, indent=1)
            file.write("\n")
        os.replace(path + ".new", path)

    def add(self, number, workload, engine, result, failed=None):
        self.document["runs"].append({
            "round": number, "workload": workload, "engine": engine,
            "result": result, "failed": failed})

    def add_limits(self, number, rows):
        self.document["limits"] += [{"round": number, **row} for row in rows]

    def engines(self):
        return self.document["options"]["engines"]

    def workloads(self):
        return [WORKLOADS[name] for name in
                self.document["options"]["workloads"]]

    def rounds(self):
        return self.document["options"]["rounds"]

    def runs(self, workload, engine):
        """The results that there are, in the order of their rounds."""
        return [run["result"] for run in self.document["runs"]
                if run["workload"] == workload.name and
                run["engine"] == engine and run["result"]]

    def failures(self):
        return [run for run in self.document["runs"] if not run["result"]]

    def values(self, workload, engine, figure):
        found = [FIGURES[figure](result)
                 for result in self.runs(workload, engine)]
        return [value for value in found if value is not None]

    def spread(self, workload, engine, figure):
        """(median, least, most), or None."""
        values = self.values(workload, engine, figure)
        if not values:
            return None
        return statistics.median(values), min(values), max(values)

    def median(self, workload, engine, figure):
        found = self.spread(workload, engine, figure)
        return None if found is None else found[0]

    def seconds(self, workload, engine, column):
        """[(second, median of the rounds)] of what was said each second."""
        at = {}
        for result in self.runs(workload, engine):
            for row in result["seconds"]:
                at.setdefault(row[0], []).append(row[column])
        return [(second, statistics.median(found))
                for second, found in sorted(at.items())]

    def hints(self, workload, engine, step_s=0.5):
        """[(seconds, median of the rounds)], of what each knew last."""
        at = {}
        for result in self.runs(workload, engine):
            last = {int(passed / step_s): hints
                    for passed, hints in result["fault"]["hints"]}
            for place, hints in last.items():
                at.setdefault(place, []).append(hints)
        return [((place + 0.5) * step_s, statistics.median(found))
                for place, found in sorted(at.items())]

    def limit(self, field, **wanted):
        """(median, least, most) of the rows that are so, or None."""
        found = [row[field] for row in self.document["limits"]
                 if all(row.get(name) == value
                        for name, value in wanted.items()) and field in row]
        return ((statistics.median(found), min(found), max(found))
                if found else None)
