"""What the owner has said of this node's expert while it ran, kept in the data folder: the model to
load, and whether others may ask it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from swarmllm.adapters.atomic_file import read_bounded, replace_whole
from swarmllm.errors import LocalError
from swarmllm.runtime.model_reference import NotAReference, parse_reference

FILE: Final = "expert.json"
BYTES_MAX: Final = 16_384  # Twice a path of PATH_MAX bytes, escaped.
WHAT: Final = "what is kept of this node's expert"


@dataclass(frozen=True, slots=True)
class OwnersChoice:
    """`model`: the reference of one that was registered; empty: what the settings name."""

    model: str = ""
    is_offered: bool = True


def read_choice(folder: Path) -> OwnersChoice:
    """As it was said last. LocalError for a file that nobody can read that from."""
    path = folder / FILE
    if not os.path.lexists(path):
        return OwnersChoice()
    try:
        found = json.loads(read_bounded(path, BYTES_MAX, WHAT))
        choice = OwnersChoice(**found)
        if type(choice.model) is not str or type(choice.is_offered) is not bool:
            raise TypeError
        if choice.model:
            parse_reference(choice.model)
    except (ValueError, TypeError, NotAReference, RecursionError) as error:
        raise LocalError(
            f"{path} does not say which expert this node offers; remove it, and the settings do"
        ) from error
    return choice


def write_choice(folder: Path, choice: OwnersChoice) -> None:
    """LocalError if it cannot be kept."""
    replace_whole(folder / FILE, json.dumps(asdict(choice)).encode(), WHAT, 0o600)
