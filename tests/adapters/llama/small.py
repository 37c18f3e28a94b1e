"""A compact model of 300 rows and width 64, with random weights: what expansion does does not
depend on what a model has learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from swarmllm.adapters.llama.demo import BLOCK_BYTES, CompactModel, DemoCard, Shape, save_compact
from swarmllm.adapters.llama.demo_gguf import quantize
from swarmllm.adapters.llama.vocabulary import LLAMA3_BOS, LLAMA3_EOS, load_merge_ranks

SHAPE = Shape(
    dim=64, layers=1, heads=2, kv_heads=1, hidden=96, context=64, rope_base=10000.0, norm_eps=1e-5
)


def small_model(name: str = "small") -> CompactModel:
    rng = np.random.default_rng(7)
    singles = [rank for token, rank in load_merge_ranks().items() if len(token) == 1]
    active = np.array([LLAMA3_BOS, LLAMA3_EOS, *sorted({*singles, *range(300, 340)})], np.int32)

    def weights(rows: int, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.normal(0, 0.1, (rows, columns)).astype(np.float32)

    d, kv, hidden = SHAPE.dim, SHAPE.dim // SHAPE.heads * SHAPE.kv_heads, SHAPE.hidden
    shapes = {"attn_q": (d, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, d)}
    shapes |= {"ffn_gate": (hidden, d), "ffn_up": (hidden, d), "ffn_down": (d, hidden)}
    norms = ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight")
    rows, inputs = weights(len(active), d), weights(len(active), d)
    inputs[:, 0] = 1.0
    card = DemoCard(
        name=name,
        summary="random weights",
        domains=("test",),
        shape=SHAPE,
        active_rows=len(active),
        n_params=rows.size,
        steps=0,
        trained_tokens=0,
        nats_per_token=11.76,
        bits_per_byte=4.0,
    )
    return CompactModel(
        card=card,
        active_ids=active,
        rows=quantize(rows),
        input_block=quantize(inputs)[:, :BLOCK_BYTES].copy(),
        bias_input=1.0,
        unused_bias=-4.0,
        layers={name: np.ones(d, np.float32) for name in norms}
        | {f"blk.0.{name}.weight": quantize(weights(*shape)) for name, shape in shapes.items()},
    )


def save_small(folder: Path, name: str = "small") -> Path:
    """The folder of a saved small model."""
    save_compact(small_model(name), folder / name)
    return folder / name
