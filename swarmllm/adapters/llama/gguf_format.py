"""Write GGUF files as a stream, and read their headers in milliseconds and in bounded memory.

The `gguf` package can do both, but its reader needs 12 s for a vocabulary of 128,256 tokens (it
keeps every string as an array of its own), and its writer cannot digest what it writes. The format
is small: a header, typed key-value pairs, a table of tensors, and the tensors, each at a multiple
of 32 bytes. Layout: ggml/docs/gguf.md, version 3, little-endian.

Every count and length in a header is a stranger's, and the file's size says little about them: a
sparse file has any size and takes no room. So a count is believed only as far as the bytes that it
needs are there, no more than `HEADER_BYTES_MAX` of a file are read as its header, and what is kept
of them is counted as Python counts it, up to `KEPT_BYTES_MAX`. The file is read and not mapped: a
mapped file that somebody shortens meanwhile ends the process that looks at it.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import getsizeof
from typing import Any, BinaryIO, Final

import numpy as np

from swarmllm.errors import LocalError
from swarmllm.messages import VOCABULARY_MAX

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32

F32, F16, Q8_0 = 0, 1, 8  # Tensor types.
U8, U32, I32, FLOAT, BOOL, STRING, ARRAY = 0, 4, 5, 6, 7, 8, 9  # Value types.
SCALARS: Final = {
    U8: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    U32: "<I",
    I32: "<i",
    FLOAT: "<f",
    BOOL: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}

Value = bool | int | float | str | bytes | list[str] | list[int] | list[float]
"""`bytes` is a list of small numbers, and is only written; it is read as `list[int]`."""

# Everything before the weights. A vocabulary of 262,144 tokens with its merges takes 15 MB.
HEADER_BYTES_MAX: Final = 64 << 20
# What the wanted values may take in memory; that vocabulary takes 55 MB.
KEPT_BYTES_MAX: Final = 128 << 20
BUFFER_BYTES: Final = 1 << 18
KEY_BYTES_MAX: Final = 1024  # The format allows 65,535; the longest published key has some 60.
KEYS_MAX: Final = 4_096  # Real files hold about fifty; this only stops a damaged count.
# Of a wanted list: a vocabulary has up to two merges for each of its tokens.
ITEMS_MAX: Final = 2 * VOCABULARY_MAX
ITEM_BYTES_MAX: Final = 1 << 16  # A token or a merge; the longest published token has some hundred.
TEXT_BYTES_MAX: Final = 1 << 16  # Of a longer text (a name, a licence) only the beginning is read.
TENSOR_NAME_BYTES_MAX: Final = 256  # ggml takes 64.
TENSORS_MAX: Final = 65_536  # The largest published models have some 2,000.
DIMENSIONS_MAX: Final = 4  # ggml's own bound.
ALIGNMENT_MAX: Final = 1 << 20
NUMBER_BYTES: Final = 40  # One entry of a list of numbers, with the number.
TENSOR_BYTES: Final = 700  # One row of the table of tensors.


# --- writing --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """`shape` as numpy has it (GGUF stores it reversed); `type` is F32, F16 or Q8_0."""

    name: str
    shape: tuple[int, ...]
    type: int

    @property
    def size_bytes(self) -> int:
        count = 1
        for n in self.shape:
            count *= n
        return count // 32 * 34 if self.type == Q8_0 else count * (4 if self.type == F32 else 2)


def padding(size: int) -> bytes:
    """Zeros from `size` to the next multiple of the alignment."""
    return bytes(-size % ALIGNMENT)


def _string(text: str) -> bytes:
    data = text.encode(errors="surrogateescape")
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
        case bytes():
            return struct.pack("<IIQ", ARRAY, U8, len(value)) + value
        case []:
            return struct.pack("<IIQ", ARRAY, STRING, 0)
        case [float(), *_]:
            return struct.pack("<IIQ", ARRAY, FLOAT, len(value)) + np.array(value, "<f4").tobytes()
        case [str(), *_]:
            return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(
                [_string(str(item)) for item in value]
            )
        case _:
            return struct.pack("<IIQ", ARRAY, I32, len(value)) + np.array(value, "<i4").tobytes()


def header(metadata: Mapping[str, Value], tensors: Sequence[TensorSpec]) -> bytes:
    """Everything before the first tensor, padded. The tensors follow in this order, each followed
    by its own `padding`."""
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += (_string(key), _value(value))
    offset = 0
    for spec in tensors:
        shape = spec.shape[::-1]
        parts += (
            _string(spec.name),
            struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, spec.type, offset),
        )
        offset += spec.size_bytes + len(padding(spec.size_bytes))
    data = b"".join(parts)
    return data + padding(len(data))


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of the table of tensors. `type` is ggml's number; `offset` counts bytes from where
    the weights begin."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """`data_start` is where the weights begin and `size` the size of the file, in bytes."""

    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]
    data_start: int
    size: int


def read_metadata(path: Path, wanted: Container[str]) -> dict[str, Value]:
    """The wanted keys of a GGUF file that are there. LocalError for a file that cannot be read, is
    no GGUF, or is damaged.

    Items of lists keep bytes that are no UTF-8 as surrogates, so that nothing is lost; single texts
    get U+FFFD for them.
    """
    with _reading(path) as (reader, _, keys):
        return _metadata(reader, keys, wanted)


def read_header(path: Path, wanted: Container[str]) -> Header:
    """The same, with the table of tensors."""
    with _reading(path) as (reader, tensors, keys):
        if tensors > TENSORS_MAX:
            raise ValueError(f"{tensors} tensors")
        metadata = _metadata(reader, keys, _AndAlignment(wanted))
        table = tuple(_tensor(reader) for _ in range(tensors))
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if (
            isinstance(alignment, bool)
            or not isinstance(alignment, int)
            or not 0 < alignment <= ALIGNMENT_MAX
        ):
            raise ValueError(f"alignment {str(alignment)[:40]}")
        return Header(metadata, table, -(-reader.at // alignment) * alignment, reader.size)


class _AndAlignment(Container[str]):
    def __init__(self, wanted: Container[str]) -> None:
        self._wanted = wanted

    def __contains__(self, key: object) -> bool:
        return key == "general.alignment" or key in self._wanted


@contextmanager
def _reading(path: Path) -> Iterator[tuple[_Reader, int, int]]:
    """A reader behind the counts, and the counts, of tensors and of keys. What goes wrong inside
    becomes a LocalError."""
    try:
        found = os.stat(path)
        # Opening a named pipe would wait for somebody to write.
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no ordinary file"
            raise LocalError(f"{path} is {kind}: give the path of a .gguf model")
        with path.open("rb", buffering=BUFFER_BYTES) as file:
            reader = _Reader(file, found.st_size)
            yield reader, *_counts(path, reader)
            after = os.fstat(file.fileno())
        if (after.st_size, after.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            raise LocalError(
                f"the model file {path} changed while it was read: wait until it is complete,"
                " then try again"
            )
    except OSError as e:
        raise LocalError(
            f"cannot read the model file {path} ({e.strerror or e}): check its path,"
            " its permissions and the disk"
        ) from e
    except (struct.error, KeyError, ValueError) as e:
        raise LocalError(
            f"the model file {path} is damaged or cut off ({e}):"
            " compare its size and checksum with those that its source states"
        ) from e.with_traceback(None)  # Its frames hold what was read, and contextlib's hold it.


def _counts(path: Path, reader: _Reader) -> tuple[int, int]:
    start = reader.take(min(24, reader.size))
    if start[:4] != MAGIC:
        raise LocalError(
            f"{path} is not a GGUF file ({_other_kind(start)}): give the path of a .gguf model"
        )
    if len(start) < 24:
        raise ValueError(f"only {len(start)} bytes")
    version, tensors, keys = struct.unpack("<IQQ", start[4:])
    if version not in (2, 3):
        if version == 1:
            said = (
                "of version 1, which llama.cpp no longer reads:"
                " make it again with a current converter"
            )
        elif int.from_bytes(start[4:8], "big") in (1, 2, 3):
            said = (
                "for big-endian machines: turn it round with gguf-convert-endian,"
                " which comes with the Python package gguf"
            )
        else:
            said = (
                f"of version {version}, and only 2 and 3 are known: choose another file,"
                " or update swarmllm"
            )
        raise LocalError(f"{path} is a GGUF file {said}")
    return tensors, keys


def _other_kind(start: bytes) -> str:
    """What a file is that does not begin with GGUF, as far as its first bytes tell."""
    kinds = {
        b"PK\3\4": "it is a ZIP archive or PyTorch's weights",
        b"version https://git-lfs": (
            "it is a Git LFS pointer; `git lfs pull` fetches the model itself"
        ),
        b"lmgg": "it has llama.cpp's old format GGML, which needs to be converted",
        b"tjgg": "it has llama.cpp's old format GGJT, which needs to be converted",
        b"FUGG": "its bytes are in another order",
        b"<": "it looks like a page of a web site",
    }
    if not start:
        return "it is empty"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < HEADER_BYTES_MAX:
        return "it looks like safetensors, which llama.cpp's convert_hf_to_gguf.py converts"
    fits = (said for begin, said in kinds.items() if start.startswith(begin))
    return next(fits, "it does not begin with 'GGUF'")


class _Reader:
    """A position in the file. Whatever the header claims, reading stops at the file's end, at
    `HEADER_BYTES_MAX`, and when what is kept has grown to `KEPT_BYTES_MAX`: ValueError."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self.at = 0
        self._end = min(size, HEADER_BYTES_MAX)
        self._room = KEPT_BYTES_MAX

    def take(self, count: int) -> bytes:
        self._claim(count)
        data = self._file.read(count)
        if len(data) != count:
            raise ValueError("it became shorter while it was read")
        self.at += count
        return data

    def skip(self, count: int) -> None:
        self._claim(count)
        self._file.seek(count, os.SEEK_CUR)
        self.at += count

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def keep(self, count: int) -> None:
        """Count memory that is going to be taken."""
        self._room -= count
        if self._room < 0:
            raise ValueError(f"what it says of itself takes more than {KEPT_BYTES_MAX >> 20} MiB")

    def text(self, longest: int, *, cut: bool = False) -> bytes:
        """A string of at most `longest` bytes; with `cut` the beginning of a longer one."""
        (size,) = self.unpack("<Q")
        if size > longest and not cut:
            raise ValueError(f"a text of {size} bytes")
        self._claim(size)
        data = self.take(min(size, longest))
        self.skip(size - len(data))
        return data

    def texts(self, count: int) -> list[str]:
        """Without a call for each of its parts: there are some hundred thousand."""
        self._claim(8 * count)  # At least: each has its length in front.
        read, at, found = self._file.read, self.at, []
        for _ in range(count):
            size = int.from_bytes(read(8), "little")
            at += 8 + size
            if size > ITEM_BYTES_MAX or at > self._end:
                raise ValueError(f"an item of {size} bytes")
            item = read(size).decode("utf-8", "surrogateescape")
            self.keep(getsizeof(item) + 8)
            found.append(item)
        self.at = at
        return found

    def skip_texts(self, count: int) -> None:
        self._claim(8 * count)
        read, at = self._file.read, self.at
        for _ in range(count):
            size = int.from_bytes(read(8), "little")
            at += 8 + size
            if at > self._end:
                raise ValueError(f"an item of {size} bytes")
            if size > ITEM_BYTES_MAX:
                self._file.seek(size, os.SEEK_CUR)
            else:
                read(size)
        self.at = at

    def _claim(self, count: int) -> None:
        if count > self._end - self.at:
            if self._end < self.size:
                raise ValueError(f"its header is longer than {HEADER_BYTES_MAX >> 20} MiB")
            raise ValueError(f"{count} bytes wanted at {self.at} of {self.size}")


def _metadata(reader: _Reader, keys: int, wanted: Container[str]) -> dict[str, Value]:
    if keys > KEYS_MAX:
        raise ValueError(f"{keys} keys")
    found: dict[str, Value] = {}
    seen = set[bytes]()
    for _ in range(keys):
        key = reader.text(KEY_BYTES_MAX)
        if key in seen:
            raise ValueError(f"the key {key[:64].decode(errors='replace')!r} is there twice")
        seen.add(key)
        (kind,) = reader.unpack("<I")
        name = key.decode(errors="replace")
        if name in wanted:
            found[name] = _one(reader, kind)
        else:
            _skip(reader, kind)
    return found


def _one(reader: _Reader, kind: int) -> Value:
    if kind == STRING:
        return reader.text(TEXT_BYTES_MAX, cut=True).decode(errors="replace")
    if kind != ARRAY:
        value: bool | int | float = reader.unpack(_layout(kind))[0]
        return value
    item, count = reader.unpack("<IQ")
    if count > ITEMS_MAX:
        raise ValueError(f"a list of {count} items")
    if item == STRING:
        return reader.texts(count)
    layout = _layout(item)
    reader.keep(count * NUMBER_BYTES)
    numbers: list[int] = np.frombuffer(
        reader.take(count * struct.calcsize(layout)), layout
    ).tolist()
    return numbers


def _skip(reader: _Reader, kind: int) -> None:
    if kind == STRING:
        reader.skip(reader.unpack("<Q")[0])
    elif kind != ARRAY:
        reader.skip(struct.calcsize(_layout(kind)))
    else:
        item, count = reader.unpack("<IQ")
        if item == STRING:
            reader.skip_texts(count)
        else:
            reader.skip(count * struct.calcsize(_layout(item)))


def _layout(kind: int) -> str:
    """Lists of lists are in no model's metadata, and llama.cpp refuses them as well."""
    if kind not in SCALARS:
        raise ValueError(f"a value of type {kind}")
    return SCALARS[kind]


def _tensor(reader: _Reader) -> Tensor:
    name = reader.text(TENSOR_NAME_BYTES_MAX)
    (rank,) = reader.unpack("<I")
    if not 1 <= rank <= DIMENSIONS_MAX:
        raise ValueError(f"a tensor of {rank} dimensions")
    *shape, kind, offset = reader.unpack(f"<{rank}QIQ")
    reader.keep(TENSOR_BYTES)
    return Tensor(name.decode(errors="replace"), tuple(shape), kind, offset)
