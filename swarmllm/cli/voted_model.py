"""The default model that a swarm's voters chose, as the node of a data folder knows it: offered to
the owner who names no model, and loaded only if its file has the digest that was voted for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swarmllm.adapters.data_marker import STORE
from swarmllm.adapters.models.library import place_of
from swarmllm.adapters.store import peek
from swarmllm.cli.output import notice
from swarmllm.cli.probe import probe
from swarmllm.core.governance.changes import MODEL, model_of
from swarmllm.core.governance.state_file import STATE_KEY, Damaged, read_state
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.model_reference import (
    DemoExpert,
    HubModel,
    NotAReference,
    SmolLM2,
    parse_shared,
)


@dataclass(frozen=True, slots=True)
class VotedModel:
    """`digest` is SHA-256 of its file."""

    reference: HubModel | SmolLM2 | DemoExpert
    digest: bytes

    def __str__(self) -> str:
        return str(self.reference)

    def is_here(self, config: Config) -> bool:
        """Whether it can be loaded without fetching anything."""
        if isinstance(self.reference, DemoExpert):
            return True
        return place_of(self.reference, config.cache_dir) is not None

    def check(self, path: Path, config: Config) -> None:
        """LocalError if the file is another one than was voted for."""
        found = str(probe(path, config.cache_dir)["digest"])
        if found != self.digest.hex():
            raise LocalError(
                f"{path} has the SHA-256 {found[:16]}…, and the voters of this swarm chose the"
                f" {self} of SHA-256 {self.digest.hex()[:16]}…, so it is not loaded"
            )


def voted_model(config: Config) -> VotedModel | None:
    """What was in force when the node of this folder ran last; None for nothing, and for what
    cannot be read: then the node itself says what is wrong."""
    try:
        data = peek(config.data_dir / STORE, STATE_KEY)
        value = None if data is None else read_state(data).in_force.get(MODEL)
    except (LocalError, Damaged):
        return None
    model = model_of(value)
    if model is None:
        return None
    try:
        return VotedModel(parse_shared(model.reference), model.digest)
    except NotAReference:
        notice(
            f"The voters of this swarm chose the model {model.reference!r}, which this version does"
            " not know; name one with --model."
        )
        return None
