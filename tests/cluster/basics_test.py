# SPDX-License-Identifier: MIT
"""What a cluster of three does on a good day."""

import contextlib
import secrets
import unittest

from harness import Cluster, rkv


class Basics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster("memory")
        cls.addClassCleanup(cls.cluster.__exit__, None)
        cls.cluster.start()

    def clients(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        return [stack.enter_context(contextlib.closing(node.client()))
                for node in self.cluster.nodes]

    def test_what_one_node_took_the_others_give(self):
        one, two, three = self.clients()
        result, _ = one.put(b"shared", b"value")
        self.assertEqual(result.outcome, rkv.APPLIED, result.message)
        for client in (one, two, three):
            result, values, _ = client.get(b"shared")
            self.assertEqual((result.status, values), (rkv.OK, [b"value"]))

    def test_what_was_never_written_is_not_found(self):
        for client in self.clients():
            result, values, _ = client.get(b"nothing")
            self.assertEqual((result.status, values), (rkv.NOT_FOUND, []))

    def test_a_deleted_key_is_not_found(self):
        one, two, _ = self.clients()
        _, context = one.put(b"gone", b"value")
        result, _ = two.put(b"gone", b"", context=context, remove=True)
        self.assertEqual(result.outcome, rkv.APPLIED, result.message)
        result, values, _ = one.get(b"gone")
        self.assertEqual((result.status, values), (rkv.NOT_FOUND, []))

    def test_writers_that_resolve_in_turn_leave_two_siblings(self):
        writers = self.clients()[:2]
        contexts = [b"", b""]
        for turn in range(50):
            i = turn % 2
            result, _ = writers[i].put(b"turns", b"%d" % turn,
                                       context=contexts[i])
            self.assertEqual(result.outcome, rkv.APPLIED, result.message)
            _, values, contexts[1 - i] = writers[1 - i].get(b"turns")
            self.assertLessEqual(len(values), 2)

    def test_concurrent_writes_are_siblings_until_resolved(self):
        one, two, _ = self.clients()
        one.put(b"both", b"a")
        two.put(b"both", b"b")
        _, values, context = one.get(b"both")
        self.assertEqual(sorted(values), [b"a", b"b"])
        two.put(b"both", b"ab", context=context)
        _, values, _ = one.get(b"both")
        self.assertEqual(values, [b"ab"])

    def test_a_retry_through_another_node_is_one_write(self):
        one, two, _ = self.clients()
        request = secrets.token_bytes(16)
        one.put(b"retried", b"once", request_id=request)
        result, _ = two.put(b"retried", b"once", request_id=request)
        self.assertEqual(result.outcome, rkv.APPLIED, result.message)
        _, values, _ = one.get(b"retried", r=-2)
        self.assertEqual(values, [b"once"])

    def test_many_in_flight_are_answered(self):
        client = self.clients()[0]
        waiting = {client.send(rkv.Envelope(write=rkv.Write(
            key=b"many%d" % i, value=b"x" * 100,
            request_id=secrets.token_bytes(16)))) for i in range(1000)}
        while waiting:
            number, reply = client.receive()
            waiting.remove(number)
            self.assertEqual(reply.write_reply.result.outcome, rkv.APPLIED)


if __name__ == "__main__":
    unittest.main()
