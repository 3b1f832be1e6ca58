# SPDX-License-Identifier: MIT
"""A node that stops without a word (SIGSTOP): the others go on, keep what it
misses on disk and not in memory, and hand it over when it is back."""

import contextlib
import os
import signal
import time
import unittest

from harness import Cluster, rkv, wait_for
from load import pump

MIB = 1 << 20
# No anti-entropy while a test takes.
HINTS_ALONE = {"anti_entropy_interval_ms": 86400000}
VALUE_BYTES, WRITTEN_BYTES = 16 << 10, 64 * MIB
# What waits for a node that does not read, on each of three lanes.
QUEUE_BYTES = 2 * MIB
# Queues of 6 MiB, and batches of 4 MiB at the engine, each a few times over:
# 24 MiB were measured, and no more however much is written.
GROWTH_BYTES_MAX = 40 * MIB
# Twenty times what limits.inflight_max takes, many at a time: a write that
# waited for the paused node until its deadline would fill it at once.
SMALL_COUNT, SMALL_BYTES, SMALL_IN_FLIGHT = 80000, 100, 1000
# What was freed should not look as if it were in use (with the sanitizer).
os.environ["ASAN_OPTIONS"] = "quarantine_size_mb=4"


class Paused(unittest.TestCase):
    def test_writes_go_on_in_bounded_memory(self):
        with Cluster("lmdb", sections={
                "replication": {"request_timeout_ms": 2000, **HINTS_ALONE},
                "limits": {"queue_bytes_max": QUEUE_BYTES}}) as cluster:
            cluster.start()
            one, two, three = cluster.nodes
            count = WRITTEN_BYTES // VALUE_BYTES
            with contextlib.closing(one.client()) as client:
                # The pools are warm before memory is looked at.
                pump(client, b"warm", count // 8, bytes(VALUE_BYTES))
                before = [node.memory_bytes() for node in (one, two)]
                three.signal(signal.SIGSTOP)
                outcomes = pump(client, b"key", count, bytes(VALUE_BYTES))
                grown = [node.memory_bytes() - memory
                         for node, memory in zip((one, two), before)]
            three.signal(signal.SIGCONT)
            self.assertEqual(outcomes, {rkv.APPLIED})
            print("grown by", [f"{size / MIB:.1f} MiB" for size in grown])
            self.assertLess(max(grown), GROWTH_BYTES_MAX)
            kept = cluster.hints()
            self.assertGreater(kept, 0)
            three.wait_ready()
            cluster.wait_no_hints()
            # No key was read: the hints alone brought it what it missed.
            self.assertEqual(cluster.wait_equal(), count + count // 8)
            print(f"{kept} hints delivered")

    def test_small_writes_are_not_held_for_it(self):
        with Cluster("lmdb",
                     sections={"replication": HINTS_ALONE}) as cluster:
            cluster.start()
            one, two, three = cluster.nodes
            value = bytes(SMALL_BYTES)
            with contextlib.closing(one.client()) as client:
                pump(client, b"warm", SMALL_COUNT // 8, value, SMALL_IN_FLIGHT)
                before = [node.memory_bytes() for node in (one, two)]
                three.signal(signal.SIGSTOP)
                wait_for("the pause to be noticed", lambda: all(
                    node.members()["n3"] == rkv.DEAD for node in (one, two)))
                begin = time.monotonic()
                outcomes = pump(client, b"key", SMALL_COUNT, value,
                                SMALL_IN_FLIGHT)
                rate = SMALL_COUNT / (time.monotonic() - begin)
                grown = [node.memory_bytes() - memory
                         for node, memory in zip((one, two), before)]
                overloaded = client.counters()["refused_overloaded"]
            three.signal(signal.SIGCONT)
            print(f"{rate:.0f} writes/s, grown by",
                  [f"{size / MIB:.1f} MiB" for size in grown])
            self.assertEqual(overloaded, 0)
            self.assertEqual(outcomes, {rkv.APPLIED})
            self.assertLess(max(grown), GROWTH_BYTES_MAX)
            cluster.wait_no_hints()
            self.assertEqual(cluster.wait_equal(),
                             SMALL_COUNT + SMALL_COUNT // 8)


if __name__ == "__main__":
    unittest.main()
