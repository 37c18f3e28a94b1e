"""What comes of audits: each is written down for people, changes what is thought of its expert,
and may exclude it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from swarmllm.core.effects import AppendToLedger, Save
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.core.part import Told
from swarmllm.core.trust.case import Finding, MayAccuse, Verdict
from swarmllm.core.trust.comparison import mean
from swarmllm.core.trust.evidence import is_credible
from swarmllm.core.trust.history import HISTORY, Audit, History
from swarmllm.core.trust.keeping import RECORDS, pack
from swarmllm.core.trust.reputation import Account, Key, Reputation
from swarmllm.core.trust.sessions import Ongoing
from swarmllm.core.trust.suspicion import Suspicion
from swarmllm.core.trust.track_record import TrackRecords
from swarmllm.core.trust.transcript import Said
from swarmllm.messages import ExpertExcluded, PeerId
from swarmllm.wire.codec import encode

SAVE_EVERY_S: Final = 60.0
VOUCH_MIN: Final = 4.0  # Hidden tokens, after which one that makes its lists up has a bad record.
ACCOUNTS: Final = "trust"  # The key in the store.


class Findings:
    """`own` is our own peer id; what is found goes into `track_records` too, which the gate
    reads. `saved`: the history of an earlier life."""

    def __init__(
        self,
        own: PeerId,
        reputation: Reputation,
        track_records: TrackRecords,
        saved: bytes = b"",
    ) -> None:
        self._own, self._reputation, self._track_records = own, reputation, track_records
        self.history = History(saved)
        self._saved_version = reputation.version
        self._saved_at = -math.inf
        self._is_used = False

    def next_deadline(self) -> float:
        """When there is something to save."""
        is_same = self._reputation.version == self._saved_version and not self._is_used
        return math.inf if is_same else self._saved_at + SAVE_EVERY_S

    def used(self) -> None:
        """An expert's part in an answer is over, so its track record has changed as well."""
        self._is_used = True

    def accounts(self, now_s: float) -> tuple[tuple[Key, Account, float], ...]:
        return tuple(
            (key, account.faded(now_s), self._reputation.trust(*key, now_s))
            for key, account in self._reputation
        )

    def save(self, now: float, now_s: float) -> Told:
        """Not more often than once a minute: what is lost with the last is found out again."""
        if now < self.next_deadline():
            return ()
        self._saved_version, self._saved_at = self._reputation.version, now
        self._is_used = False
        return [
            Save(ACCOUNTS, self._reputation.packed()),
            Save(RECORDS, pack(self._track_records, now_s)),
            Save(HISTORY, self.history.packed()),
        ]

    def ended(
        self,
        session: Ongoing,
        finding: Finding,
        said: Sequence[Said],
        tokens: int,
        now_s: float,
    ) -> Told:
        """An audit of this session has come to this, at these positions and for so many tokens."""
        positions, written = len(said), session.written(said)
        peer, digest = session.peer, session.digest
        told: Told = ()
        match finding.verdict:
            case Verdict.AGREED:
                self._agreed(peer, digest, finding, now_s, is_written=written > 0)
            case Verdict.DIFFERED:
                told = self._differed(digest, finding, now_s)
                if finding.against != peer:  # A third has borne it out.
                    self._agreed(peer, digest, replace(finding, found=()), now_s)
            case Verdict.REPEATED:
                self._reputation.repeated(peer, digest, now_s)
            case Verdict.DISPUTED:
                for one in (peer, *finding.by[:1]):
                    self._reputation.disputed(one, digest, now_s)
            case Verdict.NOBODY:
                return ()
        if written and finding.verdict in {Verdict.AGREED, Verdict.REPEATED}:
            found = self._track_records.of(peer, digest)
            self._track_records.put(peer, digest, found.after_confirmed())
        self.history.append(
            Audit(
                at_s=now_s,
                expert=peer,
                model=session.record.model,
                model_digest=digest,
                verdict=finding.verdict,
                positions=positions,
                mean=mean(finding.found) if finding.found else None,
                by=finding.by,
                against=finding.against,
                is_signed=session.is_signed,
                is_excluded=bool(told),
                tokens=tokens,
            )
        )
        return told

    def _agreed(
        self,
        peer: PeerId,
        digest: bytes,
        finding: Finding,
        now_s: float,
        *,
        is_written: bool = True,
    ) -> None:
        """What speaks for it makes it less suspect; what speaks against it counts only if our own
        engine says it, or a third."""
        before = Suspicion(self._reputation.of(peer, digest, now_s).suspicion)
        after = before.after(finding.found)
        left = after if self._own in finding.by else min(before, after, key=_nats)
        self._reputation.agreed(peer, digest, left, now_s, is_written=is_written)
        if any(self._can_vouch(by, digest) for by in finding.by):
            self._tracked(peer, digest, is_passed=True)

    def _can_vouch(self, by: PeerId, digest: bytes) -> bool:
        """Whether its word makes another one of its model known: identities that share an invented
        model would vouch for each other. Our own file can, and who was tried with hidden tokens
        itself, and does as it says."""
        record = self._track_records.of(by, digest)
        return by == self._own or (record.hidden >= VOUCH_MIN and is_credible(record))

    def _differed(self, digest: bytes, finding: Finding, now_s: float) -> Told:
        peer = finding.against
        assert peer is not None
        self._tracked(peer, digest, is_passed=False)
        found = mean(finding.found)
        suspicion = Suspicion(self._reputation.of(peer, digest, now_s).suspicion)
        of = "what it said when asked again" if finding.by[-1:] == (peer,) else "its model's"
        why = (
            f"its lists differ from {of} by {found.variation:.2f} in total variation"
            f" at {len(finding.found)} positions"
        )
        if not self._reputation.failed(peer, digest, suspicion.after(finding.found), now_s, why):
            return ()
        return self._excluded(peer, digest, why, now_s)

    def accusers(self, digest: bytes, now_s: float) -> MayAccuse:
        """Who may speak against whom in a case about this model that begins now."""
        own, found = self._own, self._reputation
        return lambda one, other: one == own or found.may_accuse(one, other, digest, now_s)

    def proved(self, peer: PeerId, digest: bytes, why: str, now_s: float) -> Told:
        """What proves itself speaks against an expert; nothing if it is excluded already."""
        if self._reputation.is_excluded(peer, digest, now_s):
            return ()
        self._reputation.proved(peer, digest, now_s, why)
        self._tracked(peer, digest, is_passed=False)
        return self._excluded(peer, digest, why, now_s)

    def _excluded(self, peer: PeerId, digest: bytes, why: str, now_s: float) -> Told:
        """For the ledger."""
        until_s = self._reputation.of(peer, digest, now_s).excluded_until_s
        payload = encode(ExpertExcluded(peer, digest, math.ceil(until_s), why))
        return [AppendToLedger(LedgerEntry(LedgerKind.AUDIT, payload))]

    def _tracked(self, peer: PeerId, digest: bytes, *, is_passed: bool) -> None:
        found = self._track_records.of(peer, digest).after_audit(is_passed=is_passed)
        self._track_records.put(peer, digest, found)


def _nats(one: Suspicion) -> float:
    return one.nats
