"""The tokenizer exchange, step by step: what is given, what is taken, and what a hostile peer can
do (TOK-5 to TOK-9)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.effects import (
    NodeEffect,
    Penalise,
    SealTokenizer,
    SendFrame,
    TokenizerFetched,
    TokenizerMissing,
)
from swarmllm.core.inputs import (
    ChannelClosed,
    ChannelOpened,
    FrameReceived,
    TimerFired,
    TokenizerJudged,
    TokenizerSealed,
    TokenizerSought,
)
from swarmllm.core.tokenizers.exchange import (
    BUSY_MAX,
    PART_S,
    PARTS,
    PARTS_OF_ALL,
    PEER_S,
    SEAL_MS,
    TokenizerExchange,
)
from swarmllm.messages import (
    PART_BYTES,
    SEALED_MAX,
    PeerId,
    TokenizerBusy,
    TokenizerFrame,
    TokenizerPart,
    TokenizerWanted,
)
from swarmllm.messages.declare import TOKENIZER
from swarmllm.wire.codec import encode

P, Q, R = PeerId("P"), PeerId("Q"), PeerId("R")
OWN = (b"f" * 32, b"c" * 8)
CONTENT = bytes(range(251)) * 300  # Three parts: two whole ones and 9,764 bytes.


def received(peer: PeerId, frame: TokenizerFrame) -> FrameReceived:
    return FrameReceived(peer, encode(frame), TOKENIZER)


def opened(machine: TokenizerExchange, *peers: PeerId) -> TokenizerExchange:
    for peer in peers:
        assert machine.handle(ChannelOpened(peer, TOKENIZER), 0.0) == []
    return machine


def giver(content: bytes = CONTENT) -> TokenizerExchange:
    machine = opened(TokenizerExchange(OWN), P, Q)
    assert machine.handle(TokenizerSealed(content), 0.0) == []
    return machine


def asked(
    machine: TokenizerExchange, peer: PeerId, offset: int, now: float
) -> TokenizerPart | TokenizerBusy:
    (effect,) = machine.handle(received(peer, TokenizerWanted(*OWN, offset)), now)
    assert isinstance(effect, SendFrame)
    assert (effect.peer, effect.channel) == (peer, TOKENIZER)
    assert isinstance(effect.message, TokenizerPart | TokenizerBusy)
    return effect.message


def part(offset: int, content: bytes = CONTENT) -> TokenizerPart:
    data = content[offset : offset + PART_BYTES]
    return TokenizerPart(*OWN, len(content), offset, data)


def seeker(*peers: PeerId) -> TokenizerExchange:
    machine = opened(TokenizerExchange(), *peers)
    effects = machine.handle(TokenizerSought(*OWN, peers), 0.0)
    assert effects == [SendFrame(peers[0], TokenizerWanted(*OWN, 0), TOKENIZER)]
    return machine


def wants(peer: PeerId, offset: int = 0) -> SendFrame:
    return SendFrame(peer, TokenizerWanted(*OWN, offset), TOKENIZER)


def strikes(effects: Sequence[NodeEffect]) -> list[PeerId]:
    return [effect.peer for effect in effects if isinstance(effect, Penalise)]


# --- giving ---------------------------------------------------------------------------------------


def test_it_is_sealed_when_somebody_asks_and_once() -> None:  # TOK-6
    machine = opened(TokenizerExchange(OWN), P, Q)
    wait = SendFrame(P, TokenizerBusy(*OWN, SEAL_MS), TOKENIZER)
    wanted = received(P, TokenizerWanted(*OWN, 0))
    assert machine.handle(wanted, 1.0) == [SealTokenizer(), wait]
    assert machine.handle(wanted, 1.1) == [wait]
    machine.handle(TokenizerSealed(CONTENT), 1.2)
    assert asked(machine, P, 0, 1.3) == part(0)


def test_what_cannot_be_sealed_is_not_here() -> None:
    machine = opened(TokenizerExchange(OWN), P)
    machine.handle(received(P, TokenizerWanted(*OWN, 0)), 1.0)
    machine.handle(TokenizerSealed(b""), 1.1)
    assert asked(machine, P, 0, 1.2) == TokenizerBusy(*OWN, 0)


def test_parts_are_given_from_where_they_are_asked() -> None:  # TOK-5
    machine = giver()
    for offset in (0, PART_BYTES, 2 * PART_BYTES, len(CONTENT) - 1):
        assert asked(machine, P, offset, 0.0) == part(offset)


@pytest.mark.parametrize("digests", [(b"g" * 32, b"c" * 8), (b"f" * 32, b"d" * 8)])
def test_only_the_own_models_is_given(digests: tuple[bytes, bytes]) -> None:  # TOK-5
    (effect,) = giver().handle(received(P, TokenizerWanted(*digests, 0)), 0.0)
    assert effect == SendFrame(P, TokenizerBusy(*digests, 0), TOKENIZER)


def test_beyond_the_end_is_a_strike() -> None:  # TOK-5
    wanted = received(P, TokenizerWanted(*OWN, len(CONTENT)))
    assert strikes(giver().handle(wanted, 0.0)) == [P]


def given_in(machine: TokenizerExchange, peers: list[PeerId], seconds: float) -> dict[PeerId, int]:
    """Parts given to peers that ask as fast as they can."""
    got = dict.fromkeys(peers, 0)
    for tick in range(int(seconds * 50)):
        for peer in peers:
            match asked(machine, peer, 0, tick / 50):
                case TokenizerPart():
                    got[peer] += 1
                case TokenizerBusy(retry_after_ms=retry_ms):
                    assert retry_ms > 0
    return got


def test_no_peer_gets_more_than_its_share_and_all_together_no_more_than_theirs() -> None:  # TOK-6
    one = given_in(giver(), [P], 20.0)[P]
    assert PARTS.per_s * 19 <= one <= PARTS.burst + PARTS.per_s * 20
    machine, many = giver(), [PeerId(f"peer {n}") for n in range(20)]
    opened(machine, *many)
    total = sum(given_in(machine, many, 20.0).values())
    assert PARTS_OF_ALL.per_s * 19 <= total <= PARTS_OF_ALL.burst + PARTS_OF_ALL.per_s * 20


# --- taking ---------------------------------------------------------------------------------------


def test_part_after_part_is_asked_for_and_the_whole_is_handed_over() -> None:  # TOK-7
    machine = seeker(P)
    for offset in (0, PART_BYTES):
        effects = machine.handle(received(P, part(offset)), 1.0)
        assert effects == [wants(P, offset + PART_BYTES)]
    assert (machine.view(1.0).fetched, machine.view(1.0).size) == (2 * PART_BYTES, len(CONTENT))
    (whole,) = machine.handle(received(P, part(2 * PART_BYTES)), 1.0)
    assert whole == TokenizerFetched(*OWN, P, CONTENT)
    assert machine.handle(TokenizerJudged(is_good=True), 2.0) == []
    assert machine.next_deadline() == float("inf")


def test_what_is_not_what_its_digests_name_is_a_strike_and_the_next_peer_is_asked() -> None:
    machine = seeker(P, Q)  # TOK-9
    for offset in (0, PART_BYTES, 2 * PART_BYTES):
        machine.handle(received(P, part(offset)), 1.0)
    effects = machine.handle(TokenizerJudged(is_good=False), 2.0)
    assert strikes(effects) == [P]
    assert effects[-1] == wants(Q)


@pytest.mark.parametrize(
    "wrong",
    [
        part(PART_BYTES),
        TokenizerPart(*OWN, len(CONTENT), 0, b"drip"),
        TokenizerPart(*OWN, 3, 0, b"four"),
        TokenizerPart(*OWN, SEALED_MAX, 0, CONTENT[: PART_BYTES - 1]),
    ],
    ids=["another part", "a drip", "more than it is", "one byte short"],
)
def test_a_part_that_was_not_asked_for_is_a_strike_and_the_next_peer_is_asked(
    wrong: TokenizerPart,
) -> None:  # TOK-7
    effects = seeker(P, Q).handle(received(P, wrong), 1.0)
    assert strikes(effects) == [P]
    assert effects[-1] == wants(Q)


def test_a_size_that_changes_is_a_strike() -> None:  # TOK-7
    machine = seeker(P, Q)
    machine.handle(received(P, part(0)), 1.0)
    longer = TokenizerPart(*OWN, len(CONTENT) + 9, PART_BYTES, CONTENT[PART_BYTES : 2 * PART_BYTES])
    assert strikes(machine.handle(received(P, longer), 1.0)) == [P]


def test_a_part_from_a_peer_that_was_never_asked_is_a_strike_and_a_late_one_is_not() -> None:
    machine = seeker(P, Q)  # TOK-7
    assert strikes(machine.handle(received(Q, part(0)), 1.0)) == [Q]
    assert machine.handle(TimerFired(), PART_S)[-1] == wants(Q)
    assert machine.handle(received(P, part(0)), PART_S + 1) == []
    assert strikes(opened(TokenizerExchange(), P).handle(received(P, part(0)), 1.0)) == [P]


def test_silence_moves_on_to_the_next_peer_and_at_last_says_so() -> None:  # TOK-8
    machine = seeker(P, Q)
    assert machine.next_deadline() == PART_S
    assert machine.handle(TimerFired(), PART_S) == [wants(Q)]
    (missing,) = machine.handle(TimerFired(), 2 * PART_S)
    assert isinstance(missing, TokenizerMissing)
    assert "sent nothing" in missing.reason
    assert machine.next_deadline() == float("inf")


def test_a_slow_drip_of_whole_parts_ends_with_the_peers_time() -> None:  # TOK-8
    machine = seeker(P, Q)
    content = bytes(SEALED_MAX)
    now, offset = 0.0, 0
    while True:
        now += PART_S - 1
        effects = machine.handle(received(P, part(offset, content)), now)
        if effects == [wants(Q)]:
            break
        offset += PART_BYTES
        assert effects == [wants(P, offset)]
    assert now < PEER_S + PART_S


def test_a_busy_peer_is_asked_again_when_it_says_and_not_for_ever() -> None:  # TOK-8
    machine, now = seeker(P, Q), 0.0
    for _ in range(BUSY_MAX):
        assert machine.handle(received(P, TokenizerBusy(*OWN, 250)), now) == []
        assert machine.next_deadline() == now + 0.25
        assert machine.handle(TimerFired(), now + 0.2) == []
        now += 0.25
        assert machine.handle(TimerFired(), now) == [wants(P)]
    assert machine.handle(received(P, TokenizerBusy(*OWN, 250)), now) == [wants(Q)]


def test_who_has_it_no_more_or_is_gone_is_followed_by_the_next() -> None:
    machine = seeker(P, Q, R)
    assert machine.handle(received(P, TokenizerBusy(*OWN, 0)), 1.0) == [wants(Q)]
    assert machine.handle(ChannelClosed(Q, TOKENIZER), 2.0) == [wants(R)]
    (missing,) = machine.handle(ChannelClosed(R, TOKENIZER), 3.0)
    assert isinstance(missing, TokenizerMissing)


def test_nobody_to_ask_is_said_at_once() -> None:
    (missing,) = TokenizerExchange().handle(TokenizerSought(*OWN, (P,)), 0.0)
    assert isinstance(missing, TokenizerMissing)


@given(st.binary(max_size=200))
def test_any_frame_is_understood_or_a_strike(frame: bytes) -> None:
    effects = seeker(P).handle(FrameReceived(P, frame, TOKENIZER), 1.0)
    assert strikes(effects) == [P]


@given(st.lists(st.sampled_from(["give", "busy", "wrong", "time", "close", "open"]), max_size=60))
def test_whatever_peers_do_one_question_is_under_way_and_what_is_kept_is_bounded(
    moves: list[str],
) -> None:
    machine, now, questions = seeker(P, Q), 0.0, 1
    for move in moves:
        now += 0.5
        at = machine.view(now).fetched
        match move:
            case "give":
                effects = machine.handle(received(P, part(at % len(CONTENT))), now)
            case "busy":
                effects = machine.handle(received(P, TokenizerBusy(*OWN, 400)), now)
            case "wrong":
                effects = machine.handle(received(P, part(PART_BYTES)), now)
            case "time":
                effects = machine.handle(TimerFired(), now)
            case "close":
                effects = machine.handle(ChannelClosed(P, TOKENIZER), now)
            case _:
                effects = machine.handle(ChannelOpened(P, TOKENIZER), now)
        questions = sum(isinstance(effect, SendFrame) for effect in effects)
        assert questions <= 1
        assert machine.view(now).fetched <= len(CONTENT)
