#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A client without any library: the wire of proto/WIRE.md over TCP by hand.

    client.py [HOST:PORT]

Write, read, meet siblings and resolve them, delete. Needs python3-protobuf,
and protoc unless replikv_pb2.py is already on PYTHONPATH."""

import os
import secrets
import socket
import struct
import subprocess
import sys

try:
    import replikv_pb2 as rkv
except ImportError:
    ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    MADE = os.path.join(ROOT, "build", "python")
    os.makedirs(MADE, exist_ok=True)
    subprocess.run(["protoc", f"--proto_path={ROOT}/proto",
                    f"--python_out={MADE}", "replikv.proto"], check=True)
    sys.path.insert(0, MADE)
    import replikv_pb2 as rkv

REQ = bytes.fromhex("0053500000300000")
REP = bytes.fromhex("0053500000310000")
TOP_BIT = 0x80000000


class Failed(Exception):
    """The node refused, or the connection ended."""


class Client:
    """One connection, one request at a time."""

    def __init__(self, host, port, timeout_s=10):
        self.socket = socket.create_connection((host, port), timeout_s)
        self.last_id = 0
        self.socket.sendall(REQ)
        if self.take(len(REP)) != REP:
            raise Failed("that is no node: it does not speak SP's req/rep")

    def take(self, size):
        taken = b""
        while len(taken) < size:
            more = self.socket.recv(size - len(taken))
            if not more:
                raise Failed("the node hung up")
            taken += more
        return taken

    def call(self, **body):
        """Send an envelope and return the body of the answer to it."""
        envelope = rkv.Envelope(version=1, **body).SerializeToString()
        self.last_id += 1
        wanted = TOP_BIT | self.last_id
        frame = struct.pack(">I", wanted) + envelope
        self.socket.sendall(struct.pack(">Q", len(frame)) + frame)
        answer_id = None
        while answer_id != wanted:  # others answer what was given up
            (size,) = struct.unpack(">Q", self.take(8))
            frame = self.take(size)
            (answer_id,) = struct.unpack(">I", frame[:4])
        reply = rkv.Envelope.FromString(frame[4:])
        body = getattr(reply, reply.WhichOneof("body"))
        result = body if isinstance(body, rkv.Result) else body.result
        if result.status not in (rkv.OK, rkv.NOT_FOUND):
            raise Failed(f"{rkv.Status.Name(result.status)}, "
                         f"{rkv.Outcome.Name(result.outcome)}: "
                         f"{result.message}")
        return body

    def write(self, key, context=b"", **fields):
        """context: what this write has seen, and so supersedes. request_id
        names the write: sent again with the same one, it counts once."""
        return self.call(write=rkv.Write(
            key=key, context=context, request_id=secrets.token_bytes(16),
            **fields)).result

    def put(self, key, value, context=b""):
        result = self.write(key, context, value=value)
        print(f"put {value.decode()}: {rkv.Outcome.Name(result.outcome)}, "
              f"{result.got} of {result.need} replicas needed")

    def delete(self, key, context):
        result = self.write(key, context, remove=True)
        print(f"delete: {rkv.Outcome.Name(result.outcome)}")

    def get(self, key):
        """The values, and the context for the write that supersedes them."""
        reply = self.call(read=rkv.Read(key=key))
        quoted = "".join(f' "{value.decode()}"' for value in reply.values)
        print(f"get: {len(reply.values)} values{quoted}")
        return list(reply.values), reply.context


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:3001"
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        sys.exit(__doc__)
    client = Client(host, int(port))
    key = f"example-python-{os.getpid()}".encode()

    client.put(key, b"tea")
    client.get(key)
    client.put(key, b"coffee")  # has not seen the tea
    siblings, context = client.get(key)
    client.put(key, b" and ".join(sorted(siblings, reverse=True)), context)
    _, context = client.get(key)
    client.delete(key, context)
    client.get(key)


if __name__ == "__main__":
    try:
        main()
    except (Failed, OSError) as error:
        sys.exit(f"client.py: {error}")
