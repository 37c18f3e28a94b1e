"""The contract of `runtime.ports.Engine`: what every implementation answers. Subclass it and give
`open_engine`.

Nothing here knows probabilities: a reply is compared with the reply that a fresh session gives to
the same text, byte for byte, because the same text must get the same answer whatever way it reached
the cache.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import fields
from typing import TypeVar

import numpy as np
import trio

from swarmllm.core.inputs import EngineReady
from swarmllm.core.values import SessionKey
from swarmllm.messages import (
    NO_HALT_DIGEST,
    REFUSED_CONTEXT,
    REFUSED_VOCABULARY,
    ExpertReply,
    Need,
    PeerId,
    Refused,
    Score,
    ScoreAllowed,
    ScoreDraft,
    Scores,
)
from swarmllm.runtime.ports import Engine
from swarmllm.wire import context
from swarmllm.wire.sparse import decode_list, likeliest_id
from swarmllm.wire.token_set import TokenSet, encode_set

TEXT = [7, 3, 250, 11, 90, 41, 5, 5, 17, 200, 33, 8, 61, 44, 2, 19, 77, 130, 12, 9]
ENTRIES = 64
PATIENCE_S = 240.0  # A hang is a failure and not a wait.

T = TypeVar("T")
OpenEngine = Callable[[], AbstractAsyncContextManager[Engine]]


def key(session: int, peer: str = "asker") -> SessionKey:
    return SessionKey(PeerId(peer), session)


def ask(
    tokens: Sequence[int],
    base: int = 0,
    *,
    session: int = 1,
    answer: Sequence[int] | None = None,
    targets: Sequence[int] = (),
    epoch: int = 0,
    round_: int = 1,
    before: Sequence[int] | None = None,
) -> Score:
    """A round that appends tokens[base:], and by default wants the list after the last one.
    `before` lies about what precedes."""
    new = tuple(tokens[base:])
    digest = context.digests(tokens[:base] if before is None else before)[-1]
    wanted = (len(new) - 1,) if answer is None else tuple(answer)
    return Score(
        session,
        round_,
        epoch,
        base,
        digest,
        new,
        wanted,
        tuple(targets),
        ENTRIES,
        0,
        NO_HALT_DIGEST,
    )


def lists_of(reply: ExpertReply) -> tuple[bytes, ...]:
    assert isinstance(reply, Scores), reply
    return reply.lists


class EngineContract(ABC):
    @abstractmethod
    def open_engine(self) -> AbstractAsyncContextManager[Engine]:
        """A new engine with a context of at least 256 and at most 8192 tokens, a vocabulary of at
        least 256, and at least 4 sessions."""

    def run(self, check: Callable[[Engine], Awaitable[T]]) -> T:
        async def main() -> T:
            with trio.fail_after(PATIENCE_S):
                async with self.open_engine() as engine:
                    return await check(engine)

        return trio.run(main)

    def test_it_reports_itself_ready_first(self) -> None:
        async def check(engine: Engine) -> None:
            first = await engine.inputs.receive()
            assert isinstance(first, EngineReady)
            assert first.card == engine.card
            assert first.load.sessions_free == first.load.sessions_max == engine.load.sessions_max

        self.run(check)

    def test_a_draft_goes_on_with_its_own_likeliest_text(self) -> None:
        """With the lists that asking step by step brings, from a prompt, from one token, and where
        the session is asked on behind it or in the middle of it."""

        async def check(engine: Engine) -> None:
            for number, (base, steps) in enumerate(((0, 5), (2, 14), (3, 1)), start=1):
                text, session = [7, 3, 9, 11], 10 * number
                if base:
                    await engine.score(key(1), ask(text[:base], session=session))
                plain = ask(text, base, session=session)
                said = {f.name: getattr(plain, f.name) for f in fields(plain)}
                drafted = lists_of(await engine.score(key(1), ScoreDraft(**said, steps=steps)))
                assert len(drafted) == steps + 1
                for place, one in enumerate(drafted):
                    (alone,) = lists_of(await engine.score(key(2), ask(text, session=session)))
                    self.same(alone, one, engine.card.vocab_size)
                    found = decode_list(one, ENTRIES, engine.card.vocab_size)
                    text.append(likeliest_id(found)) if place < steps else None
                for upto in (len(text), len(text) - 1):
                    behind = [*text[:upto], 5]
                    (on,) = lists_of(await engine.score(key(1), ask(behind, upto, session=session)))
                    (alone,) = lists_of(await engine.score(key(2), ask(behind, session=session)))
                    self.same(alone, on, engine.card.vocab_size)

        self.run(check)

    def test_a_draft_beyond_the_context_is_refused(self) -> None:
        async def check(engine: Engine) -> None:
            room = engine.card.context_max
            plain = ask([7] * (room - 3))
            said = {f.name: getattr(plain, f.name) for f in fields(plain)}
            reply = await engine.score(key(1), ScoreDraft(**said, steps=4))
            assert isinstance(reply, Refused)
            assert reply.code == REFUSED_CONTEXT

        self.run(check)

    @staticmethod
    def same(one: bytes, other: bytes, vocab_size: int) -> None:
        """Two lists of one text, up to the rounding of the arithmetic."""
        a, b = (decode_list(data, ENTRIES, vocab_size) for data in (one, other))
        assert likeliest_id(a) == likeliest_id(b)
        shared = sorted({*a.ids.tolist()} & {*b.ids.tolist()})
        assert len(shared) > 0.9 * a.ids.size
        places = np.searchsorted(a.ids, shared), np.searchsorted(b.ids, shared)
        assert np.abs(a.logprobs[places[0]] - b.logprobs[places[1]]).max() < 0.6

    def test_a_question_about_some_tokens_is_answered_among_them(self) -> None:
        """The same model says of them what its list among all says, up to what both leave out."""

        async def check(engine: Engine) -> None:
            text = [7, 3, 9]
            (whole,) = lists_of(await engine.score(key(1), ask(text)))
            listed = decode_list(whole, ENTRIES, engine.card.vocab_size)
            ids = sorted({*listed.ids[::2].tolist(), 200, 201, 202})
            allowed = TokenSet.of(ids, engine.card.vocab_size)
            plain = ask(text, base=2, round_=2)
            said = {f.name: getattr(plain, f.name) for f in fields(plain)}
            said["entries_max"] = len(ids)
            reply = await engine.score(key(1), ScoreAllowed(**said, allowed=encode_set(allowed)))
            (among,) = lists_of(reply)
            assert isinstance(reply, Scores)
            assert len(reply.target_logprobs) == 2
            mass = math.exp(-int.from_bytes(reply.target_logprobs, "big") / 1024)
            found = decode_list(among, len(ids), engine.card.vocab_size)
            assert allowed.holds(found.ids).all()
            told = dict(zip(found.ids.tolist(), np.exp(found.logprobs).tolist(), strict=True))
            for token, logprob in zip(listed.ids.tolist(), listed.logprobs.tolist(), strict=True):
                if token in told and math.exp(logprob) > 0.01:
                    assert abs(told[token] * mass - math.exp(logprob)) < 0.1 * math.exp(logprob)
            last = TokenSet.of([engine.card.vocab_size], engine.card.vocab_size + 1)
            beyond = ScoreAllowed(**said | {"round": 3}, allowed=encode_set(last))
            refused = await engine.score(key(1), beyond)
            assert isinstance(refused, Refused)
            assert refused.code == REFUSED_VOCABULARY

        self.run(check)

    def test_an_answer_repeats_session_round_and_epoch_and_has_one_valid_list_for_each_index(
        self,
    ) -> None:
        async def check(engine: Engine) -> None:
            reply = await engine.score(
                key(9),
                ask(TEXT, session=9, round_=5, epoch=2, answer=(0, 7, 19), targets=(3, 4, 18)),
            )
            assert isinstance(reply, Scores)
            assert (reply.session, reply.round, reply.epoch) == (9, 5, 2)
            found = [decode_list(one, ENTRIES, engine.card.vocab_size) for one in reply.lists]
            assert [one.ids.size for one in found] == [ENTRIES] * 3
            assert len(reply.target_logprobs) == 6

        self.run(check)

    def test_target_logprobs_agree_with_the_lists(self) -> None:
        async def check(engine: Engine) -> None:
            every = tuple(range(len(TEXT) - 1))
            reply = await engine.score(key(1), ask(TEXT, answer=every, targets=every))
            assert isinstance(reply, Scores)
            for i in every:
                listed = decode_list(reply.lists[i], ENTRIES, engine.card.vocab_size)
                exact = -int.from_bytes(reply.target_logprobs[2 * i : 2 * i + 2], "big") / 1024
                place = listed.ids.searchsorted(TEXT[i + 1])
                if place < listed.ids.size and listed.ids[place] == TEXT[i + 1]:
                    # A coarse cell's half and the scaling of a list.
                    assert abs(exact - float(listed.logprobs[place])) < 0.3
                else:
                    assert exact < float(listed.logprobs.min()) + 0.3

        self.run(check)

    def test_token_by_token_gives_the_same_lists_as_all_at_once(self) -> None:
        async def check(engine: Engine) -> None:
            whole = lists_of(await engine.score(key(1), ask(TEXT, answer=range(len(TEXT)))))
            single: list[bytes] = []
            for i in range(len(TEXT)):
                single += lists_of(await engine.score(key(2), ask(TEXT[: i + 1], i, session=2)))
            assert tuple(single) == whole

        self.run(check)

    def test_a_rewind_forgets_what_was_beyond_base(self) -> None:
        async def check(engine: Engine) -> None:
            rejected = [*TEXT[:10], 99, 98, 97]
            await engine.score(key(1), ask(rejected))
            again = await engine.score(key(1), ask(TEXT, 10, epoch=1))
            fresh = await engine.score(key(2), ask(TEXT, session=2))
            assert lists_of(again) == lists_of(fresh)

        self.run(check)

    def test_an_unknown_session_needs_everything(self) -> None:
        async def check(engine: Engine) -> None:
            assert await engine.score(key(1), ask(TEXT, 5, round_=3)) == Need(1, 3, 0)

        self.run(check)

    def test_whoever_resends_from_have_is_answered_within_two_needs(self) -> None:
        async def check(engine: Engine) -> None:
            other = [200 - t % 100 for t in TEXT]
            for held, base in (
                (TEXT[:6], 12),
                (other[:6], 12),
                (other, 12),
                (TEXT, 12),
                (TEXT, 19),
                (other, 0),
            ):
                await engine.score(key(1), ask(held))
                needs, have = 0, base
                while isinstance(reply := await engine.score(key(1), ask(TEXT, have)), Need):
                    assert reply.have < have or (reply.have, have) == (0, 0)
                    needs, have = needs + 1, reply.have
                fresh = await engine.score(key(2), ask(TEXT, session=2))
                assert lists_of(reply) == lists_of(fresh)
                assert needs <= 2
                engine.close(key(1))
                engine.close(key(2))

        self.run(check)

    def test_a_divergent_context_is_found(self) -> None:
        async def check(engine: Engine) -> None:
            await engine.score(key(1), ask(TEXT[:12]))
            reply = await engine.score(key(1), ask(TEXT, 12, before=[*TEXT[:4], 99, *TEXT[5:12]]))
            assert isinstance(reply, Need)
            assert reply.have < 12

        self.run(check)

    def test_sessions_are_apart_even_with_one_number(self) -> None:
        async def check(engine: Engine) -> None:
            other = TEXT[::-1]
            await engine.score(key(1, "anna"), ask(TEXT[:10]))
            await engine.score(key(1, "bert"), ask(other[:10]))
            anna = await engine.score(key(1, "anna"), ask(TEXT, 10))
            fresh = await engine.score(key(1, "carl"), ask(TEXT))
            assert lists_of(anna) == lists_of(fresh)

        self.run(check)

    def test_sessions_side_by_side_get_what_each_gets_alone(self) -> None:
        async def check(engine: Engine) -> None:
            texts = [[(t * (n + 3)) % 200 for t in TEXT[n:]] for n in range(4)]
            alone = []
            for n, text in enumerate(texts):
                alone.append(
                    lists_of(
                        await engine.score(key(n), ask(text, session=n, answer=range(len(text))))
                    )
                )
                engine.close(key(n))
            together: list[tuple[bytes, ...]] = [()] * len(texts)

            async def go(n: int) -> None:
                for i in range(len(texts[n])):
                    together[n] += lists_of(
                        await engine.score(key(n), ask(texts[n][: i + 1], i, session=n))
                    )

            async with trio.open_nursery() as nursery:
                for n in range(len(texts)):
                    nursery.start_soon(go, n)
            assert together == alone

        self.run(check)

    def test_a_closed_session_is_forgotten(self) -> None:
        async def check(engine: Engine) -> None:
            await engine.score(key(1), ask(TEXT))
            engine.close(key(1))
            assert await engine.score(key(1), ask([*TEXT, 4], len(TEXT))) == Need(1, 1, 0)

        self.run(check)

    def test_a_text_longer_than_the_context_is_refused_and_the_longest_is_not(self) -> None:
        async def check(engine: Engine) -> None:
            size = engine.card.context_max
            text = [i % 200 for i in range(size + 1)]
            assert await engine.score(key(1), ask(text)) == Refused(1, 1, REFUSED_CONTEXT)
            assert len(lists_of(await engine.score(key(1), ask(text[:size])))) == 1
            assert await engine.score(key(1), ask(text, size)) == Refused(1, 1, REFUSED_CONTEXT)

        self.run(check)

    def test_catching_up_wants_no_list(self) -> None:
        async def check(engine: Engine) -> None:
            assert lists_of(await engine.score(key(1), ask(TEXT[:15], answer=()))) == ()
            caught_up = await engine.score(key(1), ask(TEXT, 15))
            assert lists_of(caught_up) == lists_of(await engine.score(key(2), ask(TEXT, session=2)))

        self.run(check)

    def test_a_cancelled_call_leaves_the_session_usable(self) -> None:
        async def check(engine: Engine) -> None:
            with trio.CancelScope() as scope:
                scope.cancel()
                await engine.score(key(1), ask(TEXT[:10]))
            reply = await engine.score(key(1), ask(TEXT))
            assert lists_of(reply) == lists_of(await engine.score(key(2), ask(TEXT, session=2)))

        self.run(check)
