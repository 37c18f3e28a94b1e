"""Governance of one node: records come in from anywhere, and what follows from them takes effect
here once it may.

What is in force is a pure function of the records (`outcome`) and of what this node has waited out
(`progress`). The machine keeps both up to date, writes down what changes (`writing`), and puts it
into force when that is on disk and in the ledger: once, and again at each start. Taking back is the
other way round: at once, and then written down.

It fails closed. Without a charter, without its terms, without voters, with a state that cannot be
read, or halted, nothing is put into force. Nothing here can lift, delay or refuse a halt: no action
concerns one, and no record of governance is among those that the kill switch reads.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from swarmllm.core.effects import (
    AppendToLedger,
    NodeEffect,
    Penalise,
    PublishRecord,
    RecordChecked,
)
from swarmllm.core.governance.book import has_carried
from swarmllm.core.governance.canaries import Canaries, Identity
from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.changes import Changes, wanted_by
from swarmllm.core.governance.clocks import Uptime
from swarmllm.core.governance.entries import (
    entries_of_proposal,
    entry_of_canary,
    entry_of_idle,
    entry_of_record,
)
from swarmllm.core.governance.mandate import Mandate
from swarmllm.core.governance.outcome import Outcome, Target, rank
from swarmllm.core.governance.phases import Census, Knowledge, Windows
from swarmllm.core.governance.progress import LOOK_AGAIN_S, Around, Progress
from swarmllm.core.governance.registry import Registry
from swarmllm.core.governance.state_file import Damaged, InForce, Saved, load
from swarmllm.core.governance.tiers import Rules
from swarmllm.core.governance.writing import Writing
from swarmllm.core.halt.state import HaltState
from swarmllm.core.inputs import RecordOffered
from swarmllm.core.replication.replica import Replica
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId
from swarmllm.messages.declare import GOV
from swarmllm.messages.governance import Proposal
from swarmllm.wire.codec import encode
from swarmllm.wire.envelope import Verify

SAVE_EVERY_S: Final = 600.0  # The clocks of reviews; what a crash loses of them only prolongs.


class KillSwitch(Protocol):
    """What governance sees of it: `core.halt.machine.HaltMachine`."""

    @property
    def state(self) -> HaltState: ...

    @property
    def halted(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Options:
    """`canary`: this node may be one. `waits_for_ledger`: nothing is put into force before the
    ledger has it. `unix_ms_at_zero`, the wall clock where `now` is 0, is for people. `review_pace`
    is how many seconds of review go by in one: 1 but for a demonstration's own nodes."""

    canary: bool = True
    waits_for_ledger: bool = True
    review_pace: float = 1.0
    unix_ms_at_zero: int = 0
    uptime: Uptime = field(default_factory=Uptime)

    def unix_ms(self, now: float) -> int:
        return max(0, self.unix_ms_at_zero + round(now * 1_000))


def unreadable(what: str) -> str:
    """What the owner of a node is told whose disk does not hold what it held."""
    return (
        f"what this node remembers of governance cannot be read: {what};"
        " restore its data folder from a copy"
    )


class GovernanceMachine:
    """One node's. `read` gives what a former life saved under a key, None for nothing. A node calls
    `start` before anything else, then one method for each input, and `timer` at `next_deadline`."""

    def __init__(
        self,
        switch: KillSwitch,
        identity: Identity,
        rules: Rules,
        changes: Changes,
        verify: Verify,
        rng: random.Random,
        read: Callable[[str], bytes | None],
        options: Options,
    ) -> None:
        self.switch = switch
        self.rules = rules
        self.changes = changes
        self.census = Census()
        self.progress = Progress()
        self.registry = Registry(rules, verify, self.outcome_with)
        self.replica = Replica(GOV, self.registry, rng)
        self.damage = ""
        self.outcome: Outcome | None = None
        self._canaries = Canaries(identity, self.registry, self.progress, self.census)
        self._canaries.is_willing = options.canary
        self._options = options
        try:
            self._saved, self._cases = load(read)
            self.registry.recall_terms(self._saved.terms)
        except (Damaged, RemoteError) as fault:
            self.damage = unreadable(str(fault))
            self.registry.close(self.damage)
            self._saved, self._cases = Saved(), {}
        self.writing = Writing(self._saved.slots, waits_for_ledger=options.waits_for_ledger)
        self._windows = Windows(self._saved.stable_s)
        self._written: dict[Target, InForce] = {}
        self._digest = b""  # Our halt state's, when the cases were last looked at.
        self.is_due = False  # Something has changed of which no record tells: look at the clock.
        self._look_at = self._save_at = math.inf

    # --- questions --------------------------------------------------------------------------------

    @property
    def mandate(self) -> Mandate | None:
        """Who may do what; None if nobody may do anything."""
        return None if self.damage else self.registry.mandate

    @property
    def obstacle(self) -> str:
        """Why nothing is put into force here now; empty if it may be."""
        if self.damage or self.registry.obstacle:
            return self.damage or self.registry.obstacle
        mandate = self.mandate
        if mandate is not None and not mandate.electorate:
            return f"charter {mandate.version} has no voters"
        return next(iter(self.switch.halted), "")

    @property
    def phase(self) -> int:
        """What is in force here; a halt suspends it: 0."""
        return 0 if self.obstacle else self.changes.phase

    def knowledge(self, now: float) -> Knowledge:
        """What the gates of phases look at."""
        return Knowledge(len(self.census.peers(now)), self._windows.read(now))

    def outcome_with(self, also: Sequence[Case]) -> Outcome:
        """What would be in force, and how cases would stand, if these were held too."""
        assert self.registry.book is not None
        return self.registry.book.outcome(self.progress.released, self.switch.state.digest, also)

    def next_deadline(self) -> float:
        if self.is_due:
            return -math.inf
        return min(
            self._look_at, self._save_at, self.writing.retry_at, self.replica.next_deadline()
        )

    # --- inputs -----------------------------------------------------------------------------------

    def start(self, now: float) -> list[NodeEffect]:
        """What a former life put into force is in force again; then the records are looked at."""
        self._save_at = now + SAVE_EVERY_S
        self.changes.restore(self._saved, halted=bool(self.switch.halted))
        self._written = dict(self._saved.in_force)
        return self.settle(now)

    def offered(self, offer: RecordOffered, now: float) -> list[NodeEffect]:
        """A record by gossip, or by hand: a proposal, a vote, a withdrawal, a report, or terms."""
        taken = self.registry.accept([offer.record])
        is_news = bool(taken.news) or self.registry.has_new_terms
        outcome = taken.rejected[0] if taken.rejected else taken
        effects: list[NodeEffect] = [RecordChecked(offer.check, outcome, passes=is_news)]
        if offer.forwarder is None and not taken.rejected:
            self.writing.answer(offer.check)
        if is_news:
            self.replica.touched(now)
            if offer.forwarder is None:
                effects.append(PublishRecord(offer.record, GOV))
        if offer.forwarder is not None:
            effects += [
                Penalise(offer.forwarder, one.reason) for one in taken.rejected if one.penalise
            ]
        effects += self.settle(now)
        if self.damage:
            self.writing.answer_all(self.damage)
        return [*effects, *self.writing.kept()]

    def received(self, peer: PeerId, frame: bytes, now: float) -> list[NodeEffect]:
        """One frame of a peer's stream."""
        effects = self.replica.received(peer, frame, now)
        is_idle = not self.registry.news and not self.registry.has_new_terms
        return effects if is_idle else [*effects, *self.settle(now)]

    def confirmed(self, number: int, ok: bool, now: float, fault: str = "") -> list[NodeEffect]:
        """Store or ledger have what was ordered with this number, or could not take it (`fault`
        says why, if it is known)."""
        done = self.writing.confirmed(number, ok, now, fault)
        kept = self.writing.kept()
        if done is None:
            return [*kept]
        self._written = dict(done.in_force)
        for id in done.cases & self.registry.cases.keys():  # One may have been closed meanwhile.
            self.progress.durable(id, now)
        return [*kept, *self.settle(now)]

    def timer(self, now: float) -> list[NodeEffect]:
        """`next_deadline` has come."""
        effects: list[NodeEffect] = self.replica.timer(now)
        if now >= self.writing.retry_at:
            effects += self.writing.again()
        if now >= self._save_at:
            self._save_at = now + SAVE_EVERY_S
            self.writing.is_due = self.writing.is_due or bool(self.progress.courses)
        if self.is_due or now >= min(self._look_at, self._save_at) or self.writing.is_due:
            effects += self.settle(now)
        return effects

    # --- what follows -----------------------------------------------------------------------------

    def settle(self, now: float) -> list[NodeEffect]:
        """Everything that follows from what is known now."""
        self.is_due, self._look_at = False, math.inf
        if self.damage:
            self.registry.news.clear()
            return []
        self._canaries.now = now
        effects = self._look(now)
        while self.registry.book is not None and not self.damage:
            effects += self._advance(now)
            if not self.registry.news:
                break
            effects += self._look(now)  # A canary on this node has reported.
        if not self.obstacle and self.changes.enact(self._written, self._options.unix_ms(now)):
            self.writing.is_due = True
        return [*effects, *self._write(now)]

    def _look(self, now: float) -> list[NodeEffect]:
        """At the halt state, and at the records that came in."""
        self.registry.has_new_terms = False
        if self.registry.look(self.switch.state):
            self._open_book(now)
        effects: list[NodeEffect] = []
        news, self.registry.news = self.registry.news, []
        if news or self._digest != self.switch.state.digest:
            self._digest = self.switch.state.digest
            self._evaluate()
        for one in news:
            self.writing.is_due = True
            effects.append(AppendToLedger(entry_of_record(one.data)))
            if isinstance(one.record, Proposal) and self.outcome is not None:
                standing = self.outcome.standings[one.case]
                case = self.registry.cases[one.case]
                effects += map(AppendToLedger, entries_of_proposal(case, standing))
        return effects

    def _open_book(self, now: float) -> None:
        """Of the charter in force, with what was saved under the same one."""
        saved, cases = self._saved, self._cases
        self._saved, self._cases = Saved(), {}
        self.progress.courses.clear()
        self.outcome = None
        if saved.scope == self.registry.scope and self.registry.book is not None:
            away_s = self._options.uptime.since(saved.boot, saved.uptime_s, now)
            for id, records in cases.items():
                case = self.registry.book.restore(records)
                if case is None or case.id != id:
                    name = id.hex()[:16]
                    what = f"the records of proposal {name} contradict its charter"
                    self.damage = unreadable(what)
                    self.registry.close(self.damage)
                    return
                self.writing.known(id, case.digest)
            self.progress.restore(saved.courses, away_s, now)
        self.writing.is_due = True
        self.replica.touched(now)
        self._evaluate()
        if self.registry.book is None:  # What another charter had in force is not under this one.
            nothing = Outcome(0, {})
            at_ms = self._options.unix_ms(now)
            for entry in self.changes.want({}, nothing, lambda _: None, at_ms):
                self.writing.with_entry(entry)

    def _evaluate(self) -> None:
        self.outcome = None if self.registry.book is None else self.outcome_with(())

    def _advance(self, now: float) -> list[NodeEffect]:
        """Release what may be released, close what has expired, and compare what is in force with
        what is to be."""
        book, mandate = self.registry.book, self.mandate
        assert book is not None
        assert mandate is not None
        self._windows.look(len(self.census.peers(now)), mandate.terms, now)
        halted = bool(self.obstacle)
        knowledge, pace = self.knowledge(now), self._options.review_pace
        around = Around(now, halted, mandate, knowledge, self._canaries.after, pace)
        effects: list[NodeEffect] = []
        for _ in range(len(book.cases) + 1):  # One may let another go on: a phase, bounds.
            assert self.outcome is not None
            found = self.progress.advance(book.cases.values(), self.outcome, around)
            effects += [AppendToLedger(entry_of_canary(id, course)) for id, course in found.steps]
            for id, why in found.idle:
                self.writing.with_entry(entry_of_idle(id, why))
            if not found.has_changed:
                break
            self.writing.is_due = True
            self._evaluate()
        for report in self._canaries.reports(mandate, self._options.unix_ms(now)):
            if self.registry.accept([report]).news:
                self.replica.touched(now)
                effects.append(PublishRecord(report, GOV))
        self._close(now)
        assert self.outcome is not None
        wanted = wanted_by(self.outcome, mandate, self.rules)
        ranks = {id: rank(case) for id, case in book.cases.items()}
        at_ms = self._options.unix_ms(now)
        for entry in self.changes.want(wanted, self.outcome, ranks.get, at_ms, halted=halted):
            self.writing.with_entry(entry)
        looks = (course.look_at for course in self.progress.courses.values())
        self._look_at = min(now + LOOK_AGAIN_S, min(looks, default=math.inf))
        return effects

    def _close(self, now: float) -> None:
        """What has expired, and withdrawn cases beyond what is kept."""
        book, outcome = self.registry.book, self.outcome
        assert book is not None
        assert outcome is not None
        expired = [
            id
            for id, standing in outcome.standings.items()
            if not has_carried(book.cases[id], standing) and self.progress.is_expired(id, now)
        ]
        closed = [*expired, *book.surplus(outcome)]
        for id in closed:
            book.close(id)
            self.progress.courses.pop(id, None)
        if closed:
            self.replica.touched(now, is_news=False)
            self.writing.is_due = True
            self._evaluate()

    # --- writing ----------------------------------------------------------------------------------

    def _write(self, now: float) -> list[NodeEffect]:
        if self.damage:
            return []
        cases = self.registry.cases
        return self.writing.begin(
            {id: case.digest for id, case in cases.items()},
            lambda id: cases[id].records,
            lambda slots: self._state(slots, now),
        )

    def _state(self, slots: tuple[bytes, ...], now: float) -> Saved:
        terms, journal = self.registry.terms, self.changes.journal
        return Saved(
            scope=self.registry.scope,
            boot=self._options.uptime.boot,
            uptime_s=self._options.uptime.at(now),
            terms=b"" if terms is None else encode(terms),
            slots=slots,
            courses={id: course.saved(now) for id, course in self.progress.courses.items()},
            in_force=self.changes.wanted,
            stable_s=self._windows.read(now),
            journal=journal.entries,
            next_number=journal.next_number,
            lived=self.changes.lived,
        )
