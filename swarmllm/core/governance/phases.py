"""Phases: what the agent may do, and what has to be met before it may do more.

A phase is opened by the whole electorate and never by itself, and only where the opening is due by
what each node knows itself: experts heard of, for how long there were as many, audits passed, and a
report of the quality gate. It is closed by a minor vote, and a halt suspends it. People's own text
generation works in every phase and at any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.core.governance.clocks import Stopwatch
from swarmllm.core.governance.mandate import Tier
from swarmllm.messages import PeerId
from swarmllm.messages.governance import NO_EVIDENCE, PHASE_MAX, GovernanceTerms

AGENT_MAY: Final = (
    Tier.READ_ONLY,
    Tier.SUGGEST,
    Tier.SANDBOX_TEST,
    Tier.DEPLOY_MINOR,
    Tier.DEPLOY_MINOR,
)
"""The highest tier of what an agent may do, by phase; a deploy is voted on."""
HEARD_S: Final = 3_600.0  # An expert that was not heard of for an hour is not known.
# Of 48 bytes: more experts than any phase asks for, and a bound on what inventing them costs us.
HEARD_MAX: Final = 8_192
DIP_S: Final = 3_600.0  # Fewer experts for so long, and the stable days begin anew.
DAY_S: Final = 86_400.0
NO_AUDITS: Final = "this version makes no audits"


class Census:
    """The experts that this node has heard of within an hour; the oldest goes when it is full."""

    def __init__(self) -> None:
        self._heard: dict[PeerId, float] = {}

    def hear(self, peer: PeerId, now: float) -> None:
        self._heard.pop(peer, None)
        self._heard[peer] = now
        if len(self._heard) > HEARD_MAX:
            del self._heard[next(iter(self._heard))]

    def peers(self, now: float) -> Sequence[PeerId]:
        """In the order in which they were last heard of."""
        while self._heard and next(iter(self._heard.values())) < now - HEARD_S:
            del self._heard[next(iter(self._heard))]
        return tuple(self._heard)


@dataclass(slots=True)
class Window:
    """For how long there were as many experts as one phase asks for."""

    watch: Stopwatch
    dip_since: float | None = None

    def look(self, enough: bool, now: float) -> None:
        if enough:
            self.dip_since = None
            self.watch.start(now)
            return
        # What was counted stands, and does not grow, while it is a dip.
        counted = self.watch.read(now)
        if self.dip_since is None:
            self.dip_since = now
        self.watch = Stopwatch(0.0 if now >= self.dip_since + DIP_S else counted)


class Windows:
    """One for each phase from 1 on. `counted_s` is what earlier lives of the node have seen."""

    def __init__(self, counted_s: Sequence[float] = ()) -> None:
        given = (*counted_s, *[0.0] * PHASE_MAX)[:PHASE_MAX]
        self._windows = [Window(Stopwatch(seconds)) for seconds in given]

    def look(self, experts: int, terms: GovernanceTerms, now: float) -> None:
        for window, wanted in zip(self._windows, terms.phase_experts, strict=True):
            window.look(experts >= wanted, now)

    def read(self, now: float) -> tuple[float, ...]:
        """Seconds, by phase from 1 on."""
        return tuple(window.watch.read(now) for window in self._windows)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What this node knows of the swarm: `stable_s` by phase from 1 on. `audits` are passed ones:
    this version makes none, so none ever count as passed."""

    experts: int = 0
    stable_s: tuple[float, ...] = (0.0,) * PHASE_MAX
    audits: int = 0


def obstacle(phase: int, evidence: bytes, terms: GovernanceTerms, known: Knowledge) -> str:
    """Why the phase may not be opened yet, as this node sees it; empty if it may. The first that
    is missing, in a sentence."""
    experts, audits = terms.phase_experts[phase - 1], terms.phase_audits[phase - 1]
    if known.experts < experts:
        return f"phase {phase} needs {experts} experts, and this node knows {known.experts}"
    days = known.stable_s[phase - 1] / DAY_S
    if experts and days < terms.stable_days:
        return (
            f"phase {phase} needs {terms.stable_days} days with {experts} experts,"
            f" and this node has seen {days:.1f}"
        )
    if known.audits < audits:
        return f"phase {phase} needs {audits} passed audits, and none were made: {NO_AUDITS}"
    if phase > 1 and evidence == NO_EVIDENCE:
        return f"phase {phase} needs the report of the quality gate; name it as evidence"
    return ""
