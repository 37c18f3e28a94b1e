"""The weights of a GGUF file, tensor by tensor: as stored, or as float32.

For files that swarmllm itself merges or trains from, not for strangers' models, which only the
worker process opens. What a header claims is checked against the file's size all the same, and one
tensor at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

from swarmllm.adapters.llama.gguf_format import Header, Tensor, Value, read_header
from swarmllm.errors import LocalError

TENSOR_BYTES_MAX: Final = 2 << 30

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class _Everything(Container[str]):
    def __contains__(self, key: object) -> bool:
        return True


class GgufTensors:
    """A file whose header has been read. LocalError for one that is no GGUF file, is damaged, or
    stores a tensor in a way that is not known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header = read_header(path, _Everything())
        self.by_name: dict[str, Tensor] = {tensor.name: tensor for tensor in self.header.tensors}
        if len(self.by_name) != len(self.header.tensors):
            raise self._damaged("two tensors have one name")
        for tensor in self.header.tensors:
            self._check(tensor)

    @property
    def metadata(self) -> dict[str, Value]:
        return self.header.metadata

    def shape(self, name: str) -> tuple[int, ...]:
        """As numpy has it: rows first."""
        return self.by_name[name].shape[::-1]

    def raw(self, name: str) -> Bytes:
        """uint8[rows, bytes of a row] as stored; one row for a vector. KeyError for an unknown
        name."""
        tensor = self.by_name[name]
        size, width = _size(tensor), _row_bytes(tensor)
        try:
            with self.path.open("rb") as file:
                file.seek(self.header.data_start + tensor.offset)
                data = file.read(size)
        except OSError as e:
            raise LocalError(
                f"cannot read the model file {self.path} ({e.strerror or e}): "
                "check its permissions and the disk"
            ) from e
        if len(data) != size:
            raise self._damaged("it became shorter while it was read")
        return np.frombuffer(data, np.uint8).reshape(-1, width)

    def plain(self, name: str) -> Floats:
        """float32 in the tensor's shape."""
        kind = GGMLQuantizationType(self.by_name[name].type)
        found: Floats = quants.dequantize(self.raw(name), kind)
        return np.array(found.reshape(self.shape(name)), np.float32)

    def _check(self, tensor: Tensor) -> None:
        try:
            size = _size(tensor)
        except (KeyError, ValueError) as e:
            raise self._damaged(f"{tensor.name[:64]!a} is stored as type {tensor.type}") from e
        room = self.header.size - self.header.data_start - tensor.offset
        if not 0 < size <= min(room, TENSOR_BYTES_MAX):
            raise self._damaged(f"{tensor.name[:64]!a} would take {size} bytes of {max(room, 0)}")
        if tensor.shape[0] % _block(tensor)[0]:
            raise self._damaged(f"the rows of {tensor.name[:64]!a} have {tensor.shape[0]} weights")

    def _damaged(self, reason: str) -> LocalError:
        return LocalError(
            f"the model file {self.path} is damaged ({reason}): compare its size and checksum "
            "with those that its source states"
        )


def _block(tensor: Tensor) -> tuple[int, int]:
    """(weights, bytes) of a block. KeyError or ValueError for an unknown type."""
    weights, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
    return int(weights), int(size)


def _row_bytes(tensor: Tensor) -> int:
    weights, size = _block(tensor)
    return tensor.shape[0] // weights * size


def _size(tensor: Tensor) -> int:
    rows = 1
    for n in tensor.shape[1:]:
        rows *= n
    return rows * _row_bytes(tensor)
