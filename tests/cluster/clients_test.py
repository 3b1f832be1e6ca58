# SPDX-License-Identifier: MIT
"""The three clients of examples/, each against real nodes: the wire is what
WIRE.md says it is."""

import os
import subprocess
import unittest

from harness import BUILD, Cluster

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "..", "..", "examples")


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster("memory")
        cls.addClassCleanup(cls.cluster.__exit__, None)
        cls.cluster.start()

    def tells_the_story(self, *command):
        environment = dict(os.environ, PYTHONPATH=os.path.join(
            BUILD, "generated", "python"))
        ran = subprocess.run(command, capture_output=True, text=True,
                             timeout=60, check=False, env=environment)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        lines = ran.stdout.splitlines()
        reads = [line for line in lines if line.startswith("get: ")]
        self.assertEqual(reads[0], 'get: 1 values "tea"')
        # Two siblings in either order.
        self.assertEqual(sorted(reads[1].split()),
                         ['"coffee"', '"tea"', "2", "get:", "values"])
        self.assertEqual(reads[2:], ['get: 1 values "tea and coffee"',
                                     "get: 0 values"])
        self.assertEqual(ran.stdout.lower().count("applied"),
                         4 + sum("at once" in line for line in lines))
        return lines

    def test_c_client_on_the_library(self):
        lines = self.tells_the_story(
            os.path.join(BUILD, "examples", "example_client"),
            *(node.endpoint() for node in self.cluster.nodes))
        self.assertEqual(lines[-1], "1000 of 1000 writes at once applied")

    def test_plain_nng_req_socket(self):
        self.tells_the_story(
            os.path.join(BUILD, "examples", "example_nng_client"),
            self.cluster.nodes[1].endpoint())

    def test_python_over_tcp_by_hand(self):
        node = self.cluster.nodes[2]
        script = os.path.join(EXAMPLES, "client.py")
        self.tells_the_story("/usr/bin/python3", script,
                             f"{node.host}:{node.client_port}")
        with open(script, encoding="utf-8") as file:
            self.assertLess(len(file.readlines()), 150)


if __name__ == "__main__":
    unittest.main()
