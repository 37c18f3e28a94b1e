"""End to end over doubles and a virtual clock: an answer ends exactly once, whole, whoever dies and
whatever K is."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from swarmllm.errors import LocalError
from swarmllm.runtime.service.answer import Answer, Piece
from tests.clock import under_mock_clock
from tests.runtime.little_swarm import LittleSwarm, Member, little_swarm

TOKENS = 40


async def alone(seed: int, prompt: str, tokens: int = TOKENS) -> str:
    """What one node by itself says, greedily."""
    async with little_swarm([seed]) as swarm:
        return await text_of(
            swarm.members[0].local.generate(prompt, k=1, extra=0, max_tokens=tokens, temperature=0)
        )


async def text_of(answer: Answer) -> str:
    """The text of an answer from its first piece on, whose pieces are found to be whole and in
    order."""
    pieces = [piece async for piece in answer]
    assert answer.result is not None
    assert [p.index for p in pieces if p.chosen] == list(range(answer.result.tokens))
    assert "".join(p.text for p in pieces) == answer.result.text
    return answer.result.text


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@under_mock_clock
async def test_replicas_with_greedy_decoding_say_what_one_says_alone_whatever_k_is(k: int) -> None:
    expected = await alone(7, "hello")
    async with little_swarm([7, 7, 7, 7]) as swarm:
        await swarm.wait_met()
        answer = swarm.members[1].local.generate("hello", k=k, max_tokens=TOKENS, temperature=0)
        assert await text_of(answer) == expected
        assert answer.result is not None
        assert answer.result.reason == "length"


@pytest.mark.parametrize("blow", ["kill", "freeze"])
@pytest.mark.parametrize("victims", [[1], [2, 3], [1, 2, 3]])
@pytest.mark.parametrize("at", [1, 17])
@under_mock_clock
async def test_losing_any_others_in_the_middle_of_an_answer_changes_nothing_of_it(
    blow: str, victims: list[int], at: int
) -> None:
    expected = await alone(7, "hello")
    async with little_swarm([7, 7, 7, 7]) as swarm:
        await swarm.wait_met()
        answer = swarm.members[0].local.generate("hello", k=3, max_tokens=TOKENS, temperature=0)
        said, used = "", set()
        async for piece in answer:
            said += piece.text
            used = {use.peer for use in piece.experts}
            if piece.index == at:
                for victim in victims:
                    strike(swarm.members[victim], blow)
        assert said == expected
        assert used
        assert used.isdisjoint(swarm.members[victim].peer for victim in victims)
        assert answer.result is not None
        assert (answer.result.tokens, answer.result.reason) == (TOKENS, "length")


def strike(member: Member, blow: str) -> None:
    if blow == "kill":
        member.kill()
    else:
        member.freeze()


@under_mock_clock
async def test_losing_the_own_engine_in_the_middle_of_an_answer_changes_nothing_of_it() -> None:
    expected = await alone(7, "hello")
    async with little_swarm([7, 7, 7]) as swarm:
        await swarm.wait_met()
        answer = swarm.members[0].local.generate("hello", k=3, max_tokens=TOKENS, temperature=0)
        said = ""
        async for piece in answer:
            said += piece.text
            if piece.index == 5:
                engine = swarm.members[0].engine
                assert engine is not None
                engine.die()
        assert said == expected


@under_mock_clock
async def test_a_node_without_an_expert_gets_its_answer_from_the_others() -> None:
    expected = await alone(7, "hello")
    async with little_swarm([None, 7, 7]) as swarm:
        await swarm.wait_met()
        answer = swarm.members[0].local.generate("hello", k=2, max_tokens=TOKENS, temperature=0)
        assert await text_of(answer) == expected
        assert answer.result is not None
        assert answer.result.bytes_per_expert_per_token > 0
        assert answer.result.local_only_tokens == 0


@under_mock_clock
async def test_losing_every_expert_ends_the_answer_with_an_error_in_bounded_time() -> None:
    async with little_swarm([None, 7, 7]) as swarm:
        await swarm.wait_met()
        answer = swarm.members[0].local.generate("hello", k=2, max_tokens=TOKENS, temperature=0)
        began_at = trio.current_time()
        for _ in range(4):
            await anext(answer)
        swarm.members[1].kill()
        swarm.members[2].freeze()
        with pytest.raises(LocalError):
            await text_of(answer)
        assert answer.result is not None
        assert answer.result.reason == "error"
        assert answer.result.tokens >= 4
        assert trio.current_time() - began_at < 120


@under_mock_clock
async def test_without_anybody_an_answer_ends_with_one_sentence() -> None:
    async with little_swarm([None]) as swarm:
        answer = swarm.members[0].local.generate("hello", max_tokens=5)
        with pytest.raises(LocalError, match="no expert"):
            await text_of(answer)


@under_mock_clock
async def test_an_expert_that_thaws_is_asked_again_and_nothing_is_said_twice() -> None:
    expected = await alone(7, "hello", 400)
    async with little_swarm([7, 7]) as swarm:
        await swarm.wait_met()
        answer = swarm.members[0].local.generate("hello", k=2, max_tokens=400, temperature=0)
        used: list[int] = []
        said = ""
        async for piece in answer:
            said += piece.text
            assert isinstance(piece, Piece)
            used.append(len(piece.experts))
            if piece.index == 5:
                swarm.members[1].freeze()
            if piece.index == 30:
                swarm.members[1].thaw()
        assert said == expected
        assert used[4] == 2
        assert 1 in used
        assert used[-1] == 2


@under_mock_clock
async def test_many_answers_at_once_are_each_what_they_are_alone() -> None:
    prompts = [f"prompt number {i}" for i in range(8)]
    expected = [await alone(7, prompt, 10) for prompt in prompts]
    async with little_swarm([7, 7, 7]) as swarm:
        await swarm.wait_met()
        said: dict[int, str] = {}

        async def one(i: int) -> None:
            answer = swarm.members[i % 3].local.generate(
                prompts[i], k=2, max_tokens=10, temperature=0
            )
            said[i] = await text_of(answer)

        async with trio.open_nursery() as nursery:
            for i in range(len(prompts)):
                nursery.start_soon(one, i)
        assert [said[i] for i in range(len(prompts))] == expected


@under_mock_clock
async def test_the_same_seed_draws_the_same_text() -> None:
    async def once() -> str:
        async with little_swarm([7, 7, 7]) as swarm:
            await swarm.wait_met()
            return await text_of(
                swarm.members[0].local.generate(
                    "hello", k=3, extra=0, max_tokens=20, temperature=1.2, seed=5
                )
            )

    assert await once() == await once()


async def quiet(swarm: LittleSwarm) -> bool:
    """Whether no member works on an answer any more, after messages under way have arrived."""
    await trio.sleep(1.0)
    return all(
        m.node.view(trio.current_time()).answers_open == 0
        and m.node.view(trio.current_time()).rounds_served_open == 0
        for m in swarm.members
    )


@pytest.mark.parametrize("way", ["aclose", "break and drop", "with", "cancel scope", "cancel"])
@under_mock_clock
async def test_an_answer_that_nobody_reads_any_more_is_cancelled_everywhere(way: str) -> None:
    async with little_swarm([None, 7, 7]) as swarm:
        await swarm.wait_met()
        answer = swarm.members[0].local.generate("hello", k=2, max_tokens=4000, temperature=0)
        if way == "cancel scope":
            with trio.move_on_after(0.5):
                await text_of(answer)
        elif way == "with":
            async with answer:
                await anext(answer)
        else:
            await anext(answer)
        if way == "aclose":
            await answer.aclose()
        if way == "cancel":
            answer.cancel()
            async for _ in answer:
                pass
        if way == "break and drop":
            del answer
        else:
            assert answer.result is not None
            assert answer.result.reason == "cancelled"
        assert await quiet(swarm)


@under_mock_clock
async def test_stopping_a_node_ends_its_answers_and_its_listeners() -> None:
    async with little_swarm([7, 7]) as swarm:
        await swarm.wait_met()
        answer = swarm.members[0].local.generate("hello", k=2, max_tokens=4000, temperature=0)
        await anext(answer)
        with swarm.members[0].local.events() as events:
            swarm.members[0].driver.stop()
            async for _ in answer:
                pass
            async for _ in events:
                pass
        assert answer.result is not None
        assert answer.result.reason == "cancelled"
        with pytest.raises(LocalError, match="stopped"):
            await text_of(swarm.members[0].local.generate("again"))
