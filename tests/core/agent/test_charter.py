"""What a charter grants an agent, and what is not understood of it grants nothing more."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.agent.budget import FULL_S, QUIET_S, Budget
from swarmllm.core.agent.charter import ATTEMPTS_MAX, SHARE_MAX, USUAL, Grant, grant_in, naming
from swarmllm.core.validation.objective import PARTS
from swarmllm.wire.ext import AGENT_TERMS, addition

WEIGHTS = st.dictionaries(
    st.sampled_from([part.name for part in PARTS]), st.integers(0, 1_000_000), max_size=6
)


@given(
    st.integers(1, 1_440),
    st.integers(0, 1_440),
    st.integers(0, SHARE_MAX),
    st.integers(1, ATTEMPTS_MAX),
    WEIGHTS,
)
@settings(max_examples=60)
def test_what_is_named_is_what_is_granted(
    interval: int, more: int, share: int, attempts: int, weights: dict[str, int]
) -> None:
    usual = {part.name: part.weight for part in PARTS}
    others = {name: w / 1000 for name, w in weights.items() if w / 1000 != usual[name]}
    grant = Grant(interval, min(1_440, interval + more), share, attempts, others)
    ext = naming(grant)
    assert grant_in(ext) == grant
    assert len(ext) <= 64, "as long as an `ext` may be"


@given(st.binary(max_size=62))
@settings(max_examples=80)
def test_whatever_else_stands_there_grants_what_is_usual_or_less_than_the_most(data: bytes) -> None:
    for ext in (data, addition(AGENT_TERMS, data)):
        found = grant_in(ext)
        assert found == USUAL or found.share_permille <= SHARE_MAX
        assert found.attempts <= ATTEMPTS_MAX
        assert found.terms.interval_s >= 60


def test_a_budget_is_a_share_of_the_time_and_nothing_is_asked_while_a_user_waits() -> None:
    budget = Budget(0.05)
    budget.fill(0.0)
    budget.spend(100.0)
    assert not budget.may_ask(0.0)
    budget.fill(1_000.0)
    assert budget.left_s == FULL_S / 2 - 100 + 50
    assert budget.may_ask(1_000.0)
    budget.user_came(1)
    budget.user_came(2)
    budget.user_left(1, 1_000.0)
    assert not budget.may_ask(1_010.0), "another one waits"
    budget.user_left(2, 1_000.0)
    assert not budget.may_ask(1_000.0 + QUIET_S - 0.1)
    assert budget.may_ask(1_000.0 + QUIET_S)
    budget.user_left(99, 2_000.0)
    assert budget.may_ask(1_010.0), "nobody's answer"
    budget.fill(10.0**9)
    assert budget.left_s == FULL_S, "no more can be saved up"


def test_the_size_that_the_protocol_names() -> None:
    (data,) = [naming(USUAL)[2:]]
    assert len(data) == 31
