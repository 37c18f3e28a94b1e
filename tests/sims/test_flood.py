"""Floods: arrays and Dijkstra's own algorithm agree, on any graph."""

from __future__ import annotations

import heapq
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.sims.flood import (
    PLACES,
    SHARES,
    Bools,
    Floats,
    arrivals,
    copies,
    delays,
    hops,
    places_of,
)
from swarmllm.sims.overlay import Overlay, random_overlay


def one_by_one(
    overlay: Overlay, way: Floats, opens: Floats, held: Floats, passes_on: Bools, begun: Floats
) -> list[float]:
    heard = [float(t) for t in begun]
    queue = [(t, n) for n, t in enumerate(heard) if t < math.inf]
    heapq.heapify(queue)
    done: set[int] = set()
    while queue:
        when, node = heapq.heappop(queue)
        if node in done:
            continue
        done.add(node)
        if not passes_on[node]:
            continue
        for end in range(overlay.start[node], overlay.start[node] + overlay.degree[node]):
            leaves = when + held[node]
            comes = leaves + way[end] if leaves >= opens[end] else opens[end] + 3 * way[end]
            there = int(overlay.owner[overlay.mate[end]])
            if comes < heard[there]:
                heard[there] = float(comes)
                heapq.heappush(queue, (heard[there], there))
    return heard


@given(
    st.integers(2, 80),
    st.integers(1, 6),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
    st.integers(0, 2**32),
)
def test_arrivals_are_those_of_dijkstra(
    nodes: int, degree: int, closed: float, silent: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    overlay = random_overlay(nodes, degree, degree + 2, rng)
    way = delays(overlay, places_of(nodes, rng), rng)
    opens = np.where(rng.random(len(way)) < closed, rng.choice([0.05, 0.3, np.inf], len(way)), 0.0)
    held = rng.exponential(0.01, nodes)
    passes_on = rng.random(nodes) >= silent
    begun = np.where(np.arange(nodes) == 0, 0.0, np.inf)
    begun[rng.integers(nodes)] = 0.2
    expected = one_by_one(overlay, way, opens, held, passes_on, begun)
    np.testing.assert_allclose(
        arrivals(overlay, way, opens, held, passes_on, begun), expected, rtol=1e-12
    )


@given(st.integers(2, 200), st.integers(0, 2**32))
def test_each_connection_carries_one_or_two_copies(nodes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    overlay = random_overlay(nodes, 4, 6, rng)
    way, held = delays(overlay, places_of(nodes, rng), rng), np.full(nodes, 0.003)
    everybody = np.ones(nodes, bool)
    heard = arrivals(
        overlay,
        way,
        np.zeros(len(way)),
        held,
        everybody,
        np.where(np.arange(nodes) == 0, 0.0, np.inf),
    )
    reached = int(np.isfinite(heard[overlay.owner]).sum())
    assert reached / 2 <= copies(overlay, way, held, heard) <= reached


@given(st.integers(2, 80), st.floats(0, 0.9), st.integers(0, 2**32))
def test_hops_are_those_of_a_breadth_first_search(nodes: int, silent: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    overlay = random_overlay(nodes, 2, 4, rng)
    passes_on = rng.random(nodes) >= silent
    passes_on[0] = True
    expected = [-1] * nodes
    expected[0], line = 0, [0]
    for node in line:
        for other in overlay.neighbours(node).tolist() if passes_on[node] else []:
            if expected[other] < 0:
                expected[other] = expected[node] + 1
                line.append(other)
    assert hops(overlay, passes_on, 0).tolist() == expected


def test_the_shares_of_the_places_are_all_there_is() -> None:
    assert len(PLACES) == len(SHARES)
    assert math.isclose(sum(SHARES), 1.0)
