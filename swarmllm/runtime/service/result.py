"""How an answer ended, and what is said of one that has nothing to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarmllm.core.events import EndReason
from swarmllm.core.wording import several

ENDED_AT_ONCE: Final = (
    "the answer is empty: the model ended the text at once (end-of-text); an instruct model expects"
    " its chat format (generate --chat), so ask in it, or write the beginning of a text"
)
SAID_NOTHING: Final = (
    "the answer is empty: the model ended its turn at once; ask in other words, or once more"
)


@dataclass(frozen=True, slots=True)
class Result:
    """`bytes_per_expert_per_token` is the mean size of the remote replies that were used; 0 if
    there were none. `experts_per_token` is the mean number of experts whose answers were pooled.
    `stop` is the stop string that ended it. `rounds` of questions brought the tokens; of those
    `drafted`, so many were `accepted`."""

    reason: EndReason
    text: str
    tokens: int
    prompt_tokens: int
    seconds: float
    seed: int
    bytes_per_expert_per_token: float
    experts_per_token: float
    failovers: int
    local_only_tokens: int
    error: str = ""
    stop: str = ""
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def cut_short(kind: str, max_tokens: int) -> str:
    """A text of a grammar that was not finished."""
    return (
        f"the answer is no complete text of its {kind}: it was cut off after max_tokens"
        f" {max_tokens}; allow more"
    )


def why_empty(result: Result, *, is_chat: bool) -> str | None:
    """One sentence for an answer without a visible character: it looks like a failure and is none.
    None for any other, and for one that has its own sentence (an error, a halt) or was given up by
    whoever asked."""
    if result.text.strip():
        return None
    match result.reason:
        case "eos":
            return SAID_NOTHING if is_chat else ENDED_AT_ONCE
        case "stop":
            return "the answer is empty: it began with a stop string"
        case "length":
            return (
                f"the answer is empty: there is nothing to read in its"
                f" {several(result.tokens, 'token')};"
                " allow more with max_tokens"
            )
        case _:
            return None
