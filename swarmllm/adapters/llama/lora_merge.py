"""A base model and a LoRA adapter merged into one GGUF file in Q8_0, as a stream of bytes.

llama.cpp can apply an adapter while it runs, but decodes a third slower then; a merged file costs
disk and nothing else. Matrices that the adapter leaves alone become Q8_0 too: in batches and on
prompts it is two to four times as fast as the 4-bit form, and rounds less than the adapter learns.

The bytes are the same on every machine (element-wise float32 in a fixed order, no matrix product of
a library), because the file's digest is the model's name in the swarm.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, quants

from swarmllm.adapters.llama.gguf_format import F32, Q8_0, TensorSpec, Value, header, padding
from swarmllm.adapters.llama.gguf_tensors import GgufTensors
from swarmllm.adapters.llama.lora_adapter import Adapter
from swarmllm.errors import LocalError

BLOCK: Final = 32  # Weights in a block of Q8_0.
_NOT_OURS: Final = frozenset(  # What the base says of how and of what it was made.
    {"general.file_type", "general.quantization_version", "general.finetune", "general.alignment"}
)

Floats = npt.NDArray[np.float32]


class MergedGguf:
    """One file's content; `stream` makes it a tensor at a time. LocalError if the adapter is of
    another shape than the base."""

    def __init__(self, base: GgufTensors, adapter: Adapter) -> None:
        self._base, self._adapter = base, adapter
        for name, (a, b) in adapter.factors.items():
            wanted = (len(b), a.shape[1])
            if name not in base.by_name or base.shape(name) != wanted:
                has = base.shape(name) if name in base.by_name else "none"
                raise LocalError(
                    f"the adapter {adapter.card.name} changes a matrix {name[:64]!a} of shape "
                    f"{wanted}, where {base.path} has {has}: it was made for another model"
                )
        self.tensors = [self._spec(tensor.name) for tensor in base.header.tensors]
        self._header = header(self._metadata(), self.tensors)
        self.size_bytes = len(self._header) + sum(
            spec.size_bytes + len(padding(spec.size_bytes)) for spec in self.tensors
        )

    def _spec(self, name: str) -> TensorSpec:
        shape = self._base.shape(name)
        return TensorSpec(name, shape, F32 if len(shape) == 1 or shape[-1] % BLOCK else Q8_0)

    def _metadata(self) -> dict[str, Value]:
        card = self._adapter.card
        kept = {key: value for key, value in self._base.metadata.items() if key not in _NOT_OURS}
        return kept | {
            "general.name": card.name,
            "general.description": card.summary,
            "general.tags": list(card.domains),
            "general.license": card.licence,
            "general.file_type": 7,  # Mostly Q8_0.
            "general.quantization_version": 2,
        }

    def stream(self) -> Iterator[bytes]:
        """The file from its first byte to its last."""
        yield self._header
        for spec in self.tensors:
            yield self._tensor(spec)
            if gap := padding(spec.size_bytes):
                yield gap

    def _tensor(self, spec: TensorSpec) -> bytes:
        factors = self._adapter.factors.get(spec.name)
        if factors is None and self._base.by_name[spec.name].type == spec.type:
            return self._base.raw(spec.name).tobytes()
        weights = self._base.plain(spec.name)
        if factors is not None:
            weights = weights + product(
                *factors, self._adapter.card.alpha / self._adapter.card.rank
            )
        if spec.type == F32:
            return weights.astype("<f4").tobytes()
        found: npt.NDArray[np.uint8] = quants.quantize(weights, GGMLQuantizationType.Q8_0)
        return found.tobytes()


def product(a: npt.NDArray[np.float16], b: npt.NDArray[np.float16], scale: float) -> Floats:
    """float32[out, in] scale * B A, added up one rank after another: a library's own product would
    differ in its last bits from one machine to the next."""
    rows, columns = a.astype(np.float32), b.astype(np.float32) * np.float32(scale)
    found = np.zeros((len(b), a.shape[1]), np.float32)
    for row, column in zip(rows, columns.T, strict=True):
        found += column[:, None] * row
    return found


def merged(base: Path, adapter: Adapter) -> MergedGguf:
    return MergedGguf(GgufTensors(base), adapter)
