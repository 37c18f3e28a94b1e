"""Scenarios: which machines, links, behaviours and faults one seed's swarm has, before anything
happens.

Swarm testing (Groce et al. 2012): each run leaves about half of all features out, because what
always happens together hides what only happens alone. A world in which nobody ever freezes can
reach states that a world with everything in it never sees.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.testing.world.behaviours import Boaster, Dropper, Flooder, Forger, Poisoner, Silent
from swarmllm.testing.world.engine import DEMO, DESKTOP_8B, LAPTOP_8B, VOCABULARY
from swarmllm.testing.world.links import LinkModel
from swarmllm.testing.world.network import Overlay
from swarmllm.testing.world.roles import HONEST, Behaviour, Spec

HOSTS: Final = (3, 30)
FAULTY_S: Final = (30.0, 120.0)
GAP_S: Final = (0.2, 4.0)  # Between two things that happen, on average.
CONTEXTS: Final = (64, 256, 1024, 4096)
SERVICES: Final = (DEMO, DEMO, DESKTOP_8B, LAPTOP_8B)
BEHAVIOURS: Final[tuple[type[Behaviour], ...]] = (
    Dropper,
    Silent,
    Poisoner,
    Flooder,
    Boaster,
    Forger,
)
# A clock that is set, one that is not quite, and one whose battery is empty.
SKEWS_S: Final = (0.0, 30.0, 86_400.0 * 365)
# What quartz may do is the second; the third is for machines that were put to sleep.
DRIFTS: Final = (0.0, 1e-4, 0.02)
# The share behind routers that let no connection in: no two of them are connected to each other.
HIDDEN: Final = (0.0, 0.0, 0.0, 0.6)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Member:
    """One machine as it was drawn."""

    spec: Spec
    behaviour: Behaviour


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything about a world but what happens in it."""

    seed: int
    members: tuple[Member, ...]
    link: LinkModel
    overlay: Overlay
    faulty_s: float
    gap_s: float
    models: int
    keeps_liars: bool
    """Whether who lies does so to the end; otherwise all are honest once faults are off."""

    @property
    def has_routers(self) -> bool:
        """Whether not everybody can be connected to everybody."""
        return not all(member.spec.is_dialable for member in self.members)

    @property
    def is_one_text(self) -> bool:
        """Whether every honest greedy answer to one prompt is the same text."""
        return self.models == 1 and not any(isinstance(m.behaviour, Poisoner) for m in self.members)


def draw(seed: int) -> Scenario:
    rng = random.Random(f"{seed} drawing")
    count = round(HOSTS[0] * (HOSTS[1] / HOSTS[0]) ** rng.random())
    models = 1 if rng.random() < 0.4 else rng.randint(2, 5)
    behaviour = some(rng, BEHAVIOURS)
    share_of_liars = rng.choice((0.0, 0.0, 0.1, 0.3))
    members = tuple(
        Member(
            spec, rng.choice(behaviour)() if behaviour and rng.random() < share_of_liars else HONEST
        )
        for spec in _specs(rng, seed, count, models)
    )
    return Scenario(
        seed=seed,
        members=members,
        link=_link(rng),
        overlay=_overlay(rng),
        faulty_s=rng.uniform(*FAULTY_S),
        gap_s=_log_uniform(rng, *GAP_S),
        models=models,
        keeps_liars=rng.random() < 0.5,
    )


def some(rng: random.Random, features: Sequence[T]) -> list[T]:
    """About half of them; each one is in or out by itself."""
    return [feature for feature in features if rng.random() < 0.5]


def order_of(rng: random.Random, *, is_greedy: bool) -> GenerateRequest:
    """A request: mostly short, sometimes longer than some contexts, and rarely longer than all but
    one."""
    length = round(_log_uniform(rng, 1, rng.choice((16, 64, 300, 1500))))
    sampling = Sampling(temperature=0.0) if is_greedy else _sampling(rng)
    k = rng.choice((1, 1, 2, 3, 3, 4, 8, 16))
    return GenerateRequest(
        prompt=tuple(rng.randrange(VOCABULARY) for _ in range(length)),
        domain=rng.choice(("", "", "code")),
        k=k,
        extra=rng.choice((0, 1, 1, 2)),
        quality=rng.choice((1.0, 1.0, 0.5, 0.0)),
        max_tokens=rng.choice((1, 4, 16, 64, 200)),
        sampling=sampling,
        stop_tokens=frozenset({0}) if rng.random() < 0.2 else frozenset(),
        vocab_size=VOCABULARY,
    )


def _sampling(rng: random.Random) -> Sampling:
    return Sampling(
        temperature=rng.choice((0.7, 1.0, 1.5)),
        top_k=rng.choice((0, 0, 8)),
        top_p=rng.choice((1.0, 0.9)),
        min_p=rng.choice((0.0, 0.05)),
        repetition_penalty=rng.choice((1.0, 1.2)),
        seed=rng.randrange(1 << 31),
    )


def _specs(rng: random.Random, seed: int, count: int, models: int) -> list[Spec]:
    services = SERVICES if rng.random() < 0.3 else (rng.choice(SERVICES),)
    contexts = CONTEXTS if rng.random() < 0.4 else (4096,)
    bare = rng.choice((0.0, 0.0, 0.2))
    skew_s, drift = rng.choice(SKEWS_S), rng.choice(DRIFTS)
    is_small = rng.random() < 0.3
    found = []
    # Of its own seed, so that other draws stay as they were. The first host can always be dialled.
    doors = random.Random(f"{seed} routers")
    hidden = doors.choice(HIDDEN)
    for number in range(count):
        has_expert = number == 0 or rng.random() >= bare
        found.append(
            Spec(
                model=rng.randrange(models) if has_expert else None,
                service=rng.choice(services),
                sessions_max=rng.choice((1, 2, 4)) if is_small else 16,
                context_max=CONTEXTS[-1] if number == 0 else rng.choice(contexts),
                skew_s=skew_s * rng.uniform(-1, 1),
                drift=1 + drift * rng.uniform(-1, 1),
                load_s=rng.uniform(0.1, 3.0),
                is_dialable=number == 0 or doors.random() >= hidden,
            )
        )
    return found


def _link(rng: random.Random) -> LinkModel:
    is_faulty = rng.random() < 0.4
    return LinkModel(
        near_s=_log_uniform(rng, 0.0005, 0.05),
        span_s=rng.choice((0.0, 0.0, 0.05, 0.15)),
        sigma=rng.choice((0.0, 0.4, 0.4, 1.0)),
        loss=rng.choice((0.0, 0.0, 0.005, 0.02)),
        drop=rng.choice((0.0, 0.01)) if is_faulty else 0.0,
        duplicate=rng.choice((0.0, 0.02, 0.1)) if is_faulty else 0.0,
        reorder=rng.choice((0.0, 0.05)) if is_faulty else 0.0,
        bytes_per_s=rng.choice((math.inf, math.inf, 2e6, 5e4)),
    )


def _overlay(rng: random.Random) -> Overlay:
    return Overlay(
        mesh_degree=rng.randint(1, 8),
        hop_s=rng.choice((0.0, 0.003, 0.02)),
        gossip_loss=rng.choice((0.0, 0.0, 0.1, 0.5)),
        look_up_s=rng.choice((0.1, 0.3, 3.0)),
        pings_s=rng.choice((0.0, 2.0)),
    )


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    return low * math.pow(high / low, rng.random())
