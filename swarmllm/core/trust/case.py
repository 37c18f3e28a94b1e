"""An audit of one session: what was said is looked at by another holder of the model, and where
those two differ, by a third.

The case is pure: it says whom to ask next and what came of it. Our own file, if we hold the model,
is never wrong; other holders are believed only two against one, and where there is no third nobody
knows who is wrong. Last of all the expert itself is asked: it sees a new prompt, and does not know
what of it is looked at. Who says something else than it has signed is wrong, whoever else has the
model; who says the same again has shown nothing but that.

Two that are new to this node speak against nobody whom it knows for longer: an identity with an
honest expert's model in its record costs nothing, and two of them would have that expert excluded
wherever it is the only one of its model. What they cannot have made up is when they came.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from swarmllm.core.trust.comparison import Difference, Reading, compare_readings
from swarmllm.core.trust.suspicion import POSITIONS, differs
from swarmllm.core.trust.transcript import Replay, Said
from swarmllm.messages import TOKENS_MAX, PeerId


class Verdict(StrEnum):
    """What came of an audit."""

    AGREED = "agreed"
    DIFFERED = "differed"
    REPEATED = "said again"
    DISPUTED = "in dispute"
    NOBODY = "nobody to ask"


def draw(found: Replay, rng: random.Random, prompt: int = 0) -> tuple[Said, ...]:
    """The positions that are looked at: at most `POSITIONS` of what can be asked about in one
    session, of those behind a prompt of so many tokens before others. Where a prompt ends the
    expert can see, and what it says of that the hidden tokens show. Half of them are about the sets
    that a grammar allowed, if there are as many: these lists alone decide their tokens, and who
    lies in them only must not hide behind the others."""
    able = [one for one in found.said if one.length <= TOKENS_MAX]
    written = [one for one in able if one.length > prompt]
    sets = [one for one in written if one.allowed]
    drawn = rng.sample(sets, min(POSITIONS // 2, len(sets)))
    left = [one for one in written if one not in drawn]
    drawn += rng.sample(left, min(POSITIONS - len(drawn), len(left)))
    others = [one for one in able if one.length <= prompt]
    drawn += rng.sample(others, min(POSITIONS - len(drawn), len(others)))
    return tuple(sorted(drawn, key=lambda one: one.place))


@dataclass(frozen=True, slots=True)
class Finding:
    """`against`: whom the audit speaks against, by what differences (empty: nobody); `by`: who
    looked at it."""

    verdict: Verdict
    found: tuple[Difference, ...] = ()
    against: PeerId | None = None
    by: tuple[PeerId, ...] = ()


MayAccuse = Callable[[PeerId, PeerId], bool]
"""Whether the word of the first may speak against the second."""


@dataclass(slots=True)
class Case:
    """`own` is our own peer id: what our own engine says of its model's file is so."""

    expert: PeerId
    said: tuple[Said, ...]
    own: PeerId
    may_accuse: MayAccuse
    _replies: dict[PeerId, tuple[Reading, ...]] = field(default_factory=dict)

    def answered(self, by: PeerId, readings: Sequence[Reading]) -> Finding | None:
        """What another holder says of the same positions. None: a third has to be asked."""
        self._replies[by] = tuple(readings)
        found = self._against_said(by)
        asked = tuple(self._replies)
        if by == self.expert:
            return self._again(found)
        if not differs(found) and len(asked) == 1:
            return Finding(Verdict.AGREED, found, by=asked)
        if by == self.own:
            return Finding(Verdict.DIFFERED, found, self.expert, asked)
        if len(asked) == 1:
            return None
        verdicts = [self._between_three(second, by, found) for second in asked[:-1]]
        # None: those who agree may not say so of the third, and somebody else is asked.
        return next((one for one in verdicts if one is not None), None)

    def _between_three(
        self, second: PeerId, third: PeerId, found: tuple[Difference, ...]
    ) -> Finding | None:
        """`found` is what the third and the expert differ by."""
        between, asked = self._between(second, third), self.asked
        is_apart = differs(between)
        if not differs(found):
            if not is_apart:  # It is near to both: they are hardly apart.
                return Finding(Verdict.AGREED, found, by=asked)
            accused, by, why = second, (self.expert, third), between
        elif not is_apart:
            accused, by, why = self.expert, (second, third), found
        else:
            return self.without_third()
        if not all(self.may_accuse(one, accused) for one in by):
            return None
        return Finding(Verdict.DIFFERED, why, accused, asked)

    def without_third(self) -> Finding:
        """Nobody else can be asked."""
        asked = tuple(self._replies)
        if not asked:
            return Finding(Verdict.NOBODY)
        return Finding(Verdict.DISPUTED, self._against_said(asked[0]), by=asked)

    def _again(self, found: tuple[Difference, ...]) -> Finding:
        """What the expert itself says of its own text, when nobody else is left."""
        asked = tuple(self._replies)
        if differs(found):
            return Finding(Verdict.DIFFERED, found, self.expert, asked)
        if len(asked) > 1:
            return self.without_third()
        return Finding(Verdict.REPEATED, found, by=asked)

    @property
    def asked(self) -> tuple[PeerId, ...]:
        return tuple(self._replies)

    def _against_said(self, by: PeerId) -> tuple[Difference, ...]:
        return tuple(
            compare_readings(one.reading, other, one.entries_max, one.follows)
            for one, other in zip(self.said, self._replies[by], strict=True)
        )

    def _between(self, one: PeerId, other: PeerId) -> tuple[Difference, ...]:
        pairs = zip(self.said, self._replies[one], self._replies[other], strict=True)
        return tuple(
            compare_readings(left, right, said.entries_max, said.follows)
            for said, left, right in pairs
        )
