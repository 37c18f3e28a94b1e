"""The purse that audits are paid from: a share of what this node has experts do for answers anyway,
so that audits never cost more than that.

It holds two things. *Tokens* that experts compute: the text of an audit is a whole prefill. *Lists*
that experts send: nine tenths of the bytes of an answer and of an audit are lists or go with them,
and an audit of ten lists about a short answer is much beside that answer's own.
"""

from __future__ import annotations

from typing import Final

SHARE: Final = 0.1  # Of tokens.
LISTS_SHARE: Final = 0.02
FULL: Final = 32_768.0  # Tokens that are kept: two audits of the longest kind.
LISTS_FULL: Final = 640.0
FIRST: Final = 4_096.0  # For the first audits, before anything was earned.
LISTS_FIRST: Final = 160.0  # 16 audits.
LISTS_RESERVE: Final = 40.0  # For experts of which nothing was looked at yet.


class Purse:
    """`left` and `lists_left` can be spent. `spent` and `earned` are tokens."""

    def __init__(self) -> None:
        self.left, self.lists_left = FIRST, LISTS_FIRST
        self.spent = self.earned = 0

    def earn(self, tokens: int, lists: int) -> None:
        """For an answer an expert was given so many tokens, and asked for so many lists."""
        self.earned += tokens
        self.left = min(FULL, self.left + SHARE * tokens)
        self.lists_left = min(LISTS_FULL, self.lists_left + LISTS_SHARE * lists)

    def has(self, tokens: int, lists: int, *, is_urgent: bool) -> bool:
        """Whether an audit of so many tokens and lists can be begun. What is kept for urgent ones
        others leave alone."""
        reserve = 0.0 if is_urgent else LISTS_RESERVE
        return tokens <= self.left and lists <= self.lists_left - reserve

    def pay(self, tokens: int, lists: int, *, is_urgent: bool) -> bool:
        """The same; and pay it."""
        if not self.has(tokens, lists, is_urgent=is_urgent):
            return False
        self._take(tokens, lists)
        return True

    def go_on(self, tokens: int, lists: int) -> bool:
        """Whether one that was begun may ask another holder; and pay that: on credit, for who is
        right where two differ should not depend on what is left, yet not without end, or liars who
        differ from everybody would use up what others are to be audited with."""
        if self.left < -FIRST or self.lists_left < -LISTS_RESERVE:
            return False
        self._take(tokens, lists)
        return True

    def _take(self, tokens: int, lists: int) -> None:
        self.left -= tokens
        self.lists_left -= lists
        self.spent += tokens
