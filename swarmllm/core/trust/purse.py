"""The purse that audits are paid from: a share of the tokens that this node gives experts to
compute anyway, so that audits never cost more than that."""

from __future__ import annotations

from typing import Final

SHARE: Final = 0.1
FULL: Final = 32_768.0  # What is not spent is kept up to here: two audits of the longest kind.
FIRST: Final = 4_096.0  # For the first audits, before anything was earned.


class Purse:
    def __init__(self) -> None:
        self.left = FIRST
        self.spent = self.earned = 0

    def earn(self, tokens: int) -> None:
        """Experts were given so many tokens for an answer."""
        self.earned += tokens
        self.left = min(FULL, self.left + SHARE * tokens)

    def pay(self, tokens: int) -> bool:
        """Whether an audit of so many tokens can be paid; and pay it."""
        if tokens > self.left:
            return False
        self.left -= tokens
        self.spent += tokens
        return True
