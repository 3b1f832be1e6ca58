# SPDX-License-Identifier: MIT
"""Endpoints by name: with a name server of the test's own, in a mount namespace
whose resolv.conf names it."""

import contextlib
import socket
import struct
import subprocess
import tempfile
import threading
import unittest

from alone import alone, run
from harness import REPLIKV, Cluster, wait_for

A, AAAA = 1, 28
NAME_ERROR = 3


class NameServer:
    """Knows one name, by an IPv4 address; of `mute` questions it says nothing,
    and of other names that there are none (RFC 1035)."""

    def __init__(self, name, address, mute=(), behind=()):
        self.name, self.address, self.mute = name, address, mute
        self.behind = behind
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve, daemon=True)
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
            self.asked.append((name.lower(), kind))
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
        for server in (*self.behind, self):
            self.file.write("nameserver 127.0.0.1:%d\n"
                            % server.socket.getsockname()[1])
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

    def start(self, *arguments, host="n1.example", node=None, **others):
        node = node or self.cluster.nodes[0]
        endpoint = node.endpoint().replace("127.0.0.1", host)
        return subprocess.Popen(
            [REPLIKV, "-e", endpoint, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **others)

    def start_put(self, **others):
        return self.start("put", "key", "value", **others)

    def assert_done(self, process):
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, errors)

    def assert_not_done(self, process, *words):
        _, errors = process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        for word in words:
            self.assertIn(word, errors)

    def test_a_name_is_dialed_by_its_address(self):
        with NameServer("n1.example", "127.0.0.1") as server:
            self.assert_done(self.start_put())
        self.assertIn(("n1.example", A), server.asked)

    def test_no_answer_for_one_family_does_not_hold_up_the_other(self):
        with NameServer("n1.example", "127.0.0.1", mute=(AAAA,)):
            self.assert_done(self.start_put())

    def test_the_next_server_is_asked_where_the_first_says_nothing(self):
        with NameServer("n1.example", "127.0.0.1", mute=(A, AAAA)) as silent:
            for _ in range(10):
                with NameServer("n1.example", "127.0.0.1", behind=(silent,)):
                    self.assert_done(self.start_put())
        self.assertNotEqual(silent.asked, [])

    def test_what_names_the_servers_is_read_again(self):
        with Cluster("memory", nodes=1, replicas=1) as cluster:
            node = cluster.start().nodes[0]
            with NameServer("n1.example", "127.0.0.1"):
                loads = self.start("load", "--inflight", "1", node=node,
                                   stdin=subprocess.PIPE)
                loads.stdin.write("one\t1\n")
                loads.stdin.flush()
                with contextlib.closing(node.client()) as client:
                    wait_for("the first line",
                             lambda: client.get(b"one")[1] == [b"1"])
                node.process.kill()
                node.process.wait()
                node.start().wait_ready()
                with NameServer("n1.example", "127.0.0.1") as other:
                    loads.stdin.write("two\t2\n")
                    self.assert_done(loads)
            self.assertIn(("n1.example", A), other.asked)

    def test_a_name_that_is_not_known_is_said_to_be_none(self):
        with NameServer("n1.example", "127.0.0.1"):
            self.assert_not_done(self.start_put(host="n2.example"),
                                 "n2.example", "not known")

    def test_a_server_that_says_nothing_is_not_waited_for_without_end(self):
        with NameServer("n1.example", "127.0.0.1", mute=(A, AAAA)):
            self.assert_not_done(self.start_put(),
                                 "no connection in time")


if __name__ == "__main__":
    alone("--mount")
    unittest.main()
