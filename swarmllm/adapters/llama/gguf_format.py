"""Write GGUF files as a stream, and read their metadata in milliseconds.

The `gguf` package can do both, but its reader needs 12 s for a vocabulary of 128,256 tokens (it keeps every string as an array of its
own), and its writer cannot digest what it writes. The format is small: a header, typed key-value pairs, a table of tensors, and
the tensors, each at a multiple of 32 bytes. Layout: ggml/docs/gguf.md, version 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from swarmllm.errors import LocalError

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32

F32, Q8_0 = 0, 8  # Tensor types.
U32, I32, FLOAT, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9  # Value types.
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", U32: "<I", I32: "<i", FLOAT: "<f", BOOL: "<?", 10: "<Q", 11: "<q", 12: "<d"}

Value = bool | int | float | str | list[str] | list[int] | list[float]

KEY_MAX = 65_535  # The format's own limit on a key.
KEYS_MAX = 4_096  # Real files hold about fifty; this only stops a damaged count.


# --- writing -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """`shape` as numpy has it (GGUF stores it reversed); `type` is F32 or Q8_0."""

    name: str
    shape: tuple[int, ...]
    type: int

    @property
    def size_bytes(self) -> int:
        count = 1
        for n in self.shape:
            count *= n
        return count * 4 if self.type == F32 else count // 32 * 34


def padding(size: int) -> bytes:
    """Zeros from `size` to the next multiple of the alignment."""
    return bytes(-size % ALIGNMENT)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", BOOL, value)
        case int():
            return struct.pack("<II", U32, value)
        case float():
            return struct.pack("<If", FLOAT, value)
        case str():
            return struct.pack("<I", STRING) + _string(value)
        case [str(), *_]:
            return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join([_string(str(item)) for item in value])
        case _:
            return struct.pack("<IIQ", ARRAY, I32, len(value)) + np.array(value, "<i4").tobytes()


def header(metadata: Mapping[str, Value], tensors: Sequence[TensorSpec]) -> bytes:
    """Everything before the first tensor, padded. The tensors follow in this order, each followed by its own `padding`."""
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += (_string(key), _value(value))
    offset = 0
    for spec in tensors:
        shape = spec.shape[::-1]
        parts += (_string(spec.name), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, spec.type, offset))
        offset += spec.size_bytes + len(padding(spec.size_bytes))
    data = b"".join(parts)
    return data + padding(len(data))


# --- reading -----------------------------------------------------------------------------------------------------------------


class _Cursor:
    """A position in the file; reading past its end raises struct.error."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def scalar(self, layout: str) -> int | float | bool:
        found: int | float | bool = struct.unpack_from(layout, self.data, self.at)[0]
        self.at += struct.calcsize(layout)
        return found

    def size(self) -> int:
        return int(self.scalar("<Q"))

    def bytes(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise struct.error(f"{size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def strings(self, count: int) -> list[str]:
        """`count` is checked by running into the end of the file: each string has at least its length."""
        return [self.bytes(self.size()).decode(errors="replace") for _ in range(count)]

    def value(self, kind: int) -> Value:
        if kind == STRING:
            return self.bytes(self.size()).decode(errors="replace")
        if kind != ARRAY:
            return self.scalar(SCALARS[kind])
        item, count = int(self.scalar("<I")), self.size()
        if item == STRING:
            return self.strings(count)
        layout = SCALARS[item]  # Arrays of arrays are in no model's metadata, and are refused here.
        found: list[int] = np.frombuffer(self.bytes(count * struct.calcsize(layout)), layout).tolist()
        return found

    def skip(self, kind: int) -> None:
        if kind == ARRAY and struct.unpack_from("<I", self.data, self.at)[0] == STRING:
            self.at += 4
            for _ in range(self.size()):
                self.bytes(self.size())
        else:
            self.value(kind)


def read_metadata(path: Path, wanted: Container[str]) -> dict[str, Value]:
    """The wanted keys of a GGUF file that are there. LocalError for a file that cannot be read, is no GGUF, or is damaged."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise LocalError(f"{path} is not a GGUF file (it does not begin with 'GGUF'): give the path of a .gguf model")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(_Cursor(data), wanted)
    except OSError as e:
        raise LocalError(f"cannot read the model file {path}: {e.strerror}") from e
    except (struct.error, KeyError, ValueError) as e:
        raise LocalError(f"the model file {path} is damaged or cut off ({e}): download it again") from e


def _read(cursor: _Cursor, wanted: Container[str]) -> dict[str, Value]:
    cursor.at = len(MAGIC)
    version, _, count = cursor.scalar("<I"), cursor.size(), cursor.size()
    if version not in (2, 3):
        raise ValueError(f"version {version}")
    if count > KEYS_MAX:
        raise ValueError(f"{count} keys")
    found: dict[str, Value] = {}
    for _ in range(count):
        size = cursor.size()
        if size > KEY_MAX:
            raise ValueError(f"a key of {size} bytes")
        key, kind = cursor.bytes(size).decode(errors="replace"), int(cursor.scalar("<I"))
        if key in wanted:
            found[key] = cursor.value(kind)
        else:
            cursor.skip(kind)
    return found
