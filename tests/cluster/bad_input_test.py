# SPDX-License-Identifier: MIT
"""What clients and strangers may send: each is answered with a clear error,
or cut off, and the nodes go on."""

import contextlib
import random
import socket
import struct
import unittest

from harness import Client, Cluster, Gone, rkv, wait_for

SEED = 20240611
KEY_BYTES_MAX, VALUE_BYTES_MAX = 480, 64 << 10
REQ = bytes.fromhex("0053500000300000")


def varint(number):
    low = number & 0x7f
    if number < 0x80:
        return bytes([low])
    return bytes([low | 0x80]) + varint(number >> 7)


def framed(payload, number=0x80000001):
    return struct.pack(">QI", len(payload) + 4, number) + payload


class Ghost(Client):
    """A stranger that says Hello as a node of the cluster would."""

    def __init__(self, node):
        super().__init__((node.host, node.peer_port))
        reply = self.hello("another", rkv.Hello())
        self.of_node = reply.hello
        self.close()
        super().__init__((node.host, node.peer_port))

    def hello(self, cluster, like):
        hello = rkv.Hello()
        hello.CopyFrom(like)
        hello.cluster = cluster
        hello.self.CopyFrom(rkv.Member(
            id=bytes(range(16)), name="ghost", peer_address="tcp://127.0.0.1:1",
            client_address="tcp://127.0.0.1:1", boot=1, store_id=bytes(16),
            version_min=3, version_max=3))
        return self.call(rkv.Envelope(hello=hello)).hello_reply


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # One more than replicas, so that some requests are forwarded.
        cls.cluster = Cluster("lsm", nodes=4, sections={
            "limits": {"value_bytes_max": VALUE_BYTES_MAX},
            "buckets": "[{name: other}]"})
        cls.addClassCleanup(cls.cluster.__exit__, None)
        cls.cluster.start()

    def setUp(self):
        self.random = random.Random(SEED)
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def clients(self):
        return [self.stack.enter_context(contextlib.closing(node.client()))
                for node in self.cluster.nodes]

    def counted(self, name):
        return sum(client.counters()[name] for client in self.clients())

    def assert_all_serve(self):
        for i, client in enumerate(self.clients()):
            key = b"serves%d" % i
            context = client.get(key)[2]
            result, _ = client.put(key, b"yes", context=context)
            self.assertEqual(result.outcome, rkv.APPLIED, result.message)
            self.assertEqual(client.get(key)[1], [b"yes"])

    def assert_refused(self, result, status, *words):
        self.assertEqual((result.status, result.outcome),
                         (status, rkv.NOT_APPLIED), result.message)
        for word in words:
            self.assertIn(word, result.message)

    # --- bytes ---

    def throw(self, port, data):
        """Send it, hear what comes, hang up."""
        with contextlib.suppress(OSError), \
                socket.create_connection(("127.0.0.1", port), 5) as raw:
            raw.sendall(data)
            raw.settimeout(0.01)
            while raw.recv(1 << 16):
                pass

    def some_envelope(self):
        some = self.random
        record = some.randbytes(some.randrange(200))
        return some.choice([
            rkv.Envelope(write=rkv.Write(key=b"k", value=record, context=record,
                                         request_id=some.randbytes(16))),
            rkv.Envelope(read=rkv.Read(key=b"k", r=some.randrange(-5, 9))),
            rkv.Envelope(batch=rkv.Batch(requests=[
                rkv.BatchItem(write=rkv.Write(key=b"k", context=record)),
                rkv.BatchItem(read=rkv.Read(key=record))] * 3)),
            rkv.Envelope(list=rkv.List(partition=some.randrange(99),
                                       after=record)),
            rkv.Envelope(admin=rkv.Admin(what=some.randrange(9), key=record,
                                         after=record)),
            rkv.Envelope(store=rkv.Store(key=b"k", record=record,
                                         target=some.randbytes(16))),
            rkv.Envelope(fetch=rkv.Fetch(key=record, bucket=3)),
            rkv.Envelope(scan=rkv.Scan(partition=some.randrange(99),
                                       after=record)),
            rkv.Envelope(handoff=rkv.Handoff(rows=[
                rkv.Row(bucket=1, key=b"k", record=record)] * 3)),
            rkv.Envelope(hello=rkv.Hello(cluster="test", lane=77)),
            rkv.Envelope(ping=rkv.Ping(target=record[:16], rumours=[
                rkv.Rumour(topic="member", key=record, payload=record)])),
            rkv.Envelope(push_pull=rkv.PushPull(members=[
                rkv.Member(id=some.randbytes(16), name="x" * 99)])),
        ])

    def damaged(self):
        """A message, cut short or with some of its bytes changed."""
        envelope = self.some_envelope()
        envelope.version = self.random.choice((0, 1, 1, 1, 1, 7))
        payload = bytearray(envelope.SerializeToString())
        for _ in range(self.random.randrange(4)):
            if payload:
                at = self.random.randrange(len(payload))
                payload[at] = self.random.randrange(256)
        if self.random.random() < 0.3:
            del payload[self.random.randrange(len(payload) + 1):]
        return bytes(payload)

    def test_random_bytes_are_cut_off(self):
        for node in self.cluster.nodes[:2]:
            for port in (node.client_port, node.peer_port):
                for start in (b"", REQ, REQ[:5]):
                    for _ in range(5):
                        self.throw(port, start + self.random.randbytes(300))
        self.assert_all_serve()

    def test_truncated_frames_are_forgotten(self):
        node = self.cluster.nodes[0]
        whole = REQ + framed(self.damaged())
        for port in (node.client_port, node.peer_port):
            for end in range(0, len(whole), 3):
                self.throw(port, whole[:end])
        self.assert_all_serve()

    def test_damaged_messages_are_answered_or_refused(self):
        before = self.counted("frames_malformed")
        for node in self.cluster.nodes:
            for port in (node.client_port, node.peer_port):
                for _ in range(20):
                    self.throw(port, REQ + b"".join(
                        framed(self.damaged(), 0x80000000 | i)
                        for i in range(8)))
        self.assertGreater(self.counted("frames_malformed"), before)
        self.assert_all_serve()

    def test_damaged_messages_of_a_node_do_no_harm(self):
        node = self.cluster.nodes[3]
        ghost = self.stack.enter_context(contextlib.closing(Ghost(node)))
        reply = ghost.hello("test", ghost.of_node)
        self.assertEqual(reply.status, rkv.OK, reply.message)
        for _ in range(300):
            ghost.serial += 1
            ghost.send_bytes(self.damaged())
        # Not parsed: a rumour is passed on as it came, and a name in it that
        # is no UTF-8 is none to Python.
        answered = {ghost.receive_bytes()[0] for _ in range(300)}
        self.assertEqual(len(answered), 300)
        self.assert_all_serve()

    def test_a_peer_that_says_no_hello_is_refused(self):
        node = self.cluster.nodes[0]
        peer = self.stack.enter_context(contextlib.closing(
            Client((node.host, node.peer_port))))
        reply = peer.call(rkv.Envelope(fetch=rkv.Fetch(key=b"k")))
        self.assertEqual(reply.hello_reply.status, rkv.INVALID)
        self.assertIn("hello", reply.hello_reply.message)
        with self.assertRaises(Gone):
            peer.receive()

    def test_a_frame_over_the_limit_is_counted_and_cut_off(self):
        node = self.cluster.nodes[0]
        client = self.clients()[0]
        for port in (node.client_port, node.peer_port):
            before = client.counters()["frames_oversized"]
            with socket.create_connection((node.host, port), 10) as raw:
                address = "%s:%d" % raw.getsockname()
                raw.sendall(REQ + struct.pack(">Q", 1 << 40))
                self.assertEqual(raw.recv(8), bytes.fromhex("0053500000310000"))
                self.assertEqual(raw.recv(1), b"")
            wait_for("a line with the address", lambda address=address: any(
                "event=closed" in line and address in line
                for line in node.said().splitlines()))
            self.assertEqual(client.counters()["frames_oversized"], before + 1)
        self.assert_all_serve()

    # --- requests ---

    def test_keys_have_1_to_480_bytes(self):
        for client in self.clients():
            for size, status in ((0, rkv.INVALID), (481, rkv.TOO_LARGE)):
                result, _ = client.put(b"k" * size, b"value")
                self.assert_refused(result, status, "key", str(size), "480")
                result, _, _ = client.get(b"k" * size)
                self.assertEqual(result.status, status)
            result, _ = client.put(b"k" * KEY_BYTES_MAX, b"value")
            self.assertEqual(result.outcome, rkv.APPLIED, result.message)

    def test_values_have_a_limit(self):
        for i, client in enumerate(self.clients()):
            result, _ = client.put(b"value", bytes(VALUE_BYTES_MAX + 1))
            self.assert_refused(result, rkv.TOO_LARGE, "value",
                                str(VALUE_BYTES_MAX))
            key = b"large%d" % i
            result, _ = client.put(key, bytes(VALUE_BYTES_MAX))
            self.assertEqual(result.outcome, rkv.APPLIED, result.message)
            self.assertEqual(client.get(key, r=-2)[1],
                             [bytes(VALUE_BYTES_MAX)])
            # And far beyond it, where not even the request is read.
            for size in (2 * VALUE_BYTES_MAX, 10 * VALUE_BYTES_MAX):
                result, _ = client.put(b"value", bytes(size))
                self.assert_refused(result, rkv.TOO_LARGE, "request",
                                    "value_bytes_max")

    def test_a_context_belongs_to_its_key(self):
        clients = self.clients()
        _, context = clients[0].put(b"one", b"value")
        for client in clients:
            result, _ = client.put(b"two", b"value", context=context)
            self.assert_refused(result, rkv.REFUSED, "context", "another key")
            result, _ = client.put(b"one", b"value", context=context,
                                   bucket="other")
            self.assert_refused(result, rkv.REFUSED, "context", "another key")

    def test_a_malformed_context_is_refused(self):
        clients = self.clients()
        _, context = clients[0].put(b"context", b"value")
        for client in clients:
            for bad in (b"x", bytes(40), context[:-1], context + b"x",
                        self.random.randbytes(200)):
                result, _ = client.put(b"context", b"lost", context=bad)
                self.assertIn(result.status, (rkv.INVALID, rkv.REFUSED))
                self.assert_refused(result, result.status, "context")
        self.assertEqual(clients[0].get(b"context", r=-2)[1], [b"value"])

    def test_buckets_and_levels_are_checked(self):
        for client in self.clients():
            result, _ = client.put(b"k", b"value", bucket="undeclared")
            self.assert_refused(result, rkv.INVALID, "bucket", "undeclared")
            for level in (4, 99, -3):
                result, _ = client.put(b"k", b"value", w=level)
                self.assert_refused(result, rkv.INVALID, "w", str(level))
                result, _, _ = client.get(b"k", r=level)
                self.assertEqual(result.status, rkv.INVALID)

    def test_a_request_id_has_16_bytes(self):
        for client in self.clients():
            result, _ = client.put(b"k", b"value", request_id=b"short")
            self.assert_refused(result, rkv.INVALID, "request_id", "16")

    def test_positions_of_lists_are_checked(self):
        for client in self.clients():
            for fields in ({"partition": 32}, {"partition": 1 << 31},
                           {"after": bytes(600)}):
                reply = client.call(rkv.Envelope(list=rkv.List(**fields)))
                self.assertEqual(reply.result.status, rkv.INVALID)

    def test_a_batch_has_1_to_1000_requests(self):
        item = rkv.BatchItem(read=rkv.Read(key=b"k"))
        for client in self.clients():
            for count in (0, 1001):
                result = client.call(rkv.Envelope(batch=rkv.Batch(
                    requests=[item] * count))).result
                self.assert_refused(result, rkv.INVALID, "batch.requests",
                                    str(count), "1000")
            reply = client.call(rkv.Envelope(batch=rkv.Batch(
                requests=[item] * 1000)))
            self.assertEqual(len(reply.batch_reply.replies), 1000)

    def test_each_request_of_a_batch_is_checked(self):
        good = rkv.Write(key=b"in a batch", value=b"value")
        wrong = (rkv.BatchItem(),
                 rkv.BatchItem(write=rkv.Write(key=b"k" * 481)),
                 rkv.BatchItem(write=rkv.Write(
                     key=b"k", value=bytes(VALUE_BYTES_MAX + 1))),
                 rkv.BatchItem(write=rkv.Write(key=b"k", context=b"x")),
                 rkv.BatchItem(read=rkv.Read(key=b"k", r=99)))
        statuses = (rkv.INVALID, rkv.TOO_LARGE, rkv.TOO_LARGE, rkv.INVALID,
                    rkv.INVALID)
        for client in self.clients():
            context = client.get(b"in a batch")[2]
            good.context = context
            reply = client.call(rkv.Envelope(batch=rkv.Batch(
                requests=[*wrong, rkv.BatchItem(write=good)])))
            *refused, applied = reply.batch_reply.replies
            self.assertEqual(applied.write_reply.result.outcome, rkv.APPLIED)
            for one, status in zip(refused, statuses):
                body = getattr(one, one.WhichOneof("body"))
                result = getattr(body, "result", body)
                self.assertEqual(result.status, status, result.message)
                self.assertIn(result.outcome, (rkv.NOT_APPLIED, rkv.NONE))
                self.assertNotEqual(result.message, "")
        self.assert_all_serve()

    def test_a_batch_in_a_batch_is_no_request(self):
        """However deep: who unpacked all of it would run out of stack."""
        payload = b""
        for _ in range(3000):
            item = b"\x0a" + varint(len(payload)) + payload
            payload = b"\x92\x01" + varint(len(item)) + item
        for client in self.clients():
            client.serial += 1
            client.send_bytes(b"\x08\x01" + payload)
            (reply,) = client.receive()[1].batch_reply.replies
            self.assert_refused(reply.result, rkv.INVALID, "neither")
        self.assert_all_serve()

    def test_what_is_no_request_is_unsupported(self):
        for client in self.clients():
            for envelope in (rkv.Envelope(store=rkv.Store(key=b"k")),
                             rkv.Envelope(write_reply=rkv.WriteReply()),
                             rkv.Envelope(hello=rkv.Hello())):
                result = client.call(envelope).result
                self.assert_refused(result, rkv.UNSUPPORTED)


if __name__ == "__main__":
    unittest.main()
