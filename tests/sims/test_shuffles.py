"""The model of records from hand to hand: its laws, and that it agrees with one node at a time in
plain Python."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.sims.sessions import Weibull
from swarmllm.sims.shuffles import STEP_S, Rule, Scheme, Shuffles
from tests.sims.plain_shuffles import PlainShuffles

rules: st.SearchStrategy[Rule] = st.sampled_from(["count", "youngest", "half", "uniform"])
schemes = st.builds(
    Scheme,
    every_s=st.floats(2, 12),
    records=st.integers(1, 9),
    ttl_s=st.floats(10, 120),
    rule=rules,
    silent=st.booleans(),
    balanced=st.booleans(),
    greet=st.integers(0, 20),
    reseal_s=st.sampled_from([0.0, 4.0]),
)


@settings(max_examples=30, deadline=None)
@given(schemes, st.integers(2, 120), st.integers(0, 2**32), st.booleans())
def test_tables_hold_each_living_author_once_and_never_the_owner(
    scheme: Scheme, nodes: int, seed: int, churn: bool
) -> None:
    sessions = Weibull(100, 0.6) if churn else None
    swarm = Shuffles(
        nodes, scheme, np.random.default_rng(seed), degree=(3, 20), sessions=sessions, rewire_s=30
    )
    for when in (5.0, 40.0):
        swarm.run_until(when)
        assert (swarm.issued[swarm.authors >= 0] <= swarm.now).all()
        assert (swarm.authors < swarm.identities).all()
        assert not (swarm.authors == swarm.ids[:, None]).any()
        for line in swarm.authors:
            known = line[line >= 0]
            assert len(np.unique(known)) == len(known)


@settings(max_examples=20, deadline=None)
@given(schemes, st.integers(2, 100), st.integers(0, 2**32))
def test_what_is_sent_is_received(scheme: Scheme, nodes: int, seed: int) -> None:
    swarm = Shuffles(nodes, scheme, np.random.default_rng(seed), degree=(3, 20))
    swarm.run_until(30)
    messages, records = int(swarm.messages_moved.sum()), int(swarm.records_moved.sum())
    assert messages % 4 == 0  # Two in each exchange, each counted at both ends.
    assert messages <= records * 2 <= 2 * scheme.records * messages
    assert len(np.unique(swarm.ids)) == nodes


@given(st.integers(0, 2**32))
@settings(max_examples=5, deadline=None)
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    def run() -> Shuffles:
        swarm = Shuffles(
            60, Scheme(), np.random.default_rng(seed), degree=(8, 16), sessions=Weibull(200, 0.6)
        )
        swarm.run_until(40)
        return swarm

    one, other = run(), run()
    assert (one.authors == other.authors).all()
    assert (one.issued == other.issued).all()
    assert (one.records_moved == other.records_moved).all()


@pytest.mark.parametrize(
    "scheme", [Scheme(), Scheme(records=7, every_s=6), Scheme(balanced=False)], ids=str
)
def test_the_arrays_agree_with_one_node_at_a_time(scheme: Scheme) -> None:
    """Within what two seeds of either differ by; the steps of half a second and what the ring
    forgets are in it."""
    nodes, warm, until = 250, 100.0, 160.0
    swarm = Shuffles(nodes, scheme, np.random.default_rng(1), degree=(16, 32), rewire_s=0)
    plain = PlainShuffles(
        [swarm.overlay.neighbours(n).tolist() for n in range(nodes)], scheme, seed=1
    )
    swarm.run_until(warm)
    swarm.records_moved[:] = 0
    swarm.run_until(until)
    plain.run_until(warm)
    for node in plain.nodes:
        node.records_moved = 0
    plain.run_until(until)
    here, there = swarm.fresh(60).sum(axis=1), np.asarray(plain.pools(60))
    assert swarm.records_moved.mean() == pytest.approx(
        np.mean([n.records_moved for n in plain.nodes]), rel=0.03
    )
    assert here.mean() == pytest.approx(there.mean(), rel=0.04)
    assert np.percentile(here, 5) == pytest.approx(np.percentile(there, 5), rel=0.08)
    ages = swarm.now - swarm.issued[swarm.fresh(60)]
    assert np.median(ages) == pytest.approx(np.median(plain.ages(60)), abs=1.5)


def pool_of(scheme: Scheme) -> float:
    swarm = Shuffles(400, scheme, np.random.default_rng(1))
    swarm.run_until(130)
    return float(np.percentile(swarm.fresh(60).sum(axis=1), 5))


def test_more_records_make_a_larger_pool_and_longer_periods_a_smaller_one() -> None:
    by_records = [pool_of(Scheme(records=n)) for n in (2, 4, 8)]
    by_period = [pool_of(Scheme(every_s=t)) for t in (3, 6, 12)]
    assert by_records == sorted(by_records)
    assert by_period == sorted(by_period, reverse=True)


def test_the_young_that_were_not_passed_on_beat_any_others() -> None:
    """Why the real node does it this way: a pool of twice the size for the same bytes."""
    assert pool_of(Scheme(rule="count")) > 1.7 * pool_of(Scheme(rule="uniform"))
    assert pool_of(Scheme(rule="count")) > 1.4 * pool_of(Scheme(rule="half"))


def test_counting_keeps_everybody_known_about_as_well() -> None:
    def spread(rule: Rule) -> float:
        swarm = Shuffles(1_000, Scheme(rule=rule, silent=False), np.random.default_rng(1))
        swarm.run_until(130)
        known = np.bincount(swarm.authors[swarm.fresh(60)], minlength=1_000)
        return float(known.std() / known.mean())

    assert spread("count") < 0.75 * spread("youngest")


def test_a_newcomer_that_greets_knows_more_at_once() -> None:
    for greet, least, most in ((0, 0, 0), (16, 40, 64)):
        swarm = Shuffles(500, replace(Scheme(), greet=greet), np.random.default_rng(1))
        swarm.run_until(100)
        swarm.replace(3)
        assert least <= int(swarm.fresh_of(np.array([3]), 60)[0]) <= most


def test_the_dead_are_forgotten_in_their_time() -> None:
    swarm = Shuffles(200, Scheme(ttl_s=60), np.random.default_rng(1))
    swarm.run_until(100)
    old = int(swarm.ids[5])
    swarm.replace(5)
    holding = []
    for _ in range(8):
        holding.append(int((swarm.authors[swarm.fresh(60)] == old).sum()))
        swarm.run_until(swarm.now + 10)
    assert holding[0] > 20
    assert holding[-1] == 0
    assert swarm.now % STEP_S == 0
