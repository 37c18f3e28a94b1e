"""The questions of an audit: what another holder of a model is asked, so that it says the same
things about the same text as the expert that is looked at.

Positions about all tokens are asked about together, in one pass. One about the tokens that a
grammar allowed is a question of its own, about the same set (`ScoreAllowed`); the text before it is
computed already, so it costs a token and a round trip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from swarmllm.core.trust.comparison import Reading
from swarmllm.core.trust.transcript import Said, mass_of
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    ANSWER_ENTRIES_MAX,
    ANSWERS_MAX,
    VOCABULARY_MAX,
    Score,
    ScoreAllowed,
    Scores,
)
from swarmllm.wire.context import digests
from swarmllm.wire.sparse import decode_list
from swarmllm.wire.token_set import decode_set


@dataclass(frozen=True, slots=True)
class Question:
    """`said` is what its answer is compared with, one list each."""

    score: Score
    said: tuple[Said, ...]

    def read(self, scores: Scores, vocab_size: int = VOCABULARY_MAX) -> tuple[Reading, ...]:
        """What the answer says at each position. RemoteError, in half a sentence, if it is none to
        this question."""
        if len(scores.lists) != len(self.said):
            raise RemoteError(f"{len(scores.lists)} lists where {len(self.said)} were asked for")
        lists = [decode_list(data, self.score.entries_max, vocab_size) for data in scores.lists]
        if not isinstance(self.score, ScoreAllowed):
            return tuple(map(Reading, lists))
        if not np.isin(lists[0].ids, decode_set(self.score.allowed)).all():
            raise RemoteError("a token that is not allowed")
        return (Reading(lists[0], mass_of(scores)),)


def questions(
    said: Sequence[Said], text: Sequence[int], session: int, ctl_digest: bytes
) -> tuple[Question, ...]:
    """In the order in which they are asked, of one session and with rising rounds; `said` is by
    rising place."""
    found: list[Question] = []
    held, known = 0, digests(text)
    for number, group in enumerate(_groups(said)):
        end, allowed = group[-1].length, group[0].allowed
        base = min(held, group[0].length - 1)
        score = Score(
            session=session,
            round=number,
            epoch=0,
            base=base,
            context_hash=known[base],
            tokens=tuple(text[base:end]),
            answer=tuple(one.length - base - 1 for one in group),
            targets=(),
            entries_max=max(one.entries_max for one in group),
            tail_max=0,
            ctl_digest=ctl_digest,
        )
        if allowed:
            named = {field.name: getattr(score, field.name) for field in fields(score)}
            score = ScoreAllowed(**named, allowed=allowed)
        found.append(Question(score, group))
        held = end
    return tuple(found)


def _groups(said: Sequence[Said]) -> Iterator[tuple[Said, ...]]:
    """What one question can be about: one set, or positions about all tokens in a row."""
    group: list[Said] = []
    for one in said:
        entries = max((other.entries_max for other in (*group, one)), default=1)
        is_full = len(group) >= min(ANSWERS_MAX, ANSWER_ENTRIES_MAX // entries)
        if group and (is_full or one.allowed or group[0].allowed):
            yield tuple(group)
            group = []
        group.append(one)
    if group:
        yield tuple(group)
