"""The specialists of SmolLM2 as GGUF files in the user's cache: the base model that was fetched,
merged with an adapter from the package, once.

The merged file has one digest everywhere: the adapter says which, and which base it belongs to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from swarmllm.adapters.llama.demo import bundled_folder
from swarmllm.adapters.llama.expansion import Progress, intact, made, unmake
from swarmllm.adapters.llama.gguf_tensors import GgufTensors
from swarmllm.adapters.llama.lora_adapter import AdapterCard, load_adapter, load_card
from swarmllm.adapters.llama.lora_merge import MergedGguf
from swarmllm.errors import LocalError

MERGE_FORMAT: Final = 1  # Raise it when the same base and adapter give other bytes.
ADAPTER_FILE: Final = "adapter.gguf"


def adapters_folder() -> Path:
    return bundled_folder() / "smollm2"


def adapters() -> Iterator[tuple[str, AdapterCard]]:
    """(name, card) of the bundled adapters. Reads a few kilobytes of each. LocalError for a damaged
    one."""
    for path in sorted(adapters_folder().glob(f"*/{ADAPTER_FILE}")):
        yield path.parent.name, load_card(path)


def merge_into_cache(
    name: str, base: Path, cache_dir: Path, progress: Progress | None = None
) -> Path:
    """The GGUF file of the bundled specialist `name`, of the base model in the file `base`. Makes
    it if it is not there whole: ten seconds, and it blocks, so call it in a thread.

    LocalError if the adapter is damaged, the base is another file than the one that it was trained
    on, or the file cannot be written.
    """
    return merge_folder(adapters_folder() / name, base, cache_dir, progress)


def merge_folder(
    folder: Path, base: Path, cache_dir: Path, progress: Progress | None = None
) -> Path:
    """The same for any adapter, such as one that was just trained."""
    adapter = load_adapter(folder / ADAPTER_FILE)

    def content() -> MergedGguf:
        _check_base(base, adapter.card)
        return MergedGguf(GgufTensors(base), adapter)

    path = place_of(folder, cache_dir)
    return made(path, content, "specialist", progress, adapter.card.merged_sha256)


def merged_file(name: str, cache_dir: Path) -> Path | None:
    """The merged file, if it is there whole (0.1 s)."""
    path = place_of(adapters_folder() / name, cache_dir)
    return path if intact(path) else None


def forget_merged(name: str, cache_dir: Path) -> int:
    """Take the merged file away, if there is one; returns the bytes that became free."""
    return unmake(place_of(adapters_folder() / name, cache_dir))


def place_of(folder: Path, cache_dir: Path) -> Path:
    """Where the merged file is, or will be."""
    try:
        content = hashlib.sha256((folder / ADAPTER_FILE).read_bytes()).hexdigest()
    except OSError as e:
        raise LocalError(
            f"the adapter {folder / ADAPTER_FILE} cannot be read ({e.strerror}): reinstall swarmllm"
        ) from e
    key = hashlib.sha256(f"{content} {MERGE_FORMAT}".encode()).hexdigest()
    return cache_dir / f"smollm2-{folder.name}-{key[:16]}.gguf"


def _check_base(base: Path, card: AdapterCard) -> None:
    try:
        with base.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise LocalError(
            f"cannot read the base model {base} ({e.strerror or e}): fetch it again"
        ) from e
    if found != card.base_sha256:
        raise LocalError(
            f"{card.name} was made for the base model with SHA-256 {card.base_sha256[:12]}…, "
            f"and {base} is {found[:12]}…: fetch the base again"
        )
