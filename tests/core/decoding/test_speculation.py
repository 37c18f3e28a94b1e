"""Laws of speculation: it changes how long a text takes, and never the text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.decoding.speculation import (
    AHEAD_ODDS,
    BYTES_MAX,
    DRAFT_MAX,
    MATCH_MIN,
    LookUp,
    Speculation,
)
from swarmllm.core.events import Ended, TokenChosen
from swarmllm.core.inputs import Cancelled, EngineLost
from swarmllm.core.values import GenerateRequest, Sampling, SessionKey, Speculative
from swarmllm.messages import ExpertReply, Score, ScoreDraft
from swarmllm.testing.tabletop import Tabletop

PROMPT = (3, 1, 4, 1, 5)
MODES: tuple[Speculative, ...] = ("auto", "local", "lookup", "remote")


def order(sampling: Sampling, mode: Speculative, k: int, tokens: int = 40) -> GenerateRequest:
    return GenerateRequest(
        PROMPT, k=k, max_tokens=tokens, sampling=sampling, vocab_size=512, speculation=mode
    )


def settled(seeds: list[int | None], delay_s: float = 0.1) -> Tabletop:
    table = Tabletop(seeds)
    for seat in table.seats.values():
        seat.delay_s = delay_s
    table.run_until(2.0)
    return table


def written(
    seeds: list[int | None], wanted: GenerateRequest, harm: Callable[[Tabletop], None] | None = None
) -> tuple[list[TokenChosen], Ended, float]:
    table = settled(seeds)
    asker, began = table.peers[0], table.now
    if harm is not None:
        harm(table)
    table.ask(asker, wanted)
    end = table.finish(asker, within_s=600.0)
    return table.chosen(asker), end, table.now - began


def tokens_of(chosen: Sequence[TokenChosen]) -> list[int]:
    return [one.token for one in chosen]


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
    top_p=st.sampled_from([0.8, 1.0]),
    top_k=st.sampled_from([0, 5]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    bias=st.sampled_from([(), ((7, 3.0), (9, -100.0))]),
    seed=st.integers(0, 2**63 - 1),
)


# --- the text -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    samplings,
    st.sampled_from([[7, 7, 7, 7], [7, 7, 8, 9], [7, 8, 9, 10], [None, 7, 8, 9]]),
)
def test_a_seed_gives_the_same_text_with_speculation_and_without(
    sampling: Sampling, seeds: list[int | None]
) -> None:
    """Where all experts have a say: with fewer it is chance who answers first, in either mode."""
    k = len(seeds) - seeds.count(None)
    strict, *_ = written(seeds, order(sampling, "off", k))
    for mode in MODES:
        found, end, _ = written(seeds, order(sampling, mode, k))
        assert tokens_of(found) == tokens_of(strict)
        assert [one.index for one in found] == list(range(40))
        assert (end.reason, end.tokens) == ("length", 40)


Harm = st.tuples(
    st.integers(0, 3), st.sampled_from(["kill", "freeze", "lose"]), st.floats(0.0, 2.0)
)


@settings(deadline=None, max_examples=40)
@given(samplings, st.integers(1, 4), st.lists(Harm, max_size=3, unique_by=lambda h: h[0]))
def test_no_token_is_lost_or_doubled_whoever_dies_in_the_middle_of_a_draft(
    sampling: Sampling, k: int, harm: list[tuple[int, str, float]]
) -> None:
    """Replicas, so that the text is the same whoever is left."""

    def harmed(table: Tabletop) -> None:
        for victim, how, after in harm:
            peer = table.peers[victim]
            if how == "lose" or victim == 0:  # Its engine: the node itself is the one that asks.
                act = lambda p=peer: table.feed(p, EngineLost("it died"))  # noqa: E731
            else:
                act = {
                    "kill": lambda p=peer: table.kill(p),
                    "freeze": lambda p=peer: table.freeze(p),
                }[how]
            table.at(table.now + after, act)

    strict, *_ = written([7, 7, 7, 7, 7], order(sampling, "off", k))
    found, end, _ = written([7, 7, 7, 7, 7], order(sampling, "local", k), harmed)
    assert tokens_of(found) == tokens_of(strict)
    assert [one.index for one in found] == list(range(40))
    assert (end.reason, end.tokens) == ("length", 40)


@pytest.mark.parametrize("mode", MODES)
def test_a_stop_token_ends_the_text_where_it_ends_without_a_draft(mode: Speculative) -> None:
    sampling = Sampling(temperature=0.0)
    strict, *_ = written([7, 7, 7, 7], order(sampling, "off", 4))
    for place in range(3, 20):
        stops = frozenset({strict[place].token})
        cut = next(i for i, one in enumerate(strict) if one.token in stops)
        found, end, _ = written([7, 7, 7, 7], replace(order(sampling, mode, 4), stop_tokens=stops))
        assert tokens_of(found) == tokens_of(strict)[: cut + 1]
        assert (end.reason, end.tokens) == ("eos", cut + 1)


@pytest.mark.parametrize("tokens", range(1, 20))
def test_a_draft_never_goes_beyond_the_tokens_that_are_wanted(tokens: int) -> None:
    found, end, _ = written([7, 7, 7, 7], order(Sampling(seed=2), "local", 4, tokens))
    assert (len(found), end.tokens, end.reason) == (tokens, tokens, "length")


def test_a_draft_ends_with_the_context_of_whoever_is_asked() -> None:
    strict, *_ = written([7, 7, 7], order(Sampling(seed=2), "off", 3))
    table = Tabletop([7, 7, 7], context_max=len(PROMPT) + 40)
    table.run_until(2.0)
    table.ask(table.peers[0], order(Sampling(seed=2), "local", 3))
    assert table.finish(table.peers[0]).reason == "length"
    assert table.tokens(table.peers[0]) == tokens_of(strict)


@pytest.mark.parametrize("after_s", [0.41, 0.43, 0.45, 0.5, 0.6])
def test_a_cancelled_draft_ends_once_and_frees_every_cache(after_s: float) -> None:
    table = settled([7, 7, 7])
    asker = table.peers[0]
    table.ask(asker, order(Sampling(seed=2), "local", 3, 1000))
    table.run_until(table.now + after_s)
    table.feed(asker, Cancelled(1, "cancelled"))
    table.run_until(table.now + 1.0)
    (end,) = table.ends(asker)
    assert (end.reason, end.tokens) == ("cancelled", len(table.tokens(asker)))
    for seat in table.seats.values():
        assert seat.model is not None
        assert seat.model.load.sessions_free == seat.model.load.sessions_max


# --- what it gains --------------------------------------------------------------------------------


def test_where_the_drafter_is_right_a_round_brings_many_tokens() -> None:
    strict, _, slow_s = written([7, 7, 7, 7], order(Sampling(seed=3), "off", 4, 100))
    found, end, fast_s = written([7, 7, 7, 7], order(Sampling(seed=3), "local", 4, 100))
    assert {one.shared for one in strict} == {1}
    assert fast_s < slow_s / 6
    assert end.accepted == end.drafted > 60
    assert max(one.shared for one in found) > DRAFT_MAX / 2
    rounds = [one.round for one in found]
    assert all(rounds.count(one.round) == one.shared for one in found)


def test_while_others_are_asked_our_own_expert_makes_the_next_draft(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step of its engine takes a fiftieth of a round."""
    times = []
    for odds in (AHEAD_ODDS, math.inf):
        for name in ("AHEAD_ODDS", "LATE_ODDS"):
            monkeypatch.setattr(f"swarmllm.core.decoding.speculation.{name}", odds)
        table = settled([7, 7, 7, 7])
        table.seats[table.peers[0]].service_s = 0.004
        began = table.now
        table.ask(table.peers[0], order(Sampling(seed=3), "local", 4, 600))
        end = table.finish(table.peers[0])
        assert end.accepted == end.drafted
        times.append((table.now - began, tokens_of(table.chosen(table.peers[0]))))
    (ahead_s, text), (waiting_s, same) = times
    assert text == same
    assert ahead_s < 0.8 * waiting_s


def test_where_our_own_expert_was_ahead_in_vain_it_drafts_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is at a step when the verdict comes: the round waits for it, and has a draft."""
    rounds = []
    for odds in (0.0, math.inf):
        for name in ("AHEAD_ODDS", "LATE_ODDS"):
            monkeypatch.setattr(f"swarmllm.core.decoding.speculation.{name}", odds)
        table = settled([7, 8, 7, 7])
        table.seats[table.peers[0]].service_s = 0.006
        table.ask(table.peers[0], order(Sampling(seed=3), "local", 4, 400))
        table.finish(table.peers[0])
        rounds.append(table.chosen(table.peers[0])[-1].round)
    ahead, waiting = rounds
    assert ahead <= 1.1 * waiting


@settings(deadline=None, max_examples=25)
@given(samplings, st.integers(1, 120), st.floats(0.0005, 0.05), st.integers(0, 3))
def test_no_answer_of_our_own_expert_is_missed_because_it_is_ahead(
    sampling: Sampling, tokens: int, step_s: float, differ: int
) -> None:
    """Whatever comes true of what it has made, and however long its steps take: all are asked in
    each round, so the text is that of strict mode. It goes ahead here as long as a round lasts."""
    seeds: list[int | None] = [7, *(8 if i < differ else 7 for i in range(3))]
    texts = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AHEAD_ODDS", "LATE_ODDS"):
            patch.setattr(f"swarmllm.core.decoding.speculation.{name}", 0.0)
        for mode in ("off", "local"):
            table = settled(seeds)
            table.seats[table.peers[0]].service_s = step_s
            table.ask(table.peers[0], order(sampling, mode, 4, tokens))
            table.finish(table.peers[0], within_s=600.0)
            chosen = table.chosen(table.peers[0])
            assert {len(one.experts) for one in chosen} == {4}
            texts.append(tokens_of(chosen))
    assert texts[0] == texts[1]


def test_a_requester_without_an_expert_gets_drafts_from_a_remote_one() -> None:
    sampling = Sampling(temperature=0.0)
    strict, _, slow_s = written([None, 7, 7, 7], order(sampling, "off", 3, 100))
    found, end, fast_s = written([None, 7, 7, 7], order(sampling, "auto", 3, 100))
    assert tokens_of(found) == tokens_of(strict)
    assert fast_s < slow_s / 3
    assert end.accepted > 60


def test_a_remote_expert_that_is_wrong_is_seldom_asked_to_go_on() -> None:
    """Over a short way, where its steps hold up the round; and none is of use where it does not
    even know the next token."""
    table = settled([None, 7, 8, 9], delay_s=0.005)
    asked: list[bool] = []
    for peer in table.peers[1:]:
        model = table.seats[peer].model
        assert model is not None

        def score(
            key: SessionKey,
            request: Score,
            answer: Callable[[SessionKey, Score], ExpertReply] = model.score,
        ) -> ExpertReply:
            asked.append(isinstance(request, ScoreDraft))
            return answer(key, request)

        model.score = score  # type: ignore[method-assign]
    table.ask(table.peers[0], order(Sampling(seed=1), "remote", 3, 200))
    table.finish(table.peers[0], within_s=600.0)
    assert 1 <= sum(asked) <= 40
    assert len(asked) > 500


def test_where_the_drafter_is_wrong_hardly_anything_is_lost() -> None:
    """Models that have nothing to do with each other: few drafts hold."""
    seeds: list[int | None] = [6, 7, 8, 9, 10, 11]
    for temperature in (0.0, 1.0):
        sampling = Sampling(temperature=temperature, seed=1)
        _, _, slow_s = written(seeds, order(sampling, "off", 6, 200))
        _, _, fast_s = written(seeds, order(sampling, "auto", 6, 200))
        assert fast_s < 1.03 * slow_s


def test_on_a_short_way_nothing_is_drafted() -> None:
    table = settled([7, 7, 7, 7], delay_s=0.0001)
    table.ask(table.peers[0], order(Sampling(seed=3), "auto", 4, 100))
    end = table.finish(table.peers[0])
    assert end.drafted < 25


def test_a_text_that_repeats_itself_is_looked_up() -> None:
    """A bias so strong that the same three tokens come again and again."""
    cycle = ((11, 100.0),)
    strict, _, slow_s = written(
        [None, 7, 7, 7], order(Sampling(temperature=0.0, bias=cycle), "off", 3, 60)
    )
    found, end, fast_s = written(
        [None, 7, 7, 7], order(Sampling(temperature=0.0, bias=cycle), "lookup", 3, 60)
    )
    assert tokens_of(found) == tokens_of(strict)
    assert fast_s < slow_s / 2
    assert end.accepted > 40


# --- deciding -------------------------------------------------------------------------------------


def trained(step_s: float, wait_s: float, share: float, size: int = 450) -> Speculation:
    known = Speculation()
    known.stepped("local", step_s)
    known.listed(size, 1)
    for i in range(200):
        known.verified("local", [0.9], int((i * share) % 1 < share and share > 0), is_cut=False)
        known.finished(1, 0, wait_s, 0.0, None)
    return known


def length(known: Speculation, share: float) -> int:
    reached, expected, count = share, 0.0, 0
    while known.is_worth("local", reached, count + 1, expected):
        expected, reached, count = expected + reached, reached * share, count + 1
    return count


@given(st.floats(0.001, 0.05), st.floats(0.001, 1.0), st.floats(0.05, 0.99))
def test_a_draft_is_bounded_and_is_longer_where_the_way_is(
    step_s: float, wait_s: float, share: float
) -> None:
    near, far = (length(trained(step_s, s, 0.5), share) for s in (wait_s, 4 * wait_s))
    assert 0 <= near <= far <= DRAFT_MAX


def test_without_a_measured_round_nothing_is_drafted() -> None:
    assert not Speculation().pays("local", 0.0)
    assert not Speculation().is_worth("local", 1.0, 1, 0.0)


def test_a_drafter_that_is_always_wrong_is_not_believed_for_what_it_never_was() -> None:
    """All of its tokens fall into one class, and of the others nothing is known."""
    known = trained(0.003, 0.2, 0.0)
    assert known.ahead(0, 0.003)[0] > 0
    for _ in range(60):
        known.verified("remote", [0.1], 0, is_cut=False)
    assert known.ahead(0, 0.003)[0] == 0


@given(st.floats(0.05, 0.95))
def test_what_an_emitted_token_costs_in_bytes_is_bounded(share: float) -> None:
    known, size = trained(0.0001, 10.0, 0.5, 800), 800
    count = length(known, share)
    expected = sum(share**i for i in range(1, count + 1))
    assert count <= 2 or (count + 1) * size / (1 + expected) <= BYTES_MAX + 1


# --- looking up -----------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 20), st.integers(0, 59))
def test_a_look_up_finds_what_followed_the_same_tokens(
    text: list[int], most: int, step: int
) -> None:
    looking = LookUp()
    looking.find(text[:step], most)  # It is asked as the text grows.
    found, matched = looking.find(text, most)
    ends = [
        end
        for end in range(MATCH_MIN, len(text))
        if text[end - MATCH_MIN : end] == text[-MATCH_MIN:]
    ]
    assert len(found) == (most if ends else 0)
    if found:
        end = ends[-1]
        assert list(found) == (text[end:] * most)[:most]
        assert text[end - matched : end] == text[len(text) - matched :]
