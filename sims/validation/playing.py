"""One simulated run of a validation: a fitted swarm, users who ask, and what it cost them.

Two kinds of load: `steady`, so many answers at once as the snapshot shows, and `recorded`, some
minutes of the recording with their arrivals and departures. The world's laws hold in each run, and
once it has been quiet for a while also those that only hold then.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any, Final

from swarmllm.core.effects import NodeEffect, RunScore
from swarmllm.core.part import Part
from swarmllm.core.settings.answering import usual_breadth
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.setting import Setting
from swarmllm.core.validation.objective import Figures
from swarmllm.core.validation.recording import Minute, Recording, busy_minutes
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.sims.validation.fitting import PROMPT, TOKENS, Fitted
from swarmllm.testing.world import VOCABULARY, Answer, Checker, Host, Spec, World
from swarmllm.testing.world.laws import all_laws
from swarmllm.testing.world.run import SETTLE_S as QUIET_S

SETTLE_S: Final = 20.0  # Until all have found each other.
ANSWERS: Final = 8  # At least, of a steady run.
LIMIT_S: Final = 600.0  # No run asks for longer: the world's laws end an answer long before.
WINDOW_MIN: Final = 4  # Of the recording, in one run.
ANSWERS_MINUTE_MAX: Final = 3  # Replayed of one minute; more would take long and show the same.
LATEST_S: Final = 60.0  # For a time that never came.

Load = Callable[["Run"], None]
Values = Mapping[Setting[Any], int]


@dataclass(frozen=True, slots=True)
class Played:
    """`trace` is the same for two runs in which the same was decided."""

    figures: Figures
    trace: str


class Meter(Checker):
    """Counts the tokens that engines are given to compute."""

    def __init__(self) -> None:
        self.computed = 0

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        for effect in effects:
            if isinstance(effect, RunScore):
                self.computed += len(effect.request.tokens)


class Run:
    """A fitted swarm under these settings, from one seed."""

    def __init__(
        self,
        fitted: Fitted,
        values: Values,
        seed: int,
        laws: Callable[[], Sequence[Checker]],
        parts: Callable[[Host], tuple[Part, ...]] = lambda _: (),
    ) -> None:
        self.fitted = fitted
        # Each for itself, so that a change of one leaves what the others draw as it is.
        self.rng = random.Random(f"{seed} validation")
        self._prompts = random.Random(f"{seed} validation prompts")
        self.meter = Meter()
        self.world = World(
            seed,
            link=fitted.link,
            settings=values,
            parts=parts,
            checkers=(*laws(), self.meter),
        )
        self._breadth = usual_breadth(Settings(values=values))
        self._is_over = False
        self._left: dict[int, int] = {}
        own = fitted.own or Spec(model=None)
        self.asker = self.world.add(replace(own, place=(0.0, 0.0)))
        self.experts = []
        for spec in fitted.experts:
            self.world.run_for(0.1)
            self.experts.append(self.world.add(spec))
        self.world.on_end = self._ended
        self.world.run_for(SETTLE_S)

    def play(self, load: Load) -> Played:
        """Broken if a law does not hold."""
        world = self.world
        bytes_before, computed_before = self._bytes_sent(), self.meter.computed
        load(self)
        self._is_over = True
        sent, computed = self._bytes_sent() - bytes_before, self.meter.computed - computed_before
        found = Played(self._figures(sent, computed), self._trace(sent, computed))
        world.run_for(QUIET_S)
        world.settled()
        return found

    def ask(self, tokens: int, prompt: int, then: int = 0) -> None:
        """One answer at the node, and `then` so many more, each when the one before has ended."""
        order = GenerateRequest(
            tuple(self._prompts.randrange(VOCABULARY) for _ in range(prompt)),
            max_tokens=tokens,
            sampling=Sampling(seed=self._prompts.getrandbits(32)),
            vocab_size=VOCABULARY,
            **self._breadth,
        )
        answer = self.world.ask(self.asker, order)
        self._left[answer.request] = then

    def _ended(self, answer: Answer) -> None:
        """The next one of its stream, not at once: inputs of a host never nest."""
        if self._left[answer.request]:
            self.world.event_queue.after(0.0, self._ask_again, answer)
        else:
            del self._left[answer.request]

    def _ask_again(self, answer: Answer) -> None:
        left, order = self._left.pop(answer.request), answer.order
        self.ask(order.max_tokens, len(order.prompt), left - 1)

    def finish(self) -> None:
        """Until all that was asked has ended."""
        world = self.world
        world.run_for(LIMIT_S, lambda: not self._left)

    # --- who comes and goes -----------------------------------------------------------------------

    def leave_at(self, when: float) -> None:
        self.world.event_queue.at(when, self._leave)

    def come_at(self, when: float) -> None:
        self.world.event_queue.at(when, self._come)

    def replace_at_random(self, until: float) -> None:
        """Each expert leaves at the fitted rate until then, and another one comes for it."""
        rate = self.fitted.leaves * len(self.experts)
        when = self.world.now
        while rate:
            when += self.rng.expovariate(rate)
            if when >= until:
                return
            self.leave_at(when)
            self.come_at(when)

    def stall_at_random(self, until: float) -> None:
        """Each expert stands still at the fitted rate until then, for half to one and a half times
        the fitted time."""
        fitted, when = self.fitted, self.world.now
        rate = fitted.stalls * len(self.experts)
        rng = random.Random(f"{self.world.seed} validation stalls")
        while rate:
            when += rng.expovariate(rate)
            if when >= until:
                return
            seconds = fitted.stall_s * rng.uniform(0.5, 1.5)
            self.world.event_queue.at(when, self._stall, rng.random(), seconds)

    def _stall(self, which: float, seconds: float) -> None:
        host = self.experts[int(which * len(self.experts))]
        if host.alive and not host.frozen and not self._is_over:
            self.world.freeze(host)
            self.world.event_queue.after(seconds, self.world.thaw, host)

    def _leave(self) -> None:
        """By a reset, without a word, or with a goodbye; the last one stays."""
        up = [host for host in self.experts if host.alive]
        if len(up) > 1 and not self._is_over:
            host = up[self.rng.randrange(len(up))]
            how = self.rng.choice((self.world.crash, self.world.lose_power, self.world.leave))
            how(host)

    def _come(self) -> None:
        if not self._is_over:
            self.experts.append(self.world.add(self.rng.choice(self.fitted.experts)))

    # --- what it came to --------------------------------------------------------------------------

    def _bytes_sent(self) -> int:
        return sum(host.bytes_sent for host in self.world.hosts)

    def _figures(self, sent: int, computed: int) -> Figures:
        answers = self.world.answers
        tokens = sum(len(one.tokens) for one in answers)
        gaps = [after - before for one in answers for before, after in pairwise(one.times)]
        firsts = [one.times[0] - one.asked_at if one.times else LATEST_S for one in answers]
        thin = sum(chosen.k < one.order.k for one in answers for chosen in one.chosen)
        finished = sum(one.end is not None and one.end.reason == "length" for one in answers)
        return {
            "token": fmean(gaps) if gaps else LATEST_S,
            "first_token": fmean(firsts),
            "bytes": max(1, sent) / max(1, tokens),
            "computed": max(1, computed) / max(1, tokens),
            "unfinished": 1 - finished / len(answers),
            "thin": thin / max(1, tokens),
        }

    def _trace(self, sent: int, computed: int) -> str:
        said = [(one.asked_at, one.times, one.tokens) for one in self.world.answers]
        return hashlib.sha256(repr((said, sent, computed)).encode()).hexdigest()[:16]


def play(
    fitted: Fitted,
    values: Values,
    seed: int,
    load: Load,
    laws: Callable[[], Sequence[Checker]] = all_laws,
) -> Played:
    """One run from beginning to end. `Broken` if a law does not hold."""
    return Run(fitted, values, seed, laws).play(load)


# --- loads ----------------------------------------------------------------------------------------


def steady(run: Run) -> None:
    """So many answers at once as the snapshot shows, each stream some in a row."""
    fitted = run.fitted
    each = -(-ANSWERS // fitted.streams)
    run.replace_at_random(run.world.now + LIMIT_S)
    run.stall_at_random(run.world.now + LIMIT_S)
    for _ in range(fitted.streams):
        run.world.run_for(run.rng.random())  # Not in step with each other.
        run.ask(fitted.tokens, fitted.prompt, each - 1)
    run.finish()


def recorded(recording: Recording) -> Load:
    """Some minutes of the recording in which something was asked; the seed says which."""
    busy = busy_minutes(recording)
    assert busy, "nothing was recorded"

    def load(run: Run) -> None:
        minute = recording[busy[run.rng.randrange(len(busy))]].minute
        first = minute - run.rng.randrange(WINDOW_MIN)
        began_at = run.world.now
        for one in recording:
            if first <= one.minute < first + WINDOW_MIN:
                _plan(run, one, began_at + 60.0 * (one.minute - first))
        run.stall_at_random(began_at + 60.0 * WINDOW_MIN)
        run.world.run_until(began_at + 60.0 * WINDOW_MIN)
        run.finish()

    return load


def _plan(run: Run, minute: Minute, from_s: float) -> None:
    """What is to happen in one minute, spread evenly at random as within it nothing is known."""
    rng, queue = run.rng, run.world.event_queue
    tokens = _each(minute.tokens, minute.ended, TOKENS)
    prompt = _each(minute.prompt_tokens, minute.answers, PROMPT)
    for _ in range(min(ANSWERS_MINUTE_MAX, minute.answers)):
        queue.at(from_s + 60.0 * rng.random(), run.ask, tokens, prompt)
    share = len(run.fitted.experts) / max(1, run.fitted.known)
    for count, happens_at in (
        (minute.experts_went, run.leave_at),
        (minute.experts_came, run.come_at),
    ):
        expected = min(len(run.fitted.experts), share * count)
        for _ in range(int(expected + rng.random())):
            happens_at(from_s + 60.0 * rng.random())


def _each(total: int, count: int, bounds: tuple[int, int]) -> int:
    return max(bounds[0], min(bounds[1], round(total / count) if count else bounds[1]))
