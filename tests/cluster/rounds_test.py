# SPDX-License-Identifier: MIT
"""Round after round a node or two of three are killed, stand still or are cut
off, drawn from a seed, under a mixed load: nothing acknowledged is lost and
nothing that was deleted comes back. Arguments: the engine of all nodes, or three
with commas; how many rounds (6); the seed (1). 200 rounds take eight minutes."""

import random
import signal
import sys
import time
import unittest

from harness import engines_of
from load import Loads
from network import Network, alone_with_network

ENGINES = engines_of(sys.argv.pop(1) if len(sys.argv) > 1 else "lsm")
ROUNDS = int(sys.argv.pop(1)) if len(sys.argv) > 1 else 6
SEED = int(sys.argv.pop(1)) if len(sys.argv) > 1 else 1
# Between one look at all that was written and the next.
ROUNDS_A_CHECK = 10
# Of 10, rounds that strike two, which leaves no quorum.
PAIRS_OF_TEN = 3
# Most strikes are over before anybody is sure; of the others nodes are seen dead
# and lanes given up.
SHORT_S, LONG_S = (0.05, 1.5), (4, 8)
LONG_OF_TEN = 2
BOTH, DEAF, MUTE = ("INPUT", "OUTPUT"), ("INPUT",), ("OUTPUT",)


class Rounds(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.network = Network(3)
        cls.random = random.Random(SEED)

    def strike(self, cluster, i):
        """What undoes it."""
        node = cluster.nodes[i]
        what = self.random.choice(("kill", "pause", BOTH, DEAF, MUTE))
        if what == "kill":
            node.kill()
            return node.start
        if what == "pause":
            node.signal(signal.SIGSTOP)
            return lambda: node.signal(signal.SIGCONT)
        others = [other for other in range(3) if other != i]
        self.network.cut(i, others, what)
        return lambda: self.network.heal(i)

    def round(self, cluster, loads):
        count = 2 if self.random.randrange(10) < PAIRS_OF_TEN else 1
        victims = self.random.sample(range(3), count)
        undo = [self.strike(cluster, i) for i in victims]
        is_long = self.random.randrange(10) < LONG_OF_TEN
        time.sleep(self.random.uniform(*(LONG_S if is_long else SHORT_S)))
        for step in undo:
            step()
        for i in victims:
            cluster.nodes[i].wait_ready()
        loads.wait_applied(20)

    def rounds(self, cluster, first, count):
        with Loads(cluster.nodes, name=f"{first}/",
                   seed=SEED * 1000 + first) as loads:
            loads.wait_applied(50)
            for _ in range(count):
                self.round(cluster, loads)
        cluster.wait_met()
        cluster.wait_no_hints()
        loads.check(cluster.nodes)
        cluster.wait_equal()
        print(f"{first + count} of {ROUNDS} rounds: {loads.told()}",
              flush=True)
        return loads

    def test_what_was_acknowledged_survives_all_rounds(self):
        engines = ENGINES * (3 // len(ENGINES))
        with self.network.cluster(engines) as cluster:
            cluster.start()
            done = [self.rounds(cluster, first, min(ROUNDS_A_CHECK,
                                                    ROUNDS - first))
                    for first in range(0, ROUNDS, ROUNDS_A_CHECK)]
            # What was there after its rounds is there after all others, too.
            keys = sum(loads.check(cluster.nodes) for loads in done)
            silent = sum(node.said().count("event=lane_silent")
                         for node in cluster.nodes)
            print(f"{keys} keys, {silent} silent lanes")
            self.assertGreater(silent, 0)


if __name__ == "__main__":
    alone_with_network()
    unittest.main()
