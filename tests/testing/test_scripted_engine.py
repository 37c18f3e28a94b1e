"""The engine double answers as the port says, and dies, freezes and fills up when told to."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio
import trio.testing

from swarmllm.core.inputs import EngineLoadChanged, EngineLost, EngineReady
from swarmllm.core.values import SessionKey
from swarmllm.messages import (
    NO_HALT_DIGEST,
    REFUSED_CONTEXT,
    REFUSED_ENGINE,
    Busy,
    ExpertReply,
    Need,
    PeerId,
    Refused,
    Score,
    Scores,
)
from swarmllm.runtime.ports import Engine
from swarmllm.testing.scripted_engine import ScriptedEngine
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.wire import context
from tests.clock import under_mock_clock
from tests.contracts.engine_contract import EngineContract

KEY = SessionKey(PeerId("p"), 1)


class TestScriptedEngine(EngineContract):
    def open_engine(self) -> AbstractAsyncContextManager[Engine]:
        return ScriptedEngine(ScriptedModel(context_max=4096), service_s=0.0)


def score(text: list[int], base: int = 0, round_: int = 1) -> Score:
    digest = context.digests(text)[base]
    return Score(
        1,
        round_,
        0,
        base,
        digest,
        tuple(text[base:]),
        (len(text) - base - 1,),
        (),
        64,
        0,
        NO_HALT_DIGEST,
    )


@under_mock_clock
async def test_a_context_that_came_in_pieces_gives_the_same_bytes_as_one_that_came_at_once() -> (
    None
):
    text = [3, 1, 4, 1, 5]
    async with ScriptedEngine() as engine:
        await engine.score(KEY, score(text[:2]))
        await engine.score(KEY, score(text[:4], base=2))
        piecewise = await engine.score(KEY, score(text, base=4))
        other = SessionKey(PeerId("q"), 1)
        whole = await engine.score(other, score(text))
    assert isinstance(piecewise, Scores)
    assert isinstance(whole, Scores)
    assert piecewise.lists == whole.lists


@under_mock_clock
async def test_what_is_missing_is_asked_for_and_what_never_fits_is_refused() -> None:
    async with ScriptedEngine(ScriptedModel(context_max=4)) as engine:
        assert await engine.score(KEY, score([1, 2, 3], base=2)) == Need(1, 1, 0)
        assert isinstance(await engine.score(KEY, score([1, 2, 3])), Scores)
        assert await engine.score(KEY, score([9, 9, 9, 1], base=3)) == Need(1, 1, 0)
        assert await engine.score(KEY, score([1, 2, 3, 4, 5])) == Refused(1, 1, REFUSED_CONTEXT)


@under_mock_clock
async def test_rounds_take_their_time_one_after_another_and_the_queue_is_bounded() -> None:
    replies: list[tuple[float, ExpertReply]] = []
    async with ScriptedEngine(service_s=1.0, waiting_max=2) as engine:
        began_at = trio.current_time()

        async def one(number: int) -> None:
            reply = await engine.score(SessionKey(PeerId("p"), number), score([number]))
            replies.append((trio.current_time() - began_at, reply))

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(one, number)
                await trio.testing.wait_all_tasks_blocked()
    assert [at for at, reply in replies if isinstance(reply, Scores)] == pytest.approx([1, 2, 3])
    assert sum(isinstance(reply, Busy) for _, reply in replies) == 1


@under_mock_clock
async def test_death_answers_everybody_forgets_everything_and_is_told() -> None:
    async with ScriptedEngine(service_s=1.0) as engine:
        assert isinstance(await engine.inputs.receive(), EngineReady)
        await engine.score(KEY, score([1, 2]))
        replies: list[ExpertReply] = []

        async def ask() -> None:
            replies.append(await engine.score(KEY, score([1, 2, 3], base=2)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            engine.die()
        assert replies == [Refused(1, 1, REFUSED_ENGINE)] * 2
        assert await engine.score(KEY, score([1])) == Refused(1, 1, REFUSED_ENGINE)
        engine.revive()
        assert await engine.score(KEY, score([1, 2, 3], base=2)) == Need(1, 1, 0)
        told = [type(await engine.inputs.receive()) for _ in range(3)]
        assert told == [EngineLoadChanged, EngineLost, EngineReady]


@under_mock_clock
async def test_closing_a_session_answers_its_waiting_rounds_and_frees_it() -> None:
    async with ScriptedEngine(service_s=1.0) as engine:
        free = engine.load.sessions_free
        await engine.score(KEY, score([1, 2]))
        assert engine.load.sessions_free == free - 1
        replies: list[ExpertReply] = []

        async def ask() -> None:
            replies.append(await engine.score(KEY, score([1, 2, 3], base=2)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.score, SessionKey(PeerId("q"), 1), score([1]))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            engine.close(KEY)
        assert replies == [Busy(1, 1, 0)]
        assert engine.load.sessions_free == free - 1


@under_mock_clock
async def test_a_cancelled_round_that_has_not_begun_is_never_served() -> None:
    async with ScriptedEngine(service_s=1.0) as engine:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.score, KEY, score([1]))
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(0.5):
                await engine.score(SessionKey(PeerId("q"), 1), score([1]))
        await trio.sleep(10)
        assert engine.served == 1


@under_mock_clock
async def test_one_step_serves_all_that_wait_and_takes_longer_the_more_they_are() -> None:
    ended: list[float] = []
    async with ScriptedEngine(service_s=1.0, round_s=0.1, batch_max=3) as engine:
        began_at = trio.current_time()

        async def one(number: int) -> None:
            assert isinstance(
                await engine.score(SessionKey(PeerId("p"), number), score([number])), Scores
            )
            ended.append(trio.current_time() - began_at)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, number)
                await trio.testing.wait_all_tasks_blocked()
    assert ended == pytest.approx([1.1, 2.4, 2.4, 2.4, 3.5])


@under_mock_clock
async def test_a_stop_in_mid_step_answers_the_whole_batch() -> None:
    replies: list[ExpertReply] = []
    async with ScriptedEngine(service_s=1.0, batch_max=4) as engine:

        async def one(number: int) -> None:
            replies.append(await engine.score(SessionKey(PeerId("p"), number), score([number])))

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(one, number)
            await trio.sleep(0.5)
            engine.stop()
            await trio.testing.wait_all_tasks_blocked()
            assert replies == [Refused(1, 1, REFUSED_ENGINE)] * 3
        await trio.sleep(2.0)
        assert engine.served == 0
