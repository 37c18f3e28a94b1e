"""A node without a model learns the vocabulary of its swarm, over real drivers and the memory
network, also where the first peer that is asked lies."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import trio
import trio.testing

from swarmllm.core.chat import ChatMessage, ChatPrompt
from swarmllm.core.effects import SealTokenizer, TokenizerEffect
from swarmllm.core.inputs import Input, TokenizerSealed, VocabularyLearned
from swarmllm.core.node import Node, NodeConfig
from swarmllm.core.peers.view import VocabularyView
from swarmllm.core.tokenizers.exchange import TokenizerExchange
from swarmllm.core.vocabulary import Span, Vocabulary
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import PeerId
from swarmllm.messages.declare import TOKENIZER
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.learned_text import GONE_S, READY_S, LearnedText
from swarmllm.runtime.ports import Text, tokenizer_channel
from swarmllm.runtime.sealing import sealing_with
from swarmllm.testing.gguf_vocabularies import gemma_like
from swarmllm.testing.memory_network import MemoryNetwork, MemorySwarm
from swarmllm.testing.memory_store import MemoryStore
from swarmllm.testing.scripted_engine import ScriptedEngine
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.scripted_text import ScriptedText
from swarmllm.wire.tokenizer import unseal
from tests.clock import under_mock_clock
from tests.runtime.little_swarm import key

MADE = gemma_like()
DIGESTS = MADE.digests()
GOOD, GARBAGE = MADE.sealed(), random.Random(1).randbytes(200_000)
OTHER = replace(MADE, scores=b"").sealed()


@dataclass
class Member:
    node: Node
    driver: Driver
    network: MemoryNetwork
    exchange: TokenizerExchange


@asynccontextmanager
async def member(
    wire: MemorySwarm, number: int, content: bytes | None, texts: Callable[[TokenizerEffect], None]
) -> AsyncIterator[Member]:
    """One that has an expert of MADE's vocabulary and gives `content`; None: it has none."""
    keyring = key(number)
    exchange = TokenizerExchange(None if content is None else DIGESTS)
    config = NodeConfig(b"" if content is None else DIGESTS[0])
    rng = random.Random(number)
    node = Node(config, keyring.peer, 1_000_000, rng, sealing_with(keyring), None, (exchange,))

    def perform(effect: TokenizerEffect) -> None:
        if isinstance(effect, SealTokenizer):
            assert content is not None
            nursery.start_soon(driver.feed, TokenizerSealed(content))
        texts(effect)

    driver = Driver(node, keyring, MemoryStore(), texts=perform)
    async with AsyncExitStack() as stack:
        engine = None
        if content is not None:
            model = ScriptedModel("made", 1)
            model.card = replace(model.card, vocab_fingerprint=DIGESTS[0], chat_digest=DIGESTS[1])
            engine = await stack.enter_async_context(ScriptedEngine(model, service_s=0.005))
        channel = tokenizer_channel(driver.door(TOKENIZER))
        network = await stack.enter_async_context(wire.network(keyring.peer, channels=(channel,)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run, network, engine)
            yield Member(node, driver, network, exchange)
            driver.stop()


@dataclass
class Swarm:
    """`learned_text.Swarm` of a member."""

    client: Member

    def vocabularies(self) -> Sequence[VocabularyView]:
        return self.client.node.view(trio.current_time()).vocabularies

    def progress(self) -> tuple[int, int]:
        view = self.client.exchange.view(trio.current_time())
        return view.fetched, view.size

    async def feed(self, event: Input) -> None:
        await self.client.driver.feed(event)


class Opener:
    """Checks what it is given as the text worker does; `broken` is what then goes wrong."""

    def __init__(self, cached: bool = False, broken: str = "") -> None:
        self.cached, self.broken = cached, broken
        self.opened: list[bytes] = []
        self.refused = 0

    async def __call__(self, chosen: VocabularyView, sealed: bytes) -> Text | None:
        await trio.lowlevel.checkpoint()
        self.opened.append(sealed)
        if not sealed:
            return Named(chosen.fingerprint) if self.cached else None
        try:
            unseal(sealed, chosen.fingerprint, chosen.chat_digest)
        except RemoteError:
            self.refused += 1
            raise
        if self.broken:
            raise LocalError(self.broken)
        return Named(chosen.fingerprint)


class Named(ScriptedText):
    def __init__(self, fingerprint: bytes) -> None:
        super().__init__()
        self.vocabulary = replace(self.vocabulary, fingerprint=fingerprint)


@dataclass
class Learning:
    text: LearnedText
    opener: Opener
    told: list[tuple[str, int, int]]
    notices: list[str]
    client: Member


@asynccontextmanager
async def learning(
    contents: Sequence[bytes], opener: Opener, wanted: str = "auto"
) -> AsyncIterator[Learning]:
    told, notices = list[tuple[str, int, int]](), list[str]()
    text = LearnedText(wanted, opener, lambda *news: told.append(news), notices.append)
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(MemorySwarm(delay_s=0.01))
        for number, content in enumerate(contents, 1):
            await stack.enter_async_context(member(wire, number, content, lambda _: None))
        client = await stack.enter_async_context(member(wire, 100, None, text.perform))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(text.learn, Swarm(client))
            yield Learning(text, opener, told, notices, client)
            nursery.cancel_scope.cancel()


@under_mock_clock
async def test_the_tokenizer_comes_from_a_peer_and_then_its_experts_can_be_asked() -> None:
    async with learning([GOOD, GOOD], Opener()) as found:
        vocabulary: Vocabulary = await found.text.ready()
        assert vocabulary.fingerprint == DIGESTS[0]
        assert found.opener.opened == [b"", GOOD]
        assert await found.text.encode("abc") == list(b"abc")
        assert await found.text.encode([Span("<bos>", True)]) == [vocabulary.bos]
        await trio.sleep(1)
        view = found.client.node.view(trio.current_time())
        assert (len(view.experts), view.vocabulary) == (2, DIGESTS[0])
        assert found.notices == []


@under_mock_clock
async def test_what_is_in_the_cache_is_not_fetched() -> None:
    async with learning([GOOD], Opener(cached=True)) as found:
        await found.text.ready()
        assert found.opener.opened == [b""]


@pytest.mark.parametrize("lie", [GARBAGE, OTHER, GOOD[:-1], GOOD + b"\0"])
@under_mock_clock
async def test_a_peer_that_lies_is_found_out_and_another_is_asked(lie: bytes) -> None:  # TOK-9
    # Whichever is asked first, one of the two liars comes before the honest one or it does not.
    async with learning([lie, lie, GOOD], Opener()) as found:
        await found.text.ready()
        assert found.opener.opened[-1] == GOOD
        assert found.opener.refused == found.opener.opened.count(lie)


@under_mock_clock
async def test_only_liars_is_said_and_tried_again_and_no_answer_waits_for_ever() -> None:
    async with learning([GARBAGE], Opener()) as found:
        begun = trio.current_time()
        with pytest.raises(LocalError, match=r"has not learned .* not what its digests name"):
            await found.text.ready()
        assert trio.current_time() - begun == pytest.approx(READY_S)
        assert len(found.notices) == 1
        assert "not what its digests name" in found.notices[0]


@under_mock_clock
async def test_a_vocabulary_that_cannot_be_used_is_no_fault_of_the_peer_that_gave_it() -> None:
    async with learning([GOOD], Opener(broken="llama.cpp cannot read it")) as found:
        with pytest.raises(LocalError, match=r"llama\.cpp cannot read it"):
            await found.text.ready()
        assert found.opener.opened == [b"", GOOD]  # And it is not fetched again and again.
        assert found.client.node.view(trio.current_time()).peers


@under_mock_clock
async def test_a_vocabulary_that_nobody_has_is_waited_for() -> None:
    async with learning([GOOD], Opener(), wanted="0123abcd") as found:
        with pytest.raises(LocalError, match="no expert was reachable within 10 s"):
            await found.text.ready()
        assert found.opener.opened == []
    async with learning([GOOD], Opener(), wanted=DIGESTS[0].hex()[:8]) as found:
        await found.text.ready()


@under_mock_clock
async def test_conversations_wait_for_it_as_well() -> None:
    async with learning([GOOD], Opener()) as found:
        prompt: ChatPrompt = await found.text.encode_chat([ChatMessage("user", "hello")])
        assert prompt.ids


@dataclass
class Scene:
    """`learned_text.Swarm` with experts as they are put there."""

    there: list[VocabularyView]
    learned: list[bytes] = field(default_factory=list)

    def vocabularies(self) -> Sequence[VocabularyView]:
        return self.there

    def progress(self) -> tuple[int, int]:
        return 0, 0

    async def feed(self, event: Input) -> None:
        await trio.lowlevel.checkpoint()
        assert isinstance(event, VocabularyLearned)
        self.learned.append(event.fingerprint)


def having(fingerprint: bytes, model: str) -> VocabularyView:
    return VocabularyView(fingerprint, bytes(8), model, (PeerId("p"),), 1, 1)


@under_mock_clock
async def test_when_all_experts_of_a_vocabulary_have_gone_that_of_others_is_learned() -> None:
    old, new = having(b"1" * 32, "old"), having(b"2" * 32, "new")
    notices = list[str]()
    text = LearnedText("auto", Opener(cached=True), lambda *_: None, notices.append)
    scene = Scene([old])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(text.learn, scene)
        assert (await text.ready()).fingerprint == old.fingerprint
        for there in ([old, new], []):  # Others beside it, and nobody at all, change nothing.
            scene.there = there
            await trio.sleep(10 * GONE_S)
            assert scene.learned == [old.fingerprint]
        scene.there = [new]
        await trio.sleep(GONE_S / 2)
        assert text.vocabulary.fingerprint == old.fingerprint
        await trio.sleep(GONE_S)
        assert scene.learned == [old.fingerprint, new.fingerprint]
        assert text.vocabulary.fingerprint == new.fingerprint
        assert "no expert has had the vocabulary of old" in notices[-1]
        nursery.cancel_scope.cancel()
