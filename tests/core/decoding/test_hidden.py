"""Laws of hidden tokens in an answer, on whole nodes under a virtual clock: who knows a prompt by
heart is found by the tokens that it was not told, and nobody hears one before all have spoken."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest

from swarmllm.core.events import ExpertsWeighed
from swarmllm.core.settings.table import HIDDEN_SHARE, NEW_SHARE, RESULTS
from swarmllm.core.trust.evidence import ALLOWANCE_MAX
from swarmllm.core.trust.track_record import TrackRecords
from swarmllm.core.values import SessionKey
from swarmllm.messages import ExpertReply, PeerId, Score
from swarmllm.testing.lying_model import LyingModel
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.tabletop import Tabletop
from tests.core.decoding.test_ensemble import PROMPT
from tests.core.decoding.test_liars import FORCED, Going, answer, honest, order, swarm, weight


def records_of(table: Tabletop) -> TrackRecords:
    return table.seats[table.peers[0]].node._router.track_records


def results(table: Tabletop) -> dict[PeerId, float]:
    return {peer: record.results for (peer, _), record in records_of(table)}


class Noting(Going):
    """Notes when it was sent how much of the prompt, and when it answered."""

    def __init__(self, seed: int, log: list[tuple[str, int, int]]) -> None:
        super().__init__(seed)
        self._log = log

    def score(self, key: SessionKey, request: Score) -> ExpertReply:
        upto = request.base + len(request.tokens)
        self._log.append(("told", self.seed, upto))
        return super().score(key, request)


def test_after_one_answer_those_who_were_asked_are_known() -> None:
    table = swarm([None, *honest(3)])
    answer(table, order())
    assert results(table) == dict.fromkeys(table.peers[1:], RESULTS.usual)


@pytest.mark.parametrize("nats", [0.0, 1.0, 3.0])
def test_who_knows_every_prompt_by_heart_weighs_next_to_nothing(nats: float) -> None:
    """One of four, or five of eight with a digest each; whatever they claim, the text is that of
    the honest."""
    plain = swarm([None, *honest(3)])
    answer(plain, order(k=8))
    for count in (1, 5):
        liars: list[ScriptedModel] = [
            LyingModel(90 + i, nats=nats, forced=lambda _: FORCED) for i in range(count)
        ]
        table = swarm([None, *honest(3), *liars])
        _, chosen, _ = answer(table, order(k=8))
        assert max(weight(c, table.peers[4:]) for c in chosen) < 0.05
        assert FORCED not in table.tokens(table.peers[0])
        for peer, liar in zip(table.peers[4:], liars, strict=True):
            record = records_of(table).of(peer, liar.card.digest)
            assert record.merit < -2
            assert record.overclaim > 4


def test_nobody_is_told_a_token_before_all_have_said_what_they_expect_there() -> None:
    log: list[tuple[str, int, int]] = []
    table = swarm([None, *(Noting(seed, log) for seed in range(1, 5))])
    table.seats[table.peers[2]].service_s = 1.5
    answer(table, order())
    prompt = [(seed, upto) for _, seed, upto in log if upto <= len(PROMPT)]
    steps: dict[int, list[int]] = defaultdict(list)
    for seed, upto in prompt:
        steps[seed].append(upto)
    assert len(set(map(tuple, steps.values()))) == 1  # All are told the same pieces ...
    pieces = steps[1]
    assert len(pieces) == RESULTS.usual + 1
    assert pieces == sorted(set(pieces))
    told = [upto for _, upto in prompt]
    assert told == sorted(told)  # ... and nobody a longer one while another has a shorter one open.


def test_known_experts_are_tried_again_now_and_then_within_the_allowance() -> None:
    table = swarm([None, *honest(3)])
    rounds, found = 0, []
    for request in range(1, 9):
        table.ask(table.peers[0], order(max_tokens=40), request)
        table.finish(table.peers[0], request)
        rounds += 40
        found.append(max(results(table).values()))
    assert found[0] == RESULTS.usual
    assert found[-1] > RESULTS.usual
    assert found[-1] <= ALLOWANCE_MAX + HIDDEN_SHARE.usual * rounds


def test_a_newcomer_beside_known_ones_has_no_more_than_its_part_until_it_is_known() -> None:
    table = swarm([None, *honest(2)])
    answer(table, order())
    records = records_of(table)
    for peer in table.peers[2:]:
        model = table.seats[peer].model
        assert model is not None
        records.put(peer, model.card.digest, records.of(peer, model.card.digest).decayed(0.1))
    table.seats[table.peers[0]].node._router.allowance.spend(99)  # Nothing is left to try it with.
    table.ask(table.peers[0], order(), 2)
    table.finish(table.peers[0], 2)
    for chosen in table.chosen(table.peers[0], 2):
        assert weight(chosen, table.peers[2:]) <= NEW_SHARE.usual + 1e-9


def test_where_there_is_nobody_to_compare_with_nothing_is_hidden() -> None:
    log: list[tuple[str, int, int]] = []
    table = swarm([None, Noting(1, log), Noting(1, log)])
    answer(table, order(k=2))
    assert {upto for _, _, upto in log if upto <= len(PROMPT)} == {len(PROMPT)}
    assert results(table) == {}


def test_a_prompt_of_few_words_hides_what_it_has_and_the_answer_is_whole() -> None:
    table = swarm([None, *honest(3)])
    table.ask(table.peers[0], replace(order(), prompt=(3, 4, 5)), 1)
    assert table.finish(table.peers[0], 1).reason == "length"
    assert set(results(table).values()) == {2}


def test_one_that_dies_while_a_token_is_hidden_holds_up_nobody() -> None:
    table = swarm([None, *honest(4)])
    table.at(table.now + 0.9, lambda: table.kill(table.peers[2]))
    end, chosen, told = answer(table, order())
    assert (end.reason, len(chosen)) == ("length", 12)
    assert isinstance(told, ExpertsWeighed)
    assert table.peers[2] not in {w.peer for w in told.experts}
    assert results(table)[table.peers[1]] == RESULTS.usual
