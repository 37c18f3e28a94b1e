"""What a model file says of itself, read before llama.cpp sees it, and only ever inside the worker process.

A GGUF file comes from a stranger. Reading it here first gives one clear sentence for each thing that can be wrong with it, where llama.cpp
would give a line in its log; reading it in the worker means that a file which breaks the reader breaks nothing else.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmllm.adapters.llama.cache_file import replacing
from swarmllm.adapters.llama.fingerprint import fingerprint
from swarmllm.adapters.llama.gguf_format import ARRAY, MAGIC, SCALARS, STRING, Value, read_metadata
from swarmllm.errors import LocalError
from swarmllm.messages import CONTEXT_MAX, VOCABULARY_MAX

ARCHITECTURE: Final = "llama"  # GGUF's name for LLaMA 1 to 3.3, its fine-tunes, and models of the same layout.
NAME_BYTES_MAX: Final = 32  # `messages.Name`.
TENSORS_MAX: Final = 65_536  # The largest published models have some 2,000.
DIMENSIONS_MAX: Final = 4  # ggml's own bound.
DIGEST_CHUNK: Final = 1 << 20

# Bytes and weights per block of each tensor type (ggml.h, ggml-common.h); only for the check that the file is whole.
BLOCKS: Final = {
    0: (4, 1), 1: (2, 1), 2: (18, 32), 3: (20, 32), 6: (22, 32), 7: (24, 32), 8: (34, 32), 9: (36, 32),
    10: (84, 256), 11: (110, 256), 12: (144, 256), 13: (176, 256), 14: (210, 256), 15: (292, 256), 16: (66, 256), 17: (74, 256),
    18: (98, 256), 19: (50, 256), 20: (18, 32), 21: (110, 256), 22: (82, 256), 23: (136, 256), 24: (1, 1), 25: (2, 1),
    26: (4, 1), 27: (8, 1), 28: (8, 1), 29: (56, 256), 30: (2, 1), 34: (54, 256), 35: (66, 256), 39: (17, 32),
}  # fmt: skip

ROW_EXACT: Final = frozenset({2, 8, *range(10, 15), 16, 17, 18, 19, 21, 22, 23, 29})
"""Types whose products with one row and with many are equal bit for bit on x86-64: Q4_0, Q8_0, Q4_K and Q6_K as measured (see
`llama_api`), the other K and I quants because llama.cpp's source gives them the same one kernel. All others are given company."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """`kv_values` is how many numbers one token adds to the K cache (and as many to V). `row_exact`: see `ROW_EXACT`."""

    name: str
    vocab_size: int
    vocab_fingerprint: bytes
    context_trained: int
    kv_values: int
    size_bytes: int
    row_exact: bool
    n_params: int


def read_model_file(path: Path) -> ModelFile:
    """LocalError for a file that is missing, damaged, cut off, no GGUF, or no LLaMA-family model."""
    wanted = {
        *("general.architecture", "general.name", "split.count"),
        *(f"tokenizer.ggml.{key}" for key in ("model", "pre", "tokens", "token_type")),
        *(f"{ARCHITECTURE}.{key}" for key in ("context_length", "block_count", "embedding_length")),
        *(f"{ARCHITECTURE}.attention.{key}" for key in ("head_count", "head_count_kv", "key_length", "value_length")),
    }
    found = read_metadata(path, wanted)
    architecture = found.get("general.architecture")
    if architecture != ARCHITECTURE:
        shown = f"{architecture!r}"[:40]
        raise LocalError(f"{path} holds a model of architecture {shown}, not one of the LLaMA family: choose a LLaMA-3 GGUF file")
    tokens, kinds = found.get("tokenizer.ggml.tokens"), found.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not isinstance(kinds, list) or len(tokens) != len(kinds):
        raise LocalError(f"{path} has no vocabulary of its own (tokens and their types): choose a GGUF file that includes one")
    if len(tokens) > VOCABULARY_MAX:
        raise LocalError(
            f"{path} has a vocabulary of {len(tokens)} tokens, more than the {VOCABULARY_MAX} that can be named: choose another"
        )
    types, end, n_params = _tensors(path)
    size = path.stat().st_size
    if size < end:
        raise LocalError(f"the model file {path} is cut off ({size} of {end} bytes): download it again")
    pairs = ((str(text).encode(errors="replace"), int(str(kind))) for text, kind in zip(tokens, kinds, strict=True))
    return ModelFile(
        name=_short_name(str(found.get("general.name") or path.stem)),
        vocab_size=len(tokens),
        vocab_fingerprint=fingerprint(pairs, str(found.get("tokenizer.ggml.pre", ""))),
        context_trained=max(1, min(CONTEXT_MAX, _number(found, "context_length", path))),
        kv_values=_kv_values(found, path),
        size_bytes=size,
        row_exact=types <= ROW_EXACT,
        n_params=n_params,
    )


def _number(found: dict[str, Value], key: str, path: Path, default: int | None = None) -> int:
    value = found.get(f"{ARCHITECTURE}.{key}", default)
    if isinstance(value, list) and value:
        value = max(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 32:
        raise LocalError(f"the model file {path} is damaged ({key} is {str(value)[:40]!r}): download it again")
    return value


def _kv_values(found: dict[str, Value], path: Path) -> int:
    layers, width = _number(found, "block_count", path), _number(found, "embedding_length", path)
    heads = _number(found, "attention.head_count", path)
    kv_heads = _number(found, "attention.head_count_kv", path, heads)
    return layers * kv_heads * _number(found, "attention.key_length", path, max(1, width // heads))


def _short_name(name: str) -> str:
    """Cut to what a capacity record holds, never within a character."""
    return name.encode()[:NAME_BYTES_MAX].decode(errors="ignore").strip() or "model"


# --- the table of tensors ----------------------------------------------------------------------------------------------------


def _tensors(path: Path) -> tuple[set[int], int, int]:
    """The types of all matrices and norms, where the last one ends, and the number of weights. LocalError for a damaged table."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _table(data)
    except OSError as e:
        raise LocalError(f"cannot read the model file {path}: {e.strerror}") from e
    except (struct.error, KeyError, ValueError) as e:
        raise LocalError(f"the model file {path} is damaged or cut off ({e}): download it again") from e


def _table(data: mmap.mmap) -> tuple[set[int], int, int]:
    at = len(MAGIC) + 4
    count, keys = struct.unpack_from("<QQ", data, at)
    if count > TENSORS_MAX:
        raise ValueError(f"{count} tensors")
    at += 16
    alignment = 32
    for _ in range(keys):
        key, at = _string(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        if key == b"general.alignment" and kind in SCALARS:
            (alignment,) = struct.unpack_from(SCALARS[kind], data, at + 4)
        at = _skip(data, at + 4, kind)
    ends, types, n_params = [0], set(), 0
    for _ in range(count):
        _, at = _string(data, at)
        (rank,) = struct.unpack_from("<I", data, at)
        if not 1 <= rank <= DIMENSIONS_MAX:
            raise ValueError(f"a tensor of {rank} dimensions")
        *shape, kind, offset = struct.unpack_from(f"<{rank}QIQ", data, at + 4)
        at += 4 + 8 * rank + 12
        block_bytes, block = BLOCKS[kind]
        weights = 1
        for n in shape:
            weights *= n
        ends.append(offset + weights // block * block_bytes)
        n_params += weights
        if rank > 1:
            types.add(kind)
    if not 0 < alignment <= 1 << 20:
        raise ValueError(f"alignment {alignment}")
    return types, -(-at // alignment) * alignment + max(ends), n_params


def _string(data: mmap.mmap, at: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from("<Q", data, at)
    if size > len(data) - at - 8:
        raise struct.error(f"{size} bytes wanted at {at} of {len(data)}")
    return data[at + 8 : at + 8 + size], at + 8 + size


def _skip(data: mmap.mmap, at: int, kind: int) -> int:
    if kind == STRING:
        return _string(data, at)[1]
    if kind != ARRAY:
        return at + struct.calcsize(SCALARS[kind])
    item, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if item != STRING:
        return int(at + count * struct.calcsize(SCALARS[item]))
    for _ in range(count):
        (size,) = struct.unpack_from("<Q", data, at)
        at += 8 + size
    return int(at)


# --- the digest --------------------------------------------------------------------------------------------------------------


def file_digest(path: Path, cache_dir: Path | None) -> bytes:
    """SHA-256 of the whole file; remembered in `cache_dir` by (path, size, mtime, inode), because 5 GB take seconds."""
    seen = path.stat()
    key = [str(path.absolute()), seen.st_size, seen.st_mtime_ns, seen.st_ino]
    place = None
    if cache_dir is not None:
        place = cache_dir / "digests" / (hashlib.sha256(os.fsencode(str(key[0]))).hexdigest()[:32] + ".json")
        with suppress(OSError, ValueError, KeyError, TypeError):  # A missing or damaged entry costs the time, nothing else.
            kept = json.loads(place.read_text())
            if kept["key"] == key and len(digest := bytes.fromhex(kept["sha256"])) == 32:
                return digest
    running = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(DIGEST_CHUNK):
            running.update(chunk)
    if place is not None:
        with suppress(OSError), replacing(place) as out:  # A full disk must not keep a model from serving.
            out.write(json.dumps({"key": key, "sha256": running.hexdigest()}).encode())
    return running.digest()
