"""What one model thought of one document, on disk: exact log-probabilities, the lists as they would
go over the wire, and their errors.

Computing this is nearly all of the work, so it is kept, by model, document and engine setting, and
a run that was interrupted goes on where it was. The folder is bounded; who was used longest ago
goes first.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from swarmllm.adapters.llama.cache_file import PART, replacing

FORMAT: Final = 1  # Raise it when the content, or what it is computed from, changes.
# Some 8,000 documents of 512 tokens: four experts on 500 texts each, four times over.
FOLDER_BYTES_MAX: Final = 2_000_000_000
ENTRIES: Final = 256  # As experts send them.
PROBE_EVERY: Final = 8  # Positions between two at which list and full distribution are compared.


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """T positions. `logprobs` float64[T]: of the token that came, from all logits. `lists`: T
    encoded lists.

    At the P probed positions: `tails` the exact mass outside the list; `wire_tv` total variation
    between the exact list (its tail as one token) and the decoded one; `wire_nats` the divergence
    from exact to decoded; `target_shift` how much higher the decoded list puts the token that came,
    nan where it is not in the list. All float64[P].
    """

    logprobs: npt.NDArray[np.float64]
    lists: tuple[bytes, ...]
    tails: npt.NDArray[np.float64]
    wire_tv: npt.NDArray[np.float64]
    wire_nats: npt.NDArray[np.float64]
    target_shift: npt.NDArray[np.float64]


def folder_in(cache_dir: Path) -> Path:
    return cache_dir / "eval"


def place(
    cache_dir: Path, model: str, document: str, bos: int, context: int, *, exact: bool = True
) -> Path:
    """The file for a model and a document, by their digests, and what else decides the numbers."""
    key = json.dumps([FORMAT, model, document, bos, context, exact, ENTRIES, PROBE_EVERY])
    return folder_in(cache_dir) / (hashlib.sha256(key.encode()).hexdigest()[:40] + ".scores")


def save(path: Path, scored: Scored) -> None:
    """Whole or not at all. OSError passes through."""
    content = io.BytesIO()
    np.savez(
        content,
        logprobs=scored.logprobs,
        sizes=np.array([len(data) for data in scored.lists], np.uint16),
        lists=np.frombuffer(b"".join(scored.lists), np.uint8),
        probes=np.stack([scored.tails, scored.wire_tv, scored.wire_nats, scored.target_shift]),
    )
    data = content.getvalue()
    with replacing(path) as file:
        file.write(hashlib.sha256(data).digest() + data)


def load(path: Path) -> Scored | None:
    """None for a file that is missing or damaged: it is computed again."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        with np.load(io.BytesIO(content[32:]), allow_pickle=False) as stored:
            ends = np.cumsum(stored["sizes"].astype(np.int64))
            lists = stored["lists"].tobytes()
            tails, tv, nats, shift = stored["probes"]
            logprobs = stored["logprobs"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    starts = [0, *ends[:-1].tolist()]
    return Scored(
        logprobs,
        tuple(lists[a:b] for a, b in zip(starts, ends.tolist(), strict=True)),
        tails,
        tv,
        nats,
        shift,
    )


def is_there(path: Path) -> bool:
    """Whether the file is there and whole. Marks it as used."""
    if load(path) is None:
        return False
    with suppress(OSError):  # A cache that cannot be written to is still one that can be read.
        os.utime(path)
    return True


def prune(folder: Path, keep: Sequence[Path], bytes_max: int = FOLDER_BYTES_MAX) -> int:
    """Remove what was used longest ago, never one of `keep`, until the rest fits; and what killed
    processes left behind. Bytes left."""
    for left in folder.glob(f".*{PART}"):
        with suppress(OSError):
            left.unlink()
    kept = set(keep)
    files = []
    for path in folder.glob("*.scores"):
        with suppress(OSError):
            seen = path.stat()
            files.append((path in kept, seen.st_mtime_ns, path.name, seen.st_size))
    total = sum(size for *_, size in files)
    for is_kept, _, name, size in sorted(files):
        if total <= bytes_max or is_kept:
            break
        with suppress(OSError):
            (folder / name).unlink()
            total -= size
    return total
