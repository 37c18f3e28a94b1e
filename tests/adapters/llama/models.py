"""The fixture models, each written once per test run."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

from swarmllm.testing.gguf_fixture import FixtureShape, small_vocabulary, write_model


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the interpreter ends."""
    return tempfile.TemporaryDirectory(prefix="swarmllm-models-")


@cache
def model(kind: str = "q8_0", vocabulary_seed: int = 0, dim: int = 64, context: int = 512) -> Path:
    shape = FixtureShape(kind=kind, dim=dim, ffn=2 * dim, context=context)
    path = Path(folder().name) / f"{kind}-{vocabulary_seed}-{dim}-{context}.gguf"
    if kind == "q4_k_m":
        return _quantised(model("f32", vocabulary_seed, dim, context), path)
    return write_model(path, shape, small_vocabulary(seed=vocabulary_seed))


def _quantised(source: Path, target: Path) -> Path:
    """By llama.cpp itself, which alone can write K-quants; whole blocks need a `dim` of 256."""
    from llama_cpp import llama_cpp as llama

    params = llama.llama_model_quantize_default_params()
    params.ftype = llama.LLAMA_FTYPE_MOSTLY_Q4_K_M
    assert llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), params) == 0
    return target
