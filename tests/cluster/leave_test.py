# SPDX-License-Identifier: MIT
"""A node leaves the cluster for good: others take its place, and nothing that
was acknowledged is lost on the way. Arguments: the engine of all nodes, or
four with commas."""

import contextlib
import json
import signal
import subprocess
import sys
import unittest

from harness import DEADLINE_S, REPLIKV, Cluster, engines_of, rkv, wait_for
from load import Loads, pump

ENGINES = engines_of(sys.argv.pop(1) if len(sys.argv) > 1 else "lsm")
if len(ENGINES) == 1:
    ENGINES *= 4
DONE, _, USAGE, REFUSED, UNKNOWN = range(5)
KEYS = 500
VALUE = b"value" * 20
PARTITIONS, REPLICAS = 32, 3
NOBODY = "tcp://127.0.0.1:1"
HAS_LEFT = "has left the cluster"


def replikv(nodes, *arguments):
    """A command that was started with these nodes as endpoints."""
    endpoints = [word for node in nodes for word in ("-e", node.endpoint())]
    return subprocess.Popen([REPLIKV, *endpoints, *arguments],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


class Leaves(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(ENGINES, replicas=REPLICAS)
        self.addCleanup(self.cluster.__exit__, None)
        self.cluster.start()
        *self.others, self.four = self.cluster.nodes

    def ends(self, process, expect=DONE):
        """What it printed, and what it said."""
        out, said = process.communicate(timeout=3 * DEADLINE_S)
        self.assertEqual(process.returncode, expect, f"{out} {said}")
        return out, said

    def run_cli(self, nodes, *arguments, expect=DONE):
        return self.ends(replikv(nodes, *arguments), expect)

    def json(self, nodes, *arguments, expect=DONE):
        return json.loads(self.run_cli(nodes, "--json", *arguments,
                                       expect=expect)[0])

    def fill(self):
        with contextlib.closing(self.others[0].client()) as client:
            self.assertEqual(pump(client, b"key", KEYS, VALUE), {rkv.APPLIED})

    def read_all(self, level):
        for node in self.others:
            with contextlib.closing(node.client()) as client:
                for i in range(KEYS):
                    result, values, _ = client.get(b"key%d" % i, r=level)
                    self.assertEqual((result.status, values),
                                     (rkv.OK, [VALUE]),
                                     f"{node.name}: key{i}: {result.message}")

    def owners(self, node):
        with contextlib.closing(node.client()) as client:
            ring = client.admin(rkv.Admin.RING).owners
        return {entry.partition: sorted(entry.nodes) for entry in ring}

    def is_settled(self, epoch):
        states = [self.json([node], "cluster", "status")
                  for node in self.others]
        return all(state["move"] is None and state["epoch"] == epoch
                   for state in states)

    def check_left(self, loads, epoch):
        """It is settled at all others, who have all that was written."""
        self.four.has_left = True
        wait_for("all to be settled", lambda: self.is_settled(epoch))
        everyone = {node.name: rkv.ALIVE for node in self.others}
        everyone["n4"] = rkv.LEFT
        for node in self.others:
            self.assertEqual(node.members(), everyone)
            self.assertEqual(self.owners(node), {
                partition: ["n1", "n2", "n3"]
                for partition in range(PARTITIONS)})
        self.cluster.wait_no_hints()
        self.read_all(0)
        self.read_all(-2)
        loads.check(self.others)
        self.assertGreater(self.cluster.wait_equal(), KEYS)
        state = self.json(self.others, "cluster", "status")
        self.assertEqual(
            [(one["name"], one["state"], one["partitions"])
             for one in sorted(state["members"], key=lambda one: one["name"])],
            [("n1", "alive", PARTITIONS), ("n2", "alive", PARTITIONS),
             ("n3", "alive", PARTITIONS), ("n4", "left", 0)])

    def check_refused(self):
        """Started on its old disk, it ends, and what the others have stays."""
        self.four.start()
        self.assertNotEqual(self.four.wait_end(), 0)
        last = self.four.said().splitlines()[-1]
        self.assertIn(HAS_LEFT, last)
        print(last)
        for node in self.others:
            self.assertEqual(node.members()["n4"], rkv.LEFT)

    def test_a_node_leaves_under_load(self):
        self.fill()
        before = self.owners(self.four)
        owned = sum("n4" in nodes for nodes in before.values())
        with Loads(self.others) as loads:
            loads.wait_applied(100)
            plan = self.json(self.others, "cluster", "leave", "n4")
            shares = plan["move"]["shares"]
            self.assertEqual(plan["move"]["stage"], "planned")
            self.assertEqual(sum(one["partitions"] for one in shares), owned)
            shown, _ = self.run_cli(self.others, "cluster", "leave", "n4")
            self.assertIn("replikv cluster leave n4 --commit", shown)
            for one in shares:
                self.assertRegex(
                    shown, rf"{one['node']} +{one['partitions']}\n")
            # That was all: nothing has begun.
            self.assertEqual(self.owners(self.four), before)
            self.assertTrue(self.is_settled(1))
            # The first that is asked is the one that goes.
            told, said = self.run_cli([self.four, *self.others], "cluster",
                                      "leave", "n4", "--commit")
            print(told + said, end="")
            self.assertRegex(told, r"^n4 has left; n\d took \d+ partitions")
            for one in shares:
                self.assertIn(one["node"], told)
            loads.wait_applied(100)
            # It ends by itself, and says why.
            self.four.wait_end()
            self.assertIn(HAS_LEFT, self.four.said().splitlines()[-1])
            loads.wait_applied(100)
        print(loads.told())
        self.check_left(loads, epoch=4)
        self.check_refused()
        self.read_all(-2)

    def wait_dead(self):
        wait_for("its death to be noticed", lambda: all(
            node.members()["n4"] == rkv.DEAD for node in self.others))

    def test_a_lost_node_is_replaced_from_the_others(self):
        self.fill()
        with Loads(self.others) as loads:
            loads.wait_applied(100)
            self.four.kill()
            self.wait_dead()
            loads.wait_applied(200)
            self.assertGreater(self.cluster.hints(), 0)
            moved = self.json(self.others, "cluster", "leave", "n4", "--lost",
                              "--commit")["move"]
            self.assertEqual((moved["stage"], moved["lost"]),
                             ("settled", True))
            loads.wait_applied(100)
        print(loads.told())
        self.check_left(loads, epoch=3)
        # It knows nothing of this, and is told.
        self.check_refused()
        self.read_all(-2)

    def refused(self, *arguments):
        _, said = self.run_cli(self.others, "cluster", "leave", *arguments,
                               expect=REFUSED)
        return said

    def test_what_cannot_be_is_said(self):
        self.run_cli(self.others, "cluster", expect=USAGE)
        self.run_cli(self.others, "cluster", "leave", expect=USAGE)
        self.run_cli(self.others, "cluster", "status", "--commit",
                     expect=USAGE)
        ran = subprocess.run([REPLIKV, "-e", NOBODY, "cluster", "status"],
                             capture_output=True, check=False)
        self.assertEqual(ran.returncode, REFUSED, ran)
        for begin in ([], ["--commit"]):
            self.assertIn('"n5" is none of the cluster',
                          self.refused("n5", *begin))
            self.assertIn("n4 is there", self.refused("n4", "--lost", *begin))
        answer = self.json(self.others, "cluster", "leave", "n5",
                           expect=REFUSED)
        self.assertEqual(answer["status"], "invalid")
        self.assertTrue(self.is_settled(1))

    def waits_for(self, nodes):
        """What the move that is open does, as one of the nodes says."""
        return self.json(nodes, "cluster", "status")["move"]["waits_for"]

    def begin_what_stays_open(self):
        """n4 leaves, of which n3 does not hear."""
        self.others[2].signal(signal.SIGSTOP)
        process = replikv(self.others[:2], "cluster", "leave", "n4",
                          "--commit")
        wait_for("it to be begun", lambda: self.json(
            self.others[:1], "cluster", "status")["move"])
        return process

    def test_one_after_the_other(self):
        two = self.others[:2]
        self.fill()
        process = self.begin_what_stays_open()
        # Until it is told so on standard error, as it takes long.
        line = process.stderr.readline()
        self.assertIn("n4 leaves", line)
        wait_for("what it waits for", lambda: "n3: to hear of it" in
                 self.waits_for(two))
        shown, _ = self.run_cli(two, "cluster", "status")
        self.assertRegex(shown, r"n4 leaves: filling, which waits for\n"
                                r"(.*\n)*  n3: to hear of it\n")
        self.assertIn("n4 leaves, and is not settled yet",
                      self.run_cli(two, "cluster", "leave", "n1", "--commit",
                                   expect=REFUSED)[1])
        # Whoever waits may go: the nodes go on.
        process.send_signal(signal.SIGINT)
        _, said = self.ends(process, UNKNOWN)
        self.assertIn("the nodes go on with it", said)
        again = replikv(two, "--json", "cluster", "leave", "n4", "--commit")
        self.others[2].signal(signal.SIGCONT)
        answer = json.loads(self.ends(again)[0])
        self.assertEqual((answer["move"]["stage"], answer["epoch"]),
                         ("settled", 4))
        self.four.wait_end()
        self.four.has_left = True
        wait_for("all to be settled", lambda: self.is_settled(4))
        self.assertIn("n4 has left", self.refused("n4", "--commit"))
        self.assertIn("without n1 there are 2 nodes",
                      self.refused("n1", "--commit"))
        self.read_all(-2)

    def test_a_node_that_dies_on_the_way_is_lost(self):
        self.fill()
        with Loads(self.others[:2]) as loads:
            loads.wait_applied(100)
            process = self.begin_what_stays_open()
            self.four.kill()
            self.others[2].signal(signal.SIGCONT)
            self.wait_dead()
            wait_for("all but it to have heard of it", lambda: not any(
                line.endswith(": to hear of it") and line[:2] != "n4"
                for line in self.waits_for(self.others)))
            # It would wait for good, but writes and reads go on.
            loads.wait_applied(100)
            self.assertIsNone(process.poll())
            shown, _ = self.run_cli(self.others, "cluster", "leave", "n4",
                                    "--lost")
            self.assertIn("cluster leave n4 --lost --commit", shown)
            answer = self.json(self.others, "cluster", "leave", "n4",
                               "--lost", "--commit")
            move = answer["move"]
            self.assertEqual((move["stage"], move["lost"]),
                             ("settled", True))
            # Whoever waited for the other is told.
            self.assertIn("n4 has left", self.ends(process)[0])
            loads.wait_applied(100)
        print(loads.told())
        self.check_left(loads, answer["epoch"])
        self.check_refused()
        self.read_all(-2)

    def test_who_does_not_answer_cannot_hand_over(self):
        self.four.kill()
        self.wait_dead()
        for begin in ([], ["--commit"]):
            self.assertIn("n4 does not answer, and all that it holds is to be "
                          "read of it: start it, or say --lost if it is",
                          self.refused("n4", *begin))
        self.assertTrue(self.is_settled(1))
        # It may do so once it is back.
        self.four.start().wait_ready()
        self.cluster.wait_met()
        told, _ = self.run_cli(self.others, "cluster", "leave", "n4",
                               "--commit")
        self.assertIn("n4 has left", told)
        self.four.wait_end()
        wait_for("all to be settled", lambda: self.is_settled(4))

    def test_a_stopped_node_has_not_left(self):
        self.assertEqual(self.four.stop(), 0, self.four.said())
        wait_for("its goodbye", lambda: all(
            node.members()["n4"] == rkv.LEFT for node in self.others))
        state = self.json(self.others, "cluster", "status")
        self.assertEqual([(one["name"], one["state"])
                          for one in state["members"]
                          if one["state"] != "alive"], [("n4", "stopped")])

    def test_the_one_that_goes_is_the_only_one_asked(self):
        self.fill()
        _, said = self.run_cli([self.four], "cluster", "leave", "n4",
                               "--commit", expect=UNKNOWN)
        self.assertIn("n4 is gone", said)
        self.assertIn("replikv cluster status", said)
        self.four.wait_end()
        wait_for("all to be settled", lambda: self.is_settled(4))
        self.read_all(-2)


if __name__ == "__main__":
    unittest.main()
