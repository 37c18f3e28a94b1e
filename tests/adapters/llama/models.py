"""The fixture models, each written once per test run."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

from swarmllm.testing.gguf_fixture import FixtureShape, small_vocabulary, write_model

QUANTISED = {"q4_1": 3, "q5_0": 8, "q5_1": 9, "q4_k_m": 15}
"""Kinds that llama.cpp makes of the float32 one, as its LLAMA_FTYPE_MOSTLY_... numbers."""


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the interpreter ends."""
    return tempfile.TemporaryDirectory(prefix="swarmllm-models-")


@cache
def model(kind: str = "q8_0", vocabulary_seed: int = 0, dim: int = 64, context: int = 512) -> Path:
    shape = FixtureShape(kind=kind, dim=dim, ffn=2 * dim, context=context)
    path = Path(folder().name) / f"{kind}-{vocabulary_seed}-{dim}-{context}.gguf"
    if kind in QUANTISED:
        return _quantised(model("f32", vocabulary_seed, dim, context), path, QUANTISED[kind])
    return write_model(path, shape, small_vocabulary(seed=vocabulary_seed))


def _quantised(source: Path, target: Path, file_type: int) -> Path:
    """By llama.cpp itself, which alone can write K-quants; whole blocks of those need a `dim` of
    256."""
    from llama_cpp import llama_cpp as llama

    params = llama.llama_model_quantize_default_params()
    params.ftype = file_type
    assert llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), params) == 0
    return target
