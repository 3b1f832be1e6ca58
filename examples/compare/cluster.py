# SPDX-License-Identifier: MIT
"""Three nodes on loopback, and what they take: memory, disk, bytes written."""

import contextlib
import json
import os
import signal
import socket

from processes import Failed, end, run, start

NODES = 3
BUCKET = "bench"
MIXED = ("lsm", "leveldb", "lmdb")
ENGINES = ("lsm", "leveldb", "lmdb", "memory", "mixed", "null")
# A restart finds nothing of what these were given.
KEPT_NOWHERE = ("memory", "null")
# Below those that the tests of replikv take, and far below the kernel's own,
# one of which a client might have when a node comes back for it.
PORTS_FROM, PORTS_TO = 5000, 10000
READY_S = 60
STATUS_S = 30
ASK_MS = 1000
REFUSED, UNKNOWN = 3, 4  # exit statuses of `replikv`, which has printed then


def engines_of(name):
    """The engine of each node."""
    return MIXED if name == "mixed" else (name,) * NODES


def is_free(port):
    with socket.socket() as probe:
        # As nng does: connections that ended a moment ago do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count):
    """Of two that look at once, each begins elsewhere."""
    size = PORTS_TO - PORTS_FROM
    found = []
    for i in range(size):
        port = PORTS_FROM + (os.getpid() * 16 + i) % size
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise Failed(f"no {count} ports are free between {PORTS_FROM} and "
                 f"{PORTS_TO}")


def fields_of(path):
    """A file of /proc as a dict; empty when the process is gone."""
    with contextlib.suppress(OSError):
        with open(path, encoding="ascii", errors="replace") as file:
            return dict(line.split(":", 1) for line in file if ":" in line)
    return {}


class Node:
    def __init__(self, directory, name, engine, ports):
        self.name, self.engine = name, engine
        self.client, self.peer = (f"tcp://127.0.0.1:{port}" for port in ports)
        self.data = os.path.join(directory, name)
        self.config = os.path.join(directory, f"{name}.yaml")
        self.log = os.path.join(directory, f"{name}.log")
        self.process = None
        self.peak_bytes = self.resident_peak_bytes = 0
        # By the process, and by those before it.
        self.written_bytes = self.written_before = 0
        self.applied_before = 0

    def start(self, *arguments, program):
        with open(self.log, "ab") as log:
            self.process = start([program, "--config", self.config,
                                  *arguments], stderr=log, stdout=log)

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def said(self):
        """The last line of its log."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return (file.read().strip().splitlines() or ["nothing"])[-1]

    def must_be_up(self):
        if not self.is_up():
            raise Failed(f"{self.name}, on {self.engine}, ended: "
                         f"{self.said()}")

    def sample(self):
        """Peaks so far, and what was given to write. What an engine maps of
        its files is resident, but no memory that it holds. Not write_bytes,
        which counts a whole folio, up to megabytes, for each byte that makes
        it dirty; what goes to sockets is sent and not in wchar."""
        if not self.is_up():
            return
        place = f"/proc/{self.process.pid}"
        memory, io = fields_of(f"{place}/status"), fields_of(f"{place}/io")
        if "RssAnon" in memory:
            anonymous = int(memory["RssAnon"].split()[0]) * 1024
            resident = int(memory["VmHWM"].split()[0]) * 1024
            self.peak_bytes = max(self.peak_bytes, anonymous)
            self.resident_peak_bytes = max(self.resident_peak_bytes, resident)
        if "wchar" in io:
            self.written_bytes = int(io["wchar"])

    def written(self):
        return self.written_before + self.written_bytes

    def disk_bytes(self):
        """What its files take, holes left out."""
        total = 0
        for directory, _, names in os.walk(self.data):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found = os.stat(os.path.join(directory, name))
                    total += found.st_blocks * 512
        return total


class Cluster:
    """A context, which ends every node that it started."""

    def __init__(self, engine, sync, directory, programs, watch):
        ports = free_ports(2 * NODES)
        self.programs, self.watch = programs, watch
        self.nodes = [
            Node(directory, f"n{i + 1}", each, ports[2 * i:2 * i + 2])
            for i, each in enumerate(engines_of(engine))]
        for node in self.nodes:
            with open(node.config, "w", encoding="utf-8") as file:
                file.write(self.config_of(node, sync))

    def config_of(self, node, sync):
        """Everything but the engine is the same; its own settings are the
        defaults. `late wins`, so that a put is a put and reads nothing."""
        names = ", ".join(each.name for each in self.nodes)
        seeds = ", ".join(f'"{each.peer}"' for each in self.nodes
                          if each is not node)
        return (f'node: {{name: {node.name}, data_dir: "{node.data}"}}\n'
                f'listen: {{client: "{node.client}", peer: "{node.peer}"}}\n'
                f"cluster:\n  name: compare\n  replicas: {NODES}\n"
                f"  bootstrap: [{names}]\n  seeds: [{seeds}]\n"
                f"storage: {{engine: {node.engine}, sync: {sync}}}\n"
                f"buckets: [{{name: {BUCKET}, kind: lww}}]\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            end(node.process)

    def living(self):
        return [node for node in self.nodes if node.is_up()]

    def command(self, *arguments, nodes=None):
        endpoints = [part for node in nodes or self.nodes
                     for part in ("--endpoint", node.client)]
        return [self.programs.replikv, *endpoints, *arguments]

    def ask(self, what, nodes=None):
        """What each of the living nodes answers; none at all at worst."""
        text = run(self.watch, self.command(
            "--json", "--timeout", str(ASK_MS), what,
            nodes=nodes or self.living()), STATUS_S,
            statuses=(0, REFUSED, UNKNOWN))
        try:
            found = json.loads(text)
        except ValueError:
            return []
        return found if isinstance(found, list) else [found]

    def is_ready(self):
        """All have met all: a node is ready with fewer."""
        for node in self.nodes:
            node.must_be_up()
        return (len(self.nodes) == sum(bool(each.get("ready"))
                                       for each in self.ask("status")) and
                all(self.has_met_all(node) for node in self.nodes))

    def has_met_all(self, node):
        found = self.ask("members", nodes=[node])
        members = found[0].get("members", []) if found else []
        return sum(each["state"] == "alive" for each in members) == NODES

    def start(self):
        for node in self.nodes:
            node.start(program=self.programs.replikvd)
        self.watch.wait_for("the nodes to be ready", self.is_ready, READY_S)
        self.sample()

    def sample(self):
        for node in self.nodes:
            node.sample()

    def applied(self, nodes=None):
        """Writes that clients were told to be applied, by the nodes' count."""
        now = {each.get("node"): each["counters"]["writes_applied"]
               for each in self.ask("status", nodes) if "counters" in each}
        return sum(node.applied_before + now.get(node.name, 0)
                   for node in nodes or self.nodes)

    def kill(self, node):
        """As a power failure of the process: what it counted is lost, so that
        it is kept here."""
        node.sample()
        node.applied_before = self.applied([node])
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        node.written_before += node.written_bytes
        node.written_bytes = 0

    def restart(self, node):
        """An engine that keeps nothing comes back empty, which the others
        refuse unless that is said; it is filled before it votes."""
        lost = ("--replace",) if node.engine in KEPT_NOWHERE else ()
        node.start(*lost, program=self.programs.replikvd)
