"""The observer: what goes in comes out as figures, and strangers make no more of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.effects import Emit, Penalise, Send
from swarmllm.core.events import Ended, EndReason, ExpertUse, NodeHalted, TokenChosen
from swarmllm.core.inputs import Asked, EngineLost, EngineReady, PeerLost, Received, Scored
from swarmllm.core.metrics import table
from swarmllm.core.metrics.observer import MODEL_CHARS_MAX, MODELS_MAX, OTHER, Observer, Spread
from swarmllm.core.metrics.table import METRICS, Metric
from swarmllm.core.values import EngineLoad, GenerateRequest, ModelCard
from swarmllm.messages import (
    NO_HALT_DIGEST,
    REFUSED_CONTEXT,
    Busy,
    PeerId,
    Refused,
    Scores,
    Shuffle,
)

PEER = PeerId("12D3KooW")


def use(model: str = "prose", size_bytes: int = 400, used: bool = True) -> ExpertUse:
    return ExpertUse(PEER, model, 0.5, size_bytes, 0.02, used)


def token(index: int, round: int, *experts: ExpertUse, k: int = 1) -> Emit:
    return Emit(TokenChosen(1, index, 7, -0.1, round, k, 0.03, experts, 1.0))


def ended(reason: EndReason = "eos", tokens: int = 3, failovers: int = 0) -> Emit:
    return Emit(Ended(1, reason, tokens, failovers, 0))


def value(observer: Observer, metric: Metric, *labels: str) -> float:
    """0 where nothing was counted."""
    found = [one for one in observer.samples() if one.metric is metric and one.labels == labels]
    return found[0].value if found else 0.0


def counted(observer: Observer, metric: Metric, *labels: str) -> int:
    """How many values a histogram has."""
    found = [one for one in observer.samples() if one.metric is metric and one.labels == labels]
    return sum(found[0].counts) if found else 0


def test_an_answer_is_counted_with_its_tokens_its_times_and_its_experts() -> None:
    observer = Observer()
    observer.observe(Asked(1, GenerateRequest((1, 2, 3, 4))), 10.0)
    observer.observe(token(0, 0, use(), use("own", 0)), 10.5)
    observer.observe(token(1, 1, use(), use("code", used=False)), 10.6)
    observer.observe(token(2, 2, use()), 10.9)
    observer.observe(ended(failovers=2), 10.9)
    assert value(observer, table.TOKENS) == 3
    assert value(observer, table.REQUESTS, "eos") == 1
    assert value(observer, table.FIRST_TOKEN) == pytest.approx(0.5)
    assert value(observer, table.PER_TOKEN) == pytest.approx(0.2)
    assert value(observer, table.DURATION) == pytest.approx(0.9)
    assert value(observer, table.TOKEN_USAGE, "input") == 4
    assert value(observer, table.TOKEN_USAGE, "output") == 3
    assert value(observer, table.FAILOVERS) == 2
    assert counted(observer, table.ROUNDS) == 3
    assert value(observer, table.REPLIES, "prose", "pooled") == 3
    assert value(observer, table.REPLIES, "code", "late") == 1
    assert value(observer, table.EXPERT_BYTES, "prose") == 1200
    assert counted(observer, table.ROUND_TRIP, "prose") == 3
    # Our own expert's reply crosses no wire.
    assert value(observer, table.REPLIES, "own", "pooled") == 1
    assert counted(observer, table.ROUND_TRIP, "own") == 0


def test_a_round_of_several_tokens_counts_once_and_a_forced_token_is_no_round() -> None:
    observer = Observer()
    observer.observe(Asked(1, GenerateRequest((1,))), 0.0)
    for index in range(3):
        observer.observe(token(index, 0, use()), 1.0)
    observer.observe(token(3, 1, k=0), 1.0)
    assert value(observer, table.TOKENS) == 4
    observer.observe(Emit(Ended(1, "eos", 4, 0, 0, drafted=5, accepted=2)), 1.0)
    assert counted(observer, table.ROUNDS) == 1
    assert counted(observer, table.ROUND_TRIP, "prose") == 1
    assert value(observer, table.EXPERT_BYTES, "prose") == 1200  # Each has its part of the bytes.
    assert value(observer, table.DRAFTED) == 5
    assert value(observer, table.ACCEPTED) == 2


@pytest.mark.parametrize("reason", ["error", "halted"])
def test_an_answer_that_broke_off_says_nothing_of_the_time_of_a_token(reason: EndReason) -> None:
    observer = Observer()
    observer.observe(Asked(1, GenerateRequest((1,))), 0.0)
    observer.observe(token(0, 0), 1.0)
    observer.observe(token(1, 1), 1.0)
    observer.observe(ended(reason, 2), 99.0)
    assert value(observer, table.REQUESTS, reason) == 1
    assert counted(observer, table.PER_TOKEN) == 0


def test_answers_that_have_ended_leave_nothing_behind() -> None:
    observer = Observer()
    for request in range(1000):
        observer.observe(Asked(request, GenerateRequest((1,))), 0.0)
        observer.observe(Emit(Ended(request, "error", 0, 0, 0, "refused")), 0.0)
    assert observer._open == {}
    assert value(observer, table.REQUESTS, "error") == 1000


def test_refusals_of_others_and_of_ours_are_told_apart() -> None:
    observer = Observer()
    observer.observe(Received(PEER, Busy(1, 1, 100), 9), 0.0)
    observer.observe(Received(PEER, Refused(1, 1, REFUSED_CONTEXT), 9), 0.0)
    observer.observe(Received(PEER, Refused(1, 1, 200), 9), 0.0)
    observer.observe(Send(PEER, Busy(1, 1, 100)), 0.0)
    assert [value(observer, table.REFUSED_US, r) for r in ("busy", "context", OTHER)] == [1, 1, 1]
    assert value(observer, table.REFUSED_OTHERS, "busy") == 1


def test_the_workers_restarts_halts_peers_and_strikes_are_counted() -> None:
    observer = Observer()
    card = ModelCard("m", bytes(32), bytes(32), 9, 1, 64)
    ready = EngineReady(card, EngineLoad(0, 1, 1, 1.0))
    events: list[Any] = [ready, EngineLost("killed"), EngineLost("again"), ready]
    events += [PeerLost(PEER, "gone"), Penalise(PEER, "junk"), Emit(NodeHalted(("x",), "", 0))]
    events += [Received(PEER, Shuffle(bytes(8), (0,), (bytes(100),), 0), 123)]
    events += [Scored(1, Scores(1, 1, 0, (b"a", b"b"), b"", 0, 0, NO_HALT_DIGEST))]
    for event in events:
        observer.observe(event, 0.0)
    assert value(observer, table.RESTARTS) == 1
    assert value(observer, table.PEERS_LOST) == 1
    assert value(observer, table.STRIKES) == 1
    assert value(observer, table.HALTS) == 1
    assert value(observer, table.GOSSIP, "capacity", "received") == 123
    assert (value(observer, table.SERVED), value(observer, table.POSITIONS)) == (1, 2)


@given(names=st.lists(st.text(max_size=200), max_size=80))
def test_strangers_names_make_a_bounded_number_of_short_plain_labels(names: list[str]) -> None:
    observer = Observer()
    for name in names:
        observer.observe(token(0, -2, use(name)), 0.0)
    labels = {one.labels[0] for one in observer.samples() if one.metric is table.REPLIES}
    assert len(labels) <= MODELS_MAX + 1
    assert len(observer._models) <= MODELS_MAX
    for label in labels:
        assert 0 < len(label) <= MODEL_CHARS_MAX
        assert label.isascii()
        assert label.isprintable()
        assert not set(label) & {'"', "\\"}
    assert sum(one.value for one in observer.samples() if one.metric is table.REPLIES) == len(names)


@given(values=st.lists(st.floats(0, 1e6), max_size=50))
def test_a_value_lies_in_the_first_bucket_whose_bound_is_not_below_it(values: list[float]) -> None:
    bounds = (0.5, 1.0, 100.0)
    spread = Spread(bounds)
    for one in values:
        spread.add(one)
    for i, bound in enumerate(bounds):
        assert sum(spread.counts[: i + 1]) == sum(one <= bound for one in values)
    assert sum(spread.counts) == len(values)
    assert math.isclose(spread.sum, math.fsum(values), rel_tol=1e-9, abs_tol=1e-9)


def test_names_follow_prometheus_rules_and_stand_once() -> None:
    names = [one.name for one in METRICS]
    assert len(set(names)) == len(names)
    for one in METRICS:
        assert one.name.startswith(("swarmllm_", "gen_ai_")), one.name
        assert (one.kind == "counter") == one.name.endswith("_total"), one.name
        assert (one.kind == "histogram") == bool(one.buckets), one.name
        assert list(one.buckets) == sorted(set(one.buckets)), one.name
        if one.unit in {"seconds", "bytes"}:
            assert f"_{one.unit}" in one.name, one.name
