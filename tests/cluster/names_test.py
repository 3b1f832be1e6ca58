# SPDX-License-Identifier: MIT
"""Endpoints by name: with a name server of the test's own, in a mount namespace
whose resolv.conf names it."""

import socket
import struct
import subprocess
import tempfile
import threading
import unittest

from alone import alone, run
from harness import REPLIKV, Cluster

A, AAAA = 1, 28
NAME_ERROR = 3


class NameServer:
    """Knows one name, by an IPv4 address; of `mute` questions it says nothing,
    and of other names that there are none (RFC 1035)."""

    def __init__(self, name, address, mute=()):
        self.name, self.address, self.mute = name, address, mute
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            question, asker = self.socket.recvfrom(512)
            if question == b"stop":
                return
            end = 12
            labels = []
            while question[end]:
                labels.append(question[end + 1:end + 1 + question[end]])
                end += 1 + question[end]
            name = b".".join(labels).decode()
            kind, = struct.unpack_from("!H", question, end + 1)
            self.asked.append((name, kind))
            if kind in self.mute:
                continue
            known = name.lower() == self.name
            answers = b""
            if known and kind == A:
                answers = (b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 60, 4) +
                           socket.inet_aton(self.address))
            flags = 0x8180 | (0 if known else NAME_ERROR)
            self.socket.sendto(
                question[:2] + struct.pack("!HHHHH", flags, 1,
                                           1 if answers else 0, 0, 0) +
                question[12:end + 5] + answers, asker)

    def __enter__(self):
        self.file = tempfile.NamedTemporaryFile("w", suffix=".conf")
        self.file.write("nameserver 127.0.0.1:%d\n"
                        % self.socket.getsockname()[1])
        self.file.flush()
        run("mount", "--bind", self.file.name, "/etc/resolv.conf")
        return self

    def __exit__(self, *_):
        run("umount", "/etc/resolv.conf")
        self.socket.sendto(b"stop", self.socket.getsockname())
        self.thread.join()
        self.socket.close()
        self.file.close()


class Names(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster("memory", nodes=1, replicas=1)
        cls.addClassCleanup(cls.cluster.__exit__, None)
        cls.cluster.start()

    def put(self, host):
        endpoint = self.cluster.nodes[0].endpoint().replace("127.0.0.1", host)
        return subprocess.run(
            [REPLIKV, "-e", endpoint, "put", "key", "value"],
            capture_output=True, text=True, timeout=60, check=False)

    def test_a_name_is_dialed_by_its_address(self):
        with NameServer("n1.example", "127.0.0.1") as server:
            ran = self.put("n1.example")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertIn(("n1.example", A), server.asked)

    def test_no_answer_for_one_family_does_not_hold_up_the_other(self):
        with NameServer("n1.example", "127.0.0.1", mute=(AAAA,)):
            ran = self.put("n1.example")
        self.assertEqual(ran.returncode, 0, ran.stderr)

    def test_a_name_that_is_not_known_is_said_to_be_none(self):
        with NameServer("n1.example", "127.0.0.1"):
            ran = self.put("n2.example")
        self.assertNotEqual(ran.returncode, 0)
        self.assertIn("n2.example", ran.stderr)
        self.assertIn("not known", ran.stderr)

    def test_a_server_that_says_nothing_is_not_waited_for_without_end(self):
        with NameServer("n1.example", "127.0.0.1", mute=(A, AAAA)):
            ran = self.put("n1.example")
        self.assertNotEqual(ran.returncode, 0)
        self.assertIn("no connection in time", ran.stderr)


if __name__ == "__main__":
    alone("--mount")
    unittest.main()
