# SPDX-License-Identifier: MIT
"""Real nodes for tests: processes of replikvd on loopback, each with a
directory of its own, and a client that speaks the wire by hand.

A cluster ends every process that it started, by its pid, whatever happened.
Conditions are waited for with a deadline, never slept for."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

BUILD = os.environ["REPLIKV_BUILD"]
sys.path.insert(0, os.path.join(BUILD, "generated", "python"))
try:
    import replikv_pb2 as rkv  # noqa: E402
except ModuleNotFoundError as missing:
    raise SystemExit(f"{BUILD} is not built whole ({missing}): build a preset "
                     "with cmake --build, or set REPLIKV_BUILD") from missing

REPLIKVD = os.path.join(BUILD, "replikvd")
REPLIKV = os.path.join(BUILD, "replikv")
PERSISTENT = ("lsm", "leveldb", "lmdb")
# Below the kernel's own range, in blocks, of which a cluster has one.
PORTS_FROM, PORTS_EACH, PORT_BLOCKS = 10000, 32, 650
DEADLINE_S = 60
# Options of the lsm engine, so that little makes many tables.
SMALL_TREE = ("{memtable_bytes: 64KiB, table_bytes: 64KiB, "
              "level1_bytes: 256KiB}")
# Of the sanitizers that the nodes may be built with.
SANITIZERS = ("WARNING: ThreadSanitizer", "AddressSanitizer",
              "LeakSanitizer", "runtime error:")


def wait_for(what, condition, deadline_s=DEADLINE_S):
    """What the condition answers once it is true."""
    end = time.monotonic() + deadline_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {deadline_s} s for {what}"
        time.sleep(0.02)


def flip(path, offset):
    """One bit of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def engines_of(text):
    """What an argument names, with commas: one engine or several."""
    return re.split(r",(?![^(]*\))", text)


def is_free(port):
    with socket.socket() as probe:
        # As nng does: connections that ended a moment ago do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def take_ports():
    """The first port of a block of free ones, and what holds the block: its
    last port, bound, until it is closed."""
    for i in range(PORT_BLOCKS):
        first = PORTS_FROM + (os.getpid() + i) % PORT_BLOCKS * PORTS_EACH
        last = first + PORTS_EACH - 1
        holder = socket.socket()
        try:
            holder.bind(("", last))
        except OSError:
            holder.close()
            continue
        if all(map(is_free, range(first, last))):
            return first, holder
        holder.close()
    raise AssertionError("no ports are free")


class Gone(Exception):
    """The connection ended or answered nothing in time."""


class Client:
    """One connection; requests one at a time, or many with send and receive.
    address: (host, port), or the path of a Unix socket, whose frames have one
    more byte in front."""

    def __init__(self, address, timeout_s=30):
        is_path = isinstance(address, str)
        self.prefix = b"\1" if is_path else b""
        self.socket = socket.socket(
            socket.AF_UNIX if is_path else socket.AF_INET)
        self.input, self.serial = b"", 0
        try:
            self.greet(address, timeout_s)
        except (OSError, Gone):
            self.close()
            raise

    def greet(self, address, timeout_s):
        self.socket.settimeout(timeout_s)
        self.socket.connect(address)
        if not self.prefix:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(bytes.fromhex("0053500000300000"))
        if self.take(8) != bytes.fromhex("0053500000310000"):
            raise Gone("no handshake")

    def close(self):
        self.socket.close()

    def take(self, size):
        while len(self.input) < size:
            try:
                more = self.socket.recv(1 << 16)
            except OSError as error:
                raise Gone(str(error)) from error
            if not more:
                raise Gone("hung up")
            self.input += more
        taken, self.input = self.input[:size], self.input[size:]
        return taken

    def send(self, envelope):
        """Returns the id under which the answer will come."""
        envelope.version = 1
        self.serial += 1
        return self.send_bytes(envelope.SerializeToString())

    def send_bytes(self, payload):
        body = struct.pack(">I", 0x80000000 | self.serial) + payload
        try:
            self.socket.sendall(self.prefix + struct.pack(">Q", len(body)) +
                                body)
        except OSError as error:
            raise Gone(str(error)) from error
        return self.serial

    def receive_bytes(self):
        """Which request is answered, and the answer as it came."""
        self.take(len(self.prefix))
        size = struct.unpack(">Q", self.take(8))[0]
        body = self.take(size)
        return struct.unpack(">I", body[:4])[0] & 0x7FFFFFFF, body[4:]

    def receive(self):
        number, payload = self.receive_bytes()
        return number, rkv.Envelope.FromString(payload)

    def call(self, envelope):
        wanted = self.send(envelope)
        while True:
            number, reply = self.receive()
            if number == wanted:
                return reply

    def put(self, key, value, context=b"", w=0, bucket="", request_id=None,
            remove=False, timeout_ms=0, ttl_ms=0):
        """The Result, and the record's context."""
        reply = self.call(rkv.Envelope(write=rkv.Write(
            bucket=bucket, key=key, value=value, context=context, w=w,
            remove=remove, timeout_ms=timeout_ms, ttl_ms=ttl_ms,
            request_id=request_id or secrets.token_bytes(16))))
        if reply.WhichOneof("body") == "result":
            return reply.result, b""
        return reply.write_reply.result, reply.write_reply.context

    def get(self, key, r=0, bucket="", timeout_ms=0):
        """The Result, the values and their context."""
        reply = self.call(rkv.Envelope(read=rkv.Read(
            bucket=bucket, key=key, r=r, timeout_ms=timeout_ms)))
        if reply.WhichOneof("body") == "result":
            return reply.result, [], b""
        read = reply.read_reply
        return read.result, list(read.values), read.context

    def admin(self, what, **fields):
        reply = self.call(rkv.Envelope(admin=rkv.Admin(what=what, **fields)))
        if reply.WhichOneof("body") == "result":
            raise AssertionError(reply.result.message)
        return reply.admin_reply

    def counters(self):
        status = self.admin(rkv.Admin.STATUS)
        return {counter.name: counter.value for counter in status.counters}

    def digest(self):
        """(records, digest) of all that this node itself holds."""
        partitions = self.admin(rkv.Admin.STATUS).partitions
        records = total = 0
        for partition in range(partitions):
            after, done = b"", False
            while not done:
                chunk = self.admin(rkv.Admin.DIGEST, partition=partition,
                                   after=after)
                assert chunk.result.status == rkv.OK, chunk.result.message
                records += chunk.records
                total ^= chunk.digest
                after, done = chunk.next, chunk.done
        return records, total


class Node:
    def __init__(self, cluster, name, engine, port, host="127.0.0.1",
                 prefix=()):
        self.cluster, self.name, self.engine = cluster, name, engine
        self.host, self.client_port, self.peer_port = host, port, port + 1
        self.prefix = list(prefix)  # of the command, for another namespace
        # Of Unix sockets for clients and peers, in place of ports.
        self.path = self.peer_path = None
        self.directory = os.path.join(cluster.directory, name)
        self.data = os.path.join(self.directory, "data")
        self.config = os.path.join(self.directory, "node.yaml")
        self.log = os.path.join(self.directory, "log")
        self.process = None
        self.has_left = False  # the cluster, for good: a test says so
        os.makedirs(self.directory)

    def address(self):
        return self.path or (self.host, self.client_port)

    def endpoint(self):
        if self.path:
            return f"ipc://{self.path}"
        return f"tcp://{self.host}:{self.client_port}"

    def peer(self):
        if self.peer_path:
            return f"ipc://{self.peer_path}"
        return f"tcp://{self.host}:{self.peer_port}"

    def write_config(self, text=None, **sections):
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text or self.cluster.config_of(self, **sections))

    def start(self, *arguments):
        assert self.process is None or self.process.poll() is not None
        with open(self.log, "ab") as log:
            # A node never outlives the test, whatever ends that.
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.prefix, REPLIKVD, "--config",
                 self.config, *arguments],
                stderr=log, stdin=subprocess.DEVNULL)
        return self

    def client(self, timeout_s=30):
        return Client(self.address(), timeout_s)

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.said()}")
        with contextlib.suppress(OSError, Gone):
            client = self.client(2)
            with contextlib.closing(client):
                return client.admin(rkv.Admin.STATUS).ready
        return False

    def wait_ready(self):
        wait_for(f"{self.name} to be ready", self.is_ready)
        return self

    def members(self):
        """The state of each, by name, as this node sees it."""
        with contextlib.closing(self.client()) as client:
            return {member.name: member.state for member in
                    client.admin(rkv.Admin.MEMBERS).members}

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def wait_listening(self):
        wait_for(f"{self.name} to listen",
                 lambda: "listen.client=" in self.said())
        return self

    def wait_end(self):
        """Its exit status, of a node that is to end by itself."""
        return self.process.wait(DEADLINE_S)

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def memory_bytes(self):
        with open(f"/proc/{self.process.pid}/status",
                  encoding="ascii") as file:
            for line in file:
                # Not VmRSS: what an engine maps of its files is no memory.
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no RssAnon")

    def descriptors(self):
        """How many are open, but for files: those come and go with the
        engine's work."""
        directory, count = f"/proc/{self.process.pid}/fd", 0
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                count += not os.readlink(
                    os.path.join(directory, name)).startswith("/")
        return count

    def sanitizer_reports(self):
        return [line for line in self.said().splitlines()
                if any(name in line for name in SANITIZERS)]


class Cluster:
    """Nodes n1, n2, ... founded together. engines: one name, or one a node."""

    def __init__(self, engines="memory", nodes=3, replicas=3, sections=None):
        if isinstance(engines, str):
            engines = [engines] * nodes
        self.replicas, self.sections = replicas, sections or {}
        self.directory = tempfile.mkdtemp(prefix="replikv-test-")
        first, self.ports = take_ports()
        self.nodes = [Node(self, f"n{i + 1}", engine, first + 2 * i)
                      for i, engine in enumerate(engines)]

    def config_of(self, node, **sections):
        seeds = [f'"{other.peer()}"' for other in self.nodes
                 if other is not node]
        parts = {
            "node": {"name": node.name, "data_dir": node.data},
            "listen": {"client": node.endpoint(), "peer": node.peer()},
            "cluster": {
                "name": "test",
                "bootstrap": f"[{', '.join(n.name for n in self.nodes)}]",
                "seeds": f"[{', '.join(seeds)}]",
                "replicas": self.replicas,
                "partitions": 32},
            "storage": {"engine": node.engine},
            # A machine may stand still for longer than the default.
            "replication": {"request_timeout_ms": 10000},
        }
        for name, keys in (*self.sections.items(), *sections.items()):
            if isinstance(keys, dict):
                parts.setdefault(name, {}).update(keys)
            else:
                parts[name] = keys
        lines = []
        for name, keys in parts.items():
            if isinstance(keys, dict):
                lines.append(f"{name}:")
                lines += [f"  {key}: {value}" for key, value in keys.items()]
            else:
                lines.append(f"{name}: {keys}")
        return "\n".join(lines) + "\n"

    def __enter__(self):
        return self

    def start(self):
        for node in self.nodes:
            node.write_config()
            node.start()
        for node in self.nodes:
            node.wait_ready()
        self.wait_met()
        return self

    def wait_met(self):
        """A node is ready once it knows a majority; level all wants all."""
        everyone = {node.name: rkv.LEFT if node.has_left else rkv.ALIVE
                    for node in self.nodes}
        wait_for("all to see all alive", lambda: all(
            node.members() == everyone for node in self.staying()))

    def staying(self):
        return [node for node in self.nodes if not node.has_left]

    def __exit__(self, kind, *_):
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
                node.process.wait()
        self.ports.close()
        started = [node for node in self.nodes if os.path.exists(node.log)]
        reports = [f"{node.name}: {line}" for node in started
                   for line in node.sanitizer_reports()]
        if kind is not None or reports:
            for node in started:
                print(f"--- {node.name} ---\n"
                      f"{node.said()[-100000 if reports else -4000:]}")
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not reports, "\n".join(reports)

    def total(self, name):
        """Of a counter, over all nodes that have not left."""
        count = 0
        for node in self.staying():
            with contextlib.closing(node.client()) as client:
                count += client.counters()[name]
        return count

    def hints(self):
        """Records that living nodes keep for others."""
        total = 0
        for node in self.staying():
            if node.process.poll() is None:
                with contextlib.closing(node.client()) as client:
                    total += sum(count.records for count in
                                 client.admin(rkv.Admin.HINTS).hints)
        return total

    def wait_no_hints(self):
        wait_for("hints to be delivered", lambda: self.hints() == 0)

    def wait_equal(self):
        """Until the nodes hold the same records; how many."""
        wait_for("equal digests", lambda: len(set(self.digests())) == 1)
        return self.digests()[0][0]

    def digests(self):
        found = []
        for node in self.staying():
            with contextlib.closing(node.client()) as client:
                found.append(client.digest())
        return found
