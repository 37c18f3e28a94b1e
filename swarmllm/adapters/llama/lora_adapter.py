"""LoRA adapters as GGUF files: the specialists that are shipped as a few megabytes beside a base
model that is fetched.

The file is what llama.cpp itself reads (`llama-server --lora`, tools of `convert_lora_to_gguf.py`):
for each matrix W of the base two factors in float16, `NAME.lora_a` [rank, in] and `NAME.lora_b`
[out, rank], and one number alpha: the specialist's matrix is W + alpha / rank * B A. Keys of our
own name the base by its digest, and say what the merged file must be.

A file is taken whole or refused: every tensor must be one of such a pair, of float16, of one rank,
finite, and inside the file, which is small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.adapters.llama.gguf_format import F16, TensorSpec, Value, header, padding
from swarmllm.adapters.llama.gguf_tensors import GgufTensors
from swarmllm.errors import LocalError

ADAPTER_BYTES_MAX: Final = 64 << 20
RANK_MAX: Final = 256
PAIRS_MAX: Final = 4096
ALPHA_MAX: Final = 1024.0
TEXT_MAX: Final = 200  # Characters of a name, summary or licence.
TAGS_MAX: Final = 16
A, B = ".lora_a", ".lora_b"  # Ends of tensor names.
BASE_KEY: Final = "swarmllm.lora.base_sha256"
MERGED_KEY: Final = "swarmllm.lora.merged_sha256"

Halves = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class AdapterCard:
    """What an adapter says of itself. Digests are hexadecimal SHA-256, of the base model's file and
    of the merged one (empty: not known yet). `alpha` / `rank` scales the product."""

    name: str
    summary: str
    domains: tuple[str, ...]
    licence: str
    rank: int
    alpha: float
    base_sha256: str
    merged_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Adapter:
    """`factors`: (A float16[rank, in], B float16[out, rank]) by the name of the base's matrix."""

    card: AdapterCard
    factors: Mapping[str, tuple[Halves, Halves]]


def adapter_bytes(adapter: Adapter) -> bytes:
    """The file. The same bytes for the same adapter, on every machine."""
    card = adapter.card
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "general.name": card.name,
        "general.description": card.summary,
        "general.tags": list(card.domains),
        "general.license": card.licence,
        "general.file_type": 1,  # Mostly F16.
        "adapter.type": "lora",
        "adapter.lora.alpha": float(card.alpha),
        BASE_KEY: card.base_sha256,
        MERGED_KEY: card.merged_sha256,
    }
    tensors = {
        name + end: factor
        for name, pair in sorted(adapter.factors.items())
        for end, factor in zip((A, B), pair, strict=True)
    }
    parts = [header(metadata, [TensorSpec(n, t.shape, F16) for n, t in tensors.items()])]
    for factor in tensors.values():
        data = np.ascontiguousarray(factor, "<f2").tobytes()
        parts += (data, padding(len(data)))
    return b"".join(parts)


def load_adapter(path: Path) -> Adapter:
    """LocalError, naming the file and what is wrong with it."""
    try:
        file = _opened(path)
        card = _card(file)
        factors = dict(_factors(file, card.rank))
    except ValueError as e:
        raise LocalError(f"the adapter {path} cannot be used ({e}): reinstall swarmllm") from e
    return Adapter(card, factors)


def load_card(path: Path) -> AdapterCard:
    """The same without the factors."""
    try:
        return _card(_opened(path))
    except ValueError as e:
        raise LocalError(f"the adapter {path} cannot be used ({e}): reinstall swarmllm") from e


def _opened(path: Path) -> GgufTensors:
    file = GgufTensors(path)
    if file.header.size > ADAPTER_BYTES_MAX:
        raise ValueError(f"{file.header.size} bytes, more than {ADAPTER_BYTES_MAX >> 20} MiB")
    return file


def _card(file: GgufTensors) -> AdapterCard:
    found = file.metadata
    for key, wanted in (
        ("general.architecture", "llama"),
        ("general.type", "adapter"),
        ("adapter.type", "lora"),
    ):
        if found.get(key) != wanted:
            raise ValueError(f"{key} is {repr(found.get(key))[:40]}, not {wanted!r}")
    alpha = found.get("adapter.lora.alpha")
    if not isinstance(alpha, float) or not math.isfinite(alpha) or not 0 < alpha <= ALPHA_MAX:
        raise ValueError(f"alpha is {repr(alpha)[:40]}")
    tags = found.get("general.tags")
    if not isinstance(tags, list) or len(tags) > TAGS_MAX:
        raise ValueError("its tags are no short list")
    ranks = {file.shape(name)[0] for name in file.by_name if name.endswith(A)}
    if len(ranks) != 1 or not 1 <= min(ranks) <= RANK_MAX:
        raise ValueError(f"ranks {sorted(ranks)[:4]}")
    return AdapterCard(
        name=_text(found, "general.name"),
        summary=_text(found, "general.description"),
        domains=tuple(str(tag)[:TEXT_MAX] for tag in tags),
        licence=_text(found, "general.license"),
        rank=ranks.pop(),
        alpha=alpha,
        base_sha256=_digest(found, BASE_KEY),
        merged_sha256=_digest(found, MERGED_KEY),
    )


def _text(found: Mapping[str, Value], key: str) -> str:
    text = found.get(key)
    if not isinstance(text, str) or not 0 < len(text) <= TEXT_MAX or not text.isprintable():
        raise ValueError(f"{key} is {repr(text)[:40]}")
    return text


def _digest(found: Mapping[str, Value], key: str) -> str:
    """Hexadecimal SHA-256, or nothing."""
    text = found.get(key)
    if not isinstance(text, str) or len(text) not in (0, 64) or set(text) - set("0123456789abcdef"):
        raise ValueError(f"{key} is {repr(text)[:80]}")
    return text


def _factors(file: GgufTensors, rank: int) -> Iterator[tuple[str, tuple[Halves, Halves]]]:
    names = set(file.by_name)
    bases = {name.removesuffix(A) for name in names if name.endswith(A)}
    if len(bases) > PAIRS_MAX or names != {base + end for base in bases for end in (A, B)}:
        odd = sorted(names - {base + end for base in bases for end in (A, B)})
        raise ValueError(f"{len(names)} tensors that are not pairs, such as {str(odd[:1])[:80]}")
    for base in sorted(bases):
        a, b = (_factor(file, base + end) for end in (A, B))
        if a.shape[0] != rank or b.shape[1] != rank:
            raise ValueError(f"{base[:64]!a} has factors of shapes {a.shape} and {b.shape}")
        yield base, (a, b)


def _factor(file: GgufTensors, name: str) -> Halves:
    tensor = file.by_name[name]
    if tensor.type != F16 or len(tensor.shape) != 2:
        raise ValueError(f"{name[:64]!a} is no matrix of float16")
    found = file.raw(name).view("<f2").reshape(file.shape(name))
    if not np.isfinite(found).all():
        raise ValueError(f"{name[:64]!a} holds a number that is not finite")
    return found
