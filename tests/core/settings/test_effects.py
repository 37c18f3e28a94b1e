"""Every setting steers: set while the part concerned is at work, it changes the part's next
decision, in the direction that its `effect` states; and where its owner has pinned it, it does not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Final, cast

import pytest

from swarmllm.core.capacity.exchange import CapacityExchange
from swarmllm.core.capacity.table import CapacityTable
from swarmllm.core.decoding.ensemble import Ensemble
from swarmllm.core.decoding.gate import Gate
from swarmllm.core.decoding.members import Members
from swarmllm.core.decoding.patience import RoundClock
from swarmllm.core.decoding.round import Experts, Round
from swarmllm.core.decoding.standing import Standing
from swarmllm.core.decoding.text import Text
from swarmllm.core.effects import RunScore
from swarmllm.core.facts import OwnExpertChanged, SettingChanged
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.peers.router import Candidate, Router
from swarmllm.core.serving.admission import Serving
from swarmllm.core.settings import table as t
from swarmllm.core.settings.answering import usual_breadth
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.setting import Setting
from swarmllm.core.trust.evidence import ALLOWANCE_MAX
from swarmllm.core.trust.track_record import TrackRecord
from swarmllm.core.values import EngineLoad, GenerateRequest, ModelCard
from swarmllm.messages import NO_HALT_DIGEST, CapacityRecord, Open, PeerId, Score
from swarmllm.testing.sealing import MemoSealing
from swarmllm.testing.tabletop import Tabletop
from tests.core.trust.trusting import Trusting

OWN: Final = PeerId("own")
PROMPT: Final = tuple(range(20))
Decide = Callable[[], float]
Probe = Callable[[Settings], Decide]


# --- doubles --------------------------------------------------------------------------------------


def candidate(
    name: str, *, model: int = 0, fit: float = 0.0, rate: float = 10.0, have: int = -1
) -> Candidate:
    """`have` of 1000 tokens, if it is a member; a stranger lacks one."""
    record = CapacityRecord(
        *(1, 1, "m", bytes([model]) * 32, bytes(32), 1, 1 << 16, round(16 * rate), 0, 4, 4),
        *((), (), NO_HALT_DIGEST),
    )
    return Candidate(PeerId(name), record, 1, have >= 0, fit)


class Pool(Trusting):
    """Of these experts, in their order; all of them would have to catch up for 200 ms."""

    digest, now = NO_HALT_DIGEST, 0.0

    def __init__(self, found: Sequence[Candidate]) -> None:
        super().__init__()
        self._found = found

    def candidates(self, missing: object, tokens: int, only: object = None) -> Sequence[Candidate]:
        return self._found

    def pick(self, wanted: int, found: Sequence[Candidate]) -> list[PeerId]:
        return [c.peer for c in found][:wanted]

    def prior(self, peer: PeerId, record: CapacityRecord, domain: str) -> float:
        return 1.0

    def is_local(self, peer: PeerId) -> bool:
        return False

    def catch_up_s(self, found: Candidate) -> float:
        return 0.2

    def patience_s(self, found: Candidate) -> float:
        return 1.0


def pool_of(found: Sequence[Candidate]) -> ExpertPool:
    return cast(ExpertPool, Pool(found))


def ensemble_of(
    settings: Settings, found: Sequence[Candidate], **more: Any
) -> tuple[Ensemble, ExpertPool]:
    order = GenerateRequest(PROMPT, **{"k": 2, "extra": 0, "vocab_size": 512} | more)
    ensemble, pool = Ensemble(order, random.Random(1), settings), pool_of(found)
    ensemble.fitted(pool, found)
    return ensemble, pool


MODELS: Final = [candidate(f"m{model}", model=model) for model in range(12)]


# --- answers --------------------------------------------------------------------------------------


def breadth(name: str) -> Probe:
    return lambda settings: lambda: float(usual_breadth(settings)[name])


def first_tokens_put_to_one_alone(settings: Settings) -> Decide:
    return lambda: not ensemble_of(settings, MODELS, quality=0.5)[0].cascade.widen(3.0)


def entries_asked_for(settings: Settings) -> Decide:
    members, rounds = Members(1, Text(PROMPT), [], settings), count(1)

    def decide() -> float:
        steps = members.ask(OWN, MODELS[0].record, next(rounds), range(19, 20), pool_of([]))
        return float(cast(Score, steps[-1].message).entries_max)

    return decide


# --- the router -----------------------------------------------------------------------------------


def router_of(settings: Settings) -> Router:
    return Router(OWN, random.Random(1), settings)


def quick_preferred_to_knowing(settings: Settings) -> Decide:
    found = [candidate("quick", model=1), candidate("knowing", model=2, fit=3.0, rate=1.0)]
    router = router_of(settings)
    return lambda: router.pick(1, found, 0.0) == ["quick"]


def patience_with_a_known_one(settings: Settings) -> Decide:
    router, found = router_of(settings), candidate("known")
    router.replied(found.peer, 0.05, 1, found.record, 0.0)
    return lambda: router.patience_s(found, 0.0)


def patience_with_an_unknown_one(settings: Settings) -> Decide:
    router = router_of(settings)
    return lambda: router.patience_s(candidate("unknown"), 0.0)


def patience_with_a_slow_one(settings: Settings) -> Decide:
    router = router_of(settings)
    return lambda: router.patience_s(candidate("slow", rate=1 / 16), 0.0)


def rest_after_a_missed_deadline(settings: Settings) -> Decide:
    router, numbers = router_of(settings), count()

    def decide() -> float:
        peer = PeerId(f"p{next(numbers)}")
        router.missed(peer, 0.0)
        return router.seen(peer, 0.0).rests_until

    return decide


def member_kept_for_a_quicker_replica(settings: Settings) -> Decide:
    router = router_of(settings)
    found = [candidate("member", have=999), candidate("stranger", rate=30.0)]
    return lambda: router.pick(1, found, 0.0) == ["member"]


def member_kept_for_a_weightier_model(settings: Settings) -> Decide:
    router = router_of(settings)
    found = [candidate("member", model=1, have=999), candidate("stranger", model=2, fit=0.5)]
    return lambda: router.pick(1, found, 0.0) == ["member"]


def different_models_picked(settings: Settings) -> Decide:
    router = router_of(settings)
    found = [candidate("a1"), candidate("a2"), candidate("b", model=1, fit=-1.0)]
    return lambda: "b" in router.pick(2, found, 0.0)


def equals_that_share_the_requests(settings: Settings) -> Decide:
    router = router_of(settings)
    found = [candidate("a", model=1, fit=0.5), candidate("b", model=2)]
    return lambda: len({router.pick(1, found, 0.0)[0] for _ in range(100)})


# --- rounds ---------------------------------------------------------------------------------------


def deadline(settings: Settings, act: Callable[[RoundClock], None]) -> Decide:
    def decide() -> float:
        clock = RoundClock(0.0, settings)
        clock.waits_for(OWN, 50.0, 0.0)
        act(clock)
        return clock.deadline_at

    return decide


def hedges_asked(settings: Settings) -> Decide:
    """The same round, which still lacks a reply when the setting changes."""
    ensemble, pool = ensemble_of(settings, MODELS)
    experts = Experts(Members(1, Text(PROMPT), [], settings), ensemble, Standing(), settings)
    order = GenerateRequest(PROMPT, k=2, extra=2, vocab_size=512)
    current = Round(1, range(19, 20), order, experts, 0.0)

    def decide() -> float:
        return len(current.widen(pool, 4, needed=2))

    return decide


# --- ensemble, gate -------------------------------------------------------------------------------


def probed(settings: Settings) -> Decide:
    ensemble, pool = ensemble_of(settings, MODELS)
    return lambda: len(ensemble.probe(pool, MODELS))


def waited_for(settings: Settings) -> Decide:
    ensemble, _ = ensemble_of(settings, MODELS[:3])
    a, b, c = (found.peer for found in MODELS[:3])
    for position in ensemble.gate.positions:
        for peer, nats in ((a, -1.5), (b, -1.0), (c, -5.0)):
            ensemble.learn(peer, position, nats)
    return lambda: not ensemble.is_quorum([b, c], [a], 2)


def least_weight(settings: Settings) -> Decide:
    """Of one ensemble, which keeps what it has computed."""
    ensemble, _ = ensemble_of(settings, MODELS[:2])
    peers = [found.peer for found in MODELS[:2]]
    for position in ensemble.gate.positions:
        for peer, nats in zip(peers, (-1.0, -5.0), strict=True):
            ensemble.learn(peer, position, nats)
    return lambda: min(ensemble.weights(peers))


def asked_before_a_newcomer_is_known(settings: Settings) -> Decide:
    """How many results an expert needs, before the weight that it claims is its own."""
    a, b = (found.peer for found in MODELS[:2])

    def decide() -> float:
        for results in range(100):
            ensemble, pool = ensemble_of(settings, [])
            digest = MODELS[0].record.model_digest
            cast(Pool, pool).all_new()
            pool.track_records.put(b, MODELS[1].record.model_digest, TrackRecord(hidden=1000))
            pool.track_records.put(a, digest, TrackRecord(hidden=results))
            ensemble.fitted(pool, MODELS[:2])
            for position in ensemble.gate.positions:
                ensemble.learn(a, position, -1.0)
                ensemble.learn(b, position, -5.0)
            if ensemble.weights([a, b])[0] > 0.6:
                return results
        raise AssertionError("it is never known")

    return decide


def weight_of_newcomers(settings: Settings) -> Decide:
    peers = [found.peer for found in MODELS[:4]]

    def decide() -> float:
        ensemble, pool = ensemble_of(settings, [])
        cast(Pool, pool).all_new()
        known = TrackRecord(hidden=1000)
        pool.track_records.put(peers[0], MODELS[0].record.model_digest, known)
        ensemble.fitted(pool, MODELS[:4])
        return sum(ensemble.weights(peers)[1:])

    return decide


def rounds_for_hidden_tokens(settings: Settings) -> Decide:
    """Of the rounds of a long answer, which an expert alone gives."""

    def decide() -> float:
        table = Tabletop([None, 1])
        table.run_until(4.0)
        asker = table.seats[table.peers[0]].node
        asker.settings.set(t.HIDDEN_SHARE, round(1000 * settings[t.HIDDEN_SHARE]))
        allowance = asker._router.allowance
        allowance.spend(round(ALLOWANCE_MAX))
        order = GenerateRequest(PROMPT, k=1, extra=0, max_tokens=250, vocab_size=512)
        table.ask(table.peers[0], order)
        table.finish(table.peers[0])
        return allowance.spend(round(ALLOWANCE_MAX))

    return decide


def weight_of_who_knows_the_last_turn(later_nats: float) -> Probe:
    """The first turn speaks for the one, the last one for the other, or for nobody."""

    def probe(settings: Settings) -> Decide:
        a, b = PeerId("a"), PeerId("b")
        gate = Gate([range(20), range(30, 33)], settings)
        for position in gate.positions:
            gate.learn(a, position, -1.0 if position < 20 else -3.0)
            gate.learn(b, position, -3.0 if position < 20 else -3.0 + later_nats)
        return lambda: gate.shares({a: 1.0, b: 1.0})[b]

    return probe


# --- what nodes do for each other -----------------------------------------------------------------


def time_between_exchanges(settings: Settings) -> Decide:
    sealing = MemoSealing().of(OWN)
    exchange = CapacityExchange(
        *(OWN, random.Random(1), CapacityTable(), sealing, lambda: None, settings)
    )
    exchange.connected(PeerId("a"), 0.0)

    def decide() -> float:
        now = exchange.next_deadline()
        exchange.timer(now)
        return exchange.next_deadline() - now

    return decide


def serving_of(settings: Settings) -> Serving:
    side = Serving(settings=settings)
    side.card = ModelCard("m", b"m" * 32, b"v" * 32, 512, 1, 100)
    side.load = EngineLoad(0, 8, 8, 50.0)
    return side


def sessions() -> Iterator[tuple[PeerId, Open, Score]]:
    for number in range(8):
        opening = Open(number, b"m" * 32, b"v" * 32, NO_HALT_DIGEST)
        score = Score(number, 0, 0, 0, bytes(8), (1,), (0,), (), 256, 0, NO_HALT_DIGEST)
        yield PeerId(f"peer {number}"), opening, score


def sessions_served_at_once(settings: Settings) -> Decide:
    """What is served is what others are told."""
    side = serving_of(settings)

    def decide() -> float:
        served = 0
        for peer, opening, score in sessions():
            side.received(peer, opening)
            served += any(isinstance(e, RunScore) for e in side.received(peer, score))
        for peer, _, _ in sessions():
            side.lost(peer)
        side._orders.clear()
        assert side.offer is not None
        assert served == side.offer.sessions_max == side.offer.sessions_free
        return served

    return decide


EFFECTS: Final[dict[Setting[Any], tuple[Probe, int, int]]] = {
    t.EXPERTS: (breadth("k"), 2, 5),
    t.EXTRA: (breadth("extra"), 0, 3),
    t.WIDE_SHARE: (breadth("quality"), 250, 750),
    t.FIRST_THRESHOLD: (first_tokens_put_to_one_alone, 2000, 4000),
    t.LIST_ENTRIES: (entries_asked_for, 64, 512),
    t.WAIT_COST: (quick_preferred_to_knowing, 500, 8000),
    t.PATIENCE_FLOOR: (patience_with_a_known_one, 20, 1000),
    t.PATIENCE_UNKNOWN: (patience_with_an_unknown_one, 250, 5000),
    t.PATIENCE_MAX: (patience_with_a_slow_one, 5000, 9000),
    t.SUSPECT_REST: (rest_after_a_missed_deadline, 250, 10_000),
    t.SWITCH_RATIO: (member_kept_for_a_quicker_replica, 1100, 5000),
    t.SWITCH_ADVANTAGE: (member_kept_for_a_weightier_model, 0, 3000),
    t.REPLICA_COST: (different_models_picked, 0, 8000),
    t.BLUR: (equals_that_share_the_requests, 10, 1000),
    t.STRAGGLER_RATIO: (lambda s: deadline(s, lambda c: c.answers_missing(0.0, 4.0)), 1500, 9000),
    t.STRAGGLER_FLOOR: (lambda s: deadline(s, lambda c: c.answers_missing(0.0, 0.01)), 50, 2000),
    t.LATE_RATIO: (lambda s: deadline(s, lambda c: c.enough_answered(4.0)), 1100, 4000),
    t.LATE_FLOOR: (lambda s: deadline(s, lambda c: c.enough_answered(0.001)), 10, 500),
    t.FIRST_WAIT: (lambda s: deadline(s, lambda c: c.evidence_awaited([OWN], 1.0)), 1000, 30_000),
    t.HEDGE_COST: (hedges_asked, 100, 300),
    t.EXPLORATION: (probed, 0, 1000),
    t.PROBES: (probed, 1, 4),
    t.QUORUM_SHARE: (waited_for, 500, 1000),
    t.RESULTS: (asked_before_a_newcomer_is_known, 4, 32),
    t.NEW_SHARE: (weight_of_newcomers, 100, 500),
    t.HIDDEN_SHARE: (rounds_for_hidden_tokens, 5, 30),
    t.UNIFORM_SHARE: (least_weight, 20, 300),
    t.LEARNING_RATE: (weight_of_who_knows_the_last_turn(2.5), 50, 900),
    t.FORGETTING: (weight_of_who_knows_the_last_turn(0.0), 1, 200),
    t.SHUFFLE_INTERVAL: (time_between_exchanges, 4500, 20_000),
    t.SESSIONS_OFFERED: (sessions_served_at_once, 3, 6),
}
"""What is measured, at a lower and at a higher value."""


def test_every_setting_is_shown_to_steer() -> None:
    assert set(EFFECTS) == set(t.SETTINGS.values())


@pytest.mark.parametrize("setting", EFFECTS, ids=str)
def test_a_change_while_the_part_is_at_work_holds_from_its_next_decision_on(
    setting: Setting[Any],
) -> None:
    probe, low, high = EFFECTS[setting]
    settings = Settings(values={setting: low})
    decide = probe(settings)
    before = decide()
    settings.set(setting, high)
    assert decide() > before


@pytest.mark.parametrize("setting", EFFECTS, ids=str)
def test_what_is_pinned_decides_whatever_the_swarm_sets(setting: Setting[Any]) -> None:
    probe, low, high = EFFECTS[setting]
    free = probe(Settings(values={setting: high}))()
    pinned = Settings(pins={setting: low})
    pinned.set(setting, high)
    assert probe(pinned)() < free


def test_others_are_told_at_once_how_many_sessions_are_offered() -> None:
    settings = Settings()
    side = serving_of(settings)
    settings.set(t.SESSIONS_OFFERED, 2)
    assert side.handle(SettingChanged(t.SESSIONS_OFFERED, 256, 2), 0.0) == [
        OwnExpertChanged("places")
    ]
    assert not side.handle(SettingChanged(t.EXPERTS, 3, 2), 0.0)
    assert not Serving().handle(SettingChanged(t.SESSIONS_OFFERED, 256, 2), 0.0)


def test_one_peer_leaves_offered_sessions_to_others() -> None:
    side = serving_of(Settings(values={t.SESSIONS_OFFERED: 4}))
    served = 0
    for _, opening, score in sessions():
        side.received(PeerId("greedy"), opening)
        served += any(isinstance(e, RunScore) for e in side.received(PeerId("greedy"), score))
    assert served == 2
    side.received(PeerId("other"), Open(1, b"m" * 32, b"v" * 32, NO_HALT_DIGEST))
    _, _, score = next(sessions())
    side.received(PeerId("other"), Open(0, b"m" * 32, b"v" * 32, NO_HALT_DIGEST))
    assert any(isinstance(e, RunScore) for e in side.received(PeerId("other"), score))
