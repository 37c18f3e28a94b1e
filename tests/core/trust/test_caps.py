"""Laws of the caps: many names buy nothing, and a swarm of strangers still works."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.peers.eviction import block_of
from swarmllm.core.trust.caps import capped, crowded
from swarmllm.messages import PeerId

VOICES = [PeerId(name) for name in "abcdefgh"]
Kinds = st.lists(
    st.tuples(st.floats(0.01, 10), st.floats(0.01, 10), st.integers(-1, 3)), min_size=1, max_size=8
)


@given(Kinds, st.floats(0.05, 0.9))
def test_under_the_caps(kinds: list[tuple[float, float, int]], new_share: float) -> None:
    voices = VOICES[: len(kinds)]
    total = sum(share for share, _, _ in kinds)
    shares = {v: kind[0] / total for v, kind in zip(voices, kinds, strict=True)}
    priors = {v: kind[1] for v, kind in zip(voices, kinds, strict=True)}
    new = {v: bytes([kind[2]]) for v, kind in zip(voices, kinds, strict=True) if kind[2] >= 0}
    found = capped(shares, priors, new, new_share)
    assert found.keys() == shares.keys()
    assert sum(found.values()) == pytest.approx(1.0)
    known = [v for v in voices if v not in new]
    if not known:
        return
    assert sum(found[v] for v in new) <= new_share + 1e-9
    for digest in set(new.values()):
        group = [v for v in new if new[v] == digest]
        most = max(priors[v] for v in group) / sum(priors.values())
        assert sum(found[v] for v in group) <= most + 1e-9
    for one in known:  # Among those that are known nothing changes.
        assert found[one] / found[known[0]] == pytest.approx(shares[one] / shares[known[0]])


def test_where_all_are_new_the_prior_decides_and_a_digest_has_one_part_of_it() -> None:
    a, b, c = VOICES[:3]
    claimed = {a: 0.98, b: 0.01, c: 0.01}
    found = capped(claimed, dict.fromkeys((a, b, c), 1.0), {a: b"x", b: b"y", c: b"z"}, 0.333)
    assert found == pytest.approx({a: 1 / 3, b: 1 / 3, c: 1 / 3})
    one_name = capped(claimed, dict.fromkeys((a, b, c), 1.0), {a: b"x", b: b"y", c: b"y"}, 0.333)
    assert one_name == pytest.approx({a: 1 / 2, b: 1 / 4, c: 1 / 4})


def test_who_is_alone_has_all_of_the_weight_new_or_not() -> None:
    assert capped({VOICES[0]: 1.0}, {VOICES[0]: 0.3}, {VOICES[0]: b"x"}, 0.333) == {VOICES[0]: 1.0}


def test_a_block_has_few_newcomers_that_weigh_and_this_machine_any_number() -> None:
    rack = [(PeerId(f"r{i}"), block_of(f"8.8.8.{i}")) for i in range(1, 9)]
    town = [(PeerId(f"t{i}"), block_of(f"9.9.{i}.1")) for i in range(1, 9)]
    home = [(PeerId(f"h{i}"), block_of("127.0.0.1")) for i in range(9)]
    assert crowded([*rack, *town, *home], per_block=2, per_wide=4) == {
        *(PeerId(f"r{i}") for i in range(3, 9)),
        *(PeerId(f"t{i}") for i in range(5, 9)),
    }
    assert crowded(rack, per_block=9, per_wide=9) == frozenset()
