# SPDX-License-Identifier: MIT
"""The figures of a report, drawn by gnuplot as SVG. One colour is one engine
throughout, of Okabe and Ito's, which also the colour-blind can tell apart."""

import os
import shutil
import subprocess

from processes import Failed
from results import MARKS

COLOURS = {"lsm": "#0072b2", "leveldb": "#e69f00", "lmdb": "#009e73",
           "memory": "#cc79a7", "mixed": "#d55e00", "null": "#8a8a8a"}
MARK_NAMES = {"p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9",
              "max": "max"}
GNUPLOT_S = 60
LEGEND_WIDTH = 100  # of an engine's name
MISSING = "?"
STYLE = """set encoding utf8
set border 3 lw 1 lc rgb "#777777"
set tics nomirror out scale 0.6 textcolor rgb "#333333"
set grid ytics back lc rgb "#e2e2e2" lt 1 lw 1
set key outside top center horizontal Left reverse samplen 1.4 height 0.4 \
textcolor rgb "#333333"
set datafile missing "?"
"""


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def terminal(path, width, height):
    return (f'set terminal svg size {width},{height} noenhanced font '
            f'"Helvetica,13" background rgb "white"\n'
            f"set output {quoted(path)}\n{STYLE}")


def draw(script):
    """An error of gnuplot's is ours: it says so."""
    try:
        done = subprocess.run(["gnuplot", "-"], input=script, text=True,
                              capture_output=True, timeout=GNUPLOT_S,
                              check=False, start_new_session=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"gnuplot: {error}") from error
    if done.returncode != 0:
        raise Failed(f"gnuplot: {done.stderr.strip()[-500:]}")


def number(value):
    return MISSING if value is None else f"{value:.6g}"


def block(name, rows):
    lines = [" ".join(cell if isinstance(cell, str) else number(cell)
                      for cell in row) for row in rows]
    return f"${name} << END\n" + "\n".join(lines) + "\nEND\n"


# --- bars ---

def bars(path, results, workloads, figure, label):
    """Groups of bars, a group for each workload: the median, and from the
    least to the most of the rounds."""
    engines = results.engines()
    rows = [[quoted(workload.name),
             *(cell for engine in engines for cell in
               results.spread(workload, engine, figure) or (None,) * 3)]
            for workload in workloads]
    plots = [f"$bars using {3 * i + 2}:{3 * i + 3}:{3 * i + 4}:xtic(1) "
             f'title "{engine}" lc rgb "{COLOURS[engine]}"'
             for i, engine in enumerate(engines)]
    draw(terminal(path, 900, 380) + block("bars", rows) + f"""
set style data histograms
set style histogram errorbars gap 1.5 lw 1.2
set style fill solid 0.85 border lc rgb "#333333"
set bars 0.4
set yrange [0:*]
set format y "%.10g"
set ylabel {quoted(label)}
set xlabel "workload"
plot {", ".join(plots)}
""")


# --- lines ---

def lines(name, series, style):
    """series: [(engine, rows)]. The data, and the plots of them."""
    data = "".join(block(f"{name}_{engine}", rows)
                   for engine, rows in series if rows)
    plots = [f'${name}_{engine} using 1:2 title "{engine}" with {style} '
             f'lc rgb "{COLOURS[engine]}"'
             for engine, rows in series if rows]
    return data, plots


def marks_of(results, workload):
    found = []
    for engine in results.engines():
        rows = [(place, results.median(workload, engine, f"{mark}_ms"))
                for place, mark in enumerate(MARKS)]
        found.append((engine, [row for row in rows if row[1]]))
    return found


def tics():
    return ", ".join(f'"{MARK_NAMES[mark]}" {place}'
                     for place, mark in enumerate(MARKS))


def legend(engines, width):
    """In one row above all panels: a key has room above its own alone."""
    each = LEGEND_WIDTH / width
    first = 0.5 + each * (0.3 - len(engines) / 2)
    return "".join(
        f'set label "{engine}" at screen {first + i * each:.3f},screen 0.96 '
        f'left point pt 7 ps 0.8 lc rgb "{COLOURS[engine]}" offset 1,0\n'
        for i, engine in enumerate(engines))


def percentiles(path, results, workloads):
    """A panel for each workload, all on one scale."""
    across = min(len(workloads), 4)
    down = -(-len(workloads) // across)
    script, panels = "", ""
    for i, workload in enumerate(workloads):
        data, plots = lines(workload.name, marks_of(results, workload),
                            "linespoints pt 7 ps 0.5 lw 1.6")
        script += data
        label = "" if i % across else "latency in ms"
        if plots:
            panels += (f"set title {quoted(workload.name)}\n"
                       f"set ylabel {quoted(label)}\n"
                       f"plot {', '.join(plots)}\nunset label\n")
    every = [value for workload in workloads
             for _, rows in marks_of(results, workload) for _, value in rows]
    width = max(250 * across + 60, LEGEND_WIDTH * (len(COLOURS) + 1))
    height = 270 * down + 60
    draw(terminal(path, width, height) + script + f"""
set logscale y
set yrange [{min(every) * 0.8:.6g}:{max(every) * 1.25:.6g}]
set xrange [-0.4:{len(MARKS) - 0.6}]
set xtics ({tics()})
set format y "%g"
unset key
{legend(results.engines(), width)}set multiplot layout {down},{across} margins \
{84 / width:.3f},0.99,{45 / height:.3f},{1 - 80 / height:.3f} \
spacing {60 / width:.3f},{95 / height:.3f}
{panels}unset multiplot
""")


def over_time(path, results, workload, panels, marks="", height=280):
    """Panels above each other with the same seconds: (label, whether its
    scale is a logarithm's, [(engine, rows)])"""
    script, drawn = "", ""
    last = max((row[0] for _, _, series in panels for _, rows in series
                for row in rows), default=1)
    for i, (label, is_log, series) in enumerate(panels):
        if is_log:
            series = [(engine, [row for row in rows if row[1] > 0])
                      for engine, rows in series]
        data, plots = lines(f"panel{i}", series,
                            "linespoints pt 7 ps 0.35 lw 1.6")
        script += data
        if plots:
            drawn += (("set logscale y\nset yrange [*:*]\n" if is_log else
                       "unset logscale\nset yrange [0:*]\n") +
                      ("" if i + 1 < len(panels) else "set xlabel " + quoted(
                          f"seconds into the workload {workload.name}") + "\n")
                      + f"set ylabel {quoted(label)}\n"
                      f"plot {', '.join(plots)}\nunset key\n")
    height = height * len(panels) + 60
    draw(terminal(path, 900, height) + script + f"""
set xrange [0:{last:.6g}]
set format y "%.10g"
set key at screen 0.5,0.995 center top maxrows 1
{marks}set multiplot layout {len(panels)},1 margins \
0.1,0.98,{62 / height:.3f},{1 - 50 / height:.3f} spacing 0,{48 / height:.3f}
{drawn}unset multiplot
""")


def latency_time(path, results, workload):
    def series(column):
        return [(engine, results.seconds(workload, engine, column))
                for engine in results.engines()]

    over_time(path, results, workload,
              [("p50 in ms", True, series(2)),
               ("p99 in ms", True, series(3))])


def moments(results, workload):
    """When the node was killed and started again, shaded."""
    for engine in results.engines():
        for result in results.runs(workload, engine):
            fault = result["fault"]
            down, up = fault["killed_s"], fault["restarted_s"]
            return (f"set object 1 rectangle from {down:.2f},graph 0 to "
                    f"{up:.2f},graph 1 behind fc rgb \"#f3f3f3\" fs solid "
                    "noborder\n"
                    f"set label 1 \"{fault['node']} is down\" at "
                    f"{(down + up) / 2:.2f},graph 0.94 center front "
                    "textcolor rgb \"#777777\"\n")
    return ""


def fault_time(path, results, workload):
    def series(column):
        return [(engine, results.seconds(workload, engine, column))
                for engine in results.engines()]

    hints = [(engine, results.hints(workload, engine))
             for engine in results.engines()]
    over_time(path, results, workload,
              [("requests/s", False, series(1)),
               ("p99 in ms", True, series(3)),
               ("hints kept", False, hints)],
              moments(results, workload), 210)


# --- all of them ---

def figures(results):
    """(file, title, what it shows, how it is drawn), of what there is."""
    workloads = [workload for workload in results.workloads()
                 if any(results.median(workload, engine, "max_ms")
                        for engine in results.engines())]
    closed = [each for each in workloads if not each.paced]
    writing = [each for each in workloads if any(
        results.values(each, engine, "amplification")
        for engine in results.engines())]

    def bar(name, title, says, some, figure, label):
        if some:
            yield (name, title, says, lambda path: bars(
                path, results, some, figure, label))

    ranges = "Bars are medians, the marks on them reach from the least to " \
             "the most of the rounds."
    yield from bar("throughput.svg", "Throughput",
                   f"Requests a second of {len(closed)} workloads in which "
                   f"clients always have as many under way. {ranges}",
                   closed, "per_second", "requests/s")
    if workloads:
        yield ("latency.svg", "Latency percentiles",
               "Of all requests of a run, medians of the rounds. The scale "
               "is a logarithm's, the same for all.",
               lambda path: percentiles(path, results, workloads))
    for each in workloads:
        if each.is_fault:
            yield (f"{each.name}.svg", "A node killed and started again",
                   "Each second, medians of the rounds: what was answered, "
                   "the p99, and how many records the nodes keep for others.",
                   lambda path, each=each: fault_time(path, results, each))
        elif each.paced:
            yield (f"{each.name}-time.svg", "Latency over time",
                   f"Each second of {each.name}, {each.title}, medians of the "
                   "rounds. Latency begins when a request was due.",
                   lambda path, each=each: latency_time(path, results, each))
    yield from bar("memory.svg", "Memory",
                   "The most that the largest node held, files that an engine "
                   f"maps left out. {ranges}", workloads, "peak_mb",
                   "MB of the largest node")
    yield from bar("disk.svg", "Disk",
                   "What the files of a node take at the end of a run, the "
                   "mean of the three: fewer or more were written the faster "
                   f"an engine is. {ranges}", workloads, "disk_mb",
                   "MB a node")
    yield from bar("amplification.svg", "Write amplification",
                   "Bytes that a node gave to write for each byte of keys and "
                   f"values of clients' writes. {ranges}", writing,
                   "amplification", "bytes for a byte")


def draw_all(results, directory):
    """[(file, title, what it shows)], and why there are none, or ""."""
    if shutil.which("gnuplot") is None:
        return [], ("there are no plots, for gnuplot is not installed: "
                    "apt-get install gnuplot-nox, and then compare.py "
                    "--report-only with this report's directory")
    drawn = []
    for name, title, says, how in figures(results):
        how(os.path.join(directory, name))
        drawn.append((name, title, says))
    return drawn, ""
