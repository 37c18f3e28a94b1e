"""A swarm of voters and agents, and nodes whose disk, ledger and clock are the test's.

Keys and signatures are those of `tests.core.halt.support`: hashes, so that thousands cost nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from swarmllm.core.effects import (
    AppendToLedger,
    Commit,
    NodeEffect,
    Penalise,
    PublishRecord,
    RecordChecked,
    RecordKept,
    SendFrame,
)
from swarmllm.core.governance.authoring import ballot, draft, withdrawal
from swarmllm.core.governance.canaries import Identity
from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.changes import Changes
from swarmllm.core.governance.clocks import Uptime
from swarmllm.core.governance.machine import GovernanceMachine, Options
from swarmllm.core.governance.mandate import DEFAULTS, naming
from swarmllm.core.governance.steering import SettingsSteering
from swarmllm.core.governance.tiers import Action
from swarmllm.core.halt.state import HaltState
from swarmllm.core.inputs import RecordOffered
from swarmllm.core.ledger.entry import LedgerEntry
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import BY_CODE, EXPERTS, EXTRA, WAIT_COST
from swarmllm.messages import PeerId
from swarmllm.messages.governance import (
    NO_BASE,
    GovernanceTerms,
    Proposal,
    SetSetting,
    Vote,
    Withdrawal,
)
from swarmllm.wire.codec import encode
from tests.core.halt.support import (
    FIRST,
    HALTERS,
    Person,
    apply,
    founded,
    halt,
    keys,
    resume,
    signed,
    verify,
)

VOTERS = tuple(Person(f"voter {i}") for i in range(3))
AGENTS = tuple(Person(f"agent {i}") for i in range(2))
STRANGER = Person("stranger")
REPORT = b"\7" * 32  # The digest of a validation report.
HOUR = 3_600.0
DAY = 24 * HOUR
RULES = BY_CODE


def charter(terms: GovernanceTerms | None = None, voters: Sequence[Person] = VOTERS) -> Any:
    ext = b"" if terms is None else naming(terms)
    return replace(FIRST, voter=keys(voters), ext=ext)


PLAIN = founded(charter())
TERMS = replace(DEFAULTS, agent=keys(AGENTS))
WITH_AGENTS = founded(charter(TERMS))


@dataclass
class Switch:
    """A kill switch that the test sets."""

    state: HaltState = PLAIN

    @property
    def halted(self) -> tuple[str, ...]:
        return self.state.reasons

    def halt(self, seq: int = 1, person: Person = HALTERS[0]) -> None:
        self.state = apply(self.state, halt(person, seq, self.state.swarm))

    def resume(self, seq: int = 1, person: Person = HALTERS[0]) -> None:
        version = self.state.version
        self.state = apply(
            self.state, resume({person: seq}, version=version, swarm=self.state.swarm)
        )


@dataclass
class Disk:
    """What survives. `is_full`: nothing is taken any more."""

    values: dict[str, bytes] = field(default_factory=dict)
    is_full: bool = False


class Node:
    """A machine with a disk and a ledger that confirm at once, unless the test says otherwise."""

    def __init__(
        self,
        name: str = "node",
        *,
        switch: Switch | None = None,
        disk: Disk | None = None,
        person: Person | None = None,
        uptime: Uptime | None = None,
        canary: bool = True,
        terms: GovernanceTerms | None = None,
        now: float = 0.0,
    ) -> None:
        self.name = name
        self.peer = PeerId(name)
        self.switch = switch or Switch()
        self.disk = disk or Disk()
        self.person = person or Person(name)
        self.canary = canary
        self.now = now
        self.is_manual = False  # The test confirms by hand.
        self.waiting: list[Commit | AppendToLedger] = []
        self.ledger: list[LedgerEntry] = []
        self.refuses_entries = False
        self.sent: list[tuple[PeerId, Any]] = []
        self.published: list[bytes] = []
        self.penalised: list[tuple[PeerId, str]] = []
        self.checked: list[RecordChecked] = []
        self.kept: list[RecordKept] = []
        self.boot(uptime or Uptime(), terms)

    def boot(
        self,
        uptime: Uptime | None = None,
        terms: GovernanceTerms | None = None,
        unix_ms: int = 1_790_000_000_000,
    ) -> None:
        """The process starts, with what its disk holds; its wall clock says whatever it says."""
        self.settings = Settings()
        self.waiting = []
        self.machine = GovernanceMachine(
            self.switch,
            Identity(self.peer, self.person.public_key, self.person.sign),
            RULES,
            Changes(SettingsSteering(self.settings), RULES),
            verify,
            random.Random(self.name),
            self.disk.values.get,
            Options(canary=self.canary, unix_ms_at_zero=unix_ms, uptime=uptime or Uptime()),
        )
        self.perform(self.machine.start(self.now))
        if terms is not None:
            self.offer(encode(terms))

    # --- what the shell does ----------------------------------------------------------------------

    def perform(self, effects: Sequence[NodeEffect]) -> None:
        for effect in effects:
            match effect:
                case Commit():
                    self.waiting.append(effect)
                case AppendToLedger(entry=entry, number=number):
                    if number:
                        self.waiting.append(effect)
                    else:
                        self.ledger.append(entry)
                case SendFrame(peer=peer, message=message):
                    self.sent.append((peer, message))
                case PublishRecord(record=record):
                    self.published.append(record)
                case Penalise(peer=peer, reason=reason):
                    self.penalised.append((peer, reason))
                case RecordChecked():
                    self.checked.append(effect)
                case RecordKept():
                    self.kept.append(effect)
                case _:
                    raise AssertionError(effect)
        while self.waiting and not self.is_manual:
            self.confirm()

    def confirm(self) -> None:
        """The oldest write ends."""
        effect = self.waiting.pop(0)
        if isinstance(effect, Commit):
            ok = not self.disk.is_full
            if ok:
                self.disk.values.update(effect.values)
        else:
            ok = not self.refuses_entries
            if ok:
                self.ledger.append(effect.entry)
        fault = "" if ok or not isinstance(effect, Commit) else "the disk is full"
        self.perform(self.machine.confirmed(effect.number, ok, self.now, fault))

    def wait(self, seconds: float) -> None:
        """Time goes by, with the machine's own deadlines."""
        until = self.now + seconds
        while self.machine.next_deadline() <= until:
            self.now = max(self.now, self.machine.next_deadline())
            self.perform(self.machine.timer(self.now))
        self.now = until
        self.perform(self.machine.settle(self.now))

    def look(self) -> None:
        self.perform(self.machine.settle(self.now))

    # --- people -----------------------------------------------------------------------------------

    def offer(self, *records: bytes, forwarder: PeerId | None = None) -> Any:
        """By hand, or by gossip; what became of the last one."""
        for record in records:
            offer = RecordOffered(len(self.checked) + 1, record, forwarder, "gov")
            self.perform(self.machine.offered(offer, self.now))
        return self.checked[-1].outcome if records else None

    def propose(self, action: Action, by: Person = VOTERS[0], **more: Any) -> bytes:
        """A signed proposal, as this node would draft it."""
        more.setdefault("evidence", REPORT)
        drafted = draft(
            self.machine, action, by.public_key, now=self.now, unix_ms=1_790_000_000_000, **more
        )
        return signed(drafted, by)

    def vote(self, id: bytes, by: Person, yes: bool = True) -> bytes:
        return signed(ballot(self.machine, id, by.public_key, yes, 1_790_000_000_000), by)

    def withdraw(self, id: bytes, by: Person) -> bytes:
        return signed(withdrawal(self.machine, id, by.public_key, 1_790_000_000_000), by)

    # --- questions --------------------------------------------------------------------------------

    def value(self, code: int) -> int:
        return self.settings.get(BY_CODE[code])

    def case(self, id: bytes) -> Case:
        assert self.machine.registry.book is not None
        return self.machine.registry.book.cases[id]

    @property
    def journal(self) -> list[tuple[str, str, str, str]]:
        return [(e.what, e.old, e.new, e.taken_back) for e in self.machine.changes.journal.entries]


def id_of(record: bytes) -> bytes:
    """Of a signed proposal."""
    from hashlib import sha256

    from swarmllm.core.governance.admission import GOVERNING
    from swarmllm.wire.signed import open_signed

    return sha256(open_signed(record, GOVERNING).payload).digest()


def plain_proposal(action: Action | bytes, by: Person = VOTERS[0], **more: Any) -> Proposal:
    """One that no node has drafted."""
    fields: dict[str, Any] = {
        "swarm": PLAIN.swarm,
        "charter_version": 1,
        "author": by.id,
        "seq": 1,
        "tier": 3,
        "action": action if isinstance(action, bytes) else encode(action),
        "base": NO_BASE,
        "height": 1,
        "ctl_digest": PLAIN.digest,
        "evidence": REPORT,
        "why": "",
        "issued_ms": 0,
    }
    return Proposal(**{**fields, **more})


def plain_vote(id: bytes, by: Person, yes: int = 1, **more: Any) -> bytes:
    fields: dict[str, Any] = {
        "swarm": PLAIN.swarm,
        "charter_version": 1,
        "proposal": id,
        "key": by.id,
        "yes": yes,
        "issued_ms": 0,
    }
    return signed(Vote(**{**fields, **more}), by)


def plain_withdrawal(id: bytes, by: Person, swarm: bytes = PLAIN.swarm) -> bytes:
    return signed(Withdrawal(swarm, 1, id, by.id, 0), by)


Make = Callable[..., Node]
EXPERTS_CODE, EXTRA_CODE, WAIT_CODE = EXPERTS.code, EXTRA.code, WAIT_COST.code
SET_EXPERTS = SetSetting(EXPERTS_CODE, 5)
