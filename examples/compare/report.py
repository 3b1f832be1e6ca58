# SPDX-License-Identifier: MIT
"""report.md and report.html, from what was measured."""

import os

from cluster import KEPT_NOWHERE, NODES
from limits import PUT_FRAME_BYTES
from measure import CLIENTS, DEPTH, INFLIGHT, KEY_BYTES, VALUE_BYTES
from page import Page
from plots import draw_all
from processes import Failed
from results import measures_of
from verdict import RULE, sentence

NAME = "report"
RESULT_COLUMNS = (
    ("requests/s", "per_second", 0), ("p50 ms", "p50_ms", 2),
    ("p90 ms", "p90_ms", 2), ("p99 ms", "p99_ms", 2),
    ("p99.9 ms", "p999_ms", 2), ("max ms", "max_ms", 1),
    ("errors", "failed", 0), ("idle MB", "idle_mb", 1),
    ("peak MB", "peak_mb", 1), ("with mapped files", "resident_mb", 1),
    ("disk MB", "disk_mb", 1), ("write amplification", "amplification", 1))
FAULT_COLUMNS = (
    ("hints kept", "hints", 0), ("back after s", "ready_s", 1),
    ("drained after s", "drain_s", 1), ("p99 ms, all up", "up_ms", 1),
    ("one down", "down_ms", 1), ("draining", "draining_ms", 1),
    ("errors", "failed", 0))
# Workloads of puts alone and of gets alone, to stand beside the bare limits.
ONE_KIND = ("load", "c")
WIRE_NAMES = {
    "epoll": "echo over epoll", "stream": "echo over nng's streams",
    "reqrep": "echo over nng's REQ and REP",
    "fdatasync": "fdatasync of a 4 KiB block"}


def cell(value, decimals=0):
    return "-" if value is None else f"{value:,.{decimals}f}"


def span(found, decimals=0):
    return "-" if found is None else (f"{found[1]:,.{decimals}f} to "
                                      f"{found[2]:,.{decimals}f}")


def counted(number, what):
    return f"{number:,} {what}" + ("" if number == 1 else "s")


# --- what was done ---

def add_setup(page, results):
    options = results.document["options"]
    page.text(
        f"Three nodes on one machine and the clients beside them, a cluster "
        f"of its own for each run: the same but for the engine, with its own "
        f"defaults. N = {NODES}, reads and writes at level quorum, `sync: "
        f"{options['sync']}`, a bucket of kind `lww`. {CLIENTS} clients have "
        f"{INFLIGHT} requests each under way; keys have {KEY_BYTES} bytes, "
        f"values {VALUE_BYTES}, which do not compress. "
        f"{counted(options['keys'], 'key')} were loaded first, but for `load`. "
        f"{counted(options['rounds'], 'round')} of "
        f"{options['seconds']} s each, interleaved: a round runs each workload "
        f"on one engine after the other. Workloads at a fixed rate have "
        f"{options['rate']:,} requests/s.")
    page.text("`mixed` has one node on lsm, one on leveldb and one on lmdb. "
              "`memory` and `null` keep nothing over a restart; `null` keeps "
              "nothing at all and answers at once, so that its line is the "
              "proxy's own cost.")
    page.table(["measured on", ""], [
        [name, value] for name, value in results.document["machine"].items()])
    if results.document["stopped"]:
        page.text(f"**Stopped: {results.document['stopped']}.** What follows "
                  "is of the runs until then.")
    failures = results.failures()
    if failures:
        page.text(f"**{counted(len(failures), 'run')} failed:**")
        page.bullets([
            f"round {run['round']}, {run['workload'] or 'the bare limits'}"
            f"{', ' + run['engine'] if run['engine'] else ''}: {run['failed']}"
            for run in failures])


# --- what came of it ---

def rows_of(results, workload, columns, engines):
    return [[engine, *(cell(results.median(workload, engine, figure), decimals)
                       for _, figure, decimals in columns),
             str(len(results.runs(workload, engine)))] for engine in engines]


def add_results(page, results):
    page.head(2, "Results")
    page.text("Medians of the rounds. Latencies are of all requests of a run. "
              "Memory is of the node that took the most: idle before the "
              "load, and the peak; beside it the peak with the files that the "
              "engine maps. Disk is what a node's files take at the end. "
              "Write amplification is of all bytes that a node gives to "
              "write to files, logs included, for each byte of the keys and "
              "values of clients' writes.")
    for workload in results.workloads():
        page.head(3, f"{workload.name}: {workload.title}")
        engines = results.engines()
        page.table(["", *(name for name, *_ in RESULT_COLUMNS), "rounds"],
                   rows_of(results, workload, RESULT_COLUMNS, engines))
        if workload.is_fault:
            page.text("Of the same runs: the records that the others kept for "
                      "the node that was away, when it was ready and filled "
                      "again and when the last hint was delivered, in seconds "
                      "from its start, and the p99 of the worst second of "
                      f"each part. {', '.join(KEPT_NOWHERE)} come back empty "
                      "and are filled by the others.")
            page.table(["", *(name for name, *_ in FAULT_COLUMNS), "rounds"],
                       rows_of(results, workload, FAULT_COLUMNS, engines))
        add_behind(page, results, workload)


def add_behind(page, results, workload):
    """Who could not keep up with a fixed rate."""
    behind = [f"{engine} {cell(count)}" for engine in results.engines()
              for count in [results.median(workload, engine, "never_started")]
              if count]
    if workload.paced and behind:
        page.text("Requests that were due and never started, as all clients "
                  f"were waiting: {', '.join(behind)}.")


def add_plots(page, results, directory, say):
    page.head(2, "Plots")
    try:
        drawn, why = draw_all(results, directory)
    except Failed as error:
        drawn, why = [], f"there are no plots: {error}"
    for name, title, says in drawn:
        page.head(3, title)
        page.figure(directory, name, title, says)
    if why:
        page.text(f"**{why[0].upper()}{why[1:]}**")
        say(f"compare.py: {why}")


# --- what there is beneath it ---

def limit_row(results, label, **wanted):
    rate = results.limit("per_second", **wanted)
    return [label, str(wanted["depth"]), cell(rate and rate[0]), span(rate),
            *(cell(found and found[0], 1) for found in
              (results.limit("p50_us", **wanted),
               results.limit("p99_us", **wanted)))]


def cluster_row(results, workload, engine):
    def us(figure):
        value = results.median(workload, engine, figure)
        return cell(None if value is None else value * 1000, 1)

    rate = results.spread(workload, engine, "per_second")
    return [f"cluster on {engine}, {workload.name}", str(DEPTH),
            cell(rate and rate[0]), span(rate), us("p50_ms"), us("p99_ms")]


def add_limits(page, results):
    limits = results.document["limits"]
    page.head(2, "The bare limits")
    if not limits:
        page.text("They were not measured.")
        return
    page.text("What the parts do alone on the same machine, measured once each "
              f"round: echoes of {PUT_FRAME_BYTES} bytes, as a put has on the "
              "wire, between two processes; engines that get the records of "
              "such puts, through the storage edge of a node, and called "
              "directly with batches as large as those came to, each synced "
              "whatever `sync` is above; and one sync after the other.")
    rows = [limit_row(results, label, name=name, depth=depth)
            for name, label in WIRE_NAMES.items()
            for depth in sorted({row["depth"] for row in limits
                                 if row["name"] == name})]
    engines = list(dict.fromkeys(row["engine"] for row in limits
                                 if "engine" in row))
    for engine in engines:
        batch = results.limit("batch", name="direct", engine=engine)
        rows.append(limit_row(results, f"{engine}, storage edge", name="edge",
                              engine=engine, depth=DEPTH))
        rows.append(limit_row(
            results, f"{engine}, directly, batches of "
            f"{cell(batch and batch[0], 1)}", name="direct", engine=engine,
            depth=DEPTH))
    rows += [cluster_row(results, workload, engine)
             for workload in results.workloads()
             if workload.name in ONE_KIND for engine in results.engines()]
    page.table(["", "under way", "a second", "least to most", "p50 us",
                "p99 us"], rows)


# --- who won ---

def sentences(results):
    """(workload, sentence)"""
    for workload in results.workloads():
        for measure in measures_of(workload):
            found = {engine: results.values(workload, engine, measure.figure)
                     for engine in results.engines()}
            yield workload, sentence(measure, found, results.rounds())


def add_verdicts(page, results):
    page.head(2, "Which engine won")
    page.text(RULE)
    page.bullets([f"**{workload.name}** ({workload.title}): {text}"
                  for workload, text in sentences(results)])


def write_report(results, directory, say):
    title = "replikv: " + ", ".join(results.engines()) + " compared"
    page = Page(title)
    page.head(1, title)
    add_setup(page, results)
    add_results(page, results)
    add_plots(page, results, directory, say)
    add_limits(page, results)
    add_verdicts(page, results)
    page.write(directory, NAME)
    for workload, text in sentences(results):
        say(f"{workload.name}: {text}")
    say(f"report: {os.path.join(directory, NAME + '.html')}")
