"""Hidden tokens are evidence that an expert cannot make up: it says what comes next before it is
told.

What an expert says of tokens that it was given proves nothing, for whoever has a text can claim to
have expected it. So the end of the prompt is told in steps: up to a cut, behind which every expert
that is asked gives its ordinary list; only when all have spoken is the text told further. The
requester scores the lists itself. Nobody may hear the rest sooner, or one identity could whisper it
to another.

A step costs a round, so there are few. Experts that this node does not know get as many as it takes
to know them, at once; those that it knows are tried again now and then, for one may turn. An
allowance keeps all of it to a small share of the rounds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from swarmllm.core.trust.track_record import TrackRecord
from swarmllm.messages import PeerId
from swarmllm.wire.sparse import SparseList

# Rounds that a node may spend on hidden tokens before it has earned any, and at most at once: a
# swarm of which nothing is known is known after its first prompt of some length.
ALLOWANCE_MAX: Final = 16.0
# Standard deviation of one hidden result against the mean of what was claimed, in nats.
RESULT_NATS: Final = 1.5
# Standard deviations by which a claim must be better than the results before it is cut down: one
# honest expert of forty is, by little.
DOUBTS: Final = 2.0


def hidden_logprob(found: SparseList, token: int, vocab_size: int) -> float:
    """What the list gives to a token, in nats. One that it left out has an even part of the tail,
    and no more than the least that was kept."""
    places = (found.ids == token).nonzero()[0]
    if places.size:
        return float(found.logprobs[places[0]])
    left = max(1, vocab_size - found.ids.size)
    least = float(found.logprobs.min())
    return min(least, math.log(max(found.tail, 1e-9) / left))


def is_listed(found: SparseList, token: int) -> bool:
    return bool((found.ids == token).any())


def doubt(record: TrackRecord) -> float:
    """By how many nats per token what an expert says of tokens that it was given must be taken to
    be too good."""
    noise = DOUBTS * RESULT_NATS / math.sqrt(max(1.0, record.hidden))
    return max(0.0, record.overclaim - noise)


def is_credible(record: TrackRecord) -> bool:
    """Whether an expert's word for given tokens may be true of its model. That it says less of
    itself than its results show is no sign: beside a liar's claims everybody's look modest."""
    return not record.is_refuted and not doubt(record)


class Allowance:
    """Rounds that may be spent on hidden tokens: each token of an answer earns a share of one."""

    def __init__(self) -> None:
        self._left = ALLOWANCE_MAX

    def earn(self, share: float) -> None:
        """So much of a round more may be spent."""
        self._left = min(ALLOWANCE_MAX, self._left + share)

    def spend(self, wanted: int, reserve: int = 0) -> int:
        """As many as are wanted and there, beyond a reserve."""
        found = max(0, min(wanted, math.floor(self._left - reserve + 1e-9)))
        self._left -= found
        return found


class HiddenTokens:
    """Of one answer. `cuts` are positions of the prompt, rising: the token behind each is told only
    when all that are asked have said what they expect there."""

    def __init__(self, tokens: Sequence[int], cuts: Sequence[int], vocab_size: int) -> None:
        assert all(0 <= cut < len(tokens) - 1 for cut in cuts), f"cuts {cuts} of {len(tokens)}"
        self._tokens = {cut: tokens[cut + 1] for cut in cuts}
        self._cuts = tuple(cuts)
        self._vocab_size = vocab_size
        self._phase = 0
        self._said: dict[int, dict[PeerId, float]] = {cut: {} for cut in cuts}

    @property
    def cut(self) -> int | None:
        """The position that is asked about now; None: the whole text may be told."""
        return self._cuts[self._phase] if self._phase < len(self._cuts) else None

    @property
    def said(self) -> Mapping[int, Mapping[PeerId, float]]:
        """What each expert gave to the token behind each cut, in nats."""
        return self._said

    def is_about(self, positions: Sequence[int]) -> bool:
        """Whether a question about these positions is one about a hidden token."""
        return len(positions) == 1 and positions[0] in self._tokens

    def listen(self, peer: PeerId, position: int, found: SparseList) -> float | None:
        """An expert's list behind a cut: what it gives to the token there, if its list has it and
        it did not know. What comes when the token was told to others counts for nothing."""
        if position != self.cut:
            return None
        token = self._tokens[position]
        said = self._said[position]
        said.setdefault(peer, hidden_logprob(found, token, self._vocab_size))
        return said[peer] if is_listed(found, token) else None

    def has_said(self, peer: PeerId) -> bool:
        return self.cut is not None and peer in self._said[self.cut]

    def owing(self, peers: Collection[PeerId]) -> list[PeerId]:
        """Who of these is waited for: has not spoken about the cut that is asked about now, and was
        not too late for the one before."""
        if self.cut is None:
            return []
        before = self._said[self._cuts[self._phase - 1]] if self._phase else None
        silent = [peer for peer in peers if not self.has_said(peer)]
        return [peer for peer in silent if before is None or peer in before]

    def step(self) -> None:
        """Tell the text up to the next cut."""
        assert self.cut is not None, "nothing is hidden"
        self._phase += 1

    def end(self) -> None:
        """Tell the whole text."""
        self._phase = len(self._cuts)


def cuts_of(positions: Sequence[int], count: int, rng: random.Random) -> tuple[int, ...]:
    """`count` of these positions (all, if there are fewer), rising."""
    return tuple(sorted(rng.sample(list(positions), min(count, len(positions)))))


def merits_of(said: Mapping[PeerId, float]) -> dict[PeerId, float]:
    """By how much each of these beat the uniform pool of all of them on one hidden token, in
    nats."""
    top = max(said.values(), default=0.0)
    mean = math.fsum(math.exp(value - top) for value in said.values()) / max(1, len(said))
    return {peer: value - top - math.log(mean) for peer, value in sorted(said.items())}
