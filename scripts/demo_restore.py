"""A shipped demo expert as a model to go on training from: the reverse of demo_export.py, up to
what eight bits have rounded off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scripts.demo_corpus import Corpus
from scripts.demo_export import SHIPPED_GAIN
from scripts.demo_model import TinyLlama
from swarmllm.adapters.llama.demo import Array, CompactModel, dequantize

PARTS = {
    "attn_q": "q",
    "attn_k": "k",
    "attn_v": "v",
    "attn_output": "o",
    "ffn_gate": "gate",
    "ffn_up": "up",
    "ffn_down": "down",
}


def restored(shipped: CompactModel, corpus: Corpus, model: TinyLlama) -> dict[str, Tensor]:
    """The weights for `model.load_state_dict`. Rows of ids that the shipped expert has not are as
    `model` has them, with the bias of a rare one."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, weights in shipped.layers.items():
        found = torch.from_numpy(_plain(weights))
        match name.split("."):
            case ["output_norm", "weight"]:
                found[0] = state["norm.weight"][0]  # Not learned: the bias dimension's gain.
                state["norm.weight"] = found
            case ["blk", block, part, "weight"]:
                state[f"blocks.{block}.{_path(part)}weight"] = found
            case _:
                raise SystemExit(f"demo_restore: a shipped expert has no tensor {name!r}")
    rows = torch.from_numpy(dequantize(shipped.rows))
    place = {int(token): at for at, token in enumerate(shipped.active_ids)}
    state["bias"][:] = SHIPPED_GAIN * rows[:, 0].quantile(0.05)
    for at, token in enumerate(corpus.active_ids.tolist()):
        if token in place:
            state["rows"][at, 1:] = rows[place[token], 1:]
            state["bias"][at] = SHIPPED_GAIN * rows[place[token], 0]
    return state


def _path(part: str) -> str:
    return f"{PARTS[part]}." if part in PARTS else f"{part}."


def _plain(weights: Array) -> npt.NDArray[np.float32]:
    return dequantize(weights) if weights.ndim > 1 else weights.astype(np.float32)
