# SPDX-License-Identifier: MIT
"""The quickstart, on ports of its own and fewer packages."""

import os
import signal
import socket
import subprocess
import unittest

BUILD = os.environ["REPLIKV_BUILD"]
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
# Ten ports for clients and ten for nodes, between those of other tests and the
# kernel's own range.
CLIENTS = 3100 + os.getpid() % 80 * 2
PORTS = [int(f"{tens}{i}") for tens in (CLIENTS, CLIENTS + 1)
         for i in (1, 2, 3)]
DEADLINE_S = 120


def start(*arguments):
    return subprocess.Popen(
        [os.path.join(SOURCE, "examples", "quickstart.sh"),
         "--programs", BUILD, "--ports", f"{CLIENTS},{CLIENTS + 1}",
         "--catalogue", "/var/lib/dpkg/status", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class Quickstart(unittest.TestCase):
    def expect_nothing_left(self, said):
        self.assertTrue(all(map(is_free, PORTS)), said)
        self.assertIn("data in ", said)
        data = said.split("data in ")[1].split("\n")[0]
        self.assertFalse(os.path.exists(data), said)

    def expect_shown(self, engines, *claims):
        process = start("--records", "100", "--engine", engines)
        said, _ = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 0, said)
        shown = said.split("== shown on ")[1]
        for claim in claims:
            self.assertIn(claim, shown)
        self.expect_nothing_left(said)

    def test_what_it_shows_holds_on_engines_that_last(self):
        self.expect_shown(
            "leveldb,lmdb,lsm", "100 records written",
            "100 records read through n2", "10 updated while n3 was down",
            "n1, n2 and n3 hold the same 100 records")

    def test_an_empty_node_is_refused_and_then_filled(self):
        self.expect_shown(
            "lsm,leveldb,memory", "was refused until it said --replace",
            "n1, n2 and n3 hold the same 100 records")

    def test_a_port_in_use_is_named(self):
        taken = PORTS[4]
        with socket.create_server(("127.0.0.1", taken)):
            process = start()
            said, _ = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 1, said)
        self.assertIn(f"port {taken} is in use", said)

    def test_when_interrupted_it_leaves_nothing(self):
        process = start()
        said = ""
        while "== loading" not in said:
            line = process.stdout.readline()
            self.assertTrue(line, said)
            said += line
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, said + rest)
        self.expect_nothing_left(said)


if __name__ == "__main__":
    unittest.main()
