"""Small swarms with something wrong in them, run by the project's own nodes under a virtual clock,
and what they measure.

A world is a function of its seed; a run is a function of the world and the settings. So the same
world can be run again with one setting changed, and the difference is that setting's doing. Nothing
is measured but what crosses the node's seam: inputs, effects, the view.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from swarmllm.core.capacity.exchange import Sealing
from swarmllm.core.effects import Emit, LookUp, NodeEffect, Send
from swarmllm.core.events import Ended, ExpertLost, TokenChosen
from swarmllm.core.inputs import EngineReady, Input, PeerConnected, Received
from swarmllm.core.node import Node, NodeConfig
from swarmllm.core.settings import holder as core
from swarmllm.core.settings.table import SHUFFLE_INTERVAL
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.messages import Need, PeerId, Score, Shuffle, Shuffled
from swarmllm.testing.scripted_model import SPREAD, ScriptedModel
from swarmllm.testing.tabletop import Tabletop
from swarmllm.wire.codec import encode

# Words of the scripted models; a list of 256 of them has the size it has in earnest.
VOCABULARY = 384
SETTLE_S = 25.0  # Until everybody has heard of everybody, and what that cost is made up for.
ANSWER_S = 90.0  # Virtual; no answer of these worlds takes longer unless nobody is left.
# fmt: off
NAMES = [  # Of experts.
    "alder", "ash", "aspen", "bay", "beech", "birch", "cedar", "cherry", "clover", "elder", "elm",
    "fern", "fir", "hazel", "heather", "holly", "ivy", "juniper", "larch", "laurel", "lilac",
    "lime", "linden", "maple", "moss", "myrtle", "oak", "olive", "osier", "pine", "plum", "poplar",
    "reed", "rowan", "rush", "sage", "sedge", "sorrel", "spruce", "teasel", "thorn", "thyme",
    "vetch", "walnut", "willow", "yarrow", "yew",
]
# fmt: on
TROUBLES = (
    "none",
    "slow",
    "jitter",
    "far",
    "killed",
    "frozen",
    "few_sessions",
    "rare_records",
    "many_records",
    "too_wide",
    "too_few",
    "odd",
    "look_ups",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be changed, by the names of the proposal schema."""

    k: int
    extra: int
    sessions_max: int
    look_up_every_s: int
    look_up_below: int
    publish_every_s: int


@dataclass(frozen=True, slots=True)
class Member:
    """One expert of a world. `odd` is the share of its logits that no other expert has; times in
    seconds."""

    name: str
    delay_s: float
    service_s: float
    # Standard deviation of the logarithm of its service time, drawn anew every half second.
    jitter: float
    odd: float


@dataclass(frozen=True, slots=True)
class World:
    """`harm`: what happens to which experts, and how long after the first answer is asked for."""

    number: int
    seed: int
    trouble: str
    members: tuple[Member, ...]
    local: bool  # Whether the node that asks has the first member as its own expert.
    answers: int
    tokens: int
    prompt: int
    idle_s: float  # Watched before the answers begin.
    harm: tuple[tuple[str, str, float], ...]
    settings: Settings


@dataclass(frozen=True, slots=True)
class Seen:
    """One expert as the asking node saw it during a run."""

    name: str
    replies: int
    rtt_ms: int
    share: int  # Per cent of the tokens in which it had a part ...
    weight: int  # ... and of the weight in these.
    resting: bool


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured; `metrics` by the names of the proposal schema, rounded as they are
    written."""

    settings: Settings
    answers: int
    finished: int
    tokens: int
    known_before: int  # Experts known when the answers began.
    metrics: dict[str, float]
    experts: tuple[Seen, ...]


class RelatedModel(ScriptedModel):
    """A scripted model that shares a part of its logits with all others, as models trained on the
    same text do."""

    def __init__(self, name: str, seed: int, odd: float, sessions_max: int) -> None:
        super().__init__(name, seed, VOCABULARY, sessions_max=sessions_max)
        self._odd = odd

    def logits(self, digest: bytes) -> npt.NDArray[np.float32]:
        """Of the token that follows the text with this digest; float32[VOCABULARY]."""
        of_all: npt.NDArray[np.float64] = np.random.default_rng(
            int.from_bytes(digest, "big")
        ).standard_normal(VOCABULARY)
        own = np.random.default_rng([self.seed, int.from_bytes(digest, "big")]).standard_normal(
            VOCABULARY
        )
        mixed: npt.NDArray[np.float64] = (1 - self._odd) ** 0.5 * of_all + self._odd**0.5 * own
        return (mixed * SPREAD).astype(np.float32)


@dataclass
class Tally:
    """Counts of what crossed the seam of the asking node."""

    count: Counter[str] = field(default_factory=Counter)
    chosen: list[TokenChosen] = field(default_factory=list)


class Watched(Node):
    """A node that is counted: the same machine, with a tally at its seam."""

    def __init__(
        self,
        config: NodeConfig,
        peer: PeerId,
        boot: int,
        rng: random.Random,
        sealing: Sealing,
        settings: core.Settings,
    ) -> None:
        super().__init__(config, peer, boot, rng, sealing, settings=settings)
        self.tally = Tally()

    def handle(self, event: Input, now: float) -> list[NodeEffect]:
        count = self.tally.count
        match event:
            case Received(message=Shuffle(records=records) | Shuffled(records=records)):
                count["records"] += len(records)
            case Received(message=message):
                count["bytes"] += 4 + len(encode(message))
                count["needs"] += isinstance(message, Need)
            case _:
                pass
        effects = super().handle(event, now)
        for effect in effects:
            match effect:
                case Send(message=Score()):
                    count["asks"] += 1
                case LookUp():
                    count["look_ups"] += 1
                case Emit(event=TokenChosen() as chosen):
                    self.tally.chosen.append(chosen)
                case Emit(event=ExpertLost(reason=reason)):
                    count["expired"] += "no capacity record" in reason
                case _:
                    pass
        return effects


def make_world(number: int, seed: int) -> World:
    """The world with this number. Each kind of trouble comes equally often, in a swarm that is
    otherwise drawn at random."""
    rng = random.Random(f"{seed}/{number}")
    trouble = TROUBLES[number % len(TROUBLES)]
    # Otherwise the router would just ask somebody else.
    few = {"too_few": (2, 4), "slow": (3, 5), "jitter": (3, 6)}
    count = rng.randint(*few.get(trouble, (4, 11)))
    base_delay, base_service = (
        rng.choice((0.004, 0.015, 0.04, 0.08)),
        rng.choice((0.02, 0.04, 0.08)),
    )
    kinship = rng.uniform(0.05, 0.5)
    members = [
        Member(
            name,
            base_delay * rng.lognormvariate(0, 0.3),
            base_service * rng.lognormvariate(0, 0.2),
            rng.choice((0.0, 0.1)),
            kinship * rng.uniform(0.6, 1.4),
        )
        for name in rng.sample(NAMES, count)
    ]
    k = rng.randint(2, min(4, count))
    settings = Settings(
        k, rng.randint(0, 2), 16, 30, rng.choice((1, 2, 2, 3)), rng.choice((3, 3, 4, 5))
    )
    members, settings = _trouble(trouble, members, settings, rng)
    local = rng.random() < 0.6
    harm: list[tuple[str, str, float]] = []
    if trouble in ("killed", "frozen"):
        victims = rng.sample(members[1:], max(1, round(len(members[1:]) * rng.uniform(0.4, 0.8))))
        when = rng.uniform(0.05, 0.5)
        harm = [
            (trouble, m.name, when if rng.random() < 0.7 else rng.uniform(0.05, 1.0))
            for m in victims
        ]
    answers = rng.randint(3, 4) if trouble == "few_sessions" else rng.choice((1, 1, 1, 2))
    tokens = (
        rng.randint(8, 11)
        if answers > 2
        else rng.randint(10, 15)
        if answers == 2
        else rng.randint(16, 24)
    )
    watched = {"rare_records": (40.0, 70.0), "look_ups": (25.0, 45.0)}  # The others show at once.
    idle_s = round(rng.uniform(*watched.get(trouble, (8.0, 16.0))))
    return World(
        number,
        rng.getrandbits(32),
        trouble,
        tuple(members),
        local,
        answers,
        tokens,
        rng.randint(3, 9),
        float(idle_s),
        tuple(harm),
        settings,
    )


def _trouble(
    trouble: str, members: list[Member], s: Settings, rng: random.Random
) -> tuple[list[Member], Settings]:
    """The same swarm with its trouble, where that is one of its members or settings."""
    hit = rng.randrange(1, len(members))  # Not the first, which may be the local expert.
    m = members[hit]
    k, extra, sessions_max, every_s, below, publish_s = (
        s.k,
        s.extra,
        s.sessions_max,
        s.look_up_every_s,
        s.look_up_below,
        s.publish_every_s,
    )
    match trouble:
        case "slow":
            members[hit] = Member(m.name, m.delay_s, rng.uniform(0.25, 1.0), m.jitter, m.odd)
            k, extra = len(members), 0
        case "jitter":
            members[1:] = [
                Member(m.name, m.delay_s, m.service_s, rng.uniform(0.5, 1.0), m.odd)
                for m in members[1:]
            ]
            k, extra = max(2, len(members) - rng.randint(0, 2)), rng.choice((0, 0, 1))
        case "far":
            members[1:] = [
                Member(m.name, m.delay_s + rng.uniform(0.1, 0.3), m.service_s, m.jitter, m.odd)
                for m in members[1:]
            ]
        case "few_sessions":
            sessions_max = rng.randint(1, 2)
        case "rare_records":
            publish_s = rng.randint(14, 40)
        case "many_records":
            publish_s = 2
        case "too_wide":
            k, extra = rng.randint(max(2, len(members) - 3), len(members)), rng.randint(1, 4)
        case "too_few":
            k, extra = len(members) + rng.randint(1, 4), rng.randint(0, 2)
        case "odd":
            members[hit] = Member(m.name, m.delay_s, m.service_s, m.jitter, rng.uniform(0.85, 1.0))
        case "look_ups":
            every_s, below = rng.choice((5, 6, 8, 10)), rng.choice((16, 24, 32))
        case _:
            pass
    return members, Settings(k, extra, sessions_max, every_s, below, publish_s)


def _table(
    world: World, settings: Settings, without: str
) -> tuple[Tabletop, Watched, dict[str, PeerId]]:
    """The swarm with everybody connected; the node that asks comes first. `without` names an expert
    that has been paused."""
    config = NodeConfig(
        bytes(32),
        look_up_every_s=float(settings.look_up_every_s),
        look_up_below=settings.look_up_below,
    )
    members = [m for m in world.members if m.name != without]
    experts = members if world.local else [None, *members]
    values = {SHUFFLE_INTERVAL: 1000 * settings.publish_every_s}
    seed = world.seed % 2**31
    table = Tabletop([None] * len(experts), config=config, settings=values, seed=seed)
    asking = Watched(
        *(
            config,
            table.peers[0],
            1000,
            random.Random(world.seed),
            table.sealing.of(table.peers[0]),
        ),
        settings=core.Settings(values=values),
    )
    table.seats[table.peers[0]].node = asking
    peers: dict[str, PeerId] = {}
    seeds = {m.name: i for i, m in enumerate(world.members)}
    for peer, member in zip(table.peers, experts, strict=True):
        seat = table.seats[peer]
        seat.delay_s = 0.005
        if member is not None:
            peers[member.name] = peer
            seat.delay_s, seat.service_s = member.delay_s, member.service_s
            seat.model = RelatedModel(
                member.name, seeds[member.name] + 1, member.odd, settings.sessions_max
            )
    return table, asking, peers


def _connect(table: Tabletop) -> None:
    """Let the node that asks meet the others, and the experts load their models."""
    for other in table.peers[1:]:
        table.feed(table.peers[0], PeerConnected(other))
    for peer, seat in table.seats.items():
        if seat.model is not None:
            table.feed(peer, EngineReady(seat.model.card, seat.model.load))


def _vary(table: Tabletop, world: World, peers: dict[str, PeerId]) -> None:
    """Service times that change every half second, the same ones in every run of the world."""
    for i, member in enumerate(world.members):
        if member.jitter and member.name in peers:
            _change(table, peers[member.name], member, random.Random(f"{world.seed}/{i}"))


def _change(table: Tabletop, peer: PeerId, member: Member, rng: random.Random) -> None:
    table.seats[peer].service_s = member.service_s * rng.lognormvariate(0, member.jitter)
    table.at(table.now + 0.5, lambda: _change(table, peer, member, rng))


def run(world: World, settings: Settings | None = None, without: str = "") -> Run:
    """Live through the world once, with other settings or with one expert paused, and measure."""
    s = settings or world.settings
    table, asking, peers = _table(world, s, without)
    _connect(table)
    _vary(table, world, peers)
    table.run_until(SETTLE_S)
    asking.tally = Tally()
    table.run_until(SETTLE_S + world.idle_s)
    known = len(asking.view(table.now).experts)
    begun = table.now
    for kind, name, after_s in world.harm:
        if name in peers:
            harm = table.kill if kind == "killed" else table.freeze
            table.at(begun + after_s, lambda harm=harm, peer=peers[name]: harm(peer))  # type: ignore[misc]
    rng = random.Random(world.seed)
    for request in range(1, world.answers + 1):
        prompt = tuple(rng.randrange(VOCABULARY) for _ in range(world.prompt))
        greedy = Sampling(temperature=0.0)
        order = GenerateRequest(
            prompt,
            k=s.k,
            extra=s.extra,
            max_tokens=world.tokens,
            sampling=greedy,
            vocab_size=VOCABULARY,
        )
        table.ask(table.peers[0], order, request)
    ends = [
        table.finish(table.peers[0], request, ANSWER_S) for request in range(1, world.answers + 1)
    ]
    names = {peer: name for name, peer in peers.items()}
    return _measured(
        s, asking, names, known, [end.reason == "length" for end in ends], table.now, ends
    )


def _measured(
    s: Settings,
    asking: Watched,
    names: dict[PeerId, str],
    known: int,
    finished: list[bool],
    now: float,
    ends: list[Ended],
) -> Run:
    """The figures of a run that is over at `now`."""
    tally, view = asking.tally, asking.view(now)
    chosen, count = tally.chosen, tally.count
    tokens, seconds = len(chosen), now - SETTLE_S
    rounds = sorted(round(c.round_s * 1000) for c in chosen) or [0]
    spent = sum(c.round_s for c in chosen)
    each = max(1, tokens)
    uses = [use for c in chosen for use in c.experts]
    metrics: dict[str, float] = {
        "tokens_per_s": round(tokens / spent, 1) if spent else 0.0,
        "round_ms_p50": rounds[len(rounds) // 2],
        "round_ms_p95": rounds[min(len(rounds) - 1, len(rounds) * 95 // 100)],
        "round_ms_max": rounds[-1],
        "bytes_per_token": round(count["bytes"] / each),
        "asks_per_token": round(count["asks"] / each, 1),
        "needs": count["needs"],
        "failovers": sum(end.failovers for end in ends),
        "short_rounds": round(100 * sum(c.k < s.k for c in chosen) / each),
        "local_only": sum(end.local_only_tokens for end in ends),
        "agreement": round(sum(c.agreement for c in chosen) / each, 2),
        "records_per_s": round(count["records"] / seconds, 1),
        "expired": count["expired"],
        "look_ups": round(60 * count["look_ups"] / seconds, 1),
        "experts_known": len(view.experts),
    }
    experts = tuple(
        Seen(
            names[e.peer],
            e.replies,
            round(e.rtt_s * 1000),
            round(100 * sum(use.peer == e.peer for use in uses) / each),
            round(
                100
                * sum(use.weight for use in uses if use.peer == e.peer)
                / max(1, sum(use.peer == e.peer for use in uses))
            ),
            e.resting,
        )
        for e in sorted(view.experts, key=lambda e: names[e.peer])
    )
    return Run(s, len(ends), sum(finished), tokens, known, metrics, experts)
