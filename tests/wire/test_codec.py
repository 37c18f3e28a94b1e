"""One value has one encoding, and nothing but an encoding is decoded. Cites protocols/README.md
(WIRE) and expert.md (EXPERT)."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from dataclasses import astuple, fields, replace
from random import Random
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import (
    CONTEXT_MAX,
    FRAME_MAX,
    TOKENS_MAX,
    Close,
    ExpertRecord,
    Need,
    Open,
    Ping,
    Score,
    Scores,
)
from swarmllm.messages.bounds import EXT_MAX
from swarmllm.messages.capacity import CapacityRecord
from swarmllm.messages.declare import BOTH, DECLARED, EXPERT
from swarmllm.wire.codec import CODES, EXPERT_REPLIES, EXPERT_REQUESTS, decode, encode
from tests import ROOT
from tests.wire.strategies import messages, mutate, of_type

KINDS: tuple[type, ...] = tuple(CODES)
SCORE = Score(1, 2, 3, 10, bytes(8), (5, 6, 7), (0, 2), (0, 1), 256, 0, bytes(8))


def decodes_or_raises(data: bytes) -> None:
    try:
        message: object = decode(data, KINDS)
    except RemoteError:
        return
    assert encode(message) == data


@given(messages)
def test_decode_is_the_inverse_of_encode(message: object) -> None:
    data = encode(message)
    assert decode(data, KINDS) == message
    assert decode(data, (type(message),)) == message


@given(messages)
def test_the_encoding_is_msgpack_that_any_library_reads(message: Any) -> None:  # WIRE-1, WIRE-2
    row = msgpack.unpackb(encode(message))
    assert row[0] == CODES[type(message)]
    for column, value in zip(row[1:], astuple(message), strict=True):
        if isinstance(value, tuple) and value and isinstance(value[0], int):
            assert column == b"".join(number.to_bytes(4, "big") for number in value)
        elif isinstance(value, tuple) and not value:
            assert column in ([], b"")
        else:
            assert column == (list(value) if isinstance(value, tuple) else value)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\x92")
@example(bytes.fromhex("9220"))
def test_any_bytes_decode_or_raise_remote_error(data: bytes) -> None:  # WIRE-3
    decodes_or_raises(data)


@given(messages, st.data())
# WIRE-3
def test_no_prefix_and_no_extension_of_a_message_is_one(
    message: object, data: st.DataObject
) -> None:
    packed = encode(message)
    cut = data.draw(st.integers(0, len(packed) - 1))
    for other in (packed[:cut], packed + b"\0", packed + packed):
        with pytest.raises(RemoteError):
            decode(other, KINDS)


@settings(max_examples=20)
@given(st.lists(messages, min_size=3, max_size=8), st.integers(0, 2**32))
# WIRE-3; 10^4 executions over the examples
def test_mutated_messages_decode_or_raise(samples: list[object], seed: int) -> None:
    rng = Random(seed)
    packed = [encode(message) for message in samples]
    for _ in range(600):
        decodes_or_raises(mutate(rng, rng.choice(packed)))


NOT_SHORTEST = {
    "integer": "922acc05",
    "integer of 2 bytes": "9220cd00ff",
    "integer of 4 bytes": "9220ce0000ffff",
    "integer of 8 bytes": "9220cf00000000ffffffff",
}


@pytest.mark.parametrize("data", NOT_SHORTEST.values(), ids=NOT_SHORTEST)
def test_longer_forms_of_a_value_are_refused(data: str) -> None:  # WIRE-4
    with pytest.raises(RemoteError):
        decode(bytes.fromhex(data), KINDS)


@given(of_type(Open))
def test_longer_forms_of_lengths_are_refused(message: Open) -> None:  # WIRE-4
    packed = encode(message)
    assert packed.count(b"\xc4\x20") >= 1
    with pytest.raises(RemoteError, match="shortest"):
        decode(packed.replace(b"\xc4\x20", b"\xc5\x00\x20", 1), KINDS)


WRONG_TYPES = {
    "nil": b"\xc0",
    "false": b"\xc2",
    "true": b"\xc3",
    "float": b"\xca\0\0\0\0",
    "double": b"\xcb" + bytes(8),
    "negative": b"\xff",
    "signed": b"\xd0\x05",
    "ext": b"\xd4\x01\x00",
    "timestamp": b"\xd6\xff" + bytes(4),
    "map": b"\x80",
    "array": b"\x90",
    "text": b"\xa1a",
    "bytes": b"\xc4\x01a",
    "never used": b"\xc1",
}


@pytest.mark.parametrize("value", WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_no_other_type_stands_for_an_integer(value: bytes) -> None:  # WIRE-2
    with pytest.raises(RemoteError):
        decode(b"\x92\x20" + value, (Ping,))


def test_a_message_of_another_kind_is_refused() -> None:  # EXPERT-2
    for message in (Close(1), SCORE):
        with pytest.raises(RemoteError, match="must be one of"):
            decode(encode(message), EXPERT_REPLIES)
    with pytest.raises(RemoteError, match="must be one of"):
        decode(encode(Need(1, 2, 3)), EXPERT_REQUESTS)


BROKEN_SCORES = {
    "no tokens": {"tokens": ()},
    "token outside any vocabulary": {"tokens": (1 << 20,)},
    "too many tokens": {"tokens": (1,) * (TOKENS_MAX + 1)},
    "context too long": {"base": CONTEXT_MAX},
    "answer out of order": {"answer": (2, 0)},
    "answer twice": {"answer": (1, 1)},
    "answer beyond the tokens": {"answer": (3,)},
    "target of the last token": {"targets": (2,)},
    "targets out of order": {"targets": (1, 0)},
    "no entries": {"entries_max": 0},
    "more entries in all than a frame holds": {
        "tokens": (1,) * 64,
        "answer": tuple(range(64)),
        "entries_max": 1024,
    },
    "short hash": {"context_hash": bytes(7)},
    "integer that is a bool": {"session": True},
    "tail of everything": {"tail_max": 65_536},
}


def packed_unchecked(message: Any) -> bytes:
    """What a peer without our checks would send."""
    row: list[object] = [CODES[type(message)]]
    for f in fields(message):
        value = getattr(message, f.name)
        if isinstance(value, tuple):
            value = b"".join(number.to_bytes(4, "big") for number in value)
        row.append(value)
    data: bytes = msgpack.packb(row)
    return data


@pytest.mark.parametrize("change", BROKEN_SCORES.values(), ids=BROKEN_SCORES)
# EXPERT-5
def test_a_score_that_breaks_a_rule_is_neither_sent_nor_taken(change: dict[str, Any]) -> None:
    assert packed_unchecked(SCORE) == encode(SCORE)
    broken = replace(SCORE, **change)
    with pytest.raises(LocalError):
        encode(broken)
    with pytest.raises(RemoteError):
        decode(packed_unchecked(broken), KINDS)


def test_half_a_target_is_refused() -> None:  # EXPERT-10
    with pytest.raises(LocalError):
        encode(Scores(1, 2, 3, (), b"\0", 0, 0, bytes(8)))


@pytest.mark.parametrize(
    "name", ["", "x" * 33, "a\x1b[2J", "a\nb", "\u202eevil", "\x9b31m", "\ud800"]
)
# WIRE-5
def test_names_that_could_deceive_a_terminal_are_neither_sent_nor_taken(name: str) -> None:
    good = ExpertRecord(1, "model", bytes(32), bytes(32), 1, ())
    with pytest.raises(LocalError):
        encode(replace(good, model=name))
    text = name.encode("utf-8", "surrogatepass")
    header = bytes((0xA0 + len(text),)) if len(text) < 32 else bytes((0xD9, len(text)))
    with pytest.raises(RemoteError):
        decode(encode(good).replace(b"\xa5model", header + text), KINDS)


def peak_of(data: bytes) -> int:
    """Bytes allocated at most at once while `data` is decoded or refused."""
    tracemalloc.start()
    try:
        with suppress(RemoteError):
            decode(data, KINDS)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BOMBS = {
    "empty arrays": bytes.fromhex("9902010203dd00040000") + b"\x90" * (FRAME_MAX - 10),
    "empty maps": b"\x99\x10" + b"\x80" * (FRAME_MAX - 2),
    "nested arrays": b"\x91" * FRAME_MAX,
    "nested in lists": bytes.fromhex("9910010203") + b"\xdc\x00\x40" * (FRAME_MAX // 3 - 3),
    "length of 4 GiB": bytes.fromhex("9910010203ddffffffff"),
    "bytes of 4 GiB": bytes.fromhex("9c0201020300c6ffffffff"),
    "largest score": encode(
        replace(
            SCORE,
            tokens=tuple(range(100_000, 100_000 + TOKENS_MAX)),
            answer=(),
            targets=tuple(range(TOKENS_MAX - 1)),
        )
    ),
    "largest scores": encode(
        Scores(1, 2, 3, (bytes(3500),) * 64, bytes(2 * TOKENS_MAX), 0, 0, bytes(8))
    ),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_bomb_takes_no_more_than_eight_times_its_size(data: bytes) -> None:  # WIRE-6
    peak_of(data[:20])  # Whatever is imported or cached on first use is not the bomb's.
    assert len(data) <= FRAME_MAX
    assert peak_of(data) <= 8 * len(data) + 160 * 1024


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=2_000), messages.map(encode)))
def test_memory_stays_in_proportion(data: bytes) -> None:  # WIRE-6
    assert peak_of(data) <= 8 * len(data) + 8 * 1024


TYPE_CODES = {
    "Open": 1,
    "Score": 2,
    "ScoreAllowed": 5,
    "ScoreDraft": 6,
    "Close": 3,
    "SignSession": 7,
    "SessionSigned": 21,
    "SessionRecord": 68,
    "Invite": 69,
    "Membership": 70,
    "Pass": 50,
    "TicketShown": 51,
    "Admitted": 52,
    "NotAdmitted": 53,
    "Shuffle": 4,
    "Scores": 16,
    "Need": 17,
    "Busy": 18,
    "Refused": 19,
    "Shuffled": 20,
    "Ping": 32,
    "Pong": 33,
    "CapacityRecord": 66,
    "ExpertRecord": 67,
    "Envelope": 80,
    "Halted": 34,
    "Goodbye": 35,
    "Signed": 81,
    "Halt": 96,
    "Resume": 97,
    "Charter": 100,
    "Live": 99,
    "HaltDigest": 112,
    "Vectors": 113,
    "Records": 114,
    "Ack": 115,
    "Observe": 40,
    "Suggest": 41,
    "SandboxTest": 42,
    "SetSetting": 43,
    "SetBounds": 44,
    "OpenPhase": 45,
    "ClosePhase": 46,
    "SetFeature": 47,
    "SetDefaultModel": 48,
    "Revert": 49,
    "TierDecided": 87,
    "Enacted": 88,
    "CanaryStep": 89,
    "Validated": 90,
    "NotCarriedOut": 91,
    "ReportRead": 93,
    "Proposal": 101,
    "Vote": 102,
    "Withdrawal": 103,
    "CanaryReport": 104,
    "GovernanceTerms": 105,
    "SetDigest": 106,
    "SetSummary": 107,
    "SetWanted": 108,
    "SetRecords": 109,
    "TokenizerWanted": 120,
    "TokenizerPart": 121,
    "TokenizerBusy": 122,
    "LedgerLeaf": 82,
    "HaltedHere": 83,
    "ResumedHere": 84,
    "OwnerCommand": 85,
    "LedgerAlarm": 86,
    "AlarmAcknowledged": 92,
    "AgentStep": 94,
    "ExpertExcluded": 95,
    "LedgerHead": 116,
    "LedgerProofWanted": 117,
    "LedgerProof": 118,
    "LedgerCosigned": 119,
    "LedgerFork": 123,
}


def test_type_codes_never_change() -> None:  # WIRE-1
    assert {kind.__name__: code for kind, code in CODES.items()} == TYPE_CODES


def test_the_document_lists_every_message_as_it_is_declared() -> None:
    text = (ROOT / "protocols/README.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    listed = {
        row[0]: (int(row[1]), row[2].split("/")[-2] if "/" in row[2] else "")
        for row in rows
        if len(row) == 5 and row[1].isdigit()
    }
    assert listed == {kind.__name__: (one.code, one.stream) for kind, one in DECLARED.items()}


def test_who_may_send_a_message_is_declared_once() -> None:
    assert {*EXPERT_REQUESTS} & {*EXPERT_REPLIES} == {
        kind for kind, one in DECLARED.items() if (one.stream, one.sender) == (EXPERT, BOTH)
    }
    assert {*EXPERT_REQUESTS} | {*EXPERT_REPLIES} == {
        kind for kind, one in DECLARED.items() if one.stream == EXPERT
    }


@given(of_type(CapacityRecord), st.binary(max_size=EXT_MAX))
# WIRE-7
def test_additions_that_nobody_knows_travel_on_as_they_are(
    record: CapacityRecord, ext: bytes
) -> None:
    sent = encode(replace(record, ext=ext))
    assert encode(decode(sent, (CapacityRecord,))) == sent
    assert decode(sent, (CapacityRecord,)).ext == ext
