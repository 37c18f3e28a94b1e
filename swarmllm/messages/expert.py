"""Messages of `/swarmllm/expert`: asking an expert for next-token distributions
(protocols/expert.md)."""

from __future__ import annotations

from typing import Annotated, Final

from swarmllm.messages.bounds import (
    CONTEXT_MAX,
    U32,
    VOCABULARY_MAX,
    Digest,
    Position,
    Range,
    ShortHash,
    Size,
    Token,
    rising_below,
)
from swarmllm.messages.capacity import Shuffle, Shuffled
from swarmllm.messages.declare import ANSWERER, ASKER, BOTH, EXPERT, message

# Per frame: 4 bytes each, so that the largest Score (as many targets) stays under the frame bound.
TOKENS_MAX: Final = 16_384
ANSWERS_MAX: Final = 64  # Lists per Scores frame.
ENTRIES_MAX: Final = 1_024  # Entries per list; 256 is the standard.
# Over all lists of one Scores: raw lists of so many are 192 KiB, under the frame bound.
ANSWER_ENTRIES_MAX: Final = 32_768
STEPS_MAX: Final = 14  # Tokens of a draft.
# The forms of a set of tokens: as ids, or as a bitmap of the vocabulary (`wire.token_set`).
SET_IDS: Final = 0
SET_BITMAP: Final = 1
SET_BYTES_MAX: Final = 1 + VOCABULARY_MAX // 8
SESSION_SEALED_MAX: Final = 256  # An envelope with a SessionRecord takes 190 bytes at most.


@message(code=1, stream=EXPERT, sender=ASKER)
class Open:
    """Start a session. Nothing answers it: the first Score may follow at once, and its answer tells
    whether the session stands."""

    session: U32
    model_digest: Digest
    vocab_fingerprint: Digest
    ctl_digest: ShortHash


@message(code=2, stream=EXPERT, sender=ASKER, infers=True)
class Score:
    """One round: append `tokens` behind the first `base` tokens, and answer for some of the new
    positions.

    `answer` and `targets` are indices into `tokens`, strictly increasing. An index i in `answer`
    wants the distribution of the token that follows tokens[i]; an index i in `targets` (i + 1 <
    len(tokens)) wants only the log-probability of tokens[i + 1]. `tail_max` is in 1/65536 of
    probability mass: a list may stop early once the mass it leaves out is below it (0: never).
    Together: base + len(tokens) <= CONTEXT_MAX, and len(answer) * entries_max <=
    ANSWER_ENTRIES_MAX.
    """

    session: U32
    round: U32
    epoch: U32
    base: Position
    context_hash: ShortHash
    tokens: Annotated[tuple[Token, ...], Size(1, TOKENS_MAX)]
    answer: Annotated[tuple[Annotated[int, Range(0, TOKENS_MAX - 1)], ...], Size(0, ANSWERS_MAX)]
    targets: Annotated[tuple[Annotated[int, Range(0, TOKENS_MAX - 1)], ...], Size(0, TOKENS_MAX)]
    entries_max: Annotated[int, Range(1, ENTRIES_MAX)]
    tail_max: Annotated[int, Range(0, 65_535)]
    ctl_digest: ShortHash

    def fault(self) -> str:
        count = len(self.tokens)
        if self.base + count > CONTEXT_MAX:
            return f"context of {self.base + count} tokens exceeds {CONTEXT_MAX}"
        if len(self.answer) * self.entries_max > ANSWER_ENTRIES_MAX:
            return (
                f"{len(self.answer)} lists of {self.entries_max} entries exceed"
                f" {ANSWER_ENTRIES_MAX} together"
            )
        return rising_below("answer", self.answer, count) or rising_below(
            "targets", self.targets, count - 1
        )


@message(code=5, stream=EXPERT, sender=ASKER, infers=True)
class ScoreAllowed(Score):
    """A Score that asks about the tokens of one set alone, which may be in nobody's list: those
    that a grammar allows. Only for experts whose record says that they know it.

    `answer` is one index and `targets` is empty. The one list of the answer is over the softmax of
    the logits of `allowed` only; its one target log-probability is that of the whole set, under
    the softmax of the full vocabulary.
    """

    allowed: Annotated[bytes, Size(2, SET_BYTES_MAX)]

    def fault(self) -> str:
        if len(self.answer) != 1 or self.targets:
            return f"{len(self.answer)} answers and {len(self.targets)} targets; one and none fit"
        return _set_fault(self.allowed) or Score.fault(self)


def _set_fault(data: bytes) -> str:
    """What is wrong with the encoding of a set of tokens; empty if nothing is."""
    form, body = data[0], data[1:]
    if form == SET_BITMAP:
        count = int.from_bytes(body, "little").bit_count()
        is_shortest = body[-1] != 0 and 4 * count > len(body)
    elif form == SET_IDS and len(body) % 4 == 0:
        ids = tuple(int.from_bytes(body[i : i + 4], "big") for i in range(0, len(body), 4))
        if fault := rising_below("allowed", ids, VOCABULARY_MAX):
            return fault
        is_shortest = len(body) <= ids[-1] // 8 + 1
    else:
        return f"a set of tokens of form {form} in {len(data)} bytes"
    return "" if is_shortest else "a set of tokens is not in its shortest form"


@message(code=6, stream=EXPERT, sender=ASKER, infers=True)
class ScoreDraft(Score):
    """A Score that the expert goes on with by itself: it appends the likeliest token of its last
    list (the lowest id among equals) and answers for the token behind that, up to `steps` times.
    Only for experts whose record says that they know it.

    The last index of `answer` is that of the last token. The answer has the lists of a Score, and
    one more for each token that was appended; which tokens these are its lists say.
    """

    steps: Annotated[int, Range(1, STEPS_MAX)]

    def fault(self) -> str:
        count, lists = len(self.tokens), len(self.answer) + self.steps
        if not self.answer or self.answer[-1] != count - 1:
            return "a draft goes on from a list that is not asked for"
        if self.base + count + self.steps > CONTEXT_MAX:
            return f"context of {self.base + count + self.steps} tokens exceeds {CONTEXT_MAX}"
        if lists > ANSWERS_MAX or lists * self.entries_max > ANSWER_ENTRIES_MAX:
            return f"{lists} lists of {self.entries_max} entries are too many"
        return Score.fault(self)


@message(code=3, stream=EXPERT, sender=ASKER)
class Close:
    """The session is over; its cache may go."""

    session: U32


@message(code=7, stream=EXPERT, sender=ASKER)
class SignSession:
    """Sign what was asked and answered in this session, before its Close; only for experts whose
    record says that they do."""

    session: U32


@message(code=16, stream=EXPERT, sender=ANSWERER, infers=True)
class Scores:
    """The answer to one Score: a sparse list (wire.sparse) for each index in `answer`, in order,
    and the target log-probabilities.

    `target_logprobs` holds a big-endian u16 per target: the log-probability in nats is -value /
    1024 (65535: that or less).
    """

    session: U32
    round: U32
    epoch: U32
    lists: Annotated[tuple[Annotated[bytes, Size(1, 8 * ENTRIES_MAX)], ...], Size(0, ANSWERS_MAX)]
    target_logprobs: Annotated[bytes, Size(0, 2 * TOKENS_MAX)]
    queue_us: U32
    compute_us: U32
    ctl_digest: ShortHash

    def fault(self) -> str:
        return "target_logprobs has half a u16" if len(self.target_logprobs) % 2 else ""


@message(code=17, stream=EXPERT, sender=ANSWERER)
class Need:
    """The expert holds only the first `have` tokens of what the Score was based on: send again from
    there."""

    session: U32
    round: U32
    have: Position


@message(code=18, stream=EXPERT, sender=ANSWERER)
class Busy:
    """A clean refusal for want of room; ask again after `retry_after_ms`, or ask somebody else."""

    session: U32
    round: U32
    retry_after_ms: Annotated[int, Range(0, 600_000)]


@message(code=19, stream=EXPERT, sender=ANSWERER)
class Refused:
    """This expert will never answer this session: see `protocols/expert.md` for the codes."""

    session: U32
    round: U32
    code: Annotated[int, Range(1, 255)]


@message(code=21, stream=EXPERT, sender=ANSWERER)
class SessionSigned:
    """The answer to a SignSession: an envelope with a SessionRecord; empty if there is no such
    session."""

    session: U32
    sealed: Annotated[bytes, Size(0, SESSION_SEALED_MAX)]


@message(code=68, domain=b"swarmllm/session/1\0", size_max=SESSION_SEALED_MAX)
class SessionRecord:
    """What an expert answers for: the hash chain over `rounds` questions and answers of a session
    (protocols/expert.md)."""

    session: U32
    model_digest: Digest
    rounds: U32
    chain: Digest


REFUSED_MODEL: Final = 1  # Another model digest is loaded.
REFUSED_VOCABULARY: Final = 2  # Another vocabulary.
REFUSED_CONTEXT: Final = 3  # Longer than this expert's context.
REFUSED_SESSION: Final = 4  # No such session was opened on this stream.
REFUSED_ENGINE: Final = 5  # The engine is down, or its owner has it pause.
REFUSED_OUTPUT: Final = 6  # What the model makes of this text is no distribution (NaN).
# The two halt states never agreed on this connection: greet on the halt protocol, then ask
# again.
REFUSED_UNSETTLED: Final = 7


@message(code=32, stream=EXPERT, sender=BOTH)
class Ping:
    nonce: U32


@message(code=33, stream=EXPERT, sender=BOTH)
class Pong:
    nonce: U32


@message(code=34, stream=EXPERT, sender=BOTH)
class Halted:
    """On an expert stream, either way: the sender is halted and drops every session. The order
    itself comes by /swarmllm/halt/2."""

    ctl_digest: ShortHash


ExpertRequest = Open | Score | Close
ExpertReply = Scores | Need | Busy | Refused
ExpertMessage = (
    ExpertRequest | ExpertReply | SignSession | SessionSigned | Shuffle | Shuffled | Halted
)
StreamMessage = ExpertMessage | Ping | Pong
