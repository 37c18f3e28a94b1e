"""The transcript of a session: what was asked and answered, as a hash chain that the expert signs
once.

Both sides keep it: the expert one hash, the requester what the hash was made of. It is signed when
the session is over, and only then does the requester draw which positions it has others look at. So
what is looked at is chosen when nothing can be changed any more, and to be honest in audits alone
is not possible.

A link of the chain is SHA-256 of the link before, the question and the SHA-256 of its answer, each
in its one encoding (`wire.codec`) without what is not part of the text: `session`, `round`,
`epoch`, times and halt digests. The questions hold the whole text, so nobody can find another text
with the same chain.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from swarmllm.core.trust.comparison import Reading
from swarmllm.errors import RemoteError
from swarmllm.messages import NO_HALT_DIGEST, Score, ScoreAllowed, ScoreDraft, Scores
from swarmllm.wire import codec
from swarmllm.wire.sparse import SparseList, decode_list
from swarmllm.wire.target_logprob import decode_target

BEGIN: Final = b"swarmllm/transcript/1\0"
ROUNDS_MAX: Final = 16_384
"""Of a session; one with more is not audited."""
BODIES_MAX: Final = 64
"""Answers that a requester keeps of a session, drawn from all of them with the same chance."""
BODY_BYTES_MAX: Final = 65_536
HEADS_BYTES_MAX: Final = 1 << 20
"""Questions of a session; with more it is not audited."""
NO_BODY: Final = b""
MARK_BYTES: Final = 16  # Of the hash of a text. The 8 bytes of `wire.context` two texts can share.

QUESTIONS: Final = (Score, ScoreAllowed, ScoreDraft)


def begin(session: int, model_digest: bytes) -> bytes:
    """The first link, of a session about nothing yet."""
    return sha256(BEGIN + session.to_bytes(4, "big") + model_digest).digest()


def head_of(score: Score) -> bytes:
    """What was asked, without the numbers of the connection."""
    return codec.encode(replace(score, session=0, round=0, epoch=0, ctl_digest=NO_HALT_DIGEST))


def body_of(scores: Scores) -> bytes:
    """What was answered, without the numbers of the connection and the times."""
    bare = replace(scores, session=0, round=0, epoch=0, ctl_digest=NO_HALT_DIGEST)
    return codec.encode(replace(bare, queue_us=0, compute_us=0))


def link(chain: bytes, head: bytes, body_hash: bytes) -> bytes:
    """The next link."""
    return sha256(chain + len(head).to_bytes(4, "big") + head + body_hash).digest()


@dataclass(slots=True)
class Chain:
    """The expert's side: it keeps no text."""

    model_digest: bytes
    link: bytes
    rounds: int = 0

    def add(self, score: Score, scores: Scores) -> None:
        self.link = link(self.link, head_of(score), sha256(body_of(scores)).digest())
        self.rounds += 1


@dataclass(frozen=True, slots=True)
class Round:
    """A question with its answer's hash, and the answer itself where it is kept."""

    head: bytes
    body_hash: bytes
    body: bytes = NO_BODY


@dataclass(slots=True)
class Transcript:
    """The requester's side. Of the answers only some are kept, which the requester's own `rng`
    draws: the expert cannot know which."""

    session: int
    model_digest: bytes
    rounds: list[Round] = field(default_factory=list)
    link: bytes = b""
    heads_bytes: int = 0
    is_cut: bool = False
    _kept: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link = self.link or begin(self.session, self.model_digest)

    def add(self, score: Score, scores: Scores, rng: random.Random) -> None:
        head, body = head_of(score), body_of(scores)
        self.heads_bytes += len(head)
        if len(self.rounds) >= ROUNDS_MAX or self.heads_bytes > HEADS_BYTES_MAX:
            self.is_cut = True
            return
        body_hash = sha256(body).digest()
        self.link = link(self.link, head, body_hash)
        is_kept = bool(scores.lists) and len(body) <= BODY_BYTES_MAX and self._makes_room(rng)
        if is_kept:
            self._kept.append(len(self.rounds))
        self.rounds.append(Round(head, body_hash, body if is_kept else NO_BODY))

    def _makes_room(self, rng: random.Random) -> bool:
        """Whether this answer is kept, in place of another if there are enough (reservoir
        sampling)."""
        if len(self._kept) < BODIES_MAX:
            return True
        place = rng.randrange(len(self.rounds) + 1)
        if place >= BODIES_MAX:
            return False
        number = self._kept.pop(place)
        self.rounds[number] = replace(self.rounds[number], body=NO_BODY)
        return True


@dataclass(frozen=True, slots=True)
class Said:
    """What the expert said of the token behind the first `length` tokens of the text. `mark`: the
    hash of those, which nobody can make another text have. `allowed`: the encoded set of tokens
    that it was asked about, and `log_mass` what it gave to all of them; empty and None: it was
    asked about all tokens."""

    length: int
    listed: SparseList
    entries_max: int
    follows: int | None
    mark: bytes = b""
    allowed: bytes = b""
    log_mass: float | None = None

    @property
    def reading(self) -> Reading:
        return Reading(self.listed, self.log_mass)

    @property
    def place(self) -> tuple[int, bytes]:
        """What it was asked about."""
        return self.length, self.allowed


@dataclass(frozen=True, slots=True)
class Replay:
    """The text of a session as it stood at the end, and what was said of it that is kept, by
    rising length."""

    text: tuple[int, ...]
    said: tuple[Said, ...]


def chain_of(session: int, model_digest: bytes, rounds: Sequence[Round]) -> bytes:
    """The last link."""
    found = begin(session, model_digest)
    for one in rounds:
        found = link(found, one.head, one.body_hash)
    return found


def replay(rounds: Sequence[Round], vocab_size: int) -> Replay:
    """What the rounds say. RemoteError if they are no session: questions that build on text that is
    not there, or answers that do not fit."""
    text: list[int] = []
    marks = [bytes(MARK_BYTES)]
    found: list[Said] = []
    for one in rounds:
        score = codec.decode(one.head, QUESTIONS)
        if score.base > len(text):
            raise RemoteError(
                f"a question builds on {score.base} tokens where {len(text)} were sent"
            )
        del text[score.base :], marks[score.base + 1 :]
        text += score.tokens
        for token in score.tokens:
            marks.append(_marked(marks[-1], token))
        if one.body:
            found += (replace(s, mark=marks[s.length]) for s in _said(score, one, vocab_size))
    by_place = {
        said.place: replace(said, follows=text[said.length]) if said.length < len(text) else said
        for said in found
        if said.length <= len(text) and marks[said.length] == said.mark
    }
    return Replay(tuple(text), tuple(by_place[place] for place in sorted(by_place)))


def _marked(mark: bytes, token: int) -> bytes:
    """The hash of a text that is one token longer."""
    return sha256(mark + token.to_bytes(4, "big")).digest()[:MARK_BYTES]


def _said(score: Score, one: Round, vocab_size: int) -> Iterator[Said]:
    """Each list of an answer, without those behind tokens that a draft appended; where it stands in
    the text is not known yet."""
    if sha256(one.body).digest() != one.body_hash:
        raise RemoteError("an answer is not the one of its hash")
    scores = codec.decode(one.body, (Scores,))
    steps = score.steps if isinstance(score, ScoreDraft) else 0
    if len(scores.lists) != len(score.answer) + steps:
        raise RemoteError(f"{len(scores.lists)} lists where {len(score.answer) + steps} were asked")
    allowed = score.allowed if isinstance(score, ScoreAllowed) else b""
    log_mass = mass_of(scores) if allowed else None
    for index, data in zip(score.answer, scores.lists, strict=False):
        listed = decode_list(data, score.entries_max, vocab_size)
        length = score.base + index + 1
        yield Said(length, listed, score.entries_max, None, b"", allowed, log_mass)


def mass_of(scores: Scores) -> float:
    """What the answer to a ScoreAllowed gives to all tokens of its set. RemoteError: it does not
    say."""
    if len(scores.target_logprobs) != 2:
        raise RemoteError(
            f"{len(scores.target_logprobs)} bytes where the mass of the allowed tokens was asked"
            " for"
        )
    return decode_target(scores.target_logprobs)
