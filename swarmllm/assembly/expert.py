"""The expert of a real node as its owner steers it while it runs: another model is found, fetched
if need be, compared and loaded in place of the one before, and what the owner wants is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import trio

from swarmllm.adapters.expert_file import OwnersChoice, read_choice, write_choice
from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.llama_text import open_text
from swarmllm.adapters.models.library import bring
from swarmllm.assembly.model import SendFrame
from swarmllm.errors import LocalError, SwarmError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.model_reference import (
    AUTO,
    Auto,
    NoModel,
    NotAReference,
    Reference,
    parse_reference,
)
from swarmllm.runtime.ports import Engine, Text
from swarmllm.runtime.service.json_events import ModelReady
from swarmllm.runtime.service.own_expert import ModelChange


def with_choice(config: Config) -> Config:
    """With the model that the owner registered, where the settings name none. LocalError if what is
    kept cannot be read."""
    if config.model != AUTO:
        return config
    return replace(config, model=read_choice(config.data_dir).model or AUTO)


def settle(config: Config, folder: Path) -> tuple[OwnersChoice, tuple[str, ...]]:
    """What the owner wants from this start on, and what is to be told of it. A model that the
    settings name goes before one that was registered, and that is forgotten; blocks."""
    choice, remarks = read_choice(folder), list[str]()
    if choice.model and choice.model != config.model:
        remarks.append(
            f"the settings name the model {config.model}, so {choice.model}, which was registered"
            " while the node ran, is forgotten"
        )
        choice = replace(choice, model="")
        write_choice(folder, choice)
    if not choice.is_offered:
        remarks.append(
            "this node's expert is withdrawn from the swarm; `swarmllm experts register` offers it"
        )
    return choice, tuple(remarks)


class NodeExpert:
    """`runtime.service.own_expert.OwnExpert`. `start` begins a task of the node."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        choice: OwnersChoice,
        engine: Engine | None,
        text: Text,
        tell: SendFrame,
        start: Callable[..., None],
    ) -> None:
        self._config, self._folder, self._choice = config, folder, choice
        self._engine, self._text = engine, text
        self._tell, self._start = tell, start
        self._reference = config.model
        self._change: ModelChange | None = None

    @property
    def reference(self) -> str:
        return self._reference

    def change(self, model: str) -> ModelChange:
        try:
            reference = parse_reference(model)
        except NotAReference as error:
            raise UsageError(f"the model {model[:60]!r} is not {error.expected}") from error
        if isinstance(reference, Auto | NoModel):
            raise UsageError(f"{model!r} names no model that could be offered; name one")
        if not isinstance(self._engine, LlamaEngine):
            raise LocalError("this node's engine loads no other model; start another node for it")
        if self._change is not None and not self._change.is_over:
            raise LocalError("another model is being loaded already; ask again when it is there")
        change = self._change = ModelChange(f"looking for {reference}")
        self._start(self._exchanged, self._engine, reference, change)
        return change

    async def offer(self, *, is_offered: bool) -> None:
        await self._keep(replace(self._choice, is_offered=is_offered))

    async def _keep(self, choice: OwnersChoice) -> None:
        if choice != self._choice:
            await trio.to_thread.run_sync(write_choice, self._folder, choice)
            self._choice = choice

    async def _exchanged(
        self, engine: LlamaEngine, reference: Reference, change: ModelChange
    ) -> None:
        try:
            await self._exchange(engine, reference, change)
        except SwarmError as fault:
            change.fault = fault
        finally:
            change.is_over = True

    async def _exchange(
        self, engine: LlamaEngine, reference: Reference, change: ModelChange
    ) -> None:
        assert not isinstance(reference, NoModel)
        began_at, config = trio.current_time(), self._config

        def show(done: int, size: int) -> None:
            change.what, change.done, change.size = f"fetching {reference}", done, size

        found = await bring(reference, config.cache_dir, may_fetch=not config.offline, show=show)
        change.what, change.done, change.size = f"reading {found.path.name}", 0, 0
        ours = self._text.vocabulary.fingerprint
        async with open_text(found.path) as text:
            theirs = text.vocabulary.fingerprint
        if theirs != ours:
            raise UsageError(
                f"{reference} has another vocabulary ({theirs.hex()[:12]}) than this node's swarm"
                f" ({ours.hex()[:12]}): they cannot decide over a token together; start a node of"
                " its own for it, with --model and --data-dir"
            )
        change.what = f"loading {found.path.name}"
        await engine.exchange(found.path, found.name, found.domains)
        self._reference = str(found.reference)
        took_s = trio.current_time() - began_at
        self._tell(ModelReady(engine.card, took_s, engine.load.tokens_per_s, found.path.name))
        await self._keep(replace(self._choice, model=self._reference))
        change.digest = engine.card.digest
