"""An answer as an embedder sees it: text that arrives in pieces, each with how it came about, and
one result at the end.

    async for piece in node.generate("Once upon a time", k=3, max_tokens=64):
        print(piece.text, end="")

The node below speaks in tokens; this module encodes the prompt, decodes the stream without breaking
a character, holds back what may be a stop string, and makes sure that an answer nobody reads any
more is cancelled.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from types import TracebackType
from typing import Self, assert_never

import trio

from swarmllm.core.decoding.requests import refused
from swarmllm.core.events import (
    Ended,
    EndReason,
    ExpertsWeighed,
    ExpertUse,
    Noticed,
    TokenChosen,
    Weighed,
)
from swarmllm.core.inputs import Cancelled
from swarmllm.core.settings.holder import Settings
from swarmllm.core.thinking import Thinking
from swarmllm.core.tool_calls import offer_of
from swarmllm.core.values import MAX_TOKENS_USUAL, GenerateRequest, Only
from swarmllm.core.vocabulary import Detokenizer, Vocabulary
from swarmllm.core.wording import several
from swarmllm.errors import ContextError, HaltedError, LocalError, UsageError
from swarmllm.messages import CONTEXT_MAX, PeerId
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.ports import Grammars, Text
from swarmllm.runtime.queues import AnswerFeed
from swarmllm.runtime.service.request import NOTHING, TextRequest, breadth_of
from swarmllm.runtime.service.result import Result, cut_short, why_empty
from swarmllm.runtime.service.stop_strings import StopFilter, StopsBesideCalls


@dataclass(frozen=True, slots=True)
class Piece:
    """A token and the text that it completed (empty while a character or a possible stop string is
    unfinished).

    `chosen` is None for text alone: what was still held back when the answer broke off. `data` are
    the token's bytes and `likeliest` the most probable tokens there, each with its bytes and its
    log-probability, if the request wants to know.
    """

    text: str
    chosen: TokenChosen | None
    data: bytes | None = None
    likeliest: tuple[tuple[int, bytes, float], ...] = ()

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
    prompt_tokens: int
    thinking: Thinking | None = None


Part = Piece | Notice | Weighing


@dataclass(slots=True)
class _Tally:
    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    asked: int = 0  # Tokens that experts were asked for: a grammar forces the others.
    replies: int = 0
    reply_bytes: int = 0
    pooled: int = 0
    rounds: int = 0
    last_round: int = -1

    def count(self, chosen: TokenChosen) -> None:
        self.tokens += 1
        self.asked += chosen.k > 0
        self.pooled += chosen.k
        if chosen.k and chosen.round != self.last_round:
            self.rounds, self.last_round = self.rounds + 1, chosen.round
        for use in chosen.experts:
            # Our own expert's answer crosses no wire and has no size.
            if use.used and use.size_bytes:
                self.replies += 1
                self.reply_bytes += use.size_bytes


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What the experts are given: `others` are the stretches of `ids` that the ensemble did not
    write itself (empty: all of them)."""

    ids: tuple[int, ...]
    others: tuple[tuple[int, int], ...]
    end_tokens: frozenset[int]


class Answer:
    """One answer being written. Iterate over its pieces once; `result` is there when they end.

    Leaving the loop early, or cancelling the task that iterates, ends the answer; `aclose` (or
    `async with`) does so at once, and an answer that is merely dropped ends when it is collected.
    Iterating raises UsageError for a prompt that makes no sense, LocalError when the answer ended
    with an error, and HaltedError when it was halted; `result` is set before the latter two.
    """

    def __init__(
        self,
        driver: Driver,
        text: Text,
        request: TextRequest,
        context_max: Callable[[Only], int | None],
        clock: Callable[[], float] = trio.current_time,
        settings: Settings | None = None,
        grammars: Grammars | None = None,
        *,
        among: frozenset[PeerId] | None = None,
        is_background: bool = False,
        advice: Mapping[str, float] = NOTHING,
        halted: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """`context_max` tells the longest context of those experts that can be reached now; None if
        there are none. `settings` have what the request leaves open; None: the defaults.
        `grammars` compile the request's grammar; None: it may have none. `among`: as in `Only`,
        `is_background`: as in `GenerateRequest`, `advice`: as in `TextRequest.drawn`. `halted`
        tells why no text may be written now."""
        request.check()
        assert request.grammar is None or grammars is not None, "nobody compiles grammars"
        self._grammars = grammars
        self._among, self._is_background, self._halted = among, is_background, halted
        self._sampling = request.drawn(advice)
        self._driver = driver
        self._text = text
        self._request = request
        self._context_max = context_max
        self._clock = clock
        self._settings = settings or Settings()
        self._stops: StopFilter | StopsBesideCalls = StopFilter(request.stop)
        self._decoder: Detokenizer | None = None
        self._thinking: Thinking | None = None
        self._spelled: Mapping[int, str] = {}  # Control tokens that are shown by their names.
        self._feed: AnswerFeed | None = None
        self._prompt_tokens = 0
        self._max_tokens = request.max_tokens
        self._began_at = 0.0
        self._tally = _Tally()
        self._done = False
        self._closed = False
        self._is_cancelled = False
        self._failure: LocalError | None = None
        self.result: Result | None = None

    # --- reading ----------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        while (part := await self.next_part()) is not None:
            if isinstance(part, Piece):
                return part
        self.raise_for_error()
        raise StopAsyncIteration

    async def next_part(self) -> Part | None:
        """The next piece or notice; None after the end, which `result` then describes (nothing is
        raised for a failed answer)."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return None
        try:
            if self._feed is None:
                # Before a wait for experts, which would end with less.
                if reasons := self._halted():
                    self._done = self._closed = True
                    self._began_at = self._clock()
                    self._finish("halted", Ended(0, "halted", 0, 0, 0, refused(reasons)))
                    await trio.lowlevel.checkpoint()
                    return None
                await self._start()
            assert self._feed is not None
            while not self._done:
                event = await self._feed.get()
                match event:
                    case TokenChosen():
                        # Rounds that were under way when the stop string came.
                        if not self._stops.found:
                            return self._piece(event)
                    case Noticed(text=text):
                        return Notice(text)
                    case ExpertsWeighed(experts=experts, known=known):
                        return Weighing(experts, known, self._prompt_tokens, self._thinking)
                    case Ended():
                        return self._end(event)
                    case _:
                        assert_never(event)
        except BaseException:
            # Cancelled from outside, or a prompt that makes no sense: nobody will read on.
            self._close()
            raise
        await trio.lowlevel.checkpoint()
        return None

    def raise_for_error(self) -> None:
        """LocalError or HaltedError if the answer ended so."""
        result = self.result
        if result is None or result.reason not in {"error", "halted"}:
            return
        if result.reason == "halted":
            raise HaltedError(
                result.error
                or "the swarm is halted, and no text is generated; `swarmllm status` shows by whom"
            )
        raise LocalError(
            result.error or "the answer ended with an error that the node did not explain"
        )

    def cancel(self) -> None:
        """Ask for no more tokens. Those on their way can still be read, and the result's reason is
        `cancelled`."""
        self._is_cancelled = True
        if self._feed is not None:
            self._driver.cancel(Cancelled(self._feed.request, "cancelled"))

    async def aclose(self) -> None:
        """End the answer now, read or not."""
        self._close()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        await trio.lowlevel.checkpoint()

    def __del__(self) -> None:
        feed = getattr(self, "_feed", None)  # Absent if the constructor raised.
        if feed is not None and not self._done:
            self._driver.abandon(feed.request)

    # --- inside -----------------------------------------------------------------------------------

    async def _plain(self) -> _Prompt:
        """The text that is to be continued."""
        request, vocabulary = self._request, self._text.vocabulary
        if request.prompt_ids:
            for token in request.prompt_ids:
                if token >= vocabulary.size:
                    raise UsageError(
                        f"token id {token} of the prompt is outside of the {vocabulary.size:,}"
                        " tokens of this vocabulary"
                    )
            return _Prompt(tuple(vocabulary.begin(request.prompt_ids)), (), vocabulary.eog)
        plain = await self._text.encode(request.prompt)
        if not plain:
            raise UsageError(
                "nothing is left of the prompt in this vocabulary; give a text that is to be"
                " continued"
            )
        ids = vocabulary.begin(plain)
        others = outside(vocabulary, ids, request.prompt, request.turns)
        return _Prompt(tuple(ids), others, vocabulary.eog)

    async def _chat(self) -> _Prompt:
        """The conversation that is to be answered, as the model's template writes it."""
        vocabulary = self._text.vocabulary
        chat = await self._text.encode_chat(self._request.messages)
        self._stops = StopFilter((*self._request.stop, *chat.stop))
        grammar = self._request.grammar
        if chat.thinking is not None and (grammar is None or grammar.kind == "tool_calls"):
            self._thinking = chat.thinking
            self._spelled = dict(chat.thinking.tokens)
        first = 1 if chat.ids[:1] == (vocabulary.bos,) else 0
        borders = [first, *(place for stretch in chat.own for place in stretch), len(chat.ids)]
        others = tuple((a, b) for a, b in list(pairwise(borders))[::2] if a < b)
        return _Prompt(chat.ids, others, vocabulary.eog | chat.end_tokens)

    async def _start(self) -> None:
        request, vocabulary = self._request, await self._text.ready()
        prompt = await (self._chat() if request.messages else self._plain())
        grammar = None
        if request.grammar is not None:
            assert self._grammars is not None
            grammar = await self._grammars.compile(request.grammar, vocabulary)
            if request.grammar.kind == "tool_calls":  # There may be text before a call.
                assert isinstance(self._stops, StopFilter)
                has_form = offer_of(request.grammar.text).form is not None
                self._stops = StopsBesideCalls(self._stops, has_form=has_form)
            else:
                # The grammar says where the text ends, unless the client does.
                self._stops = StopFilter(request.stop)
        self._prompt_tokens = len(prompt.ids)
        self._max_tokens = room(request, self._prompt_tokens, self._context_max(request.experts()))
        self._check_context()
        order = GenerateRequest(
            prompt=prompt.ids,
            outside=prompt.others,
            domain=request.domain,
            chat_digest=vocabulary.chat_digest if request.messages else b"",
            max_tokens=self._max_tokens,
            sampling=self._sampling,
            stop_tokens=prompt.end_tokens,
            vocab_size=vocabulary.size,
            grammar=grammar,
            only=replace(request.experts(), among=self._among),
            likeliest=request.likeliest or 0,
            is_background=self._is_background,
            receipt=request.receipt,
            **breadth_of(request, self._settings),
        )
        self._decoder = vocabulary.decoder()
        self._began_at = self._clock()
        self._feed = self._driver.ask(order)
        if self._is_cancelled:  # While the prompt was being encoded, or before.
            self._driver.cancel(Cancelled(self._feed.request, "cancelled"))

    def _check_context(self) -> None:
        """ContextError if experts are known and none of them can hold the whole text."""
        total = self._prompt_tokens + self._max_tokens
        longest = self._context_max(self._request.experts())
        if total > CONTEXT_MAX:
            longest = min(CONTEXT_MAX, longest or CONTEXT_MAX)
        if longest is not None and total > longest:
            raise ContextError(
                f"the prompt has {several(self._prompt_tokens, 'token')} and max_tokens is"
                f" {self._max_tokens}, together {total}, but the longest context of any"
                f" reachable expert is {longest} tokens; shorten the prompt or lower max_tokens",
                total - longest,
            )

    def _piece(self, chosen: TokenChosen) -> Piece:
        assert self._decoder is not None
        assert self._feed is not None
        if chosen.index == 0:
            self._check_context()  # Experts may have been found only after the start.
        self._tally.count(chosen)
        text = self._decoder.push(chosen.token) + self._spelled.get(chosen.token, "")
        text = self._stops.push(text)
        if self._stops.found:
            self._driver.cancel(Cancelled(chosen.request, "stop"))
        elif self._feed.is_last:
            text += self._rest()
        return self._shown(piece_of(text, chosen, self._request, self._text.vocabulary))

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
        is_cut = self._request.grammar is not None and ended.reason == "length"
        # Half a character is all that could be left of what is cut off.
        rest = "" if is_cut else self._rest()
        piece = self._shown(Piece(rest, None)) if rest else None
        self._done = True
        # A stop string in the last token that was allowed: the node counted tokens, we read them.
        self._finish("stop" if self._stops.found else ended.reason, ended)
        if is_cut and self._request.grammar is not None:
            return Notice(cut_short(self._request.grammar.kind, self._max_tokens))
        if piece is not None or self.result is None:
            return piece
        empty = why_empty(self.result, is_chat=bool(self._request.messages))
        return None if empty is None else Notice(empty)

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
            experts_per_token=tally.pooled / tally.asked if tally.asked else 0.0,
            failovers=0 if ended is None else ended.failovers,
            local_only_tokens=0 if ended is None else ended.local_only_tokens,
            error="" if ended is None else ended.error,
            stop=self._stops.which,
            rounds=tally.rounds,
            drafted=0 if ended is None else ended.drafted,
            accepted=0 if ended is None else ended.accepted,
        )

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._feed is not None and not self._done:
            self._driver.cancel(Cancelled(self._feed.request, "cancelled"))
            self._done = True
            self._finish("cancelled", None)


def room(request: TextRequest, prompt_tokens: int, longest: int | None) -> int:
    """How many tokens the answer may have, `longest` being the longest context that it can have
    now. One that is clamped while nobody is known who would hold it gets the usual number, which is
    likely to fit."""
    if not request.clamp:
        return request.max_tokens
    if longest is None:
        return min(request.max_tokens, MAX_TOKENS_USUAL)
    return max(1, min(request.max_tokens, min(longest, CONTEXT_MAX) - prompt_tokens))


def piece_of(text: str, chosen: TokenChosen, request: TextRequest, vocabulary: Vocabulary) -> Piece:
    """A token with what the request wants to know of it."""
    if request.likeliest is None:
        return Piece(text, chosen)
    # A grammar that leaves no choice has a pool of one token.
    found = chosen.likeliest or ((chosen.token, chosen.logprob),)[: request.likeliest]
    told = tuple((token, vocabulary.piece(token), logprob) for token, logprob in found)
    return Piece(text, chosen, vocabulary.piece(chosen.token), told)


def outside(
    vocabulary: Vocabulary, ids: Sequence[int], prompt: str, turns: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Which of the prompt's tokens are not our own: [from, to) of every other turn, from the first
    on. `turns` are the positions in `prompt` where another turn begins; a token belongs to the turn
    in which its first byte stands."""
    if not turns:
        return ()
    begins = [0, *accumulate(len(vocabulary.piece(token)) for token in ids)]
    first = 1 if ids[0] == vocabulary.bos else 0
    at = [len(prompt[:turn].encode()) + vocabulary.space_prefix for turn in turns]
    borders = [first, *(min(len(ids), bisect_left(begins, byte, first)) for byte in at), len(ids)]
    return tuple(pairwise(borders))[::2]
