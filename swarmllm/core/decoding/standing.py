"""Expert standing within one answer: what a refusal, a breach or a long silence means for the rest
of it.

Most of what keeps an expert from answering passes: its engine restarts, it has no room, it has
dropped the session, its connection is gone. None of that puts it out of the answer: it rests,
longer each time, and is asked again. Final is only what no waiting changes: it has another model or
vocabulary than its record said, or too short a context for a text that only grows. Then the expert
is out until it offers something else. Who breaks the protocol is out of this answer for good.
"""

from __future__ import annotations

from typing import Final, TypeVar

from swarmllm.messages import (
    REFUSED_CONTEXT,
    REFUSED_ENGINE,
    REFUSED_MODEL,
    REFUSED_OUTPUT,
    REFUSED_SESSION,
    REFUSED_VOCABULARY,
    CapacityRecord,
    PeerId,
)

PEERS_MAX: Final = 1024  # Remembered; whoever was heard of first is forgotten first.
# After a passing refusal, doubled for each further one in a row: a worker is up again within a
# second or two, and one that takes longer is still noticed soon. A question that is refused costs
# no computing.
REST_MIN_S: Final = 0.1
REST_MAX_S: Final = 1.0

FINAL: Final = {
    REFUSED_MODEL: "another model is loaded there than its record says",
    REFUSED_VOCABULARY: "it has another vocabulary",
    REFUSED_CONTEXT: "the text is longer than its context",
    REFUSED_OUTPUT: "what its model makes of this text is no distribution",
}
PASSING: Final = {
    REFUSED_SESSION: "it has dropped the session",
    REFUSED_ENGINE: "its engine is down, or paused",
}
BROKE: Final = "it broke the protocol"
BUSY: Final = "it has no room"
LOST: Final = "it is gone, or it is halted"
SILENT: Final = "it does not answer"
NEEDY: Final = "it keeps forgetting the text"
CONTRADICTED: Final = "it says of the text what its model does not say"

_Offer = tuple[bytes, bytes, int]
_Value = TypeVar("_Value")


class Standing:
    """Bounded by `PEERS_MAX`, whatever peers come and go."""

    def __init__(self) -> None:
        self._out: dict[PeerId, _Offer | None] = {}  # None: whatever it offers.
        self._row: dict[PeerId, int] = {}  # Passing refusals in a row.
        self._why: dict[PeerId, str] = {}  # What was last wrong with whom; who answers is removed.

    def refused(self, peer: PeerId, record: CapacityRecord, code: int) -> float:
        """How many seconds the expert rests; 0: what it said is final for what it offers now. Codes
        that are unknown here pass."""
        final = FINAL.get(code)
        if final is None:
            return self.rebuffed(peer, PASSING.get(code, f"it refuses with code {code}"))
        _keep(self._out, peer, _offer(record))
        _keep(self._why, peer, final)
        return 0.0

    def rebuffed(self, peer: PeerId, why: str) -> float:
        """Something that passes: how many seconds the expert rests."""
        row = self._row.get(peer, 0)
        _keep(self._row, peer, row + 1)
        _keep(self._why, peer, why)
        return min(REST_MAX_S, REST_MIN_S * 2.0 ** min(row, 16))

    def waits(self, peer: PeerId, why: str) -> None:
        """It cannot answer now, and says or shows itself when it can."""
        if peer not in self._out:
            _keep(self._why, peer, why)

    def excluded(self, peer: PeerId, why: str) -> None:
        """It is not asked again for this answer."""
        _keep(self._out, peer, None)
        _keep(self._why, peer, why)

    def answered(self, peer: PeerId) -> None:
        self._row.pop(peer, None)
        self._why.pop(peer, None)

    def may_ask(self, peer: PeerId, record: CapacityRecord) -> bool:
        if peer not in self._out:
            return True
        offer = self._out[peer]
        return offer is not None and offer != _offer(record)

    @property
    def is_hopeless(self) -> bool:
        """Whether everything that keeps experts from answering is final (and there is
        something)."""
        return bool(self._why) and all(peer in self._out for peer in self._why)

    @property
    def reasons(self) -> list[str]:
        """What is wrong with whom, each reason once, the commonest first."""
        said = list(self._why.values())
        return sorted(set(said), key=lambda why: (-said.count(why), why))


def _offer(record: CapacityRecord) -> _Offer:
    return record.model_digest, record.vocab_fingerprint, record.context_max


def _keep(table: dict[PeerId, _Value], peer: PeerId, value: _Value) -> None:
    if peer not in table and len(table) >= PEERS_MAX:
        del table[next(iter(table))]
    table[peer] = value
