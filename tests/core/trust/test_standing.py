"""One word for what this node thinks of an expert, and a reason that says what to think of it."""

from __future__ import annotations

import pytest

from swarmllm.core.trust.reputation import DAY_S, Reputation
from swarmllm.core.trust.standing import Word, standing_of
from swarmllm.core.trust.suspicion import ALARM_NATS, Suspicion
from swarmllm.messages import PeerId

PEER, DIGEST, START_S = PeerId("one"), bytes(32), 1_800_000_000.0


def known(days: float = 0.0) -> Reputation:
    found = Reputation()
    found.met(PEER, DIGEST, START_S - days * DAY_S)
    return found


def seen(found: Reputation, days: float = 0.0) -> tuple[Word, str]:
    standing = standing_of(found, PEER, DIGEST, START_S + days * DAY_S)
    return standing.word, standing.why


def test_a_newcomer_becomes_known_with_time() -> None:
    found = known()
    assert seen(found)[1] == "known for less than an hour, no valid audit lately"
    assert seen(found, 1 / 24)[1] == "known for 1 hour, no valid audit lately"
    assert seen(found, 1.5)[1] == "known for 36 hours, no valid audit lately"
    assert seen(found, 3) == (Word.NEW, "known for 3.0 days, no valid audit lately")
    assert seen(found, 31)[0] is Word.UNAUDITED
    found.agreed(PEER, DIGEST, Suspicion(), START_S + 30 * DAY_S)
    assert seen(found, 31) == (Word.AUDITED, "1 valid audit lately")
    assert seen(found, 60)[0] is Word.UNAUDITED


@pytest.mark.parametrize("age", [0.0, 90.0])
def test_the_worst_is_said_first(age: float) -> None:
    found = known(age)
    found.agreed(PEER, DIGEST, Suspicion(), START_S)
    found.disputed(PEER, DIGEST, START_S)
    assert seen(found)[0] is Word.DISPUTED
    found.failed(PEER, DIGEST, Suspicion(1.0), START_S, "x")
    assert seen(found)[0] is Word.DOUBTED
    found.failed(PEER, DIGEST, Suspicion(ALARM_NATS), START_S, "its lists differ")
    assert seen(found) == (Word.EXCLUDED, "for 7.0 days more: its lists differ")
    assert standing_of(found, PEER, DIGEST, START_S).trust == 0
    assert seen(found, 8)[0] is Word.DOUBTED
    assert seen(found, 40)[0] is Word.UNAUDITED


def test_a_dispute_ends_with_the_next_valid_audit() -> None:
    found = known(90)
    found.disputed(PEER, DIGEST, START_S)
    found.agreed(PEER, DIGEST, Suspicion(), START_S)
    assert seen(found)[0] is Word.AUDITED
