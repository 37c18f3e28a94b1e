"""A shipped expert that training goes on from is the one that was shipped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the dependency group `train`")

from scripts.demo_corpus import Corpus  # noqa: E402
from scripts.demo_export import weights_of  # noqa: E402
from scripts.demo_family import EXPERTS  # noqa: E402
from scripts.demo_model import TinyLlama  # noqa: E402
from scripts.demo_restore import restored  # noqa: E402
from swarmllm.adapters.llama.demo import dequantize, folder_of, load_compact  # noqa: E402

SHIPPED = load_compact(folder_of("ops"))
EMPTY = np.zeros(0, np.int32)


def test_all_weights_come_back() -> None:
    corpus = Corpus(SHIPPED.active_ids, EMPTY, EMPTY, 0)
    model = TinyLlama(EXPERTS["ops"].shape, len(corpus.active_ids))
    model.load_state_dict(restored(SHIPPED, corpus, model))
    found = weights_of(model)
    assert np.allclose(found.outputs, dequantize(SHIPPED.rows), atol=1e-6)
    assert np.abs(found.inputs - dequantize(SHIPPED.input_rows())).max() < 0.02  # Another rounding.
    for name, weights in SHIPPED.layers.items():
        wanted = weights if weights.ndim == 1 else dequantize(weights)
        assert np.allclose(found.layers[name], wanted, atol=1e-6), name


def test_ids_keep_their_rows_and_new_ones_are_rare() -> None:
    known = SHIPPED.active_ids
    fewer = replace(SHIPPED, active_ids=known[:-1], rows=SHIPPED.rows[:-1])
    corpus = Corpus(np.concatenate([known[:2], known[:1:-1]]), EMPTY, EMPTY, 0)
    model = TinyLlama(EXPERTS["ops"].shape, len(known))
    chance = model.rows.detach().clone()
    state = restored(fewer, corpus, model)
    rows = torch.from_numpy(dequantize(SHIPPED.rows))
    assert torch.equal(state["rows"][2, 1:], chance[2, 1:])  # The last one, which it has not.
    assert state["bias"][2] < state["bias"].median()
    assert torch.equal(state["rows"][3, 1:], rows[-2, 1:])
    assert torch.equal(state["rows"][-1, 1:], rows[2, 1:])
