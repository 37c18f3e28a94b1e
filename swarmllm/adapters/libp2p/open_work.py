"""What is open on a link: the questions of each session that nobody has answered yet, both ways.

Counted on links through relays alone, which are left when a direct one comes up (`moving`).
"""

from __future__ import annotations

from typing import Final, TypeGuard

from swarmllm.messages import (
    Busy,
    Close,
    Need,
    Open,
    Refused,
    Score,
    Scores,
    SessionSigned,
    SignSession,
)

SESSIONS_MAX: Final = 1_024  # Each way; the one that was opened first is no longer counted.

Request = Open | Score | Close | SignSession
Reply = Scores | Need | Busy | Refused | SessionSigned


def is_request(message: object) -> TypeGuard[Request]:
    return isinstance(message, Request)


def is_reply(message: object) -> TypeGuard[Reply]:
    return isinstance(message, Reply)


class OpenWork:
    """`now` is on any clock."""

    def __init__(self, now: float) -> None:
        self._asked: dict[int, int] = {}
        self._owed: dict[int, int] = {}
        self.last_at = now
        """When the last message of a session passed."""

    @property
    def is_open(self) -> bool:
        """Whether anything may still come, here or there."""
        return bool(self._asked or self._owed)

    def asks(self, session: int) -> bool:
        """Whether something of this session of ours may be under way."""
        return session in self._asked

    def owes(self, session: int) -> bool:
        """Whether the peer waits here for an answer in this session of its own."""
        return session in self._owed

    def sent(self, message: object, now: float) -> None:
        if is_request(message):
            self._question(self._asked, message, now)
        elif is_reply(message):
            self._answer(self._owed, message, now)

    def received(self, message: object, now: float) -> None:
        if is_request(message):
            self._question(self._owed, message, now)
        elif is_reply(message):
            self._answer(self._asked, message, now)

    def _question(self, counts: dict[int, int], message: Request, now: float) -> None:
        self.last_at = now
        if isinstance(message, Close):
            counts.pop(message.session, None)
            return
        # An Open has no answer, but what follows must not overtake it.
        more = not isinstance(message, Open)
        counts[message.session] = counts.get(message.session, 0) + more
        while len(counts) > SESSIONS_MAX:
            del counts[next(iter(counts))]

    def _answer(self, counts: dict[int, int], message: Reply, now: float) -> None:
        self.last_at = now
        left = counts.get(message.session, 0) - 1
        if left > 0:
            counts[message.session] = left
        else:
            counts.pop(message.session, None)
