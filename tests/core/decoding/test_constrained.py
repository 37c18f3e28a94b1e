"""Laws of constrained decoding: what is drawn is the pool given the grammar, whoever was asked how
often, and what is forced costs no round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.decoding.constrained import among, error_max, is_unsure, weighed
from swarmllm.core.decoding.generation import PREPARE_S
from swarmllm.core.decoding.pooling import pool
from swarmllm.core.grammar import Constraint
from swarmllm.core.trust.track_record import TrackRecord
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.errors import LocalError
from swarmllm.messages import Score, ScoreAllowed, Scores
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.tabletop import Tabletop
from swarmllm.wire import context
from swarmllm.wire.sparse import SparseList, decode_list
from swarmllm.wire.sparse_encoding import encode_allowed, encode_logits
from swarmllm.wire.token_set import TokenSet, decode_set, encode_set, largest

VOCABULARY = 512
PROMPT = (3, 1, 4, 1, 5)


@dataclass(frozen=True)
class Turns:
    """A grammar that allows one set of tokens after another; a set of one is forced."""

    sets: tuple[tuple[int, ...], ...]

    def begin(self) -> Constraint:
        return Turn(self.sets)


class Turn:
    def __init__(self, sets: Sequence[tuple[int, ...]]) -> None:
        self.sets = list(sets)

    def allowed(self) -> TokenSet:
        return TokenSet.of(self.sets[0] if self.sets else (), VOCABULARY)

    def forced(self) -> tuple[int, ...]:
        return self.sets[0] if self.sets and len(self.sets[0]) == 1 else ()

    def commit(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            if not self.sets or token not in self.sets.pop(0):
                raise LocalError(f"token {token} is not allowed")

    def fork(self) -> Turn:
        return Turn(self.sets)

    def may_end(self) -> bool:
        return not self.sets

    def is_done(self) -> bool:
        return not self.sets


def order(grammar: Turns, **more: object) -> GenerateRequest:
    given: dict[str, object] = {"k": 3, "max_tokens": 40, "vocab_size": VOCABULARY} | more
    sampling = given.pop("sampling", Sampling(temperature=0.0))
    return GenerateRequest(PROMPT, grammar=grammar, sampling=sampling, **given)  # type: ignore[arg-type]


def settled(seeds: list[int | None]) -> Tabletop:
    table = Tabletop(seeds)
    table.run_until(2.0)
    return table


def brute(seeds: Sequence[int], text: Sequence[int], allowed: Sequence[int]) -> np.ndarray:
    """The weighted mean of the whole softmax of each model, given that the token is allowed."""
    digest = context.digests(text)[-1]
    mixed = np.zeros(VOCABULARY)
    for seed in seeds:
        logits = ScriptedModel(seed=seed).logits(digest).astype(np.float64)
        probs = np.exp(logits - logits.max())
        mixed += probs / probs.sum() / len(seeds)
    cut = np.zeros(VOCABULARY)
    cut[list(allowed)] = mixed[list(allowed)]
    whole: np.ndarray = cut / cut.sum()
    return whole


def rarest(seed: int, text: Sequence[int], count: int) -> tuple[int, ...]:
    """Tokens that are in no list of 256."""
    row = ScriptedModel(seed=seed).logits(context.digests(text)[-1])
    return tuple(sorted(int(i) for i in np.argsort(row)[:count]))


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 2000), min_size=1, max_size=200), st.sampled_from([2001, 4096]))
def test_a_set_of_tokens_comes_back_from_the_wire(ids: set[int], size: int) -> None:
    tokens = TokenSet.of(ids, size)
    data = encode_set(tokens)
    assert decode_set(data).tolist() == tokens.ids().tolist() == sorted(ids)
    assert (len(tokens), largest(data)) == (len(ids), max(ids))
    every = np.arange(size, dtype=np.int32)
    assert set(every[tokens.holds(every)].tolist()) == ids


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 200))
def test_what_is_asked_for_by_id_is_the_pool_given_that_it_is_allowed(
    seed: int, count: int, size: int
) -> None:
    """Up to the quantisation of lists and masses: here the whole of each distribution is known."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(VOCABULARY, size, replace=False))
    allowed = TokenSet.of(ids.tolist(), VOCABULARY)
    shares = rng.dirichlet(np.ones(count))
    exact, lists, masses = np.zeros(VOCABULARY), [], []
    for share in shares:
        logits = (rng.standard_normal(VOCABULARY) * 4).astype(np.float32)
        probs = np.exp(logits.astype(np.float64) - logits.max())
        exact[ids] += share * probs[ids] / probs.sum()
        found = encode_allowed(logits, encode_set(allowed), 1024, 0)
        assert found is not None
        lists.append(decode_list(found[0], 1024, VOCABULARY))
        masses.append(-found[1] / 1024)
    exact /= exact.sum()
    pooled = pool(weighed(lists, masses), shares.tolist())
    said = np.zeros(VOCABULARY)
    said[pooled.ids] = pooled.probs
    assert set(np.flatnonzero(said)) <= set(ids.tolist())
    assert 0.5 * np.abs(said - exact).sum() < 0.02


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(4, 200))
def test_the_bound_of_the_error_holds(seed: int, size: int, entries: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(VOCABULARY, size, replace=False))
    allowed = TokenSet.of(ids.tolist(), VOCABULARY)
    logits = (rng.standard_normal(VOCABULARY) * 3).astype(np.float32)
    probs = np.exp(logits.astype(np.float64))
    probs /= probs.sum()
    kept = np.sort(np.argsort(-probs)[:entries])
    one = SparseList(
        kept.astype(np.int32), np.log(probs[kept]).astype(np.float32), 1 - probs[kept].sum()
    )
    exact = probs[ids] / probs[ids].sum()
    found = among(pool([one], [1.0]), allowed)
    bound = error_max([one], [1.0], allowed)
    if found is None:
        assert bound == 1.0
        assert is_unsure([one], [1.0], allowed)
        return
    said = dict(zip(found.ids.tolist(), found.probs.tolist(), strict=True))
    error = 0.5 * sum(abs(said.get(int(i), 0.0) - p) for i, p in zip(ids, exact, strict=True))
    assert error <= bound + 1e-6


def test_tokens_that_are_in_nobodys_list_are_asked_for_and_drawn_as_they_should_be() -> None:
    """Chi-square of what is drawn at temperature 1 against the whole distributions."""
    seeds: list[int | None] = [7, 8, 9]
    allowed = rarest(7, PROMPT, 6)
    exact = brute([7, 8, 9], PROMPT, allowed)
    counts: Counter[int] = Counter()
    runs = 300
    table = settled(seeds)
    asker = table.peers[0]
    # The weights of three lists follow the prompt; here none of it is evidence. All are known.
    records = table.seats[asker].node._router.track_records
    for peer in table.peers[1:]:
        model = table.seats[peer].model
        assert model is not None
        records.put(peer, model.card.digest, TrackRecord(hidden=1000))
    for seed in range(runs):
        table.seats[asker].events.clear()
        plain = order(
            Turns((allowed,)), sampling=Sampling(seed=seed), outside=((0, 1),), max_tokens=1
        )
        table.ask(asker, plain)
        assert table.finish(asker).reason == "eos"
        (token,) = table.tokens(asker)
        counts[token] += 1
    assert set(counts) <= set(allowed)
    square = sum((counts[t] - runs * exact[t]) ** 2 / (runs * exact[t]) for t in allowed)
    assert square < 20.5  # 0.999 of chi-square with five degrees of freedom.


def test_a_forced_token_costs_no_round_and_the_text_is_the_same() -> None:
    table = settled([7, 7, 7])
    asker = table.peers[0]
    sets = ((1,), (2,), (3, 4, 5), (6,), tuple(range(100, 140)), (7,))
    table.ask(asker, order(Turns(sets)))
    end = table.finish(asker)
    assert (end.reason, end.tokens) == ("eos", 6)
    text = list(PROMPT)
    for allowed in sets:
        text.append(int(np.argmax(brute([7], text, allowed))))
    assert table.tokens(asker) == text[len(PROMPT) :]
    chosen = table.chosen(asker)
    assert [e.k for e in chosen] == [0, 0, 3, 0, 3, 0]
    assert [e.index for e in chosen] == list(range(6))


def test_what_is_forced_from_end_to_end_asks_nobody() -> None:
    table = settled([None])
    table.ask(table.peers[0], order(Turns(((1,), (2,)))))
    assert table.finish(table.peers[0]).reason == "eos"
    assert table.tokens(table.peers[0]) == [1, 2]


@pytest.mark.parametrize(("limit", "reason"), [(3, "length"), (4, "eos")])
def test_a_text_that_is_cut_off_says_so(limit: int, reason: str) -> None:
    table = settled([7, 7, 7])
    sets = ((1,), (2, 3), (4,), (5,))
    table.ask(table.peers[0], order(Turns(sets), max_tokens=limit))
    end = table.finish(table.peers[0])
    assert (end.reason, end.tokens) == (reason, limit)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.sampled_from(["kill", "freeze"]), st.floats(0.0, 0.4))
def test_who_dies_while_being_asked_again_changes_nothing(
    victim: int, how: str, after: float
) -> None:
    table = settled([7, 7, 7, 7])
    asker = table.peers[0]
    text, sets = list(PROMPT), []
    for _ in range(5):
        sets.append(rarest(7, text, 5))
        text.append(int(np.argmax(brute([7], text, sets[-1]))))
    action = table.kill if how == "kill" else table.freeze
    table.at(table.now + after, lambda: action(table.peers[victim]))
    table.ask(asker, order(Turns(tuple(sets))))
    assert table.finish(asker).reason == "eos"
    assert table.tokens(asker) == text[len(PROMPT) :]


def _overheard(table: Tabletop, change: object) -> list[object]:
    """Every question that is sent; `change` gives what a Scores becomes on its way."""
    asked: list[object] = []
    deliver = table._deliver

    def passing(sender, to, message) -> None:  # type: ignore[no-untyped-def]
        asked.append(message)
        deliver(sender, to, change(message))  # type: ignore[operator]

    table._deliver = passing  # type: ignore[method-assign]
    return asked


def test_an_expert_that_answers_with_what_is_not_allowed_breaks_the_protocol() -> None:
    table = settled([None, 7, 7])
    asker = table.peers[0]
    allowed = rarest(7, PROMPT, 4)
    wrong = encode_logits(np.zeros(VOCABULARY, dtype=np.float32), 256, 0)
    last: list[object] = []

    def change(message: object) -> object:
        if isinstance(message, ScoreAllowed):
            last.append(message)
        if last and isinstance(message, Scores) and len(message.target_logprobs) == 2:
            return replace(message, lists=(wrong,))
        return message

    _overheard(table, change)
    table.ask(asker, order(Turns((allowed,)), k=2))
    assert table.finish(asker).reason == "error"
    assert any("not asked about" in why for why in table.seats[asker].penalised)


def test_an_expert_that_does_not_say_that_it_knows_the_question_is_not_asked_it() -> None:
    table = settled([None, 7, 7])
    asker = table.peers[0]
    roster = table.seats[asker].node._roster
    plain = roster.askable

    def without(now: float) -> list[object]:
        return [(peer, replace(record, ext=b"")) for peer, record in plain(now)]

    roster.askable = without  # type: ignore[method-assign, assignment]
    asked = _overheard(table, lambda message: message)
    table.ask(asker, order(Turns((rarest(7, PROMPT, 4),)), k=2))
    end = table.finish(asker)
    assert end.reason == "error"
    assert "grammar" in end.error
    assert not any(isinstance(one, ScoreAllowed) for one in asked)
    assert any(type(one) is Score for one in asked)
    assert not table.seats[asker].penalised


def test_greedy_and_seeded_runs_use_the_random_numbers_of_plain_ones() -> None:
    """A grammar that allows everything changes no token."""
    every = tuple(range(VOCABULARY))
    texts = []
    for grammar in (None, Turns((every,) * 8)):
        table = settled([7, 8, 9])
        asked = GenerateRequest(
            PROMPT, k=3, max_tokens=8, vocab_size=VOCABULARY, sampling=Sampling(seed=5)
        )
        table.ask(table.peers[0], replace(asked, grammar=grammar))
        table.finish(table.peers[0])
        texts.append(table.tokens(table.peers[0]))
    assert texts[0] == texts[1]


class Seen(Turn):
    """Notes when it is asked what is allowed, and for how many tokens."""

    def __init__(self, sets: Sequence[tuple[int, ...]], table: Tabletop) -> None:
        super().__init__(sets)
        self.table, self.asked = table, list[tuple[int, float]]()

    def allowed(self) -> TokenSet:
        self.asked.append((len(self.sets), self.table.now))
        return super().allowed()


@dataclass(frozen=True)
class Watched(Turns):
    constraint: Seen

    def begin(self) -> Constraint:
        return self.constraint


def test_what_is_allowed_is_worked_out_once_a_token_while_the_experts_are() -> None:
    table = settled([None, 8, 9])
    sets = (tuple(range(9)), tuple(range(VOCABULARY)), (4, 5))
    constraint = Seen(sets, table)
    table.ask(table.peers[0], order(Watched(sets, constraint)))
    begun = table.now
    assert table.finish(table.peers[0]).tokens == 3
    lefts = [left for left, _ in constraint.asked]
    assert lefts == sorted(set(lefts), reverse=True)
    assert lefts[0] == 3
    assert constraint.asked[0][1] == pytest.approx(begun + PREPARE_S)
    assert 2 * table.seats[table.peers[1]].delay_s > PREPARE_S, "else nothing was shown"


def test_a_grammar_that_cannot_be_followed_ends_an_answer_that_nobody_has_answered_yet() -> None:
    table = settled([None, 8, 9])
    table.ask(table.peers[0], order(Turns(((), (4, 5)))))
    end = table.finish(table.peers[0])
    assert (end.reason, end.tokens) == ("error", 0)
    assert "no token of this vocabulary" in end.error
