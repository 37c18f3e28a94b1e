"""The graph of peers."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.api.console.graph import DOTS_MAX, HEIGHT, WIDTH, Dot, graph_of
from tests.api.console.records import expert, status

TIMES = st.one_of(st.none(), st.floats(0.0, 1e9))


def away(dot: Dot) -> float:
    return math.hypot(dot.x - WIDTH / 2, dot.y - HEIGHT / 2)


def test_a_graph_of_nobody_is_empty() -> None:
    assert graph_of(status(peers=[], experts=[])).dots == ()


@given(st.lists(TIMES, max_size=DOTS_MAX + 5))
def test_the_nearer_the_shorter_the_round_trip_and_all_is_within_the_picture(
    times: list[float | None],
) -> None:
    peers = [f"12D3KooW{at:06}" for at in range(len(times))]
    experts = [expert(peer, round_ms=time) for peer, time in zip(peers, times, strict=True)]
    graph = graph_of(status(peers=peers, experts=experts))
    assert len(graph.dots) == min(len(times), DOTS_MAX)
    assert graph.left_out == len(times) - len(graph.dots)
    radii = [away(dot) for dot in graph.dots]
    assert all(one <= other + 0.2 for one, other in pairwise(radii))
    assert all(0 < dot.x < WIDTH and 0 < dot.y < HEIGHT for dot in graph.dots)


def test_a_peer_without_an_expert_is_drawn_as_one() -> None:
    graph = graph_of(status())
    assert [dot.kind for dot in graph.dots] == ["expert", "peer"]
    assert graph.dots[1].title == "…ooWtwo, …ooWtwo: not measured yet"


def test_a_long_name_is_shortened_beside_its_dot_and_whole_in_its_title() -> None:
    graph = graph_of(status(experts=[expert("12D3KooWone", model="a" * 32)]))
    assert graph.dots[0].label == "a" * 12 + "…"
    assert "a" * 32 in graph.dots[0].title
