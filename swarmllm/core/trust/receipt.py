"""A receipt: the signed sessions of an answer, with which anybody who has the models can look
whether each expert answered with its own.

It holds the whole text that the experts were given, since nobody could repeat their work without
it, and of their replies as many as the requester kept. It comes from a stranger: every size is
bounded before it is used, and nothing of it is believed that its signatures do not bear out.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from swarmllm.core.trust.comparison import Difference, compare_readings
from swarmllm.core.trust.transcript import (
    BODIES_MAX,
    BODY_BYTES_MAX,
    HEADS_BYTES_MAX,
    NO_BODY,
    ROUNDS_MAX,
    Replay,
    Round,
    Said,
    chain_of,
    replay,
)
from swarmllm.errors import RemoteError
from swarmllm.messages import SESSION_SEALED_MAX, VOCABULARY_MAX, PeerId, SessionRecord

RECEIPT_BYTES_MAX: Final = 64 << 20
SESSIONS_MAX: Final = 64
VALUES_MAX: Final = 1 << 21
"""Of its JSON, for each is an object of Python: 22 million empty lists fit into 64 MiB and take 1.6
GB. The longest 16 sessions have half as many."""
TEXTS_MAX: Final = 1 << 20  # Tokens of all its sessions together.
COMPARED_MAX: Final = 65_536  # Pairs of lists that are compared for a contradiction.
FORMAT: Final = "swarmllm receipt 1"
LATER: Final = re.compile(r"swarmllm receipt [0-9]{1,9}")
CONTRADICTION: Final = 0.5
"""Total variation of two signed lists of one expert and model for one text, from which on no
rounding explains it: back ends differ by 0.05 at most."""

Unseal = Callable[[bytes], tuple[PeerId, SessionRecord]]


@dataclass(frozen=True, slots=True)
class Signed:
    """One session of a receipt, as its expert signed it."""

    peer: PeerId
    record: SessionRecord
    found: Replay


def written(sessions: Sequence[tuple[bytes, Sequence[Round]]]) -> bytes:
    """A receipt of these sessions: what was signed, and the rounds that it was signed over."""
    rows = [
        {
            "signed": _packed(sealed),
            "rounds": [
                [_packed(one.head), _packed(one.body_hash), _packed(one.body)] for one in rounds
            ],
        }
        for sealed, rounds in sessions
    ]
    return json.dumps({"format": FORMAT, "sessions": rows}).encode() + b"\n"


def read(data: bytes, unseal: Unseal) -> tuple[Signed, ...]:
    """What a receipt proves. RemoteError, in a sentence, if it is none, or if a signature or a hash
    of it is not good."""
    if len(data) > RECEIPT_BYTES_MAX:
        raise RemoteError(f"a receipt of {len(data)} bytes exceeds {RECEIPT_BYTES_MAX}")
    if sum(map(data.count, (b",", b"[", b"{"))) > VALUES_MAX:
        raise RemoteError(f"a receipt has at most {VALUES_MAX} values")
    try:
        found: Any = json.loads(data.decode())  # Of bytes it would take UTF-16 as well.
    except (ValueError, RecursionError) as error:
        raise RemoteError("this is no receipt, or a part of one: it is not JSON") from error
    form = found.get("format") if isinstance(found, dict) else None
    if form != FORMAT and isinstance(form, str) and LATER.fullmatch(form):
        raise RemoteError(f"it is a {form!r}, and this version reads {FORMAT!r}; use a later one")
    if form != FORMAT:
        raise RemoteError(f"this is no receipt: its format is not {FORMAT!r}")
    rows = found.get("sessions")
    if not isinstance(rows, list) or not 1 <= len(rows) <= SESSIONS_MAX:
        raise RemoteError(f"a receipt has 1 to {SESSIONS_MAX} sessions")
    signed, tokens = [], 0
    for row in rows:
        signed.append(_session(row, unseal))
        tokens += len(signed[-1].found.text)
        if tokens > TEXTS_MAX:
            raise RemoteError(f"a receipt has at most {TEXTS_MAX} tokens")
    return tuple(signed)


def _session(row: Any, unseal: Unseal) -> Signed:
    if not isinstance(row, Mapping):
        raise RemoteError("a session of the receipt is no object")
    sealed = _unpacked(row.get("signed"), SESSION_SEALED_MAX)
    rounds = _rounds(row.get("rounds"))
    peer, record = unseal(sealed)
    if record.rounds != len(rounds):
        raise RemoteError(
            f"the receipt has {len(rounds)} rounds where {peer} signed {record.rounds}"
        )
    if chain_of(record.session, record.model_digest, rounds) != record.chain:
        raise RemoteError(f"the rounds of the receipt are not those that {peer} signed")
    return Signed(peer, record, replay(rounds, VOCABULARY_MAX))


def _rounds(rows: Any) -> tuple[Round, ...]:
    if not isinstance(rows, list) or not 1 <= len(rows) <= ROUNDS_MAX:
        raise RemoteError(f"a session of a receipt has 1 to {ROUNDS_MAX} rounds")
    found, heads, bodies = [], 0, 0
    for row in rows:
        if not isinstance(row, list) or len(row) != 3:
            raise RemoteError("a round of the receipt is not three values")
        head = _unpacked(row[0], HEADS_BYTES_MAX)
        body_hash, body = _unpacked(row[1], 32), _unpacked(row[2], BODY_BYTES_MAX)
        heads, bodies = heads + len(head), bodies + (body != NO_BODY)
        if len(body_hash) != 32 or heads > HEADS_BYTES_MAX or bodies > BODIES_MAX:
            raise RemoteError("a session of the receipt holds more than a session may")
        found.append(Round(head, body_hash, body))
    return tuple(found)


def contradictions(one: Signed, other: Signed) -> tuple[Difference, ...]:
    """Where two signed sessions of one expert and one model say different things of one text, by
    more than any rounding. It proves itself: nobody has to be believed."""
    found = (
        compare_readings(mine.reading, its.reading, mine.entries_max)
        for mine, its in _pairs(one, other)
    )
    return tuple(each for each in found if each.variation >= CONTRADICTION)


def _pairs(one: Signed, other: Signed) -> list[tuple[Said, Said]]:
    """What the two say of one text and one set, asked for as many entries."""
    if (one.peer, one.record.model_digest) != (other.peer, other.record.model_digest):
        return []
    theirs = {_asked(said): said for said in other.found.said}
    pairs = [(said, theirs.get(_asked(said))) for said in one.found.said]
    return [(mine, its) for mine, its in pairs if its is not None]


def _asked(said: Said) -> tuple[bytes, bytes, int]:
    return said.mark, said.allowed, said.entries_max


def contradicted(signed: Sequence[Signed]) -> list[tuple[PeerId, bytes]]:
    """The experts, with their models, that contradict themselves in these sessions, each once."""
    found: dict[tuple[PeerId, bytes], None] = {}
    left = COMPARED_MAX
    for one, two in combinations(signed[: 2 * SESSIONS_MAX], 2):
        key = one.peer, one.record.model_digest
        if key in found:
            continue
        if (left := left - len(_pairs(one, two))) < 0:
            break
        if contradictions(one, two):
            found[key] = None
    return list(found)


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unpacked(text: Any, size_max: int) -> bytes:
    if not isinstance(text, str) or len(text) > 4 * (size_max + 2) // 3 + 4:
        raise RemoteError("a value of the receipt is too long, or no text")
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise RemoteError("a value of the receipt is not base64") from error
    if len(data) > size_max:
        raise RemoteError("a value of the receipt is too long")
    return data
