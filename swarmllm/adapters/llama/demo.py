"""The compact form of the bundled demo experts: what a tiny model over 128,256 words is when all
that can be made again is left out.

Only ids that are frequent in the training text have rows of their own (15,000 or so); the
vocabulary is in another package. Weights are stored as Q8_0, the very blocks that the expanded
model runs with, so that nothing is quantised twice and tests can speak of one set of weights. Input
and output rows are the same except in dimension 0, the bias dimension (see `TinyLlama` in
scripts/train_demo_experts.py): the first block of 32 entries is therefore stored once for each.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmllm.errors import LocalError, UsageError

BLOCK = 32  # Weights in a Q8_0 block ...
BLOCK_BYTES = 34  # ... which is a 16-bit scale and as many signed bytes.
MODEL_FILE = "model.npz"
COMPACT_FORMAT = 1

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """Width and depth, in LLaMA's terms. `context` is tokens per sequence."""

    dim: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    context: int
    rope_base: float
    norm_eps: float


@dataclass(frozen=True, slots=True)
class DemoCard:
    """What is worth knowing about a bundled expert. `nats_per_token` counts LLaMA-3 tokens of text
    it was not trained on, and `bits_per_byte` is the same figure without the vocabulary in it.
    `gguf_sha256` is the digest of the expanded file."""

    name: str
    summary: str
    domains: tuple[str, ...]
    shape: Shape
    active_rows: int
    n_params: int
    steps: int
    trained_tokens: int
    nats_per_token: float
    bits_per_byte: float
    gguf_sha256: str = ""


@dataclass(frozen=True, slots=True)
class CompactModel:
    """n active ids, d = dim: `rows` uint8[n, d / 32 * 34] output rows (entry 0 is the bias);
    `input_block` uint8[n, 34] the first block of the input rows; `layers` Q8_0 matrices as uint8 or
    norms as float32, by their GGUF names; `unused_bias` entry 0 of every other output row."""

    card: DemoCard
    active_ids: npt.NDArray[np.int32]
    rows: npt.NDArray[np.uint8]
    input_block: npt.NDArray[np.uint8]
    bias_input: float
    unused_bias: float
    layers: dict[str, Array]

    def input_rows(self) -> npt.NDArray[np.uint8]:
        found = self.rows.copy()
        found[:, :BLOCK_BYTES] = self.input_block
        return found


def dequantize(blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Q8_0 rows as float32: a scale times a signed byte."""
    parts = blocks.reshape(-1, BLOCK_BYTES)
    scales = parts[:, :2].copy().view(np.float16).astype(np.float32)
    return (parts[:, 2:].view(np.int8) * scales).reshape(len(blocks), -1)


def save_compact(model: CompactModel, folder: Path) -> Path:
    """Deterministic: the archive holds no times of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "format": COMPACT_FORMAT,
        "card": asdict(model.card),
        "bias_input": model.bias_input,
        "unused_bias": model.unused_bias,
    }
    arrays = {f"layers/{name}": weights for name, weights in model.layers.items()}
    path = folder / MODEL_FILE
    np.savez_compressed(
        path,
        facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
        active_ids=model.active_ids,
        rows=model.rows,
        input_block=model.input_block,
        allow_pickle=False,
        **arrays,
    )
    return path


def _facts(archive: Any) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(archive["facts"].tobytes())
    if facts["format"] != COMPACT_FORMAT:
        raise ValueError(f"format {facts['format']}")
    card = facts["card"]
    facts["card"] = DemoCard(
        **card | {"shape": Shape(**card["shape"]), "domains": tuple(card["domains"])}
    )
    return facts


def load_compact(folder: Path) -> CompactModel:
    path = folder / MODEL_FILE
    try:
        # numpy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            facts = _facts(archive)
            layers = {
                name.removeprefix("layers/"): archive[name]
                for name in archive.files
                if name.startswith("layers/")
            }
            return CompactModel(
                card=facts["card"],
                active_ids=archive["active_ids"],
                rows=archive["rows"],
                input_block=archive["input_block"],
                bias_input=facts["bias_input"],
                unused_bias=facts["unused_bias"],
                layers=layers,
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
        raise LocalError(
            f"the bundled expert {path} cannot be read ({e}): reinstall swarmllm"
        ) from e


def bundled_folder() -> Path:
    return Path(str(importlib.resources.files("swarmllm.experts")))


def bundled() -> list[DemoCard]:
    """The cards of all bundled experts, by name. Reads a few kilobytes of each."""
    cards = []
    for path in sorted(bundled_folder().glob(f"*/{MODEL_FILE}")):
        try:
            # numpy leaves a damaged file open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                cards.append(_facts(archive)["card"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
            raise LocalError(
                f"the bundled expert {path} cannot be read ({e}): reinstall swarmllm"
            ) from e
    return cards


def folder_of(name: str) -> Path:
    """UsageError, listing the names there are, for an unknown one."""
    names = [path.parent.name for path in sorted(bundled_folder().glob(f"*/{MODEL_FILE}"))]
    if name not in names:
        raise UsageError(
            f"there is no demo expert {name!r}: the bundled ones are {', '.join(names) or 'none'}"
        )
    return bundled_folder() / name


def content_key(folder: Path) -> str:
    """Hexadecimal digest of the compact form: what an expanded file was made from."""
    try:
        return hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    except OSError as e:
        raise LocalError(
            f"the bundled expert {folder / MODEL_FILE} cannot be read ({e.strerror}):"
            " reinstall swarmllm"
        ) from e
