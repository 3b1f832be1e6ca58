# SPDX-License-Identifier: MIT
"""Clients that read and write through every node, and what has to be true of
what they saw.

Every write has a token, with which its value begins. From what a read showed
follows what its context covers, so that it is known which writes a write was
meant to replace: its past."""

import collections
import contextlib
import random
import secrets
import threading
import time

from harness import Gone, rkv, wait_for

ATTEMPTS = 12
# Written by all of a load's clients; the others by one client each.
SHARED_KEYS, OWN_KEYS = 30, 15
# Of a key, after which another takes its place. A record remembers the requests
# of 64 writes that were replaced (DEDUP_ENTRIES_MAX in proto/record.h): one that
# a node took while it was cut off, and another when it was sent again, comes
# back with the first if more writes than that came between. Less by what the
# clients may have in flight.
STEPS_MAX = 56
# Keys, of the 60 that are deleted at all, that a delete of unknown outcome may
# excuse. A client has one write in flight and sends it again until it knows:
# measured are none.
EXCUSED_MAX = 6


class Write:
    def __init__(self, key, past, remove):
        self.key, self.past, self.remove = key, past, remove
        self.outcome = rkv.NOT_APPLIED

    def heard(self, outcome):
        """An attempt that applied decides; one that is not known to have
        done nothing leaves that open for good."""
        if self.outcome != rkv.APPLIED and outcome != rkv.NOT_APPLIED:
            self.outcome = outcome


class History:
    """What was written, and what of it was ever seen. Its keys begin with
    its name: what others wrote before is not among them."""

    def __init__(self, name=""):
        self.name = name
        self.lock = threading.Lock()
        self.writes = {}
        self.applied = 0
        self.steps = collections.Counter()
        self.seen = set()
        self.excused = set()

    def key(self, name):
        """The key of this name for a step."""
        with self.lock:
            self.steps[name] += 1
            return (f"{self.name}{name}/{self.steps[name] // STEPS_MAX}"
                    .encode())

    def closure(self, tokens):
        """The writes, and all that they replaced."""
        return set(tokens).union(*(self.writes[token].past
                                   for token in tokens))

    def deletes(self, key, *outcomes):
        with self.lock:
            return [token for token, write in self.writes.items()
                    if write.remove and write.key == key and
                    write.outcome in outcomes]

    def lost(self, key, acknowledged, tokens):
        """Acknowledged writes that are neither there nor replaced. A delete
        whose outcome is unknown may have replaced what it had seen, but that
        would also hide its loss: the keys that need it are counted."""
        lost = acknowledged - self.closure(
            [*tokens, *self.deletes(key, rkv.APPLIED)])
        maybe = self.closure(self.deletes(key, rkv.UNKNOWN))
        if lost & maybe:
            self.excused.add(key)
        return lost - maybe

    def check(self, key, tokens):
        """Nothing acknowledged is lost or comes back, what replicas show
        together is concurrent, and nothing is there that was refused."""
        writes = self.writes
        mine = {token for token, write in writes.items() if write.key == key}
        applied = {token for token in mine
                   if writes[token].outcome == rkv.APPLIED}
        assert len(set(tokens)) == len(tokens), f"{key}: twice in {tokens}"
        assert mine.issuperset(tokens), f"{key}: of another key: {tokens}"
        lost = self.lost(key, applied, tokens)
        assert not lost, f"{key}: lost {sorted(lost)}, there are {tokens}"
        replaced = self.closure(()).union(
            *(writes[token].past for token in applied.union(tokens)))
        back = replaced.intersection(tokens)
        assert not back, f"{key}: {sorted(back)} were replaced"

    def check_seen(self):
        assert len(self.excused) <= EXCUSED_MAX, \
            f"only deletes of unknown outcome excuse {sorted(self.excused)}"
        ghosts = {token for token in self.seen
                  if self.writes[token].outcome == rkv.NOT_APPLIED}
        assert not ghosts, f"not applied, and yet seen: {sorted(ghosts)}"


def pump(client, name, count, value, in_flight=32):
    """Writes of keys of their own, many in flight; their outcomes."""
    waiting, sent, outcomes = set(), 0, set()
    while sent < count or waiting:
        while sent < count and len(waiting) < in_flight:
            waiting.add(client.send(rkv.Envelope(write=rkv.Write(
                key=b"%s%d" % (name, sent), value=value))))
            sent += 1
        number, reply = client.receive()
        waiting.remove(number)
        outcomes.add(reply.write_reply.result.outcome)
    return outcomes


def tokens_of(values):
    return [value.split(b"|", 1)[0].decode() for value in values]


class Load(threading.Thread):
    """One client of all nodes. It goes to another node when one is gone, and
    sends a write again, with its request id, until its outcome is known."""

    def __init__(self, nodes, history, name, seed, sizes=(50, 4000)):
        super().__init__(name=name, daemon=True)
        self.nodes, self.history, self.sizes = nodes, history, sizes
        self.random = random.Random(seed)
        self.clients = {}
        self.count = self.gone = self.unknown = self.failing = 0
        self.acknowledged = {}
        self.stopping = threading.Event()
        self.failure = None

    # --- requests ---

    def client(self, node):
        if node not in self.clients:
            self.clients[node] = node.client(5)
        return self.clients[node]

    def attempt(self, send):
        """What one node answered; None if it was gone meanwhile."""
        node = self.random.choice(self.nodes)
        try:
            client = self.client(node)
        except (OSError, Gone):
            return rkv.Result(outcome=rkv.NOT_APPLIED,
                              status=rkv.UNAVAILABLE), None, None
        try:
            return send(client)
        except Gone:
            self.clients.pop(node).close()
            self.gone += 1
            return rkv.Result(outcome=rkv.UNKNOWN), None, None

    def read(self, key):
        """(tokens, context), or None when too few replicas answer."""
        for _ in range(ATTEMPTS):
            result, values, context = self.attempt(
                lambda client: client.get(key))
            if context is not None and result.status in (rkv.OK,
                                                         rkv.NOT_FOUND):
                tokens = tokens_of(values)
                self.history.seen.update(tokens)
                self.check_own(key, tokens)
                return tokens, context
            time.sleep(0.02)
        return None

    def write(self, key, tokens, context, remove=False):
        self.count += 1
        history, token = self.history, f"{self.name}.{self.count}"
        past = history.closure(tokens)
        if context and not tokens:
            past = history.closure(
                history.deletes(key, rkv.APPLIED, rkv.UNKNOWN))
        write = Write(key, past, remove)
        value = token.encode() + b"|"
        value += bytes(self.random.randint(*self.sizes))
        request = secrets.token_bytes(16)
        with history.lock:
            history.writes[token] = write
        for _ in range(ATTEMPTS):
            result, _, *_ = self.attempt(lambda client: (*client.put(
                key, value, context=context, request_id=request,
                remove=remove), None))
            write.heard(result.outcome)
            if result.outcome == rkv.APPLIED:
                with history.lock:
                    history.applied += 1
                self.acknowledged.setdefault(key, set()).add(token)
                return
            if result.status in (rkv.INVALID, rkv.TOO_LARGE, rkv.REFUSED):
                return
            self.unknown += result.outcome == rkv.UNKNOWN
            self.failing += 1
            time.sleep(0.02)

    def check_own(self, key, tokens):
        """A quorum read shows what this client was told is written."""
        lost = self.history.lost(key, self.acknowledged.get(key, set()),
                                 tokens)
        assert not lost, f"{key}: does not show {lost}, there are {tokens}"

    # --- what it does ---

    def step(self):
        own = self.random.random() < 0.5
        name = (f"{self.name}/{self.random.randrange(OWN_KEYS)}" if own else
                f"shared/{self.random.randrange(SHARED_KEYS)}")
        key, dice = self.history.key(name), self.random.random()
        if dice < 0.15:
            self.write(key, [], b"")
            return
        read = self.read(key)
        if read is not None and dice < 0.8:
            self.write(key, *read, remove=own and dice < 0.25)

    def run(self):
        try:
            while not self.stopping.is_set():
                self.step()
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure
        for client in self.clients.values():
            client.close()


class Loads:
    """Several at once, for as long as the block lasts; more may follow on the
    same keys, after others, with their history."""

    def __init__(self, nodes, count=4, after=None, name="", seed=0, **options):
        self.history = after.history if after else History(name)
        first = len(after.loads) if after else 0
        self.loads = [Load(nodes, self.history, f"c{i}", seed + i, **options)
                      for i in range(first, first + count)]

    def __enter__(self):
        for load in self.loads:
            load.start()
        return self

    def __exit__(self, *_):
        for load in self.loads:
            load.stopping.set()
        for load in self.loads:
            load.join()

    def failed(self):
        for load in self.loads:
            if load.failure is not None:
                raise load.failure
        return False

    def wait_applied(self, more):
        """More writes are acknowledged from here on."""
        target = self.history.applied + more
        wait_for(f"{more} more writes", lambda: self.failed() or
                 self.history.applied >= target)

    def wait_failing(self):
        """Some writes do not succeed."""
        target = sum(load.failing for load in self.loads) + 2
        wait_for("writes to fail", lambda: self.failed() or target <=
                 sum(load.failing for load in self.loads))

    def keys(self):
        return sorted({write.key for write in self.history.writes.values()})

    def read_all(self, nodes, level=-2):
        """Every key at level all, so that every replica is made to hold what
        any has, and what was found by key."""
        found = {}
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(contextlib.closing(node.client()))
                       for node in nodes]
            for i, key in enumerate(self.keys()):
                for turn in range(ATTEMPTS):
                    client = clients[(i + turn) % len(clients)]
                    result, values, _ = client.get(key, r=level)
                    if result.status in (rkv.OK, rkv.NOT_FOUND):
                        break
                else:
                    raise AssertionError(f"{key}: {result.message}")
                found[key] = tokens_of(values)
                self.history.seen.update(found[key])
        return found

    def check(self, nodes, level=-2):
        """Of every key, after the load."""
        self.failed()
        found = self.read_all(nodes, level)
        for key, tokens in found.items():
            self.history.check(key, tokens)
        self.history.check_seen()
        return len(found)

    def told(self):
        return (f"{self.history.applied} writes acknowledged, "
                f"{sum(load.unknown for load in self.loads)} answers unknown, "
                f"{sum(load.gone for load in self.loads)} connections lost, "
                f"{len(self.history.excused)} keys excused")
