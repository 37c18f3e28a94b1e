"""Reputation: what this node has found out about each expert itself, and how much it trusts it.

It is kept for an expert and its model together: another model is another promise. Only this node's
own audits and what proves itself (`core.trust.receipt`) go in; what others say of an expert has no
way into it, so slander does nothing. What was found fades with a half-life of a week. A newcomer's
word counts half for a week and fully after a month, however well it behaves: identities cost
nothing, time does.

Excluded is who was shown to answer with something else than its model, and for a time: models are
replaced, machines repaired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields, replace
from typing import Any, Final

import msgpack

from swarmllm.core.trust.suspicion import Suspicion
from swarmllm.messages import PeerId

ACCOUNTS_MAX: Final = 2048
DAY_S: Final = 86_400.0
HALF_LIFE_S: Final = 7 * DAY_S
FLOOR: Final = 0.05  # Of sessions that are audited, however well an expert has done.
NEW_TRUST: Final = 0.5
FORMAT: Final = 1
WHY_MAX: Final = 200

Key = tuple[PeerId, bytes]
"""An expert, and the digest of its model."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How many days a newcomer's trust is capped, from when on it is whole, and for how long who
    was shown to cheat is excluded. The node's owner sets them."""

    capped_days: float = 7.0
    whole_days: float = 30.0
    excluded_days: float = 7.0


@dataclass(frozen=True, slots=True)
class Account:
    """What was found, faded to `at_s` (Unix time). `row`: valid audits since the last that was
    not. `unsigned`: sessions that the expert did not sign as they were. `suspicion`: in nats."""

    since_s: float
    at_s: float
    valid: float = 0.0
    failed: float = 0.0
    disputed: float = 0.0
    unsigned: float = 0.0
    row: int = 0
    suspicion: float = 0.0
    excluded_until_s: float = 0.0
    why: str = ""

    def no_later(self, now_s: float, excluded_s: float) -> Account:
        """As it is where the clock was ahead when it was written: nothing of it is from the future,
        and nobody is excluded for longer than one is."""
        if now_s >= self.at_s:
            return self
        until_s = min(self.excluded_until_s, now_s + excluded_s)
        since_s = min(self.since_s, now_s)
        return replace(self, since_s=since_s, at_s=now_s, excluded_until_s=until_s)

    def faded(self, now_s: float) -> Account:
        """As it counts now. A clock that runs backwards stands still."""
        if now_s <= self.at_s:
            return self
        left = 0.5 ** ((now_s - self.at_s) / HALF_LIFE_S)
        return replace(
            self,
            at_s=now_s,
            valid=self.valid * left,
            failed=self.failed * left,
            disputed=self.disputed * left,
            unsigned=self.unsigned * left,
            suspicion=self.suspicion * left,
        )


ROWS: Final = fields(Account)


class Reputation:
    """`accounts` are bounded: whoever is known for the shortest time is forgotten first, and
    nobody who is excluded."""

    def __init__(
        self, terms: Terms | None = None, saved: bytes = b"", now_s: float = math.inf
    ) -> None:
        """`now_s` is Unix time: nothing that was saved happened later."""
        self.terms = terms or Terms()
        excluded_s = self.terms.excluded_days * DAY_S
        self._accounts: dict[Key, Account] = {
            key: one.no_later(now_s, excluded_s) for key, one in _unpacked(saved)
        }
        self._first_s = min((one.since_s for one in self._accounts.values()), default=math.inf)
        self.version = 0
        """Changes whenever there is something to save."""

    def __iter__(self) -> Iterator[tuple[Key, Account]]:
        return iter(self._accounts.items())

    def of(self, peer: PeerId, digest: bytes, now_s: float) -> Account:
        found = self._accounts.get((peer, digest))
        return Account(now_s, now_s) if found is None else found.faded(now_s)

    # --- what follows from it ---------------------------------------------------------------------

    def is_excluded(self, peer: PeerId, digest: bytes, now_s: float) -> bool:
        found = self._accounts.get((peer, digest))
        return found is not None and found.excluded_until_s > now_s

    def trust(self, peer: PeerId, digest: bytes, now_s: float) -> float:
        """A factor of what its word counts, above 0 and up to 1; 0: it is excluded."""
        found = self.of(peer, digest, now_s)
        return 0.0 if found.excluded_until_s > now_s else self._grown(found.since_s, now_s)

    def trust_in_own(self, now_s: float) -> float:
        """Of this node's own expert: what the one counts that it knows for longest, so that its own
        never falls behind those that become known."""
        return self._grown(min(self._first_s, now_s), now_s)

    def _grown(self, since_s: float, now_s: float) -> float:
        """What somebody counts who is known since then."""
        age_days = (now_s - since_s) / DAY_S
        terms = self.terms
        if age_days >= terms.whole_days:
            return 1.0
        if age_days <= terms.capped_days:
            return NEW_TRUST
        grown = (age_days - terms.capped_days) / (terms.whole_days - terms.capped_days)
        return NEW_TRUST + (1 - NEW_TRUST) * grown

    def may_accuse(self, one: PeerId, other: PeerId, digest: bytes, now_s: float) -> bool:
        """Whether what the first says of their model may speak against the second: not if the
        second is known for longer, by a day or more, unless both are for so long that nothing is
        to be gained by waiting."""
        since_s = self.of(one, digest, now_s).since_s
        is_whole = now_s - since_s >= self.terms.whole_days * DAY_S
        return is_whole or since_s <= self.of(other, digest, now_s).since_s + DAY_S

    def audit_chance(self, peer: PeerId, digest: bytes) -> float:
        """How likely its next session is audited."""
        found = self._accounts.get((peer, digest))
        return 1.0 if found is None else max(1 / max(1, found.row), FLOOR)

    # --- what goes into it ------------------------------------------------------------------------

    def met(self, peer: PeerId, digest: bytes, now_s: float) -> None:
        """It has answered, or was asked in an audit: its time begins."""
        if (peer, digest) not in self._accounts:
            self._keep(peer, digest, Account(now_s, now_s))

    def agreed(
        self,
        peer: PeerId,
        digest: bytes,
        left: Suspicion,
        now_s: float,
        *,
        is_written: bool = True,
    ) -> None:
        """A valid audit. Only one of what was said in the middle of an answer (`is_written`) makes
        the next less likely."""
        found = self.of(peer, digest, now_s)
        row = found.row + is_written
        kept = replace(found, valid=found.valid + 1, row=row, suspicion=left.nats)
        self._keep(peer, digest, kept)

    def repeated(self, peer: PeerId, digest: bytes, now_s: float) -> None:
        """It said the same again, and nobody else could be asked: no valid audit, but there is
        as little reason to ask again as after one."""
        found = self.of(peer, digest, now_s)
        self._keep(peer, digest, replace(found, row=found.row + 1))

    def disputed(self, peer: PeerId, digest: bytes, now_s: float) -> None:
        """Two holders of one model differ, and nobody knows who is wrong."""
        found = self.of(peer, digest, now_s)
        self._keep(peer, digest, replace(found, disputed=found.disputed + 1, row=0))

    def unsigned(self, peer: PeerId, digest: bytes, now_s: float) -> None:
        found = self.of(peer, digest, now_s)
        self._keep(peer, digest, replace(found, unsigned=found.unsigned + 1))

    def failed(self, peer: PeerId, digest: bytes, now: Suspicion, now_s: float, why: str) -> bool:
        """An audit that spoke against it; whether it is excluded with this one."""
        found = self.of(peer, digest, now_s)
        found = replace(found, failed=found.failed + 1, row=0, suspicion=now.nats)
        if now.is_alarm:
            found = self._excluded(found, now_s, why)
        self._keep(peer, digest, found)
        return now.is_alarm

    def proved(self, peer: PeerId, digest: bytes, now_s: float, why: str) -> None:
        """What proves itself speaks against it."""
        found = self.of(peer, digest, now_s)
        failed = replace(found, failed=found.failed + 1, row=0)
        self._keep(peer, digest, self._excluded(failed, now_s, why))

    def _excluded(self, found: Account, now_s: float, why: str) -> Account:
        """After that time it begins anew, with nothing for it and nothing against it."""
        until_s = now_s + self.terms.excluded_days * DAY_S
        return replace(found, excluded_until_s=until_s, why=why[:WHY_MAX], suspicion=0.0)

    def _keep(self, peer: PeerId, digest: bytes, account: Account) -> None:
        key = (peer, digest)
        if key not in self._accounts and len(self._accounts) >= ACCOUNTS_MAX:
            free = [k for k, a in self._accounts.items() if a.excluded_until_s <= account.at_s]
            if not free:
                return
            del self._accounts[max(free, key=lambda k: (self._accounts[k].since_s, k))]
        self._accounts[key] = account
        self._first_s = min(self._first_s, account.since_s)
        self.version += 1

    # --- to the disk and back ---------------------------------------------------------------------

    def packed(self) -> bytes:
        rows = [[peer, digest, *astuple(account)] for (peer, digest), account in self]
        found: bytes = msgpack.packb([FORMAT, rows])
        return found


def _unpacked(saved: bytes) -> Iterator[tuple[Key, Account]]:
    """What a value from the disk says; nothing of what is none."""
    try:
        found: Any = msgpack.unpackb(saved) if saved else None
    except (ValueError, msgpack.exceptions.UnpackException):
        return
    match found:
        case [int(version), list(rows)] if version == FORMAT:
            accounts = [_account(row) for row in rows[:ACCOUNTS_MAX]]
            yield from (one for one in accounts if one is not None)
        case _:
            return


def _account(row: Any) -> tuple[Key, Account] | None:
    """One row of `packed`, whose values have the types and bounds of an `Account`."""
    if not isinstance(row, list) or len(row) != 2 + len(fields(Account)):
        return None
    peer, digest, *values = row
    kinds = [int if one.name == "row" else str if one.name == "why" else float for one in ROWS]
    if not isinstance(peer, str) or not isinstance(digest, bytes) or len(digest) != 32:
        return None
    if any(type(value) is not kind for value, kind in zip(values, kinds, strict=True)):
        return None
    if not all(math.isfinite(v) and v >= 0 for v in values if not isinstance(v, str)):
        return None
    return (PeerId(peer), digest), Account(*values)
