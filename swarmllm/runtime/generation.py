"""An answer as an embedder sees it: text that arrives in pieces, each with how it came about, and one result at the end.

    async for piece in node.generate("Once upon a time", k=3, max_tokens=64):
        print(piece.text, end="")

The node below speaks in tokens; this module encodes the prompt, decodes the stream without breaking a character, holds back what may
be a stop string, and makes sure that an answer nobody reads any more is cancelled.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from types import TracebackType
from typing import Final, Self, assert_never

import trio

from swarmllm.core.events import (
    Cancelled,
    Ended,
    EndReason,
    ExpertsWeighed,
    ExpertUse,
    GenerateOrder,
    Noticed,
    Sampling,
    TokenChosen,
    Weighed,
)
from swarmllm.core.sampling import validate
from swarmllm.errors import HaltedError, LocalError, UsageError
from swarmllm.messages import CONTEXT_MAX
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.ports import Text, TextStream
from swarmllm.runtime.queues import AnswerFeed
from swarmllm.runtime.result import Result, why_empty
from swarmllm.runtime.stops import StopFilter, check_stops
from swarmllm.runtime.user_text import check_text

K_MAX: Final = 64  # Each expert costs a reply per token; pooling gains nothing measurable long before this.
PROMPT_BYTES_MAX: Final = 8 * CONTEXT_MAX  # No context holds more: a token is 4 bytes of English on average, and seldom over 8.
DOMAIN_BYTES_MAX: Final = 16  # Of a capacity record's domains.
TURNS_MAX: Final = 4096  # A conversation of this many turns fills any context.
LONG_PROMPT_CHARS: Final = 4096  # Encoding goes at 1 MB/s: beyond this, everything else in the event loop would feel it.


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asks for. `seed` None: one is drawn, and told in the result. `stop`: strings that end the answer, not shown.

    `quality` is the share of tokens that all `k` experts are asked about (1: every token; 0: always the best one alone). `domain`:
    experts that claim it are believed more at first. `turns` are the places (in characters) where the prompt's author changes, first
    from outside to the ensemble and then back again, rising; what the ensemble wrote itself is no evidence of how well it writes.
    """

    prompt: str
    k: int = 3
    extra: int = 1
    quality: float = 1.0
    domain: str = ""
    turns: tuple[int, ...] = ()
    max_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def sampling(self) -> Sampling:
        """With a seed drawn if none was given. UsageError naming the value that makes no sense."""
        found = Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=random.SystemRandom().randrange(1 << 31) if self.seed is None else self.seed,
        )
        validate(found)
        return found

    def check(self) -> None:
        """UsageError for whatever can be seen to be wrong without a vocabulary."""
        if not self.prompt:
            raise UsageError("the prompt is empty; give the text that is to be continued")
        for text in (self.prompt, self.domain, *self.stop):
            check_text(text, f"the text {text[:20]!r}")
        size = len(self.prompt.encode())
        if size > PROMPT_BYTES_MAX:
            raise UsageError(f"the prompt has {size} bytes, and no expert can hold more than {PROMPT_BYTES_MAX}; shorten it")
        for name, value, low, high in (
            ("k", self.k, 1, K_MAX),
            ("extra", self.extra, 0, K_MAX),
            ("max_tokens", self.max_tokens, 1, CONTEXT_MAX),
        ):
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}, and it must be a whole number from {low} to {high}")
        if not 0 <= self.quality <= 1:
            raise UsageError(f"quality is {self.quality}, and it must be a share from 0 (one expert) to 1 (all k experts)")
        if len(self.domain.encode()) > DOMAIN_BYTES_MAX:
            raise UsageError(f"the domain {self.domain[:32]!r} has more than {DOMAIN_BYTES_MAX} bytes; no expert can claim it")
        if len(self.turns) > TURNS_MAX or list(self.turns) != sorted({t for t in self.turns if 0 <= t <= len(self.prompt)}):
            raise UsageError(f"turns must be at most {TURNS_MAX} rising places in the prompt; leave them out")
        check_stops(self.stop)


@dataclass(frozen=True, slots=True)
class Piece:
    """A token and the text that it completed (empty while a character or a possible stop string is unfinished).

    `chosen` is None for text alone: what was still held back when the answer broke off.
    """

    text: str
    chosen: TokenChosen | None

    @property
    def token(self) -> int | None:
        return None if self.chosen is None else self.chosen.token

    @property
    def index(self) -> int | None:
        return None if self.chosen is None else self.chosen.index

    @property
    def experts(self) -> tuple[ExpertUse, ...]:
        return () if self.chosen is None else self.chosen.experts


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should see while the answer goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class Weighing:
    """Whom the answer asks and why, told once before its first token; see `ExpertsWeighed`."""

    experts: tuple[Weighed, ...]
    known: int


Part = Piece | Notice | Weighing


@dataclass(slots=True)
class _Tally:
    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    replies: int = 0
    reply_bytes: int = 0
    pooled: int = 0

    def count(self, chosen: TokenChosen) -> None:
        self.tokens += 1
        self.pooled += chosen.k
        for use in chosen.experts:
            if use.used and use.size_bytes:  # Our own expert's answer crosses no wire and has no size.
                self.replies += 1
                self.reply_bytes += use.size_bytes


class Answer:
    """One answer being written. Iterate over its pieces once; `result` is there when they end.

    Leaving the loop early, or cancelling the task that iterates, ends the answer; `aclose` (or `async with`) does so at once, and an
    answer that is merely dropped ends when it is collected. Iterating raises UsageError for a prompt that makes no sense, LocalError
    when the answer ended with an error, and HaltedError when it was halted; `result` is set before the latter two.
    """

    def __init__(
        self,
        driver: Driver,
        text: Text,
        wish: Wish,
        context_max: Callable[[], int | None],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """`context_max` tells the longest context of the experts that can be reached now; None if there are none."""
        wish.check()
        self._sampling = wish.sampling()
        self._driver = driver
        self._text = text
        self._wish = wish
        self._context_max = context_max
        self._clock = clock
        self._stops = StopFilter(wish.stop)
        self._decoder: TextStream | None = None
        self._feed: AnswerFeed | None = None
        self._prompt_tokens = 0
        self._began_at = 0.0
        self._tally = _Tally()
        self._done = False
        self._closed = False
        self._failure: LocalError | None = None
        self.result: Result | None = None

    # --- reading -------------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        while (part := await self.next_part()) is not None:
            if isinstance(part, Piece):
                return part
        self.raise_for_error()
        raise StopAsyncIteration

    async def next_part(self) -> Part | None:
        """The next piece or notice; None after the end, which `result` then describes (nothing is raised for a failed answer)."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return None
        try:
            if self._feed is None:
                await self._start()
            assert self._feed is not None
            while not self._done:
                event = await self._feed.get()
                match event:
                    case TokenChosen():
                        if not self._stops.found:  # Rounds that were under way when the stop string came.
                            return self._piece(event)
                    case Noticed(text=text):
                        return Notice(text)
                    case ExpertsWeighed(experts=experts, known=known):
                        return Weighing(experts, known)
                    case Ended():
                        return self._end(event)
                    case _:
                        assert_never(event)
        except BaseException:
            self._close()  # Cancelled from outside, or a prompt that makes no sense: nobody will read on.
            raise
        await trio.lowlevel.checkpoint()
        return None

    def raise_for_error(self) -> None:
        """LocalError or HaltedError if the answer ended so."""
        result = self.result
        if result is None or result.reason not in {"error", "halted"}:
            return
        if result.reason == "halted":
            raise HaltedError(result.error or "the swarm is halted, and no text is generated; `swarmllm status` shows by whom")
        raise LocalError(result.error or "the answer ended with an error that the node did not explain")

    def cancel(self) -> None:
        """Ask for no more tokens. Those on their way can still be read, and the result's reason is `cancelled`."""
        if self._feed is not None:
            self._driver.cancel(Cancelled(self._feed.request, "cancelled"))

    async def aclose(self) -> None:
        """End the answer now, read or not."""
        self._close()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._close()
        await trio.lowlevel.checkpoint()

    def __del__(self) -> None:
        feed = getattr(self, "_feed", None)  # Absent if the constructor raised.
        if feed is not None and not self._done:
            self._driver.abandon(feed.request)

    # --- inside --------------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        wish, text = self._wish, self._text
        pieces = [wish.prompt[a:b] for a, b in pairwise((0, *wish.turns, len(wish.prompt)))]
        if len(wish.prompt) > LONG_PROMPT_CHARS:
            encoded = await trio.to_thread.run_sync(lambda: [text.encode(piece) for piece in pieces])
        else:
            encoded = [text.encode(piece) for piece in pieces]
        ids = [i for piece in encoded for i in piece]
        if not ids:
            raise UsageError("nothing is left of the prompt in this vocabulary; give a text that is to be continued")
        first = (text.bos,) if text.add_bos and ids[0] != text.bos else ()
        ends = list(accumulate((len(piece) for piece in encoded), initial=len(first)))
        self._prompt_tokens = len(first) + len(ids)
        self._check_context()
        order = GenerateOrder(
            prompt=(*first, *ids),
            outside=tuple(pairwise(ends))[::2] if wish.turns else (),
            domain=wish.domain,
            k=wish.k,
            extra=wish.extra,
            quality=wish.quality,
            max_tokens=wish.max_tokens,
            sampling=self._sampling,
            stop_tokens=text.stop_tokens,
            vocab_size=text.size,
        )
        self._decoder = text.decoder()
        self._began_at = self._clock()
        self._feed = self._driver.ask(order)

    def _check_context(self) -> None:
        """UsageError if experts are known and none of them can hold the whole text."""
        total, longest = self._prompt_tokens + self._wish.max_tokens, self._context_max()
        if total > CONTEXT_MAX:
            longest = min(CONTEXT_MAX, longest or CONTEXT_MAX)
        if longest is not None and total > longest:
            raise UsageError(
                f"the prompt has {self._prompt_tokens} tokens and max_tokens is {self._wish.max_tokens}, together {total}, "
                f"but the longest context of any reachable expert is {longest} tokens; shorten the prompt or lower max_tokens"
            )

    def _piece(self, chosen: TokenChosen) -> Piece:
        assert self._decoder is not None
        assert self._feed is not None
        if chosen.index == 0:
            self._check_context()  # Experts may have been found only after the start.
        self._tally.count(chosen)
        text = self._stops.push(self._decoder.push(chosen.token))
        if self._stops.found:
            self._driver.cancel(Cancelled(chosen.request, "stop"))
        elif self._feed.is_last:
            text += self._rest()
        return self._shown(Piece(text, chosen))

    def _rest(self) -> str:
        assert self._decoder is not None
        return self._stops.push(self._decoder.finish()) + self._stops.finish()

    def _shown(self, piece: Piece) -> Piece:
        if piece.text:
            self._tally.texts.append(piece.text)
        return piece

    def _end(self, ended: Ended) -> Piece | Notice | None:
        if ended.reason == "error" and self._tally.tokens == 0:
            self._check_context()  # "No expert can be asked" may be because none is large enough.
        rest = self._rest()
        piece = self._shown(Piece(rest, None)) if rest else None
        self._done = True
        # A stop string in the last token that was allowed: the node counted tokens, we read them.
        self._finish("stop" if self._stops.found else ended.reason, ended)
        empty = why_empty(self.result) if piece is None and self.result is not None else None
        return piece if empty is None else Notice(empty)

    def _finish(self, reason: EndReason, ended: Ended | None) -> None:
        tally = self._tally
        self.result = Result(
            reason=reason,
            text="".join(tally.texts),
            tokens=tally.tokens,
            prompt_tokens=self._prompt_tokens,
            seconds=self._clock() - self._began_at,
            seed=self._sampling.seed,
            bytes_per_expert_per_token=tally.reply_bytes / tally.replies if tally.replies else 0.0,
            experts_per_token=tally.pooled / tally.tokens if tally.tokens else 0.0,
            failovers=0 if ended is None else ended.failovers,
            local_only_tokens=0 if ended is None else ended.local_only_tokens,
            error="" if ended is None else ended.error,
        )

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._feed is not None and not self._done:
            self._driver.cancel(Cancelled(self._feed.request, "cancelled"))
            self._done = True
            self._finish("cancelled", None)
