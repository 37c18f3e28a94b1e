"""The outcome: what is in force, as a pure function of the records held and of which cases this
node has released.

Nothing here looks at a clock, at the order in which records came, or at what was in force before.
So two nodes with the same records that have both waited out what is to be waited out have the same
settings, whatever happened on the way:

- A case **passes** with as many yes-votes as its tier needs. Votes are final and the electorate is
  fixed, so in whatever order votes come, it passes when the last of them is there.
- Of two passed cases on one thing the one with the greater height wins; of two of one height,
  which have one base, the lower id, also if it comes later.
- A voter's two different votes are no vote: what they carried is taken back.
- **A halt takes the last changes back**: a proposal names its author's halt state, so those of
  before a halt are told from those of after it, and of every halt state that has ended the last N
  deploy-minor changes, by seq, are void for good. The second halt of an hour digs no further.
- What an agent proposed counts only while the phase lets it deploy: closing the phase takes it
  back.
- A revert takes its case out; a majority of canary reports that say "worse" does, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.mandate import Mandate, Tier
from swarmllm.core.governance.tiers import Action, Bounds, Decision, Rules, decide
from swarmllm.messages import Range
from swarmllm.messages.governance import (
    NO_EVIDENCE,
    PHASE_MAX,
    ClosePhase,
    OpenPhase,
    Revert,
    SetBounds,
    SetDefaultModel,
    SetSetting,
)

AGENT_DEPLOYS_FROM: Final = 3  # The phase.


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What a change concerns: "setting" and "bounds" with the setting's code, "phase", or "model",
    the one that new nodes are offered."""

    kind: Literal["setting", "bounds", "phase", "model"]
    code: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a case stands by its records alone. `needs` None: no number of votes carries it.
    `void`: why it never takes effect although it may have passed; empty if it can."""

    decision: Decision
    yes: int
    no: int
    needs: int | None
    is_withdrawn: bool
    passed: bool
    void: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`winners` are the released cases that are in force, `values` the settings that they set."""

    phase: int
    standings: Mapping[bytes, Standing]
    winners: Mapping[Target, Case] = field(default_factory=dict)
    bounds: Mapping[int, Range] = field(default_factory=dict)
    values: Mapping[int, int] = field(default_factory=dict)

    def bounds_of(self, rules: Rules) -> Bounds:
        """What is in force: voted, chartered, or as the table has it."""
        return lambda code: self.bounds.get(code) or (rules[code].bounds if code in rules else None)


def target_of(action: Action | None) -> Target | None:
    """What it would change; None for what this version cannot carry out, and for a revert."""
    match action:
        case SetSetting(setting=setting):
            return Target("setting", setting)
        case SetBounds(setting=setting):
            return Target("bounds", setting)
        case OpenPhase() | ClosePhase():
            return Target("phase")
        case SetDefaultModel():
            return Target("model")
        case _:
            return None


def rank(case: Case) -> tuple[int, int]:
    """The greatest wins among those that have passed."""
    return case.proposal.height, -int.from_bytes(case.id, "big")


def evaluate(
    cases: Iterable[Case],
    mandate: Mandate,
    rules: Rules,
    released: Collection[bytes],
    ctl_digest: bytes,
) -> Outcome:
    """What is in force, and how each case stands. `ctl_digest` is our own halt state's."""
    return _Evaluation(list(cases), mandate, rules, released, ctl_digest).outcome()


class _Evaluation:
    """Phase and bounds first: the tier of a setting depends on the bounds, and what an agent may do
    on the phase, but not the other way round."""

    def __init__(
        self,
        cases: list[Case],
        mandate: Mandate,
        rules: Rules,
        released: Collection[bytes],
        ctl_digest: bytes,
    ) -> None:
        self._cases = cases
        self._mandate = mandate
        self._rules = rules
        self._released = released
        self._ctl_digest = ctl_digest
        self._bounds: dict[int, Range] = dict(mandate.bounds)
        self._phase = mandate.terms.phase
        self._standings: dict[bytes, Standing] = {}
        self._reverted: frozenset[bytes] = frozenset()
        self._winners: dict[Target, Case] = {}

    def outcome(self) -> Outcome:
        people = [case for case in self._cases if case.proposal.author in self._mandate.voters]
        # A revert of phases and bounds is for people: an agent's counts by the phase.
        self._reverted = self._reverts(people)
        self._settle(people, "bounds")
        for target, case in self._winners.items():
            assert isinstance(case.action, SetBounds)
            self._bounds[target.code] = Range(case.action.low, case.action.high)
        self._phase = self._phase_of(people)
        self._settle(people, "model")
        if self._phase >= AGENT_DEPLOYS_FROM:
            self._reverted |= self._reverts(self._cases, settings_only=True)
        self._void_before_halts()
        self._settle(self._cases, "setting")
        for case in self._cases:
            self._standing(case)
        values = dict(self._mandate.values)
        for target, case in self._winners.items():
            if isinstance(case.action, SetSetting):
                values[target.code] = case.action.value
        return Outcome(self._phase, self._standings, self._winners, self._bounds, values)

    # --- one case ---------------------------------------------------------------------------------

    def _standing(self, case: Case) -> Standing:
        """Memoised; asked for the first time when what it depends on is settled."""
        found = self._standings.get(case.id)
        if found is None:
            found = self._standings[case.id] = self._weighed(case)
        return found

    def _weighed(self, case: Case) -> Standing:
        mandate, proposal = self._mandate, case.proposal
        has_evidence = proposal.evidence != NO_EVIDENCE
        decision = decide(case.action, proposal.tier, has_evidence, self._rules, self._bound)
        needs = mandate.needs(decision.tier)
        by_agent = proposal.author not in mandate.voters
        alone = by_agent and self._phase == PHASE_MAX and mandate.terms.unattended
        if alone and decision.tier is Tier.DEPLOY_MINOR:
            needs = 0
        votes = {key: yes for key, yes in case.votes.items() if key in mandate.voters}
        yes = sum(votes.values())
        stopped = len(case.withdrawn_by & mandate.voters.keys()) >= mandate.majority
        passed = needs is not None and yes >= needs and not stopped
        withdrawn = stopped or (proposal.author in case.withdrawn_by and not passed)
        void = self._void(case, by_agent)
        return Standing(decision, yes, len(votes) - yes, needs, withdrawn, passed, void)

    def _void(self, case: Case, by_agent: bool) -> str:
        if case.id in self._reverted:
            return "a revert took it back"
        if by_agent and not isinstance(case.action, SetSetting | Revert):
            return "an agent may propose settings and reverts only"
        if by_agent and self._phase < AGENT_DEPLOYS_FROM:
            return f"in phase {self._phase} an agent's proposal is a suggestion"
        reports = [worse for key, worse in case.reports.items() if key in self._mandate.agents]
        if reports and 2 * sum(reports) >= len(reports):
            return "a canary found it worse"
        return ""

    def _bound(self, code: int) -> Range | None:
        found = self._bounds.get(code)
        if found is None and code in self._rules:
            found = self._rules[code].bounds
        return found

    def _counts(self, case: Case) -> bool:
        standing = self._standing(case)
        return (
            standing.passed
            and not standing.void
            and standing.decision.can_be_done
            and case.id in self._released
        )

    # --- all together -----------------------------------------------------------------------------

    def _settle(self, cases: list[Case], kind: str) -> None:
        for case in cases:
            target = target_of(case.action)
            if target is not None and target.kind == kind and self._counts(case):
                best = self._winners.get(target)
                if best is None or rank(case) > rank(best):
                    self._winners[target] = case

    def _reverts(self, cases: list[Case], *, settings_only: bool = False) -> frozenset[bytes]:
        settings = {case.id for case in self._cases if isinstance(case.action, SetSetting)}
        return frozenset(
            case.action.proposal
            for case in cases
            if isinstance(case.action, Revert)
            and (not settings_only or case.action.proposal in settings)
            and self._counts(case)
        )

    def _phase_of(self, cases: list[Case]) -> int:
        """By the phase cases in the order of their heights; one that closes never opens."""
        best: dict[int, Case] = {}  # Of each height: what a loser would do leaves no trace.
        for case in cases:
            if target_of(case.action) == Target("phase") and self._counts(case):
                rival = best.get(case.proposal.height)
                best[case.proposal.height] = case if rival is None else max(case, rival, key=rank)
        phase = self._mandate.terms.phase
        for _, case in sorted(best.items()):
            match case.action:
                case OpenPhase(phase=opened):
                    phase = opened
                case ClosePhase(phase=closed):
                    phase = min(phase, closed)
                case _:
                    raise AssertionError(case.action)
            self._winners[Target("phase")] = case
        return phase

    def _void_before_halts(self) -> None:
        """Of each halt state that is not ours any more, the last deploy-minor changes.

        Whatever passed under that state counts, also by votes that came after the halt, and even if
        no node could put it into force any more. Which of them came before is the order in which
        records arrived, and that is another one on each node; a date in a vote would be its
        signer's word. So one that is carried late takes the place of an older one, which then comes
        back with the resume. It takes as many votes as it takes to propose the older one again, so
        nobody gains by it; and nobody signs it by mistake, since a node that has heard the halt
        makes no vote on a proposal of before (`authoring.ballot`).
        """
        ended: dict[bytes, list[Case]] = {}
        for case in self._cases:
            standing = self._standing(case)
            minor = standing.decision.tier is Tier.DEPLOY_MINOR
            digest = case.proposal.ctl_digest
            has_ended = standing.passed and minor and digest != self._ctl_digest
            if has_ended and isinstance(case.action, SetSetting):
                ended.setdefault(digest, []).append(case)
        for found in ended.values():
            found.sort(key=lambda case: (case.proposal.seq, case.id), reverse=True)
            for case in found[: self._mandate.revert_changes]:
                self._reverted |= {case.id}
                self._standings[case.id] = _with_void(self._standing(case))


def _with_void(standing: Standing) -> Standing:
    return Standing(
        standing.decision,
        standing.yes,
        standing.no,
        standing.needs,
        standing.is_withdrawn,
        standing.passed,
        standing.void or "a halt took it back",
    )
