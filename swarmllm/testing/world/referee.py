"""The referee: what may be in force by a heap of signed records, worked out from the design of
governance alone, and not from the code that is judged.

It is slow and plain, knows no order of arrival and no clock, and reads the records themselves:
signature first, then who may sign what, then votes. What has to be waited out it leaves to whoever
asks, and `ripe` names the cases for which that is done (None: all).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Final

from swarmllm.core.settings.table import BY_CODE
from swarmllm.errors import RemoteError
from swarmllm.messages import Range
from swarmllm.messages.governance import (
    CanaryReport,
    ClosePhase,
    GovernanceTerms,
    Observe,
    OpenPhase,
    Proposal,
    Revert,
    SandboxTest,
    SetBounds,
    SetDefaultModel,
    SetFeature,
    SetSetting,
    Suggest,
    Vote,
    Withdrawal,
)
from swarmllm.wire.codec import decode
from swarmllm.wire.envelope import Verify
from swarmllm.wire.signed import good_signers, key_id, open_signed

MINOR, MAJOR = 3, 4
READ_MAX: Final = 16_384  # Records whose reading is kept.
HALT_TOOK: Final = "a halt took it back"
REVERTED: Final = "a revert took it back"
WORSE: Final = "a canary found it worse"
NO_AGENTS_MATTER: Final = "no matter for an agent"
PHASE_FORBIDS: Final = "an agent's, in a phase in which it may not deploy"
_Record = Proposal | Vote | Withdrawal | CanaryReport
_RECORDS: Final[tuple[type[_Record], ...]] = (Proposal, Vote, Withdrawal, CanaryReport)
_ACTIONS: Final = (
    *(Observe, Suggest, SandboxTest, SetSetting, SetBounds),
    *(OpenPhase, ClosePhase, SetFeature, SetDefaultModel, Revert),
)

Thing = tuple[str, int]
"""What can be in force: ("setting", code), ("bounds", code) or ("phase", 0)."""
Valued = tuple[bytes, tuple[int, ...]]
"""Id of the proposal, or empty for the charter; value."""
Force = dict[Thing, Valued]


class Refused(Enum):
    """Why a record counts nothing."""

    SIGNATURE = "it is not signed by the one whom it names"
    ROLE = "who signed it may not sign that"
    SWARM = "it is of another swarm"
    CHARTER = "it is of another charter"


@dataclass(slots=True)
class Matter:
    """A proposal with what was signed to it; `votes`, `reports`: key id -> all that it said."""

    id: bytes
    proposal: Proposal
    action: object
    votes: dict[bytes, set[int]] = field(default_factory=dict)
    reports: dict[bytes, set[int]] = field(default_factory=dict)
    withdrawn_by: set[bytes] = field(default_factory=set)

    @property
    def thing(self) -> Thing | None:
        match self.action:
            case SetSetting(setting=code):
                return "setting", code
            case SetBounds(setting=code):
                return "bounds", code
            case OpenPhase() | ClosePhase():
                return "phase", 0
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`force` is what is to be in force; `tiers` the tier of each matter, `yes` how many voted for
    it, `passed` those that have their votes, `void` those that must not be in force all the same,
    and why."""

    force: Force
    matters: Mapping[bytes, Matter]
    tiers: Mapping[bytes, int]
    yes: Mapping[bytes, int]
    passed: frozenset[bytes]
    void: Mapping[bytes, str]


class Referee:
    """`voters` and `agents` are the public keys in the charter of this version and in its terms;
    `taken_back` is how many changes a halt takes back."""

    def __init__(
        self,
        swarm: bytes,
        voters: Iterable[bytes],
        agents: Iterable[bytes],
        terms: GovernanceTerms,
        taken_back: int,
        verify: Verify,
        version: int = 1,
    ) -> None:
        self.swarm = swarm
        self.version = version
        self.voters = {key_id(key): key for key in voters}
        self.agents = {key_id(key): key for key in agents}
        self.terms = terms
        self.taken_back = taken_back
        self.verify = verify
        self._read: dict[bytes, tuple[_Record, bytes] | Refused] = {}
        self.bounds = {
            _number(one[:2]): Range(_number(one[2:10]), _number(one[10:])) for one in terms.bounds
        }
        self.values = {_number(one[:2]): _number(one[2:]) for one in terms.values}

    def verdict(
        self, records: Iterable[bytes], ctl_digest: bytes, ripe: Collection[bytes] | None = None
    ) -> Verdict:
        """`ctl_digest` is the halt state of whoever holds the records."""
        return _Trial(self, self._matters(records), ctl_digest, ripe).verdict()

    def _matters(self, records: Iterable[bytes]) -> dict[bytes, Matter]:
        signed = [one for one in map(self.read, records) if not isinstance(one, Refused)]
        matters = {
            sha256(payload).digest(): Matter(
                sha256(payload).digest(), record, _action(record.action)
            )
            for record, payload in signed
            if isinstance(record, Proposal)
        }
        for record, _ in signed:
            if isinstance(record, Proposal) or record.proposal not in matters:
                continue
            matter = matters[record.proposal]
            match record:
                case Vote(key=key, yes=yes):
                    matter.votes.setdefault(key, set()).add(yes)
                case CanaryReport(key=key, worse=worse):
                    matter.reports.setdefault(key, set()).add(worse)
                case Withdrawal(key=key):
                    if key in self.voters or key == matter.proposal.author:
                        matter.withdrawn_by.add(key)
        return matters

    def read(self, data: bytes) -> tuple[_Record, bytes] | Refused:
        """A record that was signed by the one whom it names, who may sign that; or what is wrong
        with it. Each is read once: hosts hold the same ones."""
        found = self._read.get(data)
        if found is None:
            if len(self._read) >= READ_MAX:
                self._read.clear()
            found = self._read[data] = self._judged(data)
        return found

    def _judged(self, data: bytes) -> tuple[_Record, bytes] | Refused:
        try:
            opened = open_signed(data, _RECORDS)
        except RemoteError:
            return Refused.SIGNATURE
        record: _Record = opened.record
        may = {Vote: self.voters, CanaryReport: self.agents}.get(
            type(record), {**self.agents, **self.voters}
        )
        says = record.author if isinstance(record, Proposal) else record.key
        if record.swarm != self.swarm:
            return Refused.SWARM
        if record.charter_version != self.version:
            return Refused.CHARTER
        if says not in may:
            return Refused.ROLE
        try:
            signers = good_signers(opened, frozenset(may.values()), self.verify)
        except RemoteError:
            return Refused.SIGNATURE
        is_own = {key_id(one) for one in signers} == {says}
        return (record, opened.payload) if is_own else Refused.SIGNATURE


class _Trial:
    def __init__(
        self,
        referee: Referee,
        matters: dict[bytes, Matter],
        ctl_digest: bytes,
        ripe: Collection[bytes] | None,
    ) -> None:
        self.referee = referee
        self.matters = matters
        self.ctl_digest = ctl_digest
        self.ripe = matters.keys() if ripe is None else ripe
        self.bounds = dict(referee.bounds)
        self.phase = referee.terms.phase
        self.tiers: dict[bytes, int] = {}
        self.yes: dict[bytes, int] = {}
        self.passed: set[bytes] = set()
        self.void: dict[bytes, str] = {}
        self.force: Force = {}

    def verdict(self) -> Verdict:
        people = [m for m in self.matters.values() if m.proposal.author in self.referee.voters]
        agents = [
            m
            for m in self.matters.values()
            if m.proposal.author in self.referee.agents
            and m.proposal.author not in self.referee.voters
        ]
        for matter in self.matters.values():
            if self._is_worse(matter):
                self.void[matter.id] = WORSE
        # What needs no bounds to be judged: reverts by people, then bounds, then phases.
        self._weigh(m for m in people if not isinstance(m.action, SetSetting))
        self._revert(people)
        self._enact(people, "bounds")
        for (kind, code), (_, value) in self.force.items():
            if kind == "bounds":
                self.bounds[code] = Range(*value)
        self._find_phase(people)
        self._weigh(m for m in people if isinstance(m.action, SetSetting))
        self._weigh(agents)
        for matter in agents:
            if not isinstance(matter.action, SetSetting | Revert):
                self.void[matter.id] = NO_AGENTS_MATTER
            elif self.phase < 3:
                self.void[matter.id] = PHASE_FORBIDS
        self._revert(agents, settings_only=True)
        self._take_back()
        self._enact([*people, *agents], "setting")
        self._charter()
        return Verdict(
            self.force, self.matters, self.tiers, self.yes, frozenset(self.passed), self.void
        )

    # --- votes ------------------------------------------------------------------------------------

    def _weigh(self, matters: Iterable[Matter]) -> None:
        """The tier of each, and whether it has the votes for it."""
        referee = self.referee
        for matter in matters:
            tier = self.tiers[matter.id] = self._tier(matter)
            majority = len(referee.voters) // 2 + 1
            yes = sum(said == {1} for key, said in matter.votes.items() if key in referee.voters)
            self.yes[matter.id] = yes
            needs = {MINOR: referee.terms.minor_threshold, MAJOR: majority}.get(tier)
            is_agents = matter.proposal.author not in referee.voters
            if tier == MINOR and is_agents and self.phase == 4 and referee.terms.unattended:
                needs = 0
            stopped = len(matter.withdrawn_by & referee.voters.keys()) >= majority
            if needs is not None and yes >= needs and not stopped:
                self.passed.add(matter.id)

    def _tier(self, matter: Matter) -> int:
        own = self._own_tier(matter)
        return max(own, matter.proposal.tier)

    def _own_tier(self, matter: Matter) -> int:
        match matter.action:
            case Observe():
                return 0
            case Suggest():
                return 1
            case SandboxTest():
                return 2
            case ClosePhase() | Revert():
                return MINOR
            case SetSetting(setting=code, value=value) if code in BY_CODE:
                rule = BY_CODE[code]
                within = self.bounds.get(code, rule.bounds)
                is_small = rule.owner == "agent" and within.low <= value <= within.high
                return MINOR if is_small and any(matter.proposal.evidence) else MAJOR
            case _:
                return MAJOR

    @staticmethod
    def _can_be_done(matter: Matter) -> bool:
        match matter.action:
            case SetSetting(setting=code, value=value):
                return code in BY_CODE and BY_CODE[code].fits(value)
            case SetBounds(setting=code, low=low, high=high):
                return code in BY_CODE and BY_CODE[code].fits(low) and BY_CODE[code].fits(high)
            case OpenPhase() | ClosePhase() | Revert():
                return True
            case _:
                return False

    def _is_worse(self, matter: Matter) -> bool:
        """Who says both says worse."""
        said = [one for key, one in matter.reports.items() if key in self.referee.agents]
        return bool(said) and 2 * sum(1 in one for one in said) >= len(said)

    def _counts(self, matter: Matter) -> bool:
        return (
            matter.id in self.passed
            and matter.id not in self.void
            and matter.id in self.ripe
            and self._can_be_done(matter)
        )

    # --- what follows -----------------------------------------------------------------------------

    def _revert(self, matters: Iterable[Matter], *, settings_only: bool = False) -> None:
        taken = [
            m.action.proposal for m in matters if isinstance(m.action, Revert) and self._counts(m)
        ]
        for id in taken:
            target = self.matters.get(id)
            if target is None or (settings_only and not isinstance(target.action, SetSetting)):
                continue
            self.void[id] = REVERTED

    def _enact(self, matters: Iterable[Matter], kind: str) -> None:
        best: dict[Thing, Matter] = {}
        for matter in matters:
            thing = matter.thing
            if thing is not None and thing[0] == kind and self._counts(matter):
                rival = best.get(thing)
                if rival is None or _goes_before(matter, rival):
                    best[thing] = matter
        for thing, matter in best.items():
            match matter.action:
                case SetSetting(value=value):
                    self.force[thing] = (matter.id, (value,))
                case SetBounds(low=low, high=high):
                    self.force[thing] = (matter.id, (low, high))
                case _:
                    raise AssertionError(matter.action)

    def _find_phase(self, people: Iterable[Matter]) -> None:
        """The first of each height, in the order of heights; what closes never opens."""
        at: dict[int, Matter] = {}
        for matter in people:
            if matter.thing == ("phase", 0) and self._counts(matter):
                height = matter.proposal.height
                if height not in at or _goes_before(matter, at[height]):
                    at[height] = matter
        for height in sorted(at):
            action = at[height].action
            if isinstance(action, OpenPhase):
                self.phase = action.phase
            else:
                assert isinstance(action, ClosePhase)
                self.phase = min(self.phase, action.phase)
            self.force["phase", 0] = (at[height].id, (self.phase,))

    def _take_back(self) -> None:
        """Of each halt state that is over, the last deploy-minor changes by seq."""
        over: dict[bytes, list[Matter]] = {}
        for id in self.passed:
            matter = self.matters[id]
            digest = matter.proposal.ctl_digest
            if (
                isinstance(matter.action, SetSetting)
                and self.tiers[id] == MINOR
                and digest != self.ctl_digest
            ):
                over.setdefault(digest, []).append(matter)
        for found in over.values():
            found.sort(key=lambda m: (m.proposal.seq, m.id))
            for matter in found[-self.referee.taken_back :] if self.referee.taken_back else ():
                self.void[matter.id] = HALT_TOOK

    def _charter(self) -> None:
        """What is voted goes before what the charter starts from."""
        if self.referee.terms.phase:
            self.force.setdefault(("phase", 0), (b"", (self.phase,)))
        for code, value in self.referee.values.items():
            self.force.setdefault(("setting", code), (b"", (value,)))
        for code, found in self.referee.bounds.items():
            self.force.setdefault(("bounds", code), (b"", (found.low, found.high)))


def _goes_before(one: Matter, two: Matter) -> bool:
    """The greater height; of one height the lower id."""
    return (-one.proposal.height, one.id) < (-two.proposal.height, two.id)


def _action(data: bytes) -> object:
    try:
        return decode(data, _ACTIONS)
    except RemoteError:
        return None


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
