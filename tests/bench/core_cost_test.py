#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""core_cost.py says what grew and what shrank, from figures made up here; and
core_cost serves what it is asked for.

    REPLIKV_BUILD=build/release ./tests/bench/core_cost_test.py"""

import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import core_cost  # noqa: E402

SANITIZED = bool(os.environ.get("REPLIKV_SANITIZE"))
BASELINE = {"put": {"-": 1000, "a.c:step": 600, "b.c:pack": 300}}
ANNOTATED = """\
--------------------------------------------------------------------------------
Profile data file 'profile' (creator: callgrind-3.19.0)
--------------------------------------------------------------------------------
Timerange: Basic block 0 - 65786
Thresholds:       100

Ir
1,234,567  PROGRAM TOTALS

Ir       file:function
1,000,000  /home/proto/a.c:step [/home/build/tests/core_cost]
  100,000  /home/proto/a.c:step'2 [/home/build/tests/core_cost]
  120,000  ./string/../memmove.S:__memcpy_sse2_unaligned [/usr/lib/libc.so.6]
   14,567  ???:0x0000000000109000 [???]
"""


def complaints(total, **functions):
    """By a function's name its count, of a.c, b.c and c.c."""
    files = {"step": "a.c", "pack": "b.c", "copy": "c.c"}
    counts = {f"{files[name]}:{name}": each
              for name, each in functions.items()}
    return list(core_cost.compare({"put": {"-": total, **counts}}, BASELINE))


class Compare(unittest.TestCase):
    def test_a_twentieth_more_or_less_is_nothing(self):
        for total in (950, 1000, 1050):
            self.assertEqual(complaints(total, step=600), [])

    def test_growth_is_told_with_what_grew_most(self):
        said, = complaints(1051, step=610, pack=341)
        self.assertEqual(said, "put: 1,051 instructions a request, 1,000 in "
                         "the baseline: +5.1%, most in b.c:pack: +41")

    def test_a_new_function_may_have_grown_most(self):
        said, = complaints(1100, step=610, pack=300, copy=90)
        self.assertIn("most in c.c:copy: +70", said)

    def test_what_shrank_is_to_be_lowered(self):
        said, = complaints(949, step=549)
        self.assertIn("-5.1%; lower the baseline", said)

    def test_a_mode_without_a_baseline_is_told(self):
        said, = core_cost.compare({"get": {"-": 1}}, BASELINE)
        self.assertIn("get: not in the baseline", said)

    def test_a_baseline_reads_as_it_was_written(self):
        found = {"put": {"-": 1000, "a.c:step": 980, "b.c:rare": 19}}
        read = core_cost.read_baseline(core_cost.baseline_lines(found))
        self.assertEqual(read, {"put": {"-": 1000, "a.c:step": 980}})

    def test_the_annotation_is_understood(self):
        self.assertEqual(core_cost.parse(ANNOTATED), {
            "-": 1234567, "a.c:step": 1100000,
            "memmove.S:__memcpy_sse2_unaligned": 120000,
            "???:0x0000000000109000": 14567})


class Program(unittest.TestCase):
    def run_it(self, *arguments, code=0):
        done = subprocess.run([core_cost.PROGRAM, *arguments],
                              capture_output=True, text=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout

    def test_steps_and_messages_are_those_of_a_quorum(self):
        # A put: the client's request, prepared, stored; at two others the
        # Store and what the disk says; their two answers. Of a get one other.
        for mode, steps, messages in (("put", 9, 6), ("get", 5, 4)):
            for suffix in ("", "-direct"):
                with self.subTest(mode + suffix):
                    said = self.run_it(mode + suffix, "7")
                    self.assertRegex(said, rf"^{mode}{suffix}: {steps}\.00 "
                                     rf"steps, {messages}\.00 messages, ")
                    self.assertEqual(" 0.0 bytes" in said, suffix != "")

    def test_wrong_usage_is_2(self):
        for arguments in ((), ("put",), ("put", "0"), ("post", "1")):
            self.run_it(*arguments, code=2)

    @unittest.skipIf(SANITIZED, "sanitizers cannot run under valgrind")
    def test_a_count_is_the_same_each_time(self):
        first, again = (core_cost.count("put", 3) for _ in range(2))
        self.assertEqual(first, again)
        self.assertGreater(first[core_cost.TOTAL], 0)
        for name in first:
            self.assertNotRegex(name.partition(":")[2], "avx|evex|sse[34]|erms")
        more = core_cost.count("put", 6)[core_cost.TOTAL]
        self.assertGreater(more, 1.5 * first[core_cost.TOTAL])


if __name__ == "__main__":
    unittest.main()
