"""Lists are completed as the pool completes them; acceptance is what it is defined to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.cli.eval.lists import acceptance, complete, figures
from swarmllm.core.decoding.pooling import pool
from swarmllm.wire.sparse import decode_list
from swarmllm.wire.sparse_encoding import encode_logits

VOCABULARY = 500


def _lists(seed: int, count: int, entries: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [
        encode_logits(rng.normal(0, 3, VOCABULARY).astype(np.float32), entries, 0)
        for _ in range(count)
    ]


@given(st.integers(0, 5000), st.integers(1, 4), st.sampled_from([1, 7, 60]))
def test_lists_are_completed_as_the_pool_completes_them(
    seed: int, count: int, entries: int
) -> None:
    lists = [decode_list(data, entries, VOCABULARY) for data in _lists(seed, count, entries)]
    ids, table = complete(lists)
    weights = np.random.default_rng(seed).dirichlet(np.ones(count))
    theirs = pool(lists, weights.tolist())
    mixed = weights @ table
    assert ids.tolist() == theirs.ids.tolist()
    assert mixed / mixed.sum() == pytest.approx(theirs.probs)
    geometric = pool(lists, [1.0] * count, "geometric")
    logs = np.log(np.maximum(table, np.exp(-32.0))).mean(axis=0)
    assert np.exp(logs) / np.exp(logs).sum() == pytest.approx(geometric.probs)


def test_acceptance_is_one_with_oneself_symmetric_and_the_overlap() -> None:
    table = np.array([[0.5, 0.3, 0.2, 0.0], [0.1, 0.1, 0.2, 0.6], [0.25, 0.25, 0.25, 0.25]])
    found = acceptance(table, np.array([1.0, 0.0, 0.0]))
    assert np.diag(found[:, :3]) == pytest.approx([1, 1, 1])
    assert found[:, :3] == pytest.approx(found[:, :3].T)
    assert found[0, 1] == pytest.approx(0.1 + 0.1 + 0.2)
    # All weight on the first: the ensemble is the first.
    assert found[:, 3] == pytest.approx(found[:, 0])


def test_figures_agree_with_lists_that_hold_everything() -> None:
    rng = np.random.default_rng(4)
    probs = rng.dirichlet(np.ones(40), 2)
    encoded = [[encode_logits(np.log(p).astype(np.float32), 64, 0)] * 9 for p in probs]
    targets = list(range(9))
    logprobs = np.log(probs[:, targets]).T
    found = figures(encoded, targets, logprobs, np.array([0.6, 0.4]), 40, 64)
    assert found.surprise[0] == pytest.approx(-(probs * np.log(probs)).sum(axis=1), abs=0.02)
    assert found.peak[0] == pytest.approx(-np.log(probs.max(axis=1)), abs=0.02)
    assert found.tails == pytest.approx(np.zeros((9, 2)), abs=1e-6)
    assert found.held.all()
    assert found.geometric[0] == pytest.approx(np.log(np.sqrt(probs[0] * probs[1]).sum()), abs=0.01)
    assert found.alpha.shape == (2, 2, 3)
    assert found.alpha[0, 0, 1] == pytest.approx(np.minimum(*probs).sum(), abs=0.01)
    assert np.abs(found.pooled_shift).max() < 0.05


def test_a_token_outside_all_lists_is_counted_and_not_guessed() -> None:
    encoded = [[encode_logits(np.linspace(0, 4, 40, dtype=np.float32), 8, 0)]]
    found = figures(encoded, [0], np.array([[-5.0]]), np.array([1.0]), 40, 8)
    assert not found.held.any()
    assert np.isnan(found.pooled_shift).all()
