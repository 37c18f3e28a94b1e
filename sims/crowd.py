"""A swarm of experts, some who ask it without a break, and what became of their answers: the common
ground of the studies.

Those who ask run no expert and never leave. So every token comes over the network, and an answer
that does not finish was lost by the swarm, not given up by its user.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from swarmllm.core.values import GenerateRequest, Sampling, Speculative
from swarmllm.messages import PeerId
from swarmllm.testing.world import VOCABULARY, Answer, Host, Spec, World

# Until everybody has found everybody: newcomers dial at once, and records go round within seconds.
SETTLE_S: Final = 60.0
PROMPT_TOKENS: Final = 32
CONTEXT_MAX: Final = 16_384
# No answer of a study may take longer; the laws of the world end one without help far sooner.
ANSWER_MAX_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for, again and again: tokens `k` experts at a time and `extra` more as
    insurance."""

    k: int
    extra: int
    tokens: int
    prompt_tokens: int = PROMPT_TOKENS
    temperature: float = 1.0
    speculation: Speculative = "auto"

    def order(self, rng: random.Random) -> GenerateRequest:
        prompt = tuple(rng.randrange(VOCABULARY) for _ in range(self.prompt_tokens))
        sampling = Sampling(temperature=self.temperature, seed=rng.getrandbits(32))
        return GenerateRequest(
            prompt,
            k=self.k,
            extra=self.extra,
            max_tokens=self.tokens,
            sampling=sampling,
            vocab_size=VOCABULARY,
            speculation=self.speculation,
        )


@dataclass(slots=True)
class Asking:
    """Each of `askers` keeps `streams` answers going until it has asked `each` times; `answers` are
    all that were begun."""

    world: World
    askers: Sequence[Host]
    request: Request
    each: int
    streams: int = 1
    pause_s: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    _left: dict[int, int] = field(default_factory=dict)
    _rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.world.seed} asking")
        self.world.on_end = self._ended
        for host in self.askers:
            self._left[host.number] = self.each
            for stream in range(min(self.streams, self.each)):
                # Spread over one token's time, so that streams do not step in time with each other.
                self.world.event_queue.after(self._rng.random() + 0.01 * stream, self._ask, host)

    @property
    def is_done(self) -> bool:
        return not any(self._left.values()) and all(answer.ends for answer in self.answers)

    def run(self, within_s: float = math.inf) -> None:
        """Until all have what they asked for, or `within_s` is over."""
        limit_s = min(within_s, ANSWER_MAX_S * self.each)
        self.world.run_until(self.world.now + limit_s, lambda: self.is_done)

    def _ask(self, host: Host) -> None:
        if self._left[host.number] > 0:
            self._left[host.number] -= 1
            # The same texts whatever the swarm does, so that two swarms can be compared.
            number = self._left[host.number]
            rng = random.Random(f"{self.world.seed} asking {host.number} {number} of {self.each}")
            self.answers.append(self.world.ask(host, self.request.order(rng)))

    def _ended(self, answer: Answer) -> None:
        # Not at once: inputs of a host never nest.
        self.world.event_queue.after(self.pause_s, self._ask, answer.host)


def add_experts(world: World, specs: Iterable[Spec], gap_s: float = 0.1) -> list[Host]:
    """One after the other, so that no two of them start in step."""
    hosts = []
    for spec in specs:
        hosts.append(world.add(spec))
        world.run_for(gap_s)
    return hosts


def add_askers(world: World, count: int) -> list[Host]:
    return add_experts(world, [Spec(model=None, kind="asker")] * count)


# --- what became of them --------------------------------------------------------------------------


def measure(answers: Sequence[Answer], k: int) -> dict[str, float]:
    """Shares are of all answers, or of all tokens; times in seconds."""
    finished = [a for a in answers if a.end is not None and a.end.reason == "length"]
    tokens = sum(len(a.tokens) for a in answers)
    seconds = sum(a.ended_at - a.asked_at for a in answers if a.ends)
    gaps = sorted(gap for a in answers for gap in gaps_of(a))
    thin = sum(chosen.k < k for a in answers for chosen in a.chosen)
    return {
        "answers": len(answers),
        "finished": share(len(finished), len(answers)),
        "tokens_per_s": tokens / seconds if seconds else 0.0,
        "recoveries": share(sum(a.ends[0].failovers for a in answers if a.ends), len(answers)),
        "thin_tokens": share(thin, tokens),
        "pause_p50_s": quantile(gaps, 0.5),
        "pause_p99_s": quantile(gaps, 0.99),
        "pause_max_s": gaps[-1] if gaps else 0.0,
    }


def gaps_of(answer: Answer) -> list[float]:
    """The times between its tokens."""
    return [after - before for before, after in pairwise(answer.times)]


def untouched(answers: Sequence[Answer], gone_at: Mapping[PeerId, float]) -> float:
    """The share of answers that no departure touched: of those who made its last token before they
    left, none left while it went on.

    That is what would have finished if the loss of any expert at work ended an answer.
    """
    return share(sum(not _is_touched(a, gone_at) for a in answers), len(answers))


def _is_touched(answer: Answer, gone_at: Mapping[PeerId, float]) -> bool:
    until = answer.ended_at if answer.ends else math.inf
    seen: set[PeerId] = set()
    for chosen in answer.chosen:
        for use in chosen.experts:
            seen.add(use.peer)
    for peer in seen:
        when = gone_at.get(peer, math.inf)
        if answer.asked_at <= when < until:
            last = bisect_right(answer.times, when) - 1
            if last < 0 or any(use.peer == peer for use in answer.chosen[last].experts):
                return True
    return False


def share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def quantile(ordered: Sequence[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0
