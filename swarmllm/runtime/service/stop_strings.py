"""Stop strings in a stream: what might be the beginning of one is held back until it is known.

A stop string may be spread over any number of tokens, and a piece that was shown cannot be taken
back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarmllm.core.tool_calls import CLOSING, MARK
from swarmllm.errors import UsageError

STOPS_MAX: Final = 16  # Each is looked for at every token; OpenAI's API allows 4.
STOP_CHARS_MAX: Final = 256  # What may be held back of the text: more would look like a stall.


def check_stops(stops: Sequence[str]) -> tuple[str, ...]:
    """The same strings. UsageError naming what cannot be one."""
    if len(stops) > STOPS_MAX:
        raise UsageError(
            f"{len(stops)} stop strings are more than the {STOPS_MAX} that can be given;"
            " leave some out"
        )
    for stop in stops:
        if not 1 <= len(stop) <= STOP_CHARS_MAX:
            raise UsageError(
                f"a stop string has 1 to {STOP_CHARS_MAX} characters, not {len(stop)};"
                f" correct or leave out {stop[:20]!r}"
            )
    return tuple(stops)


class StopFilter:
    """Text goes in in pieces and comes out without the first stop string or anything behind it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False
        self.which = ""  # The one that was found.

    def push(self, text: str) -> str:
        """What can be shown now. Once `found`, nothing can."""
        if self.found:
            return ""
        text = self._held + text
        found = [(i, stop) for stop in self._stops if (i := text.find(stop)) >= 0]
        if found:
            at, self.which = min(found)
            self.found, self._held = True, ""
            return text[:at]
        keep = max((overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back and turned out to be ordinary text."""
        held, self._held = self._held, ""
        return held


class StopsBesideCalls:
    """The same for an answer that may call tools: a stop string ends the text beside the calls; one
    within a call would only break it."""

    def __init__(self, stops: StopFilter, *, has_form: bool = False) -> None:
        """`has_form`: as in `core.tool_calls.CallReader`."""
        self._stops = stops
        self._is_undecided = has_form
        self._is_json = False
        self._held = ""
        self._is_call = False

    @property
    def found(self) -> bool:
        return self._stops.found

    @property
    def which(self) -> str:
        return self._stops.which

    def push(self, text: str) -> str:
        self._held += text
        shown = ""
        if self._is_undecided and self._held:
            self._is_json = not MARK.startswith(self._held[: len(MARK)])
            self._is_undecided = not self._is_json and len(self._held) < len(MARK)
        if self._is_json:
            held, self._held = self._held, ""
            return self._stops.push(held)
        while not self.found:
            mark = CLOSING if self._is_call else MARK
            before, begun, after = self._held.partition(mark)
            if not begun:
                at = len(before) - overlap(before, mark)
                self._held = before[at:]
                return shown + self._let(before[:at])
            self._held = after
            shown += self._let(before)
            if not self._is_call:
                shown += self._stops.finish()
            if not self.found:
                shown += mark
            self._is_call = not self._is_call
        return shown

    def _let(self, text: str) -> str:
        return text if self._is_call else self._stops.push(text)

    def finish(self) -> str:
        held, self._held = self._held, ""
        return "" if self.found else self._let(held) + self._stops.finish()


def overlap(text: str, stop: str) -> int:
    """Length of the longest proper beginning of `stop` that `text` ends with."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )
