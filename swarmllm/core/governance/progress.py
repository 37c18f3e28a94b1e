"""Progress of each case on this node: review, phase gate, canary, release.

A case is released once it has passed and whatever its tier asks for has been waited out here, on
the node's own clock. Nothing is released while the node is halted. What has been released stays
so, also over a restart; whether it is in force is for `outcome` to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from swarmllm.core.governance.canary import BEFORE_MAX, Samples, Trial, is_worse, samples_of
from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.clocks import Stopwatch
from swarmllm.core.governance.mandate import Mandate, Tier
from swarmllm.core.governance.outcome import Outcome, Standing
from swarmllm.core.governance.phases import DAY_S, Knowledge, obstacle
from swarmllm.core.governance.state_file import SavedCourse
from swarmllm.messages.governance import OpenPhase, SetSetting

EXPIRES_S: Final = 14 * DAY_S
# After a canary's hour: for its report to reach everybody, before it is promoted without one.
REPORT_S: Final = 600.0
LOOK_AGAIN_S: Final = 600.0  # At what nothing tells us of: experts known, days gone by.


@dataclass(slots=True)
class Course:
    """How far this node is with a case. `seen` counts from when the case was first on disk, `ripe`
    from when it had passed and been reviewed, `trying` from when a canary began here; `idle`: it
    has passed, and this version cannot carry it out; `waits` says for what it waits, to people."""

    seen: Stopwatch = field(default_factory=Stopwatch)
    ripe: Stopwatch = field(default_factory=Stopwatch)
    trying: Stopwatch = field(default_factory=Stopwatch)
    released: bool = False
    trial: Trial = "none"
    reported: bool = False
    idle: bool = False
    before: Samples = field(default_factory=Samples)
    during: Samples = field(default_factory=Samples)
    waits: str = ""
    look_at: float = math.inf

    @property
    def is_ripe(self) -> bool:
        return self.ripe.runs or self.ripe.counted_s > 0

    def saved(self, now: float) -> SavedCourse:
        ripe_s = self.ripe.read(now) if self.is_ripe else None
        before = self.before if self.trial == "running" else Samples()
        seen_s = self.seen.read(now)
        flags = self.released, self.trial, self.reported
        return SavedCourse(seen_s, ripe_s, *flags, before, self.idle)


@dataclass(frozen=True, slots=True)
class Around:
    """What a look at the cases depends on beside them. `canary_after` says how many seconds after
    it was ripe this node becomes a canary of a case, None for never. `review_pace`: `Options`."""

    now: float
    halted: bool
    mandate: Mandate
    known: Knowledge
    canary_after: Callable[[bytes], float | None]
    review_pace: float = 1.0


class Advanced(NamedTuple):
    """Whether anything about the cases has changed, those whose canary took a step, and those that
    have passed in vain, with the reason."""

    has_changed: bool
    steps: list[tuple[bytes, Course]]
    idle: list[tuple[bytes, str]]


class Progress:
    """`costs_s` are the newest costs of a token, for what a canary is compared with."""

    def __init__(self) -> None:
        self.courses: dict[bytes, Course] = {}
        self._costs_s: list[float] = []

    @property
    def released(self) -> frozenset[bytes]:
        return frozenset(id for id, course in self.courses.items() if course.released)

    def restore(self, saved: Mapping[bytes, SavedCourse], away_s: float, now: float) -> None:
        """What was saved by an earlier life of the node, which ended `away_s` ago as far as its own
        clock tells. A canary that was running begins its time anew, with what tokens cost before
        it: that was saved when it began."""
        for id, one in saved.items():
            course = Course(released=one.released, trial=one.trial, reported=one.reported)
            course.idle = one.idle
            course.seen = Stopwatch(one.seen_s + away_s, now)
            if one.ripe_s is not None:
                course.ripe = Stopwatch(one.ripe_s + away_s, now)
            if one.trial == "running":
                course.before = one.before
                course.trying.start(now)
            self.courses[id] = course

    def measured(self, cost_s: float) -> None:
        """A token cost so much."""
        running = [course for course in self.courses.values() if course.trial == "running"]
        for course in running:
            course.during.add(cost_s)
        if not running:
            self._costs_s = [*self._costs_s, cost_s][-BEFORE_MAX:]

    def durable(self, id: bytes, now: float) -> None:
        """The case is on disk: its review begins."""
        self.courses.setdefault(id, Course()).seen.start(now)

    def is_expired(self, id: bytes, now: float) -> bool:
        course = self.courses.get(id)
        return course is not None and course.seen.has_counted(EXPIRES_S, now)

    def advance(self, cases: Iterable[Case], outcome: Outcome, around: Around) -> Advanced:
        """Look at all cases."""
        has_changed, steps, idle = False, [], []
        for case in cases:
            course = self.courses.setdefault(case.id, Course())
            standing, trial = outcome.standings[case.id], course.trial
            before, was_idle = (course.released, course.is_ripe), course.idle
            course.waits, course.look_at = self._look(case, course, standing, around)
            if course.trial != trial:
                steps.append((case.id, course))
            if course.idle and not was_idle:
                idle.append((case.id, standing.decision.lacks))
            if steps or idle or before != (course.released, course.is_ripe):
                has_changed = True
        return Advanced(has_changed, steps, idle)

    def _look(
        self, case: Case, course: Course, standing: Standing, around: Around
    ) -> tuple[str, float]:
        """For what it waits, in a sentence, and when to look again."""
        now = around.now
        if not standing.passed:
            expires_at = course.seen.ends_at(EXPIRES_S)
            # One that had passed and lost its votes since is kept for good: nothing comes of it.
            return _votes(standing), expires_at if now < expires_at else math.inf
        if course.released and course.trial != "running":
            return "", math.inf
        if standing.void:
            return standing.void, math.inf
        if standing.decision.lacks:
            course.idle = True
            return f"nothing comes of it: {standing.decision.lacks}", math.inf
        if around.halted:
            return "this node is halted", math.inf
        # One that was ripe as a minor change may have become a major one since: bounds can move.
        if not course.is_ripe or (not course.released and _is_in_review(course, standing, around)):
            waits, look_at = _unripe(case, course, standing, around)
            if waits:
                return waits, look_at
            course.ripe.start(now)
        if not isinstance(case.action, SetSetting) or not around.mandate.canary_s:
            course.released = True
            return "", math.inf
        return self._trial(case, course, around)

    def _trial(self, case: Case, course: Course, around: Around) -> tuple[str, float]:
        """The canary: one runs here, or elsewhere."""
        now, canary_s = around.now, around.mandate.canary_s
        agents = around.mandate.agents
        if any(key in agents for key in case.reports):
            # They do not find it worse: the case would be void. That holds on a node whose own
            # canary did, too: it measures itself alone, nobody else believes it, and the swarm
            # would differ for good. An owner who wants another value for his node pins it.
            course.released = True
            course.trial = "fine" if course.trial == "running" else course.trial
            return "", math.inf
        if course.trial == "worse":
            return "a canary on this node found it worse", math.inf
        if course.trial == "running":
            return self._try(course, around)
        after_s = around.canary_after(case.id)
        if after_s is not None:
            if not course.ripe.has_counted(after_s, now):
                return "no canary has reported yet", course.ripe.ends_at(after_s)
            course.trial, course.released = "running", True
            course.before, course.during = samples_of(self._costs_s), Samples()
            course.trying.start(now)
            return self._try(course, around)
        if now < course.ripe.ends_at(canary_s):
            return "other nodes are canaries of it", course.ripe.ends_at(canary_s)
        if agents:
            return "no canary has reported yet", math.inf
        promoted_at = course.ripe.ends_at(canary_s + REPORT_S)
        if now < promoted_at:
            return "canaries may still withdraw it", promoted_at
        course.released = True
        return "", math.inf

    def _try(self, course: Course, around: Around) -> tuple[str, float]:
        ends_at = course.trying.ends_at(around.mandate.canary_s)
        if around.now < ends_at:
            return "this node is a canary of it", ends_at
        worse = is_worse(course.before, course.during)
        course.trial, course.released = ("worse", False) if worse else ("fine", True)
        return ("a canary on this node found it worse" if worse else ""), math.inf


def _votes(standing: Standing) -> str:
    if standing.is_withdrawn:
        return "withdrawn"
    if standing.needs is None:
        return f"nothing of tier {int(standing.decision.tier)} is carried out by votes"
    return f"{standing.yes} of {standing.needs} votes"


def _is_in_review(course: Course, standing: Standing, around: Around) -> bool:
    review_s = around.mandate.review_s / around.review_pace
    is_major = standing.decision.tier is Tier.DEPLOY_MAJOR
    return is_major and not course.seen.has_counted(review_s, around.now)


def _unripe(case: Case, course: Course, standing: Standing, around: Around) -> tuple[str, float]:
    """What has to be waited out before it may be released at all; empty once it was."""
    now, mandate = around.now, around.mandate
    if _is_in_review(course, standing, around):
        review_s = mandate.review_s / around.review_pace
        left_h = (review_s - course.seen.read(now)) * around.review_pace / 3_600
        look_at = course.seen.ends_at(review_s)
        return f"open to review for another {left_h:.1f} h", look_at
    if isinstance(case.action, OpenPhase):
        missing = obstacle(case.action.phase, case.proposal.evidence, mandate.terms, around.known)
        return missing, now + LOOK_AGAIN_S
    return "", math.inf
