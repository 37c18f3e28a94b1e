"""What a person is told while an answer goes on and when it fails: one sentence each, with the
reason as far as it is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Final

from swarmllm.core.wording import several
from swarmllm.messages import PeerId

SAY_S: Final = 3.0  # Nothing has happened for so long: say why, and for how long it may go on.


UNLISTED: Final = (
    "none of the tokens that the grammar allows is among the likeliest of any expert, and none of"
    " these experts answers about others; ask newer ones, or use another grammar"
)


class Level:
    """How many experts make a token: told when it falls below what was asked for, and when it is
    back."""

    def __init__(self, wished: int) -> None:
        self._wished = wished
        self._level = wished

    def change(self, used: int, wanted: int, is_local: bool, known: Callable[[], int]) -> str:
        """What to say after a token by `used` of `wanted` experts, which are our own alone if
        `is_local`; nothing if it is as before. `known`: how many experts there are for this
        text."""
        level = self._wished if used >= wanted else used
        before, self._level = self._level, level
        if level == before:
            return ""
        if level >= self._wished:
            return f"{level} experts again"
        there, asked_for = known(), f"(asked for {self._wished})"
        if is_local and there <= 1:
            return f"no other expert is known; continuing with the local expert alone {asked_for}"
        if is_local:
            others = several(there - 1, "other expert")
            return (
                f"no answer of {others} in time; continuing with the local expert alone {asked_for}"
            )
        if there <= level:
            only = several(there, "expert is", "experts are")
            return f"only {only} known; continuing with {level} {asked_for}"
        return f"{level} of {self._wished} experts answered; continuing with {level}"


class Silence:
    """Of a round that began at `now`: told once, after a while without any answer."""

    def __init__(self, now: float) -> None:
        self._at = now + SAY_S

    def due_at(self, replies: Collection[PeerId]) -> float:
        return math.inf if replies else self._at

    def broken(self) -> None:
        """The user has heard of it."""
        self._at = math.inf


def silence(asked: int, reasons: Sequence[str], shortage: str, left_s: float) -> str:
    """A round has gone on for a while without any answer. `asked` experts still owe one; `reasons`
    say why others fell out."""
    if asked:
        who = several(asked, "expert has", "experts have")
        why = f"{who} been asked and not answered yet"
        why += f" (of others: {'; '.join(reasons)})" if reasons else ""
    else:
        why = "no expert answers: " + ("; ".join(reasons) or shortage)
    return f"{why}; waiting for up to {max(1.0, left_s):.0f} s more"


def despair(
    asked: int, reasons: Sequence[str], shortage: str, seconds: float, *, is_final: bool
) -> str:
    """Why an answer ends with an error. `asked`: how many experts had a part in it; `is_final`:
    waiting would not have helped."""
    if not asked:
        why = f"no expert for this vocabulary was reachable within {seconds:.0f} s ({shortage})"
        return f"{why}; `swarmllm doctor` shows what this node sees"
    why = "; ".join(reasons) or shortage
    if is_final:
        return f"no expert can go on with this text: {why}; `swarmllm experts` shows who is there"
    return (
        f"none of {several(asked, 'expert')} answered within {seconds:.0f} s: {why};"
        " `swarmllm experts` shows who is there"
    )
