# SPDX-License-Identifier: MIT
"""Batches whose nodes are killed or stand still, and whose clients go: what is
said of each request of them is true."""

import contextlib
import secrets
import signal
import threading
import unittest

from harness import Cluster, Gone, rkv, wait_for

EACH, KILLS = 64, 4


def batch_of(*requests):
    return rkv.Envelope(batch=rkv.Batch(requests=[
        rkv.BatchItem(write=one) if isinstance(one, rkv.Write) else
        rkv.BatchItem(read=one) for one in requests]))


def result_of(reply):
    body = getattr(reply, reply.WhichOneof("body"))
    return body if isinstance(body, rkv.Result) else body.result


class Writer(threading.Thread):
    """Batches of new keys, one after the other and never again, to one node
    for as long as it is there."""

    def __init__(self, nodes, name):
        super().__init__(name=name, daemon=True)
        self.nodes = nodes
        self.outcomes = {}  # of each key
        self.applied, self.batches, self.gone = 0, 0, 0
        self.stopping = threading.Event()
        self.failure = None

    def write(self, client):
        keys = [b"%s/%d/%d" % (self.name.encode(), self.batches, i)
                for i in range(EACH)]
        self.batches += 1
        # Until a node says what became of it.
        self.outcomes.update(dict.fromkeys(keys, rkv.UNKNOWN))
        reply = client.call(batch_of(*(
            rkv.Write(key=key, value=key, request_id=secrets.token_bytes(16))
            for key in keys)))
        replies = reply.batch_reply.replies
        assert len(replies) == EACH, reply
        for key, one in zip(keys, replies):
            result = result_of(one)
            assert (result.status == rkv.OK) == \
                (result.outcome == rkv.APPLIED), result
            assert result.outcome != rkv.NONE, result
            self.outcomes[key] = result.outcome
        self.applied += sum(self.outcomes[key] == rkv.APPLIED for key in keys)

    def run(self):
        try:
            while not self.stopping.is_set():
                for node in self.nodes:
                    with contextlib.suppress(OSError, Gone):
                        with contextlib.closing(node.client(5)) as client:
                            while not self.stopping.is_set():
                                self.write(client)
                    self.gone += 1
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure


class Batches(unittest.TestCase):
    def wait_applied(self, writers, more):
        target = [writer.applied + more for writer in writers]

        def have():
            for writer in writers:
                if writer.failure is not None:
                    raise writer.failure
            return all(writer.applied >= wanted for writer, wanted in
                       zip(writers, target))
        wait_for(f"{more} more writes of each", have)

    def check(self, cluster, outcomes):
        """Every applied write is there, every other whole or not at all, and
        none that was not attempted."""
        keys = sorted(outcomes)
        client = cluster.nodes[0].client()
        with contextlib.closing(client):
            for first in range(0, len(keys), 500):
                some = keys[first:first + 500]
                replies = client.call(batch_of(*(
                    rkv.Read(key=key, r=-2, timeout_ms=30000)
                    for key in some))).batch_reply.replies
                self.assertEqual(len(replies), len(some))
                for key, one in zip(some, replies):
                    result = result_of(one)
                    self.assertIn(result.status, (rkv.OK, rkv.NOT_FOUND),
                                  result.message)
                    values = list(one.read_reply.values)
                    self.assertIn(values, ([], [key]))
                    if outcomes[key] == rkv.APPLIED:
                        self.assertEqual(values, [key])
                    if outcomes[key] == rkv.NOT_APPLIED:
                        self.assertEqual(values, [])

    def test_each_outcome_is_true_while_nodes_are_killed(self):
        with Cluster("lsm", sections={
                "replication": {"request_timeout_ms": 1000}}) as cluster:
            cluster.start()
            nodes = cluster.nodes
            writers = [Writer(nodes[i:] + nodes[:i], f"w{i}")
                       for i in range(3)]
            for writer in writers:
                writer.start()
            for kill in range(KILLS):
                victim = nodes[kill % 3]
                self.wait_applied(writers, 2 * EACH)
                victim.kill()
                self.wait_applied(writers, 2 * EACH)
                victim.start()
                victim.wait_ready()
            for writer in writers:
                writer.stopping.set()
            for writer in writers:
                writer.join()
                if writer.failure is not None:
                    raise writer.failure
            cluster.wait_no_hints()
            cluster.wait_met()
            outcomes = {}
            for writer in writers:
                outcomes.update(writer.outcomes)
            self.check(cluster, outcomes)
            told = [list(outcomes.values()).count(outcome) for outcome in
                    (rkv.APPLIED, rkv.NOT_APPLIED, rkv.UNKNOWN)]
            print(f"{told[0]} applied, {told[1]} not applied, {told[2]} "
                  f"unknown, {sum(w.gone for w in writers)} connections lost")
            self.assertGreater(sum(w.gone for w in writers), 0)

    def test_a_batch_whose_client_goes_takes_no_room(self):
        """Twice inflight_max is what batches may have under way."""
        with Cluster("memory", sections={
                "limits": {"inflight_max": 8},
                "replication": {"lane_timeout_ms": 600000}}) as cluster:
            cluster.start()
            node, *others = cluster.nodes
            writes = [rkv.Write(key=b"k%d" % i, value=b"v", w=3,
                                timeout_ms=600000) for i in range(12)]
            with contextlib.closing(node.client()) as other:
                try:
                    for one in others:
                        one.signal(signal.SIGSTOP)
                    first = node.client()
                    first.send(batch_of(*writes))
                    wait_for("it to be taken in", lambda:
                             other.counters()["batches"] == 1)
                    refused = other.call(batch_of(*writes)).result
                    self.assertEqual((refused.status, refused.outcome),
                                     (rkv.OVERLOADED, rkv.NOT_APPLIED))
                    self.assertIn("inflight_max", refused.message)
                    self.assertGreater(refused.retry_after_ms, 0)
                    first.close()
                    wait_for("room", lambda: other.call(batch_of(
                        rkv.Read(key=b""), *[rkv.Read(key=b"")] * 15)
                    ).WhichOneof("body") == "batch_reply")
                finally:
                    for one in others:
                        one.signal(signal.SIGCONT)


if __name__ == "__main__":
    unittest.main()
