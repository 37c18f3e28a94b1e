"""Which vocabulary a node without a model asks for."""

from __future__ import annotations

from dataclasses import replace

from swarmllm.core.peers.vocabularies import vocabularies
from swarmllm.messages import CapacityRecord, PeerId
from swarmllm.wire.ext import CHAT_DIGEST, addition

ONE, TWO = b"1" * 32, b"2" * 32
CHAT, OTHER = b"chatchat", b"other..."


def record(fingerprint: bytes, chat: bytes = CHAT, model: str = "m") -> CapacityRecord:
    plain = CapacityRecord(1, 1, model, bytes(32), fingerprint, 1, 1, 0, 0, 1, 1, (), (), bytes(8))
    return replace(plain, ext=addition(CHAT_DIGEST, chat))


def peers(*names: str) -> list[PeerId]:
    return [PeerId(name) for name in names]


def test_most_connected_experts_count_before_most_that_are_heard_of() -> None:
    """Inventing authors of records costs nothing; a connection is one."""
    known = [(PeerId(f"far {n}"), record(TWO)) for n in range(50)]
    known += [(PeerId("near"), record(ONE))]
    first, second = vocabularies(known, peers("near"))
    assert (first.fingerprint, first.connected, first.experts) == (ONE, 1, 1)
    assert (second.fingerprint, second.connected, second.experts) == (TWO, 0, 50)
    assert second.reachable == ()
    assert vocabularies(known, [])[0].fingerprint == TWO


def test_the_commonest_chat_format_is_asked_for_from_those_that_have_it() -> None:
    a, b, c = peers("a", "b", "c")
    known = [(a, record(ONE, OTHER, "x")), (b, record(ONE, CHAT, "y")), (c, record(ONE, CHAT, "y"))]
    (found,) = vocabularies(known, [a, b, c])
    assert (found.chat_digest, found.reachable, found.model) == (CHAT, (b, c), "y")
    (near,) = vocabularies(known, [a])
    assert (near.chat_digest, near.reachable, near.experts) == (OTHER, (a,), 3)


def test_whoever_offers_no_place_counts_for_nothing_and_our_own_expert_is_counted() -> None:
    gone = replace(record(TWO), sessions_max=0, sessions_free=0)
    (found,) = vocabularies([(PeerId("a"), gone)], peers("a"), record(ONE))
    assert (found.fingerprint, found.connected, found.reachable) == (ONE, 1, ())


def test_the_order_of_what_was_heard_first_decides_nothing() -> None:
    known = [(PeerId("a"), record(TWO)), (PeerId("b"), record(ONE))]
    one, other = vocabularies(known, peers("a", "b")), vocabularies(known[::-1], peers("b", "a"))
    assert one == other
    assert one[0].fingerprint == ONE
