"""Laws of answers among liars, on whole nodes under a virtual clock: being quick, many, large or
somebody else by name buys nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from swarmllm.core.events import Ended, ExpertsWeighed, TokenChosen
from swarmllm.core.inputs import EngineReady
from swarmllm.core.settings.table import FIRST_WAIT, RESULTS
from swarmllm.core.values import EngineLoad, GenerateRequest, Sampling
from swarmllm.messages import PeerId
from swarmllm.testing.lying_model import LyingModel
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.tabletop import Tabletop
from tests.core.decoding.test_ensemble import PROMPT, Knowing

STOP, FORCED = 500, 499
GREEDY = Sampling(temperature=0.0)
SLOW_S = 0.4  # Of honest experts; liars need no time to compute.


def order(**more: object) -> GenerateRequest:
    found = {
        "k": 3,
        "extra": 0,
        "max_tokens": 12,
        "sampling": GREEDY,
        "vocab_size": 512,
        "stop_tokens": frozenset({STOP}),
    }
    return GenerateRequest(PROMPT, **(found | more))  # type: ignore[arg-type]


def swarm(models: list[ScriptedModel | None]) -> Tabletop:
    """A node per model; the first one asks."""
    table = Tabletop([None] * len(models))
    for peer, model in zip(table.peers, models, strict=True):
        seat = table.seats[peer]
        seat.model = model
        if model is not None:
            is_liar = isinstance(model, LyingModel)
            seat.service_s, seat.delay_s = (0.0, 0.001) if is_liar else (SLOW_S, 0.02)
            table.feed(peer, EngineReady(model.card, model.load))
    table.run_until(4.0)
    return table


class Going(Knowing):
    """An honest expert that knows the prompt and sees no end of it."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, 6.0)

    @property
    def load(self) -> EngineLoad:
        return replace(super().load, tokens_per_s=1 / SLOW_S)

    def logits(self, digest: bytes) -> npt.NDArray[np.float32]:
        found = super().logits(digest)
        found[[STOP, FORCED]] -= 30.0
        return found


def honest(count: int) -> list[ScriptedModel]:
    return [Going(seed) for seed in range(1, count + 1)]


def answer(
    table: Tabletop, wanted: GenerateRequest
) -> tuple[Ended, list[TokenChosen], ExpertsWeighed]:
    asker = table.peers[0]
    table.ask(asker, wanted)
    end = table.finish(asker)
    told = [e for e in table.seats[asker].events if isinstance(e, ExpertsWeighed)]
    return end, table.chosen(asker), told[0]


def weight(chosen: TokenChosen, peers: list[PeerId]) -> float:
    return sum(use.weight for use in chosen.experts if use.peer in peers)


# --- the first token ------------------------------------------------------------------------------


def test_the_first_token_is_not_made_by_whoever_is_quickest() -> None:
    liars: list[ScriptedModel] = [
        LyingModel(90 + i, nats=9.0, forced=lambda _: FORCED) for i in range(3)
    ]
    table = swarm([None, *honest(3), *liars])
    _, chosen, told = answer(table, order())
    assert {w.peer for w in told.experts} == set(table.peers[1:])
    assert {u.peer for u in chosen[0].experts} == set(table.peers[1:4])
    assert FORCED not in table.tokens(table.peers[0])


def test_the_own_expert_is_waited_for_however_slow_it_is() -> None:
    liars: list[ScriptedModel] = [
        LyingModel(90 + i, nats=9.0, forced=lambda _: FORCED) for i in range(6)
    ]
    table = swarm([*honest(1), *liars])
    table.seats[table.peers[0]].service_s = 0.8
    _, chosen, told = answer(table, order(k=2))
    assert table.peers[0] in {w.peer for w in told.experts}
    assert table.peers[0] in {u.peer for u in chosen[0].experts}


def test_a_silent_expert_costs_first_tokens_a_bounded_time_and_ever_more_seldom() -> None:
    table = swarm([None, *honest(4)])
    table.seats[table.peers[4]].service_s = 1e6
    firsts = []
    for request in range(1, 13):
        table.ask(table.peers[0], order(k=2, max_tokens=6), request)
        assert table.finish(table.peers[0], request).reason == "length"
        first, *later = table.chosen(table.peers[0], request)
        firsts.append(first.round_s)
        assert all(c.round_s < 2 * SLOW_S for c in later)
    known = RESULTS.usual * SLOW_S  # One step of the prompt after the other, once.
    assert max(firsts) <= FIRST_WAIT.usual + known + 6 * SLOW_S
    assert sum(seconds > 2 * SLOW_S for seconds in firsts[1:]) <= 5


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", [64.0, 0.0, 5.0])
def test_a_liar_under_an_honest_name_takes_nothing_from_those_who_have_it(claim: float) -> None:
    """It answers first, and says what would ruin the model, or praise it: the honest holder is
    weighed by its own word. What the liar is worth then, it would be worth under any name that it
    made up."""
    models = honest(3)
    borrowed = LyingModel(90, nats=claim, forced=lambda _: FORCED, name_of=models[0])
    invented = LyingModel(90, nats=claim, forced=lambda _: FORCED)
    found = []
    for liar in (borrowed, invented):
        table = swarm([None, *honest(3), liar])
        _, _, told = answer(table, order(k=4))
        shares = {w.peer: w.share for w in told.experts}
        found.append([shares[p] for p in table.peers[1:]])
    *borrowing, thief = found[0]
    *inventing, stranger = found[1]
    assert all(mine >= theirs - 1e-6 for mine, theirs in zip(borrowing, inventing, strict=True))
    assert thief <= stranger + 1e-6


def test_a_liar_that_our_own_expert_contradicts_has_no_part_in_the_answer() -> None:
    own = Going(1)
    liar = LyingModel(90, nats=0.0, forced=lambda _: FORCED, name_of=own)
    table = swarm([own, Going(2), liar])
    asker, _, cheat = table.peers
    end, chosen, told = answer(table, order())
    assert end.reason == "length"
    assert cheat not in {w.peer for w in told.experts}
    assert all(cheat not in {u.peer for u in c.experts} for c in chosen)
    # A back end may be broken: that is no breach of the protocol.
    assert not table.seats[asker].penalised
    records = table.seats[asker].node._router.track_records
    assert records.of(cheat, liar.card.digest).is_refuted


def test_true_replicas_go_on_sharing_one_voice() -> None:
    table = swarm([None, Going(1), Going(1), Going(2)])
    _, _, told = answer(table, order())
    shares = {w.peer: w.share for w in told.experts}
    assert shares[table.peers[1]] == pytest.approx(shares[table.peers[2]])


def test_size_and_domain_in_a_record_buy_at_most_twice_the_weight() -> None:
    """A prompt of one word tells nothing, so only what was claimed decides."""
    boaster = LyingModel(90, nats=None, forced=lambda _: FORCED)
    boaster.card = replace(boaster.card, n_params=2**62, domains=("code",))
    plain = honest(3)
    for model in plain:
        model.card = replace(model.card, n_params=1_000_000)
    table = swarm([None, *plain, boaster])
    table.ask(table.peers[0], replace(order(k=4), prompt=(1,), domain="code"))
    table.finish(table.peers[0])
    assert (
        max(weight(c, [table.peers[4]]) for c in table.chosen(table.peers[0])) <= 2 / (2 + 3) + 1e-9
    )


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [1.0, 0.3])
def test_one_liar_among_others_ends_no_text(quality: float) -> None:
    liar = LyingModel(90, nats=0.0, forced=lambda _: STOP)
    table = swarm([None, *honest(2), liar])
    end, chosen, _ = answer(table, order(quality=quality, max_tokens=20))
    assert (end.reason, len(chosen)) == ("length", 20)
    assert STOP not in table.tokens(table.peers[0])
    for token in chosen:
        assert sum(u.weight for u in token.experts) == pytest.approx(1.0)


def test_who_is_the_only_one_there_may_end_its_text() -> None:
    table = swarm(
        [None, LyingModel(90, nats=0.0, forced=lambda n: STOP if n > len(PROMPT) + 3 else FORCED)]
    )
    end, chosen, _ = answer(table, order(k=1))
    assert (end.reason, len(chosen)) == ("eos", 5)


def test_two_models_that_want_the_end_have_it() -> None:
    def forced(length: int) -> int:
        return PROMPT[length] if length < len(PROMPT) else STOP if length > len(PROMPT) + 3 else 7

    enders: list[ScriptedModel] = [LyingModel(90 + i, nats=0.0, forced=forced) for i in range(2)]
    table = swarm([None, *honest(1), *enders])
    end, _, _ = answer(table, order())
    assert end.reason == "eos"
