"""The owner of a machine is answered by its own engine, however busy strangers keep it."""

from __future__ import annotations

import trio
import trio.testing

from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.messages import Busy
from tests.adapters.llama.models import model
from tests.contracts.engine_contract import PATIENCE_S, TEXT, ask, key, lists_of


def test_a_stranger_with_every_session_busy_gives_way_to_the_owner() -> None:
    options = EngineOptions(context_max=4096, sessions_max=2, threads=1, owner="owner")
    long = [i % 400 for i in range(4000)]

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with LlamaEngine(model("f32", context=4096), options) as engine:
                done: list[int] = []

                async def greedy(session: int) -> None:
                    reply = await engine.score(key(session, "stranger"), ask(long, session=session))
                    if not isinstance(reply, Busy):
                        lists_of(reply)
                        done.append(session)

                async with trio.open_nursery() as nursery:
                    for session in range(2):
                        nursery.start_soon(greedy, session)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    lists_of(await engine.score(key(1, "owner"), ask(TEXT)))
                    assert done == [], "the owner waited for a stranger's whole prompt"
                assert len(done) == 1, "one of two sessions gave way, the other went on"

    trio.run(main)
