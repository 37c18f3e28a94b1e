"""Replicas of one model, greedy: the text is that of a single node, whatever K is and whoever dies
or freezes in the middle."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmllm.testing.gguf_fixture import write_model
from tests.e2e.owned_node import OWNER_FILE
from tests.e2e.replicas import KILL_AT, START_S, TOKENS, Replicas, open_replicas

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "replica.gguf")


def is_whole(tokens: list[dict[str, Any]], end: dict[str, Any]) -> bool:
    """Nothing lost, nothing doubled, and not stopped early."""
    return (
        [t["index"] for t in tokens] == list(range(TOKENS))
        and end["reason"] == "length"
        and end["tokens"] == TOKENS
    )


async def alone(swarm: Replicas) -> str:
    text, tokens, end = await swarm.write(1)
    assert is_whole(tokens, end)
    assert end["local_only_tokens"] == TOKENS
    return text


async def freeze_and_compare(
    swarm: Replicas, reference: str, frozen: list[int], awake: str
) -> None:
    """SIGSTOP in the middle of an answer, so that only the expert `awake` is left; then everybody
    wakes and is found again."""

    async def freeze() -> None:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)

    try:
        text, tokens, end = await swarm.write(3, freeze)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert text == reference
    assert is_whole(tokens, end)
    assert peers_of(tokens[:KILL_AT]) - {awake}  # Whoever froze had had a part.
    assert peers_of(tokens[-20:]) == {awake}
    await swarm.meet()


def peers_of(tokens: list[dict[str, Any]]) -> set[str]:
    """Whoever had a part in these tokens."""
    return {use["peer"] for token in tokens for use in token["experts"]}


def test_the_text_is_that_of_one_node_for_every_k_and_with_any_three_frozen(model: Path) -> None:
    async def body() -> None:
        async with open_replicas(model) as swarm:
            reference = await alone(swarm)
            await swarm.add(3)
            for k in (1, 2, 3, 4):
                text, tokens, end = await swarm.write(k)
                assert text == reference, k
                assert is_whole(tokens, end)
                assert {t["k"] for t in tokens[2:]} == {k}
            await freeze_and_compare(
                swarm, reference, [node.pid for node in swarm.others], swarm.asker.peer
            )
            own_and_two = [swarm.worker().pid, *(node.pid for node in swarm.others[:2])]
            await freeze_and_compare(swarm, reference, own_and_two, swarm.others[2].peer)

    trio.run(body)


def test_the_text_is_that_of_one_node_with_any_three_killed(model: Path) -> None:
    async def body() -> None:
        async with open_replicas(model) as swarm:
            reference = await alone(swarm)
            await swarm.add(3)
            worker = swarm.worker()

            async def kill_own_and_two() -> None:
                worker.send_signal(signal.SIGKILL)
                for node in swarm.others[:2]:
                    node.send(signal.SIGKILL)

            text, tokens, end = await swarm.write(3, kill_own_and_two)
            assert text == reference
            assert is_whole(tokens, end)
            assert end["failovers"] >= 1
            assert peers_of(tokens[-20:]) == {swarm.others[2].peer}
            assert not worker.is_running() or worker.status() == "zombie"
            del swarm.others[:2]
            await swarm.add(2)  # The asker's own engine has been started again meanwhile.

            async def kill_the_three_others() -> None:
                for node in swarm.others:
                    node.send(signal.SIGKILL)

            text, tokens, end = await swarm.write(4, kill_the_three_others)
            assert text == reference
            assert is_whole(tokens, end)
            assert peers_of(tokens[-20:]) == {swarm.asker.peer}

    trio.run(body)


@pytest.mark.usefixtures("runs_tests_programs")
def test_the_text_is_the_same_if_an_owner_wants_the_machine_in_its_middle(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tmp_path / "is here"
    monkeypatch.setenv(OWNER_FILE, str(owner))

    async def body() -> None:
        program = ("tests.e2e.owned_node", "join")
        async with open_replicas(model, program, is_alone_first=False) as swarm:
            await swarm.add(1, "--yield-to-owner")
            (lender,) = swarm.others
            reference, _, _ = await swarm.write(2)

            async def come() -> None:
                owner.touch()

            text, tokens, end = await swarm.write(2, come)
            assert text == reference
            assert is_whole(tokens, end)
            assert peers_of(tokens[:KILL_AT]) == {swarm.asker.peer, lender.peer}
            assert peers_of(tokens[-20:]) == {swarm.asker.peer}
            paused = await lender.wait_for("serving_paused", START_S)
            assert paused["reason"].startswith("the owner is using the machine (load 85 %)")

    trio.run(body)
