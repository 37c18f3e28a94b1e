"""The random graph: every connection has two ends that know each other, and nobody gains or loses
connections by rewiring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.sims.overlay import Overlay, random_overlay, wrong_ends


def check(overlay: Overlay) -> None:
    ends = np.arange(len(overlay.owner))
    assert (overlay.mate[overlay.mate] == ends).all()
    assert (overlay.mate != ends).all()
    assert (np.bincount(overlay.owner, minlength=overlay.nodes) == overlay.degree).all()
    assert (overlay.owner[overlay.start] == np.arange(overlay.nodes)).all()


@given(st.integers(2, 60), st.integers(1, 12), st.integers(0, 12), st.integers(0, 2**32))
def test_ends_stay_paired_and_degrees_stay_whatever_is_done(
    nodes: int, low: int, more: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    overlay = random_overlay(nodes, low, low + more, rng)
    check(overlay)
    degrees = overlay.degree.copy()
    overlay.rewire(20, rng)
    overlay.replace(int(rng.integers(nodes)), rng)
    check(overlay)
    assert (overlay.degree == degrees).all()


@given(st.integers(0, 2**32))
def test_a_sparse_graph_has_neither_loops_nor_doubles(seed: int) -> None:
    overlay = random_overlay(300, 4, 12, np.random.default_rng(seed))
    assert not len(wrong_ends(overlay))
    for node in range(300):
        neighbours = overlay.neighbours(node).tolist()
        assert node not in neighbours
        assert len(set(neighbours)) == len(neighbours)


@pytest.mark.parametrize("nodes", [2, 3, 10, 33])
def test_a_small_swarm_is_complete(nodes: int) -> None:
    overlay = random_overlay(nodes, 32, 64, np.random.default_rng(1))
    check(overlay)
    for node in range(nodes):
        assert sorted(overlay.neighbours(node).tolist()) == [n for n in range(nodes) if n != node]


def test_a_newcomer_has_other_neighbours() -> None:
    rng = np.random.default_rng(1)
    overlay = random_overlay(1_000, 20, 20, rng)
    before = set(overlay.neighbours(7).tolist())
    overlay.replace(7, rng)
    assert len(before & set(overlay.neighbours(7).tolist())) <= 4
