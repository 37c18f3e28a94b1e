"""The Text port of a node without a model: it learns the vocabulary of the swarm that it joins.

Which one is decided by the experts that are known (`core.peers.vocabularies`), unless the owner
decided. The tokenizer then comes from the cache or from a peer (`core.tokenizers`), is checked
against the digests in the experts' signed records, and runs as every other one does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import trio

from swarmllm.core.chat import ChatMessage, ChatPrompt
from swarmllm.core.effects import TokenizerEffect, TokenizerFetched, TokenizerMissing
from swarmllm.core.inputs import Input, TokenizerJudged, TokenizerSought, VocabularyLearned
from swarmllm.core.peers.view import VocabularyView
from swarmllm.core.vocabulary import Span, Vocabulary
from swarmllm.errors import LocalError, RemoteError
from swarmllm.runtime.ports import Text

LOOK_EVERY_S: Final = 0.25
# From the first connected expert: for others to be heard of, so that "most" means something.
SETTLE_S: Final = 1.5
RETRY_S: Final = 3.0
GONE_S: Final = 60.0  # A swarm that changes its models may take a while to start them all.
NOBODY_S: Final = 10.0  # What an answer waits for somebody to ask at all, as with a vocabulary.
READY_S: Final = 60.0  # What an answer waits: to find experts, and for 4 MB at 256 KiB/s.

AUTO: Final = "auto"

log = logging.getLogger("swarmllm.vocabulary")


class Swarm(Protocol):
    """What a running node knows, and where it is told."""

    def vocabularies(self) -> Sequence[VocabularyView]: ...

    def progress(self) -> tuple[int, int]:
        """Bytes fetched, of how many."""

    async def feed(self, event: Input) -> None: ...


Open = Callable[[VocabularyView, bytes], Awaitable[Text | None]]
"""The text side of these digests: from the cache (None: not there), or from what a peer sent.
RemoteError if that is something else, LocalError if it cannot be used or kept."""


class LearnedText:
    """`wanted` is `auto` or the beginning of a fingerprint in hexadecimal. `tell` hears what is
    being done and how far it is, (what, bytes, of how many); `notice` hears sentences."""

    def __init__(
        self,
        wanted: str,
        open_text: Open,
        tell: Callable[[str, int, int], None],
        notice: Callable[[str], None],
    ) -> None:
        self._wanted, self._open, self._tell, self._notice = wanted, open_text, tell, notice
        self._text: Text | None = None
        self._known = trio.Event()
        self._trouble = ""
        self._chosen = ""  # A model of the vocabulary that is being learned.
        self._unfit: set[bytes] = set()  # Fingerprints; at most as many as there are peers.
        self._outcomes, self._fetched = trio.open_memory_channel[
            TokenizerFetched | TokenizerMissing
        ](1)

    # --- the port ---------------------------------------------------------------------------------

    @property
    def vocabulary(self) -> Vocabulary:
        assert self._text is not None, "the vocabulary is not known yet"
        return self._text.vocabulary

    async def ready(self) -> Vocabulary:
        for seconds in (NOBODY_S, READY_S - NOBODY_S):
            with trio.move_on_after(seconds):
                await self._known.wait()
            if self._text is not None:
                return self._text.vocabulary
            if not self._chosen:
                raise LocalError(
                    f"no expert was reachable within {NOBODY_S:.0f} s, and this node has no model"
                    " that would tell it a vocabulary; `swarmllm doctor` shows what this node sees"
                )
        raise LocalError(
            "this node has no model, and has not learned the swarm's vocabulary within"
            f" {READY_S:.0f} s ({self._trouble or f'that of {self._chosen} is on its way'});"
            " `swarmllm status` shows whom it knows"
        )

    async def encode(self, text: str | Sequence[Span], *, add_bos: bool = False) -> list[int]:
        await self.ready()
        assert self._text is not None
        return await self._text.encode(text, add_bos=add_bos)

    async def encode_chat(self, messages: Sequence[ChatMessage]) -> ChatPrompt:
        await self.ready()
        assert self._text is not None
        return await self._text.encode_chat(messages)

    # --- learning ---------------------------------------------------------------------------------

    def perform(self, effect: TokenizerEffect) -> None:
        """What the exchange of this node brought about."""
        if isinstance(effect, TokenizerFetched | TokenizerMissing):
            try:
                self._outcomes.send_nowait(effect)
            except trio.WouldBlock:
                log.warning("an outcome that nobody waits for: %s", type(effect).__name__)

    async def learn(self, swarm: Swarm) -> None:
        """Until the vocabulary is known, and again when its experts have gone and others are there;
        for as long as the node lives."""
        while True:
            self._text = await self._learned(swarm)
            await swarm.feed(VocabularyLearned(self._text.vocabulary.fingerprint))
            self._known.set()
            await self._gone(swarm)
            self._notice(
                f"no expert has had the vocabulary of {self._chosen} for {GONE_S:.0f} s, and others"
                " are there: this node learns theirs"
            )

    async def _learned(self, swarm: Swarm) -> Text:
        while True:
            chosen = await self._choose(swarm)
            self._chosen = chosen.model
            try:
                return await self._open(chosen, b"") or await self._fetch(swarm, chosen)
            except LocalError as fault:
                if str(fault) != self._trouble:
                    self._notice(f"the vocabulary of {chosen.model} cannot be had: {fault}")
                self._trouble = str(fault)
                await trio.sleep(RETRY_S)

    async def _gone(self, swarm: Swarm) -> None:
        """Until nobody has had our vocabulary for a while and another one could be learned."""
        since = trio.current_time()
        while trio.current_time() - since < GONE_S:
            await trio.sleep(GONE_S / 12)
            found = swarm.vocabularies()
            ours = any(one.fingerprint == self.vocabulary.fingerprint for one in found)
            if ours or not any(one.reachable and self._fits(one) for one in found):
                since = trio.current_time()

    async def _choose(self, swarm: Swarm) -> VocabularyView:
        seen_at: float | None = None
        while True:
            found = [one for one in swarm.vocabularies() if one.reachable and self._fits(one)]
            if found:
                now = trio.current_time()
                seen_at = now if seen_at is None else seen_at
                if now - seen_at >= SETTLE_S:
                    self._say(found)
                    return found[0]
            await trio.sleep(LOOK_EVERY_S)

    def _fits(self, one: VocabularyView) -> bool:
        wanted = self._wanted == AUTO or one.fingerprint.hex().startswith(self._wanted)
        return wanted and one.fingerprint not in self._unfit

    def _say(self, found: Sequence[VocabularyView]) -> None:
        if len(found) > 1 and not self._trouble:
            others = ", ".join(f"{v.experts} as {v.model}" for v in found[1:3])
            first = found[0]
            self._notice(
                f"the experts of this swarm have {len(found)} vocabularies: this node asks the"
                f" {first.experts} with that of {first.model} ({first.fingerprint.hex()[:12]}),"
                f" and not the others ({others}); --vocabulary chooses"
            )

    async def _fetch(self, swarm: Swarm, chosen: VocabularyView) -> Text:
        await swarm.feed(TokenizerSought(chosen.fingerprint, chosen.chat_digest, chosen.reachable))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._show, swarm, chosen)
            text = await self._take(swarm, chosen)
            nursery.cancel_scope.cancel()
        if isinstance(text, LocalError):
            raise text
        return text

    async def _take(self, swarm: Swarm, chosen: VocabularyView) -> Text | LocalError:
        """What came of it; an error is returned, and not wrapped into the nursery's group."""
        while True:
            outcome = await self._fetched.receive()
            if isinstance(outcome, TokenizerMissing):
                return LocalError(outcome.reason)
            if outcome.fingerprint != chosen.fingerprint:
                continue  # Of an attempt before.
            try:
                text = await self._open(chosen, outcome.data)
            except RemoteError as fault:
                log.warning("%s: %s", outcome.peer, fault)
                await swarm.feed(TokenizerJudged(is_good=False))
                continue
            except LocalError as fault:
                await swarm.feed(TokenizerJudged(is_good=True))
                self._unfit.add(chosen.fingerprint)  # It is what was asked for, and no use.
                return fault
            assert text is not None
            await swarm.feed(TokenizerJudged(is_good=True))
            return text

    async def _show(self, swarm: Swarm, chosen: VocabularyView) -> None:
        while True:
            done, size = swarm.progress()
            if size:
                self._tell(f"fetching the vocabulary of {chosen.model} from a peer", done, size)
            await trio.sleep(LOOK_EVERY_S)
