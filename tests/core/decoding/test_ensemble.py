"""Laws of probing, keeping and weighing the experts of one answer, on whole nodes under a virtual
clock and on the ensemble alone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.decoding.ensemble import BLOCK_MAX, EVIDENCE_MAX, Ensemble, evidence_turns
from swarmllm.core.events import Ended, ExpertsWeighed
from swarmllm.core.inputs import EngineReady
from swarmllm.core.peers.eviction import block_of
from swarmllm.core.peers.router import Candidate
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import NEW_SHARE, RESULTS
from swarmllm.core.trust.evidence import Allowance
from swarmllm.core.trust.track_record import TrackRecord
from swarmllm.core.values import GenerateRequest, Sampling, SessionKey
from swarmllm.messages import NO_HALT_DIGEST, CapacityRecord, ExpertReply, PeerId, Score
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.tabletop import Tabletop
from swarmllm.wire import context
from swarmllm.wire.sparse import decode_list
from swarmllm.wire.sparse_encoding import encode_logits
from tests.core.trust.trusting import Trusting

PROMPT = tuple(range(3, 40))
GREEDY = Sampling(temperature=0.0)


def order(prompt: tuple[int, ...] = PROMPT, **more: object) -> GenerateRequest:
    settings: dict[str, object] = {
        "k": 2,
        "extra": 0,
        "max_tokens": 12,
        "sampling": GREEDY,
        "vocab_size": 512,
    }
    return GenerateRequest(prompt, **(settings | more))  # type: ignore[arg-type]


class Knowing(ScriptedModel):
    """A model that expects each token to be the one before plus one, as PROMPT is made, with
    `boost` more logit."""

    def __init__(self, seed: int, boost: float) -> None:
        super().__init__(f"knows-{boost}", seed)
        self._boost = boost
        self._last: dict[bytes, int] = {}

    def logits(self, digest: bytes) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = super().logits(digest) / np.float32(3)
        last = self._last.get(digest)
        if last is not None:
            found[(last + 1) % 512] += self._boost
        return found

    def score(self, key: SessionKey, request: Score) -> ExpertReply:
        digest = request.context_hash
        for token in request.tokens:
            digest = context.extend(digest, token)
            self._last[digest] = token
        return super().score(key, request)


def swarm(boosts: Sequence[float], copies: Mapping[int, int] | None = None) -> Tabletop:
    """A node without an expert (peer-0), and one node per boost (`copies[i]` makes node i a replica
    of another)."""
    table = Tabletop([None, *range(1, len(boosts) + 1)])
    for i in range(1, len(boosts) + 1):
        seed = (copies or {}).get(i, i)
        model = Knowing(seed, boosts[seed - 1])
        seat = table.seats[table.peers[i]]
        seat.model = model
        table.feed(table.peers[i], EngineReady(model.card, model.load))
    table.run_until(4.0)
    return table


def weighed(table: Tabletop, request: int = 1) -> ExpertsWeighed:
    found = [
        e
        for e in table.seats[table.peers[0]].events
        if isinstance(e, ExpertsWeighed) and e.request == request
    ]
    assert len(found) == 1
    return found[0]


def finished(table: Tabletop, wanted: GenerateRequest, request: int = 1) -> Ended:
    table.ask(table.peers[0], wanted, request)
    return table.finish(table.peers[0], request)


# --- whole nodes ----------------------------------------------------------------------------------


def test_the_experts_that_know_the_prompt_are_kept_and_the_others_are_asked_once() -> None:
    table = swarm([0, 9, 0, 7, 0, 0])
    assert finished(table, order(k=3, extra=0)).reason == "length"
    told = weighed(table)
    assert (told.known, len(told.experts)) == (6, 6)
    assert {w.peer for w in told.experts[:2]} == {PeerId("peer-2"), PeerId("peer-4")}
    later = [{u.peer for u in chosen.experts} for chosen in table.chosen(table.peers[0])[1:]]
    assert all(asked == {w.peer for w in told.experts if w.kept} for asked in later)
    assert all(asked >= {PeerId("peer-2"), PeerId("peer-4")} for asked in later)


def test_what_an_expert_was_worth_is_remembered_for_the_next_prompt() -> None:
    table = swarm([0] * 7 + [9])
    knower, asker = table.peers[8], table.peers[0]
    for request in range(1, 30):
        finished(table, order(k=1, extra=0, max_tokens=2, sampling=Sampling(seed=request)), request)
        if any(w.peer == knower for w in weighed(table, request).experts):
            break
    else:
        raise AssertionError("the expert that knows was never probed")
    for more in range(40, 46):
        finished(table, order(k=1, extra=0, max_tokens=3, sampling=Sampling(seed=more)), more)
        assert {u.peer for u in table.chosen(asker, more)[-1].experts} == {knower}
    views = {v.peer: v for v in table.seats[asker].node.view(table.now).experts}
    assert views[knower].merit > 0.3
    assert views[knower].prompts > 1
    assert all(view.merit <= 0.01 for peer, view in views.items() if peer != knower)


def test_another_model_is_worth_more_than_a_replica() -> None:
    table = swarm([5, 5, 5], copies={2: 1})
    finished(table, order(k=2, extra=0))
    for chosen in table.chosen(table.peers[0]):
        assert len({u.model for u in chosen.experts} | {u.peer for u in chosen.experts}) >= 3
        assert PeerId("peer-3") in {u.peer for u in chosen.experts}


def test_replicas_share_the_weight_of_their_model() -> None:
    table = swarm([5, 5, 5], copies={2: 1})
    finished(table, order(k=3, extra=0))
    uses = {u.peer: u.weight for u in table.chosen(table.peers[0])[3].experts}
    assert uses[PeerId("peer-1")] == pytest.approx(uses[PeerId("peer-2")])
    assert sum(uses.values()) == pytest.approx(1.0)


@given(st.floats(0, 1), st.integers(0, 20))
def test_an_answer_of_any_quality_is_whole(quality: float, seed: int) -> None:
    table = swarm([6, 0, 3])
    end = finished(
        table, order(k=3, extra=0, quality=quality, max_tokens=16, sampling=Sampling(seed=seed))
    )
    chosen = table.chosen(table.peers[0])
    assert (end.reason, [c.index for c in chosen]) == ("length", list(range(16)))
    assert chosen[0].k == 3
    assert all(c.k in {1, 3} for c in chosen)
    if quality in {0.0, 1.0}:
        assert {c.k for c in chosen[1:]} == {3 if quality else 1}


def test_less_quality_asks_fewer_experts() -> None:
    means = []
    for quality in (0.1, 0.5, 0.9):
        table = swarm([2, 1, 1])
        finished(
            table, order(k=3, extra=0, quality=quality, max_tokens=120, sampling=Sampling(seed=3))
        )
        means.append(np.mean([c.k for c in table.chosen(table.peers[0])]))
    assert means == pytest.approx([1.2, 2.0, 2.8], abs=0.35)


def test_the_one_expert_that_is_asked_may_die() -> None:
    table = swarm([8, 2, 1])
    table.at(table.now + 0.3, lambda: table.kill(PeerId("peer-1")))
    end = finished(table, order(k=3, extra=0, quality=0.0, max_tokens=40))
    assert (end.reason, end.tokens) == ("length", 40)
    assert [c.index for c in table.chosen(table.peers[0])] == list(range(40))
    assert {u.peer for u in table.chosen(table.peers[0])[-1].experts} == {PeerId("peer-2")}


# --- the ensemble alone ---------------------------------------------------------------------------


class FlatPool(Trusting):
    """All priors are alike, or as told; the first candidates are picked."""

    def __init__(self, priors: Mapping[str, float] | None = None, own: str = "") -> None:
        super().__init__()
        self.priors = dict(priors or {})
        self.own = own
        self.waits: dict[PeerId, float] = {}
        self.verdicts: dict[PeerId, float] = {}

    def prior(self, peer: PeerId, record: CapacityRecord, domain: str) -> float:
        return self.priors.get(peer, 1.0)

    def wait_nats(self, peer: PeerId, record: CapacityRecord) -> float:
        return self.waits.get(peer, 0.0)

    def weighed(self, peer: PeerId, share: float) -> None:
        self.verdicts[peer] = share

    def is_local(self, peer: PeerId) -> bool:
        return peer == self.own

    def pick(self, count: int, candidates: Sequence[Candidate]) -> list[PeerId]:
        return [c.peer for c in candidates][:count]


def candidate(name: str, model: int) -> Candidate:
    record = CapacityRecord(
        1,
        1,
        f"m{model}",
        bytes([model]) * 32,
        bytes(32),
        1,
        4096,
        160,
        0,
        4,
        4,
        (),
        (),
        NO_HALT_DIGEST,
    )
    return Candidate(PeerId(name), record, 1, False)


def ensemble_of(
    found: Sequence[Candidate], wanted: GenerateRequest, flat: FlatPool, seed: int = 0
) -> Ensemble:
    ensemble = Ensemble(wanted, random.Random(seed), Settings())
    ensemble.fitted(flat, found)  # type: ignore[arg-type]
    return ensemble


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=9),
    st.dictionaries(st.integers(0, 4), st.floats(-20, 0), max_size=5),
    st.integers(1, 6),
)
def test_weights_are_a_distribution_and_the_best_are_distinct_models_first(
    models: list[int], nats: dict[int, float], count: int
) -> None:
    found = [candidate(f"p{i}", model) for i, model in enumerate(models)]
    ensemble = ensemble_of(found, order(), FlatPool())
    for c in found:
        level = nats.get(c.record.model_digest[0])
        if level is not None:
            for position in ensemble.gate.positions:
                ensemble.learn(c.peer, position, level)
    peers = [c.peer for c in found]
    assert sum(ensemble.weights(peers)) == pytest.approx(1.0)
    best = ensemble.best(peers, count)
    assert len(best) == len(set(best)) == min(count, len(peers))
    kinds = [models[int(p[1:])] for p in best]
    assert len(set(kinds)) == min(len(best), len(set(models)))


def test_a_quorum_waits_for_weight_and_not_for_replicas() -> None:
    found = [candidate("a", 1), candidate("b", 1), candidate("c", 2), candidate("d", 3)]
    ensemble = ensemble_of(found, order(), FlatPool())
    for expert, levels in zip(
        found, ((-1.0, -5.0), (-1.0, -5.0), (-5.0, -1.0), (-30.0, -30.0)), strict=True
    ):
        for position in ensemble.gate.positions:
            ensemble.learn(expert.peer, position, levels[position % 2])
    a, b, c, d = (x.peer for x in found)
    assert ensemble.is_quorum([a, c], [b], 3)  # Its replica has spoken.
    assert ensemble.is_quorum([a, c], [b, d], 3)  # It weighs next to nothing.
    assert not ensemble.is_quorum([a, d], [c], 3)
    assert ensemble.is_quorum([a], [], 3)


def test_insurance_is_not_waited_for() -> None:
    """Four equals are asked for a token of three: whichever three answer first make it. One that
    weighs more is waited for."""
    found = [candidate(name, model) for model, name in enumerate("abcd", 1)]
    a, b, c, d = (x.peer for x in found)
    equals = ensemble_of(found, order(prompt=(1,)), FlatPool())
    assert equals.is_quorum([b, c, d], [a], 3)
    assert not equals.is_quorum([b, c], [a, d], 3)
    assert not equals.is_quorum([b, c, d], [a], 4)
    heavy = ensemble_of(found, order(prompt=(1,)), FlatPool({"a": 3.0}))
    assert not heavy.is_quorum([b, c, d], [a], 3)
    assert heavy.is_quorum([a, b, c], [d], 3)


def test_of_equals_the_slow_ones_are_let_go_and_one_that_knows_the_text_is_kept() -> None:
    found = [candidate(name, model) for model, name in enumerate("abcd", 1)]
    peers = [x.peer for x in found]
    flat = FlatPool()
    flat.waits = {PeerId("a"): 2.0}
    equals = ensemble_of(found, order(prompt=(1,)), flat)
    assert equals.best(peers, 3, flat) == peers[1:]  # type: ignore[arg-type]
    assert equals.best(peers, 3) == peers[:3]
    expert = ensemble_of(found, order(), flat)
    for peer in peers:
        for position in expert.gate.positions:
            expert.learn(peer, position, -1.0 if peer == "a" else -5.0)
    assert expert.best(peers, 3, flat)[0] == "a"  # type: ignore[arg-type]


def test_a_fresh_identity_is_believed_less_for_each_of_its_model_that_was_found_wanting() -> None:
    """Who has many would always have one of which nothing is known. Yet a single liar that takes an
    honest name leaves the honest holders at least half of what they had."""

    def prior(wanting: int, honest: int = 0) -> float:
        found = [candidate("other", 2), *(candidate(f"r{i}", 1) for i in range(9))]
        flat = FlatPool()
        flat.all_new()
        for i in range(wanting + honest):
            record = TrackRecord(hidden=8, merit=-7.0 if i < wanting else 0.0)
            flat.track_records.put(found[1 + i].peer, found[1].record.model_digest, record)
            flat.priors[found[1 + i].peer] = 0.05 if i < wanting else 1.0
        ensemble = Ensemble(order(prompt=(1,)), random.Random(0), Settings(pins={RESULTS: 0}))
        ensemble.fitted(flat, found)  # type: ignore[arg-type]
        one, other = ensemble.weights([PeerId("r8"), PeerId("other")])
        return one / other

    assert prior(0) == pytest.approx(1.0)
    assert prior(1) == pytest.approx(0.5)
    assert prior(4) == pytest.approx(0.2)
    assert prior(4, honest=1) == pytest.approx(1.0)


def test_who_has_spoken_borrows_no_name_of_one_that_was_never_tried() -> None:
    found = [candidate("other", 2), *(candidate(f"r{i}", 1) for i in range(3))]
    flat = FlatPool({"r0": 0.05})
    flat.all_new()
    for peer, merit in (("r0", -8.0), ("other", 0.0)):
        digest = next(c.record.model_digest for c in found if c.peer == peer)
        flat.track_records.put(PeerId(peer), digest, TrackRecord(hidden=2, merit=merit))
    ensemble = ensemble_of(found, order(), flat)
    for peer in (PeerId("r0"), PeerId("other")):
        for position in ensemble.gate.positions:
            ensemble.learn(peer, position, -1.0)
    one, other = ensemble.weights([PeerId("r0"), PeerId("other")])
    assert one / other < 0.1


def test_a_strong_prior_decides_where_there_is_no_evidence() -> None:
    found = [candidate("a", 1), candidate("b", 2)]
    ensemble = ensemble_of(found, order(prompt=(1,)), FlatPool({"b": 9.0}))
    assert ensemble.best([c.peer for c in found], 1) == [PeerId("b")]
    assert ensemble.weights([c.peer for c in found]) == pytest.approx([0.1, 0.9])


@given(st.integers(2, 400), st.lists(st.integers(1, 400), max_size=6))
def test_evidence_is_the_last_outside_tokens_and_never_our_own(
    length: int, places: list[int]
) -> None:
    places = sorted({p for p in places if p <= length})
    bounds = [0, *places, length]
    spans = tuple(pairwise(bounds))[::2]
    turns = evidence_turns(order(prompt=tuple(range(length)), outside=spans))
    outside = {t for a, b in spans for t in range(a, b)}
    positions = [t for turn in turns for t in turn]
    assert positions == sorted(set(positions))
    assert len(positions) <= EVIDENCE_MAX
    assert all(t + 1 in outside for t in positions)
    every = sorted(t - 1 for t in outside if t > 0)
    assert positions == every[-EVIDENCE_MAX:]


def test_a_crowd_of_newcomers_at_one_address_block_has_few_places_until_some_are_known() -> None:
    crowd = [candidate(f"s{i}", i) for i in range(9)]
    honest = [candidate("h", 20)]
    flat = FlatPool()
    flat.hosts = {c.peer: block_of(f"8.8.8.{i}") for i, c in enumerate(crowd)}
    flat.all_new()

    def left(k: int) -> int:
        ensemble = Ensemble(order(k=k), random.Random(1), Settings())
        found = ensemble.fitted(flat, [*crowd, *honest])  # type: ignore[arg-type]
        assert honest[0].peer in {c.peer for c in found}
        return len(found) - 1

    assert left(2) == BLOCK_MAX
    assert left(6) == 6
    for one in crowd[:3]:
        flat.track_records.put(one.peer, one.record.model_digest, TrackRecord(hidden=8))
    assert left(2) == BLOCK_MAX + 3


def test_newcomers_behind_one_relay_have_no_more_places_and_take_turns_answer_by_answer() -> None:
    relayed = [candidate(f"s{i}", i) for i in range(12)]
    flat = FlatPool()
    flat.relays = {c.peer: block_of("8.8.8.8") for c in relayed}
    flat.all_new()
    seen: set[PeerId] = set()
    for seed in range(40):
        ensemble = Ensemble(order(k=2), random.Random(seed), Settings())
        found = [c.peer for c in ensemble.fitted(flat, relayed)]  # type: ignore[arg-type]
        again = [c.peer for c in ensemble.fitted(flat, relayed)]  # type: ignore[arg-type]
        assert found == again  # Within one answer they stay.
        assert len(found) == BLOCK_MAX
        seen |= set(found)
    assert len(seen) == len(relayed)
    flat.hosts, flat.relays = flat.relays, {}
    first = {c.peer for c in ensemble.fitted(flat, relayed)}  # type: ignore[arg-type]
    assert first == {c.peer for c in sorted(relayed, key=lambda c: c.peer)[:BLOCK_MAX]}


def test_a_replica_that_is_not_known_weighs_nothing_beside_one_that_is() -> None:
    """Nor is it chosen before that one; where the known one is gone, it takes its place."""
    new, known, other = (candidate(n, m) for n, m in (("a", 1), ("b", 1), ("c", 2)))
    flat = FlatPool()
    flat.all_new()
    for one in (known, other):
        flat.track_records.put(one.peer, one.record.model_digest, TrackRecord(hidden=8))
    ensemble = Ensemble(order(prompt=(1,)), random.Random(1), Settings())
    ensemble.fitted(flat, [new, known, other])  # type: ignore[arg-type]
    peers = [new.peer, known.peer, other.peer]
    assert ensemble.weights(peers) == pytest.approx([0.0, 0.5, 0.5])
    assert ensemble.weights([new.peer, other.peer]) == pytest.approx([0.5, 0.5])
    assert set(ensemble.best(peers, 2)) == {known.peer, other.peer}


def test_who_boasts_has_no_word_even_where_the_others_know_nothing_of_the_text() -> None:
    """What it says, less what it was found to say too much, may still be better than the truth of
    one that knows other texts."""
    liar, honest = candidate("a", 1), candidate("b", 2)
    flat = FlatPool()
    known = TrackRecord(hidden=8, merit=-6.0, overclaim=7.0)
    flat.track_records.put(liar.peer, liar.record.model_digest, known)
    ensemble = ensemble_of([liar, honest], order(), flat)
    for position in ensemble.gate.positions:
        ensemble.learn(liar.peer, position, -0.5)
        ensemble.learn(honest.peer, position, -11.0)
    assert ensemble.weights([liar.peer, honest.peer])[0] <= NEW_SHARE.usual + 1e-9
    assert ensemble.holders([liar.peer])[0].is_new


def test_who_was_never_looked_at_in_an_answer_chooses_no_token_alone_where_there_are_audits() -> (
    None
):
    """An expert may be honest for prompts, hidden tokens and all, and lie behind them."""
    careful, honest = candidate("a", 1), candidate("b", 2)
    flat = FlatPool()
    flat.track_records.has_audits = True
    for one in (careful, honest):
        flat.track_records.put(one.peer, one.record.model_digest, TrackRecord(hidden=1000))
    confirmed = TrackRecord(hidden=1000).after_confirmed()
    flat.track_records.put(honest.peer, honest.record.model_digest, confirmed)
    ensemble = ensemble_of([careful, honest], order(), flat)
    peers = [careful.peer, honest.peer]
    assert [one.rank for one in ensemble.holders(peers)] == [2, 3]
    assert ensemble.weights(peers) == pytest.approx([0.5, 0.5]), "its word counts all the same"
    trusting = Ensemble(order(), random.Random(0), Settings(pins={RESULTS: 0}))
    trusting.fitted(flat, [careful, honest])  # type: ignore[arg-type]
    assert all(one.rank == 3 for one in trusting.holders(peers)), "results are asked of nobody"


def test_who_is_refuted_in_the_middle_of_an_answer_has_no_word_for_the_rest_of_it() -> None:
    liar, honest = candidate("a", 1), candidate("b", 2)
    flat = FlatPool()
    ensemble = ensemble_of([liar, honest], order(), flat)
    for position in ensemble.gate.positions:
        ensemble.learn(liar.peer, position, -0.5)
        ensemble.learn(honest.peer, position, -11.0)
    peers = [liar.peer, honest.peer]
    assert ensemble.weights(peers)[0] > 0.9
    assert not ensemble.holders(peers)[0].is_new
    refuted = TrackRecord(hidden=1000).after_audit(is_passed=False)
    flat.track_records.put(liar.peer, liar.record.model_digest, refuted)
    assert ensemble.weights(peers)[0] <= NEW_SHARE.usual + 1e-9
    assert ensemble.holders(peers)[0].is_new


def test_what_an_audit_finds_while_a_prompt_is_told_is_not_forgotten_at_its_end() -> None:
    liar, honest = candidate("a", 1), candidate("b", 2)
    flat = FlatPool()
    flat.all_new()
    flat.allowance = Allowance()
    ensemble = Ensemble(order(), random.Random(1), Settings())
    ensemble.fitted(flat, [liar, honest])  # type: ignore[arg-type]
    ensemble.trust.hide(flat, [liar.peer, honest.peer], ensemble.gate.positions)  # type: ignore[arg-type]
    hidden = ensemble.trust.hidden
    assert hidden.cut is not None
    for peer in (liar.peer, honest.peer):
        one = decode_list(encode_logits(np.zeros(512, np.float32), 512, 0), 512, 512)
        hidden.listen(peer, hidden.cut, one)
    refuted = TrackRecord().after_audit(is_passed=False)
    flat.track_records.put(liar.peer, liar.record.model_digest, refuted)
    ensemble.conclude(flat)  # type: ignore[arg-type]
    assert flat.track_records.of(liar.peer, liar.record.model_digest).is_refuted
    assert flat.track_records.of(honest.peer, honest.record.model_digest).hidden == 1


def test_a_stranger_that_contradicts_a_known_holder_of_its_model_has_nothing_but_a_name() -> None:
    stranger, known, other = (candidate(n, m) for n, m in (("a", 1), ("b", 1), ("c", 2)))
    flat = FlatPool()
    flat.all_new()
    for one in (known, other):
        flat.track_records.put(one.peer, one.record.model_digest, TrackRecord(hidden=8))
    ensemble = Ensemble(order(), random.Random(1), Settings())
    ensemble.fitted(flat, [stranger, known, other])  # type: ignore[arg-type]
    for position in ensemble.gate.positions:
        for one, nats in ((stranger, -1.0), (known, -2.0), (other, -2.1)):
            ensemble.learn(one.peer, position, nats)
    weights = ensemble.weights([stranger.peer, known.peer, other.peer])
    assert 0 < weights[0] < 0.02
