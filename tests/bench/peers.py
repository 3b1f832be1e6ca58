# SPDX-License-Identifier: MIT
"""What peers_bench.py measures: each peer's servers on loopback, and runs of
load on them, each of which gives per_second and p99_us or raises a failure."""

import contextlib
import csv
import json
import os
import socket
import struct
import subprocess
import sys
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ.setdefault("REPLIKV_BUILD",
                      os.path.join(HERE, "..", "..", "build", "release"))
if not os.path.isdir(os.path.join(os.environ["REPLIKV_BUILD"], "generated")):
    raise SystemExit(f"peers_bench.py: {os.environ['REPLIKV_BUILD']} is not "
                     "built: build the release preset, or set REPLIKV_BUILD")
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
import harness  # noqa: E402

# Keys that are put: nearly all are new, as etcd's random ones are.
PUT_KEYS = 100000000
VALUE_BYTES = 100
NODES = 3
WARMUP_S = 2


class Failed(Exception):
    """A run gave no figures; says why."""


# The harness's, when something did not come to be in time, among them.
FAILURES = (Failed, OSError, AssertionError)


# --- processes ---

class Process:
    """A server, which ends with its context or with this program."""

    def __init__(self, command, log):
        self.command, self.log, self.process = command, log, None

    def __enter__(self):
        # Its options may come from the environment too: etcd's do.
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"]})
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def wait_for(self, condition):
        def check():
            if self.process.poll() is not None:
                with open(self.log, encoding="utf-8", errors="replace") as log:
                    raise Failed(f"{self.command[0]} ended: "
                                 f"{log.read()[-2000:]}")
            with contextlib.suppress(OSError):
                return condition()
            return False
        harness.wait_for(f"{self.command[0]} to be ready", check)


def output_of(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}\n{done.stdout[-1000:]}"
                     f"{done.stderr[-1000:]}")
    return done.stdout


# --- what each peer is, and one run of it: per_second, p99_us ---

class Replikv:
    def __init__(self, stack, keys):
        self.keys = keys
        self.cluster = stack.enter_context(harness.Cluster(
            "lsm", sections={"buckets": "[{name: bench, kind: lww}]",
                             "storage": {"sync": "batch"}}))
        self.cluster.start()
        self.seed = 0
        self.bench("get=100", keys, 16, 1, "--load")

    def bench(self, mix, keys, clients, seconds, *options):
        self.seed += 1  # other keys each time
        endpoints = [word for node in self.cluster.nodes
                     for word in ("--endpoint", node.endpoint())]
        found = json.loads(output_of(
            harness.REPLIKV, *endpoints, "--json", "bench", "--bucket",
            "bench", "--mix", mix, "--keys", str(keys), "--value-size",
            str(VALUE_BYTES), "--clients", str(clients), "--warmup",
            str(WARMUP_S), "--duration", str(seconds), "--seed",
            str(self.seed), *options))
        if found["failed"] or found["not_found"]:
            raise Failed(f"replikv bench: {found['failed']} failed, "
                         f"{found['not_found']} not found")
        return {"per_second": found["per_second"],
                "p99_us": found["latency"]["p99_us"]}

    def puts(self, clients, seconds):
        return self.bench("put=100", PUT_KEYS, clients, seconds)

    def gets(self, clients, seconds):
        return self.bench("get=100", self.keys, clients, seconds)


class EtcdCluster:
    def __init__(self, stack, directory):
        first, holder = harness.take_ports()
        stack.enter_context(holder)
        urls = [[f"http://127.0.0.1:{first + 2 * i + j}" for j in range(2)]
                for i in range(NODES)]
        members = ",".join(f"e{i}={peer}" for i, (_, peer) in enumerate(urls))
        started = [stack.enter_context(Process(
            ["etcd", "--name", f"e{i}",
             "--data-dir", os.path.join(directory, f"e{i}"),
             "--listen-client-urls", client, "--advertise-client-urls", client,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", members, "--logger", "zap",
             "--log-level", "warn"],
            os.path.join(directory, f"e{i}.log")))
            for i, (client, peer) in enumerate(urls)]
        for process, (client, _) in zip(started, urls):
            process.wait_for(lambda url=client: self.is_healthy(url))
        self.urls = [client for client, _ in urls]

    @staticmethod
    def is_healthy(url):
        with urllib.request.urlopen(url + "/health", timeout=5) as reply:
            return json.load(reply)["health"] == "true"

    @staticmethod
    def status(url):
        request = urllib.request.Request(url + "/v3/maintenance/status",
                                         data=b"{}")
        with urllib.request.urlopen(request, timeout=5) as reply:
            return json.load(reply)

    def find_leader(self):
        for url in self.urls:
            status = self.status(url)
            if status.get("leader") == status["header"]["member_id"]:
                return url
        return None

    def leader(self):
        return harness.wait_for("a leader of etcd", self.find_leader)

    def revision(self):
        return int(self.status(self.leader())["header"]["revision"])

    def puts(self, run, clients, seconds):
        """run(url, clients, seconds), after a warm-up. Each request must have
        made a revision: to h2load a refusal is an answer like others."""
        run(self.leader(), clients, WARMUP_S)
        before = self.revision()
        result = run(self.leader(), clients, seconds)
        made = self.revision() - before
        if made < result["requests"]:
            raise Failed(f"etcd: {result['requests']} puts were answered, "
                         f"{made} were made")
        return result


class Etcd:
    """Through its gateway."""

    def __init__(self, cluster):
        self.cluster = cluster

    @staticmethod
    def wrk(url, clients, seconds):
        said = output_of("wrk", "--threads", str(min(2, clients)),
                         "--connections", str(clients), "--duration",
                         f"{seconds}s", "--script",
                         os.path.join(HERE, "etcd_put.lua"), url)
        return wrk_figures(said)

    def puts(self, clients, seconds):
        return self.cluster.puts(self.wrk, clients, seconds)


class EtcdGrpc:
    """As its own client speaks."""

    def __init__(self, cluster, directory):
        self.cluster = cluster
        self.body = os.path.join(directory, "put.grpc")
        self.times = os.path.join(directory, "h2load.log")
        with open(self.body, "wb") as file:
            file.write(grpc_put(os.urandom(16), os.urandom(VALUE_BYTES)))

    def h2load(self, url, clients, seconds):
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.times)
        output_of("h2load", "--clients", str(clients),
                  "--max-concurrent-streams", "1", "--threads", "1",
                  "--duration", str(seconds), "--data", self.body, "--header",
                  "content-type: application/grpc", "--header", "te: trailers",
                  "--log-file", self.times, url + "/etcdserverpb.KV/Put")
        with open(self.times, encoding="ascii") as file:
            return h2load_figures(file, seconds)

    def puts(self, clients, seconds):
        return self.cluster.puts(self.h2load, clients, seconds)


class Redis:
    def __init__(self, stack, directory, keys):
        self.keys = keys
        self.port, holder = harness.take_ports()
        stack.enter_context(holder)
        server = stack.enter_context(Process(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
             "--save", "", "--appendonly", "no", "--daemonize", "no",
             "--dir", directory], os.path.join(directory, "redis.log")))
        server.wait_for(lambda: self.ask("PING") == "+PONG")
        # Drawn keys, so that some are never drawn: e^-20 of them.
        self.benchmark("set", 16, 20 * keys)
        if self.ask("DBSIZE") != f":{keys}":
            raise Failed(f"redis: {self.ask('DBSIZE')} keys, not {keys}")

    def ask(self, command):
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, 5) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.makefile().readline().strip()

    def benchmark(self, test, clients, requests):
        said = output_of("redis-benchmark", "-h", "127.0.0.1", "-p",
                         str(self.port), "-t", test, "-c", str(clients), "-n",
                         str(requests), "-r", str(self.keys), "-d",
                         str(VALUE_BYTES), "--csv")
        return redis_figures(said)

    def gets(self, clients, seconds):
        # It takes a number of requests and no time: as many as the warm-up
        # says.
        found = self.benchmark("get", clients, 50000)
        return self.benchmark("get", clients,
                              int(found["per_second"] * seconds))


# --- what the tools say ---

def wrk_figures(said):
    found = json.loads(said.strip().splitlines()[-1])
    if found["failed"]:
        raise Failed(f"wrk: {found['failed']} of {found['requests']} failed")
    return {"per_second": found["requests"] * 1e6 / found["duration_us"],
            "p99_us": found["p99_us"], "requests": found["requests"]}


def h2load_figures(lines, seconds):
    """Of its log: when a request was sent, its status, how long it took, in
    us."""
    times = []
    for line in lines:
        _, status, took_us = line.split()
        if status != "200":
            raise Failed(f"h2load: an answer of status {status}")
        times.append(int(took_us))
    if not times:
        raise Failed("h2load: no answers")
    times.sort()
    return {"per_second": len(times) / seconds, "requests": len(times),
            "p99_us": times[len(times) * 99 // 100]}


def redis_figures(said):
    row, = csv.DictReader(said.strip().splitlines())
    return {"per_second": float(row["rps"]),
            "p99_us": round(float(row["p99_latency_ms"]) * 1000)}


def grpc_put(key, value):
    """A gRPC message: not compressed, its length, a PutRequest."""
    fields = b"".join(bytes([number << 3 | 2, len(field)]) + field
                      for number, field in ((1, key), (2, value)))
    return struct.pack(">BI", 0, len(fields)) + fields
