"""What a node computes and writes with: its model, found, fetched and loaded, and its text side,
or, without a model, the tokenizer of the swarm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial

import trio

from swarmllm.adapters.datadir import make_folder
from swarmllm.adapters.keyfile import KeyFile
from swarmllm.adapters.limits import cores
from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.llama_text import LlamaText
from swarmllm.adapters.llama.vocabulary import (
    LLAMA3_CHAT_DIGEST,
    LLAMA3_FINGERPRINT,
    load_vocabulary,
)
from swarmllm.adapters.models.advice import advice_of
from swarmllm.adapters.models.library import Found, bring
from swarmllm.adapters.validation_process import NICE
from swarmllm.core.effects import SealTokenizer, TokenizerEffect
from swarmllm.core.inputs import Input, TokenizerSealed
from swarmllm.core.peers.view import VocabularyView
from swarmllm.core.serving.lending import percent_of, share_of
from swarmllm.core.tokenizers.exchange import TokenizerExchange
from swarmllm.errors import LocalError
from swarmllm.messages import PeerId
from swarmllm.runtime.config import Config
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.halt_performer import HaltPerformer
from swarmllm.runtime.learned_text import LearnedText
from swarmllm.runtime.lending import Look
from swarmllm.runtime.model_reference import NoModel, parse_reference
from swarmllm.runtime.ports import (
    Engine,
    Network,
    Text,
)
from swarmllm.runtime.service.json_events import (
    Life,
    ModelReady,
    Progress,
    Warned,
)
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.runtime.service.request import NOTHING
from swarmllm.runtime.service.service import Service

SendFrame = Callable[[Life], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """Doubles for a test or other implementations for an embedder; None means the real one.
    `review_pace` is a test clock: so many seconds of review go by in one. `validation_nice` is the
    priority of the agent's simulations. `http` opens another way
    to ask the node, and gives its address; without one there is none. `look` looks at the
    machine."""

    engine: AbstractAsyncContextManager[Engine] | None = None
    text: Text | None = None
    network: Callable[[KeyFile, Driver], AbstractAsyncContextManager[Network]] | None = None
    review_pace: float = 1.0
    validation_nice: int = NICE
    http: Callable[[Service], AbstractAsyncContextManager[str]] | None = None
    look: Look | None = None


async def open_model(
    stack: AsyncExitStack,
    nursery: trio.Nursery,
    config: Config,
    tell: SendFrame,
    parts: Parts,
    orders: HaltPerformer,
    keyring: KeyFile,
) -> tuple[Text, Engine | None, Mapping[str, float]]:
    """The text side, the engine if there is one, and how its model's makers advise to draw."""
    began_at = trio.current_time()
    model = None if parts.engine is not None else await _find_model(config, tell)
    reading = None if model is None else _Reading(LlamaText(model.path))
    if reading is not None:
        nursery.start_soon(reading.run, nursery)  # While the model is loaded.
    engine: Engine | None = None
    if model is not None:
        tell(Progress(f"loading {model.path.name}", 0, 0, ""))
    if parts.engine is not None:
        engine = await stack.enter_async_context(parts.engine)
        orders.take_engine(engine)
    elif model is not None:
        real = LlamaEngine(model.path, _engine_options(config, model, keyring.peer))
        orders.take_engine(real)  # The flag stands before there is a worker.
        engine = await stack.enter_async_context(real)
    text = parts.text or await _open_text(nursery, config, reading, engine, tell)
    if engine is not None:
        took_s = trio.current_time() - began_at
        file = "" if model is None else model.path.name
        tell(ModelReady(engine.card, took_s, engine.load.tokens_per_s, file))
    advice = NOTHING if model is None else await trio.to_thread.run_sync(advice_of, model)
    return text, engine, advice


def _engine_options(config: Config, model: Found, owner: PeerId) -> EngineOptions:
    percent = percent_of(config.max_share)
    lent = share_of(percent, cores(), config.threads)
    return EngineOptions(
        context_max=config.context_max,
        sessions_max=config.sessions_max,
        threads=lent.threads,
        duty=lent.duty,
        gpu_layers=config.gpu_layers,
        gpu_percent=percent,
        reproducible=config.reproducible,
        cache_dir=str(config.cache_dir),
        name=model.name,
        domains=model.domains,
        owner=owner,
    )


async def _find_model(config: Config, tell: SendFrame) -> Found | None:
    """The file that the settings name, fetched or made ready first if need be. A client: None."""
    reference = parse_reference(config.model)
    if isinstance(reference, NoModel):
        return None

    def show(done: int, total: int) -> None:
        tell(Progress(f"making {config.model} ready", done, total, "bytes"))

    found = await bring(reference, config.cache_dir, may_fetch=not config.offline, show=show)
    if found.remark:
        tell(Warned(found.remark))
    return found


async def _open_text(
    nursery: trio.Nursery,
    config: Config,
    reading: _Reading | None,
    engine: Engine | None,
    tell: SendFrame,
) -> Text:
    """The text side of our own model; without one, LLaMA-3's or that of the swarm. LocalError if
    the model's file is now another one than was loaded."""
    if reading is not None:
        if not reading.is_done:
            tell(Progress("reading the model's vocabulary", 0, 0, ""))
        text: Text = await reading.result()
    elif engine is not None or config.vocabulary == "llama3":
        text = await trio.to_thread.run_sync(load_vocabulary, config.cache_dir)
    else:
        return LearnedText(
            config.vocabulary,
            partial(_open_learned, nursery, config),
            lambda what, done, size: tell(Progress(what, done, size, "bytes")),
            lambda sentence: tell(Warned(sentence)),
        )
    fingerprint = text.vocabulary.fingerprint
    if engine is not None and fingerprint != engine.card.vocab_fingerprint:
        raise LocalError(
            f"the model has another vocabulary ({engine.card.vocab_fingerprint.hex()[:12]})"
            f" than {text.vocabulary.source} now holds ({fingerprint.hex()[:12]}):"
            " if its file changed, start again"
        )
    return text


class _Reading:
    """The text side of a file, read beside something else. What is wrong with the file is told only
    when somebody asks for the result: the engine may know it better."""

    def __init__(self, text: LlamaText) -> None:
        self._text = text
        self._fault: LocalError | None = None
        self._done = trio.Event()

    async def run(self, nursery: trio.Nursery) -> None:
        try:
            await _start_text(nursery, self._text)
        except LocalError as fault:
            self._fault = fault
        self._done.set()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    async def result(self) -> LlamaText:
        await self._done.wait()
        if self._fault is not None:
            raise self._fault
        return self._text


async def _start_text(nursery: trio.Nursery, text: LlamaText, sealed: bytes = b"") -> LlamaText:
    await text.start(sealed)
    nursery.start_soon(text.run)
    return text


async def _open_learned(
    nursery: trio.Nursery, config: Config, chosen: VocabularyView, sealed: bytes
) -> Text | None:
    """See `learned_text.Open`. The cache keeps a tokenizer as a GGUF file without a model."""
    digests = (chosen.fingerprint, chosen.chat_digest)
    if digests == (bytes.fromhex(LLAMA3_FINGERPRINT), bytes.fromhex(LLAMA3_CHAT_DIGEST)):
        return await trio.to_thread.run_sync(load_vocabulary, config.cache_dir)
    cache = await trio.to_thread.run_sync(make_folder, config.cache_dir, "--cache-dir")
    path = cache / f"tokenizer-{digests[0].hex()[:16]}-{digests[1].hex()}.gguf"
    text = LlamaText(path, digests)
    if sealed:
        return await _start_text(nursery, text, sealed)
    if not path.exists():
        return None
    try:
        return await _start_text(nursery, text)
    except LocalError:
        return None  # Damaged; a peer's takes its place.


def digests_of(text: Text) -> tuple[bytes, bytes]:
    return text.vocabulary.fingerprint, text.vocabulary.chat_digest


async def perform_text(effect: TokenizerEffect, text: Text, driver: Driver) -> None:
    """What the tokenizer exchange wants of the text side."""
    if isinstance(text, LearnedText):
        text.perform(effect)
    elif isinstance(effect, SealTokenizer) and isinstance(text, LlamaText):
        try:
            data = await text.sealed()
        except LocalError:
            data = b""
        await driver.feed(TokenizerSealed(data))


@dataclass(frozen=True, slots=True)
class TextSwarm:
    """`learned_text.Swarm`."""

    local: LocalNode
    exchange: TokenizerExchange
    driver: Driver

    def vocabularies(self) -> Sequence[VocabularyView]:
        return self.local.view().vocabularies

    def progress(self) -> tuple[int, int]:
        view = self.exchange.view(trio.current_time())
        return view.fetched, view.size

    async def feed(self, event: Input) -> None:
        await self.driver.feed(event)
