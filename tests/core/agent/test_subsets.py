from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.agent.domains import DOMAINS
from swarmllm.core.agent.subsets import (
    Merits,
    domain_of,
    runner_of,
    subsets_of,
)
from swarmllm.messages import PeerId

merits = st.dictionaries(st.sampled_from(DOMAINS), st.floats(0.01, 100.0))
peers = st.text("abcdefgh", min_size=1, max_size=6).map(PeerId)
experts = st.dictionaries(peers, merits, max_size=40)
epochs = st.integers(0, 1 << 40)
some_domains = st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=4, unique=True)


@given(epochs, some_domains, experts, st.integers(0, 12))
def test_each_expert_and_each_domain_is_in_exactly_one_subset(
    epoch: int, domains: list[str], known: Mapping[PeerId, Merits], least: int
) -> None:
    found = subsets_of(epoch, domains, known, least)
    assert sorted(peer for subset in found for peer in subset.experts) == sorted(known)
    named = [domain for subset in found for domain in subset.domains]
    assert sorted(named) == sorted(domains)
    if len(found) > 1:
        assert min(len(subset.experts) for subset in found) >= least


@given(epochs, experts, st.integers(0, 12), st.randoms())
def test_whoever_knows_the_same_experts_finds_the_same_subsets(
    epoch: int, known: Mapping[PeerId, Merits], least: int, rng: object
) -> None:
    names = list(known)
    rng.shuffle(names)  # type: ignore[attr-defined]
    shuffled = {name: known[name] for name in names}
    assert subsets_of(epoch, DOMAINS, shuffled, least) == subsets_of(epoch, DOMAINS, known, least)


@given(epochs, experts, peers, merits)
def test_an_expert_that_comes_or_goes_moves_no_other(
    epoch: int, known: Mapping[PeerId, Merits], newcomer: PeerId, its: Merits
) -> None:
    def places(of: Mapping[PeerId, Merits]) -> dict[PeerId, tuple[str, ...]]:
        found = subsets_of(epoch, DOMAINS, of, least=0)
        return {peer: subset.domains for subset in found for peer in subset.experts}

    before, after = places(known), places({newcomer: its, **known})
    assert before == {peer: after[peer] for peer in known}


def test_lots_are_even_and_merit_is_a_factor_of_the_chance() -> None:
    crowd = [PeerId(f"peer {n}") for n in range(4000)]
    even = Counter(domain_of(3, DOMAINS, peer, {}) for peer in crowd)
    assert all(900 < even[domain] < 1100 for domain in DOMAINS), even
    keen = Counter(domain_of(3, DOMAINS, peer, {"storage": 3.0}) for peer in crowd)
    assert 1900 < keen["storage"] < 2100, keen  # Three of six.
    boaster = Counter(domain_of(3, DOMAINS, peer, {"storage": 1e9}) for peer in crowd)
    assert boaster["storage"] < 3500, boaster  # Sixteen of nineteen, not all.


def test_an_epoch_draws_anew() -> None:
    crowd = [PeerId(f"peer {n}") for n in range(400)]
    stay = sum(domain_of(1, DOMAINS, one, {}) == domain_of(2, DOMAINS, one, {}) for one in crowd)
    assert 60 < stay < 140, stay


def test_one_node_runs_a_domain_and_each_has_its_turn() -> None:
    nodes = [PeerId(f"node {n}") for n in range(20)]
    run = Counter(runner_of(epoch, "network", nodes) for epoch in range(400))
    assert set(run) == set(nodes)
    assert max(run.values()) < 50
    first = runner_of(7, "network", nodes)
    assert runner_of(7, "network", nodes[::-1]) == first, "whatever order they are known in"
    others = [node for node in nodes if node != first]
    assert runner_of(7, "network", others) in others
    assert {runner_of(7, domain, nodes) for domain in DOMAINS} != {first}
    assert runner_of(7, "network", []) is None
