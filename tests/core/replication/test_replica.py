"""A replicated set: whoever has a record passes it on until everybody has it, and an idle set costs
next to nothing. It knows no record; here they are words."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.effects import NodeEffect, Penalise, SendFrame
from swarmllm.core.halt.charter import Rejected
from swarmllm.core.replication.replica import (
    ASK_EVERY_MAX_S,
    ENTROPY_S,
    FRAMES_BURST,
    FRAMES_PER_S,
    Replica,
)
from swarmllm.messages import PeerId
from swarmllm.messages.governance import (
    GOV_FRAME_MAX,
    SetDigest,
    SetRecords,
    SetSummary,
    SetWanted,
)
from swarmllm.wire.codec import encode

SCOPE = b"a set of"
OTHER = b"no other"
P = PeerId("p")


class Words:
    """Groups of words, by their first letter. `full`: it keeps nothing that begins so."""

    def __init__(self, scope: bytes = SCOPE) -> None:
        self.scope = scope
        self.words: dict[bytes, set[bytes]] = {}
        self.dropped: set[bytes] = set()
        self.taken = 0

    def add(self, word: bytes) -> bool:
        group = self.words.setdefault(word[:1] * 8, set())
        is_new = word not in group
        group.add(word)
        return is_new

    def groups(self) -> Mapping[bytes, bytes]:
        return {
            name: sha256(b" ".join(sorted(found))).digest()[:8]
            for name, found in self.words.items()
        }

    def records_of(self, name: bytes) -> Sequence[bytes]:
        return sorted(self.words.get(name, ()))

    def wants(self, name: bytes) -> bool:
        return name not in self.dropped

    def take(self, records: Sequence[bytes], peer: PeerId) -> tuple[bool, Sequence[Rejected]]:
        self.taken += 1
        bad = [Rejected(f"{word!r} is no word", penalise=True) for word in records if b"!" in word]
        good = [word for word in records if b"!" not in word and word[:1] * 8 not in self.dropped]
        news = [word for word in good if self.add(word)]
        return bool(news), bad


class Swarm:
    """Replicas with streams between them."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.words = [Words() for _ in range(count)]
        self.replicas = [
            Replica("gov", words, random.Random(f"{seed} {at}"))
            for at, words in enumerate(self.words)
        ]
        self.queues: dict[tuple[int, int], deque[bytes]] = {}
        self.now = 0.0
        self.frames = self.size = 0
        self.penalised: list[tuple[int, str]] = []

    def link(self, one: int, two: int) -> None:
        self.queues[one, two], self.queues[two, one] = deque(), deque()
        for node, other in ((one, two), (two, one)):
            self.perform(node, self.replicas[node].opened(PeerId(str(other)), self.now))

    def cut(self, one: int, two: int) -> None:
        for node, other in ((one, two), (two, one)):
            if self.queues.pop((node, other), None) is not None:
                self.replicas[node].closed(PeerId(str(other)))

    def perform(self, node: int, effects: Sequence[NodeEffect]) -> None:
        for effect in effects:
            match effect:
                case SendFrame(peer=peer, message=message):
                    frame = encode(message)
                    self.frames += 1
                    self.size += len(frame) + 4
                    queue = self.queues.get((node, int(peer)))
                    if queue is not None:
                        queue.append(frame)
                case Penalise(reason=reason):
                    self.penalised.append((node, reason))
                case _:
                    raise AssertionError(effect)

    def say(self, node: int, word: bytes) -> None:
        self.words[node].add(word)
        self.replicas[node].touched(self.now)

    def flow(self) -> None:
        while any(self.queues.values()):
            for (sender, receiver), queue in list(self.queues.items()):
                if queue:
                    replica = self.replicas[receiver]
                    self.perform(
                        receiver, replica.received(PeerId(str(sender)), queue.popleft(), self.now)
                    )

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            at = min(replica.next_deadline() for replica in self.replicas)
            if at > until:
                break
            self.now = max(self.now, at)
            for node, replica in enumerate(self.replicas):
                if replica.next_deadline() <= self.now:
                    self.perform(node, replica.timer(self.now))
            self.flow()
        self.now = until

    @property
    def agree(self) -> bool:
        return len({replica.digest for replica in self.replicas}) == 1


def test_two_sets_become_one_in_one_exchange_and_then_say_nothing() -> None:  # GOV-24
    swarm = Swarm(2)
    for word in (b"ant", b"ape", b"bee"):
        swarm.words[0].add(word)
    for word in (b"ape", b"cat"):
        swarm.words[1].add(word)
    swarm.link(0, 1)
    swarm.flow()
    swarm.wait(5.0)
    assert swarm.agree
    assert swarm.words[0].words == swarm.words[1].words
    before = swarm.frames
    swarm.wait(40.0)
    assert swarm.frames == before


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_was_cut_and_lost_all_have_all_in_the_end(data: st.DataObject) -> None:
    swarm = Swarm(4, data.draw(st.integers(0, 99)))
    pairs = [(one, two) for one in range(4) for two in range(one)]
    letters = st.sampled_from(b"abcd")
    for _ in range(data.draw(st.integers(1, 15))):
        match data.draw(st.integers(0, 4)):
            case 0 | 1:
                word = bytes((data.draw(letters), data.draw(letters)))
                swarm.say(data.draw(st.integers(0, 3)), word)
            case 2:
                pair = data.draw(st.sampled_from(pairs))
                if pair not in swarm.queues:
                    swarm.link(*pair)
            case 3:
                swarm.cut(*data.draw(st.sampled_from(pairs)))
            case _:  # A cut above loses what was under way on that stream.
                swarm.wait(data.draw(st.sampled_from((0.0, 1.0, 30.0))))
    for one in range(3):
        if (one, one + 1) not in swarm.queues:
            swarm.link(one, one + 1)
    swarm.wait(30 * 60.0)
    assert swarm.agree
    union = {word for words in swarm.words for group in words.words.values() for word in group}
    assert all(set().union(*words.words.values()) == union for words in swarm.words)
    assert swarm.penalised == []


def test_news_is_with_everybody_in_seconds() -> None:  # GOV-25
    swarm = Swarm(30, 3)
    rng = random.Random(5)
    for node in range(1, 30):
        for other in {rng.randrange(node), rng.randrange(node)}:
            swarm.link(node, other)
    swarm.flow()
    swarm.wait(10.0)
    swarm.say(7, b"news")
    swarm.wait(20.0)
    assert swarm.agree


def test_an_idle_set_costs_each_node_a_frame_a_minute() -> None:
    swarm = Swarm(20)
    for node in range(1, 20):
        swarm.link(node, node - 1)
    for word in (b"ant", b"bee", b"cat"):
        swarm.say(0, word)
    swarm.wait(600.0)
    assert swarm.agree
    before, began = swarm.size, swarm.now
    swarm.wait(3_600.0)
    per_node_s = (swarm.size - before) / 20 / (swarm.now - began)
    assert per_node_s < 1.0, f"{per_node_s} bytes per node and second"


def test_what_one_drops_is_asked_for_ever_more_seldom() -> None:
    swarm = Swarm(2)
    swarm.words[1].dropped.add(b"a" * 8)
    swarm.words[0].add(b"ant")
    swarm.link(0, 1)
    swarm.flow()
    swarm.wait(3_600.0)
    before = swarm.size
    swarm.wait(6 * ASK_EVERY_MAX_S)
    assert swarm.words[1].words == {}
    assert (swarm.size - before) / (6 * ASK_EVERY_MAX_S) < 2.0


def test_sets_of_different_scopes_leave_each_other_alone() -> None:  # GOV-23
    swarm = Swarm(2)
    swarm.words[1].scope = OTHER
    swarm.say(0, b"ant")
    swarm.link(0, 1)
    swarm.flow()
    swarm.wait(200.0)
    assert swarm.words[1].words == {}
    none = Swarm(2)
    for words in none.words:
        words.scope = bytes(8)
    none.say(0, b"ant")
    none.link(0, 1)
    none.wait(200.0)
    assert none.words[1].words == {}, "nor do sets without a name"


def opened(now: float = 0.0) -> tuple[Replica, Words]:
    words = Words()
    replica = Replica("gov", words, random.Random(1))
    replica.opened(P, now)
    replica.received(P, encode(SetDigest(SCOPE, b"\1" * 8)), now)
    return replica, words


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x93\x6a",
        encode(SetDigest(SCOPE, bytes(8))) + b"\0",
        b"\x93" + bytes(GOV_FRAME_MAX),
        encode(SetSummary(SCOPE, b"")),
    ],
)
def test_a_breach_of_the_protocol_is_counted(frame: bytes) -> None:  # GOV-23
    replica = Replica("gov", Words(), random.Random(1))
    replica.opened(P, 0.0)
    (effect,) = replica.received(P, frame, 0.0)
    assert isinstance(effect, Penalise), "and a stream begins with a digest"


def test_one_strike_for_one_frame_however_much_is_wrong_with_it() -> None:
    replica, words = opened()
    frame = encode(SetRecords(SCOPE, (b"bad!", b"worse!", b"fine")))
    effects = replica.received(P, frame, 1.0)
    assert [effect for effect in effects if isinstance(effect, Penalise)] == [
        Penalise(P, "b'bad!' is no word")
    ]
    assert replica.refused == 2
    assert words.words


def test_a_flood_is_dropped_unread() -> None:  # GOV-26
    replica, words = opened()
    frame = encode(SetRecords(SCOPE, (b"ant",)))
    for _ in range(1_000):
        replica.received(P, frame, 10.0)
    assert words.taken <= FRAMES_BURST
    replica.received(P, frame, 10.0 + 1 / FRAMES_PER_S)
    assert words.taken <= FRAMES_BURST + 1


def test_many_peers_together_get_no_more_than_the_node_affords() -> None:
    words = Words()
    replica = Replica("gov", words, random.Random(1))
    for number in range(64):
        replica.opened(PeerId(str(number)), 0.0)
    for number in range(64):
        replica.received(PeerId(str(number)), encode(SetDigest(SCOPE, bytes(8))), 0.0)
        for _ in range(200):
            replica.received(PeerId(str(number)), encode(SetRecords(SCOPE, (b"ant",))), 0.0)
    taken = words.taken
    for number in range(64):
        for _ in range(200):
            replica.received(PeerId(str(number)), encode(SetRecords(SCOPE, (b"ant",))), 1.0)
    assert words.taken - taken <= 64


def test_frames_of_a_stream_that_is_gone_mean_nothing() -> None:
    replica, words = opened()
    replica.closed(P)
    assert replica.received(P, encode(SetRecords(SCOPE, (b"ant",))), 1.0) == []
    assert words.taken == 0


def test_what_is_wanted_and_not_there_is_not_answered() -> None:
    replica, words = opened()
    words.add(b"ant")
    effects: Any = replica.received(P, encode(SetWanted(SCOPE, b"a" * 8 + b"z" * 8)), 1.0)
    assert [effect.message.records for effect in effects] == [(b"ant",)]


def test_without_links_there_is_nothing_to_do() -> None:
    replica = Replica("gov", Words(), random.Random(1))
    assert replica.next_deadline() == math.inf
    replica.opened(P, 5.0)
    assert ENTROPY_S[0] <= replica.next_deadline() - 5.0 <= ENTROPY_S[1]
