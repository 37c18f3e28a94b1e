"""How many bytes a message is on the wire, frame included, without encoding it: a world sends
millions and looks at few.

Exact where it matters (lists, records), and within a few bytes of the codec for the rest, as a test
compares.
"""

from __future__ import annotations

from typing import Final

from swarmllm.messages import (
    ExpertMessage,
    Open,
    Score,
    ScoreAllowed,
    ScoreDraft,
    Scores,
    Shuffle,
    Shuffled,
)

SMALL: Final = 16
OPEN: Final = 88


def size_of(message: ExpertMessage) -> int:
    match message:
        case Scores():
            return (
                32
                + sum(map(len, message.lists))
                + 3 * len(message.lists)
                + len(message.target_logprobs)
            )
        case ScoreAllowed():
            return 55 + 3 * len(message.tokens) + len(message.answer) + len(message.allowed)
        case ScoreDraft():
            return 53 + 3 * len(message.tokens) + len(message.answer) + len(message.targets)
        case Score():
            return 52 + 3 * len(message.tokens) + len(message.answer) + len(message.targets)
        case Shuffle() | Shuffled():
            return 12 + sum(map(len, message.records)) + 5 * len(message.records)
        case Open():
            return OPEN
        case _:
            return SMALL
