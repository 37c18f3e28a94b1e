"""How the makers of a model advise to draw from it in a chat: what its GGUF file says
(`general.sampling.*`), or else what is written down here of the default model, whose file says
nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from swarmllm.adapters.llama.gguf_format import read_metadata
from swarmllm.adapters.models.catalog import SMOLLM2_135M
from swarmllm.adapters.models.library import Found
from swarmllm.core.decoding.sampling import validate
from swarmllm.core.values import SAMPLING, Sampling
from swarmllm.errors import UsageError
from swarmllm.runtime.model_reference import SmolLM2

KEYS: Final = {
    f"general.sampling.{row.advised}": name for name, row in SAMPLING.items() if row.advised
}
"""llama.cpp's, and the parameter of ours that means the same."""


def advice_of(model: Found) -> Mapping[str, float]:
    """The parameters of `core.values.Sampling` that are advised, by name. What the file says is a
    stranger's word: a value that makes no sense is left out. It blocks while the file is read."""
    said = read_metadata(model.path, KEYS.keys())
    found = {
        KEYS[key]: SAMPLING[KEYS[key]].kind(value)
        for key, value in said.items()
        if isinstance(value, int | float) and _makes_sense(KEYS[key], value)
    }
    is_ours = isinstance(model.reference, SmolLM2)
    return dict(SMOLLM2_135M.sampling) if is_ours and not found else found


def _makes_sense(name: str, value: float) -> bool:
    try:
        validate(replace(Sampling(), **{name: value}))  # type: ignore[arg-type]  # By name.
    except UsageError:
        return False
    return True
