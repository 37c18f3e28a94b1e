"""A track record is what this node has seen of one peer with one model: results that the peer could
not make up.

There are two kinds. A *hidden token* is one that the requester knew and the expert did not when it
said what comes next. An *audit* compares what it said with what the same model says elsewhere. What
an expert tells of tokens that it was given is neither, for anybody can say that of anything.

Records belong to the pair of peer and digest: another model begins with nothing, and so does
another peer that claims the same model. They are opinions of this node, and never leave it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from swarmllm.messages import PeerId

# Of the running means, once there are many results: an expert that turns is noticed within some 32.
GAIN_MIN: Final = 1 / 32
NATS_MAX: Final = 8.0  # Of one result, either way: no single token brands an expert.
RECORDS_MAX: Final = 4096  # As many as the router remembers peers.
WANTING_NATS: Final = 3.0  # Per hidden token, below the pool of all that were asked.
TYPICAL_MIN: Final = 3  # That were tried, before anything is typical of them.

Key = tuple[PeerId, bytes]
"""A peer, and the digest of the model that it claims."""


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """`hidden` and `audits` are how many results there were, in fractions where they decay;
    `audits` counts those that were passed since the last one that was not. `merit`: by how much it
    beat the uniform pool of all that were asked, in nats per hidden token. `overclaim`: by how much
    what it says of tokens that it was given is better than what it does on hidden ones, likewise.
    `is_refuted`: the last audit showed that it does not run the model. `confirmed`: how
    many audits of what it said in the middle of an answer found nothing, be it only that it said
    the same again."""

    hidden: float = 0.0
    audits: float = 0.0
    merit: float = 0.0
    overclaim: float = 0.0
    is_refuted: bool = False
    confirmed: float = 0.0

    @property
    def is_confirmed(self) -> bool:
        """Whether what it says in answers was looked at, and found true to its model or to itself.
        To be honest for prompts is not enough: where one ends anybody can see."""
        return self.confirmed > 0 and not self.is_refuted

    @property
    def is_wanting(self) -> bool:
        """Whether what was seen of it is hardly a language model's."""
        return self.is_refuted or self.merit < -WANTING_NATS

    @property
    def results(self) -> float:
        return 0.0 if self.is_refuted else self.hidden + self.audits

    def after_hidden(self, merit: float, overclaim: float | None) -> TrackRecord:
        """With one more hidden token. `overclaim` None: it has said nothing of tokens that it was
        given."""
        gain = max(GAIN_MIN, 1 / (1 + self.hidden))
        claimed = self.overclaim if overclaim is None else overclaim
        return replace(
            self,
            hidden=self.hidden + 1,
            merit=self.merit + gain * (_bounded(merit) - self.merit),
            overclaim=self.overclaim + gain * (_bounded(claimed) - self.overclaim),
        )

    def after_audit(self, *, is_passed: bool) -> TrackRecord:
        """With one more audit; one that was not passed makes all that was before it worthless."""
        if is_passed:
            return replace(self, audits=self.audits + 1, is_refuted=False)
        return TrackRecord(is_refuted=True)

    def after_confirmed(self) -> TrackRecord:
        """What it said in the middle of an answer was looked at, and nothing was found. That alone
        is no result: anybody can say the same again."""
        return replace(self, confirmed=self.confirmed + 1)

    def decayed(self, share: float) -> TrackRecord:
        """With `share` (0..1) of what it counted for: merit that is old says less."""
        return replace(
            self,
            hidden=self.hidden * share,
            audits=self.audits * share,
            merit=self.merit * share,
            overclaim=self.overclaim * share,
            confirmed=self.confirmed * share,
        )


NOTHING: Final = TrackRecord()


class TrackRecords:
    """Of all pairs of peer and digest, at most `RECORDS_MAX`: who was heard of longest ago is
    forgotten. Whoever keeps them on disk asks for `changed`, and begins with what it kept."""

    def __init__(self, kept: Iterable[tuple[Key, TrackRecord]] = ()) -> None:
        self.has_audits = False
        """Whether audits go into these records: then who was never audited is known the less."""
        self.refutations = 0
        """How often somebody was refuted: whoever keeps a copy of a record looks at this."""
        self._typical: float | None = None
        self._records: OrderedDict[Key, TrackRecord] = OrderedDict()
        self._changed: set[Key] = set()
        for key, record in kept:
            self._put(key, record)
        self._changed.clear()

    def __iter__(self) -> Iterator[tuple[Key, TrackRecord]]:
        return iter(self._records.items())

    def of(self, peer: PeerId, digest: bytes) -> TrackRecord:
        return self._records.get((peer, digest), NOTHING)

    @property
    def typical(self) -> float:
        """The median merit of language models that were tried with hidden tokens, in nats: what one
        is likely to be worth of which nothing is known. It is below 0, for the pool of all that
        were asked is better than most of them: to expect 0 would be to prefer strangers."""
        if self._typical is None:
            known = self._records.values()
            tried = [one.merit for one in known if one.hidden and not one.is_wanting]
            self._typical = median(tried) if len(tried) >= TYPICAL_MIN else 0.0
        return self._typical

    def put(self, peer: PeerId, digest: bytes, record: TrackRecord) -> None:
        self._put((peer, digest), record)

    def changed(self) -> list[tuple[Key, TrackRecord]]:
        """What is other than when this was asked last, by peer and digest."""
        keys, self._changed = sorted(self._changed), set()
        return [(key, self._records[key]) for key in keys if key in self._records]

    def _put(self, key: Key, record: TrackRecord) -> None:
        if record.is_refuted and not self._records.get(key, NOTHING).is_refuted:
            self.refutations += 1
        self._typical = None
        self._records[key] = record
        self._records.move_to_end(key)
        self._changed.add(key)
        while len(self._records) > RECORDS_MAX:
            gone, _ = self._records.popitem(last=False)
            self._changed.discard(gone)


def _bounded(nats: float) -> float:
    return max(-NATS_MAX, min(NATS_MAX, nats))
