"""Real processes: of seven nodes three lie, each in its own way. Without the defences the text is
that of the first two, and the third has a part in it; with them no token is theirs. The third, a
relay of a smaller model, forces nothing: it may weigh something in the first answer, and behind it
audits exclude it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from swarmllm.adapters.datadir import default_folders
from swarmllm.adapters.llama.expansion import expand
from swarmllm.cli.bench.speculation_exactness import PINS
from swarmllm.cli.processes import Fleet, NodeProcess, open_fleet
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.service.record import Record
from tests.e2e.liar import FORCED
from tests.e2e.replicas import ANSWER_S, MEET_S, START_S, arguments

pytestmark = pytest.mark.slow

PROMPT: Final = (
    "It was a fine evening in the middle of October, and the old gentleman had walked down to the"
    " river with his daughter, who said that she had never seen so many people at the fair, and"
    " that she would like to go home before it was dark."
)
TOKENS: Final = 24
AUDIT_S: Final = 120.0
LOOKS: Final = 20  # Each after half a second.
NAMES: Final = ("prose", "ops", "prose 2", "heart", "poisoner", "relay")


async def records(node: NodeProcess, prompt: str, tokens: int, k: int) -> list[Record]:
    request: dict[str, Any] = {"prompt": prompt, "k": k, "extra": 0, "max_tokens": tokens}
    with trio.fail_after(ANSWER_S):
        async with asking(node.folder, "generate", **request, seed=1) as found:
            return [record async for record in found]


async def meet(node: NodeProcess, count: int) -> None:
    """Until so many answer: a connection alone is not enough, its two halt states must have been
    settled."""
    with trio.fail_after(MEET_S):
        while True:
            for record in await records(node, "The", 1, count):
                if record["event"] == "weighed" and len(record["experts"]) >= count:
                    return
            await trio.sleep(0.5)


async def write(node: NodeProcess) -> list[Record]:
    """The token records of one answer."""
    return [r for r in await records(node, PROMPT, TOKENS, 4) if r["event"] == "token"]


def weight(token: Record, peers: set[str]) -> float:
    return float(sum(use["weight"] for use in token["experts"] if use["peer"] in peers))


def most(tokens: Sequence[Record], *peers: str) -> float:
    """What they weigh together, at most."""
    return max(weight(token, set(peers)) for token in tokens)


def show(answers: Mapping[str, list[Record]], peers: Mapping[str, str], excluded: Record) -> None:
    """For people: pytest -rP."""
    for name, tokens in answers.items():
        weights = {kind: round(most(tokens, peer), 3) for kind, peer in peers.items()}
        print(name, weights, forced(tokens), repr("".join(token["text"] for token in tokens)))
    print("excluded", {name for name, peer in peers.items() if peer in excluded})


async def exclude(node: NodeProcess, peer: str, tokens: list[Record]) -> Record:
    """Write on until audits have excluded it (in an answer in which it had no part there is nothing
    to look at); who is excluded then. `tokens`: what was written meanwhile comes behind them."""
    with trio.fail_after(AUDIT_S):
        while True:
            for _ in range(LOOKS):
                found = (await ask(node.folder, "audits"))["accounts"]
                excluded = {one["peer"]: one for one in found if one["excluded_until"]}
                if peer in excluded:
                    return excluded
                await trio.sleep(0.5)
            tokens += await write(node)


def forced(tokens: Sequence[Record]) -> int:
    return sum(token["id"] == FORCED for token in tokens)


async def asker(
    fleet: Fleet, name: str, swarm: str, near: Sequence[str], *more: str
) -> NodeProcess:
    node = await fleet.start(name, arguments(Path("demo:code"), swarm, *near, *more))
    await node.wait_for("ready", START_S)
    await meet(node, 7)
    return node


async def start_liars(
    fleet: Fleet,
    nursery: trio.Nursery,
    folder: Path,
    lies: Sequence[tuple[str, Path, str]],
    swarm: str,
    near: Sequence[str],
) -> list[NodeProcess]:
    """Each with what it does, the file that it claims, and the model that it runs."""
    liars = []
    for kind, claimed, model in lies:
        program = ("tests.e2e.liar", kind, str(claimed), "join")
        other = Fleet(nursery, folder, program)
        liars.append(await other.start(kind, arguments(Path(f"demo:{model}"), swarm, *near)))
        fleet.nodes.append(liars[-1])
    return liars


@pytest.mark.usefixtures("runs_tests_programs")
def test_three_liars_among_seven_nodes_have_the_text_without_the_defences_and_not_with_them(
    tmp_path: Path,
) -> None:
    swarm = f"e2e-{secrets.token_hex(4)}"
    invented = [tmp_path / name for name in ("heart.gguf", "poisoner.gguf")]
    for path in invented:
        path.write_text(path.name)
    prose = expand("prose", default_folders().cache_dir)
    lies = (
        *(("heart", invented[0], "prose"), ("poisoner", invented[1], "prose")),
        ("relay", prose, "prose-small"),
    )
    answers: dict[str, list[Record]] = {}
    peers: dict[str, str] = {}
    excluded: Record = {}
    further: list[Record] = []

    async def body() -> None:
        async with open_fleet(tmp_path) as fleet:
            first = await fleet.start("prose", arguments(Path("demo:prose"), swarm))
            address = (await first.wait_for("listening", START_S))["addrs"][0]
            near = "--peer", address
            models = {"ops": Path("demo:ops"), "prose 2": Path("demo:prose")}
            honest = [
                await fleet.start(name, arguments(model, swarm, *near))
                for name, model in models.items()
            ]
            async with trio.open_nursery() as nursery:
                liars = await start_liars(fleet, nursery, tmp_path, lies, swarm, near)
                for node in (*honest, *liars):
                    await node.wait_for("ready", START_S)
                nodes = first, *honest, *liars
                peers.update(zip(NAMES, (node.peer for node in nodes), strict=True))
                pins = [word for pin in PINS for word in ("--pin", pin)]
                for name, more in (("before", pins), ("after", [])):
                    node = await asker(fleet, name, swarm, near, *more)
                    answers[name] = await write(node)
                    if name == "after":
                        excluded.update(await exclude(node, peers["relay"], further))
                        answers["then"] = await write(node)
                    await fleet.leave([node])
                    fleet.nodes.remove(node)
                await fleet.leave(fleet.nodes)

    trio.run(body)
    before, after, then = answers["before"], answers["after"], answers["then"]
    heart, poisoner, relay = peers["heart"], peers["poisoner"], peers["relay"]
    show(answers, peers, excluded)
    assert len(before) == len(after) == len(then) == TOKENS
    assert most(before, heart, poisoner) > 0.3  # Whichever of them was there first.
    assert forced(before) > 0
    assert forced(after) == forced(further) == forced(then) == 0
    # Who comes in later has not been tried: its weight is a newcomer's, and it chooses nothing.
    assert most(after, heart, poisoner) < 0.34
    assert most(then, relay) == 0
    assert not {peers["prose"], peers["prose 2"], peers["ops"]} & set(excluded)
